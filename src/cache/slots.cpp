#include "cache/slots.hpp"

namespace prompt_cache {

using core::applies;
using core::Rule;

core::Xid primary_since() noexcept {
    std::atomic<std::uint64_t>& boot = shared.control->boot_xid;
    core::Xid since = boot.load(std::memory_order_acquire);
    if (since != 0) return since;
    if (applies(Rule::kBootAtPromotion) && RecoveryInProgress()) return 0;
    // Taken after recovery has ended, so that no id without marks lies beyond it. The first to come sets it.
    const core::Xid next = U64FromFullTransactionId(ReadNextFullTransactionId());
    return boot.compare_exchange_strong(since, next, std::memory_order_acq_rel) ? next : since;
}

bool caches_are_as_new(const core::SnapshotView& view) {
    static std::uint64_t heard_gen = 0;  // of `*`: all that marked it up to here
    const core::SlotHistory star = star_slot().read();
    if (star.gen == heard_gen) return true;
    bool all_ended = true;
    const auto is_heard_of = [&](core::Xid xid) {
        const auto low = static_cast<TransactionId>(xid);
        if (!TransactionIdIsNormal(low)) return true;
        const bool ended = !TransactionIdIsCurrentTransactionId(low) && view.complete(xid);
        all_ended = all_ended && ended;
        return !ended || has_released_locks(low);
    };
    if (!std::all_of(star.xid, star.xid + star.n, is_heard_of) || !is_heard_of(star.dropped_max_xid)) return false;
    AcceptInvalidationMessages();
    if (all_ended) heard_gen = star.gen;
    return true;
}

void mark_tags(std::span<const Tag> tags, core::Xid writer) {
    if (!shared) return;
    primary_since();
    core::Moment moment;
    moment.now = view_of(GetLatestSnapshot());
    moment.own = full_xid(GetTopTransactionIdIfAny());
    std::uint64_t marks = 0;
    for (const Tag tag : tags) marks += slot_of(tag).mark(writer, moment);
    count(core::Counter::kInvalidations, marks);
}

}  // namespace prompt_cache
