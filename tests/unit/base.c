/* base/: bitmaps, formatted text, tunables' values, metadata memory, locks, the gate, build IDs. */
#include "unit.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api/fork.h"
#include "base/bitmap.h"
#include "base/build_id.h"
#include "base/conf.h"
#include "base/cpus.h"
#include "base/gate.h"
#include "base/lock.h"
#include "base/meta.h"
#include "base/print.h"
#include "base/random.h"
#include "base/sandbox.h"
#include "base/vdso.h"

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

/* Against a look at each bit; dense and sparse maps, and runs across words. */
static void bitmap_runs(void **state) {
	(void)state;
	enum { WORDS = 4, BITS = WORDS * 64 };
	struct random random = { 7 };
	for (int turn = 0; turn < 2000; turn++) {
		uint64_t map[WORDS];
		for (int w = 0; w < WORDS; w++) {
			map[w] = random_next(&random);
			if (turn % 3 == 1) map[w] |= random_next(&random) | random_next(&random) | random_next(&random);
			if (turn % 3 == 2) map[w] = ~(UINT64_C(1) << map[w] % 64);
		}
		const size_t from = random_below(&random, BITS), count = 1 + random_below(&random, 64);
		size_t expected = from, length = 0;
		for (; length < count && expected + length < BITS;) {
			if (bit_get(map, expected + length))
				length++;
			else
				expected += length + 1, length = 0;
		}
		assert_int_equal(bits_find_run(map, WORDS, from, count), length == count ? expected : BITS);
		size_t first = from;
		while (first > 0 && bit_get(map, first - 1)) first--;
		assert_int_equal(bits_set_before(map, from), first);
	}
	const uint64_t full[2] = { ~UINT64_C(0), ~UINT64_C(0) };
	assert_int_equal(bits_find_run(full, 2, 64, 64), 64);
	assert_int_equal(bits_find_run(full, 2, 65, 64), 128);
	assert_int_equal(bits_find_run(full, 2, 128, 1), 128);
	assert_int_equal(bits_set_before(full, 128), 0);
	assert_int_equal(bits_set_before(full, 70), 0);
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

static struct lock contended;
enum { LEAST_WAIT = 3000000 }; /* ns */

static void *take_and_drop(void *argument) {
	lock_take(&contended, RANK_META);
	lock_drop(&contended, RANK_META);
	return argument;
}

/* Who sleeps for a lock is counted; who finds it open is not. */
static void waits_are_counted(void **state) {
	(void)state;
	pthread_t thread;
	const uint64_t count = lock_waits.count, nanoseconds = lock_waits.times.nanoseconds;
	take_and_drop(NULL);
	assert_int_equal(lock_waits.count, count);
	uint64_t counts[TIMES_BUCKETS];
	for (int i = 0; i < TIMES_BUCKETS; i++) counts[i] = lock_waits.times.counts[i];
	lock_take(&contended, RANK_META);
	const uint64_t begin = os_nanoseconds();
	assert_int_equal(pthread_create(&thread, NULL, take_and_drop, NULL), 0);
	while (atomic_load(&contended.state) != 2) sched_yield(); /* it has done with spinning */
	for (const uint64_t asleep = os_nanoseconds(); os_nanoseconds() - asleep < LEAST_WAIT;) sched_yield();
	lock_drop(&contended, RANK_META);
	assert_int_equal(pthread_join(thread, NULL), 0);
	const uint64_t most = os_nanoseconds() - begin;
	assert_int_equal(lock_waits.count, count + 1);
	assert_in_range(lock_waits.times.nanoseconds - nanoseconds, LEAST_WAIT, most);
	/* In the bucket of its time, and in no other. */
	const unsigned bucket = times_bucket(lock_waits.times.nanoseconds - nanoseconds);
	for (unsigned i = 0; i < TIMES_BUCKETS; i++)
		assert_int_equal(lock_waits.times.counts[i], counts[i] + (i == bucket));
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

/* How many waits are over at once, as if nobody had come for long, from the library's calls (--wrap). */
static _Atomic int short_waits;

long __real_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_system_call(long number, long a, long b, long c, long d, long e, long f) {
	if (number == SYS_futex && atomic_load(&short_waits) > 0) {
		atomic_fetch_sub(&short_waits, 1);
		return -ETIMEDOUT;
	}
	return __real_system_call(number, a, b, c, d, e, f);
}

static void *close_and_open(void *unused) {
	gate_close();
	if (atomic_load(&inside) != 1) _exit(4);
	gate_open();
	return unused;
}

/* Its parent had one thread, and it has more: they count, however long they are inside. The first test, before there are threads. */
static void a_gate_in_a_child_of_one_thread(void **state) {
	(void)state;
	int status;
	if (!os_is_single_threaded()) SKIP("glibc does not tell (before 2.32)");
	fork_expect();
	const pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		pthread_t staying, closing;
		alarm(30);
		if (pthread_create(&staying, NULL, stay_inside, NULL) != 0) _exit(2);
		await_step(1);
		atomic_store(&short_waits, 3);
		if (pthread_create(&closing, NULL, close_and_open, NULL) != 0) _exit(3);
		while (atomic_load(&short_waits) > 0) sched_yield();
		atomic_store(&step, 2);
		pthread_join(closing, NULL);
		pthread_join(staying, NULL);
		_exit(gate_try_enter() ? 0 : 5);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
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

/* ---- system calls ---- */

static uint64_t nanoseconds_of_libc(clockid_t clock) {
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void clocks(void **state) {
	(void)state;
	const uint64_t before = nanoseconds_of_libc(CLOCK_MONOTONIC), ours = os_nanoseconds(), after = nanoseconds_of_libc(CLOCK_MONOTONIC);
	assert_in_range(ours, before, after);
	const uint64_t first = nanoseconds_of_libc(CLOCK_REALTIME), date = os_date();
	assert_true(date >= first && date - first < UINT64_C(60) * 1000000000);
	const uint64_t coarse = nanoseconds_of_libc(CLOCK_MONOTONIC_COARSE) / 1000000, milliseconds = os_milliseconds();
	assert_true(milliseconds >= coarse && milliseconds - coarse < 60000);
}

static void functions_of_the_kernel(void **state) {
	(void)state;
#if defined(__x86_64__)
	static const char name[] = "__vdso_clock_gettime";
#else
	static const char name[] = "__kernel_clock_gettime";
#endif
	const uintptr_t base = getauxval(AT_SYSINFO_EHDR); /* 0 under valgrind */
	assert_null(vdso_function(0, name));
	assert_null(vdso_function(base, "no_such_function"));
	if (base == 0) SKIP("there is no vDSO, as under valgrind");
	struct timespec now = { 0 };
	int (*function)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))vdso_function(base, name);
	assert_non_null(function);
	assert_int_equal(function(CLOCK_MONOTONIC, &now), 0);
	assert_true(now.tv_sec > 0);
}

static void errors_of_calls(void **state) {
	(void)state;
	char text[8] = "";
	errno = 77;
	assert_int_equal(os_read_file("/no/such/file", 0, text, sizeof text), 0);
	assert_false(os_file_exists("/no/such/file"));
	assert_true(os_file_exists("/proc/self/maps"));
	assert_int_equal(os_create_file("/no/such/file"), -ENOENT);
	assert_int_equal(os_write(-1, "x", 1), EBADF);
	assert_int_equal(os_close(-1), EBADF);
	assert_false(os_commit((void *)1, os_page_size));
	assert_null(os_remap((void *)os_page_size, os_page_size, os_page_size, false));
	assert_false(os_is_readable((void *)8));
	assert_true(os_is_readable(text - (uintptr_t)text % 4));
	assert_int_equal(errno, 77);
	assert_int_equal(os_pass(SYS_close, -1, 0, 0, 0, 0, 0), -1);
	assert_int_equal(errno, EBADF);
}

/* ---- build IDs ---- */

/* What is loaded, and the build ID that its own note has. */
static struct loaded {
	uintptr_t start;
	const uint8_t *bytes;
	bool found;
} loaded[32];
static size_t loaded_count;

static int note_build_id(struct dl_phdr_info *info, size_t size, void *unused) {
	(void)size, (void)unused;
	struct loaded *out = &loaded[loaded_count];
	*out = (struct loaded){ 0 };
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *s = &info->dlpi_phdr[i];
		if (s->p_type == PT_LOAD && s->p_offset == 0) out->start = info->dlpi_addr + s->p_vaddr;
		if (s->p_type != PT_NOTE) continue;
		const uint8_t *at = (const uint8_t *)info->dlpi_addr + s->p_vaddr, *end = at + s->p_memsz;
		for (const ElfW(Nhdr) *note; at < end; at += sizeof *note + ALIGN_UP(note->n_namesz, 4U) + ALIGN_UP(note->n_descsz, 4U)) {
			note = (const void *)at;
			if (note->n_type == NT_GNU_BUILD_ID && memcmp(note + 1, "GNU", 4) == 0 && note->n_descsz == 20) out->bytes = at + 16;
		}
	}
	/* The kernel's own is in no file. */
	if (out->bytes != NULL && out->start != getauxval(AT_SYSINFO_EHDR)) loaded_count++;
	return loaded_count == 32;
}

static void found_build_id(void *argument, uintptr_t start, const struct build_id *id) {
	size_t *count = argument;
	for (size_t i = 0; i < loaded_count; i++) {
		if (loaded[i].start != start) continue;
		assert_int_equal(id->size, 20);
		assert_memory_equal(id->bytes, loaded[i].bytes, 20);
		assert_false(loaded[i].found);
		loaded[i].found = true;
		++*count;
	}
}

static void build_ids_of_what_is_loaded(void **state) {
	(void)state;
	size_t count = 0;
	loaded_count = 0;
	dl_iterate_phdr(note_build_id, NULL);
	assert_true(loaded_count > 0); /* libc has one everywhere */
	build_id_of_all(found_build_id, &count);
	assert_int_equal(count, loaded_count);
	struct build_id id = { .size = 2, .bytes = { 0x0f, 0xa0 } };
	char text[2 * BUILD_ID_MAX + 1];
	build_id_text(text, &id);
	assert_string_equal(text, "0fa0");
}

/* Services have filters that kill for what few programs call. */
static void build_ids_under_a_filter(void **state) {
	(void)state;
	loaded_count = 0;
	dl_iterate_phdr(note_build_id, NULL);
	const pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct sock_filter code[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		const struct sock_fprog filter = { 4, code };
		size_t count = 0;
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) _exit(2);
		build_id_of_all(found_build_id, &count);
		_exit(count == loaded_count ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* An image of two segments and a note, at the end of what may be touched. */
struct image {
	Elf64_Ehdr header;
	Elf64_Phdr segments[2];
	Elf64_Nhdr note;
	char name[4];
	uint8_t bytes[20];
};

static void make_image(struct image *image) {
	*image = (struct image){
		.header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64 }, .e_phoff = offsetof(struct image, segments),
		            .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2 },
		.segments = { { .p_type = PT_NOTE, .p_vaddr = offsetof(struct image, note), .p_memsz = 36, .p_align = 4 },
		              { .p_type = PT_LOAD, .p_memsz = sizeof(struct image) } },
		.note = { 4, 20, NT_GNU_BUILD_ID },
		.name = "GNU",
		.bytes = { 1, 2, 3 },
	};
}

/* Files, and who damages them, decide what is there. */
static void build_ids_of_nonsense(void **state) {
	(void)state;
	struct build_id id;
	char *pages = mmap(NULL, 2 * os_page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct image *image = (struct image *)(pages + os_page_size) - 1;
	mprotect(pages + os_page_size, os_page_size, PROT_NONE);
	make_image(image);
	build_id_read((uintptr_t)image, &id);
	assert_int_equal(id.size, 20);
	assert_int_equal(id.bytes[2], 3);
	unsigned seed = 1;
	for (int i = 0; i < 20000; i++) {
		static const uint32_t odd[] = { 0, 1, 4, 64, 1 << 20, UINT32_MAX, UINT32_MAX - 7 };
		make_image(image);
		for (int k = rand_r(&seed) % 4; k >= 0; k--)
			memcpy((char *)image + rand_r(&seed) % (sizeof *image - 4), &odd[rand_r(&seed) % 7], 4);
		build_id_read((uintptr_t)image, &id);
		assert_true(id.size <= BUILD_ID_MAX);
	}
	build_id_read((uintptr_t)pages + os_page_size - 8, &id);
	assert_int_equal(id.size, 0);
	build_id_read((uintptr_t)pages + os_page_size, &id);
	assert_int_equal(id.size, 0);
	munmap(pages, 2 * os_page_size);
	build_id_read(0, &id);
	assert_int_equal(id.size, 0);
	/* A file that was cut: to touch it would end us. */
	FILE *file = tmpfile();
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), (off_t)os_page_size), 0);
	image = mmap(NULL, os_page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
	make_image(image);
	build_id_read((uintptr_t)image, &id);
	assert_int_equal(id.size, 20);
	assert_int_equal(ftruncate(fileno(file), 0), 0);
	build_id_read((uintptr_t)image, &id);
	assert_int_equal(id.size, 0);
	munmap(image, os_page_size);
	fclose(file);
}

/* Those of libc's own can be blocked by nobody, as with libc's function. */
static void signal_masks(void **state) {
	(void)state;
	sigset_t all, before, ours, libcs;
	sigfillset(&all);
	os_signal_mask(SIG_SETMASK, &all, &before);
	os_signal_mask(SIG_BLOCK, NULL, &ours);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	pthread_sigmask(SIG_BLOCK, NULL, &libcs);
	os_signal_mask(SIG_SETMASK, &before, NULL);
	for (int i = 1; i <= 64; i++) assert_int_equal(sigismember(&ours, i), sigismember(&libcs, i));
	pthread_sigmask(SIG_BLOCK, NULL, &ours);
	for (int i = 1; i <= 64; i++) assert_int_equal(sigismember(&ours, i), sigismember(&before, i));
}

/* A thread with a table of its own has something to say, on the program's stderr. */
static void *say(void *unused) {
	if (!os_own_descriptors()) return (void *)"refused";
	print_fd(2, "here\n");
	return unused;
}

static void threads_with_own_descriptors_are_heard(void **state) {
	(void)state;
	char text[16] = "";
	int ends[2], old = dup(2), own = (int)syscall(SYS_pidfd_open, getpid(), 0), got = (int)syscall(SYS_pidfd_getfd, own, 2, 0);
	if (got < 0) SKIP("pidfd_getfd is missing (Linux 5.6) or forbidden");
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(dup2(ends[1], 2), 2);
	pthread_t thread;
	void *refused;
	const bool started = pthread_create(&thread, NULL, say, NULL) == 0 && pthread_join(thread, &refused) == 0;
	dup2(old, 2);
	close(ends[1]);
	assert_true(started && refused == NULL);
	assert_int_equal(read(ends[0], text, sizeof text), 5);
	assert_string_equal(text, "here\n");
	close(ends[0]), close(old), close(own), close(got);
}

/* In a child, for there is no way back. */
static void answers_in_a_sandbox(void **state) {
	(void)state;
	const pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		const unsigned cpus = cpus_count();
		const int process = os_process_id();
		char text[8];
		os_expect_sandbox();
		os_enter_sandbox();
		bool good = sandbox_is_on() && cpus_count() == cpus && os_process_id() == process && os_thread_id() == -1;
		good = good && os_read_file("/proc/self/maps", 0, text, sizeof text) == 0 && !os_barrier_in_all_threads() && os_memory_file("x") < 0;
		const uint64_t number = os_random();
		good = good && number != os_random() && !os_copy_memory(text, (uintptr_t)&number, sizeof text);
		os_after_fork(true);
		good = good && os_process_id() != process;
		_exit(good ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_gate_in_a_child_of_one_thread),
		cmocka_unit_test(cpus_of_large_machines),
		cmocka_unit_test(bitmap_ranges), cmocka_unit_test(bitmap_runs), cmocka_unit_test(formatted_text), cmocka_unit_test(values),
		cmocka_unit_test(metadata), cmocka_unit_test(locks), cmocka_unit_test(waits_are_counted),
		cmocka_unit_test(a_closed_gate), cmocka_unit_test(a_gate_of_another_process),
		cmocka_unit_test(clocks), cmocka_unit_test(functions_of_the_kernel), cmocka_unit_test(errors_of_calls),
		cmocka_unit_test(build_ids_of_what_is_loaded), cmocka_unit_test(build_ids_under_a_filter), cmocka_unit_test(build_ids_of_nonsense),
		cmocka_unit_test(signal_masks), cmocka_unit_test(threads_with_own_descriptors_are_heard),
		cmocka_unit_test(answers_in_a_sandbox),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
