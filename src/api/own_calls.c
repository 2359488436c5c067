/* libc's own functions for threads, whoever else has some of these names: for threads of ours
 * (cache/own_thread.h). Part of the shared library only: a static program has one of each.
 *
 * dlsym finds the first of a name, and the next one after us. Of one library it needs a handle, which dlopen
 * makes, and which allocates: a process that never does is to stay without a heap. So they are looked up in
 * libc's own table. */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

#include "cache/own_thread.h"

struct table {
	uintptr_t shift; /* from what the file says to where it is */
	const char *names;
	const Elf64_Sym *symbols;
	const Elf64_Half *versions; /* of each symbol. The highest bit: not the one that is meant today */
	const uint32_t *hash;
};

static bool is_called(const struct link_map *map, const char *name) {
	const char *last = strrchr(map->l_name, '/');
	return strcmp(last != NULL ? last + 1 : map->l_name, name) == 0;
}

/* By the name of the file, in the loader's list, which does not change while it runs constructors. */
static const struct link_map *library(const char *name) {
	const struct link_map *map = _r_debug.r_map;
	while (map != NULL && !is_called(map, name)) map = map->l_next;
	return map;
}

static bool read_table(const char *name, struct table *table) {
	const struct link_map *map = library(name);
	*table = (struct table){ 0 };
	if (map == NULL) return false;
	table->shift = map->l_addr;
	for (const Elf64_Dyn *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
		/* The loader has put addresses there. */
		const void *place = (const void *)(entry->d_un.d_ptr < map->l_addr ? map->l_addr + entry->d_un.d_ptr
		                                                                   : entry->d_un.d_ptr);
		if (entry->d_tag == DT_STRTAB) table->names = place;
		if (entry->d_tag == DT_SYMTAB) table->symbols = place;
		if (entry->d_tag == DT_VERSYM) table->versions = place;
		if (entry->d_tag == DT_GNU_HASH) table->hash = place;
	}
	return table->names != NULL && table->symbols != NULL && table->versions != NULL && table->hash != NULL;
}

static bool is_meant(const struct table *t, uint32_t i, const char *name) {
	const Elf64_Sym *symbol = &t->symbols[i];
	return symbol->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC &&
	       (t->versions[i] & 0x8000) == 0 && strcmp(t->names + symbol->st_name, name) == 0;
}

/* Stores the address of a function, if it is there. */
static void find(const struct table *t, const char *name, void *function) {
	uint32_t value = 5381;
	for (const char *c = name; *c != 0; c++) value = value * 33 + (unsigned char)*c;
	/* Words of a filter, buckets with their first symbol each, and one word for each symbol, which is odd for
	 * the last one of a bucket. */
	const uint32_t buckets = t->hash[0], first = t->hash[1];
	const uint32_t *bucket = t->hash + 4 + t->hash[2] * (sizeof(uint64_t) / sizeof *bucket),
	               *chain = bucket + buckets;
	uint32_t i = bucket[value % buckets];
	if (i < first) return;
	for (;; i++) {
		if ((chain[i - first] | 1) == (value | 1) && is_meant(t, i, name)) {
			*(uintptr_t *)function = t->shift + t->symbols[i].st_value;
			return;
		}
		if ((chain[i - first] & 1) != 0) return;
	}
}

/* Before the constructor that may start one (api/start.c), which has no priority. */
__attribute__((constructor(101))) static void find_all(void) {
	struct own_thread_calls *calls = &own_thread_calls;
	struct table table;
	if (!read_table("libc.so.6", &table)) return;
	find(&table, "pthread_attr_init", &calls->attr_init);
	find(&table, "pthread_attr_setstacksize", &calls->attr_setstacksize);
	find(&table, "pthread_attr_destroy", &calls->attr_destroy);
	find(&table, "pthread_create", &calls->create);
	find(&table, "pthread_join", &calls->join);
	find(&table, "pthread_detach", &calls->detach);
	find(&table, "pthread_setcancelstate", &calls->setcancelstate);
}
