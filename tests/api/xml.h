/* Checks that a text is well-formed XML, as far as malloc_info needs it: one root, tags that nest, attributes with
 * quotes, no stray markup. No comments, declarations or CDATA: they count as mistakes. */
#ifndef XML_H
#define XML_H

#include <stdbool.h>
#include <stddef.h>

/* On failure a description is in `problem`. */
bool xml_is_well_formed(const char *text, char *problem, size_t capacity);

#endif
