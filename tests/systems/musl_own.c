/* What is musl's own way: its malloc, which the loader goes on using, and the break; realloc to no bytes; handlers of fork; a program's
 * handlers of signals; users that change while there are threads of Arenal's; plugins. */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition) ((condition) ? (void)0 : failed(__LINE__, #condition))

static void failed(int line, const char *condition) {
	fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, line, condition);
	_exit(1);
}

static char *block(size_t size) {
	char *p = malloc(size);

	CHECK(p != NULL);
	return memset(p, 1, size);
}

/* musl's malloc keeps the break for itself: nothing of ours lies there, whatever we allocate. */
static void nobody_moves_the_break(void) {
	const uintptr_t before = (uintptr_t)syscall(SYS_brk, 0);

	for (int i = 0; i < 1000; i++)
		block(10000);
	CHECK((uintptr_t)syscall(SYS_brk, 0) == before);
}

/* NULL means that there is no memory, and that the block is still the program's, which frees it. */
static void resized_to_nothing_is_a_block(void) {
	static const size_t sizes[] = { 0, 10, 5000, 100000, 5000000 };

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		for (int round = 0; round < 50; round++) {
			char *p = block(sizes[i]), *other = block(sizes[i]);
			p = realloc(p, strlen(""));
			other = reallocarray(other, strlen(""), 8);
			CHECK(p != NULL && other != NULL && p != other);
			p = realloc(p, 300), other = realloc(other, 70000);
			CHECK(p != NULL && other != NULL);
			memset(p, 2, 300), memset(other, 3, 70000);
			free(p), free(other);
		}
}

/* The loader allocates by functions that nobody has replaced. */
static void libraries_come_and_go(void) {
	for (int i = 0; i < 100; i++) {
		CHECK(dlopen("/nonexistent/library.so", RTLD_NOW) == NULL && dlerror() != NULL);
		void *all = dlopen(NULL, RTLD_NOW);
		CHECK(all != NULL && dlsym(all, "malloc") == dlsym(RTLD_DEFAULT, "malloc"));
		dlclose(all);
	}
}

static int before, in_parent, in_child;
static void prepare(void) { free(block(40)), before++; }
static void parent(void) { free(block(50000)), in_parent++; }
static void child(void) { free(block(60)), in_child++; }

static void fork_handlers_allocate(void) {
	int status;

	CHECK(pthread_atfork(prepare, parent, child) == 0);
	const pid_t id = fork();
	if (id == 0)
		_exit(before == 1 && in_child == 1 && in_parent == 0 ? 0 : 1);
	CHECK(waitpid(id, &status, 0) == id && status == 0 && before == 1 && in_parent == 1 && in_child == 0);
}

static volatile sig_atomic_t faults;
static char *page;

static void on_fault(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)context;
	if (info->si_addr != page)
		_exit(2);
	faults++;
	const struct sigaction standard = { .sa_handler = SIG_IGN };
	sigaction(SIGUSR1, &standard, NULL);
	raise(SIGUSR1);
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

/* A program's own handler, which it set and sees, while Arenal has one of its own. */
static void handlers_are_the_programs(void) {
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, told;

	CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
	CHECK(sigaction(SIGSEGV, NULL, &told) == 0 && told.sa_sigaction == on_fault);
	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(page != MAP_FAILED);
	page[0] = 1;
	CHECK(faults == 1);
	CHECK(signal(SIGSEGV, SIG_DFL) == (void (*)(int))(void *)on_fault);
}

static void *allocate(void *unused) {
	for (int i = 0; i < 2000; i++)
		free(block(30000));
	return unused;
}

static int count_threads(void) {
	int count = 0;
	char line[128];
	FILE *file = fopen("/proc/self/status", "r");

	CHECK(file != NULL);
	while (fgets(line, sizeof line, file) != NULL)
		sscanf(line, "Threads: %d", &count);
	fclose(file);
	return count;
}

/* libc makes each thread do the same, by a signal: one of ours takes part, or stands back. */
static void users_change(void) {
	pthread_t threads[4];
	const struct timespec moment = { 0, 1000000 };

	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 4; i++)
			CHECK(pthread_create(&threads[i], NULL, allocate, NULL) == 0);
		for (int i = 0; i < 20; i++)
			CHECK(setgid(getgid()) == 0 && setuid(getuid()) == 0);
		for (int i = 0; i < 4; i++)
			CHECK(pthread_join(threads[i], NULL) == 0);
	}
	for (int i = 0; i < 5000 && count_threads() > 3; i++)
		nanosleep(&moment, NULL);
	CHECK(count_threads() <= 3); /* this one, and Arenal's */
}

int main(void) {
	CHECK(dlsym(RTLD_DEFAULT, "arenal_version") != NULL);
	nobody_moves_the_break();
	resized_to_nothing_is_a_block();
	libraries_come_and_go();
	fork_handlers_allocate();
	handlers_are_the_programs();
	users_change();
	return 0;
}
