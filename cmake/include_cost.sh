#!/bin/sh
# What including moe.hpp costs a translation unit, beside including xsimd alone: each is compiled seven times, in turn,
# and the medians are compared. Flags for the compiler may follow; $CXX chooses the compiler.
#   sh cmake/include_cost.sh [flags]
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

echo '#include <xsimd/xsimd.hpp>' >"$scratch/xsimd.cpp"
echo '#include <moe/moe.hpp>' >"$scratch/moe.cpp"

# Appends the milliseconds one compilation of $1.cpp takes to $1.times.
compile() {
    name=$1
    shift
    begin=$(date +%s%N)
    "${CXX:-c++}" -std=c++20 -O2 -I "$root/include" "$@" -c "$scratch/$name.cpp" -o "$scratch/$name.o"
    end=$(date +%s%N)
    echo $(((end - begin) / 1000000)) >>"$scratch/$name.times"
}
median() { sort -n "$scratch/$1.times" | sed -n 4p; }

for _ in 1 2 3 4 5 6 7; do
    compile xsimd "$@"
    compile moe "$@"
done
xsimd=$(median xsimd)
moe=$(median moe)
echo "median of 7 compilations, ${CXX:-c++} -std=c++20 -O2 $*"
echo "xsimd/xsimd.hpp alone: $xsimd ms"
echo "moe/moe.hpp:           $moe ms"
echo "difference:            $((moe - xsimd)) ms"
