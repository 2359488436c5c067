/* The file that the heap profile goes to at exit (ARENAL_PROFILE_FILE).
 *
 * It may be in a directory where everybody writes, under a name that everybody can guess, and the process may
 * be root's. So no link is followed, no pipe and no device is written to, and only the owner can read it. It
 * is written aside and gets its name as a whole: a disk that is full, or a process that is killed, leaves
 * what was there before. The process's own descriptors are written to by their names in /dev, whatever they
 * are. Under a filter of system calls, a new file is written in place. */
#include <errno.h>
#include <string.h>

#include "base/conf.h"
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

/* A full name; "%p" in the pattern stands for the process. False: it is too long. */
static bool file_name(char *name, size_t size, const char *pattern) {
	size_t length = pattern[0] != '/' && start[0] != 0 ? print_text(name, size, "%s/", start) : 0;
	for (const char *p = pattern; *p != 0 && length + 16 < size; p++) {
		if (p[0] == '%' && p[1] == 'p') {
			length += print_text(name + length, size - length, "%d", os_process_id());
			p++;
		} else {
			name[length++] = *p;
		}
	}
	name[min_size(length, size - 1)] = 0;
	return length + 16 < size;
}

/* A name beside it that nobody can guess. */
static void name_aside(char *aside, size_t size, const char *name) {
	const char *slash = strrchr(name, '/');
	print_text(aside, size, "%.*s.arenal-%016lx", slash != NULL ? (int)(slash + 1 - name) : 0, name,
	           os_random());
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

static int write_aside(const char *name) {
	static char aside[2 * CONF_PATH_MAX + 64];
	int error = os_may_replace(name);
	if (error != 0) return error;
	name_aside(aside, sizeof aside, name);
	const int file = os_create_file(aside);
	if (file < 0) return -file;
	error = dump_and_close(file);
	if (error == 0) error = os_rename_file(aside, name);
	if (error != 0) os_remove_file(aside);
	return error;
}

static int write_to(const char *name, bool filtered) {
	const int descriptor = descriptor_of(name);
	if (descriptor >= 0) return profile_dump(descriptor);
	const int error = filtered ? write_in_place(name) : EEXIST;
	return error == EEXIST && (!filtered || (filtered_at_start && !sandbox_is_on())) ? write_aside(name)
	                                                                                 : error;
}

void profile_file_write(void) {
	static char name[2 * CONF_PATH_MAX];
	const bool filtered = os_is_filtered();
	const int error =
	    file_name(name, sizeof name, conf_files.profile_file) ? write_to(name, filtered) : ENAMETOOLONG;
	if (error == 0) return;
	const char *why = error != EEXIST ? strerrordesc_np(error)
	                  : filtered      ? "Under a filter of system calls, what is there is not replaced"
	                                  : "It is a link, or no plain file";
	print_fd(2, "arenal: the heap profile could not be written (%s): %s\n", why, name);
}
