/* Programs whose calls are known, for the tests of the trace:  trace_calls MODE COUNT */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4

static long count;
static void **passed[THREADS]; /* what each thread leaves to the next one */
static pthread_barrier_t all_passed;

static void take(long blocks, size_t size) {
	for (long i = 0; i < blocks; i++) free(malloc(size));
}

/* test_trace.py has the same list. */
static void *work(void *argument) {
	const long k = (long)argument;
	char name[16];
	snprintf(name, sizeof name, "worker <b>%ld", k);
	prctl(PR_SET_NAME, name);
	char line[64];
	const int length = snprintf(line, sizeof line, "%ld %ld\n", k, (long)syscall(SYS_gettid));
	if (write(1, line, (size_t)length) != length) abort();
	for (long i = 0; i < count; i++) {
		void *a = malloc((size_t)(16 + i + k)), *b = calloc(2, (size_t)(i + 1)), *c = aligned_alloc(256, (size_t)(100 + i));
		a = realloc(a, (size_t)(5000 + 100 * i));
		a = realloc(a, (size_t)(4990 + 100 * i)); /* stays where it is */
		free(b);
		free(a);
		passed[k][i] = c;
	}
	free(malloc(0));
	pthread_barrier_wait(&all_passed);
	for (long i = 0; i < count; i++) free(passed[(k + 1) % THREADS][i]);
	return NULL;
}

static void known(void) {
	pthread_t threads[THREADS];
	pthread_barrier_init(&all_passed, NULL, THREADS);
	for (int k = 0; k < THREADS; k++) passed[k] = malloc((size_t)count * sizeof(void *));
	for (long k = 0; k < THREADS; k++)
		if (pthread_create(&threads[k], NULL, work, (void *)k) != 0) abort();
	for (int k = 0; k < THREADS; k++) pthread_join(threads[k], NULL);
}

static pthread_key_t key;
static int rounds;

/* In the last round, the thread has no cache any more. */
static void at_end(void *block) {
	if (++rounds < 4) {
		pthread_setspecific(key, block);
		return;
	}
	free(block);
	free(malloc(777));
}

static void *ends(void *argument) {
	pthread_setspecific(key, malloc(666));
	return argument;
}

static void late(void) {
	pthread_t thread;
	pthread_key_create(&key, at_end);
	if (pthread_create(&thread, NULL, ends, NULL) != 0) abort();
	pthread_join(thread, NULL);
}

/* A child that no handler of fork hears of, and that ends by exit before its parent does. */
static void clones(void) {
	take(count, 111);
	const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0) {
		take(count, 222);
		exit(0);
	}
	waitpid(child, NULL, 0);
	take(count, 444);
}

static void forks(void) {
	take(count, 111);
	const pid_t child = fork();
	if (child == 0) {
		take(2 * count, 222);
		const pid_t grandchild = fork();
		if (grandchild == 0) {
			take(3 * count, 333);
			_exit(0);
		}
		waitpid(grandchild, NULL, 0);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	take(count, 444);
}

/* A daemon whose maps its own user may not read. It goes on when there is a file "go", and makes one, "done", before it ends. */
static void unseen(void) {
	take(count, 111);
	if (fork() > 0) exit(0);
	prctl(PR_SET_DUMPABLE, 0);
	for (int fd = 0; fd < 3; fd++) close(fd);
	while (access("go", F_OK) != 0) usleep(1000);
	take(count, 555);
	close(creat("done", 0666));
}

int main(int words, char **word) {
	const char *mode = words == 3 ? word[1] : "";
	count = words == 3 ? atol(word[2]) : 0;
	if (strcmp(mode, "known") == 0) {
		known();
	} else if (strcmp(mode, "late") == 0) {
		late();
	} else if (strcmp(mode, "fork") == 0) {
		forks();
	} else if (strcmp(mode, "clone") == 0) {
		clones();
	} else if (strcmp(mode, "closed") == 0) {
		for (int fd = 0; fd < 1024; fd++) close(fd);
		take(count, 1234);
	} else if (strcmp(mode, "unseen") == 0) {
		unseen();
	} else if (strcmp(mode, "daemon") == 0) {
		take(count, 111);
		if (fork() > 0) exit(0); /* as nginx does: the library's destructor runs */
		take(count, 555);
	} else {
		take(count, 1234);
		if (strcmp(mode, "kill") == 0) raise(SIGKILL);
		if (strcmp(mode, "abort") == 0) abort();
		if (strcmp(mode, "segv") == 0) *(volatile int *)(count * 0) = 1;
		if (strcmp(mode, "misuse") == 0) free((void *)0x1230);
		if (strcmp(mode, "fails") == 0 && malloc((size_t)1 << 62) != NULL) abort();
	}
	return 0;
}
