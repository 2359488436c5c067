#include "cache/sample.h"

#include "cache/caches.h"

_Atomic uint64_t sample_mean;
struct sample_hooks sample_hooks;

/* -log2 of a number, evenly distributed between 0 and 1, in 2^-32: the leading zeros of random bits, then,
 * bit by bit, the logarithm of what follows. libm is none of the libraries that Arenal may need. */
static uint64_t random_log(struct random *random) {
	const uint64_t bits = random_next(random) | 1;
	const unsigned zeros = (unsigned)__builtin_clzll(bits);
	uint64_t m = bits << zeros >> 32, log = 0; /* m: from 1 to 2, in 2^-31 */
	for (unsigned bit = 32; bit-- > 0;) {
		m = m * m >> 31;
		if (m >> 32 == 0) continue;
		m >>= 1;
		log |= UINT64_C(1) << bit;
	}
	return ((uint64_t)(zeros + 1) << 32) - log;
}

/* Bytes before the next point: exponentially distributed, rounded down, for a block that ends before the
 * point has no byte at it. */
static uint64_t draw(struct sample_turn *turn) {
	const double ln2 = 0.69314718055994531;
	return (uint64_t)((double)random_log(&turn->random) * (ln2 / 0x1p32) * (double)turn->mean);
}

bool sample_count(struct sample_turn *turn, size_t size) {
	const uint64_t mean = atomic_load_explicit(&sample_mean, memory_order_relaxed);
	if (mean == 0 || turn->busy) return false;
	if (turn->mean != mean) {
		turn->mean = mean;
		turn->left = draw(turn);
	}
	if (size <= turn->left) {
		turn->left -= size;
		return false;
	}
	turn->left = draw(turn);
	return true;
}

/* 1 - exp(-x), where x is halved until a short series will do: with f for x, it is f * (2 - f) for 2 * x. */
double sample_probability(size_t size, uint64_t mean) {
	double x = (double)size / (double)mean;
	if (x > 50) return 1;
	unsigned halved = 0;
	for (; x > 0.01; halved++) x /= 2;
	double f = x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4)));
	while (halved-- > 0) f *= 2 - f;
	return f;
}

/* ---- of all threads ---- */

/* Without ThreadSanitizer: malloc reads the table plainly. */
__attribute__((no_sanitize("thread"))) void sample_lead_sizes(struct tcache *tc) {
	const bool lead = !sample_is_on() && !tc->led_away;
	for (size_t i = 0; i <= TABLE_MAX / MIN_ALIGN; i++)
		*(volatile uint16_t *)&tc->tag_of_size[i] = lead ? tcache_tags[i] : TAG_OF_CLASS(0);
	*(volatile uint16_t *)&tc->class_mask = lead ? UINT16_MAX : 0;
}

bool tcache_sample(uint64_t mean) {
	lock_take(&caches.lock, RANK_THREADS);
	const bool done = mean == 0 || arena_for_samples();
	if (done) {
		atomic_store_explicit(&sample_mean, mean, memory_order_relaxed);
		for (struct tcache *tc = caches.first; tc != NULL; tc = tc->next) {
			cache_lock(tc);
			sample_lead_sizes(tc);
			sample_forget(&tc->sample);
			lock_drop(tc->lock, RANK_CACHE);
		}
	}
	lock_drop(&caches.lock, RANK_THREADS);
	return done;
}

uint64_t tcache_sample_count(size_t size) {
	struct tcache *tc = get_cache();
	return tc != NULL && sample_count(&tc->sample, size) ? tc->sample.mean : 0;
}

void tcache_sample_busy(bool busy) {
	struct tcache *tc = own_cache();
	if (tc != NULL) tc->sample.busy = busy;
}
