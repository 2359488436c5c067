/* The records of caches, side by side, apart from the caches: a fork looks at the locks of all of them
 * (lock_await), and so does the purger at what is quiet (walk.c). Each cache has pages of its own, so that a
 * look at ten thousand of them there took 2.5 ms, most of it for addresses.
 *
 * Invariant: records stay where they are, so that a walk needs no lock to get to one; the lock of one that no
 * cache has is open. Which ones are in use is under the threads lock. */
#include "base/meta.h"
#include "cache/caches.h"

/* Bytes of a chunk: of the first one, which a process of few threads has, and of all others. */
#define FIRST_CHUNK ((size_t)1024)
#define CHUNK ((size_t)16384)

struct cache_chunk *_Atomic cache_chunks;
static struct cache_record *unused;

static struct cache_record *new_record(void) {
	struct cache_chunk *first = cache_chunks;
	if (first == NULL || first->used == first->count) {
		const size_t size = first == NULL ? FIRST_CHUNK : CHUNK;
		struct cache_chunk *chunk = meta_alloc(size);
		if (chunk == NULL) return NULL;
		chunk->count = (size - sizeof *chunk) / sizeof chunk->records[0];
		chunk->next = first;
		atomic_store_explicit(&cache_chunks, chunk, memory_order_release);
		first = chunk;
	}
	const size_t used = atomic_load_explicit(&first->used, memory_order_relaxed);
	atomic_store_explicit(&first->used, used + 1, memory_order_release);
	return &first->records[used];
}

struct lock *cache_lock_alloc(void) {
	struct cache_record *own = unused != NULL ? unused : new_record();
	if (own == NULL) return NULL;
	if (own == unused) unused = own->next;
	return &own->lock;
}

void cache_lock_free(struct lock *lock) {
	struct cache_record *own = (struct cache_record *)lock;
	atomic_store_explicit(&own->cache, NULL, memory_order_relaxed);
	own->next = unused;
	unused = own;
}

void cache_locks_found(void) {
	for (struct cache_chunk *chunk = cache_chunks; chunk != NULL; chunk = chunk->next)
		for (size_t i = 0; i < chunk->used; i++) lock_found(&chunk->records[i].lock);
}

void cache_locks_await(void) {
	for (struct cache_chunk *chunk = cache_chunks; chunk != NULL; chunk = chunk->next)
		for (size_t i = 0; i < chunk->used; i++) lock_await(&chunk->records[i].lock);
}
