#!/bin/sh
# Reads one file: read.sh WHAT FILE. Not very patient: a long file makes it give up the first time.
set -eu
what=$1
file=$2
[ -f "$file" ] || { echo "there is no file $file" >&2; exit 1; }

lines=$(awk 'END { print NR }' "$file")
if [ "$ADJUTANT_ATTEMPT" -eq 1 ] && [ "$lines" -gt "${PATIENCE_LINES:-1000}" ]; then
    echo "$file has $lines lines: too long for a first attempt" >&2
    exit 1
fi

case $what in
    longest)
        awk 'length > length(longest) { longest = $0 } END { print length(longest) " characters in the longest line" }' "$file"
        ;;
    words)
        tr -cs '[:alpha:]' '\n' <"$file" | tr '[:upper:]' '[:lower:]' | awk 'length > 3' | sort | uniq -c | sort -rn | head -n 5
        ;;
    headings)
        grep -E '^#+ ' "$file"
        ;;
    *)
        echo "read.sh cannot read for $what" >&2
        exit 2
        ;;
esac
