/* inject PATTERN: runs the workload again and again, and lets another one of its system calls fail each time: the first
 * mmap, the second mmap, ... until it makes fewer calls than that. PATTERN chooses among the tests, as in "mmap*". */
#include "support.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { MOST_RUNS = 400 };

/* How closely to look. The same calls come in every build: the one with assertions takes each of the first eight and then
 * steps of an eighth, the others steps of a half. */
#ifdef NDEBUG
enum { SAMPLING = 2 };
#else
enum { SAMPLING = 8 };
#endif

struct fault {
	const char *call;
	bool forever;
	const char *foreign; /* the variable for the shim, or NULL */
	bool strict;         /* no allocation may fail: there is another way to get the memory */
	bool hardened;
	bool window;         /* it is opened at the start */
};

static const char *const with_window[] = { "ARENAL_WINDOW=1", NULL };
static const char *const hardened[] = { "ARENAL_HARDEN=1", NULL };
static const char *const settings[] = {
	"ARENAL_MMAP_THRESHOLD=256K", /* mappings for what the workload calls large */
	"ARENAL_TRIM_THRESHOLD=64K",  /* and a break that moves all the time */
	"ARENAL_GUARD_SAMPLE=5",      /* and pages that become accessible and inaccessible */
	NULL,
};

/* Who asked for hardened mode would rather have no program than one without it. */
static bool ended_at_the_start(const struct outcome *outcome) {
	return outcome->status == 128 + SIGABRT &&
	       strcmp(outcome->err, "arenal: no memory for hardened mode; the program ends here\n") == 0;
}

/* Returns whether the fault came to pass. */
static bool run(const struct fault *fault, const char *setting, size_t at) {
	static struct outcome outcome;
	const char *arguments[] = { WORKLOAD, fault->strict ? "strict" : NULL, NULL };
	char call[32], number[32];

	snprintf(call, sizeof call, "FAULT_CALL=%s", fault->call);
	snprintf(number, sizeof number, "FAULT_AT=%zu", at);
	const char *forever = fault->forever ? "FAULT_FOREVER=1" : "FAULT_FOREVER";
	const char *foreign = fault->foreign ? fault->foreign : "FAULT_FOREIGN";
	const char *changes[] = { "LD_PRELOAD=" LIBRARY, call, number, forever, foreign, setting, NULL };

	run_program(&outcome, arguments, changes, NULL);
	if (fault->hardened && ended_at_the_start(&outcome))
		return true;
	if (outcome.status != 0 && outcome.status != 10)
		fail_msg("%s %s %s %s %s: status %d: %s", call, number, forever, foreign, setting, outcome.status, outcome.err);
	return outcome.status == 10;
}

static void run_until_it_no_longer_happens(const struct fault *fault) {
	const char *const *setting = fault->hardened ? hardened : fault->window ? with_window : settings;

	for (; *setting; setting++) {
		size_t at = 1, runs = 0;

		/* The steps become longer. */
		for (; run(fault, *setting, at); at += 1 + at / SAMPLING)
			assert_true(++runs < MOST_RUNS);
		assert_true(runs > 0);
	}
}

static void inject(void **state) {
	run_until_it_no_longer_happens(*state);
}

#define FAULT(name, ...) { #name, inject, NULL, NULL, &(struct fault){ __VA_ARGS__ } }

int main(int argc, char **argv) {
	struct CMUnitTest tests[] = {
		FAULT(mmap_once, .call = "mmap"),
		FAULT(mmap_forever, .call = "mmap", .forever = true),
		FAULT(munmap_once, .call = "munmap", .strict = true),
		FAULT(munmap_forever, .call = "munmap", .forever = true, .strict = true),
		FAULT(mremap_once, .call = "mremap", .strict = true),
		FAULT(mremap_forever, .call = "mremap", .forever = true, .strict = true),
		FAULT(madvise_once, .call = "madvise", .strict = true),
		FAULT(madvise_forever, .call = "madvise", .forever = true, .strict = true),
		FAULT(mprotect_once, .call = "mprotect"),
		FAULT(mprotect_forever, .call = "mprotect", .forever = true),
		FAULT(sbrk_once, .call = "sbrk", .strict = true),
		FAULT(sbrk_forever, .call = "sbrk", .forever = true, .strict = true),
		FAULT(pthread_create_once, .call = "pthread_create"),
		FAULT(pthread_create_forever, .call = "pthread_create", .forever = true),
		FAULT(foreign_sbrk_before_once, .call = "sbrk", .foreign = "FAULT_FOREIGN=before", .strict = true),
		FAULT(foreign_sbrk_before_forever, .call = "sbrk", .forever = true, .foreign = "FAULT_FOREIGN=before", .strict = true),
		FAULT(foreign_sbrk_after_once, .call = "sbrk", .foreign = "FAULT_FOREIGN=after", .strict = true),
		FAULT(foreign_sbrk_after_forever, .call = "sbrk", .forever = true, .foreign = "FAULT_FOREIGN=after", .strict = true),
		FAULT(window_close_range_once, .call = "close_range", .strict = true, .window = true),
		FAULT(window_memfd_create_once, .call = "memfd_create", .strict = true, .window = true),
		FAULT(window_madvise_once, .call = "madvise", .strict = true, .window = true),
		FAULT(window_pthread_create_once, .call = "pthread_create", .window = true),
		FAULT(window_mmap_once, .call = "mmap", .window = true),
		FAULT(hardened_mmap_once, .call = "mmap", .hardened = true),
		FAULT(hardened_mmap_forever, .call = "mmap", .forever = true, .hardened = true),
		FAULT(hardened_munmap_forever, .call = "munmap", .forever = true, .strict = true, .hardened = true),
		FAULT(hardened_mremap_forever, .call = "mremap", .forever = true, .strict = true, .hardened = true),
		FAULT(hardened_mprotect_once, .call = "mprotect", .hardened = true),
		FAULT(hardened_mprotect_forever, .call = "mprotect", .forever = true, .hardened = true),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
