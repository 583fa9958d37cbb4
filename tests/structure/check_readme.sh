#!/bin/sh
# check_readme.sh <repository>: the C++ of the README is C++ that compiles. What an example marks from [readme] to
# [/readme] must stand in README.md, unindented and in one piece; every line of its cpp blocks must be so marked.
set -eu
cd -- "$1"
awk '
    function complain(what) { print what; status = 1 }

    # Marks the lines of README.md that hold the region; says whether there are any.
    function find_region(   at, i, found) {
        for (at = 1; at + region_lines - 1 <= readme_lines; ++at) {
            for (i = 1; i <= region_lines && readme[at + i - 1] == region[i]; ++i) {}
            if (i > region_lines) {
                found = 1
                for (i = 1; i <= region_lines; ++i) held[at + i - 1] = 1
            }
        }
        return found
    }

    FILENAME == "README.md" {
        if ($0 == "```") in_cpp = 0
        readme[++readme_lines] = $0
        is_cpp[readme_lines] = in_cpp
        if ($0 == "```cpp") in_cpp = 1
        next
    }
    /^ *\/\/ \[readme\]$/ { indent = index($0, "/") - 1; in_region = 1; region_lines = 0; first = FNR + 1; next }
    /^ *\/\/ \[\/readme\]$/ {
        if (!in_region || region_lines == 0) complain(FILENAME ":" FNR ": the end of nothing")
        else if (!find_region()) complain("README.md does not hold " FILENAME ":" first "-" FNR - 1)
        in_region = 0
        next
    }
    in_region { region[++region_lines] = substr($0, indent + 1) }

    END {
        if (in_region) complain(FILENAME ": a region without end")
        for (line = 1; line <= readme_lines; ++line) {
            if (is_cpp[line] && readme[line] != "") {
                ++snippet_lines
                if (!held[line]) complain("README.md:" line ": no example holds: " readme[line])
            }
        }
        if (!snippet_lines) complain("README.md: no cpp block")
        exit status
    }
' README.md examples/*.cpp
