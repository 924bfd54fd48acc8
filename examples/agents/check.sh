#!/bin/sh
# Checks: check.sh CHECK PATH. Fails when something is wrong that must not be; reports the rest.
set -eu
check=$1
path=$2
[ -e "$path" ] || { echo "there is no $path" >&2; exit 1; }

# Prints the lines of stdin, and how many there are of what.
listed() {
    awk -v what="$1" '{ print "- " $0 } END { print NR " " what }'
}

case $check in
    scripts)
        wrong=0
        for script in "$path"/*.sh; do
            sh -n "$script" || wrong=1
            [ -x "$script" ] || { echo "$script is not executable" >&2; wrong=1; }
            echo "$script is a script"
        done
        exit "$wrong"
        ;;
    links)
        # Every relative link in a Markdown file must lead to a file.
        missing=$(
            find "$path" -name target -prune -o -name '*.md' -print | while IFS= read -r file; do
                grep -oE '\]\([^)# ]+' "$file" | sed 's/^](//' | while IFS= read -r link; do
                    case $link in *://*) continue ;; esac
                    [ -e "$(dirname "$file")/$link" ] || echo "$file: $link"
                done
            done
        )
        [ -z "$missing" ] || { echo "links that lead nowhere:" >&2; echo "$missing" >&2; exit 1; }
        echo "all relative links lead to a file"
        ;;
    licence)
        grep -q 'Apache License' "$path" || { echo "$path is not the Apache licence" >&2; exit 1; }
        echo "$path is the Apache licence"
        ;;
    tabs)
        tab=$(printf '\t')
        { grep -rln --include='*.rs' "$tab" "$path" || true; } | listed "Rust files with tabs"
        ;;
    spaces)
        { grep -rnE --include='*.md' ' +$' "$path" || true; } | listed "lines that end in spaces"
        ;;
    headers)
        find "$path" -path '*/src/*' -name '*.rs' -exec sh -c '
            for file in "$@"; do
                read -r first <"$file" || true
                case $first in "//!"*) ;; *) echo "$file" ;; esac
            done' sh {} + | listed "files without a module header"
        ;;
    long)
        find "$path" -name '*.rs' -exec wc -l {} \; | awk '$1 > 500 { print $2 " has " $1 " lines" }' |
            listed "files over 500 lines"
        ;;
    lints)
        find "$path" -name Cargo.toml -exec sh -c '
            for file in "$@"; do
                grep -q "^\[lints\]" "$file" || echo "$file"
            done' sh {} + | listed "crates without the common lints"
        ;;
    *)
        echo "check.sh knows no check $check" >&2
        exit 2
        ;;
esac
