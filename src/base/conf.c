#include "base/conf.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/conf_jemalloc.h"
#include "base/os.h"
#include "base/print.h"

/* Defaults: measured on the public suites, see src/README.md. Names: arena/policy.h depends on them. */
struct conf conf = {
	.arena_max = 0,
	.tcache_max = (int64_t)CONF_TCACHE_MAX,
	.mmap_threshold = (int64_t)CONF_MMAP_THRESHOLD,
	.trim_threshold = (int64_t)CONF_TRIM_THRESHOLD,
	.top_pad = (int64_t)CONF_TOP_PAD,
	.dirty_max = -1,
	.decay = CONF_DECAY,
	.thp = -1,
	.memory_limit = 0,
	.cap = 0,
	.names = 0,
	.background = 1,
	.lazy_purge = 0,
	.guard_sample = 5000,
	.profile = 0,
	.profile_sample = (int64_t)(512 * KIB),
	.profile_seconds = 0,
	.profile_bytes = 0,
	.profile_growth = 0,
	.profile_signal = 0,
	.profile_term = 0,
	.profile_keep = 10,
	.leaks = 0,
	.leaks_exit = 0,
	.harden = 0,
	.misuse = MISUSE_DEFAULT,
	.misuse_size = MISUSE_DEFAULT,
	.misuse_family = MISUSE_DEFAULT,
	.window = -1,
	.deepbind = 0,
	.sandbox = -1,
	.stats = 0,
};

#define BYTES_MAX ((int64_t)1 << 46)

static const char *const misuse_actions[] = {
	[MISUSE_IGNORE] = "ignore",
	[MISUSE_REPORT] = "report",
	[MISUSE_END] = "end",
};

static const char *const leaks_kinds[] = { "none", "held", "reach" };

const struct tunable tunables[] = {
	{ "arena_max", "MALLOC_ARENA_MAX", &conf.arena_max, 0, 1024, false, NULL },
	{ "tcache_max", NULL, &conf.tcache_max, 0, BYTES_MAX, true, NULL },
	{ "mmap_threshold", "MALLOC_MMAP_THRESHOLD_", &conf.mmap_threshold, 0, BYTES_MAX, true, NULL },
	{ "trim_threshold", "MALLOC_TRIM_THRESHOLD_", &conf.trim_threshold, -1, BYTES_MAX, true, NULL },
	{ "top_pad", "MALLOC_TOP_PAD_", &conf.top_pad, 0, BYTES_MAX, true, NULL },
	{ "dirty_max", NULL, &conf.dirty_max, -1, BYTES_MAX, true, NULL },
	{ "decay", NULL, &conf.decay, -1, 1000 * 1000 * 1000, true, NULL },
	{ "thp", NULL, &conf.thp, -1, 1, true, NULL },
	{ "memory_limit", NULL, &conf.memory_limit, -1, BYTES_MAX, true, NULL },
	{ "cap", NULL, &conf.cap, 0, BYTES_MAX, true, NULL },
	{ "names", NULL, &conf.names, 0, 1, true, NULL },
	{ "background", NULL, &conf.background, 0, 1, true, NULL },
	{ "lazy_purge", NULL, &conf.lazy_purge, 0, 1, true, NULL },
	{ "guard_sample", NULL, &conf.guard_sample, 0, 1000 * 1000 * 1000, true, NULL },
	{ "profile", NULL, &conf.profile, 0, 1, false, NULL },
	{ "profile_sample", NULL, &conf.profile_sample, 1, (int64_t)GIB, true, NULL },
	{ "profile_seconds", NULL, &conf.profile_seconds, 0, 1000 * 1000 * 1000, true, NULL },
	{ "profile_bytes", NULL, &conf.profile_bytes, 0, BYTES_MAX, true, NULL },
	{ "profile_growth", NULL, &conf.profile_growth, 0, 1000 * 1000, true, NULL },
	{ "profile_signal", NULL, &conf.profile_signal, 0, 64, false, NULL },
	{ "profile_term", NULL, &conf.profile_term, 0, 1, false, NULL },
	{ "profile_keep", NULL, &conf.profile_keep, 1, 1000, true, NULL },
	{ "leaks", NULL, &conf.leaks, 0, 2, false, leaks_kinds },
	{ "leaks_exit", NULL, &conf.leaks_exit, 0, 255, true, NULL },
	{ "harden", NULL, &conf.harden, 0, 1, false, NULL },
	{ "misuse", NULL, &conf.misuse, MISUSE_DEFAULT, MISUSE_END, true, misuse_actions },
	{ "misuse_size", NULL, &conf.misuse_size, MISUSE_DEFAULT, MISUSE_END, true, misuse_actions },
	{ "misuse_family", NULL, &conf.misuse_family, MISUSE_DEFAULT, MISUSE_END, true, misuse_actions },
	{ "window", NULL, &conf.window, -1, 1, true, NULL },
	{ "deepbind", NULL, &conf.deepbind, 0, 1, true, NULL },
	{ "sandbox", NULL, &conf.sandbox, -1, 1, false, NULL },
	{ "stats", NULL, &conf.stats, 0, 1, true, NULL },
	{ NULL, NULL, NULL, 0, 0, false, NULL },
};

struct conf_files conf_files;

static const struct file_variable {
	const char *name;
	char *path;
} file_variables[] = {
	{ "ARENAL_PROFILE_FILE", conf_files.profile_file },
	{ "ARENAL_TRACE_FILE", conf_files.trace_file },
	{ "ARENAL_LEAKS_IGNORE", conf_files.leaks_ignore },
};

#define PREFIX "ARENAL_"
#define PREFIX_LENGTH (sizeof PREFIX - 1)

/* Variables with our prefix that belong to others: the list of all tunables, and what tools/arenal reads. */
#define LIST_VARIABLE "ARENAL_CONF"
#define TOOL_VARIABLE "ARENAL_LIBRARY"

bool conf_parse(const char *text, size_t length, int64_t *value) {
	const char *end = text + length;
	bool negative = text < end && *text == '-';
	if (negative) text++;
	if (text == end || *text < '0' || *text > '9') return false;
	uint64_t n = 0;
	for (; text < end && *text >= '0' && *text <= '9'; text++) {
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return false;
	}
	if (text < end) {
		static const char units[] = "KMG";
		char unit = (char)(*text++ & ~0x20);
		const char *known = unit == 0 ? NULL : strchr(units, unit);
		if (known == NULL || text != end) return false;
		uint64_t factor = UINT64_C(1) << (10 * (known - units + 1));
		if (__builtin_mul_overflow(n, factor, &n)) return false;
	}
	if (n > INT64_MAX) return false;
	*value = negative ? -(int64_t)n : (int64_t)n;
	return true;
}

static bool same_name(const char *name, const char *text, size_t length) {
	return strlen(name) == length && memcmp(name, text, length) == 0;
}

static const struct tunable *find(const char *text, size_t length) {
	for (const struct tunable *t = tunables; t->name != NULL; t++)
		if (same_name(t->name, text, length)) return t;
	return NULL;
}

/* ARENA_MAX and the like: the tunable whose name it is in capitals. */
static const struct tunable *find_variable(const char *text, size_t length) {
	char name[32];
	if (length >= sizeof name) return NULL;
	for (size_t i = 0; i < length; i++)
		name[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]);
	for (size_t i = 0; i < length; i++)
		if (text[i] >= 'a' && text[i] <= 'z') return NULL;
	return find(name, length);
}

static bool may_look = true; /* who reads stderr: not where calls are forbidden (says_sandbox) */

void conf_complain(const char *format, ...) {
	char line[512];
	va_list args;
	va_start(args, format);
	size_t length = print_text_args(line, sizeof line - 1, format, args);
	va_end(args);
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 127) line[i] = '?';
	line[length++] = '\n';
	if (!may_look || os_takes_text(STDERR_FILENO)) os_write(STDERR_FILENO, line, length);
}

static void complain(const char *what, const char *text, size_t length, const char *why) {
	conf_complain("arenal: %s: \"%.*s\" %s; ignored", what, (int)min_size(length, 128), text, why);
}

/* A number, or the word for one. */
static bool parse_value(const struct tunable *t, const char *text, size_t length, int64_t *value) {
	for (int64_t i = 0; t->words != NULL && i <= t->max; i++) {
		if (!same_name(t->words[i], text, length)) continue;
		*value = i;
		return true;
	}
	return conf_parse(text, length, value);
}

static void complain_of_word(const struct tunable *t, const char *variable, const char *text, size_t length) {
	char why[96] = "is not one of";
	for (int64_t i = 0; i <= t->max; i++) {
		const size_t used = strlen(why);
		print_text(why + used, sizeof why - used, "%s \"%s\"", i == 0 ? "" : ",", t->words[i]);
	}
	const size_t used = strlen(why);
	print_text(why + used, sizeof why - used, ", nor a number");
	complain(variable, text, length, why);
}

static void set_from_text(const struct tunable *t, const char *variable, const char *text, size_t length) {
	int64_t value;
	if (!parse_value(t, text, length, &value)) {
		if (t->words == NULL)
			complain(variable, text, length, "is no number (a suffix K, M or G is allowed)");
		else
			complain_of_word(t, variable, text, length);
	} else if (value < t->min || value > t->max) {
		char why[96];
		print_text(why, sizeof why, "is not in the range from %ld to %ld", (long)t->min, (long)t->max);
		complain(variable, text, length, why);
	} else {
		*t->value = value;
	}
}

static void set_from_list_entry(const struct tunable *t, const char *text, size_t length) {
	char what[64];
	print_text(what, sizeof what, LIST_VARIABLE ", %s", t->name);
	set_from_text(t, what, text, length);
}

/* name:value,name:value */
static void set_from_list(const char *text) {
	while (*text != 0) {
		size_t length = strcspn(text, ",");
		const char *colon = memchr(text, ':', length);
		size_t name_length = colon != NULL ? (size_t)(colon - text) : length;
		const struct tunable *t = find(text, name_length);
		if (length > 0 && colon == NULL)
			complain(LIST_VARIABLE, text, length, "is not of the form name:value");
		else if (length > 0 && t == NULL)
			complain(LIST_VARIABLE, text, name_length, "is no tunable");
		else if (length > 0)
			set_from_list_entry(t, colon + 1, length - name_length - 1);
		text += length + (text[length] == ',');
	}
}

/* True when the variable is one that names a file. */
static bool load_file(const char *variable, size_t length, const char *path) {
	for (size_t i = 0; i < sizeof file_variables / sizeof file_variables[0]; i++) {
		const struct file_variable *v = &file_variables[i];
		if (!same_name(v->name, variable, length)) continue;
		if (strlen(path) < CONF_PATH_MAX)
			memcpy(v->path, path, strlen(path) + 1);
		else
			complain(v->name, path, 32, "and so on is too long for a path");
		return true;
	}
	return false;
}

enum pass { GLIBC_NAMES, LIST, OWN_NAMES, PASSES };

static void load_variable(enum pass pass, const char *variable) {
	const char *equals = strchr(variable, '=');
	if (equals == NULL) return;
	size_t length = (size_t)(equals - variable);
	const char *value = equals + 1;
	if (*value == 0) return; /* as if it were not there: so unit files and Dockerfiles take a setting back */
	if (pass == GLIBC_NAMES) {
		for (const struct tunable *t = tunables; t->name != NULL; t++)
			if (t->glibc_name != NULL && same_name(t->glibc_name, variable, length))
				set_from_text(t, t->glibc_name, value, strlen(value));
		return;
	}
	if (strncmp(variable, PREFIX, PREFIX_LENGTH) != 0 || length <= PREFIX_LENGTH) return;
	if (same_name(TOOL_VARIABLE, variable, length)) return;
	bool is_list = same_name(LIST_VARIABLE, variable, length);
	if (pass == LIST && is_list) set_from_list(value);
	if (pass != OWN_NAMES || is_list || load_file(variable, length, value)) return;
	const struct tunable *t = find_variable(variable + PREFIX_LENGTH, length - PREFIX_LENGTH);
	char name[64];
	print_text(name, sizeof name, "%.*s", (int)length, variable);
	if (t == NULL)
		complain(name, value, strlen(value), "sets no tunable that Arenal knows");
	else
		set_from_text(t, name, value, strlen(value));
}

/* Before all is read: from the start on, may no call be made that glibc's malloc does not make? */
static bool says_sandbox(char **environment) {
	for (char **e = environment; *e != NULL; e++)
		if (strncmp(*e, PREFIX, PREFIX_LENGTH) == 0 &&
		    (strcmp(*e, PREFIX "SANDBOX=1") == 0 || strstr(*e, "sandbox:1") != NULL))
			return true;
	return false;
}

bool conf_is_given(void) {
	char **environment = os_environ();
	if (environment == NULL) return false;
	for (char **e = environment; *e != NULL; e++)
		if (strncmp(*e, PREFIX, PREFIX_LENGTH) == 0) return true;
	return conf_jemalloc_is_given(environment, true); /* nobody says that there is a sandbox */
}

bool conf_load(void) {
	char **environment = os_environ();
	if (environment == NULL) return false;
	if (os_is_secure()) return true;
	may_look = !says_sandbox(environment);
	/* What is said more specifically comes later and wins: glibc's names, jemalloc's options, our list, our
	 * variables. */
	for (enum pass pass = GLIBC_NAMES; pass < PASSES; pass++) {
		for (char **e = environment; *e != NULL; e++) load_variable(pass, *e);
		if (pass == GLIBC_NAMES) conf_load_jemalloc(environment, may_look);
	}
	return true;
}

int conf_set(const char *name, int64_t value) {
	const struct tunable *t = find(name, strlen(name));
	if (t == NULL) return ENOENT;
	if (value < t->min || value > t->max) return EINVAL;
	if (!t->live) return EPERM;
	*t->value = value;
	return 0;
}

int conf_get(const char *name, int64_t *value) {
	const struct tunable *t = find(name, strlen(name));
	if (t == NULL) return ENOENT;
	*value = *t->value;
	return 0;
}
