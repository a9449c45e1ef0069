// Sockets and framing that the fast sender and the raw sink share. Both run on one machine: what is not DICOM is in the
// machine's own byte order.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace wire {

// What goes before each object to the raw sink; the object follows in the framing that a DICOM receiver would get.
struct RawHeader {
    char magic[4] = {'O', 'B', 'J', '1'};
    uint32_t study = 0;
    uint64_t bytes = 0;
    uint64_t sequence = 0;
};

// The sink's one message for each object.
struct RawAnswer {
    char magic[4] = {'A', 'C', 'K', '1'};
    uint32_t status = 0;
    uint64_t sequence = 0;
};

inline std::runtime_error failure(const std::string &what) {
    return std::runtime_error(what + ": " + std::strerror(errno));
}

inline void no_delay(int socket) {
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

inline sockaddr_in address_of(const std::string &host, int port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1)
        throw std::runtime_error(host + " is no IPv4 address");
    return address;
}

// All of the vectors, in as few calls as the kernel takes.
inline void write_all(int socket, std::vector<iovec> &vectors) {
    iovec *next = vectors.data();
    size_t left = vectors.size();
    while (left > 0) {
        msghdr message = {};
        message.msg_iov = next;
        message.msg_iovlen = std::min<size_t>(left, IOV_MAX);
        ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) throw failure("cannot send");
        size_t done = static_cast<size_t>(sent);
        while (left > 0 && done >= next->iov_len) {
            done -= next->iov_len;
            next++;
            left--;
        }
        if (left > 0) {
            next->iov_base = static_cast<char *>(next->iov_base) + done;
            next->iov_len -= done;
        }
    }
}

inline void write_all(int socket, const void *bytes, size_t count) {
    std::vector<iovec> one = {{const_cast<void *>(bytes), count}};
    write_all(socket, one);
}

// Reads ahead, so that a short answer costs one call.
class Reader {
  public:
    explicit Reader(int socket) : socket_(socket), buffer_(65536) {}

    // - Returns: false where the peer closed before the first byte.
    bool read(void *into, size_t count) {
        char *to = static_cast<char *>(into);
        size_t done = 0;
        while (done < count) {
            if (begin_ == end_ && !fill()) {
                if (done == 0) return false;
                throw std::runtime_error("the peer closed within a message");
            }
            const size_t some = std::min(count - done, end_ - begin_);
            std::memcpy(to + done, buffer_.data() + begin_, some);
            begin_ += some;
            done += some;
        }
        return true;
    }

  private:
    bool fill() {
        for (;;) {
            const ssize_t received = recv(socket_, buffer_.data(), buffer_.size(), 0);
            if (received < 0 && errno == EINTR) continue;
            if (received < 0 && errno == EAGAIN) throw std::runtime_error("no answer in time");
            if (received < 0) throw failure("cannot receive");
            begin_ = 0;
            end_ = static_cast<size_t>(received);
            return received > 0;
        }
    }

    int socket_;
    std::vector<char> buffer_;
    size_t begin_ = 0, end_ = 0;
};

} // namespace wire
