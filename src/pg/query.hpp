// A query of our own that is prepared once a backend and run many times, under the snapshot that is active.
//
//     static Query newest("SELECT ... WHERE user_key OPERATOR(pg_catalog.=) $1", {TEXTOID});
//     ...
//     spi_connect(); newest.run(values, nulls, true); ... SPI_finish();
//
// Queries name everything with its schema, operators too: the caller's search_path is in force.
#pragma once

#include "pg/postgres.hpp"

namespace prompt_cache {

inline void spi_connect() {
    if (SPI_connect() != SPI_OK_CONNECT) elog(ERROR, "prompt_cache: SPI_connect failed");
}

class Query {
  public:
    static constexpr int kMaxArguments = 12;

    constexpr explicit Query(const char* sql, std::initializer_list<Oid> types = {}) : text_(sql) {
        for (const Oid type : types) types_[count_++] = type;
    }

    // Inside SPI. Read-only queries see exactly the active snapshot.
    std::uint64_t run(const Datum* values, const char* nulls, bool read_only, long limit = 0) {
        if (!plan_) {
            SPIPlanPtr plan = SPI_prepare(text_, count_, types_);
            if (!plan || SPI_keepplan(plan) != 0)
                elog(ERROR, "prompt_cache: cannot prepare: %s", SPI_result_code_string(SPI_result));
            plan_ = plan;
        }
        const int result = SPI_execute_plan(plan_, const_cast<Datum*>(values), nulls, read_only, limit);
        if (result < 0) elog(ERROR, "prompt_cache: query failed: %s", SPI_result_code_string(result));
        return SPI_processed;
    }

  private:
    const char* text_;
    int count_ = 0;
    Oid types_[kMaxArguments] = {};
    SPIPlanPtr plan_ = nullptr;
};

// A column of a row of the last result; NULL gives nothing. Points into the SPI context: copy what must
// outlive it.
inline std::optional<Datum> result_datum(std::uint64_t row, int column) {
    bool isnull = false;
    const Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
    if (isnull) return std::nullopt;
    return value;
}

inline std::optional<std::string_view> result_text(std::uint64_t row, int column) {
    const std::optional<Datum> value = result_datum(row, column);
    if (!value) return std::nullopt;
    return view_of(DatumGetTextPP(*value));
}

// Copies bytes into `context`.
inline std::string_view copy_into(MemoryContext context, std::string_view bytes) {
    char* to = static_cast<char*>(MemoryContextAllocHuge(context, bytes.size() + 1));
    std::copy(bytes.begin(), bytes.end(), to);
    to[bytes.size()] = '\0';
    return {to, bytes.size()};
}

}  // namespace prompt_cache
