/* The load on an echo server: each connection sends a message, waits for its echo, compares every byte, and goes on.
 *
 *     echo_client PORT CONNECTIONS SIZE WARM_UP_MS MEASURE_MS MOST_ECHOES
 *
 * Prints of the measured time, which ends early at MOST_ECHOES but not before the first echo: the echoes a second; the
 * median and the 99th percentile of the nanoseconds from sending a message to having its echo; and the part of the time
 * that this program was running.  Then how many echoes there were in all, warm-up and end included.  Ends with an error
 * at the first byte that is wrong, and when a connection closes before its time.
 *
 * A message is a piece of a pool of random bytes, and so is the next one, from another place: an old or another's echo
 * cannot pass for the right one, and making one costs nothing.  It begins at a multiple of eight bytes.
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
    long sent;
    long received;
    int64_t begun;
    const unsigned char *message;
};

/* Latencies by their order of magnitude, and 64 steps within one: 1.6 % apart. */
enum { ORDERS = 40, STEPS = 64, PLACES = 1 << 17 };

static long size;
static unsigned char *pool;
static uint64_t seed = 0x9e3779b97f4a7c15;
static long latencies[ORDERS * STEPS];

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void note(int64_t latency)
{
    uint64_t value = latency < STEPS ? STEPS : (uint64_t)latency;
    int order = 63 - __builtin_clzll(value);
    long step = (long)(value >> (order - 6)) - STEPS;
    long index = (order - 6) * STEPS + step;
    latencies[index < ORDERS * STEPS ? index : ORDERS * STEPS - 1]++;
}

/* The latency that so many in a hundred do not exceed. */
static double percentile(long count, long hundredths)
{
    long wanted = (count * hundredths + 99) / 100;
    long seen = 0;
    for (long index = 0; index < ORDERS * STEPS; index++) {
        seen += latencies[index];
        if (seen >= wanted)
            return (double)(((uint64_t)(STEPS + index % STEPS)) << (index / STEPS));
    }
    return 0;
}

/* Send what there is room for. */
static void send_rest(struct connection *connection)
{
    while (connection->sent < size) {
        long put = send(connection->stream, connection->message + connection->sent, (size_t)(size - connection->sent),
                        MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN)
            break;
        connection->sent += check(put, "send");
    }
    errno = 0;
}

static void begin_message(struct connection *connection)
{
    connection->message = pool + next_random() % PLACES * 8;
    connection->sent = connection->received = 0;
    connection->begun = now();
    send_rest(connection);
}

/* Receive what has come of the echo.  Whether it is complete. */
static int receive_echo(struct connection *connection)
{
    static unsigned char buffer[65536];
    while (connection->received < size) {
        /* Asks for more than is due, since a byte too many is an error too. */
        long got = recv(connection->stream, buffer, sizeof buffer, 0);
        if (got < 0 && errno == EAGAIN) {
            errno = 0;
            return 0;
        }
        check(got, "recv");
        if (got == 0 || got > connection->sent - connection->received)
            fail(got == 0 ? "connection closed early" : "length of an echo");
        if (memcmp(buffer, connection->message + connection->received, (size_t)got) != 0)
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

    pool = array(1, PLACES * 8 + (size_t)size + 8);
    for (size_t i = 0; i + 8 <= PLACES * 8 + (size_t)size + 8; i += 8) {
        uint64_t word = next_random();
        memcpy(pool + i, &word, 8);
    }
    int epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct connection *all = array((size_t)connections, sizeof *all);
    for (long i = 0; i < connections; i++) {
        struct connection *connection = &all[i];
        connection->stream = (int)check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        check(connect(connection->stream, (struct sockaddr *)&address, sizeof address), "connect");
        int on = 1;
        check(setsockopt(connection->stream, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt");
        check(fcntl(connection->stream, F_SETFL, O_NONBLOCK), "fcntl");
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, connection->stream, &event), "epoll_ctl");
    }
    for (long i = 0; i < connections; i++)
        begin_message(&all[i]);

    int64_t begin = now() + warm_up;
    int64_t end = begin + length;
    int64_t stopped = 0;
    int64_t used = -1;
    long echoes = 0;
    long all_echoes = 0;
    long awaited = connections;
    while (awaited > 0) {
        struct epoll_event batch[BATCH];
        long count = check(epoll_wait(epoll, batch, BATCH, -1), "epoll_wait");
        for (long i = 0; i < count; i++) {
            struct connection *connection = batch[i].data.ptr;
            if (connection->sent < size)
                send_rest(connection);
            if (!receive_echo(connection))
                continue;
            int64_t time = now();
            if (used < 0 && time >= begin)
                used = spent();
            /* From here on nothing more is sent, but what is due must still come and be right. */
            if (stopped == 0 && ((time >= end && echoes > 0) || echoes >= most)) {
                stopped = time;
                used = spent() - used;
            }
            all_echoes++;
            if (stopped != 0) {
                close(connection->stream);
                awaited--;
                continue;
            }
            if (time >= begin) {
                echoes++;
                note(time - connection->begun);
            }
            begin_message(connection);
        }
    }
    double length_measured = (double)(stopped - begin);
    printf("%.1f %.0f %.0f %.3f %ld\n", (double)echoes * 1e9 / length_measured, percentile(echoes, 50),
           percentile(echoes, 99), (double)used / length_measured, all_echoes);
    return 0;
}
