/* Memory and threads of pools at rest, and what loading the library takes.
 *
 *   footprint memory CONCURRENCY COUNT       kilobytes that this process alone has written to, with so many idle
 *                                            connections of one pool; CONCURRENCY: attempts at a time, 0 = all;
 *                                            libpq: without a pool
 *   footprint threads COUNT                  threads with so many pools of one idle connection each
 *   footprint load LIBRARY                   microseconds of dlopen(LIBRARY), libpq being loaded before
 *
 * Each prints a line of JSON. libpq and the library are loaded by dlopen, so that nothing is loaded before. */
#include "clocks.h"

#include <dbpool.h>

#include <dirent.h>
#include <dlfcn.h>
#include <libpq-fe.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 200 };

static void fail(const char *what) {
  fprintf(stderr, "footprint: %s\n", what);
  exit(1);
}

static void *load(const char *library) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
  if (handle == NULL) fail(dlerror());
  return handle;
}

static void *function(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) fail(dlerror());
  return found;
}

/* Of the library, after it was loaded. */
static struct {
  pool_t *(*create)(const char *, const pool_options_t *);
  int (*wait)(pool_t *, int);
  const char *(*errmsg)(void);
} ours;

static void load_ours(void) {
  void *library = load("libdbpool.so.0");
  *(void **)&ours.create = function(library, "pool_create");
  *(void **)&ours.wait = function(library, "pool_wait");
  *(void **)&ours.errmsg = function(library, "pool_errmsg");
}

static long private_kilobytes(void) {
  FILE *file = fopen("/proc/self/smaps_rollup", "r");
  char line[256];
  long found = -1;
  while (file != NULL && fgets(line, sizeof line, file) != NULL) sscanf(line, "Private_Dirty: %ld kB", &found);
  if (file == NULL || found < 0) fail("there is no /proc/self/smaps_rollup");
  fclose(file);
  return found;
}

static int threads_alive(void) {
  DIR *folder = opendir("/proc/self/task");
  int count = 0;
  if (folder == NULL) fail("there is no /proc/self/task");
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) count += entry->d_name[0] != '.';
  closedir(folder);
  return count;
}

/* Those that connect go when there is nothing left to connect. */
static int threads_at_rest(void) {
  for (int i = 0; i < 100 && threads_alive() > 2; i++) usleep(100000);
  return threads_alive();
}

static void fill(int size, int concurrency) {
  pool_options_t options = POOL_OPTIONS_INIT;
  options.min_size = size;
  options.max_size = size;
  options.connect_concurrency = concurrency;
  pool_t *pool = ours.create(NULL, &options);
  if (pool == NULL || ours.wait(pool, 60000) != 0) fail(ours.errmsg());
}

static void measure_memory(const char *concurrency, int count) {
  int is_bare = strcmp(concurrency, "libpq") == 0;
  if (count < 1 || count > MOST) fail("at most 200");
  if (is_bare) {
    PGconn *(*connect)(const char *);
    *(void **)&connect = function(load("libpq.so.5"), "PQconnectdb");
    for (int i = 0; i < count; i++)
      if (connect("") == NULL) fail("PQconnectdb");
  } else {
    load_ours();
    fill(count, atoi(concurrency));
    threads_at_rest();
  }
  malloc_trim(0); /* what connecting took and gave back is not of the connections at rest */
  printf("{\"pool\": \"%s\", \"concurrency\": %d, \"connections\": %d, \"kilobytes\": %ld}\n",
         is_bare ? "libpq" : "libdbpool", atoi(concurrency), count, private_kilobytes());
}

static void count_threads(int pools) {
  load_ours();
  for (int i = 0; i < pools; i++) fill(1, 0);
  int found = threads_at_rest() - 1; /* main */
  printf("{\"pool\": \"libdbpool\", \"pools\": %d, \"threads\": %d}\n", pools, found);
}

static void time_load(const char *library) {
  load("libpq.so.5");
  int64_t start = now_ns();
  load(library);
  printf("{\"pool\": \"%s\", \"load_us\": %.1f}\n", library, (double)(now_ns() - start) / 1e3);
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "memory") == 0)
    measure_memory(argv[2], atoi(argv[3]));
  else if (argc == 3 && strcmp(argv[1], "threads") == 0)
    count_threads(atoi(argv[2]));
  else if (argc == 3 && strcmp(argv[1], "load") == 0)
    time_load(argv[2]);
  else
    fail("usage: footprint memory libpq|CONCURRENCY COUNT | threads COUNT | load LIBRARY");
  return 0;
}
