#include "observe/door.h"

#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/libc.h"
#include "base/os.h"
#include "base/sandbox.h"
#include "cache/hooks.h"
#include "harden/stack.h"
#include "harden/unwind.h"
#include "observe/window.h"

#if defined(__x86_64__)
void door_enter(void);
void door_interrupt(void);
#define ENTER (uint64_t) door_enter
#define INTERRUPT (uint64_t) door_interrupt
#else
#define ENTER 0
#define INTERRUPT 0
#endif

#ifdef __GLIBC__
#define LOADED (uint64_t) & _r_debug
#else
#define LOADED 0 /* musl has no name for it */
#endif

struct arenal_door arenal_door = {
	.magic = DOOR_MAGIC,
	.version = DOOR_VERSION,
	.self = (uint64_t)&arenal_door,
	.knock = (uint64_t)&cache_hooks.knock,
	.sandbox = (uint64_t)&sandbox_on,
	.enter = ENTER,
	.interrupt = INTERRUPT,
	.loaded = LOADED,
};

/* A thread is on the door's stack. */
__attribute__((visibility("hidden"))) _Atomic uint32_t door_busy;

/* The child has not the thread. */
void door_after_fork(void) { atomic_store(&door_busy, 0); }

static void open_window(void) {
	atomic_store(&cache_hooks.knock, 0);
	atomic_store(&arenal_door.answer, window_ask_to_open());
}

#if defined(__x86_64__)
static __thread struct door_record record __attribute__((tls_model("initial-exec")));

static uint64_t place_of_record(void) {
	uintptr_t thread;
	__asm__("movq %%fs:0, %0" : "=r"(thread));
	return (uintptr_t)&record - thread;
}
#else
static uint64_t place_of_record(void) { return 0; }
#endif

void door_start(void) {
	/* Before glibc 2.35, walking a stack takes a lock of the loader's, which who is interrupted may
	 * hold. */
	arenal_door.record = libc.find_object != NULL ? place_of_record() : 0;
	atomic_store(&cache_hooks.knocked, open_window);
}

#if defined(__x86_64__)
/* What door_enter leaves on the thread's stack, from its low end, and take from there again. */
struct door_frame {
	uint64_t mask; /* of signals */
	uint64_t unused;
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax, flags;
	uint64_t call; /* 16 bits: why the system call shall be made again, as below, or 0 when there was none;
	                  48 bits: microseconds that it has slept of a time that it has in its registers, or 0 */
	uint64_t pc;
};

static_assert(sizeof(struct door_frame) == 20 * 8, "door_enter leaves it, and the tool its last word");
static_assert(offsetof(struct door_record, r15) == 2 * 8 && offsetof(struct door_record, rax) == 16 * 8 &&
                  offsetof(struct door_record, ss) == 21 * 8,
              "door_interrupt takes it, and the tool leaves it");

/* What the kernel has in a register of a thread whose system call it will make again, negative. */
enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513 };

#define SYSCALL_LENGTH 2

/* A signal came meanwhile. Had the thread been asleep in its system call, would that have failed with EINTR?
 * The thread may be waiting for just that. */
static bool is_interrupted(uint64_t pending, uint64_t call) {
	if (call == 0) return false;
	for (int number = 1; number <= 64; number++) {
		struct sigaction action;
		if (!(pending >> (number - 1) & 1) || !os_signal_ask(number, &action)) continue;
		if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) continue;
		if (call != ERESTARTNOINTR && !(call == ERESTARTSYS && (action.sa_flags & SA_RESTART) != 0))
			return true;
	}
	return false;
}

/* The rest of a time that begins anew. The kernel reads it when the call is made. */
static __thread struct timespec rest __attribute__((tls_model("initial-exec")));

static void take_off(uint64_t *time, uint64_t microseconds) {
	const struct timespec *whole = (const struct timespec *)*time;
	const int64_t left = (int64_t)whole->tv_sec * 1000000 + whole->tv_nsec / 1000 - (int64_t)microseconds;
	if (whole->tv_sec > INT32_MAX) return;
	rest = (struct timespec){ left < 0 ? 0 : left / 1000000, left < 0 ? 0 : left % 1000000 * 1000 };
	*time = (uint64_t)&rest;
}

/* The system call's time becomes what is left of it: it ends when it would have ended. Such calls of libc's
 * only come here, whose code does not look at that register again. */
static void shorten(struct door_frame *frame, uint64_t microseconds) {
	const int64_t left = (int32_t)frame->r10 - (int64_t)(microseconds / 1000);
	switch (frame->rax) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait: frame->r10 = left < 0 ? 0 : (uint64_t)left; break;
	case SYS_rt_sigtimedwait: take_off(&frame->rdx, microseconds); break;
	case SYS_semtimedop:
	case 441 /* epoll_pwait2 */: take_off(&frame->r10, microseconds); break;
	}
}

/* NULL where Arenal is part of another file. */
extern __typeof__(stack_own_code) stack_own_code __attribute__((weak, visibility("hidden")));

static bool is_within(const uint64_t range[2], uintptr_t pc) { return pc >= range[0] && pc < range[1]; }

/* What is behind a function of the program's own: libc calls main, and the first function of a thread, by two
 * functions, and then there is the program's _start, or nothing. */
#define START_IN_LIBC 2

/* Does the thread, which was interrupted anywhere, hold no lock of libc's, the loader's or ours? So it is
 * where its whole stack can be walked, and leads through none of them, nor through a signal's frame, which
 * may have interrupted them. */
static bool holds_nothing(const struct door_record *f) {
	struct unwind at = {
		.pc = f->pc,
		.exact = true,
		.steps = UNWIND_STEPS,
		.pages = { UNWIND_NO_PAGE, UNWIND_NO_PAGE },
		.registers = { f->rax, f->rdx, f->rcx, f->rbx, f->rsi, f->rdi, f->rbp, f->sp, f->r8, f->r9, f->r10,
		               f->r11, f->r12, f->r13, f->r14, f->r15, f->pc },
	};
	unsigned start = 0, behind = 0;
	if (stack_own_code == NULL || is_within(arenal_door.libc, f->pc)) return false;
	do {
		if (stack_own_code(at.pc) || is_within(arenal_door.loader, at.pc)) return false;
		if (is_within(arenal_door.libc, at.pc)) {
			if (++start > START_IN_LIBC || behind > 0) return false;
		} else if (start > 0 && ++behind > 1) {
			return false;
		}
	} while (unwind_step(&at) && !at.exact);
	return start > 0 && at.pc == UINTPTR_MAX; /* where nobody has called */
}

__attribute__((used)) static void door_serve(struct door_frame *frame) {
	const int saved = errno;
	const uint64_t call = frame->call & 0xffff, slept = frame->call >> 16;
	open_window();
	errno = saved;
	if (slept > 0) shorten(frame, slept);
	if (is_interrupted(os_pending_signals() & ~frame->mask, call)) {
		frame->rax = (uint64_t)-EINTR;
		frame->pc += SYSCALL_LENGTH;
	}
}

__attribute__((used)) static void door_serve_interrupted(const struct door_record *interrupted) {
	const int saved = errno;
	if (holds_nothing(interrupted))
		open_window();
	else
		atomic_store(&arenal_door.answer, DOOR_BUSY);
	errno = saved;
}

/* Of door_enter. The thread's registers are its own, but for three. The stack pointer is 136 bytes lower
 * than it was: behind the 128 bytes that belong to its code (the red zone) the tool has written where it
 * shall go on, which is the instruction of its system call. rax is the number of the call; rcx holds
 * what `call` above says, for system calls leave nothing in it.
 *
 * All signals are blocked but libc's SIGSETXID, whose sender waits under a lock that starting a thread
 * takes. Only one thread comes through at a time, for there is one stack; another one goes on at once.
 * Vector registers are saved, too: an inlined system call leaves them alone. The frame is described to
 * unwinders all the way: a thread may be cancelled when signals are let through again.
 *
 * Of door_interrupt. The thread was anywhere, and its stack pointer, which it still has, may point to
 * anything: code of a program's own may use it to read a table, or have less room below it than we need.
 * rbx is the address of its door_record, where all registers are. Each such thread gets a stack of its
 * own from the kernel, once, and keeps it: that is still in use when the last signal mask is set, after
 * which nobody can tell any more whether the thread has left it; and a signal that comes just then has
 * room there. Where the kernel has no memory, the thread goes back at once, from its record. iretq takes
 * all five registers that a jump needs in one. */
#define INTERRUPTED_STACK "65536"
__asm__(".pushsection .bss.door,\"aw\",@nobits\n"
        ".balign 64\n"
        "door_stack: .skip 65536\n"
        "door_stack_end:\n"
        ".popsection\n"
        ".pushsection .rodata.door,\"a\",@progbits\n"
        ".balign 8\n"
        "door_all_signals: .quad 0xfffffffeffffffff\n"
        ".popsection\n"
        ".pushsection .text.door,\"ax\",@progbits\n"
        ".balign 16\n"
        ".type door_with_vectors,@function\n"
        "door_with_vectors:\n" /* calls rdx with rdi; takes r12, r13 and r14 */
        ".cfi_startproc\n"
        "pushq %rbp\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset rbp, -16\n"
        "movq %rsp, %rbp\n"
        ".cfi_def_cfa_register rbp\n"
        "pushq %rbx\n"
        ".cfi_offset rbx, -24\n"
        "movq %rdi, %r13\n"
        "movq %rdx, %r14\n"
        "movl $1, %eax\n" /* has it xsave, and the system switched it on? */
        "cpuid\n"
        "btl $27, %ecx\n"
        "setc %r12b\n"
        "movl $512, %ebx\n"
        "jnc 1f\n"
        "movl $13, %eax\n"
        "xorl %ecx, %ecx\n"
        "cpuid\n" /* ebx: bytes of all that is switched on */
        "1: subq %rbx, %rsp\n"
        "andq $-64, %rsp\n"
        "testb %r12b, %r12b\n"
        "jz 2f\n"
        "leaq 512(%rsp), %rdi\n" /* its header has to be zero */
        "xorl %eax, %eax\n"
        "movl $8, %ecx\n"
        "rep stosq\n"
        "movl $-1, %eax\n"
        "movl %eax, %edx\n"
        "xsave64 (%rsp)\n"
        "jmp 3f\n"
        "2: fxsave64 (%rsp)\n"
        "3: movq %r13, %rdi\n"
        "call *%r14\n"
        "movl $-1, %eax\n"
        "movl %eax, %edx\n"
        "testb %r12b, %r12b\n"
        "jz 5f\n"
        "xrstor64 (%rsp)\n"
        "jmp 6f\n"
        "5: fxrstor64 (%rsp)\n"
        "6: movq -8(%rbp), %rbx\n"
        "leave\n"
        ".cfi_def_cfa rsp, 8\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size door_with_vectors, . - door_with_vectors\n"
        ".balign 16\n"
        ".hidden door_interrupt\n"
        ".globl door_interrupt\n"
        ".type door_interrupt,@function\n"
        "door_interrupt:\n"
        ".cfi_startproc\n"
        ".cfi_signal_frame\n"
        ".cfi_def_cfa rbx, 0\n"
        ".cfi_offset rip, 136\n"
        ".cfi_offset rsp, 160\n"
        ".cfi_offset rbx, 104\n"
        ".cfi_offset rbp, 96\n"
        ".cfi_offset r12, 40\n"
        ".cfi_offset r13, 32\n"
        ".cfi_offset r14, 24\n"
        ".cfi_offset r15, 16\n"
        "movq (%rbx), %rdx\n"
        "testq %rdx, %rdx\n"
        "jnz 1f\n"
        "movl $9, %eax\n" /* mmap, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK */
        "xorl %edi, %edi\n"
        "movl $" INTERRUPTED_STACK ", %esi\n"
        "movl $3, %edx\n"
        "movl $0x20022, %r10d\n"
        "movq $-1, %r8\n"
        "xorl %r9d, %r9d\n"
        "syscall\n"
        "cmpq $-4096, %rax\n"
        "ja 2f\n"
        "leaq " INTERRUPTED_STACK "(%rax), %rdx\n"
        "movq %rdx, (%rbx)\n"
        "1: movq %rdx, %rsp\n"
        "pushq $2\n"
        "popfq\n" /* no direction, no alignment check */
        "movl $14, %eax\n"
        "movl $2, %edi\n"
        "leaq door_all_signals(%rip), %rsi\n"
        "leaq 8(%rbx), %rdx\n"
        "movl $8, %r10d\n"
        "syscall\n"
        "movq %rbx, %rdi\n"
        "leaq door_serve_interrupted(%rip), %rdx\n"
        "call door_with_vectors\n"
        "movl $14, %eax\n"
        "movl $2, %edi\n"
        "leaq 8(%rbx), %rsi\n"
        "xorl %edx, %edx\n"
        "movl $8, %r10d\n"
        "syscall\n"
        "pushq 168(%rbx)\n"
        "pushq 160(%rbx)\n"
        "pushq 152(%rbx)\n"
        "pushq 144(%rbx)\n"
        "pushq 136(%rbx)\n"
        "jmp 3f\n"
        "2: leaq 136(%rbx), %rsp\n"
        "3: movq 16(%rbx), %r15\n"
        "movq 24(%rbx), %r14\n"
        "movq 32(%rbx), %r13\n"
        "movq 40(%rbx), %r12\n"
        "movq 48(%rbx), %r11\n"
        "movq 56(%rbx), %r10\n"
        "movq 64(%rbx), %r9\n"
        "movq 72(%rbx), %r8\n"
        "movq 80(%rbx), %rdi\n"
        "movq 88(%rbx), %rsi\n"
        "movq 96(%rbx), %rbp\n"
        "movq 112(%rbx), %rdx\n"
        "movq 120(%rbx), %rcx\n"
        "movq 128(%rbx), %rax\n"
        "movq 104(%rbx), %rbx\n"
        ".cfi_def_cfa rsp, 0\n"
        ".cfi_offset rip, 0\n"
        ".cfi_offset rsp, 24\n"
        ".cfi_restore rbx\n"
        ".cfi_restore rbp\n"
        ".cfi_restore r12\n"
        ".cfi_restore r13\n"
        ".cfi_restore r14\n"
        ".cfi_restore r15\n"
        "iretq\n"
        ".cfi_endproc\n"
        ".size door_interrupt, . - door_interrupt\n"
        ".balign 16\n"
        ".hidden door_enter\n"
        ".globl door_enter\n"
        ".type door_enter,@function\n"
        "door_enter:\n"
        ".cfi_startproc\n"
        ".cfi_signal_frame\n"
        ".cfi_def_cfa rsp, 136\n"
        ".cfi_offset rip, -136\n"
        "pushq %rcx\n"
        ".cfi_adjust_cfa_offset 8\n"
        "pushfq\n"
        "pushq %rax\n"
        "pushq %rcx\n"
        "pushq %rdx\n"
        "pushq %rbx\n"
        "pushq %rbp\n"
        "pushq %rsi\n"
        "pushq %rdi\n"
        "pushq %r8\n"
        "pushq %r9\n"
        "pushq %r10\n"
        "pushq %r11\n"
        "pushq %r12\n"
        "pushq %r13\n"
        "pushq %r14\n"
        "pushq %r15\n"
        "subq $16, %rsp\n"
        ".cfi_adjust_cfa_offset 144\n"
        ".cfi_rel_offset rbx, 104\n"
        ".cfi_rel_offset rbp, 96\n"
        ".cfi_rel_offset r12, 40\n"
        ".cfi_rel_offset r13, 32\n"
        ".cfi_rel_offset r14, 24\n"
        ".cfi_rel_offset r15, 16\n"
        "pushq $2\n" /* no direction, no alignment check */
        "popfq\n"
        "movl $14, %eax\n" /* rt_sigprocmask(SIG_SETMASK) */
        "movl $2, %edi\n"
        "leaq door_all_signals(%rip), %rsi\n"
        "movq %rsp, %rdx\n"
        "movl $8, %r10d\n"
        "syscall\n"
        "movl $1, %eax\n"
        "xchgl %eax, door_busy(%rip)\n"
        "testl %eax, %eax\n"
        "jnz 4f\n"
        "movq %rsp, %rbp\n"
        ".cfi_def_cfa_register rbp\n"
        "leaq door_stack_end(%rip), %rsp\n"
        "movq %rbp, %rdi\n"
        "leaq door_serve(%rip), %rdx\n"
        "call door_with_vectors\n"
        "movq %rbp, %rsp\n"
        ".cfi_def_cfa_register rsp\n"
        "movl $0, door_busy(%rip)\n"
        "4: movl $14, %eax\n"
        "movl $2, %edi\n"
        "movq %rsp, %rsi\n"
        "xorl %edx, %edx\n"
        "movl $8, %r10d\n"
        "syscall\n"
        "addq $16, %rsp\n"
        ".cfi_adjust_cfa_offset -16\n"
        "popq %r15\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore r15\n"
        "popq %r14\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore r14\n"
        "popq %r13\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore r13\n"
        "popq %r12\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore r12\n"
        "popq %r11\n"
        "popq %r10\n"
        "popq %r9\n"
        "popq %r8\n"
        "popq %rdi\n"
        "popq %rsi\n"
        ".cfi_adjust_cfa_offset -48\n"
        "popq %rbp\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore rbp\n"
        "popq %rbx\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore rbx\n"
        "popq %rdx\n"
        "popq %rcx\n"
        "popq %rax\n"
        ".cfi_adjust_cfa_offset -24\n"
        "popfq\n"
        "leaq 8(%rsp), %rsp\n"
        ".cfi_adjust_cfa_offset -16\n"
        "ret $128\n"
        ".cfi_endproc\n"
        ".size door_enter, . - door_enter\n"
        ".popsection\n");
#endif
