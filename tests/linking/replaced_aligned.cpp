#include "replaced.h"

void *operator new(std::size_t size, std::align_val_t align) {
	return with_header(aligned, size, static_cast<std::size_t>(align));
}

void operator delete(void *block, std::align_val_t) noexcept {
	behind_header(aligned, block);
}
