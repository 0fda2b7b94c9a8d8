// The order of eviction; the contract is in eviction.hpp.
//
// For now a two-bit CLOCK in one queue.
#include "eviction.hpp"

namespace prompt_cache::core {

namespace {
constexpr std::uint8_t kMaxUse = 3;
constexpr std::uint8_t kNoQueue = 0;
constexpr std::uint8_t kMain = 1;
}  // namespace

void Eviction::init(EvictionShared& state, std::uint32_t namespace_id) noexcept {
    state = EvictionShared{};
    for (EvictionListShared& list : state.lists) list.newest = list.oldest = kNoNode;
    state.salt = namespace_id * 0x9e3779b9U;
}

void Eviction::touch(const EvictionShared&, EvictionNodeShared& node) noexcept {
    const std::uint8_t use = node.use.load(std::memory_order_relaxed);
    if (use < kMaxUse) node.use.store(static_cast<std::uint8_t>(use + 1), std::memory_order_relaxed);
}

void Eviction::push_newest(std::uint8_t queue, std::uint32_t index) noexcept {
    EvictionListShared& list = state_.lists[queue];
    EvictionNodeShared& entry = node(index);
    entry.queue = queue;
    entry.prev = kNoNode;
    entry.next = list.newest;
    if (list.newest != kNoNode)
        node(list.newest).prev = index;
    else
        list.oldest = index;
    list.newest = index;
    list.bytes += entry.size;
    list.entries++;
}

void Eviction::unlink(std::uint32_t index) noexcept {
    EvictionNodeShared& entry = node(index);
    EvictionListShared& list = state_.lists[entry.queue];
    if (entry.prev != kNoNode)
        node(entry.prev).next = entry.next;
    else
        list.newest = entry.next;
    if (entry.next != kNoNode)
        node(entry.next).prev = entry.prev;
    else
        list.oldest = entry.prev;
    list.bytes -= entry.size;
    list.entries--;
    entry.prev = entry.next = kNoNode;
    entry.queue = kNoQueue;
}

void Eviction::admit(std::uint32_t index, std::uint64_t key_hash, std::uint32_t size) noexcept {
    EvictionNodeShared& entry = node(index);
    entry.size = size;
    entry.fingerprint = static_cast<std::uint32_t>(key_hash ^ (key_hash >> 32)) ^ state_.salt;
    entry.stamp = state_.clock++;
    entry.history = 0;
    entry.use.store(0, std::memory_order_relaxed);
    push_newest(kMain, index);
}

std::uint32_t Eviction::victim(EvictionDeadFn dead, void* context) noexcept {
    std::uint32_t best = kNoNode;
    std::uint8_t best_use = UINT8_MAX;
    for (int looked = 0; looked < kEvictionInspections; looked++) {
        const std::uint32_t index = state_.lists[kMain].oldest;
        if (index == kNoNode) return kNoNode;
        EvictionNodeShared& entry = node(index);
        const std::uint8_t use = entry.use.load(std::memory_order_relaxed);
        if (use == 0 || (dead != nullptr && dead(context, index))) return index;
        if (use < best_use) {
            best = index;
            best_use = use;
        }
        entry.use.store(static_cast<std::uint8_t>(use - 1), std::memory_order_relaxed);
        unlink(index);
        push_newest(kMain, index);
    }
    return best;
}

void Eviction::evict(std::uint32_t index) noexcept {
    unlink(index);
}

void Eviction::remove(std::uint32_t index) noexcept {
    unlink(index);
}

void Eviction::replace(std::uint32_t from, std::uint32_t to, std::uint32_t size) noexcept {
    EvictionNodeShared& old = node(from);
    EvictionNodeShared& entry = node(to);
    EvictionListShared& list = state_.lists[old.queue];
    entry.prev = old.prev;
    entry.next = old.next;
    entry.size = size;
    entry.fingerprint = old.fingerprint;
    entry.stamp = old.stamp;
    entry.queue = old.queue;
    entry.history = old.history;
    entry.use.store(old.use.load(std::memory_order_relaxed), std::memory_order_relaxed);
    if (entry.prev != kNoNode)
        node(entry.prev).next = to;
    else
        list.newest = to;
    if (entry.next != kNoNode)
        node(entry.next).prev = to;
    else
        list.oldest = to;
    list.bytes = list.bytes - old.size + size;
    old.prev = old.next = kNoNode;
    old.queue = kNoQueue;
}

std::uint64_t Eviction::bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const EvictionListShared& list : state_.lists) sum += list.bytes;
    return sum;
}

std::uint32_t Eviction::entries() const noexcept {
    std::uint32_t sum = 0;
    for (const EvictionListShared& list : state_.lists) sum += list.entries;
    return sum;
}

bool Eviction::consistent() const noexcept {
    for (std::uint8_t queue = 0; queue < 4; queue++) {
        const EvictionListShared& list = state_.lists[queue];
        std::uint64_t size_sum = 0;
        std::uint32_t count = 0;
        std::uint32_t newer = kNoNode;
        for (std::uint32_t index = list.newest; index != kNoNode; index = node(index).next) {
            const EvictionNodeShared& entry = node(index);
            if (entry.prev != newer || entry.queue != queue || count == list.entries) return false;
            size_sum += entry.size;
            count++;
            newer = index;
        }
        if (list.oldest != newer || count != list.entries || size_sum != list.bytes) return false;
    }
    return true;
}

}  // namespace prompt_cache::core
