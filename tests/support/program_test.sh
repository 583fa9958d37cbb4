# shellcheck shell=sh
# shellcheck disable=SC2154  # $program and $scratch are set by the script that reads this
# For scripts that run a program as a user would. Begins with an empty folder $scratch.
rm -rf "$scratch"
mkdir -p "$scratch"
out=$scratch/stdout
err=$scratch/stderr
failures=0

complain() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# run STATUS ARGUMENT...: the program must end with STATUS
run() {
    wanted=$1
    shift
    status=0
    "$program" "$@" >"$out" 2>"$err" || status=$?
    if [ "$status" -ne "$wanted" ]; then
        complain "exit status $status instead of $wanted of: ${program##*/} $*"
        cat "$out" "$err" >&2
    fi
}

# refused STATUS PATTERN ARGUMENT...: ends with STATUS and exactly one line on stderr, in which PATTERN is found
refused() {
    wanted=$1
    pattern=$2
    shift 2
    run "$wanted" "$@"
    [ "$(wc -l <"$err")" -eq 1 ] || complain "not one line on stderr of: ${program##*/} $*"
    grep -q -- "$pattern" "$err" || complain "no '$pattern' in '$(cat "$err")' of: ${program##*/} $*"
}

# bad_option PATTERN ARGUMENT...: refused with status 2, and nothing on stdout
bad_option() {
    refused 2 "$@"
    [ ! -s "$out" ] || complain "something on stdout of: ${program##*/} $*"
}
