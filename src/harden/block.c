#include "harden/block.h"

#include "arena/report.h"
#include "cache/tcache.h"

static COLD _Noreturn void report_not_live(const void *block, uint32_t record, const char *function) {
	if (RECORD_STATE(record) == BLOCK_FREED) report_pointer(function, block, NULL);
	report_end(function, block, "the address is not a block: none was handed out there yet");
}

/* The record of a block that the program holds. */
static inline block_record *live_record(const struct span *s, const void *block, uint32_t *value, const char *function) {
	const struct size_class *c = &size_classes[s->class_];
	const size_t offset = (size_t)((const char *)block - s->start), number = block_number(c, offset);
	if (unlikely(number * c->size != offset || number >= c->blocks)) report_pointer(function, block, NULL);
	block_record *record = hard_span_record(s, number);
	*value = atomic_load_explicit(record, memory_order_relaxed);
	if (unlikely(RECORD_STATE(*value) != BLOCK_LIVE)) report_not_live(block, *value, function);
	return record;
}

/* ---- handing out ---- */

unsigned small_class(size_t align, size_t size) { return class_of_aligned(align, size + CANARY_SIZE); }

/* As malloc's fast path, of the cache that it does not see. */
static inline void *take(struct tcache *tc, unsigned class_) {
	if (unlikely(tc == NULL)) return tcache_alloc(class_, 0);
	struct magazine *m = &tc->magazines[class_];
	void **top = m->top;
	if (likely(top > m->empty)) {
		m->top = top - 1;
		/* The next one will be read to its end. */
		if (likely(top - 1 > m->empty)) __builtin_prefetch(top[-2]);
		return top[-1];
	}
	patrol(tc);
	return tcache_alloc(class_, 0);
}

static COLD _Noreturn void report_changed(const void *block, size_t size) {
	const unsigned char *bytes = block;
	size_t i = 0;
	while (i < size - CANARY_SIZE && bytes[i] == 0) i++;
	report_end("malloc", block, "the free block of %zu bytes was written to after it was freed, at byte %zu", size, i);
}

/* Was a free block left alone? Its last word may be zero: pages of free blocks go back to the kernel. */
static inline bool freed_intact(const void *block, size_t size) {
	const uint64_t last = load_word((const char *)block + size - CANARY_SIZE);
	return (int)reads_as_zero(block, size - CANARY_SIZE) & ((last == canary_of(block)) | (last == 0));
}

void *small_alloc(unsigned class_, size_t size, enum family family) {
	struct tcache *tc = tcache_hidden;
	char *block = take(tc, class_);
	if (unlikely(block == NULL)) return NULL;
	const struct span *s = span_of(block);
	const struct size_class *c = &size_classes[class_];
	const size_t end = c->size;
	block_record *record = hard_span_record(s, block_number(c, (size_t)(block - s->start)));
	const uint32_t old = atomic_load_explicit(record, memory_order_relaxed);
	if (RECORD_STATE(old) != BLOCK_FRESH && unlikely(!freed_intact(block, end))) report_changed(block, end);
	canary_fill_edges(block, size, end);
	/* The neighbour in front may never have been handed out, or its pages have gone back to the kernel meanwhile. */
	if (block != s->start) {
		/* Mostly it is there, and the neighbour's cache line need not be written to. */
		const uint64_t front = canary_of(block - end);
		if (unlikely(load_word(block - CANARY_SIZE) != front)) store_word(block - CANARY_SIZE, front);
	}
	atomic_store_explicit(record, record_of(RECORD_TURN(old) + RECORD_TURN_ONE, end - size, family, BLOCK_LIVE),
	                      memory_order_release); /* who sees the record finds the canaries */
	if (likely(tc != NULL)) tc->quarantine->recent[tc->quarantine->recent_next++ % RECENT_BLOCKS] = block;
	return block;
}

/* ---- taking back ---- */

static inline bool front_intact(const struct span *s, const char *block) {
	if (unlikely(block == s->start)) return true; /* the guard is there */
	const uint64_t front = load_word(block - CANARY_SIZE);
	if (likely(front == canary_of(block - size_classes[s->class_].size))) return true;
	/* The word lies on another page, which may have gone back to the kernel, and reads as zero then. */
	return (uintptr_t)block % os_page_size == 0 && front == 0;
}

bool small_front_intact(const struct span *s, const char *block) { return front_intact(s, block); }

static inline void check_edges(const struct span *s, const void *block, uint32_t record, const char *function) {
	const size_t end = size_classes[s->class_].size, size = end - RECORD_SLACK(record);
	if (unlikely(!canary_edges_intact(block, size, end)))
		report_end(function, block, "something wrote behind the block's %zu bytes", size);
	if (unlikely(!front_intact(s, block)))
		report_end(function, block, "something wrote in front of the block of %zu bytes", size);
}

/* As free's fast path. */
static inline void give(struct tcache *tc, unsigned class_, void *block) {
	struct magazine *m = &tc->magazines[class_];
	void **top = m->top;
	if (likely(top < m->full)) {
		*top = block;
		m->top = top + 1;
	} else {
		tcache_free(class_, block);
	}
}

void small_free(struct span *s, void *block, const struct claim *claim) {
	const unsigned class_ = s->class_;
	const size_t end = size_classes[class_].size;
	uint32_t value;
	block_record *record = live_record(s, block, &value, claim->function);
	harden_check_claim(block, end - RECORD_SLACK(value), RECORD_FAMILY(value), claim);
	check_edges(s, block, value, claim->function);
	atomic_store_explicit(record, record_of(RECORD_TURN(value), 0, FAMILY_MALLOC, BLOCK_FREED), memory_order_relaxed);
	/* A patrol that finds the canary gone finds the record changed. */
	atomic_thread_fence(memory_order_release);
	memset(block, 0, end - CANARY_SIZE);
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

/* ---- the rest ---- */

size_t small_size(const struct span *s, const void *block, const char *function, enum family *family) {
	uint32_t value;
	live_record(s, block, &value, function);
	check_edges(s, block, value, function);
	*family = RECORD_FAMILY(value);
	return size_classes[s->class_].size - RECORD_SLACK(value);
}

void small_resize(struct span *s, void *block, size_t size, const char *function) {
	const size_t end = size_classes[s->class_].size;
	uint32_t value;
	block_record *record = live_record(s, block, &value, function);
	const size_t old = end - RECORD_SLACK(value);
	const uint32_t resized = record_of(RECORD_TURN(value), end - size, RECORD_FAMILY(value), BLOCK_LIVE);
	/* What the record promises is there at any moment. The program does not get to see the canary. */
	canary_fill_edges(block, size, end);
	atomic_store_explicit(record, resized, memory_order_release);
	atomic_thread_fence(memory_order_release);
	if (size > old) memset((char *)block + old, 0, size - old);
}
