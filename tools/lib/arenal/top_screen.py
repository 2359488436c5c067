"""`arenal top` on a terminal, by curses: keys, and no more drawing than what changed."""

import curses
import locale
import os
import threading
import time

from arenal import picture, top
from arenal.commands import ps
from arenal.errors import Failure
from arenal.picture import size
from arenal.window_file import NAME, threads_of_arenal

STYLES = {"": curses.A_NORMAL, "bold": curses.A_BOLD, "reverse": curses.A_REVERSE}
TICK = 0.02                     # seconds between two looks whether there is an answer
LIST_EVERY = 5                  # seconds between two looks for processes: that walks over all of /proc


def processes():
    """Those with a window, by their number."""
    found = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return sorted(pid for pid in found if NAME in threads_of_arenal(pid))


def use_locale():
    """The user's; where that is not installed, one with the same letters."""
    for category, name in ((locale.LC_ALL, ""), (locale.LC_CTYPE, "C.UTF-8"), (locale.LC_ALL, "C")):
        try:
            locale.setlocale(category, name)
            return
        except locale.Error:
            continue


def run(pid, delay):
    """Until the reader quits."""
    use_locale()
    try:
        curses.setupterm()
    except curses.error as error:
        raise Failure(f"top does not know this terminal ({error}): use arenal top --batch") from error
    if not curses.tigetstr("cup"):
        raise Failure("top needs a terminal whose cursor it can move: use arenal top --batch")
    os.environ.setdefault("ESCDELAY", "25")
    return curses.wrapper(lambda screen: Screen(screen, delay).loop(pid))


def neighbour(now, by):
    """A Sampler of the next or previous process that may be looked at."""
    found = processes()
    later = [pid for pid in found if pid > now]
    others = [pid for pid in later + found[:len(found) - len(later)] if pid != now]
    why = Failure("no other process on Arenal has a window" if found else "no process on Arenal has a window")
    for pid in others[::by]:
        try:
            return top.Sampler(pid)
        except Failure as failure:
            why = failure
    raise why


class Screen:
    def __init__(self, screen, delay):
        self.screen, self.delay = screen, delay
        self.view = top.View(picture.utf8_locale() and locale.nl_langinfo(locale.CODESET) == "UTF-8")
        self.sampler = None
        self.task = None            # the answer, a list that is empty until there is one, and who gets it
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
                self.show(top.sampler(pid))
            due = 0.0
            while True:
                news = self.collect()
                if time.monotonic() >= due:
                    due = time.monotonic() + self.delay
                    self.look()
                    news = True
                if news:
                    self.draw()
                left = due - time.monotonic()
                self.screen.timeout(max(1, int(1000 * (min(left, TICK) if self.task else left))))
                key = self.screen.getch()
                if key == ord("q"):
                    return 0
                if key != -1:
                    self.note = ""
                    self.press(key)
                    self.draw()
        finally:
            self.drop()

    # Whoever is asked may be slow, or silent. So a thread asks, and keys are seen meanwhile.

    def begin(self, work, then):
        """Lets a thread do the work; what it returns, or its Failure, is given to `then` by `collect`. An earlier one is forgotten."""
        answer = []

        def run():
            try:
                answer.append(work())
            except Failure as failure:
                answer.append(failure)
            except Exception as error:          # pylint: disable=broad-except
                answer.append(Failure(f"top failed: {error!r}"))
        self.task = answer, then
        threading.Thread(target=run, daemon=True).start()

    def collect(self):
        """Whether there was an answer."""
        if not self.task or not self.task[0]:
            return False
        (answer,), then = self.task
        self.task = None
        then(answer)
        return True

    def drop(self):
        if self.sampler:
            threading.Thread(target=self.sampler.close, daemon=True).start()
        self.sampler = self.task = None

    def show(self, sampler):
        """Shows the process, if that is possible."""
        if isinstance(sampler, Failure):
            self.note = str(sampler)
            return
        self.drop()
        self.sampler, self.note = sampler, ""
        self.look()

    def list(self, rows):
        self.rows = rows if isinstance(rows, list) else []
        self.chosen = min(self.chosen, max(0, len(self.rows) - 1))

    def look(self):
        if self.task:
            return
        if self.sampler is None:
            if time.monotonic() - self.listed >= LIST_EVERY:
                self.listed = time.monotonic()
                self.begin(lambda: ps.look_at_all(processes()), self.list)
        elif not self.view.paused and not self.sampler.ended:
            self.begin(self.sampler.measure, self.sampler.take)

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
            self.view.table = (self.view.table + 1) % len(self.sampler.tables)
        elif key in (ord("<"), curses.KEY_LEFT):
            self.view.move_sort(-1)
        elif key in (ord(">"), curses.KEY_RIGHT):
            self.view.move_sort(1)
        elif key == ord("r"):
            self.view.reverse = not self.view.reverse
        elif key == ord("l"):
            self.drop()
            self.listed = 0.0
            self.look()
        elif key == ord("P"):
            self.purge()

    def press_in_list(self, key):
        if key in (curses.KEY_DOWN, ord("j")):
            self.chosen = min(self.chosen + 1, max(0, len(self.rows) - 1))
        elif key in (curses.KEY_UP, ord("k")):
            self.chosen = max(0, self.chosen - 1)
        elif key in (curses.KEY_ENTER, 10, 13) and self.rows:
            pid = self.rows[self.chosen]["pid"]
            self.begin(lambda: top.Sampler(pid), self.show)

    def other(self, by):
        """The next or previous process; with one alone, that."""
        now = self.sampler.pid if self.sampler else 0
        self.begin(lambda: neighbour(now, by), self.show)

    def ask(self, question):
        self.note = question
        self.draw()
        self.screen.timeout(-1)
        return self.screen.getch()

    def purge(self):
        if self.ask(f"give all free memory of {self.sampler.subject} back to the system now? (y)") != ord("y"):
            self.note = "not purged"
            return
        self.note = "giving memory back"
        self.begin(self.sampler.purge, self.purged)

    def purged(self, given):
        self.note = str(given) if isinstance(given, Failure) else f"at most {size(given)} given back"

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
                text = text.encode(self.screen.encoding, "replace").decode(self.screen.encoding)
                self.screen.addnstr(y, 0, text, max(0, width - 1), STYLES[line.style])
            except curses.error:
                pass                # the terminal became smaller this moment: it will say so
        for y in range(len(lines), min(height, len(self.drawn))):
            self.screen.move(y, 0)
            self.screen.clrtoeol()
        self.drawn = list(lines)
        self.screen.refresh()
