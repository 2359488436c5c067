/* Part of the static library and of tests, which have one of each name: the linker finds them. */
#include "base/libc.h"

/* The second names that glibc has: the first ones may be another library's. musl has none that it shows. */
#ifdef __GLIBC__
#define SECOND_NAME(name) "__" name
#else
#define SECOND_NAME(name) name
#endif
extern int key_create(pthread_key_t *key,
                      void (*destructor)(void *)) __asm__(SECOND_NAME("pthread_key_create"));
extern int own_sigaction(int signal, const struct sigaction *action,
                         struct sigaction *earlier) __asm__(SECOND_NAME("sigaction"));
extern const char single_threaded __asm__("__libc_single_threaded") __attribute__((weak));
extern int find_object(uintptr_t address, void *out) __asm__("_dl_find_object") __attribute__((weak));

struct libc libc = {
	.pthread_attr_init = pthread_attr_init,
	.pthread_attr_destroy = pthread_attr_destroy,
	.pthread_setcancelstate = pthread_setcancelstate,
	.pthread_create = pthread_create,
	.pthread_attr_setstacksize = pthread_attr_setstacksize,
	.pthread_join = pthread_join,
	.pthread_detach = pthread_detach,
	.pthread_key_create = key_create,
	.pthread_setspecific = pthread_setspecific,
	.sigaction = own_sigaction,
	.single_threaded = &single_threaded,
	.find_object = find_object,
};

void libc_find(void) {}
bool libc_has_threads(void) { return true; }
