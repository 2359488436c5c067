/* A static program that carries an arenal_layout of its own, sound or damaged as its argument says: what tools/arenal
 * reads from a process may be anything. Says "ready", and stays until its standard input ends. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

struct arenal_layout {
	char magic[8];
	uint32_t version, slice_shift, region_shift, huge_capacity;
	uint64_t heap_start, heap_end, regions, huge_table, kept_table, kept_capacity, hard_table, hard_kept_table;
	uint32_t hard_capacity, hard_kept_capacity, hard_stride, hard_kept_stride;
};
struct region {
	uint64_t next, base;
	uint32_t kind, slices_total, slices_used, slices_dirty;
};
struct huge {
	uint64_t address, size;
};

struct arenal_layout arenal_layout = {"ARENAL\0", 3, 16, 26, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
static struct region regions[2];
static struct huge table[4];

/* One region, a quarter of it touched, with 300 slices used and 20 dirty; one huge block of 96 MiB, all untouched. */
static int fill(void) {
	char *raw = mmap(NULL, 128 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *huge = mmap(NULL, 96 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (raw == MAP_FAILED || huge == MAP_FAILED)
		return -1;
	uint64_t base = ((uint64_t)(uintptr_t)raw + 64 * MIB - 1) & ~(64 * MIB - 1);
	memset((char *)(uintptr_t)base, 1, 16 * MIB);
	regions[0] = (struct region){0, base, 0, 1024, 300, 20};
	table[1] = (struct huge){1, 4096}; /* deleted */
	table[2] = (struct huge){(uint64_t)(uintptr_t)huge, 96 * MIB};
	arenal_layout.regions = (uint64_t)(uintptr_t)regions;
	arenal_layout.huge_table = (uint64_t)(uintptr_t)table;
	arenal_layout.huge_capacity = 4;
	return 0;
}

static int damage(const char *how) {
	if (!strcmp(how, "circle")) {
		regions[1] = regions[0];
		regions[0].next = (uint64_t)(uintptr_t)&regions[1];
		regions[1].next = (uint64_t)(uintptr_t)&regions[0];
	} else if (!strcmp(how, "pointer")) {
		regions[0].next = 0xfffffffffffffff8;
	} else if (!strcmp(how, "figures")) {
		regions[0].slices_used = 100000;
	} else if (!strcmp(how, "capacity")) {
		arenal_layout.huge_capacity = 0x80000000;
	} else if (!strcmp(how, "table")) {
		arenal_layout.huge_table = 8;
	} else if (!strcmp(how, "shift")) {
		arenal_layout.region_shift = 200;
	} else if (!strcmp(how, "magic")) {
		arenal_layout.magic[0] = 'X';
	} else if (!strcmp(how, "version")) {
		arenal_layout.version = 99;
	} else if (!strcmp(how, "kept")) { /* a freed mapping that waits for the next huge block: not damaged at all */
		static struct huge kept[2];
		kept[0].address = (uint64_t)(uintptr_t)mmap(NULL, 8 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		kept[0].size = 8 * MIB;
		arenal_layout.kept_table = (uint64_t)(uintptr_t)kept;
		arenal_layout.kept_capacity = 2;
	} else if (!strcmp(how, "stride")) {
		arenal_layout.hard_table = (uint64_t)(uintptr_t)table;
		arenal_layout.hard_capacity = 4;
		arenal_layout.hard_stride = 1 << 30;
	} else if (!strcmp(how, "entry")) {
		table[3] = (struct huge){0xffffffffffff0000, 0xffffffffffffffff};
	} else if (strcmp(how, "sound")) {
		return -1;
	}
	return 0;
}

int main(int argc, char **argv) {
	if (argc != 2 || fill() || damage(argv[1])) {
		fputs("usage: fake_layout HOW\n", stderr);
		return 2;
	}
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		return 3;
	char byte;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
