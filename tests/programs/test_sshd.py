"""OpenSSH: its child before authentication locks itself in, with a filter that kills at any call that it does not have in mind.

Plainly, every block is guarded from there on, and none was before: the first one would take calls that kill. By hand, more
logins: SSHD_LOGINS=3000."""

import concurrent.futures
import os
import pwd

from support import ProgramTest, main, program

LOGINS = int(os.environ.get("SSHD_LOGINS", "16"))
USER = pwd.getpwuid(os.getuid()).pw_name
EMPTY = "/run/sshd"             # compiled in
CONFIGURATION = """
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
"""


class Sshd(ProgramTest):
    package = "openssh-server"
    needs = ("sshd", "ssh", "ssh-keygen")
    root = True

    def prepare(self):
        if not os.path.isdir(EMPTY):
            os.mkdir(EMPTY, 0o755)
            self.addCleanup(os.rmdir, EMPTY)

    def work(self, run):
        for name in ("host_key", "key"):
            run.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", run.path(name), preload=False)
        path = run.write("sshd_config", CONFIGURATION.format(folder=run.folder))
        before = [f"LD_PRELOAD={os.environ['GUARD_IN_SANDBOX']}:{run.library}", "ARENAL_GUARD_SAMPLE=0"] if run.mode == "plain" else []
        server = run.server(lambda port: ["env", *before, program("sshd"), "-D", "-e", "-f", path, "-p", str(port)])

        def login(number):
            return run.command(
                "ssh", "-F", "none", "-i", run.path("key"), "-p", str(server.port), "-o", "BatchMode=yes",
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                f"{USER}@127.0.0.1", "echo", f"login {number}", preload=False).out
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            told = "".join(pool.map(login, range(LOGINS)))
        run.measure(server)
        run.stop(server, None)
        return told


if __name__ == "__main__":
    main()
