#!/bin/sh
# Postgres' image runs this once, on a new cluster. It makes a role that owns the database `uploads` and may do nothing else.
set -eu

UPLOADS_PASSWORD=$(cat "$UPLOADS_PASSWORD_FILE")
export UPLOADS_PASSWORD
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'END'
\getenv password UPLOADS_PASSWORD
CREATE ROLE uploads LOGIN PASSWORD :'password';
CREATE DATABASE uploads OWNER uploads;
REVOKE CONNECT ON DATABASE uploads FROM PUBLIC;
END
