# What the scripts here share: a server with a folder of its own that goes when the script ends, however it ends. Sourced, not run.
#
# The script that sources this defines
#   prepare folder   writes what the server needs before it starts
#   launch folder    becomes the server, in the foreground, writing to folder/log (called in a process of its own)
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

# Owns the server and its folder. Its stdin is a pipe that only the script's main process holds open: when that ends, however it
# ends, the pipe does, and the server and the folder go. So it must not die of the signals that end the main process.
supervise() { # folder
    trap '' INT TERM HUP
    umask 077
    (launch "$1") </dev/null >"$1/log" 2>&1 &
    local pid=$!
    printf '%s\n' "$pid" >"$1/pid"
    cat >/dev/null
    # Its data goes anyway, so there is nothing that it should finish first.
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    rm -rf "$1"
}

# Starts the server and sets `folder` and `endpoint`, or returns 1 with the log printed.
try_start() { # name
    # `set -e` does not hold in a function whose status is asked for, so each step says itself what its failure means.
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

# A signal first ends the command, with all that it started: its `wait` below returns, and so does the script.
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
        # shellcheck disable=SC2064 # The name is wanted as it is now.
        trap "on_signal $signal" "$signal"
    done
    trap stop_server EXIT
    # Between the choice of a free port and its use another process can take it; once more is then enough.
    try_start "$1" || try_start "$1" || fail "$1 did not start"
}

# Prints the variables and stays, or runs the command with them and exits as it does. SANDBOX_S3_PID tells whose CPU time is the store's.
serve() { # command ...
    variables+=("SANDBOX_S3_PID=$(<"$folder/pid")")
    if [[ $# -eq 0 ]]; then
        local variable
        for variable in "${variables[@]}"; do
            printf 'export %s=%q\n' "${variable%%=*}" "${variable#*=}"
        done
        # The supervisor stays as long as the script does, so it is the server that is watched here.
        while kill -0 "$(<"$folder/pid")" 2>/dev/null; do
            sleep 1 9>&- &
            wait $!
        done
        cat "$folder/log" >&2
        fail 'the server has ended'
    fi
    # A job of its own, so that a signal reaches all of its processes, and without the lifeline, which its daemons might keep open.
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
