// Shared by the compose*.cpp files only.
#pragma once
#include "cdcmtk_compose.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

struct cdcmtk_source {
    /// The attributes of `carried` and `plane` (compose_source.cpp) that the file has, text as UTF-8.
    DcmDataset attributes;
    std::string study_uid;
    std::string sop_uid;
    /// Text was not of the declared character set.
    bool is_text_guessed = false;
    /// Code Value, Coding Scheme Designator, Code Meaning.
    std::string procedure[3];
};

namespace compose {

/// What went wrong, as a phrase without patient data; caught at the entry.
struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Runs `body`; nothing that it throws gets past.
template <typename Body> int guarded(char *reason, size_t reason_size, Body body) noexcept {
    const char *phrase = "unknown failure";
    try {
        body();
        return 0;
    } catch (const Failure &failure) {
        std::snprintf(reason, reason_size, "%s", failure.what());
        return -1;
    } catch (const std::bad_alloc &) {
        phrase = "out of memory";
    } catch (const std::exception &) {
        phrase = "unexpected failure";
    } catch (...) {
    }
    std::snprintf(reason, reason_size, "%s", phrase);
    return -1;
}

inline void must(const OFCondition &condition, const char *what) {
    if (condition.bad()) throw Failure(std::string("cannot ") + what + ": " + condition.text());
}

struct Code {
    const char *value;
    const char *scheme;
    const char *meaning;
};

void put(DcmItem &item, const DcmTagKey &tag, const char *value);
/// Nothing where the value is empty.
void put_unless_empty(DcmItem &item, const DcmTagKey &tag, const char *value);
/// A code sequence of one item (PS3.3 Table 8.8-1).
void put_code(DcmItem &item, const DcmTagKey &sequence, const Code &code);
DcmItem &add_item(DcmItem &item, const DcmTagKey &sequence);

/// Patient, Patient Study and General Study modules: what the source has; type 2 attributes it lacks become empty.
void put_identity(DcmItem &item, const cdcmtk_source &source);
/// Series, equipment, SOP common and contributing equipment attributes that all kinds of object share.
void put_header(
    DcmItem &item, const cdcmtk_result_header &header, const char *sop_class, const char *modality,
    const char *series_number, const char *series_description);
void encode(DcmFileFormat &file, const char *sop_class, const cdcmtk_result_header &header, cdcmtk_encoded &out);

extern const DcmTagKey plane_attributes[8];

} // namespace compose
