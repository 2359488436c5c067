#include "cache/quarantine.h"

#include "base/meta.h"
#include "cache/magazine.h"
#include "cache/tcache.h"

struct quarantine *quarantine_create(void) {
	struct quarantine *q = meta_alloc(sizeof *q);
	if (q == NULL) return NULL;
	quarantine_look_at_room(q);
	return q;
}

void quarantine_empty(struct quarantine *q) {
	while (q->count > 0) {
		unsigned class_;
		void *block = quarantine_pop(q, &class_);
		arena_give(class_, &block, 1);
	}
}

void quarantine_destroy(struct quarantine *q) {
	quarantine_empty(q);
	meta_free(q, sizeof *q);
}

void quarantine_inherit(struct quarantine *q) {
	if (!STORES_ARE_SEEN_IN_ORDER || q->count > QUARANTINE_BLOCKS) q->count = 0;
	quarantine_destroy(q);
}

void quarantine_look_at_room(struct quarantine *q) {
	const int own = os_process_id();
	q->most_bytes = min_size(QUARANTINE_BYTES, tcache_room(false) / QUARANTINE_SHARE);
	if (q->process == own) return;
	q->random.state = os_random();
	/* A new quarantine's thread has nothing from another process, its arenas may. */
	if (q->process != 0) arena_reseed();
	q->process = own;
}
