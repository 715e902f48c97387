/* What the jobs share: asking, and looking at the answer. */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "jobs.h"

#include <stddef.h>

typedef void job_fn(struct worker *worker, PGconn *conn);

/* Tag and pid that came back. */
void check_pair(struct worker *worker, const char *tag, int pid);
/* A query or call failed; `result` may be NULL. A complaint, unless the server or the session is at its end. */
void note_failure(struct worker *worker, PGconn *conn, const PGresult *result);
/* Takes the result. True: it is of the kind that was expected. `rows` -1: none that bring tag and pid. */
bool check_result(struct worker *worker, PGconn *conn, PGresult *result, ExecStatusType expected, int rows);
/* A query of the worker's tag whose answer has that many rows. */
void query_text(char *text, size_t size, const struct worker *worker, int rows);
bool run(struct worker *worker, PGconn *conn, const char *command);

/* An error of our own. */
job_fn fail;
void read_row_by_row(struct worker *worker, PGconn *conn, int rows, int wanted);
/* Three questions, and the first answer. */
bool send_pipeline(struct worker *worker, PGconn *conn);
bool read_of_pipeline(struct worker *worker, PGconn *conn);

job_fn leave_transaction, leave_failed_transaction, leave_copy_out, leave_copy_in, leave_pipeline;
job_fn leave_rows, leave_answer, leave_nonblocking, leave_setting, cancel;

#endif
