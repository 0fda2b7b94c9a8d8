#include "reader.hpp"

#include <thread>

namespace load {

namespace {

// The versions in a text, and its length.
std::string heads(const std::string& text) {
    return "coalesce((SELECT string_agg(m[1], ' ') FROM regexp_matches(" + text +
           ", '\\([atu]:\\d+:v\\d+\\)', 'g') AS m) || ' ' || length(" + text + "), '<null>')";
}

// One row: what was compared, by source, what differed, a hash of the answers and a few of them as samples.
// OFFSET 0 keeps the planner from computing `bad` once for each use of it; the tables stand in the statement
// so that they are locked before its snapshot is taken: TRUNCATE is seen by older snapshots, which is the
// documented exception.
std::string batch_sql(bool with_build) {
    return std::string(
               "SELECT count(*), count(*) FILTER (WHERE source = 'memory'), count(*) FILTER (WHERE source = "
               "'database'),"
               " count(*) FILTER (WHERE source = 'built'), count(*) FILTER (WHERE bad),"
               " bit_xor(hashtextextended(coalesce(prompt, '<null>'), n)),"
               " string_agg(id || ' ' || coalesce(substring(prompt from '\\(a:\\d+:v\\d+\\)'), '')"
               "   || coalesce(substring(prompt from '\\(t:\\d+:v\\d+\\)'), '')"
               "   || coalesce(substring(prompt from '\\(u:\\d+:v\\d+\\)'), CASE WHEN prompt IS NULL THEN '' "
               "ELSE '(?)' END),"
               "   ';') FILTER (WHERE n <= 3),"
               " (array_agg(id || ' from ' || source || ': ' || " +
               heads("prompt") + " || ' <> ' || " + heads("oracle") +
               ") FILTER (WHERE bad))[1]"
               " FROM (SELECT k.id, k.n, g.prompt, g.source, ") +
           kOracle + " AS oracle, g.prompt IS DISTINCT FROM " + kOracle +
           (with_build ? " OR g.prompt IS DISTINCT FROM prompt_cache.build(k.id)" : "") +
           " AS bad FROM unnest($1::bigint[]) WITH ORDINALITY AS k(id, n)"
           " CROSS JOIN LATERAL prompt_cache.get_or_build(k.id) AS g"
           " LEFT JOIN load.users u ON u.id = k.id LEFT JOIN load.tenants t ON t.id = u.tenant_id"
           " LEFT JOIN prompt_cache.application a ON true OFFSET 0) AS answers";
}

const std::string kPlain = batch_sql(false);
const std::string kWithBuild = batch_sql(true);

}  // namespace

Id version_in(const std::string& text, char letter, Id* key) {
    const std::size_t at = text.find(std::string("(") + letter + ":");
    if (at == std::string::npos) return kUnknown;
    if (key) *key = std::atoll(text.c_str() + at + 3);
    const std::size_t v = text.find(":v", at);
    return v == std::string::npos ? kUnknown : std::atoll(text.c_str() + v + 2);
}

Reader::Reader(const Options& options, History& history, Tally& tally, Violations& violations, int number,
               bool standby)
    : options_(options),
      history_(history),
      tally_(tally),
      violations_(violations),
      standby_(standby),
      random_(options.seed * 1000 + static_cast<std::uint64_t>(number)),
      session_(standby ? options.standby : options.primary, "load reader") {}

// Half of the reads want the first thirty users, which are small; the rest wants anybody, and keys that are
// not there.
std::vector<Id> Reader::pick_keys() {
    std::vector<Id> keys;
    for (int i = 0; i < options_.keys; i++) {
        Id key = random_.percent(80) ? 1 + random_.below(30) : 1 + random_.below(kUsers);
        if (options_.large && key % 4 == 3 && random_.percent(80)) key++;
        if (random_.percent(6)) key += kUserOffset;
        if (random_.percent(2)) key = kCascadeUser + random_.below(2 * kCascades);
        keys.push_back(key);
    }
    return keys;
}

std::string Reader::batch(const std::vector<Id>& keys, const Snapshot& snapshot, bool repeatable) {
    const bool with_build = random_.percent(12);
    Snapshot taken = snapshot;
    if (taken.began == 0) taken.began = now();
    const Rows rows = session_.run_prepared(with_build ? "build" : "plain", with_build ? kWithBuild : kPlain,
                                            {array_of(keys)});
    if (taken.ended == 0) taken.ended = now();
    Sources& sources = standby_ ? tally_.standby : tally_.primary;
    sources.reads += rows.number(0, 0);
    sources.memory += rows.number(0, 1);
    sources.redis += rows.number(0, 0) - rows.number(0, 1) - rows.number(0, 2) - rows.number(0, 3);
    sources.database += rows.number(0, 2);
    sources.built += rows.number(0, 3);
    if (with_build) sources.by_build += rows.number(0, 0);
    for (Id bad = rows.number(0, 4); bad > 0; bad--)
        report(repeatable ? "not the oracle's answer (RR)" : "not the oracle's answer", rows.text(0, 7));
    if (!standby_) remember(rows.text(0, 6), taken, repeatable);
    return rows.text(0, 5);
}

void Reader::remember(const std::string& samples, const Snapshot& snapshot, bool repeatable) {
    std::vector<Read> reads;
    for (std::size_t at = 0; at < samples.size();) {
        std::size_t end = samples.find(';', at);
        if (end == std::string::npos) end = samples.size();
        const std::string sample = samples.substr(at, end - at);
        at = end + 1;
        Read read;
        read.session = session_.id();
        read.began = snapshot.began;
        read.ended = snapshot.ended;
        read.repeatable = repeatable;
        read.key = std::atoll(sample.c_str());
        const bool absent = sample.find('(') == std::string::npos;
        Id key = read.key;
        read.user_version = absent ? kAbsent : version_in(sample, 'u', &key);
        if (!absent && key != read.key) report("another user's prompt", sample);
        if (!absent && read.user_version < 0) report("a prompt without its user", sample);
        read.tenant_version = version_in(sample, 't', &read.tenant_key);
        read.application_version = version_in(sample, 'a');
        reads.push_back(read);
    }
    history_.read(reads);
}

void Reader::read_committed(int statements) {
    for (int i = 0; i < statements; i++) batch(pick_keys(), {}, false);
}

// The answers of one snapshot stay the same all its life.
void Reader::repeatable_read(bool read_only, int pause_ms) {
    session_.run(std::string("BEGIN ISOLATION LEVEL REPEATABLE READ") + (read_only ? " READ ONLY" : ""));
    session_.run("LOCK TABLE load.users, load.tenants IN ACCESS SHARE MODE");
    const std::vector<Id> keys = pick_keys();
    Snapshot snapshot;
    snapshot.began = now();
    session_.run("SELECT 1 FROM load.tenants LIMIT 1");
    snapshot.ended = now();
    const std::string first = batch(keys, snapshot, true);
    for (int i = 0; i < 4; i++) {
        if (pause_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
        batch(pick_keys(), snapshot, true);
        if (batch(keys, snapshot, true) != first) report("a snapshot that changed", array_of(keys));
    }
    session_.run("COMMIT");
}

void Reader::deferrable() {
    session_.run(random_.percent(50) ? "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"
                                     : "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE");
    session_.run("LOCK TABLE load.users, load.tenants IN ACCESS SHARE MODE");
    batch(pick_keys(), {}, true);
    session_.run("COMMIT");
}

void Reader::as_role() {
    session_.run("SET ROLE load_reader");
    read_committed(5);
    session_.run("RESET ROLE");
}

// The durable tier alone.
void Reader::without_memory() {
    session_.run("SET prompt_cache.memory = off");
    read_committed(2);
    session_.run("RESET prompt_cache.memory");
}

void Reader::one_round() {
    const std::int64_t kind = random_.below(100);
    if (kind < 70)
        read_committed(10);
    else if (kind < 74)
        without_memory();
    else if (kind < 84)
        repeatable_read(random_.percent(50), 0);
    else if (kind < 90)
        repeatable_read(true, 5);
    else if (kind < 91)
        repeatable_read(true, 400);
    else if (kind < 94 && !standby_)
        deferrable();
    else
        as_role();
}

void Reader::report(const std::string& kind, const std::string& text) const {
    violations_.add(standby_ ? kind + " (standby)" : kind, text);
}

void Reader::run_until(const std::atomic<bool>& stop) {
    while (!stop.load()) {
        try {
            one_round();
        } catch (const SqlError& error) {
            // Cancelled, terminated, deadlock, a plan's row type; the server restarts; recovery conflicts on
            // a standby.
            static const char* const expected[] = {"57014", "57P01", "57P02", "57P03", "40P01", "40001", ""};
            bool known = false;
            for (const char* state : expected) known |= error.state == state;
            if (!known) report("error " + error.state, error.text);
            if (!session_.recover()) return;
            if (error.state == "57014") session_.run("RESET ROLE; RESET prompt_cache.memory");
        }
    }
    tally_.reconnects += session_.reconnects();
}

}  // namespace load
