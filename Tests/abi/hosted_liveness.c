/* Sessions that the server ended: the pool sees it on its duplicate of the socket. */
#include "host.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_fresh(void *token) { return POOL_TOKEN_FLAGS(token) & POOL_FRESH; }

static struct host *start_checked(int max_size, int check) {
  pool_options_t options = options_sized(0, max_size);
  options.check = check;
  return host_start_with(&options);
}

/* A loan whose object has to be opened anew. */
static void check_fresh(struct host *host, int old_pid) {
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK(is_fresh(token));
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK(works(host_object(host, token)));
  CHECK(host_pid(host, token) != old_pid);
  CHECK_INT(host_put(host, token), ==, 0);
}

TEST(an_idle_object_that_was_lost_is_granted_as_fresh) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  host_fill(host, 1);
  CHECK_INT(terminate_sessions(host->name), ==, 1);
  WAIT_FOR(3000, STAT(host->pool, lost) == 1);
  CHECK_INT(STAT(host->pool, idle), ==, 0);
  CHECK_INT(STAT(host->pool, in_use), ==, 0);
  check_fresh(host, 0); /* without anybody's put or collect */
  CHECK_INT(STAT(host->pool, opened), ==, 2);
  CHECK_INT(sessions(host->name), ==, 1);
  host_end(host);
}

TEST(lost_objects_can_be_collected) {
  enum { SIZE = 3 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  host_fill(host, SIZE);
  CHECK_INT(terminate_sessions(host->name), ==, SIZE);
  int collected = 0;
  while (collected < SIZE) {
    int count = host_collect(host, slow(3000));
    REQUIRE_INT(count, >, 0);
    collected += count;
  }
  CHECK_INT(collected, ==, SIZE);
  CHECK_INT(host_collect(host, 0), ==, 0);
  CHECK_INT(STAT(host->pool, lost), ==, SIZE);
  WAIT_FOR(2000, STAT(host->pool, total) == 0);
  CHECK_INT(atomic_load(&host->open), ==, 0);
  host_fill(host, SIZE);
  host_end(host);
}

/* A slot is granted once: what became a fresh grant is no more to be collected. */
TEST(a_lost_object_is_collected_or_granted_never_both) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  for (int i = 0; i < 5; i++) {
    host_fill(host, 1);
    CHECK_INT(terminate_sessions(host->name), ==, 1);
    WAIT_FOR(3000, STAT(host->pool, idle) == 0);
    void *token = host_get(host, POOL_TIMEOUT_DEFAULT);
    REQUIRE(token != NULL);
    CHECK_INT(host_collect(host, 0), ==, 0);
    CHECK_INT(host_put(host, token), ==, 0);
  }
  host_end(host);
}

static void *borrow_once(void *argument) {
  struct host *host = argument;
  void *token = host_get_working(host, slow(8000));
  if (token)
    CHECK_INT(host_put(host, token), ==, 0);
  return NULL;
}

/* A restart of the server with every object idle and dead and every thread waiting. */
TEST(all_lost_and_everybody_waiting_heals_without_a_put) {
  enum { SIZE = 3, THREADS = 8 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  host_fill(host, SIZE);
  CHECK_INT(pool_pause(host->pool), ==, 0);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, borrow_once, host);
  WAIT_FOR(5000, STAT(host->pool, waiting) == THREADS);
  CHECK_INT(terminate_sessions(host->name), ==, SIZE);
  WAIT_FOR(3000, STAT(host->pool, lost) == SIZE);
  CHECK_INT(STAT(host->pool, gets), ==, SIZE);
  CHECK_INT(pool_resume(host->pool), ==, 0);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  CHECK_INT(STAT(host->pool, gets), ==, SIZE + THREADS);
  CHECK_INT(sessions(host->name), <=, SIZE);
  host_end(host);
}

TEST(an_object_killed_while_lent_is_not_lent_again) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  int pid = host_pid(host, token);
  CHECK_INT(terminate_sessions(host->name), ==, 1);
  int answer = host_put(host, token);
  CHECK(answer >= 0); /* the loss may be known already, or soon */
  WAIT_FOR(3000, STAT(host->pool, lost) == 1);
  check_fresh(host, pid);
  host_end(host);
}

TEST(a_loss_known_before_the_put_is_told_by_it) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  void *kept = host_get_working(host, POOL_TIMEOUT_DEFAULT), *other = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(kept && other);
  CHECK_INT(host_put(host, other), ==, 0);
  CHECK_INT(terminate_sessions(host->name), ==, 2);
  WAIT_FOR(3000, STAT(host->pool, lost) == 1); /* the idle one; the other socket ended no later */
  observe_ms(100);
  int answer = host_put(host, kept);
  CHECK_INT(answer & POOL_CLOSE, ==, POOL_CLOSE);
  CHECK_INT(answer & ~(POOL_CLOSE | POOL_COLLECT), ==, 0);
  WAIT_FOR(3000, STAT(host->pool, lost) == 2);
  host_end(host);
}

static void wait_readable(PGconn *object, short events) {
  struct pollfd ready = {PQsocket(object), events, 0};
  CHECK_INT(poll(&ready, 1, slow(3000)), ==, 1);
}

TEST(with_check_socket_something_that_arrived_makes_a_token_doubtful) {
  struct host *host = start_checked(1, POOL_CHECK_SOCKET);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  PGconn *object = host_object(host, token);
  CHECK(sql_run(object, "listen abi_news"));
  CHECK_INT(host_put(host, token), ==, 0);
  token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(POOL_TOKEN_FLAGS(token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK(sql_run(observer(), "notify abi_news"));
  wait_readable(object, POLLIN);
  for (int i = 0; i < 2; i++) { /* until somebody reads it */
    token = pool_get(host->pool, i == 0 ? 0 : POOL_TIMEOUT_DEFAULT);
    REQUIRE(token != NULL);
    CHECK_INT(POOL_TOKEN_FLAGS(token), ==, POOL_DOUBTFUL);
    CHECK_INT(host_put(host, token), ==, 0);
  }
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(5000), &ticket), ==, 0);
  token = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK_INT(POOL_TOKEN_FLAGS(token), ==, POOL_DOUBTFUL);
  CHECK_INT(PQconsumeInput(object), ==, 1);
  PGnotify *news = PQnotifies(object);
  CHECK(news != NULL);
  PQfreemem(news);
  CHECK_INT(host_put(host, token), ==, 0);
  token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(POOL_TOKEN_FLAGS(token), ==, 0);
  CHECK_INT(STAT(host->pool, opened), ==, 1);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

TEST(without_check_socket_no_token_is_doubtful) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  PGconn *object = host_object(host, token);
  CHECK(sql_run(object, "listen abi_news"));
  CHECK_INT(host_put(host, token), ==, 0);
  CHECK(sql_run(observer(), "notify abi_news"));
  wait_readable(object, POLLIN);
  token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(POOL_TOKEN_FLAGS(token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

/* Each time at once after the end of the session, before the watch can have seen it. */
TEST(with_check_socket_a_dead_object_is_never_lent) {
  struct host *host = start_checked(1, POOL_CHECK_SOCKET);
  REQUIRE(host);
  for (int i = 0; i < scaled(40); i++) {
    void *token = host_get_working(host, POOL_TIMEOUT_DEFAULT);
    REQUIRE(token != NULL);
    PGconn *object = host_object(host, token);
    CHECK_INT(host_put(host, token), ==, 0);
    CHECK(sql_run(observer(), "select pg_terminate_backend(%d)", PQbackendPID(object)));
    wait_readable(object, POLLRDHUP);
    pool_ticket_t ticket = 0;
    if (i % 2 == 0) {
      token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
    } else {
      CHECK_INT(pool_get_start(host->pool, slow(5000), &ticket), ==, 0);
      token = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
    }
    REQUIRE(token != NULL);
    CHECK(is_fresh(token));
    REQUIRE(host_take(host, token) != NULL);
    CHECK_INT(host_put(host, token), ==, 0);
  }
  host_end(host);
}

/* The number is the host's: it may close its socket and use the number for a file, which stays untouched. */
TEST(only_the_duplicate_of_the_socket_is_used) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  int ends[2], number = fcntl(0, F_DUPFD_CLOEXEC, 100);
  PGconn *object = host_connect(host, token);
  CHECK_INT(dup3(PQsocket(object), number, O_CLOEXEC), ==, number);
  CHECK_INT(pool_adopt(host->pool, token, number), ==, 0);
  CHECK_INT(pipe2(ends, O_CLOEXEC | O_NONBLOCK), ==, 0);
  CHECK_INT(dup3(ends[1], number, O_CLOEXEC), ==, number);
  CHECK_INT(host_put(host, token), ==, 0);
  /* The session is watched all the same, and nobody closes or writes to the pipe. */
  CHECK_INT(terminate_sessions(host->name), ==, 1);
  WAIT_FOR(3000, STAT(host->pool, lost) == 1);
  host_end(host);
  CHECK_INT(write(number, "n", 1), ==, 1);
  char bytes[4];
  CHECK_INT(read(ends[0], bytes, sizeof bytes), ==, 1);
  CHECK_INT(close(number), ==, 0);
}

TEST(a_duplicate_is_kept_for_each_object_and_no_longer) {
  enum { SIZE = 4 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  host_fill(host, 1);
  observer();
  int before = open_descriptors();
  host_fill(host, SIZE);
  CHECK_INT(open_descriptors(), ==, before + 2 * (SIZE - 1)); /* the host's and the pool's */
  for (int i = 0; i < 20; i++)
    CHECK_INT(host_discard(host, host_get(host, POOL_TIMEOUT_DEFAULT)), ==, 0);
  WAIT_FOR(3000, STAT(host->pool, closing) == 0);
  WAIT_FOR(3000, open_descriptors() == before + 2 * ((int)STAT(host->pool, total) - 1));
  host_end(host);
}
