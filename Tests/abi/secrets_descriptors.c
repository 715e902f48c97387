/* A program that is started inherits no session, and nothing else of the library's. */
#include "pools.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Prints what it has inherited. */
HELPER(list_descriptors) {
  DIR *folder = opendir("/proc/self/fd");
  for (struct dirent *entry = folder ? readdir(folder) : NULL; entry; entry = readdir(folder)) {
    int number = atoi(entry->d_name);
    char target[256] = "";
    if (number < 3 || number == dirfd(folder))
      continue;
    if (readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1) < 0)
      continue;
    printf("%d %s\n", number, target);
  }
  closedir(folder);
}

/* Without a fork, so without its handlers. */
static void spawn_list(char *output, size_t size) {
  char path[] = "/tmp/abi-list-XXXXXX", self[512] = "";
  int fd = mkstemp(path), status = -1;
  REQUIRE(fd >= 0 && readlink("/proc/self/exe", self, sizeof self - 1) > 0);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  char *arguments[] = {self, "--helper", "list_descriptors", NULL};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
  pid_t pid = 0;
  CHECK_INT(posix_spawn(&pid, self, &actions, NULL, arguments, environ), ==, 0);
  posix_spawn_file_actions_destroy(&actions);
  CHECK_INT(waitpid(pid, &status, 0), ==, pid);
  CHECK_INT(status, ==, 0);
  ssize_t length = pread(fd, output, size - 1, 0);
  output[length > 0 ? length : 0] = 0;
  close(fd);
  unlink(path);
}

/* With a connection lent, one idle, an attempt under way, and everything that the library's threads need. */
TEST(a_program_that_is_started_inherits_no_descriptor) {
  if (is_slow_run()) {
    fprintf(stderr, "    not tested under a tool that opens files of its own\n");
    return;
  }
  char forked[2][8192], spawned[2][8192];
  CHECK_INT(run_helper("list_descriptors", "", forked[0], sizeof forked[0], 5000), ==, 0);
  spawn_list(spawned[0], sizeof spawned[0]);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(silent, (struct sockaddr *)&address, size) == 0 && listen(silent, 16) == 0);
  CHECK_INT(getsockname(silent, (struct sockaddr *)&address, &size), ==, 0);
  char conninfo[64];
  snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%d", ntohs(address.sin_port));
  pool_options_t options = options_sized(1, 1);
  pool_t *pool = open_pool(0, 2), *waiting = pool_create(conninfo, &options);
  REQUIRE(pool && waiting);
  PGconn *lent = get_working(pool, POOL_TIMEOUT_DEFAULT), *idle = get_working(pool, POOL_TIMEOUT_DEFAULT);
  REQUIRE(lent && idle);
  CHECK_INT(pool_put(pool, idle), ==, 0);
  int attempt = -1;
  struct pollfd arrived = {silent, POLLIN, 0};
  if (CHECK_INT(poll(&arrived, 1, slow(5000)), ==, 1))
    attempt = accept4(silent, NULL, NULL, SOCK_CLOEXEC);
  CHECK_INT(STAT(waiting, connecting), ==, 1);
  CHECK_INT(run_helper("list_descriptors", "", forked[1], sizeof forked[1], 5000), ==, 0);
  spawn_list(spawned[1], sizeof spawned[1]);
  if (!CHECK(strcmp(forked[0], forked[1]) == 0 && strcmp(spawned[0], spawned[1]) == 0))
    fprintf(stderr, "    before: %s    after a fork: %s    spawned: %s", forked[0], forked[1], spawned[1]);
  CHECK_INT(pool_put(pool, lent), ==, 0);
  CHECK_INT(pool_close(pool), ==, 0);
  CHECK_INT(pool_close(waiting), ==, 0);
  close(attempt);
  close(silent);
}
