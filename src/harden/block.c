#include "harden/block.h"

#include "arena/report.h"
#include "cache/magazine.h"

static COLD _Noreturn void report_not_live(const void *block, uint32_t record, const char *function) {
	if (RECORD_STATE(record) == BLOCK_FREED) report_pointer(function, block, NULL);
	report_end(function, block,
	           RECORD_STATE(record) == BLOCK_HELD
	               ? "another thread reallocates the block at this moment"
	               : "the address is not a block: none was handed out there yet");
}

/* The record is not what it was a moment ago: another thread has freed the block, or moved it, since this
 * call looked. */
static COLD _Noreturn void report_overtaken(const void *block, const char *function) {
	report_end(function, block,
	           "the block was freed already, or moved, by another thread at the same moment");
}

/* The record of a block that the program holds. */
static inline block_record *live_record(const struct span *s, const void *block, uint32_t *value,
                                        const char *function) {
	const struct size_class *c = &size_classes[s->class_];
	const size_t offset = (size_t)((const char *)block - s->start), number = block_number(c, offset);
	if (unlikely(number * c->size != offset || number >= c->blocks)) report_pointer(function, block, NULL);
	block_record *record = hard_span_record(s, number);
	*value = atomic_load_explicit(record, memory_order_relaxed);
	if (unlikely(RECORD_STATE(*value) != BLOCK_LIVE)) report_not_live(block, *value, function);
	return record;
}

static inline uint64_t word_of(const struct span *s, const void *block) {
	return canary_of(hard_span_secret(s)->key, (uintptr_t)block);
}

/* ---- handing out ---- */

unsigned small_class(size_t align, size_t size) { return class_of_aligned(align, size + CANARY_SIZE); }

/* As malloc's fast path, of the cache that it does not see. */
static inline void *take(struct tcache *tc, unsigned class_) {
	if (unlikely(tc == NULL)) return tcache_alloc(class_, 0);
	struct magazine *m = &tc->magazines[class_];
	void *block = magazine_pop(m);
	if (likely(block != NULL)) {
		/* The next one will be read to its end. */
		if (likely(m->top > m->empty)) __builtin_prefetch(m->top[-1]);
		return block;
	}
	patrol(tc);
	return tcache_alloc(class_, 0);
}

static COLD _Noreturn void report_changed(const void *block, size_t size) {
	const unsigned char *bytes = block;
	size_t i = 0;
	while (i < size - CANARY_SIZE && bytes[i] == 0) i++;
	report_end("malloc", block, "the free block of %zu bytes was written to after it was freed, at byte %zu",
	           size, i);
}

/* Was a free block left alone? Its last word may be zero: pages of free blocks go back to the kernel. */
static inline bool freed_intact(const void *block, uint64_t word, size_t size) {
	const uint64_t last = load_word((const char *)block + size - CANARY_SIZE);
	return (int)reads_as_zero(block, size - CANARY_SIZE) & ((last == word) | (last == 0));
}

void *small_alloc(unsigned class_, size_t size, enum family family) {
	struct tcache *tc = tcache_hidden;
	char *block = take(tc, class_);
	if (unlikely(block == NULL)) return NULL;
	const struct span *s = span_of(block);
	const struct size_class *c = &size_classes[class_];
	const size_t end = c->size;
	const uint64_t word = word_of(s, block);
	block_record *record = hard_span_record(s, block_number(c, (size_t)(block - s->start)));
	const uint32_t old = atomic_load_explicit(record, memory_order_relaxed);
	if (RECORD_STATE(old) != BLOCK_FRESH && unlikely(!freed_intact(block, word, end)))
		report_changed(block, end);
	canary_fill_edges(block, word, size, end);
	/* The neighbour in front may never have been handed out, or its pages have gone back to the kernel
	 * meanwhile. */
	if (block != s->start) {
		/* Mostly it is there, and the neighbour's cache line need not be written to. */
		const uint64_t front = word_of(s, block - end);
		if (unlikely(load_word(block - CANARY_SIZE) != front)) store_word(block - CANARY_SIZE, front);
	}
	atomic_store_explicit(record,
	                      record_of(RECORD_TURN(old) + RECORD_TURN_ONE, end - size, family, BLOCK_LIVE),
	                      memory_order_release); /* who sees the record finds the canaries */
	if (likely(tc != NULL)) tc->quarantine->recent[tc->quarantine->recent_next++ % RECENT_BLOCKS] = block;
	return block;
}

/* ---- taking back ---- */

static inline bool front_intact(const struct span *s, const char *block) {
	if (unlikely(block == s->start)) return true; /* the guard is there */
	const uint64_t front = load_word(block - CANARY_SIZE);
	if (likely(front == word_of(s, block - size_classes[s->class_].size))) return true;
	/* The word lies on another page, which may have gone back to the kernel, and reads as zero then. */
	return (uintptr_t)block % os_page_size == 0 && front == 0;
}

bool small_front_intact(const struct span *s, const char *block) { return front_intact(s, block); }

static COLD _Noreturn void report_edges(const void *block, block_record *record, uint32_t value, size_t size,
                                        bool behind, const char *function) {
	/* Who frees it meanwhile clears the canary, after the record was changed. Not a load: it could come
	 * before the reads above. */
	if (!atomic_compare_exchange_strong(record, &(uint32_t){ value }, value))
		report_overtaken(block, function);
	if (behind) report_end(function, block, "something wrote behind the block's %zu bytes", size);
	report_end(function, block, "something wrote in front of the block of %zu bytes", size);
}

static inline void check_edges(const struct span *s, const void *block, block_record *record, uint32_t value,
                               const char *function) {
	const size_t end = size_classes[s->class_].size, size = end - RECORD_SLACK(value);
	if (unlikely(!canary_edges_intact(block, word_of(s, block), size, end)))
		report_edges(block, record, value, size, true, function);
	if (unlikely(!front_intact(s, block))) report_edges(block, record, value, size, false, function);
}

/* From one value of the record to the next, for the one call that may: of two threads that free a block at
 * the same moment, both have found it live. */
static inline void change(const void *block, block_record *record, uint32_t value, uint32_t to,
                          const char *function) {
	if (unlikely(!atomic_compare_exchange_strong(record, &value, to))) report_overtaken(block, function);
}

/* As free's fast path. */
static inline void give(struct tcache *tc, unsigned class_, void *block) {
	struct magazine *m = &tc->magazines[class_];
	if (likely(!magazine_is_full(m)))
		magazine_push(m, block);
	else
		tcache_free(class_, block);
}

/* The block, which is free by its record, becomes so. */
static void take_back(const struct span *s, void *block) {
	const unsigned class_ = s->class_;
	/* A patrol that finds the canary gone finds the record changed. */
	atomic_thread_fence(memory_order_release);
	memset(block, 0, size_classes[class_].size - CANARY_SIZE);
	if (unlikely(hard_span_is_inherited(s))) {
		arena_give_alone(class_, block); /* nobody gets it again */
		return;
	}
	struct tcache *tc = tcache_hidden;
	if (unlikely(tc == NULL)) {
		tcache_free(class_, block); /* makes the thread's cache, when it may still have one */
		return;
	}
	struct quarantine *q = tc->quarantine;
	while (quarantine_is_full(q)) {
		unsigned other_class;
		void *other = quarantine_pop(q, &other_class);
		give(tc, other_class, other);
	}
	quarantine_push(q, class_, block);
}

static inline uint32_t freed(uint32_t value) {
	return record_of(RECORD_TURN(value), 0, FAMILY_MALLOC, BLOCK_FREED);
}

void small_free(struct span *s, void *block, const struct claim *claim) {
	uint32_t value;
	block_record *record = live_record(s, block, &value, claim->function);
	harden_check_claim(block, size_classes[s->class_].size - RECORD_SLACK(value), RECORD_FAMILY(value),
	                   claim);
	check_edges(s, block, record, value, claim->function);
	change(block, record, value, freed(value), claim->function);
	take_back(s, block);
}

/* ---- the rest ---- */

size_t small_size(const struct span *s, const void *block, const char *function, enum family *family) {
	uint32_t value;
	block_record *record = live_record(s, block, &value, function);
	check_edges(s, block, record, value, function);
	*family = RECORD_FAMILY(value);
	return size_classes[s->class_].size - RECORD_SLACK(value);
}

/* ---- realloc ---- */

static inline uint32_t with_state(uint32_t value, enum block_state state) {
	return (value & ~UINT32_C(3)) | state;
}

size_t small_hold(struct span *s, void *block, enum family *family) {
	uint32_t value;
	block_record *record = live_record(s, block, &value, "realloc");
	check_edges(s, block, record, value, "realloc");
	change(block, record, value, with_state(value, BLOCK_HELD), "realloc");
	*family = RECORD_FAMILY(value);
	return size_classes[s->class_].size - RECORD_SLACK(value);
}

static block_record *held_record(const struct span *s, const void *block) {
	return hard_span_record(s,
	                        block_number(&size_classes[s->class_], (size_t)((const char *)block - s->start)));
}

/* As it was, and the block as well, so that a patrol needs no other turn. */
void small_let_go(struct span *s, void *block) {
	block_record *record = held_record(s, block);
	atomic_store_explicit(record, with_state(atomic_load_explicit(record, memory_order_relaxed), BLOCK_LIVE),
	                      memory_order_release);
}

void small_free_held(struct span *s, void *block) {
	block_record *record = held_record(s, block);
	atomic_store_explicit(record, freed(atomic_load_explicit(record, memory_order_relaxed)),
	                      memory_order_relaxed);
	take_back(s, block);
}

void small_resize(struct span *s, void *block, size_t size) {
	const size_t end = size_classes[s->class_].size;
	block_record *record = held_record(s, block);
	const uint32_t value = atomic_load_explicit(record, memory_order_relaxed);
	const size_t old = end - RECORD_SLACK(value);
	canary_fill_edges(block, word_of(s, block), size, end);
	/* The program does not get to see the canary. */
	if (size > old) memset((char *)block + old, 0, size - old);
	/* Who sees the record finds the canaries. With another turn, lest a patrol that is slow takes what it saw
	 * of the size in between for that of the same size before. */
	atomic_store_explicit(record,
	                      record_of(RECORD_TURN(value) + RECORD_TURN_ONE, end - size, RECORD_FAMILY(value),
	                                BLOCK_LIVE),
	                      memory_order_release);
}
