#include "figures.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int count_entries(const char *path) {
  int count = 0;
  DIR *folder = opendir(path);
  if (!folder)
    return -1;
  for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
    count += entry->d_name[0] != '.';
  closedir(folder);
  return count;
}

/* Without the one that looks. */
int count_descriptors(void) { return count_entries("/proc/self/fd") - 1; }

int count_threads(void) { return count_entries("/proc/self/task"); }

long memory_kib(void) { return file_number("/proc/self/status", "RssAnon:"); }

long file_number(const char *path, const char *key) {
  char line[256];
  long value = -1;
  FILE *file = fopen(path, "re");
  while (file && value < 0 && fgets(line, sizeof line, file))
    if (strncmp(line, key, strlen(key)) == 0)
      value = strtol(line + strlen(key), NULL, 10);
  if (file)
    fclose(file);
  return value;
}

struct figures figures_now(void) {
  malloc_trim(0);
  struct mallinfo2 heap = mallinfo2();
  return (struct figures){count_descriptors(), count_threads(), memory_kib(), (long)(heap.uordblks + heap.hblkhd)};
}

void figures_print(const char *when, const struct figures *figures) {
  printf("  %-15s %3d descriptors, %2d threads, %ld KiB, %.1f KiB given out by malloc\n", when, figures->descriptors,
         figures->threads, figures->memory_kib, (double)figures->allocated / 1024);
}

int64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void nap_us(long us) {
  struct timespec rest = {us / 1000000, us % 1000000 * 1000};
  while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
    continue;
}

int64_t starved_us(void) {
  char text[80] = "";
  unsigned long long ran_ns, waited_ns = 0;
  int file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return 0;
  bool is_read = read(file, text, sizeof text - 1) > 0 && sscanf(text, "%llu %llu", &ran_ns, &waited_ns) == 2;
  close(file);
  return is_read ? (int64_t)(waited_ns / 1000) : 0;
}

uint32_t random_below(uint64_t *state, uint32_t bound) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (uint32_t)((*state * UINT64_C(2685821657736338717)) >> 33) % bound;
}

bool one_in(uint64_t *state, uint32_t n) { return random_below(state, n) == 0; }
