// Linked with Arenal, and opened in a namespace of its own by namespace.c: Arenal takes the libc that is there with it. Of
// another one it would have the number of a key that is somebody else's there.
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool foreign;

static void is_own(void *value)
{
    foreign |= strcmp(value, "own") != 0;
}

static void *allocate(void *key)
{
    free(malloc(5000));
    foreign |= pthread_getspecific(*(pthread_key_t *)key) != NULL;
    pthread_setspecific(*(pthread_key_t *)key, "own");
    for (int i = 0; i < 1000; i++)
        free(malloc(100 + (size_t)i));
    return NULL;
}

// 0: the values and destructors of the plugin's key are its own.
int go(void);
int go(void)
{
    pthread_key_t key;
    pthread_t thread;

    if (pthread_key_create(&key, is_own) != 0)
        return 2;
    allocate(&key);
    foreign |= strcmp(pthread_getspecific(key), "own") != 0;
    for (int i = 0; i < 5; i++) {
        if (pthread_create(&thread, NULL, allocate, &key) != 0 || pthread_join(thread, NULL) != 0)
            return 3;
    }
    return foreign;
}
