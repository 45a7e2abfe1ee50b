// A disk that fails, lies, or is late: preloaded into slimtad by the rigs beside it (LD_PRELOAD).
//
// DISK_SHIM names a file that is mapped into the process: the rig writes into it what is to happen, and reads there what
// has happened (struct plan; rig side: plan.py). FAIL and LATE touch only files below the folder that the plan names.
//
//   FAIL  from the `first` call on, `count` calls fail with `error`, and do nothing
//   SKIP  fsync, fdatasync or both do nothing, and say that all is well
//   LATE  what is written to a .wal file reaches the system only with the next write: a reply comes before its commit
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOTHING, FAIL, SKIP, LATE };
enum { WRITE = 1, FDATASYNC = 2, FSYNC = 4, RENAME = 8, FTRUNCATE = 16, OPEN = 32 };

struct plan {
    uint32_t what, calls, error;
    int32_t first, count;   // `first` counts from 1
    uint32_t seen, failed;  // calls since the plan was made; those of them that were made to fail
    char folder[228];
};

static volatile struct plan *plan;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_SHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) abort();
    plan = map;
}

static int is_ours(const char *path) {
    const char *folder = (const char *)plan->folder;
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int descriptor_is_ours(int fd, const char *end) {
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    size_t tail = strlen(end);
    return is_ours(path) && (size_t)length >= tail && strcmp(path + length - tail, end) == 0;
}

// Whether this call, of a file of ours, is to fail; errno is then set.
static int fails(uint32_t call) {
    if (plan->what != FAIL || !(plan->calls & call)) return 0;
    int32_t number = (int32_t)__atomic_add_fetch(&plan->seen, 1, __ATOMIC_SEQ_CST);
    if (number < plan->first || number - plan->first >= plan->count) return 0;
    __atomic_add_fetch(&plan->failed, 1, __ATOMIC_SEQ_CST);
    errno = (int)plan->error;
    return 1;
}

static int is_planned(uint32_t call) { return plan && plan->what == FAIL && (plan->calls & call); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { int fd; void *octets; size_t count; off_t offset; } late = {.fd = -1};

static ssize_t write_late(int fd, const void *octets, size_t count, off_t offset) {
    ssize_t result = (ssize_t)count;
    pthread_mutex_lock(&lock);
    if (late.fd >= 0) {
        if (REAL(pwrite)(late.fd, late.octets, late.count, late.offset) < 0) result = -1;
        close(late.fd);
        free(late.octets);
    }
    if (posix_memalign(&late.octets, 4096, count)) abort();
    memcpy(late.octets, octets, count);
    late.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    late.count = count;
    late.offset = offset;
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t write(int fd, const void *octets, size_t count) {
    if (is_planned(WRITE) && descriptor_is_ours(fd, "") && fails(WRITE)) return -1;
    return REAL(write)(fd, octets, count);
}

ssize_t pwrite(int fd, const void *octets, size_t count, off_t offset) {
    if (is_planned(WRITE) && descriptor_is_ours(fd, "") && fails(WRITE)) return -1;
    // Not the zeros of a new segment: a segment's octets come in batches.
    if (plan && plan->what == LATE && count < 1 << 20 && descriptor_is_ours(fd, ".wal")) {
        return write_late(fd, octets, count, offset);
    }
    return REAL(pwrite)(fd, octets, count, offset);
}

ssize_t pwrite64(int fd, const void *octets, size_t count, off64_t offset) { return pwrite(fd, octets, count, offset); }

int fdatasync(int fd) {
    if (plan && plan->what == SKIP && (plan->calls & FDATASYNC)) return 0;
    if (is_planned(FDATASYNC) && descriptor_is_ours(fd, "") && fails(FDATASYNC)) return -1;
    return REAL(fdatasync)(fd);
}

int fsync(int fd) {
    if (plan && plan->what == SKIP && (plan->calls & FSYNC)) return 0;
    if (is_planned(FSYNC) && descriptor_is_ours(fd, "") && fails(FSYNC)) return -1;
    return REAL(fsync)(fd);
}

int rename(const char *from, const char *to) {
    if (is_planned(RENAME) && is_ours(from) && fails(RENAME)) return -1;
    return REAL(rename)(from, to);
}

int ftruncate(int fd, off_t size) {
    if (is_planned(FTRUNCATE) && descriptor_is_ours(fd, "") && fails(FTRUNCATE)) return -1;
    return REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

#define OPEN_BODY(name)                                                     \
    if (is_planned(OPEN) && is_ours(path) && fails(OPEN)) return -1;        \
    va_list arguments;                                                      \
    va_start(arguments, flags);                                             \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0; \
    va_end(arguments);                                                      \
    return REAL(name)(path, flags, mode);

int open(const char *path, int flags, ...) { OPEN_BODY(open) }
int open64(const char *path, int flags, ...) { OPEN_BODY(open64) }
