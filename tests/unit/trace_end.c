/* observe/trace_end: what the last process cuts the file of a trace to. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "observe/trace_end.h"

enum { CHUNKS = 100 };

static char path[] = "/tmp/arenal-trace-end-XXXXXX";
static struct os_file file;
static struct trace_header *header;
static struct trace_chunk *_Atomic latest;
static bool others_write;

/* In place of the library's (--wrap). Until we have the file for us, another process takes a chunk before each call. */
long __real_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f) {
	const bool locks = number == SYS_flock || number == SYS_fcntl;
	if (others_write && (locks || number == SYS_openat)) header->chunks++;
	const long result = __real_system_call(number, a, b, c, d, e, f);
	if (locks && result == 0) others_write = false;
	return result;
}

/* A process that has such a file for its own, and exits. */
static void process(void) {
	void *address;
	if (os_create_mapped(path, CHUNKS * TRACE_CHUNK, TRACE_CHUNK, &file, &address) != 0) _exit(1);
	header = address;
	if (mprotect(header, os_page_size, PROT_READ | PROT_WRITE) != 0) _exit(2);
	header->held = trace_end_expect(path, &file, header, &latest);
	header->chunks = 1;
	trace_end_expect_exit(true);
	others_write = true;
	exit(header->held == 1 ? 0 : 3);
}

static void what_others_took_until_they_had_ended_stays(void **state) {
	(void)state;
	close(mkstemp(path));
	unlink(path);
	fflush(NULL);
	const pid_t child = fork();
	if (child == 0) process();
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	const int fd = open(path, O_RDONLY);
	unlink(path);
	assert_int_equal(status, 0);
	struct trace_header found;
	struct stat about;
	assert_int_equal(pread(fd, &found, sizeof found, 0), sizeof found);
	assert_int_equal(fstat(fd, &about), 0);
	close(fd);
	assert_int_equal(found.state, TRACE_ENDED);
	assert_true(found.chunks > 2);
	assert_int_equal(about.st_size, found.chunks * TRACE_CHUNK);
}

int main(void) {
	const struct CMUnitTest tests[] = { cmocka_unit_test(what_others_took_until_they_had_ended_stays) };
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
