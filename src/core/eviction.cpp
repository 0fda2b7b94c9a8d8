// The order of eviction; the contract is in eviction.hpp.
//
// Two policies, one set of lists:
//
//   queue  holds                 S3-FIFO evicts its oldest             LRU evicts its oldest
//   small  new entries, by age   when main is within 3/4 of the whole  when older than main's
//            hit: to main        at the new end                        where its last hit was
//   main   ghosts, hit entries   otherwise                             otherwise
//            hit: to main        at the new end, one hit less          where its last hit was
//   new entries go to            small, or main if a ghost             main
//
// LRU order without moving anything on a hit: time is cut into epochs of 1/24 of the entries admitted, a hit
// leaves its epoch in the entry's byte, and main is a row of buckets, one an epoch.  An entry found at the
// old end with a younger hit moves to that epoch's bucket.  That is LRU but for the order inside an epoch:
// 0.04 points above it on average, at worst one below (loops as large as the cache), where a two-bit CLOCK
// loses up to eight.  When the buckets run out, the two oldest become one: an epoch before oldest_epoch means
// the bucket of oldest_epoch.
//
// The duel between the two, on a sample of the keys, is eviction_duel.hpp.  It needs the requests: misses come
// here by themselves, and hits are found once an epoch in the byte of the watched entries, those of the sample
// that are resident.  Hits repeated within an epoch count once for the lead, since both policies would have hit
// them, and as often as the byte tells for S3-FIFO's order.  Changing sides moves nothing: both understand what
// the other leaves behind.
//
// Why not sets of the cache that always run one policy, and the rest the better: the losing set costs its
// share of a difference that reaches forty points, and a cache of sixty entries has no sets.
#include "eviction.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace prompt_cache::core {

namespace {

constexpr std::uint32_t kEpochsPerTurn = 24;  // a turn: as many admissions as there are entries
constexpr std::uint32_t kSampleTarget = 1024;
constexpr std::uint64_t kLargeShare = 64;  // large is what takes more than this part of the room
constexpr std::int64_t kFade = 32;         // turns of the sample that the lead remembers
constexpr std::int64_t kMargin = 5;        // hits of lead before the entries change sides

enum EvictionQueue : std::uint8_t { kNowhere = 0, kSmall = 1, kMain = 2 };

constexpr std::uint32_t kHitEpochs = 64;  // what six bits tell apart
constexpr std::int64_t kOneHit = 1 << 20;

std::uint8_t hit_epoch_bits(std::uint32_t epoch) noexcept {
    return static_cast<std::uint8_t>(epoch % kHitEpochs << 2);
}

// Would it fill the small queue alone?
bool too_large(std::uint64_t size, std::uint64_t room) noexcept {
    return size > 1 && size > room / 4;
}

// Stamps count in millionths of the configured capacity: their 32 bits wrap around after four thousand turns,
// when no ghost of the last time is left. The filled size is no unit: it changes, and old stamps would mean other ages.
int stamp_shift(std::uint64_t capacity) noexcept {
    return std::max(static_cast<int>(std::bit_width(capacity)) - 20, 0);
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

void Eviction::set_capacity(std::uint64_t capacity) noexcept {
    state_.capacity = capacity;
    if (capacity != 0) state_.room = capacity;
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
    uses_[index].store(
        static_cast<std::uint8_t>((uses_[index].load(std::memory_order_relaxed) & ~kHits) | hits),
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

std::uint32_t Eviction::last_hit(std::uint32_t index) const noexcept {
    const std::uint32_t bits = uses_[index].load(std::memory_order_relaxed) >> 2;
    return state_.epoch - (state_.epoch - bits) % kHitEpochs;
}

void Eviction::count_admission() noexcept {
    if (++state_.admitted * kEpochsPerTurn < entries()) return;
    state_.admitted = 0;
    begin_epoch();
}

void Eviction::begin_epoch() noexcept {
    for (std::uint32_t at = 0; at < state_.duel.watched_count; at++) play_hit(state_.duel.watched[at]);
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
    // Filled less for a while: the caller gives less room than it did.
    if (state_.capacity == 0 && state_.room > bytes()) state_.room -= (state_.room - bytes() + 7) / 8;
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

EvictionGhostShared* Eviction::ghost_bucket(std::uint32_t fingerprint) const noexcept {
    const std::uint64_t bucket = static_cast<std::uint64_t>(fingerprint) * ghost_buckets_ >> 32;
    return ghosts_ + bucket * kGhostWays;
}

std::uint32_t Eviction::stamp() const noexcept {
    return static_cast<std::uint32_t>(state_.remembered >> stamp_shift(state_.capacity));
}

bool Eviction::take_ghost(std::uint32_t fingerprint, std::uint32_t size) noexcept {
    if (ghost_buckets_ == 0) return false;
    EvictionGhostShared* const bucket = ghost_bucket(fingerprint);
    for (std::uint32_t way = 0; way < kGhostWays; way++) {
        if (bucket[way].fingerprint != fingerprint) continue;
        const std::uint64_t age = std::uint64_t{stamp() - bucket[way].stamp} << stamp_shift(state_.capacity);
        std::memmove(&bucket[way], &bucket[way + 1], (kGhostWays - 1 - way) * sizeof(*bucket));
        bucket[kGhostWays - 1] = {0, 0};
        // So much more than S3-FIFO has: room was made, and ghosts with it, before this one was asked for.
        return age <= ghost_window(state_.room) + size;
    }
    return false;
}

void Eviction::remember(std::uint32_t fingerprint, std::uint32_t size) noexcept {
    if (ghost_buckets_ == 0) return;
    EvictionGhostShared* const bucket = ghost_bucket(fingerprint);
    std::memmove(&bucket[1], &bucket[0], (kGhostWays - 1) * sizeof(*bucket));
    bucket[0] = {fingerprint, stamp()};
    state_.remembered += size;
}

// ---- the duel

bool Eviction::large(std::uint32_t size) const noexcept {
    return state_.duel.shift > 0 && size > state_.room / kLargeShare;
}

bool Eviction::in_sample(const EvictionNodeShared& entry) const noexcept {
    return state_.duel.sampled(entry.fingerprint) || large(entry.size);
}

// What is large is rare and pushes much out: a sample of the keys would miss it or be ruled by it. So all of
// it is played, by the share that the sample has of the whole, and its own hits count as that share.
void Eviction::play(std::uint32_t fingerprint, std::uint32_t size, std::uint32_t hits) noexcept {
    DuelShared& duel = state_.duel;
    const bool by_share = large(size);
    if (!by_share && !duel.sampled(fingerprint)) return;
    const std::uint64_t room = state_.room >> duel.shift;
    const auto most = static_cast<std::uint32_t>(std::min<std::uint64_t>(room / 8, UINT32_MAX));
    std::uint32_t played_size = size;
    if (by_share)
        played_size = std::max(size >> duel.shift, 1U);
    else if (duel.shift > 0)
        played_size = std::min(size, most);  // in a small sample of many entries one must not rule either
    const int lead = duel.play({fingerprint, played_size, hits, too_large(size, state_.room)}, room);
    duel.lead -= duel.lead / (kFade * (duel.watched_count + 8));
    duel.lead += lead * (by_share ? kOneHit >> duel.shift : kOneHit);
    if (duel.lead > kMargin * kOneHit)
        state_.follows_lru = 1;
    else if (duel.lead < -kMargin * kOneHit)
        state_.follows_lru = 0;
}

void Eviction::play_hit(std::uint32_t index) noexcept {
    const EvictionNodeShared& entry = node(index);
    const std::uint32_t age = state_.epoch - last_hit(index);
    const std::uint32_t hits = uses_[index].load(std::memory_order_relaxed) & kHits;
    if (age == 0) {
        play(entry.fingerprint, entry.size, std::max(hits, 1U));
    } else if (age >= kHitEpochs / 2) {
        // Soon the six bits would come round and look like a hit.
        uses_[index].store(static_cast<std::uint8_t>(hit_epoch_bits(state_.epoch - 1) | hits),
                           std::memory_order_relaxed);
    }
}

void Eviction::watch(std::uint32_t index) noexcept {
    EvictionNodeShared& entry = node(index);
    DuelShared& duel = state_.duel;
    entry.watch = 0;
    if (!in_sample(entry) || duel.watched_count == kDuelSlots) return;
    duel.watched[duel.watched_count++] = index;
    entry.watch = static_cast<std::uint16_t>(duel.watched_count);
}

void Eviction::unwatch(EvictionNodeShared& entry) noexcept {
    if (entry.watch == 0) return;
    DuelShared& duel = state_.duel;
    const std::uint32_t moved = duel.watched[--duel.watched_count];
    duel.watched[entry.watch - 1] = moved;
    node(moved).watch = entry.watch;
    entry.watch = 0;
}

// As the namespace grows, half the keys leave the sample; when it has shrunk a lot, the duel begins anew.
void Eviction::fit_sample() noexcept {
    DuelShared& duel = state_.duel;
    if (duel.shift > 0 && entries() >> duel.shift < kSampleTarget / 8) {
        while (duel.watched_count > 0) unwatch(node(duel.watched[duel.watched_count - 1]));
        duel.begin_anew();
    }
    while (entries() >> duel.shift > kSampleTarget) {
        duel.halve_sample();
        for (std::uint32_t at = duel.watched_count; at-- > 0;) {
            EvictionNodeShared& entry = node(duel.watched[at]);
            if (!in_sample(entry)) unwatch(entry);
        }
    }
}

// ---- calls

bool Eviction::admissible(std::uint64_t key_hash, std::uint32_t size) noexcept {
    if (!too_large(size, state_.room) || state_.follows_lru) return true;
    play(fingerprint(key_hash), size);
    return false;
}

void Eviction::admit(std::uint32_t index, std::uint64_t key_hash, std::uint32_t size) noexcept {
    EvictionNodeShared& entry = node(index);
    entry.size = size;
    entry.fingerprint = fingerprint(key_hash);
    uses_[index].store(hit_epoch_bits(state_.epoch - 1), std::memory_order_relaxed);
    const bool known = take_ghost(entry.fingerprint, size);
    link(index, known || state_.follows_lru ? kMain : kSmall, state_.epoch, 0);
    if (bytes() > state_.room && state_.capacity == 0) state_.room = bytes();
    fit_sample();
    watch(index);
    play(entry.fingerprint, size);
    count_admission();
}

bool Eviction::small_goes(std::uint32_t small, std::uint32_t main) const noexcept {
    if (small == kNoNode || main == kNoNode) return main == kNoNode;
    if (state_.follows_lru) return static_cast<std::int32_t>(node(small).epoch - node(main).epoch) <= 0;
    return state_.main_bytes <= state_.room - state_.room / 4;
}

std::uint32_t Eviction::victim(EvictionDeadFn dead, void* context) noexcept {
    std::uint32_t best = kNoNode;
    std::uint32_t best_merit = UINT32_MAX;
    bool from_small = small_goes(state_.small.oldest, oldest_in_main());
    for (int looked = 0; looked < kEvictionInspections; looked++) {
        const std::uint32_t small = state_.small.oldest;
        const std::uint32_t main = oldest_in_main();
        // S3-FIFO stays with its queue until an entry goes, LRU compares again.
        if (state_.follows_lru || (from_small ? small : main) == kNoNode)
            from_small = small_goes(small, main);
        const std::uint32_t index = from_small ? small : main;
        if (index == kNoNode) return kNoNode;
        if (dead != nullptr && dead(context, index)) return index;

        EvictionNodeShared& entry = node(index);
        const std::uint8_t hits = uses_[index].load(std::memory_order_relaxed) & kHits;
        if (hits == 0) return index;
        std::uint32_t epoch = state_.epoch;
        if (state_.follows_lru) {
            epoch = last_hit(index);
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

void Eviction::evict(std::uint32_t index) noexcept {
    const EvictionNodeShared& entry = node(index);
    if (entry.queue == kSmall || state_.follows_lru) remember(entry.fingerprint, entry.size);
    remove(index);
}

void Eviction::remove(std::uint32_t index) noexcept {
    EvictionNodeShared& entry = node(index);
    if (entry.watch != 0) play_hit(index);
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
    uses_[to].store(uses_[from].load(std::memory_order_relaxed), std::memory_order_relaxed);
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
