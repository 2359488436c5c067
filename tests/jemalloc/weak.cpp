// A C++ program that does not need jemalloc, and uses it where it is: as folly, RocksDB and libvips look for it.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
void *mallocx(size_t, int) __attribute__((weak));
void *rallocx(void *, size_t, int) __attribute__((weak));
size_t xallocx(void *, size_t, size_t, int) __attribute__((weak));
size_t sallocx(const void *, int) __attribute__((weak));
void dallocx(void *, int) __attribute__((weak));
void sdallocx(void *, size_t, int) __attribute__((weak));
size_t nallocx(size_t, int) __attribute__((weak));
int mallctl(const char *, void *, size_t *, void *, size_t) __attribute__((weak));
int mallctlnametomib(const char *, size_t *, size_t *) __attribute__((weak));
int mallctlbymib(const size_t *, size_t, void *, size_t *, void *, size_t) __attribute__((weak));
}

// Is malloc jemalloc's? All functions are there, and the thread's counter moves with a malloc.
static bool uses_jemalloc() {
	if (!mallocx || !rallocx || !xallocx || !sallocx || !dallocx || !sdallocx || !nallocx || !mallctl ||
	    !mallctlnametomib || !mallctlbymib)
		return false;
	volatile uint64_t *counter = nullptr;
	size_t length = sizeof counter;
	if (mallctl("thread.allocatedp", static_cast<void *>(&counter), &length, nullptr, 0) != 0) return false;
	if (length != sizeof(uint64_t *)) return false;
	const uint64_t before = *counter;
	void *volatile block = std::malloc(1);
	std::free(block);
	return *counter != before;
}

static const bool at_start = uses_jemalloc();  // before main

int main(int argc, char **argv) {
	if (argc == 2 && !std::strcmp(argv[1], "no")) return at_start || uses_jemalloc() ? 1 : 0;
	if (!at_start || !uses_jemalloc()) return std::puts("jemalloc is not seen"), 1;
	// A vector that takes what it gets, grows in place where it can, and frees with a size.
	std::vector<std::string> words;
	size_t capacity = nallocx(100, 0);
	char *text = static_cast<char *>(std::malloc(capacity));
	std::memset(text, 'x', capacity);
	for (int i = 0; i < 2000; i++) {
		const size_t wanted = nallocx(capacity + capacity / 8 + 1, 0);
		if (xallocx(text, wanted, 0, 0) < wanted) text = static_cast<char *>(rallocx(text, wanted, 0));
		std::memset(text + capacity, 'x', wanted - capacity);
		capacity = wanted;
		if (capacity > 4u << 20) {
			for (size_t b = 0; b < capacity; b++)
				if (text[b] != 'x') return std::puts("bytes were lost"), 1;
			sdallocx(text, capacity, 0);
			capacity = nallocx(10, 0);
			text = static_cast<char *>(std::malloc(capacity));
			std::memset(text, 'x', capacity);
		}
		words.emplace_back(static_cast<size_t>(i), 'w');
	}
	sdallocx(text, capacity, 0);
	for (size_t i = 0; i < words.size(); i++)
		if (words[i] != std::string(i, 'w')) return std::puts("words were lost"), 1;
	return 0;
}
