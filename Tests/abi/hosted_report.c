/* pool_report with tokens: an object that an error has shown to be of no use goes when it is put. */
#include "host.h"
#include "sqlstates.h"

TEST(a_hosted_object_stays_after_a_harmless_report) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token);
  for (size_t i = 0; i < COUNT(harmless); i++)
    if (!CHECK_INT(pool_report(host->pool, token, harmless[i]), ==, POOL_OK))
      fprintf(stderr, "    of %s\n", harmless[i]);
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK_INT(STAT(host->pool, idle), ==, 1);
  host_end(host);
}

TEST(a_hosted_object_goes_after_the_report_of_a_fatal_error) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  for (size_t i = 0; i < COUNT(fatal); i++) {
    void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
    REQUIRE(token);
    int pid = host_pid(host, token);
    if (!CHECK_INT(pool_report(host->pool, token, fatal[i]), ==, POOL_CLOSE))
      fprintf(stderr, "    of %s\n", fatal[i]);
    CHECK_INT(pool_report(host->pool, token, "22012"), ==, POOL_CLOSE);
    CHECK_INT(host_put(host, token), ==, POOL_CLOSE);
    token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
    REQUIRE(token);
    CHECK_INT(host_pid(host, token), !=, pid);
    CHECK_INT(host_put(host, token), ==, 0);
  }
  /* What the server has ended is lost; what is only of no use is discarded. */
  CHECK_INT(STAT(host->pool, lost), ==, COUNT(fatal) - 1);
  CHECK_INT(STAT(host->pool, discarded), ==, 1);
  CHECK_INT(STAT(host->pool, expired), ==, 0);
  host_end(host);
}

TEST(a_hosted_object_may_be_discarded_after_a_report) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token);
  CHECK_INT(pool_report(host->pool, token, "25006"), ==, POOL_CLOSE);
  CHECK_INT(host_discard(host, token), ==, 0);
  CHECK_INT(STAT(host->pool, discarded), ==, 1);
  token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_report(host->pool, token, "23505"), ==, POOL_OK); /* nothing is left of the report before */
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(a_hosted_report_needs_a_token_in_force) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token);
  CHECK_INT(POOL_TOKEN_FLAGS(token) & POOL_FRESH, ==, POOL_FRESH);
  CHECK_INT(pool_report(host->pool, token, "57P01"), ==, POOL_EINVAL);
  CHECK_HAS(pool_errmsg(), "pool_adopt");
  REQUIRE_INT(host_adopt(host, token), ==, 0);
  check_malformed(host->pool, token);
  CHECK_INT(pool_report(host->pool, (void *)&token, "57P01"), <, 0);
  CHECK_INT(pool_report(host->pool, token, "22012"), ==, POOL_OK);
  CHECK_INT(pool_report(host->pool, token, "57P01"), ==, POOL_CLOSE);
  REQUIRE_INT(host_put_only(host, token), ==, POOL_CLOSE);
  CHECK_INT(pool_report(host->pool, token, "57P01"), ==, POOL_ENOTLEASED);
  CHECK_INT(host_discard(host, token), ==, 0);
  CHECK_INT(pool_report(host->pool, token, "57P01"), ==, POOL_ENOTLEASED);
  host_end(host);
}
