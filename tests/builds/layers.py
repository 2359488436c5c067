"""No file of src/ includes one of a layer above its own. The layers are the folders of src/, in the order of the
first table of src/README.md: what stands higher there lies above.

    layers.py COMPILER [OPTION...]      the compiler and the options that the library is built with
"""

import os
import re
import subprocess
import sys

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src")
SUFFIXES = (".c", ".h")


def layers():
    """The folders, the lowest first."""
    with open("README.md", encoding="utf-8") as page:
        table = re.search(r"^\|.*?\n\n", page.read(), re.M | re.S)
    return re.findall(r"^\| `(\w+)/`", table.group(), re.M)[::-1]


def dependencies(compiler, files):
    """What each of the files includes, by itself or through others, as the compiler sees it."""
    done = subprocess.run([*compiler, "-MM", "-I.", "-I../include", *files], stdout=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit("the compiler cannot tell what the files include")
    for rule in done.stdout.replace("\\\n", "").splitlines():
        file, *included = rule.split(":", 1)[1].split()
        yield file, [os.path.relpath(path, ".") for path in included if not path.startswith("../")]


def names(file, other):
    """Does the file have a line that includes the other one?"""
    with open(file, encoding="utf-8") as text:
        return re.search(rf'^\s*#\s*include\s*"{re.escape(other)}"', text.read(), re.M) is not None


def main():
    os.chdir(SOURCE)
    order = layers()
    files = sorted(os.path.join(folder, name) for folder in os.listdir(".") if os.path.isdir(folder)
                   for name in os.listdir(folder) if name.endswith(SUFFIXES))
    folders = {file.split("/")[0] for file in files}
    if set(order) != folders:
        return f"src/README.md's table has {sorted(order)}, src/ has {sorted(folders)}"

    def level(file):
        return order.index(file.split("/")[0])

    seen = set()
    wrong = set()
    for file, included in dependencies(sys.argv[1:], files):
        seen.add(file)
        above = [other for other in included if level(other) > level(file)]
        # Where it is written; or, if no line says it in these words, whoever has it in the end.
        lines = {(lower, other) for lower in [file, *included] for other in above
                 if level(lower) < level(other) and names(lower, other)}
        wrong |= lines or {(file, other) for other in above}
    if seen != set(files):
        return f"the compiler says nothing of {sorted(set(files) - seen)}"
    for file, other in sorted(wrong):
        print(f"src/{file} includes {other}, which lies above it: {' < '.join(order)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
