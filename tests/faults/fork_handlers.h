/* Handlers of fork, as a library has them. */
#ifndef FORK_HANDLERS_H
#define FORK_HANDLERS_H

enum moment { BEFORE, AFTER, AFTER_IN_CHILD };

/* Run by all handlers that were registered. NULL: they do nothing. */
extern void (*fork_handler)(enum moment moment);

/* Once more: handlers that were registered later run earlier before a fork. */
void register_fork_handlers(void);

#endif
