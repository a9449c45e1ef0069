#define _GNU_SOURCE
#include "clinux.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

int clinux_rename_noreplace(const char *from, const char *to) {
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
}

int clinux_open_read(const char *path) { return open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC); }

int clinux_write_two(int file, const void *first, size_t first_count, const void *second, size_t second_count) {
    struct iovec parts[2] = {
        {.iov_base = (void *)first, .iov_len = first_count}, {.iov_base = (void *)second, .iov_len = second_count}};
    while (parts[0].iov_len + parts[1].iov_len > 0) {
        ssize_t written = writev(file, parts, 2);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return -1;
        for (int i = 0; i < 2; i++) {
            size_t done = (size_t)written < parts[i].iov_len ? (size_t)written : parts[i].iov_len;
            parts[i].iov_base = (char *)parts[i].iov_base + done;
            parts[i].iov_len -= done;
            written -= (ssize_t)done;
        }
    }
    return 0;
}

int clinux_create(const char *path) { return open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640); }

int clinux_try_write(const char *directory) {
    int file = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        // Not every file system can do that: one that is without its name at once.
        char path[4096];
        if (snprintf(path, sizeof path, "%s/.try-XXXXXX", directory) >= (int)sizeof path) {
            errno = ENAMETOOLONG;
            return -1;
        }
        file = mkostemp(path, O_CLOEXEC);
        if (file >= 0) unlink(path);
    }
    if (file < 0) return -1;
    static const char zeros[64 << 10];
    int result = clinux_write_two(file, zeros, sizeof zeros, NULL, 0);
    if (result == 0) result = fsync(file);
    int error = errno;
    close(file);
    errno = error;
    return result;
}

int clinux_sync_directory(const char *path) {
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    int result = fsync(descriptor), error = errno;
    close(descriptor);
    errno = error;
    return result;
}

int clinux_sync_file_system(const char *path) {
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    int result = syncfs(descriptor), error = errno;
    close(descriptor);
    errno = error;
    return result;
}

static int tell(int result, const struct stat *found, clinux_file_status *status) {
    if (result != 0) return -1;
    *status = (clinux_file_status){
        .is_file = S_ISREG(found->st_mode), .is_directory = S_ISDIR(found->st_mode),
        .bytes = (uint64_t)found->st_size, .device = found->st_dev, .inode = found->st_ino,
        .uid = found->st_uid, .gid = found->st_gid};
    return 0;
}

int clinux_status_of_path(const char *path, clinux_file_status *status) {
    struct stat found;
    return tell(lstat(path, &found), &found, status);
}

int clinux_status_of_file(int file, clinux_file_status *status) {
    struct stat found;
    return tell(fstat(file, &found), &found, status);
}

int clinux_lock_file(const char *path, double seconds) {
    int descriptor = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (descriptor < 0) return -1;
    for (double waited = 0;; waited += 0.02) {
        if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) return descriptor;
        if (errno != EWOULDBLOCK || waited >= seconds) {
            int error = errno;
            close(descriptor);
            errno = error;
            return -1;
        }
        struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
}

int clinux_disk_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes) {
    struct statvfs system;
    if (statvfs(path, &system) != 0) return -1;
    *free_bytes = (uint64_t)system.f_bavail * system.f_frsize;
    *total_bytes = (uint64_t)system.f_blocks * system.f_frsize;
    return 0;
}

int clinux_memory_file(const void *bytes, size_t count) {
    int file = memfd_create("clinux", MFD_CLOEXEC);
    if (file < 0) return -1;
    if (clinux_write_two(file, bytes, count, NULL, 0) == 0 && lseek(file, 0, SEEK_SET) == 0) return file;
    int error = errno;
    close(file);
    errno = error;
    return -1;
}
