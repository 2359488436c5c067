/* libc's functions, looked up in its own tables. Part of the shared library only.
 *
 * dlsym finds the first of a name, and the next one after us. Of one library it needs a handle, which dlopen
 * makes, and which allocates: a process that never does is to stay without a heap. And it is not in every
 * process itself. */
#include <dlfcn.h>
#include <elf.h>
#include <gnu/lib-names.h>
#include <link.h>
#include <string.h>

#include "base/libc.h"
#include "base/os.h"
#include "base/print.h"

struct libc libc;

static struct {
	void *(*dlsym)(void *handle, const char *name);
	char *(*dlerror)(void);
} loader;

/* ---- tables ---- */

struct table {
	uintptr_t shift; /* from what the file says to where it is */
	const char *names;
	const Elf64_Sym *symbols;
	const Elf64_Half *versions; /* of each symbol. The highest bit: not the one that is meant today */
	const uint32_t *hash;
};

/* The lists of the loader: the program's, and since glibc 2.35 those of other namespaces (dlmopen), each of
 * which has a libc of its own. They do not change while the loader runs constructors. */
struct lists {
	struct r_debug list;
	const struct lists *next; /* is there from version 2 on */
};

extern const Elf64_Dyn own_dynamic_section[] __asm__("_DYNAMIC") __attribute__((visibility("hidden")));

/* The list in which this library is. */
static const struct link_map *first_beside_us(void) {
	const struct lists *at = (const struct lists *)&_r_debug;
	while (at != NULL) {
		const struct link_map *map = at->list.r_map;
		while (map != NULL && map->l_ld != own_dynamic_section) map = map->l_next;
		if (map != NULL) return at->list.r_map;
		at = at->list.r_version >= 2 ? at->next : NULL;
	}
	return _r_debug.r_map;
}

static bool is_file(const struct link_map *map, const char *name) {
	const char *last = strrchr(map->l_name, '/');
	return strcmp(last != NULL ? last + 1 : map->l_name, name) == 0;
}

static const void *place_of(const struct link_map *map, const Elf64_Dyn *entry) {
	/* The loader has put addresses there. */
	return (const void *)(entry->d_un.d_ptr < map->l_addr ? map->l_addr + entry->d_un.d_ptr
	                                                      : entry->d_un.d_ptr);
}

/* By its DT_SONAME: its file may have another name. */
static bool is_called(const struct link_map *map, const char *name) {
	const char *names = NULL;
	uint64_t own = 0;
	for (const Elf64_Dyn *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
		if (entry->d_tag == DT_STRTAB) names = place_of(map, entry);
		if (entry->d_tag == DT_SONAME) own = entry->d_un.d_val;
	}
	return names != NULL && own != 0 && strcmp(names + own, name) == 0;
}

static const struct link_map *library(const char *name) {
	const struct link_map *const first = first_beside_us(), *map = first;
	while (map != NULL && !is_file(map, name)) map = map->l_next;
	if (map != NULL) return map;
	map = first;
	while (map != NULL && !is_called(map, name)) map = map->l_next;
	return map;
}

static bool read_table(const char *name, struct table *table) {
	const struct link_map *map = library(name);
	*table = (struct table){ 0 };
	if (map == NULL) return false;
	table->shift = map->l_addr;
	for (const Elf64_Dyn *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
		const void *place = place_of(map, entry);
		if (entry->d_tag == DT_STRTAB) table->names = place;
		if (entry->d_tag == DT_SYMTAB) table->symbols = place;
		if (entry->d_tag == DT_VERSYM) table->versions = place;
		if (entry->d_tag == DT_GNU_HASH) table->hash = place;
	}
	return table->names != NULL && table->symbols != NULL && table->versions != NULL && table->hash != NULL;
}

static bool is_meant(const struct table *t, uint32_t i, const char *name) {
	const Elf64_Sym *symbol = &t->symbols[i];
	const unsigned type = ELF64_ST_TYPE(symbol->st_info);
	return symbol->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_OBJECT) &&
	       (t->versions[i] & 0x8000) == 0 && strcmp(t->names + symbol->st_name, name) == 0;
}

/* NULL: it has no such function. */
static void *find(const struct table *t, const char *name) {
	uint32_t value = 5381;
	for (const char *c = name; *c != 0; c++) value = value * 33 + (unsigned char)*c;
	/* Words of a filter, buckets with their first symbol each, and one word for each symbol, which is odd for
	 * the last one of a bucket. */
	const uint32_t buckets = t->hash[0], first = t->hash[1];
	const uint32_t *bucket = t->hash + 4 + t->hash[2] * (sizeof(uint64_t) / sizeof *bucket),
	               *chain = bucket + buckets;
	uint32_t i = bucket[value % buckets];
	if (i < first) return NULL;
	for (;; i++) {
		if ((chain[i - first] | 1) == (value | 1) && is_meant(t, i, name))
			return (void *)(t->shift + t->symbols[i].st_value);
		if ((chain[i - first] & 1) != 0) return NULL;
	}
}

/* ---- what is found ---- */

#define FIND(table, structure, name) *(void **)&structure.name = find(table, #name)

static void find_threads(const struct table *t) {
	FIND(t, libc, pthread_attr_setstacksize);
	FIND(t, libc, pthread_join);
	FIND(t, libc, pthread_detach);
	FIND(t, libc, pthread_setspecific);
	/* Who is asked about, last: the others are there then. */
	*(void **)&libc.pthread_key_create = find(t, "__pthread_key_create");
	FIND(t, libc, pthread_create);
}

static void find_loader(const struct table *t) {
	FIND(t, loader, dlerror);
	FIND(t, loader, dlsym);
}

/* Before all constructors that lean on it. */
__attribute__((constructor(101))) void libc_find(void) {
	struct table t;
	if (libc.pthread_attr_init != NULL) return;
	if (!read_table(LIBC_SO, &t)) {
		print_fd(2, "arenal: the libc of this program is not known: it cannot be preloaded here\n");
		os_abort();
	}
	FIND(&t, libc, pthread_attr_init);
	FIND(&t, libc, pthread_attr_destroy);
	FIND(&t, libc, pthread_setcancelstate);
	FIND(&t, libc, sigaction);
	*(void **)&libc.single_threaded = find(&t, "__libc_single_threaded");
	*(void **)&libc.find_object = find(&t, "_dl_find_object");
	find_threads(&t);
	find_loader(&t);
	if (libc.pthread_create == NULL && read_table(LIBPTHREAD_SO, &t)) find_threads(&t);
	if (loader.dlsym == NULL && read_table(LIBDL_SO, &t)) find_loader(&t);
	/* glibc has had it in either. */
	if (libc.find_object == NULL && read_table(LD_SO, &t))
		*(void **)&libc.find_object = find(&t, "_dl_find_object");
}

/* Later on, when plugins come and go, the list is read only while the loader says that it is whole. */
static bool read_table_later(const char *name, struct table *table) {
	return _r_debug.r_state == RT_CONSISTENT && read_table(name, table);
}

bool libc_has_threads(void) {
	struct table t;
	if (likely(libc.pthread_create != NULL)) return true;
	libc_find();
	if (libc.pthread_create == NULL && read_table_later(LIBPTHREAD_SO, &t)) find_threads(&t);
	return libc.pthread_create != NULL;
}

static bool has_loader(void) {
	struct table t;
	if (likely(loader.dlsym != NULL)) return true;
	libc_find();
	if (loader.dlsym == NULL && read_table_later(LIBDL_SO, &t)) find_loader(&t);
	return loader.dlsym != NULL;
}

void *libc_in(void *handle, const char *name) {
	if (!has_loader()) return NULL;
	void *function = loader.dlsym(handle, name);
	if (function == NULL) loader.dlerror(); /* nobody is to hear of that */
	return function;
}

void *libc_next(const char *name) {
	struct table t;
	if (has_loader()) return libc_in(RTLD_NEXT, name);
	return read_table(LIBC_SO, &t) ? find(&t, name) : NULL;
}
