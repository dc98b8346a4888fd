/* The limit of the threads benchmark: a ring in each thread.
 *
 *     threads THREADS PAIRS EVENTS TURNS
 *
 * Prints for each turn the events a second of one of the threads alone, and those of all of them at once.
 */

#include "ring_common.c"
#include <pthread.h>

static long pairs, events, turns;
static pthread_barrier_t ready;

struct worker {
    pthread_t thread;
    long index;
    long done;
};

/* In turn one thread runs and all do: all first in every other turn. */
static int runs(long index, long half)
{
    return index == 0 || half % 4 == 0 || half % 4 == 3;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct ring ring = open_ring(pairs, pairs);
    run_ring(&ring, events / 10);
    for (long half = 0; half < 2 * turns; half++) {
        pthread_barrier_wait(&ready);
        worker->done = runs(worker->index, half) ? run_ring(&ring, events) : 0;
        pthread_barrier_wait(&ready);
    }
    verify_ring(&ring, pairs);
    return NULL;
}

int main(int argc, char **argv)
{
    long threads = argument(argc, argv, 1, 2);
    pairs = argument(argc, argv, 2, 1);
    events = argument(argc, argv, 3, 10);
    turns = argument(argc, argv, 4, 1);
    alarm(60);

    if (pthread_barrier_init(&ready, NULL, (unsigned)threads + 1) != 0)
        fail("pthread_barrier_init");
    struct worker *workers = array((size_t)threads, sizeof *workers);
    for (long i = 0; i < threads; i++) {
        workers[i].index = i;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            fail("pthread_create");
    }
    for (long turn = 0; turn < turns; turn++) {
        double rates[2];
        for (long half = 2 * turn; half < 2 * turn + 2; half++) {
            pthread_barrier_wait(&ready);
            int64_t begin = now();
            pthread_barrier_wait(&ready);
            double seconds = (double)(now() - begin) / 1e9;
            long done = 0;
            for (long i = 0; i < threads; i++)
                done += workers[i].done;
            rates[runs(1, half)] = (double)done / seconds;
        }
        printf("%.1f %.1f\n", rates[0], rates[1]);
    }
    for (long i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    return 0;
}
