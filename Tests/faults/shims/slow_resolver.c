/* A resolver that hangs: getaddrinfo() keeps names that end in ".hang" for 30 seconds. Preloaded. */
#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { SECONDS = 30 };

static atomic_int calls, inside;

int faults_resolver_calls(void) { return atomic_load(&calls); }
int faults_resolver_inside(void) { return atomic_load(&inside); }

static int hangs(const char *name) {
  size_t length = name ? strlen(name) : 0;
  return length > 5 && strcmp(name + length - 5, ".hang") == 0;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  if (hangs(node)) {
    struct timespec left = {SECONDS, 0};
    atomic_fetch_add(&calls, 1);
    atomic_fetch_add(&inside, 1);
    while (nanosleep(&left, &left) != 0)
      continue;
    atomic_fetch_sub(&inside, 1);
    return EAI_AGAIN;
  }
  return real ? real(node, service, hints, found) : EAI_SYSTEM;
}
