// The tags a transaction has changed: a bounded set of 64-bit hashes without allocation, each with the command that has
// changed it last.
//
// Beyond kMax the set gives up telling tags apart and holds everything: `all()`, changed by the last command that has
// changed anything. Open addressing over twice as many cells; 0 marks an empty cell and has a place of its own. Cleared by
// walking what was added, so that a transaction with one change costs one cell.
//
// A random odd factor decides where a tag belongs (multiply-shift hashing): tags that were chosen without it spread over
// the cells, however they were chosen.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace prompt_cache::core {

// The place of a change in its transaction: the server's command id. A snapshot of command c sees what its own
// transaction has changed in commands before c.
using Command = std::uint32_t;

template <std::size_t kMax>
class BoundedTagSet {
  public:
    // While the set is empty.
    void choose_hash(std::uint64_t random) noexcept { factor_ = random | 1; }

    // Commands never decrease.
    void add(std::uint64_t tag, Command command) noexcept {
        last_ = command;
        if (all_) return;
        const std::size_t cell = cell_of(tag);
        if (!holds(tag, cell)) {
            if (size_ == kMax) {
                all_ = true;
                return;
            }
            added_[size_++] = tag;
            cells_[cell] = tag;
            has_zero_ |= tag == 0;
        }
        commands_[cell] = command;
    }

    void add_all(Command command) noexcept {
        last_ = command;
        all_ = true;
    }

    bool contains(std::uint64_t tag) const noexcept { return all_ || holds(tag, cell_of(tag)); }

    // Was the tag changed in this command or a later one? A snapshot of the command does not see that.
    bool changed_since(std::uint64_t tag, Command command) const noexcept {
        if (all_) return last_ >= command;
        const std::size_t cell = cell_of(tag);
        return holds(tag, cell) && commands_[cell] >= command;
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

    // Where the tag is, or would be.
    std::size_t cell_of(std::uint64_t tag) const noexcept {
        if (tag == 0) return kCells;
        std::size_t i = home(tag);
        while (cells_[i] != 0 && cells_[i] != tag) i = (i + 1) % kCells;
        return i;
    }
    bool holds(std::uint64_t tag, std::size_t cell) const noexcept {
        return tag == 0 ? has_zero_ : cells_[cell] == tag;
    }
    // Everything goes, so a whole run of filled cells may.
    void clear_chain(std::size_t i) noexcept {
        for (; cells_[i] != 0; i = (i + 1) % kCells) cells_[i] = 0;
    }

    std::uint64_t factor_ = 0x9E3779B97F4A7C15;
    std::array<std::uint64_t, kCells + 1> cells_{};  // the last one is 0's
    std::array<Command, kCells + 1> commands_{};     // of the cells that are filled
    std::array<std::uint64_t, kMax> added_{};
    std::size_t size_ = 0;
    Command last_ = 0;
    bool all_ = false;
    bool has_zero_ = false;
};

using TagSet = BoundedTagSet<4096>;

}  // namespace prompt_cache::core
