/* System calls about the process's memory: mappings, the break, purging, what of it is there. */
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "base/os.h"
#include "base/probe.h"
#include "base/sandbox.h"
#include "base/syscall.h"

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

/* 0 or the errno. */
static int advise(void *address, size_t size, int advice) {
	return (int)-CALL(SYS_madvise, address, size, advice);
}

static bool protect(void *address, size_t size, int protection) {
	return CALL(SYS_mprotect, address, size, protection) == 0;
}

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

/* True when the kernel says that it took the memory: locked memory, too, where it can. */
static bool give_back(void *address, size_t size) {
	const int error = advise(address, size, MADV_DONTNEED);
	return error == 0 || (error == EINVAL && advise(address, size, MADV_DONTNEED_LOCKED) == 0);
}

void os_unmap(void *address, size_t size) {
	/* munmap fails when it would split a mapping past vm.max_map_count: the memory is given back all the
	 * same. */
	if (CALL(SYS_munmap, address, size) != 0) give_back(address, size);
}

/* Linux 5.17. */
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

void os_name_pages(void *address, size_t size, enum os_name name) {
	static const char *const names[] = {
		[NAME_HEAP] = "arenal: heap",
		[NAME_HUGE] = "arenal: huge",
		[NAME_GUARDED] = "arenal: guarded",
		[NAME_RECORDS] = "arenal: records",
	};
	static _Atomic bool refused; /* so are all others */
	if (sandbox_is_on() || atomic_load_explicit(&refused, memory_order_relaxed)) return;
	const long result = CALL(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, address, size, names[name]);
	if (result == -EINVAL || result == -EPERM) atomic_store_explicit(&refused, true, memory_order_relaxed);
}

bool os_try_unmap(void *address, size_t size) { return CALL(SYS_munmap, address, size) == 0; }

/* ---- reserved, committed, closed ---- */

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

void *os_reserve_zero(size_t size) {
	return leave_out_of_cores(map_anywhere(size, PROT_READ, MAP_NORESERVE), size);
}

bool os_commit(void *address, size_t size) {
	if (!protect(address, size, PROT_READ | PROT_WRITE)) return false;
	advise(address, size, MADV_DODUMP);
	return true;
}

bool os_guard(void *address, size_t size) { return protect(address, size, PROT_NONE); }

void *os_map_guarded(size_t size) {
	const size_t all = size + 2 * os_page_size;
	char *p = map_anywhere(all, PROT_NONE, MAP_NORESERVE);
	/* Not os_commit: it was not left out of cores. */
	if (p != NULL && !protect(p + os_page_size, size, PROT_READ | PROT_WRITE)) {
		os_unmap(p, all);
		p = NULL;
	}
	/* Where no mapping may be added (vm.max_map_count), one without guards may still become one with
	 * another beside it. */
	if (p == NULL) p = os_map(all, os_page_size);
	if (p == NULL) return NULL;
	os_name(p, all, NAME_RECORDS);
	return p + os_page_size;
}

/* ---- resized ---- */

void *os_remap(void *address, size_t old_size, size_t new_size, bool may_move) {
	return pointer_or_null(CALL(SYS_mremap, address, old_size, new_size, may_move ? MREMAP_MAYMOVE : 0));
}

bool os_remap_to(void *address, size_t old_size, size_t new_size, void *to) {
	return !is_error(CALL(SYS_mremap, address, old_size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, to));
}

/* ---- given back ---- */

/* Does what the kernel took read as zero? Emulators and sandboxes may take MADV_DONTNEED for a hint, and
 * say that it is done. */
static _Atomic enum { UNTRIED, CLEARS, ONLY_A_HINT } dontneed;

/* Asked after a purge that worked: found out with a page of our own, and again the next time if that was
 * refused. */
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

static bool is_only_a_hint(void) {
	return unlikely(atomic_load_explicit(&dontneed, memory_order_relaxed) == ONLY_A_HINT);
}

struct os_purges os_purges;

enum purge os_purge(void *address, size_t size, bool lazily) {
	const uint64_t begin = os_stopwatch();
	enum purge done = PURGE_REFUSED;
	if (lazily && advise(address, size, MADV_FREE) == 0)
		done = PURGED_LAZILY;
	else if (!is_only_a_hint() && give_back(address, size) && dontneed_clears())
		done = PURGED;
	os_stopwatch_ends(begin, &os_purges.times);
	if (done == PURGE_REFUSED) return done;
	atomic_fetch_add_explicit(&os_purges.count, 1, memory_order_relaxed);
	PROBE(purge, address, size, done == PURGED_LAZILY);
	return done;
}

bool os_clear(void *address, size_t size) {
	return !is_only_a_hint() && advise(address, size, MADV_DONTNEED) == 0 && dontneed_clears();
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

/* ---- what else the kernel does with pages ---- */

bool os_advise_huge(void *address, size_t size, bool wanted) {
	return advise(address, size, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0;
}

bool os_thp_always(void) {
	char text[64];
	os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", 0, text, sizeof text);
	return strstr(text, "[always]") != NULL;
}

bool os_back_file(void *address, size_t size) {
	int error;
	do error = advise(address, size, MADV_POPULATE_WRITE);
	while (error == EINTR || error == EAGAIN);
	return error == 0;
}

bool os_replace_file(void *address, size_t size) {
	return map(address, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1) != NULL;
}

bool os_wipe_on_fork(void *address, size_t size) { return advise(address, size, MADV_WIPEONFORK) == 0; }

void *os_brk(void) { return os_brk_move(0); }

void *os_brk_move(intptr_t delta) { return system_break(delta); }

/* ---- what is there ---- */

/* The kernel compares the word with a number, before it wakes nobody and moves nobody to another word. Of
 * the calls that read memory, this is one that mallocs make anyway: sandboxes let it. */
bool os_is_readable(const void *address) {
	uint32_t other = 0;
	const long result = CALL(SYS_futex, address, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, &other, 0);
	return result >= 0 || result == -EAGAIN;
}

/* Filters that kill know what reads files, but not what reads memory. But who gave rights away may not
 * open the file of his own memory. */
bool os_copy_memory(void *to, uintptr_t from, size_t size) {
	const struct iovec here = { to, size }, there = { (void *)from, size };
	if (sandbox_is_on()) return false;
	long result = -ENOSYS;
	if (!os_is_filtered()) result = CALL(SYS_process_vm_readv, os_process_id(), &here, 1, &there, 1, 0);
	if (result == -ENOSYS) {
		const int file = os_open_file("/proc/thread-self/mem");
		if (file < 0) return false;
		result = CALL(SYS_pread64, file, to, size, from);
		os_close(file);
	}
	return result == (long)size;
}

bool os_copy_pieces(void *to, const struct os_piece *pieces, size_t count) {
	struct iovec here = { to, 0 }, there[128];
	for (size_t i = 0; i < count; i++) {
		there[i] = (struct iovec){ (void *)pieces[i].from, pieces[i].size };
		here.iov_len += pieces[i].size;
	}
	return CALL(SYS_process_vm_readv, CALL(SYS_getpid, 0), &here, 1, there, count, 0) == (long)here.iov_len;
}

/* Pages that the kernel is asked about in one call. */
#define RESIDENT_PAGES 1024

/* Of at most so many pages. The kernel tells nothing when a part of them is not mapped: then each half is
 * asked for, down to what is not worth it. */
static size_t resident_pages(char *address, size_t count) {
	unsigned char pages[RESIDENT_PAGES];
	size_t resident = 0;
	if (CALL(SYS_mincore, address, count * os_page_size, pages) == 0) {
		for (size_t i = 0; i < count; i++) resident += pages[i] & 1;
	} else if (count > RESIDENT_PAGES / 64) {
		const size_t half = count / 2;
		resident = resident_pages(address, half);
		resident += resident_pages(address + half * os_page_size, count - half);
	}
	return resident;
}

size_t os_resident(void *address, size_t size) {
	size_t resident = 0;
	const size_t count = (size + os_page_size - 1) / os_page_size;
	for (size_t done = 0; done < count && !sandbox_is_on(); done += RESIDENT_PAGES) {
		const size_t part = min_size(RESIDENT_PAGES, count - done);
		resident += resident_pages((char *)address + done * os_page_size, part);
	}
	return resident * os_page_size;
}

size_t os_peak_resident(void) {
	struct rusage usage;
	if (sandbox_is_on() || is_error(CALL(SYS_getrusage, RUSAGE_SELF, &usage))) return SIZE_MAX;
	return (size_t)usage.ru_maxrss * 1024;
}
