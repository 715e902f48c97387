/* A program that was not linked with the library and loads it while it runs. */
#include "dbpool.h"
#include "harness.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct functions {
  pool_t *(*create)(const char *, const pool_options_t *);
  void *(*get)(pool_t *, int);
  int (*put)(pool_t *, void *);
  int (*close)(pool_t *);
  const char *(*version)(void);
};

/* A function pointer out of dlsym(), in the only way ISO C has for it. */
static void find(void *library, const char *name, void *function) {
  void *symbol = dlsym(library, name);
  CHECK(symbol != NULL);
  memcpy(function, &symbol, sizeof symbol);
}

static void *load(struct functions *functions, int flags) {
  void *library = dlopen("libdbpool.so.0", RTLD_NOW | flags);
  if (!library) {
    fprintf(stderr, "    %s\n", dlerror());
    return NULL;
  }
  find(library, "pool_create", &functions->create);
  find(library, "pool_get", &functions->get);
  find(library, "pool_put", &functions->put);
  find(library, "pool_close", &functions->close);
  find(library, "pool_version", &functions->version);
  return library;
}

static bool borrow(const struct functions *functions, pool_t *pool) {
  void *conn = functions->get(pool, slow(5000));
  return conn != NULL && functions->put(pool, conn) == 0;
}

TEST(a_program_can_load_the_library_and_unload_it_while_a_pool_lives) {
  struct functions functions = {0};
  for (int i = 0; i < 3; i++) {
    void *library = load(&functions, i % 2 ? RTLD_GLOBAL : RTLD_LOCAL);
    REQUIRE(library);
    pool_t *pool = functions.create("pool_min_size=2 pool_max_size=2", NULL);
    REQUIRE(pool);
    CHECK(borrow(&functions, pool));
    CHECK_INT(dlclose(library), ==, 0);
    /* The code stays: its threads run on, and so do its calls. */
    CHECK(borrow(&functions, pool));
    CHECK_INT(functions.close(pool), ==, 0);
  }
  CHECK(dlopen("libdbpool.so.0", RTLD_NOW | RTLD_NOLOAD) != NULL);
}

static void *load_and_use(void *argument) {
  struct functions functions = {0};
  void *library = load(&functions, RTLD_LOCAL);
  if (!library)
    return NULL;
  pool_t *pool = functions.create("", NULL);
  bool fine = pool != NULL && borrow(&functions, pool) && functions.close(pool) == 0;
  return dlclose(library) == 0 && fine ? argument : NULL;
}

TEST(threads_may_load_it_at_the_same_time) {
  pthread_t threads[8];
  int mark;
  for (int i = 0; i < 8; i++)
    pthread_create(&threads[i], NULL, load_and_use, &mark);
  for (int i = 0; i < 8; i++) {
    void *result = NULL;
    pthread_join(threads[i], &result);
    CHECK(result == &mark);
  }
}

HELPER(load_unload_and_exit) {
  struct functions functions = {0};
  void *library = load(&functions, RTLD_LOCAL);
  pool_t *pool = library ? functions.create("pool_min_size=3 pool_max_size=3", NULL) : NULL;
  if (!pool || !borrow(&functions, pool) || dlclose(library) != 0)
    exit(3);
  exit(0);
}

TEST(a_program_that_unloaded_it_ends_quietly) {
  char output[512];
  for (int i = 0; i < scaled(10); i++) {
    CHECK_INT(run_helper("load_unload_and_exit", "", output, sizeof output, 10000), ==, 0);
    CHECK(output[0] == 0);
  }
}
