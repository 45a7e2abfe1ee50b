// Commands that are run for slimtad, and descriptors between processes: see CLinuxCommand.h.
#define _GNU_SOURCE
#include "CLinuxCommand.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// What the child tells its parent where it cannot become the command.
struct failure {
    int step;
    int error;
};

// Only what is safe between fork and execve is called from here on.
static void fail(int descriptor, int step) {
    const struct failure failure = {step, errno};
    ssize_t written = write(descriptor, &failure, sizeof failure);
    (void)written;
    _exit(127);
}

static void become(const struct linux_command *command, int failures) {
    // Descriptors above those that the command gets, so that no dup2 below closes one that is still needed.
    int kept = fcntl(failures, F_DUPFD_CLOEXEC, 16);
    if (kept < 0) _exit(127);
    int files[4];
    int count = command->files[3] >= 0 ? 4 : 3;
    for (int i = 0; i < count; i++) {
        files[i] = fcntl(command->files[i], F_DUPFD_CLOEXEC, 16);
        if (files[i] < 0) fail(kept, LINUX_COMMAND_FILES);
    }
    if (setsid() < 0) fail(kept, LINUX_COMMAND_FILES);
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);  // of SIGKILL and its like it fails: fine
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(077);
    if (chdir("/") != 0) fail(kept, LINUX_COMMAND_FILES);
    if (command->changes_identity) {
        // Groups first: without root's uid they could no longer be changed. The system calls themselves: glibc's
        // functions would tell threads that this process does not have.
        if (syscall(SYS_setgroups, command->group_count, command->groups) != 0
            || syscall(SYS_setresgid, command->gid, command->gid, command->gid) != 0
            || syscall(SYS_setresuid, command->uid, command->uid, command->uid) != 0)
            fail(kept, LINUX_COMMAND_IDENTITY);
        // A way back would be worse than no delivery.
        errno = EPERM;
        if (command->uid != 0 && syscall(SYS_setresuid, -1, 0, -1) == 0) fail(kept, LINUX_COMMAND_IDENTITY);
    }
    if (!command->keeps_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(kept, LINUX_COMMAND_IDENTITY);
    for (int i = 0; i < count; i++) {
        if (dup2(files[i], i) < 0) fail(kept, LINUX_COMMAND_FILES);
    }
    // All others, but the one that reports: it closes itself when the command is there.
    if (syscall(SYS_close_range, (unsigned)count, (unsigned)kept - 1, 0) != 0
        || syscall(SYS_close_range, (unsigned)kept + 1, ~0U, 0) != 0)
        fail(kept, LINUX_COMMAND_FILES);
    execve(command->path, command->arguments, command->environment);
    fail(kept, LINUX_COMMAND_EXECUTE);
}

int linux_start_command(const struct linux_command *command, pid_t *pid, int *step) {
    int ends[2];
    *step = LINUX_COMMAND_FORK;
    if (pipe2(ends, O_CLOEXEC) != 0) return errno;
    pid_t child = fork();
    if (child == 0) become(command, ends[1]);
    int error = errno;
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return error;
    }
    struct failure failure;
    ssize_t got;
    do {
        got = read(ends[0], &failure, sizeof failure);
    } while (got < 0 && errno == EINTR);
    close(ends[0]);
    if (got != sizeof failure) {
        *pid = child;
        return 0;
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    *step = failure.step;
    return failure.error;
}

int linux_watch_process(pid_t pid) {
    int descriptor = (int)syscall(SYS_pidfd_open, pid, 0);
    return descriptor >= 0 ? descriptor : -errno;
}

int linux_reap(pid_t pid, int *status) {
    pid_t found;
    do {
        found = waitpid(pid, status, 0);
    } while (found < 0 && errno == EINTR);
    return found == pid ? 0 : errno;
}

// ---- descriptors over sockets ----

int linux_send_file(int socket, const void *octets, size_t count, int file) {
    struct iovec part = {(void *)octets, count};
    union {
        char octets[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.octets, .msg_controllen = sizeof control.octets};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &file, sizeof(int));
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    // A local socket takes what is far below its buffer in one piece, or nothing.
    return sent < 0 ? errno : (size_t)sent == count ? 0 : EMSGSIZE;
}

long linux_receive_file(int socket, void *octets, size_t count, int *file) {
    struct iovec part = {octets, count};
    union {
        char octets[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.octets, .msg_controllen = sizeof control.octets};
    ssize_t got;
    do {
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    // More than one does not fit into the room for them, and is closed by the kernel.
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        int received;
        memcpy(&received, CMSG_DATA(header), sizeof(int));
        if (*file >= 0) close(*file);
        *file = received;
    }
    return got;
}

int linux_accept(int listener, uid_t *uid) {
    int socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) return -errno;
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
        int error = errno;
        close(socket);
        return -error;
    }
    *uid = peer.uid;
    return socket;
}

int linux_output_pipe(int *reader, int *writer) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return errno;
    // /dev/stdout and /dev/stderr are opened anew by whoever writes to them, as whoever that is.
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 || fchmod(ends[1], 0666) != 0) {
        int error = errno;
        close(ends[0]);
        close(ends[1]);
        return error;
    }
    *reader = ends[0];
    *writer = ends[1];
    return 0;
}

int linux_temporary_file(const char *folder) {
    int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file >= 0) return file;
    // Not every file system has files without a name.
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) return -errno;
    char path[4096];
    int count = snprintf(path, sizeof path, "%s/.pipe-XXXXXX", folder);
    if (count < 0 || (size_t)count >= sizeof path) return -ENAMETOOLONG;
    file = mkostemp(path, O_CLOEXEC);
    if (file < 0) return -errno;
    unlink(path);
    return file;
}

int linux_open_for_others(int file) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    // Nobody finds it by a name. Whoever gets the descriptor can open /dev/stdin.
    if (fchmod(file, 0444) != 0) return -errno;
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    return reader >= 0 ? reader : -errno;
}
