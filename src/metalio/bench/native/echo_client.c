/* The load on an echo server: each connection sends a message, waits for its echo, compares every byte, and goes on.
 *
 *     echo_client PORT CONNECTIONS SIZE WARM_UP_MS MEASURE_MS MOST_ECHOES
 *
 * Prints the echoes a second of the measured time, which ends early at MOST_ECHOES but not before the first echo, and
 * how many echoes there were in all, warm-up and end included.  Ends with an error at the first byte that is wrong, and when a connection closes
 * before its time.
 */

#include "common.c"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct connection {
    int stream;
    long received;
    uint64_t number;
    unsigned char *sent;
};

static long size;
static int epoll;

/* Fill the message anew, so that an old or another's echo cannot pass for the right one, and send it. */
static void send_message(struct connection *connection)
{
    uint64_t word = connection->number += 0x9e3779b97f4a7c15;
    for (long i = 0; i < size; i++) {
        if (i % 8 == 0) {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
        }
        connection->sent[i] = (unsigned char)(word >> (i % 8 * 8));
    }
    connection->received = 0;
    /* Nothing else is under way on this connection: a socket's buffer has room for all of it. */
    if (send(connection->stream, connection->sent, (size_t)size, MSG_NOSIGNAL) != size)
        fail("send");
}

/* Receive what has come of the echo.  Whether it is complete. */
static int receive_echo(struct connection *connection)
{
    static unsigned char buffer[65536];
    while (connection->received < size) {
        /* Asks for more than is due, since a byte too many is an error too. */
        long got = recv(connection->stream, buffer, sizeof buffer, 0);
        if (got < 0 && errno == EAGAIN)
            return 0;
        check(got, "recv");
        errno = 0;
        if (got == 0 || got > size - connection->received)
            fail(got == 0 ? "connection closed early" : "length of an echo");
        if (memcmp(buffer, connection->sent + connection->received, (size_t)got) != 0)
            fail("bytes of an echo");
        connection->received += got;
    }
    return 1;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)argument(argc, argv, 1, 1));
    long connections = argument(argc, argv, 2, 1);
    size = argument(argc, argv, 3, 1);
    int64_t warm_up = argument(argc, argv, 4, 0) * 1000000;
    int64_t length = argument(argc, argv, 5, 1) * 1000000;
    long most = argument(argc, argv, 6, 1);
    alarm(60);

    epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct connection *all = array((size_t)connections, sizeof *all);
    for (long i = 0; i < connections; i++) {
        struct connection *connection = &all[i];
        connection->number = (uint64_t)i + 1;
        connection->sent = array((size_t)size, 1);
        connection->stream = (int)check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        check(connect(connection->stream, (struct sockaddr *)&address, sizeof address), "connect");
        int on = 1;
        check(setsockopt(connection->stream, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt");
        check(fcntl(connection->stream, F_SETFL, O_NONBLOCK), "fcntl");
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, connection->stream, &event), "epoll_ctl");
    }
    for (long i = 0; i < connections; i++)
        send_message(&all[i]);

    int64_t begin = now() + warm_up;
    int64_t end = begin + length;
    int64_t stopped = 0;
    long echoes = 0;
    long all_echoes = 0;
    long awaited = connections;
    while (awaited > 0) {
        struct epoll_event batch[BATCH];
        long count = check(epoll_wait(epoll, batch, BATCH, -1), "epoll_wait");
        int64_t time = now();
        /* From here on nothing more is sent, but what is due must still come and be right. */
        if (stopped == 0 && ((time >= end && echoes > 0) || echoes >= most))
            stopped = time;
        for (long i = 0; i < count; i++) {
            struct connection *connection = batch[i].data.ptr;
            if (!receive_echo(connection))
                continue;
            all_echoes++;
            if (stopped != 0) {
                close(connection->stream);
                awaited--;
                continue;
            }
            echoes += time >= begin;
            send_message(connection);
        }
    }
    printf("%.1f %ld\n", (double)echoes * 1e9 / (double)(stopped - begin), all_echoes);
    return 0;
}
