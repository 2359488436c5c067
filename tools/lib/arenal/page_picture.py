"""`arenal maps PID --picture FILE`: the address space page by page, as one SVG file that needs nothing else.

An SVG element for each page would be a million for 4 GB. So each range is an image in it, a PNG of one pixel per page, which
packs to some kilobytes; text and legend stay text, and follow the reader's light or dark theme. Pages that are not in memory are
translucent, so that one image serves both."""

import base64
import html
import math
import struct
import zlib
from collections import namedtuple

from arenal import facts, files, picture, proc
from arenal.errors import Failure
from arenal.text import counted

COLUMNS = 512                   # pixels in a row: 2 MiB of small pages, so that a region of 64 MiB has 32 rows
PIXELS_MAX = 1 << 22            # all together; beyond it, a pixel is several pages
RANGES_MAX = 400                # the largest ones are drawn, the others only counted
WIDTH, MARGIN = 480, 8          # of the picture, in units that are a little less than a pixel on a phone
TITLE, HEADING, LABEL, GAP = 24, 26, 15, 5

# The colours of pixels, as red, green, blue, alpha: in the order of the numbers that stand for them.
OUTSIDE, RETURNED, SOME, MOST, RESIDENT, SWAPPED = range(6)
PALETTE = ((0, 0, 0, 0), (128, 128, 128, 64), (74, 144, 226, 120), (74, 144, 226, 185), (38, 110, 200, 255),
           (230, 140, 20, 255))
_OF_LETTER = bytes.maketrans(b"rs-", bytes((RESIDENT, SWAPPED, RETURNED)))

STYLE ="""
svg { background: #fff; color: #222; font: 12px system-ui, sans-serif; }
text { fill: currentColor; } .title { font-size: 15px; font-weight: 600; } .kind { font-weight: 600; } .dim { opacity: .75; }
image { image-rendering: pixelated; }
@media (min-width: 700px) { svg { font-size: 9px; } .title { font-size: 12px; } }
@media (prefers-color-scheme: dark) { svg { background: #16181c; color: #e4e6ea; } }"""

# A range, its pixels, and bytes of it that are resident and swapped out.
Drawn = namedtuple("Drawn", "range pixels resident swapped")


def pixels(letters, group):
    """One byte for each `group` pages: the number of a colour."""
    if group == 1:
        return letters.translate(_OF_LETTER)
    out = bytearray()
    for at in range(0, len(letters), group):
        count = min(group, len(letters) - at)
        resident, swapped = letters.count(b"r", at, at + group), letters.count(b"s", at, at + group)
        if swapped > resident:
            out.append(SWAPPED)
        elif resident == 0:
            out.append(RETURNED)
        else:
            out.append(RESIDENT if resident == count else MOST if 2 * resident >= count else SOME)
    return bytes(out)


def png(data, columns):
    """A PNG with `columns` pixels in a row; the last row may be shorter."""
    rows = math.ceil(len(data) / columns)
    data = data.ljust(rows * columns, bytes((OUTSIDE,)))
    raw = b"".join(b"\0" + data[at:at + columns] for at in range(0, len(data), columns))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)) +
            chunk(b"PLTE", bytes(part for colour in PALETTE for part in colour[:3])) +
            chunk(b"tRNS", bytes(colour[3] for colour in PALETTE)) +
            chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def read(pid, snapshot):
    """Reads the pages of the snapshot's ranges. Returns what was drawn, in order of addresses, and the pages of a pixel."""
    ranges = [r for r, _ in snapshot.rows if r.kind != "foreign"]
    shown = sorted(sorted(ranges, key=lambda r: r.start - r.end)[:RANGES_MAX], key=lambda r: r.start)
    total = sum(r.end - r.start for r in shown) // proc.PAGE
    group = 1 << max(0, math.ceil(math.log2(max(1, total) / PIXELS_MAX)))
    drawn = []
    with proc.Process(pid) as process:
        for r in shown:
            letters = process.pages(r.start, r.end)
            if letters is None:
                raise Failure(f"the kernel does not tell which pages of process {pid} are resident: {facts.root_may()}")
            drawn.append(Drawn(r, pixels(letters, group), letters.count(b"r") * proc.PAGE, letters.count(b"s") * proc.PAGE))
    return drawn, group


class _Page:
    """The elements of the picture, from top to bottom."""

    def __init__(self):
        self.elements, self.y = [], MARGIN

    def text(self, words, height, class_=""):
        self.y += height
        self.elements.append(f'<text x="{MARGIN}" y="{self.y - 5}" class="{class_}">{html.escape(words)}</text>')

    def legend(self, entries):
        self.y += LABEL + GAP
        x = MARGIN
        for colour, words, advance in entries:
            red, green, blue, alpha = PALETTE[colour]
            self.elements.append(f'<rect x="{x}" y="{self.y - 14}" width="10" height="10" fill="rgb({red},{green},{blue})" '
                                 f'fill-opacity="{alpha / 255:.2f}"/><text x="{x + 14}" y="{self.y - 5}">{words}</text>')
            x += advance

    def image(self, data):
        rows = math.ceil(len(data) / COLUMNS)
        columns = min(COLUMNS, len(data)) or 1
        scale = (WIDTH - 2 * MARGIN) / COLUMNS
        width, height = columns * scale, rows * scale
        # A range of few rows would be a hairline.
        height = max(height, 3)
        code = base64.b64encode(png(data, columns)).decode()
        self.elements.append(f'<image x="{MARGIN}" y="{self.y:.2f}" width="{width:.2f}" height="{height:.2f}" '
                             f'preserveAspectRatio="none" href="data:image/png;base64,{code}"/>')
        self.y += height + GAP


def svg(snapshot, drawn, group):
    page = _Page()
    mapped, resident = sum(d.range.mapped for d in drawn), sum(d.resident for d in drawn)
    swapped = sum(d.swapped for d in drawn)
    page.text(f"{snapshot.name} (process {snapshot.pid})", TITLE, "title")
    page.text(f"{picture.size(mapped)} mapped, {picture.size(resident)} resident, "
              f"{picture.size(max(0, mapped - resident - swapped))} returned or never touched", LABEL)
    entries = [(RESIDENT, "resident", 78)]
    if group > 1:
        entries += [(MOST, "half", 54), (SOME, "less", 54)]
    entries += [(RETURNED, "not in memory", 112), (SWAPPED, "swapped out", 90)]
    page.legend(entries)
    pages = "one page" if group == 1 else f"{group} pages"
    page.text(f"a dot is {pages} of {proc.PAGE // 1024} KiB, a row {picture.size(COLUMNS * group * proc.PAGE)}", LABEL, "dim")
    for note in snapshot.notes:
        page.text(note, LABEL, "dim")
    for kind in picture.KINDS:
        mine = [d for d in drawn if d.range.kind == kind]
        if mine:
            page.text(f"{kind}: {picture.MEANING[kind]}", HEADING, "kind")
        for d in mine:
            page.text(f"{d.range.start:x}  {picture.size(d.range.mapped)} mapped, {picture.size(d.resident)} resident "
                      f"({picture.percent(d.resident, d.range.mapped)})", LABEL, "dim")
            page.image(d.pixels)
    left = sum(r.kind != "foreign" for r, _ in snapshot.rows) - len(drawn)
    if left:
        page.text(f"{counted(left, 'smaller range')} {'is' if left == 1 else 'are'} not shown", HEADING)
    height = math.ceil(page.y + MARGIN)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="100%" '
            f'style="max-width: 900px; height: auto">\n<title>{html.escape(snapshot.name)}, process {snapshot.pid}: '
            f'memory</title>\n<style>{STYLE}</style>\n' + "\n".join(page.elements) + "\n</svg>\n")


def write(pid, snapshot, path):
    files.replace(path, svg(snapshot, *read(pid, snapshot)))
