#define _GNU_SOURCE
#include "clinux.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// Debian 12's headers describe Landlock up to version 2; what later kernels added is named here.
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#define ACCESS_FS_IOCTL_DEV (1ULL << 15)
#define ACCESS_NET_BIND_TCP (1ULL << 0)
#define ACCESS_NET_CONNECT_TCP (1ULL << 1)

typedef struct {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
} ruleset_attributes;

int clinux_landlock_version(void) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version < 0 ? 0 : (int)version;
}

static uint64_t all_file_rights(int version) {
    uint64_t rights = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
                      LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                      LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                      LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                      LANDLOCK_ACCESS_FS_MAKE_SYM;
    if (version >= 2) rights |= LANDLOCK_ACCESS_FS_REFER;
    if (version >= 3) rights |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (version >= 5) rights |= ACCESS_FS_IOCTL_DEV;
    return rights;
}

static uint64_t rights_of(uint32_t access) {
    uint64_t rights = 0;
    if (access & CLINUX_READ) rights |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    if (access & CLINUX_LIST) rights |= LANDLOCK_ACCESS_FS_READ_DIR;
    if (access & CLINUX_WRITE) rights |= LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE;
    if (access & CLINUX_ADD)
        rights |= LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REFER;
    if (access & CLINUX_REMOVE) rights |= LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REFER;
    return rights;
}

static int add_rule(int ruleset, const clinux_path_rule *rule, uint64_t handled) {
    int descriptor = open(rule->path, O_PATH | O_CLOEXEC);
    if (descriptor < 0) return errno == ENOENT ? 0 : -1;
    uint64_t rights = rights_of(rule->access) & handled;
    struct stat status;
    if (fstat(descriptor, &status) == 0 && !S_ISDIR(status.st_mode))
        rights &= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE;
    struct landlock_path_beneath_attr beneath = {.allowed_access = rights, .parent_fd = descriptor};
    int result = (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    int error = errno;
    close(descriptor);
    errno = error;
    return result;
}

int clinux_landlock_restrict(const clinux_path_rule *rules, size_t count, int allow_tcp) {
    int version = clinux_landlock_version();
    // Version 1 refuses every rename from one folder to another, which is how objects are committed.
    if (version < 2) {
        errno = ENOSYS;
        return -1;
    }
    ruleset_attributes attributes = {.handled_access_fs = all_file_rights(version)};
    size_t size = sizeof attributes.handled_access_fs;
    if (version >= 4) {
        size = sizeof attributes;
        attributes.handled_access_net = ACCESS_NET_BIND_TCP | (allow_tcp ? 0 : ACCESS_NET_CONNECT_TCP);
    }
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    if (ruleset < 0) return -1;
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = add_rule(ruleset, &rules[i], attributes.handled_access_fs);
    if (result == 0) result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
    int error = errno;
    close(ruleset);
    errno = error;
    return result;
}

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "seccomp: name this architecture's AUDIT_ARCH value"
#endif

// Denied to every worker: starting programs, looking into or changing other processes and the machine.
static const unsigned denied_always[] = {
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_mount, SYS_umount2,
    SYS_pivot_root, SYS_chroot, SYS_bpf, SYS_perf_event_open, SYS_init_module, SYS_finit_module, SYS_kexec_load,
    SYS_reboot, SYS_swapon, SYS_setns, SYS_unshare, SYS_userfaultfd, SYS_keyctl, SYS_add_key, SYS_request_key,
    SYS_io_uring_setup, SYS_kill, SYS_tkill, SYS_pidfd_send_signal, SYS_settimeofday, SYS_clock_settime,
    SYS_sethostname, SYS_acct, SYS_quotactl, SYS_open_by_handle_at, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
    SYS_pidfd_open, SYS_pidfd_getfd,
};
static const unsigned denied_network[] = {SYS_socket, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4};

#define COUNT(array) (sizeof(array) / sizeof *(array))

// Beside two for each denied call: the checks of architecture and arguments.
enum { MOST_INSTRUCTIONS = 128, OTHER_INSTRUCTIONS = 32 };
_Static_assert(2 * (COUNT(denied_always) + COUNT(denied_network)) + OTHER_INSTRUCTIONS <= MOST_INSTRUCTIONS,
               "the seccomp filter needs more room");

static size_t add_denials(struct sock_filter *program, size_t at, const unsigned *numbers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, numbers[i], 0, 1);
        program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    return at;
}

// Allows a call only where the low half of its first argument is one of `values`: the kernel reads an int, a pid_t or
// an unsigned there and ignores the rest. Expects the call's number in the accumulator, and leaves it there.
static size_t add_first_argument(struct sock_filter *program, size_t at, unsigned number, const unsigned *values,
                                 unsigned count) {
    program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, (unsigned char)(count + 3));
    // Both architectures are little-endian: the low half comes first.
    program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]));
    for (unsigned i = 0; i < count; i++)
        program[at++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, values[i], (unsigned char)(count - i), 0);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    return at;
}

int clinux_seccomp(int flags) {
    struct sock_filter program[MOST_INSTRUCTIONS];
    size_t at = 0;
    program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
    // The x32 ABI has numbers of its own for the same calls.
    program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
#endif
    at = add_denials(program, at, denied_always, COUNT(denied_always));
    // raise(3), abort(3) and pthread_kill(3) signal a thread of this process; getrlimit(2) asks for process 0.
    const unsigned own[] = {(unsigned)getpid(), 0};
    at = add_first_argument(program, at, SYS_tgkill, own, 1);
    at = add_first_argument(program, at, SYS_prlimit64, own, 2);
    // Local services (D-Bus, container engines) listen on AF_UNIX, which Landlock leaves open. Name resolution needs
    // neither it nor AF_NETLINK: without nscd it asks the DNS servers, without interface addresses it sorts less.
    const unsigned internet[] = {AF_INET, AF_INET6};
    if (flags & CLINUX_DENY_NETWORK)
        at = add_denials(program, at, denied_network, COUNT(denied_network));
    else
        at = add_first_argument(program, at, SYS_socket, internet, COUNT(internet));
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {.len = (unsigned short)at, .filter = program};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
}

int clinux_probe_signal(pid_t pid) { return (int)syscall(SYS_tgkill, pid, pid, 0); }

int clinux_probe_limits(pid_t pid) {
    struct rlimit limit;
    return prlimit(pid, RLIMIT_NOFILE, NULL, &limit);
}
