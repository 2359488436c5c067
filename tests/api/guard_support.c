/* What the cases of api.guard share. */
#include "guard.h"

#include <arenal/arenal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct facts facts;

void tell_facts(void) {
	dprintf(STDOUT_FILENO, "facts %p %d %d\n", facts.block, facts.thread, facts.freeing_thread);
}

size_t guarded_now(void) {
	struct arenal_stats stats;

	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	return stats.guarded;
}

static char *volatile sink;

NOINLINE char *allocate_here(size_t size) {
	char *block = malloc(size);

	sink = block;
	return block;
}

NOINLINE void free_here(char *block) {
	free(block);
	sink = NULL;
}

NOINLINE void write_here(char *at) {
	*(volatile char *)at = 1;
	sink = NULL;
}

NOINLINE char read_here(char *at) {
	char value = *(volatile char *)at;

	sink = NULL;
	return value;
}

NOINLINE char *realloc_here(char *block, size_t size) {
	char *moved = realloc(block, size);

	sink = moved;
	return moved;
}

static bool is_at_page_end(const char *block, size_t size) {
	return ((uintptr_t)block + ((size + 15) & ~(size_t)15)) % (size_t)sysconf(_SC_PAGESIZE) == 0;
}

char *guarded_block(size_t size, enum side side) {
	for (int i = 0; i < 60; i++) {
		const size_t before = guarded_now();
		char *block = allocate_here(size);
		CHILD_CHECK(block && guarded_now() == before + 1);
		if (side == ANY || (side == AT_END) == is_at_page_end(block, size)) {
			facts.block = block;
			facts.thread = (int)syscall(SYS_gettid);
			tell_facts();
			return block;
		}
	}
	CHILD_CHECK(!"one of sixty blocks lies at that side");
	return NULL;
}
