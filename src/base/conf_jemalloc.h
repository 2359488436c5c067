/* What is said to jemalloc, where it has a counterpart here: in the program (its variable malloc_conf), in
 * the name that /etc/malloc.conf links to, and in MALLOC_CONF; each overrides the one before it. What has no
 * counterpart is ignored; what is no option, and what no value of one, too, but for a sentence when the
 * operator said it. */
#ifndef BASE_CONF_JEMALLOC_H
#define BASE_CONF_JEMALLOC_H

#include "base/base.h"

/* Options for which there is no tunable. Written at start-up; prefix: under the lock of jemalloc/. */
struct conf_jemalloc {
	bool prof;             /* "prof:true" was said */
	bool prof_final;       /* a dump of the profile is written at exit */
	char prof_prefix[256]; /* what names of dumps begin with */
};
extern struct conf_jemalloc conf_jemalloc;

/* Sets tunables, before our own names are read. `may_look`: the file system may be asked. */
void conf_load_jemalloc(char **environment, bool may_look);

/* Is anything said? */
bool conf_jemalloc_is_given(char **environment, bool may_look);

#endif
