/* Passwords that change while the pool lives: a conninfo_provider brings them, and one that fails harms nobody. */
#include "pools.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANARY "t0kenCanary"

static const char *_Atomic password_now;
static atomic_int asked;
static atomic_bool is_hanging;

static int provide(void *context, char *buffer, size_t size) {
  (void)context;
  atomic_fetch_add(&asked, 1);
  snprintf(buffer, size, "host=%s port=%d user=abi_token password=%s", server_host(), server_port(),
           atomic_load(&password_now));
  return 0;
}

static pool_t *open_with_provider(pool_conninfo_fn provider, int min_size, int max_size) {
  pool_options_t options = options_sized(min_size, max_size);
  options.conninfo_provider = provider;
  return open_pool_with(&options);
}

static void change_password(const char *password) {
  CHECK(sql_run(observer(), "alter role abi_token password '%s'", password));
}

static int logins(void) {
  return (int)sql_number(observer(), "select count(*) from pg_stat_activity where usename = 'abi_token'");
}

static pool_t *rotating_pool(int max_size) {
  create_role("abi_token", "first", "");
  atomic_store(&password_now, "first");
  return open_with_provider(provide, 0, max_size);
}

static void end_rotation(pool_t *pool) {
  close_whole(pool);
  WAIT_FOR(5000, logins() == 0);
  drop_role("abi_token");
}

/* The provider knows the new password only after a login was refused: then the next attempt has it. */
static int provide_the_new_one_late(void *context, char *buffer, size_t size) {
  int turn = atomic_load(&asked);
  int code = provide(context, buffer, size);
  if (turn >= 1)
    atomic_store(&password_now, "second");
  return code;
}

TEST_LIMIT(a_password_that_changed_costs_one_refused_login_at_most, 60) {
  create_role("abi_token", "first", "");
  atomic_store(&password_now, "first");
  pool_options_t options = options_sized(0, 1);
  options.conninfo_provider = provide_the_new_one_late;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(5000));
  REQUIRE(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  change_password("second");
  CHECK_INT(terminate_sessions(options.name), ==, 1);
  /* On a busy machine the watch hears of it a little after the test. */
  WAIT_FOR(5000, STAT(pool, lost) == 1);
  /* A refused login is tried again after 5 s. */
  conn = get_working(pool, slow(9000));
  CHECK_INT(STAT(pool, connect_failures), ==, 1);
  CHECK_INT(atomic_load(&asked), ==, 3);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  end_rotation(pool);
}

TEST(a_reconnect_replaces_the_sessions_of_the_old_password) {
  pool_t *pool = rotating_pool(2);
  REQUIRE(pool);
  PGconn *lent = get_working(pool, slow(5000)), *idle = get_working(pool, slow(5000));
  REQUIRE(lent && idle);
  int old[2] = {PQbackendPID(lent), PQbackendPID(idle)};
  CHECK_INT(pool_put(pool, idle), ==, 0);
  change_password("second");
  atomic_store(&password_now, "second");
  CHECK_INT(pool_reconnect(pool), ==, 0);
  CHECK(works(lent));
  CHECK_INT(pool_put(pool, lent), ==, 0);
  WAIT_FOR(5000, sql_number(observer(), "select count(*) from pg_stat_activity where pid in (%d, %d)", old[0],
                            old[1]) == 0);
  PGconn *fresh[2] = {get_working(pool, slow(5000)), get_working(pool, slow(5000))};
  for (int i = 0; i < 2; i++) {
    CHECK(fresh[i] && PQbackendPID(fresh[i]) != old[0] && PQbackendPID(fresh[i]) != old[1]);
    CHECK_INT(pool_put(pool, fresh[i]), ==, 0);
  }
  CHECK_INT(STAT(pool, connect_failures), ==, 0);
  end_rotation(pool);
}

/* ------------------------------------------------------------------------------------------ that go wrong */

static int hang(void *context, char *buffer, size_t size) {
  while (atomic_load(&is_hanging))
    nap_ms(1);
  return provide(context, buffer, size);
}

/* From the thousandth on it answers at once. */
static atomic_int hung;

static int hang_at_first(void *context, char *buffer, size_t size) {
  return atomic_fetch_add(&hung, 1) < 1000 ? hang(context, buffer, size) : provide(context, buffer, size);
}

TEST(a_provider_that_hangs_holds_up_no_deadline_and_no_close) {
  atomic_store(&is_hanging, true);
  create_role("abi_token", "first", "");
  atomic_store(&password_now, "first");
  pool_options_t options = options_sized(0, 2);
  options.conninfo_provider = hang;
  options.connect_timeout_ms = slow(300);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  int64_t start = now_ms();
  CHECK(pool_get(pool, slow(800)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), "conninfo_provider");
  CHECK_INT(now_ms() - start, <, slow(800) + slow(250));
  atomic_store(&is_hanging, false);
  PGconn *conn = get_working(pool, slow(5000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  end_rotation(pool);
}

/* More threads hang, in all, than the process may have for those that do not: each pool still gets one. */
TEST_LIMIT(providers_that_hang_for_many_pools_leave_each_a_thread, 60) {
  enum { HUNG_POOLS = 24, HUNG_GETS = 4 };
  atomic_store(&is_hanging, true);
  create_role("abi_token", "first", "");
  atomic_store(&password_now, "first");
  pool_options_t options = options_sized(0, HUNG_GETS);
  options.conninfo_provider = hang_at_first;
  options.connect_timeout_ms = slow(300);
  pool_t *pools[HUNG_POOLS];
  pool_ticket_t ticket;
  for (int i = 0; i < HUNG_POOLS; i++) {
    pools[i] = open_pool_with(&options);
    REQUIRE(pools[i]);
    for (int get = 0; get < HUNG_GETS; get++)
      CHECK_INT(pool_get_start(pools[i], slow(1500), &ticket), ==, 0);
  }
  /* Those that hang now go on hanging. */
  WAIT_FOR(slow(20000), atomic_load(&hung) >= 64);
  atomic_store(&hung, 1000);
  for (int i = 0; i < HUNG_POOLS; i++) {
    PGconn *conn = pool_get(pools[i], slow(5000));
    if (!CHECK(conn != NULL))
      printf("    pool %d: %s\n", i, pool_errmsg());
    pool_put(pools[i], conn);
  }
  atomic_store(&is_hanging, false);
  for (int i = 0; i < HUNG_POOLS; i++) {
    WAIT_FOR(5000, STAT(pools[i], stuck_connectors) == 0);
    CHECK_INT(pool_close(pools[i]), ==, 0);
  }
  WAIT_FOR(5000, logins() == 0);
  drop_role("abi_token");
}

TEST(a_pool_closes_while_its_provider_hangs) {
  atomic_store(&is_hanging, true);
  pool_t *pool = open_with_provider(hang, 1, 1);
  REQUIRE(pool);
  WAIT_FOR(5000, STAT(pool, connecting) == 1);
  int64_t start = now_ms();
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(now_ms() - start, <, slow(100));
  atomic_store(&is_hanging, false);
  WAIT_FOR(5000, running_threads() <= resting_threads());
}

/* As one that asks a helper program for a token. */
static int ask_a_program(void *context, char *buffer, size_t size) {
  FILE *program = popen("echo second", "r");
  char token[32] = "";
  if (!program || !fgets(token, sizeof token, program))
    return 1;
  token[strcspn(token, "\n")] = 0;
  if (pclose(program) != 0)
    return 2;
  atomic_store(&password_now, strcmp(token, "second") == 0 ? "second" : "wrong");
  return provide(context, buffer, size);
}

static int ask_a_child(void *context, char *buffer, size_t size) {
  pid_t pid = fork();
  if (pid == 0)
    _exit(7);
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
    return 1;
  atomic_store(&password_now, "second");
  return provide(context, buffer, size);
}

TEST(a_provider_may_start_programs_and_fork) {
  const pool_conninfo_fn providers[] = {ask_a_program, ask_a_child};
  create_role("abi_token", "second", "");
  for (int i = 0; i < 2; i++) {
    pool_t *pool = open_with_provider(providers[i], 0, 2);
    REQUIRE(pool);
    PGconn *first = get_working(pool, slow(5000)), *second = get_working(pool, slow(5000));
    CHECK(works(first));
    CHECK_INT(pool_put(pool, first), ==, 0);
    CHECK_INT(pool_put(pool, second), ==, 0);
    close_whole(pool);
  }
  WAIT_FOR(5000, logins() == 0);
  drop_role("abi_token");
}

static int fail_after_writing(void *context, char *buffer, size_t size) {
  (void)context;
  snprintf(buffer, size, "password=" CANARY);
  return -3;
}

static int write_to_the_last_byte(void *context, char *buffer, size_t size) {
  (void)context;
  memset(buffer, 'x', size);
  memcpy(buffer, "password=" CANARY, strlen("password=" CANARY));
  return 0;
}

static int write_bytes(void *context, char *buffer, size_t size) {
  (void)context;
  for (size_t i = 0; i + 1 < size; i++)
    buffer[i] = (char)(1 + i * 7919 % 255);
  memcpy(buffer, CANARY "=", strlen(CANARY "="));
  buffer[size - 1] = 0;
  return 0;
}

TEST(what_a_provider_leaves_behind_is_shown_by_no_error) {
  const pool_conninfo_fn providers[] = {fail_after_writing, write_to_the_last_byte, write_bytes};
  for (size_t i = 0; i < sizeof providers / sizeof *providers; i++) {
    pool_t *pool = open_with_provider(providers[i], 0, 1);
    REQUIRE(pool);
    CHECK(pool_get(pool, slow(300)) == NULL);
    CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
    if (i < 2) /* the third writes it where a keyword stands */
      CHECK_LACKS(pool_errmsg(), CANARY);
    CHECK_INT(pool_close(pool), ==, 0);
  }
}
