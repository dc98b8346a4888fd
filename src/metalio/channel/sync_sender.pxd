from metalio.channel.link cimport Link
from metalio.channel.sending_end cimport SendingEnd


cdef class SyncSender(SendingEnd):
    cdef int put(self, object message, double timeout) except -1


cdef SyncSender new_sync_sender(Link link)
