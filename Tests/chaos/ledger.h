/* What all threads and all forked children of the oracle write down together, in shared memory: who has which session,
 * what was counted, what went wrong. */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { MOST_STATES = 64, MOST_CODES = 16 };

struct ledger {
  atomic_long loans, answers, children, actions;
  atomic_long wrong_answers;  /* an answer that is somebody else's */
  atomic_long double_owners;  /* a session that had an owner already */
  atomic_long unclean_loans;  /* lent in a transaction, busy, or with a predecessor's state */
  atomic_long strange_errors; /* that nothing we do can explain */
  atomic_long refused;        /* calls of the pool that had to succeed */
  atomic_long failed_children;
  atomic_long latest_us; /* the longest that a pool_get() outlasted its timeout, */
  atomic_long latest_fed_us; /* without the time that its thread waited for a processor, */
  atomic_long first_loan_us; /* the longest that a child waited for its first connection */
  atomic_long nap_late_us; /* and that a nap was too long: this machine may be as late with what others do for a get */
  atomic_long codes[MOST_CODES]; /* failed gets, by -code */
  struct {
    atomic_uint key;
    atomic_long count;
  } states[MOST_STATES]; /* failed queries, by SQLSTATE */
  atomic_int lines;       /* complaints printed */
};

extern struct ledger *ledger;

/* Makes the ledger; before the first thread and fork. */
void ledger_open(void);

/* The session of backend `pid` is `owner`'s alone from here on: false, and a complaint, if it has another owner. */
bool ledger_claim(int pid, uint32_t owner);
/* To be called before the loan ends: afterwards the session may be another's at once. */
void ledger_release(int pid, uint32_t owner);
/* Sessions that somebody still owns. */
long ledger_owned(void);

/* One query failed; NULL: the connection was lost. */
void ledger_state(const char *sqlstate);
void ledger_raise(atomic_long *longest, long us);
/* Naps for a moment, and notes by how much it was too long. */
void ledger_nap(void);
/* Counts in `counter` and says what happened, the first 20 times. */
void complain(atomic_long *counter, const char *format, ...) __attribute__((format(printf, 2, 3)));

void ledger_print(void);

#endif
