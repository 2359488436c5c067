/* C++'s operator new and delete, in C, so that C programs need no libstdc++. The names are the Itanium ABI's.
 * The nothrow forms of new are in operators_nothrow.c. */
#include "api/operators.h"

#include <string.h>

#include "harden/harden.h"

COLD void *operators_try_again(size_t align, size_t size, enum family family, const void *caller) {
	new_handler handler;
	while ((handler = cxx_new_handler(caller)) != NULL) {
		handler(); /* may throw */
		void *block = allocate_aligned(align, size, family);
		if (block != NULL) return block;
	}
	return NULL;
}

_Noreturn void cxx_throw_by(const struct cxx_thrower *thrower) {
	/* the C++ library has a reserve for that */
	const char **exception = thrower->allocate(sizeof *exception);
	*exception = thrower->functions + CXX_FUNCTIONS_HEAD;
	thrower->throw_(exception, thrower->type, thrower->destroy);
	__builtin_unreachable();
}

/* What is needed only when memory runs out, in memory: fewer instructions than to keep it in registers over
 * the call. */
struct request {
	size_t size;
	const void *caller;
};

static COLD void *try_again_or_throw(const struct request *r, size_t align, enum family family) {
	void *block = operators_try_again(align, r->size, family, r->caller);
	if (block == NULL) cxx_throw_bad_alloc(r->caller);
	return block;
}

static inline void *allocate_or_throw(size_t size, enum family family, const void *caller) {
	const struct request request = { size, caller };
	void *block = malloc_medium(size, family);
	return likely(block != NULL) ? block : try_again_or_throw(&request, MIN_ALIGN, family);
}

static inline void *aligned_or_throw(size_t size, size_t align, enum family family, const void *caller) {
	const struct request request = { size, caller };
	void *block = allocate_aligned(align, size, family);
	return likely(block != NULL) ? block : try_again_or_throw(&request, align, family);
}

/* new and new[] */

static NOINLINE void *new_slowly(size_t size, const void *caller) {
	return allocate_or_throw(size, FAMILY_NEW, caller);
}

static void *new_(size_t size) {
	void *block = malloc_fast(size, TABLE_MAX + 1);
	return likely(block != NULL) ? block : new_slowly(size, CALLER);
}

static NOINLINE void *new_array_slowly(size_t size, const void *caller) {
	return operators_are_ours() ? allocate_or_throw(size, FAMILY_NEW_ARRAY, caller)
	                            : operators_in_effect.new_(size);
}

static void *new_array(size_t size) {
	void *block = malloc_fast(size, page_map.derived_limit);
	return likely(block != NULL) ? block : new_array_slowly(size, CALLER);
}

static void *new_aligned(size_t size, size_t align) {
	return aligned_or_throw(size, align, FAMILY_NEW_ALIGNED, CALLER);
}

static void *new_array_aligned(size_t size, size_t align) {
	return operators_are_ours() ? aligned_or_throw(size, align, FAMILY_NEW_ARRAY_ALIGNED, CALLER)
	                            : operators_in_effect.new_aligned(size, align);
}

/* delete and delete[] */

CLAIM(scalar, "operator delete", FAMILY_NEW);
CLAIM(array, "operator delete[]", FAMILY_NEW_ARRAY);
CLAIM(scalar_aligned, "operator delete with an alignment", FAMILY_NEW_ALIGNED);
CLAIM(array_aligned, "operator delete[] with an alignment", FAMILY_NEW_ARRAY_ALIGNED);

static NOINLINE void delete_slowly(void *block) {
	operators_are_ours() ? free_medium(block, &scalar) : operators_in_effect.delete_(block);
}
static NOINLINE void delete_array_slowly(void *block) {
	operators_are_ours() ? free_medium(block, &array) : operators_in_effect.delete_(block);
}
static NOINLINE void delete_array_nothrow_slowly(void *block) {
	operators_are_ours() ? free_medium(block, &array) : operators_in_effect.delete_array(block);
}

static void delete_(void *block) { release(block, &scalar); }
static void delete_nothrow(void *block, const void *tag) {
	(void)tag;
	if (!free_fast(block, &page_map.derived_covered)) delete_slowly(block);
}
static void delete_array(void *block) {
	if (!free_fast(block, &page_map.derived_covered)) delete_array_slowly(block);
}
static void delete_array_nothrow(void *block, const void *tag) {
	(void)tag;
	if (!free_fast(block, &page_map.derived_covered)) delete_array_nothrow_slowly(block);
}

/* With the size that was asked for. */

/* When the size is one of the block's class, as it nearly always is. False: it is for a slow path. */
static inline __attribute__((always_inline)) bool free_fast_sized(void *block, size_t size) {
	if (unlikely(size >= page_map.derived_limit)) return false;
	struct tcache *tc = tcache_current;
	const uint16_t tag = page_map_tag(block);
	if (unlikely(tc->tag_of_size[(size + MIN_ALIGN - 1) / MIN_ALIGN] != tag)) return false;
	return magazine_give(magazine_at(tc, tag), block);
}

static NOINLINE void delete_sized_not_known(void *block, size_t size) {
	operators_find_out() ? release_sized(block, MIN_ALIGN, size, &scalar)
	                     : operators_in_effect.delete_(block);
}
static NOINLINE void delete_array_sized_not_known(void *block, size_t size) {
	operators_find_out() ? release_sized(block, MIN_ALIGN, size, &array)
	                     : operators_in_effect.delete_array(block);
}

static NOINLINE void delete_sized_slowly(void *block, size_t size) {
	operators_are_known_ours() ? release_sized(block, MIN_ALIGN, size, &scalar)
	                           : delete_sized_not_known(block, size);
}
static NOINLINE void delete_array_sized_slowly(void *block, size_t size) {
	operators_are_known_ours() ? release_sized(block, MIN_ALIGN, size, &array)
	                           : delete_array_sized_not_known(block, size);
}

static void delete_sized(void *block, size_t size) {
	if (!free_fast_sized(block, size)) delete_sized_slowly(block, size);
}
static void delete_array_sized(void *block, size_t size) {
	if (!free_fast_sized(block, size)) delete_array_sized_slowly(block, size);
}

/* With an alignment. */

static NOINLINE void delete_aligned_slowly(void *block, size_t align) {
	operators_are_ours() ? free_medium(block, &scalar_aligned)
	                     : operators_in_effect.delete_aligned(block, align);
}
static NOINLINE void delete_array_aligned_slowly(void *block, size_t align) {
	operators_are_ours() ? free_medium(block, &array_aligned)
	                     : operators_in_effect.delete_aligned(block, align);
}
static NOINLINE void delete_array_aligned_nothrow_slowly(void *block, size_t align) {
	operators_are_ours() ? free_medium(block, &array_aligned)
	                     : operators_in_effect.delete_array_aligned(block, align);
}

static void delete_aligned(void *block, size_t align) { (void)align, release(block, &scalar_aligned); }
static void delete_aligned_nothrow(void *block, size_t align, const void *tag) {
	(void)tag;
	if (!free_fast(block, &page_map.derived_covered)) delete_aligned_slowly(block, align);
}
static void delete_array_aligned(void *block, size_t align) {
	if (!free_fast(block, &page_map.derived_covered)) delete_array_aligned_slowly(block, align);
}
static void delete_array_aligned_nothrow(void *block, size_t align, const void *tag) {
	(void)tag;
	if (!free_fast(block, &page_map.derived_covered)) delete_array_aligned_nothrow_slowly(block, align);
}
static NOINLINE void delete_sized_aligned_not_known(void *block, size_t size, size_t align) {
	operators_find_out() ? release_sized(block, align, size, &scalar_aligned)
	                     : operators_in_effect.delete_aligned(block, align);
}
static NOINLINE void delete_array_sized_aligned_not_known(void *block, size_t size, size_t align) {
	operators_find_out() ? release_sized(block, align, size, &array_aligned)
	                     : operators_in_effect.delete_array_aligned(block, align);
}

static void delete_sized_aligned(void *block, size_t size, size_t align) {
	operators_are_known_ours() ? release_sized(block, align, size, &scalar_aligned)
	                           : delete_sized_aligned_not_known(block, size, align);
}
static void delete_array_sized_aligned(void *block, size_t size, size_t align) {
	operators_are_known_ours() ? release_sized(block, align, size, &array_aligned)
	                           : delete_array_sized_aligned_not_known(block, size, align);
}

/* Compares with the functions, not with their names outside, which may lead to the program's. Threads may
 * come here at the same time: they store the same, after start() has set the tags that the mask is for. */
NOINLINE bool operators_find_out(void) {
	static const struct operators ours = { new_,           new_array,           delete_,
		                                   delete_array,   new_aligned,         new_array_aligned,
		                                   delete_aligned, delete_array_aligned };
	ensure_started();
	if (memcmp(&ours, &operators_in_effect, sizeof ours) != 0) return false;
	page_map_let_derived(TABLE_MAX + 1);
	return true;
}

/* Their names. _Zn is new, _Zd is delete, w and l are for one object, a is for an array, m is a size. */
new_function named_new NAME("_Znwm", new_);
new_function named_new_array NAME("_Znam", new_array);
new_aligned_function named_new_aligned NAME("_ZnwmSt11align_val_t", new_aligned);
new_aligned_function named_new_array_aligned NAME("_ZnamSt11align_val_t", new_array_aligned);
delete_function named_delete NAME("_ZdlPv", delete_);
delete_function named_delete_array NAME("_ZdaPv", delete_array);
delete_aligned_function named_delete_aligned NAME("_ZdlPvSt11align_val_t", delete_aligned);
delete_aligned_function named_delete_array_aligned NAME("_ZdaPvSt11align_val_t", delete_array_aligned);
void named_delete_nothrow(void *block, const void *tag) NAME("_ZdlPvRKSt9nothrow_t", delete_nothrow);
void named_delete_array_nothrow(void *block, const void *tag)
    NAME("_ZdaPvRKSt9nothrow_t", delete_array_nothrow);
void named_delete_sized(void *block, size_t size) NAME("_ZdlPvm", delete_sized);
void named_delete_array_sized(void *block, size_t size) NAME("_ZdaPvm", delete_array_sized);
void named_delete_sized_aligned(void *block, size_t size, size_t align)
    NAME("_ZdlPvmSt11align_val_t", delete_sized_aligned);
void named_delete_array_sized_aligned(void *block, size_t size, size_t align)
    NAME("_ZdaPvmSt11align_val_t", delete_array_sized_aligned);
void named_delete_aligned_nothrow(void *block, size_t align, const void *tag)
    NAME("_ZdlPvSt11align_val_tRKSt9nothrow_t", delete_aligned_nothrow);
void named_delete_array_aligned_nothrow(void *block, size_t align, const void *tag)
    NAME("_ZdaPvSt11align_val_tRKSt9nothrow_t", delete_array_aligned_nothrow);
