# The stages of test/run. A stage calls pass [N] and fail TEXT; one that finds nothing to do calls neither.

pass() { passed=$((passed + ${1:-1})); }
fail() { failed=$((failed + 1)); say "FAILED: $*"; }
failures() { if [ "$1" -gt 0 ]; then failed=$((failed + $1)); fi; }

# Names of the files that match, without folder and ending.
names() { find "$1" -maxdepth 1 -name "*$2" 2>/dev/null | sed "s|.*/||; s|$2\$||" | sort; }

# A sandbox of a variant, built when first asked for.
ready() {
    if [ ! -x "$(sandbox_bin "$1")/postgres" ]; then sandbox "$1"; fi
}

stage_build() {
    local variant
    for variant in normal test; do
        if ready "$variant"; then pass; else fail "build of variant $variant"; fi
    done
}

stage_source() {
    local log=$work/source.log
    ready normal || return 1
    if ! "$here/test/check_source" "$work/root-normal$pkglibdir/prompt_cache.so" >"$log" &&
        ! grep '^not ok' "$log" >/dev/null; then return 1; fi
    grep -v '^ok' "$log" || true
    pass "$(grep -c '^ok' "$log" || true)"
    failures "$(grep -c '^not ok' "$log" || true)"
}

stage_unit() {
    local kind log run=()
    [ -n "$(names "$here/test/unit" _test.cpp)" ] || return 0
    # TSan cannot live with the full randomisation of addresses that newer kernels use.
    if setarch -R true 2>/dev/null; then run=(setarch -R); fi
    for kind in plain asan tsan; do
        log=$out/unit-$kind.log
        make --no-print-directory -s -j"$(nproc)" -f "$here/test/lib/unit.mk" KIND="$kind" top="$here" >"$log" 2>&1 \
            || { cat "$log"; fail "unit tests ($kind) do not build"; continue; }
        grep 'warning:' "$log" || true
        [ -x "$here/build/unit-$kind/tests" ] || continue
        if ${run[@]+"${run[@]}"} "$here/build/unit-$kind/tests" --gtest_brief=1 >"$log" 2>&1; then
            pass "$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log")"
        else
            cat "$log"
            fail "unit tests ($kind)"
        fi
    done
}

# pg_regress and pg_isolation_regress say "test x ... ok 12 ms" up to 15 and "ok 1 - x 12 ms" from 16 on.
count_regress() {
    local folder=$1 total=$2 good
    good=$(grep -cE '^(test .*\.\.\. ok |ok [0-9]+ )' "$folder/output" || true)
    if [ "$good" -lt "$total" ]; then
        cat "$folder/output"
        if [ -s "$folder/regression.diffs" ]; then cat "$folder/regression.diffs"; fi
    fi
    pass "$good"
    failures $((total - good))
}

stage_regress() {
    local topics folder=$out/regress
    topics=(${REGRESS:-$(names "$here/sql" .sql | grep -v '^prompt_cache--')})
    ready normal && new_server regress normal || return 1
    check_catalog
    [ ${#topics[@]} -gt 0 ] || return 0
    (
        use_server regress
        mkdir -p "$folder"
        "$pgxs_test/regress/pg_regress" --inputdir="$here" --outputdir="$folder" --bindir="$(sandbox_bin normal)" \
            --dbname=contrib_regression --encoding=UTF8 --no-locale --load-extension=prompt_cache \
            "${topics[@]}" >"$folder/output" 2>&1
    ) || true
    count_regress "$folder" ${#topics[@]}
    stop_server regress
}

# What every installed object must have: see lib/catalog.sql, whose rows are the faults.
check_catalog() {
    local found
    found=$(
        use_server regress
        createdb catalog_check
        psql -XqAt -v ON_ERROR_STOP=1 -d catalog_check -c 'CREATE EXTENSION prompt_cache' -f "$here/test/lib/catalog.sql" 2>&1
    ) || true
    if [ -z "$found" ]; then pass; else fail "catalog:"$'\n'"$found"; fi
}

stage_isolation() {
    local specs folder=$out/isolation
    specs=(${ISOLATION:-$(names "$here/test/isolation/specs" .spec)})
    [ ${#specs[@]} -gt 0 ] || return 0
    ready test && new_server isolation test || return 1
    (
        use_server isolation
        # A step that hangs is cancelled after this many seconds, not after five minutes.
        export PGISOLATIONTIMEOUT=30
        mkdir -p "$folder"
        "$pgxs_test/isolation/pg_isolation_regress" --inputdir="$here/test/isolation" --outputdir="$folder" \
            --bindir="$(sandbox_bin test)" --dbname=isolation_regression --encoding=UTF8 --no-locale \
            --load-extension=prompt_cache "${specs[@]}" >"$folder/output" 2>&1
    ) || true
    count_regress "$folder" ${#specs[@]}
    stop_server isolation
}

# As the server's user, since these start servers themselves. PROMPT_CACHE_TEST_BUILD is what a test gives as
# install_path to get a server of the test build.
stage_tap() {
    local name names folder=$work/tap
    names=(${TAP:-$(names "$here/test/tap" .pl)})
    [ ${#names[@]} -gt 0 ] || return 0
    ready normal && ready test || return 1
    server_folder "$folder"
    cp -a "$here/test/tap" "$folder/t"
    cp -a "$here/test/examples" "$folder/examples"
    cp -a "$here/sql/recipes.sql" "$folder/examples"
    if ! build_variant normal replay >"$out/replay.log" 2>&1; then cat "$out/replay.log"; return 1; fi
    cp "$here/build/$pg_build-normal/test/bench/replay" "$folder"
    chmod -R a+rX "$folder/t" "$folder/examples"
    for name in "${names[@]}"; do
        if (
            cd "$folder"
            as_server env TESTDIR="$folder" TESTLOGDIR="$folder/tmp_check/log" TESTDATADIR="$folder/tmp_check" \
                PATH="$(sandbox_bin normal):$PATH" PG_CONFIG="$pg_config" PG_REGRESS="$pgxs_test/regress/pg_regress" \
                PGPORT=54400 PROMPT_CACHE_TEST_BUILD="$(dirname "$(sandbox_bin test)")" PROMPT_CACHE_RULES="$(rule_names)" \
                prove --nocolor -I "$pgxs_test/perl" -I "$folder/t" "$folder/t/$name.pl"
        ) >"$out/tap-$name.log" 2>&1 </dev/null; then
            pass "$(sed -n 's/^Files=1, Tests=\([0-9]*\).*/\1/p' "$out/tap-$name.log")"
        else
            cat "$out/tap-$name.log"
            grep -A 8 'not ok' "$folder/tmp_check/log/regress_log_$name" 2>/dev/null | head -n 60 || true
            tail -n 20 "$folder/tmp_check/log/regress_log_$name" 2>/dev/null || true
            fail "tap $name"
        fi
    done
}

# The mixed load on a primary and a standby, every read checked; test/load/README.md tells what it does.
stage_load() {
    if PG_CONFIG=$pg_config DURATION=${DURATION:-120} "$here/test/load/run" >"$out/load.log" 2>&1 </dev/null; then
        pass
        tail -n 25 "$out/load.log"
    else
        cat "$out/load.log"
        fail "load:"$'\n'"$(load_faults "$out/load.log")"
    fi
}

# What is wrong in a log of the load, and in which round; where nothing says it, how the log ends.
load_faults() {
    awk '/^---/ { round = $0 }
         /^(VIOLATION|too few|[0-9]+:|[0-9A-Z]{5} )/ || (told && /^    /) { if (round != "") print round; round = ""; print; told = 1; lines++; next }
         { told = 0 }
         END { exit lines == 0 }' "$1" || tail -n 15 "$1"
}

# The negative controls: without a rule of the protocol its test must see a wrong answer. Then random schedules with all rules.
stage_controls() {
    local name
    for name in controls puts; do
        PG_CONFIG=$pg_config DURATION=20 "$here/test/load/$name" >"$out/$name.log" 2>&1 </dev/null && pass || fail "$name"
        cat "$out/$name.log"
    done
}

# Faults on purpose (lib/faults.cpp), each of which the run must notice: on a server with assertions or with
# the sanitizers. A run that noticed none of them would prove nothing.
stage_faults() {
    local fault faults=(assertion:TRAP: overrun:'problem in alloc set') module=$work/faults.so flags=() found
    if [ -n "${SANITIZE:-}" ]; then
        faults=(heap:heap-buffer-overflow stack:stack-buffer-overflow undefined:'runtime error')
        flags=(-fsanitize=address,undefined -fno-sanitize-recover=undefined)
    fi
    ready normal || return 1
    g++ -std=c++20 -O1 -fPIC -shared -fno-exceptions -fno-rtti -Wno-register ${flags[@]+"${flags[@]}"} \
        -isystem "$("$pg_config" --includedir-server)" -o "$module" "$here/test/lib/faults.cpp" && chmod 755 "$module" || return 1
    new_server faults normal || return 1
    for fault in "${faults[@]}"; do
        (
            use_server faults
            psql -Xq -d postgres -c "CREATE FUNCTION pg_temp.fault() RETURNS void LANGUAGE c AS '$module', 'fault_${fault%%:*}'" \
                -c 'SELECT pg_temp.fault()' -c 'SELECT 1' || true
            until psql -XqAt -d postgres -c 'SELECT 1'; do sleep 0.1; done
        ) >/dev/null 2>&1
        found=$(faults_in_logs "$work/faults/log")
        if grep -q "${fault#*:}" <<<"$found"; then pass; else fail "fault \"${fault%%:*}\" is not noticed:"$'\n'"$found"; fi
    done
    # What was made on purpose is no finding.
    stop_server faults && rm -rf "$work/faults"
}

# No server of this run may have crashed by itself or leaked a resource.
stage_logs() {
    local log logs found
    logs=$(find "$work" -type f \( -path "$work/*/log" -o -path '*/tmp_check/log/*.log' \))
    [ -n "$logs" ] || return 0
    found=$(faults_in_logs $logs | head -n 100)
    if [ -z "$found" ]; then pass; else fail "server logs:"$'\n'"$found"; fi
    mkdir -p "$out/logs"
    for log in $logs; do cp "$log" "$out/logs/$(printf '%s' "${log#"$work"/}" | tr / -)"; done
}
