/* lost WHAT ...: loses blocks of 1,000 bytes, and keeps others in each way in which a program may. Exits with 3, in the end. WHAT:
 *   lose      100 blocks from lose_here
 *   chain     10 blocks from lose_here, each of which leads to 9 others from chain_here
 *   ring      two blocks from lose_here that lead to each other
 *   keep      blocks from keep_here: in data, on main's stack, in a thread's stack, in its variables (__thread, and by a key), in a mapping of
 *             the program's own, in other blocks: small, large, huge; and one that only a pointer into its middle leads to
 *   registers 1 block from keep_here that only the register of a thread leads to, which waits in a system call
 *   blocked   a thread that blocks all signals
 *   awaited   threads that wait for signals, and for a time; it is aborted if one comes
 *   free      10 blocks from keep_here, which the destructor of the program frees
 *   ends      main's thread ends, and another one exits, with 3, too
 *   output    writes a line to stdout, which is not flushed */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define SIZE 1000

static void *volatile sink;

NOINLINE void *lose_here(void) { return sink = malloc(SIZE); }
NOINLINE void *chain_here(void) { return sink = malloc(SIZE); }
NOINLINE void *keep_here(size_t size) { return sink = malloc(size); }

static void **volatile data;
static void *freed_at_the_end[10];
static __thread void *volatile of_thread;
static pthread_key_t key;
static pthread_barrier_t ready;

/* What functions have left on the stack, and where blocks were. */
NOINLINE static void wipe(void) {
	char room[16384];

	memset(room, 0, sizeof room);
	__asm__ volatile("" : : "r"(room) : "memory");
	sink = NULL;
}

NOINLINE static void lose(void) {
	for (int i = 0; i < 100; i++)
		lose_here();
}

NOINLINE static void chain(void) {
	for (int i = 0; i < 10; i++) {
		void **first = lose_here();
		for (int k = 0; k < 9; k++)
			first[k] = chain_here();
	}
}

NOINLINE static void ring(void) {
	void **one = lose_here(), **other = lose_here();

	*one = other;
	*other = one;
}

static void *hold(void *unused) {
	void *volatile of_stack = keep_here(SIZE);

	of_thread = keep_here(SIZE);
	pthread_setspecific(key, keep_here(SIZE));
	wipe();
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
	return of_stack ? NULL : unused;
}

/* Each leads to the next one. */
NOINLINE static void keep(void) {
	static const size_t sizes[] = { 24, SIZE, 40000, 300000, 3000000, 64 };
	void **at = data = keep_here(SIZE);
	pthread_t thread;

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		void **next = keep_here(sizes[i]);
		at[sizes[i] == SIZE] = next;
		at = next;
	}
	*at = (char *)keep_here(100000) + 70000;
	void **mapping = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mapping[100000] = keep_here(SIZE);
	mprotect(mapping, 1 << 20, PROT_READ);
	pthread_key_create(&key, NULL);
	pthread_create(&thread, NULL, hold, NULL);
	pthread_barrier_wait(&ready);
}

static void *wait_with_register(void *unused) {
	void *block = keep_here(SIZE);
	static struct { long seconds, nanoseconds; } time = { 1000, 0 };

	wipe();
	pthread_barrier_wait(&ready);
#if defined(__x86_64__)
	register void *held __asm__("r12") = block;
	__asm__ volatile("movq $0, %0" : "=m"(block));
	long result = SYS_nanosleep;
	__asm__ volatile("syscall" : "+a"(result) : "D"(&time), "S"(0), "r"(held) : "rcx", "r11", "memory");
#else
	nanosleep((void *)&time, NULL);
#endif
	pause();
	return block ? block : unused;
}

static void *block_all(void *unused) {
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
	return unused;
}

static void *await_signal(void *unused) {
	sigset_t all;
	int number;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	pthread_barrier_wait(&ready);
	sigwait(&all, &number);
	abort();
	return unused;
}

static void *read_signal(void *unused) {
	struct signalfd_siginfo about;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	const int file = signalfd(-1, &all, 0);
	pthread_barrier_wait(&ready);
	if (read(file, &about, sizeof about) >= 0) abort();
	return unused;
}

static void *await_time(void *unused) {
	pthread_barrier_wait(&ready);
	poll(NULL, 0, 1000000);
	abort();
	return unused;
}

static void *leave(void *unused) {
	pthread_barrier_wait(&ready);
	usleep(20000);
	exit(3);
	return unused;
}

static void start(void *(*body)(void *)) {
	pthread_t thread;

	pthread_create(&thread, NULL, body, NULL);
	pthread_barrier_wait(&ready);
}

__attribute__((destructor)) static void at_the_end(void) {
	for (int i = 0; i < 10; i++) {
		free(freed_at_the_end[i]);
		freed_at_the_end[i] = NULL;
	}
}

int main(int argc, char **argv) {
	void *volatile of_main = NULL;

	pthread_barrier_init(&ready, NULL, 2);
	for (int i = 1; i < argc; i++) {
		const char *what = argv[i];
		if (strcmp(what, "lose") == 0) lose();
		if (strcmp(what, "chain") == 0) chain();
		if (strcmp(what, "ring") == 0) ring();
		if (strcmp(what, "keep") == 0) keep(), of_main = keep_here(SIZE);
		if (strcmp(what, "registers") == 0) start(wait_with_register);
		if (strcmp(what, "blocked") == 0) start(block_all);
		if (strcmp(what, "awaited") == 0) start(await_signal), start(read_signal), start(await_time), usleep(10000);
		if (strcmp(what, "ends") == 0) start(leave), pthread_exit(NULL);
		if (strcmp(what, "output") == 0) printf("a line\n");
		for (int k = 0; strcmp(what, "free") == 0 && k < 10; k++)
			freed_at_the_end[k] = keep_here(SIZE);
	}
	wipe();
	exit(of_main == &of_main ? 4 : 3);
}
