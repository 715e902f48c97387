/* A resolver that knows "both.example" as ::1 and 127.0.0.1, in this order. Preloaded. */
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int (*resolver)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int of_family(resolver real, int family, const char *node, const char *service, const struct addrinfo *hints,
                     struct addrinfo **found) {
  struct addrinfo wanted = hints ? *hints : (struct addrinfo){0};
  wanted.ai_family = family;
  return real(node, service, &wanted, found);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  resolver real;
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  if (!real)
    return EAI_SYSTEM;
  if (!node || strcmp(node, "both.example") != 0)
    return real(node, service, hints, found);
  struct addrinfo *second = NULL;
  int code = of_family(real, AF_INET6, "::1", service, hints, found);
  if (code == 0)
    code = of_family(real, AF_INET, "127.0.0.1", service, hints, &second);
  if (code == 0) {
    struct addrinfo *last = *found;
    while (last->ai_next)
      last = last->ai_next;
    last->ai_next = second; /* freeaddrinfo() of glibc goes from one to the next */
  }
  return code;
}
