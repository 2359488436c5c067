/* cache/sample.h: what is sampled, how often, and the tables of sizes while the profile is on and after it. */
#include "unit.h"

#include <math.h>
#include <pthread.h>

static void probabilities(void **state) {
	(void)state;
	for (size_t size = 1; size < (size_t)1 << 40; size += size / 7 + 1)
		for (uint64_t mean = 1; mean <= SAMPLE_MEAN_MAX; mean = mean * 3 + 1) {
			const double p = sample_probability(size, mean), truth = -expm1(-(double)size / (double)mean);
			assert_true(fabs(p - truth) <= 1e-8 * truth);
		}
}

/* Each size alone, and one in the midst of others that change all the time. */
static void as_often_as_it_should(void **state) {
	(void)state;
	enum { MEAN = 1000, BLOCKS = 400000 };
	static const size_t sizes[] = { 1, 16, 100, 1000, 2500, 6000 };
	struct sample_turn turn = { .random = { 12345 } };
	size_t hits[6] = { 0 }, mixed = 0;
	atomic_store(&sample_mean, MEAN);
	for (size_t s = 0; s < 6; s++)
		for (int i = 0; i < BLOCKS; i++) hits[s] += sample_count(&turn, sizes[s]);
	for (int i = 0; i < BLOCKS; i++) {
		sample_count(&turn, (size_t)i % 3000);
		mixed += sample_count(&turn, 100);
	}
	atomic_store(&sample_mean, 0);
	assert_false(sample_count(&turn, SIZE_MAX / 2));
	for (size_t s = 0; s < 7; s++) {
		const double p = -expm1(-(double)(s < 6 ? sizes[s] : 100) / MEAN), got = (double)(s < 6 ? hits[s] : mixed);
		assert_true(fabs(got - BLOCKS * p) <= 5 * sqrt(BLOCKS * p * (1 - p)));
	}
}

/* The thread's own: others may be ending. */
static void assert_tables(bool lead) {
	for (size_t i = 0; i <= TABLE_MAX / MIN_ALIGN; i++)
		assert_int_equal(tcache_current->tag_of_size[i], lead && i > 0 ? TAG_OF_CLASS(class_of_size(i * MIN_ALIGN)) : 0);
	assert_true(!lead || tcache_current->sample.left == 0);
}

static pthread_barrier_t barrier;

/* A thread that has its cache before the profile is on; and one whose first call comes while it is. */
static void *live_through_it(void *late) {
	if (late == NULL) arenal_test_free(arenal_test_malloc(100));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	if (late != NULL) arenal_test_free(arenal_test_malloc(100));
	assert_tables(false);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	assert_tables(true);
	return NULL;
}

static void tables_are_rewritten_and_restored(void **state) {
	(void)state;
	pthread_t threads[2];
	static char late;
	pthread_barrier_init(&barrier, NULL, 3);
	arenal_test_free(arenal_test_malloc(100));
	assert_tables(true);
	pthread_create(&threads[0], NULL, live_through_it, NULL);
	pthread_create(&threads[1], NULL, live_through_it, &late);
	pthread_barrier_wait(&barrier);
	assert_true(tcache_sample(1 << 20));
	assert_tables(false);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	assert_true(tcache_sample(0));
	assert_tables(true);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
}

/* Free and usable_size find a sampled block without a tag. */
static void sampled_blocks_have_no_tag(void **state) {
	(void)state;
	assert_true(tcache_sample(1));
	char *sampled = arenal_test_malloc(1000);
	assert_true(tcache_sample(0));
	char *plain = arenal_test_malloc(1000);
	assert_int_equal(page_map_tag(sampled), 0);
	assert_int_equal(page_map_tag(plain), TAG_OF_CLASS(class_of_size(1000)));
	assert_true(span_of(sampled)->sampled && !span_of(plain)->sampled);
	assert_int_equal(arenal_test_malloc_usable_size(sampled), arenal_test_malloc_usable_size(plain));
	arenal_test_free(sampled);
	arenal_test_free(plain);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probabilities),
		cmocka_unit_test(as_often_as_it_should),
		cmocka_unit_test(tables_are_rewritten_and_restored),
		cmocka_unit_test(sampled_blocks_have_no_tag),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
