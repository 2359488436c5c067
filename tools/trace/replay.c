#include "replay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "plan.h"

#define PAGE 4096
#define SAMPLE_NS 5000000

/* What a thread has done. Owner: the thread; read by the last one of an epoch. */
struct worker {
	pthread_t thread;
	const struct plan_thread *plan;
	int64_t live;                  /* bytes allocated less those freed */
	uint64_t allocations, frees;
	bool started;
} __attribute__((aligned(64)));

static const struct plan *plan;
static struct worker *workers;
static _Atomic uint32_t epoch, over; /* over: threads may end */
static int64_t peak_live;            /* at ends of epochs. Owner: the last thread of each */

static void wait_while(_Atomic uint32_t *word, uint32_t value) {
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake_all(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0); }

static void end_epoch(uint32_t number) {
	if (atomic_fetch_sub(&plan->left[number], 1) != 1) return;
	int64_t live = 0;
	for (uint64_t i = 0; i < plan->thread_count; i++) live += workers[i].live;
	if (live > peak_live) peak_live = live;
	atomic_store(&epoch, number + 1);
	wake_all(&epoch);
}

static void await_epoch(uint32_t number) {
	for (uint32_t now; (now = atomic_load(&epoch)) < number;) wait_while(&epoch, now);
}

/* A block that another thread has yet to allocate, in this epoch. */
static void *await_block(uint32_t number) {
	void *block;
	for (unsigned tries = 0; (block = atomic_load_explicit(&plan->blocks[number], memory_order_acquire)) == NULL; tries++)
		if (tries > 100) sched_yield();
	return block;
}

/* Programs write to what they allocate: to the start, and to each page. */
static void touch(char *block, size_t size) {
	memset(block, 1, size < 64 ? size : 64);
	for (size_t at = PAGE; at < size; at += PAGE) block[at] = 1;
}

static void *allocate(const struct step *s) {
	const size_t size = s->size > 0 ? s->size : 1;
	switch (s->kind) {
	case STEP_CALLOC: return calloc(1, size);
	case STEP_ALIGNED: return memalign((size_t)1 << s->align_log, size);
	default: return malloc(size);
	}
}

static void do_step(struct worker *w, const struct step *s) {
	void *old = s->kind == STEP_FREE || s->kind == STEP_REALLOC ? await_block(s->old) : NULL, *block = NULL;
	if (s->kind == STEP_FREE)
		free(old);
	else
		block = old != NULL ? realloc(old, s->size > 0 ? s->size : 1) : allocate(s);
	if (old != NULL) {
		w->live -= (int64_t)plan->sizes[s->old];
		w->frees++;
	}
	if (s->kind == STEP_FREE) return;
	if (block == NULL) fail("the allocator has no %lu bytes", (unsigned long)s->size);
	touch(block, s->size);
	w->live += (int64_t)s->size;
	w->allocations++;
	atomic_store_explicit(&plan->blocks[s->block], block, memory_order_release);
}

static void *work(void *argument) {
	struct worker *w = argument;
	int64_t in = -1;
	for (const struct step *s = &plan->steps[w->plan->first]; s->kind != STEP_END; s++) {
		if (s->kind != STEP_EPOCH) {
			do_step(w, s);
			continue;
		}
		if (in >= 0) end_epoch((uint32_t)in);
		in = s->block;
		await_epoch(s->block);
	}
	if (in >= 0) end_epoch((uint32_t)in);
	while (!w->plan->ends && atomic_load(&over) == 0) wait_while(&over, 0);
	return NULL;
}

/* ---- measures ---- */

/* Bytes of anonymous memory: the plan is shared memory, which is not counted. */
static uint64_t resident(void) {
	static int file = -1;
	static _Atomic int opened;
	if (atomic_exchange(&opened, 1) == 0) file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	char text[128] = { 0 };
	unsigned long size, all, shared;
	if (pread(file, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%lu %lu %lu", &size, &all, &shared) != 3) return 0;
	return (all - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t peak;
static _Atomic bool measured;

static void look(void) {
	const uint64_t now = resident();
	if (now > peak) peak = now;
}

static void *watch(void *argument) {
	while (!atomic_load(&measured)) {
		look();
		nanosleep(&(struct timespec){ 0, SAMPLE_NS }, NULL);
	}
	return argument;
}

static double seconds_of(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

static double cpu(void) {
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

static double wall(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void start(pthread_t *thread, void *(*function)(void *), void *argument) {
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 256 << 10);
	const int error = pthread_create(thread, &small, function, argument);
	if (error != 0) fail("a thread could not be started: %s", strerror(error));
	pthread_attr_destroy(&small);
}

/* Each thread starts when its first epoch has come, as it did in the program. */
static void start_workers(void) {
	for (bool more = true; more;) {
		more = false;
		const uint32_t now = atomic_load(&epoch);
		uint32_t next = UINT32_MAX;
		for (uint64_t i = 0; i < plan->thread_count; i++) {
			struct worker *w = &workers[i];
			if (w->started) continue;
			if (w->plan->first_epoch <= now) {
				w->started = true;
				start(&w->thread, work, w);
			} else {
				more = true;
				if (w->plan->first_epoch < next) next = w->plan->first_epoch;
			}
		}
		if (more) await_epoch(next);
	}
}

void replay(const char *path, uint32_t pid, unsigned long seconds) {
	plan = plan_make(path, pid);
	const size_t bytes = plan->thread_count * sizeof *workers;
	workers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (workers == MAP_FAILED) fail("there is not enough memory for this trace");
	for (uint64_t i = 0; i < plan->thread_count; i++) workers[i].plan = &plan->threads[i];
	pthread_t watcher;
	start(&watcher, watch, NULL);
	const uint64_t before = resident();
	const double cpu_before = cpu(), wall_before = wall();
	start_workers();
	await_epoch((uint32_t)plan->epoch_count);
	const double wall_passed = wall() - wall_before, cpu_passed = cpu() - cpu_before;
	look();
	atomic_store(&measured, true);
	pthread_join(watcher, NULL);
	nanosleep(&(struct timespec){ (time_t)seconds, 0 }, NULL);
	const uint64_t rest = resident();

	int64_t live = 0;
	uint64_t allocations = 0, frees = 0;
	for (uint64_t i = 0; i < plan->thread_count; i++) {
		live += workers[i].live;
		allocations += workers[i].allocations;
		frees += workers[i].frees;
	}
	if (live != (int64_t)plan->end_bytes || peak_live != (int64_t)plan->peak_epoch_bytes || allocations != plan->allocations ||
	    frees != plan->frees)
		fail("the replay did something else than the trace says: %lu allocations, %lu frees, %ld bytes live, %ld at most, instead of %lu, %lu, %lu, %lu",
		     allocations, frees, (long)live, (long)peak_live, plan->allocations, plan->frees, plan->end_bytes, plan->peak_epoch_bytes);
	printf("{\"wall\":%.6f,\"cpu\":%.6f,\"peak_rss\":%lu,\"rest_rss\":%lu,\"allocations\":%lu,\"frees\":%lu,\"unknown\":%lu,\"threads\":%lu,"
	       "\"live\":%ld,\"peak_live\":%lu}\n",
	       wall_passed, cpu_passed, peak > before ? peak - before : 0, rest > before ? rest - before : 0, allocations, frees, plan->unknown,
	       plan->thread_count, (long)live, plan->peak_bytes);
	atomic_store(&over, 1);
	wake_all(&over);
	for (uint64_t i = 0; i < plan->thread_count; i++) pthread_join(workers[i].thread, NULL);
}
