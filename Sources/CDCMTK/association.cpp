#include "secure.hpp"

#include "dcmtk/dcmnet/assoc.h"
#include "dcmtk/dcmnet/cond.h"
#include "dcmtk/dcmnet/dul.h"
#include "dcmtk/dcmnet/dulstruc.h"

#include <memory>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cdcmtk_association.h"
#include "cdcmtk_tls.h"
#include "text.hpp"

using namespace cdcmtk;

struct cdcmtk_association {
    Waiting waiting;
    /// Of TLS, or nothing. Outlives the connection that DCMTK makes over it.
    std::unique_ptr<cdcmtk_secure, void (*)(cdcmtk_secure *)> secure{nullptr, cdcmtk_secure_close};
    T_ASC_Network *network = nullptr;
    T_ASC_Association *association = nullptr;
    /// Source and reason of the A-ABORT that the association would end with now (PS3.8 Table 9-26).
    uint8_t abort_source = abort_by_user;
    uint8_t abort_reason = 0;

    static constexpr uint8_t abort_by_user = 0;
    static constexpr uint8_t abort_by_provider = 2;
};

namespace {

cdcmtk_outcome outcome_of(const cdcmtk_association *association, const OFCondition &condition) {
    if (condition.good()) return CDCMTK_OK;
    if (condition == DUL_PEERREQUESTEDRELEASE) return CDCMTK_RELEASED;
    if (association->waiting.ended != CDCMTK_OK) return association->waiting.ended;
    if (condition == DUL_PEERABORTEDASSOCIATION) return CDCMTK_ABORTED;
    if (condition == DUL_NETWORKCLOSED) return CDCMTK_CLOSED;
    if (condition == DUL_READTIMEOUT) return CDCMTK_IDLE;
    if (condition == DUL_ILLEGALPDU || condition == DUL_ILLEGALPDULENGTH || condition == DUL_UNEXPECTEDPDU ||
        condition == DUL_UNSUPPORTEDPEERPROTOCOL || condition == DUL_PCTRANSLATIONFAILURE ||
        (condition.module() == OFM_dcmnet && condition.code() == DULC_UNRECOGNIZEDPDUTYPE))
        return CDCMTK_VIOLATION;
    return CDCMTK_FAILED;
}

/// As `outcome_of`, where a PDU with values was due: DCMTK reports no error for one that is not due in this state.
cdcmtk_outcome end_of(cdcmtk_association *association, const OFCondition &condition) {
    cdcmtk_outcome outcome = outcome_of(association, condition);
    if (outcome == CDCMTK_OK) outcome = CDCMTK_VIOLATION;
    if (outcome == CDCMTK_VIOLATION) {
        const bool is_unknown = condition.module() == OFM_dcmnet && condition.code() == DULC_UNRECOGNIZEDPDUTYPE;
        const bool is_unexpected = condition.good() || condition == DUL_UNEXPECTEDPDU;
        association->abort_source = cdcmtk_association::abort_by_provider;
        association->abort_reason = is_unknown ? 1 : is_unexpected ? 2 : 6;  // 6: invalid PDU parameter value
    }
    return outcome;
}

const char *phrase(cdcmtk_outcome outcome, const OFCondition &condition) {
    switch (outcome) {
    case CDCMTK_OK: return "";
    case CDCMTK_RELEASED: return "released by the peer";
    case CDCMTK_ABORTED: return "aborted by the peer";
    case CDCMTK_CLOSED: return "the peer closed the connection without releasing the association";
    case CDCMTK_IDLE: return "the peer sent nothing within the idle timeout";
    case CDCMTK_DEADLINE: return "the association lasted longer than it may";
    case CDCMTK_INTERRUPTED: return "interrupted";
    case CDCMTK_VIOLATION: return condition.good() ? "a PDU that is not due here" : condition.text();
    default: return condition.good() ? "the connection failed" : condition.text();
    }
}

void destroy(cdcmtk_association *handle) {
    if (!handle) return;
    if (handle->association) {
        if (handle->secure) handle->secure->session.say_goodbye();
        const bool is_open = handle->waiting.connection && handle->waiting.ended != CDCMTK_CLOSED;
        if (is_open) drain(handle->waiting.socket, 1000);
        ASC_dropAssociation(handle->association);
        ASC_destroyAssociation(&handle->association);
    }
    if (handle->network) ASC_dropNetwork(&handle->network);
    delete handle;
}

cdcmtk_role role_of(T_ASC_SC_ROLE role) {
    switch (role) {
    case ASC_SC_ROLE_SCU: return CDCMTK_ROLE_SCU;
    case ASC_SC_ROLE_SCP: return CDCMTK_ROLE_SCP;
    case ASC_SC_ROLE_SCUSCP: return CDCMTK_ROLE_BOTH;
    default: return CDCMTK_ROLE_DEFAULT;
    }
}

using Handle = std::unique_ptr<cdcmtk_association, void (*)(cdcmtk_association *)>;

/// Where nothing was made of the socket, `waiting.socket` stays negative.
cdcmtk_outcome receive(
    Handle &handle, int socket, const cdcmtk_accept_options *options, cdcmtk_association **association, char *reason,
    size_t reason_size) {
    handle->waiting.idle_seconds = options->idle_seconds;
    handle->waiting.deadline = Clock::now() + seconds(options->deadline_seconds);
    handle->waiting.withholds_aborts = true;
    SecureSession *session = handle->secure ? &handle->secure->session : nullptr;

    dcmExternalSocketHandle.set(socket);
    const int timeout = static_cast<int>(options->idle_seconds) + 1;
    OFCondition condition = ASC_initializeNetwork(NET_ACCEPTOR, 0, timeout, &handle->network);
    if (condition.good())
        condition = ASC_setTransportLayer(handle->network, new Layer(&handle->waiting, session), 1);
    if (condition.good())
        condition = ASC_receiveAssociation(
            handle->network, &handle->association, options->max_pdu_bytes, nullptr, nullptr, OFFalse, DUL_BLOCK, 0);
    dcmExternalSocketHandle.set(-1);
    // DCMTK finds nothing wrong where the peer closes before its request.
    if (condition.bad() || handle->waiting.ended != CDCMTK_OK) {
        cdcmtk_outcome outcome = outcome_of(handle.get(), condition);
        if (outcome == CDCMTK_OK) outcome = handle->waiting.ended;
        copy_text(reason, reason_size, phrase(outcome, condition));
        // PS3.8 Table 9-10, action AA-1.
        if (handle->waiting.connection) handle->waiting.connection->abort(cdcmtk_association::abort_by_user, 0);
        return outcome;
    }
    T_ASC_Parameters *parameters = handle->association->params;
    copy_text(
        parameters->ourImplementationClassUID, sizeof parameters->ourImplementationClassUID,
        options->implementation_class_uid);
    copy_text(
        parameters->ourImplementationVersionName, sizeof parameters->ourImplementationVersionName,
        options->implementation_version_name);
    *association = handle.release();
    return CDCMTK_OK;
}

} // namespace

extern "C" cdcmtk_outcome cdcmtk_association_receive(
    int socket, const cdcmtk_accept_options *options, cdcmtk_association **association, char *reason,
    size_t reason_size) {
    *association = nullptr;
    try {
        Handle handle(new cdcmtk_association, destroy);
        const cdcmtk_outcome outcome = receive(handle, socket, options, association, reason, reason_size);
        if (outcome != CDCMTK_OK && handle->waiting.socket < 0) close(socket);
        return outcome;
    } catch (...) {
        copy_text(reason, reason_size, "out of memory");
        return CDCMTK_FAILED;
    }
}

extern "C" cdcmtk_outcome cdcmtk_association_receive_secure(
    cdcmtk_secure *secure, const void *request, size_t count, const cdcmtk_accept_options *options,
    cdcmtk_association **association, char *reason, size_t reason_size) {
    *association = nullptr;
    bool is_owned = false;
    try {
        Handle handle(new cdcmtk_association, destroy);
        handle->secure.reset(secure);
        is_owned = true;
        secure->session.put_back(request, count);
        return receive(handle, secure->session.socket(), options, association, reason, reason_size);
    } catch (...) {
        if (!is_owned) cdcmtk_secure_close(secure);
        copy_text(reason, reason_size, "out of memory");
        return CDCMTK_FAILED;
    }
}

extern "C" cdcmtk_outcome cdcmtk_association_request_get(
    cdcmtk_association *association, cdcmtk_association_request *request) {
    try {
        *request = cdcmtk_association_request();
        T_ASC_Parameters *parameters = association->association->params;
        char responding[65] = "";
        if (ASC_getAPTitles(
                parameters, request->calling_ae_title, sizeof request->calling_ae_title, request->called_ae_title,
                sizeof request->called_ae_title, responding, sizeof responding)
                .bad())
            return CDCMTK_FAILED;
        ASC_getApplicationContextName(parameters, request->application_context, sizeof request->application_context);
        copy_text(
            request->implementation_class_uid, sizeof request->implementation_class_uid,
            parameters->theirImplementationClassUID);
        copy_text(
            request->implementation_version_name, sizeof request->implementation_version_name,
            parameters->theirImplementationVersionName);
        request->context_count = ASC_countPresentationContexts(parameters);
        return CDCMTK_OK;
    } catch (...) {
        return CDCMTK_FAILED;
    }
}

extern "C" cdcmtk_outcome cdcmtk_association_context_get(
    cdcmtk_association *association, int index, cdcmtk_context *context) {
    try {
        T_ASC_PresentationContext proposed = {};
        if (ASC_getPresentationContext(association->association->params, index, &proposed).bad()) return CDCMTK_FAILED;
        *context = cdcmtk_context();
        context->id = proposed.presentationContextID;
        context->proposed_role = role_of(proposed.proposedRole);
        copy_text(context->abstract_syntax, sizeof context->abstract_syntax, proposed.abstractSyntax);
        for (int i = 0; i < proposed.transferSyntaxCount && i < CDCMTK_MOST_TRANSFER_SYNTAXES; i++) {
            copy_text(
                context->transfer_syntaxes[i], sizeof context->transfer_syntaxes[i],
                proposed.proposedTransferSyntaxes[i]);
            context->transfer_syntax_count = i + 1;
        }
        return CDCMTK_OK;
    } catch (...) {
        return CDCMTK_FAILED;
    }
}

extern "C" cdcmtk_outcome cdcmtk_association_context_accept(
    cdcmtk_association *association, uint8_t id, const char *transfer_syntax, cdcmtk_role role) {
    try {
        T_ASC_PresentationContext proposed = {};
        T_ASC_Parameters *parameters = association->association->params;
        T_ASC_SC_ROLE granted = ASC_SC_ROLE_DEFAULT;
        for (int i = 0; i < ASC_countPresentationContexts(parameters); i++) {
            if (ASC_getPresentationContext(parameters, i, &proposed).bad()) continue;
            if (proposed.presentationContextID != id || proposed.proposedRole == ASC_SC_ROLE_DEFAULT) continue;
            granted = role == CDCMTK_ROLE_SCP ? ASC_SC_ROLE_SCP : ASC_SC_ROLE_SCU;
        }
        const OFCondition condition = ASC_acceptPresentationContext(parameters, id, transfer_syntax, granted);
        return condition.good() ? CDCMTK_OK : CDCMTK_FAILED;
    } catch (...) {
        return CDCMTK_FAILED;
    }
}

extern "C" cdcmtk_outcome cdcmtk_association_context_refuse(
    cdcmtk_association *association, uint8_t id, int result) {
    try {
        const OFCondition condition = ASC_refusePresentationContext(
            association->association->params, id, static_cast<T_ASC_P_ResultReason>(result));
        return condition.good() ? CDCMTK_OK : CDCMTK_FAILED;
    } catch (...) {
        return CDCMTK_FAILED;
    }
}

extern "C" cdcmtk_outcome cdcmtk_association_acknowledge(
    cdcmtk_association *association, char *reason, size_t reason_size) {
    try {
        const OFCondition condition = ASC_acknowledgeAssociation(association->association);
        const cdcmtk_outcome outcome = outcome_of(association, condition);
        if (outcome != CDCMTK_OK) copy_text(reason, reason_size, phrase(outcome, condition));
        return outcome;
    } catch (...) {
        copy_text(reason, reason_size, "out of memory");
        return CDCMTK_FAILED;
    }
}

extern "C" void cdcmtk_association_reject(cdcmtk_association *association, int result, int source, int diagnosis) {
    try {
        T_ASC_RejectParameters parameters;
        parameters.result = static_cast<T_ASC_RejectParametersResult>(result);
        parameters.source = static_cast<T_ASC_RejectParametersSource>(source);
        parameters.reason = static_cast<T_ASC_RejectParametersReason>(source << 8 | diagnosis);
        ASC_rejectAssociation(association->association, &parameters);
    } catch (...) {
    }
}

// DUL_NextPDV (DCMTK 3.6.7) looks for the third and each further value of a P-DATA-TF PDU in the wrong place: it steps
// from where the value before the last began by the length of the last. With values of unequal length, which PS3.8
// §9.3.5 allows, it takes pixels for headers and reads beyond the PDU. The pointer is put right before.
static OFCondition next_value(DUL_ASSOCIATIONKEY **key, DUL_PDV *value) {
    constexpr int header_bytes = 6;  // length, context, control header
    auto *state = reinterpret_cast<PRIVATE_ASSOCIATIONKEY *>(*key);
    if (state->pdvIndex > 0) {
        state->pdvPointer = static_cast<unsigned char *>(state->currentPDV.data) - header_bytes;
    }
    return DUL_NextPDV(key, value);
}

extern "C" cdcmtk_outcome cdcmtk_association_next_fragment(
    cdcmtk_association *association, int interrupt, cdcmtk_fragment *fragment, char *reason, size_t reason_size) {
    try {
        DUL_ASSOCIATIONKEY **key = &association->association->DULassociation;
        DUL_PDV value;
        while (next_value(key, &value).bad()) {
            // Waited for here: after silence between PDUs DCMTK closes the connection, before an A-ABORT can be sent.
            Connection *connection = association->waiting.connection;
            const cdcmtk_outcome waited = connection ? connection->await_data(interrupt) : CDCMTK_CLOSED;
            if (waited != CDCMTK_OK) {
                copy_text(reason, reason_size, phrase(waited, EC_Normal));
                return waited;
            }
            DUL_PDVLIST list;
            std::memset(&list, 0, sizeof list);
            const OFCondition condition = DUL_ReadPDVs(key, &list, DUL_BLOCK, 0);
            if (condition == DUL_PDATAPDUARRIVED) continue;
            const cdcmtk_outcome outcome = end_of(association, condition);
            copy_text(reason, reason_size, phrase(outcome, condition));
            return outcome;
        }
        fragment->context_id = value.presentationContextID;
        fragment->is_command = value.pdvType == DUL_COMMANDPDV;
        fragment->is_last = value.lastPDV ? 1 : 0;
        fragment->bytes = static_cast<const uint8_t *>(value.data);
        fragment->count = value.fragmentLength;
        return CDCMTK_OK;
    } catch (...) {
        copy_text(reason, reason_size, "out of memory");
        return CDCMTK_FAILED;
    }
}

extern "C" cdcmtk_outcome cdcmtk_association_send_command(
    cdcmtk_association *association, uint8_t context_id, const void *bytes, size_t count, char *reason,
    size_t reason_size) {
    try {
        DUL_PDV value;
        value.fragmentLength = count;
        value.presentationContextID = context_id;
        value.pdvType = DUL_COMMANDPDV;
        value.lastPDV = OFTrue;
        value.data = const_cast<void *>(bytes);
        DUL_PDVLIST list;
        std::memset(&list, 0, sizeof list);
        list.count = 1;
        list.pdv = &value;
        Connection *connection = association->waiting.connection;
        if (!connection) return CDCMTK_CLOSED;
        connection->gather();
        const OFCondition condition = DUL_WritePDVs(&association->association->DULassociation, &list);
        connection->flush();
        cdcmtk_outcome outcome = outcome_of(association, condition);
        if (outcome == CDCMTK_OK) outcome = association->waiting.ended;
        if (outcome != CDCMTK_OK) copy_text(reason, reason_size, phrase(outcome, condition));
        return outcome;
    } catch (...) {
        copy_text(reason, reason_size, "out of memory");
        return CDCMTK_FAILED;
    }
}

extern "C" void cdcmtk_association_acknowledge_release(cdcmtk_association *association) {
    try {
        ASC_acknowledgeRelease(association->association);
    } catch (...) {
    }
}

extern "C" void cdcmtk_association_abort(cdcmtk_association *association) {
    Connection *connection = association->waiting.connection;
    if (connection) connection->abort(association->abort_source, association->abort_reason);
}

extern "C" void cdcmtk_association_free(cdcmtk_association *association) {
    try {
        destroy(association);
    } catch (...) {
    }
}
