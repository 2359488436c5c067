// What is resident, as the kernel tells it. Nothing here uses stdio: it would take its buffers from the heap.
#include "harness.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// The kilobytes after `key` in a file of /proc, in bytes; 0 when there is no such file or key.
static uint64_t proc_bytes(const char *path, const char *key)
{
    char text[4096];
    size_t size = 0;
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    while (size < sizeof text - 1 && (got = read(fd, text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)got;
    close(fd);
    text[size] = 0;
    const char *found = strstr(text, key);
    return found ? strtoull(found + strlen(key), NULL, 10) * 1024 : 0;
}

uint64_t resident_bytes(void)
{
    // VmRSS is a sum of counters that threads and processors bring up to date only now and then.
    uint64_t exact = proc_bytes("/proc/self/smaps_rollup", "\nRss:");

    return exact ? exact : proc_bytes("/proc/self/status", "\nVmRSS:");
}

uint64_t private_dirty_bytes(void)
{
    uint64_t bytes = proc_bytes("/proc/self/smaps_rollup", "\nPrivate_Dirty:");

    if (!bytes)
        workload_fail("/proc/self/smaps_rollup does not tell the private memory (Linux 4.14 or later is needed)");
    return bytes;
}

uint64_t huge_page_bytes(void)
{
    return proc_bytes("/proc/self/smaps_rollup", "\nAnonHugePages:");
}

uint64_t peak_resident_bytes(void)
{
    // Not getrusage: its maximum includes what this process was before it became this program.
    uint64_t peak = proc_bytes("/proc/self/status", "\nVmHWM:");

    if (!peak)
        workload_fail("/proc/self/status does not tell the peak of the resident memory");
    return peak;
}

static void sleep_until(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) != 0)
        ;
}

void workload_rest(struct run *run, double seconds, uint64_t live_bytes)
{
    uint64_t from = clock_ns();

    if (seconds > 1) {
        sleep_until(from + 1000000000);
        run->rest_rss_1s_bytes = resident_bytes();
    }
    sleep_until(from + (uint64_t)(seconds * 1e9));
    run->rest_rss_bytes = resident_bytes();
    run->live_bytes = live_bytes;
}
