/* Arbitrary bytes as conninfo and as options. Never a crash; what is refused has a code and a message, and no message
 * ever has the password. The first byte chooses among options, the rest is the conninfo. */
#include "fake_server.h"
#include "input.h"

#include <dbpool.h>
#include <stdbool.h>
#include <string.h>

static const char canary[] = "Kan4rieNvogel";

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *count, char ***arguments) {
  (void)count, (void)arguments;
  fake_server_start();
  return 0;
}

static void check_refusal(void) {
  int code = pool_errcode();
  const char *text = pool_errmsg();
  HOLDS(code == POOL_EINVAL || code == POOL_ENOMEM || code == POOL_ESYSTEM, "%d: %s", code, text);
  HOLDS(text[0] != 0, "no message for %d", code);
  HOLDS(strlen(text) < 4096, "an endless message");
  for (const char *at = text; *at; at++)
    HOLDS((unsigned char)*at >= ' ' && *at != 127, "a control character in: %s", text);
}

/* Written as users do: the password stands where one stands. */
static void check_no_secret(const char *conninfo) {
  const char *place = strstr(conninfo, canary);
  if (!place || (place > conninfo && strstr(place + 1, canary)))
    return;
  bool is_password = (place - conninfo >= 9 && strncmp(place - 9, "password=", 9) == 0 &&
                      (place - conninfo == 9 || place[-10] == ' ' || place[-10] == '&' || place[-10] == '?'));
  if (is_password)
    HOLDS(!strstr(pool_errmsg(), canary), "the password in: %s", pool_errmsg());
}

/* A struct as long as the input says, its members from the input or the defaults; nothing behind it may be read. */
static pool_options_t *make_options(struct input *input) {
  size_t size = next_byte(input) & 1 ? sizeof(pool_options_t) : next_word(input) & 0x3ff;
  pool_options_t defaults = POOL_OPTIONS_INIT;
  size_t room = size < sizeof(size_t) ? sizeof(size_t) : size;
  unsigned char *memory = calloc(1, room);
  if (!memory)
    abort();
  memcpy(memory, &defaults, size < sizeof defaults ? size : sizeof defaults);
  memcpy(memory, &size, sizeof size);
  for (int changes = next_below(input, 4); changes > 0; changes--) {
    /* Integers, and the tail that a newer header might have; never a pointer. */
    size_t first = offsetof(pool_options_t, min_size), at = first + (size_t)next_byte(input) % 128 * 4;
    int32_t value = next_byte(input) & 1 ? (int32_t)next_word(input) : (int32_t)next_byte(input) - 2;
    if (at + sizeof value <= size)
      memcpy(memory + at, &value, sizeof value);
  }
  return (pool_options_t *)memory;
}

static void try(const char *conninfo, const pool_options_t *options, bool hosted) {
  pool_t *pool = hosted ? pool_create_hosted(options) : pool_create(conninfo, options);
  if (!pool) {
    check_refusal();
    check_no_secret(conninfo);
    return;
  }
  pool_stats_t stats = {.size = sizeof stats};
  HOLDS(pool_stats(pool, &stats) == 0, "%s", pool_errmsg());
  HOLDS(stats.min_size >= 0 && stats.max_size >= 1 && stats.min_size <= stats.max_size &&
            stats.max_size <= POOL_MAX_SIZE_LIMIT, "%d of %d", (int)stats.min_size, (int)stats.max_size);
  HOLDS(pool_close(pool) == 0, "%s", pool_errmsg());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input input = {data, data + size};
  int choice = next_byte(&input);
  pool_options_t *options = choice & 1 ? make_options(&input) : NULL;
  size_t length = (size_t)(input.end - input.at);
  char *text = malloc(length * 2 + sizeof canary);
  if (!text)
    abort();
  /* The first byte 1 of the input stands for the password. */
  size_t used = 0;
  bool placed = false;
  for (; has_more(&input); input.at++)
    if (*input.at == 1 && !placed) {
      memcpy(text + used, canary, sizeof canary - 1);
      used += sizeof canary - 1;
      placed = true;
    } else {
      text[used++] = (char)*input.at;
    }
  text[used] = 0;
  try(text, options, (choice & 6) == 6);
  free(text);
  free(options);
  return 0;
}
