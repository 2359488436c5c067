/* What the libraries of the test of dlopen offer the program. */
#ifndef DEEPBIND_H
#define DEEPBIND_H

/* deepbind_plugin.c: "plugin". */
struct deepbind_plugin {
	void *(*own_malloc)(unsigned long size); /* what its own calls are bound to */
	void (*use_libc)(void);                  /* frees what libc allocated */
};

/* deepbind_caller.c: dlopen and dlmopen, called from a library whose RUNPATH leads to the plugin. */
typedef void *open_plugin_function(const char *file, int flags);

/* deepbind_interposer.c: calls of its dlopen that came from the library of the address `from`, and of its dlclose that
 * the unwinder saw `from` beneath. */
typedef int interposer_calls_function(const void *from);

#endif
