# Owns one throw-away Postgres: /bin/sh -c "$(this file)" supervisor FOLDER BIN, run as the user that Postgres runs as.
#
# Standard input is a pipe. Only the process that uses the cluster holds its write end. Each line is a port to try. When the
# input ends, however that process ended, this script stops Postgres and removes FOLDER. It does the same after any failure.
# Standard output has one line per step: `initialized`, `port taken`, `ready PID`, or `failed` and then the log.

folder=$1
bin=$2
data=$folder/data
log=$folder/log
umask 077

clean_up() {
    trap '' HUP INT TERM
    if [ -f "$data/postmaster.pid" ]; then
        "$bin/pg_ctl" stop -D "$data" -m immediate -w -t 30 </dev/null >/dev/null 2>&1
    fi
    cd /
    rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
}

fail() {
    echo failed
    tail -n 20 "$log"
    exit 1
}

# Without the first line, an answer to a process that is gone would end this shell by SIGPIPE, which runs no EXIT trap.
trap '' PIPE
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

"$bin/initdb" -D "$data" -U "$SANDBOX_USER" --pwfile="$folder/password" -A password --encoding=UTF8 --locale=C -N \
    </dev/null >"$log" 2>&1 || fail
rm -f "$folder/password"

# Nothing here has to survive a crash. Without a socket file, FOLDER may have any length.
cat >>"$data/postgresql.conf" <<'END' || fail
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
checkpoint_timeout = 1h
autovacuum = off
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
END

# TLS, if its key is beside the data. One of the two databases accepts only TLS, the other only plain text.
if [ -f "$folder/server.key" ]; then
    cat >>"$data/postgresql.conf" <<'END' || fail
ssl = on
ssl_cert_file = '../server.crt'
ssl_key_file = '../server.key'
END
    cat - "$data/pg_hba.conf" >"$folder/pg_hba.conf" <<'END' || fail
hostssl tls_only all all scram-sha-256
hostnossl tls_only all all reject
hostssl plain_only all all reject
END
    mv "$folder/pg_hba.conf" "$data/pg_hba.conf" || fail
fi
echo initialized

started=no
while read -r port; do
    [ "$started" = no ] || continue
    : >"$log"
    if "$bin/pg_ctl" start -D "$data" -l "$log" -w -t 60 -o "-p $port" </dev/null >/dev/null 2>&1; then
        started=yes
        read -r pid <"$data/postmaster.pid"
        echo "ready $pid"
    elif grep -q 'could not bind' "$log"; then
        echo 'port taken'
    else
        fail
    fi
done
