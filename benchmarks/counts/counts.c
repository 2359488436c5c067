// A fixed sequence of calls to the allocator, for counting its instructions: nothing in it depends on the machine, the
// clock, addresses or a seed. Run with N and with 2N operations; what the second run needs more, divided by N, is the
// count of one operation without start-up. tools/compare --gate does that under callgrind.
//
//   arenal_counts MODE N
//   arenal_counts --list
//
// Free memory stays below 8 MiB in every mode: above that, Arenal asks the clock how much of it may stay.
#include "random.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// operator new and delete, by the names that C++ gives them on 64-bit Linux.
extern void *operator_new(size_t size) __asm__("_Znwm");
extern void operator_delete(void *block, size_t size) __asm__("_ZdlPvm");

enum { KIB = 1024, MIB = 1024 * 1024 };

struct mode {
    const char *name;
    const char *operation; // what N counts
    void (*run)(unsigned long n);
};

static uint64_t state;

static size_t size_from(size_t low, size_t high) // low up to, but not including, high
{
    return low + random_next(&state) % (high - low);
}

static void *present(void *block)
{
    if (block == NULL) {
        fputs("arenal_counts: out of memory\n", stderr);
        exit(1);
    }
    return block;
}

static void pair(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) {
        free(present(malloc(64)));
    }
}

// Allocates `batch` blocks, frees them, last in first out or first in first out; until there were n.
static void batches(unsigned long n, size_t batch, size_t low, size_t high, bool last_first)
{
    void **blocks = present(malloc(batch * sizeof *blocks));
    while (n > 0) {
        size_t count = n < batch ? n : batch;
        for (size_t i = 0; i < count; i++) {
            blocks[i] = present(malloc(size_from(low, high)));
        }
        for (size_t i = 0; i < count; i++) {
            free(blocks[last_first ? count - 1 - i : i]);
        }
        n -= count;
    }
    free(blocks);
}

static void lifo(unsigned long n)
{
    batches(n, 64, 16, KIB, true);
}

// More of one size at once than a thread's cache holds: it is filled up and emptied again and again.
static void overflow(unsigned long n)
{
    batches(n, 8192, 256, 257, false);
}

// Classes above those that malloc finds by a table, more of them than a thread's cache holds.
static void medium(unsigned long n)
{
    batches(n, 384, KIB, 32 * KIB, false);
}

// A table of blocks; one after another, chosen at random, is replaced by one of another size.
static void replace(unsigned long n, size_t slots, size_t low, size_t high)
{
    void **blocks = present(calloc(slots, sizeof *blocks));
    for (unsigned long i = 0; i < n; i++) {
        void **slot = &blocks[random_next(&state) % slots];
        free(*slot);
        *slot = present(malloc(size_from(low, high)));
    }
    for (size_t i = 0; i < slots; i++) {
        free(blocks[i]);
    }
    free(blocks);
}

static void random_small(unsigned long n)
{
    replace(n, 4096, 16, KIB);
}

static void large(unsigned long n)
{
    replace(n, 8, 33 * KIB, 512 * KIB);
}

// One that the thread has just freed is had again.
static void large_pair(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) {
        free(present(malloc(100000)));
    }
}

static void huge(unsigned long n)
{
    replace(n, 8, MIB + 4 * KIB, 8 * MIB);
}

static void zeroed(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) {
        free(present(calloc(1 + i % 4, 32)));
    }
}

// Buffers that grow by half, from 16 B to 16 KiB, as those of strings and arrays do.
static void grow(unsigned long n)
{
    char *block = NULL;
    size_t size = 16;
    for (unsigned long i = 0; i < n; i++) {
        block = present(realloc(block, size));
        size += size / 2;
        if (size > 16 * KIB) {
            free(block);
            block = NULL;
            size = 16;
        }
    }
    free(block);
}

static void aligned(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) {
        void *block = NULL;
        if (posix_memalign(&block, (size_t)32 << i % 8, 200) != 0) {
            block = NULL;
        }
        free(present(block));
    }
}

static void operators(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) {
        operator_delete(present(operator_new(48)), 48);
    }
}

enum { HANDED = 256 };

// Frees what it is given, and leaves as many blocks of its own.
static void *visitor(void *argument)
{
    void **blocks = argument;
    for (size_t i = 0; i < HANDED; i++) {
        free(blocks[i]);
        blocks[i] = present(malloc(16 + i));
    }
    return NULL;
}

// One thread after another, never two that allocate at the same time: their order would not be the same in every run.
static void threads(unsigned long n)
{
    static void *blocks[HANDED];
    for (unsigned long i = 0; i < n; i++) {
        for (size_t k = 0; k < HANDED; k++) {
            free(blocks[k]);
            blocks[k] = present(malloc(16 + k));
        }
        pthread_t thread;
        int error = pthread_create(&thread, NULL, visitor, blocks);
        if (error != 0) {
            fprintf(stderr, "arenal_counts: cannot start a thread: %s\n", strerror(error));
            exit(1);
        }
        pthread_join(thread, NULL);
    }
}

static const struct mode modes[] = {
    {"pair", "malloc and free of 64 B", pair},
    {"lifo", "malloc and free, 64 blocks at a time, 16 B to 1 KiB, last in first out", lifo},
    {"random", "malloc and free, table of 4,096 blocks of 16 B to 1 KiB", random_small},
    {"calloc", "calloc and free, 32 to 128 B", zeroed},
    {"realloc", "realloc, growing from 16 B to 16 KiB by half", grow},
    {"aligned", "posix_memalign and free, alignments of 32 B to 4 KiB", aligned},
    {"new", "operator new and delete of 48 B", operators},
    {"overflow", "malloc and free, 8,192 blocks of 256 B at a time, first in first out", overflow},
    {"medium", "malloc and free, 384 blocks of 1 to 32 KiB at a time, first in first out", medium},
    {"large", "malloc and free, table of 8 blocks of 33 to 512 KiB", large},
    {"large pair", "malloc and free of 100,000 B", large_pair},
    {"huge", "malloc and free, table of 8 blocks of 1 to 8 MiB", huge},
    {"threads", "start and end of a thread that frees 256 blocks and leaves 256", threads},
};
enum { MODES = sizeof modes / sizeof *modes };

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < MODES; i++) {
            printf("%s\t%s\n", modes[i].name, modes[i].operation);
        }
        return 0;
    }
    for (size_t i = 0; argc == 3 && i < MODES; i++) {
        char *end;
        errno = 0;
        unsigned long n = strtoul(argv[2], &end, 10);
        if (strcmp(argv[1], modes[i].name) == 0 && end != argv[2] && *end == '\0' && errno == 0) {
            modes[i].run(n);
            return 0;
        }
    }
    fputs("usage: arenal_counts MODE N, or arenal_counts --list\n", stderr);
    return 2;
}
