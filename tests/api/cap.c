/* The hard cap: allocations beyond it fail with ENOMEM, in every function and mode, the process never takes more memory, and what is freed
 * can be had again.
 *
 * cap: the tests. cap fill: under ARENAL_CAP, says how many MiB of blocks there are to be had. */
#include "stamp.h"
#include "support.h"

#include <arenal/arenal.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* For blocks, beside what there is when it is set. */
#define ROOM (16 * MIB)

/* What the process may take beyond: stacks and libc's own, the heap profile's stacks, the trace's chunks, a span or two of a thread. */
#define SLACK (4 * MIB)

static struct arenal_stats stats_now(void) {
	struct arenal_stats stats;

	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats;
}

/* Sets the cap to what there is, and so much more. */
static void set_cap(size_t room) {
	arenal_purge();
	CHILD_CHECK(arenal_set("cap", (int64_t)(stats_now().cap_used + room)) == 0);
}

/* While no other thread does anything, and the heap is too small for huge pages, the sum of all records is what counts. */
static void check_count(void) {
	const struct arenal_stats s = stats_now();

	CHILD_CHECK(s.cap_used == s.resident + s.metadata);
	CHILD_CHECK(s.cap_used <= s.cap + MIB); /* short records are not refused */
}

/* ---- each function ---- */

static void *by_malloc(size_t size) { return malloc(size); }
static void *by_calloc(size_t size) { return calloc(1, size); }
static void *by_realloc(size_t size) { return realloc(NULL, size); }
static void *by_reallocarray(size_t size) { return reallocarray(NULL, 1, size); }
static void *by_aligned_alloc(size_t size) { return aligned_alloc(64, size); }
static void *by_memalign(size_t size) { return memalign(32, size); }
static void *by_valloc(size_t size) { return size < 4096 ? malloc(size) : valloc(size); }
static void *by_posix_memalign(size_t size) {
	void *block = NULL;
	const int error = posix_memalign(&block, 64, size);

	CHILD_CHECK(block ? error == 0 : error == ENOMEM);
	if (error != 0)
		errno = error;
	return block;
}
static void *by_growing(size_t size) {
	void *small = malloc(size / 2), *grown = small ? realloc(small, size) : NULL;

	if (small && !grown)
		free(small);
	return grown;
}

static void *(*const ways[])(size_t) = {
	by_malloc, by_calloc, by_realloc, by_reallocarray, by_aligned_alloc, by_memalign, by_valloc, by_posix_memalign, by_growing,
};

/* Blocks in a chain, so that keeping them needs no memory. */
struct link {
	struct link *next;
	size_t size;
};

static bool add(struct link **chain, size_t size, void *(*way)(size_t)) {
	errno = 0;
	struct link *block = way(size);
	CHILD_CHECK(block || errno == ENOMEM);
	if (!block)
		return false;
	memset(block, 0x5a, size);
	*block = (struct link){ *chain, size };
	*chain = block;
	return true;
}

/* Until all ways are refused. Returns the bytes. */
static size_t fill(struct link **chain, size_t size) {
	size_t total = 0;

	for (size_t refused = 0, i = 0; refused < COUNT_OF(ways); i++) {
		const bool added = add(chain, size, ways[i % COUNT_OF(ways)]);

		refused = added ? 0 : refused + 1;
		total += added ? size : 0;
		CHILD_CHECK(total < 8 * ROOM);
	}
	return total;
}

static void free_all(struct link **chain) {
	while (*chain) {
		struct link *block = *chain;

		*chain = block->next;
		CHILD_CHECK(((unsigned char *)block)[block->size - 1] == 0x5a || block->size <= sizeof *block);
		free(block);
	}
}

static const size_t sizes[] = { 48, 100, 5000, 50000, 300000, 3 * MIB };

/* Again and again, sizes in any order: what the others left serves the next one. */
static void every_way(void *argument) {
	(void)argument;
	struct link *chain = NULL;

	set_cap(ROOM);
	const size_t before = resident_bytes();
	for (size_t round = 0; round < 2 * COUNT_OF(sizes); round++) {
		const size_t size = sizes[round * 5 % COUNT_OF(sizes)];
		/* What went lazily may be there still, and counts. */
		CHILD_CHECK(arenal_set("lazy_purge", round >= COUNT_OF(sizes)) == 0);
		const uint64_t failures = stats_now().failures_total;
		const size_t total = fill(&chain, size);

		CHILD_CHECK(total <= ROOM);
		/* Hardened, profiled and small blocks have more beside them than others. */
		CHILD_CHECK(total >= ROOM / 4 || (size >= MIB && total >= ROOM / 8));
		CHILD_CHECK(resident_bytes() <= before + ROOM + SLACK);
		CHILD_CHECK(stats_now().failures_total > failures);
		check_count();
		free_all(&chain);
	}
	CHILD_CHECK(arenal_set("cap", 0) == 0);
	void *block = malloc(2 * ROOM);
	CHILD_CHECK(block);
	free(block);
}

static void no_function_goes_beyond(void **state) {
	(void)state;
	assert_int_equal(run_in_child(every_way, NULL), 0);
}

/* ---- realloc ---- */

static void grow_beyond(void *argument) {
	(void)argument;
	static const size_t starts[] = { 100, 5000, 100000, 2 * MIB };

	for (size_t i = 0; i < COUNT_OF(starts); i++) {
		char *block = malloc(starts[i]);
		CHILD_CHECK(block);
		stamp_block(block, starts[i], i);
		set_cap(8 * MIB);
		errno = 0;
		CHILD_CHECK(realloc(block, 30 * MIB) == NULL && errno == ENOMEM);
		errno = 0;
		CHILD_CHECK(reallocarray(block, 30, MIB) == NULL && errno == ENOMEM);
		CHILD_CHECK(stamp_intact(block, starts[i], i));
		const uint64_t key = stamp_key(block, starts[i], i);
		CHILD_CHECK((block = realloc(block, 4 * MIB)) != NULL);
		CHILD_CHECK(stamp_holds(block, starts[i], key));
		free(block);
		CHILD_CHECK(arenal_set("cap", 0) == 0);
	}
	/* A long block grows where less is left than it is long. Free memory is in its way, and goes. */
	struct link *chain = NULL;
	char *block = malloc(8 * MIB);
	CHILD_CHECK(block);
	set_cap(8 * MIB);
	for (int i = 0; i < 40; i++)
		CHILD_CHECK(add(&chain, 100000, by_malloc));
	free_all(&chain);
	CHILD_CHECK((block = realloc(block, 14 * MIB)) != NULL);
	check_count();
	free(block);
}

static void realloc_keeps_the_block(void **state) {
	(void)state;
	assert_int_equal(run_in_child(grow_beyond, NULL), 0);
}

/* ---- free memory between blocks ---- */

/* Everything but one block of 300. */
static struct link *free_most(struct link *chain) {
	struct link *kept = NULL;

	for (size_t count = 0; chain; count++) {
		struct link *block = chain;

		chain = block->next;
		if (count % 300 == 0) {
			block->next = kept;
			kept = block;
		} else {
			free(block);
		}
	}
	return kept;
}

/* Of many small blocks few stay, all over the place: a long block gets the memory between them. Filling the gaps is refused then, for it
 * would take the memory a second time. */
static void fill_the_gaps(void *argument) {
	(void)argument;
	struct link *chain = NULL, *again = NULL;

	set_cap(ROOM);
	const size_t before = resident_bytes();
	fill(&chain, 200);
	struct link *kept = free_most(chain);
	chain = NULL;
	CHILD_CHECK(add(&chain, ROOM / 3, by_malloc));
	check_count();
	for (size_t total = 0; add(&again, 200, by_malloc); total += 200)
		CHILD_CHECK(total < 8 * ROOM);
	check_count();
	CHILD_CHECK(resident_bytes() <= before + ROOM + SLACK);
	free_all(&chain);
	CHILD_CHECK(add(&again, 200, by_malloc));
	free_all(&again);
	free_all(&kept);
}

static void purged_memory_is_had_again(void **state) {
	(void)state;
	assert_int_equal(run_in_child(fill_the_gaps, NULL), 0);
}

/* The gaps of what is free as a whole are no memory for which nobody asked. Other threads take whatever they get, while the last blocks
 * between the gaps go. */
enum { TAKERS = 3 };
static _Atomic bool enough;

static void *take_what_there_is(void *argument) {
	struct link *chain = NULL;

	(void)argument;
	while (!enough)
		add(&chain, 60000, by_malloc);
	return chain;
}

static void wait_for_refusals(void) {
	for (const uint64_t failures = stats_now().failures_total; stats_now().failures_total < failures + 2;)
		sched_yield();
}

static void free_between_gaps(void *argument) {
	(void)argument;
	pthread_t threads[TAKERS];
	void *taken[TAKERS];
	struct link *chain = NULL, *reserve = NULL;

	set_cap(4 * ROOM);
	CHILD_CHECK(add(&reserve, TAKERS * MIB, by_malloc)); /* for the threads */
	fill(&chain, 200);
	struct link *kept = free_most(chain);
	arenal_purge();
	free_all(&reserve);
	for (size_t i = 0; i < TAKERS; i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, take_what_there_is, NULL) == 0);
	wait_for_refusals();
	free_all(&kept);
	wait_for_refusals();
	enough = true;
	for (size_t i = 0; i < TAKERS; i++)
		CHILD_CHECK(pthread_join(threads[i], &taken[i]) == 0);
	CHILD_CHECK(stats_now().cap_used <= stats_now().cap + MIB);
	for (size_t i = 0; i < TAKERS; i++)
		free_all((struct link **)&taken[i]);
	check_count();
}

static void gaps_are_not_taken_without_asking(void **state) {
	(void)state;
	assert_int_equal(run_in_child(free_between_gaps, NULL), 0);
}

/* The same with the blocks of a heap, which come from its arena in another way. */
static void fill_the_gaps_of_a_heap(void *argument) {
	(void)argument;
	enum { SIZE = 200, KEPT_EACH = 300, MOST = ROOM / SIZE };
	static void *blocks[MOST];
	struct link *chain = NULL;
	size_t count = 0, again = 0;

	set_cap(ROOM);
	const size_t before = resident_bytes();
	arenal_heap *heap = arenal_heap_create("gaps");
	CHILD_CHECK(heap);
	for (; count < MOST && (blocks[count] = arenal_heap_alloc(heap, SIZE)) != NULL; count++)
		memset(blocks[count], 1, SIZE);
	CHILD_CHECK(count >= ROOM / 4 / SIZE && count < MOST);
	for (size_t i = 0; i < count; i++)
		if (i % KEPT_EACH != 0)
			arenal_heap_free(heap, blocks[i]);
	CHILD_CHECK(add(&chain, ROOM / 3, by_malloc));
	check_count();
	for (void *block; (block = arenal_heap_alloc(heap, SIZE)) != NULL; again++) {
		CHILD_CHECK(again < count);
		memset(block, 1, SIZE);
	}
	CHILD_CHECK(stats_now().cap_used <= stats_now().cap + MIB);
	CHILD_CHECK(resident_bytes() <= before + ROOM + SLACK);
	free_all(&chain);
	CHILD_CHECK(arenal_heap_alloc(heap, SIZE));
	arenal_heap_destroy(heap);
}

static void a_heap_fills_no_gaps_beyond_it(void **state) {
	(void)state;
	assert_int_equal(run_in_child(fill_the_gaps_of_a_heap, NULL), 0);
}

/* ---- threads ---- */

enum { THREADS = 8 };
static pthread_barrier_t barrier;
static _Atomic size_t thread_bytes;

static void *fill_and_free(void *argument) {
	struct link *chain = NULL;

	pthread_barrier_wait(&barrier); /* all are there: to start one takes memory, too */
	for (int round = 0; round < 3; round++) {
		const size_t size = sizes[((size_t)(uintptr_t)argument + (size_t)round) % COUNT_OF(sizes)];
		while (add(&chain, size, by_malloc))
			CHILD_CHECK((thread_bytes += size) < 8 * ROOM);
		pthread_barrier_wait(&barrier);
		if (argument == NULL) {
			CHILD_CHECK(thread_bytes <= ROOM + THREADS * MIB && thread_bytes >= ROOM / 8);
			thread_bytes = 0;
			CHILD_CHECK(stats_now().cap_used <= stats_now().cap + MIB);
		}
		pthread_barrier_wait(&barrier);
		free_all(&chain);
	}
	return NULL;
}

static void fill_by_threads(void *argument) {
	(void)argument;
	pthread_t threads[THREADS];

	pthread_barrier_init(&barrier, NULL, THREADS);
	set_cap(ROOM + THREADS * MIB); /* each thread has records, too */
	const size_t before = resident_bytes();
	for (size_t i = 0; i < THREADS; i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, fill_and_free, (void *)(uintptr_t)i) == 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHILD_CHECK(resident_bytes() <= before + ROOM + 2 * THREADS * MIB);
}

static void threads_share_it(void **state) {
	(void)state;
	assert_int_equal(run_in_child(fill_by_threads, NULL), 0);
}

/* Of one that goes on and on at the cap, with blocks that come and go: its refusals cost no records, which would stay, and count. The main
 * thread lives on the break, another one in mapped regions. */
static void *go_on_at_the_cap(void *argument) {
	(void)argument;
	enum { BLOCKS = 80, CALLS = 8000, FIRST = 2000 };
	static void *blocks[BLOCKS];
	uint32_t number = 1;
	size_t refused = 0;
	struct arenal_stats then = { 0 };

	for (int call = 0; call < CALLS; call++) {
		number = number * 1103515245 + 12345;
		void **place = &blocks[(number >> 8) % BLOCKS];
		free(*place);
		*place = malloc((number >> 20) % 4 ? 30000 + (number >> 9) % 500000 : (number >> 9) % 3000000);
		refused += *place == NULL;
		if (call == FIRST)
			then = stats_now();
	}
	CHILD_CHECK(refused >= CALLS / 20 && refused < CALLS);
	/* One region more, once, is no refusal's: while the purger has free slices in its hands, nobody finds them. */
	CHILD_CHECK(stats_now().metadata < then.metadata + MIB);
	for (size_t i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	return NULL;
}

static void go_on_in_a_thread(void *argument) {
	(void)argument;
	pthread_t thread;

	set_cap(ROOM + MIB);
	CHILD_CHECK(pthread_create(&thread, NULL, go_on_at_the_cap, NULL) == 0);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void refusals_cost_no_records(void **state) {
	(void)state;
	assert_int_equal(run_in_child(go_on_in_a_thread, NULL), 0);
}

/* A thread that starts when all is taken gets no memory, but may free, and has some then. */
static void *begin_at_the_cap(void *chain) {
	void *block = malloc(3 * MIB);

	CHILD_CHECK(block == NULL && errno == ENOMEM);
	free_all(chain);
	struct link *own = NULL;
	CHILD_CHECK(add(&own, 3 * MIB, by_malloc) && add(&own, 100, by_malloc));
	free_all(&own);
	return NULL;
}

static void start_a_thread(void *argument) {
	(void)argument;
	struct link *chain = NULL;
	pthread_t thread;

	void *reserve = malloc(512 * KIB); /* libc asks for some hundred bytes */
	set_cap(ROOM);
	fill(&chain, 3 * MIB);
	fill(&chain, 5000);
	free(reserve);
	CHILD_CHECK(pthread_create(&thread, NULL, begin_at_the_cap, &chain) == 0);
	CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void a_thread_starts_at_the_cap(void **state) {
	(void)state;
	assert_int_equal(run_in_child(start_a_thread, NULL), 0);
}

/* ---- children ---- */

static _Atomic bool stop;

static void *map_and_unmap(void *argument) {
	pthread_barrier_wait(&barrier);
	while (!stop) {
		struct link *chain = NULL;

		for (size_t i = 0; i < 3; i++)
			add(&chain, sizes[(size_t)(uintptr_t)argument % COUNT_OF(sizes)], ways[i]);
		free_all(&chain);
	}
	return NULL;
}

static void expect_child(void (*body)(void)) {
	int status;
	const pid_t child = fork();

	CHILD_CHECK(child >= 0);
	if (child == 0) {
		body();
		_exit(0);
	}
	CHILD_CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static struct link *inherited;

/* What other threads of the parent were about to take is not missing here. */
static void use_all(void) {
	struct link *chain = NULL;

	CHILD_CHECK(malloc(2 * ROOM) == NULL && errno == ENOMEM);
	CHILD_CHECK(fill(&chain, 300000) >= ROOM / 4);
	check_count();
	free_all(&chain);
	free_all(&inherited);
	CHILD_CHECK(add(&chain, ROOM / 4, by_malloc));
}

static void fork_while_others_take(void *argument) {
	(void)argument;
	pthread_t threads[THREADS];

	pthread_barrier_init(&barrier, NULL, THREADS);
	set_cap(2 * ROOM);
	CHILD_CHECK(add(&inherited, 5 * MIB, by_malloc));
	for (size_t i = 0; i < THREADS; i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, map_and_unmap, (void *)(uintptr_t)i) == 0);
	for (int i = 0; i < 10; i++)
		expect_child(use_all);
	stop = true;
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void children_have_the_same(void **state) {
	(void)state;
	assert_int_equal(run_in_child(fork_while_others_take, NULL), 0);
}

/* ---- the tunable ---- */

static void change_it(void *argument) {
	(void)argument;
	char *block = malloc(8 * MIB);
	int64_t value;

	CHILD_CHECK(block);
	memset(block, 1, 8 * MIB);
	/* Less than there is: nothing more, until enough was freed. */
	CHILD_CHECK(arenal_set("cap", (int64_t)(stats_now().cap_used - 4 * MIB)) == 0);
	CHILD_CHECK(arenal_get("cap", &value) == 0 && (uint64_t)value == stats_now().cap);
	CHILD_CHECK(malloc(MIB + 1) == NULL && errno == ENOMEM);
	free(block);
	CHILD_CHECK((block = malloc(2 * MIB)) != NULL);
	free(block);
	CHILD_CHECK(arenal_set("cap", -1) == EINVAL);
	CHILD_CHECK(arenal_set("cap", 0) == 0);
	CHILD_CHECK((block = malloc(8 * MIB)) != NULL);
	free(block);
	/* Near it, free memory is not kept, as near a limit of the system's. */
	set_cap(ROOM);
	CHILD_CHECK((block = malloc(ROOM - 2 * MIB)) != NULL);
	free(malloc(MIB + 1));
	CHILD_CHECK(stats_now().pressure > 0);
	free(block);
}

static void it_changes_while_the_process_runs(void **state) {
	(void)state;
	assert_int_equal(run_in_child(change_it, NULL), 0);
}

static void it_counts_from_the_start(void **state) {
	(void)state;
	const char *arguments[] = { "/proc/self/exe", "fill", NULL }, *changes[] = { "ARENAL_CAP=40M", NULL };
	static struct outcome outcome;

	run_program(&outcome, arguments, changes, NULL);
	assert_int_equal(outcome.status, 0);
	assert_string_equal(outcome.err, "");
	assert_in_range(strtoul(outcome.out, NULL, 10), 10, 40);
}

static int tell_how_much(void) {
	struct link *chain = NULL;

	printf("%zu\n", fill(&chain, 300000) / MIB);
	return 0;
}

/* ---- arenas of a program's own, by jemalloc's interface ---- */

extern void *mallocx(size_t size, int flags);
extern int mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length);

static void fill_an_arena(void *argument) {
	(void)argument;
	unsigned arena;
	size_t length = sizeof arena, total = 0;
	char name[64];

	CHILD_CHECK(mallctl("arenas.create", &arena, &length, NULL, 0) == 0);
	snprintf(name, sizeof name, "arena.%u.reset", arena);
	set_cap(ROOM);
	for (int round = 0; round < 2; round++) {
		for (total = 0; total <= 2 * ROOM && mallocx(2000, (int)(arena + 1) << 20) != NULL; total += 2000)
			;
		CHILD_CHECK(total >= ROOM / 4 && total <= ROOM);
		CHILD_CHECK(mallctl(name, NULL, NULL, NULL, 0) == 0);
	}
}

static void arenas_of_a_program_count(void **state) {
	(void)state;
	assert_int_equal(run_in_child(fill_an_arena, NULL), 0);
}

int main(int argc, char **argv) {
	if (argc > 1 && strcmp(argv[1], "fill") == 0)
		return tell_how_much();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_function_goes_beyond),
		cmocka_unit_test(realloc_keeps_the_block),
		cmocka_unit_test(purged_memory_is_had_again),
		cmocka_unit_test(gaps_are_not_taken_without_asking),
		cmocka_unit_test(a_heap_fills_no_gaps_beyond_it),
		cmocka_unit_test(threads_share_it),
		cmocka_unit_test(refusals_cost_no_records),
		cmocka_unit_test(a_thread_starts_at_the_cap),
		cmocka_unit_test(children_have_the_same),
		cmocka_unit_test(it_changes_while_the_process_runs),
		cmocka_unit_test(it_counts_from_the_start),
		cmocka_unit_test(arenas_of_a_program_count),
	};
	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
