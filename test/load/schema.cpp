#include "schema.hpp"

namespace load {

std::string user_text(const Options& options, Id key, Id version) {
    const Id base = key >= kUserOffset ? key - kUserOffset : key;
    const std::size_t size = options.large && base % 4 == 3 ? 130000 : static_cast<std::size_t>(base % 7) * 60;
    return "(u:" + std::to_string(key) + ":v" + std::to_string(version) + ")" +
           std::string(size, static_cast<char>('a' + version % 26));
}

std::string tenant_text(Id key, Id version) {
    return "(t:" + std::to_string(key) + ":v" + std::to_string(version) + ")" +
           std::string(static_cast<std::size_t>(key % 5) * 100, static_cast<char>('a' + version % 26));
}

std::string application_text(Id version) {
    return "(a:0:v" + std::to_string(version) + ")";
}

const char* const kOracle = R"(CASE WHEN u.id IS NOT NULL THEN coalesce(a.prompt, '')
    || CASE WHEN t.system_prompt <> '' THEN CASE WHEN a.prompt <> '' THEN E'\n\n' ELSE '' END
                                            || E'--- Tenant Guidelines ---\n' || t.system_prompt ELSE '' END
    || CASE WHEN u.system_prompt <> '' THEN CASE WHEN a.prompt <> '' OR t.system_prompt <> '' THEN E'\n\n' ELSE '' END
                                            || E'--- User Preferences ---\n' || u.system_prompt ELSE '' END END)";

void create_schema(const Options& options, Session& session, History& history) {
    session.run("SET client_min_messages = warning");
    session.run("DROP SCHEMA IF EXISTS load CASCADE; DROP EXTENSION IF EXISTS prompt_cache CASCADE");
    session.run("CREATE EXTENSION prompt_cache; CREATE SCHEMA load; CREATE SEQUENCE load.version START 10");
    session.run(
        "CREATE TABLE load.tenants (id bigint PRIMARY KEY, system_prompt text, note text);"
        "CREATE TABLE load.messages (id bigserial PRIMARY KEY, user_id bigint, body text)");
    const std::string columns =
        "(id bigint PRIMARY KEY, tenant_id bigint REFERENCES load.tenants ON UPDATE CASCADE ON DELETE "
        "CASCADE, "
        "system_prompt text, last_login timestamptz)";
    if (options.partitioned)
        session.run(
            "CREATE TABLE load.users " + columns +
            " PARTITION BY RANGE (id);"
            "CREATE TABLE load.users_low PARTITION OF load.users FOR VALUES FROM (0) TO (10000);"
            "CREATE TABLE load.users_high PARTITION OF load.users FOR VALUES FROM (10000) TO (20000)");
    else
        session.run("CREATE TABLE load.users " + columns + " WITH (fillfactor = 80)");
    session.run(
        "CREATE INDEX ON load.users (tenant_id); ALTER TABLE load.users ALTER system_prompt SET STORAGE "
        "EXTERNAL");

    std::vector<State> states;
    session.run("BEGIN");
    for (Id key = 1; key <= kTenants; key++) {
        session.run("INSERT INTO load.tenants VALUES ($1, $2)", {std::to_string(key), tenant_text(key, 1)});
        states.push_back({Kind::kTenant, key, 1, true});
        states.push_back({Kind::kTenant, key + kTenantOffset, 1, false});
    }
    for (Id key = 1; key <= kUsers; key++) {
        session.run("INSERT INTO load.users VALUES ($1, $2, $3)",
                    {std::to_string(key), std::to_string(1 + key % kTenants), user_text(options, key, 1)});
        states.push_back({Kind::kUser, key, 1, true});
        states.push_back({Kind::kUser, key + kUserOffset, 1, false});
    }
    for (Id key = kCascadeUser; key < kCascadeUser + 2 * kCascades; key++)
        states.push_back({Kind::kUser, key, 1, false});
    for (Id key = kCascadeTenant; key < kCascadeTenant + kCascades; key++)
        states.push_back({Kind::kTenant, key, 1, false});
    session.run("SELECT prompt_cache.set_application_prompt($1)", {application_text(1)});
    session.run("COMMIT");
    states.push_back({Kind::kApplication, 0, 1, true});
    history.committed(states, 0, 1);

    session.run("SELECT prompt_cache.attach('load.users', 'load.tenants')");
    session.run(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'load_reader') THEN CREATE ROLE "
        "load_reader; "
        "END IF; END $$");
    session.run(
        "GRANT USAGE ON SCHEMA load TO load_reader; GRANT SELECT ON ALL TABLES IN SCHEMA load TO load_reader;"
        "SELECT prompt_cache.allow('load_reader'); GRANT SELECT ON prompt_cache.application TO load_reader;"
        "GRANT EXECUTE ON FUNCTION prompt_cache.build(bigint) TO load_reader");
    session.run("VACUUM ANALYZE");
}

}  // namespace load
