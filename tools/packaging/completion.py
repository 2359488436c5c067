#!/usr/bin/env python3
"""completion.py FOLDER: writes the completion of bash (arenal) and of zsh (_arenal) into FOLDER: arenal.bash.in and arenal.zsh.in with the table of
commands, options and what they take in their places. CMake does so at the installation."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sources      # pylint: disable=wrong-import-position

HERE = os.path.dirname(os.path.abspath(__file__))
# What a value is, by the word that the help has for it. Others are not completed.
KINDS = {"PID": "process", "DUMP": "file", "FILE": "file", "FILE.pb.gz": "file", "PAGE": "file", "OLD": "file", "PATH": "file",
         "ADDRESS:PORT|PATH": "file", "FOLDER": "folder", "NAME=VALUE": "setting"}
# Of commands, where a word alone does not say it.
SPECIAL = {("ctl get", "NAME"): "tunable", ("ctl set", "NAME"): "tunable", ("replay", "NAME"): "file"}


def kind(path, action):
    return SPECIAL.get((path, action.metavar), KINDS.get(action.metavar, "none"))


def walk(parser, path=""):
    """Every command, and those below it: its path and its parser."""
    yield path, parser
    for name, below, _ in sources.commands(parser):
        yield from walk(below, f"{path} {name}".strip())


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def places(path, parser):
    """Kinds of what it takes by place."""
    return ["command" if sources.commands(parser) and action.choices else kind(path, action) for action in sources.positions(parser)]


def bash(parser):
    rows = []
    for path, of in walk(parser):
        options = sources.options(of)
        valued = [f"{option}:{kind(path, action)}" for action in options if sources.takes_value(action) for option in action.option_strings]
        rows.append(f"    {quoted(path)}) options={quoted(' '.join(name for action in options for name in action.option_strings))} "
                    f"valued={quoted(' '.join(valued))} places={quoted(' '.join(places(path, of)))} "
                    f"commands={quoted(' '.join(name for name, _, _ in sources.commands(of)))} ;;")
    return "\n".join(rows)


def _specification(path, action):
    """An option, or a place, as zsh's _arguments has it."""
    text = (action.help or "").replace("%%", "%")
    text = "".join("\\" + letter if letter in "\\[]:" else letter for letter in text)
    value = f":{action.metavar.replace(':', chr(92) + ':')}:_arenal_{kind(path, action)}" if sources.takes_value(action) else ""
    names = action.option_strings
    repeated = "*" if type(action).__name__ == "_AppendAction" else ""
    return [quoted(f"{repeated or '(' + ' '.join(names) + ')'}{name}[{text}]{value}") for name in names]


def zsh(parser):
    rows = []
    for path, of in walk(parser):
        words = [word for action in sources.options(of) for word in _specification(path, action)]
        kinds = places(path, of)
        for place, what in enumerate(kinds, 1):
            if what == "command":
                words += [quoted(f"{place}:command:->commands"), quoted("*::argument:->rest")]
            else:
                words.append(quoted(f"{place}:{what}:_arenal_{what}"))
        below = " ".join(quoted(f"{name}:{what}") for name, _, what in sources.commands(of))
        rows.append(f"    {quoted(path)})\n        specifications=(\n            " + "\n            ".join(words) +
                    f"\n        )\n        commands=({below}) at={len(kinds)} ;;")
    return "\n".join(rows)


def main(folder):
    parser = sources.parser()
    names = " ".join(tunable.name for tunable in sources.tunables())
    os.makedirs(folder, exist_ok=True)
    for source, target, table in (("arenal.bash.in", "arenal", bash(parser)), ("arenal.zsh.in", "_arenal", zsh(parser))):
        with open(os.path.join(HERE, source), encoding="utf-8") as file:
            text = file.read()
        with open(os.path.join(folder, target), "w", encoding="utf-8") as file:
            file.write(text.replace("@TABLE@", table).replace("@TUNABLES@", names))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
