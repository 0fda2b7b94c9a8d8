// The tags a transaction has changed: a bounded set of 64-bit hashes without allocation.
//
// Beyond kMax the set gives up telling tags apart and holds everything: `all()`. Open addressing over twice
// as many cells; 0 marks an empty cell and stands for itself by a flag. Cleared by walking what was added, so
// that a transaction with one change costs one cell.
//
// Where a tag belongs is decided by a random odd factor (multiply-shift hashing): tags that were chosen without it
// spread over the cells, however they were chosen.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace prompt_cache::core {

class TagSet {
  public:
    static constexpr std::size_t kMax = 4096;

    // While the set is empty.
    void choose_hash(std::uint64_t random) noexcept { factor_ = random | 1; }

    void add(std::uint64_t tag) noexcept {
        if (all_ || contains(tag)) return;
        if (size_ == kMax) {
            all_ = true;
            return;
        }
        added_[size_++] = tag;
        if (tag == 0)
            has_zero_ = true;
        else
            cells_[free_cell(tag)] = tag;
    }

    void add_all() noexcept { all_ = true; }

    bool contains(std::uint64_t tag) const noexcept {
        if (all_) return true;
        if (tag == 0) return has_zero_;
        for (std::size_t i = home(tag); cells_[i] != 0; i = (i + 1) % kCells)
            if (cells_[i] == tag) return true;
        return false;
    }

    bool all() const noexcept { return all_; }
#ifdef PROMPT_CACHE_TEST
    // The cells that contains() looks at, at most.
    std::size_t longest_run() const noexcept {
        std::size_t longest = 0;
        for (std::size_t first = 0; first < kCells; first++) {
            std::size_t length = 0;
            while (length < kCells && cells_[(first + length) % kCells] != 0) length++;
            longest = std::max(longest, length);
        }
        return longest;
    }
#endif
    bool empty() const noexcept { return size_ == 0 && !all_; }
    std::span<const std::uint64_t> tags() const noexcept { return {added_.data(), size_}; }

    void clear() noexcept {
        if (size_ * 8 > kCells)
            cells_.fill(0);
        else
            for (const std::uint64_t tag : tags()) clear_chain(home(tag));
        size_ = 0;
        all_ = has_zero_ = false;
    }

  private:
    static constexpr std::size_t kCells = 2 * kMax;
    std::size_t home(std::uint64_t tag) const noexcept {
        static_assert(std::has_single_bit(kCells));
        return tag * factor_ >> (65 - std::bit_width(kCells));
    }

    std::size_t free_cell(std::uint64_t tag) const noexcept {
        std::size_t i = home(tag);
        while (cells_[i] != 0) i = (i + 1) % kCells;
        return i;
    }
    // Everything goes, so a whole run of filled cells may.
    void clear_chain(std::size_t i) noexcept {
        for (; cells_[i] != 0; i = (i + 1) % kCells) cells_[i] = 0;
    }

    std::uint64_t factor_ = 0x9E3779B97F4A7C15;
    std::array<std::uint64_t, kCells> cells_{};
    std::array<std::uint64_t, kMax> added_{};
    std::size_t size_ = 0;
    bool all_ = false;
    bool has_zero_ = false;
};

}  // namespace prompt_cache::core
