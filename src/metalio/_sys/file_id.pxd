from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <sys/stat.h>
    typedef struct { uint64_t device, inode; int pollable; } metalio_file;
    static inline int metalio_identify(int fd, metalio_file *file) {
        struct stat status;
        if (fstat(fd, &status) < 0) return errno;
        file->device = (uint64_t)status.st_dev;
        file->inode = (uint64_t)status.st_ino;
        /* The kinds that epoll refuses: they never block. */
        file->pollable = !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode) && !S_ISBLK(status.st_mode);
        return 0;
    }
    """
    ctypedef struct FileId "metalio_file":
        uint64_t device
        uint64_t inode
        int pollable
    # Which file a descriptor is, by fstat(2); 0 or the number of an error.
    int identify "metalio_identify"(int fd, FileId *file) noexcept nogil
