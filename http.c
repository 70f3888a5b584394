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
 * Bytes and meaning: what HTTP's messages say and how they are written.
 * Nothing here knows a descriptor, a clock or stderr; all of it is tested in
 * memory (tests/unit_http.c).
 */

#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "httptun.h"

/* ---- bytes --------------------------------------------------------------- */

/*
 * Moves it to where there is room for so much.  What may be a head, with a
 * password in it, is not for realloc(3), which would leave it behind; what is
 * larger is a stream's, and would take long to wipe.
 */
static int
buf_grow(struct buf *b, size_t cap)
{
	unsigned char *p;

	if (b->cap > 2 * INPUT_MAX) {
		memmove(b->p, b->p + b->off, b->len);
		b->off = 0;
		if ((p = realloc(b->p, cap)) == NULL)
			return -1;
	} else {
		if ((p = malloc(cap)) == NULL)
			return -1;
		if (b->p != NULL) {
			memcpy(p, b->p + b->off, b->len);
			secret_wipe(b->p, b->cap);
			free(b->p);
		}
	}
	b->p = p;
	b->off = 0;
	b->cap = (unsigned)cap;
	return 0;
}

/* Makes room for n bytes behind what is there. */
static int
buf_room(struct buf *b, size_t n)
{
	size_t cap;

	if (n > INT32_MAX || b->len + n > INT32_MAX) {
		errno = ENOMEM;
		return -1;
	}
	if (b->off + b->len + n <= b->cap && b->cap > 0)
		return 0;
	if (b->len + n <= b->cap && b->cap > 0) {
		memmove(b->p, b->p + b->off, b->len);
		b->off = 0;
		return 0;
	}
	for (cap = b->cap > 0 ? b->cap : 128; cap < b->len + n; cap *= 2)
		;
	return buf_grow(b, cap);
}

int
buf_put(struct buf *b, const void *p, size_t n)
{
	if (n == 0)
		return 0;
	if (buf_room(b, n) == -1)
		return -1;
	memcpy(b->p + b->off + b->len, p, n);
	b->len += (unsigned)n;
	return 0;
}

int
buf_fmt(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || buf_room(b, (size_t)n + 1) == -1)
		return -1;
	va_start(ap, fmt);
	vsnprintf((char *)b->p + b->off + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (unsigned)n;
	return 0;
}

void
buf_take(struct buf *b, size_t n)
{
	b->off += (unsigned)n;
	b->len -= (unsigned)n;
	if (b->len == 0)
		buf_free(b);
}

void
buf_free(struct buf *b)
{
	free(b->p);
	memset(b, 0, sizeof(*b));
}

int
span_is(struct span s, const char *t)
{
	return strlen(t) == s.n && strncasecmp(s.p, t, s.n) == 0;
}

struct span
span_of(const char *t)
{
	struct span s = { t, strlen(t) };

	return s;
}

const char *
span_find(struct span s, const char *what)
{
	size_t n = strlen(what), i;

	for (i = 0; i + n <= s.n; i++)
		if (memcmp(s.p + i, what, n) == 0)
			return s.p + i;
	return NULL;
}

int
secret_equal(const void *a, size_t an, const void *b, size_t bn)
{
	const volatile unsigned char *x = a, *y = b;
	unsigned diff = an != bn;
	size_t i;

	for (i = 0; i < an; i++)
		diff |= x[i] ^ (unsigned)(bn > 0 ? y[i % bn] : 1);
	return diff == 0;
}

void
secret_wipe(void *p, size_t n)
{
	volatile unsigned char *q = p;

	while (n-- > 0)
		*q++ = 0;
}

size_t
text_escape(char *dst, size_t size, const char *src, size_t n)
{
	size_t len = 0, i;
	unsigned char c;

	for (i = 0; i < n; i++) {
		c = (unsigned char)src[i];
		if (c >= 0x20 && c <= 0x7e) {
			if (len + 1 >= size)
				break;
			dst[len++] = (char)c;
		} else {
			if (len + 4 >= size)
				break;
			snprintf(dst + len, 5, "\\x%02x", c);
			len += 4;
		}
	}
	dst[len] = '\0';
	return len;
}

char *
text_hex(char *dst, const void *src, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *s = src;
	size_t i;

	for (i = 0; i < n; i++) {
		dst[2 * i] = digits[s[i] >> 4];
		dst[2 * i + 1] = digits[s[i] & 15];
	}
	dst[2 * n] = '\0';
	return dst;
}

static int
is_digit(int c)
{
	return c >= '0' && c <= '9';
}

long
text_number(const char *s, size_t n, long min, long max)
{
	long v = 0;
	size_t i;

	if (n == 0 || n > 9)
		return -1;
	for (i = 0; i < n; i++) {
		if (!is_digit(s[i]))
			return -1;
		v = v * 10 + (s[i] - '0');
	}
	return v < min || v > max ? -1 : v;
}

static int
is_blank(int c)
{
	return c == ' ' || c == '\t';
}

int
line_fields(struct span *text, struct span *field, int max)
{
	const char *p = text->p, *nl, *end = p + text->n;
	int n;

	if (text->n == 0)
		return -1;
	text->p = end;
	if ((nl = memchr(p, '\n', text->n)) != NULL) {
		text->p = nl + 1;
		end = nl;
	}
	text->n -= (size_t)(text->p - p);
	if (end > p && end[-1] == '\r')
		end--;
	for (n = 0; n <= max; n++) {
		while (p < end && is_blank(*p))
			p++;
		if (p == end || *p == '#')
			break;
		if (n == max)
			continue;
		field[n].p = p;
		while (p < end && !is_blank(*p))
			p++;
		field[n].n = (size_t)(p - field[n].p);
	}
	return n;
}

/* ---- heads (RFC 9112, 2-5) ----------------------------------------------- */

/* token (RFC 9110, 5.6.2) */
static int
is_tchar(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    is_digit(c) || (c > 0x20 && c < 0x7f &&
	    strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* What parts words; a line break can only be that of a folded line. */
static int
is_space(int c)
{
	return is_blank(c) || c == '\r' || c == '\n';
}

static struct span
span_trim(const char *p, const char *end)
{
	struct span s;

	while (p < end && is_space(*p))
		p++;
	while (end > p && is_space(end[-1]))
		end--;
	s.p = p;
	s.n = (size_t)(end - p);
	return s;
}

static size_t
skip_token(const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n && is_tchar(p[i]); i++)
		;
	return i;
}

static int
is_token(struct span s)
{
	return s.n > 0 && skip_token(s.p, s.n) == s.n;
}

/* No control character but HTAB; obs-text is let through. */
static int
is_text(struct span s)
{
	size_t i;
	unsigned char c;

	for (i = 0; i < s.n; i++) {
		c = (unsigned char)s.p[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return 0;
	}
	return 1;
}

int
field_valid(struct span name, struct span value)
{
	return is_token(name) && is_text(value) &&
	    memchr(value.p, '\t', value.n) == NULL;
}

/* Just behind the first empty line at or after p, or NULL. */
static const char *
head_end(const char *p, const char *end)
{
	const char *nl;

	while ((nl = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		if (nl + 1 < end && nl[1] == '\n')
			return nl + 2;
		if (nl + 2 < end && nl[1] == '\r' && nl[2] == '\n')
			return nl + 3;
		p = nl + 1;
	}
	return NULL;
}

/*
 * Takes a line off p.  Its CR is left out; without one it is malformed where
 * strict.  Returns -1 for that; there is always an LF before end.
 */
static int
head_line(const char **p, const char *end, int strict, struct span *line)
{
	const char *nl = memchr(*p, '\n', (size_t)(end - *p));

	line->p = *p;
	line->n = (size_t)(nl - *p);
	*p = nl + 1;
	if (line->n > 0 && nl[-1] == '\r')
		line->n--;
	else if (strict)
		return -1;
	return 0;
}

/* HTTP/1.x; -1 malformed, 0 another version, 1 this one. */
static int
head_version(struct head *h, struct span s)
{
	if (s.n != 8 || strncmp(s.p, "HTTP/", 5) != 0 || !is_digit(s.p[5]) ||
	    s.p[6] != '.' || !is_digit(s.p[7]))
		return -1;
	h->minor = s.p[7] - '0';
	return s.p[5] == '1';
}

/*
 * The field lines from p to the empty line.  A folded line is an error in a
 * request (RFC 9112, 5.2) and part of the value in a reply; a reply's line
 * that is no field is passed over.
 */
static int
head_fields(struct head *h, const char *p, const char *end, int strict)
{
	struct span line, name;
	struct field *f;
	const char *colon;

	h->nfields = 0;
	for (;;) {
		if (head_line(&p, end, strict, &line) == -1)
			return -400;
		if (line.n == 0)
			return 0;
		if (strict ? !is_text(line) :
		    memchr(line.p, '\0', line.n) != NULL)
			return strict ? -400 : -1;
		if (is_blank(line.p[0]) && !strict) {
			f = h->nfields > 0 ? &h->field[h->nfields - 1] : NULL;
			if (f != NULL)
				f->value = span_trim(f->value.p,
				    line.p + line.n);
			continue;
		}
		colon = memchr(line.p, ':', line.n);
		name.p = line.p;
		name.n = colon != NULL ? (size_t)(colon - line.p) : 0;
		if (!strict)
			name = span_trim(name.p, name.p + name.n);
		if (!is_token(name)) {
			if (strict)
				return -400;
			continue;
		}
		if (h->nfields == HEAD_FIELDS)
			return strict ? -431 : -1;
		f = &h->field[h->nfields++];
		f->name = name;
		f->value = span_trim(colon + 1, line.p + line.n);
	}
}

/* method SP request-target SP HTTP-version (RFC 9112, 3) */
static int
request_line(struct head *h, struct span line)
{
	const char *end = line.p + line.n, *sp1, *sp2;
	struct span version;
	size_t i;

	sp1 = memchr(line.p, ' ', line.n);
	if (sp1 == NULL)
		return -400;
	sp2 = memchr(sp1 + 1, ' ', (size_t)(end - sp1 - 1));
	if (sp2 == NULL)
		return -400;
	h->method.p = line.p;
	h->method.n = (size_t)(sp1 - line.p);
	h->target.p = sp1 + 1;
	h->target.n = (size_t)(sp2 - sp1 - 1);
	version.p = sp2 + 1;
	version.n = (size_t)(end - sp2 - 1);
	if (!is_token(h->method) || h->target.n == 0)
		return -400;
	for (i = 0; i < h->target.n; i++)
		if (h->target.p[i] < 0x21 || h->target.p[i] > 0x7e)
			return -400;
	switch (head_version(h, version)) {
	case -1:
		return -400;
	case 0:
		return -505;
	}
	return 0;
}

/* Judges the beginning of a request whose first line is not whole yet. */
static int
request_begins(const char *p, const char *end)
{
	const char *s;

	for (s = p; s < end && is_tchar(*s); s++)
		;
	if (s < end && (s == p || *s != ' '))
		return -400;
	return end - p > HEAD_LINE_MAX + 1 ? -414 : 0;	/* its CR is there */
}

ssize_t
head_request(struct head *h, const void *bytes, size_t n)
{
	const char *start = bytes, *end = start + n, *p = start, *body;
	struct span line;
	int i, r;

	/* Empty lines before a request are passed over (RFC 9112, 2.2). */
	for (i = 0; i < 2 && end - p >= 2 && p[0] == '\r' && p[1] == '\n'; i++)
		p += 2;
	if (p == end || (end - p == 1 && *p == '\r' && i < 2))
		return 0;
	if ((r = request_begins(p, end)) == -400)
		return r;
	if (memchr(p, '\n', (size_t)(end - p)) == NULL)
		return r;
	start = p;
	if (head_line(&p, end, 1, &line) == -1)
		return -400;
	if (line.n > HEAD_LINE_MAX)
		return -414;
	if ((r = request_line(h, line)) != 0)
		return r;
	/* From the line's own LF: the empty line may follow at once. */
	body = head_end(p - 1, end);
	if ((body != NULL ? body : end) - start > HEAD_MAX)
		return -431;
	if (body == NULL)
		return 0;
	if ((r = head_fields(h, p, body, 1)) != 0)
		return r;
	return body - (const char *)bytes;
}

/* HTTP-version SP status-code [SP reason] (RFC 9112, 4), blanks as they come */
static int
status_line(struct head *h, struct span line)
{
	struct span version, rest;
	long status;

	version.p = line.p;
	version.n = line.n < 8 ? line.n : 8;
	if (head_version(h, version) != 1)
		return -1;
	if (line.n < 12 || !is_blank(line.p[8]) ||
	    memchr(line.p, '\0', line.n) != NULL)
		return -1;
	rest = span_trim(line.p + 8, line.p + line.n);
	if (rest.n < 3 || (status = text_number(rest.p, 3, 100, 999)) == -1)
		return -1;
	if (rest.n > 3 && !is_blank(rest.p[3]))
		return -1;
	h->status = (int)status;
	h->reason = span_trim(rest.p + 3, rest.p + rest.n);
	return 0;
}

ssize_t
head_reply(struct head *h, const void *bytes, size_t n)
{
	const char *p = bytes, *end = p + n, *body;
	struct span line;

	h->method.n = 0;
	/* Whoever does not begin like this is no HTTP/1 server. */
	if (strncmp(p, "HTTP/1.", n < 7 ? n : 7) != 0)
		return -1;
	body = head_end(p, end);
	if ((body != NULL ? body : end) - p > HEAD_MAX)
		return -1;
	if (body == NULL)
		return memchr(p, '\0', n) == NULL ? 0 : -1;
	(void)head_line(&p, body, 0, &line);
	if (status_line(h, line) == -1 || head_fields(h, p, body, 0) != 0)
		return -1;
	return body - (const char *)bytes;
}

const struct field *
head_field(const struct head *h, const char *name, const struct field *after)
{
	size_t i = after == NULL ? 0 : (size_t)(after - h->field) + 1;

	for (; i < h->nfields; i++)
		if (span_is(h->field[i].name, name))
			return &h->field[i];
	return NULL;
}

static int
spans_equal(struct span a, struct span b)
{
	return a.n == b.n && strncasecmp(a.p, b.p, a.n) == 0;
}

int
list_next(struct span *rest, struct span *item)
{
	const char *p = rest->p, *end = p + rest->n, *comma;

	if (rest->n == 0)
		return 0;
	comma = memchr(p, ',', rest->n);
	*item = span_trim(p, comma != NULL ? comma : end);
	rest->p = comma != NULL ? comma + 1 : end;
	rest->n = (size_t)(end - rest->p);
	return 1;
}

static int
head_lists_span(const struct head *h, const char *name, struct span token)
{
	const struct field *f = NULL;
	struct span rest, item;

	while ((f = head_field(h, name, f)) != NULL)
		for (rest = f->value; list_next(&rest, &item); )
			if (spans_equal(item, token))
				return 1;
	return 0;
}

int
head_lists(const struct head *h, const char *name, const char *token)
{
	return head_lists_span(h, name, span_of(token));
}

int
head_method(const struct head *h, const char *method)
{
	return h->method.n == strlen(method) &&
	    memcmp(h->method.p, method, h->method.n) == 0;
}

int
head_persists(const struct head *h)
{
	if (head_lists(h, "Connection", "close") ||
	    head_lists(h, "Proxy-Connection", "close"))
		return 0;
	/* Old proxies say it in Proxy-Connection only. */
	return h->minor >= 1 || head_lists(h, "Connection", "keep-alive") ||
	    head_lists(h, "Proxy-Connection", "keep-alive");
}

/* The value as a number of 1 to 18 digits.  -1: it is none. */
static int
field_number(const struct field *f, uint64_t *value)
{
	size_t i;

	if (f->value.n == 0 || f->value.n > 18)
		return -1;
	for (*value = 0, i = 0; i < f->value.n; i++) {
		if (!is_digit(f->value.p[i]))
			return -1;
		*value = *value * 10 + (uint64_t)(f->value.p[i] - '0');
	}
	return 1;
}

int
head_number(const struct head *h, const char *name, uint64_t *value)
{
	const struct field *f = head_field(h, name, NULL);

	if (f == NULL)
		return 0;
	return head_field(h, name, f) != NULL ? -1 : field_number(f, value);
}

/*
 * The value of Content-Length: one number, repeated at most in equal terms
 * where that is tolerated (a reply).  1 found, 0 none, -1 malformed.
 */
static int
head_length(const struct head *h, uint64_t *length)
{
	const struct field *f = NULL;
	uint64_t v;
	int found = 0;

	while ((f = head_field(h, "Content-Length", f)) != NULL) {
		if (field_number(f, &v) == -1)
			return -1;
		if (found && (h->method.n > 0 || v != *length))
			return -1;
		*length = v;
		found = 1;
	}
	return found;
}

enum framing
head_framing(const struct head *h, uint64_t *length)
{
	const struct field *te = head_field(h, "Transfer-Encoding", NULL);
	int request = h->method.n > 0, cl;

	*length = 0;
	/* 1: no content whatever the fields say */
	if (!request && (h->status < 200 || h->status == 204 ||
	    h->status == 304))
		return BODY_NONE;
	cl = head_length(h, length);
	if (te != NULL) {
		/* 3: both lengths, or a coding that is not ours, can smuggle */
		if (cl != 0 || h->minor == 0 ||
		    head_field(h, "Transfer-Encoding", te) != NULL)
			return BODY_BAD;
		if (span_is(te->value, "chunked"))
			return BODY_CHUNKED;
		/* 4: the field is gone behind us, so the coding must be too */
		return BODY_BAD;
	}
	if (cl == -1)			/* 5 */
		return BODY_BAD;
	if (cl == 1)			/* 6 */
		return *length > 0 ? BODY_LENGTH : BODY_NONE;
	return request ? BODY_NONE : BODY_CLOSE;	/* 7, 8 */
}

/* ---- chunked bodies (RFC 9112, 7.1) --------------------------------------- */

enum {
	CHUNK_SIZE, CHUNK_BLANK, CHUNK_EXT, CHUNK_SIZE_LF, CHUNK_DATA,
	CHUNK_CR, CHUNK_LF, CHUNK_TRAILER, CHUNK_TRAILER_LF,
	CHUNK_FIELD, CHUNK_FIELD_LF, CHUNK_DONE
};

static int
hex_value(int c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* A byte of the line that begins a chunk. */
static int
chunked_size(struct chunked *c, int byte)
{
	int v;

	if (c->state == CHUNK_SIZE && (v = hex_value(byte)) != -1) {
		/* More digits than these would not fit, or only pad. */
		if (++c->digits > 15)
			return -1;
		c->left = c->left * 16 + (uint64_t)v;
		return 0;
	}
	if (c->digits == 0)
		return -1;
	if (byte == '\r')
		c->state = CHUNK_SIZE_LF;
	else if (byte == ';' && c->state != CHUNK_EXT)
		c->state = CHUNK_EXT;
	else if (is_blank(byte) && c->state == CHUNK_SIZE)
		c->state = CHUNK_BLANK;		/* BWS */
	else if (is_blank(byte) && c->state == CHUNK_BLANK)
		return ++c->digits > HEAD_LINE_MAX ? -1 : 0;
	else if (c->state != CHUNK_EXT || (byte < 0x20 && byte != '\t') ||
	    byte == 0x7f || ++c->digits > HEAD_LINE_MAX)
		return -1;
	return 0;
}

/* A byte that is no data.  -1 when it may not stand there. */
static int
chunked_byte(struct chunked *c, int byte)
{
	switch (c->state) {
	case CHUNK_SIZE:
	case CHUNK_BLANK:
	case CHUNK_EXT:
		return chunked_size(c, byte);
	case CHUNK_SIZE_LF:
		c->state = c->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
		c->digits = 0;
		return byte == '\n' ? 0 : -1;
	case CHUNK_CR:
		c->state = CHUNK_LF;
		return byte == '\r' ? 0 : -1;
	case CHUNK_LF:
		c->state = CHUNK_SIZE;
		return byte == '\n' ? 0 : -1;
	case CHUNK_TRAILER:
		c->state = byte == '\r' ? CHUNK_TRAILER_LF : CHUNK_FIELD;
		return byte == '\r' || is_tchar(byte) ? 0 : -1;
	case CHUNK_TRAILER_LF:
		c->state = CHUNK_DONE;
		return byte == '\n' ? 0 : -1;
	case CHUNK_FIELD:
		/* Trailers are read over, all of them no longer than a head. */
		if (byte == '\r')
			c->state = CHUNK_FIELD_LF;
		else if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
			return -1;
		return ++c->digits > HEAD_MAX ? -1 : 0;
	default:
		c->state = CHUNK_TRAILER;
		return byte == '\n' ? 0 : -1;
	}
}

ssize_t
chunked_decode(struct chunked *c, unsigned char *p, size_t n, size_t *used)
{
	size_t in = 0, out = 0, k;

	while (in < n && c->state != CHUNK_DONE) {
		if (c->state != CHUNK_DATA) {
			if (chunked_byte(c, p[in++]) == -1)
				return -1;
			continue;
		}
		k = n - in < c->left ? n - in : (size_t)c->left;
		memmove(p + out, p + in, k);
		in += k;
		out += k;
		if ((c->left -= k) == 0)
			c->state = CHUNK_CR;
	}
	*used = in;
	return (ssize_t)out;
}

int
chunked_done(const struct chunked *c)
{
	return c->state == CHUNK_DONE;
}

/* ---- codecs ----------------------------------------------------------------- */

static ssize_t
message_decode(struct message *m, unsigned char *p, size_t n, size_t *used,
    int *over)
{
	ssize_t r;

	switch (m->in) {
	case BODY_LENGTH:
		if (n > m->left)
			*used = n = (size_t)m->left;
		m->left -= n;
		*over = m->left == 0;
		return (ssize_t)n;
	case BODY_CHUNKED:
		r = chunked_decode(&m->chunked, p, n, used);
		*over = chunked_done(&m->chunked);
		return r;
	case BODY_CLOSE:
		return (ssize_t)n;
	default:
		*used = 0;
		*over = 1;
		return 0;
	}
}

static unsigned char *
message_encode(const struct message *m, unsigned char *p, size_t *n)
{
	char size[20];
	int len;

	if (!m->chunks_out)
		return p;
	len = snprintf(size, sizeof(size), "%zx\r\n", *n);
	memcpy(p - len, size, (size_t)len);
	memcpy(p + *n, "\r\n", 2);
	*n += (size_t)len + 2;
	return p - len;
}

static size_t
message_last(const struct message *m, unsigned char *dst)
{
	static const unsigned char last[] = { '0', '\r', '\n', '\r', '\n' };

	if (!m->chunks_out)
		return 0;
	memcpy(dst, last, sizeof(last));
	return sizeof(last);
}

static int
message_open_ended(const struct message *m)
{
	return m->in == BODY_CLOSE;
}

static size_t
message_due(const struct message *m)
{
	return m->in == BODY_LENGTH && m->left < SIZE_MAX ? (size_t)m->left :
	    SIZE_MAX;
}

const struct codec message_codec = {
	message_decode, message_encode, message_last, message_open_ended,
	message_due
};

/* ---- poll carrier ------------------------------------------------------------ */

int
poll_id(struct span path, struct span *id)
{
	size_t i, n = path.n;
	int uuid;

	while (n > 0 && path.p[n - 1] != '/')
		n--;
	if (n == 0 || memchr(path.p, '?', path.n) != NULL)
		return 0;
	id->p = path.p + n;
	id->n = path.n - n;
	uuid = id->n == POLL_ID;
	if (!uuid && id->n != 32)
		return 0;
	for (i = 0; i < id->n; i++)
		if (uuid && (i == 8 || i == 13 || i == 18 || i == 23) ?
		    id->p[i] != '-' : hex_value(id->p[i]) == -1)
			return 0;
	return 1;
}

/*
 * A byte of urlencoded text.  Returns the one that it stands for, -1 when that
 * is not whole yet, -2 when it is malformed.
 */
static int
form_byte(int *state, unsigned char *high, int c)
{
	int v;

	if (*state == 0) {
		if (c != '%')
			return c == '+' ? ' ' : c;
		*state = 1;
		return -1;
	}
	if ((v = hex_value(c)) == -1)
		return -2;
	if (*state == 1) {
		*high = (unsigned char)(v << 4);
		*state = 2;
		return -1;
	}
	*state = 0;
	return *high | v;
}

/* The decoded value of a form's only parameter of that name. */
static int
form_value(const char *p, size_t n, const char *name, char *dst, size_t size)
{
	size_t len = strlen(name), k, i, out = 0;
	const char *amp;
	unsigned char high = 0;
	int state = 0, c, found = 0;

	for (; n > 0; p += k, n -= k) {
		amp = memchr(p, '&', n);
		k = amp != NULL ? (size_t)(amp - p) + 1 : n;
		if (k <= len || strncmp(p, name, len) != 0 || p[len] != '=')
			continue;
		if (found++)
			return -1;
		for (i = len + 1; i < k && p + i != amp; i++) {
			c = form_byte(&state, &high, (unsigned char)p[i]);
			if (c == -2 || c == 0 || out + 1 >= size)
				return -1;
			if (c != -1)
				dst[out++] = (char)c;
		}
	}
	dst[out] = '\0';
	return found && state == 0 ? 0 : -1;
}

const char *
poll_target(const char *p, size_t n, char *host, unsigned *port, int *form)
{
	char name[HOST_MAX + 3], number[8];
	size_t len;
	long v;

	*form = memchr(p, '=', n) != NULL;
	if (!*form)
		return authority_parse(p, n, host, port, 0);
	if (form_value(p, n, "host", name, sizeof(name)) == -1 ||
	    form_value(p, n, "port", number, sizeof(number)) == -1)
		return "no host and port";
	if ((v = text_number(number, strlen(number), 1, 65535)) == -1)
		return "bad port";
	*port = (unsigned)v;
	len = strlen(name);
	/* An IPv6 address may stand in brackets, or bare. */
	if (name[0] != '[' && strchr(name, ':') != NULL && len < HOST_MAX) {
		memmove(name + 1, name, len);
		name[0] = '[';
		name[++len] = ']';
		name[++len] = '\0';
	}
	return host_parse(name, len, host);
}

int
form_put(struct buf *b, const void *p, size_t n)
{
	static const char hex[] = "0123456789ABCDEF";
	const unsigned char *s = p;
	unsigned char out[3 * 256];
	size_t i, k;
	int bad = 0;

	while (n > 0 && !bad) {
		for (i = k = 0; i < n && i < 256; i++) {
			if (is_digit(s[i]) || (s[i] >= 'a' && s[i] <= 'z') ||
			    (s[i] >= 'A' && s[i] <= 'Z') ||
			    memchr("-._~", s[i], 4) != NULL)
				out[k++] = s[i];
			else if (s[i] == ' ')
				out[k++] = '+';
			else {
				out[k++] = '%';
				out[k++] = (unsigned char)hex[s[i] >> 4];
				out[k++] = (unsigned char)hex[s[i] & 15];
			}
		}
		bad = buf_put(b, out, k);
		s += i;
		n -= i;
	}
	return bad;
}

/* "data=" and its value, in place.  -1: it is something else. */
static ssize_t
piece_form(struct piece *m, unsigned char *p, size_t n)
{
	static const unsigned char name[] = { 'd', 'a', 't', 'a', '=' };
	size_t i, out = 0;
	int c;

	for (i = 0; i < n && !m->bad; i++) {
		/* form counts the name's bytes, from 1 */
		if (m->form <= 5) {
			m->bad = p[i] != name[m->form - 1];
			m->form++;
			continue;
		}
		c = form_byte(&m->state, &m->high, p[i]);
		m->bad = c == -2 || (p[i] == '&' && c == '&');
		if (c != -1 && !m->bad)
			p[out++] = (unsigned char)c;
	}
	return (ssize_t)out;
}

/* Of n bytes of the stream what it carries. */
static ssize_t
piece_inner(struct piece *m, unsigned char *p, size_t n, int *over)
{
	int ended = 0;
	ssize_t r = m->inner->codec->decode(m->inner, p, n, &n, &ended);

	m->inner_over = r == -1 ? -1 : ended;
	*over |= m->inner_over != 0;
	return r == -1 ? 0 : r;
}

static ssize_t
piece_decode(struct message *message, unsigned char *p, size_t n, size_t *used,
    int *over)
{
	struct piece *m = (struct piece *)message;	/* which stands first */
	ssize_t r = message_decode(message, p, n, used, over);
	size_t len, old = 0;

	if (r > 0 && m->form)
		r = piece_form(m, p, (size_t)r);
	if (*over && m->form && (m->form <= 5 || m->state != 0))
		m->bad = 1;
	if (r <= 0)
		return r;
	len = (size_t)r;
	if (*m->have > m->pos)
		old = *m->have - m->pos < len ? (size_t)(*m->have - m->pos) :
		    len;
	m->pos += len;
	if (m->pos > *m->have)
		*m->have = m->pos;
	len -= old;
	memmove(p, p + old, len);
	return m->inner == NULL || len == 0 ? (ssize_t)len :
	    piece_inner(m, p, len, over);
}

const struct codec piece_codec = {
	piece_decode, message_encode, message_last, message_open_ended,
	message_due
};

/* Appends text in which a folded line becomes blanks. */
static int
buf_text(struct buf *b, struct span s)
{
	size_t i, from;

	if (buf_put(b, s.p, s.n) == -1)
		return -1;
	from = b->off + b->len - s.n;
	for (i = 0; i < s.n; i++)
		if (b->p[from + i] < 0x20 && b->p[from + i] != '\t')
			b->p[from + i] = ' ';
	return 0;
}

/* What concerns one connection only, or is written anew. */
static int
field_stays(const struct head *h, const struct field *f)
{
	static const char *const names[] = {
		"Connection", "Host", "Keep-Alive", "Proxy-Authenticate",
		"Proxy-Authorization", "Proxy-Connection", "TE", "Trailer",
		"Transfer-Encoding", "Upgrade"
	};
	uint64_t length;
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (span_is(f->name, names[i]))
			return 1;
	/* HTTP/1.0 knows no 100 (RFC 9110, 10.1.1). */
	if (h->minor == 0 && span_is(f->name, "Expect"))
		return 1;
	/*
	 * The length is what the message was judged by: it is not theirs.  And
	 * where nothing can follow it may not stand (RFC 9110, 8.6).
	 */
	if (span_is(f->name, "Content-Length"))
		return (h->method.n == 0 && (h->status < 200 ||
		    h->status == 204)) ||
		    head_field(h, "Transfer-Encoding", NULL) != NULL ||
		    head_field(h, "Content-Length", NULL) != f ||
		    head_length(h, &length) != 1;
	return head_lists_span(h, "Connection", f->name);
}

int
head_pass(struct buf *b, const struct head *h)
{
	const struct field *f;
	uint64_t left = 0;
	int bad = 0;

	/* One more has passed it on (RFC 9110, 7.6.2). */
	if ((head_method(h, "TRACE") || head_method(h, "OPTIONS")) &&
	    head_number(h, "Max-Forwards", &left) != 1)
		left = 0;
	for (f = h->field; f < h->field + h->nfields; f++) {
		if (field_stays(h, f))
			continue;
		bad |= buf_put(b, f->name.p, f->name.n);
		bad |= buf_put(b, ": ", 2);
		if (span_is(f->name, "Max-Forwards") && left > 0)
			bad |= buf_fmt(b, "%llu",
			    (unsigned long long)left - 1);
		else
			bad |= buf_text(b, f->value);
		bad |= buf_put(b, "\r\n", 2);
	}
	return bad | buf_fmt(b, "Via: 1.%d httptun\r\n", h->minor);
}

int
head_pass_status(struct buf *b, const struct head *h)
{
	int bad;

	bad = buf_fmt(b, "HTTP/1.1 %d ", h->status);
	bad |= buf_text(b, h->reason);
	return bad | buf_put(b, "\r\n", 2);
}

/* ---- authorities and URLs (RFC 3986) --------------------------------------- */

/* Strict on purpose: a host may become an argument of a command. */
const char *
host_parse(const char *s, size_t n, char *host)
{
	struct in6_addr in6;
	size_t i;

	if (n >= 2 && s[0] == '[' && s[n - 1] == ']') {
		if (n - 2 > HOST_MAX || memchr(s, '\0', n) != NULL)
			return "bad IPv6 address";
		memcpy(host, s + 1, n - 2);
		host[n - 2] = '\0';
		return inet_pton(AF_INET6, host, &in6) == 1 ? NULL :
		    "bad IPv6 address";
	}
	if (n == 0)
		return "no host";
	if (n > HOST_MAX)
		return "host too long";
	for (i = 0; i < n; i++)
		if (!is_digit(s[i]) && !(s[i] >= 'a' && s[i] <= 'z') &&
		    !(s[i] >= 'A' && s[i] <= 'Z') && s[i] != '.' &&
		    s[i] != '_' && (s[i] != '-' || i == 0))
			return "bad host";
	memcpy(host, s, n);
	host[n] = '\0';
	return NULL;
}

const char *
authority_parse(const char *s, size_t n, char *host, unsigned *port,
    unsigned dflt)
{
	size_t h = n, i;
	long v;

	for (i = n; i > 0 && s[i - 1] != ']'; i--)
		if (s[i - 1] == ':') {
			h = i - 1;
			break;
		}
	if (h == n && dflt == 0)
		return "no port";
	if (h < n) {
		v = n - h - 1 > 5 ? -1 :
		    text_number(s + h + 1, n - h - 1, 1, 65535);
		if (v == -1)
			return "bad port";
		*port = (unsigned)v;
	} else
		*port = dflt;
	return host_parse(s, h, host);
}

char *
authority_format(char *dst, const char *host, unsigned port)
{
	int six = strchr(host, ':') != NULL;

	snprintf(dst, HOST_MAX + 9, "%s%s%s:%u", six ? "[" : "", host,
	    six ? "]" : "", port);
	return dst;
}

void
url_split(struct url *u, const char *s)
{
	const char *p = s + skip_token(s, strlen(s)), *end, *at, *colon;

	memset(u, 0, sizeof(*u));
	if (strncmp(p, "://", 3) == 0) {
		u->scheme.p = s;
		u->scheme.n = (size_t)(p - s);
		s = p + 3;
	}
	/* A password may hold anything: the last @ ends the userinfo. */
	at = strrchr(s, '@');
	if (at != NULL) {
		u->user.p = s;
		u->user.n = (size_t)(at - s);
		colon = memchr(s, ':', u->user.n);
		if (colon != NULL) {
			u->user.n = (size_t)(colon - s);
			u->pass.p = colon + 1;
			u->pass.n = (size_t)(at - colon - 1);
		}
		s = at + 1;
	}
	end = s + strcspn(s, "/?#");
	u->host_port.p = s;
	u->host_port.n = (size_t)(end - s);
	u->path = span_of(end);
}

int
target_absolute(struct span t)
{
	size_t i = skip_token(t.p, t.n);

	return i > 0 && t.n - i >= 3 && memcmp(t.p + i, "://", 3) == 0;
}

const char *
target_split(struct span t, struct span *authority, struct span *path)
{
	const char *p = t.p + 7, *end = t.p + t.n;

	if (t.n < 7 || strncasecmp(t.p, "http://", 7) != 0)
		return "not an http:// URL";
	authority->p = p;
	while (p < end && *p != '/' && *p != '?' && *p != '#')
		p++;
	authority->n = (size_t)(p - authority->p);
	path->p = p;
	path->n = (size_t)(end - p);
	if (memchr(authority->p, '@', authority->n) != NULL)
		return "userinfo in the URL";
	/* An empty port is none (RFC 3986, 3.2.3). */
	if (authority->n > 1 && p[-1] == ':')
		authority->n--;
	if (memchr(p, '#', path->n) != NULL)
		return "a fragment in the URL";
	return NULL;
}

ssize_t
percent_decode(char *dst, size_t size, struct span s)
{
	size_t len = 0, i;
	int c, hi, lo;

	for (i = 0; i < s.n; i++) {
		c = (unsigned char)s.p[i];
		if (c == '%') {
			if (s.n - i < 3 || (hi = hex_value(s.p[i + 1])) == -1 ||
			    (lo = hex_value(s.p[i + 2])) == -1)
				return -1;
			c = hi * 16 + lo;
			i += 2;
		}
		if (c < 0x20 || c == 0x7f || len + 1 >= size)
			return -1;
		dst[len++] = (char)c;
	}
	dst[len] = '\0';
	return (ssize_t)len;
}

/* ---- hashes ------------------------------------------------------------------- */

/*
 * FIPS 180-4's hashes (and MD5, RFC 1321) pad in one way and differ in the
 * block function and in the order of the bytes.
 */
#define HASH_BLOCK	64
#define SHA1_LEN	20

static uint32_t
rol(uint32_t v, unsigned n)
{
	return v << n | v >> (32 - n);
}

static uint32_t
get32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	    (uint32_t)p[2] << 8 | p[3];
}

static void
put32(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

static uint32_t
get32le(const unsigned char *p)
{
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 |
	    (uint32_t)p[1] << 8 | p[0];
}

static void
put32le(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)v;
	p[1] = (unsigned char)(v >> 8);
	p[2] = (unsigned char)(v >> 16);
	p[3] = (unsigned char)(v >> 24);
}

static void
sha1_block(uint32_t *h, const unsigned char *p)
{
	static const uint32_t k[] = {
		0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6
	};
	uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f;
	int t;

	for (t = 0; t < 16; t++)
		w[t] = get32(p + 4 * (size_t)t);
	for (; t < 80; t++)
		w[t] = rol(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
	for (t = 0; t < 80; t++) {
		f = t < 20 ? (b & c) | (~b & d) :
		    t >= 40 && t < 60 ? (b & c) | (b & d) | (c & d) :
		    b ^ c ^ d;
		f += rol(a, 5) + e + k[t / 20] + w[t];
		e = d;
		d = c;
		c = rol(b, 30);
		b = a;
		a = f;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

static void
sha256_block(uint32_t *h, const unsigned char *p)
{
	static const uint32_t k[] = {
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b,
		0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
		0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7,
		0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
		0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152,
		0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
		0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
		0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
		0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
		0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
		0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
		0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
	};
	uint32_t w[64], v[8], a, b;
	size_t t;

	for (t = 0; t < 16; t++)
		w[t] = get32(p + 4 * t);
	for (; t < 64; t++) {
		a = w[t - 15];
		b = w[t - 2];
		w[t] = w[t - 16] + w[t - 7] +
		    (rol(a, 25) ^ rol(a, 14) ^ a >> 3) +
		    (rol(b, 15) ^ rol(b, 13) ^ b >> 10);
	}
	memcpy(v, h, sizeof(v));
	for (t = 0; t < 64; t++) {
		a = v[7] + (rol(v[4], 26) ^ rol(v[4], 21) ^ rol(v[4], 7)) +
		    ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[t] + w[t];
		b = (rol(v[0], 30) ^ rol(v[0], 19) ^ rol(v[0], 10)) +
		    ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof(*v));
		v[4] += a;
		v[0] = a + b;
	}
	for (t = 0; t < 8; t++)
		h[t] += v[t];
}

/* RFC 1321, 3.4; its numbers have their lowest byte first. */
static void
md5_block(uint32_t *h, const unsigned char *p)
{
	static const uint32_t k[] = {
		0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf,
		0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af,
		0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e,
		0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa,
		0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6,
		0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8,
		0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122,
		0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
		0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039,
		0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97,
		0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d,
		0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1,
		0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391
	};
	static const unsigned char turn[] = {
		7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21
	}, step[] = { 1, 5, 3, 7 }, from[] = { 0, 1, 5, 0 };
	uint32_t a = h[0], b = h[1], c = h[2], d = h[3], f;
	unsigned t, r, g;

	for (t = 0; t < 64; t++) {
		r = t / 16;
		f = r == 0 ? (b & c) | (~b & d) : r == 1 ? (d & b) | (~d & c) :
		    r == 2 ? b ^ c ^ d : c ^ (b | ~d);
		g = (step[r] * t + from[r]) % 16;
		f += a + k[t] + get32le(p + 4 * (size_t)g);
		a = d;
		d = c;
		c = b;
		b += rol(f, turn[4 * r + t % 4]);
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
}

/* All blocks of n bytes, padded; the length stands at the end. */
static void
hash_blocks(void (*block)(uint32_t *, const unsigned char *), uint32_t *h,
    const unsigned char *s, size_t n, void (*put)(unsigned char *, uint32_t))
{
	unsigned char tail[2 * HASH_BLOCK];
	size_t left, end, i;
	int high = put == put32 ? 8 : 4;

	for (left = n; left >= HASH_BLOCK; left -= HASH_BLOCK, s += HASH_BLOCK)
		block(h, s);
	end = left < HASH_BLOCK - 8 ? HASH_BLOCK : 2 * HASH_BLOCK;
	memset(tail, 0, sizeof(tail));
	if (left > 0)
		memcpy(tail, s, left);
	tail[left] = 0x80;
	put(tail + end - high, (uint32_t)((uint64_t)n >> 29));
	put(tail + end - 12 + high, (uint32_t)((uint64_t)n << 3));
	for (i = 0; i < end; i += HASH_BLOCK)
		block(h, tail + i);
	secret_wipe(tail, sizeof(tail));	/* of a Digest's password */
}

static void
sha1(unsigned char *dst, const void *p, size_t n)
{
	uint32_t h[] = {
		0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0
	};
	size_t i;

	hash_blocks(sha1_block, h, p, n, put32);
	for (i = 0; i < SHA1_LEN / 4; i++)
		put32(dst + 4 * i, h[i]);
}

void
sha256(unsigned char *dst, const void *p, size_t n)
{
	uint32_t h[] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
		0x9b05688c, 0x1f83d9ab, 0x5be0cd19
	};
	size_t i;

	hash_blocks(sha256_block, h, p, n, put32);
	for (i = 0; i < SHA256_LEN / 4; i++)
		put32(dst + 4 * i, h[i]);
}

void
md5(unsigned char *dst, const void *p, size_t n)
{
	uint32_t h[] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476 };
	size_t i;

	hash_blocks(md5_block, h, p, n, put32le);
	for (i = 0; i < MD5_LEN / 4; i++)
		put32le(dst + 4 * i, h[i]);
}

/* ---- credentials (RFC 9110, 11; RFC 7617) ----------------------------------- */

static const char base64_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t
base64_encode(char *dst, const void *src, size_t n)
{
	const unsigned char *s = src;
	char *d = dst;
	unsigned v;
	size_t i;

	for (i = 0; i < n; i += 3) {
		v = (unsigned)s[i] << 16;
		if (i + 1 < n)
			v |= (unsigned)s[i + 1] << 8;
		if (i + 2 < n)
			v |= s[i + 2];
		*d++ = base64_alphabet[v >> 18];
		*d++ = base64_alphabet[v >> 12 & 63];
		*d++ = i + 1 < n ? base64_alphabet[v >> 6 & 63] : '=';
		*d++ = i + 2 < n ? base64_alphabet[v & 63] : '=';
	}
	*d = '\0';
	return (size_t)(d - dst);
}

ssize_t
base64_decode(unsigned char *dst, const char *s, size_t n)
{
	unsigned char *d = dst;
	const char *at;
	unsigned v = 0;
	size_t i, pad;

	if (n % 4 != 0)
		return -1;
	for (pad = 0; pad < 2 && pad < n && s[n - 1 - pad] == '='; pad++)
		;
	for (i = 0; i < n - pad; i++) {
		at = s[i] != '\0' ? strchr(base64_alphabet, s[i]) : NULL;
		if (at == NULL)
			return -1;
		v = v << 6 | (unsigned)(at - base64_alphabet);
		if (i % 4 == 3) {
			*d++ = (unsigned char)(v >> 16);
			*d++ = (unsigned char)(v >> 8);
			*d++ = (unsigned char)v;
		}
	}
	/* The bits that the padding leaves over must be zero (RFC 4648, 3.5). */
	if (pad == 1) {
		*d++ = (unsigned char)(v >> 10);
		*d++ = (unsigned char)(v >> 2);
		return (v & 3) == 0 ? d - dst : -1;
	}
	if (pad == 2) {
		*d++ = (unsigned char)(v >> 4);
		return (v & 15) == 0 ? d - dst : -1;
	}
	return d - dst;
}

static size_t
skip_list(const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n && (is_space(p[i]) || p[i] == ','); i++)
		;
	return i;
}

/* A token68 without its padding: a token in which slashes may stand. */
static size_t
skip_token68(const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n && (is_tchar(p[i]) || p[i] == '/'); i++)
		;
	return i;
}

/* The length of name=value at p, or of a padded token68; 0 for neither. */
static size_t
auth_param_length(const char *p, size_t n)
{
	size_t i = skip_token68(p, n), k;

	for (k = i; k < n && is_blank(p[k]); k++)
		;
	if (i == 0 || k == n || p[k] != '=')
		return 0;
	for (k++; k < n && (is_blank(p[k]) || p[k] == '='); k++)
		;
	if (k < n && p[k] == '"') {
		for (k++; k < n && p[k] != '"'; k++)
			if (p[k] == '\\' && k + 1 < n)
				k++;
		return k < n ? k + 1 : n;
	}
	return k + skip_token(p + k, n - k);
}

int
auth_challenge(struct span *rest, struct challenge *c)
{
	const char *p = rest->p;
	size_t n = rest->n, i, k, from;

	i = skip_list(p, n);
	c->scheme.p = p + i;
	c->scheme.n = skip_token(p + i, n - i);
	if (c->scheme.n == 0)
		return 0;
	i += c->scheme.n;
	c->params.p = p + i;
	/*
	 * Parameters and challenges are both parted by commas; what has no
	 * "=" begins the next challenge, or is the token68 of this one when
	 * only blanks part the two.
	 */
	for (;;) {
		from = i;
		i += skip_list(p + i, n - i);
		k = auth_param_length(p + i, n - i);
		if (k == 0 && from == (size_t)(c->params.p - p) && i > from &&
		    memchr(p + from, ',', i - from) == NULL)
			k = skip_token68(p + i, n - i);
		if (k == 0) {
			i = from;
			break;
		}
		i += k;
	}
	c->params.n = (size_t)(p + i - c->params.p);
	rest->p = p + i;
	rest->n = n - i;
	return 1;
}

int
auth_basic(struct buf *b, const char *user, const char *pass)
{
	char plain[2 * CRED_MAX + 2], coded[4 * sizeof(plain) / 3 + 8];
	size_t at = strlen(user) + 1, n = at + strlen(pass);
	int r;

	if (n >= sizeof(plain)) {
		errno = ENOMEM;
		return -1;
	}
	/* Not by printf(3), which may leave copies on the stack. */
	memcpy(plain, user, at - 1);
	plain[at - 1] = ':';
	memcpy(plain + at, pass, n - at);
	base64_encode(coded, plain, n);
	r = buf_put(b, "Basic ", 6);
	r |= buf_put(b, coded, strlen(coded));
	secret_wipe(plain, sizeof(plain));
	secret_wipe(coded, sizeof(coded));
	return r;
}

ssize_t
auth_basic_decode(struct span v, char *userpass)
{
	ssize_t n;

	if (v.n < 6 || strncasecmp(v.p, "Basic", 5) != 0 || v.p[5] != ' ')
		return -1;
	v = span_trim(v.p + 5, v.p + v.n);
	for (n = 0; n < 2 && (size_t)n < v.n && v.p[v.n - 1 - (size_t)n] == '=';
	    n++)
		;
	if (v.n == 0 || v.n / 4 * 3 - (size_t)n > CRED_MAX)
		return -1;
	n = base64_decode((unsigned char *)userpass, v.p, v.n);
	if (n == -1 || memchr(userpass, ':', (size_t)n) == NULL ||
	    memchr(userpass, '\0', (size_t)n) != NULL)
		return -1;
	userpass[n] = '\0';
	return n;
}

/* ---- Digest (RFC 7616) -------------------------------------------------------- */

/*
 * A value, quoted or not, to dst; *p goes behind it.  A folded line becomes
 * blanks (RFC 9112, 5.2): we may have to say the value in a line of ours.
 * -1: malformed.
 */
static int
digest_value(const char **p, const char *end, char **dst, const char *limit,
    struct span *value)
{
	const char *s = *p;
	int quoted = s < end && *s == '"';

	value->p = *dst;
	for (s += quoted; s < end && (quoted ? *s != '"' : is_tchar(*s)); s++) {
		if (quoted && *s == '\\' && ++s == end)
			return -1;
		if (*dst == limit)
			return -1;
		*(*dst)++ = (unsigned char)*s < 0x20 && *s != '\t' ?
		    ' ' : *s;
	}
	if (quoted && s++ == end)
		return -1;
	value->n = (size_t)(*dst - value->p);
	*p = s;
	return 0;
}

static struct span *
digest_slot(struct digest *d, struct span name)
{
	static const char *const names[] = {
		"username", "realm", "nonce", "uri", "response", "algorithm",
		"qop", "nc", "cnonce", "opaque", "stale"
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (span_is(name, names[i]))
			return &d->value[i];
	return NULL;
}

int
auth_digest_parse(struct span params, struct digest *d)
{
	const char *p = params.p, *end = p + params.n;
	/* cppcheck-suppress ctuuninitvar */
	char *dst = d->text;
	struct span name, other, *slot;

	memset(d, 0, offsetof(struct digest, text));
	for (;;) {
		p += skip_list(p, (size_t)(end - p));
		if (p == end)
			break;
		name.p = p;
		name.n = skip_token(p, (size_t)(end - p));
		p += name.n;
		while (p < end && is_blank(*p))
			p++;
		if (name.n == 0 || p == end || *p++ != '=')
			return -1;
		while (p < end && is_blank(*p))
			p++;
		slot = digest_slot(d, name);
		if (slot != NULL && slot->p != NULL)
			return -1;
		if (digest_value(&p, end, &dst, d->text + sizeof(d->text),
		    slot != NULL ? slot : &other) == -1)
			return -1;
	}
	other = d->value[DIGEST_ALGORITHM];
	d->algorithm = other.p == NULL || span_is(other, "MD5") ? DIGEST_MD5 :
	    span_is(other, "SHA-256") ? DIGEST_SHA256 : DIGEST_NONE;
	return 0;
}

static void
digest_hash(char *hex, enum digest_algorithm algorithm, struct buf *b)
{
	unsigned char raw[SHA256_LEN] = { 0 };

	(algorithm == DIGEST_MD5 ? md5 : sha256)(raw, b->p + b->off, b->len);
	text_hex(hex, raw, algorithm == DIGEST_MD5 ? MD5_LEN : SHA256_LEN);
	secret_wipe(b->p, b->cap);
	buf_free(b);
}

static int
digest_put(struct buf *b, struct span s)
{
	return buf_fmt(b, "%.*s:", (int)s.n, s.n > 0 ? s.p : "");
}

int
auth_digest_response(char *hex, const struct digest *d, const char *user,
    const char *pass, struct span method)
{
	struct buf b = { NULL, 0, 0, 0 };
	char a1[DIGEST_HEX], a2[DIGEST_HEX];
	const struct span *v = d->value;
	int bad;

	bad = buf_fmt(&b, "%s:", user);
	bad |= digest_put(&b, v[DIGEST_REALM]);
	bad |= buf_put(&b, pass, strlen(pass));
	if (bad)
		goto fail;
	digest_hash(a1, d->algorithm, &b);
	bad = digest_put(&b, method);
	bad |= buf_put(&b, v[DIGEST_URI].p, v[DIGEST_URI].n);
	if (bad)
		goto fail;
	digest_hash(a2, d->algorithm, &b);
	bad = buf_fmt(&b, "%s:", a1);
	bad |= digest_put(&b, v[DIGEST_NONCE]);
	if (v[DIGEST_QOP].n > 0) {
		bad |= digest_put(&b, v[DIGEST_NC]);
		bad |= digest_put(&b, v[DIGEST_CNONCE]);
		bad |= digest_put(&b, v[DIGEST_QOP]);
	}
	bad |= buf_fmt(&b, "%s", a2);
	secret_wipe(a1, sizeof(a1));
	if (bad)
		goto fail;
	digest_hash(hex, d->algorithm, &b);
	return 0;
fail:
	buf_free(&b);
	return -1;
}

static int
digest_quote(struct buf *b, const char *name, struct span s)
{
	int bad = buf_fmt(b, ", %s=\"", name);
	size_t i;

	for (i = 0; i < s.n; i++) {
		if (s.p[i] == '"' || s.p[i] == '\\')
			bad |= buf_put(b, "\\", 1);
		bad |= buf_put(b, s.p + i, 1);
	}
	return bad | buf_put(b, "\"", 1);
}

int
auth_digest(struct buf *b, const struct digest *challenge, const char *user,
    const char *pass, const char *method, struct span uri, unsigned nc,
    const char *cnonce)
{
	struct digest d = *challenge;
	struct span *v = d.value;
	char hex[DIGEST_HEX], count[9];
	int bad, qop = v[DIGEST_QOP].n > 0;

	snprintf(count, sizeof(count), "%08x", nc);
	v[DIGEST_URI] = uri;
	v[DIGEST_NC] = span_of(count);
	v[DIGEST_CNONCE] = span_of(cnonce);
	if (qop)
		v[DIGEST_QOP] = span_of("auth");
	if (auth_digest_response(hex, &d, user, pass, span_of(method)) == -1)
		return -1;
	bad = buf_fmt(b, "Digest algorithm=%s", d.algorithm == DIGEST_MD5 ?
	    "MD5" : "SHA-256");
	bad |= digest_quote(b, "username", span_of(user));
	bad |= digest_quote(b, "realm", v[DIGEST_REALM]);
	bad |= digest_quote(b, "nonce", v[DIGEST_NONCE]);
	bad |= digest_quote(b, "uri", uri);
	if (qop) {
		bad |= buf_fmt(b, ", qop=auth, nc=%s", count);
		bad |= digest_quote(b, "cnonce", v[DIGEST_CNONCE]);
	}
	if (v[DIGEST_OPAQUE].p != NULL)
		bad |= digest_quote(b, "opaque", v[DIGEST_OPAQUE]);
	return bad | buf_fmt(b, ", response=\"%s\"", hex);
}

int
auth_digest_spoken(const struct digest *d)
{
	struct span rest = d->value[DIGEST_QOP], item;

	if (d->algorithm == DIGEST_NONE || d->value[DIGEST_NONCE].p == NULL ||
	    d->value[DIGEST_REALM].p == NULL)
		return 0;
	if (rest.p == NULL)
		return 1;		/* RFC 2069 knew no qop */
	while (list_next(&rest, &item))
		if (span_is(item, "auth"))
			return 1;
	return 0;
}

/* ---- WebSocket (RFC 6455) --------------------------------------------------- */

void
ws_accept(char *dst, const char *key, size_t n)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	unsigned char text[WS_KEY + sizeof(guid)], hash[SHA1_LEN];

	memcpy(text, key, n);
	memcpy(text + n, guid, sizeof(guid) - 1);
	sha1(hash, text, n + sizeof(guid) - 1);
	base64_encode(dst, hash, sizeof(hash));
}

int
ws_clean(const struct ws *w)
{
	return w->nhead == 0 && w->message == 0 && !w->ended && !w->closed &&
	    !w->ponging;
}

/* n bytes, of which the first is the mask's phase-th (5.3). */
static void
ws_mask(unsigned char *p, size_t n, const unsigned char *key, unsigned phase)
{
	unsigned char k[8];
	uint64_t mask, v;
	size_t i;

	for (i = 0; i < sizeof(k); i++)
		k[i] = key[(phase + i) & 3];
	memcpy(&mask, k, sizeof(mask));
	for (; n >= sizeof(v); n -= sizeof(v), p += sizeof(v)) {
		memcpy(&v, p, sizeof(v));
		v ^= mask;
		memcpy(p, &v, sizeof(v));
	}
	for (i = 0; i < n; i++)
		p[i] ^= k[i];
}

unsigned char *
ws_encode(const struct ws *w, int opcode, const unsigned char *key,
    unsigned char *p, size_t *n)
{
	size_t len = *n, head = len < 126 ? 2 : len < 65536 ? 4 : 10, i;
	size_t all = head + (w->client ? 4 : 0);
	unsigned char *frame = p - all;

	frame[0] = (unsigned char)(0x80 | opcode);
	frame[1] = (unsigned char)(head == 2 ? len : head == 4 ? 126 : 127);
	for (i = head - 1; i > 1; i--, len >>= 8)
		frame[i] = (unsigned char)len;
	if (w->client) {
		frame[1] |= 0x80;
		memcpy(frame + head, key, 4);
		ws_mask(p, *n, key, 0);
	}
	*n += all;
	return frame;
}

static int
ws_fail(struct ws *w, unsigned code)
{
	w->code = code;
	return -1;
}

/*
 * A byte of a text (RFC 3629): utf8 is how many more bytes the character has,
 * utf8_min the least value of the next one where that is not 0x80, for what
 * is too long a form, or with the high bit off the greatest: surrogates and
 * what is beyond U+10FFFF.
 */
static int
utf8_byte(struct ws *w, unsigned c)
{
	if (w->utf8 > 0) {
		unsigned lo = 0x80, hi = 0xbf;

		if (w->utf8_min & 0x80)
			lo = w->utf8_min;
		else if (w->utf8_min != 0)
			hi = w->utf8_min | 0x80U;
		w->utf8_min = 0;
		w->utf8--;
		return c >= lo && c <= hi ? 0 : -1;
	}
	if (c < 0x80)
		return 0;
	if (c < 0xc2 || c > 0xf4)
		return -1;
	w->utf8 = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
	w->utf8_min = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 :
	    c == 0xed ? 0x1f : c == 0xf4 ? 0x0f : 0;
	return 0;
}

/* How long the head is, as far as its second byte tells (5.2). */
static unsigned
ws_head_len(const unsigned char *h)
{
	unsigned len = h[1] & 0x7f;

	return 2U + (len == 126 ? 2 : len == 127 ? 8 : 0) +
	    (h[1] & 0x80 ? 4 : 0);
}

/* The first two bytes alone tell most of what may not be. */
static int
ws_head_begin(struct ws *w)
{
	const unsigned char *h = w->head;
	unsigned len = h[1] & 0x7f;

	w->fin = (h[0] & 0x80) != 0;
	w->opcode = h[0] & 0x0f;
	w->masked = (h[1] & 0x80) != 0;
	if (h[0] & 0x70 || w->masked == w->client)
		return ws_fail(w, WS_PROTOCOL);
	if (w->opcode >= WS_CLOSE)
		return w->opcode <= WS_PONG && w->fin &&
		    len <= WS_CONTROL_MAX ? 0 : ws_fail(w, WS_PROTOCOL);
	if (w->opcode > WS_BINARY ||
	    (w->opcode == WS_CONTINUATION) != (w->message != 0) ||
	    (w->ended && w->opcode != WS_CONTINUATION))
		return ws_fail(w, WS_PROTOCOL);
	return 0;
}

/* The whole head is there. */
static int
ws_head_end(struct ws *w)
{
	const unsigned char *h = w->head;
	unsigned len = h[1] & 0x7f, i, n = len == 127 ? 8 : 2;

	w->left = len;
	if (len >= 126) {
		for (w->left = 0, i = 0; i < n; i++)
			w->left = w->left << 8 | h[2 + i];
		/* The shortest form only, and 63 bits. */
		if (w->left < (n == 2 ? 126 : 65536) || w->left >> 63)
			return ws_fail(w, WS_PROTOCOL);
	}
	if (w->left > WS_FRAME_MAX)
		return ws_fail(w, WS_TOO_BIG);
	if (w->masked)
		memcpy(w->mask, h + w->nhead - 4, 4);
	w->phase = 0;
	if (w->opcode >= WS_CLOSE) {
		w->ncontrol = 0;
		/* Only the last Ping has to be answered (5.5.3). */
		if (w->opcode == WS_PING) {
			w->ponging = 0;
			buf_free(&w->pong);
		}
	} else if (w->opcode != WS_CONTINUATION) {
		w->message = w->opcode;
		w->nend = w->utf8 = w->utf8_min = 0;
	}
	return 0;
}

/* A byte of a frame's head.  1: it is complete. */
static int
ws_head_byte(struct ws *w, unsigned char c)
{
	w->head[w->nhead++] = c;
	if (w->nhead < 2)
		return 0;
	if (w->nhead == 2 && ws_head_begin(w) == -1)
		return -1;
	if (w->nhead < ws_head_len(w->head))
		return 0;
	return ws_head_end(w) == -1 ? -1 : 1;
}

/* Codes that may come in a Close (7.4; 1012 to 1014 are registered). */
static int
ws_code_valid(unsigned code)
{
	return (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
	    (code >= 3000 && code <= 4999);
}

static int
ws_close_came(struct ws *w)
{
	if (w->ncontrol == 1)
		return ws_fail(w, WS_PROTOCOL);
	if (w->ncontrol == 0)
		w->code = WS_NO_CODE;
	else if (w->utf8 > 0)
		return ws_fail(w, WS_NOT_UTF8);
	w->closed = 1;
	return 0;
}

/* A byte of a Close: of its code, then of a text. */
static int
ws_close_byte(struct ws *w, unsigned char c)
{
	if (w->ncontrol++ >= 2)
		return utf8_byte(w, c) == -1 ? ws_fail(w, WS_NOT_UTF8) : 0;
	w->code = w->ncontrol == 1 ? c : w->code << 8 | c;
	w->utf8 = w->utf8_min = 0;
	return w->ncontrol == 1 || ws_code_valid(w->code) ? 0 :
	    ws_fail(w, WS_PROTOCOL);
}

/* What a control frame says. */
static int
ws_control_came(struct ws *w, const unsigned char *p, size_t n)
{
	if (w->opcode == WS_PING && buf_put(&w->pong, p, n) == -1)
		return ws_fail(w, WS_BROKEN);
	while (w->opcode == WS_CLOSE && n-- > 0)
		if (ws_close_byte(w, *p++) == -1)
			return -1;
	return 0;
}

/* A frame is complete. */
static int
ws_frame_came(struct ws *w)
{
	w->nhead = 0;
	switch (w->opcode) {
	case WS_CLOSE:
		return ws_close_came(w);
	case WS_PING:
		w->ponging = 1;
		return 0;
	case WS_PONG:
		return 0;
	default:
		break;
	}
	if (!w->fin)
		return 0;
	if (w->message == WS_TEXT) {
		if (w->utf8 > 0)
			return ws_fail(w, WS_NOT_UTF8);
		if (w->ends && w->nend != 3)
			return ws_fail(w, WS_PROTOCOL);
		w->ended = w->ends;
	}
	w->message = 0;
	return 0;
}

/* Payload that is no data.  Returns how much of it is: none, or -1. */
static ssize_t
ws_words(struct ws *w, const unsigned char *p, size_t n)
{
	static const unsigned char end[] = { 'e', 'n', 'd' };
	size_t i;

	if (w->opcode >= WS_CLOSE)
		return ws_control_came(w, p, n);
	if (w->message == WS_BINARY)
		return (ssize_t)n;
	for (i = 0; i < n; i++) {
		if (utf8_byte(w, p[i]) == -1)
			return ws_fail(w, WS_NOT_UTF8);
		if (w->ends && (w->nend > 2 || p[i] != end[w->nend++]))
			return ws_fail(w, WS_PROTOCOL);
	}
	return w->ends ? 0 : (ssize_t)n;
}

ssize_t
ws_decode(struct ws *w, unsigned char *p, size_t n)
{
	size_t in = 0, out = 0, k;
	ssize_t data;
	int r;

	while (in < n && !w->closed) {
		/* left is 0 until the head is complete */
		if (w->left == 0) {
			if ((r = ws_head_byte(w, p[in++])) == -1)
				return -1;
			if (r == 1 && w->left == 0 && ws_frame_came(w) == -1)
				return -1;
			continue;
		}
		k = n - in < w->left ? n - in : (size_t)w->left;
		if (w->masked)
			ws_mask(p + in, k, w->mask, w->phase);
		w->phase = (unsigned char)((w->phase + k) & 3);
		if ((data = ws_words(w, p + in, k)) == -1)
			return -1;
		if (data > 0 && in > out)
			memmove(p + out, p + in, k);
		out += (size_t)data;
		in += k;
		if ((w->left -= k) == 0 && ws_frame_came(w) == -1)
			return -1;
	}
	return (ssize_t)out;
}

/* ---- commands -------------------------------------------------------------- */

/* Whether a shell takes it for one word, and no program for an option. */
static int
shell_safe(const char *host)
{
	return *host != '-' && host[strspn(host, ".:_%-0123456789"
	    "abcdefghijklmnopqrstuvwxyz" "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] ==
	    '\0';
}

int
command_expand(struct buf *b, const char *text, const char *host,
    unsigned port, const char *path)
{
	const char *p;
	int bad = 0;

	if (!shell_safe(host)) {
		errno = EINVAL;
		return -1;
	}
	for (; (p = strchr(text, '%')) != NULL; text = p) {
		bad |= buf_put(b, text, (size_t)(p - text));
		p += 2;
		switch (p[-1]) {
		case 'h':
			bad |= buf_put(b, host, strlen(host));
			break;
		case 'p':
			bad |= buf_fmt(b, "%u", port);
			break;
		case 's':
			bad |= buf_put(b, path, strlen(path));
			break;
		case '%':
			bad |= buf_put(b, "%", 1);
			break;
		default:		/* it means something to the command */
			p--;
			bad |= buf_put(b, "%", 1);
		}
	}
	return bad | buf_put(b, text, strlen(text));
}

/* One of openssl's errors has its reason behind the fifth colon. */
static struct span
tls_error(struct span line)
{
	size_t i;
	int colons = 0;

	for (i = 0; i < line.n && colons < 5; i++)
		colons += line.p[i] == ':';
	if (colons == 5 && i < line.n) {
		line.p += i;
		line.n -= i;
		for (i = 0; i < line.n && line.p[i] != ':'; )
			i++;
		line.n = i;
	}
	return line;
}

static int
line_begins(struct span line, const char *what)
{
	return span_find(line, what) == line.p;
}

void
tls_reason(char *dst, size_t size, const char *text, size_t n)
{
	const char *end = text + n, *p;
	struct span line, last = { NULL, 0 }, error = { NULL, 0 };

	for (; text < end; text = line.p + line.n + 1) {
		line.p = text;
		p = memchr(text, '\n', (size_t)(end - text));
		line.n = (size_t)((p != NULL ? p : end) - text);
		if ((p = span_find(line, "verify error:num=")) != NULL) {
			while (p < line.p + line.n && *p != ':')
				p++;
			for (p++; p < line.p + line.n && *p != ':'; )
				p++;
			p += p < line.p + line.n;
			snprintf(dst, size, "certificate not verified: %.*s",
			    (int)(line.p + line.n - p), p);
			return;
		}
		if (error.p == NULL && span_find(line, ":error:") != NULL)
			error = tls_error(line);
		if (line.n > 0 && !line_begins(line, "depth=") &&
		    !line_begins(line, "verify return:"))
			last = line;
	}
	if (error.p != NULL)
		last = error;
	if (last.p != NULL)
		snprintf(dst, size, "TLS failed: %.*s", (int)last.n, last.p);
}

/* ---- replies ------------------------------------------------------------------ */

static const struct {
	int		 status;
	const char	*reason;
} reasons[] = {
	{ 101, "Switching Protocols" },
	{ 200, "OK" },
	{ 201, "Created" },
	{ 204, "No Content" },
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 406, "Not Acceptable" },
	{ 407, "Proxy Authentication Required" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 410, "Gone" },
	{ 411, "Length Required" },
	{ 413, "Content Too Large" },
	{ 414, "URI Too Long" },
	{ 426, "Upgrade Required" },
	{ 431, "Request Header Fields Too Large" },
	{ 501, "Not Implemented" },
	{ 502, "Bad Gateway" },
	{ 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" },
	{ 505, "HTTP Version Not Supported" },
};

const char *
status_reason(int status)
{
	size_t i;

	for (i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "";
}

int
reply_make(struct buf *b, int status, unsigned flags, const char *fields,
    const char *text)
{
	return buf_fmt(b, "HTTP/1.1 %d %s\r\n"
	    "%s"
	    "Content-Type: text/plain\r\n"
	    "Content-Length: %zu\r\n"
	    "%s\r\n"
	    "%s%s", status, status_reason(status), fields, strlen(text) + 1,
	    flags & REPLY_CLOSE ? "Connection: close\r\n" : "",
	    flags & REPLY_HEAD ? "" : text, flags & REPLY_HEAD ? "" : "\n");
}
