/* The fuzzers' input, read byte by byte; zeros behind its end. And what must hold, or the program ends. */
#ifndef INPUT_H
#define INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct input {
  const uint8_t *at;
  const uint8_t *end;
};

static inline int has_more(const struct input *input) { return input->at < input->end; }
static inline uint8_t next_byte(struct input *input) { return has_more(input) ? *input->at++ : 0; }
static inline int next_below(struct input *input, int limit) { return next_byte(input) % limit; }

static inline uint64_t next_word(struct input *input) {
  uint64_t word = 0;
  for (int i = 0; i < 8; i++)
    word = word << 8 | next_byte(input);
  return word;
}

#define HOLDS(condition, ...)                                                  \
  do {                                                                         \
    if (!(condition)) {                                                        \
      fprintf(stderr, "%s:%d: does not hold: %s: ", __FILE__, __LINE__, #condition); \
      fprintf(stderr, __VA_ARGS__);                                            \
      fprintf(stderr, "\n");                                                   \
      abort();                                                                 \
    }                                                                          \
  } while (0)

#endif
