/* A native pool with its default options. */
#include "contestant.h"

#include <dbpool.h>

static void *open_pool(int size) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.min_size = size;
  options.max_size = size;
  options.connect_timeout_ms = 300000; /* under valgrind the arithmetic of SCRAM takes its time */
  pool_t *pool = pool_create(NULL, &options);
  if (pool == NULL || pool_wait(pool, 300000) != 0) give_up("libdbpool", pool_errmsg());
  return pool;
}

static void *get(void *pool) {
  void *loan = pool_get(pool, POOL_TIMEOUT_DEFAULT);
  if (loan == NULL) give_up("libdbpool", pool_errmsg());
  return loan;
}

static void put(void *pool, void *loan) {
  if (pool_put(pool, loan) != 0) give_up("libdbpool", pool_errmsg());
}

static void close_pool(void *pool) {
  pool_stats_t stats = {.size = sizeof stats};
  if (pool_stats(pool, &stats) != 0) give_up("libdbpool", pool_errmsg());
  if (stats.in_use != 0 || stats.internal_errors != 0 || stats.gets != stats.puts)
    give_up("libdbpool", "the pool is not as it was");
  if (pool_close(pool) != 0) give_up("libdbpool", pool_errmsg());
}

__attribute__((noinline)) static void turns_ours(void *pool, long count) {
  for (long i = 0; i < count; i++) {
    void *loan = pool_get(pool, POOL_TIMEOUT_DEFAULT);
    if (loan == NULL || pool_put(pool, loan) != 0) give_up("libdbpool", pool_errmsg());
  }
}

const struct contestant contestant_ours = {"libdbpool", open_pool, get, put, close_pool, turns_ours};
