// What threads cost each other, counted: see counter.c.
#ifndef CONTENTION_COUNTER_H
#define CONTENTION_COUNTER_H

// The program called the allocator.
void count_call(void);

#endif
