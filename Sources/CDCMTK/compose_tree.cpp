#include "compose_tree.hpp"

#include <algorithm>
#include <cstdio>
#include <iterator>

namespace compose {
namespace {

const Code language_of_content = {"121049", "DCM", "Language of Content Item and Descendants"};
const Code english = {"en-US", "RFC5646", "English (United States)"};
const Code observer_type = {"121005", "DCM", "Observer Type"};
const Code device_observer = {"121007", "DCM", "Device"};
const Code device_uid = {"121012", "DCM", "Device Observer UID"};
const Code device_name = {"121013", "DCM", "Device Observer Name"};
const Code device_manufacturer = {"121014", "DCM", "Device Observer Manufacturer"};
const Code device_model = {"121015", "DCM", "Device Observer Model Name"};
const Code device_serial = {"121016", "DCM", "Device Observer Serial Number"};

struct CodingScheme {
    const char *designator;
    const char *uid;
    const char *name;
};

// PS3.16 Table 8-1
const CodingScheme coding_schemes[] = {
    {"DCM", "1.2.840.10008.2.16.4", "DICOM Controlled Terminology"},
    {"SCT", "2.16.840.1.113883.6.96", "SNOMED CT"},
    {"LN", "2.16.840.1.113883.6.1", "LOINC"},
    {"UCUM", "2.16.840.1.113883.6.8", "UCUM"},
    {"UMLS", "2.16.840.1.113883.6.86", "UMLS"},
    {"RFC5646", "2.16.840.1.113883.6.316", "RFC 5646"},
};

} // namespace

std::string decimal(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return text;
}

void Tree::language() { code(has_modifier, language_of_content, english); }

void Tree::observer(const cdcmtk_device &device) {
    code(has_context, observer_type, device_observer);
    uid(has_context, device_uid, device.device_uid);
    if (*device.station_name != '\0') text(has_context, device_name, device.station_name);
    text(has_context, device_manufacturer, device.manufacturer);
    text(has_context, device_model, device.model_name);
    text(has_context, device_serial, device.serial_number);
}

void begin_document(DSRDocument &document, const cdcmtk_source &identity) {
    must(document.setSpecificCharacterSetType(DSRTypes::CS_UTF8), "set the character set");
    must(document.createNewSeriesInStudy(identity.study_uid.c_str(), OFFalse), "make the series");
}

void add_evidence(DSRDocument &document, const cdcmtk_source &identity, const cdcmtk_image_reference &image) {
    must(
        document.getCurrentRequestedProcedureEvidence().addItem(
            identity.study_uid.c_str(), image.series_instance_uid, image.sop_class_uid, image.sop_instance_uid,
            OFFalse),
        "list the evidence");
}

void identify_schemes(DSRDocument &document, std::initializer_list<const char *> designators) {
    auto &identification = document.getCodingSchemeIdentification();
    for (const std::string designator : designators) {
        const auto scheme = std::find_if(std::begin(coding_schemes), std::end(coding_schemes), [&](const auto &each) {
            return designator == each.designator;
        });
        if (scheme == std::end(coding_schemes)) throw Failure("unknown coding scheme");
        must(identification.addItem(scheme->designator, scheme->uid, scheme->name), "identify a coding scheme");
    }
}

void encode_document(
    DSRDocument &document, const cdcmtk_source &identity, const cdcmtk_result_header &header, const char *modality,
    const char *series_number, const char *series_description, cdcmtk_encoded &out) {
    DcmFileFormat file;
    DcmDataset &item = *file.getDataset();
    must(document.write(item), "write the document");
    // What the library made up gives way to what the daemon decided and the source says.
    item.findAndDeleteElement(DCM_InstanceCreationDate);
    item.findAndDeleteElement(DCM_InstanceCreationTime);
    OFString sop_class;
    must(document.getSOPClassUID(sop_class), "find the SOP class");
    put_header(item, header, sop_class.c_str(), modality, series_number, series_description);
    put_identity(item, identity);
    encode(file, sop_class.c_str(), header, out);
}

} // namespace compose
