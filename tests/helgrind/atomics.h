/* Included before everything else in what helgrind runs, library and stress programs alike: helgrind knows pthreads, but
 * neither C11's atomics nor locks that are made of them. Here they say what the language says: what a thread did before it
 * released happens before what another one does after it acquired. So our lock needs no words of its own, and one that
 * released with too weak an order would be found.
 *
 * Helgrind takes an atomic exchange for a read, so that is what a store becomes: atomics do not race among each other. */
#ifndef HELGRIND_ATOMICS_H
#define HELGRIND_ATOMICS_H

#include <sched.h>
#include <stdatomic.h>
#include <valgrind/helgrind.h>

/* Threads run one at a time, for so long that most of what they do would be in order by chance. */
static inline void let_others_run(void) {
	static __thread unsigned turns;
	if (++turns % 4 == 0) sched_yield();
}

#define ORDER_RELEASES(order) \
	((order) == memory_order_release || (order) == memory_order_acq_rel || (order) == memory_order_seq_cst)
#define ORDER_ACQUIRES(order) \
	((order) == memory_order_acquire || (order) == memory_order_acq_rel || (order) == memory_order_seq_cst)

#define BEFORE_ATOMIC(at, order) \
	do { \
		let_others_run(); \
		if (ORDER_RELEASES(order)) ANNOTATE_HAPPENS_BEFORE(at); \
	} while (0)
#define AFTER_ATOMIC(at, order) \
	do { \
		if (ORDER_ACQUIRES(order)) ANNOTATE_HAPPENS_AFTER(at); \
	} while (0)

/* The comma drops _Atomic from the type. */
#define PLAIN_TYPE(object) __typeof__((void)0, object)

#undef atomic_load_explicit
#define atomic_load_explicit(object, order) \
	__extension__({ \
		__auto_type load_at = (object); \
		PLAIN_TYPE(*load_at) loaded; \
		__atomic_load(load_at, &loaded, order); \
		AFTER_ATOMIC(load_at, order); \
		loaded; \
	})

#undef atomic_exchange_explicit
#define atomic_exchange_explicit(object, value, order) \
	__extension__({ \
		__auto_type exchange_at = (object); \
		PLAIN_TYPE(*exchange_at) exchange_in = (value), exchange_out; \
		BEFORE_ATOMIC(exchange_at, order); \
		__atomic_exchange(exchange_at, &exchange_in, &exchange_out, order); \
		AFTER_ATOMIC(exchange_at, order); \
		exchange_out; \
	})

#undef atomic_store_explicit
#define atomic_store_explicit(object, value, order) \
	__extension__({ \
		__auto_type store_at = (object); \
		PLAIN_TYPE(*store_at) store_in = (value), store_out; \
		BEFORE_ATOMIC(store_at, order); \
		__atomic_exchange(store_at, &store_in, &store_out, order); \
		(void)store_out; \
	})

#define ATOMIC_COMPARE_EXCHANGE(object, expected, desired, weak, success, failure) \
	__extension__({ \
		__auto_type compare_at = (object); \
		__auto_type compare_with = (expected); \
		PLAIN_TYPE(*compare_at) compare_in = (desired); \
		BEFORE_ATOMIC(compare_at, success); \
		bool exchanged = __atomic_compare_exchange(compare_at, compare_with, &compare_in, weak, success, failure); \
		if (exchanged) \
			AFTER_ATOMIC(compare_at, success); \
		else \
			AFTER_ATOMIC(compare_at, failure); \
		exchanged; \
	})
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#define atomic_compare_exchange_strong_explicit(object, expected, desired, success, failure) \
	ATOMIC_COMPARE_EXCHANGE(object, expected, desired, 0, success, failure)
#define atomic_compare_exchange_weak_explicit(object, expected, desired, success, failure) \
	ATOMIC_COMPARE_EXCHANGE(object, expected, desired, 1, success, failure)

#define ATOMIC_FETCH(operation, object, operand, order) \
	__extension__({ \
		__auto_type fetch_at = (object); \
		BEFORE_ATOMIC(fetch_at, order); \
		PLAIN_TYPE(*fetch_at) fetched = operation(fetch_at, operand, order); \
		AFTER_ATOMIC(fetch_at, order); \
		fetched; \
	})
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#define atomic_fetch_add_explicit(object, operand, order) ATOMIC_FETCH(__atomic_fetch_add, object, operand, order)
#define atomic_fetch_sub_explicit(object, operand, order) ATOMIC_FETCH(__atomic_fetch_sub, object, operand, order)
#define atomic_fetch_or_explicit(object, operand, order) ATOMIC_FETCH(__atomic_fetch_or, object, operand, order)
#define atomic_fetch_and_explicit(object, operand, order) ATOMIC_FETCH(__atomic_fetch_and, object, operand, order)

/* Those without an order name the strongest one. */
#undef atomic_load
#undef atomic_store
#undef atomic_exchange
#undef atomic_compare_exchange_strong
#undef atomic_fetch_add
#undef atomic_fetch_or
#define atomic_load(object) atomic_load_explicit(object, memory_order_seq_cst)
#define atomic_store(object, value) atomic_store_explicit(object, value, memory_order_seq_cst)
#define atomic_exchange(object, value) atomic_exchange_explicit(object, value, memory_order_seq_cst)
#define atomic_compare_exchange_strong(object, expected, desired) \
	atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_seq_cst, memory_order_seq_cst)
#define atomic_fetch_add(object, operand) atomic_fetch_add_explicit(object, operand, memory_order_seq_cst)
#define atomic_fetch_or(object, operand) atomic_fetch_or_explicit(object, operand, memory_order_seq_cst)

#endif
