#include "host.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Room for pools that grow. */
enum { MORE_SLOTS = 64 };

static _Thread_local int last_code;

int host_code(void) { return last_code; }

struct host *host_start_with(const pool_options_t *options) {
  struct host *host = calloc(1, sizeof *host);
  snprintf(host->name, sizeof host->name, "%s", options->name);
  snprintf(host->conninfo, sizeof host->conninfo, "application_name=%s sslmode=disable gssencmode=disable", host->name);
  host->slots = options->max_size + MORE_SLOTS;
  host->objects = calloc((size_t)host->slots, sizeof *host->objects);
  host->held = calloc((size_t)host->slots, sizeof *host->held);
  host->pool = pool_create_hosted(options);
  if (CHECK(host->pool != NULL))
    return host;
  fprintf(stderr, "    pool_create_hosted: %s\n", pool_errmsg());
  free(host->objects);
  free(host->held);
  free(host);
  return NULL;
}

struct host *host_start(int min_size, int max_size) {
  pool_options_t options = options_sized(min_size, max_size);
  return host_start_with(&options);
}

/* ------------------------------------------------------------------------------------------------ objects */

/* A place for objects that no token names, so that a library gone wrong is a failed check and not a crash. */
static uint32_t slot_of(struct host *host, void *token) {
  uint32_t slot = POOL_TOKEN_SLOT(token);
  return CHECK_INT(slot, <, host->slots) ? slot : (uint32_t)host->slots - 1;
}

/* A token is somebody's from the call that gives it until the call that takes it. */
static void hold(struct host *host, void *token) { CHECK_INT(atomic_exchange(&host->held[slot_of(host, token)], 1), ==, 0); }
static void let_go(struct host *host, void *token) { atomic_store(&host->held[slot_of(host, token)], 0); }

PGconn *host_object(struct host *host, void *token) { return host->objects[slot_of(host, token)]; }

static void close_object(struct host *host, void *token) {
  PGconn **object = &host->objects[slot_of(host, token)];
  if (!*object)
    return;
  PQfinish(*object);
  *object = NULL;
  atomic_fetch_sub(&host->open, 1);
}

static void be_quiet(void *context, const PGresult *result) {
  (void)context;
  (void)result;
}

void host_forget(struct host *host, void *token) {
  close_object(host, token);
  let_go(host, token);
}

/* As PQconnectdb(), but quiet from the first message on: a session may be killed while it begins. */
static PGconn *connect_quietly(const char *conninfo) {
  PGconn *object = PQconnectStart(conninfo);
  PQsetNoticeReceiver(object, be_quiet, NULL);
  PostgresPollingStatusType step = PQstatus(object) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
  while (step == PGRES_POLLING_READING || step == PGRES_POLLING_WRITING) {
    struct pollfd ready = {PQsocket(object), step == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0};
    if (poll(&ready, 1, slow(10000)) == 0)
      break;
    step = PQconnectPoll(object);
  }
  return object;
}

PGconn *host_connect(struct host *host, void *token) {
  close_object(host, token);
  PGconn *object = connect_quietly(host->conninfo);
  host->objects[slot_of(host, token)] = object;
  int open = atomic_fetch_add(&host->open, 1) + 1, most = atomic_load(&host->most_open);
  while (open > most && !atomic_compare_exchange_weak(&host->most_open, &most, open))
    continue;
  return object;
}

/* Another thread may have the slot as soon as the failure is told: the object must be gone by then. */
static int tell_failure(struct host *host, void *token) {
  char message[512];
  snprintf(message, sizeof message, "%s", PQerrorMessage(host_object(host, token)));
  host_forget(host, token);
  int code = pool_fail(host->pool, token, NULL, message);
  CHECK(code == 0 || code == POOL_ECLOSED);
  return POOL_ECONNECT;
}

int host_adopt(struct host *host, void *token) {
  PGconn *object = host_connect(host, token);
  if (PQstatus(object) != CONNECTION_OK)
    return tell_failure(host, token);
  int code = pool_adopt(host->pool, token, PQsocket(object));
  if (code != 0)
    close_object(host, token);
  return code;
}

int host_pid(struct host *host, void *token) { return PQbackendPID(host_object(host, token)); }

/* -------------------------------------------------------------------------------------------------- loans */

void *host_take(struct host *host, void *token) {
  hold(host, token);
  if (!(POOL_TOKEN_FLAGS(token) & POOL_FRESH)) {
    CHECK(host_object(host, token) != NULL);
    return token;
  }
  last_code = host_adopt(host, token);
  if (last_code == 0)
    return token;
  if (last_code != POOL_ECONNECT)
    let_go(host, token);
  if (last_code != POOL_ECONNECT && last_code != POOL_ECLOSED)
    CHECK_INT(pool_discard(host->pool, token), ==, 0);
  return NULL;
}

/* The slot's object goes; the token is the host's until its pool_discard(). */
static int close_and_confirm(struct host *host, void *token) {
  hold(host, token);
  host_forget(host, token);
  return pool_discard(host->pool, token);
}

static bool is_occupied(void *token) { return token && POOL_TOKEN_FLAGS(token) & POOL_OCCUPIED; }

void *host_get(struct host *host, int timeout_ms) {
  void *token = pool_get(host->pool, timeout_ms);
  while (timeout_ms != 0 && is_occupied(token)) {
    CHECK_INT(close_and_confirm(host, token), ==, 0);
    token = pool_get(host->pool, timeout_ms);
  }
  if (token)
    return host_take(host, token);
  last_code = pool_errcode();
  return NULL;
}

void *host_get_working(struct host *host, int timeout_ms) {
  void *token = host_get(host, timeout_ms);
  if (!CHECK(token != NULL)) {
    fprintf(stderr, "    no loan: %d: %s\n", host_code(), pool_errmsg());
    return NULL;
  }
  CHECK(works(host_object(host, token)));
  return token;
}

int host_put_only(struct host *host, void *token) {
  let_go(host, token);
  return pool_put(host->pool, token);
}

int host_put(struct host *host, void *token) {
  int answer = host_put_only(host, token);
  if (answer > 0 && answer & POOL_CLOSE)
    CHECK_INT(close_and_confirm(host, token), ==, 0);
  if (answer > 0 && answer & POOL_COLLECT)
    CHECK(host_collect(host, 0) >= 0 || pool_errcode() == POOL_ECLOSED);
  return answer;
}

int host_discard(struct host *host, void *token) {
  host_forget(host, token);
  return pool_discard(host->pool, token);
}

/* What a worker does: the token ends with the adoption, and the object is anybody's. */
static void open_offered(struct host *host, void *token) {
  hold(host, token);
  PGconn *object = host_connect(host, token);
  if (PQstatus(object) != CONNECTION_OK) {
    tell_failure(host, token);
    return;
  }
  int socket = PQsocket(object);
  let_go(host, token);
  int code = pool_adopt(host->pool, token, socket);
  if (code == 0)
    return;
  CHECK_INT(code, ==, POOL_ECLOSED);
  host_forget(host, token);
}

int host_collect(struct host *host, int timeout_ms) {
  void *tokens[16];
  int count = pool_collect(host->pool, tokens, 16, timeout_ms);
  CHECK_INT(count, <=, 16);
  for (int i = 0; i < count; i++) {
    if (POOL_TOKEN_FLAGS(tokens[i]) & POOL_FRESH) {
      open_offered(host, tokens[i]);
    } else {
      CHECK(host_object(host, tokens[i]) != NULL);
      CHECK_INT(close_and_confirm(host, tokens[i]), ==, 0);
    }
  }
  return count;
}

void host_fill(struct host *host, int count) {
  void **tokens = calloc((size_t)count, sizeof *tokens);
  for (int i = 0; i < count; i++)
    tokens[i] = host_get_working(host, POOL_TIMEOUT_DEFAULT);
  for (int i = 0; i < count; i++)
    if (tokens[i])
      CHECK_INT(host_put(host, tokens[i]), ==, 0);
  free(tokens);
}

void host_end(struct host *host) {
  WAIT_FOR(2000, STAT(host->pool, in_use) == 0 && STAT(host->pool, waiting) == 0 && STAT(host->pool, connecting) == 0);
  CHECK_INT(STAT(host->pool, internal_errors), ==, 0);
  CHECK_INT(pool_close(host->pool), ==, 0);
  int count;
  do
    count = host_collect(host, slow(3000));
  while (count > 0);
  CHECK_INT(count, ==, POOL_ECLOSED);
  host_free(host);
}

void host_free(struct host *host) {
  CHECK_INT(atomic_load(&host->open), ==, 0);
  for (int i = 0; i < host->slots; i++)
    PQfinish(host->objects[i]);
  free(host->objects);
  free(host->held);
  free(host);
}

/* --------------------------------------------------------------------------------------------------- load */

struct host_worker {
  pthread_t thread;
  struct host_load *load;
  atomic_long loans;
  long errors;
  int first_error;
};

struct host_load {
  struct host *host;
  int threads;
  int hold_us;
  atomic_bool stop;
  struct host_worker *workers;
};

static void use(struct host_load *load, struct host_worker *worker, void *token) {
  struct timespec rest = {0, (long)load->hold_us * 1000};
  PGresult *result = PQexec(host_object(load->host, token), "select 1");
  bool fine = PQresultStatus(result) == PGRES_TUPLES_OK;
  PQclear(result);
  nanosleep(&rest, NULL);
  int answer = fine ? host_put(load->host, token) : host_discard(load->host, token);
  worker->errors += answer < 0;
  worker->first_error = answer < 0 && !worker->first_error ? answer : worker->first_error;
  atomic_fetch_add(&worker->loans, fine);
}

static void *work(void *argument) {
  struct host_worker *worker = argument;
  struct host_load *load = worker->load;
  while (!atomic_load(&load->stop)) {
    void *token = host_get(load->host, slow(10000));
    if (token) {
      use(load, worker, token);
      continue;
    }
    if (worker->errors++ == 0)
      worker->first_error = host_code();
    nap_ms(1);
  }
  return NULL;
}

struct host_load *host_load_start(struct host *host, int threads, int hold_us) {
  struct host_load *load = calloc(1, sizeof *load);
  load->host = host;
  load->hold_us = hold_us;
  load->workers = calloc((size_t)threads, sizeof *load->workers);
  for (int i = 0; i < threads; i++) {
    load->workers[i].load = load;
    if (!CHECK_INT(pthread_create(&load->workers[i].thread, NULL, work, &load->workers[i]), ==, 0))
      break;
    load->threads++;
  }
  return load;
}

long host_load_loans(struct host_load *load) {
  long loans = 0;
  for (int i = 0; i < load->threads; i++)
    loans += atomic_load(&load->workers[i].loans);
  return loans;
}

struct load_result host_load_stop(struct host_load *load) {
  struct load_result sum = {.fewest = -1};
  atomic_store(&load->stop, true);
  for (int i = 0; i < load->threads; i++) {
    struct host_worker *worker = &load->workers[i];
    pthread_join(worker->thread, NULL);
    long loans = atomic_load(&worker->loans);
    sum.loans += loans;
    sum.errors += worker->errors;
    sum.first_error = sum.first_error ? sum.first_error : worker->first_error;
    sum.most = loans > sum.most ? loans : sum.most;
    sum.fewest = sum.fewest < 0 || loans < sum.fewest ? loans : sum.fewest;
  }
  free(load->workers);
  free(load);
  return sum;
}
