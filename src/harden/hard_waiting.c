#include "harden/hard_waiting.h"

#include "base/random.h"

_Atomic size_t waiting_kept_bytes;
_Atomic uint32_t waiting_count;

/* [0, WAITING_ORDINARY) are for blocks up to WAITING_ORDINARY_EACH, the others for long ones. */
struct waiting waiting_places[WAITING_PLACES];
static size_t ordinary_bytes, long_bytes; /* of addresses */
static uint64_t turn;                     /* counts frees */
static struct random chance;
static int chance_process; /* whose random numbers these are; 0: none were drawn yet */

static bool is_long(struct waiting w) { return waiting_extent(w) > WAITING_ORDINARY_EACH; }

/* Its address is not to come back yet, by the kernel neither. */
static bool is_recent(struct waiting w) { return w.block != NULL && turn - w.turn < WAITING_TURNS; }

static struct waiting exchange(uint32_t i, struct waiting by) {
	const struct waiting w = waiting_places[i];
	waiting_places[i] = by;
	if (w.block != NULL) *(is_long(w) ? &long_bytes : &ordinary_bytes) -= waiting_extent(w);
	if (by.block != NULL) *(is_long(by) ? &long_bytes : &ordinary_bytes) += waiting_extent(by);
	waiting_count += (by.block != NULL) - (w.block != NULL);
	waiting_kept_bytes += by.kept - w.kept;
	return w;
}

bool waiting_has(const void *block) {
	bool found = false;
	for (size_t i = 0; i < WAITING_PLACES; i++) found |= waiting_places[i].block == block;
	return found;
}

struct waiting waiting_put(struct waiting w, size_t share) {
	w.turn = ++turn;
	if (waiting_extent(w) > min_size(WAITING_LONE_MAX, share)) return w;
	const uint32_t first = is_long(w) ? WAITING_ORDINARY : 0;
	const uint32_t count = is_long(w) ? WAITING_PLACES - WAITING_ORDINARY : WAITING_ORDINARY;
	const int process = os_process_id();
	if (chance_process != process) chance.state = os_random();
	chance_process = process;
	/* A random one, or the next one that has waited long enough. */
	uint32_t i = random_below(&chance, count);
	while (is_recent(waiting_places[first + i])) i = (i + 1) % count;
	return exchange(first + i, w);
}

struct waiting waiting_take_excess(size_t share) {
	const bool ordinary = ordinary_bytes > min_size(WAITING_ORDINARY_BYTES, share);
	const uint32_t first = ordinary ? 0 : WAITING_ORDINARY;
	const uint32_t end = ordinary ? WAITING_ORDINARY : WAITING_PLACES;
	if (!ordinary && long_bytes <= min_size(WAITING_LONG_BYTES, share)) return NOTHING_WAITS;
	uint32_t oldest = end;
	for (uint32_t i = first; i < end; i++) {
		if (waiting_places[i].block == NULL) continue;
		if (oldest == end || waiting_places[i].turn < waiting_places[oldest].turn) oldest = i;
	}
	/* The last one that was put may stay alone. */
	if (oldest == end || waiting_places[oldest].turn == turn) return NOTHING_WAITS;
	return exchange(oldest, NOTHING_WAITS);
}

struct waiting waiting_take_kept(size_t pages) {
	for (uint32_t i = 0; i < WAITING_ORDINARY; i++) {
		const struct waiting *w = &waiting_places[i];
		if (w->kept == pages && w->guard == os_page_size && !is_recent(*w)) return exchange(i, NOTHING_WAITS);
	}
	return NOTHING_WAITS;
}

struct waiting waiting_take_at(uint32_t place, bool only_kept) {
	return only_kept && waiting_places[place].kept == 0 ? NOTHING_WAITS : exchange(place, NOTHING_WAITS);
}
