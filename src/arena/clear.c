#include "arena/clear.h"

#include <stdatomic.h>
#include <string.h>

#include "arena/heap.h"
#include "arena/policy.h"
#include "arena/pressure.h"
#include "base/os.h"
#include "base/random.h"

/* To give memory back and get it again, page by page, costs many times as much as to write to it (see
 * src/README.md). So that is only for what the next owner will not touch. He will do what the last one did,
 * most likely; and of that, the memory itself tells: pages that nobody wrote to read as zero. A page that is
 * looked at and not there costs a page fault, but no memory. */

/* Pages that are looked at: the first one, and one of each further part of the memory, at random. */
static size_t looks(size_t size) {
	return min_size(CLEAR_LOOKS_LEAST + size / CLEAR_LOOK_EACH, CLEAR_LOOKS_MOST);
}

static bool is_zero(const char *page) {
	uint64_t first;
	memcpy(&first, page, sizeof first);
	return first == 0 && memcmp(page, page + sizeof first, os_page_size - sizeof first) == 0;
}

/* Any row of numbers will do that no program's habits agree with. */
static uint64_t next_number(void) {
	static _Atomic uint64_t count;
	struct random random = { atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) *
		                     UINT64_C(0xD1342543DE82EF95) };
	return random_next(&random);
}

bool looks_written(const char *start, size_t size) {
	const size_t parts = looks(size), part = size / os_page_size / parts;
	size_t may_be_written = size >= CLEAR_SPARSE_FROM ? CLEAR_SPARSE_WRITTEN : 0, page = 0;
	for (size_t i = 1; i <= parts; i++) {
		if (!is_zero(start + page * os_page_size) && may_be_written-- == 0) return true;
		page = i * part + (part > 1 ? next_number() % part : 0);
	}
	return false;
}

void clear_stale(char *start, size_t size, bool may_purge) {
	if (may_purge && size >= CLEAR_LOOK_FROM && !looks_written(start, size)) {
		const size_t pages = ALIGN_UP(size, os_page_size);
		if (os_clear(start, pages)) {
			heap_count_purged(pages);
			pressure_count(pages);
			return;
		}
	}
	memset(start, 0, size);
}
