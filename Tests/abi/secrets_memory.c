/* Copies of the password in the memory of a process: the pool keeps one, and none of its own when it is closed. libpq
 * leaves copies behind that it has freed and not wiped; what it leaves by itself is measured beside.
 *
 * Each measurement is a program of its own, which looks through all memory that it can write to. */
#include "pools.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The program itself never holds the password but where it is measured. */
enum { LENGTH = 40, HALF = 20, KEY = 0x5A, CHUNK = 1 << 20 };
static const char hidden[] = "q8)k3Zr#m1Wv7Lp0x2Yc9Tb4Jd6Hs&5fGn!uXe2A";

static void reveal(char *password) {
  for (int i = 0; i < LENGTH; i++)
    password[i] = (char)('a' + (hidden[i] ^ KEY) % 26);
  password[LENGTH] = 0;
}

/* Its second half is enough: malloc keeps its own notes in the first bytes of what was freed. */
static bool is_password(const char *text) {
  for (int i = 0; i < HALF; i++)
    if (text[i] != (char)('a' + (hidden[LENGTH - HALF + i] ^ KEY) % 26))
      return false;
  return true;
}

/* ------------------------------------------------------------------------------------------------ scanning */

static void show_place(const char *line, const char *found, const char *chunk) {
  if (!getenv("POOL_TEST_SHOW"))
    return;
  const char *start = found - chunk > 60 ? found - 60 : chunk;
  fprintf(stderr, "      in %.*s: ", (int)strcspn(line, "\n"), line);
  for (const char *at = start; at < found; at++)
    fputc(*at >= 0x20 && *at < 0x7F ? *at : '.', stderr);
  fputc('\n', stderr);
}

static int count_in(int memory, uintptr_t from, uintptr_t to, char *chunk, const char *line) {
  int found = 0;
  while (from + HALF <= to) {
    size_t wanted = to - from < CHUNK ? to - from : CHUNK;
    ssize_t got = pread(memory, chunk, wanted, (off_t)from);
    if (got < HALF)
      break;
    for (ssize_t i = 0; i + HALF <= got; i++)
      if (is_password(chunk + i)) {
        show_place(line, chunk + i, chunk);
        found++;
      }
    from += (uintptr_t)got - (HALF - 1);
    if ((size_t)got == wanted && wanted < CHUNK)
      break;
  }
  return found;
}

/* In all writable memory, but for the buffer of the search itself. */
static int copies(void) {
  char *chunk = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC), found = 0;
  FILE *maps = fopen("/proc/self/maps", "re");
  char line[512];
  if (!CHECK(chunk != MAP_FAILED && memory >= 0 && maps != NULL))
    return -1;
  while (fgets(line, sizeof line, maps)) {
    uintptr_t from = 0, to = 0;
    char mode[8] = "";
    if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || strncmp(mode, "rw", 2) != 0)
      continue;
    uintptr_t own = (uintptr_t)chunk;
    if (from <= own && own < to) { /* a neighbour may have been merged with it */
      found += count_in(memory, from, own, chunk, line);
      from = own + CHUNK;
    }
    found += count_in(memory, from, to, chunk, line);
  }
  fclose(maps);
  close(memory);
  munmap(chunk, CHUNK);
  return found;
}

/* ---------------------------------------------------------------------------------------- what is measured */

static char *conninfo_page(void) {
  char *text = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!CHECK(text != MAP_FAILED))
    exit(3);
  return text;
}

/* In a page of its own, to be wiped. */
static void write_conninfo(char *text, size_t size, const char *more) {
  int used = snprintf(text, size, "host=%s port=%d user=abi_memory %s password=", server_host(), server_port(), more);
  reveal(text + used);
}

static char *make_conninfo(const char *more) {
  char *text = conninfo_page();
  write_conninfo(text, 4096, more);
  return text;
}

static void wipe(char *text) { munmap(text, 4096); }

static void tell(const char *when) {
  int found = copies();
  printf("%s=%d\n", when, found);
}

/* The same as the pool does, with libpq alone: connect, use, finish. */
HELPER(bare_libpq) {
  unsetenv("PGPASSWORD");
  char *conninfo = make_conninfo("");
  PGconn *conn = PQconnectdb(conninfo);
  wipe(conninfo);
  CHECK(works(conn));
  tell("open");
  PQfinish(conn);
  tell("closed");
}

static void use_and_close(pool_t *pool) {
  int resting = open_descriptors();
  PGconn *conn = get_working(pool, slow(5000));
  tell("open");
  CHECK_INT(pool_put(pool, conn), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(pool_close(pool), ==, POOL_ECLOSED);
  /* The session's socket and its duplicate are closed after its end; then the pool is no more. */
  WAIT_FOR(5000, open_descriptors() <= resting && running_threads() <= 2);
  tell("closed");
}

HELPER(a_pool) {
  unsetenv("PGPASSWORD");
  char *conninfo = make_conninfo(helper_argument());
  pool_options_t options = options_sized(0, 1);
  pool_t *pool = pool_create(conninfo, &options);
  wipe(conninfo);
  REQUIRE(pool);
  tell("created");
  use_and_close(pool);
}

static int provide(void *context, char *buffer, size_t size) {
  (void)context;
  write_conninfo(buffer, size, "");
  return 0;
}

HELPER(a_pool_with_a_provider) {
  unsetenv("PGPASSWORD");
  pool_options_t options = options_sized(0, 1);
  options.conninfo_provider = provide;
  pool_t *pool = pool_create("", &options);
  REQUIRE(pool);
  tell("created");
  use_and_close(pool);
}

HELPER(a_pool_that_is_refused) {
  unsetenv("PGPASSWORD");
  char *conninfo = make_conninfo(helper_argument());
  pool_options_t options = options_sized(0, 1);
  CHECK(pool_create(conninfo, &options) == NULL);
  wipe(conninfo);
  tell("closed");
}

struct counts {
  int created;
  int open;
  int closed;
};

static int counted(const char *output, const char *when) {
  const char *at = strstr(output, when);
  return at ? atoi(at + strlen(when)) : -1;
}

static struct counts measure(const char *helper, const char *argument) {
  char output[16384];
  int status = run_helper(helper, argument, output, sizeof output, 20000);
  if (!CHECK_INT(status, ==, 0) || getenv("POOL_TEST_SHOW"))
    fprintf(stderr, "    %s(%s):\n%s", helper, argument, output);
  return (struct counts){counted(output, "created="), counted(output, "open="), counted(output, "closed=")};
}

static void with_role(void) {
  char password[LENGTH + 1];
  reveal(password);
  create_role("abi_memory", password, "");
}

/* The tools keep freed memory apart and copies of their own. */
static bool can_be_measured(void) {
  if (is_slow_run())
    fprintf(stderr, "    not measured under a tool that has a malloc of its own\n");
  return !is_slow_run();
}

static void check_like_libpq(const char *helper, const char *argument) {
  if (!can_be_measured())
    return;
  with_role();
  struct counts bare = measure("bare_libpq", ""), ours = measure(helper, argument);
  /* What libpq has freed is wiped as far as malloc() gives the same block again: another thread may have been quicker. */
  for (int tries = 0; tries < 3 && (ours.open > bare.open + 1 || ours.closed > bare.closed); tries++)
    ours = measure(helper, argument);
  CHECK_INT(bare.open, >=, 1); /* it keeps what a PQreset needs */
  printf("    copies: libpq open %d, closed %d; pool created %d, open %d, closed %d\n", bare.open, bare.closed,
         ours.created, ours.open, ours.closed);
  CHECK_INT(ours.open, <=, bare.open + 1);
  CHECK_INT(ours.closed, <=, bare.closed);
  drop_role("abi_memory");
}

TEST(a_pool_keeps_one_copy_and_leaves_none_of_its_own) { check_like_libpq("a_pool", ""); }
TEST(a_provided_password_is_wiped_after_the_attempt) { check_like_libpq("a_pool_with_a_provider", ""); }
TEST(a_pool_with_options_in_its_conninfo_leaves_none_of_its_own) {
  check_like_libpq("a_pool", "pool_max_size=2 pool_name=x sslmode=disable");
}

TEST(a_refused_pool_leaves_none) {
  if (!can_be_measured())
    return;
  CHECK_INT(measure("a_pool_that_is_refused", "pool_max_size=x").closed, ==, 0);
  CHECK_INT(measure("a_pool_that_is_refused", "pool_min_size=5 pool_max_size=2").closed, ==, 0);
  CHECK_INT(measure("a_pool_that_is_refused", "port=99999").closed, ==, 0);
  CHECK_INT(measure("a_pool_that_is_refused", "sslmode=bogus").closed, ==, 0);
  CHECK_INT(measure("a_pool_that_is_refused", "no_such_keyword=1").closed, ==, 0);
}
