/* What the tests of the heap profile share. */
#include "profile.h"

#include <arenal/arenal.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *volatile sink;

#define SITE(size)                            \
	NOINLINE void *site_##size(void) {        \
		void *block = malloc(size);           \
		sink = block;                         \
		return block;                         \
	}
SITE(16) SITE(40) SITE(200) SITE(1024) SITE(1040) SITE(5000) SITE(20000) SITE(32768) SITE(50000) SITE(300000) SITE(1048576)

const struct site sites[SITES] = {
	{ site_16, 16, 100000 },      { site_40, 40, 100000 },     { site_200, 200, 40000 },    { site_1024, 1024, 20000 },
	{ site_1040, 1040, 20000 },   { site_5000, 5000, 4000 },   { site_20000, 20000, 1000 }, { site_32768, 32768, 600 },
	{ site_50000, 50000, 400 },   { site_300000, 300000, 100 }, { site_1048576, 1048576, 40 },
};

char *dump_text(void) {
	const int file = memfd_create("dump", 0);
	assert_true(file >= 0);
	assert_int_equal(arenal_profile_dump(file), 0);
	const off_t size = lseek(file, 0, SEEK_END);
	assert_int_equal(ftruncate(file, size + 1), 0); /* a zero behind it, which may be on a page of its own */
	char *text = mmap(NULL, (size_t)size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	assert_true(text != MAP_FAILED);
	close(file);
	return text; /* never unmapped */
}

char *cut_line(char *line) {
	char *end = strchr(line, '\n');
	if (end == NULL) return NULL;
	*end = 0;
	return end + 1;
}

struct counts counted(const void *function) {
	struct counts sum = { 0 };
	Dl_info info;
	for (char *line = dump_text(), *next; line != NULL; line = next) {
		struct counts c;
		next = cut_line(line);
		unsigned long frame;
		if (sscanf(line, "stack %lf %lf %lf %lf %lx", &c.live_blocks, &c.live_bytes, &c.total_blocks,
		           &c.total_bytes, &frame) != 5)
			continue;
		if (function != NULL && !(dladdr((void *)frame, &info) != 0 && info.dli_saddr == function)) continue;
		sum.live_blocks += c.live_blocks;
		sum.live_bytes += c.live_bytes;
		sum.total_blocks += c.total_blocks;
		sum.total_bytes += c.total_bytes;
	}
	return sum;
}

void start_exactly(void) { assert_int_equal(arenal_profile_start(1), 0); }

void assert_counts(const void *function, double live_blocks, double live_bytes, double total_blocks) {
	const struct counts c = counted(function);
	assert_true(c.live_blocks == live_blocks);
	assert_true(c.live_bytes == live_bytes);
	assert_true(c.total_blocks == total_blocks);
}
