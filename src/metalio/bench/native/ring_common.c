/* A ring of socket pairs: each event reads a byte and writes one to the next pair. */

#include "common.c"
#include <sys/epoll.h>
#include <sys/socket.h>

struct ring {
    long pairs;
    int (*ends)[2];
    int epoll;
};

/* With so many bytes under way. */
static UNUSED struct ring open_ring(long pairs, long active)
{
    struct ring ring = {.pairs = pairs, .ends = array((size_t)pairs, sizeof *ring.ends)};
    ring.epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    for (long i = 0; i < pairs; i++) {
        check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ring.ends[i]), "socketpair");
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = (uint32_t)i};
        check(epoll_ctl(ring.epoll, EPOLL_CTL_ADD, ring.ends[i][0], &event), "epoll_ctl");
    }
    for (long i = 0; i < active; i++)
        check(send(ring.ends[i * pairs / active][1], "e", 1, MSG_NOSIGNAL), "send");
    return ring;
}

/* At least so many events; how many there were. */
static UNUSED long run_ring(const struct ring *ring, long count)
{
    struct epoll_event batch[BATCH];
    long done = 0;
    char byte;
    while (done < count) {
        long ready = check(epoll_wait(ring->epoll, batch, BATCH, -1), "epoll_wait");
        for (long i = 0; i < ready; i++) {
            if (!(batch[i].events & EPOLLIN))
                continue;
            long index = batch[i].data.u32;
            long next = index + 1 == ring->pairs ? 0 : index + 1;
            if (recv(ring->ends[index][0], &byte, 1, 0) != 1)
                fail("recv");
            if (send(ring->ends[next][1], "e", 1, MSG_NOSIGNAL) != 1)
                fail("send");
        }
        done += ready;
    }
    return done;
}

/* Whether all the bytes are still there. */
static UNUSED void verify_ring(const struct ring *ring, long active)
{
    char left[64];
    for (long i = 0; i < ring->pairs; i++) {
        long got = recv(ring->ends[i][0], left, sizeof left, 0);
        active -= got > 0 ? got : 0;
    }
    errno = 0;
    if (active != 0)
        fail("bytes in the ring");
}
