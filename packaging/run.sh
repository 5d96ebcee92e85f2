#!/bin/sh
# Starts an aggregator and a relay on loopback from the binaries in the cargo target directory, and stops both on Ctrl-C.
#
# Data and logs are in .run/ of the checkout ($PICKET_RUN_DIR for another place) and are found again by the next run.
# Called by `make run`, which builds first.
#
# What it promises:
#   - when it ends, for whatever reason but SIGKILL, both processes have ended;
#   - it says "running" only if the processes that it started are those that answer;
#   - a step that fails ends the run, and the reason is on stderr; a stop that was asked for (Ctrl-C, SIGTERM) ends it with 0;
#   - one run at a time for a directory: $RUN/lock is held by this script and by both processes, so it is free only when
#     all three are gone.

# shellcheck disable=SC2317 # functions that only a trap calls
set -eu

cd "$(dirname "$0")/.."
BIN=${CARGO_TARGET_DIR:-$HOME/.cache/picket/target}/debug
RUN=${PICKET_RUN_DIR:-$PWD/.run}
PAGES=http://127.0.0.1:8000
RELAY=http://127.0.0.1:3000
STOP_SECONDS=30
AGGREGATOR_PID=
RELAY_PID=

say() { printf 'run: %s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

# For commands only: a function in the background is a subshell, and its $! is not the program's.
aggregator() { "$BIN/picket-aggregator" --config "$RUN/aggregator.toml" "$@"; }
relay() { "$BIN/picket-relay" --config "$RUN/relay.toml" "$@"; }

# Value of a text key in one-key-a-line JSON.
json_value() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# --- ports ---------------------------------------------------------------------------------------------------------

# listeners tcp|udp PORT: the inodes of the sockets that take what is sent to 127.0.0.1:PORT.
listeners() {
    # Addresses as the kernel prints them: 127.0.0.1, any, any of IPv6, 127.0.0.1 within IPv6. State 0A is LISTEN; 07 is
    # what an unconnected UDP socket has.
    cat "/proc/net/$1" "/proc/net/${1}6" 2>/dev/null | awk -v port="$(printf '%04X' "$2")" '
        { split($2, local, ":") }
        local[2] == port && ($4 == "0A" || $4 == "07") \
            && local[1] ~ /^(0100007F|0+|0000000000000000FFFF00000100007F)$/ { print $10 }'
}

# holder INODE: the process that has the socket open, if this user may see it.
holder() {
    found=$(find /proc/[0-9]*/fd -lname "socket:\[$1\]" 2>/dev/null | head -n 1)
    found=${found#/proc/}
    printf '%s\n' "${found%%/*}"
}

# require_free tcp|udp PORT WHAT: fails if somebody has the port.
require_free() {
    inode=$(listeners "$1" "$2" | head -n 1)
    [ -n "$inode" ] || return 0
    pid=$(holder "$inode")
    by="a process of another user"
    if [ -n "$pid" ]; then by="$(cat "/proc/$pid/comm" 2>/dev/null || echo process) (pid $pid)"; fi
    fail "port $2/$1 is needed for $3, but $by has it; stop that first"
}

# listens PID PORT: whether this very process takes what is sent to the TCP port.
listens() {
    for inode in $(listeners tcp "$2"); do
        [ -z "$(find "/proc/$1/fd" -lname "socket:\[$inode\]" 2>/dev/null)" ] || return 0
    done
    return 1
}

# wait_for NAME PID PORT PATH LOG: until that process answers 200 there, ends, or a minute has passed.
wait_for() {
    tries=0
    until listens "$2" "$3" && curl -fs -o /dev/null --max-time 2 "http://127.0.0.1:$3$4"; do
        kill -0 "$2" 2>/dev/null || { tail -n 15 "$5" >&2; fail "$1 ended, its last lines are above; its log is $5"; }
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || fail "$1 does not answer on http://127.0.0.1:$3$4; its log is $5"
        sleep 0.2 9>&-
    done
}

# --- one run at a time, and its end --------------------------------------------------------------------------------

# Says who holds the lock, as far as they wrote it down.
refuse_second_run() {
    # shellcheck disable=SC2046 # numbers, meant to be split
    set -- $(cat "$RUN/pids" 2>/dev/null || true)
    alive=
    for pid in "$@"; do
        if kill -0 "$pid" 2>/dev/null; then alive="$alive $pid"; fi
        # The script stops the other two.
        if [ "$pid" = "$1" ] && [ -n "$alive" ]; then break; fi
    done
    fail "Picket is already running here: pages $PAGES/, data $RUN; stop it with Ctrl-C in its terminal${alive:+, or with: kill$alive}"
}

note_pids() { printf '%s\n' "$$ $AGGREGATOR_PID $RELAY_PID" > "$RUN/pids"; }

# end NAME PID: asks it to stop, and kills it if it does not.
end() {
    [ -n "$2" ] || return 0
    kill -TERM "$2" 2>/dev/null || true
    tries=0
    while kill -0 "$2" 2>/dev/null; do
        tries=$((tries + 1))
        if [ "$tries" -gt $((STOP_SECONDS * 5)) ]; then
            say "$1 did not stop within $STOP_SECONDS s and is killed; nothing is lost by that"
            kill -KILL "$2" 2>/dev/null || true
            break
        fi
        sleep 0.2 9>&-
    done
    wait "$2" 2>/dev/null || true
}

# The relay first: what it has taken it keeps.
stop() {
    trap '' HUP INT TERM
    rm -f "$RUN/pids"
    [ -n "$RELAY_PID$AGGREGATOR_PID" ] || return 0
    say 'stopping'
    end 'the relay' "$RELAY_PID"
    end 'the aggregator' "$AGGREGATOR_PID"
}

# --- the run -------------------------------------------------------------------------------------------------------

for program in picket-aggregator picket-relay; do
    [ -x "$BIN/$program" ] || fail "there is no $program in $BIN; use \`make run\`, or \`make build\` first"
done
mkdir -p "$RUN"
chmod 700 "$RUN"
exec 9>>"$RUN/lock"
flock -n 9 || refuse_second_run
note_pids
require_free tcp 8000 'the pages'
require_free tcp 8001 "the aggregator's metrics"
require_free udp 7443 'the link between relay and aggregator'
require_free tcp 7443 'the same where UDP does not get through'
require_free tcp 3000 'what the SDKs send'
require_free tcp 3001 "the relay's metrics"

cat > "$RUN/aggregator.toml" <<EOF
data_dir = "$RUN/aggregator"
listen = "127.0.0.1:8000"
admin_listen = "127.0.0.1:8001"
public_url = "$PAGES"
relay_url = "$RELAY"
link_listen = "127.0.0.1:7443"
EOF
cat > "$RUN/relay.toml" <<EOF
data_dir = "$RUN/relay"
listen = "127.0.0.1:3000"
admin_listen = "127.0.0.1:3001"
EOF

# One way out: whatever ends the script runs `stop` once.
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 0' INT
trap 'exit 0' TERM

say "preparing $RUN"
init=$(aggregator init --json) || fail 'init failed, for the reason above'
password=$(printf '%s\n' "$init" | json_value admin_password)
if [ -n "$password" ]; then
    (umask 077 && printf '%s\n' "$password" > "$RUN/admin-password")
fi

say 'starting the aggregator'
"$BIN/picket-aggregator" --config "$RUN/aggregator.toml" serve 2> "$RUN/aggregator.log" &
AGGREGATOR_PID=$!
note_pids
wait_for 'the aggregator' "$AGGREGATOR_PID" 8001 /health "$RUN/aggregator.log"

projects=$(aggregator project list --json) || fail 'listing the projects failed, for the reason above'
dsn=$(printf '%s\n' "$projects" | json_value dsn)
if [ -z "$dsn" ]; then
    made=$(aggregator project create demo --json) || fail 'making a project failed, for the reason above'
    dsn=$(printf '%s\n' "$made" | json_value dsn)
fi
[ -n "$dsn" ] || fail "the first project has no enabled key, so there is no DSN to show"
if [ ! -d "$RUN/relay/identity" ]; then
    say 'joining the relay'
    invitation=$(aggregator relay invite --name demo --json) || fail 'inviting the relay failed, for the reason above'
    relay join "$(printf '%s\n' "$invitation" | json_value token)" >&2 || fail 'the relay could not join, for the reason above'
fi

say 'starting the relay'
"$BIN/picket-relay" --config "$RUN/relay.toml" run 2> "$RUN/relay.log" &
RELAY_PID=$!
note_pids
wait_for 'the relay' "$RELAY_PID" 3000 /api/relay/healthcheck/ready/ "$RUN/relay.log"

key=${dsn#http://}
key=${key%%@*}
project=${dsn##*/}
cat <<EOF

Picket is running.

  pages     $PAGES/      (log in as admin, password $(cat "$RUN/admin-password" 2>/dev/null || echo 'as printed by the first run'))
  DSN       $dsn
  data      $RUN         (logs: aggregator.log, relay.log; \`make clean-run\` forgets everything)

Paste this into another terminal to send an error, then reload the page:

  curl $RELAY/api/$project/store/ -H 'X-Sentry-Auth: Sentry sentry_key=$key, sentry_version=7' \\
    -d '{"platform":"python","level":"error","exception":{"values":[{"type":"ZeroDivisionError","value":"division by zero","stacktrace":{"frames":[{"filename":"shop/cart.py","function":"average","lineno":7,"in_app":true,"context_line":"    return total / count"}]}}]}}'

or use any Sentry SDK:  pip install sentry-sdk, then

  python3 -c 'import sentry_sdk; sentry_sdk.init("$dsn"); 1 / 0'

Commands for this system, such as a list of its issues:

  $BIN/picket-aggregator --config $RUN/aggregator.toml issues list

Ctrl-C stops both.
EOF

# Ends when either process does; a signal interrupts the wait and runs the trap.
while kill -0 "$AGGREGATOR_PID" 2>/dev/null && kill -0 "$RELAY_PID" 2>/dev/null; do
    sleep 1 9>&- &
    wait $! || true
done
ended='the aggregator' log=$RUN/aggregator.log
if kill -0 "$AGGREGATOR_PID" 2>/dev/null; then ended='the relay' log=$RUN/relay.log; fi
tail -n 5 "$log" >&2
fail "$ended ended; the last lines of its log, $log, are above"
