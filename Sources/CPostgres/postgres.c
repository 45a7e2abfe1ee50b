// libpq behind pointers: see CPostgres.h.
#define _GNU_SOURCE
#include "CPostgres.h"

#include <dlfcn.h>
#include <postgresql/libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

// The newest of them are of PostgreSQL 14.
#define FUNCTIONS(X) \
    X(PQconninfoParse) X(PQconninfoFree) X(PQfreemem) X(PQconnectStartParams) X(PQconnectPoll) X(PQfinish) X(PQstatus) \
    X(PQsocket) X(PQerrorMessage) X(PQsetNoticeReceiver) X(PQsetErrorVerbosity) X(PQsetnonblocking) \
    X(PQenterPipelineMode) X(PQexitPipelineMode) X(PQpipelineSync) X(PQsendPrepare) X(PQsendQueryPrepared) \
    X(PQsendQuery) X(PQflush) X(PQconsumeInput) X(PQnotifies) X(PQisBusy) X(PQgetResult) X(PQclear) X(PQresultStatus) \
    X(PQresultErrorField) X(PQntuples) X(PQnfields) X(PQftype) X(PQgetisnull) X(PQgetlength) X(PQgetvalue)

struct functions {
#define POINTER(name) typeof(name) *name;
    FUNCTIONS(POINTER)
};

static struct functions pq;

struct cpq_connection {
    PGconn *connection;
    char warning[512];
    char farewell[512];
    char call[256];
    bool is_called;
};

const char *cpq_load(const char *path) {
    static char missing[128];
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return dlerror();
    struct functions found;
#define FIND(name) \
    *(void **)&found.name = dlsym(library, #name); \
    if (found.name == NULL) { \
        snprintf(missing, sizeof missing, "there is no %s in it: it has to be of PostgreSQL 14 or later", #name); \
        dlclose(library); \
        return missing; \
    }
    FUNCTIONS(FIND)
    pq = found;
    return NULL;
}

void cpq_forget_environment(void) {
    for (char **variable = environ; variable != NULL && *variable != NULL;) {
        const char *end = strchr(*variable, '=');
        if (strncmp(*variable, "PG", 2) != 0 || end == NULL) {
            variable++;
            continue;
        }
        char *name = strndup(*variable, (size_t)(end - *variable));
        if (name == NULL) abort();
        // What comes behind it moves up to its place.
        unsetenv(name);
        free(name);
    }
}

bool cpq_parse(
    const char *text, void *context, void (*each)(void *context, const char *keyword, const char *value), char *error,
    size_t size) {
    char *reason = NULL;
    PQconninfoOption *options = pq.PQconninfoParse(text, &reason);
    if (options == NULL) {
        snprintf(error, size, "%s", reason != NULL ? reason : "no memory");
        pq.PQfreemem(reason);
        return false;
    }
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
        if (option->val != NULL) each(context, option->keyword, option->val);
    pq.PQconninfoFree(options);
    return true;
}

// ---- connections ----

static bool has_severity(const PGresult *result, const char *severity) {
    const char *found = pq.PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    return found != NULL && strcmp(found, severity) == 0;
}

static void take_notice(void *context, const PGresult *result) {
    struct cpq_connection *connection = context;
    bool ends = has_severity(result, "FATAL") || has_severity(result, "PANIC");
    if (!ends && !has_severity(result, "WARNING")) return;
    char *place = ends ? connection->farewell : connection->warning;
    if (place[0] != 0) return;
    const char *state = pq.PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = pq.PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    snprintf(
        place, sizeof connection->warning, "%s: %s", state != NULL ? state : "no state",
        message != NULL ? message : "no text");
}

struct cpq_connection *cpq_start(const char *const *keywords, const char *const *values) {
    struct cpq_connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) return NULL;
    connection->connection = pq.PQconnectStartParams(keywords, values, 0);
    if (connection->connection == NULL) {
        free(connection);
        return NULL;
    }
    // Else it writes to standard error.
    pq.PQsetNoticeReceiver(connection->connection, take_notice, connection);
    // No DETAIL, which has values in it.
    pq.PQsetErrorVerbosity(connection->connection, PQERRORS_TERSE);
    return connection;
}

int cpq_connect(struct cpq_connection *connection) {
    switch (pq.PQconnectPoll(connection->connection)) {
    case PGRES_POLLING_READING: return CPQ_READING;
    case PGRES_POLLING_WRITING: return CPQ_WRITING;
    case PGRES_POLLING_OK: return pq.PQsetnonblocking(connection->connection, 1) == 0 ? CPQ_CONNECTED : CPQ_FAILED;
    default: return CPQ_FAILED;
    }
}

void cpq_finish(struct cpq_connection *connection, bool resets) {
    int socket = cpq_socket(connection);
    const struct linger none = {1, 0};
    if (resets && socket >= 0) setsockopt(socket, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    pq.PQfinish(connection->connection);
    free(connection);
}

bool cpq_is_bad(const struct cpq_connection *connection) {
    return pq.PQstatus(connection->connection) == CONNECTION_BAD;
}

int cpq_socket(const struct cpq_connection *connection) { return pq.PQsocket(connection->connection); }

const char *cpq_error(const struct cpq_connection *connection) { return pq.PQerrorMessage(connection->connection); }

const char *cpq_warning(const struct cpq_connection *connection) { return connection->warning; }

const char *cpq_farewell(const struct cpq_connection *connection) { return connection->farewell; }

void cpq_forget_notices(struct cpq_connection *connection) { connection->warning[0] = connection->farewell[0] = 0; }

// ---- questions ----

bool cpq_enter_pipeline(struct cpq_connection *connection) {
    return pq.PQenterPipelineMode(connection->connection) == 1;
}

bool cpq_exit_pipeline(struct cpq_connection *connection) { return pq.PQexitPipelineMode(connection->connection) == 1; }

bool cpq_prepare(
    struct cpq_connection *connection, const char *name, const char *sql, int count, const uint32_t *types) {
    return pq.PQsendPrepare(connection->connection, name, sql, count, types) == 1;
}

bool cpq_execute(
    struct cpq_connection *connection, const char *name, int count, const char *const *values, const int *lengths) {
    int binary[64];
    if (count < 0 || count > 64) return false;
    for (int i = 0; i < count; i++) binary[i] = 1;
    return pq.PQsendQueryPrepared(connection->connection, name, count, values, lengths, binary, 1) == 1;
}

bool cpq_sync(struct cpq_connection *connection) { return pq.PQpipelineSync(connection->connection) == 1; }

bool cpq_query(struct cpq_connection *connection, const char *sql) {
    return pq.PQsendQuery(connection->connection, sql) == 1;
}

int cpq_flush(struct cpq_connection *connection) { return pq.PQflush(connection->connection); }

bool cpq_consume(struct cpq_connection *connection) { return pq.PQconsumeInput(connection->connection) == 1; }

void cpq_look(struct cpq_connection *connection) {
    for (PGnotify *notice; (notice = pq.PQnotifies(connection->connection)) != NULL;) {
        if (connection->call[0] != 0 && strcmp(notice->extra, connection->call) == 0) connection->is_called = true;
        pq.PQfreemem(notice);
    }
}

bool cpq_await_call(struct cpq_connection *connection, const char *word) {
    int length = snprintf(connection->call, sizeof connection->call, "%s", word);
    return length >= 0 && (size_t)length < sizeof connection->call;
}

bool cpq_take_call(struct cpq_connection *connection) {
    cpq_look(connection);
    bool is_called = connection->is_called;
    connection->is_called = false;
    return is_called;
}

int cpq_bell(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

// ---- answers ----

// libpq's own type, under the name that the header has for it.
static const PGresult *own(const struct cpq_result *result) { return (const PGresult *)result; }

bool cpq_is_busy(struct cpq_connection *connection) { return pq.PQisBusy(connection->connection) != 0; }

struct cpq_result *cpq_next(struct cpq_connection *connection) {
    return (struct cpq_result *)pq.PQgetResult(connection->connection);
}

void cpq_clear(struct cpq_result *result) { pq.PQclear((PGresult *)result); }

int cpq_kind(const struct cpq_result *result) {
    switch (pq.PQresultStatus(own(result))) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY: return CPQ_DONE;
    case PGRES_FATAL_ERROR: return CPQ_ERROR;
    case PGRES_PIPELINE_ABORTED: return CPQ_SKIPPED;
    case PGRES_PIPELINE_SYNC: return CPQ_SYNC;
    default: return CPQ_OTHER;
    }
}

const char *cpq_field(const struct cpq_result *result, int field) { return pq.PQresultErrorField(own(result), field); }

bool cpq_is_fatal(const struct cpq_result *result) {
    return has_severity(own(result), "FATAL") || has_severity(own(result), "PANIC");
}

int cpq_rows(const struct cpq_result *result) { return pq.PQntuples(own(result)); }

int cpq_columns(const struct cpq_result *result) { return pq.PQnfields(own(result)); }

uint32_t cpq_type(const struct cpq_result *result, int column) { return pq.PQftype(own(result), column); }

bool cpq_is_null(const struct cpq_result *result, int row, int column) {
    return pq.PQgetisnull(own(result), row, column) != 0;
}

int cpq_length(const struct cpq_result *result, int row, int column) {
    return pq.PQgetlength(own(result), row, column);
}

const char *cpq_value(const struct cpq_result *result, int row, int column) {
    return pq.PQgetvalue(own(result), row, column);
}
