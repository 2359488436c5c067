#include "arena/clear.h"

#include <string.h>

#include "arena/heap.h"
#include "arena/pressure.h"
#include "base/os.h"

/* To give memory back and get it again, page by page, costs many times as much as to write to it (see src/README.md). So that is only
 * for what the next owner will not touch. He will do what the last one did, most likely; and of that, the memory itself tells: pages
 * that nobody wrote to read as zero. A page that is looked at and not there costs a page fault, but no memory. */

/* Less than this is written to sooner than it is looked at. */
#define LOOK_FROM (512 * KIB)

/* From here on, memory counts more than time: libc's malloc serves such blocks by mappings that are always new
 * (DEFAULT_MMAP_THRESHOLD_MAX). They go back also when one of the pages that were looked at was written to. Of smaller ones none may be:
 * it would take longer than under libc's malloc. */
#define SPARSE_FROM (32 * MIB)

/* So many pages are looked at, the first one and others at equal distances. Programs write zeros, too: of a block that takes long to
 * get again, more. */
static size_t looks(size_t size) { return size >= SPARSE_FROM ? 8 : size > MIB ? 4 : 2; }

static bool is_zero(const char *page) {
	uint64_t first;
	memcpy(&first, page, sizeof first);
	return first == 0 && memcmp(page, page + sizeof first, os_page_size - sizeof first) == 0;
}

bool looks_written(const char *start, size_t size) {
	const size_t pages = looks(size), step = ALIGN_DOWN(size / pages, os_page_size);
	size_t may_be_written = size >= SPARSE_FROM;
	for (size_t i = 0; i < pages; i++)
		if (!is_zero(start + i * step) && may_be_written-- == 0) return true;
	return false;
}

void clear_stale(char *start, size_t size, bool may_purge) {
	if (may_purge && size >= LOOK_FROM && !looks_written(start, size)) {
		const size_t pages = ALIGN_UP(size, os_page_size);
		if (os_clear(start, pages)) {
			heap_count_purged(pages);
			pressure_count(pages);
			return;
		}
	}
	memset(start, 0, size);
}
