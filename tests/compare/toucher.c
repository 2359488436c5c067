// Allocates so many MiB, touches them, keeps them for so many milliseconds.
#include <stdlib.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv) {
    size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 1) << 20;
    long milliseconds = argc > 2 ? atol(argv[2]) : 0;
    char *block = malloc(size);
    if (!block)
        return 1;
    memset(block, 1, size);
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
    int wrong = block[size / 2] != 1;
    free(block);
    return wrong;
}
