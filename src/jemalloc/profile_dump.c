/* A dump is text:
 *     heap_v2/1
 *       t*: BLOCKS: BYTES [TOTAL_BLOCKS: TOTAL_BYTES]
 * then for each stack a line "@ FRAME...", and one as above; then "MAPPED_LIBRARIES:", and the maps.
 * t* stands for all threads. The number behind heap_v2 is what one byte in so many was sampled by, from which
 * the reader works out estimates: ours are estimates already. */
#include "jemalloc/profile_dump.h"

#include <errno.h>

#include "base/conf_jemalloc.h"
#include "base/os.h"
#include "base/print.h"
#include "observe/profile.h"
#include "observe/profile_text.h"

/* Whole ones, and not none where there are bytes. */
static uint64_t whole(uint64_t blocks) {
	const uint64_t rounded = profile_text_blocks(blocks);
	return rounded == 0 && blocks > 0 ? 1 : rounded;
}

static void put_counts(struct profile_text *w, const struct profile_counts *c) {
	profile_text_put(w, "  t*: %lu: %lu ", whole(c->live_blocks), c->live_bytes);
	profile_text_put(w, "[%lu: %lu]\n", whole(c->total_blocks), c->total_bytes);
}

static void put_sums(struct profile_text *w) {
	struct profile_counts sums = { 0 };
	struct profile_stack s;
	for (uint32_t i = 0; profile_stack(i, &s); i++) {
		sums.live_blocks += s.counts.live_blocks;
		sums.live_bytes += s.counts.live_bytes;
		sums.total_blocks += s.counts.total_blocks;
		sums.total_bytes += s.counts.total_bytes;
	}
	profile_text_put(w, "heap_v2/1\n");
	put_counts(w, &sums);
}

static void put_stacks(struct profile_text *w) {
	struct profile_stack s;
	for (uint32_t i = 0; profile_stack(i, &s); i++) {
		if (s.counts.total_bytes == 0) continue;
		profile_text_put(w, "@");
		if (s.frame_count == 0) profile_text_put(w, " 0x0");
		for (uint32_t f = 0; f < s.frame_count; f++) profile_text_put(w, " 0x%lx", s.frames[f]);
		profile_text_put(w, "\n");
		put_counts(w, &s.counts);
	}
}

static int dump_to(const char *name) {
	int error = os_may_replace(name);
	if (error != 0) return error;
	os_remove_file(name);
	struct profile_text w = { .fd = os_create_file(name), .room = SIZE_MAX };
	if (w.fd < 0) return -w.fd;
	put_sums(&w);
	put_stacks(&w);
	profile_text_put(&w, "\nMAPPED_LIBRARIES:\n");
	profile_text_put_maps(&w);
	profile_text_flush(&w);
	error = os_close(w.fd);
	return w.error != 0 ? w.error : error;
}

int profile_dump_as_jemalloc(const char *name, char kind) {
	static _Atomic unsigned dumps;
	char made[sizeof conf_jemalloc.prof_prefix + 64];
	if (name != NULL) return dump_to(name);
	const unsigned n = atomic_fetch_add_explicit(&dumps, 1, memory_order_relaxed);
	const size_t length =
	    print_text(made, sizeof made, "%s.%d.%u.%c", conf_jemalloc.prof_prefix, os_process_id(), n, kind);
	print_text(made + length, sizeof made - length, kind == 'f' ? ".heap" : "%u.heap", n);
	return dump_to(made);
}

__attribute__((destructor)) static void dump_at_exit(void) {
	if (conf_jemalloc.prof_final && profile_mean() != 0) profile_dump_as_jemalloc(NULL, 'f');
}
