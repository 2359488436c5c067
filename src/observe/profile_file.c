/* The files that the heap profile goes to: at exit (ARENAL_PROFILE_FILE), and before that, if it is asked for
 * (profile_time.h).
 *
 * It may be in a directory where everybody writes, under a name that everybody can guess, and the process may
 * be root's. So no link is followed, no pipe and no device is written to, and only the owner can read it. It
 * is written aside and gets its name as a whole: a disk that is full, or a process that is killed, leaves
 * what was there before. The process's own descriptors are written to by their names in /dev, whatever they
 * are. Under a filter of system calls, a new file is written in place.
 *
 * Of those in time, profile_keep are kept, whose names have a number: one that is nobody's, or else that of
 * the oldest plain file of the process's user. So it is also after a restart, where the process may have the
 * same number: what an earlier one has left is replaced only when it is the oldest. Such a file has no name
 * while it is written, where the file system can do that: a process that is killed meanwhile leaves none. */
#include <errno.h>
#include <string.h>

#include "base/conf.h"
#include "base/error_text.h"
#include "base/lock.h"
#include "base/print.h"
#include "base/sandbox.h"
#include "observe/profile.h"

/* Where the process was at its start: relative names begin there, wherever it has gone since. "": not
 * known. */
static char start[CONF_PATH_MAX];

/* Containers and services have filters of system calls that somebody else set, which let files be renamed. */
static bool filtered_at_start;

void profile_file_start(void) {
	const char *name = conf_files.profile_file;
	if (name[0] != 0) filtered_at_start = os_is_filtered();
	if (name[0] == 0 || name[0] == '/' || start[0] != 0) return;
	if (!os_directory(start, sizeof start)) start[0] = 0;
}

/* Of "/dev/stderr", "/dev/stdout" and "/dev/fd/NUMBER"; -1: of another name. */
static int descriptor_of(const char *name) {
	int64_t number;
	if (strcmp(name, "/dev/stdout") == 0) return 1;
	if (strcmp(name, "/dev/stderr") == 0) return 2;
	if (strncmp(name, "/dev/fd/", 8) != 0) return -1;
	return conf_parse(name + 8, strlen(name + 8), &number) && number >= 0 && number <= INT32_MAX ? (int)number
	                                                                                             : -1;
}

/* Who writes at exit and who writes in time may do so at once. */
struct names {
	char name[2 * CONF_PATH_MAX];
	char aside[2 * CONF_PATH_MAX + 64];
};

/* A full name; in the pattern, "%p" stands for the process, and "%n" for the number. False: it is too
 * long. */
static bool file_name(char *name, size_t size, const char *pattern, int number) {
	size_t length = pattern[0] != '/' && start[0] != 0 ? print_text(name, size, "%s/", start) : 0;
	for (const char *p = pattern; *p != 0 && length + 16 < size; p++) {
		if (p[0] == '%' && (p[1] == 'p' || p[1] == 'n')) {
			length += print_text(name + length, size - length, "%d", p[1] == 'p' ? os_process_id() : number);
			p++;
		} else {
			name[length++] = *p;
		}
	}
	name[min_size(length, size - 1)] = 0;
	return length + 16 < size;
}

static bool has_number(const char *pattern) { return strstr(pattern, "%n") != NULL; }

/* The name of this number; one that has no place in the pattern goes behind it. */
static bool numbered_name(struct names *n, int number) {
	const char *pattern = conf_files.profile_file;
	if (!file_name(n->name, sizeof n->name, pattern, number)) return false;
	const size_t length = strlen(n->name);
	if (!has_number(pattern)) print_text(n->name + length, sizeof n->name - length, ".%d", number);
	return true;
}

/* The name that is nobody's, or of the oldest file. Returns 0 or an errno. */
static int choose_name(struct names *n) {
	int oldest = 0;
	uint64_t oldest_date = UINT64_MAX;
	for (int i = 1; i <= (int)conf.profile_keep && oldest_date != 0; i++) {
		if (!numbered_name(n, i)) return ENAMETOOLONG;
		const uint64_t date = os_own_file_date(n->name);
		if (date >= oldest_date) continue;
		oldest = i;
		oldest_date = date;
	}
	if (oldest == 0) return EEXIST;
	numbered_name(n, oldest);
	return 0;
}

/* The length of the folder's name with its slash. */
static int folder_length(const char *name) {
	const char *slash = strrchr(name, '/');
	return slash != NULL ? (int)(slash + 1 - name) : 0;
}

/* A name beside it that nobody can guess. */
static void name_aside(struct names *n) {
	print_text(n->aside, sizeof n->aside, "%.*s.arenal-%016lx", folder_length(n->name), n->name, os_random());
}

static int dump_and_close(int file) {
	const int error = profile_dump_within(file, os_file_limit()), late_error = os_close(file);
	return error != 0 ? error : late_error;
}

/* Under a filter of system calls, which may kill for any that the program does not make itself: nothing is
 * replaced, and nothing that failed is removed. The tools say that such a file is cut short. */
static int write_in_place(const char *name) {
	const int file = os_create_file(name);
	return file < 0 ? -file : dump_and_close(file);
}

static int write_aside(struct names *n) {
	int error = os_may_replace(n->name);
	if (error != 0) return error;
	name_aside(n);
	const int file = os_create_file(n->aside);
	if (file < 0) return -file;
	error = dump_and_close(file);
	if (error == 0) error = os_rename_file(n->aside, n->name);
	if (error != 0) os_remove_file(n->aside);
	return error;
}

/* -1: the file system, or the system, has no files without a name, or none can be named here. */
static int write_unnamed(struct names *n) {
	print_text(n->aside, sizeof n->aside, "%.*s.", folder_length(n->name), n->name);
	const int file = os_create_unnamed(n->aside);
	if (file < 0) return -1;
	int error = profile_dump_within(file, os_file_limit());
	if (error == 0) error = os_may_replace(n->name);
	if (error == 0) {
		os_remove_file(n->name);
		if (os_name_file(file, n->name) != 0) error = -1;
	}
	const int late_error = os_close(file);
	return error != 0 ? error : late_error;
}

static bool may_replace(bool filtered) { return !filtered || (filtered_at_start && !sandbox_is_on()); }

static int write_to(struct names *n, bool filtered) {
	const int descriptor = descriptor_of(n->name);
	if (descriptor >= 0) return profile_dump(descriptor);
	const int error = filtered ? write_in_place(n->name) : EEXIST;
	return error == EEXIST && may_replace(filtered) ? write_aside(n) : error;
}

static void complain(const char *name, int error, bool filtered) {
	const char *why = error != EEXIST ? error_text(error)
	                  : filtered      ? "Under a filter of system calls, what is there is not replaced"
	                                  : "It is a link, or no plain file";
	print_fd(2, "arenal: the heap profile could not be written (%s): %s\n", why, name);
}

void profile_file_write(void) {
	static struct names n;
	const bool filtered = os_is_filtered();
	int error = 0;
	if (has_number(conf_files.profile_file) && may_replace(filtered))
		error = choose_name(&n);
	else if (!file_name(n.name, sizeof n.name, conf_files.profile_file, 0))
		error = ENAMETOOLONG;
	if (error == 0) error = write_to(&n, filtered);
	if (error != 0) complain(n.name, error, filtered);
}

/* Under a filter that the program has set, nothing is written in time: this thread may have it, too. */
static int write_next(struct names *n) {
	if (descriptor_of(conf_files.profile_file) >= 0) return EINVAL;
	if (!may_replace(os_is_filtered())) return EPERM;
	int error = choose_name(n);
	if (error == 0) error = write_unnamed(n);
	return error == -1 ? write_aside(n) : error;
}

void profile_file_write_next(void) {
	static struct names n;
	static int said; /* the error that was told last */
	if (conf_files.profile_file[0] == 0) return;
	const int error = write_next(&n);
	if (error != 0 && error != said)
		complain(n.name[0] != 0 ? n.name : conf_files.profile_file, error, false);
	said = error;
}
