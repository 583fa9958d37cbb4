#!/bin/sh
# headers_alone.sh COMPILER JOBS INCLUDE_DIRECTORY FLAGS_FILE SCRATCH [HEADER...]
# Every header (of those in INCLUDE_DIRECTORY, unless some are named, by their path in it) must compile by itself, and
# its second include must add nothing. A header that includes one of the bases below, itself or through others, sees all
# that is in it: it is compiled on top of the base, parsed once. Prints what the compiler says; status 1 if anything.
set -eu
compiler=$1
jobs=$2
include=$3
flags=$4
scratch=$5
shift 5

# the richest first
bases='moe/layer/pass/forward_pass.hpp moe/experts/ffn.hpp moe/kernels/simd.hpp moe/io/json.hpp moe/gating/gate.hpp
       moe/reference/routing.hpp moe/core/error.hpp'

rm -rf -- "$scratch"
mkdir -p "$scratch"
bases=$(for base in $bases; do if [ -e "$include/$base" ]; then echo "$base"; fi; done)
[ $# -gt 0 ] || set -- $(cd -- "$include" && find moe -name '*.hpp' ! -path 'moe/instantiate/*list.hpp' | LC_ALL=C sort)

# "header base" a line: the first base that a walk along the includes reaches, or "-"
(cd -- "$include" && find moe -name '*.hpp' -exec grep -HE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' {} +) |
    awk -v wanted="$*" -v bases="$(echo $bases)" '
    {
        colon = index($0, ":")
        folder = substr($0, 1, colon - 1)
        from = folder
        sub(/[^\/]*$/, "", folder)
        split(substr($0, colon + 1), quoted, "\"")
        name = quoted[2]
        while (name ~ /^\.\.\//) { name = substr(name, 4); sub(/[^\/]*\/$/, "", folder) }
        includes[from] = includes[from] " " folder name
    }
    function walk(header,   parts, i, n) {
        n = split(includes[header], parts, " ")
        for (i = 1; i <= n; ++i) if (!(parts[i] in reached)) { reached[parts[i]] = 1; walk(parts[i]) }
    }
    END {
        n = split(wanted, header, " ")
        n_bases = split(bases, base, " ")
        for (i = 1; i <= n; ++i) {
            split("", reached)
            walk(header[i])
            for (b = 1; b <= n_bases && !(base[b] in reached); ++b) {}
            print header[i], b <= n_bases ? base[b] : "-"
        }
    }' >"$scratch/headers"

# A precompiled header is found beside the name that -include gives.
for base in $bases; do
    folder=$scratch/$(dirname -- "$base")
    mkdir -p "$folder"
    printf '#include <%s>\n' "$base" >"$scratch/$base"
    printf '%s\n' "$scratch/$base"
done | xargs -P "$jobs" -I '{}' "$compiler" -I "$include" "@$flags" -x c++-header '{}' -o '{}.gch'

failed=0
while read -r header base; do
    source=$scratch/$(printf '%s' "$header" | tr / _).cpp
    printf '#include <%s>\n#include <%s>\n' "$header" "$header" >"$source"
    if [ "$base" = - ]; then printf '%s\n' "$source"; else printf -- '-include %s %s\n' "$scratch/$base" "$source"; fi
done <"$scratch/headers" | xargs -P "$jobs" -L 1 "$compiler" -I "$include" "@$flags" -Winvalid-pch -fsyntax-only || failed=1
rm -rf -- "$scratch"
exit "$failed"
