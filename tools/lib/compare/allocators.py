from dataclasses import dataclass


@dataclass
class Allocator:
    """What is compared. `library` is the file that malloc comes from, its real path."""

    name: str
    library: str = None
    version: str = ""
    own: bool = False       # Arenal, as opposed to its peers
    problem: str = None     # why it cannot be measured
    preload: str = None     # what LD_PRELOAD is set to: a path without spaces and colons that leads to the library
