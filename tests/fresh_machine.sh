#!/bin/sh
# fresh_machine.sh [--system NAME] [--keep DIRECTORY] [COMMAND...]
# Runs the README's commands as a newcomer would: in a bare system of its own with git, a shell and apt, nothing else
# installed; one after the other in one checkout, since a command may spoil those behind it. As root, with debootstrap
# and a package mirror. Not part of the tests that run by default: it takes an hour.
#
#   NAME       bookworm (Debian 12, the default) or noble (Ubuntu 24.04)
#   DIRECTORY  where the bare system is made; kept there, and used again if it is there already
#   COMMAND    instead of every command of the README, each before and after each other
#
# Says the status and the minutes of each command; exit status 1 if one failed.
set -eu

system=bookworm
root=''
while [ $# -gt 0 ]; do
    case $1 in
        --system) system=$2; shift 2 ;;
        --keep) root=$2; shift 2 ;;
        --*) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
        *) break ;;
    esac
done
case $system in
    bookworm) mirror=${MOE_DEBIAN_MIRROR:-http://deb.debian.org/debian} components=main ;;
    noble) mirror=${MOE_UBUNTU_MIRROR:-http://archive.ubuntu.com/ubuntu} components=main,universe ;;
    *) echo "fresh_machine.sh: no system is called $system; there are bookworm and noble" >&2; exit 2 ;;
esac
if [ $# -eq 0 ]; then
    # each optional package arrives before and after each of the others has been configured
    set -- 'bench --quick --shape tiny' 'demo --length 20' 'train --steps 20' 'compare --quick --shapes tiny' 'test' \
        'fuzz 5' 'compare --quick --shapes tiny' 'bench --quick --shape tiny' 'demo --length 20' \
        'inspect examples/models/tiny-mixtral --plan --measure'
fi

[ "$(id -u)" -eq 0 ] || { echo 'fresh_machine.sh: must be run as root' >&2; exit 2; }
command -v debootstrap >/dev/null 2>&1 || { echo 'fresh_machine.sh: needs debootstrap' >&2; exit 2; }
repository=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
kept=$root
[ -n "$root" ] || root=$(mktemp -d)
mkdir -p "$root"

finish() {
    for folder in proc dev sys; do umount "$root/$folder" 2>/dev/null || true; done
    [ -n "$kept" ] || rm -rf --one-file-system -- "$root"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

if [ ! -x "$root/usr/bin/apt-get" ]; then
    script=/usr/share/debootstrap/scripts/$system
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/gutsy  # of all Ubuntus, on a system older than this one
    debootstrap --variant=minbase --components="$components" --include=git,ca-certificates "$system" "$root" "$mirror" \
        "$script" >"$root.log" 2>&1 ||
        { tail -n 3 "$root.log" >&2; echo "fresh_machine.sh: no $system from $mirror" >&2; exit 2; }
    rm -f -- "$root.log"
fi
# how this machine reaches its mirrors, where that needs settings
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t sysfs sys "$root/sys"

rm -rf -- "$root/newcomer"
mkdir "$root/newcomer"
git clone -q -- "$repository" "$root/newcomer/moe"

failed=0
for command in "$@"; do
    begin=$(date +%s)
    status=0
    chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        sh -c "cd /newcomer/moe && sh cmake/run.sh $command" >"$root/newcomer/log" 2>&1 || status=$?
    printf '%-34s status %d, %4d s: %s\n' "$command" "$status" $(($(date +%s) - begin)) \
        "$(grep -v '^[[:space:]]*$' "$root/newcomer/log" | tail -n 1)"
    if [ "$status" -ne 0 ]; then
        failed=1
        tail -n 20 "$root/newcomer/log" | sed 's/^/    /'
    fi
done
exit "$failed"
