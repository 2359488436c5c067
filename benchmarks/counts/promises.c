// What of the README's promises no other program shows, each by itself; tools/compare --gate holds the figures against its
// limits.
//
//   arenal_promises idle              allocates a little, says so, and waits until its input ends
//   arenal_promises limited MIB       how many bytes it gets in blocks of 200 B while it may have so much address space
//   arenal_promises worst             nanoseconds of processor time that the worst malloc and the worst free take
//   arenal_promises misuse KIND       does it; ends well when that was not found
//
// Processor time: what the worst call waits for on a busy machine is nobody's promise.
#include "random.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static void *present(void *block)
{
    if (block == NULL) {
        fputs("arenal_promises: out of memory\n", stderr);
        exit(2);
    }
    return block;
}

static int idle(void)
{
    for (size_t size = 16; size <= 4096; size *= 2)
        memset(present(malloc(size)), 1, size);
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return 0;
}

static size_t address_space(void)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");

    if (statm == NULL || fscanf(statm, "%lu", &pages) != 1)
        exit(2);
    fclose(statm);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static int limited(size_t room)
{
    size_t bytes = 0, most = address_space() + room;
    struct rlimit limit = {most, most};

    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 2;
    while (malloc(200) != NULL)
        bytes += 200;
    printf("%zu\n", bytes);
    return 0;
}

// ---- The worst call: a heap is built and freed; the median of several, for an interrupt may hit any of them.

enum { ROUNDS = 9, BLOCKS = 20000, LARGE = 4 };

static uint64_t processor_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void raise_to(uint64_t *most, uint64_t value)
{
    if (value > *most)
        *most = value;
}

static int by_size(const void *one, const void *other)
{
    uint64_t left = *(const uint64_t *)one, right = *(const uint64_t *)other;

    return (left > right) - (left < right);
}

static void *sleeper(void *unused)
{
    pause();
    return unused;
}

static int worst(void)
{
    static void *blocks[BLOCKS];
    uint64_t worst_malloc[ROUNDS] = {0}, worst_free[ROUNDS] = {0}, random = 1;
    pthread_t thread;

    if (pthread_create(&thread, NULL, sleeper, NULL) != 0)
        return 2;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            size_t size = i < LARGE ? 16 * MIB : (size_t)16 << random_next(&random) % 10;
            uint64_t start = processor_time();

            blocks[i] = present(malloc(size));
            raise_to(&worst_malloc[round], processor_time() - start);
            memset(blocks[i], 1, size);
        }
        for (size_t i = 0; i < BLOCKS; i++) {
            uint64_t start = processor_time();

            free(blocks[i]);
            raise_to(&worst_free[round], processor_time() - start);
        }
    }
    qsort(worst_malloc, ROUNDS, sizeof *worst_malloc, by_size);
    qsort(worst_free, ROUNDS, sizeof *worst_free, by_size);
    printf("%llu %llu\n", (unsigned long long)worst_malloc[ROUNDS / 2], (unsigned long long)worst_free[ROUNDS / 2]);
    return 0;
}

// ---- Misuse. What a compiler knows of it is hidden from it.

static char *hidden(char *block)
{
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}

static void free_twice(void)
{
    char *block = hidden(present(malloc(64))), *other = present(malloc(64));

    free(block);
    free(other);
    free(hidden(block));
    // Found when the block would be handed out for the second time: as programs do, this one goes on to allocate.
    for (int i = 0; i < 3; i++)
        present(malloc(64));
}

static void free_inside(void)
{
    char *block = present(malloc(256));

    free(hidden(block + 64));
}

static void free_stack(void)
{
    char block[64] __attribute__((aligned(16)));

    free(hidden(block));
}

// Found in samples, one in some thousands and one in 4 ms at most: done for seconds, to so many blocks at once that the caches
// have to ask for more.
enum { MISUSED = 65536, SECONDS = 3 };

static void misuse_many(void (*before_free)(char *), void (*after_free)(char *))
{
    static char *blocks[MISUSED];
    time_t end = time(NULL) + SECONDS;

    while (time(NULL) < end) {
        for (size_t i = 0; i < MISUSED; i++)
            blocks[i] = present(malloc(64));
        for (size_t i = 0; i < MISUSED; i++) {
            char *block = hidden(blocks[i]);

            before_free(block);
            free(block);
            after_free(hidden(block));
        }
    }
}

// Not past the end of a page, where there may be nothing, so that the program would be ended without being understood.
static void write_behind(char *block)
{
    if (((uintptr_t)block + 64) % 4096 != 0)
        block[64] = 1;
}

static void write_into(char *block)
{
    block[0] = 1;
}

static void leave_alone(char *block)
{
    (void)block;
}

static void overflow(void)
{
    misuse_many(write_behind, leave_alone);
}

static void use_after_free(void)
{
    misuse_many(write_into, write_into);
}

static const struct {
    const char *name;
    void (*run)(void);
} kinds[] = {{"free_twice", free_twice},
             {"free_inside", free_inside},
             {"free_stack", free_stack},
             {"overflow", overflow},
             {"use_after_free", use_after_free}};

static int misuse(const char *kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kind, kinds[i].name) == 0) {
            kinds[i].run();
            return 0;
        }
    return 2;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "idle") == 0)
        return idle();
    if (argc == 2 && strcmp(argv[1], "worst") == 0)
        return worst();
    if (argc == 3 && strcmp(argv[1], "limited") == 0)
        return limited(strtoul(argv[2], NULL, 10) * MIB);
    if (argc == 3 && strcmp(argv[1], "misuse") == 0)
        return misuse(argv[2]);
    fputs("usage: arenal_promises idle | worst | limited MIB | misuse KIND\n", stderr);
    return 2;
}
