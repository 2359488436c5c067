/* A shared library that is linked with Arenal, for a program that is not. */
#include "plugin.h"

#include "stamp.h"

#include <arenal/arenal.h>
#include <dlfcn.h>
#include <stdlib.h>

static int exercise(void) {
	enum { BLOCKS = 500 };
	void *blocks[BLOCKS];
	int problems = 0;

	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = i % 2 ? malloc(i * 40 + 1) : calloc(1, i * 40 + 1);
		if (!blocks[i])
			return 1;
		stamp_block(blocks[i], i * 40 + 1, i);
	}
	for (size_t i = 0; i < BLOCKS; i++) {
		problems += !stamp_intact(blocks[i], i * 40 + 1, i);
		free(blocks[i]);
	}
	return problems;
}

static int open_others(void) {
	void *itself = dlopen(NULL, RTLD_LAZY | RTLD_DEEPBIND), *other = dlopen("libm.so.6", RTLD_LAZY | RTLD_DEEPBIND);
	int problems = !itself || !other || !dlsym(other, "cos");

	if (itself)
		dlclose(itself);
	if (other)
		dlclose(other);
	return problems;
}

extern const struct plugin plugin __attribute__((visibility("default")));
const struct plugin plugin = { arenal_version, malloc, free, exercise, open_others };
