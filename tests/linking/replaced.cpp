// replaced NAME...: the program has these pairs of operators of its own: plain, array, aligned, aligned_array; or only a delete. All
// other forms must call them, as the standard says, from the first call on.
#include "replaced.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#define CHECK(condition) ((condition) ? (void)0 : broken(__LINE__, #condition))

static void broken(int line, const char *condition) {
	std::fprintf(stderr, "replaced.cpp:%d: %s does not hold\n", line, condition);
	std::exit(1);
}

// The compiler may not do without a block.
static void *kept(void *block) {
	void *volatile seen = block;
	return seen;
}

// Before main, and before anything that is not of the forms below: the first that the operators hear of this program.
static void *const first = kept(operator new[](100));

static const std::size_t sizes[] = {0, 1, 24, 100, 1000, 1024, 1025, 5000, 32768, 40000, 2000000};
static const auto align = std::align_val_t{64};

struct Form {
	const char *name;
	void *(*make)(std::size_t size);
	void (*free)(void *block, std::size_t size);
	Pair *pairs[2]; // who serves it: the first that the program has
};

static const Form forms[] = {
	{"new", [](std::size_t n) { return operator new(n); }, [](void *p, std::size_t) { operator delete(p); }, {&plain}},
	{"new, nothrow", [](std::size_t n) { return operator new(n, std::nothrow); },
	 [](void *p, std::size_t) { operator delete(p, std::nothrow); }, {&plain}},
	{"new, sized", [](std::size_t n) { return operator new(n); }, [](void *p, std::size_t n) { operator delete(p, n); }, {&plain}},
	{"new[]", [](std::size_t n) { return operator new[](n); }, [](void *p, std::size_t) { operator delete[](p); }, {&array, &plain}},
	{"new[], nothrow", [](std::size_t n) { return operator new[](n, std::nothrow); },
	 [](void *p, std::size_t) { operator delete[](p, std::nothrow); }, {&array, &plain}},
	{"new[], sized", [](std::size_t n) { return operator new[](n); }, [](void *p, std::size_t n) { operator delete[](p, n); },
	 {&array, &plain}},
	{"new, aligned", [](std::size_t n) { return operator new(n, align); },
	 [](void *p, std::size_t) { operator delete(p, align); }, {&aligned}},
	{"new, aligned, nothrow", [](std::size_t n) { return operator new(n, align, std::nothrow); },
	 [](void *p, std::size_t) { operator delete(p, align, std::nothrow); }, {&aligned}},
	{"new, aligned, sized", [](std::size_t n) { return operator new(n, align); },
	 [](void *p, std::size_t n) { operator delete(p, n, align); }, {&aligned}},
	{"new[], aligned", [](std::size_t n) { return operator new[](n, align); },
	 [](void *p, std::size_t) { operator delete[](p, align); }, {&aligned_array, &aligned}},
	{"new[], aligned, nothrow", [](std::size_t n) { return operator new[](n, align, std::nothrow); },
	 [](void *p, std::size_t) { operator delete[](p, align, std::nothrow); }, {&aligned_array, &aligned}},
	{"new[], aligned, sized", [](std::size_t n) { return operator new[](n, align); },
	 [](void *p, std::size_t n) { operator delete[](p, n, align); }, {&aligned_array, &aligned}},
};

static bool has_plain, has_array, has_aligned, has_aligned_array, has_delete;

static bool has(const Pair *pair) {
	return (pair == &plain && has_plain) || (pair == &array && has_array) || (pair == &aligned && has_aligned) ||
	       (pair == &aligned_array && has_aligned_array);
}

static Pair *server(const Form &form) {
	for (Pair *pair : form.pairs)
		if (pair && has(pair))
			return pair;
	return nullptr;
}

static long total(long Pair::*count) {
	return plain.*count + array.*count + aligned.*count + aligned_array.*count;
}

static void check_form(const Form &form) {
	Pair none, *pair = server(form), &counts = pair ? *pair : none;
	// A delete alone is where all forms without an alignment end.
	const bool deletes = pair || (has_delete && (form.pairs[0] == &plain || form.pairs[1] == &plain));

	for (std::size_t size : sizes) {
		const Pair before = counts;
		const long made = total(&Pair::made), freed = total(&Pair::freed);
		void *block = kept(form.make(size));
		if (!block || counts.made != before.made + (pair != nullptr) || total(&Pair::made) != made + (pair != nullptr)) {
			std::fprintf(stderr, "%s of %zu bytes is not served by its pair\n", form.name, size);
			std::exit(1);
		}
		std::memset(block, 'x', size);
		form.free(block, size);
		form.free(nullptr, size);
		if (counts.freed != before.freed + (pair != nullptr) || total(&Pair::freed) != freed + deletes) {
			std::fprintf(stderr, "the delete of %s of %zu bytes does not get to its pair\n", form.name, size);
			std::exit(1);
		}
	}
}

// What throws in the program's operators is NULL in nothrow forms, and thrown by the others.
static void check_failures() {
	for (const Form &form : forms) {
		Pair *pair = server(form);
		if (!pair)
			continue;
		pair->fails = true;
		const bool nothrow = std::strstr(form.name, "nothrow") != nullptr;
		bool thrown = false;
		void *block = first;
		try {
			block = kept(form.make(100));
		} catch (const std::bad_alloc &) {
			thrown = true;
		}
		pair->fails = false;
		CHECK(thrown == !nothrow);
		CHECK(!nothrow || !block);
		CHECK(!std::uncaught_exceptions());
	}
}

static void library_code() {
	std::vector<std::string> texts;
	for (unsigned i = 0; i < 2000; i++)
		texts.push_back(std::string(i * 7 % 90, static_cast<char>('a' + i % 26)));
	std::stable_sort(texts.begin(), texts.end());
	CHECK(std::is_sorted(texts.begin(), texts.end()));
}

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) {
		has_plain |= !std::strcmp(argv[i], "plain");
		has_array |= !std::strcmp(argv[i], "array");
		has_aligned |= !std::strcmp(argv[i], "aligned");
		has_aligned_array |= !std::strcmp(argv[i], "aligned_array");
		has_delete |= !std::strcmp(argv[i], "delete");
	}
	Pair *pair = has_array ? &array : has_plain ? &plain : nullptr;
	CHECK(!pair || pair->made >= 1);
	operator delete[](first);
	CHECK(!pair || pair->freed >= 1);

	for (int round = 0; round < 3; round++)
		for (const Form &form : forms)
			check_form(form);
	library_code();
	check_failures();
	std::vector<std::thread> threads;
	for (int i = 0; i < 4; i++)
		threads.emplace_back(library_code);
	for (std::thread &thread : threads)
		thread.join();
	CHECK(plain.wrong + array.wrong + aligned.wrong + aligned_array.wrong == 0);
	return 0;
}
