#!/bin/sh
# install_test.sh CMAKE BUILD_DIRECTORY CONFIGURATION C_COMPILER CXX_COMPILER SOURCE_DIRECTORY WORK_DIRECTORY
#
# Installs the library to a prefix of its own and builds programs of C and C++ on the installation: through pkg-config, shared and
# static, and through find_package. A second prefix, to which the first one is moved, shows that nothing in the
# installation knows where it was. Its components are the whole, and all of it can be uninstalled.
set -eu
cmake=$1 build=$2 configuration=$3 compiler=$4 cxx=$5 source=$6 work=$7

rm -rf "$work"
mkdir -p "$work"

# By component: what is preloaded, what programs are built with, the tools.
for component in library dev tools; do
    "$cmake" --install "$build" --config "$configuration" --prefix "$work/$component" --component "$component" >"$work/install.log"
done
for component in library dev tools; do
    (cd "$work/$component" && find . ! -type d | sort) >"$work/$component.files"
done
if grep -v '/libarenal\.so[.0-9]*$' "$work/library.files" ||
    grep -v '^\./share/man/man3/arenal[a-z_]*\.3$' "$work/dev.files" | grep -E '/(bin|share|libexec)/|\.so' ||
    grep -E '\.(so|a|h|cmake|pc)$' "$work/tools.files"; then
    echo "these are in the wrong component" >&2
    exit 1
fi
# It is for all users, whatever the umask says.
(umask 077 && "$cmake" --install "$build" --config "$configuration" --prefix "$work/first" >"$work/install.log")
(umask 077 && "$cmake" --install "$build" --config "$configuration" --prefix "$work/tools_closed" --component tools >"$work/install.log")
closed=$(find "$work/first" "$work/tools_closed" ! -type l ! -perm -a=r -o -type d ! -perm -a=x)
[ -z "$closed" ] || { echo "after an installation with umask 077, others cannot read" $closed >&2; exit 1; }
(cd "$work/first" && find . ! -type d | sort) >"$work/all.files"
sort "$work/library.files" "$work/dev.files" "$work/tools.files" | diff "$work/all.files" - >&2 || {
    echo "the components are not the whole" >&2
    exit 1
}
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

for name in arenal.1 arenal-ctl.1 arenal.3 arenal_purge.3 arenal.7 _arenal README.md; do
    file_in_prefix "$name" >/dev/null
done
[ -f "$work/prefix/share/bash-completion/completions/arenal" ] || { echo "no completion for bash was installed" >&2; exit 1; }
man -w -M "$work/prefix/share/man" 3 arenal_purge >/dev/null

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

# C++: caught where the library is one of the program's, and in it.
"$cxx" -std=c++17 -Wall -Wextra -Werror "$source/bad_alloc.cpp" -o "$work/shared_cxx" $(pkg-config --cflags --libs arenal)
LD_LIBRARY_PATH="$library_directory" "$work/shared_cxx"
"$cxx" -std=c++17 -Wall -Wextra -Werror "$source/bad_alloc.cpp" -o "$work/static_cxx" -static -pthread \
    $(pkg-config --static --cflags --libs arenal)
"$work/static_cxx"
"$cxx" -std=c++17 -Wall -Wextra -Wshadow -pedantic -Werror "$source/../api/cxx_header.cpp" -o "$work/header" -static -pthread \
    $(pkg-config --static --cflags --libs arenal)
"$work/header"
# The header alone, for the oldest and newest C++ and another compiler.
for other in "$cxx -std=c++11" "$cxx -std=c++2b" "clang++ -std=c++20 -fno-exceptions -fno-rtti"; do
    command -v ${other%% *} >"$work/which" || continue
    echo '#include <arenal/arenal.hpp>' | $other -Wall -Wextra -pedantic -Werror -fsyntax-only $(pkg-config --cflags arenal) -x c++ -
done

# The header's numbers, its string and the changelog's newest chapter.
grep -q "^## $(pkg-config --modversion arenal), 20" "$work/prefix/share/doc/arenal/CHANGELOG.md" || {
    echo "the changelog begins with another version" >&2
    exit 1
}

output=$("$work/prefix/bin/arenal" run --stats -- true 2>&1)
case $output in
"arenal "[0-9]*" statistics"*) ;;
*) echo "the installed tool: unexpected output: $output" >&2; exit 1 ;;
esac

# Where the headers are not installed, it knows its version without loading the library, which would make it look like a process on Arenal.
mkdir "$work/tools_only"
cp -r "$work/prefix/bin" "$work/prefix/share" "$work/tools_only"
[ "$("$work/tools_only/bin/arenal" --version)" = "$("$work/prefix/bin/arenal" --version)" ] || {
    echo "the installed tool does not know its version by itself" >&2
    exit 1
}

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
for file in linked_program.c own_names.c bad_alloc.cpp; do
    cp "$source/$file" "$work/project"
done
cp "$source/consumer.cmake" "$work/project/CMakeLists.txt"
configure_project() { # OPTION...
    "$cmake" -S "$work/project" -B "$work/project/build" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_CXX_COMPILER="$cxx" -DWITH_CXX=ON \
        -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$work/prefix" "$@" >"$work/project.log" 2>&1
}
# While the version is 0.x, another x is another interface.
for version in 0.0 0.1 0.3 1.0; do
    if configure_project -DARENAL_VERSION=$version || ! grep -q 'considered but not accepted' "$work/project.log"; then
        echo "find_package takes this version for $version" >&2
        exit 1
    fi
done
configure_project -DARENAL_VERSION=0.2 || { cat "$work/project.log" >&2; exit 1; }
"$cmake" --build "$work/project/build" --config Release >"$work/project.log" 2>&1 || { cat "$work/project.log" >&2; exit 1; }
for variant in arenal arenal_static; do
    expect_version "find_package, $variant" "$(find "$work/project/build" -name "consumer_$variant" -type f)"
    "$(find "$work/project/build" -name "consumer_cxx_$variant" -type f)"
done

# Whatever was installed from a build is gone, caches of Python included, and nothing else.
"$cmake" --build "$work/packaged" --target arenal-trace >"$work/packaged.log"
"$cmake" --install "$work/packaged" --prefix "$work/usr" --component tools >"$work/install.log"
mkdir "$work/usr/share/arenal/arenal/__pycache__"
: >"$work/usr/bin/other"
: >"$work/usr/share/arenal/arenal/__pycache__/run.pyc"
"$cmake" --build "$work/packaged" --target uninstall >"$work/install.log"
left=$(cd "$work/usr" && find . -path '*arenal*' ! -path './lib/machine/pkgconfig/*' -o -name other)
[ "$left" = ./bin/other ] || { echo "after uninstalling, there is" "$left" >&2; exit 1; }
if "$cmake" --build "$work/packaged" --target uninstall >"$work/install.log" 2>&1; then
    echo "what is not installed can be uninstalled" >&2
    exit 1
fi
rm -rf "$work"
