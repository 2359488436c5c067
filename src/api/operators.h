/* C++'s operators new and delete. The standard lets a program define its own, and says which of the others
 * call which: a program that defines two of them, with a header in front of each block for instance, may rely
 * on all going there.
 *
 * Eight are primary here: new, new[], delete and delete[], without an alignment and with one. All else are
 * derived from them, and new[] and delete[] from new and delete:
 *
 *     new[] -> new                      delete[] -> delete
 *     new(nothrow) -> new               delete(nothrow), delete(size) -> delete
 *     new[](nothrow) -> new[]           delete[](nothrow), delete[](size) -> delete[]
 *
 * A program that has none of its own pays nothing for that: derived operators serve what lies below
 * page_map.derived_limit, or in what page_map.derived_covered covers, as malloc and free do, with a number
 * from memory where these have a constant. Until the first slow path found that all eight are ours, and for
 * good when they are not, both are 0. */
#ifndef API_OPERATORS_H
#define API_OPERATORS_H

#include "api/malloc.h"

typedef void *new_function(size_t size);
typedef void *new_aligned_function(size_t size, size_t align);
typedef void delete_function(void *block);
typedef void delete_aligned_function(void *block, size_t align);

struct operators {
	new_function *new_, *new_array;
	delete_function *delete_, *delete_array;
	new_aligned_function *new_aligned, *new_array_aligned;
	delete_aligned_function *delete_aligned, *delete_array_aligned;
};

/* What the program gets who calls them: its own, or ours. The loader, or the linker of a static program,
 * fills it in. */
extern const struct operators operators_in_effect;

/* Not COLD, for where it is called would be moved away, and need a stack frame in front of everything. */
NOINLINE bool operators_find_out(void);

/* Are all eight ours? Until somebody asked the second, the first says no. */
static inline bool operators_are_known_ours(void) { return likely(page_map.derived_limit != 0); }
static inline bool operators_are_ours(void) { return operators_are_known_ours() || operators_find_out(); }

/* As the standard asks: call the new-handler and try again, until there is memory, or no handler. It may
 * throw. */
COLD void *operators_try_again(size_t align, size_t size, enum family family, const void *caller);

/* The C++ library of the program, or of the object that `caller` lies in: cxx.c in the shared library,
 * cxx_static.c in the static one. */
typedef void (*new_handler)(void);
new_handler cxx_new_handler(const void *caller);
_Noreturn void cxx_throw_bad_alloc(const void *caller);

/* The shared library only: what the C++ library in the scope of `caller` has by that name, or NULL. */
void *cxx_find(const char *name, const void *caller);

/* Catches what a C++ library throws: function(argument), or NULL when it throws. For where the program has a
 * C++ library, be it in the program itself. */
bool cxx_can_catch(void);
void *cxx_null_if_thrown(void *(*function)(const void *), const void *argument);

/* The functions by which any C++ library, by the Itanium ABI, throws a std::bad_alloc: an object that
 * consists of a pointer into a table of functions. */
struct cxx_thrower {
	void *(*allocate)(size_t size);
	void (*throw_)(void *exception, const void *type, void (*destroy)(void *));
	const void *type;
	const char *functions;
	void (*destroy)(void *exception);
};
#define CXX_FUNCTIONS_HEAD (2 * sizeof(void *)) /* bytes of the table before its first function */
_Noreturn void cxx_throw_by(const struct cxx_thrower *thrower);

/* The name outside of an operator. Weak: a program that is linked with the static library may have its
 * own. */
#define NAME(symbol, function) __asm__(symbol) EXPORT __attribute__((weak, alias(#function)))
#define CALLER __builtin_return_address(0)

#endif
