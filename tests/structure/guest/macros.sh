#!/bin/sh
# macros.sh COMPILER FLAGS_FILE INCLUDE_DIRECTORY HEADER...: the headers compile in a file that has function-like macros of
# names which other libraries (Apple's AssertMacros.h, Windows.h, test frameworks) define. What the headers include that is
# not ours comes before the macros: it need not stand them.
set -eu
compiler=$1
flags=$2
include=$3
shift 3
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

{
    find "$include/moe" -name '*.hpp' -exec cat {} + | sed -n -E 's/^ *(#include <[a-zA-Z][^>]*>).*/\1/p' |
        grep -v -E '<(moe/|arm_)' | sort -u |
        sed -E 's/^#include (<.*>)$/#if __has_include(\1)\n#include \1\n#endif/'
    for name in require fail check verify min max expect assume likely unlikely foreach assert_that panic warn; do
        printf '#undef %s\n#define %s(...) static_assert(false, "a macro was taken for a function")\n' "$name" "$name"
    done
    for header in "$@"; do
        printf '#include <%s>\n' "$header"
    done
} >"$scratch/macros.cpp"
"$compiler" "@$flags" -fsyntax-only "$scratch/macros.cpp"
