#!/bin/sh
# probes.sh READELF GDB LIBRARY PROGRAM: the library's notes name its probes and their arguments, all in registers; and gdb
# stops the program at some of them, and shows what they carry.
set -eu
readelf=$1 gdb=$2 library=$3 program=$4

# name:arguments, once each
notes=$("$readelf" --notes "$library" | awk '/Provider: /{provider = $2} /Name: /{name = $2}
    /Arguments: /{print provider ":" name ":" NF - 1; for (i = 2; i <= NF; i++) if ($i !~ /^-?[48]@(%[a-z0-9]+|\$-?[0-9]+|[xw][0-9]+|-?[0-9]+)$/) print "odd:" $i}' | sort -u)
expected='arenal:brk_moved:2
arenal:drain:2
arenal:flush:2
arenal:guard_freed:2
arenal:guard_made:2
arenal:huge_mapped:2
arenal:huge_resized:4
arenal:huge_unmapped:2
arenal:purge:3
arenal:refill:2
arenal:region_mapped:2
arenal:region_unmapped:2
arenal:span_freed:3
arenal:span_made:3'
[ "$notes" = "$expected" ] || { echo "the notes are"; echo "$notes"; exit 1; } >&2

# No semaphores: whoever traces writes nothing into the program.
! "$readelf" --notes "$library" | grep Semaphore | grep -qv 'Semaphore: 0x0*$'

output=$("$gdb" -nx -batch -iex 'set debuginfod enabled off' -ex 'set pagination off' -ex 'set startup-with-shell off' -ex 'break main' -ex run \
    -ex 'info probes stap arenal' -ex 'break -probe-stap arenal:refill' -ex continue \
    -ex 'printf "refill %d, %d, of %d\n", $_probe_arg0, $_probe_arg1, $_probe_argc' -ex delete \
    -ex 'break -probe-stap arenal:region_mapped' -ex continue -ex 'printf "region %d\n", $_probe_arg1' "$program" 2>&1) || true
fail() {
    echo "$output" >&2
    echo "probes.sh: $1" >&2
    exit 1
}
case $output in *'ptrace: Operation not permitted'*) echo 'skipped: nobody may trace here' && exit 77 ;; esac
echo "$output" | grep -q 'stap *arenal *span_freed' || fail "gdb does not list the probes"
refill=$(echo "$output" | sed -n 's/^refill \([0-9]*\), \([0-9]*\), of 2$/\1 \2/p')
[ -n "$refill" ] || fail "gdb did not stop at a refill"
set -- $refill
[ "$1" -ge 16 ] && [ "$1" -le 32768 ] && [ "$2" -ge 1 ] && [ "$2" -le 256 ] || fail "a refill of $2 blocks of $1 bytes"
echo "$output" | grep -q '^region 67108864$' || fail "gdb did not stop at a region of 64 MiB"
