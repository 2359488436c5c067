#include "arena/place.h"

#include "arena/page_map.h"
#include "base/os.h"
#include "base/random.h"

/* Bytes of address space that are covered: as many as 32 MiB of tags describe. Heaps of more than this go on elsewhere. */
#define SPREAD ((size_t)1024 * GIB)

/* With a limit on its address space, a process cannot use more than the limit: this many times as much is covered, for the break's part
 * and for what lies in the way. */
#define SPREAD_OF_LIMIT 8

/* The break's part of it; and the part of the rest that the first place is drawn from. */
#define BRK_SHARE 4
#define FIRST_SHARE 8

/* Places that are tried before a mapping goes anywhere. Each is twice as far from the one before, for what is in the way may be long. */
#define TRIES 4

/* Owner: heap lock. */
static struct {
	uintptr_t next, end;
	bool accessible; /* what lies before `next` in its window: a window has regions of one kind only */
} places;

struct place_range place_init(void) {
	const size_t limit = os_address_space_limit();
	size_t spread = SPREAD;
	while (spread / SPREAD_OF_LIMIT / 2 >= limit && spread > BRK_SHARE * REGION_SIZE) spread /= 2;
	const uintptr_t start = ALIGN_DOWN((uintptr_t)os_brk(), REGION_SIZE);
	if (start > (UINT64_C(1) << ADDRESS_BITS) - spread) return (struct place_range){ 0, 0 };
	const size_t brk = spread / BRK_SHARE + REGION_SIZE, choices = (spread - brk) / FIRST_SHARE / REGION_SIZE;
	struct random random = { os_random() };
	places.end = start + spread;
	places.next = start + brk + random_below(&random, (uint32_t)choices) * REGION_SIZE;
	return (struct place_range){ start, places.end };
}

/* From `at` on, the first address for `size` bytes in one window: behind the last piece, or where nothing of ours is. */
static uintptr_t next_place(uintptr_t at, size_t size, bool accessible) {
	const size_t used = at % REGION_SIZE;
	if (used > 0 && used + size <= REGION_SIZE && accessible == places.accessible) return at;
	at = ALIGN_UP(at, REGION_SIZE);
	while (at < places.end && page_map_region(at) != NULL) at += REGION_SIZE;
	return at;
}

void *place_map(size_t size, size_t behind, bool accessible) {
	const size_t all = size + behind;
	uintptr_t at = places.next;
	for (size_t i = 0; i < TRIES; i++) {
		at = next_place(at, size, accessible);
		if (at >= places.end || places.end - at < all) break;
		if (os_map_at((void *)at, all, accessible)) {
			places.next = ALIGN_UP(at + all, SLICE_SIZE);
			places.accessible = accessible;
			return (void *)at;
		}
		at = ALIGN_DOWN(at, REGION_SIZE) + (REGION_SIZE << i);
	}
	const size_t align = size == REGION_SIZE ? REGION_SIZE : SLICE_SIZE;
	return accessible ? os_map(all, align) : os_reserve(all, align);
}

void place_leave(const void *address) {
	const uintptr_t at = ALIGN_DOWN((uintptr_t)address, REGION_SIZE);
	if (at >= page_map.base && at < places.next) places.next = at;
}
