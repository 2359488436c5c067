/* The nodes opt.*: what tunables of ours say, in jemalloc's words; and, for what is a choice there and none
 * here, what holds here. What is there for its own ways of keeping memory has no node. */
#include "arena/size_class.h"
#include "base/conf_jemalloc.h"
#include "base/cpus.h"
#include "jemalloc/ctl.h"

enum { ARENAS, MUZZY_DECAY, PROF, PROF_ACTIVE, PROF_FINAL, PROF_PREFIX, PROF_SAMPLE, TCACHE_MAX, THP };

static const char *thp_word(void) { return conf.thp > 0 ? "always" : conf.thp == 0 ? "never" : "default"; }

static int get(const struct ctl_at *at, uint64_t *value) {
	switch (at->node->detail) {
	case ARENAS: *value = conf.arena_max > 0 ? (uint64_t)conf.arena_max : cpus_count(); return 0;
	case MUZZY_DECAY: *value = ctl_muzzy_decay(); return 0;
	case PROF: *value = conf.profile || conf.leaks || conf_jemalloc.prof; return 0;
	case PROF_ACTIVE: *value = conf.profile || conf.leaks; return 0;
	case PROF_FINAL: *value = conf_jemalloc.prof_final; return 0;
	case PROF_PREFIX: *value = (uintptr_t)conf_jemalloc.prof_prefix; return 0;
	case PROF_SAMPLE: *value = 63 - (uint64_t)__builtin_clzll((uint64_t)conf.profile_sample); return 0;
	case TCACHE_MAX: *value = conf.tcache_max > 0 ? SMALL_MAX : 0; return 0;
	case THP: *value = (uintptr_t)thp_word(); return 0;
	default: return ENOENT;
	}
}

static const struct ctl_node nodes[] = {
	{ .name = "opt.abort", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.abort_conf", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.background_thread", CTL_BOOL, CTL_SWITCH, CTL_CONF(background) },
	{ .name = "opt.cache_oblivious", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.confirm_conf", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.dirty_decay_ms", CTL_SIGNED, CTL_TUNABLE, CTL_CONF(decay) },
	{ .name = "opt.dss", CTL_STRING, CTL_WORD, WORD_PRIMARY }, /* the main arena lives in the brk heap */
	{ .name = "opt.junk", CTL_STRING, CTL_WORD, WORD_FALSE },
	{ .name = "opt.lg_prof_interval", CTL_SIGNED, CTL_CONSTANT, -1 },
	{ .name = "opt.lg_prof_sample", CTL_SIZE, CTL_OWN, PROF_SAMPLE },
	{ .name = "opt.max_background_threads", CTL_SIZE, CTL_CONSTANT, 1 },
	{ .name = "opt.metadata_thp", CTL_STRING, CTL_WORD, WORD_DISABLED },
	{ .name = "opt.muzzy_decay_ms", CTL_SIGNED, CTL_OWN, MUZZY_DECAY },
	{ .name = "opt.narenas", CTL_UNSIGNED, CTL_OWN, ARENAS },
	{ .name = "opt.oversize_threshold", CTL_SIZE, CTL_CONSTANT, 0 },
	{ .name = "opt.percpu_arena", CTL_STRING, CTL_WORD, WORD_DISABLED },
	{ .name = "opt.prof", CTL_BOOL, CTL_OWN, PROF },
	{ .name = "opt.prof_accum", CTL_BOOL, CTL_CONSTANT, true },
	{ .name = "opt.prof_active", CTL_BOOL, CTL_OWN, PROF_ACTIVE },
	{ .name = "opt.prof_final", CTL_BOOL, CTL_OWN, PROF_FINAL },
	{ .name = "opt.prof_gdump", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.prof_leak", CTL_BOOL, CTL_SWITCH, CTL_CONF(leaks) },
	{ .name = "opt.prof_leak_error", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.prof_prefix", CTL_STRING, CTL_OWN, PROF_PREFIX },
	{ .name = "opt.prof_thread_active_init", CTL_BOOL, CTL_CONSTANT, true },
	{ .name = "opt.retain", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.stats_interval", CTL_SIGNED, CTL_CONSTANT, -1 },
	{ .name = "opt.stats_interval_opts", CTL_STRING, CTL_WORD, WORD_NONE },
	{ .name = "opt.stats_print", CTL_BOOL, CTL_SWITCH, CTL_CONF(stats) },
	{ .name = "opt.stats_print_opts", CTL_STRING, CTL_WORD, WORD_NONE },
	{ .name = "opt.tcache", CTL_BOOL, CTL_SWITCH, CTL_CONF(tcache_max) },
	{ .name = "opt.tcache_max", CTL_SIZE, CTL_OWN, TCACHE_MAX },
	{ .name = "opt.thp", CTL_STRING, CTL_OWN, THP },
	{ .name = "opt.trust_madvise", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.utrace", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.xmalloc", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.zero", CTL_BOOL, CTL_CONSTANT, false },
	{ .name = "opt.zero_realloc", CTL_STRING, CTL_WORD, WORD_FREE },
};
const struct ctl_subject ctl_options = { nodes, sizeof nodes / sizeof *nodes, get, NULL, NULL };
