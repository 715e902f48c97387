/* What a server says before it has proved who it is comes cleaned and cut into messages and log lines. */
#include "pools.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char log_lines[65536];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_line(void *context, int level, const char *message) {
  (void)context;
  (void)level;
  pthread_mutex_lock(&log_lock);
  size_t used = strlen(log_lines);
  snprintf(log_lines + used, sizeof log_lines - used, "%s\n", message);
  pthread_mutex_unlock(&log_lock);
}

struct liar {
  pthread_t thread;
  int listener;
  int port;
  const char *text;
  size_t length;
};

/* An ErrorResponse before any authentication; libpq takes a long one for text of an old server. */
static void lie(const struct liar *liar, int client) {
  char head[64];
  size_t used = 0;
  static const char fields[] = "SFATAL\0C28000\0M";
  uint32_t size = htonl((uint32_t)(4 + sizeof fields - 1 + liar->length + 2));
  head[used++] = 'E';
  memcpy(head + used, &size, sizeof size);
  used += sizeof size;
  memcpy(head + used, fields, sizeof fields - 1);
  used += sizeof fields - 1;
  ssize_t sent = send(client, head, used, MSG_NOSIGNAL);
  for (size_t at = 0; sent > 0 && at < liar->length; at += (size_t)sent)
    sent = send(client, liar->text + at, liar->length - at, MSG_NOSIGNAL);
  if (sent > 0)
    sent = send(client, "\0\0", 2, MSG_NOSIGNAL);
}

static void *serve_lies(void *argument) {
  struct liar *liar = argument;
  for (;;) {
    int client = accept4(liar->listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
      return NULL;
    char packet[1024];
    if (recv(client, packet, sizeof packet, 0) > 0)
      lie(liar, client);
    shutdown(client, SHUT_WR);
    while (recv(client, packet, sizeof packet, 0) > 0)
      continue;
    close(client);
  }
}

static bool start_liar(struct liar *liar, const char *text, size_t length) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  liar->text = text;
  liar->length = length;
  liar->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool listens = bind(liar->listener, (struct sockaddr *)&address, size) == 0 && listen(liar->listener, 16) == 0 &&
                 getsockname(liar->listener, (struct sockaddr *)&address, &size) == 0;
  liar->port = ntohs(address.sin_port);
  return CHECK(listens) && CHECK_INT(pthread_create(&liar->thread, NULL, serve_lies, liar), ==, 0);
}

static void stop_liar(struct liar *liar) {
  shutdown(liar->listener, SHUT_RDWR);
  pthread_join(liar->thread, NULL);
  close(liar->listener);
}

/* How many bytes a valid character has, 0 for none. */
static int character(const unsigned char *at) {
  int size = at[0] < 0x80 ? 1 : at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : at[0] >= 0xC2 ? 2 : 0;
  for (int i = 1; i < size; i++)
    if ((at[i] & 0xC0) != 0x80)
      return 0;
  return size;
}

static void check_harmless(const char *text) {
  for (const unsigned char *at = (const unsigned char *)text; *at;) {
    int size = character(at);
    if (!CHECK_INT(size, >, 0))
      return;
    CHECK(*at >= 0x20 && *at != 0x7F);
    CHECK(!(at[0] == 0xC2 && at[1] < 0xA0));                                /* C1 controls */
    CHECK(!(at[0] == 0xE2 && at[1] == 0x80 && at[2] >= 0xAA && at[2] <= 0xAE)); /* text that runs backwards */
    at += size;
  }
}

static void hear(const char *text, size_t length) {
  struct liar liar;
  REQUIRE(start_liar(&liar, text, length));
  char conninfo[128];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d sslmode=disable", liar.port);
  pool_options_t options = options_sized(0, 1);
  options.log = keep_line;
  pool_t *pool = pool_create(conninfo, &options);
  REQUIRE(pool);
  CHECK(pool_get(pool, slow(1000)) == NULL);
  CHECK_INT(pool_errcode(), ==, POOL_ECONNECT);
  check_harmless(pool_errmsg());
  WAIT_FOR(3000, strstr(log_lines, "cannot connect") != NULL);
  pthread_mutex_lock(&log_lock);
  for (char *at = log_lines; (at = strchr(at, '\n')) != NULL;)
    *at = ' '; /* ours, between two lines */
  check_harmless(log_lines);
  pthread_mutex_unlock(&log_lock);
  CHECK_INT(pool_close(pool), ==, 0);
  stop_liar(&liar);
}

TEST(a_server_cannot_write_to_the_terminal) {
  static const char tricks[] = "\x1b[2J\x1b]0;owned\x07 \x9b" "31m \xc2\x9b" "31m \xe2\x80\xae back\r\n"
                               "fake line\x08\x7f \xff\xfe\xc0\xaf \xf8";
  hear(tricks, sizeof tricks - 1);
}

TEST(a_message_of_a_mebibyte_is_cut) {
  size_t size = 1 << 20;
  char *text = malloc(size);
  REQUIRE(text != NULL);
  for (size_t i = 0; i < size; i++)
    text[i] = (char)(1 + i * 7919 % 255);
  hear(text, size);
  free(text);
}
