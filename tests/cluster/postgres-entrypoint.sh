#!/bin/sh
# What tests need of the official image: the first start makes the database; POSTGRES_* and PGDATA are honoured.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=$(mktemp)
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then cat "$POSTGRES_PASSWORD_FILE"; else printf '%s' "$POSTGRES_PASSWORD"; fi > "$password"
  initdb -D "$PGDATA" -U "${POSTGRES_USER:-postgres}" --pwfile="$password" --auth=scram-sha-256 --encoding=UTF8 >/dev/null
  rm -f "$password"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
    echo "create database \"$POSTGRES_DB\";" | postgres --single -D "$PGDATA" postgres >/dev/null
  fi
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp
