// Sends stored objects as fast as DIMSE allows: one C-STORE-RQ at a time on each association, each object in one
// sendmsg(2) from mapped files, TCP_NODELAY. It knows just enough of PS3.8 and PS3.7 to measure receivers; any status
// but 0000, any refused context and any answer that does not belong to its request ends it with a message and exit
// code 1.
//
//     fast-sender store HOST PORT --objects LIST [--associations K] [--gate] [options]
//     fast-sender raw   HOST PORT --objects LIST [--associations K] [--gate] [options]   to raw-sink, same framing
//     fast-sender rate  HOST PORT --seconds S [--associations K] [--pace N] [options]    open, C-ECHO, release
//     fast-sender echo  HOST PORT --count N [--pace N] [options]                         C-ECHOs on one association
//
//     --calling, --called   AE titles                 --timeout    seconds for each answer (60)
//     --source              address to send from      --pace       most per second on each association
//     --keep-going          rate: count what fails and go on
//     --gate                say "ready" when all associations are open; start at a line on standard input
//
// LIST has a line "STUDY PATH" for each object, STUDY a number from 0: all of a study go over association STUDY mod K.
// Standard output ends with one line of JSON; times are in seconds, latencies in milliseconds.

#include "wire.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<uint8_t>;

constexpr const char *verification = "1.2.840.10008.1.1";
constexpr const char *implicit_little_endian = "1.2.840.10008.1.2";
constexpr const char *implementation_class = "2.25.207524466118914935170190063172190214401";
// What we offer to receive, and the most that we send in one PDU where the peer sets no limit.
constexpr uint32_t most_pdu_bytes = 131072;

double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

// --- Arguments -------------------------------------------------------------------------------------------------------

struct Arguments {
    std::string mode, host, objects, source;
    std::string calling = "FASTSENDER", called = "ANY-SCP";
    int port = 0, associations = 1, count = 0;
    double seconds = 0, pace = 0, timeout = 60;
    bool gate = false, keep_going = false;
};

Arguments parse(int count, char **words) {
    if (count < 4) throw std::invalid_argument("usage: fast-sender store|raw|rate|echo HOST PORT [options]");
    Arguments arguments;
    arguments.mode = words[1];
    arguments.host = words[2];
    arguments.port = std::stoi(words[3]);
    const std::map<std::string, std::string *> texts = {
        {"--objects", &arguments.objects},
        {"--source", &arguments.source},
        {"--calling", &arguments.calling},
        {"--called", &arguments.called}};
    const std::map<std::string, double *> numbers = {
        {"--seconds", &arguments.seconds}, {"--pace", &arguments.pace}, {"--timeout", &arguments.timeout}};
    const std::map<std::string, int *> counts = {
        {"--associations", &arguments.associations}, {"--count", &arguments.count}};
    const std::map<std::string, bool *> flags = {{"--gate", &arguments.gate}, {"--keep-going", &arguments.keep_going}};
    for (int i = 4; i < count; i++) {
        const std::string word = words[i];
        if (const auto flag = flags.find(word); flag != flags.end()) {
            *flag->second = true;
            continue;
        }
        if (++i == count) throw std::invalid_argument(word + " wants a value");
        if (const auto text = texts.find(word); text != texts.end()) *text->second = words[i];
        else if (const auto number = numbers.find(word); number != numbers.end()) *number->second = std::stod(words[i]);
        else if (const auto whole = counts.find(word); whole != counts.end()) *whole->second = std::stoi(words[i]);
        else throw std::invalid_argument("unknown option " + word);
    }
    if (arguments.associations < 1) throw std::invalid_argument("--associations wants at least 1");
    return arguments;
}

// --- Bytes -----------------------------------------------------------------------------------------------------------

void put16(Bytes &to, unsigned value) {
    to.push_back(static_cast<uint8_t>(value >> 8));
    to.push_back(static_cast<uint8_t>(value));
}

void put32(Bytes &to, uint32_t value) {
    put16(to, value >> 16);
    put16(to, value & 0xFFFF);
}

void put(Bytes &to, const std::string &text) { to.insert(to.end(), text.begin(), text.end()); }

uint32_t get32(const uint8_t *from) {
    return uint32_t(from[0]) << 24 | uint32_t(from[1]) << 16 | uint32_t(from[2]) << 8 | from[3];
}

unsigned get16(const uint8_t *from) { return unsigned(from[0]) << 8 | from[1]; }

// An item of an A-ASSOCIATE PDU: type, reserved, length, value. PS3.8 §9.3.2
void put_item(Bytes &to, uint8_t type, const Bytes &value) {
    to.push_back(type);
    to.push_back(0);
    put16(to, static_cast<unsigned>(value.size()));
    to.insert(to.end(), value.begin(), value.end());
}

void put_item(Bytes &to, uint8_t type, const std::string &text) { put_item(to, type, Bytes(text.begin(), text.end())); }

// An element of a command set, implicit VR little endian. PS3.7 §6.3.1
void put_element(Bytes &to, unsigned element, const Bytes &value) {
    const size_t length = value.size();
    for (unsigned byte : {0u, 0u, element & 0xFF, element >> 8}) to.push_back(static_cast<uint8_t>(byte));
    for (int shift : {0, 8, 16, 24}) to.push_back(static_cast<uint8_t>(length >> shift));
    to.insert(to.end(), value.begin(), value.end());
}

void put_element(Bytes &to, unsigned element, unsigned value) {
    put_element(to, element, Bytes{static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8)});
}

void put_element(Bytes &to, unsigned element, std::string uid) {
    if (uid.size() % 2) uid.push_back('\0');
    put_element(to, element, Bytes(uid.begin(), uid.end()));
}

Bytes with_group_length(const Bytes &elements) {
    Bytes set;
    const size_t length = elements.size();
    put_element(
        set, 0x0000,
        Bytes{static_cast<uint8_t>(length), static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length >> 16),
              static_cast<uint8_t>(length >> 24)});
    set.insert(set.end(), elements.begin(), elements.end());
    return set;
}

// --- Objects ---------------------------------------------------------------------------------------------------------

// A file of PS3.10, mapped for the life of the process.
struct Object {
    unsigned study = 0;
    std::string sop_class, sop_instance, transfer_syntax;
    const uint8_t *data_set = nullptr;
    size_t bytes = 0;
};

unsigned little16(const uint8_t *from) { return from[0] | unsigned(from[1]) << 8; }

uint32_t little32(const uint8_t *from) { return little16(from) | uint32_t(little16(from + 2)) << 16; }

Object map_object(unsigned study, const std::string &path) {
    const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status = {};
    if (descriptor < 0 || fstat(descriptor, &status) != 0) throw wire::failure("cannot open " + path);
    const size_t size = static_cast<size_t>(status.st_size);
    void *mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED | MAP_POPULATE, descriptor, 0);
    close(descriptor);
    if (mapped == MAP_FAILED) throw wire::failure("cannot map " + path);
    const uint8_t *bytes = static_cast<const uint8_t *>(mapped);
    if (size < 144 || std::memcmp(bytes + 128, "DICM", 4) != 0) throw std::runtime_error(path + " is no DICOM file");
    Object object;
    object.study = study;
    // The meta header is explicit VR little endian; its first element says where it ends. PS3.10 §7.1
    const size_t end = 144 + little32(bytes + 140);
    for (size_t at = 144; at + 8 <= end && end <= size;) {
        const unsigned element = little16(bytes + at + 2);
        const bool is_long = std::memcmp(bytes + at + 4, "OB", 2) == 0;
        const size_t length = is_long ? little32(bytes + at + 8) : little16(bytes + at + 6);
        const size_t value = at + (is_long ? 12 : 8);
        if (value + length > end) break;
        std::string text(reinterpret_cast<const char *>(bytes + value), length);
        while (!text.empty() && text.back() == '\0') text.pop_back();
        if (element == 0x0002) object.sop_class = text;
        if (element == 0x0003) object.sop_instance = text;
        if (element == 0x0010) object.transfer_syntax = text;
        at = value + length;
    }
    if (object.sop_class.empty() || object.sop_instance.empty() || object.transfer_syntax.empty())
        throw std::runtime_error(path + " has no whole meta header");
    object.data_set = bytes + end;
    object.bytes = size - end;
    return object;
}

std::vector<Object> map_objects(const std::string &list) {
    std::ifstream lines(list);
    if (!lines) throw std::runtime_error("cannot read " + list);
    std::vector<Object> objects;
    unsigned study = 0;
    std::string path;
    while (lines >> study && std::getline(lines >> std::ws, path)) objects.push_back(map_object(study, path));
    if (objects.empty()) throw std::runtime_error(list + " names no objects");
    return objects;
}

// One object as it goes over the wire: a P-DATA-TF PDU with the command, then as many with the data set as it takes.
// PS3.8 §9.3.5
class Framing {
  public:
    // - Returns: the bytes in all; `vectors` holds them until the next call.
    size_t frame(const Object &object, uint8_t context, unsigned message, uint32_t pdu_bytes) {
        Bytes elements;
        put_element(elements, 0x0002, object.sop_class);
        put_element(elements, 0x0100, 0x0001u); // C-STORE-RQ, PS3.7 §9.3.1.1
        put_element(elements, 0x0110, message);
        put_element(elements, 0x0700, 0u);      // medium priority
        put_element(elements, 0x0800, 0x0001u); // a data set follows
        put_element(elements, 0x1000, object.sop_instance);
        command_ = with_group_length(elements);
        // Fragments have an even number of bytes.
        const size_t most = (pdu_bytes - 6) & ~size_t(1);
        if (command_.size() > most) throw std::runtime_error("the peer's PDUs are too small for a command");
        const size_t fragments = (object.bytes + most - 1) / most;
        headers_.resize(fragments + 1);
        vectors.clear();
        add(0, command_.data(), command_.size(), context, 0x03);
        for (size_t i = 0; i < fragments; i++) {
            const size_t count = std::min(most, object.bytes - i * most);
            add(i + 1, object.data_set + i * most, count, context, i + 1 == fragments ? 0x02 : 0x00);
        }
        size_t total = 0;
        for (const iovec &each : vectors) total += each.iov_len;
        return total;
    }

    std::vector<iovec> vectors;

  private:
    void add(size_t index, const uint8_t *bytes, size_t count, uint8_t context, uint8_t control) {
        Bytes header = {0x04, 0};
        put32(header, static_cast<uint32_t>(count + 6));
        put32(header, static_cast<uint32_t>(count + 2));
        header.push_back(context);
        header.push_back(control);
        std::copy(header.begin(), header.end(), headers_[index].begin());
        vectors.push_back({headers_[index].data(), headers_[index].size()});
        vectors.push_back({const_cast<uint8_t *>(bytes), count});
    }

    Bytes command_;
    std::vector<std::array<uint8_t, 12>> headers_;
};

// --- Connections -----------------------------------------------------------------------------------------------------

class Socket {
  public:
    explicit Socket(const Arguments &arguments) : descriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (descriptor < 0) throw wire::failure("socket");
        try {
            connect_to(arguments);
        } catch (...) {
            close(descriptor);
            throw;
        }
    }
    Socket(const Socket &) = delete;
    ~Socket() { close(descriptor); }

    const int descriptor;

  private:
    void connect_to(const Arguments &arguments) {
        wire::no_delay(descriptor);
        const timeval limit = {
            static_cast<time_t>(arguments.timeout), static_cast<suseconds_t>(std::fmod(arguments.timeout, 1) * 1e6)};
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (!arguments.source.empty()) {
            const int on = 1;
            setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
            const sockaddr_in source = wire::address_of(arguments.source, 0);
            if (bind(descriptor, reinterpret_cast<const sockaddr *>(&source), sizeof source) != 0)
                throw wire::failure("cannot send from " + arguments.source);
        }
        const sockaddr_in address = wire::address_of(arguments.host, arguments.port);
        if (connect(descriptor, reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0)
            throw wire::failure("cannot connect");
    }
};

// What an association proposes: abstract and transfer syntax.
using Proposal = std::pair<std::string, std::string>;

class Association {
  public:
    Association(const Arguments &arguments, const std::vector<Proposal> &proposals)
        : socket_(arguments), reader_(socket_.descriptor) {
        const Bytes request = associate_request(arguments, proposals);
        wire::write_all(socket_.descriptor, request.data(), request.size());
        accept_answer(read_pdu(), proposals);
    }

    // - Returns: the status of the response.
    unsigned store(const Object &object) {
        const auto context = contexts_.find({object.sop_class, object.transfer_syntax});
        if (context == contexts_.end()) throw std::runtime_error("no presentation context for " + object.sop_class);
        message_ = message_ % 65535 + 1;
        framing_.frame(object, context->second, message_, pdu_bytes_);
        wire::write_all(socket_.descriptor, framing_.vectors);
        return read_status(0x8001);
    }

    unsigned echo() {
        message_ = message_ % 65535 + 1;
        Bytes elements;
        put_element(elements, 0x0002, std::string(verification));
        put_element(elements, 0x0100, 0x0030u); // C-ECHO-RQ, PS3.7 §9.3.5.1
        put_element(elements, 0x0110, message_);
        put_element(elements, 0x0800, 0x0101u); // no data set
        const Bytes command = with_group_length(elements);
        Bytes pdu = {0x04, 0};
        put32(pdu, static_cast<uint32_t>(command.size() + 6));
        put32(pdu, static_cast<uint32_t>(command.size() + 2));
        pdu.push_back(contexts_.at({verification, implicit_little_endian}));
        pdu.push_back(0x03);
        pdu.insert(pdu.end(), command.begin(), command.end());
        wire::write_all(socket_.descriptor, pdu.data(), pdu.size());
        return read_status(0x8030);
    }

    void release() {
        const uint8_t request[10] = {0x05, 0, 0, 0, 0, 4, 0, 0, 0, 0};
        wire::write_all(socket_.descriptor, request, sizeof request);
        if (read_pdu() != 0x06) throw std::runtime_error("no A-RELEASE-RP");
    }

  private:
    static Bytes associate_request(const Arguments &arguments, const std::vector<Proposal> &proposals) {
        Bytes body;
        put16(body, 1);
        put16(body, 0);
        for (std::string title : {arguments.called, arguments.calling}) {
            title.resize(16, ' ');
            put(body, title);
        }
        body.resize(body.size() + 32);
        put_item(body, 0x10, std::string("1.2.840.10008.3.1.1.1"));
        for (size_t i = 0; i < proposals.size(); i++) {
            Bytes context = {static_cast<uint8_t>(2 * i + 1), 0, 0, 0};
            put_item(context, 0x30, proposals[i].first);
            put_item(context, 0x40, proposals[i].second);
            put_item(body, 0x20, context);
        }
        Bytes user, length;
        put32(length, most_pdu_bytes);
        put_item(user, 0x51, length);
        put_item(user, 0x52, std::string(implementation_class));
        put_item(user, 0x55, std::string("FASTSENDER"));
        put_item(body, 0x50, user);
        Bytes pdu = {0x01, 0};
        put32(pdu, static_cast<uint32_t>(body.size()));
        pdu.insert(pdu.end(), body.begin(), body.end());
        return pdu;
    }

    void accept_answer(uint8_t type, const std::vector<Proposal> &proposals) {
        if (type == 0x03 && body_.size() >= 4)
            throw std::runtime_error(
                "association rejected: result " + std::to_string(body_[1]) + ", source " + std::to_string(body_[2]) +
                ", reason " + std::to_string(body_[3]));
        if (type != 0x02) throw std::runtime_error("no A-ASSOCIATE-AC");
        pdu_bytes_ = most_pdu_bytes;
        for (size_t at = 68; at + 4 <= body_.size();) {
            const uint8_t *item = body_.data() + at;
            const size_t length = get16(item + 2);
            if (at + 4 + length > body_.size()) throw std::runtime_error("an A-ASSOCIATE-AC that cannot be read");
            if (item[0] == 0x21 && length >= 4) take_context(item[4], item[6], proposals);
            if (item[0] == 0x50) take_user_information(item + 4, length);
            at += 4 + length;
        }
    }

    void take_context(uint8_t id, uint8_t result, const std::vector<Proposal> &proposals) {
        const size_t index = id / 2u;
        if (index >= proposals.size()) throw std::runtime_error("a presentation context that was not proposed");
        if (result != 0) throw std::runtime_error("presentation context refused: " + proposals[index].first);
        contexts_[proposals[index]] = id;
    }

    void take_user_information(const uint8_t *items, size_t bytes) {
        for (size_t at = 0; at + 4 <= bytes; at += 4 + get16(items + at + 2)) {
            if (items[at] != 0x51 || at + 8 > bytes) continue;
            const uint32_t most = get32(items + at + 4);
            if (most > 0) pdu_bytes_ = std::min(pdu_bytes_, most);
        }
    }

    // - Returns: the type; `body_` has what follows the length.
    uint8_t read_pdu() {
        uint8_t header[6];
        if (!reader_.read(header, sizeof header)) throw std::runtime_error("the peer closed the connection");
        const uint32_t length = get32(header + 2);
        if (length > 1 << 20) throw std::runtime_error("a PDU that is too long");
        body_.resize(length);
        if (length > 0 && !reader_.read(body_.data(), length)) throw std::runtime_error("the peer closed within a PDU");
        if (header[0] == 0x07) throw std::runtime_error("association aborted by the peer");
        return header[0];
    }

    unsigned read_status(unsigned expected_command) {
        Bytes command;
        for (bool last = false; !last;) {
            if (read_pdu() != 0x04) throw std::runtime_error("another PDU where a response was due");
            for (size_t at = 0; at + 6 <= body_.size();) {
                const size_t length = get32(body_.data() + at);
                if (length < 2 || at + 4 + length > body_.size()) throw std::runtime_error("a PDV that cannot be read");
                command.insert(
                    command.end(), body_.begin() + static_cast<long>(at + 6),
                    body_.begin() + static_cast<long>(at + 4 + length));
                last = body_[at + 5] & 0x02;
                at += 4 + length;
            }
        }
        std::optional<unsigned> field, message, status;
        for (size_t at = 0; at + 10 <= command.size(); at += 8 + little32(command.data() + at + 4)) {
            const unsigned element = little16(command.data() + at + 2);
            const unsigned value = little16(command.data() + at + 8);
            if (element == 0x0100) field = value;
            if (element == 0x0120) message = value;
            if (element == 0x0900) status = value;
        }
        if (field != expected_command || message != message_ || !status)
            throw std::runtime_error("a response that does not belong to its request");
        return *status;
    }

    Socket socket_;
    wire::Reader reader_;
    Framing framing_;
    Bytes body_;
    std::map<Proposal, uint8_t> contexts_;
    uint32_t pdu_bytes_ = most_pdu_bytes;
    unsigned message_ = 0;
};

// The same bytes to the raw sink.
class RawConnection {
  public:
    explicit RawConnection(const Arguments &arguments) : socket_(arguments), reader_(socket_.descriptor) {}

    unsigned store(const Object &object) {
        wire::RawHeader header;
        header.study = object.study;
        header.sequence = ++sequence_;
        header.bytes = framing_.frame(object, 1, static_cast<unsigned>(sequence_ % 65535 + 1), most_pdu_bytes);
        framing_.vectors.insert(framing_.vectors.begin(), {&header, sizeof header});
        wire::write_all(socket_.descriptor, framing_.vectors);
        wire::RawAnswer answer;
        if (!reader_.read(&answer, sizeof answer)) throw std::runtime_error("the sink closed the connection");
        if (std::memcmp(answer.magic, "ACK1", 4) != 0 || answer.sequence != sequence_)
            throw std::runtime_error("not the sink's answer");
        return answer.status;
    }

    void release() {}

  private:
    Socket socket_;
    wire::Reader reader_;
    Framing framing_;
    uint64_t sequence_ = 0;
};

// --- Results ---------------------------------------------------------------------------------------------------------

struct Tally {
    std::vector<double> milliseconds;
    std::map<unsigned, int> statuses;
    int failed = 0;

    void add(unsigned status, double seconds) {
        statuses[status]++;
        milliseconds.push_back(seconds * 1000);
    }
    void add(const Tally &other) {
        milliseconds.insert(milliseconds.end(), other.milliseconds.begin(), other.milliseconds.end());
        for (const auto &[status, count] : other.statuses) statuses[status] += count;
        failed += other.failed;
    }
};

// Nearest rank.
double percentile(const std::vector<double> &sorted, double share) {
    if (sorted.empty()) return 0;
    const double rank = std::ceil(share * static_cast<double>(sorted.size()));
    return sorted[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

void print(Tally &tally, const Arguments &arguments, double seconds, double opening, uint64_t bytes) {
    std::sort(tally.milliseconds.begin(), tally.milliseconds.end());
    rusage used = {};
    getrusage(RUSAGE_SELF, &used);
    const auto in_seconds = [](const timeval &time) { return double(time.tv_sec) + double(time.tv_usec) / 1e6; };
    std::ostringstream text;
    text << "{\"count\": " << tally.milliseconds.size() << ", \"failed\": " << tally.failed
         << ", \"seconds\": " << seconds << ", \"opening_seconds\": " << opening
         << ", \"associations\": " << arguments.associations << ", \"bytes\": " << bytes
         << ", \"cpu_seconds\": " << in_seconds(used.ru_utime) + in_seconds(used.ru_stime)
         << ", \"p50_ms\": " << percentile(tally.milliseconds, 0.5)
         << ", \"p99_ms\": " << percentile(tally.milliseconds, 0.99)
         << ", \"most_ms\": " << (tally.milliseconds.empty() ? 0 : tally.milliseconds.back()) << ", \"statuses\": {";
    const char *separator = "";
    for (const auto &[status, count] : tally.statuses) {
        char name[8];
        std::snprintf(name, sizeof name, "%04X", status);
        text << separator << '"' << name << "\": " << count;
        separator = ", ";
    }
    std::cout << text.str() << "}}" << std::endl;
}

[[noreturn]] void fail(const std::string &text) {
    static std::mutex once;
    once.lock();
    std::fprintf(stderr, "fast-sender: %s\n", text.c_str());
    std::_Exit(1);
}

// --- Modes -----------------------------------------------------------------------------------------------------------

std::vector<Proposal> proposals_for(const std::vector<Object> &objects) {
    std::vector<Proposal> proposals;
    for (const Object &object : objects) {
        const Proposal one = {object.sop_class, object.transfer_syntax};
        if (std::find(proposals.begin(), proposals.end(), one) == proposals.end()) proposals.push_back(one);
    }
    return proposals;
}

template <typename Open> void send_objects(const Arguments &arguments, const std::vector<Object> &objects, Open open) {
    const unsigned parallel = static_cast<unsigned>(arguments.associations);
    std::vector<std::vector<const Object *>> shares(parallel);
    uint64_t bytes = 0;
    for (const Object &object : objects) {
        shares[object.study % parallel].push_back(&object);
        bytes += object.bytes;
    }
    for (const auto &share : shares)
        if (share.empty()) throw std::runtime_error("fewer studies than associations");
    std::barrier<> opened(arguments.associations + 1), started(arguments.associations + 1);
    std::vector<Tally> tallies(parallel);
    std::vector<Clock::time_point> ends(parallel);
    std::vector<std::thread> threads;
    const auto begin = Clock::now();
    for (unsigned i = 0; i < parallel; i++) {
        threads.emplace_back([&, i] {
            try {
                auto connection = open();
                opened.arrive_and_wait();
                started.arrive_and_wait();
                for (const Object *object : shares[i]) {
                    const auto sent = Clock::now();
                    const unsigned status = connection->store(*object);
                    tallies[i].add(status, seconds_between(sent, Clock::now()));
                    if (status != 0) {
                        char text[40];
                        std::snprintf(text, sizeof text, "C-STORE answered with status %04X", status);
                        fail(text);
                    }
                }
                ends[i] = Clock::now();
                connection->release();
            } catch (const std::exception &error) {
                fail(error.what());
            }
        });
    }
    opened.arrive_and_wait();
    const double opening = seconds_between(begin, Clock::now());
    if (arguments.gate) {
        std::cout << "ready" << std::endl;
        std::string line;
        if (!std::getline(std::cin, line)) fail("nobody opened the gate");
    }
    const auto start = Clock::now();
    started.arrive_and_wait();
    Tally all;
    for (unsigned i = 0; i < parallel; i++) {
        threads[i].join();
        all.add(tallies[i]);
    }
    print(all, arguments, seconds_between(start, *std::max_element(ends.begin(), ends.end())), opening, bytes);
}

void check_echo(unsigned status) {
    if (status != 0) throw std::runtime_error("C-ECHO was not answered with success");
}

// When the next of a paced row is due.
void keep_pace(const Arguments &arguments, Clock::time_point start, int index) {
    if (arguments.pace <= 0) return;
    const std::chrono::duration<double> due(index / arguments.pace);
    std::this_thread::sleep_until(start + std::chrono::duration_cast<Clock::duration>(due));
}

void measure_rate(const Arguments &arguments) {
    std::vector<Tally> tallies(static_cast<size_t>(arguments.associations));
    std::vector<std::thread> threads;
    const auto start = Clock::now();
    for (Tally &tally : tallies) {
        threads.emplace_back([&arguments, &tally, start] {
            for (int i = 0;; i++) {
                keep_pace(arguments, start, i);
                const auto begin = Clock::now();
                if (seconds_between(start, begin) >= arguments.seconds) return;
                try {
                    Association association(arguments, {{verification, implicit_little_endian}});
                    check_echo(association.echo());
                    association.release();
                } catch (const std::exception &error) {
                    if (!arguments.keep_going) fail(error.what());
                    tally.failed++;
                    continue;
                }
                tally.add(0, seconds_between(begin, Clock::now()));
            }
        });
    }
    for (std::thread &each : threads) each.join();
    const double seconds = seconds_between(start, Clock::now());
    Tally all;
    for (const Tally &each : tallies) all.add(each);
    print(all, arguments, seconds, 0, 0);
}

void measure_echoes(const Arguments &arguments) {
    const auto begin = Clock::now();
    Association association(arguments, {{verification, implicit_little_endian}});
    const auto start = Clock::now();
    Tally tally;
    for (int i = 0; i < arguments.count; i++) {
        keep_pace(arguments, start, i);
        const auto sent = Clock::now();
        check_echo(association.echo());
        tally.add(0, seconds_between(sent, Clock::now()));
    }
    const double seconds = seconds_between(start, Clock::now());
    association.release();
    print(tally, arguments, seconds, seconds_between(begin, start), 0);
}

void run(const Arguments &arguments) {
    if (arguments.mode == "rate") return measure_rate(arguments);
    if (arguments.mode == "echo") return measure_echoes(arguments);
    const std::vector<Object> objects = map_objects(arguments.objects);
    if (arguments.mode == "raw")
        return send_objects(arguments, objects, [&] { return std::make_unique<RawConnection>(arguments); });
    if (arguments.mode != "store") throw std::invalid_argument("unknown mode " + arguments.mode);
    const std::vector<Proposal> proposals = proposals_for(objects);
    if (proposals.size() > 128) throw std::runtime_error("more than 128 presentation contexts");
    send_objects(arguments, objects, [&] { return std::make_unique<Association>(arguments, proposals); });
}

} // namespace

int main(int count, char **words) {
    try {
        run(parse(count, words));
    } catch (const std::invalid_argument &error) {
        std::fprintf(stderr, "fast-sender: %s\n", error.what());
        return 64;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "fast-sender: %s\n", error.what());
        return 1;
    }
    return 0;
}
