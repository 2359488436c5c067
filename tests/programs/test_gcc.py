"""gcc: the compiler proper allocates much and frees little; the object code must be the same to the byte."""

import hashlib
import random

from support import ProgramTest, main


def source():
    """A C file of some thousand lines that gives the optimizers work."""
    rng = random.Random(3)
    lines = ["#include <stdio.h>", "#include <string.h>", "struct node { struct node *next; long key; char name[24]; };"]
    for number in range(150):
        a, b, c = (rng.randrange(1, 1000) for _ in range(3))
        lines += [f"static long f{number}(long x, struct node *list) {{",
                  f"    long total = {a};",
                  f"    for (long i = 0; i < x % {b}; i++) {{",
                  f"        switch ((i * {c}) % 7) {{",
                  "        case 0: total += i * i; break;",
                  "        case 1: if (list) { total ^= list->key; list = list->next; } break;",
                  f"        case 2: total = total * 31 + {a * b}; break;",
                  f"        case 3: total += {f'f{number - 1}(i % 5, list)' if number else 'i'}; break;",
                  f"        default: total -= (long)strlen(\"text {number} of many\"); }}",
                  "    }",
                  "    return total;", "}"]
    lines += ["int main(void) {", "    struct node n = { 0, 42, \"n\" };", "    long sum = 0;"]
    lines += [f"    sum += f{number}({number} + 3, &n);" for number in range(0, 150, 7)]
    lines += ['    printf("%ld\\n", sum);', "    return 0;", "}", ""]
    return "\n".join(lines)


class Gcc(ProgramTest):
    package = "gcc-[0-9]*[0-9]"
    needs = ("gcc",)

    def work(self, run):
        run.write("big.c", source())
        # -g as well: debug information is built from other data structures than code. It names the folder.
        compile_in_shell = 'gcc -O2 -g -ffile-prefix-map="$PWD"=/somewhere -c big.c -o big.o'
        output = run.commands(["sh", "-c", compile_in_shell],
                              ["gcc", "-O3", "-flto=2", "-fno-fat-lto-objects", "-w", "big.c", "-o", "big"], ["./big"])
        self.assertRegex(output, r"^-?\d+\n$")
        self.assertGreater(len(run.read("big.o")), 20000)
        # The driver, the compiler, the assembler and the linker: each a process that prints its statistics.
        run.write("small.c", "int main(void) { return 0; }\n")
        run.assert_loads("gcc", "small.c", "-o", "small", tables=4)
        return output + hashlib.sha256(run.read("big.o")).hexdigest()


if __name__ == "__main__":
    main()
