/*
 * raii.cpp - worker_pool.c in C++17: connections and transactions end with their scope, errors are exceptions.
 *
 *     c++ -std=c++17 raii.cpp $(pkg-config --cflags --libs dbpool libpq) -pthread -o raii
 *     ./raii [SECONDS]
 *
 * The database is that of the environment (PGHOST, PGDATABASE, ...), with the tables of examples/schema.sql.
 */
#include <dbpool.hpp>
#include <libpq-fe.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <thread>
#include <vector>

namespace {

constexpr int threads = 8, connections = 4, accounts = 100, units_per_transfer = 5, attempts = 5;

/* The connection broke: the unit of work may be done again. */
struct lost : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct clear {
  void operator()(PGresult *result) const noexcept { PQclear(result); }
};
using result_ptr = std::unique_ptr<PGresult, clear>;

/* Runs a statement with numbers as its parameters. */
template <class... Numbers>
result_ptr run(PGconn *conn, const char *sql, Numbers... numbers) {
  const std::array<std::string, sizeof...(numbers)> texts{std::to_string(numbers)...};
  std::array<const char *, sizeof...(numbers) + 1> values{};
  for (std::size_t i = 0; i < texts.size(); i++) values[i] = texts[i].c_str();
  result_ptr result(PQexecParams(conn, sql, sizeof...(numbers), nullptr, values.data(), nullptr, nullptr, 0));
  const ExecStatusType status = PQresultStatus(result.get());
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) return result;
  if (PQstatus(conn) == CONNECTION_BAD) throw lost(PQerrorMessage(conn));
  throw std::runtime_error(PQerrorMessage(conn));
}

/* Left without commit(), it needs no ROLLBACK: the pool does that before anyone else gets the connection. */
class transaction {
 public:
  explicit transaction(const dbpool::pool &pool) : conn_(pool.get()) { run(conn_, "BEGIN"); }
  operator PGconn *() const & { return conn_; }
  void commit() { run(conn_, "COMMIT"); }

 private:
  dbpool::loan conn_;
};

void ask_balance(const dbpool::pool &pool, std::int64_t unit) {
  dbpool::loan conn = pool.get();
  if (PQntuples(run(conn, "SELECT balance FROM accounts WHERE id = $1::bigint", unit % accounts).get()) != 1)
    throw std::runtime_error("expected one row");
}

/* Accounts are changed in ascending order, so two transfers cannot block each other for ever. */
void transfer(const dbpool::pool &pool, std::int64_t unit) {
  const std::int64_t first = unit % (accounts - 1), amount = unit % 7 - 3;
  const char *const change = "UPDATE accounts SET balance = balance + $1::bigint WHERE id = $2::bigint";
  transaction booking(pool);
  const result_ptr booked =
      run(booking, "INSERT INTO ledger VALUES ($1::bigint, $2::bigint) ON CONFLICT DO NOTHING", unit, amount);
  if (std::atoi(PQcmdTuples(booked.get())) == 0) return; /* only the answer to its COMMIT was lost */
  run(booking, change, -amount, first);
  run(booking, change, amount, first + 1);
  booking.commit();
}

struct figures {
  std::atomic<std::uint64_t> units{0}, transfers{0}, errors{0}, abandoned{0};
  std::atomic<bool> stop{false}, wrong{false};
};

/* One write, so that the lines of two threads do not mix. */
void report(const char *kind, const std::string &message) {
  std::ostringstream line;
  line << kind << ' ' << message.substr(0, message.find('\n')) << '\n';
  std::cout << line.str() << std::flush;
}

void do_unit(const dbpool::pool &pool, std::int64_t unit, bool is_transfer, figures &done) {
  for (int attempt = 0; attempt < attempts; attempt++) {
    try {
      is_transfer ? transfer(pool, unit) : ask_balance(pool, unit);
      done.units++;
      done.transfers += is_transfer;
      return;
    } catch (const lost &error) {
      report("lost", error.what());
    } catch (const dbpool::connect_error &error) {
      report("lost", error.what());
    } catch (const dbpool::timeout_error &error) {
      report("lost", error.what());
    }
    done.errors++;
    if (done.stop) return;
  }
  done.abandoned++;
}

void work(const dbpool::pool &pool, int number, figures &done) {
  try {
    for (std::int64_t i = 0; !done.stop && !done.wrong; i++)
      do_unit(pool, i * threads + number, i % units_per_transfer == 0, done); /* no two threads share a unit */
  } catch (const std::exception &error) {
    report("error", error.what());
    done.wrong = true;
  }
}

bool run_workers(std::chrono::seconds duration) {
  dbpool::options options;
  options.name = "raii.cpp";
  options.max_size = connections;
  options.acquire_timeout = std::chrono::seconds(5);
  const dbpool::pool pool("", options);

  figures done;
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; i++) workers.emplace_back([&, i] { work(pool, i, done); });
  std::this_thread::sleep_for(duration);
  done.stop = true;
  for (std::thread &worker : workers) worker.join();
  if (done.units == 0) throw std::runtime_error("there was no connection at all");
  std::cout << "result seconds=" << duration.count() << " queries=" << done.units << " transfers=" << done.transfers
            << " errors=" << done.errors << " abandoned=" << done.abandoned << '\n';
  return !done.wrong;
}

}  // namespace

int main(int argc, char **argv) {
  const int duration = argc > 1 ? std::atoi(argv[1]) : 4;
  if (argc > 2 || duration < 1) {
    std::cerr << "usage: " << argv[0] << " [SECONDS]\n";
    return 2;
  }
  try {
    return run_workers(std::chrono::seconds(duration)) ? 0 : 1;
  } catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
