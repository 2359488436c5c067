// The command line of every workload.
#include "harness.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SEED = 1000, THREADS, OPERATIONS, SECONDS, LATENCY, HELP, OWN };
enum { COMMON = 6, MAX_OWN = 8 };

static void usage(FILE *stream)
{
    fprintf(stream,
            "usage: %s [OPTION...]\n\n%s\n\n"
            "  --seed N         of all random numbers; the same seed does the same work (1)\n"
            "  --threads N      (%u)\n"
            "  --operations N   how much work all threads do together (%llu)\n"
            "  --seconds S      work for so long instead\n"
            "  --latency        measure every call; the result then has percentiles\n",
            workload.name, workload.about, workload.threads, (unsigned long long)workload.operations);
    for (const struct workload_option *own = workload.options; own && own->name; own++) {
        int width = fprintf(stream, "  --%s N", own->name);
        fprintf(stream, "%*s %s (%g)\n", width < 18 ? 18 - width : 0, "", own->about, own->value);
    }
    fprintf(stream, "\nPrints one line of JSON. Run it with the allocator to be measured in LD_PRELOAD.\n");
}

static _Noreturn void refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void refuse(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "%s: ", workload.name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("; see --help\n", stderr);
    exit(2);
}

static double read_number(const char *name, const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= low && value <= high))
        refuse("--%s takes a number from %.10g to %.10g, not '%s'", name, low, high, text);
    return value;
}

static uint64_t read_count(const char *name, const char *text, uint64_t low, uint64_t high)
{
    char *end;

    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || value < low || value > high)
        refuse("--%s takes a whole number from %llu to %llu, not '%s'", name, (unsigned long long)low,
               (unsigned long long)high, text);
    return value;
}

static void table_build(struct option *table)
{
    static const struct option common[COMMON] = {
        {"seed", required_argument, NULL, SEED},
        {"threads", required_argument, NULL, THREADS},
        {"operations", required_argument, NULL, OPERATIONS},
        {"seconds", required_argument, NULL, SECONDS},
        {"latency", no_argument, NULL, LATENCY},
        {"help", no_argument, NULL, HELP},
    };
    const struct workload_option *own = workload.options;

    memcpy(table, common, sizeof common);
    for (int i = 0; own && own[i].name && i < MAX_OWN; i++)
        table[COMMON + i] = (struct option){own[i].name, required_argument, NULL, OWN + i};
}

bool options_read(struct run *run, int argc, char **argv)
{
    struct option table[COMMON + MAX_OWN + 1] = {0};
    unsigned least = workload.min_threads ? workload.min_threads : 1;
    unsigned most = workload.max_threads ? workload.max_threads : MAX_THREADS;
    bool latency = false;
    int which;

    table_build(table);
    run->threads = workload.threads;
    opterr = 0;
    while ((which = getopt_long(argc, argv, ":", table, NULL)) != -1) {
        switch (which) {
        case SEED: run->seed = read_count("seed", optarg, 0, UINT64_MAX); break;
        case THREADS: run->threads = (unsigned)read_count("threads", optarg, least, most); break;
        case OPERATIONS: run->operations = read_count("operations", optarg, 1, UINT64_MAX / 2); break;
        case SECONDS: run->seconds = read_number("seconds", optarg, 0.001, 1e6); break;
        case LATENCY: latency = true; break;
        case HELP:
            usage(stdout);
            exit(fflush(stdout) ? 1 : 0);
        case ':': refuse("%s needs a value", argv[optind - 1]);
        case '?': refuse("there is no option %s", argv[optind - 1]);
        default: {
            struct workload_option *own = &workload.options[which - OWN];
            own->value = read_number(own->name, optarg, own->low, own->high);
        }
        }
    }
    if (optind < argc)
        refuse("it takes options only, not '%s'", argv[optind]);
    if (run->operations && run->seconds > 0)
        refuse("give --operations or --seconds, not both");
    if (!run->operations && run->seconds == 0)
        run->operations = workload.operations;
    return latency;
}
