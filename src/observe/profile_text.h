/* Text of a heap profile on its way to a file or a pipe, collected on the stack of who writes it. */
#ifndef OBSERVE_PROFILE_TEXT_H
#define OBSERVE_PROFILE_TEXT_H

#include "base/base.h"

struct profile_text {
	int fd, error;        /* 0, or the errno of what failed first: nothing is written any more then */
	size_t room;          /* in the file */
	bool (*wait)(int fd); /* for a pipe to be read; NULL: nobody waits */
	size_t length;
	char text[2048];
};

/* A piece is shorter than 128 characters. */
void profile_text_put(struct profile_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void profile_text_flush(struct profile_text *t);

/* The text of /proc/self/maps. False: there is none. */
bool profile_text_put_maps(struct profile_text *t);

/* Blocks as they are told, whole ones, of a number that the profile counts with. */
uint64_t profile_text_blocks(uint64_t blocks);

#endif
