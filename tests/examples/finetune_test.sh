#!/bin/sh
# shellcheck disable=SC2317  # the cases are called by name, at the end
# usage: finetune_test.sh CASE PROGRAM TEXT MODEL SCRATCH_DIR THREADS GENERATE
# Runs examples/finetune as a user would, with the beginning of TEXT on MODEL, and looks at what it prints, leaves behind
# and ends with. THREADS is 1 where the program is built without OpenMP. GENERATE is the demo.
set -eu
case=$1
program=$2
text=$3
published=$4
scratch=$5
threads=$6
generate=$7

# shellcheck source=tests/support/program_test.sh
. "$(dirname -- "$0")/../support/program_test.sh"

head -c 4000 "$text" >"$scratch/text"
adapter=$scratch/adapter
merged=$scratch/merged

# prints PATTERN: a line of stdout matches
prints() { grep -q -- "$1" "$out" || complain "no line with '$1' in: $(cat "$out")"; }

# finetune STATUS OPTION...: few small steps
finetune() {
    wanted=$1
    shift
    run "$wanted" --data "$scratch/text" --known "$scratch/text" --out "$adapter" --context 32 --batch 2 --steps 8 \
        --rank 2 --threads "$threads" "$@"
}

# The adapter, equal to the last one called NAME (kept NAME: it is called NAME from now on).
kept() {
    rm -rf "${scratch:?}/$1"
    cp -r "$adapter" "$scratch/$1"
}
same_as() { diff -r "$adapter" "$scratch/$1" >&2 || complain "$2"; }

test_text() {
    finetune 0
    [ ! -s "$err" ] || complain "stderr is not empty: $(cat "$err")"
    prints '^layers: 4 of width 128, each with 8 experts of 192, 2 a byte, kept as int4$'
    prints '^weights: 2.63 million, all frozen; 0.05 million more learn, of adapters of rank 2: 2.0 % of all$'
    prints '^bytes: 3800 to learn from, 64 a step, 200 held out, 4000 of what was known$'
    prints '^ *step *loss *held out *balance *bytes/s *left$'
    prints '^       8  [1-9]\.[0-9]*  *[1-9]\.[0-9]*  *[0-9.]*  *[0-9]*   0:00$'
    prints '^nats a byte of text that is  *new  known$'
    prints '^as published  *[34]\.[0-9]*  *[34]\.[0-9]*$'
    prints '^experts kept as int4  *[34]\.[0-9]*  *[34]\.[0-9]*$'
    prints '^these with adapters  *[23]\.[0-9]*  *[23]\.[0-9]*$'
    prints '^adapters merged into published  *[23]\.[0-9]*  *[23]\.[0-9]*$'
    prints '^expert  *layer 0  *layer 1  *layer 2  *layer 3$'
    prints '^     7  *[0-9.]* >  *[0-9.]*  *[0-9.]* >  *[0-9.]*  '
    prints '^ moved            0\.0  '
    prints '^most: expert [0-7] of layer [1-3], by [-+]'
    prints '^merged weights predict as adapters do: .* allowed 1e-03   ok$'
    [ "$(ls "$adapter")" = 'adapter_config.json
adapter_model.safetensors' ] || complain "other files than the two: $(ls "$adapter")"
    for entry in '"r": 2' '"lora_alpha": 16.0' '"mlp.experts.gate_up_proj"' '"mlp.experts.down_proj"'; do
        grep -q -- "$entry" "$adapter/adapter_config.json" || complain "no $entry in the adapter's config"
    done
    run 0 --help
    prints '^usage: finetune_lora'
    for option in steps rank alpha base detach-router rate batch context aux seed threads model data known out merged overwrite; do
        prints "^  --$option "
    done
}

test_same_adapter() {
    finetune 0 --threads 1
    kept alone
    finetune 0 --overwrite
    same_as alone "$threads threads train another adapter than 1"
    for different in '--seed 2' '--base int8' '--alpha 8' '--detach-router' '--aux 1'; do
        # shellcheck disable=SC2086  # two words
        finetune 0 --overwrite $different
        ! cmp -s "$adapter/adapter_model.safetensors" "$scratch/alone/adapter_model.safetensors" ||
            complain "$different makes no difference"
    done
}

# What the demo says of the merged model.
test_merged() {
    finetune 0 --merged "$merged"
    prints "^the model in $merged writes"
    program=$generate
    run 0 --model "$merged" --length 50 --threads "$threads"
    prints '^no stored values in '
    prints '^ROMEO:$'
}

# refuse PATTERN OPTION...: refused though all else is right
refuse() {
    pattern=$1
    shift
    refused 2 "$pattern" --data "$scratch/text" --known "$scratch/text" --context 32 --steps 1 "$@"
}

test_refused() {
    finetune 0 --merged "$merged"
    kept whole
    cp -r "$merged" "$scratch/whole_model"
    finetune 2
    grep -q 'holds an adapter' "$err" || complain "no word of the adapter: $(cat "$err")"
    refuse 'holds a model' --out "$scratch/other" --merged "$merged"
    cp -r "$published" "$scratch/published"
    refuse 'never written over' --out "$scratch/other" --model "$scratch/published" --overwrite \
        --merged "$scratch/published/../published"
    [ ! -e "$scratch/other" ] || complain 'a refused command leaves a folder'
    diff -r "$published" "$scratch/published" >&2 || complain 'the published model has changed'
    for bytes in 0 7 1000 5000000; do
        head -c "$bytes" "$published/model.safetensors" >"$scratch/published/model.safetensors"
        refuse 'model.safetensors' --model "$scratch/published" --out "$adapter" --overwrite
    done
    cp "$published/model.safetensors" "$scratch/published/model.safetensors"
    for bytes in 0 100; do
        head -c "$bytes" "$published/config.json" >"$scratch/published/config.json"
        refuse 'config.json' --model "$scratch/published" --out "$adapter" --overwrite
    done
    sed 's/"intermediate_size": 192/"intermediate_size": 1048576/' "$published/config.json" >"$scratch/published/config.json"
    refuse 'is 192 x 128, not 1048576 x 128' --model "$scratch/published" --out "$adapter" --overwrite
    refuse 'no-such-model' --model "$scratch/no-such-model" --out "$adapter" --overwrite
    refuse 'no-such-text' --data "$scratch/no-such-text" --out "$adapter" --overwrite
    refuse 'no-such-text' --known "$scratch/no-such-text" --out "$adapter" --overwrite
    head -c 300 "$text" >"$scratch/short"
    refuse '15 are held out' --data "$scratch/short" --out "$adapter" --overwrite
    refuse '--context 513 exceeds the 512 positions' --context 513 --out "$adapter" --overwrite
    touch "$scratch/file"
    refuse "$scratch/file" --out "$scratch/file/adapter"
    refuse "$scratch/file" --out "$scratch/other" --merged "$scratch/file/model"
    same_as whole 'a refused command changes the adapter'
    diff -r "$merged" "$scratch/whole_model" >&2 || complain 'a refused command changes the merged model'
}

test_bad_options() {
    bad_option "unknown option '--epochs'" --epochs 5
    bad_option "unknown option 'text'" text
    bad_option '--steps needs a value' --steps
    for name in steps rank batch context threads; do
        for bad in 0 -1 1.5 x '' 99999999999999999999; do bad_option "--$name is '$bad'" "--$name" "$bad"; done
    done
    for bad in -0.1 1000001 nan inf x ''; do bad_option "--alpha is '$bad'" --alpha "$bad"; done
    for name in rate aux; do
        for bad in -0.1 101 nan inf x ''; do bad_option "--$name is '$bad'" "--$name" "$bad"; done
    done
    for bad in int3 float64 ''; do bad_option "--base is '$bad', it must be one of as_stored, float32" --base "$bad"; done
    [ "$threads" -gt 1 ] || bad_option 'without OpenMP' --threads 2
}

"test_$case"
exit "$((failures != 0))"
