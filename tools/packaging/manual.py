#!/usr/bin/env python3
"""manual.py FOLDER SECTION...: writes the manual pages of these sections (1, 3, 7) into man1, man3 and man7 of FOLDER. CMake does so at the
installation."""

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import roff         # pylint: disable=wrong-import-position
import sources      # pylint: disable=wrong-import-position

VERSION, DAY = sources.versions()[0]


def page(name, section, what):
    made = roff.Page(name, section, VERSION, DAY)
    made.heading("NAME")
    made.lines.append(rf"{roff.literal(name)} \- {roff.inline(what)}")
    return made


def see_also(made, *pages):
    made.heading("SEE ALSO")
    made.paragraph(",\n".join(rf"\fB{roff.literal(name)}\fR({section})" for name, section in pages))


def synopsis(made, parser):
    made.heading("SYNOPSIS")
    for line in re.split(r"\n +(?=arenal )| \| (?=arenal )", parser.format_usage().partition(": ")[2].strip()):
        made.lines += [".br"] if made.lines[-1] != ".SH SYNOPSIS" else []
        made.lines.append(roff.usage(line))


def arguments(made, parser, title):
    """What it takes by place and its options, as --help has them."""
    rows = []
    for action in sources.positions(parser) + sources.options(parser):
        if not action.help or (title is None and "--help" in action.option_strings):
            continue                # of commands of its own, or said in the usage, or once for all
        metavar = action.metavar or (action.dest.upper() if sources.takes_value(action) else None)
        value = f" {roff.italic(metavar)}" if metavar else ""
        rows.append((", ".join(roff.bold(option) + value for option in action.option_strings) or value.strip(), action.help))
    if rows and title:
        made.heading(title)
    for term, text in rows:
        made.item(term, roff.inline(text % {} if "%%" in text else text))


def actions(made, parser, words):
    """Commands of a command, each with all that it takes."""
    for name, action, what in sources.commands(parser):
        made.subheading(" ".join(words + [name]))
        made.lines.append(roff.usage(action.format_usage().partition(": ")[2].strip()))
        made.paragraph(roff.inline(what[0].upper() + what[1:] + "."))
        if action.description:
            made.text(action.description)
        arguments(made, action, None)
        actions(made, action, words + [name])


def command_page(name, parser, what):
    made = page(f"arenal-{name}", 1, what)
    synopsis(made, parser)
    made.heading("DESCRIPTION")
    made.text(parser.description)
    arguments(made, parser, "OPTIONS")
    if sources.commands(parser):
        made.heading("ACTIONS")
        actions(made, parser, [])
    if parser.epilog:
        made.heading("NOTES")
        made.text(parser.epilog)
    see_also(made, ("arenal", 1), ("arenal", 7))
    return made


def main_page(parser):
    made = page("arenal", 1, "look into, steer and run programs on the allocator Arenal")
    made.heading("SYNOPSIS")
    made.lines += [roff.usage("arenal COMMAND [ARGUMENT ...]"), ".br", roff.usage("arenal --help | --version")]
    made.heading("DESCRIPTION")
    made.text(parser.description)
    made.text("Arenal is a malloc for multithreaded Linux servers. A program is on it when the library is preloaded: by `arenal run`, "
              "or by the variable LD_PRELOAD, as in\n\n    LD_PRELOAD=libarenal.so.0 PROGRAM\n\n"
              "Nothing is preloaded where nobody asks for it. `arenal`(7) has the tunables.")
    arguments(made, parser, "OPTIONS")
    made.heading("COMMANDS")
    for name, _, what in sources.commands(parser):
        made.item(rf"\fBarenal\-{name}\fR(1)", roff.inline(what[0].upper() + what[1:] + "."))
    made.heading("ENVIRONMENT")
    made.item(roff.bold("ARENAL_LIBRARY"), "The library to preload, instead of the one that the command was installed with.")
    see_also(made, *((f"arenal-{name}", 1) for name, _, _ in sources.commands(parser)), ("arenal", 3), ("arenal", 7))
    return made


def functions_page():
    all_of_them = sources.declared()
    functions = [one for one in all_of_them if not one.prototype.startswith("struct " + one.name)]
    names = ", ".join(["arenal"] + [one.name for one in functions])
    made = page("arenal", 3, "")
    made.lines[-1] = rf"{roff.literal(names)} \- ask the allocator Arenal, and steer it"
    made.heading("SYNOPSIS")
    made.lines.append(".nf")
    header = None
    for one in functions:
        if one.header != header:
            made.lines += [".PP"] * (header is not None) + [roff.bold(f"#include <arenal/{one.header}>"), ".PP"]
            header = one.header
        made.lines.append(roff.bold(one.prototype))
    made.lines.append(".fi")
    made.heading("DESCRIPTION")
    for header in dict.fromkeys(one.header for one in all_of_them):
        made.text(sources.about_header(header))
    last = None
    for one in all_of_them:
        made.subheading(roff.literal(one.name))
        if one.text == last:
            made.paragraph("As above.")
        else:
            made.text(one.text)
        last = one.text
        if one not in functions:
            made.example(one.prototype.expandtabs(8).split("\n"))
    see_also(made, ("arenal", 1), ("arenal", 7), ("malloc", 3))
    return made, [one.name for one in functions]


def tunables_page():
    before, rows, after = sources.about_tunables()
    known = {tunable.name: tunable for tunable in sources.tunables()}
    made = page("arenal", 7, "tunables of the allocator Arenal")
    made.heading("DESCRIPTION")
    for text in before:
        made.text(text)
    made.heading("TUNABLES")
    described = set()
    for row in rows:
        # Those that the row explains in its text, too.
        names = row.names + [name for name in re.findall(r"`(\w+)`", row.text)
                             if name in known and not any(name in other.names for other in rows) and name not in described]
        described.update(names)
        made.item(", ".join(map(roff.bold, names)), roff.inline(_sentence(row.text)))
        made.more(roff.inline(" ".join([f"Default: {row.default}.", *_facts(known, row)])))
    lacking = [name for name in known if name not in described]
    if lacking:
        sys.exit(f"README.md, \"Tune it\", says nothing of {', '.join(lacking)}")
    made.text("`arenal ctl` PID `get` prints all of them with their ranges, `arenal ctl` PID `set` NAME VALUE sets one in a running process.")
    made.heading("FILES")
    made.text("These variables name files; %p is the number of the process.")
    for variable, what in sources.files_in_environment():
        made.item(roff.bold(variable), roff.inline(_sentence(what)))
    made.heading("NOTES")
    for text in after:
        made.text(text)
    see_also(made, ("arenal", 1), ("arenal-ctl", 1), ("arenal", 3), ("mallopt", 3))
    return made


def _sentence(text):
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _facts(known, row):
    own = [known[name] for name in row.names if name in known]
    facts = [f"glibc's variable `{tunable.glibc}` means the same." for tunable in own if tunable.glibc]
    if own and not any(tunable.live for tunable in own) and "at the start only" not in row.text:
        facts.append("It is read at the start only.")
    return facts


def write(folder, name, section, text):
    place = os.path.join(folder, f"man{section}")
    os.makedirs(place, exist_ok=True)
    with open(os.path.join(place, f"{name}.{section}"), "w", encoding="utf-8") as file:
        file.write(str(text))


def main(folder, sections):
    if "1" in sections:
        parser = sources.parser()
        write(folder, "arenal", 1, main_page(parser))
        for name, of, what in sources.commands(parser):
            write(folder, f"arenal-{name}", 1, command_page(name, of, what))
    if "3" in sections:
        made, functions = functions_page()
        write(folder, "arenal", 3, made)
        for name in functions:
            write(folder, name, 3, roff.alias("arenal", 3))
    if "7" in sections:
        write(folder, "arenal", 7, tunables_page())


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
