// Which part of the memory belongs to a namespace: its eviction order, its share and its counters
// (PartitionShared). A partition is claimed by name, by the first lookup of a namespace that finds none, and
// changes hands only when it is empty and no other is left. A reference is a number with the count of its
// owners, so that one who remembers it notices.
//
// Lookups of a namespace for which there is no partition build each time; health() says so.
#pragma once

#include "cache/shared.hpp"

namespace prompt_cache {

struct PartitionRef {
    std::uint8_t number = kNoPartition;
    std::uint32_t claim = 0;

    bool holds() const noexcept {
        return number != kNoPartition && shared.partitions[number].claim == claim;
    }
};

namespace partition {

// The partition of a namespace of this database; made if there is none. With another kind of limit than
// before (none, or a number of entries) it begins anew, empty.
PartitionRef claim(std::string_view name, std::uint32_t limit) noexcept;

// The same, but never made.
PartitionRef find(std::string_view name) noexcept;

// The namespace is dropped: its partition is empty and nobody's. Whoever still looks it up claims another.
void release(std::string_view name) noexcept;

// Remembers what the builder of the namespace has read and nothing watches. A few are enough to report; those of
// another wiring are replaced first.
void note_gap(const PartitionRef& ref, const GapShared& gap) noexcept;

// Nobody owns the partitions of a database that is gone.
void forget_database(Oid database) noexcept;

}  // namespace partition
}  // namespace prompt_cache
