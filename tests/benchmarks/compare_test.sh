#!/bin/sh
# shellcheck disable=SC2317  # the cases are called by name, at the end
# usage: compare_test.sh CASE MOE_COMPARE COMPARE_SAME SCRATCH_DIR THREADS
# Runs the comparison of routing strategies as a user would. THREADS is 1 where the program is built without OpenMP.
set -eu
case=$1
program=$2
same=$3
scratch=$4
threads=$5

# shellcheck source=tests/support/program_test.sh
. "$(dirname -- "$0")/../support/program_test.sh"

test_bad_options() {
    bad_option "unknown option '--shape'" --shape tiny
    bad_option "unknown option 'top-1'" top-1
    bad_option "--shapes is 'gpt-5', it must be one of mixtral-8x7b, qwen3-30b-a3b" --shapes gpt-5
    bad_option "--strategies is 'best', it must be one of top-1, top-2" --strategies top-1,best
    bad_option "--strategies is '', it must be one of" --strategies ''
    bad_option "'skewed', it must be one of uniform, zipf, one-hot" --distribution skewed
    for bad in 0 -1 8193 4x '' 1,,2; do bad_option '--tokens is ' --tokens "$bad"; done
    for bad in -1 18446744073709551616 one; do bad_option "--seed is '$bad'" --seed "$bad"; done
    for bad in 0 -1 1025 two; do bad_option "--threads is '$bad'" --threads "$bad"; done
    for file in json csv html; do
        bad_option "--$file needs a value" "--$file"
        bad_option "--$file needs the name of a file" "--$file="
        bad_option "cannot write $scratch/none/x" "--$file" "$scratch/none/x"
    done
    bad_option "no option '--benchmark_speed" --benchmark_speed=1
}

test_list() {
    run 0 --list
    for strategy in top-1 top-2 top-4 top-8 sigmoid-bias groups per-group top-p-0.5 top-p-0.8 threshold \
        expert-threshold relu noisy-top-k sparse-mixer hash random round-robin dense; do
        grep -q "^  $strategy  *[a-z]" "$out" || complain "$strategy is not listed, or not as causal"
    done
    for strategy in expert-choice-1 expert-choice-2 expert-choice-cap switch-1.0 switch-1.25 top-2-cap-1.0 \
        top-2-cap-1.25 top-2-priority gshard st-moe base sinkhorn; do
        grep -q "^  $strategy  *[*] [a-z]" "$out" || complain "$strategy is not listed, or as causal"
    done
    grep -q '^not compared, .*null experts' "$out" || complain 'what is left out is not named'
    grep -q '^  mixtral-8x7b  *8 experts, 2 a token, d_model 4096, d_ff 14336$' "$out" || complain 'no shape is listed'
    run 0 --help
    for option in quick shapes strategies tokens distribution seed threads json csv html list; do
        grep -q "^  --$option " "$out" || complain "--help does not name --$option"
    done
}

# Equal routing with one seed, whatever the threads; another with another seed.
test_same_routing() {
    set -- --quick --shapes tiny --tokens 3,40
    run 0 "$@" --threads 1 --seed 5 --json "$scratch/alone.json"
    grep -q "^wrote $scratch/alone.json$" "$out" || complain "no path in: $(cat "$out")"
    run 0 "$@" --threads "$threads" --seed 5 --json "$scratch/again.json" --csv "$scratch/all.csv" \
        --html "$scratch/page.html" "--benchmark_out=$scratch/google.json"
    "$same" "$scratch/alone.json" "$scratch/again.json" || complain 'two runs with one seed route differently'
    for file in all.csv page.html; do [ -s "$scratch/$file" ] || complain "$file is empty"; done
    grep -q '"name": "tiny/tokens:40/top-2' "$scratch/google.json" || complain 'the file of Google Benchmark'
    run 0 "$@" --threads "$threads" --seed 6 --json "$scratch/other.json"
    if "$same" "$scratch/alone.json" "$scratch/other.json" 2>"$err"; then complain 'seed 6 routes as seed 5'; fi
    run 0 "$@" --threads "$threads" --seed 5 --distribution one-hot --strategies top-1,hash --json "$scratch/two.json"
    if "$same" "$scratch/alone.json" "$scratch/two.json" 2>"$err"; then complain 'two strategies are as all'; fi
}

"test_$case"
exit "$((failures != 0))"
