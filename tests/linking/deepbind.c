/* deepbind DIRECTORY [kept | interposed]: plugins that are opened with RTLD_DEEPBIND are on Arenal when the process is, and dlopen is
 * libc's in all else: who called is found, names, handles and errors are the same.
 *
 * kept: the tunable says that the flag stays. interposed: another library interposes dlopen, before or after Arenal. */
#include "deepbind.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) ((condition) ? (void)0 : broken(__LINE__, #condition))
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static void broken(int line, const char *condition) {
	const char *error = dlerror();

	fprintf(stderr, "deepbind.c:%d: %s does not hold; dlerror: %s\n", line, condition, error ? error : "none");
	exit(1);
}

static bool kept;
static char directory[4000];
static open_plugin_function *open_plugin, *open_plugin_in_base;

static void *open_in_base(const char *file, int flags) {
	void *volatile handle = dlmopen(LM_ID_BASE, file, flags);
	return handle;
}

static const struct deepbind_plugin *plugin_of(void *handle) {
	CHECK(handle);
	const struct deepbind_plugin *plugin = dlsym(handle, "plugin");
	CHECK(plugin);
	return plugin;
}

/* The plugin's calls go where the program's go, and what comes from one side can go to the other. */
static void use(void *handle) {
	const struct deepbind_plugin *plugin = plugin_of(handle);

	CHECK((plugin->own_malloc == (void *(*)(unsigned long))malloc) == !kept);
	if (!kept) {
		plugin->use_libc();
		free(plugin->own_malloc(100));
	}
	CHECK(dlclose(handle) == 0);
}

static void plugins_by_path(void) {
	char path[4096];

	snprintf(path, sizeof path, "%s/plugins/deepbind_plugin.so", directory);
	use(dlopen(path, RTLD_LAZY | RTLD_DEEPBIND));
	use(dlopen(path, RTLD_NOW | RTLD_GLOBAL | RTLD_DEEPBIND));
	use(open_in_base(path, RTLD_LAZY | RTLD_DEEPBIND));
}

/* $ORIGIN and RUNPATH are those of the caller. */
static void plugins_by_name(void) {
	CHECK(!dlopen("deepbind_plugin.so", RTLD_LAZY | RTLD_DEEPBIND));
	CHECK(strstr(dlerror(), "deepbind_plugin.so"));
	CHECK(!open_in_base("deepbind_plugin.so", RTLD_LAZY));
	CHECK(dlerror());
	use(open_plugin("deepbind_plugin.so", RTLD_LAZY | RTLD_DEEPBIND));
	use(open_plugin_in_base("deepbind_plugin.so", RTLD_LAZY | RTLD_DEEPBIND));
	use(open_plugin("$ORIGIN/plugins/deepbind_plugin.so", RTLD_LAZY | RTLD_DEEPBIND));
	void *handle = open_plugin("deepbind_plugin.so", RTLD_LAZY);
	CHECK(plugin_of(handle)->own_malloc == (void *(*)(unsigned long))malloc);
	CHECK(dlclose(handle) == 0);
}

static void the_program_itself(void) {
	for (int flags = RTLD_LAZY; flags; flags = flags == RTLD_LAZY ? RTLD_LAZY | RTLD_DEEPBIND : 0) {
		void *program = dlopen(NULL, flags);
		CHECK(program);
		CHECK(dlsym(program, "malloc") == (void *)malloc);
		CHECK(dlclose(program) == 0);
	}
}

static void loaded_already(void) {
	CHECK(!open_plugin("deepbind_plugin.so", RTLD_LAZY | RTLD_NOLOAD | RTLD_DEEPBIND));
	CHECK(!dlerror()); /* as libc has it: not there is no error */
	void *handle = open_plugin("deepbind_plugin.so", RTLD_LAZY | RTLD_DEEPBIND);
	CHECK(handle);
	CHECK(open_plugin("deepbind_plugin.so", RTLD_LAZY | RTLD_NOLOAD | RTLD_DEEPBIND) == handle);
	CHECK(dlclose(handle) == 0);
	use(handle);
}

/* The same words with and without the flag, once, and none after a success, whatever was before. */
static void errors(void) {
	char *without;

	CHECK(!dlopen("/nonexistent/library.so", RTLD_LAZY));
	without = strdup(dlerror());
	CHECK(!dlerror());
	CHECK(!dlopen("/nonexistent/library.so", RTLD_LAZY | RTLD_DEEPBIND));
	CHECK(strcmp(without, dlerror()) == 0);
	CHECK(!dlerror());
	free(without);
	CHECK(!dlsym(RTLD_DEFAULT, "a_name_that_nobody_has"));
	void *handle = open_plugin("deepbind_plugin.so", RTLD_LAZY | RTLD_DEEPBIND);
	CHECK(!dlerror());
	use(handle);
	CHECK(!dlopen("libc.so.6", RTLD_DEEPBIND)); /* neither RTLD_LAZY nor RTLD_NOW */
	CHECK(dlerror());
}

/* Another namespace has another libc, and its malloc. */
static void another_namespace(void) {
	char path[4096];

	snprintf(path, sizeof path, "%s/plugins/deepbind_plugin.so", directory);
	void *handle = dlmopen(LM_ID_NEWLM, path, RTLD_LAZY | RTLD_DEEPBIND);
	const struct deepbind_plugin *plugin = plugin_of(handle);
	CHECK(plugin->own_malloc != (void *(*)(unsigned long))malloc);
	plugin->use_libc();
	CHECK(dlclose(handle) == 0);
}

static void *open_in_thread(void *unused) {
	(void)unused;
	for (int i = 0; i < 20; i++)
		use(open_plugin("deepbind_plugin.so", RTLD_LAZY | RTLD_DEEPBIND));
	return NULL;
}

static void threads(void) {
	pthread_t ids[4];

	for (size_t i = 0; i < COUNT_OF(ids); i++)
		CHECK(pthread_create(&ids[i], NULL, open_in_thread, NULL) == 0);
	for (size_t i = 0; i < COUNT_OF(ids); i++)
		CHECK(pthread_join(ids[i], NULL) == 0);
}

/* The other library saw that the calls came from here, and the unwinder finds its way through our dlopen. */
static void interposer(const void *caller) {
	interposer_calls_function *opens, *closes;

	*(void **)&opens = dlsym(RTLD_DEFAULT, "interposer_opens");
	*(void **)&closes = dlsym(RTLD_DEFAULT, "interposer_closes");
	CHECK(opens && closes);
	CHECK(!open_plugin("/nonexistent/plugin.so", RTLD_LAZY | RTLD_DEEPBIND));
	CHECK(opens(caller) == 1);
	CHECK(opens((const void *)open_in_base) > 0);
	CHECK(closes(caller) == 1);
}

int main(int argc, char **argv) {
	char path[4096];

	CHECK(argc >= 2);
	kept = argc > 2 && strcmp(argv[2], "kept") == 0;
	snprintf(directory, sizeof directory, "%s", argv[1]);
	snprintf(path, sizeof path, "%s/deepbind_caller.so", directory);
	void *caller = dlopen(path, RTLD_NOW);
	CHECK(caller);
	*(void **)&open_plugin = dlsym(caller, "open_plugin");
	*(void **)&open_plugin_in_base = dlsym(caller, "open_plugin_in_base");
	CHECK(open_plugin && open_plugin_in_base);

	plugins_by_path();
	another_namespace();
	the_program_itself();
	if (argc > 2 && strcmp(argv[2], "interposed") == 0) { /* whose dlopen is who calls libc's: names are looked for from there */
		interposer((const void *)open_plugin);
		return 0;
	}
	threads();
	plugins_by_name();
	loaded_already();
	errors();
	return 0;
}
