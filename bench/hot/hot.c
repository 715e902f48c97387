/* What a get and put costs on an open connection, beside two uncontended pairs of pthread_mutex_lock and _unlock.
 *
 *   hot time                             nanoseconds of processor time, as a table on standard output
 *   hot pool|mutex ITERATIONS HELD       does so many, for a count of instructions: see run
 *
 * HELD connections of the same pool are lent meanwhile. A second thread is alive, because glibc leaves the atomic
 * operations out while a process has only one. */
#define _POSIX_C_SOURCE 200809L
#include <dbpool.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_HELD = 63, ROUNDS = 21, PER_ROUND = 200000 };

/* Visible under these names: callgrind counts between their entry and their return. */
void hot_pool(pool_t *pool, long iterations);
void hot_mutex(pthread_mutex_t *mutexes, long iterations);

static void fail(const char *what) {
  fprintf(stderr, "hot: %s: %s\n", what, pool_errmsg());
  exit(1);
}

__attribute__((noinline)) void hot_pool(pool_t *pool, long iterations) {
  for (long i = 0; i < iterations; i++) {
    void *conn = pool_get(pool, 0);
    if (conn == NULL || pool_put(pool, conn) != 0) fail("get and put");
  }
}

__attribute__((noinline)) void hot_mutex(pthread_mutex_t *mutexes, long iterations) {
  for (long i = 0; i < iterations; i++)
    for (int k = 0; k < 2; k++) {
      pthread_mutex_lock(&mutexes[k]);
      pthread_mutex_unlock(&mutexes[k]);
    }
}

static pthread_mutex_t mutexes[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static sem_t end;

static void *second_thread(void *unused) {
  while (sem_wait(&end) != 0) continue;
  return unused;
}

/* A pool with one open connection to get and put, and `held` others lent. */
static pool_t *make_pool(int held, void **loans) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.min_size = held + 1;
  options.max_size = held + 1;
  options.connect_timeout_ms = 300000; /* under valgrind the arithmetic of SCRAM takes its time */
  pool_t *pool = pool_create(NULL, &options);
  if (pool == NULL) fail("pool_create");
  if (pool_wait(pool, 300000) != 0) fail("pool_wait");
  for (int i = 0; i < held; i++)
    if ((loans[i] = pool_get(pool, 0)) == NULL) fail("pool_get");
  hot_pool(pool, 1000);
  return pool;
}

static void end_pool(pool_t *pool, int held, void **loans) {
  pool_stats_t stats = {.size = sizeof stats};
  if (pool_stats(pool, &stats) != 0) fail("pool_stats");
  if (stats.in_use != held || stats.idle != 1 || stats.internal_errors != 0) {
    fprintf(stderr, "hot: the pool is not as it was\n");
    exit(1);
  }
  for (int i = 0; i < held; i++)
    if (pool_put(pool, loans[i]) != 0) fail("pool_put");
  if (pool_close(pool) != 0) fail("pool_close");
}

static double processor_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int ascending(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

static double median(double *values) {
  qsort(values, ROUNDS, sizeof *values, ascending);
  return values[ROUNDS / 2];
}

/* Both in turn, so that another load on the machine meets both. */
static void print_times(int held) {
  void *loans[MOST_HELD];
  double pool_ns[ROUNDS], mutex_ns[ROUNDS], ratio[ROUNDS];
  pool_t *pool = make_pool(held, loans);
  for (int round = 0; round < ROUNDS; round++) {
    double start = processor_time();
    hot_pool(pool, PER_ROUND);
    double middle = processor_time();
    hot_mutex(mutexes, PER_ROUND);
    pool_ns[round] = (middle - start) / PER_ROUND;
    mutex_ns[round] = (processor_time() - middle) / PER_ROUND;
    ratio[round] = pool_ns[round] / mutex_ns[round];
  }
  end_pool(pool, held, loans);
  printf("%d %.1f %.1f %.2f\n", held, median(pool_ns), median(mutex_ns), median(ratio));
}

static void count(const char *what, long iterations, int held) {
  void *loans[MOST_HELD];
  pool_t *pool = make_pool(held, loans);
  if (strcmp(what, "pool") == 0)
    hot_pool(pool, iterations);
  else
    hot_mutex(mutexes, iterations);
  end_pool(pool, held, loans);
}

int main(int argc, char **argv) {
  pthread_t thread;
  if (sem_init(&end, 0, 0) != 0 || pthread_create(&thread, NULL, second_thread, NULL) != 0) return 1;
  int held = argc == 4 ? atoi(argv[3]) : 0;
  if (argc == 2 && strcmp(argv[1], "time") == 0) {
    print_times(0);
    print_times(MOST_HELD);
  } else if (argc == 4 && held >= 0 && held <= MOST_HELD) {
    count(argv[1], atol(argv[2]), held);
  } else {
    fprintf(stderr, "usage: hot time | hot pool|mutex ITERATIONS HELD\n");
    return 2;
  }
  sem_post(&end);
  return pthread_join(thread, NULL);
}
