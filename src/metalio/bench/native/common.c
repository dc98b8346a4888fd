/* What the C programs of the benchmark suite share.  Included by each, so that each compiles from one command. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

/* The kernel's array of one epoll_wait, as long as metalio's `Events` is by default. */
enum { BATCH = 1024 };

static UNUSED void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "wrong result");
    exit(1);
}

/* `value`, unless a system call said -1. */
static UNUSED long check(long value, const char *what)
{
    if (value < 0)
        fail(what);
    return value;
}

/* The argument at `index`: a whole number of at least `least`. */
static UNUSED long argument(int argc, char **argv, int index, long least)
{
    char *end = NULL;
    long value = index < argc ? strtol(argv[index], &end, 10) : least - 1;
    if (value < least || *end != '\0') {
        fprintf(stderr, "%s: argument %d is a whole number from %ld\n", argv[0], index, least);
        exit(2);
    }
    return value;
}

static UNUSED void *array(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("calloc");
    return memory;
}

static UNUSED int64_t nanoseconds(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* The time by the clock on the wall. */
static UNUSED int64_t now(void)
{
    return nanoseconds(CLOCK_MONOTONIC);
}

/* The processor time of this process. */
static UNUSED int64_t spent(void)
{
    return nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
}

/* A warm-up, then `laps` measured runs of `run(count)`, which returns how much it really did: prints ns each. */
static UNUSED void measure(long (*run)(long), long count, long laps)
{
    run(count / 10 + 1);
    for (long lap = 0; lap < laps; lap++) {
        int64_t begin = spent();
        long done = run(count);
        printf("%.3f\n", (double)(spent() - begin) / (double)done);
    }
}
