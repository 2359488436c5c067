// A program's own operators: pairs of new and delete that put a header in front of their blocks, and count. Each pair is in a file
// of its own, for programs that have some of them.
#ifndef REPLACED_H
#define REPLACED_H

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>

// What a pair did. `wrong`: it was given blocks of somebody else.
struct Pair {
	long made = 0, freed = 0, wrong = 0;
	bool fails = false; // its new throws
};
inline Pair plain, array, aligned, aligned_array;

inline void *with_header(Pair &pair, std::size_t size, std::size_t align) {
	if (pair.fails)
		throw std::bad_alloc();
	const std::size_t room = align > 32 ? align : 32;
	char *start = static_cast<char *>(align > 16 ? std::aligned_alloc(align, (size + room + align - 1) / align * align)
	                                             : std::malloc(size + room));
	if (!start)
		throw std::bad_alloc();
	char *block = start + room;
	reinterpret_cast<void **>(block)[-1] = &pair;
	reinterpret_cast<void **>(block)[-2] = start;
	pair.made++;
	return block;
}

inline void behind_header(Pair &pair, void *block) {
	if (!block)
		return;
	pair.freed++;
	if (static_cast<void **>(block)[-1] != &pair) {
		pair.wrong++;
		return;
	}
	static_cast<void **>(block)[-1] = nullptr;
	std::free(static_cast<void **>(block)[-2]);
}

#endif
