/* The limit of the wake benchmark: two processes that wake one another, each by an eventfd in an epoll set.
 *
 *     wake TRIPS LAPS
 */

#include "common.c"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

static int bells[2], polls[2];

static void ring(int side)
{
    uint64_t one = 1;
    if (write(bells[side], &one, sizeof one) != sizeof one)
        fail("write");
}

static void hear(int side)
{
    struct epoll_event batch[BATCH];
    uint64_t rings;
    if (check(epoll_wait(polls[side], batch, BATCH, -1), "epoll_wait") != 1)
        fail("events");
    if (read(bells[side], &rings, sizeof rings) != sizeof rings || rings != 1)
        fail("read");
}

int main(int argc, char **argv)
{
    long trips = argument(argc, argv, 1, 1);
    long laps = argument(argc, argv, 2, 1);
    alarm(60);
    for (int side = 0; side < 2; side++) {
        struct epoll_event event = {.events = EPOLLIN};
        bells[side] = (int)check(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
        polls[side] = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
        check(epoll_ctl(polls[side], EPOLL_CTL_ADD, bells[side], &event), "epoll_ctl");
    }
    long warm_up = trips / 10 + 1;
    pid_t child = (pid_t)check(fork(), "fork");
    if (child == 0) {
        alarm(60);
        for (long trip = 0; trip < warm_up + trips * laps; trip++) {
            hear(1);
            ring(0);
        }
        return 0;
    }
    for (long trip = 0; trip < warm_up; trip++) {
        ring(1);
        hear(0);
    }
    for (long lap = 0; lap < laps; lap++) {
        int64_t begin = now();
        for (long trip = 0; trip < trips; trip++) {
            ring(1);
            hear(0);
        }
        printf("%.3f\n", (double)(now() - begin) / (double)trips);
    }
    int status;
    check(waitpid(child, &status, 0), "waitpid");
    if (status != 0)
        fail("the other process");
    return 0;
}
