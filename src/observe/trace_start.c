/* The trace's file is made, and recording turned on and off: from the start of the process, or while it runs.
 *
 * While it runs, nobody may touch what threads have (tcache_current). So they are led to their slow paths,
 * where each hides its own cache, as those do from the start that are recorded from the start. In this order:
 * 1. The traced front serves, and records nothing (trace_stopped).
 * 2. No size and no address leads to a magazine any more (tcache_lead).
 * 3. Calls are recorded.
 * Invariant: a block that was recorded as allocated is not freed by a call that is not recorded. Whoever
 * frees it has got it after 3, so his call begins after 2, and takes its slow path. The readers rely on it,
 * for its address would be handed out twice (tools.trace_running).
 *
 * Off: trace_stopped is set, and threads bring their caches to light. Somebody may be in the middle of a
 * record, by which the file stays whole; before anything that he uses is changed, he is waited for. */
#include <errno.h>
#include <string.h>

#include "base/print.h"
#include "cache/hooks.h"
#include "cache/tcache.h"
#include "harden/action.h"
#include "observe/trace_clock.h"
#include "observe/trace_end.h"
#include "observe/trace_inner.h"

/* The file is made as long as it may ever get, ten thousand million calls. What nobody wrote to takes no
 * room. */
#define FILE_MAX (64 * GIB)
#define FILE_MIN (16 * TRACE_CHUNK)

#define IDLE_PATIENCE 1000 /* milliseconds that those have who are in the middle of a record */

/* Of a trace that began while the process ran. Owner: one of our own threads, but for `starting`. */
static struct {
	uint64_t began, ended, until; /* milliseconds; ended: 0, it has not; until: 0, for ever */
	uint64_t bytes;               /* and state: when it had ended */
	uint32_t state;
	bool mends;           /* faults in the file are looked after, since the first trace */
	_Atomic int starting; /* the process that is just about to lead threads away; or 0 */
} running;

/* ---- the file ---- */

/* The name as given; the process's number behind it when there is such a file already, and one more
 * number. */
static int create(void **address) {
	char given[sizeof trace_path];
	size_t length = 0;
	if (conf_files.trace_file[0] != '/' && os_directory(given, CONF_PATH_MAX)) {
		length = strlen(given);
		given[length++] = '/';
	}
	print_text(given + length, sizeof given - length, "%s", conf_files.trace_file);
	int result = EEXIST;
	for (unsigned attempt = 0; attempt < 100 && result == EEXIST; attempt++) {
		size_t end = print_text(trace_path, sizeof trace_path, "%s", given);
		if (attempt > 0) end += print_text(trace_path + end, sizeof trace_path - end, ".%d", os_process_id());
		if (attempt > 1) print_text(trace_path + end, sizeof trace_path - end, ".%u", attempt);
		result = os_create_mapped(trace_path, FILE_MAX, FILE_MIN, &trace_file, address);
	}
	return result;
}

/* Why there is no file, for people. */
static const char *what_is_wrong(int error) {
	static char why[96];
	switch (error) {
	case EACCES:
	case EPERM:
	case EROFS: return "it may not be made there";
	case ENOENT:
	case ENOTDIR: return "there is no such directory";
	case EEXIST: return "there are too many files of this name";
	case ENOSPC:
	case EDQUOT: return "there is no room for it, or the kernel is older than 5.14";
	case ENODEV:
	case EINVAL: return "files cannot be mapped and shared there";
	case EFBIG:
	case ENOMEM: return "there is no address space for it, or files may not be long (ulimit -v, ulimit -f)";
	case ENOSYS: return "the kernel is too old";
	default: print_text(why, sizeof why, "it cannot be made (error %d)", error); return why;
	}
}

/* Its first page, and what of ours writes to it. Returns 0 or an errno: there is no file then. */
static int begin_file(void *address) {
	const size_t size = ALIGN_UP(sizeof *trace_shared, os_page_size);
	int wrong = 0;
	if (trace_shared == NULL) {
		struct trace_shared *made = os_map(size, os_page_size);
		if (made == NULL) {
			wrong = ENOMEM;
		} else if (!os_wipe_on_fork(made, size)) {
			os_unmap(made, size);
			wrong = ENOSYS;
		} else {
			trace_shared = made;
		}
	}
	trace_header = address;
	if (wrong == 0) trace_shared->opened = 0;
	if (wrong == 0 && (!trace_open_up(TRACE_CHUNK) || !os_back_file(trace_header, TRACE_CHUNK)))
		wrong = ENOSPC;
	if (wrong != 0) {
		const int fd = os_lock_file(trace_path, &trace_file);
		if (fd >= 0) os_cut_file(fd, 0);
		os_remove_file(trace_path);
		trace_header = NULL;
		os_unmap(address, trace_file.size);
	}
	return wrong;
}

static void compare_clocks(void) {
	trace_header->later_stamp = trace_now();
	trace_header->later_ns = os_nanoseconds();
}

static void fill_header(void) {
	trace_clock_choose();
	memcpy(trace_header->magic, TRACE_MAGIC, sizeof trace_header->magic);
	trace_header->version = TRACE_VERSION;
	trace_header->chunk_size = TRACE_CHUNK;
	trace_header->pid = (uint32_t)os_process_id();
	trace_header->date = os_date();
	trace_header->stamp = trace_now();
	trace_header->ns = os_nanoseconds();
	trace_header->held = trace_end_expect(trace_path, &trace_file, trace_header, &trace_shared->latest);
	__atomic_store_n(&trace_header->chunks, 1, __ATOMIC_RELEASE);
	compare_clocks();
	atomic_store(&cache_hooks.end_attached, trace_end_writer);
}

/* ---- from the start ---- */

bool trace_begin(void) {
	void *address = NULL;
	int error = create(&address);
	if (error == 0) error = begin_file(address);
	if (error != 0) {
		print_fd(2, "arenal: calls are not recorded in %s: %s\n", conf_files.trace_file,
		         what_is_wrong(error));
		conf_files.trace_file[0] = 0;
		return false;
	}
	fill_header();
	os_thread_name(trace_header->name);
	running.began = os_milliseconds();
	return true;
}

void trace_late_start(bool stays) {
	trace_end_expect_exit(stays);
	if (trace_header == NULL) return;
	compare_clocks();
	action_install_mending(trace_mend);
	running.mends = true;
}

/* ---- in a process that runs. Owner: one of our own threads ---- */

/* A process that was forked in the middle has nobody who goes on with it. */
COLD void trace_lead_again(void) {
	if (!tcache_is_led_away()) return;
	const int starting = atomic_load(&running.starting);
	if (starting == 0 || starting != os_process_id()) tcache_lead(true);
}

static bool is_idle(void) {
	if (atomic_load(&trace_shared->late_users) != 0) return false;
	const size_t used = min_size(atomic_load(&trace_writers_used), TRACE_WRITERS);
	for (size_t i = 0; i < used; i++)
		if (atomic_load(&trace_shared->writers[i].busy)) return false;
	return true;
}

/* When recording was stopped: nobody writes any more. False: somebody does, who was himself stopped in the
 * middle. */
static bool await_idle(void) {
	/* Without the barrier, the stores of the others have at least time to be seen. */
	if (!os_barrier_in_all_threads()) os_pause(1000);
	const uint64_t until = os_milliseconds() + IDLE_PATIENCE;
	while (!is_idle()) {
		if (os_milliseconds() > until) return false;
		os_pause(100);
	}
	return true;
}

static void note_state(void) {
	const uint64_t chunks = __atomic_load_n(&trace_header->chunks, __ATOMIC_RELAXED);
	running.bytes = min_size(chunks * TRACE_CHUNK, trace_file.size);
	running.state = trace_header->state;
}

/* Lets go of the file of before, which nobody writes to. False: the process is just calling exit. */
static bool forget(void) {
	struct trace_header *header = trace_header;
	note_state();
	if (!trace_end_let_go()) return false;
	trace_header = NULL;
	os_unmap(header, trace_file.size);
	const size_t used = min_size(atomic_load(&trace_writers_used), TRACE_WRITERS);
	for (size_t i = 0; i < used; i++) {
		struct trace_writer *w = &trace_shared->writers[i];
		w->at = w->limit = NULL;
		w->thread = 0;
	}
	trace_shared->late.at = trace_shared->late.limit = NULL;
	atomic_store(&trace_shared->latest, NULL);
	return true;
}

static bool is_on(void) { return trace_header != NULL && !atomic_load(&trace_stopped); }

static void put_name(void) {
	char name[TRACE_NAME + 1];
	os_read_file("/proc/self/comm", 0, name, sizeof name);
	for (size_t i = 0; i < TRACE_NAME - 1 && name[i] != 0 && name[i] != '\n'; i++)
		trace_header->name[i] = name[i];
}

int trace_open(const char *path, uint64_t most, uint64_t milliseconds) {
	if (is_on()) return EBUSY;
	if (trace_header == NULL) atomic_store(&trace_stopped, true);
	if (!trace_take_front()) return EOPNOTSUPP;
	if (trace_header != NULL && !(await_idle() && forget())) return EBUSY;
	void *address = NULL;
	const size_t length = print_text(trace_path, sizeof trace_path, "%s", path);
	if (length + 1 >= sizeof trace_path) return ENAMETOOLONG;
	const size_t size = min_size(ALIGN_DOWN(most, TRACE_CHUNK), FILE_MAX);
	if (size < FILE_MIN) return EINVAL;
	int error = os_create_mapped(trace_path, size, FILE_MIN, &trace_file, &address);
	if (error == 0) error = begin_file(address);
	if (error != 0) {
		trace_path[0] = 0;
		return error;
	}
	fill_header();
	put_name();
	trace_header->late = 1;
	if (!running.mends) action_install_mending(trace_mend);
	running.mends = true;
	running.began = os_milliseconds();
	running.until = milliseconds > 0 ? running.began + milliseconds : 0;
	running.ended = 0;

	atomic_store(&running.starting, os_process_id());
	tcache_lead(false);
	atomic_store(&trace_stopped, false);
	tcache_hide_running();
	atomic_store(&running.starting, 0);
	return 0;
}

int trace_close(void) {
	if (trace_header == NULL) return EALREADY;
	running.until = 0;
	if (running.ended == 0) running.ended = os_milliseconds();
	const bool stopped = trace_stop_for(TRACE_STOPPED);
	tcache_lead(true);
	const bool mine = trace_header->pid == (uint32_t)os_process_id();
	if (stopped && mine && os_back_file(trace_header, os_page_size)) {
		compare_clocks();
		trace_header->state = TRACE_STOPPED;
	}
	if (await_idle()) forget();
	return stopped ? 0 : EALREADY;
}

void trace_state_get(struct trace_state_now *now) {
	*now = (struct trace_state_now){ .path = trace_path, .is_on = is_on(), .was_on = trace_path[0] != 0 };
	if (trace_header != NULL) note_state();
	if (!now->is_on && running.ended == 0) running.ended = os_milliseconds(); /* about then, by itself */
	now->bytes = running.bytes;
	now->state = running.state;
	now->milliseconds = (running.ended != 0 ? running.ended : os_milliseconds()) - running.began;
	now->left = trace_time_left();
}

uint64_t trace_time_left(void) {
	if (running.until == 0 || !is_on()) return 0;
	const uint64_t now = os_milliseconds();
	return running.until > now ? running.until - now : 1;
}

void trace_close_in_time(void) {
	if (running.until != 0 && is_on() && os_milliseconds() >= running.until) trace_close();
}
