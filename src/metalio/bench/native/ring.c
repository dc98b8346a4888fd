/* The limit of the ring benchmark: each event reads a byte and writes one to the next pair.
 *
 *     ring PAIRS ACTIVE EVENTS LAPS [IDLE ...]
 *
 * With numbers of idle descriptors, which have to grow: prints the least ns an event beside each of them instead.
 */

#include "common.c"
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static long pairs;
static int (*ends)[2];
static int epoll;

static long run(long count)
{
    struct epoll_event batch[BATCH];
    long done = 0;
    char byte;
    while (done < count) {
        long ready = check(epoll_wait(epoll, batch, BATCH, -1), "epoll_wait");
        for (long i = 0; i < ready; i++) {
            if (!(batch[i].events & EPOLLIN))
                continue;
            long index = batch[i].data.u32;
            long next = index + 1 == pairs ? 0 : index + 1;
            if (recv(ends[index][0], &byte, 1, 0) != 1)
                fail("recv");
            if (send(ends[next][1], "e", 1, MSG_NOSIGNAL) != 1)
                fail("send");
        }
        done += ready;
    }
    return done;
}

int main(int argc, char **argv)
{
    pairs = argument(argc, argv, 1, 1);
    long active = argument(argc, argv, 2, 1);
    long events = argument(argc, argv, 3, 1);
    long laps = argument(argc, argv, 4, 1);
    alarm(60);

    ends = array((size_t)pairs, sizeof *ends);
    epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    for (long i = 0; i < pairs; i++) {
        check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends[i]), "socketpair");
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = (uint32_t)i};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[i][0], &event), "epoll_ctl");
    }
    for (long i = 0; i < active; i++)
        check(send(ends[i * pairs / active][1], "e", 1, MSG_NOSIGNAL), "send");

    if (argc <= 5)
        measure(run, events, laps);
    int idle[2];
    check(pipe2(idle, O_NONBLOCK | O_CLOEXEC), "pipe2");
    long watched = 0;
    for (int stage = 5; stage < argc; stage++) {
        for (long wanted = argument(argc, argv, stage, watched); watched < wanted; watched++) {
            struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = (uint32_t)(pairs)};
            check(epoll_ctl(epoll, EPOLL_CTL_ADD, (int)check(dup(idle[0]), "dup"), &event), "epoll_ctl");
        }
        double least = 0;
        run(events / 10 + 1);
        for (long lap = 0; lap < laps; lap++) {
            int64_t begin = spent();
            long done = run(events);
            double each = (double)(spent() - begin) / (double)done;
            least = lap && least < each ? least : each;
        }
        printf("%.3f\n", least);
    }

    char left[64];
    for (long i = 0; i < pairs; i++) {
        long got = recv(ends[i][0], left, sizeof left, 0);
        active -= got > 0 ? got : 0;
    }
    errno = 0;
    if (active != 0)
        fail("bytes in the ring");
    return 0;
}
