#include "base/limits.h"

#include <string.h>

#include "base/conf.h"
#include "base/os.h"
#include "base/print.h"

/* What a limit of cgroup v1 says when there is none is near 2^63. */
#define NO_LIMIT ((int64_t)1 << 60)

/* Of the list of mounts, so many bytes are looked at: it may have thousands, and the groups' are among the
 * first. */
#define MOUNTS_READ (64 * KIB)

static char text[8192];
static char file_path[sizeof((struct cgroup *)0)->path + 64];

static size_t read_file(const char *directory, const char *name, size_t offset) {
	size_t length = print_text(file_path, sizeof file_path, "%s/%s", directory, name);
	if (length >= sizeof file_path - 1) return 0; /* cut short, perhaps */
	return os_read_file(file_path, offset, text, sizeof text);
}

/* What the kernel says of this process. The first thread has ended, perhaps: then "self" is empty, or in the
 * group "/". */
static const char *const own_places[] = { "proc/thread-self", "proc/self" };

static size_t read_own(const char *prefix, const char *name) {
	static char directory[sizeof file_path];
	size_t length = 0;
	for (size_t i = 0; i < 2 && length == 0; i++) {
		print_text(directory, sizeof directory, "%s/%s", prefix, own_places[i]);
		length = read_file(directory, name, 0);
	}
	return length;
}

static bool read_number(const char *directory, const char *name, int64_t *value) {
	return read_file(directory, name, 0) > 0 && conf_parse(text, strcspn(text, "\n"), value) && *value >= 0;
}

/* The number behind "KEY " at the start of a line of `text`. */
static size_t number_of(const char *key) {
	const size_t length = strlen(key);
	for (const char *line = text; *line != 0; line += *line == '\n') {
		int64_t value;
		if (strncmp(line, key, length) == 0 && line[length] == ' ' &&
		    conf_parse(line + length + 1, strcspn(line + length + 1, "\n"), &value) && value >= 0)
			return (size_t)value;
		line += strcspn(line, "\n");
	}
	return 0;
}

/* ---- which group ---- */

/* Is `word` one of the words of a list with commas? */
static bool is_listed(const char *list, size_t length, const char *word) {
	const char *end = list + length;
	while (list < end) {
		const char *comma = memchr(list, ',', (size_t)(end - list)), *stop = comma != NULL ? comma : end;
		if ((size_t)(stop - list) == strlen(word) && memcmp(list, word, strlen(word)) == 0) return true;
		list = stop + 1;
	}
	return false;
}

/* The file "cgroup", each line "NUMBER:CONTROLLERS:PATH": the path of the v1 group for memory, or of the v2
 * group, which has no controllers there. Both may exist, and memory is where v1 has it. Empty when there is
 * neither. */
static void read_own_path(const char *prefix, char *path, size_t size, bool *v1) {
	path[0] = 0;
	if (read_own(prefix, "cgroup") == 0) return;
	*v1 = false;
	for (char *line = text, *end; (end = strchr(line, '\n')) != NULL && !*v1; line = end + 1) {
		*end = 0;
		char *controllers = strchr(line, ':'),
		     *own = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
		if (own == NULL || own[1] != '/' || strlen(own + 1) >= size) continue;
		*v1 = is_listed(controllers + 1, (size_t)(own - controllers - 1), "memory");
		if (*v1 || strncmp(line, "0::", 3) == 0) strcpy(path, own + 1);
	}
}

/* Spaces and the like are \040 in mountinfo. */
static void decode(char *field) {
	char *to = field;
	for (const char *from = field; *from != 0; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' &&
		    from[3] >= '0' && from[3] <= '7') {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + from[3] - '0');
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = 0;
}

/* What follows `root` in `path`, when the path lies in it. */
static const char *below(const char *path, const char *root) {
	size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (strncmp(path, root, length) != 0 || (path[length] != 0 && path[length] != '/')) return NULL;
	/* "/..": the group lies outside of our namespace */
	return strstr(path, "/..") != NULL ? NULL : path + length;
}

/* Takes the mount of one line of mountinfo, "ID PARENT DEVICE ROOT POINT OPTIONS [OPTIONAL...] - TYPE SOURCE
 * OPTIONS", if it is one of such groups. True when the own group lies in it. In a container that has its
 * group bound to the mount point, and sees the path that the host does, it may not: the mount point is the
 * group then. */
static bool take_mount(char *line, const char *own, const char *prefix, struct cgroup *group) {
	char *fields[6] = { line }, *rest = strstr(line, " - ");
	if (rest == NULL) return false;
	*rest = 0;
	for (int i = 1; i < 6; i++) {
		if ((fields[i] = strchr(fields[i - 1], ' ')) == NULL) return false;
		*fields[i]++ = 0;
	}
	char *type = rest + 3, *source = strchr(type, ' '),
	     *options = source != NULL ? strchr(source + 1, ' ') : NULL;
	if (options == NULL) return false;
	*source = 0;
	if (strcmp(type, group->v1 ? "cgroup" : "cgroup2") != 0) return false;
	if (group->v1 && !is_listed(options + 1, strlen(options + 1), "memory")) return false;
	decode(fields[3]);
	decode(fields[4]);
	const char *inside = below(own, fields[3]);
	if (inside == NULL && group->path[0] != 0) return false;
	if (inside != NULL && strcmp(inside, "/") == 0) inside = "";
	size_t length = print_text(group->path, sizeof group->path, "%s%s", prefix, fields[4]);
	group->mount_length = length;
	length +=
	    print_text(group->path + length, sizeof group->path - length, "%s", inside != NULL ? inside : "");
	if (length >= sizeof group->path - 1) group->path[0] = 0;
	return inside != NULL && group->path[0] != 0;
}

static bool has_file(const char *directory, const char *name) {
	return print_text(file_path, sizeof file_path, "%s/%s", directory, name) < sizeof file_path - 1 &&
	       os_file_exists(file_path);
}

/* Where groups are mounted nearly everywhere: is there one of this path, with this file? Then the list of
 * mounts, which may be long, need not be read. */
static bool is_in_usual_place(const char *own, const char *file, const char *prefix, struct cgroup *group) {
	const char *point = group->v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup",
	           *inside = strcmp(own, "/") == 0 ? "" : own;
	group->mount_length = print_text(group->path, sizeof group->path, "%s%s", prefix, point);
	const size_t length = print_text(group->path, sizeof group->path, "%s%s%s", prefix, point, inside);
	if (length < sizeof group->path - 1 && strstr(own, "/..") == NULL && has_file(group->path, file))
		return true;
	group->path[0] = 0;
	return false;
}

/* Reads the list of mounts once, from its start on: the kernel makes all of it anew for whoever begins in its
 * middle. */
static void find_mount(int file, const char *own, const char *prefix, struct cgroup *group) {
	size_t kept = 0; /* bytes of a line that has begun */
	bool found = false, inside_a_line = false;
	for (size_t all = 0; !found && all < MOUNTS_READ;) {
		const size_t length = os_read(file, text + kept, sizeof text - kept);
		if (length == 0) return;
		all += length;
		kept += length;
		char *line = text, *end;
		for (; !found && (end = memchr(line, '\n', (size_t)(text + kept - line))) != NULL; line = end + 1) {
			*end = 0;
			found = !inside_a_line && take_mount(line, own, prefix, group);
			inside_a_line = false;
		}
		kept -= (size_t)(line - text);
		memmove(text, line, kept);
		if (kept + 1 < sizeof text) continue;
		/* One that is longer than all of the buffer is skipped. */
		inside_a_line = true;
		kept = 0;
	}
}

void limits_find_cgroup(struct cgroup *group, const char *prefix) {
	static char own[sizeof group->path];
	group->path[0] = 0;
	read_own_path(prefix, own, sizeof own, &group->v1);
	if (own[0] == 0) return;
	if (is_in_usual_place(own, group->v1 ? "memory.limit_in_bytes" : "cgroup.controllers", prefix, group))
		return;
	int file = -1;
	for (size_t i = 0; i < 2 && file < 0; i++) {
		const size_t length =
		    print_text(file_path, sizeof file_path, "%s/%s/mountinfo", prefix, own_places[i]);
		if (length < sizeof file_path - 1) file = os_open_file(file_path);
	}
	if (file < 0) return;
	find_mount(file, own, prefix, group);
	os_close(file);
}

void limits_find_container(struct cgroup *group, const char *prefix) {
	group->v1 = false;
	/* The system's root group has no limit, nor this file. */
	if (!is_in_usual_place("/", "memory.max", prefix, group)) limits_find_cgroup(group, prefix);
}

/* ---- how much is left ---- */

static struct headroom tighter(struct headroom a, struct headroom b) { return b.left < a.left ? b : a; }

static struct headroom headroom_of(const char *directory, bool v1) {
	struct headroom h = { SIZE_MAX, SIZE_MAX };
	int64_t limit = INT64_MAX, high, used;
	if (!read_number(directory, v1 ? "memory.limit_in_bytes" : "memory.max", &limit)) limit = INT64_MAX;
	/* Above memory.high nobody is killed, but everybody waits. */
	if (!v1 && read_number(directory, "memory.high", &high) && high < limit) limit = high;
	if (limit >= NO_LIMIT || !read_number(directory, v1 ? "memory.usage_in_bytes" : "memory.current", &used))
		return h;
	/* The file with the details costs the kernel most, and is of interest only when not much is left. */
	if (used > limit / 2 && read_file(directory, "memory.stat", 0) > 0) {
		size_t idle_files = number_of(v1 ? "total_inactive_file" : "inactive_file");
		used -= (int64_t)min_size(idle_files, (size_t)used);
	}
	h.limit = (size_t)limit;
	h.left = used < limit ? (size_t)(limit - used) : 0;
	return h;
}

struct headroom limits_headroom(const struct cgroup *group) {
	static char directory[sizeof group->path];
	struct headroom least = { SIZE_MAX, SIZE_MAX };
	if (group->path[0] == 0) return least;
	strcpy(directory, group->path);
	for (;;) {
		least = tighter(least, headroom_of(directory, group->v1));
		char *slash = strrchr(directory, '/');
		if (slash == NULL || (size_t)(slash - directory) < group->mount_length) return least;
		*slash = 0;
	}
}

/* ---- the process, and the system ---- */

size_t limits_resident(const char *prefix) {
	int64_t pages;
	/* "TOTAL RESIDENT ...", in pages */
	if (read_own(prefix, "statm") == 0) return 0;
	const char *resident = strchr(text, ' ');
	if (resident == NULL || !conf_parse(resident + 1, strcspn(resident + 1, " \n"), &pages) || pages < 0)
		return 0;
	return (size_t)pages * os_page_size;
}

unsigned limits_stalled(const struct cgroup *group, const char *prefix) {
	static const char start[] = "some avg10=";
	bool known = group->path[0] != 0 && !group->v1 && read_file(group->path, "memory.pressure", 0) > 0;
	if (!known && read_file(prefix, "proc/pressure/memory", 0) == 0) return 0;
	int64_t per_cent;
	if (strncmp(text, start, sizeof start - 1) != 0) return 0;
	const char *number = text + sizeof start - 1;
	return conf_parse(number, strcspn(number, "."), &per_cent) && per_cent >= 0 && per_cent <= 100
	           ? (unsigned)per_cent
	           : 0;
}
