/* What the tests of misuse share. */
#include "misuse.h"

#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct told *shared;

void *(*new_)(size_t);
void *(*new_aligned)(size_t, size_t);
void (*delete_)(void *), (*delete_array)(void *);
void (*delete_sized)(void *, size_t), (*delete_array_sized)(void *, size_t);
void (*delete_sized_aligned)(void *, size_t, size_t);
void (*free_sized_)(void *, size_t);
void (*free_aligned_sized_)(void *, size_t, size_t);
int (*set)(const char *, int64_t);

int find_functions(void **state) {
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

const struct way ways[WAYS] = {
	{ "free", free, FREES },
	{ "realloc", give_to_realloc, MOVES },
	{ "realloc", give_to_realloc_zero, FREES },
	{ "malloc_usable_size", give_to_usable_size, LOOKS },
	{ "free_sized", give_to_free_sized, FREES },
	{ "operator delete", give_to_delete, FREES },
	{ "operator delete[]", give_to_delete_array, FREES },
	{ "operator delete", give_to_delete_sized, FREES },
};

char *take(size_t size) {
	char *block = malloc(size);

	CHILD_CHECK(block);
	shared->block = unknown(block);
	shared->usable = malloc_usable_size(block);
	return unknown(block);
}

void give(const struct misuse *misuse, char *pointer) {
	shared->pointer = pointer;
	misuse->way->give(unknown(pointer));
}

const char *behind_name(const char *text, const char *name) {
	char start[128];

	snprintf(start, sizeof start, "arenal: %s(0x%" PRIxPTR "): ", name, (uintptr_t)shared->pointer);
	if (strncmp(text, start, strlen(start)) != 0)
		fail_msg("expected \"%s...\", not \"%s\"", start, text);
	return text + strlen(start);
}

const char *end_of(void (*body)(void *), void *argument, const char *name) {
	int status;
	const char *text = written_by_child(body, argument, &status);

	if (status != 128 + SIGABRT || *text == '\0' || strchr(text, '\n') != text + strlen(text) - 1)
		fail_msg("%s: expected one line and SIGABRT, ended with %d and wrote \"%s\"", name, status, text);
	return behind_name(text, name);
}

void expect_line(const char *line, const char *format, ...) {
	char expected[512];
	va_list args;

	va_start(args, format);
	vsnprintf(expected, sizeof expected, format, args);
	va_end(args);
	strcat(expected, "; the program ends here\n");
	if (strcmp(line, expected) != 0)
		fail_msg("expected \"%s\", not \"%s\"", expected, line);
}

const struct sample samples[SAMPLES] = {
	{ 1, SMALL },         { 24, SMALL },        { 48, SMALL },       { 1000, SMALL },    { 1024, SMALL },  { 5000, SMALL },
	{ 6600, SMALL },      { 30000, SMALL },     { 32768, SMALL },    { 100000, LARGE },  { 300000, LARGE }, { 900000, LARGE },
	{ 5 * MIB, HUGE },    { 60 * MIB, HUGE },
};
