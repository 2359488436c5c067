/* base/: bitmaps, formatted text, tunables' values, metadata memory, locks, the gate. */
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/conf.h"
#include "base/cpus.h"
#include "base/gate.h"
#include "base/lock.h"
#include "base/meta.h"
#include "base/print.h"

static void bitmap_ranges(void **state) {
	(void)state;
	/* Every range of a small map, against a map of bytes. */
	for (size_t first = 0; first < 192; first += 7) {
		for (size_t count = 0; first + count <= 192; count += 5) {
			uint64_t map[3] = { 0 };
			bits_set(map, first, count);
			for (size_t i = 0; i < 192; i++) assert_int_equal(bit_get(map, i), i >= first && i < first + count);
			assert_int_equal(bits_count(map, 0, 192), count);
			assert_int_equal(bit_find(map, 0, 192, true), count > 0 ? first : 192);
			assert_int_equal(bit_find(map, first, 192, false), first + count);
			bits_clear(map, first, count);
			assert_int_equal(map[0] | map[1] | map[2], 0);
		}
	}
}

static void formatted_text(void **state) {
	(void)state;
	char text[64];
	assert_int_equal(print_text(text, sizeof text, "%s|%5d|%-5u|%05x|%zu", "a", -12, 7u, 0xabu, (size_t)1 << 40), 33);
	assert_string_equal(text, "a|  -12|7    |000ab|1099511627776");
	print_text(text, sizeof text, "%.*s%c%%%p", 3, "abcdef", 'z', (void *)0xff);
	assert_string_equal(text, "abcz%0xff");
	print_text(text, sizeof text, "%ld %lu", INT64_MIN, UINT64_MAX);
	assert_string_equal(text, "-9223372036854775808 18446744073709551615");
	/* Never past the end. */
	memset(text, '#', sizeof text);
	assert_int_equal(print_text(text, 4, "abcdef"), 3);
	assert_string_equal(text, "abc");
	assert_int_equal(text[4], '#');
}

static void values(void **state) {
	(void)state;
	int64_t value;
	static const struct {
		const char *text;
		int64_t value;
	} good[] = { { "0", 0 }, { "-1", -1 }, { "64K", 65536 }, { "64k", 65536 }, { "2M", 2 << 20 }, { "3G", INT64_C(3) << 30 } };
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_true(conf_parse(good[i].text, strlen(good[i].text), &value));
		assert_int_equal(value, good[i].value);
	}
	static const char *const bad[] = { "", "-", "x", "1x", "1KB", "K", "99999999999999999999", "9000000000000000000G", "1 " };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(conf_parse(bad[i], strlen(bad[i]), &value));
}

static void metadata(void **state) {
	(void)state;
	char *a = meta_alloc(100), *b = meta_alloc(100), *large = meta_alloc(1 << 20);
	assert_non_null(a);
	assert_non_null(large);
	assert_true(a + 100 <= b || b + 100 <= a);
	assert_int_equal((uintptr_t)a % CACHE_LINE, 0);
	memset(a, 1, 100);
	memset(large, 1, 1 << 20);
	meta_free(a, 100);
	/* Reused, and zeroed again. */
	char *again = meta_alloc(100);
	assert_ptr_equal(again, a);
	for (int i = 0; i < 100; i++) assert_int_equal(again[i], 0);
	meta_free(large, 1 << 20);
	assert_ptr_equal(meta_alloc(1 << 20), large);
}

static struct lock lock;
static long counter;
static void *count(void *unused) {
	for (int i = 0; i < 100000; i++) {
		lock_take(&lock, RANK_META);
		counter++;
		lock_drop(&lock, RANK_META);
	}
	return unused;
}

static void locks(void **state) {
	(void)state;
	pthread_t threads[4];
	for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
	for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
	assert_int_equal(counter, 400000);
	assert_int_equal(lock.state, 0);
}

/* ---- the gate ---- */

static _Atomic int inside, step;

static void await_step(int wanted) {
	while (atomic_load(&step) < wanted) sched_yield();
}

static void *stay_inside(void *unused) {
	gate_enter();
	atomic_store(&step, 1);
	await_step(2);
	/* Who is inside may go on, also in here, while somebody waits to close it. */
	gate_enter();
	assert_true(gate_try_enter());
	gate_leave();
	gate_leave();
	atomic_store(&inside, 1);
	gate_leave();
	return unused;
}

static void *enter_later(void *unused) {
	gate_enter();
	atomic_store(&inside, 2);
	gate_leave();
	return unused;
}

static void a_closed_gate(void **state) {
	(void)state;
	pthread_t first, later;
	atomic_store(&step, 0);
	atomic_store(&inside, 0);
	assert_int_equal(pthread_create(&first, NULL, stay_inside, NULL), 0);
	await_step(1);
	atomic_store(&step, 2);
	gate_close();
	assert_int_equal(atomic_load(&inside), 1); /* it has waited */
	assert_false(gate_try_enter());
	assert_int_equal(pthread_create(&later, NULL, enter_later, NULL), 0);
	usleep(2000); /* nothing to wait for: it must not happen */
	assert_int_equal(atomic_load(&inside), 1);
	gate_open();
	pthread_join(first, NULL);
	pthread_join(later, NULL);
	assert_int_equal(atomic_load(&inside), 2);
	assert_true(gate_try_enter());
	gate_close(); /* a handler of a signal: not for its own thread */
	gate_open();
	gate_leave();
}

/* By clone, while a thread that it does not have is inside. */
static void a_gate_of_another_process(void **state) {
	(void)state;
	pthread_t first;
	int status;
	atomic_store(&step, 0);
	assert_int_equal(pthread_create(&first, NULL, stay_inside, NULL), 0);
	await_step(1);
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	assert_true(child >= 0);
	if (child == 0) {
		alarm(30);
		gate_close();
		gate_open();
		_exit(gate_try_enter() ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	atomic_store(&step, 2);
	pthread_join(first, NULL);
}

static void cpus_of_large_machines(void **state) {
	(void)state;
	static unsigned char set[CPUS_BYTES];
	assert_int_equal(cpus_in(set, sizeof set), 1); /* nobody runs nowhere */
	set[0] = 3;
	set[1024 / 8] = 1; /* the first that a cpu_set_t has no room for */
	set[CPUS_BYTES - 1] = 0x80;
	assert_int_equal(cpus_in(set, 1024 / 8), 2);
	assert_int_equal(cpus_in(set, 1024 / 8 + 8), 3);
	assert_int_equal(cpus_in(set, sizeof set), 4);
	assert_int_equal(cpus_in(set, -1), 1); /* the kernel does not say */
	assert_true(cpus_count() >= 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cpus_of_large_machines),
		cmocka_unit_test(bitmap_ranges), cmocka_unit_test(formatted_text), cmocka_unit_test(values),
		cmocka_unit_test(metadata), cmocka_unit_test(locks),
		cmocka_unit_test(a_closed_gate), cmocka_unit_test(a_gate_of_another_process),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
