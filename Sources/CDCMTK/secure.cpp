#include "secure.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace cdcmtk {

SecureSession::SecureSession(SSL *ssl, int socket) : ssl_(ssl), socket_(socket) {}

SecureSession::~SecureSession() {
    SSL_free(ssl_);
    if (socket_ >= 0) close(socket_);
}

void SecureSession::put_back(const void *bytes, size_t count) {
    const auto *start = static_cast<const uint8_t *>(bytes);
    put_back_.assign(start, start + count);
    put_back_read_ = 0;
}

ssize_t SecureSession::receive(void *buffer, size_t count, short *events) {
    if (put_back_read_ < put_back_.size()) {
        const size_t taken = std::min(count, put_back_.size() - put_back_read_);
        std::memcpy(buffer, put_back_.data() + put_back_read_, taken);
        put_back_read_ += taken;
        return static_cast<ssize_t>(taken);
    }
    if (is_broken_) {
        errno = ECONNABORTED;
        return -1;
    }
    ERR_clear_error();
    const int received = SSL_read(ssl_, buffer, static_cast<int>(std::min<size_t>(count, 1 << 30)));
    // Also where a record is not whole yet: a sender with Nagle's algorithm keeps its end back until then.
    acknowledge_quickly();
    return received > 0 ? received : failed(received, events);
}

ssize_t SecureSession::transmit(const void *buffer, size_t count, short *events) {
    if (is_broken_ || said_goodbye_) {
        errno = ECONNABORTED;
        return -1;
    }
    ERR_clear_error();
    const int sent = SSL_write(ssl_, buffer, static_cast<int>(std::min<size_t>(count, 1 << 30)));
    if (sent > 0) return sent;
    const ssize_t result = failed(sent, events);
    if (is_broken_) hear_alert();
    if (result != 0) return result;
    errno = EPIPE;
    return -1;
}

/// Whoever refuses our certificate may have reset the connection before we write; its alert lies unread then. Nothing
/// else is done with the session any more.
void SecureSession::hear_alert() const {
    const int number = errno;
    char byte;
    ERR_clear_error();
    SSL_read(ssl_, &byte, sizeof byte);
    errno = number;
}

int SecureSession::handshake(short *events) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_do_handshake(ssl_);
    acknowledge_quickly();
    if (result == 1) return 1;
    const int error = SSL_get_error(ssl_, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        *events = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return 0;
    }
    is_broken_ = true;
    return -1;
}

/// What recv(2) would give: 0 at the end of the stream, otherwise -1 and errno.
ssize_t SecureSession::failed(int result, short *events) {
    const int number = errno;
    switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
        *events = POLLIN;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_WANT_WRITE:
        *events = POLLOUT;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL:
        is_broken_ = true;
        errno = number ? number : ECONNRESET;
        return -1;
    default:
        is_broken_ = true;
        // The peer closed without saying so within TLS. DICOM has a release of its own: nothing is cut off unseen.
        if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) return 0;
        errno = EPROTO;
        return -1;
    }
}

bool SecureSession::has_buffered() const {
    return put_back_read_ < put_back_.size() || (!is_broken_ && SSL_has_pending(ssl_));
}

void SecureSession::say_goodbye() {
    if (said_goodbye_ || is_broken_ || !SSL_is_init_finished(ssl_)) return;
    said_goodbye_ = true;
    ERR_clear_error();
    SSL_shutdown(ssl_);
}

void SecureSession::acknowledge_quickly() const {
    const int number = errno;
    const int on = 1;
    setsockopt(SSL_get_fd(ssl_), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    errno = number;
}

OFBool SecureConnection::networkDataAvailable(int timeout) {
    return session_->has_buffered() ? OFTrue : Connection::networkDataAvailable(timeout);
}

} // namespace cdcmtk

namespace {

using namespace cdcmtk;

/// Repeats `step` until it has moved `count` bytes.
template <typename Step> cdcmtk_outcome move_all(const Waiting &waiting, size_t count, short first_events, Step step) {
    size_t done = 0;
    while (done < count) {
        if (Clock::now() >= waiting.deadline) return CDCMTK_DEADLINE;
        short events = first_events;
        const ssize_t moved = step(done, &events);
        if (moved > 0) {
            done += static_cast<size_t>(moved);
            continue;
        }
        if (moved == 0) return CDCMTK_CLOSED;
        if (errno == EINTR) continue;
        if (errno != EAGAIN)
            return errno == ECONNRESET || errno == EPIPE ? CDCMTK_CLOSED : CDCMTK_FAILED;
        const cdcmtk_outcome outcome = waiting.wait(events);
        if (outcome != CDCMTK_OK) return outcome;
    }
    return CDCMTK_OK;
}

} // namespace

extern "C" cdcmtk_outcome cdcmtk_secure_read(cdcmtk_secure *secure, void *bytes, size_t count) {
    return move_all(secure->waiting, count, POLLIN, [&](size_t done, short *events) {
        return secure->session.receive(static_cast<uint8_t *>(bytes) + done, count - done, events);
    });
}

extern "C" cdcmtk_outcome cdcmtk_secure_write(cdcmtk_secure *secure, const void *bytes, size_t count) {
    return move_all(secure->waiting, count, POLLOUT, [&](size_t done, short *events) {
        return secure->session.transmit(static_cast<const uint8_t *>(bytes) + done, count - done, events);
    });
}

extern "C" void cdcmtk_secure_close(cdcmtk_secure *secure) {
    if (!secure) return;
    secure->session.say_goodbye();
    if (secure->session.socket() >= 0) drain(secure->session.socket(), 1000);
    delete secure;
}
