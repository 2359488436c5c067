"""gcc: the compiler proper allocates much and frees little; the object code must be the same to the byte."""

import os
import random
import unittest

from support import ProgramTest


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
    def test_same_object_code(self):
        def prepare(folder):
            self.write("big.c", source(), folder)
        # -g as well: debug information is built from other data structures than code. It names the folder.
        compile_in_shell = 'gcc -O2 -g -ffile-prefix-map="$PWD"=/somewhere -c big.c -o big.o'
        output, folders = self.compare(["sh", "-c", compile_in_shell],
                                       ["gcc", "-O3", "-flto", "-fno-fat-lto-objects", "-w", "big.c", "-o", "big"],
                                       ["./big"], prepare=prepare)
        self.assertRegex(output, r"^-?\d+\n$")
        objects = []
        for folder in folders:
            with open(os.path.join(folder, "big.o"), "rb") as file:
                objects.append(file.read())
        self.assertGreater(len(objects[0]), 20000)
        self.assertEqual(objects[0], objects[1])

    def test_loaded(self):
        path = self.write("small.c", "int main(void) { return 0; }\n")
        # The driver, the compiler, the assembler and the linker: each a process that prints its statistics.
        self.assert_runs_on_arenal("gcc", path, "-o", "small", tables=4)


if __name__ == "__main__":
    unittest.main()
