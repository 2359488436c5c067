#include "load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATTERN_SIZE = 256 * 1024 };

static char pattern[PATTERN_SIZE + MAX_VALUE];

// In front of each value; slices of the pattern follow.
struct stamp {
    uint64_t id, offset;
};
_Static_assert(sizeof(struct stamp) == MIN_VALUE, "the smallest value is the stamp alone");

void values_init(uint64_t seed)
{
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (char)random_next(&seed);
}

unsigned key_format(char key[KEY_SPACE], uint64_t id)
{
    static const char padding[] = ":profile:settings:history:timeline:session:cart";
    int length = snprintf(key, KEY_SPACE, "key:%08llx%.*s", (unsigned long long)id,
                          (int)(mix(id) % sizeof padding), padding);

    return (unsigned)length;
}

uint32_t value_length(uint64_t *random)
{
    double kind = random_unit(random), low = MIN_VALUE, high = 256;

    if (kind >= 0.95)
        low = 4096, high = MAX_VALUE;
    else if (kind >= 0.70)
        low = 256, high = 4096;
    return (uint32_t)(low * pow(high / low, random_unit(random)));
}

bool value_append(struct buffer *out, uint64_t id, uint32_t length, uint64_t *random)
{
    struct stamp stamp = {.id = id, .offset = random_next(random) % PATTERN_SIZE};

    return buffer_append(out, &stamp, sizeof stamp) &&
           buffer_append(out, pattern + stamp.offset, length - sizeof stamp);
}

bool value_check(const char *value, uint32_t length, uint64_t id)
{
    struct stamp stamp;

    if (length < MIN_VALUE || length > MAX_VALUE)
        return false;
    memcpy(&stamp, value, sizeof stamp);
    return stamp.id == id && stamp.offset < PATTERN_SIZE &&
           memcmp(value + sizeof stamp, pattern + stamp.offset, length - sizeof stamp) == 0;
}
