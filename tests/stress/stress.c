#include "stress.h"

#include "stamp.h"

#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>

static uint64_t stamp_seed;

static uint64_t number(const char *text, const char *meaning) {
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (end == text || *end)
		fail("%s is no number of %s", text, meaning);
	return value;
}

struct arguments read_arguments(int argc, char **argv) {
	if (argc != 4)
		fail("usage: %s SEED OPERATIONS THREADS", argv[0]);
	struct arguments arguments = {
		.seed = number(argv[1], "a seed"),
		.operations = number(argv[2], "operations"),
		.threads = number(argv[3], "threads"),
	};
	stamp_seed = arguments.seed;
	return arguments;
}

void fail(const char *format, ...) {
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	abort();
}

struct random random_for(uint64_t seed, uint64_t thread) {
	return (struct random){ seed * 0x9E3779B97F4A7C15u + thread * 0xD1B54A32D192ED03u + 1 };
}

/* splitmix64 */
uint64_t random_next(struct random *random) {
	uint64_t z = random->state += 0x9E3779B97F4A7C15u;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	z = (z ^ z >> 27) * 0x94D049BB133111EBu;
	return z ^ z >> 31;
}

size_t random_below(struct random *random, size_t bound) {
	return (size_t)((random_next(random) >> 32) * bound >> 32);
}

size_t random_size(struct random *random) {
	size_t kind = random_below(random, 1000);
	size_t bits = kind < 600 ? 8 : kind < 900 ? 11 : kind < 990 ? 15 : kind < 999 ? 18 : 22;

	return random_below(random, (size_t)1 << bits) + 1;
}

/* Powers of two, mostly small. */
static size_t random_alignment(struct random *random) {
	return (size_t)16 << random_below(random, random_below(random, 100) ? 9 : 17);
}

struct block block_new_of_size(struct random *random, size_t size) {
	struct block block = { NULL, size };
	size_t way = random_below(random, 20), alignment = 16;

	if (way < 12) {
		block.address = malloc(size);
	} else if (way < 15) {
		block.address = calloc(1, size);
		CHECK(block.address && holds_only(block.address, size, 0));
	} else if (way < 17) {
		block.address = realloc(NULL, size);
	} else if (way < 19) {
		alignment = random_alignment(random);
		block.address = aligned_alloc(alignment, size);
	} else {
		alignment = random_alignment(random);
		CHECK(posix_memalign(&block.address, alignment, size) == 0);
	}
	if (!block.address)
		fail("no memory for %zu bytes", size);
	CHECK((uintptr_t)block.address % alignment == 0);
	CHECK(malloc_usable_size(block.address) >= size);
	stamp_block(block.address, size, stamp_seed);
	return block;
}

struct block block_new(struct random *random) {
	return block_new_of_size(random, random_size(random));
}

void block_check(const struct block *block) {
	if (!stamp_intact(block->address, block->size, stamp_seed))
		fail("the block of %zu bytes at %p does not hold its pattern", block->size, block->address);
}

void block_resize(struct block *block, struct random *random) {
	size_t size = random_size(random);
	uint64_t key = stamp_key(block->address, block->size, stamp_seed);
	size_t common = size < block->size ? size : block->size;

	block_check(block);
	block->address = realloc(block->address, size);
	if (!block->address)
		fail("no memory for %zu bytes", size);
	if (!stamp_holds(block->address, common, key))
		fail("realloc from %zu to %zu bytes lost the contents", block->size, size);
	block->size = size;
	stamp_block(block->address, size, stamp_seed);
}

void block_free(struct block *block) {
	block_check(block);
	free(block->address);
	block->address = NULL;
}

static void free_parcel(struct block *parcel) {
	if (parcel) {
		block_free(parcel);
		free(parcel);
	}
}

void exchange_put(struct exchange *exchange, struct random *random, struct block block) {
	struct block *parcel = malloc(sizeof *parcel);

	CHECK(parcel);
	*parcel = block;
	free_parcel(atomic_exchange(&exchange->slots[random_below(random, EXCHANGE_SLOTS)], parcel));
}

void exchange_clear(struct exchange *exchange) {
	for (size_t i = 0; i < EXCHANGE_SLOTS; i++)
		free_parcel(atomic_exchange(&exchange->slots[i], NULL));
}

void run_threads(size_t count, void *(*body)(void *number)) {
	pthread_t *threads = calloc(count, sizeof *threads);

	CHECK(threads);
	for (size_t i = 0; i < count; i++)
		CHECK(pthread_create(&threads[i], NULL, body, (void *)(uintptr_t)i) == 0);
	for (size_t i = 0; i < count; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	free(threads);
}

#ifdef UNDER_TSAN
/* ThreadSanitizer does not notice mremap, and takes what it remembers of the new addresses, such as the stack of a thread
 * that is gone, for accesses to the block that moved there. This one is made of calls that it knows. */
void *mremap(void *block, size_t from, size_t to, int flags, ...) {
	void *place = NULL;

	if (!(flags & MREMAP_MAYMOVE))
		return MAP_FAILED;
	if (flags & MREMAP_FIXED) {
		va_list more;
		va_start(more, flags);
		place = va_arg(more, void *);
		va_end(more);
	}
	int fixed = place ? MAP_FIXED : 0;
	void *moved = mmap(place, to, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
	if (moved != MAP_FAILED) {
		memcpy(moved, block, from < to ? from : to);
		munmap(block, from);
	}
	return moved;
}
#endif
