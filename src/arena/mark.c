#include "arena/mark.h"

#include "base/os.h"
#include "base/random.h"

/* Neither 0, which malloc writes there, nor a small number, nor an address. */
void mark_draw(void) {
	struct random random = { os_random() };
	atomic_store_explicit(&page_map.mark, random_next(&random) | UINT64_C(1) << 62, memory_order_relaxed);
}
