/* How much of its caller's stack the library takes: at most 16 KiB for a get or a put, whatever happens in it. */
#include "pools.h"
#include "proxy.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

enum { PAINTED = 128 * 1024, MARGIN = 192, MOST = 16 * 1024 };
static const unsigned char paint = 0xa5;

struct call {
  pool_t *pool;
  void *conn;
  int timeout_ms;
  void (*make)(struct call *call);
};

/* Below the caller's frame nothing of his is left to spoil. */
__attribute__((noinline)) static unsigned char *stack_below(size_t bytes) {
  return (unsigned char *)__builtin_frame_address(0) - MARGIN - bytes;
}

__attribute__((noinline, no_sanitize("address"))) static void paint_stack(void) {
  for (volatile unsigned char *at = stack_below(PAINTED), *end = at + PAINTED; at < end; at++)
    *at = paint;
}

__attribute__((noinline, no_sanitize("address"))) static size_t painted_over(void) {
  const volatile unsigned char *at = stack_below(PAINTED), *end = at + PAINTED;
  while (at < end && *at == paint)
    at++;
  return (size_t)(end - at) + MARGIN;
}

static void *make_call(void *argument) {
  struct call *call = argument;
  paint_stack();
  call->make(call);
  return (void *)painted_over();
}

/* In a thread of its own: nobody else uses its stack. */
static void check_stack_of(const char *what, struct call *call) {
  pthread_t thread;
  void *used = NULL;
  REQUIRE_INT(pthread_create(&thread, NULL, make_call, call), ==, 0);
  pthread_join(thread, &used);
  printf("    %s: %zu bytes\n", what, (size_t)used);
  CHECK_INT((size_t)used, >, MARGIN); /* otherwise it is not this stack that is looked at */
  CHECK_INT((size_t)used, <=, MOST);
}

static void get(struct call *call) { call->conn = pool_get(call->pool, call->timeout_ms); }
static void put(struct call *call) { CHECK_INT(pool_put(call->pool, call->conn), ==, 0); }
static void put_foreign(struct call *call) { CHECK_INT(pool_put(call->pool, call), ==, POOL_EFOREIGN); }
static void put_again(struct call *call) { CHECK_INT(pool_put(call->pool, call->conn), ==, POOL_ENOTLEASED); }

static void check_call(const char *what, struct call *call, void (*make)(struct call *)) {
  call->make = make;
  check_stack_of(what, call);
}

/* Frames of a program that a tool checks are larger than those that are promised. */
static bool is_measured(void) {
  if (is_slow_run())
    printf("    not measured under a tool\n");
  return !is_slow_run();
}

TEST(a_loan_takes_at_most_16_kib_of_its_callers_stack) {
  if (!is_measured())
    return;
  pool_options_t options = options_sized(0, 1);
  options.reset = POOL_RESET_DISCARD_ALL;
  options.check = POOL_CHECK_PING;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  struct call call = {.pool = pool, .timeout_ms = slow(5000)};
  check_call("a get that starts a connect", &call, get);
  REQUIRE(works(call.conn));
  CHECK(sql_run(call.conn, "begin"));
  check_call("a put amid a transaction", &call, put);
  check_call("a get that waits for a reset", &call, get);
  REQUIRE(works(call.conn));
  check_call("a put", &call, put);
  check_call("a second put", &call, put_again);
  WAIT_FOR(2000, STAT(pool, idle) == 1);
  nap_ms(600); /* idle for long enough to be asked */
  check_call("a get that waits for a ping", &call, get);
  REQUIRE(works(call.conn));
  CHECK_INT(PQsendQuery(call.conn, "select 1"), ==, 1);
  check_call("a put amid a query", &call, put);
  close_whole(pool);
}

TEST(a_loan_of_what_is_idle_takes_at_most_16_kib_of_its_callers_stack) {
  pool_t *pool = is_measured() ? open_pool(1, 1) : NULL;
  if (!pool)
    return;
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  struct call call = {.pool = pool, .timeout_ms = 0};
  check_call("a get of what is idle", &call, get);
  REQUIRE(call.conn);
  check_call("its put", &call, put);
  close_whole(pool);
}

TEST(an_error_takes_at_most_16_kib_of_its_callers_stack) {
  if (!is_measured())
    return;
  char name[POOL_NAME_LIMIT + 1];
  memset(name, 'n', sizeof name - 1);
  name[sizeof name - 1] = 0;
  pool_options_t options = options_sized(0, 1);
  options.name = name;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  struct call call = {.pool = pool, .timeout_ms = 50};
  check_call("a get that is not served", &call, get);
  CHECK_INT(STAT(pool, timeouts), ==, 1);
  check_call("a put of something else", &call, put_foreign);
  CHECK_INT(pool_put(pool, held), ==, 0);
  close_whole(pool);
}

TEST(a_wait_for_an_attempt_takes_at_most_16_kib_of_its_callers_stack) {
  if (!is_measured())
    return;
  struct proxy *proxy = proxy_start();
  proxy_new(proxy, PROXY_DARK);
  char conninfo[128];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d", proxy_port(proxy));
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  struct call call = {.pool = pool, .timeout_ms = 300};
  check_call("a get while an attempt is under way", &call, get);
  CHECK(call.conn == NULL);
  CHECK_INT(proxy_accepted(proxy), >=, 1);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_new(proxy, PROXY_REFUSE);
  pool = call.pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  check_call("a get whose attempts are refused", &call, get);
  CHECK(call.conn == NULL);
  CHECK_INT(pool_close(pool), ==, 0);
  proxy_stop(proxy);
}
