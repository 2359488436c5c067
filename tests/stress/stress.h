/* What the stress programs share: their arguments, random numbers, and blocks whose contents are checked.
 *
 * The programs call the allocator by its plain names. With ARENAL_TEST_PREFIX they call arenal_test_malloc and so on:
 * in sanitizer builds malloc itself belongs to the sanitizer. */
#ifndef STRESS_H
#define STRESS_H

#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef ARENAL_TEST_PREFIX
void *arenal_test_malloc(size_t size);
void *arenal_test_calloc(size_t count, size_t size);
void *arenal_test_realloc(void *block, size_t size);
void arenal_test_free(void *block);
void *arenal_test_aligned_alloc(size_t alignment, size_t size);
int arenal_test_posix_memalign(void **block, size_t alignment, size_t size);
size_t arenal_test_malloc_usable_size(void *block);
int arenal_test_malloc_trim(size_t pad);
#define malloc arenal_test_malloc
#define calloc arenal_test_calloc
#define realloc arenal_test_realloc
#define free arenal_test_free
#define aligned_alloc arenal_test_aligned_alloc
#define posix_memalign arenal_test_posix_memalign
#define malloc_usable_size arenal_test_malloc_usable_size
#define malloc_trim arenal_test_malloc_trim
#endif

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define UNDER_TSAN 1
#endif

/* Every program takes: SEED OPERATIONS THREADS. The same arguments lead to the same calls in each thread. */
struct arguments {
	uint64_t seed;
	size_t operations; /* of each thread */
	size_t threads;
};
struct arguments read_arguments(int argc, char **argv);

/* Prints what went wrong and aborts. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
#define CHECK(condition) ((condition) ? (void)0 : fail("%s:%d: %s does not hold", __FILE__, __LINE__, #condition))

/* A sequence of random numbers for each thread. */
struct random {
	uint64_t state;
};
struct random random_for(uint64_t seed, uint64_t thread);
uint64_t random_next(struct random *random);
/* 0 .. bound - 1 */
size_t random_below(struct random *random, size_t bound);
/* Mostly small sizes, seldom up to 4 MiB. */
size_t random_size(struct random *random);

/* A block that is filled with a pattern; checked before anything happens to it. address is NULL when there is none. */
struct block {
	void *address;
	size_t size;
};
/* Through any of the functions that allocate. Fails the program when there is no memory. */
struct block block_new(struct random *random);
struct block block_new_of_size(struct random *random, size_t size);
void block_check(const struct block *block);
void block_resize(struct block *block, struct random *random);
void block_free(struct block *block);

/* Blocks on their way from thread to thread: each slot holds one or none. */
enum { EXCHANGE_SLOTS = 512 };
struct exchange {
	_Atomic(struct block *) slots[EXCHANGE_SLOTS];
};
/* Puts the block into a random slot, and checks and frees the one that lay there. */
void exchange_put(struct exchange *exchange, struct random *random, struct block block);
void exchange_clear(struct exchange *exchange);

/* Starts `count` threads that run body(number), and waits for them. */
void run_threads(size_t count, void *(*body)(void *number));

#endif
