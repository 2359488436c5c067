#include "arena/report.h"

#include "base/os.h"
#include "base/print.h"

_Noreturn __attribute__((noinline, cold)) void report_bad_free(const void *pointer, const char *what) {
	print_fd(2, "arenal: free(%p): the address %s; the program ends here\n", (void *)pointer, what);
	os_abort();
}
