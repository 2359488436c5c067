/* malloc_stats_print: the nodes as text for people, or as JSON. Both have the order and the names of
 * jemalloc's, as far as there are such nodes; figures of ours follow in the table of ARENAL_STATS=1. */
#include <string.h>

#include "arena/size_class.h"
#include "base/os.h"
#include "base/print.h"
#include "jemalloc/ctl.h"
#include "jemalloc/figures.h"
#include "jemalloc/jemalloc.h"
#include "observe/stats.h"

static void write_to_stderr(void *opaque, const char *text) {
	(void)opaque;
	os_write(2, text, strlen(text));
}

/* A program may put its own in there. Data is bound by the loader, to the program's copy if it has one. */
WEAK_EXPORT void (*PUBLIC(malloc_message))(void *opaque, const char *text);

struct writer {
	void (*write)(void *opaque, const char *text);
	void *opaque;
	bool comma; /* JSON: before the next member */
};

static void put(const struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(const struct writer *w, const char *format, ...) {
	char text[512];
	va_list args;
	va_start(args, format);
	print_text_args(text, sizeof text, format, args);
	va_end(args);
	w->write(w->opaque, text);
}

/* ---- values ---- */

static void put_value(const struct writer *w, uint8_t type, uint64_t value, bool quoted) {
	const char *text = (const char *)(uintptr_t)value;
	if (type == CTL_BOOL)
		put(w, "%s", value ? "true" : "false");
	else if (type == CTL_STRING)
		put(w, quoted ? "\"%s\"" : "%s", text);
	else if (type == CTL_SIGNED)
		put(w, "%ld", (long)value);
	else
		put(w, "%lu", (unsigned long)value);
}

/* What the node's name has behind this prefix; NULL: it has another one, or numbers. */
static const char *name_behind(const struct ctl_node *node, const char *prefix) {
	const size_t length = strlen(prefix);
	if (strncmp(node->name, prefix, length) != 0) return NULL;
	const char *rest = node->name + length;
	return strchr(rest, '*') == NULL && node->type != CTL_VOID && node->type != CTL_POINTER ? rest : NULL;
}

static void put_name(const char *name, char *text, size_t size) {
	print_text(text, size, "%s", name);
	for (char *c = text; *c != 0; c++)
		if (*c == '.') *c = '_';
}

/* ---- JSON ---- */

static void open_object(struct writer *w, const char *name) {
	put(w, w->comma ? ",\"%s\":{" : "\"%s\":{", name);
	w->comma = false;
}

static void close_object(struct writer *w) {
	put(w, "}");
	w->comma = true;
}

/* The nodes with this prefix, of these numbers. */
static void put_members(struct writer *w, const char *prefix, const size_t *numbers) {
	const struct ctl_node *node;
	for (size_t n = 0; (node = ctl_node_at(n)) != NULL; n++) {
		const char *rest = name_behind(node, prefix);
		uint64_t value;
		if (rest == NULL || ctl_read(n, numbers, &value) != 0) continue;
		char name[64];
		put_name(rest, name, sizeof name);
		put(w, w->comma ? ",\"%s\":" : "\"%s\":", name);
		put_value(w, node->type, value, true);
		w->comma = true;
	}
}

static void put_object(struct writer *w, const char *name, const char *prefix, const size_t *numbers) {
	open_object(w, name);
	put_members(w, prefix, numbers);
	close_object(w);
}

static void put_bins(struct writer *w, size_t arena) {
	put(w, ",\"bins\":[");
	for (size_t i = 0; i < CLASS_COUNT - 1; i++) {
		const size_t numbers[CTL_NUMBERS] = { arena, i };
		put(w, i > 0 ? ",{" : "{");
		w->comma = false;
		put_members(w, "stats.arenas.*.bins.*.", numbers);
		put(w, "}");
	}
	put(w, "]");
	w->comma = true;
}

static void put_arena(struct writer *w, const char *name, size_t number, bool bins) {
	const size_t numbers[CTL_NUMBERS] = { number };
	open_object(w, name);
	put_members(w, "stats.arenas.*.", numbers);
	if (bins) put_bins(w, number);
	close_object(w);
}

static void put_json(struct writer *w, const char *options) {
	static const size_t none[CTL_NUMBERS];
	put(w, "{\"jemalloc\":{\"version\":\"%s\"", JEMALLOC_VERSION_TOLD);
	w->comma = true;
	if (strchr(options, 'g') == NULL) {
		put_object(w, "config", "config.", none);
		put_object(w, "opt", "opt.", none);
		put_object(w, "prof", "prof.", none);
		put_object(w, "arenas", "arenas.", none);
	}
	put_object(w, "stats", "stats.", none);
	open_object(w, "stats.arenas");
	const bool bins = strchr(options, 'b') == NULL;
	if (strchr(options, 'm') == NULL) put_arena(w, "merged", CTL_ALL, bins);
	for (size_t i = 0; strchr(options, 'a') == NULL && i < ctl_arena_count(); i++) {
		char name[24];
		print_text(name, sizeof name, "%zu", i);
		put_arena(w, name, i, bins);
	}
	close_object(w);
	put(w, "}}\n");
}

/* ---- text ---- */

static void put_lines(const struct writer *w, const char *prefix) {
	static const size_t none[CTL_NUMBERS];
	const struct ctl_node *node;
	for (size_t n = 0; (node = ctl_node_at(n)) != NULL; n++) {
		uint64_t value;
		if (name_behind(node, prefix) == NULL || ctl_read(n, none, &value) != 0) continue;
		put(w, "  %s: ", node->name);
		put_value(w, node->type, value, false);
		put(w, "\n");
	}
}

static void put_text(const struct writer *w, const char *options) {
	put(w, "___ Begin jemalloc statistics ___\nVersion: \"%s\"\n", JEMALLOC_VERSION_TOLD);
	if (strchr(options, 'g') == NULL) {
		put(w, "Build-time option settings\n");
		put_lines(w, "config.");
		put(w, "Run-time option settings\n");
		put_lines(w, "opt.");
	}
	struct total_figures f;
	total_figures_get(&f);
	put(w, "Allocated: %zu, active: %zu, metadata: %zu, resident: %zu, mapped: %zu, retained: 0\n",
	    f.allocated, f.active, f.metadata, f.resident, f.mapped);
	stats_print_by(w->write, w->opaque);
	put(w, "--- End jemalloc statistics ---\n");
}

EXPORT void PUBLIC(malloc_stats_print)(void (*write)(void *opaque, const char *text), void *opaque,
                                       const char *options) {
	ensure_started();
	if (write == NULL) write = PUBLIC(malloc_message) != NULL ? PUBLIC(malloc_message) : write_to_stderr;
	if (options == NULL) options = "";
	struct writer w = { write, opaque, false };
	if (strchr(options, 'J') != NULL)
		put_json(&w, options);
	else
		put_text(&w, options);
}
