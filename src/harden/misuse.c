#include "harden/misuse.h"

#include "arena/report.h"
#include "base/lock.h"
#include "base/os.h"
#include "base/print.h"
#include "cache/tcache.h"
#include "harden/stack.h"

/* Reports share the stack, and what stack_print keeps. */
static struct lock reporting;
static struct stack here;

/* A report waits for who reads stderr; no fork is to wait for that. */
void misuse_after_fork(void) { reporting = (struct lock){ 0 }; }

_Atomic bool misuse_shrink_failed;

static atomic_flag size_reported = ATOMIC_FLAG_INIT, family_reported = ATOMIC_FLAG_INIT,
                   mark_reported = ATOMIC_FLAG_INIT;

/* `done`: to the block, by this call. */
static void follow(enum misuse_action action, atomic_flag *reported, const char *function, const void *block,
                   const char *done, const char *what) {
	if (action == MISUSE_END) report_end(function, block, "%s", what);
	/* A server would fill its log: the first one tells where to look. */
	if (action == MISUSE_IGNORE || atomic_flag_test_and_set(reported)) return;
	lock_take(&reporting, RANK_REPORT);
	print_fd(2, "arenal: %s(%p): %s; the program goes on, and the next ones are not reported\n", function,
	         (void *)block, what);
	here.thread = os_thread_id();
	here.count = stack_of_program(here.frames, STACK_FRAMES);
	stack_print(done, &here);
	lock_drop(&reporting, RANK_REPORT);
}

void misuse_size(const char *function, const void *block, size_t size, size_t bytes) {
	char what[128];
	print_text(what, sizeof what,
	           "the size %zu is wrong: the block has %zu bytes, and was asked for with another size", size,
	           bytes);
	follow(misuse_of_size(), &size_reported, function, block, "freed", what);
}

void misuse_family(const char *function, const void *block, const char *source,
                   enum misuse_action otherwise) {
	char what[128];
	print_text(what, sizeof what, "the block came from %s", source);
	follow(misuse_of_family(otherwise), &family_reported, function, block, "freed", what);
}

void misuse_lost_mark(const char *function, const void *block) {
	const struct span *s = span_of(block);
	const unsigned bytes = size_classes[s->class_].size;
	const char *place = tcache_where_free(s, block);
	char what[160];
	if (place != NULL)
		print_text(what, sizeof what, "the block of %u bytes was freed twice%s", bytes, place);
	else
		print_text(
		    what, sizeof what,
		    "the free block of %u bytes was written to after it was freed, or was freed twice and is in use",
		    bytes);
	follow(misuse_of_lost_mark(), &mark_reported, function, block, "allocated", what);
}
