/* Work with blocks of all kinds, for tests of what happens around it. */
#ifndef ALL_KINDS_H
#define ALL_KINDS_H

#include <stdint.h>

/* Blocks of all kinds: built, resized, half of them freed, checked. `key` tells threads apart. */
void work(uint64_t key);

/* Ten times; the key as a pointer. */
void *work_in_thread(void *key);

/* In this thread and another one. */
void work_in_two_threads(void);

#endif
