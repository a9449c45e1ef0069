// A TLS session over a socket, without waits of its own.
#pragma once
#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "cdcmtk_tls.h"
#include "connection.hpp"

namespace cdcmtk {

template <typename Type, void (*free_it)(Type *)> struct Freeing {
    void operator()(Type *value) const { free_it(value); }
};
using Certificate = std::unique_ptr<X509, Freeing<X509, X509_free>>;

/// What OpenSSL's callbacks see of the peer.
struct Observed {
    int alert_received = -1;
    int verification = X509_V_OK;
    Certificate refused;
    bool has_spoken = false;
    /// Of its ServerHello (RFC 8446 §4.1.3).
    int server_version = 0;
};

class SecureSession {
public:
    /// Owns both.
    SecureSession(SSL *ssl, int socket);
    ~SecureSession();
    SecureSession(const SecureSession &) = delete;
    SecureSession &operator=(const SecureSession &) = delete;

    /// As recv(2) and send(2) on a socket that does not block; with EAGAIN, `events` is what to poll(2) for.
    ssize_t receive(void *buffer, size_t count, short *events);
    ssize_t transmit(const void *buffer, size_t count, short *events);
    /// One step of the handshake: 1 done, 0 not yet, -1 failed.
    int handshake(short *events);
    /// Whether there may be something to read that poll(2) does not see.
    bool has_buffered() const;
    /// Tells the peer that nothing more will come (RFC 8446 §6.1). Once; does not wait.
    void say_goodbye();
    /// Closing the socket is somebody else's from here on.
    void give_up_socket() { socket_ = -1; }
    int socket() const { return socket_; }
    SSL *ssl() const { return ssl_; }

    /// Handed out by `receive` before anything else: what was read ahead of the upper layer.
    void put_back(const void *bytes, size_t count);

private:
    ssize_t failed(int result, short *events);
    void hear_alert() const;
    void acknowledge_quickly() const;

    SSL *ssl_;
    int socket_;
    /// After a fatal error OpenSSL wants no further call on the session.
    bool is_broken_ = false;
    bool said_goodbye_ = false;
    std::vector<uint8_t> put_back_;
    size_t put_back_read_ = 0;
};

class SecureConnection : public Connection {
public:
    SecureConnection(SecureSession *session, Waiting *waiting) : Connection(session->socket(), waiting),
        session_(session) {}
    ~SecureConnection() override { session_->say_goodbye(); }
    OFBool networkDataAvailable(int timeout) override;
    void close() override {
        session_->say_goodbye();
        Connection::close();
    }
    OFBool isTransparentConnection() override { return OFFalse; }

protected:
    ssize_t receive(void *buffer, size_t count, short *events) override {
        return session_->receive(buffer, count, events);
    }
    ssize_t transmit(const void *buffer, size_t count, short *events) override {
        return session_->transmit(buffer, count, events);
    }

private:
    SecureSession *session_;
};

/// The peer that a request goes to.
struct ExpectedHost {
    const char *name; ///< Or its address.
    bool is_verified; ///< Whether its certificate has to say so.
};

/// A session over the socket, which it owns unless this throws, before its handshake. `host` where the key material is
/// for requests.
std::unique_ptr<cdcmtk_secure> begin_secure(
    cdcmtk_tls &tls, int socket, double seconds, const ExpectedHost *host = nullptr);
/// Whether the handshake succeeds. The private key is forgotten whatever comes of it.
bool run_handshake(cdcmtk_tls &tls, cdcmtk_secure &secure, cdcmtk_handshake *handshake);
/// The alert with which the peer ended it, be it after our part of the handshake. False where none came.
bool note_alert(const cdcmtk_secure &secure, cdcmtk_handshake *handshake);

} // namespace cdcmtk

struct cdcmtk_secure {
    /// Outlives the session that it is of.
    cdcmtk::Observed observed;
    cdcmtk::SecureSession session;
    /// Of the handshake and what comes before the association.
    cdcmtk::Waiting waiting;

    cdcmtk_secure(SSL *ssl, int socket, double seconds) : session(ssl, socket) {
        waiting.socket = socket;
        waiting.idle_seconds = seconds;
        waiting.deadline = cdcmtk::Clock::now() + cdcmtk::seconds(seconds);
    }
};
