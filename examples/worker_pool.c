/*
 * worker_pool.c - eight threads share four connections: transactions and queries, with the pool and without.
 *
 *     cc worker_pool.c $(pkg-config --cflags --libs dbpool libpq) -pthread -o worker_pool
 *     ./worker_pool [--no-pool] [--threads 8] [--connections 4] [--seconds 4]
 *
 * The database is that of the environment (PGHOST, PGDATABASE, ...), with the tables of examples/schema.sql.
 * Every unit of work borrows a connection, asks for one balance or moves money between two accounts, and gives the
 * connection back. With --no-pool it opens a connection of its own instead. A unit that loses its connection counts
 * as an error and is done again: the ledger knows each unit by its number, so nothing is booked twice.
 *
 * Output, for a program to read: lines of `progress`, `lost` (a connection was lost, and why), and one `result`.
 */
#define _POSIX_C_SOURCE 200809L

#include <dbpool.h>
#include <libpq-fe.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ACCOUNTS = 100, UNITS_PER_TRANSFER = 5, PROGRESS_MS = 100, MAX_THREADS = 1000 };

/* LOST: the connection broke, do the unit again. WRONG: the server refused, or answered nonsense; ends the run. */
typedef enum { DONE, LOST, WRONG } outcome_t;

typedef struct {
  bool use_pool;
  int threads;
  int connections;
  int seconds;
} settings_t;

typedef struct {
  pthread_t thread;
  int number;
  uint64_t transfers;
  uint64_t *waits_ns; /* how long each connection took to get */
  size_t wait_count;
  size_t wait_room;
} worker_t;

static settings_t settings = {true, 8, 4, 4};
static pool_t *pool; /* NULL with --no-pool */
static atomic_bool stop, wrong;
static atomic_uint_least64_t queries, errors, abandoned;

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* One line, whatever the message; a single printf, so that the lines of two threads do not mix. */
static void report(const char *kind, const char *message) {
  char line[512];
  snprintf(line, sizeof line, "%s", message);
  line[strcspn(line, "\n")] = '\0';
  printf("%s %s\n", kind, line);
}

static void remember_wait(worker_t *worker, uint64_t wait_ns) {
  if (worker->wait_count == worker->wait_room) {
    const size_t room = worker->wait_room ? 2 * worker->wait_room : 4096;
    uint64_t *larger = realloc(worker->waits_ns, room * sizeof *larger);
    if (larger == NULL) {
      report("error", "out of memory");
      atomic_store(&wrong, true);
      return;
    }
    worker->waits_ns = larger;
    worker->wait_room = room;
  }
  worker->waits_ns[worker->wait_count++] = wait_ns;
}

/* ------------------------------------------------------------------------------- with and without the pool */

static PGconn *open_connection(void) {
  PGconn *conn = PQconnectdb("");
  if (PQstatus(conn) == CONNECTION_OK) return conn;
  report("lost", PQerrorMessage(conn));
  PQfinish(conn);
  return NULL;
}

static PGconn *borrow(worker_t *worker) {
  const uint64_t start = now_ns();
  PGconn *conn;
  if (pool != NULL) {
    conn = pool_get(pool, POOL_TIMEOUT_DEFAULT);
    if (conn == NULL) report("lost", pool_errmsg());
  } else {
    conn = open_connection();
  }
  if (conn != NULL) remember_wait(worker, now_ns() - start);
  return conn;
}

/* A broken connection may be put back like any other: the pool sees it and replaces it. */
static void give_back(PGconn *conn) {
  if (pool == NULL) {
    PQfinish(conn);
  } else if (pool_put(pool, conn) != POOL_OK) {
    report("error", pool_errmsg());
    atomic_store(&wrong, true);
  }
}

/* ---------------------------------------------------------------------------------------- the units of work */

static outcome_t failed(PGconn *conn) {
  const bool lost = PQstatus(conn) == CONNECTION_BAD;
  report(lost ? "lost" : "error", PQerrorMessage(conn));
  return lost ? LOST : WRONG;
}

/* Runs one statement with up to three numbers as its parameters. `rows`: how many it returned or changed. */
static outcome_t run(PGconn *conn, const char *sql, int count, const int64_t *numbers, int *rows) {
  char texts[3][24];
  const char *values[3] = {texts[0], texts[1], texts[2]};
  for (int i = 0; i < count; i++) snprintf(texts[i], sizeof texts[i], "%lld", (long long)numbers[i]);

  PGresult *result = PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0);
  const ExecStatusType status = PQresultStatus(result);
  if (status == PGRES_TUPLES_OK) *rows = PQntuples(result);
  if (status == PGRES_COMMAND_OK) *rows = atoi(PQcmdTuples(result));
  PQclear(result);
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) return failed(conn);
  atomic_fetch_add(&queries, 1);
  return DONE;
}

static outcome_t expect_one_row(PGconn *conn, const char *sql, int count, const int64_t *numbers) {
  int rows = 0;
  const outcome_t outcome = run(conn, sql, count, numbers, &rows);
  if (outcome != DONE || rows == 1) return outcome;
  report("error", "expected one row");
  return WRONG;
}

static outcome_t ask_balance(PGconn *conn, int64_t unit) {
  const int64_t id[] = {unit % ACCOUNTS};
  return expect_one_row(conn, "SELECT balance FROM accounts WHERE id = $1::bigint", 1, id);
}

/* Accounts are changed in ascending order, so two transfers cannot block each other for ever. */
static outcome_t transfer(PGconn *conn, int64_t unit) {
  const int64_t first = unit % (ACCOUNTS - 1), second = first + 1;
  const int64_t amount = unit % 7 - 3;
  const int64_t entry[] = {unit, amount}, take[] = {-amount, first}, give[] = {amount, second};
  static const char *const change = "UPDATE accounts SET balance = balance + $1::bigint WHERE id = $2::bigint";
  outcome_t outcome;
  int booked = 0, rows = 0;

  if ((outcome = run(conn, "BEGIN", 0, NULL, &rows)) != DONE) return outcome;
  outcome = run(conn, "INSERT INTO ledger VALUES ($1::bigint, $2::bigint) ON CONFLICT DO NOTHING", 2, entry, &booked);
  if (outcome != DONE) return outcome;
  if (booked == 0) return run(conn, "ROLLBACK", 0, NULL, &rows); /* only the answer to its COMMIT was lost */
  if ((outcome = expect_one_row(conn, change, 2, take)) != DONE) return outcome;
  if ((outcome = expect_one_row(conn, change, 2, give)) != DONE) return outcome;
  return run(conn, "COMMIT", 0, NULL, &rows);
}

static outcome_t attempt(worker_t *worker, int64_t unit, bool is_transfer) {
  PGconn *conn = borrow(worker);
  if (conn == NULL) return LOST;
  const outcome_t outcome = is_transfer ? transfer(conn, unit) : ask_balance(conn, unit);
  give_back(conn);
  return outcome;
}

static void *work(void *argument) {
  worker_t *worker = argument;
  for (int64_t i = 0; !atomic_load(&stop) && !atomic_load(&wrong); i++) {
    const int64_t unit = i * settings.threads + worker->number; /* no two threads share a number */
    const bool is_transfer = i % UNITS_PER_TRANSFER == 0;
    outcome_t outcome = attempt(worker, unit, is_transfer);
    /* Sessions are killed one after the other: the next attempt can meet the next of them. */
    for (int retries = 0; outcome == LOST && retries < 4 && !atomic_load(&stop); retries++) {
      atomic_fetch_add(&errors, 1);
      outcome = attempt(worker, unit, is_transfer);
    }
    if (outcome == LOST) {
      atomic_fetch_add(&errors, 1);
      if (!atomic_load(&stop)) atomic_fetch_add(&abandoned, 1);
    }
    if (outcome == WRONG) atomic_store(&wrong, true);
    if (outcome == DONE && is_transfer) worker->transfers++;
  }
  return NULL;
}

/* ---------------------------------------------------------------------------------------------- the program */

static void show_progress_until(uint64_t end_ns) {
  const struct timespec pause = {0, PROGRESS_MS * 1000000};
  while (now_ns() < end_ns && !atomic_load(&wrong)) {
    nanosleep(&pause, NULL);
    printf("progress queries=%llu errors=%llu\n", (unsigned long long)atomic_load(&queries),
           (unsigned long long)atomic_load(&errors));
  }
}

static int by_size(const void *a, const void *b) {
  const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
  return (left > right) - (left < right);
}

/* The waits of all threads, merged into the first worker's, ascending. */
static bool merge_waits(worker_t *workers) {
  worker_t *all = &workers[0];
  for (int i = 1; i < settings.threads; i++) {
    for (size_t k = 0; k < workers[i].wait_count; k++) remember_wait(all, workers[i].waits_ns[k]);
  }
  if (atomic_load(&wrong)) return false;
  if (all->wait_count == 0) {
    report("error", "there was no connection at all");
    return false;
  }
  qsort(all->waits_ns, all->wait_count, sizeof all->waits_ns[0], by_size);
  return true;
}

static void print_result(worker_t *workers, double seconds) {
  uint64_t transfers = 0;
  for (int i = 0; i < settings.threads; i++) transfers += workers[i].transfers;
  const worker_t *all = &workers[0];
  printf("result seconds=%.3f queries=%llu transfers=%llu errors=%llu abandoned=%llu", seconds,
         (unsigned long long)atomic_load(&queries), (unsigned long long)transfers,
         (unsigned long long)atomic_load(&errors), (unsigned long long)atomic_load(&abandoned));
  printf(" wait_p50_us=%.1f wait_p99_us=%.1f\n", (double)all->waits_ns[all->wait_count / 2] / 1e3,
         (double)all->waits_ns[all->wait_count * 99 / 100] / 1e3);
}

static bool run_workers(worker_t *workers) {
  const uint64_t start = now_ns();
  int started = 0;
  while (started < settings.threads) {
    workers[started].number = started;
    if (pthread_create(&workers[started].thread, NULL, work, &workers[started]) != 0) break;
    started++;
  }
  if (started < settings.threads) {
    report("error", "cannot start a thread");
    atomic_store(&wrong, true);
  }
  show_progress_until(start + (uint64_t)settings.seconds * 1000000000u);
  atomic_store(&stop, true);
  for (int i = 0; i < started; i++) pthread_join(workers[i].thread, NULL);
  const double seconds = (double)(now_ns() - start) / 1e9;
  if (atomic_load(&wrong) || !merge_waits(workers)) return false;
  print_result(workers, seconds);
  return true;
}

static bool open_pool(void) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.name = "worker_pool.c";
  options.max_size = settings.connections;
  pool = pool_create("", &options);
  if (pool == NULL) report("error", pool_errmsg());
  return pool != NULL;
}

static bool parse_number(const char *text, int *number) {
  char *end;
  errno = 0;
  const long value = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < 1 || value > MAX_THREADS) return false;
  *number = (int)value;
  return true;
}

static bool parse_arguments(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    int *number = NULL;
    if (strcmp(argv[i], "--no-pool") == 0) {
      settings.use_pool = false;
      continue;
    }
    if (strcmp(argv[i], "--threads") == 0) number = &settings.threads;
    if (strcmp(argv[i], "--connections") == 0) number = &settings.connections;
    if (strcmp(argv[i], "--seconds") == 0) number = &settings.seconds;
    if (number == NULL || i + 1 == argc || !parse_number(argv[++i], number)) return false;
  }
  return true;
}

int main(int argc, char **argv) {
  if (!parse_arguments(argc, argv)) {
    fprintf(stderr, "usage: %s [--no-pool] [--threads N] [--connections N] [--seconds N]\n", argv[0]);
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0); /* each line is seen when it is written, also through a pipe */
  if (settings.use_pool && !open_pool()) return 1;

  worker_t *workers = calloc((size_t)settings.threads, sizeof *workers);
  const bool well = workers != NULL && run_workers(workers);
  for (int i = 0; workers != NULL && i < settings.threads; i++) free(workers[i].waits_ns);
  free(workers);
  if (pool != NULL && pool_close(pool) != POOL_OK) return 1;
  return well ? 0 : 1;
}
