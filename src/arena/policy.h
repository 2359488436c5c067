/* Policy: the numbers that decide how much memory is kept, for how long, and in what steps it is taken and
 * given back. Here with their units, what they mean, and what was measured or what they trade; the asserts
 * say how they depend on each other. What works by a number says how, and is named in brackets. The runs
 * behind the measurements are in src/README.md ("Decisions"); the tunables' defaults are in base/conf.c, and
 * those that numbers here depend on have names in base/conf.h.
 *
 * Sizes of records and tables, formats, and what the kernel or libc lays down are not policy, and stand where
 * they are used. */
#ifndef ARENA_POLICY_H
#define ARENA_POLICY_H

#include "base/conf.h"

/* ---- dirty slices and decay (wave.h, heap_decay.c) ---- */

/* Bytes of free slices, and of free mappings, that may stay at any time while dirty_max says nothing. Trades
 * memory at rest for page faults in programs that are small, or use memory in small waves. */
#define DIRTY_MIN (8 * MIB)

/* Dirty slices may be one part in so many of what is in use, or what the wave says, if that is more. */
#define DIRTY_SHARE 4

/* Who finds more than the limit purges down to one part in so many of it, so that the next free does not
 * purge again. Trades frequent purges for long ones. */
#define DIRTY_LEFT_SHARE 2

/* Intervals in `decay`: free memory is looked at so often in it. The wave remembers this interval and the one
 * before. Against a quarter of what is in use, and no wave, mstress with 16 threads had 0.26 million page
 * faults instead of 0.42 million, took 0.90 of the time, and 1.06 of the peak RSS. */
#define DECAY_INTERVALS 4

/* One part in so many of what nobody needed during an interval goes back. */
#define DECAY_SHARE 2
static_assert(DECAY_INTERVALS == 4 && DECAY_SHARE == 2,
              "in `decay`, what nobody needs shrinks to a sixteenth, as its description says");

/* Bytes: no more than this that nobody needed goes back as a whole, for halving it again and again takes a
 * system call each time. */
#define DECAY_WHOLE MIB
static_assert(DECAY_WHOLE >= 2 * SLICE_SIZE && DECAY_WHOLE <= DIRTY_MIN, "halving has an end");

/* Bytes: a process that never had more than this, in slices or in mappings, is small. It is purged by limits
 * only; no purger is started in it, and holes are not looked for. */
#define SMALL_PROCESS_MAX (16 * MIB)
static_assert(SMALL_PROCESS_MAX > DIRTY_MIN, "a small process has a limit, too");

/* Where those who free do the purging, they may purge this many bytes a millisecond in the long run: at about
 * a microsecond a page, now and when it is needed again, 5% of a CPU or so. large/replace took 12 µs with it,
 * and 161 µs when all was purged at once. */
#define ALLOWANCE_RATE (256 * KIB)

/* At once, they may purge so many times the most that was ever in use in one wave. A thread that freed 98% of
 * 650 MB had 51 MB at rest, and 595 MB when nothing was purged. */
#define ALLOWANCE_WAVES 2

/* Bytes: as much counts as used at the start. */
#define ALLOWANCE_LEAST (16 * MIB)
static_assert(SMALL_PROCESS_MAX >= ALLOWANCE_LEAST, "a process starts small");
static_assert(ALLOWANCE_WAVES * ALLOWANCE_LEAST >= DIRTY_MIN, "what a limit asks for at first is allowed");

/* Bytes: what one call of free, in a process that nobody purges in the background, purges of what is due:
 * half a millisecond or so. The next calls go on. And as much as became dirty since the last piece, up to a
 * credit: so that the pieces keep up, and little is left when all of it falls due with the last call (the top
 * of the break, above blocks that were freed before). */
#define PURGE_PIECE (4 * MIB)
#define PURGE_CREDIT (32 * MIB)

/* ---- holes (holes.h, bin.c) ---- */

/* Ticks for which no block came back to a span before its free pages are purged, unless memory is short or
 * many more blocks than before are free. A tick is an interval. Trades memory for page faults in spans in
 * use. */
#define IDLE_TICKS 2
static_assert(IDLE_TICKS > 0 && IDLE_TICKS < 128, "ticks go round in a byte");

/* Where nobody purges in the background, a bin's spans are looked at when the blocks handed out have become
 * fewer: seven eighths of the last high, or of the last look. Often enough that most holes are found; seldom
 * enough that the walk over all spans costs little for each block freed. Fragmentation, one thread, 200 MB:
 * RSS 1.27 to 1.52 of the requested bytes, against 1.30 to 1.63 with three quarters of a high twice as
 * high. */
#define HOLES_LOW_EIGHTHS 7

/* What is handed out is a new high when so many quarters of it are more than the mark above. */
#define HOLES_HIGH_QUARTERS 3
static_assert(HOLES_HIGH_QUARTERS * 2 < HOLES_LOW_EIGHTHS, "a high's own mark makes it no new high");

/* Bytes: bins with less handed out are not watched. */
#define HOLES_WATCH_MIN MIB

/* One flush in so many asks whether an interval is over. Trades the time of a flush, which would read the
 * clock each time, for holes that stay a little longer. */
#define FLUSHES_BETWEEN_LOOKS 16

/* If it is, one part in so many of all slices is due, the next one each time. */
#define HOLES_SHARE 8

/* One call of free looks at so many spans, or purges so many bytes, and a little more of either: some hundred
 * microseconds. The next calls go on. */
#define HOLES_PIECE_SPANS 256
#define HOLES_PIECE_BYTES PURGE_PIECE

/* ---- huge mappings (huge.c, huge_cache.c), and what calloc gives back (clear.c) ---- */

/* Kept mappings may be so many quarters of what is in use in huge blocks, DIRTY_MIN at least. malloc-large:
 * 5.4 s and 501 MB with three quarters; 8.0 s and 450 MB with one, 6.4 s and 483 MB with two. */
#define HUGE_KEPT_QUARTERS 3

/* Mappings that are kept. Since any of them serves any size, few are enough; each call looks at all of
 * them. */
#define HUGE_CACHE_ENTRIES 32

/* A kept mapping that is longer than asked for by at most one part in so many is handed out whole: the rest
 * would be a scrap. */
#define HUGE_SLACK_SHARE 16

/* A shorter one is worth growing when it is at least one part in so many of what is needed. */
#define HUGE_WORTH_SHARE 4

/* A block that grows gets one part in so many more than asked for, which is address space and no memory, so
 * that a program that appends little by little makes few system calls. */
#define HUGE_GROWTH_SHARE 8

/* Bytes: up to here, libc's malloc serves blocks from its heap, and passes them on with what the program said
 * of their huge pages; above, by mappings that are always new (its DEFAULT_MMAP_THRESHOLD_MAX). So up to here
 * a block with MADV_HUGEPAGE is kept (api/advice.c), and above it memory counts more than time. */
#define LIBC_HEAP_MAX (32 * MIB)

/* Bytes: from here on, pages of memory that calloc is to clear are looked at first: what its last owner did
 * not write to goes back instead. Below, writing zeros is no slower: 64 KiB take 0.6 µs either way when
 * nothing was touched, and 1.2 against 22 µs when all was. 1 MiB: 11 µs to write, 0.9 to give back what was
 * not touched. */
#define CLEAR_LOOK_FROM MIB

/* Bytes: from here on, it goes back also when so many of the pages that were looked at had been written
 * to. */
#define CLEAR_SPARSE_FROM LIBC_HEAP_MAX
#define CLEAR_SPARSE_WRITTEN 2

/* Pages that are looked at: so many, one more for each further CLEAR_LOOK_EACH bytes, and no more than MOST.
 * Each that nobody wrote to costs a page fault: eight of them half of what it takes to clear 1 MiB. A block
 * of which a tenth was written to takes as long either way; one of which half was is taken for unused once in
 * a hundred times, a larger one never. With two pages at fixed places, a block of
 * which each second page had been written to took 220 to 1,200 µs, instead of 12 to 30. */
#define CLEAR_LOOKS_LEAST 4
#define CLEAR_LOOK_EACH (256 * KIB)
#define CLEAR_LOOKS_MOST 16
static_assert(CLEAR_LOOKS_LEAST + CLEAR_LOOK_FROM / CLEAR_LOOK_EACH == 8, "of 1 MiB eight, as measured");
static_assert(CLEAR_SPARSE_FROM >= CLEAR_LOOK_FROM && CLEAR_SPARSE_WRITTEN < CLEAR_LOOKS_MOST, "not all");

/* ---- regions and the break (heap_grow.c, heap_trim.c) ---- */

/* Bytes: a region is made accessible by as much as it has already, within these bounds. What is accessible is
 * charged to the process where the kernel promises no more than it has (vm.overcommit_memory 2). */
#define COMMIT_LEAST MIB
#define COMMIT_MOST (8 * MIB)
static_assert(COMMIT_LEAST >= SLICE_SIZE && COMMIT_LEAST <= COMMIT_MOST && COMMIT_MOST < REGION_SIZE,
              "a region opens by slices, in steps");

/* Bytes: where a whole region cannot be mapped (RLIMIT_AS, fragmentation), a piece is, of so much or a
 * multiple. */
#define PIECE_SIZE MIB
static_assert(PIECE_SIZE % SLICE_SIZE == 0 && PIECE_SIZE < REGION_SIZE, "whole slices, of one region");

/* A region that stayed free and clean for so many intervals is unmapped, but for one of its kind. Trades
 * address space for the system calls of a program that needs a region again and again. */
#define IDLE_INTERVALS (4 * DECAY_INTERVALS)
static_assert(IDLE_INTERVALS <= UINT16_MAX, "region.idle counts them");

static_assert(CONF_TOP_PAD < CONF_TRIM_THRESHOLD, "the break does not go down over what it went up by");

/* ---- transparent huge pages (thp.h) ---- */

/* Bytes in use from which a heap asks for huge pages for what it grows by. With them, the slices that small
 * blocks only begin to fill are resident to their end, a few megabytes in all: in a smaller heap, more than a
 * few percent. 8 million blocks of 64 to 512 B were built in 0.73 s, against 1.5 s without. From 64 MiB on,
 * the peak RSS of mstress with 16 threads was 279 MB against 268, that of rptest 128 against 116, and nothing
 * faster. */
#define THP_MIN (128 * MIB)
static_assert(THP_MIN > SMALL_PROCESS_MAX, "huge pages are for large heaps");

/* Bytes: shorter stretches are not asked for, since each may be a mapping of its own to the kernel, which
 * limits their number; and the break goes up by such steps then. */
#define THP_STRETCH (8 * MIB)
static_assert(THP_STRETCH >= COMMIT_MOST && REGION_SIZE % THP_STRETCH == 0, "stretches fit a region");

/* A huge page is broken up when one part in so many of it, or of a span in it, goes back at once. Trades
 * memory that stays for huge pages that stay. */
#define THP_SHARE 8

/* ---- thread caches and magazines (cache/magazine.c, cache/caches.c) ---- */

/* Blocks that move between a magazine and a bin in one step, under one hold of the bin's lock. */
#define BATCH_MAX 256

/* A magazine starts with room for so many bytes, or slots if these are fewer, and doubles each time that it
 * is empty or full, up to its limits. Small starts keep threads that allocate little small; long magazines
 * keep busy ones off the locks. Never fewer than LEAST slots. One less than a power of two: with the slot in
 * front of them, they fill what metadata is rounded up to. */
#define MAGAZINE_START_BYTES (4 * KIB)
#define MAGAZINE_START_SLOTS ((size_t)15)
#define MAGAZINE_LIMIT_BYTES (64 * KIB)
#define MAGAZINE_LIMIT_SLOTS ((size_t)511)
#define MAGAZINE_LEAST_SLOTS ((size_t)2)
static_assert(BATCH_MAX <= MAGAZINE_LIMIT_SLOTS / 2 + 1, "a batch is about half of a long magazine at most");

/* While there are few threads, they share limits of so much, and so do those that are hot while these are
 * few: what one thread keeps is little beside the rest of the process. glibc-simple took 2.2 s with it, 2.9 s
 * with LIMIT_BYTES for each. */
#define MAGAZINE_SHARED_BYTES (512 * KIB)
#define MAGAZINE_SHARED_SLOTS ((size_t)4095)
static_assert(MAGAZINE_LEAST_SLOTS <= MAGAZINE_START_SLOTS, "no magazine starts shorter than any may be");
static_assert(MAGAZINE_START_SLOTS <= MAGAZINE_LIMIT_SLOTS && MAGAZINE_LIMIT_SLOTS <= MAGAZINE_SHARED_SLOTS,
              "magazines grow in slots");
static_assert(MAGAZINE_START_BYTES <= MAGAZINE_LIMIT_BYTES && MAGAZINE_LIMIT_BYTES <= MAGAZINE_SHARED_BYTES,
              "magazines grow in bytes");
static_assert(MAGAZINE_SHARED_SLOTS <= UINT16_MAX, "magazine_slots.count counts any magazine's");

/* The first slots of a magazine take no more than one part in so many of what the cache may hold. */
#define MAGAZINE_START_SHARE 16

/* After so many refills and flushes of a thread, its magazines that nobody used since the last time are
 * halved. */
#define MAGAZINE_EVENTS_BETWEEN_LOOKS 256

/* Each time that the process has become larger than ever by one part in so many, LEAST bytes at least, kept
 * mappings that lie idle go back, and what does in the magazines of its only thread (cache/growth.h). Trades
 * refills of a magazine that is wanted again after all for the spans that its blocks keep, and page faults
 * for mappings. */
#define GROWTH_SHARE 16
#define GROWTH_LEAST (256 * KIB)

/* Bytes: what all thread caches together may hold, and while memory is short. 1,000 threads that sleep, after
 * 16 MiB in all: 53 MB at rest and 84 ns a pair; after tcache_max each: 566 MB and 139 ns. */
#define PRESSURE_CACHES (16 * MIB)
#define PRESSURE_CACHES_LEAST MIB
static_assert(PRESSURE_CACHES >= CONF_TCACHE_MAX && PRESSURE_CACHES_LEAST < PRESSURE_CACHES,
              "one cache has its room");
static_assert(MAGAZINE_SHARED_BYTES <= CONF_TCACHE_MAX, "the longest magazine fits a cache");

/* Bytes: each cache may hold so much, however many there are. */
#define CACHE_LEAST_ROOM (16 * KIB)
static_assert(PRESSURE_CACHES / CACHE_LEAST_ROOM >= 1000, "a thousand threads keep to what all may hold");

/* A thread is hot when it made so many refills and flushes in an interval, and stays so with some of them.
 * Those that are hot share one part in so many of what all caches may hold, beside what each may. No cache
 * holds more than TIMES tcache_max. */
#define HOT_EVENTS 256
#define HOT_STILL 32
#define HOT_SHARE 4
#define HOT_TIMES 4
/* Looks for which it counts that one found a thread hot: the purger passes a cache that is quiet, or whose
 * lock is held. */
#define HOT_LOOKS 3
/* Of a magazine, one block stays while its thread sleeps. So magazines beyond what any cache may hold are for
 * so many threads, and others have to wait until these hold less: with all sizes up to 32 KiB, 400 KiB
 * stay. */
#define HOT_STARTERS 64
/* All that were hot once, and have room beyond their shares still, have one part in so many of what all
 * caches may hold, together: of threads that were hot one after the other, 64 had 114 MB when others' blocks
 * were freed, and 40 kept 75 where no drain takes anything. */
#define HOT_EXTRA_SHARE 1
static_assert(HOT_EXTRA_SHARE <= HOT_SHARE, "those that are hot have their share, if nobody was before");
static_assert(HOT_STILL < HOT_EVENTS, "with a longer cache, a thread makes fewer of them");

/* ---- parked caches (cache/parked.c) ---- */

/* Caches of threads that ended that wait for the next one. Their magazines are as long as at the start: 280
 * KiB in each, if the thread used all sizes. */
#define PARKED_MOST 4

/* Bytes: with less left until a limit, none wait. */
#define PARKED_LEAST_LEFT ((int64_t)(256 * MIB))

/* ---- kept runs (cache/runs.c) ---- */

/* Bytes: a thread keeps no longer runs, nor more than this together, nor more than a cache may hold. Where
 * that was not asked, 1,000 threads that sleep had 53 MB half a second later, instead of 45. */
#define RUN_CACHE_BYTES MIB

/* All threads together keep one part in so many of what all caches may hold in magazines; and of the other
 * where no purger sees to threads that sleep. Each has the same share, by the number of threads when it came
 * to free a run by its slow path, or was looked at. */
#define RUN_CACHE_SHARE 4
#define RUN_CACHE_SHARE_UNWATCHED 8
static_assert(RUN_CACHE_BYTES >= SLICE_SIZE && RUN_CACHE_BYTES <= CONF_MMAP_THRESHOLD, "there are such runs");
static_assert(RUN_CACHE_BYTES <= CONF_TCACHE_MAX &&
                  RUN_CACHE_BYTES <= PRESSURE_CACHES / RUN_CACHE_SHARE_UNWATCHED,
              "a thread alone may keep them all");

/* ---- shelves (arena/shelf.h) ---- */

/* Bytes on the shelf of one arena. All together have one part in so many of what all caches may hold in
 * magazines, but each has LEAST while memory is not short. Trades free runs that no span can have for the
 * page heap's lock: with 2 MiB on each of two shelves, session_churn took it half as often, with 64
 * threads a third; with 8 MiB a little less. */
#define SHELF_BYTES (2 * MIB)
#define SHELF_LEAST (256 * KIB)
#define SHELF_SHARE 4
static_assert(SHELF_LEAST >= SLICE_SIZE && SHELF_LEAST <= SHELF_BYTES, "one run fits any shelf");
static_assert(SHELF_BYTES <= PRESSURE_CACHES / SHELF_SHARE, "one arena does not have more than all");

/* ---- depots (arena/depot.h) ---- */

/* Size classes from this one on, which has blocks of 1 KiB, have depots: so many bytes wait in one, or
 * pointers if these are fewer; in all of them 16 MiB, if each is full. Trades free blocks that keep their
 * spans for the bins' locks and records: with 256 KiB, a block of 16 to 32 KiB that a thread passes to one of
 * 32 took 760 ns instead of 660. */
#define DEPOT_FIRST 32
#define DEPOT_BYTES (512 * KIB)
#define DEPOT_LONGEST ((size_t)112)
static_assert(DEPOT_LONGEST <= BATCH_MAX, "one batch empties a depot");

/* ---- the purger's pace (cache/purger.c, cache/children.c) ---- */

/* Looks at which a magazine, or a thread's kept runs, were found unchanged before they are emptied from
 * outside; one while memory is short. It looks once in an interval. burst_idle: 18 MB at rest, 228 MB when
 * threads that sleep keep what they have. */
#define IDLE_LOOKS 3
static_assert(IDLE_LOOKS > 1 && IDLE_LOOKS < UINT8_MAX, "idle_looks counts them, and there may be fewer");

/* Caches: with more, a look passes those in which the last one found nothing, and to which no slow path came
 * since; each is met in one of so many turns, for frees that stay in a magazine tell nobody. 10,000 threads
 * that sleep beside one that works: 2.3 to 2.7% of a CPU when all were met. */
#define QUIET_FROM 256
#define QUIET_TURNS 8

/* Microseconds: a process rests when all of its threads took no more of the CPUs since the last look. What is
 * free goes back at once then: nobody is about to use it. burst_idle with eight threads: 29 to 32 MB after a
 * second, instead of 41 to 48. As long as some 100 page faults take: who works for longer, however seldom,
 * may use that memory each time. */
#define REST_CPU 50

/* For so many times what the question took, the kernel is not asked again for the processor time of all
 * threads, but for no more than so many intervals: with ten thousand it takes 1 to 2 ms. */
#define REST_ASK_SHARE 400
#define REST_ASK_INTERVALS 4

/* Intervals: a rest that was shorter was not worth it, for much of what went back would have stayed
 * otherwise, and is in use again; and none is looked for in the next PATIENCE ones. So a process that works
 * once a second keeps what it needs for that. */
#define REST_WORTH 8
#define REST_PATIENCE 64
static_assert(REST_WORTH > DECAY_INTERVALS && REST_WORTH < REST_PATIENCE,
              "by then, all would have gone anyhow; and that happens seldom");

/* Milliseconds: no interval is longer while memory is short. */
#define PURGER_URGENT 100
static_assert(PURGER_URGENT < CONF_DECAY / DECAY_INTERVALS, "that is quicker than usual");

/* Milliseconds: the thread ends when it has slept for so long. Trades the start of a thread for the memory of
 * one. */
#define PURGER_ENOUGH 60000

/* Milliseconds between two orphans that somebody adopts in passing: a child that was forked to save
 * something, and ends soon, does not spend its time on it. */
#define ADOPTION_PACE 20

/* ---- limits (pressure.c) ---- */

/* Near: less than one part in so many of the limit is left. Critical: less than that of the other; then all
 * free memory goes back, and not only once. */
#define PRESSURE_NEAR_SHARE 8
#define PRESSURE_CRITICAL_SHARE 32
static_assert(PRESSURE_NEAR_SHARE < PRESSURE_CRITICAL_SHARE, "it is near before it is critical");

/* Bytes: with a smaller limit, who allocates does not leave it to the purger to give all back when it has
 * come near. There is little to give then, and from near to critical it is less than 24 MiB, which a few
 * threads write before the purger gets a CPU: with a limit of 40 MB the peak was 6 MB higher. */
#define PRESSURE_PURGER_LEAST (256 * MIB)

/* Per cent of ten seconds in which somebody waited for memory: as much counts as near. A page cache that
 * turns over causes less than this, and those who kill for it (systemd-oomd, by default at 60) begin far
 * above. */
#define PRESSURE_STALLED 10

/* While memory is short, one part in so many of what is left may be kept, and KEEP_LEAST bytes all the same:
 * a system call for each slice would be too dear. */
#define PRESSURE_KEEP_SHARE 4
#define PRESSURE_KEEP_LEAST MIB
static_assert(PRESSURE_KEEP_LEAST >= SLICE_SIZE && PRESSURE_KEEP_LEAST <= DIRTY_MIN, "less than usual");

/* With a limit in sight, somebody looks again when one part in so many of what was left has gone, but not for
 * fewer than STEP_LEAST bytes. Phases of 120 MB each in a cgroup of 200 MB: killed without, at most 175 MB
 * (one thread) and 194 MB (four) with it. */
#define PRESSURE_STEP_SHARE 4
#define PRESSURE_STEP_LEAST ((int64_t)MIB)

/* Milliseconds until the next look at the kernel's files, when less than half of the limit is left and when
 * not; and until the process is searched for in the cgroups again, where it is seldom moved. A look takes 11
 * to 24 µs, ten a second are 0.02% of a CPU; the search takes 27 to 40 µs. */
#define PRESSURE_SOON 100
#define PRESSURE_LATER 1000
#define PRESSURE_SEARCH_AGAIN 10000
static_assert(PRESSURE_SOON < PRESSURE_LATER && PRESSURE_LATER < PRESSURE_SEARCH_AGAIN,
              "what is near is looked at often");
static_assert(PURGER_URGENT <= PRESSURE_SOON, "the purger comes by as often as it may look");

/* Milliseconds between two times that all is given back, unless the first was worth it: a process that simply
 * needs its memory should not spend its time so. */
#define PRESSURE_PATIENCE 100

/* ---- hardened mode (bin.c, heap_guarded.c, cache/quarantine.h, harden/) ---- */

/* Bytes of empty spans that a bin keeps beyond as much as is in use, until they are purged as idle: to close
 * a span and to open another takes two system calls and all of its page faults. With this and kept large
 * blocks, mstress took 0.76 of the time, with 16 threads 0.92, and 7,000 page faults instead of 26,000. */
#define HARD_SPANS_KEPT (128 * KIB)

/* Spans, and large blocks, with guards. Each is two mappings to the kernel: beyond these numbers, what comes
 * has none. */
#define HARD_SPANS_GUARDED_MAX 12288
#define HARD_LARGE_GUARDED_MAX 8192
static_assert(2 * (HARD_SPANS_GUARDED_MAX + HARD_LARGE_GUARDED_MAX) < 65530,
              "under the default of vm.max_map_count, a third is left for the program");

/* Freed small blocks that wait in a thread's quarantine: one less than SLOTS. Long ones are bounded by bytes,
 * and by one part in SHARE of what the cache may hold, but LEAST always wait. */
#define QUARANTINE_SLOTS 256
#define QUARANTINE_BYTES (256 * KIB)
#define QUARANTINE_SHARE 4
#define QUARANTINE_LEAST 8
static_assert((QUARANTINE_SLOTS & (QUARANTINE_SLOTS - 1)) == 0,
              "a power of two: positions go round in 32 bits");
static_assert(QUARANTINE_BYTES <= CONF_TCACHE_MAX / QUARANTINE_SHARE, "a thread alone has all of it");

/* Addresses of freed large blocks that wait: ORDINARY places for those up to ORDINARY_EACH bytes, guards
 * included, ORDINARY_BYTES in all; the others for longer ones, LONG_BYTES in all, or one alone up to
 * LONE_MAX. Trades address space for the time for which a late access is found. */
#define WAITING_PLACES 272
#define WAITING_ORDINARY 256
#define WAITING_ORDINARY_EACH (8 * MIB)
#define WAITING_ORDINARY_BYTES (128 * MIB)
#define WAITING_LONG_BYTES (256 * MIB)
#define WAITING_LONE_MAX (1024 * MIB)

/* Frees of other large blocks before an address comes back. */
#define WAITING_TURNS 8
static_assert(WAITING_TURNS * WAITING_ORDINARY_EACH < WAITING_ORDINARY_BYTES, "others can go back");
static_assert(WAITING_TURNS < WAITING_ORDINARY && WAITING_TURNS < WAITING_PLACES - WAITING_ORDINARY,
              "there is a place that may be taken");

/* If there is a limit of address space, the addresses of each kind are no more than one part in so many of
 * it. */
#define WAITING_SHARE 16

/* Large blocks up to so many bytes keep their memory while they wait, zeroed and closed, and serve those of
 * the same length again: page faults and the kernel's zeroing would cost more than ours. One part in SHARE of
 * what is in use is kept, or HARD_KEPT_BYTES. */
#define HARD_KEPT_MAX MIB
#define HARD_KEPT_SHARE 4
#define HARD_KEPT_BYTES DIRTY_MIN
static_assert(HARD_KEPT_MAX + 2 * (64 * KIB) <= WAITING_ORDINARY_EACH,
              "with a guard on either side, what is kept has an ordinary place, where it is looked for");

#endif
