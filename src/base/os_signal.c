/* System calls about signals. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/libc.h"
#include "base/os.h"
#include "base/syscall.h"

bool os_signal_action(int signal, const struct sigaction *action, struct sigaction *earlier) {
	int saved = errno;
	bool done = libc.sigaction(signal, action, earlier) == 0;
	errno = saved;
	return done;
}

/* The kernel's own layout, on x86-64 and AArch64. */
struct kernel_action {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

static bool kernel_action(int signal, const struct kernel_action *action, struct kernel_action *earlier) {
	return CALL(SYS_rt_sigaction, signal, action, earlier, sizeof action->mask) == 0;
}

/* All that the kernel has. */
static uint64_t first_signals(const sigset_t *set) {
	uint64_t first;
	memcpy(&first, set, sizeof first);
	return first;
}

bool os_signal_ask(int signal, struct sigaction *action) {
	struct kernel_action told;
	if (!kernel_action(signal, NULL, &told)) return false;
	*action = (struct sigaction){
		.sa_handler = (sighandler_t)told.handler,
		.sa_flags = (int)told.flags,
		.sa_restorer = (void (*)(void))told.restorer,
		.sa_mask = { { told.mask } },
	};
	return true;
}

bool os_signal_restore(int signal, const struct sigaction *action) {
	const struct kernel_action exact = {
		.handler = (void *)action->sa_handler,
		.flags = (unsigned)action->sa_flags,
		.restorer = (void *)action->sa_restorer,
		.mask = first_signals(&action->sa_mask),
	};
	return kernel_action(signal, &exact, NULL);
}

/* The signals that libc's threads send each other: it lets nobody block them. musl has a third one, which its
 * sigfillset leaves out. */
#define SIGNALS_OF_LIBC (UINT64_C(3) << 31)

void os_signal_mask(int how, const sigset_t *set, sigset_t *earlier) {
	uint64_t mask = set != NULL ? first_signals(set) & ~SIGNALS_OF_LIBC : 0, before;
	const bool done = CALL(SYS_rt_sigprocmask, how, set != NULL ? &mask : NULL, &before, sizeof mask) == 0;
	if (done && earlier != NULL) *earlier = (sigset_t){ { before } };
}

uint64_t os_pending_signals(void) {
	uint64_t set = 0;
	return CALL(SYS_rt_sigpending, &set, sizeof set) == 0 ? set : 0;
}

void os_send_again(int signal, siginfo_t *info) {
	const int process = (int)CALL(SYS_getpid, 0), thread = (int)CALL(SYS_gettid, 0);
	if (CALL(SYS_rt_tgsigqueueinfo, process, thread, signal, info) != 0)
		CALL(SYS_tgkill, process, thread, signal);
}
