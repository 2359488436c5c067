// Random numbers for everything in benchmarks/: splitmix64 (Steele, Lea and Flood: Fast Splittable Pseudorandom Number
// Generators, 2014), which is also a good mixing function. Each thread has its own sequence from the seed.
#ifndef BENCH_RANDOM_H
#define BENCH_RANDOM_H

#include <stdint.h>

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static inline uint64_t random_next(uint64_t *state)
{
    return mix(*state += 0x9e3779b97f4a7c15);
}

static inline double random_unit(uint64_t *state) // from 0 up to, but not including, 1
{
    return (double)(random_next(state) >> 11) * 0x1p-53;
}

#endif
