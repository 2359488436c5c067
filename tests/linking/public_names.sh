#!/bin/sh
# public_names.sh READELF SHARED STATIC: the names that each defines for others are those of malloc's family, of libc's functions that
# it has in their place, of C++'s operators, and arenal_*.
set -eu
readelf=$1 shared=$2 static=$3

# What libc.h, malloc.h and the C++ ABI name.
family='^(_Z(nw|na|dl|da)[A-Za-z0-9_]*|arenal_[a-z_]*|(__libc_|__posix_)?(malloc|calloc|realloc|free|memalign|valloc|pvalloc|reallocarray)'
family="$family|cfree|free_sized|free_aligned_sized|aligned_alloc|posix_memalign|mallinfo2?|mallopt|malloc_(info|stats|trim|usable_size)"
# jemalloc's interface
family="$family|(m|r|x|s|d|sd|n)allocx|mallctl(nametomib|bymib)?|malloc_(stats_print|message|conf))\$"
instead='^(dlm?open|madvise|posix_madvise|mbind|mlock2?|mlockall|mprotect|pkey_mprotect|prctl|capset|setns|unshare|initgroups'
instead="$instead|sete?[ug]id|setre[ug]id|setres[ug]id|setgroups|__register_atfork|(__)?sysv_signal|bsd_signal|s?signal|sigaction"
instead="$instead|sigignore|siginterrupt|sigset|sigvec|ssignal)\$"

foreign() { # TABLE OPTION...: names in the object that none of the patterns has
    object=$1
    shift
    "$readelf" "$@" --wide "$object" | awk '($5 == "GLOBAL" || $5 == "WEAK") && ($6 == "DEFAULT" || $6 == "PROTECTED") && $7 != "UND" {
        sub(/@.*/, "", $8); print $8}' | sort -u
}

names=$(foreign "$shared" --dyn-syms)
echo "$names" | grep -qx malloc || { echo "$readelf lists no malloc in $shared" >&2; exit 1; }
if others=$(echo "$names" | grep -Ev "$family" | grep -Ev "$instead"); then
    echo "$shared exports" $others >&2
    exit 1
fi

names=$(foreign "$static" --symbols)
echo "$names" | grep -qx malloc || { echo "$readelf lists no malloc in $static" >&2; exit 1; }
if others=$(echo "$names" | grep -Ev "$family"); then
    echo "$static defines" $others >&2
    exit 1
fi
# Hidden ones collide, too, when a program is linked.
if others=$("$readelf" --symbols --wide "$static" | awk '$5 == "GLOBAL" && $6 == "HIDDEN" && $7 != "UND" {print $8}' | grep -v '^arenal_'); then
    echo "$static defines" $others "for itself, and would collide with a program's own" >&2
    exit 1
fi
