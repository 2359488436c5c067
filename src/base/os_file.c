/* System calls about files, pipes and descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "base/print.h"
#include "base/sandbox.h"
#include "base/syscall.h"

static int open_file(const char *path, int flags, int mode) {
	return (int)CALL(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

static void close_file(int file) { CALL(SYS_close, file); }

bool os_file_exists(const char *path) {
	return !sandbox_is_on() && CALL(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
}

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

bool os_read_at(int fd, void *to, size_t size, uint64_t offset) {
	return CALL(SYS_pread64, fd, to, size, offset) == (long)size;
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

bool os_directory(char *path, size_t size) {
	return !sandbox_is_on() && CALL(SYS_getcwd, path, size) > 0 && path[0] == '/';
}

bool os_read_link(const char *path, char *text, size_t size) {
	if (sandbox_is_on()) return false;
	const long length = CALL(SYS_readlinkat, AT_FDCWD, path, text, size);
	if (length <= 0 || (size_t)length >= size) return false;
	text[length] = 0;
	return true;
}

/* ---- names and new files ---- */

int os_create_file(const char *path) {
	return open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
}

int os_rename_file(const char *from, const char *to) {
	return (int)-CALL(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}

void os_remove_file(const char *path) { CALL(SYS_unlinkat, AT_FDCWD, path, 0); }

int os_may_replace(const char *path) {
	struct stat about;
	const int error = (int)-CALL(SYS_newfstatat, AT_FDCWD, path, &about, AT_SYMLINK_NOFOLLOW);
	if (error != 0) return error == ENOENT ? 0 : error;
	return S_ISREG(about.st_mode) ? 0 : S_ISDIR(about.st_mode) ? EISDIR : EEXIST;
}

uint64_t os_own_file_date(const char *path) {
	struct stat about;
	const int error = (int)-CALL(SYS_newfstatat, AT_FDCWD, path, &about, AT_SYMLINK_NOFOLLOW);
	if (error != 0) return error == ENOENT ? 0 : UINT64_MAX;
	if (!S_ISREG(about.st_mode) || about.st_uid != (uid_t)CALL(SYS_geteuid, 0)) return UINT64_MAX;
	return (uint64_t)about.st_mtim.tv_sec * 1000000000 + (uint64_t)about.st_mtim.tv_nsec + 1;
}

int os_create_unnamed(const char *folder) { return open_file(folder, O_WRONLY | O_TMPFILE, 0600); }

/* The thread may have a table of descriptors of its own. */
int os_name_file(int fd, const char *path) {
	char name[64];
	print_text(name, sizeof name, "/proc/thread-self/fd/%d", fd);
	return (int)-CALL(SYS_linkat, AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

int os_close(int fd) {
	const int error = (int)-CALL(SYS_close, fd);
	return error == EINTR ? 0 : error;
}

/* ---- what is written, and tables of descriptors ---- */

/* A thread with a table of its own has none of the program's descriptors. What it has to say goes to
 * theirs. */
static __thread __attribute__((tls_model("initial-exec"))) bool has_own_descriptors;

bool os_own_descriptors(void) {
	if (sandbox_is_on()) return false;
	return has_own_descriptors = CALL(SYS_close_range, 0, ~0U, CLOSE_RANGE_UNSHARE) == 0;
}

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

/* Where files may not grow for ever, a write to one that is as long as it may be comes with a signal that
 * ends the process. It stays where it is, and is taken back: the write has failed, and that is all. */
static int write_within_limit(int fd, const char *text, size_t length) {
	sigset_t mask, before;
	sigemptyset(&mask);
	sigaddset(&mask, SIGXFSZ);
	os_signal_mask(SIG_BLOCK, &mask, &before);
	const uint64_t bit = UINT64_C(1) << (SIGXFSZ - 1), earlier = os_pending_signals() & bit;
	const int error = write_all(fd, text, length);
	const struct timespec at_once = { 0, 0 };
	if (error == EFBIG && earlier == 0) CALL(SYS_rt_sigtimedwait, &mask, NULL, &at_once, sizeof bit);
	os_signal_mask(SIG_SETMASK, &before, NULL);
	return error;
}

static int write_here(int fd, const char *text, size_t length) {
	const bool limited = !sandbox_is_on() && os_file_limit() != SIZE_MAX;
	return unlikely(limited) ? write_within_limit(fd, text, length) : write_all(fd, text, length);
}

int os_write(int fd, const char *text, size_t length) {
	if (likely(!has_own_descriptors) || fd != STDERR_FILENO) return write_here(fd, text, length);
	const int borrowed = borrow(fd);
	if (borrowed < 0) return -borrowed;
	const int error = write_here(borrowed, text, length);
	close_file(borrowed);
	return error;
}

/* ---- files in memory, pipes ---- */

static void *map_file(int file, size_t size) {
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	if (CALL(SYS_ftruncate, file, size) != 0 || CALL(SYS_fcntl, file, F_ADD_SEALS, seals) != 0) return NULL;
	const long place = CALL(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (is_error(place)) return NULL;
	if (CALL(SYS_madvise, place, size, MADV_DONTFORK) == 0) return (void *)place;
	os_unmap((void *)place, size);
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

void *os_map_file(const char *name, size_t size) {
	void *p = NULL;
	const int file = os_memory_file(name);
	if (file >= 0 && (p = map_file(file, size)) == NULL) close_file(file);
	return p;
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

bool os_takes_text(int fd) {
	struct pollfd poll = { .fd = fd, .events = POLLOUT };
	const struct timespec at_once = { 0, 0 };
	const long ready = CALL(SYS_ppoll, &poll, 1, &at_once, NULL, 0);
	return is_error(ready) || (ready == 1 && poll.revents == POLLOUT);
}

/* ---- files that are mapped, and held (the trace) ---- */

int os_create_mapped(const char *path, size_t size, size_t least, struct os_file *file, void **address) {
	const size_t longest = os_file_limit();
	if (longest < size) size = ALIGN_DOWN(longest, SLICE_SIZE);
	const int fd = open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0) return -fd;
	struct stat about;
	long result = -EFBIG;
	/* Less where there is not so much address space, or files are shorter. */
	for (; is_error(result) && size >= least; size /= 4) {
		result = CALL(SYS_ftruncate, fd, size);
		if (!is_error(result)) result = CALL(SYS_fstat, fd, &about);
		if (!is_error(result))
			result = CALL(SYS_mmap, NULL, size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	}
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

/* Readers can ask for a lock of this kind without taking one, which flock has nothing for: that would be
 * in the way of the others. */
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
	/* The lock belongs to what was opened, which lasts as long as it is mapped anywhere. Not in file
	 * systems that lie over another one (overlayfs), for what is mapped is the file below. */
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
	/* Where that is refused, it stays long, and without contents there. To make it longer than it may be
	 * would end the process. */
	if (CALL(SYS_fstat, fd, &about) == 0 && size < (size_t)about.st_size) CALL(SYS_ftruncate, fd, size);
	close_file(fd);
}
