"""The commands of tools/arenal, a module each: add(commands) adds its parser, whose defaults name `parser` itself and `main`,
which gets the options and what came after "--" and returns the exit code. options.tool is the real path of the tool."""

import argparse
import importlib

NAMES = ("run", "ps", "top", "stats", "ctl", "profile", "maps", "trace", "replay", "report")

SHAPE = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}


def add_all(commands):
    for name in NAMES:
        importlib.import_module(f"arenal.commands.{name}").add(commands)


def seconds(text):
    value = float(text)
    if not 0.01 <= value <= 1e6:
        raise argparse.ArgumentTypeError("from 0.01 to 1000000 seconds")
    return value


def process_id(text):
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a process ID; a command goes after \"--\"")
    return int(text)


def sample_size(text):
    """What the heap profile may sample by."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    digits, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    if not digits.isascii() or not digits.isdigit() or not 0 < int(digits) * unit <= 1 << 30:
        raise argparse.ArgumentTypeError("from 1 to 1G bytes, as in 64K")
    return int(digits) * unit


def environment_options(parser):
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
                        help="set a tunable of the library (in ARENAL_CONF); may be repeated")
    parser.add_argument("--stats", action="store_true",
                        help="let every process print its statistics to stderr at its end (ARENAL_STATS=1)")
