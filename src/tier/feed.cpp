#include "tier/feed.hpp"

#include "tier/incarnation.hpp"

extern "C" {
#include "storage/latch.h"
}

namespace prompt_cache::feed {

namespace {

FeedShared& list() noexcept {
    return redis_memory.state->feed;
}

// Under the lock.
void add_scope(const FeedScopeShared& scope) noexcept {
    FeedShared& feed = list();
    for (std::uint32_t i = 0; i < feed.scope_count; i++)
        if (feed.scopes[i].database == scope.database && feed.scopes[i].incarnation == scope.incarnation)
            return;
    if (feed.scope_count < FeedShared::kScopes) feed.scopes[feed.scope_count++] = scope;
}

}  // namespace

void note(std::span<const Tag> tags, std::uint64_t xid) {
    // Asked after the id was assigned: who publishes has set it before he looked who was running (see
    // begin()).
    if (!redis_memory || !list().wanted.load(std::memory_order_seq_cst)) return;
    const std::optional<std::int64_t> number = incarnation();
    if (!number) return;
    const FeedScopeShared scope{MyDatabaseId, *number};
    Latch* latch = nullptr;
    LWLockAcquire(redis_memory.lock, LW_EXCLUSIVE);
    if (list().wanted) {
        add_scope(scope);
        for (const Tag tag : tags)
            list().marks[list().marked++ % FeedShared::kMarks] = {xid, tag.hash, scope};
        latch = redis_memory.state->worker_latch;
    }
    LWLockRelease(redis_memory.lock);
    if (latch) SetLatch(latch);
}

void note_scope(std::int64_t number) noexcept {
    static std::int64_t noted = 0;
    if (noted == number) return;
    noted = number;
    LWLockAcquire(redis_memory.lock, LW_EXCLUSIVE);
    add_scope({MyDatabaseId, number});
    LWLockRelease(redis_memory.lock);
}

void forget(Oid database) noexcept {
    if (!redis_memory) return;
    LWLockAcquire(redis_memory.lock, LW_EXCLUSIVE);
    FeedShared& feed = list();
    const auto* end =
        std::remove_if(feed.scopes, feed.scopes + feed.scope_count,
                       [=](const FeedScopeShared& scope) { return scope.database == database; });
    feed.scope_count = static_cast<std::uint32_t>(end - feed.scopes);
    LWLockRelease(redis_memory.lock);
}

std::uint64_t begin(Latch* latch) noexcept {
    LWLockAcquire(redis_memory.lock, LW_EXCLUSIVE);
    list().wanted.store(true, std::memory_order_seq_cst);
    redis_memory.state->worker_latch = latch;
    const std::uint64_t marked = list().marked;
    LWLockRelease(redis_memory.lock);
    return marked;
}

void end() noexcept {
    LWLockAcquire(redis_memory.lock, LW_EXCLUSIVE);
    list().wanted.store(false, std::memory_order_seq_cst);
    redis_memory.state->worker_latch = nullptr;
    LWLockRelease(redis_memory.lock);
}

std::uint32_t take(std::uint64_t& from, FeedMarkShared* marks, std::uint32_t most, bool& lost) noexcept {
    std::uint32_t taken = 0;
    LWLockAcquire(redis_memory.lock, LW_SHARED);
    const std::uint64_t marked = list().marked;
    if (marked - from > FeedShared::kMarks) {
        lost = true;
        from = marked;
    }
    while (from < marked && taken < most) marks[taken++] = list().marks[from++ % FeedShared::kMarks];
    LWLockRelease(redis_memory.lock);
    return taken;
}

std::uint32_t scopes(FeedScopeShared* into) noexcept {
    LWLockAcquire(redis_memory.lock, LW_SHARED);
    const std::uint32_t count = list().scope_count;
    std::copy(list().scopes, list().scopes + count, into);
    LWLockRelease(redis_memory.lock);
    return count;
}

}  // namespace prompt_cache::feed
