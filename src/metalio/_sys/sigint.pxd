# Windows: how Ctrl-C ends a sleep.  Where there is no Windows this file is empty.
#
# Nothing interrupts a system call there: CPython's C handler runs in a thread of its own, notes the signal, and sets an
# event of the process for whoever sleeps in the main thread.  A sleep on a completion port waits for no event.  So the
# thread pool waits for that event, once, and has the main thread run an empty procedure (APC), which ends an alertable
# sleep.  It does not go through the port, where another thread that polls as well could take it.
#
# Nothing is lost.  The main thread calls metalio_attend(), looks for signals, and sleeps.  CPython notes a signal before
# it sets the event.  If it set the event before metalio_attend() took back what had been noted here, the look finds the
# signal.  If it did so later, the callback of the pool runs later, too: then it is noted as due, and no sleep begins, or
# the main thread sleeps and is woken.  What is due and what sleeps change under one lock.
#
# The wait is begun anew only after it has fired, and the event, which stays set, is reset before: so a sleep costs two
# short locks.  Another who waits for the event resets it (time.sleep), but that is the main thread, too, which cannot
# sleep here meanwhile.  And whoever sets it without a signal makes a sleep end for nothing: it is begun again.

from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #ifdef _WIN32
    #include <winsock2.h>
    #include <windows.h>

    static struct {
        SRWLOCK lock;
        HANDLE event;       /* CPython's; NULL where it has none: then a sleep is not interrupted */
        HANDLE thread;      /* the main thread */
        HANDLE wait;        /* of the thread pool, for the event; NULL before the first one */
        int fired;          /* that wait is over */
        int asleep;         /* the main thread sleeps, or is about to */
        int due;            /* a signal came since metalio_attend() */
        int queued;         /* the procedure was queued during this sleep */
    } metalio_sigint = { .lock = SRWLOCK_INIT };
    static DWORD metalio_main_thread;

    static VOID CALLBACK metalio_interrupt(ULONG_PTR unused) { (void)unused; }

    static VOID CALLBACK metalio_sigint_set(PVOID unused, BOOLEAN timed_out) {
        (void)unused, (void)timed_out;
        AcquireSRWLockExclusive(&metalio_sigint.lock);
        metalio_sigint.fired = metalio_sigint.due = 1;
        if (metalio_sigint.asleep && !metalio_sigint.queued)
            metalio_sigint.queued = QueueUserAPC(metalio_interrupt, metalio_sigint.thread, 0) != 0;
        ReleaseSRWLockExclusive(&metalio_sigint.lock);
    }

    /* `python` is the handle of CPython's library, `thread` the number of its main thread. */
    static inline void metalio_find_sigint(void *python, uint32_t thread) {
        void *(*find)(void) = (void *(*)(void))(void (*)(void))GetProcAddress((HMODULE)python, "_PyOS_SigintEvent");
        metalio_main_thread = thread;
        metalio_sigint.event = find == NULL ? NULL : (HANDLE)find();
    }

    static inline void metalio_attend(int exact) {
        int fired;
        if (metalio_sigint.event == NULL || GetCurrentThreadId() != metalio_main_thread) return;
        if (exact && metalio_sigint.wait != NULL && WaitForSingleObject(metalio_sigint.event, 0) == WAIT_OBJECT_0) {
            /* The pool is about to tell what is known by now: let it.  If it has fired already this only frees it. */
            UnregisterWaitEx(metalio_sigint.wait, INVALID_HANDLE_VALUE);
            metalio_sigint.wait = NULL;
        }
        AcquireSRWLockExclusive(&metalio_sigint.lock);
        metalio_sigint.due = 0;
        fired = metalio_sigint.fired;
        metalio_sigint.fired = 0;
        ReleaseSRWLockExclusive(&metalio_sigint.lock);
        if (metalio_sigint.wait != NULL && !fired) return;
        if (metalio_sigint.wait != NULL) UnregisterWaitEx(metalio_sigint.wait, NULL);
        metalio_sigint.wait = NULL;
        if (metalio_sigint.thread == NULL) {
            metalio_sigint.thread = OpenThread(THREAD_SET_CONTEXT, FALSE, metalio_main_thread);
            if (metalio_sigint.thread == NULL) return;
        }
        ResetEvent(metalio_sigint.event);
        /* Where it fails, which takes a lack of memory, the next sleep tries again. */
        if (!RegisterWaitForSingleObject(&metalio_sigint.wait, metalio_sigint.event, metalio_sigint_set, NULL, INFINITE,
                                         WT_EXECUTEONLYONCE))
            metalio_sigint.wait = NULL;
    }

    /* Around an alertable sleep of the main thread. */
    static inline int metalio_begin_sleep(void) {
        int due;
        if (metalio_sigint.wait == NULL || GetCurrentThreadId() != metalio_main_thread) return 0;
        AcquireSRWLockExclusive(&metalio_sigint.lock);
        due = metalio_sigint.due;
        metalio_sigint.asleep = !due;
        ReleaseSRWLockExclusive(&metalio_sigint.lock);
        return due ? -1 : 1;
    }
    static inline int metalio_end_sleep(void) {
        int due, queued;
        AcquireSRWLockExclusive(&metalio_sigint.lock);
        due = metalio_sigint.due;
        queued = metalio_sigint.queued;
        metalio_sigint.asleep = metalio_sigint.queued = 0;
        ReleaseSRWLockExclusive(&metalio_sigint.lock);
        /* If it came too late to end this sleep it shall not end another. */
        if (queued) SleepEx(0, TRUE);
        return due;
    }
    #endif
    """
    void find_sigint "metalio_find_sigint"(void *python, uint32_t thread) nogil
    # Signals that come from now on end the next sleep of the main thread, and those that came before can be seen.  One
    # that came just before ends it as well, unless this is to be exact, which costs a system call.
    void attend "metalio_attend"(bint exact) noexcept nogil
    # 0: this is not the thread that hears signals; 1: sleep alertably; -1: do not sleep, a signal has come.
    int begin_sleep "metalio_begin_sleep"() noexcept nogil
    # Whether a signal has come; only after a 1.
    bint end_sleep "metalio_end_sleep"() noexcept nogil
