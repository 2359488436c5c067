/* Preloaded before Arenal into a program that locks itself in: from then on, every block that can be guarded is, and none was before. */
#include <dlfcn.h>
#include <stdint.h>
#include <sys/prctl.h>

__attribute__((visibility("default"))) int prctl(int option, ...) {
	int (*set)(const char *, int64_t) = (int (*)(const char *, int64_t))dlsym(RTLD_DEFAULT, "arenal_set");
	int (*next)(int, ...) = (int (*)(int, ...))dlsym(RTLD_NEXT, "prctl");
	unsigned long arguments[4];
	__builtin_va_list rest;

	__builtin_va_start(rest, option);
	for (int i = 0; i < 4; i++)
		arguments[i] = __builtin_va_arg(rest, unsigned long);
	__builtin_va_end(rest);
	if (option == PR_SET_SECCOMP && set)
		set("guard_sample", 1);
	return next(option, arguments[0], arguments[1], arguments[2], arguments[3]);
}
