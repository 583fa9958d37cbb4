#!/bin/sh
# shellcheck disable=SC2317  # the cases are called by name, at the end
# usage: generate_test.sh CASE PROGRAM MODEL_DIR SCRATCH_DIR THREADS
# Runs examples/generate as a user would and looks at what it prints and at its exit status. THREADS is 1 where the
# program is built without OpenMP.
set -eu
case=$1
program=$2
model=$3
scratch=$4
threads=$5

# shellcheck source=tests/support/program_test.sh
. "$(dirname -- "$0")/../support/program_test.sh"

# prints PATTERN: a line of stdout matches
prints() { grep -q -- "$1" "$out" || complain "no line with '$1' in: $(cat "$out")"; }

without_speed() { grep -v -e 'tokens/s$' -e '^speed on' -e '^  MoE blocks alone' "$out"; }

# A copy of the model in $copy that a test may damage.
fresh_copy() {
    copy=$scratch/model
    rm -rf "$copy"
    mkdir "$copy"
    cp "$model"/*.json "$model"/*.safetensors "$copy"
    chmod u+w "$copy"/*
}

# edit FILE SED_COMMAND: changes a text file of the copy
edit() {
    sed "$2" "$copy/$1" >"$scratch/edited"
    if cmp -s "$scratch/edited" "$copy/$1"; then complain "sed $2 changes nothing in $1"; fi
    mv "$scratch/edited" "$copy/$1"
}

test_text() {
    run 0 --length 60 --threads "$threads"
    [ ! -s "$err" ] || complain "stderr is not empty: $(cat "$err")"
    prints 'logits of  *57 prompt bytes .* ok$'
    prints '240 of 240 bytes equal .* ok$'
    prints 'NLL of 512 bytes .* ok$'
    prints '^ROMEO:$'
    prints '^expert  layer 0  *layer 1  *layer 2  *layer 3$'
    prints '^     7 .*%$'
    prints '^  prefill  *512 tokens  *[0-9]* tokens/s$'
    prints '^  decode  *60 tokens  *[0-9]* tokens/s$'
    prints '^  MoE blocks alone,   1 token  at once  *[0-9]* tokens/s, [0-9.]* times the [0-9]* of a naive Eigen loop$'
    prints '^  MoE blocks alone, 256 tokens at once  *[0-9]* tokens/s, [0-9.]* times the [0-9]* of a naive Eigen loop$'
    run 0 --prompt=JULIET: --length=5 --temperature=0
    prints '^JULIET:$'
    run 0 --help
    prints '^usage: generate'
    for option in prompt length context temperature seed threads model reference write-gguf; do prints "^  --$option "; done
}

test_same_text() {
    run 0 --length 300 --seed 7 --threads 1
    without_speed >"$scratch/alone"
    run 0 --length 300 --seed 7 --threads "$threads"
    without_speed >"$scratch/again"
    cmp "$scratch/alone" "$scratch/again" >&2 || complain "$threads threads print something else than 1"
    run 0 --length 300 --seed 8 --threads "$threads"
    without_speed >"$scratch/other"
    if cmp -s "$scratch/again" "$scratch/other"; then complain "seed 8 prints the same as seed 7"; fi
}

test_bad_options() {
    refused 2 "unknown option '--tokens'" --tokens 5
    refused 2 "unknown option '-h'" -h
    refused 2 "unknown option 'ROMEO'" ROMEO
    refused 2 'prompt is empty' --prompt ''
    refused 2 'prompt is empty' --prompt=
    refused 2 '--length needs a value' --length
    for bad in 0 -1 1000001 99999999999999999999 4x 4.5 x ''; do refused 2 "--length is '$bad'" --length "$bad"; done
    for bad in -0.1 101 nan inf warm ''; do refused 2 "--temperature is '$bad'" --temperature "$bad"; done
    for bad in -1 18446744073709551616 one; do refused 2 "--seed is '$bad'" --seed "$bad"; done
    for bad in 0 -1 1025 two; do refused 2 "--threads is '$bad'" --threads "$bad"; done
    [ "$threads" -gt 1 ] || refused 2 'without OpenMP' --threads 2
    for bad in 0 1 x; do refused 2 "--context is '$bad'" --context "$bad"; done
    refused 2 '--context 513 exceeds the 512 positions' --context 513
}

test_bad_models() {
    refused 2 "$scratch/none" --model "$scratch/none"
    for file in config.json model.safetensors reference.json reference.safetensors; do
        fresh_copy
        rm "$copy/$file"
        refused 2 "$file" --model "$copy"
        for bytes in 0 7 50; do
            head -c "$bytes" "$model/$file" >"$copy/$file"
            refused 2 "$file" --model "$copy"
        done
    done
    for bytes in 10000 15024 3000000 5268399; do
        fresh_copy
        head -c "$bytes" "$model/model.safetensors" >"$copy/model.safetensors"
        refused 2 'model.safetensors' --model "$copy"
    done
    # config.json that is JSON but not this model
    for change in 's/"hidden_size": 128/"hidden_size": 64/' 's/"num_local_experts": 8/"num_local_experts": 9/'; do
        fresh_copy
        edit config.json "$change"
        refused 2 'tensor' --model "$copy"
    done
    for change in 's/"hidden_size": 128/"hidden_size": -1/' 's/"num_key_value_heads": 2/"num_key_value_heads": 3/' \
        's/"vocab_size": 256/"vocab_size": 1e999/' 's/"model_type": "mixtral"/"model_type": "llama"/' \
        's/"rms_norm_eps": 1e-05/"rms_norm_eps": "small"/' 's/"head_dim"/"head"/' \
        's/"use_cache": true/"moe_rounded_frequencies": 1/'; do
        fresh_copy
        edit config.json "$change"
        refused 2 'config.json' --model "$copy"
    done
    fresh_copy
    edit config.json 's/"num_experts_per_tok": 2/"num_experts_per_tok": 9/'
    refused 2 'top_k 9 exceeds the 8 experts' --model "$copy"
}

# The same model as a GGUF file: against the same values, with the same text.
test_gguf() {
    text() { sed -n '/^ROMEO:$/,/^expert load/p' "$out"; }
    run 0 --length 80 --seed 3 --threads "$threads"
    text >"$scratch/from_folder"
    run 0 --write-gguf "$scratch/tiny.gguf" --model "$model"
    prints "tiny.gguf: the model of $model, as llama.cpp has it$"
    run 0 --model "$scratch/tiny.gguf" --reference "$model" --length 80 --seed 3 --threads "$threads"
    prints 'logits of  *57 prompt bytes .* ok$'
    prints '240 of 240 bytes equal .* ok$'
    prints 'NLL of 512 bytes .* ok$'
    text >"$scratch/from_gguf"
    cmp "$scratch/from_folder" "$scratch/from_gguf" >&2 || complain 'a GGUF file writes something else'
    run 0 --model "$scratch/tiny.gguf" --length 5
    prints 'no stored values in '
    size=$(wc -c <"$scratch/tiny.gguf")
    for bytes in 0 50 3000 $((size / 2)) $((size - 1)); do
        head -c "$bytes" "$scratch/tiny.gguf" >"$scratch/short.gguf"
        refused 2 'short.gguf' --model "$scratch/short.gguf"
    done
    refused 2 'is a GGUF file already' --model "$scratch/tiny.gguf" --write-gguf "$scratch/again.gguf"
    refused 2 'must end with .gguf' --write-gguf "$scratch/tiny.bin"
    refused 2 'none.gguf' --model "$scratch/none.gguf"
    rm "$scratch"/*.gguf
}

# The checks must notice a model that is not quite the stored one.
test_failed_checks() {
    for change in 's/"rope_theta": 1000000.0/"rope_theta": 900000.0/' 's/"rms_norm_eps": 1e-05/"rms_norm_eps": 1e-02/' \
        's/"num_experts_per_tok": 2/"num_experts_per_tok": 1/' 's/"use_cache": true/"moe_rounded_frequencies": false/'; do
        fresh_copy
        edit config.json "$change"
        refused 1 'FAILED' --model "$copy"
        prints 'FAILED$'
    done
    fresh_copy
    edit reference.json 's/"nll_text512": 2.4388/"nll_text512": 2.4390/'
    refused 1 'FAILED' --model "$copy"
    [ "$(grep -c 'FAILED$' "$out")" -eq 1 ] || complain "not just the NLL failed: $(cat "$out")"
}

"test_$case"
rm -rf "$scratch/model"
exit "$((failures != 0))"
