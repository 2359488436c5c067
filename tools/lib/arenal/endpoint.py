"""What `arenal serve` answers, by path."""

import os
import resource
import socket
import threading
from collections import Counter

from arenal import facts, index_page, openmetrics
from arenal.fleet import Fleet
from arenal.found import REASONS
from arenal.remote_profile import Profiles
from arenal.serve import Response, refusal

PROFILES = ("/debug/pprof/heap", "/debug/pprof/allocs")


def _shown(seen, show):
    """show(seen). Should it fail for what a process says in its window, that process has failed, and all others are shown."""
    try:
        return show(seen)
    except Exception:                           # pylint: disable=broad-except
        good, failed = [], dict(seen.failed)
        for look in seen.looks:
            try:
                show(seen._replace(looks=[look]))
                good.append(look)
            except Exception:                   # pylint: disable=broad-except
                failed[look.target] = "damaged"
        return show(seen._replace(looks=good, failed=failed))


class Endpoint:
    def __init__(self, version, most, remote, profiles):
        self._version, self._remote = version, remote
        self._fleet, self._profiles = Fleet(most), Profiles() if profiles else None
        self._turn, self._texts = threading.Lock(), {}      # texts of what was seen last, by form
        self._names = {"localhost", socket.gethostname().lower()}

    def end(self):
        if self._profiles:
            self._profiles.end()

    def is_slow(self, request):
        return request.path in PROFILES

    def answer(self, request):
        problem = self._problem(request)
        if problem:
            return refusal(403, problem)
        if request.path == "/metrics":
            return self._metrics(request)
        if request.path == "/":
            return _shown(self._fleet.look(), lambda seen: index_page.page(seen, self._version, self._profiles is not None))
        if request.path == "/healthz":
            return Response("ok\n")
        if request.path in PROFILES and self._profiles:
            return self._profiles.answer(request, self._fleet.look(), request.path.endswith("allocs"))
        if request.path in PROFILES:
            return refusal(403, "there are no profiles here: it was started with --no-profiles")
        return refusal(404, "there is no such page: / has links to those that there are")

    def _problem(self, request):
        """Pages of others in a browser of this machine must not read what only this machine may (by a name of theirs that they let lead here),
        nor start anything."""
        if request.path in PROFILES and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "a page of somebody else asks for a profile"
        host = request.headers.get("host", "localhost").lower()
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if self._remote or not request.loopback or name in self._names or name == "::1" or name.startswith("127.") and name.replace(".", "").isdigit():
            return None
        return f"this is not {host}: ask for localhost"

    # Metrics

    def _metrics(self, request):
        accept = request.headers.get("accept", "")
        old = "application/openmetrics-text" not in accept
        details = request.query.get("details", "0") not in ("", "0")
        with self._turn:
            seen = self._fleet.look()
            made = self._texts.get((old, details))
            if made is None or made[0] is not seen:
                made = self._texts[old, details] = seen, _shown(seen, lambda seen: self._text(seen, old, details)).encode()
        return Response(made[1], openmetrics.OLD_CONTENT_TYPE if old else openmetrics.CONTENT_TYPE)

    def _text(self, seen, old, details):
        processes = [openmetrics.process(look.snapshot, look.target.labels, look.target.window.library, look.target.build_id)
                     for look in seen.looks]
        return openmetrics.finished(openmetrics.families(processes, old, details) + self._own(seen, old), old)

    def _own(self, seen, old):
        """About the look itself."""
        failed = Counter(seen.failed.values())
        used = resource.getrusage(resource.RUSAGE_SELF)
        lines = []
        for family in (
                ("processes", "gauge", "", "Processes on Arenal that have answered.", [("", len(seen.looks))]),
                ("scrape_failed", "gauge", "", "Processes on Arenal that have not, and why.",
                 [(openmetrics.labels(reason=reason), failed.get(reason, 0)) for reason in REASONS]),
                ("scrape_seconds", "gauge", "seconds", "What it took to ask all of them.", [("", f"{seen.seconds:.6f}")]),
                ("serve", "info", "", "Who answers this.", [(openmetrics.labels(version=self._version), 1)]),
                ("serve_cpu_seconds", "counter", "seconds", "Time of a processor that arenal serve took.",
                 [("", f"{used.ru_utime + used.ru_stime:.3f}")]),
                ("serve_resident_bytes", "gauge", "bytes", "Memory that arenal serve has.",
                 [("", facts.status(os.getpid()).get("VmRSS", 0) * 1024)])):
            lines += openmetrics.family(*family, old)
        return lines
