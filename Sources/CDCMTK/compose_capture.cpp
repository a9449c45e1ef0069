// Single-frame RGB Secondary Capture Image Storage (PS3.3 A.8.1).
#include "compose_internal.hpp"

#include <string>
#include <vector>

namespace compose {
namespace {

// CID 7203: how the picture was made; CID 7202: what its source is to it (PS3.16).
const Code class_activation = {"130402", "DCM", "Class activation"};
const Code processing_source = {"121322", "DCM", "Source image for image processing operation"};

// What a kind of capture is called.
struct Naming {
    const char *series_number;
    const char *series_description;
    const char *image_type;
};

const Naming &naming_of(cdcmtk_capture_kind kind) {
    static const Naming heatmap = {"9003", "AI ICH heatmap", "DERIVED\\SECONDARY\\OTHER\\HEATMAP"};
    static const Naming summary = {"9004", "AI ICH summary", "DERIVED\\SECONDARY\\OTHER\\SUMMARY"};
    switch (kind) {
    case CDCMTK_HEATMAP: return heatmap;
    case CDCMTK_SUMMARY: return summary;
    }
    throw Failure("unknown kind of capture");
}

DcmDataset &readable(const cdcmtk_source &source) { return const_cast<DcmDataset &>(source.attributes); }

/// The slices beneath.
using Slices = std::vector<DcmDataset *>;

/// Whether pixels of the capture lie where pixels of the slice lie.
bool has_plane_of(const cdcmtk_capture &capture, const Slices &slices) {
    if (capture.kind != CDCMTK_HEATMAP) return false;
    DcmDataset &slice = *slices[0];
    Uint16 rows = 0;
    Uint16 columns = 0;
    return slice.findAndGetUint16(DCM_Rows, rows).good() && slice.findAndGetUint16(DCM_Columns, columns).good() &&
           rows == capture.rows && columns == capture.columns && slice.tagExistsWithValue(DCM_ImagePositionPatient) &&
           slice.tagExistsWithValue(DCM_ImageOrientationPatient) && slice.tagExistsWithValue(DCM_PixelSpacing) &&
           slice.tagExistsWithValue(DCM_FrameOfReferenceUID);
}

void carry(DcmItem &item, DcmDataset &slice, const DcmTagKey &tag) {
    OFString value;
    if (slice.findAndGetOFStringArray(tag, value).good() && !value.empty())
        must(item.putAndInsertOFStringArray(DcmTag(tag), value), "carry the plane over");
}

// Image Plane and Frame of Reference modules (PS3.3 C.7.6.2, C.7.4.1) let viewers scroll the capture with the slice.
void put_plane(DcmItem &item, DcmDataset &slice, bool same_plane) {
    if (same_plane) {
        put(item, DCM_PositionReferenceIndicator, "");
        put(item, DCM_SliceThickness, "");
        for (const auto &tag : plane_attributes) carry(item, slice, tag);
    }
    // Type 2C; validators ask for it beside Image Orientation (Patient), too.
    if (!item.tagExists(DCM_PatientOrientation)) put(item, DCM_PatientOrientation, "");
}

// Once lossy, always lossy (PS3.3 C.7.6.1.1.5): the history of the first slice that has one.
void put_compression_history(DcmItem &item, const Slices &slices) {
    for (DcmDataset *slice : slices) {
        OFString lossy;
        slice->findAndGetOFString(DCM_LossyImageCompression, lossy);
        if (lossy != "01") continue;
        put(item, DCM_LossyImageCompression, "01");
        carry(item, *slice, DCM_LossyImageCompressionRatio);
        carry(item, *slice, DCM_LossyImageCompressionMethod);
        return;
    }
    put(item, DCM_LossyImageCompression, "00");
}

void put_source(DcmItem &item, const cdcmtk_image_reference &image, bool same_plane) {
    DcmItem &source = add_item(item, DCM_SourceImageSequence);
    put(source, DCM_ReferencedSOPClassUID, image.sop_class_uid);
    put(source, DCM_ReferencedSOPInstanceUID, image.sop_instance_uid);
    if (image.frame_count > 0) put(source, DCM_ReferencedFrameNumber, std::to_string(image.frames[0]).c_str());
    put(source, DCM_SpatialLocationsPreserved, same_plane ? "YES" : "NO");
    put_code(source, DCM_PurposeOfReferenceCodeSequence, processing_source);
}

void put_general_image(DcmItem &item, const cdcmtk_capture &capture, const Slices &slices, bool same_plane) {
    put(item, DCM_InstanceNumber, std::to_string(capture.instance_number).c_str());
    put(item, DCM_ImageType, naming_of(capture.kind).image_type);
    put(item, DCM_BurnedInAnnotation, "NO");
    put(item, DCM_RecognizableVisualFeatures, "NO");
    put(item, DCM_DerivationDescription, capture.derivation_description);
    put_code(item, DCM_DerivationCodeSequence, class_activation);
    put_unless_empty(item, DCM_ImageComments, capture.image_comments);
    for (size_t i = 0; i < capture.source_count; i++) put_source(item, capture.sources[i], same_plane);
    put_compression_history(item, slices);
}

// SC Equipment and SC Image modules, PS3.3 C.8.6.1, C.8.6.2. WSD: workstation.
void put_secondary_capture(DcmItem &item, const cdcmtk_result_header &header) {
    put(item, DCM_ConversionType, "WSD");
    put(item, DCM_SecondaryCaptureDeviceManufacturer, header.device.manufacturer);
    put(item, DCM_SecondaryCaptureDeviceManufacturerModelName, header.device.model_name);
    put(item, DCM_SecondaryCaptureDeviceSoftwareVersions, header.device.software_version);
    put(item, DCM_DateOfSecondaryCapture, header.content_date);
    put(item, DCM_TimeOfSecondaryCapture, header.content_time);
}

// PS3.3 C.7.6.3
void put_pixels(DcmItem &item, const cdcmtk_capture &capture) {
    const auto put_number = [&](const DcmTagKey &tag, Uint16 value) {
        must(item.putAndInsertUint16(DcmTag(tag), value), "set an attribute");
    };
    put_number(DCM_SamplesPerPixel, 3);
    put(item, DCM_PhotometricInterpretation, "RGB");
    put_number(DCM_PlanarConfiguration, 0);
    put_number(DCM_Rows, capture.rows);
    put_number(DCM_Columns, capture.columns);
    put_number(DCM_BitsAllocated, 8);
    put_number(DCM_BitsStored, 8);
    put_number(DCM_HighBit, 7);
    put_number(DCM_PixelRepresentation, 0);
    const auto count = static_cast<unsigned long>(capture.rows) * capture.columns * 3;
    must(item.putAndInsertUint8Array(DcmTag(DCM_PixelData, EVR_OB), capture.pixels, count), "set the pixels");
}

} // namespace
} // namespace compose

using namespace compose;

int cdcmtk_capture_encode(
    const cdcmtk_capture *capture, const cdcmtk_source *identity, const cdcmtk_source *const *slices,
    cdcmtk_encoded *out, char *reason, size_t reason_size) {
    return guarded(reason, reason_size, [&] {
        DcmFileFormat file;
        DcmDataset &item = *file.getDataset();
        Slices beneath;
        for (size_t i = 0; i < capture->source_count; i++) beneath.push_back(&readable(*slices[i]));
        if (beneath.empty()) throw Failure("a capture without a source");
        const bool same_plane = has_plane_of(*capture, beneath);
        const Naming &naming = naming_of(capture->kind);
        put_header(
            item, capture->header, UID_SecondaryCaptureImageStorage, "OT", naming.series_number,
            naming.series_description);
        // The one part that is analysed. Not paired: Laterality stays absent (PS3.3 C.7.3.1).
        put(item, DCM_BodyPartExamined, "HEAD");
        put_identity(item, *identity);
        put_general_image(item, *capture, beneath, same_plane);
        put_plane(item, *beneath[0], same_plane);
        put_secondary_capture(item, capture->header);
        put_pixels(item, *capture);
        encode(file, UID_SecondaryCaptureImageStorage, capture->header, *out);
    });
}
