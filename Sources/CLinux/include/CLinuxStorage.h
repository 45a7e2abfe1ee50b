// Linux calls of SlimtaStorage that Swift's Glibc does not show, or shows badly (variadics, errno, feature macros).
// Calls return a result of zero or more, or minus errno: no errno is read on the Swift side.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum {
    SLIMTA_OPEN_WRITE = 1,      // read and write; without it read only
    SLIMTA_OPEN_CREATE = 2,     // a new file, 0600; fails if the name exists
    SLIMTA_OPEN_DIRECT = 4,     // past the page cache
    SLIMTA_OPEN_DIRECTORY = 8,  // a directory
    SLIMTA_OPEN_REUSE = 16,     // with CREATE: an existing regular file is taken as it is, with the mode that it has
};

struct slimta_file_info {
    int64_t size;
    uint64_t inode;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint32_t links;
};

struct slimta_space {
    uint64_t free_octets;   // what an unprivileged process may use
    uint64_t free_inodes;   // UINT64_MAX where the file system does not count them
};

int slimta_open(const char *path, int options);
int slimta_close(int fd);
int64_t slimta_pread(int fd, void *octets, size_t count, int64_t offset);        // short only at the end of the file
int64_t slimta_pwrite(int fd, const void *octets, size_t count, int64_t offset); // all of it
int slimta_fsync(int fd);
int slimta_fdatasync(int fd);
int slimta_ftruncate(int fd, int64_t size);
int slimta_fstat(int fd, struct slimta_file_info *info);
int slimta_lstat(const char *path, struct slimta_file_info *info);
int slimta_rename(const char *from, const char *to);
int slimta_unlink(const char *path);
int slimta_mkdir(const char *path);
int slimta_fchmod(int fd, uint32_t mode);
int slimta_fchown(int fd, uint32_t uid, uint32_t gid);
int slimta_space(const char *path, struct slimta_space *space);
int slimta_list(const char *path, void *context, void (*each)(void *context, const char *name));
int slimta_flock(int fd, int exclusive);
int slimta_unlock(int fd);
// Starts the write-out of a range and waits for what was started before, not for this: the final sync then has little
// to do.
int slimta_write_behind(int fd, int64_t offset, int64_t count);
int slimta_drop_cache(int fd);
uint32_t slimta_effective_uid(void);
int32_t slimta_process_id(void);

// CRC32C (Castagnoli). `crc` is the value of what came before, 0 at first; chains like zlib's crc32().
uint32_t slimta_crc32c(uint32_t crc, const void *octets, size_t count);
// The same without instructions for it: what other processors run, and what tests compare with.
uint32_t slimta_crc32c_portable(uint32_t crc, const void *octets, size_t count);

// An event that one thread waits for and any thread signals; a signal without a waiter is kept.
struct slimta_event {
    uint32_t state;
    // The waiter's own: its last wait was so short that sleeping would have taken longer.
    uint32_t was_short;
};
void slimta_event_signal(struct slimta_event *event);
// 1: signalled; 0: `nanoseconds` have passed. Negative: waits without end.
int slimta_event_wait(struct slimta_event *event, int64_t nanoseconds);

// Starts a thread with all signals blocked that the program knows. The name is cut at 15 octets.
int slimta_thread_start(uint64_t *thread, const char *name, void (*body)(void *), void *context);
int slimta_thread_join(uint64_t thread);
void slimta_thread_detach(uint64_t thread);
int64_t slimta_monotonic_nanoseconds(void);
uint64_t slimta_random(void);
// The system's text for `code`, cut to `size` with its end.
void slimta_error_text(int code, char *text, size_t size);
// The offset of the first place in `octets` where the four octets of `word` are; -1 if nowhere.
int64_t slimta_find(const void *octets, size_t count, const void *word);
