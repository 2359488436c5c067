#!/bin/sh
# versions.sh READELF LIBRARY VERSION: nothing that the library needs of glibc is newer than VERSION, weak references among it, for the
# loader wants the version itself; so it loads there. Prints all that is.
set -eu
readelf=$1 library=$2 oldest=$3

needed=$("$readelf" --version-info --wide "$library" | sed -n '/needs section/,$s/.*Name: GLIBC_\([0-9.]*\) .*/\1/p' | sort -uV)
[ -n "$needed" ] || { echo "$readelf lists no version that $library needs" >&2; exit 1; }
newest=$(printf '%s\n' $needed | tail -n 1)
[ "$(printf '%s\n' "$newest" "$oldest" | sort -V | tail -n 1)" = "$oldest" ] && exit

echo "$library needs glibc $newest, for one of these, and is to run on $oldest:" >&2
"$readelf" --dyn-syms --wide "$library" | sed -n 's/.* UND \(.*@GLIBC_.*\)/    \1/p' | sort -V -t@ -k2 >&2
exit 1
