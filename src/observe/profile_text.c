#include "observe/profile_text.h"

#include <errno.h>

#include "base/os.h"
#include "base/print.h"
#include "observe/profile.h"

void profile_text_flush(struct profile_text *t) {
	if (t->error == 0 && t->length > t->room) t->error = EFBIG;
	if (t->error == 0) {
		/* A pipe takes so few bytes at once or not at all. */
		do t->error = os_write(t->fd, t->text, t->length);
		while (t->error == EAGAIN && t->wait != NULL && t->wait(t->fd));
	}
	t->room -= min_size(t->length, t->room);
	t->length = 0;
}

void profile_text_put(struct profile_text *t, const char *format, ...) {
	if (sizeof t->text - t->length < 128) profile_text_flush(t); /* one piece is shorter */
	va_list args;
	va_start(args, format);
	t->length += print_text_args(t->text + t->length, sizeof t->text - t->length, format, args);
	va_end(args);
}

bool profile_text_put_maps(struct profile_text *t) {
	const int file = os_open_maps();
	profile_text_flush(t);
	while (file >= 0 && (t->length = os_read(file, t->text, sizeof t->text)) > 0) profile_text_flush(t);
	if (file >= 0) os_close(file);
	return file >= 0;
}

uint64_t profile_text_blocks(uint64_t blocks) {
	return (blocks + (1 << PROFILE_BLOCKS_SHIFT) / 2) >> PROFILE_BLOCKS_SHIFT;
}
