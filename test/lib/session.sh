# Psql sessions that stay open, for scripts that need two connections; sourced after server.sh.
#   open_session NAME DATABASE    sql NAME STATEMENT    close_session NAME
# sql shows the statement and what came back, and leaves the latter in $answer.

declare -A session_in session_out
answer=

open_session() {
    local pipe=$work/session-$1 in out
    rm -f "$pipe.in" "$pipe.out"
    mkfifo "$pipe.in" "$pipe.out"
    psql -X -d "$2" <"$pipe.in" >"$pipe.out" 2>&1 &
    exec {in}>"$pipe.in" {out}<"$pipe.out"
    session_in[$1]=$in
    session_out[$1]=$out
}

sql() {
    local line end="end-of-answer-$RANDOM" lines=()
    printf '%s> %s\n' "$1" "$2"
    printf '%s\n\\echo %s\n' "$2" "$end" >&"${session_in[$1]}"
    while IFS= read -r -t 120 -u "${session_out[$1]}" line && [ "$line" != "$end" ]; do lines+=("$line"); done
    [ "${line:-}" = "$end" ] || die "session $1 gave no answer"
    answer=$(printf '%s\n' ${lines[@]+"${lines[@]}"})
    if [ -n "$answer" ]; then printf '%s\n' "$answer"; fi
}

close_session() {
    local in=${session_in[$1]} out=${session_out[$1]}
    exec {in}>&- {out}<&-
}
