/* The system gives no more threads. The program's own pthread_create() refuses on demand. */
#include "pools.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static atomic_bool refusing;
static atomic_int refused;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
  if (atomic_load(&refusing)) {
    atomic_fetch_add(&refused, 1);
    return EAGAIN;
  }
  int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  return real ? real(thread, attributes, body, argument) : ENOSYS;
}

static void use_once(pool_t *pool) {
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
}

static void refuse_create(void) {
  CHECK(pool_create("", NULL) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ESYSTEM);
  CHECK_HAS(pool_errmsg(), "thread");
  CHECK_HAS(pool_errmsg(), strerror(EAGAIN));
}

TEST(the_first_pool_without_threads_is_refused_and_leaves_nothing_behind) {
  int before = open_descriptors();
  atomic_store(&refusing, true);
  refuse_create();
  /* /dev/null, which the library opens once for the process: at a fork there may be no descriptor left for it. */
  int descriptors = open_descriptors();
  CHECK_INT(descriptors - before, <=, 1);
  for (int i = 0; i < 20; i++)
    refuse_create();
  CHECK_INT(atomic_load(&refused), >, 20);
  CHECK_INT(open_descriptors(), ==, descriptors);
  CHECK_INT(running_threads(), ==, resting_threads() - 1);
  atomic_store(&refusing, false);
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  use_once(pool);
  close_whole(pool);
}

TEST(a_refused_pool_keeps_no_memory) {
  if (is_slow_run()) {
    printf("    not run: a checked program keeps what is freed, and looks for lost memory itself\n");
    return;
  }
  atomic_store(&refusing, true);
  for (int i = 0; i < scaled(200); i++)
    refuse_create();
  long before = resident_kib();
  for (int i = 0; i < scaled(2000); i++)
    refuse_create();
  CHECK_INT(resident_kib() - before, <, 1024);
}

/* Fails by its deadline, and says why. */
static int64_t time_of_refused_get(void *pool) {
  int64_t start = now_ms();
  if (!CHECK(pool_get(pool, 300) == NULL))
    return -1;
  int64_t took = now_ms() - start;
  CHECK(pool_errcode() == POOL_ESYSTEM || pool_errcode() == POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), "thread");
  CHECK_HAS(pool_errmsg(), strerror(EAGAIN));
  return took;
}

TEST(a_pool_that_cannot_open_for_lack_of_threads_says_so_and_recovers) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  atomic_store(&refusing, true);
  CHECK_WITHIN(550, 3, time_of_refused_get, pool);
  CHECK_INT(atomic_load(&refused), >=, 1);
  atomic_store(&refusing, false);
  use_once(pool);
  close_whole(pool);
}

TEST(a_pool_that_cannot_grow_for_lack_of_threads_lends_what_it_has) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  PGconn *held = get_working(pool, slow(5000));
  /* The thread that opened it goes a second after its work. */
  WAIT_FOR(5000, running_threads() <= resting_threads());
  atomic_store(&refusing, true);
  CHECK_WITHIN(550, 3, time_of_refused_get, pool);
  CHECK(works(held));
  CHECK_INT(pool_put(pool, held), ==, 0);
  held = get_working(pool, 0);
  atomic_store(&refusing, false);
  PGconn *second = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, held), ==, 0);
  CHECK_INT(pool_put(pool, second), ==, 0);
  close_whole(pool);
}

static atomic_int freed;

static void count_free(void *context) {
  (void)context;
  atomic_fetch_add(&freed, 1);
}

TEST(what_a_closed_pool_could_not_call_for_lack_of_threads_is_called_when_they_are_back) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.context = &freed;
  options.context_free = count_free;
  pool_t *pool = pool_create("", &options);
  REQUIRE(pool);
  use_once(pool);
  WAIT_FOR(5000, running_threads() <= resting_threads());
  atomic_store(&refused, 0);
  atomic_store(&refusing, true);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(5000, atomic_load(&refused) >= 2);
  CHECK_INT(atomic_load(&freed), ==, 0);
  atomic_store(&refusing, false);
  WAIT_FOR(5000, atomic_load(&freed) == 1);
}

TEST(a_pool_fills_up_by_itself_when_threads_are_back) {
  pool_t *first = open_pool(0, 1);
  REQUIRE(first);
  atomic_store(&refusing, true);
  pool_t *pool = open_pool(2, 2);
  REQUIRE(pool);
  WAIT_FOR(2000, atomic_load(&refused) >= 1);
  CHECK_INT(STAT(pool, idle), ==, 0);
  atomic_store(&refusing, false);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  close_whole(pool);
  close_whole(first);
}
