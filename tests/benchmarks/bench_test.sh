#!/bin/sh
# shellcheck disable=SC2317  # the cases are called by name, at the end
# usage: bench_test.sh CASE MOE_BENCH CHECK_JSON SCRATCH_DIR THREADS
# Runs the benchmark program as a user would. THREADS is 1 where the program is built without OpenMP.
set -eu
case=$1
program=$2
check_json=$3
scratch=$4
threads=$5

# shellcheck source=tests/support/program_test.sh
. "$(dirname -- "$0")/../support/program_test.sh"

test_bad_options() {
    bad_option "unknown option '--batch'" --batch 5
    bad_option "unknown option 'mixtral-8x7b'" mixtral-8x7b
    bad_option "'gpt-5', it must be one of mixtral-8x7b, qwen3-30b-a3b" --shape gpt-5
    bad_option "'', it must be one of" --shape tiny,
    bad_option "'q8', it must be one of f32" --format f32,q8
    bad_option "'fast', it must be one of exact" --compute fast
    bad_option 'none of the formats' --format f32,bf16 --compute int8
    bad_option "'skewed', it must be one of random, zipf, one" --routing skewed
    bad_option "'blas', it must be one of eigen, onednn, dense, onednn_bf16, onednn_int8" --rivals blas
    for bad in 0 -1 65537 4x '' 1,,2; do bad_option '--tokens is ' --tokens "$bad"; done
    for bad in 0 -1 1025 two; do bad_option "--threads is '$bad'" --threads "$bad"; done
    for bad in 0 -1 nan x; do bad_option "--min-time is '$bad'" --min-time "$bad"; done
    for bad in 0 91 x; do bad_option "--memory is '$bad'" --memory "$bad"; done
    bad_option '--json needs a value' --json
    bad_option 'cannot write' --json "$scratch/none/rows.json"
    bad_option "no option '--benchmark_speed" --benchmark_speed=1
    bad_option '--backward trains float32' --backward --format bf16
    bad_option '--backward trains float32' --format all --backward
    bad_option '--backward trains float32' --backward --compute int8
    bad_option '--backward has bars' --backward --bars
    bad_option '--backward has bars' --scaling --backward
    bad_option '--backward cannot have --routing one' --backward --routing one
    bad_option '--backward has no rival dense' --backward --rivals dense
    bad_option '--backward has no rival onednn_int8' --backward --rivals onednn_int8
    bad_option 'cannot write' --backward --json "$scratch/none/rows.json"
}

test_model() {
    tests=$(dirname -- "$0")/..
    model=$tests/../examples/models/tiny-mixtral
    run 0 --model "$model" --layer 2 --tokens 1,9 --min-time 0.01 --threads "$threads" --in-place --compute exact,int8
    prints() { grep -q -- "$1" "$out" || complain "no line with '$1' in: $(cat "$out")"; }
    prints ': mixtral, layer 2 of 4, 8 experts, 2 a token, d_model 128, d_ff 192; gate BF16, up BF16, down BF16; '
    prints '^in place    exact       9 '
    prints '^packed      exact       9 .* 0.0e+00$'
    prints '^packed       int8 is not there: '
    for name in mixtral_q4_k_m qwen3moe_q8_0 gpt_oss_mxfp4; do
        run 0 --model="$tests/golden/quantised/layers/$name.gguf" --tokens 3 --min-time 0.01 --threads "$threads"
        prints '^packed       int8       3 .* [0-9.]*e-0[4-7]$'
    done
    refused 1 'there is no layer 4 of 4' --model "$model" --layer 4
    refused 1 'none.gguf' --model "$scratch/none.gguf"
    bad_option 'leave out --shape' --model "$model" --shape tiny
    bad_option 'leave out --json' --model "$model" --json="$scratch/rows.json"
    bad_option 'are for --model' --in-place
    bad_option 'are for --model' --layer 3
    bad_option '--model needs a folder' --model ''
}

test_list() {
    run 0 --list
    for shape in mixtral-8x7b qwen3-30b-a3b deepseek-v2-lite olmoe-1b-7b gpt-oss-20b granite-1b-a400m \
        deepseek-v3-slice; do
        # where products of bfloat16 are, formats of 16 bits have another compute for many tokens
        for row in f32/exact 'bf16/\(exact\|bf16\)' 'f16/\(exact\|bf16\)' int8/int8 int4/int8; do
            [ "$(grep -c "^$shape/$row/tokens:" "$out")" -eq 10 ] || complain "not 10 rows of $shape/$row"
        done
    done
    if grep -q 'int[84]/exact' "$out"; then complain 'exact products of integers are listed unasked'; fi
    if grep -q tiny "$out"; then complain 'the shape of the tests is listed'; fi
    run 0 --list --shape=tiny,olmoe-1b-7b --format bf16 --tokens 3,1
    printf 'tiny/bf16/exact/tokens:3\ntiny/bf16/exact/tokens:1\nolmoe-1b-7b/bf16/exact/tokens:3\n' >"$scratch/wanted"
    printf 'olmoe-1b-7b/bf16/exact/tokens:1\n' >>"$scratch/wanted"
    cmp "$out" "$scratch/wanted" >&2 || complain 'other rows than asked for'
    run 0 --list --shape tiny --format f16,int4 --compute all --tokens 3
    printf 'tiny/f16/exact/tokens:3\ntiny/int4/exact/tokens:3\ntiny/int4/int8/tokens:3\n' >"$scratch/wanted"
    grep -v '/bf16/tokens' "$out" | cmp - "$scratch/wanted" >&2 || complain 'other computes than the formats have'
    run 0 --list --bars
    [ "$(wc -l <"$out")" -eq 120 ] || complain 'not 4 shapes x 5 formats x 6 token counts with --bars'
    run 0 --list --scaling --format int4
    for shape in qwen3-30b-a3b olmoe-1b-7b deepseek-v2-lite mixtral-8x7b; do
        echo "$shape/int4/int8/tokens:512"
    done >"$scratch/wanted"
    cmp "$out" "$scratch/wanted" >&2 || complain 'other rows than --scaling has'
    run 0 --list --backward
    for shape in qwen3-30b-a3b olmoe-1b-7b deepseek-v2-lite mixtral-8x7b; do
        printf '%s/f32/backward/tokens:512\n%s/f32/backward/tokens:2048\n' "$shape" "$shape"
    done >"$scratch/wanted"
    cmp "$out" "$scratch/wanted" >&2 || complain 'other rows than --backward has'
    run 0 --list --backward --quick
    echo qwen3-30b-a3b/f32/backward/tokens:512 >"$scratch/wanted"
    cmp "$out" "$scratch/wanted" >&2 || complain 'other rows than --backward --quick has'
    run 0 --list --backward --shape tiny --format f32 --compute exact --routing zipf --rivals all --tokens 3
    echo tiny/f32/backward/tokens:3 >"$scratch/wanted"
    cmp "$out" "$scratch/wanted" >&2 || complain 'other rows than asked for with --backward'
    run 0 --help
    for option in quick backward bars scaling shape format compute tokens rivals threads routing min-time memory json list; do
        grep -q "^  --$option " "$out" || complain "--help does not name --$option"
    done
}

test_quick() {
    set -- --quick --shape tiny --min-time 0.01 --memory 2 --threads "$threads"
    run 0 "$@" --tokens 5 --json "$scratch/rows.json" "--benchmark_out=$scratch/google.json"
    grep -q '^tiny  *f32  *exact  *5 ' "$out" || complain "no row in: $(cat "$out")"
    "$check_json" "$scratch/rows.json" tiny 5 "$threads" || complain "$scratch/rows.json"
    grep -q '"name": "tiny/f32/exact/tokens:5' "$scratch/google.json" || complain "the file of Google Benchmark"
    # the file of the test itself: other values must be noticed
    if "$check_json" "$scratch/rows.json" tiny 6 "$threads" 2>"$err"; then complain 'check_json lets 6 tokens pass'; fi
    for routing in zipf one; do
        run 0 "$@" --tokens 9 --routing "$routing" --format all
        [ "$(grep -c '^tiny ' "$out")" -eq 5 ] || complain "not five rows with --routing $routing"
    done
    run 0 "$@" --scaling --tokens 9 --format f32,int8
    [ "$(grep -c '^    1 thread: .* one expert: ' "$out")" -eq 2 ] || complain "no scaling in: $(cat "$out")"
    grep -q '^bars: none of these rows' "$out" || complain "bars of a shape without: $(cat "$out")"
    run 0 "$@" --tokens 9 --rivals none --format int8,int4 --compute exact
    [ "$(grep -c '^tiny  *int[84]  *exact  *9 ' "$out")" -eq 2 ] || complain "not two exact rows in: $(cat "$out")"
}

test_backward() {
    set -- --backward --shape tiny --min-time 0.01 --memory 2 --threads "$threads"
    run 0 "$@" --tokens 5 --json "$scratch/rows.json" "--benchmark_out=$scratch/google.json"
    grep -q '^tiny  *5 ' "$out" || complain "no row in: $(cat "$out")"
    grep -q '^bars: none of these rows' "$out" || complain "bars of a shape without: $(cat "$out")"
    "$check_json" "$scratch/rows.json" tiny 5 "$threads" backward || complain "$scratch/rows.json"
    grep -q '"name": "tiny/f32/backward/tokens:5' "$scratch/google.json" || complain "the file of Google Benchmark"
    # the file of the test itself: other values must be noticed
    if "$check_json" "$scratch/rows.json" tiny 6 "$threads" backward 2>"$err"; then
        complain 'check_json lets 6 tokens pass'
    fi
    run 0 "$@" --tokens 1,17 --routing zipf
    [ "$(grep -c '^tiny ' "$out")" -eq 2 ] || complain "not two rows with --routing zipf"
    run 0 "$@" --tokens 9 --rivals none --threads 1
    grep -q '^tiny  *9 .*  -  *-  *-$' "$out" || complain "a rival or a second thread in: $(cat "$out")"
}

"test_$case"
exit "$((failures != 0))"
