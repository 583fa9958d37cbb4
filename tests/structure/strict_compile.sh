#!/bin/sh
# strict_compile.sh COMPILER JOBS SOURCES_FILE FLAGS_FILE COMMON_HEADER SCRATCH [FLAG...]
# Checks each listed source (syntax and templates, no code) with another compiler and the warnings of this repository.
# What is in COMMON_HEADER is parsed once for all of them; files of tests, each in a namespace of its own, go through the
# compiler eight at a time. Status 77 (skipped) without the compiler.
set -eu
compiler=$1
jobs=$2
sources=$3
flags=$4
common=$5
scratch=$6
shift 6

command -v "$compiler" >/dev/null 2>&1 || { echo "skipped: there is no $compiler"; exit 77; }
rm -rf -- "$scratch"
mkdir -p "$scratch"
"$compiler" "@$flags" "$@" -x c++-header "$common" -o "$scratch/common.pch"
grep '_test\.cpp$' "$sources" | awk -v scratch="$scratch" '
    { printf "#include \"%s\"\n", $0 >(scratch "/together_" int((NR - 1) / 8) ".cpp") }'
failed=0
{
    grep -v '_test\.cpp$' "$sources"
    find "$scratch" -name 'together_*.cpp'
} | xargs -P "$jobs" -I '{}' "$compiler" "@$flags" "$@" -include-pch "$scratch/common.pch" -fsyntax-only '{}' || failed=1
rm -rf -- "$scratch"
[ "$failed" -eq 0 ] || { echo "$compiler: not all files compile without warnings"; exit 1; }
