// The kinds of writes that touch much, that are DDL, or that meddle with the server.
#include "writer.hpp"

namespace load {

// Everything anew in one transaction: readers see all of the old or all of the new.
void Writer::truncate() {
    begin();
    execute("SET LOCAL lock_timeout = '100ms'");
    lock_all();
    execute("LOCK TABLE load.users, load.tenants IN ACCESS EXCLUSIVE MODE");
    const bool tenants_too = random_.percent(50);
    const Rows users = session_.run("SELECT id, tenant_id FROM load.users");
    const Rows tenants = session_.run("SELECT id FROM load.tenants");
    execute(tenants_too ? "TRUNCATE load.tenants, load.users" : "TRUNCATE load.users");
    std::string lines;
    for (int i = 0; tenants_too && i < tenants.count(); i++) {
        lines += tenants.text(i, 0) + "\t" + tenant_text(tenants.number(i, 0), version_) + "\n";
        note(Kind::kTenant, tenants.number(i, 0));
    }
    if (tenants_too) session_.copy_in("COPY load.tenants (id, system_prompt) FROM STDIN", lines);
    lines.clear();
    for (int i = 0; i < users.count(); i++) {
        const Id key = users.number(i, 0);
        lines += str(key) + "\t" + (users.null(i, 1) ? "\\N" : users.text(i, 1)) + "\t" +
                 user_text(options_, key, version_) + "\n";
        note(Kind::kUser, key);
    }
    session_.copy_in("COPY load.users (id, tenant_id, system_prompt) FROM STDIN", lines);
    finish();
}

void Writer::copy() {
    std::vector<Id> bases;
    const Id first = 1 + random_.below(kUsers - 10);
    for (Id i = 0; i < 5; i++) bases.push_back(first + i);
    begin();
    lock(bases, {});
    const Id tenant = present_tenant(a_tenant());
    std::vector<Id> keys;
    for (const Id base : bases) keys.push_back(present_user(base));
    execute("DELETE FROM load.users WHERE id = ANY ($1::bigint[])", {array_of(keys)});
    std::string lines;
    for (const Id key : keys) {
        lines += str(key) + "\t" + str(tenant) + "\t" + user_text(options_, key, version_) + "\n";
        note(Kind::kUser, key);
    }
    session_.copy_in("COPY load.users (id, tenant_id, system_prompt) FROM STDIN", lines);
    finish();
}

// A tenant gets its other key, and its users follow by ON UPDATE CASCADE.
void Writer::cascade_update() {
    const Id base = a_tenant();
    begin();
    lock({}, {base});
    const Id from = present_tenant(base);
    const Id to = from == base ? base + kTenantOffset : base;
    execute("UPDATE load.tenants SET id = $2, system_prompt = $3 WHERE id = $1",
            {str(from), str(to), tenant_text(to, version_)});
    note(Kind::kTenant, from, false);
    note(Kind::kTenant, to);
    finish();
}

// Tenants of their own with two users each, there and gone by ON DELETE CASCADE.
void Writer::cascade_delete() {
    const Id i = random_.below(kCascades);
    const Id tenant = kCascadeTenant + i, one = kCascadeUser + 2 * i, two = one + 1;
    begin();
    lock({one, two}, {tenant});
    const bool there = session_.run("SELECT FROM load.tenants WHERE id = $1", {str(tenant)}).count() > 0;
    if (there) {
        execute("DELETE FROM load.tenants WHERE id = $1", {str(tenant)});
    } else {
        execute("INSERT INTO load.tenants (id, system_prompt) VALUES ($1, $2)",
                {str(tenant), tenant_text(tenant, version_)});
        for (const Id key : {one, two})
            execute("INSERT INTO load.users (id, tenant_id, system_prompt) VALUES ($1, $2, $3)",
                    {str(key), str(tenant), user_text(options_, key, version_)});
    }
    note(Kind::kTenant, tenant, !there);
    note(Kind::kUser, one, !there);
    note(Kind::kUser, two, !there);
    finish();
}

// A tenant without a text: its layer leaves no trace, and comes back with the next write.
void Writer::empty_layer() {
    const Id base = a_tenant();
    begin();
    lock({}, {base});
    execute("UPDATE load.tenants SET system_prompt = $2 WHERE id = $1", {str(present_tenant(base)), ""});
    finish();
}

void Writer::replica() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    execute("SET LOCAL session_replication_role = replica");
    write_user(present_user(base));
    finish();
}

void Writer::vacuum() {
    static const char* const commands[] = {"VACUUM load.users, load.tenants", "ANALYZE load.users",
                                           "VACUUM ANALYZE load.users", "VACUUM (FREEZE) load.tenants",
                                           "VACUUM prompt_cache.tag_nonce"};
    execute(commands[random_.below(5)]);
}

void Writer::ddl() {
    const Id base = a_user();
    begin();
    execute("SET LOCAL lock_timeout = '100ms'");
    lock({base}, {});
    switch (random_.below(4)) {
        case 0:
            execute("ALTER TABLE load.users ADD COLUMN extra integer DEFAULT 7");
            break;
        case 1:
            execute("CREATE INDEX load_extra ON load.users (last_login)");
            break;
        case 2:
            execute("ALTER TABLE load.tenants ALTER note SET STATISTICS " + str(random_.below(100)));
            break;
        default:
            execute("ALTER TABLE load.tenants ADD CHECK (id > 0)");
            break;
    }
    write_user(present_user(base));
    finish();
    session_.run("SET lock_timeout = '1s'");
    execute(
        "ALTER TABLE load.users DROP COLUMN IF EXISTS extra; DROP INDEX IF EXISTS load.load_extra;"
        "ALTER TABLE load.tenants DROP CONSTRAINT IF EXISTS tenants_id_check");
    session_.run("RESET lock_timeout");
}

// Holds the xmin of every snapshot back for a while.
void Writer::long_writer() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    const Id key = present_user(base);
    write_user(key);
    sleep_ms(50 + random_.below(300));
    finish();
}

// A write that no trigger sees, in one transaction with the DDL and after it.
void Writer::triggers_off() {
    const Id base = a_user();
    begin();
    execute("SET LOCAL lock_timeout = '100ms'");
    lock({base}, {});
    const Id key = present_user(base);
    execute("ALTER TABLE load.users DISABLE TRIGGER ALL");
    write_user(key);
    read_back(true);
    if (random_.percent(50)) {
        triggers_off_ = true;
        commit();
        read_back(false);
        begin();
        lock({base}, {});
        write_user(present_user(base));
        commit();
        begin();
    }
    execute("ALTER TABLE load.users ENABLE TRIGGER ALL");
    execute("SELECT prompt_cache._repair_triggers()");
    may_roll_back_ = false;
    commit();
    triggers_off_ = false;
}

void Writer::cache_calls() {
    execute("RESET prompt_cache.memory");
    switch (random_.below(12)) {
        case 0:
            execute("SELECT prompt_cache.clear()");
            break;
        case 1:
            execute("SELECT prompt_cache.invalidate_user($1)", {str(a_user())});
            break;
        case 2:
            execute("SELECT prompt_cache.invalidate_tenant($1)", {str(a_tenant())});
            break;
        case 3:
            execute("SELECT prompt_cache.warm(max_users => 50)");
            break;
        case 4: {
            // Locked as the readers do: verify() compares under one snapshot, which TRUNCATE does not
            // respect.
            session_.run("BEGIN; LOCK TABLE load.users, load.tenants IN ACCESS SHARE MODE");
            const Rows rows = session_.run("SELECT * FROM prompt_cache.verify(200)");
            for (int i = 0; i < rows.count(); i++)
                violations_.add("verify()", rows.text(i, 1) + " in " + rows.text(i, 2));
            session_.run("COMMIT");
            break;
        }
        default:
            execute("SELECT prompt_cache.flush()");
    }
}

void Writer::cancel() {
    execute(std::string("SELECT pg_") + (random_.percent(80) ? "cancel" : "terminate") +
            "_backend(pid) FROM pg_stat_activity WHERE application_name = 'load reader' ORDER BY random() "
            "LIMIT 1");
}

// Lookups from inside of the statement that writes, when its own triggers have not all fired.
void Writer::in_one_statement() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    const Id key = present_user(base);
    const Rows rows = session_.run(
        "WITH w AS (UPDATE load.users SET system_prompt = $2 WHERE id = $1 RETURNING id) "
        "SELECT (SELECT prompt FROM prompt_cache.get_or_build($1)) IS NOT DISTINCT FROM "
        "prompt_cache.build($1), "
        "(SELECT count(*) FROM w)",
        {str(key), user_text(options_, key, version_)});
    if (!rows.flag(0, 0)) violations_.add("own statement in flight: not the oracle's answer", str(key));
    note(Kind::kUser, key);
    finish();
}

void Writer::partition_ddl() {
    if (!options_.partitioned) return;
    begin();
    execute("SET LOCAL lock_timeout = '100ms'");
    lock_all();
    execute("ALTER TABLE load.users DETACH PARTITION load.users_high");
    execute("ALTER TABLE load.users ATTACH PARTITION load.users_high FOR VALUES FROM (10000) TO (20000)");
    finish();
}

void Writer::attach() {
    begin();
    execute("SET LOCAL lock_timeout = '100ms'");
    execute("SELECT prompt_cache.attach('load.users', 'load.tenants')");
    finish();
}

}  // namespace load
