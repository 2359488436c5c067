#include "base/error_text.h"

#include <errno.h>
#include <stddef.h>

static const struct {
	int error;
	char text[36]; /* here, not a pointer that each process relocates */
} known[] = {
	{ EACCES, "Permission denied" },
	{ EBADF, "Bad file descriptor" },
	{ EBUSY, "Device or resource busy" },
	{ EDQUOT, "Disk quota exceeded" },
	{ EEXIST, "File exists" },
	{ EFBIG, "File too large" },
	{ EINTR, "Interrupted system call" },
	{ EINVAL, "Invalid argument" },
	{ EIO, "Input/output error" },
	{ EISDIR, "Is a directory" },
	{ ELOOP, "Too many levels of symbolic links" },
	{ EMFILE, "Too many open files" },
	{ ENAMETOOLONG, "File name too long" },
	{ ENFILE, "Too many open files in system" },
	{ ENODEV, "No such device" },
	{ ENOENT, "No such file or directory" },
	{ ENOMEM, "Cannot allocate memory" },
	{ ENOSPC, "No space left on device" },
	{ ENOSYS, "Function not implemented" },
	{ ENOTDIR, "Not a directory" },
	{ ENXIO, "No such device or address" },
	{ EOPNOTSUPP, "Operation not supported" },
	{ EPERM, "Operation not permitted" },
	{ EPIPE, "Broken pipe" },
	{ EROFS, "Read-only file system" },
	{ ESTALE, "Stale file handle" },
	{ ETIMEDOUT, "Connection timed out" },
	{ ETXTBSY, "Text file busy" },
	{ EXDEV, "Invalid cross-device link" },
};

const char *error_text(int error) {
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (known[i].error == error) return known[i].text;
	return "another error";
}
