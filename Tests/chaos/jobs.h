/* What a borrower does with a connection. Every query carries a tag of its own, and every row of the answer must bring
 * the tag and the backend's pid back. */
#ifndef JOBS_H
#define JOBS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct worker {
  uint32_t id; /* the owner in the ledger, never 0 */
  uint32_t serial;
  uint64_t seed;
  char tag[48];
  int pid;          /* of the backend that is lent, 0: none */
  int notices;      /* that came with the tag */
  bool in_loan;
};

void worker_start(struct worker *worker, uint32_t id, uint64_t seed);

/* A job of any kind; it may leave the connection in any state. */
void job_any(struct worker *worker, PGconn *conn);
/* One that ends with the session as it was. */
void job_gentle(struct worker *worker, PGconn *conn);
/* The shortest question. False: it got no answer. */
bool job_ask(struct worker *worker, PGconn *conn);

/* A session that was just lent must be idle, out of any transaction, with nothing unread. `is_reset`: and without the
 * settings of whoever had it before. */
void check_clean(struct worker *worker, PGconn *conn, bool is_reset);

#endif
