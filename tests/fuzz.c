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
 * The parsers under libFuzzer (make fuzz).  The first byte of an input is the
 * subject that the rest is for, see subjects[].  What a parser says of its
 * input must hold: that it is the same wherever the input is cut, that what
 * was taken apart gives the same when it is put together again, that what is
 * passed on is not what was kept out.  What does not hold is said, and ends
 * the program as a crash does.
 */

#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

int	httptun_main(int, char **);
int	LLVMFuzzerInitialize(int *, char ***);
int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* Nothing here may end the program, which would be taken for a crash. */
#define main	httptun_main
#include "../httptun.c"
#undef main

#define COUNT(a)	(sizeof(a) / sizeof((a)[0]))
#define CUTS		64

static const char	*subject;

static void	fail(const char *, ...)
		    __attribute__((format(printf, 1, 2), noreturn));
static void
fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "fuzz: %s: ", subject);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

/* ---- inputs ------------------------------------------------------------ */

/* A copy as long as it is: what is behind it is nobody's. */
static void *
copy(const void *p, size_t n)
{
	void *own = malloc(n);

	if (own == NULL)
		abort();
	if (n > 0)
		memcpy(own, p, n);
	return own;
}

/* The same as a string, up to the first NUL. */
static char *
copy_text(const char *p, size_t n)
{
	char *own;

	n = strnlen(p, n);
	own = xdup(p, n);
	return own;
}

/* Takes a line off the input, NULL: there is none. */
static char *
line(const char **p, size_t *n)
{
	const char *nl;
	size_t k = *n;
	char *own;

	if (*n == 0)
		return NULL;
	if ((nl = memchr(*p, '\n', *n)) != NULL)
		k = (size_t)(nl - *p);
	own = copy_text(*p, k);
	k += nl != NULL;
	*p += k;
	*n -= k;
	return own;
}

/* Takes a byte off it. */
static int
byte(const char **p, size_t *n)
{
	if (*n == 0)
		return 0;
	--*n;
	return (unsigned char)*(*p)++;
}

/*
 * Where n bytes are to be cut: everywhere when they are few, else at places
 * that depend on them, so that the same input does the same again.
 */
static size_t
cuts(size_t *at, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;
	uint32_t v = 2166136261U;
	size_t i;

	if (n < CUTS) {
		for (i = 0; i <= n; i++)
			at[i] = i;
		return i;
	}
	for (i = 0; i < n; i++)
		v = (v ^ p[i]) * 16777619U;
	for (i = 0; i < CUTS; i++) {
		v = v * 1664525U + 1013904223U;
		at[i] = (v >> 8) % (n + 1);
	}
	return CUTS;
}

static int
same(struct span a, struct span b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static struct span
span(const char *s)
{
	struct span sp;

	sp.p = s;
	sp.n = strlen(s);
	return sp;
}

static void
inside(struct span s, const char *p, size_t n, const char *what)
{
	if (s.n > 0 && (s.p < p || s.p > p + n || s.n > (size_t)(p + n - s.p)))
		fail("%s is elsewhere", what);
}

static int
printable(const char *s)
{
	for (; *s != '\0'; s++)
		if (*s < 0x20 || *s > 0x7e)
			return 0;
	return 1;
}

/* ---- credentials ------------------------------------------------------- */

/* What we answer is a field, and the other side reads of it what we wrote. */
static void
digest_answer(const struct digest *was)
{
	static const char user[] = "Mu\"f\\asa", pass[] = "Circle of Life";
	static const int same_values[] = {
		DIGEST_REALM, DIGEST_NONCE, DIGEST_OPAQUE
	};
	static struct digest now;
	static struct head h;
	struct buf b = { NULL, 0, 0, 0 };
	char hex[DIGEST_HEX], *own;
	const struct span *v = now.value;
	struct challenge c;
	struct span rest;
	size_t i, n;

	if (buf_fmt(&b, "GET / HTTP/1.1\r\nA: ") | auth_digest(&b, was, user,
	    pass, "GET", span("/a\"b"), 17, "c\"\\d") |
	    buf_fmt(&b, "\r\n\r\n"))
		abort();
	n = b.len;
	own = copy(b.p + b.off, n);
	buf_free(&b);
	for (i = 0; i < n; i++)
		if (own[i] == 0x7f)
			break;
	if (i < n) {		/* which a client may keep */
		free(own);
		return;
	}
	if (head_request(&h, own, n) != (ssize_t)n || h.nfields != 1)
		fail("no field: %.*s", (int)n, own);
	rest = h.field[0].value;
	if (!auth_challenge(&rest, &c) || rest.n > 0 ||
	    !span_is(c.scheme, "Digest") ||
	    auth_digest_parse(c.params, &now) == -1 ||
	    !auth_digest_spoken(&now))
		fail("no credentials: %.*s", (int)n, own);
	for (i = 0; i < COUNT(same_values); i++)
		if (!same(v[same_values[i]], was->value[same_values[i]]))
			fail("another value %d: %.*s", same_values[i], (int)n,
			    own);
	if (now.algorithm != was->algorithm ||
	    !same(v[DIGEST_USER], span(user)) ||
	    !same(v[DIGEST_URI], span("/a\"b")) ||
	    (v[DIGEST_QOP].p == NULL) != (was->value[DIGEST_QOP].p == NULL) ||
	    (v[DIGEST_QOP].p != NULL && (!span_is(v[DIGEST_QOP], "auth") ||
	    !same(v[DIGEST_NC], span("00000011")) ||
	    !same(v[DIGEST_CNONCE], span("c\"\\d")))))
		fail("other values: %.*s", (int)n, own);
	if (auth_digest_response(hex, &now, user, pass, span("GET")) == -1 ||
	    !same(v[DIGEST_RESPONSE], span(hex)))
		fail("another response: %.*s", (int)n, own);
	free(own);
}

static void
digest(struct span params)
{
	static struct digest d;
	size_t i, all = 0;

	if (auth_digest_parse(params, &d) == -1)
		return;
	for (i = 0; i < DIGEST_VALUES; i++) {
		inside(d.value[i], d.text, sizeof(d.text), "a value");
		all += d.value[i].n;
	}
	if (all > params.n)
		fail("%zu bytes of %zu", all, params.n);
	/* No NUL comes through a head; and our own values need room, too. */
	if (auth_digest_spoken(&d) && all < DIGEST_TEXT / 2 &&
	    memchr(params.p, '\0', params.n) == NULL)
		digest_answer(&d);
}

static void
auth(const char *p, size_t n)
{
	char *own = copy(p, n);
	struct challenge c;
	struct span rest;
	size_t left;

	rest.p = own;
	rest.n = left = n;
	while (auth_challenge(&rest, &c)) {
		inside(c.scheme, own, n, "the scheme");
		inside(c.params, own, n, "the parameters");
		inside(rest, own, n, "the rest");
		if (c.scheme.n == 0 || rest.n >= left)
			fail("no end");
		left = rest.n;
		digest(c.params);
	}
	rest.p = own;
	rest.n = n;
	digest(rest);
	free(own);
}

/* The pair in the Basic scheme. */
static void
basic(struct span value)
{
	char *pair = xalloc(CRED_MAX + 1), *colon, *again;
	struct buf b = { NULL, 0, 0, 0 };
	ssize_t n = auth_basic_decode(value, pair);

	if (n != -1) {
		if (n < 1 || n > CRED_MAX || strlen(pair) != (size_t)n ||
		    (colon = strchr(pair, ':')) == NULL)
			fail("a pair of %zd bytes", n);
		*colon = '\0';
		if (auth_basic(&b, pair, colon + 1) == -1)
			abort();
		*colon = ':';
		again = xalloc(CRED_MAX + 1);
		value.p = (char *)b.p + b.off;
		value.n = b.len;
		if (auth_basic_decode(value, again) != n ||
		    strcmp(pair, again) != 0)
			fail("'%s' is '%s'", pair, again);
		free(again);
		buf_free(&b);
	}
	free(pair);
}

static void
base64(const char *p, size_t n)
{
	char *own = copy(p, n), *coded = xalloc(4 * ((n + 2) / 3) + 1);
	unsigned char *plain, *back = malloc(3 * ((n + 2) / 3));
	size_t len = base64_encode(coded, own, n);
	struct span value;
	ssize_t r;

	if (len != 4 * ((n + 2) / 3) || strlen(coded) != len)
		fail("%zu bytes are %zu", n, len);
	if (base64_decode(back, coded, len) != (ssize_t)n ||
	    memcmp(back, own, n) != 0)
		fail("'%s'", coded);
	free(back);
	free(coded);
	plain = malloc(3 * (n / 4));
	if ((r = base64_decode(plain, own, n)) != -1) {
		coded = xalloc(4 * (((size_t)r + 2) / 3) + 1);
		if (base64_encode(coded, plain, (size_t)r) != n ||
		    memcmp(coded, own, n) != 0)
			fail("'%.*s' is '%s'", (int)n, own, coded);
		free(coded);
	}
	free(plain);
	value.p = own;
	value.n = n;
	basic(value);
	free(own);
}

/* ---- heads ------------------------------------------------------------- */

typedef ssize_t	parser(struct head *, const void *, size_t);

/* What was judged of a beginning is judged of the whole. */
static void
head_cuts(parser *parse, ssize_t whole, const char *p, size_t n)
{
	static struct head h;
	size_t at[CUTS], i, k = cuts(at, p, n);
	ssize_t r;
	char *own;

	for (i = 0; i < k; i++) {
		own = copy(p, at[i]);
		r = parse(&h, own, at[i]);
		free(own);
		if (r != 0 ? r != whole || r > (ssize_t)at[i] :
		    whole > 0 && at[i] >= (size_t)whole)
			fail("%zd, but %zd of %zu bytes", whole, r, at[i]);
	}
}

static void
head_sane(const struct head *h, const char *p, size_t n)
{
	static const char blanks[] = " \t\r\n";
	struct span none = { "", 0 };
	const struct field *f;

	inside(h->method, p, n, "the method");
	inside(h->target, p, n, "the target");
	inside(h->reason, p, n, "the reason");
	for (f = h->field; f < h->field + h->nfields; f++) {
		inside(f->name, p, n, "a name");
		inside(f->value, p, n, "a value");
		if (!field_valid(f->name, none))
			fail("a name that is no token");
		if (f->value.n > 0 && (strchr(blanks, f->value.p[0]) != NULL ||
		    strchr(blanks, f->value.p[f->value.n - 1]) != NULL))
			fail("a value with blanks around it");
	}
	if (head_lists(h, "Connection", "close") && head_persists(h))
		fail("it says close, and persists");
}

static size_t
field_count(const struct head *h, const char *name)
{
	const struct field *f = NULL;
	size_t n = 0;

	while ((f = head_field(h, name, f)) != NULL)
		n++;
	return n;
}

/* Whether a Connection field names it. */
static int
field_listed(const struct head *h, struct span name)
{
	const struct field *f = NULL;
	const char *p, *end, *word;

	while ((f = head_field(h, "Connection", f)) != NULL) {
		end = f->value.p + f->value.n;
		for (p = f->value.p; p < end; p++) {
			for (word = p; p < end && *p != ','; )
				p++;
			while (word < p && strchr(" \t\r\n", *word) != NULL)
				word++;
			if ((size_t)(p - word) >= name.n &&
			    strncasecmp(word, name.p, name.n) == 0 &&
			    strspn(word + name.n, " \t\r\n") >=
			    (size_t)(p - word) - name.n)
				return 1;
		}
	}
	return 0;
}

/* Whether it concerns one connection only, or is written anew. */
static int
field_own(const struct head *h, struct span name)
{
	static const char *const names[] = {
		"Connection", "Host", "Keep-Alive", "Proxy-Authenticate",
		"Proxy-Authorization", "Proxy-Connection", "TE", "Trailer",
		"Transfer-Encoding", "Upgrade"
	};
	size_t i;

	for (i = 0; i < COUNT(names); i++)
		if (span_is(name, names[i]))
			return 1;
	return !span_is(name, "Content-Length") && field_listed(h, name);
}

/* The value as it came, but that folds and control characters are blanks. */
static int
field_same(const struct field *a, const struct field *b)
{
	const char *p = b->value.p, *end = p + b->value.n;
	size_t i;
	unsigned char c;

	while (p < end && (unsigned char)*p <= 0x20)
		p++;
	while (p < end && (unsigned char)end[-1] <= 0x20)
		end--;
	if (!same(a->name, b->name) || a->value.n != (size_t)(end - p))
		return 0;
	for (i = 0; p < end; i++) {
		c = (unsigned char)*p++;
		if ((unsigned char)a->value.p[i] != (c < 0x20 && c != '\t' ?
		    ' ' : c))
			return 0;
	}
	return 1;
}

/*
 * The n fields at f are those of h that go on, all of them and in order, and
 * Via; of several lengths it is one.
 */
static void
fields_passed(const struct head *h, const struct field *f, size_t n)
{
	const struct field *was, *length, *end = f + n;

	length = head_field(h, "Content-Length", NULL);
	for (was = h->field; was < h->field + h->nfields; was++) {
		if (field_own(h, was->name) ||
		    (span_is(was->name, "Content-Length") && (was != length ||
		    f == end || !span_is(f->name, "Content-Length"))))
			continue;
		if (f == end || !field_same(f, was))
			fail("'%.*s' is not passed on as it was",
			    (int)was->name.n, was->name.p);
		f++;
	}
	if (end - f != 1 || !span_is(f->name, "Via"))
		fail("more is passed on than was there");
}

/* What is between two proxies that read it differently is a smuggler's. */
static void
framing_sane(const struct head *h, enum framing f, uint64_t length)
{
	size_t te = field_count(h, "Transfer-Encoding");
	size_t cl = field_count(h, "Content-Length");
	int request = h->method.n > 0;
	uint64_t other;
	enum framing want = f;

	if (!request && (h->status < 200 || h->status == 204 ||
	    h->status == 304))
		want = BODY_NONE;
	else if (te + cl > 1 && (request || te > 0))
		want = BODY_BAD;
	else if (te == 1)
		want = f == BODY_CHUNKED && h->minor > 0 ? f : BODY_BAD;
	else if (cl == 0)
		want = request ? BODY_NONE : BODY_CLOSE;
	else if (cl == 1)
		want = head_number(h, "Content-Length", &other) != 1 ?
		    BODY_BAD : other > 0 ? BODY_LENGTH : BODY_NONE;
	if (f != want || (f == BODY_LENGTH && (length == 0 || (cl == 1 &&
	    other != length))))
		fail("framing %d, not %d", (int)f, (int)want);
}

/* A request that is forwarded says the same behind us. */
static void
request_forwarded(const struct head *h, enum framing framing, uint64_t length)
{
	static struct tunnel t;
	static struct head now;
	struct span authority, path;
	char host[HOST_MAX + 1], *own;
	const struct field *f = now.field;
	size_t n, tail = framing == BODY_CHUNKED ? 2 : 1;
	uint64_t other;
	unsigned port;

	if (head_method(h, "CONNECT") || !target_absolute(h->target) ||
	    request_malformed(h, framing) != NULL ||
	    request_target(h, host, &port) != NULL)
		return;
	(void)target_split(h->target, &authority, &path);
	memset(&t, 0, sizeof(t));
	if (http_request(&t, h) != 0)
		abort();
	n = t.exchange->head.len;
	own = copy(t.exchange->head.p + t.exchange->head.off, n);
	buf_free(&t.exchange->head);
	free(t.exchange);
	if (head_request(&now, own, n) != (ssize_t)n) {
		if (h->nfields + tail + 2 <= HEAD_FIELDS)
			fail("what is sent is no request: %.*s", (int)n, own);
		free(own);
		return;
	}
	if (!same(now.method, h->method) || now.minor != 1 ||
	    (now.target.p[0] != '/' && !span_is(now.target, "*")))
		fail("another request line: %.*s", (int)n, own);
	if (!span_is(f->name, "Host") || !same(f->value, authority))
		fail("another Host");
	fields_passed(h, f + 1, now.nfields - 1 - tail);
	f = now.field + now.nfields - tail;
	if (tail == 2 && (!span_is(f->name, "Transfer-Encoding") ||
	    !span_is((f++)->value, "chunked")))
		fail("it is not sent as chunked");
	if (!span_is(f->name, "Connection") || !span_is(f->value, "close"))
		fail("it does not say close");
	if (head_framing(&now, &other) != framing || other != length)
		fail("another framing behind us");
	free(own);
}

static void
request(const char *p, size_t n)
{
	static struct head h;
	char *own = copy(p, n);
	ssize_t whole = head_request(&h, own, n);
	enum framing framing;
	uint64_t length;

	if (whole > (ssize_t)n || (whole < 0 && whole != -400 &&
	    whole != -414 && whole != -431 && whole != -505))
		fail("%zd", whole);
	head_cuts(head_request, whole, p, n);
	if (whole > 0) {
		head_sane(&h, own, (size_t)whole);
		framing = head_framing(&h, &length);
		framing_sane(&h, framing, length);
		if (framing != BODY_BAD)
			request_forwarded(&h, framing, length);
	}
	free(own);
}

/* Its field lines would do in a request, which is judged strictly. */
static void
reply_strict(const char *p, size_t n)
{
	static const char line[] = "GET / HTTP/1.1\r\n";
	static struct head h;
	const char *nl = memchr(p, '\n', n);
	size_t k = sizeof(line) - 1, i;
	char *own;

	n -= (size_t)(nl + 1 - p);
	own = xalloc(k + n);
	memcpy(own, line, k);
	memcpy(own + k, nl + 1, n);
	/* A client may keep it (RFC 9110, 5.5); a server does not take it. */
	for (i = 0; i < k + n; i++)
		if (own[i] == 0x7f)
			own[i] = '?';
	if (head_request(&h, own, k + n) != (ssize_t)(k + n))
		fail("what is sent is no head: %.*s", (int)n, own + k);
	free(own);
}

static void
reply_passed(const struct head *h, enum framing framing, uint64_t length,
    int chunked)
{
	static struct head now;
	struct buf b = { NULL, 0, 0, 0 };
	enum framing want;
	size_t n, tail = h->status >= 200 ? 1 + (size_t)chunked : 0;
	uint64_t other;
	char *own;

	/* as http_pass() does */
	if (head_pass_status(&b, h) | head_pass(&b, h) | buf_fmt(&b, "%s%s\r\n",
	    chunked ? "Transfer-Encoding: chunked\r\n" : "",
	    h->status >= 200 ? "Connection: close\r\n" : ""))
		abort();
	n = b.len;
	own = copy(b.p + b.off, n);
	buf_free(&b);
	if (h->nfields + tail + 1 <= HEAD_FIELDS) {
		if (head_reply(&now, own, n) != (ssize_t)n ||
		    now.status != h->status || now.minor != 1)
			fail("what is sent is no reply: %.*s", (int)n, own);
		reply_strict(own, n);
		fields_passed(h, now.field, now.nfields - tail);
		want = framing == BODY_CHUNKED && !chunked ? BODY_CLOSE :
		    framing;
		if (head_framing(&now, &other) != want ||
		    (want == BODY_LENGTH && other != length))
			fail("another framing behind us");
	}
	free(own);
}

static void
reply(const char *p, size_t n)
{
	static struct head h;
	char *own = copy(p, n);
	ssize_t whole = head_reply(&h, own, n);
	enum framing framing;
	uint64_t length;
	struct offer o;

	if (whole > (ssize_t)n || whole < -1)
		fail("%zd", whole);
	head_cuts(head_reply, whole, p, n);
	if (whole > 0) {
		head_sane(&h, own, (size_t)whole);
		if (h.status < 100 || h.status > 999)
			fail("status %d", h.status);
		framing = head_framing(&h, &length);
		framing_sane(&h, framing, length);
		if (framing != BODY_BAD && h.status != 101)
			reply_passed(&h, framing, length, 0);
		if (framing == BODY_CHUNKED)
			reply_passed(&h, framing, length, 1);
		hop_offers(&h, &o);
		inside(o.digest, own, (size_t)whole, "a challenge");
		if (o.strength != DIGEST_NONE)
			digest(o.digest);
	}
	free(own);
}

/* ---- bodies ------------------------------------------------------------ */

/* What a codec made of its input. */
struct got {
	unsigned char	*p;
	size_t		 n, used;
	int		 over, bad;
};

/* Brings a piece of first bytes, then pieces of step bytes (0: the rest). */
static void
decode(const struct codec *c, struct message *m, struct got *g, const char *p,
    size_t n, size_t first, size_t step)
{
	unsigned char *own;
	size_t k, used;
	ssize_t r;

	memset(g, 0, sizeof(*g));
	g->p = xalloc(n + 1);
	while (n > 0 && !g->over && !g->bad) {
		k = first > 0 ? first : step > 0 && step < n ? step : n;
		first = 0;
		used = k;
		own = copy(p, k);
		r = c->decode(m, own, k, &used, &g->over);
		if (r == -1)
			g->bad = 1;
		else if (r < 0 || (size_t)r > used || used > k ||
		    (used < k && !g->over))
			fail("%zd of %zu, %zu used", r, k, used);
		else {
			memcpy(g->p + g->n, own, (size_t)r);
			g->n += (size_t)r;
			g->used += used;
		}
		free(own);
		p += k;
		n -= k;
	}
}

/* However it came, it is the same; what came before a fault may be lost. */
static void
got_same(const struct got *a, const struct got *b, size_t cut)
{
	if (a->bad != b->bad)
		fail("%s when cut at %zu", b->bad ? "bad" : "good", cut);
	if (!a->bad && (a->n != b->n || memcmp(a->p, b->p, a->n) != 0))
		fail("another payload when cut at %zu", cut);
	if (!a->bad && (a->used != b->used || a->over != b->over))
		fail("another end when cut at %zu", cut);
}

/* The message's payload, when m is its beginning; cut everywhere. */
static void
message_judge(const struct message *m, struct got *whole, const char *p,
    size_t n)
{
	struct message now = *m;
	size_t at[CUTS], i, k = cuts(at, p, n);
	struct got g;

	decode(&message_codec, &now, whole, p, n, 0, 0);
	for (i = 0; i <= k; i++) {
		now = *m;
		decode(&message_codec, &now, &g, p, n, i < k ? at[i] : 0,
		    i < k ? 0 : 1);
		got_same(whole, &g, i < k ? at[i] : 1);
		free(g.p);
	}
}

/* What is sent as chunks, in pieces of that size, is read as the same. */
static void
chunks_back(const unsigned char *p, size_t n, size_t piece)
{
	struct message m;
	struct buf b = { NULL, 0, 0, 0 };
	unsigned char *own, *q, last[MARGIN];
	size_t i, k;
	struct got g;

	memset(&m, 0, sizeof(m));
	m.chunks_out = 1;
	for (i = 0; i < n; i += piece) {
		k = n - i < piece ? n - i : piece;
		own = xalloc(k + (size_t)2 * MARGIN);
		memcpy(own + MARGIN, p + i, k);
		q = message_codec.encode(&m, own + MARGIN, &k);
		if (buf_put(&b, q, k) == -1)
			abort();
		free(own);
	}
	if (buf_put(&b, last, message_codec.last(&m, last)) == -1)
		abort();
	m.in = BODY_CHUNKED;
	message_judge(&m, &g, (char *)b.p + b.off, b.len);
	if (g.bad || !g.over || g.used != b.len || g.n != n ||
	    memcmp(g.p, p, n) != 0)
		fail("%zu bytes in chunks of %zu are not the same", n, piece);
	free(g.p);
	buf_free(&b);
}

/* The end of the line in front of its CRLF, NULL: it has none. */
static const char *
chunk_line(const char *p, const char *end)
{
	const char *cr = memchr(p, '\r', (size_t)(end - p));

	if (cr == NULL || cr + 1 == end || cr[1] != '\n')
		return NULL;
	for (; p < cr; p++)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return NULL;
	return cr;
}

/*
 * The body by its lines, as RFC 9112, 7.1 draws them: how long it is, and its
 * payload.  0: it is malformed, or not whole.
 */
static size_t
chunks_whole(const char *p, size_t n, struct buf *payload)
{
	const char *s = p, *end = p + n, *cr;
	struct span one = { p, 1 }, none = { "", 0 };
	char *text, *after;
	size_t size;
	int bad;

	do {
		if ((cr = chunk_line(s, end)) == NULL)
			return 0;
		text = copy_text(s, (size_t)(cr - s));
		n = strspn(text, "0123456789abcdefABCDEF");
		size = strtoull(text, NULL, 16);
		after = text + n + strspn(text + n, " \t");
		bad = n == 0 || n > 15 || (*after != '\0' && *after != ';');
		free(text);
		s = cr + 2;
		if (bad || (size > 0 && ((size_t)(end - s) < size ||
		    (size_t)(end - s) - size < 2 ||
		    memcmp(s + size, "\r\n", 2) != 0)))
			return 0;
		if (buf_put(payload, s, size) == -1)
			abort();
		s += size > 0 ? size + 2 : 0;
	} while (size > 0);
	while ((cr = chunk_line(s, end)) != s) {
		one.p = s;
		if (cr == NULL || !field_valid(one, none))
			return 0;
		s = cr + 2;
	}
	return (size_t)(s + 2 - p);
}

static void
chunked(const char *p, size_t n)
{
	struct buf b = { NULL, 0, 0, 0 };
	size_t whole = chunks_whole(p, n, &b);
	struct message m;
	struct chunked c;
	unsigned char *own = copy(p, n);
	struct got g;
	size_t used = 0;
	ssize_t r;

	memset(&m, 0, sizeof(m));
	memset(&c, 0, sizeof(c));
	m.in = BODY_CHUNKED;
	message_judge(&m, &g, p, n);
	r = chunked_decode(&c, own, n, &used);
	if (g.bad ? r != -1 : r != (ssize_t)g.n || used != g.used ||
	    chunked_done(&c) != g.over || memcmp(own, g.p, g.n) != 0)
		fail("%zd by itself, %zu as a message", r, g.n);
	if (g.over && !g.bad ? g.used != whole || g.n != b.len || (g.n > 0 &&
	    memcmp(g.p, b.p + b.off, g.n) != 0) : whole > 0)
		fail("%zu bytes of %zu, not %u of %zu", g.n, g.used, b.len,
		    whole);
	buf_free(&b);
	free(own);
	if (!g.bad)
		chunks_back(g.p, g.n, 1 + g.n / 3);
	free(g.p);
	if (n > 0)
		chunks_back((const unsigned char *)p, n, 1 + n % 17);
}

static const char framings[] = "nlck";	/* in the order of enum framing */

/* Its framing, for "l" a byte that is its length, then what comes. */
static void
message_begin(struct message *m, const char **p, size_t *n)
{
	int c = byte(p, n);
	const char *at = c != 0 ? strchr(framings, c) : NULL;

	memset(m, 0, sizeof(*m));
	m->in = at != NULL ? (enum framing)(at - framings) : BODY_NONE;
	if (m->in == BODY_LENGTH)
		m->left = (uint64_t)byte(p, n);
}

static void
message(const char *p, size_t n)
{
	struct message m;
	struct got g;
	size_t want = 0;

	message_begin(&m, &p, &n);
	message_judge(&m, &g, p, n);
	if (m.in == BODY_LENGTH)
		want = n < m.left ? n : (size_t)m.left;
	else if (m.in == BODY_CLOSE)
		want = n;
	if (m.in != BODY_CHUNKED && (g.bad || g.n != want || g.used != want ||
	    memcmp(g.p, p, want) != 0))
		fail("%zu bytes, not %zu", g.n, want);
	if (message_codec.open_ended(&m) != (m.in == BODY_CLOSE))
		fail("it ends otherwise");
	free(g.p);
}

/*
 * "f" for a form, two bytes: where it begins and what of it is there, and a
 * message.
 */
static void
piece(const char *p, size_t n)
{
	struct piece m, now;
	uint64_t had, have;
	struct got plain, whole, g;
	size_t at[CUTS], i, k, old;

	memset(&m, 0, sizeof(m));
	m.form = byte(&p, &n) == 'f';
	m.pos = (uint64_t)byte(&p, &n);
	had = have = (uint64_t)byte(&p, &n);
	m.have = &have;
	message_begin(&m.message, &p, &n);
	now = m;
	decode(&piece_codec, &now.message, &whole, p, n, 0, 0);
	if (!whole.bad && have < had)
		fail("less is there");
	k = cuts(at, p, n);
	for (i = 0; i <= k; i++) {
		uint64_t was = have;

		now = m;
		have = had;
		decode(&piece_codec, &now.message, &g, p, n, i < k ? at[i] : 0,
		    i < k ? 0 : 1);
		got_same(&whole, &g, i < k ? at[i] : 1);
		if (!whole.bad && have != was)
			fail("it comes to another place");
		free(g.p);
		have = was;
	}
	if (!m.form && !whole.bad) {
		message_judge(&m.message, &plain, p, n);
		old = had < m.pos ? 0 : had - m.pos < plain.n ?
		    (size_t)(had - m.pos) : plain.n;
		if (whole.n != plain.n - old ||
		    memcmp(whole.p, plain.p + old, whole.n) != 0)
			fail("it is not what was new");
		free(plain.p);
	}
	free(whole.p);
}

/* ---- WebSocket --------------------------------------------------------- */

struct heard {
	struct ws	 w;
	unsigned char	*p;
	size_t		 n;
	int		 failed;
};

static void
ws_hear(struct heard *h, int client, int ends, const unsigned char *p,
    size_t n, size_t first, size_t step)
{
	unsigned char *own;
	size_t k;
	ssize_t r;

	memset(h, 0, sizeof(*h));
	h->w.client = client != 0;
	h->w.ends = ends != 0;
	h->p = xalloc(n + 1);
	for (; n > 0 && !h->failed; p += k, n -= k) {
		k = first > 0 ? first : step > 0 && step < n ? step : n;
		first = 0;
		own = copy(p, k);
		if ((r = ws_decode(&h->w, own, k)) == -1)
			h->failed = 1;
		else if (r < 0 || (size_t)r > k)
			fail("%zd of %zu bytes", r, k);
		else {
			memcpy(h->p + h->n, own, (size_t)r);
			h->n += (size_t)r;
		}
		free(own);
	}
}

static void
heard_free(struct heard *h)
{
	buf_free(&h->w.pong);
	free(h->p);
}

static void
heard_same(const struct heard *h, const struct heard *g, size_t cut)
{
	const struct ws *a = &h->w, *b = &g->w;

	if (h->failed != g->failed)
		fail("%s when cut at %zu", g->failed ? "bad" : "good", cut);
	if ((h->failed || a->closed) && a->code != b->code)
		fail("code %u, not %u, when cut at %zu", b->code, a->code, cut);
	if (h->failed)
		return;
	if (h->n != g->n || memcmp(h->p, g->p, h->n) != 0)
		fail("another payload when cut at %zu", cut);
	if (a->ended != b->ended || a->closed != b->closed ||
	    a->ponging != b->ponging || ws_clean(a) != ws_clean(b) ||
	    a->left != b->left || a->nhead != b->nhead ||
	    a->message != b->message)
		fail("elsewhere when cut at %zu", cut);
	if (a->pong.len != b->pong.len || (a->pong.len > 0 &&
	    memcmp(a->pong.p + a->pong.off, b->pong.p + b->pong.off,
	    a->pong.len) != 0))
		fail("another Pong when cut at %zu", cut);
}

static void
ws_judge_all(struct heard *h, int client, int ends, const unsigned char *p,
    size_t n)
{
	size_t at[CUTS], i, k = cuts(at, p, n);
	struct heard g;

	ws_hear(h, client, ends, p, n, 0, 0);
	for (i = 0; i <= k; i++) {
		ws_hear(&g, client, ends, p, n, i < k ? at[i] : 0, i < k ? 0 :
		    1);
		heard_same(h, &g, i < k ? at[i] : 1);
		heard_free(&g);
	}
	if (h->failed && h->w.code != WS_PROTOCOL &&
	    h->w.code != WS_NOT_UTF8 && h->w.code != WS_TOO_BIG)
		fail("failed with %u", h->w.code);
	if (h->w.pong.len > WS_CONTROL_MAX || (h->w.ended && !ends))
		fail("what cannot be");
}

/* "c" for a client, "s" for a server, in capitals: "end" ends; frames. */
static void
frames(const char *p, size_t n)
{
	int c = byte(&p, &n);
	struct heard h;

	ws_judge_all(&h, c == 'c' || c == 'C', c == 'C' || c == 'S',
	    (const unsigned char *)p, n);
	heard_free(&h);
}

/* RFC 3629, by the numbers of the characters. */
static int
utf8_good(const unsigned char *p, size_t n)
{
	static const unsigned long least[] = { 0, 0x80, 0x800, 0x10000 };
	size_t i = 0, k, more;
	unsigned long v;

	while (i < n) {
		v = p[i++];
		more = v < 0x80 ? 0 : v >> 5 == 6 ? 1 : v >> 4 == 14 ? 2 :
		    v >> 3 == 30 ? 3 : 4;
		if (more > 3 || n - i < more)
			return 0;
		v &= more == 0 ? 0x7f : 0x3fU >> more;
		for (k = 0; k < more; k++, i++) {
			if (p[i] >> 6 != 2)
				return 0;
			v = v << 6 | (p[i] & 0x3f);
		}
		if (v < least[more] || v > 0x10ffff ||
		    (v >= 0xd800 && v <= 0xdfff))
			return 0;
	}
	return 1;
}

/* What our frame says to the other side. */
static void
frame_judge(const struct heard *h, int opcode, const unsigned char *p,
    size_t n)
{
	const struct ws *w = &h->w;

	if (opcode >= WS_CLOSE && n > WS_CONTROL_MAX) {
		if (!h->failed)
			fail("a control frame of %zu bytes", n);
		return;
	}
	switch (opcode) {
	case WS_TEXT:
		if (h->failed == utf8_good(p, n))
			fail("UTF-8 is %s", h->failed ? "bad" : "good");
		if (h->failed)
			return;
		/* FALLTHROUGH */
	case WS_BINARY:
		if (h->failed || !ws_clean(w) || h->n != n ||
		    memcmp(h->p, p, n) != 0)
			fail("%zu bytes are not the same", n);
		return;
	case WS_PING:
		if (h->failed || !w->ponging || w->pong.len != n || (n > 0 &&
		    memcmp(w->pong.p + w->pong.off, p, n) != 0))
			fail("a Ping is another one's");
		return;
	case WS_PONG:
		if (h->failed || h->n > 0 || !ws_clean(w))
			fail("a Pong says something");
		return;
	default:
		if (n == 1 || (n > 2 && !utf8_good(p + 2, n - 2)) ?
		    !h->failed : !h->failed && (!w->closed || w->code !=
		    (n > 0 ? (unsigned)p[0] << 8 | p[1] : WS_NO_CODE)))
			fail("a Close says something else");
	}
}

/*
 * The kind of a frame, b, t, c, p or o, in capitals from a server; "*": a
 * hundred times; the key; what it says.
 */
static void
frame(const char *p, size_t n)
{
	static const char kinds[] = "tb.....cpo";
	int c = byte(&p, &n), client = c >= 'a';
	const char *at = strchr(kinds, c | 0x20);
	int opcode = at != NULL && *at != '\0' ? 1 + (int)(at - kinds) :
	    WS_BINARY;
	unsigned char key[4], *own, *begin;
	size_t times = byte(&p, &n) == '*' ? 100 : 1, i, all;
	struct ws w;
	struct heard h;

	for (i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)byte(&p, &n);
	all = n * times;
	own = xalloc(WS_HEAD_MAX + all);
	for (i = 0; i < times && n > 0; i++)
		memcpy(own + WS_HEAD_MAX + i * n, p, n);
	memset(&w, 0, sizeof(w));
	w.client = client != 0;
	begin = ws_encode(&w, opcode, key, own + WS_HEAD_MAX, &all);
	if (begin < own || all < n * times + 2)
		fail("%zu bytes for %zu", all, n * times);
	if (all > 8192) {
		ws_hear(&h, !client, 0, begin, all, all / 2, 0);
	} else
		ws_judge_all(&h, !client, 0, begin, all);
	free(own);
	own = xalloc(n * times + 1);
	for (i = 0; i < times && n > 0; i++)
		memcpy(own + i * n, p, n);
	frame_judge(&h, opcode, own, n * times);
	free(own);
	heard_free(&h);
}

/* ---- authorities, URLs and forms --------------------------------------- */

/* What may go into a request or to a command. */
static void
host_sane(const char *host)
{
	struct buf b = { NULL, 0, 0, 0 };

	if (strlen(host) > HOST_MAX || !printable(host) ||
	    host[strcspn(host, " /?#@[]'\"\\`$;&|<>(){}*!~,")] != '\0')
		fail("the host is '%s'", host);
	if (command_expand(&b, "%h", host, 1, "") == -1)
		fail("'%s' is none for a command", host);
	buf_free(&b);
}

static void
host(const char *p, size_t n)
{
	char *name = xalloc(HOST_MAX + 1), *other = xalloc(HOST_MAX + 1);
	char *text = xalloc(HOST_MAX + 9), *own = copy(p, n);
	unsigned port, again;

	if (host_parse(own, n, name) == NULL) {
		host_sane(name);
		authority_format(text, name, 65535);
		if (authority_parse(text, strlen(text), other, &port, 0) !=
		    NULL || port != 65535 || strcmp(name, other) != 0)
			fail("'%s' is '%s'", name, text);
	}
	if (authority_parse(own, n, name, &port, 80) == NULL) {
		host_sane(name);
		authority_format(text, name, port);
		if (port < 1 || port > 65535 || authority_parse(text,
		    strlen(text), other, &again, 0) != NULL ||
		    again != port || strcmp(name, other) != 0)
			fail("'%s', %u is '%s'", name, port, text);
	}
	if (authority_parse(own, n, other, &again, 0) == NULL &&
	    (again != port || strcmp(name, other) != 0))
		fail("without a port in reserve it is another one");
	if (host_read(name, own, n) == NULL)
		host_sane(name);
	free(own);
	free(text);
	free(other);
	free(name);
}

/* A value that a URL has, and as it would be if all of it were %XX. */
static void
percent_judge(struct span s)
{
	char *dst = xalloc(s.n + 1), *back = xalloc(3 * s.n + 1), *again;
	ssize_t n = percent_decode(dst, s.n + 1, s), i;
	struct span coded;

	if (n > (ssize_t)s.n || n < -1)
		fail("%zd of %zu bytes", n, s.n);
	if (n >= 0) {
		for (i = 0; i < n; i++)
			snprintf(back + 3 * i, 4, "%%%02x",
			    (unsigned)(unsigned char)dst[i]);
		if (has_control(dst) || strlen(dst) != (size_t)n)
			fail("a control character");
		coded.p = back;
		coded.n = 3 * (size_t)n;
		again = xalloc((size_t)n + 1);
		if (percent_decode(again, (size_t)n + 1, coded) != n ||
		    strcmp(dst, again) != 0)
			fail("'%s' is not '%s'", dst, back);
		if (n > 0 && percent_decode(again, (size_t)n, coded) != -1)
			fail("it does not fit");
		free(again);
	}
	free(back);
	free(dst);
}

/* A request-target of n bytes, no string. */
static void
target_judge(const char *p, size_t n)
{
	struct span t, authority, path;
	size_t empty;			/* a port that is empty is left out */

	t.p = p;
	t.n = n;
	if (target_split(t, &authority, &path) != NULL)
		return;
	if (!target_absolute(t))
		fail("it is split, and not absolute");
	inside(authority, p, n, "the authority");
	inside(path, p, n, "the path");
	empty = authority.n > 0 && authority.p + authority.n < p + n &&
	    authority.p[authority.n] == ':' &&
	    path.p > authority.p + authority.n;
	if (authority.p != p + 7 ||
	    path.p != authority.p + authority.n + empty ||
	    authority.n + empty + path.n + 7 != n)
		fail("it is not split into parts");
	if (memchr(path.p, '#', path.n) != NULL || (path.n > 0 &&
	    path.p[0] != '/' && path.p[0] != '?'))
		fail("the path is '%.*s'", (int)path.n, path.p);
}

static void
url(const char *p, size_t n)
{
	char *own = copy(p, n), *s = copy_text(p, n), *now;
	struct url u;

	target_judge(own, n);
	url_split(&u, s);
	now = xalloc(strlen(s) + 8);
	sprintf(now, "%.*s%s%.*s%s%.*s%s%.*s%.*s",
	    (int)u.scheme.n, u.scheme.n > 0 ? u.scheme.p : "",
	    u.scheme.p != NULL ? "://" : "",
	    (int)u.user.n, u.user.n > 0 ? u.user.p : "",
	    u.pass.p != NULL ? ":" : "",
	    (int)u.pass.n, u.pass.n > 0 ? u.pass.p : "",
	    u.user.p != NULL ? "@" : "",
	    (int)u.host_port.n, u.host_port.p, (int)u.path.n, u.path.p);
	if (strcmp(now, s) != 0)
		fail("'%s' becomes '%s'", s, now);
	if (memchr(u.host_port.p, '@', u.host_port.n + u.path.n) != NULL)
		fail("the last @ does not end the userinfo");
	if (u.user.p != NULL)
		percent_judge(u.user);
	if (u.pass.p != NULL)
		percent_judge(u.pass);
	percent_judge(u.path);
	free(now);
	free(s);
	free(own);
}

static void
poll(const char *p, size_t n)
{
	char *name = xalloc(HOST_MAX + 1), *other = xalloc(HOST_MAX + 1);
	char *own = copy(p, n), what[HOST_MAX + 9];
	struct buf b = { NULL, 0, 0, 0 };
	unsigned port, again;
	struct span path, id;
	int form, as;

	path.p = own;
	path.n = n;
	if (poll_id(path, &id)) {
		inside(id, own, n, "the id");
		if ((id.n != 32 && id.n != POLL_ID) ||
		    id.p + id.n != own + n || id.p[-1] != '/')
			fail("'%.*s'", (int)id.n, id.p);
	}
	if (poll_target(own, n, name, &port, &form) == NULL) {
		host_sane(name);
		if (port < 1 || port > 65535)
			fail("port %u", port);
		if (buf_put(&b, "host=", 5) |
		    form_put(&b, name, strlen(name)) |
		    buf_fmt(&b, "&port=%u", port))
			abort();
		if (poll_target((char *)b.p + b.off, b.len, other, &again,
		    &as) != NULL || !as || again != port ||
		    strcmp(name, other) != 0)
			fail("'%.*s'", (int)b.len, (char *)b.p + b.off);
		authority_format(what, name, port);
		if (poll_target(what, strlen(what), other, &again, &as) !=
		    NULL || as || again != port || strcmp(name, other) != 0)
			fail("'%s'", what);
		buf_free(&b);
	}
	free(own);
	free(other);
	free(name);
}

/* Any bytes, as data of a form. */
static void
form(const char *p, size_t n)
{
	struct buf b = { NULL, 0, 0, 0 };
	char *own = copy(p, n), *coded;
	uint64_t have = 0;
	struct piece m;
	struct got g;
	size_t i;

	if (buf_put(&b, "data=", 5) | form_put(&b, own, n))
		abort();
	coded = (char *)b.p + b.off;
	for (i = 5; i < b.len; i++)
		if (coded[i] < 0x21 || coded[i] > 0x7e ||
		    strchr("&=#/?\"'\\", coded[i]) != NULL)
			fail("%02x in a form", (unsigned)coded[i]);
	memset(&m, 0, sizeof(m));
	m.message.in = BODY_LENGTH;
	m.message.left = b.len;
	m.form = 1;
	m.have = &have;
	decode(&piece_codec, &m.message, &g, coded, b.len, 0, 7);
	if (g.bad || !g.over || g.n != n || have != n ||
	    memcmp(g.p, p, n) != 0)
		fail("%zu bytes are not the same", n);
	free(g.p);
	buf_free(&b);
	free(own);
}

/* ---- commands and words ------------------------------------------------ */

/* A host in a line, and the command. */
static void
command(const char *p, size_t n)
{
	static const char safe[] = ".:_%-0123456789abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char *name = line(&p, &n), *text = copy_text(p, n), number[8];
	struct buf b = { NULL, 0, 0, 0 }, want = { NULL, 0, 0, 0 };
	const char *s, *in;
	int r, may;

	if (name == NULL)
		name = copy_text("", 0);
	may = name[0] != '-' && name[strspn(name, safe)] == '\0';
	r = command_expand(&b, text, name, 8080, "/tmp/x y");
	if ((r == 0) != may || (r == -1 && b.len > 0))
		fail("'%s': %d", name, r);
	snprintf(number, sizeof(number), "%u", 8080U);
	for (s = text; r == 0 && *s != '\0'; s++) {
		in = NULL;
		if (*s == '%')
			in = s[1] == 'h' ? name : s[1] == 'p' ? number :
			    s[1] == 's' ? "/tmp/x y" : s[1] == '%' ? "%" :
			    NULL;
		if (in != NULL ? buf_put(&want, in, strlen(in)) :
		    buf_put(&want, s, 1))
			abort();
		s += in != NULL;
	}
	if (r == 0 && (b.len != want.len || (b.len > 0 && memcmp(b.p + b.off,
	    want.p + want.off, b.len) != 0)))
		fail("'%.*s'", (int)b.len, (char *)b.p + b.off);
	buf_free(&want);
	buf_free(&b);
	free(text);
	free(name);
}

static void
tls(const char *p, size_t n)
{
	static const size_t sizes[] = { 8, 64, 8192 };
	char *own = copy(p, n), *dst, *last = NULL;
	size_t i;

	for (i = 0; i < COUNT(sizes); i++, last = dst) {
		dst = xalloc(sizes[i]);
		dst[0] = 'x';
		tls_reason(dst, sizes[i], own, n);
		if (memchr(dst, '\0', sizes[i]) == NULL)
			fail("no end");
		if (last != NULL && strncmp(dst, last, strlen(last)) != 0)
			fail("'%s' cut is '%s'", dst, last);
		free(last);
	}
	if (strcmp(last, "x") != 0 && strncmp(last, "TLS failed: ", 12) != 0 &&
	    strncmp(last, "certificate not verified: ", 26) != 0)
		fail("'%s'", last);
	free(last);
	free(own);
}

static void
escape(const char *own, size_t n)
{
	static const size_t sizes[] = { 1, 5, 64, 4 * 4096 + 1 };
	char *dst, *last = NULL;
	size_t i, len;

	for (i = 0; i < COUNT(sizes); i++, last = dst) {
		dst = xalloc(sizes[i]);
		len = text_escape(dst, sizes[i], own, n);
		if (len >= sizes[i] || strlen(dst) != len || !printable(dst))
			fail("'%s' of %zu", dst, len);
		if (last != NULL && strncmp(dst, last, strlen(last)) != 0)
			fail("'%s' cut is '%s'", dst, last);
		free(last);
	}
	if (strlen(last) < n)
		fail("'%s' is not all", last);
	free(last);
}

/* The number that n digits are; -1: they are none. */
static int64_t
digits(const char *p, size_t n, size_t most)
{
	int64_t v = 0;
	size_t i;

	if (n == 0 || n > most)
		return -1;
	for (i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -1;
		v = 10 * v + (p[i] - '0');
	}
	return v;
}

static void
number(const char *own, size_t n)
{
	static struct head h;
	int64_t v = digits(own, n, 9);
	uint64_t value = 0;

	if (text_number(own, n, 1, 65535) != (v < 1 || v > 65535 ? -1 : v))
		fail("'%.*s' is another number", (int)n, own);
	h.nfields = 1;
	h.field[0].name = span("Tunnel-End");
	h.field[0].value.p = own;
	h.field[0].value.n = n;
	v = digits(own, n, 18);
	if (head_number(&h, "tunnel-end", &value) != (v == -1 ? -1 : 1) ||
	    (v != -1 && value != (uint64_t)v))
		fail("'%.*s' is another number", (int)n, own);
	if (head_number(&h, "Tunnel", &value) != 0)
		fail("a number that is not there");
}

/* Fields of lines and items of lists. */
static void
fields(const char *own, size_t n)
{
	struct span text, field[4], item;
	size_t nl = 0, commas = 0, i;
	int k, j;

	for (i = 0; i < n; i++) {
		nl += own[i] == '\n';
		commas += own[i] == ',';
	}
	nl += n > 0 && own[n - 1] != '\n';
	text.p = own;
	text.n = n;
	for (; (k = line_fields(&text, field, 4)) != -1; nl--) {
		inside(text, own, n, "the rest");
		if (k > 5 || nl == 0)
			fail("%d fields", k);
		for (j = 0; j < k && j < 4; j++) {
			inside(field[j], own, n, "a field");
			if (field[j].n == 0 || field[j].p[0] == '#' ||
			    memchr(field[j].p, ' ', field[j].n) != NULL ||
			    memchr(field[j].p, '\n', field[j].n) != NULL)
				fail("'%.*s'", (int)field[j].n, field[j].p);
		}
	}
	if (nl != 0)
		fail("%zu lines more", nl);
	text.p = own;
	text.n = n;
	for (i = 0; list_next(&text, &item); i++) {
		inside(item, own, n, "an item");
		inside(text, own, n, "the rest");
		if (memchr(item.p, ',', item.n) != NULL)
			fail("'%.*s'", (int)item.n, item.p);
	}
	if (i != commas + (n > 0 && own[n - 1] != ','))
		fail("%zu items", i);
}

static void
words(const char *p, size_t n)
{
	char *own = copy(p, n);

	escape(own, n);
	number(own, n);
	fields(own, n);
	free(own);
}

/* ---- addresses and rules ----------------------------------------------- */

/*
 * A literal is what getaddrinfo(3) takes for one, and never a name.  They
 * differ in which scopes there may be.
 */
static void
literal(const char *p, size_t n)
{
	char *s = copy_text(p, n), text[ADDR_PORT_TEXT];
	struct addrinfo hints, *res = NULL;
	union addr a, b, list[LISTEN_ADDRS];
	int r = addr_literal(&a, s, 80), scope = strchr(s, '%') != NULL, gai;

	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_NUMERICHOST;
	gai = getaddrinfo(s, NULL, &hints, &res);
	if ((gai == 0) != (r == 0) && !scope)
		fail("'%s': %d, but %d to getaddrinfo", s, r, gai);
	if (r == 0) {
		memset(&b, 0, sizeof(b));
		if (res != NULL)
			memcpy(&b, res->ai_addr, res->ai_addrlen);
		if ((gai == 0 && !addr_same_host(&a, &b)) ||
		    addr_port(&a) != 80)
			fail("'%s' is %s", s, addr_text(text, &a));
		if (listen_addrs(list, s, 80) != 1 && !scope)
			fail("'%s' cannot be listened at", s);
		if (!addr_within(&a, &a, a.sa.sa_family == AF_INET ? 32 : 128))
			fail("'%s' is not within itself", s);
		addr_text_port(text, &a);
		addr_text(text, &a);
		if (!scope && (addr_literal(&b, text, 80) == -1 ||
		    !addr_same_host(&a, &b)))
			fail("'%s' is '%s'", s, text);
		addr_unmap(&a);
		b = a;
		addr_unmap(&b);
		if (!addr_same_host(&a, &b))
			fail("'%s' is mapped", s);
	}
	if (res != NULL)
		freeaddrinfo(res);
	free(s);
}

/* Whether the pattern fits, by all ways at once. */
static int
glob(const char *pattern, const char *name, size_t n)
{
	char *fits = xalloc(n + 1);
	size_t i;
	int r;

	fits[0] = 1;
	for (; *pattern != '\0'; pattern++) {
		if (*pattern == '*') {
			for (i = 1; i <= n; i++)
				fits[i] |= fits[i - 1];
			continue;
		}
		for (i = n; i > 0; i--)
			fits[i] = fits[i - 1] &&
			    strncasecmp(pattern, name + i - 1, 1) == 0;
		fits[0] = 0;
	}
	r = fits[n];
	free(fits);
	return r;
}

static int
ports_have(const char *s, unsigned port)
{
	unsigned lo, hi;
	int n;

	for (;; s++) {
		n = sscanf(s, "%u-%u", &lo, &hi);
		if (n > 0 && port >= lo && port <= (n == 2 ? hi : lo))
			return 1;
		if ((s = strchr(s, ',')) == NULL)
			return 0;
	}
}

/* "t" or "c", the rule in a line, and a name or an address. */
static void
rule(const char *p, size_t n)
{
	int client = byte(&p, &n) == 'c', literals, fits;
	char *text = line(&p, &n), *name = copy_text(p, n);
	struct rule *r = NULL, *twice = NULL;
	union addr a;
	unsigned port = 8080;
	size_t len = strlen(name);

	if (text == NULL)
		text = copy_text("", 0);
	if (rule_put(&r, text, client ? 'c' : 't') != NULL)
		goto end;
	literals = addr_literal(&a, name, port) == 0;
	if (literals)
		addr_unmap(&a);
	while (len > 1 && name[len - 1] == '.')
		len--;
	fits = rule_match(r, name, port, literals ? &a : NULL);
	if (r->name != NULL ? fits != ((r->ports == NULL ||
	    ports_have(r->ports, port)) && glob(r->name, name, len)) :
	    !fits && r->net.sa.sa_family == AF_UNSPEC)
		fail("'%s' and '%s': %d", text, name, fits);
	if (r->name == NULL && r->ports == NULL &&
	    r->net.sa.sa_family != AF_UNSPEC &&
	    !rule_match(r, "", port, &r->net))
		fail("'%s' has not its own address", text);
	if (r->ports != NULL && client)
		fail("a client's port");
	/* A rule's opposite is about the same. */
	if (!r->deny) {
		char *no = xalloc(strlen(text) + 2);

		sprintf(no, "!%s", text);
		if (rule_put(&twice, no, client ? 'c' : 't') != NULL ||
		    !twice->deny || rule_match(twice, name, port, literals ?
		    &a : NULL) != fits)
			fail("'%s' is about something else", no);
		free(no);
	}
end:
	rules_free(twice);
	rules_free(r);
	free(name);
	free(text);
}

/* ---- hops -------------------------------------------------------------- */

static void
coded_put(struct buf *b, const char *s)
{
	for (; *s != '\0'; s++)
		if (buf_fmt(b, "%%%02X", (unsigned)(unsigned char)*s) == -1)
			abort();
}

static int
text_same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Written anew, in full, it is the same. */
static void
hop_again(const struct hop *h)
{
	struct buf b = { NULL, 0, 0, 0 };
	struct hop *now = xalloc(sizeof(*now));
	size_t i;

	for (i = 0; i < SCHEMES - 1; i++)
		if (schemes[i].carriage == h->carriage &&
		    schemes[i].tls == h->tls)
			break;
	if (buf_fmt(&b, "%s://", schemes[i].name) == -1)
		abort();
	if (h->user != NULL) {
		coded_put(&b, h->user);
		if (h->pass != NULL && buf_put(&b, ":", 1) == 0)
			coded_put(&b, h->pass);
		if (buf_put(&b, "@", 1) == -1)
			abort();
	}
	if (buf_fmt(&b, "%s%s", h->who, h->path != NULL ? h->path : "") == -1 ||
	    buf_put(&b, "", 1) == -1)
		abort();
	/* A path may have an @, and then its end would be the host. */
	if (strchr(h->path != NULL ? h->path : "", '@') == NULL &&
	    (hop_parse(now, (char *)b.p + b.off) != NULL ||
	    now->carriage != h->carriage || now->tls != h->tls ||
	    now->port != h->port || strcmp(now->host, h->host) != 0 ||
	    strcmp(now->who, h->who) != 0 || !text_same(now->path, h->path) ||
	    !text_same(now->user, h->user) || !text_same(now->pass, h->pass)))
		fail("not the same: %s", (char *)b.p + b.off);
	buf_free(&b);
	hops_free(now);
}

static void
hop_judge(const struct hop *h)
{
	const char *s;

	if (h->arg != NULL)
		fail("a hop that is not parsed");
	if (h->carriage == BY_EXEC) {
		if (h->path == NULL || *h->path == '\0' || h->place > 0)
			fail("a command that cannot be");
		return;
	}
	host_sane(h->host);
	if (h->port < 1 || h->port > 65535 || (h->pass != NULL &&
	    h->user == NULL) || (h->user != NULL && (has_control(h->user) ||
	    strchr(h->user, ':') != NULL)))
		fail("'%s'", h->who);
	if ((h->path == NULL) != (h->carriage == BY_CONNECT))
		fail("'%s' and a path", h->who);
	for (s = h->path; s != NULL && *s != '\0'; s++)
		if (*s < 0x21 || *s > 0x7e || *s == '#' || h->path[0] != '/')
			fail("the path '%s'", h->path);
	hop_again(h);
}

/* Of what ps(1) shows only the password is hidden, and all of it. */
static void
mask_judge(const char *text)
{
	char *own = copy_text(text, strlen(text));
	struct url u;
	size_t i, from, n;

	hop_mask(own);
	url_split(&u, text);
	from = u.pass.n > 0 && !hop_is_command(text) ?
	    (size_t)(u.pass.p - text) : 0;
	n = from > 0 ? u.pass.n : 0;
	for (i = 0; text[i] != '\0'; i++)
		if (own[i] != (i >= from && i - from < n ? '*' : text[i]))
			fail("'%s' is masked as '%s'", text, own);
	free(own);
}

/* "c", "w" or "p", which is -X's, and a hop in each line. */
static void
hops(const char *p, size_t n)
{
	struct hop *list = NULL, **tail = &list, *h, *o;
	char *text, *said;
	const char *wrong;
	int c = byte(&p, &n), i;

	opt.carriage = c == 'w' ? BY_WS : c == 'p' ? BY_POLL : BY_CONNECT;
	for (i = 0; i < HOPS_MAX && (text = line(&p, &n)) != NULL; i++) {
		mask_judge(text);
		*tail = hop_new(text, strlen(text));
		tail = &(*tail)->next;
		free(text);
	}
	if ((wrong = hops_read(list, &said)) != NULL)
		free(said);
	for (h = list, i = 0; wrong == NULL && h != NULL; h = h->next, i++)
		for (o = h; o != NULL; o = o->other) {
			if (o->place != i || o->next != h->next)
				fail("a hop in place %d", (int)o->place);
			hop_judge(o);
		}
	hops_free(list);
	opt.carriage = BY_CONNECT;
}

/* ---- files and the environment ----------------------------------------- */

static void
forwards(const char *p, size_t n)
{
	struct forward *list = NULL, *f;
	const char *wrong;
	struct span text;
	char *own = copy(p, n);
	int lines = 1;

	text.p = own;
	text.n = n;
	wrong = lines_read(&list, text);
	for (; n > 0; n--)
		lines += *p++ == '\n';
	if (wrong != NULL && (source.line < 1 || source.line > lines ||
	    strchr(wrong, '@') != NULL))
		fail("line %d: %s", source.line, wrong);
	for (f = list; wrong == NULL && f != NULL; f = f->next) {
		if (f->naddrs < 1 || f->port > 65535 || f->hostport < 1 ||
		    f->hostport > 65535 || f->line < 1 || f->line > lines)
			fail("line %d", f->line);
		host_sane(f->host);
		if (f->hops != NULL)
			hop_judge(f->hops);
	}
	/* as file_judge() does */
	while ((f = list) != NULL) {
		list = f->next;
		forward_free(f);
	}
	if (routes != NULL)
		fail("routes are left");
	free(own);
}

static void
creds(const char *p, size_t n)
{
	struct cred *list = NULL, *c;
	const struct cred *found;
	char *own = malloc(n + 1), pair[CRED_MAX + 1];
	const char *wrong, *end = p + n, *nl;
	int number = 0, lines = 1, want = 0;

	if (own == NULL)
		abort();
	if (n > 0)
		memcpy(own, p, n);
	wrong = cred_lines(own, own + n, &list, &number);
	for (; (nl = memchr(p, '\n', (size_t)(end - p))) != NULL; p = nl + 1) {
		want += nl > p && *p != '#';
		lines++;
	}
	want += end > p && *p != '#';
	if (wrong != NULL && (number < 1 || number > lines))
		fail("line %d of %d", number, lines);
	opt.creds = list;
	for (c = list; c != NULL && wrong == NULL; c = c->next, want--) {
		if (strlen(c->user) + strlen(c->pass) >= CRED_MAX ||
		    strchr(c->user, ':') != NULL || has_control(c->user) ||
		    has_control(c->pass))
			fail("'%s'", c->user);
		snprintf(pair, sizeof(pair), "%s:%s", c->user, c->pass);
		found = cred_find(pair, strlen(pair));
		if (found == NULL || strcmp(found->user, c->user) != 0 ||
		    strcmp(found->pass, c->pass) != 0)
			fail("'%s' is not found", pair);
	}
	opt.creds = NULL;
	if (wrong == NULL && want != 0)
		fail("%d lines more", want);
	cred_free(list);
	free(own);
}

/* A host in a line, and an entry of no_proxy. */
static void
no_proxies(const char *p, size_t n)
{
	char *name = line(&p, &n), *own = copy(p, n), *sub;
	union addr a;
	int r, literals;

	if (name == NULL)
		name = copy_text("", 0);
	literals = addr_literal(&a, name, 0) == 0;
	r = no_proxy_entry(own, n, name, literals ? &a : NULL);
	if (literals) {
		free(own);
		own = copy(name, strlen(name));
		if (strlen(name) < INET6_ADDRSTRLEN &&
		    !no_proxy_entry(own, strlen(name), name, &a))
			fail("'%s' is not itself", name);
	} else {
		sub = xalloc(strlen(name) + 8);
		sprintf(sub, "sub.%s", name);
		if (r && !no_proxy_entry(own, n, sub, NULL))
			fail("'%s' is not within it", sub);
		if (strlen(name) > 1 && name[0] != '.' && strstr(name, "..") ==
		    NULL && (!no_proxy_entry(name, strlen(name), sub, NULL) ||
		    !no_proxy_entry(sub + 3, strlen(name) + 1, name, NULL)))
			fail("'%s' is not itself", name);
		free(sub);
	}
	free(own);
	free(name);
}

/* ---- all of them ------------------------------------------------------- */

static const struct {
	char		 letter;
	const char	*name;
	void		(*judge)(const char *, size_t);
} subjects[] = {
	{ 'q', "request", request }, { 'r', "reply", reply },
	{ 'c', "chunked", chunked }, { 'm', "message", message },
	{ 'p', "piece", piece }, { 'w', "frames", frames },
	{ 'e', "frame", frame }, { 'h', "host", host }, { 'u', "url", url },
	{ 'i', "poll", poll }, { 'f', "form", form }, { 'a', "auth", auth },
	{ 'b', "base64", base64 }, { 'x', "command", command },
	{ 't', "tls", tls }, { 'n', "words", words },
	{ 'l', "literal", literal }, { 'R', "rule", rule },
	{ 'H', "hops", hops }, { 'F', "forwards", forwards },
	{ 'C', "creds", creds }, { 'N', "no_proxy", no_proxies },
};

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	unsetenv("HTTPTUN_TLS");
	unsetenv("HTTPTUN_AUTH");
	reach.literals = 1;		/* no look-ups */
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	size_t i;

	for (i = 0; i < COUNT(subjects) && n > 0; i++)
		if (subjects[i].letter == (char)bytes[0]) {
			subject = subjects[i].name;
			subjects[i].judge((const char *)bytes + 1, n - 1);
		}
	return 0;
}
