#include "arena/mark.h"

#include "base/os.h"
#include "base/random.h"

uint64_t mark_of_long = 1; /* as start_tests */

void marks_draw(void) {
	struct random random = { os_random() };
	start_tests_draw(&random);
	/* Neither 0, which malloc writes there, nor a small number, nor an address. */
	mark_of_long = random_next(&random) | UINT64_C(1) << 62;
}
