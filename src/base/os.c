/* The only file that asks the kernel for anything. It does so directly (base/syscall.h); of libc's functions, there are only such that
 * nobody interposes in practice, or that are called by second names. */
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/probe.h"
#include "base/random.h"
#include "base/sandbox.h"
#include "base/syscall.h"
#include "base/vdso.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Linux 4.17. */
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* Linux 5.18. */
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

size_t os_page_size = 4096;

/* The kernel's clock_gettime without a system call. NULL: it has none, or os_init was not yet. */
static int (*_Atomic clock_function)(clockid_t clock, struct timespec *now);

#if defined(__x86_64__)
#define CLOCK_FUNCTION "__vdso_clock_gettime"
#elif defined(__aarch64__)
#define CLOCK_FUNCTION "__kernel_clock_gettime"
#endif

void os_init(void) {
	const size_t size = system_auxiliary(AT_PAGESZ);
	if (is_power_of_two(size)) os_page_size = size;
	atomic_store_explicit(&clock_function, vdso_function(system_auxiliary(AT_SYSINFO_EHDR), CLOCK_FUNCTION), memory_order_relaxed);
}

_Atomic bool sandbox_on;

/* What a process in a sandbox knew before. */
static struct {
	_Atomic int process;
	size_t address_space, file_length;
	_Atomic uint64_t random; /* nobody can guess it: written all the time, for one may be locked in any time */
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

/* 0 or the errno. */
static int advise(void *address, size_t size, int advice) { return (int)-CALL(SYS_madvise, address, size, advice); }

static bool protect(void *address, size_t size, int protection) { return CALL(SYS_mprotect, address, size, protection) == 0; }

static void *pointer_or_null(long result) { return is_error(result) ? NULL : (void *)result; }

static void *map(void *address, size_t size, int protection, int flags, int file) {
	return pointer_or_null(CALL(SYS_mmap, address, size, protection, flags, file, 0));
}

static void *map_anywhere(size_t size, int protection, int flags) {
	return map(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1);
}

static void *map_aligned(size_t size, size_t align, int protection, int flags) {
	void *p = map_anywhere(size, protection, flags);
	if (p == NULL || ((uintptr_t)p & (align - 1)) == 0) return p;
	/* Not aligned by luck: map more, and cut both ends off. */
	os_unmap(p, size);
	if (size + align < size) return NULL;
	char *start = map_anywhere(size + align, protection, flags);
	if (start == NULL) return NULL;
	char *aligned = (char *)ALIGN_UP((uintptr_t)start, align);
	size_t head = (size_t)(aligned - start);
	if (head > 0) os_unmap(start, head);
	if (align > head) os_unmap(aligned + size, align - head);
	return aligned;
}

void *os_map(size_t size, size_t align) { return map_aligned(size, align, PROT_READ | PROT_WRITE, 0); }

/* What is reserved is not written to cores, by the kernel or by gdb; what of it is committed is. */
static void *leave_out_of_cores(void *p, size_t size) {
	if (p != NULL) advise(p, size, MADV_DONTDUMP);
	return p;
}

void *os_reserve(size_t size, size_t align) {
	return leave_out_of_cores(map_aligned(size, align, PROT_NONE, MAP_NORESERVE), size);
}

/* A kernel that does not know the flag takes the address for a hint. */
static bool map_at(void *address, size_t size, int protection, int flags) {
	void *p = map(address, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | flags, -1);
	if (p != NULL && p != address) os_unmap(p, size);
	return p != NULL && p == address;
}

bool os_map_at(void *address, size_t size, bool accessible) {
	if (accessible) return map_at(address, size, PROT_READ | PROT_WRITE, 0);
	return map_at(address, size, PROT_NONE, MAP_NORESERVE) && leave_out_of_cores(address, size) != NULL;
}

bool os_reserve_zero_at(void *address, size_t size) {
	return map_at(address, size, PROT_READ, MAP_NORESERVE) && leave_out_of_cores(address, size) != NULL;
}

enum decommit os_decommit(void *address, size_t size) {
	if (map(address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1) != NULL) {
		leave_out_of_cores(address, size);
		return DECOMMITTED;
	}
	/* A new mapping may be one too many where a change of this one is not. */
	const bool closed = os_guard(address, size), clean = os_purge(address, size, false) == PURGED;
	return !closed ? DECOMMIT_REFUSED : clean ? DECOMMITTED : DECOMMIT_DIRTY;
}

/* True when the kernel says that it took the memory: locked memory, too, where it can. */
static bool give_back(void *address, size_t size) {
	const int error = advise(address, size, MADV_DONTNEED);
	return error == 0 || (error == EINVAL && advise(address, size, MADV_DONTNEED_LOCKED) == 0);
}

void os_unmap(void *address, size_t size) {
	/* munmap fails when it would split a mapping past vm.max_map_count: the memory is given back all the same. */
	if (CALL(SYS_munmap, address, size) != 0) give_back(address, size);
}

bool os_guard(void *address, size_t size) { return protect(address, size, PROT_NONE); }

void *os_map_guarded(size_t size) {
	const size_t all = size + 2 * os_page_size;
	char *p = map_anywhere(all, PROT_NONE, MAP_NORESERVE);
	if (p != NULL && !protect(p + os_page_size, size, PROT_READ | PROT_WRITE)) { /* not os_commit: it was not left out of cores */
		os_unmap(p, all);
		p = NULL;
	}
	/* Where no mapping may be added (vm.max_map_count), one without guards may still become one with another beside it. */
	if (p == NULL) p = os_map(all, os_page_size);
	return p != NULL ? p + os_page_size : NULL;
}

void os_unmap_guarded(void *address, size_t size) { os_unmap((char *)address - os_page_size, size + 2 * os_page_size); }

void *os_reserve_zero(size_t size) { return leave_out_of_cores(map_anywhere(size, PROT_READ, MAP_NORESERVE), size); }

bool os_commit(void *address, size_t size) {
	if (!protect(address, size, PROT_READ | PROT_WRITE)) return false;
	advise(address, size, MADV_DODUMP);
	return true;
}

void *os_remap(void *address, size_t old_size, size_t new_size, bool may_move) {
	return pointer_or_null(CALL(SYS_mremap, address, old_size, new_size, may_move ? MREMAP_MAYMOVE : 0));
}

bool os_remap_to(void *address, size_t old_size, size_t new_size, void *to) {
	return !is_error(CALL(SYS_mremap, address, old_size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, to));
}

/* Does what the kernel took read as zero? Emulators and sandboxes may take MADV_DONTNEED for a hint, and say that it is done. */
static _Atomic enum { UNTRIED, CLEARS, ONLY_A_HINT } dontneed;

/* Asked after a purge that worked: found out with a page of our own, and again the next time if that was refused. */
static bool dontneed_clears(void) {
	if (likely(atomic_load_explicit(&dontneed, memory_order_relaxed) == CLEARS)) return true;
	volatile char *page = map_anywhere(os_page_size, PROT_READ | PROT_WRITE, 0);
	if (page == NULL) return false;
	*page = 1;
	const bool done = give_back((void *)page, os_page_size), cleared = *page == 0;
	if (done) atomic_store_explicit(&dontneed, cleared ? CLEARS : ONLY_A_HINT, memory_order_relaxed);
	os_unmap((void *)page, os_page_size);
	return done && cleared;
}

static bool is_only_a_hint(void) { return unlikely(atomic_load_explicit(&dontneed, memory_order_relaxed) == ONLY_A_HINT); }

enum purge os_purge(void *address, size_t size, bool lazily) {
	enum purge done = PURGE_REFUSED;
	if (lazily && advise(address, size, MADV_FREE) == 0)
		done = PURGED_LAZILY;
	else if (!is_only_a_hint() && give_back(address, size) && dontneed_clears())
		done = PURGED;
	if (done != PURGE_REFUSED) PROBE(purge, address, size, done == PURGED_LAZILY);
	return done;
}

bool os_clear(void *address, size_t size) {
	return !is_only_a_hint() && advise(address, size, MADV_DONTNEED) == 0 && dontneed_clears();
}

long os_pass(long call, long a, long b, long c, long d, long e, long f) {
	const long result = system_call(call, a, b, c, d, e, f);
	if (!is_error(result)) return result;
	errno = (int)-result;
	return -1;
}

bool os_advise_huge(void *address, size_t size, bool wanted) {
	return advise(address, size, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0;
}

bool os_thp_always(void) {
	char text[64];
	os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", 0, text, sizeof text);
	return strstr(text, "[always]") != NULL;
}

void *os_brk(void) { return os_brk_move(0); }

void *os_brk_move(intptr_t delta) { return system_break(delta); }

/* The kernel compares the word with a number, before it wakes nobody and moves nobody to another word. Of the calls that read
 * memory, this is one that mallocs make anyway: sandboxes let it. */
bool os_is_readable(const void *address) {
	uint32_t other = 0;
	const long result = CALL(SYS_futex, address, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, &other, 0);
	return result >= 0 || result == -EAGAIN;
}

/* Pages that the kernel is asked about in one call. */
#define RESIDENT_PAGES 1024

/* Of at most so many pages. The kernel tells nothing when a part of them is not mapped: then each half is asked for, down to what is not
 * worth it. */
static size_t resident_pages(char *address, size_t count) {
	unsigned char pages[RESIDENT_PAGES];
	size_t resident = 0;
	if (CALL(SYS_mincore, address, count * os_page_size, pages) == 0) {
		for (size_t i = 0; i < count; i++) resident += pages[i] & 1;
	} else if (count > RESIDENT_PAGES / 64) {
		const size_t half = count / 2;
		resident = resident_pages(address, half) + resident_pages(address + half * os_page_size, count - half);
	}
	return resident;
}

size_t os_resident(void *address, size_t size) {
	size_t resident = 0;
	const size_t count = (size + os_page_size - 1) / os_page_size;
	for (size_t done = 0; done < count && !sandbox_is_on(); done += RESIDENT_PAGES)
		resident += resident_pages((char *)address + done * os_page_size, min_size(RESIDENT_PAGES, count - done));
	return resident * os_page_size;
}

size_t os_peak_resident(void) {
	struct rusage usage;
	if (sandbox_is_on() || is_error(CALL(SYS_getrusage, RUSAGE_SELF, &usage))) return SIZE_MAX;
	return (size_t)usage.ru_maxrss * 1024;
}

static size_t limit_of(int resource) {
	struct rlimit limit;
	const bool failed = is_error(CALL(SYS_prlimit64, 0, resource, NULL, &limit));
	return failed || limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : limit.rlim_cur;
}

size_t os_address_space_limit(void) { return sandbox_is_on() ? known.address_space : limit_of(RLIMIT_AS); }

uint64_t os_random(void) {
	struct random from = { 0 };
	if (sandbox_is_on()) {
		from.state = atomic_fetch_add(&known.random, UINT64_C(0x9E3779B97F4A7C15)) ^ os_milliseconds();
		return random_next(&from);
	}
	/* Not from AT_RANDOM: libc has its own secrets there. Early in the boot there is nothing better than the time. */
	if (CALL(SYS_getrandom, &from.state, sizeof from.state, GRND_NONBLOCK) != sizeof from.state)
		from.state = os_nanoseconds() ^ (uintptr_t)&from;
	/* None of the two tells the other. */
	atomic_fetch_xor(&known.random, random_next(&from));
	return random_next(&from);
}

const char *os_program(void) {
	const char *name = (const char *)system_auxiliary(AT_EXECFN);
	return name != NULL ? name : "";
}

bool os_is_secure(void) { return system_auxiliary(AT_SECURE) != 0; }

char **os_environ(void) { return environ; }

int os_thread_id(void) { return sandbox_is_on() ? -1 : (int)CALL(SYS_gettid, 0); }

/* The second name that libc has for its sigaction: the first is ours in the shared library (api/signals.c). */
extern int libc_sigaction(int signal, const struct sigaction *action, struct sigaction *earlier) __asm__("__sigaction");

bool os_signal_action(int signal, const struct sigaction *action, struct sigaction *earlier) {
	int saved = errno;
	bool done = libc_sigaction(signal, action, earlier) == 0;
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

bool os_signal_ask(int signal, struct sigaction *action) {
	struct kernel_action told;
	if (!kernel_action(signal, NULL, &told)) return false;
	*action = (struct sigaction){ .sa_handler = (__sighandler_t)told.handler, .sa_flags = (int)told.flags,
		                          .sa_restorer = (void (*)(void))told.restorer, .sa_mask = { { told.mask } } };
	return true;
}

bool os_signal_restore(int signal, const struct sigaction *action) {
	const struct kernel_action exact = { (void *)action->sa_handler, (unsigned)action->sa_flags, (void *)action->sa_restorer,
		                                 action->sa_mask.__val[0] };
	return kernel_action(signal, &exact, NULL);
}

/* The signals that libc's threads send each other: it lets nobody block them. */
#define SIGNALS_OF_LIBC (UINT64_C(3) << 31)

void os_signal_mask(int how, const sigset_t *set, sigset_t *earlier) {
	uint64_t mask = set != NULL ? set->__val[0] & ~SIGNALS_OF_LIBC : 0, before;
	if (CALL(SYS_rt_sigprocmask, how, set != NULL ? &mask : NULL, &before, sizeof mask) == 0 && earlier != NULL)
		*earlier = (sigset_t){ { before } };
}

uint64_t os_pending_signals(void) {
	uint64_t set = 0;
	return CALL(SYS_rt_sigpending, &set, sizeof set) == 0 ? set : 0;
}

void os_send_again(int signal, siginfo_t *info) {
	const int process = (int)CALL(SYS_getpid, 0), thread = (int)CALL(SYS_gettid, 0);
	if (CALL(SYS_rt_tgsigqueueinfo, process, thread, signal, info) != 0) CALL(SYS_tgkill, process, thread, signal);
}

static struct timespec now_by(clockid_t clock) {
	struct timespec now = { 0, 0 };
	int (*function)(clockid_t, struct timespec *) = atomic_load_explicit(&clock_function, memory_order_relaxed);
	if (function == NULL || function(clock, &now) != 0) CALL(SYS_clock_gettime, clock, &now);
	return now;
}

uint64_t os_milliseconds(void) {
	const struct timespec now = now_by(CLOCK_MONOTONIC_COARSE);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int open_file(const char *path, int flags, int mode) {
	return (int)CALL(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

static void close_file(int file) { CALL(SYS_close, file); }

int os_create_file(const char *path) { return open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600); }

int os_rename_file(const char *from, const char *to) { return (int)-CALL(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to); }

void os_remove_file(const char *path) { CALL(SYS_unlinkat, AT_FDCWD, path, 0); }

int os_may_replace(const char *path) {
	struct stat about;
	const int error = (int)-CALL(SYS_newfstatat, AT_FDCWD, path, &about, AT_SYMLINK_NOFOLLOW);
	if (error != 0) return error == ENOENT ? 0 : error;
	return S_ISREG(about.st_mode) ? 0 : S_ISDIR(about.st_mode) ? EISDIR : EEXIST;
}

size_t os_file_limit(void) { return sandbox_is_on() ? known.file_length : limit_of(RLIMIT_FSIZE); }

int os_close(int fd) {
	const int error = (int)-CALL(SYS_close, fd);
	return error == EINTR ? 0 : error;
}

/* systemd's units have filters that kill for what no service needs: mincore and pidfd_getfd among it. */
bool os_is_filtered(void) { return sandbox_is_on() || CALL(SYS_prctl, PR_GET_SECCOMP) > 0; }

/* Filters that kill know what reads files, but not what reads memory. But who gave rights away may not open the
 * file of his own memory. */
bool os_copy_memory(void *to, uintptr_t from, size_t size) {
	const struct iovec here = { to, size }, there = { (void *)from, size };
	if (sandbox_is_on()) return false;
	long result = os_is_filtered() ? -ENOSYS : CALL(SYS_process_vm_readv, os_process_id(), &here, 1, &there, 1, 0);
	if (result == -ENOSYS) {
		const int file = open_file("/proc/thread-self/mem", O_RDONLY, 0);
		if (file < 0) return false;
		result = CALL(SYS_pread64, file, to, size, from);
		close_file(file);
	}
	return result == (long)size;
}

/* A thread with a table of its own has none of the program's descriptors. What it has to say goes to theirs. */
static __thread __attribute__((tls_model("initial-exec"))) bool has_own_descriptors;

/* The program's descriptor as one of the calling thread, since Linux 5.6. */
static int borrow(int fd) {
	if (os_is_filtered()) return -EBADF;
	const int process = (int)CALL(SYS_pidfd_open, os_process_id(), 0);
	if (process < 0) return -EBADF;
	const int borrowed = (int)CALL(SYS_pidfd_getfd, process, fd, 0);
	close_file(process);
	return borrowed;
}

static int write_all(int fd, const char *text, size_t length) {
	while (length > 0) {
		const long n = CALL(SYS_write, fd, text, length);
		if (n < 0 && n != -EINTR) return (int)-n;
		if (n < 0) continue;
		text += n;
		length -= (size_t)n;
	}
	return 0;
}

int os_write(int fd, const char *text, size_t length) {
	if (likely(!has_own_descriptors) || fd != STDERR_FILENO) return write_all(fd, text, length);
	const int borrowed = borrow(fd);
	if (borrowed < 0) return -borrowed;
	const int error = write_all(borrowed, text, length);
	close_file(borrowed);
	return error;
}

static void futex(uint32_t *word, int operation, uint32_t value, const struct timespec *limit) {
	CALL(SYS_futex, word, operation, value, limit, NULL, 0);
}

void os_futex_wait(uint32_t *word, uint32_t expected) { futex(word, FUTEX_WAIT_PRIVATE, expected, NULL); }

void os_futex_wait_for(uint32_t *word, uint32_t expected, uint64_t milliseconds) {
	const struct timespec limit = { (time_t)(milliseconds / 1000), (long)(milliseconds % 1000 * 1000000) };
	futex(word, FUTEX_WAIT_PRIVATE, expected, &limit);
}

void os_futex_wait_shared(uint32_t *word, uint32_t expected) { futex(word, FUTEX_WAIT, expected, NULL); }
void os_futex_wake_shared(uint32_t *word) { futex(word, FUTEX_WAKE, INT_MAX, NULL); }
void os_futex_wake(uint32_t *word) { futex(word, FUTEX_WAKE_PRIVATE, 1, NULL); }
void os_futex_wake_all(uint32_t *word) { futex(word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL); }

bool os_own_descriptors(void) {
	if (sandbox_is_on()) return false;
	return has_own_descriptors = CALL(SYS_close_range, 0, ~0U, CLOSE_RANGE_UNSHARE) == 0;
}

static void *map_file(int file, size_t size) {
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	if (CALL(SYS_ftruncate, file, size) != 0 || CALL(SYS_fcntl, file, F_ADD_SEALS, seals) != 0) return NULL;
	void *p = map(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file);
	if (p == NULL || advise(p, size, MADV_DONTFORK) == 0) return p;
	os_unmap(p, size);
	return NULL;
}

/* The descriptor by another number: what is written to number 2 goes to the program's. */
static int lift(int low) {
	const int file = (int)CALL(SYS_fcntl, low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	close_file(low);
	return file < 0 ? -1 : file;
}

int os_memory_file(const char *name) {
	const int low = sandbox_is_on() ? -1 : (int)CALL(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return low < 0 ? -1 : lift(low);
}

bool os_pipe(int ends[2]) {
	if (sandbox_is_on() || CALL(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
	for (int i = 0; i < 2; i++) ends[i] = lift(ends[i]);
	if (ends[0] >= 0 && ends[1] >= 0) return true;
	for (int i = 0; i < 2; i++)
		if (ends[i] >= 0) close_file(ends[i]);
	return false;
}

bool os_wait_to_write(int fd, unsigned milliseconds) {
	struct pollfd poll = { .fd = fd, .events = POLLOUT };
	const struct timespec limit = { (time_t)(milliseconds / 1000), (long)(milliseconds % 1000 * 1000000) };
	return CALL(SYS_ppoll, &poll, 1, &limit, NULL, 0) == 1 && (poll.revents & POLLOUT) != 0;
}

void *os_map_file(const char *name, size_t size) {
	void *p = NULL;
	const int file = os_memory_file(name);
	if (file >= 0 && (p = map_file(file, size)) == NULL) close_file(file);
	return p;
}

int os_process_id(void) { return sandbox_is_on() ? atomic_load(&known.process) : (int)CALL(SYS_getpid, 0); }

/* glibc's, since 2.32. */
extern char __libc_single_threaded __attribute__((weak));
bool os_is_single_threaded(void) { return &__libc_single_threaded != NULL && __libc_single_threaded != 0; }

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer does not know what membarrier orders, and would report every block that passes by it: both the block's
 * contents and the slot of the magazine. The protocol around it is checked by tests/models/drain.pml and, with barriers, by
 * the stress tests of the other builds. */
bool os_barrier_in_all_threads(void) { return false; }
#else
static bool barrier(int command) { return CALL(SYS_membarrier, command, 0, 0) == 0; }

/* It is refused to those who have not said before that they want it, which takes long: once, and not in every program. */
bool os_barrier_in_all_threads(void) {
	if (sandbox_is_on()) return false;
	return barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) ||
	       (barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) && barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
}
#endif

bool os_file_exists(const char *path) { return !sandbox_is_on() && CALL(SYS_faccessat, AT_FDCWD, path, F_OK) == 0; }

int os_open_file(const char *path) { return sandbox_is_on() ? -1 : open_file(path, O_RDONLY, 0); }

/* The file of the first thread is empty after that has ended; emulators know no other name. */
int os_open_maps(void) {
	char byte;
	const int file = os_open_file("/proc/self/maps");
	if (file < 0 || CALL(SYS_pread64, file, &byte, 1, 0) == 1) return file;
	close_file(file);
	return os_open_file("/proc/thread-self/maps");
}

size_t os_read(int fd, char *text, size_t size) {
	const long length = CALL(SYS_read, fd, text, size - 1);
	text[length > 0 ? length : 0] = 0;
	return length > 0 ? (size_t)length : 0;
}

size_t os_read_file(const char *path, size_t offset, char *text, size_t size) {
	const int file = os_open_file(path);
	long length = file;
	if (file >= 0) {
		length = CALL(SYS_pread64, file, text, size - 1, offset);
		close_file(file);
	}
	if (length < 0) length = 0;
	text[length] = 0;
	return (size_t)length;
}

int os_create_mapped(const char *path, size_t size, size_t least, struct os_file *file, void **address) {
	const size_t longest = os_file_limit();
	if (longest < size) size = ALIGN_DOWN(longest, SLICE_SIZE);
	const int fd = open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0) return -fd;
	struct stat about;
	long result = -EFBIG;
	/* Less where there is not so much address space, or files are shorter. */
	for (; is_error(result) && size >= least; size /= 4)
		if (!is_error(result = CALL(SYS_ftruncate, fd, size)) && !is_error(result = CALL(SYS_fstat, fd, &about)))
			result = CALL(SYS_mmap, NULL, size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (is_error(result)) {
		os_remove_file(path);
	} else {
		*file = (struct os_file){ about.st_dev, about.st_ino, (size_t)about.st_size };
		*address = (void *)result;
		result = 0;
	}
	close_file(fd);
	return (int)-result;
}

/* Readers can ask for a lock of this kind without taking one, which flock has nothing for: that would be in the way of the others. */
static int open_locked(const char *path, const struct os_file *file, short kind) {
	const int fd = sandbox_is_on() ? -1 : open_file(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
	struct stat about;
	if (fd < 0) return -1;
	if (CALL(SYS_fstat, fd, &about) == 0 && about.st_dev == file->device && about.st_ino == file->number &&
	    CALL(SYS_fcntl, fd, F_OFD_SETLK, &(struct flock){ .l_type = kind }) == 0)
		return fd;
	close_file(fd);
	return -1;
}

static bool is_held(const char *path) {
	struct flock lock = { .l_type = F_WRLCK };
	const int fd = open_file(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0) return false;
	const bool held = CALL(SYS_fcntl, fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
	close_file(fd);
	return held;
}

void *os_hold_file(const char *path, const struct os_file *file) {
	const int fd = open_locked(path, file, F_RDLCK);
	if (fd < 0) return NULL;
	/* The lock belongs to what was opened, which lasts as long as it is mapped anywhere. Not in file systems that lie over another one
	 * (overlayfs), for what is mapped is the file below. */
	const long place = CALL(SYS_mmap, NULL, os_page_size, PROT_NONE, MAP_SHARED, fd, 0);
	close_file(fd);
	if (is_error(place)) return NULL;
	if (is_held(path)) return (void *)place;
	os_unmap((void *)place, os_page_size);
	return NULL;
}

int os_lock_file(const char *path, const struct os_file *file) { return open_locked(path, file, F_WRLCK); }

void os_cut_file(int fd, size_t size) {
	struct stat about;
	/* Where that is refused, it stays long, and without contents there. To make it longer than it may be would end the process. */
	if (CALL(SYS_fstat, fd, &about) == 0 && size < (size_t)about.st_size) CALL(SYS_ftruncate, fd, size);
	close_file(fd);
}

bool os_back_file(void *address, size_t size) {
	int error;
	do
		error = advise(address, size, MADV_POPULATE_WRITE);
	while (error == EINTR || error == EAGAIN);
	return error == 0;
}

bool os_replace_file(void *address, size_t size) {
	return map(address, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1) != NULL;
}

bool os_wipe_on_fork(void *address, size_t size) { return advise(address, size, MADV_WIPEONFORK) == 0; }

bool os_directory(char *path, size_t size) { return !sandbox_is_on() && CALL(SYS_getcwd, path, size) > 0 && path[0] == '/'; }

void os_thread_name(char *name) {
	memset(name, 0, 16);
	if (!sandbox_is_on()) CALL(SYS_prctl, PR_GET_NAME, name);
}

static uint64_t nanoseconds(clockid_t clock) {
	const struct timespec now = now_by(clock);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t os_nanoseconds(void) { return nanoseconds(CLOCK_MONOTONIC); }
uint64_t os_date(void) { return nanoseconds(CLOCK_REALTIME); }

/* /proc/self/stat is "PID (NAME) STATE", seventeen numbers, and that of the threads. The state is that of the first
 * thread, which stays as a zombie when it ends before the others. */
bool os_is_last_thread(void) {
	char text[512];
	if (os_read_file("/proc/self/stat", 0, text, sizeof text) == 0) return false;
	const char *at = strrchr(text, ')');
	if (at == NULL || at[1] != ' ' || at[2] != 'Z') return false;
	for (int i = 0; at != NULL && i < 18; i++) at = strchr(at + 1, ' ');
	return at != NULL && at[1] == '2' && at[2] == ' ';
}

_Noreturn void os_abort(void) { abort(); }

/* ---- threads of our own ---- */

long os_affinity(unsigned char *set, size_t size) { return CALL(SYS_sched_getaffinity, 0, (long)size, (long)set, 0); }

bool os_set_affinity(const unsigned char *set, size_t size) {
	return CALL(SYS_sched_setaffinity, 0, (long)size, (long)set, 0) == 0;
}

/* The first version of the kernel's structure (Linux 3.14). */
struct scheduling {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

#define DEFAULT_TIMER_SLACK 50000 /* nanoseconds */

void os_schedule_as_process(void) {
	struct scheduling own = { 0 }, first = { 0 };
	if (CALL(SYS_sched_getattr, 0, (long)&own, sizeof own, 0) == 0 &&
	    CALL(SYS_sched_getattr, os_process_id(), (long)&first, sizeof first, 0) == 0) {
		struct scheduling wanted = { .size = sizeof wanted, .policy = SCHED_OTHER, .nice = first.nice };
		if (first.policy == SCHED_BATCH || first.policy == SCHED_IDLE) wanted.policy = first.policy;
		/* Who may not have a nicer one back keeps that of the thread that made it. */
		if (own.policy != wanted.policy || own.nice != wanted.nice)
			if (CALL(SYS_sched_setattr, 0, (long)&wanted, 0, 0) != 0 && own.policy != wanted.policy) {
				wanted.nice = own.nice;
				CALL(SYS_sched_setattr, 0, (long)&wanted, 0, 0);
			}
	}
	CALL(SYS_prctl, PR_SET_TIMERSLACK, DEFAULT_TIMER_SLACK, 0, 0);
}

void os_thread_rename(const char *name) { CALL(SYS_prctl, PR_SET_NAME, (long)name, 0, 0); }

bool os_has_thread(int id) { return CALL(SYS_tgkill, os_process_id(), id, 0, 0) == 0; }

struct capabilities {
	uint32_t effective, permitted, inheritable;
};

/* 0 or a negative errno. */
static long capabilities_of(int id, struct capabilities sets[2]) {
	struct {
		uint32_t version;
		int id;
	} header = { 0x20080522, id };
	memset(sets, 0, 2 * sizeof *sets);
	return CALL(SYS_capget, (long)&header, (long)sets, 0, 0);
}

bool os_has_same_rights(int id) {
	struct capabilities own[2], other[2];
	const long error = capabilities_of(id, other);
	return error == -ESRCH || (error == 0 && capabilities_of(0, own) == 0 && memcmp(own, other, sizeof own) == 0);
}

/* A thread loses its number and its place in the list of the process under one lock of the kernel. This call takes it for reading; what it
 * asks for is of no interest. */
void os_pass_thread_list(void) { CALL(SYS_getpriority, PRIO_PGRP, 0, 0, 0); }

void os_pause(unsigned microseconds) {
	const struct timespec time = { 0, (long)microseconds * 1000 };
	if (microseconds == 0)
		CALL(SYS_sched_yield, 0, 0, 0, 0);
	else
		CALL(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&time, 0);
}

bool os_try_unmap(void *address, size_t size) { return CALL(SYS_munmap, address, size) == 0; }
