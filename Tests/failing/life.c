#include "life.h"

#include "failing.h"
#include "one_round.h"

#include <dbpool.h>
#include <dirent.h>
#include <errno.h>
#include <libpq-fe.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Descriptors that the library keeps for the process: /dev/null, the set that it watches, the ends of a pipe. */
enum { PATIENCE_MS = 400, RECOVERY_MS = 12000, KEPT = 4 };
/* A closed pool is there for as long as it waits for the other ends of its sessions to close: a second, as ours do not. */
enum { LINGER_MS = 3000 };

const char *const life_names[] = {"native", "hosted", NULL};

static bool good = true;
static bool reached;

#define CHECK(condition, ...)                                                            \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      good = false;                                                                      \
      printf("    life.c:%d: does not hold: %s: ", __LINE__, #condition);                \
      printf(__VA_ARGS__);                                                               \
      printf("\n");                                                                      \
    }                                                                                    \
  } while (0)

/* ------------------------------------------------------------------------------------------------------- looking */

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int entries(const char *path) {
  int count = 0;
  DIR *folder = opendir(path);
  while (folder && readdir(folder))
    count++;
  if (folder)
    closedir(folder);
  return count - 2;
}

static int descriptors(void) { return entries("/proc/self/fd") - 1; }
static int threads(void) { return entries("/proc/self/task"); }

#define WAIT_FOR(ms, condition)                                                      \
  do {                                                                               \
    for (int64_t end = now_ms() + (ms); !(condition) && now_ms() < end;)             \
      nap();                                                                         \
  } while (0)

static void nap(void) {
  struct timespec slice = {0, 2000000};
  nanosleep(&slice, NULL);
}

/* Of a call that had a reason to fail. */
static void check_code(const char *call, int code) {
  bool known = code == POOL_ENOMEM || code == POOL_ESYSTEM || code == POOL_ECONNECT || code == POOL_ETIMEOUT ||
               code == POOL_PENDING;
  CHECK(known, "%s: %d: %s", call, code, pool_errmsg());
  CHECK(pool_errmsg()[0] != 0, "%s: %d without a message", call, code);
}

static void check_result(const char *call, int code) {
  if (code < 0)
    check_code(call, code);
}

static void check_statistics(pool_t *pool) {
  pool_stats_t stats = {.size = sizeof stats};
  int code = pool_stats(pool, &stats);
  CHECK(code == 0, "%d: %s", code, pool_errmsg());
  CHECK(stats.total <= stats.max_size, "%d of %d", (int)stats.total, (int)stats.max_size);
  CHECK(stats.total == stats.idle + stats.in_use + stats.connecting + stats.resetting + stats.closing, "%d in all",
        (int)stats.total);
  CHECK(stats.internal_errors == 0, "%d internal errors", (int)stats.internal_errors);
}

static int64_t in_use(pool_t *pool) {
  pool_stats_t stats = {.size = sizeof stats};
  return pool_stats(pool, &stats) == 0 ? stats.in_use + stats.waiting : -1;
}

/* --------------------------------------------------------------------------------------------------- native pools */

#define CONNINFO                                                       \
  "sslmode=disable gssencmode=disable target_session_attrs=read-write" \
  " user=" LIFE_ROLE " password=" ONE_ROUND_PASSWORD

static void take_line(void *context, int level, const char *message) { (void)context, (void)level, (void)message; }

static int provide(void *context, char *buffer, size_t size) {
  (void)context;
  return snprintf(buffer, size, CONNINFO) < (int)size ? 0 : 1;
}

static pool_t *make_native(void) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.log = take_line;
  options.conninfo_provider = provide;
  options.min_size = 1;
  options.max_size = 3;
  options.check = POOL_CHECK_PING;
  options.check_after_idle_ms = 0;
  options.check_timeout_ms = 300;
  options.reset = POOL_RESET_DISCARD_ALL;
  options.max_lifetime_ms = 300; /* some are renewed meanwhile */
  return pool_create(CONNINFO, &options);
}

static bool asks(PGconn *conn, const char *query) {
  PGresult *result = PQexec(conn, query);
  bool fine = PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
  PQclear(result);
  return fine;
}

struct waiter {
  pool_t *pool;
  void *conn;
  int code;
};

static void *wait_for_loan(void *argument) {
  struct waiter *waiter = argument;
  waiter->conn = pool_get(waiter->pool, PATIENCE_MS);
  waiter->code = waiter->conn ? 0 : pool_errcode();
  if (!waiter->conn)
    check_code("pool_get of a waiter", waiter->code);
  return NULL;
}

static void put(pool_t *pool, void *conn) {
  int code = conn ? pool_put(pool, conn) : 0;
  CHECK(code == 0, "pool_put: %d: %s", code, pool_errmsg());
}

static void use_native(pool_t *pool) {
  void *conns[3] = {NULL};
  check_result("pool_wait", pool_wait(pool, PATIENCE_MS));
  for (int i = 0; i < 3; i++) {
    conns[i] = pool_get(pool, PATIENCE_MS);
    if (!conns[i])
      check_code("pool_get", pool_errcode());
  }
  struct waiter waiter = {.pool = pool};
  pthread_t thread;
  bool waits = pthread_create(&thread, NULL, wait_for_loan, &waiter) == 0;
  if (conns[0])
    (void)(asks(conns[0], "begin") && asks(conns[0], "select repeat('x', 40000)")); /* libpq's buffer grows */
  put(pool, conns[0]);
  if (waits)
    pthread_join(thread, NULL);
  put(pool, waiter.conn);
  put(pool, conns[1]);
  int code = conns[2] ? pool_discard(pool, conns[2]) : 0;
  CHECK(code == 0, "pool_discard: %d: %s", code, pool_errmsg());
  code = pool_resize(pool, 1, 40);
  check_result("pool_resize", code);
  check_result("pool_reconnect", pool_reconnect(pool));
  void *conn = pool_get(pool, PATIENCE_MS);
  if (!conn)
    check_code("pool_get after a reconnect", pool_errcode());
  put(pool, conn);
  pool_ticket_t ticket = 0;
  code = pool_get_start(pool, PATIENCE_MS, &ticket);
  check_result("pool_get_start", code);
  if (code == 0 && pool_get_cancel(pool, ticket) != 0)
    CHECK(pool_errcode() == POOL_EINVAL, "pool_get_cancel: %s", pool_errmsg());
}

static void recover_native(pool_t *pool) {
  bool works = false;
  /* What was broken meanwhile, a query may find out; what is lent later works. */
  for (int64_t end = now_ms() + RECOVERY_MS; !works && now_ms() < end;) {
    PGconn *conn = pool_get(pool, 2000);
    works = conn && asks(conn, "select 1");
    put(pool, conn);
  }
  CHECK(works, "no recovery: %s", pool_errmsg());
}

/* --------------------------------------------------------------------------------------------------- hosted pools */

static int ends[2];

static pool_t *make_hosted(void) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.max_size = 3;
  options.check = POOL_CHECK_SOCKET;
  return pool_create_hosted(&options);
}

static void *get_hosted(pool_t *pool) {
  void *token = pool_get(pool, PATIENCE_MS);
  if (!token) {
    check_code("pool_get", pool_errcode());
    return NULL;
  }
  if (!(POOL_TOKEN_FLAGS(token) & POOL_FRESH))
    return token;
  int code = pool_adopt(pool, token, ends[0]);
  if (code == 0)
    return token;
  CHECK(code == POOL_ESYSTEM || code == POOL_ENOMEM || code == POOL_EINVAL, "pool_adopt: %d: %s", code, pool_errmsg());
  code = pool_discard(pool, token);
  CHECK(code == 0, "pool_discard: %d: %s", code, pool_errmsg());
  return NULL;
}

static void put_hosted(pool_t *pool, void *token) {
  int code = token ? pool_put(pool, token) : 0;
  CHECK(code >= 0, "pool_put: %d: %s", code, pool_errmsg());
  if (code > 0 && code & POOL_CLOSE)
    CHECK(pool_discard(pool, token) == 0, "%s", pool_errmsg());
}

static void collect(pool_t *pool) {
  void *tokens[4];
  int count = pool_collect(pool, tokens, 4, 0);
  check_result("pool_collect", count);
  for (int i = 0; i < count; i++)
    CHECK(pool_discard(pool, tokens[i]) == 0, "%s", pool_errmsg());
}

/* After pool_close(): no object stays behind. */
static void collect_all(pool_t *pool) {
  void *token;
  int count;
  while ((count = pool_collect(pool, &token, 1, PATIENCE_MS)) == 1)
    CHECK(pool_discard(pool, token) == 0, "%s", pool_errmsg());
  CHECK(count == POOL_ECLOSED, "pool_collect of a closed pool: %d", count);
}

static void use_hosted(pool_t *pool) {
  int code = pool_put(pool, NULL); /* with that comes the slot of a thread's errors */
  if (code != POOL_EINVAL)
    check_code("pool_put of nothing", code);
  void *first = get_hosted(pool), *second = get_hosted(pool);
  put_hosted(pool, first);
  put_hosted(pool, second);
  check_result("pool_resize", pool_resize(pool, 0, 40));
  check_result("pool_reconnect", pool_reconnect(pool));
  collect(pool);
  put_hosted(pool, get_hosted(pool));
}

static void recover_hosted(pool_t *pool) {
  void *token = NULL;
  for (int64_t end = now_ms() + RECOVERY_MS; !token && now_ms() < end;) {
    token = pool_get(pool, 2000);
    if (token && POOL_TOKEN_FLAGS(token) & POOL_FRESH && pool_adopt(pool, token, ends[0]) != 0) {
      (void)pool_discard(pool, token);
      token = NULL;
    }
  }
  CHECK(token != NULL, "no recovery: %s", pool_errmsg());
  put_hosted(pool, token);
}

/* ------------------------------------------------------------------------------------------------------- a life */

struct kind {
  pool_t *(*make)(void);
  void (*use)(pool_t *);
  void (*recover)(pool_t *);
};
static const struct kind native = {make_native, use_native, recover_native};
static const struct kind hosted = {make_hosted, use_hosted, recover_hosted};

static bool is_hosted(const char *life) { return strcmp(life, "hosted") == 0; }

bool life_uses(const char *life, const char *function) {
  static const char *const others[] = {"socket", "connect", "send", "getsockopt", "setsockopt", "getaddrinfo",
                                       "getnameinfo", "realloc", "recv", "strdup", "getpwuid_r"};
  if (!is_hosted(life))
    return true;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (strcmp(others[i], function) == 0)
      return false;
  return strncmp(function, "PQ", 2) != 0;
}

/* In a child everything works, too, or has a code; and it recovers. */
static void fork_once(pool_t *pool, const struct kind *kind) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* should both hang */
    /* What the host had is gone in a child, its sockets included. */
    (void)socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
    kind->use(pool);
    (void)failing_disarm();
    kind->recover(pool);
    CHECK(pool_close(pool) == 0, "%s", pool_errmsg());
    fflush(NULL);
    _exit(good ? 0 : 1);
  }
  int status = 0;
  CHECK(child > 0 && waitpid(child, &status, 0) == child, "no child");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
}

static pool_t *make(const struct kind *kind) {
  pool_t *pool = kind->make();
  if (pool)
    return pool;
  CHECK(pool_errcode() == POOL_ENOMEM || pool_errcode() == POOL_ESYSTEM, "pool_create: %d: %s", pool_errcode(),
        pool_errmsg());
  return NULL;
}

/* With the failing done: what works again, what is left. */
static void check_after(pool_t *pool, const struct kind *kind, int most_descriptors) {
  if (!pool)
    pool = kind->make();
  CHECK(pool != NULL, "no pool when all works again: %s", pool_errmsg());
  if (!pool)
    return;
  kind->recover(pool);
  WAIT_FOR(2000, in_use(pool) == 0);
  CHECK(in_use(pool) == 0, "%d in use at the end", (int)in_use(pool));
  check_statistics(pool);
  CHECK(pool_close(pool) == 0, "%s", pool_errmsg());
  if (kind == &hosted)
    collect_all(pool);
  /* On a busy machine the wait may be over before the thread for the last callbacks has begun: it is not looked for again. */
  int left = 0;
  WAIT_FOR(RECOVERY_MS, (left = threads()) <= 2 && descriptors() <= most_descriptors);
  CHECK(left <= 2, "%d threads left", left);
}

bool life_reached(void) { return reached; }

/* What a stack that is kept for the next thread has of its own is there before it counts. */
static void *meet(void *barrier) {
  pthread_barrier_wait(barrier);
  return NULL;
}

static void warm_up_threads(void) {
  enum { AT_ONCE = 8, STACK = 512 * 1024 };
  pthread_barrier_t barrier;
  pthread_attr_t attributes;
  pthread_t ids[AT_ONCE];
  pthread_barrier_init(&barrier, NULL, AT_ONCE);
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK);
  for (int i = 0; i < AT_ONCE; i++)
    CHECK(pthread_create(&ids[i], &attributes, meet, &barrier) == 0, "no thread");
  for (int i = 0; i < AT_ONCE && good; i++)
    pthread_join(ids[i], NULL);
  pthread_attr_destroy(&attributes);
}

static void live_once(const struct kind *kind, int function, long n, bool and_after, bool forks) {
  /* A failed fstat() says that a number is not the library's any more, so it must leave it open. */
  int before = descriptors(), most = strcmp(failing_functions[function].name, "fstat") == 0 ? INT_MAX : before + KEPT;
  failing_arm(function, n, and_after);
  pool_t *pool = make(kind);
  if (!pool)
    pool = and_after ? NULL : kind->make();
  if (pool) {
    kind->use(pool);
    check_statistics(pool);
    if (forks)
      fork_once(pool, kind);
  }
  reached = failing_failed() > 0;
  (void)failing_disarm();
  check_after(pool, kind, most);
  CHECK(descriptors() <= most, "%d descriptors left", descriptors() - before);
}

bool life_live(const char *life, int function, long n, bool and_after) {
  const struct kind *kind = is_hosted(life) ? &hosted : &native;
  CHECK(unsetenv("HOME") == 0, "errno %d", errno); /* then it is looked up */
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no sockets");
  warm_up_threads();
  live_once(kind, function, n, and_after, true);
  if (!reached || !good || failing_functions[function].callers & MAY_LOSE)
    return good;
  /* What is made once, also on a path that only a failure or two connects at a time take, is there in the end. What is lost
   * is lost each time. */
  long more = 1;
  for (int turn = 0; turn < 5 && more > 0; turn++) {
    long live = failing_live();
    live_once(kind, function, n, and_after, false);
    WAIT_FOR(LINGER_MS, failing_live() <= live);
    more = failing_live() - live;
  }
  CHECK(more <= 0, "%ld blocks of memory lost", more);
  return good;
}
