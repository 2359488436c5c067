#include "base/conf_jemalloc.h"

#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/os.h"

struct conf_jemalloc conf_jemalloc = { .prof_prefix = "jeprof" };

/* A program has one of this name when it says something. Data is bound by the loader, to the program's. */
extern const char *malloc_conf;
__attribute__((weak, visibility("default"))) const char *malloc_conf;

#define LONGEST 4096 /* of what it may say */
#define LEAST_PAGE 4096

/* What a program has by this name may be anything, a number or a function: then it is no text of printable
 * characters, or lies nowhere. NULL: nothing is said. */
static const char *said_by_program(void) {
	const char *text = malloc_conf;
	if (text == NULL) return NULL;
	for (const char *c = text; c - text < LONGEST; c++) {
		const bool new_page = c == text || (uintptr_t)c % LEAST_PAGE == 0;
		if (new_page && !os_is_readable((const char *)((uintptr_t)c & ~(uintptr_t)3))) return NULL;
		if (*c == 0) return text;
		if (*c < ' ' || *c > '~') return NULL;
	}
	return NULL;
}

/* ---- values ---- */

struct text {
	const char *start;
	size_t length;
};

static bool is(struct text t, const char *word) {
	return strlen(word) == t.length && memcmp(word, t.start, t.length) == 0;
}

static bool parse_bool(struct text t, bool *value) {
	*value = is(t, "true");
	return *value || is(t, "false");
}

/* A number that begins with 0x is hexadecimal, and one that begins with 0 octal, as in C. */
static bool parse_as_c(struct text t, int64_t *value) {
	const bool hex = t.length > 2 && t.start[0] == '0' && (t.start[1] | 0x20) == 'x';
	if (t.length < 2 || t.start[0] != '0') return conf_parse(t.start, t.length, value);
	*value = 0;
	for (size_t i = hex ? 2 : 1; i < t.length; i++) {
		const char c = t.start[i], letter = (char)(c | 0x20);
		const int digit = c >= '0' && c <= '9' ? c - '0' : letter >= 'a' ? letter - 'a' + 10 : 16;
		const int base = hex ? 16 : 8;
		if (digit >= base || __builtin_mul_overflow(*value, base, value)) return false;
		*value += digit;
	}
	return true;
}

/* A number, cut to the most. False: it is none, or below the least; -5 is not -1, which may mean "never". */
static bool parse_number(struct text t, int64_t min, int64_t max, int64_t *value) {
	if (!parse_as_c(t, value)) return false;
	if (*value > max) *value = max;
	return *value >= min;
}

/* ---- options that have a counterpart ---- */

static bool set_background(struct text t) {
	bool on;
	if (!parse_bool(t, &on)) return false;
	conf.background = on;
	return true;
}

static bool set_dirty_decay(struct text t) {
	int64_t milliseconds;
	if (!parse_number(t, -1, 1000 * 1000 * 1000, &milliseconds)) return false;
	conf.decay = milliseconds;
	return true;
}

/* What went by MADV_FREE and is never purged for good is what lazy_purge does. */
static bool set_muzzy_decay(struct text t) {
	int64_t milliseconds;
	if (!parse_number(t, -1, INT64_MAX, &milliseconds)) return false;
	conf.lazy_purge = milliseconds < 0;
	return true;
}

static bool set_arenas(struct text t) {
	int64_t arenas = 0;
	if (!is(t, "default") && !parse_number(t, 1, 1024, &arenas)) return false;
	conf.arena_max = arenas;
	return true;
}

static bool set_tcache(struct text t) {
	bool on;
	if (!parse_bool(t, &on)) return false;
	conf.tcache_max = on ? (int64_t)CONF_TCACHE_MAX : 0;
	return true;
}

/* Which sizes are cached cannot be chosen here; but that none are. */
static bool set_tcache_max(struct text t) {
	int64_t bytes;
	if (!parse_number(t, 0, INT64_MAX, &bytes)) return false;
	if (bytes == 0) conf.tcache_max = 0;
	return true;
}

static bool set_thp(struct text t) {
	if (!is(t, "default") && !is(t, "always") && !is(t, "never")) return false;
	conf.thp = is(t, "always") ? 1 : is(t, "never") ? 0 : -1;
	return true;
}

static bool set_stats_print(struct text t) {
	bool on;
	if (!parse_bool(t, &on)) return false;
	conf.stats = on;
	return true;
}

static bool prof_active = true;

static bool set_prof(struct text t) { return parse_bool(t, &conf_jemalloc.prof); }
static bool set_prof_active(struct text t) { return parse_bool(t, &prof_active); }
static bool set_prof_final(struct text t) { return parse_bool(t, &conf_jemalloc.prof_final); }

static bool set_prof_leak(struct text t) {
	bool on;
	if (!parse_bool(t, &on)) return false;
	conf.leaks = on;
	return true;
}

static bool set_prof_sample(struct text t) {
	int64_t bits;
	if (!parse_number(t, 0, 30, &bits)) return false;
	conf.profile_sample = INT64_C(1) << bits;
	return true;
}

static bool set_prof_prefix(struct text t) {
	if (t.length >= sizeof conf_jemalloc.prof_prefix) return false;
	memcpy(conf_jemalloc.prof_prefix, t.start, t.length);
	conf_jemalloc.prof_prefix[t.length] = 0;
	return true;
}

static bool abort_conf;
static bool set_abort_conf(struct text t) { return parse_bool(t, &abort_conf); }

/* Names are in the tables, rather than pointers that the loader would have to write. */
static const struct option {
	char name[20];
	bool (*set)(struct text value); /* false: the value is none of this option's */
} options[] = {
	{ "abort_conf", set_abort_conf },
	{ "background_thread", set_background },
	{ "dirty_decay_ms", set_dirty_decay },
	{ "lg_prof_sample", set_prof_sample },
	{ "muzzy_decay_ms", set_muzzy_decay },
	{ "narenas", set_arenas },
	{ "prof", set_prof },
	{ "prof_active", set_prof_active },
	{ "prof_final", set_prof_final },
	{ "prof_leak", set_prof_leak },
	{ "prof_prefix", set_prof_prefix },
	{ "stats_print", set_stats_print },
	{ "tcache", set_tcache },
	{ "tcache_max", set_tcache_max },
	{ "thp", set_thp },
};

/* jemalloc's others, which are no mistake. */
static const char without_counterpart[][28] = {
	"abort",
	"bin_shards",
	"cache_oblivious",
	"calloc_madvise_threshold",
	"confirm_conf",
	"debug_double_free_max_scan",
	"disable_large_size_classes",
	"dss",
	"hpa",
	"hpa_*",
	"huge_arena_pac_thp",
	"experimental_*",
	"junk",
	"lg_extent_max_active_fit",
	"lg_prof_interval",
	"lg_san_*",
	"lg_tcache_*",
	"log",
	"max_background_threads",
	"metadata_thp",
	"mutex_max_spin",
	"narenas_ratio",
	"oversize_threshold",
	"percpu_arena",
	"process_madvise_max_batch",
	"prof_*",
	"retain",
	"san_*",
	"slab_sizes",
	"stats_interval*",
	"stats_print_opts",
	"tcache_*",
	"trust_madvise",
	"utrace",
	"xmalloc",
	"zero",
	"zero_realloc",
};

static bool is_without_counterpart(struct text name) {
	for (size_t i = 0; i < sizeof without_counterpart / sizeof *without_counterpart; i++) {
		const char *known = without_counterpart[i];
		const size_t length = strlen(known);
		const bool begins = known[length - 1] == '*' && name.length >= length - 1 &&
		                    memcmp(name.start, known, length - 1) == 0;
		if (begins || is(name, known)) return true;
	}
	return false;
}

/* ---- lists of options ---- */

static bool set(struct text name, struct text value) {
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (is(name, options[i].name)) return options[i].set(value);
	return is_without_counterpart(name);
}

/* name:value,name:value. Sets what the list begins with, up to the first entry that is none, or one without a
 * text: returns that; the list is what comes after it. */
static struct text set_until_wrong(const char **list) {
	while (**list != 0) {
		const struct text entry = { *list, strcspn(*list, ",") };
		const char *colon = memchr(entry.start, ':', entry.length);
		const size_t length = colon != NULL ? (size_t)(colon - entry.start) : entry.length;
		const bool right = colon != NULL && set((struct text){ entry.start, length },
		                                        (struct text){ colon + 1, entry.length - length - 1 });
		*list += entry.length + (entry.start[entry.length] == ',');
		if (!right && entry.length > 0) return entry;
	}
	return (struct text){ NULL, 0 };
}

static void tell(const char *where, struct text wrong, const char *what_follows) {
	conf_complain("arenal: %s: \"%.*s\" is no option of jemalloc's with a value that it may have%s", where,
	              (int)min_size(wrong.length, 128), wrong.start, what_follows);
}

/* As there, the operator hears of his mistakes, and who asks for it (abort_conf) is ended by them. Not as
 * there, a program's own are told only then: it may be written for another jemalloc. */
static void load(const char *where, const char *list, bool by_operator) {
	if (list == NULL) return;
	const char *rest = list;
	while (set_until_wrong(&rest).start != NULL) /* so abort_conf is known, wherever it stands */
		;
	rest = list;
	for (struct text wrong; (wrong = set_until_wrong(&rest)).start != NULL;) {
		if (abort_conf) {
			tell(where, wrong, ", and abort_conf is set");
			abort();
		}
		if (by_operator) tell(where, wrong, "; ignored");
	}
}

/* What /etc/malloc.conf is a link to; NULL: there is none. Asked once. */
static const char *linked_to(bool may_look) {
	enum { UNKNOWN, NONE, FOUND };
	static _Atomic int state;
	static char text[512];
	if (!may_look) return NULL;
	if (state == UNKNOWN) state = os_read_link("/etc/malloc.conf", text, sizeof text) ? FOUND : NONE;
	return state == FOUND ? text : NULL;
}

static const char *variable_of(char **environment) {
	static const char name[] = "MALLOC_CONF=";
	for (char **e = environment; *e != NULL; e++)
		if (strncmp(*e, name, sizeof name - 1) == 0) return *e + sizeof name - 1;
	return NULL;
}

void conf_load_jemalloc(char **environment, bool may_look) {
	load("malloc_conf", said_by_program(), false);
	load("/etc/malloc.conf", linked_to(may_look), true);
	load("MALLOC_CONF", variable_of(environment), true);
	if (conf_jemalloc.prof && prof_active) conf.profile = 1;
}

bool conf_jemalloc_is_given(char **environment, bool may_look) {
	return said_by_program() != NULL || variable_of(environment) != NULL || linked_to(may_look) != NULL;
}
