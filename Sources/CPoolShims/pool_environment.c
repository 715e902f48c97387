#define _GNU_SOURCE
#include "pool_environment.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

bool pool_has_foreign_rights(void) { return getauxval(AT_SECURE) != 0; }

bool pool_libpq_variable(char *name, size_t size) {
  for (char **entry = environ; entry && *entry; entry++) {
    if (strncmp(*entry, "PG", 2) != 0) continue;
    (void)snprintf(name, size, "%.*s", (int)strcspn(*entry, "="), *entry);
    return true;
  }
  return false;
}

bool pool_home(char *path, size_t size) {
  const char *home = pool_has_foreign_rights() ? NULL : getenv("HOME");
  char buffer[1024];
  struct passwd entry, *found = NULL;
  if (!home || !home[0])
    home = getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) == 0 && found ? found->pw_dir : NULL;
  if (!home || !home[0]) return false;
  int length = snprintf(path, size, "%s", home);
  return length > 0 && (size_t)length < size;
}

const char *pool_passfile_fault(const char *path) {
  struct stat about;
  if (stat(path, &about) != 0) return NULL;
  if (!S_ISREG(about.st_mode)) return "is not a plain file";
  if (about.st_mode & (S_IRWXG | S_IRWXO)) return "may be read by others: its mode must be 0600 or less";
  return NULL;
}
