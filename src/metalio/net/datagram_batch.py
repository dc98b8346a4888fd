"""DatagramBatch: many datagrams in one system call."""

import cython
from cython.cimports.cpython.buffer import PyBuffer_FillInfo, PyBuffer_Release
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.cpython.mem import PyMem_RawCalloc, PyMem_RawFree
from cython.cimports.cpython.memoryview import PyMemoryView_FromObject
from cython.cimports.libc.errno import EINVAL, EIO, EMSGSIZE
from cython.cimports.libc.stdint import uint16_t
from cython.cimports.libc.string import memcpy, memmove, memset
from cython.cimports.metalio._sys.datagrams import (
    HAS_SEGMENTS,
    UDP_GRO,
    UDP_SEGMENT,
    Message,
    receive_many,
    send_many,
)
from cython.cimports.metalio._sys.sockets import (
    CMSG_DATA,
    CMSG_FIRSTHDR,
    CMSG_LEN,
    CMSG_NXTHDR,
    CMSG_SPACE,
    IPPROTO_UDP,
    MSG_TRUNC,
    Address,
    cmsghdr,
    msghdr,
)
from cython.cimports.metalio.net.address_cache import AddressCache
from cython.cimports.metalio.transfer import borrow

# What one call of recvmmsg(2) or sendmmsg(2) takes at the most (UIO_MAXIOV).
_MOST = 1024
# What a datagram takes, or several of them that travel as one.
_LARGEST = 65536


@cython.final
@cython.cclass
class DatagramBatch:
    """Reusable storage for up to `capacity` datagrams (1 to 1,024) of up to `size` bytes each (1 to 65,536).

    For `UdpSocket.recv_many`, which fills it, and `UdpSocket.send_many`, which sends what `append` put there: then sent
    entries leave at the front.  What was received may be sent as it is: each datagram goes back where it came from.

    Indexing and iteration give `DatagramEntry` objects, which refer to the storage without a copy: they and views of
    them show what is there, so their bytes change once the batch is filled anew.
    """

    def __cinit__(self, capacity=64, size=2048):
        room: cython.Py_ssize_t = capacity
        largest: cython.Py_ssize_t = size
        index: cython.Py_ssize_t
        if not 1 <= room <= _MOST:
            raise ValueError(f"the capacity of a DatagramBatch is a number from 1 to {_MOST}, not {room}")
        if not 1 <= largest <= _LARGEST:
            raise ValueError(f"the size of a datagram is a number from 1 to {_LARGEST}, not {largest}")
        self.peers = AddressCache.__new__(AddressCache)
        self.destinations = AddressCache.__new__(AddressCache)
        self.storage = PyBytes_FromStringAndSize(cython.NULL, room * largest)
        self.slots = cython.cast(cython.pointer[Slot], PyMem_RawCalloc(room, cython.sizeof(Slot)))
        self.messages = cython.cast(cython.pointer[Message], PyMem_RawCalloc(room, cython.sizeof(Message)))
        if self.slots == cython.NULL or self.messages == cython.NULL:
            raise MemoryError
        for index in range(room):
            self.slots[index].vector.iov_base = PyBytes_AS_STRING(self.storage) + index * largest
            self.messages[index].msg_hdr.msg_iov = cython.address(self.slots[index].vector)
            self.messages[index].msg_hdr.msg_iovlen = 1
        self._capacity = self.used = room
        self._size = largest

    def __dealloc__(self):
        PyMem_RawFree(self.messages)
        PyMem_RawFree(self.slots)

    @property
    def capacity(self):
        """How many datagrams it holds at the most."""
        return self._capacity

    @property
    def size(self):
        """How many bytes each of them has at the most."""
        return self._size

    def append(self, data, addr=None, segment_size=0):
        """Copy a datagram into the batch, to be sent to `addr`; `None`: to where the socket is connected.

        With a `segment_size` the data are sent as datagrams of that many bytes, the last of which may be shorter; the
        kernel, or the network device, takes them apart (`UDP_SEGMENT`, Linux).  They may be 64 at the most on older
        kernels, and each has to fit the route's MTU.

        Raises `BufferError` if the batch is full, `ValueError` if there are more bytes than fit, or the address or
        the segment size is not valid; `NotImplementedError` where the system has no `UDP_SEGMENT`.
        """
        view: Py_buffer
        to: Address
        segment: cython.Py_ssize_t = segment_size
        to.size = 0
        if segment < 0 or segment > 65535:
            raise ValueError(f"a segment size is a number from 0 to 65535, not {segment}")
        if segment and not HAS_SEGMENTS:
            raise NotImplementedError("segmentation offload (UDP_SEGMENT) needs Linux")
        borrow(data, cython.address(view), False)
        try:
            with cython.critical_section(self):
                if addr is not None:
                    self.destinations.encode(addr, cython.address(to))
                if view.len > self._size:
                    raise ValueError(f"this batch takes datagrams of up to {self._size} bytes, not {view.len}")
                if self.count == self._capacity:
                    raise BufferError(f"this batch is full: it holds {self._capacity} datagrams")
                slot: cython.pointer[Slot] = _slot(cython.address(self.messages[self.count]))
                # An entry of this very place may be what is copied.
                memmove(slot.vector.iov_base, view.buf, view.len)
                memcpy(cython.address(slot.name.any), cython.address(to.any), to.size)
                slot.name.size = to.size
                slot.length = view.len
                slot.segment_size = segment
                slot.truncated = False
                self.count += 1
                if self.used < self.count:
                    self.used = self.count
        finally:
            PyBuffer_Release(cython.address(view))

    def discard(self, count=1):
        """Take entries away from the front, as many as there are at the most; such as one that cannot be sent."""
        number: cython.Py_ssize_t = count
        if number < 0:
            raise ValueError(f"cannot take away {number} entries")
        with cython.critical_section(self):
            self.error = 0
            self.drop(number if number < self.count else self.count)

    def clear(self):
        """Take all entries away.  `UdpSocket.recv_many` does so by itself."""
        with cython.critical_section(self):
            self.error = 0
            self.count = 0

    def __len__(self):
        return self.count

    def __bool__(self):
        return self.count != 0

    def __iter__(self):
        index: cython.Py_ssize_t = 0
        while index < self.count:
            yield self[index]
            index += 1

    def __getitem__(self, index):
        address: Address
        position: cython.Py_ssize_t = index
        with cython.critical_section(self):
            if position < 0:
                position += self.count
            if position < 0 or position >= self.count:
                raise IndexError("no such datagram")
            slot: cython.pointer[Slot] = _slot(cython.address(self.messages[position]))
            entry: DatagramEntry = DatagramEntry.__new__(DatagramEntry)
            entry.storage = self.storage
            entry.at = cython.cast(cython.p_char, slot.vector.iov_base)
            entry.length = slot.length
            entry._segment_size = slot.segment_size
            entry._truncated = slot.truncated
            if slot.name.size:
                # A copy, since decoding it may run other code, which may use this batch.
                address.size = slot.name.size
                memcpy(cython.address(address.any), cython.address(slot.name.any), slot.name.size)
                entry._addr = self.peers.decode(cython.address(address))
            return entry

    def __repr__(self):
        return f"<DatagramBatch: {self.count} of {self._capacity}, {self._size} bytes each>"

    # -- For UdpSocket ------------------------------------------------------------------------------------------------

    def fill(self, fd, later):
        index: cython.Py_ssize_t
        slot: cython.pointer[Slot]
        header: cython.pointer[msghdr]
        for index in range(self.used):
            header = cython.address(self.messages[index].msg_hdr)
            slot = _slot(cython.address(self.messages[index]))
            slot.vector.iov_len = self._size
            header.msg_name = cython.address(slot.name.space)
            header.msg_namelen = cython.sizeof(slot.name.space)
            header.msg_control = slot.control
            header.msg_controllen = cython.sizeof(slot.control)
        self.error = 0
        self.count = self.used = 0
        count: cython.int = receive_many(fd, self.messages, cython.cast(cython.int, self._capacity), later)
        if count < 0:
            return count
        for index in range(count):
            header = cython.address(self.messages[index].msg_hdr)
            slot = _slot(cython.address(self.messages[index]))
            slot.length = self.messages[index].msg_len
            slot.name.size = header.msg_namelen
            slot.segment_size = _received_segment_size(header) if header.msg_controllen else 0
            slot.truncated = header.msg_flags & MSG_TRUNC != 0
        self.count = self.used = count
        return count

    def flush(self, fd):
        index: cython.Py_ssize_t
        slot: cython.pointer[Slot]
        header: cython.pointer[msghdr]
        if self.error:
            error: cython.int = self.error
            self.error = 0
            return -error
        for index in range(self.count):
            header = cython.address(self.messages[index].msg_hdr)
            slot = _slot(cython.address(self.messages[index]))
            slot.vector.iov_len = slot.length
            header.msg_name = cython.address(slot.name.space) if slot.name.size else cython.NULL
            header.msg_namelen = slot.name.size
            _ask_segmentation(header, slot)
        total: cython.Py_ssize_t = 0
        while self.count:
            sent: cython.int = send_many(fd, self.messages, cython.cast(cython.int, self.count))
            if sent < 0:
                if total == 0:
                    return sent
                self.error = -sent
                break
            self.drop(sent)
            total += sent
        return total

    def drop(self, count):
        """Move the first headers behind the others, in which their order does not matter."""
        index: cython.Py_ssize_t
        message: Message
        self.count -= count
        if count:
            for index in range(self.count):
                message = self.messages[index]
                self.messages[index] = self.messages[index + count]
                self.messages[index + count] = message
        return 0

    def hint(self, error):
        if self.count and _slot(cython.address(self.messages[0])).segment_size:
            if error == EIO:
                return "the device on this route cannot send segments: send without a segment size"
            if error in (EINVAL, EMSGSIZE):
                return "too many segments, or a segment size that the route's MTU does not allow"
        return None


# The free list spares the allocator.  There is nothing in it that could refer to it.
@cython.final
@cython.no_gc
@cython.freelist(64)
@cython.cclass
class DatagramEntry:
    """One datagram of a `DatagramBatch`: its bytes where they stand in the batch, and what belongs to them.

    It is a writable buffer itself, so `bytes(entry)`, `memoryview(entry)` and `send_to(entry, entry.addr)` work.
    """

    def __init__(self):
        raise TypeError("cannot make a DatagramEntry: index a DatagramBatch")

    @property
    def data(self):
        """The bytes, as a writable `memoryview` of the batch's storage.

        It stays valid, but shows something else once the batch is filled anew.
        """
        return PyMemoryView_FromObject(self)

    @property
    def addr(self):
        """Where it came from, or is to be sent; `None`: where the socket is connected."""
        return self._addr

    @property
    def segment_size(self):
        """The size of the datagrams that the bytes consist of, the last of which may be shorter; 0: it is one.

        More than 0 is received by sockets with `UdpSocket.gro` only.
        """
        return self._segment_size

    @property
    def truncated(self):
        """Whether it was longer than the batch's `size`, and cut off."""
        return self._truncated

    def __len__(self):
        return self.length

    def __bool__(self):
        return self.length != 0

    def __getbuffer__(self, buffer: cython.pointer[Py_buffer], flags: cython.int):
        PyBuffer_FillInfo(buffer, self, self.at, self.length, False, flags)

    def __repr__(self):
        return f"<DatagramEntry: {self.length} bytes, {self._addr}>"


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _slot(message: cython.pointer[Message]) -> cython.pointer[Slot]:
    return cython.cast(cython.pointer[Slot], message.msg_hdr.msg_iov)


@cython.cfunc
@cython.exceptval(check=False)
def _received_segment_size(header: cython.pointer[msghdr]) -> cython.int:
    size: cython.int = 0
    control: cython.pointer[cmsghdr] = CMSG_FIRSTHDR(header)
    while control != cython.NULL:
        if control.cmsg_level == IPPROTO_UDP and control.cmsg_type == UDP_GRO:
            memcpy(cython.address(size), CMSG_DATA(control), cython.sizeof(cython.int))
        control = CMSG_NXTHDR(header, control)
    return size


@cython.cfunc
@cython.exceptval(check=False)
def _ask_segmentation(header: cython.pointer[msghdr], slot: cython.pointer[Slot]) -> cython.void:
    header.msg_control = cython.NULL
    header.msg_controllen = 0
    if slot.segment_size:
        size: uint16_t = cython.cast(uint16_t, slot.segment_size)
        memset(slot.control, 0, CMSG_SPACE(cython.sizeof(uint16_t)))
        header.msg_control = slot.control
        header.msg_controllen = CMSG_SPACE(cython.sizeof(uint16_t))
        control: cython.pointer[cmsghdr] = CMSG_FIRSTHDR(header)
        control.cmsg_level = IPPROTO_UDP
        control.cmsg_type = UDP_SEGMENT
        control.cmsg_len = CMSG_LEN(cython.sizeof(uint16_t))
        memcpy(CMSG_DATA(control), cython.address(size), cython.sizeof(uint16_t))
