"""Completion of bash and zsh, as the packages have it: commands, options, processes, tunables, files, and a program behind "--". Each in a
terminal, too, as somebody types it."""

import contextlib
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import time
import unittest

from support import PackageTest, environment, main, ran

DEADLINE = 30


class Terminal:
    """A shell in a terminal, to which one types."""

    def __init__(self, test, command, env):
        self.test, self.said = test, ""
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, env)
        test.addCleanup(self.close)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.handle)

    def type(self, keys):
        os.write(self.handle, keys.encode())

    def await_(self, condition, what):
        until = time.monotonic() + DEADLINE
        while not (found := condition()):
            if time.monotonic() > until:
                self.test.fail(f"{what}; the terminal says {self.said!r}")
            if select.select([self.handle], [], [], 0.02)[0]:
                with contextlib.suppress(OSError):
                    self.said += os.read(self.handle, 4096).decode(errors="replace")
        return found


class CompletionTest(PackageTest):
    def setUp(self):
        self.root = self.unpacked("arenal-tools", "libarenal0")
        self.place = self.folder()

    def a_process(self):
        """One that has the library."""
        folder = os.path.join("/tmp", f"arenal-completion-{os.getpid()}")
        os.mkdir(folder, 0o700)
        self.addCleanup(shutil.rmtree, folder)
        shutil.copy(self.library_in(self.root), f"{folder}/libarenal.so.0")
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=environment(LD_PRELOAD=f"{folder}/libarenal.so.0"))
        self.addCleanup(process.communicate)
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), b"ready\n")
        return str(process.pid)

    def commands(self):
        said = ran([f"{self.root}/usr/bin/arenal", "--help"], env=environment(COLUMNS="300")).stdout
        return re.findall(r"^    ([a-z]+) +\S", said, re.M)

    def check(self, complete):
        """`complete` gives what a shell offers for the last of the words."""
        self.assertEqual(sorted(complete("")), sorted(self.commands()))
        self.assertEqual(complete("st"), ["stats"])
        self.assertIn("--version", complete("--"))
        said = ran([f"{self.root}/usr/bin/arenal", "stats", "--help"]).stdout
        self.assertEqual(sorted(complete("stats", "--")), sorted(set(re.findall(r"(?<![\w-])--[a-z]+(?= |,|$)", said.partition("options:")[2]))))
        self.assertEqual(sorted(complete("ctl", "1", "")), ["get", "open", "profile", "purge", "set", "trace"])
        self.assertEqual(sorted(complete("ctl", "1", "profile", "")), ["dump", "start", "stop"])
        self.assertEqual(sorted(complete("ctl", "1", "trace", "start", "file", "--")), ["--help", "--max", "--seconds"])
        self.assertEqual(sorted(complete("ctl", "1", "set", "dir")), ["dirty_max"])
        self.assertEqual([word.rstrip("=") for word in complete("run", "--set", "mmap")], ["mmap_threshold"])
        pid = self.a_process()
        for words in (("stats",), ("ctl",), ("top", "--batch"), ("profile", "--pid"), ("maps",)):
            self.assertIn(pid, complete(*words, pid[:-1]), words)
        self.assertNotIn(str(os.getpid()), complete("stats", str(os.getpid())[:-1]))
        for name in ("a trace", "another"):
            with open(os.path.join(self.place, name), "w", encoding="utf-8"):
                pass
        os.mkdir(os.path.join(self.place, "a folder"))
        self.assertEqual([word.replace("\\", "") for word in complete("report", "ano")], ["another"])
        self.assertIn("a trace", [word.replace("\\", "") for word in complete("stats", "--output", "a")])
        self.assertEqual([word.replace("\\", "").rstrip("/") for word in complete("profile", "--root", "a")], ["a folder"])
        self.assertIn("setpriv", complete("run", "--stats", "--", "setpr"))


class Bash(CompletionTest):
    def script(self):
        return shlex.quote(f"{self.root}/usr/share/bash-completion/completions/arenal")

    def complete(self, *words, before=""):
        line = " ".join(map(shlex.quote, ("arenal", *words)))
        done = ran(["bash", "--norc", "--noprofile", "-c",
                    f'. {self.script()}; {before} COMP_WORDS=({line}) COMP_CWORD={len(words)}; _arenal 2>/dev/null; printf "%s\\n" "${{COMPREPLY[@]}}"'],
                   cwd=self.place)
        return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []

    def test_words(self):
        self.check(self.complete)
        self.assertEqual(self.complete("report", "--output", "=", "ano"), ["another"])

    def test_separators(self):
        """Whatever the user has set, words are taken apart at spaces, and the setting stays."""
        for words in (("st",), ("ctl", "1", "profile", "")):
            self.assertEqual(self.complete(*words, before="IFS=:;"), self.complete(*words))

    def test_typed(self):
        shell = Terminal(self, ["bash", "--norc", "--noprofile", "-i"], environment(TERM="dumb", PS1="$ ", HISTFILE=""))
        shell.type(f". {self.script()}; echo is'  'there\n")
        shell.await_(lambda: "is  there" in shell.said, "the shell does not start")
        for typed, completed in (("arenal sta\t", "arenal stats "), ("arenal ctl 1 pu\t", "arenal ctl 1 purge "),
                                 ("arenal maps --pic\t", "arenal maps --picture "), ("arenal run --set mmap\t", "mmap_threshold=")):
            shell.said = ""
            shell.type(typed)
            shell.await_(lambda completed=completed: completed in shell.said, f"{typed!r} is not completed")
            shell.type("\x15")


@unittest.skipIf(shutil.which("zsh") is None, "no zsh (Debian: zsh)")
class Zsh(CompletionTest):
    """In a terminal only: zsh completes nowhere else. What it offers is what compadd is given, which a function of that name writes down."""

    SETUP = r"""
PS1='> '; fpath=({functions} $fpath); autoload -U compinit; compinit -u -D
compadd() {{
    local -a offered
    if [[ ${{@[(I)-[OAD]]}} -eq 0 ]]; then
        builtin compadd -O offered "$@"
        print -rl -- $offered >>{file}.words
    fi
    builtin compadd "$@"
}}
offer() {{ zle list-choices; mv {file}.words {file}.offered 2>/dev/null || : >{file}.offered; zle kill-whole-line; }}
tell() {{ zle complete-word; print -r -- "$BUFFER" >{file}.new; mv {file}.new {file}.typed; zle kill-whole-line; }}
zle -N offer; zle -N tell; bindkey '^Xo' offer; bindkey '^Xt' tell
cd {place}; : >{file}.ready
"""

    def setUp(self):
        super().setUp()
        self.file = f"{self.folder()}/shell"
        setup = self.SETUP.format(functions=shlex.quote(f"{self.root}/usr/share/zsh/vendor-completions"), file=shlex.quote(self.file),
                                  place=shlex.quote(self.place))
        with open(f"{self.file}.setup", "w", encoding="utf-8") as file:
            file.write(setup)
        self.shell = Terminal(self, ["zsh", "-f", "-i"], environment(TERM="vt100", HISTFILE=""))
        self.shell.type(f". {shlex.quote(self.file)}.setup\n")
        self.result("ready")

    def result(self, name):
        path = f"{self.file}.{name}"
        self.shell.await_(lambda: os.path.exists(path), f"there is no {name}")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        os.unlink(path)
        return text

    def complete(self, *words):
        self.shell.type(" ".join(["arenal", *(shlex.quote(word) if word else "" for word in words)]) + "\x18o")
        return list(dict.fromkeys(filter(None, self.result("offered").split("\n"))))

    def test_words(self):
        self.check(self.complete)

    def test_typed(self):
        for typed, completed in (("arenal sta", "arenal stats "), ("arenal ctl 1 pu", "arenal ctl 1 purge "),
                                 ("arenal maps --pic", "arenal maps --picture "), ("arenal run --set mmap", "arenal run --set mmap_threshold=")):
            self.shell.type(typed + "\x18t")
            self.assertEqual(self.result("typed"), completed + "\n")


del CompletionTest      # it has no tests of its own


if __name__ == "__main__":
    main()
