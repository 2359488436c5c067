#include "harden/hard_waiting.h"

#include "base/random.h"

/* Places [0, ORDINARY) are for blocks up to ORDINARY_EACH, whose addresses are no more than ORDINARY_BYTES
 * all together. */
#define ORDINARY 256
#define ORDINARY_BYTES (128 * MIB)
#define ORDINARY_EACH (8 * MIB)

/* The others are for long ones, LONG_BYTES all together, or one alone up to LONE_MAX. */
#define LONG_BYTES (256 * MIB)
#define LONE_MAX (1024 * MIB)
static_assert(WAITING_TURNS * ORDINARY_EACH < ORDINARY_BYTES, "there are others to give back");
static_assert(WAITING_TURNS < ORDINARY && WAITING_TURNS < WAITING_PLACES - ORDINARY,
              "there is a place that may be taken");

_Atomic size_t waiting_kept_bytes;
_Atomic uint32_t waiting_count;

struct waiting waiting_places[WAITING_PLACES];
static size_t ordinary_bytes, long_bytes; /* of addresses */
static uint64_t turn;                     /* counts frees */
static struct random chance;
static int chance_process; /* whose random numbers these are; 0: none were drawn yet */

static bool is_long(struct waiting w) { return waiting_extent(w) > ORDINARY_EACH; }

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
	if (waiting_extent(w) > min_size(LONE_MAX, share)) return w;
	const uint32_t first = is_long(w) ? ORDINARY : 0;
	const uint32_t count = is_long(w) ? WAITING_PLACES - ORDINARY : ORDINARY;
	const int process = os_process_id();
	if (chance_process != process) chance.state = os_random();
	chance_process = process;
	/* A random one, or the next one that has waited long enough. */
	uint32_t i = random_below(&chance, count);
	while (is_recent(waiting_places[first + i])) i = (i + 1) % count;
	return exchange(first + i, w);
}

struct waiting waiting_take_excess(size_t share) {
	const bool ordinary = ordinary_bytes > min_size(ORDINARY_BYTES, share);
	const uint32_t first = ordinary ? 0 : ORDINARY, end = ordinary ? ORDINARY : WAITING_PLACES;
	if (!ordinary && long_bytes <= min_size(LONG_BYTES, share)) return NOTHING_WAITS;
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
	for (uint32_t i = 0; i < ORDINARY; i++) {
		const struct waiting *w = &waiting_places[i];
		if (w->kept == pages && w->guard == os_page_size && !is_recent(*w)) return exchange(i, NOTHING_WAITS);
	}
	return NOTHING_WAITS;
}

struct waiting waiting_take_at(uint32_t place, bool only_kept) {
	return only_kept && waiting_places[place].kept == 0 ? NOTHING_WAITS : exchange(place, NOTHING_WAITS);
}
