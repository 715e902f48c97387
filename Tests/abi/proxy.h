/* A TCP proxy before the server, in a thread of the test, on a port of 127.0.0.1 that the system chose. */
#ifndef PROXY_H
#define PROXY_H

enum proxy_mode {
  PROXY_PASS,    /* forward                                                                */
  PROXY_DARK,    /* swallow everything, acknowledge it, say nothing; new ones are accepted */
  PROXY_REFUSE,  /* nobody listens                                                         */
  PROXY_RESET,   /* accept, then reset                                                     */
  PROXY_GARBAGE, /* accept, then send bytes that are no protocol                           */
};

struct proxy;

struct proxy *proxy_start(void);
void proxy_stop(struct proxy *proxy);
int proxy_port(const struct proxy *proxy);

/* For connections made from now on; returns when it is in force. */
void proxy_new(struct proxy *proxy, enum proxy_mode mode);
/* For those that are up: PROXY_PASS, PROXY_DARK, or PROXY_RESET, which resets them once. */
void proxy_existing(struct proxy *proxy, enum proxy_mode mode);
/* New connections are forwarded only after this time. */
void proxy_delay(struct proxy *proxy, int ms);
/* Connections accepted so far. */
int proxy_accepted(const struct proxy *proxy);
/* Of these, the most that were open at one time. */
int proxy_peak(const struct proxy *proxy);

/* A port whose host drops the packets: its queue of connections is full and nobody takes from it. */
struct dropper {
  int listener;
  int fillers[64];
  int count;
  int port;
};
int dropper_start(struct dropper *dropper);
void dropper_stop(struct dropper *dropper);

#endif
