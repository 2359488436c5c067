"""setpriv, unshare, chroot: programs that give up privileges and want to be one thread, also with a window."""

from support import ProgramTest, main


class Setpriv(ProgramTest):
    package = "util-linux"
    needs = ("setpriv", "unshare")
    root = True

    def work(self, run):
        told = []
        for env in {}, {"ARENAL_WINDOW": "1"}:
            told.append(run.commands(
                ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "id", "-un"],
                ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all", "--no-new-privs",
                 "id", "-un"],
                ["setpriv", "--bounding-set=-all", "--ambient-caps=-all", "true"],
                ["unshare", "--user", "--map-root-user", "id", "-u"],
                ["unshare", "--mount", "--pid", "--fork", "sh", "-c", "echo $$"],
                ["chroot", "--userspec=nobody:nogroup", "/", "id", "-un"], env=env))
        return "".join(told)


if __name__ == "__main__":
    main()
