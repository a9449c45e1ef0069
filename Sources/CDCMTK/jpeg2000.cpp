#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dcpixseq.h"
#include "dcmtk/dcmdata/dcpxitem.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <openjpeg-2.5/openjpeg.h>

#include "jpeg2000.hpp"

namespace cdcmtk {

namespace {

const uint8_t *fragment_bytes(DcmPixelSequence *sequence, unsigned long index, size_t &count) {
    DcmPixelItem *item = nullptr;
    Uint8 *bytes = nullptr;
    count = 0;
    if (sequence->getItem(item, index).bad() || !item) return nullptr;
    if (item->getLength() == 0 || item->getUint8Array(bytes).bad()) return nullptr;
    count = item->getLength();
    return bytes;
}

/// Frees the bytes again; they can be read from the file once more.
void release_fragment(DcmPixelSequence *sequence, unsigned long index) {
    DcmPixelItem *item = nullptr;
    if (sequence->getItem(item, index).good() && item) item->compact();
}

bool starts_codestream(const uint8_t *bytes, size_t count) {
    static const uint8_t raw[] = {0xff, 0x4f, 0xff, 0x51};
    static const uint8_t boxed[] = {0, 0, 0, 12, 'j', 'P', ' ', ' '};
    return bytes && ((count >= 4 && !std::memcmp(bytes, raw, 4)) || (count >= 8 && !std::memcmp(bytes, boxed, 8)));
}

/// JPEG and JPEG-LS too: within a frame's data, no FF is followed by D8.
bool starts_frame(const uint8_t *bytes, size_t count) {
    static const uint8_t start_of_image[] = {0xff, 0xd8, 0xff};
    return starts_codestream(bytes, count) || (bytes && count >= 3 && !std::memcmp(bytes, start_of_image, 3));
}

std::vector<FragmentRange> ranges_from_starts(const std::vector<unsigned long> &starts, unsigned long end) {
    std::vector<FragmentRange> ranges;
    for (size_t i = 0; i < starts.size(); i++) {
        const unsigned long next = i + 1 < starts.size() ? starts[i + 1] : end;
        ranges.push_back({starts[i], next > starts[i] ? next - starts[i] : 0});
    }
    return ranges;
}

std::vector<unsigned long> starts_from_offset_table(DcmPixelSequence *sequence, uint32_t frames) {
    size_t count = 0;
    const uint8_t *table = fragment_bytes(sequence, 0, count);
    std::vector<unsigned long> starts;
    if (!table || count < size_t(frames) * 4) return starts;
    uint64_t offset = 0;
    unsigned long index = 1;
    const unsigned long end = sequence->card();
    for (uint32_t frame = 0; frame < frames; frame++) {
        const uint8_t *entry = table + size_t(frame) * 4;
        const uint32_t wanted = entry[0] | entry[1] << 8 | entry[2] << 16 | uint32_t(entry[3]) << 24;
        while (index < end && offset < wanted) {
            DcmPixelItem *item = nullptr;
            if (sequence->getItem(item, index).bad() || !item) return {};
            offset += 8 + uint64_t(item->getLength());
            index++;
        }
        if (index >= end || offset != wanted) return {};
        starts.push_back(index);
    }
    return starts;
}

std::vector<unsigned long> starts_from_codestreams(DcmPixelSequence *sequence) {
    std::vector<unsigned long> starts;
    for (unsigned long index = 1; index < sequence->card(); index++) {
        size_t count = 0;
        const uint8_t *bytes = fragment_bytes(sequence, index, count);
        if (starts_frame(bytes, count)) starts.push_back(index);
        release_fragment(sequence, index);
    }
    return starts;
}

struct Memory {
    const uint8_t *bytes;
    size_t count;
    size_t at;
};

OPJ_SIZE_T read_memory(void *buffer, OPJ_SIZE_T count, void *context) {
    auto *memory = static_cast<Memory *>(context);
    const size_t left = memory->count - memory->at;
    if (left == 0) return static_cast<OPJ_SIZE_T>(-1);
    const size_t taken = std::min<size_t>(left, count);
    std::memcpy(buffer, memory->bytes + memory->at, taken);
    memory->at += taken;
    return taken;
}

OPJ_OFF_T skip_memory(OPJ_OFF_T count, void *context) {
    auto *memory = static_cast<Memory *>(context);
    if (count < 0) return -1;
    const size_t left = memory->count - memory->at;
    if (left == 0 && count > 0) return -1;
    const size_t taken = std::min<size_t>(left, static_cast<size_t>(count));
    memory->at += taken;
    return static_cast<OPJ_OFF_T>(taken);
}

OPJ_BOOL seek_memory(OPJ_OFF_T to, void *context) {
    auto *memory = static_cast<Memory *>(context);
    if (to < 0 || static_cast<size_t>(to) > memory->count) return OPJ_FALSE;
    memory->at = static_cast<size_t>(to);
    return OPJ_TRUE;
}

void ignore_message(const char *, void *) {}

struct FreeCodec {
    void operator()(opj_codec_t *codec) const { opj_destroy_codec(codec); }
};
struct FreeStream {
    void operator()(opj_stream_t *stream) const { opj_stream_destroy(stream); }
};
struct FreeImage {
    void operator()(opj_image_t *image) const { opj_image_destroy(image); }
};

} // namespace

std::vector<FragmentRange> fragment_ranges(DcmPixelSequence *sequence, uint32_t frames) {
    const unsigned long end = sequence->card();
    if (frames == 1) return {{1, end - 1}};
    if (frames == end - 1) {
        std::vector<FragmentRange> ranges;
        for (unsigned long index = 1; index < end; index++) ranges.push_back({index, 1});
        return ranges;
    }
    std::vector<unsigned long> starts = starts_from_offset_table(sequence, frames);
    if (starts.empty()) starts = starts_from_codestreams(sequence);
    starts.resize(frames, end);
    return ranges_from_starts(starts, end);
}

void gather_fragments(DcmPixelSequence *sequence, const FragmentRange &range, std::vector<uint8_t> &stream) {
    stream.clear();
    for (unsigned long index = range.first; index < range.first + range.count; index++) {
        size_t count = 0;
        const uint8_t *bytes = fragment_bytes(sequence, index, count);
        if (bytes) stream.insert(stream.end(), bytes, bytes + count);
        release_fragment(sequence, index);
    }
}

const char *decode_codestream(
    const uint8_t *bytes, size_t count, uint32_t columns, uint32_t rows, unsigned bits_allocated,
    std::vector<int32_t> &values) {
    if (!starts_codestream(bytes, count)) return "no JPEG 2000 codestream in the frame's fragments";
    const OPJ_CODEC_FORMAT format = bytes[0] == 0xff ? OPJ_CODEC_J2K : OPJ_CODEC_JP2;
    Memory memory = {bytes, count, 0};
    std::unique_ptr<opj_codec_t, FreeCodec> codec(opj_create_decompress(format));
    std::unique_ptr<opj_stream_t, FreeStream> stream(opj_stream_create(64 << 10, OPJ_TRUE));
    if (!codec || !stream) return "out of memory";
    opj_set_error_handler(codec.get(), ignore_message, nullptr);
    opj_set_warning_handler(codec.get(), ignore_message, nullptr);
    opj_set_info_handler(codec.get(), ignore_message, nullptr);
    opj_stream_set_user_data(stream.get(), &memory, nullptr);
    opj_stream_set_user_data_length(stream.get(), count);
    opj_stream_set_read_function(stream.get(), read_memory);
    opj_stream_set_skip_function(stream.get(), skip_memory);
    opj_stream_set_seek_function(stream.get(), seek_memory);

    opj_dparameters_t parameters;
    opj_set_default_decoder_parameters(&parameters);
    if (!opj_setup_decoder(codec.get(), &parameters)) return "JPEG 2000 decoder cannot be set up";
    opj_image_t *header = nullptr;
    const bool has_header = opj_read_header(stream.get(), codec.get(), &header);
    std::unique_ptr<opj_image_t, FreeImage> image(header);
    if (!has_header || !image) return "JPEG 2000 header is damaged";
    if (image->numcomps != 1) return "the compressed pixels are not monochrome";
    // Checked on the header, so that no memory is taken for sizes that the data set does not declare.
    if (image->x1 < image->x0 || image->y1 < image->y0 || image->x1 - image->x0 != columns ||
        image->y1 - image->y0 != rows || image->comps[0].dx != 1 || image->comps[0].dy != 1)
        return "JPEG 2000 image size differs from rows and columns";
    if (image->comps[0].prec > bits_allocated) return "JPEG 2000 precision is above bits allocated";
    if (!opj_decode(codec.get(), stream.get(), image.get()) || !opj_end_decompress(codec.get(), stream.get()))
        return "JPEG 2000 codestream is damaged";
    const opj_image_comp_t &component = image->comps[0];
    if (!component.data || component.w != columns || component.h != rows) return "JPEG 2000 codestream is damaged";
    values.assign(component.data, component.data + size_t(columns) * rows);
    return nullptr;
}

} // namespace cdcmtk
