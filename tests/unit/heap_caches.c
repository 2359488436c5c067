/* cache/heap_cache: what threads keep of heaps. Run under the sanitizers, too. */
#include "unit.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/conf.h"
#include "cache/heap_cache.h"
#include "jemalloc/made_arenas.h"

/* As arenal_heap_alloc does it, without the rest. */
static void *take(uintptr_t heap, size_t size) {
	void *block = heap_cache_take(heap, size);
	if (block != NULL) return block;
	struct heap_cache *cache = heap_cache_of(heap, made_arena_of_heap(heap));
	block = heap_cache_refill(cache, class_of_size(size));
	if (block == NULL || !mark_take(block))
		abort(); /* also in threads, where an assertion cannot jump back */
	return block;
}

static size_t kept_of(uintptr_t heap) {
	size_t blocks[CLASS_COUNT] = { 0 }, sum = 0;
	tcache_lock();
	heap_caches_count(made_arena_of_heap(heap), blocks);
	tcache_unlock();
	for (size_t c = 0; c < CLASS_COUNT; c++) sum += blocks[c];
	return sum;
}

static size_t out_of(uintptr_t heap, size_t size) {
	struct bin *bin = &made_arena_of_heap(heap)->bins[class_of_size(size)];
	lock_take(&bin->lock, RANK_BIN);
	const size_t out = bin->blocks_out;
	lock_drop(&bin->lock, RANK_BIN);
	return out;
}

static void end(uintptr_t heap) { assert_true(made_destroy(made_arena_of_heap(heap)->number)); }

/* Those that are kept count as out; those that are handed out show no mark. */
static void blocks_are_handed_out_once(void **state) {
	(void)state;
	const uintptr_t heap = made_create_heap("once");
	static uint64_t *blocks[3000];
	for (size_t i = 0; i < 3000; i++) {
		blocks[i] = take(heap, 96);
		assert_true(blocks[i][1] != mark_number());
		memset(blocks[i], 0xFF, 96);
		blocks[i][0] = i;
	}
	for (size_t i = 0; i < 3000; i++) assert_int_equal(blocks[i][0], i);
	assert_int_equal(out_of(heap, 96), 3000 + kept_of(heap));
	for (size_t i = 0; i < 3000; i++) assert_true(heap_cache_give(heap, blocks[i]));
	assert_int_equal(out_of(heap, 96), kept_of(heap));
	assert_true(heap_cache_has(blocks[2999]) && !heap_cache_has(blocks[0]));
	assert_true(heap_caches_hold(span_of(blocks[2999]), blocks[2999]));
	assert_ptr_equal(take(heap, 96), blocks[2999]);
	end(heap);
}

/* An epoch ends, and what was kept with it. */
static void a_reset_forgets_what_is_kept(void **state) {
	(void)state;
	const uintptr_t heap = made_create_heap("epochs");
	for (int round = 0; round < 100; round++) {
		void *freed = take(heap, 200);
		for (int i = 0; i < 500; i++) memset(take(heap, 200), round, 200);
		heap_cache_give(heap, freed);
		assert_true(kept_of(heap) > 0);
		made_reset(made_arena_of_heap(heap)->number);
		assert_int_equal(kept_of(heap), 0);
		assert_int_equal(out_of(heap, 200), 0);
		assert_false(heap_cache_give(heap, freed)); /* whatever is there now, it is none of this epoch */
	}
	end(heap);
}

/* A span that was reset has no marks that anybody trusts, but those of blocks that are freed from then on. */
static void marks_of_earlier_epochs_do_no_harm(void **state) {
	(void)state;
	const uintptr_t heap = made_create_heap("marks");
	static void *blocks[2000];
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < 2000; i++) {
			blocks[i] = take(heap, 48);
			assert_true(*mark_place(blocks[i]) != mark_number()); /* which nobody is to know */
			memset(blocks[i], 0xFF, 48);
		}
		for (size_t i = (size_t)round % 3; i < 2000; i += 3) assert_true(heap_cache_give(heap, blocks[i]));
		for (size_t i = 0; i < 300; i++) assert_true(*mark_place(take(heap, 48)) != mark_number());
		made_reset(made_arena_of_heap(heap)->number);
		/* one by one, as mallocx takes them */
		for (size_t i = 0; i < 100; i++) {
			void *block = arena_take_one(made_arena_of_heap(heap), class_of_size(48));
			assert_true(mark_take(block));
		}
	}
	end(heap);
}

struct run {
	uintptr_t heap;
	size_t handed_out;
	unsigned char number;
};

static void *run(void *argument) {
	struct run *r = argument;
	unsigned char *mine[200] = { NULL };
	for (size_t i = 0; i < 4000; i++) {
		unsigned char **slot = &mine[i * 7 % 200];
		if (*slot != NULL) {
			for (size_t b = 16; b < 64; b++)
				if ((*slot)[b] != r->number) abort();
			if (!heap_cache_give(r->heap, *slot)) arena_give_alone(class_of_size(64), *slot);
			r->handed_out--;
		}
		*slot = take(r->heap, 64);
		memset(*slot, r->number, 64);
		r->handed_out++;
	}
	return NULL;
}

/* Several at a time; what they keep waits for the next ones, and is counted all the time. */
static void threads_come_and_go(void **state) {
	(void)state;
	const uintptr_t heap = made_create_heap("threads");
	for (int round = 0; round < 5; round++) {
		struct run runs[4];
		pthread_t threads[4];
		for (size_t t = 0; t < 4; t++) {
			runs[t] = (struct run){ heap, 0, (unsigned char)(t + 1) };
			assert_int_equal(pthread_create(&threads[t], NULL, run, &runs[t]), 0);
		}
		for (int i = 0; i < 50; i++) kept_of(heap);
		size_t handed_out = 0;
		for (size_t t = 0; t < 4; t++) {
			pthread_join(threads[t], NULL);
			handed_out += runs[t].handed_out;
		}
		assert_int_equal(out_of(heap, 64), handed_out + kept_of(heap));
		size_t records = 0;
		for (struct heap_cache *c = made_arena_of_heap(heap)->heap_caches; c != NULL; c = c->next) {
			assert_false(c->owned);
			records++;
		}
		assert_true(records > 0 && records <= 4);
		made_reset(made_arena_of_heap(heap)->number);
	}
	end(heap);
}

static void *take_and_give(void *heap) {
	void *blocks[100];
	for (size_t i = 0; i < 100; i++) blocks[i] = take((uintptr_t)heap, 64);
	for (size_t i = 0; i < 100; i++)
		if (!heap_cache_give((uintptr_t)heap, blocks[i])) abort();
	return NULL;
}

/* Once it was looked at often enough. Whoever takes what is left over begins anew. */
static void what_nobody_has_goes_back(void **state) {
	(void)state;
	const uintptr_t heap = made_create_heap("left");
	for (int round = 0; round < 10; round++) {
		pthread_t thread;
		assert_int_equal(pthread_create(&thread, NULL, take_and_give, (void *)heap), 0);
		pthread_join(thread, NULL);
		const size_t kept = kept_of(heap);
		assert_true(kept > 0);
		assert_int_equal(out_of(heap, 64), kept);
		for (int look = 0; look < 3; look++) assert_true(heap_caches_drain(3));
		assert_int_equal(kept_of(heap), kept);
		assert_false(heap_caches_drain(3));
		assert_int_equal(kept_of(heap), 0);
		assert_int_equal(out_of(heap, 64), 0);
		take_and_give((void *)heap);
		assert_int_equal(out_of(heap, 64), kept_of(heap));
		assert_false(heap_caches_drain(0)); /* this thread has it */
		assert_true(kept_of(heap) > 0);
		tcache_flush();
		heap_caches_drain(0);
		assert_int_equal(out_of(heap, 64), 0);
		if (round % 2 == 0) made_reset(made_arena_of_heap(heap)->number);
	}
	end(heap);
}

static _Atomic bool stop;

static void *drain_all_the_time(void *unused) {
	while (!stop) heap_caches_drain(0);
	return unused;
}

/* A reset and what is given back just then do not meet. */
static void drains_go_on_while_heaps_are_reset(void **state) {
	(void)state;
	const uintptr_t heap = made_create_heap("drained");
	pthread_t drains;
	stop = false;
	assert_int_equal(pthread_create(&drains, NULL, drain_all_the_time, NULL), 0);
	for (int round = 0; round < 200; round++) {
		for (size_t size = 16; size <= TABLE_MAX; size += 16) take(heap, size);
		tcache_leave_heaps();
		made_reset(made_arena_of_heap(heap)->number);
		for (unsigned c = 1; c < CLASS_COUNT; c++) assert_int_equal(out_of(heap, size_classes[c].size), 0);
	}
	stop = true;
	pthread_join(drains, NULL);
	end(heap);
}

/* A thread keeps blocks of a few, and leaves the others where they are found again. */
static void many_heaps_by_turns(void **state) {
	(void)state;
	enum { HEAPS = 3 * HEAPS_OF_THREAD };
	uintptr_t heaps[HEAPS];
	for (size_t h = 0; h < HEAPS; h++) heaps[h] = made_create_heap(NULL);
	for (size_t i = 0; i < 200; i++)
		for (size_t h = 0; h < HEAPS; h++)
			assert_ptr_equal(made_heap_of_block(take(heaps[h], 80)), made_arena_of_heap(heaps[h]));
	for (size_t h = 0; h < HEAPS; h++) {
		assert_int_equal(out_of(heaps[h], 80), 200 + kept_of(heaps[h]));
		assert_non_null(made_arena_of_heap(heaps[h])->heap_caches);
		assert_null(made_arena_of_heap(heaps[h])->heap_caches->next);
		end(heaps[h]);
		assert_null(made_arena_of_heap(heaps[h]));
	}
	/* those who had a cache of them have none any more */
	const uintptr_t next = made_create_heap(NULL);
	take(next, 80);
	assert_int_equal(out_of(next, 80), 1 + kept_of(next));
	end(next);
}

static pthread_barrier_t barrier;

static void *keep_some(void *heap) {
	take((uintptr_t)heap, 32);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return NULL;
}

/* What the threads of its parent had is nobody's there, and serves whoever comes. */
static void a_child_finds_what_others_kept(void **state) {
	(void)state;
	const uintptr_t heap = made_create_heap("fork");
	pthread_t thread;
	int status;
	pthread_barrier_init(&barrier, NULL, 2);
	take(heap, 32);
	assert_int_equal(pthread_create(&thread, NULL, keep_some, (void *)heap), 0);
	pthread_barrier_wait(&barrier);
	const pid_t child = fork();
	if (child == 0) {
		const struct heap_cache *c = made_arena_of_heap(heap)->heap_caches;
		size_t owned = 0, others = 0;
		for (; c != NULL; c = c->next) c->owned ? owned++ : others++;
		_exit(owned == 1 && others == 1 && take(heap, 32) != NULL ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&barrier);
	end(heap);
}

/* ---- what is under way ---- */

static _Atomic bool waits;

static void wait_while_it_is_freed(const void *block) {
	(void)block;
	if (!waits) return;
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
}

static void *destroy_it(void *heap) {
	end((uintptr_t)heap);
	return NULL;
}

/* Nobody destroys it there: who makes the next heap finishes it. */
static void a_child_finishes_what_others_destroyed(void **state) {
	(void)state;
	const uintptr_t heap = made_create_heap("half gone");
	struct arena *arena = made_arena_of_heap(heap);
	pthread_t thread;
	int status;
	take(heap, 64);
	assert_non_null(made_allocate(arena->number, 100000, MIN_ALIGN, false, FAMILY_MALLOC));
	assert_non_null(made_allocate(arena->number, 100000, MIN_ALIGN, false, FAMILY_MALLOC));
	pthread_barrier_init(&barrier, NULL, 2);
	waits = true;
	atomic_store(&sample_hooks.freed, wait_while_it_is_freed);
	assert_int_equal(pthread_create(&thread, NULL, destroy_it, (void *)heap), 0);
	pthread_barrier_wait(&barrier);
	waits = false;
	const pid_t child = fork();
	if (child == 0) {
		const uintptr_t next = made_create_heap("next");
		const bool finished = made_arena_of_heap(next) == arena && made_figures(arena->number).blocks == 0 &&
		                      out_of(next, 64) == 0 && take(next, 64) != NULL;
		_exit(finished ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	atomic_store(&sample_hooks.freed, NULL);
	pthread_barrier_destroy(&barrier);
	assert_int_equal(status, 0);
}

/* While one moves, others take the room in the table, which cannot grow. */
static void a_block_that_moves_is_not_forgotten(void **state) {
	(void)state;
	const uintptr_t heap = made_create_heap("moves");
	const uint32_t number = made_arena_of_heap(heap)->number;
	enum { BLOCKS = 5000, MOST = 20000 };
	static void *blocks[BLOCKS];
	size_t others = 0;
	const int64_t before = conf.cap;
	for (size_t i = 0; i < BLOCKS; i++) blocks[i] = made_allocate(number, 33000, 16, false, FAMILY_MALLOC);
	for (size_t i = 0; i < 100; i++) assert_int_equal(made_take_out(blocks[i]), number);
	conf.cap = 1; /* a long table is refused */
	while (others < MOST && made_put(number, (void *)(16 * (others + 1)), 16, FAMILY_MALLOC)) others++;
	assert_true(others < MOST);
	for (size_t i = 0; i < 100; i++) made_put_back(number, blocks[i], 33000);
	for (size_t i = 0; i < 100; i++) assert_ptr_equal(made_heap_of_block(blocks[i]), arena_list[number]);
	for (; others > 0; others--) assert_int_equal(made_take_out((void *)(16 * others)), number);
	conf.cap = before;
	end(heap);
	assert_int_equal(made_figures(number).blocks, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_handed_out_once),
		cmocka_unit_test(a_reset_forgets_what_is_kept),
		cmocka_unit_test(marks_of_earlier_epochs_do_no_harm),
		cmocka_unit_test(threads_come_and_go),
		cmocka_unit_test(what_nobody_has_goes_back),
		cmocka_unit_test(drains_go_on_while_heaps_are_reset),
		cmocka_unit_test(many_heaps_by_turns),
		cmocka_unit_test(a_child_finds_what_others_kept),
		cmocka_unit_test(a_child_finishes_what_others_destroyed),
		cmocka_unit_test(a_block_that_moves_is_not_forgotten),
	};

	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
