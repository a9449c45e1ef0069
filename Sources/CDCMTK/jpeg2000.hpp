// JPEG 2000 (PS3.5 §8.2.4) through OpenJPEG; DCMTK has no decoder for it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

class DcmPixelSequence;

namespace cdcmtk {

/// Fragments of one frame; index 0 of the sequence is the offset table.
struct FragmentRange {
    unsigned long first = 1;
    unsigned long count = 1;
};

/// Which fragments make up each frame (PS3.5 Annex A.4): by count, by the Basic Offset Table, or by looking for the
/// start of a codestream. Throws std::bad_alloc; an undecidable layout gives ranges that do not decode.
std::vector<FragmentRange> fragment_ranges(DcmPixelSequence *sequence, uint32_t frames);

void gather_fragments(DcmPixelSequence *sequence, const FragmentRange &range, std::vector<uint8_t> &stream);

/// Decodes into `values`, one for each pixel. Returns NULL, or what is wrong.
const char *decode_codestream(
    const uint8_t *bytes, size_t count, uint32_t columns, uint32_t rows, unsigned bits_allocated,
    std::vector<int32_t> &values);

} // namespace cdcmtk
