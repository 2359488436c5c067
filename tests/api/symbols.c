/* Every function of the malloc family comes from the library: one that the libc or libstdc++ provided instead would
 * hand blocks of one allocator to the other. */
#include "support.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *file_of(const char *name) {
	Dl_info info;

	assert_int_not_equal(dladdr(find_function(name), &info), 0);
	return info.dli_fname;
}

static void assert_from_the_library(const char *const names[], size_t count) {
	const char *library = file_of("arenal_version");

	for (size_t i = 0; i < count; i++) {
		if (strcmp(file_of(names[i]), library) != 0)
			fail_msg("%s comes from %s", names[i], file_of(names[i]));
	}
}

static void malloc_family_comes_from_the_library(void **state) {
	(void)state;
	static const char *const names[] = {
		"malloc",       "calloc",         "realloc",     "reallocarray", "free",        "aligned_alloc",
		"memalign",     "posix_memalign", "valloc",      "pvalloc",      "cfree",       "malloc_usable_size",
		"free_sized",   "malloc_trim",    "mallopt",     "mallinfo",     "mallinfo2",   "free_aligned_sized",
		"malloc_info",  "malloc_stats",
	};

	assert_from_the_library(names, COUNT_OF(names));
}

/* glibc's other names for some of them lead to the same functions. */
static void second_names_are_the_same_functions(void **state) {
	(void)state;
	static const char *const names[][2] = {
		{ "__libc_malloc", "malloc" },     { "__libc_free", "free" },         { "__libc_calloc", "calloc" },
		{ "__libc_realloc", "realloc" },   { "__libc_memalign", "memalign" }, { "__libc_valloc", "valloc" },
		{ "__libc_pvalloc", "pvalloc" },   { "__libc_reallocarray", "reallocarray" },
		{ "__posix_memalign", "posix_memalign" },
	};

	for (size_t i = 0; i < COUNT_OF(names); i++) {
		const char *const both[] = { names[i][0], names[i][1] };
		assert_from_the_library(both, 2);
		assert_ptr_equal(find_function(names[i][0]), find_function(names[i][1]));
	}
}

/* _Zn = new, _Zd = delete, w = one object, a = array, m = size_t. */
static void operators_come_from_the_library(void **state) {
	(void)state;
	static const char *const names[] = {
		"_Znwm",                       /* new(size) */
		"_Znam",                       /* new[](size) */
		"_ZnwmRKSt9nothrow_t",         /* new(size, nothrow) */
		"_ZnamRKSt9nothrow_t",         /* new[](size, nothrow) */
		"_ZnwmSt11align_val_t",        /* new(size, alignment) */
		"_ZnamSt11align_val_t",        /* new[](size, alignment) */
		"_ZnwmSt11align_val_tRKSt9nothrow_t",
		"_ZnamSt11align_val_tRKSt9nothrow_t",
		"_ZdlPv",                      /* delete(block) */
		"_ZdaPv",                      /* delete[](block) */
		"_ZdlPvm",                     /* delete(block, size) */
		"_ZdaPvm",                     /* delete[](block, size) */
		"_ZdlPvRKSt9nothrow_t",
		"_ZdaPvRKSt9nothrow_t",
		"_ZdlPvSt11align_val_t",
		"_ZdaPvSt11align_val_t",
		"_ZdlPvmSt11align_val_t",
		"_ZdaPvmSt11align_val_t",
		"_ZdlPvSt11align_val_tRKSt9nothrow_t",
		"_ZdaPvSt11align_val_tRKSt9nothrow_t",
	};

	assert_from_the_library(names, COUNT_OF(names));
}

/* Without these, threads of Arenal's own would be counted, or keep rights (api/stand_back.c). */
static void calls_for_one_thread_come_from_the_library(void **state) {
	(void)state;
	static const char *const names[] = {
		"setuid",    "setgid",    "seteuid",    "setegid", "setreuid", "setregid", "setresuid",
		"setresgid", "setgroups", "initgroups", "unshare", "setns",    "capset",   "prctl",
	};

	assert_from_the_library(names, COUNT_OF(names));
}

static void control_functions_are_there(void **state) {
	(void)state;
	static const char *const names[] = {
		"arenal_version", "arenal_purge", "arenal_stats_get", "arenal_stats_print", "arenal_get", "arenal_set",
	};

	assert_from_the_library(names, COUNT_OF(names));
}

/* This is a C program: the operators are there for those who need them, and bring nothing along. */
static void no_libstdcxx_came_along(void **state) {
	(void)state;
	FILE *maps = fopen("/proc/self/maps", "r");
	char *line = NULL;
	size_t capacity = 0;
	int libraries = 0;

	assert_non_null(maps);
	while (getline(&line, &capacity, maps) >= 0) {
		assert_null(strstr(line, "libstdc++"));
		assert_null(strstr(line, "libgcc"));
		libraries += strstr(line, "libarenal") != NULL;
	}
	assert_true(libraries > 0);
	free(line);
	fclose(maps);
}

static void library_needs_only_the_libc(void **state) {
	(void)state;
	struct link_map *map = NULL;
	void *handle = dlopen(file_of("arenal_version"), RTLD_NOW | RTLD_NOLOAD);
	const char *strings = NULL;
	const ElfW(Dyn) *entry;

	assert_non_null(handle);
	assert_int_equal(dlinfo(handle, RTLD_DI_LINKMAP, &map), 0);
	for (entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
		if (entry->d_tag == DT_STRTAB)
			strings = (const char *)entry->d_un.d_ptr;
	}
	assert_non_null(strings);
	/* Most machines relocate the entry when they load the library, some do not. */
	if ((uintptr_t)strings < map->l_addr)
		strings += map->l_addr;
	for (entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
		if (entry->d_tag != DT_NEEDED)
			continue;
		const char *needed = strings + entry->d_un.d_val;
		if (strncmp(needed, "libc.", 5) != 0 && strncmp(needed, "ld-linux", 8) != 0)
			fail_msg("the library needs %s", needed);
	}
	dlclose(handle);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malloc_family_comes_from_the_library),
		cmocka_unit_test(second_names_are_the_same_functions),
		cmocka_unit_test(operators_come_from_the_library),
		cmocka_unit_test(calls_for_one_thread_come_from_the_library),
		cmocka_unit_test(control_functions_are_there),
		cmocka_unit_test(no_libstdcxx_came_along),
		cmocka_unit_test(library_needs_only_the_libc),
	};

	return cmocka_run_group_tests(tests, require_arenal, NULL);
}
