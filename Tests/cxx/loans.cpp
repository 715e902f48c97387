/* Loans and tickets: given back exactly once, whatever happens. */
#include "tests.hpp"

#include <sys/wait.h>

template <class T>
constexpr bool moves_only = !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> &&
                            std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                            std::is_nothrow_destructible_v<T>;
static_assert(moves_only<dbpool::loan> && moves_only<dbpool::ticket> && moves_only<dbpool::pool>);
static_assert(std::is_convertible_v<dbpool::loan &, PGconn *> && !std::is_convertible_v<dbpool::loan, PGconn *>,
              "the connection of a temporary would be gone at the end of the line");

TEST(a_loan_works_and_goes_back_by_itself) {
  const dbpool::pool pool("", sized(1));
  {
    dbpool::loan conn = pool.get();
    CHECK(works(conn) && conn && conn.get() == conn);
    CHECK_INT(pool.stats().in_use, ==, 1);
  }
  CHECK_INT(pool.stats().puts, ==, 1);
  CHECK_INT(pool.stats().idle, ==, 1);
}

TEST(a_loan_goes_back_when_its_scope_ends_by_an_exception) {
  const dbpool::pool pool("", sized(1));
  try {
    dbpool::loan conn = pool.get();
    CHECK(sql_run(conn, "begin"));
    throw std::runtime_error("of the work");
  } catch (const std::runtime_error &) {
  }
  dbpool::loan next = pool.get();
  CHECK_INT(PQtransactionStatus(next), ==, PQTRANS_IDLE);
}

TEST(a_moved_loan_goes_back_once) {
  const dbpool::pool pool("", sized(2));
  {
    dbpool::loan first = pool.get();
    PGconn *conn = first;
    dbpool::loan second = std::move(first);
    CHECK(!first && first.get() == nullptr && second.get() == conn);
    first = std::move(second);
    CHECK(!second && first.get() == conn);
    CHECK_INT(pool.stats().puts, ==, 0);
  }
  CHECK_INT(pool.stats().puts, ==, 1);
}

TEST(an_assigned_loan_gives_back_what_it_held) {
  const dbpool::pool pool("", sized(2));
  dbpool::loan conn = pool.get();
  conn = pool.get();
  CHECK_INT(pool.stats().in_use, ==, 1);
  CHECK_INT(pool.stats().puts, ==, 1);
  dbpool::loan &itself = conn;
  conn = std::move(itself);
  CHECK(works(conn));
  conn = dbpool::loan();
  CHECK_INT(pool.stats().in_use, ==, 0);
}

TEST(a_loan_is_put_once) {
  const dbpool::pool pool("", sized(1));
  dbpool::loan conn = pool.get();
  conn.put();
  CHECK(!conn);
  CHECK_THROWS(dbpool::not_leased, conn.put());
  CHECK_THROWS(dbpool::not_leased, conn.discard());
  CHECK_INT(pool.stats().puts, ==, 1);
}

TEST(a_discarded_loan_is_replaced) {
  const dbpool::pool pool("", sized(1));
  dbpool::loan conn = pool.get();
  const int before = PQbackendPID(conn);
  conn.discard();
  CHECK(!conn);
  conn = pool.get();
  CHECK_INT(PQbackendPID(conn), !=, before);
  CHECK_INT(pool.stats().discarded, ==, 1);
}

TEST(a_reported_error_closes_the_session_when_it_ends_it) {
  const dbpool::pool pool("", sized(1));
  dbpool::loan conn = pool.get();
  CHECK(!conn.report("23505"));
  CHECK(conn.report("57P01"));
  CHECK_THROWS(dbpool::invalid_argument, conn.report("no"));
  CHECK_THROWS(dbpool::invalid_argument, dbpool::loan().report("57P01"));
}

TEST(what_the_program_has_finished_is_told_by_put_and_not_by_the_destructor) {
  const dbpool::pool pool("", sized(2));
  {
    dbpool::loan first = pool.get();
    PQfinish(first);
    CHECK_THROWS(dbpool::not_leased, first.put());
    dbpool::loan second = pool.get();
    PQfinish(second);
  }
  CHECK_INT(pool.stats().in_use, ==, 0);
}

TEST(a_loan_outlives_its_pool) {
  const dbpool::options options = sized(1);
  dbpool::loan conn;
  {
    const dbpool::pool pool("", options);
    conn = pool.get();
  }
  CHECK(works(conn));
  conn.put();
  WAIT_FOR(2000, sessions(options.name.c_str()) == 0);
}

TEST(a_loan_of_the_parent_is_left_alone_in_a_child) {
  const dbpool::pool pool("", sized(1));
  dbpool::loan conn = pool.get();
  const pid_t child = fork();
  if (child == 0) {
    int code = 0;
    try {
      conn.put();
    } catch (const dbpool::forked_connection &) {
      code = works(pool.get().get()) ? 7 : 1;
    }
    _exit(code);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
  CHECK(works(conn));
}

TEST(a_ticket_waits_in_slices) {
  const dbpool::pool pool("", sized(1));
  dbpool::loan held = pool.get();
  dbpool::ticket ticket = pool.start();
  CHECK(ticket && !ticket.wait() && !ticket.wait(milliseconds(20)) && ticket);
  held.put();
  std::optional<dbpool::loan> conn = ticket.wait(dbpool::infinite);
  CHECK(conn && works(*conn) && !ticket);
  CHECK_THROWS(dbpool::invalid_argument, ticket.wait());
}

TEST(a_ticket_that_ends_with_an_error_has_ended) {
  const dbpool::pool pool("", sized(1));
  dbpool::loan held = pool.get();
  dbpool::ticket ticket = pool.start(milliseconds(30));
  CHECK_THROWS(dbpool::timeout_error, ticket.wait(dbpool::infinite));
  CHECK(!ticket);
}

TEST(a_wait_that_is_refused_leaves_the_queue) { /* it kept its place, with no deadline and nobody to collect it */
  const dbpool::pool pool("", sized(1));
  dbpool::loan held = pool.get();
  for (const milliseconds wrong : {milliseconds(-3), milliseconds(std::chrono::hours(24 * 25))}) {
    dbpool::ticket ticket = pool.start(dbpool::infinite);
    CHECK_THROWS(dbpool::invalid_argument, ticket.wait(wrong));
    CHECK(!ticket);
    CHECK_INT(pool.stats().waiting, ==, 0);
  }
  held.put();
  CHECK(pool.try_get().has_value());
}

TEST(a_ticket_leaves_the_queue_when_it_goes) {
  const dbpool::pool pool("", sized(1));
  dbpool::loan held = pool.get();
  {
    dbpool::ticket first = pool.start();
    dbpool::ticket second = std::move(first);
    CHECK(!first && second);
    CHECK_INT(pool.stats().waiting, ==, 1);
    second = pool.start();
    CHECK_INT(pool.stats().waiting, ==, 1);
  }
  CHECK_INT(pool.stats().waiting, ==, 0);
  CHECK_INT(pool.stats().cancels, ==, 2);
}

TEST(another_thread_cancels_a_ticket) {
  const dbpool::pool pool("", sized(1));
  dbpool::loan held = pool.get();
  dbpool::ticket ticket = pool.start();
  const pool_ticket_t number = ticket.native_handle();
  std::thread other([&] { CHECK_INT(pool_get_cancel(pool.native_handle(), number), ==, 0); });
  int code = 0;
  try {
    ticket.wait(dbpool::infinite);
  } catch (const dbpool::error &error) {
    code = error.code();
  }
  CHECK(code == POOL_ECANCELED || code == POOL_EINVAL); /* during the wait, or before it began */
  other.join();
}
