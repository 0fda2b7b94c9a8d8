// The tags a transaction has changed: a bounded set of 64-bit hashes without allocation.
//
// Beyond kMax the set gives up telling tags apart and holds everything: `all()`. Open addressing over twice
// as many cells; 0 marks an empty cell and stands for itself by a flag. Cleared by walking what was added, so
// that a transaction with one change costs one cell.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace prompt_cache::core {

class TagSet {
  public:
    static constexpr std::size_t kMax = 4096;

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
    static std::size_t home(std::uint64_t tag) noexcept { return (tag ^ (tag >> 32)) % kCells; }

    std::size_t free_cell(std::uint64_t tag) const noexcept {
        std::size_t i = home(tag);
        while (cells_[i] != 0) i = (i + 1) % kCells;
        return i;
    }
    // Everything goes, so a whole run of filled cells may.
    void clear_chain(std::size_t i) noexcept {
        for (; cells_[i] != 0; i = (i + 1) % kCells) cells_[i] = 0;
    }

    std::array<std::uint64_t, kCells> cells_{};
    std::array<std::uint64_t, kMax> added_{};
    std::size_t size_ = 0;
    bool all_ = false;
    bool has_zero_ = false;
};

}  // namespace prompt_cache::core
