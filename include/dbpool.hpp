/*
 * dbpool.hpp - the pool of dbpool.h for C++17: what is borrowed goes back by itself, errors are exceptions.
 *
 * Copyright (c) libdbpool contributors. SPDX-License-Identifier: BSD-3-Clause
 *
 *     dbpool::pool pool("postgresql://app@db/shop", options);
 *     dbpool::loan conn = pool.get(std::chrono::seconds(5));
 *     PGresult *result = PQexec(conn, "SELECT 6 * 7");
 *
 * Header only: link with -ldbpool (and -lpq for queries). What each call does, and when, is said in dbpool.h.
 *
 *   Threads     Every const member function of `pool` may be called by every thread at any time. Moving, assigning and
 *               destroying one may not happen beside its other calls. A `loan` or `ticket` is used by one thread at a
 *               time; it may be handed from thread to thread.
 *   Lifetimes   Loans and tickets may outlive their pool: a loan then closes its connection. Destructors and moves never
 *               throw, and never wait for the network.
 *   Exceptions  All derive from dbpool::error. Callbacks may throw: it ends there, as the failure that it means.
 *   Forks       As in C. In a child, loans of the parent do nothing.
 *
 * Hosted pools have no class here; their functions in dbpool.h are as good in C++.
 */
#ifndef DBPOOL_HPP
#define DBPOOL_HPP

#include <dbpool.h>

#include <chrono>
#include <climits>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

struct pg_conn; /* libpq's PGconn */

namespace dbpool {

using std::chrono::milliseconds;

/* ---------------------------------------------------------------------------------------------- errors */

/* Base of all exceptions here. `what()` is the library's message. */
class error : public std::runtime_error {
 public:
  error(int code, const std::string &message) : std::runtime_error(message), code_(code) {}
  /* POOL_E...: dbpool.h lists them. */
  int code() const noexcept { return code_; }

 private:
  int code_;
};

/* The error of one code. */
template <int Code>
class error_of : public error {
 public:
  explicit error_of(const std::string &message) : error(Code, message) {}
};

using invalid_argument = error_of<POOL_EINVAL>;
using out_of_memory = error_of<POOL_ENOMEM>;
using timeout_error = error_of<POOL_ETIMEOUT>;
using connect_error = error_of<POOL_ECONNECT>;
using too_many_waiting = error_of<POOL_EFULL>;
using closed_error = error_of<POOL_ECLOSED>;
using paused_error = error_of<POOL_EPAUSED>;
using not_leased = error_of<POOL_ENOTLEASED>;
using foreign_connection = error_of<POOL_EFOREIGN>;
using forked_connection = error_of<POOL_EFORKED>;
using would_deadlock = error_of<POOL_EDEADLOCK>;
using system_failure = error_of<POOL_ESYSTEM>;
using internal_error = error_of<POOL_EINTERNAL>;
using canceled = error_of<POOL_ECANCELED>;

/* Throws the class of a code: one of those above, or `error` for a code of a newer library. */
[[noreturn]] inline void raise(int code, const std::string &message) {
  switch (code) {
    case POOL_EINVAL: throw invalid_argument(message);
    case POOL_ENOMEM: throw out_of_memory(message);
    case POOL_ETIMEOUT: throw timeout_error(message);
    case POOL_ECONNECT: throw connect_error(message);
    case POOL_EFULL: throw too_many_waiting(message);
    case POOL_ECLOSED: throw closed_error(message);
    case POOL_EPAUSED: throw paused_error(message);
    case POOL_ENOTLEASED: throw not_leased(message);
    case POOL_EFOREIGN: throw foreign_connection(message);
    case POOL_EFORKED: throw forked_connection(message);
    case POOL_EDEADLOCK: throw would_deadlock(message);
    case POOL_ESYSTEM: throw system_failure(message);
    case POOL_EINTERNAL: throw internal_error(message);
    case POOL_ECANCELED: throw canceled(message);
    default: throw error(code, message);
  }
}

namespace detail {

[[noreturn]] inline void raise_last() { raise(pool_errcode(), pool_errmsg()); }

inline int checked(int answer) {
  if (answer < 0) raise_last();
  return answer;
}

template <class T>
T *checked(T *made) {
  if (made == nullptr) raise_last();
  return made;
}

inline int count(milliseconds time) {
  if (time.count() > INT_MAX || time.count() < INT_MIN) throw invalid_argument("a duration is longer than 24 days");
  return static_cast<int>(time.count());
}

/* A string that C reads to its end and no less: a NUL byte would cut it there. */
inline const std::string &whole(const std::string &text, const char *name) {
  if (text.find('\0') != std::string::npos) throw invalid_argument(std::string("the ") + name + " has a NUL byte in it");
  return text;
}

inline constexpr pool_options_t defaults = POOL_OPTIONS_INIT;

}  // namespace detail

/* --------------------------------------------------------------------------------------------- options */

/* In place of a duration: the pool's acquire_timeout, or no deadline. */
inline constexpr milliseconds default_timeout{POOL_TIMEOUT_DEFAULT};
inline constexpr milliseconds infinite{POOL_TIMEOUT_INFINITE};

enum class check_kind { none = POOL_CHECK_NONE, watch = POOL_CHECK_WATCH, socket = POOL_CHECK_SOCKET, ping = POOL_CHECK_PING };
enum class reset_kind {
  none = POOL_RESET_NONE,
  rollback = POOL_RESET_ROLLBACK,
  discard_all = POOL_RESET_DISCARD_ALL,
  query = POOL_RESET_QUERY
};
enum class queue_order { lifo = POOL_LIFO, fifo = POOL_FIFO };
enum class log_level { debug = POOL_LOG_DEBUG, info = POOL_LOG_INFO, warning = POOL_LOG_WARNING, error = POOL_LOG_ERROR };

/* The options of dbpool.h as a value, at their defaults. They may be changed and used again once a pool is made. */
struct options {
  std::string name;        /* empty: "pool-N" */
  std::string reset_query; /* the SQL of reset_kind::query */
  int min_size = detail::defaults.min_size;
  int max_size = detail::defaults.max_size;
  int max_waiting = detail::defaults.max_waiting;
  milliseconds acquire_timeout{detail::defaults.acquire_timeout_ms};
  milliseconds connect_timeout{detail::defaults.connect_timeout_ms};
  int connect_concurrency = detail::defaults.connect_concurrency;
  milliseconds max_lifetime{detail::defaults.max_lifetime_ms};
  int lifetime_jitter_percent = detail::defaults.lifetime_jitter_percent;
  milliseconds idle_timeout{detail::defaults.idle_timeout_ms};
  check_kind check = static_cast<check_kind>(detail::defaults.check);
  milliseconds check_after_idle{detail::defaults.check_after_idle_ms};
  milliseconds check_timeout{detail::defaults.check_timeout_ms};
  reset_kind reset = static_cast<reset_kind>(detail::defaults.reset);
  queue_order queue_mode = static_cast<queue_order>(detail::defaults.queue_mode);
  milliseconds leak_threshold{detail::defaults.leak_threshold_ms};
  bool exact_times = detail::defaults.exact_times != 0;

  /* Called on threads of the library, copied into the pool, and destroyed after the last call of any of them. */
  std::function<void(log_level, std::string_view)> log;
  /* Throws when the new connection is not fit; then the attempt has failed, and the log has the reason. */
  std::function<void(pg_conn *)> configure;
  /* The conninfo of the next attempt; throws when there is none. */
  std::function<std::string()> conninfo_provider;
};

namespace detail {

/* What a pool keeps for its callbacks, from its creation to context_free. */
struct callbacks {
  std::function<void(log_level, std::string_view)> log;
  std::function<void(pg_conn *)> configure;
  std::function<std::string()> conninfo_provider;

  void tell(log_level level, const char *message) const noexcept {
    try {
      if (log) log(level, message);
    } catch (...) { /* there is nobody left to tell */
    }
  }

  /* 0, or 1 when it throws, which is logged. */
  template <class Action>
  int attempt(const char *name, Action &&action) const noexcept {
    try {
      action();
      return 0;
    } catch (const std::exception &failure) {
      tell_failure(name, failure.what());
    } catch (...) {
      tell_failure(name, "an exception that is no std::exception");
    }
    return 1;
  }

 private:
  void tell_failure(const char *name, const char *reason) const noexcept {
    try {
      tell(log_level::error, (std::string(name) + ": " + reason).c_str());
    } catch (...) {
      tell(log_level::error, name);
    }
  }
};

inline const callbacks &of(void *context) noexcept { return *static_cast<const callbacks *>(context); }

inline void call_log(void *context, int level, const char *message) noexcept {
  of(context).tell(static_cast<log_level>(level), message);
}

inline int call_configure(void *context, void *conn) noexcept {
  return of(context).attempt("configure", [&] { of(context).configure(static_cast<pg_conn *>(conn)); });
}

inline int call_conninfo_provider(void *context, char *buffer, std::size_t size) noexcept {
  return of(context).attempt("conninfo_provider", [&] {
    const std::string conninfo = of(context).conninfo_provider();
    whole(conninfo, "conninfo");
    if (conninfo.size() >= size) throw std::length_error("the conninfo is too long");
    std::memcpy(buffer, conninfo.c_str(), conninfo.size() + 1);
  });
}

inline void free_callbacks(void *context) noexcept { delete static_cast<callbacks *>(context); }

/* The options of the C interface; the strings stay those of `given`, `context` is the caller's until a pool is made. */
inline pool_options_t native(const options &given, callbacks *context) {
  pool_options_t result = defaults;
  result.name = given.name.empty() ? nullptr : whole(given.name, "name").c_str();
  result.reset_query = given.reset_query.empty() ? nullptr : whole(given.reset_query, "reset_query").c_str();
  result.log = given.log ? call_log : nullptr;
  result.configure = given.configure ? call_configure : nullptr;
  result.conninfo_provider = given.conninfo_provider ? call_conninfo_provider : nullptr;
  result.context = context;
  result.context_free = free_callbacks;
  result.min_size = given.min_size;
  result.max_size = given.max_size;
  result.max_waiting = given.max_waiting;
  result.acquire_timeout_ms = count(given.acquire_timeout);
  result.connect_timeout_ms = count(given.connect_timeout);
  result.connect_concurrency = given.connect_concurrency;
  result.max_lifetime_ms = count(given.max_lifetime);
  result.lifetime_jitter_percent = given.lifetime_jitter_percent;
  result.idle_timeout_ms = count(given.idle_timeout);
  result.check = static_cast<int>(given.check);
  result.check_after_idle_ms = count(given.check_after_idle);
  result.check_timeout_ms = count(given.check_timeout);
  result.reset = static_cast<int>(given.reset);
  result.queue_mode = static_cast<int>(given.queue_mode);
  result.leak_threshold_ms = count(given.leak_threshold);
  result.exact_times = given.exact_times ? 1 : 0;
  return result;
}

}  // namespace detail

/* ------------------------------------------------------------------------------------------------ loans */

/* A borrowed connection. It is given back exactly once: by put(), discard() or the destructor. Used where a PGconn * is
 * wanted, it is one. */
class loan {
 public:
  loan() noexcept = default;
  loan(loan &&other) noexcept : pool_(other.pool_), conn_(std::exchange(other.conn_, nullptr)) {}
  loan &operator=(loan &&other) noexcept {
    if (this != &other) {
      give_back();
      pool_ = other.pool_;
      conn_ = std::exchange(other.conn_, nullptr);
    }
    return *this;
  }
  ~loan() noexcept { give_back(); }

  /* The connection, which stays the pool's; NULL when it was given back or moved from. */
  pg_conn *get() const noexcept { return conn_; }
  operator pg_conn *() const &noexcept { return conn_; }
  operator pg_conn *() const && = delete; /* it would go back at the end of the expression */
  explicit operator bool() const &noexcept { return conn_ != nullptr; }
  explicit operator bool() const &&noexcept { return conn_ != nullptr; }

  /* Gives it back, in any state, as the destructor does; throws when the pool refuses: not_leased after PQfinish(),
   * forked_connection in a child, internal_error. not_leased, too, when it was given back before. */
  void put() { end(pool_put); }

  /* Gives back a connection known to be broken or unfit: it is closed and replaced. Throws as put(). */
  void discard() { end(pool_discard); }

  /* Tells of an error of the server that the pool has not seen. True: it will be closed when it is given back. */
  bool report(const char *sqlstate) const { return detail::checked(pool_report(pool_, conn_, sqlstate)) == POOL_CLOSE; }

 private:
  friend class pool;
  friend class ticket;
  loan(pool_t *pool, void *conn) noexcept : pool_(pool), conn_(static_cast<pg_conn *>(conn)) {}

  void end(int (*how)(pool_t *, void *)) {
    if (conn_ == nullptr) throw not_leased("the loan was given back or moved from");
    detail::checked(how(pool_, std::exchange(conn_, nullptr)));
  }

  void give_back() noexcept {
    if (conn_ != nullptr) pool_put(pool_, std::exchange(conn_, nullptr));
  }

  pool_t *pool_ = nullptr;
  pg_conn *conn_ = nullptr;
};

/* A place in the queue, for callers that must stay awake: pool::start(). The destructor leaves the queue. */
class ticket {
 public:
  ticket() noexcept = default;
  ticket(ticket &&other) noexcept : pool_(other.pool_), number_(std::exchange(other.number_, 0)) {}
  ticket &operator=(ticket &&other) noexcept {
    if (this != &other) {
      cancel();
      pool_ = other.pool_;
      number_ = std::exchange(other.number_, 0);
    }
    return *this;
  }
  ~ticket() noexcept { cancel(); }

  /* Waits up to `time`, by default only looks. A loan, which ends the ticket, or nothing: not decided yet. Throws as
   * pool::get(); that ends the ticket too. */
  std::optional<loan> wait(milliseconds time = milliseconds(0)) {
    try {
      void *conn = pool_get_wait(pool_, number_, detail::count(time));
      if (conn == nullptr && pool_errcode() == POOL_PENDING) return std::nullopt;
      loan result(pool_, detail::checked(conn));
      number_ = 0;
      return result;
    } catch (...) {
      cancel(); /* also where the call itself was wrong and the place is still there */
      throw;
    }
  }

  /* Leaves the queue. A connection granted meanwhile goes to the next. */
  void cancel() noexcept {
    if (number_ != 0) pool_get_cancel(pool_, std::exchange(number_, 0));
  }

  explicit operator bool() const noexcept { return number_ != 0; }

  /* For pool_get_cancel() by another thread, which may happen beside wait(). */
  pool_ticket_t native_handle() const noexcept { return number_; }

 private:
  friend class pool;
  ticket(pool_t *pool, pool_ticket_t number) noexcept : pool_(pool), number_(number) {}

  pool_t *pool_ = nullptr;
  pool_ticket_t number_ = 0;
};

/* ------------------------------------------------------------------------------------------------- pool */

/* A pool; its destructor closes it. */
class pool {
 public:
  /* pool_create(): checks everything, waits for no server. Throws invalid_argument, out_of_memory, system_failure. */
  explicit pool(const std::string &conninfo = {}, const options &given = {}) {
    auto context = std::make_unique<detail::callbacks>();
    *context = {given.log, given.configure, given.conninfo_provider};
    const pool_options_t native = detail::native(given, context.get());
    pool_ = detail::checked(pool_create(detail::whole(conninfo, "conninfo").c_str(), &native));
    context.release(); /* the pool's, until context_free */
  }
  pool(pool &&other) noexcept : pool_(std::exchange(other.pool_, nullptr)) {}
  pool &operator=(pool &&other) noexcept {
    if (this != &other) {
      if (pool_ != nullptr) pool_close(pool_);
      pool_ = std::exchange(other.pool_, nullptr);
    }
    return *this;
  }
  ~pool() noexcept {
    if (pool_ != nullptr) pool_close(pool_);
  }

  /* Borrows a connection; blocks until `timeout`. Throws timeout_error, connect_error, too_many_waiting, paused_error,
   * closed_error, invalid_argument, out_of_memory, would_deadlock, system_failure. */
  loan get(milliseconds timeout = default_timeout) const {
    return loan(pool_, detail::checked(pool_get(pool_, detail::count(timeout))));
  }

  /* What is there at once, or nothing when all are in use; anything else is thrown as by get(). */
  std::optional<loan> try_get() const {
    void *conn = pool_get(pool_, 0);
    if (conn == nullptr && pool_errcode() == POOL_ETIMEOUT) return std::nullopt;
    return loan(pool_, detail::checked(conn));
  }

  /* Joins the queue and does not block. Throws as get(). */
  ticket start(milliseconds timeout = default_timeout) const {
    pool_ticket_t number = 0;
    detail::checked(pool_get_start(pool_, detail::count(timeout), &number));
    return ticket(pool_, number);
  }

  /* Blocks until min_size connections are open. Throws connect_error, early if it will never work; timeout_error;
   * closed_error; paused_error. */
  void wait(milliseconds timeout = default_timeout) const { detail::checked(pool_wait(pool_, detail::count(timeout))); }

  /* New limits for a running pool. */
  void resize(int min_size, int max_size) const { detail::checked(pool_resize(pool_, min_size, max_size)); }

  /* Gets queue from now on; loans go on. */
  void pause() const { detail::checked(pool_pause(pool_)); }

  /* Ends a pause or drain and serves those who wait. */
  void resume() const { detail::checked(pool_resume(pool_)); }

  /* Pauses, and blocks until no connection is left. Throws timeout_error; canceled when resume() ends it. */
  void drain(milliseconds timeout = default_timeout) const { detail::checked(pool_drain(pool_, detail::count(timeout))); }

  /* Renews all connections: after a failover, for a changed password. */
  void reconnect() const { detail::checked(pool_reconnect(pool_)); }

  /* Closes the pool now: those who wait fail with closed_error, lent connections close when they come back. Throws
   * closed_error when it is closed already. */
  void close() const { detail::checked(pool_close(pool_)); }

  /* One consistent copy of the statistics. */
  pool_stats_t stats() const {
    pool_stats_t result = {};
    result.size = sizeof result;
    detail::checked(pool_stats(pool_, &result));
    return result;
  }

  /* For the functions of dbpool.h; stays this object's. NULL when moved from. */
  pool_t *native_handle() const noexcept { return pool_; }

 private:
  pool_t *pool_ = nullptr;
};

/* The version of the library that runs. */
inline std::string_view version() noexcept { return pool_version(); }

}  // namespace dbpool

#endif /* DBPOOL_HPP */
