// Reading what results carry on from a stored instance.
#include "compose_internal.hpp"
#include "compose_text.hpp"

#include <dcmtk/oflog/oflog.h>

#include <memory>

namespace compose {

// PS3.3 C.7.6.2, C.7.4.1, and what says how these may be used.
const DcmTagKey plane_attributes[8] = {
    DCM_FrameOfReferenceUID, DCM_PositionReferenceIndicator, DCM_ImagePositionPatient, DCM_ImageOrientationPatient,
    DCM_PixelSpacing,        DCM_SliceThickness,             DCM_SliceLocation,        DCM_PatientOrientation,
};

namespace {

enum class Need { type2, optional };

struct Carried {
    DcmTagKey tag;
    Need need;
};

// PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.2.2 (Patient Study). Study Instance UID is demanded separately.
const Carried carried[] = {
    {DCM_PatientName, Need::type2},
    {DCM_PatientID, Need::type2},
    {DCM_IssuerOfPatientID, Need::optional},
    {DCM_TypeOfPatientID, Need::optional},
    {DCM_PatientBirthDate, Need::type2},
    {DCM_PatientBirthTime, Need::optional},
    {DCM_PatientSex, Need::type2},
    {DCM_OtherPatientNames, Need::optional},
    {DCM_PatientAge, Need::optional},
    {DCM_PatientSize, Need::optional},
    {DCM_PatientWeight, Need::optional},
    {DCM_StudyInstanceUID, Need::type2},
    {DCM_StudyDate, Need::type2},
    {DCM_StudyTime, Need::type2},
    {DCM_ReferringPhysicianName, Need::type2},
    {DCM_StudyID, Need::type2},
    {DCM_AccessionNumber, Need::type2},
    {DCM_StudyDescription, Need::optional},
};

// PS3.3 C.7.1.1: the first asks for the second.
const DcmTagKey deidentification[] = {DCM_PatientIdentityRemoved, DCM_DeidentificationMethod};

// What alerts need to know, and results have of their own (PS3.3 C.12.1.1.8).
const DcmTagKey alert_attributes[] = {DCM_TimezoneOffsetFromUTC};

// What captures and image libraries need to know of the slice.
const DcmTagKey image_attributes[] = {
    DCM_Modality, DCM_SeriesInstanceUID, DCM_SOPInstanceUID, DCM_LossyImageCompression, DCM_LossyImageCompressionRatio,
    DCM_LossyImageCompressionMethod,
};

// PS3.3 C.7.6.16.2.1, C.7.6.16.2.3, C.7.6.16.2.4: where frames have theirs.
const struct {
    DcmTagKey group, tag;
} frame_attributes[] = {
    {DCM_PlanePositionSequence, DCM_ImagePositionPatient},
    {DCM_PlaneOrientationSequence, DCM_ImageOrientationPatient},
    {DCM_PixelMeasuresSequence, DCM_PixelSpacing},
    {DCM_PixelMeasuresSequence, DCM_SliceThickness},
};

/// VRs to which Specific Character Set applies (PS3.5 §6.1.2.3), with the characters that reset code extensions.
const char *delimiters_of(DcmEVR vr) {
    switch (vr) {
    case EVR_PN: return "\\^=";
    case EVR_LO:
    case EVR_SH:
    case EVR_UC: return "\\";
    case EVR_LT:
    case EVR_ST:
    case EVR_UT: return "";
    default: return nullptr;
    }
}

std::string string_of(DcmItem &item, const DcmTagKey &tag) {
    OFString value;
    item.findAndGetOFStringArray(tag, value);
    return std::string(value.c_str(), value.size());
}

/// As reception accepts them: components with leading zeros are sent by scanners.
bool is_uid(const std::string &text) {
    if (text.empty() || text.size() > 64 || text.find_first_not_of("0123456789.") != std::string::npos) return false;
    return text.front() != '.' && text.back() != '.' && text.find("..") == std::string::npos;
}

class Copier {
  public:
    Copier(DcmItem &from, DcmItem &to) : Copier(from, to, string_of(from, DCM_SpecificCharacterSet)) {}
    /// - character_set: of the data set that an item without its own is in (PS3.5 §6.1.2.2).
    Copier(DcmItem &from, DcmItem &to, const std::string &character_set)
        : from(from), to(to), decoder(character_set) {}

    void copy(const DcmTagKey &key) {
        DcmElement *element = nullptr;
        char *value = nullptr;
        if (from.findAndGetElement(key, element).bad() || !element->isaString()) return;
        if (element->getString(value).bad()) return;
        std::string text(value == nullptr ? "" : value, value == nullptr ? 0 : element->getLength());
        while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.pop_back();
        const DcmTag tag(key);
        // A Frame of Reference UID that is none is left out: the library cannot even set some of them.
        if (tag.getEVR() == EVR_UI && !is_uid(text)) return;
        if (const char *delimiters = delimiters_of(tag.getEVR())) text = decoder.utf8(text, delimiters);
        must(to.putAndInsertOFStringArray(tag, text.c_str()), "copy an attribute of the source");
    }

    bool has_guessed() const { return decoder.has_guessed; }

  private:
    DcmItem &from;
    DcmItem &to;
    TextDecoder decoder;
};

/// What was ordered (PS3.3 C.7.3.1.1.1, C.4.11), else what was done (C.7.2.1). The first code counts.
void read_procedure(DcmItem &from, std::string (&procedure)[3]) {
    DcmItem *request = nullptr;
    if (from.findAndGetSequenceItem(DCM_RequestAttributesSequence, request, 0).bad()) request = &from;
    const struct {
        DcmItem &item;
        DcmTagKey sequence;
    } places[] = {
        {*request, DCM_RequestedProcedureCodeSequence},
        {from, DCM_RequestedProcedureCodeSequence},
        {from, DCM_ProcedureCodeSequence},
    };
    const DcmTagKey parts[] = {DCM_CodeValue, DCM_CodingSchemeDesignator, DCM_CodeMeaning};
    for (const auto &place : places) {
        DcmItem *code = nullptr;
        if (place.item.findAndGetSequenceItem(place.sequence, code, 0).bad()) continue;
        DcmDataset copy;
        Copier copier(*code, copy, string_of(from, DCM_SpecificCharacterSet));
        for (const auto &part : parts) copier.copy(part);
        for (size_t index = 0; index < 3; index++) procedure[index] = string_of(copy, parts[index]);
        if (!procedure[0].empty()) return;
    }
}

/// A frame's plane: of its own functional groups, else of the shared ones (PS3.3 C.7.6.16.1.1).
void copy_frame(DcmItem &from, unsigned long frame, DcmItem &to) {
    const struct {
        DcmTagKey sequence;
        signed long item;
    } groups[] = {
        {DCM_SharedFunctionalGroupsSequence, 0},
        {DCM_PerFrameFunctionalGroupsSequence, static_cast<signed long>(frame) - 1},
    };
    for (const auto &each : groups) {
        DcmItem *group = nullptr;
        if (from.findAndGetSequenceItem(each.sequence, group, each.item).bad()) continue;
        for (const auto &attribute : frame_attributes) {
            DcmItem *macro = nullptr;
            if (group->findAndGetSequenceItem(attribute.group, macro, 0).good()) Copier(*macro, to).copy(attribute.tag);
        }
    }
}

} // namespace

void put_identity(DcmItem &item, const cdcmtk_source &source) {
    // The library's read access is not const.
    auto &attributes = const_cast<DcmDataset &>(source.attributes);
    for (const auto &each : carried) {
        OFString value;
        const bool found = attributes.findAndGetOFStringArray(each.tag, value).good();
        if ((!found || value.empty()) && each.need == Need::optional) continue;
        must(item.putAndInsertOFStringArray(DcmTag(each.tag), value), "carry patient and study attributes over");
    }
    if (!attributes.tagExistsWithValue(DCM_DeidentificationMethod)) return;
    for (const auto &tag : deidentification) {
        OFString value;
        if (attributes.findAndGetOFStringArray(tag, value).bad()) continue;
        must(item.putAndInsertOFStringArray(DcmTag(tag), value), "carry patient and study attributes over");
    }
}

} // namespace compose

using namespace compose;

int cdcmtk_compose_prepare(char *reason, size_t reason_size) {
    return guarded(reason, reason_size, [] {
        OFLog::configure(OFLogger::OFF_LOG_LEVEL);
        if (!dcmDataDict.isDictionaryLoaded()) throw Failure("the DICOM data dictionary cannot be read");
        open_text_converters();
    });
}

void cdcmtk_character_sets(char *lines, size_t size) {
    guarded(lines, size, [&] { std::snprintf(lines, size, "%s", character_sets().c_str()); });
}

cdcmtk_source *cdcmtk_source_open(const char *path, uint32_t frame, char *reason, size_t reason_size) {
    std::unique_ptr<cdcmtk_source> source;
    const int result = guarded(reason, reason_size, [&] {
        DcmFileFormat file;
        must(
            file.loadFileUntilTag(
                path, EXS_Unknown, EGL_noChange, DCM_MaxReadLength, ERM_fileOnly, DCM_PixelData),
            "read the source");
        source = std::make_unique<cdcmtk_source>();
        Copier copier(*file.getDataset(), source->attributes);
        for (const auto &each : carried) copier.copy(each.tag);
        for (const auto &tag : deidentification) copier.copy(tag);
        for (const auto &tag : plane_attributes) copier.copy(tag);
        for (const auto &tag : image_attributes) copier.copy(tag);
        source->is_text_guessed = copier.has_guessed();
        for (const auto &tag : alert_attributes) copier.copy(tag);
        read_procedure(*file.getDataset(), source->procedure);
        copy_frame(*file.getDataset(), frame, source->attributes);
        // Numbers of the image, as such: they are not strings.
        for (const auto &tag : {DCM_Rows, DCM_Columns}) {
            Uint16 value = 0;
            if (file.getDataset()->findAndGetUint16(tag, value).good())
                must(source->attributes.putAndInsertUint16(DcmTag(tag), value), "copy an attribute of the source");
        }
        source->study_uid = string_of(source->attributes, DCM_StudyInstanceUID);
        source->sop_uid = string_of(source->attributes, DCM_SOPInstanceUID);
        if (source->study_uid.empty()) throw Failure("the source has no Study Instance UID");
    });
    return result == 0 ? source.release() : nullptr;
}

void cdcmtk_source_free(cdcmtk_source *source) { delete source; }
const char *cdcmtk_source_study_uid(const cdcmtk_source *source) { return source->study_uid.c_str(); }
const char *cdcmtk_source_sop_uid(const cdcmtk_source *source) { return source->sop_uid.c_str(); }
int cdcmtk_source_is_text_guessed(const cdcmtk_source *source) { return source->is_text_guessed; }
const char *cdcmtk_source_text(const cdcmtk_source *source, uint16_t group, uint16_t element) {
    const char *value = nullptr;
    // The library's read access is not const.
    const_cast<DcmDataset &>(source->attributes).findAndGetString(DcmTagKey(group, element), value);
    return value == nullptr ? "" : value;
}

cdcmtk_code cdcmtk_source_procedure(const cdcmtk_source *source) {
    return {source->procedure[0].c_str(), source->procedure[1].c_str(), source->procedure[2].c_str()};
}
