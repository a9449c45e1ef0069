// DCMTK as a whole: its log, its data dictionary, its tables of UIDs.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Quietens DCMTK's log, which quotes values, and turns off look-ups of peers' names. To be called first.
void cdcmtk_library_prepare(void);

/// Reads the data dictionary, so that later parsing opens no file. Returns 1 when it is there, else 0.
int cdcmtk_dictionary_load(void);

/// How many storage SOP classes DCMTK knows (PS3.4 Annex B.5), standard and retired.
size_t cdcmtk_storage_class_count(void);
/// UID of one of them; NULL beyond the end. Lives as long as the process.
const char *cdcmtk_storage_class_uid(size_t index);

#ifdef __cplusplus
}
#endif
