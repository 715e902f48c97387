#include "quiet.h"

#include "loans.h"

#include <stdio.h>
#include <string.h>

enum {
  NAP_US = 1000,
  LIMIT_US = 30000000,
  /* The connector threads of the library go after a second without work, and the sessions, opened together, have about
   * three before the first is renewed. A machine too slow for that has all of it once more, when each pool was whole. */
  ROUND_US = 5000000,
};

static struct {
  pool_stats_t stats[POOLS];
  bool was_whole[POOLS]; /* in this round */
  struct figures wanted, found;
  int64_t began_us, ended_us, round_us;
  int64_t late_us, latest_us; /* by how much naps were too long: all of them, the worst */
  int rounds;
} quiet;

static struct {
  int more_rounds;
  int64_t latest_us;
} all;

static void nap(void) {
  int64_t began = now_us();
  nap_us(NAP_US);
  int64_t late = now_us() - began - NAP_US;
  quiet.late_us += late;
  quiet.latest_us = late > quiet.latest_us ? late : quiet.latest_us;
}

static bool are_whole(void) {
  bool are = true;
  for (int i = 0; i < POOLS; i++) {
    pool_stats_t *stats = &quiet.stats[i];
    stats->size = sizeof *stats;
    bool is = pool_stats(pools[i], stats) == 0 && stats->idle == LEAST_SIZE && stats->total == LEAST_SIZE &&
              stats->waiting == 0;
    quiet.was_whole[i] |= is;
    are &= is;
  }
  return are;
}

static bool is_quiet(void) {
  bool are = are_whole();
  quiet.found.threads = count_threads();
  quiet.found.descriptors = count_descriptors();
  return are && quiet.found.threads == quiet.wanted.threads &&
         (quiet.wanted.descriptors == 0 || quiet.found.descriptors == quiet.wanted.descriptors);
}

static void begin_round(void) {
  for (int i = 0; i < POOLS; i++) {
    quiet.was_whole[i] = false;
    pool_resume(pools[i]);
    pool_resize(pools[i], LEAST_SIZE, LEAST_SIZE);
    pool_reconnect(pools[i]);
  }
  quiet.rounds++;
  quiet.round_us = now_us();
}

/* Each pool had all that it should have, so nothing is lost: only not both at one moment without a thread at work. */
static bool is_round_over(void) {
  bool were = true;
  for (int i = 0; i < POOLS; i++)
    were &= quiet.was_whole[i];
  return were && now_us() - quiet.round_us > ROUND_US;
}

/* While this process sleeps too long the library has no time either: for that it has as much again, at most. */
static bool is_time_over(void) {
  int64_t more = quiet.late_us < LIMIT_US ? quiet.late_us : LIMIT_US;
  return now_us() - quiet.began_us > LIMIT_US + more;
}

bool quiet_await(int workers, const struct figures *baseline, struct figures *figures) {
  memset(&quiet, 0, sizeof quiet);
  quiet.wanted.threads = 1 + workers + 1; /* the main thread, the oracle's, and the library's */
  quiet.wanted.descriptors = baseline ? baseline->descriptors : 0;
  quiet.began_us = now_us();
  begin_round();
  bool is = false;
  while (!is && !is_time_over()) {
    if (is_round_over())
      begin_round();
    is = is_quiet();
    if (is) {
      *figures = figures_now();
      is = is_quiet(); /* still: the figures are of that moment */
    } else {
      nap();
    }
  }
  if (!is)
    *figures = figures_now();
  quiet.ended_us = now_us();
  all.more_rounds += quiet.rounds > 1;
  all.latest_us = quiet.latest_us > all.latest_us ? quiet.latest_us : all.latest_us;
  return is;
}

static void tell_pool(int i) {
  const pool_stats_t *stats = &quiet.stats[i];
  printf("    %s, %s in this round: %ld to %ld sessions; %ld in all, %ld idle, %ld in use, %ld connecting, %ld resetting, "
         "%ld closing, %ld waiting, paused %ld\n",
         pool_name_of(i), quiet.was_whole[i] ? "was whole" : "never whole", stats->min_size, stats->max_size, stats->total,
         stats->idle, stats->in_use, stats->connecting, stats->resetting, stats->closing, stats->waiting, stats->paused);
  printf("      %lu gets, %lu puts, %lu opened, %lu failed connects, %lu lost, %lu expired, %lu idle closed, %lu discarded, "
         "%lu resets (%lu failed), %lu checks (%lu failed), %lu stuck connectors, %lu internal errors\n",
         stats->gets, stats->puts, stats->opened, stats->connect_failures, stats->lost, stats->expired, stats->idle_closed,
         stats->discarded, stats->resets, stats->reset_failures, stats->checks, stats->check_failures,
         stats->stuck_connectors, stats->internal_errors);
  /* A try that finds nothing says why nothing opens. */
  void *conn = pool_get(pools[i], 0);
  printf("      %s\n", conn ? "lends a connection" : pool_errmsg());
  if (conn)
    pool_put(pools[i], conn);
}

/* How many want a processor: whoever sleeps wakes in time beside them, and who has to compute does not come to an end. */
static void tell_load(void) {
  char line[100] = "";
  FILE *file = fopen("/proc/loadavg", "re");
  bool is_read = file && fgets(line, sizeof line, file);
  if (file)
    fclose(file);
  printf("    load %s", is_read ? line : "unknown\n");
}

void quiet_tell(long sessions) {
  printf("  no quiet moment in %.1f s and %d rounds; naps of %d ms were %.1f ms too long at worst, %.1f s in all\n",
         (double)(quiet.ended_us - quiet.began_us) / 1e6, quiet.rounds, NAP_US / 1000, (double)quiet.latest_us / 1000,
         (double)quiet.late_us / 1e6);
  printf("    %d threads of %d, %d descriptors of %d, %ld sessions at the server\n", quiet.found.threads,
         quiet.wanted.threads, quiet.found.descriptors, quiet.wanted.descriptors, sessions);
  tell_load();
  for (int i = 0; i < POOLS; i++)
    tell_pool(i);
}

void quiet_print(void) {
  printf("  %d rests took more than one round; naps were %.1f ms too long at worst\n", all.more_rounds,
         (double)all.latest_us / 1000);
}
