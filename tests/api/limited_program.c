/* limited_program MIB [thread]: a process that limits its own address space to MIB after its first malloc, as servers and shells do, and then
 * needs three tenths of it, in blocks of one size after the other, in its first thread or in a second one. Without MIB, it
 * prints the size of its address space in KiB, and whether a core dump would have anything that nobody uses (mappings above 1 MiB that are
 * not to be left out, and that it did not write to). */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const size_t sizes[] = { 200, 3000, 100000, 2000000 };

static bool get(size_t size, size_t wanted) {
	void **last = NULL;
	size_t got = 0;
	for (; got < wanted; got += size) {
		void **block = malloc(size);
		if (block == NULL) break;
		memset(block, 1, size);
		*block = last;
		last = block;
	}
	while (last != NULL) {
		void **before = *last;
		free(last);
		last = before;
	}
	if (got < wanted) fprintf(stderr, "blocks of %zu: %zu of %zu KiB\n", size, got >> 10, wanted >> 10);
	return got >= wanted;
}

static void *get_all(void *wanted) {
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		if (!get(sizes[i], *(size_t *)wanted)) exit(1);
	return NULL;
}

static int tell(void) {
	char line[300];
	unsigned long size = 0, used = 0, total = 0, unused = 0, value;
	bool anonymous = false;
	FILE *file = fopen("/proc/self/smaps", "r");
	while (file != NULL && fgets(line, sizeof line, file) != NULL) {
		unsigned long start, end, inode;
		char flags[5];
		if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &start, &end, flags, &inode) == 4) {
			size = (end - start) >> 10;
			total += size;
			anonymous = inode == 0;
		}
		if (sscanf(line, "Rss: %lu", &value) == 1) used = value;
		if (strncmp(line, "VmFlags:", 8) == 0 && anonymous && size >= 1024 && used == 0 && strstr(line, " dd") == NULL) unused++;
	}
	printf("%lu %lu\n", total, unused);
	return file == NULL;
}

int main(int argc, char **argv) {
	void *volatile first = malloc(100);
	free(first);
	if (argc < 2) return tell();
	const rlim_t limit = (rlim_t)strtoul(argv[1], NULL, 10) << 20;
	const struct rlimit limits = { limit, limit };
	if (setrlimit(RLIMIT_AS, &limits) != 0) return 2;
	size_t wanted = limit / 10 * 3;
	if (argc == 2) {
		get_all(&wanted);
		return 0;
	}
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 128 * 1024);
	if (pthread_create(&thread, &attributes, get_all, &wanted) != 0) return 3;
	return pthread_join(thread, NULL);
}
