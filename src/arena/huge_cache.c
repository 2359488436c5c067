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
