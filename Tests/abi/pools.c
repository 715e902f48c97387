#include "pools.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

pool_options_t options_sized(int min_size, int max_size) {
  static atomic_int next;
  static char names[64][POOL_NAME_LIMIT + 1];
  int number = atomic_fetch_add(&next, 1);
  char *name = names[number % 64];
  snprintf(name, sizeof names[0], "abi-%d-%d", (int)getpid(), number);
  pool_options_t options = POOL_OPTIONS_INIT;
  options.name = name;
  options.min_size = min_size;
  options.max_size = max_size;
  options.acquire_timeout_ms = slow(5000);
  return options;
}

pool_t *open_pool_with(const pool_options_t *options) {
  pool_t *pool = pool_create("", options);
  if (!CHECK(pool != NULL))
    fprintf(stderr, "    pool_create: %s\n", pool_errmsg());
  return pool;
}

pool_t *open_pool(int min_size, int max_size) {
  pool_options_t options = options_sized(min_size, max_size);
  return open_pool_with(&options);
}

int64_t stat_at(pool_t *pool, size_t offset) {
  pool_stats_t stats = {.size = sizeof stats};
  int64_t value = -1;
  if (CHECK_INT(pool_stats(pool, &stats), ==, 0))
    memcpy(&value, (const char *)&stats + offset, sizeof value);
  return value;
}

bool works(PGconn *conn) { return conn && sql_number(conn, "select 1") == 1; }

PGconn *get_working(pool_t *pool, int timeout_ms) {
  PGconn *conn = pool_get(pool, timeout_ms);
  if (!conn) {
    fprintf(stderr, "    pool_get: %d: %s\n", pool_errcode(), pool_errmsg());
    CHECK(conn != NULL);
    return NULL;
  }
  CHECK_INT(PQtransactionStatus(conn), ==, PQTRANS_IDLE);
  CHECK(works(conn));
  return conn;
}

void settle_threads(void) {
  int64_t end = now_ms() + 5000;
  while (getenv("POOL_TEST_SETTLE") && running_threads() > resting_threads() && now_ms() < end)
    nap_ms(5);
}

void check_every_function(pool_t *pool, int code) {
  pool_stats_t stats = {.size = sizeof stats};
  pool_ticket_t ticket = 0;
  void *something = &stats, *tokens[1];
  CHECK(pool_get(pool, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, code);
  CHECK_INT(pool_get_start(pool, 0, &ticket), ==, code);
  CHECK(pool_get_wait(pool, 1, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, code);
  CHECK_INT(pool_get_cancel(pool, 1), ==, code);
  CHECK_INT(pool_put(pool, something), ==, code);
  CHECK_INT(pool_discard(pool, something), ==, code);
  CHECK_INT(pool_report(pool, something, "57P01"), ==, code);
  CHECK_INT(pool_wait(pool, 0), ==, code);
  CHECK_INT(pool_resize(pool, 0, 1), ==, code);
  CHECK_INT(pool_pause(pool), ==, code);
  CHECK_INT(pool_resume(pool), ==, code);
  CHECK_INT(pool_drain(pool, 0), ==, code);
  CHECK_INT(pool_reconnect(pool), ==, code);
  CHECK_INT(pool_stats(pool, &stats), ==, code);
  CHECK_INT(pool_adopt(pool, something, 0), ==, code);
  CHECK_INT(pool_fail(pool, something, NULL, "no"), ==, code);
  if (pool) /* NULL: of all hosted pools */
    CHECK_INT(pool_collect(pool, tokens, 1, 0), ==, code);
  CHECK_INT(pool_close(pool), ==, code);
}

void close_whole(pool_t *pool) {
  WAIT_FOR(2000, STAT(pool, in_use) == 0 && STAT(pool, waiting) == 0);
  CHECK_INT(STAT(pool, internal_errors), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
}

/* --------------------------------------------------------------------------------------------------- load */

struct worker {
  pthread_t thread;
  struct load *load;
  atomic_long loans;
  long errors;
  int first_error;
};

struct load {
  pool_t *pool;
  int threads;
  int hold_us;
  atomic_bool stop;
  struct worker *workers;
};

static void hold_for(int us) {
  struct timespec rest = {us / 1000000, (long)(us % 1000000) * 1000};
  if (us > 0)
    nanosleep(&rest, NULL);
}

static void *work(void *argument) {
  struct worker *worker = argument;
  struct load *load = worker->load;
  while (!atomic_load(&load->stop)) {
    void *conn = pool_get(load->pool, slow(10000));
    if (!conn) {
      if (worker->errors++ == 0)
        worker->first_error = pool_errcode();
      nap_ms(1);
      continue;
    }
    hold_for(load->hold_us);
    if (pool_put(load->pool, conn) != 0 && worker->errors++ == 0)
      worker->first_error = pool_errcode();
    atomic_fetch_add(&worker->loans, 1);
  }
  return NULL;
}

struct load *start_load(pool_t *pool, int threads, int hold_us) {
  struct load *load = calloc(1, sizeof *load);
  load->pool = pool;
  load->hold_us = hold_us;
  load->workers = calloc((size_t)threads, sizeof *load->workers);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  for (int i = 0; i < threads; i++) {
    load->workers[i].load = load;
    if (!CHECK_INT(pthread_create(&load->workers[i].thread, &attributes, work, &load->workers[i]), ==, 0))
      break;
    load->threads++;
  }
  pthread_attr_destroy(&attributes);
  return load;
}

long load_loans(struct load *load) {
  long loans = 0;
  for (int i = 0; i < load->threads; i++)
    loans += atomic_load(&load->workers[i].loans);
  return loans;
}

struct load_result stop_load(struct load *load) {
  struct load_result sum = {.fewest = -1};
  atomic_store(&load->stop, true);
  for (int i = 0; i < load->threads; i++) {
    struct worker *worker = &load->workers[i];
    pthread_join(worker->thread, NULL);
    long loans = atomic_load(&worker->loans);
    sum.loans += loans;
    sum.errors += worker->errors;
    sum.first_error = sum.first_error ? sum.first_error : worker->first_error;
    sum.most = loans > sum.most ? loans : sum.most;
    sum.fewest = sum.fewest < 0 || loans < sum.fewest ? loans : sum.fewest;
  }
  free(load->workers);
  free(load);
  return sum;
}
