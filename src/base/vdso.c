#include "base/vdso.h"

#include <elf.h>
#include <stddef.h>
#include <string.h>

/* How many symbols there are: the image has one hash table or the other, or both. */
static uint32_t count_symbols(const uint32_t *hash, const uint32_t *gnu_hash) {
	if (hash != NULL) return hash[1];
	if (gnu_hash == NULL) return 0;
	/* Buckets with their first symbol each, then one word for each symbol, odd for the last one of a
	 * bucket. */
	const uint32_t buckets = gnu_hash[0], hidden = gnu_hash[1];
	const uint32_t *bucket = gnu_hash + 4 + gnu_hash[2] * (sizeof(uint64_t) / sizeof *bucket),
	               *chain = bucket + buckets;
	uint32_t last = 0;
	for (uint32_t i = 0; i < buckets; i++)
		if (bucket[i] > last) last = bucket[i];
	if (last < hidden) return 0;
	while ((chain[last - hidden] & 1) == 0) last++;
	return last + 1;
}

void *vdso_function(uintptr_t base, const char *name) {
	if (base == 0) return NULL;
	const Elf64_Ehdr *header = (const void *)base;
	const Elf64_Phdr *segments = (const void *)(base + header->e_phoff);
	const Elf64_Dyn *dynamic = NULL;
	uintptr_t shift = base; /* from what the image says to where it is */
	for (int i = header->e_phnum - 1; i >= 0; i--) {
		if (segments[i].p_type == PT_LOAD) shift = base + segments[i].p_offset - segments[i].p_vaddr;
		if (segments[i].p_type == PT_DYNAMIC) dynamic = (const void *)(base + segments[i].p_offset);
	}
	const char *names = NULL;
	const Elf64_Sym *symbols = NULL;
	const uint32_t *hash = NULL, *gnu_hash = NULL;
	for (; dynamic != NULL && dynamic->d_tag != DT_NULL; dynamic++) {
		const void *place = (const void *)(shift + dynamic->d_un.d_ptr);
		if (dynamic->d_tag == DT_STRTAB) names = place;
		if (dynamic->d_tag == DT_SYMTAB) symbols = place;
		if (dynamic->d_tag == DT_HASH) hash = place;
		if (dynamic->d_tag == DT_GNU_HASH) gnu_hash = place;
	}
	if (names == NULL || symbols == NULL) return NULL;
	const uint32_t count = count_symbols(hash, gnu_hash);
	for (uint32_t i = 0; i < count; i++)
		if (symbols[i].st_shndx != SHN_UNDEF && strcmp(names + symbols[i].st_name, name) == 0)
			return (void *)(shift + symbols[i].st_value);
	return NULL;
}
