/* What happens to threads: very many of them, cancellation, signals in the middle of malloc, destructors that allocate. */
#include "stamp.h"
#include "support.h"

#include <arenal/arenal.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static struct arenal_stats stats(void) {
	struct arenal_stats stats;

	assert_int_equal(arenal_stats_get(&stats, sizeof stats), 0);
	return stats;
}

static void start(pthread_t *thread, void *(*body)(void *), void *argument) {
	pthread_attr_t attributes;

	assert_int_equal(pthread_attr_init(&attributes), 0);
	assert_int_equal(pthread_attr_setstacksize(&attributes, 64 * KIB), 0);
	assert_int_equal(pthread_create(thread, &attributes, body, argument), 0);
	pthread_attr_destroy(&attributes);
}

/* Blocks of several classes; leaves one to whoever joins. */
static void *allocate_a_little(void *unused) {
	char *blocks[20], *kept = malloc(100);

	(void)unused;
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(16 << i % 10);
		stamp_block(blocks[i], 16 << i % 10, i);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		if (!stamp_intact(blocks[i], 16 << i % 10, i))
			return NULL;
		free(blocks[i]);
	}
	return kept;
}

/* The caches of threads that ended serve those that come. */
static void ten_thousand_threads_one_after_the_other(void **state) {
	(void)state;
	size_t metadata = 0, allocated = 0;

	for (int i = 0; i < 10000; i++) {
		pthread_t thread;
		void *kept;
		start(&thread, allocate_a_little, NULL);
		assert_int_equal(pthread_join(thread, &kept), 0);
		assert_non_null(kept);
		free(kept);
		if (i == 1000) {
			metadata = stats().metadata;
			allocated = stats().allocated;
		}
	}
	assert_true(stats().metadata <= metadata + 64 * KIB);
	assert_true(stats().allocated <= allocated + 64 * KIB);
	assert_true(stats().threads <= 2);
}

static pthread_barrier_t all_there, all_seen;

static void *be_one_of_many(void *unused) {
	void *kept = allocate_a_little(unused);

	pthread_barrier_wait(&all_there);
	pthread_barrier_wait(&all_seen);
	return kept;
}

static void a_thousand_threads_at_once(void **state) {
	(void)state;
	static pthread_t threads[1000];
	size_t before = stats().threads;

	pthread_barrier_init(&all_there, NULL, COUNT_OF(threads) + 1);
	pthread_barrier_init(&all_seen, NULL, COUNT_OF(threads) + 1);
	for (size_t i = 0; i < COUNT_OF(threads); i++)
		start(&threads[i], be_one_of_many, NULL);
	pthread_barrier_wait(&all_there);
	assert_in_range(stats().threads, COUNT_OF(threads), COUNT_OF(threads) + 2);
	pthread_barrier_wait(&all_seen);
	for (size_t i = 0; i < COUNT_OF(threads); i++) {
		void *kept;
		assert_int_equal(pthread_join(threads[i], &kept), 0);
		assert_non_null(kept);
		free(kept);
	}
	assert_in_range(stats().threads, 0, before + 1);
	pthread_barrier_destroy(&all_there);
	pthread_barrier_destroy(&all_seen);
}

/* malloc and free are no cancellation points, whatever they do inside: so much fresh memory makes them read the limits of
 * the process, for instance. */
static void *allocate_while_cancelled(void *reached) {
	static void *blocks[400];

	pthread_cancel(pthread_self());
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(i % 2 ? 300 * KIB : 2 * MIB);
		if (!blocks[i])
			return NULL;
		memset(blocks[i], 1, 4 * KIB);
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i]);
	*(bool *)reached = true;
	pthread_testcancel();
	return NULL;
}

static void cancellation_waits_until_malloc_is_through(void **state) {
	(void)state;
	for (int i = 0; i < 3; i++) {
		bool reached = false;
		pthread_t thread;
		void *result;
		assert_int_equal(pthread_create(&thread, NULL, allocate_while_cancelled, &reached), 0);
		assert_int_equal(pthread_join(thread, &result), 0);
		assert_true(reached);
		assert_ptr_equal(result, PTHREAD_CANCELED);
	}
}

/* Cancelled anywhere between two calls; what it holds is freed by its handler. */
static void give_back(void *block) {
	free(*(void **)block);
}

static void *allocate_until_cancelled(void *unused) {
	void *volatile block = NULL;

	(void)unused;
	pthread_cleanup_push(give_back, (void *)&block);
	for (size_t i = 0;; i++) {
		block = realloc(block, 1 + i * 977 % (100 * KIB));
		pthread_testcancel();
	}
	pthread_cleanup_pop(0);
	return NULL;
}

static void cancelled_threads_lose_nothing(void **state) {
	(void)state;
	size_t before = stats().allocated;

	for (int round = 0; round < 100; round++) {
		pthread_t threads[4];
		for (size_t i = 0; i < COUNT_OF(threads); i++)
			start(&threads[i], allocate_until_cancelled, NULL);
		nanosleep(&(struct timespec){ 0, round * 20000 }, NULL);
		for (size_t i = 0; i < COUNT_OF(threads); i++)
			pthread_cancel(threads[i]);
		for (size_t i = 0; i < COUNT_OF(threads); i++)
			assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	assert_true(stats().allocated <= before + 64 * KIB);
}

static atomic_size_t signals;

static void count_signal(int signal) {
	int saved = errno;

	(void)signal;
	atomic_fetch_add(&signals, 1);
	/* A system call, and much of the stack. */
	char text[8192];
	memset(text, (int)read(-1, text, 1), sizeof text);
	__asm__("" : : "r"(text) : "memory");
	errno = saved;
}

static atomic_bool storm_is_over;

static void *allocate_in_the_storm(void *seed) {
	struct {
		char *address;
		size_t size;
	} blocks[200] = { { NULL, 0 } };
	size_t calls = 0, broken = 0;

	for (size_t i = (uintptr_t)seed; !atomic_load(&storm_is_over); i++, calls++) {
		size_t at = i * 7919 % COUNT_OF(blocks);
		broken += blocks[at].address && !stamp_intact(blocks[at].address, blocks[at].size, 1);
		free(blocks[at].address);
		blocks[at].size = sample_size(i % 150);
		blocks[at].address = i % 3 ? malloc(blocks[at].size) : calloc(1, blocks[at].size);
		broken += i % 3 == 0 && !holds_only(blocks[at].address, blocks[at].size, 0);
		stamp_block(blocks[at].address, blocks[at].size, 1);
		if (i % 5000 == 0)
			arenal_purge();
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free(blocks[i].address);
	return (void *)(uintptr_t)(broken > 0 || calls == 0);
}

/* Signals arrive anywhere in malloc and free, and their system calls, which they interrupt. */
static void signals_interrupt_allocation(void **state) {
	(void)state;
	struct sigaction action = { .sa_handler = count_signal }, old; /* without SA_RESTART */
	struct itimerval often = { { 0, 100 }, { 0, 100 } }, never = { { 0, 0 }, { 0, 0 } };
	pthread_t threads[3];
	void *broken;
	struct timespec end, now;

	atomic_store(&storm_is_over, false);
	assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
	for (uintptr_t i = 0; i < COUNT_OF(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, allocate_in_the_storm, (void *)(i + 1)), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 2;
	do {
		for (size_t i = 0; i < COUNT_OF(threads); i++)
			pthread_kill(threads[i], SIGALRM);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	atomic_store(&storm_is_over, true);
	for (size_t i = 0; i < COUNT_OF(threads); i++) {
		assert_int_equal(pthread_join(threads[i], &broken), 0);
		assert_null(broken);
	}
	assert_true(atomic_load(&signals) > 1000);
	sigaction(SIGALRM, &old, NULL);
}

/* What C++ uses for the destructors of thread_local objects. */
int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *library);
extern void *__dso_handle;

static pthread_key_t key;
static atomic_int rounds;

static void destroy_object(void *object) {
	if (stamp_intact(object, 5000, 2))
		atomic_fetch_add(&rounds, 100);
	free(object);
	free(malloc(3000));
}

/* In all rounds that the libc runs: the thread's cache has gone in the last one. */
static void destroy_value(void *block) {
	char *next = malloc(1000);

	if (next)
		stamp_block(next, 1000, 3);
	if (stamp_intact(block, 1000, 3))
		atomic_fetch_add(&rounds, 1);
	free(block);
	free(malloc(200 * KIB));
	if (pthread_setspecific(key, next) != 0)
		free(next);
}

static void *leave_values(void *unused) {
	char *object = malloc(5000), *value = malloc(1000);

	stamp_block(object, 5000, 2);
	stamp_block(value, 1000, 3);
	__cxa_thread_atexit_impl(destroy_object, object, &__dso_handle);
	pthread_setspecific(key, value);
	return unused;
}

static void destructors_of_threads_allocate(void **state) {
	(void)state;
	assert_int_equal(pthread_key_create(&key, destroy_value), 0);
	for (int i = 0; i < 50; i++) {
		pthread_t thread;
		atomic_store(&rounds, 0);
		start(&thread, leave_values, NULL);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(atomic_load(&rounds), 104);
	}
	pthread_key_delete(key);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cancellation_waits_until_malloc_is_through),
		cmocka_unit_test(ten_thousand_threads_one_after_the_other),
		cmocka_unit_test(a_thousand_threads_at_once),
		cmocka_unit_test(cancelled_threads_lose_nothing),
		cmocka_unit_test(signals_interrupt_allocation),
		cmocka_unit_test(destructors_of_threads_allocate),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
