// What an interpreter does to the heap: small objects that are counted, not collected. Each operation is one
// document: a JSON text is built piece by piece, cut into tokens, parsed to a tree of numbers, strings, lists and
// dictionaries with interned keys, printed (and compared with the text it came from), transformed to a new tree that
// shares parts of the old one, indexed, and printed again. The results replace older ones among the global variables;
// the old trees fall apart in an order that has nothing to do with how they were built. Every thread runs an
// interpreter of its own.
//
// Follows: Zorn and Grunwald, "Empirical measurements of six allocation-intensive C programs" (SIGPLAN Notices,
// 1992), and Berger, Zorn and McKinley, "Reconsidering custom memory allocation" (OOPSLA 2002), whose programs are
// mostly interpreters and parsers; Leijen, Zorn and de Moura, "Mimalloc: free list sharding in action" (APLAS 2019),
// on the runtime systems of languages that count references.
//
// Sensitive to: the shortest way through malloc and free of 16 to 64 bytes; objects of one age lying together;
// realloc of growing texts and lists; deep recursive frees.
#include "interpreter_parts.h"

#include <string.h>

enum { GLOBALS = 48 };

struct interpreter {
    struct worker *worker;
    struct dict *names; // interned strings
    struct value *globals[GLOBALS];
};

static struct interpreter *interpreters;

static void token_drop(struct worker *worker, struct token **tokens)
{
    struct token *token = *tokens;

    *tokens = token->next;
    worker_free(worker, token);
}

static bool token_skip(struct worker *worker, struct token **tokens, char kind)
{
    if (!*tokens)
        workload_fail("a text ends too early: it was overwritten");
    if ((*tokens)->kind != kind)
        return false;
    token_drop(worker, tokens);
    return true;
}

// The one object for all strings of this text.
static struct string *intern(struct interpreter *interpreter, const char *text, size_t length)
{
    struct string *string = string_new(interpreter->worker, text, length);
    struct value *known = dict_get(interpreter->names, string);

    if (known) {
        value_drop(interpreter->worker, &string->head);
        return (struct string *)value_keep(known);
    }
    value_keep(&string->head);
    dict_set(interpreter->worker, interpreter->names, string, value_keep(&string->head));
    return string;
}

static struct value *parse(struct interpreter *interpreter, struct token **tokens)
{
    struct worker *worker = interpreter->worker;
    struct value *value = NULL;

    if (token_skip(worker, tokens, '[')) {
        struct list *list = list_new(worker);
        while (!token_skip(worker, tokens, ']')) {
            list_append(worker, list, parse(interpreter, tokens));
            token_skip(worker, tokens, ',');
        }
        return &list->head;
    }
    if (token_skip(worker, tokens, '{')) {
        struct dict *dict = dict_new(worker);
        while (!token_skip(worker, tokens, '}')) {
            struct string *key = intern(interpreter, (*tokens)->text, (*tokens)->length);
            token_drop(worker, tokens);
            token_skip(worker, tokens, ':');
            dict_set(worker, dict, key, parse(interpreter, tokens));
            token_skip(worker, tokens, ',');
        }
        return &dict->head;
    }
    if ((*tokens)->kind == '0')
        value = number_new(worker, strtoll((*tokens)->text, NULL, 10));
    else if ((*tokens)->kind == '"')
        value = &string_new(worker, (*tokens)->text, (*tokens)->length)->head;
    else
        workload_fail("a text has '%c' where a value should be: it was overwritten", (*tokens)->kind);
    token_drop(worker, tokens);
    return value;
}

// `total = total + number` makes a new object each time, and so does `text = text + piece`.
static struct value *transform(struct worker *worker, struct value *value, struct value **total)
{
    if (value->kind == KIND_NUMBER) {
        struct value *sum = number_new(worker, ((struct number *)*total)->number + ((struct number *)value)->number);
        value_drop(worker, *total);
        *total = sum;
        return value_keep(sum);
    }
    if (value->kind == KIND_STRING) {
        struct string *string = (struct string *)value_keep(value);
        for (uint64_t pieces = choose(worker, 4); pieces > 0; pieces--) {
            struct string *joined = string_join(worker, string, (struct string *)value);
            value_drop(worker, &string->head);
            string = joined;
        }
        return &string->head;
    }
    if (value->kind == KIND_LIST) {
        struct list *from = (struct list *)value, *list = list_new(worker);
        for (size_t i = from->count; i > 0; i--)
            list_append(worker, list, transform(worker, from->items[i - 1], total));
        return &list->head;
    }
    struct dict *from = (struct dict *)value, *dict = dict_new(worker);
    for (size_t i = 0; i < from->count; i++) {
        struct string *key = (struct string *)value_keep(&from->entries[i].key->head);
        dict_set(worker, dict, key, transform(worker, from->entries[i].value, total));
    }
    return &dict->head;
}

// The records by the names of their fields.
static struct value *index_records(struct worker *worker, const struct list *records)
{
    struct dict *index = dict_new(worker);

    for (size_t i = 0; i < records->count; i++) {
        struct dict *record = (struct dict *)records->items[i];
        for (size_t k = 0; k < record->count; k++) {
            struct string *key = record->entries[k].key;
            struct list *list = (struct list *)dict_get(index, key);
            if (!list) {
                list = list_new(worker);
                dict_set(worker, index, (struct string *)value_keep(&key->head), &list->head);
            }
            list_append(worker, list, value_keep(&record->head));
        }
    }
    return &index->head;
}

static void global_set(struct interpreter *interpreter, struct value *value)
{
    struct value **place = &interpreter->globals[choose(interpreter->worker, GLOBALS)];

    if (*place)
        value_drop(interpreter->worker, *place);
    *place = value;
}

static void document(struct interpreter *interpreter)
{
    struct worker *worker = interpreter->worker;
    struct text text = json_generate(worker), printed = {0};
    struct token *tokens = json_tokens(worker, &text);
    struct value *tree = parse(interpreter, &tokens), *total = number_new(worker, 0);

    json_print(worker, &printed, tree);
    if (tokens || printed.length != text.length || memcmp(printed.bytes, text.bytes, text.length) != 0)
        workload_fail("a text of %zu bytes is not the same after it was parsed and printed", text.length);
    text_free(worker, &text);
    struct value *transformed = transform(worker, tree, &total);
    global_set(interpreter, index_records(worker, (struct list *)(choose(worker, 2) ? tree : transformed)));
    text_free(worker, &printed);
    json_print(worker, &printed, transformed);
    global_set(interpreter, &string_new(worker, printed.bytes, printed.length)->head);
    value_drop(worker, tree);
    text_free(worker, &printed);
    global_set(interpreter, transformed);
    value_drop(worker, total);
}

static void interpret(struct worker *worker)
{
    struct interpreter *interpreter = &interpreters[worker->index];

    interpreter->worker = worker;
    interpreter->names = dict_new(worker);
    for (; worker_continues(worker); worker->operations++) {
        document(interpreter);
        worker->next_look = 0; // a document takes long enough to look at the clock after each
    }
}

static void rest(struct run *run)
{
    workload_rest(run, 0.5, 0); // values are shared: what they would be one by one is not what is live
}

static void run_interpreter(struct run *run)
{
    interpreters = table_allocate(run->threads * sizeof *interpreters);
    run_workers_and_rest(run, interpret, rest);
    for (unsigned i = 0; i < run->threads; i++) {
        for (unsigned k = 0; k < GLOBALS; k++)
            if (interpreters[i].globals[k])
                value_drop(&run->workers[i], interpreters[i].globals[k]);
        value_drop(&run->workers[i], &interpreters[i].names->head);
    }
}

const struct workload workload = {
    .name = "interpreter",
    .about = "Documents are built, parsed, transformed and printed by an interpreter that counts references",
    .threads = 1,
    .operations = 1000,
    .run = run_interpreter,
};
