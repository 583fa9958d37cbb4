#!/bin/sh
# shellcheck disable=SC2317  # the cases are called by name, at the end
# usage: train_test.sh CASE PROGRAM TEXT SCRATCH_DIR THREADS GENERATE
# Runs examples/train as a user would, on the beginning of TEXT, and looks at what it prints, leaves behind and ends with.
# THREADS is 1 where the program is built without OpenMP. GENERATE is the demo.
set -eu
case=$1
program=$2
text=$3
scratch=$4
threads=$5
generate=$6

# shellcheck source=tests/support/program_test.sh
. "$(dirname -- "$0")/../support/program_test.sh"

head -c 20000 "$text" >"$scratch/text"
model=$scratch/model

# prints PATTERN: a line of stdout matches
prints() { grep -q -- "$1" "$out" || complain "no line with '$1' in: $(cat "$out")"; }

# train STATUS OPTION...: a small model for a few steps
train() {
    wanted=$1
    shift
    run "$wanted" --data "$scratch/text" --out "$model" --layers 2 --d-model 24 --d-ff 20 --experts 4 --context 16 \
        --batch 4 --steps 30 --threads "$threads" "$@"
}

# The files that a training leaves, equal to the last ones called NAME (kept NAME: these are called NAME from now on).
kept() {
    rm -rf "${scratch:?}/$1"
    cp -r "$model" "$scratch/$1"
}
same_as() { diff -r "$model" "$scratch/$1" >&2 || complain "$2"; }

test_text() {
    train 0
    [ ! -s "$err" ] || complain "stderr is not empty: $(cat "$err")"
    prints '^layers: 2 of width 24, each with 4 experts of 20, 2 a byte$'
    prints '^weights: 0.03 million, 0.02 active$'
    prints '^bytes: 19000 to learn from, 64 a step, 1000 held out$'
    prints '^ *step *loss *held out *balance *bytes/s *left$'
    prints '^      30  [345]\.[0-9]*  *[345]\.[0-9]*  *[0-9.]*  *[0-9]*   0:00$'
    prints '^[345]\.[0-9]* nats a byte of held-out text after 30 steps, [0-9]* seconds$'
    prints "^the model in $model writes"
    [ "$(ls "$model")" = 'config.json
model.safetensors
training.safetensors' ] || complain "other files than the three: $(ls "$model")"
    run 0 --help
    prints '^usage: train'
    for option in steps batch micro-batch context layers d-model experts top-k d-ff rate aux z seed threads out resume data minutes; do
        prints "^  --$option "
    done
}

test_same_model() {
    train 0 --threads 1 --z 1e-3
    kept alone
    train 0 --overwrite --z 1e-3
    same_as alone "$threads threads train another model than 1"
    train 0 --overwrite --z 1e-3 --seed 2
    ! cmp -s "$model/model.safetensors" "$scratch/alone/model.safetensors" || complain 'seed 2 trains the same as seed 1'
}

test_resume() {
    train 0 --steps 60
    kept whole
    train 0 --overwrite --steps 60 --minutes 0.0001
    prints ' nats a byte of held-out text after [0-9]* steps, 0 seconds$'
    ! cmp -s "$model/training.safetensors" "$scratch/whole/training.safetensors" || complain 'was not stopped'
    run 0 --resume --out "$model" --data "$scratch/text" --threads "$threads"
    same_as whole 'what was stopped and resumed is not what was trained at once'
    run 0 --resume --out "$model" --data "$scratch/text" --threads "$threads"
    same_as whole 'resuming what is done changes it'
    kept whole
    refused 2 'holds a training' --out "$model" --data "$scratch/text"
    refused 2 'has not the sizes' --resume --out "$model" --data "$scratch/text" --d-ff 21
    refused 2 'no-such-text' --resume --out "$model" --data "$scratch/no-such-text"
    head -c 300 "$text" >"$scratch/short"
    refused 2 '15 are held out' --resume --out "$model" --data "$scratch/short"
    same_as whole 'a refused training changes what was there'
    for bytes in 0 7 100 5000 50000; do
        head -c "$bytes" "$scratch/whole/training.safetensors" >"$model/training.safetensors"
        kept damaged
        refused 2 'training.safetensors' --resume --out "$model" --data "$scratch/text"
        same_as damaged 'a damaged training is written over'
    done
    rm "$model/training.safetensors"
    refused 2 'training.safetensors' --resume --out "$model" --data "$scratch/text"
    touch "$scratch/file"
    refused 2 "$scratch/file" --out "$scratch/file/model" --data "$scratch/text"
}

# What the demo says of the model.
test_demo() {
    train 0
    program=$generate
    run 0 --model "$model" --length 50 --threads "$threads"
    prints '^no stored values in '
    prints '^ROMEO:$'
    prints '^expert  layer 0  *layer 1$'
    refused 2 '--context 17 exceeds the 16 positions' --model "$model" --context 17
}

test_bad_options() {
    bad_option "unknown option '--epochs'" --epochs 5
    bad_option "unknown option 'text'" text
    bad_option '--steps needs a value' --steps
    for bad in 0 -1 4x 1e3 x ''; do bad_option "--steps is '$bad'" --steps "$bad"; done
    for name in batch micro-batch context layers d-model experts top-k d-ff threads; do
        for bad in 0 -1 1.5 x 99999999999999999999; do bad_option "--$name is '$bad'" "--$name" "$bad"; done
    done
    for name in rate aux z; do
        for bad in -0.1 101 nan inf x ''; do bad_option "--$name is '$bad'" "--$name" "$bad"; done
    done
    for bad in 0 -1 nan x; do bad_option "--minutes is '$bad'" --minutes "$bad"; done
    bad_option '--d-model is 13' --d-model 13
    bad_option '--top-k 9 exceeds the 8 experts' --top-k 9
    bad_option '--micro-batch 3 does not divide --batch 16' --micro-batch 3
    bad_option "$scratch" --data "$scratch" --out "$model"
    bad_option 'no-such-text' --data "$scratch/no-such-text" --out "$model"
    [ ! -e "$model" ] || complain 'a refused command leaves a folder'
    [ "$threads" -gt 1 ] || bad_option 'without OpenMP' --threads 2
}

"test_$case"
exit "$((failures != 0))"
