#!/bin/sh
# subproject.sh CMAKE READELF LINKING WORK_DIRECTORY add_subdirectory|FetchContent WITH_CXX OPTION...: a project that Arenal is a part
# of, configured with the options. It gets the library and nothing else: neither names, nor tests, nor what is installed. Programs that
# are linked with it run. LINKING is the folder of their sources. With ARENAL_TESTS=ON among the options, it is only configured.
set -eu
cmake=$1 readelf=$2 linking=$3 work=$4 by=$5 with_cxx=$6
shift 6

rm -rf "$work"
mkdir -p "$work"
for file in linked_program.c own_names.c bad_alloc.cpp; do
    cp "$linking/$file" "$work"
done
cp "$linking/consumer.cmake" "$work/CMakeLists.txt"

run() {
    "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}
run "$cmake" -S "$work" -B "$work/build" -DARENAL_BY="$by" -DARENAL_SOURCE="$(realpath "$linking/../..")" -DWITH_CXX="$with_cxx" "$@"
case " $* " in
*" -DARENAL_TESTS=ON "*)
    rm -rf "$work"
    exit 0
    ;;
esac
run "$cmake" --build "$work/build" --parallel 2
if grep -q 'warning:' "$work/log"; then
    cat "$work/log" >&2
    exit 1
fi

programs="consumer_arenal consumer_arenal_static"
[ "$with_cxx" = OFF ] || programs="$programs consumer_cxx_arenal consumer_cxx_arenal_static"
for program in $programs; do
    "$work/build/$program" >"$work/log" || { echo "$program failed: $(cat "$work/log")" >&2; exit 1; }
done

"$linking/public_names.sh" "$readelf" "$(find "$work/build" -name 'libarenal.so')" "$(find "$work/build" -name 'libarenal.a')"

run "$cmake" --install "$work/build" --prefix "$work/prefix"
if [ -e "$work/prefix" ]; then
    echo "installing the project installs" "$(find "$work/prefix" -type f)" >&2
    exit 1
fi
others=$(find "$work/build" -type f \( -name 'arenal-trace' -o -name '*stress*' -o -name 'api_*' \))
[ -z "$others" ] || { echo "the project has" "$others" >&2; exit 1; }
rm -rf "$work"
