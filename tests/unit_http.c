/*
 * Copyright (c) 2026 the httptun authors
 *
 * Permission to use, copy, modify, and distribute this software for any
 * purpose with or without fee is hereby granted, provided that the above
 * copyright notice and this permission notice appear in all copies.
 *
 * THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES
 * WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
 * MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
 * ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
 * WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
 * ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
 * OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
 */

/*
 * http.c in memory.  Every parser's input is cut at every byte and lies
 * against a page that cannot be read, so that a look too far is a crash, and
 * whatever was judged early has to be judged the same when all is there.
 */

#define _DEFAULT_SOURCE			/* MAP_ANONYMOUS */

#include "../http.c"

#include <sys/mman.h>
#include <sys/resource.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a)	(sizeof(a) / sizeof((a)[0]))
#define BYTES(s)	s, sizeof(s) - 1	/* which may hold NULs */
#define ROOM		((size_t)8 * HEAD_MAX)

/* ---- memory with an end ------------------------------------------------ */

static char *first, *last;	/* ROOM bytes between two unreadable pages */

static int
room_map(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *p;

	(void)state;
	p = mmap(NULL, ROOM + 2 * page, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -1;
	first = p + page;
	last = first + ROOM;
	return mprotect(p, page, PROT_NONE) == -1 ||
	    mprotect(last, page, PROT_NONE) == -1 ? -1 : 0;
}

/* A copy of n bytes (NULL: n bytes to write to); the next is unreadable. */
static char *
at_end(const void *p, size_t n)
{
	if (n > ROOM)
		fail_msg("%zu bytes do not fit", n);
	if (p != NULL)
		memcpy(last - n, p, n);
	return last - n;
}

/* The same, but the one before it is. */
static char *
at_start(const void *p, size_t n)
{
	if (n > ROOM)
		fail_msg("%zu bytes do not fit", n);
	if (p != NULL)
		memcpy(first, p, n);
	return first;
}

/* Bytes for a message: not by text_escape(), which is judged here too. */
static const char *
show(const void *bytes, size_t n)
{
	static char text[2][160];
	static int turn;
	const unsigned char *p = bytes;
	char *s = text[turn ^= 1], *d = s;

	for (; n > 0 && d < s + sizeof(text[0]) - 8; n--, p++)
		d += snprintf(d, 5, *p >= 0x20 && *p <= 0x7e ? "%c" :
		    "\\x%02x", *p);
	strcpy(d, n > 0 ? "..." : "");
	return s;
}

static struct span
span(const char *s)
{
	struct span sp;

	sp.p = s;
	sp.n = s != NULL ? strlen(s) : 0;
	return sp;
}

/* NULL stands for a span that is absent. */
static int
same(struct span s, const char *want)
{
	if (want == NULL)
		return s.p == NULL && s.n == 0;
	return s.p != NULL && s.n == strlen(want) &&
	    memcmp(s.p, want, s.n) == 0;
}

static void
inside(struct span s, const char *p, size_t n, const char *what)
{
	if (s.n > 0 && (s.p < p || s.p > p + n || s.n > (size_t)(p + n - s.p)))
		fail_msg("%s lies outside of <<%s>>", what, show(p, n));
}

/* A fixed sequence, the same on every machine. */
static uint32_t seed;

static unsigned
chance(unsigned n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

/* ---- bytes ------------------------------------------------------------- */

static void
test_buf(void **state)
{
	struct buf b = { NULL, 0, 0, 0 };
	char want[3000], c;
	size_t i;

	(void)state;
	assert_int_equal(buf_put(&b, "", 0), 0);
	assert_null(b.p);		/* nothing owns nothing */
	for (i = 0; i < sizeof(want); i++) {
		c = want[i] = (char)(i * 7);
		assert_int_equal(buf_put(&b, &c, 1), 0);
		assert_int_equal(b.len, i + 1);
	}
	assert_true(b.len <= b.cap);
	assert_memory_equal(b.p + b.off, want, sizeof(want));
	buf_take(&b, 0);
	buf_take(&b, 1000);
	assert_int_equal(b.len, 2000);
	assert_memory_equal(b.p + b.off, want + 1000, 2000);
	/* The room in front is used again. */
	assert_int_equal(buf_put(&b, want, 1500), 0);
	assert_int_equal(b.len, 3500);
	assert_memory_equal(b.p + b.off, want + 1000, 2000);
	assert_memory_equal(b.p + b.off + 2000, want, 1500);
	buf_take(&b, 3500);
	assert_null(b.p);
	/* What fits behind goes behind. */
	assert_int_equal(buf_put(&b, "abcdef", 6), 0);
	buf_take(&b, 2);
	assert_int_equal(buf_put(&b, "gh", 2), 0);
	assert_int_equal(b.len, 6);
	assert_memory_equal(b.p + b.off, "cdefgh", 6);
	buf_take(&b, 6);
	assert_int_equal(b.len + b.cap + b.off, 0);
	buf_take(&b, 0);
	buf_free(&b);
	assert_null(b.p);
}

static void
test_buf_fmt(void **state)
{
	struct buf b = { NULL, 0, 0, 0 };
	char longer[2000];
	int i;

	(void)state;
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(buf_fmt(&b, "%s", ""), 0);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_fmt(&b, "%d-%s", 42, "a"), 0);
	assert_int_equal(buf_fmt(&b, "%s!", longer), 0);
	assert_int_equal(b.len, 4 + 1999 + 1);
	assert_memory_equal(b.p + b.off, "42-a", 4);
	assert_memory_equal(b.p + b.off + 4, longer, 1999);
	assert_int_equal(b.p[b.off + b.len - 1], '!');
	buf_take(&b, 4);
	assert_int_equal(buf_fmt(&b, "%c", '?'), 0);
	assert_int_equal(b.p[b.off], 'x');
	assert_int_equal(b.p[b.off + b.len - 1], '?');
	buf_free(&b);
	/* The NUL that printf(3) writes has its place too. */
	for (i = 0; i < 600; i++) {
		assert_int_equal(buf_fmt(&b, "%.*s", i, longer), 0);
		assert_int_equal(b.len, i);
		assert_true(b.off + b.len < b.cap);
		buf_free(&b);
	}
}

static void
test_buf_error(void **state)
{
	/* Not to be seen by a compiler that would warn of them. */
	static const volatile size_t sizes[] = {
		(size_t)INT32_MAX + 1, (size_t)INT32_MAX - 2, SIZE_MAX / 2
	};
	struct buf b = { NULL, 0, 0, 0 }, was;
	size_t i, n;

	(void)state;
	assert_int_equal(buf_put(&b, "abc", 3), 0);
	was = b;
	for (i = 0; i < COUNT(sizes); i++) {
		n = sizes[i];
		errno = 0;
		assert_int_equal(buf_put(&b, "abc", n), -1);
		assert_int_equal(errno, ENOMEM);
	}
	assert_memory_equal(&b, &was, sizeof(b));
	assert_memory_equal(b.p, "abc", 3);
	buf_free(&b);
}

static void
test_span_is(void **state)
{
	static const struct { const char *s, *t; int want; } rows[] = {
		{ "", "", 1 }, { "a", "", 0 }, { "", "a", 0 },
		{ "Host", "hOST", 1 }, { "Host", "Hosts", 0 },
		{ "Hosts", "Host", 0 }, { "Host", "Hose", 0 },
		{ "a@", "a`", 0 }, { "a[", "a{", 0 },
	};
	struct span s;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		s.n = strlen(rows[i].s);
		s.p = at_end(rows[i].s, s.n);
		if (span_is(s, rows[i].t) != rows[i].want)
			fail_msg("'%s' and '%s'", rows[i].s, rows[i].t);
	}
}

static void
test_secret_equal(void **state)
{
	static const char *const words[] = {
		"", "a", "b", "aa", "ab", "ba", "secret", "secres", "Secret",
		"secretsecret", "s",
	};
	size_t i, k, in, kn;

	(void)state;
	for (i = 0; i < COUNT(words); i++)
		for (k = 0; k < COUNT(words); k++) {
			in = strlen(words[i]);
			kn = strlen(words[k]);
			if (secret_equal(at_end(words[i], in), in,
			    at_start(words[k], kn), kn) != (i == k))
				fail_msg("'%s' and '%s'", words[i], words[k]);
		}
	/* The lengths are told apart where one repeats the other. */
	assert_int_equal(secret_equal("\0\0", 2, "\0", 1), 0);
	assert_int_equal(secret_equal("\0", 1, "\0\0", 2), 0);
	assert_int_equal(secret_equal("a\0b", 3, "a\0c", 3), 0);
	assert_int_equal(secret_equal("a\0b", 3, "a\0b", 3), 1);
}

static void
test_secret_wipe(void **state)
{
	char s[] = "xsecretx";

	(void)state;
	secret_wipe(s + 1, 6);
	assert_memory_equal(s, "x\0\0\0\0\0\0x", 8);
	secret_wipe(at_end(NULL, 0), 0);
}

static void
test_text_escape(void **state)
{
	static const struct {
		const char *in; size_t n; const char *out;
	} rows[] = {
		{ BYTES(""), "" },
		{ BYTES("plain text ~!"), "plain text ~!" },
		{ BYTES("a\r\nb"), "a\\x0d\\x0ab" },
		{ BYTES("\0\x1f\x7f\x80\xff"), "\\x00\\x1f\\x7f\\x80\\xff" },
		{ BYTES("\x1b[2J\t"), "\\x1b[2J\\x09" },
	};
	char *d, want[64], one;
	size_t i, size, len, unit;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		for (size = 1; size < 40; size++) {
			/* As much as fits, but never half an escape. */
			for (len = 0; rows[i].out[len] != '\0'; len += unit) {
				unit = rows[i].out[len] == '\\' ? 4 : 1;
				if (len + unit >= size)
					break;
			}
			snprintf(want, len + 1, "%s", rows[i].out);
			d = at_end(NULL, size);
			if (text_escape(d, size, at_start(rows[i].in,
			    rows[i].n), rows[i].n) != len ||
			    strcmp(d, want) != 0)
				fail_msg("%zu: '%s', not '%s'", size, d, want);
		}
	for (i = 0; i < 256; i++) {
		one = (char)i;
		len = text_escape(want, sizeof(want), at_end(&one, 1), 1);
		assert_int_equal(strlen(want), len);
		assert_int_equal(len, i >= 0x20 && i <= 0x7e ? 1 : 4);
	}
}

static void
test_text_number(void **state)
{
	static const struct {
		const char *s; long min, max, want;
	} rows[] = {
		{ "", 0, 10, -1 }, { "0", 0, 10, 0 }, { "0", 1, 10, -1 },
		{ "10", 1, 10, 10 }, { "11", 1, 10, -1 }, { "9", 1, 10, 9 },
		{ "007", 1, 10, 7 }, { "65535", 1, 65535, 65535 },
		{ "65536", 1, 65535, -1 }, { "+1", 0, 10, -1 },
		{ "-1", -5, 10, -1 }, { " 1", 0, 10, -1 },
		{ "1 ", 0, 10, -1 }, { "1a", 0, 10, -1 },
		{ "0x1", 0, 10, -1 }, { "1.0", 0, 10, -1 },
		{ "999999999", 0, 999999999, 999999999 },
		{ "4294967297", 0, 10, -1 },
		{ "18446744073709551617", 0, 10, -1 },
		{ "99999999999999999999999999", 0, 10, -1 },
	};
	size_t i, n;
	long v;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		n = strlen(rows[i].s);
		v = text_number(at_end(rows[i].s, n), n, rows[i].min,
		    rows[i].max);
		if (v != rows[i].want)
			fail_msg("'%s': %ld", rows[i].s, v);
	}
	assert_int_equal(text_number("1\0", 2, 0, 10), -1);
}

#define FIELDS	3

/* What line_fields() makes of a text: its fields as [a|b], a line each, "!"
 * for one with too many. */
static char *
lines_seen(const char *p, size_t n)
{
	static char seen[512];
	struct span text, f[FIELDS + 1];
	char *to = seen;
	int k, i;

	text.p = p;
	text.n = n;
	f[FIELDS].p = "untouched";
	while ((k = line_fields(&text, f, FIELDS)) != -1) {
		inside(text, p, n, "the rest");
		assert_true(text.p + text.n == p + n);
		*to++ = k > FIELDS ? '!' : '[';
		for (i = 0; i < k && i < FIELDS; i++) {
			inside(f[i], p, n, "a field");
			assert_true(f[i].n > 0);
			to += sprintf(to, "%s%.*s", i > 0 ? "|" : "",
			    (int)f[i].n, f[i].p);
		}
		*to++ = ']';
	}
	assert_string_equal(f[FIELDS].p, "untouched");
	assert_int_equal(text.n, 0);
	*to = '\0';
	return seen;
}

static void
test_line_fields(void **state)
{
	static const struct {
		const char *text; size_t n; const char *seen;
	} rows[] = {
		{ BYTES(""), "" }, { BYTES("\n"), "[]" },
		{ BYTES("\r\n"), "[]" }, { BYTES("\r"), "[]" },
		{ BYTES(" \t \n\n"), "[][]" }, { BYTES("a"), "[a]" },
		{ BYTES("a b\tc"), "[a|b|c]" },
		{ BYTES(" a \t b \n"), "[a|b]" },
		{ BYTES("a\r\nb\r"), "[a][b]" },
		{ BYTES("a\r\r\nb"), "[a\r][b]" },
		{ BYTES("a\rb\n"), "[a\rb]" },
		{ BYTES("#a b\nc"), "[][c]" }, { BYTES("#"), "[]" },
		{ BYTES(" # a\n"), "[]" }, { BYTES("a #b c d e\n"), "[a]" },
		{ BYTES("a#b #c"), "[a#b]" }, { BYTES("a b# c"), "[a|b#|c]" },
		{ BYTES("a b c\n"), "[a|b|c]" },
		{ BYTES("a b c #d e"), "[a|b|c]" },
		{ BYTES("a b c d"), "!a|b|c]" },
		{ BYTES("a b c d e f\ng"), "!a|b|c][g]" },
		{ BYTES("a b\0c\v d\n"), "[a|b" },
		{ BYTES("\xff\xfe"), "[\xff\xfe]" },
	};
	size_t i, n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		if (strncmp(lines_seen(at_end(rows[i].text, rows[i].n),
		    rows[i].n), rows[i].seen, strlen(rows[i].seen)) != 0 ||
		    (rows[i].seen[0] == '\0') != (rows[i].n == 0))
			fail_msg("'%s': %s", rows[i].text, lines_seen(
			    rows[i].text, rows[i].n));
		for (n = 0; n < rows[i].n; n++) {
			(void)lines_seen(at_end(rows[i].text, n), n);
			(void)lines_seen(at_start(rows[i].text, n), n);
		}
	}
}

/* ---- heads ------------------------------------------------------------- */

typedef ssize_t	parser(struct head *, const void *, size_t);

static void
head_inside(const struct head *h, const char *p, size_t n)
{
	size_t i;

	if (h->method.n > 0) {
		inside(h->method, p, n, "method");
		inside(h->target, p, n, "target");
	} else
		inside(h->reason, p, n, "reason");
	assert_true(h->nfields <= HEAD_FIELDS);
	for (i = 0; i < h->nfields; i++) {
		inside(h->field[i].name, p, n, "name");
		inside(h->field[i].value, p, n, "value");
	}
}

/* The cut behind k; long heads are cut where their limits are, else seldom. */
static size_t
next_cut(size_t k, size_t n)
{
	size_t step = 97;

	if (n < 2048 || k < 128 || k + 128 > n ||
	    (k > HEAD_LINE_MAX - 100 && k < HEAD_LINE_MAX + 100) ||
	    (k > HEAD_MAX - 100 && k < HEAD_MAX + 100))
		step = 1;
	return step < n - k ? k + step : k + 1;
}

/*
 * Gives a head in a growing prefix.  want > 0: 0 until that many bytes are
 * there; want < 0: it may be said early, but nothing else and for good.
 */
static void
judge(parser *parse, const char *text, size_t n, ssize_t want,
    struct head *h)
{
	struct head low;
	ssize_t r = 0, was = 0;
	size_t k;
	char *p;

	for (k = 0; k <= n; k = next_cut(k, n)) {
		p = at_start(text, k);
		if ((was = parse(&low, p, k)) > 0)
			head_inside(&low, p, (size_t)was);
		p = at_end(text, k);
		was = r;
		if ((r = parse(h, p, k)) > 0)
			head_inside(h, p, (size_t)r);
		if (r != parse(&low, at_start(text, k), k))
			fail_msg("<<%s>> depends on its place", show(text, n));
		if (want > 0 && r != ((ssize_t)k < want ? 0 : want))
			fail_msg("%zu of %zu bytes of <<%s>>: %zd, not %zd", k,
			    n, show(text, n), r, want);
		if (want <= 0 && r != want && (r != 0 || was != 0))
			fail_msg("%zu of %zu bytes of <<%s>>: %zd, not %zd "
			    "(before: %zd)", k, n, show(text, n), r, want,
			    was);
	}
	if (r != want)
		fail_msg("<<%s>>: %zd, not %zd", show(text, n), r, want);
}

/* What was parsed, on one line. */
static const char *
flat(const struct head *h)
{
	static char text[1024];
	size_t i, n;

	if (h->method.n > 0)
		snprintf(text, sizeof(text), "%.*s %.*s 1.%d",
		    (int)h->method.n, h->method.p, (int)h->target.n,
		    h->target.p, h->minor);
	else
		snprintf(text, sizeof(text), "1.%d %d <%.*s>", h->minor,
		    h->status, (int)h->reason.n, h->reason.p);
	for (i = 0; i < h->nfields; i++) {
		n = strlen(text);
		snprintf(text + n, sizeof(text) - n, " [%.*s=%.*s]",
		    (int)h->field[i].name.n, h->field[i].name.p,
		    (int)h->field[i].value.n, h->field[i].value.p);
	}
	return text;
}

static void
test_request_good(void **state)
{
	/* behind: bytes that follow the head. */
	static const struct {
		const char *text; size_t n, behind; const char *want;
	} rows[] = {
		{ BYTES("CONNECT a:1 HTTP/1.1\r\n\r\n"), 0,
		    "CONNECT a:1 1.1" },
		{ BYTES("CONNECT a:1 HTTP/1.0\r\nHost: a:1\r\n\r\n"), 0,
		    "CONNECT a:1 1.0 [Host=a:1]" },
		{ BYTES("CONNECT [::1]:1 HTTP/1.1\r\nHost: x\r\n\r\nSSH-2.0"),
		    7, "CONNECT [::1]:1 1.1 [Host=x]" },
		{ BYTES("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), 18,
		    "GET / 1.1" },
		{ BYTES("GET / HTTP/1.1\r\n\r\n\0\n\n"), 3, "GET / 1.1" },
		{ BYTES("GET / HTTP/1.1\r\n\r\n\r\n\r\n"), 4, "GET / 1.1" },
		{ BYTES("\r\nGET / HTTP/1.1\r\n\r\n"), 0, "GET / 1.1" },
		{ BYTES("\r\n\r\nGET / HTTP/1.1\r\n\r\n"), 0, "GET / 1.1" },
		{ BYTES("get * HTTP/1.9\r\n\r\n"), 0, "get * 1.9" },
		{ BYTES("!#$%&'*+-.^_`|~09azAZ x HTTP/1.1\r\n\r\n"), 0,
		    "!#$%&'*+-.^_`|~09azAZ x 1.1" },
		{ BYTES("GET http://a/b?c=d#e HTTP/1.1\r\n\r\n"), 0,
		    "GET http://a/b?c=d#e 1.1" },
		{ BYTES("GET /~!\"<>\\^{|} HTTP/1.1\r\n\r\n"), 0,
		    "GET /~!\"<>\\^{|} 1.1" },
		{ BYTES("GET / HTTP/1.1\r\nA:\r\nB:  \t \r\nC:c\r\n\r\n"), 0,
		    "GET / 1.1 [A=] [B=] [C=c]" },
		{ BYTES("GET / HTTP/1.1\r\nA: \t a\t b \t\r\n\r\n"), 0,
		    "GET / 1.1 [A=a\t b]" },
		{ BYTES("GET / HTTP/1.1\r\nA: b:c: d\r\nA: \xe9\xff\r\n\r\n"),
		    0, "GET / 1.1 [A=b:c: d] [A=\xe9\xff]" },
		{ BYTES("GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~1z:~\x7d\r\n\r\n"),
		    0, "GET / 1.1 [!#$%&'*+-.^_`|~1z=~}]" },
	};
	struct head h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		judge(head_request, rows[i].text, rows[i].n,
		    (ssize_t)(rows[i].n - rows[i].behind), &h);
		assert_string_equal(flat(&h), rows[i].want);
	}
}

/* As far as they go they are requests: more is waited for. */
static void
test_request_more(void **state)
{
	static const char *const rows[] = {
		"", "\r", "\r\n", "\r\n\r", "\r\n\r\n", "G", "CONNECT",
		"CONNECT ", "CONNECT a:1", "CONNECT a:1 HTTP/1.1\r",
		"CONNECT a:1 HTTP/1.1\r\n", "CONNECT a:1 HTTP/1.1\r\n\r",
		"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n",
		"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r",
		"CONNECT a:1 HTTP/1.1\r\nHos",
	};
	struct head h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		judge(head_request, rows[i], strlen(rows[i]), 0, &h);
}

#define LINE	"GET / HTTP/1.1\r\n"

static const struct bad_request {
	const char *text; size_t n; int status;
} bad_requests[] = {
	/* line ends */
	{ BYTES("GET / HTTP/1.1\n\n"), 400 },
	{ BYTES("GET / HTTP/1.1\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1.1\r\n\n"), 400 },
	{ BYTES(LINE "Host: a\n\r\n"), 400 },
	{ BYTES(LINE "Host: a\r\n\n"), 400 },
	{ BYTES(LINE "Host: a\nB: c\r\n\r\n"), 400 },
	{ BYTES("\nGET / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("\r\n\nGET / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("\r\n\r\n\r"), 400 },
	{ BYTES("\rGET / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("\r\r\nGET / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1.1\r\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1.1\rA: b\r\n\r\n"), 400 },
	{ BYTES("GET /\rx HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\rc\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\r\r\n\r\n"), 400 },
	{ BYTES(LINE "A\r: b\r\n\r\n"), 400 },
	{ BYTES(LINE "\rA: b\r\n\r\n"), 400 },
	/* NUL, control characters, bytes beyond ASCII */
	{ BYTES("G\0T / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET /\0 HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1.1\0\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1\0001\r\n\r\n"), 400 },
	{ BYTES("\0GET / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES(LINE "A\0: b\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\0c\r\n\r\n"), 400 },
	{ BYTES(LINE "\0\r\n\r\n"), 400 },
	{ BYTES("G\x01T / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET /\x01 HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET /\x1f HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET /\x7f HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET /\x0b HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET /\xc3\xa9 HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("G\xc3T / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\x01\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\x0b""c\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\x0c""c\r\n\r\n"), 400 },
	{ BYTES(LINE "A: \x1b[2J\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\x7f\r\n\r\n"), 400 },
	{ BYTES(LINE "\xc3\xa9: b\r\n\r\n"), 400 },
	/* fields */
	{ BYTES(LINE "A: b\r\n c\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\r\n\tc: d\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\r\n \r\n\r\n"), 400 },
	{ BYTES(LINE " A: b\r\n\r\n"), 400 },
	{ BYTES(LINE " \r\n\r\n"), 400 },
	{ BYTES(LINE "A : b\r\n\r\n"), 400 },
	{ BYTES(LINE "A\t: b\r\n\r\n"), 400 },
	{ BYTES(LINE ": b\r\n\r\n"), 400 },
	{ BYTES(LINE "Ab\r\n\r\n"), 400 },
	{ BYTES(LINE "A b: c\r\n\r\n"), 400 },
	{ BYTES(LINE "A(b): c\r\n\r\n"), 400 },
	{ BYTES(LINE "\"A\": c\r\n\r\n"), 400 },
	{ BYTES(LINE "A: b\r\nnonsense\r\n\r\n"), 400 },
	/* request lines */
	{ BYTES(" GET / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("\tGET / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET  / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET /  HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1.1 \r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1.1\t\r\n\r\n"), 400 },
	{ BYTES("GET\t/ HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET /\tHTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET / a HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1.1 x\r\n\r\n"), 400 },
	{ BYTES("GET HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET  HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET /\r\n\r\n"), 400 },
	{ BYTES("GET / \r\n\r\n"), 400 },
	{ BYTES("GET\r\n\r\n"), 400 },
	{ BYTES("GET \r\n\r\n"), 400 },
	{ BYTES("G(T / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("G:T / HTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("G/T / HTTP/1.1\r\n\r\n"), 400 },
	/* versions */
	{ BYTES("GET / HTTP/1.\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/\r\n\r\n"), 400 },
	{ BYTES("GET / http/1.1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1,1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1.10\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/01.1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/1.x\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP/x.1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTP 1.1\r\n\r\n"), 400 },
	{ BYTES("GET / XTTP/1.1\r\n\r\n"), 400 },
	{ BYTES("GET / HTTPS/1.1\r\n\r\n"), 400 },
	{ BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505 },
	{ BYTES("GET / HTTP/2.0\r\n\r\n"), 505 },
	{ BYTES("GET / HTTP/0.9\r\n\r\n"), 505 },
	{ BYTES("GET / HTTP/9.9\r\n\r\n"), 505 },
	/* other protocols */
	{ BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400 },
	{ BYTES("SSH-2.0-OpenSSH_9.2p1\r\n"), 400 },
	{ BYTES("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), 400 },
	{ BYTES("\x04\x01\x00\x16\x7f\x00\x00\x01\x00"), 400 },
	{ BYTES("\x05\x01\x00"), 400 },
};

static void
test_request_bad(void **state)
{
	const struct bad_request *b;
	struct head h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(bad_requests); i++) {
		b = &bad_requests[i];
		judge(head_request, b->text, b->n, -b->status, &h);
	}
}

/* What cannot become a request is not waited for. */
static void
test_request_first_byte(void **state)
{
	const char *tchars = "!#$%&'*+-.^_`|~0123456789"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	struct head h;
	ssize_t r, want;
	char c;
	int i;

	(void)state;
	for (i = 0; i < 256; i++) {
		c = (char)i;
		want = c != '\0' && (c == '\r' || strchr(tchars, c) != NULL) ?
		    0 : -400;
		if ((r = head_request(&h, at_end(&c, 1), 1)) != want)
			fail_msg("byte %02x: %zd", (unsigned)i, r);
	}
	assert_int_equal(head_request(&h, at_end("GET\x01", 4), 4), -400);
	assert_int_equal(head_request(&h, at_end("GET:", 4), 4), -400);
	assert_int_equal(head_request(&h, at_end("\r\n\x16", 3), 3), -400);
}

/* A text of pieces, each repeated. */
static struct buf
repeat(const char *before, const char *piece, size_t times,
    const char *after)
{
	struct buf b = { NULL, 0, 0, 0 };

	assert_int_equal(buf_fmt(&b, "%s", before), 0);
	while (times-- > 0)
		assert_int_equal(buf_put(&b, piece, strlen(piece)), 0);
	assert_int_equal(buf_fmt(&b, "%s", after), 0);
	return b;
}

static void
judge_repeat(parser *parse, const char *before, const char *piece,
    size_t times, const char *after, ssize_t want)
{
	struct buf b = repeat(before, piece, times, after);
	struct head h;

	judge(parse, (char *)b.p + b.off, b.len, want > 0 ? b.len : want, &h);
	buf_free(&b);
}

#define TAIL	" HTTP/1.1\r\n\r\n"

static void
test_request_line_limit(void **state)
{
	/* "GET " and " HTTP/1.1" are 13 bytes of the line. */
	size_t most = HEAD_LINE_MAX - 13;

	(void)state;
	judge_repeat(head_request, "GET ", "x", most - 1, TAIL, 1);
	judge_repeat(head_request, "GET ", "x", most + 1, TAIL, -414);
	judge_repeat(head_request, "GET ", "x", most + 2, TAIL, -414);
	judge_repeat(head_request, "GET ", "x", HEAD_LINE_MAX, TAIL, -414);
	judge_repeat(head_request, "GET ", "x", 2 * HEAD_MAX, TAIL, -414);
	judge_repeat(head_request, "\r\nGET ", "x", most + 1, TAIL, -414);
	/* without an end, and without a blank */
	judge_repeat(head_request, "GET ", "x", HEAD_LINE_MAX + 2, "", -414);
	judge_repeat(head_request, "", "X", HEAD_LINE_MAX + 3, "", -414);
}

/* The longest line that is allowed, whole up to its CR, is not too long. */
static void
test_request_line_longest(void **state)
{
	(void)state;
	judge_repeat(head_request, "GET ", "x", HEAD_LINE_MAX - 13, TAIL, 1);
	judge_repeat(head_request, "\r\n\r\nGET ", "x", HEAD_LINE_MAX - 13,
	    TAIL, 1);
}

static void
test_request_head_limit(void **state)
{
	/* 16 bytes of request line, 4 around the value, 4 at the end */
	size_t most = HEAD_MAX - 16 - 3 - 4;

	(void)state;
	judge_repeat(head_request, LINE "A: ", "x", most, "\r\n\r\n", 1);
	judge_repeat(head_request, LINE "A: ", "x", most + 1, "\r\n\r\n",
	    -431);
	judge_repeat(head_request, LINE "A: ", "x", most + 5, "", -431);
	judge_repeat(head_request, LINE, "A: b\r\n", 4096, "\r\n", -431);
	judge_repeat(head_request, LINE, "A: b\r\n", HEAD_FIELDS, "\r\n", 1);
	judge_repeat(head_request, LINE, "A: b\r\n", HEAD_FIELDS + 1, "\r\n",
	    -431);
	judge_repeat(head_request, LINE, "A: b\r\n", HEAD_FIELDS * 2, "\r\n",
	    -431);
}

static void
test_reply_good(void **state)
{
	static const struct {
		const char *text; size_t n, behind; const char *want;
	} rows[] = {
		{ BYTES("HTTP/1.1 200 OK\r\n\r\n"), 0, "1.1 200 <OK>" },
		{ BYTES("HTTP/1.1 200 \r\n\r\n"), 0, "1.1 200 <>" },
		{ BYTES("HTTP/1.1 200\r\n\r\n"), 0, "1.1 200 <>" },
		{ BYTES("HTTP/1.0 200 Connection established\r\n\r\nSSH-2"),
		    5, "1.0 200 <Connection established>" },
		{ BYTES("HTTP/1.1 200 OK\r\n\r\n\0\n"), 2, "1.1 200 <OK>" },
		{ BYTES("HTTP/1.1 200 OK\r\n\r\n\r\n"), 2, "1.1 200 <OK>" },
		{ BYTES("HTTP/1.9 999 \xe9\tx\r\n\r\n"), 0,
		    "1.9 999 <\xe9\tx>" },
		{ BYTES("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
		    17, "1.1 100 <Continue>" },
		{ BYTES("HTTP/1.1 200 O\x1b[2J\r\nA: \x01\x7f\r\n\r\n"), 0,
		    "1.1 200 <O\x1b[2J> [A=\x01\x7f]" },
		/* bare LF, alone and mixed */
		{ BYTES("HTTP/1.1 200 OK\n\n"), 0, "1.1 200 <OK>" },
		{ BYTES("HTTP/1.1 200\n\n"), 0, "1.1 200 <>" },
		{ BYTES("HTTP/1.1 200 OK\nA: b\nC: d\n\nx"), 1,
		    "1.1 200 <OK> [A=b] [C=d]" },
		{ BYTES("HTTP/1.1 200 OK\r\nA: b\n\r\n"), 0,
		    "1.1 200 <OK> [A=b]" },
		{ BYTES("HTTP/1.1 200 OK\nA: b\r\n\n"), 0,
		    "1.1 200 <OK> [A=b]" },
		/* fields */
		{ BYTES("HTTP/1.1 407 No\r\nA:\r\nB:b\r\nC: \tc d\t \r\n\r\n"),
		    0, "1.1 407 <No> [A=] [B=b] [C=c d]" },
		{ BYTES("HTTP/1.1 407 No\r\nA : b\r\n\r\n"), 0,
		    "1.1 407 <No> [A=b]" },
		{ BYTES("HTTP/1.1 200 OK\r\nno field\r\nA: b\r\n\r\n"), 0,
		    "1.1 200 <OK> [A=b]" },
		{ BYTES("HTTP/1.1 200 OK\r\n: x\r\nA b: c\r\nA: b\r\n\r\n"),
		    0, "1.1 200 <OK> [A=b]" },
		{ BYTES("HTTP/1.1 200 OK\r\nA: b\r\nnonsense\r\n\r\n"), 0,
		    "1.1 200 <OK> [A=b]" },
		{ BYTES("HTTP/1.1 200 OK\r\n folded\r\nA: b\r\n\r\n"), 0,
		    "1.1 200 <OK> [A=b]" },
	};
	struct head h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		judge(head_reply, rows[i].text, rows[i].n,
		    (ssize_t)(rows[i].n - rows[i].behind), &h);
		assert_string_equal(flat(&h), rows[i].want);
	}
}

/* RFC 9112, 5.2: whatever parts the lines counts as blanks. */
static void
test_reply_folded(void **state)
{
	static const char text[] = "HTTP/1.1 407 No\r\n"
	    "A: one\r\n two: 2\r\n\tthree\r\n"
	    "B:\n \n four\r\n"
	    "C: five\r\n\r\n";
	const char *words[] = { "one", "two: 2", "three" };
	const struct field *f;
	const char *p, *end;
	struct head h;
	size_t i, k;

	(void)state;
	judge(head_reply, BYTES(text), sizeof(text) - 1, &h);
	assert_int_equal(h.nfields, 3);
	assert_true(span_is(h.field[0].name, "A"));
	p = h.field[0].value.p;
	end = p + h.field[0].value.n;
	for (i = 0; i < COUNT(words); i++) {
		k = strlen(words[i]);
		if (i > 0)
			while (p < end && strchr(" \t\r\n", *p) != NULL)
				p++;
		assert_true((size_t)(end - p) >= k);
		assert_memory_equal(p, words[i], k);
		p += k;
	}
	assert_ptr_equal(p, end);
	f = head_field(&h, "B", NULL);
	assert_non_null(f);
	assert_true(f->value.n >= 4);
	assert_memory_equal(f->value.p + f->value.n - 4, "four", 4);
	assert_true(span_is(h.field[2].name, "C"));
	assert_true(span_is(h.field[2].value, "five"));
}

static void
test_reply_folded_list(void **state)
{
	static const char text[] = "HTTP/1.1 407 No\r\n"
	    "Connection: keep-alive,\r\n close\r\n"
	    "Content-Length: 5\r\n \r\n\r\n";
	uint64_t length;
	struct head h;

	(void)state;
	judge(head_reply, BYTES(text), sizeof(text) - 1, &h);
	assert_int_equal(head_lists(&h, "Connection", "close"), 1);
	assert_int_equal(head_persists(&h), 0);
	assert_int_equal(head_framing(&h, &length), BODY_LENGTH);
	assert_int_equal(length, 5);
}

static void
test_reply_bad(void **state)
{
	static const struct { const char *text; size_t n; } rows[] = {
		{ BYTES("\r\nHTTP/1.1 200 OK\r\n\r\n") },
		{ BYTES(" HTTP/1.1 200 OK\r\n\r\n") },
		{ BYTES("http/1.1 200 OK\r\n\r\n") },
		{ BYTES("HTTP/2 200\r\n\r\n") },
		{ BYTES("HTTP/2.0 200 OK\r\n\r\n") },
		{ BYTES("HTTP/0.9 200 OK\r\n\r\n") },
		{ BYTES("HTTP/1 200 OK\r\n\r\n") },
		{ BYTES("HTTP/1. 200 OK\r\n\r\n") },
		{ BYTES("HTTP/1.x 200 OK\r\n\r\n") },
		{ BYTES("HTTP/1.10 200 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1\r\n\r\n") },
		{ BYTES("HTTP/1.1 \r\n\r\n") },
		{ BYTES("HTTP/1.1 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 20\r\n\r\n") },
		{ BYTES("HTTP/1.1 20 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 2000 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 200OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 099 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 -20 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 +20 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 2 0 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 0x2 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1-200 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1200 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1\r\n 200 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 200 O\0K\r\n\r\n") },
		{ BYTES("HTTP/1.1 200 OK\0\r\n\r\n") },
		{ BYTES("HTTP/1.1\000200 OK\r\n\r\n") },
		{ BYTES("HTTP\0/1.1 200 OK\r\n\r\n") },
		{ BYTES("HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n") },
		{ BYTES("HTTP/1.1 200 OK\r\n\0\r\n\r\n") },
		{ BYTES("HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n") },
		{ BYTES("ICY 200 OK\r\n\r\n") },
		{ BYTES("SSH-2.0-OpenSSH_9.2p1\r\n") },
		{ BYTES("220 smtp.example ESMTP\r\n") },
		{ BYTES("<html>") },
		{ BYTES("\x15\x03\x01\x00\x02\x02") },
		{ BYTES("\0") },
		{ BYTES("HTTP/1.1 200 OK\r\nA: b\0") },
	};
	struct head h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		judge(head_reply, rows[i].text, rows[i].n, -1, &h);
}

static void
test_reply_more(void **state)
{
	static const char *const rows[] = {
		"", "H", "HTTP/1.", "HTTP/1.1", "HTTP/1.1 2", "HTTP/1.1 200",
		"HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r", "HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\n\r", "HTTP/1.1 200 OK\r\nA: b",
		"HTTP/1.1 200 OK\nA: b\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r",
	};
	struct head h;
	size_t i;
	char c;
	int k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		judge(head_reply, rows[i], strlen(rows[i]), 0, &h);
	for (k = 0; k < 256; k++) {
		c = (char)k;
		if (head_reply(&h, at_end(&c, 1), 1) != (c == 'H' ? 0 : -1))
			fail_msg("byte %02x", (unsigned)k);
	}
}

#define STATUS	"HTTP/1.1 200 OK\r\n"

static void
test_reply_limit(void **state)
{
	size_t most = HEAD_MAX - 17 - 3 - 4;

	(void)state;
	judge_repeat(head_reply, STATUS "A: ", "x", most, "\r\n\r\n", 1);
	judge_repeat(head_reply, STATUS "A: ", "x", most + 1, "\r\n\r\n", -1);
	judge_repeat(head_reply, STATUS "A: ", "x", 2 * HEAD_MAX, "", -1);
	judge_repeat(head_reply, "HTTP/1.1 200 ", "x", 2 * HEAD_MAX, "", -1);
	judge_repeat(head_reply, STATUS, "\r", 2 * HEAD_MAX, "", -1);
	judge_repeat(head_reply, STATUS, "A: b\r\n", HEAD_FIELDS, "\r\n", 1);
	judge_repeat(head_reply, STATUS, "A: b\r\n", HEAD_FIELDS + 1, "\r\n",
	    -1);
	judge_repeat(head_reply, STATUS, "nonsense\r\n", HEAD_FIELDS + 1,
	    "\r\n", 1);
}

/* A head of this text; the kind tells itself by its first line. */
static void
head_of(struct head *h, const char *text)
{
	size_t n = strlen(text);
	parser *parse = strncmp(text, "HTTP/", 5) == 0 ? head_reply :
	    head_request;

	memset(h, 0xff, sizeof(*h));	/* what is not set is nobody's guess */
	if (parse(h, at_end(text, n), n) != (ssize_t)n)
		fail_msg("no head: <<%s>>", show(text, n));
}

static void
test_head_field(void **state)
{
	const struct field *f;
	struct head h;

	(void)state;
	head_of(&h, LINE "A: 1\r\nB: 2\r\na: 3\r\nAA: 4\r\nA: 5\r\n\r\n");
	f = head_field(&h, "A", NULL);
	assert_ptr_equal(f, &h.field[0]);
	f = head_field(&h, "a", f);
	assert_ptr_equal(f, &h.field[2]);
	f = head_field(&h, "A", f);
	assert_ptr_equal(f, &h.field[4]);
	assert_null(head_field(&h, "A", f));
	assert_ptr_equal(head_field(&h, "b", NULL), &h.field[1]);
	assert_null(head_field(&h, "C", NULL));
	assert_null(head_field(&h, "", NULL));
	head_of(&h, LINE "\r\n");
	assert_null(head_field(&h, "A", NULL));
}

static void
test_head_lists(void **state)
{
	static const struct { const char *fields; int want; } rows[] = {
		{ "", 0 },
		{ "A: close\r\n", 1 },
		{ "A: CLOSE\r\n", 1 },
		{ "a: close\r\n", 1 },
		{ "A: x, close\r\n", 1 },
		{ "A: x ,\tclose\t,y\r\n", 1 },
		{ "A: ,,close,,\r\n", 1 },
		{ "A:close\r\n", 1 },
		{ "A: x\r\nA: close\r\n", 1 },
		{ "A: closed\r\n", 0 },
		{ "A: xclose\r\n", 0 },
		{ "A: clos\r\n", 0 },
		{ "A: x close\r\n", 0 },
		{ "A: close x\r\n", 0 },
		{ "A: ,\r\n", 0 },
		{ "A:\r\n", 0 },
		{ "B: close\r\n", 0 },
		{ "AA: close\r\n", 0 },
	};
	char text[128];
	struct head h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		snprintf(text, sizeof(text), LINE "%s\r\n", rows[i].fields);
		head_of(&h, text);
		if (head_lists(&h, "A", "close") != rows[i].want)
			fail_msg("%s", show(text, strlen(text)));
	}
}

static void
test_head_method(void **state)
{
	struct head h;

	(void)state;
	head_of(&h, "CONNECT a:1 HTTP/1.1\r\n\r\n");
	assert_int_equal(head_method(&h, "CONNECT"), 1);
	assert_int_equal(head_method(&h, "connect"), 0);
	assert_int_equal(head_method(&h, "CONNEC"), 0);
	assert_int_equal(head_method(&h, "CONNECTX"), 0);
	assert_int_equal(head_method(&h, ""), 0);
	head_of(&h, "connect a:1 HTTP/1.1\r\n\r\n");
	assert_int_equal(head_method(&h, "CONNECT"), 0);
}

static void
test_head_persists(void **state)
{
	static const struct { const char *text; int want; } rows[] = {
		{ "GET / HTTP/1.1\r\n\r\n", 1 },
		{ "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 0 },
		{ "GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", 0 },
		{ "GET / HTTP/1.1\r\nConnection: te, close\r\n\r\n", 0 },
		{ "GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", 1 },
		{ "GET / HTTP/1.1\r\nConnection: keep-alive, close\r\n\r\n",
		    0 },
		{ "GET / HTTP/1.1\r\nConnection: te\r\nConnection: close\r\n"
		    "\r\n", 0 },
		{ "GET / HTTP/1.1\r\nConnection: closed\r\n\r\n", 1 },
		{ "GET / HTTP/1.0\r\n\r\n", 0 },
		{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 1 },
		{ "GET / HTTP/1.0\r\nConnection: Keep-Alive, te\r\n\r\n", 1 },
		{ "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
		    0 },
		{ "HTTP/1.1 407 No\r\n\r\n", 1 },
		{ "HTTP/1.1 407 No\r\nConnection: close\r\n\r\n", 0 },
		{ "HTTP/1.1 407 No\r\nProxy-Connection: close\r\n\r\n", 0 },
		{ "HTTP/1.0 407 No\r\n\r\n", 0 },
		{ "HTTP/1.0 407 No\r\nConnection: keep-alive\r\n\r\n", 1 },
		{ "HTTP/1.0 407 No\r\nProxy-Connection: Keep-Alive\r\n\r\n",
		    1 },
	};
	struct head h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		head_of(&h, rows[i].text);
		if (head_persists(&h) != rows[i].want)
			fail_msg("%s", show(rows[i].text,
			    strlen(rows[i].text)));
	}
}

static void
test_field_valid(void **state)
{
	static const struct {
		const char *name, *value; size_t n; int want;
	} rows[] = {
		{ "A", BYTES(""), 1 }, { "X-Y_z.1", BYTES("a b: c, \"d\""), 1 },
		{ "A", BYTES("\xe9\xff"), 1 }, { "", BYTES("a"), 0 },
		{ "A B", BYTES("a"), 0 }, { "A ", BYTES("a"), 0 },
		{ " A", BYTES("a"), 0 }, { "A:", BYTES("a"), 0 },
		{ "A\r", BYTES("a"), 0 }, { "\xe9", BYTES("a"), 0 },
		{ "A(", BYTES("a"), 0 }, { "A", BYTES("a\r"), 0 },
		{ "A", BYTES("a\nB: c"), 0 }, { "A", BYTES("a\r\n b"), 0 },
		{ "A", BYTES("a\0b"), 0 }, { "A", BYTES("\x1b"), 0 },
		{ "A", BYTES("\x7f"), 0 },
	};
	struct span value;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		value.n = rows[i].n;
		value.p = at_end(rows[i].value, value.n);
		if (field_valid(span(rows[i].name), value) != rows[i].want)
			fail_msg("'%s': '%s'", rows[i].name,
			    show(rows[i].value, rows[i].n));
	}
}

/* ---- what body follows ------------------------------------------------- */

#define NONE	(1 << BODY_NONE)
#define LENGTH	(1 << BODY_LENGTH)
#define CHUNKED	(1 << BODY_CHUNKED)
#define CLOSE	(1 << BODY_CLOSE)
#define BAD	(1 << BODY_BAD)

/* Where RFC 9112 leaves it to the recipient, more than one bit is set. */
struct framing_row {
	const char *line, *fields; int want; uint64_t length;
};

static void
framing(const struct framing_row *row)
{
	char text[256];
	uint64_t length = 99;
	enum framing f;
	struct head h;

	snprintf(text, sizeof(text), "%s\r\n%s\r\n", row->line, row->fields);
	head_of(&h, text);
	f = head_framing(&h, &length);
	if (!(1 << f & row->want) || (f == BODY_LENGTH &&
	    length != row->length))
		fail_msg("<<%s>>: %d, length %llu", show(text, strlen(text)),
		    (int)f, (unsigned long long)length);
}

#define CL	"Content-Length: "
#define TE	"Transfer-Encoding: "

static void
test_framing_request(void **state)
{
	static const struct framing_row rows[] = {
		{ "", "", NONE, 0 },				/* 7 */
		{ "", CL "0\r\n", NONE, 0 },			/* 6 */
		{ "", CL "5\r\n", LENGTH, 5 },
		{ "", "content-length:5\r\n", LENGTH, 5 },
		{ "", CL "0005\r\n", LENGTH, 5 },
		{ "", CL "999999999999999999\r\n", LENGTH,
		    999999999999999999 },
		{ "", CL "18446744073709551616\r\n", BAD, 0 },	/* 5 */
		{ "", CL "18446744073709551621\r\n", BAD, 0 },
		{ "", CL "99999999999999999999999999\r\n", BAD, 0 },
		{ "", CL "\r\n", BAD, 0 },
		{ "", CL "+5\r\n", BAD, 0 },
		{ "", CL "-5\r\n", BAD, 0 },
		{ "", CL "5a\r\n", BAD, 0 },
		{ "", CL "0x5\r\n", BAD, 0 },
		{ "", CL "5 5\r\n", BAD, 0 },
		{ "", CL "5.0\r\n", BAD, 0 },
		{ "", CL "1e1\r\n", BAD, 0 },
		{ "", CL "\"5\"\r\n", BAD, 0 },
		{ "", CL "5;\r\n", BAD, 0 },
		{ "", CL "5,\r\n", BAD, 0 },
		{ "", CL "5, 5\r\n", BAD, 0 },
		{ "", CL "5, 6\r\n", BAD, 0 },
		{ "", CL "5\r\n" CL "5\r\n", BAD, 0 },
		{ "", CL "5\r\n" CL "6\r\n", BAD, 0 },
		{ "", CL "0\r\n" CL "6\r\n", BAD, 0 },
		{ "", CL "0\r\n" CL "0\r\n", BAD, 0 },
		{ "", TE "chunked\r\n", CHUNKED, 0 },		/* 4 */
		{ "", TE "Chunked\r\n", CHUNKED, 0 },
		{ "", TE "\r\n", BAD, 0 },
		{ "", TE "gzip\r\n", BAD, 0 },
		{ "", TE "identity\r\n", BAD, 0 },
		{ "", TE "gzip, chunked\r\n", BAD, 0 },
		{ "", TE "chunked, gzip\r\n", BAD, 0 },
		{ "", TE "chunked, chunked\r\n", BAD, 0 },
		{ "", TE "chunked,\r\n", BAD, 0 },
		{ "", TE "xchunked\r\n", BAD, 0 },
		{ "", TE "chunkedx\r\n", BAD, 0 },
		{ "", TE "\"chunked\"\r\n", BAD, 0 },
		{ "", TE "chunked;q=1\r\n", BAD, 0 },
		{ "", TE "chunked\r\n" TE "chunked\r\n", BAD, 0 },
		{ "", TE "chunked\r\n" TE "identity\r\n", BAD, 0 },
		{ "", TE "gzip\r\n" TE "chunked\r\n", BAD, 0 },
		{ "", TE "chunked\r\n" CL "5\r\n", BAD, 0 },	/* 3 */
		{ "", CL "5\r\n" TE "chunked\r\n", BAD, 0 },
		{ "", CL "0\r\n" TE "chunked\r\n", BAD, 0 },
		{ "", CL "x\r\n" TE "chunked\r\n", BAD, 0 },
		{ "", "Transfer_Encoding: chunked\r\n", NONE, 0 },
		{ "", "Content-Lengt: 5\r\n", NONE, 0 },
	};
	static const char *const methods[] = { "GET", "CONNECT", "PUT" };
	struct framing_row row;
	char line[64];
	size_t i, k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		for (k = 0; k < COUNT(methods); k++) {
			snprintf(line, sizeof(line), "%s a:1 HTTP/1.1",
			    methods[k]);
			row = rows[i];
			row.line = line;
			framing(&row);
			/* HTTP/1.0 knows no chunks (RFC 9112, 6.1). */
			line[strlen(line) - 1] = '0';
			if (row.want == CHUNKED)
				row.want = BAD;
			framing(&row);
		}
}

static void
test_framing_reply(void **state)
{
	static const struct framing_row rows[] = {
		{ "HTTP/1.1 100 C", CL "5\r\n", NONE, 0 },	/* 1 */
		{ "HTTP/1.1 101 S", TE "chunked\r\n", NONE, 0 },
		{ "HTTP/1.1 103 E", "", NONE, 0 },
		{ "HTTP/1.1 204 N", CL "5\r\n", NONE, 0 },
		{ "HTTP/1.1 204 N", TE "chunked\r\n", NONE, 0 },
		{ "HTTP/1.1 304 N", CL "5\r\n", NONE, 0 },
		{ "HTTP/1.1 304 N", "", NONE, 0 },
		{ "HTTP/1.1 407 N", "", CLOSE, 0 },		/* 8 */
		{ "HTTP/1.1 200 O", "", CLOSE, 0 },
		{ "HTTP/1.1 200 O", CL "5\r\n", LENGTH, 5 },
		{ "HTTP/1.1 205 R", CL "0\r\n", NONE, 0 },
		{ "HTTP/1.0 407 N", "", CLOSE, 0 },
		{ "HTTP/1.1 407 N", CL "0\r\n", NONE, 0 },	/* 6 */
		{ "HTTP/1.1 407 N", CL "5\r\n", LENGTH, 5 },
		{ "HTTP/1.0 407 N", CL "5\r\n", LENGTH, 5 },
		{ "HTTP/1.1 407 N", CL "5\r\n" CL "5\r\n", LENGTH | BAD, 5 },
		{ "HTTP/1.1 407 N", CL "5, 5\r\n", LENGTH | BAD, 5 },	/* 5 */
		{ "HTTP/1.1 407 N", CL "5\r\n" CL "6\r\n", BAD, 0 },
		{ "HTTP/1.1 407 N", CL "6\r\n" CL "5\r\n" CL "6\r\n", BAD, 0 },
		{ "HTTP/1.1 407 N", CL "5, 6\r\n", BAD, 0 },
		{ "HTTP/1.1 407 N", CL "x\r\n", BAD, 0 },
		{ "HTTP/1.1 407 N", CL "\r\n", BAD, 0 },
		{ "HTTP/1.1 407 N", CL "-1\r\n", BAD, 0 },
		{ "HTTP/1.1 407 N", CL "18446744073709551621\r\n", BAD, 0 },
		{ "HTTP/1.1 407 N", TE "chunked\r\n", CHUNKED, 0 },	/* 4 */
		{ "HTTP/1.1 407 N", TE "CHUNKED\r\n", CHUNKED, 0 },
		{ "HTTP/1.1 407 N", TE "gzip\r\n", CLOSE | BAD, 0 },
		{ "HTTP/1.1 407 N", TE "gzip, chunked\r\n", CHUNKED | BAD, 0 },
		{ "HTTP/1.1 407 N", TE "chunked, gzip\r\n", CLOSE | BAD, 0 },
		{ "HTTP/1.1 407 N", TE "chunked\r\n" TE "chunked\r\n",
		    CHUNKED | BAD, 0 },
		{ "HTTP/1.1 407 N", TE "chunked\r\n" CL "5\r\n",	/* 3 */
		    CHUNKED | BAD, 0 },
		{ "HTTP/1.1 407 N", CL "0\r\n" TE "chunked\r\n",
		    CHUNKED | BAD, 0 },
		{ "HTTP/1.0 407 N", TE "chunked\r\n", CLOSE | BAD, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		framing(&rows[i]);
}

/* ---- chunked bodies ---------------------------------------------------- */

/*
 * Decodes the text, the first cut bytes at once and then step bytes each.
 * Returns the payload's length, or -1 when it is malformed.
 */
static ssize_t
decode(const char *text, size_t n, size_t cut, size_t step, char *out,
    size_t *used, int *done)
{
	struct chunked c;
	size_t pos = 0, piece, u, len = 0;
	unsigned char *p;
	ssize_t r;

	memset(&c, 0, sizeof(c));
	for (;;) {
		piece = pos == 0 && cut > 0 ? cut : step;
		if (piece > n - pos)
			piece = n - pos;
		p = (unsigned char *)at_end(text + pos, piece);
		if ((r = chunked_decode(&c, p, piece, &u)) == -1)
			return -1;
		if (r < 0 || (size_t)r > u || u > piece)
			fail_msg("%zd of %zu of %zu bytes", r, u, piece);
		memcpy(out + len, p, (size_t)r);
		len += (size_t)r;
		pos += u;
		if (chunked_done(&c))
			break;
		if (u != piece)
			fail_msg("%zu of %zu bytes", u, piece);
		if (pos == n)
			break;
	}
	*used = pos;
	*done = chunked_done(&c);
	/* Behind the end nothing is taken any more. */
	p = (unsigned char *)at_end("0\r\n", 3);
	if (*done && (chunked_decode(&c, p, 3, &u) != 0 || u != 0))
		fail_msg("<<%s>>: %zu bytes more", show(text, n), u);
	return (ssize_t)len;
}

/* want: the payload; NULL: malformed. */
static void
check_chunks(const char *text, size_t n, const char *want, int done,
    size_t behind)
{
	char out[1024];
	size_t cut, used = 0;
	int is_done = 0;
	ssize_t r;

	for (cut = 0; cut <= n; cut++) {
		/* Without a cut: all of it byte by byte. */
		r = decode(text, n, cut, cut == 0 ? 1 : n, out, &used,
		    &is_done);
		if (want == NULL) {
			if (r != -1)
				fail_msg("<<%s>> cut at %zu is accepted",
				    show(text, n), cut);
			continue;
		}
		if (r != (ssize_t)strlen(want) || memcmp(out, want,
		    (size_t)r) != 0 || is_done != done || used != n - behind)
			fail_msg("<<%s>> cut at %zu: %zd bytes, %zu used, "
			    "done %d", show(text, n), cut, r, used, is_done);
	}
}

static void
test_chunked_good(void **state)
{
	static const struct {
		const char *text; size_t n; const char *want; int done;
		size_t behind;
	} rows[] = {
		{ BYTES("4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n"), "Wikipedia",
		    1, 0 },
		{ BYTES("0\r\n\r\n"), "", 1, 0 },
		{ BYTES("000\r\n\r\n"), "", 1, 0 },
		{ BYTES("0\r\n\r\nHTTP/1.1 200 OK"), "", 1, 15 },
		{ BYTES("1\r\na\r\n0\r\n\r\n\r\n0\r\n\r\n"), "a", 1, 7 },
		{ BYTES("a\r\n0123456789\r\n0\r\n\r\n"), "0123456789", 1, 0 },
		{ BYTES("0B\r\n\r\n0\r\n\r\nabcd\r\n0\r\n\r\n"),
		    "\r\n0\r\n\r\nabcd", 1, 0 },
		{ BYTES("00001\r\na\r\n0\r\n\r\n"), "a", 1, 0 },
		{ BYTES("1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n"), "\r\n", 1, 0 },
		{ BYTES("1;a\r\nx\r\n0;b\r\n\r\n"), "x", 1, 0 },
		{ BYTES("1;a=b;c=\"d e\\\"\"\r\nx\r\n0\r\n\r\n"), "x", 1, 0 },
		{ BYTES("1;a=\"b;c\"\t\xe9\r\nx\r\n0;;\r\n\r\n"), "x", 1, 0 },
		{ BYTES("1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n"), "x", 1, 0 },
		{ BYTES("0\r\nA: b\tc\xe9\r\n\r\nxyz"), "", 1, 3 },
		/* not done */
		{ BYTES(""), "", 0, 0 },
		{ BYTES("4"), "", 0, 0 },
		{ BYTES("4\r"), "", 0, 0 },
		{ BYTES("4\r\nWik"), "Wik", 0, 0 },
		{ BYTES("4\r\nWiki"), "Wiki", 0, 0 },
		{ BYTES("4\r\nWiki\r\n"), "Wiki", 0, 0 },
		{ BYTES("4\r\nWiki\r\n0\r\n"), "Wiki", 0, 0 },
		{ BYTES("4\r\nWiki\r\n0\r\n\r"), "Wiki", 0, 0 },
		{ BYTES("0\r\nA: b\r\n\r"), "", 0, 0 },
		{ BYTES("FFFFFFFFFFFFFFF\r\nabc"), "abc", 0, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		check_chunks(rows[i].text, rows[i].n, rows[i].want,
		    rows[i].done, rows[i].behind);
}

/* RFC 9112, 7.1.1: blanks around an extension's ";" must be read over. */
static void
test_chunked_blank(void **state)
{
	(void)state;
	check_chunks(BYTES("1;a = b\r\nx\r\n0\r\n\r\n"), "x", 1, 0);
	check_chunks(BYTES("1; a=b\r\nx\r\n0\r\n\r\n"), "x", 1, 0);
	check_chunks(BYTES("1 ;a=b\r\nx\r\n0\t ; c\r\n\r\n"), "x", 1, 0);
}

static void
test_chunked_bad(void **state)
{
	static const struct { const char *text; size_t n; } rows[] = {
		{ BYTES("\r\n") }, { BYTES("g\r\n") }, { BYTES("-1\r\n") },
		{ BYTES("+1\r\n") }, { BYTES("0x1\r\n") }, { BYTES(" 1\r\n") },
		{ BYTES("\t1\r\n") }, { BYTES("1 1\r\n") },
		{ BYTES("1\n") }, { BYTES("1\rx") }, { BYTES("1\r\r\n") },
		{ BYTES("1,\r\n") }, { BYTES("1.0\r\n") }, { BYTES("1\0") },
		{ BYTES(";a\r\n") }, { BYTES("1;a\n") },
		{ BYTES("1;a\0") }, { BYTES("1;a\x01") },
		{ BYTES("1;a\x7f") }, { BYTES("1;a\r\r\n") },
		{ BYTES("1;a\rb") },
		{ BYTES("4\r\nWikiX") }, { BYTES("4\r\nWiki\n") },
		{ BYTES("4\r\nWiki0\r\n") }, { BYTES("4\r\nWiki\r4") },
		{ BYTES("4\r\nWiki\r\r") }, { BYTES("4\r\nWiki\r\n\r\n") },
		{ BYTES("4\r\nWiki\r\n 0\r\n") },
		{ BYTES("0\n") }, { BYTES("0\r\n\n") }, { BYTES("0\r\n\rX") },
		{ BYTES("0\r\n A: b\r\n") }, { BYTES("0\r\n\tA: b\r\n") },
		{ BYTES("0\r\n:b\r\n") }, { BYTES("0\r\n\0") },
		{ BYTES("0\r\nA: b\n") }, { BYTES("0\r\nA: b\r\r\n") },
		{ BYTES("0\r\nA: b\rc") }, { BYTES("0\r\nA: \0") },
		{ BYTES("0\r\nA: b\r\n\n") }, { BYTES("0\r\nA: b\r\n x\r\n") },
		{ BYTES("FFFFFFFFFFFFFFFF\r\n") },
		{ BYTES("10000000000000000\r\n") },
		{ BYTES("10000000000000001\r\n") },
		{ BYTES("ffffffffffffffffffffffffffffffff\r\n") },
		{ BYTES("00000000000000000000000000000001\r\n") },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		check_chunks(rows[i].text, rows[i].n, NULL, 0, 0);
}

static void
test_chunked_bytes(void **state)
{
	char text[16], out[16];
	size_t used;
	int i, v, done;
	ssize_t r;

	(void)state;
	for (i = 0; i < 256; i++) {
		v = i >= '0' && i <= '9' ? i - '0' :
		    i >= 'a' && i <= 'f' ? i - 'a' + 10 :
		    i >= 'A' && i <= 'F' ? i - 'A' + 10 : -1;
		text[0] = (char)i;
		r = decode(text, 1, 0, 1, out, &used, &done);
		if (r != (v == -1 ? -1 : 0))
			fail_msg("%02x begins a size: %zd", (unsigned)i, r);
		memcpy(text + 1, "\r\n0123456789abcdef", 15);
		r = decode(text, 16, 16, 1, out, &used, &done);
		/* No more than the size; CRLF is missing behind it. */
		if (r != (v == 13 ? 13 : -1) && v <= 13 && v != 0)
			fail_msg("size %02x: %zd", (unsigned)i, r);
		memcpy(text, "1\r\na", 4);
		text[4] = (char)i;
		r = decode(text, 5, 0, 1, out, &used, &done);
		if (r != (i == '\r' ? 1 : -1))
			fail_msg("%02x behind the data: %zd", (unsigned)i, r);
	}
}

/* What belongs to no payload is bounded, so that nobody is kept for ever. */
static void
test_chunked_endless(void **state)
{
	static const struct { const char *begin, *piece; } rows[] = {
		{ "1;", "x" }, { "1;", "a=b;" }, { "1", "0" }, { "0", "0" },
		{ "0\r\nA: ", "x" }, { "0\r\n", "A: b\r\n" },
		{ "0\r\n", "A\r\n" }, { "1;a", "\t" },
	};
	struct chunked c;
	size_t i, n, used;
	unsigned char *p;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		memset(&c, 0, sizeof(c));
		n = strlen(rows[i].begin);
		p = (unsigned char *)at_end(rows[i].begin, n);
		assert_int_equal(chunked_decode(&c, p, n, &used), 0);
		for (n = 0; n < 4 * HEAD_MAX; n += strlen(rows[i].piece)) {
			used = strlen(rows[i].piece);
			p = (unsigned char *)at_end(rows[i].piece, used);
			if (chunked_decode(&c, p, used, &used) == -1)
				break;
		}
		if (n >= 4 * HEAD_MAX)
			fail_msg("%zu bytes of '%s' behind '%s'", n,
			    show(rows[i].piece, strlen(rows[i].piece)),
			    show(rows[i].begin, strlen(rows[i].begin)));
	}
}

/* ---- codecs ------------------------------------------------------------ */

static void
check_message(enum framing in, uint64_t left, const char *text,
    const char *want, int open_ended)
{
	struct message m;
	size_t n = strlen(text), cut, pos, piece, len;
	unsigned char *p;
	char out[64];
	int over;
	size_t used;
	ssize_t r;

	for (cut = 0; cut <= n; cut++) {
		memset(&m, 0, sizeof(m));
		m.in = in;
		m.left = left;
		assert_int_equal(message_codec.open_ended(&m), open_ended);
		over = 0;
		len = 0;
		/* In two pieces; nothing comes behind the last byte. */
		for (pos = 0; pos < n && !over; pos += piece) {
			piece = pos == 0 && cut > 0 ? cut : n - pos;
			p = (unsigned char *)at_end(text + pos, piece);
			used = piece;
			r = message_codec.decode(&m, p, piece, &used, &over);
			if (r < 0 || (size_t)r > used || used > piece ||
			    (used < piece && !over))
				fail_msg("<<%s>> cut at %zu: %zd", text, cut,
				    r);
			memcpy(out + len, p, (size_t)r);
			len += (size_t)r;
		}
		out[len] = '\0';
		if (strcmp(out, want) != 0 || over == open_ended)
			fail_msg("<<%s>> cut at %zu: '%s', over %d", text,
			    cut, out, over);
	}
}

static void
test_message_decode(void **state)
{
	struct message m;
	size_t used = 3;
	int over = 0;

	(void)state;
	check_message(BODY_LENGTH, 5, "12345", "12345", 0);
	check_message(BODY_LENGTH, 5, "12345678", "12345", 0);
	check_message(BODY_CLOSE, 0, "12345", "12345", 1);
	check_message(BODY_CHUNKED, 0, "5\r\n12345\r\n1;x\r\n6\r\n"
	    "0\r\nA: b\r\n\r\n", "123456", 0);
	check_message(BODY_CHUNKED, 0, "1\r\n6\r\n0\r\n\r\n1\r\n7\r\n",
	    "6", 0);
	check_message(BODY_NONE, 0, "12345", "", 0);
	memset(&m, 0, sizeof(m));
	m.in = BODY_CHUNKED;
	assert_int_equal(message_codec.decode(&m,
	    (unsigned char *)at_end("x\r\n", 3), 3, &used, &over), -1);
}

/* In place, with no more than MARGIN around it. */
static void
test_message_encode(void **state)
{
	static const struct { size_t n; const char *size; } rows[] = {
		{ 1, "1\r\n" }, { 9, "9\r\n" }, { 10, "a\r\n" },
		{ 255, "ff\r\n" }, { 4096, "1000\r\n" },
		{ 60000, "ea60\r\n" },
	};
	static char body[60000];
	struct message m;
	unsigned char *p, *q;
	size_t i, k, n, low;

	(void)state;
	memset(&m, 0, sizeof(m));
	for (i = 0; i < sizeof(body); i++)
		body[i] = (char)(i % 251);
	for (i = 0; i < 2 * COUNT(rows); i++) {
		n = rows[i / 2].n;
		k = strlen(rows[i / 2].size);
		low = i % 2;		/* the margin that has to do */
		m.chunks_out = 1;
		p = (unsigned char *)(low ? at_start(NULL, 0) + MARGIN :
		    at_end(NULL, n + MARGIN));
		memcpy(p, body, n);
		q = message_codec.encode(&m, p, &n);
		assert_int_equal(n, k + rows[i / 2].n + 2);
		assert_memory_equal(q, rows[i / 2].size, k);
		assert_memory_equal(q + k, body, rows[i / 2].n);
		assert_memory_equal(q + n - 2, "\r\n", 2);
		/* Without chunks it is left as it is. */
		m.chunks_out = 0;
		n = rows[i / 2].n;
		assert_ptr_equal(message_codec.encode(&m, p, &n), p);
		assert_int_equal(n, rows[i / 2].n);
	}
}

static void
test_message_last(void **state)
{
	unsigned char *p = (unsigned char *)at_end(NULL, MARGIN);
	struct message m;

	(void)state;
	memset(&m, 0, sizeof(m));
	assert_int_equal(message_codec.last(&m, p), 0);
	m.chunks_out = 1;
	assert_int_equal(message_codec.last(&m, p), 5);
	assert_memory_equal(p, "0\r\n\r\n", 5);
}

static void
check_pass(const char *text, const char *want)
{
	struct buf b = { NULL, 0, 0, 0 };
	struct head h;

	head_of(&h, text);
	assert_int_equal(buf_put(&b, ">", 1), 0);
	assert_int_equal(head_pass(&b, &h), 0);
	if (b.len != strlen(want) + 1 ||
	    memcmp(b.p + b.off + 1, want, b.len - 1) != 0)
		fail_msg("%s", show(b.p + b.off, b.len));
	buf_free(&b);
}

#define VIA	"Via: 1.1 httptun\r\n"

static void
test_head_pass(void **state)
{
	(void)state;
	check_pass(LINE "\r\n", VIA);
	check_pass("GET / HTTP/1.0\r\n\r\n", "Via: 1.0 httptun\r\n");
	check_pass(LINE "A: b\r\na:  c \r\nX:\r\n\r\n",
	    "A: b\r\na: c\r\nX: \r\n" VIA);
	check_pass("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
	    "Via: 1.0 httptun\r\n");
	check_pass(LINE "Expect: 100-continue\r\nMax-Forwards: 3\r\n\r\n",
	    "Expect: 100-continue\r\nMax-Forwards: 3\r\n" VIA);
	check_pass("TRACE / HTTP/1.1\r\nMax-Forwards: 3\r\n\r\n",
	    "Max-Forwards: 2\r\n" VIA);
	check_pass("OPTIONS / HTTP/1.1\r\nMax-Forwards: x\r\n\r\n",
	    "Max-Forwards: x\r\n" VIA);
	check_pass(LINE "Via: 1.1 x\r\nAuthorization: y\r\n\r\n",
	    "Via: 1.1 x\r\nAuthorization: y\r\n" VIA);
	/* RFC 9110, 7.6.1, and what is written anew */
	check_pass(LINE "Host: a\r\nconnection: close\r\nKeep-Alive: 5\r\n"
	    "Proxy-Authenticate: x\r\nPROXY-AUTHORIZATION: x\r\n"
	    "Proxy-Connection: x\r\nTE: x\r\nTrailer: x\r\n"
	    "Transfer-Encoding: chunked\r\nUpgrade: x\r\nA: b\r\n\r\n",
	    "A: b\r\n" VIA);
	check_pass(LINE "A: b\r\nConnection: x, a ,C\r\nc: d\r\nAA: b\r\n"
	    "X: e\r\nConnection: aA\r\n\r\n", VIA);
	/* What it is measured by cannot be taken away, nor be two. */
	check_pass(LINE "Connection: content-length\r\n" CL "5\r\n\r\n",
	    CL "5\r\n" VIA);
	check_pass(LINE CL "5\r\n" TE "chunked\r\n\r\n", VIA);
	check_pass("HTTP/1.1 200 O\r\n" CL "5\r\n" CL "5\r\n\r\n",
	    CL "5\r\n" VIA);
	check_pass(LINE CL "5, 5\r\n\r\n", VIA);
	/* Where no content can be, none is promised (RFC 9110, 8.6). */
	check_pass("HTTP/1.1 103 E\r\n" CL "5\r\nA: b\r\n\r\n", "A: b\r\n" VIA);
	check_pass("HTTP/1.1 204 N\r\n" CL "0\r\n\r\n", VIA);
	check_pass("HTTP/1.1 304 N\r\n" CL "5\r\n\r\n", CL "5\r\n" VIA);
	/* A folded line is passed on as one (RFC 9112, 5.2). */
	check_pass("HTTP/1.1 200 O\r\nA: b\r\n c\r\n\r\n", "A: b   c\r\n"
	    VIA);
	check_pass("HTTP/1.1 200 O\r\nA: b\rX: c\r\n\r\n",
	    "A: b X: c\r\n" VIA);
}

static void
test_head_pass_status(void **state)
{
	static const struct { const char *text, *want; } rows[] = {
		{ "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n" },
		{ "HTTP/1.0 404\n\n", "HTTP/1.1 404 \r\n" },
		{ "HTTP/1.1 299 a\rb\xe9\r\n\r\n", "HTTP/1.1 299 a b\xe9\r\n" },
	};
	struct buf b = { NULL, 0, 0, 0 };
	struct head h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		head_of(&h, rows[i].text);
		assert_int_equal(head_pass_status(&b, &h), 0);
		assert_int_equal(b.len, strlen(rows[i].want));
		assert_memory_equal(b.p + b.off, rows[i].want, b.len);
		buf_free(&b);
	}
}

/* ---- authorities and URLs ---------------------------------------------- */

static void
test_host_parse(void **state)
{
	static const struct {
		const char *s; size_t n; const char *host;	/* NULL: bad */
	} rows[] = {
		{ BYTES("a"), "a" },
		{ BYTES("Host.Example"), "Host.Example" },
		{ BYTES("host.example."), "host.example." },
		{ BYTES("_srv.a-b.x--y"), "_srv.a-b.x--y" },
		{ BYTES("azAZ09"), "azAZ09" },
		{ BYTES("127.0.0.1"), "127.0.0.1" },
		{ BYTES("127.1"), "127.1" },
		{ BYTES("0x7f.1"), "0x7f.1" },
		{ BYTES("2130706433"), "2130706433" },
		{ BYTES("[::1]"), "::1" },
		{ BYTES("[::]"), "::" },
		{ BYTES("[2001:DB8::1]"), "2001:DB8::1" },
		{ BYTES("[::ffff:1.2.3.4]"), "::ffff:1.2.3.4" },
		{ BYTES(""), NULL },
		{ BYTES("[]"), NULL },
		{ BYTES("["), NULL },
		{ BYTES("]"), NULL },
		{ BYTES("[::1"), NULL },
		{ BYTES("::1]"), NULL },
		{ BYTES("::1"), NULL },
		{ BYTES("[[::1]]"), NULL },
		{ BYTES("[::1]]"), NULL },
		{ BYTES("[::1]x"), NULL },
		{ BYTES("[1.2.3.4]"), NULL },
		{ BYTES("[host]"), NULL },
		{ BYTES("[:::]"), NULL },
		{ BYTES("[12345::]"), NULL },
		{ BYTES("[1:2:3:4:5:6:7:8:9]"), NULL },
		{ BYTES("[::1 ]"), NULL },
		{ BYTES("[::1\0]"), NULL },
		{ BYTES("[fe80::1%25lo]"), NULL },
		{ BYTES("-x"), NULL },		/* would be an option */
		{ BYTES("-"), NULL },
		{ BYTES("a b"), NULL },
		{ BYTES(" a"), NULL },
		{ BYTES("a "), NULL },
		{ BYTES("a\t"), NULL },
		{ BYTES("a\0b"), NULL },
		{ BYTES("a\r\n"), NULL },
		{ BYTES("user@a"), NULL },
		{ BYTES("a/b"), NULL },
		{ BYTES("a?"), NULL },
		{ BYTES("a#"), NULL },
		{ BYTES("a:80"), NULL },
		{ BYTES("a%41"), NULL },
		{ BYTES("a,b"), NULL },
		{ BYTES("a;b"), NULL },
		{ BYTES("$(a)"), NULL },
		{ BYTES("`a`"), NULL },
		{ BYTES("a'"), NULL },
		{ BYTES("a\""), NULL },
		{ BYTES("a\\"), NULL },
		{ BYTES("a*"), NULL },
		{ BYTES("\xc3\xa9.example"), NULL },
		{ BYTES("a\x7f"), NULL },
	};
	const char *wrong;
	char *host;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		host = at_start(NULL, HOST_MAX + 1);
		wrong = host_parse(at_end(rows[i].s, rows[i].n), rows[i].n,
		    host);
		if ((wrong == NULL) != (rows[i].host != NULL) ||
		    (wrong == NULL && strcmp(host, rows[i].host) != 0) ||
		    (wrong != NULL && *wrong == '\0'))
			fail_msg("'%s': %s", show(rows[i].s, rows[i].n),
			    wrong != NULL ? wrong : host);
	}
}

static void
test_host_length(void **state)
{
	char name[HOST_MAX + 64], *host;
	size_t n;

	(void)state;
	memset(name, 'a', sizeof(name));
	for (n = 1; n < sizeof(name); n++) {
		host = at_end(NULL, HOST_MAX + 1);
		if ((host_parse(name, n, host) == NULL) != (n <= HOST_MAX))
			fail_msg("%zu bytes", n);
		if (n <= HOST_MAX && strlen(host) != n)
			fail_msg("%zu bytes: '%s'", n, host);
	}
	for (n = 2; n < sizeof(name); n++) {
		memset(name, '0', sizeof(name));
		name[0] = '[';
		name[n - 1] = ']';
		host = at_end(NULL, HOST_MAX + 1);
		assert_non_null(host_parse(name, n, host));
	}
}

static void
test_authority_parse(void **state)
{
	static const struct {
		const char *s; size_t n; unsigned dflt;
		const char *host; unsigned port;	/* NULL: bad */
	} rows[] = {
		{ BYTES("a:1"), 0, "a", 1 },
		{ BYTES("a:65535"), 0, "a", 65535 },
		{ BYTES("a:080"), 0, "a", 80 },
		{ BYTES("a:443"), 80, "a", 443 },
		{ BYTES("a"), 80, "a", 80 },
		{ BYTES("[::1]"), 80, "::1", 80 },
		{ BYTES("[::1]:22"), 80, "::1", 22 },
		{ BYTES("127.0.0.1:22"), 0, "127.0.0.1", 22 },
		{ BYTES("[1:2:3:4:5:6:7:8]:9"), 0, "1:2:3:4:5:6:7:8", 9 },
		{ BYTES(""), 0, NULL, 0 },
		{ BYTES(""), 80, NULL, 0 },
		{ BYTES(":"), 80, NULL, 0 },
		{ BYTES(":80"), 80, NULL, 0 },
		{ BYTES("a"), 0, NULL, 0 },
		{ BYTES("[::1]"), 0, NULL, 0 },
		{ BYTES("a:"), 0, NULL, 0 },
		{ BYTES("a:"), 80, NULL, 0 },
		{ BYTES("a:0"), 0, NULL, 0 },
		{ BYTES("a:65536"), 0, NULL, 0 },
		{ BYTES("a:99999"), 0, NULL, 0 },
		{ BYTES("a:4294967376"), 0, NULL, 0 },
		{ BYTES("a:abc"), 0, NULL, 0 },
		{ BYTES("a:+80"), 0, NULL, 0 },
		{ BYTES("a:-80"), 0, NULL, 0 },
		{ BYTES("a: 80"), 0, NULL, 0 },
		{ BYTES("a:80 "), 0, NULL, 0 },
		{ BYTES("a :80"), 0, NULL, 0 },
		{ BYTES("a:80\0"), 0, NULL, 0 },
		{ BYTES("a:8\0000"), 0, NULL, 0 },
		{ BYTES("a:0x50"), 0, NULL, 0 },
		{ BYTES("a:http"), 0, NULL, 0 },
		{ BYTES("a:80:81"), 0, NULL, 0 },
		{ BYTES("a:80/"), 0, NULL, 0 },
		{ BYTES("a/b:80"), 0, NULL, 0 },
		{ BYTES("http://a:80"), 0, NULL, 0 },
		{ BYTES("u@a:80"), 0, NULL, 0 },
		{ BYTES("u:p@a:80"), 0, NULL, 0 },
		{ BYTES("::1"), 80, NULL, 0 },
		{ BYTES("::1:80"), 0, NULL, 0 },
		{ BYTES("[::1]80"), 0, NULL, 0 },
		{ BYTES("[::1]80"), 80, NULL, 0 },
		{ BYTES("[::1]x:80"), 0, NULL, 0 },
		{ BYTES("[::1]:"), 80, NULL, 0 },
		{ BYTES("[::1:80"), 0, NULL, 0 },
		{ BYTES("[]:80"), 0, NULL, 0 },
		{ BYTES("[a]:80"), 0, NULL, 0 },
		{ BYTES("a]:80"), 0, NULL, 0 },
	};
	const char *wrong;
	char *host;
	unsigned port;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		port = 0;
		host = at_start(NULL, HOST_MAX + 1);
		wrong = authority_parse(at_end(rows[i].s, rows[i].n),
		    rows[i].n, host, &port, rows[i].dflt);
		if ((wrong == NULL) != (rows[i].host != NULL) ||
		    (wrong == NULL && (strcmp(host, rows[i].host) != 0 ||
		    port != rows[i].port)))
			fail_msg("'%s': %s", show(rows[i].s, rows[i].n),
			    wrong != NULL ? wrong : host);
	}
}

static void
test_authority_format(void **state)
{
	static const struct {
		const char *host; unsigned port; const char *want;
	} rows[] = {
		{ "a", 1, "a:1" }, { "127.0.0.1", 65535, "127.0.0.1:65535" },
		{ "::1", 22, "[::1]:22" }, { "2001:db8::1", 443,
		    "[2001:db8::1]:443" },
	};
	char host[HOST_MAX + 1], *s;
	unsigned port;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		s = authority_format(at_end(NULL, HOST_MAX + 9), rows[i].host,
		    rows[i].port);
		assert_string_equal(s, rows[i].want);
		assert_null(authority_parse(s, strlen(s), host, &port, 0));
		assert_string_equal(host, rows[i].host);
		assert_int_equal(port, rows[i].port);
	}
	memset(host, 'a', HOST_MAX);
	host[HOST_MAX] = '\0';
	s = authority_format(at_end(NULL, HOST_MAX + 9), host, 65535);
	assert_int_equal(strlen(s), HOST_MAX + 6);
	host[1] = ':';		/* as long as one with brackets can be */
	s = authority_format(at_end(NULL, HOST_MAX + 9), host, 65535);
	assert_int_equal(strlen(s), HOST_MAX + 8);
}

static void
test_url_split(void **state)
{
	static const struct {
		const char *s, *scheme, *user, *pass, *host_port, *path;
	} rows[] = {
		{ "", NULL, NULL, NULL, "", "" },
		{ "a", NULL, NULL, NULL, "a", "" },
		{ "a:80", NULL, NULL, NULL, "a:80", "" },
		{ "http://a", "http", NULL, NULL, "a", "" },
		{ "HTTP://a:80/", "HTTP", NULL, NULL, "a:80", "/" },
		{ "ws://a/b/c?d", "ws", NULL, NULL, "a", "/b/c?d" },
		{ "http://a?b", "http", NULL, NULL, "a", "?b" },
		{ "http://a#b", "http", NULL, NULL, "a", "#b" },
		{ "a/b", NULL, NULL, NULL, "a", "/b" },
		{ "u@a", NULL, "u", NULL, "a", "" },
		{ "u:@a", NULL, "u", "", "a", "" },
		{ "u:p@a:80", NULL, "u", "p", "a:80", "" },
		{ ":p@a", NULL, "", "p", "a", "" },
		{ "@a", NULL, "", NULL, "a", "" },
		{ ":@a", NULL, "", "", "a", "" },
		{ "u:p:q@a", NULL, "u", "p:q", "a", "" },
		{ "u:p@q@a", NULL, "u", "p@q", "a", "" },
		{ "u@v:p@a", NULL, "u@v", "p", "a", "" },
		{ "http://u:p%40q@a:1/", "http", "u", "p%40q", "a:1", "/" },
		{ "http://u:p@[::1]:1", "http", "u", "p", "[::1]:1", "" },
		{ "[::1]:80", NULL, NULL, NULL, "[::1]:80", "" },
		{ "u:p/q?r#s@a:1", NULL, "u", "p/q?r#s", "a:1", "" },
		{ "http://u:p/q?r#s@a:1", "http", "u", "p/q?r#s", "a:1", "" },
		{ "://a", "", NULL, NULL, "a", "" },
		{ "http:/a", NULL, NULL, NULL, "http:", "/a" },
		{ "http:a", NULL, NULL, NULL, "http:a", "" },
		{ "//a", NULL, NULL, NULL, "", "//a" },
		{ "http://", "http", NULL, NULL, "", "" },
		{ "http://@", "http", "", NULL, "", "" },
	};
	struct url u;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		memset(&u, 0xff, sizeof(u));	/* nothing is left unset */
		url_split(&u, at_end(rows[i].s, strlen(rows[i].s) + 1));
		/* An absent path may be NULL or empty. */
		if (!same(u.scheme, rows[i].scheme) ||
		    !same(u.user, rows[i].user) ||
		    !same(u.pass, rows[i].pass) ||
		    !same(u.host_port, rows[i].host_port) ||
		    u.path.n != strlen(rows[i].path) ||
		    memcmp(u.path.n > 0 ? u.path.p : "", rows[i].path,
		    u.path.n) != 0)
			fail_msg("'%s': scheme '%.*s' user '%.*s' pass "
			    "'%.*s' host '%.*s' path '%.*s'", rows[i].s,
			    (int)u.scheme.n, u.scheme.p, (int)u.user.n,
			    u.user.p, (int)u.pass.n, u.pass.p,
			    (int)u.host_port.n, u.host_port.p,
			    (int)u.path.n, u.path.p);
	}
}

/* A scheme has no colon (RFC 3986, 3.1): a password may look like a URL. */
static void
test_url_split_scheme(void **state)
{
	struct url u;

	(void)state;
	url_split(&u, "u:p://q@a");
	assert_true(same(u.scheme, NULL));
	assert_true(same(u.user, "u"));
	assert_true(same(u.pass, "p://q"));
	assert_true(same(u.host_port, "a"));
}

static void
test_target_absolute(void **state)
{
	static const struct { const char *s; int want; } rows[] = {
		{ "http://a/", 1 }, { "HTTPS://a", 1 }, { "ws://", 1 },
		{ "a+b.c-1://x", 1 }, { "", 0 }, { "*", 0 }, { "/", 0 },
		{ "/http://a", 0 }, { "a:80", 0 }, { "http", 0 },
		{ "http:", 0 }, { "http:/", 0 }, { "http:/a/", 0 },
		{ "://a", 0 }, { "a/b://c", 0 }, { "[::1]:80", 0 },
	};
	struct span t;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		t.n = strlen(rows[i].s);
		t.p = at_end(rows[i].s, t.n);
		if (target_absolute(t) != rows[i].want)
			fail_msg("'%s'", rows[i].s);
	}
}

static void
test_target_split(void **state)
{
	static const struct {
		const char *s, *authority, *path;	/* NULL: an error */
	} rows[] = {
		{ "http://a/", "a", "/" },
		{ "HTTP://a:80/b?c", "a:80", "/b?c" },
		{ "http://a", "a", "" }, { "http://a?b", "a", "?b" },
		{ "http://a?b/c@d", "a", "?b/c@d" },
		{ "http://[::1]:8/x", "[::1]:8", "/x" },
		{ "http://a/b@c", "a", "/b@c" }, { "http://a//b", "a", "//b" },
		{ "http://", "", "" }, { "http:///", "", "/" },
		{ "http://a:/b", "a", "/b" }, { "http://[::1]:", "[::1]", "" },
		{ "http://a::", "a:", "" }, { "http://:", ":", "" },
		{ "", NULL, NULL }, { "/", NULL, NULL }, { "*", NULL, NULL },
		{ "http:/a", NULL, NULL }, { "http:", NULL, NULL },
		{ "http:/", NULL, NULL }, { "https://a/", NULL, NULL },
		{ "ftp://a/", NULL, NULL }, { "http://u@a/", NULL, NULL },
		{ "http://u:p@a/", NULL, NULL }, { "http://@a/", NULL, NULL },
		{ "http://a/#b", NULL, NULL }, { "http://a#b", NULL, NULL },
		{ "http://a?#", NULL, NULL },
	};
	struct span t, authority, path;
	const char *wrong;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		t.n = strlen(rows[i].s);
		t.p = at_end(rows[i].s, t.n);
		wrong = target_split(t, &authority, &path);
		if ((wrong == NULL) != (rows[i].path != NULL) ||
		    (wrong == NULL && (!same(authority, rows[i].authority) ||
		    !same(path, rows[i].path))))
			fail_msg("'%s': %s", rows[i].s, wrong != NULL ?
			    wrong : "split at another place");
	}
}

static void
test_percent_decode(void **state)
{
	static const struct {
		const char *s; size_t n; const char *want;	/* NULL: bad */
	} rows[] = {
		{ BYTES(""), "" }, { BYTES("abc"), "abc" },
		{ BYTES("a%20b"), "a b" }, { BYTES("%41%6a%4A%6A"), "AjJj" },
		{ BYTES("%25%3a%40%2F"), "%:@/" }, { BYTES("%2541"), "%41" },
		{ BYTES("a+b"), "a+b" }, { BYTES("%c3%A9\xc3\xa9"),
		    "\xc3\xa9\xc3\xa9" },
		{ BYTES("%"), NULL }, { BYTES("%4"), NULL },
		{ BYTES("a%"), NULL }, { BYTES("a%4"), NULL },
		{ BYTES("%4g"), NULL }, { BYTES("%g4"), NULL },
		{ BYTES("%%41"), NULL }, { BYTES("% 41"), NULL },
		{ BYTES("%+4"), NULL }, { BYTES("%00"), NULL },
		{ BYTES("%0a"), NULL }, { BYTES("%0d"), NULL },
		{ BYTES("%1f"), NULL }, { BYTES("%7f"), NULL },
		{ BYTES("%09"), NULL }, { BYTES("a\0b"), NULL },
		{ BYTES("a\nb"), NULL }, { BYTES("\x7f"), NULL },
	};
	struct span s;
	size_t i, size;
	ssize_t r;
	char *d;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		for (size = 1; size < 12; size++) {
			s.n = rows[i].n;
			s.p = at_start(rows[i].s, s.n);
			d = at_end(NULL, size);
			r = percent_decode(d, size, s);
			if (rows[i].want == NULL ||
			    strlen(rows[i].want) >= size ? r != -1 :
			    r != (ssize_t)strlen(rows[i].want) ||
			    strcmp(d, rows[i].want) != 0)
				fail_msg("'%s' to %zu bytes: %zd",
				    show(rows[i].s, rows[i].n), size, r);
			s.p = at_end(rows[i].s, s.n);
			if (percent_decode(at_start(NULL, size), size, s) != r)
				fail_msg("'%s' depends on its place",
				    show(rows[i].s, rows[i].n));
		}
}

/* ---- hashes ------------------------------------------------------------ */

static void
check_sha1(const void *p, size_t n, const char *want)
{
	unsigned char hash[SHA1_LEN];
	char hex[2 * SHA1_LEN + 1];
	size_t i;

	sha1(hash, p, n);
	for (i = 0; i < SHA1_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	if (strcmp(hex, want) != 0)
		fail_msg("%zu bytes: %s, not %s", n, hex, want);
}

/* The examples of FIPS 180, and the million of them. */
static void
test_sha1(void **state)
{
	static const struct {
		const char *text; size_t n; const char *want;
	} rows[] = {
		{ BYTES(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709" },
		{ BYTES("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d" },
		{ BYTES("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmno"
		    "mnopnopq"), "84983e441c3bd26ebaae4aa1f95129e5e54670f1" },
		{ BYTES("abcdefghbcdefghicdefghijdefghijkefghijklfghijklm"
		    "ghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
		    "mnopqrstnopqrstu"),
		    "a49b2446a02c645bf419f995b67091253a04a259" },
	};
	static char million[1000000];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		check_sha1(at_end(rows[i].text, rows[i].n), rows[i].n,
		    rows[i].want);
		check_sha1(at_start(rows[i].text, rows[i].n), rows[i].n,
		    rows[i].want);
	}
	memset(million, 'a', sizeof(million));
	check_sha1(million, sizeof(million),
	    "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

/*
 * Every way to pad: n bytes, the k-th of them 7 * k + n.  What each begins
 * with is from sha1sum(1), as is the hash of all the hashes.
 */
static void
test_sha1_lengths(void **state)
{
	static const uint32_t begins[] = {
		0xda39a3ee, 0xbf8b4530, 0x9c674f1b, 0x4201de9f, 0xe8780d9e,
		0xf0b8aa07, 0x7e40133c, 0xeab18589, 0xfc1bbedc, 0x17d7a67c,
		0x426cc3ee, 0x11954da1, 0x0342934a, 0x8bf437c8, 0xe183f9ad,
		0x8e52e3f5, 0xf522cd17, 0x1072b130, 0x9f6e5310, 0xe114bef9,
		0xe268fede, 0xbffa8ee0, 0xba185089, 0x7f19f945, 0xf8166601,
		0x222adba9, 0xced4d5db, 0x369bcc40, 0x8cb582cb, 0xfd17cdfb,
		0xbca758b9, 0xfa8eab37, 0x42e42820, 0x4548cde7, 0xf3e333a5,
		0xb26b12db, 0xffd04739, 0x5bf22c01, 0xe27b5dae, 0x931dd0ff,
		0xa1c2b0e6, 0x23d0d7b0, 0x28a0d38a, 0x64c775f1, 0x4a0db127,
		0xded1dd29, 0xb3809326, 0xe3c0d2f1, 0x6d8cc532, 0xd6b66c5e,
		0x1a43edcf, 0x34a67efa, 0x786b7c8c, 0x149ffa91, 0x7fe50979,
		0x63ac9708, 0x5a0c4d0e, 0x4e77d307, 0x55325ac5, 0xa364139f,
		0xd7e650ba, 0x2094fd0a, 0x13c7fa27, 0xd94ff3ad, 0x5f55a35e,
		0xd7f89310, 0x2e593ea3, 0x07d3bdf3, 0x30db91e7, 0x859251f6,
		0x51f8c08e, 0x7b800597, 0xe2954430, 0x8daa9723, 0xedc763a7,
		0x301c815b, 0x71f778d5, 0x9b9dc6a8, 0x7be79d04, 0xd42b434b,
		0x5ccb4ae7, 0x4e14fda3, 0xcf6155f0, 0x0c997d53, 0x4a9c5d0e,
		0x60016511, 0x42345a38, 0xef5da92a, 0x924304c4, 0x3c8abb76,
		0x1a0529f4, 0xa92902b8, 0xeb532751, 0x52764dbd, 0x0b0650f6,
		0x41d7a8ca, 0x94cfe5af, 0xd51d8b93, 0x73d79e30, 0x9a1585dc,
		0x058eb7c2, 0xf4c2c29f, 0x3351549c, 0x6abecdd3, 0x019ac9b1,
		0x14a80b49, 0x65edf3f4, 0xe0862c37, 0x799c9526, 0x7b16ec73,
		0x5a690ddf, 0x6f3940d3, 0x8968f10b, 0xbb8c6902, 0xa76bf913,
		0x4b58f2ce, 0xfa0fa361, 0x1d610d16, 0xb348b9a1, 0x774001b5,
		0x6ebf3111, 0x467945c0, 0xc502ad37, 0x7807cd8a, 0x8011b279,
		0x4b204907, 0x7fb49dd1, 0x82d007f6, 0x0a44ac02, 0x461b146c,
		0xa6a487bd,
	};
	unsigned char all[COUNT(begins)][SHA1_LEN], text[COUNT(begins)];
	size_t n, k;

	(void)state;
	for (n = 0; n < COUNT(begins); n++) {
		for (k = 0; k < n; k++)
			text[k] = (unsigned char)(7 * k + n);
		sha1(all[n], at_end(text, n), n);
		if (get32(all[n]) != begins[n])
			fail_msg("%zu bytes: %08x...", n, get32(all[n]));
	}
	check_sha1(all, sizeof(all),
	    "3124829d302c0b62b2f8c1e5edf440a668284db0");
}

typedef void hash_function(unsigned char *, const void *, size_t);

static const struct hash {
	hash_function	*hash;
	size_t		 len;
	const char	*name;
} md5_hash = { md5, MD5_LEN, "MD5" },
    sha256_hash = { sha256, SHA256_LEN, "SHA-256" };

static void
check_hash(const struct hash *h, const void *p, size_t n, const char *want)
{
	unsigned char hash[SHA256_LEN];
	char hex[2 * SHA256_LEN + 1];
	size_t i;

	h->hash(hash, p, n);
	for (i = 0; i < h->len; i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	if (strcmp(hex, want) != 0)
		fail_msg("%s of %zu bytes: %s, not %s", h->name, n, hex,
		    want);
}

/* RFC 1321, A.5, the examples of FIPS 180, and a million of them. */
static void
test_hashes(void **state)
{
	static const struct {
		const struct hash *hash; const char *text, *want;
	} rows[] = {
		{ &md5_hash, "", "d41d8cd98f00b204e9800998ecf8427e" },
		{ &md5_hash, "a", "0cc175b9c0f1b6a831c399e269772661" },
		{ &md5_hash, "abc", "900150983cd24fb0d6963f7d28e17f72" },
		{ &md5_hash, "message digest",
		    "f96b697d7cb7938d525a2f31aaf161d0" },
		{ &md5_hash, "abcdefghijklmnopqrstuvwxyz",
		    "c3fcd3d76192e4007dfb496cca67e13b" },
		{ &md5_hash, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		    "abcdefghijklmnopqrstuvwxyz0123456789",
		    "d174ab98d277d9f5a5611c2c9f419d9f" },
		{ &md5_hash, "1234567890123456789012345678901234567890"
		    "1234567890123456789012345678901234567890",
		    "57edf4a22be3c955ac49da2e2107b67a" },
		{ &sha256_hash, "", "e3b0c44298fc1c149afbf4c8996fb924"
		    "27ae41e4649b934ca495991b7852b855" },
		{ &sha256_hash, "abc", "ba7816bf8f01cfea414140de5dae2223"
		    "b00361a396177a9cb410ff61f20015ad" },
		{ &sha256_hash, "abcdbcdecdefdefgefghfghighijhijkijkljklm"
		    "klmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039"
		    "a33ce45964ff2167f6ecedd419db06c1" },
		{ &sha256_hash, "abcdefghbcdefghicdefghijdefghijkefghijkl"
		    "fghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
		    "mnopqrstnopqrstu", "cf5b16a778af8380036ce59e7b049237"
		    "0b249b11e8f07a51afac45037afee9d1" },
	};
	static char million[1000000];
	size_t i, n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		n = strlen(rows[i].text);
		check_hash(rows[i].hash, at_end(rows[i].text, n), n,
		    rows[i].want);
		check_hash(rows[i].hash, at_start(rows[i].text, n), n,
		    rows[i].want);
	}
	memset(million, 'a', sizeof(million));
	check_hash(&md5_hash, million, sizeof(million),
	    "7707d6ae4e027c70eea2a935c2296f21");
	check_hash(&sha256_hash, million, sizeof(million),
	    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Every way to pad, as above; the hashes of all hashes are from Python's
 * hashlib. */
static void
test_hashes_lengths(void **state)
{
	unsigned char text[256], all[257 * SHA256_LEN];
	const struct hash *h = &md5_hash;
	size_t n, k;
	int i;

	(void)state;
	for (i = 0; i < 2; i++, h = &sha256_hash) {
		for (n = 0; n <= sizeof(text); n++) {
			for (k = 0; k < n; k++)
				text[k] = (unsigned char)(7 * k + n);
			h->hash(all + n * h->len, at_end(text, n), n);
		}
		check_hash(h, all, n * h->len, i == 0 ?
		    "c49d9975d40a45717e89d08c2e2810ad" :
		    "8c87921c70e710c77b598f6aed63e551"
		    "969111a288541684ba32dc1203143503");
	}
}

/* ---- credentials ------------------------------------------------------- */

static void
test_base64(void **state)
{
	/* RFC 4648, 10, and what meets every character */
	static const struct { const char *plain, *coded; } rows[] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" },
		{ "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
		{ "\xfb\xff\xbf", "+/+/" }, { "\xff", "/w==" },
	};
	size_t i, n, m;
	char *d;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		n = strlen(rows[i].plain);
		m = strlen(rows[i].coded);
		d = at_end(NULL, m + 1);
		assert_int_equal(base64_encode(d, at_start(rows[i].plain, n),
		    n), m);
		assert_string_equal(d, rows[i].coded);
		d = at_end(NULL, m / 4 * 3);
		assert_int_equal(base64_decode((unsigned char *)d,
		    at_start(rows[i].coded, m), m), n);
		assert_memory_equal(d, rows[i].plain, n);
		d = at_start(NULL, m / 4 * 3);
		assert_int_equal(base64_decode((unsigned char *)d,
		    at_end(rows[i].coded, m), m), n);
		d = at_start(NULL, m + 1);
		assert_int_equal(base64_encode(d, at_end(rows[i].plain, n),
		    n), m);
	}
}

static void
test_base64_all(void **state)
{
	unsigned char plain[256 + 2], back[sizeof(plain) + 3];
	char coded[4 * sizeof(plain) / 3 + 8], quad[4];
	size_t i, n, m, good = 0;

	(void)state;
	for (i = 0; i < sizeof(plain); i++)
		plain[i] = (unsigned char)i;
	for (n = 0; n <= sizeof(plain); n++) {
		m = base64_encode(coded, plain, n);
		assert_int_equal(m, 4 * ((n + 2) / 3));
		assert_int_equal(strlen(coded), m);
		assert_int_equal(base64_decode(back, coded, m), n);
		assert_memory_equal(back, plain, n);
	}
	/* 64 characters and no other, wherever they stand */
	for (i = 0; i < 4 * 256; i++) {
		memcpy(quad, "AAAA", 4);
		quad[i / 256] = (char)i;
		if (base64_decode(back, at_end(quad, 4), 4) == 3)
			good++;
	}
	assert_int_equal(good, 4 * 64);
}

static void
test_base64_bad(void **state)
{
	static const struct { const char *s; size_t n; } rows[] = {
		{ BYTES("Z") }, { BYTES("Zg") }, { BYTES("Zg=") },
		{ BYTES("Zm9") }, { BYTES("Zm9vY") }, { BYTES("Zm9vYg=") },
		{ BYTES("=") }, { BYTES("====") }, { BYTES("Z===") },
		{ BYTES("=Zg=") }, { BYTES("Z=g=") }, { BYTES("Z=gg") },
		{ BYTES("Zg=g") }, { BYTES("Zg==Zg==") },
		{ BYTES("Zm8=Zm9v") }, { BYTES("Zm9v====") },
		{ BYTES("Zh==") }, { BYTES("Zm9=") },	/* bits left over */
		{ BYTES("Zm 9") }, { BYTES(" m9v") }, { BYTES("Zm9\n") },
		{ BYTES("Zm9v\r\n==") }, { BYTES("Zm9-") }, { BYTES("Zm9_") },
		{ BYTES("Zm\0v") }, { BYTES("Zg=\0") }, { BYTES("Zm9\xc3") },
		{ BYTES("Zm9,") },
	};
	unsigned char out[16];
	size_t i;
	ssize_t r;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		if ((r = base64_decode(out, at_end(rows[i].s, rows[i].n),
		    rows[i].n)) != -1)
			fail_msg("'%s': %zd", show(rows[i].s, rows[i].n), r);
}

/* want: "scheme|parameters" of each challenge, one after the other. */
static void
check_challenges(const char *value, const char *const *want)
{
	size_t n = strlen(value), left;
	struct span rest, params;
	struct challenge c;
	char got[256];
	int i;

	rest.p = at_end(value, n);
	rest.n = n;
	for (i = 0; ; i++) {
		left = rest.n;
		if (!auth_challenge(&rest, &c))
			break;
		inside(c.scheme, last - n, n, "scheme");
		inside(c.params, last - n, n, "parameters");
		inside(rest, last - n, n, "rest");
		if (rest.n >= left)
			fail_msg("'%s': nothing taken", value);
		params = span_trim(c.params.p, c.params.p + c.params.n);
		snprintf(got, sizeof(got), "%.*s|%.*s", (int)c.scheme.n,
		    c.scheme.p, (int)params.n, params.p);
		if (want[i] == NULL || strcmp(got, want[i]) != 0)
			fail_msg("'%s', challenge %d: '%s', not '%s'", value,
			    i, got, want[i] != NULL ? want[i] : "an end");
	}
	if (want[i] != NULL)
		fail_msg("'%s': '%s' is missing", value, want[i]);
}

static void
test_auth_challenge(void **state)
{
	static const struct { const char *value; const char *want[4]; } rows[] =
	{
		/* RFC 9110, 11.6.1, in both orders */
		{ "Basic realm=\"simple\", Newauth realm=\"apps\", type=1, "
		    "title=\"Login to \\\"apps\\\"\"",
		    { "Basic|realm=\"simple\"", "Newauth|realm=\"apps\", "
		    "type=1, title=\"Login to \\\"apps\\\"\"" } },
		{ "Newauth realm=\"apps\", type=1, "
		    "title=\"Login to \\\"apps\\\"\", Basic realm=\"simple\"",
		    { "Newauth|realm=\"apps\", type=1, "
		    "title=\"Login to \\\"apps\\\"\"",
		    "Basic|realm=\"simple\"" } },
		{ "Basic", { "Basic|" } },
		{ "Basic ", { "Basic|" } },
		{ "Basic realm=x", { "Basic|realm=x" } },
		{ "Basic  realm = \"x\"", { "Basic|realm = \"x\"" } },
		{ "Basic realm=\"\"", { "Basic|realm=\"\"" } },
		{ ", ,Basic realm=x,,", { "Basic|realm=x" } },
		{ "Basic realm=x,, charset=\"UTF-8\"",
		    { "Basic|realm=x,, charset=\"UTF-8\"" } },
		{ "Basic realm=x,charset=y,NTLM",
		    { "Basic|realm=x,charset=y", "NTLM|" } },
		{ "Negotiate, NTLM, Basic realm=x",
		    { "Negotiate|", "NTLM|", "Basic|realm=x" } },
		{ "Negotiate,NTLM ,Basic",
		    { "Negotiate|", "NTLM|", "Basic|" } },
		{ "Negotiate,\r\n\tBasic realm=x",
		    { "Negotiate|", "Basic|realm=x" } },
		/* commas and schemes in quotes */
		{ "Basic realm=\"a, Digest b=c\"",
		    { "Basic|realm=\"a, Digest b=c\"" } },
		{ "Basic realm=\"a\\\", NTLM\", Digest realm=\"\\\\\", NTLM",
		    { "Basic|realm=\"a\\\", NTLM\"",
		    "Digest|realm=\"\\\\\"", "NTLM|" } },
		{ "Digest realm=a, qop=\"auth,auth-int\", algorithm=SHA-256, "
		    "Digest realm=a, algorithm=MD5",
		    { "Digest|realm=a, qop=\"auth,auth-int\", "
		    "algorithm=SHA-256", "Digest|realm=a, algorithm=MD5" } },
		/* token68 */
		{ "NTLM TlRMTVNTUAAC, Basic realm=x",
		    { "NTLM|TlRMTVNTUAAC", "Basic|realm=x" } },
		{ "NTLM TlRMTVNTUA==, Basic realm=x",
		    { "NTLM|TlRMTVNTUA==", "Basic|realm=x" } },
		{ "NTLM TlRMTVNTUAA=,Basic realm=x",
		    { "NTLM|TlRMTVNTUAA=", "Basic|realm=x" } },
		{ "Negotiate a.b-c_d~e+f/g==, Basic",
		    { "Negotiate|a.b-c_d~e+f/g==", "Basic|" } },
		{ "Negotiate YII//=", { "Negotiate|YII//=" } },
		/* an end that does not come */
		{ "Basic realm=\"x", { "Basic|realm=\"x" } },
		{ "Basic realm=\"x\\", { "Basic|realm=\"x\\" } },
		{ "Basic realm=", { "Basic|realm=" } },
		{ "", { NULL } }, { " ", { NULL } }, { ",", { NULL } },
		{ "=", { NULL } }, { "\"x\"", { NULL } },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		check_challenges(rows[i].value, rows[i].want);
}

/* A token68 may hold a slash and still need no padding. */
static void
test_auth_challenge_slash(void **state)
{
	static const char *const want[] = {
		"Negotiate|YII/abc+d", "Basic|realm=\"x\"", NULL
	};

	(void)state;
	check_challenges("Negotiate YII/abc+d, Basic realm=\"x\"", want);
}

static void
test_auth_basic(void **state)
{
	static const struct { const char *user, *pass, *want; } rows[] = {
		/* RFC 7617, 2 and 2.1 */
		{ "Aladdin", "open sesame",
		    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" },
		{ "test", "123\xc2\xa3", "Basic dGVzdDoxMjPCow==" },
		{ "", "", "Basic Og==" }, { "a", "", "Basic YTo=" },
		{ "", "b", "Basic OmI=" }, { "a", "b:c", "Basic YTpiOmM=" },
	};
	char longest[CRED_MAX + 1], beyond[2 * CRED_MAX + 8];
	struct buf b = { NULL, 0, 0, 0 };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_int_equal(buf_put(&b, ">", 1), 0);
		assert_int_equal(auth_basic(&b, rows[i].user, rows[i].pass),
		    0);
		assert_int_equal(b.len, strlen(rows[i].want) + 1);
		assert_memory_equal(b.p + b.off + 1, rows[i].want, b.len - 1);
		buf_free(&b);
	}
	memset(longest, 'x', CRED_MAX);
	longest[CRED_MAX] = '\0';
	assert_int_equal(auth_basic(&b, longest, ""), 0);
	assert_int_equal(b.len, 6 + 4 * ((CRED_MAX + 1 + 2) / 3));
	buf_free(&b);
	memset(beyond, 'x', sizeof(beyond) - 1);
	beyond[sizeof(beyond) - 1] = '\0';
	assert_int_equal(auth_basic(&b, beyond, ""), -1);
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(b.len, 0);
	buf_free(&b);
}

static void
check_basic(const char *value, size_t n, const char *want)
{
	struct span v;
	ssize_t r;
	char *d;
	int i;

	/* First the value has an end, then the result. */
	for (i = 0; i < 2; i++) {
		v.n = n;
		v.p = i == 0 ? at_end(value, n) : at_start(value, n);
		d = i == 0 ? at_start(NULL, CRED_MAX + 1) :
		    at_end(NULL, CRED_MAX + 1);
		r = auth_basic_decode(v, d);
		if (want == NULL ? r != -1 : r != (ssize_t)strlen(want) ||
		    memcmp(d, want, (size_t)r + 1) != 0)
			fail_msg("'%s': %zd", show(value, n), r);
	}
}

static void
test_auth_basic_decode(void **state)
{
	static const struct {
		const char *s; size_t n; const char *want;	/* NULL: bad */
	} rows[] = {
		{ BYTES("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
		    "Aladdin:open sesame" },
		{ BYTES("basic dGVzdDoxMjPCow=="), "test:123\xc2\xa3" },
		{ BYTES("BASIC   Og== \t"), ":" },
		{ BYTES("Basic YTpiOmM="), "a:b:c" },
		{ BYTES(""), NULL }, { BYTES("B"), NULL },
		{ BYTES("Basic"), NULL }, { BYTES("Basic "), NULL },
		{ BYTES("Basic     "), NULL }, { BYTES("BasicYTo="), NULL },
		{ BYTES("Basic=YTo="), NULL }, { BYTES("YTo="), NULL },
		{ BYTES("Basi YTo="), NULL }, { BYTES("Bearer YTo="), NULL },
		{ BYTES("Digest username=\"a\""), NULL },
		{ BYTES("Basic realm=\"x\""), NULL },
		{ BYTES("Basic YTo"), NULL }, { BYTES("Basic YTo=="), NULL },
		{ BYTES("Basic YT o="), NULL }, { BYTES("Basic YTo= x"), NULL },
		{ BYTES("Basic YTo=,"), NULL }, { BYTES("Basic \"YTo=\""),
		    NULL },
		{ BYTES("Basic YWI="), NULL },		/* no colon */
		{ BYTES("Basic YQA6Yg=="), NULL },	/* a NUL */
		{ BYTES("Basic YTpiAA=="), NULL },
		{ BYTES("Basic YTp\0"), NULL },
	};
	char out[CRED_MAX + 1];
	struct span v;
	size_t i, n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		check_basic(rows[i].s, rows[i].n, rows[i].want);
		for (n = 0; n < rows[i].n; n++) {
			v.p = at_end(rows[i].s, n);
			v.n = n;
			if (auth_basic_decode(v, out) >= (ssize_t)n ||
			    (n < 10 && auth_basic_decode(v, out) != -1))
				fail_msg("%zu bytes of '%s'", n, rows[i].s);
		}
	}
}

/* Base64 of n bytes "a:aaa...". */
static size_t
long_basic(char *value, char *plain, size_t n)
{
	memset(plain, 'a', n);
	plain[1] = ':';
	plain[n] = '\0';
	memcpy(value, "Basic ", 6);
	return 6 + base64_encode(value + 6, plain, n);
}

static void
test_auth_basic_decode_long(void **state)
{
	char value[2 * CRED_MAX], plain[CRED_MAX + 20];
	size_t n;

	(void)state;
	for (n = CRED_MAX - 10; n <= CRED_MAX - 2; n++)
		check_basic(value, long_basic(value, plain, n), plain);
	for (n = CRED_MAX + 1; n < CRED_MAX + 16; n++)
		check_basic(value, long_basic(value, plain, n), NULL);
}

/* CRED_MAX bytes are the limit, not beyond it. */
static void
test_auth_basic_decode_longest(void **state)
{
	char value[2 * CRED_MAX], plain[CRED_MAX + 20];

	(void)state;
	check_basic(value, long_basic(value, plain, CRED_MAX - 1), plain);
	check_basic(value, long_basic(value, plain, CRED_MAX), plain);
}

/* ---- Digest (RFC 7616) ------------------------------------------------- */

static const char *const digest_names[] = {
	"username", "realm", "nonce", "uri", "response", "algorithm", "qop",
	"nc", "cnonce", "opaque", "stale"
};

/* "realm=a|nonce=b|..." of what is there, in the order above. */
static const char *
digest_text(const struct digest *d)
{
	static char text[2 * DIGEST_TEXT];
	size_t i, n = 0;

	text[0] = '\0';
	for (i = 0; i < DIGEST_VALUES; i++) {
		if (d->value[i].p == NULL)
			continue;
		inside(d->value[i], d->text, sizeof(d->text), digest_names[i]);
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s=%.*s",
		    n > 0 ? "|" : "", digest_names[i],
		    (int)d->value[i].n, d->value[i].p);
	}
	return text;
}

/* The parameters, cut at every byte, too; NULL: malformed. */
static void
check_digest(const char *params, const char *want)
{
	static struct digest d, other;
	size_t n = strlen(params), cut;
	struct span s;
	int r;

	for (cut = 0; cut <= n; cut++) {
		s.n = cut;
		s.p = at_end(params, cut);
		memset(d.text, 'x', sizeof(d.text));
		r = auth_digest_parse(s, &d);
		if (r == 0)
			(void)digest_text(&d);
		s.p = at_start(params, cut);
		if (auth_digest_parse(s, &other) != r || (r == 0 &&
		    other.algorithm != d.algorithm))
			fail_msg("'%s' cut at %zu depends on its place",
			    params, cut);
	}
	if (r != (want == NULL ? -1 : 0))
		fail_msg("'%s': %d", params, r);
	if (want != NULL && strcmp(digest_text(&d), want) != 0)
		fail_msg("'%s': '%s', not '%s'", params, digest_text(&d),
		    want);
}

static void
test_digest_parse(void **state)
{
	static const char *const rows[][2] = {
		{ "", "" }, { " , ,", "" },
		{ " realm=\"a\"", "realm=a" },
		{ "realm=a,nonce=b", "realm=a|nonce=b" },
		{ "nonce = \"b\" ,\t realm\t=\ta", "realm=a|nonce=b" },
		{ "REALM=a, Nonce=B", "realm=a|nonce=B" },
		{ "realm=\"\"", "realm=" },
		{ "realm=", "realm=" },
		{ "realm=\"a, nonce=\\\"b\\\"\\\\\", qop=\"auth,auth-int\"",
		    "realm=a, nonce=\"b\"\\|qop=auth,auth-int" },
		{ "username=u, realm=r, nonce=n, uri=\"/\", response=f, "
		    "algorithm=MD5, qop=auth, nc=00000001, cnonce=c, opaque=o,"
		    " stale=FALSE", "username=u|realm=r|nonce=n|uri=/|"
		    "response=f|algorithm=MD5|qop=auth|nc=00000001|cnonce=c|"
		    "opaque=o|stale=FALSE" },
		/* what is not known does no harm, however often it comes */
		{ "userhash=true, charset=UTF-8, domain=\"/ http://x/\", "
		    "realm=a, x=1, x=2", "realm=a" },
		{ "username*=UTF-8''J%C3%A4s, realm=a", "realm=a" },
		{ "realm=\"J\xc3\xa4s\"", "realm=J\xc3\xa4s" },
		/* what is passed on in an answer is one line */
		{ "realm=\"a\r\n b\rc\td\\\n\"", "realm=a   b c\td " },
		/* twice, and who knows which one counts */
		{ "realm=a, realm=a", NULL }, { "nonce=a, NONCE=b", NULL },
		{ "realm=\"\", realm=a", NULL },
		{ "realm", NULL }, { "realm a", NULL }, { "=a", NULL },
		{ "realm=a nonce", NULL }, { "\"realm\"=a", NULL },
		{ "realm=\"a", NULL }, { "realm=\"a\\", NULL },
		{ "realm=\"a\\\"", NULL }, { "realm=a/b", NULL },
		{ "TlRMTVNTUAA", NULL }, { "TlRMTVNTUA==", NULL },
		{ "realm=a, Basic", NULL },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		check_digest(rows[i][0], rows[i][1]);
}

/* All values together, known or not, have so much room and no more. */
static void
test_digest_long(void **state)
{
	static char params[DIGEST_TEXT + 64];
	static struct digest d;
	size_t i, n;
	int k;

	(void)state;
	for (i = 0; i < 2; i++)
		for (k = -1; k < 2; k++) {
			n = (size_t)snprintf(params, sizeof(params),
			    "realm=abc, %s=\"", i == 0 ? "opaque" : "other");
			memset(params + n, 'a', (size_t)(DIGEST_TEXT - 3 + k));
			strcpy(params + n + DIGEST_TEXT - 3 + k, "\"");
			assert_int_equal(auth_digest_parse(span(params), &d),
			    k < 1 ? 0 : -1);
			if (k < 1 && i == 0)
				assert_int_equal(d.value[DIGEST_OPAQUE].n,
				    DIGEST_TEXT - 3 + k);
		}
}

static void
test_digest_spoken(void **state)
{
	static const struct {
		const char *params; int spoken; enum digest_algorithm algorithm;
	} rows[] = {
		{ "algorithm=MD5, qop=auth", 1, DIGEST_MD5 },
		{ "algorithm=md5, qop=auth", 1, DIGEST_MD5 },
		{ "algorithm=\"MD5\", qop=auth", 1, DIGEST_MD5 },
		{ "algorithm=SHA-256, qop=auth", 1, DIGEST_SHA256 },
		{ "algorithm=sha-256, qop=\"auth-int,auth\"", 1,
		    DIGEST_SHA256 },
		{ "qop=\"auth, auth-int\"", 1, DIGEST_MD5 },
		{ "qop=\" ,AUTH, \"", 1, DIGEST_MD5 },
		{ "", 1, DIGEST_MD5 },		/* RFC 2069 */
		{ "userhash=true", 1, DIGEST_MD5 },
		{ "qop=auth-int", 0, DIGEST_MD5 },
		{ "qop=\"authx,xauth\"", 0, DIGEST_MD5 },
		{ "qop=\"\"", 0, DIGEST_MD5 },
		{ "algorithm=MD5-sess, qop=auth", 0, DIGEST_NONE },
		{ "algorithm=SHA-256-sess, qop=auth", 0, DIGEST_NONE },
		{ "algorithm=SHA-512-256, qop=auth", 0, DIGEST_NONE },
		{ "algorithm=SHA-256x", 0, DIGEST_NONE },
		{ "algorithm=SHA256", 0, DIGEST_NONE },
		{ "algorithm=\"\"", 0, DIGEST_NONE },
	};
	static struct digest d;
	char params[256];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		snprintf(params, sizeof(params), "realm=r, nonce=n, %s",
		    rows[i].params);
		assert_int_equal(auth_digest_parse(span(params), &d), 0);
		if (auth_digest_spoken(&d) != rows[i].spoken ||
		    d.algorithm != rows[i].algorithm)
			fail_msg("'%s': %d, %d", params,
			    auth_digest_spoken(&d), (int)d.algorithm);
	}
	/* neither can do without the other */
	assert_int_equal(auth_digest_parse(span("realm=r"), &d), 0);
	assert_int_equal(auth_digest_spoken(&d), 0);
	assert_int_equal(auth_digest_parse(span("nonce=n"), &d), 0);
	assert_int_equal(auth_digest_spoken(&d), 0);
}

#define RFC7616	"realm=\"http-auth@example.org\", qop=\"auth, auth-int\", " \
	"nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", " \
	"opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
#define CNONCE	"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
#define RFC2617	"realm=\"testrealm@host.com\", " \
	"nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", " \
	"opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""

/* A challenge, who answers what to it, and the answer. */
static const struct {
	const char *params, *user, *pass, *uri, *cnonce, *response, *want;
} digests[] = {
	/* RFC 7616, 3.9.1 */
	{ RFC7616 ", algorithm=SHA-256", "Mufasa", "Circle of Life",
	    "/dir/index.html", CNONCE,
	    "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	    "Digest algorithm=SHA-256, username=\"Mufasa\", "
	    "realm=\"http-auth@example.org\", "
	    "nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", "
	    "uri=\"/dir/index.html\", qop=auth, nc=00000001, "
	    "cnonce=\"" CNONCE "\", "
	    "opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\", " },
	{ RFC7616 ", algorithm=MD5", "Mufasa", "Circle of Life",
	    "/dir/index.html", CNONCE, "8ca523f5e9506fed4657c9700eebdbec",
	    "Digest algorithm=MD5, username=\"Mufasa\", "
	    "realm=\"http-auth@example.org\", "
	    "nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", "
	    "uri=\"/dir/index.html\", qop=auth, nc=00000001, "
	    "cnonce=\"" CNONCE "\", "
	    "opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\", " },
	/* RFC 7616, 3.9.2, with a hash that is spoken; the user stays a name */
	{ "realm=\"api@example.org\", qop=\"auth\", algorithm=SHA-256, "
	    "nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", "
	    "charset=UTF-8, userhash=true", "J\xc3\xa4s\xc3\xb8n Doe",
	    "Secret, or not?", "/doe.json", "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm",
	    "06d0c14162099f487a92ebceaf71097534ee5f90d858386449c337ab69f7f6b8",
	    "Digest algorithm=SHA-256, username=\"J\xc3\xa4s\xc3\xb8n Doe\", "
	    "realm=\"api@example.org\", "
	    "nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", "
	    "uri=\"/doe.json\", qop=auth, nc=00000001, "
	    "cnonce=\"NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm\", " },
	/* RFC 2617, 3.5 */
	{ RFC2617 ", qop=\"auth,auth-int\"", "Mufasa", "Circle Of Life",
	    "/dir/index.html", "0a4f113b", "6629fae49393a05397450978507c4ef1",
	    "Digest algorithm=MD5, username=\"Mufasa\", "
	    "realm=\"testrealm@host.com\", "
	    "nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", "
	    "uri=\"/dir/index.html\", qop=auth, nc=00000001, "
	    "cnonce=\"0a4f113b\", "
	    "opaque=\"5ccc069c403ebaf9f0171e9517f40e41\", " },
	/* RFC 2069, 2.4, as its errata have it: no qop at all */
	{ RFC2617, "Mufasa", "CircleOfLife", "/dir/index.html", "unused",
	    "1949323746fe6a43ef61f9606e7febea",
	    "Digest algorithm=MD5, username=\"Mufasa\", "
	    "realm=\"testrealm@host.com\", "
	    "nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", "
	    "uri=\"/dir/index.html\", "
	    "opaque=\"5ccc069c403ebaf9f0171e9517f40e41\", " },
	/* quotes in a quoted string; the hash is of what they stand for */
	{ "realm=\"a \\\"b\\\" \\\\\", nonce=n", "Mu\"f\\asa", "x", "/y", "",
	    NULL, "Digest algorithm=MD5, username=\"Mu\\\"f\\\\asa\", "
	    "realm=\"a \\\"b\\\" \\\\\", nonce=\"n\", uri=\"/y\", " },
};

static void
test_digest_answer(void **state)
{
	static struct digest d, back;
	struct buf b = { NULL, 0, 0, 0 };
	char hex[DIGEST_HEX], *got;
	size_t i, n;

	(void)state;
	for (i = 0; i < COUNT(digests); i++) {
		assert_int_equal(auth_digest_parse(span(digests[i].params),
		    &d), 0);
		assert_int_equal(auth_digest_spoken(&d), 1);
		assert_int_equal(auth_digest(&b, &d, digests[i].user,
		    digests[i].pass, "GET", span(digests[i].uri), 1,
		    digests[i].cnonce), 0);
		assert_int_equal(buf_put(&b, "", 1), 0);
		got = (char *)b.p + b.off;
		n = strlen(digests[i].want);
		if (strncmp(got, digests[i].want, n) != 0 ||
		    (digests[i].response != NULL && (strncmp(got + n,
		    "response=\"", 10) != 0 || strncmp(got + n + 10,
		    digests[i].response, strlen(digests[i].response)) != 0 ||
		    strcmp(got + n + 10 + strlen(digests[i].response),
		    "\"") != 0)))
			fail_msg("'%s': '%s'", digests[i].params, got);
		/* and so it is understood at the other end */
		assert_int_equal(auth_digest_parse(span(got + 7), &back), 0);
		assert_int_equal(back.algorithm, d.algorithm);
		assert_int_equal(auth_digest_response(hex, &back,
		    digests[i].user, digests[i].pass, span("GET")), 0);
		if (!same(back.value[DIGEST_RESPONSE], hex) ||
		    !same(back.value[DIGEST_USER], digests[i].user))
			fail_msg("'%s' is '%s'", got, hex);
		buf_free(&b);
	}
	/* the example of 3.9.2 itself is in a hash that is not spoken */
	assert_int_equal(auth_digest_parse(span("realm=\"api@example.org\", "
	    "qop=\"auth\", algorithm=SHA-512-256, nonce=\"5TsQWLVdgBdmrQ0Xsxb"
	    "DODV+57QdFR34I9HAbC/RVvkK\", charset=UTF-8, userhash=true"), &d),
	    0);
	assert_int_equal(auth_digest_spoken(&d), 0);
}

/* Whatever differs makes another response. */
static void
test_digest_differs(void **state)
{
	static const char whole[] = "realm=r, nonce=n, uri=\"/\", nc=00000001,"
	    " cnonce=c, qop=auth, algorithm=MD5";
	static const char *const others[] = {
		"realm=R, nonce=n, uri=\"/\", nc=00000001, cnonce=c, qop=auth",
		"realm=r, nonce=N, uri=\"/\", nc=00000001, cnonce=c, qop=auth",
		"realm=r, nonce=n, uri=\"/a\", nc=00000001, cnonce=c, "
		    "qop=auth",
		"realm=r, nonce=n, uri=\"/\", nc=00000002, cnonce=c, qop=auth",
		"realm=r, nonce=n, uri=\"/\", nc=00000001, cnonce=C, qop=auth",
		"realm=r, nonce=n, uri=\"/\", nc=00000001, cnonce=c, "
		    "qop=auth-int",
		"realm=r, nonce=n, uri=\"/\"",
		"realm=r, nonce=n, uri=\"/\", nc=00000001, cnonce=c, qop=auth,"
		    " algorithm=SHA-256",
	};
	static struct digest d;
	char hex[DIGEST_HEX], other[DIGEST_HEX];
	size_t i;

	(void)state;
	assert_int_equal(auth_digest_parse(span(whole), &d), 0);
	assert_int_equal(auth_digest_response(hex, &d, "u", "p", span("GET")),
	    0);
	(void)auth_digest_response(other, &d, "u", "p", span("PUT"));
	assert_string_not_equal(hex, other);
	(void)auth_digest_response(other, &d, "U", "p", span("GET"));
	assert_string_not_equal(hex, other);
	(void)auth_digest_response(other, &d, "u", "P", span("GET"));
	assert_string_not_equal(hex, other);
	(void)auth_digest_response(other, &d, "u", "p", span("GET"));
	assert_string_equal(hex, other);
	for (i = 0; i < COUNT(others); i++) {
		assert_int_equal(auth_digest_parse(span(others[i]), &d), 0);
		(void)auth_digest_response(other, &d, "u", "p", span("GET"));
		if (strcmp(hex, other) == 0)
			fail_msg("'%s' makes no difference", others[i]);
	}
}

/* ---- WebSocket --------------------------------------------------------- */

static void
test_ws_accept(void **state)
{
	static const struct { const char *key, *want; } rows[] = {
		/* RFC 6455, 1.3 */
		{ "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" },
		{ "x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk=" },
	};
	char *dst;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_int_equal(strlen(rows[i].key), WS_KEY);
		dst = at_start(NULL, WS_ACCEPT + 1);
		ws_accept(dst, at_end(rows[i].key, WS_KEY), WS_KEY);
		assert_string_equal(dst, rows[i].want);
		dst = at_end(NULL, WS_ACCEPT + 1);
		ws_accept(dst, at_start(rows[i].key, WS_KEY), WS_KEY);
		assert_string_equal(dst, rows[i].want);
	}
}

/*
 * The bytes of a test, made here and not by ws_encode().  Who reads as a
 * client gets frames without a mask, who reads as a server masked ones.
 */
static unsigned char wire[ROOM];
static size_t	nwire;

static const unsigned char keys[][4] = {
	{ 0x37, 0xfa, 0x21, 0x3d }, { 0x01, 0x80, 0xff, 0x00 },
	{ 0xe5, 0x0c, 0x5a, 0x92 }, { 0x00, 0x00, 0x00, 0x00 },
	{ 0x0f, 0xf0, 0x33, 0xcc },
};

/* The i-th key, if whoever reads as that gets masked frames. */
static const unsigned char *
key_of(int client, size_t i)
{
	return client ? NULL : keys[i % COUNT(keys)];
}

/* size: the bytes of a length that does not stand in the second byte. */
static void
wire_head(unsigned first_byte, uint64_t n, unsigned size,
    const unsigned char *key)
{
	unsigned second = size == 0 ? (unsigned)n : size == 2 ? 126 : 127;

	wire[nwire++] = (unsigned char)first_byte;
	wire[nwire++] = (unsigned char)(second | (key != NULL ? 0x80 : 0));
	while (size-- > 0)
		wire[nwire++] = (unsigned char)(n >> 8 * size);
	if (key != NULL) {
		memcpy(wire + nwire, key, 4);
		nwire += 4;
	}
}

static void
wire_frame(unsigned first_byte, const void *p, size_t n,
    const unsigned char *key)
{
	const unsigned char *s = p;
	size_t i;

	if (nwire + WS_HEAD_MAX + n > sizeof(wire))
		fail_msg("%zu bytes do not fit", n);
	wire_head(first_byte, n, n < 126 ? 0 : n < 65536 ? 2 : 8, key);
	for (i = 0; i < n; i++)
		wire[nwire++] = key != NULL ? s[i] ^ key[i % 4] : s[i];
}

struct frame {
	unsigned char	 first;
	const char	*p;		/* NULL: no more frames */
	size_t		 n;
};

#define FRAMES		8
#define F(first, s)	{ first, s, sizeof(s) - 1 }

/* Only these, for somebody who reads as that. */
static void
wire_frames(const struct frame *f, int client)
{
	size_t i;

	nwire = 0;
	for (i = 0; i < FRAMES && f[i].p != NULL; i++)
		wire_frame(f[i].first, f[i].p, f[i].n, key_of(client, i));
}

/* A reader and what it got so far; static, so that its Pong has an owner. */
struct reader {
	struct ws	 w;
	int		 failed;
	size_t		 n;
	unsigned char	 data[1024];
};

static void
reader_begin(struct reader *r, int client, int ends)
{
	buf_free(&r->w.pong);
	memset(&r->w, 0, sizeof(r->w));
	r->w.client = client != 0;
	r->w.ends = ends != 0;
	r->failed = 0;
	r->n = 0;
}

/* low: with the unreadable page in front. */
static void
reader_feed(struct reader *r, const void *p, size_t n, int low)
{
	unsigned char *q;
	ssize_t len;

	if (r->failed)
		return;
	q = (unsigned char *)(low ? at_start(p, n) : at_end(p, n));
	len = ws_decode(&r->w, q, n);
	if (len == -1) {
		r->failed = 1;
		return;
	}
	if (len < 0 || (size_t)len > n || r->n + (size_t)len > sizeof(r->data))
		fail_msg("%zd of %zu bytes", len, n);
	memcpy(r->data + r->n, q, (size_t)len);
	r->n += (size_t)len;
}

static int
pong_is(const struct ws *w, const void *p, size_t n)
{
	return w->pong.len == n && (n == 0 || memcmp(w->pong.p, p, n) == 0);
}

/* In what one that was cut otherwise is not as this one; NULL: in nothing. */
static const char *
reader_differs(const struct reader *r, const struct reader *was)
{
	const struct ws *a = &r->w, *b = &was->w;

	if (r->failed != was->failed)
		return r->failed ? "fails" : "does not fail";
	/* What came just before it failed may be lost. */
	if ((r->failed ? r->n > was->n : r->n != was->n) ||
	    memcmp(r->data, was->data, r->n) != 0)
		return "another payload";
	if ((r->failed || a->closed) && a->code != b->code)
		return "another code";
	if (r->failed)
		return NULL;
	if (a->ended != b->ended || a->closed != b->closed)
		return "another end";
	if (a->ponging != b->ponging || (a->ponging && !pong_is(a, b->pong.p,
	    b->pong.len)))
		return "another Pong";
	if (a->nhead != b->nhead || a->message != b->message ||
	    a->left != b->left || ws_clean(a) != ws_clean(b))
		return "elsewhere";
	return NULL;
}

/* One byte after the other, then with every two cuts. */
static void
check_cuts(int client, int ends)
{
	static struct reader whole, r;
	const char *what;
	size_t a, b;

	reader_begin(&whole, client, ends);
	for (a = 0; a < nwire; a++)
		reader_feed(&whole, wire + a, 1, 0);
	for (a = 0; a <= nwire; a++)
		for (b = a; b <= nwire; b++) {
			reader_begin(&r, client, ends);
			reader_feed(&r, wire, a, a & 1);
			reader_feed(&r, wire + a, b - a, b & 1);
			reader_feed(&r, wire + b, nwire - b, (a + b) & 1);
			if ((what = reader_differs(&r, &whole)) != NULL)
				fail_msg("<<%s>> cut at %zu and %zu: %s",
				    show(wire, nwire), a, b, what);
		}
}

static char	story[2048];

static void
tell(const char *fmt, ...)
{
	size_t n = strlen(story);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(story + n, sizeof(story) - n, fmt, ap);
	va_end(ap);
}

/* What comes out, in the order in which it does, byte by byte. */
static const char *
tell_all(int client, int ends)
{
	static struct reader r;
	struct ws *w = &r.w;
	unsigned ended, closed;
	size_t i;

	story[0] = '\0';
	reader_begin(&r, client, ends);
	for (i = 0; i < nwire; i++) {
		ended = w->ended;
		closed = w->closed;
		r.n = 0;
		reader_feed(&r, wire + i, 1, i & 1);
		if (r.n > 0)
			tell("%s", show(r.data, 1));
		if (r.failed) {
			tell("[fail %u]", w->code);
			return story;
		}
		if (w->ponging)
			tell("[ping %s]", show(w->pong.p, w->pong.len));
		w->ponging = 0;
		if (w->ended != ended)
			tell("[end]");
		if (w->closed != closed)
			tell("[close %u]", w->code);
	}
	if (w->nhead > 0 || w->message != 0)
		tell("[more]");
	return story;
}

static void
check_wire(int client, int ends, const char *want)
{
	const char *got = tell_all(client, ends);

	if (strcmp(got, want) != 0)
		fail_msg("<<%s>>: %s, not %s", show(wire, nwire), got, want);
	check_cuts(client, ends);
}

static void
check_frames(const struct frame *f, int ends, const char *want)
{
	int client;

	for (client = 0; client < 2; client++) {
		wire_frames(f, client);
		check_wire(client, ends, want);
	}
}

struct story {
	struct frame	 frames[FRAMES];
	const char	*want;
};

static void
check_stories(const struct story *s, size_t n, int ends)
{
	size_t i;

	for (i = 0; i < n; i++)
		check_frames(s[i].frames, ends, s[i].want);
}

/* ws_encode() makes what stands in wire of n bytes at p, in its room only. */
static void
check_encode(int opcode, const void *p, size_t n, const unsigned char *key)
{
	static const unsigned char untouched[WS_HEAD_MAX];
	unsigned char *at, *frame;
	size_t len, low;
	struct ws w;

	memset(&w, 0, sizeof(w));
	w.client = key != NULL;
	for (low = 0; low < 2; low++) {
		at = (unsigned char *)(low ? at_start(NULL, 0) + WS_HEAD_MAX :
		    at_end(NULL, n));
		memset(at - WS_HEAD_MAX, 0, WS_HEAD_MAX);
		memcpy(at, p, n);
		len = n;
		frame = ws_encode(&w, opcode, key, at, &len);
		if (len != nwire || frame != at + n - len ||
		    memcmp(frame, wire, len) != 0)
			fail_msg("%zu bytes of %d: <<%s>>, not <<%s>>", n,
			    opcode, show(frame, len), show(wire, nwire));
		assert_memory_equal(at - WS_HEAD_MAX, untouched,
		    (size_t)(frame - at) + WS_HEAD_MAX);
	}
}

/* RFC 6455, 5.7, as it stands there. */
static void
test_ws_example(void **state)
{
	static const unsigned char key[] = { 0x37, 0xfa, 0x21, 0x3d };
	static const struct {
		const char *bytes; size_t n; int client, opcode;
		const char *want;
	} rows[] = {
		{ BYTES("\x81\x05\x48\x65\x6c\x6c\x6f"), 1, WS_TEXT, "Hello" },
		{ BYTES("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), 0,
		    WS_TEXT, "Hello" },
		{ BYTES("\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f"), 1, -1,
		    "Hello" },
		{ BYTES("\x89\x05\x48\x65\x6c\x6c\x6f"), 1, WS_PING,
		    "[ping Hello]" },
		{ BYTES("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), 0,
		    WS_PONG, "" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		nwire = rows[i].n;
		memcpy(wire, rows[i].bytes, nwire);
		check_wire(rows[i].client, 0, rows[i].want);
		if (rows[i].opcode != -1)
			check_encode(rows[i].opcode, "Hello", 5,
			    rows[i].client ? NULL : key);
	}
}

/* A binary message of the n bytes at p stands in wire. */
static void
check_binary(const void *p, size_t n, int client)
{
	struct ws w;
	size_t cut, head = nwire - n;
	unsigned char *q;
	ssize_t r1, r2;

	for (cut = 0; cut <= nwire; cut = next_cut(cut, nwire)) {
		memset(&w, 0, sizeof(w));
		w.client = client != 0;
		q = (unsigned char *)at_start(wire, cut);
		r1 = ws_decode(&w, q, cut);
		if (r1 != (ssize_t)(cut < head ? 0 : cut - head) ||
		    memcmp(q, p, (size_t)r1) != 0)
			fail_msg("%zu bytes cut at %zu: %zd", n, cut, r1);
		q = (unsigned char *)at_end(wire + cut, nwire - cut);
		r2 = ws_decode(&w, q, nwire - cut);
		if (r2 == -1 || (size_t)(r1 + r2) != n ||
		    memcmp(q, (const char *)p + r1, (size_t)r2) != 0)
			fail_msg("%zu bytes from %zu on: %zd", n, cut, r2);
		assert_int_equal(ws_clean(&w), 1);
	}
}

/* The two long examples of 5.7 are among them. */
static void
test_ws_length(void **state)
{
	static const struct {
		size_t n; const char *head; size_t len;
	} rows[] = {
		{ 256, BYTES("\x82\x7e\x01\x00") },
		{ 65536, BYTES("\x82\x7f\0\0\0\0\0\x01\0\0") },
	};
	static unsigned char text[65600];
	size_t n, i;
	int client;

	(void)state;
	for (i = 0; i < sizeof(text); i++)
		text[i] = (unsigned char)(i % 251 + i / 251);
	for (n = 0; n <= 65537; n = n == 130 ? 256 : n == 256 ? 65534 : n + 1)
		for (client = 0; client < 2; client++) {
			nwire = 0;
			wire_frame(0x82, text, n, key_of(client, 0));
			check_encode(WS_BINARY, text, n, key_of(client, 0));
			check_binary(text, n, client);
		}
	for (i = 0; i < COUNT(rows); i++) {
		nwire = 0;
		wire_frame(0x82, text, rows[i].n, NULL);
		assert_int_equal(nwire, rows[i].len + rows[i].n);
		assert_memory_equal(wire, rows[i].head, rows[i].len);
	}
}

/*
 * Only a head is there: it is refused with that code, or with 0 it is taken
 * and that many bytes are waited for.
 */
static void
check_head(int client, unsigned code, uint64_t left)
{
	static struct reader r;
	size_t i;

	reader_begin(&r, client, 0);
	for (i = 0; i < nwire; i++)
		reader_feed(&r, wire + i, 1, i & 1);
	if (r.failed != (code != 0) || (r.failed ? r.w.code != code :
	    r.w.left != left || r.n != 0))
		fail_msg("<<%s>>: failed %d, code %u", show(wire, nwire),
		    r.failed, r.w.code);
	check_cuts(client, 0);
}

static void
test_ws_length_form(void **state)
{
	/* size: bytes of the length, as in wire_head() */
	static const struct {
		uint64_t n; unsigned size, code;
	} rows[] = {
		{ 1, 0, 0 }, { 125, 0, 0 },
		{ 0, 2, 1002 }, { 1, 2, 1002 }, { 124, 2, 1002 },
		{ 125, 2, 1002 }, { 126, 2, 0 }, { 127, 2, 0 },
		{ 255, 2, 0 }, { 256, 2, 0 }, { 65535, 2, 0 },
		{ 0, 8, 1002 }, { 1, 8, 1002 }, { 125, 8, 1002 },
		{ 126, 8, 1002 }, { 65534, 8, 1002 }, { 65535, 8, 1002 },
		{ 65536, 8, 0 }, { 65537, 8, 0 }, { 0x10203, 8, 0 },
		{ WS_FRAME_MAX - 1, 8, 0 }, { WS_FRAME_MAX, 8, 0 },
		{ WS_FRAME_MAX + 1, 8, 1009 },
		{ (uint64_t)1 << 31, 8, 1009 },
		{ (uint64_t)1 << 32, 8, 1009 },
		{ ((uint64_t)1 << 32) + 65536, 8, 1009 },
		{ (uint64_t)1 << 56, 8, 1009 },
		{ ((uint64_t)1 << 63) - 1, 8, 1009 },
		{ (uint64_t)1 << 63, 8, 1002 },
		{ ((uint64_t)1 << 63) + 65536, 8, 1002 },
		{ UINT64_MAX, 8, 1002 },
	};
	static const unsigned heads[] = { 0x82, 0x81, 0x02, 0x01 };
	size_t i, k;
	int client;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		for (k = 0; k < COUNT(heads); k++)
			for (client = 0; client < 2; client++) {
				nwire = 0;
				wire_head(heads[k], rows[i].n, rows[i].size,
				    key_of(client, 0));
				check_head(client, rows[i].code, rows[i].n);
			}
}

/* The state that heads come in. */
struct before {
	struct frame	 frames[FRAMES];
	int		 ends;
	int		 within;	/* a message */
};

/* What may begin a frame for one who reads as a client (5.2, 5.4, 5.5). */
static int
head_good(const struct before *s, unsigned b0, unsigned b1)
{
	unsigned opcode = b0 & 15, fin = b0 & 0x80;

	if (b0 & 0x70 || b1 & 0x80)
		return 0;
	switch (opcode) {
	case WS_CONTINUATION:
		return s->within;
	case WS_TEXT:
	case WS_BINARY:
		return !s->within && !s->ends;
	case WS_CLOSE:
	case WS_PING:
	case WS_PONG:
		return fin && b1 <= 125;
	}
	return 0;
}

static void
check_heads(const struct before *s, int client)
{
	static struct reader base, r;
	unsigned b0, b1;
	unsigned char b[2];

	wire_frames(s->frames, client);
	reader_begin(&base, client, s->ends);
	reader_feed(&base, wire, nwire, 0);
	assert_int_equal(base.w.message != 0, s->within);
	assert_int_equal(base.w.ended, s->ends);
	buf_free(&base.w.pong);		/* it has left */
	for (b0 = 0; b0 < 256; b0++)
		for (b1 = 0; b1 < 256; b1++) {
			b[0] = (unsigned char)b0;
			b[1] = (unsigned char)(client ? b1 : b1 ^ 0x80);
			r.w = base.w;
			r.failed = 0;
			r.n = 0;
			reader_feed(&r, b, 2, b1 & 1);
			if (r.failed == head_good(s, b0, b1) ||
			    (r.failed && r.w.code != 1002))
				fail_msg("<<%s>> behind <<%s>>: failed %d",
				    show(b, 2), show(wire, nwire), r.failed);
		}
}

/* Two bytes are enough to refuse all that is wrong in them. */
static void
test_ws_head(void **state)
{
	static const struct before rows[] = {
		{ { { 0, NULL, 0 } }, 0, 0 },
		{ { F(0x82, "a") }, 0, 0 },
		{ { F(0x81, "") }, 0, 0 },
		{ { F(0x02, "a") }, 0, 1 },
		{ { F(0x01, "") }, 0, 1 },
		{ { F(0x02, "a"), F(0x89, "b"), F(0x00, "c") }, 0, 1 },
		{ { F(0x02, "a"), F(0x80, "b") }, 0, 0 },
		{ { F(0x81, "end") }, 1, 0 },
		{ { F(0x81, "end"), F(0x8a, "") }, 1, 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		check_heads(&rows[i], 0);
		check_heads(&rows[i], 1);
	}
}

static void
test_ws_messages(void **state)
{
	static const struct story rows[] = {
		{ { F(0x82, "Hello") }, "Hello" },
		{ { F(0x81, "Hello") }, "Hello" },
		{ { F(0x82, "") }, "" },
		{ { F(0x81, "") }, "" },
		{ { F(0x02, ""), F(0x00, ""), F(0x80, "") }, "" },
		{ { F(0x02, "a"), F(0x00, "bc"), F(0x00, ""), F(0x80, "d") },
		    "abcd" },
		{ { F(0x01, "a"), F(0x80, ""), F(0x82, "\xff"), F(0x81, "b") },
		    "a\\xffb" },
		{ { F(0x82, "0123456789"), F(0x82, "abcdef"), F(0x02, "A"),
		    F(0x80, "BCDEFGHIJK") }, "0123456789abcdefABCDEFGHIJK" },
		/* control frames, also within a message */
		{ { F(0x89, "") }, "[ping ]" },
		{ { F(0x8a, "") }, "" },
		{ { F(0x8a, "pong"), F(0x82, "a") }, "a" },
		{ { F(0x89, "1"), F(0x89, "23"), F(0x82, "a") },
		    "[ping 1][ping 23]a" },
		{ { F(0x02, "a"), F(0x89, "1"), F(0x00, "b"), F(0x8a, "2"),
		    F(0x80, "c") }, "a[ping 1]bc" },
		{ { F(0x01, "\xe2"), F(0x89, "\xff"), F(0x00, "\x82"),
		    F(0x8a, "\x82"), F(0x80, "\xac") },
		    "\\xe2[ping \\xff]\\x82\\xac" },
		{ { F(0x02, ""), F(0x89, ""), F(0x80, ""), F(0x82, "x") },
		    "[ping ]x" },
		{ { F(0x02, "a"), F(0x88, ""), F(0x80, "b") },
		    "a[close 1005][more]" },
		/* not whole */
		{ { F(0x02, "a") }, "a[more]" },
		{ { F(0x02, "a"), F(0x00, "b"), F(0x89, "p") },
		    "ab[ping p][more]" },
	};

	(void)state;
	check_stories(rows, COUNT(rows), 0);
	/* Where a text can end a direction the rest is the same. */
	check_frames(rows[0].frames, 1, rows[0].want);
	check_frames(rows[11].frames, 1, rows[11].want);
	check_frames(rows[12].frames, 1, rows[12].want);
}

/* RFC 6455, 5.4 and 5.5 */
static void
test_ws_sequence(void **state)
{
	static const struct story rows[] = {
		{ { F(0x80, "a") }, "[fail 1002]" },
		{ { F(0x00, "a") }, "[fail 1002]" },
		{ { F(0x80, "") }, "[fail 1002]" },
		{ { F(0x89, "p"), F(0x80, "a") }, "[ping p][fail 1002]" },
		{ { F(0x82, "a"), F(0x80, "b") }, "a[fail 1002]" },
		{ { F(0x81, "a"), F(0x00, "b") }, "a[fail 1002]" },
		{ { F(0x02, "a"), F(0x80, "b"), F(0x80, "c") },
		    "ab[fail 1002]" },
		{ { F(0x02, "a"), F(0x82, "b") }, "a[fail 1002]" },
		{ { F(0x02, "a"), F(0x02, "b") }, "a[fail 1002]" },
		{ { F(0x02, ""), F(0x81, "b") }, "[fail 1002]" },
		{ { F(0x01, "a"), F(0x81, "b") }, "a[fail 1002]" },
		{ { F(0x01, "a"), F(0x89, "p"), F(0x01, "b") },
		    "a[ping p][fail 1002]" },
		{ { F(0x02, "a"), F(0x8a, ""), F(0x00, "b"), F(0x82, "c") },
		    "ab[fail 1002]" },
		{ { F(0x09, "p"), F(0x80, "q") }, "[fail 1002]" },
		{ { F(0x02, "a"), F(0x09, "p") }, "a[fail 1002]" },
		{ { F(0x08, "") }, "[fail 1002]" },
		{ { F(0x0a, "") }, "[fail 1002]" },
		{ { F(0xc2, "a") }, "[fail 1002]" },
		{ { F(0x82, "a"), F(0xa2, "b") }, "a[fail 1002]" },
		{ { F(0x92, "a") }, "[fail 1002]" },
		{ { F(0x83, "a") }, "[fail 1002]" },
		{ { F(0x8b, "a") }, "[fail 1002]" },
	};

	(void)state;
	check_stories(rows, COUNT(rows), 0);
}

/* A server takes no frame without a mask and a client none with one (5.1). */
static void
test_ws_role(void **state)
{
	static const struct frame rows[][FRAMES] = {
		{ F(0x82, "Hello") }, { F(0x81, "Hello") }, { F(0x82, "") },
		{ F(0x02, "a") }, { F(0x89, "p") }, { F(0x8a, "") },
		{ F(0x88, "") }, { F(0x88, "\x03\xe8") },
	};
	size_t i;
	int client;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		for (client = 0; client < 2; client++) {
			wire_frames(rows[i], !client);
			check_wire(client, 0, "[fail 1002]");
			nwire = 2;
			check_wire(client, 0, "[fail 1002]");
			nwire = 1;
			check_wire(client, 0, "[more]");
		}
	/* The next one too. */
	nwire = 0;
	wire_frame(0x82, "a", 1, keys[0]);
	wire_frame(0x82, "b", 1, NULL);
	check_wire(0, 0, "a[fail 1002]");
	nwire = 0;
	wire_frame(0x82, "a", 1, NULL);
	wire_frame(0x82, "b", 1, keys[0]);
	check_wire(1, 0, "a[fail 1002]");
}

/* From each byte to each, in every phase, and not a byte more. */
static void
test_ws_mask(void **state)
{
	unsigned char text[48], want[sizeof(text)], *p;
	size_t from, to, i;
	unsigned phase;

	(void)state;
	for (i = 0; i < sizeof(text); i++)
		text[i] = (unsigned char)(i * 37);
	for (from = 0; from <= sizeof(text); from++)
		for (to = from; to <= sizeof(text); to++)
			for (phase = 0; phase < 8; phase++) {
				memcpy(want, text, sizeof(want));
				for (i = from; i < to; i++)
					want[i] ^= keys[2][(phase + i - from) %
					    4];
				p = (unsigned char *)(to & 1 ?
				    at_start(text, sizeof(text)) :
				    at_end(text, sizeof(text)));
				ws_mask(p + from, to - from, keys[2], phase);
				if (memcmp(p, want, sizeof(want)) != 0)
					fail_msg("%zu to %zu, phase %u", from,
					    to, phase);
			}
}

/* Fragments of every length, so that masks are cut and begun anew anywhere. */
static void
test_ws_mask_cut(void **state)
{
	static const char text[] = "The quick brown fox jumps over the dog";
	size_t i, n;

	(void)state;
	for (n = 1; n < sizeof(text); n++) {
		nwire = 0;
		wire_frame(0x02, text, n, keys[n % COUNT(keys)]);
		wire_frame(0x80, text + n, sizeof(text) - 1 - n, keys[0]);
		check_wire(0, 0, text);
	}
	nwire = 0;
	for (i = 0; i < sizeof(text) - 1; i += n) {
		n = i < 10 ? 1 : i < 19 ? 3 : 19;
		wire_frame(i == 0 ? 0x02 : 0x00, text + i, n,
		    keys[i % COUNT(keys)]);
	}
	wire_frame(0x80, "", 0, keys[1]);
	check_wire(0, 0, text);
}

/* Where it was agreed on, the one text that may come (DESIGN). */
static void
test_ws_end(void **state)
{
	static const struct story rows[] = {
		{ { F(0x81, "end") }, "[end]" },
		{ { F(0x82, "abc"), F(0x81, "end") }, "abc[end]" },
		{ { F(0x01, "end"), F(0x80, "") }, "[end]" },
		{ { F(0x01, ""), F(0x80, "end") }, "[end]" },
		{ { F(0x01, "e"), F(0x00, ""), F(0x00, "n"), F(0x80, "d") },
		    "[end]" },
		{ { F(0x02, "abc"), F(0x80, "end"), F(0x81, "end") },
		    "abcend[end]" },
		{ { F(0x82, "end") }, "end" },
		/* Control frames come behind it. */
		{ { F(0x81, "end"), F(0x89, "p"), F(0x8a, ""),
		    F(0x88, "\x03\xe8") }, "[end][ping p][close 1000]" },
		{ { F(0x81, "end"), F(0x88, "") }, "[end][close 1005]" },
		/* not whole yet */
		{ { F(0x01, "end") }, "[more]" },
		{ { F(0x01, "en"), F(0x89, "d") }, "[ping d][more]" },
		{ { F(0x01, "end"), F(0x88, "") }, "[close 1005][more]" },
	};

	(void)state;
	check_stories(rows, COUNT(rows), 1);
}

static void
test_ws_end_bad(void **state)
{
	static const struct story rows[] = {
		{ { F(0x81, "") }, "[fail 1002]" },
		{ { F(0x81, "e") }, "[fail 1002]" },
		{ { F(0x81, "en") }, "[fail 1002]" },
		{ { F(0x81, "endx") }, "[fail 1002]" },
		{ { F(0x81, "end\0") }, "[fail 1002]" },
		{ { F(0x81, "end\n") }, "[fail 1002]" },
		{ { F(0x81, " end") }, "[fail 1002]" },
		{ { F(0x81, "endend") }, "[fail 1002]" },
		{ { F(0x81, "End") }, "[fail 1002]" },
		{ { F(0x81, "eNd") }, "[fail 1002]" },
		{ { F(0x81, "enD") }, "[fail 1002]" },
		{ { F(0x81, "xnd") }, "[fail 1002]" },
		{ { F(0x81, "exd") }, "[fail 1002]" },
		{ { F(0x81, "enx") }, "[fail 1002]" },
		{ { F(0x81, "nd") }, "[fail 1002]" },
		{ { F(0x81, "\0nd") }, "[fail 1002]" },
		{ { F(0x81, "close") }, "[fail 1002]" },
		{ { F(0x81, "en\xc3\xa9") }, "[fail 1002]" },
		{ { F(0x01, ""), F(0x80, "") }, "[fail 1002]" },
		{ { F(0x01, "en"), F(0x80, "") }, "[fail 1002]" },
		{ { F(0x01, "en"), F(0x00, "x") }, "[fail 1002]" },
		{ { F(0x01, "end"), F(0x00, "x") }, "[fail 1002]" },
		{ { F(0x01, "end"), F(0x80, "end") }, "[fail 1002]" },
		{ { F(0x01, "end\0") }, "[fail 1002]" },
		{ { F(0x82, "a"), F(0x81, "en"), F(0x81, "d") },
		    "a[fail 1002]" },
		/* twice, and data behind it */
		{ { F(0x81, "end"), F(0x81, "end") }, "[end][fail 1002]" },
		{ { F(0x81, "end"), F(0x01, "end") }, "[end][fail 1002]" },
		{ { F(0x81, "end"), F(0x81, "") }, "[end][fail 1002]" },
		{ { F(0x81, "end"), F(0x82, "x") }, "[end][fail 1002]" },
		{ { F(0x81, "end"), F(0x82, "") }, "[end][fail 1002]" },
		{ { F(0x81, "end"), F(0x02, "x") }, "[end][fail 1002]" },
		{ { F(0x81, "end"), F(0x80, "x") }, "[end][fail 1002]" },
		{ { F(0x01, "en"), F(0x80, "d"), F(0x8a, ""), F(0x82, "x") },
		    "[end][fail 1002]" },
		{ { F(0x01, "en"), F(0x82, "x") }, "[fail 1002]" },
	};

	(void)state;
	check_stories(rows, COUNT(rows), 1);
}

/* The first byte that is wrong says the code, however it was cut. */
static void
test_ws_end_not_utf8(void **state)
{
	static const struct story rows[] = {
		{ { F(0x81, "x\xff") }, "[fail 1002]" },
		{ { F(0x81, "enx\xc3(") }, "[fail 1002]" },
		{ { F(0x81, "end \x80") }, "[fail 1002]" },
		{ { F(0x81, "\xff") }, "[fail 1007]" },
		{ { F(0x81, "en\x80") }, "[fail 1007]" },
		{ { F(0x81, "en\xc3\x28") }, "[fail 1002]" },
	};

	(void)state;
	check_stories(rows, COUNT(rows), 1);
}

static void
test_ws_end_is_text(void **state)
{
	static const struct story rows[] = {
		{ { F(0x81, "end") }, "end" },
		{ { F(0x81, "end"), F(0x81, "end"), F(0x82, "x") },
		    "endendx" },
		{ { F(0x01, "e"), F(0x80, "nd"), F(0x81, "") }, "end" },
	};

	(void)state;
	check_stories(rows, COUNT(rows), 0);
}

/* code: what the text in wire fails with, 0: nothing is wrong with it. */
static void
check_text_wire(int client, const char *s, size_t n, int ends, unsigned code)
{
	static struct reader r;
	size_t i;

	check_cuts(client, ends);
	reader_begin(&r, client, ends);
	for (i = 0; i < nwire; i++)
		reader_feed(&r, wire + i, 1, 0);
	if (r.failed != (code != 0) || (r.failed && r.w.code != code))
		fail_msg("<<%s>>: failed %d, code %u", show(wire, nwire),
		    r.failed, r.w.code);
	if (r.n > n || memcmp(r.data, s, r.n) != 0)
		fail_msg("<<%s>>: another payload", show(wire, nwire));
	if (!r.failed && (r.w.ended != (unsigned)ends || !ends != (r.n == n)))
		fail_msg("<<%s>>: ended %d, %zu bytes", show(wire, nwire),
		    r.w.ended, r.n);
}

/* A text of n bytes in one frame, and in any three with Pings between. */
static void
check_text(const char *s, size_t n, int ends, unsigned code)
{
	size_t a, b;
	int client;

	for (client = 0; client < 2; client++) {
		nwire = 0;
		wire_frame(0x81, s, n, key_of(client, 0));
		check_text_wire(client, s, n, ends, code);
	}
	for (a = 0; a <= n; a++)
		for (b = a; b <= n; b++) {
			client = (int)((a + b) & 1);
			nwire = 0;
			wire_frame(0x01, s, a, key_of(client, 0));
			wire_frame(0x89, "\x80", 1, key_of(client, 1));
			wire_frame(0x00, s + a, b - a, key_of(client, 2));
			wire_frame(0x89, "n", 1, key_of(client, 3));
			wire_frame(0x80, s + b, n - b, key_of(client, 4));
			check_text_wire(client, s, n, ends, code);
		}
}

static void
test_ws_text(void **state)
{
	static const struct {
		const char *s; size_t n; unsigned code;
	} rows[] = {
		/* the first and the last of each length (RFC 3629, 3) */
		{ BYTES("\0\x7f"), 0 },
		{ BYTES("\xc2\x80\xdf\xbf"), 0 },
		{ BYTES("\xe0\xa0\x80\xef\xbf\xbf"), 0 },
		{ BYTES("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"), 0 },
		{ BYTES("\xed\x9f\xbf\xee\x80\x80"), 0 },
		{ BYTES("\xef\xbb\xbf\xe2\x82\xac"), 0 },
		{ BYTES("a\xc3\xa9z\xf0\x9f\x90\x8c"), 0 },
		/* too long forms */
		{ BYTES("\xc0\x80"), 1007 }, { BYTES("\xc1\xbf"), 1007 },
		{ BYTES("\xe0\x80\x80"), 1007 },
		{ BYTES("\xe0\x9f\xbf"), 1007 },
		{ BYTES("\xf0\x80\x80\x80"), 1007 },
		{ BYTES("\xf0\x8f\xbf\xbf"), 1007 },
		{ BYTES("\xf8\x88\x80\x80\x80"), 1007 },
		/* surrogates */
		{ BYTES("\xed\xa0\x80"), 1007 },
		{ BYTES("\xed\xbf\xbf"), 1007 },
		{ BYTES("\xed\xa0\xbd\xed\xb8\x80"), 1007 },
		/* beyond U+10FFFF */
		{ BYTES("\xf4\x90\x80\x80"), 1007 },
		{ BYTES("\xf5\x80\x80\x80"), 1007 },
		{ BYTES("\xff"), 1007 }, { BYTES("\xfe"), 1007 },
		/* out of place */
		{ BYTES("\x80"), 1007 }, { BYTES("a\xbf"), 1007 },
		{ BYTES("\xc3\xa9\xa9"), 1007 },
		{ BYTES("\xc3("), 1007 }, { BYTES("\xe2\x28\xa1"), 1007 },
		{ BYTES("\xe2\x82\xc3"), 1007 },
		{ BYTES("\xf0\x9f\x90z"), 1007 },
		/* cut at the end of the message */
		{ BYTES("a\xc3"), 1007 }, { BYTES("\xe0\xa0"), 1007 },
		{ BYTES("\xe2"), 1007 }, { BYTES("\xed\x9f"), 1007 },
		{ BYTES("\xf0\x9f\x90"), 1007 }, { BYTES("\xf4"), 1007 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		check_text(rows[i].s, rows[i].n, 0, rows[i].code);
	check_text("end", 3, 1, 0);
	check_text("ende", 4, 1, 1002);
	check_text("en", 2, 1, 1002);
}

/* What belongs to one text does not reach into the next frames. */
static void
test_ws_text_apart(void **state)
{
	static const struct story rows[] = {
		{ { F(0x82, "\xc3"), F(0x81, "a"), F(0x82, "\xff\xe2\x82"),
		    F(0x81, "\xc3\xa9") },
		    "\\xc3a\\xff\\xe2\\x82\\xc3\\xa9" },
		{ { F(0x01, "\xc3"), F(0x80, "") }, "\\xc3[fail 1007]" },
		{ { F(0x01, "\xc3"), F(0x00, ""), F(0x80, "\xa9") },
		    "\\xc3\\xa9" },
		{ { F(0x81, "\xc3"), F(0x81, "\xa9") }, "[fail 1007]" },
		/* A Close may come within a character, and says its own. */
		{ { F(0x01, "\xc3"), F(0x88, "") },
		    "\\xc3[close 1005][more]" },
		{ { F(0x01, "\xf0"), F(0x88, "\x03\xe8") },
		    "\\xf0[close 1000][more]" },
		{ { F(0x01, "\xe0"), F(0x88, "\x03\xe8ok\xc3\xa9") },
		    "\\xe0[close 1000][more]" },
		{ { F(0x01, "\xc3"), F(0x88, "\x03\xe8\xa9") },
		    "\\xc3[fail 1007]" },
	};

	(void)state;
	check_stories(rows, COUNT(rows), 0);
}

/*
 * By arithmetic, of the characters that begin with these bytes and may be
 * (RFC 3629): 1 it is one, 0 there are some, -1 there is none.
 */
static int
utf8_begins(const unsigned char *p, unsigned n)
{
	static const long least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned len, i;
	long lo, hi;

	len = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 :
	    p[0] >> 3 == 30 ? 4 : 0;
	if (len == 0)
		return -1;
	lo = hi = len == 1 ? p[0] : p[0] & (0x7f >> len);
	for (i = 1; i < len; i++) {
		if (i < n && p[i] >> 6 != 2)
			return -1;
		lo = lo << 6 | (i < n ? p[i] & 0x3f : 0);
		hi = hi << 6 | (i < n ? p[i] & 0x3f : 0x3f);
	}
	if (lo < least[len])
		lo = least[len];
	if (hi > 0x10ffff)
		hi = 0x10ffff;
	if (lo >= 0xd800 && lo <= 0xdfff)
		lo = 0xe000;
	if (hi >= 0xd800 && hi <= 0xdfff)
		hi = 0xd7ff;
	return lo > hi ? -1 : n == len;
}

/* All that can come behind the n bytes at p, which begin a character. */
static void
utf8_walk(const struct ws *w, unsigned char *p, unsigned n)
{
	struct ws next;
	int c, r, want;

	next = *w;
	for (c = 0; c < 256; c++) {
		p[n] = (unsigned char)c;
		want = utf8_begins(p, n + 1);
		next.utf8 = w->utf8;
		next.utf8_min = w->utf8_min;
		r = utf8_byte(&next, p[n]);
		if (r != (want == -1 ? -1 : 0) ||
		    (r == 0 && (next.utf8 == 0) != want))
			fail_msg("<<%s>>: %d, not %d", show(p, n + 1), r,
			    want);
		if (want == 0)
			utf8_walk(&next, p, n + 1);
	}
}

/* Every sequence of bytes to where it is a character or cannot be one. */
static void
test_utf8(void **state)
{
	unsigned char p[5];
	struct ws w;

	(void)state;
	memset(&w, 0, sizeof(w));
	utf8_walk(&w, p, 0);
}

static void
test_ws_control(void **state)
{
	static const unsigned heads[] = { 0x89, 0x8a };
	char text[126], want[160];
	size_t i, n;
	int client;

	(void)state;
	memset(text, 'p', sizeof(text));
	for (i = 0; i < COUNT(heads); i++)
		for (n = 123; n <= 126; n++)
			for (client = 0; client < 2; client++) {
				nwire = 0;
				wire_frame(heads[i], text, n,
				    key_of(client, 0));
				snprintf(want, sizeof(want), "[ping %.*s]",
				    (int)n, text);
				if (n > 125)
					strcpy(want, "[fail 1002]");
				else if (heads[i] == 0x8a)
					want[0] = '\0';
				if (strcmp(tell_all(client, 0), want) != 0)
					fail_msg("%zu: %s", n, story);
				check_cuts(client, 0);
			}
}

/* Only the last Ping is owed an answer (5.5.3). */
static void
test_ws_ping(void **state)
{
	static struct reader r;
	char text[125];

	(void)state;
	memset(text, 'p', sizeof(text));
	nwire = 0;
	wire_frame(0x89, text, sizeof(text), NULL);
	wire_frame(0x89, "abc", 3, NULL);
	wire_frame(0x82, "data", 4, NULL);
	wire_frame(0x89, "de", 2, NULL);
	wire_frame(0x8a, "fghi", 4, NULL);
	check_cuts(1, 0);
	reader_begin(&r, 1, 0);
	reader_feed(&r, wire, nwire, 0);
	assert_int_equal(r.n, 4);
	assert_int_equal(r.w.ponging, 1);
	assert_true(pong_is(&r.w, "de", 2));
	/* It is owed until the next one begins; that one once it is whole. */
	reader_feed(&r, "\x89", 1, 0);
	assert_int_equal(r.w.ponging, 1);
	reader_feed(&r, "\x05" "1234", 5, 0);
	assert_int_equal(r.w.ponging, 0);
	reader_feed(&r, "5", 1, 0);
	assert_int_equal(r.w.ponging, 1);
	assert_true(pong_is(&r.w, "12345", 5));
	reader_feed(&r, "\x89\0", 2, 0);
	assert_int_equal(r.w.ponging, 1);
	assert_true(pong_is(&r.w, "", 0));
	/* Once it was sent none is owed, and a Pong asks for none. */
	r.w.ponging = 0;
	reader_feed(&r, "\x8a\x01x\x82\x01y", 6, 0);
	assert_int_equal(r.w.ponging, 0);
}

static void
test_ws_close(void **state)
{
	static const struct story rows[] = {
		{ { F(0x88, "") }, "[close 1005]" },
		{ { F(0x88, "\x03\xe8") }, "[close 1000]" },
		{ { F(0x88, "\x03\xf3" "bye") }, "[close 1011]" },
		{ { F(0x88, "\x0f\xa0\xf0\x9f\x90\x8c") }, "[close 4000]" },
		{ { F(0x88, "\x03") }, "[fail 1002]" },
		{ { F(0x88, "\0") }, "[fail 1002]" },
		/* The reason is a text (5.5.1). */
		{ { F(0x88, "\x03\xe8\xff") }, "[fail 1007]" },
		{ { F(0x88, "\x03\xe8" "a\xc3") }, "[fail 1007]" },
		{ { F(0x88, "\x03\xe8\xe2\x82") }, "[fail 1007]" },
		{ { F(0x88, "\x03\xe8\xed\xa0\x80") }, "[fail 1007]" },
		{ { F(0x88, "\x03\xe8\xc0\x80") }, "[fail 1007]" },
		{ { F(0x88, "\x03\xe8\xf4\x90\x80\x80") }, "[fail 1007]" },
		{ { F(0x88, "\x03\xed\xff") }, "[fail 1002]" },
		/* Nothing behind it counts. */
		{ { F(0x82, "a"), F(0x88, "\x03\xe8"), F(0x82, "b") },
		    "a[close 1000]" },
		{ { F(0x88, ""), F(0x89, "p"), F(0x88, "\x03\xe8") },
		    "[close 1005]" },
		{ { F(0x88, ""), F(0xff, "x") }, "[close 1005]" },
		{ { F(0x89, "p"), F(0x88, ""), F(0x89, "q") },
		    "[ping p][close 1005]" },
		{ { F(0x02, "a"), F(0x88, "\x03\xe9"), F(0x00, "b") },
		    "a[close 1001][more]" },
	};
	char longest[125];
	size_t i;

	(void)state;
	check_stories(rows, COUNT(rows), 0);
	check_stories(rows, COUNT(rows), 1);
	/* To the last byte, which may be in a character or none. */
	memset(longest, 'r', sizeof(longest));
	longest[0] = 0x03;
	longest[1] = (char)0xe8;
	for (i = 0; i < 3; i++) {
		longest[124] = "r\xc3\xff"[i];
		nwire = 0;
		wire_frame(0x88, longest, sizeof(longest), NULL);
		check_wire(1, 0, i == 0 ? "[close 1000]" : "[fail 1007]");
	}
}

/* 7.4.1, 7.4.2, and what is registered since: 1012, 1013, 1014. */
static void
test_ws_close_code(void **state)
{
	static struct reader r;
	unsigned code;
	int client, good;
	char p[126];

	(void)state;
	memset(p, 'r', sizeof(p));
	for (code = 0; code < 65536; code++)
		for (client = 0; client < 2; client++) {
			good = (code >= 1000 && code <= 1003) ||
			    (code >= 1007 && code <= 1014) ||
			    (code >= 3000 && code <= 4999);
			p[0] = (char)(code >> 8);
			p[1] = (char)code;
			nwire = 0;
			/* with a reason and without */
			wire_frame(0x88, p, code % 2 == 0 ? 2 : 2 + code % 124,
			    key_of(client, 0));
			reader_begin(&r, client, 0);
			reader_feed(&r, wire, nwire, 0);
			if (r.failed == good || r.w.closed != (unsigned)good ||
			    r.w.code != (good ? code : 1002))
				fail_msg("code %u: failed %d, %u", code,
				    r.failed, r.w.code);
		}
}

/*
 * A frame's payload of n bytes, from this one buffer, which its mask changes
 * to and fro.
 */
static void
feed_payload(struct ws *w, unsigned char *p, size_t size, uint64_t n,
    const unsigned char *key)
{
	unsigned char a, b;
	uint64_t pos;
	size_t k;

	for (pos = 0; pos < n; pos += k) {
		assert_int_equal(w->left, n - pos);
		k = n - pos < size ? (size_t)(n - pos) : size;
		a = p[0] ^ key[pos % 4];
		b = p[k - 1] ^ key[(pos + k - 1) % 4];
		if (ws_decode(w, p, k) != (ssize_t)k)
			fail_msg("%zu bytes", k);
		if (p[0] != a || p[k - 1] != b)
			fail_msg("wrong at %d", (int)pos);
	}
}

/* A message has no limit: a GiB, in the largest frames, costs no memory. */
static void
test_ws_endless(void **state)
{
	static const int frames = 16;
	unsigned char *p = (unsigned char *)at_end(NULL, CHUNK - 1);
	struct rusage before, after;
	struct ws w;
	int i;

	(void)state;
	memset(&w, 0, sizeof(w));
	memset(p, 'x', CHUNK - 1);
	getrusage(RUSAGE_SELF, &before);
	for (i = 0; i < frames; i++) {
		nwire = 0;
		wire_head(i == 0 ? 0x02 : i < frames - 1 ? 0x00 : 0x80,
		    WS_FRAME_MAX, 8, key_of(0, (size_t)i));
		assert_int_equal(ws_decode(&w, wire, nwire), 0);
		feed_payload(&w, p, CHUNK - 1, WS_FRAME_MAX,
		    key_of(0, (size_t)i));
		assert_int_equal(ws_clean(&w), i == frames - 1);
	}
	getrusage(RUSAGE_SELF, &after);
	/* KiB; what the test touches first is in it. */
	assert_true(after.ru_maxrss <= before.ru_maxrss + 1024);
}

/* For one who reads as a client, before the first byte and after each. */
static void
test_ws_clean(void **state)
{
	static const struct {
		struct frame frames[FRAMES]; int ends; const char *want;
		int paid;	/* with the Pong sent */
	} rows[] = {
		{ { F(0x82, "ab") }, 0, "1" "0001", 1 },
		{ { F(0x82, "") }, 0, "1" "01", 1 },
		{ { F(0x81, "a") }, 0, "1" "001", 1 },
		{ { F(0x82, "a"), F(0x82, "b") }, 0, "1" "001" "001", 1 },
		{ { F(0x02, "a"), F(0x80, "b") }, 0, "1" "000" "001", 1 },
		{ { F(0x02, ""), F(0x00, "") }, 0, "1" "00" "00", 0 },
		{ { F(0x8a, "p"), F(0x8a, "") }, 0, "1" "001" "01", 1 },
		{ { F(0x02, "a"), F(0x8a, "") }, 0, "1" "000" "00", 0 },
		{ { F(0x89, "p"), F(0x82, "") }, 0, "1" "000" "00", 1 },
		{ { F(0x02, ""), F(0x89, ""), F(0x80, "") }, 0,
		    "1" "00" "00" "00", 1 },
		{ { F(0x88, "") }, 0, "1" "00", 0 },
		{ { F(0x88, "\x03\xe8") }, 0, "1" "0000", 0 },
		{ { F(0x81, "end"), F(0x8a, "") }, 1, "1" "00000" "00", 0 },
		{ { F(0x82, "end"), F(0x8a, "") }, 1, "1" "00001" "01", 1 },
		{ { F(0x81, "end") }, 0, "1" "00001", 1 },
	};
	static struct reader r;
	size_t i, k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		wire_frames(rows[i].frames, 1);
		assert_int_equal(strlen(rows[i].want), nwire + 1);
		reader_begin(&r, 1, rows[i].ends);
		for (k = 0; k <= nwire; k++) {
			if (ws_clean(&r.w) != (rows[i].want[k] == '1'))
				fail_msg("<<%s>>: clean %d at %zu",
				    show(wire, nwire), ws_clean(&r.w), k);
			if (k < nwire)
				reader_feed(&r, wire + k, 1, 0);
		}
		r.w.ponging = 0;
		assert_int_equal(ws_clean(&r.w), rows[i].paid);
	}
}

static void
test_ws_encode(void **state)
{
	static const int opcodes[] = {
		WS_CONTINUATION, WS_TEXT, WS_BINARY, WS_CLOSE, WS_PING, WS_PONG
	};
	size_t i, k;

	(void)state;
	for (i = 0; i < COUNT(opcodes); i++)
		for (k = 0; k < COUNT(keys); k++) {
			nwire = 0;
			wire_frame(0x80U | (unsigned)opcodes[i], "end", 3,
			    keys[k]);
			check_encode(opcodes[i], "end", 3, keys[k]);
			nwire = 0;
			wire_frame(0x80U | (unsigned)opcodes[i], "end", 3,
			    NULL);
			check_encode(opcodes[i], "end", 3, NULL);
		}
}

/* Appends a frame of ws_encode()'s; data go to the n bytes at want too. */
static size_t
encode_any(const struct ws *w, unsigned char *want, size_t n)
{
	static const int opcodes[] = { WS_PING, WS_PONG };
	unsigned char room[WS_HEAD_MAX + 4096], *p = room + WS_HEAD_MAX;
	int opcode = chance(8) > 0 ? WS_BINARY : opcodes[chance(2)];
	unsigned char key[4];
	size_t len, i;

	len = opcode != WS_BINARY ? chance(126) :
	    chance(4) > 0 ? chance(140) : chance(4097);
	for (i = 0; i < len; i++)
		p[i] = (unsigned char)chance(256);
	for (i = 0; i < 4; i++)
		key[i] = (unsigned char)chance(256);
	if (opcode == WS_BINARY) {
		memcpy(want + n, p, len);
		n += len;
	}
	p = ws_encode(w, opcode, key, p, &len);
	memcpy(wire + nwire, p, len);
	nwire += len;
	return n;
}

static void
test_ws_round_trip(void **state)
{
	static unsigned char sent[ROOM], got[ROOM];
	struct ws from, to;
	size_t n, k, pos, len;
	unsigned char *p;
	ssize_t r;
	int i, most;

	(void)state;
	seed = 6455;
	for (i = 0; i < 100; i++) {
		memset(&from, 0, sizeof(from));
		memset(&to, 0, sizeof(to));
		from.client = i % 2 != 0;
		to.client = !from.client;
		nwire = n = len = 0;
		for (k = 0; k < 20; k++)
			n = encode_any(&from, sent, n);
		most = i % 3 == 0 ? 5 : i % 3 == 1 ? 300 : 20000;
		for (pos = 0; pos < nwire; pos += k) {
			k = 1 + chance((unsigned)most);
			if (k > nwire - pos)
				k = nwire - pos;
			p = (unsigned char *)at_end(wire + pos, k);
			if ((r = ws_decode(&to, p, k)) == -1)
				fail_msg("%zu bytes at %zu", k, pos);
			memcpy(got + len, p, (size_t)r);
			len += (size_t)r;
		}
		assert_int_equal(len, n);
		assert_memory_equal(got, sent, n);
		to.ponging = 0;
		buf_free(&to.pong);
		assert_int_equal(ws_clean(&to), 1);
	}
}

/* ---- commands -------------------------------------------------------------- */

static void
test_command_expand(void **state)
{
	static const struct {
		const char *text, *host, *want;		/* NULL: bad host */
	} rows[] = {
		{ "", "a", "" }, { "nc %h %p", "a.b", "nc a.b 8" },
		{ "%h%p%s", "::1", "::18/t/s" }, { "%%h", "a", "%h" },
		{ "date +%Y-%%", "a", "date +%Y-%" }, { "50%", "a", "50%" },
		{ "%", "a", "%" }, { "%%", "a", "%" }, { "%%%", "a", "%%" },
		{ "%%%h", "a_1-b.c", "%a_1-b.c" },
		{ "x", "fe80::1%lo", "x" }, { "%h", "", "" },
		{ "%h", "-e", NULL }, { "%h", "a b", NULL },
		{ "%h", "a;b", NULL }, { "x", "a`b", NULL },
		{ "%h", "a$b", NULL }, { "%h", "a'b", NULL },
		{ "%h", "a\nb", NULL }, { "%h", "a/b", NULL },
		{ "%h", "\xc3\xa9", NULL },
	};
	struct buf b;
	size_t i, n;
	int r;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		memset(&b, 0, sizeof(b));
		n = strlen(rows[i].text) + 1;
		r = command_expand(&b, at_end(rows[i].text, n), rows[i].host,
		    8, "/t/s");
		if ((r == 0) != (rows[i].want != NULL) ||
		    (r == 0 && (b.len != strlen(rows[i].want) ||
		    memcmp(rows[i].want, b.len > 0 ? (char *)b.p + b.off : "",
		    b.len) != 0)) || (r == -1 && errno != EINVAL))
			fail_msg("<<%s>> with <<%s>>: %d <<%s>>",
			    rows[i].text, rows[i].host, r,
			    show(b.p + b.off, b.len));
		buf_free(&b);
	}
}

static void
test_tls_reason(void **state)
{
#define VERIFIED	"depth=0 CN = localhost\nverify return:1\n"
#define FAULT(s)	"80DBBB1C237F0000:error:0A000086:SSL routines:f:" s \
			":../ssl/statem/statem_clnt.c:1889:\n"
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "", "x" }, { "\n\n", "x" }, { VERIFIED, "x" },
		{ "depth=0 CN = localhost\n"
		    "verify error:num=62:hostname mismatch\n"
		    FAULT("certificate verify failed"),
		    "certificate not verified: hostname mismatch" },
		{ "verify error:num=10:certificate has expired\n"
		    "notAfter=Jan  1 00:00:00 2020 GMT\n",
		    "certificate not verified: certificate has expired" },
		{ "verify error:num=10", "certificate not verified: " },
		{ FAULT("wrong version number"),
		    "TLS failed: wrong version number" },
		{ VERIFIED FAULT("one") FAULT("two"), "TLS failed: one" },
		{ "a:error:b\n", "TLS failed: a:error:b" },
		{ "sh: 1: exec: openssl: not found\n",
		    "TLS failed: sh: 1: exec: openssl: not found" },
		{ "one\ntwo", "TLS failed: two" },
		{ VERIFIED "two\n" VERIFIED, "TLS failed: two" },
	};
#undef VERIFIED
#undef FAULT
	char dst[64], cut[8];
	size_t i, n, k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		n = strlen(rows[i].text);
		strcpy(dst, "x");
		tls_reason(dst, sizeof(dst), at_end(rows[i].text, n), n);
		if (strcmp(dst, rows[i].want) != 0)
			fail_msg("<<%s>>: <<%s>>", rows[i].text, dst);
		for (k = 0; k <= n; k++)
			tls_reason(cut, sizeof(cut), at_end(rows[i].text, k),
			    k);
	}
}


/* ---- replies ----------------------------------------------------------- */

static void
test_status_reason(void **state)
{
	static const int known[] = {
		400, 403, 404, 407, 408, 414, 431, 502, 503, 504, 505
	};
	const char *reason;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(known); i++) {
		reason = status_reason(known[i]);
		if (*reason == '\0' || strpbrk(reason, "\r\n") != NULL)
			fail_msg("%d: '%s'", known[i], reason);
	}
	assert_string_equal(status_reason(407),
	    "Proxy Authentication Required");
	assert_string_equal(status_reason(299), "");
	assert_string_equal(status_reason(0), "");
}

static void
test_reply_make(void **state)
{
	static const struct {
		int status; unsigned flags; const char *fields, *text, *want;
	} rows[] = {
		{ 404, 0, "", "what", "HTTP/1.1 404 Not Found\r\n"
		    "Content-Type: text/plain\r\nContent-Length: 5\r\n"
		    "\r\nwhat\n" },
		{ 400, REPLY_CLOSE, "", "", "HTTP/1.1 400 Bad Request\r\n"
		    "Content-Type: text/plain\r\nContent-Length: 1\r\n"
		    "Connection: close\r\n\r\n\n" },
		{ 502, REPLY_HEAD, "A: b\r\n", "what",
		    "HTTP/1.1 502 Bad Gateway\r\nA: b\r\n"
		    "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n" },
		{ 407, REPLY_HEAD | REPLY_CLOSE, "A: b\r\nC: d\r\n", "12345678",
		    "HTTP/1.1 407 Proxy Authentication Required\r\n"
		    "A: b\r\nC: d\r\nContent-Type: text/plain\r\n"
		    "Content-Length: 9\r\nConnection: close\r\n\r\n" },
		{ 299, 0, "", "x", "HTTP/1.1 299 \r\n"
		    "Content-Type: text/plain\r\nContent-Length: 2\r\n"
		    "\r\nx\n" },
	};
	struct buf b = { NULL, 0, 0, 0 };
	uint64_t length;
	struct head h;
	size_t i;
	ssize_t n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_int_equal(buf_put(&b, "before", 6), 0);
		assert_int_equal(reply_make(&b, rows[i].status, rows[i].flags,
		    rows[i].fields, rows[i].text), 0);
		buf_take(&b, 6);
		if (b.len != strlen(rows[i].want) ||
		    memcmp(b.p + b.off, rows[i].want, b.len) != 0)
			fail_msg("%s", show(b.p + b.off, b.len));
		/* Our own parser takes it, and finds the body where it is. */
		n = head_reply(&h, b.p + b.off, b.len);
		assert_true(n > 0);
		assert_int_equal(head_framing(&h, &length), BODY_LENGTH);
		assert_int_equal(head_persists(&h),
		    !(rows[i].flags & REPLY_CLOSE));
		assert_int_equal(b.len - (size_t)n,
		    rows[i].flags & REPLY_HEAD ? 0 : length);
		buf_free(&b);
	}
}

/* ---- garbage ----------------------------------------------------------- */

static char	garbage[512];

/* Pieces that lead deep into the parsers, and any byte between them. */
static size_t
garbage_make(void)
{
	static const char *const pieces[] = {
		"\r\n", "\r\n\r\n", "\n", "\r", " ", "\t", ":", ",", "=", "\"",
		"\\", "/", "@", "://", "[", "]", "%", "%4", ";", "GET ",
		"CONNECT a:1 HTTP/1.1\r\n", "HTTP/1.1", "HTTP/1.1 200 OK\r\n",
		"Content-Length: ", "Transfer-Encoding: chunked\r\n", "A: b",
		"Basic ", "realm=\"x\"", "Negotiate YII==", "0", "5", "ff",
		"0\r\n", "3\r\nabc\r\n", "a=b", "http", "user:pass@",
	};
	size_t n = 0, len = chance(120), k;
	const char *p;

	while (n < len && n < sizeof(garbage) - 64) {
		if (chance(3) == 0) {
			garbage[n++] = (char)chance(256);
			continue;
		}
		p = pieces[chance(COUNT(pieces))];
		k = strlen(p);
		memcpy(garbage + n, p, k);
		n += k;
	}
	return n < sizeof(garbage) ? n : 0;
}

/* What was judged of a beginning is judged of the whole. */
static void
garbage_head(parser *parse, size_t n, const char *statuses)
{
	struct head h;
	char number[8];
	ssize_t part, whole;
	size_t cut = chance((unsigned)n + 1);
	uint64_t length;

	part = parse(&h, at_end(garbage, cut), cut);
	whole = parse(&h, at_end(garbage, n), n);
	if (whole > (ssize_t)n || (part != 0 && part != whole))
		fail_msg("<<%s>>: %zd, but %zd when cut at %zu",
		    show(garbage, n), whole, part, cut);
	snprintf(number, sizeof(number), "%zd ", whole);
	if (whole < 0 && strstr(statuses, number) == NULL)
		fail_msg("<<%s>>: %zd", show(garbage, n), whole);
	if (whole <= 0)
		return;
	head_inside(&h, last - n, (size_t)whole);
	(void)head_framing(&h, &length);
	(void)head_persists(&h);
}

static void
garbage_chunks(size_t n)
{
	char one[sizeof(garbage)], two[sizeof(garbage)];
	size_t used1 = 0, used2 = 0, cut = chance((unsigned)n + 1);
	int done1 = 0, done2 = 0;
	ssize_t r1, r2;

	r1 = decode(garbage, n, n, 1, one, &used1, &done1);
	r2 = decode(garbage, n, cut, 1 + chance(9), two, &used2, &done2);
	if (r1 != r2 || (r1 != -1 && (used1 != used2 || done1 != done2 ||
	    memcmp(one, two, (size_t)r1) != 0)))
		fail_msg("<<%s>> cut at %zu: %zd and %zd",
		    show(garbage, n), cut, r1, r2);
}

static void
garbage_challenge(size_t n)
{
	struct challenge c;
	struct span rest;
	size_t left;

	rest.p = at_end(garbage, n);
	rest.n = n;
	do {
		left = rest.n;
		if (!auth_challenge(&rest, &c))
			return;
		inside(c.scheme, last - n, n, "scheme");
		inside(c.params, last - n, n, "parameters");
		inside(rest, last - n, n, "rest");
		if (c.scheme.n == 0)
			fail_msg("<<%s>>: no scheme", show(garbage, n));
	} while (rest.n < left);
	fail_msg("<<%s>>: no end", show(garbage, n));
}

static void
garbage_digest(size_t n)
{
	static struct digest d;
	struct span params;

	params.p = at_end(garbage, n);
	params.n = n;
	if (auth_digest_parse(params, &d) == 0) {
		(void)digest_text(&d);
		(void)auth_digest_spoken(&d);
	}
}

static void
garbage_url(size_t n)
{
	char host[HOST_MAX + 1], out[sizeof(garbage)], *p;
	unsigned port;
	struct url u;

	garbage[n] = '\0';
	p = at_end(garbage, n + 1);
	url_split(&u, p);
	n = strlen(p);
	inside(u.scheme, p, n, "scheme");
	inside(u.user, p, n, "user");
	inside(u.pass, p, n, "pass");
	inside(u.host_port, p, n, "host");
	inside(u.path, p, n, "path");
	(void)authority_parse(u.host_port.p, u.host_port.n, host, &port, 80);
	if (u.user.p != NULL)
		(void)percent_decode(out, sizeof(out), u.user);
}

/* Frames as they may come, one of their bytes changed now and then. */
static void
garbage_frames(void)
{
	static const char *const texts[] = {
		"", "end", "e", "nd", "en", "abc", "\xc3\xa9", "\xc3", "\xa9",
		"\xe2\x82\xac", "\x03\xe8", "\x03\xe8ok", "\x03",
		"Nothing ends in the middle of this.",
	};
	static const unsigned begin[] = { 0x82, 0x81, 0x02, 0x01 };
	static const unsigned more[] = { 0x00, 0x80 };
	static const unsigned control[] = { 0x89, 0x8a, 0x88 };
	int client = (int)chance(2), ends = (int)chance(2), within = 0;
	unsigned k, first_byte;
	static struct reader whole, r;
	const char *what, *text;
	size_t cut;

	nwire = 0;
	for (k = 1 + chance(6); k > 0; k--) {
		first_byte = chance(4) == 0 ? control[chance(3)] :
		    within ? more[chance(2)] : begin[chance(4)];
		if ((first_byte & 8) == 0)
			within = (first_byte & 0x80) == 0;
		text = texts[chance(COUNT(texts))];
		wire_frame(first_byte, text, strlen(text),
		    key_of(client, chance(5)));
	}
	if (chance(2) == 0)
		wire[chance((unsigned)nwire)] = (unsigned char)chance(256);
	reader_begin(&whole, client, ends);
	reader_feed(&whole, wire, nwire, 0);
	cut = chance((unsigned)nwire + 1);
	reader_begin(&r, client, ends);
	reader_feed(&r, wire, cut, 1);
	reader_feed(&r, wire + cut, nwire - cut, 0);
	/* The longer way was told more before it failed. */
	if ((what = reader_differs(&whole, &r)) != NULL)
		fail_msg("<<%s>> cut at %zu: %s", show(wire, nwire), cut,
		    what);
}

static void
test_garbage(void **state)
{
	char out[CRED_MAX + 1];
	struct span v;
	size_t n;
	int i;

	(void)state;
	seed = 20260101;
	for (i = 0; i < 40000; i++) {
		n = garbage_make();
		garbage_head(head_request, n, "-400 -414 -431 -505 ");
		garbage_head(head_reply, n, "-1 ");
		garbage_chunks(n);
		garbage_challenge(n);
		garbage_digest(n);
		v.p = at_end(garbage, n);
		v.n = n;
		(void)auth_basic_decode(v, out);
		garbage_url(n);
		garbage_frames();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf),
		cmocka_unit_test(test_buf_fmt),
		cmocka_unit_test(test_buf_error),
		cmocka_unit_test(test_span_is),
		cmocka_unit_test(test_secret_equal),
		cmocka_unit_test(test_secret_wipe),
		cmocka_unit_test(test_text_escape),
		cmocka_unit_test(test_text_number),
		cmocka_unit_test(test_line_fields),
		cmocka_unit_test(test_request_good),
		cmocka_unit_test(test_request_more),
		cmocka_unit_test(test_request_bad),
		cmocka_unit_test(test_request_first_byte),
		cmocka_unit_test(test_request_line_limit),
		cmocka_unit_test(test_request_line_longest),
		cmocka_unit_test(test_request_head_limit),
		cmocka_unit_test(test_reply_good),
		cmocka_unit_test(test_reply_folded),
		cmocka_unit_test(test_reply_folded_list),
		cmocka_unit_test(test_reply_bad),
		cmocka_unit_test(test_reply_more),
		cmocka_unit_test(test_reply_limit),
		cmocka_unit_test(test_head_field),
		cmocka_unit_test(test_head_lists),
		cmocka_unit_test(test_head_method),
		cmocka_unit_test(test_head_persists),
		cmocka_unit_test(test_field_valid),
		cmocka_unit_test(test_framing_request),
		cmocka_unit_test(test_framing_reply),
		cmocka_unit_test(test_chunked_good),
		cmocka_unit_test(test_chunked_blank),
		cmocka_unit_test(test_chunked_bad),
		cmocka_unit_test(test_chunked_bytes),
		cmocka_unit_test(test_chunked_endless),
		cmocka_unit_test(test_message_decode),
		cmocka_unit_test(test_message_encode),
		cmocka_unit_test(test_message_last),
		cmocka_unit_test(test_head_pass),
		cmocka_unit_test(test_head_pass_status),
		cmocka_unit_test(test_host_parse),
		cmocka_unit_test(test_host_length),
		cmocka_unit_test(test_authority_parse),
		cmocka_unit_test(test_authority_format),
		cmocka_unit_test(test_url_split),
		cmocka_unit_test(test_url_split_scheme),
		cmocka_unit_test(test_target_absolute),
		cmocka_unit_test(test_target_split),
		cmocka_unit_test(test_percent_decode),
		cmocka_unit_test(test_sha1),
		cmocka_unit_test(test_sha1_lengths),
		cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_hashes_lengths),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_base64_all),
		cmocka_unit_test(test_base64_bad),
		cmocka_unit_test(test_auth_challenge),
		cmocka_unit_test(test_auth_challenge_slash),
		cmocka_unit_test(test_auth_basic),
		cmocka_unit_test(test_auth_basic_decode),
		cmocka_unit_test(test_auth_basic_decode_long),
		cmocka_unit_test(test_auth_basic_decode_longest),
		cmocka_unit_test(test_digest_parse),
		cmocka_unit_test(test_digest_long),
		cmocka_unit_test(test_digest_spoken),
		cmocka_unit_test(test_digest_answer),
		cmocka_unit_test(test_digest_differs),
		cmocka_unit_test(test_ws_accept),
		cmocka_unit_test(test_ws_example),
		cmocka_unit_test(test_ws_length),
		cmocka_unit_test(test_ws_length_form),
		cmocka_unit_test(test_ws_head),
		cmocka_unit_test(test_ws_messages),
		cmocka_unit_test(test_ws_sequence),
		cmocka_unit_test(test_ws_role),
		cmocka_unit_test(test_ws_mask),
		cmocka_unit_test(test_ws_mask_cut),
		cmocka_unit_test(test_ws_end),
		cmocka_unit_test(test_ws_end_bad),
		cmocka_unit_test(test_ws_end_not_utf8),
		cmocka_unit_test(test_ws_end_is_text),
		cmocka_unit_test(test_ws_text),
		cmocka_unit_test(test_ws_text_apart),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_ws_control),
		cmocka_unit_test(test_ws_ping),
		cmocka_unit_test(test_ws_close),
		cmocka_unit_test(test_ws_close_code),
		cmocka_unit_test(test_ws_endless),
		cmocka_unit_test(test_ws_clean),
		cmocka_unit_test(test_ws_encode),
		cmocka_unit_test(test_ws_round_trip),
		cmocka_unit_test(test_command_expand),
		cmocka_unit_test(test_tls_reason),
		cmocka_unit_test(test_status_reason),
		cmocka_unit_test(test_reply_make),
		cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, room_map, NULL);
}
