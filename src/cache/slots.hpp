// The slots of this database: marking tags, and judging entries by them. The rules are core/slot.hpp; this
// file finds the slot of a tag and knows from which transaction id on the slots can be trusted.
#pragma once

#include "cache/shared.hpp"
#include "pg/snapshot.hpp"
#include "tier/tag.hpp"

namespace prompt_cache {

// A sixty-fourth of the slots is for `*` of the databases, an eighth for tags that many entries share, the
// rest for rows.
inline std::uint32_t slot_number(Oid database, Tag tag) noexcept {
    const std::uint64_t hash = hash_bytes_uint32_extended(database, tag.hash ^ shared.hash_secret) >> 32;
    const std::uint64_t count = shared.slot_mask + 1ULL;
    const std::uint64_t all = count / 64;
    const std::uint64_t many = count / 8;
    const auto place = [hash](std::uint64_t n) { return hash * n >> 32; };  // a modulo without the division
    switch (tag.tag_class()) {
        case TagClass::kAll:
            return static_cast<std::uint32_t>(place(all));
        case TagClass::kShared:
            return static_cast<std::uint32_t>(all + place(many));
        default:
            return static_cast<std::uint32_t>(all + many + place(count - all - many));
    }
}

inline core::SlotShared& slot_of(Tag tag) noexcept {
    return shared.slots[slot_number(MyDatabaseId, tag)];
}

// The slot of `*`.
inline core::SlotShared& star_slot() noexcept {
    static Oid database = InvalidOid;
    static std::uint32_t number = 0;
    if (database != MyDatabaseId) {
        database = MyDatabaseId;
        number = slot_number(MyDatabaseId, Tag(TagKind::kAll));
    }
    return shared.slots[number];
}

// The first id whose marks this server is sure to hold: marks are in shared memory, so those of before a
// crash, a restart or a promotion are gone. 0 while in recovery. A snapshot whose xmin is older bypasses the
// cache; prepared transactions of before hold xmin down until they end.
core::Xid primary_since() noexcept;

// Marks every tag with the writer, the current top-level transaction or kFrozenXid. Everybody who is running
// now is looked up first, which may raise an error; then nothing can.
void mark_tags(std::span<const Tag> tags, core::Xid writer);

}  // namespace prompt_cache
