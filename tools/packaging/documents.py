#!/usr/bin/env python3
"""documents.py FOLDER: writes the documents that are installed into FOLDER. Links to files of the source that are not there become words, and the
first lines say where these files are. CMake does so at the installation."""

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sources      # pylint: disable=wrong-import-position

DOCUMENTS = ("README.md", "CHANGELOG.md", "COMING-FROM.md", "OPERATING.md", "PROGRAMS.md", "SECURITY.md", "tools/lib/arenal/FIGURES.md")
NOTE = """\
(As it is in Arenal's source, which has the files that are named here by folders, as `src/README.md`. Of these, `tools/arenal` is the command `arenal`
where it is installed.)"""


def installed(text, place):
    """What is written in a document of this folder, as it is installed, where all documents lie in one."""
    names = {document: os.path.basename(document) for document in DOCUMENTS}

    def link(match):
        words, target = match[1], match[2]
        path, mark, anchor = target.partition("#")
        if not path or "://" in target:
            return match[0]
        name = names.get(os.path.normpath(os.path.join(place, path)))
        return f"[{words}]({name}{mark}{anchor})" if name else words
    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", link, text)


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for document in DOCUMENTS:
        title, _, text = sources.read(document).partition("\n")
        with open(os.path.join(folder, os.path.basename(document)), "w", encoding="utf-8") as file:
            file.write(f"{title}\n\n{NOTE}\n{installed(text, os.path.dirname(document))}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
