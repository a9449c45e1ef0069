// Pixels of a stored file, frame by frame, as Hounsfield units.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cdcmtk_image cdcmtk_image;

typedef struct {
    uint32_t most_rows_or_columns;
    uint32_t most_frames;
    uint64_t most_decoded_bytes; ///< Of all frames as 16-bit values.
} cdcmtk_image_limits;

typedef struct {
    uint32_t rows;
    uint32_t columns;
    uint32_t frames;
} cdcmtk_image_shape;

/// Registers the decoders; to be called once.
void cdcmtk_image_prepare(void);
/// Opens a file and checks, before memory is taken for pixels, that it is a monochrome image within the limits whose
/// pixel data can hold what the header declares. NULL on failure.
cdcmtk_image *cdcmtk_image_open(
    const char *path, const cdcmtk_image_limits *limits, cdcmtk_image_shape *shape, char *reason, size_t reason_size);
/// Decodes one frame, and no other, into `count` = rows × columns values: rescaled (PS3.3 C.11.1),
/// rounded, clipped to 16 bits, Pixel Padding as −1024. Returns 0, or -1.
int cdcmtk_image_decode(
    cdcmtk_image *image, uint32_t frame, int16_t *hounsfield, size_t count, char *reason, size_t reason_size);
void cdcmtk_image_free(cdcmtk_image *image);

#ifdef __cplusplus
}
#endif
