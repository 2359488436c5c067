#include "arena/report.h"

#include "base/lock.h"
#include "base/print.h"

_Noreturn __attribute__((noinline, cold)) void report_bad_free(const void *pointer, const char *what) {
	/* Locks are held here. A handler of SIGABRT that allocates shall get to say what it has to say. */
	lock_own_all(true);
	print_fd(2, "arenal: free(%p): the address %s; the program ends here\n", (void *)pointer, what);
	os_abort();
}
