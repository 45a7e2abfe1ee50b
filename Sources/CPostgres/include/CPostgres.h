// libpq, PostgreSQL's client library (libpq(3)), loaded when it is first needed: slimtad starts without it. For SlimtaCluster
// alone. Thin: what a call of libpq means is in its manual; what waits is left to the caller, for none of these does once a
// connection is made. Names of hosts are not looked up here: the caller gives addresses.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A connection, with what the server has said beside its answers.
struct cpq_connection;

// An answer to one step.
struct cpq_result;

// What a connection waits for while it is made.
enum {
    CPQ_FAILED,
    CPQ_READING,
    CPQ_WRITING,
    CPQ_CONNECTED,
};

// What an answer is.
enum {
    CPQ_DONE,     // with rows or without
    CPQ_ERROR,
    CPQ_SKIPPED,  // a step before it in its transaction was refused
    CPQ_SYNC,     // a transaction has ended
    CPQ_OTHER,    // nothing that was asked for
};

// Fields of an error.
enum {
    CPQ_STATE = 'C',
    CPQ_MESSAGE = 'M',
};

// Loads the library; NULL, or why not, valid until the next call. Not by two threads at a time.
const char *cpq_load(const char *path);

// Takes all variables of the environment away that libpq may read, PG*. To be called while the process has one thread.
void cpq_forget_environment(void);

// Says each word of a connection string; false: it is none, and `error` says why.
bool cpq_parse(
    const char *text, void *context, void (*each)(void *context, const char *keyword, const char *value), char *error,
    size_t size);

// ---- connections ----

// Begins to make one; both lists end with NULL. NULL: no memory.
struct cpq_connection *cpq_start(const char *const *keywords, const char *const *values);
// Goes on with it: to be called when the socket is ready for what the last call said, CPQ_WRITING the first time.
int cpq_connect(struct cpq_connection *connection);
// Closes and frees it; does not wait. With `resets` what was not sent yet never will be.
void cpq_finish(struct cpq_connection *connection, bool resets);

bool cpq_is_bad(const struct cpq_connection *connection);
int cpq_socket(const struct cpq_connection *connection);
const char *cpq_error(const struct cpq_connection *connection);
// The first warning since cpq_forget_notices, and the first word of the end of the connection; empty: there was none.
const char *cpq_warning(const struct cpq_connection *connection);
const char *cpq_farewell(const struct cpq_connection *connection);
void cpq_forget_notices(struct cpq_connection *connection);

// ---- questions: false if it cannot be; they do not wait ----

bool cpq_enter_pipeline(struct cpq_connection *connection);
bool cpq_exit_pipeline(struct cpq_connection *connection);
bool cpq_prepare(
    struct cpq_connection *connection, const char *name, const char *sql, int count, const uint32_t *types);
// Parameters and results are binary.
bool cpq_execute(
    struct cpq_connection *connection, const char *name, int count, const char *const *values, const int *lengths);
bool cpq_sync(struct cpq_connection *connection);
bool cpq_query(struct cpq_connection *connection, const char *sql);

// 0: all is sent; 1: not yet; -1: the connection is lost.
int cpq_flush(struct cpq_connection *connection);
// Reads what is there; false: the connection is lost.
bool cpq_consume(struct cpq_connection *connection);
// Looks at what was read between two questions: of what others have notified only calls with the word are kept.
void cpq_look(struct cpq_connection *connection);
// Notifications with this word (its payload) are calls from now on; false: it is too long.
bool cpq_await_call(struct cpq_connection *connection, const char *word);
// Whether there was a call since this was asked last.
bool cpq_take_call(struct cpq_connection *connection);
// A descriptor by which a thread is woken that waits for a connection, and which Swift's Glibc does not show: eventfd(2).
int cpq_bell(void);

// ---- answers ----

// Whether cpq_next would wait.
bool cpq_is_busy(struct cpq_connection *connection);
// NULL: the step has no more of them.
struct cpq_result *cpq_next(struct cpq_connection *connection);
void cpq_clear(struct cpq_result *result);
int cpq_kind(const struct cpq_result *result);
// One of the fields above; NULL: it has none.
const char *cpq_field(const struct cpq_result *result, int field);
// Whether it ends the connection.
bool cpq_is_fatal(const struct cpq_result *result);
int cpq_rows(const struct cpq_result *result);
int cpq_columns(const struct cpq_result *result);
uint32_t cpq_type(const struct cpq_result *result, int column);
bool cpq_is_null(const struct cpq_result *result, int row, int column);
int cpq_length(const struct cpq_result *result, int row, int column);
const char *cpq_value(const struct cpq_result *result, int row, int column);
