#include "tier/redis_config.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pg/settings.hpp"

namespace prompt_cache {

namespace {

RedisConfig config_local;

// A secret of whoever runs the server: a plain file that nobody else may read. Nothing on success, else what
// is wrong.
const char* read_private_file(const char* path, std::span<char> buffer, std::string_view& text) noexcept {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return "cannot be opened";
    struct stat status {};
    const char* problem = nullptr;
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode))
        problem = "is not a plain file";
    else if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        problem = "may be read by others than its owner: chmod 0600";
    const ssize_t size = problem ? 0 : read(file, buffer.data(), buffer.size());
    close(file);
    if (problem) return problem;
    if (size < 0) return "cannot be read";
    if (static_cast<std::size_t>(size) == buffer.size()) return "is too long";
    text = {buffer.data(), static_cast<std::size_t>(size)};
    return nullptr;
}

std::string_view first_line(std::string_view text) noexcept {
    const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
    return {text.data(), end};
}

// user:password, or a password alone.
const char* read_auth(RedisConfig& config) noexcept {
    char buffer[1024];
    std::string_view text;
    if (const char* problem = read_private_file(settings::redis_auth_file, buffer, text)) return problem;
    std::string_view password = first_line(text);
    std::string_view user;
    if (const std::size_t colon = password.find(':'); colon != password.npos) {
        user = {password.data(), colon};
        password.remove_prefix(colon + 1);
    }
    const bool fits = user.size() < sizeof(config.user) && password.size() < sizeof(config.password);
    if (fits) {
        std::copy(user.begin(), user.end(), config.user);
        std::copy(password.begin(), password.end(), config.password);
    }
    explicit_bzero(buffer, sizeof(buffer));
    return !fits ? "is too long" : config.password[0] == '\0' ? "has no password in its first line" : nullptr;
}

int hex_digit(char c) noexcept {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// 32 bytes, or 64 hexadecimal digits in the first line.
const char* read_key(RedisConfig& config) noexcept {
    char buffer[256];
    std::string_view text;
    if (const char* problem = read_private_file(settings::redis_key_file, buffer, text)) return problem;
    char secret[SealKey::kSecretBytes];
    bool good = text.size() == sizeof(secret);
    if (good) {
        memcpy(secret, text.data(), sizeof(secret));
    } else if (const std::string_view line = first_line(text); line.size() == 2 * sizeof(secret)) {
        good = true;
        for (std::size_t i = 0; i < sizeof(secret); i++) {
            const int high = hex_digit(line[2 * i]), low = hex_digit(line[2 * i + 1]);
            good = good && high >= 0 && low >= 0;
            secret[i] = static_cast<char>(high << 4 | low);
        }
    }
    good = good && derive_seal_key({secret, sizeof(secret)}, config.key);
    explicit_bzero(buffer, sizeof(buffer));
    explicit_bzero(secret, sizeof(secret));
    return good ? nullptr : "is neither 32 bytes nor 64 hexadecimal digits";
}

// A file that cannot be used turns the tier off: nothing ever goes out without the key that was asked for.
void read_config(RedisConfig& config) noexcept {
    static char problem[256];
    explicit_bzero(&config.password, sizeof(config.password));
    config = RedisConfig{};
    config.loaded = PgReloadTime;
    const char* const url = settings::redis_url ? settings::redis_url : "";
    if (*url == '\0' || core::parse_redis_url(url, config.url)) return;
    const auto use = [&](const char* setting, const char* path, auto read) {
        const char* wrong = path && *path ? read(config) : nullptr;
        if (!wrong) return true;
        snprintf(problem, sizeof(problem), "%s \"%s\" %s", setting, path, wrong);
        config.problem = problem;
        return false;
    };
    config.on = use("redis_auth_file", settings::redis_auth_file, read_auth) &&
                use("redis_key_file", settings::redis_key_file, read_key);
}

}  // namespace

const RedisConfig& redis_config() noexcept {
    if (config_local.loaded != PgReloadTime || config_local.loaded == 0) read_config(config_local);
    return config_local;
}

}  // namespace prompt_cache
