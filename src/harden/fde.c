#include "harden/fde.h"

#include <link.h>

#include "base/gate.h"
#include "base/libc.h"

/* What glibc tells about the object that an address lies in, from 2.35 on: struct dl_find_object, which older
 * headers do not have. The function is missing there, too. */
struct object {
	uint64_t flags;
	uintptr_t start, end; /* without the table, in some programs */
	struct link_map *link_map;
	const struct header *header;
	uint64_t reserved[7];
};

/* .eh_frame_hdr, as all linkers make it. Both columns of the table are relative to the header, and sorted by
 * `code`. */
struct header {
	uint8_t version, section_encoding, count_encoding, table_encoding;
	int32_t section; /* .eh_frame, relative to this field */
	uint32_t count;
	struct {
		int32_t code, fde;
	} table[];
};
static const uint8_t known_form[4] = { 1, 0x1b, 0x03, 0x3b };

struct search {
	uintptr_t address;
	const struct header *header;
};

static int look_at_object(struct dl_phdr_info *info, size_t size, void *argument) {
	(void)size;
	struct search *search = argument;
	bool inside = false;
	const struct header *header = NULL;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		const uintptr_t start = info->dlpi_addr + segment->p_vaddr;
		if (segment->p_type == PT_LOAD && search->address - start < segment->p_memsz) inside = true;
		if (segment->p_type == PT_GNU_EH_FRAME) header = (const struct header *)start;
	}
	if (inside) search->header = header;
	return inside;
}

NOINLINE const struct header *fde_header_by_list(uintptr_t address) {
	struct search search = { address, NULL };
	/* The list has a lock that older versions of glibc leave as it is in the child of a fork: nobody may be
	 * at it then. While a fork is under way, the stack ends here. */
	if (!gate_try_enter()) return NULL;
	dl_iterate_phdr(look_at_object, &search);
	gate_leave();
	return search.header;
}

NOINLINE const struct header *fde_header(uintptr_t address) {
	struct object object;
	if (libc.find_object == NULL) return fde_header_by_list(address);
	return libc.find_object(address, &object) == 0 ? object.header : NULL;
}

/* The last entry whose code begins at the address or before it; NULL when there is none. */
static const uint8_t *look_up(const struct header *header, uintptr_t address) {
	const intptr_t code = (intptr_t)(address - (uintptr_t)header);
	size_t low = 0, high = header->count;
	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		if (header->table[middle].code <= code)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? (const uint8_t *)header + header->table[low - 1].fde : NULL;
}

uintptr_t fde_read_address(struct reader *r, uint8_t encoding) {
	const uintptr_t place = (uintptr_t)r->at;
	uintptr_t n = 0;
	switch (encoding & 0x0f) {
	case 0x0:
	case 0x4:
	case 0xc: n = read_u64(r); break;
	case 0x1: n = read_uleb(r); break;
	case 0x2: n = read_u16(r); break;
	case 0x3: n = read_u32(r); break;
	case 0x9: n = (uintptr_t)read_sleb(r); break;
	case 0xa: n = (uintptr_t)(int16_t)read_u16(r); break;
	case 0xb: n = (uintptr_t)(int32_t)read_u32(r); break;
	default: r->bad = true;
	}
	const uint8_t base = encoding & 0xf0;
	if (base == 0x10)
		n += place;
	else if (base != 0)
		r->bad = true;
	return n;
}

/* Every entry begins with its length. Those of 64 bits are not for this section. */
static struct reader read_entry(const uint8_t *at) {
	struct reader r = { at, at + 4, false };
	const uint32_t length = read_u32(&r);
	r.end = r.at + length;
	r.bad = length == 0 || length >= 0xfffffff0;
	return r;
}

/* What the letters of `augmentation` stand for. */
static bool read_augmentation(struct reader data, const char *augmentation, struct fde *out) {
	for (; *augmentation != 0; augmentation++) {
		switch (*augmentation) {
		case 'R': out->encoding = read_u8(&data); break;
		case 'L': read_u8(&data); break;
		case 'P': {
			/* Who handles exceptions: as long as its encoding says, wherever that may lead. */
			const uint8_t encoding = read_u8(&data);
			if (encoding != 0xff) fde_read_address(&data, encoding & 0x0f);
			break;
		}
		case 'S': out->is_signal = true; break;
		case 'B':
		case 'G': break; /* AArch64: how return addresses are signed, that the frame is tagged */
		default: return false;
		}
	}
	return !data.bad;
}

static bool read_cie(const uint8_t *at, struct fde *out) {
	struct reader r = read_entry(at);
	if (r.bad || read_u32(&r) != 0) return false;
	const uint8_t version = read_u8(&r);
	if (version != 1 && version != 3 && version != 4) return false;
	const char *augmentation = (const char *)r.at;
	while (read_u8(&r) != 0) continue;
	if (version == 4 && read_u16(&r) != sizeof(void *)) return false; /* size of addresses; no segments */
	out->code_align = read_uleb(&r);
	out->data_align = read_sleb(&r);
	out->return_register = (uint8_t)(version == 1 ? read_u8(&r) : read_uleb(&r));
	out->encoding = 0;
	out->is_signal = false;
	if (r.bad) return false;
	out->has_data = *augmentation == 'z';
	if (out->has_data) {
		const struct reader data = read_block(&r, read_uleb(&r));
		if (r.bad || !read_augmentation(data, augmentation + 1, out)) return false;
	} else if (*augmentation != 0) {
		return false;
	}
	out->initial = r;
	return true;
}

bool fde_find(uintptr_t address, struct fde *out) {
	const struct header *header = fde_header(address);
	if (header == NULL || memcmp(header, known_form, sizeof known_form) != 0) return false;
	const uint8_t *at = look_up(header, address);
	out->section = (const uint8_t *)&header->section + header->section;
	if (at == NULL || at < out->section) return false;
	struct reader r = read_entry(at);
	if (r.bad) return false;
	const uint8_t *place = r.at;
	const uint32_t back = read_u32(&r); /* from here to what is common */
	if (back == 0 || back > (size_t)(place - out->section) || !read_cie(place - back, out)) return false;
	out->code = fde_read_address(&r, out->encoding);
	const uintptr_t size = fde_read_address(&r, out->encoding & 0x0f);
	if (out->has_data) read_block(&r, read_uleb(&r)); /* for exceptions */
	out->program = r;
	return !r.bad && address - out->code < size;
}
