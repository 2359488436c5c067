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

#endif
