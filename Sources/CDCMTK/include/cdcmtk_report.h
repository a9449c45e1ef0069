// Reading a Structured Report of ours back: what it says, for people.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// An attribute of the header, or a content item (PS3.3 C.17.3). Text is UTF-8, as our reports are; it lives until the
/// visitor returns.
typedef struct {
    /// 1 for the root of the content, 2 for what is in it; 0 for an attribute of the header.
    uint32_t level;
    /// CONTAINER, TEXT, CODE, NUM, IMAGE … (PS3.3 Table C.17.3-7); empty for an attribute.
    const char *value_type;
    /// Code Meaning of the concept's name; empty where it has none.
    const char *name;
    /// Code Meaning of a code, number without unit, SOP Instance UID and frames of an image; empty for a container.
    const char *value;
} cdcmtk_content_item;

typedef void (*cdcmtk_report_visitor)(void *context, const cdcmtk_content_item *item);

/// Tells the header's attributes, then all content items in document order.
///
/// Returns 0, or -1 with a lower-case phrase in `reason` that holds nothing of the patient.
int cdcmtk_report_read(
    const char *path, cdcmtk_report_visitor visitor, void *context, char *reason, size_t reason_size);

#ifdef __cplusplus
}
#endif
