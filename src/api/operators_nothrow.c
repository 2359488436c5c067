/* The nothrow forms of new. Part of the shared library only: programs that are linked with the static one get those of their
 * C++ library, which call the others in a try block. */
#include <dlfcn.h>

#include "api/operators.h"

typedef void *nothrow_function(size_t size, const void *tag);
typedef void *nothrow_aligned_function(size_t size, size_t align, const void *tag);

static const char *const names[FAMILY_COUNT] = {
	[FAMILY_NEW] = "_ZnwmRKSt9nothrow_t",
	[FAMILY_NEW_ARRAY] = "_ZnamRKSt9nothrow_t",
	[FAMILY_NEW_ALIGNED] = "_ZnwmSt11align_val_tRKSt9nothrow_t",
	[FAMILY_NEW_ARRAY_ALIGNED] = "_ZnamSt11align_val_tRKSt9nothrow_t",
};

/* By family: the same function of the program's C++ library. NOWHERE: there is none. */
static _Atomic(void *) theirs[FAMILY_COUNT];
static char nowhere[1];
#define NOWHERE ((void *)nowhere)

static COLD void *find_theirs(enum family family, const void *ours, const void *caller) {
	void *found = dlsym(RTLD_NEXT, names[family]);
	if (found == NULL) found = cxx_find(names[family], caller);
	if (found == NULL || found == ours) {
		void *object = cxx_load();
		found = object != NULL ? dlsym(object, names[family]) : NULL;
	}
	return found != NULL && found != ours ? found : NOWHERE;
}

/* What a new-handler throws, or an operator of the program's own, must become NULL. Catching takes C++: the nothrow operators of
 * the C++ library call the throwing ones, which are the program's or ours, in a try block. NULL: there is no such library. */
static void *theirs_of(enum family family, const void *ours, const void *caller) {
	void *found = atomic_load_explicit(&theirs[family], memory_order_relaxed);
	if (found == NULL) {
		found = find_theirs(family, ours, caller);
		atomic_store_explicit(&theirs[family], found, memory_order_relaxed);
	}
	return found != NOWHERE ? found : NULL;
}

static NOINLINE void *new_nothrow_slowly(size_t size, enum family family, const void *ours, const void *tag, const void *caller) {
	if (operators_are_ours()) {
		void *block = allocate(size, family);
		if (likely(block != NULL) || cxx_new_handler(caller) == NULL) return block;
	}
	nothrow_function *next = (nothrow_function *)theirs_of(family, ours, caller);
	if (next != NULL) return next(size, tag);
	return (family == FAMILY_NEW ? operators_in_effect.new_ : operators_in_effect.new_array)(size);
}

static NOINLINE void *new_aligned_nothrow_slowly(size_t size, size_t align, enum family family, const void *ours, const void *tag, const void *caller) {
	if (operators_are_ours()) {
		void *block = allocate_aligned(align, size, family);
		if (likely(block != NULL) || cxx_new_handler(caller) == NULL) return block;
	}
	nothrow_aligned_function *next = (nothrow_aligned_function *)theirs_of(family, ours, caller);
	if (next != NULL) return next(size, align, tag);
	return (family == FAMILY_NEW_ALIGNED ? operators_in_effect.new_aligned : operators_in_effect.new_array_aligned)(size, align);
}

static void *new_nothrow(size_t size, const void *tag) {
	void *block = take_cached_below(page_map.derived_limit, size);
	return likely(block != NULL) ? block : new_nothrow_slowly(size, FAMILY_NEW, (const void *)new_nothrow, tag, CALLER);
}

static void *new_array_nothrow(size_t size, const void *tag) {
	void *block = take_cached_below(page_map.derived_limit, size);
	return likely(block != NULL) ? block : new_nothrow_slowly(size, FAMILY_NEW_ARRAY, (const void *)new_array_nothrow, tag, CALLER);
}

static void *new_aligned_nothrow(size_t size, size_t align, const void *tag) {
	return new_aligned_nothrow_slowly(size, align, FAMILY_NEW_ALIGNED, (const void *)new_aligned_nothrow, tag, CALLER);
}

static void *new_array_aligned_nothrow(size_t size, size_t align, const void *tag) {
	return new_aligned_nothrow_slowly(size, align, FAMILY_NEW_ARRAY_ALIGNED, (const void *)new_array_aligned_nothrow, tag, CALLER);
}

nothrow_function named_new_nothrow NAME("_ZnwmRKSt9nothrow_t", new_nothrow);
nothrow_function named_new_array_nothrow NAME("_ZnamRKSt9nothrow_t", new_array_nothrow);
nothrow_aligned_function named_new_aligned_nothrow NAME("_ZnwmSt11align_val_tRKSt9nothrow_t", new_aligned_nothrow);
nothrow_aligned_function named_new_array_aligned_nothrow NAME("_ZnamSt11align_val_tRKSt9nothrow_t", new_array_aligned_nothrow);
