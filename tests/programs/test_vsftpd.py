"""vsftpd: it limits its own address space after its start, and serves each client by processes of less and less privilege."""

import ftplib
import hashlib
import io
import os

from support import ProgramTest, main

CONFIGURATION = """
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
local_enable=NO
write_enable=YES
anon_upload_enable=YES
anon_umask=022
anon_root={folder}/files
secure_chroot_dir={folder}/empty
pasv_address=127.0.0.1
xferlog_enable=YES
xferlog_file={folder}/transfers
vsftpd_log_file={folder}/vsftpd.log
{user}
"""
# The anonymous user needs a home that is there.
AS_ROOT = "ftp_username=daemon\nnopriv_user=nobody\nchown_uploads=NO"


class Vsftpd(ProgramTest):
    needs = ("vsftpd",)

    def work(self, run):
        root = os.getuid() == 0
        run.make("files", "files/upload", "empty")
        for number in range(4):
            run.write(f"files/file{number}", bytes([number, 255 - number]) * 10 ** (number + 2))
        if root:
            os.chmod(run.path("files"), 0o555)
            run.give(run.path("files/upload"), "daemon")

        def command(port):
            user = AS_ROOT if root else "run_as_launching_user=YES"
            path = run.write("vsftpd.conf", CONFIGURATION.format(port=port, folder=run.folder, user=user))
            os.chmod(path, 0o600)
            return ["vsftpd", path]
        server = run.server(command)
        told = []
        for turn in range(5):
            client = ftplib.FTP()
            client.connect("127.0.0.1", server.port, timeout=20)
            client.login()
            told += sorted(client.nlst())
            for number in range(4):
                data = io.BytesIO()
                client.retrbinary(f"RETR file{number}", data.write)
                told.append(hashlib.sha256(data.getvalue()).hexdigest())
            name = f"upload/{turn}"
            told.append(client.storbinary(f"STOR {name}", io.BytesIO(b"up" * 70000)))
            told.append(str(os.path.getsize(run.path("files", name))))
            run.measure(server)
            told.append(client.quit())
        run.stop(server, None)
        return "\n".join(told)


if __name__ == "__main__":
    main()
