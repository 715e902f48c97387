/*
 * dbpool.h - a connection pool for PostgreSQL behind a C ABI.
 *
 * Copyright (c) libdbpool contributors. SPDX-License-Identifier: BSD-3-Clause
 *
 * RULES THAT HOLD FOR EVERY FUNCTION
 *
 *   Threads    Every function may be called by every thread at any time, but not from a signal handler.
 *              Thread cancellation is held off inside; stacks of 64 KiB are enough.
 *   Arguments  Any argument may be wrong: NULL, stale, foreign. The answer is an error code, never a crash.
 *              The library prints nothing.
 *   Errors     A function that makes something returns it, or NULL; any other returns 0 or a negative
 *              POOL_E... code. pool_errcode() and pool_errmsg() tell the calling thread what happened.
 *   Time       `int` milliseconds in arguments named ..._ms. Every wait has one deadline, an instant of the
 *              monotonic clock computed once, that covers queueing, connecting, TLS, checking and configuring.
 *   Blocking   A function that does not say that it can block does not.
 *   Fork       A child may go on using every pool: it starts empty there, with sessions of its own. What was
 *              borrowed before the fork answers POOL_EFORKED in the child. The parent notices nothing.
 *
 * The names `acquire`, `idle`, `in use`, `max_lifetime`, `fifo`/`lifo` are those of HikariCP, psycopg_pool and
 * PgBouncer; the size rule of the structs is that of clone3(2) and openat2(2).
 */
#ifndef DBPOOL_H
#define DBPOOL_H

#include <stddef.h>
#include <stdint.h>

#if UINTPTR_MAX != 0xFFFFFFFFFFFFFFFFu
#error "libdbpool is for 64-bit platforms only"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define POOL_VERSION_MAJOR 0
#define POOL_VERSION_MINOR 1
#define POOL_VERSION_PATCH 0
#define POOL_VERSION "0.1.0"

/* ---------------------------------------------------------------------------------------------- types */

/* A pool. Not an address but a checked token: a closed pool answers POOL_ECLOSED, for ever. */
typedef struct pool pool_t;

/* A place in a pool's queue: pool_get_start(). Never 0. */
typedef uint64_t pool_ticket_t;

/* --------------------------------------------------------------------------------------------- errors */

#define POOL_OK 0            /* no error                                                               */
#define POOL_EINVAL (-1)     /* an argument, option or conninfo is wrong: the message names it         */
#define POOL_ENOMEM (-2)     /* out of memory; nothing was lost                                        */
#define POOL_ETIMEOUT (-3)   /* nothing came free in time: the connections are in use                  */
#define POOL_ECONNECT (-4)   /* nothing could be connected in time: the message has the server's words */
#define POOL_EFULL (-5)      /* `max_waiting` callers wait already                                     */
#define POOL_ECLOSED (-6)    /* the pool is closed                                                     */
#define POOL_EPAUSED (-7)    /* the pool was paused until the deadline                                 */
#define POOL_PENDING (-8)    /* pool_get_wait(): not decided yet, the ticket stays valid               */
#define POOL_ENOTLEASED (-9) /* the connection is the pool's, but not borrowed: put back twice         */
#define POOL_EFOREIGN (-10)  /* not a connection of this pool; it was not touched                      */
#define POOL_EFORKED (-11)   /* borrowed before a fork: it belongs to the parent process               */
#define POOL_EDEADLOCK (-12) /* called from a callback of the same pool, and would wait for itself     */
#define POOL_ESYSTEM (-13)   /* the system refused (threads, descriptors, libpq): see the message      */
#define POOL_EINTERNAL (-14) /* a broken invariant; the connection concerned was dropped               */
#define POOL_ECANCELED (-15) /* pool_get_cancel() took the ticket back                                 */

/* ------------------------------------------------------------------------------------------ constants */

#define POOL_TIMEOUT_DEFAULT (-1)  /* the pool's acquire_timeout_ms */
#define POOL_TIMEOUT_INFINITE (-2) /* no deadline */

/* `check`: how a connection is known to be alive before it is lent. In conninfo: none, watch, socket, ping. */
#define POOL_CHECK_NONE 0
#define POOL_CHECK_WATCH 1  /* sockets are watched, the dead leave before anyone gets them */
#define POOL_CHECK_SOCKET 2 /* WATCH, and one poll() of the socket at pool_get */
#define POOL_CHECK_PING 3   /* SOCKET, and a round trip if idle longer than check_after_idle_ms */

/* `reset`: what happens to a connection that is put back. In conninfo: none, rollback, discard_all, query. */
#define POOL_RESET_NONE 0
#define POOL_RESET_ROLLBACK 1    /* ROLLBACK, only if a transaction is open */
#define POOL_RESET_DISCARD_ALL 2 /* ROLLBACK if needed, then DISCARD ALL; libpq's own state as new */
#define POOL_RESET_QUERY 3       /* ROLLBACK if needed, then reset_query; libpq's own state as new */

/* `queue_mode`: which idle connection is lent first. In conninfo: lifo, fifo. */
#define POOL_LIFO 0
#define POOL_FIFO 1

/* `level` of the log callback. */
#define POOL_LOG_DEBUG 0
#define POOL_LOG_INFO 1
#define POOL_LOG_WARNING 2
#define POOL_LOG_ERROR 3

/* Limits of the options. */
#define POOL_MAX_SIZE_LIMIT 65535
#define POOL_NAME_LIMIT 63       /* bytes of `name`, as for any identifier of PostgreSQL */
#define POOL_CONNINFO_LIMIT 65536 /* bytes of a conninfo; also the size handed to conninfo_provider */

/* ------------------------------------------------------------------------------------------ callbacks
 *
 * Callbacks run on a connector thread of the library, with no lock held, all signals blocked and a stack as large as
 * that of the program's own threads. They may block and may call the library; what would wait for itself answers
 * POOL_EDEADLOCK. They must return: no longjmp, no C++ exception, no pthread_exit. A child that a callback forks must
 * exec or _exit, not return; a program that it starts inherits the blocked signals (posix_spawnattr_setsigmask). */

/* A line for the log, from a bounded queue (drops are counted: `log_drops`). `message` is valid during the call. */
typedef void (*pool_log_fn)(void *context, int level, const char *message);

/* Called once for each new connection, before it is lent. `conn` is a PGconn *, to be left idle and out of any
 * transaction, and never to be finished. Not 0 = close it, the attempt failed. */
typedef int (*pool_configure_fn)(void *context, void *conn);

/* Called before each attempt to connect; writes a NUL-terminated conninfo of at most `size` bytes with the NUL
 * (a fresh password or token, another host). Not 0 = this attempt fails. */
typedef int (*pool_conninfo_fn)(void *context, char *buffer, size_t size);

/* Called exactly once, after the last callback of the pool has returned and none can start. */
typedef void (*pool_free_fn)(void *context);

/* -------------------------------------------------------------------------------------------- options
 *
 * Fill with POOL_OPTIONS_INIT or pool_options_init(), then set what differs. The same names may stand in the
 * conninfo with the prefix `pool_` (without `_ms`; durations with a unit: us, ms, s, min or m, h, d; without one they are
 * milliseconds; -1 stands for infinite where a negative makes sense), and win over the struct:
 *     postgresql://app@db/shop?pool_max_size=20&pool_max_lifetime=30m&pool_check=ping
 * Strings are copied by pool_create(). */
typedef struct pool_options {
  size_t size;                      /* sizeof(pool_options_t) of the caller                                     */
  const char *name;                 /* NULL = "pool-N"; in errors, logs, statistics, fallback application_name  */
  const char *reset_query;          /* the SQL of POOL_RESET_QUERY                                              */
  pool_log_fn log;                  /* NULL = no log                                                            */
  pool_configure_fn configure;      /* NULL = nothing to configure                                              */
  pool_conninfo_fn conninfo_provider; /* NULL = the conninfo of pool_create()                                   */
  void *context;                    /* passed to all callbacks                                                  */
  pool_free_fn context_free;        /* NULL = the context is the caller's                                       */
  int min_size;                     /* 0: connections kept open at least                                        */
  int max_size;                     /* 10: at most, per process; a closed one counts until the server has
                                       closed its end, at most 1 s                                              */
  int max_waiting;                  /* 0 = no limit: callers that may wait; further ones get POOL_EFULL         */
  int acquire_timeout_ms;           /* 30000: deadline of pool_get; 0 = a try, POOL_TIMEOUT_INFINITE = none      */
  int connect_timeout_ms;           /* 10000: per host, > 0. connect_timeout of the conninfo (seconds) is
                                       honoured unless this differs from its default or pool_connect_timeout is given */
  int connect_concurrency;          /* 0 = max_size: attempts under way at once                                  */
  int max_lifetime_ms;              /* 1800000: age at which a connection is replaced; 0 = never                */
  int lifetime_jitter_percent;      /* 20: each lifetime is shortened by a random part of up to this, 0 to 100   */
  int idle_timeout_ms;              /* 600000: idle connections above min_size close after it; 0 = never        */
  int check;                        /* POOL_CHECK_WATCH                                                         */
  int check_after_idle_ms;          /* 500: POOL_CHECK_PING pings a connection idle for longer                  */
  int check_timeout_ms;             /* 5000, > 0: a ping or reset that takes longer loses its connection        */
  int reset;                        /* POOL_RESET_ROLLBACK                                                      */
  int queue_mode;                   /* POOL_LIFO                                                                */
  int leak_threshold_ms;            /* 0 = off: a loan older than this is logged, once, with its thread          */
  int exact_times;                  /* 0: use and idle times are coarse (100 ms); 1: exact, at two clock reads   */
  int background_open;              /* hosted pools: 1 = threads of the host open connections, see pool_collect() */
  int reserved;                     /* 0                                                                        */
} pool_options_t;

#define POOL_OPTIONS_INIT \
  { sizeof(pool_options_t), NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
    0, 10, 0, 30000, 10000, 0, 1800000, 20, 600000, POOL_CHECK_WATCH, 500, 5000, POOL_RESET_ROLLBACK, POOL_LIFO, 0, 0, 0, 0 }

/* Sets the defaults in a struct of `size` bytes. POOL_EINVAL: options NULL, or size smaller than that of the
 * first release. A larger size is filled with zeros, which mean the default for every option added later. */
int pool_options_init(pool_options_t *options, size_t size);

/* ------------------------------------------------------------------------------------- the main four */

/* Makes a pool. Everything is parsed and checked here, environment and service file included; no server is waited
 * for. `conninfo` is libpq's (keywords or URI, several hosts, target_session_attrs, service); NULL = "", the
 * environment's. `options` NULL = the defaults. The pool is the caller's, to be ended with pool_close().
 * NULL on error: POOL_EINVAL, POOL_ENOMEM, POOL_ESYSTEM. */
pool_t *pool_create(const char *conninfo, const pool_options_t *options);

/* Borrows a connection: a PGconn *, idle and out of any transaction, the caller's alone until pool_put().
 * Blocks until `timeout_ms` (POOL_TIMEOUT_DEFAULT, POOL_TIMEOUT_INFINITE, 0 = only what is there at once; with 0,
 * POOL_CHECK_PING checks the socket only). Callers that wait are served first come, first served.
 * NULL on error: POOL_ETIMEOUT, POOL_ECONNECT, POOL_EFULL, POOL_EPAUSED, POOL_ECLOSED, POOL_EINVAL, POOL_ENOMEM,
 * POOL_EDEADLOCK, POOL_ESYSTEM. */
void *pool_get(pool_t *pool, int timeout_ms);

/* Gives a connection back. It may be in any state: an open transaction is rolled back in the background; a broken
 * or busy one (COPY, pipeline, unread results, non-blocking) is closed and replaced. So is one whose session is ending,
 * is another one after PQreset(), failed to write because its server is read-only, or is no longer what
 * target_session_attrs asks for: the pool sees the errors of each loan. Never waits for the network.
 * After pool_close() it closes the connection and returns 0.
 * POOL_ENOTLEASED: put twice, or ended with PQfinish(), which ends the loan too; POOL_EFOREIGN: not of this pool;
 * POOL_EFORKED; POOL_EINVAL; POOL_ECLOSED: the pool
 * is closed and this connection is not one that it still has out.
 * A late second put of a connection that was lent on meanwhile cannot be told by its address: put each loan once. */
int pool_put(pool_t *pool, void *conn);

/* Closes the pool: waiters fail with POOL_ECLOSED, idle connections close, borrowed ones when they are put.
 * Returns at once. POOL_ECLOSED when it is closed already; POOL_EINVAL for what never was a pool. */
int pool_close(pool_t *pool);

/* ------------------------------------------------------------------------ pool_get in three steps
 * for callers that must stay awake for signals, greenlets or cancellation. */

/* Joins the queue and writes a ticket. Does not block. The ticket must be ended: by a pool_get_wait() that returns
 * a connection or fails with another code than POOL_PENDING, or by pool_get_cancel(). One that is decided and not
 * collected by its deadline gives the connection back. Errors as pool_get. */
int pool_get_start(pool_t *pool, int timeout_ms, pool_ticket_t *ticket);

/* Waits up to `wait_ms` (0 = look; POOL_TIMEOUT_DEFAULT or POOL_TIMEOUT_INFINITE = until the ticket's deadline).
 * The connection, or NULL: POOL_PENDING when `wait_ms` is over or a signal handler ran and the ticket is still good;
 * any other code ends the ticket (as pool_get; POOL_ECANCELED; POOL_EINVAL: no such ticket), but for a call that is wrong
 * by itself and changes nothing: POOL_EINVAL for another negative `wait_ms`, POOL_EDEADLOCK. What was granted before
 * pool_close() is still given. */
void *pool_get_wait(pool_t *pool, pool_ticket_t ticket, int wait_ms);

/* Leaves the queue, from any thread: a pool_get_wait() on it ends with POOL_ECANCELED; a connection granted
 * meanwhile goes to the next. POOL_EINVAL: no such ticket (also one that has ended). */
int pool_get_cancel(pool_t *pool, pool_ticket_t ticket);

/* --------------------------------------------------------------------------------------- life of a pool */

/* Gives back a connection known to be broken or unfit: it is closed and replaced. Errors as pool_put. */
int pool_discard(pool_t *pool, void *conn);

/* Tells of an error on a borrowed connection, or of a hosted pool's object, that the pool has not seen; the pool sees the
 * results of libpq on its own connections by itself. `sqlstate`: the five characters of the server's error. The loan goes
 * on. POOL_OK: the connection stays. POOL_CLOSE: it will be closed and replaced when it is put (pool_put() of a hosted
 * pool then answers POOL_CLOSE): class 08, 57P and 25P03, 25P04, where the session ends; 25006, where you say that the
 * server takes no writes: do not tell of one that comes of your own READ ONLY transaction. Else errors as pool_put,
 * POOL_EINVAL also for what is no SQLSTATE. */
int pool_report(pool_t *pool, void *conn, const char *sqlstate);

/* Blocks until min_size connections are open (0 returns at once). POOL_ECONNECT, early, on an error that will not go away (wrong
 * password, no such database), else at the deadline; POOL_ETIMEOUT; POOL_ECLOSED; POOL_EPAUSED when drained. */
int pool_wait(pool_t *pool, int timeout_ms);

/* New limits, within the same bounds as in the options. Shrinking: idle connections close now, lent ones when put. */
int pool_resize(pool_t *pool, int min_size, int max_size);

/* From now on gets queue until their deadline, then fail with POOL_EPAUSED. Loans go on. Idempotent. */
int pool_pause(pool_t *pool);

/* Ends a pause or drain and serves those who wait. Idempotent. */
int pool_resume(pool_t *pool);

/* Pauses, closes the idle connections and those that are put, and blocks until none is left: 0 or POOL_ETIMEOUT.
 * Paused and empty either way until pool_resume(), which ends a drain under way with POOL_ECANCELED. */
int pool_drain(pool_t *pool, int timeout_ms);

/* Renews all connections: idle ones are replaced now, lent ones when put; no old one is lent after this returns.
 * For a failover, a changed password or a new search_path of the role. */
int pool_reconnect(pool_t *pool);

/* -------------------------------------------------------------------------------------- hosted pools
 *
 * A pool whose connections the host program makes: a driver that builds its own connection objects. Limits, queue,
 * deadlines, lifetime, liveness and statistics are the pool's; opening, resetting and closing are the host's. The
 * library never touches the objects, calls nothing of the host, and opens nothing by itself: the thread that is granted
 * a fresh slot opens. What pool_get() and pool_get_wait() return is then no PGconn * but a token:
 *
 *     bits 0-7 flags (ignore those you do not know) | bits 8-31 slot, from 0 | bits 32-63 generation
 *
 * never NULL, another one for each loan. The host keeps one object for each slot. All functions of this header work on
 * hosted pools; where they take a connection they take a token.
 *
 *     get    without POOL_FRESH: the slot's object is open and idle, the caller's until pool_put().
 *            with POOL_FRESH: close the object that you may still hold for this slot, open a new one, then pool_adopt();
 *            when it cannot be opened, pool_fail() or pool_discard(). Not doing any of these keeps the slot for ever, and
 *            while the server is not known to answer it keeps others from trying.
 *            with POOL_OCCUPIED too: the server, if it is slow, would show the old session beside the new one for a
 *            moment. Who must not have that closes the old object, then pool_discard()s the token instead of opening, and
 *            gets again: the slot counts until the server has closed its end.
 *     put    only what was adopted (else POOL_EINVAL). 0: keep the object. POOL_CLOSE: close it, then pool_discard() the
 *            same token. Or'ed with POOL_COLLECT: idle objects are to be closed, pool_collect() has their tokens. Roll
 *            back before the put: the pool cannot see the transaction.
 *     discard a lent token: the object is closed already, or will be at once; a token that pool_put() answered with
 *            POOL_CLOSE, or that came from pool_collect(): its object is closed now. If the server or the network has
 *            ended the session, pool_report() with "08006" before it: then one slot at a time is granted as fresh until
 *            the server is known to answer.
 *
 * A slot counts until the host has confirmed and the server has closed its end, or a second later. min_size means: do not
 * shrink below it. In a forked child every token from before is POOL_EFORKED: forget the objects, do not close them.
 * Once the server is known not to answer, one slot at a time is granted as fresh, after the same delays as in a pool that
 * connects by itself.
 *
 * With the option background_open it is threads of the host that open: pool_get() returns open connections only, and
 * pool_collect() gives, beside objects to close, tokens with POOL_FRESH: open one, then pool_adopt(), which ends that
 * token; the connection goes to the first in the queue, or lies idle. min_size connections are then kept open, and what is
 * lost or expires is replaced. */

/* Flags of a token. */
#define POOL_FRESH 1    /* open a connection for it */
#define POOL_DOUBTFUL 2 /* only with POOL_CHECK_SOCKET: something has arrived on its socket, a notification or the
                           server's last words: look before use */
#define POOL_OCCUPIED 4 /* only with POOL_FRESH: the server still has the session of the slot's old object */

#define POOL_TOKEN_FLAGS(token) ((int)((uintptr_t)(token) & 0xFFu))
#define POOL_TOKEN_SLOT(token) ((uint32_t)(((uintptr_t)(token) >> 8) & 0xFFFFFFu))
#define POOL_TOKEN_GENERATION(token) ((uint32_t)((uintptr_t)(token) >> 32))

/* What pool_put() answers for a hosted pool, beside 0. */
#define POOL_CLOSE 1   /* close the object that was put, then pool_discard() its token */
#define POOL_COLLECT 2 /* pool_collect() has tokens */

/* Makes a hosted pool. As pool_create(), without a conninfo. What needs the connection itself is POOL_EINVAL, named:
 * configure, conninfo_provider, reset_query, a `reset` other than POOL_RESET_NONE or the default, POOL_CHECK_PING.
 * NULL on error: POOL_EINVAL, POOL_ENOMEM, POOL_ESYSTEM. */
pool_t *pool_create_hosted(const pool_options_t *options);

/* The object of a token granted as POOL_FRESH is open; it is the caller's loan from here on (not with background_open).
 * `fd` is its socket: the
 * pool keeps a duplicate (close-on-exec) and uses only that, only to see whether the peer is gone; `fd` stays the
 * host's. On an error other than POOL_ECLOSED the grant stays: close the object and pool_discard().
 * POOL_EINVAL: not a hosted pool, not a fresh token, no socket; POOL_ECLOSED: the pool was closed meanwhile, close the
 * object, nothing else is to be done; POOL_ENOTLEASED; POOL_EFOREIGN; POOL_EFORKED; POOL_ESYSTEM. */
int pool_adopt(pool_t *pool, void *token, int fd);

/* The object of a token granted as POOL_FRESH could not be opened. `sqlstate`: the five characters of the server's
 * error, NULL if there were none; class 28, 3D000 and 0A000 mean that it will not go away: the next attempt waits 5 s.
 * `message`: the cause, for the errors of others who wait; may be NULL, is copied and cleaned of control characters; must
 * not hold a password. pool_discard() is the same without a cause. Errors as pool_adopt. */
int pool_fail(pool_t *pool, void *token, const char *sqlstate, const char *message);

/* Fetches up to `n` tokens of idle objects that are to be closed (expired, lost, too many, pool closed), each once: close
 * the object, then pool_discard() its token. With background_open also those with POOL_FRESH, after the others. Blocks
 * until there is one, or `timeout_ms`; returns their number, 0 at the timeout. After pool_close() it answers POOL_ECLOSED
 * once nothing is left to fetch.
 * With `pool` NULL it blocks until any hosted pool of the process has tokens, fetches none, and returns 1: then ask each
 * with a timeout of 0. POOL_EINVAL, POOL_ECLOSED, POOL_EDEADLOCK. */
int pool_collect(pool_t *pool, void **tokens, int n, int timeout_ms);

/* ------------------------------------------------------------------------------------------- statistics */

/* Gauges are counts of now, counters grow from pool_create() (in a child: from its first use after the fork).
 * Times are microseconds. Every member is 64 bits wide. */
typedef struct pool_statistics {
  size_t size; /* sizeof(pool_stats_t) of the caller, set before the call */
  /* gauges */
  int64_t min_size;
  int64_t max_size;
  int64_t total;      /* idle + in_use + connecting + resetting + closing: never above max_size, but after a shrink */
  int64_t idle;       /* open, could be lent at once */
  int64_t in_use;     /* lent */
  int64_t connecting; /* attempts under way */
  int64_t resetting;  /* put back and being reset, checked before a loan, or about to be replaced */
  int64_t closing;    /* closed by us, the server's end not yet seen closed */
  int64_t waiting;    /* callers in the queue */
  int64_t paused;     /* 1: paused or drained */
  /* counters */
  uint64_t gets;             /* loans granted, also those that were taken back before the caller had them */
  uint64_t puts;             /* loans ended, discards included */
  uint64_t waits;            /* gets that had to wait */
  uint64_t timeouts;         /* gets that ended with POOL_ETIMEOUT, POOL_ECONNECT or POOL_EPAUSED */
  uint64_t cancels;          /* tickets taken back or never collected */
  uint64_t rejected;         /* POOL_EFULL */
  uint64_t opened;           /* sessions opened */
  uint64_t connect_failures; /* attempts that failed */
  uint64_t lost;             /* closed because the server or the network ended them */
  uint64_t expired;          /* closed for max_lifetime */
  uint64_t idle_closed;      /* closed for idle_timeout, or for a smaller max_size */
  uint64_t discarded;        /* pool_discard, or put back broken or busy */
  uint64_t resets;           /* background resets started */
  uint64_t reset_failures;   /* resets that failed or took too long */
  uint64_t checks;           /* pings started */
  uint64_t check_failures;   /* pings that failed or took too long */
  uint64_t leaks;            /* loans reported by leak_threshold_ms */
  uint64_t log_drops;        /* log lines lost because the queue was full */
  uint64_t internal_errors;  /* broken invariants met and survived */
  uint64_t stuck_connectors; /* gauge: connector threads given up in a resolver or callback, not yet back */
  /* times */
  uint64_t wait_us;     /* sum over the gets that had to wait */
  uint64_t wait_max_us; /* the longest of them */
  uint64_t use_us;      /* sum over the loans; unless exact_times, what was in use at ten looks a second */
  uint64_t connect_us;  /* sum over the attempts that succeeded */
} pool_stats_t;

/* One consistent copy. A shorter struct gets its part, a longer one zeros in the tail. POOL_EINVAL, POOL_ECLOSED. */
int pool_stats(pool_t *pool, pool_stats_t *stats);

/* ----------------------------------------------------------------------------------------------- errors */

/* The code of the calling thread's last failure in this library, POOL_OK if there was none. Success does not
 * clear it. */
int pool_errcode(void);

/* Its message, never NULL, without a final newline and without any password; the thread's own buffer, valid until
 * the thread's next call of this library. */
const char *pool_errmsg(void);

/* A constant text for a code, never NULL. */
const char *pool_strerror(int code);

/* The version of the library that runs, "MAJOR.MINOR.PATCH"; POOL_VERSION is that of the header. Constant text. */
const char *pool_version(void);

#ifdef __cplusplus
}
#endif

/* No implicit padding: a newer library reads the struct of an older caller by its size alone. */
#if defined(__cplusplus) && __cplusplus >= 201103L
static_assert(sizeof(pool_options_t) == 8 * sizeof(void *) + 18 * sizeof(int), "pool_options_t has padding");
static_assert(sizeof(pool_stats_t) == 35 * sizeof(uint64_t), "pool_stats_t has padding");
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(pool_options_t) == 8 * sizeof(void *) + 18 * sizeof(int), "pool_options_t has padding");
_Static_assert(sizeof(pool_stats_t) == 35 * sizeof(uint64_t), "pool_stats_t has padding");
#endif

#endif /* DBPOOL_H */
