/* The file that the heap profile goes to at exit (ARENAL_PROFILE_FILE).
 *
 * It may be in a directory where everybody writes, under a name that everybody can guess, and the process may be root's. So no link is
 * followed, no pipe and no device is written to, and only the owner can read it. It is written aside and gets its name as a whole: a disk
 * that is full, or a process that is killed, leaves what was there before. The process's own descriptors are written to by their names
 * in /dev, whatever they are. */
#include <errno.h>
#include <string.h>

#include "base/conf.h"
#include "base/lock.h"
#include "base/print.h"
#include "observe/profile.h"

/* Where the process was at its start: relative names begin there, wherever it has gone since. "": not known. */
static char start[CONF_PATH_MAX];

void profile_file_start(void) {
	const char *name = conf_files.profile_file;
	if (name[0] == 0 || name[0] == '/' || start[0] != 0) return;
	if (!os_directory(start, sizeof start)) start[0] = 0;
}

/* Of "/dev/stderr", "/dev/stdout" and "/dev/fd/NUMBER"; -1: of another name. */
static int descriptor_of(const char *name) {
	int64_t number;
	if (strcmp(name, "/dev/stdout") == 0) return 1;
	if (strcmp(name, "/dev/stderr") == 0) return 2;
	if (strncmp(name, "/dev/fd/", 8) != 0) return -1;
	return conf_parse(name + 8, strlen(name + 8), &number) && number >= 0 && number <= INT32_MAX ? (int)number : -1;
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
	print_text(aside, size, "%.*s.arenal-%016lx", slash != NULL ? (int)(slash + 1 - name) : 0, name, os_random());
}

static int write_file(const char *name) {
	static char aside[2 * CONF_PATH_MAX + 64];
	int error = os_may_replace(name);
	if (error != 0) return error;
	name_aside(aside, sizeof aside, name);
	const int file = os_create_file(aside);
	if (file < 0) return -file;
	error = profile_dump_within(file, os_file_limit());
	const int late_error = os_close(file);
	if (error == 0) error = late_error;
	if (error == 0) error = os_rename_file(aside, name);
	if (error != 0) os_remove_file(aside);
	return error;
}

static int write_to(const char *name) {
	const int descriptor = descriptor_of(name);
	return descriptor >= 0 ? profile_dump(descriptor) : write_file(name);
}

void profile_file_write(void) {
	static char name[2 * CONF_PATH_MAX];
	const int error = file_name(name, sizeof name, conf_files.profile_file) ? write_to(name) : ENAMETOOLONG;
	if (error == 0) return;
	const char *why = error == EEXIST ? "It is a link, or no plain file" : strerrordesc_np(error);
	print_fd(2, "arenal: the heap profile could not be written (%s): %s\n", why, name);
}
