/* Part of the static library only: with these references, the program's C++ library has what it takes to
 * throw. */
#include "api/operators.h"

extern new_handler std_get_new_handler(void) __asm__("_ZSt15get_new_handlerv");
extern void *allocate_exception(size_t size) __asm__("__cxa_allocate_exception");
extern void throw_exception(void *exception, const void *type,
                            void (*destroy)(void *)) __asm__("__cxa_throw");
extern const char bad_alloc_type[] __asm__("_ZTISt9bad_alloc");
extern const char bad_alloc_functions[] __asm__("_ZTVSt9bad_alloc");
extern void destroy_bad_alloc(void *exception) __asm__("_ZNSt9bad_allocD1Ev");

new_handler cxx_new_handler(const void *caller) { return (void)caller, std_get_new_handler(); }

_Noreturn void cxx_throw_bad_alloc(const void *caller) {
	(void)caller;
	cxx_throw_by(&(struct cxx_thrower){ allocate_exception, throw_exception, bad_alloc_type,
	                                    bad_alloc_functions, destroy_bad_alloc });
}
