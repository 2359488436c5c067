/* late_threads PLUGIN: a program that has no libpthread.so.0 of its own, which glibc before 2.34 keeps apart. A plugin brings it, and with it
 * threads: THREADS one after the other, each of which leaves a cache. With PLUGIN defined: the plugin. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 300

#ifdef PLUGIN
#include <pthread.h>

static void *work(void *unused) {
	for (int i = 0; i < 100; i++)
		free(memset(malloc(3000), 1, 3000));
	return unused;
}

void start_threads(void) {
	pthread_t thread;

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, work, NULL) != 0 || pthread_join(thread, NULL) != 0)
			abort();
}
#else
#include <dlfcn.h>

int main(int argc, char **argv) {
	(void)argc;
	free(malloc(100)); /* the first thread's cache is there before there are threads */
	if (dlsym(RTLD_DEFAULT, "pthread_create") != NULL)
		return 3; /* not what is to be tried */
	void *plugin = dlopen(argv[1], RTLD_NOW);
	if (plugin == NULL)
		return fprintf(stderr, "%s\n", dlerror()), 4;
	void (*start_threads)(void) = (void (*)(void))dlsym(plugin, "start_threads");
	start_threads();
	return 0;
}
#endif
