/* The heap profile: a sample of the allocations (cache/sample.h), each with the stack of who asked for it, as
 * estimates of what all of them hold now and have held, by stack.
 *
 * Sampled small blocks lie in spans without tags (arena_of_samples); those and all larger blocks are freed on
 * slow paths, which ask here. Counts go on after the profile is off for what was sampled before: until the
 * next start. */
#ifndef OBSERVE_PROFILE_H
#define OBSERVE_PROFILE_H

#include <stdatomic.h>

#include "cache/sample.h"

/* Deeper stacks lose their outer frames. */
#define PROFILE_FRAMES 64

/* Blocks are estimated in fractions. */
#define PROFILE_BLOCKS_SHIFT 12

/* So many stacks are told apart, and no more: of further ones, one that nothing lives from gives its place,
 * and what it has held goes to "(other)", number 0, which has no frames. Where there is none, the new stack
 * is counted there as a whole. */
#define PROFILE_STACKS 16384

/* One stack, and what came from there: estimates. */
struct profile_stack {
	uint64_t hash;
	struct profile_counts {
		uint64_t live_bytes, total_bytes;
		uint64_t live_blocks, total_blocks; /* << PROFILE_BLOCKS_SHIFT */
	} counts;
	uint32_t next; /* of the same bucket; 0: none */
	uint32_t frame_count;
	uintptr_t frames[PROFILE_FRAMES]; /* addresses inside of the calls, innermost first */
};

/* At start-up, when stacks can be taken: switches the profile on, if the tunables say so. */
void profile_init(void);

/* Forgets what was collected and switches the profile on, or goes on with it, sampling one byte in `mean`; 0:
 * the tunable's. Returns 0, EINVAL, ENOMEM, or ENOTSUP where stacks cannot be taken. */
int profile_start(size_t mean);
void profile_stop(void);

/* The calling thread has got this block, which is a sample, with this mean (tcache_sample_count). No lock may
 * be held. */
COLD void profile_add(void *block, size_t size, uint64_t mean);

/* All other blocks that may be samples come by sample_allocated and sample_freed (cache/sample.h). */

/* ---- for profile_time.c ---- */

/* What all of it holds, and has held: estimates in bytes. */
struct profile_sums {
	uint64_t live, total;
};
struct profile_sums profile_sums(void);

/* When one of them is as large as that, profile_time_reached is called, once. UINT64_MAX: never. */
void profile_expect(struct profile_sums when);

/* ---- for leaks.c ---- */

struct reach_block;

/* Writes down the samples that were not freed, `room` of them at most. Returns how many there are. The lock
 * is dropped in between: what comes and goes meanwhile may be missed, or be there twice. */
size_t profile_samples(struct reach_block *out, size_t room);

/* Is it one still? */
bool profile_has_sample(const struct reach_block *block);

/* What a sample of this size stands for; blocks << PROFILE_BLOCKS_SHIFT. */
void profile_weight(size_t size, uint64_t *blocks, uint64_t *bytes);

/* ---- for profile_output.c ---- */

/* The mean of what was collected; 0: the profile was never on. */
uint64_t profile_mean(void);

/* Copies the stack of this number. False: there are fewer. */
bool profile_stack(uint32_t number, struct profile_stack *copy);

/* Writes the profile; see profile_output.c for the format. Returns 0 or the errno of the write that
 * failed. */
int profile_dump(int fd);

/* Writes the profile as profile_dump does, but returns EFBIG when it is longer than `room` bytes. */
int profile_dump_within(int fd, size_t room);

/* Writes the profile into a pipe. When that is full, `wait` says whether to try again. */
int profile_dump_to_pipe(int fd, bool (*wait)(int fd));

/* ---- profile_file.c ---- */

/* At start-up, before the program can leave its directory. */
void profile_file_start(void);

/* Writes the dump to the file that the environment named. Says so where that fails. */
void profile_file_write(void);

/* Writes the dump to the next of the files that are kept. Says so where that fails, unless it has said the
 * same the last time. For one thread, with a table of descriptors of its own. */
void profile_file_write_next(void);

/* What the tunables and the environment ask for at exit. */
void profile_at_exit(void);

/* Around fork. */
void profile_lock(void);
void profile_unlock(void);

#endif
