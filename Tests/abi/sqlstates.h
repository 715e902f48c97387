/* SQLSTATEs for the tests of pool_report(). */
#ifndef SQLSTATES_H
#define SQLSTATES_H

#include "pools.h"

static const char *const harmless[] = {"22012", "23505", "40001", "40P01", "42P01", "57014", "XX000",
                                       "53300", "28P01", "25P02", "25001", "00000", "P0001", "HV000"};
static const char *const fatal[] = {"08000", "08003", "08006", "08P01", "57P01", "57P02",
                                    "57P03", "57P04", "57P05", "25P03", "25P04", "25006"};
static const char *const malformed[] = {"", "5", "57P0", "57P011", "57p01", "57 01", "57P0\n", "\xff\xff\xff\xff\xff"};
#define COUNT(list) (sizeof(list) / sizeof *(list))

static void check_malformed(pool_t *pool, void *conn) {
  CHECK_INT(pool_report(pool, conn, NULL), ==, POOL_EINVAL);
  CHECK_HAS(pool_errmsg(), "sqlstate");
  for (size_t i = 0; i < COUNT(malformed); i++) {
    if (!CHECK_INT(pool_report(pool, conn, malformed[i]), ==, POOL_EINVAL))
      fprintf(stderr, "    of \"%s\"\n", malformed[i]);
    CHECK_HAS(pool_errmsg(), "sqlstate");
    CHECK_LACKS(pool_errmsg(), "\n");
  }
}

#endif
