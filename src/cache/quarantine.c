#include "cache/quarantine.h"

#include "base/meta.h"
#include "cache/tcache.h"

struct quarantine *quarantine_create(void) {
	struct quarantine *q = meta_alloc(sizeof *q);
	if (q == NULL) return NULL;
	q->random.state = os_random();
	quarantine_look_at_room(q);
	return q;
}

void quarantine_destroy(struct quarantine *q) {
	while (q->count > 0) {
		unsigned class_;
		void *block = quarantine_pop(q, &class_);
		arena_give(class_, &block, 1);
	}
	meta_free(q, sizeof *q);
}

void quarantine_look_at_room(struct quarantine *q) { q->most_bytes = min_size(QUARANTINE_BYTES, tcache_room() / 4); }
