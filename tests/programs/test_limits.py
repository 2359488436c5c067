"""Programs under a limit: of address space, by ulimit -v of bash, and resource.setrlimit of Python, before and after they have
allocated.
They must get as far as they get without Arenal."""

import re

from support import ProgramTest, main

BASH = r"""
[ "$1" = before ] || ulimit -v "$2"
words=()
for ((i = 0; i < 20000; i++)); do words+=("word $i of many"); done
echo "${#words[@]}"
for ((i = 0; i < 20; i++)); do (x=$(printf '%*s' 20000 '' | tr ' ' x); echo ${#x}); done | sort | uniq -c
printf '%s\n' "${words[@]}" | sort -r | head -2
"""
PYTHON = r"""
import resource, sys, threading
first = [bytes(100) for _ in range(int(sys.argv[2]))]
limit = int(sys.argv[1]) << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
blocks = [bytes(size) for size in range(1, 4000) for _ in range(2)]
large = bytearray(8 << 20)
found = []
threads = [threading.Thread(target=lambda: found.append(len([bytes(n) for n in range(3000)]))) for _ in range(1)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(blocks), len(large), found)
count = 0
try:
    while True:
        blocks.append(bytearray(1 << 20)); count += 1
except MemoryError:
    del blocks[-8:]
    print("refused", len(bytearray(1 << 20)))
print(count, file=sys.stderr)
"""


class Limits(ProgramTest):
    package = "bash"
    needs = ("bash", "/usr/bin/python3")

    def work(self, run):
        told = [run.command("bash", "-c", BASH, "bash", "inside", str(limit << 10)).out for limit in (128, 400)]
        # What hardened mode and guarded blocks take of memory is beyond so small a limit.
        small = "20" if run.mode in ("control", "plain") else "128"
        script = run.write("work.sh", BASH)
        told.append(run.command("bash", "-c", f"ulimit -v {small}000; exec bash {script} before").out)
        script = run.write("limit.py", PYTHON)
        for limit in 200, 400:
            for before in 0, 100_000:
                done = run.command("/usr/bin/python3", "-B", script, str(limit), str(before))
                told.append(done.out)
                got = int(re.findall(r"^\d+$", done.err, re.M)[-1])
                # Megabytes that were to be had: no fewer than nine tenths of the limit beside the program itself.
                told.append(f"enough of {limit}" if got > (limit - 120) * 0.8 else f"only {got} of {limit} MB")
        run.memory = 0                      # it was the limit
        return "\n".join(told)


if __name__ == "__main__":
    main()
