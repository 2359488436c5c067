/* What the tests of calls beside threads of Arenal's own share. All of it is for children. */
#ifndef OWN_THREADS_H
#define OWN_THREADS_H

#include "support.h"
#include "window_client.h"

#include <linux/capability.h>

enum { NOBODY = 65534 };

void pause_a_moment(void);

/* Waits until it comes about. */
#define CHILD_WAIT_FOR(condition) \
	do { \
		for (int i = 0; i < 10000 && !(condition); i++) pause_a_moment(); \
		CHILD_CHECK(condition); \
	} while (0)

/* Slow moments, at which threads of Arenal's own are started. */
bool allocate(void);

bool has_window(void);

/* Waits for a window, and for its answer. */
void answers(void);

bool is_root(void);

int capset(cap_user_header_t header, const cap_user_data_t data);

/* Capabilities of the calling thread alone: libc knows nothing of it. */
void set_capabilities(bool raise);

#endif
