// The values of the small interpreter in interpreter.c, as CPython and its like keep them: each an object of its own
// with a count of references, strings and numbers immutable, lists and dictionaries with arrays that are replaced as
// they grow.
#ifndef WORKLOAD_INTERPRETER_PARTS_H
#define WORKLOAD_INTERPRETER_PARTS_H

#include "workload.h"

enum kind { KIND_NUMBER, KIND_STRING, KIND_LIST, KIND_DICT };

struct value {
    uint32_t references;
    enum kind kind;
};

struct number {
    struct value head;
    int64_t number;
};

struct string {
    struct value head;
    uint64_t hash; // 0 before it is needed
    size_t length;
    char text[];
};

struct list {
    struct value head;
    struct value **items;
    size_t count, capacity;
};

struct dict_entry {
    struct string *key;
    struct value *value;
};

// Entries in the order of their insertion; slots, a power of two of them, hold the number of an entry plus one, or 0.
struct dict {
    struct value head;
    struct dict_entry *entries;
    uint32_t *slots;
    size_t count, slot_count;
};

// A text that grows, like a string builder's.
struct text {
    char *bytes;
    size_t length, capacity;
};

struct value *number_new(struct worker *worker, int64_t number);
struct string *string_new(struct worker *worker, const char *text, size_t length);
struct string *string_join(struct worker *worker, const struct string *left, const struct string *right);
struct list *list_new(struct worker *worker);
struct dict *dict_new(struct worker *worker);

// These take over the references that they are given.
void list_append(struct worker *worker, struct list *list, struct value *value);
void dict_set(struct worker *worker, struct dict *dict, struct string *key, struct value *value);

struct value *dict_get(const struct dict *dict, struct string *key); // borrowed; NULL without such a key

static inline struct value *value_keep(struct value *value)
{
    value->references++;
    return value;
}

static inline uint64_t choose(struct worker *worker, uint64_t count) // from 0 up to, but not including, count
{
    return random_next(&worker->random) % count;
}

void value_drop(struct worker *worker, struct value *value); // frees with the last reference

void text_append(struct worker *worker, struct text *text, const char *bytes, size_t length);
void text_free(struct worker *worker, struct text *text);

struct token {
    struct token *next;
    size_t length;
    char kind; // '"' for strings, '0' for numbers, else the character itself
    char text[];
};

// interpreter_json.c
struct text json_generate(struct worker *worker);
struct token *json_tokens(struct worker *worker, const struct text *text);
void json_print(struct worker *worker, struct text *text, const struct value *value);

#endif
