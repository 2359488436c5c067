/* What the unit tests share. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/malloc.h"

/* Says why, for the last lines of tools/test. Only what the machine is, has or allows may be a reason, never what the code under test says:
 * it would say so when it is broken, too. */
#define SKIP(reason) (print_message("skipped: %s\n", reason), skip())

/* Layers below api/ are started by it. */
static inline int start_arenal(void **state) {
	(void)state;
	ensure_started();
	return 0;
}

/* As many blocks as an arena gives in one step, up to `count`, with their marks: the first one first. */
static inline size_t take_up_to(struct arena *arena, unsigned class_, void **blocks, size_t count) {
	void *told[SPAN_BLOCKS_MAX];
	struct bare_blocks bare;
	const size_t taken = arena_take_bare(arena, class_, told + count, count, &bare);
	if (bare.count > 0) arena_mark_bare(&bare);
	for (size_t i = 0; i < taken; i++) blocks[i] = bare.count > 0 ? bare.first + i * bare.size : told[count - 1 - i];
	return taken;
}

#endif
