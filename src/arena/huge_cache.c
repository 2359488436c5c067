#include "arena/huge_cache.h"

#include <string.h>

#include "base/os.h"

struct mapping huge_cache_entries[HUGE_CACHE_ENTRIES];
static uint32_t origins[HUGE_CACHE_ENTRIES]; /* of each; beside them, for tools read the entries */
static size_t count, bytes, least;

static struct piece take_out(size_t i) {
	const struct piece p = { huge_cache_entries[i].address, huge_cache_entries[i].size, origins[i] };
	bytes -= p.size;
	least = min_size(least, bytes);
	count--;
	memmove(&huge_cache_entries[i], &huge_cache_entries[i + 1], (count - i) * sizeof *huge_cache_entries);
	memmove(&origins[i], &origins[i + 1], (count - i) * sizeof *origins);
	huge_cache_entries[count] = (struct mapping){ NULL, 0 };
	return p;
}

/* The first `size` bytes of a longer mapping. */
static struct piece cut_head(size_t i, size_t size) {
	struct mapping *m = &huge_cache_entries[i];
	const struct piece head = { m->address, size, origins[i] };
	m->address += size;
	m->size -= size;
	bytes -= size;
	least = min_size(least, bytes);
	return head;
}

struct piece huge_cache_take(size_t size) {
	size_t longer = count, shorter = count;
	for (size_t i = 0; i < count; i++) {
		size_t have = huge_cache_entries[i].size;
		/* Of equal ones, the youngest: what it holds is still in the CPU's caches. */
		if (have >= size && (longer == count || have <= huge_cache_entries[longer].size)) longer = i;
		if (have < size && (shorter == count || have > huge_cache_entries[shorter].size)) shorter = i;
	}
	if (longer < count) {
		size_t rest = huge_cache_entries[longer].size - size;
		if (rest <= size / HUGE_SLACK_SHARE) return take_out(longer);
		return cut_head(longer, size);
	}
	const size_t worth_growing = size / HUGE_WORTH_SHARE;
	if (shorter < count && huge_cache_entries[shorter].size >= worth_growing) return take_out(shorter);
	return (struct piece){ NULL, 0, 0 };
}

/* `size` bytes from the middle of a longer mapping, `front` bytes from its start, which is more than none.
 * What lies behind is a piece of its own, as old as what lies before; none when there is no room for one
 * more. */
static struct piece cut_middle(size_t i, size_t front, size_t size) {
	struct mapping *m = &huge_cache_entries[i];
	const struct piece middle = { m->address + front, size, origins[i] };
	const size_t rest = m->size - front - size;
	if (rest > 0) {
		if (count == HUGE_CACHE_ENTRIES) return (struct piece){ NULL, 0, 0 };
		memmove(m + 1, m, (count - i) * sizeof *m);
		memmove(&origins[i + 1], &origins[i], (count - i) * sizeof *origins);
		m[1] = (struct mapping){ middle.address + size, rest };
		count++;
	}
	m->size = front;
	bytes -= size;
	least = min_size(least, bytes);
	return middle;
}

struct piece huge_cache_take_aligned(size_t size, size_t align) {
	size_t best = count, front = 0;
	for (size_t i = 0; i < count; i++) {
		const struct mapping m = huge_cache_entries[i];
		const char *place = mapping_place(m.address, m.size, size, align);
		if (place == NULL || (best < count && m.size > huge_cache_entries[best].size)) continue;
		best = i;
		front = (size_t)(place - m.address);
	}
	if (best == count) return (struct piece){ NULL, 0, 0 };
	const size_t rest = huge_cache_entries[best].size - front - size;
	if (rest <= size / HUGE_SLACK_SHARE) size += rest;
	if (front > 0) return cut_middle(best, front, size);
	return size == huge_cache_entries[best].size ? take_out(best) : cut_head(best, size);
}

size_t huge_cache_take_behind(struct piece block, size_t min, size_t max) {
	for (size_t i = 0; i < count; i++) {
		struct mapping *m = &huge_cache_entries[i];
		if (m->address != block.address + block.size || origins[i] != block.origin || m->size < min) continue;
		if (m->size <= max) return take_out(i).size;
		return cut_head(i, max).size;
	}
	return 0;
}

/* What was cut apart grows together again. */
static struct piece join_neighbours(struct piece p) {
	for (size_t i = count; i-- > 0;) {
		if (origins[i] != p.origin) continue;
		if (huge_cache_entries[i].address + huge_cache_entries[i].size == p.address) {
			p.address = huge_cache_entries[i].address;
			p.size += take_out(i).size;
		} else if (p.address + p.size == huge_cache_entries[i].address) {
			p.size += take_out(i).size;
		}
	}
	return p;
}

static struct mapping drop_oldest(void) {
	const struct piece p = take_out(0);
	return (struct mapping){ p.address, p.size };
}

size_t huge_cache_put(struct piece piece, size_t limit, struct mapping *victims) {
	size_t dropped = 0;
	if (piece.size > limit) {
		victims[dropped++] = (struct mapping){ piece.address, piece.size };
	} else if (piece.size > 0) {
		piece = join_neighbours(piece); /* may be longer than the limit now: cut below */
		if (count == HUGE_CACHE_ENTRIES) victims[dropped++] = drop_oldest();
		huge_cache_entries[count] = (struct mapping){ piece.address, piece.size };
		origins[count++] = piece.origin;
		bytes += piece.size;
	}
	while (bytes > limit) {
		struct mapping *oldest = &huge_cache_entries[0];
		size_t excess = ALIGN_UP(bytes - limit, os_page_size);
		if (oldest->size <= excess) {
			victims[dropped++] = drop_oldest();
		} else {
			victims[dropped++] = (struct mapping){ oldest->address, excess };
			oldest->address += excess;
			oldest->size -= excess;
			bytes -= excess;
		}
	}
	return dropped;
}

size_t huge_cache_bytes(void) { return bytes; }

size_t huge_cache_least(void) {
	size_t unused = min_size(least, bytes);
	least = bytes;
	return unused;
}
