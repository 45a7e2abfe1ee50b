/* An SMTP server that takes no recipient now, as fast as it is asked: cluster_million.py compiles and runs it.
 *
 *     later ADDRESS PORT
 *
 * Runs until it is killed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct session { int fd, length; char text[8192]; };

static const char *answer(const char *line) {
    switch (line[0] & ~32) {
    case 'E': return "250-later\r\n250-PIPELINING\r\n250 8BITMIME\r\n";
    case 'R': return (line[1] & ~32) == 'C' ? "452 4.2.2 The mailbox is full\r\n" : "250 2.0.0 Ok\r\n";
    case 'D': return "503 5.5.1 No recipients\r\n";
    case 'Q': return "221 2.0.0 Bye\r\n";
    default: return "250 2.0.0 Ok\r\n";
    }
}

static int take(struct session *session) {
    ssize_t count = recv(session->fd, session->text + session->length, sizeof session->text - session->length, 0);
    if (count <= 0) return count < 0 && errno == EAGAIN;
    session->length += count;
    char answers[16384];
    int room = 0, goes_on = 1;
    char *line = session->text, *end;
    while (goes_on && room < 16000 && (end = memchr(line, '\n', session->text + session->length - line))) {
        room += sprintf(answers + room, "%s", answer(line));
        goes_on = (line[0] & ~32) != 'Q';
        line = end + 1;
    }
    session->length -= line - session->text;
    memmove(session->text, line, session->length);
    return send(session->fd, answers, room, MSG_NOSIGNAL) == room && goes_on && session->length < (int)sizeof session->text;
}

int main(int argc, char **argv) {
    struct sockaddr_in place = {.sin_family = AF_INET};
    if (argc != 3 || inet_pton(AF_INET, argv[1], &place.sin_addr) != 1) return fprintf(stderr, "usage: later ADDRESS PORT\n"), 64;
    place.sin_port = htons(atoi(argv[2]));
    int one = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(server, (struct sockaddr *)&place, sizeof place) || listen(server, 4096)) return perror("later"), 1;
    struct epoll_event events[256], event = {.events = EPOLLIN};
    epoll_ctl(poll, EPOLL_CTL_ADD, server, &event);
    for (;;) {
        int count = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            struct session *session = events[i].data.ptr;
            if (session) {
                if (take(session)) continue;
                close(session->fd);
                free(session);
                continue;
            }
            int fd = accept4(server, 0, 0, SOCK_NONBLOCK);
            if (fd < 0) continue;
            session = calloc(1, sizeof *session);
            session->fd = fd;
            event = (struct epoll_event){.events = EPOLLIN, .data.ptr = session};
            epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
            if (send(fd, "220 later ESMTP\r\n", 17, MSG_NOSIGNAL) < 0) continue;
        }
    }
}
