// What a receiver could reach that knows no DICOM: takes objects from the fast sender's raw mode, writes each to a file
// of its own under a temporary name, renames it into its study's folder and answers with one message. With --sync it
// makes each object durable before it answers, by the node's steps: fsync of the file, rename, fsync of the study's
// folder, and of the folder of studies where a study is new.
//
//     raw-sink [--sync] PORT FOLDER        listens on 127.0.0.1 until it is ended

#include "wire.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <map>
#include <thread>

namespace {

struct Settings {
    std::string folder;
    bool sync = false;
};

int open_folder(const std::string &path) {
    const int descriptor = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) throw wire::failure("cannot open " + path);
    return descriptor;
}

void make_durable(int descriptor) {
    if (fsync(descriptor) != 0) throw wire::failure("cannot fsync");
}

class Connection {
  public:
    Connection(const Settings &settings, int socket, uint64_t number)
        : settings_(settings), socket_(socket), number_(number), buffer_(262144) {}

    ~Connection() {
        for (const auto &[study, descriptor] : studies_) close(descriptor);
        close(socket_);
    }

    void serve() {
        wire::no_delay(socket_);
        wire::RawHeader header;
        while (receive(&header, sizeof header)) {
            if (std::memcmp(header.magic, "OBJ1", 4) != 0) throw std::runtime_error("not from the fast sender");
            store(header);
            wire::RawAnswer answer;
            answer.sequence = header.sequence;
            wire::write_all(socket_, &answer, sizeof answer);
        }
    }

  private:
    // Unbuffered: the object behind a header goes straight to its file.
    bool receive(void *into, size_t count) {
        size_t done = 0;
        while (done < count) {
            const ssize_t received = recv(socket_, static_cast<char *>(into) + done, count - done, 0);
            if (received < 0 && errno == EINTR) continue;
            if (received < 0) throw wire::failure("cannot receive");
            if (received == 0 && done == 0) return false;
            if (received == 0) throw std::runtime_error("the sender closed within an object");
            done += static_cast<size_t>(received);
        }
        return true;
    }

    void store(const wire::RawHeader &header) {
        const std::string name = std::to_string(number_) + "-" + std::to_string(header.sequence);
        const std::string temporary = settings_.folder + "/incoming/" + name + ".part";
        const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
        if (file < 0) throw wire::failure("cannot create a file");
        for (uint64_t left = header.bytes; left > 0;) {
            const size_t wanted = static_cast<size_t>(std::min<uint64_t>(left, buffer_.size()));
            const ssize_t received = recv(socket_, buffer_.data(), wanted, 0);
            if (received < 0 && errno == EINTR) continue;
            if (received <= 0) throw wire::failure("cannot receive an object");
            write_file(file, static_cast<size_t>(received));
            left -= static_cast<uint64_t>(received);
        }
        if (settings_.sync) make_durable(file);
        close(file);
        const int folder = study(header.study);
        const std::string final = settings_.folder + "/studies/" + std::to_string(header.study) + "/" + name + ".dcm";
        if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, final.c_str(), RENAME_NOREPLACE) != 0)
            throw wire::failure("cannot rename");
        if (settings_.sync) make_durable(folder);
    }

    void write_file(int file, size_t count) {
        for (size_t done = 0; done < count;) {
            const ssize_t written = write(file, buffer_.data() + done, count - done);
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) throw wire::failure("cannot write");
            done += static_cast<size_t>(written);
        }
    }

    // The descriptor of a study's folder, made where it is new.
    int study(uint32_t number) {
        const auto known = studies_.find(number);
        if (known != studies_.end()) return known->second;
        const std::string parent = settings_.folder + "/studies";
        const std::string path = parent + "/" + std::to_string(number);
        if (mkdir(path.c_str(), 0750) != 0 && errno != EEXIST) throw wire::failure("cannot make " + path);
        if (settings_.sync) {
            const int descriptor = open_folder(parent);
            make_durable(descriptor);
            close(descriptor);
        }
        return studies_[number] = open_folder(path);
    }

    const Settings &settings_;
    const int socket_;
    const uint64_t number_;
    std::vector<char> buffer_;
    std::map<uint32_t, int> studies_;
};

void run(const Settings &settings, int port) {
    for (const char *name : {"/incoming", "/studies"})
        if (mkdir((settings.folder + name).c_str(), 0750) != 0 && errno != EEXIST) throw wire::failure("cannot mkdir");
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const sockaddr_in address = wire::address_of("127.0.0.1", port);
    if (bind(listener, reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0) throw wire::failure("bind");
    if (listen(listener, 128) != 0) throw wire::failure("listen");
    for (uint64_t number = 1;; number++) {
        const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (socket < 0 && errno == EINTR) continue;
        if (socket < 0) throw wire::failure("accept");
        std::thread([&settings, socket, number] {
            try {
                Connection(settings, socket, number).serve();
            } catch (const std::exception &error) {
                std::fprintf(stderr, "raw-sink: %s\n", error.what());
                std::_Exit(1);
            }
        }).detach();
    }
}

} // namespace

int main(int count, char **arguments) {
    Settings settings;
    int next = 1;
    if (next < count && std::strcmp(arguments[next], "--sync") == 0) {
        settings.sync = true;
        next++;
    }
    if (count - next != 2) {
        std::fprintf(stderr, "usage: raw-sink [--sync] PORT FOLDER\n");
        return 64;
    }
    settings.folder = arguments[next + 1];
    try {
        run(settings, std::atoi(arguments[next]));
    } catch (const std::exception &error) {
        std::fprintf(stderr, "raw-sink: %s\n", error.what());
    }
    return 1;
}
