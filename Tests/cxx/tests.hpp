/* The harness of Tests/abi in C++, and pools for tests. */
#ifndef TESTS_HPP
#define TESTS_HPP

#include <dbpool.hpp>

extern "C" {
#include "harness.h"
#include "server.h"
}

#include <atomic>
#include <thread>
#include <type_traits>
#include <vector>

#include <unistd.h>

using std::chrono::milliseconds;
using std::chrono::seconds;

/* A small pool with a name of its own. */
inline dbpool::options sized(int max_size) {
  static std::atomic_int next{0};
  dbpool::options options;
  options.name = "cxx-" + std::to_string(getpid()) + "-" + std::to_string(next++);
  options.max_size = max_size;
  options.acquire_timeout = milliseconds(slow(5000));
  return options;
}

inline bool works(PGconn *conn) { return conn != nullptr && sql_number(conn, "select 1") == 1; }

/* The expression throws exactly this class, with the code of its own. */
#define CHECK_THROWS(type, expression)                                                              \
  do {                                                                                              \
    int code = 0;                                                                                   \
    try {                                                                                           \
      (void)(expression);                                                                           \
    } catch (const type &error) {                                                                   \
      code = error.code();                                                                          \
    } catch (const std::exception &other) {                                                         \
      fprintf(stderr, "    another exception: %s\n", other.what());                                 \
    }                                                                                               \
    harness_check(code == type("").code(), __FILE__, __LINE__, #expression " throws " #type);       \
  } while (0)

#endif
