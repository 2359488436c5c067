#include "observe/leaks.h"

#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/os.h"
#include "base/print.h"
#include "cache/own_thread.h"
#include "harden/stack.h"
#include "observe/reach.h"

#define SHOWN 10

static uint64_t whole(uint64_t blocks) {
	return (blocks + (1 << PROFILE_BLOCKS_SHIFT) / 2) >> PROFILE_BLOCKS_SHIFT;
}

/* Behind the noun: "1 block", "2 blocks". */
static const char *plural(uint64_t number) { return number == 1 ? "" : "s"; }

/* Estimates: of a stack, or of many. Blocks as in the profile. */
struct sum {
	uint64_t bytes, blocks;
};

static void add(struct sum *to, struct sum more) {
	to->bytes += more.bytes;
	to->blocks += more.blocks;
}

/* The largest ones, largest first. `of` tells what counts of a stack. */
static void print_largest(struct sum (*of)(uint32_t number, const struct profile_stack *stack)) {
	static struct leak {
		uint32_t number;
		struct sum sum;
		struct profile_stack stack;
	} leaks[SHOWN + 1]; /* the last one is to be sorted in, or is one too many */
	struct leak *last = &leaks[SHOWN];
	for (uint32_t i = 0; profile_stack(i, &last->stack); i++) {
		last->number = i;
		last->sum = of(i, &last->stack);
		for (struct leak *at = last; at > leaks && at[-1].sum.bytes < at->sum.bytes; at--) {
			const struct leak smaller = at[-1];
			at[-1] = at[0];
			at[0] = smaller;
		}
	}
	for (int i = 0; i < SHOWN && leaks[i].sum.bytes > 0; i++) {
		const uint64_t blocks = whole(leaks[i].sum.blocks);
		print_fd(2, "  about %lu bytes in %lu block%s, allocated by%s:\n", leaks[i].sum.bytes, blocks,
		         plural(blocks), leaks[i].number == 0 ? " more stacks than are told apart" : "");
		stack_print_frames(leaks[i].stack.frames, leaks[i].stack.frame_count);
	}
}

/* ---- what is held ---- */

static struct sum held_by(uint32_t number, const struct profile_stack *stack) {
	(void)number;
	return (struct sum){ stack->counts.live_bytes, stack->counts.live_blocks };
}

void leaks_report_held(void) {
	static struct profile_stack stack;
	struct sum all = { 0 };
	uint64_t stacks = 0;
	for (uint32_t i = 0; profile_stack(i, &stack); i++) {
		add(&all, held_by(i, &stack));
		stacks += stack.counts.live_bytes > 0;
	}
	const uint64_t blocks = whole(all.blocks);
	print_fd(2,
	         "arenal: at its end, process %d holds about %lu bytes in %lu block%s that it did not free, from "
	         "%lu stack%s (sampled, one byte in %lu)\n",
	         os_process_id(), all.bytes, blocks, plural(blocks), stacks, plural(stacks), profile_mean());
	print_largest(held_by);
}

/* ---- what is lost ---- */

/* By stack, but for what lies behind other lost blocks. */
static struct sum *lost;

static struct sum lost_by(uint32_t number, const struct profile_stack *stack) {
	(void)stack;
	return number < PROFILE_STACKS ? lost[number] : (struct sum){ 0 };
}

static struct sum weight_of(const struct reach_block *block) {
	struct sum one;
	profile_weight(block->size, &one.blocks, &one.bytes);
	return one;
}

/* Returns whether something was lost. */
static bool report_lost(const struct reach_block *blocks, size_t count, size_t missing, bool unread) {
	struct sum all = { 0 }, behind = { 0 }, ignored = { 0 };
	for (size_t i = 0; i < count; i++) {
		if (blocks[i].reach == REACH_FOUND || !profile_has_sample(&blocks[i])) continue;
		const struct sum one = weight_of(&blocks[i]);
		add(blocks[i].reach == REACH_IGNORED ? &ignored
		    : blocks[i].reach == REACH_LOST  ? &all
		                                     : &behind,
		    one);
		if (blocks[i].reach == REACH_LOST) add(&lost[blocks[i].stack], one);
	}
	const uint64_t number = whole(all.blocks);
	print_fd(2,
	         "arenal: at its end, process %d has lost about %lu bytes in %lu block%s that nothing points to "
	         "(sampled, one byte in %lu)",
	         os_process_id(), all.bytes, number, plural(number), profile_mean());
	if (behind.bytes > 0)
		print_fd(2, "; only these lead to about %lu bytes more, in %lu", behind.bytes, whole(behind.blocks));
	if (ignored.bytes > 0)
		print_fd(2, "; about %lu bytes in %lu are ignored", ignored.bytes, whole(ignored.blocks));
	if (missing > 0) print_fd(2, "; %lu thread%s could not be looked at", missing, plural(missing));
	if (unread) print_fd(2, "; %s cannot be read", conf_files.leaks_ignore);
	print_fd(2, "\n");
	print_largest(lost_by);
	return all.bytes > 0;
}

/* Returns whether something was lost. */
static bool look_for_lost(void) {
	static uint64_t ignored[PROFILE_STACKS / 64];
	const size_t room = profile_samples(NULL, 0) + 1024;
	struct reach_block *blocks = os_map(ALIGN_UP(room * sizeof *blocks, os_page_size), os_page_size);
	lost = os_map(PROFILE_STACKS * sizeof *lost, os_page_size);
	const char *problem = "there is no memory for it";
	size_t count = 0, missing = 0;
	bool unread = false;
	if (blocks != NULL && lost != NULL) {
		unread = conf_files.leaks_ignore[0] != 0 && leaks_ignored(ignored) == SIZE_MAX;
		count = min_size(profile_samples(blocks, room), room);
		problem = reach_find(blocks, count, ignored, &missing);
	}
	if (problem == NULL) return report_lost(blocks, count, missing, unread);
	print_fd(2, "arenal: what process %d has lost cannot be told: %s\n", os_process_id(), problem);
	leaks_report_held();
	return false;
}

/* A program may lose nothing until its last destructor has run. Threads of ours are in nobody's way then. */
static void at_exit(void *unused, int status) {
	(void)unused, (void)status;
	if (profile_mean() == 0) return;
	own_threads_stand_back();
	if (look_for_lost() && conf.leaks_exit > 0) exit((int)conf.leaks_exit); /* which goes on where it was */
}

/* See trace_end.c. */
extern int expect_exit(void (*function)(void *, int), void *argument, void *library) __asm__("__cxa_atexit");
extern void *__dso_handle __attribute__((visibility("hidden")));

void leaks_start(bool stays) {
	if (conf.leaks == LEAKS_REACH) expect_exit(at_exit, NULL, stays ? NULL : &__dso_handle);
}
