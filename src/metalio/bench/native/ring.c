/* The limit of the ring benchmark.
 *
 *     ring PAIRS ACTIVE EVENTS LAPS [IDLE ...]
 *
 * With numbers of idle descriptors, which have to grow: prints the least ns an event beside each of them instead.
 */

#include "ring_common.c"
#include <fcntl.h>

static struct ring ring;

static long run(long count)
{
    return run_ring(&ring, count);
}

int main(int argc, char **argv)
{
    long pairs = argument(argc, argv, 1, 1);
    long active = argument(argc, argv, 2, 1);
    long events = argument(argc, argv, 3, 1);
    long laps = argument(argc, argv, 4, 1);
    alarm(60);

    ring = open_ring(pairs, active);
    if (argc <= 5)
        measure(run, events, laps);
    int idle[2];
    check(pipe2(idle, O_NONBLOCK | O_CLOEXEC), "pipe2");
    long watched = 0;
    for (int stage = 5; stage < argc; stage++) {
        for (long wanted = argument(argc, argv, stage, watched); watched < wanted; watched++) {
            struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = (uint32_t)pairs};
            check(epoll_ctl(ring.epoll, EPOLL_CTL_ADD, (int)check(dup(idle[0]), "dup"), &event), "epoll_ctl");
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
    verify_ring(&ring, active);
    return 0;
}
