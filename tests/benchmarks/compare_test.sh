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
    for other in '--shapes tiny' '--strategies top-2' '--distribution zipf' --seed=3 '--shapes=all'; do
        name=${other%%[ =]*}
        # shellcheck disable=SC2086  # a name and its value
        bad_option "--cost compares no strategies and has no $name" $other --cost
    done
    bad_option '--cost compares no strategies and has no options of Google Benchmark' --cost --benchmark_out=x
    bad_option '--tokens is ' --cost --tokens 0
    bad_option '--cost compares no strategies and has no --train' --cost --train
    for bad in 0 -1 101 two; do bad_option "--seeds is '$bad'" --train --seeds "$bad"; done
    for bad in 0 -1 1000001 two; do bad_option "--steps is '$bad'" --train --steps "$bad"; done
    bad_option '--seeds is of trainings: give --train' --seeds 2
    bad_option '--steps is of trainings: give --train' --steps=2
    bad_option "--strategies is 'top-2-bias', it must be one of top-1" --strategies top-2-bias
    bad_option "--strategies is 'best', it must be one of top-1" --train --strategies top-2-bias,best
    bad_option '--runs needs the name of a folder' --train --runs=
    touch "$scratch/file"
    bad_option "cannot create $scratch/file/runs" --train --runs "$scratch/file/runs"
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
    for strategy in dense-active dense-total top-2-free top-2-bias top-1-weight-1 switch soft-moe default-vectors; do
        grep -q "^  $strategy  *[a-z]" "$out" || complain "$strategy, for trainings, is not listed, or not as causal"
    done
    grep -q '^  expert-choice  *[*] [a-z]' "$out" || complain 'expert-choice, for trainings, is listed as causal'
    grep -q '^not compared, .*null experts' "$out" || complain 'what is left out is not named'
    grep -q '^  mixtral-8x7b  *8 experts, 2 a token, d_model 4096, d_ff 14336$' "$out" || complain 'no shape is listed'
    run 0 --help
    for option in cost quick shapes strategies tokens distribution seed threads train seeds steps runs json csv html list; do
        grep -q "^  --$option " "$out" || complain "--help does not name --$option"
    done
}

# Costs alone, in all forms, within seconds.
test_cost() {
    run 0 --cost --quick --threads 1 --json "$scratch/cost.json" --csv "$scratch/cost.csv" --html "$scratch/cost.html"
    for line in '^what a mixture of experts costs and gains' '^sizes$' '^cost: bf16, 1 token$' '^cost: bf16, 64 tokens$' \
        '^cost: bf16, 512 tokens$' '^  Mixtral-8x7B  *32  *8  *2  *46[.]7  *12[.]9  *187' \
        '^  Qwen3-30B-A3B  *48  *128  *8  *30[.]5  *3[.]35  *122' \
        '^  Mixtral-8x7B  *2[.]00 of 8  *25[.]8  *25[.]8  *93[.]4  *25[.]8  *93[.]4 ' \
        '^  reported: 16 experts, 1[.]8 T  *120  *16  *2  *1831  *277' '^  limits of this machine: [0-9.]* GB/s'; do
        grep -q "$line" "$out" || complain "no line '$line'"
    done
    if grep -q '^speed\|^balance\|^quality\|^collapse' "$out"; then complain 'strategies were compared'; fi
    rows=$(grep -c '^cost,.*,Mixtral-8x7B,published,' "$scratch/cost.csv" || true)
    [ "$rows" -eq 20 ] || complain "Mixtral has $rows rows instead of 5 formats with 4 numbers of tokens"
    grep -q '^cost_machine,' "$scratch/cost.csv" || complain 'no limits in the CSV'
    for text in '"speed": \[\]' '"model": "DeepSeek-V3"' '"kind": "reported"' '"bytes_per_second": [0-9]'; do
        grep -q "$text" "$scratch/cost.json" || complain "no $text in the JSON"
    done
    grep -q '<title>What a mixture of experts costs</title>' "$scratch/cost.html" || complain 'the title of the page'
    run 0 --cost --quick --threads 1 --tokens 3 --csv "$scratch/cost.csv"
    grep -q '^cost: bf16, 3 tokens$' "$out" || complain '3 tokens'
    rows=$(grep -c '^cost,.*,Mixtral-8x7B,' "$scratch/cost.csv" || true)
    [ "$rows" -eq 5 ] || complain "Mixtral has $rows rows instead of 5 formats"
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

# Equal trainings with one seed, whatever the threads; those that are done are not done again.
test_train() {
    set -- --quick --shapes tiny --tokens 3 --train --steps 2 --strategies top-2,top-2-bias,expert-choice
    run 0 "$@" --threads 1 --json "$scratch/alone.json" --html "$scratch/page.html"
    grep -q '^trained$' "$out" || complain 'no table of trainings'
    grep -q '^  top-2-bias  *[0-9]' "$out" || complain 'top-2-bias was not trained'
    run 0 "$@" --threads "$threads" --runs "$scratch/runs" --json "$scratch/again.json"
    "$same" "$scratch/alone.json" "$scratch/again.json" || complain 'two runs with one seed train differently'
    grep -q 'trained top-2, seed 1' "$err" || complain 'nothing says what was trained'
    run 0 "$@" --threads "$threads" --runs "$scratch/runs" --json "$scratch/kept.json"
    "$same" "$scratch/alone.json" "$scratch/kept.json" || complain 'trainings that were kept are others'
    if grep -q 'trained top-2, seed 1' "$err"; then complain 'what was kept is trained again'; fi
    run 0 "$@" --threads "$threads" --runs "$scratch/runs" --seeds 2 --json "$scratch/two.json"
    grep -q 'trained top-2, seed 2' "$err" || complain 'the second seed is not trained'
    if "$same" "$scratch/alone.json" "$scratch/two.json" 2>"$err"; then complain 'two seeds are as one'; fi
}

"test_$case"
exit "$((failures != 0))"
