/* fork in a process with several threads: the child finds every record whole, and can allocate at once. */
#ifndef CACHE_FORK_H
#define CACHE_FORK_H

/* Called by every thread that gets a cache while another has one, before it takes any lock: from then on a fork takes all
 * locks. A process with a single thread needs none of this, and does not pay for it. */
void fork_expect_threads(void);

#endif
