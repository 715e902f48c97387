/* The jobs that leave a connection as nobody should get it; and a cancel. */
#include "answers.h"
#include "figures.h"
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void leave_transaction(struct worker *worker, PGconn *conn) {
  char text[160];
  snprintf(text, sizeof text, "begin; insert into leftover values ('%s')", worker->tag);
  if (run(worker, conn, text))
    job_ask(worker, conn);
}

void leave_failed_transaction(struct worker *worker, PGconn *conn) {
  char text[160];
  snprintf(text, sizeof text, "begin; insert into leftover values ('%s')", worker->tag);
  if (run(worker, conn, text))
    fail(worker, conn);
}

void leave_copy_out(struct worker *worker, PGconn *conn) {
  char text[200], *row = NULL;
  snprintf(text, sizeof text, "copy (select '%s', pg_backend_pid() from generate_series(1, 20000)) to stdout",
           worker->tag);
  if (!check_result(worker, conn, PQexec(conn, text), PGRES_COPY_OUT, -1))
    return;
  for (int i = 0; i < 3 && PQgetCopyData(conn, &row, 0) > 0; i++) {
    char *tab = strchr(row, '\t');
    if (tab)
      *tab = 0;
    check_pair(worker, row, tab ? atoi(tab + 1) : 0);
    PQfreemem(row);
  }
}

void leave_copy_in(struct worker *worker, PGconn *conn) {
  if (!check_result(worker, conn, PQexec(conn, "copy leftover from stdin"), PGRES_COPY_IN, -1))
    return;
  if (PQputCopyData(conn, worker->tag, (int)strlen(worker->tag)) < 0 || PQputCopyData(conn, "\n", 1) < 0)
    note_failure(worker, conn, NULL);
}

void leave_pipeline(struct worker *worker, PGconn *conn) {
  if (send_pipeline(worker, conn))
    read_of_pipeline(worker, conn);
}

void leave_rows(struct worker *worker, PGconn *conn) { read_row_by_row(worker, conn, 5000, 3); }

void leave_answer(struct worker *worker, PGconn *conn) {
  char text[160];
  query_text(text, sizeof text, worker, 3);
  if (!PQsendQuery(conn, text))
    note_failure(worker, conn, NULL);
}

void leave_nonblocking(struct worker *worker, PGconn *conn) {
  if (PQsetnonblocking(conn, 1) != 0)
    note_failure(worker, conn, NULL);
}

/* One name for all: what is not reset keeps it. */
void leave_setting(struct worker *worker, PGconn *conn) {
  char text[160];
  snprintf(text, sizeof text, "set oracle.tag = '%s'", worker->tag);
  run(worker, conn, text);
}

/* PQcancel() returns when the server has sent the signal: it hits this query or nothing. */
void cancel(struct worker *worker, PGconn *conn) {
  char text[160], reason[256];
  snprintf(text, sizeof text, "select '%s', pg_backend_pid(), pg_sleep(0.05)", worker->tag);
  if (!PQsendQuery(conn, text)) {
    note_failure(worker, conn, NULL);
    return;
  }
  PGcancel *ticket = PQgetCancel(conn);
  PQcancel(ticket, reason, sizeof reason);
  PQfreeCancel(ticket);
  for (PGresult *result = PQgetResult(conn); result; result = PQgetResult(conn)) {
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (sqlstate && strcmp(sqlstate, "57014") == 0) {
      atomic_fetch_add(&ledger->answers, 1);
      PQclear(result);
    } else {
      check_result(worker, conn, result, PGRES_TUPLES_OK, 1);
    }
  }
}
