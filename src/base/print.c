#include "base/print.h"

#include <string.h>

#include "base/os.h"

struct output {
	char *next, *end; /* end: where the closing zero goes at the latest */
};

static void put(struct output *out, char c) {
	if (out->next < out->end) *out->next++ = c;
}

static void put_padded(struct output *out, const char *text, size_t length, size_t width, bool left,
                       char pad) {
	size_t fill = width > length ? width - length : 0;
	if (!left)
		while (fill > 0) put(out, pad), fill--;
	for (size_t i = 0; i < length; i++) put(out, text[i]);
	while (fill > 0) put(out, ' '), fill--;
}

static size_t digits(char *text, uint64_t n, unsigned base) {
	char reversed[24];
	size_t length = 0;
	do {
		reversed[length++] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n != 0);
	for (size_t i = 0; i < length; i++) text[i] = reversed[length - 1 - i];
	return length;
}

size_t print_text_args(char *buffer, size_t size, const char *format, va_list args) {
	struct output out = { buffer, buffer + size - 1 };
	for (const char *f = format; *f != 0; f++) {
		if (*f != '%') {
			put(&out, *f);
			continue;
		}
		f++;
		bool left = *f == '-';
		if (left) f++;
		char pad = *f == '0' ? '0' : ' ';
		size_t width = 0;
		for (; *f >= '0' && *f <= '9'; f++) width = width * 10 + (size_t)(*f - '0');
		if (*f == '*') {
			width = (size_t)va_arg(args, int);
			f++;
		}
		size_t precision = SIZE_MAX;
		if (*f == '.') {
			precision = (size_t)va_arg(args, int);
			f += 2; /* always ".*" */
		}
		bool is_long = *f == 'l' || *f == 'z';
		if (is_long) f++;
		char text[40];
		size_t length = 0;
		switch (*f) {
		case 's': {
			const char *s = va_arg(args, const char *);
			put_padded(&out, s, strnlen(s, precision), width, left, ' ');
			continue;
		}
		case 'c': text[length++] = (char)va_arg(args, int); break;
		case 'd': {
			int64_t n = is_long ? va_arg(args, long) : va_arg(args, int);
			if (n < 0) text[length++] = '-';
			length += digits(text + length, n < 0 ? -(uint64_t)n : (uint64_t)n, 10);
			break;
		}
		case 'u':
			length = digits(text, is_long ? va_arg(args, unsigned long) : va_arg(args, unsigned), 10);
			break;
		case 'x':
			length = digits(text, is_long ? va_arg(args, unsigned long) : va_arg(args, unsigned), 16);
			break;
		case 'p':
			text[length++] = '0';
			text[length++] = 'x';
			length += digits(text + length, (uintptr_t)va_arg(args, void *), 16);
			break;
		default: text[length++] = *f;
		}
		put_padded(&out, text, length, width, left, pad);
	}
	*out.next = 0;
	return (size_t)(out.next - buffer);
}

size_t print_text(char *buffer, size_t size, const char *format, ...) {
	va_list args;
	va_start(args, format);
	size_t length = print_text_args(buffer, size, format, args);
	va_end(args);
	return length;
}

int print_fd(int fd, const char *format, ...) {
	char line[512];
	va_list args;
	va_start(args, format);
	size_t length = print_text_args(line, sizeof line, format, args);
	va_end(args);
	return os_write(fd, line, length);
}
