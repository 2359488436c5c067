/* The nothrow forms of new. Part of the shared library only: programs that are linked with the static one get those of their
 * C++ library, which call the others in a try block.
 *
 * Nothing is thrown here while there is memory, or no new-handler. But a handler may throw, and an operator of the program's own. */
#include "api/operators.h"

struct request {
	size_t size, align;
	enum family family;
	const void *function; /* ours that was called */
	const void *caller;
};

/* May throw. */
static void *serve(const void *request) {
	const struct request *r = request;
	if (operators_are_ours()) return operators_try_again(r->align, r->size, r->family, r->caller);
	switch (r->family) {
	case FAMILY_NEW: return operators_in_effect.new_(r->size);
	case FAMILY_NEW_ARRAY: return operators_in_effect.new_array(r->size);
	case FAMILY_NEW_ALIGNED: return operators_in_effect.new_aligned(r->size, r->align);
	default: return operators_in_effect.new_array_aligned(r->size, r->align);
	}
}

/* The C++ library may have come with dlopen, in the scope of a plugin: its function of the same name catches too, and calls
 * what can be replaced. */
static COLD void *serve_by_plugin(const struct request *r, const void *tag) {
	static const char *const names[FAMILY_COUNT] = {
		[FAMILY_NEW] = "_ZnwmRKSt9nothrow_t",
		[FAMILY_NEW_ARRAY] = "_ZnamRKSt9nothrow_t",
		[FAMILY_NEW_ALIGNED] = "_ZnwmSt11align_val_tRKSt9nothrow_t",
		[FAMILY_NEW_ARRAY_ALIGNED] = "_ZnamSt11align_val_tRKSt9nothrow_t",
	};
	void *theirs = cxx_find(names[r->family], r->caller);
	if (theirs == NULL || theirs == r->function) return serve(r);
	return r->family < FAMILY_NEW_ALIGNED ? ((void *(*)(size_t, const void *))theirs)(r->size, tag)
	                                      : ((void *(*)(size_t, size_t, const void *))theirs)(r->size, r->align, tag);
}

static NOINLINE void *slowly(const struct request *r, const void *tag) {
	if (operators_are_ours()) {
		void *block = allocate_aligned(r->align, r->size, r->family);
		if (likely(block != NULL) || cxx_new_handler(r->caller) == NULL) return block;
	}
	return cxx_can_catch() ? cxx_null_if_thrown(serve, r) : serve_by_plugin(r, tag);
}

static NOINLINE void *new_nothrow_slowly(size_t size, const void *tag, enum family family, const void *function,
                                         const void *caller) {
	return slowly(&(struct request){ size, MIN_ALIGN, family, function, caller }, tag);
}

static void *new_nothrow(size_t size, const void *tag) {
	void *block = take_cached_below(page_map.derived_limit, size);
	return likely(block != NULL) ? block : new_nothrow_slowly(size, tag, FAMILY_NEW, (const void *)new_nothrow, CALLER);
}

static void *new_array_nothrow(size_t size, const void *tag) {
	void *block = take_cached_below(page_map.derived_limit, size);
	return likely(block != NULL) ? block : new_nothrow_slowly(size, tag, FAMILY_NEW_ARRAY, (const void *)new_array_nothrow, CALLER);
}

static void *new_aligned_nothrow(size_t size, size_t align, const void *tag) {
	return slowly(&(struct request){ size, align, FAMILY_NEW_ALIGNED, (const void *)new_aligned_nothrow, CALLER }, tag);
}

static void *new_array_aligned_nothrow(size_t size, size_t align, const void *tag) {
	return slowly(&(struct request){ size, align, FAMILY_NEW_ARRAY_ALIGNED, (const void *)new_array_aligned_nothrow, CALLER }, tag);
}

void *named_new_nothrow(size_t size, const void *tag) NAME("_ZnwmRKSt9nothrow_t", new_nothrow);
void *named_new_array_nothrow(size_t size, const void *tag) NAME("_ZnamRKSt9nothrow_t", new_array_nothrow);
void *named_new_aligned_nothrow(size_t size, size_t align, const void *tag)
	NAME("_ZnwmSt11align_val_tRKSt9nothrow_t", new_aligned_nothrow);
void *named_new_array_aligned_nothrow(size_t size, size_t align, const void *tag)
	NAME("_ZnamSt11align_val_tRKSt9nothrow_t", new_array_aligned_nothrow);
