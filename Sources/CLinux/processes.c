#define _GNU_SOURCE
#include "clinux.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_DESCRIPTOR = 3, MOST_DESCRIPTORS = 8 };

// Every failure here leaves errno set and no child behind.
pid_t clinux_spawn(
    const char *path, char *const argv[], char *const envp[], int input, const int *descriptors, int count) {
    if (count < 0 || count > MOST_DESCRIPTORS) {
        errno = EINVAL;
        return -1;
    }
    // Copies above the target range first, so that no dup2 overwrites one that is still needed.
    int copies[MOST_DESCRIPTORS];
    int made = 0, error = 0;
    for (; made < count; made++) {
        copies[made] = fcntl(descriptors[made], F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR + MOST_DESCRIPTORS);
        if (copies[made] < 0) {
            error = errno;
            break;
        }
    }
    pid_t pid = -1;
    if (!error) {
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        if (input >= 0) {
            posix_spawn_file_actions_adddup2(&actions, input, 0);
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        }
        for (int i = 0; i < count; i++) posix_spawn_file_actions_adddup2(&actions, copies[i], FIRST_DESCRIPTOR + i);
        posix_spawn_file_actions_addclosefrom_np(&actions, FIRST_DESCRIPTOR + count);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        // A group of its own: a terminal's interrupt reaches the daemon alone, which then stops its children in order.
        posix_spawnattr_setflags(
            &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
        error = posix_spawn(&pid, path, &actions, &attributes, argv, envp);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
    }
    for (int i = 0; i < made; i++) close(copies[i]);
    if (error) {
        errno = error;
        return -1;
    }
    return pid;
}

pid_t clinux_fork_sibling(void) {
    // As fork(3) of glibc does for the child: its own number where the C library keeps it.
    int *thread_id = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &thread_id) != 0) thread_id = NULL;
    unsigned long flags = CLONE_PARENT | SIGCHLD;
    if (thread_id) flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
#if defined(__x86_64__)
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, thread_id, 0UL);
#else
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, 0UL, thread_id);
#endif
    if (pid == 0) setpgid(0, 0);
    return pid;
}

void clinux_step_back(void) {
    setpriority(PRIO_PROCESS, 0, 15);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
}

void clinux_set_process_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

int clinux_reap(pid_t pid, int *status) {
    pid_t ended;
    do ended = waitpid(pid, status, WNOHANG);
    while (ended < 0 && errno == EINTR);
    return ended < 0 ? -1 : ended == pid;
}

int clinux_exit_code(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void clinux_reset_signals(void) {
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    // For the daemon, which reads its configuration again; whoever sends it to all processes means no harm.
    signal(SIGHUP, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int limit(int resource, uint64_t value) {
    struct rlimit both = {.rlim_cur = value, .rlim_max = value};
    return setrlimit(resource, &both);
}

int clinux_set_limits(uint64_t address_space, uint64_t file_size, uint64_t cpu_seconds, uint64_t descriptors) {
    if (limit(RLIMIT_CORE, 0) != 0) return -1;
    if (address_space && limit(RLIMIT_AS, address_space) != 0) return -1;
    if (file_size && limit(RLIMIT_FSIZE, file_size) != 0) return -1;
    if (cpu_seconds && limit(RLIMIT_CPU, cpu_seconds) != 0) return -1;
    if (descriptors && limit(RLIMIT_NOFILE, descriptors) != 0) return -1;
    return 0;
}

int clinux_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
