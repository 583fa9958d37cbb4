#!/bin/sh
# The checks must find what they are there to find: small trees, each with one mistake, and one without.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf -- "$tree"' EXIT
failures=0

# A legal tree: one header a room, each including one below.
fresh() {
    rm -rf -- "$tree/moe"
    for room in core formats parallel kernels gating experts layer io stats; do
        mkdir -p "$tree/moe/$room"
        printf '#pragma once\n#include "../core/base.hpp"\n' >"$tree/moe/$room/$room.hpp"
    done
    for room in gating/strategies gating/adaptors layer/pass kernels/arch; do
        mkdir -p "$tree/moe/$room"
        printf '#pragma once\n#include "../../core/base.hpp"\n' >"$tree/moe/$room/inner.hpp"
    done
    printf '#include "../strategies/inner.hpp"\n#include "../gating.hpp"\n' >>"$tree/moe/gating/adaptors/inner.hpp"
    printf '#include "pass/inner.hpp"\n' >>"$tree/moe/layer/layer.hpp"
    printf '#include "arch/inner.hpp"\n' >>"$tree/moe/kernels/kernels.hpp"
    printf '#pragma once\n#include <vector>\n#include "../config.hpp"\n' >"$tree/moe/core/base.hpp"
    printf '#pragma once\n#define MOE_X 1\n' >"$tree/moe/config.hpp"
    printf '#pragma once\n#include "io/io.hpp"\n' >"$tree/moe/io.hpp"
}

# expect <status> <check> <what>: 0 for a clean tree, 1 for one in which the check finds something
expect() {
    result=0
    output=$(sh "$here/$2" "$tree/moe" 2>&1) || result=1
    if [ "$result" -ne "$1" ]; then
        echo "FAILED: $2: $3: status $result; output: $output"
        failures=$((failures + 1))
    fi
}

# offence <check> <file> <line> <what>: adding the line to the file of a legal tree must be found
offence() {
    fresh
    printf '%s\n' "$3" >>"$tree/moe/$2"
    expect 1 "$1" "$4"
}

fresh
expect 0 check_floors.sh 'a legal tree'
expect 0 check_headers.sh 'a legal tree'

offence check_floors.sh core/base.hpp '#include "../kernels/kernels.hpp"' 'an include that goes up'
offence check_floors.sh kernels/kernels.hpp '  #  include "../gating/gating.hpp"' 'an include that goes up, spaced'
offence check_floors.sh gating/gating.hpp '#include "../experts/experts.hpp"' 'an include that goes sideways'
offence check_floors.sh gating/gating.hpp '#include "strategies/inner.hpp"' 'a room that includes one above it inside itself'
offence check_floors.sh gating/strategies/inner.hpp '#include "../adaptors/inner.hpp"' 'a strategy that includes an adaptor'
offence check_floors.sh layer/pass/inner.hpp '#include "../layer.hpp"' 'an inner room that includes the room that needs it'
offence check_floors.sh kernels/arch/inner.hpp '#include "../../gating/gating.hpp"' 'an unlisted inner room that goes up'
offence check_floors.sh io/io.hpp '#include "../stats/stats.hpp"' 'an outer room that includes another'
offence check_floors.sh kernels/kernels.hpp '#include "../parallel/parallel.hpp"' 'a kernel that knows an executor'
offence check_floors.sh gating/gating.hpp '#include "../io.hpp"' 'a room that includes a door'
offence check_floors.sh gating/gating.hpp '#include "../core/absent.hpp"' 'an include of nothing'
offence check_floors.sh gating/gating.hpp '#include <moe/core/base.hpp>' 'an include that is not relative'
offence check_floors.sh core/base.hpp '#include "core.hpp"' 'a cycle in a room'
offence check_floors.sh config.hpp '#include "core/base.hpp"' 'a cycle through the root'
fresh
mkdir "$tree/moe/cellar"
printf '#pragma once\n#include "../core/base.hpp"\n' >"$tree/moe/cellar/cellar.hpp"
expect 1 check_floors.sh 'a room on no floor'

offence check_headers.sh core/base.hpp '#define FOO 1' 'a macro without prefix'
offence check_headers.sh core/base.hpp ' # define MOX_FOO 1' 'a macro with a similar prefix'
offence check_headers.sh gating/gating.hpp '#include <xsimd/xsimd.hpp>' 'a second include of xsimd'
offence check_headers.sh gating/gating.hpp '#pragma omp parallel' 'an OpenMP pragma'
offence check_headers.sh gating/gating.hpp '#include <nlohmann/json.hpp>' 'nlohmann-json outside io'
offence check_headers.sh gating/gating.hpp '#include <Eigen/Core>' 'Eigen outside its door'
offence check_headers.sh gating/gating.hpp '#include <iostream>' 'printing'
offence check_headers.sh gating/gating.hpp 'using namespace std;' 'using namespace'
fresh
awk 'BEGIN { print "#pragma once"; for (i = 0; i < 400; ++i) print "//" }' >"$tree/moe/core/long.hpp"
expect 1 check_headers.sh 'a header of 401 lines'
fresh
: >"$tree/moe/core/empty.hpp"
expect 1 check_headers.sh 'a header without #pragma once'

# readme_tree <lines of README.md> <lines of an example>
readme_tree() {
    rm -rf -- "$tree/moe"
    mkdir -p "$tree/moe/examples"
    printf "$1" >"$tree/moe/README.md"
    printf "$2" >"$tree/moe/examples/one.cpp"
}
readme_tree 'text\n```cpp\nint a;\n\n    int b;\n```\ntext\n' '    // [readme]\n    int a;\n\n        int b;\n    // [/readme]\n'
expect 0 check_readme.sh 'a README whose snippet an example holds'
readme_tree '```cpp\nint a;\nint b;\n```\n' '// [readme]\nint a;\n// [/readme]\n'
expect 1 check_readme.sh 'a line of the README that no example holds'
readme_tree '```cpp\nint a;\n```\n' '// [readme]\nint a;\n// [/readme]\n// [readme]\nint b;\n// [/readme]\n'
expect 1 check_readme.sh 'a region that the README does not hold'
readme_tree '```cpp\nint b;\nint a;\n```\n' '// [readme]\nint a;\nint b;\n// [/readme]\n'
expect 1 check_readme.sh 'a region whose lines stand in another order'
readme_tree '```cpp\nint a;\n```\n' '// [readme]\nint a;\n'
expect 1 check_readme.sh 'a region without end'
readme_tree 'text\n' 'int a;\n'
expect 1 check_readme.sh 'a README without code'

[ "$failures" -eq 0 ]
