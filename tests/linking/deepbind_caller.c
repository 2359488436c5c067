/* A library that opens plugins which are found by its RUNPATH, $ORIGIN/plugins, and by nobody else's. */
#include "deepbind.h"

#include <dlfcn.h>

/* Not a tail call, which would have the caller's return address. */
void *open_plugin(const char *file, int flags) {
	void *volatile handle = dlopen(file, flags);
	return handle;
}

void *open_plugin_in_base(const char *file, int flags) {
	void *volatile handle = dlmopen(LM_ID_BASE, file, flags);
	return handle;
}
