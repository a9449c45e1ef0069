// Content trees of structured reports and key object selections, written item by item in template order: the library's
// own template classes lack TID 4019 and source images, and change the document's type when their tree is taken over.
#pragma once
#include "compose_internal.hpp"

#include <dcmtk/dcmsr/dsrdoc.h>

#include <initializer_list>

namespace compose {

constexpr auto contains = DSRTypes::RT_contains;
constexpr auto has_modifier = DSRTypes::RT_hasConceptMod;
constexpr auto has_context = DSRTypes::RT_hasObsContext;
constexpr auto has_acquisition_context = DSRTypes::RT_hasAcqContext;

inline DSRCodedEntryValue entry(const Code &code) { return DSRCodedEntryValue(code.value, code.scheme, code.meaning); }

/// DS (PS3.5 §6.2): at most 16 characters.
std::string decimal(double value);

/// Adds content items in document order; the children of an item are those added in its `children` function.
///
/// What comes from headers is written unchecked: the library refuses UIDs that reception accepts, components with
/// leading zeros among them, and images of a SOP class that it does not know.
class Tree {
  public:
    explicit Tree(DSRDocumentTree &tree) : tree(tree) {}

    template <typename Children>
    void container(
        DSRTypes::E_RelationshipType relationship, const Code &name, const char *template_id, Children children) {
        add(relationship, DSRTypes::VT_Container, &name);
        auto &item = tree.getCurrentContentItem();
        must(item.setContinuityOfContent(DSRTypes::COC_Separate), "set a container's continuity");
        // On the item: the tree's own function of this name sets the root's.
        if (template_id != nullptr) must(item.setTemplateIdentification(template_id, "DCMR"), "name a template");
        below(children);
    }

    void code(DSRTypes::E_RelationshipType relationship, const Code &name, const Code &value) {
        add(relationship, DSRTypes::VT_Code, &name);
        must(tree.getCurrentContentItem().setCodeValue(entry(value)), "set a code");
    }

    void text(DSRTypes::E_RelationshipType relationship, const Code &name, const char *value) {
        add(relationship, DSRTypes::VT_Text, &name);
        must(tree.getCurrentContentItem().setStringValue(value, OFFalse), "set a text");
    }

    void uid(DSRTypes::E_RelationshipType relationship, const Code &name, const char *value) {
        add(relationship, DSRTypes::VT_UIDRef, &name);
        must(tree.getCurrentContentItem().setStringValue(value, OFFalse), "set a UID");
    }

    void date(DSRTypes::E_RelationshipType relationship, const Code &name, const char *value) {
        add(relationship, DSRTypes::VT_Date, &name);
        must(tree.getCurrentContentItem().setStringValue(value, OFFalse), "set a date");
    }

    void image(DSRTypes::E_RelationshipType relationship, const Code *name, const cdcmtk_image_reference &image) {
        add(relationship, DSRTypes::VT_Image, name);
        DSRImageReferenceValue reference(image.sop_class_uid, image.sop_instance_uid, OFFalse);
        for (size_t i = 0; i < image.frame_count; i++) reference.getFrameList().addItem(image.frames[i]);
        must(tree.getCurrentContentItem().setImageReference(reference, OFFalse), "reference an image");
    }

    // TID 1204
    void language();
    // TID 1001, 1002, 1004
    void observer(const cdcmtk_device &device);

    template <typename Children> void number(const Code &name, double value, const Code &unit, Children children) {
        add(DSRTypes::RT_contains, DSRTypes::VT_Num, &name);
        const DSRNumericMeasurementValue measured(decimal(value).c_str(), entry(unit));
        must(tree.getCurrentContentItem().setNumericValue(measured), "set a number");
        below(children);
    }

  private:
    void add(DSRTypes::E_RelationshipType relationship, DSRTypes::E_ValueType type, const Code *name) {
        const auto mode = is_below ? DSRTypes::AM_belowCurrent : DSRTypes::AM_afterCurrent;
        if (tree.addContentItem(relationship, type, mode) == 0) throw Failure("cannot add a content item");
        is_below = false;
        if (name != nullptr) must(tree.getCurrentContentItem().setConceptName(entry(*name)), "name a content item");
    }

    template <typename Children> void below(Children children) {
        is_below = true;
        children();
        if (!is_below) tree.goUp();
        is_below = false;
    }

    DSRDocumentTree &tree;
    /// The next item is the first child of the current one.
    bool is_below = false;
};

/// In UTF-8, in the source's study.
void begin_document(DSRDocument &document, const cdcmtk_source &identity);
/// Lists an image that the tree names in the evidence sequence (PS3.3 C.17.2, C.17.6.2); once is enough.
void add_evidence(DSRDocument &document, const cdcmtk_source &identity, const cdcmtk_image_reference &image);
/// Coding Scheme Identification (PS3.3 C.12.1) of the schemes that the tree uses.
void identify_schemes(DSRDocument &document, std::initializer_list<const char *> designators);
void encode_document(
    DSRDocument &document, const cdcmtk_source &identity, const cdcmtk_result_header &header, const char *modality,
    const char *series_number, const char *series_description, cdcmtk_encoded &out);

} // namespace compose
