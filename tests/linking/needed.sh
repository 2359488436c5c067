#!/bin/sh
# needed.sh READELF LIBRARY: the library needs the libc and its loader, and nothing else; and it is never unmapped, for
# threads come back to it when they end.
set -eu
readelf=$1 library=$2

dynamic=$("$readelf" --dynamic --wide "$library")
needed=$(echo "$dynamic" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
[ -n "$needed" ] || { echo "$readelf lists no library" >&2; exit 1; }
for name in $needed; do
    case $name in
    libc.so.* | ld-linux*) ;;
    *) echo "$library needs $name" >&2; exit 1 ;;
    esac
done

case $dynamic in
*NODELETE*) ;;
*) echo "$library can be unmapped by dlclose" >&2; exit 1 ;;
esac

# Relocations that need the text segment to be writable, or an executable stack, have no place in a server.
case $dynamic in
*TEXTREL*) echo "$library has text relocations" >&2; exit 1 ;;
esac
segments=$("$readelf" --program-headers --wide "$library" | sed -n 's/^ *LOAD\( *0x[0-9a-f]*\)\{5\}\(.*\)0x.*/[\2]/p' | tr -d ' ')
case $(echo "$segments" | grep E) in
"[RE]") ;;
*) echo "$library has not one segment of code that cannot be written to, but" $segments >&2; exit 1 ;;
esac
if "$readelf" --program-headers --wide "$library" | grep GNU_STACK | grep -q E; then
    echo "$library wants an executable stack" >&2
    exit 1
fi
