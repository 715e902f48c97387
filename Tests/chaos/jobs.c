#include "answers.h"
#include "figures.h"
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void worker_start(struct worker *worker, uint32_t id, uint64_t seed) {
  memset(worker, 0, sizeof *worker);
  worker->id = id;
  worker->seed = (seed ^ (id * UINT64_C(0x9E3779B97F4A7C15))) | 1;
}

static void next_tag(struct worker *worker) {
  uint32_t number = random_below(&worker->seed, 1u << 30);
  snprintf(worker->tag, sizeof worker->tag, "%u.%u.%u", worker->id, ++worker->serial, number);
}

/* ----------------------------------------------------------------------------------------------- answers */

void check_pair(struct worker *worker, const char *tag, int pid) {
  atomic_fetch_add(&ledger->answers, 1);
  if (strcmp(tag, worker->tag) != 0 || pid != worker->pid)
    complain(&ledger->wrong_answers, "%s asked backend %d and was answered %s by %d", worker->tag, worker->pid, tag,
             pid);
}

/* The server was stopped, crashed or starts again; the session was ended. Everything else has another cause. */
static bool is_explained(const char *sqlstate) {
  return strcmp(sqlstate, "57P01") == 0 || strcmp(sqlstate, "57P02") == 0 || strcmp(sqlstate, "57P03") == 0;
}

void note_failure(struct worker *worker, PGconn *conn, const PGresult *result) {
  const char *sqlstate = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
  ledger_state(sqlstate);
  if (sqlstate ? !is_explained(sqlstate) : PQstatus(conn) != CONNECTION_BAD)
    complain(&ledger->strange_errors, "%s: result %s, SQLSTATE %s: %s", worker->tag,
             result ? PQresStatus(PQresultStatus(result)) : "none", sqlstate ? sqlstate : "none", PQerrorMessage(conn));
}

/* Takes the result. True: it is of the kind that was expected. */
bool check_result(struct worker *worker, PGconn *conn, PGresult *result, ExecStatusType expected, int rows) {
  bool is_fine = PQresultStatus(result) == expected;
  if (!is_fine)
    note_failure(worker, conn, result);
  else if (rows >= 0 && PQntuples(result) != rows)
    complain(&ledger->wrong_answers, "%s asked for %d rows and got %d", worker->tag, rows, PQntuples(result));
  else
    for (int row = 0; row < rows; row++)
      check_pair(worker, PQgetvalue(result, row, 0), atoi(PQgetvalue(result, row, 1)));
  PQclear(result);
  return is_fine;
}

void query_text(char *text, size_t size, const struct worker *worker, int rows) {
  snprintf(text, size, "select '%s', pg_backend_pid(), repeat('x', 100) from generate_series(1, %d)", worker->tag,
           rows);
}

bool run(struct worker *worker, PGconn *conn, const char *command) {
  return check_result(worker, conn, PQexec(conn, command), PGRES_COMMAND_OK, -1);
}

/* --------------------------------------------------------------------------------------------- gentle jobs */

bool job_ask(struct worker *worker, PGconn *conn) {
  next_tag(worker);
  const char *values[] = {worker->tag};
  return check_result(worker, conn,
                      PQexecParams(conn, "select $1::text, pg_backend_pid()", 1, NULL, values, NULL, NULL, 0),
                      PGRES_TUPLES_OK, 1);
}

static void ask(struct worker *worker, PGconn *conn) { job_ask(worker, conn); }

static void ask_for_rows(struct worker *worker, PGconn *conn) {
  char text[160];
  int rows = 1 + (int)random_below(&worker->seed, 400);
  query_text(text, sizeof text, worker, rows);
  check_result(worker, conn, PQexec(conn, text), PGRES_TUPLES_OK, rows);
}

static void ask_slowly(struct worker *worker, PGconn *conn) {
  char text[160];
  snprintf(text, sizeof text, "select '%s', pg_backend_pid(), pg_sleep(%u * 0.001)", worker->tag,
           random_below(&worker->seed, 30));
  check_result(worker, conn, PQexec(conn, text), PGRES_TUPLES_OK, 1);
}

/* The error must be our own. */
void fail(struct worker *worker, PGconn *conn) {
  char text[160];
  snprintf(text, sizeof text, "do $$ begin raise exception '%s' using errcode = 'OR001'; end $$", worker->tag);
  PGresult *result = PQexec(conn, text);
  const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (sqlstate && strcmp(sqlstate, "OR001") == 0)
    check_pair(worker, message ? message : "", worker->pid);
  else
    note_failure(worker, conn, result);
  PQclear(result);
}

static void commit_something(struct worker *worker, PGconn *conn) {
  if (run(worker, conn, "begin") && job_ask(worker, conn))
    run(worker, conn, "commit");
}

/* Notices and notifications may come at any time while the session is lent: they are told apart by their tags. */
static void take_notice(void *context, const PGresult *result) {
  struct worker *worker = context;
  const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
  if (!severity || strcmp(severity, "NOTICE") != 0)
    return;
  if (!worker->in_loan || !message || strcmp(message, worker->tag) != 0)
    complain(&ledger->wrong_answers, "the notice '%s' came to %s, %s a loan", message ? message : "", worker->tag,
             worker->in_loan ? "in" : "outside of");
  else
    worker->notices++;
}

static void be_told(struct worker *worker, PGconn *conn) {
  char text[160];
  PQsetNoticeReceiver(conn, take_notice, worker);
  snprintf(text, sizeof text, "do $$ begin raise notice '%s'; end $$", worker->tag);
  worker->notices = 0;
  if (run(worker, conn, text) && worker->notices != 1)
    complain(&ledger->wrong_answers, "%s got %d notices instead of one", worker->tag, worker->notices);
}

static void listen(struct worker *worker, PGconn *conn) {
  char text[160];
  snprintf(text, sizeof text, "listen tag_%u_%u; notify tag_%u_%u, '%s'", worker->id, worker->serial, worker->id,
           worker->serial, worker->tag);
  if (!run(worker, conn, text) || !run(worker, conn, "unlisten *"))
    return;
  PGnotify *notify = PQnotifies(conn);
  if (notify)
    check_pair(worker, notify->extra, notify->be_pid);
  else
    complain(&ledger->wrong_answers, "%s did not get its notification", worker->tag);
  PQfreemem(notify);
}

void read_row_by_row(struct worker *worker, PGconn *conn, int rows, int wanted) {
  char text[160];
  query_text(text, sizeof text, worker, rows);
  if (!PQsendQuery(conn, text) || !PQsetSingleRowMode(conn)) {
    note_failure(worker, conn, NULL);
    return;
  }
  PGresult *result = NULL;
  while (wanted-- > 0 && (result = PQgetResult(conn)) != NULL)
    if (PQresultStatus(result) == PGRES_SINGLE_TUPLE)
      check_result(worker, conn, result, PGRES_SINGLE_TUPLE, 1);
    else
      check_result(worker, conn, result, PGRES_TUPLES_OK, 0);
}

static void read_all_row_by_row(struct worker *worker, PGconn *conn) {
  int rows = 1 + (int)random_below(&worker->seed, 20);
  read_row_by_row(worker, conn, rows, rows + 2);
}

bool send_pipeline(struct worker *worker, PGconn *conn) {
  const char *values[] = {worker->tag};
  bool is_sent = PQenterPipelineMode(conn);
  for (int i = 0; i < 3 && is_sent; i++)
    is_sent = PQsendQueryParams(conn, "select $1::text, pg_backend_pid()", 1, NULL, values, NULL, NULL, 0);
  if (is_sent && PQpipelineSync(conn))
    return true;
  note_failure(worker, conn, NULL);
  return false;
}

/* Each answer is followed by a NULL. libpq 15 begins a pipeline in the row-by-row mode of the query before it. */
bool read_of_pipeline(struct worker *worker, PGconn *conn) {
  PGresult *result = PQgetResult(conn);
  ExecStatusType expected = PQresultStatus(result) == PGRES_SINGLE_TUPLE ? PGRES_SINGLE_TUPLE : PGRES_TUPLES_OK;
  bool is_fine = check_result(worker, conn, result, expected, 1);
  while ((result = PQgetResult(conn)) != NULL)
    PQclear(result);
  return is_fine;
}

static void run_pipeline(struct worker *worker, PGconn *conn) {
  bool is_fine = send_pipeline(worker, conn);
  for (int i = 0; i < 3 && is_fine; i++)
    is_fine = read_of_pipeline(worker, conn);
  if (!is_fine)
    return;
  check_result(worker, conn, PQgetResult(conn), PGRES_PIPELINE_SYNC, -1);
  if (!PQexitPipelineMode(conn))
    note_failure(worker, conn, NULL);
}

/* ------------------------------------------------------------------------------------------------- choosing */

static const struct choice {
  job_fn *job;
  int weight;
  bool is_gentle;
} choices[] = {
    {ask, 500, true},         {ask_for_rows, 120, true},        {ask_slowly, 60, true},
    {fail, 60, true},         {commit_something, 40, true},     {be_told, 40, true},
    {listen, 30, true},       {read_all_row_by_row, 20, true},  {run_pipeline, 20, true},
    {cancel, 10, true},       {leave_transaction, 50, false},   {leave_failed_transaction, 25, false},
    {leave_setting, 10, false}, {leave_copy_out, 3, false},     {leave_copy_in, 3, false},
    {leave_pipeline, 3, false}, {leave_rows, 3, false},         {leave_answer, 3, false},
    {leave_nonblocking, 2, false},
};

static void run_one_of(struct worker *worker, PGconn *conn, bool only_gentle) {
  const int count = (int)(sizeof choices / sizeof *choices);
  int sum = 0, chosen = 0;
  for (int i = 0; i < count; i++)
    sum += only_gentle && !choices[i].is_gentle ? 0 : choices[i].weight;
  int left = (int)random_below(&worker->seed, (uint32_t)sum);
  for (; chosen < count; chosen++) {
    left -= only_gentle && !choices[chosen].is_gentle ? 0 : choices[chosen].weight;
    if (left < 0)
      break;
  }
  next_tag(worker);
  choices[chosen].job(worker, conn);
}

void job_any(struct worker *worker, PGconn *conn) { run_one_of(worker, conn, false); }

void job_gentle(struct worker *worker, PGconn *conn) { run_one_of(worker, conn, true); }

void check_clean(struct worker *worker, PGconn *conn, bool is_reset) {
  if (PQstatus(conn) != CONNECTION_OK || PQtransactionStatus(conn) != PQTRANS_IDLE || PQisnonblocking(conn) ||
      PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
    complain(&ledger->unclean_loans, "lent to %u: status %d, transaction %d, non-blocking %d, pipeline %d", worker->id,
             PQstatus(conn), PQtransactionStatus(conn), PQisnonblocking(conn), PQpipelineStatus(conn));
  if (!is_reset)
    return;
  next_tag(worker);
  PGresult *result = PQexec(conn, "select coalesce(current_setting('oracle.tag', true), '')");
  if (PQresultStatus(result) != PGRES_TUPLES_OK)
    note_failure(worker, conn, result);
  else if (PQgetvalue(result, 0, 0)[0] != 0)
    complain(&ledger->unclean_loans, "lent to %u with the setting of %s", worker->id, PQgetvalue(result, 0, 0));
  PQclear(result);
}
