#include "connection.hpp"
#include "secure.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace cdcmtk {

cdcmtk_outcome Waiting::wait(short events, int interrupt) const {
    const int on = 1;
    if (quick_acknowledge && (events & POLLIN)) setsockopt(socket, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    const auto start = Clock::now();
    const auto idle_end = start + seconds(idle_seconds);
    const auto end = std::min(idle_end, deadline);
    for (;;) {
        pollfd watched[2] = {{socket, events, 0}, {interrupt, POLLIN, 0}};
        const double left = std::chrono::duration<double, std::milli>(end - Clock::now()).count();
        if (left <= 0) return end == deadline ? CDCMTK_DEADLINE : CDCMTK_IDLE;
        const int count = poll(watched, interrupt < 0 ? 1 : 2, static_cast<int>(std::ceil(std::min(left, 1e8))));
        if (count < 0 && errno != EINTR) return CDCMTK_FAILED;
        if (count > 0 && watched[0].revents) return CDCMTK_OK;
        if (count > 0) return CDCMTK_INTERRUPTED;
    }
}

void drain(int socket, int milliseconds) {
    if (shutdown(socket, SHUT_WR) != 0) return;
    const auto end = Clock::now() + std::chrono::milliseconds(milliseconds);
    char buffer[4096];
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
        pollfd watched = {socket, POLLIN, 0};
        if (left <= 0 || poll(&watched, 1, static_cast<int>(left)) <= 0) return;
        if (recv(socket, buffer, sizeof buffer, MSG_DONTWAIT) <= 0) return;
    }
}

Connection::Connection(DcmNativeSocketType socket, Waiting *waiting) : DcmTCPConnection(socket), waiting_(waiting) {
    waiting_->socket = socket;
    waiting_->connection = this;
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(socket, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

Connection::~Connection() { waiting_->connection = nullptr; }

ssize_t Connection::read(void *buffer, size_t count) {
    if (waiting_->ended != CDCMTK_OK) {
        errno = ECONNABORTED;
        return -1;
    }
    for (;;) {
        short events = POLLIN;
        ssize_t received;
        if (ahead() > 0) {
            const size_t taken = std::min(count, ahead());
            std::memcpy(buffer, ahead_.data() + ahead_begin_, taken);
            ahead_begin_ += taken;
            received = static_cast<ssize_t>(taken);
        } else {
            received = receive(buffer, count, &events);
        }
        if (received > 0) {
            // A peer that sends a byte now and then is never idle, yet has to end.
            if (Clock::now() < waiting_->deadline) return received;
            waiting_->ended = CDCMTK_DEADLINE;
            errno = ETIMEDOUT;
            return -1;
        }
        if (received < 0 && errno == EINTR) continue;
        if (is_end(received)) return received;
        const cdcmtk_outcome outcome = waiting_->wait(events);
        if (outcome != CDCMTK_OK) {
            waiting_->ended = outcome;
            errno = ETIMEDOUT;
            return -1;
        }
    }
}

bool Connection::is_end(ssize_t received) {
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    waiting_->ended = received == 0 || errno == ECONNRESET ? CDCMTK_CLOSED : CDCMTK_FAILED;
    return true;
}

cdcmtk_outcome Connection::await_data(int interrupt) {
    for (;;) {
        if (ahead() > 0) return CDCMTK_OK;
        short events = POLLIN;
        const ssize_t received = receive(ahead_.data(), ahead_.size(), &events);
        if (received > 0) {
            ahead_begin_ = 0;
            ahead_end_ = static_cast<size_t>(received);
            continue;
        }
        if (received < 0 && errno == EINTR) continue;
        if (is_end(received)) return waiting_->ended;
        const cdcmtk_outcome outcome = waiting_->wait(events, interrupt);
        if (outcome != CDCMTK_OK) return outcome;
    }
}

/// Type, reserved byte and length of an A-ABORT PDU.
static constexpr unsigned char abort_header[6] = {7, 0, 0, 0, 0, 4};
static constexpr size_t abort_bytes = sizeof abort_header + 4;

ssize_t Connection::write(void *buffer, size_t count) {
    const bool is_abort = count == abort_bytes && std::memcmp(buffer, abort_header, sizeof abort_header) == 0;
    if (is_abort && waiting_->withholds_aborts) return static_cast<ssize_t>(count);
    if (!is_gathering_) return transmit_all(buffer, count);
    const auto *bytes = static_cast<const uint8_t *>(buffer);
    gathered_.insert(gathered_.end(), bytes, bytes + count);
    return static_cast<ssize_t>(count);
}

void Connection::flush() {
    is_gathering_ = false;
    if (!gathered_.empty()) transmit_all(gathered_.data(), gathered_.size());
    gathered_.clear();
}

ssize_t Connection::transmit_all(const void *buffer, size_t count) {
    if (waiting_->ended != CDCMTK_OK) {
        errno = ECONNABORTED;
        return -1;
    }
    // DCMTK takes a short write for a failure.
    size_t done = 0;
    while (done < count) {
        short events = POLLOUT;
        const ssize_t sent = transmit(static_cast<const char *>(buffer) + done, count - done, &events);
        if (sent > 0) {
            done += static_cast<size_t>(sent);
            continue;
        }
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            waiting_->ended = errno == EPIPE || errno == ECONNRESET ? CDCMTK_CLOSED : CDCMTK_FAILED;
            return -1;
        }
        const cdcmtk_outcome outcome = waiting_->wait(events);
        if (outcome != CDCMTK_OK) {
            waiting_->ended = outcome;
            errno = ETIMEDOUT;
            return -1;
        }
    }
    return static_cast<ssize_t>(done);
}

void Connection::abort(uint8_t source, uint8_t reason) {
    if (has_aborted_) return;
    has_aborted_ = true;
    // After a timeout the connection refuses further use; the peer should still learn of the end.
    if (waiting_->ended == CDCMTK_IDLE || waiting_->ended == CDCMTK_DEADLINE) waiting_->ended = CDCMTK_OK;
    waiting_->idle_seconds = 1;
    waiting_->deadline = Clock::now() + std::chrono::seconds(1);
    unsigned char pdu[abort_bytes] = {};
    std::memcpy(pdu, abort_header, sizeof abort_header);
    pdu[8] = source;
    pdu[9] = reason;
    transmit_all(pdu, sizeof pdu);
}

ssize_t Connection::receive(void *buffer, size_t count, short *) {
    const ssize_t received = recv(waiting_->socket, buffer, count, MSG_DONTWAIT);
    if (received > 0 && waiting_->first_byte < 0) waiting_->first_byte = *static_cast<const uint8_t *>(buffer);
    return received;
}

ssize_t Connection::transmit(const void *buffer, size_t count, short *) {
    return send(waiting_->socket, buffer, count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

OFBool Connection::networkDataAvailable(int timeout) {
    if (ahead() > 0) return OFTrue;
    Waiting shorter = *waiting_;
    shorter.idle_seconds = std::min(shorter.idle_seconds, static_cast<double>(std::max(timeout, 0)));
    return shorter.wait(POLLIN) == CDCMTK_OK;
}

DcmTransportConnection *Layer::createConnection(DcmNativeSocketType socket, OFBool secure) {
    if (secure) return nullptr;
    if (!session_) return new Connection(socket, waiting_);
    // From here on DCMTK closes the socket.
    DcmTransportConnection *connection = new SecureConnection(session_, waiting_);
    session_->give_up_socket();
    return connection;
}

} // namespace cdcmtk
