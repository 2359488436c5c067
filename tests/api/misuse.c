/* What no program may do with blocks: the library ends the program with one line that names the function, the address and
 * what is known of it, when the function is called. */
#include "support.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* What the child says of itself before it ends. */
static struct {
	char *pointer; /* that it gave to the function */
	char *block;   /* that the pointer has to do with */
	size_t usable; /* bytes of the block */
} *shared;

/* A function that takes a block. */
struct way {
	const char *name; /* in messages */
	void (*give)(void *block);
};

struct misuse {
	const struct way *way;
	size_t size;
	size_t offset;
};

/* A pointer that the compiler knows nothing about. */
static char *unknown(void *pointer) {
	return (char *)hidden((size_t)pointer);
}

static void *(*new_)(size_t);
static void *(*new_aligned)(size_t, size_t);
static void (*delete_)(void *), (*delete_array)(void *);
static void (*delete_sized)(void *, size_t), (*delete_array_sized)(void *, size_t);
static void (*delete_sized_aligned)(void *, size_t, size_t);
static void (*free_sized_)(void *, size_t);
static void (*free_aligned_sized_)(void *, size_t, size_t);
static int (*set)(const char *, int64_t);

/* What follows a wrong size: the values of the tunables. */
enum { MISUSE_DEFAULT = -1, MISUSE_IGNORE, MISUSE_REPORT, MISUSE_END };

static int find_functions(void **state) {
	*(void **)&new_ = find_function("_Znwm");
	*(void **)&new_aligned = find_function("_ZnwmSt11align_val_t");
	*(void **)&delete_ = find_function("_ZdlPv");
	*(void **)&delete_array = find_function("_ZdaPv");
	*(void **)&delete_sized = find_function("_ZdlPvm");
	*(void **)&delete_array_sized = find_function("_ZdaPvm");
	*(void **)&delete_sized_aligned = find_function("_ZdlPvmSt11align_val_t");
	*(void **)&free_sized_ = find_function("free_sized");
	*(void **)&free_aligned_sized_ = find_function("free_aligned_sized");
	*(void **)&set = find_function("arenal_set");
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return shared == MAP_FAILED ? -1 : require_arenal(state);
}

static void give_to_realloc(void *block) { free(realloc(block, 77777)); }
static void give_to_realloc_zero(void *block) { free(realloc(block, 0)); }
static void give_to_usable_size(void *block) { hidden(malloc_usable_size(block)); }
static void give_to_free_sized(void *block) { free_sized_(block, shared->usable); }
static void give_to_delete(void *block) { delete_(block); }
static void give_to_delete_array(void *block) { delete_array(block); }
static void give_to_delete_sized(void *block) { delete_sized(block, shared->usable); }

static const struct way ways[] = {
	{ "free", free },
	{ "realloc", give_to_realloc },
	{ "realloc", give_to_realloc_zero },
	{ "malloc_usable_size", give_to_usable_size },
	{ "free_sized", give_to_free_sized },
	{ "operator delete", give_to_delete },
	{ "operator delete[]", give_to_delete_array },
	{ "operator delete", give_to_delete_sized },
};

static char *take(size_t size) {
	char *block = malloc(size);

	CHILD_CHECK(block);
	shared->block = unknown(block);
	shared->usable = malloc_usable_size(block);
	return unknown(block);
}

static void give(const struct misuse *misuse, char *pointer) {
	shared->pointer = pointer;
	misuse->way->give(unknown(pointer));
}

/* Runs the body in a child. Returns what it wrote to stderr. */
static const char *written_by(void (*body)(void *), void *argument, int *status) {
	static char text[4096];
	int file = memfd_create("stderr", MFD_CLOEXEC), saved = dup(STDERR_FILENO);

	assert_true(file >= 0 && saved >= 0);
	assert_true(dup2(file, STDERR_FILENO) >= 0);
	/* cmocka's handler for SIGABRT would go on in the child. */
	void (*handler)(int) = signal(SIGABRT, SIG_DFL);
	*status = run_in_child(body, argument);
	signal(SIGABRT, handler);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	ssize_t length = pread(file, text, sizeof text - 1, 0);
	close(file);
	assert_true(length >= 0);
	text[length] = '\0';
	return text;
}

/* What is behind "arenal: NAME(POINTER): ", with which the text must start. */
static const char *behind_name(const char *text, const char *name) {
	char start[128];

	snprintf(start, sizeof start, "arenal: %s(0x%" PRIxPTR "): ", name, (uintptr_t)shared->pointer);
	if (strncmp(text, start, strlen(start)) != 0)
		fail_msg("expected \"%s...\", not \"%s\"", start, text);
	return text + strlen(start);
}

/* Runs the body in a child, which must end by SIGABRT with one line on stderr: that of function `name`. Returns the line, from
 * behind the address on. */
static const char *end_of(void (*body)(void *), void *argument, const char *name) {
	int status;
	const char *text = written_by(body, argument, &status);

	if (status != 128 + SIGABRT || *text == '\0' || strchr(text, '\n') != text + strlen(text) - 1)
		fail_msg("%s: expected one line and SIGABRT, ended with %d and wrote \"%s\"", name, status, text);
	return behind_name(text, name);
}

/* The line is exactly this one, but for the arena's number. */
static void expect_line(const char *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void expect_line(const char *line, const char *format, ...) {
	char expected[512];
	va_list args;

	va_start(args, format);
	vsnprintf(expected, sizeof expected, format, args);
	va_end(args);
	strcat(expected, "; the program ends here\n");
	if (strcmp(line, expected) != 0)
		fail_msg("expected \"%s\", not \"%s\"", expected, line);
}

enum kind { SMALL, LARGE, HUGE };

/* Small ones in spans of one slice, with a tail and without, and of several; runs, kept by their thread and not; mappings. */
static const struct {
	size_t size;
	enum kind kind;
} samples[] = {
	{ 1, SMALL },         { 24, SMALL },        { 48, SMALL },       { 1000, SMALL },    { 1024, SMALL },  { 5000, SMALL },
	{ 6600, SMALL },      { 30000, SMALL },     { 32768, SMALL },    { 100000, LARGE },  { 300000, LARGE }, { 900000, LARGE },
	{ 5 * MIB, HUGE },    { 60 * MIB, HUGE },
};

static void free_inside(void *argument) {
	const struct misuse *misuse = argument;

	give(misuse, take(misuse->size) + misuse->offset);
}

static void addresses_inside_of_blocks(void **state) {
	static const char *const words[] = { "block", "large block", "huge block" };

	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples); i++) {
			size_t offsets[] = { 1, 8, 16, 4096, samples[i].size - 1 };
			for (size_t o = 0; o < COUNT_OF(offsets); o++) {
				struct misuse misuse = { &ways[w], samples[i].size, offsets[o] };
				if (offsets[o] == 0 || (offsets[o] >= samples[i].size && offsets[o] > 8))
					continue;
				const char *line = end_of(free_inside, &misuse, ways[w].name);
				if (samples[i].kind == SMALL)
					expect_line(line, "the address is not the start of a block: it lies %zu bytes into the block of %zu bytes "
					            "at 0x%" PRIxPTR ", arena 0", misuse.offset, shared->usable, (uintptr_t)shared->block);
				else
					expect_line(line, "the address is not the start of a block: it lies %zu bytes into the %s of %zu bytes "
					            "at 0x%" PRIxPTR, misuse.offset, words[samples[i].kind], shared->usable, (uintptr_t)shared->block);
			}
		}
}

static void free_behind_the_last(void *way) {
	struct misuse misuse = { way, 48, 0 };

	give(&misuse, (char *)((uintptr_t)take(48) | 65535) + 1 - 65536 % 48);
}

static void addresses_behind_the_last_block(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++) {
		const char *line = end_of(free_behind_the_last, (void *)&ways[w], ways[w].name);
		expect_line(line, "the address is not a block: it lies behind the last of the blocks of 48 bytes at 0x%" PRIxPTR ", arena 0",
		            (uintptr_t)shared->block & ~(uintptr_t)65535);
	}
}

static void free_of_an_address(void *argument) {
	static char bytes[100000];
	const struct misuse *misuse = argument;
	char local[1000];
	void *mapping = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *const pointers[] = { bytes + 16, local + 16, mapping, (char *)16, (char *)0x123456789ab0, (char *)~(uintptr_t)15,
		                       (char *)((uintptr_t)1 << 63) };

	CHILD_CHECK(mapping != MAP_FAILED);
	take(100);
	give(misuse, pointers[misuse->offset]);
}

static void addresses_that_are_no_blocks(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < 7; i++) {
			struct misuse misuse = { &ways[w], 0, i };
			expect_line(end_of(free_of_an_address, &misuse, ways[w].name), "the address is not a block, nor in memory that blocks are in");
		}
}

static void give_twice(void *argument) {
	const struct misuse *misuse = argument;
	char *block = take(misuse->size), *others[3];

	for (size_t i = 0; i < COUNT_OF(others); i++)
		others[i] = unknown(malloc(misuse->size));
	free(block);
	for (size_t i = 0; i < misuse->offset; i++)
		free(others[i]);
	give(misuse, block);
}

static void expect_freed(const char *line, enum kind kind, const char *place) {
	if (kind == SMALL)
		expect_line(line, "the block of %zu bytes, arena 0, was freed already, and is %s", shared->usable, place);
	else if (!strstr(line, "freed already") && !(kind == HUGE && strstr(line, "nor in memory that blocks are in")))
		fail_msg("not expected: \"%s\"", line);
}

static void blocks_that_are_free_already(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples); i++)
			for (size_t others = 0; others <= 3; others += 3) {
				struct misuse misuse = { &ways[w], samples[i].size, others };
				expect_freed(end_of(give_twice, &misuse, ways[w].name), samples[i].kind, "in the cache of this thread");
			}
}

/* So many blocks are freed after it that it leaves the cache; others of its span are in use. */
static void give_twice_much_later(void *argument) {
	const struct misuse *misuse = argument;
	static char *blocks[20000];
	char *block = take(misuse->size);

	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		blocks[i] = unknown(malloc(misuse->size));
	free(block);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		if (i % 100 != 0)
			free(blocks[i]);
	give(misuse, block);
}

static void blocks_that_are_back_in_their_arena(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++) {
		struct misuse misuse = { &ways[w], 24, 0 };
		expect_freed(end_of(give_twice_much_later, &misuse, ways[w].name), SMALL, "back in its arena");
	}
}

static __attribute__((noreturn)) void *free_and_wait(void *block) {
	/* The first free of a thread goes past its cache. */
	free(unknown(malloc(malloc_usable_size(block))));
	free(block);
	shared->pointer = NULL;
	for (;;)
		pause();
}

static void give_after_another_thread(void *argument) {
	const struct misuse *misuse = argument;
	char *block = take(misuse->size);
	pthread_t thread;

	shared->pointer = block;
	CHILD_CHECK(pthread_create(&thread, NULL, free_and_wait, block) == 0);
	while (*(char *volatile *)&shared->pointer)
		usleep(1000);
	give(misuse, block);
}

static void blocks_in_the_cache_of_another_thread(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples); i++) {
			struct misuse misuse = { &ways[w], samples[i].size, 0 };
			expect_freed(end_of(give_after_another_thread, &misuse, ways[w].name), samples[i].kind, "in the cache of another thread");
		}
}

static void give_again(void *argument) {
	give(argument, shared->block);
}

/* Freed before the fork, and once more by the child. */
static void blocks_that_were_freed_before_a_fork(void **state) {
	(void)state;
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		for (size_t i = 0; i < COUNT_OF(samples); i++) {
			struct misuse misuse = { &ways[w], samples[i].size, 0 };
			free(take(misuse.size));
			expect_freed(end_of(give_again, &misuse, ways[w].name), samples[i].kind, "in the cache of this thread");
		}
}

/* A block may well hold what lies in free ones, and is no free one for that. */
static void copies_of_free_blocks_are_blocks(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(samples) && samples[i].kind == SMALL; i++) {
		size_t size = samples[i].size < 16 ? 16 : samples[i].size;
		char *block = unknown(malloc(size)), *copy = unknown(malloc(size)), *third = unknown(malloc(size));
		free(block);
		memcpy(copy, block, size);
		memcpy(third, block, size);
		assert_true(malloc_usable_size(copy) >= size);
		free(copy);
		third = realloc(third, 3 * size);
		assert_non_null(third);
		free(third);
	}
}

struct sized {
	void (*give)(void *block, size_t size);
	const char *name;
	size_t right, wrong;
};

static int64_t action; /* that the child asks for */

static size_t bytes_in_use(void) {
	struct mallinfo2 m = mallinfo2();
	return m.uordblks + m.hblkhd;
}

/* Twice: what goes on is reported once. */
static void give_wrong_size(void *argument) {
	const struct sized *sized = argument;

	CHILD_CHECK(set("misuse_size", action) == 0);
	for (int i = 0; i < 2; i++) {
		const size_t before = bytes_in_use();
		char *block = new_(sized->right);

		CHILD_CHECK(block);
		shared->pointer = i == 0 ? block : shared->pointer;
		shared->usable = malloc_usable_size(block);
		sized->give(unknown(block), sized->wrong);
		CHILD_CHECK(bytes_in_use() == before);
	}
}

static void delete_sized_64(void *block, size_t size) { delete_sized_aligned(block, size, 64); }
static void free_sized_64(void *block, size_t size) { free_aligned_sized_(block, 64, size); }

/* Each function with each wrong size. */
static void for_wrong_sizes(void (*check)(const struct sized *)) {
	static const size_t pairs[][2] = { { 1, 72 },        { 72, 1 },           { 100, 113 },       { 16, 17 },         { 1000, 2000 },
		                               { 5000, 1 },      { 7000, 30000 },     { 30000, 1 },       { 30000, 40000 },   { 100000, 1 },
		                               { 100000, 300000 }, { 5 * MIB, 100 },  { 5 * MIB, 50 * MIB }, { 100, SIZE_MAX }, { 100, PTRDIFF_MAX } };

	for (size_t i = 0; i < COUNT_OF(pairs); i++) {
		const struct sized functions[] = {
			{ delete_sized, "operator delete", pairs[i][0], pairs[i][1] },
			{ delete_array_sized, "operator delete[]", pairs[i][0], pairs[i][1] },
			{ free_sized_, "free_sized", pairs[i][0], pairs[i][1] },
			{ delete_sized_64, "operator delete with an alignment", pairs[i][0], pairs[i][1] + 64 },
			{ free_sized_64, "free_aligned_sized", pairs[i][0], pairs[i][1] + 64 },
		};
		/* With an alignment, a wrong size must be wrong by more than that rounds up. */
		bool far = pairs[i][0] > 1000 && pairs[i][1] < SIZE_MAX - 64;
		for (size_t f = 0; f < (far ? COUNT_OF(functions) : 3); f++)
			check(&functions[f]);
	}
}

static const char *size_is_wrong(const struct sized *sized) {
	static char text[200];

	snprintf(text, sizeof text, "the size %zu is wrong: the block has %zu bytes, and was asked for with another size", sized->wrong,
	         shared->usable);
	return text;
}

static void check_end(const struct sized *sized) {
	const char *line = end_of(give_wrong_size, (void *)sized, sized->name);

	expect_line(line, "%s", size_is_wrong(sized));
}

static void wrong_sizes_end_the_program_that_asks_for_it(void **state) {
	(void)state;
	action = MISUSE_END;
	for_wrong_sizes(check_end);
}

static void check_nothing_said(const struct sized *sized) {
	int status;
	const char *text = written_by(give_wrong_size, (void *)sized, &status);

	if (status != 0 || *text != '\0')
		fail_msg("%s: ended with %d and wrote \"%s\"", sized->name, status, text);
}

static void wrong_sizes_are_let_pass(void **state) {
	(void)state;
	action = MISUSE_DEFAULT;
	for_wrong_sizes(check_nothing_said);
	action = MISUSE_IGNORE;
	for_wrong_sizes(check_nothing_said);
}

/* A line, and the stack of this program's call, once. */
static void check_report(const struct sized *sized) {
	int status;
	const char *text = written_by(give_wrong_size, (void *)sized, &status), *line = behind_name(text, sized->name);
	const char *wrong = size_is_wrong(sized), *rest = "; the program goes on, and the next ones are not reported\n  freed by thread ";

	if (status != 0 || strncmp(line, wrong, strlen(wrong)) != 0 || strncmp(line + strlen(wrong), rest, strlen(rest)) != 0)
		fail_msg("%s: ended with %d and wrote \"%s\"", sized->name, status, text);
	assert_non_null(strstr(line, "api_misuse+0x"));
	assert_null(strstr(line, "arenal: "));
}

static void wrong_sizes_are_reported_once(void **state) {
	(void)state;
	action = MISUSE_REPORT;
	for_wrong_sizes(check_report);
}

static void right_sizes(void **state) {
	(void)state;
	assert_int_equal(set("misuse", MISUSE_END), 0);
	for (size_t size = 0; size < 40 * MIB; size += size < 3000 ? 1 : size / 7) {
		delete_sized(new_(size), size);
		delete_array_sized(new_(size), size);
		free_sized_(malloc(size), size);
		free_sized_(calloc(1, size), size);
		for (size_t before = 1; before < 10 * MIB; before = before * 7 + 11) {
			char *block = realloc(malloc(before), size + 1);
			assert_non_null(block);
			free_sized_(block, size + 1);
		}
		for (size_t align = 1; align <= 64 * KIB; align *= 4) {
			delete_sized_aligned(new_aligned(size, align), size, align);
			free_aligned_sized_(aligned_alloc(align, size), align, size);
		}
		if (size > MIB)
			size += size / 2;
	}
	delete_sized(NULL, 7);
	free_sized_(NULL, 7);
	free_aligned_sized_(NULL, 64, 7);
	assert_int_equal(set("misuse", MISUSE_DEFAULT), 0);
}

static void write_to_nothing(void *unused) {
	(void)unused;
	signal(SIGSEGV, SIG_DFL); /* not cmocka's handler */
	*(volatile char *)unknown(malloc(0)) = 1;
}

static void give_nothing_twice(void *way) {
	struct misuse misuse = { way, 0, 0 };
	char *block = take(0);

	free(block);
	give(&misuse, block);
}

static void blocks_of_no_bytes(void **state) {
	static char *blocks[100000];

	(void)state;
	assert_int_equal(run_in_child(write_to_nothing, NULL), 128 + SIGSEGV);
	for (size_t w = 0; w < COUNT_OF(ways); w++)
		expect_line(end_of(give_nothing_twice, (void *)&ways[w], ways[w].name),
		            "the block of no bytes was freed already");
	/* More than there are addresses for: all are different. */
	for (size_t i = 0; i < COUNT_OF(blocks); i++) {
		blocks[i] = malloc(0);
		assert_non_null(blocks[i]);
		if (malloc_usable_size(blocks[i]) > 0) {
			assert_int_equal(blocks[i][0], blocks[i][0]);
			*(size_t *)blocks[i] = i;
		}
	}
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		if (malloc_usable_size(blocks[i]) > 0)
			assert_int_equal(*(size_t *)blocks[i], i);
	for (size_t i = 0; i < COUNT_OF(blocks); i++)
		free_sized_(blocks[i], 0);
}

/* What /proc/self/maps says of the mapping around the address: its permissions; "" when there is none. */
static const char *permissions(uintptr_t address) {
	static char found[8];
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");

	assert_non_null(maps);
	found[0] = '\0';
	while (fgets(line, sizeof line, maps)) {
		uintptr_t start, end;
		char mode[8];
		assert_int_equal(sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &start, &end, mode), 3);
		if (address >= start && address < end)
			strcpy(found, mode);
	}
	fclose(maps);
	return found;
}

static void blocks_are_not_executable(void **state) {
	(void)state;
	for (size_t i = 0; i < COUNT_OF(samples); i++) {
		char *block = unknown(malloc(samples[i].size));
		assert_string_equal(permissions((uintptr_t)block), "rw-p");
		free(block);
	}
}

static void *block_of_a_second_arena(void *unused) {
	(void)unused;
	return malloc(100);
}

/* Behind a region of 64 MiB, and below the brk heap. */
static void heaps_end_at_inaccessible_pages(void **state) {
	pthread_t thread;
	void *block;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, block_of_a_second_arena, NULL), 0);
	assert_int_equal(pthread_join(thread, &block), 0);
	uintptr_t brk_end = (uintptr_t)sbrk(0), first = brk_end;
	if ((uintptr_t)block >= brk_end)
		assert_string_equal(permissions(((uintptr_t)block | (64 * MIB - 1)) + 1), "---p");
	free(block);
	while (strcmp(permissions(first - 4096), "rw-p") == 0)
		first -= 4096;
	assert_string_equal(permissions(first - 4096), "---p");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_inside_of_blocks),
		cmocka_unit_test(addresses_behind_the_last_block),
		cmocka_unit_test(addresses_that_are_no_blocks),
		cmocka_unit_test(blocks_that_are_free_already),
		cmocka_unit_test(blocks_that_are_back_in_their_arena),
		cmocka_unit_test(blocks_in_the_cache_of_another_thread),
		cmocka_unit_test(blocks_that_were_freed_before_a_fork),
		cmocka_unit_test(copies_of_free_blocks_are_blocks),
		cmocka_unit_test(wrong_sizes_end_the_program_that_asks_for_it),
		cmocka_unit_test(wrong_sizes_are_let_pass),
		cmocka_unit_test(wrong_sizes_are_reported_once),
		cmocka_unit_test(right_sizes),
		cmocka_unit_test(blocks_of_no_bytes),
		cmocka_unit_test(blocks_are_not_executable),
		cmocka_unit_test(heaps_end_at_inaccessible_pages),
	};

	return cmocka_run_group_tests(tests, find_functions, NULL);
}
