/* What the two ends of the benchmark of datagrams share. */

#include "common.c"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* As many bytes as fit into one datagram, or into several that the kernel has put together. */
enum { LARGEST = 65536 };

union control {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

/* Have a message sent as datagrams of so many bytes. */
static UNUSED void set_segment(struct msghdr *header, union control *control, uint16_t size)
{
    memset(control, 0, sizeof *control);
    header->msg_control = control;
    header->msg_controllen = CMSG_SPACE(sizeof size);
    struct cmsghdr *first = CMSG_FIRSTHDR(header);
    first->cmsg_level = IPPROTO_UDP;
    first->cmsg_type = UDP_SEGMENT;
    first->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(first), &size, sizeof size);
}

/* Of what size the datagrams are of which a received message consists; 0 if it is one. */
static UNUSED int segment_of(struct msghdr *header)
{
    for (struct cmsghdr *each = CMSG_FIRSTHDR(header); each != NULL; each = CMSG_NXTHDR(header, each)) {
        int size;
        if (each->cmsg_level != IPPROTO_UDP || each->cmsg_type != UDP_GRO)
            continue;
        memcpy(&size, CMSG_DATA(each), sizeof size);
        return size;
    }
    return 0;
}
