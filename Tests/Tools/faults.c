// Preloaded into the node's processes by the tests: counts the file operations below one folder, and fails, stops or
// kills at the n-th. The test arms it through a shared page (faults.py), before or after the process has confined
// itself: nothing is opened after the start.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// The order is that of Operation in faults.py.
enum operation {
    CREATE, WRITE, SYNC, MKDIR, OPEN_FOLDER, SYNC_FOLDER, RENAME, RESPOND, RESPONDED, UNLINK, SPACE,
    LEDGER_OPEN, LEDGER_WRITE, LEDGER_SYNC, LEDGER_TRUNCATE, OPEN_STORED, READ_STORED, REPLACE, RMDIR,
};

enum mode { OFF, COUNT, FAIL, SHORTEN, STOP, KILL };
enum state { RUNNING, REACHED, RELEASED };

// The order is that of Plan in faults.py.
static struct control {
    uint32_t mode, operations, nth, error, afterwards, sticky, count, hits, state, pid, operation;
    uint32_t reserved[5];
    uint8_t seen[1024];
} *control;

static const char *below;
static size_t below_length;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL"), *folder = getenv("FAULTS_BELOW");
    if (!path || !folder) return;
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) _exit(98);
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (page == MAP_FAILED) _exit(99);
    below = folder;
    below_length = strlen(folder);
    control = page;
}

static int is_below(const char *path) {
    return control && strncmp(path, below, below_length) == 0 && (path[below_length] == '/' || !path[below_length]);
}

// --- At an operation -------------------------------------------------------------------------------------------------

static void end_here(void) {
    // seccomp lets a worker signal itself, by no other call.
    pid_t pid = getpid();
    for (;;) syscall(SYS_tgkill, pid, (pid_t)syscall(SYS_gettid), SIGKILL);
}

static void wait_for_release(enum operation operation) {
    control->pid = (uint32_t)getpid();
    control->operation = operation;
    __atomic_store_n(&control->state, REACHED, __ATOMIC_SEQ_CST);
    struct timespec pause = {.tv_nsec = 500 * 1000};
    for (int i = 0; i < 40000 && __atomic_load_n(&control->state, __ATOMIC_SEQ_CST) == REACHED; i++)
        nanosleep(&pause, NULL);
}

static void act(enum operation operation) {
    int error = errno;
    if (control->mode == KILL) {
        control->operation = operation;
        end_here();
    }
    if (control->mode == STOP) wait_for_release(operation);
    errno = error;
}

enum { GO_ON = 0, ACT_AFTERWARDS = -1, DO_HALF = -2 };

// What to do at this operation: one of the above, or the error to fail with.
static int arrive(enum operation operation) {
    if (!control) return GO_ON;
    uint32_t mode = __atomic_load_n(&control->mode, __ATOMIC_SEQ_CST);
    if (mode == OFF || !(control->operations >> operation & 1)) return GO_ON;
    uint32_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (number <= sizeof control->seen) control->seen[number - 1] = (uint8_t)operation;
    // The write after a short one fails: the disk has become full.
    if (mode == SHORTEN && number == control->nth + 1) return (int)control->error;
    if (number != control->nth && !(control->sticky && number > control->nth)) return GO_ON;
    __atomic_add_fetch(&control->hits, 1, __ATOMIC_SEQ_CST);
    if (mode == FAIL) return (int)control->error;
    if (mode == SHORTEN) return operation == WRITE ? DO_HALF : (int)control->error;
    if (mode == COUNT) return GO_ON;
    if (control->afterwards) return ACT_AFTERWARDS;
    act(operation);
    return GO_ON;
}

#define PASS(operation, call) \
    do { \
        int todo_ = arrive(operation); \
        if (todo_ > 0) { \
            errno = todo_; \
            return -1; \
        } \
        __typeof__(call) result_ = call; \
        if (todo_ == ACT_AFTERWARDS) act(operation); \
        return result_; \
    } while (0)

// --- What descriptors are for ----------------------------------------------------------------------------------------

enum use { OTHER, WRITTEN, STORED, FOLDER, LEDGER };
enum { MOST_DESCRIPTORS = 4096 };
static uint8_t uses[MOST_DESCRIPTORS];

static enum use use_of(int descriptor) {
    return descriptor >= 0 && descriptor < MOST_DESCRIPTORS ? (enum use)uses[descriptor] : OTHER;
}

static int opened(int descriptor, enum use use) {
    if (descriptor >= 0 && descriptor < MOST_DESCRIPTORS) uses[descriptor] = (uint8_t)use;
    return descriptor;
}

typedef int open_function(const char *, int, ...);

static int open_through(open_function *real, const char *path, int flags, mode_t mode) {
    if (!is_below(path)) return opened(real(path, flags, mode), OTHER);
    if (strstr(path, "/ledger.sqlite")) PASS(LEDGER_OPEN, opened(real(path, flags, mode), LEDGER));
    if (flags & O_DIRECTORY) PASS(OPEN_FOLDER, opened(real(path, flags, mode), FOLDER));
    if (!strstr(path, "/spool/") || strstr(path, "/spool/lock")) return opened(real(path, flags, mode), OTHER);
    if (flags & O_CREAT) PASS(CREATE, opened(real(path, flags, mode), WRITTEN));
    if ((flags & O_ACCMODE) == O_RDONLY) PASS(OPEN_STORED, opened(real(path, flags, mode), STORED));
    return opened(real(path, flags, mode), OTHER);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; \
        va_start(list, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0; \
        va_end(list); \
        return open_through(real, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int close(int descriptor) {
    REAL(close);
    opened(descriptor, OTHER);
    return real(descriptor);
}

// --- The operations --------------------------------------------------------------------------------------------------

static ssize_t write_half(int descriptor, struct iovec part) {
    return syscall(SYS_write, descriptor, part.iov_base, (part.iov_len + 1) / 2);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    REAL(write);
    if (use_of(descriptor) == LEDGER) PASS(LEDGER_WRITE, real(descriptor, bytes, count));
    if (use_of(descriptor) != WRITTEN) return real(descriptor, bytes, count);
    int todo = arrive(WRITE);
    if (todo > 0) {
        errno = todo;
        return -1;
    }
    ssize_t written = real(descriptor, bytes, todo == DO_HALF ? (count + 1) / 2 : count);
    if (todo == ACT_AFTERWARDS) act(WRITE);
    return written;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(writev);
    if (use_of(descriptor) != WRITTEN) return real(descriptor, parts, count);
    int todo = arrive(WRITE);
    if (todo > 0) {
        errno = todo;
        return -1;
    }
    // Of what is written half, the first part that is not empty.
    int first = 0;
    while (first + 1 < count && parts[first].iov_len == 0) first++;
    ssize_t written = todo == DO_HALF ? write_half(descriptor, parts[first]) : real(descriptor, parts, count);
    if (todo == ACT_AFTERWARDS) act(WRITE);
    return written;
}

#define PWRITE(name, offset_type) \
    ssize_t name(int descriptor, const void *bytes, size_t count, offset_type offset) { \
        REAL(name); \
        if (use_of(descriptor) == LEDGER) PASS(LEDGER_WRITE, real(descriptor, bytes, count, offset)); \
        return real(descriptor, bytes, count, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PREAD(name, offset_type) \
    ssize_t name(int descriptor, void *bytes, size_t count, offset_type offset) { \
        REAL(name); \
        if (use_of(descriptor) == STORED) PASS(READ_STORED, real(descriptor, bytes, count, offset)); \
        return real(descriptor, bytes, count, offset); \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define SYNCHRONISE(name) \
    int name(int descriptor) { \
        REAL(name); \
        switch (use_of(descriptor)) { \
        case LEDGER: PASS(LEDGER_SYNC, real(descriptor)); \
        case FOLDER: PASS(SYNC_FOLDER, real(descriptor)); \
        case WRITTEN: PASS(SYNC, real(descriptor)); \
        default: return real(descriptor); \
        } \
    }
SYNCHRONISE(fsync)
SYNCHRONISE(fdatasync)

#define TRUNCATE(name, offset_type) \
    int name(int descriptor, offset_type length) { \
        REAL(name); \
        if (use_of(descriptor) == LEDGER) PASS(LEDGER_TRUNCATE, real(descriptor, length)); \
        return real(descriptor, length); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (!is_below(path)) return real(path, mode);
    PASS(MKDIR, real(path, mode));
}

int rmdir(const char *path) {
    REAL(rmdir);
    if (!is_below(path)) return real(path);
    PASS(RMDIR, real(path));
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!is_below(to)) return real(from, to);
    PASS(REPLACE, real(from, to));
}

int unlink(const char *path) {
    REAL(unlink);
    if (!is_below(path) || !strstr(path, "/spool/")) return real(path);
    PASS(UNLINK, real(path));
}

#define STATVFS(name, type) \
    int name(const char *path, struct type *system) { \
        REAL(name); \
        if (!is_below(path)) return real(path, system); \
        PASS(SPACE, real(path, system)); \
    }
STATVFS(statvfs, statvfs)
STATVFS(statvfs64, statvfs64)

// renameat2 has no function in old C libraries: the node calls it by number.
long syscall(long number, ...) {
    REAL(syscall);
    va_list list;
    va_start(list, number);
    long a[6];
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number != SYS_renameat2 || !is_below((const char *)a[1]))
        return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    PASS(RENAME, real(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

// A response is one P-DATA-TF (type 4, PS3.8 §9.3.5), written in one piece or more.
ssize_t send(int socket, const void *bytes, size_t count, int flags) {
    REAL(send);
    static __thread ssize_t left;
    const uint8_t *head = bytes;
    if (left <= 0 && count >= 6 && head[0] == 4) {
        left = 6 + ((ssize_t)head[2] << 24 | head[3] << 16 | head[4] << 8 | head[5]);
        int todo = arrive(RESPOND);
        if (todo > 0) {
            errno = todo;
            return -1;
        }
    }
    ssize_t sent = real(socket, bytes, count, flags);
    if (left <= 0 || sent <= 0) return sent;
    left -= sent;
    if (left <= 0 && arrive(RESPONDED) == ACT_AFTERWARDS) act(RESPONDED);
    return sent;
}
