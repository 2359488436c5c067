#include "cache/guard_turn.h"

#include "base/os.h"
#include "cache/hooks.h"

/* A guarded block takes tens of microseconds: a thread gets none within so many milliseconds of the one
 * before, and pays less than 1%, however much it allocates. Who asks for one in fewer than HASTE
 * allocations wants them all. */
#define LEAST_PAUSE 4
#define HASTE 1000

void guard_turn_init(struct guard_turn *turn) {
	/* Threads that do the same shall not guard the same allocation, nor shall the processes of a fleet, nor
	 * the children of one. */
	turn->random.state = os_random();
	turn->every = -1; /* not drawn yet */
	guard_count(turn, 1);
}

/* Exponentially distributed with the mean of `every`: any allocation is as likely as any other. -log2 of a
 * random fraction is its leading zeros and, nearly, a straight line in between; the mean of that is 3/2. */
static int64_t draw(struct guard_turn *turn, int64_t every) {
	uint64_t r = random_next(&turn->random) | 1;
	unsigned zeros = (unsigned)__builtin_clzll(r);
	uint64_t fraction = r << zeros << 1 >> 48; /* in 2^-16 */
	uint64_t log = ((uint64_t)(zeros + 1) << 16) - fraction;
	return (int64_t)((uint64_t)(every - 1) * log / (3 << 15));
}

/* Is it too soon for another guarded block? */
static bool is_hasty(struct guard_turn *turn) {
	if (turn->every < HASTE) return false;
	const uint64_t now = os_milliseconds(), before = turn->last;
	if (now - before >= LEAST_PAUSE) turn->last = now;
	return now - before < LEAST_PAUSE;
}

void guard_turn_draw(struct guard_turn *turn) {
	const int64_t every = conf.guard_sample;
	const bool same = every == turn->every;
	turn->every = every;
	turn->left = every > 0 ? draw(turn, every) : INT64_MAX;
	turn->due = every > 0 && (same || turn->left == 0) && !is_hasty(turn);
}

void guard_turn_begin(struct guard_turn *turn) {
	const int own = os_process_id();
	if (turn->process != own) turn->random.state = os_random();
	turn->process = own;
	turn->due = false;
	turn->busy = true;
}

void *guard_turn_take(struct guard_turn *turn, size_t size) {
	void *(*guard)(struct guard_turn *, size_t);
	guard = atomic_load_explicit(&cache_hooks.guard, memory_order_acquire);
	return guard != NULL ? guard(turn, size) : NULL;
}
