# The rows of the benchmark table that `run` measures, a function each; README.md says what each does.
# A row calls report once a figure. Ratios come from tools/duel, which runs both sides in turn.

# report ROW WHAT MEASURED RELATION TARGET [LOWER UPPER [BY_CPU]]
report() {
    local met='' target=''
    if [ "$4" != - ]; then
        target="$4 $5"
        met=$(awk -v m="$3" -v r="$4" -v t="$5" 'BEGIN { print (r == ">=" ? m >= t : r == "<=" ? m <= t : m == t) ? "yes" : "NO" }')
    fi
    printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$1" "$2" "$3" "${6:+$6 - $7}" "${8:-}" "$target" "$met" >>"$out/lines"
    printf '%-4s %-96s %8s  (cpu %6s)  %s %s\n' "$1" "$2" "$3" "${8:--}" "$target" "$met"
}

# duel ROW WHAT RELATION TARGET OPTION…: rate of --a over rate of --b.
duel() {
    local figures answer
    answer=$("$tools/duel" "${@:5}") || return 1
    read -ra figures <<<"$answer"
    report "$1" "$2" "$(printf %.3f "${figures[0]}")" "$3" "$4" "$(printf %.3f "${figures[1]}")" "$(printf %.3f "${figures[2]}")" \
        "$(printf %.3f "${figures[3]}")"
    if [ -n "${VERBOSE:-}" ]; then say "     ${figures[4]}/s and ${figures[5]}/s"; fi
}

quiet() { psql -Xqv ON_ERROR_STOP=1 "$@" >/dev/null; }
ask() { psql -XqAtv ON_ERROR_STOP=1 -c "$1"; }

# Servers. fsync is off but for P8; nothing but the rows runs in them, so autovacuum, checkpoints and JIT stay away.
server() {
    local settings=("shared_buffers = 1GB" "max_wal_size = 20GB" "checkpoint_timeout = 1h" "autovacuum = off" "jit = off" "${@:3}")
    if [ ! -d "$work/$1" ]; then new_server "$1" normal "prompt_cache.memory_size = $2" "${settings[@]}"; fi
    use_server "$1"
}
main_server() { server main 512MB; }

# chat NAME USERS USERS_A_TENANT OWN_LENGTH APPLICATION TENANT: a database in the current server with the reference schema,
# attached. OWN_LENGTH is an SQL expression over the user's number u; APPLICATION and TENANT are lengths in bytes. With
# CHAT_PARTITIONS set, users has that many hash partitions. The text is what the demo's prompts say: it compresses like text.
chat() {
    createdb "$1"
    export PGDATABASE=$1
    quiet -v users="$2" -v share="$3" -v application="$5" -v tenant="$6" -v parts="${CHAT_PARTITIONS:-0}" <<SQL
CREATE EXTENSION prompt_cache;
CREATE TABLE library (title text, prompt text);
\copy library FROM '$here/test/demo/prompts.csv' (FORMAT csv, HEADER)
CREATE TABLE book (text text);
ALTER TABLE book ALTER text SET STORAGE EXTERNAL;
INSERT INTO book SELECT repeat(string_agg(regexp_replace(prompt, '[^ -~\n]', '', 'g'), ' '), 14) FROM library;
CREATE FUNCTION words(seed bigint, length bigint) RETURNS text LANGUAGE sql STABLE AS
    \$\$ SELECT substr(text, (1 + seed * 389 % 13001)::int, length::int) FROM book \$\$;
CREATE FUNCTION hold_text(text, integer) RETURNS integer LANGUAGE c STRICT AS '$tools/copy_text', 'hold_text';
CREATE FUNCTION copy_text(bigint) RETURNS text LANGUAGE c STABLE STRICT AS '$tools/copy_text', 'copy_text';
CREATE FUNCTION take_text(text) RETURNS integer LANGUAGE c STABLE STRICT AS '$tools/copy_text', 'take_text';
CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL, system_prompt text);
SELECT format('CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id bigint, name text NOT NULL, system_prompt text, last_login timestamptz) %s',
              CASE WHEN :parts > 0 THEN 'PARTITION BY HASH (user_id)' END) \gexec
SELECT format('CREATE TABLE users_%s PARTITION OF users FOR VALUES WITH (MODULUS %s, REMAINDER %s)', n, :parts, n)
  FROM generate_series(0, :parts - 1) n \gexec
INSERT INTO tenants SELECT t, 'Tenant ' || t, words(t, :tenant) FROM generate_series(1, (:users - 1) / :share + 1) t;
INSERT INTO users SELECT u, (u - 1) / :share + 1, 'User ' || u, words(u, $4) FROM generate_series(1, :users) u;
VACUUM (FREEZE, ANALYZE);
SELECT prompt_cache.attach();
SELECT prompt_cache.set_application_prompt(words(7, :application)) WHERE :application > 0;
SQL
}

# Own layers that make the whole prompt LENGTH bytes, beside 100 bytes of the application's and 100 of the tenant's:
# the headings take 55.
own() { printf '(%s) - 255' "$1"; }

# Every user's prompt in memory; an error if one is not then a hit of the expected length.
cache_all() {
    local check
    quiet -c "SELECT count(prompt_cache.prompt(n)) FROM generate_series(1, $1) n"
    check=$(ask "SELECT count(*) FILTER (WHERE g.source = 'memory' AND (${2:-0} = 0 OR octet_length(g.prompt) = ${2:-0}))
                   FROM generate_series(1, $1) n, LATERAL prompt_cache.get_or_build(n) g")
    [ "$check" = "$1" ] || { say "only $check of $1 prompts are hits of length ${2:-any}" >&2; return 1; }
}

# The two tables of P2 and P3, with the prompts of all users.
cache_tables() {
    quiet <<SQL
CREATE UNLOGGED TABLE cache (user_id bigint PRIMARY KEY, prompt text NOT NULL);
INSERT INTO cache SELECT user_id, prompt_cache.build(user_id) FROM users;
CREATE TABLE tier (id bigserial PRIMARY KEY, user_id bigint NOT NULL, cached_prompt text NOT NULL, created_at timestamptz NOT NULL);
CREATE INDEX ON tier (user_id, created_at DESC);
INSERT INTO tier (user_id, cached_prompt, created_at)
SELECT user_id, prompt, now() - make_interval(mins => age) FROM cache, generate_series(2, 0, -1) age;
VACUUM (FREEZE, ANALYZE) cache, tier;
SQL
}

hold() { printf 'SELECT hold_text(prompt_cache.build(1), %s)' "$1"; }
hit='SELECT prompt_cache.prompt($1)'
from_table='SELECT prompt FROM cache WHERE user_id = $1'
from_tier='SELECT cached_prompt FROM tier WHERE user_id = $1 ORDER BY created_at DESC LIMIT 1'

# The databases of P1 to P3: values of one length, or of the 16 lengths that stand for a file of them.
sized() {
    main_server
    export PGDATABASE=sized_$1
    if psql -XAtqc '' 2>/dev/null; then return; fi
    if [ "$1" = real ]; then
        local lengths
        lengths=$(sort -n "$SIZES" | awk '$1 > 255 { a[NR] = $1; n = NR } $1 <= 255 { a[NR] = 256; n = NR }
            END { for (i = 0; i < 16; i++) printf "%s%d", i ? "," : "", a[int((i + 0.5) * n / 16) + 1] }')
        chat "sized_$1" 1600 1000 "$(own "('{$lengths}'::int[])[1 + u % 16]")" 100 100
        cache_all 1600
        ask "SELECT format('SELECT repeat(''x'', %s)', n) FROM unnest('{$lengths}'::int[]) n" >"$work/constants_$1.sql"
    else
        chat "sized_$1" 1000 1000 "$(own "$1")" 100 100
        cache_all 1000 "$1"
        printf "SELECT repeat('x', %s)\n" "$1" >"$work/constants_$1.sql"
    fi
    cache_tables
}
sizes_wanted() { printf '%s' "1024 4096 32768"; if [ -n "${SIZES:-}" ]; then printf ' real'; fi; }
size_name() { case $1 in real) printf 'the lengths of SIZES' ;; *) printf '%s KB' $(($1 / 1024)) ;; esac; }
users_of() { case $1 in real) printf 1600 ;; *) printf 1000 ;; esac; }

row_P1() {
    local size
    for size in $(sizes_wanted); do
        sized "$size"
        duel P1 "hit, $(size_name "$size"), against a constant" '>=' 0.95 --a "$hit" --b "@$work/constants_$size.sql" \
            --keys "$(users_of "$size")" --clients "$(nproc)" --pairs 500 --ms 10
        if [ "$size" = real ]; then continue; fi
        duel P1 "a C function that copies one of 1 000 texts, $(size_name "$size"), against the constant: what can be had" - '' \
            --a 'SELECT copy_text($1)' --b "@$work/constants_$size.sql" --setup "$(hold 1000)" --keys 1000 \
            --clients "$(nproc)" --pairs 300 --ms 10
    done
}

row_P2() {
    local size target
    for size in $(sizes_wanted); do
        sized "$size"
        case $size in 4096) target='>= 1.4' ;; 32768) target='>= 2.5' ;; *) target='- ' ;; esac
        duel P2 "hit, $(size_name "$size"), against an UNLOGGED table" "${target% *}" "${target#* }" --a "$hit" --b "$from_table" \
            --keys "$(users_of "$size")" --clients "$(nproc)" --pairs 400 --ms 10
    done
}

row_P3() {
    local size target
    for size in $(sizes_wanted); do
        sized "$size"
        case $size in 4096) target='>= 1.45' ;; 32768) target='>= 2.5' ;; *) target='- ' ;; esac
        duel P3 "hit, $(size_name "$size"), against the reference table tier" "${target% *}" "${target#* }" --a "$hit" --b "$from_tier" \
            --keys "$(users_of "$size")" --clients "$(nproc)" --pairs 400 --ms 10
    done
}

# 20 000 prompts of 4 KB: more than the processor's caches hold. The tables ids_N name N users in 20 000 rows, in an order
# that no prefetcher guesses. Flat: nearly all of a prompt is the user's own; else most of it is shared.
in_statement() {
    main_server
    export PGDATABASE=$1
    if psql -XAtqc '' 2>/dev/null; then return; fi
    case $1 in flat) chat flat 20000 1000 "$(own 4096)" 100 100 ;; layered) chat layered 20000 1000 493 2048 1500 ;; esac
    cache_all 20000 4096
    quiet <<SQL
CREATE UNLOGGED TABLE cache (user_id bigint PRIMARY KEY, prompt text NOT NULL);
INSERT INTO cache SELECT user_id, prompt_cache.build(user_id) FROM users;
CREATE TABLE ids_20000 AS SELECT u AS id FROM generate_series(1::bigint, 20000) u ORDER BY hashint8(u);
CREATE TABLE ids_8000 AS SELECT 1 + id % 8000 AS id FROM ids_20000;
CREATE TABLE ids_1000 AS SELECT 1 + id % 1000 AS id FROM ids_20000;
VACUUM (FREEZE, ANALYZE);
SQL
}

row_P5() {
    local copy='SELECT sum(octet_length(copy_text(id))) FROM' hits='SELECT sum(octet_length(prompt_cache.prompt(id))) FROM'
    local table='SELECT sum(take_text((SELECT prompt FROM cache WHERE user_id = id))) FROM' layout users ids
    for layout in 'layered in layers' 'flat all of the user'; do
        in_statement "${layout%% *}"
        for users in '1 000' '8 000' '20 000'; do
            ids=ids_${users/ /}
            duel P5 "hits inside a statement, 4 KB ${layout#* }, $users users: their time against a hot copy" '<=' 2.5 \
                --a "$copy $ids" --b "$hits $ids" --setup "$(hold 1)" --pairs 150 --calls 1
        done
    done
    PGDATABASE=layered duel P5 \
        'hits in layers, 20 000 users, against a copy of as many cold texts (2.5 of the 2.8 that the target takes such a copy for)' '<=' 0.89 \
        --a "$copy ids_20000" --b "$hits ids_20000" --a-setup "$(hold 20000)" --b-setup "$(hold 1)" --pairs 100 --calls 1
    for users in '8 000' '20 000'; do
        ids=ids_${users/ /}
        duel P5 "a copy of $users cold texts: its time against a hot copy, what memory gives" - '' \
            --a "$copy $ids" --b "$copy $ids" --a-setup "$(hold 1)" --b-setup "$(hold "${users/ /}")" --pairs 100 --calls 1
    done
    for users in '1 000' '20 000'; do
        ids=ids_${users/ /}
        duel P5 "hits inside a statement, $users users, against the UNLOGGED table" '>=' 25 \
            --a "$hits $ids" --b "$table $ids" --pairs 12 --calls 1
    done
}

row_P6() {
    in_statement flat
    local expression name
    for name in 'uniform keys' 'one hot key'; do
        case $name in uniform*) expression='1 + (n * 7919 + $1) % 20000' ;; *) expression='$1 * 0 + 42' ;; esac
        duel P6 "two backends against one, $name" '>=' "$(case $name in uniform*) echo 1.9 ;; *) echo 1.85 ;; esac)" \
            --a "SELECT sum(octet_length(prompt_cache.prompt($expression))) FROM generate_series(1, 20000) n" \
            --b "SELECT sum(octet_length(prompt_cache.prompt($expression))) FROM generate_series(1, 20000) n" \
            --a-clients 2 --b-clients 1 --keys 20000 --pairs 150 --ms 30
    done
    duel P6 "two backends against one, a copy of one hot text: what the machine gives" - '' \
        --a 'SELECT sum(octet_length(copy_text(n))) FROM generate_series(1, 20000 + $1::int * 0) n' \
        --b 'SELECT sum(octet_length(copy_text(n))) FROM generate_series(1, 20000 + $1::int * 0) n' \
        --setup "$(hold 1)" --a-clients 2 --b-clients 1 --keys 20000 --pairs 150 --ms 30
}

# A tenant with a million users in memory, another with one: user 1 000 001.
million() {
    server million 512MB
    export PGDATABASE=million
    if psql -XAtqc '' 2>/dev/null; then return; fi
    chat million 1000001 1000000 '40 + u % 7' 1000 1000
    cache_all 1000001
}

row_P7() {
    million
    duel P7 "UPDATE of a tenant with 1 000 000 cached users: its time against one with 1 user" '<=' 1.1 \
        --a "UPDATE tenants SET system_prompt = 'Guideline ' || random() WHERE id = 2" --a-after 'SELECT prompt_cache.prompt(1000001)' \
        --b "UPDATE tenants SET system_prompt = 'Guideline ' || random() WHERE id = 1" --b-after 'SELECT prompt_cache.prompt(1)' \
        --pairs 300 --calls 50
    [ "$(ask "SELECT (SELECT source FROM prompt_cache.get_or_build(999999))")" = memory ]
}

row_P8() {
    main_server
    local size kind target what fsync
    chat writes 300 1000 'CASE u % 3 WHEN 0 THEN 1024 WHEN 1 THEN 4096 ELSE 102400 END' 100 100
    quiet <<SQL
CREATE TABLE plain (LIKE users INCLUDING ALL);
INSERT INTO plain SELECT * FROM users;
CREATE TABLE sizes AS SELECT size, array_agg(user_id ORDER BY user_id) AS ids FROM
    (SELECT user_id, octet_length(system_prompt) AS size FROM users) u GROUP BY size;
VACUUM (FREEZE, ANALYZE) users, plain;
SQL
    cache_all 300
    for size in 1024 4096 102400; do ask "SELECT words(3, $size)" | head -c "$size" >"$work/value_$size"; done
    for fsync in on off; do
        quiet -c "ALTER SYSTEM SET fsync = $fsync" -c "SELECT pg_reload_conf()"
        for kind in 'an unwatched column' 'the prompt'; do
            for size in 1024 4096 102400; do
                local set_to='last_login = now()' id calls=40
                target=1.05
                if [ "$kind" = 'the prompt' ]; then set_to='system_prompt = $2' target=1.3; fi
                case $size in 1024) id='3 * $1' ;; 4096) id='3 * $1 - 2' ;; *) id='3 * $1 - 1' ;; esac
                case $size$target in 1024001.3) calls=4 ;; esac
                what="UPDATE of $kind, $((size / 1024)) KB: its time against no triggers"
                if [ $fsync = off ]; then what+=', fsync off'; fi
                duel P8 "$what" "$([ $fsync = on ] && echo '<=' || echo -)" "$target" \
                    --a "UPDATE plain SET $set_to WHERE user_id = $id" --b "UPDATE users SET $set_to WHERE user_id = $id" \
                    --keys 100 --value "$work/value_$size" --pairs 100 --calls $calls
            done
        done
    done
    quiet -c "ALTER SYSTEM RESET fsync" -c "SELECT pg_reload_conf()"
}

# Each user's first call, in the order of the keys; both sides ask for the same ones. Plans of the bare query are kept: with
# partitions the planner would make one for each call, and lose.
first_builds() {
    duel P9 "$1" "$2" "$3" \
        --a "SELECT concat_ws(E'\n\n', a.prompt, E'--- Tenant Guidelines ---\n' || t.system_prompt, E'--- User Preferences ---\n' || u.system_prompt)
               FROM users u LEFT JOIN tenants t ON t.id = u.tenant_id LEFT JOIN prompt_cache.application a ON true WHERE u.user_id = \$1" \
        --b 'SELECT prompt FROM prompt_cache.get_or_build($1)' --a-setup 'SET plan_cache_mode = force_generic_plan' \
        --keys 20000 --order next --pairs 390 --calls 50
}

row_P9() {
    main_server
    chat builds 20000 1000 512 4096 2048
    first_builds 'first build of a user: its time against the bare query' '<=' 1.5
    CHAT_PARTITIONS=64 chat builds_64 20000 1000 512 4096 2048
    first_builds 'the same with users in 64 partitions' '<=' 1.5
    chat builds_all 20000 1 512 4096 2048
    first_builds "the same where every user's tenant is new too: two builds against one query" - ''
}

row_P10() {
    main_server
    chat memory 10000 1000 512 10240 2048
    local before after
    before=$(ask "SELECT bytes FROM prompt_cache.stats WHERE namespace = 'prompt'")
    cache_all 10000
    after=$(ask "SELECT bytes FROM prompt_cache.stats WHERE namespace = 'prompt'")
    report P10 "bytes a cached user costs beyond its own layer of 512" \
        "$(awk -v d=$((after - before)) 'BEGIN { printf "%.1f", d / 10000 - 512 }')" '<=' 256
    # The whole bound over what fits into it: tables of fixed size included.
    server small 64MB
    chat memory 200000 1000 512 10240 2048
    quiet -c "SELECT count(prompt_cache.prompt(n)) FROM generate_series(1, 200000) n"
    after=$(ask "SELECT count(*) FROM prompt_cache.entries WHERE layer = 'user'")
    report P10 "the same, of memory_size = 64MB over the $after users that fit" \
        "$(awk -v n="$after" 'BEGIN { printf "%.1f", 67108864 / n - 512 }')" - ''
}

row_P11() {
    local trace name capacity requests lru s3fifo hits worst
    if [ -z "${TRACES:-}" ]; then say 'P11 needs TRACES="file …"'; return 0; fi
    build_variant normal replay >"$work/replay.log" 2>&1 || { cat "$work/replay.log"; return 1; }
    for trace in $TRACES; do
        for unit in '' --bytes; do
            if [ "$unit" = --bytes ] && ! awk 'NF > 1 { found = 1; exit } END { exit !found }' "$trace"; then continue; fi
            name="$(basename "$trace" .txt)${unit:+ by bytes}"
            while read -r capacity requests lru s3fifo; do
                hits=$("$here/build/$pg_build-normal/test/bench/replay" "$trace" "$capacity" $unit | sed 's/.*hits=//')
                worst=$(awk -v h="$hits" -v l="$lru" -v s="$s3fifo" -v n="$requests" 'BEGIN { printf "%.2f", 100 * (h - (l > s ? l : s)) / n }')
                report P11 "$name, capacity $capacity: points of hit ratio above the better of LRU and S3-FIFO" "$worst" '>=' -0.5
            done < <("$tools/policies" "$trace" $unit | sed 's/[a-z0-9]*=//g')
        done
    done
}

row_P12() {
    main_server
    local begin ratio lower upper builds what
    chat herd 64 1000 512 4096 2048
    cache_all 64
    for begin in '' 'BEGIN ISOLATION LEVEL REPEATABLE READ'; do
        what="64 backends miss one entry whose build takes 200 ms${begin:+, REPEATABLE READ}"
        read -r ratio lower upper builds <<<"$("$tools/herd" 64 200 12 ${begin:+"$begin"})"
        [ -n "$builds" ] || return 1
        report P12 "$what: builds, the most in a round" "$builds" '=' 1
        report P12 "$what: time until the last is answered, against one alone" "$(printf %.3f "$ratio")" '<=' 1.2 "$lower" "$upper"
    done
}

row_P14() {
    million
    local hits='SELECT sum(octet_length(prompt_cache.prompt(1 + (n * 7919 + $1) % %s))) FROM generate_series(1, 20000) n'
    local big=$PGHOST
    main_server
    chat thousand 1000 1000 '40 + u % 7' 1000 1000
    cache_all 1000
    duel P14 'a hit through libpq: its time at 1 000 000 entries against 1 000' '<=' 1.3 --a "$hit" --b "$hit" \
        --a-keys 1000 --b-keys 1000000 --b-conn "host=$big dbname=million" --pairs 400 --ms 10
    duel P14 'inside a statement, the same 1 000 keys' '<=' 1.3 --a "${hits/\%s/1000}" --b "${hits/\%s/1000}" \
        --a-keys 1000 --b-keys 1000 --b-conn "host=$big dbname=million" --pairs 200 --calls 1
    duel P14 'inside a statement, all keys: cold memory' - '' --a "${hits/\%s/1000}" --b "${hits/\%s/1000000}" \
        --a-keys 1000 --b-keys 1000000 --b-conn "host=$big dbname=million" --pairs 200 --calls 1
}

row_P15() {
    main_server
    local before
    chat edit 1000 1000 512 10240 2048
    cache_all 1000
    before=$(ask "SELECT builds FROM prompt_cache.stats WHERE namespace = 'prompt'")
    quiet -c "UPDATE tenants SET system_prompt = 'Be brief.' WHERE id = 1"
    ask "SELECT format('SELECT prompt_cache.prompt(%s)', n) FROM generate_series(1, 1000) n" | sed 's/$/;/' | quiet
    report P15 "builds after a tenant's edit, 1 000 cached users asking again, a statement each" \
        $(($(ask "SELECT builds FROM prompt_cache.stats WHERE namespace = 'prompt'") - before)) '=' 1
    [ "$(ask "SELECT prompt_cache.prompt(1000) LIKE '%Be brief.%'")" = t ]
}

# 100 000 prompts of 100 MB in memory, a server with the usual nap, a second. The first call comes at once after the start; while
# the worker brings prompts back others ask for a few users, each answer compared with a build.
row_P13() {
    local mode start elapsed count exact
    server restart 512MB "prompt_cache.persist_naptime = 1s" "fsync = on"
    chat restart 100000 1000 '256 + u % 1024' 2048 1024
    cache_all 100000
    ask 'SELECT prompt_cache.flush()' >/dev/null
    for mode in fast immediate; do
        quiet -c "UPDATE users SET system_prompt = 'right before the restart' WHERE user_id % 1000 = 0"
        stop_server restart "$mode"
        start_server restart
        start=$EPOCHREALTIME
        exact=0
        for _ in $(seq 1 600); do
            exact=$((exact + $(ask "SELECT count(*) FROM generate_series(1, 20), LATERAL (SELECT 1 + floor(random() * 100000)::int AS u) r
                                     WHERE prompt_cache.prompt(u) IS DISTINCT FROM prompt_cache.build(u)")))
            elapsed=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
            count=$(ask "SELECT count(*) FROM prompt_cache.entries WHERE layer = 'user' AND valid")
            if [ "$count" -ge 90000 ]; then break; fi
            sleep 0.2
        done
        report P13 "restart -m $mode: seconds from the first call until nine of ten of 100 000 prompts are in memory" "$elapsed" '<=' 10
        exact=$((exact + $(ask "SELECT count(*) FROM users WHERE prompt_cache.prompt(user_id) IS DISTINCT FROM prompt_cache.build(user_id)")))
        report P13 "restart -m $mode: wrong answers, from the first one on" "$exact" '=' 0
        ask 'SELECT prompt_cache.flush()' >/dev/null
    done
}
