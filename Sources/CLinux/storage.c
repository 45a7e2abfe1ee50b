// See CLinuxStorage.h.
#define _GNU_SOURCE
#include "CLinuxStorage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RETRIED(call) ({ __typeof__(call) r_; do { r_ = (call); } while (r_ < 0 && errno == EINTR); r_; })
#define RESULT(call) ({ int r_ = RETRIED(call); r_ < 0 ? -errno : r_; })

int slimta_open(const char *path, int options) {
    int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    flags |= options & SLIMTA_OPEN_WRITE ? O_RDWR : O_RDONLY;
    if (options & SLIMTA_OPEN_CREATE) flags |= options & SLIMTA_OPEN_REUSE ? O_CREAT : O_CREAT | O_EXCL;
    if (options & SLIMTA_OPEN_DIRECT) flags |= O_DIRECT;
    if (options & SLIMTA_OPEN_DIRECTORY) flags |= O_DIRECTORY;
    int fd = RETRIED(open(path, flags, 0600));
    if (fd < 0) return -errno;
    struct stat status;
    int wrong = 0;
    if (fstat(fd, &status) < 0) wrong = errno;
    // O_NONBLOCK kept a FIFO in the place of our file from holding us up; it means nothing for a regular file.
    else if (!(options & SLIMTA_OPEN_DIRECTORY) && !S_ISREG(status.st_mode)) wrong = EINVAL;
    // The umask is not trusted: it can only have taken away what a new file of ours needs.
    else if ((options & SLIMTA_OPEN_CREATE) && !(options & SLIMTA_OPEN_REUSE) && (status.st_mode & 07777) != 0600
             && fchmod(fd, 0600) < 0)
        wrong = errno;
    if (wrong) {
        close(fd);
        return -wrong;
    }
    return fd;
}

int slimta_close(int fd) { return close(fd) < 0 ? -errno : 0; }

int64_t slimta_pread(int fd, void *octets, size_t count, int64_t offset) {
    size_t done = 0;
    while (done < count) {
        ssize_t n = RETRIED(pread(fd, (char *)octets + done, count - done, offset + (int64_t)done));
        // Past the page cache, what follows the last piece of a file that ends anywhere cannot even be asked for.
        if (n < 0) return errno == EINVAL && done > 0 ? (int64_t)done : -errno;
        if (n == 0) break;
        done += (size_t)n;
    }
    return (int64_t)done;
}

int64_t slimta_pwrite(int fd, const void *octets, size_t count, int64_t offset) {
    size_t done = 0;
    while (done < count) {
        ssize_t n = RETRIED(pwrite(fd, (const char *)octets + done, count - done, offset + (int64_t)done));
        if (n < 0) return -errno;
        if (n == 0) return -EIO;
        done += (size_t)n;
    }
    return (int64_t)done;
}

// An interrupted sync has not told whether it failed, and asking again would answer "fine": no retry here.
int slimta_fsync(int fd) { return fsync(fd) < 0 ? -errno : 0; }
int slimta_fdatasync(int fd) { return fdatasync(fd) < 0 ? -errno : 0; }
int slimta_ftruncate(int fd, int64_t size) { return RESULT(ftruncate(fd, size)); }

static int told(int result, const struct stat *status, struct slimta_file_info *info) {
    if (result < 0) return -errno;
    info->size = status->st_size;
    info->inode = status->st_ino;
    info->mode = status->st_mode;
    info->uid = status->st_uid;
    info->gid = status->st_gid;
    info->links = (uint32_t)status->st_nlink;
    return 0;
}

int slimta_fstat(int fd, struct slimta_file_info *info) {
    struct stat status;
    return told(fstat(fd, &status), &status, info);
}

int slimta_lstat(const char *path, struct slimta_file_info *info) {
    struct stat status;
    return told(lstat(path, &status), &status, info);
}

int slimta_rename(const char *from, const char *to) { return rename(from, to) < 0 ? -errno : 0; }
int slimta_unlink(const char *path) { return unlink(path) < 0 ? -errno : 0; }

int slimta_mkdir(const char *path) { return mkdir(path, 0700) < 0 ? -errno : 0; }
int slimta_fchmod(int fd, uint32_t mode) { return fchmod(fd, mode) < 0 ? -errno : 0; }
int slimta_fchown(int fd, uint32_t uid, uint32_t gid) { return fchown(fd, uid, gid) < 0 ? -errno : 0; }

int slimta_space(const char *path, struct slimta_space *space) {
    struct statvfs status;
    if (RETRIED(statvfs(path, &status)) < 0) return -errno;
    space->free_octets = (uint64_t)status.f_bavail * (uint64_t)status.f_frsize;
    space->free_inodes = status.f_files == 0 ? UINT64_MAX : (uint64_t)status.f_favail;
    return 0;
}

int slimta_list(const char *path, void *context, void (*each)(void *, const char *)) {
    int fd = slimta_open(path, SLIMTA_OPEN_DIRECTORY);
    if (fd < 0) return fd;
    DIR *directory = fdopendir(fd);
    if (!directory) {
        int wrong = errno;
        close(fd);
        return -wrong;
    }
    int wrong = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (!entry) {
            wrong = errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) each(context, entry->d_name);
    }
    closedir(directory);
    return -wrong;
}

int slimta_flock(int fd, int exclusive) { return RESULT(flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB)); }

int slimta_unlock(int fd) { return RESULT(flock(fd, LOCK_UN)); }

int slimta_write_behind(int fd, int64_t offset, int64_t count) {
    return RESULT(sync_file_range(
        fd, offset, count, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE));
}

int slimta_drop_cache(int fd) { return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); }
uint32_t slimta_effective_uid(void) { return geteuid(); }
int32_t slimta_process_id(void) { return getpid(); }

// CRC32C

static uint32_t table[8][256];
// What STRIDE zeros make of each octet of a CRC.
#define STRIDE 256
static uint32_t shifted[4][256];
static pthread_once_t table_made = PTHREAD_ONCE_INIT;

static void make_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
        table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++) table[k][i] = table[0][table[k - 1][i] & 0xFF] ^ table[k - 1][i] >> 8;
    for (int k = 0; k < 4; k++)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t crc = i << 8 * k;
            for (int n = 0; n < STRIDE; n++) crc = table[0][crc & 0xFF] ^ crc >> 8;
            shifted[k][i] = crc;
        }
}

// The CRC as it is with STRIDE more zeros.
static inline uint32_t shift(uint32_t crc) {
    return shifted[0][crc & 0xFF] ^ shifted[1][crc >> 8 & 0xFF] ^ shifted[2][crc >> 16 & 0xFF] ^ shifted[3][crc >> 24];
}

uint32_t slimta_crc32c_portable(uint32_t crc, const void *octets, size_t count) {
    pthread_once(&table_made, make_table);
    const uint8_t *p = octets;
    crc = ~crc;
    for (; count >= 8; p += 8, count -= 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = table[7][low & 0xFF] ^ table[6][low >> 8 & 0xFF] ^ table[5][low >> 16 & 0xFF] ^ table[4][low >> 24]
            ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; count; p++, count--) crc = table[0][(crc ^ *p) & 0xFF] ^ crc >> 8;
    return ~crc;
}

#if defined(__x86_64__)
#define WITH_INSTRUCTION __attribute__((target("sse4.2")))
#define CRC_OF_8(crc, word) (uint32_t)__builtin_ia32_crc32di(crc, word)
#define CRC_OF_1(crc, octet) __builtin_ia32_crc32qi(crc, octet)
static int has_instruction(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__)
#include <sys/auxv.h>
#include <asm/hwcap.h>
#define WITH_INSTRUCTION __attribute__((target("+crc")))
#define CRC_OF_8(crc, word) __builtin_arm_crc32cd(crc, word)
#define CRC_OF_1(crc, octet) __builtin_arm_crc32cb(crc, octet)
static int has_instruction(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#endif

#ifdef WITH_INSTRUCTION
static inline uint64_t word(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

WITH_INSTRUCTION
static uint32_t crc32c_instruction(uint32_t crc, const void *octets, size_t count) {
    const uint8_t *p = octets;
    crc = ~crc;
    // The instruction takes three cycles, and one can begin in each: three strides at once.
    for (; count >= 3 * STRIDE; p += 3 * STRIDE, count -= 3 * STRIDE) {
        uint32_t second = 0, third = 0;
        for (size_t i = 0; i < STRIDE; i += 8) {
            crc = CRC_OF_8(crc, word(p + i));
            second = CRC_OF_8(second, word(p + STRIDE + i));
            third = CRC_OF_8(third, word(p + 2 * STRIDE + i));
        }
        crc = shift(shift(crc) ^ second) ^ third;
    }
    for (; count >= 8; p += 8, count -= 8) crc = CRC_OF_8(crc, word(p));
    for (; count; p++, count--) crc = CRC_OF_1(crc, *p);
    return ~crc;
}
#else
static uint32_t crc32c_instruction(uint32_t crc, const void *octets, size_t count) {
    return slimta_crc32c_portable(crc, octets, count);
}
static int has_instruction(void) { return 0; }
#endif

uint32_t slimta_crc32c(uint32_t crc, const void *octets, size_t count) {
    static _Atomic int known;   // 0 not asked yet, 1 no, 2 yes
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        pthread_once(&table_made, make_table);
        answer = has_instruction() ? 2 : 1;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 2 ? crc32c_instruction(crc, octets, count) : slimta_crc32c_portable(crc, octets, count);
}

// Events: 0 nothing, 1 signalled, 2 the waiter sleeps.

static int futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
    return (int)syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

void slimta_event_signal(struct slimta_event *event) {
    if (__atomic_exchange_n(&event->state, 1, __ATOMIC_ACQ_REL) == 2) futex(&event->state, FUTEX_WAKE, 1, NULL);
}

// Sleeping and being woken takes a virtual machine 40 microseconds each, and as much CPU. Whoever did not wait longer than
// this the last time looks again and again for as long, and leaves the CPU to others that want it.
#define SHORT_WAIT 100000

static int wait_awake(struct slimta_event *event, int64_t begin, int64_t nanoseconds) {
    int64_t longest = nanoseconds < 0 || nanoseconds > SHORT_WAIT ? SHORT_WAIT : nanoseconds;
    do {
        if (__atomic_load_n(&event->state, __ATOMIC_RELAXED) == 1) return 1;
        sched_yield();
    } while (slimta_monotonic_nanoseconds() - begin < longest);
    return 0;
}

// Until `end`, a monotonic time; without end if that is negative.
static int wait_asleep(struct slimta_event *event, int64_t end) {
    for (;;) {
        uint32_t nothing = 0;
        if (__atomic_exchange_n(&event->state, 0, __ATOMIC_ACQ_REL) == 1) return 1;
        if (!__atomic_compare_exchange_n(&event->state, &nothing, 2, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) continue;
        if (end < 0) {
            futex(&event->state, FUTEX_WAIT, 2, NULL);
            continue;
        }
        int64_t left = end - slimta_monotonic_nanoseconds();
        if (left <= 0) return __atomic_exchange_n(&event->state, 0, __ATOMIC_ACQ_REL) == 1;
        struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
        futex(&event->state, FUTEX_WAIT, 2, &timeout);
    }
}

int slimta_event_wait(struct slimta_event *event, int64_t nanoseconds) {
    int64_t begin = slimta_monotonic_nanoseconds();
    if (event->was_short && !wait_awake(event, begin, nanoseconds))
        event->was_short = nanoseconds >= 0 && nanoseconds < SHORT_WAIT;
    int result = wait_asleep(event, nanoseconds < 0 ? -1 : begin + nanoseconds);
    if (result) event->was_short = slimta_monotonic_nanoseconds() - begin <= SHORT_WAIT;
    return result;
}

// Threads

struct thread_start {
    void (*body)(void *);
    void *context;
    char name[16];
};

static void *begin(void *argument) {
    struct thread_start start = *(struct thread_start *)argument;
    free(argument);
    pthread_setname_np(pthread_self(), start.name);
    // Waits of some microseconds are meant so; the default may add 50.
    prctl(PR_SET_TIMERSLACK, 1000UL);
    start.body(start.context);
    return NULL;
}

int slimta_thread_start(uint64_t *thread, const char *name, void (*body)(void *), void *context) {
    struct thread_start *start = calloc(1, sizeof *start);
    if (!start) return -ENOMEM;
    start->body = body;
    start->context = context;
    strncpy(start->name, name, sizeof start->name - 1);
    sigset_t all, before;
    sigfillset(&all);
    // Nobody sends it but Swift's runtime, which stops the threads of a crashed process with it to read their stacks.
    sigdelset(&all, SIGPROF);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t made;
    int wrong = pthread_create(&made, NULL, begin, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (wrong) {
        free(start);
        return -wrong;
    }
    *thread = (uint64_t)made;
    return 0;
}

int slimta_thread_join(uint64_t thread) { return -pthread_join((pthread_t)thread, NULL); }

void slimta_thread_detach(uint64_t thread) { pthread_detach((pthread_t)thread); }

int64_t slimta_monotonic_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

uint64_t slimta_random(void) {
    uint64_t value = 0;
    if (getrandom(&value, sizeof value, 0) != sizeof value) abort();
    return value;
}

void slimta_error_text(int code, char *text, size_t size) {
    const char *known = strerrordesc_np(code);
    strncpy(text, known ? known : "unknown error", size - 1);
    text[size - 1] = 0;
}

int64_t slimta_find(const void *octets, size_t count, const void *word) {
    const char *found = memmem(octets, count, word, 4);
    return found ? found - (const char *)octets : -1;
}
