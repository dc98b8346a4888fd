/* A UDP echo server on raw epoll: the limit of the benchmark of datagrams.
 *
 *     udp_server single|batched|segmented
 *
 * Prints its port, and ends at a datagram of one byte.
 */

#include "udp_common.c"

enum { MANY = 64, SMALL = 2048 };

static int sock;

/* Echo what is there; whether to go on. */
static int single(void)
{
    static char buffer[LARGEST];
    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        long got = recvfrom(sock, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
        if (got < 0 && errno == EAGAIN)
            return 1;
        if (check(got, "recvfrom") == 1)
            return 0;
        if (sendto(sock, buffer, (size_t)got, 0, (struct sockaddr *)&from, length) < 0 && errno != EAGAIN)
            fail("sendto");
    }
}

static int many(size_t size, int segmented)
{
    static char *buffers;
    static struct mmsghdr messages[MANY];
    static struct sockaddr_in from[MANY];
    static struct iovec vectors[MANY];
    static union control controls[MANY];
    if (buffers == NULL)
        buffers = array(MANY, size);
    for (;;) {
        for (int i = 0; i < MANY; i++) {
            vectors[i] = (struct iovec){buffers + (size_t)i * size, size};
            messages[i].msg_hdr = (struct msghdr){&from[i], sizeof from[i], &vectors[i], 1, NULL, 0, 0};
            if (segmented) {
                messages[i].msg_hdr.msg_control = &controls[i];
                messages[i].msg_hdr.msg_controllen = sizeof controls[i];
            }
        }
        int got = recvmmsg(sock, messages, MANY, MSG_DONTWAIT, NULL);
        if (got < 0 && errno == EAGAIN)
            return 1;
        check(got, "recvmmsg");
        for (int i = 0; i < got; i++) {
            if (messages[i].msg_len == 1)
                return 0;
            int segment = segmented ? segment_of(&messages[i].msg_hdr) : 0;
            messages[i].msg_hdr.msg_control = NULL;
            messages[i].msg_hdr.msg_controllen = 0;
            if (segment)
                set_segment(&messages[i].msg_hdr, &controls[i], (uint16_t)segment);
            vectors[i].iov_len = messages[i].msg_len;
        }
        if (sendmmsg(sock, messages, (unsigned)got, MSG_DONTWAIT) < 0 && errno != EAGAIN)
            fail("sendmmsg");
    }
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    int segmented = strcmp(how, "segmented") == 0, batched = strcmp(how, "batched") == 0;
    if (!segmented && !batched && strcmp(how, "single") != 0) {
        fprintf(stderr, "%s: argument 1 is single, batched or segmented\n", argv[0]);
        return 2;
    }
    alarm(60);
    sock = (int)check(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    check(bind(sock, (struct sockaddr *)&address, length), "bind");
    check(getsockname(sock, (struct sockaddr *)&address, &length), "getsockname");
    if (segmented)
        check(setsockopt(sock, IPPROTO_UDP, UDP_GRO, &segmented, sizeof segmented), "setsockopt");
    int epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &event), "epoll_ctl");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event batch[BATCH];
        check(epoll_wait(epoll, batch, BATCH, -1), "epoll_wait");
        if (!(segmented ? many(LARGEST, 1) : batched ? many(SMALL, 0) : single()))
            return 0;
    }
}
