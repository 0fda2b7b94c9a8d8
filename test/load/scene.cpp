#include "scene.hpp"

#include <cstdio>
#include <thread>

namespace load {

void Scene::set_up() {
    c.run("SET client_min_messages = warning");
    c.run("DROP SCHEMA IF EXISTS load CASCADE; DROP EXTENSION IF EXISTS prompt_cache CASCADE");
    c.run(
        "CREATE EXTENSION prompt_cache; CREATE SCHEMA load;"
        "CREATE TABLE load.tenants (id bigint PRIMARY KEY, system_prompt text);"
        "CREATE TABLE load.users (id bigint PRIMARY KEY, tenant_id bigint, system_prompt text);"
        "CREATE TABLE load.messages (body text);"
        "INSERT INTO load.tenants VALUES (1, 'tenant');"
        "INSERT INTO load.users SELECT i, 1, 'first' FROM generate_series(1, 3) i");
    c.run("SELECT prompt_cache.attach('load.users', 'load.tenants')");
    c.run("SELECT prompt_cache.set_application_prompt('application')");
}

std::string Scene::exact(Session& session, const std::string& when, Id user) {
    const Rows rows = session.run(
        std::string("SELECT g.source, g.prompt, ") + kOracle +
            " FROM (SELECT $1::bigint AS id) k CROSS JOIN LATERAL prompt_cache.get_or_build(k.id) g"
            " LEFT JOIN load.users u ON u.id = k.id LEFT JOIN load.tenants t ON t.id = u.tenant_id"
            " LEFT JOIN prompt_cache.application a ON true",
        {std::to_string(user)});
    const auto tail = [&](int column) {
        const std::string text = rows.null(0, column) ? "<null>" : rows.text(0, column);
        return text.size() > 12 ? text.substr(text.size() - 12) : text;
    };
    expect(rows.null(0, 1) == rows.null(0, 2) && rows.text(0, 1) == rows.text(0, 2),
           when + ": \"..." + tail(1) + "\" from " + rows.text(0, 0) + ", not \"..." + tail(2) + "\"");
    return rows.text(0, 0);
}

void Scene::as_built(Session& session, const std::string& when, Id user) {
    expect(session.run("SELECT prompt_cache.prompt($1) = prompt_cache.build($1)", {std::to_string(user)}).flag(0, 0),
           when + ": not what build() gives");
}

void Scene::refused(Session& session, const std::string& sql, const std::string& state) {
    try {
        session.run(sql);
        expect(false, "not refused: " + sql);
    } catch (const SqlError& error) {
        expect(error.state == state, sql + ": " + error.text);
        session.recover();
    }
}

void Scene::wait_until_blocked(Session& blocked) {
    for (int tries = 0; tries < 500; tries++) {
        const Rows rows = c.run("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1",
                                {std::to_string(blocked.pid())});
        if (rows.count() == 1 && rows.flag(0, 0)) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    expect(false, "the scenario itself: nobody waits");
}

}  // namespace load
