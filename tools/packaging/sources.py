"""What manual pages and completion are made of: the parser of tools/arenal, the table of tunables (src/base/conf.c), the README's text about
them, and the comments of the headers. Each thing is written down there, and nowhere else."""

import argparse
import os
import re
import sys
from collections import namedtuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

Tunable = namedtuple("Tunable", "name glibc live words")
Described = namedtuple("Described", "names default text")     # a row of the README's table
# A function (or a struct, with all of its lines) of the public headers, its prototype in one line, and its comment.
Declared = namedtuple("Declared", "name prototype text header")


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def versions():
    """Pairs of a version and its day, the newest first: the changelog's headings."""
    return re.findall(r"^## ([0-9.]+), ([0-9-]+)$", read("CHANGELOG.md"), re.M)


def parser():
    """That of the command."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.join(ROOT, "tools", "lib"))
    from arenal import commands     # pylint: disable=import-outside-toplevel
    return commands.parser()


def options(of):
    """The options of a parser."""
    return [action for action in of._actions if action.option_strings]      # pylint: disable=protected-access


def positions(of):
    """What it takes by place. The last one may be commands of its own."""
    return [action for action in of._actions if not action.option_strings]  # pylint: disable=protected-access


def commands(of):
    """Pairs of a parser of commands and its line in the list of all; none if it has none."""
    for action in positions(of):
        if isinstance(action, argparse._SubParsersAction):                  # pylint: disable=protected-access
            helps = {choice.dest: choice.help for choice in action._choices_actions}    # pylint: disable=protected-access
            return [(name, parser, helps[name]) for name, parser in action.choices.items()]
    return []


def takes_value(action):
    return action.nargs != 0


def takes_command(of):
    """Does a program to run go behind its "--"?"""
    return "-- COMMAND" in of.format_usage()


def tunables():
    """In the order of src/base/conf.c."""
    text = read("src", "base", "conf.c")
    words = {name: re.findall(r'"(\w+)"', body)
             for name, body in re.findall(r"static const char \*const (\w+)\[\] = \{(.*?)\};", text, re.S)}
    table = re.search(r"^const struct tunable tunables\[\] = \{\n(.*?)^\};", text, re.S | re.M)[1]
    rows = re.findall(r'\{\s*"(\w+)",\s*(?:NULL|"(\w+)"),\s*&conf\.\w+,.*?\b(true|false),\s*(\w+)\s*\}', table, re.S)
    if len(rows) != table.count("&conf."):
        sys.exit("src/base/conf.c: the table of tunables is written in a way that tools/packaging/sources.py does not read")
    return [Tunable(name, glibc, live == "true", words.get(which, [])) for name, glibc, live, which in rows]


def files_in_environment():
    """Variables that name files, with what conf.h says of them."""
    comments = dict(re.findall(r"char (\w+)\[CONF_PATH_MAX\];\s+/\* (.*?) \*/", read("src", "base", "conf.h")))
    pairs = re.findall(r'\{ "(ARENAL_\w+)", conf_files\.(\w+) \}', read("src", "base", "conf.c"))
    return [(variable, comments[field]) for variable, field in pairs]


def _without_links(markdown):
    """What only leads elsewhere in the README goes; other links leave their words."""
    markdown = re.sub(r",?\s\(\[[^]]*\]\([^)]*\)\)", "", markdown)
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown).replace("**", "")


def about_tunables():
    """The README's chapter: its paragraphs before the table, the rows, the paragraphs after it."""
    chapter = re.search(r"^## Tune it\n(.*?)(?=^## )", read("README.md"), re.S | re.M)[1]
    before, after, rows = [], [], []
    for block in re.split(r"\n\n+", chapter.strip()):
        if not block.startswith("|"):
            (after if rows else before).append(_without_links(block))
            continue
        for line in block.split("\n")[2:]:
            names, _, default, text = (cell.strip() for cell in line.strip()[1:].rstrip("|").split("|", 3))
            rows.append(Described(re.findall(r"`(\w+)`", names), default, _without_links(text)))
    return before, rows, after


COMMENT = r"/\*((?:[^*]|\*(?!/))*)\*/"


def _plain(comment):
    """The text of a comment, whose paragraphs stand as they are."""
    lines = (re.sub(r"^\s*\*? ?", "", line, count=1) if i else line.strip() for i, line in enumerate(comment.split("\n")))
    return "\n".join(line.rstrip() for line in lines).strip()


def headers():
    """Names of the public headers, arenal.h first."""
    names = [name for name in os.listdir(os.path.join(ROOT, "include", "arenal")) if name.endswith((".h", ".hpp"))]
    return sorted(names, key=lambda name: (name != "arenal.h", name))


def about_header(header):
    """Its first comment."""
    return _plain(re.search(COMMENT, read("include", "arenal", header))[1])


def declared():
    """Functions and structs of all headers, in order. One comment may be that of several functions, which follow it without an empty line."""
    found = []
    for header in headers():
        text = read("include", "arenal", header)
        for comment, code in re.findall(COMMENT + r"\n(struct \w+ \{.*?\n\};|ARENAL_API.*?(?=\n\n|\Z))", text, re.S):
            struct = re.match(r"struct (\w+) \{", code)
            if struct:
                found.append(Declared(struct[1], code, _plain(comment), header))
                continue
            for prototype in re.findall(r"ARENAL_API\s+([^;]+;)", re.sub(COMMENT, "", code)):
                prototype = re.sub(r"\) [A-Z_]+\(.*\);$", ");", " ".join(prototype.split()))      # without hints for the compiler
                name = re.search(r"(\w+)\(", prototype)[1]
                found.append(Declared(name, prototype, _plain(comment), header))
    return found


def exported_by_headers():
    """Every function that a header declares, by another look than declared(): what that does not find, it lacks."""
    names = []
    for header in headers():
        text = re.sub(COMMENT, "", read("include", "arenal", header))
        names += re.findall(r"ARENAL_API[^;(]*?\b(arenal_\w+)\s*\(", text)
    return names
