// Every operator new and delete of C++17, and what they do when memory runs out. The library is in C: it must throw
// std::bad_alloc and call the new-handler all the same.
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <malloc.h>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "support.h"

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

std::size_t impossible() {
	return hidden(std::numeric_limits<std::ptrdiff_t>::max());
}

void assert_usable(void *block, std::size_t alignment, std::size_t size) {
	assert_non_null(block);
	assert_int_equal(reinterpret_cast<std::uintptr_t>(block) % alignment, 0);
	assert_true(malloc_usable_size(block) >= size);
	for (std::size_t i = 0; i < size; i += 64)
		static_cast<volatile char *>(block)[i] = 1;
}

void plain_operators(void **) {
	std::size_t size;

	for (std::size_t i = 0; (size = sample_size(i)) <= 48 * mib; i++) {
		void *one = operator new(size), *array = operator new[](size);
		assert_usable(one, 16, size);
		assert_usable(array, 16, size);
		assert_ptr_not_equal(one, array);
		operator delete(one);
		operator delete[](array);

		one = operator new(size, std::nothrow), array = operator new[](size, std::nothrow);
		assert_usable(one, 16, size);
		assert_usable(array, 16, size);
		operator delete(one, std::nothrow);
		operator delete[](array, std::nothrow);

		one = operator new(size), array = operator new[](size);
		assert_usable(one, 16, size);
		assert_usable(array, 16, size);
		operator delete(one, size);
		operator delete[](array, size);
	}
}

void aligned_operators(void **) {
	const std::size_t sizes[] = {1, 24, 100, 4096, 50000, 300000, 3 * mib};

	for (std::size_t alignment = 1; alignment <= 128 * mib; alignment *= 2) {
		const auto aligned = std::align_val_t{alignment};

		for (std::size_t size : sizes) {
			void *one = operator new(size, aligned), *array = operator new[](size, aligned);
			assert_usable(one, alignment, size);
			assert_usable(array, alignment, size);
			operator delete(one, aligned);
			operator delete[](array, aligned);

			one = operator new(size, aligned, std::nothrow), array = operator new[](size, aligned, std::nothrow);
			assert_usable(one, alignment, size);
			assert_usable(array, alignment, size);
			operator delete(one, aligned, std::nothrow);
			operator delete[](array, aligned, std::nothrow);

			one = operator new(size, aligned), array = operator new[](size, aligned);
			assert_usable(one, alignment, size);
			assert_usable(array, alignment, size);
			operator delete(one, size, aligned);
			operator delete[](array, size, aligned);
		}
	}
}

void zero_size_objects_are_unique(void **) {
	void *first = operator new(hidden(0)), *second = operator new(hidden(0)), *third = operator new[](hidden(0));

	assert_non_null(first);
	assert_non_null(second);
	assert_ptr_not_equal(first, second);
	assert_ptr_not_equal(first, third);
	assert_ptr_not_equal(second, third);
	operator delete(first);
	operator delete(second, std::size_t{0});
	operator delete[](third);
}

void delete_of_null_does_nothing(void **) {
	void *null = reinterpret_cast<void *>(hidden(0));
	const auto aligned = std::align_val_t{64};

	errno = EXDEV;
	operator delete(null);
	operator delete[](null);
	operator delete(null, std::size_t{10});
	operator delete[](null, std::size_t{10});
	operator delete(null, std::nothrow);
	operator delete[](null, std::nothrow);
	operator delete(null, aligned);
	operator delete[](null, aligned);
	operator delete(null, std::size_t{10}, aligned);
	operator delete[](null, std::size_t{10}, aligned);
	operator delete(null, aligned, std::nothrow);
	operator delete[](null, aligned, std::nothrow);
	assert_int_equal(errno, EXDEV);
}

void delete_keeps_errno(void **) {
	for (std::size_t size : {std::size_t{10}, std::size_t{50000}, 60 * mib}) {
		void *block = operator new(size);
		errno = EXDEV;
		operator delete(block);
		assert_int_equal(errno, EXDEV);
	}
}

// The eight forms of new, for requests that fail.
enum class Form { one, array, aligned_one, aligned_array };
constexpr Form forms[] = {Form::one, Form::array, Form::aligned_one, Form::aligned_array};

void *allocate(Form form, std::size_t size) {
	switch (form) {
	case Form::one: return operator new(size);
	case Form::array: return operator new[](size);
	case Form::aligned_one: return operator new(size, std::align_val_t{256});
	default: return operator new[](size, std::align_val_t{256});
	}
}

void *allocate_nothrow(Form form, std::size_t size) noexcept {
	switch (form) {
	case Form::one: return operator new(size, std::nothrow);
	case Form::array: return operator new[](size, std::nothrow);
	case Form::aligned_one: return operator new(size, std::align_val_t{256}, std::nothrow);
	default: return operator new[](size, std::align_val_t{256}, std::nothrow);
	}
}

void release(Form form, void *block) {
	switch (form) {
	case Form::one: return operator delete(block);
	case Form::array: return operator delete[](block);
	case Form::aligned_one: return operator delete(block, std::align_val_t{256});
	default: return operator delete[](block, std::align_val_t{256});
	}
}

bool throws_bad_alloc(Form form, std::size_t size) {
	try {
		release(form, allocate(form, size));
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

void failure_without_a_handler_throws(void **) {
	assert_null(reinterpret_cast<void *>(std::get_new_handler()));
	for (Form form : forms) {
		assert_true(throws_bad_alloc(form, impossible()));
		assert_true(throws_bad_alloc(form, hidden(SIZE_MAX)));
		assert_null(allocate_nothrow(form, impossible()));
		assert_null(allocate_nothrow(form, hidden(SIZE_MAX)));
		assert_false(throws_bad_alloc(form, 100));
	}
}

int calls, calls_before_throwing;

struct out_of_everything : std::bad_alloc {};

void throw_after_some_calls() {
	if (++calls == calls_before_throwing)
		throw out_of_everything();
}

void handler_is_called_until_it_throws(void **) {
	std::set_new_handler(throw_after_some_calls);
	for (Form form : forms) {
		bool caught = false;
		calls = 0;
		calls_before_throwing = 5;
		try {
			allocate(form, impossible());
		} catch (const out_of_everything &) { // what the handler threw, and nothing else
			caught = true;
		}
		assert_true(caught);
		assert_int_equal(calls, 5);

		calls = 0;
		assert_null(allocate_nothrow(form, impossible()));
		assert_int_equal(calls, 5);
	}
	std::set_new_handler(nullptr);
}

void handler_that_takes_itself_away(void **) {
	for (Form form : forms) {
		calls = 0;
		std::set_new_handler([] {
			calls++;
			std::set_new_handler(nullptr);
		});
		assert_true(throws_bad_alloc(form, impossible()));
		assert_int_equal(calls, 1);
	}
}

// A handler that makes room. What counts as room is shown by the limit that the handler lifts.
void *reserve;

void free_the_reserve() {
	calls++;
	CHILD_CHECK(reserve);
	std::free(reserve);
	reserve = nullptr;
}

void run_dry(void *) {
	for (Form form : forms) {
		const std::size_t size = 200 * mib;
		calls = 0;
		reserve = std::malloc(size + 32 * mib);
		CHILD_CHECK(reserve);
		malloc_trim(0); // what is kept of the form before would be room, too,
		limit_address_space(1);
		CHILD_CHECK(!std::malloc(size)); // and so would addresses, which go before an allocation fails
		limit_address_space(virtual_bytes() + 16 * mib);
		std::set_new_handler(free_the_reserve);
		void *block = allocate(form, size);
		CHILD_CHECK(block);
		CHILD_CHECK(calls == 1);
		release(form, block);

		reserve = std::malloc(size);
		CHILD_CHECK(reserve);
		block = allocate_nothrow(form, size);
		CHILD_CHECK(block);
		CHILD_CHECK(calls == 2);
		release(form, block);
		std::set_new_handler(nullptr);
		limit_address_space(SIZE_MAX);
	}
}

void handler_that_frees_memory_makes_new_succeed(void **) {
	assert_int_equal(run_in_child(run_dry, nullptr), 0);
}

struct alignas(512) Wide {
	char bytes[1000];
};

// The expressions, and containers on top of them, as programs use them.
void expressions_and_containers(void **) {
	std::unique_ptr<Wide> wide{new Wide};
	std::unique_ptr<Wide[]> wides{new Wide[7]};
	assert_int_equal(reinterpret_cast<std::uintptr_t>(wide.get()) % 512, 0);
	assert_int_equal(reinterpret_cast<std::uintptr_t>(wides.get()) % 512, 0);

	std::unordered_map<int, std::string> texts;
	for (int i = 0; i < 100000; i++)
		texts[i] = std::string(static_cast<std::size_t>(i % 300), static_cast<char>('a' + i % 26));
	for (int i = 0; i < 100000; i += 2)
		texts.erase(i);
	for (int i = 1; i < 100000; i += 2)
		assert_true(texts.at(i) == std::string(static_cast<std::size_t>(i % 300), static_cast<char>('a' + i % 26)));

	std::vector<Wide> grown;
	for (int i = 0; i < 1000; i++)
		grown.emplace_back().bytes[0] = static_cast<char>(i);
	assert_int_equal(reinterpret_cast<std::uintptr_t>(grown.data()) % 512, 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(grown[static_cast<std::size_t>(i)].bytes[0], static_cast<char>(i));
}

// Exceptions allocate too, also in threads, and a thread_local object is destroyed late.
void exceptions_in_threads(void **) {
	std::vector<std::thread> threads;

	for (int t = 0; t < 4; t++) {
		threads.emplace_back([] {
			thread_local std::vector<std::string> texts;
			for (int i = 0; i < 1000; i++) {
				try {
					texts.push_back(std::string(200, 'x'));
					throw std::string(300, 'y');
				} catch (const std::string &text) {
					if (text.size() != 300)
						std::abort();
				}
				if (!throws_bad_alloc(Form::one, impossible()))
					std::abort();
			}
		});
	}
	for (std::thread &thread : threads)
		thread.join();
}

} // namespace

int main() {
	const CMUnitTest tests[] = {
		cmocka_unit_test(plain_operators),
		cmocka_unit_test(aligned_operators),
		cmocka_unit_test(zero_size_objects_are_unique),
		cmocka_unit_test(delete_of_null_does_nothing),
		cmocka_unit_test(delete_keeps_errno),
		cmocka_unit_test(failure_without_a_handler_throws),
		cmocka_unit_test(handler_is_called_until_it_throws),
		cmocka_unit_test(handler_that_takes_itself_away),
		cmocka_unit_test(handler_that_frees_memory_makes_new_succeed),
		cmocka_unit_test(expressions_and_containers),
		cmocka_unit_test(exceptions_in_threads),
	};

	return cmocka_run_group_tests(tests, require_arenal, nullptr);
}
