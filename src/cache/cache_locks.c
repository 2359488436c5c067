/* The locks of caches, side by side, apart from the caches: a fork looks at all of them (lock_await). Each
 * cache has pages of its own, so that a look at ten thousand of them there took 2.5 ms, most of it for
 * addresses.
 *
 * Invariant: a lock that no cache has is open. All of this is under the threads lock. */
#include "base/meta.h"
#include "cache/caches.h"

/* Two threads share no cache line. */
struct cache_lock {
	struct lock lock;
	struct cache_lock *next; /* of those that no cache has any more */
} __attribute__((aligned(CACHE_LINE)));

struct chunk {
	struct chunk *next;
	size_t count, used; /* locks; those from `used` on were never a cache's, and cost no memory */
	struct cache_lock locks[];
};

/* Bytes of a chunk: of the first one, which a process of few threads has, and of all others. */
#define FIRST_CHUNK ((size_t)1024)
#define CHUNK ((size_t)16384)

static struct chunk *chunks;
static struct cache_lock *unused;

static struct cache_lock *new_lock(void) {
	if (chunks == NULL || chunks->used == chunks->count) {
		const size_t size = chunks == NULL ? FIRST_CHUNK : CHUNK;
		struct chunk *chunk = meta_alloc(size);
		if (chunk == NULL) return NULL;
		chunk->count = (size - sizeof *chunk) / sizeof chunk->locks[0];
		chunk->next = chunks;
		chunks = chunk;
	}
	return &chunks->locks[chunks->used++];
}

struct lock *cache_lock_alloc(void) {
	struct cache_lock *own = unused != NULL ? unused : new_lock();
	if (own == NULL) return NULL;
	if (own == unused) unused = own->next;
	return &own->lock;
}

void cache_lock_free(struct lock *lock) {
	struct cache_lock *own = (struct cache_lock *)lock;
	own->next = unused;
	unused = own;
}

void cache_locks_found(void) {
	for (struct chunk *chunk = chunks; chunk != NULL; chunk = chunk->next)
		for (size_t i = 0; i < chunk->used; i++) lock_found(&chunk->locks[i].lock);
}

void cache_locks_await(void) {
	for (struct chunk *chunk = chunks; chunk != NULL; chunk = chunk->next)
		for (size_t i = 0; i < chunk->used; i++) lock_await(&chunk->locks[i].lock);
}
