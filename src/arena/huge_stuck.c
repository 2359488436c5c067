#include "arena/huge_stuck.h"

#include <string.h>

#include "base/meta.h"

/* Where nothing more can be mapped, a longer list cannot be had either. */
#define CAPACITY_FIRST 256

struct stuck {
	char *address;
	size_t size;
	bool clean;
};

static struct stuck first[CAPACITY_FIRST], *list = first;
static size_t count, capacity = CAPACITY_FIRST;

static bool make_room(size_t more) {
	if (count + more <= capacity) return true;
	const size_t larger = 2 * capacity;
	struct stuck *copy = meta_alloc(larger * sizeof *copy);
	if (copy == NULL) return false;
	memcpy(copy, list, count * sizeof *copy);
	if (list != first) meta_free(list, capacity * sizeof *copy);
	list = copy;
	capacity = larger;
	return true;
}

void huge_stuck_add(struct mapping m, bool clean) {
	/* Neighbours are one. */
	for (size_t i = count; i-- > 0;) {
		const struct stuck s = list[i];
		if (s.address + s.size != m.address && m.address + m.size != s.address) continue;
		if (s.address < m.address) m.address = s.address;
		m.size += s.size;
		clean &= s.clean;
		list[i] = list[--count];
	}
	if (make_room(1)) list[count++] = (struct stuck){ m.address, m.size, clean };
}

char *huge_stuck_take(size_t size, size_t align, bool *clean) {
	size_t best = count;
	for (size_t i = 0; i < count; i++)
		if (mapping_place(list[i].address, list[i].size, size, align) != NULL &&
		    (best == count || list[i].size < list[best].size))
			best = i;
	if (best == count) return NULL;
	const struct stuck s = list[best];
	char *at = mapping_place(s.address, s.size, size, align), *end = s.address + s.size;
	if (at > s.address && at + size < end && !make_room(1)) return NULL;
	list[best] = list[--count];
	if (at > s.address) list[count++] = (struct stuck){ s.address, (size_t)(at - s.address), s.clean };
	if (at + size < end) list[count++] = (struct stuck){ at + size, (size_t)(end - at) - size, s.clean };
	*clean = s.clean;
	return at;
}

struct mapping huge_stuck_take_last(size_t left, bool *clean) {
	if (count <= left) return (struct mapping){ NULL, 0 };
	const struct stuck s = list[--count];
	*clean = s.clean;
	return (struct mapping){ s.address, s.size };
}

size_t huge_stuck_count(void) { return count; }
