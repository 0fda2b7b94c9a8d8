// The kinds of writes that come often.
#include "writer.hpp"

namespace load {

const std::vector<WriteKind>& Writer::kinds() {
    static const std::vector<WriteKind> all = {
        {"user", 200, &Writer::user},
        {"tenant", 40, &Writer::tenant},
        {"both", 300, &Writer::both},
        {"application", 8, &Writer::application},
        {"unrelated", 100, &Writer::unrelated},
        {"savepoint", 40, &Writer::savepoint},
        {"subtransactions", 5, &Writer::subtransactions},
        {"prepared", 30, &Writer::prepared},
        {"truncate", 1, &Writer::truncate},
        {"copy", 10, &Writer::copy},
        {"merge", 30, &Writer::merge},
        {"upsert", 30, &Writer::upsert},
        {"cascade_update", 15, &Writer::cascade_update},
        {"cascade_delete", 20, &Writer::cascade_delete},
        {"move", 40, &Writer::move},
        {"swap", 40, &Writer::swap},
        {"rename", 40, &Writer::rename},
        {"reinsert", 30, &Writer::reinsert},
        {"empty_layer", 10, &Writer::empty_layer},
        {"replica", 20, &Writer::replica},
        {"vacuum", 3, &Writer::vacuum},
        {"ddl", 1, &Writer::ddl},
        {"long_writer", 3, &Writer::long_writer},
        {"triggers_off", 1, &Writer::triggers_off},
        {"cache_calls", 12, &Writer::cache_calls},
        {"cancel", 5, &Writer::cancel},
        {"in_one_statement", 20, &Writer::in_one_statement},
        {"partition_ddl", 1, &Writer::partition_ddl},
        {"attach", 1, &Writer::attach},
    };
    return all;
}

void Writer::user() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    write_user(present_user(base));
    finish();
}

void Writer::tenant() {
    const Id base = a_tenant();
    begin();
    lock({}, {base});
    write_tenant(present_tenant(base));
    finish();
}

// A user and its tenant with one version: a prompt that shows one of the two without the other is torn apart.
void Writer::both() {
    const Id base = a_user();
    Id tenant = 0;
    present_user(base, &tenant);
    const Id tenant_base = tenant >= kTenantOffset ? tenant - kTenantOffset : tenant;
    begin();
    lock({base}, {tenant_base});
    const Id key = present_user(base, &tenant);
    if (tenant != tenant_base && tenant != tenant_base + kTenantOffset) throw NotNow();
    if (random_.percent(50)) {
        write_user(key);
        write_tenant(tenant);
    } else {
        write_tenant(tenant);
        if (random_.percent(20)) sleep_ms(random_.below(4));
        write_user(key);
    }
    finish();
}

void Writer::application() {
    begin();
    lock({}, {}, true);
    execute("SELECT prompt_cache.set_application_prompt('(a:0:v" + str(version_) + ")')");
    note(Kind::kApplication, 0);
    if (random_.percent(60))
        prepare_and_end();  // meanwhile every hit is on an entry that was marked since
    else
        finish();
}

void Writer::unrelated() {
    begin();
    execute("UPDATE load.users SET last_login = now() WHERE id = $1", {str(a_user())});
    execute("INSERT INTO load.messages (user_id, body) VALUES ($1, 'hello')", {str(a_user())});
    finish();
}

void Writer::savepoint() {
    const Id one = a_user(), two = a_user();
    if (one == two) return;
    begin();
    lock({one, two}, {});
    const Id first = present_user(one), second = present_user(two);
    execute("SAVEPOINT a");
    if (!changes_one("UPDATE load.users SET system_prompt = 'rolled back' WHERE id = $1", {str(second)}))
        throw NotNow();
    if (random_.percent(30)) {
        // What was undone must not be seen again, and nothing of it may be in the cache.
        const Rows before = session_.run("SELECT prompt FROM prompt_cache.get_or_build($1)", {str(second)});
        if (before.text(0, 0).find("rolled back") == std::string::npos)
            violations_.add("own change not seen", str(second) + " before ROLLBACK TO");
    }
    execute("ROLLBACK TO a");
    if (random_.percent(50)) {
        const Rows after = session_.run("SELECT prompt FROM prompt_cache.get_or_build($1)", {str(second)});
        if (after.text(0, 0).find("rolled back") != std::string::npos)
            violations_.add("a change that was rolled back", str(second) + " after ROLLBACK TO");
    }
    write_user(first);
    finish();
}

// More than the 64 that a snapshot lists.
void Writer::subtransactions() {
    const Id first = 1 + random_.below(kUsers - 80);
    std::vector<Id> bases;
    for (Id i = 0; i < 72; i++) bases.push_back(first + i);
    begin();
    lock(bases, {});
    for (const Id base : bases) {
        execute("SAVEPOINT a");
        const std::size_t before = states_.size();
        bool written = true;
        try {
            write_user(present_user(base));
        } catch (const NotNow&) {
            written = false;
        }
        if (random_.percent(50)) {
            execute("ROLLBACK TO a");
            states_.resize(before);
        } else if (written && random_.percent(50)) {
            execute("RELEASE a");
        }
    }
    finish();
}

void Writer::prepared() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    write_user(present_user(base));
    prepare_and_end();
    read_back(false);
}

void Writer::merge() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    const Id key = present_user(base);
    execute(
        "MERGE INTO load.users u USING (VALUES ($1::bigint, $2)) AS v (id, text) ON u.id = v.id "
        "WHEN MATCHED THEN UPDATE SET system_prompt = v.text WHEN NOT MATCHED THEN INSERT VALUES (v.id, 1, "
        "v.text)",
        {str(key), user_text(options_, key, version_)});
    note(Kind::kUser, key);
    finish();
}

void Writer::upsert() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    const Id key = present_user(base);
    execute(
        "INSERT INTO load.users (id, tenant_id, system_prompt) VALUES ($1, NULL, $2) "
        "ON CONFLICT (id) DO UPDATE SET system_prompt = excluded.system_prompt",
        {str(key), user_text(options_, key, version_)});
    note(Kind::kUser, key);
    finish();
}

void Writer::move() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    const Id key = present_user(base), tenant = present_tenant(a_tenant());
    if (random_.percent(50)) {
        execute("UPDATE load.users SET tenant_id = $2 WHERE id = $1", {str(key), str(tenant)});
    } else {
        execute("UPDATE load.users SET tenant_id = $2, system_prompt = $3 WHERE id = $1",
                {str(key), str(tenant), user_text(options_, key, version_)});
        note(Kind::kUser, key);
    }
    finish();
}

// The tails of two prompts change places; both get the new version.
void Writer::swap() {
    const Id one = a_user(), two = a_user();
    if (one == two) return;
    begin();
    lock({one, two}, {});
    const Id a = present_user(one), b = present_user(two);
    const auto head = [&](Id key) { return "(u:" + str(key) + ":v" + str(version_) + ")"; };
    execute(
        "UPDATE load.users u SET system_prompt = CASE u.id WHEN $1 THEN $3 ELSE $4 END "
        "|| substr(o.system_prompt, strpos(o.system_prompt, ')') + 1) "
        "FROM load.users o WHERE (u.id, o.id) IN (($1::bigint, $2::bigint), ($2::bigint, $1::bigint))",
        {str(a), str(b), head(a), head(b)});
    note(Kind::kUser, a);
    note(Kind::kUser, b);
    finish();
}

// To the other of its two keys, which lies in another partition where there are any.
void Writer::rename() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    const Id from = present_user(base);
    const Id to = from == base ? base + kUserOffset : base;
    execute("UPDATE load.users SET id = $2, system_prompt = $3 WHERE id = $1",
            {str(from), str(to), user_text(options_, to, version_)});
    note(Kind::kUser, from, false);
    note(Kind::kUser, to);
    finish();
}

void Writer::reinsert() {
    const Id base = a_user();
    begin();
    lock({base}, {});
    Id tenant = 0;
    const Id key = present_user(base, &tenant);
    execute("DELETE FROM load.users WHERE id = $1", {str(key)});
    if (random_.percent(50)) {
        // In two transactions: for a while there is no such user.
        note(Kind::kUser, key, false);
        commit();
        read_back(false);
        begin();
        lock({base}, {});
        may_roll_back_ = false;
        states_.clear();
    }
    execute("INSERT INTO load.users (id, tenant_id, system_prompt) VALUES ($1, $2, $3)",
            {str(key), str(present_tenant(a_tenant())), user_text(options_, key, version_)});
    note(Kind::kUser, key);
    finish();
}

}  // namespace load
