#!/bin/sh
# needs_cpp20.sh COMPILER FLAGS_FILE HEADER...: below C++20 each header gives one error, which says what to do, and not what
# C++17 makes of C++20.
set -eu
compiler=$1
flags=$2
shift 2
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

for header in "$@"; do
    echo "#include <$header>" >"$scratch/file.cpp"
    for standard in c++17 c++11; do
        if "$compiler" "@$flags" -std=$standard -fsyntax-only "$scratch/file.cpp" 2>"$scratch/errors"; then
            echo "FAILED: $header compiles with -std=$standard"
            exit 1
        fi
        if [ "$(grep -c ' error:' "$scratch/errors")" -ne 1 ] || ! grep -q 'moe needs C++20' "$scratch/errors"; then
            cat "$scratch/errors"
            echo "FAILED: $header, -std=$standard: not one error, or another"
            exit 1
        fi
    done
done
