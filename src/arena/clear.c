#include "arena/clear.h"

#include <string.h>

#include "arena/heap.h"
#include "arena/pressure.h"
#include "base/os.h"

/* To give memory back and get it again, page by page, costs ten times as much as to write to it (see src/README.md). So that is only
 * for what the next owner will mostly not touch. He will do what the last one did, most likely; and of that, the memory itself tells:
 * pages that nobody wrote to read as zero. A page that is looked at and not there costs a page fault, but no memory. */

/* Less than this is written to sooner than it is looked at. */
#define LOOK_FROM (256 * KIB)

/* Pages that are looked at: one for so many bytes, and so many at least and at most. */
#define LOOK_STEP (512 * KIB)
#define LOOKS_LEAST 2
#define LOOKS_MOST 8

static bool is_zero(const char *page) {
	uint64_t first;
	memcpy(&first, page, sizeof first);
	return first == 0 && memcmp(page, page + sizeof first, os_page_size - sizeof first) == 0;
}

bool looks_written(const char *start, size_t size) {
	const size_t looks = max_size(LOOKS_LEAST, min_size(size / LOOK_STEP, LOOKS_MOST)), step = size / looks;
	/* In the middle of each part, for what is not used is mostly the end. The first one that was written to ends it: programs that
	 * write to all of their memory write zeros to much of it, and it is they who would pay. */
	for (size_t i = 0; i < looks; i++)
		if (!is_zero(start + ALIGN_DOWN(i * step + step / 2, os_page_size))) return true;
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
