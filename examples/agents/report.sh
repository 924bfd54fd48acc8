#!/bin/sh
# Puts together what the other agents kept: report.sh FILE
set -eu
report=$1
case $report in
    target/*) ;;
    *) echo "the report belongs into target/, not into $report" >&2; exit 2 ;;
esac
{
    echo "# What the fleet found"
    for kept in target/adjutant-report.d/*.txt; do
        name=${kept##*/}
        printf '\n## %s\n\n' "${name%.txt}"
        # At most 20 lines each, as a code block.
        awk 'NR <= 20 { print "    " $0 } END { if (NR > 20) print "    … and " NR - 20 " more lines" }' "$kept"
    done
} >"$report.part"
mv "$report.part" "$report"
awk '/^## / { count++ } END { print count " results in " FILENAME }' "$report"
