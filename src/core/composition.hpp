// The bytes of a prompt: how its three layers are joined, and where each lies in the whole.
//
// These bytes are frozen. Model providers cache by exact prefix, so every server and version must produce the
// same. A layer that is NULL or empty leaves nothing behind, neither heading nor separator.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>

namespace prompt_cache::core {

inline constexpr std::string_view kSeparator = "\n\n";

enum LayerIndex : unsigned { kApplicationLayer, kTenantLayer, kUserLayer, kLayers };

inline constexpr std::array<std::string_view, kLayers> kHeadings = {"", "--- Tenant Guidelines ---\n",
                                                                    "--- User Preferences ---\n"};

class Composition {
  public:
    explicit constexpr Composition(std::array<std::size_t, kLayers> lengths) noexcept : lengths_(lengths) {
        for (unsigned layer = 0; layer < kLayers; layer++) {
            if (lengths_[layer] == 0) continue;
            if (size_ > 0) size_ += kSeparator.size();
            size_ += kHeadings[layer].size();
            offsets_[layer] = size_;
            size_ += lengths_[layer];
        }
    }

    constexpr std::size_t size() const noexcept { return size_; }
    constexpr std::size_t length(unsigned layer) const noexcept { return lengths_[layer]; }
    // Where the layer's own text begins; only for a layer that is not empty.
    constexpr std::size_t offset(unsigned layer) const noexcept { return offsets_[layer]; }

    // Everything between the layers' texts. `to` has room for size() bytes.
    void write_frame(char* to) const noexcept {
        std::size_t at = 0;
        for (unsigned layer = 0; layer < kLayers; layer++) {
            if (lengths_[layer] == 0) continue;
            if (at > 0) at = put(to, at, kSeparator);
            at = put(to, at, kHeadings[layer]) + lengths_[layer];
        }
    }

    // The layer's text inside a composed prompt of this shape.
    std::string_view layer_of(std::string_view prompt, unsigned layer) const noexcept {
        if (lengths_[layer] == 0 || lengths_[layer] > prompt.size() ||
            offsets_[layer] > prompt.size() - lengths_[layer])
            return {};
        return {prompt.data() + offsets_[layer], lengths_[layer]};
    }

  private:
    static std::size_t put(char* to, std::size_t at, std::string_view bytes) noexcept {
        memcpy(to + at, bytes.data(), bytes.size());
        return at + bytes.size();
    }

    std::array<std::size_t, kLayers> lengths_;
    std::array<std::size_t, kLayers> offsets_{};
    std::size_t size_ = 0;
};

}  // namespace prompt_cache::core
