/* A fuzz target: replays the calls that the input describes, and holds what they return against a shadow model: no overlap,
 * alignment, usable sizes, contents, zeroed memory, errno, statistics. With FUZZ_THREADS=2, the input is split into the
 * streams of two threads, which hand blocks over to each other.
 *
 * Every call takes a few bytes of the input; what is left over when it ends reads as zero. All blocks are freed at the end
 * of an input, and the tunables get their old values, so that an input that fails also fails alone, mostly. */
#include "api/api.h"
#include "arenal/arenal.h"
#include "harden/harden.h"
#include "ranges.h"
#include "stamp.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef FUZZ_THREADS
#define FUZZ_THREADS 1
#endif

enum { SLOTS = 100, CALLS_MAX = 400, MAILBOX = 16, UNTOUCHED = 12345 };

/* What the model may hold; larger requests are left out. */
#define BYTES_MAX ((size_t)256 << 20)

/* Contents are written to, and looked for in, so much at each end of a block. */
#define END_BYTES ((size_t)8 << 10)

struct block {
	void *address; /* NULL: none */
	size_t size;   /* as asked for */
	size_t usable;
	size_t align;  /* what it was asked for with; 0: by malloc and the like */
	bool has_freed_word; /* its second word is not its stamp's, but what a freed block had there: */
	uint64_t freed_word;
};

/* What one thread does. Owner: that thread. */
struct stream {
	const uint8_t *next, *end;
	struct block slots[SLOTS];
};

/* What all threads share. */
static struct {
	pthread_mutex_t lock;
	struct ranges live;
	struct block mailbox[MAILBOX];
	uint64_t freed_word; /* of the block that was freed last and could still be read */
} model = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the input ---- */

static size_t take(struct stream *s, size_t bytes) {
	size_t value = 0;

	for (; bytes > 0 && s->next < s->end; bytes--)
		value = value << 8 | *s->next++;
	return value;
}

/* Small sizes mostly; sizes around powers of two, where classes, runs and mappings begin; few that are impossible. */
static size_t take_size(struct stream *s) {
	size_t kind = take(s, 1);

	if (kind < 100)
		return take(s, 1);
	if (kind < 160)
		return take(s, 2) % 2048;
	if (kind < 200)
		return take(s, 2);
	if (kind < 248)
		return ((size_t)1 << kind % 23) + take(s, 1) - 128;
	if (kind < 254)
		return take(s, 3) % (6 << 20);
	return kind == 254 ? (size_t)PTRDIFF_MAX + 1 + take(s, 3) : SIZE_MAX - take(s, 2);
}

static size_t take_align(struct stream *s) {
	return (size_t)1 << take(s, 1) % 24;
}

/* ---- contents ---- */

static size_t end_bytes(size_t size) {
	return size < END_BYTES ? size : END_BYTES;
}

/* Does the memory hold what the block does in its first n bytes? The second word has its turn apart. */
static bool holds(const struct block *b, void *memory, size_t n, uint64_t key) {
	stamp_word *words = memory;

	if (!b->has_freed_word || n < 16)
		return stamp_holds(memory, n < 8 || !b->has_freed_word ? n : 8, key);
	const uint64_t second = words[1];
	words[1] = stamp_at(key, 1);
	const bool rest = stamp_holds(memory, n, key);
	words[1] = second;
	return rest && second == b->freed_word;
}

static void check(const struct block *b) {
	uint64_t key = stamp_key(b->address, b->size, 1);
	size_t n = end_bytes(b->size);

	REQUIRE(holds(b, b->address, n, key));
	if (b->size >= 2 * n)
		REQUIRE(stamp_holds((char *)b->address + b->size - n, n, ~key));
	REQUIRE(PUBLIC(malloc_usable_size)(b->address) == b->usable);
	REQUIRE(holds(b, b->address, n, key));
}

/* What the allocator leaves in freed blocks, it must not take for anything in live ones: every other block gets it. */
static void stamp(struct block *b) {
	uint64_t key = stamp_key(b->address, b->size, 1);
	size_t n = end_bytes(b->size);

	stamp_write(b->address, n, key);
	if (b->size >= 2 * n)
		stamp_write((char *)b->address + b->size - n, n, ~key);
	b->has_freed_word = b->size >= 16 && ((uintptr_t)b->address / MIN_ALIGN + b->size) % 2 == 0;
	if (!b->has_freed_word)
		return;
	pthread_mutex_lock(&model.lock);
	b->freed_word = model.freed_word;
	pthread_mutex_unlock(&model.lock);
	((stamp_word *)b->address)[1] = b->freed_word;
}

/* Its pages may be gone, or closed: the kernel reads what can be read. */
static void look_into_freed(const struct block *b) {
	uint64_t words[2];
	struct iovec here = { words, sizeof words }, there = { b->address, sizeof words };

	if (b->size < sizeof words || process_vm_readv(getpid(), &here, 1, &there, 1, 0) != sizeof words)
		return;
	pthread_mutex_lock(&model.lock);
	model.freed_word = words[1];
	pthread_mutex_unlock(&model.lock);
}

/* ---- the model ---- */

static void born(struct block *b) {
	REQUIRE((uintptr_t)b->address % (b->align > MIN_ALIGN ? b->align : MIN_ALIGN) == 0);
	b->usable = PUBLIC(malloc_usable_size)(b->address);
	REQUIRE(b->usable >= b->size);
	pthread_mutex_lock(&model.lock);
	ranges_add(&model.live, b->address, b->usable);
	pthread_mutex_unlock(&model.lock);
	stamp(b);
}

/* Before the call that frees it: others may have the address a moment later. */
static void dies(const struct block *b) {
	check(b);
	pthread_mutex_lock(&model.lock);
	ranges_remove(&model.live, b->address);
	pthread_mutex_unlock(&model.lock);
}

static bool too_much(size_t size) {
	pthread_mutex_lock(&model.lock);
	bool over = size <= PTRDIFF_MAX && model.live.bytes + size > BYTES_MAX;
	pthread_mutex_unlock(&model.lock);
	return over;
}

/* ---- the calls ---- */

static void drop(struct stream *s, struct block *b) {
	if (b->address == NULL)
		return;
	dies(b);
	errno = UNTOUCHED;
	switch (s != NULL ? take(s, 1) % 4 : 0) {
	case 0:
		if (b->align > 0)
			PUBLIC(free_aligned_sized)(b->address, b->align, b->size);
		else
			PUBLIC(free_sized)(b->address, b->size);
		break;
	default: PUBLIC(free)(b->address);
	}
	REQUIRE(errno == UNTOUCHED);
	look_into_freed(b);
	b->address = NULL;
}

/* What has been asked for is there, or could not be. */
static void arrived(struct block *b, void *address, size_t size, size_t align) {
	if (address == NULL) {
		REQUIRE(size > PTRDIFF_MAX);
		REQUIRE(errno == ENOMEM);
		return;
	}
	REQUIRE(size <= PTRDIFF_MAX);
	REQUIRE(errno == UNTOUCHED);
	*b = (struct block){ .address = address, .size = size, .align = align };
	born(b);
}

static void call_malloc(struct stream *s, struct block *b) {
	size_t size = take_size(s);

	drop(s, b);
	if (too_much(size))
		return;
	errno = UNTOUCHED;
	arrived(b, PUBLIC(malloc)(size), size, 0);
}

static void call_calloc(struct stream *s, struct block *b) {
	size_t size = take_size(s), count = take(s, 1) % 5, bytes;

	drop(s, b);
	if (__builtin_mul_overflow(count, size, &bytes))
		bytes = SIZE_MAX;
	if (too_much(bytes))
		return;
	errno = UNTOUCHED;
	char *address = PUBLIC(calloc)(count, size);
	if (address != NULL)
		REQUIRE(holds_only(address, bytes, 0));
	arrived(b, address, bytes, 0);
}

static void call_aligned(struct stream *s, struct block *b) {
	size_t size = take_size(s), align = take_align(s), way = take(s, 1) % 3;

	drop(s, b);
	if (too_much(size) || too_much(align))
		return;
	errno = UNTOUCHED;
	if (way == 0) {
		arrived(b, PUBLIC(aligned_alloc)(align, size), size, align);
	} else if (way == 1) {
		arrived(b, PUBLIC(memalign)(align, size), size, align);
	} else {
		void *address = NULL;
		int error = PUBLIC(posix_memalign)(&address, align, size);
		REQUIRE(errno == UNTOUCHED);
		REQUIRE(align >= sizeof(void *) || error == EINVAL);
		REQUIRE((error == 0) == (address != NULL));
		errno = error != 0 ? error : UNTOUCHED;
		if (error != EINVAL)
			arrived(b, address, size, align);
	}
}

static void call_bad_alignment(struct stream *s) {
	size_t align = take(s, 2), size = take_size(s);
	void *address = &align;

	if ((align & (align - 1)) == 0)
		align = 0;
	errno = UNTOUCHED;
	REQUIRE(PUBLIC(aligned_alloc)(align, size) == NULL && errno == EINVAL);
	errno = UNTOUCHED;
	REQUIRE(PUBLIC(posix_memalign)(&address, align, size) == EINVAL && errno == UNTOUCHED && address == &align);
}

static void call_realloc(struct stream *s, struct block *b) {
	size_t size = take_size(s), count = take(s, 1);

	count = count < 240 ? 1 : count - 239; /* reallocarray beyond */
	const struct block old = *b;
	const uint64_t key = stamp_key(old.address, old.size, 1);
	size_t bytes;
	if (__builtin_mul_overflow(count, size, &bytes))
		bytes = SIZE_MAX;
	if (too_much(bytes))
		return;
	if (old.address != NULL)
		dies(&old);
	errno = UNTOUCHED;
	char *address = count == 1 ? PUBLIC(realloc)(old.address, size) : PUBLIC(reallocarray)(old.address, count, size);
	if (address == NULL && old.address != NULL && bytes == 0) { /* freed */
		REQUIRE(errno == UNTOUCHED);
		b->address = NULL;
	} else if (address == NULL && old.address != NULL) { /* it stays as it is */
		REQUIRE(bytes > PTRDIFF_MAX && errno == ENOMEM);
		born(b);
		REQUIRE(b->usable == old.usable);
	} else {
		size_t common = old.address == NULL ? 0 : bytes < end_bytes(old.size) ? bytes : end_bytes(old.size);
		REQUIRE(holds(&old, address, common, key));
		if (old.address != NULL && bytes >= old.size && old.size >= 2 * END_BYTES)
			REQUIRE(stamp_holds(address + old.size - END_BYTES, END_BYTES, ~key));
		arrived(b, address, bytes, 0);
	}
}

/* Puts the block into the mailbox, and has the one that lay there. */
static void hand_over(struct stream *s, struct block *b) {
	struct block *box = &model.mailbox[take(s, 1) % MAILBOX];

	pthread_mutex_lock(&model.lock);
	struct block swapped = *box;
	*box = *b;
	pthread_mutex_unlock(&model.lock);
	*b = swapped;
	if (b->address != NULL)
		check(b);
}

static const struct {
	const char *name;
	int64_t values[4];
} live_tunables[] = {
	{ "tcache_max", { 0, 4096, 1 << 20, 16 << 20 } },
	{ "mmap_threshold", { 0, 64 << 10, 1 << 20, 32 << 20 } },
	{ "trim_threshold", { -1, 0, 128 << 10, 2 << 20 } },
	{ "top_pad", { 0, 4096, 1 << 20, 3 << 20 } },
	{ "dirty_max", { -1, 0, 1 << 20, 64 << 20 } },
	{ "decay", { -1, 0, 4, 1000 } },
	{ "thp", { -1, 0, 1, 1 } },
	{ "memory_limit", { -1, 0, 1, 64 << 20 } },
	{ "lazy_purge", { 0, 1, 0, 1 } },
	{ "guard_sample", { 0, 1, 2, 20 } },
	{ "background", { 0, 0, 1, 1 } },
};
/* One thread does without the background thread: then the statistics are exact at any moment. */
enum { TUNABLES = sizeof live_tunables / sizeof live_tunables[0] - (FUZZ_THREADS == 1) };

static void call_set(struct stream *s) {
	size_t which = take(s, 1);
	int64_t value = live_tunables[which % TUNABLES].values[which / TUNABLES % 4], read;

	REQUIRE(arenal_set(live_tunables[which % TUNABLES].name, value) == 0);
	REQUIRE(FUZZ_THREADS > 1 || (arenal_get(live_tunables[which % TUNABLES].name, &read) == 0 && read == value));
}

static void check_stats(struct stream *s) {
	struct arenal_stats stats;
	size_t own = 0;

	for (size_t i = 0; i < SLOTS; i++)
		own += s->slots[i].address != NULL ? s->slots[i].usable : 0;
	REQUIRE(arenal_stats_get(&stats, sizeof stats) == 0);
	REQUIRE(stats.mapped >= own);
	REQUIRE(stats.huge_bytes + stats.brk_bytes <= stats.mapped);
	if (FUZZ_THREADS > 1)
		return; /* the figures are not of one moment */
	/* Hardened blocks have fewer bytes to use than their class. */
	REQUIRE(harden_is_on ? stats.allocated >= model.live.bytes : stats.allocated == model.live.bytes);
	REQUIRE(stats.allocated + stats.cached <= stats.active);
	REQUIRE(stats.active + stats.dirty <= stats.mapped);
}

static void step(struct stream *s) {
	size_t what = take(s, 1);
	struct block *b = &s->slots[take(s, 1) % SLOTS];

	if (what < 80)
		call_malloc(s, b);
	else if (what < 100)
		call_calloc(s, b);
	else if (what < 120)
		call_aligned(s, b);
	else if (what < 150)
		call_realloc(s, b);
	else if (what < 210)
		drop(s, b);
	else if (what < 225)
		hand_over(s, b);
	else if (what < 230 && b->address != NULL)
		check(b);
	else if (what < 235)
		call_set(s);
	else if (what < 238)
		call_bad_alignment(s);
	else if (what < 241)
		PUBLIC(malloc_trim)(take(s, 2));
	else if (what < 243)
		arenal_purge();
	else if (what < 250)
		check_stats(s);
	else /* a group: what fills and empties magazines and spans */
		for (size_t i = 0, size = take(s, 2) % 4096; i < 40; i++) {
			drop(NULL, &s->slots[i]);
			errno = UNTOUCHED;
			if (what < 253 && !too_much(size))
				arrived(&s->slots[i], PUBLIC(malloc)(size), size, 0);
		}
}

static void *run(void *stream) {
	struct stream *s = stream;

	for (size_t calls = 0; s->next < s->end && calls < CALLS_MAX; calls++)
		step(s);
	/* In the order of their slots: not that of their birth. */
	for (size_t i = 0; i < SLOTS; i++)
		drop(NULL, &s->slots[i]);
	return NULL;
}

/* With nothing left, the statistics say so; at last, when the background thread is moving blocks at this moment. */
static void check_nothing_is_left(void) {
	struct arenal_stats stats;
	size_t tries = FUZZ_THREADS > 1 ? 10000 : 1;

	do {
		REQUIRE(arenal_stats_get(&stats, sizeof stats) == 0);
	} while ((stats.allocated != 0 || stats.huge_blocks != 0) && --tries > 0);
	REQUIRE(model.live.count == 0 && model.live.bytes == 0);
	REQUIRE(stats.allocated == 0);
	REQUIRE(stats.huge_blocks == 0 && stats.huge_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static struct stream streams[FUZZ_THREADS];
	static int64_t defaults[TUNABLES];
	static bool begun;

	if (!begun) {
		begun = true;
		REQUIRE(arenal_set("background", FUZZ_THREADS > 1) == 0);
		for (size_t i = 0; i < TUNABLES; i++)
			REQUIRE(arenal_get(live_tunables[i].name, &defaults[i]) == 0);
	}
	for (size_t i = 0; i < FUZZ_THREADS; i++)
		streams[i] = (struct stream){ .next = data + size * i / FUZZ_THREADS, .end = data + size * (i + 1) / FUZZ_THREADS };
	pthread_t other;
	bool both = FUZZ_THREADS > 1 && size > 0;
	if (both)
		REQUIRE(pthread_create(&other, NULL, run, &streams[FUZZ_THREADS - 1]) == 0);
	run(&streams[0]);
	if (both)
		REQUIRE(pthread_join(other, NULL) == 0);
	for (size_t i = 0; i < MAILBOX; i++)
		drop(NULL, &model.mailbox[i]);
	check_nothing_is_left();
	for (size_t i = 0; i < TUNABLES; i++)
		REQUIRE(arenal_set(live_tunables[i].name, defaults[i]) == 0);
	return 0;
}
