"""Sanitizer builds: programs that bring a malloc of their own. Preloaded, Arenal comes before it: AddressSanitizer
refuses to run so, says why, and runs when it is told not to mind, as with any other library; nothing hangs. What any library
that is preloaded makes of it is the control: one that has nothing in it."""

import os
import re

from processes import installed
from support import ProgramTest, main

SOURCE = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void *work(void *n) {
	unsigned long sum = 0;
	for (long i = 0; i < 600; i++) {
		char *p = malloc((size_t)i % 700 + 1);
		memset(p, (int)i, (size_t)i % 700 + 1);
		p = realloc(p, (size_t)i % 900 + 1);
		sum += (unsigned char)p[0];
		free(p);
	}
	return (void *)sum;
}
int main(int argc, char **argv) {
	pthread_t threads[4];
	unsigned long sum = 0;
	for (long n = 0; n < 4; n++) pthread_create(&threads[n], NULL, work, (void *)n);
	for (int n = 0; n < 4; n++) {
		void *one;
		pthread_join(threads[n], &one);
		sum += (unsigned long)one;
	}
	printf("%lu\n", sum);
	int shift = argc + 40;
	return argc > 1 && 1 << shift;
}
"""


class Sanitizers(ProgramTest):
    package = "gcc-[0-9]*[0-9]"
    needs = ("gcc",)

    def prepare(self):
        run = self.builder()
        run.write("work.c", SOURCE)
        run.command("sh", "-c", "echo >empty.c && gcc -shared -fPIC empty.c -o ../nothing.so")
        for compiler in (name for name in ("gcc", "clang") if installed(name)):
            for kind in "address", "thread", "undefined", "leak":
                done = run.command(compiler, "-g", "-w", f"-fsanitize={kind}", "-pthread", "work.c", "-o",
                                   f"../{compiler}-{kind}", status=None)
                print(f"{compiler} -fsanitize={kind}: {'built' if done.status == 0 else 'cannot be built here'}")

    def work(self, run):
        told = []
        # Without names, which would take most of the time, and without a search through all races that it told already: a
        # canary over a page is some 500 of them, and the search made a guarded run take more than a minute.
        env = {"TSAN_OPTIONS": "symbolize=0:suppress_equal_addresses=0"}
        if not run.on_arenal:
            env["LD_PRELOAD"] = os.path.join(self.folder, "nothing.so")
        for name in sorted(name for name in os.listdir(self.folder) if "-" in name):
            for options in [{}, {"ASAN_OPTIONS": "verify_asan_link_order=0"}] if "address" in name else [{}]:
                for arguments in [], ["bad"]:
                    done = run.command(f"../{name}", *arguments, env=env | options, status=None, seconds=60)
                    said = re.sub(r"0x[0-9a-f]+|==\d+==|/tmp/\S+|\d+:\d+|\b\d{3,7}\b", "N", done.err)
                    if "WARNING: ThreadSanitizer: data race" in said:
                        # Its dynamic runtime (gcc's) does not see that blocks are freed and handed out again. It goes on to
                        # the end all the same; under jemalloc and mimalloc, such a program crashes at its start.
                        said, done.status = "", len(arguments)
                    told.append(f"{name} {options} {arguments}: {done.status} {done.out}{said[:300]}")
        return "\n".join(told)


if __name__ == "__main__":
    main()
