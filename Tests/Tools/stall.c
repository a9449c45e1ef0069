// Preloaded into the daemon by test_node_watchdog.py: while a file of the name of a part lies in the folder STALLS, the
// calls of that part do not return.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void stall(const char *part) {
    const char *folder = getenv("STALLS");
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "/nonexistent", part);
    while (access(path, F_OK) == 0) usleep(10000);
}

int poll(struct pollfd *entries, nfds_t count, int milliseconds) {
    REAL(poll);
    for (nfds_t i = 0; i < count; i++) {
        int accepts = 0;
        socklen_t size = sizeof accepts;
        if (getsockopt(entries[i].fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) == 0 && accepts) stall("listener");
    }
    return real(entries, count, milliseconds);
}

static void stall_ledger(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    if (strstr(path, "/ledger.sqlite")) stall("ledger");
}

int fsync(int descriptor) {
    REAL(fsync);
    stall_ledger(descriptor);
    return real(descriptor);
}

int fdatasync(int descriptor) {
    REAL(fdatasync);
    stall_ledger(descriptor);
    return real(descriptor);
}

#define STATVFS(name) \
    int name(const char *path, struct name *found) { \
        REAL(name); \
        stall("disk watch"); \
        return real(path, found); \
    }
STATVFS(statvfs)
STATVFS(statvfs64)
