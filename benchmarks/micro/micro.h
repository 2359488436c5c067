// What the micro-benchmarks share. Each file registers a family, whose benchmarks are called FAMILY/...; micro.c
// lists the families. An operation, whose time is compared, is what bench_items counts: see each file.
//
// Tables of pointers are on the stack or static, never in the heap that is measured.
#ifndef MICRO_H
#define MICRO_H

#include "bench.h"
#include "random.h"

#include <stdlib.h>

void register_pair(void);
void register_batch(void);
void register_replace(void);
void register_calloc(void);
void register_realloc(void);
void register_aligned(void);
void register_cross(void);
void register_threads(void);
void register_large(void);
void register_sized(void);

// Sizes that are Pareto distributed from 16 B, cut off at 64 KiB. Computed before anything is measured: `random`
// chooses one of SIZES of them.
enum { SIZES = 4096 };
extern uint32_t sizes_pareto[SIZES];
void sizes_compute(void);

static inline size_t size_pareto(uint64_t random)
{
    return sizes_pareto[random % SIZES];
}

// 0 to count - 1 in random order, always the same.
void shuffled(uint32_t *order, uint32_t count);

enum { PAGE = 4096 };

// Writes one byte of each page, as the first use of the memory would.
static inline void touch_pages(char *block, size_t size)
{
    for (size_t i = 0; i < size; i += PAGE)
        *(volatile char *)(block + i) = 1;
}

#endif
