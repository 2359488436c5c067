/* operator new at the hard cap: std::bad_alloc, nullptr from the nothrow forms, and new-handlers that make room. */
#include "support.h"

#include <arenal/arenal.h>
#include <new>

static const size_t MIB = 1 << 20;

/* No more than so many bytes. */
static void set_room(size_t room) {
	arenal_stats stats;

	arenal_purge();
	CHILD_CHECK(arenal_stats_get(&stats, sizeof stats) == 0);
	CHILD_CHECK(arenal_set("cap", static_cast<int64_t>(stats.cap_used + room)) == 0);
}

template <class Allocate> static bool throws(Allocate allocate) {
	try {
		allocate();
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

static void refuse(void *) {
	set_room(4 * MIB);
	CHILD_CHECK(throws([] { return ::operator new(8 * MIB); }));
	CHILD_CHECK(throws([] { return ::operator new[](8 * MIB); }));
	CHILD_CHECK(throws([] { return ::operator new(8 * MIB, std::align_val_t(64)); }));
	CHILD_CHECK(throws([] { return ::operator new[](8 * MIB, std::align_val_t(64)); }));
	CHILD_CHECK(::operator new(8 * MIB, std::nothrow) == nullptr);
	CHILD_CHECK(::operator new[](8 * MIB, std::nothrow) == nullptr);
	CHILD_CHECK(::operator new(8 * MIB, std::align_val_t(64), std::nothrow) == nullptr);
	/* Small ones, until there are none. What is thrown then lies in memory, too. */
	struct link {
		link *next;
		char room[200];
	} *chain = nullptr;
	CHILD_CHECK(throws([&] {
		for (;;)
			chain = new link{ chain, {} };
	}));
	while (chain) {
		link *next = chain->next;
		delete chain;
		chain = next;
	}
	::operator delete(::operator new(2 * MIB));
}

static void *reserve;
static int called;

static void make_room() {
	called++;
	::operator delete(reserve);
	reserve = nullptr;
}

static void ask_the_handler(void *) {
	reserve = ::operator new(16 * MIB);
	set_room(4 * MIB);
	std::set_new_handler(make_room);
	void *block = ::operator new(12 * MIB);
	CHILD_CHECK(block != nullptr && called == 1 && reserve == nullptr);
	::operator delete(block);
}

static void new_throws_at_the_cap(void **) { assert_int_equal(run_in_child(refuse, nullptr), 0); }

static void a_handler_makes_room(void **) { assert_int_equal(run_in_child(ask_the_handler, nullptr), 0); }

int main() {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_throws_at_the_cap),
		cmocka_unit_test(a_handler_makes_room),
	};
	return cmocka_run_group_tests(tests, require_arenal, nullptr);
}
