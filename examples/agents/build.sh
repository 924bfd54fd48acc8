#!/bin/sh
# Asks cargo: build.sh WHAT
set -eu
case $1 in
    version)
        rustc --version
        cargo --version
        ;;
    check)
        # The core alone: the rules, without anything that does IO.
        cargo check --quiet --locked --package adjutant-core
        echo "adjutant-core compiles"
        ;;
    dependencies)
        cargo tree --locked --package adjutant-core --edges normal --prefix none | sort -u | awk '
            { print "- " $1 " " $2 }
            END { print NR " packages in the core, itself included" }'
        ;;
    packages)
        grep -c '^name = ' Cargo.lock | awk '{ print $1 " packages in Cargo.lock" }'
        ;;
    format)
        if cargo fmt --version >/dev/null 2>&1; then
            { cargo fmt --all -- --check --files-with-diff 2>/dev/null || true; } | awk '
                { print "- " $0 }
                END { print NR " files that rustfmt would change" }'
        else
            echo "rustfmt is not installed: not checked"
        fi
        ;;
    *)
        echo "build.sh cannot build $1" >&2
        exit 2
        ;;
esac
