#include "arena/size_class.h"

#define BLOCKS(size, slices) ((slices)*SLICE_SIZE / (size))

/* The number M that block_starts_at tests by: e = M * size - 2^64 is the error of one block. Without a tail,
 * M is 2^64 / size. With one, e * (blocks - 1) < M <= e * blocks: the least such M is 2^64 / (size - 1 /
 * blocks), rounded up. */
/* A table, and macros that make it: by hand. */
/* clang-format off */
#define ONE ((unsigned __int128)1 << 64)
#define DIVIDED_UP(n, d) (((n) + (d)-1) / (d))
#define START_TEST(size, n) \
	(uint64_t)(SLICE_SIZE % (size) == 0 ? ONE / (size) : DIVIDED_UP(ONE * (n), (size) * (n)-1))

#define CLASS(size, slices) \
	{ size, (uint32_t)(((UINT64_C(1) << 32) + (size)-1) / (size)), (uint16_t)BLOCKS(size, slices), slices, \
	  (slices) == 1 ? START_TEST(size, BLOCKS(size, 1)) : 0 }

const struct size_class size_classes[CLASS_COUNT] = {
	{ 0, 0, 0, 0, 0 },
	CLASS(16, 1),     CLASS(32, 1),     CLASS(48, 1),     CLASS(64, 1),
	CLASS(80, 1),     CLASS(96, 1),     CLASS(112, 1),    CLASS(128, 1),
	CLASS(144, 1),    CLASS(160, 1),    CLASS(176, 1),    CLASS(192, 1),
	CLASS(208, 1),    CLASS(224, 1),    CLASS(240, 1),    CLASS(256, 1),
	CLASS(288, 1),    CLASS(320, 1),    CLASS(352, 1),    CLASS(384, 1),
	CLASS(416, 1),    CLASS(448, 1),    CLASS(480, 1),    CLASS(512, 1),
	CLASS(576, 1),    CLASS(640, 1),    CLASS(704, 1),    CLASS(768, 1),
	CLASS(832, 1),    CLASS(896, 1),    CLASS(960, 1),    CLASS(1024, 1),
	CLASS(1152, 1),   CLASS(1280, 1),   CLASS(1408, 1),   CLASS(1536, 1),
	CLASS(1664, 1),   CLASS(1792, 1),   CLASS(1920, 1),   CLASS(2048, 1),
	CLASS(2304, 1),   CLASS(2560, 1),   CLASS(2816, 1),   CLASS(3072, 1),
	CLASS(3328, 1),   CLASS(3584, 1),   CLASS(3840, 1),   CLASS(4096, 1),
	CLASS(4608, 1),   CLASS(5120, 1),   CLASS(5632, 1),   CLASS(6144, 1),
	CLASS(6656, 2),   CLASS(7168, 1),   CLASS(7680, 1),   CLASS(8192, 1),
	CLASS(9216, 1),   CLASS(10240, 1),  CLASS(11264, 2),  CLASS(12288, 1),
	CLASS(13312, 3),  CLASS(14336, 2),  CLASS(15360, 1),  CLASS(16384, 1),
	CLASS(18432, 2),  CLASS(20480, 2),  CLASS(22528, 4),  CLASS(24576, 2),
	CLASS(26624, 3),  CLASS(28672, 4),  CLASS(30720, 2),  CLASS(32768, 2),
};
/* clang-format on */

static_assert(SLICE_SIZE / MIN_ALIGN == SPAN_BLOCKS_MAX,
              "the bitmap of a span has a bit for each of the smallest blocks");
