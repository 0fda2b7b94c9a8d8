#include "cache/judge.hpp"

extern "C" {
#include "access/xlogrecovery.h"
#include "storage/lock.h"
}

namespace prompt_cache {

using core::applies;
using core::Rule;

namespace {

bool hit_behind_local = false;

// In recovery: has the record under replay, which may have made its transaction visible already, been replayed to its end,
// with the messages in it? Most take microseconds; one that waits for a reader's lock may take long. Then it does if the
// snapshot sees no DDL that was not there when somebody last saw the end of a record.
bool replay_has_told(const Judge& judge) {
    constexpr int kLooks = 10;
    constexpr long kPause = 20;  // microseconds
    std::atomic<std::uint64_t>& told = shared.control->told_star;
    const std::uint64_t told_before = told.load(std::memory_order_acquire);
    AcceptInvalidationMessages();
    const Stamp star = stamp_under(Tag(TagKind::kAll), judge);
    const std::uint64_t mine = hash_combine64(hash_combine64(static_cast<std::uint64_t>(star.nonces), static_cast<std::uint64_t>(star.weight)), MyDatabaseId);
    if (told_before == mine) return true;
    const XLogRecPtr begun = GetCurrentReplayRecPtr(nullptr);
    for (int looks = 0; GetXLogReplayRecPtr(nullptr) < begun; looks++) {
        if (looks == kLooks) return false;
        pg_usleep(kPause);
    }
    AcceptInvalidationMessages();
    told.store(mine, std::memory_order_release);
    return true;
}

// Transactions that were prepared before this server was the primary have no marks. Does any that has ended still hold
// its lock? The judge's snapshot leaves out the rest of them, or would not have got here.
bool older_ones_have_told(core::Xid since) {
    static core::Xid told_local = 0;  // of this life of the server: they have, for good
    if (told_local == since) return true;
    const LockData* locks = GetLockStatusData();
    const bool told = std::none_of(locks->locks, locks->locks + locks->nelements, [since](const LockInstanceData& lock) {
        return lock.locktag.locktag_type == LOCKTAG_TRANSACTION && lock.holdMask != 0 &&
               full_xid(lock.locktag.locktag_field1) < since;
    });
    if (told) told_local = since;
    return told;
}

}  // namespace

bool decide_by_marks(const Judge& judge, const Dependency& dependency) noexcept {
    if (is_wide(dependency.slot())) {
        const core::WideSlot slot = wide_slot(dependency.slot());
        if (!slot.hit(dependency.gen(), judge.view, view_of_now)) return false;
        hit_behind_local |= slot.has_pending();
        return true;
    }
    const core::SlotHistory history = shared.slots[dependency.slot()].read();
    if (!history.hit(dependency.gen(), judge.view)) return false;
    hit_behind_local |= history.gen != dependency.gen();
    return true;
}

bool take_hit_behind() noexcept {
    const bool behind = hit_behind_local;
    hit_behind_local = false;
    return behind;
}

std::optional<Dependency> depend_on(const Judge& judge, Tag tag) {
    if (judge.by == Judge::By::kStamps) return Dependency(stamp_under(tag, judge));
    if (judge.by != Judge::By::kMarks) return std::nullopt;
    const std::optional<std::uint64_t> gen = store_generation(tag, judge.view);
    if (!gen) return std::nullopt;
    return Dependency(slot_number(tag), *gen);
}

bool has_heard_of_ddl(const Judge& judge) {
    static Oid database_local = InvalidOid;
    static std::uint64_t heard_local = 0;  // the generation of `*` whose ended writers have all been heard of
    if (judge.by == Judge::By::kStamps) return replay_has_told(judge);
    AcceptInvalidationMessages();
    if (judge.by != Judge::By::kMarks) return true;
    const core::WideSlot star = wide_slot(Wide::kAll);
    // In this order: who moves in between has started another generation.
    if (database_local == MyDatabaseId && !star.has_unmoved(judge.view) && heard_local == star.gen()) return true;

    const std::uint64_t gen = star.gen();
    auto* ended = static_cast<core::Xid*>(
        palloc((shared.wide_ids + core::WideSlot::kRecent + 1) * sizeof(core::Xid)));
    const std::size_t count = star.ended_ids(judge.view, ended);
    const bool all_sent = std::all_of(ended, ended + count, [](core::Xid writer) {
        const auto xid = static_cast<TransactionId>(writer);
        return TransactionIdIsCurrentTransactionId(xid) || has_released_locks(xid);
    });
    pfree(ended);
    if (!all_sent || (applies(Rule::kBootBound) && !older_ones_have_told(judge.since))) return false;
    AcceptInvalidationMessages();
    if (star.sees_all_ended(judge.view, view_of_now) && star.gen() == gen) {
        database_local = MyDatabaseId;
        heard_local = gen;
    }
    return true;
}

Stamp shared_stamp(const Judge& judge, Tag tag) {
    if (judge.by != Judge::By::kMarks) return stamp_under(tag, judge);
    const EntryKey key(EntryKind::kStamp, {reinterpret_cast<const char*>(&tag.hash), sizeof(tag.hash)});
    FoundEntry found;
    Stamp stamp;
    if (memory::find(key, found) && found.header.value_length == sizeof(stamp) &&
        agrees(judge, found, 0, [&] { return tag; }) &&
        memory::read_value(found, reinterpret_cast<char*>(&stamp)) && memory::still_there(found))
        return stamp;

    stamp = stamp_under(tag, judge);
    if (const auto dependency = depend_on(judge, tag))
        memory::store(key, {.flags = kFound,
                            .pointer = {},
                            .value = {reinterpret_cast<const char*>(&stamp), sizeof(stamp)},
                            .dependencies = {&*dependency, 1}});
    return stamp;
}

}  // namespace prompt_cache
