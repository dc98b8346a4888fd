# What datagram sockets need beyond sockets.pxd: multicast memberships, many datagrams in one call, and segmentation
# offload.

from metalio._sys.sockets cimport in6_addr, in_addr, msghdr

cdef extern from *:
    """
    #include <errno.h>
    #ifndef _WIN32
    #include <netinet/in.h>
    #include <sys/socket.h>
    #endif

    #ifdef __linux__
    /* From <linux/udp.h>; C libraries came to have them late. */
    #define METALIO_HAS_SEGMENTS 1
    #define METALIO_UDP_SEGMENT 103
    #define METALIO_UDP_GRO 104
    #else
    #define METALIO_HAS_SEGMENTS 0
    #define METALIO_UDP_SEGMENT -1
    #define METALIO_UDP_GRO -1
    #endif

    #if defined(__linux__) && !defined(METALIO_NO_MMSG)
    typedef struct mmsghdr metalio_message;
    #define METALIO_MMSG 1
    #else
    /* macOS has none; that of the BSDs is a loop in the C library that forgets errors. */
    typedef struct {
        struct msghdr msg_hdr;
        unsigned int msg_len;
    } metalio_message;
    #endif

    /* How many datagrams, or the negative number of an error.  `later` is set to an error that came after some, where
       the system does not itself keep it for the next call. */
    static inline int metalio_receive_many(int fd, metalio_message *messages, int most, int *later) {
    #ifdef METALIO_MMSG
        int count;
        (void)later;
        do count = recvmmsg(fd, messages, most, MSG_DONTWAIT, NULL);
        while (count < 0 && errno == EINTR);
        return count < 0 ? -errno : count;
    #else
        int count = 0;
        while (count < most) {
            Py_ssize_t size = recvmsg(fd, &messages[count].msg_hdr, MSG_DONTWAIT);
            if (size >= 0) {
                messages[count++].msg_len = (unsigned int)size;
            } else if (errno != EINTR) {
                if (count == 0) return -errno;
                if (errno != EAGAIN) *later = errno;
                break;
            }
        }
        return count;
    #endif
    }

    /* How many datagrams, of which there is at least one; or the negative number of the first one's error. */
    static inline int metalio_send_many(int fd, metalio_message *messages, int count) {
    #ifdef METALIO_MMSG
        int sent;
        do sent = sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent < 0 ? -errno : sent;
    #else
        int sent = 0;
        while (sent < count) {
            Py_ssize_t size = sendmsg(fd, &messages[sent].msg_hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (size >= 0) {
                sent++;
            } else if (errno != EINTR) {
                return sent ? sent : -errno;
            }
        }
        return sent;
    #endif
    }
    """
    ctypedef struct Message "metalio_message":
        msghdr msg_hdr
        unsigned int msg_len

    struct ip_mreq:
        in_addr imr_multiaddr
        in_addr imr_interface

    struct ipv6_mreq:
        in6_addr ipv6mr_multiaddr
        unsigned int ipv6mr_interface

    enum:
        HAS_SEGMENTS "METALIO_HAS_SEGMENTS"
        UDP_SEGMENT "METALIO_UDP_SEGMENT"
        UDP_GRO "METALIO_UDP_GRO"

    int receive_many "metalio_receive_many"(int fd, Message *messages, int most, int *later) nogil
    int send_many "metalio_send_many"(int fd, Message *messages, int count) nogil
