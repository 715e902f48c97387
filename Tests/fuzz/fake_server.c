#include "fake_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST = 256, INPUT = 16384, PORT = 5432 };

struct session {
  int fd;
  bool started;
  char mode[16];
  char status; /* of its transaction: I, T or E */
  int queries;
  size_t length;
  unsigned char input[INPUT];
};

static char folder[64];
static char path[96];
static struct session sessions[MOST];
static int listener;
static int wake[2];
static atomic_int count;

static void drop(struct session *session) {
  close(session->fd);
  session->fd = -1;
  atomic_fetch_sub(&count, 1);
}

static void say(struct session *session, const void *bytes, size_t length) {
  /* What does not fit is lost, as is the session: its client does not read. */
  if (send(session->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length)
    (void)shutdown(session->fd, SHUT_RDWR);
}

static void say_message(struct session *session, char type, const void *body, size_t length) {
  unsigned char message[512];
  uint32_t size = htonl((uint32_t)length + 4);
  message[0] = (unsigned char)type;
  memcpy(message + 1, &size, 4);
  memcpy(message + 5, body, length);
  say(session, message, length + 5);
}

static void say_error(struct session *session, const char *severity, const char *state, const char *text) {
  char body[256];
  int length = snprintf(body, sizeof body, "S%s%cV%s%cC%s%cM%s%c", severity, 0, severity, 0, state, 0, text, 0);
  say_message(session, 'E', body, (size_t)length + 1);
}

static void say_parameter(struct session *session, const char *name, const char *value) {
  char body[128];
  int length = snprintf(body, sizeof body, "%s%c%s", name, 0, value);
  say_message(session, 'S', body, (size_t)length + 1);
}

static void say_ready(struct session *session) { say_message(session, 'Z', &session->status, 1); }

static bool is(const struct session *session, const char *mode) { return strcmp(session->mode, mode) == 0; }

/* The value of `database` among the pairs of a startup message. */
static void read_mode(struct session *session, const char *pairs, size_t length) {
  for (size_t at = 0; at < length && pairs[at];) {
    const char *name = pairs + at;
    at += strnlen(name, length - at) + 1;
    const char *value = at < length ? pairs + at : "";
    at += at < length ? strnlen(value, length - at) + 1 : 0;
    if (strcmp(name, "database") == 0)
      snprintf(session->mode, sizeof session->mode, "%s", value);
  }
}

static void start_up(struct session *session, const unsigned char *body, size_t length) {
  uint32_t version = 0;
  if (length >= 4)
    memcpy(&version, body, 4);
  version = ntohl(version);
  if (version == 80877103 || version == 80877104) {
    say(session, "N", 1); /* neither TLS nor Kerberos */
    return;
  }
  session->started = true;
  read_mode(session, (const char *)body + 4, length > 4 ? length - 4 : 0);
  if (is(session, FAKE_SILENT))
    return;
  if (is(session, FAKE_GARBAGE)) {
    say(session, "\xff\xfe garbage \x00\x01", 13);
    return;
  }
  if (is(session, FAKE_REFUSED)) {
    say_error(session, "FATAL", "3D000", "no such database");
    drop(session);
    return;
  }
  if (is(session, FAKE_BUSY)) {
    say_error(session, "FATAL", "53300", "too many clients");
    drop(session);
    return;
  }
  static const unsigned char ok[4] = {0};
  static uint32_t last;
  uint32_t key[2] = {htonl(++last), 0}; /* the number of a backend, and its secret */
  say_message(session, 'R', ok, 4);
  say_parameter(session, "server_version", "15.0");
  say_parameter(session, "client_encoding", "UTF8");
  say_message(session, 'K', key, 8);
  say_ready(session);
}

static void answer(struct session *session, const char *query) {
  if (is(session, FAKE_MUTE))
    return;
  session->queries++;
  if (strcmp(query, "DIE") == 0 || (is(session, FAKE_SHORT) && session->queries > 2)) {
    say_error(session, "FATAL", "57P01", "terminating connection due to administrator command");
    drop(session);
    return;
  }
  if (strcmp(query, "FAIL") == 0) {
    session->status = session->status == 'I' ? 'I' : 'E';
    say_error(session, "ERROR", "42601", "syntax error");
    say_ready(session);
    return;
  }
  if (strcmp(query, "BEGIN") == 0)
    session->status = 'T';
  else if (strcmp(query, "ROLLBACK") == 0)
    session->status = 'I';
  say_message(session, query[0] ? 'C' : 'I', "SELECT 0", query[0] ? 9 : 0);
  say_ready(session);
}

/* Takes one whole message from the input; false when there is none. */
static bool take_message(struct session *session) {
  size_t head = session->started ? 1 : 0;
  uint32_t size = 0;
  if (session->length < head + 4)
    return false;
  memcpy(&size, session->input + head, 4);
  size = ntohl(size);
  if (size < 4 || head + size > INPUT - 1) {
    drop(session);
    return false;
  }
  size_t whole = head + size;
  if (session->length < whole)
    return false;
  unsigned char after = session->input[whole];
  session->input[whole] = 0;
  char type = (char)session->input[0];
  if (!session->started)
    start_up(session, session->input + 4, size - 4);
  else if (type == 'Q')
    answer(session, (const char *)session->input + 5);
  else if (type == 'X')
    drop(session);
  if (session->fd < 0)
    return false;
  session->input[whole] = after;
  session->length -= whole;
  memmove(session->input, session->input + whole, session->length);
  return true;
}

static void read_session(struct session *session) {
  ssize_t got = recv(session->fd, session->input + session->length, INPUT - 1 - session->length, MSG_DONTWAIT);
  if (got <= 0) {
    drop(session);
    return;
  }
  session->length += (size_t)got;
  while (session->fd >= 0 && take_message(session))
    continue;
}

static void take_session(void) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  for (int i = 0; fd >= 0 && i < MOST; i++)
    if (sessions[i].fd < 0) {
      sessions[i] = (struct session){.fd = fd, .status = 'I'};
      atomic_fetch_add(&count, 1);
      return;
    }
  if (fd >= 0)
    close(fd);
}

static void end_all(void) {
  for (int i = 0; i < MOST; i++)
    if (sessions[i].fd >= 0) {
      if (sessions[i].started)
        say_error(&sessions[i], "FATAL", "57P01", "terminating connection due to administrator command");
      drop(&sessions[i]);
    }
}

static void *serve(void *nothing) {
  struct pollfd watched[MOST + 2];
  for (;;) {
    watched[0] = (struct pollfd){listener, POLLIN, 0};
    watched[1] = (struct pollfd){wake[0], POLLIN, 0};
    for (int i = 0; i < MOST; i++)
      watched[i + 2] = (struct pollfd){sessions[i].fd, POLLIN, 0};
    if (poll(watched, MOST + 2, -1) < 0)
      continue;
    for (int i = 0; i < MOST; i++)
      if (watched[i + 2].revents && sessions[i].fd >= 0)
        read_session(&sessions[i]);
    char scratch[64];
    if (watched[1].revents && read(wake[0], scratch, sizeof scratch) > 0)
      end_all();
    if (watched[0].revents)
      take_session();
  }
  return nothing;
}

void fake_server_end_sessions(void) {
  if (write(wake[1], "", 1) != 1)
    abort();
}

int fake_server_sessions(void) { return atomic_load(&count); }

static void remove_folder(void) {
  (void)unlink(path);
  (void)rmdir(folder);
}

const char *fake_server_start(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  pthread_t thread;
  snprintf(folder, sizeof folder, "/tmp/dbpool-fuzz.XXXXXX");
  if (!mkdtemp(folder))
    abort();
  snprintf(path, sizeof path, "%s/.s.PGSQL.%d", folder, PORT);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  for (int i = 0; i < MOST; i++)
    sessions[i].fd = -1;
  listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, MOST) != 0 ||
      pipe2(wake, O_CLOEXEC) != 0 || pthread_create(&thread, NULL, serve, NULL) != 0)
    abort();
  atexit(remove_folder);
  setenv("PGHOST", folder, 1);
  setenv("PGPORT", "5432", 1);
  setenv("PGUSER", "fuzz", 1);
  setenv("PGDATABASE", FAKE_GOOD, 1);
  unsetenv("PGPASSWORD");
  return folder;
}
