#include "writer.hpp"

#include <algorithm>
#include <thread>

#include "reader.hpp"

namespace load {

namespace {

constexpr Id kTenantLock = 1000000;
constexpr Id kApplicationLock = 2000000;

std::string one_sql() {
    return std::string("SELECT g.prompt, g.source, g.prompt IS DISTINCT FROM ") + kOracle +
           " OR g.prompt IS DISTINCT FROM prompt_cache.build($1::bigint) FROM (SELECT $1::bigint AS id) k"
           " CROSS JOIN LATERAL prompt_cache.get_or_build(k.id) AS g"
           " LEFT JOIN load.users u ON u.id = k.id LEFT JOIN load.tenants t ON t.id = u.tenant_id"
           " LEFT JOIN prompt_cache.application a ON true";
}
const std::string kOne = one_sql();

}  // namespace

Writer::Writer(const Options& options, History& history, Tally& tally, Violations& violations, int number)
    : options_(options),
      history_(history),
      tally_(tally),
      violations_(violations),
      random_(options.seed * 77777 + static_cast<std::uint64_t>(number)),
      session_(options.primary, "load writer"),
      other_(options.primary, "load witness"),
      number_(number) {}

bool Writer::knows(const std::string& kind) {
    for (const WriteKind& known : kinds())
        if (kind == known.name) return true;
    return false;
}

void Writer::begin() {
    states_.clear();
    may_roll_back_ = true;
    prepared_sent_ = 0;
    // Without the memory tier what a session remembers of the durable one shows.
    if (random_.percent(10))
        session_.run(random_.percent(50) ? "SET prompt_cache.memory = off" : "RESET prompt_cache.memory");
    session_.run(random_.percent(15) ? "BEGIN ISOLATION LEVEL REPEATABLE READ" : "BEGIN");
}

void Writer::lock_all() {
    session_.run("SELECT pg_advisory_xact_lock(0)");
    version_ = session_.run("SELECT nextval('load.version')").number(0, 0);
}

void Writer::lock(const std::vector<Id>& users, const std::vector<Id>& tenants, bool application) {
    std::vector<Id> keys = users;
    for (const Id tenant : tenants) keys.push_back(kTenantLock + tenant);
    if (application) keys.push_back(kApplicationLock);
    const Rows rows = session_.run(
        "SELECT pg_try_advisory_xact_lock_shared(0) AND bool_and(pg_try_advisory_xact_lock(k))"
        " FROM unnest($1::bigint[]) AS k",
        {array_of(keys)});
    if (!rows.flag(0, 0)) throw NotNow();
    version_ = session_.run("SELECT nextval('load.version')").number(0, 0);
}

void Writer::finish() {
    if (random_.percent(20)) read_back(true);
    if (may_roll_back_ && random_.percent(15)) {
        rollback();
        return;
    }
    if (random_.percent(4))
        prepare_and_end();
    else
        commit();
    if (random_.percent(30)) read_back(false);
}

void Writer::commit() {
    const Nanos sent = now();
    try {
        session_.run("COMMIT");
    } catch (const SqlError& error) {
        if (error.state.empty() || error.state == "57P01") {
            history_.committed(states_, sent, 0);
            tally_.unknown++;
        }
        throw;
    }
    history_.committed(states_, sent, now());
    tally_.commits++;
}

void Writer::rollback() {
    session_.run("ROLLBACK");
    tally_.rollbacks++;
    states_.clear();
}

void Writer::prepare_and_end() {
    // Another name each time: after a lost connection it tells whether the transaction is still there.
    prepared_name_ = "load-" + std::to_string(number_) + "-" + std::to_string(version_);
    session_.run("PREPARE TRANSACTION '" + prepared_name_ + "'");
    sleep_ms(random_.below(30));
    end_prepared();
}

void Writer::end_prepared() {
    const bool commits = !random_.percent(30);
    const Nanos sent = now();
    // Whatever happens from here on, somebody may see it.
    prepared_sent_ = commits ? sent : 0;
    session_.run((commits ? "COMMIT PREPARED '" : "ROLLBACK PREPARED '") + prepared_name_ + "'");
    if (commits) history_.committed(states_, sent, now());
    (commits ? tally_.commits : tally_.rollbacks)++;
    if (!commits) states_.clear();
    prepared_name_.clear();
}

// After a lost connection: a prepared transaction outlives it, and crashes.
void Writer::settle_prepared() {
    while (!prepared_name_.empty()) {
        try {
            if (session_.run("SELECT FROM pg_prepared_xacts WHERE gid = $1", {prepared_name_}).count() > 0) {
                end_prepared();
            } else {
                if (prepared_sent_ > 0) {
                    history_.committed(states_, prepared_sent_, 0);
                    tally_.unknown++;
                }
                prepared_name_.clear();
            }
        } catch (const SqlError&) {
            if (!session_.recover()) return;
        }
    }
}

// The same with triggers that are off: while they are nothing is stored, and the rest of the run would tell little.
void Writer::settle_triggers() {
    while (triggers_off_) {
        try {
            session_.run("ALTER TABLE load.users ENABLE TRIGGER ALL; SELECT prompt_cache._repair_triggers()");
            triggers_off_ = false;
        } catch (const SqlError&) {
            if (!session_.recover()) return;
        }
    }
}

// Before the own change, so that what is remembered of this moment could be taken for what comes after.
void Writer::look_first(Id key) {
    if (!random_.percent(30)) return;
    if (random_.percent(50))
        session_.run("INSERT INTO load.messages (user_id, body) VALUES ($1, 'looks')", {str(key)});
    const Rows rows = session_.run_prepared("one", kOne, {str(key)});
    if (rows.flag(0, 2))
        violations_.add("not the oracle's answer",
                        str(key) + " from " + rows.text(0, 1) + ": " + rows.text(0, 0).substr(0, 250));
}

// Inside: own uncommitted changes show at once. After: in the own session, and in another that was idle.
void Writer::read_back(bool inside) {
    const State* mine = nullptr;
    for (const State& state : states_)
        if (state.kind == Kind::kUser) mine = &state;
    if (!mine) return;
    const auto look = [&](Session& session) {
        Read read;
        read.began = now();
        const Rows rows = session.run_prepared("one", kOne, {str(mine->key)});
        read.ended = now();
        read.session = session.id();
        read.key = mine->key;
        const std::string prompt = rows.text(0, 0);
        read.user_version = rows.null(0, 0) ? kAbsent : version_in(prompt, 'u');
        read.tenant_version = version_in(prompt, 't', &read.tenant_key);
        read.application_version = version_in(prompt, 'a');
        if (rows.flag(0, 2))
            violations_.add(inside ? "own change: not the oracle's answer" : "not the oracle's answer",
                            str(mine->key) + " from " + rows.text(0, 1) + ": " + prompt.substr(0, 250));
        if (inside && read.user_version != (mine->present ? mine->version : kAbsent))
            violations_.add("own change not seen", str(mine->key) + ": " + prompt.substr(0, 250));
        if (!inside) history_.read({read});
        const std::string source = rows.text(0, 1);
        Sources& sources = tally_.primary;
        sources.reads++;
        sources.by_build++;
        (source == "memory"     ? sources.memory
         : source == "redis"    ? sources.redis
         : source == "database" ? sources.database
                                : sources.built)++;
        return source == "memory";
    };
    look(session_);
    if (inside) return;
    look(other_);
    tally_.second_calls++;
    tally_.second_memory += look(other_);
}

Id Writer::a_user() {
    return random_.percent(40) ? 1 + random_.below(30) : 1 + random_.below(kUsers);
}
Id Writer::a_tenant() {
    return 1 + random_.below(kTenants);
}

Id Writer::present_user(Id base, Id* tenant) {
    const Rows rows = session_.run("SELECT id, tenant_id FROM load.users WHERE id IN ($1, $2)",
                                   {str(base), str(base + kUserOffset)});
    if (rows.count() != 1) throw NotNow();
    if (tenant) *tenant = rows.number(0, 1);
    return rows.number(0, 0);
}

Id Writer::present_tenant(Id base) {
    const Rows rows = session_.run("SELECT id FROM load.tenants WHERE id IN ($1, $2)",
                                   {str(base), str(base + kTenantOffset)});
    if (rows.count() != 1) throw NotNow();
    return rows.number(0, 0);
}

bool Writer::changes_one(const std::string& sql, const Parameters& parameters) {
    const int affected = session_.run(sql, parameters).affected();
    if (affected > 1) violations_.add("the load itself", "changed more than one row: " + sql);
    return affected == 1;
}

void Writer::write_user(Id key) {
    look_first(key);
    if (!changes_one("UPDATE load.users SET system_prompt = $2 WHERE id = $1",
                     {str(key), user_text(options_, key, version_)}))
        throw NotNow();
    note(Kind::kUser, key);
}

void Writer::write_tenant(Id key) {
    if (!changes_one("UPDATE load.tenants SET system_prompt = $2 WHERE id = $1",
                     {str(key), tenant_text(key, version_)}))
        throw NotNow();
    note(Kind::kTenant, key);
}

void Writer::execute(const std::string& sql, const Parameters& parameters) {
    session_.run(sql, parameters);
}

void Writer::sleep_ms(std::int64_t ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

void Writer::run_until(const std::atomic<bool>& stop) {
    int total = 0;
    for (const WriteKind& kind : kinds()) total += kind.weight;
    while (!stop.load()) {
        std::int64_t at = random_.below(total);
        const WriteKind* chosen = nullptr;
        for (const WriteKind& kind : kinds()) {
            if (options_.mix.empty() ? at < kind.weight : options_.mix == kind.name) {
                chosen = &kind;
                break;
            }
            at -= kind.weight;
        }
        try {
            (this->*chosen->run)();
        } catch (const NotNow&) {
            session_.recover();
            settle_triggers();
        } catch (const SqlError& error) {
            // Serialization, deadlock, lock timeout, cancelled, the server goes or comes, an insert met a
            // key, or there is a column, table or constraint that another writer's DDL has left.
            static const char* const expected[] = {"40001", "40P01", "55P03", "57014", "57P01",
                                                   "57P02", "57P03", "23503", "23505", "42701",
                                                   "42P07", "42710", "25006", ""};
            if (std::find_if(std::begin(expected), std::end(expected),
                             [&](const char* state) { return error.state == state; }) == std::end(expected))
                violations_.add("error " + error.state + " of a writer",
                                std::string(chosen->name) + ": " + error.text);
            tally_.rollbacks++;
            if (!session_.recover() || !other_.recover()) return;
            settle_prepared();
            settle_triggers();
        }
        if (options_.think > 0)
            std::this_thread::sleep_for(std::chrono::microseconds(random_.below(2 * options_.think)));
    }
}

}  // namespace load
