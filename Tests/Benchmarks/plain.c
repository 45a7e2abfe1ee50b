/* Inserts and commits what the queue's storage in PostgreSQL inserts, without any of its promises: cluster.py compiles and
 * runs it beside the storage, on the same server.
 *
 *     plain DSN IN_FLIGHT SECONDS OCTETS ENVELOPE keep|remove
 *
 * One pipelined transaction after another over one connection, IN_FLIGHT messages in each: a row of content, a row of
 * slimtad.item with ENVELOPE octets of envelope, a step of the ledger; with `remove` the items of the transaction before are
 * deleted in it. No fence, no conflicts, no receipts, no ids that could be asked for. Prints messages a second, the median
 * and the 99th percentile of a transaction in microseconds, and microseconds of the processor a message. */
#include <arpa/inet.h>
#include <endian.h>
#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { BYTEA = 17, INT4 = 23, TEXT = 25, UUID = 2950, BUCKETS = 256, NOISE = 1 << 20 };

struct column { char *octets; int length, room; };

static double seconds_by(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void die(PGconn *connection, const char *what) {
    fprintf(stderr, "plain: %s: %s\n", what, PQerrorMessage(connection));
    exit(1);
}

static void add(struct column *column, const void *octets, int length) {
    if (column->length + length > column->room) {
        column->room = (column->length + length) * 2;
        column->octets = realloc(column->octets, column->room);
    }
    memcpy(column->octets + column->length, octets, length);
    column->length += length;
}

static void add_number(struct column *column, int32_t number) {
    number = htonl(number);
    add(column, &number, 4);
}

static void begin(struct column *column, int type, int count) {
    column->length = 0;
    int32_t head[] = {1, 0, type, count, 1};
    for (int i = 0; i < 5; i++) add_number(column, head[i]);
}

static void add_element(struct column *column, const void *octets, int length) {
    add_number(column, length);
    add(column, octets, length);
}

static const char *const statements[][2] = {
    {"content", "insert into slimtad.message_00 (id, chunk, octets) select i, 0, o from unnest($1::uuid[], $2::bytea[]) x(i, o)"},
    {"item", "insert into slimtad.item (bucket, id, message, part, octets, received, due, attempts, flags, destination, recipients,"
             " delivered, bounced, expired, removed, envelope) select b, i, i, 0, $5::int8, $6::int8, $6::int8, 0, 0, d, 2, 0, 0, 0, 0, e"
             " from unnest($1::int4[], $2::uuid[], $3::text[], $4::bytea[]) x(b, i, d, e)"},
    {"ended", "delete from slimtad.item t using unnest($1::int4[], $2::uuid[]) x(b, i) where t.bucket = b and t.id = i"},
    {"step", "insert into slimtad.ledger_step values (0, $1::int8, $2::int8, 0, 0, 0, 0, 0)"},
};

static void ask(PGconn *connection, const char *name, int count, struct column *columns) {
    const char *values[8];
    int lengths[8], formats[8];
    for (int i = 0; i < count; i++) values[i] = columns[i].octets, lengths[i] = columns[i].length, formats[i] = 1;
    if (!PQsendQueryPrepared(connection, name, count, values, lengths, formats, 1)) die(connection, name);
}

static void send_step(PGconn *connection, int64_t accepted, int64_t delivered) {
    int64_t numbers[] = {htobe64(accepted), htobe64(delivered)};
    struct column columns[] = {{(char *)&numbers[0], 8, 8}, {(char *)&numbers[1], 8, 8}};
    ask(connection, "step", 2, columns);
}

/* Until the transaction is committed. */
static void wait_for_it(PGconn *connection) {
    for (;;) {
        PGresult *result = PQgetResult(connection);
        if (!result && PQstatus(connection) != CONNECTION_OK) die(connection, "connection");
        if (!result) continue;
        ExecStatusType status = PQresultStatus(result);
        if (status != PGRES_PIPELINE_SYNC && status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) die(connection, "transaction");
        PQclear(result);
        if (status == PGRES_PIPELINE_SYNC) return;
    }
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc != 7) return fprintf(stderr, "usage: plain DSN IN_FLIGHT SECONDS OCTETS ENVELOPE keep|remove\n"), 64;
    int count = atoi(argv[2]), octets = atoi(argv[4]), envelope = atoi(argv[5]), removes = !strcmp(argv[6], "remove");
    double length = atof(argv[3]);
    PGconn *connection = PQconnectdb(argv[1]);
    if (PQstatus(connection) != CONNECTION_OK) die(connection, "connect");
    PQclear(PQexec(connection, "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_hashjoin = off;"
                               " set enable_mergejoin = off; set jit = off; set synchronous_commit = on"));
    for (unsigned i = 0; i < sizeof statements / sizeof *statements; i++) {
        PGresult *result = PQprepare(connection, statements[i][0], statements[i][1], 0, 0);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) die(connection, statements[i][0]);
        PQclear(result);
    }
    char *noise = malloc(NOISE + octets + envelope);
    for (long i = 0; i < NOISE + octets + envelope; i++) noise[i] = random() >> 8;
    uint64_t state;
    if (getrandom(&state, 8, 0) != 8) return 1;
    struct column buckets = {0}, ids = {0}, names = {0}, envelopes = {0}, contents = {0}, gone[2] = {{0}, {0}};
    double *times = malloc(sizeof(double) * (1 << 20));
    long groups = 0, done = 0;
    int64_t size = htobe64(octets), now = htobe64(1700000000000);
    PQenterPipelineMode(connection);
    double start = seconds_by(CLOCK_MONOTONIC), warm = start + length / 5, end = warm + length, measured = 0, processor = 0;
    for (;;) {
        double before = seconds_by(CLOCK_MONOTONIC);
        if (!measured && before >= warm) measured = before, processor = seconds_by(CLOCK_PROCESS_CPUTIME_ID), groups = done = 0;
        if (before >= end) break;
        begin(&buckets, INT4, count), begin(&ids, UUID, count), begin(&names, TEXT, count);
        begin(&envelopes, BYTEA, count), begin(&contents, BYTEA, count);
        for (int i = 0; i < count; i++) {
            struct timespec time;
            clock_gettime(CLOCK_REALTIME, &time);
            state = state * 6364136223846793005ULL + 1442695040888963407ULL;
            uint32_t bucket = (state >> 33) % BUCKETS;
            uint64_t id[] = {htobe64((uint64_t)(time.tv_sec * 1000 + time.tv_nsec / 1000000) << 16 | bucket), state};
            int32_t number = htonl(bucket);
            add_element(&buckets, &number, 4);
            add_element(&ids, id, 16);
            add_element(&names, "d1.test", 7);
            add_element(&envelopes, noise + (state >> 40) % NOISE, envelope);
            add_element(&contents, noise + (state >> 20) % NOISE, octets);
        }
        ask(connection, "content", 2, (struct column[]){ids, contents});
        ask(connection, "item", 6,
             (struct column[]){buckets, ids, names, envelopes, {(char *)&size, 8, 8}, {(char *)&now, 8, 8}});
        send_step(connection, count * 2, 0);
        if (removes && gone[0].length) {
            ask(connection, "ended", 2, gone);
            send_step(connection, 0, count * 2);
        }
        if (!PQpipelineSync(connection)) die(connection, "sync");
        wait_for_it(connection);
        gone[0].length = gone[1].length = 0;
        add(&gone[0], buckets.octets, buckets.length);
        add(&gone[1], ids.octets, ids.length);
        if (groups < 1 << 20) times[groups] = seconds_by(CLOCK_MONOTONIC) - before;
        groups++, done += count;
    }
    double elapsed = seconds_by(CLOCK_MONOTONIC) - measured, cost = seconds_by(CLOCK_PROCESS_CPUTIME_ID) - processor;
    long kept = groups < 1 << 20 ? groups : 1 << 20;
    qsort(times, kept, sizeof *times, by_size);
    printf("%.1f %.0f %.0f %.2f\n", done / elapsed, times[kept / 2] * 1e6, times[kept * 99 / 100] * 1e6, cost * 1e6 / done);
    PQfinish(connection);
    return 0;
}
