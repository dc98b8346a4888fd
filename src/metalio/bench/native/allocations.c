/* Counts the calls of CPython's allocators.  A shared library that is loaded into the interpreter: a hook written in
 * Python would allocate itself.
 *
 * Compiles without Python's headers, which not every installation has: the two functions and the structure are part
 * of the stable documentation of `PyMem_SetAllocator`, and the interpreter brings the symbols.
 */

#include <stdatomic.h>
#include <stddef.h>

enum { DOMAINS = 3 };

struct allocator {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *memory, size_t size);
    void (*free)(void *context, void *memory);
};

void PyMem_GetAllocator(int domain, struct allocator *allocator);
void PyMem_SetAllocator(int domain, struct allocator *allocator);

static struct allocator originals[DOMAINS];
static atomic_long calls[DOMAINS];

static struct allocator *count(void *context)
{
    struct allocator *original = context;
    atomic_fetch_add_explicit(&calls[original - originals], 1, memory_order_relaxed);
    return original;
}

static void *count_malloc(void *context, size_t size)
{
    struct allocator *original = count(context);
    return original->malloc(original->context, size);
}

static void *count_calloc(void *context, size_t number, size_t size)
{
    struct allocator *original = count(context);
    return original->calloc(original->context, number, size);
}

static void *count_realloc(void *context, void *memory, size_t size)
{
    struct allocator *original = count(context);
    return original->realloc(original->context, memory, size);
}

/* Not counted: what is freed was allocated. */
static void pass_free(void *context, void *memory)
{
    struct allocator *original = context;
    original->free(original->context, memory);
}

/* Begin to count.  Once at a time. */
void start(void)
{
    for (int domain = 0; domain < DOMAINS; domain++) {
        PyMem_GetAllocator(domain, &originals[domain]);
        struct allocator hook = {&originals[domain], count_malloc, count_calloc, count_realloc, pass_free};
        PyMem_SetAllocator(domain, &hook);
        atomic_store(&calls[domain], 0);
    }
}

/* Put the allocators back. */
void stop(void)
{
    for (int domain = 0; domain < DOMAINS; domain++)
        PyMem_SetAllocator(domain, &originals[domain]);
}

/* The calls of malloc, calloc and realloc since `start`: raw is domain 0, mem 1, object 2. */
long counted(int domain)
{
    return atomic_load(&calls[domain]);
}
