#include "eviction_duel.hpp"

#include <algorithm>
#include <cstring>
#include <initializer_list>

namespace prompt_cache::core {

namespace {

constexpr std::uint32_t kHits = 3;  // two bits of a key

struct Key {
    std::uint32_t key;
    std::uint32_t size;
};

void push(DuelQueueShared& queue, Key key) noexcept {
    queue.keys[queue.count] = key.key;
    queue.sizes[queue.count++] = key.size;
    queue.bytes += key.size;
}

Key take(DuelQueueShared& queue, std::uint32_t at) noexcept {
    const Key key{queue.keys[at], queue.sizes[at]};
    queue.count--;
    queue.bytes -= key.size;
    const std::size_t moved = (queue.count - at) * sizeof(std::uint32_t);
    std::memmove(&queue.keys[at], &queue.keys[at + 1], moved);
    std::memmove(&queue.sizes[at], &queue.sizes[at + 1], moved);
    return key;
}

// Its place, or kDuelSlots.
std::uint32_t find(const DuelQueueShared& queue, std::uint32_t key) noexcept {
    constexpr std::uint32_t kBlock = 16;  // compared without a branch, so that the compiler uses wide registers
    static_assert(kDuelSlots % kBlock == 0);
    for (std::uint32_t block = 0; block < queue.count; block += kBlock) {
        std::uint32_t found = 0;
        for (std::uint32_t at = 0; at < kBlock; at++)
            found |= static_cast<std::uint32_t>((queue.keys[block + at] & ~kHits) == key);
        if (found == 0) continue;
        for (std::uint32_t at = block; at < queue.count && at < block + kBlock; at++)
            if ((queue.keys[at] & ~kHits) == key) return at;
    }
    return kDuelSlots;
}

bool hit(DuelQueueShared& queue, std::uint32_t key, std::uint32_t hits) noexcept {
    const std::uint32_t at = find(queue, key);
    if (at == kDuelSlots) return false;
    queue.keys[at] += std::min(hits, kHits - (queue.keys[at] & kHits));
    return true;
}

bool play_lru(DuelShared& duel, Key key, std::uint64_t room) noexcept {
    const std::uint32_t at = find(duel.lru, key.key);
    if (at != kDuelSlots) {
        push(duel.lru, take(duel.lru, at));
        return true;
    }
    if (key.size > room) return false;
    while (duel.lru.count > 0 && (duel.lru.bytes + key.size > room || duel.lru.count == kDuelSlots))
        take(duel.lru, 0);
    push(duel.lru, key);
    return false;
}

void evict_from_s3(DuelShared& duel, std::uint64_t room) noexcept {
    const bool from_main = duel.main.bytes > room - room / 4 || duel.small.count == 0;
    DuelQueueShared& queue = from_main ? duel.main : duel.small;
    while (queue.count > 0) {
        Key key = take(queue, 0);
        const std::uint32_t hits = key.key & kHits;
        if (hits > 0) {
            key.key = from_main ? key.key - 1 : key.key - hits;
            push(duel.main, key);
            continue;
        }
        if (from_main) return;
        while (duel.ghost.count > 0 &&
               (duel.ghost.bytes + key.size > ghost_window(room) || duel.ghost.count == kDuelSlots))
            take(duel.ghost, 0);
        push(duel.ghost, key);
        return;
    }
}

bool play_s3(DuelShared& duel, Key key, const DuelRequest& request, std::uint64_t room) noexcept {
    if (hit(duel.small, key.key, request.hits) || hit(duel.main, key.key, request.hits)) return true;
    const std::uint32_t ghost = find(duel.ghost, key.key);
    const bool known = ghost != kDuelSlots;
    if (known) take(duel.ghost, ghost);
    if (request.too_large) return false;
    while (duel.small.count + duel.main.count > 0 && (duel.small.bytes + duel.main.bytes + key.size > room ||
                                                      duel.small.count + duel.main.count == kDuelSlots))
        evict_from_s3(duel, room);
    push(known ? duel.main : duel.small, key);
    return false;
}

}  // namespace

int DuelShared::play(const DuelRequest& request, std::uint64_t room) noexcept {
    const Key key{request.fingerprint & ~kHits, request.size};
    const bool by_lru = play_lru(*this, key, room);
    const bool by_s3 = play_s3(*this, key, request, room);
    return by_lru - by_s3;
}

void DuelShared::halve_sample() noexcept {
    shift++;
    for (DuelQueueShared* queue : {&lru, &small, &main, &ghost})
        for (std::uint32_t at = queue->count; at-- > 0;)
            if (!sampled(queue->keys[at])) take(*queue, at);
}

void DuelShared::begin_anew() noexcept {
    for (DuelQueueShared* queue : {&lru, &small, &main, &ghost}) {
        queue->count = 0;
        queue->bytes = 0;
    }
    shift = 0;
    lead = 0;
}

}  // namespace prompt_cache::core
