/* Preloaded before or after Arenal: interposes dlopen too, and looks at who called. */
#include "deepbind.h"

#include <dlfcn.h>
#include <unwind.h>

static const void *openers[64];
static const void *beneath_dlclose[64][32];
static unsigned opens, closes;

void *dlopen(const char *file, int flags) {
	void *(*next)(const char *, int);

	*(void **)&next = dlsym(RTLD_NEXT, "dlopen");
	openers[opens++ % 64] = __builtin_return_address(0);
	void *volatile handle = next(file, flags);
	return handle;
}

struct walk {
	const void **frames;
	unsigned count;
};

static _Unwind_Reason_Code note(struct _Unwind_Context *context, void *argument) {
	struct walk *walk = argument;

	if (walk->count == 32)
		return _URC_END_OF_STACK;
	walk->frames[walk->count++] = (const void *)_Unwind_GetIP(context);
	return _URC_NO_REASON;
}

int dlclose(void *handle) {
	int (*next)(void *);
	struct walk walk = { beneath_dlclose[closes++ % 64], 0 };

	*(void **)&next = dlsym(RTLD_NEXT, "dlclose");
	_Unwind_Backtrace(note, &walk);
	return next(handle);
}

static int same_object(const void *a, const void *b) {
	Dl_info in_a, in_b;

	return dladdr(a, &in_a) && dladdr(b, &in_b) && in_a.dli_fbase == in_b.dli_fbase;
}

int interposer_opens(const void *from) {
	int calls = 0;

	for (unsigned i = 0; i < 64; i++)
		calls += openers[i] && same_object(openers[i], from);
	return calls;
}

int interposer_closes(const void *from) {
	int calls = 0;

	for (unsigned i = 0; i < 64; i++) {
		int found = 0;
		for (unsigned j = 0; j < 32; j++)
			found |= beneath_dlclose[i][j] && same_object(beneath_dlclose[i][j], from);
		calls += found;
	}
	return calls;
}
