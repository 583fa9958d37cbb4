#!/bin/sh
# refused_flag.sh COMPILER INCLUDE_DIRECTORY FLAG: a file that includes the library compiles without FLAG, and with it gives
# one error, which says why.
set -eu
compiler=$1
include=$2
flag=$3
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

echo '#include <moe/core/error.hpp>' >"$scratch/file.cpp"
"$compiler" -std=c++20 -fsyntax-only -I "$include" "$scratch/file.cpp"
if "$compiler" -std=c++20 -fsyntax-only -I "$include" "$flag" "$scratch/file.cpp" 2>"$scratch/errors"; then
    echo "FAILED: compiles with $flag"
    exit 1
fi
cat "$scratch/errors"
[ "$(grep -c 'error:' "$scratch/errors")" -eq 1 ] || { echo 'FAILED: not one error'; exit 1; }
grep -q 'moe needs floating point as it is' "$scratch/errors" || { echo 'FAILED: another error'; exit 1; }
