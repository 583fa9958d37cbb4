#!/bin/sh
# shellcheck disable=SC2317  # the cases are called by name, at the end
# usage: inspect_test.sh CASE PROGRAM LAYERS_DIR MODEL_DIR SCRATCH_DIR THREADS
# Runs moe_inspect as a user would and looks at what it prints and at its exit status. THREADS is 1 where the program is
# built without OpenMP.
set -eu
case=$1
program=$2
layers=$3
model=$4
scratch=$5
threads=$6

# shellcheck source=tests/support/program_test.sh
. "$(dirname -- "$0")/../support/program_test.sh"

# prints PATTERN: a line of stdout matches
prints() { grep -q -- "$1" "$out" || complain "no line with '$1' in: $(cat "$out")"; }

test_golden() {
    for file in mixtral_q4_k_m qwen3moe_q8_0 gpt_oss_mxfp4; do
        run 0 "$layers/$file.gguf" --threads "$threads" --tokens 1,4
        [ ! -s "$err" ] || complain "stderr is not empty: $(cat "$err")"
        prints "^$file.gguf: .* all of them with experts$"
        prints '^  down  *[QM][0-9A-Z_]*  *[12]  *[468]\.[0-9]* .* kB$'
        prints '^at most, by what this machine does on .* GB/s read, .* Gflop/s float32, .* Gop/s int8$'
        prints '^         4  *[0-9]*  *[0-9]*$'
    done
    run 0 --no-speed "$model"
    prints '^tiny-mixtral: mixtral, 4 layers, all of them with experts$'
    prints '^  model  *2.63 million  *5.25 MB  *824448  *1.65 MB$'
    if grep -q '^at most' "$out"; then complain "a speed where none was asked for"; fi
    run 0 --help
    prints '^usage: moe_inspect PATH'
    for option in measure plan no-speed tokens layer threads help; do prints "^  --$option "; done
}

test_measure() {
    run 0 "$model" --measure --plan --no-speed --layer 3 --tokens 1,5 --threads "$threads"
    prints '^measured: layer 3 on .*, packed as stored in .* MB of experts$'
    prints '^         5  *[0-9.]*  *[0-9]*  *[0-9]*$'
    prints '^memory: .* are free; 10 % of these stay'
    for row in 'in place, as mapped' 'packed as stored' 'packed int8' 'packed int4'; do
        prints "^  $row .*fits, .* to spare$"
    done
    run 0 "$layers/gpt_oss_mxfp4.gguf" --measure --no-speed --tokens 1
    prints '^  packed blocks of MXFP4'
}

test_bad_options() {
    bad_option 'needs the path'
    bad_option "unknown option '--layers'" "$model" --layers 3
    bad_option "unknown option 'another'" "$model" another
    bad_option '--layer is for --measure' "$model" --layer 1
    bad_option 'there is no layer 4 of 4' "$model" --measure --layer 4
    for bad in 0 x 65537 ''; do bad_option "--tokens is '$bad'" "$model" --tokens "$bad"; done
    for bad in 0 1025 two; do bad_option "--threads is '$bad'" "$model" --threads "$bad"; done
}

test_damaged() {
    bad_option "$scratch/none" "$scratch/none"
    file=$layers/qwen3moe_q8_0.gguf
    size=$(wc -c <"$file")
    for bytes in 0 3 20 100 1000 5000 $((size / 2)) $((size - 1)); do
        head -c "$bytes" "$file" >"$scratch/damaged.gguf"
        bad_option 'damaged.gguf' "$scratch/damaged.gguf"
    done
    mkdir "$scratch/model"
    bad_option 'no config.json' "$scratch/model"
    cp "$model/config.json" "$scratch/model"
    bad_option 'safetensors' "$scratch/model"
    head -c 3000000 "$model/model.safetensors" >"$scratch/model/model.safetensors"
    bad_option 'model.safetensors' "$scratch/model"
    cp "$model/model.safetensors" "$scratch/model"
    for change in 's/"num_local_experts": 8/"num_local_experts": 9/' 's/"intermediate_size": 192/"intermediate_size": 96/' \
        's/"model_type": "mixtral"/"model_type": "mixtrel"/'; do
        sed -e "$change" -e 's/MixtralForCausalLM/Mixtrel/' "$model/config.json" >"$scratch/model/config.json"
        bad_option . "$scratch/model"
    done
}

"test_$case"
rm -rf "$scratch/model" "$scratch/damaged.gguf"
exit "$((failures != 0))"
