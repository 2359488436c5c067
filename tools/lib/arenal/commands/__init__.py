"""The commands of tools/arenal, a module each: add(commands) adds its parser, whose defaults name `parser` itself and `main`,
which gets the options and what came after "--" and returns the exit code. options.tool is the real path of the tool."""

import argparse
import importlib
import re
import sys

from arenal import targets

NAMES = ("run", "ps", "top", "stats", "serve", "ctl", "profile", "maps", "trace", "replay", "report")

SHAPE = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}


class Parser(argparse.ArgumentParser):
    """Also of each command: argparse makes them of the class of the first."""

    def _print_message(self, message, file=None):
        if file is sys.stdout:
            file.write(message)         # argparse says nothing about a full disk
        else:
            super()._print_message(message, file)


def parser():
    """What is read from a command line; help, manual pages and completion are made of it."""
    whole = Parser(prog="arenal", description="The command for people who run programs on Arenal.", allow_abbrev=False)
    whole.add_argument("--version", action="store_true", help="print the version and exit")
    whole.set_defaults(main=None, parser=whole)
    commands = whole.add_subparsers(metavar=" | ".join(NAMES))
    for name in NAMES:
        importlib.import_module(f"arenal.commands.{name}").add(commands)
    return whole


def seconds(text):
    value = float(text)
    if not 0.01 <= value <= 1e6:
        raise argparse.ArgumentTypeError("from 0.01 to 1000000 seconds")
    return value


def process_id(text):
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a process ID")
    return int(text)


def process_id_or_command(text):
    """A process ID, where a command may be given instead."""
    try:
        return process_id(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; a command goes after \"--\"") from None


def target(text):
    """A process ID as a number; or the word by which targets.py finds processes."""
    if re.fullmatch("[0-9]+", text, re.A):
        return process_id(text)
    kind, colon, name = text.partition(":")
    if text.strip() == "" or text.startswith("-") or (colon and kind in targets.KINDS and not name):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a process ID nor the name of a unit, a container or a program")
    return text


def _number(text):
    """None: it is none."""
    found = re.fullmatch(r"(-?[0-9]+)([KMG]?)", text, re.I | re.A)
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()] if found else None


def number(text):
    """As the library reads tunables."""
    found = _number(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; the suffixes are K, M and G")
    if not -(1 << 63) <= found < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is too {'large' if found > 0 else 'small'}: 64 bits do not hold it")
    return found


def sample_size(text):
    """What the heap profile may sample by."""
    found = _number(text)
    if found is None or not 0 < found <= 1 << 30:
        raise argparse.ArgumentTypeError("from 1 to 1G bytes, as in 64K")
    return found


def environment_options(parser):
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
                        help="set a tunable of the library (in ARENAL_CONF); may be repeated")
    parser.add_argument("--stats", action="store_true",
                        help="let every process print its statistics to stderr at its end (ARENAL_STATS=1)")
