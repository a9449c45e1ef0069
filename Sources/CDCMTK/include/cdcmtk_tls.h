// TLS under an association (PS3.15 Annex B): key material, handshake, and what comes before the upper layer.
#pragma once
#include "cdcmtk_association.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Certificate, private key and trusted issuers, in memory.
typedef struct cdcmtk_tls cdcmtk_tls;
/// A connection within TLS; owns its socket.
typedef struct cdcmtk_secure cdcmtk_secure;

enum { CDCMTK_NAME_BYTES = 256, CDCMTK_PHRASE_BYTES = 192 };

typedef struct {
    const char *certificate; ///< PEM: our certificate, then the intermediate ones. For requests NULL: none is shown.
    const char *key;         ///< PEM, unencrypted.
    const char *authorities; ///< PEM: issuers that are trusted. NULL: who connects is not asked for a certificate.
} cdcmtk_tls_files;

/// Whose part of the handshake is ours: the server's or the client's.
typedef enum { CDCMTK_TLS_ACCEPTING, CDCMTK_TLS_REQUESTING } cdcmtk_tls_side;

typedef enum { CDCMTK_FILE_CERTIFICATE, CDCMTK_FILE_KEY, CDCMTK_FILE_AUTHORITIES } cdcmtk_tls_file;

typedef enum {
    CDCMTK_FILE_GOOD,
    CDCMTK_FILE_UNREADABLE,   ///< `text` says why.
    CDCMTK_FILE_TOO_OPEN,     ///< Others than owner and group have rights, or the group may write; `text`: the mode.
    CDCMTK_FILE_TOO_LARGE,
    CDCMTK_FILE_EMPTY,        ///< Nothing of the kind that is due is in it.
    CDCMTK_FILE_DAMAGED,      ///< `text` is OpenSSL's.
    CDCMTK_FILE_ENCRYPTED,
    CDCMTK_FILE_MISMATCH,     ///< The key is not the certificate's.
    CDCMTK_FILE_TOO_WEAK,     ///< `text` is OpenSSL's.
    CDCMTK_FILE_FAILED        ///< OpenSSL refuses otherwise; `text` says why.
} cdcmtk_file_state;

typedef struct {
    cdcmtk_file_state state;
    cdcmtk_tls_file file;
    char text[CDCMTK_PHRASE_BYTES];
} cdcmtk_tls_problem;

typedef struct {
    char subject[CDCMTK_NAME_BYTES]; ///< RFC 2253, ASCII.
    char issuer[CDCMTK_NAME_BYTES];
    int64_t not_before; ///< Seconds since 1970.
    int64_t not_after;
    int may_serve;   ///< Extended key usage allows a TLS server,
    int may_request; ///< a TLS client.
} cdcmtk_certificate;

/// Reads the files and checks that they belong together; NULL with the first problem where they do not. Whether a
/// certificate is valid now is not looked at.
cdcmtk_tls *cdcmtk_tls_load(const cdcmtk_tls_files *files, cdcmtk_tls_side side, cdcmtk_tls_problem *problem);
void cdcmtk_tls_free(cdcmtk_tls *tls);
/// A line for each cipher suite that is offered, in order: the version of TLS that brought it, and its name.
void cdcmtk_tls_suites(char *lines, size_t size);
void cdcmtk_tls_certificate_get(const cdcmtk_tls *tls, cdcmtk_certificate *certificate);
size_t cdcmtk_tls_authority_count(const cdcmtk_tls *tls);
void cdcmtk_tls_authority_get(const cdcmtk_tls *tls, size_t index, cdcmtk_certificate *certificate);

typedef enum {
    CDCMTK_HANDSHAKE_DONE,
    CDCMTK_HANDSHAKE_ALERT,           ///< The peer ended it; `code` is its alert (RFC 8446 §6).
    CDCMTK_HANDSHAKE_NO_CERTIFICATE,  ///< The peer sent none.
    CDCMTK_HANDSHAKE_BAD_CERTIFICATE, ///< The peer's was refused; `code` is OpenSSL's X509_V_ERR_….
    CDCMTK_HANDSHAKE_VERSION,         ///< No version in common; `code` is the peer's highest (RFC 8446 §4.1.2).
    CDCMTK_HANDSHAKE_CIPHER,          ///< No cipher suite, group or signature algorithm in common.
    CDCMTK_HANDSHAKE_NO_TLS,          ///< What the peer answers is no TLS.
    CDCMTK_HANDSHAKE_CLOSED,          ///< The peer closed without a word.
    CDCMTK_HANDSHAKE_TIMEOUT,
    CDCMTK_HANDSHAKE_FAILED           ///< Anything else; `text` is OpenSSL's.
} cdcmtk_handshake_outcome;

typedef struct {
    cdcmtk_handshake_outcome outcome;
    int code;
    char text[CDCMTK_PHRASE_BYTES];
    /// Of the peer's certificate, empty without. Where the handshake failed they are only what the peer says.
    char peer_subject[CDCMTK_NAME_BYTES];
    char peer_issuer[CDCMTK_NAME_BYTES];
    int64_t peer_not_before; ///< Seconds since 1970.
    int64_t peer_not_after;
    int peer_has_spoken; ///< At least one message of TLS came from it.
    char version[16];
    char cipher[64];
} cdcmtk_handshake;

/// The server's part of the handshake on a socket, which is owned from here on in every case. `seconds` are for the
/// handshake and all that is read until the association begins. The private key is forgotten whatever comes of it:
/// key material serves one handshake.
/// Returns NULL where the handshake failed; the peer was sent the alert that says why.
cdcmtk_secure *cdcmtk_tls_accept(cdcmtk_tls *tls, int socket, double seconds, cdcmtk_handshake *handshake);
/// Exactly so many bytes.
cdcmtk_outcome cdcmtk_secure_read(cdcmtk_secure *secure, void *bytes, size_t count);
cdcmtk_outcome cdcmtk_secure_write(cdcmtk_secure *secure, const void *bytes, size_t count);
/// Lets the peer read what was sent last, closes, frees.
void cdcmtk_secure_close(cdcmtk_secure *secure);

/// The same as cdcmtk_association_receive, within TLS. `request` is what was read already: the whole A-ASSOCIATE-RQ.
/// Takes `secure` in every case.
cdcmtk_outcome cdcmtk_association_receive_secure(
    cdcmtk_secure *secure, const void *request, size_t count, const cdcmtk_accept_options *options,
    cdcmtk_association **association, char *reason, size_t reason_size);

#ifdef __cplusplus
}
#endif
