/* How long the slow calls take: those of malloc, free and their relatives that a thread's magazines and the
 * fast stages cannot serve, so that blocks come from below, or go there. Each thread times one of 16, any one
 * of each 16 in a row, and counts it in its arena: no line is shared but with those who share the arena, and
 * a thread that ends leaves what it counted. Threads without a cache time nothing: those that are about to
 * end, and in hardened mode those that have large blocks only. */
#ifndef CACHE_SLOW_CALLS_H
#define CACHE_SLOW_CALLS_H

#include "arena/arena.h"
#include "base/random.h"

struct tcache;

#define SLOW_CALLS_EACH 16

/* Which of the thread's slow calls is timed next. Zeroed: the next one. Owner: its thread; a handler of a
 * signal may take the turn of what it interrupts, so that this is read as "below zero". */
struct slow_turn {
	int32_t left;   /* calls before it */
	uint32_t place; /* of the last one among its 16 */
};

/* Draws which of the next 16 is timed. */
static inline void slow_turn_draw(struct slow_turn *turn, struct random *random) {
	turn->place = random_below(random, SLOW_CALLS_EACH);
	turn->left = (int32_t)turn->place;
}

/* The next one, when this one's turn has come. */
static inline void slow_turn_pass(struct slow_turn *turn, struct random *random) {
	const uint32_t rest = SLOW_CALLS_EACH - 1 - turn->place;
	slow_turn_draw(turn, random);
	turn->left += (int32_t)rest;
}

/* A slow call of the calling thread begins. 0: it is not timed; else what slow_call_ends wants. */
uint64_t slow_call_begins(void);

/* It has ended, and was of this kind. */
COLD void slow_call_count(enum slow_call kind, uint64_t begin);
static inline void slow_call_ends(enum slow_call kind, uint64_t begin) {
	if (unlikely(begin != 0)) slow_call_count(kind, begin);
}

#endif
