#include "observe/trace_clock.h"

#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

bool trace_clock_is_counter;

static bool counter_is_good(void) {
#if defined(__x86_64__)
	/* The kernel knows whether the counters of all cores agree: it uses them itself then. */
	static const char *const agreed[] = { "tsc", "kvm-clock", "hyperv" };
	char source[64];
	unsigned a, b, c, d;
	os_read_file("/sys/devices/system/clocksource/clocksource0/current_clocksource", 0, source,
	             sizeof source);
	bool known = false;
	for (size_t i = 0; i < sizeof agreed / sizeof *agreed; i++)
		known |= strncmp(source, agreed[i], strlen(agreed[i])) == 0;
	return known && __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d >> 8 & 1) != 0;
#else
	return true;
#endif
}

void trace_clock_choose(void) { trace_clock_is_counter = counter_is_good(); }
