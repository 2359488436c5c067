#include "jemalloc/ctl.h"

#include <string.h>

#include "arena/arena.h"
#include "base/conf.h"
#include "jemalloc/jemalloc.h"

static const struct ctl_subject *const subjects[] = {
	&ctl_config, &ctl_options, &ctl_thread, &ctl_arenas, &ctl_profile, &ctl_stats, &ctl_arena_stats,
};

static const char ctl_words[][12] = {
	[WORD_NONE] = "",     [WORD_DISABLED] = "disabled", [WORD_FALSE] = "false",
	[WORD_FREE] = "free", [WORD_PRIMARY] = "primary",
};

/* Of the n-th of all nodes; NULL: there are fewer. *n becomes its number among those of the subject. */
static const struct ctl_subject *subject_of(size_t *n) {
	for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
		if (*n < subjects[i]->count) return subjects[i];
		*n -= subjects[i]->count;
	}
	return NULL;
}

const struct ctl_node *ctl_node_at(size_t n) {
	const struct ctl_subject *subject = subject_of(&n);
	return subject != NULL ? &subject->nodes[n] : NULL;
}

size_t ctl_arena_count(void) { return atomic_load_explicit(&arena_count, memory_order_acquire); }

/* ---- names ---- */

/* The digits at the name's start, up to a dot or its end. NULL: it does not begin with a number. */
static const char *parse_number(const char *name, size_t *number) {
	if (*name < '0' || *name > '9') return NULL;
	for (*number = 0; *name >= '0' && *name <= '9'; name++)
		if (__builtin_mul_overflow(*number, 10, number) ||
		    __builtin_add_overflow(*number, (size_t)(*name - '0'), number))
			return NULL;
	return *name == 0 || *name == '.' ? name : NULL;
}

static bool matches(const char *pattern, const char *name, size_t *numbers) {
	for (; *pattern != 0; pattern++) {
		if (*pattern == '*') {
			name = parse_number(name, numbers++);
			if (name == NULL) return false;
		} else if (*pattern != *name++) {
			return false;
		}
	}
	return *name == 0;
}

/* SIZE_MAX: no node has this name. */
static size_t find(const char *name, size_t *numbers) {
	const struct ctl_node *node;
	for (size_t n = 0; (node = ctl_node_at(n)) != NULL; n++)
		if (matches(node->name, name, numbers)) return n;
	return SIZE_MAX;
}

/* ---- names as numbers: a MIB ----
 *
 * A component that is a number stands for itself, so that programs may put others there. The last one is the
 * node; those before it tell the words, so that it can be seen whether all belong together. */

struct component {
	const char *start;
	size_t length;
};

/* The one at *rest, which goes on to the next; NULL then: it is the last. */
static struct component next_component(const char **rest) {
	const char *start = *rest;
	const size_t length = strcspn(start, ".");
	*rest = start[length] == '.' ? start + length + 1 : NULL;
	return (struct component){ start, length };
}

static size_t number_of_word(struct component c) {
	size_t hash = c.length;
	for (size_t i = 0; i < c.length; i++) hash = (hash ^ (unsigned char)c.start[i]) * 0x01000193;
	return hash & UINT32_MAX;
}

/* Writes down as much as there is room for. Returns how many components that is. */
static size_t write_mib(size_t n, const size_t *numbers, size_t *mib, size_t room) {
	size_t depth = 0;
	for (const char *rest = ctl_node_at(n)->name; rest != NULL && depth < room; depth++) {
		const struct component c = next_component(&rest);
		mib[depth] = *c.start == '*' ? *numbers++ : rest == NULL ? n : number_of_word(c);
	}
	return depth;
}

/* SIZE_MAX: there is no such node. */
static size_t find_mib(const size_t *mib, size_t depth, size_t *numbers) {
	const struct ctl_node *node = depth > 0 ? ctl_node_at(mib[depth - 1]) : NULL;
	const char *rest = node != NULL ? node->name : NULL;
	size_t i = 0;
	for (; rest != NULL && i < depth; i++) {
		const struct component c = next_component(&rest);
		if (*c.start == '*')
			*numbers++ = mib[i];
		else if (rest != NULL && mib[i] != number_of_word(c))
			return SIZE_MAX;
	}
	return node != NULL && rest == NULL && i == depth ? mib[depth - 1] : SIZE_MAX;
}

/* ---- values ---- */

static size_t size_of(enum ctl_type type) {
	switch (type) {
	case CTL_VOID: return 0;
	case CTL_BOOL: return sizeof(bool);
	case CTL_UNSIGNED:
	case CTL_UINT32: return sizeof(uint32_t);
	default: return sizeof(uint64_t);
	}
}

struct call {
	void *old;
	size_t *old_length;
	const void *new;
	size_t new_length;
};

/* As much as fits, and EINVAL when that is not all, or more. Little-endian: the low bytes come first. */
static int give(const struct call *c, enum ctl_type type, uint64_t value) {
	if (c->old == NULL || c->old_length == NULL) return 0;
	const size_t size = size_of(type), length = min_size(size, *c->old_length);
	memcpy(c->old, &value, length);
	const bool right = *c->old_length == size;
	*c->old_length = length;
	return right ? 0 : EINVAL;
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are copied from their low end");

static int take(const struct call *c, enum ctl_type type, uint64_t *value) {
	*value = 0;
	if (c->new_length != size_of(type)) return EINVAL;
	memcpy(value, c->new, c->new_length);
	if (type == CTL_BOOL && *value > 1) return EINVAL;
	return 0;
}

/* A node, and what a call wants of it. */
struct request {
	struct ctl_at at;
	const struct ctl_subject *subject;
	struct call call;
};

static int ask(const struct request *r) {
	const struct ctl_node *node = r->at.node;
	const struct call *c = &r->call;
	uint64_t value = 0;
	int error = c->new != NULL ? take(c, node->asked, &value) : 0;
	if (error == 0 && c->old != NULL && c->old_length != NULL && *c->old_length != size_of(node->type))
		error = give(c, node->type, 0); /* before anything is made that nobody hears of */
	if (error == 0) error = r->subject->ask(&r->at, c->new != NULL, &value);
	return error == 0 ? give(c, node->type, value) : error;
}

static int get(const struct ctl_subject *subject, const struct ctl_at *at, uint64_t *value) {
	const struct ctl_node *node = at->node;
	const _Atomic int64_t *tunable = (const _Atomic int64_t *)((const char *)&conf + node->detail);
	switch (node->read) {
	case CTL_CONSTANT: *value = (uint64_t)(int64_t)node->detail; return 0;
	case CTL_WORD: *value = (uintptr_t)ctl_words[node->detail]; return 0;
	case CTL_TUNABLE: *value = (uint64_t)*tunable; return 0;
	case CTL_SWITCH: *value = *tunable != 0; return 0;
	case CTL_OWN: return subject->get(at, value);
	default: return EPERM;
	}
}

int ctl_read(size_t n, const size_t *numbers, uint64_t *value) {
	const struct ctl_subject *subject = subject_of(&n);
	*value = 0;
	return get(subject, &(struct ctl_at){ &subject->nodes[n], numbers }, value);
}

static int change(const struct request *r) {
	uint64_t value;
	const int error = take(&r->call, r->at.node->type, &value);
	return error == 0 ? r->subject->set(&r->at, value) : error;
}

static int get_and_give(const struct request *r) {
	uint64_t value = 0;
	const int error = get(r->subject, &r->at, &value);
	return error == 0 ? give(&r->call, r->at.node->type, value) : error;
}

static int run(const struct request *r) {
	const struct ctl_node *node = r->at.node;
	const struct call *c = &r->call;
	const bool reads = c->old != NULL || c->old_length != NULL;
	const bool writes = c->new != NULL || c->new_length != 0;
	if (node->asks) return node->type == CTL_VOID && reads ? EPERM : ask(r);
	if (node->type == CTL_VOID) return reads || writes ? EPERM : r->subject->set(&r->at, 0);
	if ((writes && !node->sets) || (reads && node->read == CTL_UNREADABLE)) return EPERM;
	const bool gives = node->read != CTL_UNREADABLE;
	int error = gives && !node->sets_first ? get_and_give(r) : 0;
	if (error == 0 && c->new != NULL) error = change(r);
	if (error == 0 && gives && node->sets_first) error = get_and_give(r);
	return error;
}

static int run_node(size_t n, const size_t *numbers, struct call call) {
	if (n == SIZE_MAX) return ENOENT;
	const struct ctl_subject *subject = subject_of(&n);
	return run(&(struct request){ { &subject->nodes[n], numbers }, subject, call });
}

/* ---- what programs call ---- */

EXPORT int PUBLIC(mallctl)(const char *name, void *old, size_t *old_length, void *new, size_t new_length) {
	size_t numbers[CTL_NUMBERS] = { 0 };
	ensure_started();
	const size_t n = find(name, numbers);
	return run_node(n, numbers, (struct call){ old, old_length, new, new_length });
}

EXPORT int PUBLIC(mallctlnametomib)(const char *name, size_t *mib, size_t *depth) {
	size_t numbers[CTL_NUMBERS] = { 0 };
	const size_t n = find(name, numbers);
	if (n == SIZE_MAX) return ENOENT;
	*depth = write_mib(n, numbers, mib, *depth);
	return 0;
}

EXPORT int PUBLIC(mallctlbymib)(const size_t *mib, size_t depth, void *old, size_t *old_length, void *new,
                                size_t new_length) {
	size_t numbers[CTL_NUMBERS] = { 0 };
	ensure_started();
	const size_t n = find_mib(mib, depth, numbers);
	return run_node(n, numbers, (struct call){ old, old_length, new, new_length });
}
