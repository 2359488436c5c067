#include "arena/zero.h"

#include <stdatomic.h>

#include "arena/report.h"
#include "base/os.h"

/* So many addresses there are. */
#define ADDRESSES ((uint32_t)1 << 20)
#define AREA_SIZE (ADDRESSES * (size_t)MIN_ALIGN)

/* So many may be in use at once: the search for a free one looks at 16 on average then, whatever the program
 * holds. */
#define IN_USE_MOST (ADDRESSES / 16 * 15)

/* Looked at before giving up: a program may hold long stretches of them. */
#define TRIES 4096

/* A byte for each address. */
#define NEVER_USED 0
#define FREED 1
#define IN_USE 2 /* + the family */
static_assert(IN_USE + ZERO_FAMILIES - 1 <= UINT8_MAX, "a state is a byte");

/* Set once. The states lie behind the addresses, in one mapping: a child that is forked meanwhile finds all
 * of it, or nothing. */
static _Atomic(char *) area;
static _Atomic uint32_t next, in_use;

static _Atomic uint8_t *states(void) {
	return (_Atomic uint8_t *)(atomic_load_explicit(&area, memory_order_acquire) + AREA_SIZE);
}

static bool ready(void) {
	if (likely(atomic_load_explicit(&area, memory_order_acquire) != NULL)) return true;
	/* Nobody may touch the page behind the states. */
	const size_t size = AREA_SIZE + ADDRESSES + os_page_size;
	char *reserved = os_reserve(size, os_page_size), *none = NULL;
	if (reserved == NULL) return false;
	atomic_store_explicit(&next, (uint32_t)os_random(), memory_order_relaxed);
	/* Two threads may come here at once. */
	if (os_commit(reserved + AREA_SIZE, ADDRESSES) && atomic_compare_exchange_strong(&area, &none, reserved))
		return true;
	os_unmap(reserved, size);
	return none != NULL;
}

void zero_reseed(void) {
	if (atomic_load_explicit(&area, memory_order_acquire) != NULL)
		atomic_store_explicit(&next, (uint32_t)os_random(), memory_order_relaxed);
}

bool zero_owns(const void *address) {
	const char *start = atomic_load_explicit(&area, memory_order_acquire);
	return start != NULL && (uintptr_t)address - (uintptr_t)start < AREA_SIZE;
}

void *zero_alloc(unsigned family) {
	if (!ready() || atomic_load_explicit(&in_use, memory_order_relaxed) >= IN_USE_MOST) return NULL;
	for (int i = 0; i < TRIES; i++) {
		const uint32_t n = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) % ADDRESSES;
		uint8_t state = atomic_load_explicit(&states()[n], memory_order_relaxed);
		if (state >= IN_USE ||
		    !atomic_compare_exchange_strong(&states()[n], &state, (uint8_t)(IN_USE + family)))
			continue;
		atomic_fetch_add_explicit(&in_use, 1, memory_order_relaxed);
		return area + n * (size_t)MIN_ALIGN;
	}
	return NULL;
}

/* Ends the program when no block in use starts at the address, whose state is this one. */
static void check(const void *address, uint8_t state, const char *function) {
	if (likely(state >= IN_USE && (uintptr_t)address % MIN_ALIGN == 0)) return;
	report_end(function, address,
	           state == FREED ? "the block of no bytes was freed already" : "the address is not a block");
}

static _Atomic uint8_t *state_of(const void *address) {
	return &states()[(size_t)((const char *)address - area) / MIN_ALIGN];
}

unsigned zero_family(const void *block, const char *function) {
	const uint8_t state = atomic_load_explicit(state_of(block), memory_order_relaxed);
	check(block, state, function);
	return state - IN_USE;
}

void zero_free(void *block, const char *function) {
	check(block, atomic_exchange(state_of(block), FREED), function);
	atomic_fetch_sub_explicit(&in_use, 1, memory_order_relaxed);
}
