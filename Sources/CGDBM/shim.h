// GDBM for SlimtaStorage: the header, and what Swift cannot import (macros, the errno macro) as static inline functions.
// `gdbm_errno` belongs to the thread: it is read here, in the call that set it.
#pragma once
#include <errno.h>
#include <gdbm.h>
#include <stdint.h>
#include <stdlib.h>

// What a call came to. `error` is 0 or GDBM's number; `system` is errno where GDBM says that it tells more.
struct slimta_gdbm_result {
    int error;
    int system;
};

static inline struct slimta_gdbm_result slimta_gdbm_told(GDBM_FILE file, int failed) {
    struct slimta_gdbm_result result = {0, 0};
    if (failed) {
        int system = errno;
        result.error = file ? gdbm_last_errno(file) : gdbm_errno;
        if (result.error == GDBM_NO_ERROR) result.error = GDBM_UNKNOWN_ERROR;
        if (gdbm_check_syserr(result.error)) result.system = file ? gdbm_last_syserr(file) : system;
    } else if (file && gdbm_needs_recovery(file)) {
        // GDBM 1.23 can lose a failed write on the way to its result, but not this mark.
        result.error = GDBM_NEED_RECOVERY;
        result.system = gdbm_last_syserr(file);
    }
    return result;
}

// Both take the descriptor over; it is closed on failure as well.
static inline GDBM_FILE slimta_gdbm_create(int fd, const char *name, int block, struct slimta_gdbm_result *result) {
    errno = 0;
    GDBM_FILE file = gdbm_fd_open(fd, name, block, GDBM_NEWDB | GDBM_NOMMAP | GDBM_CLOERROR, NULL);
    *result = slimta_gdbm_told(file, file == NULL);
    return file;
}

static inline GDBM_FILE slimta_gdbm_read(int fd, const char *name, size_t buckets, struct slimta_gdbm_result *result) {
    errno = 0;
    GDBM_FILE file = gdbm_fd_open(fd, name, 0, GDBM_READER | GDBM_NOMMAP | GDBM_CLOERROR, NULL);
    *result = slimta_gdbm_told(file, file == NULL);
    if (file) gdbm_setopt(file, GDBM_SETCACHESIZE, &buckets, sizeof buckets);
    return file;
}

// The same without GDBM's lock: for files that are replaced by renaming only, and must not keep who replaces them waiting.
static inline GDBM_FILE slimta_gdbm_look(int fd, const char *name, size_t buckets, struct slimta_gdbm_result *result) {
    errno = 0;
    GDBM_FILE file = gdbm_fd_open(fd, name, 0, GDBM_READER | GDBM_NOMMAP | GDBM_NOLOCK | GDBM_CLOERROR, NULL);
    *result = slimta_gdbm_told(file, file == NULL);
    if (file) gdbm_setopt(file, GDBM_SETCACHESIZE, &buckets, sizeof buckets);
    return file;
}

static inline struct slimta_gdbm_result slimta_gdbm_insert(
    GDBM_FILE file, const void *key, int key_size, const void *value, int value_size) {
    errno = 0;
    datum k = {(char *)key, key_size}, v = {(char *)value, value_size};
    return slimta_gdbm_told(file, gdbm_store(file, k, v, GDBM_INSERT) != 0);
}

// The value is malloc's; NULL with error 0: no such key.
static inline void *slimta_gdbm_fetch(
    GDBM_FILE file, const void *key, int key_size, int *size, struct slimta_gdbm_result *result) {
    errno = 0;
    datum k = {(char *)key, key_size};
    datum v = gdbm_fetch(file, k);
    *size = v.dptr ? v.dsize : 0;
    *result = slimta_gdbm_told(file, v.dptr == NULL);
    if (!v.dptr && result->error == GDBM_ITEM_NOT_FOUND) result->error = 0;
    return v.dptr;
}

// The next key (malloc's) behind `key`, the first if that is NULL; NULL with error 0 at the end.
static inline void *slimta_gdbm_next(
    GDBM_FILE file, const void *key, int key_size, int *size, struct slimta_gdbm_result *result) {
    errno = 0;
    datum k = {(char *)key, key_size};
    datum next = key ? gdbm_nextkey(file, k) : gdbm_firstkey(file);
    *size = next.dptr ? next.dsize : 0;
    *result = slimta_gdbm_told(file, next.dptr == NULL);
    if (!next.dptr && result->error == GDBM_ITEM_NOT_FOUND) result->error = 0;
    return next.dptr;
}

static inline struct slimta_gdbm_result slimta_gdbm_sync(GDBM_FILE file) {
    errno = 0;
    return slimta_gdbm_told(file, gdbm_sync(file) != 0);
}

static inline struct slimta_gdbm_result slimta_gdbm_close(GDBM_FILE file) {
    errno = 0;
    int failed = gdbm_close(file) != 0;
    struct slimta_gdbm_result result = {0, 0};
    if (failed) {
        result.system = errno;
        result.error = gdbm_errno ? gdbm_errno : GDBM_UNKNOWN_ERROR;
    }
    return result;
}

static inline const char *slimta_gdbm_text(int error) { return gdbm_strerror(error); }
