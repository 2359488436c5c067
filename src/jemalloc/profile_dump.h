/* The heap profile in jemalloc's own format, for who has its tools (jeprof) at hand. */
#ifndef JEMALLOC_PROFILE_DUMP_H
#define JEMALLOC_PROFILE_DUMP_H

/* Writes it to the file, over what was there; NULL: to the next file whose name begins with the prefix, and
 * has `kind` in it. Returns 0 or an errno. */
int profile_dump_as_jemalloc(const char *name, char kind);

#endif
