/* A library that allocates when it is loaded and when it is unloaded, and keeps a block in between. */
#include "stamp.h"

#include <stdlib.h>

static char *kept;

__attribute__((constructor)) static void loaded(void) {
	free(malloc(300000));
	kept = malloc(5000);
	stamp_block(kept, 5000, 1);
}

__attribute__((destructor)) static void unloaded(void) {
	if (!stamp_intact(kept, 5000, 1))
		abort();
	free(kept);
	free(malloc(200));
}
