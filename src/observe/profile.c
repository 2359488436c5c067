#include "observe/profile.h"

#include <errno.h>
#include <string.h>

#include "base/address_table.h"
#include "base/conf.h"
#include "base/lock.h"
#include "base/meta.h"
#include "base/print.h"
#include "cache/tcache.h"
#include "harden/stack.h"
#include "observe/profile_time.h"
#include "observe/reach.h"

/* By some bits of their addresses, how many sampled blocks there are: most others need no look at the table,
 * nor its lock. 255: that many or more, for ever. Written under the lock. */
#define FILTER_BITS 16
static _Atomic uint8_t filter[1 << FILTER_BITS];

/* Stacks lie in chunks, so that their memory comes as they do. */
#define CHUNK (64 * KIB)
#define STACKS_OF_CHUNK (CHUNK / sizeof(struct profile_stack))

/* So many are looked at for one that gives its place. */
#define SEARCHED 64

static struct {
	struct lock lock;
	/* of all that is in here; 0: nothing was ever sampled */
	uint64_t mean;
	/* sampled blocks that were not freed yet; size: what was asked for */
	struct address_table samples;
	/* never freed: the next profile uses them */
	struct profile_stack *chunks[PROFILE_STACKS / STACKS_OF_CHUNK + 1];
	/* PROFILE_STACKS of them: the number of a stack, or 0 */
	uint32_t *buckets;
	uint32_t stack_count, hand; /* hand: where the search goes on */
	struct profile_sums sums, expected;
} profile;

void profile_lock(void) { lock_take(&profile.lock, RANK_PROFILE); }
void profile_unlock(void) { lock_drop(&profile.lock, RANK_PROFILE); }

/* ---- the samples; under the lock ---- */

static uint64_t hash_block(const void *block) {
	return ((uintptr_t)block >> 4) * UINT64_C(0x9E3779B97F4A7C15);
}

static _Atomic uint8_t *filter_of(const void *block) {
	return &filter[hash_block(block) >> (64 - FILTER_BITS)];
}

static uint32_t *stack_number(const struct address_entry *sample) {
	return (uint32_t *)profile.samples.records + address_index(&profile.samples, sample);
}

static struct address_entry *find(const void *block) {
	return address_table_find(&profile.samples, (uintptr_t)block);
}

static void filter_add(const void *block, int change) {
	_Atomic uint8_t *count = filter_of(block);
	const uint8_t n = atomic_load_explicit(count, memory_order_relaxed);
	if (n < UINT8_MAX) atomic_store_explicit(count, (uint8_t)(n + change), memory_order_relaxed);
}

/* ---- the stacks; under the lock ---- */

static uint64_t hash_of(const uintptr_t *frames, uint32_t count) {
	uint64_t hash = count;
	for (uint32_t i = 0; i < count; i++) {
		hash = (hash ^ frames[i]) * UINT64_C(0x9E3779B97F4A7C15);
		hash ^= hash >> 32;
	}
	return hash;
}

static struct profile_stack *stack_at(uint32_t number) {
	return &profile.chunks[number / STACKS_OF_CHUNK][number % STACKS_OF_CHUNK];
}

static uint32_t *bucket_of(uint64_t hash) { return &profile.buckets[hash & (PROFILE_STACKS - 1)]; }

static bool make_chunk(uint32_t number) {
	struct profile_stack **chunk = &profile.chunks[number / STACKS_OF_CHUNK];
	if (*chunk == NULL) *chunk = meta_alloc(CHUNK);
	return *chunk != NULL;
}

/* Of the next ones that nothing lives from, the one that held least; 0: there is none. */
static uint32_t take_place(void) {
	uint32_t found = 0;
	for (uint32_t i = 0; i < SEARCHED; i++) {
		profile.hand = profile.hand % (profile.stack_count - 1) + 1;
		const struct profile_counts *c = &stack_at(profile.hand)->counts;
		if (c->live_blocks == 0 && (found == 0 || c->total_bytes < stack_at(found)->counts.total_bytes))
			found = profile.hand;
	}
	if (found == 0) return 0;
	const struct profile_stack *gone = stack_at(found);
	struct profile_counts *other = &stack_at(0)->counts;
	other->total_blocks += gone->counts.total_blocks;
	other->total_bytes += gone->counts.total_bytes;
	uint32_t *link = bucket_of(gone->hash);
	while (*link != found) link = &stack_at(*link)->next;
	*link = gone->next;
	return found;
}

/* The number of the stack; 0 where it has no place. */
static uint32_t stack_of(const uintptr_t *frames, uint32_t count) {
	const uint64_t hash = hash_of(frames, count);
	for (uint32_t n = *bucket_of(hash); n != 0; n = stack_at(n)->next) {
		const struct profile_stack *s = stack_at(n);
		if (s->hash == hash && s->frame_count == count &&
		    memcmp(s->frames, frames, count * sizeof *frames) == 0)
			return n;
	}
	const bool is_new = profile.stack_count < PROFILE_STACKS && make_chunk(profile.stack_count);
	const uint32_t number = is_new ? profile.stack_count++ : take_place();
	if (number == 0) return 0;
	struct profile_stack *s = stack_at(number);
	s->hash = hash;
	s->counts = (struct profile_counts){ 0 };
	s->frame_count = count;
	memcpy(s->frames, frames, count * sizeof *frames);
	s->next = *bucket_of(hash);
	*bucket_of(hash) = number;
	return number;
}

/* ---- counting ---- */

/* What a sampled block of this size stands for. */
struct weight {
	uint64_t blocks, bytes;
};
static struct weight weight_of(size_t size) {
	const double blocks = 1 / sample_probability(size, profile.mean);
	return (struct weight){
		.blocks = (uint64_t)(blocks * (1 << PROFILE_BLOCKS_SHIFT) + 0.5),
		.bytes = (uint64_t)(blocks * (double)size + 0.5),
	};
}

/* Is there as much as somebody waits for? Only once. */
static bool is_expected(void) {
	if (likely(profile.sums.live < profile.expected.live && profile.sums.total < profile.expected.total))
		return false;
	profile.expected = (struct profile_sums){ UINT64_MAX, UINT64_MAX };
	return true;
}

/* Without memory for it, the sample is lost. */
static void add(const void *block, size_t size, const uintptr_t *frames, uint32_t count) {
	if (!address_table_room(&profile.samples, 1)) return;
	const uint32_t number = stack_of(frames, count);
	assert(find(block) == NULL && "whoever frees a block says so before it can be handed out again");
	*stack_number(address_table_add(&profile.samples, (uintptr_t)block, size)) = number;
	filter_add(block, 1);
	const struct weight weight = weight_of(size);
	struct profile_counts *counts = &stack_at(number)->counts;
	counts->live_blocks += weight.blocks;
	counts->live_bytes += weight.bytes;
	counts->total_blocks += weight.blocks;
	counts->total_bytes += weight.bytes;
	profile.sums.live += weight.bytes;
	profile.sums.total += weight.bytes;
}

COLD void profile_add(void *block, size_t size, uint64_t mean) {
	uintptr_t frames[PROFILE_FRAMES];
	/* The unwinder may be somebody's who allocates. */
	tcache_sample_busy(true);
	const uint32_t count = stack_of_program(frames, PROFILE_FRAMES);
	tcache_sample_busy(false);
	profile_lock();
	if (mean == profile.mean) add(block, size, frames, count); /* no new start in between */
	const bool expected = is_expected();
	profile_unlock();
	if (unlikely(expected)) profile_time_reached();
}

static COLD void profile_allocated(void *block, size_t size) {
	if (block == NULL || size == 0) return;
	const uint64_t mean = tcache_sample_count(size);
	if (mean != 0) profile_add(block, size, mean);
}

static COLD void forget(const void *block) {
	profile_lock();
	struct address_entry *sample = find(block);
	if (sample != NULL) {
		const struct weight weight = weight_of(sample->size);
		struct profile_counts *counts = &stack_at(*stack_number(sample))->counts;
		counts->live_blocks -= weight.blocks;
		counts->live_bytes -= weight.bytes;
		profile.sums.live -= weight.bytes;
		address_table_remove(&profile.samples, sample);
		filter_add(block, -1);
	}
	profile_unlock();
}

static NOINLINE void profile_freed(const void *block) {
	if (unlikely(atomic_load_explicit(filter_of(block), memory_order_relaxed) != 0)) forget(block);
}

/* ---- on and off ---- */

/* False: there is no memory for the first stacks. */
static bool forget_all(uint64_t mean) {
	profile_lock();
	if (profile.buckets == NULL) profile.buckets = meta_alloc(PROFILE_STACKS * sizeof *profile.buckets);
	const bool possible = profile.buckets != NULL && make_chunk(0);
	profile.mean = possible ? mean : 0;
	profile.samples.record = sizeof(uint32_t); /* not where it is declared: all of it would lie in the
	                                              library's file */
	profile.sums = (struct profile_sums){ 0 };
	profile.expected = (struct profile_sums){ UINT64_MAX, UINT64_MAX };
	address_table_clear(&profile.samples);
	for (size_t i = 0; i < sizeof filter; i++) atomic_store_explicit(&filter[i], 0, memory_order_relaxed);
	if (possible) {
		memset(profile.buckets, 0, PROFILE_STACKS * sizeof *profile.buckets);
		*stack_at(0) = (struct profile_stack){ 0 };
		profile.stack_count = 1;
		profile.hand = 0;
	}
	profile_unlock();
	return possible;
}

int profile_start(size_t mean) {
	if (!stack_is_possible()) return ENOTSUP;
	if (mean == 0) mean = (size_t)conf.profile_sample;
	if (mean > SAMPLE_MEAN_MAX) return EINVAL;
	/* Before the profile's lock: whoever adds a sample under it sees both, and so does who gets the block. */
	frees_see();
	atomic_store_explicit(&sample_hooks.freed, profile_freed, memory_order_relaxed);
	if (!forget_all(mean)) return ENOMEM;
	atomic_store_explicit(&sample_hooks.allocated, profile_allocated, memory_order_release);
	if (!tcache_sample(mean)) return ENOMEM;
	profile_time_look(); /* what it waited for was forgotten */
	return 0;
}

void profile_stop(void) { tcache_sample(0); }

void profile_init(void) {
	profile_file_start();
	if (!conf.profile && !conf.leaks && !profile_time_is_wanted()) return;
	const int error = profile_start(0);
	if (error == ENOTSUP)
		print_fd(
		    2, "arenal: there is no heap profile of programs that are linked statically at a fixed place\n");
	else if (error != 0)
		print_fd(2, "arenal: no memory for the heap profile: it stays off\n");
}

size_t profile_samples(struct reach_block *out, size_t room) {
	struct address_walk walk = { 0 };
	size_t count = 0;
	for (bool more = true; more;) {
		profile_lock();
		more = address_walk_next(&walk, &profile.samples);
		if (walk.from == 0) count = 0;
		for (uint32_t i = walk.from; i < walk.to; i++) {
			const struct address_entry *e = &profile.samples.entries[i];
			if (!address_is_used(e)) continue;
			if (count < room)
				out[count] =
				    (struct reach_block){ .address = e->address, .size = e->size, .stack = *stack_number(e) };
			count++;
		}
		profile_unlock();
	}
	return count;
}

bool profile_has_sample(const struct reach_block *block) {
	profile_lock();
	const struct address_entry *e = address_table_find(&profile.samples, block->address);
	const bool found = e != NULL && e->size == block->size && *stack_number(e) == block->stack;
	profile_unlock();
	return found;
}

void profile_weight(size_t size, uint64_t *blocks, uint64_t *bytes) {
	profile_lock();
	const struct weight weight = weight_of(size);
	profile_unlock();
	*blocks = weight.blocks;
	*bytes = weight.bytes;
}

struct profile_sums profile_sums(void) {
	profile_lock();
	const struct profile_sums sums = profile.sums;
	profile_unlock();
	return sums;
}

void profile_expect(struct profile_sums when) {
	profile_lock();
	profile.expected = when;
	profile_unlock();
}

uint64_t profile_mean(void) {
	profile_lock();
	const uint64_t mean = profile.mean;
	profile_unlock();
	return mean;
}

bool profile_stack(uint32_t number, struct profile_stack *copy) {
	profile_lock();
	const bool found = number < profile.stack_count;
	if (found) *copy = *stack_at(number);
	profile_unlock();
	return found;
}
