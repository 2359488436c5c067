/* What goes out of the heap profile: the dump.
 *
 * It is text, of three parts. Lines of a name and its value, in this order:
 *     arenal-heap-profile VERSION      2
 *     sample BYTES                     from one sampled byte to the next, on average
 *     pid NUMBER
 *     time SECONDS                     since 1970
 * One line for each stack from which something was sampled, its numbers decimal and its frames hexadecimal,
 * innermost first; a frame is an address inside of the instruction that calls:
 *     stack LIVE_BLOCKS LIVE_BYTES TOTAL_BLOCKS TOTAL_BYTES FRAME...
 * One stack whose only frame is 0 stands for all that had no place in the table (PROFILE_STACKS): the tools
 * call it "(other)". The numbers are estimates of all that was allocated from there, by malloc or its
 * relatives: of what is not freed yet, and since the profile was started. One line for each loaded program
 * and library that has a build ID, both hexadecimal:
 *     object START BUILD_ID            START: where the first byte of its file is mapped
 * Then, with a line "maps" before it and "end" behind it, the text of /proc/self/maps; where there is no
 * /proc, such lines of what the loader knows, with 0 for what it does not. Version 1 has no objects. */
#include <string.h>

#include "base/build_id.h"
#include "base/conf.h"
#include "base/loaded.h"
#include "base/lock.h"
#include "base/print.h"
#include "observe/leaks.h"
#include "observe/profile.h"
#include "observe/profile_text.h"

static void put_stack(struct profile_text *w, uint32_t number, const struct profile_stack *s) {
	const struct profile_counts c = s->counts;
	if (c.total_bytes == 0) return; /* nothing is among the others */
	profile_text_put(w, "stack %lu %lu %lu %lu", profile_text_blocks(c.live_blocks), c.live_bytes,
	                 profile_text_blocks(c.total_blocks), c.total_bytes);
	if (number == 0) profile_text_put(w, " 0");
	for (uint32_t i = 0; i < s->frame_count; i++) profile_text_put(w, " %lx", s->frames[i]);
	profile_text_put(w, "\n");
}

static void put_loaded(struct profile_text *w) {
	struct loaded_segment s;
	for (size_t i = 0; loaded_segment(i, &s); i++) {
		profile_text_put(w, "%lx-%lx %s %lx 00:00 0 ", s.start, s.end, s.permissions, s.offset);
		for (const char *name = s.file; *name != 0; name += strnlen(name, 100))
			profile_text_put(w, "%.*s", 100, name);
		profile_text_put(w, "\n");
	}
}

static void put_object(void *writer, uintptr_t start, const struct build_id *id) {
	char text[2 * BUILD_ID_MAX + 1];
	build_id_text(text, id);
	profile_text_put(writer, "object %lx ", start);
	profile_text_put(writer, "%s\n", text);
}

static int dump(int fd, size_t room, bool (*wait)(int fd)) {
	struct profile_text w = { .fd = fd, .room = room, .wait = wait };
	profile_text_put(&w, "arenal-heap-profile 2\nsample %lu\npid %d\ntime %lu\n", profile_mean(),
	                 os_process_id(), os_date() / 1000000000);
	struct profile_stack s;
	for (uint32_t i = 0; profile_stack(i, &s); i++) put_stack(&w, i, &s);
	build_id_of_all(put_object, &w);
	profile_text_put(&w, "maps\n");
	if (!profile_text_put_maps(&w)) put_loaded(&w);
	profile_text_put(&w, "end\n");
	profile_text_flush(&w);
	return w.error;
}

int profile_dump(int fd) { return dump(fd, SIZE_MAX, NULL); }
int profile_dump_within(int fd, size_t room) { return dump(fd, room, NULL); }
int profile_dump_to_pipe(int fd, bool (*wait)(int fd)) { return dump(fd, SIZE_MAX, wait); }

/* ---- at exit ---- */

void profile_at_exit(void) {
	if (profile_mean() == 0) return;
	if (conf_files.profile_file[0] != 0) profile_file_write();
	if (conf.leaks == LEAKS_HELD) leaks_report_held();
}
