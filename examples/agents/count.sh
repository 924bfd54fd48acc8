#!/bin/sh
# Counts: count.sh WHAT PATH
set -eu
what=$1
path=$2
[ -e "$path" ] || { echo "there is no $path" >&2; exit 1; }

case $what in
    lines)
        find "$path" -type f -name '*.rs' -exec cat {} + | wc -l | awk '{ print $1 " lines of Rust" }'
        ;;
    words)
        find "$path" -type f -name '*.md' -exec cat {} + | wc -w | awk '{ print $1 " words" }'
        ;;
    files)
        find "$path" -type f | awk -F. '{ count[$NF]++ } END { for (end in count) print count[end], end }' | sort -rn | head -n 10
        ;;
    tests)
        find "$path" -type f -name '*.rs' -exec cat {} + | grep -cE '^ *#\[(tokio::)?test' | awk '{ print $1 " tests" }'
        ;;
    public)
        find "$path" -type f -name '*.rs' -exec cat {} + |
            awk '$1 == "pub" { count[$2]++ } END { for (kind in count) print count[kind], kind }' | sort -rn | head -n 6
        ;;
    largest)
        find "$path" -type f -name '*.rs' -exec wc -l {} \; | sort -rn | head -n 10
        ;;
    total)
        # Adds up what the tasks lines-* counted before: their results are kept in this directory.
        cat "$path"/lines-*.txt | awk '{ sum += $1 } END { print sum " lines of Rust in all crates" }'
        ;;
    *)
        echo "count.sh cannot count $what" >&2
        exit 2
        ;;
esac
