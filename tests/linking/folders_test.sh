#!/bin/sh
# folders_test.sh CMAKE BUILD_DIRECTORY CONFIGURATION C_COMPILER SOURCE_DIRECTORY
#
# Installs to folders of other names, absolute ones among them, moved and staged (DESTDIR). In each case, the command finds its modules,
# its library, its header and its reader of traces, and pkg-config the library and the header.
set -eu
cmake=$1 build=$2 configuration=$3 compiler=$4 source=$5
unset ARENAL_LIBRARY DESTDIR

# Not in the build tree: CMake lets no installation have its headers below the source.
work=$(realpath "$(mktemp -d)")
trap 'rm -rf "$work"' EXIT

# configure OPTION...: the build directory for these folders. What is built is that of the other one.
tree=$work/build
configure() {
    "$cmake" -U 'CMAKE_INSTALL_*' -S "$source/../.." -B "$tree" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_BUILD_TYPE="$configuration" \
        -DARENAL_TESTS=OFF -DARENAL_BENCHMARKS=OFF "$@" >"$work/configure.log" 2>&1 || { cat "$work/configure.log" >&2; exit 1; }
    cp -P "$build"/src/libarenal.so* "$build/src/libarenal.a" "$tree/src"
    cp "$build/tools/trace/arenal-trace" "$tree/tools/trace"
}

# check CASE BIN LIB INCLUDE
check() {
    name=$1 tool=$2/arenal lib=$3 include=$4
    loaded=$("$tool" run -- cat /proc/self/maps | sed -n 's,.* \(/.*libarenal\.so.*\),\1,p' | sort -u)
    case $loaded in
    "$lib"/libarenal.so*) ;;
    *) echo "$name: the library is $loaded, not in $lib" >&2; exit 1 ;;
    esac
    said=$("$tool" --version)
    [ "$said" = "arenal $version" ] || { echo "$name: the version is $said" >&2; exit 1; }
    # Of the header, not of the library.
    mv "$include/arenal/arenal.h" "$work/arenal.h"
    sed 's/\(define ARENAL_VERSION_STRING\).*/\1 "8.8.8"/' "$work/arenal.h" >"$include/arenal/arenal.h"
    said=$("$tool" --version)
    [ "$said" = "arenal 8.8.8" ] || { echo "$name: the header is not found" >&2; exit 1; }
    mv "$work/arenal.h" "$include/arenal/arenal.h"
    rm -f "$work/trace"
    "$tool" trace --output "$work/trace" -- true >"$work/trace.log" 2>&1 || { cat "$work/trace.log" >&2; exit 1; }
    said=$(PKG_CONFIG_PATH=$lib/pkgconfig pkg-config --variable=libdir arenal)
    [ "$(realpath "$said")" = "$lib" ] || { echo "$name: pkg-config's library is in $said" >&2; exit 1; }
    said=$(PKG_CONFIG_PATH=$lib/pkgconfig pkg-config --variable=includedir arenal)
    [ "$(realpath "$said")" = "$include" ] || { echo "$name: pkg-config's headers are in $said" >&2; exit 1; }
    [ -f "$lib/cmake/arenal/arenal-config.cmake" ] || { echo "$name: find_package would find nothing" >&2; exit 1; }
}

version=$(sed -n 's/.*ARENAL_VERSION_STRING "\(.*\)"/\1/p' "$source/../../include/arenal/arenal.h")
relative="-DCMAKE_INSTALL_BINDIR=programs/here -DCMAKE_INSTALL_LIBDIR=own/libraries/machine -DCMAKE_INSTALL_LIBEXECDIR=helpers
    -DCMAKE_INSTALL_INCLUDEDIR=headers"

# The options are words to be split.
configure $relative -DCMAKE_INSTALL_DATADIR=things/of/all
"$cmake" --install "$tree" --prefix "$work/first" >"$work/install.log"
mv "$work/first" "$work/moved"
check "relative, moved" "$work/moved/programs/here" "$work/moved/own/libraries/machine" "$work/moved/headers"

configure $relative -DCMAKE_INSTALL_DATAROOTDIR=information -DCMAKE_INSTALL_PREFIX=/opt/elsewhere
DESTDIR=$work/stage "$cmake" --install "$tree" >"$work/install.log"
place=$work/stage/opt/elsewhere
[ -d "$place/information/arenal" ] || { echo "DATAROOTDIR has nothing" >&2; exit 1; }
check "relative, staged" "$place/programs/here" "$place/own/libraries/machine" "$place/headers"

configure -DCMAKE_INSTALL_LIBDIR="$work/a/lib" -DCMAKE_INSTALL_DATADIR="$work/a/data" -DCMAKE_INSTALL_LIBEXECDIR="$work/a/helpers" \
    -DCMAKE_INSTALL_INCLUDEDIR="$work/a/headers" -DCMAKE_INSTALL_PREFIX=/usr
DESTDIR=$work/stage "$cmake" --install "$tree" >"$work/install.log"
mv "$work/stage$work/a" "$work/a"
check "absolute, staged" "$work/stage/usr/bin" "$work/a/lib" "$work/a/headers"

configure -DCMAKE_INSTALL_BINDIR="$work/b/bin" -DCMAKE_INSTALL_LIBDIR=lib64 -DCMAKE_INSTALL_PREFIX="$work/prefix"
"$cmake" --install "$tree" >"$work/install.log"
check "absolute programs" "$work/b/bin" "$work/prefix/lib64" "$work/prefix/include"

# What is uninstalled: what is there, under the DESTDIR that it is told; and no folder of ours is left, whatever its name means in a pattern.
uninstall() { # DESTDIR
    DESTDIR=$1 "$cmake" --build "$tree" --target uninstall >"$work/uninstall.log" 2>&1
}
configure -DCMAKE_INSTALL_LIBDIR="$work/c++/lib" -DCMAKE_INSTALL_DATADIR="$work/c++/data" -DCMAKE_INSTALL_LIBEXECDIR="$work/c++/helpers" \
    -DCMAKE_INSTALL_INCLUDEDIR="c++(1)/headers" -DCMAKE_INSTALL_PREFIX=/usr
stage=$work/second/share/arenal
DESTDIR=$stage "$cmake" --install "$tree" >"$work/install.log"
if uninstall ""; then
    echo "without the DESTDIR that it was installed with, it is said to be uninstalled" >&2
    exit 1
fi
grep -q DESTDIR "$work/uninstall.log" || { echo "what is wrong is not said:" "$(cat "$work/uninstall.log")" >&2; exit 1; }
if grep "Removing" "$work/uninstall.log" >&2; then
    echo "these were not there" >&2
    exit 1
fi
rm "$stage/usr/bin/arenal"
uninstall "$stage" || { cat "$work/uninstall.log" >&2; exit 1; }
if grep "Removing.*/bin/arenal" "$work/uninstall.log" >&2; then
    echo "this was not there" >&2
    exit 1
fi
left=$(find "$stage" ! -type d; find "$stage" -mindepth 1 -name arenal -type d)
[ -z "$left" ] || { echo "after uninstalling, there is" "$left" >&2; exit 1; }
[ -d "$stage/usr/bin" ] || { echo "a folder that is not ours is gone" >&2; exit 1; }
