/* base/limits: which cgroup, and how much is left, from trees of files as kernels and containers show them. */
#include "unit.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"

#define POINT "/sys/fs/cgroup"
#define NONE "9223372036854771712\n"

static char tree[] = "/tmp/arenal limits-XXXXXX";
static struct cgroup group;

/* Writes a file of the tree, and makes the directories above. */
static void put(const char *path, const char *content) {
	char name[4096];
	snprintf(name, sizeof name, "%s%s", tree, path);
	for (char *slash = name + strlen(tree); (slash = strchr(slash + 1, '/')) != NULL; *slash = '/') {
		*slash = 0;
		if (mkdir(name, 0755) != 0) assert_int_equal(errno, EEXIST);
	}
	FILE *file = fopen(name, "w");
	assert_non_null(file);
	fputs(content, file);
	assert_int_equal(fclose(file), 0);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
	(void)status, (void)type;
	return walk->level > 0 ? remove(path) : 0;
}

static int empty_tree(void **state) {
	(void)state;
	return nftw(tree, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void own(const char *cgroup, const char *mountinfo) {
	put("/proc/self/cgroup", cgroup);
	put("/proc/self/mountinfo", mountinfo);
	limits_find_cgroup(&group, tree);
}

static void expect_group(const char *path) {
	char name[2048] = "";
	if (path[0] != 0) snprintf(name, sizeof name, "%s%s", tree, path);
	assert_string_equal(group.path, name);
}

static void expect_left(size_t limit, size_t left) {
	struct headroom h = limits_headroom(&group);
	assert_int_equal(h.limit, limit);
	assert_int_equal(h.left, left);
}

#define V2 "30 1 0:26 / " POINT " rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1 "31 1 0:27 / " POINT "/memory rw shared:5 - cgroup cgroup rw,memory\n"
#define OTHER "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n25 22 0:5 / /proc rw shared:9 master:2 - proc proc rw\n"

static void v2_takes_max_and_high(void **state) {
	(void)state;
	own("0::/a/b\n", OTHER V2);
	expect_group(POINT "/a/b");
	put(POINT "/a/b/memory.current", "1000\n");
	expect_left(SIZE_MAX, SIZE_MAX);
	put(POINT "/a/b/memory.max", "max\n");
	put(POINT "/a/b/memory.high", "max\n");
	expect_left(SIZE_MAX, SIZE_MAX);
	put(POINT "/a/b/memory.max", "5000\n");
	expect_left(5000, 4000);
	put(POINT "/a/b/memory.high", "3000\n");
	expect_left(3000, 2000);
	put(POINT "/a/b/memory.high", "9000\n");
	expect_left(5000, 4000);
	put(POINT "/a/b/memory.current", "6000\n");
	expect_left(5000, 0);
}

static void groups_above_count(void **state) {
	(void)state;
	own("0::/a/b/c\n", V2);
	put(POINT "/a/b/c/memory.max", "5000\n");
	put(POINT "/a/b/c/memory.current", "1000\n");
	put(POINT "/a/memory.max", "20000\n");
	put(POINT "/a/memory.current", "18000\n");
	expect_left(20000, 2000);
	put(POINT "/a/memory.current", "10000\n");
	expect_left(5000, 4000);
	/* What lies above the mount is none of our groups. */
	put("/sys/fs/memory.max", "1\n");
	put("/sys/fs/memory.current", "1\n");
	expect_left(5000, 4000);
}

static void idle_files_are_not_counted(void **state) {
	(void)state;
	own("0::/a\n", V2);
	put(POINT "/a/memory.max", "5000\n");
	put(POINT "/a/memory.current", "4500\n");
	put(POINT "/a/memory.stat", "anon 9\ninactive_file_x 7\nxinactive_file 7\ninactive_file 1200\nactive_file 3\n");
	expect_left(5000, 1700);
	put(POINT "/a/memory.stat", "inactive_file 1200");
	expect_left(5000, 1700);
	put(POINT "/a/memory.stat", "inactive_file 99999\n");
	expect_left(5000, 5000);
}

static void v1_is_preferred_where_it_has_memory(void **state) {
	(void)state;
	const char *both = "9:cpu,cpuacct:/x\n4:hugetlb,memory:/a/b\n3:memoryless:/y\n0::/c\n";
	own(both, OTHER V2 "32 1 0:28 / " POINT "/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" V1);
	expect_group(POINT "/memory/a/b");
	put(POINT "/memory/a/b/memory.limit_in_bytes", NONE);
	put(POINT "/memory/a/b/memory.usage_in_bytes", "1000\n");
	expect_left(SIZE_MAX, SIZE_MAX);
	put(POINT "/memory/a/memory.limit_in_bytes", "8000\n");
	put(POINT "/memory/a/memory.usage_in_bytes", "7000\n");
	put(POINT "/memory/a/memory.stat", "inactive_file 6000\ntotal_inactive_file 500\n");
	expect_left(8000, 1500);
	/* Memory is with v2 when v1 has other controllers only. */
	own("9:cpu:/x\n0::/c\n", V1 V2);
	expect_group(POINT "/c");
}

static void containers(void **state) {
	(void)state;
	/* A namespace of its own. */
	own("0::/\n", V2);
	expect_group(POINT);
	/* Without: the path is the host's, and the group is bound to the mount point. */
	const char *bound = "31 1 0:27 /docker/1234 " POINT "/memory ro master:7 - cgroup cgroup rw,memory\n";
	own("4:memory:/docker/1234\n", bound);
	expect_group(POINT "/memory");
	own("4:memory:/docker/1234/inner\n", bound);
	expect_group(POINT "/memory/inner");
	/* A mount that the path does not lie in: what is there must be it. */
	own("4:memory:/docker/12345\n", bound);
	expect_group(POINT "/memory");
	/* Outside of the namespace. */
	own("0::/../other\n", V2);
	expect_group(POINT);
	/* Of several mounts, the one that the path lies in. */
	own("0::/docker/1/x\n", "30 1 0:26 /docker/2 /mnt rw - cgroup2 cgroup2 rw\n31 1 0:26 /docker/1 " POINT " rw - cgroup2 c rw\n");
	expect_group(POINT "/x");
	/* A path of the host under a mount of the namespace: what does not exist has no limit, what is above does. */
	own("0::/kubepods/pod7\n", V2);
	put(POINT "/memory.max", "100\n");
	put(POINT "/memory.current", "10\n");
	expect_left(100, 90);
	/* Names with spaces. */
	own("0::/my group\n", "30 1 0:26 / /mnt/my\\040groups rw - cgroup2 cgroup2 rw\n");
	expect_group("/mnt/my groups/my group");
}

/* What the kernel says of a process whose first thread has ended. */
static void after_the_first_thread(void **state) {
	(void)state;
	put("/proc/self/cgroup", "4:memory:/\n");
	put("/proc/self/mountinfo", "");
	put("/proc/self/statm", "0 0 0 0 0 0 0\n");
	put("/proc/thread-self/cgroup", "4:memory:/a\n");
	put("/proc/thread-self/mountinfo", V1);
	put("/proc/thread-self/statm", "1000 20 3 4 0 5 0\n");
	limits_find_cgroup(&group, tree);
	expect_group(POINT "/memory/a");
	assert_int_equal(limits_resident(tree), 20 * os_page_size);
}

/* At the start, in a container, nobody asks which group is the own one; elsewhere, it is looked for. */
static void containers_at_the_start(void **state) {
	(void)state;
	put("/proc/self/cgroup", "0::/a\n");
	put("/proc/self/mountinfo", V2);
	limits_find_container(&group, tree);
	expect_group(POINT "/a");
	put(POINT "/memory.max", "100\n");
	put(POINT "/memory.current", "10\n");
	limits_find_container(&group, tree);
	expect_group(POINT);
	expect_left(100, 90);
}

/* A group in its usual place is found without the list of mounts; one that is not there is not taken for one. */
static void usual_place(void **state) {
	(void)state;
	put(POINT "/a/b/cgroup.controllers", "memory\n");
	own("0::/a/b\n", "");
	expect_group(POINT "/a/b");
	own("0::/a/c\n", "");
	expect_group("");
	own("0::/a/../a/b\n", "");
	expect_group("");
	put(POINT "/memory/x/memory.limit_in_bytes", "7\n");
	own("3:memory:/x\n0::/a/b\n", "");
	expect_group(POINT "/memory/x");
}

/* The list is read once, and no more than 64 KiB of it, however long it is. */
static void very_many_mounts(void **state) {
	(void)state;
	static char lines[4 * 1024 * 1024];
	size_t length = 0;
	for (int i = 0; length < sizeof lines - 200; i++) {
		if (i == 500) length += (size_t)snprintf(lines + length, sizeof lines - length, V2);
		length += (size_t)snprintf(lines + length, sizeof lines - length, "%d 1 8:1 / /mnt/%d rw - ext4 /dev/sda rw\n", i, i);
	}
	own("0::/a\n", lines);
	expect_group(POINT "/a");
	/* Behind that: it is given up. */
	lines[0] = 'x';
	char *v2 = strstr(lines, V2);
	memset(v2, 'x', sizeof V2 - 2);
	strcpy(lines + sizeof lines - sizeof V2, V2);
	own("0::/a\n", lines);
	expect_group("");
}

static void long_and_broken_files(void **state) {
	(void)state;
	static char lines[100000], path[3000];
	size_t length = 0;
	/* Far behind the first part that is read, after lines that are longer than all of it. */
	for (int i = 0; i < 200; i++)
		length += (size_t)snprintf(lines + length, sizeof lines - length, "%d 1 8:1 / /mnt/%d rw - ext4 /dev/sda rw\n", i, i);
	length += (size_t)snprintf(lines + length, sizeof lines - length, "999 1 0:9 / /over rw - overlay overlay lowerdir=");
	memset(lines + length, 'x', 30000);
	length += 30000;
	/* The end of that line looks like one of ours. */
	strcpy(lines + length, "\n" V2);
	own("0::/a\n", lines);
	expect_group(POINT "/a");
	memset(path, 'p', sizeof path - 1);
	memcpy(path, "0::/", 4);
	path[sizeof path - 2] = '\n';
	own(path, V2);
	expect_group("");

	static const char *const broken_groups[] = { "", "\n", "0\n", "0:\n", "0::\n", "0::a\n", "0::/a", "x:y:z\n", "::/a\n" };
	for (size_t i = 0; i < sizeof broken_groups / sizeof *broken_groups; i++) {
		own(broken_groups[i], V2);
		expect_group("");
	}
	static const char *const broken_mounts[] = { "", "\n", " - \n", " - cgroup2\n", "30 - cgroup2 c rw\n", "a b c d - cgroup2 c rw\n",
		                                         "30 1 0:26 / /x rw - cgroup2\n", "30 1 0:26 / /x rw - cgroup2 c rw" };
	for (size_t i = 0; i < sizeof broken_mounts / sizeof *broken_mounts; i++) {
		own("0::/a\n", broken_mounts[i]);
		expect_group("");
		expect_left(SIZE_MAX, SIZE_MAX);
	}
	own("0::/a\n", V2);
	static const char *const broken_limits[] = { "", "\n", "-1\n", "x\n", "50 00\n", "99999999999999999999999\n" };
	put(POINT "/a/memory.current", "10\n");
	for (size_t i = 0; i < sizeof broken_limits / sizeof *broken_limits; i++) {
		put(POINT "/a/memory.max", broken_limits[i]);
		expect_left(SIZE_MAX, SIZE_MAX);
	}
	put(POINT "/a/memory.max", "5000\n");
	put(POINT "/a/memory.current", "many\n");
	expect_left(SIZE_MAX, SIZE_MAX);
}

static void no_files_at_all(void **state) {
	(void)state;
	limits_find_cgroup(&group, tree);
	expect_group("");
	expect_left(SIZE_MAX, SIZE_MAX);
	assert_int_equal(limits_resident(tree), 0);
	assert_int_equal(limits_stalled(&group, tree), 0);
}

static void resident_bytes(void **state) {
	(void)state;
	put("/proc/self/statm", "1000 20 3 4 0 5 0\n");
	assert_int_equal(limits_resident(tree), 20 * os_page_size);
	put("/proc/self/statm", "1000\n");
	assert_int_equal(limits_resident(tree), 0);
	errno = 77;
	assert_true(limits_resident("") > MIB / 2);
	assert_int_equal(limits_resident("/nowhere"), 0);
	assert_int_equal(errno, 77);
}

static void stalls_of_the_group_or_the_system(void **state) {
	(void)state;
	own("0::/a\n", V2);
	put("/proc/pressure/memory", "some avg10=12.34 avg60=1.00 avg300=0.00 total=9\nfull avg10=99.00 avg60=0.00\n");
	assert_int_equal(limits_stalled(&group, tree), 12);
	put(POINT "/a/memory.pressure", "some avg10=7.99 avg60=80.00 avg300=0.00 total=9\n");
	assert_int_equal(limits_stalled(&group, tree), 7);
	static const char *const broken[] = { "some avg10=\n", "some avg10=x.1\n", "full avg10=50.00\n", "some avg10=-5.0\n" };
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		put(POINT "/a/memory.pressure", broken[i]);
		assert_int_equal(limits_stalled(&group, tree), 0);
	}
}

static int make_tree(void **state) { return mkdtemp(tree) != NULL ? start_arenal(state) : -1; }

static int remove_tree(void **state) {
	(void)state;
	return rmdir(tree);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, empty_tree)
	const struct CMUnitTest tests[] = {
		TEST(v2_takes_max_and_high), TEST(groups_above_count), TEST(idle_files_are_not_counted),
		TEST(v1_is_preferred_where_it_has_memory), TEST(containers), TEST(containers_at_the_start), TEST(after_the_first_thread), TEST(usual_place), TEST(very_many_mounts), TEST(long_and_broken_files), TEST(no_files_at_all),
		TEST(resident_bytes), TEST(stalls_of_the_group_or_the_system),
	};
	return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
