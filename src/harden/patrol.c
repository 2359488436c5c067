/* A look at blocks without being asked: what the thread got and what it freed last. An overflow into a block
 * that lives long would otherwise be found late, and a write after free only when the block is handed out
 * again. */
#include "arena/report.h"
#include "base/bitmap.h"
#include "cache/tcache.h"
#include "harden/block.h"

/* So much of a freed block is looked at, for the blocks may be long. */
#define PATROL_BYTES ((size_t)1024)

/* What was written over, "behind" or "in front of" the block; NULL: nothing, or it is not the block any more
 * that it was when this call looked at the record. */
static const char *find_overflow(const struct span *s, const char *block, block_record *record,
                                 size_t *size) {
	const uint32_t value = atomic_load_explicit(record, memory_order_acquire);
	if (RECORD_STATE(value) != BLOCK_LIVE) return NULL;
	const size_t end = size_classes[s->class_].size;
	*size = end - RECORD_SLACK(value);
	const uint64_t word = canary_of(hard_span_secret(s)->key, (uintptr_t)block);
	const bool behind = canary_edges_intact(block, word, *size, end), front = small_front_intact(s, block);
	if (likely(behind && front)) return NULL;
	/* Not a load: it could come before the reads above. */
	if (!atomic_compare_exchange_strong(record, &(uint32_t){ value }, value)) return NULL;
	return behind ? "in front of" : "behind";
}

/* The block may have been freed meanwhile, and its span, by another thread: the bin's lock keeps a span that
 * has a live block, and the record tells what else changed under our eyes. Its turn may have come round for
 * who was away for long, but not at once again; and an overflow stays. */
static void look_at_live(struct bin *bin, const struct span *s, const char *block) {
	if (!s->hard || s->bin != bin || s->kind != SPAN_SMALL) return;
	const struct size_class *c = &size_classes[s->class_];
	const size_t offset = (size_t)(block - s->start), number = block_number(c, offset);
	if (number * c->size != offset || number >= c->blocks || bit_get(s->free_blocks, number)) return;
	block_record *record = hard_span_record(s, number);
	size_t size;
	if (likely(find_overflow(s, block, record, &size) == NULL)) return;
	const char *where = find_overflow(s, block, record, &size);
	if (where != NULL) report_end("malloc", block, "something wrote %s the block of %zu bytes", where, size);
}

void patrol(struct tcache *tc) {
	struct quarantine *q = tc->quarantine;
	for (uint32_t i = 0; i < RECENT_BLOCKS; i++) {
		void *block = q->recent[i];
		if (block == NULL) continue;
		q->recent[i] = NULL;
		const struct span *s = span_of(block);
		struct bin *bin = s != NULL && s->hard ? *(struct bin *const volatile *)&s->bin : NULL;
		if (bin == NULL) continue;
		lock_take(&bin->lock, RANK_BIN);
		look_at_live(bin, s, block);
		lock_drop(&bin->lock, RANK_BIN);
	}
	for (uint32_t i = 0; i < RECENT_BLOCKS && i < q->count; i++) {
		const uint64_t entry = quarantine_entry(q, i);
		const void *block = quarantine_block(entry);
		const size_t size = size_classes[quarantine_class(entry)].size - CANARY_SIZE;
		if (unlikely(!reads_as_zero(block, min_size(size, PATROL_BYTES))))
			report_end("malloc", block, "the free block of %zu bytes was written to after it was freed",
			           size + CANARY_SIZE);
	}
}
