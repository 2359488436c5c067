/* Reads traces for tools/arenal: what they hold as text or JSON, and a program that does again what was recorded. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "replay.h"

static const char *const names[TRACE_OPS] = { "", "malloc", "calloc", "aligned", "free", "move", "realloc", "failed" };

/* One line per event: nanoseconds, thread, call, address, size, alignment, family. */
static void print_events(struct trace *t) {
	for (struct event e; trace_next(t, &e);)
		printf("%lu %u %s %lx %lu %lu %u\n", e.ns, t->threads[e.thread].tid, names[e.op], e.address, e.size,
		       e.align_log > 0 ? 1ul << e.align_log : 0, e.family);
}

static unsigned long number(const char *text) {
	char *end;
	errno = 0;
	const unsigned long value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != 0 || errno != 0 || value > UINT32_MAX) fail("%s is no number", text);
	return value;
}

int main(int count, char **words) {
	if (count != 4 && count != 5)
		fail("usage: arenal-trace events|summary|digest FILE PID, or arenal-trace replay FILE PID SECONDS; PID 0: the process with the most calls");
	if (strcmp(words[1], "replay") == 0 && count == 5) {
		replay(words[2], (uint32_t)number(words[3]), number(words[4]));
		return 0;
	}
	struct trace t;
	trace_open(&t, words[2], (uint32_t)number(words[3]));
	if (strcmp(words[1], "events") == 0)
		print_events(&t);
	else if (strcmp(words[1], "summary") == 0)
		print_summary(&t);
	else if (strcmp(words[1], "digest") == 0)
		print_digest(&t);
	else
		fail("there is no command %s", words[1]);
	if (fflush(stdout) != 0 || ferror(stdout)) fail("what was found out could not be written: %s", strerror(errno));
	return 0;
}
