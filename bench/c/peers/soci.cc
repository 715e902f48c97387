/* SOCI, whose pool lends positions of sessions that it does not look at. */
#include "contestant.h"

#include <exception>

/* Only more types of columns: the pool is the same without Boost's headers. */
#include <soci/soci-config.h>
#undef SOCI_HAVE_BOOST
#include <soci/postgresql/soci-postgresql.h>
#include <soci/soci.h>

namespace {

void *open_pool(int size) {
  try {
    auto *pool = new soci::connection_pool(size);
    for (int i = 0; i < size; i++) pool->at(i).open(soci::postgresql, "");
    return pool;
  } catch (const std::exception &error) {
    give_up("SOCI", error.what());
    return nullptr;
  }
}

/* Never NULL: positions begin with 0. */
void *get(void *pool) { return reinterpret_cast<void *>(static_cast<soci::connection_pool *>(pool)->lease() + 1); }

void put(void *pool, void *loan) {
  static_cast<soci::connection_pool *>(pool)->give_back(reinterpret_cast<std::size_t>(loan) - 1);
}

void close_pool(void *pool) { delete static_cast<soci::connection_pool *>(pool); }

} // namespace

extern "C" {

__attribute__((noinline)) static void turns_soci(void *pool, long count) {
  auto *mine = static_cast<soci::connection_pool *>(pool);
  for (long i = 0; i < count; i++) mine->give_back(mine->lease());
}

extern const struct contestant contestant_soci = {"SOCI", open_pool, get, put, close_pool, turns_soci};
}
