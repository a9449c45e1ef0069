// Inflation of a raw deflate stream (RFC 1951) as it arrives: Deflated Explicit VR Little Endian, PS3.5 Annex A.5.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cdcmtk_inflater cdcmtk_inflater;

cdcmtk_inflater *cdcmtk_inflater_new(void);
void cdcmtk_inflater_free(cdcmtk_inflater *inflater);
/// Inflates some of `*count` bytes at `*bytes`, both moved on past what was used, into `out`.
/// Returns the bytes written; -1 where the stream is corrupt and all that came before the damage was written. 0 with
/// input left over means that the stream has ended.
long cdcmtk_inflater_step(cdcmtk_inflater *inflater, const uint8_t **bytes, size_t *count, uint8_t *out, size_t size);

#ifdef __cplusplus
}
#endif
