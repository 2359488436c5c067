#include "harden/zero.h"

#include <stdatomic.h>

#include "arena/report.h"
#include "base/os.h"
#include "harden/report.h"

/* So many may be in use at once. An address that was freed comes back when all others had their turn. */
#define ADDRESSES ((uint32_t)1 << 20)
#define AREA_SIZE (ADDRESSES * (size_t)MIN_ALIGN)

/* Looked at before giving up: a program may hold long stretches of them. */
#define TRIES 4096

/* The area, and a byte for each address: 0: never used; FREED; otherwise 2 + the family. Set once. */
static _Atomic(char *) area;
static _Atomic(_Atomic uint8_t *) states;
static _Atomic uint32_t next;
#define FREED 1

static bool ready(void) {
	if (atomic_load_explicit(&area, memory_order_acquire) != NULL) return true;
	_Atomic uint8_t *bytes = os_map(ADDRESSES, os_page_size), *none = NULL;
	char *reserved = bytes != NULL ? os_reserve(AREA_SIZE, os_page_size) : NULL, *nothing = NULL;
	/* Two threads may come here at once. */
	if (reserved != NULL && atomic_compare_exchange_strong(&states, &none, bytes)) {
		atomic_store_explicit(&next, (uint32_t)os_random(), memory_order_relaxed);
		atomic_compare_exchange_strong(&area, &nothing, reserved);
		return true;
	}
	if (reserved != NULL) os_unmap(reserved, AREA_SIZE);
	if (bytes != NULL) os_unmap((void *)bytes, ADDRESSES);
	return atomic_load_explicit(&area, memory_order_acquire) != NULL;
}

bool zero_owns(const void *block) {
	const char *start = atomic_load_explicit(&area, memory_order_acquire);
	return start != NULL && (uintptr_t)block - (uintptr_t)start < AREA_SIZE;
}

void *zero_alloc(enum family family) {
	if (!ready()) return NULL;
	for (int i = 0; i < TRIES; i++) {
		const uint32_t n = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) % ADDRESSES;
		uint8_t state = atomic_load_explicit(&states[n], memory_order_relaxed);
		if (state > FREED) continue;
		if (atomic_compare_exchange_strong(&states[n], &state, (uint8_t)(2 + family))) return area + n * (size_t)MIN_ALIGN;
	}
	return NULL;
}

static _Atomic uint8_t *state_of(const void *block) {
	const size_t offset = (size_t)((const char *)block - area);
	_Atomic uint8_t *state = &states[offset / MIN_ALIGN];
	if (offset % MIN_ALIGN != 0) report_bad_free(block, "is not the start of a block");
	const uint8_t value = atomic_load_explicit(state, memory_order_relaxed);
	if (value <= FREED) report_bad_free(block, value == FREED ? "was freed already" : "is not a block");
	return state;
}

enum family zero_check(const void *block) {
	return (enum family)(atomic_load_explicit(state_of(block), memory_order_relaxed) - 2);
}

void zero_free(void *block, const struct claim *claim) {
	_Atomic uint8_t *state = state_of(block);
	harden_check_claim(block, 0, zero_check(block), claim);
	atomic_store_explicit(state, FREED, memory_order_release);
}

void zero_set_family(void *block, enum family family) {
	atomic_store_explicit(state_of(block), (uint8_t)(2 + family), memory_order_relaxed);
}
