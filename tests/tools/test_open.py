"""Tests of `arenal ctl PID open`: a window in a process that has none, whatever it is doing, which goes on as if nobody had come by."""

import errno
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import time
import unittest
from unittest import mock

from open_support import CLOSED, HANDLERS, HERE, PARTS, SLEEPS, STACKS, WORKS, OpenTest
from support import LIBRARY, TOOL, environment

from arenal import asleep, at_work, descriptors, door, facts, files, ptrace, slept, window_file
from arenal.errors import Failure


@unittest.skipUnless(HERE, "processes that sleep are woken on x86-64 only")
class Doing(OpenTest):
    def goes_on(self, what, threads=0, **changes):
        with self.subTest(what=what, threads=threads, **changes):
            process = self.sleeper(what, threads, **changes)
            self.opens(process)
            self.is_unharmed(process, what)

    def test_by_the_command(self):
        process = self.sleeper("epoll")
        self.opens(process, tool=True)
        self.assertEqual(self.arenal("stats", str(process.pid)).returncode, 0)
        self.is_unharmed(process, "epoll")

    def test_linked_into_the_program(self):
        process = self.start([os.environ["TEST_PROFILED_STATIC"], "wait"])
        self.opens(process, 0)
        print(file=process.stdin, flush=True)
        self.assertEqual(process.stdout.readline(), "done\n")

    def test_another_malloc_in_front(self):
        """Its locks are not ours to know: it hears a knock only."""
        process = self.sleeper("read", before=f"{os.environ['TEST_FRONT']}:")
        self.assert_sentence(self.arenal("ctl", str(process.pid), "open"), "front_malloc", "a malloc of its own")
        self.is_unharmed(process, "read")
        process = self.sleeper("threads", before=f"{os.environ['TEST_FRONT']}:")
        self.opens(process)
        self.is_unharmed(process, "threads")

    def test_another_malloc_behind(self):
        """Nobody calls it, as redis-server's libjemalloc."""
        for what in ("read", "loop"):
            self.goes_on(what, LD_PRELOAD=f"{LIBRARY}:{os.environ['TEST_FRONT']}")

    def test_asleep_in_a_system_call(self):
        for what in SLEEPS:
            self.goes_on(what)

    def test_asleep_beside_other_threads(self):
        for what in ("read", "epoll", "sigsuspend", "futex"):
            self.goes_on(what, 3)

    def test_the_rest_of_a_sleep(self):
        process = self.sleeper("nanosleep")
        started = time.monotonic()
        self.opens(process)
        passed = time.monotonic() - started
        slept = float(self.is_unharmed(process, "nanosleep"))
        self.assertGreaterEqual(slept, 1.5)
        if passed < 1.5:
            self.assertLess(slept, 1.5 + passed * 0.8 + 0.1)    # it did not begin anew

    def test_at_work(self):
        """It hears the knock, or one that sleeps beside it is woken."""
        self.goes_on("threads")
        self.goes_on("loop", 3)
        self.goes_on("malloc", 3)

    def test_in_each_mode(self):
        for changes in ({"ARENAL_HARDEN": "1"}, {"ARENAL_GUARD_SAMPLE": "1"}, {"ARENAL_CONF": "profile:1"}):
            for what in ("epoll", "threads"):
                self.goes_on(what, **changes)

    def is_left_alone(self, what, words, most=0):
        """Nobody is sent through, and no thread held for finding that out."""
        with self.subTest(what=what):
            process = self.sleeper(what)
            with mock.patch.object(ptrace, "Stopped", side_effect=ptrace.Stopped) as stopped, mock.patch.object(door, "LIMIT", 0.5), \
                    mock.patch.object(door, "WAKING", 0.5), self.assertRaisesRegex(Failure, f"has no window yet.*{words}.*was asked"):
                door.open_window(process.pid)
            self.assertLessEqual(stopped.call_count, most)
            self.assertNotIn(window_file.NAME, window_file.threads_of_arenal(process.pid))
            self.is_unharmed(process, what)

    def test_at_work_alone(self):
        """Nobody sleeps, or allocates slowly: a thread is interrupted where it holds nothing."""
        for what in WORKS:
            self.goes_on(what)
        self.goes_on("loop", ARENAL_HARDEN="1")

    @mock.patch.object(at_work, "COMPUTED", 0)
    def test_in_the_middle_of_something(self):
        """Of a handler, of libc's: the thread is interrupted, finds that out, and goes on as it was."""
        often = 10 ** 6
        self.is_left_alone("handler-loop", "in the middle of something", often)
        self.is_left_alone("qsort", "in the middle of something", often)
        self.is_left_alone("coroutine-loop", "a stack that is not its own", often)

    def test_in_a_long_system_call(self):
        """The kernel says of it what it says of a loop: that it runs. A stop would end the call early."""
        self.is_left_alone("zeros", "makes system calls")

    @mock.patch.object(at_work, "COMPUTED", 0)
    def test_with_a_shadow_stack(self):
        """As the kernel says from Linux 6.6 on. Who goes on elsewhere needs another one."""
        head = files.head

        def told(path, *limit):
            found = head(path, *limit)
            return found + b"x86_Thread_features:\tshstk\n" if path.endswith("/status") and "/task/" in path else found
        with mock.patch.object(files, "head", told):
            for what in ("read", "loop"):
                self.is_left_alone(what, "a shadow stack")

    @mock.patch.object(at_work, "COMPUTED", 0)
    def test_with_an_older_libc(self):
        """Its library says that no thread may be interrupted: nobody is stopped."""
        process = self.sleeper("loop")
        with door._Now(process.pid) as now:                     # pylint: disable=protected-access
            place = door._find(now)[1]                          # pylint: disable=protected-access
            self.assertNotEqual(now.read(place + door.RECORD_AT, 8), bytes(8))
            now.write(place + door.RECORD_AT, bytes(8))
        with mock.patch.object(ptrace, "Stopped", side_effect=AssertionError), mock.patch.object(door, "LIMIT", 0.5), \
                self.assertRaisesRegex(Failure, "has no window yet.*glibc 2.35"):
            door.open_window(process.pid)
        self.is_unharmed(process, "loop")

    @mock.patch.object(at_work, "COMPUTED", 0)
    def test_with_many_mappings(self):
        """Which are read while it is held."""
        with mock.patch.object(asleep, "MAPPINGS_LIMIT", 3):
            for what in ("read", "loop"):
                self.is_left_alone(what, "too many mappings")

    @mock.patch.object(at_work, "COMPUTED", 0)
    def test_interrupted_in_a_system_call_once(self):
        """Which may just have begun. Such a thread is not stopped again."""
        registers = ptrace.Stopped.registers
        with mock.patch.object(ptrace.Stopped, "registers", lambda held: {**registers(held), "call": 1}):
            self.is_left_alone("loop", "makes system calls", 1)

    @mock.patch.object(at_work, "COMPUTED", 0)
    def test_who_may_not_be_interrupted(self):
        """In a restartable sequence, with system calls that go to a handler, with thread-local variables of his own: nothing is done to him."""
        for name, value, words in (("restarted_sequence", lambda held: held.registers()["rsp"] & ~7, "begins anew"),
                                   ("dispatches", lambda held: True, "a handler of its own")):
            with mock.patch.object(ptrace.Stopped, name, value), mock.patch.object(ptrace.Stopped, "set_registers", side_effect=AssertionError):
                self.is_left_alone("loop", words, 10 ** 6)
        with mock.patch.object(ptrace.Stopped, "restarted_sequence", side_effect=OSError), \
                mock.patch.object(ptrace.Stopped, "set_registers", side_effect=AssertionError):
            self.is_left_alone("loop", "Linux 5.13", 10 ** 6)
        process = self.sleeper("loop")
        with mock.patch.object(at_work, "COMPUTED", 1):
            self.await_(lambda: self.computes(process.pid), "it does not compute")
        with ptrace.Stopped(process.pid, 10) as held:
            registers = {**held.registers(), "fs_base": held.registers()["rsp"] & ~7}
            with door._Now(process.pid) as now, self.assertRaisesRegex(asleep.Unsafe, "thread-local"):     # pylint: disable=protected-access
                at_work.check_place(now, held, registers)
        self.is_unharmed(process, "loop")

    @staticmethod
    def computes(pid):
        try:
            return at_work.threads(pid, [pid])
        except at_work.AtWork:
            return []

    def test_in_the_handler_of_a_signal(self):
        """That may have interrupted malloc."""
        for what in HANDLERS:
            self.is_left_alone(what, "may be in the handler of a signal")
        process = self.sleeper("handler")
        self.assert_sentence(self.arenal("ctl", str(process.pid), "open"), "may be in the handler of a signal")
        self.is_unharmed(process, "handler")

    def test_on_another_stack(self):
        """What that has interrupted is on the first one; and right below it may be anything."""
        self.is_left_alone("handler-stack", "a stack that is not its own")
        self.is_left_alone("coroutine", "a stack that is not its own")

    def test_a_timer_is_not_put_off(self):
        """Who wakes now and then is held when he has just fallen asleep; who does not, is left alone."""
        with mock.patch.object(slept, "look", lambda *_: None):         # as where the kernel does not say when it fell asleep
            self.is_left_alone("epoll-timed", "would begin anew")
            for _ in range(5):
                self.goes_on("epoll-ticks")
            self.goes_on("epoll-ticks", 3)
        for _ in range(5):
            self.goes_on("epoll-ticks")
        self.goes_on("epoll-timed")

    def test_the_time_of_a_descriptor(self):
        """Of a socket (SO_RCVTIMEO) or a terminal: it would begin anew, and cannot be shortened. Such a thread is left alone, unless it has just
        fallen asleep, and others are chosen."""
        for what in ("recv-lasts", "terminal-lasts"):
            for others in (0, 2):
                with self.subTest(what=what, others=others), mock.patch.object(door, "LIMIT", 0.5 + others), mock.patch.object(door, "WAKING", 0.5), \
                        mock.patch.object(ptrace, "Stopped", side_effect=ptrace.Stopped) as stopped:
                    process = self.sleeper(what, others)
                    self.await_(lambda process=process: facts.thread_state(process.pid, process.pid) == "S", "it does not fall asleep")
                    if others:
                        self.opens(process)
                    else:
                        self.assertRaisesRegex(Failure, "would begin anew", door.open_window, process.pid)
                    self.assertNotIn(process.pid, [call[0][0] for call in stopped.call_args_list])
                    self.assertIsNone(process.poll())
        self.goes_on("recv-ticks")

    def test_what_has_come_so_far(self):
        """Who waits for more than one byte, or event, and has one."""
        for what in PARTS:
            self.is_left_alone(what, "when it is stopped")

    def test_a_descriptor_that_was_closed_meanwhile(self):
        """The thread that waits for it does not notice; after a stop, it would."""
        for what in CLOSED:
            with self.subTest(what=what):
                process = self.sleeper(what)
                self.await_(lambda process=process: facts.thread_state(process.pid, process.pid) == "S", "it does not fall asleep")
                process.stdin.write("x")
                process.stdin.flush()
                self.await_(lambda process=process: len(os.listdir(f"/proc/{process.pid}/task")) == 1, "the other thread does not end")
                with mock.patch.object(ptrace, "Stopped", side_effect=AssertionError), mock.patch.object(door, "LIMIT", 0.5), \
                        self.assertRaisesRegex(Failure, "has been closed meanwhile"):
                    door.open_window(process.pid)
                self.is_unharmed(process, what)

    def test_a_terminal_that_was_hung_up(self):
        """Between two looks at it."""
        there, here = os.openpty()
        self.addCleanup(os.close, there)
        self.addCleanup(os.close, here)
        with mock.patch.object(descriptors.termios, "tcgetattr", side_effect=descriptors.termios.error(errno.EIO, "Input/output error")), \
                self.assertRaises(OSError):
            descriptors.look(os.getpid(), os.getpid(), here)

    @unittest.skipUnless(os.path.exists("/proc/self/sched"), "this kernel does not say when a thread fell asleep (/proc/PID/sched)")
    def test_the_rest_of_a_time(self):
        """Long waits end when they would have ended: neither earlier, nor as late as if they had begun anew."""
        names = [f"{what}-lasts" for what in ("epoll", "epoll_pwait2", "sigtimedwait", "semtimedop")]
        processes = [self.sleeper(name) for name in names]
        begun = time.monotonic()
        for process in processes:
            self.await_(lambda process=process: facts.thread_state(process.pid, process.pid) == "S", "it does not fall asleep")
        self.await_(lambda: time.monotonic() - begun > 3, "the clock stands still")
        for process, name in zip(processes, names):
            self.opens(process)
        for process, name in zip(processes, names):
            lasted = float(self.is_unharmed(process, name))
            self.assertGreaterEqual(lasted, 6)
            self.assertLess(lasted, 8.9, name)

    def test_held_only_when_it_has_just_fallen_asleep(self):
        process = self.sleeper("epoll-ticks")
        late = []
        with door._Now(process.pid) as now:                     # pylint: disable=protected-access
            place = door._find(now)[1]                          # pylint: disable=protected-access
            slept = asleep.switches

            def hesitates(pid, thread):
                found = slept(pid, thread)
                time.sleep(2 * door.FRESH)
                return found
            with mock.patch.object(asleep, "switches", hesitates), mock.patch.object(door, "_try", side_effect=lambda *_, **__: late.append(1)):
                self.assertFalse(door._send_as_it_falls_asleep(now, [process.pid], place, set()))       # pylint: disable=protected-access
        self.assertEqual(late, [])
        self.is_unharmed(process, "epoll-ticks")

    def test_held_once(self):
        """However often it is looked at."""
        for what in ("epoll", "read"):
            process = self.sleeper(what, 2)
            held = []

            def stopped(thread, seconds, stop=ptrace.Stopped, held=held):
                held.append(thread)
                raise ptrace.Busy("not now") if len(held) % 2 else asleep.Unsafe("not here")
            with mock.patch.object(ptrace, "Stopped", stopped), mock.patch.object(door, "LIMIT", 0.5), self.assertRaises(Failure):
                door.open_window(process.pid)
            self.assertEqual(sorted(held), sorted(map(int, os.listdir(f"/proc/{process.pid}/task"))))
            self.opens(process)
            self.is_unharmed(process, what)

    def test_before_the_first_malloc(self):
        """It goes through, and the heap is started by the program alone, which has a window from then on."""
        process = self.sleeper("first", ARENAL_LIBRARY=None)  # told nothing
        done = self.arenal("ctl", str(process.pid), "open")
        self.assert_sentence(done, "has not allocated yet", "as soon as it allocates")
        self.assertEqual(done.returncode, 1)
        self.assertIsNone(process.poll())
        self.assertEqual(len(os.listdir(f"/proc/{process.pid}/task")), 1)
        self.is_unharmed(process, "first")

    def execs(self, process):
        """One thread of `exec` makes another program of it, which has no Arenal."""
        process.stdin.write("x")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), "ready\n")

    def test_another_program_before_the_knock(self):
        """What was read was the earlier one's: nothing is written to the later one, which may have more rights."""
        process = self.sleeper("exec")
        known = int(process.stdout.readline(), 16)
        with door._Now(process.pid) as now:                     # pylint: disable=protected-access
            place = door._find(now)[1]                          # pylint: disable=protected-access
            now.write(place + 24, known.to_bytes(8, "little"))
        check = door._check_answer                              # pylint: disable=protected-access

        def checked(*arguments):
            check(*arguments)
            self.execs(process)
        with mock.patch.object(door, "_check_answer", checked), self.assertRaisesRegex(Failure, "another program by now"):
            door.open_window(process.pid)
        self.is_unharmed(process, "known")

    def test_another_program_before_one_is_sent(self):
        process = self.sleeper("exec")
        known = int(process.stdout.readline(), 16)
        check = asleep.check_place
        held = []

        def checked(now, thread, registers, fresh=False):
            check(now, thread, registers, fresh)
            if "fs_base" in registers:                          # it is held
                held.append(thread)
                self.execs(process)
                registers["rsp"] = known + 4096
        with mock.patch.object(asleep, "check_place", checked), self.assertRaises(Failure):
            door.open_window(process.pid)
        self.assertEqual(len(held), 1)
        self.is_unharmed(process, "known")

    def test_another_program_before_the_memory_is_opened(self):
        """A thread is held; the memory that is opened then is another program's, in which something looks like a door."""
        process = self.sleeper("exec")
        known = int(process.stdout.readline(), 16)
        read = door._door                                       # pylint: disable=protected-access
        pass_ = ptrace.Stopped.registers
        asked = []

        def registers(held):
            found = pass_(held)
            if not asked:
                self.execs(process)
            asked.append(held.thread)
            return found
        with mock.patch.object(ptrace.Stopped, "registers", registers), \
                mock.patch.object(door, "_door", lambda now, place: read(now, place) if not asked else
                                  door.DOOR.unpack(door.DOOR.pack(door.MAGIC, door.VERSION, 0, place, known, known, known))), \
                self.assertRaises(Failure):
            door.open_window(process.pid)
        self.assertEqual(len(asked), 1)
        self.is_unharmed(process, "known")

    def test_a_process_that_ends_meanwhile(self):
        process = self.sleeper("read")
        with door._Now(process.pid) as now:                     # pylint: disable=protected-access
            place = door._find(now)[1]                          # pylint: disable=protected-access
            process.kill()
            process.wait()
            with self.assertRaisesRegex(Failure, "has ended"):
                now.write(place + 12, bytes(4))
        with self.assertRaisesRegex(Failure, "no process"):
            door.open_window(process.pid)

    def test_a_child_by_vfork(self):
        """It has its parent's memory. Nothing is started in it."""
        process = self.sleeper("vfork")
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            child = int(file.read())
        self.assert_sentence(self.arenal("ctl", str(child), "open"), "memory of another process")
        self.assertEqual(len(os.listdir(f"/proc/{child}/task")), 1)
        self.is_unharmed(process, "vfork")

    @mock.patch.object(at_work, "COMPUTED", 0)      # which takes its time
    def test_again_and_again(self):
        """Threads are sent through a hundred times, those that have a window as well."""
        for what, often, threads in (("threads", 100, 2), ("loop", 100, 2), ("read", 30, 2), ("epoll", 30, 2), ("registers", 30, 2),
                                     ("registers-loop", 100, 0), ("loops", 100, 0), ("malloc", 10, 0)):
            with self.subTest(what=what, threads=threads):
                process = self.sleeper(what, threads)
                self.assertFalse(door.open_window(process.pid))
                with door._Now(process.pid) as now:             # pylint: disable=protected-access
                    place = door._find(now)[1]                  # pylint: disable=protected-access
                passed, until = 0, time.monotonic() + 15
                while passed < often and time.monotonic() < until:
                    passed += door._send_through(process.pid, place, set())[0]  # pylint: disable=protected-access
                self.assertEqual(passed, often)
                self.assertTrue(door.open_window(process.pid))
                self.assertIsNone(process.poll(), process.stderr)
                self.is_unharmed(process, what)

    @mock.patch.object(at_work, "COMPUTED", 0)
    @mock.patch.object(asleep, "ROOM", 0)
    @mock.patch.object(asleep, "RED_ZONE", 0)
    def test_nothing_is_written_to_the_stack(self):
        """Of a thread that computes: nobody knows what its stack pointer points to."""
        for what in STACKS:
            with self.subTest(what=what):
                process = self.sleeper(what)
                with door._Now(process.pid) as now:             # pylint: disable=protected-access
                    place = door._find(now)[1]                  # pylint: disable=protected-access
                with mock.patch.object(ptrace.Stopped, "set_registers", autospec=True, side_effect=ptrace.Stopped.set_registers) as sent:
                    self.await_(lambda place=place, process=process, sent=sent: sent.call_count >= 10 or
                                door._send_through(process.pid, place, set()) and None, "nobody is sent")           # pylint: disable=protected-access
                self.is_unharmed(process, what)

    @mock.patch.object(at_work, "COMPUTED", 0)
    def test_without_memory(self):
        """Where the kernel has none for the door's stack, the thread goes back as it was."""
        process = self.sleeper("registers-loop")
        with door._Now(process.pid) as now:                     # pylint: disable=protected-access
            place = door._find(now)[1]                          # pylint: disable=protected-access
        before = resource.prlimit(process.pid, resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
        with mock.patch.object(ptrace.Stopped, "set_registers", autospec=True, side_effect=ptrace.Stopped.set_registers) as sent, \
                mock.patch.object(door, "PASSED", 0.01):
            self.await_(lambda: door._send_through(process.pid, place, set()) == (True, None) or sent.call_count >= 10, "nobody is sent")   # pylint: disable=protected-access
        self.assertNotIn(window_file.NAME, window_file.threads_of_arenal(process.pid))
        resource.prlimit(process.pid, resource.RLIMIT_AS, before)
        self.opens(process)
        self.is_unharmed(process, "registers-loop")

    @mock.patch.object(at_work, "COMPUTED", 0)
    def test_the_tool_is_killed_in_the_middle(self):
        """Forty times, and, on a busy machine, later and later, until one came so far that there is a window."""
        source = random.Random(1)
        for what, threads in (("read", 0), ("loop", 2), ("registers", 0), ("registers-loop", 0)):
            process = self.sleeper(what, threads)
            with door._Now(process.pid) as now:             # pylint: disable=protected-access
                place = door._find(now)[1]                  # pylint: disable=protected-access

            def kills(longest, pid=process.pid, place=place):
                tool = os.fork()
                if tool == 0:
                    try:
                        while True:
                            door._send_through(pid, place, set())           # pylint: disable=protected-access
                    finally:
                        os._exit(1)                         # pylint: disable=protected-access
                time.sleep(source.random() * longest)
                os.kill(tool, signal.SIGKILL)
                self.assertEqual(os.waitpid(tool, 0)[1], signal.SIGKILL)
                return window_file.NAME in window_file.threads_of_arenal(pid)
            for _ in range(40):
                kills(1 / 40)
            if what == "registers-loop":        # whom nobody may have reached in so short a time
                door.open_window(process.pid)
            later = itertools.count(1)
            self.await_(lambda kills=kills, later=later: kills(next(later) / 40), "no window")
            self.is_unharmed(process, what)

    def test_the_process_dies_meanwhile(self):
        source = random.Random(2)
        for what in ("read", "loop", "malloc", "threads"):
            process = self.sleeper(what)
            tool = subprocess.Popen([sys.executable, "-B", TOOL, "ctl", str(process.pid), "open"], env=environment(), stderr=subprocess.PIPE,
                                    text=True)
            self.addCleanup(self.stop, tool)
            time.sleep(source.random() / 4)
            process.kill()
            process.wait()
            errors = tool.communicate(timeout=30)[1]
            self.assertIn(tool.returncode, (0, 1))
            self.assertNotIn("Traceback", errors)


if __name__ == "__main__":
    unittest.main()
