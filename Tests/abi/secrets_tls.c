/* TLS that was asked for is never given up, however often an attempt is repeated. */
#include "pools.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int listener;
static atomic_int asked_for_tls, asked_otherwise, went_on;

/* As somebody between the two who wants to read along: "no TLS here". */
static void *refuse_tls(void *unused) {
  for (;;) {
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
      return unused;
    static const unsigned char request[8] = {0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F};
    unsigned char packet[1024];
    ssize_t got = recv(client, packet, sizeof packet, 0);
    if (got == sizeof request && memcmp(packet, request, sizeof request) == 0)
      atomic_fetch_add(&asked_for_tls, 1);
    else
      atomic_fetch_add(&asked_otherwise, 1);
    if (send(client, "N", 1, MSG_NOSIGNAL) == 1 && recv(client, packet, sizeof packet, 0) > 0)
      atomic_fetch_add(&went_on, 1);
    close(client);
  }
}

TEST(an_attempt_that_is_repeated_asks_for_tls_again) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  pthread_t thread;
  listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 16) == 0);
  REQUIRE_INT(getsockname(listener, (struct sockaddr *)&address, &size), ==, 0);
  REQUIRE_INT(pthread_create(&thread, NULL, refuse_tls, NULL), ==, 0);
  char conninfo[128];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d sslmode=require gssencmode=disable password=x",
           ntohs(address.sin_port));
  pool_options_t options = options_sized(0, 1);
  pool_t *pool = pool_create(conninfo, &options);
  REQUIRE(pool);
  CHECK(pool_get(pool, slow(1500)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  CHECK_HAS(pool_errmsg(), "SSL");
  CHECK_INT(atomic_load(&asked_for_tls), >=, 2);
  CHECK_INT(pool_close(pool), ==, 0);
  shutdown(listener, SHUT_RDWR);
  pthread_join(thread, NULL);
  CHECK_INT(atomic_load(&asked_otherwise), ==, 0);
  CHECK_INT(atomic_load(&went_on), ==, 0);
  close(listener);
}
