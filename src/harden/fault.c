/* What a guarded slot reports: when a fault hits it, or when free finds that something is wrong. */
#include "harden/guard.h"

#include <string.h>
#include <ucontext.h>

#include "base/lock.h"
#include "base/os.h"
#include "base/print.h"

/* The actions that the program had set before ours. */
static struct sigaction earlier_segv, earlier_bus;

/* One report at a time: they share the slot and what stack_print keeps. */
static struct lock reporting;
static struct guard_slot found;
static struct stack here;

/* "1 byte", "12 bytes" */
struct bytes {
	char text[32];
};
static struct bytes bytes(size_t count) {
	struct bytes b;
	print_text(b.text, sizeof b.text, "%zu byte%s", count, count == 1 ? "" : "s");
	return b;
}

/* The first line of a report. */
static void print_where(const char *what, const char *access, uintptr_t address, const struct guard_slot *slot) {
	const uintptr_t end = slot->block + slot->size;
	char where[64] = "at";
	if (slot->state == SLOT_UNUSED) {
		print_fd(2, "arenal: %s: %s %p, where no block was\n", what, access, (void *)address);
		return;
	}
	if (address < slot->block)
		print_text(where, sizeof where, "%s left of", bytes(slot->block - address).text);
	else if (address >= end)
		print_text(where, sizeof where, "%s right of the end of", bytes(address - end).text);
	else if (address > slot->block)
		print_text(where, sizeof where, "%s into", bytes(address - slot->block).text);
	print_fd(2, "arenal: %s: %s %p, %s the block of %s at %p\n", what, access, (void *)address, where,
	         bytes(slot->size).text, (void *)slot->block);
}

/* The stack of the error itself comes last: it may be what the error has destroyed. */
static void print_stacks(const struct guard_slot *slot, const char *title, uintptr_t from) {
	if (slot->state != SLOT_UNUSED) stack_print("allocated", &slot->allocated);
	if (slot->state != SLOT_UNUSED && slot->freed.thread != 0) stack_print("freed", &slot->freed);
	stack_take(&here, from);
	stack_print(title, &here);
}

_Noreturn void fault_end(const char *what, uintptr_t address, const struct guard_slot *slot) {
	lock_take(&reporting, RANK_REPORT);
	found = *slot;
	if (found.state == SLOT_FREEING) found.freed.thread = 0; /* whose stack may be half written */
	print_where(what, "at", address, &found);
	print_stacks(&found, "detected", 0);
	lock_drop(&reporting, RANK_REPORT);
	os_abort();
}

/* Was it a write, as far as the processor says? And which instruction? */
#if defined(__x86_64__)
static const char *access_of(const ucontext_t *context) {
	return context->uc_mcontext.gregs[REG_ERR] & 2 ? "write to" : "read of";
}
static uintptr_t instruction_of(const ucontext_t *context) { return (uintptr_t)context->uc_mcontext.gregs[REG_RIP]; }
#elif defined(__aarch64__)
static const char *access_of(const ucontext_t *context) {
	(void)context;
	return "access to";
}
static uintptr_t instruction_of(const ucontext_t *context) { return context->uc_mcontext.pc; }
#endif

static const char *kind_of(uintptr_t address, const struct guard_slot *slot) {
	if (slot->state == SLOT_FREED || slot->state == SLOT_FREEING) return "use after free";
	if (slot->state == SLOT_UNUSED) return "wild access";
	return address < slot->block ? "underflow" : "overflow";
}

static void report(uintptr_t address, const ucontext_t *context) {
	lock_take(&reporting, RANK_REPORT);
	guard_find(address, &found);
	print_where(kind_of(address, &found), access_of(context), address, &found);
	print_stacks(&found, "accessed", instruction_of(context));
	lock_drop(&reporting, RANK_REPORT);
}

/* What would have happened without us. */
static void pass_on(int signal, siginfo_t *info, void *context) {
	const struct sigaction *earlier = signal == SIGSEGV ? &earlier_segv : &earlier_bus;
	const bool sent = info->si_code <= 0; /* by somebody, not by the processor */
	if ((earlier->sa_flags & SA_SIGINFO) != 0) {
		earlier->sa_sigaction(signal, info, context);
	} else if (earlier->sa_handler == SIG_DFL || (earlier->sa_handler == SIG_IGN && !sent)) {
		/* The instruction is tried again, and ends the program: with the right core dump. */
		struct sigaction default_action = { .sa_handler = SIG_DFL };
		os_signal_action(signal, &default_action, NULL);
		if (sent) os_raise(signal);
	} else if (earlier->sa_handler != SIG_IGN) {
		earlier->sa_handler(signal);
	}
}

static void on_fault(int signal, siginfo_t *info, void *context) {
	struct guard_slot slot;
	if (info->si_code > 0 && guard_find((uintptr_t)info->si_addr, &slot)) report((uintptr_t)info->si_addr, context);
	pass_on(signal, info, context);
}

static void catch(int signal, struct sigaction *earlier) {
	if (!os_signal_action(signal, NULL, earlier)) return;
	/* The mask and the way of calling that the earlier handler expects, and room to report a fault that left none. */
	struct sigaction action = { .sa_mask = earlier->sa_mask, .sa_sigaction = on_fault };
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | (earlier->sa_flags & (SA_NODEFER | SA_RESTART));
	os_signal_action(signal, &action, NULL);
}

void fault_catch(void) {
	catch(SIGSEGV, &earlier_segv);
	catch(SIGBUS, &earlier_bus);
}
