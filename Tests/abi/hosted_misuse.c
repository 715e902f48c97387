/* Wrong arguments of hosted pools: a code, never a crash, and nothing changed. */
#include "host.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Each function that takes a token, with one that must be refused. */
static void check_refused(pool_t *pool, void *token, int one, int other) {
  int codes[] = {pool_put(pool, token), pool_discard(pool, token), pool_adopt(pool, token, PQsocket(observer())),
                 pool_fail(pool, token, NULL, NULL)};
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (!CHECK(codes[i] == one || codes[i] == other))
      fprintf(stderr, "    call %zu of put, discard, adopt, fail: %d\n", i, codes[i]);
}

/* ------------------------------------------------------------------------------------------------ options */

static void check_invalid(const pool_options_t *options, const char *word) {
  CHECK(pool_create_hosted(options) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_HAS(pool_errmsg(), word);
}

static int configure(void *context, void *conn) {
  (void)context;
  (void)conn;
  return 0;
}

static int provide(void *context, char *buffer, size_t size) {
  (void)context;
  snprintf(buffer, size, "host=127.0.0.1");
  return 0;
}

TEST(options_that_need_the_connection_itself_are_refused_and_named) {
  pool_options_t options = options_sized(0, 1);
  options.configure = configure;
  check_invalid(&options, "configure");
  options = options_sized(0, 1);
  options.conninfo_provider = provide;
  check_invalid(&options, "conninfo_provider");
  options = options_sized(0, 1);
  options.reset_query = "select 1";
  check_invalid(&options, "reset_query");
  options = options_sized(0, 1);
  options.reset = POOL_RESET_DISCARD_ALL;
  check_invalid(&options, "reset");
  options = options_sized(0, 1);
  options.reset = POOL_RESET_QUERY;
  check_invalid(&options, "reset");
  options = options_sized(0, 1);
  options.check = POOL_CHECK_PING;
  check_invalid(&options, "check");
}

TEST(wrong_options_of_every_pool_are_wrong_here_too) {
  pool_options_t options = options_sized(0, 0);
  check_invalid(&options, "max_size");
  options = options_sized(3, 2);
  check_invalid(&options, "min_size");
  options = options_sized(0, POOL_MAX_SIZE_LIMIT + 1);
  check_invalid(&options, "max_size");
  options = options_sized(0, 1);
  options.max_lifetime_ms = -1;
  check_invalid(&options, "max_lifetime");
  options = options_sized(0, 1);
  options.size = sizeof options - 1;
  check_invalid(&options, "size");
}

TEST(what_a_hosted_pool_accepts) {
  pool_options_t options = options_sized(0, 1);
  static const int resets[] = {POOL_RESET_NONE, POOL_RESET_ROLLBACK};
  static const int checks[] = {POOL_CHECK_NONE, POOL_CHECK_WATCH, POOL_CHECK_SOCKET};
  for (size_t i = 0; i < 2; i++)
    for (size_t j = 0; j < 3; j++) {
      options.reset = resets[i];
      options.check = checks[j];
      struct host *host = host_start_with(&options);
      REQUIRE(host);
      host_fill(host, 1);
      host_end(host);
    }
  pool_t *pool = pool_create_hosted(NULL);
  CHECK(pool != NULL);
  CHECK_INT(STAT(pool, max_size), ==, 10);
  CHECK_INT(pool_close(pool), ==, 0);
  options = options_sized(0, POOL_MAX_SIZE_LIMIT);
  pool = pool_create_hosted(&options);
  CHECK(pool != NULL);
  CHECK_INT(pool_close(pool), ==, 0);
}

/* ------------------------------------------------------------------------------------------------- tokens */

TEST(a_token_put_twice_is_refused) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(host_put(host, token), ==, 0);
  check_refused(host->pool, token, POOL_ENOTLEASED, POOL_ENOTLEASED);
  CHECK_INT(STAT(host->pool, idle), ==, 1);
  host_end(host);
}

/* Unlike an address, which cannot be told from the next loan's. */
TEST(a_token_put_late_is_refused_and_the_next_loan_goes_on) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *old = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(host_put(host, old), ==, 0);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK_INT(POOL_TOKEN_SLOT(token), ==, POOL_TOKEN_SLOT(old));
  check_refused(host->pool, old, POOL_ENOTLEASED, POOL_ENOTLEASED);
  CHECK_INT(STAT(host->pool, in_use), ==, 1);
  CHECK(works(host_object(host, token)));
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(a_token_of_another_pool_is_refused_and_still_lent) {
  struct host *host = host_start(0, 1), *other = host_start(0, 1);
  REQUIRE(host && other);
  void *token = host_get_working(other, POOL_TIMEOUT_DEFAULT), *own = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  check_refused(host->pool, token, POOL_EFOREIGN, POOL_ENOTLEASED);
  CHECK_INT(STAT(host->pool, in_use), ==, 1);
  CHECK_INT(STAT(other->pool, in_use), ==, 1);
  CHECK_INT(host_put(other, token), ==, 0);
  CHECK_INT(host_put(host, own), ==, 0);
  host_end(host);
  host_end(other);
}

TEST(the_flags_of_a_token_do_not_matter) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  for (int flags = 0; flags < 256; flags += 51) {
    void *token = host_get(host, POOL_TIMEOUT_DEFAULT);
    REQUIRE(token != NULL);
    void *same = (void *)(((uintptr_t)token & ~(uintptr_t)0xFF) | (uintptr_t)flags);
    CHECK_INT(host_put(host, same), ==, 0);
    CHECK_INT(pool_put(host->pool, token), ==, POOL_ENOTLEASED);
    CHECK_INT(host_discard(host, host_get(host, POOL_TIMEOUT_DEFAULT)), ==, 0);
    token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
    REQUIRE(token != NULL);
    same = (void *)(((uintptr_t)token & ~(uintptr_t)0xFF) | (uintptr_t)flags);
    CHECK_INT(host_adopt(host, same), ==, 0);
    CHECK_INT(host_put(host, token), ==, 0);
  }
  host_end(host);
}

TEST(anything_else_is_no_token) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  PGconn *object = host_object(host, token);
  int on_stack;
  check_refused(host->pool, NULL, POOL_EINVAL, POOL_EINVAL);
  check_refused(host->pool, (void *)1, POOL_EFOREIGN, POOL_ENOTLEASED);
  check_refused(host->pool, (void *)UINTPTR_MAX, POOL_EFOREIGN, POOL_ENOTLEASED);
  check_refused(host->pool, object, POOL_EFOREIGN, POOL_ENOTLEASED);
  check_refused(host->pool, &on_stack, POOL_EFOREIGN, POOL_ENOTLEASED);
  check_refused(host->pool, host->pool, POOL_EFOREIGN, POOL_ENOTLEASED);
  for (int bit = 8; bit < 64; bit++)
    check_refused(host->pool, (void *)((uintptr_t)token ^ (uintptr_t)1 << bit), POOL_EFOREIGN, POOL_ENOTLEASED);
  CHECK(works(object));
  CHECK_INT(STAT(host->pool, in_use), ==, 1);
  CHECK_INT(STAT(host->pool, total), ==, 1);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

/* ----------------------------------------------------------------------------------------------- adoption */

TEST(a_fresh_token_is_adopted_once_and_before_it_is_put) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  int code = pool_put(host->pool, token);
  CHECK(code == POOL_EINVAL || code == POOL_ENOTLEASED);
  CHECK_INT(STAT(host->pool, connecting), ==, 1);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(pool_adopt(host->pool, token, PQsocket(host_object(host, token))), ==, POOL_EINVAL);
  CHECK_INT(pool_fail(host->pool, token, "08006", "too late"), ==, POOL_EINVAL);
  CHECK(works(host_object(host, token)));
  CHECK_INT(host_put(host, token), ==, 0);
  token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_adopt(host->pool, token, PQsocket(host_object(host, token))), ==, POOL_EINVAL);
  CHECK_INT(pool_fail(host->pool, token, NULL, NULL), ==, POOL_EINVAL);
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK_INT(STAT(host->pool, connect_failures), ==, 0);
  host_end(host);
}

TEST(what_is_no_socket_is_not_adopted_and_the_grant_stays) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  int ends[2], closed = fcntl(0, F_DUPFD_CLOEXEC, 300);
  CHECK_INT(pipe2(ends, O_CLOEXEC), ==, 0);
  close(closed);
  const int wrong[] = {-1, INT_MIN, INT_MAX, closed, ends[0], open("/dev/null", O_RDWR | O_CLOEXEC), memfd_create("file", MFD_CLOEXEC)};
  int before = open_descriptors();
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    CHECK_INT(pool_adopt(host->pool, token, wrong[i]), ==, POOL_EINVAL);
    CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  }
  CHECK_INT(open_descriptors(), ==, before);
  CHECK_INT(STAT(host->pool, connecting), ==, 1);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(without_descriptors_the_grant_stays) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  PGconn *object = host_connect(host, token);
  struct rlimit before, few;
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
  few = before;
  few.rlim_cur = 64;
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), ==, 0);
  int taken[64], count = 0;
  while (count < 64 && (taken[count] = dup(0)) >= 0)
    count++;
  CHECK_INT(pool_adopt(host->pool, token, PQsocket(object)), ==, POOL_ESYSTEM);
  CHECK_HAS(pool_errmsg(), "Too many open files");
  while (count > 0)
    close(taken[--count]);
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
  CHECK_INT(STAT(host->pool, connecting), ==, 1);
  CHECK_INT(pool_adopt(host->pool, token, PQsocket(object)), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

/* -------------------------------------------------------------------------------------------------- pools */

TEST(a_native_pool_has_nothing_to_adopt_or_collect) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  void *tokens[1];
  CHECK_INT(pool_adopt(pool, conn, PQsocket(conn)), ==, POOL_EINVAL);
  CHECK_INT(pool_fail(pool, conn, NULL, "words"), ==, POOL_EINVAL);
  CHECK_INT(pool_collect(pool, tokens, 1, 0), ==, POOL_EINVAL);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_hosted_pools_token_is_nothing_to_a_native_pool) {
  pool_t *pool = open_pool(0, 1);
  struct host *host = host_start(0, 1);
  REQUIRE(pool && host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT), *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, token), ==, POOL_EFOREIGN);
  CHECK_INT(pool_discard(pool, token), ==, POOL_EFOREIGN);
  CHECK(pool_put(host->pool, conn) < 0);
  CHECK(works(conn));
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  host_end(host);
  close_whole(pool);
}

TEST(what_is_no_pool_is_refused) {
  void *token = (void *)0x100000000, *tokens[1];
  int on_stack;
  pool_t *wrong[] = {NULL, (pool_t *)1, (pool_t *)UINTPTR_MAX, (pool_t *)&on_stack};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    check_refused(wrong[i], token, POOL_EINVAL, POOL_EINVAL);
    if (wrong[i])
      CHECK_INT(pool_collect(wrong[i], tokens, 1, 0), ==, POOL_EINVAL);
  }
}

TEST(wrong_arguments_of_collect_are_refused) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  host_fill(host, 1);
  void *tokens[1];
  CHECK_INT(pool_collect(host->pool, NULL, 1, 0), ==, POOL_EINVAL);
  CHECK_INT(pool_collect(host->pool, tokens, 0, 0), ==, POOL_EINVAL);
  CHECK_INT(pool_collect(host->pool, tokens, -1, 0), ==, POOL_EINVAL);
  CHECK_INT(pool_collect(host->pool, tokens, 1, -3), ==, POOL_EINVAL);
  CHECK_INT(pool_collect(host->pool, tokens, 1, INT_MIN), ==, POOL_EINVAL);
  CHECK_INT(pool_collect(NULL, NULL, 0, -3), ==, POOL_EINVAL);
  CHECK_INT(STAT(host->pool, idle), ==, 1);
  host_end(host);
}

TEST(a_closed_hosted_pool_stays_closed) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  pool_t *pool = host->pool;
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT), *tokens[1];
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
  CHECK(pool_get(pool, 0) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECLOSED);
  check_refused(pool, token, POOL_ECLOSED, POOL_ECLOSED);
  CHECK_INT(pool_collect(pool, tokens, 1, 0), ==, POOL_ECLOSED);
  CHECK_INT(pool_reconnect(pool), ==, POOL_ECLOSED);
  CHECK_INT(pool_close(pool), ==, POOL_ECLOSED);
}
