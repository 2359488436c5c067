/* observe/trace: a block that another thread is recorded to have got was recorded before as given up, however soon recording stops. */
#include "unit.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "observe/trace_inner.h"

enum { CHUNKS = 16 };

static char path[64];
static const struct front *_Atomic traced;

/* Addresses that nobody has; nobody looks. What is behind the traced front gives them to the threads. */
static char *next_address = (char *)0x10000, *given;
static pthread_barrier_t barrier;
static void (*meanwhile)(void);

static void *do_allocate(size_t size, enum family family) {
	(void)size, (void)family;
	return given;
}
static void do_release(void *block, const struct claim *claim) { (void)block, (void)claim; }
static size_t do_usable_size(void *block, const char *function) {
	(void)block, (void)function;
	return 100;
 }

/* The other thread gets the old block before the caller has the new one. */
static void *do_resize(void *block, size_t size) {
	(void)size;
	given = block;
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	if (meanwhile != NULL) meanwhile();
	return size > 1000 ? NULL : (next_address += 16);
}

static const struct front behind = { .allocate = do_allocate, .resize = do_resize, .release = do_release, .usable_size = do_usable_size };

static void *other_thread(void *unused) {
	for (;;) {
		pthread_barrier_wait(&barrier);
		if (given == NULL) return unused;
		traced->allocate(100, FAMILY_MALLOC);
		pthread_barrier_wait(&barrier);
	}
}

static pthread_t other;

static void begin(void) {
	snprintf(path, sizeof path, "/tmp/arenal-trace-moves-%d", getpid());
	trace_offer(&behind, &traced);
	assert_int_equal(trace_open(path, CHUNKS * TRACE_CHUNK, 0), 0);
	assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
	assert_int_equal(pthread_create(&other, NULL, other_thread, NULL), 0);
}

/* Counts the records of each kind. */
static void end(size_t counts[TRACE_OPS]) {
	given = NULL;
	pthread_barrier_wait(&barrier);
	pthread_join(other, NULL);
	trace_close();
	static unsigned char bytes[CHUNKS * TRACE_CHUNK];
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	const size_t length = fread(bytes, 1, sizeof bytes, file);
	fclose(file);
	unlink(path);
	for (size_t chunk = TRACE_CHUNK; chunk < length; chunk += TRACE_CHUNK) {
		size_t at = chunk + sizeof(struct trace_chunk), op;
		for (uint16_t head; at + 2 < chunk + TRACE_CHUNK; counts[op]++) {
			memcpy(&head, &bytes[at], sizeof head);
			op = head & 15;
			if (op == TRACE_NOTHING) break;
			at += 4 + (head >> TRACE_TIME_SHIFT & 7u) + (head >> TRACE_ADDRESS_SHIFT & 7u);
			if (op != TRACE_FREE && op != TRACE_MOVE) at += 1 + (head >> TRACE_SIZE_SHIFT & 7u);
			if (op == TRACE_THREAD || op == TRACE_END) at += TRACE_NAME;
		}
	}
}

static bool is_on(void) {
	struct trace_state_now now;
	trace_state_get(&now);
	return now.is_on;
}

static void the_file_is_full(void **state) {
	(void)state;
	char *block = next_address;
	size_t counts[TRACE_OPS] = { 0 };
	begin();
	const struct claim claim = { "free", FAMILY_MALLOC, SIZE_UNKNOWN };
	while (trace_header->chunks < CHUNKS - 1) traced->release(block, &claim);
	while (is_on()) block = traced->resize(block, 100);
	end(counts);
	assert_true(counts[TRACE_MALLOC] > 1000);
	assert_true(counts[TRACE_MOVE] >= counts[TRACE_MALLOC]);
}

static void stop(void) { atomic_store(&trace_stopped, true); }

static void it_is_stopped(void **state) {
	(void)state;
	size_t counts[TRACE_OPS] = { 0 };
	begin();
	traced->resize(next_address, 100);
	meanwhile = stop;
	traced->resize(next_address, 100);
	meanwhile = NULL;
	end(counts);
	assert_int_equal(counts[TRACE_MALLOC], 2);
	assert_int_equal(counts[TRACE_MOVE], 2);
	assert_int_equal(counts[TRACE_REALLOC], 1);
}

static void it_fails(void **state) {
	(void)state;
	size_t counts[TRACE_OPS] = { 0 };
	begin();
	assert_null(traced->resize(next_address, 2000));
	end(counts);
	assert_int_equal(counts[TRACE_MOVE], 1);
	assert_int_equal(counts[TRACE_REALLOC], 1);
	assert_int_equal(counts[TRACE_FAILED], 1);
}

int main(void) {
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_file_is_full), cmocka_unit_test(it_is_stopped), cmocka_unit_test(it_fails) };
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
