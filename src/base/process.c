#include "base/process.h"

#include "base/os.h"

/* Before anybody watches, nothing is wrong in a child. */
static _Atomic uint32_t nobody_watches = 1;

/* Where the kernel does not wipe (before 4.14), process IDs are compared each time. */
static _Atomic uint32_t unsure;
static _Atomic int watcher;

_Atomic(_Atomic uint32_t *) process_word = &nobody_watches;

void process_watch(void) {
	if (atomic_load(&process_word) != &nobody_watches) return;
	_Atomic uint32_t *page = os_map(os_page_size, os_page_size), *expected = &nobody_watches;
	atomic_store(&watcher, os_process_id());
	if (page != NULL && !os_wipe_on_fork((void *)page, os_page_size)) {
		os_unmap((void *)page, os_page_size);
		page = NULL;
	}
	if (page != NULL) atomic_store(page, 1);
	/* Two threads may come here at once. */
	if (!atomic_compare_exchange_strong(&process_word, &expected, page != NULL ? page : &unsure) && page != NULL)
		os_unmap((void *)page, os_page_size);
}

bool process_was_wiped(void) {
	const _Atomic uint32_t *word = atomic_load(&process_word);
	return word != &unsure && atomic_load(word) == 0;
}

bool process_is_new(void) {
	_Atomic uint32_t *word = atomic_load(&process_word);
	uint32_t wiped = 0;
	if (word == &unsure) {
		const int own = os_process_id();
		return atomic_load(&watcher) != own && atomic_exchange(&watcher, own) != own;
	}
	return atomic_load(word) == 0 && atomic_compare_exchange_strong(word, &wiped, 1);
}

void process_after_fork(void) { process_is_new(); }
