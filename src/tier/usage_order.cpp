#include "tier/usage_order.hpp"

#include "pg/as_owner.hpp"
#include "pg/catalog.hpp"
#include "pg/query.hpp"

namespace prompt_cache {

namespace {

Datum text_array(std::span<const std::string_view> texts) {
    auto* values = static_cast<Datum*>(palloc(texts.size() * sizeof(Datum)));
    for (std::size_t i = 0; i < texts.size(); i++) values[i] = PointerGetDatum(make_text(texts[i]));
    return PointerGetDatum(
        construct_array(values, static_cast<int>(texts.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

}  // namespace

void write_usage_order(std::span<const std::string_view> user_keys) {
    static Query write(
        "INSERT INTO prompt_cache.usage_order AS o (rank, user_keys) VALUES ($1, $2)"
        " ON CONFLICT (rank) DO UPDATE SET user_keys = excluded.user_keys"
        " WHERE o.user_keys OPERATOR(pg_catalog.<>) excluded.user_keys",
        {INT4OID, TEXTARRAYOID});
    static Query cut("DELETE FROM prompt_cache.usage_order WHERE rank OPERATOR(pg_catalog.>=) $1", {INT4OID});
    const AsOwnerLocal before = begin_as_owner(owner_of(OwnRelation::kUsageOrder));
    std::int32_t rank = 0;
    for (; !user_keys.empty(); rank++) {
        CHECK_FOR_INTERRUPTS();
        const std::size_t count = std::min(user_keys.size(), kUsersAtRank);
        spi_connect();
        const Datum values[] = {Int32GetDatum(rank), text_array(user_keys.first(count))};
        write.run(values, nullptr, false);
        SPI_finish();
        user_keys = user_keys.subspan(count);
    }
    spi_connect();
    const Datum value = Int32GetDatum(rank);
    cut.run(&value, nullptr, false);
    SPI_finish();
    end_as_owner(before);
}

std::span<const std::string_view> read_usage_order(std::int32_t rank) {
    static Query query(
        "SELECT k.user_key FROM prompt_cache.usage_order o"
        " CROSS JOIN pg_catalog.unnest(o.user_keys) WITH ORDINALITY AS k(user_key, n)"
        " WHERE o.rank OPERATOR(pg_catalog.=) $1 AND k.user_key IS NOT NULL ORDER BY k.n",
        {INT4OID});
    MemoryContext context = CurrentMemoryContext;
    const Datum value = Int32GetDatum(rank);
    const AsOwnerLocal before = begin_as_owner(owner_of(OwnRelation::kUsageOrder));
    spi_connect();
    const std::uint64_t count = query.run(&value, nullptr, true);
    auto* keys = static_cast<std::string_view*>(
        MemoryContextAlloc(context, std::max<std::uint64_t>(count, 1) * sizeof(std::string_view)));
    for (std::uint64_t i = 0; i < count; i++) keys[i] = copy_into(context, *result_text(i, 1));
    SPI_finish();
    end_as_owner(before);
    return {keys, count};
}

}  // namespace prompt_cache
