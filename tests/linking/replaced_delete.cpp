// A delete without a new, which counts: the standard does not want it, but programs have it.
#include "replaced.h"

void operator delete(void *block) noexcept {
	plain.freed += block != nullptr;
	std::free(block);
}
