#include "tier/seal.hpp"

#include <algorithm>
#include <cstring>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace prompt_cache {

using core::Envelope;
using core::EnvelopeSeal;
using core::SealKind;

namespace {

using Digest = std::array<unsigned char, 32>;

unsigned char* bytes_at(std::span<char> bytes, std::size_t offset) noexcept {
    return reinterpret_cast<unsigned char*>(bytes.data()) + offset;
}
const unsigned char* bytes_of(std::string_view text) noexcept {
    return reinterpret_cast<const unsigned char*>(text.data());
}

bool mac(std::span<const unsigned char> key, std::string_view text, Digest& digest) noexcept {
    unsigned length = 0;
    return HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(text), text.size(),
                digest.data(), &length) &&
           length == digest.size();
}

std::size_t body_end(std::span<char> bytes) noexcept {
    return bytes.size() - Envelope::kTrailerBytes;
}

// Of the context, and of header and body.
bool checksum(std::string_view context, std::span<char> bytes, Digest& digest) noexcept {
    const std::uint64_t length = context.size();
    EVP_MD_CTX* hashing = EVP_MD_CTX_new();
    if (!hashing) return false;
    unsigned written = 0;
    const bool good = EVP_DigestInit_ex(hashing, EVP_sha256(), nullptr) == 1 &&
                      EVP_DigestUpdate(hashing, &length, sizeof(length)) == 1 &&
                      EVP_DigestUpdate(hashing, context.data(), context.size()) == 1 &&
                      EVP_DigestUpdate(hashing, bytes.data(), body_end(bytes)) == 1 &&
                      EVP_DigestFinal_ex(hashing, digest.data(), &written) == 1;
    EVP_MD_CTX_free(hashing);
    return good;
}

// The same steps in both directions: key and nonce, context and header as associated data, then the body.
template <auto Init, auto Update>
bool run_cipher(EVP_CIPHER_CTX* cipher, const SealKey& key, std::string_view context,
                std::span<char> bytes) noexcept {
    int written = 0;
    const auto body_bytes = static_cast<int>(body_end(bytes) - Envelope::kHeaderBytes);
    unsigned char* body = bytes_at(bytes, Envelope::kHeaderBytes);
    return Init(cipher, EVP_aes_256_gcm(), nullptr, key.value.data(),
                bytes_at(bytes, Envelope::kNonceOffset)) == 1 &&
           Update(cipher, nullptr, &written, bytes_of(context), static_cast<int>(context.size())) == 1 &&
           Update(cipher, nullptr, &written, bytes_at(bytes, 0), Envelope::kHeaderBytes) == 1 &&
           Update(cipher, body, &written, body, body_bytes) == 1 && written == body_bytes;
}

bool encrypt(const SealKey& key, std::string_view context, std::span<char> bytes) noexcept {
    if (RAND_bytes(bytes_at(bytes, Envelope::kNonceOffset), Envelope::kNonceBytes) != 1) return false;
    EVP_CIPHER_CTX* cipher = EVP_CIPHER_CTX_new();
    if (!cipher) return false;
    int written = 0;
    unsigned char* trailer = bytes_at(bytes, body_end(bytes));
    const bool good =
        run_cipher<EVP_EncryptInit_ex, EVP_EncryptUpdate>(cipher, key, context, bytes) &&
        EVP_EncryptFinal_ex(cipher, trailer, &written) == 1 &&
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, Envelope::kTrailerBytes, trailer) == 1;
    EVP_CIPHER_CTX_free(cipher);
    return good;
}

bool decrypt(const SealKey& key, std::string_view context, std::span<char> bytes) noexcept {
    EVP_CIPHER_CTX* cipher = EVP_CIPHER_CTX_new();
    if (!cipher) return false;
    int written = 0;
    unsigned char* trailer = bytes_at(bytes, body_end(bytes));
    const bool good =
        run_cipher<EVP_DecryptInit_ex, EVP_DecryptUpdate>(cipher, key, context, bytes) &&
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, Envelope::kTrailerBytes, trailer) == 1 &&
        EVP_DecryptFinal_ex(cipher, trailer, &written) == 1;
    EVP_CIPHER_CTX_free(cipher);
    return good;
}

std::string_view to_hex(std::span<const unsigned char> bytes, char* to) noexcept {
    constexpr char kDigits[] = "0123456789abcdef";
    for (std::size_t i = 0; i < bytes.size(); i++) {
        to[2 * i] = kDigits[bytes[i] >> 4];
        to[2 * i + 1] = kDigits[bytes[i] & 15];
    }
    return {to, 2 * bytes.size()};
}

}  // namespace

bool derive_seal_key(std::string_view secret, SealKey& key) noexcept {
    key = SealKey{};
    if (secret.size() != SealKey::kSecretBytes) return false;
    const std::span<const unsigned char> bytes{bytes_of(secret), secret.size()};
    Digest id{};
    if (!mac(bytes, "prompt_cache value", key.value) || !mac(bytes, "prompt_cache name", key.name) ||
        !mac(bytes, "prompt_cache key id", id))
        return false;
    memcpy(&key.id, id.data(), sizeof(key.id));
    return key.present = true;
}

EnvelopeSeal seal_of(const SealKey& key) noexcept {
    return key.present ? EnvelopeSeal{SealKind::kAes256Gcm, key.id} : EnvelopeSeal{};
}

bool seal_envelope(const SealKey& key, std::string_view context, std::span<char> bytes) noexcept {
    if (key.present) return encrypt(key, context, bytes);
    Digest digest{};
    if (!checksum(context, bytes, digest)) return false;
    memcpy(bytes_at(bytes, body_end(bytes)), digest.data(), Envelope::kTrailerBytes);
    return true;
}

SealFault open_envelope(const SealKey& key, const EnvelopeSeal& seal, std::string_view context,
                        std::span<char> bytes) noexcept {
    const EnvelopeSeal ours = seal_of(key);
    if (seal.kind != ours.kind || seal.key_id != ours.key_id) return SealFault::kOtherKey;
    if (key.present) return decrypt(key, context, bytes) ? SealFault::kNone : SealFault::kBroken;
    Digest digest{};
    const bool same =
        checksum(context, bytes, digest) &&
        CRYPTO_memcmp(bytes_at(bytes, body_end(bytes)), digest.data(), Envelope::kTrailerBytes) == 0;
    return same ? SealFault::kNone : SealFault::kBroken;
}

std::string_view hide_name(const SealKey& key, std::uint64_t number,
                           std::array<char, kHiddenNameBytes>& buffer) noexcept {
    std::array<unsigned char, sizeof(number)> bytes{};
    for (std::size_t i = 0; i < bytes.size(); i++)
        bytes[i] = static_cast<unsigned char>(number >> (8 * (bytes.size() - 1 - i)));
    if (!key.present) return to_hex(bytes, buffer.data());
    Digest digest{};
    if (!mac(key.name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, digest)) return {};
    return to_hex(std::span(digest).first<kHiddenNameBytes / 2>(), buffer.data());
}

}  // namespace prompt_cache
