/* The end of the host program at any moment: no crash, quiet, and soon. */
#include "host.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void *collect_for_ever(void *pool) {
  void *tokens[4];
  for (int count = 0; count >= 0;)
    count = pool ? pool_collect(pool, tokens, 4, POOL_TIMEOUT_INFINITE) : pool_collect(NULL, NULL, 0, POOL_TIMEOUT_INFINITE);
  return NULL;
}

static void *wait_for_ever(void *pool) {
  while (pool_get(pool, POOL_TIMEOUT_INFINITE))
    continue;
  return NULL;
}

static void start(void *(*run)(void *), void *argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, argument) != 0 || pthread_detach(thread) != 0)
    _exit(9);
}

/* A loan out, one idle, one told to be closed, a fresh grant that nobody adopts; threads that wait and collect. */
HELPER(exit_with_everything_open) {
  struct host *host = host_start(0, 4);
  void *closing = host ? host_get(host, slow(5000)) : NULL;
  if (!closing || pool_reconnect(host->pool) != 0 || host_put_only(host, closing) != POOL_CLOSE)
    exit(3);
  void *lent = host_get(host, slow(5000)), *idle = host_get(host, slow(5000)), *fresh = pool_get(host->pool, slow(5000));
  start(wait_for_ever, host->pool);
  start(wait_for_ever, host->pool);
  WAIT_FOR(5000, STAT(host->pool, waiting) == 2);
  start(collect_for_ever, host->pool);
  start(collect_for_ever, NULL);
  exit_and_tell(lent && fresh && idle && host_put(host, idle) == 0 ? 0 : 4);
}

enum { SLOTS = 3 };
static int objects[SLOTS][2]; /* by slot: the two ends of a socket, 0 = none */

static void close_object(void *token) {
  int *ends = objects[POOL_TOKEN_SLOT(token)];
  for (int i = 0; i < 2; i++) {
    if (ends[i] > 0)
      close(ends[i]);
    ends[i] = 0;
  }
}

/* Objects that no other library opens: a connect of libpq's during exit() may meet the end of its own TLS. */
static void *keep_borrowing(void *pool) {
  for (int i = 0;; i++) {
    void *token = pool_get(pool, POOL_TIMEOUT_INFINITE);
    if (!token)
      return NULL;
    if (POOL_TOKEN_FLAGS(token) & POOL_FRESH) {
      int *ends = objects[POOL_TOKEN_SLOT(token)];
      close_object(token);
      if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0 || pool_adopt(pool, token, ends[0]) != 0)
        return NULL;
    }
    if (i % 4 == 0) {
      close_object(token);
      pool_discard(pool, token);
    } else if (pool_put(pool, token) & POOL_CLOSE) {
      close_object(token);
      pool_discard(pool, token);
    }
  }
}

/* The argument: microseconds of load before exit(). */
HELPER(exit_under_hosted_load) {
  pool_options_t options = options_sized(0, SLOTS);
  options.max_lifetime_ms = 50;
  pool_t *pool = pool_create_hosted(&options);
  if (!pool)
    exit(3);
  for (int i = 0; i < 6; i++)
    start(keep_borrowing, pool);
  start(collect_for_ever, NULL);
  for (int64_t end = now_us() + atol(helper_argument()); now_us() < end;)
    nap_ms(1);
  exit_and_tell(0);
}

HELPER(exit_right_after_the_close) {
  struct host *host = host_start(0, 3);
  if (!host)
    exit(3);
  host_fill(host, 3);
  start(collect_for_ever, host->pool);
  exit_and_tell(pool_close(host->pool) == 0 ? 0 : 4);
}

TEST_LIMIT(an_exit_with_everything_open_is_quiet, 60) {
  for (int i = 0; i < scaled(20); i++)
    if (!check_exit("exit_with_everything_open", ""))
      break;
}

TEST_LIMIT(exits_under_hosted_load_crash_never, 60) {
  unsigned seed = 7;
  for (int i = 0; i < scaled(30); i++) {
    char after[32];
    snprintf(after, sizeof after, "%d", (int)(rand_r(&seed) % 200000));
    if (!check_exit("exit_under_hosted_load", after))
      break;
  }
}

TEST(an_exit_right_after_the_close_of_a_hosted_pool_is_quiet) {
  for (int i = 0; i < scaled(10); i++)
    if (!check_exit("exit_right_after_the_close", ""))
      break;
}
