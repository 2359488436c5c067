#include "cache/slow_calls.h"

#include "cache/caches.h"

uint64_t slow_call_timed(struct tcache *tc) {
	slow_turn_pass(&tc->slow, &tc->guard.random);
	return os_stopwatch();
}

uint64_t slow_call_begins(void) { return slow_call_of(own_cache()); }

void slow_call_count(enum slow_call kind, uint64_t begin) {
	const struct tcache *tc = own_cache();
	if (tc != NULL) os_stopwatch_ends(begin, &tc->arena->slow_calls[kind]);
}
