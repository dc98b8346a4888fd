/* The limit of the churn benchmark's first half: add a socket to an epoll set, and delete it.
 *
 *     register COUNT LAPS
 */

#include "common.c"
#include <sys/epoll.h>
#include <sys/socket.h>

static int ends[2];
static int epoll;

static long run(long count)
{
    for (long i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event), "epoll_ctl");
        check(epoll_ctl(epoll, EPOLL_CTL_DEL, ends[0], NULL), "epoll_ctl");
    }
    return count;
}

int main(int argc, char **argv)
{
    long count = argument(argc, argv, 1, 1);
    long laps = argument(argc, argv, 2, 1);
    alarm(60);

    epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), "socketpair");
    measure(run, count, laps);
    return 0;
}
