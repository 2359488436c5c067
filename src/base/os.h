/* The only door to the kernel: every system call of ours is in the files below, but for a signal mask in
 * the assembly of observe/door.c. Functions that fail return false, NULL or a negative errno and leave
 * errno alone. */
#ifndef BASE_OS_H
#define BASE_OS_H

#include <signal.h>
#include <stdatomic.h>

#include "base/base.h"
#include "base/conf.h"
#include "base/times.h"

/* ---- the start and end, the clock (os.c) ---- */

/* The kernel's page size in bytes, known after os_init(). */
extern size_t os_page_size;

void os_init(void);

/* The name of the program's file as it was executed; "" when that is not known. */
const char *os_program(void);

/* True in set-uid programs and the like, where the environment belongs to somebody we must not trust. */
bool os_is_secure(void);

/* The environment, NULL when libc has not found it yet. */
char **os_environ(void);

/* Milliseconds of a clock that never goes back; cheap, some milliseconds coarse. */
uint64_t os_milliseconds(void);

/* Nanoseconds of CLOCK_MONOTONIC, and since 1970. */
uint64_t os_nanoseconds(void);

/* The same, for what is timed only to be counted. 0: the program has locked itself in, and might be ended for
 * asking, since there are clocks that the kernel's function makes a system call for. */
uint64_t os_stopwatch(void);
/* What began then is over: its time is counted, if there was a clock to ask at both moments. */
static inline void os_stopwatch_ends(uint64_t begin, struct times *times) {
	const uint64_t now = begin != 0 ? os_stopwatch() : 0;
	if (now != 0) times_add(times, now - begin);
}
uint64_t os_date(void);

/* Nanoseconds of processor time that the process's threads took so far, those that ended too, but for the
 * calling one. Exact to some microseconds, by which it may go back. 0: the kernel does not tell, or a filter
 * of system calls refuses. For threads of our own: two system calls. */
uint64_t os_processor_time_of_others(void);

/* The NUMA node of the CPU that the calling thread runs on at this moment; 0 where the kernel tells it by a
 * system call only (AArch64). Some ten nanoseconds. */
unsigned os_node(void);

/* A call of the program's, through a function that is ours and libc's (api/advice.c): returns what libc's
 * would, with errno. */
long os_pass(long call, long a, long b, long c, long d, long e, long f);

_Noreturn void os_abort(void);

/* ---- what has an answer in a sandbox, too (sandbox.c) ---- */

/* What os_enter_sandbox makes the last word is asked for now: before a filter may forbid it. */
void os_expect_sandbox(void);

/* From now on, the kernel is asked for nothing that glibc's malloc does not ask for (base/sandbox.h): what
 * is known by now counts. Of files, nothing can be read any more; numbers that nobody can guess come from
 * earlier ones. */
void os_enter_sandbox(void);

/* In both processes, after a fork, first of all. */
void os_after_fork(bool in_child);

/* The address-space limit of the process in bytes, SIZE_MAX when there is none. */
size_t os_address_space_limit(void);

/* Bits that an attacker cannot guess, as far as the kernel has such. */
uint64_t os_random(void);

/* How long files of the process may be: who writes more gets a signal that ends him. SIZE_MAX: as they
 * like. */
size_t os_file_limit(void);

/* Is there a filter of system calls, set by the process or before its start, that may end it for one that
 * few make? */
bool os_is_filtered(void);

/* In a sandbox: a number that this process shares with its parent only if it is a child by vfork or clone. */
int os_process_id(void);

/* ---- memory (os_memory.c) ---- */

/* Maps `size` bytes (a multiple of the page size) of zeroed memory, aligned to `align` (a power of two).
 * NULL when the kernel refuses. */
void *os_map(size_t size, size_t align);
void os_unmap(void *address, size_t size);

/* Unmaps, or does nothing: false when it would make one mapping two, and there may be no more
 * (vm.max_map_count). */
bool os_try_unmap(void *address, size_t size);

/* Names whole pages of ours in /proc/PID/maps: "[anon:arenal: heap]". What the kernel maps anew in their
 * place (os_decommit) has none again. Does nothing unless the tunable `names` is set, nor in a sandbox, nor
 * where the kernel has no names (before Linux 5.17, or built without). */
enum os_name {
	NAME_HEAP,    /* regions; the break's memory is "[heap]" without us */
	NAME_HUGE,    /* blocks that are mappings */
	NAME_GUARDED, /* the pool of guarded blocks */
	NAME_RECORDS,
};
void os_name_pages(void *address, size_t size, enum os_name name);
static inline void os_name(void *address, size_t size, enum os_name name) {
	if (unlikely(conf.names != 0)) os_name_pages(address, size, name);
}

/* As os_map, for our own records: between two inaccessible pages, or else accessible ones. */
void *os_map_guarded(size_t size);

/* Makes whole pages inaccessible; what is in them stays. False when the kernel refuses: they stay
 * accessible. */
bool os_guard(void *address, size_t size);

/* Reserves address space that reads as zero, counts against no commit limit, and is left out of core
 * dumps; os_commit makes a part writable. */
void *os_reserve_zero(size_t size);
bool os_commit(void *address, size_t size);

/* Reserves address space that nobody may touch, aligned to `align`; os_commit makes a part readable and
 * writable. */
void *os_reserve(size_t size, size_t align);

/* As os_map (`accessible`), os_reserve and os_reserve_zero, at this address. False when something is there
 * already, or the kernel refuses. */
bool os_map_at(void *address, size_t size, bool accessible);
bool os_reserve_zero_at(void *address, size_t size);

/* Takes the memory behind committed pages back, and closes them. */
enum decommit {
	DECOMMIT_REFUSED, /* they stay accessible, and what they hold is unknown */
	DECOMMIT_DIRTY,   /* nobody may touch them, but what they hold is unknown */
	DECOMMITTED,      /* nobody may touch them, and they read as zero when they are committed again */
};
enum decommit os_decommit(void *address, size_t size);

/* Grows or shrinks a mapping; moves it when `may_move`. Returns where it is now, NULL when refused
 * (nothing changed). */
void *os_remap(void *address, size_t old_size, size_t new_size, bool may_move);

/* Moves a mapping to a place that was reserved: what is there is replaced. Nothing is mapped at the old
 * place afterwards. */
bool os_remap_to(void *address, size_t old_size, size_t new_size, void *to);

/* Gives the memory behind the pages back to the kernel: at once, and they read as zero afterwards; or,
 * when told so and where it is offered, lazily: each page reads as before or as zero, and stays in memory,
 * until the kernel needs it. */
enum purge {
	PURGE_REFUSED, /* some of the pages may be gone nevertheless: what they hold is unknown */
	PURGED_LAZILY,
	PURGED,
};
enum purge os_purge(void *address, size_t size, bool lazily);

/* Of all threads since the start: how often that gave memory back, and how long each call took, refusals
 * included. */
extern struct os_purges {
	_Atomic uint64_t count;
	struct times times;
} os_purges;

/* Makes pages that somebody uses read as zero by giving their memory back; they get other memory as they
 * are touched. False when that cannot be done so: what they hold is unknown. Locked memory stays: who
 * locks it wants no page faults. */
bool os_clear(void *address, size_t size);

/* Asks for transparent huge pages behind the range, or declines them. False when the kernel has none. */
bool os_advise_huge(void *address, size_t size, bool wanted);

/* The break now, and a change of it by `delta` bytes. os_brk_move returns the old break, or NULL when
 * refused. */
void *os_brk(void);
void *os_brk_move(intptr_t delta);

/* Can the four bytes at the address, a multiple of four, be read? It is the kernel that tries: nothing
 * faults. False also where it must not be asked. */
bool os_is_readable(const void *address);

/* Copies memory of the process's own that may be inaccessible, gone in a moment, or a file that was cut:
 * false then, and what was copied is unknown; nothing faults. False also where the kernel must not be
 * asked. */
bool os_copy_memory(void *to, uintptr_t from, size_t size);

/* The same for several pieces, one behind the other, where the kernel may be asked: not in a sandbox, nor
 * under a filter. `count`: 128 at most. */
struct os_piece {
	uintptr_t from;
	size_t size;
};
bool os_copy_pieces(void *to, const struct os_piece *pieces, size_t count);

/* Does the system give huge pages to those who did not ask for them? Opens a file. */
bool os_thp_always(void);

/* Bytes of [address, address + size) that are backed by memory now. */
size_t os_resident(void *address, size_t size);

/* The most bytes that the process has had in memory, or more. */
size_t os_peak_resident(void);

/* Backs pages of a mapped file with memory, and what they hold with room in its file system. False when
 * that, or the kernel (before 5.14), refuses: to touch one would end the process. */
bool os_back_file(void *address, size_t size);

/* Puts zeroed memory of the process's own in the place of pages of a mapped file, for who writes to them
 * at this moment. */
bool os_replace_file(void *address, size_t size);

/* The child of a fork finds zeros there. False: the kernel (before 4.14) does not do that. */
bool os_wipe_on_fork(void *address, size_t size);

/* ---- files and pipes (os_file.c) ---- */

/* Writes all of it. Returns 0 or the errno: EFBIG, without a signal, where a file is as long as it may be
 * (RLIMIT_FSIZE), but in a sandbox. */
int os_write(int fd, const char *text, size_t length);

/* Makes a new file that only its owner can read. Returns the descriptor, or the errno, negative: of EEXIST
 * also when the name is a link's. */
int os_create_file(const char *path);

/* Gives the file another name; what had that name before is gone. Returns 0 or the errno. */
int os_rename_file(const char *from, const char *to);

void os_remove_file(const char *path);

/* 0 when the name is nobody's, or a plain file's; the errno else: EISDIR, or EEXIST for what must not be
 * replaced: a link, a pipe, a device. */
int os_may_replace(const char *path);

/* Returns 0 or the errno: of a write, too, that failed only now. */
int os_close(int fd);

bool os_file_exists(const char *path);

/* When a plain file of the process's user was written to last, in nanoseconds since 1970. 0: there is nothing
 * of this name; UINT64_MAX: something else is. */
uint64_t os_own_file_date(const char *path);

/* Makes a new file in this folder that has no name, which only its owner can read: it is gone with its
 * descriptor, unless os_name_file gives it a name, which nobody has. Return the descriptor, or the errno,
 * negative; 0 or the errno. Not every file system does that, nor without /proc. */
int os_create_unnamed(const char *folder);
int os_name_file(int fd, const char *path);

/* Opens a file to read. A negative number when that is refused. */
int os_open_file(const char *path);

/* Opens the list of the process's mappings. A negative number where there is no /proc. */
int os_open_maps(void);

/* Reads on, and adds a zero behind the end of what was read, size - 1 bytes at most. Returns the bytes
 * read, 0 at the end. */
size_t os_read(int fd, char *text, size_t size);

/* Reads `size` bytes at this place of an open file. False when it has not so many there. */
bool os_read_at(int fd, void *to, size_t size, uint64_t offset);

/* Reads what the file has from `offset` on, size - 1 bytes at most, and adds a zero. Returns the bytes
 * read: 0 when there are none, or the file cannot be read. It is closed again: a program may close every
 * descriptor, or count them. */
size_t os_read_file(const char *path, size_t offset, char *text, size_t size);

/* Which file it is, whatever its name is by now. */
struct os_file {
	uint64_t device, number;
	size_t size;
};

/* Makes a file of `size` bytes, or as many as the process may (RLIMIT_FSIZE, RLIMIT_AS) but `least`,
 * without contents, that only its owner can read, and maps it, shared, inaccessible for now. Returns 0 or
 * the errno: EEXIST also when the name is a link's. */
int os_create_mapped(const char *path, size_t size, size_t least, struct os_file *file, void **address);

/* Holds that file, if it still has this name, until os_unmap of the page that is returned: this process
 * does, and so do children that it makes. The kernel lets go for those that end, however they do, or
 * execute a program. NULL when it is refused. */
void *os_hold_file(const char *path, const struct os_file *file);

/* Opens that file, if it still has this name, when nobody holds it; nobody can hold it until it is closed.
 * A negative number when that is refused. */
int os_lock_file(const char *path, const struct os_file *file);

/* Cuts the file to this size, and closes it. */
void os_cut_file(int fd, size_t size);

/* The directory that relative names start at. False when it has none, or a longer one. */
bool os_directory(char *path, size_t size);

/* What the name is a link to. False: it is none, or to something longer. */
bool os_read_link(const char *path, char *text, size_t size);

/* Gives the calling thread a table of descriptors of its own, with nothing in it. False on Linux before
 * 5.9. */
bool os_own_descriptors(void);

/* An empty file in memory of this name. Returns its descriptor, none of the first three; -1 when the
 * kernel refuses. */
int os_memory_file(const char *name);

/* A pipe whose ends never wait: ends[0] reads, ends[1] writes. They are none of the first three. False
 * when the kernel refuses. */
bool os_pipe(int ends[2]);

/* Waits until a pipe has room. False when it has none after so many milliseconds. */
bool os_wait_to_write(int fd, unsigned milliseconds);

/* Can a short text be written without waiting? False: nobody reads it now, or its reader has gone, so that a
 * signal would end the process. True where the kernel does not tell. */
bool os_takes_text(int fd);

/* A file in memory of this name, which nobody can make larger or smaller, mapped for reading and writing,
 * but not in the children of a fork. Its descriptor stays open; it is none of the first three. NULL when
 * the kernel refuses. */
void *os_map_file(const char *name, size_t size);

/* ---- threads (os_thread.c) ---- */

/* The kernel's number of the calling thread; -1 in a sandbox. */
int os_thread_id(void);

/* The name of the calling thread, 16 bytes with a zero. */
void os_thread_name(char *name);

/* Sleeps while *word == expected; wakes one sleeper. */
void os_futex_wait(uint32_t *word, uint32_t expected);
void os_futex_wake(uint32_t *word);
void os_futex_wake_all(uint32_t *word);

/* Sleeps while *word == expected, but for so many milliseconds at most. */
void os_futex_wait_for(uint32_t *word, uint32_t expected, uint64_t milliseconds);

/* Sleeps and wakes on words that other processes write to; 0 milliseconds: for as long as it takes. */
void os_futex_wait_shared(uint32_t *word, uint32_t expected, uint64_t milliseconds);
void os_futex_wake_shared(uint32_t *word);

/* False when there may be other threads. */
bool os_is_single_threaded(void);

/* Every other thread of the process passes a memory barrier before this returns. False when the kernel
 * does not offer that. */
bool os_barrier_in_all_threads(void);
/* Does it offer that? Asks the kernel. */
bool os_has_barrier(void);

/* Is the calling thread the only one left, while the first thread has ended? False when that cannot be
 * found out. */
bool os_is_last_thread(void);

/* The CPUs that the calling thread may run on, as the kernel's bytes. Returns how many bytes it has
 * written, or the errno, negative: EINVAL when there is no room for all CPUs. */
long os_affinity(unsigned char *set, size_t size);
bool os_set_affinity(const unsigned char *set, size_t size);

/* From now on, the calling thread is scheduled as the first one of the process, but with no real-time
 * policy, and with the usual precision of timers: a thread inherits these from the one that made it. */
void os_schedule_as_process(void);

/* Names the calling thread: others name it through a file of /proc, which needs a descriptor, and a /proc. */
void os_thread_rename(const char *name);

/* The kernel's numbers of all threads of the process, `room` of them at most. Returns how many are written; 0
 * where there is no /proc. Opens a file. */
size_t os_threads(int *ids, size_t room);

/* Sends a thread of the process a signal. False when it is refused. */
bool os_signal_thread(int id, int signal);

/* Has the process this thread? One that was joined may be there for a moment more. */
bool os_has_thread(int id);

/* The capabilities of a thread, 0: of the calling one, as the kernel has them: of the first 32, and of the
 * others. Returns 0 or the errno, negative. */
struct os_rights {
	uint32_t effective, permitted, inheritable;
};
long os_rights(int id, struct os_rights sets[2]);

/* Has this thread the capabilities that the calling one has, or is it not there any more? False also where
 * that cannot be asked. */
bool os_has_same_rights(int id);

/* Behind this, a thread that os_has_thread did not see any more is not counted by the kernel either. */
void os_pass_thread_list(void);

/* Lets others run for at least so many microseconds. */
void os_pause(unsigned microseconds);

/* ---- signals (os_signal.c) ---- */

/* Sets a signal's action and tells the earlier one; NULL: only tells, or sets without telling. */
bool os_signal_action(int signal, const struct sigaction *action, struct sigaction *earlier);

/* Ask for an action, and set it, as the kernel has it: libc's function adds flags, and what a handler
 * returns to, or leaves that out. */
bool os_signal_ask(int signal, struct sigaction *action);
bool os_signal_restore(int signal, const struct sigaction *action);

/* Changes which signals the calling thread gets, as pthread_sigmask. */
void os_signal_mask(int how, const sigset_t *set, sigset_t *earlier);

/* The signals that wait until the calling thread lets them through: bit 0 is signal 1. */
uint64_t os_pending_signals(void);

/* Sends the calling thread the signal that it has just got, with all that is known of it. */
void os_send_again(int signal, siginfo_t *info);

#endif
