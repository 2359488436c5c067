"""A web server's clients: every request is answered, and each answer is the one expected."""

import concurrent.futures
import hashlib
import http.client
import random
import re

SECONDS = 60           # for an answer

SIZES = {"empty": 0, "small": 800, "large": 300_000}


def content(name):
    rng = random.Random(name)
    return "".join(rng.choices("etaoin shrdlu\n", k=SIZES[name])).encode()


def fill(run, folder):
    for name in SIZES:
        run.write(f"{folder}/{name}", content(name))


def get(port, path, connection=None, headers=None, method="GET"):
    """The status and body of one answer."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    own.request(method, path, headers=headers or {})
    answer = own.getresponse()
    body = answer.read()
    if not connection:
        own.close()
    return answer.status, body


def get_many(port, paths, times=50, clients=8, headers=None):
    """Each client asks for all paths, so many times, on connections that it keeps or opens anew. All answers to a path must
    be the same good one. Returns a digest of each."""
    def work(number):
        found = {}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        for turn in range(times):
            for path in paths:
                if (turn + number) % 10 == 0:
                    connection.close()
                status, body = get(port, path, connection, headers)
                answer = f"{path} {status} {len(body)} {hashlib.sha256(body).hexdigest()[:16]}"
                if found.setdefault(path, answer) != answer or status != 200:
                    raise AssertionError(f"turn {turn}: {answer}, before: {found[path]}: {body[:200]!r}")
        connection.close()
        return "\n".join(found.values())
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = set(pool.map(work, range(clients)))
    if len(answers) != 1:
        raise AssertionError(f"clients do not agree: {answers}")
    return answers.pop()


def load(run, port, path, seconds=1):
    """Runs wrk, in the same mode; how much it does is nobody's business, but nothing may be lost."""
    memory = run.memory
    done = run.command("wrk", "-t2", "-c40", f"-d{seconds}s", "--timeout", "30s", "-H", "Accept-Encoding: gzip",
                       f"http://127.0.0.1:{port}/{path}")
    run.memory = memory         # the server's counts
    if "Non-2xx" in done.out or "Socket errors" in done.out or int(re.search(r"(\d+) requests in", done.out).group(1)) < 20:
        raise AssertionError(f"requests are lost: {done.out}")
