#include "arena/mark.h"

#include "base/os.h"
#include "base/random.h"

static _Atomic bool wiped;

void mark_let_be_wiped(void) { atomic_store_explicit(&wiped, true, memory_order_relaxed); }

bool mark_was_wiped(void *block) {
	return *mark_place(block) == 0 && atomic_load_explicit(&wiped, memory_order_relaxed);
}

/* Neither 0, which malloc writes there, nor a small number, nor an address. */
void mark_draw(void) {
	struct random random = { os_random() };
	atomic_store_explicit(&page_map.mark, random_next(&random) | UINT64_C(1) << 62, memory_order_relaxed);
}
