// While one thread walks the loader's list, another one allocates, and its stack is wanted: that takes no lock of the loader's,
// or both would wait for ever.
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static void *allocate(void *unused)
{
    for (int i = 0; i < 3000; i++) {
        char *volatile block = malloc(4000);
        free(block);
    }
    return unused;
}

static int allocate_beside(struct dl_phdr_info *info, size_t size, void *done)
{
    pthread_t thread;

    (void)info, (void)size;
    if (pthread_create(&thread, NULL, allocate, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return -1;
    ++*(int *)done;
    return 1;
}

int main(void)
{
    int done = 0;

    if (!dlsym(RTLD_DEFAULT, "_dl_find_object")) {
        puts("skipped: glibc before 2.35 knows where code lies by the list only");
        return 0;
    }
    return dl_iterate_phdr(allocate_beside, &done) != 1 || done != 1;
}
