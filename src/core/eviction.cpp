// The order of eviction; the contract is in eviction.hpp.
//
// Two policies, one set of lists:
//
//   queue   holds                              S3-FIFO evicts its oldest              LRU evicts its oldest
//   small   new entries, by age                when main is within 3/4 of the whole   when older than main's
//             hit since? -> main               -> at the new end                      -> where its last hit
//             was
//   main    ghosts come back, hit ones         otherwise                              otherwise
//             hit since? -> main               -> at the new end, one hit less        -> where its last hit
//             was
//   new     entries go to                      small (main if its ghost is known)     main
//
// LRU order without moving anything on a hit: time is cut into epochs of 1/24 of the entries admitted, a hit
// leaves its epoch in the entry's byte, and main is a row of buckets, one an epoch.  An entry found at the
// old end with a younger hit moves to that epoch's bucket.  That is LRU but for the order inside an epoch
// (within 0.3 points of it on every trace tried; a two-bit CLOCK loses up to eight).  When the buckets run
// out, the two oldest become one: an epoch before oldest_epoch means the bucket of oldest_epoch.
//
// The duel: both policies are played on the keys of a sample (one key in 2^shift, some hundred resident) at
// the size the cache has.  They need the requests: misses come here by themselves, and hits are found once an
// epoch by looking at the byte of the watched entries, those of the sample that are resident.  Hits repeated
// within an epoch are seen once; both policies would have hit them.  The difference in hits fades slowly; its
// sign picks the policy that the entries follow.
#include "eviction.hpp"

#include <cstring>

namespace prompt_cache::core {

namespace {

#ifdef EVICTION_TUNE
}
int t_epochs = 24, t_target = 128, t_hor = 16, t_thr = 0, t_gnum = 9;
namespace {
#define kEpochsPerTurn t_epochs
#define kSampleTarget (unsigned)t_target
#define kFade t_hor
#else
constexpr std::uint32_t kEpochsPerTurn = 24;
constexpr std::uint32_t kSampleTarget = 128;
constexpr std::int64_t kFade = 16;
#endif

enum EvictionQueue : std::uint8_t { kNowhere = 0, kSmall = 1, kMain = 2 };

constexpr std::uint32_t kHitEpochs = 64;  // what six bits tell apart
constexpr std::uint32_t kDuelHits = 3;
constexpr std::int64_t kOneHit = 1 << 20;

std::uint8_t hit_epoch_bits(std::uint32_t epoch) noexcept {
    return static_cast<std::uint8_t>(epoch % kHitEpochs << 2);
}

std::uint64_t ghost_window(std::uint64_t whole) noexcept {
    return whole - whole / 10;
}

void duel_push(DuelQueueShared& queue, DuelKeyShared key) noexcept {
    queue.keys[queue.count++] = key;
    queue.bytes += key.size;
}

DuelKeyShared duel_take(DuelQueueShared& queue, std::uint32_t at) noexcept {
    const DuelKeyShared key = queue.keys[at];
    queue.count--;
    queue.bytes -= key.size;
    std::memmove(&queue.keys[at], &queue.keys[at + 1], (queue.count - at) * sizeof(DuelKeyShared));
    return key;
}

std::uint32_t duel_find(const DuelQueueShared& queue, std::uint32_t key) noexcept {
    for (std::uint32_t at = 0; at < queue.count; at++)
        if ((queue.keys[at].key & ~kDuelHits) == key) return at;
    return kDuelSlots;
}

bool duel_hit(DuelQueueShared& queue, std::uint32_t key) noexcept {
    const std::uint32_t at = duel_find(queue, key);
    if (at == kDuelSlots) return false;
    if ((queue.keys[at].key & kDuelHits) < kDuelHits) queue.keys[at].key++;
    return true;
}

bool play_lru(DuelShared& duel, DuelKeyShared key, std::uint64_t room) noexcept {
    const std::uint32_t at = duel_find(duel.lru, key.key);
    if (at != kDuelSlots) {
        duel_push(duel.lru, duel_take(duel.lru, at));
        return true;
    }
    if (key.size > room) return false;
    while (duel.lru.count > 0 && (duel.lru.bytes + key.size > room || duel.lru.count == kDuelSlots))
        duel_take(duel.lru, 0);
    duel_push(duel.lru, key);
    return false;
}

void play_s3_eviction(DuelShared& duel, std::uint64_t room) noexcept {
    const bool from_main = duel.main.bytes > room - room / 4 || duel.small.count == 0;
    DuelQueueShared& queue = from_main ? duel.main : duel.small;
    DuelKeyShared key = duel_take(queue, 0);
    const std::uint32_t hits = key.key & kDuelHits;
    if (hits > 0) {
        key.key = from_main ? key.key - 1 : key.key - hits;
        if (duel.main.count == kDuelSlots) duel_take(duel.main, 0);
        duel_push(duel.main, key);
    } else if (!from_main) {
        while (duel.ghost.count > 0 &&
               (duel.ghost.bytes + key.size > ghost_window(room) || duel.ghost.count == kDuelSlots))
            duel_take(duel.ghost, 0);
        duel_push(duel.ghost, key);
    }
}

bool play_s3(DuelShared& duel, DuelKeyShared key, std::uint64_t room) noexcept {
    if (duel_hit(duel.small, key.key) || duel_hit(duel.main, key.key)) return true;
    const std::uint32_t ghost = duel_find(duel.ghost, key.key);
    const bool known = ghost != kDuelSlots;
    if (known) duel_take(duel.ghost, ghost);
    if (key.size > room / 4 && key.size > 1) return false;
    while (duel.small.count + duel.main.count > 0 && (duel.small.bytes + duel.main.bytes + key.size > room ||
                                                      duel.small.count + duel.main.count == kDuelSlots))
        play_s3_eviction(duel, room);
    duel_push(known ? duel.main : duel.small, key);
    return false;
}

}  // namespace

void Eviction::init(EvictionShared& state, std::uint32_t namespace_id) noexcept {
    std::memset(static_cast<void*>(&state), 0, sizeof(state));
    state.small = {kNoNode, kNoNode};
    for (EvictionListShared& bucket : state.buckets) bucket = {kNoNode, kNoNode};
    state.epoch = state.oldest_epoch = 1;
    state.hit_epoch.store(hit_epoch_bits(1), std::memory_order_relaxed);
    state.salt = namespace_id;
}

// ---- lists

EvictionListShared& Eviction::list_of(const EvictionNodeShared& entry) const noexcept {
    if (entry.queue == kSmall) return state_.small;
    const bool older = static_cast<std::int32_t>(entry.epoch - state_.oldest_epoch) < 0;
    return state_.buckets[(older ? state_.oldest_epoch : entry.epoch) % kEvictionBuckets];
}

void Eviction::link(std::uint32_t index, std::uint8_t queue, std::uint32_t epoch,
                    std::uint8_t hits) noexcept {
    EvictionNodeShared& entry = node(index);
    entry.queue = queue;
    entry.epoch = epoch;
    // The byte keeps the epoch of the last hit, which the duel has yet to see.
    entry.use.store(static_cast<std::uint8_t>((entry.use.load(std::memory_order_relaxed) & ~kHits) | hits),
                    std::memory_order_relaxed);
    EvictionListShared& list = list_of(entry);
    entry.newer = kNoNode;
    entry.older = list.newest;
    (list.newest != kNoNode ? node(list.newest).newer : list.oldest) = index;
    list.newest = index;
    (queue == kSmall ? state_.small_bytes : state_.main_bytes) += entry.size;
    (queue == kSmall ? state_.small_entries : state_.main_entries)++;
}

void Eviction::unlink(std::uint32_t index) noexcept {
    EvictionNodeShared& entry = node(index);
    EvictionListShared& list = list_of(entry);
    (entry.newer != kNoNode ? node(entry.newer).older : list.newest) = entry.older;
    (entry.older != kNoNode ? node(entry.older).newer : list.oldest) = entry.newer;
    (entry.queue == kSmall ? state_.small_bytes : state_.main_bytes) -= entry.size;
    (entry.queue == kSmall ? state_.small_entries : state_.main_entries)--;
    entry.newer = entry.older = kNoNode;
    entry.queue = kNowhere;
}

std::uint32_t Eviction::oldest_in_main() noexcept {
    while (state_.buckets[state_.oldest_epoch % kEvictionBuckets].oldest == kNoNode &&
           state_.oldest_epoch != state_.epoch)
        state_.oldest_epoch++;
    return state_.buckets[state_.oldest_epoch % kEvictionBuckets].oldest;
}

std::uint32_t Eviction::last_hit(const EvictionNodeShared& entry) const noexcept {
    const std::uint32_t bits = entry.use.load(std::memory_order_relaxed) >> 2;
    return state_.epoch - (state_.epoch - bits) % kHitEpochs;
}

void Eviction::count_admission() noexcept {
    if (++state_.admitted * kEpochsPerTurn < entries()) return;
    state_.admitted = 0;
    begin_epoch();
}

void Eviction::begin_epoch() noexcept {
    for (std::uint32_t at = 0; at < state_.duel.watched_count; at++) play_hit(node(state_.duel.watched[at]));
    if (state_.epoch + 1 - state_.oldest_epoch == kEvictionBuckets) {
        EvictionListShared& first = state_.buckets[state_.oldest_epoch++ % kEvictionBuckets];
        EvictionListShared& second = state_.buckets[state_.oldest_epoch % kEvictionBuckets];
        if (first.newest != kNoNode) {
            if (second.oldest != kNoNode) {
                node(second.oldest).older = first.newest;
                node(first.newest).newer = second.oldest;
            } else {
                second.newest = first.newest;
            }
            second.oldest = first.oldest;
            first = {kNoNode, kNoNode};
        }
    }
    state_.epoch++;
    state_.hit_epoch.store(hit_epoch_bits(state_.epoch), std::memory_order_relaxed);
}

// ---- ghosts: buckets of one cache line, newest first

std::uint32_t Eviction::fingerprint(std::uint64_t key_hash) const noexcept {
    std::uint64_t mixed = (key_hash ^ state_.salt) * 0x9e3779b97f4a7c15U;
    mixed = (mixed ^ (mixed >> 32)) * 0xd6e8feb86659fd93U;
    const auto short_hash = static_cast<std::uint32_t>(mixed >> 32);
    return short_hash != 0 ? short_hash : 1;
}

bool Eviction::take_ghost(std::uint32_t fingerprint) noexcept {
    if (ghost_buckets_ == 0) return false;
    EvictionGhostShared* bucket =
        ghosts_ + (static_cast<std::uint64_t>(fingerprint) * ghost_buckets_ >> 32) * kGhostWays;
    for (std::uint32_t way = 0; way < kGhostWays; way++) {
        if (bucket[way].fingerprint != fingerprint) continue;
        const std::uint32_t age = state_.evictions - bucket[way].evictions;
        std::memmove(&bucket[way], &bucket[way + 1], (kGhostWays - 1 - way) * sizeof(*bucket));
        bucket[kGhostWays - 1] = {0, 0};
        return age <= ghost_window(entries());
    }
    return false;
}

void Eviction::remember(std::uint32_t fingerprint) noexcept {
    if (ghost_buckets_ == 0) return;
    EvictionGhostShared* bucket =
        ghosts_ + (static_cast<std::uint64_t>(fingerprint) * ghost_buckets_ >> 32) * kGhostWays;
    std::memmove(&bucket[1], &bucket[0], (kGhostWays - 1) * sizeof(*bucket));
    bucket[0] = {fingerprint, state_.evictions++};
}

// ---- the duel

bool Eviction::sampled(std::uint32_t fingerprint) const noexcept {
    return (fingerprint >> 2 & ((1U << state_.duel.shift) - 1)) == 0;
}

void Eviction::play(std::uint32_t fingerprint, std::uint32_t size) noexcept {
    if (!sampled(fingerprint)) return;
    DuelShared& duel = state_.duel;
    const std::uint64_t room = bytes() >> duel.shift;
    const DuelKeyShared key{fingerprint & ~kDuelHits, size};
    const bool lru = play_lru(duel, key, room);
    const bool s3 = play_s3(duel, key, room);
    duel.lead -= duel.lead / (kFade * ((entries() >> duel.shift) + 8));
    duel.lead += (lru - s3) * kOneHit;
    if (duel.lead != 0) state_.follows_lru = duel.lead > 0;
}

void Eviction::play_hit(const EvictionNodeShared& entry) noexcept {
    if (last_hit(entry) == state_.epoch) play(entry.fingerprint, entry.size);
}

void Eviction::watch(std::uint32_t index) noexcept {
    EvictionNodeShared& entry = node(index);
    DuelShared& duel = state_.duel;
    entry.watch = 0;
    if (!sampled(entry.fingerprint) || duel.watched_count == kDuelWatched) return;
    duel.watched[duel.watched_count++] = index;
    entry.watch = static_cast<std::uint8_t>(duel.watched_count);
}

void Eviction::unwatch(EvictionNodeShared& entry) noexcept {
    if (entry.watch == 0) return;
    DuelShared& duel = state_.duel;
    const std::uint32_t moved = duel.watched[--duel.watched_count];
    duel.watched[entry.watch - 1] = moved;
    node(moved).watch = entry.watch;
    entry.watch = 0;
}

void Eviction::thin_sample() noexcept {
    DuelShared& duel = state_.duel;
    duel.shift++;
    for (DuelQueueShared* queue : {&duel.lru, &duel.small, &duel.main, &duel.ghost})
        for (std::uint32_t at = queue->count; at-- > 0;)
            if (!sampled(queue->keys[at].key)) duel_take(*queue, at);
    for (std::uint32_t at = duel.watched_count; at-- > 0;) {
        EvictionNodeShared& entry = node(duel.watched[at]);
        if (!sampled(entry.fingerprint)) unwatch(entry);
    }
}

// ---- calls

bool Eviction::admissible(std::uint64_t key_hash, std::uint32_t size) noexcept {
    if (size <= 1 || size <= bytes() / 4 || state_.follows_lru) return true;
    const std::uint32_t print = fingerprint(key_hash);
    if (take_ghost(print)) {
        remember(print);
        return true;
    }
    play(print, size);
    remember(print);
    return false;
}

void Eviction::admit(std::uint32_t index, std::uint64_t key_hash, std::uint32_t size) noexcept {
    EvictionNodeShared& entry = node(index);
    entry.size = size;
    entry.fingerprint = fingerprint(key_hash);
    entry.use.store(hit_epoch_bits(state_.epoch - 1), std::memory_order_relaxed);
    const bool known = take_ghost(entry.fingerprint);
    link(index, known || state_.follows_lru ? kMain : kSmall, state_.epoch, 0);
    while (entries() >> state_.duel.shift > kSampleTarget) thin_sample();
    play(entry.fingerprint, size);
    watch(index);
    count_admission();
}

std::uint32_t Eviction::victim(EvictionDeadFn dead, void* context) noexcept {
    std::uint32_t best = kNoNode;
    std::uint32_t best_merit = UINT32_MAX;
    for (int looked = 0; looked < kEvictionInspections; looked++) {
        const std::uint32_t small = state_.small.oldest;
        const std::uint32_t main = oldest_in_main();
        bool from_small = main == kNoNode;
        if (small != kNoNode && main != kNoNode)
            from_small = state_.follows_lru
                             ? static_cast<std::int32_t>(node(small).epoch - node(main).epoch) <= 0
                             : state_.main_bytes <= bytes() - bytes() / 4;
        const std::uint32_t index = from_small ? small : main;
        if (index == kNoNode) return kNoNode;
        if (dead != nullptr && dead(context, index)) return index;

        EvictionNodeShared& entry = node(index);
        const std::uint8_t hits = entry.use.load(std::memory_order_relaxed) & kHits;
        if (hits == 0) return index;
        std::uint32_t epoch = state_.epoch;
        if (state_.follows_lru) {
            epoch = last_hit(entry);
            if (!from_small && static_cast<std::int32_t>(epoch - entry.epoch) <= 0) return index;
            if (static_cast<std::int32_t>(epoch - state_.oldest_epoch) < 0) epoch = state_.oldest_epoch;
        }
        const std::uint32_t merit = state_.follows_lru ? epoch - state_.oldest_epoch : hits;
        if (merit < best_merit) {
            best = index;
            best_merit = merit;
        }
        unlink(index);
        link(index, kMain, epoch, from_small || state_.follows_lru ? 0 : static_cast<std::uint8_t>(hits - 1));
    }
    return best;
}

void Eviction::postpone(std::uint32_t index) noexcept {
    const std::uint8_t hits = node(index).use.load(std::memory_order_relaxed) & kHits;
    unlink(index);
    link(index, kMain, state_.epoch, hits);
}

void Eviction::evict(std::uint32_t index) noexcept {
    if (node(index).queue == kSmall || state_.follows_lru) remember(node(index).fingerprint);
    remove(index);
}

void Eviction::remove(std::uint32_t index) noexcept {
    EvictionNodeShared& entry = node(index);
    if (entry.watch != 0) play_hit(entry);
    unwatch(entry);
    unlink(index);
}

void Eviction::replace(std::uint32_t from, std::uint32_t to, std::uint32_t size) noexcept {
    EvictionNodeShared& old = node(from);
    EvictionNodeShared& entry = node(to);
    EvictionListShared& list = list_of(old);
    entry.newer = old.newer;
    entry.older = old.older;
    entry.size = size;
    entry.fingerprint = old.fingerprint;
    entry.epoch = old.epoch;
    entry.use.store(old.use.load(std::memory_order_relaxed), std::memory_order_relaxed);
    entry.queue = old.queue;
    entry.watch = old.watch;
    (entry.newer != kNoNode ? node(entry.newer).older : list.newest) = to;
    (entry.older != kNoNode ? node(entry.older).newer : list.oldest) = to;
    std::uint64_t& sum = entry.queue == kSmall ? state_.small_bytes : state_.main_bytes;
    sum = sum - old.size + size;
    if (entry.watch != 0) state_.duel.watched[entry.watch - 1] = to;
    old.newer = old.older = kNoNode;
    old.queue = kNowhere;
    old.watch = 0;
}

bool Eviction::consistent() const noexcept {
    std::uint64_t sums[3] = {0, 0, 0};
    std::uint32_t counts[3] = {0, 0, 0};
    std::uint32_t watched = 0;
    for (std::uint32_t at = 0; at <= kEvictionBuckets; at++) {
        const EvictionListShared& list = at < kEvictionBuckets ? state_.buckets[at] : state_.small;
        const std::uint8_t queue = at < kEvictionBuckets ? kMain : kSmall;
        std::uint32_t newer = kNoNode;
        for (std::uint32_t index = list.newest; index != kNoNode; index = node(index).older) {
            const EvictionNodeShared& entry = node(index);
            if (entry.newer != newer || entry.queue != queue || &list_of(entry) != &list) return false;
            if (entry.watch != 0 && state_.duel.watched[entry.watch - 1] != index) return false;
            if (++counts[queue] > entries()) return false;
            sums[queue] += entry.size;
            watched += entry.watch != 0;
            newer = index;
        }
        if (list.oldest != newer) return false;
    }
    return sums[kSmall] == state_.small_bytes && sums[kMain] == state_.main_bytes &&
           counts[kSmall] == state_.small_entries && counts[kMain] == state_.main_entries &&
           watched == state_.duel.watched_count;
}

}  // namespace prompt_cache::core
