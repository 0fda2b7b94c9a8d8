// What a namespace is: its builder, times, limit and watched tables, read from the table `namespace` and the
// catalogs under the caller's snapshot, and remembered as long as neither `*` was marked (DDL on a watched table or a
// builder) nor the tag of what the namespaces are (create_namespace(), allow()). An entry like the wiring of prompts
// (cache/attachment.hpp), one for each namespace.
//
// Each change of a namespace gives it a new number, its wiring. Entries carry that number, so values of another
// builder are other entries.
#pragma once

#include "cache/judge.hpp"
#include "cache/partition.hpp"
#include "pg/builder_function.hpp"

namespace prompt_cache {

// Flat, so that it can be a value in shared memory; followed by the texts and lists.
struct NamespaceHeader {
    std::uint32_t wiring;
    Oid builder;       // 0 = none
    std::int64_t ttl;  // microseconds; INT64_MAX = none of its own
    std::int64_t redis_ttl;
    std::int64_t storage;  // changes with the files of watched partitions
    std::uint32_t max_entries;
    std::uint32_t name_length;
    std::uint32_t problem_length;
    std::uint32_t reader_count;
    std::uint32_t watched_count;
    bool sliding;
    bool redis;
    bool sound;    // every trigger of its watches stands
    bool durable;  // no watched table is unlogged
};

class Namespace {
  public:
    // A copy of `flat` must outlive it.
    Namespace() = default;
    explicit Namespace(std::string_view flat);

    std::string_view flat() const { return flat_; }
    std::string_view name() const { return name_; }
    std::uint32_t wiring() const { return header_.wiring; }
    Oid builder() const { return header_.builder; }
    std::int64_t ttl() const { return header_.ttl; }
    std::int64_t redis_ttl() const { return header_.redis_ttl; }
    std::int64_t storage() const { return header_.storage; }
    std::uint32_t max_entries() const { return header_.max_entries; }
    bool sliding() const { return header_.sliding; }
    bool redis() const { return header_.redis; }
    bool sound() const { return header_.sound; }
    bool durable() const { return header_.durable; }
    bool has_builder() const { return OidIsValid(header_.builder); }

    // Are changes of these columns of the relation noticed? Attribute numbers, 0 for the whole row.
    enum class Watch { kNone, kSomeColumns, kAll };
    Watch watches(Oid relation, std::span<const AttrNumber> columns) const;
    bool is_source(Oid relation) const { return watched_at(relation) != nullptr; }

    // ERROR with a hint if it cannot be used as it is, or not by the current role.
    void require_usable() const;
    void require_builder() const;
    BuilderFunction trusted_builder() const;  // as of now, whatever the snapshot sees
    void require_reader() const;

    std::optional<Dependency> dependency;  // on `*`; nothing if this holds for one lookup only
    Dependency wiring_dependency;          // on what the namespaces are
    PartitionRef partition;                // where there is shared memory

  private:
    [[noreturn]] void complain(const char* problem, const char* hint) const;
    const std::int64_t* watched_at(Oid relation) const;

    NamespaceHeader header_{};
    std::string_view flat_;
    std::string_view name_;
    const char* problem_ = "";
    const Oid* readers_ = nullptr;
    const std::int64_t* watched_ = nullptr;  // relation, number of columns or -1 for all, the columns; and so on
};

// The namespace under the judge's snapshot, which is the active one. ERROR 42704 if there is none of the name.
// The reference holds until the next call; a build takes a copy (copy_namespace).
const Namespace& namespace_under(const Judge& judge, std::string_view name);

// In the current memory context.
Namespace copy_namespace(const Namespace& original);

// Has this transaction changed what the namespace's values are made of, or made by?
bool own_ddl_concerns(const Namespace& space);

// After ROLLBACK TO the same snapshot may see less.
void forget_fresh_namespace() noexcept;

}  // namespace prompt_cache
