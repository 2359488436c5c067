#include "arena/huge_cache.h"

#include <string.h>

#include "base/os.h"

/* A mapping that is longer than asked for by at most this share is handed out whole: the rest would be a scrap. */
#define SLACK_SHARE 16

/* A shorter mapping is worth growing when it is at least this share of what is needed. */
#define WORTH_SHARE 4

struct mapping huge_cache_entries[HUGE_CACHE_ENTRIES];
static size_t count, bytes, least;

static struct mapping take_out(size_t i) {
	struct mapping m = huge_cache_entries[i];
	bytes -= m.size;
	least = min_size(least, bytes);
	count--;
	memmove(&huge_cache_entries[i], &huge_cache_entries[i + 1], (count - i) * sizeof *huge_cache_entries);
	huge_cache_entries[count] = (struct mapping){ NULL, 0 };
	return m;
}

/* The first `size` bytes of a longer mapping. */
static struct mapping cut_head(struct mapping *m, size_t size) {
	struct mapping head = { m->address, size };
	m->address += size;
	m->size -= size;
	bytes -= size;
	least = min_size(least, bytes);
	return head;
}

struct mapping huge_cache_take(size_t size) {
	size_t longer = count, shorter = count;
	for (size_t i = 0; i < count; i++) {
		size_t have = huge_cache_entries[i].size;
		if (have >= size && (longer == count || have < huge_cache_entries[longer].size)) longer = i;
		if (have < size && (shorter == count || have > huge_cache_entries[shorter].size)) shorter = i;
	}
	if (longer < count) {
		size_t rest = huge_cache_entries[longer].size - size;
		if (rest <= size / SLACK_SHARE) return take_out(longer);
		return cut_head(&huge_cache_entries[longer], size);
	}
	if (shorter < count && huge_cache_entries[shorter].size >= size / WORTH_SHARE) return take_out(shorter);
	return (struct mapping){ NULL, 0 };
}

size_t huge_cache_take_at(const char *address, size_t least, size_t most) {
	for (size_t i = 0; i < count; i++) {
		struct mapping *m = &huge_cache_entries[i];
		if (m->address != address || m->size < least) continue;
		if (m->size <= most) return take_out(i).size;
		return cut_head(m, most).size;
	}
	return 0;
}

struct mapping huge_cache_take_neighbour(struct mapping m) {
	for (size_t i = count; i-- > 0;) {
		const struct mapping other = huge_cache_entries[i];
		if (other.address + other.size == m.address || m.address + m.size == other.address) return take_out(i);
	}
	return (struct mapping){ NULL, 0 };
}

size_t huge_cache_put(struct mapping mapping, size_t limit, struct mapping *victims) {
	size_t dropped = 0;
	if (mapping.size > 0) {
		if (count == HUGE_CACHE_ENTRIES) victims[dropped++] = take_out(0);
		huge_cache_entries[count++] = mapping;
		bytes += mapping.size;
	}
	while (bytes > limit) {
		struct mapping *oldest = &huge_cache_entries[0];
		size_t excess = ALIGN_UP(bytes - limit, os_page_size);
		if (oldest->size <= excess) {
			victims[dropped++] = take_out(0);
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
