# Keeps one cluster: makes it, does what it is told on stdin, removes it when stdin ends.
#
# Arguments: the directory of the server's binaries, the settings.
# Told: restart, stop, start. Answered: what was printed, then a line that says =done or =failed.
set -u
exec 2>&1
binaries=$1
settings=$2
directory=

finish() {
    [ -n "$directory" ] || return
    "$binaries/pg_ctl" stop -D "$directory/data" -m immediate </dev/null >/dev/null 2>&1
    # Where the server was killed, what it forked may still write for a moment.
    rm -rf "$directory" 2>/dev/null || { sleep 1; rm -rf "$directory"; }
}
trap finish EXIT
trap exit TERM
# An interrupt is for the tests, and a pipe that nobody reads is no reason to leave the cluster behind.
trap '' HUP INT PIPE

start() {
    "$binaries/pg_ctl" start -D "$directory/data" -l "$directory/log" -w
}

make() {
    # In /tmp, whatever TMPDIR says: the path of a socket has about 100 bytes, and the server may be another user.
    directory=$(mktemp -d /tmp/adjutant-pg-XXXXXX) || return
    echo "=directory $directory"
    "$binaries/initdb" -D "$directory/data" -A trust -U adjutant --no-sync -E UTF8 --locale=C || return
    printf '%s\n' "$settings" "unix_socket_directories = '$directory'" >>"$directory/data/postgresql.conf" || return
    start
}

answer() {
    if "$@" </dev/null; then
        echo =done
    else
        [ ! -f "$directory/log" ] || tail -n 40 "$directory/log"
        echo =failed
    fi
}

answer make
while read -r told; do
    case $told in
    restart) answer "$binaries/pg_ctl" restart -D "$directory/data" -l "$directory/log" -w -m fast ;;
    stop) answer "$binaries/pg_ctl" stop -D "$directory/data" -w -m immediate ;;
    start) answer start ;;
    *) answer false ;;
    esac
done
