#!/bin/sh
# Asks git: history.sh WHAT
set -eu
case $1 in
    commits)
        git rev-list --count HEAD | awk '{ print $1 " commits" }'
        ;;
    tracked)
        git ls-files | awk -F/ '{ count[$1]++ } END { for (top in count) print count[top], top }' | sort -rn
        ;;
    last)
        git log -1 --format='%h %cs %s'
        ;;
    *)
        echo "history.sh cannot tell $1" >&2
        exit 2
        ;;
esac
