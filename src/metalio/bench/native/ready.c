/* The limit of the ready benchmark: one poll of descriptors that are all ready, and stay so.
 *
 *     ready DESCRIPTORS EVENTS LAPS
 */

#include "common.c"
#include <sys/epoll.h>
#include <sys/socket.h>

static long descriptors;
static int epoll;
/* What the token is to a Python program: found through the event, and used. */
static void *volatile token;

static long run(long count)
{
    struct epoll_event batch[BATCH];
    long done = 0;
    while (done < count) {
        long ready = check(epoll_wait(epoll, batch, BATCH, -1), "epoll_wait");
        if (ready != descriptors)
            fail("ready descriptors");
        for (long i = 0; i < ready; i++) {
            token = batch[i].data.ptr;
            if (!(batch[i].events & EPOLLIN))
                fail("readable");
        }
        done += ready;
    }
    return done;
}

int main(int argc, char **argv)
{
    descriptors = argument(argc, argv, 1, 1);
    long events = argument(argc, argv, 2, 1);
    long laps = argument(argc, argv, 3, 1);
    alarm(60);

    int(*ends)[2] = array((size_t)descriptors, sizeof *ends);
    epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    for (long i = 0; i < descriptors; i++) {
        check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends[i]), "socketpair");
        check(send(ends[i][1], "e", 1, MSG_NOSIGNAL), "send");
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = ends[i]};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[i][0], &event), "epoll_ctl");
    }
    measure(run, events, laps);
    return 0;
}
