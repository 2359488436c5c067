/* Does again what a trace recorded, as fast as it can, and measures it. */
#ifndef REPLAY_H
#define REPLAY_H

#include <stdint.h>

/* Prints JSON. At the end, it rests so many seconds, with what is live then. */
void replay(const char *path, uint32_t pid, unsigned long seconds);

#endif
