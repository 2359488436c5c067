/* As a plugin of PHP: opened with RTLD_DEEPBIND, it frees strings that libc allocated for it. */
#include "deepbind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void use_libc(void) {
	free(strdup("allocated by the libc"));
	char *line = NULL;
	size_t capacity = 0;
	FILE *file = fopen("/proc/self/status", "r");
	while (getline(&line, &capacity, file) > 0)
		;
	free(line);
	fclose(file);
}

const struct deepbind_plugin plugin = { malloc, use_libc };
