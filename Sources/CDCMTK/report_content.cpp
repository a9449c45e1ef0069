// What a Structured Report says, read from its file.
#include "cdcmtk_report.h"
#include "compose_tree.hpp"

#include <memory>
#include <sstream>

namespace compose {
namespace {

// Of the header: who, what, when, and what it stands for (PS3.3 C.17.2).
const DcmTagKey header_tags[] = {
    DCM_PatientName,        DCM_PatientID,          DCM_AccessionNumber,      DCM_StudyDescription,
    DCM_SeriesDescription,  DCM_ContentDate,        DCM_ContentTime,          DCM_TimezoneOffsetFromUTC,
    DCM_Manufacturer,       DCM_ManufacturerModelName, DCM_SoftwareVersions,  DCM_CompletionFlag,
    DCM_VerificationFlag,   DCM_ContentQualification, DCM_SOPClassUID,        DCM_SOPInstanceUID,
};

std::string text_of(const OFString &text) { return std::string(text.c_str(), text.size()); }

std::string image_text(const DSRImageReferenceValue &image) {
    std::string text = text_of(image.getSOPInstanceUID());
    if (image.getFrameList().isEmpty()) return text;
    std::ostringstream frames;
    image.getFrameList().print(frames);
    return text + " frame " + frames.str();
}

std::string value_of(const DSRContentItem &item) {
    switch (item.getValueType()) {
    case DSRTypes::VT_Container: return "";
    case DSRTypes::VT_Code: return text_of(item.getCodeValue().getCodeMeaning());
    case DSRTypes::VT_Num: return text_of(item.getNumericValue().getNumericValue());
    case DSRTypes::VT_Image: return image_text(item.getImageReference());
    case DSRTypes::VT_Composite: return text_of(item.getCompositeReference().getSOPInstanceUID());
    default: return text_of(item.getStringValue());
    }
}

class Reader {
  public:
    Reader(cdcmtk_report_visitor visitor, void *context) : visitor(visitor), context(context) {}

    void header(DcmDataset &dataset) {
        for (const auto &key : header_tags) {
            OFString value;
            if (dataset.findAndGetOFStringArray(key, value).good() && !value.empty())
                tell(0, DcmTag(key).getTagName(), "", text_of(value));
        }
        DcmSequenceOfItems *predecessors = nullptr;
        if (dataset.findAndGetSequence(DCM_PredecessorDocumentsSequence, predecessors).good() &&
            predecessors->card() > 0)
            tell(0, "PredecessorDocuments", "", std::to_string(predecessors->card()));
    }

    void tree(DSRDocumentTree &tree) {
        if (tree.gotoRoot() == 0) throw Failure("the report has no content");
        do {
            const DSRContentItem &item = tree.getCurrentContentItem();
            tell(
                static_cast<uint32_t>(tree.getLevel()), text_of(item.getConceptName().getCodeMeaning()),
                DSRTypes::valueTypeToDefinedTerm(item.getValueType()), value_of(item));
        } while (tree.iterate() != 0);
    }

  private:
    void tell(uint32_t level, const std::string &name, const char *value_type, const std::string &value) {
        const cdcmtk_content_item item = {level, value_type, name.c_str(), value.c_str()};
        visitor(context, &item);
    }

    cdcmtk_report_visitor visitor;
    void *context;
};

} // namespace
} // namespace compose

using namespace compose;

int cdcmtk_report_read(
    const char *path, cdcmtk_report_visitor visitor, void *context, char *reason, size_t reason_size) {
    return guarded(reason, reason_size, [&] {
        DcmFileFormat file;
        must(file.loadFile(path, EXS_Unknown, EGL_noChange, DCM_MaxReadLength, ERM_fileOnly), "read the report");
        DSRDocument document;
        // Reports name images by the UIDs that those have.
        must(
            document.read(*file.getDataset(), DSRTypes::RF_acceptInvalidContentItemValue),
            "read the report's content");
        Reader reader(visitor, context);
        reader.header(*file.getDataset());
        reader.tree(document.getTree());
    });
}
