/* What a guarded slot reports: when a fault hits it, or when free finds that something is wrong. */
#include "harden/action.h"
#include "harden/guard.h"

#include <string.h>
#include <ucontext.h>

#include "base/lock.h"
#include "base/os.h"
#include "base/print.h"

/* One report at a time: they share the slot and what stack_print keeps. */
static struct lock reporting;
static struct guard_slot found;
static struct stack here;

/* A report waits for who reads stderr; no fork is to wait for that. */
void fault_after_fork(void) { reporting = (struct lock){ 0 }; }

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
static void print_where(const char *what, const char *access, uintptr_t address,
                        const struct guard_slot *slot) {
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
static void print_stacks(const struct guard_slot *slot, const char *title, const ucontext_t *context) {
	if (slot->state != SLOT_UNUSED) stack_print("allocated", &slot->allocated);
	if (slot->state != SLOT_UNUSED && slot->freed.thread != 0) stack_print("freed", &slot->freed);
	if (context != NULL)
		stack_take_interrupted(&here, context);
	else
		stack_take(&here, 0);
	stack_print(title, &here);
}

_Noreturn void fault_end(const char *what, uintptr_t address, const struct guard_slot *slot) {
	lock_take(&reporting, RANK_REPORT);
	found = *slot;
	if (found.state == SLOT_FREEING) found.freed.thread = 0; /* whose stack may be half written */
	print_where(what, "at", address, &found);
	print_stacks(&found, "detected", NULL);
	lock_drop(&reporting, RANK_REPORT);
	os_abort();
}

/* Was it a write, as far as the processor says? */
#if defined(__x86_64__)
static const char *access_of(const ucontext_t *context) {
	return context->uc_mcontext.gregs[REG_ERR] & 2 ? "write to" : "read of";
}
#elif defined(__aarch64__)
static const char *access_of(const ucontext_t *context) {
	(void)context;
	return "access to";
}
#endif

static const char *kind_of(uintptr_t address, const struct guard_slot *slot) {
	if (slot->state == SLOT_FREED || slot->state == SLOT_FREEING) return "use after free";
	if (slot->state == SLOT_UNUSED) return "wild access";
	return address < slot->block ? "underflow" : "overflow";
}

static NOINLINE void report(uintptr_t address, const ucontext_t *context) {
	lock_take(&reporting, RANK_REPORT);
	guard_find(address, &found);
	print_where(kind_of(address, &found), access_of(context), address, &found);
	print_stacks(&found, "accessed", context);
	lock_drop(&reporting, RANK_REPORT);
}

/* Most faults are none of ours: no frame for those. */
static void look(siginfo_t *info, void *context) {
	if (unlikely(info->si_code > 0 && guard_owns(info->si_addr))) report((uintptr_t)info->si_addr, context);
}

void fault_catch(void) { action_install(look); }
