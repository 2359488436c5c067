/* Who the process is, what it may have, and random numbers: the questions that have an answer in a
 * sandbox, too, from what was known before. */
#include "base/sandbox.h"

#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "base/os.h"
#include "base/random.h"
#include "base/syscall.h"

_Atomic bool sandbox_on;

/* What a process in a sandbox knew before. */
static struct {
	_Atomic int process;
	size_t address_space, file_length;
	/* Nobody can guess it. Written all the time, for the process may lock itself in at any moment. */
	_Atomic uint64_t random;
} known;

void os_expect_sandbox(void) {
	known.address_space = os_address_space_limit();
	known.file_length = os_file_limit();
	atomic_store(&known.process, os_process_id());
}

void os_enter_sandbox(void) { atomic_store(&sandbox_on, true); }

/* More than any process ID: no descendant by fork has its ancestor's number. */
#define GENERATION (1 << 22)

void os_after_fork(bool in_child) {
	/* Also in the parent: its children are not to choose alike. */
	atomic_fetch_add(&known.random, UINT64_C(0x9E3779B97F4A7C15) + in_child);
	if (in_child && sandbox_is_on()) atomic_fetch_add(&known.process, GENERATION);
}

/* systemd's units have filters that kill for what no service needs: mincore and pidfd_getfd among it. */
bool os_is_filtered(void) { return sandbox_is_on() || CALL(SYS_prctl, PR_GET_SECCOMP) > 0; }

int os_process_id(void) { return sandbox_is_on() ? atomic_load(&known.process) : (int)CALL(SYS_getpid, 0); }

static size_t limit_of(int resource) {
	struct rlimit limit;
	const bool failed = is_error(CALL(SYS_prlimit64, 0, resource, NULL, &limit));
	return failed || limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : limit.rlim_cur;
}

size_t os_address_space_limit(void) { return sandbox_is_on() ? known.address_space : limit_of(RLIMIT_AS); }

size_t os_file_limit(void) { return sandbox_is_on() ? known.file_length : limit_of(RLIMIT_FSIZE); }

uint64_t os_random(void) {
	struct random from = { 0 };
	if (sandbox_is_on()) {
		from.state = atomic_fetch_add(&known.random, UINT64_C(0x9E3779B97F4A7C15)) ^ os_milliseconds();
		return random_next(&from);
	}
	/* Not from AT_RANDOM: libc has its own secrets there. Early in the boot there is nothing better than
	 * the time. */
	if (CALL(SYS_getrandom, &from.state, sizeof from.state, GRND_NONBLOCK) != sizeof from.state)
		from.state = os_nanoseconds() ^ (uintptr_t)&from;
	/* None of the two tells the other. */
	atomic_fetch_xor(&known.random, random_next(&from));
	return random_next(&from);
}
