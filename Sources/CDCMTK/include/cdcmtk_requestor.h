// The requesting side: C-STORE, C-ECHO, C-FIND, C-MOVE and N-ACTION as SCU (PS3.7 §9.1.1, §9.1.5, §9.1.2, §9.1.4,
// §10.1.4).
#pragma once
#include "cdcmtk_tls.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cdcmtk_requestor cdcmtk_requestor;

typedef struct {
    const char *calling_ae_title;
    const char *called_ae_title;
    const char *host; ///< Name or IPv4 address.
    int port;
    double connect_timeout_seconds;
    double response_timeout_seconds;
    const char *implementation_class_uid;
    const char *implementation_version_name;
    cdcmtk_tls *tls; ///< Loaded for requests, serves one association; NULL: without TLS.
    int verifies_host; ///< Whether the peer's certificate has to name `host`.
} cdcmtk_requestor_options;

/// Longest PDU that is received.
long cdcmtk_requestor_most_pdu_bytes(void);

/// What to propose: one presentation context each.
typedef struct {
    const char *abstract_syntax;
    const char *transfer_syntaxes[4];
    int transfer_syntax_count;
} cdcmtk_proposal;

typedef enum {
    CDCMTK_REQUEST_OK = 0,
    CDCMTK_REQUEST_CONNECT = 1,             ///< No TCP connection.
    CDCMTK_REQUEST_REJECTED_PERMANENTLY = 2,///< `source`, `diagnosis` say why (PS3.8 Table 9-21).
    CDCMTK_REQUEST_REJECTED_TRANSIENTLY = 3,
    CDCMTK_REQUEST_ABORTED = 4,             ///< The peer aborted or closed.
    CDCMTK_REQUEST_TIMEOUT = 5,
    CDCMTK_REQUEST_NO_CONTEXT = 6,          ///< None accepted for this SOP class.
    CDCMTK_REQUEST_LOCAL_FILE = 7,          ///< The file cannot be read.
    CDCMTK_REQUEST_OTHER = 8,
    CDCMTK_REQUEST_HANDSHAKE = 9,           ///< No TLS; `handshake` says why.
    CDCMTK_REQUEST_NAME = 10,               ///< The host's name is not known.
    CDCMTK_REQUEST_NEEDS_TLS = 11           ///< Asked without TLS, the peer answers by TLS.
} cdcmtk_request_outcome;

typedef struct {
    cdcmtk_request_outcome outcome;
    int source;
    int diagnosis;
    char reason[256];
    cdcmtk_handshake handshake;
} cdcmtk_request_failure;

typedef struct {
    uint16_t status;
    char comment[129]; ///< Error Comment (0000,0902).
} cdcmtk_response;

/// Opens an association with the proposals. NULL on failure.
cdcmtk_requestor *cdcmtk_requestor_open(
    const cdcmtk_requestor_options *options, const cdcmtk_proposal *proposals, size_t count,
    cdcmtk_request_failure *failure);
/// What the TLS handshake agreed on; all empty without TLS.
void cdcmtk_requestor_handshake(const cdcmtk_requestor *requestor, cdcmtk_handshake *handshake);
/// Whether a presentation context was accepted.
int cdcmtk_requestor_accepts(cdcmtk_requestor *requestor, const char *abstract_syntax);
/// C-STORE of one file.
cdcmtk_request_outcome cdcmtk_requestor_store(
    cdcmtk_requestor *requestor, const char *path, const char *sop_class_uid, const char *sop_instance_uid,
    cdcmtk_response *response, cdcmtk_request_failure *failure);
cdcmtk_request_outcome cdcmtk_requestor_echo(
    cdcmtk_requestor *requestor, cdcmtk_response *response, cdcmtk_request_failure *failure);
/// One match of a query. Texts are UTF-8 or empty; valid within the callback only.
typedef struct {
    const char *series_instance_uid;
    const char *sop_instance_uid; ///< Of a query on the level of images.
    const char *series_instances; ///< Number of Series Related Instances (0020,1209).
} cdcmtk_match;

/// C-FIND in the Study Root model (PS3.4 §C.6.2): the series of a study, or where `series_instance_uid` is not empty
/// the images of that series. With more than `most` matches it is cancelled, which is a failure.
cdcmtk_request_outcome cdcmtk_requestor_find(
    cdcmtk_requestor *requestor, const char *study_instance_uid, const char *series_instance_uid, size_t most,
    void (*take)(void *context, const cdcmtk_match *match), void *context, cdcmtk_response *response,
    cdcmtk_request_failure *failure);

/// Sub-operations of a C-MOVE, as the latest response that numbers them says; -1 where none does.
typedef struct {
    int completed, failed, warning;
} cdcmtk_move_counts;

/// C-MOVE of one series in the Study Root model (PS3.4 §C.6.2) to the AE `destination`. What goes on for longer than
/// `most_seconds` is cancelled; the peer then has the response timeout to end it.
cdcmtk_request_outcome cdcmtk_requestor_move(
    cdcmtk_requestor *requestor, const char *study_instance_uid, const char *series_instance_uid,
    const char *destination, double most_seconds, cdcmtk_move_counts *counts, cdcmtk_response *response,
    cdcmtk_request_failure *failure);

typedef struct {
    const char *sop_class_uid;
    const char *sop_instance_uid;
} cdcmtk_reference;

/// N-ACTION of the Storage Commitment Push Model for `count` instances (PS3.4 §J.3.2), then a wait of `report_seconds`
/// for its N-EVENT-REPORT on the same association; that none comes is no failure. Each that comes is given to `take`,
/// its Event Information in explicit VR little endian, and answered with the status that this returns.
cdcmtk_request_outcome cdcmtk_requestor_commit(
    cdcmtk_requestor *requestor, const char *transaction_uid, const cdcmtk_reference *references, size_t count,
    double report_seconds,
    uint16_t (*take)(
        void *context, const char *sop_instance_uid, uint16_t event_type_id, const uint8_t *bytes, size_t count),
    void *context, cdcmtk_response *response, cdcmtk_request_failure *failure);

/// Releases where the association still stands, closes, frees.
void cdcmtk_requestor_free(cdcmtk_requestor *requestor);

/// Transfer syntax in the file meta header, written into `uid` (65 bytes). Returns 0, or -1.
int cdcmtk_file_transfer_syntax(const char *path, char *uid);

#ifdef __cplusplus
}
#endif
