/* A host that closes descriptors it did not open, as a daemon does, and uses their numbers for files of its own. */
#include "pools.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 8 };

/* On the lowest numbers there are. */
static void open_files(int *files) {
  for (int i = 0; i < FILES; i++) {
    files[i] = memfd_create("host", MFD_CLOEXEC);
    CHECK_INT(files[i], >=, 3);
  }
}

static void check_untouched(const int *files) {
  for (int i = 0; i < FILES; i++) {
    struct stat facts = {.st_size = -1};
    CHECK_INT(fstat(files[i], &facts), ==, 0);
    CHECK(S_ISREG(facts.st_mode));
    CHECK_INT(facts.st_size, ==, 0);
  }
}

/* The library woke its thread by writing into the host's file, and waited for an answer for ever. */
TEST(files_on_the_numbers_of_closed_descriptors_are_not_written_to) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  WAIT_FOR(2000, running_threads() >= resting_threads());
  closefrom(3);
  int files[FILES];
  open_files(files);
  PGconn *conn = get_working(pool, slow(2000));
  check_untouched(files);
  CHECK_INT(pool_put(pool, conn), ==, 0);
  for (int i = 0; i < 10; i++) {
    conn = get_working(pool, slow(2000));
    CHECK_INT(i % 2 ? pool_put(pool, conn) : pool_discard(pool, conn), ==, 0);
  }
  close_whole(pool);
  check_untouched(files);
  for (int i = 0; i < FILES; i++)
    CHECK_INT(close(files[i]), ==, 0);
}

/* A wake-up was a SIGPIPE in the thread that asked for it. */
TEST(a_closed_end_of_the_librarys_pipe_kills_nobody) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  int reading = -1;
  for (int fd = 3; fd < 64 && reading < 0; fd++) {
    struct stat facts;
    if (fstat(fd, &facts) == 0 && S_ISFIFO(facts.st_mode) && fcntl(fd, F_GETFL) == (O_RDONLY | O_NONBLOCK))
      reading = fd;
  }
  REQUIRE_INT(reading, >=, 3);
  CHECK_INT(close(reading), ==, 0);
  for (int i = 0; i < 3; i++) {
    PGconn *conn = get_working(pool, slow(3000));
    CHECK_INT(pool_discard(pool, conn), ==, 0);
  }
  sigset_t pending;
  CHECK_INT(sigpending(&pending), ==, 0);
  CHECK_INT(sigismember(&pending, SIGPIPE), ==, 0);
  close_whole(pool);
}

/* PQfinish would have said goodbye into the host's file, and closed it. */
TEST(a_session_whose_descriptors_were_closed_is_let_go) {
  pool_t *pool = open_pool(0, 2);
  REQUIRE(pool);
  PGconn *conn = get_working(pool, slow(2000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  closefrom(3);
  int files[FILES];
  open_files(files);
  WAIT_FOR(3000, STAT(pool, lost) == 1 && STAT(pool, total) == 0);
  check_untouched(files);
  conn = get_working(pool, slow(2000));
  CHECK_INT(pool_put(pool, conn), ==, 0);
  close_whole(pool);
  check_untouched(files);
  for (int i = 0; i < FILES; i++)
    CHECK_INT(close(files[i]), ==, 0);
}
