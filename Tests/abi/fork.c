/* A child goes on with every pool, the parent notices nothing. */
#include "pools.h"
#include "proxy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Exit status of the child, -1 if it had to be killed: a child that hangs is a failure, not the end of the test. */
static int end_of(pid_t pid) {
  int status = 0;
  for (int64_t end = now_ms() + slow(10000); now_ms() < end; nap_ms(2)) {
    if (waitpid(pid, &status, WNOHANG) == pid)
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  return -1;
}

/* A loan that works, in a child: 0, or the number of the step that failed. */
static int use(pool_t *pool) {
  PGconn *conn = pool_get(pool, slow(5000));
  if (!conn)
    return 11;
  if (sql_number(conn, "select 4711") != 4711)
    return 12;
  return pool_put(pool, conn) == 0 ? 0 : 13;
}

TEST(child_and_parent_both_work_with_sessions_of_their_own) {
  pool_t *pool = open_pool(2, 4);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  int pid = PQbackendPID(conn);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 50; i++) {
      conn = pool_get(pool, slow(5000));
      if (!conn || PQbackendPID(conn) == pid || sql_number(conn, "select %d", i) != i || pool_put(pool, conn) != 0)
        _exit(1);
    }
    _exit(0);
  }
  for (int i = 0; i < 50; i++) {
    conn = pool_get(pool, slow(5000));
    CHECK(conn && sql_number(conn, "select %d", 1000 + i) == 1000 + i);
    CHECK_INT(pool_put(pool, conn), ==, 0);
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK_INT(STAT(pool, lost), ==, 0);
  CHECK_INT(STAT(pool, opened), <=, 4);
  close_whole(pool);
}

TEST(a_child_starts_empty) {
  pool_t *pool = open_pool(0, 4);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  pid_t child = fork();
  if (child == 0) {
    pool_stats_t stats = {.size = sizeof stats};
    if (pool_stats(pool, &stats) != 0 || stats.total != 0 || stats.idle != 0 || stats.in_use != 0 || stats.gets != 0 ||
        stats.opened != 0 || stats.max_size != 4)
      _exit(1);
    _exit(use(pool));
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK_INT(STAT(pool, gets), ==, 1);
  close_whole(pool);
}

TEST(a_loan_from_before_the_fork_is_the_parents) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  pid_t child = fork();
  if (child == 0) {
    if (pool_put(pool, conn) != POOL_EFORKED || pool_errcode() != POOL_EFORKED)
      _exit(1);
    if (pool_discard(pool, conn) != POOL_EFORKED)
      _exit(2);
    if (use(pool) != 0)
      _exit(3);
    if (pool_put(pool, conn) != POOL_EFORKED)
      _exit(4);
    _exit(0);
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(a_child_that_closes_the_pool_and_exits_leaves_the_parents_sessions_alive) {
  pool_options_t options = options_sized(3, 3);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  char before[128], after[128];
  const char *pids = "select string_agg(pid::text, ',' order by pid) from pg_stat_activity where application_name = '%s'";
  CHECK(sql_text(observer(), before, sizeof before, pids, options.name));
  PGconn *held = get_working(pool, POOL_TIMEOUT_DEFAULT);
  pid_t child = fork();
  if (child == 0) {
    if (pool_close(pool) != 0)
      _exit(1);
    if (pool_close(pool) != POOL_ECLOSED)
      _exit(2);
    exit(0); /* with the exit handlers and destructors of all libraries */
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK(works(held));
  CHECK_INT(pool_put(pool, held), ==, 0);
  CHECK(sql_text(observer(), after, sizeof after, pids, options.name));
  CHECK(strcmp(before, after) == 0);
  CHECK_INT(STAT(pool, lost), ==, 0);
  close_whole(pool);
}

TEST(a_child_that_used_the_pool_and_exits_ends_its_own_sessions_only) {
  pool_options_t options = options_sized(1, 2);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  pid_t child = fork();
  if (child == 0)
    exit(use(pool));
  CHECK_INT(end_of(child), ==, 0);
  WAIT_FOR(3000, sessions(options.name) == 1);
  CHECK_INT(STAT(pool, lost), ==, 0);
  CHECK_INT(use(pool), ==, 0);
  close_whole(pool);
}

TEST_LIMIT(a_fork_while_other_threads_hold_the_lock_hangs_nobody, 90) {
  pool_t *pool = open_pool(0, 4);
  REQUIRE(pool);
  struct load *load = start_load(pool, 8, 0);
  WAIT_FOR(5000, load_loans(load) > 100);
  for (int i = 0; i < scaled(40); i++) {
    pid_t child = fork();
    if (child == 0)
      _exit(use(pool));
    if (!CHECK_INT(end_of(child), ==, 0))
      break;
  }
  struct load_result result = stop_load(load);
  CHECK_INT(result.errors, ==, 0);
  CHECK_INT(STAT(pool, lost), ==, 0);
  close_whole(pool);
}

TEST(a_fork_while_connects_are_under_way_hangs_nobody) {
  struct proxy *proxy = proxy_start();
  proxy_delay(proxy, 200);
  char conninfo[128];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d pool_min_size=4 pool_max_size=4", proxy_port(proxy));
  pool_t *pool = pool_create(conninfo, NULL);
  REQUIRE(pool);
  WAIT_FOR(5000, proxy_accepted(proxy) > 0);
  pid_t child = fork();
  if (child == 0)
    _exit(use(pool));
  CHECK_INT(pool_wait(pool, slow(5000)), ==, 0);
  CHECK_INT(end_of(child), ==, 0);
  CHECK_INT(STAT(pool, connect_failures), ==, 0);
  close_whole(pool);
  proxy_stop(proxy);
}

static atomic_bool makes_pools;

static void *make_pools(void *unused) {
  while (atomic_load(&makes_pools))
    pool_close(pool_create("", NULL));
  return unused;
}

TEST(a_fork_while_pools_are_made_hangs_no_child) {
  unsetenv("PGUSER"); /* libpq asks the system then, and others wait for the answer */
  atomic_store(&makes_pools, true);
  pthread_t makers[2];
  for (int i = 0; i < 2; i++)
    REQUIRE_INT(pthread_create(&makers[i], NULL, make_pools, NULL), ==, 0);
  bool is_well = true;
  for (int i = 0; is_well && i < scaled(200); i++) {
    pid_t child = fork();
    if (child == 0)
      _exit(pool_create("", NULL) == NULL);
    is_well = CHECK_INT(end_of(child), ==, 0);
  }
  atomic_store(&makes_pools, false);
  for (int i = 0; i < 2; i++)
    pthread_join(makers[i], NULL);
}

/* As an allocator's: its handlers take its lock, which threads need that a fork has to wait for. */
static pthread_mutex_t allocator = PTHREAD_MUTEX_INITIALIZER;

static void lock_allocator(void) { pthread_mutex_lock(&allocator); }
static void unlock_allocator(void) { pthread_mutex_unlock(&allocator); }

static void lock_in_libpq(int acquire) {
  if (acquire) {
    nap_ms(1);
    lock_allocator();
  } else {
    unlock_allocator();
  }
}

/* Of ten: a fork that has to wait in vain waits half a second. */
static int64_t time_of_forks(void *unused) {
  (void)unused;
  int64_t took = 0;
  for (int i = 0; i < 10; i++) {
    int64_t start = now_ms();
    pid_t child = fork();
    if (child == 0)
      _exit(0);
    took += now_ms() - start;
    if (!CHECK_INT(end_of(child), ==, 0))
      return -1;
  }
  return took;
}

TEST_LIMIT(the_fork_handlers_of_an_allocator_come_later_than_ours, 60) {
  unsetenv("PGUSER");
  PQregisterThreadLock(lock_in_libpq);
  REQUIRE_INT(pthread_atfork(lock_allocator, unlock_allocator, unlock_allocator), ==, 0);
  atomic_store(&makes_pools, true);
  pthread_t maker;
  REQUIRE_INT(pthread_create(&maker, NULL, make_pools, NULL), ==, 0);
  nap_ms(50);
  CHECK_WITHIN(450, 10, time_of_forks, NULL);
  atomic_store(&makes_pools, false);
  pthread_join(maker, NULL);
}

TEST(a_pool_made_in_the_child_works) {
  pool_t *pool = open_pool(1, 1);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  pid_t child = fork();
  if (child == 0) {
    pool_t *own = pool_create("", NULL);
    _exit(own == NULL ? 1 : use(own) != 0 ? 2 : pool_close(own) != 0 ? 3 : use(pool));
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK_INT(use(pool), ==, 0);
  close_whole(pool);
}

TEST(a_childs_child_works_too) {
  pool_t *pool = open_pool(1, 2);
  REQUIRE(pool);
  CHECK_INT(use(pool), ==, 0);
  pid_t child = fork();
  if (child == 0) {
    PGconn *conn = pool_get(pool, slow(5000));
    if (!conn)
      _exit(1);
    pid_t grandchild = fork();
    if (grandchild == 0)
      _exit(pool_put(pool, conn) != POOL_EFORKED ? 1 : use(pool));
    if (end_of(grandchild) != 0)
      _exit(2);
    if (!works(conn) || pool_put(pool, conn) != 0)
      _exit(3);
    _exit(use(pool));
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK_INT(use(pool), ==, 0);
  close_whole(pool);
}

TEST(a_closed_pool_stays_closed_in_the_child) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  CHECK_INT(pool_close(pool), ==, 0);
  pid_t child = fork();
  if (child == 0)
    _exit(pool_get(pool, 0) == NULL && pool_errcode() == POOL_ECLOSED ? 0 : 1);
  CHECK_INT(end_of(child), ==, 0);
}

TEST(a_pause_holds_in_the_child_and_its_end_there_is_its_own) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  pid_t child = fork();
  if (child == 0) {
    if (pool_pause(pool) != 0 || pool_get(pool, 0) != NULL || pool_errcode() != POOL_EPAUSED)
      _exit(1);
    _exit(pool_resume(pool) == 0 ? use(pool) : 2);
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK_INT(STAT(pool, paused), ==, 0);
  CHECK_INT(use(pool), ==, 0);
  close_whole(pool);
}

TEST(a_ticket_of_the_parent_gives_the_child_nothing) {
  pool_t *pool = open_pool(1, 1);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(pool, slow(20000), &ticket), ==, 0);
  pid_t child = fork();
  if (child == 0)
    _exit(pool_get_wait(pool, ticket, 100) != NULL ? 1 : pool_get_cancel(pool, ticket) == 0 ? 2 : use(pool));
  CHECK_INT(end_of(child), ==, 0);
  void *conn = pool_get_wait(pool, ticket, POOL_TIMEOUT_DEFAULT);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

struct forking {
  pool_t *_Atomic pool;
  atomic_int children; /* forked so far: the callback of the child's own session must not fork on */
  atomic_int child;
};

static int fork_once(void *context, void *conn) {
  struct forking *forking = context;
  (void)conn;
  if (atomic_fetch_add(&forking->children, 1) > 0)
    return 0;
  pid_t child = fork();
  if (child == 0)
    _exit(use(atomic_load(&forking->pool)));
  atomic_store(&forking->child, child);
  return 0;
}

/* The child believed itself inside the callback still, and in a pool without threads. */
TEST(a_child_of_a_callback_can_use_the_pool) {
  struct forking forking = {.children = 0};
  pool_options_t options = options_sized(0, 2);
  options.configure = fork_once;
  options.context = &forking;
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  atomic_store(&forking.pool, pool);
  CHECK_INT(use(pool), ==, 0);
  REQUIRE_INT(atomic_load(&forking.child), >, 0);
  CHECK_INT(end_of(atomic_load(&forking.child)), ==, 0);
  CHECK_INT(use(pool), ==, 0);
  close_whole(pool);
}

/* ------------------------------------------------------------------------------------------- descriptors */

static ino_t inode_of(int fd) {
  struct stat facts;
  return fstat(fd, &facts) == 0 ? facts.st_ino : 0;
}

/* A borrower's descriptor that stands where the pool's socket stood is the borrower's, in the child as well. */
TEST(a_descriptor_that_took_over_a_number_is_not_touched) {
  pool_t *pool = open_pool(0, 1);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(conn);
  int number = PQsocket(conn), kept = fcntl(number, F_DUPFD_CLOEXEC, 200), ends[2];
  CHECK_INT(pipe2(ends, O_CLOEXEC), ==, 0);
  CHECK_INT(dup3(ends[1], number, O_CLOEXEC), ==, number);
  ino_t mine = inode_of(ends[1]);
  pid_t child = fork();
  if (child == 0)
    _exit(inode_of(number) != mine ? 1 : write(number, "c", 1) != 1 ? 2 : use(pool));
  CHECK_INT(end_of(child), ==, 0);
  char byte = 0;
  CHECK_INT(read(ends[0], &byte, 1), ==, 1);
  CHECK_INT(byte, ==, 'c');
  CHECK_INT(dup3(kept, number, O_CLOEXEC), ==, number);
  close(kept);
  CHECK(works(conn));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
}

TEST(the_child_holds_none_of_the_parents_sockets) {
  pool_options_t options = options_sized(3, 3);
  pool_t *pool = open_pool_with(&options);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  /* A child that lives on must not keep a session of the parent open. */
  int gate[2];
  CHECK_INT(pipe2(gate, O_CLOEXEC), ==, 0);
  pid_t child = fork();
  if (child == 0) {
    char byte;
    close(gate[1]);
    _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
  }
  CHECK_INT(pool_close(pool), ==, 0);
  WAIT_FOR(3000, sessions(options.name) == 0);
  close(gate[1]);
  close(gate[0]);
  CHECK_INT(end_of(child), ==, 0);
}

HELPER(list_descriptors) {
  DIR *folder = opendir("/proc/self/fd");
  for (struct dirent *entry = folder ? readdir(folder) : NULL; entry; entry = readdir(folder)) {
    char target[256] = "", path[300];
    snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
    if (readlink(path, target, sizeof target - 1) > 0 &&
        (strncmp(target, "socket:", 7) == 0 || strstr(target, "eventpoll") || strstr(target, "eventfd") || strstr(target, "timerfd")))
      printf("%s -> %s\n", entry->d_name, target);
  }
  if (folder)
    closedir(folder);
}

TEST(a_program_started_by_the_parent_inherits_nothing) {
  char before[1024], with_pool[1024];
  CHECK_INT(run_helper("list_descriptors", "", before, sizeof before, 5000), ==, 0);
  pool_t *pool = open_pool(3, 3);
  REQUIRE(pool);
  REQUIRE_INT(pool_wait(pool, slow(5000)), ==, 0);
  CHECK_INT(run_helper("list_descriptors", "", with_pool, sizeof with_pool, 5000), ==, 0);
  CHECK(strcmp(before, with_pool) == 0);
  close_whole(pool);
}
