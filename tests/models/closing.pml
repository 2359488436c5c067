/* Closed ranks (src/base/lock.h, lock.c): a fork finds nobody under a lock of a cache or a bin, and writes to none of
 * them. Two threads take one of two locks twice each, while another one forks twice. Nobody is inside when it forks, nor
 * gets inside before it is over; two are never inside of one lock; and nobody sleeps for ever. How a lock is waited for
 * is in lock.pml: here, that is one step.
 *
 * In the child, a lock may still be held by a thread that was about to drop it again: lock_found opens it there, and that
 * takes nothing from anybody, for nobody is inside.
 *
 * Deliberately wrong variants, which the test wants to see fail:
 *   NO_CHECK      who gets a lock does not look whether its rank is closed
 *   CHECK_BEFORE  he looks only before he takes it
 *   NO_AWAIT      who forks does not look at the locks
 *   NO_WAKE       who opens the rank wakes nobody */
#define LOCKS 2
#define ROUNDS 2

bool held[LOCKS];
byte inside[LOCKS];
bool closed, sleepers, forking;
bool asleep[2];

inline sleep_until_open() {
	do
	:: !closed -> break
	:: closed ->
		sleepers = true;
		/* the kernel looks at the word again */
		atomic { if :: closed && sleepers -> asleep[_pid] = true :: else fi };
		!asleep[_pid]
	od
}

active [2] proctype thread() {
	byte rounds, l;
	do
	:: rounds < ROUNDS ->
		rounds++;
		if :: l = 0 :: l = 1 fi;
#ifdef CHECK_BEFORE
		sleep_until_open();
#endif
		atomic { !held[l] -> held[l] = true };
#if !defined(NO_CHECK) && !defined(CHECK_BEFORE)
		do
		:: !closed -> break
		:: closed ->
			/* lock_back_off */
			held[l] = false;
			sleep_until_open();
			atomic { !held[l] -> held[l] = true }
		od;
#endif
		atomic { inside[l]++; assert(inside[l] == 1 && !forking) };
		atomic { inside[l]--; assert(!forking) };
		held[l] = false
	:: else -> break
	od
}

active proctype forker() {
	byte rounds, l;
	do
	:: rounds < ROUNDS ->
		rounds++;
		closed = true;
#ifndef NO_AWAIT
		l = 0;
		do
		:: l < LOCKS ->
			/* lock_await: takes and drops it if it has to wait */
			if
			:: !held[l]
			:: atomic { held[l] -> skip };
				atomic { !held[l] -> held[l] = true };
				held[l] = false
			fi;
			l++
		:: else -> break
		od;
#endif
		atomic { forking = true; assert(inside[0] + inside[1] == 0) };
		forking = false;
		/* lock_open_all: one exchange */
		atomic {
			closed = false;
#ifndef NO_WAKE
			if :: sleepers -> asleep[0] = false; asleep[1] = false :: else fi;
#endif
			sleepers = false
		}
	:: else -> break
	od
}
