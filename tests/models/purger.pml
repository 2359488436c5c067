/* The sleep and the wake of the background thread (src/cache/purger.c). Two threads free memory and poke; the purger looks,
 * falls asleep, is woken, or ends when it has slept long enough. When everybody is quiet, nothing that was freed is left
 * for a thread that will not look again.
 *
 * What was freed is guarded by locks, so the order of a look and of a free is that of their critical sections. The poke
 * reads the state without a barrier: at any moment after its thread took that lock.
 *
 * Deliberately wrong variants, which the test wants to see fail:
 *   NO_SECOND_LOOK  the purger does not look once more after it said that it is asleep
 *   END_UNASKED     after a sleep of a minute it ends without looking whether it was poked meanwhile
 *   NO_RETRY        a poke that meets a purger which ends at that moment is content */
#define FREERS 2
#define FREES 2

mtype = { OFF, ASLEEP, AWAKE };
mtype state = OFF;
bool purged_in_background;
bool sleeping;   /* in the kernel */
byte left;       /* freed, and not given back yet */
bool locked;

inline look(found) {
	atomic { !locked; found = left > 0; left = 0 }
}

inline off() {
	purged_in_background = false;
	state = OFF
}

proctype purger() {
	bool found, on = true;
	bool off_already = false;
	do
	:: on ->
		look(found);
		if
		:: found
		:: !found ->
			if
			:: skip /* sleep_until_poked */
				state = ASLEEP;
#ifndef NO_SECOND_LOOK
				look(found);
#endif
				if
				:: found -> state = AWAKE
				:: else ->
					atomic { if :: state == ASLEEP -> sleeping = true :: else fi };
					if
					:: !sleeping
					:: atomic { sleeping -> sleeping = false } /* long enough */
					fi;
					if
					:: state == AWAKE
					:: else ->
#ifdef END_UNASKED
						on = false
#else
						purged_in_background = false;
						if
						:: atomic { state == ASLEEP -> state = OFF }; on = false; off_already = true
						:: else -> purged_in_background = true
						fi
#endif
					fi
				fi
			fi
		fi;
		found = false
	:: else -> break
	od;
	if
	:: off_already
	:: else -> off()
	fi
}

active [FREERS] proctype freer() {
	byte frees;
	mtype read;
	bool was_asleep;
	do
	:: frees < FREES ->
		frees++;
		atomic { !locked -> locked = true };
		if
		:: read = state; left++; locked = false
		:: left++; locked = false; read = state
		fi;
		/* purger_wake */
		if
		:: read == AWAKE
		:: else ->
			atomic { read = state; was_asleep = read == ASLEEP };
			if
			:: read == ASLEEP ->
				if
				:: atomic { state == ASLEEP -> state = AWAKE }; sleeping = false; read = AWAKE
				:: atomic { state != ASLEEP -> read = state }
				fi
			:: else
			fi;
#ifdef NO_RETRY
			if :: was_asleep -> read = AWAKE :: else fi;
#endif
			if
			:: read == OFF ->
				if
				:: atomic { state == OFF -> state = AWAKE }; purged_in_background = true; run purger()
				:: else
				fi
			:: else
			fi
		fi
	:: else -> break
	od
}

/* Nothing can happen any more. */
active proctype verdict() {
	timeout;
	assert(left == 0);
	assert(state != AWAKE);
	assert(purged_in_background == false)
}
