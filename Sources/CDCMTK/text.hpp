// Text out of the shim.
#pragma once
#include <cstdio>
#include <cstring>

namespace cdcmtk {

inline void copy_text(char *to, size_t size, const char *from) {
    if (to && size) std::snprintf(to, size, "%s", from ? from : "");
}

} // namespace cdcmtk
