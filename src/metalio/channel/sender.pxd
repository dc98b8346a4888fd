from metalio.channel.link cimport Link
from metalio.channel.sending_end cimport SendingEnd


cdef class Sender(SendingEnd):
    pass


cdef Sender new_sender(Link link)
