#include "arena/place.h"

#include "arena/page_map.h"
#include "base/os.h"
#include "base/random.h"

/* Bytes of address space that are covered at first, by 2 MiB of tags. */
#define FIRST_SPREAD (64 * GIB)

/* With a limit on its address space, a process cannot use more than the limit: this many times as much is
 * covered, for the break's part and for what lies in the way. */
#define SPREAD_OF_LIMIT 8

/* The parts of what is covered at first, in sixteenths: nine for the break, one for the table of tags, two
 * that the first region's place is drawn from, and the rest. */
#define TABLE_FROM(spread) ((spread) / 16 * 9)
#define DRAWN_FROM(spread) ((spread) / 16 * 10)
#define DRAWN_SIZE(spread) ((spread) / 16 * 2)
#define TABLE_CHOICES 32768 /* pages */
static_assert(PLACE_SPREAD_MAX / SLICE_SIZE * 2 + TABLE_CHOICES * (64 * KIB) + REGION_SIZE <=
                  DRAWN_FROM(FIRST_SPREAD) - TABLE_FROM(FIRST_SPREAD),
              "the table has room, with pages of any size");

/* Places that are tried before a mapping goes anywhere. Each is twice as far from the one before, for what is
 * in the way may be long. */
#define TRIES 4

/* Owner: heap lock. */
static struct {
	uintptr_t next;
	char *table;
	bool accessible; /* what lies before `next` in its window: a window has regions of one kind only */
} places;

struct place_range place_init(void) {
	const size_t limit = os_address_space_limit();
	size_t spread = FIRST_SPREAD;
	while (spread / SPREAD_OF_LIMIT / 2 >= limit && spread > 8 * REGION_SIZE) spread /= 2;
	const uintptr_t start = ALIGN_DOWN((uintptr_t)os_brk(), REGION_SIZE);
	if (start > (UINT64_C(1) << ADDRESS_BITS) - spread) return (struct place_range){ 0, 0 };
	struct random random = { os_random() };
	places.table = (char *)start + TABLE_FROM(spread) +
	               (spread == FIRST_SPREAD ? random_below(&random, TABLE_CHOICES) * os_page_size : 0);
	places.next = start + DRAWN_FROM(spread) +
	              random_below(&random, (uint32_t)(DRAWN_SIZE(spread) / REGION_SIZE)) * REGION_SIZE;
	return (struct place_range){ start, start + spread };
}

char *place_of_table(void) { return places.table; }

/* From `at` on, the first address for `size` bytes in one window: behind the last piece, or where nothing of
 * ours is. */
static uintptr_t next_place(uintptr_t at, size_t size, bool accessible) {
	const size_t used = at % REGION_SIZE;
	if (used > 0 && used + size <= REGION_SIZE && accessible == places.accessible) return at;
	at = ALIGN_UP(at, REGION_SIZE);
	while (page_map_region(at) != NULL) at += REGION_SIZE;
	return at;
}

static void *map_in_place(size_t size, size_t all, bool accessible) {
	uintptr_t at = places.next;
	for (size_t i = 0; i < TRIES; i++) {
		at = next_place(at, size, accessible);
		if (!page_map_cover(at + all)) break;
		if (os_map_at((void *)at, all, accessible)) {
			places.next = ALIGN_UP(at + all, SLICE_SIZE);
			places.accessible = accessible;
			return (void *)at;
		}
		at = ALIGN_DOWN(at, REGION_SIZE) + (REGION_SIZE << i);
	}
	return NULL;
}

void *place_map(size_t size, size_t behind, bool accessible) {
	const size_t all = size + behind, align = size == REGION_SIZE ? REGION_SIZE : SLICE_SIZE;
	void *p = map_in_place(size, all, accessible);
	if (p != NULL) return p;
	return accessible ? os_map(all, align) : os_reserve(all, align);
}

void place_leave(const void *address) {
	const uintptr_t at = ALIGN_DOWN((uintptr_t)address, REGION_SIZE);
	if (at >= page_map.base && at < places.next) places.next = at;
}
