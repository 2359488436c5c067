"""`arenal top` on a terminal, by curses: keys, and no more drawing than what changed."""

import curses
import locale
import os
import time

from arenal import picture, top
from arenal.commands import ps
from arenal.errors import Failure
from arenal.picture import size
from arenal.window import NAME, threads_of_arenal

STYLES = {"": curses.A_NORMAL, "bold": curses.A_BOLD, "reverse": curses.A_REVERSE}
LIST_EVERY = 5                  # seconds between two looks for processes: that walks over all of /proc


def processes():
    """Those with a window, by their number."""
    found = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return sorted(pid for pid in found if NAME in threads_of_arenal(pid))


def run(pid, delay):
    """Until the reader quits."""
    locale.setlocale(locale.LC_ALL, "")
    try:
        curses.setupterm()
    except curses.error as error:
        raise Failure(f"top does not know this terminal ({error}): use arenal top --batch") from error
    if not curses.tigetstr("cup"):
        raise Failure("top needs a terminal whose cursor it can move: use arenal top --batch")
    os.environ.setdefault("ESCDELAY", "25")
    return curses.wrapper(lambda screen: Screen(screen, delay).loop(pid))


class Screen:
    def __init__(self, screen, delay):
        self.screen, self.delay = screen, delay
        self.view = top.View(picture.utf8_locale())
        self.sampler = None
        self.note = ""              # in place of the list of keys, until the next key
        self.rows, self.chosen, self.listed = [], 0, 0.0
        self.drawn = []             # lines as they stand on the screen
        try:
            curses.curs_set(0)
        except curses.error:
            pass

    def loop(self, pid):
        try:
            if pid is not None:
                self.open(pid, True)
            while True:
                started = time.monotonic()
                self.look()
                self.draw()
                while (left := started + self.delay - time.monotonic()) > 0:
                    self.screen.timeout(max(1, int(left * 1000)))
                    key = self.screen.getch()
                    if key == -1:
                        continue
                    if key == ord("q"):
                        return 0
                    self.note = ""
                    self.press(key)
                    self.draw()
        finally:
            if self.sampler:
                self.sampler.close()

    def open(self, pid, must=False):
        """Shows the process, if that is possible."""
        try:
            sampler = top.Sampler(pid)
        except Failure as failure:
            if must:
                raise
            self.note = str(failure)
            return False
        if self.sampler:
            self.sampler.close()
        self.sampler, self.note = sampler, ""
        self.look()
        return True

    def look(self):
        if self.sampler is None:
            if time.monotonic() - self.listed >= LIST_EVERY:
                self.rows = [row for row in map(ps.look, processes()) if row]
                self.listed = time.monotonic()
                self.chosen = min(self.chosen, max(0, len(self.rows) - 1))
        elif not self.view.paused:
            self.sampler.look()

    # Keys

    def press(self, key):
        if key == curses.KEY_RESIZE:
            curses.update_lines_cols()
            self.screen.clear()
            self.drawn = []
        elif key in (ord("h"), ord("?")):
            self.help()
        elif key in (ord("n"), ord("N")):
            self.other(1 if key == ord("n") else -1)
        elif self.sampler is None:
            self.press_in_list(key)
        elif key in (ord("p"), ord(" ")):
            self.view.paused = not self.view.paused
        elif key == ord("\t"):
            self.view.table = (self.view.table + 1) % 3
        elif key in (ord("<"), curses.KEY_LEFT):
            self.view.move_sort(-1)
        elif key in (ord(">"), curses.KEY_RIGHT):
            self.view.move_sort(1)
        elif key == ord("r"):
            self.view.reverse = not self.view.reverse
        elif key == ord("l"):
            self.sampler.close()
            self.sampler, self.listed = None, 0.0
            self.look()
        elif key == ord("P"):
            self.purge()

    def press_in_list(self, key):
        if key in (curses.KEY_DOWN, ord("j")):
            self.chosen = min(self.chosen + 1, max(0, len(self.rows) - 1))
        elif key in (curses.KEY_UP, ord("k")):
            self.chosen = max(0, self.chosen - 1)
        elif key in (curses.KEY_ENTER, 10, 13) and self.rows:
            self.open(self.rows[self.chosen]["pid"])

    def other(self, by):
        """The next or previous process; with one alone, that."""
        found = processes()
        if not found:
            self.note = "no process on Arenal has a window"
            return
        now = self.sampler.pid if self.sampler else 0
        later = [pid for pid in found if pid > now]
        others = [pid for pid in later + found[:len(found) - len(later)] if pid != now]
        for pid in others[::by]:        # some may not be looked at
            if self.open(pid):
                break

    def ask(self, question):
        self.note = question
        self.draw()
        self.screen.timeout(-1)
        return self.screen.getch()

    def purge(self):
        if self.ask(f"give all free memory of process {self.sampler.pid} back to the system now? (y)") != ord("y"):
            self.note = "not purged"
            return
        try:
            self.note = f"{size(self.sampler.window.purge())} given back"
        except Failure as failure:
            self.note = str(failure)

    def help(self):
        self.put([top.Line("arenal top: help", "reverse")] + [top.Line(text) for text in top.HELP.splitlines()])
        self.screen.timeout(-1)
        self.screen.getch()

    # Drawing

    def draw(self):
        height, width = self.screen.getmaxyx()
        if self.sampler is None:
            lines = self.list_lines()
        else:
            lines = top.frame(self.sampler, self.view, width, height - 1)
        lines = lines[:height - 1]
        lines += [top.Line("")] * (height - 1 - len(lines))
        keys = top.KEYS if self.sampler else "q quit  h help  up down choose  Enter show  n N next, previous"
        self.put(lines + [top.Line(self.note or keys, "bold" if self.note else "")])

    def list_lines(self):
        lines = [top.Line("arenal top: processes on Arenal that have a window", "reverse"),
                 top.Line(f"{'PID':>7} {'USER':<10}{'ALLOCATED':>10}{'RESIDENT':>10}{'RSS':>10}  COMMAND", "bold")]
        for number, row in enumerate(self.rows):
            lines.append(top.Line(f"{row['pid']:>7} {row['user'][:9]:<10}{size(row['allocated']):>10}{size(row['resident']):>10}"
                                  f"{size(row['rss']):>10}  {row['command']}", "reverse" if number == self.chosen else ""))
        if not self.rows:
            lines.append(top.Line("none; start one with: arenal run -- COMMAND"))
        return lines

    def put(self, lines):
        """Writes the lines that are not there yet."""
        height, width = self.screen.getmaxyx()
        for y, line in enumerate(lines[:height]):
            if y < len(self.drawn) and self.drawn[y] == line:
                continue
            try:
                self.screen.move(y, 0)
                self.screen.clrtoeol()
                # Not into the last cell: the terminal would scroll.
                text = line.text.ljust(width - 1) if line.style == "reverse" else line.text
                self.screen.addnstr(y, 0, text, max(0, width - 1), STYLES[line.style])
            except curses.error:
                pass                # the terminal became smaller this moment: it will say so
        for y in range(len(lines), min(height, len(self.drawn))):
            self.screen.move(y, 0)
            self.screen.clrtoeol()
        self.drawn = list(lines)
        self.screen.refresh()
