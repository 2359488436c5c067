#include "base/process.h"

#include "base/os.h"

/* Before anybody watches, nothing is wrong in a child. */
static _Atomic uint32_t nobody_watches[2] = { 1, 1 };

/* Where the kernel does not wipe (before 4.14), process IDs are compared each time. */
static _Atomic uint32_t unsure[2] = { 0, 1 };
static _Atomic int watcher;

_Atomic(_Atomic uint32_t *) process_word = nobody_watches;

void process_watch(void) {
	if (atomic_load(&process_word) != nobody_watches) return;
	_Atomic uint32_t *page = os_map(os_page_size, os_page_size), *expected = nobody_watches;
	atomic_store(&watcher, os_process_id());
	if (page != NULL && !os_wipe_on_fork((void *)page, os_page_size)) {
		os_unmap((void *)page, os_page_size);
		page = NULL;
	}
	for (int i = 0; page != NULL && i < 2; i++) atomic_store(page + i, 1);
	/* Two threads may come here at once. */
	if (!atomic_compare_exchange_strong(&process_word, &expected, page != NULL ? page : unsure) &&
	    page != NULL)
		os_unmap((void *)page, os_page_size);
}

bool process_was_wiped(void) {
	const _Atomic uint32_t *word = atomic_load(&process_word);
	return word != unsure && atomic_load(word) == 0;
}

bool process_is_new(void) {
	_Atomic uint32_t *word = atomic_load(&process_word);
	uint32_t wiped = 0;
	if (word == unsure) {
		const int own = os_process_id();
		if (atomic_load(&watcher) == own || atomic_exchange(&watcher, own) == own) return false;
		process_set_secrets(false);
		return true;
	}
	return atomic_load(word) == 0 && atomic_compare_exchange_strong(word, &wiped, 1);
}

void process_after_fork(void) { process_is_new(); }

void process_set_secrets(bool has) { atomic_store(atomic_load(&process_word) + 1, has); }
