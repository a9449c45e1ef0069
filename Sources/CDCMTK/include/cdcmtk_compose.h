// Result objects: TID 1500 Structured Reports (PS3.16), Secondary Captures (PS3.3 A.8.1) and Key Object Selection
// Documents (PS3.3 A.35.4), encoded in memory as Part 10 files (PS3.10 §7), Explicit VR Little Endian.
//
// Functions return 0, or -1 with a lower-case phrase in `reason` that holds nothing of the patient. All strings are
// UTF-8. Not for use by two threads at once.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Reads the data dictionary and opens a converter for every character set of PS3.3 C.12.1.1.2, so that neither needs
/// the file system later; switches the library's own log off, which quotes values. Once, before confinement.
int cdcmtk_compose_prepare(char *reason, size_t reason_size);

/// A line for each character set that text is converted from: ISO-IR number and bytes of a character, or a defined term
/// without code extensions.
void cdcmtk_character_sets(char *lines, size_t size);

// MARK: Source

/// The header of a stored instance, of which results carry on what identifies patient, study and plane. Text is UTF-8.
typedef struct cdcmtk_source cdcmtk_source;

/// Reads a Part 10 file up to Pixel Data. NULL on failure. The library recurses into sequences: the caller has checked
/// how deep they nest.
/// - frame: whose plane to take, from 1.
cdcmtk_source *cdcmtk_source_open(const char *path, uint32_t frame, char *reason, size_t reason_size);
void cdcmtk_source_free(cdcmtk_source *source);
/// Valid as long as the source; empty where the file has none.
const char *cdcmtk_source_study_uid(const cdcmtk_source *source);
const char *cdcmtk_source_sop_uid(const cdcmtk_source *source);
/// Whether text that is carried over is not of the character set that the file declares.
int cdcmtk_source_is_text_guessed(const cdcmtk_source *source);
/// A carried text, as results have it.
const char *cdcmtk_source_text(const cdcmtk_source *source, uint16_t group, uint16_t element);

typedef struct {
    const char *value;
    const char *scheme;
    const char *meaning;
} cdcmtk_code;
/// Of the requested procedure, else of the procedure.
cdcmtk_code cdcmtk_source_procedure(const cdcmtk_source *source);

// MARK: What all kinds of object hold

typedef struct {
    const char *sop_class_uid;
    const char *sop_instance_uid;
    const char *series_instance_uid;
    /// Referenced Frame Number, from 1; none for all of the image.
    const int32_t *frames;
    size_t frame_count;
} cdcmtk_image_reference;

typedef struct {
    const char *manufacturer;
    const char *model_name;
    const char *serial_number;
    const char *software_version;
    const char *device_uid;
    /// May be empty.
    const char *station_name;
} cdcmtk_device;

typedef struct {
    const char *sop_instance_uid;
    const char *series_instance_uid;
    /// DA, TM, and ±hhmm; the last may be empty.
    const char *content_date;
    const char *content_time;
    const char *timezone_offset;
    /// 1 for the first result on a study; series of later ones say so.
    uint32_t revision;
    cdcmtk_device device;
    /// File meta header (PS3.10 §7.1).
    const char *implementation_class_uid;
    const char *implementation_version_name;
} cdcmtk_result_header;

/// An encoded file.
typedef struct {
    uint8_t *bytes;
    size_t count;
} cdcmtk_encoded;
void cdcmtk_encoded_free(cdcmtk_encoded *file);

// MARK: Report

typedef enum { CDCMTK_ENHANCED_SR, CDCMTK_COMPREHENSIVE_SR, CDCMTK_COMPREHENSIVE_3D_SR } cdcmtk_report_class;
typedef enum { CDCMTK_PRESENT, CDCMTK_ABSENT, CDCMTK_UNDETERMINED } cdcmtk_presence;

typedef struct {
    cdcmtk_image_reference image;
    /// For example "ICH slice 12".
    const char *tracking_identifier;
    const char *tracking_uid;
    double probability;
    double attention;
} cdcmtk_flagged_slice;

typedef struct {
    cdcmtk_result_header header;
    cdcmtk_report_class report_class;
    const char *algorithm_name;
    const char *algorithm_version;
    const char *algorithm_parameters;
    /// What the attention values mean, as Algorithm Parameters of those.
    const char *attention_parameters;
    cdcmtk_presence presence;
    /// NaN where nothing was analysed.
    double study_probability;
    const char *study_tracking_uid;
    const cdcmtk_image_reference *images;
    size_t image_count;
    const cdcmtk_flagged_slice *slices;
    size_t slice_count;
    /// The report that this one supersedes; NULL for none.
    const cdcmtk_image_reference *predecessor;
    const char *comment;
} cdcmtk_report;

int cdcmtk_report_encode(
    const cdcmtk_report *report, const cdcmtk_source *identity, cdcmtk_encoded *out, char *reason, size_t reason_size);

// MARK: Capture

/// A heatmap lies over one slice; a summary shows several side by side.
typedef enum { CDCMTK_HEATMAP, CDCMTK_SUMMARY } cdcmtk_capture_kind;

typedef struct {
    cdcmtk_result_header header;
    cdcmtk_capture_kind kind;
    int32_t instance_number;
    uint16_t rows;
    uint16_t columns;
    /// [row][column][R, G, B]
    const uint8_t *pixels;
    /// At least one.
    const cdcmtk_image_reference *sources;
    size_t source_count;
    const char *derivation_description;
    const char *image_comments;
} cdcmtk_capture;

/// - slices: one for each source, in order. A heatmap carries its plane over where rows and columns are the same.
int cdcmtk_capture_encode(
    const cdcmtk_capture *capture, const cdcmtk_source *identity, const cdcmtk_source *const *slices,
    cdcmtk_encoded *out, char *reason, size_t reason_size);

// MARK: Key objects

typedef struct {
    cdcmtk_result_header header;
    /// What was selected, in words.
    const char *description;
    /// Of the study; at least one.
    const cdcmtk_image_reference *images;
    size_t image_count;
} cdcmtk_key_objects;

int cdcmtk_key_objects_encode(
    const cdcmtk_key_objects *key_objects, const cdcmtk_source *identity, cdcmtk_encoded *out, char *reason,
    size_t reason_size);

#ifdef __cplusplus
}
#endif
