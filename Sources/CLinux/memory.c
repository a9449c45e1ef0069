#include "clinux.h"
#include <malloc.h>

enum { LEAST_MAPPING = 256 << 10, ARENAS = 4 };

void clinux_keep_heap_small(void) {
    // Set, they no longer grow with each large block that is freed (mallopt(3)).
    mallopt(M_MMAP_THRESHOLD, LEAST_MAPPING);
    mallopt(M_TRIM_THRESHOLD, LEAST_MAPPING);
    mallopt(M_ARENA_MAX, ARENAS);
}
