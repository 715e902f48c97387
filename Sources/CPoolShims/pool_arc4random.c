#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/random.h>

/* Swift's hash tables seed themselves with it. There are none here, but the code is compiled in, and with the function of
 * glibc, which has it since 2.36, the library would not load where glibc is older. */
__attribute__((visibility("hidden"))) void arc4random_buf(void *buffer, size_t size);

void arc4random_buf(void *buffer, size_t size) {
  unsigned char *next = buffer;
  while (size > 0) {
    ssize_t count = getrandom(next, size, 0);
    if (count < 0 && errno != EINTR) abort();
    if (count > 0) next += count, size -= (size_t)count;
  }
}
