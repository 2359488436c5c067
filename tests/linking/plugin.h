/* What plugin.c offers the program that loads it: a struct plugin by the name of "plugin". */
#ifndef PLUGIN_H
#define PLUGIN_H

#include <stddef.h>

struct plugin {
	const char *(*version)(void);
	/* The allocator that the plugin's own calls of malloc are bound to. */
	void *(*allocate)(size_t size);
	void (*release)(void *block);
	/* A round of allocations with checks; returns 0 when all was well. */
	int (*exercise)(void);
	/* Opens libraries, the plugin's dlopen being bound as its malloc is; returns 0 when all was well. Not while another thread forks:
	 * libc's loader would be in the middle of something in the child. */
	int (*open)(void);
};

#endif
