/* The nothrow forms of new. Part of the shared library only: programs that are linked with the static one get
 * those of their C++ library, which call the others in a try block.
 *
 * Nothing is thrown here while there is memory, or no new-handler. But a handler may throw, and an operator
 * of the program's own. */
#include "api/operators.h"

typedef void *nothrow_function(size_t size, const void *tag);
typedef void *nothrow_aligned_function(size_t size, size_t align, const void *tag);
static nothrow_function new_nothrow, new_array_nothrow;
static nothrow_aligned_function new_aligned_nothrow, new_array_aligned_nothrow;

static const struct form {
	const char *name;
	const void *function;
} forms[FAMILY_COUNT] = {
	[FAMILY_NEW] = { "_ZnwmRKSt9nothrow_t", (const void *)new_nothrow },
	[FAMILY_NEW_ARRAY] = { "_ZnamRKSt9nothrow_t", (const void *)new_array_nothrow },
	[FAMILY_NEW_ALIGNED] = { "_ZnwmSt11align_val_tRKSt9nothrow_t", (const void *)new_aligned_nothrow },
	[FAMILY_NEW_ARRAY_ALIGNED] = { "_ZnamSt11align_val_tRKSt9nothrow_t",
	                               (const void *)new_array_aligned_nothrow },
};

struct request {
	size_t size, align;
	enum family family;
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

/* The C++ library may have come with dlopen, in the scope of a plugin: its function of the same name catches
 * too, and calls what can be replaced. */
static void *serve_by_plugin(const struct request *r, const void *tag) {
	const struct form *form = &forms[r->family];
	const void *theirs = cxx_find(form->name, r->caller);
	if (theirs == NULL || theirs == form->function) return serve(r);
	return r->family < FAMILY_NEW_ALIGNED ? ((nothrow_function *)theirs)(r->size, tag)
	                                      : ((nothrow_aligned_function *)theirs)(r->size, r->align, tag);
}

/* What is needed only when there is no memory, or the program has operators of its own: in memory, as in
 * operators.c. */
struct call {
	size_t size;
	const void *tag, *caller;
};

static COLD void *serve_or_null(const struct call *call, size_t align, enum family family) {
	const struct request request = { call->size, align, family, call->caller };
	if (operators_are_ours() && cxx_new_handler(call->caller) == NULL) return NULL;
	return cxx_can_catch() ? cxx_null_if_thrown(serve, &request) : serve_by_plugin(&request, call->tag);
}

static inline __attribute__((always_inline)) void *slowly(size_t size, const void *tag, enum family family,
                                                          const void *caller) {
	const struct call call = { size, tag, caller };
	void *block = operators_are_ours() ? malloc_medium(size, family) : NULL;
	return likely(block != NULL) ? block : serve_or_null(&call, MIN_ALIGN, family);
}
static NOINLINE void *new_nothrow_slowly(size_t size, const void *tag, const void *caller) {
	return slowly(size, tag, FAMILY_NEW, caller);
}
static NOINLINE void *new_array_nothrow_slowly(size_t size, const void *tag, const void *caller) {
	return slowly(size, tag, FAMILY_NEW_ARRAY, caller);
}

static void *new_nothrow(size_t size, const void *tag) {
	void *block = malloc_fast(size, page_map.derived_limit);
	return likely(block != NULL) ? block : new_nothrow_slowly(size, tag, CALLER);
}

static void *new_array_nothrow(size_t size, const void *tag) {
	void *block = malloc_fast(size, page_map.derived_limit);
	return likely(block != NULL) ? block : new_array_nothrow_slowly(size, tag, CALLER);
}

static inline __attribute__((always_inline)) void *aligned(size_t size, size_t align, const void *tag,
                                                           enum family family, const void *caller) {
	const struct call call = { size, tag, caller };
	void *block = operators_are_ours() ? allocate_aligned(align, size, family) : NULL;
	return likely(block != NULL) ? block : serve_or_null(&call, align, family);
}

static void *new_aligned_nothrow(size_t size, size_t align, const void *tag) {
	return aligned(size, align, tag, FAMILY_NEW_ALIGNED, CALLER);
}

static void *new_array_aligned_nothrow(size_t size, size_t align, const void *tag) {
	return aligned(size, align, tag, FAMILY_NEW_ARRAY_ALIGNED, CALLER);
}

nothrow_function named_new_nothrow NAME("_ZnwmRKSt9nothrow_t", new_nothrow);
nothrow_function named_new_array_nothrow NAME("_ZnamRKSt9nothrow_t", new_array_nothrow);
nothrow_aligned_function named_new_aligned_nothrow NAME("_ZnwmSt11align_val_tRKSt9nothrow_t",
                                                        new_aligned_nothrow);
nothrow_aligned_function named_new_array_aligned_nothrow NAME("_ZnamSt11align_val_tRKSt9nothrow_t",
                                                              new_array_aligned_nothrow);
