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
