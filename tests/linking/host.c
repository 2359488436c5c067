/* host PLUGIN: a program on the libc's malloc that loads a plugin which needs Arenal. The library's thread-local storage
 * has to fit into what is left of the static block; the symbols follow the rules of ELF: with RTLD_DEEPBIND the plugin's
 * calls go to Arenal, without it they go where the program's go. Unloading is harmless. */
#include "plugin.h"
#include "stamp.h"

#include <arenal/arenal.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) ((condition) ? (void)0 : broken(__LINE__, #condition))

static void broken(int line, const char *condition) {
	const char *error = dlerror();

	fprintf(stderr, "host.c:%d: %s does not hold; dlerror: %s\n", line, condition, error ? error : "none");
	exit(1);
}

static pthread_barrier_t barrier;
static const struct plugin *plugin;

/* Threads from before the plugin was loaded use it too. */
static void *use_plugin(void *unused) {
	(void)unused;
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 5; i++)
		CHECK(plugin->exercise() == 0);
	return NULL;
}

typedef int stats_function(struct arenal_stats *, size_t);

static size_t allocated(stats_function *stats_get) {
	struct arenal_stats stats;

	CHECK(stats_get(&stats, sizeof stats) == 0);
	return stats.allocated;
}

static void fork_and_allocate(void) {
	int status;
	pid_t child = fork();

	if (child == 0) {
		free(malloc(1000));
		_exit(plugin ? plugin->exercise() : 0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == 0);
}

/* How the plugin's malloc is bound shows in the library's figures. */
static void expect_binding(stats_function *stats_get, bool to_arenal) {
	size_t before = allocated(stats_get);
	void *block = plugin->allocate(1 << 20);

	CHECK(block);
	stamp_block(block, 1 << 20, 1);
	CHECK((allocated(stats_get) >= before + (1 << 20)) == to_arenal);
	CHECK(stamp_intact(block, 1 << 20, 1));
	plugin->release(block);
	CHECK(allocated(stats_get) <= before + 4096);
}

static void load_use_and_unload(const char *path, int flags) {
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	char *from_libc = strdup("allocated by the libc, before");

	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, use_plugin, NULL) == 0);
	pthread_barrier_wait(&barrier);

	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | flags);
	CHECK(handle);
	plugin = dlsym(handle, "plugin");
	CHECK(plugin);
	stats_function *stats_get = (stats_function *)dlsym(handle, "arenal_stats_get");
	CHECK(stats_get);
	CHECK(strcmp(plugin->version(), ARENAL_VERSION_STRING) == 0);
	expect_binding(stats_get, (flags & RTLD_DEEPBIND) != 0);
	CHECK(plugin->open() == 0);

	/* The program's own malloc is still the libc's. The threads wait: what they allocate would count. */
	size_t before = allocated(stats_get);
	char *own = malloc(1 << 20);
	CHECK(own);
	CHECK(allocated(stats_get) < before + (1 << 20));
	free(own);
	pthread_barrier_wait(&barrier);
	CHECK(plugin->exercise() == 0);
	free(from_libc);
	fork_and_allocate();
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	pthread_barrier_destroy(&barrier);

	plugin = NULL;
	CHECK(dlclose(handle) == 0);
	free(strdup("allocated by the libc, after"));
	fork_and_allocate();
}

/* Ends after the plugin has been unloaded, with a cache that it may have left behind. */
static void *load_in_thread(void *path) {
	load_use_and_unload(path, RTLD_DEEPBIND);
	return NULL;
}

int main(int argc, char **argv) {
	pthread_t thread;

	CHECK(argc == 2);
	CHECK(!dlsym(RTLD_DEFAULT, "arenal_version"));
	for (int round = 0; round < 3; round++) {
		load_use_and_unload(argv[1], 0);
		load_use_and_unload(argv[1], RTLD_DEEPBIND);
		CHECK(pthread_create(&thread, NULL, load_in_thread, argv[1]) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
	}
	return 0;
}
