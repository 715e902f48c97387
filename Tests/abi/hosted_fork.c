/* Hosted pools in a forked child: slots of its own at once, and the parent notices nothing. */
#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

/* A child's host forgets the parent's objects: they are not closed. */
static void forget_objects(struct host *host) {
  memset(host->objects, 0, (size_t)host->slots * sizeof *host->objects);
  memset((void *)host->held, 0, (size_t)host->slots * sizeof *host->held);
  atomic_store(&host->open, 0);
}

/* A fresh loan that works, in a child that has forgotten: 0, or the number of the step that failed. */
static int use_fresh(struct host *host, int timeout_ms) {
  void *token = pool_get(host->pool, timeout_ms);
  if (!token)
    return 11;
  if (!(POOL_TOKEN_FLAGS(token) & POOL_FRESH))
    return 12;
  if (host_adopt(host, token) != 0)
    return 13;
  if (!works(host_object(host, token)))
    return 14;
  if (host_put(host, token) != 0)
    return 15;
  token = host_get(host, 0);
  return !token || !works(host_object(host, token)) ? 16 : host_put(host, token) == 0 ? 0 : 17;
}

/* Ends what the child has opened itself. */
static int end_in_child(struct host *host, int code) {
  if (pool_close(host->pool) != 0)
    return 21;
  while (code == 0 && host_collect(host, slow(2000)) > 0)
    continue;
  return code;
}

TEST(a_childs_slots_are_fresh_at_once) {
  enum { SIZE = 2 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  host_fill(host, SIZE);
  pid_t child = fork();
  if (child == 0) {
    forget_objects(host);
    pool_stats_t stats = {.size = sizeof stats};
    if (pool_stats(host->pool, &stats) != 0 || stats.total != 0 || stats.opened != 0 || stats.max_size != SIZE)
      _exit(1);
    _exit(end_in_child(host, use_fresh(host, 0)));
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK_INT(STAT(host->pool, lost), ==, 0);
  CHECK_INT(STAT(host->pool, idle), ==, SIZE);
  for (int i = 0; i < 5; i++) {
    void *token = host_get_working(host, 0);
    REQUIRE(token != NULL);
    CHECK_INT(host_put(host, token), ==, 0);
  }
  CHECK_INT(STAT(host->pool, opened), ==, SIZE);
  host_end(host);
}

static bool are_forked(pool_t *pool, void **tokens, int count, int socket) {
  for (int i = 0; i < count; i++)
    if (pool_put(pool, tokens[i]) != POOL_EFORKED || pool_errcode() != POOL_EFORKED ||
        pool_discard(pool, tokens[i]) != POOL_EFORKED || pool_adopt(pool, tokens[i], socket) != POOL_EFORKED ||
        pool_fail(pool, tokens[i], NULL, NULL) != POOL_EFORKED)
      return false;
  return true;
}

/* Lent, fresh, and put back with POOL_CLOSE: each is the parent's, before and after the child's own first loan. */
TEST(tokens_from_before_the_fork_are_the_parents) {
  struct host *host = host_start(0, 3);
  REQUIRE(host);
  void *closing = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  CHECK_INT(pool_reconnect(host->pool), ==, 0);
  CHECK_INT(host_put_only(host, closing), ==, POOL_CLOSE);
  void *lent = host_get_working(host, POOL_TIMEOUT_DEFAULT), *fresh = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(lent && fresh);
  pid_t child = fork();
  if (child == 0) {
    void *tokens[] = {lent, fresh, closing};
    forget_objects(host);
    int socket = PQsocket(observer());
    if (!are_forked(host->pool, tokens, 3, socket))
      _exit(1);
    int code = use_fresh(host, slow(5000));
    if (code != 0)
      _exit(code);
    _exit(are_forked(host->pool, tokens, 3, socket) ? end_in_child(host, 0) : 2);
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK(works(host_object(host, lent)));
  CHECK_INT(host_adopt(host, fresh), ==, 0);
  CHECK_INT(host_put(host, fresh), ==, 0);
  CHECK_INT(host_put(host, lent), ==, 0);
  CHECK_INT(host_discard(host, closing), ==, 0);
  host_end(host);
}

static bool is_null_device(int fd) {
  struct stat facts;
  return fstat(fd, &facts) == 0 && S_ISCHR(facts.st_mode) && facts.st_rdev == makedev(1, 3);
}

/* Even a child that closes the objects, as a finalizer may, says no goodbye on the parent's sessions. */
TEST(a_child_that_closes_the_objects_leaves_the_parents_sessions_alive) {
  enum { SIZE = 3 };
  struct host *host = host_start(0, SIZE);
  REQUIRE(host);
  host_fill(host, SIZE);
  void *lent = host_get_working(host, 0);
  REQUIRE(lent != NULL);
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < SIZE; i++) {
      if (!is_null_device(PQsocket(host->objects[i])))
        _exit(1 + i);
      PQfinish(host->objects[i]);
    }
    forget_objects(host);
    exit(end_in_child(host, use_fresh(host, slow(5000))));
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK(works(host_object(host, lent)));
  CHECK_INT(host_put(host, lent), ==, 0);
  CHECK_INT(STAT(host->pool, lost), ==, 0);
  CHECK_INT(sessions(host->name), ==, SIZE);
  host_end(host);
}

static int count_sockets(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  for (struct dirent *entry = folder ? readdir(folder) : NULL; entry; entry = readdir(folder)) {
    char target[128] = "", path[300];
    snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
    if (readlink(path, target, sizeof target - 1) > 0)
      count += strncmp(target, "socket:", 7) == 0;
  }
  if (folder)
    closedir(folder);
  return count;
}

/* A child that lives on keeps no session of the parent open: neither our duplicates nor the objects' sockets. */
TEST(a_childs_life_does_not_prolong_the_parents_sessions) {
  int before = count_sockets();
  struct host *host = host_start(0, 3);
  REQUIRE(host);
  host_fill(host, 3);
  int gate[2];
  CHECK_INT(pipe2(gate, O_CLOEXEC), ==, 0);
  pid_t child = fork();
  if (child == 0) {
    char byte;
    close(gate[1]);
    if (count_sockets() > before)
      _exit(2);
    _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
  }
  char name[sizeof host->name];
  snprintf(name, sizeof name, "%s", host->name);
  host_end(host);
  WAIT_FOR(3000, sessions(name) == 0);
  close(gate[1]);
  close(gate[0]);
  CHECK_INT(end_of(child), ==, 0);
}

TEST(a_number_that_the_host_uses_for_something_else_is_not_touched) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  void *token = pool_get(host->pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  int ends[2], number = fcntl(0, F_DUPFD_CLOEXEC, 100);
  PGconn *object = host_connect(host, token);
  CHECK_INT(dup3(PQsocket(object), number, O_CLOEXEC), ==, number);
  CHECK_INT(pool_adopt(host->pool, token, number), ==, 0);
  CHECK_INT(pipe2(ends, O_CLOEXEC), ==, 0);
  CHECK_INT(dup3(ends[1], number, O_CLOEXEC), ==, number);
  pid_t child = fork();
  if (child == 0)
    _exit(write(number, "c", 1) == 1 ? 0 : 1);
  CHECK_INT(end_of(child), ==, 0);
  char byte = 0;
  CHECK_INT(read(ends[0], &byte, 1), ==, 1);
  CHECK_INT(byte, ==, 'c');
  CHECK_INT(close(number), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}

HELPER(count_inherited_sockets) { printf("%d", count_sockets()); }

TEST(a_program_started_by_the_host_inherits_no_duplicate) {
  char before[16], after[16];
  CHECK_INT(run_helper("count_inherited_sockets", "", before, sizeof before, 5000), ==, 0);
  struct host *host = host_start(0, 3);
  REQUIRE(host);
  host_fill(host, 3);
  CHECK_INT(run_helper("count_inherited_sockets", "", after, sizeof after, 5000), ==, 0);
  CHECK(strcmp(before, after) == 0);
  host_end(host);
}

TEST_LIMIT(a_fork_under_load_hangs_nobody, 90) {
  struct host *host = host_start(0, 3);
  REQUIRE(host);
  struct host_load *load = host_load_start(host, 6, 0);
  WAIT_FOR(5000, host_load_loans(load) > 50);
  for (int i = 0; i < scaled(30); i++) {
    pid_t child = fork();
    if (child == 0) {
      forget_objects(host);
      _exit(use_fresh(host, slow(5000)));
    }
    if (!CHECK_INT(end_of(child), ==, 0))
      break;
  }
  CHECK_INT(host_load_stop(load).errors, ==, 0);
  CHECK_INT(STAT(host->pool, lost), ==, 0);
  host_end(host);
}

/* A thread waits in pool_collect in the parent; the child has no such thread and may wait itself. */
static void *collect_until_closed(void *argument) {
  struct host *host = argument;
  while (host_collect(host, slow(10000)) >= 0)
    continue;
  return NULL;
}

TEST(a_collector_goes_on_in_the_parent_and_another_starts_in_the_child) {
  struct host *host = host_start(0, 2);
  REQUIRE(host);
  host_fill(host, 2);
  pthread_t thread;
  pthread_create(&thread, NULL, collect_until_closed, host);
  pid_t child = fork();
  if (child == 0) {
    forget_objects(host);
    void *tokens[4];
    if (pool_collect(host->pool, tokens, 4, 50) != 0 || pool_collect(NULL, NULL, 0, 50) != 0)
      _exit(1);
    int code = use_fresh(host, slow(5000));
    if (code != 0)
      _exit(code);
    if (pool_reconnect(host->pool) != 0 || host_collect(host, slow(3000)) != 1)
      _exit(2);
    _exit(0);
  }
  CHECK_INT(end_of(child), ==, 0);
  CHECK_INT(STAT(host->pool, idle), ==, 2);
  CHECK_INT(pool_close(host->pool), ==, 0);
  pthread_join(thread, NULL);
  WAIT_FOR(2000, sessions(host->name) == 0);
  host_free(host);
}

TEST(a_ticket_of_the_parent_grants_the_child_nothing) {
  struct host *host = host_start(0, 1);
  REQUIRE(host);
  pool_ticket_t ticket = 0;
  CHECK_INT(pool_get_start(host->pool, slow(20000), &ticket), ==, 0);
  pid_t child = fork();
  if (child == 0)
    _exit(pool_get_wait(host->pool, ticket, 50) != NULL ? 1
          : pool_get_cancel(host->pool, ticket) == 0    ? 2
                                                        : use_fresh(host, slow(5000)));
  CHECK_INT(end_of(child), ==, 0);
  void *token = pool_get_wait(host->pool, ticket, POOL_TIMEOUT_DEFAULT);
  REQUIRE(token != NULL);
  CHECK_INT(host_adopt(host, token), ==, 0);
  CHECK_INT(host_put(host, token), ==, 0);
  host_end(host);
}
