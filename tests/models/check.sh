#!/bin/sh
# check.sh CC MODEL holds|fails [-DVARIANT...]: lets spin look at every state of the model. With "fails", the test passes when
# spin finds a mistake: the variant is wrong on purpose, and shows that the model would notice.
set -eu
cc=$1 model=$2 expected=$3
shift 3
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cp "$model" "$directory/model.pml"
cd "$directory"
spin "$@" -a model.pml >spin.txt || { cat spin.txt; exit 1; }
"$cc" -O1 -w -DSAFETY -DCOLLAPSE -o pan pan.c
./pan -m1000000 >pan.txt || { cat pan.txt; exit 1; }
grep -E 'errors:|states, stored$|assertion violated|invalid end state|max search depth' pan.txt
if grep -q 'max search depth too small' pan.txt; then exit 1; fi
case $expected in
holds) grep -q 'errors: 0$' pan.txt || { spin -p -t model.pml | tail -n 200; exit 1; } ;;
fails) grep -q 'errors: [1-9]' pan.txt ;;
esac
