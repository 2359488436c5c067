/* harden/: the unwinder's parts, one by one, above all with what no compiler writes: tables that are cut off or make no sense, and
 * stacks that are none. That they find the right frames is for unwind_frames.c. */
#include "unit.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "base/random.h"
#include "harden/cfi.h"
#include "harden/stack.h"

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* ---- tables ---- */

enum { CODE = 0x1000, RETURN = 16 };

/* As on x86-64: the CFA is 8 bytes above the stack pointer, the return address just below it. */
static const uint8_t common[] = { 0x0c, UNWIND_SP, 8, 0x80 | RETURN, 1 };

static struct reader reader_of(const uint8_t *bytes, size_t size) { return (struct reader){ bytes, bytes + size, false }; }

/* What the program is copied to: places in it are counted from its beginning, where something else is. */
static uint8_t section[100];

/* The row for the code's byte `at`, as a function's program says. */
static bool row_at(const uint8_t *program, size_t size, size_t at, struct cfi *cfi) {
	memcpy(section + 10, program, size);
	const struct fde fde = {
		.section = section, .code = CODE, .initial = reader_of(common, sizeof common), .program = reader_of(section + 10, size),
		.code_align = 1, .data_align = -8, .encoding = 0x1b, .return_register = RETURN,
	};
	return cfi_execute(&fde, CODE + at, cfi);
}
#define ROW_AT(program, at, cfi) row_at(program, sizeof(program), at, cfi)

static void assert_cfa(const struct cfi *cfi, uint32_t number, int32_t offset) {
	assert_int_equal(cfi->row.cfa_expression, 0);
	assert_int_equal(cfi->row.cfa_register, number);
	assert_int_equal(cfi->row.cfa_offset, offset);
}

static void assert_rule(const struct cfi *cfi, unsigned number, enum rule_kind kind, int32_t value) {
	const bool set = (cfi->row.set & 1u << number) != 0;
	assert_int_equal(set ? cfi->row.registers[number].kind : RULE_SAME, kind);
	if (kind != RULE_SAME && kind != RULE_UNDEFINED) assert_int_equal(cfi->row.registers[number].value, value);
}

static void rows_of_a_function(void **state) {
	(void)state;
	static const uint8_t program[] = {
		0x41, 0x0e, 16, 0x86, 2,      /* from 1 on: push of 6 */
		0x43, 0x0d, 6,                /* from 4 on: 6 is the frame pointer */
		0x02, 4, 0x83, 3, 0x0a,       /* from 8 on: 3 is saved; what holds now is remembered */
		0x44, 0xc6, 0x0c, UNWIND_SP, 8, /* from 12 on: all is as at first, but for 3 */
		0x03, 4, 0, 0x0b,             /* from 16 on: and again as it was */
		0x04, 4, 0, 0, 0, 0x2e, 16, 0, 0, /* from 20 on: nothing new */
	};
	struct cfi cfi;
	assert_true(ROW_AT(program, 0, &cfi));
	assert_cfa(&cfi, UNWIND_SP, 8);
	assert_rule(&cfi, RETURN, RULE_AT_OFFSET, -8);
	assert_rule(&cfi, 6, RULE_SAME, 0);
	assert_true(ROW_AT(program, 3, &cfi));
	assert_cfa(&cfi, UNWIND_SP, 16);
	assert_rule(&cfi, 6, RULE_AT_OFFSET, -16);
	assert_true(ROW_AT(program, 4, &cfi));
	assert_cfa(&cfi, 6, 16);
	assert_rule(&cfi, 3, RULE_SAME, 0);
	assert_true(ROW_AT(program, 11, &cfi));
	assert_rule(&cfi, 3, RULE_AT_OFFSET, -24);
	assert_true(ROW_AT(program, 12, &cfi));
	assert_cfa(&cfi, UNWIND_SP, 8);
	assert_rule(&cfi, 6, RULE_SAME, 0);
	assert_rule(&cfi, 3, RULE_AT_OFFSET, -24);
	for (size_t at = 16; at < 30; at++) {
		assert_true(ROW_AT(program, at, &cfi));
		assert_cfa(&cfi, 6, 16);
		assert_rule(&cfi, 6, RULE_AT_OFFSET, -16);
		assert_rule(&cfi, RETURN, RULE_AT_OFFSET, -8);
	}
}

static void rules_of_all_kinds(void **state) {
	(void)state;
	static const uint8_t program[] = {
		0x05, 0, 2, 0x11, 1, 0x7e, 0x14, 2, 5, 0x15, 3, 0x7f, 0x09, 4, 5, 0x2f, 5, 4, 0x08, 6, 0x07, RETURN,
		0x10, 8, 2, 0x77, 0, 0x16, 9, 1, 0x30, 0x12, 10, 0x7e, 0x2d,
		0x41, 0x06, 0, 0xc3, 0xc0 | RETURN, 0x13, 0x7d, /* from 1 on: restored */
		0x41, 0x0f, 2, 0x77, 8,                         /* from 2 on: the CFA is an expression */
		0x41, 0x05, 99, 2, 0xbf, 2, 0x06, 98,           /* from 3 on: registers that nobody asks for */
	};
	struct cfi cfi;
	assert_true(ROW_AT(program, 0, &cfi));
	assert_rule(&cfi, 0, RULE_AT_OFFSET, -16);
	assert_rule(&cfi, 1, RULE_AT_OFFSET, 16);
	assert_rule(&cfi, 2, RULE_OFFSET, -40);
	assert_rule(&cfi, 3, RULE_OFFSET, 8);
	assert_rule(&cfi, 4, RULE_REGISTER, 5);
	assert_rule(&cfi, 5, RULE_AT_OFFSET, 32);
	assert_rule(&cfi, 6, RULE_SAME, 0);
	assert_rule(&cfi, RETURN, RULE_UNDEFINED, 0);
	assert_int_equal(cfi.row.registers[8].kind, RULE_AT_EXPRESSION);
	struct reader expression = cfi_expression(&cfi, cfi.row.registers[8].value);
	assert_ptr_equal(expression.at, &section[10 + 25]);
	assert_ptr_equal(expression.end, &section[10 + 27]);
	assert_int_equal(cfi.row.registers[9].kind, RULE_EXPRESSION);
	assert_cfa(&cfi, 10, 16);
	assert_true(ROW_AT(program, 1, &cfi));
	assert_rule(&cfi, 0, RULE_SAME, 0);
	assert_rule(&cfi, 3, RULE_SAME, 0);
	assert_rule(&cfi, RETURN, RULE_AT_OFFSET, -8);
	assert_cfa(&cfi, 10, 24);
	for (size_t at = 2; at < 5; at++) {
		assert_true(ROW_AT(program, at, &cfi));
		assert_int_not_equal(cfi.row.cfa_expression, 0);
		expression = cfi_expression(&cfi, cfi.row.cfa_expression);
		assert_int_equal(expression.end - expression.at, 2);
		assert_int_equal(expression.at[1], 8);
	}
}

static void tables_without_sense(void **state) {
	(void)state;
	static const struct {
		uint8_t size, bytes[14];
	} programs[] = {
		{ 1, { 0x0e } }, { 2, { 0x0c, 7 } }, { 1, { 0x86 } }, { 2, { 0x86, 0x80 } }, { 2, { 0x03, 1 } }, /* cut off */
		{ 4, { 0x04, 1, 0, 0 } },
		{ 1, { 0x0b } },                                           /* nothing was remembered */
		{ 12, { 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a } }, /* too much is */
		{ 1, { 0x3f } }, { 2, { 0x17, 1 } }, { 2, { 0x1d, 1 } },   /* unknown */
		{ 3, { 0x0c, 99, 8 } }, { 2, { 0x0d, 99 } }, { 3, { 0x09, 3, 99 } }, /* no such register */
		{ 6, { 0x0e, 0xff, 0xff, 0xff, 0xff, 0x0f } }, { 6, { 0x83, 0xff, 0xff, 0xff, 0xff, 0x0f } }, /* too far */
		{ 12, { 0x83, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } },
		{ 12, { 0x11, 3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f } },
		{ 3, { 0x0f, 9, 0x30 } }, { 4, { 0x10, 3, 0x7f, 0x30 } }, { 4, { 0x16, 3, 2, 0x30 } }, /* longer than the rest */
	};
	struct cfi cfi;
	for (size_t i = 0; i < COUNT_OF(programs); i++)
		if (row_at(programs[i].bytes, programs[i].size, 100, &cfi)) fail_msg("program %zu is taken for one", i);
	/* Without a CFA; and with a return address in no register. */
	const struct fde empty = { .section = common, .code = CODE, .code_align = 1, .data_align = -8, .return_register = RETURN };
	assert_false(cfi_execute(&empty, CODE, &cfi));
	struct fde other = empty;
	other.initial = reader_of(common, sizeof common);
	assert_true(cfi_execute(&other, CODE, &cfi));
	other.return_register = UNWIND_REGISTERS;
	assert_false(cfi_execute(&other, CODE, &cfi));
}

/* ---- expressions ---- */

static struct unwind frame_at(const void *sp) {
	struct unwind frame = { .steps = UNWIND_STEPS, .pages = { UNWIND_NO_PAGE, UNWIND_NO_PAGE } };
	for (size_t i = 0; i < UNWIND_REGISTERS; i++) frame.registers[i] = 1000 + i;
	frame.registers[UNWIND_SP] = (uintptr_t)sp;
	return frame;
}

static bool compute(const uint8_t *bytes, size_t size, const uintptr_t *cfa, uintptr_t *result) {
	const uintptr_t words[4] = { 0, 0x1234, 0, 0 };
	struct unwind frame = frame_at(words);
	return unwind_compute(&frame, reader_of(bytes, size), cfa, result);
}

static void expressions(void **state) {
	(void)state;
	static const struct {
		intptr_t result;
		uint8_t size, bytes[12];
	} good[] = {
		{ 31, 1, { 0x4f } }, { 200, 2, { 0x08, 200 } }, { -2, 2, { 0x09, 0xfe } }, { 0x1234, 3, { 0x0a, 0x34, 0x12 } },
		{ -2, 3, { 0x0b, 0xfe, 0xff } }, { 0xfffffffe, 5, { 0x0c, 0xfe, 0xff, 0xff, 0xff } }, { -2, 5, { 0x0d, 0xfe, 0xff, 0xff, 0xff } },
		{ 128, 3, { 0x10, 0x80, 1 } }, { -128, 3, { 0x11, 0x80, 0x7f } }, { INT64_MIN, 9, { 0x0e, 0, 0, 0, 0, 0, 0, 0, 0x80 } },
		{ 3 + 4, 3, { 0x33, 0x34, 0x22 } }, { 3 - 4, 3, { 0x33, 0x34, 0x1c } }, { 3 * 4, 3, { 0x33, 0x34, 0x1e } },
		{ 6 & 3, 3, { 0x36, 0x33, 0x1a } }, { 6 | 3, 3, { 0x36, 0x33, 0x21 } }, { 6 ^ 3, 3, { 0x36, 0x33, 0x27 } },
		{ 3 << 4, 3, { 0x33, 0x34, 0x24 } }, { 24 >> 2, 4, { 0x08, 24, 0x32, 0x25 } }, { -1, 4, { 0x09, 0xf0, 0x4f, 0x26 } },
		{ -5, 2, { 0x35, 0x1f } }, { ~5, 2, { 0x35, 0x20 } }, { 5 + 200, 4, { 0x35, 0x23, 0xc8, 1 } },
		{ 1, 3, { 0x35, 0x35, 0x29 } }, { 0, 3, { 0x35, 0x35, 0x2e } }, { 0, 4, { 0x09, 0xff, 0x31, 0x2a } },
		{ 1, 4, { 0x09, 0xff, 0x31, 0x2d } }, { 1, 3, { 0x32, 0x32, 0x2c } }, { 0, 3, { 0x32, 0x32, 0x2b } },
		{ 5, 2, { 0x35, 0x12 } }, { 5, 3, { 0x35, 0x36, 0x13 } }, { 5, 3, { 0x35, 0x36, 0x14 } }, { 5, 4, { 0x35, 0x36, 0x15, 1 } },
		{ 6 - 5, 4, { 0x35, 0x36, 0x16, 0x1c } },
		{ 9, 8, { 0x39, 0x31, 0x28, 1, 0, 0xff, 0x96, 0x96 } },            /* jumps over what nobody knows */
		{ 9, 6, { 0x39, 0x30, 0x28, 0x77, 0x77, 0x96 } },                  /* does not */
		{ 1003 - 1, 2, { 0x73, 0x7f } }, { 1003 + 2, 3, { 0x92, 3, 2 } },
		{ 0x1234, 3, { 0x70 + UNWIND_SP, 8, 0x06 } },
	};
	static const struct {
		uint8_t size, bytes[14];
	} bad[] = {
		{ 0, { 0 } }, { 1, { 0x22 } }, { 2, { 0x31, 0x22 } }, { 1, { 0x06 } }, { 1, { 0x13 } }, { 1, { 0x12 } }, { 3, { 0x31, 0x15, 1 } },
		{ 1, { 0x08 } }, { 4, { 0x0c, 1, 2, 3 } }, { 1, { 0xff } }, { 2, { 0x31, 0x9c } },
		{ 3, { 0x2f, 0xfd, 0xff } },                                        /* for ever */
		{ 4, { 0x31, 0x2f, 0xfb, 0xff } }, { 4, { 0x31, 0x2f, 1, 0 } },      /* to somewhere else */
		{ 13, { 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31 } },
		{ 3, { 0x92, 99, 0 } }, { 2, { 0x30, 0x06 } }, { 3, { 0x09, 0xff, 0x06 } }, { 3, { 0x70 + UNWIND_SP, 1, 0x06 } },
	};
	uintptr_t result;
	for (size_t i = 0; i < COUNT_OF(good); i++) {
		if (!compute(good[i].bytes, good[i].size, NULL, &result) || (intptr_t)result != good[i].result)
			fail_msg("expression %zu: %ld", i, (long)result);
	}
	for (size_t i = 0; i < COUNT_OF(bad); i++)
		if (compute(bad[i].bytes, bad[i].size, NULL, &result)) fail_msg("expression %zu is taken for one", i);
	static const uint8_t from_cfa[] = { 0x23, 8 };
	const uintptr_t cfa = 5000;
	assert_true(compute(from_cfa, sizeof from_cfa, &cfa, &result));
	assert_int_equal(result, 5008);
}

/* Whatever the bytes are, this ends, and reads nothing that faults. */
static void random_tables(void **state) {
	(void)state;
	struct random random = { .state = 42 };
	size_t good = 0;
	for (int i = 0; i < 300000; i++) {
		uint8_t bytes[24];
		for (size_t b = 0; b < sizeof bytes; b++) bytes[b] = (uint8_t)(random_next(&random) >> 40);
		/* Half of the tables begin with one of the smaller numbers, which mean more. */
		if (i % 2 != 0) bytes[0] &= 0x1f;
		struct cfi cfi;
		uintptr_t result;
		const size_t size = random_next(&random) >> 33 & 15;
		good += row_at(bytes, size, 40, &cfi);
		compute(bytes, sizeof bytes, NULL, &result);
	}
	assert_true(good > 1000);
}

/* ---- memory ---- */

enum { PAGE = 4096 };

/* Readable pages between others. */
static char *pages(size_t count, int protection) {
	const size_t size = (size_t)sysconf(_SC_PAGESIZE), all = ALIGN_UP(count * PAGE, size);
	char *area = mmap(NULL, all + 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(area != MAP_FAILED);
	assert_int_equal(mprotect(area + size, all, protection), 0);
	return area + size;
}

static void readable_memory(void **state) {
	(void)state;
	char *writable = pages(1, PROT_READ | PROT_WRITE), *readable = pages(1, PROT_READ), *closed = pages(1, PROT_NONE);
	errno = 5;
	for (int round = 0; round < 2; round++) {
		assert_true(os_is_readable(writable));
		assert_true(os_is_readable(readable + PAGE - 4));
		assert_false(os_is_readable(closed));
		assert_false(os_is_readable(NULL));
		assert_false(os_is_readable((void *)0xdeaddeaddead0000));
		assert_false(os_is_readable((void *)(UINTPTR_MAX - 3)));
		memset(writable, 0x77, PAGE);
	}
	assert_int_equal(munmap(writable, PAGE), 0);
	assert_false(os_is_readable(writable));
	assert_int_equal(errno, 5);
}

static void reads_stay_in_the_stack(void **state) {
	(void)state;
	char *stack = pages(16, PROT_READ | PROT_WRITE);
	struct unwind frame = frame_at(stack + 2 * PAGE);
	uintptr_t word = 1;
	*(uintptr_t *)(stack + 3 * PAGE) = 1234;
	assert_true(unwind_read(&frame, (uintptr_t)stack + 3 * PAGE, &word));
	assert_int_equal(word, 1234);
	assert_true(unwind_read(&frame, (uintptr_t)stack + 2 * PAGE - 128, &word));
	assert_true(unwind_read(&frame, (uintptr_t)stack + 16 * PAGE - 8, &word));
	word = 4321;
	assert_false(unwind_read(&frame, (uintptr_t)stack + 16 * PAGE, &word));      /* behind it */
	assert_false(unwind_read(&frame, (uintptr_t)stack + 2 * PAGE - 136, &word)); /* readable, but not in use */
	assert_false(unwind_read(&frame, (uintptr_t)stack + 3 * PAGE + 1, &word));
	assert_false(unwind_read(&frame, (uintptr_t)stack - 8, &word));
	assert_false(unwind_read(&frame, 0, &word));
	assert_false(unwind_read(&frame, UINTPTR_MAX - 7, &word));
	/* Too far up, though readable. */
	char *far = pages(32 * MIB / PAGE, PROT_READ);
	frame = frame_at(far);
	assert_true(unwind_read(&frame, (uintptr_t)far + 15 * MIB, &word));
	assert_false(unwind_read(&frame, (uintptr_t)far + 17 * MIB, &word));
}

/* ---- walks ---- */

NOINLINE static int function(int n) {
	__asm__ volatile("");
	return n + 1;
}

static void entries_are_found(void **state) {
	(void)state;
	struct fde fde;
	assert_true(unwind_is_possible());
	assert_true(fde_find((uintptr_t)function, &fde));
	assert_int_equal(fde.code, (uintptr_t)function);
	assert_false(fde.is_signal);
	int local;
	static const int constant = 1;
	const uintptr_t nowhere[] = {
		0, 1, UINTPTR_MAX, 0xdeaddeaddeaddead, (uintptr_t)&local, (uintptr_t)&constant, (uintptr_t)pages(1, PROT_READ),
	};
	for (size_t i = 0; i < COUNT_OF(nowhere); i++) assert_false(fde_find(nowhere[i], &fde));
	/* Both ways lead to the same table. */
	const uintptr_t somewhere[] = { (uintptr_t)function, (uintptr_t)malloc, (uintptr_t)memset, (uintptr_t)_cmocka_run_group_tests };
	for (size_t i = 0; i < COUNT_OF(somewhere); i++) {
		assert_non_null(fde_header(somewhere[i]));
		assert_ptr_equal(fde_header(somewhere[i]), fde_header_by_list(somewhere[i]));
	}
	assert_null(fde_header_by_list((uintptr_t)&local));
}

/* The frame of a function that has just been called, from a return address on the stack. */
static struct unwind entered(uintptr_t *stack) {
	struct unwind frame = frame_at(stack);
	frame.pc = (uintptr_t)function;
	frame.exact = true;
#if defined(__aarch64__)
	frame.registers[30] = *stack;
#endif
	return frame;
}

static void walks_end(void **state) {
	(void)state;
	uintptr_t *end = (uintptr_t *)(pages(4, PROT_READ | PROT_WRITE) + 4 * PAGE), *stack = end - 4 * PAGE / sizeof *end;
	/* No return address. */
	end[-1] = 0;
	struct unwind frame = entered(&end[-1]);
	assert_false(unwind_step(&frame));
	/* One that leads nowhere is the last frame. */
	end[-1] = 0xdeaddeaddeaddead;
	frame = entered(&end[-1]);
	assert_true(unwind_step(&frame));
	assert_false(frame.exact);
	assert_false(unwind_step(&frame));
	/* There is nothing to read. On AArch64, the return address is in a register. */
#if defined(__x86_64__)
	frame = entered(end);
	assert_false(unwind_step(&frame));
	/* A function that seems to have been called by itself, again and again: until the stack ends, or as far as anybody goes. */
	for (uintptr_t *word = stack; word < end; word++) *word = (uintptr_t)function + 1;
	frame = entered(&end[-100]);
	size_t steps = 0;
	while (unwind_step(&frame)) steps++;
	assert_int_equal(steps, 100);
	frame = entered(stack);
	for (steps = 0; unwind_step(&frame); steps++) assert_int_equal(frame.registers[UNWIND_SP], (uintptr_t)&stack[steps + 1]);
	assert_int_equal(steps, UNWIND_STEPS);
#endif
	(void)stack;
}

#if defined(__x86_64__)
enum { FRAME_POINTER = 6 };

/* The frame of a function that does not know how much of the stack it uses. */
NOINLINE static struct unwind found_by_frame_pointer(size_t size) {
	char *room = __builtin_alloca(size);
	struct unwind frame;
	unwind_here(&frame);
	__asm__ volatile("" : : "r"(room) : "memory");
	return frame;
}

static void callers_are_further_up(void **state) {
	(void)state;
	uintptr_t *stack = (uintptr_t *)pages(2, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < 2 * PAGE / sizeof *stack; i++) stack[i] = (uintptr_t)function;
	for (ptrdiff_t distance = -128; distance <= 128; distance += 8) {
		struct unwind frame = found_by_frame_pointer((size_t)(distance + 200));
		frame.exact = false;
		frame.registers[UNWIND_SP] = (uintptr_t)&stack[100];
		frame.registers[FRAME_POINTER] = frame.registers[UNWIND_SP] + (uintptr_t)distance - 16;
		assert_int_equal(unwind_step(&frame), distance > 0);
	}
}
#endif

/* Who sits in a sandbox where the kernel must not be asked sees the page that is in use. */
NOINLINE static uint32_t take_from_far_below(void) {
	char room[5 * PAGE];
	struct stack stack;
	__asm__ volatile("" : : "r"(room) : "memory");
	stack_take(&stack, 0);
	__asm__ volatile("" : : "r"(room) : "memory");
	return stack.count;
}

static void nobody_may_ask(void **state) {
	(void)state;
	const pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct sock_filter filter[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 3),
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FUTEX_CMP_REQUEUE_PRIVATE, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		const struct sock_fprog program = { COUNT_OF(filter), filter };
		const uint32_t before = take_from_far_below();
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(77);
		const uint32_t after = take_from_far_below();
		_exit(before > 3 && after >= 1 && after < before ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) SKIP("there is no seccomp");
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_of_a_function), cmocka_unit_test(rules_of_all_kinds), cmocka_unit_test(tables_without_sense),
		cmocka_unit_test(expressions), cmocka_unit_test(random_tables), cmocka_unit_test(readable_memory),
		cmocka_unit_test(reads_stay_in_the_stack), cmocka_unit_test(entries_are_found), cmocka_unit_test(walks_end),
		cmocka_unit_test(nobody_may_ask),
#if defined(__x86_64__)
		cmocka_unit_test(callers_are_further_up),
#endif
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
