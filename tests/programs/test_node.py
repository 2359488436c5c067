"""node: JSON, Buffers and worker threads; V8 has a heap of its own, its buffers and everything in C++ are malloc's."""

import os

from support import FILES, ProgramTest, main

SCRIPT = os.path.join(FILES, "churn.js")


class Node(ProgramTest):
    package = "nodejs"
    needs = ("node",)

    def work(self, run):
        output = run.command("node", SCRIPT, *([run.library] if run.on_arenal else [])).out
        self.assertEqual(len(output.splitlines()), 10)
        if run.mode == "plain":
            self.assertEqual(run.command("node", SCRIPT, run.library, env={"ARENAL_CONF": "arena_max:1"}).out, output)
        return output


if __name__ == "__main__":
    main()
