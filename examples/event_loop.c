/*
 * event_loop.c - one thread, an epoll loop, sixteen clients on four connections: nothing in it blocks.
 *
 *     cc event_loop.c $(pkg-config --cflags --libs dbpool libpq) -o event_loop
 *     ./event_loop [--clients 16] [--connections 4] [--seconds 4]
 *
 * The database is that of the environment (PGHOST, PGDATABASE, ...), with the tables of examples/schema.sql.
 * A client without a connection holds a ticket: pool_get_start() joins the queue, pool_get_wait() with 0 only looks. It
 * looks again whenever a connection was put back, and at each tick of a timer, since a connection may also come from the
 * background: just opened, reset, or in place of a lost one. A client with a connection has its socket in the same
 * epoll and speaks libpq's non-blocking dialect. A unit that loses its connection is done again, five times at most; the
 * ledger knows each unit by its number, so nothing is booked twice.
 */
#define _GNU_SOURCE

#include <dbpool.h>
#include <libpq-fe.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { ACCOUNTS = 100, UNITS_PER_TRANSFER = 5, ATTEMPTS = 5, TICK_MS = 5, MAX_CLIENTS = 1000 };

static const char *const ask = "SELECT balance FROM accounts WHERE id = $1::bigint";
/* One statement, so that it is booked as a whole; the accounts are locked in ascending order. */
static const char *const transfer =
    "WITH booked AS (INSERT INTO ledger VALUES ($2::bigint, $3::bigint) ON CONFLICT DO NOTHING RETURNING amount),"
    " locked AS (SELECT id FROM accounts WHERE id IN ($1::bigint, $1::bigint + 1) ORDER BY id FOR UPDATE)"
    " UPDATE accounts SET balance = balance + CASE accounts.id WHEN $1::bigint THEN -amount ELSE amount END"
    " FROM booked, locked WHERE accounts.id = locked.id";

typedef struct {
  int64_t unit; /* what it is about to do */
  int attempts;
  pool_ticket_t ticket; /* 0 unless it waits for a connection */
  PGconn *conn;         /* NULL unless it has one */
  int socket;
  bool succeeded; /* the results so far */
} client_t;

static client_t *clients;
static int client_count = 16, connections = 4, seconds = 4;
static int epoll, timer;
static pool_t *pool;
static bool stopping;
static int64_t next_unit;
static uint64_t queries, transfers, errors, abandoned;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static bool is_transfer(const client_t *client) { return client->unit % UNITS_PER_TRANSFER == 0; }

/* ---------------------------------------------------------------------------------------------- waiting */

static void join_queue(client_t *client) {
  if (pool_get_start(pool, POOL_TIMEOUT_DEFAULT, &client->ticket) == POOL_OK) return;
  fprintf(stderr, "%s\n", pool_errmsg());
  exit(1);
}

static void start_unit(client_t *client) {
  client->unit = next_unit++;
  client->attempts = 0;
  if (!stopping) join_queue(client);
}

static void try_again(client_t *client, const char *message) {
  printf("lost %.*s\n", (int)strcspn(message, "\n"), message);
  errors++;
  if (++client->attempts < ATTEMPTS && !stopping) {
    join_queue(client);
  } else {
    abandoned += !stopping;
    start_unit(client);
  }
}

/* --------------------------------------------------------------------------------------- with a connection */

static void watch(client_t *client, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = client};
  if (epoll_ctl(epoll, operation, client->socket, &event) != 0) die("epoll_ctl");
}

static void give_back(client_t *client) {
  PGconn *conn = client->conn;
  client->conn = NULL;
  /* The socket of a lost connection is closed, and gone from the epoll, already. */
  if (PQsocket(conn) == client->socket) epoll_ctl(epoll, EPOLL_CTL_DEL, client->socket, NULL);
  PQsetnonblocking(conn, 0); /* the pool replaces what comes back non-blocking */
  if (pool_put(pool, conn) != POOL_OK) fprintf(stderr, "%s\n", pool_errmsg());
}

static void lose(client_t *client) {
  char message[256];
  snprintf(message, sizeof message, "%s", PQerrorMessage(client->conn));
  give_back(client);
  try_again(client, message);
}

static void send_query(client_t *client, PGconn *conn) {
  char texts[3][24];
  const char *values[3] = {texts[0], texts[1], texts[2]};
  const int64_t numbers[] = {client->unit % (ACCOUNTS - 1), client->unit, client->unit % 7 - 3};
  for (int i = 0; i < 3; i++) snprintf(texts[i], sizeof texts[i], "%" PRId64, numbers[i]);

  client->conn = conn;
  client->socket = PQsocket(conn);
  client->succeeded = true;
  watch(client, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
  const bool booking = is_transfer(client);
  if (PQsetnonblocking(conn, 1) != 0 ||
      !PQsendQueryParams(conn, booking ? transfer : ask, booking ? 3 : 1, NULL, values, NULL, NULL, 0))
    lose(client);
}

static void end_unit(client_t *client) {
  if (!client->succeeded) {
    lose(client);
    return;
  }
  give_back(client);
  queries++;
  transfers += is_transfer(client);
  start_unit(client);
}

/* Takes the results that have arrived; NULL after the last. */
static void take_results(client_t *client) {
  while (!PQisBusy(client->conn)) {
    PGresult *result = PQgetResult(client->conn);
    if (result == NULL) {
      end_unit(client);
      return;
    }
    const ExecStatusType status = PQresultStatus(result);
    client->succeeded &= status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
    PQclear(result);
  }
}

static void on_socket(client_t *client, uint32_t events) {
  if (events & EPOLLOUT) {
    const int unsent = PQflush(client->conn);
    if (unsent < 0) {
      lose(client);
      return;
    }
    if (unsent == 0) watch(client, EPOLL_CTL_MOD, EPOLLIN);
  }
  if ((events & ~(uint32_t)EPOLLOUT) == 0) return;
  if (PQconsumeInput(client->conn)) {
    take_results(client);
  } else {
    lose(client);
  }
}

/* ------------------------------------------------------------------------------------------------ the loop */

/* Looks at the client's ticket, without waiting. */
static void look(client_t *client) {
  PGconn *conn = pool_get_wait(pool, client->ticket, 0);
  if (conn == NULL && pool_errcode() == POOL_PENDING) return;
  client->ticket = 0;
  if (conn != NULL) {
    send_query(client, conn);
  } else {
    try_again(client, pool_errmsg());
  }
}

/* Looks at all tickets; the timer ticks while any is undecided. */
static void look_at_tickets(void) {
  static bool ticking;
  bool waiting = false;
  for (int i = 0; i < client_count; i++) {
    if (clients[i].ticket != 0) look(&clients[i]);
    waiting |= clients[i].ticket != 0;
  }
  if (waiting == ticking) return;
  ticking = waiting;
  const struct timespec tick = {0, waiting ? TICK_MS * 1000000 : 0};
  const struct itimerspec times = {tick, tick};
  if (timerfd_settime(timer, 0, &times, NULL) != 0) die("timerfd_settime");
}

static bool is_busy(void) {
  for (int i = 0; i < client_count; i++) {
    if (clients[i].conn != NULL) return true;
  }
  return false;
}

static void stop(void) {
  stopping = true;
  for (int i = 0; i < client_count; i++) {
    if (clients[i].ticket != 0) pool_get_cancel(pool, clients[i].ticket);
    clients[i].ticket = 0;
  }
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void run(double end) {
  struct epoll_event events[64];
  for (int i = 0; i < client_count; i++) start_unit(&clients[i]);
  while (!stopping || is_busy()) {
    look_at_tickets();
    const int count = epoll_wait(epoll, events, 64, 100);
    for (int i = 0; i < count; i++) {
      client_t *client = events[i].data.ptr;
      uint64_t ticks;
      if (client == NULL) {
        if (read(timer, &ticks, sizeof ticks) < 0) continue; /* stopped meanwhile */
      } else if (client->conn != NULL) {
        on_socket(client, events[i].events);
      }
    }
    if (!stopping && now() >= end) stop();
  }
}

static bool parse_arguments(int argc, char **argv) {
  for (int i = 1; i + 1 < argc; i += 2) {
    int *number = strcmp(argv[i], "--clients") == 0     ? &client_count
                  : strcmp(argv[i], "--connections") == 0 ? &connections
                  : strcmp(argv[i], "--seconds") == 0     ? &seconds
                                                          : NULL;
    if (number == NULL || (*number = atoi(argv[i + 1])) < 1 || *number > MAX_CLIENTS) return false;
  }
  return argc % 2 == 1;
}

int main(int argc, char **argv) {
  if (!parse_arguments(argc, argv)) {
    fprintf(stderr, "usage: %s [--clients N] [--connections N] [--seconds N]\n", argv[0]);
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  pool_options_t options = POOL_OPTIONS_INIT;
  options.name = "event_loop.c";
  options.max_size = connections;
  pool = pool_create("", &options);
  if (pool == NULL) {
    fprintf(stderr, "%s\n", pool_errmsg());
    return 1;
  }
  clients = calloc((size_t)client_count, sizeof *clients);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  struct epoll_event on_timer = {.events = EPOLLIN, .data.ptr = NULL};
  if (clients == NULL || epoll < 0 || timer < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &on_timer) != 0) die("start");

  const double start = now();
  run(start + seconds);
  printf("result seconds=%.3f queries=%" PRIu64 " transfers=%" PRIu64 " errors=%" PRIu64 " abandoned=%" PRIu64 "\n",
         now() - start, queries, transfers, errors, abandoned);
  free(clients);
  close(timer);
  close(epoll);
  if (queries == 0) fprintf(stderr, "there was no connection at all\n");
  return pool_close(pool) == POOL_OK && queries > 0 ? 0 : 1;
}
