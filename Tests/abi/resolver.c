/* A resolver that hangs. libpq's resolver cannot be interrupted: a thread waits in it, and nobody else does. The
 * program's own getaddrinfo() keeps "hang.example" for 30 seconds, or until the test lets go; for "locked.example", which
 * is 127.0.0.1, it takes a lock that no fork sets free, as that of the C library takes some. */
#include "pools.h"

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANG_MS = 30000, MOST_STUCK = 16 };

static const char hanging_host[] = "hang.example", locked_host[] = "locked.example";
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int inside, most_inside, calls;
static atomic_bool released;

static int hang(void) {
  atomic_fetch_add(&calls, 1);
  int now_inside = atomic_fetch_add(&inside, 1) + 1;
  int most = atomic_load(&most_inside);
  while (now_inside > most && !atomic_compare_exchange_weak(&most_inside, &most, now_inside))
    continue;
  for (int64_t end = now_ms() + HANG_MS; now_ms() < end && !atomic_load(&released);)
    nap_ms(10);
  atomic_fetch_sub(&inside, 1);
  return EAI_AGAIN;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **answer) {
  if (node && strcmp(node, hanging_host) == 0)
    return hang();
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  if (!real)
    return EAI_SYSTEM;
  if (!node || strcmp(node, locked_host) != 0)
    return real(node, service, hints, answer);
  pthread_mutex_lock(&lock);
  nap_ms(2);
  int result = real("127.0.0.1", service, hints, answer);
  pthread_mutex_unlock(&lock);
  return result;
}

static pool_t *open_hanging(const char *more) {
  char conninfo[256];
  snprintf(conninfo, sizeof conninfo, "host=%s sslmode=disable %s", hanging_host, more);
  int64_t start = now_ms();
  pool_t *pool = pool_create(conninfo, NULL);
  if (!CHECK(pool != NULL))
    fprintf(stderr, "    pool_create: %s\n", pool_errmsg());
  CHECK_INT(now_ms() - start, <, slow(250));
  return pool;
}

/* The pool is closed at once, whatever hangs; its threads come back when the resolver does. */
static void close_hanging(pool_t *pool) {
  int64_t start = now_ms();
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(250));
}

static void let_go(void) {
  atomic_store(&released, true);
  WAIT_FOR(5000, atomic_load(&inside) == 0);
}

static int64_t time_of_failed_get(void *pool) {
  int64_t start = now_ms();
  if (!CHECK(pool_get(pool, 1000) == NULL) || !CHECK_INT(pool_errcode(), ==, POOL_ECONNECT))
    return -1;
  int64_t took = now_ms() - start;
  return CHECK_INT(took, >=, 999) ? took : -1;
}

TEST(a_get_ends_in_time_while_the_resolver_hangs) {
  pool_t *pool = open_hanging("");
  REQUIRE(pool);
  CHECK_WITHIN(1250, 3, time_of_failed_get, pool);
  CHECK_INT(atomic_load(&inside), >=, 1);
  close_hanging(pool);
  let_go();
}

/* The attempt is given up after its own time, and the error says what it was busy with. */
TEST(the_error_blames_the_resolver) {
  pool_t *pool = open_hanging("pool_connect_timeout=200ms");
  REQUIRE(pool);
  CHECK_WITHIN(1250, 3, time_of_failed_get, pool);
  CHECK_HAS(pool_errmsg(), "resolver");
  close_hanging(pool);
  let_go();
}

/* -------------------------------------------------------------------------------------------- other pools */

static int by_size(const void *left, const void *right) {
  int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
  return (a > b) - (a < b);
}

/* The 99th percentile of a get on a pool with idle connections, in milliseconds rounded up. */
static int64_t slowest_of_most(void *pool) {
  enum { GETS = 1000 };
  static int64_t took[GETS];
  for (int i = 0; i < GETS; i++) {
    int64_t start = now_us();
    void *conn = pool_get(pool, slow(1000));
    took[i] = now_us() - start;
    if (!CHECK(conn != NULL) || !CHECK_INT(pool_put(pool, conn), ==, 0))
      return -1;
  }
  qsort(took, GETS, sizeof *took, by_size);
  return (took[GETS * 99 / 100] + 999) / 1000;
}

TEST(a_hanging_resolver_holds_up_no_other_pool) {
  enum { HANGING = 5 };
  pool_t *hanging[HANGING];
  struct load *loads[HANGING];
  for (int i = 0; i < HANGING; i++) {
    REQUIRE((hanging[i] = open_hanging("pool_max_size=20 pool_connect_timeout=200ms")));
    loads[i] = start_load(hanging[i], 20, 0);
  }
  WAIT_FOR(5000, atomic_load(&inside) >= HANGING);
  pool_t *healthy = open_pool(0, 4);
  REQUIRE(healthy);
  int64_t start = now_ms();
  PGconn *conns[4];
  for (int i = 0; i < 4; i++)
    conns[i] = get_working(healthy, slow(5000));
  CHECK_INT(now_ms() - start, <, slow(2000));
  for (int i = 0; i < 4; i++)
    CHECK_INT(pool_put(healthy, conns[i]), ==, 0);
  CHECK_WITHIN(2, 40, slowest_of_most, healthy);
  close_whole(healthy);
  for (int i = 0; i < HANGING; i++) {
    close_hanging(hanging[i]);
    CHECK_INT(stop_load(loads[i]).loans, ==, 0);
  }
  let_go();
}

/* ------------------------------------------------------------------------------------------ stuck threads */

TEST(a_pool_leaves_at_most_sixteen_threads_in_the_resolver) {
  int threads_before = running_threads();
  pool_t *pool = open_hanging("pool_max_size=40 pool_connect_timeout=200ms");
  REQUIRE(pool);
  enum { CALLERS = 40 };
  struct load *load = start_load(pool, CALLERS, 0);
  WAIT_FOR(5000, STAT(pool, stuck_connectors) >= 1);
  /* Several times the connect timeout, with demand all the time. */
  int64_t most = 0;
  for (int64_t end = now_ms() + 2000; now_ms() < end; nap_ms(5)) {
    int64_t stuck = STAT(pool, stuck_connectors);
    most = stuck > most ? stuck : most;
  }
  CHECK_INT(most, <=, MOST_STUCK);
  CHECK_INT(atomic_load(&most_inside), <=, MOST_STUCK);
  /* One of upkeep besides. */
  CHECK_INT(running_threads() - threads_before - CALLERS, <=, MOST_STUCK + 1);
  atomic_store(&released, true);
  WAIT_FOR(5000, STAT(pool, stuck_connectors) == 0 && atomic_load(&inside) == 0);
  close_hanging(pool);
  CHECK_INT(stop_load(load).loans, ==, 0);
  WAIT_FOR(5000, running_threads() <= resting_threads());
}

/* A thread that is stuck is not multiplied by tries. */
TEST(tries_do_not_pile_up_in_the_resolver) {
  pool_t *pool = open_hanging("pool_max_size=1");
  REQUIRE(pool);
  for (int i = 0; i < 20; i++)
    CHECK(pool_get(pool, 20) == NULL);
  CHECK_INT(atomic_load(&calls), ==, 1);
  close_hanging(pool);
  let_go();
}

/* ---------------------------------------------------------------------------------------------------- fork */

static atomic_bool looks_up;

static void *look_up(void *pool) {
  PGconn *conn;
  while (atomic_load(&looks_up))
    if ((conn = pool_get(pool, slow(10000))) != NULL)
      pool_discard(pool, conn);
  return NULL;
}

/* As another program: what threads of the parent had in hand is lost in the child, and would be told as lost at its end. */
static void end_child(bool is_good) {
  const char *program = is_good ? "/bin/true" : "/bin/false";
  execl(program, program, (char *)NULL);
  _exit(2);
}

TEST(a_fork_in_the_middle_of_a_lookup_leaves_the_child_a_resolver) {
  char conninfo[128];
  snprintf(conninfo, sizeof conninfo, "host=%s sslmode=disable pool_max_size=2", locked_host);
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  atomic_store(&looks_up, true);
  pthread_t thread;
  REQUIRE_INT(pthread_create(&thread, NULL, look_up, pool), ==, 0);
  WAIT_FOR(5000, STAT(pool, opened) > 0);
  bool is_well = true;
  for (int i = 0; is_well && i < scaled(60); i++) {
    nap_ms(i % 7);
    pid_t child = fork();
    if (child == 0)
      end_child(works(pool_get(pool, slow(5000))));
    int status = -1;
    CHECK_INT(waitpid(child, &status, 0), ==, child);
    is_well = CHECK_INT(status, ==, 0);
  }
  atomic_store(&looks_up, false);
  pthread_join(thread, NULL);
  close_whole(pool);
}

TEST(a_fork_waits_a_moment_for_a_resolver_that_hangs) {
  pool_t *pool = open_hanging("pool_min_size=1");
  REQUIRE(pool);
  WAIT_FOR(5000, atomic_load(&inside) > 0);
  int64_t start = now_ms();
  pid_t child = fork();
  if (child == 0)
    end_child(true);
  CHECK_INT(now_ms() - start, <, slow(2000));
  CHECK_INT(waitpid(child, NULL, 0), ==, child);
  close_hanging(pool);
  let_go();
}

/* ---------------------------------------------------------------------------------------------------- exit */

/* The argument: "close" or "leave". */
HELPER(exit_while_resolving) {
  pool_t *pool = open_hanging("pool_min_size=4 pool_max_size=8 pool_connect_timeout=200ms");
  WAIT_FOR(5000, pool && STAT(pool, stuck_connectors) >= 1);
  if (strcmp(helper_argument(), "close") == 0)
    close_hanging(pool);
  exit_and_tell(0);
}

static int64_t run_to_exit(void *argument) {
  char output[1024];
  int status = run_helper("exit_while_resolving", argument, output, sizeof output, 20000);
  int64_t took = time_of_exit(output);
  return CHECK(status != -1 && WIFEXITED(status)) && CHECK_INT(WEXITSTATUS(status), ==, 0) ? took : -1;
}

TEST(a_program_ends_while_the_resolver_hangs) {
  static char leave[] = "leave", close_first[] = "close";
  CHECK_WITHIN(1000, 3, run_to_exit, leave);
  CHECK_WITHIN(1000, 3, run_to_exit, close_first);
}
