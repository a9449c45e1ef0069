// Walks the elements of a Part 10 file (PS3.5 §7) without recursion and without keeping values, to bound what the
// library's recursive reader is given. Checked on arrival already; a file on disk is input all the same.
#include "compose_internal.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <vector>

namespace compose {
namespace {

constexpr uint32_t undefined_length = 0xFFFFFFFF;
constexpr size_t preamble_bytes = 132;

struct Bytes {
    const uint8_t *start;
    size_t count;
};

class MappedFile {
  public:
    explicit MappedFile(const char *path) {
        const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (descriptor < 0) throw Failure("the source cannot be opened");
        struct stat status;
        const bool known = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
        if (known) {
            count = static_cast<size_t>(status.st_size);
            start = mmap(nullptr, count, PROT_READ, MAP_PRIVATE, descriptor, 0);
        }
        close(descriptor);
        if (start == MAP_FAILED) throw Failure("the source cannot be mapped");
    }
    ~MappedFile() { munmap(start, count); }
    MappedFile(const MappedFile &) = delete;
    Bytes bytes() const { return {static_cast<const uint8_t *>(start), count}; }

  private:
    void *start = MAP_FAILED;
    size_t count = 0;
};

struct Syntax {
    bool is_explicit;
    bool is_big_endian;
};

class Walker {
  public:
    Walker(Bytes bytes, Syntax syntax, const cdcmtk_source_limits &limits)
        : bytes(bytes), syntax(syntax), limits(limits) {}

    /// - Returns: the position of Pixel Data, or the end.
    size_t walk(size_t from) {
        at = from;
        while (true) {
            close_ended();
            if (at >= bytes.count) break;
            if (at - from > limits.header_bytes) throw Failure("the source's header is over the limit");
            if (!step()) return at;
        }
        if (!levels.empty()) throw Failure("the source ends within a sequence");
        return at;
    }

    /// Value of a top-level UI element of the file meta header (always explicit), without padding.
    std::string transfer_syntax;
    /// Stop at the first element that is not of group 0002.
    bool in_meta = false;

  private:
    struct Level {
        size_t end; // SIZE_MAX: up to the delimiter
        bool is_item;
        bool is_fragments; // encapsulated, PS3.5 §A.4
        Syntax syntax;     // around it
    };

    size_t left() const { return bytes.count - at; }

    uint32_t number(int size) {
        if (left() < static_cast<size_t>(size)) throw Failure("the source ends within an element");
        uint32_t value = 0;
        for (int i = 0; i < size; i++) {
            const int shift = 8 * (syntax.is_big_endian ? size - 1 - i : i);
            value |= static_cast<uint32_t>(bytes.start[at + i]) << shift;
        }
        at += size;
        return value;
    }

    void close_ended() {
        while (!levels.empty() && at >= levels.back().end) pop();
    }

    void pop() {
        syntax = levels.back().syntax;
        if (!levels.back().is_item) depth--;
        levels.pop_back();
    }

    void push(uint32_t length, bool is_item, bool is_fragments) {
        if (length != undefined_length && length > left()) throw Failure("the source ends within a sequence");
        levels.push_back({length == undefined_length ? SIZE_MAX : at + length, is_item, is_fragments, syntax});
        if (!is_item && ++depth > limits.sequence_depth) throw Failure("the source nests sequences too deeply");
    }

    void skip(uint32_t length) {
        if (length > left()) throw Failure("the source ends within an element");
        at += length;
    }

    /// - Returns: false at Pixel Data, which is not consumed.
    bool step() {
        const size_t start = at;
        const auto group = static_cast<Uint16>(number(2));
        const DcmTagKey tag(group, static_cast<Uint16>(number(2)));
        if (levels.empty() && (in_meta ? tag.getGroup() != 2 : tag >= DCM_PixelData)) {
            at = start;
            return false;
        }
        if (tag.getGroup() == 0xFFFE) {
            delimiter(tag, number(4));
        } else {
            element(tag);
        }
        return true;
    }

    void delimiter(const DcmTagKey &tag, uint32_t length) {
        if (levels.empty()) throw Failure("the source has an item outside of a sequence");
        if (tag == DCM_Item) {
            if (levels.back().is_item) throw Failure("the source has an item within an item");
            if (levels.back().is_fragments) {
                skip(length);
            } else {
                push(length, true, false);
            }
        } else {
            pop();
        }
    }

    void element(const DcmTagKey &key) {
        if (!levels.empty() && !levels.back().is_item) throw Failure("the source has an element outside of an item");
        char vr[3] = "";
        uint32_t length = 0;
        if (syntax.is_explicit) {
            if (left() < 2) throw Failure("the source ends within an element");
            vr[0] = static_cast<char>(bytes.start[at]);
            vr[1] = static_cast<char>(bytes.start[at + 1]);
            if (vr[0] < 'A' || vr[0] > 'Z' || vr[1] < 'A' || vr[1] > 'Z') throw Failure("the source has an unknown VR");
            at += 2;
            if (DcmVR(vr).usesExtendedLengthEncoding()) number(2);
            length = number(DcmVR(vr).usesExtendedLengthEncoding() ? 4 : 2);
        } else {
            length = number(4);
        }
        const std::string name = syntax.is_explicit ? vr : DcmTag(key).getVR().getVRName();
        if (name == "SQ" || length == undefined_length) {
            push(length, false, length == undefined_length && (name == "OB" || name == "OW"));
            // PS3.5 §6.2.2 note 2: UN of undefined length is Implicit VR Little Endian inside.
            if (name == "UN" && syntax.is_explicit) syntax = {false, false};
            return;
        }
        if (in_meta && key == DCM_TransferSyntaxUID && length <= left())
            transfer_syntax.assign(reinterpret_cast<const char *>(bytes.start + at), length);
        skip(length);
    }

    Bytes bytes;
    Syntax syntax;
    const cdcmtk_source_limits &limits;
    size_t at = 0;
    uint32_t depth = 0;
    std::vector<Level> levels;
};

/// The first bytes of a deflated data set (PS3.5 §A.5), inflated: enough to hold a header within the limit.
std::vector<uint8_t> inflated(Bytes deflated, size_t most) {
    std::vector<uint8_t> result;
    z_stream stream = {};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw Failure("cannot inflate the source");
    stream.next_in = const_cast<Bytef *>(deflated.start);
    stream.avail_in = static_cast<uInt>(deflated.count);
    int status = Z_OK;
    while (status == Z_OK && result.size() < most) {
        const size_t step = 1 << 20;
        result.resize(result.size() + step);
        stream.next_out = result.data() + result.size() - step;
        stream.avail_out = step;
        status = inflate(&stream, Z_NO_FLUSH);
        result.resize(result.size() - stream.avail_out);
    }
    inflateEnd(&stream);
    if (status != Z_OK && status != Z_STREAM_END) throw Failure("the source's deflated data set is broken");
    return result;
}

} // namespace

void check_header(const char *path, const cdcmtk_source_limits &limits) {
    const MappedFile file(path);
    const Bytes bytes = file.bytes();
    if (bytes.count < preamble_bytes || std::string(bytes.start + 128, bytes.start + preamble_bytes) != "DICM")
        throw Failure("the source is no DICOM file");
    Walker meta(bytes, {true, false}, limits);
    meta.in_meta = true;
    const size_t start = meta.walk(preamble_bytes);
    const DcmXfer transfer_syntax(meta.transfer_syntax.c_str());
    const Syntax syntax = {
        static_cast<bool>(transfer_syntax.isExplicitVR()), static_cast<bool>(transfer_syntax.isBigEndian())};
    if (transfer_syntax.getXfer() == EXS_Unknown) throw Failure("the source has an unknown transfer syntax");
    if (transfer_syntax.getXfer() != EXS_DeflatedLittleEndianExplicit) {
        Walker(bytes, syntax, limits).walk(start);
        return;
    }
    // A header is followed by pixels; a cut in them is none in the header.
    const auto plain = inflated({bytes.start + start, bytes.count - start}, limits.header_bytes + (1 << 20));
    Walker({plain.data(), plain.size()}, syntax, limits).walk(0);
}

} // namespace compose
