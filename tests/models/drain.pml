/* The drain of a magazine (src/cache/magazine_drain.c) against malloc and free of the thread that owns it (src/cache/magazine.h).
 * The owner makes CALLS calls, of any kind, without a lock where it can; the drainer drains DRAINS times. No block may be handed
 * out twice, be in two places or get lost. The drainer has the lock to begin, and to look and to end after the barrier, but not in
 * between: an owner that takes it meanwhile calls the drain of this magazine off, and the way stays closed until the end; or all of it.
 *
 * malloc finds the magazine by its way, without a look at `empty`; or, in hardened mode and while the heap profile is on, looks at that,
 * and needs no way. Either may happen here, in each call.
 *
 * Memory. Only the owner writes `top` and the slots, but for NONE, which the drainer writes to one slot before it opens the way again.
 * What the owner wrote reaches the drainer late: in order as on x86-64, or, with -DWEAK, in any order, and the drainer may also
 * read a slot before it reads `top`, as on AArch64. What the drainer writes to `empty` and to the way reaches the owner late: it may
 * read any value since the last barrier. The barrier ends both, wherever the owner is at that moment, also in the middle of a call. Who
 * finds the way open again finds NONE, too: the drainer's stores are in that order, and what the owner reads there depends on the way.
 *
 * Deliberately wrong variants, which the test wants to see fail:
 *   NO_BARRIER   the drainer does not wait for the owner
 *   NO_REREAD    ... does not look where the owner's top is after the barrier
 *   TAKE_ALL     ... takes the block below the top, too
 *   WAY_OPEN     ... leaves the way open
 *   NO_BOUND     ... takes what was freed since it began, too
 *   NO_NONE      ... opens it without having written NONE
 *   NO_CALL_OFF  the owner's slow paths leave the drain as it is
 *   ONE_BARRIER  with WEAK: ... reads slots without a second barrier */
#define SLOTS 3
#define BLOCKS 3
#ifndef CALLS
#define CALLS 4
#endif
#ifndef DRAINS
#define DRAINS 1
#endif

#ifdef TAKE_ALL
#define SPARED 0
#else
#define SPARED 1
#endif

/* The owner's own view. */
byte top;
byte slot[SLOTS];          /* blocks are numbered from 1 */
bool held[BLOCKS + 1];     /* by the program */
/* What the drainer sees of it. */
byte seen_top;
byte seen_slot[SLOTS];
#ifndef WEAK
chan stores = [12] of { byte, byte }; /* place, value: on their way to memory; place SLOTS is the top */
#endif
/* Values of `empty` that the owner may read, newest last; and whether the way is closed. */
byte empty0, empty1, empty2;
bool closed0, closed1, closed2;
#define NONE 0             /* what a slot holds that is no block */

bool given[BLOCKS + 1];    /* back to the arena */
bool locked = true;        /* the cache's lock; until all is ready */
bool drain;                /* has begun */
bool begun;                /* with the magazine; `empty` was at begun_at then */
byte begun_at;
bool owner_done, drainer_done;

inline write_slot(i, b) {
	slot[i] = b;
#ifndef WEAK
	stores ! i, b
#endif
}

inline write_top(t) {
	top = t;
#ifndef WEAK
	stores ! SLOTS, t
#endif
}

inline arrive() {
#ifdef WEAK
	seen_top = top;
	i = 0;
	do :: i < SLOTS -> seen_slot[i] = slot[i]; i++ :: else -> break od;
#else
	do
	:: nempty(stores) -> stores ? i, value; if :: i == SLOTS -> seen_top = value :: else -> seen_slot[i] = value fi
	:: empty(stores) -> break
	od;
#endif
	i = 0
}

/* A process that stands for the way to memory. */
active proctype memory() {
	byte i, value;
end:
	do
#ifdef WEAK
	:: atomic { seen_top != top -> seen_top = top }
	:: atomic { seen_slot[0] != slot[0] -> seen_slot[0] = slot[0] }
	:: atomic { seen_slot[1] != slot[1] -> seen_slot[1] = slot[1] }
	:: atomic { seen_slot[2] != slot[2] -> seen_slot[2] = slot[2] }
#else
	:: atomic { stores ? i, value; if :: i == SLOTS -> seen_top = value :: else -> seen_slot[i] = value fi; i = 0; value = 0 }
#endif
	od
}

inline read_empty() {
	if :: e = empty0 :: e = empty1 :: e = empty2 fi
}

inline read_way() {
	if :: closed = closed0 :: closed = closed1 :: closed = closed2 fi
}

inline malloc_slowly() {
	atomic {
		!locked;
		settle();
		if
		:: top > 0 -> t = top - 1; b = slot[t]; write_top(t); hand_out(b)
		:: else /* a refill: no part of this */
		fi
	}
}

inline hand_out(b) {
	assert(b != NONE && !held[b] && !given[b]);
	held[b] = true
}

/* Under the lock: the newest values are known, and blocks move down to the first slot (settle). */
inline settle() {
#ifndef WEAK
	arrive(); /* there, who takes a lock waits for what it has stored */
#endif
#ifndef NO_CALL_OFF
	if :: begun -> empty2 = begun_at; begun = false :: else fi;
	if :: drain -> closed2 = false; drain = false :: skip fi;
#endif
	i = 0;
	do
	:: i + empty2 < top -> write_slot(i, slot[i + empty2]); i++
	:: else -> break
	od;
	write_top(i);
	empty0 = 0; empty1 = 0; empty2 = 0;
	closed0 = closed2; closed1 = closed2;
	i = 0
}

active proctype owner() {
	byte t, e, b, i, value, calls;
	bool closed;
	/* Any number of blocks lies in the magazine, the program holds the others. */
	atomic {
		select(t : 0 .. SLOTS);
		b = 1;
		do
		:: b <= t -> slot[b - 1] = b; seen_slot[b - 1] = b; b++
		:: b > t && b <= BLOCKS -> held[b] = true; b++
		:: else -> break
		od;
		top = t; seen_top = t; locked = false
	}
	do
	:: calls < CALLS ->
		calls++;
		if
		:: /* malloc, by the way */
			atomic { read_way() };
			if
			:: closed -> malloc_slowly()
			:: else ->
				t = top;
				/* Below the first slot lies NONE as well. */
				if :: t > 0 -> b = slot[t - 1] :: else -> b = NONE fi;
				if
				:: b == NONE -> malloc_slowly()
				:: else ->
					atomic { write_top(t - 1) };
					atomic { b = slot[t - 1]; hand_out(b) }
				fi
			fi
		:: /* malloc, by a look at `empty`: both loads in either order. */
			if
			:: atomic { t = top; skip }; atomic { read_empty() }
			:: atomic { read_empty() }; t = top
			fi;
			if
			:: t > e ->
				atomic { write_top(t - 1) };
				atomic { b = slot[t - 1]; hand_out(b) }
			:: else -> malloc_slowly()
			fi
		:: /* free of any block */
			atomic {
				if
				:: held[1] -> b = 1 :: held[2] -> b = 2 :: held[3] -> b = 3
				:: else -> b = 0
				fi;
				held[b] = false
			};
			if
			:: b == 0
			:: else ->
				t = top;
				if
				:: t < SLOTS ->
					/* The compiler may store either first. */
					if
					:: atomic { write_slot(t, b) }; atomic { write_top(t + 1) }
					:: atomic { write_top(t + 1) }; atomic { write_slot(t, b) }
					fi
				:: else ->
					atomic {
						!locked;
						settle();
						if
						:: top < SLOTS -> t = top; write_slot(t, b); write_top(t + 1)
						:: else -> assert(!given[b]); given[b] = true
						fi
					}
				fi
			fi
		fi;
		atomic { t = 0; e = 0; b = 0; closed = false }
	:: calls == CALLS -> break
	od;
	owner_done = true
}

inline barrier() {
#ifndef NO_BARRIER
	atomic { arrive(); empty0 = empty2; empty1 = empty2; closed0 = closed2; closed1 = closed2 }
#else
	skip
#endif
}

inline write_empty(v) {
	empty0 = empty1; empty1 = empty2; empty2 = v
}

inline close_way(v) {
	closed0 = closed1; closed1 = closed2; closed2 = v
}

active proctype drainer() {
	byte t, first, end_, i, value, n, drains;
	bool passed;
	byte early[SLOTS];
	do
	:: drains < DRAINS ->
		drains++;
		atomic { !locked -> locked = true };
		atomic { first = empty2; t = seen_top };
		if
		:: t > first + 1 ->
#ifndef WAY_OPEN
			atomic { close_way(true) };
#endif
			atomic { write_empty(t - SPARED); drain = true; begun = true; begun_at = first; locked = false };
			if
			:: barrier(); passed = true
			:: passed = false /* the kernel does not offer it */
			fi;
#ifdef WEAK
#ifdef ONE_BARRIER
			/* Some slots were read before the top is. */
			n = 0;
			do
			:: n < SLOTS -> early[n] = seen_slot[n]; n++
			:: break
			od;
			do :: n < SLOTS -> early[n] = 0; n++ :: else -> break od;
#endif
#endif
			atomic { !locked -> locked = true };
			if
			:: passed && drain && begun ->
				t = seen_top;
				end_ = (t >= SPARED -> t - SPARED : 0);
#ifdef NO_REREAD
				end_ = empty2;
#endif
#ifndef NO_BOUND
				if :: end_ > empty2 -> end_ = empty2 :: else fi;
#endif
				if :: end_ < first -> end_ = first :: else fi;
				atomic { write_empty(end_) }
			:: else
			fi;
			atomic { locked = false };
#ifdef WEAK
#ifndef ONE_BARRIER
			if :: passed -> barrier() :: else fi;
#endif
#endif
			atomic { !locked -> locked = true };
			if
			:: drain && begun ->
				if :: passed -> end_ = empty2 :: else -> end_ = first; atomic { write_empty(first) } fi;
				n = first;
				do
				:: n < end_ ->
					atomic {
						value = seen_slot[n];
#ifdef WEAK
#ifdef ONE_BARRIER
						if :: early[n] != 0 -> value = early[n] :: else fi;
#endif
#endif
						assert(value != 0 && !given[value] && !held[value]);
						given[value] = true;
						n++
					}
				:: else -> break
				od;
#ifndef NO_NONE
				if :: end_ > first -> atomic { slot[end_ - 1] = NONE; seen_slot[end_ - 1] = NONE } :: else fi
#else
				skip
#endif
			:: else
			fi;
			atomic { if :: drain -> close_way(false); drain = false; begun = false :: else fi }
		:: else
		fi;
		atomic { locked = false; t = 0; first = 0; end_ = 0; n = 0; value = 0; passed = false }
	:: drains == DRAINS -> break
	od;
	drainer_done = true
}

/* In the end every block is in one place. */
active proctype verdict() {
	byte b, i, places;
	atomic {
		owner_done && drainer_done;
		assert(top >= empty2 && !closed2);
		b = 1;
		do
		:: b <= BLOCKS ->
			places = held[b] + given[b];
			i = empty2;
			do
			:: i < top -> if :: slot[i] == b -> places++ :: else fi; i++
			:: else -> break
			od;
			assert(places == 1);
			b++
		:: else -> break
		od
	}
}
