"""Tests of `arenal serve`: what it tells of which processes."""

import os
import signal
import socket
import subprocess
import sys
import time
import unittest
from unittest import mock

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as old_families

from serve_support import SOON, WORDS, ServeTest
from support import DEADLINE, MIB, TOOL, WORKLOAD, as_nobody, environment

from arenal import endpoint, facts, files, fleet, found, library, openmetrics, origin, serve


class Metrics(ServeTest):
    def test_all_processes_in_both_formats(self):
        processes = [self.on_arenal(*WORDS) for _ in range(2)]
        _, address = self.serve()
        status, headers, text = self.ask(address, Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        self.assertEqual((status, headers["Content-Type"]), (200, openmetrics.CONTENT_TYPE))
        families = {family.name: family for family in text_string_to_metric_families(text)}
        _, headers, old = self.ask(address, Accept="text/plain")
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        older = {family.name: family for family in old_families(old)}
        self.assertEqual({s.name for f in families.values() for s in f.samples}, {s.name for f in older.values() for s in f.samples})
        for process in processes:
            value, = [s.value for s in families["arenal_allocated_bytes"].samples if s.labels["pid"] == str(process.pid)]
            self.assertGreater(value, 10 * MIB)
            build, = [s.labels for s in families["arenal_build"].samples if s.labels["pid"] == str(process.pid)]
            self.assertEqual((build["command"], build["version"], build["page_size"]),
                             ("tools_workload", library.version(os.path.realpath(TOOL)), str(os.sysconf("SC_PAGE_SIZE"))))
            self.assertRegex(build["build_id"], "^[0-9a-f]{40}$")
        self.assertNotIn("arenal_class_spans", families)
        classes = self.samples(address, "arenal_class_spans", "?details=1")
        self.assertIn(str(processes[0].pid), {labels["pid"] for labels, _ in classes})

    def test_processes_come_and_go(self):
        with mock.patch.object(found, "SEARCH", 0), mock.patch.object(fleet, "FRESH", 0), mock.patch.object(found, "SEARCH_SHARE", 0):
            everybody = fleet.Fleet(4096)

            def sees(pid):
                return pid in {look.target.pid for look in everybody.look().looks}
            first = self.on_arenal(*WORDS)
            self.await_(lambda: sees(first.pid), "it is not found")
            second = self.on_arenal(*WORDS)
            self.await_(lambda: sees(second.pid), "the second is not found")
            self.stop(first)
            seen = everybody.look()
            self.assertNotIn(first.pid, {look.target.pid for look in seen.looks} | {one.pid for one in seen.failed}, "it has ended")
            self.assertTrue(sees(second.pid))
            # What it executes is another program, with another window.
            program = "import os, sys\nkeep = [bytes(100_000) for i in range(80)]\nprint('ready', flush=True)\n" \
                      "sys.stdin.readline()\nos.execv(sys.argv[1], sys.argv[1:])"
            third = self.on_arenal(sys.executable, "-c", program, *WORDS)
            self.await_(lambda: sees(third.pid), "the third is not found")
            third.stdin.write("\n")
            third.stdin.flush()
            self.await_(lambda: any(look.target.pid == third.pid and look.target.labels["command"] == "tools_workload"
                                    for look in everybody.look().looks), "it is not found again after exec")

    def test_a_look_reads_nothing_of_proc(self):
        """A process that answers costs a question and an answer: what else there is to know of it was read before."""
        process = self.on_arenal(*WORDS)
        everybody = fleet.Fleet(4096)
        self.assertIn(process.pid, {look.target.pid for look in everybody.look().looks})
        self.await_(lambda: not everybody._finder._searches, "it searches for ever")   # pylint: disable=protected-access
        everybody._finder._next = float("inf")      # pylint: disable=protected-access
        with mock.patch.object(fleet, "FRESH", 0), mock.patch.object(fleet, "WAIT", DEADLINE), \
                mock.patch.object(os, "listdir", side_effect=AssertionError):
            def reads():
                with mock.patch.object(facts, "read", wraps=facts.read) as read:
                    self.assertIn(process.pid, {look.target.pid for look in everybody.look().looks})
                    return read.call_count
            self.await_(lambda: not reads(), "each time, something is read")    # who answers late is looked at meanwhile

    def test_without_a_window_and_of_others(self):
        without = self.start([sys.executable, "-B", TOOL, "run", "--set", "window=0", "--", *WORDS], env=environment())
        halted = self.on_arenal(*WORDS)
        _, address = self.serve()
        self.assertIn(halted.pid, self.pids(address))
        self.await_(lambda: self.failed(address)["no_window"] >= 1, "it is not said that one has no window")
        os.kill(halted.pid, signal.SIGSTOP)
        self.await_(lambda: self.failed(address)["stopped"] >= 1, "it is stopped, and nobody says so")
        self.assertNotIn(halted.pid, self.pids(address))
        os.kill(halted.pid, signal.SIGCONT)
        self.await_(lambda: halted.pid in self.pids(address), "it goes on, and nobody sees it")
        _, _, page = self.ask(address, "")
        self.assertRegex(page, rf"tools_workload <span class=\"note\">{without.pid}</span>.*it has no window")
        if not as_nobody():
            return
        tree = self.copy_of_tool((TOOL, "tools/arenal"), (os.path.join(os.path.dirname(TOOL), "lib/arenal"), "tools/lib/arenal"),
                                 (os.path.join(os.path.dirname(TOOL), "../include"), "include"))
        tool = subprocess.Popen([*as_nobody(), sys.executable, "-B", f"{tree}/tools/arenal", "serve", "--listen", "127.0.0.1:0"],
                                stderr=subprocess.PIPE, text=True, env=environment(), cwd="/")
        self.addCleanup(self.stop, tool)
        address = tool.stderr.readline().split()[-1]
        self.await_(lambda: self.failed(address)["not_permitted"] >= 1, "it is not said that some are not permitted")
        self.assertNotIn(halted.pid, self.pids(address))


class Hostile(ServeTest):
    def test_they_change_nothing_for_others(self):
        odd = os.path.join(self.folder, 'a"b\\c\n\x1b[31m')
        os.symlink(WORKLOAD, odd)
        processes = [self.fake_window(mode) for mode in ("silent", "silent", "escape", "short", "order", "unsealed", "version", "answer")]
        ours = [self.on_arenal(*WORDS), self.on_arenal(odd, *WORDS[1:])]
        _, address = self.serve()
        for _ in range(2):
            started = time.monotonic()
            _, _, text = self.ask(address, "metrics?details=1", Accept=openmetrics.CONTENT_TYPE)
            self.assertLess(time.monotonic() - started, SOON)
            self.assertFalse([c for c in text if not c.isprintable() and c != "\n"])
            values = {sample.labels["pid"]: sample.value for family in text_string_to_metric_families(text) for sample in family.samples
                      if sample.name == "arenal_allocated_bytes"}
            for process in ours:
                self.assertGreater(values[str(process.pid)], 10 * MIB)
            time.sleep(fleet.FRESH)
        failed = self.failed(address)
        self.assertGreaterEqual(failed["silent"], 2)
        self.assertGreaterEqual(failed["damaged"], 4)
        status, _, page = self.ask(address, "")
        self.assertEqual(status, 200)
        self.assertFalse([c for c in page if not c.isprintable() and c != "\n"])
        for process in processes:
            self.assertIn(str(process.pid), page)

    def test_histograms_that_are_cut(self):
        """Some of them are there: these are told, and nobody else's is lost."""
        cut, ours = self.fake_window("cut"), self.on_arenal(*WORDS)
        self.assertEqual({str(cut.pid), str(ours.pid)} - self.seconds(self.arenal("stats", str(cut.pid), "--openmetrics").stdout), {str(ours.pid)})
        self.assertNotIn("slow_call", self.arenal("stats", str(cut.pid), "--prometheus").stdout)
        _, address = self.serve()
        status, _, text = self.ask(address, Accept=openmetrics.CONTENT_TYPE)
        self.assertEqual(status, 200, text)
        self.assertLessEqual({str(cut.pid), str(ours.pid)}, self.seconds(text))
        self.assertIn(f'slow_call_duration_seconds_count{{pid="{ours.pid}"', text)
        self.assertNotIn(f'slow_call_duration_seconds_count{{pid="{cut.pid}"', text)

    @staticmethod
    def seconds(text):
        """Of which processes the time of system calls is told."""
        return {sample.labels["pid"] for family in text_string_to_metric_families(text) for sample in family.samples
                if sample.name == "arenal_purge_duration_seconds_count"}

    def test_what_cannot_be_shown_is_one_process(self):
        """Were there another such mistake in the tool."""
        bad, ours = self.on_arenal(*WORDS), self.on_arenal(*WORDS)
        everything, answers = openmetrics.figures.values, endpoint.Endpoint("1", 4096, False, False)

        def values(snapshot):
            if snapshot is of_bad[0]:
                raise KeyError("purge")
            return everything(snapshot)
        looks = self.await_(lambda: {look.target.pid: look.snapshot for look in answers._fleet.look().looks}        # pylint: disable=protected-access
                            if {bad.pid, ours.pid} <= {look.target.pid for look in answers._fleet.look().looks} else None,  # pylint: disable=protected-access
                            "they are not found")
        of_bad = [looks[bad.pid]]
        with mock.patch.object(openmetrics.figures, "values", values), mock.patch.object(fleet, "FRESH", 3600):
            for path in ("/metrics", "/"):
                response = answers.answer(serve.parse(f"GET {path} HTTP/1.0\r\n\r\n".encode()))
                text = response.body if isinstance(response.body, str) else response.body.decode()
                self.assertIn(f'allocated_bytes{{pid="{ours.pid}"' if path == "/metrics" else str(ours.pid), text)
                if path == "/metrics":
                    self.assertNotIn(f'allocated_bytes{{pid="{bad.pid}"', text)
                    self.assertRegex(text, 'scrape_failed{reason="damaged"} [1-9]')

    def test_whose_a_connection_is(self):
        """However many connections there are: the kernel's list of them is not read."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.create_server((host, 0), family=family) as listener, socket.create_connection(listener.getsockname()[:2]) as _, \
                    mock.patch.object(files, "head", side_effect=AssertionError):
                connection, _ = listener.accept()
                with connection:
                    self.assertEqual(origin.who(connection), ("user", os.getuid()))

    def test_one_user_does_not_take_all_places(self):
        """He has as many as there are, and another one gets one all the same, as soon as he comes."""
        many = [self.on_arenal(*WORDS) for _ in range(5)]
        ours = {process.pid for process in many}
        others, all_of_them = set(), found._processes       # pylint: disable=protected-access
        with mock.patch.object(found, "_user", lambda pid: 1 if pid in ours else 2), \
                mock.patch.object(found, "_processes", lambda: [one for one in all_of_them() if one[0] in ours | others]), \
                mock.patch.object(found, "OPENING", DEADLINE), mock.patch.object(found, "MEET", DEADLINE), \
                mock.patch.object(fleet, "WAIT", DEADLINE), mock.patch.object(fleet, "GRACE", DEADLINE), \
                mock.patch.object(found, "SEARCH", 0), mock.patch.object(fleet, "FRESH", 0), mock.patch.object(found, "SEARCH_SHARE", 0):
            everybody = fleet.Fleet(4)
            self.await_(lambda: len(everybody.look().looks) == 4, "not all places are taken")
            other = self.on_arenal(*WORDS)
            others.add(other.pid)
            self.await_(lambda: other.pid in {look.target.pid for look in everybody.look().looks}, "he is left out")
            for _ in range(10):
                seen = everybody.look()
                pids = {look.target.pid for look in seen.looks}
                self.assertIn(other.pid, pids)
                self.assertLessEqual(len(pids), 4)
            self.assertGreaterEqual(len(pids & ours), 2)
            self.await_(lambda: "too_many" in everybody.look().failed.values(), "nobody says that there are too many")

    def test_who_was_silent_is_not_waited_for_again(self):
        with mock.patch.object(fleet, "FRESH", 0):
            for _ in range(3):
                self.fake_window("silent")
            ours, everybody = self.on_arenal(*WORDS), fleet.Fleet(4096)
            everybody.look()
            begin = time.monotonic()
            seen = [everybody.look() for _ in range(5)]
            self.assertLess(time.monotonic() - begin, 5 * fleet.WAIT)
            for one in seen:
                self.assertIn(ours.pid, {look.target.pid for look in one.looks})
                self.assertGreaterEqual(list(one.failed.values()).count("silent"), 3)

    def test_spoilt_windows(self):
        with mock.patch.object(fleet, "FRESH", 0), mock.patch.object(found, "SEARCH", 0), mock.patch.object(found, "FAILED", 0.01), \
                mock.patch.object(found, "COST_SHARE", 0):
            ours = self.on_arenal(*WORDS)
            for seed in range(4):
                self.fake_window("spoilt", str(seed))
            everybody = fleet.Fleet(4096)
            for _ in range(50):
                seen = everybody.look()
                self.assertIn(ours.pid, {look.target.pid for look in seen.looks})
                lines = openmetrics.families([openmetrics.process(look.snapshot, look.target.labels, look.target.window.library)
                                              for look in seen.looks], False)
                self.assertFalse([c for line in lines for c in line if not c.isprintable()])

    def test_a_file_that_never_answers_holds_up_nobody(self):
        """As those may that are in a file system of a process's own: here, what is read of the map waits."""
        ours, begun = self.on_arenal(*WORDS), []
        real, without = found.proc.Process, self.start([sys.executable, "-B", TOOL, "run", "--set", "window=0", "--", *WORDS], env=environment())

        def waits(pid, *more):
            if pid == without.pid:
                begun.append(pid)
                time.sleep(3600)
            return real(pid, *more)
        with mock.patch.object(found.proc, "Process", waits), mock.patch.object(found, "SEARCH", 0), mock.patch.object(fleet, "FRESH", 0):
            everybody = fleet.Fleet(4096)
            self.await_(lambda: ours.pid in {look.target.pid for look in everybody.look().looks} and begun, "the others are not found")
            self.await_(lambda: everybody.look() and without.pid in everybody._finder._left, "it is not left behind")  # pylint: disable=protected-access
            other = self.on_arenal(*WORDS)
            everybody._finder._next = 0             # pylint: disable=protected-access
            self.await_(lambda: other.pid in {look.target.pid for look in everybody.look().looks}, "nobody is found any more")
            self.assertEqual(len(begun), 1, "it is asked again and again")


if __name__ == "__main__":
    unittest.main()
