# The server that is built with assertions, of the machine's major version; sourced after server.sh.
#
# Built from the tar of Debian's source package, without Debian's patches: one of them has it installed over the machine's
# own server. The list of sources is made from the machine's, and kept apart from it: /etc/apt and apt's state stay as they are.
# What is built is kept in $ASSERT (build/assert), where another run finds it; delete it to have it built anew.
#
#   use_assert_server    after new_work: a copy in the work folder, where the server's user may read it, becomes $pg_config

use_assert_server() {
    local folder
    mkdir -p "${ASSERT:-$here/build/assert}"
    folder=$(cd "${ASSERT:-$here/build/assert}" && pwd)/pg$pg_major
    if [ ! -x "$folder/bin/postgres" ]; then build_assert_server "$folder"; fi
    say "$("$folder/bin/postgres" --version), built with assertions, from $folder"
    cp -a "$folder" "$work/server"
    pg_config_wanted=$work/server/bin/pg_config
    find_pg_config || die "$folder has no server or no development files"
}

# The newest version that can still be had: of the very newest, packages are often there and the source is not.
fetch_source() {
    local folder=$1 file version options
    mkdir -p "$folder"/apt/{parts,lists/partial,cache/archives/partial}
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        if [ -f "$file" ]; then sed -n 's/^deb\([[:blank:]]\)/deb-src\1/p' "$file" >"$folder/apt/parts/${file##*/}.list"; fi
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        if [ -f "$file" ]; then sed 's/^Types:.*/Types: deb-src/' "$file" >"$folder/apt/parts/${file##*/}"; fi
    done
    options=(-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$folder/apt/parts" -o Dir::State::Lists="$folder/apt/lists"
        -o Dir::Cache="$folder/apt/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || say "not every list could be had"
    for version in $(apt-cache "${options[@]}" showsrc "postgresql-$pg_major" | sed -n 's/^Version: //p' | sort -ruV); do
        if (cd "$folder" && apt-get "${options[@]}" source --download-only "postgresql-$pg_major=$version"); then return 0; fi
    done
    return 1
}

# An assertion of the server that does not hold: a subtransaction may be rolled back while its transaction commits or is
# prepared (BeginInternalSubTransaction() allows it). Any deferred trigger in PL/pgSQL that catches an error fails it.
correct_assertions() {
    sed -i 's/^\([[:blank:]]*s->blockState == TBLOCK_STARTED\));$/\1 || s->blockState == TBLOCK_END || s->blockState == TBLOCK_PREPARE);/' \
        src/backend/access/transam/xact.c
}

build_assert_server() {
    local folder=$1 build=$1-build
    command -v apt-get >/dev/null || die "no apt-get; put such a server into $folder, built with --enable-cassert --enable-tap-tests"
    rm -rf "$build"
    mkdir -p "$build/tree"
    say "building PostgreSQL $pg_major with assertions, once, into $folder: some fifteen minutes on two processors …"
    # The make that has called this is none of theirs.
    if ! (
        unset MAKEFLAGS MAKELEVEL MFLAGS
        fetch_source "$build" &&
            tar -C "$build/tree" --strip-components=1 -xf "$build/postgresql-$pg_major"_*.orig.tar.* &&
            cd "$build/tree" && correct_assertions &&
            nice -n 19 ./configure --prefix="$folder" --enable-cassert --enable-debug --enable-tap-tests --with-openssl --with-libxml \
                --with-icu CFLAGS='-O1 -g -fno-omit-frame-pointer' &&
            nice -n 19 make -j"$(nproc)" world-bin &&
            nice -n 19 make install-world-bin DESTDIR="$build/installed"
    ) >"$build/log" 2>&1; then
        tail -n 40 "$build/log" >&2
        die "the server was not built; the whole log is $build/log"
    fi
    rm -rf "$folder"
    mv "$build/installed$folder" "$folder"
    rm -rf "$build"
}
