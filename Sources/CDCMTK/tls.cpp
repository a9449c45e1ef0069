#include "secure.hpp"

#include "dcmtk/dcmtls/tlslayer.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "text.hpp"

using namespace cdcmtk;

namespace {

using Key = std::unique_ptr<EVP_PKEY, Freeing<EVP_PKEY, EVP_PKEY_free>>;

/// A file's content, wiped when it goes.
struct Content {
    std::vector<char> bytes;
    Content() = default;
    Content(Content &&) = default;
    ~Content() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
    std::unique_ptr<BIO, Freeing<BIO, BIO_free_all>> reader() const {
        return std::unique_ptr<BIO, Freeing<BIO, BIO_free_all>>(
            BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
    }
};

const size_t most_file_bytes = 1 << 20;

struct Problem {
    cdcmtk_file_state state;
    cdcmtk_tls_file file;
    std::string text;
};

std::string openssl_text() {
    char text[CDCMTK_PHRASE_BYTES];
    const unsigned long error = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(error);
    std::snprintf(text, sizeof text, "%s", reason ? reason : error ? "unknown failure of OpenSSL" : "");
    return text;
}

Content read_file(const char *path, cdcmtk_tls_file file) {
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) throw Problem{CDCMTK_FILE_UNREADABLE, file, std::strerror(errno)};
    std::unique_ptr<const int, void (*)(const int *)> closing(&descriptor, [](const int *it) { close(*it); });
    struct stat status;
    if (fstat(descriptor, &status) != 0) throw Problem{CDCMTK_FILE_UNREADABLE, file, std::strerror(errno)};
    if (!S_ISREG(status.st_mode)) throw Problem{CDCMTK_FILE_UNREADABLE, file, "it is no file"};
    // The group may read it: root's key that the node's group reads cannot be replaced by the node.
    const mode_t refused = S_IWGRP | S_IXGRP | S_IRWXO;
    if (file == CDCMTK_FILE_KEY && (status.st_mode & refused)) {
        char mode[16];
        std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(status.st_mode & 07777));
        throw Problem{CDCMTK_FILE_TOO_OPEN, file, mode};
    }
    if (static_cast<size_t>(status.st_size) > most_file_bytes) throw Problem{CDCMTK_FILE_TOO_LARGE, file, ""};
    Content content;
    // Room for one byte more shows whether it grew; the vector never moves, so that no copy of a key stays behind.
    content.bytes.resize(static_cast<size_t>(status.st_size) + 1);
    size_t filled = 0;
    while (filled < content.bytes.size()) {
        const ssize_t count = ::read(descriptor, content.bytes.data() + filled, content.bytes.size() - filled);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw Problem{CDCMTK_FILE_UNREADABLE, file, std::strerror(errno)};
        if (count == 0) break;
        filled += static_cast<size_t>(count);
    }
    if (filled == content.bytes.size()) throw Problem{CDCMTK_FILE_UNREADABLE, file, "it is being written"};
    content.bytes.resize(filled);
    return content;
}

/// No console to ask for a passphrase.
int no_passphrase(char *, int, int, void *was_asked) {
    *static_cast<bool *>(was_asked) = true;
    return -1;
}

std::vector<Certificate> read_certificates(const char *path, cdcmtk_tls_file file) {
    const Content content = read_file(path, file);
    const auto reader = content.reader();
    std::vector<Certificate> found;
    bool was_asked = false;
    ERR_clear_error();
    while (X509 *certificate = PEM_read_bio_X509(reader.get(), nullptr, no_passphrase, &was_asked))
        found.emplace_back(certificate);
    const unsigned long error = ERR_peek_last_error();
    const bool is_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    if (!is_end) throw Problem{CDCMTK_FILE_DAMAGED, file, openssl_text()};
    ERR_clear_error();
    if (found.empty()) throw Problem{CDCMTK_FILE_EMPTY, file, ""};
    return found;
}

Key read_key(const char *path) {
    const Content content = read_file(path, CDCMTK_FILE_KEY);
    const auto reader = content.reader();
    bool was_asked = false;
    ERR_clear_error();
    Key key(PEM_read_bio_PrivateKey(reader.get(), nullptr, no_passphrase, &was_asked));
    if (key) return key;
    if (was_asked) throw Problem{CDCMTK_FILE_ENCRYPTED, CDCMTK_FILE_KEY, ""};
    const std::string mark = "PRIVATE KEY-----";
    const auto &bytes = content.bytes;
    const bool has_key = std::search(bytes.begin(), bytes.end(), mark.begin(), mark.end()) != bytes.end();
    throw Problem{has_key ? CDCMTK_FILE_DAMAGED : CDCMTK_FILE_EMPTY, CDCMTK_FILE_KEY, openssl_text()};
}

void copy_name(char (&to)[CDCMTK_NAME_BYTES], const X509_NAME *name) {
    std::unique_ptr<BIO, Freeing<BIO, BIO_free_all>> text(BIO_new(BIO_s_mem()));
    // Control characters and whatever is not ASCII come out as \XX: a peer chooses its name, and it goes into a log.
    if (!text || X509_NAME_print_ex(text.get(), name, 0, XN_FLAG_RFC2253) < 0) return;
    const int count = BIO_read(text.get(), to, sizeof to - 1);
    to[count > 0 ? count : 0] = 0;
}

int64_t seconds_of(const ASN1_TIME *time) {
    std::tm parts = {};
    return ASN1_TIME_to_tm(time, &parts) == 1 ? static_cast<int64_t>(timegm(&parts)) : 0;
}

void describe(X509 *certificate, cdcmtk_certificate *description) {
    *description = cdcmtk_certificate();
    copy_name(description->subject, X509_get_subject_name(certificate));
    copy_name(description->issuer, X509_get_issuer_name(certificate));
    description->not_before = seconds_of(X509_get0_notBefore(certificate));
    description->not_after = seconds_of(X509_get0_notAfter(certificate));
    description->may_serve = X509_check_purpose(certificate, X509_PURPOSE_SSL_SERVER, 0) == 1;
    description->may_request = X509_check_purpose(certificate, X509_PURPOSE_SSL_CLIENT, 0) == 1;
}

} // namespace

struct cdcmtk_tls {
    const cdcmtk_tls_side side;
    DcmTLSTransportLayer layer;
    std::vector<Certificate> chain;
    std::vector<Certificate> authorities;
    Key key;

    explicit cdcmtk_tls(cdcmtk_tls_side side)
        : side(side), layer(side == CDCMTK_TLS_ACCEPTING ? NET_ACCEPTOR : NET_REQUESTOR, nullptr, OFFalse) {}
    SSL_CTX *context() { return layer.getNativeHandle(); }

    /// Gives a session our certificate and key. In the session, not in the context, so that they can be taken back.
    bool lend_identity(SSL *ssl) {
        std::unique_ptr<STACK_OF(X509), void (*)(STACK_OF(X509) *)> rest(
            sk_X509_new_null(), [](STACK_OF(X509) *stack) { sk_X509_free(stack); });
        for (size_t i = 1; rest && i < chain.size(); i++) sk_X509_push(rest.get(), chain[i].get());
        return rest && SSL_use_cert_and_key(ssl, chain.front().get(), key.get(), rest.get(), 1) == 1;
    }
};

namespace {

// --- Set-up ---

void must(bool good, cdcmtk_tls_file file = CDCMTK_FILE_CERTIFICATE) {
    if (!good) throw Problem{CDCMTK_FILE_FAILED, file, openssl_text()};
}

/// BCP 195 without downgrading (PS3.15 §B.10): TLS 1.2 and 1.3, AES-GCM with ephemeral keys.
void set_profile(cdcmtk_tls &tls) {
    SSL_CTX *context = tls.context();
    must(context != nullptr);
    must(tls.layer.setTLSProfile(TSP_Profile_BCP195_ND).good());
    // The profile names RSA certificates only; RFC 9325 §4.2 recommends the same suites for ECDSA certificates.
    must(tls.layer.addCipherSuite("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384").good());
    must(tls.layer.addCipherSuite("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256").good());
    must(tls.layer.activateCipherSuites().good());
    must(SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1);
    must(SSL_CTX_set_max_proto_version(context, 0) == 1);
    // 112 bits: RSA keys of 2048 bits and more, no SHA-1 signatures.
    SSL_CTX_set_security_level(context, 2);
    SSL_CTX_set_dh_auto(context, 1);
    // A process serves one association: there is no session to come back to.
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_options(
        context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
}

void load_identity(cdcmtk_tls &tls, const cdcmtk_tls_files &files) {
    tls.chain = read_certificates(files.certificate, CDCMTK_FILE_CERTIFICATE);
    tls.key = read_key(files.key);
    if (X509_check_private_key(tls.chain.front().get(), tls.key.get()) != 1)
        throw Problem{CDCMTK_FILE_MISMATCH, CDCMTK_FILE_KEY, ""};
    // The security level is applied where a session takes them.
    std::unique_ptr<SSL, Freeing<SSL, SSL_free>> trial(SSL_new(tls.context()));
    ERR_clear_error();
    if (!trial || !tls.lend_identity(trial.get()))
        throw Problem{CDCMTK_FILE_TOO_WEAK, CDCMTK_FILE_CERTIFICATE, openssl_text()};
}

// --- Handshake ---

void observe_alert(const SSL *ssl, int where, int value) {
    if (where != SSL_CB_READ_ALERT) return;
    auto *observed = static_cast<Observed *>(SSL_get_app_data(ssl));
    if (observed && (value & 0xff) != SSL_AD_CLOSE_NOTIFY) observed->alert_received = value & 0xff;
}

void observe_message(
    int is_ours, int, int type, const void *bytes, size_t count, SSL *, void *session_observed) {
    if (is_ours || (type != SSL3_RT_HANDSHAKE && type != SSL3_RT_ALERT)) return;
    auto *observed = static_cast<Observed *>(session_observed);
    observed->has_spoken = true;
    const auto *message = static_cast<const uint8_t *>(bytes);
    if (type == SSL3_RT_HANDSHAKE && count >= 6 && message[0] == SSL3_MT_SERVER_HELLO)
        observed->server_version = message[4] << 8 | message[5];
}

int verify(int is_good, X509_STORE_CTX *store) {
    if (is_good) return 1;
    auto *ssl = static_cast<SSL *>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto *observed = ssl ? static_cast<Observed *>(SSL_get_app_data(ssl)) : nullptr;
    if (observed) {
        observed->verification = X509_STORE_CTX_get_error(store);
        // The peer's own, whichever of its chain is wrong: that is the one that somebody has to look for.
        X509 *certificate = X509_STORE_CTX_get0_cert(store);
        if (certificate && X509_up_ref(certificate)) observed->refused.reset(certificate);
    }
    return 0;
}

void classify(const cdcmtk_secure &secure, int number, cdcmtk_handshake *handshake) {
    SSL *ssl = secure.session.ssl();
    const Observed &observed = secure.observed;
    const auto set = [&](cdcmtk_handshake_outcome outcome, int code, const char *text) {
        handshake->outcome = outcome;
        handshake->code = code;
        copy_text(handshake->text, sizeof handshake->text, text);
    };
    if (observed.verification != X509_V_OK)
        return set(
            CDCMTK_HANDSHAKE_BAD_CERTIFICATE, observed.verification,
            X509_verify_cert_error_string(observed.verification));
    if (note_alert(secure, handshake)) return;
    const unsigned long error = ERR_peek_last_error();
    const int reason = error ? ERR_GET_REASON(error) : 0;
    if (reason == 0) return set(CDCMTK_HANDSHAKE_CLOSED, number, "");
    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) return set(CDCMTK_HANDSHAKE_CLOSED, 0, "");
    const bool is_server = SSL_is_server(ssl);
    if (!is_server && !observed.has_spoken) return set(CDCMTK_HANDSHAKE_NO_TLS, 0, openssl_text().c_str());
    const int version = is_server ? SSL_client_version(ssl) : observed.server_version;
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return set(CDCMTK_HANDSHAKE_NO_CERTIFICATE, 0, "");
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_WRONG_VERSION_NUMBER:
        // Also where what follows a good hello is no TLS.
        return set(
            version < TLS1_2_VERSION ? CDCMTK_HANDSHAKE_VERSION : CDCMTK_HANDSHAKE_FAILED, version,
            openssl_text().c_str());
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
        return set(CDCMTK_HANDSHAKE_CIPHER, 0, openssl_text().c_str());
    default: return set(CDCMTK_HANDSHAKE_FAILED, 0, openssl_text().c_str());
    }
}

void copy_peer(X509 *certificate, cdcmtk_handshake *handshake) {
    if (!certificate) return;
    copy_name(handshake->peer_subject, X509_get_subject_name(certificate));
    copy_name(handshake->peer_issuer, X509_get_issuer_name(certificate));
    handshake->peer_not_before = seconds_of(X509_get0_notBefore(certificate));
    handshake->peer_not_after = seconds_of(X509_get0_notAfter(certificate));
}

/// Server Name Indication (RFC 6066 §3), and what the peer's certificate has to name (RFC 6125 §6).
bool expect(SSL *ssl, const ExpectedHost &host) {
    in6_addr address;
    const bool is_address =
        inet_pton(AF_INET, host.name, &address) == 1 || inet_pton(AF_INET6, host.name, &address) == 1;
    if (!is_address && SSL_set_tlsext_host_name(ssl, host.name) != 1) return false;
    if (!host.is_verified) return true;
    X509_VERIFY_PARAM *expected = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return is_address ? X509_VERIFY_PARAM_set1_ip_asc(expected, host.name) == 1
                      : X509_VERIFY_PARAM_set1_host(expected, host.name, 0) == 1;
}

bool shake_hands(cdcmtk_secure &secure, cdcmtk_handshake *handshake) {
    SSL *ssl = secure.session.ssl();
    for (;;) {
        short events = POLLIN;
        const int step = secure.session.handshake(&events);
        if (step == 1) break;
        if (step < 0) {
            classify(secure, errno, handshake);
            copy_peer(secure.observed.refused.get(), handshake);
            return false;
        }
        const cdcmtk_outcome outcome = Clock::now() < secure.waiting.deadline ? secure.waiting.wait(events)
                                                                              : CDCMTK_DEADLINE;
        if (outcome != CDCMTK_OK) {
            handshake->outcome = outcome == CDCMTK_FAILED ? CDCMTK_HANDSHAKE_FAILED : CDCMTK_HANDSHAKE_TIMEOUT;
            return false;
        }
    }
    handshake->outcome = CDCMTK_HANDSHAKE_DONE;
    copy_peer(SSL_get0_peer_certificate(ssl), handshake);
    copy_text(handshake->version, sizeof handshake->version, SSL_get_version(ssl));
    copy_text(handshake->cipher, sizeof handshake->cipher, SSL_CIPHER_get_name(SSL_get_current_cipher(ssl)));
    return true;
}

} // namespace

std::unique_ptr<cdcmtk_secure> cdcmtk::begin_secure(
    cdcmtk_tls &tls, int socket, double seconds, const ExpectedHost *host) {
    std::unique_ptr<SSL, Freeing<SSL, SSL_free>> fresh(SSL_new(tls.context()));
    SSL *ssl = fresh.get();
    if (!ssl || SSL_set_fd(ssl, socket) != 1 || (host && !expect(ssl, *host))) throw std::bad_alloc();
    std::unique_ptr<cdcmtk_secure> secure(new cdcmtk_secure(ssl, socket, seconds));
    fresh.release();
    fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL_set_app_data(ssl, &secure->observed);
    SSL_set_info_callback(ssl, observe_alert);
    SSL_set_msg_callback(ssl, observe_message);
    SSL_set_msg_callback_arg(ssl, &secure->observed);
    if (tls.side == CDCMTK_TLS_ACCEPTING) SSL_set_accept_state(ssl);
    else SSL_set_connect_state(ssl);
    return secure;
}

bool cdcmtk::note_alert(const cdcmtk_secure &secure, cdcmtk_handshake *handshake) {
    const int alert = secure.observed.alert_received;
    if (alert < 0) return false;
    handshake->outcome = CDCMTK_HANDSHAKE_ALERT;
    handshake->code = alert;
    copy_text(handshake->text, sizeof handshake->text, SSL_alert_desc_string_long(alert));
    return true;
}

bool cdcmtk::run_handshake(cdcmtk_tls &tls, cdcmtk_secure &secure, cdcmtk_handshake *handshake) {
    *handshake = cdcmtk_handshake();
    handshake->outcome = CDCMTK_HANDSHAKE_FAILED;
    SSL *ssl = secure.session.ssl();
    const bool is_ready = tls.chain.empty() || (tls.key && tls.lend_identity(ssl));
    if (!is_ready) copy_text(handshake->text, sizeof handshake->text, openssl_text().c_str());
    const bool is_done = is_ready && shake_hands(secure, handshake);
    handshake->peer_has_spoken = secure.observed.has_spoken;
    // Nothing of an association needs the private key: whoever breaks into this process later finds none.
    SSL_certs_clear(ssl);
    tls.key.reset();
    return is_done;
}

extern "C" cdcmtk_tls *cdcmtk_tls_load(
    const cdcmtk_tls_files *files, cdcmtk_tls_side side, cdcmtk_tls_problem *problem) {
    *problem = cdcmtk_tls_problem();
    const auto fail = [&](cdcmtk_file_state state, cdcmtk_tls_file file, const char *text) {
        problem->state = state;
        problem->file = file;
        copy_text(problem->text, sizeof problem->text, text);
        return nullptr;
    };
    try {
        DcmTLSTransportLayer::initializeOpenSSL();
        std::unique_ptr<cdcmtk_tls> tls(new cdcmtk_tls(side));
        set_profile(*tls);
        if (files->certificate || side == CDCMTK_TLS_ACCEPTING) load_identity(*tls, *files);
        if (files->authorities) {
            tls->authorities = read_certificates(files->authorities, CDCMTK_FILE_AUTHORITIES);
            X509_STORE *store = SSL_CTX_get_cert_store(tls->context());
            for (const auto &each : tls->authorities) {
                must(X509_STORE_add_cert(store, each.get()) == 1, CDCMTK_FILE_AUTHORITIES);
                must(SSL_CTX_add_client_CA(tls->context(), each.get()) == 1, CDCMTK_FILE_AUTHORITIES);
            }
            // What the file lists is trusted, also an intermediate issuer without its root.
            must(X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1, CDCMTK_FILE_AUTHORITIES);
        }
        if (files->authorities || side == CDCMTK_TLS_REQUESTING)
            SSL_CTX_set_verify(tls->context(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify);
        else
            SSL_CTX_set_verify(tls->context(), SSL_VERIFY_NONE, nullptr);
        return tls.release();
    } catch (const Problem &found) {
        return fail(found.state, found.file, found.text.c_str());
    } catch (...) {
        return fail(CDCMTK_FILE_FAILED, CDCMTK_FILE_CERTIFICATE, "out of memory");
    }
}

extern "C" void cdcmtk_tls_free(cdcmtk_tls *tls) { delete tls; }

extern "C" void cdcmtk_tls_suites(char *lines, size_t size) {
    copy_text(lines, size, "");
    try {
        cdcmtk_tls tls(CDCMTK_TLS_ACCEPTING);
        set_profile(tls);
        std::string text;
        const STACK_OF(SSL_CIPHER) *suites = SSL_CTX_get_ciphers(tls.context());
        for (int i = 0; i < sk_SSL_CIPHER_num(suites); i++) {
            const SSL_CIPHER *suite = sk_SSL_CIPHER_value(suites, i);
            text += std::string(SSL_CIPHER_get_version(suite)) + " " + SSL_CIPHER_standard_name(suite) + "\n";
        }
        copy_text(lines, size, text.c_str());
    } catch (...) {
    }
}

extern "C" void cdcmtk_tls_certificate_get(const cdcmtk_tls *tls, cdcmtk_certificate *certificate) {
    if (tls->chain.empty()) *certificate = cdcmtk_certificate();
    else describe(tls->chain.front().get(), certificate);
}

extern "C" size_t cdcmtk_tls_authority_count(const cdcmtk_tls *tls) { return tls->authorities.size(); }

extern "C" void cdcmtk_tls_authority_get(const cdcmtk_tls *tls, size_t index, cdcmtk_certificate *certificate) {
    describe(tls->authorities[index].get(), certificate);
}

extern "C" cdcmtk_secure *cdcmtk_tls_accept(
    cdcmtk_tls *tls, int socket, double seconds, cdcmtk_handshake *handshake) {
    *handshake = cdcmtk_handshake();
    handshake->outcome = CDCMTK_HANDSHAKE_FAILED;
    bool is_owned = false;
    try {
        std::unique_ptr<cdcmtk_secure> secure = begin_secure(*tls, socket, seconds);
        is_owned = true;
        if (run_handshake(*tls, *secure, handshake)) return secure.release();
        cdcmtk_secure_close(secure.release());
        return nullptr;
    } catch (...) {
        if (!is_owned) close(socket);
        copy_text(handshake->text, sizeof handshake->text, "out of memory");
        return nullptr;
    }
}
