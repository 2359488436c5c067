/* A library without malloc: who preloads it runs on libc's. */
int nothing(void);
int nothing(void) { return 0; }
