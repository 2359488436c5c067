#include "replaced.h"

void *operator new(std::size_t size) {
	return with_header(plain, size, 1);
}

void operator delete(void *block) noexcept {
	behind_header(plain, block);
}
