/* Posts messages as fast as they are taken, over SMTP or HTTP, each connection one after the other and kept: http.py
 * compiles and runs it.
 *
 *     load smtp|http HOST PORT CONNECTIONS SECONDS OCTETS
 *
 * Prints the messages that were taken, the seconds, and the median and 99th percentile of the time of one, in ms, from its
 * first octet to the last one of its reply. SMTP is not pipelined: four round trips a message. Ends with 1 at anything that
 * is not the reply that it waits for. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/* What is sent, what the reply begins with, and where it ends. */
struct step { const char *sent; size_t length; const char *expected, *end; };

struct connection { int fd, step; size_t written, got; char reply[4096]; double began; };

static double *times;
static size_t taken, room;

static void die(const char *what, const char *more) {
    fprintf(stderr, "load: %s: %s\n", what, more);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* A message of about `octets` octets, in lines. */
static char *message(size_t octets) {
    static const char head[] =
        "From: sender@origin.test\r\nTo: someone@one.test\r\nSubject: a message\r\n"
        "Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <load@origin.test>\r\n\r\n";
    char *text = malloc(octets + sizeof head + 128);
    size_t length = sizeof head - 1;
    memcpy(text, head, length);
    while (length < octets) {
        memset(text + length, 'x', 70);
        memcpy(text + length + 70, "\r\n", 2);
        length += 72;
    }
    text[length] = 0;
    return text;
}

static struct step step(char *sent, const char *expected, const char *end) {
    return (struct step){sent, strlen(sent), expected, end};
}

/* Sends what is left of a connection's step. */
static void push(struct connection *c, const struct step *steps) {
    const struct step *s = &steps[c->step];
    while (c->written < s->length) {
        ssize_t n = write(c->fd, s->sent + c->written, s->length - c->written);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) die("write", strerror(errno));
        c->written += n;
    }
}

static void begin(struct connection *c, const struct step *steps, int which) {
    if (which == 0) c->began = now();
    c->step = which, c->written = 0, c->got = 0;
    push(c, steps);
}

/* Reads; behind a whole reply the next step begins, behind the last one the next message. */
static void pull(struct connection *c, const struct step *steps, int count, int goes_on) {
    for (;;) {
        ssize_t n = read(c->fd, c->reply + c->got, sizeof c->reply - 1 - c->got);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) die("read", n ? strerror(errno) : "closed");
        c->got += n;
        c->reply[c->got] = 0;
        const struct step *s = &steps[c->step];
        if (!strstr(c->reply, s->end)) continue;
        if (strncmp(c->reply, s->expected, strlen(s->expected))) die("refused", c->reply);
        if (c->step + 1 < count) {
            begin(c, steps, c->step + 1);
            continue;
        }
        if (taken == room) times = realloc(times, (room = room * 2 + 4096) * sizeof *times);
        times[taken++] = now() - c->began;
        if (!goes_on) { c->step = -1; return; }
        begin(c, steps, 0);
    }
}

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 7) die("arguments", "smtp|http HOST PORT CONNECTIONS SECONDS OCTETS");
    int smtp = !strcmp(argv[1], "smtp"), count = atoi(argv[4]);
    char *content = message(atoi(argv[6])), *text;
    struct step steps[4];
    int last;
    if (smtp) {
        steps[0] = step("MAIL FROM:<sender@origin.test>\r\n", "250 ", "\r\n");
        steps[1] = step("RCPT TO:<someone@one.test>\r\n", "250 ", "\r\n");
        steps[2] = step("DATA\r\n", "354 ", "\r\n");
        if (asprintf(&text, "%s.\r\n", content) < 0) return 1;
        steps[3] = step(text, "250 ", "\r\n");
        last = 4;
    } else {
        if (asprintf(&text,
                     "POST / HTTP/1.1\r\nHost: %s:%s\r\nX-Ehlo: load.test\r\nX-Envelope-Sender: c2VuZGVyQG9yaWdpbi50ZXN0\r\n"
                     "X-Envelope-Recipient: c29tZW9uZUBvbmUudGVzdA==\r\nContent-Type: message/rfc822\r\nContent-Length: %zu\r\n\r\n%s",
                     argv[2], argv[3], strlen(content), content) < 0) return 1;
        steps[0] = step(text, "HTTP/1.1 200 ", "\r\n\r\n");
        last = 1;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    inet_pton(AF_INET, argv[2], &address.sin_addr);
    struct connection *all = calloc(count, sizeof *all);
    int poll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct connection *c = &all[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect", strerror(errno));
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (smtp) {
            char reply[4096];
            if (read(c->fd, reply, sizeof reply) <= 0 || write(c->fd, "HELO load.test\r\n", 16) != 16
                || read(c->fd, reply, sizeof reply) <= 0) die("greeting", argv[3]);
        }
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event)) die("epoll", strerror(errno));
        if (fcntl(c->fd, F_SETFL, O_NONBLOCK)) die("fcntl", strerror(errno));
    }
    double start = now(), end = start + atof(argv[5]);
    for (int i = 0; i < count; i++) begin(&all[i], steps, 0);
    int busy = count;
    while (busy) {
        struct epoll_event events[64];
        int found = epoll_wait(poll, events, 64, 10000);
        if (!found) die("epoll", "nothing came for 10 s");
        for (int i = 0; i < found; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->step < 0) continue;
            if (events[i].events & EPOLLOUT) push(c, steps);
            pull(c, steps, last, now() < end);
            if (c->step < 0) busy--;
        }
    }
    double lasted = now() - start;
    qsort(times, taken, sizeof *times, order);
    printf("%zu %.3f %.3f %.3f\n", taken, lasted, times[taken / 2] * 1e3, times[taken * 99 / 100] * 1e3);
    return 0;
}
