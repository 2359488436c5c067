/* What the tests of calls beside threads of Arenal's own share. */
#include "own_threads.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

void pause_a_moment(void) { nanosleep(&(struct timespec){ 0, 2000000 }, NULL); }

bool allocate(void) {
	void *blocks[300];
	for (int i = 0; i < 300; i++) blocks[i] = malloc(700);
	for (int i = 0; i < 300; i++) free(blocks[i]);
	free(malloc(100000));
	return true;
}

bool has_window(void) { return allocate() && window_thread(getpid()) != 0; }

void answers(void) {
	struct window window;
	CHILD_WAIT_FOR(allocate() && window_open(&window, getpid()));
	CHILD_CHECK(window_ask(&window, SNAPSHOT, "", 0, NULL) == 0);
	window_close(&window);
}

bool is_root(void) { return geteuid() == 0; }

void set_capabilities(bool raise) {
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2];
	CHILD_CHECK(syscall(SYS_capget, &header, sets) == 0);
	for (int i = 0; i < 2; i++) sets[i].effective = raise ? sets[i].permitted : 0;
	CHILD_CHECK(syscall(SYS_capset, &header, sets) == 0);
}
