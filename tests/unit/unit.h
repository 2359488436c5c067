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

#include "api/api.h"

/* Layers below api/ are started by it. */
static inline int start_arenal(void **state) {
	(void)state;
	ensure_started();
	return 0;
}

#endif
