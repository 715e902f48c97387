/* Opening many connections, each of which takes a while.
 *
 *   fill NAME COUNT      prints a line of JSON: milliseconds until all are open
 *   fill meanwhile COUNT as many with libdbpool, and what a get of an idle connection takes meanwhile
 *
 * NAME is libdbpool, libzdb, or `threads`: COUNT threads of plain PQconnectdb, the floor. With `meanwhile` one
 * connection is open before: bench/parts/fill.py slows the server down when this program says so, and writes a line. */
#include "clocks.h"
#include "contestant.h"
#include "histogram.h"

#include <dbpool.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 100 };

static void *connect_one(void *result) {
  PGconn *connection = PQconnectdb("");
  if (PQstatus(connection) != CONNECTION_OK) give_up("threads", PQerrorMessage(connection));
  *(PGconn **)result = connection;
  return NULL;
}

static double fill_by_threads(int count) {
  pthread_t threads[MOST];
  PGconn *connections[MOST];
  int64_t start = now_ns();
  for (int i = 0; i < count; i++)
    if (pthread_create(&threads[i], NULL, connect_one, &connections[i]) != 0) give_up("threads", "no thread");
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  double took = (double)(now_ns() - start) / 1e6;
  for (int i = 0; i < count; i++) PQfinish(connections[i]);
  return took;
}

static double fill(const struct contestant *contestant, int count) {
  int64_t start = now_ns();
  void *pool = contestant->open(count);
  double took = (double)(now_ns() - start) / 1e6;
  contestant->close(pool);
  return took;
}

struct watch {
  pool_t *pool;
  atomic_bool is_full;
  struct histogram gets;
};

static void *get_meanwhile(void *argument) {
  struct watch *watch = argument;
  while (!atomic_load(&watch->is_full)) {
    int64_t start = now_ns();
    void *loan = pool_get(watch->pool, POOL_TIMEOUT_DEFAULT);
    count_value(&watch->gets, now_ns() - start);
    if (loan == NULL || pool_put(watch->pool, loan) != 0) give_up("libdbpool", pool_errmsg());
    struct timespec pause = {0, 100000};
    nanosleep(&pause, NULL);
  }
  return NULL;
}

static void watch_fill(int count) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.min_size = 1;
  options.max_size = count + 1;
  static struct watch watch;
  watch.pool = pool_create(NULL, &options);
  if (watch.pool == NULL || pool_wait(watch.pool, 10000) != 0) give_up("libdbpool", pool_errmsg());
  puts("{\"ready\": true}");
  fflush(stdout);
  getchar();
  pthread_t thread;
  if (pthread_create(&thread, NULL, get_meanwhile, &watch) != 0) give_up("fill", "no thread");
  int64_t start = now_ns();
  if (pool_resize(watch.pool, count + 1, count + 1) != 0 || pool_wait(watch.pool, 60000) != 0)
    give_up("libdbpool", pool_errmsg());
  double took = (double)(now_ns() - start) / 1e6;
  atomic_store(&watch.is_full, 1);
  pthread_join(thread, NULL);
  printf("{\"pool\": \"libdbpool\", \"ms\": %.3f, \"gets\": %ld, \"p50_us\": %.2f, \"p99_us\": %.2f, \"worst_us\": %.2f}\n",
         took, (long)watch.gets.total, percentile(&watch.gets, 0.5) / 1e3, percentile(&watch.gets, 0.99) / 1e3,
         percentile(&watch.gets, 1) / 1e3);
  pool_close(watch.pool);
}

int main(int argc, char **argv) {
  int count = argc == 3 ? atoi(argv[2]) : 0;
  if (count < 1 || count > MOST) {
    fprintf(stderr, "usage: fill threads|meanwhile|NAME COUNT, at most %d\n", MOST);
    return 2;
  }
  if (strcmp(argv[1], "meanwhile") == 0) {
    watch_fill(count);
    return 0;
  }
  double took = strcmp(argv[1], "threads") == 0 ? fill_by_threads(count) : fill(contestant_named(argv[1]), count);
  printf("{\"pool\": \"%s\", \"ms\": %.3f}\n", argv[1], took);
  return 0;
}
