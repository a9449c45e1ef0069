// What Swift cannot say: system calls with ancillary data, structures or variadic arguments.
// Every function returns -1 and sets errno on failure, unless it says otherwise.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

// MARK: Sockets

/// Sends bytes, and with the first of them a descriptor (SCM_RIGHTS) where `descriptor` >= 0. Never raises SIGPIPE.
ssize_t clinux_send(int socket, const void *bytes, size_t count, int descriptor);
/// Receives bytes; a descriptor that came along is stored, close-on-exec, in `*descriptor`, else -1. Fails with EPROTO
/// where more than one came, or one for which the process has no room: none stays open then.
ssize_t clinux_receive(int socket, void *bytes, size_t count, int *descriptor);
/// A connected pair of stream sockets, close-on-exec.
int clinux_socket_pair(int sockets[2]);
/// Credentials of the process at the other end of a Unix socket.
int clinux_peer_credentials(int socket, pid_t *pid, uid_t *uid, gid_t *gid);
/// Blocks until the other end of the socket closed or shut down, whether or not unread bytes remain.
void clinux_wait_for_hangup(int socket);
/// TCP_NODELAY and keep-alive.
int clinux_tcp_tune(int socket);
/// Re-arms TCP_QUICKACK, which does not stick (tcp(7)).
int clinux_tcp_quick_ack(int socket);

// MARK: Files

/// renameat2(RENAME_NOREPLACE): fails with EEXIST instead of replacing.
int clinux_rename_noreplace(const char *from, const char *to);
/// Opens a file for reading without following a symbolic link in its last component.
int clinux_open_read(const char *path);
/// Exclusive creation (O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC), mode 0640.
int clinux_create(const char *path);
/// Writes both pieces whole, one after the other, at the file's position. 0, or -1 with errno.
int clinux_write_two(int file, const void *first, size_t first_count, const void *second, size_t second_count);
/// A file in memory that is gone when its last descriptor is closed, with these bytes, at its beginning.
int clinux_memory_file(const void *bytes, size_t count);
/// Writes a little into a file in `directory` that has no name, and fsyncs it: nothing of it stays.
int clinux_try_write(const char *directory);
/// Opens `path`, fsyncs it, closes it: makes names in a directory durable.
int clinux_sync_directory(const char *path);
/// syncfs(2) of the file system that holds the directory `path`: all that was written there is durable.
int clinux_sync_file_system(const char *path);
typedef struct {
    int is_file, is_directory;
    uint64_t bytes, device, inode;
    uid_t uid;
    gid_t gid;
} clinux_file_status;
/// lstat(2).
int clinux_status_of_path(const char *path, clinux_file_status *status);
/// fstat(2).
int clinux_status_of_file(int file, clinux_file_status *status);
/// An exclusive flock on `path`, created if need be; waits up to `seconds`. Returns the descriptor that holds the lock.
int clinux_lock_file(const char *path, double seconds);
/// Free and total bytes of the file system that holds `path` for an unprivileged process.
int clinux_disk_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes);
/// Whether the kernel takes its clock for synchronised; -1 where it does not say.
int clinux_clock_is_synchronised(void);
/// Whole seconds since the machine was booted, also those in which it was suspended: nobody sets them.
int64_t clinux_uptime(void);

// MARK: Child processes

/// Starts a program in a process group of its own: standard input from `input`, or from /dev/null where that is -1,
/// `descriptors[i]` becomes descriptor 3 + i, all others closed, signals reset. Returns the process id.
pid_t clinux_spawn(
    const char *path, char *const argv[], char *const envp[], int input, const int *descriptors, int count);
/// Forks the calling process, which must have one thread only: the copy is a child of the caller's parent, in a process
/// group of its own. Handlers of pthread_atfork(3) are not called. Returns 0 in the copy, its process id in the caller,
/// -1 with errno.
pid_t clinux_fork_sibling(void);
/// The calling thread, and those it starts, have processor and disk when nobody else wants them (nice 15, idle
/// I/O class of ioprio_set(2)).
void clinux_step_back(void);
/// The name that ps(1) and /proc/PID/comm show, at most 15 bytes.
void clinux_set_process_name(const char *name);
/// Waits for a child without blocking: 0 still running, 1 ended (`*status` as waitpid gives it).
int clinux_reap(pid_t pid, int *status);
/// The exit code in a wait status, or 128 + signal.
int clinux_exit_code(int status);

// MARK: Confinement

/// Resets all signals to default and unblocks them, except SIGPIPE and SIGHUP, which are ignored.
void clinux_reset_signals(void);
/// Soft and hard resource limits; 0 leaves one as it is. Core dumps are switched off (they would hold patient data).
int clinux_set_limits(uint64_t address_space, uint64_t file_size, uint64_t cpu_seconds, uint64_t descriptors);
int clinux_no_new_privileges(void);

/// What a confined process may do below a path.
enum {
    CLINUX_READ = 1,   ///< read files, list directories
    CLINUX_WRITE = 2,  ///< write to existing files
    CLINUX_ADD = 4,    ///< create files and directories, rename into it
    CLINUX_LIST = 8,   ///< list directories
    CLINUX_REMOVE = 16 ///< remove files, rename out of it
};
typedef struct {
    const char *path;
    uint32_t access;
} clinux_path_rule;

/// The kernel's Landlock version; 0 where it has none.
int clinux_landlock_version(void);
/// Limits the calling thread, and all it starts, to the rules. Paths that do not exist are skipped.
int clinux_landlock_restrict(const clinux_path_rule *rules, size_t count, int allow_tcp);

enum {
    CLINUX_DENY_NETWORK = 1, ///< socket, connect, bind, listen, accept; without it, sockets other than IPv4 and IPv6
};
/// A seccomp filter for all threads: never execve, ptrace, mount, bpf …, signals to and limits of other processes; and
/// what `flags` says. Refused calls see EPERM. A child of the process could not signal itself.
int clinux_seccomp(int flags);

/// For probing a confinement: signal 0 by tgkill(2) to the main thread of a process.
int clinux_probe_signal(pid_t pid);
/// For probing a confinement: reads a limit of a process by prlimit(2).
int clinux_probe_limits(pid_t pid);

// MARK: Digest

/// SHA-256 (FIPS 180-4), incremental, from OpenSSL.
typedef struct clinux_sha256 clinux_sha256;
clinux_sha256 *clinux_sha256_new(void);
void clinux_sha256_update(clinux_sha256 *digest, const void *bytes, size_t count);
/// Writes 32 bytes and frees the digest.
void clinux_sha256_finish(clinux_sha256 *digest, uint8_t *out);

// MARK: Memory

/// For a process that runs for years: freed pixels go back to the system instead of staying between what is in use.
/// Blocks from 256 KiB on have mappings of their own, whatever was freed before, and there are few arenas.
void clinux_keep_heap_small(void);

// MARK: Passwords

/// scrypt (RFC 7914) from OpenSSL; takes 128 * r * n bytes. 0, or -1 for parameters that it cannot have.
int clinux_scrypt(
    const void *password, size_t password_count, const void *salt, size_t salt_count, uint64_t n, uint64_t r,
    uint64_t p, uint8_t *out, size_t out_count);
/// Whether all bytes are the same; takes as long whichever differ.
int clinux_equal(const void *one, const void *other, size_t count);

#ifdef __cplusplus
}
#endif
