// JSON for the interpreter: texts are generated, cut into tokens, and printed from values.
#include "interpreter_parts.h"

#include <string.h>

enum { NAMES = 512, MOST_DEPTH = 4, MANY_KEYS = 120 };

static void append_string(struct worker *worker, struct text *text, const char *bytes, size_t length)
{
    text_append(worker, text, "\"", 1);
    for (size_t i = 0, plain; i < length; i += plain) {
        for (plain = 0; i + plain < length && bytes[i + plain] != '"' && bytes[i + plain] != '\\'; plain++)
            ;
        text_append(worker, text, bytes + i, plain);
        if (i + plain < length) {
            text_append(worker, text, "\\", 1);
            text_append(worker, text, bytes + i + plain++, 1);
        }
    }
    text_append(worker, text, "\"", 1);
}

static void append_number(struct worker *worker, struct text *text, int64_t number)
{
    char digits[24], *from = digits + sizeof digits;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

    do
        *--from = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (number < 0)
        *--from = '-';
    text_append(worker, text, from, (size_t)(digits + sizeof digits - from));
}

static void generate_value(struct worker *worker, struct text *text, unsigned depth);

static void generate_dict(struct worker *worker, struct text *text, unsigned depth, uint64_t keys)
{
    uint64_t name = choose(worker, NAMES);

    text_append(worker, text, "{", 1);
    for (uint64_t i = 0; i < keys; i++) {
        text_append(worker, text, i ? ",\"field_" : "\"field_", i ? 8 : 7);
        append_number(worker, text, (int64_t)((name + i) % NAMES));
        text_append(worker, text, "\":", 2);
        generate_value(worker, text, depth);
    }
    text_append(worker, text, "}", 1);
}

static void generate_value(struct worker *worker, struct text *text, unsigned depth)
{
    static const char words[] = "the quick \"brown\" fox jumps over a lazy \\dog and sits down, pleased";
    uint64_t choice = choose(worker, depth < MOST_DEPTH ? 10 : 7);

    if (choice < 3) {
        append_number(worker, text, (int64_t)choose(worker, 2000000) - 1000000);
    } else if (choice < 7) {
        size_t length = size_between(&worker->random, 1, sizeof words - 1);
        append_string(worker, text, words + choose(worker, sizeof words - length), length);
    } else if (choice < 9) {
        text_append(worker, text, "[", 1);
        for (uint64_t i = 0, count = choose(worker, 9); i < count; i++) {
            if (i)
                text_append(worker, text, ",", 1);
            generate_value(worker, text, depth + 1);
        }
        text_append(worker, text, "]", 1);
    } else {
        generate_dict(worker, text, depth + 1, choose(worker, 8));
    }
}

// A list of records, now and then one with many fields.
struct text json_generate(struct worker *worker)
{
    struct text text = {0};

    text_append(worker, &text, "[", 1);
    for (uint64_t i = 0, count = 5 + choose(worker, 15); i < count; i++) {
        if (i)
            text_append(worker, &text, ",", 1);
        generate_dict(worker, &text, 1, choose(worker, 20) ? 2 + choose(worker, 10) : MANY_KEYS);
    }
    text_append(worker, &text, "]", 1);
    return text;
}

// One token from the front of the text; returns what is left of it.
static const char *token_read(struct worker *worker, const char *from, const char *end, struct token **made)
{
    const char *to = from + 1;
    char kind = *from;

    if (kind == '"') {
        while (to < end && *to != '"')
            to += *to == '\\' ? 2 : 1;
        from++;
    } else if (kind == '-' || (kind >= '0' && kind <= '9')) {
        while (to < end && *to >= '0' && *to <= '9')
            to++;
        kind = '0';
    }
    struct token *token = worker_malloc(worker, sizeof *token + (size_t)(to - from) + 1);
    *token = (struct token){.kind = kind};
    for (const char *at = from; at < to; at++) {
        at += kind == '"' && *at == '\\'; // what follows counts as it is
        token->text[token->length++] = *at;
    }
    token->text[token->length] = 0;
    *made = token;
    return to + (kind == '"');
}

struct token *json_tokens(struct worker *worker, const struct text *text)
{
    struct token *first = NULL, **link = &first;
    const char *end = text->bytes + text->length;

    for (const char *at = text->bytes; at < end; link = &(*link)->next)
        at = token_read(worker, at, end, link);
    return first;
}

void json_print(struct worker *worker, struct text *text, const struct value *value)
{
    if (value->kind == KIND_NUMBER) {
        append_number(worker, text, ((const struct number *)value)->number);
    } else if (value->kind == KIND_STRING) {
        const struct string *string = (const struct string *)value;
        append_string(worker, text, string->text, string->length);
    } else if (value->kind == KIND_LIST) {
        const struct list *list = (const struct list *)value;
        text_append(worker, text, "[", 1);
        for (size_t i = 0; i < list->count; i++) {
            if (i)
                text_append(worker, text, ",", 1);
            json_print(worker, text, list->items[i]);
        }
        text_append(worker, text, "]", 1);
    } else {
        const struct dict *dict = (const struct dict *)value;
        text_append(worker, text, "{", 1);
        for (size_t i = 0; i < dict->count; i++) {
            if (i)
                text_append(worker, text, ",", 1);
            json_print(worker, text, &dict->entries[i].key->head);
            text_append(worker, text, ":", 1);
            json_print(worker, text, dict->entries[i].value);
        }
        text_append(worker, text, "}", 1);
    }
}
