/* The tunables: their values, and how they are read from the environment, by mallopt and by arenal_set. */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include "base/base.h"

/* Values in bytes where the name says nothing else. Written at start-up and by conf_set; read without a lock:
 * a value that changes under a reader's eyes is as good as one that changed a moment later. */
struct conf {
	_Atomic int64_t arena_max;      /* arenas, the main arena included; 0: one per CPU */
	_Atomic int64_t tcache_max;     /* a thread cache may hold so much; 0: no caching */
	_Atomic int64_t mmap_threshold; /* larger requests get a mapping of their own */
	_Atomic int64_t trim_threshold; /* the break is lowered when more than this is free below it; -1: never */
	_Atomic int64_t top_pad;        /* the break is raised and left by this much more than needed */
	_Atomic int64_t dirty_max;      /* free memory that is kept for reuse, in slices and in mappings each; -1:
	                                   see arena/policy.h, from DIRTY_MIN on */
	_Atomic int64_t decay;          /* milliseconds in which free memory that nobody needs shrinks to a
	                                   sixteenth; 0: it goes at once; -1: it stays, but for what dirty_max
	                                   says */
	_Atomic int64_t thp;            /* transparent huge pages: 1: for the whole heap; 0: none; -1: when it is
	                                   large */
	_Atomic int64_t memory_limit;   /* near this, purging turns eager; 0: the limit of the cgroup; -1:
	                                   never */
	_Atomic int64_t cap;            /* allocations beyond it fail (base/cap.h); 0: there is none */
	_Atomic int64_t names;        /* 1: new mappings have names in /proc/PID/maps, where the kernel has any */
	_Atomic int64_t background;   /* 1: a thread purges in processes with threads */
	_Atomic int64_t lazy_purge;   /* 1: the kernel takes purged memory when it needs some, not at once */
	_Atomic int64_t guard_sample; /* one allocation in so many gets a place between inaccessible pages; 0:
	                                   none */
	_Atomic int64_t profile;      /* 1: the heap profile is on from the start. Read at start only */
	_Atomic int64_t profile_sample; /* one byte in so many that are allocated, on average, is looked at by
	                                   it */
	_Atomic int64_t leaks;          /* enum leaks: what is reported at exit (observe/leaks.h) */
	_Atomic int64_t leaks_exit;     /* the status of the process then, if something was lost; 0: its own */
	_Atomic int64_t harden;         /* 1: hardened mode. Read at start only */
	_Atomic int64_t misuse;         /* enum misuse_action: what follows misuse that Arenal can go on after
	                                   (harden/misuse.h) */
	_Atomic int64_t misuse_size;    /* the same, of a wrong size alone */
	_Atomic int64_t misuse_family;  /* the same, of the wrong function alone. Known in hardened mode only */
	_Atomic int64_t window;         /* 1: from the start, others may look in (observe/window.h); 0: no; -1: as
	                                   soon as a thread purges in the background */
	_Atomic int64_t deepbind;       /* 1: dlopen is left as it is (api/dlopen.c) */
	_Atomic int64_t sandbox;        /* 1: from the start (base/sandbox.h); -1: when the program says so; 0:
	                                   never */
	_Atomic int64_t stats;          /* 1: print the table at exit */

	/* When the heap profile is written to a file while the process runs (observe/profile_time.h); 0: not for
	 * that. */
	_Atomic int64_t profile_seconds; /* each time that so many have passed */
	_Atomic int64_t profile_bytes;   /* each time that so many were allocated */
	_Atomic int64_t profile_growth;  /* when so many percent more are in use than ever before */
	_Atomic int64_t profile_signal;  /* when this signal comes. Read at start only */
	_Atomic int64_t profile_term;    /* 1: when SIGTERM is about to end the process. Read at start only */
	_Atomic int64_t profile_keep;    /* so many of these files are kept */
};
extern struct conf conf;

/* Names of files, copied from the environment, which programs overwrite (setproctitle). "": not given. */
#define CONF_PATH_MAX 1024
struct conf_files {
	char profile_file[CONF_PATH_MAX]; /* the heap profile is written there at exit */
	char trace_file[CONF_PATH_MAX];   /* calls are recorded there */
	char leaks_ignore[CONF_PATH_MAX]; /* which losses are not reported */
};
extern struct conf_files conf_files;

enum misuse_action {
	MISUSE_DEFAULT =
	    -1, /* misuse_size and misuse_family: as misuse says; misuse: as fits the kind and the mode */
	MISUSE_IGNORE,
	MISUSE_REPORT, /* once, with its stack; the program goes on */
	MISUSE_END,
};

/* Defaults that numbers in arena/policy.h depend on, as the asserts there say. In bytes; milliseconds. */
#define CONF_TCACHE_MAX (1 * MIB)
#define CONF_MMAP_THRESHOLD (1 * MIB)
#define CONF_TRIM_THRESHOLD (2 * MIB)
#define CONF_TOP_PAD (512 * KIB)
#define CONF_DECAY 1000

struct tunable {
	const char *name;
	const char *glibc_name; /* environment variable of glibc with the same meaning, or NULL */
	_Atomic int64_t *value;
	int64_t min, max;
	bool live;                /* may change while the program runs */
	const char *const *words; /* names of the values 0 to max, or NULL */
};

/* All tunables; ends with an entry whose name is NULL. */
extern const struct tunable tunables[];

/* Reads the environment; complaints go to stderr, one line each. Returns false when libc has no environment
 * yet. */
bool conf_load(void);

/* Says on stderr what is wrong with a setting, in one line; the format has no end of the line. Control
 * characters become "?", so that who chooses the setting does not write to terminals and logs as he likes.
 * Says nothing when stderr is a pipe that nobody reads: the process would wait, or be ended by the signal. */
void conf_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Is anything said that concerns us? */
bool conf_is_given(void);

/* Returns 0, or ENOENT, EINVAL (out of range) or EPERM (not while running). */
int conf_set(const char *name, int64_t value);
int conf_get(const char *name, int64_t *value);

/* "4096", "64K", "-1", "1G" into a number. False when the text is none, or too large. */
bool conf_parse(const char *text, size_t length, int64_t *value);

#endif
