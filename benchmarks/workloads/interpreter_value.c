#include "interpreter_parts.h"

#include <string.h>

enum { FIRST_ITEMS = 4, FIRST_SLOTS = 8, FIRST_TEXT = 64 };

static void value_start(struct value *value, enum kind kind)
{
    *value = (struct value){.references = 1, .kind = kind};
}

struct value *number_new(struct worker *worker, int64_t number)
{
    struct number *made = worker_malloc(worker, sizeof *made);

    value_start(&made->head, KIND_NUMBER);
    made->number = number;
    return &made->head;
}

static struct string *string_make(struct worker *worker, const char *left, size_t left_length, const char *right,
                                  size_t right_length)
{
    struct string *string = worker_malloc(worker, sizeof *string + left_length + right_length);

    value_start(&string->head, KIND_STRING);
    string->length = left_length + right_length;
    memcpy(string->text, left, left_length);
    memcpy(string->text + left_length, right, right_length);
    string->hash = 0;
    return string;
}

struct string *string_new(struct worker *worker, const char *text, size_t length)
{
    return string_make(worker, text, length, "", 0);
}

struct string *string_join(struct worker *worker, const struct string *left, const struct string *right)
{
    return string_make(worker, left->text, left->length, right->text, right->length);
}

struct list *list_new(struct worker *worker)
{
    struct list *list = worker_malloc(worker, sizeof *list);

    *list = (struct list){0};
    value_start(&list->head, KIND_LIST);
    return list;
}

void list_append(struct worker *worker, struct list *list, struct value *value)
{
    if (list->count == list->capacity) { // by an eighth and some, as CPython's
        list->capacity += list->capacity / 8 + FIRST_ITEMS;
        list->items = worker_realloc(worker, list->items, list->capacity * sizeof *list->items);
    }
    list->items[list->count++] = value;
}

struct dict *dict_new(struct worker *worker)
{
    struct dict *dict = worker_malloc(worker, sizeof *dict);

    *dict = (struct dict){0};
    value_start(&dict->head, KIND_DICT);
    return dict;
}

static uint64_t string_hash(struct string *string)
{
    if (string->hash == 0) {
        string->hash = 0xcbf29ce484222325; // FNV-1a
        for (size_t i = 0; i < string->length; i++)
            string->hash = (string->hash ^ (unsigned char)string->text[i]) * 0x100000001b3;
    }
    return string->hash;
}

static bool string_equal(const struct string *left, const struct string *right)
{
    return left == right || (left->hash == right->hash && left->length == right->length &&
                             memcmp(left->text, right->text, left->length) == 0);
}

// The slot of a key, or the free one where it belongs.
static uint32_t *slot_find(const struct dict *dict, struct string *key)
{
    size_t at = string_hash(key) & (dict->slot_count - 1);

    while (dict->slots[at] && !string_equal(dict->entries[dict->slots[at] - 1].key, key))
        at = (at + 1) & (dict->slot_count - 1);
    return &dict->slots[at];
}

// Entries fill two thirds of the slots at most.
static size_t dict_room(size_t slots)
{
    return slots * 2 / 3;
}

static void dict_grow(struct worker *worker, struct dict *dict)
{
    struct dict_entry *entries = dict->entries;

    if (dict->slots)
        worker_free(worker, dict->slots);
    dict->slot_count = dict->slot_count ? dict->slot_count * 2 : FIRST_SLOTS;
    dict->slots = worker_malloc(worker, dict->slot_count * sizeof *dict->slots);
    memset(dict->slots, 0, dict->slot_count * sizeof *dict->slots);
    dict->entries = worker_malloc(worker, dict_room(dict->slot_count) * sizeof *entries);
    for (size_t i = 0; i < dict->count; i++) {
        dict->entries[i] = entries[i];
        *slot_find(dict, entries[i].key) = (uint32_t)i + 1;
    }
    if (entries)
        worker_free(worker, entries);
}

void dict_set(struct worker *worker, struct dict *dict, struct string *key, struct value *value)
{
    if (dict->count == dict_room(dict->slot_count))
        dict_grow(worker, dict);
    uint32_t *slot = slot_find(dict, key);
    if (*slot) {
        struct dict_entry *entry = &dict->entries[*slot - 1];
        value_drop(worker, &key->head);
        value_drop(worker, entry->value);
        entry->value = value;
    } else {
        dict->entries[dict->count++] = (struct dict_entry){key, value};
        *slot = (uint32_t)dict->count;
    }
}

struct value *dict_get(const struct dict *dict, struct string *key)
{
    uint32_t slot = dict->slots ? *slot_find(dict, key) : 0;

    return slot ? dict->entries[slot - 1].value : NULL;
}

void value_drop(struct worker *worker, struct value *value)
{
    if (value->references == 0)
        workload_fail("an object of kind %d is dropped once too often, or was overwritten", (int)value->kind);
    if (--value->references > 0)
        return;
    if (value->kind == KIND_LIST) {
        struct list *list = (struct list *)value;
        for (size_t i = 0; i < list->count; i++)
            value_drop(worker, list->items[i]);
        if (list->items)
            worker_free(worker, list->items);
    } else if (value->kind == KIND_DICT) {
        struct dict *dict = (struct dict *)value;
        for (size_t i = 0; i < dict->count; i++) {
            value_drop(worker, &dict->entries[i].key->head);
            value_drop(worker, dict->entries[i].value);
        }
        if (dict->slots) {
            worker_free(worker, dict->slots);
            worker_free(worker, dict->entries);
        }
    }
    worker_free(worker, value);
}

void text_append(struct worker *worker, struct text *text, const char *bytes, size_t length)
{
    if (text->capacity - text->length < length) {
        size_t capacity = text->capacity ? text->capacity : FIRST_TEXT;
        while (capacity - text->length < length)
            capacity += capacity / 2;
        text->bytes = worker_realloc(worker, text->bytes, capacity);
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
}

void text_free(struct worker *worker, struct text *text)
{
    if (text->bytes)
        worker_free(worker, text->bytes);
    *text = (struct text){0};
}
