/* Whether costs grow with the pool: get and put, upkeep, and a put while others wait.
 *
 *   scale slots COUNT ROUNDS     COUNT connections open, one at a time lent
 *   scale waiters COUNT ROUNDS   COUNT callers in the queue of a pool of ten, all lent
 *
 * Ten thousand sessions of a server are more than this machine has room for, so the connections are stand-ins: this
 * program is linked with the library's objects and replaces the functions of libpq in `pool_libpq_functions`. All else,
 * the watch of a descriptor for each included, is the library's. Waiters are tickets of pool_get_start(), which is what
 * a thread that waits has, too. A line of JSON for each round. `ns` and `cycle_ns` are processor time
 * of this thread, `put_ns` is the median by the clock, `upkeep_us_per_s` the processor time of all other threads while
 * this one borrows, `rest_us_per_s` while it sleeps. */
#include "clocks.h"
#include "histogram.h"

#include <dbpool.h>
#include <pool_libpq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TURNS = 20000, SMALL = 10 };

static void fail(const char *what) {
  fprintf(stderr, "scale: %s: %s\n", what, pool_errmsg());
  exit(1);
}

/* ------------------------------------------------------------------------------------------------- stand-ins */

static int shared_socket;

static PGconn *start(const char *const *keywords, const char *const *values, int expand) {
  (void)keywords, (void)values, (void)expand;
  return malloc(64); /* an address of its own */
}
static PostgresPollingStatusType poll_ok(PGconn *conn) { return (void)conn, PGRES_POLLING_OK; }
static ConnStatusType status(const PGconn *conn) { return (void)conn, CONNECTION_OK; }
static PGTransactionStatusType transaction(const PGconn *conn) { return (void)conn, PQTRANS_IDLE; }
static PGpipelineStatus pipeline(const PGconn *conn) { return (void)conn, PQ_PIPELINE_OFF; }
static int zero(const PGconn *conn) { return (void)conn, 0; }
static int use_of_ssl(PGconn *conn) { return (void)conn, 0; }
static int socket_of(const PGconn *conn) { return (void)conn, shared_socket; }
static char *no_text(const PGconn *conn) { return (void)conn, (char *)""; }
static const char *no_parameter(const PGconn *conn, const char *name) { return (void)conn, (void)name, NULL; }
static int register_events(PGconn *conn, PGEventProc procedure, const char *name, void *context) {
  return (void)conn, (void)procedure, (void)name, (void)context, 1;
}
static PGVerbosity verbosity(PGconn *conn, PGVerbosity level) { return (void)conn, level; }
static PGContextVisibility visibility(PGconn *conn, PGContextVisibility level) { return (void)conn, level; }
static PQnoticeReceiver receiver(PGconn *conn, PQnoticeReceiver mine, void *context) {
  return (void)conn, (void)context, mine;
}
static PQnoticeProcessor processor(PGconn *conn, PQnoticeProcessor mine, void *context) {
  return (void)conn, (void)context, mine;
}
static int nonblocking(PGconn *conn, int on) { return (void)conn, (void)on, 0; }
static void end(PGconn *conn) { free(conn); }

static void use_stand_ins(void) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) fail("socketpair");
  shared_socket = ends[0];
  struct pool_libpq *libpq = pool_libpq_table();
  libpq->connectStartParams = start;
  libpq->connectPoll = poll_ok;
  libpq->finish = end;
  libpq->registerEventProc = register_events;
  libpq->status = status;
  libpq->transactionStatus = transaction;
  libpq->pipelineStatus = pipeline;
  libpq->isNonblocking = zero;
  libpq->socket = socket_of;
  libpq->backendPID = zero;
  libpq->errorMessage = libpq->host = libpq->hostaddr = libpq->port = no_text;
  libpq->parameterStatus = no_parameter;
  libpq->sslInUse = use_of_ssl;
  libpq->connectionNeedsPassword = zero;
  libpq->setNonblocking = nonblocking;
  libpq->setErrorVerbosity = verbosity;
  libpq->setErrorContextVisibility = visibility;
  libpq->setNoticeReceiver = receiver;
  libpq->setNoticeProcessor = processor;
}

/* ------------------------------------------------------------------------------------------------- measuring */

/* Made with libpq itself, which knows what a conninfo means; filled with stand-ins. */
static pool_t *make_pool(int size) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.connect_concurrency = 8;
  pool_t *pool = pool_create("host=127.0.0.1", &options);
  if (pool == NULL) fail("pool_create");
  use_stand_ins();
  if (pool_resize(pool, size, size) != 0 || pool_wait(pool, 300000) != 0) fail("the pool does not fill");
  return pool;
}

static void *borrow(pool_t *pool) {
  void *loan = pool_get(pool, POOL_TIMEOUT_DEFAULT);
  if (loan == NULL) fail("pool_get");
  return loan;
}

static void give_back(pool_t *pool, void *loan) {
  if (pool_put(pool, loan) != 0) fail("pool_put");
}

static int64_t others_ns(void) { return read_clock(CLOCK_PROCESS_CPUTIME_ID) - processor_ns(); }

static double others_us_per_s(int64_t since_ns, int64_t since) {
  return (double)(others_ns() - since_ns) / 1e3 / ((double)(now_ns() - since) / 1e9);
}

static void measure_slots(int count, int rounds) {
  pool_t *pool = make_pool(count);
  sleep(1); /* the connector threads go */
  for (int round = 0; round < rounds; round++) {
    int64_t before = others_ns(), since = now_ns();
    int64_t start = processor_ns();
    for (int i = 0; i < TURNS; i++) give_back(pool, borrow(pool));
    double ns = (double)(processor_ns() - start) / TURNS;
    while (now_ns() < since + 500000000) give_back(pool, borrow(pool));
    double upkeep = others_us_per_s(before, since);
    before = others_ns(), since = now_ns();
    usleep(500000);
    printf("{\"slots\": %d, \"round\": %d, \"pool\": \"libdbpool\", \"ns\": %.1f, \"upkeep_us_per_s\": %.1f, "
           "\"rest_us_per_s\": %.1f}\n", count, round, ns, upkeep, others_us_per_s(before, since));
    fflush(stdout);
  }
}

static pool_ticket_t join(pool_t *pool) {
  pool_ticket_t ticket;
  if (pool_get_start(pool, POOL_TIMEOUT_INFINITE, &ticket) != 0) fail("pool_get_start");
  return ticket;
}

/* Each put serves the oldest; its ticket is collected and another one joins, so that as many wait all the time. */
static void measure_waiters(int count, int rounds) {
  pool_t *pool = make_pool(SMALL);
  void *loans[SMALL];
  for (int i = 0; i < SMALL; i++) loans[i] = borrow(pool);
  pool_ticket_t *queue = malloc((size_t)count * sizeof *queue);
  if (queue == NULL) fail("no memory");
  for (int i = 0; i < count; i++) queue[i] = join(pool);
  int oldest = 0;
  for (int round = 0; round < rounds; round++) {
    struct histogram puts = {0};
    int64_t start = processor_ns();
    for (int i = 0; i < TURNS; i++) {
      int64_t before = now_ns();
      give_back(pool, loans[0]);
      count_value(&puts, now_ns() - before);
      loans[0] = pool_get_wait(pool, queue[oldest], 0);
      if (loans[0] == NULL) fail("the oldest is not served");
      queue[oldest] = join(pool);
      oldest = (oldest + 1) % count;
    }
    printf("{\"waiters\": %d, \"round\": %d, \"pool\": \"libdbpool\", \"put_ns\": %.1f, \"cycle_ns\": %.1f}\n", count,
           round, percentile(&puts, 0.5), (double)(processor_ns() - start) / TURNS);
    fflush(stdout);
  }
}

int main(int argc, char **argv) {
  int count = argc == 4 ? atoi(argv[2]) : 0;
  if (count < 1) {
    fprintf(stderr, "usage: scale slots|waiters COUNT ROUNDS\n");
    return 2;
  }
  if (strcmp(argv[1], "slots") == 0)
    measure_slots(count, atoi(argv[3]));
  else
    measure_waiters(count, atoi(argv[3]));
  _exit(0); /* there is no server that would see the sessions end */
}
