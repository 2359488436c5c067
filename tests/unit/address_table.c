/* base/address_table. */
#include "unit.h"

#include "base/address_table.h"
#include "base/meta.h"

static bool no_memory;
void *__real_meta_alloc(size_t size);
void *__wrap_meta_alloc(size_t size);
void *__wrap_meta_alloc(size_t size) { return no_memory ? NULL : __real_meta_alloc(size); }

static struct address_table table;

static int empty_table(void **state) {
	(void)state;
	table = (struct address_table){ .record = sizeof(uint64_t) };
	return 0;
}

static uint64_t *record_of(const struct address_entry *e) {
	return (uint64_t *)table.records + address_index(&table, e);
}

static void add(uintptr_t address) {
	assert_true(address_table_room(&table, 1));
	struct address_entry *e = address_table_add(&table, address, address / 2);
	*record_of(e) = ~(uint64_t)address;
}

static void expect(uintptr_t address) {
	const struct address_entry *e = address_table_find(&table, address);
	assert_non_null(e);
	assert_int_equal(e->address, address);
	assert_int_equal(e->size, address / 2);
	assert_int_equal(*record_of(e), ~(uint64_t)address);
}

static void check_counts(void) {
	uint32_t used = 0, filled = 0;
	for (uint32_t i = 0; i < table.capacity; i++) {
		used += address_is_used(&table.entries[i]);
		filled += table.entries[i].address != ADDRESS_FREE;
	}
	assert_int_equal(used, table.used);
	assert_int_equal(filled, table.filled);
	assert_true(filled <= table.capacity / 2);
}

static void nothing_is_found_in_an_empty_table(void **state) {
	(void)state;
	assert_null(address_table_find(&table, 4096));
	address_table_clear(&table);
	add(4096);
	for (uintptr_t address = 0; address < 4096; address++) assert_null(address_table_find(&table, address));
	address_table_remove(&table, address_table_find(&table, 4096));
	assert_null(address_table_find(&table, 4096));
	/* Neither what is free nor a mark is an address. */
	assert_null(address_table_find(&table, ADDRESS_FREE));
	assert_null(address_table_find(&table, ADDRESS_REMOVED));
}

static void entries_survive_growth(void **state) {
	(void)state;
	for (uintptr_t i = 1; i <= 5000; i++) {
		add(i * 4096);
		check_counts();
	}
	assert_int_equal(table.used, 5000);
	assert_int_equal(table.capacity, 16384);
	for (uintptr_t i = 1; i <= 5000; i++) expect(i * 4096);
	assert_null(address_table_find(&table, 5001 * 4096));
}

/* Random adds and removals against a plain list of what is there. Multiples of 16, so that many share a place. */
static void the_table_has_what_a_list_has(void **state) {
	(void)state;
	enum { ADDRESSES = 512 };
	bool there[ADDRESSES] = { false };
	uint32_t random = 1, count = 0;
	for (int step = 0; step < 100000; step++) {
		random = random * 1664525 + 1013904223;
		const uint32_t i = random >> 8 & (ADDRESSES - 1);
		const uintptr_t address = 0x7f0000000000 + (uintptr_t)i * 16;
		if (there[i])
			address_table_remove(&table, address_table_find(&table, address));
		else
			add(address);
		there[i] = !there[i];
		count += there[i] ? 1 : -1U;
		assert_int_equal(table.used, count);
		if (step % 100 != 0) continue;
		check_counts();
		for (uint32_t k = 0; k < ADDRESSES; k++) {
			const uintptr_t other = 0x7f0000000000 + (uintptr_t)k * 16;
			if (there[k]) expect(other);
			if (!there[k]) assert_null(address_table_find(&table, other));
		}
	}
	assert_int_equal(table.capacity, 1024);
}

static void marks_do_not_stay(void **state) {
	(void)state;
	for (uintptr_t i = 1; i <= 30; i++) add(i * 65536);
	for (uintptr_t i = 1; i <= 30; i++) address_table_remove(&table, address_table_find(&table, i * 65536));
	check_counts();
	assert_int_equal(table.filled, 0);
	/* One after the other, never two: the first table is enough. */
	for (uintptr_t i = 1; i <= 10000; i++) {
		add(i * 4096);
		address_table_remove(&table, address_table_find(&table, i * 4096));
	}
	assert_int_equal(table.tables, 1);
}

/* Who walks without the lock in between relies on it. */
static void entries_do_not_move(void **state) {
	(void)state;
	for (uintptr_t i = 1; i <= 30; i++) add(i * 4096);
	const struct address_entry *before[31];
	for (uintptr_t i = 2; i <= 30; i += 2) before[i] = address_table_find(&table, i * 4096);
	for (uintptr_t i = 1; i <= 30; i += 2) address_table_remove(&table, address_table_find(&table, i * 4096));
	for (uintptr_t i = 2; i <= 30; i += 2) assert_ptr_equal(address_table_find(&table, i * 4096), before[i]);
	assert_int_equal(table.tables, 1);
}

static void without_memory_it_stays(void **state) {
	(void)state;
	no_memory = true;
	assert_false(address_table_room(&table, 1));
	assert_null(table.entries);
	no_memory = false;
	for (uintptr_t i = 1; i <= 32; i++) add(i * 4096);
	assert_int_equal(table.capacity, 64);
	no_memory = true;
	assert_false(address_table_room(&table, 1));
	for (uintptr_t i = 1; i <= 32; i++) expect(i * 4096);
	address_table_remove(&table, address_table_find(&table, 4096));
	no_memory = false;
	assert_true(address_table_room(&table, 100));
	assert_int_equal(table.used, 31);
	assert_null(address_table_find(&table, 4096));
	for (uintptr_t i = 2; i <= 32; i++) expect(i * 4096);
}

static void a_table_may_have_no_records(void **state) {
	(void)state;
	table.record = 0;
	for (uintptr_t i = 1; i <= 1000; i++) {
		assert_true(address_table_room(&table, 1));
		address_table_add(&table, i * 4096, i);
	}
	assert_null(table.records);
	for (uintptr_t i = 1; i <= 1000; i++) assert_int_equal(address_table_find(&table, i * 4096)->size, i);
}

static void clearing_removes_all(void **state) {
	(void)state;
	for (uintptr_t i = 1; i <= 1000; i++) add(i * 4096);
	address_table_clear(&table);
	check_counts();
	for (uintptr_t i = 1; i <= 1000; i++) assert_null(address_table_find(&table, i * 4096));
	add(4096);
	expect(4096);
}

static void a_walk_comes_to_each(void **state) {
	(void)state;
	struct address_walk walk = { 0 };
	assert_false(address_walk_next(&walk, &table));
	for (uintptr_t i = 1; i <= 5000; i++) add(i * 4096);
	uint32_t found = 0, parts = 0;
	/* What is removed behind the walk or in front of it moves nobody. */
	for (uintptr_t i = 1; address_walk_next(&walk, &table); i++, parts++) {
		for (uint32_t k = walk.from; k < walk.to; k++) found += address_is_used(&table.entries[k]);
		address_table_remove(&table, address_table_find(&table, i * 4096));
	}
	assert_int_equal(parts, 16);
	assert_in_range(found, 5000 - 16, 5000);
	assert_false(address_walk_next(&walk, &table));
}

static void a_walk_starts_again_in_another_table(void **state) {
	(void)state;
	struct address_walk walk = { 0 };
	for (uintptr_t i = 1; i <= 1000; i++) add(i * 4096);
	assert_true(address_walk_next(&walk, &table));
	assert_true(address_walk_next(&walk, &table));
	assert_int_equal(walk.from, 1024);
	assert_true(address_table_room(&table, 2000));
	assert_true(address_walk_next(&walk, &table));
	assert_int_equal(walk.from, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(nothing_is_found_in_an_empty_table, empty_table),
		cmocka_unit_test_setup(entries_survive_growth, empty_table),
		cmocka_unit_test_setup(the_table_has_what_a_list_has, empty_table),
		cmocka_unit_test_setup(marks_do_not_stay, empty_table),
		cmocka_unit_test_setup(entries_do_not_move, empty_table),
		cmocka_unit_test_setup(without_memory_it_stays, empty_table),
		cmocka_unit_test_setup(a_table_may_have_no_records, empty_table),
		cmocka_unit_test_setup(clearing_removes_all, empty_table),
		cmocka_unit_test_setup(a_walk_comes_to_each, empty_table),
		cmocka_unit_test_setup(a_walk_starts_again_in_another_table, empty_table),
	};
	return cmocka_run_group_tests(tests, start_arenal, NULL);
}
