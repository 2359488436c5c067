/* Arenas: the spans that threads take small blocks from, and give them back to.
 *
 * An arena is a set of bins, one per size class, each with a lock of its own. A block goes back to the bin
 * that owns its span, whichever thread frees it. There are as many arenas as CPUs; arena 0, the main arena,
 * lives in the brk heap. */
#ifndef ARENA_ARENA_H
#define ARENA_ARENA_H

#include "arena/heap.h"
#include "arena/policy.h"
#include "base/gate.h"
#include "base/lock.h"
#include "base/random.h"

#define ARENAS_MAX 1024

struct bin {
	struct lock lock;
	uint32_t spans;       /* that belong to the bin. This and what follows: owner lock */
	struct span *partial; /* spans with free blocks; allocation takes from the first */
	struct span *last;    /* of these: spans with purged pages go to the end, so that they are used last */
	uint64_t blocks_out;  /* blocks that are handed out: to thread caches and to the program */
	uint64_t refills;     /* batches handed out since the start */
	uint64_t flushes;     /* batches taken back since the start */
	uint64_t low_blocks;  /* fewer blocks out than this: time to look for free pages, see holes.h */
	struct arena *arena;
} __attribute__((aligned(CACHE_LINE)));
static_assert(sizeof(struct bin) == CACHE_LINE, "bins of different locks share no cache line");

/* Calls that are timed, by what they do (cache/slow_calls.h). Small blocks have up to 32 KiB. */
enum slow_call {
	SLOW_MALLOC_SMALL,
	SLOW_FREE_SMALL, /* or of a guarded block */
	SLOW_MALLOC_LARGE,
	SLOW_FREE_LARGE,
	SLOW_REALLOC_LARGE, /* of a large block that stayed one, with or without another address */
	SLOW_CALLS,
};

/* Has all gone back to the kernel that can, of a bin's spans, and has nothing changed since? Values of
 * bin.flushes; a change that does not count there makes both BIN_CHANGED. Owner: the bin's lock. */
#define BIN_CHANGED UINT64_MAX
struct bin_purged {
	uint64_t begun; /* when somebody began to purge all of it */
	uint64_t done;  /* the same, when the last one came to the end. It is still flushes: all has gone */
};

/* Slices of the longest run that lies on a shelf: blocks of up to 256 KiB, and what a header makes of
 * them. */
#define SHELF_SLICES 5

/* Runs that others freed, for the arena's threads (shelf.h). */
struct shelf {
	struct lock lock;                 /* RANK_BIN */
	_Atomic uint32_t slices;          /* of all runs. Written under the lock, as all that follows */
	uint8_t used;                     /* bit i: somebody took a run of i + 1 slices since the last look */
	uint8_t idle_looks[SHELF_SLICES]; /* by slices, less one: looks that found this length unused */
	uint8_t count[SHELF_SLICES];      /* likewise: runs */
	struct span *first[SHELF_SLICES]; /* likewise: the one that came last; the others at ->next. Their kind
	                                     is SPAN_KEPT */
} __attribute__((aligned(CACHE_LINE)));
static_assert(SHELF_SLICES <= 8, "shelf.used has a bit for each length");
static_assert(sizeof(struct shelf) == CACHE_LINE, "a shelf shares its line with nothing");

/* Walks over a bin's list, which drop the lock in between. Owner: the bin's lock. */
struct bin_walk {
	/* The spans that come next for who goes over all of it, and for those who free (holes.c); NULL: the end
	 * of the list. */
	struct span *next, *next_piece;
	uint64_t begun; /* how often `next` began at the start of the list */
};

struct arena {
	struct bin bins[CLASS_COUNT];
	struct bin_purged purged[CLASS_COUNT];
	struct shelf shelf;
	struct bin_walk walks[CLASS_COUNT];

	uint32_t threads;                    /* see arena_threads. This and the next: threads lock (cache/) */
	uint32_t generation;                 /* of the process that they are counted in */
	uint32_t node;                       /* of the threads that use it (base/node.h). Owner: threads lock */
	uint32_t kind;                       /* enum region_kind: where it likes its spans */
	bool apart;                          /* no thread uses it of itself: arena_create_apart */
	bool inherited;                      /* nor this one: arena_harden_anew */
	struct random random[CLASS_COUNT];   /* for the choice of hardened blocks. Owner: the bin's lock */
	struct span *full[CLASS_COUNT];      /* apart: spans without a free block. Owner: the bin's lock */
	struct times slow_calls[SLOW_CALLS]; /* of its threads: those that were timed */
	uint32_t number;                     /* its place in arena_list. Owner: threads lock */
	/* apart: 1 more with each reset. What a thread has kept since an earlier one is no block any more */
	_Atomic uint32_t epoch;
	/* apart, and a heap of the program's: what stands for it there (jemalloc/made_arenas.h); 0: it is none */
	_Atomic uintptr_t heap;
	struct heap_cache *heap_caches; /* what threads keep of its blocks. Owner: threads lock */
	char name[24];                  /* what the program calls the heap; ends with 0 */
};

/* All arenas that exist now: arena_list[0] is the main arena. Grows only, under the threads lock. */
extern struct arena *arena_list[ARENAS_MAX];
extern _Atomic uint32_t arena_count;

void arena_init(void);

/* A further arena; NULL when out of memory or when there are as many as may be. Called under the threads
 * lock. */
struct arena *arena_create(void);

/* One apart: no thread gets it as its own. Its spans have no tags, so that free takes the slow path with its
 * blocks, and gives each back at once: none waits in a thread's cache. NULL when out of memory. Called under
 * the threads lock. */
struct arena *arena_create_apart(void);

/* Frees all blocks of an arena apart at once; each that was out is told to `freed`, which is called without a
 * lock, or NULL. Nobody may use one of them any more, nor take others meanwhile. Without any lock.
 * `keep`: spans that had blocks out stay, empty, for who asks next; those that had none go, as all do
 * otherwise. So it keeps what was used since the last reset, and a block that is freed afterwards by mistake
 * is found, or at worst is one of this arena's, until these spans go, too: by the next reset, or as idle. */
void arena_reset(struct arena *arena, void (*freed)(const void *block), bool keep);

/* The one apart whose blocks are those that the heap profile has sampled. NULL until the profile is on for
 * the first time; written once, under the threads lock. */
extern struct arena *_Atomic arena_of_samples;

/* Makes it, if it is not there. False when out of memory. Called under the threads lock. */
bool arena_for_samples(void);

/* From now on, all arenas are made of hardened spans (hard_span.h), arena_list[0] first. Those that were
 * there before take back what is theirs, and nothing is taken from them. Once, before the process has
 * threads. False when out of memory. */
bool arena_harden(void);

/* Makes new hardened arenas in a child of a hardened process. It has its parent's spans, and with them keys
 * that its parent and brothers know, too: its own blocks come from spans of its own. No thread uses the
 * arenas that were there before, which go on to take back what is theirs. Called under the threads lock. */
bool arena_harden_anew(void);

/* What the second word of a block is that leaves its bin. */
enum second_word {
	WORD_IS_MARK, /* as mark.h says; or the block is hardened */
	WORD_IS_ZERO, /* as far as is known */
	WORD_IS_ANY,
};

/* Blocks without a mark (bare.h), side by side. */
struct bare_blocks {
	char *first;
	size_t count, size; /* size: of one, in bytes */
	enum second_word word;
};

/* Takes up to `count` (at most BATCH_MAX) blocks of a size class, lowest addresses of a span first. Returns
 * how many; 0 means out of memory. They are fewer where more would touch pages before their time. They are
 * told below `end`, the first one last. When bare->count is not 0, it is all of them, of which only the first
 * is told, and they are to be marked: without any lock, for that is likely to be a page fault. Who takes many
 * (BATCH_LONG in batch.h) does so under a cache's lock, so that no fork comes in the middle. */
size_t arena_take_bare(struct arena *arena, unsigned class_, void **end, size_t count,
                       struct bare_blocks *bare);
void arena_mark_bare(const struct bare_blocks *bare);

/* One, which has its mark. Without a lock. NULL when out of memory. */
static inline void *arena_take_one(struct arena *arena, unsigned class_) {
	struct bare_blocks bare;
	void *block;
	if (arena_take_bare(arena, class_, &block + 1, 1, &bare) == 0) return NULL;
	if (bare.count > 0) arena_mark_bare(&bare);
	return block;
}

/* For who hands blocks out one after the other, and writes no marks: takes up to `few` that have their mark,
 * told below `end`, the first one last; or, when there are none, up to `most` side by side, which may have
 * none: then bare->count is not 0, and it is all of them. Returns how many; 0 means out of memory. There is
 * room for `most` below `end`. */
size_t arena_take_run(struct arena *arena, unsigned class_, void **end, size_t few, size_t most,
                      struct bare_blocks *bare);

/* Gives blocks of one size class back to the bins that own them. The array is used as scratch space. A
 * pointer that is not the start of a handed-out block ends the program with a message. Called under a cache's
 * lock or inside of the gate, so that no fork comes in the middle. */
void arena_give(unsigned class_, void **blocks, size_t count);

/* For one block, without any lock. */
static inline void arena_give_alone(unsigned class_, void *block) {
	gate_enter();
	arena_give(class_, &block, 1);
	gate_leave();
}

/* Is the block, which starts in this span of small blocks, free in its bin? */
bool arena_has_free(const struct span *s, const void *block);

/* Unmaps what can be unmapped: empty spans in their regions, the top of the brk heap, kept mappings. What
 * lies on shelves is free slices then. For when an allocation of `wanted` bytes is about to fail: nothing is
 * purged, for addresses and mappings are what it wants for. */
void arena_release_all(size_t wanted);

/* Gives free memory back to the kernel: spans that are kept empty, free pages inside partly used spans, what
 * lies on shelves, dirty slices, the top of the brk heap but for `keep_top` bytes. Returns the bytes given
 * back. */
size_t arena_purge_all(size_t keep_top);

/* holes_purge_bin for every bin. */
size_t arena_purge_all_holes(void);

/* From now on, hardened blocks are chosen by other random numbers. */
void arena_reseed(void);

/* Grows in the child of a fork: no thread that was counted before is there. */
extern uint32_t arena_generation;

/* Threads that use the arena. All three under the threads lock. */
static inline uint32_t arena_threads(const struct arena *a) {
	return a->generation == arena_generation ? a->threads : 0;
}
static inline void arena_thread_comes(struct arena *a) {
	a->threads = arena_threads(a) + 1;
	a->generation = arena_generation;
}
static inline void arena_thread_goes(struct arena *a) { a->threads--; }

/* Around fork: nobody is under a lock of this layer. The second in both processes, and in the child the
 * third one follows, when lock_open_all_in_child was called: no thread is counted in any arena. It reads
 * all bins, and writes to no arena. */
void arena_lock_all(void);
void arena_unlock_all(void);
void arena_after_fork(void);

#endif
