#include "loans.h"

#include "figures.h"
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

pool_t *pools[POOLS];
atomic_long log_lines;

static char names[POOLS][POOL_NAME_LIMIT + 1];

const char *pool_name_of(int i) { return names[i]; }

static void count_line(void *context, int level, const char *message) {
  (void)context;
  (void)level;
  (void)message;
  atomic_fetch_add(&log_lines, 1);
}

/* The password changes while the oracle runs: it stands in a file. */
static int provide(void *context, char *buffer, size_t size) {
  char password[64] = "";
  FILE *file = fopen(context, "re");
  bool is_read = file && fgets(password, sizeof password, file);
  if (file)
    fclose(file);
  password[strcspn(password, "\n")] = 0;
  return is_read && snprintf(buffer, size, "password='%s'", password) < (int)size ? 0 : 1;
}

static pool_options_t common_options(int i) {
  pool_options_t options = POOL_OPTIONS_INIT;
  snprintf(names[i], sizeof names[i], "oracle-%d-%d", (int)getpid(), i);
  options.name = names[i];
  options.min_size = 1;
  options.max_size = LEAST_SIZE;
  options.acquire_timeout_ms = 3000;
  options.log = count_line;
  return options;
}

void pools_open(bool gentle) {
  for (int i = 0; i < POOLS; i++) {
    pool_options_t options = common_options(i);
    char *password_file = getenv("ORACLE_PASSWORD_FILE");
    if (i == 0 && password_file) {
      options.conninfo_provider = provide;
      options.context = password_file;
    }
    if (i == 1) {
      options.reset = POOL_RESET_DISCARD_ALL;
      options.check = POOL_CHECK_PING;
      options.check_after_idle_ms = 5;
      options.check_timeout_ms = 1000;
      options.queue_mode = POOL_FIFO;
    }
    if (gentle)
      options.min_size = options.max_size;
    else
      options.max_lifetime_ms = 3000;
    pools[i] = pool_create("", &options);
    if (!pools[i]) {
      fprintf(stderr, "pool_create: %s\n", pool_errmsg());
      exit(2);
    }
  }
}

/* ----------------------------------------------------------------------------------------------- borrowing */

static void *by_ticket(struct worker *worker, pool_t *pool, int timeout_ms, int *code) {
  pool_ticket_t ticket;
  *code = pool_get_start(pool, timeout_ms, &ticket);
  while (*code == 0 || *code == POOL_PENDING) {
    void *conn = pool_get_wait(pool, ticket, (int)random_below(&worker->seed, 20));
    *code = conn ? 0 : pool_errcode();
    if (conn || *code != POOL_PENDING)
      return conn;
    /* One that its deadline has just ended cannot be taken back; otherwise nothing may come of it any more. */
    if (one_in(&worker->seed, 8)) {
      if (pool_get_cancel(pool, ticket) == 0 && pool_get_wait(pool, ticket, 0) != NULL)
        complain(&ledger->refused, "a canceled ticket gave a connection");
      *code = POOL_ECANCELED;
    }
  }
  return NULL;
}

/* What is never collected must come back by itself. */
static void forget_ticket(pool_t *pool) {
  pool_ticket_t ticket;
  if (pool_get_start(pool, 20, &ticket) == 0)
    atomic_fetch_add(&ledger->actions, 1);
}

static int random_timeout(struct worker *worker) {
  switch (random_below(&worker->seed, 8)) {
    case 0: return 0;
    case 1: return 1 + (int)random_below(&worker->seed, 30);
    case 2: return POOL_TIMEOUT_DEFAULT;
    default: return 2000;
  }
}

static void note_failed_get(int code) {
  atomic_fetch_add(&ledger->codes[-code < MOST_CODES ? -code : 0], 1);
  if (code != POOL_ETIMEOUT && code != POOL_ECONNECT && code != POOL_EPAUSED && code != POOL_ECANCELED)
    complain(&ledger->refused, "a get failed with %d: %s", code, pool_errmsg());
}

/* A thread that was not let run is no fault of the pool. */
static void note_lateness(int64_t late_us, int64_t starved_before_us) {
  ledger_raise(&ledger->latest_us, (long)late_us);
  if (late_us > ledger->latest_fed_us)
    ledger_raise(&ledger->latest_fed_us, (long)(late_us - (starved_us() - starved_before_us)));
}

static PGconn *borrow(struct worker *worker, pool_t *pool, int timeout_ms, bool is_ticket) {
  int64_t starved_before_us = starved_us(), began_us = now_us();
  int code = 0;
  PGconn *conn = is_ticket ? by_ticket(worker, pool, timeout_ms, &code) : pool_get(pool, timeout_ms);
  if (timeout_ms >= 0)
    note_lateness(now_us() - began_us - timeout_ms * 1000L, starved_before_us);
  if (!conn) {
    note_failed_get(is_ticket ? code : pool_errcode());
    return NULL;
  }
  atomic_fetch_add(&ledger->loans, 1);
  worker->pid = PQbackendPID(conn);
  worker->in_loan = true;
  if (!ledger_claim(worker->pid, worker->id))
    worker->pid = 0;
  return conn;
}

/* --------------------------------------------------------------------------------------------- giving back */

/* The session is no longer ours the moment before the call that ends the loan. */
static void let_go(struct worker *worker) {
  if (worker->pid != 0)
    ledger_release(worker->pid, worker->id);
  worker->pid = 0;
  worker->in_loan = false;
}

static void expect_ok(int code, const char *call) {
  if (code != 0)
    complain(&ledger->refused, "%s answered %d: %s", call, code, pool_errmsg());
}

/* POOL_ENOTLEASED: that pool once had a connection at this address, and its borrower finished it. */
static void offer_to_another(pool_t *pool, PGconn *conn) {
  int code = pool_put(pool, conn);
  if (code != POOL_EFOREIGN && code != POOL_ENOTLEASED)
    complain(&ledger->refused, "another pool took the connection: %d", code);
}

/* A session of another backend, in the same PGconn. */
static void renew(struct worker *worker, PGconn *conn) {
  let_go(worker);
  PQreset(conn);
  if (PQstatus(conn) != CONNECTION_OK)
    return;
  worker->pid = PQbackendPID(conn);
  worker->in_loan = true;
  if (!ledger_claim(worker->pid, worker->id))
    worker->pid = 0;
  else if (!one_in(&worker->seed, 3))
    job_any(worker, conn);
}

static void give_back(struct worker *worker, pool_t *pool, PGconn *conn) {
  uint32_t way = random_below(&worker->seed, 200);
  if (way == 4) {
    let_go(worker);
    PQfinish(conn); /* which ends the loan */
    return;
  }
  if (way == 5 && pool_report(pool, conn, "57P01") != POOL_CLOSE)
    complain(&ledger->refused, "the report of an end of the session was not taken: %s", pool_errmsg());
  if (way == 0)
    renew(worker, conn);
  if (way == 1)
    offer_to_another(pools[pool == pools[0]], conn);
  let_go(worker);
  if (way == 2 || way == 3)
    expect_ok(pool_discard(pool, conn), "pool_discard");
  else
    expect_ok(pool_put(pool, conn), "pool_put");
}

void loan_any(struct worker *worker) {
  int number = (int)random_below(&worker->seed, POOLS);
  pool_t *pool = pools[number];
  if (one_in(&worker->seed, 500))
    forget_ticket(pool);
  PGconn *conn = borrow(worker, pool, random_timeout(worker), one_in(&worker->seed, 3));
  if (!conn)
    return;
  check_clean(worker, conn, number == 1);
  for (uint32_t jobs = 1 + random_below(&worker->seed, 3); jobs > 0; jobs--) {
    job_any(worker, conn);
    /* After a mess nothing can be asked. */
    if (PQtransactionStatus(conn) != PQTRANS_IDLE || PQpipelineStatus(conn) != PQ_PIPELINE_OFF || PQisnonblocking(conn))
      break;
  }
  give_back(worker, pool, conn);
}

bool loan_gentle(struct worker *worker, pool_t *pool, int timeout_ms) {
  PGconn *conn = borrow(worker, pool, timeout_ms, false);
  if (!conn)
    return false;
  check_clean(worker, conn, pool == pools[1]);
  job_gentle(worker, conn);
  let_go(worker);
  int code = pool_put(pool, conn);
  expect_ok(code, "pool_put");
  return code == 0;
}
