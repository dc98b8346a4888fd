/* The load on a UDP echo server: each of its sockets sends a window of datagrams, waits for all their echoes, compares
 * every byte, and sends the next window.
 *
 *     udp_client PORT SOCKETS WINDOW SIZE WARM_UP_MS MEASURE_MS
 *
 * Prints of the measured time: the datagrams a second that came back, and the part of the time that this program was
 * running; then how many came back in all, and how many did not.  At the end it sends a datagram of one byte.
 *
 * A window is sent and received as segments (UDP_SEGMENT, UDP_GRO), so that it costs this end little.  Datagrams may be
 * lost: a window of which nothing comes for a while is given up, and what comes of it later is not counted.
 */

#include "udp_common.c"

/* At the front of each datagram: what it belongs to, and its place there. */
struct stamp {
    uint32_t window;
    uint32_t index;
};

struct flow {
    int sock;
    uint32_t window;
    long missing;
    int64_t heard;
    char *seen;
    unsigned char *sent;
};

static long window, size;
static uint64_t seed = 0x9e3779b97f4a7c15;

static void begin_window(struct flow *flow)
{
    flow->window++;
    flow->missing = window;
    flow->heard = now();
    memset(flow->seen, 0, (size_t)window);
    for (long i = 0; i < window; i++) {
        struct stamp stamp = {flow->window, (uint32_t)i};
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        memcpy(flow->sent + i * size, &stamp, sizeof stamp);
        if (size >= (long)(sizeof stamp + sizeof seed))
            memcpy(flow->sent + i * size + sizeof stamp, &seed, sizeof seed);
    }
    struct iovec vector = {flow->sent, (size_t)(window * size)};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};
    union control control;
    set_segment(&header, &control, (uint16_t)size);
    if (sendmsg(flow->sock, &header, 0) < 0 && errno != EAGAIN && errno != ENOBUFS)
        fail("sendmsg");
    errno = 0;
}

/* Receive what has come; how many datagrams of this window. */
static long receive(struct flow *flow)
{
    static unsigned char buffer[LARGEST];
    long came = 0;
    while (flow->missing) {
        struct iovec vector = {buffer, sizeof buffer};
        union control control;
        struct msghdr header = {
            .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        long got = recvmsg(flow->sock, &header, 0);
        if (got < 0 && errno == EAGAIN)
            break;
        check(got, "recvmsg");
        int segment = segment_of(&header);
        if ((segment && segment != size) || got % size != 0)
            fail("length of an echo");
        for (long at = 0; at < got; at += size) {
            struct stamp stamp;
            memcpy(&stamp, buffer + at, sizeof stamp);
            if (stamp.window != flow->window)
                continue;
            if (stamp.index >= window || flow->seen[stamp.index]++)
                fail("an echo that came twice");
            if (memcmp(buffer + at, flow->sent + stamp.index * size, (size_t)size) != 0)
                fail("bytes of an echo");
            flow->missing--;
            came++;
        }
        flow->heard = now();
    }
    errno = 0;
    return came;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)argument(argc, argv, 1, 1));
    long sockets = argument(argc, argv, 2, 1);
    window = argument(argc, argv, 3, 1);
    size = argument(argc, argv, 4, sizeof(struct stamp));
    int64_t warm_up = argument(argc, argv, 5, 0) * 1000000;
    int64_t length = argument(argc, argv, 6, 1) * 1000000;
    alarm(60);

    int epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct flow *flows = array((size_t)sockets, sizeof *flows);
    for (long i = 0; i < sockets; i++) {
        struct flow *flow = &flows[i];
        int on = 1;
        flow->sock = (int)check(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
        check(connect(flow->sock, (struct sockaddr *)&address, sizeof address), "connect");
        check(setsockopt(flow->sock, IPPROTO_UDP, UDP_GRO, &on, sizeof on), "setsockopt");
        flow->sent = array((size_t)window, (size_t)size);
        flow->seen = array((size_t)window, 1);
        for (long at = 0; at < window * size; at++)
            flow->sent[at] = (unsigned char)(at * 31 + i);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = flow};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, flow->sock, &event), "epoll_ctl");
        begin_window(flow);
    }

    int64_t begin = now() + warm_up;
    int64_t end = begin + length;
    int64_t used = -1;
    long counted = 0, all = 0, lost = 0;
    for (;;) {
        struct epoll_event batch[BATCH];
        long count = check(epoll_wait(epoll, batch, BATCH, 20), "epoll_wait");
        int64_t time = now();
        if (used < 0 && time >= begin)
            used = spent();
        if (time >= end && counted > 0)
            break;
        for (long i = 0; i < count; i++) {
            struct flow *flow = batch[i].data.ptr;
            long came = receive(flow);
            all += came;
            counted += time >= begin ? came : 0;
            if (flow->missing == 0)
                begin_window(flow);
        }
        for (long i = 0; i < sockets; i++) {
            if (time - flows[i].heard > 20000000) {
                lost += flows[i].missing;
                begin_window(&flows[i]);
            }
        }
    }
    int64_t stopped = now();
    used = spent() - used;
    /* More than once, since it may be lost like any other. */
    for (int i = 0; i < 10; i++) {
        if (send(flows[0].sock, "", 1, 0) < 0 && errno == ECONNREFUSED)
            break;
        usleep(1000);
    }
    double measured = (double)(stopped - begin);
    printf("%.1f %.3f %ld %ld\n", (double)counted * 1e9 / measured, (double)used / measured, all, lost);
    return 0;
}
