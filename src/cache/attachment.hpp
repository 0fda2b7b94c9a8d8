// How the chat schema is wired: read from the table `attachment` and the catalogs under the caller's
// snapshot, and remembered as long as nothing in this database was marked `*` (DDL on a source, attach,
// detach).
//
// It is an entry like any other, judged by the slot of `*`: a backend keeps one copy of its own, and shared
// memory keeps one that saves a new connection the catalog queries. Part of it is whether all our triggers
// stand on every source, partitions included, ENABLE ALWAYS. Without them a change could go unnoticed, so
// nothing is stored then.
#pragma once

#include "cache/judge.hpp"
#include "core/composition.hpp"
#include "pg/expression_objects.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

enum class KeyType : std::uint32_t { kNone, kInteger, kUuid, kText };

// One a layer, and whether a user exists.
inline constexpr unsigned kExistence = core::kLayers;
inline constexpr unsigned kBuilderQueries = core::kLayers + 1;

// Flat, so that it can be a value in shared memory; followed by the texts, the source relations
// and the catalog objects.
struct AttachmentHeader {
    std::uint64_t storage;
    KeyType user_key;
    KeyType tenant_key;
    Oid owner[core::kLayers];
    Oid table[kBuilderQueries];
    std::uint32_t query_length[kBuilderQueries];
    std::uint32_t condition_length[kBuilderQueries];
    std::uint32_t problem_length;
    std::uint32_t source_count;
    std::uint32_t object_count;
    std::uint32_t version_numbers;  // two a catalog row
    bool sound;                     // every trigger stands
    bool durable;                   // no source is unlogged
    bool attached;
    bool spare;
};

class Attachment {
  public:
    bool attached() const { return header_.attached; }
    bool sound() const { return header_.sound; }
    bool durable() const { return header_.durable; }
    KeyType user_key() const { return header_.user_key; }
    KeyType tenant_key() const { return header_.tenant_key; }
    Oid owner(unsigned layer) const { return header_.owner[layer]; }
    // A builder's query is query, name of the table, condition; query is empty where the layer does not exist. Tables
    // are named when they are locked, since names change.
    const char* query(unsigned number) const { return query_[number]; }
    const char* condition(unsigned number) const { return condition_[number]; }
    Oid table(unsigned number) const { return header_.table[number]; }
    // The sources' schemas, and what expressions consist of: what messages about their DDL carry.
    std::span<const std::uint32_t> objects() const { return {objects_, header_.object_count}; }
    // Changes with the files of the sources' partitions. Belongs to what a row of tier 3 carries for `*`.
    std::uint64_t storage() const { return header_.storage; }
    // What of these expressions take from catalogs.
    std::span<const CatalogRow> rows() const { return {rows_, header_.version_numbers / 2}; }
    std::span<const Oid> sources() const { return {sources_, header_.source_count}; }

    // On `*`; nothing if this holds for one lookup only.
    std::optional<Dependency> dependency;

    // Counts how often the wiring has changed in this backend: prepared plans belong to one value of it.
    std::uint64_t version = 0;

    bool usable() const { return attached() && problem_[0] == '\0'; }

    // ERROR with a hint where nothing is attached, or where it no longer fits the tables.
    void require_usable() const;

    void adopt(std::string_view flat);  // parses and keeps a copy
    std::string_view flat() const { return flat_; }

  private:
    MemoryContext context_ = nullptr;
    AttachmentHeader header_{};
    std::string_view flat_;
    const char* query_[kBuilderQueries] = {"", "", "", ""};
    const char* condition_[kBuilderQueries] = {"", "", "", ""};
    const char* problem_ = "";
    const Oid* sources_ = nullptr;
    const std::uint32_t* objects_ = nullptr;
    const CatalogRow* rows_ = nullptr;
};

// The wiring under the judge's snapshot, which is the active one; read anew where it may not judge. The
// reference holds until the next call.
const Attachment& attachment_under(const Judge& judge);

// Is there a wiring at all, under the active snapshot? No error where there is none.
bool is_attached();

// After ROLLBACK TO the same snapshot may see less.
void forget_fresh_attachment() noexcept;

}  // namespace prompt_cache
