// One client's connection: a subset of memcached's text protocol.
//
//   get KEY...                                VALUE KEY FLAGS BYTES, the value; END
//   set KEY FLAGS EXPTIME BYTES [noreply]     STORED            (EXPTIME is accepted and ignored: nothing expires)
//   delete KEY [noreply]                      DELETED | NOT_FOUND
//   stats                                     STAT NAME VALUE; END
//   version, quit
#ifndef BENCH_CACHE_CONN_H
#define BENCH_CACHE_CONN_H

#include "cache_store.h"

struct conn;

enum conn_state { CONN_READ, CONN_WRITE, CONN_CLOSE }; // what to wait for next

struct conn *conn_new(int fd); // takes the descriptor over; it is non-blocking
void conn_free(struct conn *conn);
void conn_free_all(void); // once no thread uses them any more
int conn_fd(const struct conn *conn);

// Goes on with what the socket allows: answers what is pending, reads, executes.
enum conn_state conn_ready(struct conn *conn, struct store *store);

#endif
