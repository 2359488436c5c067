"""uwsgi: workers by fork with threads, under a limit that it sets on its own address space."""

import os

import web
from processes import children, wait_for
from support import ProgramTest, main

APPLICATION = """
import hashlib
def application(env, start_response):
    n = int(env["PATH_INFO"].split("-")[-1])
    parts = [hashlib.md5(str(i * n).encode()).hexdigest() for i in range(300)]
    big = bytearray(n * 1000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join(parts).encode(), bytes([n % 256]) * n]
"""


class Uwsgi(ProgramTest):
    package = "uwsgi-core"
    needs = ("uwsgi-core", "/usr/lib/uwsgi/plugins/python3*_plugin.so")

    def work(self, run):
        run.write("work.py", APPLICATION)
        user = ["--uid", "nobody", "--gid", "nogroup"] if os.getuid() == 0 else []
        told = []
        for limit in "256", "512":
            server = run.server(lambda port, limit=limit: [
                "uwsgi-core", "--plugin", "python3", "--http-socket", f"127.0.0.1:{port}", "--master", "--die-on-term",
                "--processes", "2", "--threads", "3", "--limit-as", limit, "--reload-on-as", "240", "--chdir", run.folder,
                "--module", "work", "--need-app", "--thunder-lock", *user])
            wait_for(lambda s=server: len(children(s.pid)) >= 2, "uwsgi to start its workers")
            told.append(web.get_many(server.port, [f"/{kind}-{n}" for n in range(0, 1000, 99) for kind in "ab"], times=10))
            run.measure(server)
            run.stop(server, None)
            log = "".join(text for _, text in run.logs())
            told += [words for words in ("MemoryError", "respawn") if words in log]
        return "\n".join(told)


if __name__ == "__main__":
    main()
