/* The limit of the churn benchmark's second half: accept, register, deregister, close.
 *
 *     accept CONNECTIONS BATCHES
 *
 * Connections are made in batches by the same thread and only the server's side is timed.  Prints ns a connection,
 * one batch a line.
 */

#include "common.c"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    long connections = argument(argc, argv, 1, 1);
    long batches = argument(argc, argv, 2, 1);
    alarm(60);

    int epoll = (int)check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    int listener = (int)check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    check(bind(listener, (struct sockaddr *)&address, length), "bind");
    check(listen(listener, (int)connections), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");

    int *clients = array((size_t)connections, sizeof *clients);
    int *accepted = array((size_t)connections, sizeof *accepted);
    for (long batch = 0; batch < batches; batch++) {
        for (long i = 0; i < connections; i++) {
            clients[i] = (int)check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
            /* Reset at the end: a connection in TIME_WAIT would keep its port, and they would run out. */
            struct linger reset = {.l_onoff = 1};
            check(setsockopt(clients[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "setsockopt");
            check(connect(clients[i], (struct sockaddr *)&address, sizeof address), "connect");
        }

        int64_t begin = spent();
        long open = 0;
        while (open < connections) {
            struct epoll_event ready[BATCH];
            long count = check(epoll_wait(epoll, ready, BATCH, -1), "epoll_wait");
            for (long i = 0; i < count; i++) {
                struct sockaddr_storage peer;
                for (;;) {
                    length = sizeof peer;
                    int stream =
                        accept4(listener, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
                    if (stream < 0)
                        break;
                    check(epoll_ctl(epoll, EPOLL_CTL_ADD, stream, &event), "epoll_ctl");
                    accepted[open++] = stream;
                }
                if (errno != EAGAIN)
                    fail("accept4");
            }
        }
        for (long i = 0; i < open; i++) {
            check(epoll_ctl(epoll, EPOLL_CTL_DEL, accepted[i], NULL), "epoll_ctl");
            close(accepted[i]);
        }
        printf("%.3f\n", (double)(spent() - begin) / (double)connections);

        for (long i = 0; i < connections; i++)
            close(clients[i]);
    }
    return 0;
}
