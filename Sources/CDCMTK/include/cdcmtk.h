// The C face of DCMTK: plain structures, opaque handles, no C++ exception crosses it.
//
// Functions that can fail return an outcome (or a handle, NULL on failure) and write a lower-case phrase without
// patient identity into `reason`, where they have one, always terminated within `reason_size`.
#pragma once
#include "cdcmtk_association.h"
#include "cdcmtk_compose.h"
#include "cdcmtk_image.h"
#include "cdcmtk_inflate.h"
#include "cdcmtk_library.h"
#include "cdcmtk_reach.h"
#include "cdcmtk_report.h"
#include "cdcmtk_requestor.h"
#include "cdcmtk_tls.h"
