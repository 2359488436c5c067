/* cache/drain.c: one barrier of the purger's serves many caches, and nobody waits for it: what a slow path comes to meanwhile is not drained.
 * Who asks for all gets all. */
#include "barrier.h"
#include "unit.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena/policy.h"
#include "arena/wave.h"
#include "base/conf.h"
#include "cache/caches.h"
#include "cache/magazine.h"

enum { SIZE = 112, BLOCKS = 40, SECONDS = 20 };

/* ---- threads that sleep with something in their caches, and do what they are told ---- */

struct sleeper {
	pthread_t thread;
	struct tcache *cache;
	void (*task)(struct sleeper *self); /* NULL: end */
	sem_t told, done;
	void *block; /* the task's */
};

/* Blocks in its magazine, and a kept run. */
static void fill(void) {
	void *blocks[BLOCKS], *run = arenal_test_malloc(2 * SLICE_SIZE);
	for (int i = 0; i < BLOCKS; i++) blocks[i] = arenal_test_malloc(SIZE);
	for (int i = 0; i < BLOCKS; i++) arenal_test_free(blocks[i]);
	arenal_test_free(run);
}

static void *sleeper_main(void *sleeper) {
	struct sleeper *self = sleeper;
	fill();
	self->cache = tcache_current;
	sem_post(&self->done);
	for (;;) {
		while (sem_wait(&self->told) != 0) {}
		if (self->task == NULL) return NULL;
		self->task(self);
		sem_post(&self->done);
	}
}

/* False when it has not done it for a long time: it waits for somebody. */
static bool wait_for(sem_t *semaphore) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += SECONDS;
	return sem_timedwait(semaphore, &until) == 0;
}

static void begin(struct sleeper *self) {
	sem_init(&self->told, 0, 0);
	sem_init(&self->done, 0, 0);
	assert_int_equal(pthread_create(&self->thread, NULL, sleeper_main, self), 0);
	assert_true(wait_for(&self->done));
}

static bool tell(struct sleeper *self, void (*task)(struct sleeper *)) {
	self->task = task;
	sem_post(&self->told);
	return wait_for(&self->done);
}

static void end(struct sleeper *self) {
	self->task = NULL;
	sem_post(&self->told);
	pthread_join(self->thread, NULL);
	sem_destroy(&self->told);
	sem_destroy(&self->done);
}

static const struct magazine *magazine_in(const struct tcache *tc) { return &tc->magazines[class_of_size(SIZE)]; }
static size_t blocks_in(const struct tcache *tc) { return (size_t)(magazine_in(tc)->top - magazine_in(tc)->empty); }

/* malloc finds its way to the magazine again. */
static bool is_over(const struct tcache *tc) { return tc->drain == NULL && tc->tag_of_size[SIZE / MIN_ALIGN] != 0; }

/* Nothing of it has gone. */
static bool is_as_before(const struct tcache *tc, size_t blocks) {
	return blocks_in(tc) == blocks && tc->run_cache.slices == 2 && tc->run_cache.limit > 0 && is_over(tc);
}

static bool is_drained(const struct tcache *tc) {
	return blocks_in(tc) == 1 && tc->run_cache.slices == 0 && is_over(tc);
}

/* ---- what happens during a barrier ---- */

static int barriers;

static bool count(void) {
	barriers++;
	return true;
}

/* A drain of all (`looks` 0), or, as the purger's, of what was the same at the last look (1). */
static bool drain_during(unsigned looks, bool (*during)(void)) {
	if (looks > 0) tcache_drain(looks);
	barriers = 0;
	during_barrier = during;
	const bool more_later = tcache_drain(looks);
	during_barrier = NULL;
	return more_later;
}

#define BARRIERS_OF_ONE (STORES_ARE_SEEN_IN_ORDER ? 1 : 2)

static void one_barrier_serves_many_caches(void **state) {
	(void)state;
	enum { SLEEPERS = 100, AT_ONCE = 64 };
	static struct sleeper sleepers[SLEEPERS];
	need_barrier();
	/* Room for a kept run in each. */
	for (int i = 0; i < 20; i++) begin(&sleepers[i]);
	tcache_flush();
	drain_during(1, count);
	assert_int_equal(barriers, BARRIERS_OF_ONE);
	for (int i = 0; i < 20; i++) assert_true(is_drained(sleepers[i].cache));
	for (int i = 20; i < SLEEPERS; i++) begin(&sleepers[i]);
	for (int i = 0; i < 20; i++) assert_int_equal(blocks_in(sleepers[i].cache), 1);
	tcache_flush();
	drain_during(1, count);
	assert_int_equal(barriers, (SLEEPERS - 20 + AT_ONCE - 1) / AT_ONCE * BARRIERS_OF_ONE);
	for (int i = 0; i < SLEEPERS; i++) assert_int_equal(blocks_in(sleepers[i].cache), 1);
	for (int i = 0; i < SLEEPERS; i++) end(&sleepers[i]);
}

static struct sleeper one, two;
static size_t blocks_before;
static bool came;

static void begin_one(void) {
	need_barrier();
	begin(&one);
	tcache_flush();
	blocks_before = blocks_in(one.cache);
	assert_true(blocks_before > 3 && is_as_before(one.cache, blocks_before));
	came = false;
}

static void take_a_block(struct sleeper *self) { self->block = arenal_test_malloc(SIZE); }
static void give_it_back(struct sleeper *self) { arenal_test_free(self->block); }

static void take_and_give_a_run(struct sleeper *self) {
	self->block = arenal_test_malloc(3 * SLICE_SIZE);
	arenal_test_free(self->block);
}

static bool its_thread_takes_a_block(void) {
	if (!came) came = tell(&one, take_a_block) && blocks_in(one.cache) == blocks_before - 1;
	return true;
}

static void its_thread_does_not_wait(void **state) {
	(void)state;
	begin_one();
	assert_true(drain_during(1, its_thread_takes_a_block)); /* more is to be looked for later */
	assert_true(came);
	assert_false(cache_record_of(one.cache)->quiet);
	assert_int_equal(blocks_in(one.cache), blocks_before - 1);
	assert_true(is_over(one.cache));
	/* What its thread did not use has gone. */
	assert_int_equal(one.cache->run_cache.slices, 0);
	/* The same block goes back to the same place, and all is drained the next time. */
	assert_true(tell(&one, give_it_back));
	assert_int_equal(blocks_in(one.cache), blocks_before);
	assert_ptr_equal(magazine_in(one.cache)->top[-1], one.block);
	assert_false(drain_during(0, count));
	assert_true(is_drained(one.cache));
	end(&one);
}

static bool its_thread_keeps_a_run(void) {
	if (!came) came = tell(&one, take_and_give_a_run) && one.cache->run_cache.slices == 5;
	return true;
}

static void nor_for_a_large_block(void **state) {
	(void)state;
	begin_one();
	assert_true(drain_during(1, its_thread_keeps_a_run));
	assert_true(came);
	assert_int_equal(one.cache->run_cache.slices, 5);
	assert_true(one.cache->run_cache.limit > 0);
	assert_int_equal(blocks_in(one.cache), 1);
	assert_false(drain_during(0, count));
	assert_true(is_drained(one.cache));
	end(&one);
}

/* What is counted as cached, others see at any moment. */
static bool somebody_counts(void) {
	size_t blocks[CLASS_COUNT], bytes, run_bytes, threads;
	tcache_blocks_get(blocks);
	tcache_stats_get(&bytes, &run_bytes, &threads);
	came = blocks[class_of_size(SIZE)] >= blocks_before && bytes >= blocks_before * SIZE && run_bytes == 2 * SLICE_SIZE;
	return true;
}

static void statistics_see_all_of_it(void **state) {
	(void)state;
	begin_one();
	assert_false(drain_during(1, somebody_counts));
	assert_true(came);
	assert_true(is_drained(one.cache));
	end(&one);
}

/* Who is told to give all back does, whatever the thread does meanwhile: its next slow path waits. */
static bool its_thread_wants_a_block(void) {
	if (!came) {
		one.task = take_a_block;
		sem_post(&one.told);
	}
	came = true;
	return true;
}

static void all_goes_when_told(void **state) {
	(void)state;
	begin_one();
	assert_false(drain_during(0, its_thread_wants_a_block));
	assert_true(came && wait_for(&one.done));
	assert_true(blocks_in(one.cache) < blocks_before - 1);
	assert_int_equal(one.cache->run_cache.slices, 0);
	assert_true(is_over(one.cache));
	assert_true(tell(&one, give_it_back));
	end(&one);
}

/* ---- all ways that malloc finds a magazine by ---- */

/* A class above TABLE_MAX; and an aligned block of one below. */
enum { COMPUTED = 2000, ALIGNED = 64, FEW = 4 };
static void *few[FEW];

static void fill_others(struct sleeper *self) {
	(void)self;
	void *blocks[BLOCKS];
	for (size_t size = ALIGNED; size <= COMPUTED; size += COMPUTED - ALIGNED) {
		for (int i = 0; i < BLOCKS; i++) blocks[i] = arenal_test_malloc(size);
		for (int i = 0; i < BLOCKS; i++) arenal_test_free(blocks[i]);
	}
}

static void take_computed(struct sleeper *self) {
	(void)self;
	for (int i = 0; i < FEW; i++) few[i] = arenal_test_malloc(COMPUTED);
}

static void take_aligned(struct sleeper *self) {
	(void)self;
	for (int i = 0; i < FEW; i++) few[i] = arenal_test_aligned_alloc(ALIGNED, ALIGNED);
}

static void (*task)(struct sleeper *);
static bool its_thread_does_it(void) {
	if (!came) came = tell(&one, task);
	return true;
}

static void no_way_is_left_open(void **state) {
	task = (void (*)(struct sleeper *))*state;
	begin_one();
	/* Only the magazines that are filled after this look are due. */
	drain_during(0, count);
	assert_true(tell(&one, fill_others));
	const unsigned class_ = class_of_size(task == take_computed ? COMPUTED : ALIGNED);
	const struct magazine *m = &one.cache->magazines[class_];
	const ptrdiff_t before = m->top - m->empty;
	assert_true(before > FEW);
	/* Of the other class, one block is left: what is due, only its own way leads to. */
	const unsigned other = class_of_size(task == take_computed ? ALIGNED : COMPUTED);
	one.cache->idle_blocks[other] = 0;
	tcache_drain(1);
	one.cache->idle_blocks[other] = 0; /* as if it had changed since */
	during_barrier = its_thread_does_it;
	tcache_drain(1);
	during_barrier = NULL;
	assert_true(came);
	assert_int_equal(m->top - m->empty, before - FEW);
	assert_true(one.cache->class_mask != 0 && is_over(one.cache));
	for (int i = 0; i < FEW; i++) assert_false(arena_has_free(span_of(few[i]), few[i]));
	for (int i = 0; i < FEW; i++) arenal_test_free(few[i]);
	end(&one);
}

static bool its_thread_ends(void) {
	if (!came) end(&one);
	came = true;
	return true;
}

static void its_thread_may_end(void **state) {
	(void)state;
	begin_one();
	struct arena *arena = one.cache->arena;
	drain_during(1, its_thread_ends);
	tcache_flush_all();
	tcache_end_parked();
	assert_int_equal(tcache_count(), 1);
	assert_int_equal(arena->bins[class_of_size(SIZE)].blocks_out, 0);
}

/* The next thread has the record of the cache, and perhaps its memory. */
static bool another_comes_in_its_place(void) {
	if (!came) {
		end(&one);
		tcache_end_parked();
		begin(&two);
		blocks_before = blocks_in(two.cache);
	}
	came = true;
	return true;
}

static void another_thread_s_is_left_alone(void **state) {
	(void)state;
	begin_one();
	const struct lock *lock = one.cache->lock;
	drain_during(1, another_comes_in_its_place);
	assert_ptr_equal(two.cache->lock, lock);
	assert_true(is_as_before(two.cache, blocks_before));
	end(&two);
}

/* Who wants all takes it, and then the first one has nothing left. */
static bool drain_within(void) {
	during_barrier = count;
	came = !tcache_drain(0) && is_drained(one.cache);
	return true;
}

static void a_second_drain_takes_over(void **state) {
	(void)state;
	begin_one();
	drain_during(1, drain_within);
	assert_true(came);
	assert_true(is_drained(one.cache));
	assert_int_equal(tcache_current->arena->bins[class_of_size(SIZE)].blocks_out +
	                     (one.cache->arena == tcache_current->arena ? 0 : one.cache->arena->bins[class_of_size(SIZE)].blocks_out),
	                 1);
	end(&one);
}

/* Two drains overlap: the second one has begun again with the cache, and waits for its own barrier, when the first one has passed
 * its own. */
static sem_t second_waits, second_goes_on;
static pthread_t second;
static _Thread_local bool is_second;

static void *drain_too(void *unused) {
	is_second = true;
	tcache_drain(1);
	tcache_drain(1);
	return unused;
}

static void fill_again(struct sleeper *self) {
	(void)self;
	fill();
}

/* What the first one has begun with goes meanwhile, and comes again. */
static bool second_begins(void) {
	if (is_second) {
		sem_post(&second_waits);
		return wait_for(&second_goes_on);
	}
	if (came) return true;
	came = true;
	tcache_drain(0);
	came = tell(&one, fill_again) && pthread_create(&second, NULL, drain_too, NULL) == 0 && wait_for(&second_waits);
	return true;
}

static int blocks_out(void) {
	int out = 0;
	for (uint32_t i = 0; i < arena_count; i++) out += (int)arena_list[i]->bins[class_of_size(SIZE)].blocks_out;
	return out;
}

static void each_drain_ends_its_own(void **state) {
	(void)state;
	begin_one();
	sem_init(&second_waits, 0, 0);
	sem_init(&second_goes_on, 0, 0);
	tcache_drain(1);
	during_barrier = second_begins;
	assert_true(tcache_drain(1));
	assert_true(came);
	assert_true(blocks_out() > 1);
	assert_int_equal(one.cache->tag_of_size[SIZE / MIN_ALIGN], 0);
	/* A look of the purger leaves it alone, and comes again. */
	assert_true(tcache_drain(1));
	assert_int_equal(one.cache->tag_of_size[SIZE / MIN_ALIGN], 0);
	sem_post(&second_goes_on);
	pthread_join(second, NULL);
	during_barrier = NULL;
	assert_true(is_drained(one.cache));
	end(&one);
}

/* A handler of a signal may fork. In the child, the drain goes on, and nothing of the parent's threads is in its way. */
static pid_t child;

static bool fork_within(void) {
	if (child == -1) child = fork();
	return true;
}

static void a_child_goes_on(void **state) {
	(void)state;
	begin_one();
	child = -1;
	drain_during(1, fork_within);
	if (child == 0) {
		alarm(SECONDS);
		bool good = caches.orphans != NULL;
		fill();
		tcache_flush_all();
		/* What was in the orphan is back, and what the thread had taken is not. */
		good &= caches.orphans == NULL && tcache_count() == 1;
		for (uint32_t i = 0; i < arena_count; i++) good &= arena_list[i]->bins[class_of_size(SIZE)].blocks_out <= 1;
		_exit(good ? 0 : 1);
	}
	assert_true(child > 0);
	assert_true(is_drained(one.cache));
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	end(&one);
}

/* Another thread forks meanwhile: in the child, its own magazines are found again. */
static void fork_and_look(struct sleeper *self) {
	(void)self;
	child = fork();
	if (child == 0) _exit(is_as_before(tcache_current, blocks_before) ? 0 : 1);
}

static bool its_thread_forks(void) {
	if (!came) came = tell(&one, fork_and_look);
	return true;
}

static void a_child_s_own_cache_is_whole(void **state) {
	(void)state;
	begin_one();
	drain_during(1, its_thread_forks);
	assert_true(came && child > 0);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(is_drained(one.cache));
	end(&one);
}

/* The heap profile and the trace lead threads away from their magazines, and back. */
static bool lead_away_and_back(void) {
	tcache_lead(false);
	came = one.cache->tag_of_size[SIZE / MIN_ALIGN] == 0;
	return true;
}

static void who_is_led_away_stays_so(void **state) {
	(void)state;
	begin_one();
	drain_during(1, lead_away_and_back);
	assert_true(came);
	assert_int_equal(one.cache->tag_of_size[SIZE / MIN_ALIGN], 0);
	assert_int_equal(blocks_in(one.cache), blocks_before);
	tcache_lead(true);
	assert_true(is_as_before(one.cache, blocks_before));
	end(&one);
}

/* The heap profile ends meanwhile: malloc finds its way again, to what is still there. */
static bool profile_ends(void) {
	if (!came) assert_true(tcache_sample(0));
	if (!came) came = tell(&one, take_a_block);
	return true;
}

static void the_end_of_a_profile_calls_it_off(void **state) {
	(void)state;
	begin_one();
	assert_true(tcache_sample(1 << 30));
	drain_during(1, profile_ends);
	assert_true(came);
	assert_true(is_as_before(one.cache, blocks_before - 1));
	assert_true(tell(&one, give_it_back));
	end(&one);
}

/* As a thread that has not seen yet that the way is closed. */
static bool all_are_taken(void) {
	struct magazine *m = &one.cache->magazines[class_of_size(SIZE)];
	if (!came) m->top = magazine_first_slot(one.cache, class_of_size(SIZE));
	came = true;
	return true;
}

static void nothing_may_be_left(void **state) {
	(void)state;
	begin_one();
	struct magazine *m = &one.cache->magazines[class_of_size(SIZE)];
	void **top = m->top;
	drain_during(1, all_are_taken);
	assert_true(came);
	assert_ptr_equal(m->empty, magazine_first_slot(one.cache, class_of_size(SIZE)));
	m->top = top;
	assert_true(is_over(one.cache));
	end(&one);
}

/* What a thread does to all of its cache, at its end or before its process grows. */
static void shorten_and_give(struct sleeper *self) {
	magazines_shorten(self->cache);
	magazines_give_idle(self->cache);
}

/* Or when one magazine grows: others look idle. */
static void grow_another(struct sleeper *self) {
	struct tcache *tc = self->cache;
	tc->slots[class_of_size(SIZE)].events = 0;
	tc->slots[class_of_size(SIZE)].seen = (uint16_t)blocks_in(tc);
	tc->events = MAGAZINE_EVENTS_BETWEEN_LOOKS - 1;
	arenal_test_free(arenal_test_malloc(COMPUTED));
	came = tc->events == MAGAZINE_EVENTS_BETWEEN_LOOKS;
}

static void its_thread_may_look_at_all(void **state) {
	begin_one();
	const int before = blocks_out();
	task = (void (*)(struct sleeper *))*state;
	drain_during(1, its_thread_does_it);
	assert_true(came);
	assert_true(is_over(one.cache));
	assert_int_equal(before - blocks_out(), blocks_before - blocks_in(one.cache));
	end(&one);
	tcache_flush_all();
	tcache_end_parked();
	assert_int_equal(blocks_out(), 0);
}

static int without_purger(void **state) {
	const int result = start_arenal(state);
	/* No purger: what is drained, the test says. And the first barrier is three system calls. */
	conf.background = 0;
	os_barrier_in_all_threads();
	return result;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_thread_does_not_wait),
		cmocka_unit_test(nor_for_a_large_block),
		cmocka_unit_test(statistics_see_all_of_it),
		cmocka_unit_test(its_thread_may_end),
		cmocka_unit_test(another_thread_s_is_left_alone),
		cmocka_unit_test(a_second_drain_takes_over),
		cmocka_unit_test(a_child_goes_on),
		cmocka_unit_test(a_child_s_own_cache_is_whole),
		cmocka_unit_test(who_is_led_away_stays_so),
		cmocka_unit_test(all_goes_when_told),
		cmocka_unit_test_prestate(no_way_is_left_open, (void *)take_computed),
		cmocka_unit_test_prestate(no_way_is_left_open, (void *)take_aligned),
		cmocka_unit_test(each_drain_ends_its_own),
		cmocka_unit_test(the_end_of_a_profile_calls_it_off),
		cmocka_unit_test(nothing_may_be_left),
		cmocka_unit_test_prestate(its_thread_may_look_at_all, (void *)shorten_and_give),
		cmocka_unit_test_prestate(its_thread_may_look_at_all, (void *)grow_another),
		cmocka_unit_test(one_barrier_serves_many_caches),
	};
	return cmocka_run_group_tests(tests, without_purger, NULL);
}
