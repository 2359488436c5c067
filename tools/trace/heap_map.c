#include "heap_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace_file.h"

#define COLUMNS 512     /* moments */
#define ROWS_MAX 1024   /* parts of the addresses */

/* Addresses are dealt with by pieces of this size, at first: those that no block ever lay in are left out. With more than PIECES_MAX
 * of them, pieces become larger. */
#define PIECE_SHIFT 12
#define PIECES_MAX ((size_t)1 << 18)

/* Of a huge block, so many pieces are noted: more would take long, and tell nothing more. */
#define NOTED_MAX ((uint64_t)1 << 16)

static struct {
	unsigned shift;
	uint64_t *set;        /* numbers of pieces that are used, plus one; open addressing */
	size_t set_capacity, count;
	uint64_t *pieces;     /* the same, sorted */
	size_t rows, per_row; /* pieces in a row */
	double *live;         /* bytes, by row */
	unsigned char *image; /* a column after the other; 255: full */
	unsigned column;
} map;

static size_t place(uint64_t piece) { return (size_t)(piece * UINT64_C(0x9E3779B97F4A7C15) >> 24) & (map.set_capacity - 1); }

static void add(uint64_t piece) {
	size_t i = place(piece);
	for (; map.set[i] != 0; i = (i + 1) & (map.set_capacity - 1))
		if (map.set[i] == piece + 1) return;
	map.set[i] = piece + 1;
	map.count++;
}

/* Pieces twice as large. */
static void coarsen(void) {
	uint64_t *old = map.set;
	map.set = take(map.set_capacity, sizeof *map.set);
	map.count = 0;
	map.shift++;
	for (size_t i = 0; i < map.set_capacity; i++)
		if (old[i] != 0) add((old[i] - 1) >> 1);
	free(old);
}

void map_note_address(uint64_t address, uint64_t size) {
	if (map.set == NULL) {
		map.shift = PIECE_SHIFT;
		map.set_capacity = PIECES_MAX * 2;
		map.set = take(map.set_capacity, sizeof *map.set);
	}
	if (size == 0 || address + size < address) return;
	while ((size >> map.shift) >= NOTED_MAX) coarsen();
	for (uint64_t piece = address >> map.shift; piece <= (address + size - 1) >> map.shift; piece++) {
		add(piece);
		if (map.count < PIECES_MAX) continue;
		coarsen();
		piece = address >> map.shift;
	}
}

static int by_number(const void *a, const void *b) {
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

void map_begin(void) {
	map.pieces = take(map.count, sizeof *map.pieces);
	size_t n = 0;
	for (size_t i = 0; i < map.set_capacity; i++)
		if (map.set[i] != 0) map.pieces[n++] = map.set[i] - 1;
	qsort(map.pieces, n, sizeof *map.pieces, by_number);
	map.per_row = (n + ROWS_MAX - 1) / ROWS_MAX;
	if (map.per_row == 0) map.per_row = 1;
	map.rows = (n + map.per_row - 1) / map.per_row;
	map.live = take(map.rows, sizeof *map.live);
	map.image = take(map.rows * COLUMNS + 1, 1);
}

static size_t index_of(uint64_t piece) {
	size_t low = 0, high = map.count;
	while (low < high) {
		const size_t middle = (low + high) / 2;
		if (map.pieces[middle] < piece)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void map_change(uint64_t address, uint64_t size, bool allocated) {
	if (size == 0 || address + size < address) return;
	const uint64_t end = address + size;
	size_t i = index_of(address >> map.shift);
	while (address < end && i < map.count) {
		/* As far as the row goes without a gap: all of the block's pieces are there, one beside the other. */
		const size_t row = i / map.per_row, next = (row + 1) * map.per_row;
		const uint64_t row_end = (map.pieces[i] + (next - i)) << map.shift;
		const uint64_t upto = row_end < end ? row_end : end;
		map.live[row] += allocated ? (double)(upto - address) : -(double)(upto - address);
		address = upto;
		i = next;
	}
}

void map_until(double part) {
	const double row_bytes = (double)map.per_row * (double)(UINT64_C(1) << map.shift);
	for (; map.column < COLUMNS && part * COLUMNS >= map.column + 1; map.column++)
		for (size_t row = 0; row < map.rows; row++) {
			const double level = map.live[row] / row_bytes * 255;
			map.image[map.column * map.rows + row] = (unsigned char)(level <= 0 ? 0 : level < 1 ? 1 : level > 255 ? 255 : level);
		}
}

static void print_base64(const unsigned char *bytes, size_t count) {
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t i = 0; i < count; i += 3) {
		const unsigned second = i + 1 < count ? bytes[i + 1] : 0, third = i + 2 < count ? bytes[i + 2] : 0;
		const unsigned n = (unsigned)bytes[i] << 16 | second << 8 | third;
		putchar(digits[n >> 18]);
		putchar(digits[n >> 12 & 63]);
		putchar(i + 1 < count ? digits[n >> 6 & 63] : '=');
		putchar(i + 2 < count ? digits[n & 63] : '=');
	}
}

void map_print(void) {
	printf(",\"map\":{\"columns\":%d,\"rows\":%zu,\"row_bytes\":%zu,\"starts\":[", COLUMNS, map.rows, map.per_row << map.shift);
	for (size_t row = 0; row < map.rows; row++)
		printf("%s\"%lx\"", row > 0 ? "," : "", map.pieces[row * map.per_row] << map.shift);
	printf("],\"image\":\"");
	print_base64(map.image, map.rows * COLUMNS);
	printf("\"}");
}
