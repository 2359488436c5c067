#include "base/cpus.h"

#include <stdatomic.h>
#include <string.h>

#include "base/os.h"

/* The kernel writes as many bytes as it has CPUs for, and refuses a set that is too small. What is behind
 * them is never touched, and takes no memory. */
static unsigned char set[CPUS_BYTES] __attribute__((aligned(8)));
static _Atomic long bytes; /* in use; below 0 where the kernel does not say. 0: not asked yet */

void cpus_remember(void) {
	if (atomic_load_explicit(&bytes, memory_order_acquire) != 0) return;
	const long told = os_affinity(set, sizeof set);
	atomic_store_explicit(&bytes, told > 0 ? told : -1, memory_order_release);
}

unsigned cpus_in(const unsigned char *cpus, long size) {
	unsigned count = 0;
	for (long i = 0; i < size; i++) count += (unsigned)__builtin_popcount(cpus[i]);
	return count > 0 ? count : 1;
}

unsigned cpus_count(void) {
	cpus_remember();
	return cpus_in(set, atomic_load_explicit(&bytes, memory_order_acquire));
}

/* Only where that changes something: filters of system calls that kill for it are common (systemd's
 * @resources). */
void cpus_use_all(void) {
	unsigned char now[128];
	const long size = atomic_load_explicit(&bytes, memory_order_acquire);
	if (size <= 0) return;
	const bool fits = size <= (long)sizeof now;
	if (!fits || os_affinity(now, sizeof now) != size || memcmp(now, set, (size_t)size) != 0)
		os_set_affinity(set, (size_t)size);
}
