// What result objects have in common, and the way from a data set to the bytes of a file.
#include "compose_internal.hpp"

#include <dcmtk/dcmdata/dcostrmb.h>

#include <cstdlib>
#include <cstring>
#include <vector>

namespace compose {
namespace {

// CID 7005 (PS3.16).
const Code processing_equipment = {"109102", "DCM", "Processing Equipment"};

void put_device(DcmItem &item, const cdcmtk_device &device) {
    put(item, DCM_Manufacturer, device.manufacturer);
    put(item, DCM_ManufacturerModelName, device.model_name);
    put(item, DCM_DeviceSerialNumber, device.serial_number);
    put(item, DCM_SoftwareVersions, device.software_version);
    put_unless_empty(item, DCM_StationName, device.station_name);
}

} // namespace

void put(DcmItem &item, const DcmTagKey &tag, const char *value) {
    must(item.putAndInsertString(DcmTag(tag), value), "set an attribute");
}

void put_unless_empty(DcmItem &item, const DcmTagKey &tag, const char *value) {
    if (*value != '\0') put(item, tag, value);
}

DcmItem &add_item(DcmItem &item, const DcmTagKey &sequence) {
    DcmItem *added = nullptr;
    // -2: appended.
    must(item.findOrCreateSequenceItem(DcmTag(sequence), added, -2), "add a sequence item");
    return *added;
}

void put_code(DcmItem &item, const DcmTagKey &sequence, const Code &code) {
    DcmItem &added = add_item(item, sequence);
    put(added, DCM_CodeValue, code.value);
    put(added, DCM_CodingSchemeDesignator, code.scheme);
    put(added, DCM_CodeMeaning, code.meaning);
}

void put_header(
    DcmItem &item, const cdcmtk_result_header &header, const char *sop_class, const char *modality,
    const char *series_number, const char *series_description) {
    // SOP Common, PS3.3 C.12.1
    put(item, DCM_SpecificCharacterSet, "ISO_IR 192");
    put(item, DCM_SOPClassUID, sop_class);
    put(item, DCM_SOPInstanceUID, header.sop_instance_uid);
    put(item, DCM_InstanceCreatorUID, header.device.device_uid);
    put_unless_empty(item, DCM_TimezoneOffsetFromUTC, header.timezone_offset);
    put(item, DCM_ContentQualification, "RESEARCH");

    // Series and equipment
    put(item, DCM_Modality, modality);
    put(item, DCM_SeriesInstanceUID, header.series_instance_uid);
    put(item, DCM_SeriesNumber, series_number);
    std::string description = series_description;
    if (header.revision > 1) description += " (revised " + std::to_string(header.revision) + ")";
    put(item, DCM_SeriesDescription, description.c_str());
    put(item, DCM_SeriesDate, header.content_date);
    put(item, DCM_SeriesTime, header.content_time);
    put(item, DCM_ContentDate, header.content_date);
    put(item, DCM_ContentTime, header.content_time);
    put_device(item, header.device);

    DcmItem &equipment = add_item(item, DCM_ContributingEquipmentSequence);
    put_code(equipment, DCM_PurposeOfReferenceCodeSequence, processing_equipment);
    put_device(equipment, header.device);
    put(equipment, DCM_DeviceUID, header.device.device_uid);
}

void encode(
    DcmFileFormat &file, const char *sop_class, const cdcmtk_result_header &header, cdcmtk_encoded &out) {
    const E_TransferSyntax syntax = EXS_LittleEndianExplicit;
    DcmMetaInfo &meta = *file.getMetaInfo();
    put(meta, DCM_MediaStorageSOPClassUID, sop_class);
    put(meta, DCM_MediaStorageSOPInstanceUID, header.sop_instance_uid);
    must(file.validateMetaInfo(syntax, EWM_createNewMeta), "make the file meta header");
    // After that call, which puts the library's own name there.
    put(meta, DCM_ImplementationClassUID, header.implementation_class_uid);
    put(meta, DCM_ImplementationVersionName, header.implementation_version_name);
    must(meta.computeGroupLengthAndPadding(EGL_withGL, EPD_noChange, syntax), "make the file meta header");

    std::vector<uint8_t> bytes;
    std::vector<uint8_t> chunk(256 << 10);
    DcmOutputBufferStream stream(chunk.data(), static_cast<offile_off_t>(chunk.size()));
    file.transferInit();
    OFCondition status = EC_StreamNotifyClient;
    while (status == EC_StreamNotifyClient) {
        status = file.write(
            stream, syntax, EET_ExplicitLength, nullptr, EGL_recalcGL, EPD_withoutPadding, 0, 0, 0, EWM_dontUpdateMeta);
        void *filled = nullptr;
        offile_off_t count = 0;
        stream.flushBuffer(filled, count);
        const auto *start = static_cast<const uint8_t *>(filled);
        bytes.insert(bytes.end(), start, start + count);
    }
    file.transferEnd();
    must(status, "encode the object");

    out.bytes = static_cast<uint8_t *>(std::malloc(bytes.size()));
    if (out.bytes == nullptr) throw std::bad_alloc();
    std::memcpy(out.bytes, bytes.data(), bytes.size());
    out.count = bytes.size();
}

} // namespace compose

void cdcmtk_encoded_free(cdcmtk_encoded *file) {
    std::free(file->bytes);
    *file = {nullptr, 0};
}
