#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dctk.h"
#include "dcmtk/dcmdata/dcfcache.h"
#include "dcmtk/dcmdata/dcpixseq.h"
#include "dcmtk/dcmdata/dcpxitem.h"
#include "dcmtk/dcmdata/dcrledrg.h"
#include "dcmtk/dcmjpeg/djdecode.h"
#include "dcmtk/dcmjpls/djdecode.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "cdcmtk_image.h"
#include "jpeg2000.hpp"
#include "text.hpp"

using namespace cdcmtk;

namespace {

const int16_t air = -1024;

struct Failure {
    std::string reason;
};

void require(bool condition, const char *reason) {
    if (!condition) throw Failure{reason};
}

bool is_jpeg2000(E_TransferSyntax syntax) {
    return syntax == EXS_JPEG2000LosslessOnly || syntax == EXS_JPEG2000;
}

/// How bits become a stored value (PS3.5 §8.1.1), and a stored value Hounsfield units.
struct PixelFormat {
    unsigned bits_allocated = 16, bits_stored = 16, high_bit = 15;
    bool is_signed = false;
    bool has_padding = false;
    uint16_t padding_bits = 0;
    bool has_padding_range = false;
    int32_t padding_low = 0, padding_high = 0;

    int32_t stored_value(uint32_t raw) const {
        raw >>= high_bit + 1 - bits_stored;
        if (bits_stored < 32) raw &= (uint32_t(1) << bits_stored) - 1;
        if (is_signed && bits_stored < 32 && raw >> (bits_stored - 1)) raw |= ~uint32_t(0) << bits_stored;
        return static_cast<int32_t>(raw);
    }

    /// PS3.3 C.7.5.1.1.2. Padding may lie outside the bits stored, so the bits as they stand count too.
    bool is_padding(uint32_t raw, int32_t value) const {
        if (!has_padding) return false;
        if (has_padding_range) return value >= padding_low && value <= padding_high;
        return value == padding_low || (bits_allocated <= 16 && raw == (padding_bits & low_mask()));
    }

    uint32_t low_mask() const { return bits_allocated >= 32 ? ~uint32_t(0) : (uint32_t(1) << bits_allocated) - 1; }
};

struct Rescale {
    double slope = 1, intercept = 0;
};

} // namespace

struct cdcmtk_image {
    DcmFileFormat file;
    DcmFileCache cache;
    DcmPixelData *pixels = nullptr;
    DcmPixelSequence *sequence = nullptr; // where encapsulated
    std::vector<FragmentRange> ranges;    // where encapsulated, one for each frame
    cdcmtk_image_shape shape = {};
    PixelFormat format;
    Rescale rescale;
    E_TransferSyntax syntax = EXS_Unknown;
    uint32_t next_frame = 0, next_fragment = 0;
    std::vector<uint8_t> frame_bytes;
    std::vector<int32_t> values;
    std::vector<uint8_t> padding;

    DcmDataset *dataset() { return file.getDataset(); }
};

namespace {

uint16_t value16(DcmItem *item, const DcmTagKey &tag, uint16_t otherwise) {
    Uint16 value = 0;
    return item->findAndGetUint16(tag, value).good() ? value : otherwise;
}

bool read_rescale(DcmItem *item, Rescale &rescale) {
    if (!item) return false;
    Float64 slope = 1, intercept = 0;
    const bool has_slope = item->findAndGetFloat64(DCM_RescaleSlope, slope).good();
    const bool has_intercept = item->findAndGetFloat64(DCM_RescaleIntercept, intercept).good();
    if (!has_slope && !has_intercept) return false;
    rescale.slope = has_slope ? slope : 1;
    rescale.intercept = has_intercept ? intercept : 0;
    return true;
}

/// Multi-frame functional groups (PS3.3 C.7.6.16.2.9): the frame's own, else the shared one, else the image's.
Rescale rescale_of(cdcmtk_image *image, uint32_t frame) {
    Rescale rescale = image->rescale;
    const DcmTagKey groups[] = {DCM_PerFrameFunctionalGroupsSequence, DCM_SharedFunctionalGroupsSequence};
    for (const DcmTagKey &tag : groups) {
        const bool own = tag == DCM_PerFrameFunctionalGroupsSequence;
        DcmItem *group = nullptr, *transformation = nullptr;
        if (image->dataset()->findAndGetSequenceItem(tag, group, own ? static_cast<signed long>(frame) : 0).bad())
            continue;
        if (group->findAndGetSequenceItem(DCM_PixelValueTransformationSequence, transformation, 0).bad()) continue;
        if (read_rescale(transformation, rescale)) break;
    }
    require(
        std::isfinite(rescale.slope) && std::isfinite(rescale.intercept) && rescale.slope != 0,
        "rescale slope or intercept is no usable number");
    return rescale;
}

int32_t padding_value(DcmItem *dataset, const DcmTagKey &tag, const PixelFormat &format, bool &found, uint16_t &bits) {
    DcmElement *element = nullptr;
    found = false;
    if (dataset->findAndGetElement(tag, element).bad() || !element) return 0;
    Uint16 as_unsigned = 0;
    Sint16 as_signed = 0;
    if (element->getUint16(as_unsigned).good()) bits = as_unsigned;
    else if (element->getSint16(as_signed).good()) bits = static_cast<uint16_t>(as_signed);
    else return 0;
    found = true;
    return format.is_signed ? static_cast<int16_t>(bits) : static_cast<int32_t>(bits);
}

void read_padding(cdcmtk_image *image) {
    PixelFormat &format = image->format;
    bool found = false;
    uint16_t bits = 0;
    const int32_t value = padding_value(image->dataset(), DCM_PixelPaddingValue, format, found, bits);
    format.has_padding = found;
    format.padding_bits = bits;
    format.padding_low = format.padding_high = value;
    const int32_t limit = padding_value(image->dataset(), DCM_PixelPaddingRangeLimit, format, found, bits);
    if (!format.has_padding || !found) return;
    format.has_padding_range = true;
    format.padding_low = std::min(value, limit);
    format.padding_high = std::max(value, limit);
}

void read_format(cdcmtk_image *image) {
    DcmDataset *dataset = image->dataset();
    require(value16(dataset, DCM_SamplesPerPixel, 1) == 1, "not a monochrome image");
    OFString photometric;
    dataset->findAndGetOFString(DCM_PhotometricInterpretation, photometric);
    // MONOCHROME1 says how to display (PS3.3 C.7.6.3.1.2); Hounsfield units follow from the rescale in either case.
    require(photometric == "MONOCHROME2" || photometric == "MONOCHROME1", "not a monochrome image");

    PixelFormat &format = image->format;
    format.bits_allocated = value16(dataset, DCM_BitsAllocated, 0);
    require(
        format.bits_allocated == 8 || format.bits_allocated == 16 || format.bits_allocated == 32,
        "bits allocated is none of 8, 16, 32");
    format.bits_stored = value16(dataset, DCM_BitsStored, static_cast<uint16_t>(format.bits_allocated));
    require(
        format.bits_stored >= 1 && format.bits_stored <= format.bits_allocated,
        "bits stored does not fit bits allocated");
    format.high_bit = value16(dataset, DCM_HighBit, static_cast<uint16_t>(format.bits_stored - 1));
    require(
        format.high_bit < format.bits_allocated && format.high_bit + 1 >= format.bits_stored,
        "high bit does not fit bits allocated and stored");
    format.is_signed = value16(dataset, DCM_PixelRepresentation, 0) == 1;
    read_padding(image);

    DcmItem *table = nullptr;
    const bool linear = read_rescale(dataset, image->rescale);
    require(
        linear || dataset->findAndGetSequenceItem(DCM_ModalityLUTSequence, table, 0).bad(),
        "modality look-up tables are not supported");
}

void read_shape(cdcmtk_image *image, const cdcmtk_image_limits &limits) {
    DcmDataset *dataset = image->dataset();
    cdcmtk_image_shape &shape = image->shape;
    shape.rows = value16(dataset, DCM_Rows, 0);
    shape.columns = value16(dataset, DCM_Columns, 0);
    require(shape.rows > 0 && shape.columns > 0, "no rows or columns");
    require(
        shape.rows <= limits.most_rows_or_columns && shape.columns <= limits.most_rows_or_columns,
        "more rows or columns than the limit");
    Sint32 frames = 1;
    if (dataset->findAndGetSint32(DCM_NumberOfFrames, frames).bad()) frames = 1;
    require(frames >= 1, "number of frames is not positive");
    require(static_cast<uint32_t>(frames) <= limits.most_frames, "more frames than the limit");
    shape.frames = static_cast<uint32_t>(frames);
    const uint64_t decoded = uint64_t(shape.rows) * shape.columns * shape.frames * sizeof(int16_t);
    require(decoded <= limits.most_decoded_bytes, "more decoded bytes than the limit");
}

uint64_t frame_size(const cdcmtk_image *image) {
    return uint64_t(image->shape.rows) * image->shape.columns * (image->format.bits_allocated / 8);
}

void find_pixels(cdcmtk_image *image) {
    DcmElement *element = nullptr;
    const bool found = image->dataset()->findAndGetElement(DCM_PixelData, element).good();
    require(found && element && element->ident() == EVR_PixelData, "no pixel data");
    image->pixels = static_cast<DcmPixelData *>(element);
    image->syntax = image->dataset()->getOriginalXfer();
    if (!DcmXfer(image->syntax).isEncapsulated()) {
        require(
            image->pixels->getLength(image->syntax) >= frame_size(image) * image->shape.frames,
            "pixel data is shorter than rows, columns and frames say");
        return;
    }
    require(image->format.bits_allocated <= 16, "compressed with more than 16 bits allocated");
    E_TransferSyntax key = EXS_Unknown;
    const DcmRepresentationParameter *parameter = nullptr;
    image->pixels->getOriginalRepresentationKey(key, parameter);
    require(
        image->pixels->getEncapsulatedRepresentation(key, parameter, image->sequence).good() && image->sequence,
        "no encapsulated pixel data");
    require(image->sequence->card() >= 2, "no fragments in the pixel data");
    require(image->shape.frames <= image->sequence->card() - 1, "fewer fragments than frames");
    image->ranges = fragment_ranges(image->sequence, image->shape.frames);
}

/// Widens the bytes of one frame, host byte order, to stored values.
template <typename Raw> void store_values(cdcmtk_image *image, const Raw *raw, size_t count) {
    const PixelFormat &format = image->format;
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = raw[i];
        image->values[i] = format.stored_value(bits);
        image->padding[i] = format.is_padding(bits, image->values[i]);
    }
}

void decode_jpeg2000(cdcmtk_image *image, uint32_t frame) {
    std::vector<uint8_t> &stream = image->frame_bytes;
    gather_fragments(image->sequence, image->ranges[frame], stream);
    const char *problem = decode_codestream(
        stream.data(), stream.size(), image->shape.columns, image->shape.rows, image->format.bits_allocated,
        image->values);
    require(problem == nullptr, problem);
    const PixelFormat &format = image->format;
    for (size_t i = 0; i < image->values.size(); i++) {
        const uint32_t bits = static_cast<uint32_t>(image->values[i]) & format.low_mask();
        image->values[i] = format.stored_value(bits);
        image->padding[i] = format.is_padding(bits, image->values[i]);
    }
}

void decode_with_dcmtk(cdcmtk_image *image, uint32_t frame) {
    const uint64_t bytes = frame_size(image);
    std::vector<uint8_t> &buffer = image->frame_bytes;
    buffer.assign(bytes + (bytes & 1), 0);
    OFString model;
    Uint32 fragment = 0;
    if (frame == image->next_frame) fragment = image->next_fragment;
    else if (image->sequence) fragment = static_cast<Uint32>(image->ranges[frame].first);
    const OFCondition condition = image->pixels->getUncompressedFrame(
        image->dataset(), frame, fragment, buffer.data(), static_cast<Uint32>(buffer.size()), model, &image->cache);
    if (condition.bad()) throw Failure{condition.text()};
    require(model.empty() || model.compare(0, 10, "MONOCHROME") == 0, "the compressed pixels are not monochrome");
    image->next_frame = frame + 1;
    image->next_fragment = fragment;
    const size_t count = image->values.size();
    switch (image->format.bits_allocated) {
    case 8: store_values(image, buffer.data(), count); break;
    case 16: store_values(image, reinterpret_cast<const uint16_t *>(buffer.data()), count); break;
    default: store_values(image, reinterpret_cast<const uint32_t *>(buffer.data()), count); break;
    }
}

// Some scanners store signed Hounsfield units in 12 unsigned bits and leave the intercept at about 0: air, -1000,
// arrives as 3096. Unsigned pixels with intercept 0 cannot hold a negative value at all, so a sizeable share of the
// image at what would be above +3072 HU, and little at 0, is clear-cut. Metal never covers a twentieth of a field of
// view.
const int32_t twelve_bits = 4096, wrap_start = 3072;

bool is_wrapped(const cdcmtk_image *image, const Rescale &rescale) {
    if (image->format.bits_stored != 12 || image->format.is_signed) return false;
    if (rescale.slope != 1 || std::fabs(rescale.intercept) > 100) return false;
    size_t high = 0, zero = 0, all = 0;
    for (size_t i = 0; i < image->values.size(); i++) {
        if (image->padding[i]) continue;
        all++;
        high += image->values[i] >= wrap_start;
        zero += image->values[i] == 0;
    }
    return high > 0 && high * 20 >= all && zero < high;
}

void rescale_values(const cdcmtk_image *image, const Rescale &rescale, bool wrapped, int16_t *hounsfield) {
    for (size_t i = 0; i < image->values.size(); i++) {
        int32_t value = image->values[i];
        if (wrapped && value >= wrap_start) value -= twelve_bits;
        const double units = std::nearbyint(value * rescale.slope + rescale.intercept);
        const double clipped = std::min(32767.0, std::max(-32768.0, units));
        hounsfield[i] = image->padding[i] ? air : static_cast<int16_t>(clipped);
    }
}

} // namespace

extern "C" void cdcmtk_image_prepare(void) {
    try {
        DJDecoderRegistration::registerCodecs();
        DJLSDecoderRegistration::registerCodecs();
        DcmRLEDecoderRegistration::registerCodecs();
    } catch (...) {
    }
}

extern "C" cdcmtk_image *cdcmtk_image_open(
    const char *path, const cdcmtk_image_limits *limits, cdcmtk_image_shape *shape, char *reason, size_t reason_size) {
    try {
        std::unique_ptr<cdcmtk_image> image(new cdcmtk_image);
        // Nothing behind Pixel Data is needed, and nothing behind it has been checked for nesting.
        const OFCondition condition = image->file.loadFileUntilTag(
            path, EXS_Unknown, EGL_noChange, 4096, ERM_fileOnly, DcmTagKey(0x7fe0, 0x0011));
        if (condition.bad()) throw Failure{condition.text()};
        read_format(image.get());
        read_shape(image.get(), *limits);
        find_pixels(image.get());
        const size_t count = size_t(image->shape.rows) * image->shape.columns;
        image->values.resize(count);
        image->padding.resize(count);
        *shape = image->shape;
        return image.release();
    } catch (const Failure &failure) {
        copy_text(reason, reason_size, failure.reason.c_str());
    } catch (const std::bad_alloc &) {
        copy_text(reason, reason_size, "out of memory");
    } catch (...) {
        copy_text(reason, reason_size, "unknown failure");
    }
    return nullptr;
}

extern "C" int cdcmtk_image_decode(
    cdcmtk_image *image, uint32_t frame, int16_t *hounsfield, size_t count, char *reason, size_t reason_size) {
    try {
        require(frame < image->shape.frames && count == image->values.size(), "no such frame");
        if (is_jpeg2000(image->syntax)) decode_jpeg2000(image, frame);
        else decode_with_dcmtk(image, frame);
        const Rescale rescale = rescale_of(image, frame);
        rescale_values(image, rescale, is_wrapped(image, rescale), hounsfield);
        return 0;
    } catch (const Failure &failure) {
        copy_text(reason, reason_size, failure.reason.c_str());
    } catch (const std::bad_alloc &) {
        copy_text(reason, reason_size, "out of memory");
    } catch (...) {
        copy_text(reason, reason_size, "unknown failure");
    }
    return -1;
}

extern "C" void cdcmtk_image_free(cdcmtk_image *image) {
    try {
        delete image;
    } catch (...) {
    }
}
