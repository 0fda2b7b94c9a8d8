// A circuit breaker: after a few failures in a row, whoever it serves is left alone until a probe succeeds.
//
//   failures in a row    state
//   0 … kThreshold - 1   closed: everybody may try
//   kThreshold           open: nobody may, but for the one who probes
//
// A good probe puts it at kThreshold - 1: on trial. The first failure opens it again, the first success sets
// it to 0. So one number is the whole state, and that it is changed by several backends at once needs no
// lock. A success that comes late, from somebody who began before it opened, must not close it.
#pragma once

#include <atomic>
#include <cstdint>

namespace prompt_cache::core {

struct BreakerShared {
    static constexpr std::uint32_t kThreshold = 5;

    std::atomic<std::uint32_t> in_a_row;  // relaxed: it orders nothing else

    bool closed() const noexcept { return in_a_row.load(std::memory_order_relaxed) < kThreshold; }

    // True for the failure that opens it.
    bool failed() noexcept {
        std::uint32_t seen = in_a_row.load(std::memory_order_relaxed);
        while (seen < kThreshold)
            if (in_a_row.compare_exchange_weak(seen, seen + 1, std::memory_order_relaxed))
                return seen + 1 == kThreshold;
        return false;
    }

    void succeeded() noexcept {
        std::uint32_t seen = in_a_row.load(std::memory_order_relaxed);
        while (seen > 0 && seen < kThreshold)
            if (in_a_row.compare_exchange_weak(seen, 0, std::memory_order_relaxed)) return;
    }

    // By the prober alone. True if it changed the state.
    bool probed(bool good) noexcept {
        const bool was_closed = closed();
        if (!good)
            in_a_row.store(kThreshold, std::memory_order_relaxed);
        else if (!was_closed)
            in_a_row.store(kThreshold - 1, std::memory_order_relaxed);
        return was_closed != good;
    }
};

}  // namespace prompt_cache::core
