#!/bin/sh
# renamed_libc.sh LIBRARY FOLDER: a libc whose file has another name is found by the name that it says itself.
set -eu
library=$1 folder=$2
libc=$(ldd /bin/true | sed -n 's/.*libc\.so\.6 => \([^ ]*\).*/\1/p')
[ -n "$libc" ] || { echo "skipped: /bin/true is not linked with libc.so.6"; exit 0; }
rm -rf "$folder" && mkdir -p "$folder"
cp "$libc" "$folder/libc-other.so"
timeout -s KILL 20 env LD_PRELOAD="$library:$folder/libc-other.so" ARENAL_STATS=1 perl -e 'print "right\n"' >"$folder/out" 2>"$folder/err"
grep -qx right "$folder/out"
grep -q 'size *spans' "$folder/err"
