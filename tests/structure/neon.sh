#!/bin/sh
# neon.sh REPOSITORY XSIMD_INCLUDE_DIRECTORY SCRATCH_DIRECTORY
# Compiles the checks of neon/ for 64-bit Arm, with and without the dot product instruction of Armv8.2, and runs them
# under qemu. Status 77 (skipped) without the tools; on Debian: g++-aarch64-linux-gnu and qemu-user.
set -eu
repository=$1
xsimd=$2
scratch=$3

skip() { echo "skipped: $1"; exit 77; }
command -v aarch64-linux-gnu-g++ >/dev/null 2>&1 || skip 'there is no aarch64-linux-gnu-g++'
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || skip 'there is no qemu-aarch64'

# xsimd is the same for all processors, what may lie beside it is not
rm -rf -- "$scratch"
mkdir -p "$scratch/include"
ln -s "$xsimd/xsimd" "$scratch/include/xsimd"

# compile PROGRAM FLAG...
compile() {
    program=$scratch/$1
    shift
    aarch64-linux-gnu-g++ -std=c++20 -O2 -static "$@" -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow \
        -Werror -I "$repository/include" -I "$repository/tests" -isystem "$scratch/include" \
        "$repository"/tests/structure/neon/*.cpp -o "$program"
}

compile baseline -march=armv8-a &
compile dotprod -march=armv8.2-a+dotprod
wait $!

# run PROGRAM KERNEL: it must pass, and be about that integer kernel
run() {
    "$qemu" "$scratch/$1" >"$scratch/$1.txt" || { cat "$scratch/$1.txt"; exit 1; }
    cat "$scratch/$1.txt"
    grep -q ", $2:" "$scratch/$1.txt" || { echo "FAILED: not '$2'"; exit 1; }
}

run baseline 'plain integers'
run dotprod 'NEON dot product'
# one program may hold both only if their inline namespaces differ
if [ "$(sed 's/,.*//' "$scratch/baseline.txt")" = "$(sed 's/,.*//' "$scratch/dotprod.txt")" ]; then
    echo 'FAILED: code with and without the dot product has the same namespace'
    exit 1
fi
