# Sandboxes and throw-away servers; sourced by the scripts of test/, which set -euo pipefail.
#
# PostgreSQL finds its share and library folders relative to its own binary. So a copy of the binaries
# with links to everything else, at the same relative places, is a PostgreSQL of our own: `make install
# DESTDIR=` puts the extension there and no file of the system's server is ever written.
#
# Everything lives in one work folder under $TMPDIR, which the unprivileged server user can read even
# when the checkout is not (a clone below /root, say). Servers listen on a unix socket in it and nowhere
# else, so another PostgreSQL on port 5432 does not matter. As root the servers, and only they, run as
# `postgres` or `nobody`; clients run as whoever called.
#
#   new_work                         make the work folder, cleaned up at exit unless keep=1
#   sandbox normal|test              build that variant and install it into its own sandbox
#   new_server NAME VARIANT [LINE…]  initdb and start; LINEs go to the end of postgresql.conf
#   start_server|stop_server|crash_server NAME
#   use_server NAME                  point PATH, PGHOST, PGPORT, PGUSER at it

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=
keep=
servers=()

# Nothing of the caller's environment may lead a client to another server.
unset "${!PG@}" 2>/dev/null || true
export LC_ALL=C.UTF-8 PGUSER=postgres PGPORT=54321 PSQLRC=/dev/null PGTZ=UTC

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$0: $*" >&2; exit 1; }

# The first pg_config that can build extensions: the caller's choice, the one in PATH, Debian's newest.
find_pg_config() {
    local candidate
    for candidate in ${pg_config_wanted:-pg_config $(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -rV)}; do
        candidate=$(command -v "$candidate") || continue
        # libpq-dev alone brings pg_config, and a server without its headers may bring pgxs.mk.
        if [ -f "$("$candidate" --pgxs 2>/dev/null)" ] && [ -x "$("$candidate" --bindir)/postgres" ] &&
            [ -f "$("$candidate" --includedir-server)/postgres.h" ]; then
            pg_config=$candidate
            bindir=$("$candidate" --bindir)
            pkglibdir=$("$candidate" --pkglibdir)
            sharedir=$("$candidate" --sharedir)
            pgxs_test=$(dirname "$("$candidate" --pgxs)")/../test
            pg_major=$("$candidate" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
            # Objects of servers whose headers differ, and those with sanitizers, must not be mixed.
            pg_build=pg$pg_major${SANITIZE:+-sanitized}
            case $("$candidate" --configure) in *--enable-cassert*) pg_build+=-assert ;; esac
            return 0
        fi
    done
    return 1
}

new_work() {
    find_pg_config || die "no PostgreSQL with its development files; run: make deps"
    work=$(mktemp -d "${TMPDIR:-/tmp}/prompt_cache.XXXXXX")
    chmod 755 "$work"
    server_user=
    if [ "$(id -u)" -eq 0 ]; then
        server_user=nobody
        if id postgres >/dev/null 2>&1; then server_user=postgres; fi
    fi
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
}

# The rules of the protocol, in the order of their bits in the setting prompt_cache.without_rules of test builds.
rule_names() { sed -n 's/^ *k\([A-Z][A-Za-z]*\),.*/\1/p' "$here/src/core/rules.hpp" | tr '\n' ' '; }

# Lets a later script take over the work folder of this one: it reads the file.
remember_work() { declare -p work server_user pg_config bindir pkglibdir sharedir pgxs_test pg_major pg_build >"$1"; }

clean_up() {
    local name
    if [ -n "$keep" ]; then return; fi
    for name in ${servers[@]+"${servers[@]}"}; do stop_server "$name" immediate || true; done
    for name in "$work"/*/redis.pid; do if [ -s "$name" ]; then kill "$(cat "$name")" || true; fi; done
    rm -rf "$work"
}

# What no server may log: it has crashed, an assertion has failed, memory was overwritten, something was not given back,
# or a sanitizer reports. With the file and, of a report, some lines more, but once for each place.
bad_log='PANIC:|TRAP:|still referenced|was not closed|WARNING:.* leak|WARNING:.*problem in (alloc set|Generation|slab|Bump) |terminated by signal (4|6|7|8|11)|: runtime error: |AddressSanitizer: '
faults_in_logs() {
    awk -v bad="$bad_log" '/: runtime error: / && seen[$0]++ { more = 0; next }
                           $0 ~ bad { print FILENAME ":" FNR ": " $0; more = /runtime error|AddressSanitizer/ ? 25 : 0; next }
                           more > 0 { print "    " $0; more-- }' "$@"
}

# Runs a command as the server's user, in a folder that user can read.
as_server() (
    cd "$work"
    if [ -n "$server_user" ]; then
        exec setpriv --reuid="$server_user" --regid="$(id -g "$server_user")" --init-groups \
            env HOME="$work" "$@"
    fi
    exec "$@"
)

# A folder the server's user may write.
server_folder() {
    mkdir -p "$1"
    if [ -n "$server_user" ]; then chown "$server_user": "$1"; fi
}

sandbox_bin() { printf '%s' "$work/root-$1$bindir"; }

build_variant() {
    local folder=$here/build/$pg_build-$1
    mkdir -p "$folder"
    make -s --no-print-directory -C "$folder" -f ../../Makefile -j"$(nproc)" PG_CONFIG="$pg_config" \
        TEST_BUILD="$(if [ "$1" = test ]; then echo 1; fi)" SANITIZE="${SANITIZE:-}" "${@:2}"
}

sandbox() {
    local root=$work/root-$1 log=$work/build-$1.log
    mkdir -p "$root$bindir" "$root$pkglibdir" "$root$sharedir"
    cp -a "$bindir/." "$root$bindir"
    cp -as "$pkglibdir/." "$root$pkglibdir"
    cp -as "$sharedir/." "$root$sharedir"
    find "$root$pkglibdir" "$root$sharedir" -name 'prompt_cache*' -delete
    if ! build_variant "$1" install DESTDIR="$root" >"$log" 2>&1; then
        cat "$log" >&2
        return 1
    fi
    grep -E 'warning:' "$log" >&2 || true
    if [ -n "${SANITIZE:-}" ]; then sanitize_server "$root$bindir"; fi
}

# The server of a sandbox with the runtime of the sanitizers, which a library alone cannot bring along: it must be there
# before the C library is used. Reports are in the server's log.
sanitize_server() {
    gcc -shared -fPIC -O1 -Wl,-z,initfirst -o "$work/sanitizers.so" "$here/test/lib/sanitizers.c"
    mv "$1/postgres" "$1/postgres.plain"
    # The server reckons with the place of its stack, and frees some memory only by its exit.
    cat >"$1/postgres" <<EOF
#!/bin/sh
exec env LD_PRELOAD="$(gcc -print-file-name=libasan.so) $work/sanitizers.so $(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=abort_on_error=1:disable_coredump=1:handle_abort=0:detect_leaks=0:detect_stack_use_after_return=0:detect_odr_violation=0 \
    "\$0.plain" "\$@"
EOF
    chmod 755 "$1/postgres"
}

new_server() {
    local name=$1 variant=$2 folder=$work/$1 line
    shift 2
    server_folder "$folder"
    printf '%s\n' "$variant" >"$folder/variant"
    as_server "$(sandbox_bin "$variant")/initdb" --no-sync -A trust -U postgres -E UTF8 --locale=C.UTF-8 \
        -D "$folder/data" >"$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log" >&2; return 1; }
    {
        printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$folder'" "port = $PGPORT" \
            "shared_preload_libraries = 'prompt_cache'" "prompt_cache.persist_naptime = 1d" "fsync = off" "max_prepared_transactions = 20" \
            "log_line_prefix = '%m [%p] %q%a '" "timezone = 'UTC'"
        for line in "$@"; do printf '%s\n' "$line"; done
    } >>"$folder/data/postgresql.conf"
    servers+=("$name")
    start_server "$name"
}

server_ctl() {
    local name=$1
    shift
    as_server "$(sandbox_bin "$(cat "$work/$name/variant")")/pg_ctl" -D "$work/$name/data" -s -w "$@"
}

start_server() {
    if ! server_ctl "$1" -t 60 -l "$work/$1/log" start </dev/null; then
        tail -n 20 "$work/$1/log" >&2
        return 1
    fi
}

stop_server() {
    if [ -f "$work/$1/data/postmaster.pid" ]; then server_ctl "$1" -m "${2:-fast}" stop; fi
}

crash_server() { stop_server "$1" immediate; }

use_server() {
    export PATH PGHOST=$work/$1
    PATH=$(sandbox_bin "$(cat "$work/$1/variant")"):$PATH
}
