#!/bin/sh
# A plot of a page as a picture, drawn by Chromium: of the size given in CSS pixels, at twice as many.
set -eu

usage() {
    cat >&2 <<'TEXT'
usage: sh benchmarks/compare/picture.sh PAGE.html PICTURE.png [PLOT [WIDTHxHEIGHT [THEME]]]
       PLOT   quality (if not given), speed, phases, load, collapse; of trained strategies final, learning, behaviour,
              history; of a page of costs: cost, batch
       SIZE   960x600 if not given
       THEME  light (if not given), dark
TEXT
    exit 2
}

case $# in [2-5]) ;; *) usage ;; esac
page=$1
picture=$2
plot=${3:-quality}
size=${4:-960x600}
theme=${5:-light}
case $plot in
    quality | speed | phases | load | collapse | final | learning | behaviour | history | cost | batch) ;;
    *) usage ;;
esac
case $theme in light | dark) ;; *) usage ;; esac
case $size in *[!0-9x]* | x* | *x | *x*x*) usage ;; *x*) ;; *) usage ;; esac
[ -f "$page" ] || { echo "picture.sh: there is no file '$page'" >&2; exit 1; }

browser=''
for name in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        browser=$name
        break
    fi
done
[ -n "$browser" ] || { echo 'picture.sh: there is no Chromium (apt-get install chromium)' >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
folder=$(CDPATH='' cd -- "$(dirname -- "$page")" && pwd)
# a copy: its path needs no escaping as an address, and a confined browser may read it
cp -- "$folder/$(basename -- "$page")" "$scratch/page.html"
# its sandbox does not start for root or in a container; the page is ours and loads nothing
"$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=2 \
    "--user-data-dir=$scratch/profile" "--window-size=${size%x*},${size#*x}" "--screenshot=$scratch/picture.png" \
    "file://$scratch/page.html#plot=$plot&theme=$theme" >"$scratch/log" 2>&1 || true
[ -s "$scratch/picture.png" ] || { cat "$scratch/log" >&2; echo 'picture.sh: no picture was made' >&2; exit 1; }
cp -- "$scratch/picture.png" "$picture"
