# Windows: what the C library's signals bring about.

from libc.stdint cimport uint32_t, uintptr_t

from metalio._sys.afd cimport AfdSelector
from metalio._sys.port_source cimport PortSource
from metalio._sys.user_space cimport Node

cdef extern from *:
    """
    #include <winsock2.h>
    #include <windows.h>
    #include <errno.h>
    #include <signal.h>
    #include <stdint.h>
    #include <stdlib.h>

    #define METALIO_NUMBERS 32

    /* What one Signals object hears: a bit a number.  These are never freed, since a handler may be looking at one, but
       used again. */
    typedef struct metalio_ear {
        volatile LONG wanted, pending;
        /* Set by the first signal that rings, cleared once the ring was heard. */
        volatile LONG rung;
        /* How many handlers may be about to post to the port. */
        volatile LONG visitors;
        /* A handle of its own; NULL where it is not registered. */
        void *volatile port;
        ULONG_PTR key;
        int taken;
        struct metalio_ear *next;
    } metalio_ear;

    static void *volatile metalio_first_ear;
    static SRWLOCK metalio_actions_lock = SRWLOCK_INIT;
    static struct {
        int count, installed;
        /* What was there before; whether Python is to be told; and a handler that is to be called. */
        PyOS_sighandler_t before, chain;
        int python;
    } metalio_actions[METALIO_NUMBERS];
    /* Python's own handler, and the event that it sets for SIGINT. */
    static PyOS_sighandler_t metalio_pythons;
    static HANDLE metalio_sigint_event;

    static inline void metalio_ring_ear(metalio_ear *ear) {
        /* Cleared by heard(), before what is pending is taken.  So who finds it set has noted its number before that,
           and it will be taken. */
        if (InterlockedExchange(&ear->rung, 1)) return;
        void *port = InterlockedCompareExchangePointer(&ear->port, NULL, NULL);
        if (port != NULL && !PostQueuedCompletionStatus((HANDLE)port, 0, ear->key, NULL))
            InterlockedExchange(&ear->rung, 0);
    }

    static void metalio_on_signal(int number) {
        LONG bit = (LONG)1 << number;
        metalio_ear *ear;
        AcquireSRWLockExclusive(&metalio_actions_lock);
        int installed = metalio_actions[number].installed, python = metalio_actions[number].python;
        PyOS_sighandler_t before = metalio_actions[number].before, chain = metalio_actions[number].chain;
        /* The C library has put the default action in its place. */
        PyOS_setsig(number, installed ? metalio_on_signal : before);
        ReleaseSRWLockExclusive(&metalio_actions_lock);
        if (!installed) {
            if (before != SIG_DFL && before != SIG_IGN) before(number);
            return;
        }
        for (ear = (metalio_ear *)metalio_first_ear; ear != NULL; ear = ear->next) {
            if (!(ear->wanted & bit)) continue;
            InterlockedIncrement(&ear->visitors);
            /* Once more: it may have been dropped and be another's by now, but from here on it is not. */
            if (InterlockedOr(&ear->wanted, 0) & bit) {
                InterlockedOr(&ear->pending, bit);
                metalio_ring_ear(ear);
            }
            InterlockedDecrement(&ear->visitors);
        }
        if (python) {
            PyErr_SetInterruptEx(number);
            if (number == SIGINT && metalio_sigint_event != NULL) SetEvent(metalio_sigint_event);
        } else if (chain != NULL) {
            chain(number);
        }
    }

    /* What follows is done with the GIL, or under a lock in its place. */

    static inline void metalio_learn(void *python, int pythons) {
        void *(*find)(void) = NULL;
        if (python != NULL) find = (void *(*)(void))(void (*)(void))GetProcAddress((HMODULE)python, "_PyOS_SigintEvent");
        metalio_sigint_event = find == NULL ? NULL : (HANDLE)find();
        if (pythons) metalio_pythons = PyOS_getsig(SIGINT);
    }

    static inline metalio_ear *metalio_new_ear(void) {
        metalio_ear *ear = (metalio_ear *)metalio_first_ear;
        while (ear != NULL && ear->taken) ear = ear->next;
        if (ear == NULL) {
            ear = (metalio_ear *)calloc(1, sizeof *ear);
            if (ear == NULL) return NULL;
            ear->next = (metalio_ear *)metalio_first_ear;
            ear->taken = 1;
            InterlockedExchangePointer(&metalio_first_ear, ear);
        }
        ear->taken = 1;
        InterlockedExchange(&ear->pending, 0);
        InterlockedExchange(&ear->rung, 0);
        return ear;
    }

    static inline void metalio_drop_port(metalio_ear *ear) {
        void *port = InterlockedExchangePointer(&ear->port, NULL);
        if (port == NULL) return;
        while (InterlockedOr(&ear->visitors, 0)) SwitchToThread();
        CloseHandle((HANDLE)port);
    }

    static inline DWORD metalio_set_port(metalio_ear *ear, void *port, uintptr_t key) {
        HANDLE self = GetCurrentProcess(), own;
        metalio_drop_port(ear);
        if (!DuplicateHandle(self, (HANDLE)port, self, &own, 0, FALSE, DUPLICATE_SAME_ACCESS)) return GetLastError();
        ear->key = key;
        /* Before it is asked what is pending: a signal that comes now is seen by one or by the other. */
        InterlockedExchangePointer(&ear->port, own);
        return 0;
    }

    /* Have the handler in place: 1 if another was there, 0 if it was itself, -1 if the number is refused.  `kind` is 0
       where the handler is not Python's, 1 where it is, 2 where it is the one that raises KeyboardInterrupt. */
    static inline int metalio_install(int number, int kind) {
        int result = 0;
        AcquireSRWLockExclusive(&metalio_actions_lock);
        PyOS_sighandler_t found = PyOS_setsig(number, metalio_on_signal);
        if (found == SIG_ERR) {
            result = -1;
        } else if (found != metalio_on_signal || !metalio_actions[number].installed) {
            /* While one of Python's is about to run, the C library has the default action there. */
            if (kind != 0 && metalio_pythons != NULL) found = metalio_pythons;
            if (found == metalio_on_signal) found = SIG_DFL;
            metalio_actions[number].before = found;
            metalio_actions[number].python = kind == 1;
            metalio_actions[number].chain = kind == 0 && found != SIG_DFL && found != SIG_IGN ? found : NULL;
            metalio_actions[number].installed = result = 1;
        }
        ReleaseSRWLockExclusive(&metalio_actions_lock);
        return result;
    }

    static inline int metalio_listen(metalio_ear *ear, int number, int kind) {
        InterlockedOr(&ear->wanted, (LONG)1 << number);
        metalio_actions[number].count++;
        return metalio_install(number, kind);
    }

    /* Put back what was there before, unless somebody has replaced the handler: with the default, if that is said. */
    static inline void metalio_unlisten(metalio_ear *ear, int number, int defaulted) {
        LONG bit = (LONG)1 << number;
        if (!(InterlockedAnd(&ear->wanted, ~bit) & bit)) return;
        if (--metalio_actions[number].count > 0 || !metalio_actions[number].installed) return;
        AcquireSRWLockExclusive(&metalio_actions_lock);
        metalio_actions[number].installed = 0;
        PyOS_sighandler_t found = PyOS_setsig(number, metalio_actions[number].before);
        if (found != metalio_on_signal && (found != SIG_DFL || defaulted)) PyOS_setsig(number, found);
        ReleaseSRWLockExclusive(&metalio_actions_lock);
    }

    static inline void metalio_drop_ear(metalio_ear *ear) {
        metalio_drop_port(ear);
        while (InterlockedOr(&ear->visitors, 0)) SwitchToThread();
        ear->taken = 0;
    }

    static inline uint32_t metalio_pending(metalio_ear *ear) { return (uint32_t)InterlockedOr(&ear->pending, 0); }
    static inline void metalio_heard(metalio_ear *ear) { InterlockedExchange(&ear->rung, 0); }
    static inline int metalio_take_number(metalio_ear *ear, int number) {
        LONG bit = (LONG)1 << number;
        return (InterlockedAnd(&ear->pending, ~bit) & bit) != 0;
    }
    """
    ctypedef struct Ear "metalio_ear":
        pass
    enum:
        NUMBERS "METALIO_NUMBERS"

    void learn "metalio_learn"(void *python, bint pythons) noexcept
    Ear *new_ear "metalio_new_ear"() noexcept
    uint32_t set_port "metalio_set_port"(Ear *ear, void *port, uintptr_t key) noexcept
    void drop_port "metalio_drop_port"(Ear *ear) noexcept
    int install "metalio_install"(int number, int kind) noexcept
    int listen "metalio_listen"(Ear *ear, int number, int kind) noexcept
    void unlisten "metalio_unlisten"(Ear *ear, int number, bint defaulted) noexcept
    void drop_ear "metalio_drop_ear"(Ear *ear) noexcept
    uint32_t pending_of "metalio_pending"(Ear *ear) noexcept
    void heard "metalio_heard"(Ear *ear) noexcept
    bint take_number "metalio_take_number"(Ear *ear, int number) noexcept


cdef class SignalNode(Node):
    cdef Ear *ear

    cdef bint notice(self) noexcept


cdef class Signals(PortSource):
    cdef Ear *ear
    # What each number is given as.
    cdef dict names

    cdef int start(self, object numbers) except -1
    cdef object take(self, int number)
    cdef int leave_rest(self) except -1
    cdef int silence(self) except -1
    cdef int attach(self, AfdSelector selector) except -1
    cdef int want(self, int interest) except -1
    cdef int detach(self) except -1
    cdef int finish(self) except -1
