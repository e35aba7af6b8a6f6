# The common part of the scripts here: a server with its own folder, both removed when the script ends, even if it is killed.
# Source this file; do not run it.
#
# The script that sources this defines
#   prepare folder   writes what the server needs before it starts
#   launch folder    becomes the server, in the foreground, with its output in folder/log (called in its own process)
#   ready folder     sets `endpoint` and returns 0 once the server answers
# then calls `start_server name`, fills the array `variables` with NAME=value, and calls `serve [command ...]`.

fail() {
    printf 'scripts/%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# Prints the comment at the head of the script.
usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" | sed '/^[^#]*set -/d'
    exit "$1"
}

random_hex() { # bytes
    od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'
}

# Owns the server and its folder. Its stdin is a pipe that only the script's main process holds open. When that process ends, even if
# it is killed, the pipe closes, and this function removes the server and the folder. So it ignores the signals that end the script.
supervise() { # folder
    trap '' INT TERM HUP
    umask 077
    (launch "$1") </dev/null >"$1/log" 2>&1 &
    local pid=$!
    printf '%s\n' "$pid" >"$1/pid"
    cat >/dev/null
    # Its data is deleted anyway, so it does not have to finish anything.
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    rm -rf "$1"
}

# Starts the server and sets `folder` and `endpoint`, or returns 1 with the log printed.
try_start() { # name
    # `set -e` has no effect in a function whose status is tested, so each step handles its own failure.
    folder=$(mktemp -d "${TMPDIR:-/tmp}/$1.XXXXXX") || fail 'no folder for the data'
    prepare "$folder" || fail "$folder cannot be written"
    mkfifo "$folder/lifeline" || fail "no pipe in $folder"
    supervise "$folder" <"$folder/lifeline" &
    supervisor=$!
    exec 9>"$folder/lifeline"
    for ((attempt = 0; attempt < 300; attempt++)); do
        if ready "$folder"; then
            return 0
        fi
        if [[ -s $folder/pid ]] && ! kill -0 "$(<"$folder/pid")" 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    cat "$folder/log" >&2 || true
    stop_server
    return 1
}

stop_server() {
    if [[ -n ${supervisor:-} ]]; then
        exec 9>&-
        wait "$supervisor" || true
        supervisor=
    fi
}

# A signal first ends the command and all processes that it started, and then the script.
on_signal() { # name
    if [[ -n $child ]]; then
        kill -s "$1" -- "-$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    exit $((128 + $(kill -l "$1")))
}

start_server() { # name
    child=
    local signal
    for signal in INT TERM HUP; do
        # shellcheck disable=SC2064 # Expand the name now.
        trap "on_signal $signal" "$signal"
    done
    trap stop_server EXIT
    # Another process can take the free port before the server does. A second try is then enough.
    try_start "$1" || try_start "$1" || fail "$1 did not start"
}

# Without a command, prints the variables and keeps running. With one, runs it with the variables and exits with its status.
# SANDBOX_S3_PID is the store's process, whose CPU time can be read.
serve() { # command ...
    variables+=("SANDBOX_S3_PID=$(<"$folder/pid")")
    if [[ $# -eq 0 ]]; then
        local variable
        for variable in "${variables[@]}"; do
            printf 'export %s=%q\n' "${variable%%=*}" "${variable#*=}"
        done
        # Watch the server: the supervisor runs as long as the script does.
        while kill -0 "$(<"$folder/pid")" 2>/dev/null; do
            sleep 1 9>&- &
            wait $!
        done
        cat "$folder/log" >&2
        fail 'the server has ended'
    fi
    # As its own job, so that a signal reaches all of its processes. Without the lifeline, which its daemons could keep open.
    set -m
    (
        export "${variables[@]}"
        exec "$@"
    ) 9>&- &
    child=$!
    set +m
    local status=0
    wait "$child" || status=$?
    child=
    if ! kill -0 "$(<"$folder/pid")" 2>/dev/null; then
        tail -n 100 "$folder/log" >&2 || true
        fail 'the server has ended before the command; above are the last lines of its log'
    fi
    exit "$status"
}

# Reads the script's own arguments into the array `command`.
read_arguments() { # arguments ...
    command=()
    case ${1-} in
        '') ;;
        --) shift && command=("$@") && [[ ${#command[@]} -gt 0 ]] || usage 2 >&2 ;;
        -h | --help) usage 0 ;;
        *) usage 2 >&2 ;;
    esac
}
