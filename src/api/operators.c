/* C++'s operator new and delete, in C, so that C programs need no libstdc++. The names are the Itanium ABI's. */
#include <dlfcn.h>

#include "api/api.h"
#include "base/print.h"
#include "harden/harden.h"

#ifndef ARENAL_PREFIX /* the C++ library under test has operators of its own */

typedef void (*new_handler)(void);

/* Bound when the program brings a C++ library, NULL otherwise. */
extern new_handler get_new_handler(void) __asm__("_ZSt15get_new_handlerv") __attribute__((weak));
extern _Noreturn void throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv") __attribute__((weak));

/* A C++ library that came with dlopen is not in the scope that weak names were bound in, but in its user's: ask the
 * object that called operator new. */
static void *find_for_caller(const char *name, const void *caller) {
	Dl_info info;
	if (dladdr(caller, &info) == 0 || info.dli_fname == NULL) return NULL;
	void *object = dlopen(info.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
	if (object == NULL) return NULL;
	void *found = dlsym(object, name);
	dlclose(object);
	return found;
}

static new_handler current_handler(const void *caller) {
	new_handler (*get)(void) = get_new_handler;
	if (get == NULL) *(void **)&get = find_for_caller("_ZSt15get_new_handlerv", caller);
	return get != NULL ? get() : NULL;
}

static _Noreturn COLD void fail(const void *caller) {
	void (*throw_)(void) = throw_bad_alloc;
	if (throw_ == NULL) *(void **)&throw_ = find_for_caller("_ZSt17__throw_bad_allocv", caller);
	if (throw_ != NULL) throw_();
	print_fd(2, "arenal: operator new is out of memory, and there is no C++ library to throw std::bad_alloc\n");
	os_abort();
}

/* As the standard asks: call the handler and try again, until there is memory or no handler. */
static COLD void *try_again(size_t align, size_t size, enum family family, const void *caller) {
	new_handler handler;
	while ((handler = current_handler(caller)) != NULL) {
		handler(); /* may throw */
		void *block = allocate_aligned(align, size, family);
		if (block != NULL) return block;
	}
	return NULL;
}

static COLD void *try_again_or_throw(size_t align, size_t size, enum family family, const void *caller) {
	void *block = try_again(align, size, family, caller);
	if (block == NULL) fail(caller);
	return block;
}

static const char *const nothrow_names[FAMILY_COUNT] = {
	[FAMILY_NEW] = "_ZnwmRKSt9nothrow_t",
	[FAMILY_NEW_ARRAY] = "_ZnamRKSt9nothrow_t",
	[FAMILY_NEW_ALIGNED] = "_ZnwmSt11align_val_tRKSt9nothrow_t",
	[FAMILY_NEW_ARRAY_ALIGNED] = "_ZnamSt11align_val_tRKSt9nothrow_t",
};

/* A handler may throw, which the nothrow forms must turn into NULL. Catching takes C++: libstdc++'s own nothrow
 * operators call the throwing ones, that is ours, in a try block. */
static COLD void *try_again_nothrow(size_t align, size_t size, enum family family, const void *caller) {
	if (current_handler(caller) == NULL) return NULL;
	extern char nothrow __asm__("_ZSt7nothrow") __attribute__((weak));
	void *next = dlsym(RTLD_NEXT, nothrow_names[family]);
	if (next == NULL) return try_again(align, size, family, caller);
	return align <= MIN_ALIGN ? ((void *(*)(size_t, const void *))next)(size, &nothrow)
	                          : ((void *(*)(size_t, size_t, const void *))next)(size, align, &nothrow);
}

#define NAMED(symbol) __asm__(symbol) EXPORT

void *new_(size_t size) NAMED("_Znwm");
void *new_array(size_t size) NAMED("_Znam");
void *new_nothrow(size_t size, const void *tag) NAMED("_ZnwmRKSt9nothrow_t");
void *new_array_nothrow(size_t size, const void *tag) NAMED("_ZnamRKSt9nothrow_t");
void *new_aligned(size_t size, size_t align) NAMED("_ZnwmSt11align_val_t");
void *new_array_aligned(size_t size, size_t align) NAMED("_ZnamSt11align_val_t");
void *new_aligned_nothrow(size_t size, size_t align, const void *tag) NAMED("_ZnwmSt11align_val_tRKSt9nothrow_t");
void *new_array_aligned_nothrow(size_t size, size_t align, const void *tag) NAMED("_ZnamSt11align_val_tRKSt9nothrow_t");
void delete_(void *block) NAMED("_ZdlPv");
void delete_array(void *block) NAMED("_ZdaPv");
void delete_nothrow(void *block, const void *tag) NAMED("_ZdlPvRKSt9nothrow_t");
void delete_array_nothrow(void *block, const void *tag) NAMED("_ZdaPvRKSt9nothrow_t");
void delete_sized(void *block, size_t size) NAMED("_ZdlPvm");
void delete_array_sized(void *block, size_t size) NAMED("_ZdaPvm");
void delete_aligned(void *block, size_t align) NAMED("_ZdlPvSt11align_val_t");
void delete_array_aligned(void *block, size_t align) NAMED("_ZdaPvSt11align_val_t");
void delete_sized_aligned(void *block, size_t size, size_t align) NAMED("_ZdlPvmSt11align_val_t");
void delete_array_sized_aligned(void *block, size_t size, size_t align) NAMED("_ZdaPvmSt11align_val_t");
void delete_aligned_nothrow(void *block, size_t align, const void *tag) NAMED("_ZdlPvSt11align_val_tRKSt9nothrow_t");
void delete_array_aligned_nothrow(void *block, size_t align, const void *tag) NAMED("_ZdaPvSt11align_val_tRKSt9nothrow_t");

static inline void *new_or_throw(size_t size, enum family family, const void *caller) {
	void *block = take_or_allocate(size, family);
	return likely(block != NULL) ? block : try_again_or_throw(MIN_ALIGN, size, family, caller);
}

static inline void *new_or_null(size_t size, enum family family, const void *caller) {
	void *block = take_or_allocate(size, family);
	return likely(block != NULL) ? block : try_again_nothrow(MIN_ALIGN, size, family, caller);
}

static inline void *aligned_or_throw(size_t size, size_t align, enum family family, const void *caller) {
	void *block = allocate_aligned(align, size, family);
	return likely(block != NULL) ? block : try_again_or_throw(align, size, family, caller);
}

static inline void *aligned_or_null(size_t size, size_t align, enum family family, const void *caller) {
	void *block = allocate_aligned(align, size, family);
	return likely(block != NULL) ? block : try_again_nothrow(align, size, family, caller);
}

#define CALLER __builtin_return_address(0)

void *new_(size_t size) { return new_or_throw(size, FAMILY_NEW, CALLER); }
void *new_array(size_t size) { return new_or_throw(size, FAMILY_NEW_ARRAY, CALLER); }
void *new_nothrow(size_t size, const void *tag) { return (void)tag, new_or_null(size, FAMILY_NEW, CALLER); }
void *new_array_nothrow(size_t size, const void *tag) { return (void)tag, new_or_null(size, FAMILY_NEW_ARRAY, CALLER); }
void *new_aligned(size_t size, size_t align) { return aligned_or_throw(size, align, FAMILY_NEW_ALIGNED, CALLER); }
void *new_array_aligned(size_t size, size_t align) {
	return aligned_or_throw(size, align, FAMILY_NEW_ARRAY_ALIGNED, CALLER);
}
void *new_aligned_nothrow(size_t size, size_t align, const void *tag) {
	return (void)tag, aligned_or_null(size, align, FAMILY_NEW_ALIGNED, CALLER);
}
void *new_array_aligned_nothrow(size_t size, size_t align, const void *tag) {
	return (void)tag, aligned_or_null(size, align, FAMILY_NEW_ARRAY_ALIGNED, CALLER);
}

CLAIM(scalar, "operator delete", FAMILY_NEW);
CLAIM(array, "operator delete[]", FAMILY_NEW_ARRAY);
CLAIM(scalar_aligned, "operator delete with an alignment", FAMILY_NEW_ALIGNED);
CLAIM(array_aligned, "operator delete[] with an alignment", FAMILY_NEW_ARRAY_ALIGNED);

void delete_(void *block) { give_back(block, &scalar); }
void delete_array(void *block) { give_back(block, &array); }
void delete_nothrow(void *block, const void *tag) { (void)tag, delete_(block); }
void delete_array_nothrow(void *block, const void *tag) { (void)tag, delete_array(block); }
void delete_sized(void *block, size_t size) { give_back_sized(block, size, &scalar); }
void delete_array_sized(void *block, size_t size) { give_back_sized(block, size, &array); }
void delete_aligned(void *block, size_t align) { (void)align, give_back(block, &scalar_aligned); }
void delete_array_aligned(void *block, size_t align) { (void)align, give_back(block, &array_aligned); }
void delete_sized_aligned(void *block, size_t size, size_t align) { release_sized(block, align, size, &scalar_aligned); }
void delete_array_sized_aligned(void *block, size_t size, size_t align) { release_sized(block, align, size, &array_aligned); }
void delete_aligned_nothrow(void *block, size_t align, const void *tag) { (void)tag, delete_aligned(block, align); }
void delete_array_aligned_nothrow(void *block, size_t align, const void *tag) {
	(void)tag, delete_array_aligned(block, align);
}
#endif
