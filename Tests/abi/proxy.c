#include "proxy.h"

#include "harness.h"
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINKS = 256 };

struct link {
  int client;
  int server;           /* -1: not forwarded, or not yet */
  enum proxy_mode mode;
  int64_t forward_at;   /* ms; when PASS and no server yet */
};

struct proxy {
  pthread_t thread;
  int holder;   /* bound and never listening: keeps the port ours while nobody listens */
  int listener; /* -1: refuse */
  int port;
  int wake[2];
  _Atomic enum proxy_mode new_mode;
  atomic_int existing; /* an order for the links that are up: mode + 1, or 0 */
  atomic_int delay;
  atomic_int accepted;
  atomic_int peak;
  atomic_bool stop;
  atomic_uint asked;
  atomic_uint done;
  struct link links[LINKS];
  int count;
};

static int bind_to(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
    return fd;
  perror("    proxy: bind");
  close(fd);
  return -1;
}

static int port_of(int fd) {
  struct sockaddr_in address;
  socklen_t size = sizeof address;
  getsockname(fd, (struct sockaddr *)&address, &size);
  return ntohs(address.sin_port);
}

static void reset_and_close(int fd) {
  struct linger now = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(fd);
}

static int connect_upstream(void) {
  char port[16];
  snprintf(port, sizeof port, "%d", server_port());
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
  if (getaddrinfo(server_host(), port, &hints, &found) != 0)
    return -1;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
  int failed = connect(fd, found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  if (failed) {
    close(fd);
    return -1;
  }
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return fd;
}

static void drop_link(struct proxy *proxy, int index, bool hard) {
  struct link *link = &proxy->links[index];
  if (hard)
    reset_and_close(link->client);
  else
    close(link->client);
  if (link->server >= 0)
    close(link->server);
  *link = proxy->links[--proxy->count];
}

static void take_new(struct proxy *proxy) {
  int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC), yes = 1;
  if (client < 0)
    return;
  atomic_fetch_add(&proxy->accepted, 1);
  enum proxy_mode mode = atomic_load(&proxy->new_mode);
  if (mode == PROXY_RESET || proxy->count == LINKS) {
    reset_and_close(client);
    return;
  }
  if (mode == PROXY_GARBAGE) {
    static const char noise[] = "\x7fthis is no protocol\xff\xff\xff\xff of any database\n";
    if (send(client, noise, sizeof noise, MSG_NOSIGNAL) < 0)
      perror("    proxy: send");
  }
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  proxy->links[proxy->count++] = (struct link){client, -1, mode, now_ms() + atomic_load(&proxy->delay)};
  if (proxy->count > atomic_load(&proxy->peak))
    atomic_store(&proxy->peak, proxy->count);
}

/* Moves what is there from one side to the other. false: the link is over. */
static bool forward(struct link *link, int from, int to) {
  char chunk[16384];
  ssize_t got = recv(from, chunk, sizeof chunk, MSG_DONTWAIT);
  if (got < 0)
    return errno == EAGAIN || errno == EINTR;
  if (got == 0)
    return false;
  if (link->mode != PROXY_PASS || to < 0)
    return true;
  for (ssize_t sent = 0; sent < got;) {
    ssize_t now = send(to, chunk + sent, (size_t)(got - sent), MSG_NOSIGNAL);
    if (now < 0)
      return false;
    sent += now;
  }
  return true;
}

/* What was asked for while the loop slept. */
static void obey(struct proxy *proxy) {
  char drain[64];
  while (read(proxy->wake[0], drain, sizeof drain) > 0)
    continue;
  unsigned asked = atomic_load(&proxy->asked);
  bool listening = proxy->listener >= 0, wanted = atomic_load(&proxy->new_mode) != PROXY_REFUSE;
  if (listening && !wanted) {
    close(proxy->listener);
    proxy->listener = -1;
  } else if (!listening && wanted) {
    proxy->listener = bind_to(proxy->port);
    if (proxy->listener >= 0 && listen(proxy->listener, 128) != 0)
      perror("    proxy: listen");
  }
  int existing = atomic_exchange(&proxy->existing, 0);
  for (int i = proxy->count - 1; existing != 0 && i >= 0; i--) {
    if (existing - 1 == PROXY_RESET)
      drop_link(proxy, i, true);
    else
      proxy->links[i].mode = (enum proxy_mode)(existing - 1);
  }
  atomic_store(&proxy->done, asked);
}

static int until_next_forward(const struct proxy *proxy) {
  int64_t wait = 1000, now = now_ms();
  for (int i = 0; i < proxy->count; i++) {
    const struct link *link = &proxy->links[i];
    if (link->mode == PROXY_PASS && link->server < 0 && link->forward_at - now < wait)
      wait = link->forward_at - now;
  }
  return wait < 0 ? 0 : (int)wait;
}

static void serve_links(struct proxy *proxy, const struct pollfd *ready) {
  for (int i = proxy->count - 1; i >= 0; i--) {
    struct link *link = &proxy->links[i];
    bool up = true;
    if (link->server < 0 && link->mode == PROXY_PASS) {
      if (now_ms() < link->forward_at)
        continue;
      link->server = connect_upstream();
      up = link->server >= 0;
    }
    if (up && ready[2 * i].revents)
      up = forward(link, link->client, link->server);
    if (up && link->server >= 0 && ready[2 * i + 1].revents)
      up = forward(link, link->server, link->client);
    if (!up)
      drop_link(proxy, i, false);
  }
}

static void *serve(void *argument) {
  struct proxy *proxy = argument;
  static _Thread_local struct pollfd ready[2 * LINKS + 2];
  while (!atomic_load(&proxy->stop)) {
    int links = proxy->count;
    for (int i = 0; i < links; i++) {
      const struct link *link = &proxy->links[i];
      /* Held back until it is forwarded: what the client says then must not be lost. */
      bool held = link->server < 0 && link->mode == PROXY_PASS;
      ready[2 * i] = (struct pollfd){held ? -1 : link->client, POLLIN, 0};
      ready[2 * i + 1] = (struct pollfd){link->server, POLLIN, 0};
    }
    ready[2 * links] = (struct pollfd){proxy->wake[0], POLLIN, 0};
    ready[2 * links + 1] = (struct pollfd){proxy->listener, POLLIN, 0};
    if (poll(ready, (nfds_t)(2 * links + 2), until_next_forward(proxy)) < 0)
      continue;
    bool waked = ready[2 * links].revents != 0, arrived = ready[2 * links + 1].revents != 0;
    serve_links(proxy, ready);
    if (waked)
      obey(proxy);
    else if (arrived && proxy->listener >= 0)
      take_new(proxy);
  }
  return NULL;
}

/* Tells the thread and waits until it has obeyed. */
static void ask(struct proxy *proxy) {
  unsigned number = atomic_fetch_add(&proxy->asked, 1) + 1;
  if (write(proxy->wake[1], "w", 1) != 1)
    perror("    proxy: wake");
  while (atomic_load(&proxy->done) != number && !atomic_load(&proxy->stop))
    nap_ms(1);
}

struct proxy *proxy_start(void) {
  struct proxy *proxy = calloc(1, sizeof *proxy);
  proxy->holder = bind_to(0);
  proxy->port = port_of(proxy->holder);
  proxy->listener = bind_to(proxy->port);
  CHECK_INT(listen(proxy->listener, 128), ==, 0);
  CHECK_INT(pipe2(proxy->wake, O_CLOEXEC | O_NONBLOCK), ==, 0);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  CHECK_INT(pthread_create(&proxy->thread, NULL, serve, proxy), ==, 0);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return proxy;
}

void proxy_stop(struct proxy *proxy) {
  atomic_store(&proxy->stop, true);
  if (write(proxy->wake[1], "w", 1) != 1)
    perror("    proxy: wake");
  pthread_join(proxy->thread, NULL);
  while (proxy->count > 0)
    drop_link(proxy, 0, true);
  if (proxy->listener >= 0)
    close(proxy->listener);
  close(proxy->holder);
  close(proxy->wake[0]);
  close(proxy->wake[1]);
  free(proxy);
}

int proxy_port(const struct proxy *proxy) { return proxy->port; }

void proxy_new(struct proxy *proxy, enum proxy_mode mode) {
  atomic_store(&proxy->new_mode, mode);
  ask(proxy);
}

void proxy_existing(struct proxy *proxy, enum proxy_mode mode) {
  atomic_store(&proxy->existing, (int)mode + 1);
  ask(proxy);
}

void proxy_delay(struct proxy *proxy, int ms) { atomic_store(&proxy->delay, ms); }

int proxy_accepted(const struct proxy *proxy) { return atomic_load(&proxy->accepted); }

int proxy_peak(const struct proxy *proxy) { return atomic_load(&proxy->peak); }

/* ------------------------------------------------------------------------------------------------ dropper */

int dropper_start(struct dropper *dropper) {
  dropper->count = 0;
  dropper->listener = bind_to(0);
  dropper->port = port_of(dropper->listener);
  if (listen(dropper->listener, 0) != 0)
    return -1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)dropper->port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 0; i < 8; i++) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = connect(fd, (struct sockaddr *)&address, sizeof address);
    dropper->fillers[dropper->count++] = fd;
    struct pollfd ready = {fd, POLLOUT, 0};
    /* The first that is not through within this time was dropped: the queue is full. */
    if (rc != 0 && errno == EINPROGRESS && poll(&ready, 1, 300) == 0)
      return 0;
  }
  return -1;
}

void dropper_stop(struct dropper *dropper) {
  for (int i = 0; i < dropper->count; i++)
    close(dropper->fillers[i]);
  close(dropper->listener);
}
