/* Kept runs (src/cache/runs.h): a lock that is biased to the thread whose cache it is. The owner keeps and takes runs, CALLS times,
 * without a lock where the way is open, and opens it in its slow path. The drainer takes all of them, DRAINS times, if it finds the
 * owner outside. It has the lock to begin, and to end after the barrier, but not in between: an owner that takes it meanwhile calls the
 * drain off. No run may be in two places or get lost, and what the drainer finds must be whole.
 *
 * Memory. Each change of the list is two stores (`kept`, a bit for each run, and `count`), of which the drainer wants to see both or none.
 * What the owner writes reaches the drainer late: in order as on x86-64, or, with -DWEAK, in any order, but that the fence in run_leave
 * has all before it arrive first. What the drainer writes to `limit` reaches the owner late: it may read any value since the last
 * barrier. The barrier ends both, wherever the owner is.
 *
 * Deliberately wrong variants, which the test wants to see fail:
 *   NO_BARRIER   the drainer does not wait for the owner
 *   NO_TURN      ... does not look whether the owner is inside
 *   NO_CHECK     ... does not ask whether the owner called the drain off
 *   LOOK_BEFORE  the owner looks whether the way is open before it says that it is inside
 *   NO_FENCE     with WEAK: the owner leaves without a fence */
#define RUNS 2
#ifndef CALLS
#define CALLS 4
#endif
#ifndef DRAINS
#define DRAINS 2
#endif

#define BIT(r) (1 << (r))

#ifdef NO_CHECK
#define STILL_BEGUN true
#else
#define STILL_BEGUN begun
#endif

/* The owner's own view. */
byte kept, count;
bool inside;
bool held[RUNS] = true;    /* by the program */
/* What the drainer sees of it. */
byte seen_kept, seen_count;
bool seen_inside;
#ifndef WEAK
chan stores = [8] of { byte, byte }; /* place (0: kept, 1: count, 2: inside), value: on their way to memory */
#endif
bool open0, open1, open2;  /* values of the way that the owner may read, newest last */

bool given[RUNS];          /* to the page heap */
bool locked;               /* the cache's lock */
bool begun;                /* a drain */
bool owner_done, drainer_done;

inline write_kept(v) {
	kept = v;
#ifndef WEAK
	stores ! 0, kept
#endif
}

inline write_count(v) {
	count = v;
#ifndef WEAK
	stores ! 1, count
#endif
}

inline write_inside(v) {
	inside = v;
#ifndef WEAK
	stores ! 2, inside
#endif
}

inline arrive() {
#ifdef WEAK
	seen_kept = kept; seen_count = count; seen_inside = inside
#else
	do
	:: nempty(stores) ->
		stores ? place, value;
		if :: place == 0 -> seen_kept = value :: place == 1 -> seen_count = value :: else -> seen_inside = value fi
	:: empty(stores) -> break
	od;
	place = 0; value = 0
#endif
}

/* A process that stands for the way to memory. */
active proctype memory() {
	byte place, value;
end:
	do
#ifdef WEAK
	:: atomic { seen_kept != kept -> seen_kept = kept }
	:: atomic { seen_count != count -> seen_count = count }
	:: atomic { seen_inside != inside -> seen_inside = inside }
#else
	:: atomic {
		stores ? place, value;
		if :: place == 0 -> seen_kept = value :: place == 1 -> seen_count = value :: else -> seen_inside = value fi;
		place = 0; value = 0
	}
#endif
	od
}

inline write_open(v) { open0 = open1; open1 = open2; open2 = v }

/* Under the lock, everything is known to both. */
inline slow_keep(r) {
	atomic {
		!locked;
		arrive();
		begun = false;
		open2 = true; open1 = true; open0 = true;
		kept = kept | BIT(r); count++; seen_kept = kept; seen_count = count
	}
}

inline read_open() {
	if :: open = open0 :: open = open1 :: open = open2 fi
}

inline leave() {
#if defined(WEAK) && !defined(NO_FENCE)
	atomic { seen_kept = kept; seen_count = count };
#endif
	atomic { write_inside(false) }
}

active proctype owner() {
	byte calls, r, place, value;
	bool open, done;
	do
	:: calls < CALLS ->
		calls++;
#ifdef LOOK_BEFORE
		atomic { read_open() };
#endif
		atomic { write_inside(true) };
#ifndef LOOK_BEFORE
		atomic { read_open() };
#endif
		if
		:: open && count > 0 -> /* malloc */
			r = (kept & 1 -> 0 : 1);
			atomic { write_kept(kept & ~BIT(r)) };
			atomic { write_count(count - 1) };
			leave();
			atomic { assert(!held[r] && !given[r]); held[r] = true }
		:: open && (held[0] || held[1]) -> /* free */
			atomic { r = (held[0] -> 0 : 1); held[r] = false };
			atomic { write_kept(kept | BIT(r)) };
			atomic { write_count(count + 1) };
			leave()
		:: !open ->
			leave();
			if
			:: atomic { held[0] || held[1] -> r = (held[0] -> 0 : 1); held[r] = false }; slow_keep(r)
			:: else
			fi
		:: else -> leave()
		fi;
		atomic { r = 0; open = false }
	:: calls == CALLS -> break
	od;
	owner_done = true
}

active proctype drainer() {
	byte drains, place, value, r, n;
	bool passed, found_inside;
	do
	:: drains < DRAINS ->
		drains++;
		atomic { !locked -> locked = true };
		if
		:: open2 ->
			atomic { write_open(false); begun = true; locked = false };
			if
#ifndef NO_BARRIER
			:: atomic { arrive(); open0 = open2; open1 = open2; passed = true }
#else
			:: passed = true
#endif
			:: passed = false /* the kernel does not offer it */
			fi;
			atomic { !locked -> locked = true };
#ifdef NO_TURN
			found_inside = false;
#else
			found_inside = seen_inside;
#endif
			if
			:: STILL_BEGUN ->
				if
				:: passed && !found_inside ->
					n = 0;
					r = 0;
					do
					:: r < RUNS ->
						atomic {
							if
							:: seen_kept & BIT(r) -> assert(!held[r] && !given[r]); given[r] = true; n++
							:: else
							fi;
							r++
						}
					:: else -> break
					od;
					assert(n == seen_count);
					atomic { kept = 0; count = 0; seen_kept = 0; seen_count = 0 }
				:: else -> atomic { write_open(true) }
				fi;
				begun = false
			:: else
			fi
		:: else
		fi;
		atomic { locked = false; r = 0; n = 0; passed = false; found_inside = false }
	:: drains == DRAINS -> break
	od;
	drainer_done = true
}

/* In the end every run is in one place. */
active proctype verdict() {
	byte r, places;
	atomic {
		owner_done && drainer_done;
		r = 0;
		do
		:: r < RUNS ->
			places = held[r] + given[r] + ((kept >> r) & 1);
			assert(places == 1);
			r++
		:: else -> break
		od
	}
}
