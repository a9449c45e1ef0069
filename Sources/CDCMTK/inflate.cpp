#include <climits>
#include <new>
#include <zlib.h>

#include "cdcmtk_inflate.h"

struct cdcmtk_inflater {
    z_stream stream = {};
    bool ended = false;
    bool corrupt = false;
};

extern "C" cdcmtk_inflater *cdcmtk_inflater_new(void) {
    auto *inflater = new (std::nothrow) cdcmtk_inflater;
    if (inflater && inflateInit2(&inflater->stream, -MAX_WBITS) != Z_OK) {
        delete inflater;
        return nullptr;
    }
    return inflater;
}

extern "C" void cdcmtk_inflater_free(cdcmtk_inflater *inflater) {
    if (!inflater) return;
    inflateEnd(&inflater->stream);
    delete inflater;
}

extern "C" long cdcmtk_inflater_step(
    cdcmtk_inflater *inflater, const uint8_t **bytes, size_t *count, uint8_t *out, size_t size) {
    if (inflater->ended) return 0;
    if (inflater->corrupt) return -1;
    const size_t given = *count < UINT_MAX ? *count : UINT_MAX;
    const size_t room = size < UINT_MAX ? size : UINT_MAX;
    z_stream &stream = inflater->stream;
    stream.next_in = const_cast<Bytef *>(*bytes);
    stream.avail_in = static_cast<uInt>(given);
    stream.next_out = out;
    stream.avail_out = static_cast<uInt>(room);
    const int result = inflate(&stream, Z_NO_FLUSH);
    *bytes += given - stream.avail_in;
    *count -= given - stream.avail_in;
    if (result == Z_STREAM_END) inflater->ended = true;
    else if (result != Z_OK && result != Z_BUF_ERROR) inflater->corrupt = true;
    // What came before the damage counts, wherever the pieces end.
    const long written = static_cast<long>(room - stream.avail_out);
    return inflater->corrupt && written == 0 ? -1 : written;
}
