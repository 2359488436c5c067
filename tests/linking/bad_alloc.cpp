// A program that catches std::bad_alloc, in whatever way it is linked with a C++ library: it goes on, and the new-handler is called.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <typeinfo>

#define CHECK(condition) ((condition) ? (void)0 : broken(__LINE__, #condition))

static void broken(int line, const char *condition) {
	std::fprintf(stderr, "bad_alloc.cpp:%d: %s does not hold\n", line, condition);
	std::exit(1);
}

static volatile std::size_t impossible = PTRDIFF_MAX - 100; // the compiler does not know it
static const auto align = std::align_val_t{64};

static void *make(int form, std::size_t size) {
	switch (form) {
	case 0: return operator new(size);
	case 1: return operator new[](size);
	case 2: return operator new(size, align);
	default: return operator new[](size, align);
	}
}

static void *make_or_null(int form, std::size_t size) noexcept {
	switch (form) {
	case 0: return operator new(size, std::nothrow);
	case 1: return operator new[](size, std::nothrow);
	case 2: return operator new(size, align, std::nothrow);
	default: return operator new[](size, align, std::nothrow);
	}
}

static void check_thrown(int form) {
	bool caught = false;
	try {
		make(form, impossible);
	} catch (const std::bad_alloc &error) {
		caught = true;
		CHECK(std::strcmp(error.what(), "std::bad_alloc") == 0);
		CHECK(typeid(error) == typeid(std::bad_alloc));
	}
	CHECK(caught);
	caught = false;
	try {
		make(form, impossible);
	} catch (const std::exception &error) {
		caught = dynamic_cast<const std::bad_alloc *>(&error) != nullptr;
	}
	CHECK(caught);
	CHECK(!std::uncaught_exceptions());
}

static int calls;
struct enough {};

int main() {
	for (int form = 0; form < 4; form++) {
		check_thrown(form);
		CHECK(!make_or_null(form, impossible));
		std::set_new_handler([] {
			if (++calls == 3)
				throw enough();
		});
		calls = 0;
		bool caught = false;
		try {
			make(form, impossible);
		} catch (const enough &) {
			caught = true;
		}
		CHECK(caught && calls == 3);
		std::set_new_handler([] {
			calls++;
			std::set_new_handler(nullptr);
		});
		CHECK(!make_or_null(form, impossible));
		CHECK(calls == 4);
		check_thrown(form);
		void *volatile block = make(form, 100);
		CHECK(block);
	}
	return 0;
}
