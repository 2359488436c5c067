/* dlopen and dlmopen without RTLD_DEEPBIND. Part of the shared library only.
 *
 * With that flag, a plugin's calls go to the libraries that it is linked with, libc among them, before those
 * that are preloaded. So its malloc and free are libc's, while what libc itself allocates for it (getline,
 * strdup) is ours: the first such block that it frees ends the program. PHP opens all of its extensions like
 * that. Where the process is on Arenal, the flag is taken out, for plugins to be on it too. What else it does
 * for a plugin, its own symbols first, is lost: the tunable `deepbind` keeps it.
 *
 * The loader wants to know who called dlopen: $ORIGIN, RUNPATH, the namespace and RTLD_NEXT depend on it, and
 * it looks at the return address. So ours is no function that calls libc's, but one that jumps there, with
 * all as it came but for the flags. Only assembly can promise that. It starts with a landing pad (endbr64,
 * bti), and the unwinder is told what it pushes. */
#include <dlfcn.h>

#include "api/api.h"
#include "base/conf.h"
#include "base/libc.h"

/* Where to jump, and with which flags: two registers. */
struct target {
	void *function;
	uintptr_t flags;
};

#define FOR_ASSEMBLY __attribute__((used, visibility("hidden")))
FOR_ASSEMBLY struct target dlopen_target(int flags);
FOR_ASSEMBLY struct target dlmopen_target(Lmid_t space, int flags);

/* The next dlopen and dlmopen after ours: libc's, or those of another preloaded library. Found when first
 * needed, by any thread. */
static _Atomic(void *) next_dlopen, next_dlmopen;

static void *none(void) { return NULL; }

static void *next(_Atomic(void *) *known, const char *name) {
	void *function = atomic_load_explicit(known, memory_order_relaxed);
	if (function == NULL) {
		function = libc_next(name);
		if (function == NULL) function = (void *)none;
		atomic_store_explicit(known, function, memory_order_relaxed);
	}
	return function;
}

/* Is malloc ours in all of the process? Not when a plugin brought Arenal into a program that is on libc's. It
 * is one of libc's second names that tells, for a program may have a malloc of its own in front of ours. What
 * dlerror says meanwhile is forgotten by the dlopen that follows. */
static bool process_is_on_arenal(void) {
	void *program =
	    ((void *(*)(const char *, int))next(&next_dlopen, "dlopen"))(NULL, RTLD_LAZY | RTLD_NOLOAD);
	if (program == NULL) return false;
	const bool ours = libc_in(program, "__libc_malloc") == (void *)malloc;
	int (*close)(void *) = libc_in(RTLD_DEFAULT, "dlclose");
	if (close != NULL) close(program);
	return ours;
}

static uintptr_t flags_to_use(int flags) {
	if ((flags & RTLD_DEEPBIND) == 0) return (uintptr_t)flags;
	ensure_started(); /* the tunable was read */
	return (uintptr_t)(conf.deepbind || !process_is_on_arenal() ? flags : flags & ~RTLD_DEEPBIND);
}

struct target dlopen_target(int flags) {
	return (struct target){ next(&next_dlopen, "dlopen"), flags_to_use(flags) };
}

/* A namespace of its own has libc and its malloc once more, and ours is not there. */
struct target dlmopen_target(Lmid_t space, int flags) {
	void *function = next(&next_dlmopen, "dlmopen");
	return (struct target){ function, space == LM_ID_BASE ? flags_to_use(flags) : (uintptr_t)flags };
}

/* dlopen(file, flags) and dlmopen(space, file, flags). */
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl dlopen\n"
        ".type dlopen, @function\n"
        ".balign 16\n"
        "dlopen:\n"
        ".cfi_startproc\n"
        "	endbr64\n"
        "	pushq %rdi\n" /* also aligns the stack */
        ".cfi_adjust_cfa_offset 8\n"
        "	movl %esi, %edi\n"
        "	call dlopen_target\n"
        "	popq %rdi\n"
        ".cfi_adjust_cfa_offset -8\n"
        "	movl %edx, %esi\n"
        "	jmp *%rax\n"
        ".cfi_endproc\n"
        ".size dlopen, . - dlopen\n"

        ".globl dlmopen\n"
        ".type dlmopen, @function\n"
        ".balign 16\n"
        "dlmopen:\n"
        ".cfi_startproc\n"
        "	endbr64\n"
        "	pushq %rdi\n"
        ".cfi_adjust_cfa_offset 8\n"
        "	pushq %rsi\n"
        ".cfi_adjust_cfa_offset 8\n"
        "	subq $8, %rsp\n"
        ".cfi_adjust_cfa_offset 8\n"
        "	movl %edx, %esi\n"
        "	call dlmopen_target\n"
        "	addq $8, %rsp\n"
        ".cfi_adjust_cfa_offset -8\n"
        "	popq %rsi\n"
        ".cfi_adjust_cfa_offset -8\n"
        "	popq %rdi\n"
        ".cfi_adjust_cfa_offset -8\n"
        "	jmp *%rax\n"
        ".cfi_endproc\n"
        ".size dlmopen, . - dlmopen\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl dlopen\n"
        ".type dlopen, %function\n"
        ".balign 16\n"
        "dlopen:\n"
        ".cfi_startproc\n"
        "	hint #34\n" /* bti c, by the name that older assemblers know */
        "	stp x29, x30, [sp, #-32]!\n"
        ".cfi_def_cfa_offset 32\n"
        ".cfi_offset x29, -32\n"
        ".cfi_offset x30, -24\n"
        "	mov x29, sp\n"
        "	str x0, [sp, #16]\n"
        "	mov w0, w1\n"
        "	bl dlopen_target\n"
        "	mov x16, x0\n" /* a register that a landing pad for calls lets pass */
        "	ldr x0, [sp, #16]\n"
        "	ldp x29, x30, [sp], #32\n"
        ".cfi_restore x29\n"
        ".cfi_restore x30\n"
        ".cfi_def_cfa_offset 0\n"
        "	br x16\n"
        ".cfi_endproc\n"
        ".size dlopen, . - dlopen\n"

        ".globl dlmopen\n"
        ".type dlmopen, %function\n"
        ".balign 16\n"
        "dlmopen:\n"
        ".cfi_startproc\n"
        "	hint #34\n"
        "	stp x29, x30, [sp, #-32]!\n"
        ".cfi_def_cfa_offset 32\n"
        ".cfi_offset x29, -32\n"
        ".cfi_offset x30, -24\n"
        "	mov x29, sp\n"
        "	stp x0, x1, [sp, #16]\n"
        "	mov w1, w2\n"
        "	bl dlmopen_target\n"
        "	mov x16, x0\n"
        "	mov w2, w1\n"
        "	ldp x0, x1, [sp, #16]\n"
        "	ldp x29, x30, [sp], #32\n"
        ".cfi_restore x29\n"
        ".cfi_restore x30\n"
        ".cfi_def_cfa_offset 0\n"
        "	br x16\n"
        ".cfi_endproc\n"
        ".size dlmopen, . - dlmopen\n");
#else
#error "the loader must see who called dlopen: a few lines of assembly for this machine are missing"
#endif
