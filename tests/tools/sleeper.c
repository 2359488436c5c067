/* A program in which a window is opened while it does one thing, and that tells whether that went as if nobody had come by: it says "ready",
 * does it, and ends with 0, or says what was wrong and ends with 1.
 *
 *   sleeper WHAT [THREADS]
 *
 * Most things end when standard input ends, which is a pipe, or by SIGUSR1. THREADS more sleep beside it, without having allocated. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "sleeper: %s: %s (errno %d)\n", what, #condition, errno); \
			_exit(1); \
		} \
	} while (0)

static const char *what;
static volatile sig_atomic_t signals;

static void count(int number) {
	(void)number;
	signals = signals + 1;
}

static void handle(int flags) {
	struct sigaction action = { .sa_handler = count, .sa_flags = flags };
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
}

static double now(void) {
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void ready(void) { CHECK(write(STDOUT_FILENO, "ready\n", 6) == 6); }

/* ---- things to do ---- */

static void in_read(void) {
	char byte;
	CHECK(read(STDIN_FILENO, &byte, 1) == 0);
}

/* How long it really slept is on standard output. */
static void in_nanosleep(void) {
	struct timespec time = { 1, 500000000 }, left = { 77, 77 };
	const double start = now();
	CHECK(nanosleep(&time, &left) == 0);
	dprintf(STDOUT_FILENO, "%f\n", now() - start);
}

static void in_poll(void) {
	struct pollfd file = { STDIN_FILENO, POLLIN, 0 };
	CHECK(poll(&file, 1, 30000) == 1);
}

static void in_select(void) {
	fd_set set;
	FD_ZERO(&set);
	FD_SET(STDIN_FILENO, &set);
	struct timeval time = { 30, 0 };
	CHECK(select(1, &set, NULL, NULL, &time) == 1);
}

static void epoll(int result, int timeout) {
	struct epoll_event event = { .events = EPOLLIN };
	int set = epoll_create1(0);
	CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, STDIN_FILENO, &event) == 0);
	ready();
	errno = 0;
	CHECK(epoll_wait(set, &event, 1, timeout) == result);
	CHECK(result == 1 || errno == EINTR);
}

static void in_epoll(void) { epoll(1, -1); }

static void in_epoll_timed(void) { epoll(1, 30000); }

/* As a server with timers: each wait lasts as long as it should, or is ended by the pipe. */
static void in_epoll_ticks(void) {
	struct epoll_event event = { .events = EPOLLIN };
	int set = epoll_create1(0), result;
	CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, STDIN_FILENO, &event) == 0);
	ready();
	do {
		const double start = now();
		errno = 0;
		result = epoll_wait(set, &event, 1, 40);
		const double lasted = now() - start;
		CHECK(result >= 0 && (result == 1 || lasted >= 0.0395));
	} while (result == 0);
}

/* ---- waits for a time, which end when they should: how long they lasted is on standard output ---- */

#define WAIT 6

static void waits(long wait(void)) {
	ready();
	const double start = now();
	errno = 0;
	const long result = wait();
	dprintf(STDOUT_FILENO, "%f\n", now() - start);
	CHECK(result == 0 || (result == -1 && errno == EAGAIN));
}

static int nothing_happens(void) {
	static int ends[2];
	struct epoll_event event = { .events = EPOLLIN };
	const int set = epoll_create1(0);
	CHECK(set >= 0 && pipe(ends) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event) == 0);
	return set;
}

static long wait_in_epoll(void) {
	struct epoll_event event;
	return epoll_wait(nothing_happens(), &event, 1, WAIT * 1000);
}

static long wait_in_epoll_pwait2(void) {
	struct epoll_event event;
	return epoll_pwait2(nothing_happens(), &event, 1, &(struct timespec){ WAIT, 0 }, NULL);
}

static long wait_in_sigtimedwait(void) {
	sigset_t wanted;
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGUSR2);
	sigprocmask(SIG_BLOCK, &wanted, NULL);
	return sigtimedwait(&wanted, NULL, &(struct timespec){ WAIT, 0 });
}

static long wait_in_semtimedop(void) {
	const int set = semget(IPC_PRIVATE, 1, 0600);
	CHECK(set >= 0);
	const long result = semtimedop(set, &(struct sembuf){ 0, -1, 0 }, 1, &(struct timespec){ WAIT, 0 });
	const int error = errno;
	CHECK(semctl(set, 0, IPC_RMID) == 0);
	errno = error;
	return result;
}

/* Of a time that is the socket's, or the terminal's, and not in the call. */
static long wait_in_recv(void) {
	int ends[2];
	char byte;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	CHECK(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ WAIT, 0 }, sizeof(struct timeval)) == 0);
	return recv(ends[0], &byte, 1, 0);
}

static int raw_terminal(unsigned char least, unsigned char tenths, int *there) {
	struct termios how;
	*there = posix_openpt(O_RDWR | O_NOCTTY);
	CHECK(*there >= 0 && grantpt(*there) == 0 && unlockpt(*there) == 0);
	const int here = open(ptsname(*there), O_RDWR | O_NOCTTY);
	CHECK(here >= 0 && tcgetattr(here, &how) == 0);
	cfmakeraw(&how);
	how.c_cc[VMIN] = least;
	how.c_cc[VTIME] = tenths;
	CHECK(tcsetattr(here, TCSANOW, &how) == 0);
	return here;
}

static long wait_in_terminal(void) {
	char byte;
	int there;
	return read(raw_terminal(0, WAIT * 10, &there), &byte, 1);
}

/* As a client that asks again and again: each wait lasts as long as it should. */
static void in_recv_ticks(void) {
	const struct timeval time = { 0, 40000 };
	char byte;
	int ends[2];
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0 && setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
	ready();
	while (signals == 0) {
		const double start = now();
		const ssize_t got = recv(ends[0], &byte, 1, 0);
		CHECK(got == -1 && (signals != 0 || (errno == EAGAIN && now() - start >= 0.0355)));
	}
}

/* Who waits for two, and has one: a signal may end that, and a stop must not. */
static void in_socket_least(void) {
	const int least = 2;
	char bytes[2];
	int ends[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && setsockopt(ends[0], SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least) == 0);
	CHECK(write(ends[1], "x", 1) == 1);
	ready();
	CHECK(recv(ends[0], bytes, 2, 0) == 1 && signals == 1);
}

static void in_terminal_least(void) {
	char bytes[2];
	int there;
	const int here = raw_terminal(2, 0, &there);
	CHECK(write(there, "x", 1) == 1);
	ready();
	CHECK(read(here, bytes, 2) == 1 && signals == 1);
}

static void in_events_least(void) {
	aio_context_t set = 0;
	struct io_event events[2];
	int one[2], two[2];
	CHECK(pipe(one) == 0 && pipe(two) == 0 && write(one[1], "x", 1) == 1 && syscall(SYS_io_setup, 2, &set) == 0);
	struct iocb first = { .aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN, .aio_fildes = (unsigned)one[0] }, second = first;
	second.aio_fildes = (unsigned)two[0];
	CHECK(syscall(SYS_io_submit, set, 2L, (struct iocb *[]){ &first, &second }) == 2);
	ready();
	CHECK(syscall(SYS_io_getevents, set, 2L, 2L, events, NULL) == 1 && signals == 1);
}

/* Another thread closes what it waits for, which it does not notice. */
static int closed;

static void *close_when_asked(void *unused) {
	char byte;
	CHECK(read(STDIN_FILENO, &byte, 1) == 1 && close(closed) == 0);
	return unused;
}

static void close_later(int file) {
	pthread_t thread;
	closed = file;
	CHECK(file >= 0 && pthread_create(&thread, NULL, close_when_asked, NULL) == 0);
	ready();
}

static void in_accept_closed(void) {
	const int listener = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(listener >= 0 && listen(listener, 1) == 0);
	close_later(listener);
	CHECK(accept(listener, NULL, NULL) == -1 && errno == EINTR && signals == 1);
}

static void in_epoll_closed(void) {
	struct epoll_event event;
	const int set = epoll_create1(0);
	close_later(set);
	CHECK(epoll_wait(set, &event, 1, -1) == -1 && errno == EINTR && signals == 1);
}

static void in_recv_lasts(void) { waits(wait_in_recv); }
static void in_terminal_lasts(void) { waits(wait_in_terminal); }
static void in_epoll_lasts(void) { waits(wait_in_epoll); }
static void in_epoll_pwait2_lasts(void) { waits(wait_in_epoll_pwait2); }
static void in_sigtimedwait_lasts(void) { waits(wait_in_sigtimedwait); }
static void in_semtimedop_lasts(void) { waits(wait_in_semtimedop); }

/* ---- */

/* A signal that comes later interrupts it. */
static void in_epoll_interrupted(void) {
	handle(SA_RESTART);
	epoll(-1, -1);
	CHECK(signals == 1);
}

static void in_read_interrupted(void) {
	char byte;
	handle(0);
	ready();
	CHECK(read(STDIN_FILENO, &byte, 1) == -1 && errno == EINTR && signals == 1);
}

static void in_sigsuspend(void) {
	sigset_t blocked, before;
	handle(SA_RESTART);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	ready();
	CHECK(sigsuspend(&before) == -1 && errno == EINTR && signals == 1);
	sigprocmask(SIG_SETMASK, NULL, &before);
	CHECK(sigismember(&before, SIGUSR1) == 1);
}

static void in_sigtimedwait(void) {
	sigset_t wanted;
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGUSR1);
	sigprocmask(SIG_BLOCK, &wanted, NULL);
	ready();
	CHECK(sigtimedwait(&wanted, NULL, NULL) == SIGUSR1);
}

static void in_futex(void) {
	static sem_t semaphore;
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
	struct timespec until;
	sem_init(&semaphore, 0, 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	pthread_mutex_lock(&mutex);
	CHECK(pthread_cond_timedwait(&condition, &mutex, &until) == ETIMEDOUT);
	clock_gettime(CLOCK_REALTIME, &until);
	errno = 0;
	CHECK(sem_timedwait(&semaphore, &until) == -1 && errno == ETIMEDOUT);
}

static void in_wait(void) {
	pid_t child = fork();
	if (child == 0) {
		char byte;
		_exit(read(STDIN_FILENO, &byte, 1) == 0 ? 7 : 8);
	}
	int status;
	ready();
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void in_vfork(void) {
	char byte;
	int status;
	pid_t child = vfork();
	if (child == 0) {
		ready();
		_exit(read(STDIN_FILENO, &byte, 1) == 0 ? 7 : 8);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* Its own code, without a call. */
static void in_loop(void) {
	uint64_t a[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, b[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	double x = 1, y = 1;
	while (signals == 0) {
		for (int i = 0; i < 8; i++) {
			a[i] = a[i] * 6364136223846793005u + a[(i + 3) % 8];
			x = x * 1.0000001 + (double)(a[i] >> 60) / 16;
		}
		for (int i = 0; i < 8; i++) {
			b[i] = b[i] * 6364136223846793005u + b[(i + 3) % 8];
			y = y * 1.0000001 + (double)(b[i] >> 60) / 16;
		}
		if (x > 1e100) x = y = 1;
		CHECK(memcmp(a, b, sizeof a) == 0 && memcmp(&x, &y, sizeof x) == 0);
	}
}

/* Long system calls that end early where one is stopped in them. */
static void in_zeros(void) {
	const size_t size = 64 << 20;
	const int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	char *area = malloc(size);
	CHECK(zeros >= 0 && area != NULL);
	ready();
	while (signals == 0) {
		const ssize_t got = read(zeros, area, size);
		CHECK(got == (ssize_t)size || signals != 0);
	}
}

/* Each thread computes. */
static void *loop(void *unused) {
	in_loop();
	return unused;
}

static void in_loops(void) {
	pthread_t threads[3];
	for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, loop, NULL) == 0);
	ready();
	in_loop();
	for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
}

/* A function of libc's is in the middle of something. */
static int compare(const void *a, const void *b) {
	if (signals == 0) {
		ready();
		in_loop();
	}
	return *(const int *)a - *(const int *)b;
}

static void in_qsort(void) {
	int numbers[] = { 3, 1, 2 };
	qsort(numbers, 3, sizeof *numbers, compare);
	CHECK(numbers[0] == 1 && numbers[1] == 2 && numbers[2] == 3);
}

/* The fast paths only. */
static void in_malloc(void) {
	while (signals == 0) free(malloc(100));
}

static void *allocate_at_random(void *seed) {
	unsigned state = (unsigned)(uintptr_t)seed;
	static __thread char *blocks[200];
	while (signals == 0) {
		char **block = &blocks[rand_r(&state) % 200];
		if (*block != NULL) CHECK(**block == (char)(uintptr_t)*block);
		free(*block);
		*block = malloc((size_t)1 << rand_r(&state) % 17);
		CHECK(*block != NULL);
		**block = (char)(uintptr_t)*block;
	}
	return NULL;
}

static void in_threads(void) {
	pthread_t threads[4];
	for (uintptr_t i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, allocate_at_random, (void *)(i + 1)) == 0);
	ready();
	for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

/* In a handler that may have interrupted anything. */
static void sleep_in_handler(int number) {
	char byte;
	(void)number;
	ready();
	CHECK(read(STDIN_FILENO, &byte, 1) == 0);
	signals = 1;
}

static void compute_in_handler(int number) {
	(void)number;
	ready();
	in_loop();
}

static void in_handler_loop(void) {
	signal(SIGALRM, compute_in_handler);
	raise(SIGALRM);
}

static void in_handler(void) {
	signal(SIGALRM, sleep_in_handler);
	raise(SIGALRM);
	CHECK(signals == 1);
}

static void in_handler_on_its_stack(void) {
	static char area[1 << 16];
	struct sigaction action = { .sa_handler = sleep_in_handler, .sa_flags = SA_ONSTACK };
	CHECK(sigaltstack(&(stack_t){ .ss_sp = area, .ss_size = sizeof area }, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
	raise(SIGALRM);
	CHECK(signals == 1);
}

/* A stack of the program's own making, with data of its neighbour right below it. */
static ucontext_t here, there;

static void read_there(void) {
	ready();
	in_read();
}

static void compute_there(void) {
	ready();
	in_loop();
}

static void coroutine(void body(void)) {
	static char area[1 << 17];
	memset(area, 7, sizeof area);
	CHECK(getcontext(&there) == 0);
	there.uc_stack.ss_sp = area + sizeof area / 2;
	there.uc_stack.ss_size = sizeof area / 2;
	there.uc_link = &here;
	makecontext(&there, body, 0);
	CHECK(swapcontext(&here, &there) == 0);
	for (size_t i = 0; i < sizeof area / 2; i++) CHECK(area[i] == 7);
}

static void in_coroutine(void) { coroutine(read_there); }
static void in_coroutine_loop(void) { coroutine(compute_there); }

#if defined(__x86_64__)
#define VECTORS "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

/* Every register that a system call leaves alone: an inlined one may have something in each. */
static void in_registers(void) {
	static uint64_t seen[16], vectors[32], upper[32];
	static char byte;
	static bool wide;
	wide = __builtin_cpu_supports("avx");
	for (uint64_t i = 0; i < 32; i++) vectors[i] = i * 0x0101010101010101u + 3;
	__asm__ volatile(
	    "cmpb $0, %[wide]\n jz 1f\n"
	    "vmovdqu 0+%[vectors], %%ymm14\n vmovdqu 32+%[vectors], %%ymm15\n"
	    "1: movdqu 128+%[vectors], %%xmm0\n movdqu 144+%[vectors], %%xmm7\n"
	    "pushq %%rbx\n pushq %%rbp\n"
	    "movq $0x1b, %%rbx\n movq $0x1c, %%rbp\n movq $0x18, %%r8\n movq $0x19, %%r9\n movq $0x110, %%r10\n movq $0x112, %%r12\n"
	    "movq $0x113, %%r13\n movq $0x114, %%r14\n movq $0x115, %%r15\n"
	    "movq $0x77, -8(%%rsp)\n movq $0x78, -128(%%rsp)\n"
	    "std\n stc\n"
	    "syscall\n"
	    "pushfq\n popq %%r11\n cld\n" /* which takes the first word of the red zone */
	    "movq -128(%%rsp), %%rcx\n"
	    "movq %%rbx, 0+%[seen]\n movq %%rbp, 8+%[seen]\n movq %%r8, 16+%[seen]\n movq %%r9, 24+%[seen]\n movq %%r10, 32+%[seen]\n"
	    "movq %%r12, 40+%[seen]\n movq %%r13, 48+%[seen]\n movq %%r14, 56+%[seen]\n movq %%r15, 64+%[seen]\n movq %%rdi, 72+%[seen]\n"
	    "movq %%rsi, 80+%[seen]\n movq %%rdx, 88+%[seen]\n movq %%rax, 96+%[seen]\n movq %%r11, 104+%[seen]\n movq %%rcx, 112+%[seen]\n"
	    "movdqu %%xmm0, 64+%[upper]\n movdqu %%xmm7, 80+%[upper]\n"
	    "popq %%rbp\n popq %%rbx\n"
	    "cmpb $0, %[wide]\n jz 2f\n"
	    "vmovdqu %%ymm14, 0+%[upper]\n vmovdqu %%ymm15, 32+%[upper]\n"
	    "2:\n"
	    : [seen] "=m"(seen), [upper] "=m"(upper)
	    : [wide] "m"(wide), [vectors] "m"(vectors), "a"((long)SYS_read), "D"(0L), "S"(&byte), "d"(1L)
	    : "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc", VECTORS);
	static const uint64_t expected[] = { 0x1b, 0x1c, 0x18, 0x19, 0x110, 0x112, 0x113, 0x114, 0x115, 0 };
	for (int i = 0; i < 10; i++) CHECK(seen[i] == expected[i]);
	CHECK(seen[10] == (uint64_t)&byte && seen[11] == 1 && seen[12] == 0);
	CHECK((seen[13] & 0x401) == 0x401); /* carry and direction */
	CHECK(seen[14] == 0x78);
	CHECK(memcmp(upper + 8, vectors + 16, 32) == 0);
	CHECK(!wide || memcmp(upper, vectors, 64) == 0);
}

/* A loop that has something in each register that stacks are not walked by, and below its stack, all the time. */
static void in_registers_loop(void) {
	static uint64_t seen[18], vectors[32], upper[32];
	static bool wide;
	wide = __builtin_cpu_supports("avx");
	for (uint64_t i = 0; i < 32; i++) vectors[i] = i * 0x0101010101010101u + 3;
	__asm__ volatile(
	    "cmpb $0, %[wide]\n jz 1f\n"
	    "vmovdqu 0+%[vectors], %%ymm14\n vmovdqu 32+%[vectors], %%ymm15\n"
	    "1: movdqu 128+%[vectors], %%xmm0\n movdqu 144+%[vectors], %%xmm7\n"
	    "movq $0x10, %%rax\n movq $0x11, %%rcx\n movq $0x12, %%rdx\n movq $0x1b, %%rbx\n movq $0x16, %%rsi\n"
	    "movq $0x17, %%rdi\n movq $0x18, %%r8\n movq $0x19, %%r9\n movq $0x110, %%r10\n movq $0x111, %%r11\n movq $0x112, %%r12\n"
	    "movq $0x113, %%r13\n movq $0x114, %%r14\n movq $0x115, %%r15\n"
	    "movq $0x77, -8(%%rsp)\n movq $0x78, -128(%%rsp)\n"
	    "std\n"
	    "3: cmpl $0, %[signals]\n je 3b\n"
	    "movq %%rax, 0+%[seen]\n movq %%rcx, 8+%[seen]\n movq %%rdx, 16+%[seen]\n movq %%rbx, 24+%[seen]\n"
	    "movq %%rsi, 40+%[seen]\n movq %%rdi, 48+%[seen]\n movq %%r8, 56+%[seen]\n movq %%r9, 64+%[seen]\n movq %%r10, 72+%[seen]\n"
	    "movq %%r11, 80+%[seen]\n movq %%r12, 88+%[seen]\n movq %%r13, 96+%[seen]\n movq %%r14, 104+%[seen]\n movq %%r15, 112+%[seen]\n"
	    "movq -8(%%rsp), %%rcx\n movq %%rcx, 120+%[seen]\n movq -128(%%rsp), %%rcx\n movq %%rcx, 128+%[seen]\n"
	    "pushfq\n popq %%r11\n cld\n movq %%r11, 136+%[seen]\n"
	    "movdqu %%xmm0, 64+%[upper]\n movdqu %%xmm7, 80+%[upper]\n"
	    "cmpb $0, %[wide]\n jz 2f\n"
	    "vmovdqu %%ymm14, 0+%[upper]\n vmovdqu %%ymm15, 32+%[upper]\n"
	    "2:\n"
	    : [seen] "=m"(seen), [upper] "=m"(upper)
	    : [wide] "m"(wide), [vectors] "m"(vectors), [signals] "m"(signals)
	    : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc", VECTORS);
	static const uint64_t expected[] = { 0x10, 0x11, 0x12, 0x1b, 0, 0x16, 0x17, 0x18, 0x19, 0x110, 0x111, 0x112, 0x113, 0x114, 0x115, 0x77, 0x78 };
	CHECK(memcmp(seen, expected, sizeof expected) == 0);
	CHECK((seen[17] & 0x400) != 0); /* direction */
	CHECK(memcmp(upper + 8, vectors + 16, 32) == 0);
	CHECK(!wide || memcmp(upper, vectors, 64) == 0);
}

/* Reads a table on its own stack by pop: what is below the stack pointer is what it has read already, and reads again. */
static void in_pops(void) {
	static char handlers[1 << 16];
	CHECK(sigaltstack(&(stack_t){ .ss_sp = handlers, .ss_size = sizeof handlers }, NULL) == 0);
	handle(SA_ONSTACK);
	const uint64_t count = 4096;
	uint64_t *table = __builtin_alloca(count * sizeof *table);
	for (uint64_t i = 0; i < count; i++) table[i] = i;
	while (signals == 0) {
		uint64_t sum;
		__asm__ volatile(
		    "movq %%rsp, %%r15\n movl $100, %%r8d\n"
		    "2: movq %[table], %%rsp\n xorl %%eax, %%eax\n movl $4096, %%ecx\n"
		    "1: popq %%rdx\n addq %%rdx, %%rax\n decl %%ecx\n jnz 1b\n decl %%r8d\n jnz 2b\n"
		    "movq %%r15, %%rsp\n"
		    : "=&a"(sum)
		    : [table] "b"(table)
		    : "rcx", "rdx", "r8", "r15", "memory", "cc");
		CHECK(sum == (count - 1) * count / 2);
	}
}

/* Right above the end of a stack that has no guard page: below is somebody's data. */
static char area[8 << 14] __attribute__((aligned(4096)));

static void *compute_low(void *stack) {
	__asm__ volatile("movq %%rsp, %%r15\n movq %[stack], %%rsp\n"
	                 "1: cmpl $0, %[signals]\n je 1b\n"
	                 "movq %%r15, %%rsp\n"
	                 :
	                 : [stack] "r"((char *)stack + 64), [signals] "m"(signals)
	                 : "r15", "memory", "cc");
	return NULL;
}

static void in_low_stack(void) {
	pthread_t thread;
	pthread_attr_t attributes;
	char *stack = area + sizeof area / 2;
	sigset_t blocked;
	memset(area, 7, sizeof area);
	CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, stack, sizeof area / 2) == 0);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	CHECK(pthread_create(&thread, &attributes, compute_low, stack) == 0);
	sigprocmask(SIG_UNBLOCK, &blocked, NULL);
	ready();
	while (signals == 0) continue;
	pthread_join(thread, NULL);
	for (size_t i = 0; i < sizeof area / 2; i++) CHECK(area[i] == 7);
}

/* Other ways to end a handler than libc's. */
void return_b8(void), return_6a(void);
__asm__(".pushsection .text\n"
        ".balign 16\n"
        "return_b8: movl $15, %eax\n syscall\n"
        ".balign 16\n"
        "return_6a: pushq $15\n popq %rax\n syscall\n"
        ".popsection\n");

static void handler_with(void (*restorer)(void)) {
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} action = { sleep_in_handler, 0x04000000, restorer, 0 };
	CHECK(syscall(SYS_rt_sigaction, SIGALRM, &action, NULL, 8L) == 0);
	raise(SIGALRM);
	CHECK(signals == 1);
}

static void in_handler_b8(void) { handler_with(return_b8); }
static void in_handler_6a(void) { handler_with(return_6a); }
#else
static void in_registers(void) { in_read(); }
static void in_registers_loop(void) { in_loop(); }
static void in_pops(void) { in_loop(); }
static void in_low_stack(void) { in_loop(); }
static void in_handler_b8(void) { in_handler(); }
static void in_handler_6a(void) { in_handler(); }
#endif

/* Another thread is about to be another program: this one, at the same addresses, without Arenal, which looks whether nobody has written to it. */
static char known[1 << 16];

static void *exec_when_asked(void *unused) {
	char byte;
	CHECK(read(STDIN_FILENO, &byte, 1) == 1);
	execle("/proc/self/exe", "sleeper", "known", (char *)NULL, (char *[]){ NULL });
	return unused;
}

static void in_exec(void) {
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, exec_when_asked, NULL) == 0);
	dprintf(STDOUT_FILENO, "%p\n", (void *)known);
	for (;;) pause();
}

static void in_known(void) {
	in_read();
	for (size_t i = 0; i < sizeof known; i++) CHECK(known[i] == 0);
}

static void nothing_more(void) {}

/* ---- */

static const struct {
	const char *name;
	void (*body)(void);
	bool says_ready;
} things[] = {
	{ "first", nothing_more, true },
	{ "read", in_read, false },
	{ "nanosleep", in_nanosleep, false },
	{ "poll", in_poll, false },
	{ "select", in_select, false },
	{ "epoll", in_epoll, true },
	{ "epoll-timed", in_epoll_timed, true },
	{ "epoll-ticks", in_epoll_ticks, true },
	{ "epoll-lasts", in_epoll_lasts, true },
	{ "epoll_pwait2-lasts", in_epoll_pwait2_lasts, true },
	{ "sigtimedwait-lasts", in_sigtimedwait_lasts, true },
	{ "semtimedop-lasts", in_semtimedop_lasts, true },
	{ "recv-lasts", in_recv_lasts, true },
	{ "terminal-lasts", in_terminal_lasts, true },
	{ "recv-ticks", in_recv_ticks, true },
	{ "socket-least", in_socket_least, true },
	{ "terminal-least", in_terminal_least, true },
	{ "events-least", in_events_least, true },
	{ "accept-closed", in_accept_closed, true },
	{ "epoll-closed", in_epoll_closed, true },
	{ "epoll-interrupted", in_epoll_interrupted, true },
	{ "read-interrupted", in_read_interrupted, true },
	{ "sigsuspend", in_sigsuspend, true },
	{ "sigtimedwait", in_sigtimedwait, true },
	{ "futex", in_futex, false },
	{ "wait", in_wait, true },
	{ "vfork", in_vfork, true },
	{ "loop", in_loop, false },
	{ "loops", in_loops, true },
	{ "zeros", in_zeros, true },
	{ "pops", in_pops, false },
	{ "low-stack", in_low_stack, true },
	{ "registers-loop", in_registers_loop, false },
	{ "handler-loop", in_handler_loop, true },
	{ "coroutine-loop", in_coroutine_loop, true },
	{ "qsort", in_qsort, true },
	{ "malloc", in_malloc, false },
	{ "threads", in_threads, true },
	{ "handler", in_handler, true },
	{ "handler-stack", in_handler_on_its_stack, true },
	{ "handler-b8", in_handler_b8, true },
	{ "handler-6a", in_handler_6a, true },
	{ "coroutine", in_coroutine, true },
	{ "registers", in_registers, false },
	{ "exec", in_exec, false },
	{ "known", in_known, false },
};

static void *sleep_for_ever(void *unused) {
	for (;;) pause();
	return unused;
}

int main(int argc, char **argv) {
	what = argc > 1 ? argv[1] : "";
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 20);
	for (int i = argc > 2 ? atoi(argv[2]) : 0; i > 0; i--) {
		pthread_t thread;
		CHECK(pthread_create(&thread, &small, sleep_for_ever, NULL) == 0);
	}
	if (strcmp(what, "first") == 0) { /* which has not called malloc yet */
		ready();
		in_read();
	}
	for (int i = 0; i < 10000; i++) /* kept */
		if (malloc(100) == NULL) return 2;
	handle(0);
	for (size_t i = 0; i < sizeof things / sizeof *things; i++) {
		if (strcmp(things[i].name, what) != 0) continue;
		if (!things[i].says_ready) ready();
		things[i].body();
		/* And it allocates as before. */
		char *block = malloc(5000);
		CHECK(block != NULL);
		free(block);
		return 0;
	}
	return 2;
}
