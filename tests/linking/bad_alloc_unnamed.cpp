// A program that catches whatever is thrown, and names std::bad_alloc nowhere: where it brings its own C++ library, that has none.
#include <cstddef>
#include <cstdint>
#include <exception>

static volatile std::size_t impossible = PTRDIFF_MAX - 100; // the compiler does not know it
static char *volatile block;

static bool caught_as_exception() {
	try {
		block = new char[impossible];
	} catch (const std::exception &error) {
		return error.what() != nullptr;
	}
	return false;
}

static bool caught_as_anything() {
	try {
		block = new char[impossible];
	} catch (...) {
		return true;
	}
	return false;
}

int main() {
	for (int i = 0; i < 3; i++)
		if (!caught_as_exception() || !caught_as_anything() || std::uncaught_exceptions())
			return 1;
	return 0;
}
