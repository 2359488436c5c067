/* workload [strict]: what the fault tests run. Allocates, resizes and frees blocks of all sizes in two threads while
 * system calls fail. An allocation may fail with ENOMEM once a call has failed (never, if strict); all blocks that it has
 * must keep their contents, and free must keep errno. Then the faults are switched off: everything must succeed.
 *
 * Exit status: 0 when no call failed, 10 when one did and all went well; it aborts when something is wrong. */
#include "fault_shim.h"
#include "stamp.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define CHECK(condition) ((condition) ? (void)0 : broken(__LINE__, #condition))

static void broken(int line, const char *condition) {
	dprintf(STDERR_FILENO, "workload.c:%d: %s does not hold\n", line, condition);
	abort();
}

static bool strict;
static fault_count_function *fault_count;

/* May an allocation fail now? */
static void excuse_failure(void) {
	CHECK(errno == ENOMEM);
	CHECK(fault_count() > 0);
	CHECK(!strict);
}

/* Large blocks are stamped at their start only: they are here for their mappings. */
struct piece {
	void *address;
	size_t size;
};

static size_t stamped(size_t size) {
	return size < 32 * KIB ? size : 32 * KIB;
}

static void check(const struct piece *piece) {
	if (piece->address)
		CHECK(stamp_holds(piece->address, stamped(piece->size), stamp_key(piece->address, piece->size, 1)));
}

static void stamp(const struct piece *piece) {
	CHECK(malloc_usable_size(piece->address) >= piece->size);
	((char *)piece->address)[piece->size - 1] = 1;
	stamp_write(piece->address, stamped(piece->size), stamp_key(piece->address, piece->size, 1));
	check(piece);
}

static void fill(struct piece *piece, size_t size, unsigned way) {
	errno = 0;
	piece->size = size;
	if (way % 4 == 0) {
		piece->address = malloc(size);
	} else if (way % 4 == 1) {
		piece->address = calloc(1, size);
		if (piece->address)
			CHECK(holds_only(piece->address, stamped(size), 0) && ((char *)piece->address)[size - 1] == 0);
	} else if (way % 4 == 2) {
		piece->address = aligned_alloc((size_t)16 << way % 18, size);
		CHECK((uintptr_t)piece->address % ((size_t)16 << way % 18) == 0);
	} else {
		piece->address = realloc(NULL, size);
	}
	if (piece->address)
		stamp(piece);
	else
		excuse_failure();
}

static void resize(struct piece *piece, size_t size) {
	uint64_t key = stamp_key(piece->address, piece->size, 1);
	size_t common = size < stamped(piece->size) ? stamped(size) : stamped(piece->size);

	check(piece);
	errno = 0;
	void *moved = realloc(piece->address, size);
	if (!moved) {
		excuse_failure();
		check(piece);
		return;
	}
	CHECK(stamp_holds(moved, common, key));
	piece->address = moved;
	piece->size = size;
	stamp(piece);
}

static void drop(struct piece *piece) {
	check(piece);
	errno = EXDEV;
	free(piece->address);
	CHECK(errno == EXDEV);
	piece->address = NULL;
}

static const size_t sizes[] = {
	16, 100, 1000, 5000, 20000, 40000, 100 * KIB, 300 * KIB, 700 * KIB, 3 * MIB, 64, 400, 3000, 70 * KIB, 24, 10000, 48 * MIB,
};
enum { SIZES = sizeof sizes / sizeof sizes[0], PIECES = 6 * SIZES };

/* What each of the two threads does; the pieces stay in use, half of them freed. */
static void *work(void *pieces_) {
	struct piece *pieces = pieces_;

	for (unsigned i = 0; i < PIECES; i++)
		fill(&pieces[i], sizes[i % SIZES], i / 3);
	for (unsigned i = 0; i < PIECES; i++) {
		if (pieces[i].address)
			resize(&pieces[i], i % 2 ? pieces[i].size * 2 : pieces[i].size / 2 + 1);
	}
	for (unsigned i = 0; i < PIECES; i++) {
		if (i % 3)
			drop(&pieces[i]);
	}
	malloc_trim(0);
	for (unsigned i = 0; i < PIECES; i++) {
		check(&pieces[i]);
		if (!pieces[i].address)
			fill(&pieces[i], sizes[i * 5 % SIZES], i);
	}
	for (unsigned i = 0; i < PIECES; i += 2)
		drop(&pieces[i]);
	return NULL;
}

/* Many small blocks, so that arenas and caches need more memory, and then give it back. */
static void work_with_many(void) {
	enum { BLOCKS = 10000 };
	static struct piece blocks[BLOCKS];

	for (unsigned i = 0; i < BLOCKS; i++)
		fill(&blocks[i], 1 + i % 1200, 4 * i);
	for (unsigned i = 0; i < BLOCKS; i++)
		drop(&blocks[i]);
}

static void *find(const char *name) {
	void *function = dlsym(RTLD_DEFAULT, name);

	CHECK(function);
	return function;
}

int main(int argc, char **argv) {
	static struct piece mine[PIECES], others[PIECES];
	fault_off_function *fault_off = (fault_off_function *)find("fault_off");
	fault_foreign_intact_function *foreign_intact = (fault_foreign_intact_function *)find("fault_foreign_intact");
	pthread_t thread;

	fault_count = (fault_count_function *)find("fault_count");
	strict = argc > 1 && strcmp(argv[1], "strict") == 0;
	work(mine);
	work_with_many();
	/* One after the other, so that the calls come in the same order each time. A thread needs memory to start. */
	if (pthread_create(&thread, NULL, work, others) == 0)
		CHECK(pthread_join(thread, NULL) == 0);
	else
		CHECK(fault_count() > 0 && !strict);
	CHECK(foreign_intact());

	size_t page = getauxval(AT_PAGESZ);
	void *whole = valloc(100);
	CHECK((uintptr_t)whole % page == 0);
	free(whole);

	fault_off();
	strict = true;
	work_with_many();
	for (unsigned i = 0; i < PIECES; i++) {
		check(&mine[i]);
		check(&others[i]);
		if (!mine[i].address)
			fill(&mine[i], sizes[i * 7 % SIZES], i);
		if (!others[i].address)
			fill(&others[i], sizes[i * 11 % SIZES], i + 1);
	}
	for (unsigned i = 0; i < PIECES; i++)
		resize(&mine[i], sizes[i * 3 % SIZES]);
	for (unsigned i = 0; i < PIECES; i++) {
		drop(&mine[i]);
		drop(&others[i]);
	}
	malloc_trim(0);
	CHECK(foreign_intact());
	return fault_count() > 0 ? 10 : 0;
}
