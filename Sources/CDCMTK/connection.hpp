// The transport connection under DCMTK's upper layer: our waits, our deadlines, no Nagle delay.
#pragma once
#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmnet/dcmlayer.h"
#include "dcmtk/dcmnet/dcmtrans.h"

#include <array>
#include <chrono>
#include <vector>

#include "cdcmtk_association.h"

namespace cdcmtk {

using Clock = std::chrono::steady_clock;

class Connection;

inline Clock::duration seconds(double count) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(count));
}

/// Shared by whoever owns the association and the connection, which DCMTK frees on its own.
struct Waiting {
    double idle_seconds = 60;
    Clock::time_point deadline = Clock::time_point::max();
    /// Why the last read or write gave up; CDCMTK_OK while all is well.
    cdcmtk_outcome ended = CDCMTK_OK;
    int socket = -1;
    /// Over `socket`; null before it is made and after DCMTK has freed it.
    Connection *connection = nullptr;
    /// The first that came without TLS; negative before.
    int first_byte = -1;
    bool quick_acknowledge = true;
    /// Whether A-ABORT is sent by `Connection::abort` only: of DCMTK's own some name the wrong source, some come twice.
    bool withholds_aborts = false;

    /// Waits until the socket is ready for `events`. `interrupt` (or -1) ends the wait when it is readable. What was
    /// received is acknowledged before: not sticky (tcp(7)), and without it a sender with Nagle's algorithm waits 40 ms
    /// for each response.
    cdcmtk_outcome wait(short events, int interrupt = -1) const;
};

/// Keeps the reset that close() sends while bytes are unread from overtaking what the peer has yet to read.
void drain(int socket, int milliseconds);

class Connection : public DcmTCPConnection {
public:
    Connection(DcmNativeSocketType socket, Waiting *waiting);
    ~Connection() override;
    ssize_t read(void *buffer, size_t count) override;
    ssize_t write(void *buffer, size_t count) override;
    OFBool networkDataAvailable(int timeout) override;
    /// Waits until something can be read, or the connection has ended. `interrupt` as in `Waiting::wait`.
    cdcmtk_outcome await_data(int interrupt);
    /// Until `flush` what is written is held, and then sent in one piece: DCMTK writes header and body of a PDU one
    /// after the other, and the peer would be woken twice.
    void gather() { is_gathering_ = true; }
    void flush();
    /// Sends A-ABORT (PS3.8 §9.3.8) within a second, also after a timeout. Once.
    void abort(uint8_t source, uint8_t reason);

protected:
    /// As recv(2) and send(2), never waiting; with EAGAIN, `events` is what to poll(2) for.
    virtual ssize_t receive(void *buffer, size_t count, short *events);
    virtual ssize_t transmit(const void *buffer, size_t count, short *events);

private:
    ssize_t transmit_all(const void *buffer, size_t count);
    /// Whether nothing more will be received after `receive` gave this; then `Waiting::ended` says why.
    bool is_end(ssize_t received);
    size_t ahead() const { return ahead_end_ - ahead_begin_; }

    Waiting *waiting_;
    /// Read ahead of DCMTK, which reads each PDU in two pieces: its header, and what that promises.
    std::array<uint8_t, 4096> ahead_;
    size_t ahead_begin_ = 0;
    size_t ahead_end_ = 0;
    bool has_aborted_ = false;
    bool is_gathering_ = false;
    std::vector<uint8_t> gathered_;
};

class SecureSession;

class Layer : public DcmTransportLayer {
public:
    /// With a session, which somebody else owns, the handshake is done already.
    explicit Layer(Waiting *waiting, SecureSession *session = nullptr) : waiting_(waiting), session_(session) {}
    DcmTransportConnection *createConnection(DcmNativeSocketType socket, OFBool secure) override;

private:
    Waiting *waiting_;
    SecureSession *session_;
};

} // namespace cdcmtk
