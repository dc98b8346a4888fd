# The few lines that only C can say.

from cpython.ref cimport PyObject

cdef extern from *:
    """
    #include <structmember.h>
    #if defined(_MSC_VER)
    #include <intrin.h>
    #define metalio_exchange(p, v) ((int)_InterlockedExchange((long volatile *)(p), (v)))
    #else
    #define metalio_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
    #endif

    /* A flag that is only touched with the GIL held needs no barrier where there is one. */
    #if defined(Py_GIL_DISABLED)
    #define metalio_claim(p) metalio_exchange((p), 1)
    #define metalio_release(p) metalio_exchange((p), 0)
    #if defined(_MSC_VER)
    #define metalio_load(p) ((int)_InterlockedOr((long volatile *)(p), 0))
    #define metalio_load_pointer(p) (*(void *volatile *)(p))
    static inline int metalio_swap_if(int *p, int *expected, int value) {
        int before = (int)_InterlockedCompareExchange((long volatile *)p, value, *expected);
        int done = before == *expected;
        *expected = before;
        return done;
    }
    static inline int metalio_swap_pointer_if(void *p, void *expected, void *value) {
        void *before = _InterlockedCompareExchangePointer((void *volatile *)p, value, *(void **)expected);
        int done = before == *(void **)expected;
        *(void **)expected = before;
        return done;
    }
    #else
    #define metalio_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define metalio_load_pointer(p) __atomic_load_n((void **)(p), __ATOMIC_SEQ_CST)
    #define metalio_swap_if(p, expected, value) \
        __atomic_compare_exchange_n((p), (expected), (value), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
    #define metalio_swap_pointer_if(p, expected, value) \
        __atomic_compare_exchange_n((void **)(p), (void **)(expected), (void *)(value), 0, \
                                    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
    #endif
    #else
    #define metalio_load(p) (*(p))
    #define metalio_load_pointer(p) (*(void **)(p))
    static inline int metalio_swap_if(int *p, int *expected, int value) {
        if (*p != *expected) { *expected = *p; return 0; }
        *p = value;
        return 1;
    }
    static inline int metalio_swap_pointer_if(void *p, void *expected, void *value) {
        if (*(void **)p != *(void **)expected) { *(void **)expected = *(void **)p; return 0; }
        *(void **)p = value;
        return 1;
    }
    static inline int metalio_claim(int *p) { int before = *p; *p = 1; return before; }
    #define metalio_release(p) (*(p) = 0)
    #endif

    /* What cython.critical_section does, but without counting a reference, which it does also where there is a GIL. */
    #if defined(Py_GIL_DISABLED)
    typedef PyCriticalSection metalio_section;
    #define metalio_lock(section, o) PyCriticalSection_Begin((section), (PyObject *)(o))
    #define metalio_unlock(section) PyCriticalSection_End(section)
    #else
    typedef char metalio_section;
    #define metalio_lock(section, o) ((void)(section))
    #define metalio_unlock(section) ((void)(section))
    #endif

    #if defined(__GNUC__) || defined(__clang__)
    #define metalio_prefetch(p) __builtin_prefetch((p), 1)
    #else
    #define metalio_prefetch(p) ((void)0)
    #endif

    /* Whether the only reference is the one that the caller owns; no if in doubt. */
    #if !defined(Py_GIL_DISABLED)
    #define metalio_unshared(o) (Py_REFCNT(o) == 1)
    #elif PY_VERSION_HEX >= 0x030E0000
    #define metalio_unshared(o) PyUnstable_Object_IsUniquelyReferenced(o)
    #else
    static inline int metalio_unshared(PyObject *o) {
        return _Py_IsOwnedByCurrentThread(o) && o->ob_ref_local == 1 && o->ob_ref_shared == 0;
    }
    #endif

    /* An extension type's dictionary is closed to setattr(): constants that are instances of the type itself, and
       member descriptors, go in this way once, while the module is being imported. */
    static inline void metalio_set_next(PyObject *type, void *next) {
        ((PyTypeObject *)type)->tp_iternext = (iternextfunc)next;
    }

    /* An object of a reference that is owned already. */
    #define metalio_take_over(reference) (reference)

    static inline int metalio_define(PyObject *type, PyObject *name, PyObject *value) {
        int result = PyDict_SetItem(((PyTypeObject *)type)->tp_dict, name, value);
        PyType_Modified((PyTypeObject *)type);
        return result;
    }

    /* CPython's specialising interpreter calls a method without a detour only if it is one of the object's very type:
       not if it is inherited.  The type's own, of the same function. */
    static inline PyObject *metalio_own_method(PyObject *type, PyObject *inherited) {
        return PyDescr_NewMethod((PyTypeObject *)type, ((PyMethodDescrObject *)inherited)->d_method);
    }

    /* A member descriptor is what CPython's specialising interpreter reads without a call (LOAD_ATTR_SLOT); Cython
       itself makes getters only, which cost a call for each read.  Which member it is, is told by an example: an
       object, and what stands in that member of it and in no other. */
    static inline PyObject *metalio_member(PyObject *example, PyObject *content, const char *name, const char *doc) {
        PyTypeObject *type = Py_TYPE(example);
        PyMemberDef *member = (PyMemberDef *)PyMem_Calloc(1, sizeof(PyMemberDef));
        if (member == NULL) return PyErr_NoMemory();
        for (member->offset = sizeof(PyObject); member->offset < type->tp_basicsize; member->offset += sizeof(void *)) {
            if (*(PyObject **)((char *)example + member->offset) == content) {
                member->name = name;
                member->type = 16; /* Py_T_OBJECT_EX */
                member->flags = 1; /* Py_READONLY */
                member->doc = doc;
                return PyDescr_NewMember(type, member);
            }
        }
        PyMem_Free(member);
        PyErr_SetString(PyExc_SystemError, "no such member");
        return NULL;
    }
    """
    # The value before; sequentially consistent.
    int exchange "metalio_exchange"(int *place, int value) noexcept nogil
    # Whether somebody else had claimed it before; and giving it back.
    int claim "metalio_claim"(int *place) noexcept
    int release "metalio_release"(int *place) noexcept
    # For what is only touched by threads that hold the GIL, and so is atomic by itself where there is one.  Sequentially
    # consistent.  The second two store if what is there is what was expected, and else tell what is.
    int load "metalio_load"(int *place) noexcept
    void *load_pointer "metalio_load_pointer"(void *place) noexcept
    bint swap_if "metalio_swap_if"(int *place, int *expected, int value) noexcept
    bint swap_pointer_if "metalio_swap_pointer_if"(void *place, void *expected, void *value) noexcept
    ctypedef struct Section "metalio_section":
        pass
    void lock "metalio_lock"(Section *section, object thing) noexcept
    # For an attribute, which would be counted as a reference otherwise.
    void lock_borrowed "metalio_lock"(Section *section, PyObject *thing) noexcept
    void unlock "metalio_unlock"(Section *section) noexcept
    # Tell the processor what is going to be written soon.
    void prefetch "metalio_prefetch"(PyObject *thing) noexcept
    bint unshared "metalio_unshared"(PyObject *thing) noexcept
    void set_next "metalio_set_next"(object type, void *next)
    object take_over "metalio_take_over"(PyObject *reference)
    int define "metalio_define"(object type, object name, object value) except -1
    # From a method descriptor of a base.
    object own_method "metalio_own_method"(object type, object inherited)
    object member "metalio_member"(object example, object content, const char *name, const char *doc)
