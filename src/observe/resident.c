/* What of Arenal's memory the kernel backs, by its own word (mincore).
 *
 * The records are copied, a piece under each hold of their locks, and the kernel is asked without any: the
 * program does not wait for it. What lies side by side is asked for by one call, for it is the calls that
 * cost: 0.7 us each, where a page in memory takes 2 ns. Memory may come and go meanwhile: what is gone counts
 * as not backed, and what came is missed. */
#include <string.h>

#include "arena/heap.h"
#include "arena/huge.h"
#include "base/bitmap.h"
#include "base/lock.h"
#include "harden/guard.h"
#include "harden/harden.h"
#include "observe/stats.h"

/* What was not asked for yet, and the sum of what was. */
struct walk {
	uintptr_t start, end;
	size_t bytes;
};

static void ask(struct walk *w) {
	lock_check_none();
	w->bytes += os_resident((void *)w->start, w->end - w->start);
	w->start = w->end;
}

static void add(struct walk *w, uintptr_t start, uintptr_t end) {
	if (start != w->end) {
		ask(w);
		w->start = start;
	}
	w->end = end;
}

/* Of a brk window, not all slices are ours. */
static void add_regions(struct walk *w) {
	for (const struct region *r = heap_regions(); r != NULL; r = r->next) {
		uint64_t ours[REGION_SLICES / 64];
		heap_lock();
		const uintptr_t base = r->base;
		memcpy(ours, r->ours, sizeof ours);
		heap_unlock();
		for (size_t i = 0; (i = bit_find(ours, i, REGION_SLICES, true)) < REGION_SLICES;) {
			const size_t end = bit_find(ours, i, REGION_SLICES, false);
			add(w, base + i * SLICE_SIZE, base + end * SLICE_SIZE);
			i = end;
		}
	}
}

/* By address, digit by digit. Where the last of them are, in the list or in the spare one, is returned. */
static struct mapping *sort(struct mapping *list, struct mapping *spare, size_t count) {
	for (unsigned shift = 12; shift < 8 * sizeof(uintptr_t); shift += 8) {
		size_t places[256] = { 0 }, place = 0;
		for (size_t i = 0; i < count; i++) places[(uintptr_t)list[i].address >> shift & 255]++;
		/* all have the same */
		if (count == 0 || places[(uintptr_t)list[0].address >> shift & 255] == count) continue;
		for (size_t d = 0; d < 256; d++) {
			const size_t next = place + places[d];
			places[d] = place;
			place = next;
		}
		for (size_t i = 0; i < count; i++)
			spare[places[(uintptr_t)list[i].address >> shift & 255]++] = list[i];
		struct mapping *sorted = spare;
		spare = list;
		list = sorted;
	}
	return list;
}

/* One that was freed and came back meanwhile, resized perhaps, may be there twice. */
static void add_sorted(struct walk *w, const struct mapping *list, size_t count) {
	uintptr_t known = 0;
	for (size_t i = 0; i < count; i++) {
		const uintptr_t start = max_size((uintptr_t)list[i].address, known),
		                end = (uintptr_t)list[i].address + list[i].size;
		if (start >= end) continue;
		add(w, start, end);
		known = end;
	}
}

/* What a layer writes down: the list is as long as need be, for short ones would hardly have neighbours in
 * them. Where there is no memory for it, `otherwise` bytes count as backed. */
static void add_mappings(struct walk *w, size_t (*write_down)(struct mapping *, size_t), size_t otherwise) {
	size_t count = write_down(NULL, 0), room = 0;
	struct mapping *list = NULL;
	while (count > room) {
		if (list != NULL) os_unmap(list, 2 * room * sizeof *list);
		room = ALIGN_UP(count + count / 8, os_page_size);
		list = os_map(2 * room * sizeof *list, os_page_size);
		if (list == NULL) {
			w->bytes += otherwise;
			return;
		}
		count = write_down(list, room);
	}
	add_sorted(w, sort(list, list + room, count), count);
	if (list != NULL) os_unmap(list, 2 * room * sizeof *list);
}

size_t stats_resident(void) {
	struct walk w = { 0 };
	struct guard_stats guard;
	struct huge_stats huge;
	add_regions(&w);
	huge_stats_get(&huge);
	add_mappings(&w, huge_mappings, huge.bytes + huge.cached);
	size_t bytes, blocks, kept;
	harden_large_stats(&bytes, &blocks, &kept);
	add_mappings(&w, harden_large_mappings, bytes + kept);
	ask(&w);
	guard_stats_get(&guard);
	return w.bytes + guard.pages; /* all written to */
}
