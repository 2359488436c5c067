/* The search for a block in the magazine of a thread that is at work (`holds` in src/cache/search.c): what is found there must be
 * free. The owner takes block X out, hands it over to the searcher, and goes on with malloc and free of other blocks. The searcher, who
 * is about to free X, looks for it.
 *
 * Memory. Only the owner writes `top` and the slots, without a lock. What it wrote before it handed X over, the searcher sees.
 * What it writes later arrives late: in order as on x86-64, or, with -DWEAK, in any order, as on AArch64. The barrier ends that,
 * wherever the owner is at that moment.
 *
 * A deliberately wrong variant, which the test wants to see fail:
 *   NO_RECHECK   with WEAK: the searcher does not look at the slot once more behind a barrier */
#define SLOTS 2
#define X 1
#ifndef CALLS
#define CALLS 4
#endif

/* The owner's own view: two free blocks, X on top. */
byte top = 2;
byte slot[SLOTS];
/* What the searcher sees of it. */
byte seen_top = 2;
byte seen_slot[SLOTS];
#ifndef WEAK
chan stores = [12] of { byte, byte }; /* place, value: on their way to memory; place SLOTS is the top */
#endif
bool ready, handed_over, owner_done, found;

inline write_slot(i, b) {
	slot[i] = b;
#ifndef WEAK
	stores ! i, slot[i]
#endif
}

inline write_top(t) {
	top = t;
#ifndef WEAK
	stores ! SLOTS, top
#endif
}

/* All that the owner wrote so far is seen. */
inline arrive() {
#ifdef WEAK
	seen_top = top;
	seen_slot[0] = slot[0];
	seen_slot[1] = slot[1]
#else
	do
	:: nempty(stores) -> stores ? place, value; if :: place == SLOTS -> seen_top = value :: else -> seen_slot[place] = value fi
	:: empty(stores) -> break
	od
#endif
}

/* A process that stands for the way to memory. */
active proctype memory() {
	byte place, value;
end:
	do
#ifdef WEAK
	:: seen_top = top
	:: seen_slot[0] = slot[0]
	:: seen_slot[1] = slot[1]
	:: owner_done -> break
#else
	:: atomic { nempty(stores) -> stores ? place, value; if :: place == SLOTS -> seen_top = value :: else -> seen_slot[place] = value fi }
	:: owner_done && empty(stores) -> break
#endif
	od
}

active proctype owner() {
	byte calls, place, value, mine = 0, other = 3;
	atomic { slot[0] = 2; slot[1] = X; seen_slot[0] = 2; seen_slot[1] = X; ready = true }
	write_top(1);                              /* malloc returns X */
	atomic { arrive(); handed_over = true }    /* and the program gives it to the other thread */
	do
	:: calls < CALLS && top > 0 -> write_top(top - 1); mine = slot[top]; calls++
	:: calls < CALLS && top < SLOTS -> /* a block of another span, or the one that it has */
		if :: mine != 0 -> value = mine; mine = 0 :: value = other; other++ fi;
		place = top;
		write_slot(place, value);
		write_top(top + 1);
		calls++
	:: break
	od;
	owner_done = true
}

active proctype searcher() {
	byte t, i, place, value;
	ready && handed_over;
	t = seen_top;
	i = 0;
	do
	:: i < t && !found ->
		if
		:: seen_slot[i] == X ->
#if defined(WEAK) && !defined(NO_RECHECK)
			atomic { arrive() };
			found = seen_slot[i] == X
#else
			found = true
#endif
		:: else
		fi;
		i++
	:: else -> break
	od;
	assert(!found)
}
