/* oracle THREADS SEED: borrows, asks and gives back without end, on the server of the environment, until its standard
 * input ends. Prints `ready` when everything has been in use once; then anything may be done to the server and its
 * sessions. At each line of standard input it rests, looks at its memory, and prints `rested`. Lines must come, and
 * standard input must end, while the server is well. Ends with the line `N passed, M failed`. */
#include "disturb.h"
#include "figures.h"
#include "ledger.h"
#include "loans.h"
#include "quiet.h"
#include "rests.h"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
  MOST_THREADS = 64,
  FORKERS = 2,
  STACK = 256 * 1024,
  WARM_US = 2000000,
  SESSIONS_US = 30000000,
  STUCK_US = 30000000,
  LATE_US = 250000,
  GROWTH_KIB = 512,
  GROWTH_PERCENT = 1, /* an hour: of about a mebibyte that is three bytes a second */
};

typedef void work_fn(struct worker *worker);

struct thread {
  pthread_t thread;
  work_fn *work;
  struct worker worker;
  _Atomic int64_t began_us; /* 0: at rest */
};

static struct thread threads[MOST_THREADS + FORKERS + 2];
static int thread_count;
static atomic_bool resting, ending;
static int unrested;
static int passed, failed;

static void check(bool holds, const char *what) {
  printf("  %s  %s\n", holds ? "ok  " : "FAIL", what);
  holds ? passed++ : failed++;
}

/* ------------------------------------------------------------------------------------------------- threads */

static void *run_thread(void *argument) {
  struct thread *self = argument;
  while (!atomic_load(&ending)) {
    if (atomic_load(&resting)) {
      atomic_store(&self->began_us, 0);
      nap_us(1000);
      continue;
    }
    atomic_store(&self->began_us, now_us());
    self->work(&self->worker);
  }
  return NULL;
}

static void act_now_and_then(struct worker *worker) {
  nap_us(random_below(&worker->seed, 200000));
  disturb_pools(worker);
}

static void nap(struct worker *worker) {
  (void)worker;
  ledger_nap();
}

static void fork_now_and_then(struct worker *worker) {
  nap_us(random_below(&worker->seed, 200000));
  disturb_by_fork(worker);
}

static void start_thread(work_fn *work, uint64_t seed, const pthread_attr_t *attributes) {
  struct thread *self = &threads[thread_count];
  worker_start(&self->worker, (uint32_t)++thread_count, seed);
  self->work = work;
  atomic_store(&self->began_us, now_us());
  if (pthread_create(&self->thread, attributes, run_thread, self) != 0) {
    perror("pthread_create");
    exit(2);
  }
}

static void start_threads(int workers, uint64_t seed) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK);
  for (int i = 0; i < workers; i++)
    start_thread(loan_any, seed, &attributes);
  for (int i = 0; i < FORKERS; i++)
    start_thread(fork_now_and_then, seed, &attributes);
  start_thread(act_now_and_then, seed, &attributes);
  start_thread(nap, seed, &attributes);
}

/* No wait may be endless: not that of a single loan either. */
static void end_if_stuck(void) {
  int64_t now = now_us();
  for (int i = 0; i < thread_count; i++) {
    int64_t began = atomic_load(&threads[i].began_us);
    if (began == 0 || now - began < STUCK_US * (threads[i].work == fork_now_and_then ? 3 : 1))
      continue;
    printf("  FAIL  thread %d hangs, its last tag is %s\n%d passed, 1 failed\n", i + 1, threads[i].worker.tag, passed);
    fflush(stdout);
    _exit(1);
  }
}

/* --------------------------------------------------------------------------------------------- the server */

static long ask_server(const char *query) {
  PGconn *conn = PQconnectdb("application_name=oracle-observer");
  PGresult *result = PQexec(conn, query);
  long value = PQresultStatus(result) == PGRES_TUPLES_OK ? strtol(PQgetvalue(result, 0, 0), NULL, 10) : -1;
  if (value < 0)
    fprintf(stderr, "    %s", PQerrorMessage(conn));
  PQclear(result);
  PQfinish(conn);
  return value;
}

static long sessions(void) {
  char query[200];
  snprintf(query, sizeof query, "select count(*) from pg_stat_activity where application_name like 'oracle-%d-%%'",
           (int)getpid());
  return ask_server(query);
}

static bool wait_for_sessions(long wanted) {
  int64_t end = now_us() + SESSIONS_US;
  while (sessions() != wanted && now_us() < end)
    nap_us(20000);
  return sessions() == wanted;
}

/* ---------------------------------------------------------------------------------------------------- rest */

static bool all_at_rest(void) {
  for (int i = 0; i < thread_count; i++)
    if (atomic_load(&threads[i].began_us) != 0)
      return false;
  return true;
}

/* All threads stop at their gate, and both pools are full of new connections and idle: then the figures are exact. */
static bool rest(const struct figures *baseline, struct figures *figures) {
  atomic_store(&resting, true);
  while (!all_at_rest()) {
    end_if_stuck();
    nap_us(1000);
  }
  bool is_rested = quiet_await(thread_count, baseline, figures);
  if (!is_rested)
    quiet_tell(sessions());
  return is_rested;
}

static void print_report(void) {
  ledger_print();
  printf("  %ld lines in the log; the latest get ended %.1f ms after its timeout, %.1f ms without its waits for a "
         "processor; the latest nap %.1f ms too late\n",
         atomic_load(&log_lines), (double)ledger->latest_us / 1000, (double)ledger->latest_fed_us / 1000,
         (double)ledger->nap_late_us / 1000);
  printf("  %ld wrong answers, %ld double owners\n", ledger->wrong_answers, ledger->double_owners);
  rests_print();
  quiet_print();
  for (int i = 0; i < POOLS; i++) {
    pool_stats_t stats = {.size = sizeof stats};
    if (pool_stats(pools[i], &stats) == 0)
      printf("  %s: %lu opened, %lu lost, %lu expired, %lu discarded, %lu resets, %lu checks, %lu failed connects\n",
             pool_name_of(i), stats.opened, stats.lost, stats.expired, stats.discarded, stats.resets, stats.checks,
             stats.connect_failures);
  }
}

/* ---------------------------------------------------------------------------------------------------- main */

static double seconds_since(int64_t began_us) { return (double)(now_us() - began_us) / 1e6; }

/* False: standard input has ended. */
static bool is_told_to_rest(void) {
  char word[16];
  return read(STDIN_FILENO, word, sizeof word) > 0;
}

/* Until standard input ends; all rest whenever it says so. */
static double watch(const struct figures *warm) {
  int64_t began = now_us();
  for (struct pollfd input = {STDIN_FILENO, POLLIN, 0};;) {
    end_if_stuck();
    if (poll(&input, 1, 1000) <= 0)
      continue;
    if (!is_told_to_rest())
      return seconds_since(began);
    struct figures figures;
    if (rest(warm, &figures))
      rests_note(seconds_since(began), &figures);
    else
      unrested++;
    atomic_store(&resting, false);
    printf("rested\n");
  }
}

static void judge(const struct figures *warm, const struct figures *end, bool is_rested) {
  check(ledger->wrong_answers == 0 && ledger->answers > 0, "every answer belongs to its question");
  check(ledger->double_owners == 0 && ledger_owned() == 0, "no session had two owners");
  check(ledger->unclean_loans == 0, "every connection was lent clean");
  check(ledger->strange_errors == 0, "every failed query has an explanation");
  check(ledger->refused == 0, "every call of the pool was answered as promised");
  check(ledger->failed_children == 0 && ledger->children > 0, "every child ended well");
  check(ledger->latest_fed_us <= LATE_US + ledger->nap_late_us,
        "no get outlasted its timeout by more than 250 ms, its waits for a processor and what naps were late");
  check(is_rested, "the pools are whole again");
  check(end->descriptors == warm->descriptors, "descriptors at the end as after the warm-up");
  check(end->threads == warm->threads, "threads at the end as after the warm-up");
  check(end->memory_kib - warm->memory_kib <= GROWTH_KIB, "memory grew by 512 KiB at most after the warm-up");
  check(wait_for_sessions((long)POOLS * LEAST_SIZE), "the server has the sessions of the pools and no others");
  check(ask_server("select count(*) from leftover") == 0, "nothing of an unfinished transaction was committed");
}

/* Of a short run they say nothing. */
static void judge_rests(void) {
  check(unrested == 0, "the pools were whole at every rest, descriptors and threads as after the warm-up");
  if (!rests_tell())
    return;
  struct growth memory = rests_memory_growth();
  check(rests_allocated_growth().percent <= GROWTH_PERCENT, "what malloc has given out at rest grows by 1 %/h at most");
  check(memory.percent - 2 * memory.error <= GROWTH_PERCENT, "so does memory, less twice its standard error");
}

static void close_all(const struct figures *start) {
  atomic_store(&ending, true);
  for (int i = 0; i < thread_count; i++)
    pthread_join(threads[i].thread, NULL);
  for (int i = 0; i < POOLS; i++)
    check(pool_close(pools[i]) == 0, "a pool is closed");
  check(wait_for_sessions(0), "no session is left");
  struct figures end = figures_now();
  figures_print("closed:", &end);
  /* The library's own thread and its descriptors stay. */
  check(end.threads <= start->threads + 1, "no thread is left but the library's");
}

int main(int argc, char **argv) {
  int workers = argc > 1 ? atoi(argv[1]) : 16;
  uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
  if (workers < 1 || workers > MOST_THREADS)
    return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  mallopt(M_ARENA_MAX, 2); /* otherwise the memory of each thread's first use looks like growth */
  ledger_open();
  struct figures start = figures_now(), warm, end;
  pools_open(false);
  reach_peaks();
  start_threads(workers, seed);
  nap_us(WARM_US);
  bool is_warm = rest(NULL, &warm);
  check(is_warm, "the pools are whole after the warm-up");
  atomic_store(&resting, false);
  printf("ready\n");
  double seconds = watch(&warm);
  bool is_rested = rest(&warm, &end);
  printf("\nnative: %d threads, seed %lu, %.0f seconds\n", workers, seed, seconds);
  print_report();
  figures_print("start:", &start);
  figures_print("after warm-up:", &warm);
  figures_print("end:", &end);
  judge(&warm, &end, is_rested);
  judge_rests();
  close_all(&start);
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
