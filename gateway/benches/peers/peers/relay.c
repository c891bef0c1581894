// A byte relay: for each client one connection to the upstream, bytes copied both ways, nothing parsed.
// It shows what a proxy's system calls cost, and so what no proxy can go below.
//
//     relay LISTEN_PORT UPSTREAM_PORT

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FD = 65536, MAX_EVENTS = 512, BUFFER = 16 * 1024 };

static int other_end[MAX_FD];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(const char *port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static void accept_all(int epoll, int listener, const struct sockaddr_in *upstream) {
    int client;
    while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        int server = socket(AF_INET, SOCK_STREAM, 0);
        if (server < 0 || client >= MAX_FD || server >= MAX_FD) die("socket");
        if (connect(server, (const struct sockaddr *)upstream, sizeof *upstream) < 0) die("connect");
        other_end[client] = server;
        other_end[server] = client;
        watch(epoll, client);
        watch(epoll, server);
    }
}

// Waits where a full pipeline would have to queue: the messages here are small.
static int write_all(int fd, const char *bytes, ssize_t length) {
    while (length > 0) {
        ssize_t n = send(fd, bytes, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            bytes += n;
            length -= n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, -1);
        } else {
            return 0;
        }
    }
    return 1;
}

// One read for each event, as the messages fit; epoll reports again if there is more.
static void relay(int fd, char *buffer) {
    int other = other_end[fd];
    if (other < 0) return;  // closed with its other end, earlier in this batch
    ssize_t n = recv(fd, buffer, BUFFER, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n > 0 && write_all(other, buffer, n)) return;
    other_end[fd] = other_end[other] = -1;
    close(fd);
    close(other);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: relay LISTEN_PORT UPSTREAM_PORT\n");
        return 2;
    }
    struct sockaddr_in own = loopback(argv[1]), upstream = loopback(argv[2]);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) < 0) die("bind");
    if (listen(listener, 4096) < 0) die("listen");
    watch(epoll, listener);

    static char buffer[BUFFER];
    static struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int n = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) accept_all(epoll, listener, &upstream);
            else relay(events[i].data.fd, buffer);
        }
    }
}
