#!/bin/sh
# install_test.sh CMAKE BUILD_DIRECTORY CONFIGURATION C_COMPILER SOURCE_DIRECTORY WORK_DIRECTORY
#
# Installs the library to a prefix of its own and builds a program on the installation: through pkg-config, shared and
# static, and through find_package. A second prefix, to which the first one is moved, shows that nothing in the
# installation knows where it was.
set -eu
cmake=$1 build=$2 configuration=$3 compiler=$4 source=$5 work=$6

rm -rf "$work"
mkdir -p "$work"
"$cmake" --install "$build" --config "$configuration" --prefix "$work/first" >"$work/install.log"
mv "$work/first" "$work/prefix"

file_in_prefix() {
    found=$(find "$work/prefix" -name "$1")
    [ -n "$found" ] || { echo "no $1 was installed" >&2; exit 1; }
    echo "$found" | head -n 1
}

# expect_version NAME COMMAND...: the program runs, and says which version it runs on.
expect_version() {
    name=$1
    shift
    output=$("$@")
    case $output in
    "arenal "[0-9]*) ;;
    *) echo "$name: unexpected output: $output" >&2; exit 1 ;;
    esac
}

library_directory=$(dirname "$(file_in_prefix libarenal.so)")
file_in_prefix libarenal.a >/dev/null
file_in_prefix arenal.h >/dev/null

PKG_CONFIG_PATH=$(dirname "$(file_in_prefix arenal.pc)")
export PKG_CONFIG_PATH
[ "$(pkg-config --modversion arenal)" = "$("$compiler" -E -P -include arenal/arenal.h \
    $(pkg-config --cflags arenal) -x c - <<'END' | tail -n 1 | tr -d '"'
ARENAL_VERSION_STRING
END
)" ] || { echo "pkg-config and the header disagree about the version" >&2; exit 1; }

# The flags are words to be split.
"$compiler" -Wall -Wextra -Werror "$source/linked_program.c" -o "$work/shared" -pthread \
    $(pkg-config --cflags --libs arenal)
expect_version "pkg-config, shared" env LD_LIBRARY_PATH="$library_directory" "$work/shared"

"$compiler" -Wall -Wextra -Werror "$source/linked_program.c" -o "$work/static" -static -pthread \
    $(pkg-config --static --cflags --libs arenal)
expect_version "pkg-config, static" "$work/static"

output=$("$work/prefix/bin/arenal" run --stats -- true 2>&1)
case $output in
"arenal "[0-9]*" statistics"*) ;;
*) echo "the installed tool: unexpected output: $output" >&2; exit 1 ;;
esac

# A library directory of two levels, as Debian's packages have it: the prefix is found from there as well.
"$cmake" -S "$source/../.." -B "$work/packaged" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_INSTALL_LIBDIR=lib/machine \
    -DARENAL_TESTS=OFF -DARENAL_BENCHMARKS=OFF >"$work/packaged.log"
mkdir -p "$work/usr/lib/machine/pkgconfig"
cp "$(find "$work/packaged" -name arenal.pc)" "$work/usr/lib/machine/pkgconfig"
prefix=$(PKG_CONFIG_PATH="$work/usr/lib/machine/pkgconfig" pkg-config --variable=prefix arenal)
[ "$(realpath -m "$prefix")" = "$(realpath "$work/usr")" ] || {
    echo "pkg-config takes $prefix for the prefix of $work/usr/lib/machine/pkgconfig" >&2
    exit 1
}

mkdir "$work/project"
cp "$source/linked_program.c" "$work/project"
cp "$source/consumer.cmake" "$work/project/CMakeLists.txt"
"$cmake" -S "$work/project" -B "$work/project/build" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/project.log"
"$cmake" --build "$work/project/build" --config Release >>"$work/project.log"
for variant in arenal arenal_static; do
    expect_version "find_package, $variant" "$(find "$work/project/build" -name "consumer_$variant" -type f)"
done
rm -rf "$work"
