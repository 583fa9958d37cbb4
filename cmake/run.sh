#!/bin/sh
# Sets up what is missing, then builds and runs. Meant for Debian 12 and Ubuntu 24.04 with only git, a shell and apt;
# anywhere else it works with the tools that are installed.
set -eu

usage() {
    cat >&2 <<'TEXT'
usage: sh cmake/run.sh demo [options of examples/generate]   build for this processor and generate text
       sh cmake/run.sh train [options; --help lists them]    build for this processor and train a small model
       sh cmake/run.sh finetune [options; --help lists them] build for this processor and fine-tune a model with LoRA
       sh cmake/run.sh test [options of ctest]               build everything and run the tests
       sh cmake/run.sh bench [options; --help lists them]    build for this processor and measure speed
       sh cmake/run.sh compare [options; --help lists them]  build for this processor and compare routing strategies
       sh cmake/run.sh residency [options; --help]           build and measure a layer whose experts are more than memory
       sh cmake/run.sh inspect PATH [options; --help]        build for this processor and tell what a model is and costs
       sh cmake/run.sh fuzz [target...] [seconds for each]   build with clang and feed the readers of files with nonsense;
                                                             targets are the folders of tests/fuzz/corpus
TEXT
    exit 2
}

[ $# -gt 0 ] || usage
command=$1
shift
case $command in demo | train | finetune | test | bench | compare | residency | inspect | fuzz) ;; *) usage ;; esac

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

cxx_missing() { ! command -v "${CXX:-c++}" >/dev/null 2>&1; }

# True unless `cmake` is there and is 3.25 or newer.
cmake_missing() {
    command -v cmake >/dev/null 2>&1 || return 0
    version=$(cmake --version | sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    [ "${version% *}" -lt 3 ] || { [ "${version% *}" -eq 3 ] && [ "${version#* }" -lt 25 ]; }
}

package_missing() {
    case $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null || true) in
        *' installed') return 1 ;;
    esac
}

packages=''
want() { packages="$packages $1"; }

# Tools count as present however they came; libraries by their Debian package, since CMake finds them for itself elsewhere.
if cxx_missing; then want g++; fi
if cmake_missing; then want cmake; fi
if ! command -v ninja >/dev/null 2>&1; then want ninja-build; fi
if [ "$command" = fuzz ] && ! command -v clang++ >/dev/null 2>&1; then want clang; fi
if command -v dpkg-query >/dev/null 2>&1; then
    libraries='libxsimd-dev libeigen3-dev nlohmann-json3-dev libcli11-dev'
    case $command in
        test) libraries="$libraries catch2 libbenchmark-dev" ;;
        bench | compare | residency) libraries="$libraries libbenchmark-dev" ;;
    esac
    for package in $libraries; do
        if package_missing "$package"; then want "$package"; fi
    done
fi

as_root=''
if [ "$(id -u)" -eq 0 ]; then
    as_root='env'
elif command -v sudo >/dev/null 2>&1; then
    as_root='sudo env'
fi

if [ -n "$packages" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "run.sh: no apt-get here; install a C++20 compiler, CMake >= 3.25, Ninja, xsimd, Eigen, nlohmann-json, CLI11" \
             "(missing:$packages)" >&2
        exit 1
    fi
    if [ -z "$as_root" ]; then
        echo "run.sh: neither root nor sudo; have installed: apt-get install$packages" >&2
        exit 1
    fi
    echo "run.sh: installing$packages" >&2
    # shellcheck disable=SC2086  # both are lists of words
    {
        $as_root DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
        $as_root DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages >&2
    }
fi

# oneDNN is a rival in the benchmark, nothing that is needed: measure without it where it can't be installed
if [ "$command" = bench ] && [ -n "$as_root" ] && command -v apt-get >/dev/null 2>&1 && package_missing libdnnl-dev; then
    echo "run.sh: installing libdnnl-dev" >&2
    {
        { [ -n "$packages" ] || $as_root DEBIAN_FRONTEND=noninteractive apt-get update -q; } &&
            $as_root DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends libdnnl-dev
    } >&2 || echo "run.sh: could not install libdnnl-dev; measuring without oneDNN" >&2
fi

# libFuzzer and the sanitizers of clang are in a package named after its version
fuzzer_missing() {
    ! echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, decltype(sizeof 0)) { return 0; }' |
        clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null >/dev/null 2>&1
}
if [ "$command" = fuzz ] && fuzzer_missing; then
    version=$(clang++ -dumpversion)
    runtime=libclang-rt-${version%%.*}-dev
    if [ -z "$as_root" ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "run.sh: clang++ has no libFuzzer here; have installed: $runtime" >&2
        exit 1
    fi
    echo "run.sh: installing $runtime" >&2
    {
        [ -n "$packages" ] || $as_root DEBIAN_FRONTEND=noninteractive apt-get update -q
        $as_root DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$runtime"
    } >&2
fi

called_from=$PWD
cd -- "$root"
jobs=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
case $command in
    demo)
        # without Catch2 and Google Benchmark, which the demo does not need; what the tests want is left as it is
        cmake --preset release -B build/demo -D MOE_BUILD_TESTS=OFF -D MOE_BUILD_BENCHMARKS=OFF >&2
        cmake --build build/demo --target generate -j "$jobs" >&2
        # threads that sleep while they wait: on a busy machine those that spin keep the others from their work
        OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} exec build/demo/examples/generate "$@"
        ;;
    train | finetune)
        target=train
        out=build/trained
        if [ "$command" = finetune ]; then
            target=finetune_lora
            out=build/finetuned
        fi
        cmake --preset release -B build/demo -D MOE_BUILD_TESTS=OFF -D MOE_BUILD_BENCHMARKS=OFF >&2
        cmake --build build/demo --target "$target" -j "$jobs" >&2
        set_out=yes
        overwrite=yes
        for argument; do
            case $argument in
                --out | --out=*) set_out=no overwrite=no ;;
                --merged | --merged=*) overwrite=no ;;
            esac
        done
        # its own folder may be trained anew again and again, one of yours only if you say so
        [ "$set_out" = no ] || set -- --out "$out" "$@"
        [ "$overwrite" = no ] || set -- --overwrite "$@"
        OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} exec "build/demo/examples/$target" "$@"
        ;;
    bench)
        cmake --preset release -B build/bench -D MOE_BUILD_TESTS=OFF -D MOE_BUILD_EXAMPLES=OFF >&2
        cmake --build build/bench --target moe_bench -j "$jobs" >&2
        exec build/bench/benchmarks/moe_bench "$@"
        ;;
    residency)
        cmake --preset release -B build/bench -D MOE_BUILD_TESTS=OFF -D MOE_BUILD_EXAMPLES=OFF >&2
        cmake --build build/bench --target moe_residency -j "$jobs" >&2
        exec build/bench/benchmarks/moe_residency "$@"
        ;;
    inspect)
        # paths on the command line are those of who calls
        cmake --preset release -B build/bench -D MOE_BUILD_TESTS=OFF -D MOE_BUILD_EXAMPLES=OFF >&2
        cmake --build build/bench --target moe_inspect -j "$jobs" >&2
        cd -- "$called_from"
        OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} exec "$root/build/bench/benchmarks/inspect/moe_inspect" "$@"
        ;;
    compare)
        cmake --preset release -B build/bench -D MOE_BUILD_TESTS=OFF -D MOE_BUILD_EXAMPLES=OFF >&2
        cmake --build build/bench --target moe_compare -j "$jobs" >&2
        name=compare
        for argument; do
            [ "$argument" != --cost ] || name=cost  # files of its own: those of strategies take minutes
        done
        exec build/bench/benchmarks/moe_compare --json "build/bench/$name.json" --html "build/bench/$name.html" \
            --runs build/bench/trainings "$@"
        ;;
    fuzz)
        seconds=60
        targets=''
        for argument; do
            case $argument in
                *[!0-9]*)
                    [ -d "tests/fuzz/corpus/$argument" ] || { usage; }
                    targets="$targets $argument"
                    ;;
                *) seconds=$argument ;;
            esac
        done
        [ -n "$targets" ] || targets=$(cd tests/fuzz/corpus && echo *)
        cmake --preset release -B build/fuzz -D CMAKE_CXX_COMPILER=clang++ -D MOE_BUILD_FUZZERS=ON \
            -D MOE_BUILD_TESTS=OFF -D MOE_BUILD_BENCHMARKS=OFF -D MOE_BUILD_EXAMPLES=OFF >&2
        # shellcheck disable=SC2046,SC2086  # a list of words
        cmake --build build/fuzz -j "$jobs" --target $(printf 'fuzz_%s ' $targets) >&2
        status=0
        for target in $targets; do
            grown=build/fuzz/corpus/$target
            log=build/fuzz/$target.log
            mkdir -p "$grown"
            set --
            [ ! -f "tests/fuzz/dictionaries/$target.dict" ] || set -- "-dict=tests/fuzz/dictionaries/$target.dict"
            # no input of these lengths may make a reader ask for 64 MiB, or take 10 seconds
            if "build/fuzz/tests/fuzz/fuzz_$target" "$grown" "tests/fuzz/corpus/$target" "$@" \
                -max_total_time="$seconds" -max_len=4096 -malloc_limit_mb=64 -timeout=10 -print_final_stats=1 \
                -artifact_prefix="build/fuzz/found_${target}_" >"$log" 2>&1; then
                echo "$target: $(sed -n 's/.*number_of_executed_units: *//p' "$log") inputs, nothing found"
            else
                status=1
                echo "$target: found; $log says what"
                tail -n 30 "$log" >&2
            fi
        done
        exit "$status"
        ;;
    test)
        cmake --preset release
        cmake --build --preset release -j "$jobs"
        exec ctest --preset release -j "$jobs" "$@"
        ;;
esac
