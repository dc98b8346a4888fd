# Winsock, under the names and with the manners of POSIX sockets: what fails gives -1 and sets errno.  For sockets.pxd,
# which is what to cimport.  Where there is no Windows this file is empty.
#
# A SOCKET is a handle of the kernel, and these have no more than 32 bits, so it fits the int that a descriptor is.

cdef extern from *:
    """
    #ifdef _WIN32
    #include <winsock2.h>
    #include <ws2tcpip.h>
    #include <mswsock.h>
    #include <errno.h>
    #include <stddef.h>
    #include <string.h>

    #undef AF_UNIX
    #define AF_UNIX 1
    #define MSG_NOSIGNAL 0
    #define MSG_DONTWAIT 0
    #define MSG_CMSG_CLOEXEC 0
    #define SCM_RIGHTS -1
    #define SO_REUSEPORT -1
    #define SHUT_RD SD_RECEIVE
    #define SHUT_WR SD_SEND
    #define SHUT_RDWR SD_BOTH
    #ifndef MSG_TRUNC
    #define MSG_TRUNC 0x0100
    #endif
    #ifndef MSG_CTRUNC
    #define MSG_CTRUNC 0x0200
    #endif
    #ifndef SIO_UDP_CONNRESET
    #define SIO_UDP_CONNRESET _WSAIOW(IOC_VENDOR, 12)
    #endif

    struct sockaddr_un { unsigned short sun_family; char sun_path[108]; };
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name;
        socklen_t msg_namelen;
        struct iovec *msg_iov;
        size_t msg_iovlen;
        void *msg_control;
        size_t msg_controllen;
        int msg_flags;
    };
    /* There are no control messages here. */
    #undef CMSG_FIRSTHDR
    #undef CMSG_NXTHDR
    #undef CMSG_DATA
    #undef CMSG_LEN
    #undef CMSG_SPACE
    #undef cmsghdr
    struct metalio_cmsghdr { size_t cmsg_len; int cmsg_level; int cmsg_type; };
    #define cmsghdr metalio_cmsghdr
    #define CMSG_FIRSTHDR(message) ((void)(message), (struct cmsghdr *)NULL)
    #define CMSG_NXTHDR(message, control) ((void)(message), (void)(control), (struct cmsghdr *)NULL)
    #define CMSG_DATA(control) ((unsigned char *)((control) + 1))
    #define CMSG_LEN(size) (sizeof(struct cmsghdr) + (size))
    #define CMSG_SPACE(size) (sizeof(struct cmsghdr) + (size))

    /* The number of a Winsock error in the C library's count. */
    static inline int metalio_wsa_error(int error) {
        switch (error) {
        case 0: return 0;
        case WSAEWOULDBLOCK: return EAGAIN;
        case WSAEINTR: return EINTR;
        case WSAEBADF: return EBADF;
        case WSAEACCES: return EACCES;
        case WSAEFAULT: return EFAULT;
        case WSAEINVAL: return EINVAL;
        case WSAEMFILE: return EMFILE;
        case WSAENAMETOOLONG: return ENAMETOOLONG;
        case WSAESHUTDOWN: return EPIPE;
        case WSAEADDRINUSE: return EADDRINUSE;
        case WSAEADDRNOTAVAIL: return EADDRNOTAVAIL;
        case WSAEAFNOSUPPORT: return EAFNOSUPPORT;
        case WSAEALREADY: return EALREADY;
        case WSAECONNABORTED: return ECONNABORTED;
        case WSAECONNREFUSED: return ECONNREFUSED;
        case WSAECONNRESET: return ECONNRESET;
        case WSAEDESTADDRREQ: return EDESTADDRREQ;
        case WSAEHOSTUNREACH: return EHOSTUNREACH;
        case WSAEINPROGRESS: return EINPROGRESS;
        case WSAEISCONN: return EISCONN;
        case WSAELOOP: return ELOOP;
        case WSAEMSGSIZE: return EMSGSIZE;
        case WSAENETDOWN: return ENETDOWN;
        case WSAENETRESET: return ENETRESET;
        case WSAENETUNREACH: return ENETUNREACH;
        case WSAENOBUFS: return ENOBUFS;
        case WSAENOPROTOOPT: return ENOPROTOOPT;
        case WSAENOTCONN: return ENOTCONN;
        case WSAENOTSOCK: return ENOTSOCK;
        case WSAEOPNOTSUPP: return EOPNOTSUPP;
        case WSAEPROTONOSUPPORT: return EPROTONOSUPPORT;
        case WSAEPROTOTYPE: return EPROTOTYPE;
        case WSAETIMEDOUT: return ETIMEDOUT;
        /* What has no counterpart stays as it is: the numbers do not meet. */
        default: return error;
        }
    }

    /* -1 and errno for what Winsock says has failed. */
    #define metalio_checked(call) ((call) == SOCKET_ERROR ? (errno = metalio_wsa_error(WSAGetLastError()), -1) : 0)

    static inline int metalio_close(int fd) { return metalio_checked(closesocket((SOCKET)fd)); }

    static inline int metalio_set_nonblocking(int fd) {
        u_long on = 1;
        return metalio_checked(ioctlsocket((SOCKET)fd, FIONBIO, &on)) < 0 ? errno : 0;
    }

    /* Everywhere: non-blocking, and not inherited by what is executed. */
    static inline int metalio_prepare(SOCKET sock) {
        if (sock == INVALID_SOCKET) return -metalio_wsa_error(WSAGetLastError());
        SetHandleInformation((HANDLE)sock, HANDLE_FLAG_INHERIT, 0);
        int error = metalio_set_nonblocking((int)sock);
        if (error) {
            closesocket(sock);
            return -error;
        }
        return (int)sock;
    }

    #define METALIO_WSA_FLAGS (WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT)

    static inline int metalio_socket(int family, int type) {
        return metalio_prepare(WSASocketW(family, type, 0, NULL, 0, METALIO_WSA_FLAGS));
    }

    static inline int metalio_pair(int family, int type, int *fds) {
        (void)family, (void)type, (void)fds;
        return EOPNOTSUPP;
    }

    static inline int metalio_duplicate(int fd) {
        WSAPROTOCOL_INFOW info;
        if (metalio_checked(WSADuplicateSocketW((SOCKET)fd, GetCurrentProcessId(), &info)) < 0) return -errno;
        return metalio_prepare(
            WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &info, 0, METALIO_WSA_FLAGS));
    }

    static inline int metalio_bind(int fd, struct sockaddr *address, socklen_t size) {
        return metalio_checked(bind((SOCKET)fd, address, size));
    }
    static inline int metalio_listen(int fd, int backlog) { return metalio_checked(listen((SOCKET)fd, backlog)); }
    static inline int metalio_connect(int fd, struct sockaddr *address, socklen_t size) {
        int result = metalio_checked(connect((SOCKET)fd, address, size));
        if (result < 0 && errno == EAGAIN) errno = EINPROGRESS;
        return result;
    }
    static inline int metalio_shutdown(int fd, int how) { return metalio_checked(shutdown((SOCKET)fd, how)); }
    static inline int metalio_getsockname(int fd, struct sockaddr *address, socklen_t *size) {
        WSAPROTOCOL_INFOW info;
        int length = sizeof info;
        if (getsockname((SOCKET)fd, address, size) == 0) return 0;
        errno = metalio_wsa_error(WSAGetLastError());
        if (errno != EINVAL || getsockopt((SOCKET)fd, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&info, &length) != 0 ||
            info.iAddressFamily != AF_UNIX) return -1;
        /* A Unix socket without an address has an empty one elsewhere. */
        address->sa_family = AF_UNIX;
        *size = sizeof address->sa_family;
        return 0;
    }
    static inline int metalio_getpeername(int fd, struct sockaddr *address, socklen_t *size) {
        return metalio_checked(getpeername((SOCKET)fd, address, size));
    }

    /* Options of one byte are of four here, and a pending error is told in the C library's count. */
    static inline int metalio_getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
        int number = 0, length = sizeof number;
        int narrow = *size == 1;
        int result = metalio_checked(
            getsockopt((SOCKET)fd, level, name, narrow ? (char *)&number : (char *)value, narrow ? &length : size));
        if (result == 0 && narrow) *(unsigned char *)value = (unsigned char)number;
        if (result == 0 && level == SOL_SOCKET && name == SO_ERROR) *(int *)value = metalio_wsa_error(*(int *)value);
        return result;
    }
    static inline int metalio_setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
        int number = 0;
        if (size == 1) {
            number = *(const unsigned char *)value;
            value = &number;
            size = sizeof number;
        }
        return metalio_checked(setsockopt((SOCKET)fd, level, name, (const char *)value, size));
    }

    /* A stream that is not connected: because it is connecting, or because that has failed, or because nobody has begun.
       And a datagram socket that is not, where a provider says that it was the address that was wrong. */
    static inline int metalio_unconnected(int fd, int error) {
        struct sockaddr_storage name;
        int size = sizeof name, failure = 0, length = sizeof failure;
        if (error == EINVAL && getpeername((SOCKET)fd, (struct sockaddr *)&name, &size) != 0) return ENOTCONN;
        if (error != ENOTCONN) return error;
        if (getsockopt((SOCKET)fd, SOL_SOCKET, SO_ERROR, (char *)&failure, &length) == 0 && failure)
            return metalio_wsa_error(failure);
        length = sizeof failure;
        if (getsockopt((SOCKET)fd, SOL_SOCKET, SO_TYPE, (char *)&failure, &length) != 0 || failure != SOCK_STREAM)
            return ENOTCONN;
        length = sizeof failure;
        if (getsockopt((SOCKET)fd, SOL_SOCKET, SO_ACCEPTCONN, (char *)&failure, &length) != 0 || failure)
            return ENOTCONN;
        /* Whoever begins to connect gets an address. */
        size = sizeof name;
        return getsockname((SOCKET)fd, (struct sockaddr *)&name, &size) == 0 ? EAGAIN : ENOTCONN;
    }

    #define metalio_cut(size) ((size) > 0x7FFFFFFF ? 0x7FFFFFFF : (int)(size))

    /* The end of what this side has shut down is an end of stream, and a datagram that is cut off is no error. */
    static inline Py_ssize_t metalio_received(int fd, int result, size_t size) {
        if (result >= 0) return result;
        int error = WSAGetLastError();
        if (error == WSAESHUTDOWN || error == WSAEDISCON) return 0;
        if (error == WSAEMSGSIZE) return (Py_ssize_t)size;
        errno = metalio_unconnected(fd, metalio_wsa_error(error));
        return -1;
    }
    static inline Py_ssize_t metalio_sent(int fd, int result, size_t size) {
        if (result >= 0) return (Py_ssize_t)size;
        errno = metalio_unconnected(fd, metalio_wsa_error(WSAGetLastError()));
        return -1;
    }
    static inline Py_ssize_t metalio_recv(int fd, void *buffer, size_t size, int flags) {
        return metalio_received(fd, recv((SOCKET)fd, (char *)buffer, metalio_cut(size), flags), size);
    }
    static inline Py_ssize_t metalio_recvfrom(
        int fd, void *buffer, size_t size, int flags, struct sockaddr *address, socklen_t *address_size
    ) {
        return metalio_received(
            fd, recvfrom((SOCKET)fd, (char *)buffer, metalio_cut(size), flags, address, address_size), size);
    }
    static inline Py_ssize_t metalio_send(int fd, const void *data, size_t size, int flags) {
        int sent = send((SOCKET)fd, (const char *)data, metalio_cut(size), flags);
        return metalio_sent(fd, sent, (size_t)sent);
    }
    static inline Py_ssize_t metalio_sendto(
        int fd, const void *data, size_t size, int flags, struct sockaddr *address, socklen_t address_size
    ) {
        int sent = address == NULL
            ? send((SOCKET)fd, (const char *)data, metalio_cut(size), flags)
            : sendto((SOCKET)fd, (const char *)data, metalio_cut(size), flags, address, address_size);
        return metalio_sent(fd, sent, (size_t)sent);
    }

    #define METALIO_VECTORS 1024
    /* The sum of the sizes, of which no more than a DWORD counts are taken. */
    static inline size_t metalio_buffers(const struct iovec *vector, size_t *count, WSABUF *buffers) {
        size_t total = 0, index;
        if (*count > METALIO_VECTORS) *count = METALIO_VECTORS;
        for (index = 0; index < *count; index++) {
            size_t size = vector[index].iov_len;
            if (size > 0x7FFFFFFF - total) size = 0x7FFFFFFF - total;
            buffers[index].buf = (char *)vector[index].iov_base;
            buffers[index].len = (ULONG)size;
            total += size;
        }
        return total;
    }
    static inline Py_ssize_t metalio_recvmsg(int fd, struct msghdr *message, int flags) {
        WSABUF buffers[METALIO_VECTORS];
        size_t count = message->msg_iovlen, total = metalio_buffers(message->msg_iov, &count, buffers);
        DWORD got = 0, taken = (DWORD)flags;
        int result = message->msg_name == NULL
            ? WSARecv((SOCKET)fd, buffers, (DWORD)count, &got, &taken, NULL, NULL)
            : WSARecvFrom((SOCKET)fd, buffers, (DWORD)count, &got, &taken, (struct sockaddr *)message->msg_name,
                          &message->msg_namelen, NULL, NULL);
        message->msg_flags = 0;
        message->msg_controllen = 0;
        if (result < 0 && WSAGetLastError() == WSAEMSGSIZE) message->msg_flags = MSG_TRUNC;
        return metalio_received(fd, result < 0 ? -1 : (int)got, total);
    }
    static inline Py_ssize_t metalio_sendmsg(int fd, const struct msghdr *message, int flags) {
        WSABUF buffers[METALIO_VECTORS];
        size_t count = message->msg_iovlen;
        DWORD sent = 0;
        metalio_buffers(message->msg_iov, &count, buffers);
        int result = message->msg_name == NULL
            ? WSASend((SOCKET)fd, buffers, (DWORD)count, &sent, (DWORD)flags, NULL, NULL)
            : WSASendTo((SOCKET)fd, buffers, (DWORD)count, &sent, (DWORD)flags,
                        (const struct sockaddr *)message->msg_name, message->msg_namelen, NULL, NULL);
        return metalio_sent(fd, result, sent);
    }
    static inline Py_ssize_t metalio_readv(int fd, const struct iovec *vector, int count) {
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = (struct iovec *)vector;
        message.msg_iovlen = (size_t)count;
        return metalio_recvmsg(fd, &message, 0);
    }

    #define bind metalio_bind
    #define listen metalio_listen
    #define connect metalio_connect
    #define getsockname metalio_getsockname
    #define getpeername metalio_getpeername
    #define getsockopt metalio_getsockopt
    #define setsockopt metalio_setsockopt
    #define recv metalio_recv
    #define recvfrom metalio_recvfrom
    #define recvmsg metalio_recvmsg
    #define send metalio_send
    #define sendto metalio_sendto
    #define sendmsg metalio_sendmsg
    #define readv metalio_readv
    #endif
    """
    enum:
        WINSOCK "METALIO_VECTORS"
