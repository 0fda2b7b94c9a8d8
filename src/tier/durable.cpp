#include "tier/durable.hpp"

#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/query.hpp"
#include "pg/settings.hpp"

namespace prompt_cache {

namespace {

enum Column { kId = 1, kPrompt, kTenantKey, kLengths, kStampColumn = kLengths + core::kLayers };

Oid table_owner() {
    return owner_of(OwnRelation::kUserPromptCache);
}

Datum stamps_datum(const std::array<Stamp, kStamps>& stamps) {
    Datum numbers[2 * kStamps];
    for (unsigned i = 0; i < kStamps; i++) {
        numbers[2 * i] = Int64GetDatum(stamps[i].weight);
        numbers[2 * i + 1] = Int64GetDatum(stamps[i].nonces);
    }
    return PointerGetDatum(
        construct_array(numbers, 2 * kStamps, INT8OID, sizeof(std::int64_t), true, TYPALIGN_DOUBLE));
}

bool parse_stamps(Datum array, std::array<Stamp, kStamps>& stamps) {
    Datum* numbers = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(array), INT8OID, sizeof(std::int64_t), true, TYPALIGN_DOUBLE,
                      &numbers, &nulls, &count);
    if (count != static_cast<int>(2 * kStamps)) return false;
    for (unsigned i = 0; i < kStamps; i++)
        stamps[i] = {nulls[2 * i] ? 0 : DatumGetInt64(numbers[2 * i]),
                     nulls[2 * i + 1] ? 0 : DatumGetInt64(numbers[2 * i + 1])};
    return true;
}

// Inside SPI; what it returns lies in `context`.
std::optional<DurableRow> newest(std::string_view user_key, MemoryContext context, bool read_only) {
    static Query query(
        "SELECT id, cached_prompt, tenant_key, application_length, tenant_length, user_length, stamps"
        " FROM prompt_cache.user_prompt_cache WHERE user_key OPERATOR(pg_catalog.=) $1 ORDER BY id DESC "
        "LIMIT 1",
        {TEXTOID});
    const Datum key = PointerGetDatum(make_text(user_key));
    if (query.run(&key, nullptr, read_only, 1) != 1) return std::nullopt;
    DurableRow row;
    row.id = DatumGetInt64(*result_datum(0, kId));
    row.prompt = copy_into(context, *result_text(0, kPrompt));
    if (const auto tenant = result_text(0, kTenantKey)) row.tenant_key = copy_into(context, *tenant);
    for (int layer = 0; layer < static_cast<int>(core::kLayers); layer++) {
        const std::int32_t length = DatumGetInt32(*result_datum(0, kLengths + layer));
        if (length < 0 || static_cast<std::size_t>(length) > row.prompt.size()) return std::nullopt;
        row.lengths[static_cast<std::size_t>(layer)] = static_cast<std::size_t>(length);
    }
    // A row that somebody wrote by hand may have anything in it; what does not add up is not used.
    if (core::Composition(row.lengths).size() != row.prompt.size() ||
        !parse_stamps(*result_datum(0, kStampColumn), row.stamps))
        return std::nullopt;
    return row;
}

void insert_row(std::string_view user_key, const DurableRow& row, std::int64_t replaced) {
    static Query replace(
        "UPDATE prompt_cache.user_prompt_cache SET replaced_at = pg_catalog.now()"
        " WHERE id OPERATOR(pg_catalog.=) $1 AND replaced_at IS NULL",
        {INT8OID});
    static Query insert(
        "INSERT INTO prompt_cache.user_prompt_cache"
        " (user_key, cached_prompt, tenant_key, application_length, tenant_length, user_length, stamps)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        {TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, INT4OID, INT8ARRAYOID});
    if (replaced != 0) {
        const Datum id = Int64GetDatum(replaced);
        replace.run(&id, nullptr, false);
    }
    const Datum values[] = {PointerGetDatum(make_text(user_key)),
                            PointerGetDatum(make_text(row.prompt)),
                            PointerGetDatum(make_text(row.tenant_key.value_or(""))),
                            Int32GetDatum(static_cast<std::int32_t>(row.lengths[core::kApplicationLayer])),
                            Int32GetDatum(static_cast<std::int32_t>(row.lengths[core::kTenantLayer])),
                            Int32GetDatum(static_cast<std::int32_t>(row.lengths[core::kUserLayer])),
                            stamps_datum(row.stamps)};
    const char nulls[] = {' ', ' ', row.tenant_key ? ' ' : 'n', ' ', ' ', ' ', ' '};
    insert.run(values, nulls, false);
}

// The rows beyond the setting history, the oldest ones.
void prune_user(std::string_view user_key) {
    static Query query(
        "DELETE FROM prompt_cache.user_prompt_cache WHERE user_key OPERATOR(pg_catalog.=) $1 AND id "
        "OPERATOR(pg_catalog.<)"
        " (SELECT pg_catalog.min(k.id) FROM (SELECT id FROM prompt_cache.user_prompt_cache"
        " WHERE user_key OPERATOR(pg_catalog.=) $1 ORDER BY id DESC LIMIT $2) AS k)",
        {TEXTOID, INT4OID});
    const Datum values[] = {PointerGetDatum(make_text(user_key)), Int32GetDatum(settings::history)};
    query.run(values, nullptr, false);
}

void update_stamps(std::int64_t id, const DurableRow& row) {
    static Query update(
        "UPDATE prompt_cache.user_prompt_cache SET stamps = $2 WHERE id OPERATOR(pg_catalog.=) $1",
        {INT8OID, INT8ARRAYOID});
    const Datum values[] = {Int64GetDatum(id), stamps_datum(row.stamps)};
    update.run(values, nullptr, false);
}

bool same_prompt(const DurableRow& a, const DurableRow& b) {
    return a.prompt == b.prompt && a.tenant_key == b.tenant_key && a.lengths == b.lengths;
}

}  // namespace

std::optional<DurableRow> read_newest_row(std::string_view user_key) {
    if (!OidIsValid(own_relation(OwnRelation::kUserPromptCache))) return std::nullopt;  // renamed: no tier
    MemoryContext context = CurrentMemoryContext;
    const AsOwnerLocal before = begin_as_owner(table_owner());
    spi_connect();
    const std::optional<DurableRow> row = newest(user_key, context, true);
    SPI_finish();
    end_as_owner(before);
    return row;
}

void lock_saving() {
    lock_extension();
    // The fourth field of advisory locks that SQL can take is 1 or 2: nobody can hold this one against us.
    constexpr std::uint16_t kOurs = 3;
    LOCKTAG lock;
    SET_LOCKTAG_ADVISORY(lock, MyDatabaseId, 0, 0, kOurs);
    LockAcquire(&lock, ExclusiveLock, false, false);
}

std::span<const SavedKey> newest_keys(std::int64_t before, std::uint32_t most) {
    static Query query(
        "SELECT id, user_key FROM prompt_cache.user_prompt_cache WHERE replaced_at IS NULL"
        " AND id OPERATOR(pg_catalog.<) $1 ORDER BY id DESC LIMIT $2",
        {INT8OID, INT4OID});
    MemoryContext context = CurrentMemoryContext;
    auto* keys = static_cast<SavedKey*>(palloc(most * sizeof(SavedKey)));
    const Datum values[] = {Int64GetDatum(before), Int32GetDatum(static_cast<std::int32_t>(most))};
    const AsOwnerLocal saved = begin_as_owner(table_owner());
    spi_connect();
    const std::uint64_t count = query.run(values, nullptr, true);
    for (std::uint64_t i = 0; i < count; i++)
        keys[i] = {DatumGetInt64(*result_datum(i, 1)), copy_into(context, *result_text(i, 2))};
    SPI_finish();
    end_as_owner(saved);
    return {keys, count};
}

std::span<const std::string_view> random_keys(std::uint32_t most) {
    static Query query(
        "SELECT k.user_key FROM (SELECT DISTINCT user_key FROM prompt_cache.user_prompt_cache) AS k"
        " ORDER BY pg_catalog.random() LIMIT $1",
        {INT4OID});
    MemoryContext context = CurrentMemoryContext;
    auto* keys = static_cast<std::string_view*>(palloc(most * sizeof(std::string_view)));
    const Datum value = Int32GetDatum(static_cast<std::int32_t>(most));
    const AsOwnerLocal before = begin_as_owner(table_owner());
    spi_connect();
    const std::uint64_t count = query.run(&value, nullptr, true, most);
    for (std::uint64_t i = 0; i < count; i++) keys[i] = copy_into(context, *result_text(i, 1));
    SPI_finish();
    end_as_owner(before);
    return {keys, count};
}

std::int64_t delete_rows(std::string_view user_key) {
    static Query query("DELETE FROM prompt_cache.user_prompt_cache WHERE user_key OPERATOR(pg_catalog.=) $1",
                       {TEXTOID});
    const Datum key = PointerGetDatum(make_text(user_key));
    const AsOwnerLocal before = begin_as_owner(table_owner());
    spi_connect();
    const auto deleted = static_cast<std::int64_t>(query.run(&key, nullptr, false));
    SPI_finish();
    end_as_owner(before);
    return deleted;
}

bool write_row(std::string_view user_key, const DurableRow& row) {
    bool changed = true;
    const AsOwnerLocal before = begin_as_owner(table_owner());
    spi_connect();
    const std::optional<DurableRow> old = newest(user_key, CurrentMemoryContext, false);
    if (!old || !same_prompt(*old, row)) {
        insert_row(user_key, row, old ? old->id : 0);
        prune_user(user_key);
    } else if (old->stamps != row.stamps)
        update_stamps(old->id, row);
    else
        changed = false;
    SPI_finish();
    end_as_owner(before);
    return changed;
}

}  // namespace prompt_cache
