"""Manual pages as man(7) reads them. Text comes as the project's help and headers have it: paragraphs with empty lines between them,
`code` in backticks, indented lines as they are."""

import re

# What roff takes for something else, and characters that it would print as typographic ones.
SPECIAL = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", "\"": r"\(dq"}


def literal(text):
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def bold(text):
    return rf"\fB{literal(text)}\fR"


def italic(text):
    return rf"\fI{literal(text)}\fR"


def inline(text):
    """One paragraph, or a part of one. What stands in backticks is bold."""
    pieces = re.split(r"`([^`]+)`", " ".join(text.split()))
    return "".join(bold(piece) if i % 2 else literal(piece) for i, piece in enumerate(pieces))


def usage(text):
    """A synopsis: words to be typed are bold, those to be replaced (in capitals) italic."""
    def word(found):
        return italic(found[0]) if found[0].isupper() else bold(found[0])
    pieces = re.split(r"((?:--?)?[A-Za-z][A-Za-z=_-]*)", " ".join(text.split()))
    return "".join(re.sub(".+", word, piece) if i % 2 else literal(piece) for i, piece in enumerate(pieces))


class Page:
    def __init__(self, name, section, version, day):
        self.name, self.section = name, section
        self.lines = [r'.\" Made from the help, the headers and the README of the project: change these instead.',
                      f'.TH {literal(name.upper())} {section} {day} "Arenal {version}" "Arenal"']

    def heading(self, title):
        self.lines.append(f".SH {title}")

    def subheading(self, title):
        self.lines.append(f".SS {title}")

    def paragraph(self, line):
        """A line that is roff already."""
        self._space()
        self.lines.append(self._guarded(line))

    def item(self, term, line):
        self.lines += [".TP", self._guarded(term), self._guarded(line)]

    def more(self, line):
        """A further paragraph of an item."""
        self.lines += [".IP", self._guarded(line)]

    def example(self, lines):
        self._space()
        self.lines += [".RS 4", ".EX", *(self._guarded(literal(line)) for line in lines), ".EE", ".RE"]

    def text(self, text):
        """Paragraphs and indented lines."""
        for block in re.split(r"\n[ \t]*\n", text.strip("\n")):
            lines, words = block.split("\n"), []
            while lines:
                if not lines[0].startswith("    "):
                    words.append(lines.pop(0))
                    continue
                if words:
                    self.paragraph(inline(" ".join(words)))
                    words = []
                shown = []
                while lines and lines[0].startswith("    "):
                    shown.append(lines.pop(0)[4:])
                self.example(shown)
            if words:
                self.paragraph(inline(" ".join(words)))

    def _space(self):
        """Between paragraphs; a heading has its own."""
        if not self.lines[-1].startswith((".SH", ".SS")):
            self.lines.append(".PP")

    @staticmethod
    def _guarded(line):
        """No line of text is a request."""
        return r"\&" + line if line.startswith((".", "'")) else line

    def __str__(self):
        return "\n".join(self.lines) + "\n"


def alias(name, section):
    """A page that is another one."""
    return f".so man{section}/{name}.{section}\n"
