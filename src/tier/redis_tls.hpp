// TLS for the connection to Redis, where hiredis has it (1.1 and newer, hiredis_ssl): Debian 12's has not,
// and there rediss:// is refused when the setting is made.
//
// The certificate is checked against the system's authorities and must name the host of the URL. hiredis
// checks no names, so the session is made here and handed over.
#pragma once

#include "pg/postgres.hpp"

struct redisContext;

#ifdef PROMPT_CACHE_TLS

#include <hiredis/hiredis_ssl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

extern "C" {
#include "storage/latch.h"
}

namespace prompt_cache::redis {

// Nothing raises: a session that is not handed over is freed here.
inline SSL* new_session(const char* host) noexcept {
    static SSL_CTX* authorities = nullptr;
    if (!authorities) {
        SSL_CTX* made = SSL_CTX_new(TLS_client_method());
        if (!made) return nullptr;
        SSL_CTX_set_min_proto_version(made, TLS1_2_VERSION);
        SSL_CTX_set_verify(made, SSL_VERIFY_PEER, nullptr);
        if (SSL_CTX_set_default_verify_paths(made) != 1) {
            SSL_CTX_free(made);
            return nullptr;
        }
        authorities = made;
    }
    SSL* session = SSL_new(authorities);
    if (!session) return nullptr;
    const bool named = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host) == 1 ||
                       (SSL_set1_host(session, host) == 1 && SSL_set_tlsext_host_name(session, host) == 1);
    if (named) return session;
    SSL_free(session);
    return nullptr;
}

// Nothing on success, else what is wrong. `wait` may leave by an error; the session is the context's by then.
template <typename Wait>
const char* begin_tls(redisContext* context, const char* host, Wait wait) {
    SSL* session = new_session(host);
    if (!session) return "no TLS session";
    if (redisInitiateSSL(context, session) != REDIS_OK) {
        SSL_free(session);
        return context->errstr;
    }
    for (;;) {
        const int result = SSL_do_handshake(session);
        if (result == 1) return nullptr;
        const int wanted = SSL_get_error(session, result);
        if (SSL_get_verify_result(session) != X509_V_OK)
            return X509_verify_cert_error_string(SSL_get_verify_result(session));
        if (wanted != SSL_ERROR_WANT_READ && wanted != SSL_ERROR_WANT_WRITE) return "TLS: no handshake";
        if (!wait(wanted == SSL_ERROR_WANT_READ ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE))
            return "TLS: no handshake within redis_timeout";
    }
}

}  // namespace prompt_cache::redis

#else

namespace prompt_cache::redis {

template <typename Wait>
const char* begin_tls(redisContext*, const char*, Wait) {
    return "this build has no TLS";
}

}  // namespace prompt_cache::redis

#endif
