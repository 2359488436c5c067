/* The lock (src/base/lock.h, lock.c): 0 open, 1 held, 2 held and somebody may sleep in the kernel. Three threads take and
 * drop it twice each. Never two inside; and nobody sleeps for ever, which spin reports as an invalid end state.
 *
 * Deliberately wrong variants, which the test wants to see fail:
 *   WAIT_AS_HELD  whoever sleeps says 1 instead of 2
 *   NO_CHECK      the kernel puts to sleep without looking at the word again */
#define THREADS 3
#define ROUNDS 2

#ifdef WAIT_AS_HELD
#define CONTENDED 1
#else
#define CONTENDED 2
#endif

byte word;
byte inside;
bool asleep[THREADS];

inline futex_wake() {
	atomic {
		if
		:: asleep[0] -> asleep[0] = false
		:: asleep[1] -> asleep[1] = false
		:: asleep[2] -> asleep[2] = false
		:: else
		fi
	}
}

active [THREADS] proctype thread() {
	byte rounds, before;
	do
	:: rounds < ROUNDS ->
		rounds++;
		/* lock_take; a spin in lock_wait is the same once more. */
		do
		:: atomic { word == 0 -> word = 1 }; break
		:: word != 0 ->
			/* lock_wait, after the spins */
			do
			:: atomic { before = word; word = CONTENDED };
				if
				:: before == 0 -> break
				:: else
				fi;
				before = 0;
#ifdef NO_CHECK
				asleep[_pid] = true;
#else
				atomic { if :: word == CONTENDED -> asleep[_pid] = true :: else fi };
#endif
				!asleep[_pid]
			od;
			break
		od;
		inside++;
		assert(inside == 1);
		inside--;
		/* lock_drop */
		atomic { before = word; word = 0 };
		if
		:: before == 2 -> futex_wake()
		:: else
		fi;
		before = 0
	:: else -> break
	od
}
