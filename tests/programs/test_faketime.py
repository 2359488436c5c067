"""faketime: a library that answers for libc what the time is, and allocates when it does."""

from support import ProgramTest, main

SCRIPT = r"""
import datetime, threading, time
print(datetime.datetime.now().strftime("%Y-%m-%d"))
def work():
    for n in range(300):
        blocks = [bytes(n * 10) for _ in range(40)]
        assert time.time() < 1.3e9
        time.monotonic()
    big = [bytes(1 << 20) for _ in range(40)]
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
time.sleep(0.01)
print(time.strftime("%Y-%m-%d", time.gmtime()))
"""


class Faketime(ProgramTest):
    needs = ("faketime", "/usr/bin/python3")

    def work(self, run):
        script = run.write("work.py", SCRIPT)
        fake = ["faketime", "-f", "@2008-12-24 08:15:42"]
        told = [run.command(*fake, "date", "+%Y-%m-%d", seconds=60).out]
        for _ in range(3):
            told.append(run.command(*fake, "/usr/bin/python3", "-B", script, seconds=60).out)
            told.append(run.command(*fake, "perl", "-e", 'my @a = map { "x" x $_ } 1 .. 3000; print scalar(gmtime) =~ /2008/ ? 1 : 0',
                                    seconds=60).out)
        return "\n".join(told)


if __name__ == "__main__":
    main()
