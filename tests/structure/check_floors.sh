#!/bin/sh
# check_floors.sh <folder of the library>: every include goes down. Prints each one that does not; status 1 if any.
# Floors, from the bottom; rooms of one floor never include each other. A room within a room has a floor of its own where
# one is listed, else that of the room around it. Files beside the rooms are doors, which may include anything, except
# config, version and fwd, which belong to core.
set -eu
cd -- "$1"

includes=$(find . -name '*.hpp' -exec grep -nE '^[[:space:]]*#[[:space:]]*include' /dev/null {} + | LC_ALL=C sort)

printf '%s\n' "$includes" | awk '
    BEGIN {
        split("core | parallel formats reference | reference/strategies reference/adaptors | reference/layer | " \
              "reference/backward | kernels | gating experts | gating/strategies | gating/adaptors | routing | " \
              "layer/parts | layer/pass | layer | model | train/parts | " \
              "train/backward train/losses train/optimizer | train io distributed stats | instantiate", words, " ")
        level = 0
        for (i = 1; i in words; ++i) { if (words[i] == "|") ++level; else floor[words[i]] = level }
        door = level + 1
    }
    function room(path) {
        if (path ~ /^(config|version|fwd)\.hpp$/) return "core"
        if (path !~ /\//) return "door"
        sub(/\/[^\/]*$/, "", path)
        while (path ~ /\// && !(path in floor)) sub(/\/[^\/]*$/, "", path)
        return path
    }
    function height(path) { return room(path) == "door" ? door : floor[room(path)] }
    function complain(why) { print source ": includes " target ": " why; bad = 1 }
    function exists(path,   line, there) { there = (getline line < path) >= 0; close(path); return there }
    # the path that `name` means in a file of folder `folder`, without ..
    function resolved(folder, name) {
        while (name ~ /^\.\.\//) {
            if (folder == "") return "../" name
            name = substr(name, 4)
            sub(/[^\/]*\/$/, "", folder)
        }
        return folder name
    }
    /./ {
        colon = index($0, ":")
        source = substr($0, 3, colon - 3)
        if (room(source) != "door" && !(room(source) in floor)) { target = "?"; complain("its room is on no floor"); next }
        if (match($0, /<[^>]*>/)) {
            target = substr($0, RSTART, RLENGTH)
            if (target ~ /^<moe\//) complain("headers of the library include each other by relative path")
            next
        }
        if (!match($0, /"[^"]*"/)) next
        target = substr($0, RSTART + 1, RLENGTH - 2)
        folder = source
        sub(/[^\/]*$/, "", folder)
        target = resolved(folder, target)
        if (!exists(target)) complain("there is no such file in the library")
        else if (room(target) == "door" && room(source) != "door") complain("a door is not for the rooms")
        else if (room(source) == "kernels" && room(target) == "parallel") complain("kernels know no executor")
        else if (room(source) == room(target)) next
        else if (height(target) > height(source)) complain("goes up")
        else if (height(target) == height(source)) complain("goes sideways")
    }
    END { exit bad }
'

# Within a room and between doors there are no cycles either: tsort names the files of one.
printf '%s\n' "$includes" | sed -nE 's|^\./([^:]*):[0-9]*:[^"]*"([^"]*)".*|\1 \2|p' | awk '
    {
        folder = $1
        sub(/[^\/]*$/, "", folder)
        name = $2
        while (name ~ /^\.\.\//) { name = substr(name, 4); sub(/[^\/]*\/$/, "", folder) }
        print $1, folder name
        if ($1 == folder name) { print $1 ": includes itself" > "/dev/stderr"; bad = 1 }
    }
    END { exit bad }
' | tsort >/dev/null
