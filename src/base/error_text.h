/* What the errors of files are called, in English: libc's own words may be translated, for which it
 * allocates. */
#ifndef BASE_ERROR_TEXT_H
#define BASE_ERROR_TEXT_H

/* In glibc's words; "another error" for what does not happen to files. */
const char *error_text(int error);

#endif
