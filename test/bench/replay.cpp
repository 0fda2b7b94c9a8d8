// Replays a trace through the eviction code of the server and prints what it hits.
//
//   replay TRACE CAPACITY [--bytes]       one request a line: "key" or "key size"
//
// CAPACITY counts objects of size 1, or with --bytes the bytes of the objects (1 where a line has no size).
// The rule is that of a plain cache: on a miss entries go until the new one fits, a larger one than the cache
// is not let in.  Prints "requests=N hits=H".
//
// The trace is read once and nothing is known of what comes later.  Keys are strings; each gets a node the
// first time it is let in, so the arena here is a growing block of nodes and an index stays what it is.
#include "../../src/core/eviction.hpp"

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace {

using prompt_cache::core::Eviction;
using prompt_cache::core::EvictionGhostShared;
using prompt_cache::core::EvictionNodeShared;
using prompt_cache::core::EvictionShared;
using prompt_cache::core::EvictionUseShared;
using prompt_cache::core::kNoNode;

constexpr std::uint32_t kMaxGhosts = 1U << 20;

// FNV-1a with a final mix: the policy wants all bits to depend on all of the key.
std::uint64_t hash_of(std::string_view key) {
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdU;
    return hash ^ (hash >> 33);
}

struct Slot {
    EvictionNodeShared node;
    bool resident;
};

class Replay {
  public:
    explicit Replay(std::uint64_t capacity) : capacity_(capacity) {
        ghosts_.resize(capacity < kMaxGhosts / 2 ? capacity * 2 + 64 : kMaxGhosts);
        Eviction::init(*state_, 0);
        Eviction(*state_, nullptr, sizeof(Slot), nullptr, nullptr, 0).set_capacity(capacity);
    }
    ~Replay() {
        std::free(slots_);
        std::free(static_cast<void*>(uses_));
        delete state_;
    }
    Replay(const Replay&) = delete;
    Replay& operator=(const Replay&) = delete;

    bool request(std::string_view key, std::uint64_t size) {
        requests_++;
        const std::uint32_t index = index_of(key);
        if (slots_[index].resident) {
            hits_++;
            Eviction::touch(*state_, uses_[index]);
            return true;
        }
        if (size > capacity_ || size > UINT32_MAX) return true;
        Eviction order(*state_, &slots_->node, sizeof(Slot), uses_, ghosts_.data(),
                       static_cast<std::uint32_t>(ghosts_.size()));
        const std::uint64_t hash = hash_of(key);
        const auto units = static_cast<std::uint32_t>(size);
        if (order.bytes() + size > capacity_ && !order.admissible(hash, units)) return true;
        while (order.bytes() + size > capacity_) {
            const std::uint32_t victim = order.victim(nullptr, nullptr);
            if (victim == kNoNode) return false;
            order.evict(victim);
            slots_[victim].resident = false;
        }
        order.admit(index, hash, units);
        slots_[index].resident = true;
        return true;
    }

    std::uint64_t requests() const { return requests_; }
    std::uint64_t hits() const { return hits_; }
    bool consistent() const {
        return slots_ == nullptr ||
               Eviction(*state_, &slots_->node, sizeof(Slot), uses_, nullptr, 0).consistent();
    }

  private:
    std::uint32_t index_of(std::string_view key) {
        const auto [found, added] = indices_.try_emplace(std::string(key), count_);
        if (!added) return found->second;
        if (count_ == room_) {
            room_ = room_ == 0 ? 1024 : room_ * 2;
            slots_ = static_cast<Slot*>(std::realloc(static_cast<void*>(slots_), room_ * sizeof(Slot)));
            uses_ = static_cast<EvictionUseShared*>(
                std::realloc(static_cast<void*>(uses_), room_ * sizeof(EvictionUseShared)));
            if (slots_ == nullptr || uses_ == nullptr) std::abort();
        }
        std::memset(static_cast<void*>(&slots_[count_]), 0, sizeof(Slot));
        std::memset(static_cast<void*>(&uses_[count_]), 0, sizeof(EvictionUseShared));
        return count_++;
    }

    std::uint64_t capacity_;
    std::uint64_t requests_ = 0;
    std::uint64_t hits_ = 0;
    std::unordered_map<std::string, std::uint32_t> indices_;
    std::vector<EvictionGhostShared> ghosts_;
    EvictionShared* state_ = new EvictionShared;
    Slot* slots_ = nullptr;
    EvictionUseShared* uses_ = nullptr;
    std::size_t room_ = 0;
    std::uint32_t count_ = 0;
};

bool parse_number(std::string_view text, std::uint64_t& value) {
    if (text.empty() || text.size() > 19) return false;
    value = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return false;
        value = value * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return true;
}

std::string_view next_word(std::string_view& rest) {
    constexpr std::string_view kBlank = " \t\r\n";
    const std::size_t from = rest.find_first_not_of(kBlank);
    if (from == std::string_view::npos) return {};
    std::size_t to = rest.find_first_of(kBlank, from);
    if (to == std::string_view::npos) to = rest.size();
    const std::string_view word = rest.substr(from, to - from);
    rest.remove_prefix(to);
    return word;
}

}  // namespace

int main(int argc, char** argv) {
    const bool bytes = argc == 4 && std::strcmp(argv[3], "--bytes") == 0;
    std::uint64_t capacity = 0;
    if ((argc != 3 && !bytes) || !parse_number(argv[2], capacity) || capacity == 0) {
        std::fprintf(stderr, "usage: replay TRACE CAPACITY [--bytes]\n");
        return 2;
    }
    std::FILE* file = std::fopen(argv[1], "r");
    if (file == nullptr) {
        std::perror(argv[1]);
        return 1;
    }
    Replay replay(capacity);
    char* line = nullptr;
    std::size_t room = 0;
    std::uint64_t number = 0;
    for (ssize_t length; (length = getline(&line, &room, file)) >= 0;) {
        number++;
        std::string_view rest(line, static_cast<std::size_t>(length));
        const std::string_view key = next_word(rest);
        if (key.empty()) continue;
        const std::string_view size_text = next_word(rest);
        std::uint64_t size = 1;
        if (bytes && !size_text.empty() && !parse_number(size_text, size)) {
            std::fprintf(stderr, "%s:%" PRIu64 ": not a size\n", argv[1], number);
            return 1;
        }
        if (!replay.request(key, size)) {
            std::fprintf(stderr, "the policy named no victim\n");
            return 1;
        }
    }
    const bool read_error = std::ferror(file) != 0;
    std::free(line);
    std::fclose(file);
    if (read_error || !replay.consistent()) {
        std::fprintf(stderr, read_error ? "read error\n" : "the lists are not consistent\n");
        return 1;
    }
    std::printf("requests=%" PRIu64 " hits=%" PRIu64 "\n", replay.requests(), replay.hits());
    return 0;
}
