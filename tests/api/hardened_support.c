/* What the tests of hardened mode share. */
#include "hardened.h"

#include <signal.h>
#include <string.h>

const size_t sizes[HARDENED_SIZES] = {
	1, 8, 24, 100, 1000, 4096, 5000, 30000, 32760, 32761, 100000, 600000, 5 * MIB,
};

size_t size;

void expect_end(void (*body)(void *), int signal_, const char *text) {
	int status;
	const char *line = written_by_child(body, NULL, &status);
	if (status != 128 + signal_ ||
	    (signal_ == SIGABRT && (strncmp(line, "arenal: ", 8) != 0 || !strstr(line, text))))
		fail_msg("%zu bytes: ended with %d and wrote \"%s\" instead of \"%s\"", size, status, line, text);
}

void expect_report(void (*body)(void *), const char *text) {
	int status;
	const char *line = written_by_child(body, NULL, &status),
			   *found = text != NULL ? strstr(line, text) : NULL;
	const bool reported = found != NULL && strstr(line, "; the program goes on") != NULL &&
	                      strstr(line, "  freed by thread ") != NULL && strstr(found, "arenal: ") == NULL;
	if (status != 0 || (text != NULL ? !reported : *line != '\0'))
		fail_msg("%zu bytes: ended with %d and wrote \"%s\" instead of \"%s\"", size, status, line,
		         text != NULL ? text : "");
}
