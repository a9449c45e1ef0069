// TID 1500 Measurement Report (PS3.16).
#include "compose_tree.hpp"

#include <cmath>

namespace compose {
namespace {

// MARK: Codes

const Code imaging_measurement_report = {"126000", "DCM", "Imaging Measurement Report"};
const Code procedure_reported = {"121058", "DCM", "Procedure reported"};
const Code ct_procedure = {"25045-6", "LN", "CT unspecified body region"}; // CID 100
const Code image_library = {"111028", "DCM", "Image Library"};
const Code image_library_group = {"126200", "DCM", "Image Library Group"};
const Code modality = {"121139", "DCM", "Modality"};
const Code computed_tomography = {"CT", "DCM", "Computed Tomography"}; // CID 29
const Code target_region = {"123014", "DCM", "Target Region"};
const Code head = {"69536005", "SCT", "Head"}; // CID 4031
const Code study_date = {"111060", "DCM", "Study Date"};
const Code frame_of_reference = {"112227", "DCM", "Frame of Reference UID"};
const Code imaging_measurements = {"126010", "DCM", "Imaging Measurements"};
const Code measurement_group = {"125007", "DCM", "Measurement Group"};
// Viewers find these two by their meaning: it has to stay verbatim.
const Code tracking_identifier = {"112039", "DCM", "Tracking Identifier"};
const Code tracking_uid = {"112040", "DCM", "Tracking Unique Identifier"};
const Code finding = {"121071", "DCM", "Finding"};
const Code finding_site = {"363698007", "SCT", "Finding Site"};
const Code intracranial_hemorrhage = {"1386000", "SCT", "Intracranial hemorrhage"};
const Code intracranial = {"1101003", "SCT", "Intracranial"};
// Not (111047,DCM), which is the probability of cancer.
const Code probability = {"122157", "DCM", "Probability"};
const Code saliency = {"130404", "DCM", "Saliency"}; // CID 217
const Code no_units = {"1", "UCUM", "no units"};
const Code algorithm_name = {"111001", "DCM", "Algorithm Name"};
const Code algorithm_parameters = {"111002", "DCM", "Algorithm Parameters"};
const Code algorithm_version = {"111003", "DCM", "Algorithm Version"};
const Code source_of_measurement = {"121112", "DCM", "Source of Measurement"};
const Code source_image = {"260753009", "SCT", "Source"};
const Code qualitative_evaluations = {"C0034375", "UMLS", "Qualitative Evaluations"};
const Code comment = {"121106", "DCM", "Comment"};

// CID 240
const Code &code_of(cdcmtk_presence presence) {
    static const Code present = {"52101004", "SCT", "Present"};
    static const Code absent = {"272519000", "SCT", "Absent"};
    static const Code undetermined = {"373068000", "SCT", "Undetermined"};
    switch (presence) {
    case CDCMTK_PRESENT: return present;
    case CDCMTK_ABSENT: return absent;
    case CDCMTK_UNDETERMINED: return undetermined;
    }
    throw Failure("unknown presence");
}

DSRTypes::E_DocumentType type_of(cdcmtk_report_class report_class) {
    switch (report_class) {
    case CDCMTK_ENHANCED_SR: return DSRTypes::DT_EnhancedSR;
    case CDCMTK_COMPREHENSIVE_SR: return DSRTypes::DT_ComprehensiveSR;
    case CDCMTK_COMPREHENSIVE_3D_SR: return DSRTypes::DT_Comprehensive3DSR;
    }
    throw Failure("unknown report class");
}

/// A day of the calendar (PS3.5 §6.2, DA).
bool is_date(const std::string &text) {
    if (text.size() != 8 || text.find_first_not_of("0123456789") != std::string::npos) return false;
    const int year = std::stoi(text.substr(0, 4));
    const int month = std::stoi(text.substr(4, 2));
    const int day = std::stoi(text.substr(6, 2));
    if (year < 1 || month < 1 || month > 12) return false;
    const bool is_leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    const int days[] = {31, is_leap_year ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return day >= 1 && day <= days[month - 1];
}

class Report {
  public:
    Report(const cdcmtk_report &report, const cdcmtk_source &identity, DSRDocument &document)
        : report(report), identity(const_cast<cdcmtk_source &>(identity)), document(document),
          tree(document.getTree()) {}

    void write() {
        tree.container(DSRTypes::RT_isRoot, imaging_measurement_report, "1500", [&] {
            tree.language();
            tree.observer(report.header.device);
            tree.code(has_modifier, procedure_reported, ct_procedure);
            library();
            tree.container(contains, imaging_measurements, nullptr, [&] {
                study_group();
                for (size_t i = 0; i < report.slice_count; i++) slice_group(report.slices[i]);
            });
            tree.container(contains, qualitative_evaluations, nullptr, [&] {
                tree.code(contains, intracranial_hemorrhage, code_of(report.presence));
                tree.text(contains, comment, report.comment);
            });
        });
    }

    /// Every image that the tree names (PS3.3 C.17.2: type 1C).
    void write_evidence() {
        for (size_t i = 0; i < report.image_count; i++) add_evidence(document, identity, report.images[i]);
        for (size_t i = 0; i < report.slice_count; i++) add_evidence(document, identity, report.slices[i].image);
    }

    /// PS3.3 C.17.2: what this document revises.
    void write_predecessor() {
        if (report.predecessor == nullptr) return;
        const cdcmtk_image_reference &earlier = *report.predecessor;
        must(
            document.getPredecessorDocuments().addItem(
                identity.study_uid.c_str(), earlier.series_instance_uid, earlier.sop_class_uid,
                earlier.sop_instance_uid, OFFalse),
            "name the predecessor");
    }

  private:
    // TID 1600: a group for each series. What all its images share is known of the source's own series only.
    void library() {
        tree.container(contains, image_library, "1600", [&] {
            size_t first = 0;
            while (first < report.image_count) {
                const std::string series = report.images[first].series_instance_uid;
                size_t end = first + 1;
                while (end < report.image_count && series == report.images[end].series_instance_uid) end++;
                tree.container(contains, image_library_group, nullptr, [&] {
                    library_descriptors(series);
                    for (size_t i = first; i < end; i++) tree.image(contains, nullptr, report.images[i]);
                });
                first = end;
            }
        });
    }

    // TID 1602
    void library_descriptors(const std::string &series) {
        if (value(DCM_SeriesInstanceUID) != series) return;
        if (value(DCM_Modality) == "CT") {
            tree.code(has_acquisition_context, modality, computed_tomography);
            tree.code(has_acquisition_context, target_region, head);
        }
        const std::string date = value(DCM_StudyDate);
        if (is_date(date)) tree.date(has_acquisition_context, study_date, date.c_str());
        const std::string frame = value(DCM_FrameOfReferenceUID);
        if (!frame.empty()) tree.uid(has_acquisition_context, frame_of_reference, frame.c_str());
    }

    std::string value(const DcmTagKey &tag) {
        OFString text;
        identity.attributes.findAndGetOFString(tag, text);
        return std::string(text.c_str(), text.size());
    }

    // TID 1501
    template <typename Measurements>
    void group(const char *identifier, const char *uid, Measurements measurements) {
        tree.container(contains, measurement_group, "1501", [&] {
            tree.text(has_context, tracking_identifier, identifier);
            tree.uid(has_context, tracking_uid, uid);
            tree.code(contains, finding, intracranial_hemorrhage);
            tree.code(has_modifier, finding_site, intracranial);
            measurements();
        });
    }

    void study_group() {
        group("ICH study", report.study_tracking_uid, [&] {
            if (!std::isnan(report.study_probability))
                tree.number(probability, report.study_probability, no_units, [&] {
                    algorithm(report.algorithm_parameters);
                });
            tree.code(contains, intracranial_hemorrhage, code_of(report.presence));
        });
    }

    void slice_group(const cdcmtk_flagged_slice &slice) {
        const auto measured = [&](const Code &name, double value, const char *parameters) {
            // TID 300; the source image by TID 320.
            tree.number(name, value, no_units, [&] {
                algorithm(parameters);
                tree.image(DSRTypes::RT_inferredFrom, &source_of_measurement, slice.image);
            });
        };
        group(slice.tracking_identifier, slice.tracking_uid, [&] {
            measured(probability, slice.probability, report.algorithm_parameters);
            measured(saliency, slice.attention, report.attention_parameters);
            tree.image(contains, &source_image, slice.image);
        });
    }

    // TID 4019. Some viewers fail on a number without such children.
    void algorithm(const char *parameters) {
        tree.text(has_modifier, algorithm_name, report.algorithm_name);
        tree.text(has_modifier, algorithm_version, report.algorithm_version);
        tree.text(has_modifier, algorithm_parameters, parameters);
    }

    const cdcmtk_report &report;
    cdcmtk_source &identity;
    DSRDocument &document;
    Tree tree;
};

} // namespace
} // namespace compose

using namespace compose;

int cdcmtk_report_encode(
    const cdcmtk_report *report, const cdcmtk_source *identity, cdcmtk_encoded *out, char *reason, size_t reason_size) {
    return guarded(reason, reason_size, [&] {
        DSRDocument document(type_of(report->report_class));
        begin_document(document, *identity);
        Report writer(*report, *identity, document);
        writer.write();
        writer.write_evidence();
        writer.write_predecessor();
        identify_schemes(document, {"DCM", "SCT", "LN", "UCUM", "UMLS", "RFC5646"});
        must(document.completeDocument(), "complete the document");
        encode_document(document, *identity, report->header, "SR", "9001", "AI ICH triage SR", *out);
    });
}
