/* Options as a value, and callbacks that throw. */
#include "tests.hpp"

#include <cstring>
#include <mutex>

TEST(the_defaults_are_those_of_c) {
  const dbpool::options options;
  pool_options_t given = dbpool::detail::native(options, nullptr);
  CHECK(given.context_free != nullptr);
  given.context_free = nullptr;
  const pool_options_t defaults = POOL_OPTIONS_INIT;
  CHECK(std::memcmp(&given, &defaults, sizeof given) == 0);
}

TEST(every_option_arrives) {
  dbpool::options options;
  options.name = "shop";
  options.reset_query = "reset all";
  options.min_size = 1;
  options.max_size = 2;
  options.max_waiting = 3;
  options.acquire_timeout = dbpool::infinite;
  options.connect_timeout = milliseconds(5);
  options.connect_concurrency = 6;
  options.max_lifetime = seconds(7);
  options.lifetime_jitter_percent = 8;
  options.idle_timeout = milliseconds(9);
  options.check = dbpool::check_kind::ping;
  options.check_after_idle = milliseconds(11);
  options.check_timeout = milliseconds(12);
  options.reset = dbpool::reset_kind::query;
  options.queue_mode = dbpool::queue_order::fifo;
  options.leak_threshold = milliseconds(13);
  options.exact_times = true;
  const pool_options_t given = dbpool::detail::native(options, nullptr);
  CHECK_HAS(given.name, "shop");
  CHECK_HAS(given.reset_query, "reset all");
  const int found[] = {given.min_size, given.max_size, given.max_waiting, given.acquire_timeout_ms,
                       given.connect_timeout_ms, given.connect_concurrency, given.max_lifetime_ms,
                       given.lifetime_jitter_percent, given.idle_timeout_ms, given.check, given.check_after_idle_ms,
                       given.check_timeout_ms, given.reset, given.queue_mode, given.leak_threshold_ms, given.exact_times};
  const int wanted[] = {1, 2, 3, POOL_TIMEOUT_INFINITE, 5, 6, 7000, 8, 9, POOL_CHECK_PING, 11, 12, POOL_RESET_QUERY,
                        POOL_FIFO, 13, 1};
  static_assert(sizeof found == sizeof wanted);
  CHECK(std::memcmp(found, wanted, sizeof found) == 0);
}

TEST(a_duration_that_is_too_long_is_refused) {
  dbpool::options options;
  options.max_lifetime = std::chrono::hours(24 * 25);
  CHECK_THROWS(dbpool::invalid_argument, dbpool::pool("", options));
}

TEST(a_text_that_c_would_cut_is_refused) {
  const std::string cut("select 1\0; select 2", 19);
  dbpool::options named = sized(1), reset = sized(1), provided = sized(1);
  named.name = cut;
  CHECK_THROWS(dbpool::invalid_argument, dbpool::pool("", named));
  reset.reset_query = cut;
  CHECK_THROWS(dbpool::invalid_argument, dbpool::pool("", reset));
  provided.conninfo_provider = [] { return std::string("connect_timeout=2\0", 18); };
  CHECK_THROWS(dbpool::connect_error, dbpool::pool("", provided).get(milliseconds(300)));
}

TEST(configure_gets_each_new_connection) {
  dbpool::options options = sized(1);
  std::atomic_int calls{0};
  options.configure = [&](PGconn *conn) {
    calls++;
    sql_run(conn, "set application_name = 'configured'");
  };
  const dbpool::pool pool("", options);
  for (int i = 0; i < 3; i++) {
    dbpool::loan conn = pool.get();
    CHECK_HAS(PQparameterStatus(conn, "application_name"), "configured");
  }
  CHECK_INT(calls, ==, 1);
}

namespace {

/* The lines of the log, from the library's thread. */
class Lines {
 public:
  void add(std::string_view line) {
    const std::lock_guard<std::mutex> guard(mutex_);
    text_.append(line).append("\n");
  }
  bool has(const char *part) {
    const std::lock_guard<std::mutex> guard(mutex_);
    return text_.find(part) != std::string::npos;
  }

 private:
  std::mutex mutex_;
  std::string text_;
};

}  // namespace

TEST(a_callback_that_throws_is_a_failed_attempt_and_stands_in_the_log) {
  auto lines = std::make_shared<Lines>();
  dbpool::options options = sized(1);
  options.log = [lines](dbpool::log_level, std::string_view line) {
    lines->add(line);
    throw 1; /* ends there */
  };
  options.configure = [](PGconn *) { throw std::runtime_error("the schema is too old"); };
  CHECK_THROWS(dbpool::connect_error, dbpool::pool("", options).get(milliseconds(300)));
  WAIT_FOR(2000, lines->has("configure: the schema is too old"));
  options.configure = nullptr;
  options.conninfo_provider = []() -> std::string { throw 2; };
  CHECK_THROWS(dbpool::connect_error, dbpool::pool("", options).get(milliseconds(300)));
  WAIT_FOR(2000, lines->has("conninfo_provider: an exception that is no std::exception"));
}

TEST(the_provider_names_the_server) {
  dbpool::options options = sized(1);
  const std::string conninfo = "host=" + std::string(server_host()) + " port=" + std::to_string(server_port());
  options.conninfo_provider = [conninfo] { return conninfo; };
  CHECK(works(dbpool::pool("host=127.0.0.1 port=1", options).get().get()));
  auto lines = std::make_shared<Lines>();
  options.log = [lines](dbpool::log_level, std::string_view line) { lines->add(line); };
  options.conninfo_provider = [] { return std::string(POOL_CONNINFO_LIMIT, 'x'); };
  CHECK_THROWS(dbpool::connect_error, dbpool::pool("", options).get(milliseconds(300)));
  WAIT_FOR(2000, lines->has("conninfo_provider: the conninfo is too long"));
}

TEST(callbacks_are_destroyed_after_the_pool_and_when_none_is_made) {
  auto owned = std::make_shared<int>(0);
  dbpool::options options = sized(1);
  options.configure = [owned](PGconn *) {};
  {
    const dbpool::pool pool("", options);
    CHECK_INT(owned.use_count(), ==, 3);
    options.configure = nullptr; /* the pool has its own copy */
    CHECK(works(pool.get().get()));
    CHECK_INT(owned.use_count(), ==, 2);
  }
  WAIT_FOR(2000, owned.use_count() == 1);
  options.configure = [owned](PGconn *) {};
  options.max_size = -1;
  CHECK_THROWS(dbpool::invalid_argument, dbpool::pool("", options));
  CHECK_INT(owned.use_count(), ==, 2);
}
