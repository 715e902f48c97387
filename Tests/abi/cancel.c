/* Threads that are cancelled, or that end, in the middle of it: no lock stays held and no connection is lost. */
#include "pools.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The cancel is pending when the call begins: it may take effect only after it. */
static void *create_cancelled(void *argument) {
  pool_t **made = argument;
  pthread_cancel(pthread_self());
  *made = pool_create("host=/nonexistent", NULL);
  pthread_testcancel();
  return NULL;
}

static void check_cancelled_create(void) {
  pool_t *made = NULL;
  pthread_t thread;
  void *end = NULL;
  REQUIRE_INT(pthread_create(&thread, NULL, create_cancelled, &made), ==, 0);
  REQUIRE_INT(pthread_join(thread, &end), ==, 0);
  CHECK(end == PTHREAD_CANCELED);
  REQUIRE(made != NULL);
  CHECK_INT(pool_close(made), ==, 0);
}

HELPER(do_nothing) {}

static void check_create_and_fork(void) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  /* A program of its own: what a child of fork() has lost is no matter of this test. */
  CHECK_INT(run_helper("do_nothing", "", NULL, 0, 5000), ==, 0);
  close_whole(pool);
}

/* The thread died inside pool_create() with the lock of the process's first use held: the next one hung. */
TEST(a_cancel_in_the_first_create_leaves_no_lock_held) {
  check_cancelled_create();
  check_create_and_fork();
}

/* The same with the lock of the pools held, which fork() takes too. */
TEST(a_cancel_in_a_later_create_leaves_no_lock_held) {
  pool_t *first = open_pool(0, 1);
  REQUIRE(first);
  check_cancelled_create();
  check_create_and_fork();
  CHECK_INT(pool_close(first), ==, 0);
}

static void *get_cancelled(void *argument) {
  pool_t *pool = argument;
  pthread_cancel(pthread_self());
  void *conn = pool_get(pool, slow(5000));
  if (conn)
    pool_put(pool, conn);
  pthread_testcancel();
  return NULL;
}

/* Reading the notification was a point of cancellation: the thread died with the connection in its hands. */
TEST(a_cancel_while_a_notification_is_read_loses_no_connection) {
  pool_options_t options = options_sized(0, 1);
  options.check = POOL_CHECK_SOCKET;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  for (int i = 0; i < scaled(20); i++) {
    PGconn *conn = get_working(pool, slow(5000));
    CHECK(sql_run(conn, "listen abi_cancel"));
    CHECK_INT(pool_put(pool, conn), ==, 0);
    CHECK(sql_run(observer(), "notify abi_cancel"));
    pthread_t thread;
    void *end = NULL;
    REQUIRE_INT(pthread_create(&thread, NULL, get_cancelled, pool), ==, 0);
    REQUIRE_INT(pthread_join(thread, &end), ==, 0);
    CHECK(end == PTHREAD_CANCELED);
  }
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

/* ------------------------------------------------------------------------------------- the end of a thread */

enum { BLOCKS = 64 };
static pthread_key_t host_key;
static pool_t *host_pool;
static int destructions;

/* Memory of many sizes, filled: what the library gave back and still used would be overwritten. */
static void fill_free_memory(void) {
  char *blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) {
    size_t size = 64 + (size_t)i * 32;
    blocks[i] = malloc(size);
    if (CHECK(blocks[i] != NULL))
      memset(blocks[i], 'A', size);
  }
  for (int i = 0; i < BLOCKS; i++)
    free(blocks[i]);
}

static void call_at_the_end(void *value) {
  (void)value;
  destructions++;
  CHECK_INT(pool_put(NULL, NULL), ==, POOL_EINVAL);
  fill_free_memory();
  CHECK_INT(pool_errcode(), ==, POOL_EINVAL);
  CHECK_LACKS(pool_errmsg(), "AAAA");
  PGconn *conn = get_working(host_pool, slow(5000));
  CHECK_INT(pool_put(host_pool, conn), ==, 0);
}

static void *fail_and_end(void *argument) {
  CHECK_INT(pthread_setspecific(host_key, argument), ==, 0);
  CHECK_INT(pool_put(NULL, NULL), ==, POOL_EINVAL);
  return NULL;
}

/* The library's destructor had freed the thread's message when a later one of the host called again. */
TEST(a_destructor_of_the_host_may_call_at_the_end_of_a_thread) {
  host_pool = open_pool(0, 1);
  REQUIRE(host_pool);
  /* Destructors run in the order of the keys; the library's is from before main(). */
  REQUIRE_INT(pthread_key_create(&host_key, call_at_the_end), ==, 0);
  for (int i = 0; i < 5; i++) {
    pthread_t thread;
    REQUIRE_INT(pthread_create(&thread, NULL, fail_and_end, &host_key), ==, 0);
    pthread_join(thread, NULL);
  }
  CHECK_INT(destructions, ==, 5);
  CHECK_INT(pthread_key_delete(host_key), ==, 0);
  close_whole(host_pool);
}
