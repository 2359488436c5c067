"""unbound: threads, a cache that fills and turns over, names that answer and names that do not."""

import dns
from support import ProgramTest, main

CONFIGURATION = """
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    use-syslog: no
    logfile: "{folder}/unbound.log"
    num-threads: 4
    do-not-query-localhost: no
    local-zone: "example.test." static
    local-zone: "gone.test." always_nxdomain
    msg-cache-size: 64k
    rrset-cache-size: 64k
{data}
remote-control:
    control-enable: no
stub-zone:
    name: "other.test."
    stub-addr: 127.0.0.1@{port}
"""


class Unbound(ProgramTest):
    needs = ("unbound",)

    def work(self, run):
        data = "".join(f"    local-data: 'host{n}.example.test. 60 IN A 10.0.{n // 256}.{n % 256}'\n"
                       f"    local-data: 'host{n}.example.test. 60 IN TXT \"{'t' * (n % 200)}\"'\n" for n in range(2000))

        def command(port):
            path = run.write("unbound.conf", CONFIGURATION.format(folder=run.folder, port=port, data=data))
            return ["unbound", "-d", "-c", path]
        server = run.server(command, lambda port: dns.answers(port, "host1.example.test"))
        names = [f"host{n}.example.test" for n in range(0, 2000, 2)] + [f"n{n}.gone.test" for n in range(300)]
        told = dns.ask_many(server.port, names)
        run.measure(server)
        run.stop(server)
        return told


if __name__ == "__main__":
    main()
