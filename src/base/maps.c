#include "base/maps.h"

#include <string.h>

#include "base/os.h"

uint64_t maps_read_hex(const char **text) {
	uint64_t n = 0;
	for (;; (*text)++) {
		const char c = **text;
		if (c >= '0' && c <= '9')
			n = n * 16 + (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n * 16 + (uint64_t)(c - 'a') + 10;
		else
			return n;
	}
}

/* "START-END PERMISSIONS OFFSET DEVICE INODE   FILE". False: it is none. */
static bool read_line(const char *text, struct maps_line *line) {
	const char *at = text;
	line->start = maps_read_hex(&at);
	if (*at++ != '-') return false;
	line->end = maps_read_hex(&at);
	if (*at++ != ' ') return false;
	line->permissions = at;
	at = strchr(at, ' ');
	if (at++ == NULL) return false;
	line->offset = maps_read_hex(&at);
	/* Nothing before it has these. */
	const char *file = strpbrk(at, "/[");
	line->file = file != NULL ? file : at + strlen(at);
	return true;
}

bool maps_read(void (*look)(const struct maps_line *line)) {
	static char text[4096 + 1]; /* the kernel gives no more of this file at once, and whole lines */
	const int file = os_open_maps();
	if (file < 0) return false;
	struct maps_line line;
	size_t length, kept = 0; /* of a line that is cut, the beginning is kept */
	while ((length = os_read(file, text + kept, sizeof text - kept)) > 0) {
		char *at = text, *end;
		for (; (end = strchr(at, '\n')) != NULL; at = end + 1) {
			*end = 0;
			if (read_line(at, &line)) look(&line);
		}
		kept = strlen(at);
		if (kept == sizeof text - 1) kept = 0; /* in the middle of a very long name */
		memmove(text, at, kept);
	}
	os_close(file);
	return true;
}
