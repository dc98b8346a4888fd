/* An echo server over TCP on raw epoll: the limit of the benchmarks of echoes.
 *
 *     echo_server CONNECTIONS
 *
 * Prints its port, serves that many connections and ends when the last of them has.
 */

#include "common.c"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct connection {
    int stream;
    /* What the socket had no room for. */
    long begin, end;
    char *rest;
};

static char buffer[65536];

static long send_some(int stream, const char *data, long size)
{
    long put = send(stream, data, (size_t)size, MSG_NOSIGNAL);
    if (put < 0 && errno == EAGAIN)
        return 0;
    return check(put, "send");
}

/* Echo until a read is short or would block, or `ended`, until the end.  Whether the connection is still open. */
static int echo(struct connection *connection, int ended)
{
    if (connection->begin < connection->end) {
        long left = connection->end - connection->begin;
        long put = send_some(connection->stream, connection->rest + connection->begin, left);
        connection->begin += put;
        if (put < left)
            return 1;
    }
    for (;;) {
        long got = recv(connection->stream, buffer, sizeof buffer, 0);
        if (got == 0)
            return 0;
        if (got < 0 && errno == EAGAIN)
            return 1;
        check(got, "recv");
        long put = send_some(connection->stream, buffer, got);
        if (put < got) {
            if (connection->rest == NULL)
                connection->rest = array(1, sizeof buffer);
            memcpy(connection->rest, buffer + put, (size_t)(got - put));
            connection->begin = 0;
            connection->end = got - put;
            return 1;
        }
        if (got < (long)sizeof buffer && !ended)
            return 1;
    }
}

int main(int argc, char **argv)
{
    long connections = argument(argc, argv, 1, 1);
    alarm(60);

    int epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    int listener = (int)check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    check(bind(listener, (struct sockaddr *)&address, length), "bind");
    check(listen(listener, (int)connections), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    while (connections > 0) {
        struct epoll_event batch[BATCH];
        long count = check(epoll_wait(epoll, batch, BATCH, -1), "epoll_wait");
        for (long i = 0; i < count; i++) {
            struct connection *connection = batch[i].data.ptr;
            if (connection != NULL) {
                if (!echo(connection, (batch[i].events & (EPOLLRDHUP | EPOLLHUP)) != 0)) {
                    close(connection->stream);
                    free(connection->rest);
                    free(connection);
                    connections--;
                }
                continue;
            }
            for (;;) {
                int stream = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (stream < 0)
                    break;
                int on = 1;
                check(setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt");
                connection = array(1, sizeof *connection);
                connection->stream = stream;
                event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
                event.data.ptr = connection;
                check(epoll_ctl(epoll, EPOLL_CTL_ADD, stream, &event), "epoll_ctl");
            }
            if (errno != EAGAIN)
                fail("accept4");
        }
    }
    return 0;
}
