// A C++ program that is written for jemalloc: containers whose memory comes from mallocx and goes by sdallocx, some of it from an
// arena of their own that is reset.
#include <jemalloc/jemalloc.h>

#include <cstdio>
#include <cstring>
#include <list>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <vector>

template <class T> struct Arena {
	using value_type = T;
	int flags;

	explicit Arena(int arena_flags = 0) : flags(arena_flags) {}
	template <class U> Arena(const Arena<U> &other) : flags(other.flags) {}

	T *allocate(std::size_t count) {
		void *block = mallocx(count * sizeof(T), flags | MALLOCX_ALIGN(alignof(T)));
		if (block == nullptr) throw std::bad_alloc();
		return static_cast<T *>(block);
	}
	void deallocate(T *block, std::size_t count) {
		sdallocx(block, count * sizeof(T), flags | MALLOCX_ALIGN(alignof(T)));
	}
	template <class U> bool operator==(const Arena<U> &other) const { return flags == other.flags; }
	template <class U> bool operator!=(const Arena<U> &other) const { return flags != other.flags; }
};

struct alignas(64) Wide {
	char bytes[64];
};

static bool use(int flags) {
	std::vector<Wide, Arena<Wide>> wide{Arena<Wide>(flags)};
	std::list<int, Arena<int>> numbers{Arena<int>(flags)};
	using Pair = std::pair<const int, std::string>;
	std::map<int, std::string, std::less<int>, Arena<Pair>> words{std::less<int>(), Arena<Pair>(flags)};
	for (int i = 0; i < 3000; i++) {
		Wide w;
		std::memset(w.bytes, i, sizeof w.bytes);
		wide.push_back(w);
		numbers.push_back(i);
		if (i % 3 == 0) numbers.pop_front();
		words[i * 7 % 1000] = std::string(static_cast<std::size_t>(i % 200), 'w');
	}
	long sum = 0;
	for (int i : numbers) sum += i;
	for (int i = 0; i < 3000; i++)
		if (reinterpret_cast<std::uintptr_t>(&wide[i]) % 64 != 0 || wide[i].bytes[63] != static_cast<char>(i)) return false;
	return words.size() == 1000 && numbers.size() == 2000 && sum == (1000L + 2999) * 2000 / 2;
}

static unsigned make_arena() {
	unsigned arena = 0;
	std::size_t length = sizeof arena;
	if (mallctl("arenas.create", &arena, &length, nullptr, 0) != 0) std::abort();
	return arena;
}

/* So that the compiler leaves no pair of new and delete out. */
template <class T> static T *kept(T *block) {
	T *volatile seen = block;
	return seen;
}

int main() {
	std::vector<std::thread> threads;
	bool right[4] = {};
	for (bool &result : right)
		threads.emplace_back([&result] {
			const unsigned arena = make_arena();
			result = use(0) && use(MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
			for (int i = 0; i < 1000; i++)   // left to the reset
				if (mallocx(static_cast<std::size_t>(i) * 50 + 1, MALLOCX_ARENA(arena)) == nullptr) result = false;
			/* by all forms of new, deleted by their own, or left */
			if (mallctl("thread.arena", nullptr, nullptr, const_cast<unsigned *>(&arena), sizeof arena) != 0) result = false;
			for (int i = 0; i < 100; i++) {
				delete kept(new long);
				delete[] kept(new long[i * 100 + 1]);
				delete kept(new Wide);
				delete[] kept(new Wide[i * 100 + 1]);
			}
			kept(new long[10]), kept(new Wide[1000]), kept(new Wide);
			unsigned first = 0;
			mallctl("thread.arena", nullptr, nullptr, &first, sizeof first);
			const std::string name = "arena." + std::to_string(arena) + ".destroy";
			if (mallctl(name.c_str(), nullptr, nullptr, nullptr, 0) != 0) result = false;
		});
	for (std::thread &thread : threads) thread.join();
	for (bool result : right)
		if (!result) return std::puts("wrong"), 1;
	return 0;
}
