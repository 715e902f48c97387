/* A server of the fuzzers' own, in a thread: it speaks just enough of the protocol for libpq to connect and to run
 * queries, in microseconds, over a Unix socket. The `dbname` of a session says how it behaves. */
#ifndef FAKE_SERVER_H
#define FAKE_SERVER_H

/* `dbname`s. */
#define FAKE_GOOD "good"
#define FAKE_REFUSED "refused" /* no such database                                  */
#define FAKE_BUSY "busy"       /* too many clients                                  */
#define FAKE_SILENT "silent"   /* accepts, then says nothing                        */
#define FAKE_GARBAGE "garbage" /* answers with bytes that are no protocol           */
#define FAKE_SHORT "short"     /* ends the session after its second query           */
#define FAKE_MUTE "mute"       /* connects, then answers no query                   */

/* Starts it; PGHOST and the like then name it. The folder of its socket, gone at exit. */
const char *fake_server_start(void);
/* Ends all sessions, with the words that a server has for an administrator's command. */
void fake_server_end_sessions(void);
/* Sessions that are up. */
int fake_server_sessions(void);

#endif
