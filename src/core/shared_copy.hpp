// Copies between private memory and shared memory that a seqlock protects.
//
// A reader of such memory copies first and looks at the sequence number afterwards: if it moved, the copy is
// thrown away, whatever is in it. The copy may therefore race with a writer. In the server it is a plain
// memcpy, the fastest there is, and nobody looks at its bytes before they are validated. ThreadSanitizer
// cannot know that and would report every such race; under it both directions copy in relaxed atomic
// words (and bytes at ragged ends), which leaves it free to report the races that are real.
// Relaxed words everywhere were rejected: they keep the compiler from using wide registers.
//
// `shared` is the side in shared memory. Any alignment, any length. Whoever stores into that memory by
// other means while readers may be copying uses atomics there.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_THREAD__)
#define PROMPT_CACHE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PROMPT_CACHE_TSAN 1
#endif
#endif

namespace prompt_cache::core {

#ifdef PROMPT_CACHE_TSAN

template <typename Move>
void move_in_words(void* shared, std::size_t n, Move move) noexcept {
    auto* cell = static_cast<std::byte*>(shared);
    for (std::size_t at = 0; at < n;) {
        if (n - at >= 8 && reinterpret_cast<std::uintptr_t>(cell + at) % 8 == 0) {
            move(std::atomic_ref(*reinterpret_cast<std::uint64_t*>(cell + at)), at);
            at += 8;
        } else {
            move(std::atomic_ref(*reinterpret_cast<std::uint8_t*>(cell + at)), at);
            at += 1;
        }
    }
}

inline void copy_in(void* shared, const void* from, std::size_t n) noexcept {
    move_in_words(shared, n, [from](auto cell, std::size_t at) noexcept {
        typename decltype(cell)::value_type word;
        std::memcpy(&word, static_cast<const std::byte*>(from) + at, sizeof(word));
        cell.store(word, std::memory_order_relaxed);
    });
}

inline void copy_out(void* to, void* shared, std::size_t n) noexcept {
    move_in_words(shared, n, [to](auto cell, std::size_t at) noexcept {
        const auto word = cell.load(std::memory_order_relaxed);
        std::memcpy(static_cast<std::byte*>(to) + at, &word, sizeof(word));
    });
}

#else

inline void copy_in(void* shared, const void* from, std::size_t n) noexcept {
    if (n != 0) std::memcpy(shared, from, n);
}

inline void copy_out(void* to, void* shared, std::size_t n) noexcept {
    if (n != 0) std::memcpy(to, shared, n);
}

#endif

}  // namespace prompt_cache::core
