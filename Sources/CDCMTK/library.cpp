#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dcdict.h"
#include "dcmtk/dcmdata/dcuid.h"
#include "dcmtk/dcmnet/dul.h"
#include "dcmtk/oflog/oflog.h"

#include "cdcmtk_library.h"

namespace {

// Retired classes that scanners and archives in use still propose (PS3.4 Annex B.6 of earlier editions) and that
// DCMTK's table leaves out.
const char *const retired_storage_classes[] = {
    "1.2.840.10008.5.1.1.27",          // Stored Print
    "1.2.840.10008.5.1.1.29",          // Hardcopy Grayscale Image
    "1.2.840.10008.5.1.1.30",          // Hardcopy Color Image
    "1.2.840.10008.5.1.4.1.1.3",       // Ultrasound Multi-frame Image
    "1.2.840.10008.5.1.4.1.1.5",       // Nuclear Medicine Image
    "1.2.840.10008.5.1.4.1.1.6",       // Ultrasound Image
    "1.2.840.10008.5.1.4.1.1.8",       // Standalone Overlay
    "1.2.840.10008.5.1.4.1.1.9",       // Standalone Curve
    "1.2.840.10008.5.1.4.1.1.10",      // Standalone Modality LUT
    "1.2.840.10008.5.1.4.1.1.11",      // Standalone VOI LUT
    "1.2.840.10008.5.1.4.1.1.12.3",    // X-Ray Angiographic Bi-Plane Image
    "1.2.840.10008.5.1.4.1.1.77.1",    // VL Image (trial)
    "1.2.840.10008.5.1.4.1.1.77.2",    // VL Multi-frame Image (trial)
    "1.2.840.10008.5.1.4.1.1.88.1",    // Text SR (trial)
    "1.2.840.10008.5.1.4.1.1.88.2",    // Audio SR (trial)
    "1.2.840.10008.5.1.4.1.1.88.3",    // Detail SR (trial)
    "1.2.840.10008.5.1.4.1.1.88.4",    // Comprehensive SR (trial)
    "1.2.840.10008.5.1.4.1.1.129",     // Standalone PET Curve
    "1.2.840.10008.5.1.4.1.1.9.1.1.1", // Waveform (trial)
};
const size_t retired_count = sizeof retired_storage_classes / sizeof *retired_storage_classes;

} // namespace

extern "C" void cdcmtk_library_prepare(void) {
    try {
        OFLog::configure(OFLogger::FATAL_LOG_LEVEL);
        dcmDisableGethostbyaddr.set(OFTrue);
    } catch (...) {
    }
}

extern "C" int cdcmtk_dictionary_load(void) {
    try {
        return dcmDataDict.isDictionaryLoaded() ? 1 : 0;
    } catch (...) {
        return 0;
    }
}

extern "C" size_t cdcmtk_storage_class_count(void) {
    return static_cast<size_t>(numberOfDcmAllStorageSOPClassUIDs) + retired_count;
}

extern "C" const char *cdcmtk_storage_class_uid(size_t index) {
    const size_t standard = static_cast<size_t>(numberOfDcmAllStorageSOPClassUIDs);
    if (index < standard) return dcmAllStorageSOPClassUIDs[index];
    return index - standard < retired_count ? retired_storage_classes[index - standard] : nullptr;
}
