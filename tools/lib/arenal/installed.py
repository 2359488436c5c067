"""Where the other parts of an installation are, as the folder of the command sees them. CMake installs one of its own in the place of this
(src/installed.cmake), since folders may have other names."""

LIBRARY = "../lib"
PROGRAMS = "../libexec/arenal"
HEADERS = "../include/arenal"
VERSION = ""           # the header has it
