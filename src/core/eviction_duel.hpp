// The duel of the eviction order: LRU and S3-FIFO, played on a sample of a namespace's keys (one in 2^shift, 512
// to 1024 resident; all of them in a small cache) at the size that the sample has of the whole.  Who plays
// keeps the lead, which tells whom the entries follow; see eviction.cpp.
//
// Sizes count.  What is too large to be left to the chance of a sample is played always, by the sample's share of
// its size; that is the caller's to decide.
#pragma once

#include <cstdint>

namespace prompt_cache::core {

inline constexpr std::uint32_t kDuelSlots = 1280;  // keys that one queue holds

// S3-FIFO's ghosts: so much of the whole is remembered of what has gone.
inline constexpr std::uint64_t ghost_window(std::uint64_t whole) noexcept {
    return whole - whole / 10;
}

// Keys in order of eviction, first to go first.  Short enough to be searched and moved whole.
struct DuelQueueShared {
    std::uint64_t bytes;
    std::uint32_t count;
    std::uint32_t unused;
    std::uint32_t keys[kDuelSlots];  // fingerprint with the hits in its two low bits
    std::uint32_t sizes[kDuelSlots];
};

// What both policies are asked for.
struct DuelRequest {
    std::uint32_t fingerprint;
    std::uint32_t size;
    std::uint32_t hits;  // since it was asked for last; as many as are known of
    bool too_large;      // for S3-FIFO to let in
};

// What the two policies would hold of the sample; the namespace's writer lock.  Zero bytes are a valid state.
struct DuelShared {
    DuelQueueShared lru;
    DuelQueueShared small;
    DuelQueueShared main;
    DuelQueueShared ghost;
    std::uint32_t watched[kDuelSlots];  // resident entries whose key is in the sample
    std::uint32_t watched_count;
    std::uint32_t shift;  // one key in 2^shift is in the sample
    std::int64_t lead;    // of LRU's hits over S3-FIFO's, fading, in 2^-20 of a hit

    bool sampled(std::uint32_t fingerprint) const noexcept {
        return (fingerprint >> 2 & ((1U << shift) - 1)) == 0;
    }

    // Asks both, with so much room for each.  1 if only LRU has it, -1 if only S3-FIFO has, else 0.
    int play(const DuelRequest& request, std::uint64_t room) noexcept;

    // Half the keys leave the sample.
    void halve_sample() noexcept;

    // Forgets all but the watched entries.
    void begin_anew() noexcept;
};

}  // namespace prompt_cache::core
