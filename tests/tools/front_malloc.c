/* A library with a malloc that stands before Arenal's, with a lock of its own. */
#include <pthread.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t size);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void *malloc(size_t size) {
	pthread_mutex_lock(&lock);
	void *block = __libc_malloc(size);
	pthread_mutex_unlock(&lock);
	return block;
}
