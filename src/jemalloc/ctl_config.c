/* The nodes version, background_thread, config.*: which library this is. */
#include "arenal/arenal.h"
#include "jemalloc/ctl.h"
#include "jemalloc/jemalloc.h"

#ifdef NDEBUG
#define DEBUG false
#else
#define DEBUG true
#endif

#define MOST_THREADS 1 /* in the background */

static int get_version(const struct ctl_at *at, uint64_t *value) {
	(void)at;
	*value = (uintptr_t)JEMALLOC_VERSION_TOLD;
	return 0;
}

static int set(const struct ctl_at *at, uint64_t value) {
	if (at->node->read == CTL_CONSTANT) return value == MOST_THREADS ? 0 : EINVAL;
	return arenal_set("background", (int64_t)value) == 0 ? 0 : EINVAL;
}

static const struct ctl_node nodes[] = {
	{ .name = "version", CTL_STRING, CTL_OWN },
	{ .name = "background_thread", CTL_BOOL, CTL_SWITCH, CTL_CONF(background), .sets = true },
	{ .name = "max_background_threads", CTL_SIZE, CTL_CONSTANT, MOST_THREADS, .sets = true },
	{ .name = "config.cache_oblivious", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "config.debug", CTL_BOOL, CTL_CONSTANT, DEBUG },
	{ .name = "config.fill", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "config.lazy_lock", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "config.malloc_conf", CTL_STRING, CTL_WORD, WORD_NONE },
	{ .name = "config.prof", CTL_BOOL, CTL_CONSTANT, true },
	{ .name = "config.prof_libgcc", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "config.prof_libunwind", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "config.stats", CTL_BOOL, CTL_CONSTANT, true },
	{ .name = "config.utrace", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "config.xmalloc", CTL_BOOL, CTL_CONSTANT, false },
};
const struct ctl_subject ctl_config = { nodes, sizeof nodes / sizeof *nodes, get_version, set, NULL };
