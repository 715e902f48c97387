/* under_load FORKS THREADS IN_FLIGHT SEED: threads ask without end, with the oracle's checks; meanwhile FORKS children
 * are forked, several at a time. Each child works with the pools at once, with sessions of its own, and ends in one of
 * the ways in which programs end. Nothing may fail, and the parent has the same backends before and afterwards. Ends
 * with the line `N passed, M failed`. */
#include "disturb.h"
#include "figures.h"
#include "ledger.h"
#include "loans.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  MOST_THREADS = 64,
  MOST_IN_FLIGHT = 32,
  STACK = 256 * 1024,
  GET_MS = 20000,
  WARM_US = 300000, /* the memory of all threads' first use is no growth */
  FIRST_LOAN_US = 1000000,
  CHILD_SECONDS = 60,
  GROWTH_KIB = 1024,
};

struct forker {
  pthread_t thread;
  struct worker worker;
};

static struct forker forkers[MOST_IN_FLIGHT];
static struct worker workers[MOST_THREADS];
static pthread_t threads[MOST_THREADS], napper;
static atomic_long forks_left;
static atomic_bool ending;
static int passed, failed;

static void check(bool holds, const char *what) {
  printf("  %s  %s\n", holds ? "ok  " : "FAIL", what);
  holds ? passed++ : failed++;
}

static void *ask_without_end(void *argument) {
  struct worker *worker = argument;
  while (!atomic_load(&ending))
    if (!loan_gentle(worker, pools[random_below(&worker->seed, POOLS)], GET_MS))
      complain(&ledger->refused, "the parent was lent nothing: %s", pool_errmsg());
  return NULL;
}

static void *nap_without_end(void *argument) {
  (void)argument;
  while (!atomic_load(&ending))
    ledger_nap();
  return NULL;
}

/* -------------------------------------------------------------------------------------------------- children */

/* A child's first loan must come at once. */
static int work_in_child(struct worker *self) {
  int64_t began = now_us();
  pool_t *pool = pools[random_below(&self->seed, POOLS)];
  if (!loan_gentle(self, pool, GET_MS))
    return 11;
  ledger_raise(&ledger->first_loan_us, (long)(now_us() - began));
  for (uint32_t loans = random_below(&self->seed, 3); loans > 0; loans--)
    if (!loan_gentle(self, pool, GET_MS))
      return 12;
  return 0;
}

static void end_child(struct worker *self, int code) {
  switch (random_below(&self->seed, 5)) {
    case 0: exit(code);
    case 1:
      if (code == 0)
        execl("/bin/true", "true", (char *)NULL);
      _exit(code ? code : 127);
    case 2:
      if (pool_close(pools[0]) != 0 || pool_close(pools[1]) != 0)
        code = 13;
      exit(code);
    case 3: /* as daemons do, with everything that a child has inherited and opened */
      closefrom(3);
      exit(code);
    default: _exit(code);
  }
}

static int await(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    continue;
  return status;
}

static void live(uint32_t id, uint64_t seed) {
  alarm(CHILD_SECONDS); /* one that hangs ends, and is a failed child */
  struct worker self;
  worker_start(&self, id, seed);
  int code = 0;
  if (one_in(&self.seed, 8))
    closefrom(3); /* before its first use of the pools: of what it has inherited nothing is left */
  if (!one_in(&self.seed, 4))
    code = work_in_child(&self);
  if (code == 0 && one_in(&self.seed, 16)) {
    pid_t grandchild = fork();
    if (grandchild == 0) {
      self.id += 1u << 24;
      end_child(&self, work_in_child(&self));
    }
    code = grandchild < 0 || await(grandchild) != 0 ? 14 : 0;
  }
  end_child(&self, code);
}

static void *fork_on(void *argument) {
  struct forker *forker = argument;
  while (atomic_fetch_sub(&forks_left, 1) > 0) {
    uint32_t id = 1000 + (uint32_t)atomic_fetch_add(&ledger->children, 1);
    pid_t child = fork();
    if (child == 0)
      live(id, forker->worker.seed ^ id);
    int status = child < 0 ? -1 : await(child);
    if (status != 0)
      complain(&ledger->failed_children, "child %u ended with status 0x%x", id, (unsigned)status);
  }
  return NULL;
}

/* ------------------------------------------------------------------------------------------------- the parent */

/* The backends of a pool that has none lent, as text. */
static void backends(pool_t *pool, char *text, size_t size) {
  PGconn *lent[LEAST_SIZE] = {0};
  int pids[LEAST_SIZE] = {0}, count = 0;
  for (; count < LEAST_SIZE; count++) {
    lent[count] = pool_get(pool, GET_MS);
    int pid = lent[count] ? PQbackendPID(lent[count]) : 0, place = count;
    for (; place > 0 && pids[place - 1] > pid; place--)
      pids[place] = pids[place - 1];
    pids[place] = pid;
  }
  text[0] = 0;
  for (int i = 0; i < count; i++) {
    snprintf(text + strlen(text), size - strlen(text), "%d ", pids[i]);
    if (lent[i])
      pool_put(pool, lent[i]);
  }
}

static uint64_t lost_of(pool_t *pool) {
  pool_stats_t stats = {.size = sizeof stats};
  return pool_stats(pool, &stats) == 0 ? stats.lost + stats.discarded + stats.internal_errors : UINT64_MAX;
}

/* Connecting threads end by themselves. */
static bool only_the_librarys_thread_is_left(void) {
  for (int64_t end = now_us() + 10000000; count_threads() > 2 && now_us() < end;)
    nap_us(1000);
  return count_threads() <= 2;
}

static void start_threads(int count, int in_flight, uint64_t seed) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK);
  for (int i = 0; i < count; i++) {
    worker_start(&workers[i], (uint32_t)i + 1, seed);
    pthread_create(&threads[i], &attributes, ask_without_end, &workers[i]);
  }
  pthread_create(&napper, &attributes, nap_without_end, NULL);
  for (int i = 0; i < in_flight; i++) {
    worker_start(&forkers[i].worker, (uint32_t)(count + i) + 1, seed);
    pthread_create(&forkers[i].thread, &attributes, fork_on, &forkers[i]);
  }
}

static void judge(char (*before)[200], long forks) {
  char after[200];
  check(ledger->wrong_answers == 0 && ledger->answers > 0, "every answer belongs to its question");
  check(ledger->double_owners == 0 && ledger_owned() == 0, "no session had two owners");
  check(ledger->unclean_loans == 0, "every connection was lent clean");
  check(ledger->strange_errors == 0 && atomic_load(&ledger->states[0].key) == 0, "no query failed");
  check(ledger->refused == 0, "nobody was refused anything");
  check(ledger->failed_children == 0 && ledger->children == forks, "every child ended well");
  check(ledger->first_loan_us <= FIRST_LOAN_US + ledger->nap_late_us,
        "a child's first loan took a second at most, and what naps were late");
  for (int i = 0; i < POOLS; i++) {
    backends(pools[i], after, sizeof after);
    check(strcmp(before[i], after) == 0, "the parent has the backends that it had");
    check(lost_of(pools[i]) == 0, "the parent lost no session");
  }
}

static void print_report(long forks, double seconds, uint64_t seed) {
  printf("  %ld forks in %.1f seconds, seed %lu: %ld loans, %ld answers by parent and children\n", forks, seconds, seed,
         ledger->loans, ledger->answers);
  printf("  %ld wrong answers, %ld double owners, %ld failed children\n", ledger->wrong_answers, ledger->double_owners,
         ledger->failed_children);
  printf("  the slowest first loan of a child took %.0f ms, the latest nap was %.0f ms too long\n",
         (double)ledger->first_loan_us / 1000, (double)ledger->nap_late_us / 1000);
}

int main(int argc, char **argv) {
  long forks = argc > 1 ? atol(argv[1]) : 100;
  int count = argc > 2 ? atoi(argv[2]) : 8, in_flight = argc > 3 ? atoi(argv[3]) : 4;
  uint64_t seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
  if (forks < 1 || count < 1 || count > MOST_THREADS || in_flight < 1 || in_flight > MOST_IN_FLIGHT)
    return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  mallopt(M_ARENA_MAX, 2);
  ledger_open();
  pools_open(true);
  char before[POOLS][200];
  for (int i = 0; i < POOLS; i++)
    backends(pools[i], before[i], sizeof before[i]);
  struct figures start = figures_now();
  atomic_store(&forks_left, forks);
  start_threads(count, in_flight, seed);
  nap_us(WARM_US);
  start.memory_kib = memory_kib();
  int64_t began = now_us();
  for (int i = 0; i < in_flight; i++)
    pthread_join(forkers[i].thread, NULL);
  double seconds = (double)(now_us() - began) / 1e6;
  atomic_store(&ending, true);
  for (int i = 0; i < count; i++)
    pthread_join(threads[i], NULL);
  pthread_join(napper, NULL);
  bool is_quiet = only_the_librarys_thread_is_left();
  struct figures end = figures_now();
  print_report(forks, seconds, seed);
  figures_print("start:", &start);
  figures_print("end:", &end);
  judge(before, forks);
  check(end.descriptors == start.descriptors, "descriptors at the end as at the start");
  check(end.memory_kib - start.memory_kib <= GROWTH_KIB, "memory grew by 1 MiB at most");
  check(is_quiet, "no thread is left but the library's");
  for (int i = 0; i < POOLS; i++)
    check(pool_close(pools[i]) == 0, "a pool is closed");
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
