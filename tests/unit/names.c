/* Names of mappings: all of ours have one, when that is wanted, and nobody is asked otherwise. The test is the kernel, which may have no
 * names. */
#include "unit.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "arena/arena.h"
#include "arena/heap.h"
#include "arena/huge.h"
#include "base/conf.h"
#include "base/meta.h"
#include "base/os.h"
#include "base/sandbox.h"

#define VMA_NAME 0x53564d41 /* PR_SET_VMA */

static struct named {
	uintptr_t start, end;
	const char *name;
} named[4096];
static size_t count;
static long result;

long __real_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f) {
	if (number != SYS_prctl || a != VMA_NAME) return __real_system_call(number, a, b, c, d, e, f);
	named[count++ % 4096] = (struct named){ (uintptr_t)c, (uintptr_t)c + (uintptr_t)d, (const char *)e };
	return result;
}

static const char *name_of(const void *address) {
	for (size_t i = count; i-- > 0;)
		if ((uintptr_t)address >= named[i].start && (uintptr_t)address < named[i].end) return named[i].name;
	return NULL;
}

static void nobody_asks(void) {
	const size_t before = count;
	struct span *run = heap_alloc(2, 1, REGION_MAPPED, SPAN_RUN, NULL);
	size_t stale;
	void *huge = huge_alloc(40 * MIB, 4096, &stale);
	heap_free(run);
	huge_free(huge);
	huge_purge();
	assert_int_equal(count, before);
}

static void nothing_is_named_unless_wanted(void **state) {
	(void)state;
	assert_int_equal(conf.names, 0);
	nobody_asks();
	conf.names = 1;
	atomic_store(&sandbox_on, true);
	nobody_asks();
	atomic_store(&sandbox_on, false);
}

static void each_kind_has_its_name(void **state) {
	(void)state;
	conf.names = 1;
	struct span *runs[3];
	for (int i = 0; i < 3; i++) runs[i] = heap_alloc(RUN_MAX / SLICE_SIZE, 1, REGION_MAPPED, SPAN_RUN, NULL);
	assert_string_equal(name_of(runs[2]->start), "arenal: heap");
	/* What is closed and opened again is a new mapping to the kernel. */
	char *start = runs[2]->start;
	runs[2]->altered = true;
	count = 0;
	assert_true(heap_renew(runs[2]));
	assert_string_equal(name_of(start), "arenal: heap");
	for (int i = 0; i < 3; i++) heap_free(runs[i]);
	count = 0;
	heap_trim(0);
	assert_true(count > 0);
	for (size_t i = 0; i < count; i++) assert_string_equal(named[i].name, "arenal: heap");

	size_t stale;
	char *huge = huge_alloc(3 * MIB, 4096, &stale);
	assert_string_equal(name_of(huge), "arenal: huge");
	assert_string_equal(name_of(huge + 3 * MIB - 1), "arenal: huge");
	/* mremap takes the name along. */
	count = 0;
	huge = huge_resize(huge, 8 * MIB);
	assert_int_equal(count, 0);
	huge_free(huge);
	huge_purge();

	const void *records = meta_alloc(MIB);
	assert_string_equal(name_of(records), "arenal: records");
}

static void a_kernel_without_is_asked_once(void **state) {
	(void)state;
	conf.names = 1;
	result = -EINVAL;
	count = 0;
	os_name((void *)os_page_size, os_page_size, NAME_HEAP);
	assert_int_equal(count, 1);
	nobody_asks();
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_named_unless_wanted),
		cmocka_unit_test(each_kind_has_its_name),
		cmocka_unit_test(a_kernel_without_is_asked_once),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
