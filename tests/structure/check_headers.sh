#!/bin/sh
# check_headers.sh <folder of the library>: what the text of a header may hold. Prints each offence; status 1 if any.
set -eu
cd -- "$1"
status=0

# refuse <why> <extended regular expression> [<file or folder that may>]...
refuse() {
    why=$1
    pattern=$2
    shift 2
    found=$(grep -rnE --include='*.hpp' -e "$pattern" . || true)
    for allowed in "$@"; do
        found=$(printf '%s\n' "$found" | grep -v "^\./$allowed" || true)
    done
    if [ -n "$found" ]; then
        printf '%s\n' "$found" | sed "s|^\./\(.*\)|\1   <- $why|"
        status=1
    fi
}

include='^[[:space:]]*#[[:space:]]*include[[:space:]]*'
refuse 'macros start with MOE_' '^[[:space:]]*#[[:space:]]*define[[:space:]]+([^M]|M[^O]|MO[^E]|MOE[^_])'
refuse 'only kernels/simd.hpp includes xsimd' "$include[<\"]xsimd" 'kernels/simd\.hpp:'
refuse 'only parallel/openmp.hpp speaks OpenMP' '#[[:space:]]*pragma[[:space:]]+omp|<omp\.h>' 'parallel/openmp\.hpp:'
refuse 'only io/ includes nlohmann-json' "$include[<\"]nlohmann" 'io/'
refuse 'only distributed/ includes MPI' "$include[<\"]mpi" 'distributed/'
refuse 'only eigen.hpp and train/ include Eigen' "$include[<\"]Eigen" 'eigen\.hpp:' 'train/'
refuse 'the library never prints' "$include<(iostream|print|cstdio)>|std::(cout|cerr|clog)|[^a-z_]f?printf\(" 'io/'
refuse 'no using namespace in a header' '^[[:space:]]*using[[:space:]]+namespace'

for header in $(find . -name '*.hpp' | LC_ALL=C sort); do
    lines=$(wc -l <"$header")
    if [ "$lines" -gt 400 ]; then
        echo "${header#./}: $lines lines, at most 400   <- one idea a file"
        status=1
    fi
    if ! grep -q '^#pragma once$' "$header" && [ "${header%list.hpp}" = "$header" ]; then
        echo "${header#./}: no #pragma once"
        status=1
    fi
done
exit $status
