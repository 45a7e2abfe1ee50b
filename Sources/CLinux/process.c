// Calls about the process itself: see CLinuxProcess.h.
#define _GNU_SOURCE
#include "CLinuxProcess.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

// ---- daemon ----

static void write_all(int descriptor, const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(descriptor, bytes, count);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return;
        bytes += written;
        count -= (size_t)written;
    }
}

// The first process: waits for the daemon's word, passes it on, never returns.
static void wait_for_daemon(int descriptor, int died) {
    // Signals are for the daemon, with which the pipe of signals is shared; this process just ends.
    const int numbers[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) signal(numbers[i], SIG_DFL);
    char buffer[4096];
    size_t count = 0;
    while (count < sizeof buffer) {
        ssize_t got = read(descriptor, buffer + count, sizeof buffer - count);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        count += (size_t)got;
        if (buffer[0] == 0) _exit(0);  // ready: nothing more to hear
    }
    if (count == 0) {
        static const char text[] = "slimtad: the daemon ended before it was ready; its log may say why\n";
        write_all(STDERR_FILENO, text, sizeof text - 1);
        _exit(died);
    }
    if (count > 1) {
        write_all(STDERR_FILENO, buffer + 1, count - 1);
        if (buffer[count - 1] != '\n') write_all(STDERR_FILENO, "\n", 1);
    }
    _exit((unsigned char)buffer[0]);
}

// In a child that cannot go on: tells the first process, and ends.
static void fail(int descriptor, const char *call, int error) {
    char text[256];
    text[0] = 71;  // EX_OSERR
    int count = snprintf(text + 1, sizeof text - 1, "slimtad: cannot become a daemon: %s: %s\n", call, strerror(error));
    if (count > 0) write_all(descriptor, text, 1 + ((size_t)count < sizeof text - 1 ? (size_t)count : sizeof text - 2));
    _exit(71);
}

int linux_daemonize(int *readiness, int died) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return errno;
    fflush(NULL);  // else both processes would write what is buffered

    pid_t child = fork();
    if (child < 0) {
        int error = errno;
        close(ends[0]);
        close(ends[1]);
        return error;
    }
    if (child > 0) {
        close(ends[1]);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
        wait_for_daemon(ends[0], died);
    }

    close(ends[0]);
    if (setsid() < 0) fail(ends[1], "setsid", errno);
    // The second fork: what is not a session's leader cannot get a controlling terminal by opening one.
    child = fork();
    if (child < 0) fail(ends[1], "fork", errno);
    if (child > 0) _exit(0);

    umask(077);
    if (chdir("/") != 0) fail(ends[1], "chdir", errno);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) fail(ends[1], "open /dev/null", errno);
    // If a standard descriptor was closed, the pipe may have its number: move the pipe out of the way first.
    int pipe_end = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
    if (pipe_end < 0) fail(ends[1], "fcntl", errno);
    if (ends[1] > STDERR_FILENO) close(ends[1]);
    for (int standard = STDIN_FILENO; standard <= STDERR_FILENO; standard++) {
        // dup2 onto itself would leave close-on-exec set
        if (null == standard ? fcntl(null, F_SETFD, 0) < 0 : dup2(null, standard) < 0) fail(pipe_end, "dup2", errno);
    }
    if (null > STDERR_FILENO) close(null);
    *readiness = pipe_end;
    return 0;
}

int linux_thread_count(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) return 0;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        if (entry->d_name[0] != '.') count++;
    }
    closedir(tasks);
    return count;
}

// ---- identity ----

int linux_set_identity(uid_t uid, gid_t gid, const gid_t *groups, size_t count) {
    // Groups first: without root's uid they could no longer be changed.
    if (setgroups(count, groups) != 0) return errno;
    if (setresgid(gid, gid, gid) != 0) return errno;
    if (setresuid(uid, uid, uid) != 0) return errno;
    return 0;
}

bool linux_has_identity(uid_t uid, gid_t gid) {
    uid_t real_uid, effective_uid, saved_uid;
    gid_t real_gid, effective_gid, saved_gid;
    if (getresuid(&real_uid, &effective_uid, &saved_uid) != 0) return false;
    if (getresgid(&real_gid, &effective_gid, &saved_gid) != 0) return false;
    // The file system's ids follow the effective ones.
    return real_uid == uid && effective_uid == uid && saved_uid == uid && real_gid == gid && effective_gid == gid
        && saved_gid == gid;
}

bool linux_can_regain_root(void) {
    const uid_t keep_uid = (uid_t)-1;
    const gid_t keep_gid = (gid_t)-1;
    gid_t root_group = 0;
    return setuid(0) == 0 || seteuid(0) == 0 || setresuid(keep_uid, 0, keep_uid) == 0
        || setresuid(keep_uid, keep_uid, 0) == 0 || setgid(0) == 0 || setegid(0) == 0
        || setresgid(keep_gid, keep_gid, 0) == 0 || setgroups(1, &root_group) == 0;
}

// ---- capabilities: raw calls, for which libcap would be one more library ----

typedef struct __user_cap_data_struct capabilities[_LINUX_CAPABILITY_U32S_3];

static const uint32_t bind_low_ports = 1u << CAP_NET_BIND_SERVICE;

static int get_capabilities(capabilities data) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    return syscall(SYS_capget, &header, data) == 0 ? 0 : errno;
}

static int set_capabilities(const capabilities data) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    return syscall(SYS_capset, &header, data) == 0 ? 0 : errno;
}

int linux_keep_capabilities(bool keep) { return prctl(PR_SET_KEEPCAPS, keep ? 1 : 0, 0, 0, 0) == 0 ? 0 : errno; }

// Leaves what of `kept` is permitted, out of effect.
static int reduce_capabilities(uint32_t kept) {
    capabilities now, left;
    int error = get_capabilities(now);
    if (error != 0) return error;
    memset(left, 0, sizeof left);
    left[0].permitted = now[0].permitted & kept;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL) return errno;
    return set_capabilities(left);
}

int linux_clear_capabilities(void) { return reduce_capabilities(0); }

int linux_keep_capabilities_for_commands(void) {
    const uint32_t kept = 1U << CAP_SETUID | 1U << CAP_SETGID | 1U << CAP_KILL;
    capabilities now, left;
    int error = get_capabilities(now);
    if (error != 0) return error;
    memset(left, 0, sizeof left);
    left[0].permitted = left[0].effective = now[0].permitted & kept;
    return set_capabilities(left);
}

bool linux_has_no_capabilities(void) {
    capabilities data;
    if (get_capabilities(data) != 0) return false;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        if (data[i].permitted != 0 || data[i].effective != 0) return false;
    }
    return true;
}

// ---- the thread that may bind low ports ----

static pthread_mutex_t binder_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t binder_changed = PTHREAD_COND_INITIALIZER;
static bool binder_is_there;
static void (*binder_job)(void *);
static void *binder_context;

static void use_bind_capability(bool use) {
    capabilities data;
    if (get_capabilities(data) != 0) return;
    data[0].effective = use ? data[0].permitted & bind_low_ports : 0;
    set_capabilities(data);  // where that fails bind says so
}

static void *run_binder(void *nothing) {
    pthread_setname_np(pthread_self(), "binder");
    pthread_mutex_lock(&binder_lock);
    for (;;) {
        while (binder_job == NULL) pthread_cond_wait(&binder_changed, &binder_lock);
        pthread_mutex_unlock(&binder_lock);
        use_bind_capability(true);
        binder_job(binder_context);
        use_bind_capability(false);
        pthread_mutex_lock(&binder_lock);
        binder_job = NULL;
        pthread_cond_broadcast(&binder_changed);
    }
    return nothing;
}

int linux_start_binder(void) {
    int error = reduce_capabilities(bind_low_ports);
    if (error != 0) return error;
    if (linux_has_no_capabilities()) return 0;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 512 << 10);
    pthread_t thread;
    error = pthread_create(&thread, &attributes, run_binder, NULL);
    pthread_attr_destroy(&attributes);
    if (error == 0) binder_is_there = true;
    return error;
}

void linux_run_in_binder(void (*job)(void *), void *context) {
    if (!binder_is_there) return job(context);
    pthread_mutex_lock(&binder_lock);
    while (binder_job != NULL) pthread_cond_wait(&binder_changed, &binder_lock);
    binder_job = job;
    binder_context = context;
    pthread_cond_broadcast(&binder_changed);
    while (binder_job == job && binder_context == context) pthread_cond_wait(&binder_changed, &binder_lock);
    pthread_mutex_unlock(&binder_lock);
}

int linux_set_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno; }

int linux_set_dumpable(void) { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0 ? 0 : errno; }

// ---- signals ----

// Not signalfd: that needs the signals blocked in all threads, and Swift's main thread, once `main` has become
// asynchronous, is parked by libdispatch in a sigsuspend that blocks nothing. A signal would end the process there.

// What would end a process that does not know it, and means nothing to us. Not here: what a fault of the program's own
// raises (SIGSEGV and the like) and SIGABRT of the watchdog, which are to end it.
static const int meaningless[] = {
    SIGALRM, SIGIO, SIGPIPE, SIGPROF, SIGPWR, SIGSTKFLT, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
static const int meaningful[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

// All of these, and the real-time signals.
static void fill_held(sigset_t *set) {
    sigemptyset(set);
    for (size_t i = 0; i < sizeof meaningless / sizeof meaningless[0]; i++) sigaddset(set, meaningless[i]);
    for (size_t i = 0; i < sizeof meaningful / sizeof meaningful[0]; i++) sigaddset(set, meaningful[i]);
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++) sigaddset(set, number);
}

// Whether the daemon is what the command line asks for: `slimtad`, `slimtad run ...`, `slimtad --config ...`.
static bool is_daemon(int argc, char **argv) {
    if (argc < 1 || argv[0] == NULL) return false;
    const char *slash = strrchr(argv[0], '/');
    if (strcmp(slash ? slash + 1 : argv[0], "slimtad") != 0) return false;
    return argc < 2 || argv[1][0] == '-' || strcmp(argv[1], "run") == 0;
}

static bool are_held = false;

// Before main, and before the libraries start up, which takes Swift's some milliseconds: signals wait until
// linux_catch_signals says what they mean. Commands end by them as any program does.
static void hold_signals(int argc, char **argv, char **environment) {
    (void)environment;
    if (!is_daemon(argc, argv)) return;
    sigset_t held;
    fill_held(&held);
    are_held = sigprocmask(SIG_BLOCK, &held, NULL) == 0;
}

__attribute__((section(".preinit_array"), used)) static void (*const hold_signals_first)(int, char **, char **) =
    hold_signals;

static volatile sig_atomic_t signal_writer = -1;

// Only what is safe in a handler; nobody sees the difference in errno.
static void note_signal(int number) {
    int error = errno;
    unsigned char octet = (unsigned char)number;
    ssize_t written = write((int)signal_writer, &octet, 1);
    (void)written;  // a full pipe has enough signals in it
    errno = error;
}

int linux_catch_signals(const int *numbers, size_t count, int *reader) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return errno;
    // A handler must not wait.
    if (fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0) return errno;
    signal_writer = ends[1];
    *reader = ends[0];

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note_signal;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < count; i++) {
        if (sigaction(numbers[i], &action, NULL) != 0) return errno;
    }
    action.sa_handler = SIG_IGN;
    action.sa_flags = 0;
    for (size_t i = 0; i < sizeof meaningless / sizeof meaningless[0]; i++) {
        if (sigaction(meaningless[i], &action, NULL) != 0) return errno;
    }
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++) {
        if (sigaction(number, &action, NULL) != 0) return errno;
    }
    if (!are_held) return 0;
    // What came meanwhile comes now.
    are_held = false;
    sigset_t held;
    fill_held(&held);
    return pthread_sigmask(SIG_UNBLOCK, &held, NULL);
}

int linux_next_signal(int reader) {
    unsigned char octet;
    for (;;) {
        ssize_t got = read(reader, &octet, 1);
        if (got == 1) return octet;
        if (got == 0) return -EPIPE;
        if (errno != EINTR) return -errno;
    }
}

// ---- files ----

int linux_lock_file(int descriptor) {
    while (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

int linux_raise_file_limit(uint64_t *limit) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return errno;
    *limit = files.rlim_cur;
    if (files.rlim_cur == files.rlim_max) return 0;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) return errno;
    *limit = files.rlim_cur;
    return 0;
}

int linux_forbid_core(void) {
    const struct rlimit none = {0, 0};
    return setrlimit(RLIMIT_CORE, &none) == 0 ? 0 : errno;
}

// ---- syslog ----

void linux_syslog(int priority, const char *line) {
    openlog("slimtad", LOG_PID, LOG_MAIL);  // again and again does no harm: it only remembers these
    syslog(priority, "%s", line);
}
