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

struct writer {
	int fd, error;
	size_t length;
	char text[1024];
};

static void flush(struct writer *w) {
	if (w->error == 0) w->error = os_write(w->fd, w->text, w->length);
	w->length = 0;
}

static void put(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct writer *w, const char *format, ...) {
	if (sizeof w->text - w->length < 128) flush(w); /* one piece is shorter */
	va_list args;
	va_start(args, format);
	w->length += print_text_args(w->text + w->length, sizeof w->text - w->length, format, args);
	va_end(args);
}

/* Whole ones, and not none where there are bytes. */
static uint64_t whole(uint64_t blocks) {
	const uint64_t rounded = (blocks + (1 << PROFILE_BLOCKS_SHIFT) / 2) >> PROFILE_BLOCKS_SHIFT;
	return rounded == 0 && blocks > 0 ? 1 : rounded;
}

static void put_counts(struct writer *w, const struct profile_counts *c) {
	put(w, "  t*: %lu: %lu ", whole(c->live_blocks), c->live_bytes);
	put(w, "[%lu: %lu]\n", whole(c->total_blocks), c->total_bytes);
}

static void put_sums(struct writer *w) {
	struct profile_counts sums = { 0 };
	struct profile_stack s;
	for (uint32_t i = 0; profile_stack(i, &s); i++) {
		sums.live_blocks += s.counts.live_blocks;
		sums.live_bytes += s.counts.live_bytes;
		sums.total_blocks += s.counts.total_blocks;
		sums.total_bytes += s.counts.total_bytes;
	}
	put(w, "heap_v2/1\n");
	put_counts(w, &sums);
}

static void put_stacks(struct writer *w) {
	struct profile_stack s;
	for (uint32_t i = 0; profile_stack(i, &s); i++) {
		if (s.counts.total_bytes == 0) continue;
		put(w, "@");
		if (s.frame_count == 0) put(w, " 0x0");
		for (uint32_t f = 0; f < s.frame_count; f++) put(w, " 0x%lx", s.frames[f]);
		put(w, "\n");
		put_counts(w, &s.counts);
	}
}

static void put_maps(struct writer *w) {
	const int file = os_open_maps();
	put(w, "\nMAPPED_LIBRARIES:\n");
	flush(w);
	while (file >= 0 && (w->length = os_read(file, w->text, sizeof w->text)) > 0) flush(w);
	if (file >= 0) os_close(file);
}

static int dump_to(const char *name) {
	int error = os_may_replace(name);
	if (error != 0) return error;
	os_remove_file(name);
	struct writer w = { .fd = os_create_file(name) };
	if (w.fd < 0) return -w.fd;
	put_sums(&w);
	put_stacks(&w);
	put_maps(&w);
	flush(&w);
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
