#include "micro.h"

#include <math.h>

uint32_t sizes_pareto[SIZES];

// Alpha 1.2: half of the blocks are below 29 B, and a hundredth of them, above 740 B, holds a third of the bytes.
void sizes_compute(void)
{
    uint64_t random = 1;

    for (int i = 0; i < SIZES; i++) {
        double size = 16 * pow(1 - random_unit(&random), -1 / 1.2);
        sizes_pareto[i] = size < 65536 ? (uint32_t)size : 65536;
    }
}

void shuffled(uint32_t *order, uint32_t count)
{
    uint64_t random = count;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = (uint32_t)(random_next(&random) % (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
}
