// The slots of this database: marking tags, and judging entries by them. The rules are core/slot.hpp and
// core/wide_slot.hpp; this file finds the slot of a tag and knows from which transaction id on the slots can be
// trusted.
#pragma once

#include "cache/shared.hpp"
#include "pg/snapshot.hpp"
#include "tier/tag.hpp"

namespace prompt_cache {

// The first slots are wide ones, a pair a database: for `*`, and for what the namespaces are. Of the rest an eighth is for
// tags that many entries share, the others for rows.
enum class Wide : std::uint32_t { kAll, kNamespaces };
std::uint32_t wide_number(Wide which) noexcept;

inline bool is_wide(std::uint32_t slot) noexcept {
    return slot < shared.wide_end;
}
// The wide slot that a line belongs to.
inline core::WideSlot wide_slot(std::uint32_t slot) noexcept {
    return {&shared.slots[slot - slot % shared.wide_lines], shared.wide_ids};
}
inline core::WideSlot wide_slot(Wide which) noexcept {
    return wide_slot(wide_number(which));
}

inline std::uint32_t slot_number(Tag tag) noexcept {
    static const Tag namespaces(TagKind::kNamespace);
    if (tag.tag_class() == TagClass::kAll) return wide_number(Wide::kAll);
    if (tag == namespaces) return wide_number(Wide::kNamespaces);
    const std::uint64_t hash = hash_bytes_uint32_extended(MyDatabaseId, tag.hash ^ shared.hash_secret) >> 32;
    const std::uint64_t count = shared.slot_mask + 1ULL - shared.wide_end;
    const std::uint64_t many = count / 8;
    const auto place = [hash](std::uint64_t n) { return hash * n >> 32; };  // a modulo without the division
    return static_cast<std::uint32_t>(
        shared.wide_end + (tag.tag_class() == TagClass::kShared ? place(many) : many + place(count - many)));
}

// A wide one by its first line, which tells less than wide_slot().
inline core::SlotShared& slot_of(Tag tag) noexcept {
    return shared.slots[slot_number(tag)];
}

// The generation to store a value with that is built under this snapshot; nothing if the tag's slot cannot vouch for
// it. An entry of this generation would be a hit now.
std::optional<std::uint64_t> store_generation(Tag tag, const core::SnapshotView& view) noexcept;

// The same for a value that was made outside of the database, of what the snapshot and the writer `own` see.
std::optional<std::uint64_t> put_generation(Tag tag, const core::SnapshotView& view, core::Xid own) noexcept;

// Does the snapshot see every writer that has marked `*` or changed the namespaces and has ended? One that still runs
// has shown nothing to anybody, DDL included.
bool sees_all_ended(Wide which, const core::SnapshotView& view) noexcept;

// The first id whose marks this server is sure to hold: marks are in shared memory, so those of before a
// crash, a restart or a promotion are gone. 0 while in recovery. A snapshot whose xmin is older bypasses the
// cache; prepared transactions of before hold xmin down until they end.
core::Xid primary_since() noexcept;

// Marks every tag with the writer, the current top-level transaction. Everybody who is running now is looked up
// first, which may raise an error; then nothing can.
void mark_tags(std::span<const Tag> tags, core::Xid writer);

}  // namespace prompt_cache
