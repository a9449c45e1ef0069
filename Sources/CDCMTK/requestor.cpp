#include "secure.hpp"

#include "dcmtk/dcmdata/dcostrmb.h"
#include "dcmtk/dcmdata/dctk.h"
#include "dcmtk/dcmnet/assoc.h"
#include "dcmtk/dcmnet/cond.h"
#include "dcmtk/dcmnet/dimse.h"
#include "dcmtk/dcmnet/dul.h"

#include <cmath>
#include <memory>
#include <string>

#include "cdcmtk_requestor.h"
#include "text.hpp"

using namespace cdcmtk;

struct cdcmtk_requestor {
    Waiting waiting;
    /// Of TLS, or nothing. Outlives the connection that DCMTK makes over it.
    std::unique_ptr<cdcmtk_secure> secure;
    cdcmtk_handshake handshake = {};
    T_ASC_Network *network = nullptr;
    T_ASC_Association *association = nullptr;
    bool broken = false;
};

namespace {

const long most_pdu_bytes = ASC_DEFAULTMAXPDU;

class ClientConnection : public SecureConnection {
public:
    ClientConnection(cdcmtk_requestor &requestor, cdcmtk_tls &tls)
        : SecureConnection(&requestor.secure->session, &requestor.waiting), requestor_(requestor), tls_(tls) {}
    OFCondition clientSideHandshake() override {
        const bool is_done = run_handshake(tls_, *requestor_.secure, &requestor_.handshake);
        return is_done ? EC_Normal : DUL_NETWORKCLOSED;
    }

private:
    cdcmtk_requestor &requestor_;
    cdcmtk_tls &tls_;
};

/// Opens the connection within TLS, as the client.
class ClientLayer : public DcmTransportLayer {
public:
    ClientLayer(cdcmtk_requestor &requestor, const cdcmtk_requestor_options &options)
        : requestor_(requestor), tls_(*options.tls), host_{options.host, options.verifies_host != 0},
          seconds_(options.connect_timeout_seconds) {}
    DcmTransportConnection *createConnection(DcmNativeSocketType socket, OFBool) override {
        requestor_.secure = begin_secure(tls_, socket, seconds_, &host_);
        DcmTransportConnection *connection = new ClientConnection(requestor_, tls_);
        // From here on DCMTK closes the socket.
        requestor_.secure->session.give_up_socket();
        return connection;
    }

private:
    cdcmtk_requestor &requestor_;
    cdcmtk_tls &tls_;
    const ExpectedHost host_;
    const double seconds_;
};

void destroy(cdcmtk_requestor *requestor) {
    if (!requestor) return;
    if (requestor->association) {
        // Whoever does not answer a release within a few seconds gets the connection closed.
        requestor->waiting.idle_seconds = std::min(requestor->waiting.idle_seconds, 5.0);
        if (!requestor->broken) ASC_releaseAssociation(requestor->association);
        else if (requestor->waiting.ended == CDCMTK_OK) ASC_abortAssociation(requestor->association);
        ASC_dropAssociation(requestor->association);
        ASC_destroyAssociation(&requestor->association);
    }
    if (requestor->network) ASC_dropNetwork(&requestor->network);
    delete requestor;
}

DcmTransportLayer *make_layer(cdcmtk_requestor &requestor, const cdcmtk_requestor_options &options) {
    if (options.tls) return new ClientLayer(requestor, options);
    return new Layer(&requestor.waiting);
}

cdcmtk_request_outcome fail(cdcmtk_request_failure *failure, cdcmtk_request_outcome outcome, const char *reason) {
    failure->outcome = outcome;
    copy_text(failure->reason, sizeof failure->reason, reason);
    return outcome;
}

cdcmtk_request_outcome fail(
    cdcmtk_requestor *requestor, cdcmtk_request_failure *failure, const OFCondition &condition) {
    requestor->broken = true;
    switch (requestor->waiting.ended) {
    case CDCMTK_IDLE:
    case CDCMTK_DEADLINE: return fail(failure, CDCMTK_REQUEST_TIMEOUT, "no answer from the peer in time");
    case CDCMTK_CLOSED: return fail(failure, CDCMTK_REQUEST_ABORTED, "the peer closed the connection");
    default: break;
    }
    if (condition == DUL_READTIMEOUT || condition == DIMSE_NODATAAVAILABLE)
        return fail(failure, CDCMTK_REQUEST_TIMEOUT, "no answer from the peer in time");
    if (condition == DUL_PEERABORTEDASSOCIATION)
        return fail(failure, CDCMTK_REQUEST_ABORTED, "the peer aborted the association");
    if (condition == DUL_PEERREQUESTEDRELEASE)
        return fail(failure, CDCMTK_REQUEST_ABORTED, "the peer released the association before its answer");
    if (condition == DUL_NETWORKCLOSED) return fail(failure, CDCMTK_REQUEST_ABORTED, "the peer closed the connection");
    return fail(failure, CDCMTK_REQUEST_OTHER, condition.text());
}

/// First byte of a record that holds an alert (RFC 8446 §5.1).
const int tls_alert = 0x15;

cdcmtk_request_outcome fail_to_open(
    cdcmtk_requestor *requestor, cdcmtk_request_failure *failure, const OFCondition &condition) {
    if (requestor->secure) {
        cdcmtk_handshake &handshake = requestor->handshake;
        // In TLS 1.3 the peer judges our certificate when our part of the handshake is over.
        if (handshake.outcome == CDCMTK_HANDSHAKE_DONE) note_alert(*requestor->secure, &handshake);
        if (handshake.outcome != CDCMTK_HANDSHAKE_DONE) {
            requestor->broken = true;
            requestor->waiting.ended = CDCMTK_CLOSED;
            failure->handshake = handshake;
            return fail(failure, CDCMTK_REQUEST_HANDSHAKE, handshake.text);
        }
    }
    if (condition == DUL_ASSOCIATIONREJECTED) {
        T_ASC_RejectParameters rejected = {};
        ASC_getRejectParameters(requestor->association->params, &rejected);
        failure->source = rejected.source;
        failure->diagnosis = rejected.reason & 0xff;
        const bool transient = rejected.result == ASC_RESULT_REJECTEDTRANSIENT;
        requestor->broken = true;
        requestor->waiting.ended = CDCMTK_CLOSED;
        return fail(
            failure, transient ? CDCMTK_REQUEST_REJECTED_TRANSIENTLY : CDCMTK_REQUEST_REJECTED_PERMANENTLY,
            "the peer rejected the association");
    }
    if (requestor->waiting.socket < 0) {
        requestor->broken = true;
        requestor->waiting.ended = CDCMTK_CLOSED;
        const bool is_known = condition.module() != OFM_dcmnet || condition.code() != DULC_UNKNOWNHOST;
        return fail(failure, is_known ? CDCMTK_REQUEST_CONNECT : CDCMTK_REQUEST_NAME, condition.text());
    }
    const cdcmtk_request_outcome outcome = fail(requestor, failure, condition);
    if (requestor->waiting.first_byte == tls_alert)
        return fail(failure, CDCMTK_REQUEST_NEEDS_TLS, "the peer speaks TLS on this port: set tls: true for it");
    if (requestor->waiting.ended != CDCMTK_CLOSED) return outcome;
    return fail(
        failure, outcome,
        requestor->secure ? "the peer closed the connection after the TLS handshake, before its answer: does it accept "
                            "our certificate, and the name in it?"
                          : "the peer closed the connection before its answer: does it know our address, or speak TLS "
                            "on this port?");
}

OFCondition add_proposals(T_ASC_Parameters *parameters, const cdcmtk_proposal *proposals, size_t count) {
    for (size_t i = 0; i < count && i < 128; i++) {
        const cdcmtk_proposal &proposal = proposals[i];
        const OFCondition condition = ASC_addPresentationContext(
            parameters, static_cast<T_ASC_PresentationContextID>(2 * i + 1), proposal.abstract_syntax,
            const_cast<const char **>(proposal.transfer_syntaxes), proposal.transfer_syntax_count);
        if (condition.bad()) return condition;
    }
    return EC_Normal;
}

OFCondition make_parameters(
    const cdcmtk_requestor_options *options, const cdcmtk_proposal *proposals, size_t count,
    T_ASC_Parameters **parameters) {
    OFCondition condition = ASC_createAssociationParameters(parameters, most_pdu_bytes);
    if (condition.bad()) return condition;
    const std::string address = std::string(options->host) + ":" + std::to_string(options->port);
    condition = ASC_setAPTitles(*parameters, options->calling_ae_title, options->called_ae_title, nullptr);
    if (condition.good()) condition = ASC_setPresentationAddresses(*parameters, "localhost", address.c_str());
    if (condition.good()) condition = add_proposals(*parameters, proposals, count);
    if (condition.bad()) {
        ASC_destroyAssociationParameters(parameters);
        return condition;
    }
    copy_text(
        (*parameters)->ourImplementationClassUID, sizeof (*parameters)->ourImplementationClassUID,
        options->implementation_class_uid);
    copy_text(
        (*parameters)->ourImplementationVersionName, sizeof (*parameters)->ourImplementationVersionName,
        options->implementation_version_name);
    return condition;
}

void take_comment(DcmDataset *detail, cdcmtk_response *response) {
    OFString comment;
    if (detail && detail->findAndGetOFString(DCM_ErrorComment, comment).good())
        copy_text(response->comment, sizeof response->comment, comment.c_str());
    delete detail;
}

} // namespace

extern "C" long cdcmtk_requestor_most_pdu_bytes(void) { return most_pdu_bytes; }

extern "C" cdcmtk_requestor *cdcmtk_requestor_open(
    const cdcmtk_requestor_options *options, const cdcmtk_proposal *proposals, size_t count,
    cdcmtk_request_failure *failure) {
    *failure = cdcmtk_request_failure();
    try {
        std::unique_ptr<cdcmtk_requestor, void (*)(cdcmtk_requestor *)> requestor(new cdcmtk_requestor, destroy);
        requestor->waiting.idle_seconds = options->response_timeout_seconds;
        requestor->waiting.quick_acknowledge = false;
        dcmConnectionTimeout.set(static_cast<Sint32>(std::max(1.0, std::ceil(options->connect_timeout_seconds))));
        const int timeout = static_cast<int>(std::max(1.0, std::ceil(options->response_timeout_seconds)));
        OFCondition condition = ASC_initializeNetwork(NET_REQUESTOR, 0, timeout, &requestor->network);
        if (condition.good())
            condition = ASC_setTransportLayer(requestor->network, make_layer(*requestor, *options), 1);
        T_ASC_Parameters *parameters = nullptr;
        if (condition.good()) condition = make_parameters(options, proposals, count, &parameters);
        if (condition.bad()) {
            fail(failure, CDCMTK_REQUEST_OTHER, condition.text());
            return nullptr;
        }
        condition = ASC_requestAssociation(requestor->network, parameters, &requestor->association);
        if (condition.bad()) {
            fail_to_open(requestor.get(), failure, condition);
            return nullptr;
        }
        // DCMTK takes a release for an acceptance. PS3.8 §9.3.3.2: that has a result for each context.
        if (LST_Count(&requestor->association->params->DULparams.acceptedPresentationContext) == 0) {
            requestor->broken = true;
            fail(failure, CDCMTK_REQUEST_OTHER, "the peer neither accepted nor rejected the association");
            return nullptr;
        }
        return requestor.release();
    } catch (...) {
        fail(failure, CDCMTK_REQUEST_OTHER, "out of memory");
        return nullptr;
    }
}

extern "C" void cdcmtk_requestor_handshake(const cdcmtk_requestor *requestor, cdcmtk_handshake *handshake) {
    *handshake = requestor->handshake;
}

extern "C" int cdcmtk_requestor_accepts(cdcmtk_requestor *requestor, const char *abstract_syntax) {
    return ASC_findAcceptedPresentationContextID(requestor->association, abstract_syntax) != 0;
}

extern "C" cdcmtk_request_outcome cdcmtk_requestor_store(
    cdcmtk_requestor *requestor, const char *path, const char *sop_class_uid, const char *sop_instance_uid,
    cdcmtk_response *response, cdcmtk_request_failure *failure) {
    *response = cdcmtk_response();
    *failure = cdcmtk_request_failure();
    try {
        if (requestor->broken) return fail(failure, CDCMTK_REQUEST_OTHER, "the association is broken");
        T_ASC_Association *association = requestor->association;
        if (ASC_findAcceptedPresentationContextID(association, sop_class_uid) == 0)
            return fail(failure, CDCMTK_REQUEST_NO_CONTEXT, "the peer accepted no presentation context");
        DcmFileFormat file;
        const OFCondition loaded = file.loadFile(path);
        if (loaded.bad()) return fail(failure, CDCMTK_REQUEST_LOCAL_FILE, loaded.text());
        DcmDataset *dataset = file.getDataset();
        const DcmXfer syntax(dataset->getOriginalXfer());
        T_ASC_PresentationContextID context =
            ASC_findAcceptedPresentationContextID(association, sop_class_uid, syntax.getXferID());
        if (context == 0) context = ASC_findAcceptedPresentationContextID(association, sop_class_uid);
        T_ASC_PresentationContext accepted = {};
        ASC_findAcceptedPresentationContext(association->params, context, &accepted);
        if (!dataset->canWriteXfer(DcmXfer(accepted.acceptedTransferSyntax).getXfer()))
            return fail(failure, CDCMTK_REQUEST_NO_CONTEXT, "the peer accepted no transfer syntax of the object");

        T_DIMSE_C_StoreRQ request = {};
        T_DIMSE_C_StoreRSP answer = {};
        request.MessageID = association->nextMsgID++;
        copy_text(request.AffectedSOPClassUID, sizeof request.AffectedSOPClassUID, sop_class_uid);
        copy_text(request.AffectedSOPInstanceUID, sizeof request.AffectedSOPInstanceUID, sop_instance_uid);
        request.DataSetType = DIMSE_DATASET_PRESENT;
        request.Priority = DIMSE_PRIORITY_MEDIUM;
        DcmDataset *detail = nullptr;
        const OFCondition condition = DIMSE_storeUser(
            association, context, &request, nullptr, dataset, nullptr, nullptr, DIMSE_BLOCKING, 0, &answer, &detail);
        take_comment(detail, response);
        if (condition.bad()) return fail(requestor, failure, condition);
        response->status = answer.DimseStatus;
        return CDCMTK_REQUEST_OK;
    } catch (...) {
        requestor->broken = true;
        return fail(failure, CDCMTK_REQUEST_OTHER, "out of memory");
    }
}

extern "C" cdcmtk_request_outcome cdcmtk_requestor_echo(
    cdcmtk_requestor *requestor, cdcmtk_response *response, cdcmtk_request_failure *failure) {
    *response = cdcmtk_response();
    *failure = cdcmtk_request_failure();
    try {
        T_ASC_Association *association = requestor->association;
        if (ASC_findAcceptedPresentationContextID(association, UID_VerificationSOPClass) == 0)
            return fail(failure, CDCMTK_REQUEST_NO_CONTEXT, "the peer accepted no presentation context");
        DIC_US status = 0;
        DcmDataset *detail = nullptr;
        const OFCondition condition =
            DIMSE_echoUser(association, association->nextMsgID++, DIMSE_BLOCKING, 0, &status, &detail);
        take_comment(detail, response);
        if (condition.bad()) return fail(requestor, failure, condition);
        response->status = status;
        return CDCMTK_REQUEST_OK;
    } catch (...) {
        requestor->broken = true;
        return fail(failure, CDCMTK_REQUEST_OTHER, "out of memory");
    }
}

namespace {

struct Query {
    T_ASC_Association *association;
    T_ASC_PresentationContextID context;
    size_t left;
    void (*take)(void *context, const cdcmtk_match *match);
    void *taker;
    bool cancelled;
};

OFString text_of(DcmDataset *match, const DcmTagKey &key) {
    OFString text;
    if (match->findAndGetOFString(key, text).bad()) text.clear();
    return text;
}

void take_match(void *data, T_DIMSE_C_FindRQ *request, int, T_DIMSE_C_FindRSP *, DcmDataset *match) {
    auto *query = static_cast<Query *>(data);
    if (query->cancelled || !match) return;
    if (query->left == 0) {
        query->cancelled = true;
        DIMSE_sendCancelRequest(query->association, query->context, request->MessageID);
        return;
    }
    query->left--;
    const OFString series = text_of(match, DCM_SeriesInstanceUID), instance = text_of(match, DCM_SOPInstanceUID),
                   count = text_of(match, DCM_NumberOfSeriesRelatedInstances);
    const cdcmtk_match found = {series.c_str(), instance.c_str(), count.c_str()};
    query->take(query->taker, &found);
}

OFCondition make_keys(DcmDataset &keys, const char *level, const char *study, const char *series) {
    OFCondition condition = keys.putAndInsertString(DCM_QueryRetrieveLevel, level);
    if (condition.good()) condition = keys.putAndInsertString(DCM_StudyInstanceUID, study);
    if (condition.good()) condition = keys.putAndInsertString(DCM_SeriesInstanceUID, series);
    return condition;
}

} // namespace

extern "C" cdcmtk_request_outcome cdcmtk_requestor_find(
    cdcmtk_requestor *requestor, const char *study_instance_uid, const char *series_instance_uid, size_t most,
    void (*take)(void *context, const cdcmtk_match *match), void *context, cdcmtk_response *response,
    cdcmtk_request_failure *failure) {
    *response = cdcmtk_response();
    *failure = cdcmtk_request_failure();
    try {
        if (requestor->broken) return fail(failure, CDCMTK_REQUEST_OTHER, "the association is broken");
        T_ASC_Association *association = requestor->association;
        const char *model = UID_FINDStudyRootQueryRetrieveInformationModel;
        const T_ASC_PresentationContextID id = ASC_findAcceptedPresentationContextID(association, model);
        if (id == 0) return fail(failure, CDCMTK_REQUEST_NO_CONTEXT, "the peer accepted no presentation context");
        DcmDataset keys;
        const bool is_image = *series_instance_uid != 0;
        OFCondition condition =
            make_keys(keys, is_image ? "IMAGE" : "SERIES", study_instance_uid, series_instance_uid);
        if (condition.good())
            condition = keys.insertEmptyElement(is_image ? DCM_SOPInstanceUID : DCM_NumberOfSeriesRelatedInstances);
        if (condition.bad()) return fail(failure, CDCMTK_REQUEST_OTHER, condition.text());

        T_DIMSE_C_FindRQ request = {};
        T_DIMSE_C_FindRSP answer = {};
        request.MessageID = association->nextMsgID++;
        copy_text(request.AffectedSOPClassUID, sizeof request.AffectedSOPClassUID, model);
        request.DataSetType = DIMSE_DATASET_PRESENT;
        request.Priority = DIMSE_PRIORITY_MEDIUM;
        Query query = {association, id, most, take, context, false};
        int responses = 0;
        DcmDataset *detail = nullptr;
        condition = DIMSE_findUser(
            association, id, &request, &keys, responses, take_match, &query, DIMSE_BLOCKING, 0, &answer, &detail);
        take_comment(detail, response);
        if (condition.bad()) return fail(requestor, failure, condition);
        if (query.cancelled) return fail(failure, CDCMTK_REQUEST_OTHER, "more matches than a study can have");
        response->status = answer.DimseStatus;
        return CDCMTK_REQUEST_OK;
    } catch (...) {
        requestor->broken = true;
        return fail(failure, CDCMTK_REQUEST_OTHER, "out of memory");
    }
}

namespace {

OFCondition send_move(
    T_ASC_Association *association, T_ASC_PresentationContextID id, const char *model, const char *destination,
    DcmDataset &keys, DIC_US number) {
    T_DIMSE_Message message = {};
    message.CommandField = DIMSE_C_MOVE_RQ;
    T_DIMSE_C_MoveRQ &request = message.msg.CMoveRQ;
    request.MessageID = number;
    copy_text(request.AffectedSOPClassUID, sizeof request.AffectedSOPClassUID, model);
    request.DataSetType = DIMSE_DATASET_PRESENT;
    request.Priority = DIMSE_PRIORITY_MEDIUM;
    copy_text(request.MoveDestination, sizeof request.MoveDestination, destination);
    return DIMSE_sendMessageUsingMemoryData(association, id, &message, nullptr, &keys, nullptr, nullptr);
}

OFCondition receive_move(
    T_ASC_Association *association, DIC_US number, cdcmtk_move_counts *counts, cdcmtk_response *response) {
    T_ASC_PresentationContextID id = 0;
    T_DIMSE_Message message = {};
    DcmDataset *detail = nullptr;
    const OFCondition condition = DIMSE_receiveCommand(association, DIMSE_BLOCKING, 0, &id, &message, &detail);
    take_comment(detail, response);
    if (condition.bad()) return condition;
    const T_DIMSE_C_MoveRSP &answer = message.msg.CMoveRSP;
    if (message.CommandField != DIMSE_C_MOVE_RSP || answer.MessageIDBeingRespondedTo != number)
        return DIMSE_BADCOMMANDTYPE;
    if (answer.opts & O_MOVE_NUMBEROFCOMPLETEDSUBOPERATIONS) counts->completed = answer.NumberOfCompletedSubOperations;
    if (answer.opts & O_MOVE_NUMBEROFFAILEDSUBOPERATIONS) counts->failed = answer.NumberOfFailedSubOperations;
    if (answer.opts & O_MOVE_NUMBEROFWARNINGSUBOPERATIONS) counts->warning = answer.NumberOfWarningSubOperations;
    response->status = answer.DimseStatus;
    // Failed SOP Instance UID List (0008,0058).
    DIC_UL bytes = 0, values = 0;
    return answer.DataSetType == DIMSE_DATASET_NULL
               ? EC_Normal
               : DIMSE_ignoreDataSet(association, DIMSE_BLOCKING, 0, &bytes, &values);
}

} // namespace

// Not DIMSE_moveUser, which polls for an answer without end.
extern "C" cdcmtk_request_outcome cdcmtk_requestor_move(
    cdcmtk_requestor *requestor, const char *study_instance_uid, const char *series_instance_uid,
    const char *destination, double most_seconds, cdcmtk_move_counts *counts, cdcmtk_response *response,
    cdcmtk_request_failure *failure) {
    *counts = {-1, -1, -1};
    *response = cdcmtk_response();
    *failure = cdcmtk_request_failure();
    try {
        if (requestor->broken) return fail(failure, CDCMTK_REQUEST_OTHER, "the association is broken");
        T_ASC_Association *association = requestor->association;
        const char *model = UID_MOVEStudyRootQueryRetrieveInformationModel;
        const T_ASC_PresentationContextID id = ASC_findAcceptedPresentationContextID(association, model);
        if (id == 0) return fail(failure, CDCMTK_REQUEST_NO_CONTEXT, "the peer accepted no presentation context");
        DcmDataset keys;
        OFCondition condition = make_keys(keys, "SERIES", study_instance_uid, series_instance_uid);
        if (condition.bad()) return fail(failure, CDCMTK_REQUEST_OTHER, condition.text());

        const auto end = Clock::now() + seconds(most_seconds);
        requestor->waiting.deadline = end + seconds(requestor->waiting.idle_seconds);
        const DIC_US number = association->nextMsgID++;
        condition = send_move(association, id, model, destination, keys, number);
        bool is_cancelled = false;
        do {
            if (condition.good()) condition = receive_move(association, number, counts, response);
            if (condition.good() && DICOM_PENDING_STATUS(response->status) && !is_cancelled && Clock::now() >= end) {
                is_cancelled = true;
                condition = DIMSE_sendCancelRequest(association, id, number);
            }
        } while (condition.good() && DICOM_PENDING_STATUS(response->status));
        if (condition.bad()) return fail(requestor, failure, condition);
        return CDCMTK_REQUEST_OK;
    } catch (...) {
        requestor->broken = true;
        return fail(failure, CDCMTK_REQUEST_OTHER, "out of memory");
    }
}

namespace {

/// Of an N-ACTION whose reports may come on the same association.
struct Commitment {
    T_ASC_Association *association;
    T_ASC_PresentationContextID context;
    DIC_US number;
    cdcmtk_response *response;
    uint16_t (*take)(
        void *context, const char *sop_instance_uid, uint16_t event_type_id, const uint8_t *bytes, size_t count);
    void *taker;
    bool is_answered = false;
    bool is_reported = false;
};

OFCondition make_action(
    DcmDataset &information, const char *transaction, const cdcmtk_reference *references, size_t count) {
    OFCondition condition = information.putAndInsertString(DCM_TransactionUID, transaction);
    for (size_t i = 0; i < count && condition.good(); i++) {
        DcmItem *item = nullptr;
        condition = information.findOrCreateSequenceItem(DCM_ReferencedSOPSequence, item, -2);
        if (condition.good())
            condition = item->putAndInsertString(DCM_ReferencedSOPClassUID, references[i].sop_class_uid);
        if (condition.good())
            condition = item->putAndInsertString(DCM_ReferencedSOPInstanceUID, references[i].sop_instance_uid);
    }
    return condition;
}

OFCondition send_action(const Commitment &commitment, DcmDataset &information) {
    T_DIMSE_Message message = {};
    message.CommandField = DIMSE_N_ACTION_RQ;
    T_DIMSE_N_ActionRQ &request = message.msg.NActionRQ;
    request.MessageID = commitment.number;
    copy_text(
        request.RequestedSOPClassUID, sizeof request.RequestedSOPClassUID, UID_StorageCommitmentPushModelSOPClass);
    copy_text(
        request.RequestedSOPInstanceUID, sizeof request.RequestedSOPInstanceUID,
        UID_StorageCommitmentPushModelSOPInstance);
    request.DataSetType = DIMSE_DATASET_PRESENT;
    request.ActionTypeID = 1;  // Request Storage Commitment
    return DIMSE_sendMessageUsingMemoryData(
        commitment.association, commitment.context, &message, nullptr, &information, nullptr, nullptr);
}

OFCondition bytes_of(DcmDataset &dataset, std::vector<uint8_t> &bytes) {
    const E_TransferSyntax syntax = EXS_LittleEndianExplicit;
    bytes.resize(dataset.calcElementLength(syntax, EET_ExplicitLength) + 1);
    DcmOutputBufferStream stream(bytes.data(), bytes.size());
    dataset.transferInit();
    const OFCondition condition = dataset.write(stream, syntax, EET_ExplicitLength, nullptr);
    dataset.transferEnd();
    void *written = nullptr;
    offile_off_t count = 0;
    stream.flushBuffer(written, count);
    bytes.resize(static_cast<size_t>(count));
    return condition;
}

OFCondition receive_report(
    Commitment &commitment, T_ASC_PresentationContextID id, const T_DIMSE_N_EventReportRQ &report) {
    std::vector<uint8_t> bytes;
    if (report.DataSetType != DIMSE_DATASET_NULL) {
        DcmDataset *received = nullptr;
        OFCondition condition = DIMSE_receiveDataSetInMemory(
            commitment.association, DIMSE_BLOCKING, 0, &id, &received, nullptr, nullptr);
        const std::unique_ptr<DcmDataset> information(received);
        if (condition.good() && information) condition = bytes_of(*information, bytes);
        if (condition.bad()) return condition;
    }
    T_DIMSE_Message message = {};
    message.CommandField = DIMSE_N_EVENT_REPORT_RSP;
    T_DIMSE_N_EventReportRSP &answer = message.msg.NEventReportRSP;
    answer.MessageIDBeingRespondedTo = report.MessageID;
    copy_text(answer.AffectedSOPClassUID, sizeof answer.AffectedSOPClassUID, report.AffectedSOPClassUID);
    copy_text(answer.AffectedSOPInstanceUID, sizeof answer.AffectedSOPInstanceUID, report.AffectedSOPInstanceUID);
    answer.EventTypeID = report.EventTypeID;
    answer.DataSetType = DIMSE_DATASET_NULL;
    answer.opts = O_NEVENTREPORT_AFFECTEDSOPCLASSUID | O_NEVENTREPORT_AFFECTEDSOPINSTANCEUID |
                  O_NEVENTREPORT_EVENTTYPEID;
    answer.DimseStatus = commitment.take(
        commitment.taker, report.AffectedSOPInstanceUID, report.EventTypeID, bytes.data(), bytes.size());
    commitment.is_reported |= answer.DimseStatus == STATUS_Success;
    return DIMSE_sendMessageUsingMemoryData(
        commitment.association, id, &message, nullptr, nullptr, nullptr, nullptr);
}

/// The response to N-ACTION, or a report, which some peers send before it.
OFCondition receive_commitment(Commitment &commitment, T_DIMSE_BlockingMode mode, int seconds) {
    T_ASC_PresentationContextID id = 0;
    T_DIMSE_Message message = {};
    DcmDataset *detail = nullptr;
    const OFCondition condition =
        DIMSE_receiveCommand(commitment.association, mode, seconds, &id, &message, &detail);
    if (condition.good() && message.CommandField == DIMSE_N_ACTION_RSP) take_comment(detail, commitment.response);
    else delete detail;
    if (condition.bad()) return condition;
    if (message.CommandField == DIMSE_N_EVENT_REPORT_RQ)
        return receive_report(commitment, id, message.msg.NEventReportRQ);
    const T_DIMSE_N_ActionRSP &answer = message.msg.NActionRSP;
    if (message.CommandField != DIMSE_N_ACTION_RSP || answer.MessageIDBeingRespondedTo != commitment.number)
        return DIMSE_BADCOMMANDTYPE;
    commitment.is_answered = true;
    commitment.response->status = answer.DimseStatus;
    // Action Reply, which this action has none of.
    DIC_UL bytes = 0, values = 0;
    return answer.DataSetType == DIMSE_DATASET_NULL
               ? EC_Normal
               : DIMSE_ignoreDataSet(commitment.association, DIMSE_BLOCKING, 0, &bytes, &values);
}

} // namespace

extern "C" cdcmtk_request_outcome cdcmtk_requestor_commit(
    cdcmtk_requestor *requestor, const char *transaction_uid, const cdcmtk_reference *references, size_t count,
    double report_seconds,
    uint16_t (*take)(
        void *context, const char *sop_instance_uid, uint16_t event_type_id, const uint8_t *bytes, size_t count),
    void *context, cdcmtk_response *response, cdcmtk_request_failure *failure) {
    *response = cdcmtk_response();
    *failure = cdcmtk_request_failure();
    try {
        T_ASC_Association *association = requestor->association;
        const T_ASC_PresentationContextID id =
            ASC_findAcceptedPresentationContextID(association, UID_StorageCommitmentPushModelSOPClass);
        if (id == 0) return fail(failure, CDCMTK_REQUEST_NO_CONTEXT, "the peer accepted no presentation context");
        DcmDataset information;
        OFCondition condition = make_action(information, transaction_uid, references, count);
        if (condition.bad()) return fail(failure, CDCMTK_REQUEST_OTHER, condition.text());
        Commitment commitment = {association, id, association->nextMsgID++, response, take, context};
        condition = send_action(commitment, information);
        while (condition.good() && !commitment.is_answered)
            condition = receive_commitment(commitment, DIMSE_BLOCKING, 0);
        if (condition.bad()) return fail(requestor, failure, condition);
        if (response->status != STATUS_Success) return CDCMTK_REQUEST_OK;

        const auto end = Clock::now() + seconds(report_seconds);
        for (auto now = Clock::now(); condition.good() && !commitment.is_reported && now < end; now = Clock::now()) {
            const double left = std::chrono::duration<double>(end - now).count();
            condition = receive_commitment(commitment, DIMSE_NONBLOCKING, static_cast<int>(std::ceil(left)));
        }
        // Whatever ended the wait, the peer has promised to report.
        if (condition == DUL_PEERREQUESTEDRELEASE) {
            ASC_acknowledgeRelease(association);
            requestor->waiting.ended = CDCMTK_CLOSED;
        }
        requestor->broken = condition.bad() && condition != DIMSE_NODATAAVAILABLE;
        return CDCMTK_REQUEST_OK;
    } catch (...) {
        requestor->broken = true;
        return fail(failure, CDCMTK_REQUEST_OTHER, "out of memory");
    }
}

extern "C" void cdcmtk_requestor_free(cdcmtk_requestor *requestor) {
    try {
        destroy(requestor);
    } catch (...) {
    }
}

extern "C" int cdcmtk_file_transfer_syntax(const char *path, char *uid) {
    try {
        DcmMetaInfo meta;
        OFString text;
        if (meta.loadFile(path).bad() || meta.findAndGetOFString(DCM_TransferSyntaxUID, text).bad()) return -1;
        copy_text(uid, 65, text.c_str());
        return 0;
    } catch (...) {
        return -1;
    }
}
