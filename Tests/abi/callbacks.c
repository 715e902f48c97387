/* The four callbacks: when they run, what they may do, and that the context is freed once. */
#include "pools.h"
#include "proxy.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct witness {
  _Atomic(pool_t *) pool;
  atomic_int configured;
  atomic_int provided;
  atomic_int freed;
  atomic_int logged;
  atomic_int late; /* callbacks after the context was freed */
  atomic_int fail_configure;
  atomic_int fail_provider;
  atomic_int delay_ms;
  atomic_int code;
  atomic_int done;
  pthread_t caller;
  char port[16];
  char line[4096]; /* written by the log callback, read after context_free */
};

static void see(struct witness *witness) {
  if (atomic_load(&witness->freed))
    atomic_fetch_add(&witness->late, 1);
  CHECK(!pthread_equal(pthread_self(), witness->caller));
  if (atomic_load(&witness->delay_ms))
    nap_ms(atomic_load(&witness->delay_ms));
}

static int configure(void *context, void *conn) {
  struct witness *witness = context;
  see(witness);
  atomic_fetch_add(&witness->configured, 1);
  CHECK_INT(PQstatus(conn), ==, CONNECTION_OK);
  CHECK_INT(PQtransactionStatus(conn), ==, PQTRANS_IDLE);
  PQclear(PQexec(conn, "set search_path to abi_configured"));
  return atomic_load(&witness->fail_configure);
}

static int provide(void *context, char *buffer, size_t size) {
  struct witness *witness = context;
  see(witness);
  atomic_fetch_add(&witness->provided, 1);
  CHECK_INT(size, ==, POOL_CONNINFO_LIMIT);
  int length = snprintf(buffer, size, "host=%s port=%s options='-c abi.provided=%d'", server_host(), witness->port,
                        atomic_load(&witness->provided));
  CHECK_INT(length, >, 0);
  return atomic_load(&witness->fail_provider);
}

static void take_line(void *context, int level, const char *message) {
  struct witness *witness = context;
  see(witness);
  CHECK(level >= POOL_LOG_DEBUG && level <= POOL_LOG_ERROR);
  CHECK(message != NULL);
  atomic_fetch_add(&witness->logged, 1);
  strncat(witness->line, message, sizeof witness->line - strlen(witness->line) - 2);
  strcat(witness->line, "\n");
}

static void free_context(void *context) { atomic_fetch_add(&((struct witness *)context)->freed, 1); }

static struct witness *new_witness(void) {
  struct witness *witness = calloc(1, sizeof *witness);
  witness->caller = pthread_self();
  snprintf(witness->port, sizeof witness->port, "%d", server_port());
  return witness;
}

static pool_options_t watched_options(struct witness *witness, int min_size, int max_size) {
  pool_options_t options = options_sized(min_size, max_size);
  options.context = witness;
  options.context_free = free_context;
  return options;
}

/* After close the context is freed once, and nothing comes after it. */
static void close_watched(pool_t *pool, struct witness *witness) {
  CHECK_INT(atomic_load(&witness->freed), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(5000, atomic_load(&witness->freed) == 1);
  /* Connectors are gone a second after the last connect: what is late would come within it. */
  observe_ms(200);
  CHECK_INT(atomic_load(&witness->freed), ==, 1);
  CHECK_INT(atomic_load(&witness->late), ==, 0);
  free(witness);
}

TEST(configure_runs_once_for_each_connection_before_it_is_lent) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 0, 3);
  options.configure = configure;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  void *conns[3];
  for (int i = 0; i < 3; i++) {
    conns[i] = get_working(pool, POOL_TIMEOUT_DEFAULT);
    char path[64] = "";
    CHECK(conns[i] && sql_text(conns[i], path, sizeof path, "show search_path") && strcmp(path, "abi_configured") == 0);
  }
  for (int i = 0; i < 3; i++)
    CHECK_INT(pool_put(pool, conns[i]), ==, 0);
  for (int i = 0; i < 10; i++)
    CHECK_INT(pool_put(pool, get_working(pool, POOL_TIMEOUT_DEFAULT)), ==, 0);
  CHECK_INT(atomic_load(&witness->configured), ==, 3);
  close_watched(pool, witness);
}

TEST(a_configure_that_refuses_closes_the_connection) {
  struct witness *witness = new_witness();
  atomic_store(&witness->fail_configure, 1);
  pool_options_t options = watched_options(witness, 0, 3);
  options.configure = configure;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  CHECK(pool_get(pool, slow(500)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_INT(STAT(pool, connect_failures), >=, 1);
  WAIT_FOR(3000, sessions(options.name) == 0 || STAT(pool, connecting) > 0);
  atomic_store(&witness->fail_configure, 0);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_watched(pool, witness);
}

static int leave_a_transaction(void *context, void *conn) {
  (void)context;
  PQclear(PQexec(conn, "begin"));
  return 0;
}

TEST(a_configure_that_leaves_a_transaction_lends_none) {
  pool_options_t options = options_sized(0, 1);
  options.configure = leave_a_transaction;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = pool_get(pool, slow(500));
  if (conn) {
    CHECK_INT(PQtransactionStatus(conn), ==, PQTRANS_IDLE);
    CHECK_INT(pool_put(pool, conn), ==, 0);
  } else {
    CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  }
  CHECK_INT(pool_close(pool), ==, 0);
}

TEST(the_provider_is_asked_before_each_attempt) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 0, 2);
  options.conninfo_provider = provide;
  pool_t *pool = pool_create("host=127.0.0.1 port=1", &options);
  REQUIRE(pool);
  for (int i = 1; i <= 3; i++) {
    PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
    REQUIRE(conn);
    CHECK_INT(sql_number(conn, "select current_setting('abi.provided')"), ==, i);
    CHECK_INT(pool_discard(pool, conn), ==, 0);
  }
  close_watched(pool, witness);
}

TEST(a_provider_that_fails_is_a_failed_attempt) {
  struct witness *witness = new_witness();
  atomic_store(&witness->fail_provider, 1);
  pool_options_t options = watched_options(witness, 0, 2);
  options.conninfo_provider = provide;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  CHECK(pool_get(pool, slow(300)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  atomic_store(&witness->fail_provider, 0);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_watched(pool, witness);
}

static int provide_without_end(void *context, char *buffer, size_t size) {
  (void)context;
  memset(buffer, ' ', size);
  return 0;
}

static int provide_nonsense(void *context, char *buffer, size_t size) {
  (void)context;
  snprintf(buffer, size, "no_such_keyword=1");
  return 0;
}

TEST(a_provider_that_writes_nonsense_is_a_failed_attempt) {
  const pool_conninfo_fn providers[] = {provide_without_end, provide_nonsense};
  for (int i = 0; i < 2; i++) {
    pool_options_t options = options_sized(0, 1);
    options.conninfo_provider = providers[i];
    pool_t *pool = open_pool_with(&options);
    REQUIRE(pool);
    CHECK(pool_get(pool, slow(300)) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
    CHECK_INT(pool_close(pool), ==, 0);
  }
}

static const char *_Atomic password_now;

static int provide_password(void *context, char *buffer, size_t size) {
  (void)context;
  snprintf(buffer, size, "host=%s port=%d user=abi_rotated password=%s", server_host(), server_port(),
           atomic_load(&password_now));
  return 0;
}

TEST(a_provider_brings_a_changed_password) {
  create_role("abi_rotated", "first", "");
  atomic_store(&password_now, "first");
  pool_options_t options = options_sized(0, 1);
  options.conninfo_provider = provide_password;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK(sql_run(observer(), "alter role abi_rotated password 'second'"));
  atomic_store(&password_now, "second");
  CHECK_INT(pool_discard(pool, conn), ==, 0);
  conn = get_working(pool, slow(5000));
  CHECK_INT(STAT(pool, connect_failures), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(2000, sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_rotated'") == 0);
  drop_role("abi_rotated");
}

TEST(failures_are_logged_with_the_pools_name) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 1, 1);
  options.log = take_line;
  pool_t *pool = pool_create("host=127.0.0.1 port=1", &options);
  REQUIRE(pool);
  CHECK(pool_get(pool, slow(500)) == NULL);
  WAIT_FOR(3000, atomic_load(&witness->logged) >= 1);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(5000, atomic_load(&witness->freed) == 1);
  CHECK_HAS(witness->line, "refused");
  CHECK_HAS(witness->line, options.name);
  free(witness);
}

TEST(notices_of_the_server_go_to_the_log) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 0, 1);
  options.log = take_line;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK(sql_run(conn, "do $$ begin raise warning 'a canary of a notice'; end $$"));
  int before = atomic_load(&witness->logged);
  WAIT_FOR(3000, atomic_load(&witness->logged) >= 1 || before >= 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  nap_ms(200); /* the queue of the log is emptied in the background */
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(5000, atomic_load(&witness->freed) == 1);
  CHECK_HAS(witness->line, "a canary of a notice");
  free(witness);
}

TEST(a_leak_is_logged_with_its_pool) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 0, 1);
  options.log = take_line;
  options.leak_threshold_ms = 100;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  WAIT_FOR(3000, STAT(pool, leaks) == 1);
  WAIT_FOR(3000, atomic_load(&witness->logged) >= 1);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(5000, atomic_load(&witness->freed) == 1);
  CHECK_HAS(witness->line, options.name);
  free(witness);
}

/* ------------------------------------------------------------------------------------------ the context */

TEST(the_context_is_freed_when_the_last_loan_has_nothing_to_do_with_it) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 0, 1);
  options.configure = configure;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  WAIT_FOR(5000, atomic_load(&witness->freed) == 1);
  free(witness);
}

TEST(the_context_is_freed_after_a_callback_that_takes_its_time) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 2, 2);
  options.configure = configure;
  options.log = take_line;
  options.conninfo_provider = provide;
  atomic_store(&witness->delay_ms, 500);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  WAIT_FOR(5000, STAT(pool, connecting) > 0);
  int64_t start = now_ms();
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(300));
  WAIT_FOR(5000, atomic_load(&witness->freed) == 1);
  /* A callback that began too late would show within its own delay. */
  observe_ms(600);
  CHECK_INT(atomic_load(&witness->late), ==, 0);
  CHECK_INT(atomic_load(&witness->freed), ==, 1);
  free(witness);
}

TEST(the_context_of_a_pool_that_was_not_made_is_the_callers) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 0, 1);
  options.max_size = 0;
  CHECK(pool_create("", &options) == NULL);
  observe_ms(50); /* freeing would happen in the call or at once after it */
  CHECK_INT(atomic_load(&witness->freed), ==, 0);
  free(witness);
}

static int configure_and_look(void *context, void *conn) {
  (void)conn;
  static const int signals[] = {SIGINT, SIGTERM, SIGALRM, SIGHUP, SIGCHLD, SIGUSR1, SIGPIPE};
  sigset_t set;
  pthread_sigmask(SIG_SETMASK, NULL, &set);
  int all = 1;
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
    all &= sigismember(&set, signals[i]) == 1;
  atomic_store((atomic_int *)context, all);
  return 0;
}

TEST(callbacks_run_with_all_signals_blocked) {
  pool_options_t options = options_sized(1, 1);
  atomic_int blocked = 0;
  options.context = &blocked;
  options.configure = configure_and_look;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  CHECK_INT(atomic_load(&blocked), ==, 1);
  close_whole(pool);
}

/* ---------------------------------------------------------------------------------- calls from a callback */

static int call_own_pool(void *context, void *conn) {
  struct witness *witness = context;
  (void)conn;
  while (!atomic_load(&witness->pool))
    nap_ms(1);
  pool_t *pool = atomic_load(&witness->pool);
  if (atomic_exchange(&witness->done, 1))
    return 0;
  int64_t start = now_ms();
  /* This is the only slot: what waits for a connection would wait for this very callback. */
  void *own = pool_get(pool, POOL_TIMEOUT_INFINITE);
  CHECK(own == NULL);
  atomic_store(&witness->code, pool_errcode());
  CHECK_INT(pool_wait(pool, POOL_TIMEOUT_INFINITE), ==, POOL_EDEADLOCK);
  CHECK_INT(pool_drain(pool, POOL_TIMEOUT_INFINITE), ==, POOL_EDEADLOCK);
  CHECK_INT(now_ms() - start, <, slow(1000));
  pool_stats_t stats = {.size = sizeof stats};
  CHECK_INT(pool_stats(pool, &stats), ==, 0);
  CHECK_INT(pool_resize(pool, 1, 1), ==, 0);
  CHECK_INT(pool_put(pool, &stats), ==, POOL_EFOREIGN);
  return 0;
}

TEST(a_callback_that_would_wait_for_itself_is_told_so) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 1, 1);
  options.configure = call_own_pool;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  atomic_store(&witness->pool, pool);
  PGconn *conn = get_working(pool, slow(10000));
  CHECK_INT(atomic_load(&witness->code), ==, POOL_EDEADLOCK);
  CHECK_INT(STAT(pool, paused), ==, 0);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_watched(pool, witness);
}

static int use_other_pool(void *context, void *conn) {
  struct witness *witness = context;
  (void)conn;
  void *other = pool_get(atomic_load(&witness->pool), slow(5000));
  CHECK(works(other));
  CHECK_INT(pool_put(atomic_load(&witness->pool), other), ==, 0);
  atomic_store(&witness->done, 1);
  return 0;
}

/* As a deep recursion in an interpreter does. */
static int use_much_stack(void *context, void *conn) {
  (void)conn;
  volatile char room[4 << 20];
  for (size_t i = 0; i < sizeof room; i += 4096)
    room[i] = 1;
  atomic_fetch_add(&((struct witness *)context)->done, room[0]);
  return 0;
}

TEST(a_callback_has_the_stack_of_any_thread) {
  struct rlimit limit;
  CHECK_INT(getrlimit(RLIMIT_STACK, &limit), ==, 0);
  if (limit.rlim_cur < 8 << 20) {
    printf("    not run: the program's own threads have less\n");
    return;
  }
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 1, 1);
  options.configure = use_much_stack;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  CHECK_INT(pool_wait(pool, slow(8000)), ==, 0);
  CHECK_INT(atomic_load(&witness->done), ==, 1);
  close_watched(pool, witness);
}

TEST(a_callback_may_use_another_pool) {
  struct witness *witness = new_witness();
  pool_t *other = open_pool(0, 1);
  REQUIRE(other);
  atomic_store(&witness->pool, other);
  pool_options_t options = watched_options(witness, 1, 1);
  options.configure = use_other_pool;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  CHECK_INT(pool_wait(pool, slow(8000)), ==, 0);
  CHECK_INT(atomic_load(&witness->done), ==, 1);
  close_watched(pool, witness);
  close_whole(other);
}

static int close_own_pool(void *context, void *conn) {
  struct witness *witness = context;
  (void)conn;
  while (!atomic_load(&witness->pool))
    nap_ms(1);
  atomic_store(&witness->code, pool_close(atomic_load(&witness->pool)));
  atomic_store(&witness->done, 1);
  return 0;
}

TEST(a_callback_may_close_its_own_pool) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 1, 1);
  options.configure = close_own_pool;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  atomic_store(&witness->pool, pool);
  WAIT_FOR(5000, atomic_load(&witness->done));
  CHECK_INT(atomic_load(&witness->code), ==, 0);
  WAIT_FOR(5000, atomic_load(&witness->freed) == 1);
  CHECK_INT(pool_close(pool), ==, POOL_ECLOSED);
  WAIT_FOR(3000, sessions(options.name) == 0);
  free(witness);
}

TEST(a_callback_that_blocks_holds_up_no_other_pool) {
  struct witness *witness = new_witness();
  pool_options_t options = watched_options(witness, 4, 4);
  options.configure = configure;
  atomic_store(&witness->delay_ms, slow(2000));
  pool_t *pool = open_pool_with(&options), *other = open_pool(0, 4);
  REQUIRE(pool && other);
  WAIT_FOR(5000, atomic_load(&witness->configured) + (int)STAT(pool, connecting) > 0);
  int64_t start = now_ms();
  PGconn *conn = get_working(other, slow(2000));
  CHECK_INT(now_ms() - start, <, slow(1500));
  CHECK_INT(pool_put(other, conn), ==, 0);
  close_whole(other);
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(8000, atomic_load(&witness->freed) == 1);
  free(witness);
}
