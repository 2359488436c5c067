// The size distributions have the shares that their comments promise, and the histogram keeps what was recorded.
#include "support.h"
#include "workload.h"

#include <math.h>

enum { DRAWS = 1000000 };

static double share_of(size_t (*draw)(uint64_t *), size_t low, size_t high)
{
    uint64_t random = 1;
    unsigned hits = 0;

    for (unsigned i = 0; i < DRAWS; i++) {
        size_t size = draw(&random);
        hits += size >= low && size <= high;
    }
    return (double)hits / DRAWS;
}

static void assert_share(size_t (*draw)(uint64_t *), size_t low, size_t high, double expected, double tolerance)
{
    double share = share_of(draw, low, high);

    if (fabs(share - expected) > tolerance)
        fail_msg("%zu to %zu: %.5f of the sizes, not %.5f", low, high, share, expected);
}

static void mixed_sizes_have_their_shares(void **state)
{
    (void)state;
    assert_share(size_mixed, 16, 255, 0.60, 0.003);
    assert_share(size_mixed, 256, 4095, 0.30, 0.003);
    assert_share(size_mixed, 4096, 32767, 0.09, 0.002);
    assert_share(size_mixed, 32768, 262144, 0.01, 0.0005);
    assert_share(size_mixed, 0, 15, 0, 0);
    assert_share(size_mixed, 16, 63, 0.30, 0.003); // each doubling of 16 to 256 has as many
}

static void pareto_sizes_have_their_shares(void **state)
{
    (void)state;
    assert_share(size_pareto, 16, 65536, 1, 0);
    assert_share(size_pareto, 32, 65536, pow(2, -1.2), 0.003);
    assert_share(size_pareto, 160, 65536, pow(10, -1.2), 0.002);
    assert_share(size_pareto, 65536, 65536, pow(4096, -1.2), 3e-5);
}

static size_t one_to_three(uint64_t *random)
{
    return size_between(random, 1, 3);
}

static size_t always_seven(uint64_t *random)
{
    return size_between(random, 7, 7);
}

static size_t powers(uint64_t *random)
{
    return size_between(random, 64, 65535);
}

static void sizes_between_include_both_ends(void **state)
{
    (void)state;
    assert_share(one_to_three, 1, 1, 0.5, 0.003);
    assert_share(one_to_three, 2, 2, log2(1.5) / 2, 0.003);
    assert_share(one_to_three, 3, 3, log2(4.0 / 3) / 2, 0.003);
    assert_share(always_seven, 7, 7, 1, 0);
    assert_share(powers, 64, 65535, 1, 0);
    assert_share(powers, 64, 127, 0.1, 0.002);
    assert_share(powers, 32768, 65535, 0.1, 0.002);
}

static void the_same_seed_gives_the_same_sizes(void **state)
{
    uint64_t one = 5, same = 5, other = 6;
    unsigned equal = 0, equal_other = 0;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        size_t size = size_mixed(&one);
        equal += size == size_mixed(&same);
        equal_other += size == size_mixed(&other);
    }
    assert_int_equal(equal, 1000);
    assert_in_range(equal_other, 0, 100);
}

static void the_histogram_is_exact_at_the_top_and_close_below(void **state)
{
    static struct histogram low, high, sum;

    (void)state;
    for (uint64_t value = 1; value <= 10000; value++)
        histogram_record(value <= 5000 ? &low : &high, value);
    histogram_record(&high, 1234567);
    histogram_add(&sum, &high);
    histogram_add(&sum, &low);
    assert_int_equal(sum.total, 10001);
    assert_int_equal(sum.max, 1234567);
    assert_int_equal(histogram_percentile(&sum, 1), 1234567);
    assert_int_equal(histogram_percentile(&low, 1), 5000);
    assert_in_range(histogram_percentile(&sum, 0.5), 5001, 5001 + 5001 / 64);
    assert_in_range(histogram_percentile(&sum, 0.99), 9901, 9901 + 9901 / 64);
    assert_int_equal(histogram_percentile(&sum, 0.001), 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixed_sizes_have_their_shares),
        cmocka_unit_test(pareto_sizes_have_their_shares),
        cmocka_unit_test(sizes_between_include_both_ends),
        cmocka_unit_test(the_same_seed_gives_the_same_sizes),
        cmocka_unit_test(the_histogram_is_exact_at_the_top_and_close_below),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
