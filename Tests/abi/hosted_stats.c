/* Statistics of hosted pools. */
#include "host.h"

#include <pthread.h>
#include <stdlib.h>

static pool_stats_t stats_of(struct host *host) {
  pool_stats_t stats = {.size = sizeof stats};
  CHECK_INT(pool_stats(host->pool, &stats), ==, 0);
  CHECK_INT(stats.total, ==, stats.idle + stats.in_use + stats.connecting + stats.resetting + stats.closing);
  return stats;
}

TEST(the_gauges_follow_a_slot) {
  struct host *host = host_start(1, 3);
  REQUIRE(host);
  pool_stats_t stats = stats_of(host);
  CHECK_INT(stats.min_size, ==, 1);
  CHECK_INT(stats.max_size, ==, 3);
  CHECK_INT(stats.total, ==, 0);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  stats = stats_of(host);
  CHECK_INT(stats.connecting, ==, 1);
  CHECK_INT(stats.in_use, ==, 0);
  CHECK_INT(stats.opened, ==, 0);
  CHECK_INT(host_adopt(host, token), ==, 0);
  stats = stats_of(host);
  CHECK_INT(stats.connecting, ==, 0);
  CHECK_INT(stats.in_use, ==, 1);
  CHECK_INT(stats.opened, ==, 1);
  CHECK_INT(stats.gets, ==, 1);
  CHECK_INT(stats.puts, ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  stats = stats_of(host);
  CHECK_INT(stats.in_use, ==, 0);
  CHECK_INT(stats.idle, ==, 1);
  CHECK_INT(stats.puts, ==, 1);
  CHECK_INT(stats.discarded, ==, 0);
  token = host_get(host, 0);
  CHECK_INT(pool_reconnect(host->pool), ==, 0);
  CHECK_INT(host_put_only(host, token), ==, POOL_CLOSE);
  stats = stats_of(host);
  CHECK_INT(stats.closing, ==, 1);
  CHECK_INT(stats.total, ==, 1);
  CHECK_INT(host_discard(host, token), ==, 0);
  WAIT_FOR(2000, stats_of(host).total == 0);
  host_end(host);
}

TEST(each_event_of_a_hosted_pool_has_its_counter) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_fail(host->pool, token, NULL, "refused"), ==, 0);
  pool_stats_t stats = stats_of(host);
  CHECK_INT(stats.connect_failures, ==, 1);
  CHECK_INT(stats.gets, ==, stats.puts);
  CHECK(pool_get(host->pool, 0) == NULL);
  CHECK_INT(stats_of(host).timeouts, ==, 1);
  token = host_get_working(host, POOL_TIMEOUT_DEFAULT); /* waits for the next attempt */
  stats = stats_of(host);
  CHECK_INT(stats.waits, >=, 1);
  CHECK_INT(stats.wait_us, >=, 50000);
  CHECK_INT(stats.opened, ==, 1);
  CHECK_INT(host_discard(host, token), ==, 0);
  stats = stats_of(host);
  CHECK_INT(stats.discarded, ==, 1);
  CHECK_INT(stats.gets, ==, stats.puts);
  /* Not `lost`: the end of a session that the host closes before the discard may be seen before it, too. */
  CHECK_INT(stats.expired + stats.idle_closed + stats.resets + stats.checks, ==, 0);
  host_end(host);
}

TEST(times_of_a_hosted_pool_are_measured) {
  pool_options_t options = options_sized(0, 1);
  options.exact_times = 1;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  int64_t start = now_us();
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  nap_ms(50); /* a slow connect */
  CHECK_INT(host_adopt(host, token), ==, 0);
  nap_ms(30); /* a loan */
  CHECK_INT(host_put(host, token), ==, 0);
  int64_t passed = now_us() - start;
  pool_stats_t stats = stats_of(host);
  CHECK_INT(stats.connect_us, >=, 50000);
  CHECK_INT(stats.connect_us, <, passed - 30000);
  CHECK_INT(stats.use_us, >=, 30000);
  CHECK_INT(stats.use_us, <, passed - 50000);
  CHECK_INT(stats.waits, ==, 0);
  host_end(host);
}

/* Under load, with objects broken and renewed, every copy adds up. */
TEST(every_copy_of_a_hosted_pools_statistics_is_consistent) {
  enum { SIZE = 3 };
  pool_options_t options = options_sized(0, SIZE);
  options.max_lifetime_ms = 200;
  struct host *host = host_start_with(&options);
  REQUIRE(host);
  struct host_load *load = host_load_start(host, 6, 100);
  pool_stats_t stats, before = stats_of(host);
  for (int64_t end = now_ms() + 1000; now_ms() < end; before = stats) {
    stats = stats_of(host);
    if (!CHECK_INT(stats.total, <=, SIZE) || !CHECK_INT(stats.gets - stats.puts, ==, stats.in_use) ||
        !CHECK_INT(stats.gets, >=, before.gets) || !CHECK_INT(stats.opened, >=, before.opened))
      break;
  }
  CHECK_INT(host_load_stop(load).errors, ==, 0);
  CHECK_INT(STAT(host->pool, expired), >, 0);
  host_end(host);
}
