from metalio.channel.link cimport Link
from metalio.channel.sending_end cimport SendingEnd


cdef class SyncSender(SendingEnd):
    pass


cdef SyncSender new_sync_sender(Link link)
