#include "observe/standstill.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/conf.h"
#include "base/os.h"
#include "base/print.h"

/* Milliseconds that are waited for those who are about to come, after the last one that came. */
#define PATIENCE 100

static _Atomic uint32_t standing;       /* 1: they are to stand. A futex */
static _Atomic uint32_t begun, noted;   /* threads that came, and whose registers are there. The second is a
                                             futex */
static struct standing_thread *threads; /* STANDSTILL_MAX */
static int ids[STANDSTILL_MAX];

static void on_signal(int signal, siginfo_t *info, void *context) {
	(void)signal, (void)info;
	if (atomic_load(&standing) == 0) return;
	static uint32_t never;
	const uint32_t place = atomic_fetch_add(&begun, 1);
	struct unwind frame;
	unwind_interrupted(&frame, context);
	if (place < STANDSTILL_MAX) {
		threads[place].thread_pointer = (uintptr_t)__builtin_thread_pointer();
		for (size_t i = 0; i < UNWIND_REGISTERS; i++) threads[place].registers[i] = frame.registers[i];
	}
	atomic_fetch_add(&noted, 1);
	os_futex_wake((uint32_t *)&noted);
	while (atomic_load(&standing) != 0) os_futex_wait((uint32_t *)&standing, 1);
	while (unwind_call_fails(&frame, EINTR)) os_futex_wait(&never, 0);
}

/* What the kernel tells of a thread, in the file of this name. */
static void read_about(int id, const char *name, char *text, size_t size) {
	char path[64];
	print_text(path, sizeof path, "/proc/self/task/%d/%s", id, name);
	os_read_file(path, 0, text, size);
}

/* The first thread stays in the list when it ends before the others. */
static bool has_ended(const char *status) {
	const char *at = strstr(status, "State:\t");
	return at == NULL || at[7] == 'Z' || at[7] == 'X';
}

/* Would the thread be given the signal as one of the program's? It blocks it, and perhaps has a descriptor
 * that signals are read from; or it waits for signals, which the kernel does not count as blocked
 * meanwhile. */
static bool is_about_signals(int id, const char *status, int signal) {
	char text[256];
	int64_t call;
	read_about(id, "syscall", text, sizeof text);
	if (conf_parse(text, strcspn(text, " "), &call) && call == SYS_rt_sigtimedwait) return true;
	const char *at = strstr(status, "SigBlk:\t");
	uint64_t blocked = 0;
	for (int i = 8; at != NULL && i < 24; i++)
		blocked = blocked << 4 | (uint64_t)(at[i] <= '9' ? at[i] - '0' : at[i] - 'a' + 10);
	return (blocked >> (signal - 1) & 1) != 0;
}

/* The highest that nobody has a use for; 0: there is none. */
static int take_signal(void) {
	const struct sigaction ours = { .sa_sigaction = on_signal,
		                            .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
	struct sigaction now;
	for (int signal = SIGRTMAX; signal >= SIGRTMIN; signal--)
		if (os_signal_ask(signal, &now) && now.sa_handler == SIG_DFL && os_signal_action(signal, &ours, NULL))
			return signal;
	return 0;
}

bool standstill_begin(struct standstill *all) {
	const int signal = take_signal(), own = os_thread_id();
	if (threads == NULL) threads = os_map(STANDSTILL_MAX * sizeof *threads, os_page_size);
	const size_t count = os_threads(ids, STANDSTILL_MAX);
	size_t others = count - 1, called = 0;
	if (signal == 0 || threads == NULL || count == 0) return false;
	atomic_store(&standing, 1);
	for (size_t i = 0; i < count; i++) {
		char status[2048];
		if (ids[i] == own) continue;
		read_about(ids[i], "status", status, sizeof status);
		if (has_ended(status))
			others--;
		else
			called += !is_about_signals(ids[i], status, signal) && os_signal_thread(ids[i], signal);
	}
	uint64_t until = os_milliseconds() + PATIENCE;
	for (uint32_t now; (now = atomic_load(&noted)) < called && os_milliseconds() < until;) {
		os_futex_wait_for((uint32_t *)&noted, now, PATIENCE);
		if (atomic_load(&noted) != now) until = os_milliseconds() + PATIENCE;
	}
	const size_t here = min_size(atomic_load(&noted), STANDSTILL_MAX);
	*all =
	    (struct standstill){ .count = here, .missing = others - min_size(here, others), .threads = threads };
	return true;
}

void standstill_end(void) {
	atomic_store(&standing, 0);
	os_futex_wake_all((uint32_t *)&standing);
}
