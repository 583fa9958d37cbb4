#!/bin/sh
# usage: check_readme.sh ROOT
# Every line between [readme] and [/readme] in an example must stand, unindented, in README.md: its snippets compile.
set -eu
root=$1
status=0
found=0
for example in "$root"/examples/*.cpp; do
    sed -n '/\[readme\]/,/\[\/readme\]/p' "$example" | grep -v 'readme\]' | sed 's/^    //' >"${TMPDIR:-/tmp}/moe_readme.$$" ||
        continue
    while IFS= read -r line; do
        found=$((found + 1))
        if ! grep -qxF -- "$line" "$root/README.md"; then
            echo "README.md lacks this line of $example: $line" >&2
            status=1
        fi
    done <"${TMPDIR:-/tmp}/moe_readme.$$"
done
rm -f "${TMPDIR:-/tmp}/moe_readme.$$"
[ "$found" -gt 0 ] || { echo "no example marks a snippet" >&2; status=1; }
exit "$status"
