#include "harden/report.h"

#include "base/lock.h"
#include "base/print.h"

static const char *const sources[FAMILY_COUNT] = {
	"malloc", "operator new", "operator new[]", "operator new with an alignment", "operator new[] with an alignment",
};

_Noreturn COLD void harden_report(const char *function, const void *block, const char *format, ...) {
	char text[256];
	va_list args;
	va_start(args, format);
	print_text_args(text, sizeof text, format, args);
	va_end(args);
	/* Locks may be held here. A handler of SIGABRT that allocates shall get to say what it has to say. */
	lock_own_all(true);
	print_fd(2, "arenal: %s(%p): %s; the program ends here\n", function, (void *)block, text);
	os_abort();
}

void harden_check_claim(const void *block, size_t size, enum family family, const struct claim *claim) {
	if (unlikely(family != claim->family)) harden_report(claim->function, block, "the block came from %s", sources[family]);
	if (unlikely(claim->size != SIZE_UNKNOWN && claim->size != size))
		harden_report(claim->function, block, "the block has %zu bytes, not %zu", size, claim->size);
}
