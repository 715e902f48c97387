#include "contestant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct contestant *const all_pools[] = {&contestant_ours,  &contestant_zdb,       &contestant_reslist,
                                              &contestant_soci, &contestant_condition, NULL};

static const struct contestant *const floors[] = {&contestant_cas, &contestant_mutexes, NULL};

static const struct contestant *find(const struct contestant *const *list, const char *name) {
  for (; *list != NULL; list++)
    if (strcmp((*list)->name, name) == 0) return *list;
  return NULL;
}

const struct contestant *contestant_named(const char *name) {
  const struct contestant *found = find(all_pools, name);
  if (found == NULL) found = find(floors, name);
  if (found == NULL) give_up(name, "there is no such pool");
  return found;
}

void give_up(const char *what, const char *why) {
  fprintf(stderr, "bench: %s: %s\n", what, why);
  exit(1);
}
