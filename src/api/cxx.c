/* Part of the shared library only, which cannot know whether the program brings a C++ library, and which: it
 * is looked for.
 *
 * First where the loader found it when it bound our weak references: it is the program's, be it in a library
 * or in the program (-static-libstdc++; linkers export from a program what the libraries that it is linked
 * with refer to). Then from the object that called operator new: a C++ library that came with dlopen is not
 * in the scope that weak names were bound in, but in its user's. At last libstdc++.so.6 is loaded: a program
 * whose own libstdc++ is linked in may lack std::bad_alloc, which nobody in it names. It still catches that
 * of another copy, by `...` or as a std::exception, since types are compared by name. */
#include <dlfcn.h>

#include "api/operators.h"
#include "base/libc.h"
#include "base/os.h"
#include "base/print.h"

extern new_handler std_get_new_handler(void) __asm__("_ZSt15get_new_handlerv") __attribute__((weak));
extern void *allocate_exception(size_t size) __asm__("__cxa_allocate_exception") __attribute__((weak));
extern void throw_exception(void *exception, const void *type, void (*destroy)(void *)) __asm__("__cxa_throw")
    __attribute__((weak));
extern const char bad_alloc_type[] __asm__("_ZTISt9bad_alloc") __attribute__((weak));
extern const char bad_alloc_functions[] __asm__("_ZTVSt9bad_alloc") __attribute__((weak));
extern void destroy_bad_alloc(void *exception) __asm__("_ZNSt9bad_allocD1Ev") __attribute__((weak));

/* The object that the address lies in, for dlclose, or NULL. */
static void *object_of(const void *address) {
	Dl_info info;
	int (*tell)(const void *, Dl_info *) = libc_in(RTLD_DEFAULT, "dladdr");
	if (tell == NULL || tell(address, &info) == 0 || info.dli_fname == NULL) return NULL;
	return dlopen(info.dli_fname, RTLD_NOLOAD | RTLD_LAZY);
}

void *cxx_find(const char *name, const void *caller) {
	void *object = object_of(caller);
	if (object == NULL) return NULL;
	void *found = libc_in(object, name);
	int (*close)(void *) = libc_in(RTLD_DEFAULT, "dlclose");
	if (close != NULL) close(object);
	return found;
}

bool cxx_can_catch(void) {
	extern char personality[] __asm__("__gxx_personality_v0") __attribute__((weak));
	extern char begin_catch[] __asm__("__cxa_begin_catch") __attribute__((weak));
	extern char end_catch[] __asm__("__cxa_end_catch") __attribute__((weak));
	return personality != NULL && begin_catch != NULL && end_catch != NULL;
}

new_handler cxx_new_handler(const void *caller) {
	new_handler (*get)(void) = std_get_new_handler;
	if (get == NULL) *(void **)&get = cxx_find("_ZSt15get_new_handlerv", caller);
	return get != NULL ? get() : NULL;
}

/* Fills in what is missing from the object. Who throws must have made the exception; the rest is data. */
static void complete(struct cxx_thrower *t, void *object) {
	if (object == NULL) return;
	if (t->allocate == NULL || t->throw_ == NULL) {
		*(void **)&t->allocate = libc_in(object, "__cxa_allocate_exception");
		*(void **)&t->throw_ = libc_in(object, "__cxa_throw");
	}
	if (t->type == NULL || t->functions == NULL || t->destroy == NULL) {
		t->type = libc_in(object, "_ZTISt9bad_alloc");
		t->functions = libc_in(object, "_ZTVSt9bad_alloc");
		*(void **)&t->destroy = libc_in(object, "_ZNSt9bad_allocD1Ev");
	}
}

static bool is_whole(const struct cxx_thrower *t) {
	return t->allocate != NULL && t->throw_ != NULL && t->type != NULL && t->functions != NULL &&
	       t->destroy != NULL;
}

_Noreturn COLD void cxx_throw_bad_alloc(const void *caller) {
	struct cxx_thrower t = { allocate_exception, throw_exception, bad_alloc_type, bad_alloc_functions,
		                     destroy_bad_alloc };
	/* which stays, for nobody knows how long the exception lives */
	if (!is_whole(&t)) complete(&t, object_of(caller));
	if (!is_whole(&t)) complete(&t, dlopen("libstdc++.so.6", RTLD_LAZY));
	if (is_whole(&t)) cxx_throw_by(&t);
	print_fd(2,
	         "arenal: operator new is out of memory, and there is no C++ library to throw std::bad_alloc\n");
	os_abort();
}
