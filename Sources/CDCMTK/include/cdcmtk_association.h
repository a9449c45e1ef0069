// The accepting side of one association: the DICOM upper layer (PS3.8) over a socket that is already connected.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CDCMTK_OK = 0,
    CDCMTK_RELEASED = 1,    ///< The peer asked for release.
    CDCMTK_ABORTED = 2,     ///< The peer sent A-ABORT.
    CDCMTK_CLOSED = 3,      ///< The peer closed the connection without a word.
    CDCMTK_IDLE = 4,        ///< Nothing came within the idle timeout.
    CDCMTK_DEADLINE = 5,    ///< The association lasted longer than it may.
    CDCMTK_INTERRUPTED = 6, ///< The interrupting descriptor became readable.
    CDCMTK_VIOLATION = 7,   ///< The peer broke the protocol.
    CDCMTK_FAILED = 8       ///< Anything else.
} cdcmtk_outcome;

typedef struct cdcmtk_association cdcmtk_association;

enum { CDCMTK_MOST_TRANSFER_SYNTAXES = 50, CDCMTK_UID_BYTES = 65 };

typedef struct {
    double idle_seconds;      ///< Longest wait for the peer's next byte.
    double deadline_seconds;  ///< Longest life of the association.
    long max_pdu_bytes;       ///< Maximum length we announce (PS3.8 Annex D.1).
    const char *implementation_class_uid;
    const char *implementation_version_name;
} cdcmtk_accept_options;

/// What the A-ASSOCIATE-RQ says, context by context aside.
typedef struct {
    char calling_ae_title[CDCMTK_UID_BYTES];
    char called_ae_title[CDCMTK_UID_BYTES];
    char application_context[CDCMTK_UID_BYTES];
    char implementation_class_uid[CDCMTK_UID_BYTES];
    char implementation_version_name[CDCMTK_UID_BYTES];
    int context_count;
} cdcmtk_association_request;

/// Role proposed for a context (PS3.7 Annex D.3.3.4), as seen from the peer.
typedef enum { CDCMTK_ROLE_DEFAULT, CDCMTK_ROLE_SCU, CDCMTK_ROLE_SCP, CDCMTK_ROLE_BOTH } cdcmtk_role;

typedef struct {
    uint8_t id;
    cdcmtk_role proposed_role;
    char abstract_syntax[CDCMTK_UID_BYTES];
    int transfer_syntax_count;
    char transfer_syntaxes[CDCMTK_MOST_TRANSFER_SYNTAXES][CDCMTK_UID_BYTES];
} cdcmtk_context;

/// One presentation data value (PS3.8 Annex E.2).
typedef struct {
    uint8_t context_id;
    int is_command;
    int is_last;
    const uint8_t *bytes; ///< Valid until the next call on the association.
    size_t count;
} cdcmtk_fragment;

/// Reads the A-ASSOCIATE-RQ from the socket, which the association then owns in every case.
cdcmtk_outcome cdcmtk_association_receive(
    int socket, const cdcmtk_accept_options *options, cdcmtk_association **association, char *reason,
    size_t reason_size);
cdcmtk_outcome cdcmtk_association_request_get(cdcmtk_association *association, cdcmtk_association_request *request);
cdcmtk_outcome cdcmtk_association_context_get(cdcmtk_association *association, int index, cdcmtk_context *context);
/// `role`: SCU or SCP, granted to the peer where it negotiates roles.
cdcmtk_outcome cdcmtk_association_context_accept(
    cdcmtk_association *association, uint8_t id, const char *transfer_syntax, cdcmtk_role role);
/// `result` as in PS3.8 Table 9-18: 3 abstract syntax, 4 transfer syntaxes not supported.
cdcmtk_outcome cdcmtk_association_context_refuse(cdcmtk_association *association, uint8_t id, int result);
/// Sends A-ASSOCIATE-AC.
cdcmtk_outcome cdcmtk_association_acknowledge(cdcmtk_association *association, char *reason, size_t reason_size);
/// Sends A-ASSOCIATE-RJ with result, source and reason/diag. of PS3.8 Table 9-21.
void cdcmtk_association_reject(cdcmtk_association *association, int result, int source, int diagnosis);

/// The next presentation data value. Waits for the peer; `interrupt` (or -1) is a descriptor that ends the wait for the
/// start of a PDU, never one that is under way.
cdcmtk_outcome cdcmtk_association_next_fragment(
    cdcmtk_association *association, int interrupt, cdcmtk_fragment *fragment, char *reason, size_t reason_size);
/// Sends a whole command set in one value.
cdcmtk_outcome cdcmtk_association_send_command(
    cdcmtk_association *association, uint8_t context_id, const void *bytes, size_t count, char *reason,
    size_t reason_size);
void cdcmtk_association_acknowledge_release(cdcmtk_association *association);
void cdcmtk_association_abort(cdcmtk_association *association);
/// Lets the peer read what was sent last (no reset), closes, frees.
void cdcmtk_association_free(cdcmtk_association *association);

#ifdef __cplusplus
}
#endif
