# The bits that selectors, events and interests share.  They have the values of epoll(7) and poll(2) on Linux, so that
# on the busiest platform an event is stored as the kernel gave it; other selectors translate once an event.  An interest
# has to fit into a byte: for AIO and LIO there are bits that neither reports unless it is asked to.

cdef enum:
    READABLE = 0x0001
    PRIORITY = 0x0002
    WRITABLE = 0x0004
    FAILED = 0x0008
    HANGUP = 0x0010
    AIO = 0x0020
    LIO = 0x0040
    READ_CLOSED = 0x2000
    WRITE_CLOSED = 0x4000

    ANY_INTEREST = READABLE | PRIORITY | WRITABLE | AIO | LIO
    # What a selector reports without being asked.
    UNASKED = FAILED | HANGUP

cdef enum:
    EDGE = 1
    LEVEL = 2
    ONESHOT = 4
    EXCLUSIVE = 8

    ANY_OPTION = EDGE | LEVEL | ONESHOT | EXCLUSIVE
