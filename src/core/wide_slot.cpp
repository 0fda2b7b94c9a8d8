#include "core/wide_slot.hpp"

#include <algorithm>

namespace prompt_cache::core {

namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// Changes a slot under its lock.
template <typename Change>
auto locked(SlotShared& head, Change change) noexcept {
    const std::uint32_t before = head.lock();
    const auto result = change();
    head.unlock(before);
    return result;
}

}  // namespace

// Below the highest ended id nothing may run for the snapshot but what had not ended when all those had.
bool WideSlot::ended_complete(const SnapshotView& snapshot) const noexcept {
    const Xid ended = ended_max().load(kRelaxed);
    if (ended < snapshot.xmin) return true;
    if (ended >= snapshot.xmax) return false;
    const auto first = static_cast<std::uint32_t>(snapshot.xmin);
    const auto below = static_cast<std::uint32_t>(ended - snapshot.xmin);
    const std::uint32_t count = within(older_count());
    return std::all_of(snapshot.running.begin(), snapshot.running.end(), [&](std::uint32_t xid) {
        if (xid - first > below) return true;
        for (std::uint32_t i = 0; i < count; i++)
            if (older()[i].load(kRelaxed) == xid) return true;
        return false;
    });
}

void WideSlot::end(Xid writer) noexcept {
    ended_max().store(std::max(ended_max().load(kRelaxed), writer), kRelaxed);
    for (unsigned i = kRecent - 1; i > 0; i--) recent()[i].store(recent()[i - 1].load(kRelaxed), kRelaxed);
    recent()[0].store(writer, kRelaxed);
}

// Only for a snapshot that sees all ended writers as complete.
void WideSlot::move_ended(const SnapshotView& snapshot) noexcept {
    const std::uint32_t count = within(pending_count());
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < count; i++) {
        const Xid writer = pending()[i].load(kRelaxed);
        if (snapshot.complete(writer))
            end(writer);
        else
            pending()[kept++].store(writer, kRelaxed);
    }
    if (kept == count) return;
    pending_count().store(kept, kRelaxed);
    if (applies(Rule::kEndedGeneration)) head_.gen.store(gen() + 1, kRelaxed);
    std::uint32_t older_ones = 0;
    const auto first = static_cast<std::uint32_t>(snapshot.xmin);
    const Xid ended = ended_max().load(kRelaxed);
    for (const std::uint32_t xid : snapshot.running)
        if (snapshot.xmin + (xid - first) <= ended && older_ones < capacity_) older()[older_ones++].store(xid, kRelaxed);
    older_count().store(older_ones, kRelaxed);
}

// What the line says to who takes it for an ordinary slot.
void WideSlot::publish_bounds() noexcept {
    const Xid bound = has_pending() ? ~Xid{0} : ended_max().load(kRelaxed);
    head_.max_xid.store(bound, kRelaxed);
    head_.dropped_max_xid.store(bound, kRelaxed);
}

bool WideSlot::mark(Xid writer, const Moment& moment) noexcept {
    return locked(head_, [&] {
        if (!none_pending([=](Xid other) { return other == writer; })) return false;
        if (within(pending_count()) == capacity_ && ended_complete(moment.now)) move_ended(moment.now);
        const std::uint32_t count = within(pending_count());
        if (count < capacity_) {
            pending()[count].store(writer, kRelaxed);
            pending_count().store(count + 1, kRelaxed);
        } else {
            end(writer);
            older_count().store(0, kRelaxed);
            head_.gen.store(gen() + 1, kRelaxed);
        }
        publish_bounds();
        return true;
    });
}

std::optional<std::uint64_t> WideSlot::put_generation(const SnapshotView& snapshot) noexcept {
    return store_generation(snapshot, snapshot);
}

// Who is pending after the move is not complete for the snapshot, so for put_generation() the last question is none.
std::optional<std::uint64_t> WideSlot::store_generation(const SnapshotView& snapshot, const SnapshotView& now) noexcept {
    return locked(head_, [&]() -> std::optional<std::uint64_t> {
        if (applies(Rule::kStoreCheck) && !ended_complete(snapshot)) return std::nullopt;
        move_ended(snapshot);
        publish_bounds();
        if (applies(Rule::kStoreCheck) && !none_pending([&](Xid writer) { return now.complete(writer); }))
            return std::nullopt;
        return gen();
    });
}

std::size_t WideSlot::ended_ids(const SnapshotView& snapshot, Xid* ids) const noexcept {
    std::size_t count = 0;
    read([&] {
        count = 0;
        const auto add = [&](Xid writer) {
            if (writer != 0 && snapshot.complete(writer)) ids[count++] = writer;
            return false;
        };
        none_pending(add);
        for (unsigned i = 0; i < kRecent; i++) add(recent()[i].load(kRelaxed));
        add(ended_max().load(kRelaxed));
        return true;
    });
    return count;
}

}  // namespace prompt_cache::core
