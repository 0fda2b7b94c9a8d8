#include "core/redis_url.hpp"

#include <algorithm>
#include <cstring>

namespace prompt_cache::core {

namespace {

bool take_prefix(std::string_view& text, std::string_view prefix) noexcept {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}

// Digits alone. Not from_chars(), whose tables the library would export.
bool parse_number(std::string_view text, std::uint32_t least, std::uint32_t most,
                  std::uint32_t& number) noexcept {
    number = 0;
    for (const char c : text) {
        if (c < '0' || c > '9' || number > most) return false;
        number = number * 10 + static_cast<std::uint32_t>(c - '0');
    }
    return !text.empty() && number >= least && number <= most;
}

// Not substr(), which would throw.
std::string_view before(std::string_view text, std::size_t at) noexcept {
    return {text.data(), std::min(at, text.size())};
}
std::string_view after(std::string_view text, std::size_t at) noexcept {
    text.remove_prefix(std::min(at + 1, text.size()));
    return text;
}

constexpr std::uint32_t kMostDatabases = 16384;

const char* parse_database(std::string_view text, RedisUrl& url) noexcept {
    if (parse_number(text, 0, kMostDatabases, url.database)) return nullptr;
    return "the database is not a number from 0 to 16384";
}

// A copy with a terminating zero; `to` has room for it.
void copy(std::string_view text, char* to) noexcept {
    memcpy(to, text.data(), text.size());
    to[text.size()] = '\0';
}

const char* parse_socket(std::string_view text, RedisUrl& url) noexcept {
    url.transport = RedisUrl::Transport::kUnix;
    const std::size_t query = text.find('?');
    const std::string_view path = before(text, query);
    if (!path.starts_with('/')) return "the path of a socket is absolute: unix:///path";
    if (path.size() > RedisUrl::kMaxPath) return "the path of a socket has at most 107 bytes";
    copy(path, url.path);
    if (query == text.npos) return nullptr;
    std::string_view option = after(text, query);
    if (!take_prefix(option, "db=")) return "the only option of a socket is ?db=number";
    return parse_database(option, url);
}

const char* parse_host(std::string_view text, RedisUrl& url) noexcept {
    if (text.find('@') != text.npos) return "user and password belong in the file redis_auth_file";
    const std::size_t slash = text.find('/');
    std::string_view place = before(text, slash);
    std::string_view host = place;
    std::string_view port;
    if (take_prefix(place, "[")) {
        const std::size_t bracket = place.find(']');
        if (bracket == place.npos) return "an IPv6 address is in brackets";
        host = before(place, bracket);
        port = after(place, bracket);
    } else if (const std::size_t colon = place.find(':'); colon != place.npos) {
        host = before(place, colon);
        port = place;
        port.remove_prefix(colon);
    }
    if (host.empty()) return "there is no host";
    if (host.size() > RedisUrl::kMaxHost) return "the host has more than 255 bytes";
    // Nothing that a resolver could misread: letters, digits and the punctuation of names and addresses.
    for (const char c : host)
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
              c == '-' || c == '_' || c == ':'))
            return "the host is neither a name nor an address";
    std::uint32_t number = url.port;
    if (!port.empty() && !(take_prefix(port, ":") && parse_number(port, 1, 65535, number)))
        return "the port is not a number from 1 to 65535";
    url.port = static_cast<std::uint16_t>(number);
    copy(host, url.host);
    if (slash == text.npos || slash + 1 == text.size()) return nullptr;
    return parse_database(after(text, slash), url);
}

}  // namespace

const char* parse_redis_url(std::string_view text, RedisUrl& url) noexcept {
    url = RedisUrl{};
    if (text.find('\0') != text.npos) return "it contains a zero byte";
    if (take_prefix(text, "unix://")) return parse_socket(text, url);
    if (take_prefix(text, "rediss://"))
        url.transport = RedisUrl::Transport::kTls;
    else if (!take_prefix(text, "redis://"))
        return "it begins with none of redis://, rediss:// and unix://";
    return parse_host(text, url);
}

}  // namespace prompt_cache::core
