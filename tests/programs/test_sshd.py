"""OpenSSH: its child before authentication locks itself in, with a filter that kills at any call that it does not have in mind.

There, every block is to be guarded, and none was before: the first one would take calls that kill. By hand, more logins: SSHD_LOGINS=3000."""

import concurrent.futures
import os
import pwd
import subprocess
import unittest

from support import DEADLINE, ProgramTest, accepts, environment, program

LOGINS = int(os.environ.get("SSHD_LOGINS", "24"))
USER = pwd.getpwuid(os.getuid()).pw_name
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


@unittest.skipUnless(os.getuid() == 0 and os.path.isdir("/run/sshd"), "it takes root, and sshd's empty directory")
class Sshd(ProgramTest):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        for name in ("host_key", "key"):
            subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(self.folder, name)],
                           check=True, timeout=DEADLINE)
        path = self.write("sshd_config", CONFIGURATION.format(folder=self.folder))
        preload = f"LD_PRELOAD={os.environ['GUARD_IN_SANDBOX']}:{environment(True, self.folder)['LD_PRELOAD']}"
        self.server, self.port = self.start_server(
            lambda port: ["/usr/bin/env", preload, "ARENAL_GUARD_SAMPLE=0", program("sshd"), "-D", "-e", "-f", path, "-p", str(port)],
            accepts)

    def login(self, number):
        done = subprocess.run(
            [program("ssh"), "-F", "none", "-i", os.path.join(self.folder, "key"), "-p", str(self.port), "-o", "BatchMode=yes",
             "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             f"{USER}@127.0.0.1", "echo", f"login {number}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            env=environment(False, self.folder), timeout=DEADLINE, check=False)
        return done.returncode == 0 and done.stdout == f"login {number}\n", done.stdout

    def test_no_login_is_lost(self):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            results = list(pool.map(self.login, range(LOGINS)))
        lost = [output for good, output in results if not good]
        print(f"{LOGINS} logins, {len(lost)} lost", flush=True)
        with open(os.path.join(self.folder, f"log-{self.port}"), encoding="utf-8", errors="replace") as log:
            self.assertEqual(lost, [], log.read()[-2000:])


if __name__ == "__main__":
    unittest.main()
