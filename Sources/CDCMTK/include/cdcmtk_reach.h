// Whether a host can be reached at all: its name, TCP, and TLS where it is asked for. Nothing is sent within it.
#pragma once
#include "cdcmtk_tls.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CDCMTK_REACHED,
    CDCMTK_REACH_NAME,     ///< The name is not known; `reason` says why.
    CDCMTK_REACH_CONNECT,  ///< No address of it takes a TCP connection; `reason` is of the last.
    CDCMTK_REACH_HANDSHAKE ///< No TLS; `handshake` says why.
} cdcmtk_reach_outcome;

typedef struct {
    cdcmtk_reach_outcome outcome;
    char reason[CDCMTK_PHRASE_BYTES];
    char address[64]; ///< That took the connection, or was tried last.
    cdcmtk_handshake handshake;
} cdcmtk_reach;

/// `seconds` are for each address, and again for the handshake. `tls` is loaded for requests and serves one handshake;
/// NULL: without TLS.
void cdcmtk_reach_host(
    const char *host, int port, double seconds, cdcmtk_tls *tls, int verifies_host, cdcmtk_reach *reach);

#ifdef __cplusplus
}
#endif
