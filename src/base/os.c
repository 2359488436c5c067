/* The only file with system calls. They go through libc's functions by name, so that a test can interpose them; those that the
 * shared library has functions of its own for (api/advice.c) through syscall(). */
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
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
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/probe.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Linux 5.18. */
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

size_t os_page_size = 4096;

void os_init(void) {
	size_t size = getauxval(AT_PAGESZ);
	if (is_power_of_two(size)) os_page_size = size;
}

unsigned os_cpu_count(void) {
	/* sched_getaffinity rather than sysconf: a container that pins its processes should get few arenas. */
	cpu_set_t set;
	int saved = errno;
	int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
	errno = saved;
	return count > 0 ? (unsigned)count : 1;
}

static int advise(void *address, size_t size, int advice) { return (int)syscall(SYS_madvise, address, size, advice); }

static int protect(void *address, size_t size, int protection) {
	return (int)syscall(SYS_mprotect, address, size, protection);
}

static void *map_anywhere(size_t size, int protection, int flags) {
	int saved = errno;
	void *p = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	errno = saved;
	return p == MAP_FAILED ? NULL : p;
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

void *os_reserve(size_t size, size_t align) { return map_aligned(size, align, PROT_NONE, MAP_NORESERVE); }

enum decommit os_decommit(void *address, size_t size) {
	int saved = errno;
	void *p = mmap(address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	errno = saved;
	if (p != MAP_FAILED) return DECOMMITTED;
	/* A new mapping may be one too many where a change of this one is not. */
	const bool closed = os_guard(address, size), clean = os_purge(address, size, false) == PURGED;
	return !closed ? DECOMMIT_REFUSED : clean ? DECOMMITTED : DECOMMIT_DIRTY;
}

/* True when the kernel says that it took the memory: locked memory, too, where it can. */
static bool give_back(void *address, size_t size) {
	return advise(address, size, MADV_DONTNEED) == 0 || (errno == EINVAL && advise(address, size, MADV_DONTNEED_LOCKED) == 0);
}

void os_unmap(void *address, size_t size) {
	int saved = errno;
	/* munmap fails when it would split a mapping past vm.max_map_count: the memory is given back all the same. */
	if (munmap(address, size) != 0) give_back(address, size);
	errno = saved;
}

bool os_guard(void *address, size_t size) {
	int saved = errno;
	bool done = protect(address, size, PROT_NONE) == 0;
	errno = saved;
	return done;
}

void *os_map_guarded(size_t size) {
	const size_t all = size + 2 * os_page_size;
	char *p = map_anywhere(all, PROT_NONE, MAP_NORESERVE);
	if (p != NULL && !os_commit(p + os_page_size, size)) {
		os_unmap(p, all);
		p = NULL;
	}
	/* Where no mapping may be added (vm.max_map_count), one without guards may still become one with another beside it. */
	if (p == NULL) p = os_map(all, os_page_size);
	return p != NULL ? p + os_page_size : NULL;
}

void os_unmap_guarded(void *address, size_t size) { os_unmap((char *)address - os_page_size, size + 2 * os_page_size); }

void *os_reserve_zero(size_t size) { return map_anywhere(size, PROT_READ, MAP_NORESERVE); }

bool os_commit(void *address, size_t size) {
	int saved = errno;
	bool done = protect(address, size, PROT_READ | PROT_WRITE) == 0;
	errno = saved;
	return done;
}

void *os_remap(void *address, size_t old_size, size_t new_size, bool may_move) {
	int saved = errno;
	void *p = mremap(address, old_size, new_size, may_move ? MREMAP_MAYMOVE : 0);
	errno = saved;
	return p == MAP_FAILED ? NULL : p;
}

bool os_remap_to(void *address, size_t old_size, size_t new_size, void *to) {
	int saved = errno;
	void *p = mremap(address, old_size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	errno = saved;
	return p != MAP_FAILED;
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
	int saved = errno;
	enum purge done = PURGE_REFUSED;
	if (lazily && advise(address, size, MADV_FREE) == 0)
		done = PURGED_LAZILY;
	else if (!is_only_a_hint() && give_back(address, size) && dontneed_clears())
		done = PURGED;
	if (done != PURGE_REFUSED) PROBE(purge, address, size, done == PURGED_LAZILY);
	errno = saved;
	return done;
}

bool os_clear(void *address, size_t size) {
	int saved = errno;
	const bool done = !is_only_a_hint() && advise(address, size, MADV_DONTNEED) == 0 && dontneed_clears();
	errno = saved;
	return done;
}

long os_pass(long call, long a, long b, long c, long d, long e, long f) { return syscall(call, a, b, c, d, e, f); }

bool os_advise_huge(void *address, size_t size, bool wanted) {
	int saved = errno;
	bool done = advise(address, size, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0;
	errno = saved;
	return done;
}

bool os_thp_always(void) {
	char text[64];
	os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", 0, text, sizeof text);
	return strstr(text, "[always]") != NULL;
}

void *os_brk(void) { return os_brk_move(0); }

void *os_brk_move(intptr_t delta) {
	int saved = errno;
	void *old = sbrk(delta);
	errno = saved;
	return old == (void *)-1 ? NULL : old;
}

/* The kernel compares the word with a number, before it wakes nobody and moves nobody to another word. Of the calls that read
 * memory, this is one that mallocs make anyway: sandboxes let it. */
bool os_is_readable(const void *address) {
	uint32_t other = 0;
	int saved = errno;
	bool done = syscall(SYS_futex, address, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, &other, 0) >= 0 || errno == EAGAIN;
	errno = saved;
	return done;
}

size_t os_resident(void *address, size_t size) {
	unsigned char pages[1024];
	size_t resident = 0, step = sizeof pages * os_page_size;
	int saved = errno;
	for (size_t done = 0; done < size; done += step) {
		size_t part = min_size(step, size - done);
		if (mincore((char *)address + done, part, pages) != 0) continue;
		for (size_t i = 0; i < (part + os_page_size - 1) / os_page_size; i++) resident += pages[i] & 1;
	}
	errno = saved;
	return resident * os_page_size;
}

size_t os_address_space_limit(void) {
	struct rlimit limit;
	int saved = errno;
	int failed = getrlimit(RLIMIT_AS, &limit);
	errno = saved;
	return failed || limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : limit.rlim_cur;
}

uint64_t os_random(void) {
	uint64_t number = 0;
	int saved = errno;
	/* Not from AT_RANDOM: libc has its own secrets there. Early in the boot there is nothing better than the time. */
	if (syscall(SYS_getrandom, &number, sizeof number, GRND_NONBLOCK) != sizeof number) { /* libc's may cancel the thread */
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		number = ((uint64_t)now.tv_nsec ^ (uintptr_t)&number) * UINT64_C(0x9E3779B97F4A7C15);
	}
	errno = saved;
	return number;
}

bool os_is_secure(void) { return getauxval(AT_SECURE) != 0; }

char **os_environ(void) { return environ; }

int os_thread_id(void) { return (int)syscall(SYS_gettid); }

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
	int saved = errno;
	bool done = syscall(SYS_rt_sigaction, signal, action, earlier, sizeof action->mask) == 0;
	errno = saved;
	return done;
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

void os_signal_mask(int how, const sigset_t *set, sigset_t *earlier) { pthread_sigmask(how, set, earlier); }

void os_send_again(int signal, siginfo_t *info) {
	int saved = errno;
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), os_thread_id(), signal, info) != 0)
		syscall(SYS_tgkill, getpid(), os_thread_id(), signal);
	errno = saved;
}

uint64_t os_milliseconds(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int os_create_file(const char *path) {
	int saved = errno;
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (file < 0) file = -errno;
	errno = saved;
	return file;
}

int os_close(int fd) {
	int saved = errno;
	int result = close(fd) == 0 || errno == EINTR ? 0 : errno;
	errno = saved;
	return result;
}

int os_copy_file(const char *path, int fd) {
	char text[4096];
	int saved = errno, result = 0;
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = file;
	while (length >= 0 && result == 0 && (length = read(file, text, sizeof text)) != 0)
		if (length > 0) result = os_write(fd, text, (size_t)length);
	if (length < 0) result = errno;
	if (file >= 0) close(file);
	errno = saved;
	return result;
}

int os_write(int fd, const char *text, size_t length) {
	int saved = errno, result = 0;
	while (length > 0 && result == 0) {
		ssize_t n = write(fd, text, length);
		if (n >= 0) {
			text += n;
			length -= (size_t)n;
		} else if (errno != EINTR) {
			result = errno;
		}
	}
	errno = saved;
	return result;
}

void os_futex_wait(uint32_t *word, uint32_t expected) {
	int saved = errno;
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
	errno = saved;
}

void os_futex_wait_for(uint32_t *word, uint32_t expected, uint64_t milliseconds) {
	struct timespec limit = { (time_t)(milliseconds / 1000), (long)(milliseconds % 1000 * 1000000) };
	int saved = errno;
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &limit, NULL, 0);
	errno = saved;
}

void os_futex_wait_shared(uint32_t *word, uint32_t expected) {
	int saved = errno;
	syscall(SYS_futex, word, FUTEX_WAIT, expected, NULL, NULL, 0);
	errno = saved;
}

void os_futex_wake_shared(uint32_t *word) {
	int saved = errno;
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	errno = saved;
}

bool os_own_descriptors(void) {
	int saved = errno;
	bool done = syscall(SYS_close_range, 0, ~0U, CLOSE_RANGE_UNSHARE) == 0;
	errno = saved;
	return done;
}

static void *map_file(int file, size_t size) {
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	if (ftruncate(file, (off_t)size) != 0 || fcntl(file, F_ADD_SEALS, seals) != 0) return NULL;
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (p == MAP_FAILED) return NULL;
	if (advise(p, size, MADV_DONTFORK) == 0) return p;
	munmap(p, size);
	return NULL;
}

int os_memory_file(const char *name) {
	int saved = errno;
	int low = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int file = low >= 0 ? fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1;
	if (low >= 0) close(low);
	errno = saved;
	return file;
}

void *os_map_file(const char *name, size_t size) {
	int saved = errno;
	void *p = NULL;
	int file = os_memory_file(name);
	if (file >= 0 && (p = map_file(file, size)) == NULL) close(file);
	errno = saved;
	return p;
}

int os_process_id(void) { return (int)getpid(); }

/* glibc's, since 2.32. */
extern char __libc_single_threaded __attribute__((weak));
bool os_is_single_threaded(void) { return &__libc_single_threaded != NULL && __libc_single_threaded != 0; }

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer does not know what membarrier orders, and would report every block that passes by it: both the block's
 * contents and the slot of the magazine. The protocol around it is checked by tests/models/drain.pml and, with barriers, by
 * the stress tests of the other builds. */
bool os_barrier_in_all_threads(void) { return false; }
#else
static bool barrier(int command) {
	int saved = errno;
	bool done = syscall(SYS_membarrier, command, 0, 0) == 0;
	errno = saved;
	return done;
}

/* It is refused to those who have not said before that they want it, which takes long: once, and not in every program. */
bool os_barrier_in_all_threads(void) {
	return barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) ||
	       (barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) && barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
}
#endif

size_t os_read_file(const char *path, size_t offset, char *text, size_t size) {
	/* Reading is a cancellation point, malloc is none: its caller could not know what is lost. */
	int saved = errno, cancelable;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = file >= 0 ? pread(file, text, size - 1, (off_t)offset) : -1;
	if (file >= 0) close(file);
	pthread_setcancelstate(cancelable, NULL);
	errno = saved;
	if (length < 0) length = 0;
	text[length] = 0;
	return (size_t)length;
}

int os_create_mapped(const char *path, size_t size, size_t least, struct os_file *file, void **address) {
	struct rlimit limit;
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < size) size = ALIGN_DOWN(limit.rlim_cur, SLICE_SIZE);
	int saved = errno, cancelable, result = 0;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0) {
		struct stat about;
		void *p = MAP_FAILED;
		/* Less where there is not so much address space, or files are shorter. */
		for (; p == MAP_FAILED && size >= least; size /= 4)
			if (ftruncate(fd, (off_t)size) == 0 && fstat(fd, &about) == 0)
				p = mmap(NULL, size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
		if (p != MAP_FAILED) {
			*file = (struct os_file){ about.st_dev, about.st_ino, (size_t)about.st_size };
			*address = p;
		} else {
			result = size < least ? EFBIG : errno;
			unlink(path);
		}
		close(fd);
	} else {
		result = errno;
	}
	pthread_setcancelstate(cancelable, NULL);
	errno = saved;
	return result;
}

void os_cut_file(const char *path, const struct os_file *file, size_t size) {
	int saved = errno, cancelable;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
	int fd = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat about;
	if (fd >= 0 && fstat(fd, &about) == 0 && about.st_dev == file->device && about.st_ino == file->number &&
	    ftruncate(fd, (off_t)size) != 0) {
		/* It stays long, and without contents there. */
	}
	if (fd >= 0) close(fd);
	pthread_setcancelstate(cancelable, NULL);
	errno = saved;
}

bool os_back_file(void *address, size_t size) {
	int saved = errno;
	int failed;
	do
		failed = advise(address, size, MADV_POPULATE_WRITE);
	while (failed != 0 && (errno == EINTR || errno == EAGAIN));
	errno = saved;
	return failed == 0;
}

bool os_wipe_on_fork(void *address, size_t size) {
	int saved = errno;
	bool done = advise(address, size, MADV_WIPEONFORK) == 0;
	errno = saved;
	return done;
}

bool os_directory(char *path, size_t size) {
	int saved = errno;
	/* The system call: libc's may allocate. */
	bool found = syscall(SYS_getcwd, path, size) > 0 && path[0] == '/';
	errno = saved;
	return found;
}

void os_thread_name(char *name) {
	memset(name, 0, 16);
	prctl(PR_GET_NAME, name);
}

static uint64_t nanoseconds(clockid_t clock) {
	struct timespec now;
	clock_gettime(clock, &now);
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

static void futex_wake(uint32_t *word, int count) {
	int saved = errno;
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
	errno = saved;
}

void os_futex_wake(uint32_t *word) { futex_wake(word, 1); }
void os_futex_wake_all(uint32_t *word) { futex_wake(word, INT_MAX); }

_Noreturn void os_abort(void) { abort(); }

bool os_try_unmap(void *address, size_t size) {
	int saved = errno;
	const bool done = munmap(address, size) == 0;
	errno = saved;
	return done;
}
