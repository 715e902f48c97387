/* Pools: their life, their errors, many threads. */
#include "tests.hpp"

#include <cstring>
#include <typeinfo>

namespace {

/* The class that a code is thrown as. */
const std::type_info &thrown(int code) {
  try {
    dbpool::raise(code, "the message");
  } catch (const dbpool::error &error) {
    CHECK_INT(error.code(), ==, code);
    CHECK_HAS(error.what(), "the message");
    return typeid(error);
  }
}

}  // namespace

TEST(every_error_is_a_class_of_its_own) {
  std::vector<const std::type_info *> seen;
  for (int code = POOL_EINVAL; std::strcmp(pool_strerror(code), pool_strerror(-1000)) != 0; code--) {
    if (code == POOL_PENDING) continue; /* no error */
    const std::type_info &kind = thrown(code);
    CHECK(kind != typeid(dbpool::error));
    for (const std::type_info *other : seen) CHECK(kind != *other);
    seen.push_back(&kind);
  }
  CHECK_INT(seen.size(), ==, 14);
  CHECK(thrown(-1000) == typeid(dbpool::error));
}

TEST(errors_have_the_words_of_the_library) {
  CHECK_THROWS(dbpool::invalid_argument, dbpool::pool("nonsense=1"));
  CHECK_THROWS(dbpool::invalid_argument, dbpool::pool(std::string("host=a\0b", 8)));
  dbpool::options options = sized(1);
  options.max_size = -1;
  try {
    dbpool::pool pool("", options);
    CHECK(!"made");
  } catch (const dbpool::error &error) {
    CHECK_HAS(error.what(), "max_size");
  }
  const dbpool::pool nobody("host=127.0.0.1 port=1");
  try {
    nobody.get(milliseconds(300));
    CHECK(!"connected");
  } catch (const dbpool::connect_error &error) {
    CHECK_HAS(error.what(), "refused");
  }
}

TEST(a_get_waits_as_long_as_it_is_told) {
  dbpool::options options = sized(1);
  options.max_waiting = 1;
  const dbpool::pool pool("", options);
  dbpool::loan held = pool.get(seconds(10));
  CHECK_THROWS(dbpool::timeout_error, pool.get(milliseconds(30)));
  CHECK(!pool.try_get());
  dbpool::ticket waiting = pool.start();
  CHECK_THROWS(dbpool::too_many_waiting, pool.get());
  CHECK_THROWS(dbpool::invalid_argument, pool.get(milliseconds(-3)));
  CHECK_THROWS(dbpool::invalid_argument, pool.get(std::chrono::hours(24 * 25)));
  waiting.cancel();
  held.put();
  CHECK(pool.try_get().has_value());
}

TEST(a_pool_lives_as_in_c) {
  const dbpool::options options = sized(2);
  const dbpool::pool pool("", options);
  pool.wait();
  pool.resize(1, 3);
  pool.wait();
  CHECK_INT(pool.stats().max_size, ==, 3);
  CHECK_INT(pool.stats().idle, ==, 1);
  const int before = PQbackendPID(pool.get().get());
  pool.reconnect();
  CHECK_INT(PQbackendPID(pool.get().get()), !=, before);
  pool.pause();
  CHECK_THROWS(dbpool::paused_error, pool.get(milliseconds(20)));
  pool.resume();
  dbpool::loan conn = pool.get();
  CHECK_THROWS(dbpool::timeout_error, pool.drain(milliseconds(20)));
  conn.put();
  pool.drain();
  CHECK_INT(pool.stats().total, ==, 0);
  pool.resume();
  pool.close();
  CHECK_THROWS(dbpool::closed_error, pool.get());
  CHECK_THROWS(dbpool::closed_error, pool.close());
  CHECK_THROWS(dbpool::closed_error, pool.stats());
  CHECK(dbpool::version() == POOL_VERSION);
}

TEST(a_pool_closes_when_it_goes_and_not_when_it_moves) {
  const dbpool::options first_options = sized(1), second_options = sized(1);
  {
    dbpool::pool first("", first_options), second("", second_options);
    CHECK(works(first.get().get()) && works(second.get().get()));
    dbpool::pool moved = std::move(first);
    CHECK(first.native_handle() == nullptr && moved.try_get());
    CHECK_THROWS(dbpool::invalid_argument, first.get());
    second = std::move(moved);
    WAIT_FOR(2000, sessions(second_options.name.c_str()) == 0);
    CHECK(second.try_get().has_value());
    CHECK_INT(sessions(first_options.name.c_str()), ==, 1);
  }
  WAIT_FOR(2000, sessions(first_options.name.c_str()) == 0);
}

TEST(threads_share_a_pool) {
  const dbpool::pool pool("", sized(3));
  std::atomic_int lent{0}, most{0}, done{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 50; turn++) {
        dbpool::loan conn = pool.get();
        const int now = ++lent;
        for (int known = most; known < now && !most.compare_exchange_weak(known, now);) {
        }
        done += works(conn);
        --lent;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  CHECK_INT(done, ==, 8 * 50);
  CHECK_INT(most, <=, 3);
  CHECK_INT(pool.stats().gets, ==, 8 * 50);
  CHECK_INT(pool.stats().in_use, ==, 0);
}
