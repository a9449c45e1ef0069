// Key Object Selection Document (PS3.3 A.35.4), TID 2010 (PS3.16).
#include "compose_tree.hpp"

namespace compose {
namespace {

// CID 7010. Archives act on other titles: those that reject images.
const Code of_interest = {"113000", "DCM", "Of Interest"};
const Code key_object_description = {"113012", "DCM", "Key Object Description"};

void write_tree(const cdcmtk_key_objects &key_objects, DSRDocument &document) {
    Tree tree(document.getTree());
    tree.container(DSRTypes::RT_isRoot, of_interest, "2010", [&] {
        tree.language();
        tree.observer(key_objects.header.device);
        tree.text(contains, key_object_description, key_objects.description);
        for (size_t i = 0; i < key_objects.image_count; i++) tree.image(contains, nullptr, key_objects.images[i]);
    });
}

} // namespace
} // namespace compose

using namespace compose;

int cdcmtk_key_objects_encode(
    const cdcmtk_key_objects *key_objects, const cdcmtk_source *identity, cdcmtk_encoded *out, char *reason,
    size_t reason_size) {
    return guarded(reason, reason_size, [&] {
        DSRDocument document(DSRTypes::DT_KeyObjectSelectionDocument);
        begin_document(document, *identity);
        write_tree(*key_objects, document);
        for (size_t i = 0; i < key_objects->image_count; i++)
            add_evidence(document, *identity, key_objects->images[i]);
        identify_schemes(document, {"DCM", "RFC5646"});
        encode_document(
            document, *identity, key_objects->header, "KO", "9002", "AI ICH key objects", *out);
    });
}
