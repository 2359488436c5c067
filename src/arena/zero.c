#include "arena/zero.h"

#include <stdatomic.h>

#include "base/os.h"

#define SIZE ((size_t)ZERO_BLOCKS * MIN_ALIGN)
#define WORDS (ZERO_BLOCKS / 64)

static _Atomic(char *) first_block;      /* NULL: nothing is reserved yet */
static _Atomic uint64_t used[WORDS];     /* bit i of word w: block 64 * w + i is in use */
static _Atomic uint32_t next_word;       /* to look at: an address is not used again soon */

static char *reserve(void) {
	char *start = os_map(SIZE, os_page_size), *other = NULL;
	if (start == NULL) return NULL;
	os_guard(start, SIZE);
	if (atomic_compare_exchange_strong(&first_block, &other, start)) return start;
	os_unmap(start, SIZE);
	return other;
}

void *zero_alloc(void) {
	char *start = atomic_load(&first_block);
	if (start == NULL && (start = reserve()) == NULL) return NULL;
	const uint32_t first = atomic_fetch_add(&next_word, 1);
	for (uint32_t n = 0; n < WORDS; n++) {
		const uint32_t w = (first + n) % WORDS;
		uint64_t bits = atomic_load(&used[w]);
		while (~bits != 0) {
			const unsigned i = (unsigned)__builtin_ctzll(~bits);
			if (atomic_compare_exchange_weak(&used[w], &bits, bits | UINT64_C(1) << i))
				return start + ((size_t)w * 64 + i) * MIN_ALIGN;
		}
	}
	return NULL;
}

bool zero_owns(const void *address) {
	const char *start = atomic_load(&first_block);
	return start != NULL && (uintptr_t)address - (uintptr_t)start < SIZE;
}

static size_t number_of(const void *block) { return (size_t)((const char *)block - atomic_load(&first_block)) / MIN_ALIGN; }

bool zero_is_block(const void *address) {
	const size_t n = number_of(address);
	return (uintptr_t)address % MIN_ALIGN == 0 && (atomic_load(&used[n / 64]) >> (n % 64) & 1);
}

bool zero_free(void *block) {
	const size_t n = number_of(block);
	const uint64_t bit = UINT64_C(1) << (n % 64);
	return (uintptr_t)block % MIN_ALIGN == 0 && (atomic_fetch_and(&used[n / 64], ~bit) & bit);
}
