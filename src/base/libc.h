/* What libc has under other names, in other files or not at all, depending on which one it is and how old.
 * All of it is looked up, so that one library runs on each: a reference by name would be one to a version
 * that an older libc does not have, and the loader would refuse every program.
 *
 * glibc before 2.34 has threads in libpthread.so.0, and dlsym in libdl.so.2: a program without these files
 * gets along without threads of ours, and may load them later, with a plugin.
 *
 * In the shared library, libc's own functions are found, whoever else has some of these names
 * (libc_found.c); the static library and tests are linked with them (libc_linked.c). */
#ifndef BASE_LIBC_H
#define BASE_LIBC_H

#include <pthread.h>
#include <signal.h>

#include "base/base.h"

struct libc {
	/* For threads of ours, and to hear of the end of each thread. The program, or a library of it, may have
	 * others of these names, which take locks of their own, and the thread that starts one of ours may hold
	 * them: it may be allocating in just such a function. From pthread_create on, NULL while the process has
	 * no libpthread.so.0. */
	int (*pthread_attr_init)(pthread_attr_t *attributes);
	int (*pthread_attr_destroy)(pthread_attr_t *attributes);
	int (*pthread_setcancelstate)(int state, int *before);
	int (*pthread_create)(pthread_t *handle, const pthread_attr_t *attributes, void *(*body)(void *),
	                      void *argument);
	int (*pthread_attr_setstacksize)(pthread_attr_t *attributes, size_t size);
	int (*pthread_join)(pthread_t handle, void **result);
	int (*pthread_detach)(pthread_t handle);
	int (*pthread_key_create)(pthread_key_t *key, void (*destructor)(void *));
	int (*pthread_setspecific)(pthread_key_t key, const void *value);

	/* The first name is ours in the shared library (api/signals.c). */
	int (*sigaction)(int signal, const struct sigaction *action, struct sigaction *earlier);

	/* 0 as soon as there may be a second thread. NULL before glibc 2.32. */
	const char *single_threaded;
	/* Of an address: a struct dl_find_object. NULL before glibc 2.35. */
	int (*find_object)(uintptr_t address, void *out);
};
extern struct libc libc __attribute__((visibility("hidden")));

/* Fills it in, if that has not been done: by the constructors, and whoever is there before them. */
void libc_find(void);

/* The process has functions for threads: looks again for those that it lacked. */
bool libc_has_threads(void);

/* The shared library only: the next definition of a function that is ours, too, as dlsym(RTLD_NEXT) finds
 * it, or where there is no dlsym, libc's. NULL: there is none. dlerror has nothing to say of it. */
void *libc_next(const char *name);

/* The shared library only: as dlsym(handle), of RTLD_DEFAULT too. NULL also while there is no dlsym: before
 * glibc 2.34, as long as nobody in the process has libdl.so.2. */
void *libc_in(void *handle, const char *name);

#endif
