"""Go with cgo: goroutines on many threads that allocate in C, hand blocks to each other, and catch what only a handler of
SIGSEGV can."""

from support import ProgramTest, main

SOURCE = r"""
package main

/*
#include <stdlib.h>
#include <string.h>
static char *made(size_t n, int c) { char *p = malloc(n + 1); memset(p, c, n); p[n] = 0; return p; }
static size_t total(char *p) { size_t s = 0; while (*p) s += (unsigned char)*p++; return s; }
*/
import "C"

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"unsafe"
)

func caught() (message string) {
	defer func() { message = fmt.Sprint(recover()) }()
	var none *struct{ value int }
	return fmt.Sprint(none.value)
}

func main() {
	blocks := make(chan *C.char, 100)
	var makers, takers sync.WaitGroup
	sums := make([]uint64, 8)
	for n := 0; n < 8; n++ {
		makers.Add(1)
		go func(n int) {
			defer makers.Done()
			for i := 0; i < 3000; i++ {
				blocks <- C.made(C.size_t(i*n%3000+1), C.int('a'+i%26))
				s := C.CString(fmt.Sprint("text ", i))
				if C.GoString(s) != fmt.Sprint("text ", i) {
					panic("a string changed")
				}
				C.free(unsafe.Pointer(s))
			}
		}(n)
		takers.Add(1)
		go func(n int) {
			defer takers.Done()
			for p := range blocks {
				sums[n] += uint64(C.total(p))
				C.free(unsafe.Pointer(p))
			}
		}(n)
	}
	makers.Wait()
	close(blocks)
	takers.Wait()
	total := uint64(0)
	for _, s := range sums {
		total += s
	}
	fmt.Println(total, caught())
	debug.SetPanicOnFault(true)
	fmt.Println(caught())
	if len(os.Args) > 1 {
		*(*int)(unsafe.Pointer(uintptr(8))) = 1
	}
}
"""


class Go(ProgramTest):
    package = "golang-[0-9]*-go"
    needs = ("go", "gcc")

    def prepare(self):
        # Built once: what is tested is the program.
        run = self.builder()
        run.write("main.go", SOURCE)
        run.command("go", "build", "-o", "../go-program", "main.go",
                    env={"GOCACHE": run.path("cache"), "GOPATH": run.path("path"), "GO111MODULE": "off", "CGO_ENABLED": "1"})

    def work(self, run):
        run.assert_loads("../go-program")
        return run.command("../go-program").out


if __name__ == "__main__":
    main()
