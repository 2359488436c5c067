/* grows: says "ready", and does what the lines that it reads say, each answered by one line: "grow BYTES" allocates so much from
 * grow_here, in blocks of 64 KiB; "use BYTES" the same, freed at once; "for ever" grows until somebody ends it; "term" tells the actions of
 * SIGTERM and SIGUSR2, asked in four ways; "handle" handles both, SIGTERM by exit(7); "fork" grows in a child, which is left waiting, by
 * 16 MiB; "leave" lets another thread go on alone, which ends; "wait" waits for SIGTERM by sigwait. At the end of the input it exits with 3. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK ((size_t)64 << 10)

struct block {
	struct block *next;
};
static struct block *volatile kept;
static volatile sig_atomic_t user_signals;

__attribute__((noinline, noclone)) void grow_here(void) {
	struct block *block = malloc(BLOCK);
	memset(block, 1, BLOCK);
	block->next = kept;
	kept = block;
}

__attribute__((noinline, noclone)) void use_here(void) {
	void *volatile block = malloc(BLOCK);
	free(block);
}

static void repeat(void (*function)(void), size_t bytes) {
	for (size_t done = 0; done < bytes; done += BLOCK)
		function();
}

static const char *name(void (*handler)(int)) {
	return handler == SIG_DFL ? "default" : handler == SIG_IGN ? "ignored" : "a handler";
}

static void tell(void) {
	struct sigaction term, user;
	sigset_t none;

	sigemptyset(&none);
	sigaction(SIGTERM, NULL, &term);
	sigaction(SIGUSR2, &(struct sigaction){ .sa_handler = SIG_DFL, .sa_mask = none }, &user);
	printf("%s %s %s", name(term.sa_handler), name(user.sa_handler), term.sa_flags == 0 ? "no flags" : "flags");
	void (*before)(int) = signal(SIGTERM, SIG_IGN);
	printf(" %s", name(before));
	before = signal(SIGTERM, before);
	printf(" %s\n", name(before));
}

static void on_term(int number) {
	(void)number;
	exit(7);
}

static void on_user(int number) {
	(void)number;
	user_signals++;
}

static void wait_for_term(void) {
	sigset_t set;
	int number = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	puts("waiting");
	fflush(stdout);
	sigwait(&set, &number);
	printf("got %d\n", number);
}

static void grow_in_child(void) {
	pid_t child = fork();

	if (child == 0) {
		repeat(grow_here, (size_t)16 << 20);
		for (;;)
			pause();
	}
	printf("%d\n", (int)child);
}

static pthread_t first;

static void *be_last(void *unused) {
	pthread_join(first, NULL);
	grow_here();
	return unused;
}

static void leave(void) {
	pthread_t thread;

	first = pthread_self();
	pthread_create(&thread, NULL, be_last, NULL);
	pthread_exit(NULL);
}

int main(void) {
	char line[64];

	for (puts("ready"), fflush(stdout); fgets(line, sizeof line, stdin) != NULL; fflush(stdout)) {
		line[strcspn(line, "\n")] = 0;
		if (strncmp(line, "grow ", 5) == 0)
			repeat(grow_here, strtoul(line + 5, NULL, 10)), puts("grown");
		else if (strncmp(line, "use ", 4) == 0)
			repeat(use_here, strtoul(line + 4, NULL, 10)), puts("used");
		else if (strcmp(line, "for ever") == 0)
			for (;;)
				grow_here(), usleep(200);
		else if (strcmp(line, "term") == 0)
			tell();
		else if (strcmp(line, "handle") == 0)
			signal(SIGTERM, on_term), signal(SIGUSR2, on_user), puts("handled");
		else if (strcmp(line, "count") == 0)
			printf("%d\n", (int)user_signals);
		else if (strcmp(line, "fork") == 0)
			grow_in_child();
		else if (strcmp(line, "leave") == 0)
			leave();
		else if (strcmp(line, "wait") == 0)
			wait_for_term();
	}
	return 3;
}
