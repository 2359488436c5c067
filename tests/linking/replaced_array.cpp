#include "replaced.h"

void *operator new[](std::size_t size) {
	return with_header(array, size, 1);
}

void operator delete[](void *block) noexcept {
	behind_header(array, block);
}
