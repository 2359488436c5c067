/* What the kernel says about memory: how much the process uses, how much its cgroup may, and whether memory
 * is short.
 *
 * All of it is read from files, anew each time. `prefix` is put in front of every absolute path: "", but in
 * tests. The functions share one buffer for what they read, since a thread's stack may be small: one thread
 * at a time. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include "base/base.h"

/* The directory of the memory cgroup that the process is in. */
struct cgroup {
	char path[1024];     /* "": there is none */
	size_t mount_length; /* characters of it that are the mount point: there is no group above */
	bool v1;
};

/* Bytes. */
struct headroom {
	size_t limit; /* SIZE_MAX: none */
	size_t left;  /* until the limit; SIZE_MAX when there is none */
};

void limits_find_cgroup(struct cgroup *group, const char *prefix);

/* In a container, finds the container's group, without a look at which of the groups inside of it is the own
 * one: that would take half of the time, for each process that starts. */
void limits_find_container(struct cgroup *group, const char *prefix);

/* Of the group itself and all groups above: the one with the least left. Files that only wait to be dropped
 * from the page cache do not count as used. */
struct headroom limits_headroom(const struct cgroup *group);

/* Bytes of the process in memory; 0 when that cannot be found out. */
size_t limits_resident(const char *prefix);

/* Per cent of the last ten seconds in which somebody waited for memory: in the group, or, where groups do not
 * count that, in the whole system. 0 when unknown. */
unsigned limits_stalled(const struct cgroup *group, const char *prefix);

#endif
