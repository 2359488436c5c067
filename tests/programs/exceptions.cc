// The program of test_gxx.py: exceptions across frames and threads, containers, aligned and sized operator new, and
// allocations that fail. Prints nothing that varies.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <future>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

struct alignas(256) Wide {
	unsigned char bytes[512] = {};
};

struct Counted {
	static std::atomic<long> alive;
	std::string name;
	explicit Counted(int n) : name(40, static_cast<char>('a' + n % 26)) {
		if (n % 11 == 10) throw std::invalid_argument("number " + std::to_string(n) + " is not wanted");
		alive++;
	}
	Counted(const Counted &other) : name(other.name) { alive++; }
	~Counted() { alive--; }
};
std::atomic<long> Counted::alive{0};

// Unwinds through `depth` frames that all own memory.
static int fall(int depth) {
	std::vector<Counted> mine(3, Counted(depth % 10));
	auto more = std::make_unique<std::map<int, std::string>>();
	for (int i = 0; i < 10; i++) (*more)[i] = std::string(static_cast<size_t>(i) * 20, 'x');
	if (depth == 0) throw std::runtime_error(std::string(100, '!') + " at the bottom");
	return fall(depth - 1) + static_cast<int>(more->size());
}

static long exceptions() {
	long caught = 0;
	for (int i = 0; i < 2000; i++) {
		try {
			if (i % 3 == 0) fall(i % 40);
			Counted counted(i);
			if (i % 7 == 0) throw std::make_pair(i, counted.name);
		} catch (const std::invalid_argument &e) {
			caught += static_cast<long>(std::string(e.what()).size());
		} catch (const std::runtime_error &e) {
			caught += 1000;
			try {
				std::throw_with_nested(std::logic_error("outer"));
			} catch (const std::logic_error &outer) {
				try {
					std::rethrow_if_nested(outer);
				} catch (const std::runtime_error &) {
					caught += 1;
				}
			}
		} catch (const std::pair<int, std::string> &p) {
			caught += p.first;
		}
	}
	return caught;
}

static long across_threads() {
	std::vector<std::future<long>> futures;
	for (int t = 0; t < 8; t++)
		futures.push_back(std::async(std::launch::async, [t] {
			long sum = exceptions();
			if (t % 2) throw std::out_of_range("thread " + std::to_string(t) + std::string(500, '.'));
			return sum;
		}));
	long total = 0;
	for (auto &future : futures) {
		try {
			total += future.get();
		} catch (const std::out_of_range &e) { // made in one thread, freed in another
			total += static_cast<long>(std::string(e.what()).size());
		}
	}
	return total;
}

static long containers() {
	std::unordered_map<std::string, std::list<std::vector<int>>> map;
	for (int i = 0; i < 30000; i++)
		map["key" + std::to_string(i % 700)].emplace_back(static_cast<size_t>(i % 50), i);
	for (int i = 0; i < 700; i += 2) map.erase("key" + std::to_string(i));
	long sum = 0;
	for (auto &[key, list] : map)
		for (auto &vector : list) sum += std::accumulate(vector.begin(), vector.end(), 0L);
	std::vector<std::function<long()>> functions;
	for (int i = 0; i < 1000; i++) functions.push_back([i, text = std::string(static_cast<size_t>(i), 'f')] { return i + static_cast<long>(text.size()); });
	for (auto &function : functions) sum += function();
	return sum;
}

static bool aligned() {
	std::vector<std::unique_ptr<Wide>> wide;
	std::vector<std::unique_ptr<Wide[]>> arrays;
	for (int i = 0; i < 500; i++) {
		wide.push_back(std::make_unique<Wide>());
		arrays.push_back(std::make_unique<Wide[]>(static_cast<size_t>(i % 5 + 1)));
		if (reinterpret_cast<uintptr_t>(wide.back().get()) % alignof(Wide)) return false;
		if (reinterpret_cast<uintptr_t>(arrays.back().get()) % alignof(Wide)) return false;
		if (i % 2) wide[static_cast<size_t>(i) / 2].reset();
	}
	void *page = ::operator new(10000, std::align_val_t(65536));
	bool good = reinterpret_cast<uintptr_t>(page) % 65536 == 0;
	::operator delete(page, 10000, std::align_val_t(65536));
	return good;
}

static int failures() {
	int seen = 0;
	volatile size_t absurd = std::numeric_limits<size_t>::max() / 2;
	try {
		delete[] new char[absurd];
	} catch (const std::bad_alloc &) {
		seen++;
	}
	if (!new (std::nothrow) char[absurd]) seen++;
	static int handler_calls;
	std::set_new_handler([] {
		if (++handler_calls == 3) std::set_new_handler(nullptr);
	});
	try {
		::operator delete(::operator new(absurd));
	} catch (const std::bad_alloc &) {
		seen++;
	}
	return seen * 10 + handler_calls;
}

int main() {
	std::printf("exceptions %ld\n", exceptions());
	std::printf("across threads %ld\n", across_threads());
	std::printf("alive %ld\n", Counted::alive.load());
	std::printf("containers %ld\n", containers());
	std::printf("aligned %d\n", aligned());
	std::printf("failures %d\n", failures());
	return 0;
}
