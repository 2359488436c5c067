"""BIND: zones of its own, transfers, and reloads under load."""

import signal

import dns
from support import ProgramTest, main

CONFIGURATION = """
options {{
    directory "{folder}"; pid-file "{folder}/named.pid"; session-keyfile "{folder}/session.key"; recursion no;
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; dnssec-validation no; notify no; minimal-responses yes;
    managed-keys-directory "{folder}"; lock-file none; allow-transfer {{ any; }};
}};
controls {{ }};
zone "example.test" {{ type master; file "{folder}/zone"; }};
zone "other.test" {{ type master; file "{folder}/zone"; }};
"""


class Bind9(ProgramTest):
    needs = ("named",)

    def work(self, run):
        zone = "$TTL 60\n@ IN SOA ns hostmaster 1 60 60 600 60\n@ IN NS ns\nns IN A 127.0.0.1\n"
        zone += "".join(f"host{n} IN A 10.0.{n // 256}.{n % 256}\nhost{n} IN TXT \"{'t' * (n % 200)}\"\n" for n in range(3000))
        run.write("zone", zone)

        def command(port):
            path = run.write("named.conf", CONFIGURATION.format(folder=run.folder, port=port))
            return ["named", "-f", "-n", "4", "-c", path, "-L", run.path("named.log")]
        server = run.server(command, lambda port: all(dns.answers(port, f"host1.{zone}.test")
                                                       for zone in ("example", "other")))
        names = [f"host{n}.{zone}.test" for n in range(0, 3000, 5) for zone in ("example", "other")]
        names += [f"nobody{n}.example.test" for n in range(100)]
        told = [dns.ask_many(server.port, names)]
        for turn in range(3):
            server.send_signal(signal.SIGHUP)           # all is read again while it is asked
            told.append(dns.ask_many(server.port, names[turn::3]))
        transfer = dns.ask(server.port, "example.test", "AXFR", tcp=True)
        told.append(f"{transfer[1] & 15} {len(transfer)}")
        run.measure(server)
        run.stop(server)
        return "\n".join(told)


if __name__ == "__main__":
    main()
