#!/bin/sh
# check_top_level.sh <repository>: the files under version control lie where the house has a place for them.
# Status 77 (skipped) where there is no git repository to ask.
set -eu
cd -- "$1"
command -v git >/dev/null 2>&1 && [ -e .git ] || { echo 'skipped: not a git repository'; exit 77; }

expected='CMakeLists.txt CMakePresets.json LICENSE README.md benchmarks cmake examples include tests'
found=$(git ls-files | sed 's|/.*||' | grep -v '^\.' | LC_ALL=C sort -u | tr '\n' ' ')
if [ "$found" != "$expected " ]; then
    echo "expected: $expected"
    echo "found:    $found"
    exit 1
fi
