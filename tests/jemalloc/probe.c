/* What a program that is written for jemalloc sees: each argument is a node to read, as TYPE:NAME, one to act on,
 * as "do:NAME", or to write a string to, as "to:NAME=TEXT". Prints values, or errors by number. */
#include <jemalloc/jemalloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *volatile kept;

/* For the profile: who asks is known by name. */
__attribute__((noinline)) static void keep_memory(void) {
	for (int i = 0; i < 200; i++) {
		char *block = malloc(1 << 20);
		block[0] = 1;
		*(char **)(block + 8) = kept;
		kept = block;
	}
}

static int read_and_print(const char *type, const char *name) {
	union {
		bool is;
		unsigned number;
		size_t size;
		ssize_t sign;
		const char *text;
	} value = { .size = 0 };
	size_t length = *type == 'b' ? sizeof value.is : *type == 'u' ? sizeof value.number : sizeof value.size;
	const int error = mallctl(name, &value, &length, NULL, 0);
	if (error != 0) return printf("error %d\n", error);
	switch (*type) {
	case 'b': return printf("%s\n", value.is ? "true" : "false");
	case 'u': return printf("%u\n", value.number);
	case 'z': return printf("%zu\n", value.size);
	case 'i': return printf("%zd\n", value.sign);
	default: return printf("%s\n", value.text);
	}
}

static int write_text(char *argument) {
	char *text = strchr(argument, '=');
	*text++ = 0;
	return printf("error %d\n", mallctl(argument, NULL, NULL, &text, sizeof text));
}

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) {
		char *name = strchr(argv[i], ':') + 1;
		if (strncmp(argv[i], "keep:", 5) == 0)
			keep_memory();
		else if (strncmp(argv[i], "json:", 5) == 0)
			malloc_stats_print(NULL, NULL, "J");
		else if (strncmp(argv[i], "do:", 3) == 0)
			printf("error %d\n", mallctl(name, NULL, NULL, NULL, 0));
		else if (strncmp(argv[i], "to:", 3) == 0)
			write_text(name);
		else
			read_and_print(argv[i], name);
	}
	return 0;
}
