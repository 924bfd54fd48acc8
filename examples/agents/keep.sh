#!/bin/sh
# Runs a command and keeps what it prints where the report finds it: target/adjutant-report.d/TASK.txt.
# The command comes as arguments and is never put together as text, so nothing in it is evaluated.
set -u
directory=target/adjutant-report.d
mkdir -p "$directory" || exit 1
# Ids of tasks consist of letters, digits and . _ : - only, so this is one file name.
kept="$directory/$ADJUTANT_TASK_ID.txt"
"$@" >"$kept.part"
status=$?
cat "$kept.part"
if [ "$status" -eq 0 ]; then
    mv "$kept.part" "$kept"
else
    rm -f "$kept.part"
fi
exit "$status"
