/* Many threads on a pool of few connections.
 *
 *   contention THREADS SIZE HOLD_US ROUNDS SECONDS
 *
 * Each thread borrows, works for HOLD_US of processor time, gives back, and begins anew. A line of JSON for each pool
 * and round: loans per second, percentiles of the wait for a connection, and how many loans the thread that had the
 * fewest and the one that had the most were given. What happens before all threads are at work does not count. Waits are
 * timed at each loan, or at every sixteenth without a hold, where reading the clock would be most of what is measured. */
#include "clocks.h"
#include "contestant.h"
#include "histogram.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_THREADS = 64, EVERY = 16, WARMING_MS = 50 };

enum phase { WARMING, COUNTING, OVER };

struct worker {
  _Alignas(128) pthread_t thread;
  enum phase seen;
  long loans;
  struct histogram waits;
};

static struct worker workers[MOST_THREADS];
static const struct contestant *contestant;
static void *pool;
static int64_t hold_ns;
static pthread_barrier_t barrier;
static atomic_int phase;

static void work(void) {
  int64_t end = processor_ns() + hold_ns;
  while (processor_ns() < end) continue;
}

static void start_phase(struct worker *me, enum phase seen) {
  me->seen = seen;
  me->loans = 0;
  memset(&me->waits, 0, sizeof me->waits);
}

static void *borrow_and_work(void *argument) {
  struct worker *me = argument;
  pthread_barrier_wait(&barrier);
  for (;;) {
    enum phase now = (enum phase)atomic_load_explicit(&phase, memory_order_relaxed);
    if (now == OVER) return NULL;
    if (now != me->seen) start_phase(me, now);
    int is_timed = hold_ns > 0 || me->loans % EVERY == 0;
    int64_t start = is_timed ? now_ns() : 0;
    void *loan = contestant->get(pool);
    if (is_timed) count_value(&me->waits, now_ns() - start);
    if (hold_ns > 0) work();
    contestant->put(pool, loan);
    me->loans++;
  }
}

static void rest(double seconds) {
  struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  while (nanosleep(&pause, &pause) != 0) continue;
}

static double run(int threads, double seconds) {
  atomic_store(&phase, WARMING);
  pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
  for (int i = 0; i < threads; i++) {
    start_phase(&workers[i], WARMING);
    if (pthread_create(&workers[i].thread, NULL, borrow_and_work, &workers[i]) != 0) give_up("contention", "no thread");
  }
  pthread_barrier_wait(&barrier);
  rest(WARMING_MS / 1e3);
  int64_t start = now_ns();
  atomic_store(&phase, COUNTING);
  rest(seconds);
  atomic_store(&phase, OVER);
  double took = (double)(now_ns() - start) / 1e9;
  for (int i = 0; i < threads; i++) {
    pthread_join(workers[i].thread, NULL);
    if (workers[i].seen != COUNTING) start_phase(&workers[i], COUNTING); /* it has waited all the time */
  }
  pthread_barrier_destroy(&barrier);
  return took;
}

static void tell(int round, int threads, double seconds) {
  static struct histogram all;
  memset(&all, 0, sizeof all);
  long loans = 0, least = workers[0].loans, most = 0;
  for (int i = 0; i < threads; i++) {
    long mine = workers[i].loans;
    loans += mine;
    if (mine < least) least = mine;
    if (mine > most) most = mine;
    add_counts(&all, &workers[i].waits);
  }
  printf("{\"threads\": %d, \"hold_us\": %d, \"round\": %d, \"pool\": \"%s\", \"loans_per_s\": %.0f, \"p50_us\": %.2f, "
         "\"p99_us\": %.2f, \"p999_us\": %.2f, \"worst_us\": %.2f, \"least\": %ld, \"most\": %ld}\n",
         threads, (int)(hold_ns / 1000), round, contestant->name, (double)loans / seconds, percentile(&all, 0.5) / 1e3,
         percentile(&all, 0.99) / 1e3, percentile(&all, 0.999) / 1e3, percentile(&all, 1) / 1e3, least, most);
  fflush(stdout);
}

int main(int argc, char **argv) {
  int threads = argc == 6 ? atoi(argv[1]) : 0;
  if (threads < 1 || threads > MOST_THREADS) {
    fprintf(stderr, "usage: contention THREADS SIZE HOLD_US ROUNDS SECONDS, at most %d threads\n", MOST_THREADS);
    return 2;
  }
  int size = atoi(argv[2]), rounds = atoi(argv[4]), count = 0;
  hold_ns = atol(argv[3]) * 1000;
  void *pools[8];
  while (all_pools[count] != NULL) {
    pools[count] = all_pools[count]->open(size);
    count++;
  }
  for (int round = 0; round < rounds; round++)
    for (int i = 0; i < count; i++) {
      int turn = (i + round) % count;
      contestant = all_pools[turn];
      pool = pools[turn];
      double seconds = run(threads, atof(argv[5]));
      tell(round, threads, seconds);
    }
  for (int i = 0; i < count; i++) all_pools[i]->close(pools[i]);
  return 0;
}
