// The C++ part of unwind_frames.c: stacks below destructors that an exception runs, in handlers, and of those who throw there.
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <string>

extern "C" size_t compare(void);
extern "C" void compare_exceptions(void);

namespace {

int destroyed;

struct Owner {
	std::string text;
	~Owner() {
		compare();
		destroyed++;
	}
};

__attribute__((noinline)) void thrower(int depth) {
	Owner owner{std::string(50, 'x')};
	if (depth == 0) throw depth;
	thrower(depth - 1);
	compare();
}

__attribute__((noinline)) void catcher(const std::function<void()> &body) {
	try {
		body();
	} catch (int) {
		compare();
		Owner owner{std::string(60, 'y')};
		throw;
	}
}

} // namespace

void compare_exceptions(void) {
	try {
		catcher([] { thrower(10); });
	} catch (...) {
		compare();
	}
	int numbers[] = {5, 4, 3, 2, 1};
	std::sort(numbers, numbers + 5, [](int a, int b) {
		compare();
		return a < b;
	});
	if (destroyed != 12) std::abort();
}
