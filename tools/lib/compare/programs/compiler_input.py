"""The C and C++ files that gcc compiles: generated, so that their size can be chosen, and the same each time.

Both print a number when they are run. It follows from the program alone, so that wrong code would be noticed.
"""

import random

C_HEAD = """#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct item { struct item *next; uint32_t key; char name[28]; };
"""

C_FUNCTION = """
static uint32_t work{n}(uint32_t x, struct item *list)
{{
    uint32_t total = {a}u, table[{size}];

    for (uint32_t i = 0; i < {size}; i++)
        table[i] = x * {b}u + i;
    for (uint32_t i = 0; i < x % {c} + 3; i++) {{
        switch ((i * {a}u + x) % 6) {{
        case 0: total += table[i % {size}] * i; break;
        case 1: for (struct item *item = list; item; item = item->next) total ^= item->key + i; break;
        case 2: total = (total << {shift}) | (total >> (32 - {shift})); break;
        case 3: total += {call}; break;
        case 4: total += (uint32_t)strlen("text {n} of many") + (list ? (uint32_t)list->name[i % 4] : {d}u); break;
        default: total -= table[(total + i) % {size}] / (i + {d}u);
        }}
    }}
    return total;
}}
"""

C_MAIN = """
int main(void)
{{
    struct item second = {{ NULL, 7, "second" }}, first = {{ &second, 42, "first" }};
    uint32_t sum = 0;
{calls}
    printf("%u\\n", (unsigned)sum);
    return 0;
}}
"""


def c_source(functions):
    chosen = random.Random(1)
    parts = [C_HEAD]
    for n in range(functions):
        call = f"work{n - 1 - chosen.randrange(min(n, 20))}(i % 3, list)" if n % 4 else "i * 3"
        parts.append(C_FUNCTION.format(n=n, a=chosen.randrange(1, 1000), b=chosen.randrange(1, 1000),
                                       c=chosen.randrange(2, 30), d=chosen.randrange(1, 50), call=call,
                                       size=chosen.choice((4, 8, 12)), shift=chosen.randrange(1, 31)))
    calls = "\n".join(f"    sum = sum * 31 + work{n}({n}u, &first);" for n in range(functions))
    return "".join(parts) + C_MAIN.format(calls=calls)


CXX_HEAD = """#include <algorithm>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

template <typename T, int N> struct Shape {
    virtual ~Shape() = default;
    virtual T area(T x) const { return x * N + static_cast<T>(names.size()); }
    std::vector<std::string> names;
    std::map<std::string, T> sizes;
};
"""

CXX_CLASS = """
struct Shape{n} : Shape<{type}, {a}> {{
    explicit Shape{n}(const std::string &name) {{ names.push_back(name + "{n}"); sizes[name] = {b}; }}
    {type} area({type} x) const override
    {{
        std::vector<{type}> parts;
        for (int i = 0; i < {c}; i++)
            parts.push_back(static_cast<{type}>(x * {b} + i));
        std::sort(parts.begin(), parts.end(), []({type} l, {type} r) {{ return l % {a} < r % {a}; }});
        {type} total = Shape<{type}, {a}>::area(x);
        for (const auto &[name, size] : sizes)
            total = static_cast<{type}>(total + size * parts[name.size() % parts.size()]);
        return total;
    }}
}};
"""


def cxx_source(classes):
    chosen = random.Random(2)
    parts = [CXX_HEAD]
    for n in range(classes):
        parts.append(CXX_CLASS.format(n=n, type=chosen.choice(("uint32_t", "uint64_t")), a=chosen.randrange(3, 1000),
                                      b=chosen.randrange(1, 100), c=chosen.randrange(3, 20)))
    calls = "\n".join(f'    sum = sum * 31 + static_cast<uint32_t>(std::make_unique<Shape{n}>("name")->area({n}));'
                      for n in range(classes))
    return "".join(parts) + ("\nint main()\n{\n    uint32_t sum = 0;\n" + calls +
                             "\n    std::cout << sum << \"\\n\";\n    return 0;\n}\n")
