/* Every libpq function the library calls, as one table of functions: the one place where libpq is bound, and where
 * a test replaces one. A C constant, so that it is complete before any code runs: nothing is initialised lazily
 * that a forked child could hang on.
 *
 * In a library built with POOL_LIBPQ_BY_DLOPEN, which is not linked with libpq, pool_libpq_load() fills it. */
#ifndef POOL_LIBPQ_H
#define POOL_LIBPQ_H

#include <libpq-events.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#define POOL_LIBPQ_SONAME "libpq.so.5"

/* Read by every pool_put: Swift need not ask whether the function is there. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wnullability-completeness"
#pragma clang diagnostic ignored "-Wnullability-extension"
#define POOL_NONNULL _Nonnull
#else
#define POOL_NONNULL
#endif

struct pool_libpq {
  /* making and ending a connection */
  PGconn *(*connectStartParams)(const char *const *keywords, const char *const *values, int expand_dbname);
  PostgresPollingStatusType (*connectPoll)(PGconn *);
  void (*finish)(PGconn *);
  PQconninfoOption *(*conninfo)(PGconn *);
  PQconninfoOption *(*conninfoParse)(const char *conninfo, char **errmsg);
  void (*conninfoFree)(PQconninfoOption *);
  void (*freemem)(void *);
  int (*registerEventProc)(PGconn *, PGEventProc, const char *name, void *passThrough);

  /* looking at it */
  ConnStatusType (*POOL_NONNULL status)(const PGconn *);
  PGTransactionStatusType (*POOL_NONNULL transactionStatus)(const PGconn *);
  PGpipelineStatus (*POOL_NONNULL pipelineStatus)(const PGconn *);
  int (*POOL_NONNULL isNonblocking)(const PGconn *);
  int (*POOL_NONNULL socket)(const PGconn *);
  int (*POOL_NONNULL backendPID)(const PGconn *);
  char *(*errorMessage)(const PGconn *);
  char *(*host)(const PGconn *);
  char *(*hostaddr)(const PGconn *);
  char *(*port)(const PGconn *);
  const char *(*parameterStatus)(const PGconn *, const char *name);
  int (*sslInUse)(PGconn *);
  int (*connectionNeedsPassword)(const PGconn *);

  /* talking without blocking */
  int (*setNonblocking)(PGconn *, int);
  int (*sendQuery)(PGconn *, const char *);
  int (*flush)(PGconn *);
  int (*consumeInput)(PGconn *);
  int (*isBusy)(PGconn *);
  PGresult *(*getResult)(PGconn *);
  PGnotify *(*notifies)(PGconn *);
  ExecStatusType (*POOL_NONNULL resultStatus)(const PGresult *);
  char *(*resultErrorField)(const PGresult *, int);
  void (*clear)(PGresult *);

  /* libpq's own state on a connection */
  PGVerbosity (*setErrorVerbosity)(PGconn *, PGVerbosity);
  PGContextVisibility (*setErrorContextVisibility)(PGconn *, PGContextVisibility);
  PQnoticeReceiver (*setNoticeReceiver)(PGconn *, PQnoticeReceiver, void *);
  PQnoticeProcessor (*setNoticeProcessor)(PGconn *, PQnoticeProcessor, void *);
  void (*untrace)(PGconn *);
};

#ifdef POOL_LIBPQ_BY_DLOPEN
bool pool_libpq_is_complete(void);
#else
/* Known to the compiler, which leaves out what makes it complete. */
static inline bool pool_libpq_is_complete(void) { return true; }
#endif

/* Makes the table complete. False: there is no libpq, or one that is too old, and `why` says what is wrong.
 * Any thread may call it, also in a forked child; the fork itself must not happen meanwhile, because of the loader. */
bool pool_libpq_load(char *why, size_t size);

/* Where dlsym() finds what libpq brought along. */
void *pool_libpq_scope(void);

/* The table in force. Beside pool_libpq_load() only tests write to it, before they make a pool. */
extern struct pool_libpq pool_libpq_functions;

static inline struct pool_libpq *pool_libpq_table(void) { return &pool_libpq_functions; }

#endif
