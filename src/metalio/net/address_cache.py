"""Internet addresses that were seen before, decoded and encoded.

Each instance works in one direction: kernel to Python, found by the bytes of the address, or Python to kernel, found by
the identity of the caller's object, which is kept alive so that it stays the same.  Both are direct-mapped tables that
begin small and grow, up to a limit, while much is missed: most sockets know few peers.

The owner's critical section is held around each use.  It protects from nothing that runs Python code meanwhile, which
making an object may do (finalisers): so places are worked out only after that, and used at once.
"""

import cython
from cython.cimports.cpython.mem import PyMem_RawCalloc, PyMem_RawFree
from cython.cimports.libc.stdint import uint32_t, uintptr_t
from cython.cimports.libc.string import memcmp, memcpy, memset
from cython.cimports.metalio._sys.address import address_object, read_address
from cython.cimports.metalio._sys.sockets import AF_INET, AF_INET6, Address, sockaddr_in, sockaddr_in6

_FEWEST = cython.declare(cython.Py_ssize_t, 16)
_MOST = cython.declare(cython.Py_ssize_t, 1024)


@cython.final
@cython.cclass
class AddressCache:
    """One direction of one socket or batch.  Not for use outside the library."""

    def __dealloc__(self):
        PyMem_RawFree(self.names)

    def decode(self, address):
        """The tuple for an address from the kernel: the same object as before, if it is remembered."""
        name: Name
        if not _pack(address, cython.address(name)):
            return address_object(address)
        place: cython.Py_ssize_t
        if self.slots:
            place = _hash(cython.address(name)) & (self.slots - 1)
            if memcmp(cython.address(self.names[place]), cython.address(name), cython.sizeof(Name)) == 0:
                return self.objects[place]
        result = address_object(address)
        self.miss()
        place = _hash(cython.address(name)) & (self.slots - 1)
        self.names[place] = name
        self.objects[place] = result
        return result

    def encode(self, addr, address):
        """Write the caller's address for the kernel."""
        name: Name
        place: cython.Py_ssize_t
        if self.slots:
            place = _hash_identity(addr) & (self.slots - 1)
            if self.names[place].words[0] and self.objects[place] is addr:
                _unpack(cython.address(self.names[place]), address)
                return 0
        read_address(addr, address)
        if _is_constant(addr) and _pack(address, cython.address(name)):
            self.miss()
            place = _hash_identity(addr) & (self.slots - 1)
            self.names[place] = name
            self.objects[place] = addr
        return 0

    def miss(self):
        """Make the table, or make it larger where it has missed more often than it has places."""
        self.misses += 1
        if self.slots and (self.misses <= self.slots or self.slots == _MOST):
            return 0
        slots: cython.Py_ssize_t = self.slots * 4 if self.slots else _FEWEST
        objects: list = [None] * slots
        names: cython.p_void = PyMem_RawCalloc(slots, cython.sizeof(Name))
        if names == cython.NULL:
            raise MemoryError
        PyMem_RawFree(self.names)
        self.names = cython.cast(cython.pointer[Name], names)
        self.objects, objects = objects, self.objects
        self.slots = slots
        self.misses = 0
        return 0


@cython.cfunc
@cython.exceptval(check=False)
def _is_constant(addr) -> cython.bint:
    """Whether this very object will mean the same address for ever."""
    if type(addr) is str:
        # The number of an interface may change.
        return "%" not in addr
    if type(addr) is not tuple:
        return False
    for part in cython.cast(tuple, addr):
        if type(part) is str:
            if "%" in part:
                return False
        elif type(part) is not int:
            return False
    return True


@cython.cfunc
@cython.exceptval(check=False)
def _pack(address: cython.pointer[cython.const[Address]], name: cython.pointer[Name]) -> cython.bint:
    memset(name, 0, cython.sizeof(Name))
    if address.any.sa_family == AF_INET and address.size >= cython.sizeof(sockaddr_in):
        name.words[0] = AF_INET << 16 | address.v4.sin_port
        memcpy(cython.address(name.words[3]), cython.address(address.v4.sin_addr), 4)
        return True
    if address.any.sa_family == AF_INET6 and address.size >= cython.sizeof(sockaddr_in6):
        name.words[0] = AF_INET6 << 16 | address.v6.sin6_port
        name.words[1] = address.v6.sin6_flowinfo
        name.words[2] = address.v6.sin6_scope_id
        memcpy(cython.address(name.words[3]), cython.address(address.v6.sin6_addr), 16)
        return True
    return False


@cython.cfunc
@cython.exceptval(check=False)
def _unpack(name: cython.pointer[Name], address: cython.pointer[Address]) -> cython.void:
    memset(address, 0, cython.sizeof(sockaddr_in6))
    if name.words[0] >> 16 == AF_INET:
        address.v4.sin_family = AF_INET
        address.v4.sin_port = name.words[0] & 0xFFFF
        memcpy(cython.address(address.v4.sin_addr), cython.address(name.words[3]), 4)
        address.size = cython.sizeof(sockaddr_in)
    else:
        address.v6.sin6_family = AF_INET6
        address.v6.sin6_port = name.words[0] & 0xFFFF
        address.v6.sin6_flowinfo = name.words[1]
        address.v6.sin6_scope_id = name.words[2]
        memcpy(cython.address(address.v6.sin6_addr), cython.address(name.words[3]), 16)
        address.size = cython.sizeof(sockaddr_in6)


@cython.cfunc
@cython.exceptval(check=False)
def _hash(name: cython.pointer[Name]) -> cython.Py_ssize_t:
    # FNV-1a by words, and the better mixed high half of it folded in.
    mixed: uint32_t = 2166136261
    index: cython.int
    for index in range(7):
        mixed = (mixed ^ name.words[index]) * 16777619
    return mixed ^ mixed >> 15


@cython.cfunc
@cython.exceptval(check=False)
def _hash_identity(addr) -> cython.Py_ssize_t:
    # Objects stand 16 bytes apart at least.
    number: uintptr_t = cython.cast(uintptr_t, cython.cast(cython.p_void, addr)) >> 4
    return number ^ number >> 10
