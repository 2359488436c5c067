/* bad_alloc_host PLUGIN: a C program, whose plugin is in C++, and brings the C++ library along: calls the plugin's main. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
	void *plugin = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
	int (*start)(void);

	if (!plugin) {
		fprintf(stderr, "bad_alloc_host: %s\n", argc == 2 ? dlerror() : "no plugin is named");
		return 1;
	}
	*(void **)&start = dlsym(plugin, "main");
	return start ? start() : 1;
}
