#include "secure.hpp"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <netdb.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

#include "cdcmtk_reach.h"
#include "text.hpp"

using namespace cdcmtk;

namespace {

using Addresses = std::unique_ptr<addrinfo, Freeing<addrinfo, freeaddrinfo>>;

/// In TLS 1.3 the peer judges our certificate when our part of the handshake is over: so long it may take to say so.
const double objection_seconds = 0.5;

/// 0, or an errno.
int connect_within(int socket, const addrinfo &address, double seconds) {
    if (connect(socket, address.ai_addr, address.ai_addrlen) == 0) return 0;
    if (errno != EINPROGRESS) return errno;
    pollfd watched = {socket, POLLOUT, 0};
    const int ready = poll(&watched, 1, static_cast<int>(std::ceil(seconds * 1000)));
    if (ready <= 0) return ready == 0 ? ETIMEDOUT : errno;
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

/// A connected socket, or -1.
int open_connection(const Addresses &addresses, double seconds, cdcmtk_reach *reach) {
    for (const addrinfo *each = addresses.get(); each; each = each->ai_next) {
        getnameinfo(
            each->ai_addr, each->ai_addrlen, reach->address, sizeof reach->address, nullptr, 0, NI_NUMERICHOST);
        const int socket = ::socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        const int error = socket < 0 ? errno : connect_within(socket, *each, seconds);
        if (error == 0) return socket;
        if (socket >= 0) close(socket);
        copy_text(reach->reason, sizeof reach->reason, std::strerror(error));
    }
    return -1;
}

bool has_objection(cdcmtk_secure &secure, cdcmtk_handshake *handshake) {
    secure.waiting.idle_seconds = objection_seconds;
    char byte;
    short events = POLLIN;
    if (secure.session.receive(&byte, 1, &events) < 0 && errno == EAGAIN &&
        secure.waiting.wait(events) == CDCMTK_OK)
        secure.session.receive(&byte, 1, &events);
    return note_alert(secure, handshake);
}

} // namespace

extern "C" void cdcmtk_reach_host(
    const char *host, int port, double seconds, cdcmtk_tls *tls, int verifies_host, cdcmtk_reach *reach) {
    *reach = cdcmtk_reach();
    addrinfo hints = {};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo *found = nullptr;
    const int unknown = getaddrinfo(host, std::to_string(port).c_str(), &hints, &found);
    const Addresses addresses(unknown ? nullptr : found);
    if (unknown) {
        reach->outcome = CDCMTK_REACH_NAME;
        return copy_text(reach->reason, sizeof reach->reason, gai_strerror(unknown));
    }
    const int socket = open_connection(addresses, seconds, reach);
    reach->outcome = socket < 0 ? CDCMTK_REACH_CONNECT : CDCMTK_REACHED;
    if (socket < 0) return;
    if (!tls) {
        close(socket);
        return;
    }
    bool is_owned = false;
    try {
        const ExpectedHost expected = {host, verifies_host != 0};
        std::unique_ptr<cdcmtk_secure> secure = begin_secure(*tls, socket, seconds, &expected);
        is_owned = true;
        if (!run_handshake(*tls, *secure, &reach->handshake) || has_objection(*secure, &reach->handshake))
            reach->outcome = CDCMTK_REACH_HANDSHAKE;
        secure->session.say_goodbye();
    } catch (...) {
        if (!is_owned) close(socket);
        reach->outcome = CDCMTK_REACH_HANDSHAKE;
        reach->handshake.outcome = CDCMTK_HANDSHAKE_FAILED;
        copy_text(reach->handshake.text, sizeof reach->handshake.text, "out of memory");
    }
}
