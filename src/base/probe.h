/* Probes for bpftrace, perf and gdb (USDT): each is one instruction that does nothing, and a note in the
 * library that tells where it is and where its arguments are then. README.md lists them. On slow paths only.
 * Without sys/sdt.h they are empty. */
#ifndef BASE_PROBE_H
#define BASE_PROBE_H

#ifdef ARENAL_PROBES
#define SDT_USE_VARIADIC
#define STAP_SDT_ARG_CONSTRAINT nr /* in registers: not every tool knows all ways to address memory */
#include <sys/sdt.h>
#define PROBE(name, ...) STAP_PROBEV(arenal, name, __VA_ARGS__)
#else
#define PROBE(name, ...) ((void)0)
#endif

#endif
