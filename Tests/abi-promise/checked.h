/* A check that fails says where, what, and the library's last message. */
#ifndef CHECKED_H
#define CHECKED_H

#include <dbpool.h>

#include <stdio.h>

static int failures;

static int check(int holds, const char *what, int line) {
  if (!holds) {
    printf("line %d: %s: %s\n", line, what, pool_errmsg());
    failures++;
  }
  return holds;
}
#define CHECK(condition) check((condition), #condition, __LINE__)

#endif
