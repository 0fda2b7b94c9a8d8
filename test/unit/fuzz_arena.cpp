// Drives the arena by bytes, for libFuzzer. Whatever model, self-check or sanitizer complain of is a crash.
//
//     flags="-std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined"
//     clang++ $flags -Isrc -Itest/unit test/unit/fuzz_arena.cpp src/core/arena*.cpp -o build/fuzz_arena
//     build/fuzz_arena -max_total_time=60 -max_len=2048
//
// An even first byte: the second is the size of the arena, the others are operations on it, beside a model
// of what it holds. An odd one: the others are block headers, as a late reader may meet them anywhere, and
// a reader without the lock follows them from every unit.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "arena_model.hpp"
#include "core/arena.hpp"

namespace {

using prompt_cache::core::Arena;
using prompt_cache::core::ArenaShared;
using prompt_cache::test::ArenaModel;

void demand(bool good) {
    if (!good) std::abort();
}

class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}
    bool empty() const { return left_ == 0; }
    std::size_t byte() { return left_ == 0 ? 0 : (--left_, *data_++); }
    std::size_t word() { return byte() << 8 | byte(); }

  private:
    const std::uint8_t* data_;
    std::size_t left_;
};

void operate(Input input) {
    ArenaModel model(static_cast<std::uint32_t>(input.byte() * 2));
    while (!input.empty()) {
        const std::size_t operation = input.byte();
        const std::size_t count = model.values.size();
        switch (operation % 6) {
            case 0:
                demand(model.store(input.byte()));
                break;
            case 1:
                demand(model.store(input.word() % 20000));
                break;
            case 2:  // exactly what is left, or one more
                demand(model.store(model.arena.free_payload_bytes() + (operation > 127)));
                break;
            case 3:
            case 4:
                if (count != 0) demand(model.remove(input.byte() % count));
                break;
            case 5: {
                if (count != 0) demand(model.piece_intact(input.byte() % count, input.word(), input.word()));
                std::vector<unsigned char> copy(input.byte() * 50);  // any index is allowed
                model.arena.read(static_cast<std::uint32_t>(input.word()), input.byte(), copy.data(),
                                 copy.size());
                break;
            }
        }
        demand(model.arena.check());
    }
    demand(model.all_intact());
    demand(model.remove_all());
}

void follow(const std::uint8_t* data, std::size_t size) {
    // Exactly the arena, so that one byte beyond it is an error. Every three bytes are a unit's header.
    const auto units = static_cast<std::uint32_t>(std::min<std::size_t>(size / 3, 64));
    size = units * Arena::kUnitBytes;
    auto* const base = static_cast<std::byte*>(std::aligned_alloc(Arena::kUnitBytes, size));
    std::memset(base, 0, size);
    for (std::uint32_t unit = 0; unit < units; ++unit) {
        const std::uint32_t header[] = {data[3 * unit] << 2 | (data[3 * unit + 1] & 3u), data[3 * unit + 2]};
        std::memcpy(base + unit * Arena::kUnitBytes, header, sizeof(header));
    }
    ArenaShared state{};
    const Arena arena(&state, base, units);
    for (std::uint32_t first = 0; first < units + 2; ++first) {
        const std::size_t bytes = arena.head_bytes(first);
        std::vector<unsigned char> head(std::max(bytes, Arena::kHeadBytes));
        if (const void* payload = arena.payload(first))
            std::memcpy(head.data(), payload, head.size());
        else
            demand(bytes == 0);
        for (const std::size_t n : {bytes, bytes + 1, size, size + 1}) {
            std::vector<unsigned char> copy(n);
            arena.read(first, n % 7, copy.data(), n);
        }
    }
    std::free(base);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    if (data[0] % 2 == 0)
        operate(Input(data + 1, size - 1));
    else
        follow(data + 1, size - 1);
    return 0;
}
