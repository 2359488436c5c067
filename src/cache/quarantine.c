#include "cache/quarantine.h"

#include "base/meta.h"
#include "cache/tcache.h"

struct quarantine *quarantine_create(void) {
	struct quarantine *q = meta_alloc(sizeof *q);
	if (q != NULL) q->random.state = os_random();
	return q;
}

void quarantine_destroy(struct quarantine *q) {
	while (q->count > 0) {
		const uint64_t entry = q->entries[q->first];
		q->first = (q->first + 1) % QUARANTINE_SLOTS;
		q->count--;
		void *block = quarantine_block(entry);
		arena_give(quarantine_class(entry), &block, 1);
	}
	meta_free(q, sizeof *q);
}

void quarantine_push(struct quarantine *q, unsigned class_, void *block) {
	const uint32_t place = (q->first + q->count - random_below(&q->random, q->count / 2 + 1)) % QUARANTINE_SLOTS;
	const uint32_t end = (q->first + q->count) % QUARANTINE_SLOTS;
	q->entries[end] = q->entries[place];
	q->entries[place] = (uint64_t)class_ << 48 | (uintptr_t)block;
	q->count++;
	q->bytes += size_classes[class_].size;
}

/* While there are many threads, each of them keeps less. */
static size_t most_bytes(void) { return min_size(QUARANTINE_BYTES, tcache_room() / 4); }

void *quarantine_pop(struct quarantine *q, unsigned *class_) {
	if (q->count < QUARANTINE_BLOCKS && (q->count <= QUARANTINE_LEAST || q->bytes <= most_bytes())) return NULL;
	const uint64_t entry = q->entries[q->first];
	q->first = (q->first + 1) % QUARANTINE_SLOTS;
	q->count--;
	*class_ = quarantine_class(entry);
	q->bytes -= size_classes[*class_].size;
	return quarantine_block(entry);
}
