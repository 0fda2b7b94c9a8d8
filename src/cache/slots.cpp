#include "cache/slots.hpp"

namespace prompt_cache {

using core::applies;
using core::Rule;

namespace {

// The pair of a database is the first that is nobody's, and stays it until the server ends: so whoever looks finds the
// same. Databases for which none is left share one that a hash chooses.
std::uint32_t find_pair() noexcept {
    const std::uint32_t pairs = shared.wide_end / shared.wide_lines / 2;
    for (std::uint32_t pair = 0; pair < pairs; pair++) {
        std::atomic<std::uint64_t>& owner = wide_slot(pair * 2 * shared.wide_lines).owner();
        std::uint64_t found = owner.load(std::memory_order_relaxed);
        if (found == InvalidOid && owner.compare_exchange_strong(found, MyDatabaseId, std::memory_order_relaxed))
            return pair;
        if (found == MyDatabaseId) return pair;
    }
    return static_cast<std::uint32_t>(hash_bytes_uint32_extended(MyDatabaseId, shared.hash_secret) % pairs);
}

}  // namespace

std::uint32_t wide_number(Wide which) noexcept {
    static Oid database_local = InvalidOid;
    static std::uint32_t pair_local = 0;
    if (database_local != MyDatabaseId) {
        pair_local = find_pair();
        database_local = MyDatabaseId;
    }
    return (pair_local * 2 + static_cast<std::uint32_t>(which)) * shared.wide_lines;
}

std::optional<std::uint64_t> store_generation(Tag tag, const core::SnapshotView& view) noexcept {
    const std::uint32_t number = slot_number(tag);
    if (!is_wide(number)) return shared.slots[number].read_locked().store_generation(view);
    // Who is not pending yet runs for the view too.
    core::WideSlot slot = wide_slot(number);
    return slot.store_generation(view, slot.has_pending() ? view_of_now() : view);
}

std::optional<std::uint64_t> put_generation(Tag tag, const core::SnapshotView& view, core::Xid own) noexcept {
    const std::uint32_t number = slot_number(tag);
    return is_wide(number) ? wide_slot(number).put_generation(view)
                           : shared.slots[number].read_locked().put_generation(view, own);
}

bool sees_all_ended(Wide which, const core::SnapshotView& view) noexcept {
    return wide_slot(which).sees_all_ended(view, view_of_now);
}

core::Xid primary_since() noexcept {
    std::atomic<std::uint64_t>& boot = shared.control->boot_xid;
    core::Xid since = boot.load(std::memory_order_acquire);
    if (since != 0) return since;
    if (applies(Rule::kBootAtPromotion) && RecoveryInProgress()) return 0;
    // Taken after recovery has ended, so that no id without marks lies beyond it. The first to come sets it.
    const core::Xid next = U64FromFullTransactionId(ReadNextFullTransactionId());
    return boot.compare_exchange_strong(since, next, std::memory_order_acq_rel) ? next : since;
}

void mark_tags(std::span<const Tag> tags, core::Xid writer) {
    if (!shared) return;
    primary_since();
    core::Moment moment;
    moment.now = view_of(GetLatestSnapshot());
    moment.own = full_xid(GetTopTransactionIdIfAny());
    std::uint64_t marks = 0;
    for (const Tag tag : tags) {
        const std::uint32_t number = slot_number(tag);
        marks += is_wide(number) ? wide_slot(number).mark(writer, moment) : shared.slots[number].mark(writer, moment);
    }
    count(core::Counter::kInvalidations, marks);
}

}  // namespace prompt_cache
