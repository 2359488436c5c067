/* How a window is opened from outside, in a process that has none (`arenal ctl PID open`;
 * tools/lib/arenal/door.py is the other side).
 *
 * The tool finds struct arenal_door by its symbol, believes it when magic, version and `self` are right, and
 * then does one of two things:
 *
 *   1. It knocks: it writes a byte into the word `knock` (by /proc/PID/mem). Slow paths see it, and open the
 *      window. Nothing of the process is stopped, and no code runs that would not run anyhow. A process that
 *      sleeps does not hear it.
 *   2. It sends a thread through that sleeps in a system call: it stops the thread (ptrace) where that holds
 *      no lock of libc's or ours, lets it go on at `enter`, in one step, and leaves it alone. The rest is
 *      done here, so that nothing is left half done should the tool die: signals are blocked, all registers
 *      are saved, the window is opened on a stack of ours, and the thread makes its system call again. See
 *      door.c for what the tool passes. x86-64 only.
 *   3. It interrupts a thread that computes, and makes few system calls or none, in the same way: that goes
 *      on at `interrupt`. Whether the thread is in the middle of malloc, or of anything else that has locks,
 *      is found out here, by walking up its stack. Then nothing is done, and the tool comes again. Whatever
 *      its stack pointer is at that moment, nothing is written there: the tool leaves the thread's registers
 *      in a struct door_record of the thread's own, and all else happens on a stack of ours.
 *
 * Then the tool reads `answer`. */
#ifndef OBSERVE_DOOR_H
#define OBSERVE_DOOR_H

#include <stdatomic.h>

#include "base/base.h"

#define DOOR_MAGIC "ARENALD"
/* Changes when a tool that knows the earlier one would do harm, or has to know what there is. Those of
 * version 2 ended behind `enter`, and knew no time in `call` (door.c). Those of version 3 were not
 * released. */
#define DOOR_VERSION 4

enum door_answer {
	DOOR_NOBODY,    /* nobody has come by yet */
	DOOR_OPEN,      /* there is a window, or its thread is being started */
	DOOR_LATER,     /* at the next slow moment: the program has allocated nothing yet, wants no thread of ours
	                   now, or this thread may start none */
	DOOR_NEVER,     /* the tunable `window` is 0 */
	DOOR_LOCKED_IN, /* the program is in a sandbox */
	DOOR_REFUSED,   /* the kernel lets us have no thread, or no window */
	DOOR_BUSY,      /* the thread was interrupted where it may hold a lock, or where that cannot be told */
};

struct arenal_door {
	char magic[8];           /* DOOR_MAGIC */
	uint32_t version;        /* DOOR_VERSION */
	_Atomic uint32_t answer; /* enum door_answer */
	uint64_t self;           /* the address of this structure */
	uint64_t knock;          /* the address of a word of 4 bytes: 0, or somebody knocks */
	uint64_t sandbox;        /* the address of a byte: not 0, the program is in a sandbox, and no thread is
	                            sent through */
	uint64_t enter;          /* an address; 0: none on this machine */
	uint64_t interrupt;      /* the same */
	uint64_t libc[2];        /* where the file of libc lies, from and to; the tool writes it */
	uint64_t loader[2];      /* and that of the loader */
	uint64_t loaded;         /* the address of the loader's list, struct r_debug, where those whose malloc is
	                            found before ours stand before us; 0: not known */
	uint64_t record; /* where the struct door_record of a thread is, from its thread pointer on (fs); 0:
	                            not known yet, or no thread can be interrupted here */
};

/* What a thread that is interrupted has of its own, in thread-local memory. The tool writes all but `stack`
 * and `mask` while it holds the thread; only the thread reads it. */
struct door_record {
	uint64_t stack; /* the high end of the stack that it has for that, once it has come by; 0: none yet */
	uint64_t mask;  /* of signals, of before */
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t pc, cs, flags, sp, ss; /* in the order in which iretq takes them */
};
extern struct arenal_door arenal_door __attribute__((visibility("default")));

/* Once, when libc is ready for threads. */
void door_start(void);

/* In the child of a fork. */
void door_after_fork(void);

#endif
