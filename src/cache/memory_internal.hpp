// What memory.cpp and memory_admin.cpp share: views of the shared structures and the changing of a bucket's
// chain.
#pragma once

#include "cache/memory.hpp"

namespace prompt_cache::memory {

inline core::Arena arena_view() noexcept {
    return core::Arena(&shared.control->arena, shared.arena_base, shared.units);
}

inline core::Eviction eviction_view(unsigned partition) noexcept {
    return core::Eviction(shared.partitions[partition].order, shared.arena_base + core::Arena::kBlockHeaderBytes,
                          core::Arena::kUnitBytes, shared.uses, shared.ghosts, shared.ghost_count);
}

// A reader's view of an entry, at any time: its bytes in place, and how many of them lie in one piece. `unit`
// has been checked to lie inside the arena.
inline const std::byte* payload_at(std::uint32_t unit) noexcept {
    return shared.arena_base + unit * core::Arena::kUnitBytes + core::Arena::kBlockHeaderBytes;
}
inline std::size_t piece_at(std::uint32_t unit) noexcept {
    return std::min(arena_view().head_bytes(unit),
                    (shared.units - unit) * core::Arena::kUnitBytes - core::Arena::kBlockHeaderBytes);
}

// The longest chain of a bucket. With random hashes not one of a thousand million buckets has half as many entries.
inline constexpr unsigned kMaxChain = 64;

inline BucketShared& bucket_of(std::uint64_t hash) noexcept {
    return shared.buckets[hash & shared.bucket_mask];
}

// Under `space`, for entries that are linked or ours.
inline EntryShared& entry_at(std::uint32_t unit) noexcept {
    return *static_cast<EntryShared*>(arena_view().payload(unit));
}
inline const Dependency* dependencies_of(const EntryShared& entry) noexcept {
    return reinterpret_cast<const Dependency*>(&entry + 1);
}

// Under `space`: the bucket's number is odd while this lives, and another one afterwards.
class BucketChange {
  public:
    explicit BucketChange(BucketShared& bucket) noexcept
        : bucket_(bucket), before_(bucket.seq.load(std::memory_order_relaxed)) {
        bucket_.seq.store(before_ + 1, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_release);  // pairs with the acquire fence in still_there()
    }
    ~BucketChange() { bucket_.seq.store(before_ + 2, std::memory_order_release); }
    BucketChange(const BucketChange&) = delete;
    BucketChange& operator=(const BucketChange&) = delete;

  private:
    BucketShared& bucket_;
    std::uint32_t before_;
};

// What the extension remembers for itself: not one of the users' entries.
inline bool is_own(const EntryShared& entry) noexcept {
    return entry.kind >= EntryKind::kAttachment;
}

inline void link_to_bucket(std::uint32_t unit) noexcept {
    if (is_own(entry_at(unit))) shared.control->own_entries.fetch_add(1, std::memory_order_relaxed);
    BucketShared& bucket = bucket_of(entry_at(unit).hash);
    const BucketChange change(bucket);
    entry_at(unit).next = bucket.head.load(std::memory_order_relaxed);
    bucket.head.store(unit, std::memory_order_relaxed);
}

inline void unlink_from_bucket(std::uint32_t unit) noexcept {
    if (is_own(entry_at(unit))) shared.control->own_entries.fetch_sub(1, std::memory_order_relaxed);
    BucketShared& bucket = bucket_of(entry_at(unit).hash);
    const BucketChange change(bucket);
    const std::uint32_t next = entry_at(unit).next;
    std::uint32_t at = bucket.head.load(std::memory_order_relaxed);
    if (at == unit) {
        bucket.head.store(next, std::memory_order_relaxed);
        return;
    }
    while (entry_at(at).next != unit) at = entry_at(at).next;
    entry_at(at).next = next;
}

}  // namespace prompt_cache::memory
