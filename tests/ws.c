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
 * The WebSocket carrier (RFC 6455), with scripted peers: a client of
 * `httptun -l`, and a server that `httptun -x ws://...` and the plain bridge
 * `httptun ws://...` find.  Every frame that the program sends is checked for
 * what section 5 of the RFC asks.  Other people's programs never come here.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>
#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kit.h"

#define NONE		((char *)NULL)
#define LOCAL		"127.0.0.1", "0", NONE
#define HOST		"target.example"	/* never looked up */
#define PORT		"5432"
#define AUTHORITY	HOST ":" PORT
#define MB		((uint64_t)1 << 20)
#define KB		((uint64_t)1 << 10)
#define PEAK		8192	/* KiB that the program may ever take */
#define SLACK		64	/* KiB by which the allocator may err */
#define FRAME_MAX	(64 * MB)		/* that it takes */
#define KEY		KIT_WS_KEY
#define ACCEPT		KIT_WS_ACCEPT

/* who will ask on it: the client, the server; NULL stands for no protocol */
#define ASKS		"connect.httptun"
#define ASKED		"exit.httptun"

/* The proxy under test, and a target for it. */
static struct kit_proxy	px;
static int		tl;
static unsigned		tport;


/* ---- frames (RFC 6455, 5) ------------------------------------------------ */

/* of the kit's names those that are often used, in tables above all */
enum {
	CONT = KIT_WS_CONT, TEXT = KIT_WS_TEXT, BINARY = KIT_WS_BINARY,
	CLOSE = KIT_WS_CLOSE, PING = KIT_WS_PING, PONG = KIT_WS_PONG,
	FIN = KIT_WS_FIN, RSV1 = KIT_WS_RSV1, RSV2 = KIT_WS_RSV2,
	RSV3 = KIT_WS_RSV3
};

#define SHORTEST	KIT_WS_SHORTEST
#define FORM16		KIT_WS_16
#define FORM64		KIT_WS_64

/* 0: a Close without a code; the other side must be there. */
static void
ws_close(const struct kit_ws *w, int code)
{
	unsigned char data[2] = {
		(unsigned char)(code >> 8), (unsigned char)code
	};

	kit_ws_send(w, FIN | CLOSE, data, code == 0 ? 0 : 2);
}

/* Frames that are to leave together. */
struct ws_wire {
	size_t		 n;
	unsigned char	 b[8192];
};

static void
ws_add(struct ws_wire *o, int masks, unsigned b0, const char *text)
{
	assert_true(o->n + strlen(text) + 14 <= sizeof(o->b));
	o->n += kit_ws_make(o->b + o->n, masks, b0, SHORTEST, text,
	    strlen(text));
}

/* The next frame that is no Pong, which may come at any time; whole. */
static const struct kit_ws_frame *
ws_next(struct kit_ws *w)
{
	static struct kit_ws_frame f;

	do {
		kit_ws_read_head(w, &f);
		kit_ws_read_data(w, &f);
	} while (f.op == PONG);
	return &f;
}

/* Exactly n bytes of the stream that the binary messages are. */
static void
ws_recv(struct kit_ws *w, void *buf, size_t n)
{
	static struct kit_ws_frame f;
	unsigned char *p = buf;
	size_t some;

	while (n > 0) {
		while (w->left == 0) {
			kit_ws_read_head(w, &f);
			if (f.op == PONG) {
				kit_ws_read_data(w, &f);
				continue;
			}
			if (f.op >= CLOSE || f.op == TEXT)
				kit_ws_read_data(w, &f);
			if (f.op >= CLOSE || f.op == TEXT)
				kit_fail("opcode %u with %ju bytes <<%s>> and "
				    "no data", f.op, (uintmax_t)f.len, f.data);
			w->left = f.len;
			memcpy(w->key, f.key, 4);
			w->at = 0;
		}
		some = w->left < n ? (size_t)w->left : n;
		kit_recv(w->fd, p, some);
		kit_ws_mask(p, some, w->key, &w->at);
		p += some;
		n -= some;
		w->left -= some;
	}
}

/* Exactly these bytes come next, as binary messages. */
static void
ws_expect(struct kit_ws *w, const char *s)
{
	size_t len = strlen(s);
	char buf[4096];

	assert_true(len < sizeof(buf));
	kit_note("wait for <<%s>> in messages on %d", s, w->fd);
	ws_recv(w, buf, len);
	buf[len] = '\0';
	if (memcmp(buf, s, len) != 0)
		kit_fail("<<%s>>\n    came and not <<%s>>", buf, s);
}

/* A message's head, with its empty line. */
static size_t
ws_head(struct kit_ws *w, char *buf, size_t size)
{
	size_t n = 0;

	while (n + 1 < size) {
		ws_recv(w, buf + n, 1);
		buf[++n] = '\0';
		if (n >= 4 && strcmp(buf + n - 4, "\r\n\r\n") == 0)
			return n;
	}
	kit_fail("no head within %zu bytes", size);
}

/* A whole reply of this status. */
static const char *
ws_reply(struct kit_ws *w, int status)
{
	char buf[4096];
	size_t n = ws_head(w, buf, sizeof(buf) / 2), len;

	if (strncmp(buf, kit_str("HTTP/1.1 %d ", status), 13) != 0)
		kit_fail("<<%s>> and no %d", buf, status);
	len = strtoul(kit_must_have(buf, "Content-Length", ""), NULL, 10);
	assert_true(len < sizeof(buf) / 2);
	ws_recv(w, buf + n, len);
	buf[n + len] = '\0';
	return kit_str("%s", buf);
}

/* A Pong with this payload has come, or comes next. */
static void
ws_expect_pong(struct kit_ws *w, const char *payload)
{
	static struct kit_ws_frame f;

	if (w->pong[0] == '\0') {
		kit_ws_read_head(w, &f);
		if (f.op != PONG)
			kit_fail("opcode %u and no Pong", f.op);
		kit_ws_read_data(w, &f);
	}
	if (strcmp(w->pong, payload) != 0)
		kit_fail("the Pong is <<%s>> and not <<%s>>", w->pong,
		    payload);
	w->pong[0] = '\0';
}

static void
ws_expect_end(struct kit_ws *w)
{
	const struct kit_ws_frame *f;

	kit_note("wait for end on %d", w->fd);
	f = ws_next(w);
	if (f->op != TEXT || !f->fin || strcmp((const char *)f->data,
	    "end") != 0)
		kit_fail("opcode %u with <<%s>> and not \"end\"", f->op,
		    f->data);
}

/* UTF-8 (RFC 3629, 4) without what lies beyond the first plane, which
 * nobody needs for a reason. */
static void
reason_is_text(const unsigned char *s, uint64_t n)
{
	uint64_t i, k, more;

	for (i = 0; i < n; i += 1 + more) {
		more = s[i] < 0x80 ? 0 : s[i] >= 0xc2 && s[i] < 0xe0 ? 1 : 2;
		if (s[i] >= 0xf0 || (s[i] >= 0x80 && s[i] < 0xc2) ||
		    i + more >= n)
			kit_fail("the reason is no UTF-8");
		for (k = 1; k <= more; k++)
			if ((s[i + k] & 0xc0) != 0x80)
				kit_fail("the reason is no UTF-8");
	}
}

/* The Close's code; 0: it has none. */
static int
close_code(const struct kit_ws_frame *f)
{
	if (f->op != CLOSE)
		kit_fail("opcode %u with <<%s>> and no Close", f->op, f->data);
	if (f->len == 1)
		kit_fail("half a Close code");
	if (f->len == 0)
		return 0;
	reason_is_text(f->data + 2, f->len - 2);
	return f->data[0] << 8 | f->data[1];
}

/* A Close with this code comes next. */
static void
ws_expect_close(struct kit_ws *w, int code)
{
	int got;

	kit_note("wait for Close %d on %d", code, w->fd);
	got = close_code(ws_next(w));
	if (got != code)
		kit_fail("Close %d and not %d", got, code);
}

/* Whatever data come before it. */
static void
ws_until_close(struct kit_ws *w, int code)
{
	const struct kit_ws_frame *f;

	kit_note("wait for Close %d at last on %d", code, w->fd);
	while (w->left > 0) {
		unsigned char byte;

		ws_recv(w, &byte, 1);
	}
	do {
		f = ws_next(w);
	} while (f->op < CLOSE);
	if (close_code(f) != code)
		kit_fail("Close %d and not %d", close_code(f), code);
}

/* Our Close, where the other side may be gone already; then its end. */
static void
ws_part(const struct kit_ws *w, int code)
{
	kit_ws_close(w, code);
	(void)kit_until_end(w->fd);
	(void)close(w->fd);
}


/* ---- handshakes (RFC 6455, 4) -------------------------------------------- */

/* An open WebSocket on this connection. */
static struct kit_ws
ws_client_on(int fd, const char *protocol)
{
	struct kit_ws w = { .client = 1 };

	w.fd = fd;
	kit_puts(fd, kit_ws_request(protocol == NULL ? "" :
	    kit_str("Sec-WebSocket-Protocol: %s\r\n", protocol)));
	kit_ws_upgraded(fd, protocol);
	return w;
}

/* One to the proxy under test. */
static struct kit_ws
ws_client(const char *protocol)
{
	return ws_client_on(kit_client(&px), protocol);
}

/* Both have said all there is, and the server has sent its Close. */
static void
ws_bye(struct kit_ws *w)
{
	ws_expect_close(w, 1000);
	ws_close(w, 1000);
	if (w->client)
		kit_eof(w->fd);		/* the server closes first (7.1.1) */
	(void)close(w->fd);
}


/* ---- patterned streams over frames --------------------------------------- */

/* As kit_stream, but where a WebSocket is given its messages carry it. */
struct stream {
	struct kit_ws	*w;		/* NULL: fd's bytes as they are */
	int		 fd;
	enum kit_dir	 dir;		/* as the test sees it */
	uint64_t	 bytes;
	unsigned	 seed;
	int		 end;		/* OUT: half-close or say "end" then,
					 * IN: it must come then */
	uint64_t	 cut;		/* OUT: bytes of a frame, 0: 16 KiB */
	int		 fragments;	/* OUT: of one message */
	int		 pings;		/* OUT: one before each frame */

	uint64_t	 done;
	int		 ended;
	int		 code;		/* IN: of a Close, without end only */
	unsigned	 pongs;		/* IN: how many have come */
	long		 number;	/* of the last Ping or Pong */

	struct kit_ws_frame	 f;	/* the frame that is under way */
	uint64_t	 left;		/* of its payload */
	unsigned	 at;		/* in its key */
	unsigned char	 head[14];	/* IN: what there is of the next one */
	size_t		 nhead;
	int		 in_control;	/* IN: its payload goes to f.data */
	unsigned char	 buf[32768];	/* OUT: what has not gone yet */
	size_t		 off, len;
};

/* One of the next eight; older ones are over. */
static struct stream *
stream(struct kit_ws *w, int fd, enum kit_dir dir, uint64_t bytes,
    unsigned seed)
{
	static struct stream pool[8];
	static size_t n;
	struct stream *s = &pool[n++ % KIT_COUNT(pool)];

	memset(s, 0, sizeof(*s));
	s->w = w;
	s->fd = w != NULL ? w->fd : fd;
	s->dir = dir;
	s->bytes = bytes;
	s->seed = seed;
	s->end = 1;
	s->number = -1;
	return s;
}

/* Begins the next frame, or says the end. */
static void
begin_frame(struct stream *s)
{
	uint64_t cut = s->cut > 0 ? s->cut : 16 * KB, left = s->bytes - s->done;
	unsigned b0 = s->fragments && s->done > 0 ? CONT : BINARY;
	char number[24];

	if (left == 0) {
		if (s->end && s->w != NULL)
			s->len = kit_ws_make(s->buf, s->w->client, FIN | TEXT,
			    SHORTEST, "end", 3);
		s->ended = 1;
		return;
	}
	s->left = cut < left ? cut : left;
	if (!s->fragments || s->left == left)
		b0 |= FIN;
	s->at = 0;
	if (s->pings)
		s->len = kit_ws_make(s->buf, s->w->client, FIN | PING, SHORTEST,
		    number, (size_t)sprintf(number, "%ld", ++s->number));
	if (s->w != NULL)
		s->len += kit_ws_make_head(s->buf + s->len, s->w->client, b0,
		    SHORTEST, s->left, s->f.key);
}

/* Something for the buffer, which is empty. */
static void
fill(struct stream *s)
{
	size_t n = sizeof(s->buf) - 64;		/* heads and a Ping */

	s->off = s->len = 0;
	if (s->left == 0)
		begin_frame(s);
	if (s->left < n)
		n = (size_t)s->left;
	kit_fill(s->buf + s->len, n, s->seed, s->done);
	if (s->w != NULL && s->w->client)
		kit_ws_mask(s->buf + s->len, n, s->f.key, &s->at);
	s->len += n;
	s->left -= n;
	s->done += n;
}

/* One write; has anything gone? */
static int
move_out(struct stream *s)
{
	ssize_t n;

	if (s->off == s->len)
		fill(s);
	n = write(s->fd, s->buf + s->off, s->len - s->off);
	if (n == -1 && errno != EAGAIN)
		kit_fail("stream %u out at %ju: %s", s->seed,
		    (uintmax_t)s->done, strerror(errno));
	s->off += n > 0 ? (size_t)n : 0;
	return n > 0;
}

/* A control frame or text that has come whole in the midst of a stream. */
static void
other_frame(struct stream *s)
{
	long number;

	s->f.data[s->f.len] = '\0';
	if (s->f.op == PONG) {
		number = strtol((char *)s->f.data, NULL, 10);
		if (s->f.len > 0 && number <= s->number)
			kit_fail("Pong %ld after %ld", number, s->number);
		s->pongs++;
		s->number = number;
	} else if (s->f.op == CLOSE && !s->end)
		s->code = close_code(&s->f);
	else if (s->f.op == TEXT && s->end && s->done == s->bytes &&
	    !s->ended && strcmp((char *)s->f.data, "end") == 0)
		s->ended = 1;
	else
		kit_fail("opcode %u with <<%s>> in stream %u at %ju",
		    s->f.op, s->f.data, s->seed, (uintmax_t)s->done);
}

/* Takes up what comes of a frame's head; how many bytes. */
static size_t
take_head(struct stream *s, const unsigned char *p)
{
	s->head[s->nhead++] = *p;
	if (kit_ws_judge(s->w, s->head, s->nhead, &s->f) > 0)
		return 1;
	s->nhead = 0;
	s->left = s->f.len;
	s->at = 0;
	s->in_control = s->f.op != BINARY && s->f.op != CONT;
	if (s->in_control && s->left == 0)
		other_frame(s);
	return 1;
}

/* Takes up what comes of a frame's payload, n > 0; how many bytes. */
static size_t
take_payload(struct stream *s, unsigned char *p, size_t n)
{
	if (n > s->left)
		n = (size_t)s->left;
	kit_ws_mask(p, n, s->f.key, &s->at);
	if (s->in_control)
		memcpy(s->f.data + (s->f.len - s->left), p, n);
	else {
		if (n > s->bytes - s->done)
			kit_fail("stream %u goes on after %ju", s->seed,
			    (uintmax_t)s->bytes);
		kit_check(p, n, s->seed, s->done);
		s->done += n;
	}
	s->left -= n;
	if (s->in_control && s->left == 0)
		other_frame(s);
	return n;
}

/* As much as the stream may still have: of a WebSocket nothing behind it is
 * read. */
static size_t
wanted(struct stream *s, size_t size)
{
	uint64_t want;

	if (s->w == NULL)
		want = s->bytes - s->done + 1;
	else if (s->left > 0)
		want = s->left;
	else
		want = kit_ws_judge(s->w, s->head, s->nhead, &s->f);
	return want < size ? (size_t)want : size;
}

/* One read; has anything come? */
static int
move_in(struct stream *s)
{
	static unsigned char buf[65536];
	size_t used;
	ssize_t n = read(s->fd, buf, wanted(s, sizeof(buf)));

	if (n == -1 && errno == EAGAIN)
		return 0;
	if (n == -1 || (n == 0 && (s->w != NULL || !s->end ||
	    s->done < s->bytes)))
		kit_fail("stream %u in at %ju of %ju: %s", s->seed,
		    (uintmax_t)s->done, (uintmax_t)s->bytes,
		    n == 0 ? "end of file" : strerror(errno));
	if (s->w == NULL) {
		if ((uint64_t)n > s->bytes - s->done)
			kit_fail("stream %u goes on after %ju", s->seed,
			    (uintmax_t)s->bytes);
		kit_check(buf, (size_t)n, s->seed, s->done);
		s->done += (uint64_t)n;
		s->ended = n == 0;
		return 1;
	}
	for (used = 0; used < (size_t)n; )
		used += s->left > 0 ? take_payload(s, buf + used,
		    (size_t)n - used) : take_head(s, buf + used);
	return 1;
}

static int
finished(const struct stream *s)
{
	if (s->dir == KIT_OUT)
		return s->done == s->bytes && s->left == 0 &&
		    s->off == s->len && s->ended;
	return s->done == s->bytes && s->left == 0 && s->nhead == 0 &&
	    s->ended == s->end;
}

static int
move(struct stream *s)
{
	return s->dir == KIT_OUT ? move_out(s) : move_in(s);
}

/* Moves all streams at once (NULL ends them); fails when nothing moves any
 * more. */
static void
pump(struct stream *first, ...)
{
	struct stream *s[8] = { first };
	struct pollfd pfd[8];
	int64_t end = kit_now() + kit_patience();
	size_t i, n = 0, left;
	va_list ap;

	va_start(ap, first);
	while (s[n] != NULL)
		s[++n] = va_arg(ap, struct stream *);
	va_end(ap);
	for (i = 0, left = n; i < n; i++) {
		kit_nonblock(s[i]->fd, 1);
		pfd[i].fd = s[i]->fd;
		pfd[i].events = s[i]->dir == KIT_OUT ? POLLOUT : POLLIN;
	}
	while (left > 0 && kit_now() < end) {
		(void)poll(pfd, (nfds_t)n, 50);
		for (i = 0; i < n; i++) {
			if (pfd[i].fd == -1 || (pfd[i].revents == 0 &&
			    !finished(s[i])))
				continue;
			if (!finished(s[i]) && move(s[i]))
				end = kit_now() + kit_patience();
			if (!finished(s[i]))
				continue;
			pfd[i].fd = -1;
			left--;
			if (s[i]->dir == KIT_OUT && s[i]->end &&
			    s[i]->w == NULL)
				kit_half_close(s[i]->fd);
		}
	}
	for (i = 0; i < n; i++) {
		if (!finished(s[i]))
			kit_fail("stream %u stands at %ju of %ju", s[i]->seed,
			    (uintmax_t)s[i]->done, (uintmax_t)s[i]->bytes);
		kit_nonblock(s[i]->fd, 0);
	}
}

/* Sends of a stream what goes until nothing has gone for so many ms. */
static void
stuff(struct stream *s, int ms)
{
	struct pollfd pfd = { .fd = s->fd, .events = POLLOUT };

	kit_nonblock(s->fd, 1);
	while (!finished(s) && poll(&pfd, 1, ms) > 0)
		(void)move_out(s);
	kit_nonblock(s->fd, 0);
	kit_note("stream %u is stuffed at %ju", s->seed, (uintmax_t)s->done);
	if (s->done > s->bytes / 2)
		kit_fail("%ju bytes went to a reader that does not read",
		    (uintmax_t)s->done);
}


/* ---- `httptun -l`: the handshake ----------------------------------------- */

/* Starts `httptun -l` with these arguments, and a target. */
static void
serve(const char *arg, ...)
{
	va_list ap;

	va_start(ap, arg);
	kit_proxy_is(&px, kit_server(NULL, arg, ap));
	va_end(ap);
	tl = kit_listen(AF_INET, &tport);
}

/* Nothing is left of whatever was asked. */
static void
settles(void)
{
	kit_proxy_settles(&px);
}

/* It has taken up all that was sent. */
static void
rests(void)
{
	kit_proxy_rests(&px);
}

/* A tunnel: the client's WebSocket and the target's end. */
struct pair {
	struct kit_ws	 c;
	int		 t;
};

/* One that is asked for on this WebSocket. */
static struct pair
tunnel_on(struct kit_ws w)
{
	struct pair p;

	p.c = w;
	kit_ws_puts(&p.c, kit_request_to(tport));
	p.t = kit_accept(tl);
	ws_expect(&p.c, KIT_OK);
	return p;
}

static struct pair
tunnel(const char *protocol)
{
	return tunnel_on(ws_client(protocol));
}

static void
carries(struct pair *p)
{
	kit_ws_puts(&p->c, "to the target");
	kit_expect(p->t, "to the target");
	kit_puts(p->t, "to the client");
	ws_expect(&p->c, "to the client");
}

/* It carries both ways, then ends in order, where `end` was agreed. */
static void
farewell(struct pair p)
{
	carries(&p);
	kit_ws_end(&p.c);
	kit_eof(p.t);
	kit_half_close(p.t);
	ws_expect_end(&p.c);
	ws_bye(&p.c);
	(void)close(p.t);
}

/* The same where it was not. */
static void
farewell_plain(struct pair p)
{
	carries(&p);
	kit_half_close(p.t);
	ws_bye(&p.c);
	kit_eof(p.t);
	(void)close(p.t);
}

/* A handshake and a tunnel without `end`, for these lines. */
static void
is_upgraded(const char *request)
{
	struct kit_ws w = { .client = 1 };

	kit_note("handshake <<%s>>", request);
	w.fd = kit_ask(&px, request);
	kit_ws_upgraded(w.fd, NULL);
	farewell_plain(tunnel_on(w));
}

#define KEY_LINE	"Sec-WebSocket-Key: " KEY "\r\n"
#define V13		"Sec-WebSocket-Version: 13\r\n"
#define UPGRADE		"Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define GET(path)	"GET " path " HTTP/1.1\r\nHost: here\r\n"

static void
handshakes(void **state)
{
	static const char *const requests[] = {
		GET("/") UPGRADE KEY_LINE V13 "\r\n",
		/* any path */
		GET("/tunnel/a%20b?c=d&e=/") UPGRADE KEY_LINE V13 "\r\n",
		GET("//") UPGRADE KEY_LINE V13 "\r\n",
		/* those of poll sessions are no others */
		GET("/550e8400-e29b-41d4-a716-446655440000") UPGRADE KEY_LINE
		    V13 "\r\n",
		GET("/x/0123456789abcdef0123456789abcdef") UPGRADE KEY_LINE
		    V13 "\r\n",
		/* as curl(1) asks, as Firefox, as Go */
		GET("/") "User-Agent: curl/8.5.0\r\nAccept: */*\r\n"
		    "Connection: Upgrade\r\nUpgrade: websocket\r\n" V13
		    KEY_LINE "\r\n",
		GET("/chat") "Accept-Encoding: gzip, deflate, br\r\n" V13
		    "Sec-WebSocket-Extensions: permessage-deflate\r\n"
		    KEY_LINE "DNT: 1\r\nConnection: keep-alive, Upgrade\r\n"
		    "Cookie: a=b\r\nPragma: no-cache\r\n"
		    "Upgrade: websocket\r\n\r\n",
		GET("/") "Connection: upgrade\r\nUpgrade: WebSocket\r\n"
		    "sec-websocket-key:" KEY "\r\n"
		    "SEC-WEBSOCKET-VERSION:\t13 \r\n\r\n",
		/* lists, in lines and in one */
		GET("/") "Connection: keep-alive\r\nConnection: , UPGRADE,\r\n"
		    "Upgrade: websocket\r\n" KEY_LINE V13 "\r\n",
		GET("/") UPGRADE KEY_LINE V13
		    "Sec-WebSocket-Extensions: foo\r\n"
		    "Sec-WebSocket-Extensions: bar; a=\"b\", foo\r\n\r\n"
	};
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(requests); i++)
		is_upgraded(requests[i]);
	settles();
}

/* Another key than the RFC's gets another answer. */
static void
accepts_of_keys(void **state)
{
	static const char *const keys[] = {
		KEY, "AAAAAAAAAAAAAAAAAAAAAA==", "/////////////////////w==",
		"AQIDBAUGBwgJCgsMDQ4PEA==", "x3JJHMbDL1EzLkh9GBhXDw=="
	};
	char head[4096];
	size_t i;
	int c;

	(void)state;
	assert_string_equal(kit_ws_accept(KEY), ACCEPT);
	/* the other pair that everybody knows */
	assert_string_equal(kit_ws_accept("x3JJHMbDL1EzLkh9GBhXDw=="),
	    "HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(keys); i++) {
		c = kit_ask(&px, kit_str(GET("/") UPGRADE V13
		    "Sec-WebSocket-Key: %s\r\n\r\n", keys[i]));
		(void)kit_head(c, head, sizeof(head));
		kit_field_is(head, "Sec-WebSocket-Accept",
		    kit_ws_accept(keys[i]));
		(void)close(c);
	}
	settles();
}

#define P(list)	"Sec-WebSocket-Protocol: " list "\r\n"

static void
protocols(void **state)
{
	static const struct {
		const char	*fields;
		const char	*echo;		/* NULL: none */
	} cases[] = {
		{ P(ASKS), ASKS },
		{ P("chat, " ASKS), ASKS },
		{ P(ASKS ",chat"), ASKS },
		{ P("chat\t,\tsuperchat ,, " ASKS), ASKS },
		{ P("chat") P("superchat, " ASKS), ASKS },
		{ P("chat") "X: y\r\n" P(ASKS), ASKS },
		/* the first known one */
		{ P(ASKS ", " ASKED), ASKS },
		{ P("chat, " ASKS ", " ASKED), ASKS },
		{ P(ASKS) P(ASKED), ASKS },
		/* no known one */
		{ P("chat"), NULL },
		{ P("chat, superchat"), NULL },
		{ P(ASKS "s"), NULL },
		{ P("x" ASKS), NULL },
		{ P("connect"), NULL },
		{ "", NULL }
	};
	struct kit_ws w = { .client = 1 };
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("protocols <<%s>>", cases[i].fields);
		w.fd = kit_ask(&px, kit_ws_request(cases[i].fields));
		kit_ws_upgraded(w.fd, cases[i].echo);
		if (cases[i].echo != NULL)
			farewell(tunnel_on(w));
		else
			farewell_plain(tunnel_on(w));
	}
	settles();
}

static const struct {
	const char	*request;
	int		 status;
	enum kit_after	 after;
} refused[] = {
	/* keys */
	{ GET("/") UPGRADE V13 "\r\n", 400, KIT_EITHER },
	{ GET("/") UPGRADE V13 "Sec-WebSocket-Key:\r\n\r\n", 400, KIT_EITHER },
	{ GET("/") UPGRADE V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n",
	    400, KIT_EITHER },
	{ GET("/") UPGRADE V13
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=\r\n\r\n",
	    400, KIT_EITHER },
	{ GET("/") UPGRADE V13
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n\r\n",
	    400, KIT_EITHER },
	{ GET("/") UPGRADE V13
	    "Sec-WebSocket-Key: dGhlIHNhbXBs*SBub25jZQ==\r\n\r\n",
	    400, KIT_EITHER },
	{ GET("/") UPGRADE V13
	    "Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ==\r\n\r\n",
	    400, KIT_EITHER },
	{ GET("/") UPGRADE V13 KEY_LINE KEY_LINE "\r\n", 400, KIT_EITHER },
	{ GET("/") UPGRADE V13 KEY_LINE
	    "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
	    400, KIT_EITHER },
	{ GET("/") UPGRADE V13 "Sec-WebSocket-Key: " KEY ", " KEY "\r\n\r\n",
	    400, KIT_EITHER },
	/* what is no GET of HTTP/1.1 */
	{ "GET / HTTP/1.0\r\nHost: here\r\n" UPGRADE KEY_LINE V13 "\r\n",
	    400, KIT_EITHER },
	{ "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n" UPGRADE
	    KEY_LINE V13 "\r\n", 400, KIT_EITHER },
	/* versions */
	{ GET("/") UPGRADE KEY_LINE "Sec-WebSocket-Version: 8\r\n\r\n",
	    426, KIT_STAYS },
	{ GET("/") UPGRADE KEY_LINE "Sec-WebSocket-Version: 0\r\n\r\n",
	    426, KIT_STAYS },
	{ GET("/") UPGRADE KEY_LINE "Sec-WebSocket-Version: 14\r\n\r\n",
	    426, KIT_STAYS },
	{ GET("/") UPGRADE KEY_LINE "Sec-WebSocket-Version: 131\r\n\r\n",
	    426, KIT_STAYS },
	/* web pages; what is not served */
	{ GET("/") "Origin: http://evil.example\r\n" UPGRADE KEY_LINE V13
	    "\r\n", 403, KIT_STAYS },
	{ GET("/") UPGRADE KEY_LINE V13 "origin: null\r\n\r\n",
	    403, KIT_STAYS },
	{ GET("/") UPGRADE KEY_LINE V13 "Origin:\r\n\r\n", 403, KIT_STAYS },
	{ GET("/") UPGRADE KEY_LINE V13 P(ASKED) "\r\n", 403, KIT_STAYS },
	{ GET("/") UPGRADE KEY_LINE V13 P("chat, " ASKED) "\r\n",
	    403, KIT_STAYS },
	{ GET("/") UPGRADE KEY_LINE V13 P(ASKED ", " ASKS) "\r\n",
	    403, KIT_STAYS },
	{ GET("/") UPGRADE KEY_LINE V13 P(ASKED) P(ASKS) "\r\n",
	    403, KIT_STAYS },
	/* the order in which they are found */
	{ GET("/") "Origin: x\r\n" UPGRADE "\r\n", 403, KIT_EITHER },
	{ GET("/") "Origin: x\r\n" UPGRADE KEY_LINE
	    "Sec-WebSocket-Version: 8\r\n\r\n", 403, KIT_EITHER },
	{ "GET / HTTP/1.1\r\nOrigin: x\r\n" UPGRADE KEY_LINE V13 "\r\n",
	    403, KIT_CLOSES },
	{ GET("/") "Host: two\r\nOrigin: x\r\n" UPGRADE KEY_LINE V13 "\r\n",
	    403, KIT_CLOSES },
	{ GET("/") UPGRADE "Sec-WebSocket-Version: 8\r\n\r\n",
	    400, KIT_EITHER },
	{ "GET / HTTP/1.1\r\n" UPGRADE KEY_LINE
	    "Sec-WebSocket-Version: 8\r\n\r\n", 400, KIT_CLOSES },
	{ GET("/") UPGRADE KEY_LINE "Sec-WebSocket-Version: 8\r\n" P(ASKED)
	    "\r\n", 426, KIT_EITHER },
	/* no upgrade at all */
	{ GET("/") "\r\n", 404, KIT_STAYS },
	{ GET("/") KEY_LINE V13 "\r\n", 404, KIT_STAYS },
	{ GET("/") "Origin: http://evil.example\r\n\r\n", 404, KIT_STAYS },
	{ GET("/") "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
	    404, KIT_STAYS }
};

/* Where the connection stays the next handshake on it is served. */
static void
handshakes_refused(void **state)
{
	size_t i;
	int c;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(refused); i++) {
		kit_note("refused %zu", i);
		c = kit_ask(&px, refused[i].request);
		(void)kit_refusal(c, refused[i].status, NULL,
		    refused[i].after);
		if (refused[i].after == KIT_STAYS)
			farewell(tunnel_on(ws_client_on(c, ASKS)));
		else
			(void)close(c);
	}
	/* RFC 6455, 4.4 */
	c = kit_ask(&px, GET("/") UPGRADE KEY_LINE
	    "Sec-WebSocket-Version: 7\r\n\r\n");
	kit_field_is(kit_reply(c, 426), "Sec-WebSocket-Version", "13");
	(void)close(c);
	settles();
}

static void
handshake_at_every_cut(void **state)
{
	const char *request = kit_ws_request(P("chat, " ASKS));
	size_t cut, len = strlen(request);
	struct kit_ws w = { .client = 1 };

	(void)state;
	serve(LOCAL);
	for (cut = 1; cut < len; cut++) {
		w.fd = kit_client(&px);
		kit_send(w.fd, request, cut);
		rests();
		kit_send(w.fd, request + cut, len - cut);
		kit_ws_upgraded(w.fd, ASKS);
		farewell(tunnel_on(w));
	}
	settles();
}


/* ---- `httptun -l`: credentials ------------------------------------------- */

static const char *
with(const char *field, const char *userpass)
{
	return kit_ws_request(kit_str(P(ASKS) "%s: %s\r\n", field,
	    kit_basic(userpass)));
}

/* A 401 for this request; the connection stays. */
static void
unauthorized(int c, const char *request)
{
	const char *reply;

	kit_note("without good credentials: <<%s>>", request);
	kit_puts(c, request);
	reply = kit_reply(c, 401);
	(void)kit_offers(reply, "WWW-Authenticate", 0);
	kit_field_is(reply, "Proxy-Authenticate", NULL);
	if (kit_lists(kit_field(reply, "Connection"), "close"))
		kit_fail("it closes: <<%s>>", reply);
}

static void
credentials(void **state)
{
	struct kit_ws w = { .client = 1 };
	int c;

	(void)state;
	serve("-a", kit_file("users", 0600, "alice:secret\nbob:x\n"), LOCAL);
	c = kit_client(&px);
	unauthorized(c, kit_ws_request(P(ASKS)));
	unauthorized(c, with("Authorization", "alice:wrong"));
	unauthorized(c, with("Authorization", "carol:secret"));
	unauthorized(c, with("Authorization", "alice:"));
	/* whose field is another one */
	unauthorized(c, with("Proxy-Authorization", "alice:secret"));
	unauthorized(c, kit_ws_request("Authorization: Bearer x\r\n"));
	/* in this order */
	unauthorized(c, GET("/") UPGRADE "\r\n");
	unauthorized(c, kit_ws_request(P(ASKED)));
	w.fd = c;
	kit_puts(c, with("Authorization", "alice:secret"));
	kit_ws_upgraded(c, ASKS);
	farewell(tunnel_on(w));

	c = kit_ask(&px, kit_ws_request("Origin: x\r\n"));
	(void)kit_refusal(c, 403, NULL, KIT_STAYS);
	(void)close(c);
	c = kit_ask(&px, "GET / HTTP/1.1\r\n" UPGRADE KEY_LINE V13 "\r\n");
	(void)kit_refusal(c, 401, NULL, KIT_CLOSES);
	(void)close(c);
	settles();
}

/* Inside nobody asks again, or looks at what is there; outside they do. */
static void
credentials_inside(void **state)
{
	struct kit_ws w = { .client = 1 };
	struct pair p;
	int c;

	(void)state;
	serve("-a", kit_file("users", 0600, "bob:x\n"), LOCAL);
	w.fd = kit_ask(&px, with("authorization", "bob:x"));
	kit_ws_upgraded(w.fd, ASKS);
	kit_ws_puts(&w, kit_request(kit_str("127.0.0.1:%u",
	    kit_nobody(AF_INET)), ""));
	(void)ws_reply(&w, 502);
	kit_ws_puts(&w, kit_request(kit_str("127.0.0.1:%u", tport),
	    kit_str("Proxy-Authorization: %s\r\n", kit_basic("bob:no"))));
	p.t = kit_accept(tl);
	ws_expect(&w, KIT_OK);
	p.c = w;
	farewell(p);

	c = kit_ask(&px, kit_request_to(tport));
	(void)kit_refusal(c, 407, NULL, KIT_STAYS);
	kit_untouched(tl);
	(void)close(c);
	settles();
}


/* ---- `httptun -l`: the CONNECT inside ------------------------------------ */

/* What a CONNECT with early data can look like: it is taken apart into
 * messages of so many fragments, each of so many bytes, with a Ping behind
 * each so many frames. */
static const struct {
	size_t	 bytes, fragments, pings;
} shapes[] = {
	{ 1000, 1, 0 }, { 1000, 1, 1 }, { 1, 1, 0 }, { 1, 1, 1 },
	{ 1, 1000, 0 }, { 1, 1000, 1 }, { 7, 3, 0 }, { 7, 3, 2 },
	{ 20, 2, 1 }, { 0, 2, 1 }
};

static void
take_apart(struct ws_wire *o, const char *text, size_t i)
{
	size_t len = strlen(text), at = 0, n, k;
	unsigned b0;

	/* 0: one frame with all of it, between empty ones */
	for (k = 0; at < len || k < 3; k++) {
		n = shapes[i].bytes != 0 ? shapes[i].bytes : k == 1 ? len : 0;
		n = n < len - at ? n : len - at;
		b0 = k % shapes[i].fragments == 0 ? BINARY : CONT;
		if (at + n == len || (k + 1) % shapes[i].fragments == 0)
			b0 |= FIN;
		ws_add(o, 1, b0, kit_str("%.*s", (int)n, text + at));
		at += n;
		if (shapes[i].pings != 0 && k % shapes[i].pings == 0)
			ws_add(o, 1, FIN | PING, kit_str("%zu", k));
		if (at == len && shapes[i].bytes != 0)
			return;
	}
}

static void
connect_in_all_shapes(void **state)
{
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(shapes); i++) {
		struct ws_wire o = { 0 };

		kit_note("shape %zu", i);
		take_apart(&o, kit_str("%searly", kit_request_to(tport)), i);
		p.c = ws_client(ASKS);
		kit_send(p.c.fd, o.b, o.n);
		p.t = kit_accept(tl);
		ws_expect(&p.c, KIT_OK);
		kit_expect(p.t, "early");
		farewell(p);
	}
	settles();
}

/* What stands behind the handshake and Pings are all over the place.  Of
 * Pongs that wait the last is enough (5.5.3). */
static void
connect_at_every_cut(void **state)
{
	const char *request;
	struct ws_wire o = { 0 };
	struct pair p;
	size_t cut;

	(void)state;
	serve(LOCAL);
	request = kit_request_to(tport);
	ws_add(&o, 1, FIN | PING, "1");
	ws_add(&o, 1, BINARY, kit_str("%.30s", request));
	ws_add(&o, 1, FIN | PONG, "nobody asked");
	ws_add(&o, 1, CONT, "");
	ws_add(&o, 1, FIN | PING, "2");
	ws_add(&o, 1, FIN | CONT, kit_str("%searly ", request + 30));
	ws_add(&o, 1, FIN | BINARY, "words");
	ws_add(&o, 1, TEXT, "e");
	ws_add(&o, 1, FIN | PING, "3");
	ws_add(&o, 1, FIN | CONT, "nd");
	for (cut = 1; cut < o.n; cut++) {
		p.c = ws_client(ASKS);
		kit_send(p.c.fd, o.b, cut);
		rests();
		kit_send(p.c.fd, o.b + cut, o.n - cut);
		p.t = kit_accept(tl);
		kit_expect(p.t, "early words");
		kit_eof(p.t);
		ws_expect(&p.c, KIT_OK);
		kit_puts(p.t, "answer");
		ws_expect(&p.c, "answer");
		ws_expect_pong(&p.c, "3");
		kit_half_close(p.t);
		ws_expect_end(&p.c);
		ws_bye(&p.c);
		(void)close(p.t);
	}
	settles();
}

/* A refused CONNECT leaves the WebSocket open, and the next is served. */
static void
connect_refused(void **state)
{
	unsigned nobody = kit_nobody(AF_INET);
	const char *reply;
	struct pair p;
	int i;

	(void)state;
	serve("-t", "!127.0.0.2", LOCAL);
	p.c = ws_client(ASKS);
	for (i = 0; i < 3; i++) {
		kit_ws_puts(&p.c, kit_request("127.0.0.2:1", ""));
		reply = ws_reply(&p.c, 403);
		(void)kit_must_have(reply, "Proxy-Status", "httptun; error=");
		kit_ws_puts(&p.c, kit_request(kit_str("127.0.0.1:%u",
		    nobody), ""));
		reply = ws_reply(&p.c, 502);
		(void)kit_must_have(reply, "Proxy-Status",
		    "httptun; error=connection_refused");
	}
	kit_ws_say(&p.c, FIN | PING, "alive");
	ws_expect_pong(&p.c, "alive");
	farewell(tunnel_on(p.c));

	/* who wants no other says so */
	p.c = ws_client(ASKS);
	kit_ws_puts(&p.c, kit_request("127.0.0.2:1", ""));
	(void)ws_reply(&p.c, 403);
	ws_close(&p.c, 1000);
	(void)close_code(ws_next(&p.c));
	kit_eof(p.c.fd);
	(void)close(p.c.fd);
	settles();
}

/* What is behind a refused CONNECT was the tunnel's, and is never parsed. */
static void
bytes_behind_a_refused_connect(void **state)
{
	const char *refused_one, *good;
	struct kit_ws w;
	int i;

	(void)state;
	serve("-t", "!127.0.0.2", LOCAL);
	refused_one = kit_request("127.0.0.2:1", "");
	good = kit_request_to(tport);
	for (i = 0; i < 3; i++) {
		struct ws_wire o = { 0 };

		kit_note("bytes behind it: %d", i);
		w = ws_client(i == 2 ? NULL : ASKS);
		if (i == 0)
			ws_add(&o, 1, FIN | BINARY, kit_str("%s%s",
			    refused_one, good));
		else {
			ws_add(&o, 1, FIN | BINARY, refused_one);
			ws_add(&o, 1, FIN | BINARY, good);
		}
		kit_send(w.fd, o.b, o.n);
		(void)ws_reply(&w, 403);
		ws_bye(&w);
	}
	kit_untouched(tl);
	settles();
}

/* Whatever is no request. */
static void
junk_inside(void **state)
{
	static const struct {
		const char	*bytes;
		int		 status;
	} cases[] = {
		{ "SSH-2.0-OpenSSH_9.2\r\n\r\n", 400 },
		{ "\x16\x03\x01\x02\r\n\r\n", 400 },
		{ "CONNECT  127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400 },
		{ "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
		    400 },
		{ "CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n", 400 },
		{ "CONNECT 127.0.0.1:1 HTTP/3.0\r\n\r\n", 505 }
	};
	struct kit_ws w;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("junk %zu", i);
		w = ws_client(i & 1 ? NULL : ASKS);
		kit_ws_puts(&w, cases[i].bytes);
		(void)ws_reply(&w, cases[i].status);
		ws_bye(&w);
	}
	/* a head that does not end, within the limits of one */
	w = ws_client(ASKS);
	kit_ws_say(&w, BINARY,
	    "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\nX: ");
	kit_ws_say(&w, CONT, kit_times(20000, "x"));
	(void)ws_reply(&w, 431);
	ws_bye(&w);
	settles();
}

/* A client that gives up while its target is being connected. */
static void
giving_up_while_connecting(void **state)
{
	static const struct {
		const char	*protocol;
		int		 code;		/* 0: TCP ends, -1: resets,
						 * -2: behind Close 1000 */
	} cases[] = {
		{ ASKS, -1 }, { ASKS, 0 }, { ASKS, 1001 }, { ASKS, 1000 },
		{ NULL, -1 }, { NULL, 0 }, { NULL, 1001 }, { NULL, -2 }
	};
	unsigned port;
	struct kit_ws w;
	size_t i;

	(void)state;
	serve(LOCAL);
	kit_blackhole(&port);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("giving up %zu", i);
		w = ws_client(cases[i].protocol);
		kit_ws_puts(&w, kit_request_to(port));
		rests();
		if (cases[i].code > 0)
			ws_part(&w, cases[i].code);
		else if (cases[i].code == 0)
			(void)close(w.fd);
		else {
			if (cases[i].code == -2)
				kit_ws_close(&w, 1000);
			kit_reset(w.fd);
		}
		settles();
	}
}


/* ---- `httptun -l`: the ends ---------------------------------------------- */

static void
end_client_first(void **state)
{
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel(ASKS);
	kit_ws_end(&p.c);
	kit_eof(p.t);
	pump(stream(NULL, p.t, KIT_OUT, 2 * MB, 1),
	    stream(&p.c, -1, KIT_IN, 2 * MB, 1), NULL);
	ws_bye(&p.c);
	settles();
}

static void
end_target_first(void **state)
{
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel(ASKS);
	kit_half_close(p.t);
	ws_expect_end(&p.c);
	pump(stream(&p.c, -1, KIT_OUT, 2 * MB, 1),
	    stream(NULL, p.t, KIT_IN, 2 * MB, 1), NULL);
	ws_bye(&p.c);
	settles();
}

/* Both at once; and Closes that cross. */
static void
end_crossing(void **state)
{
	struct ws_wire o = { 0 };
	struct pair p;
	int i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 50; i++) {
		p = tunnel(ASKS);
		if (i & 1)
			kit_ws_end(&p.c);
		kit_half_close(p.t);
		if (!(i & 1))
			kit_ws_end(&p.c);
		ws_expect_end(&p.c);
		kit_eof(p.t);
		ws_bye(&p.c);
		(void)close(p.t);
	}
	/* ours comes with the end, and so before theirs; what is behind it
	 * is nothing (5.5.1) */
	ws_add(&o, 1, FIN | TEXT, "end");
	ws_add(&o, 1, FIN | CLOSE, "\x03\xe8");
	ws_add(&o, 1, FIN | BINARY, "ignored");
	ws_add(&o, 0, FIN | RSV1 | PING, "this, too");
	p = tunnel(ASKS);
	kit_half_close(p.t);
	ws_expect_end(&p.c);
	kit_send(p.c.fd, o.b, o.n);
	kit_eof(p.t);
	ws_expect_close(&p.c, 1000);
	kit_eof(p.c.fd);
	settles();
}

static void
end_in_fragments(void **state)
{
	static const char *const cuts[] = {
		"e,nd", "en,d", "e,n,d", ",end", "end,", ",e,,nd,"
	};
	const char *s;
	struct pair p;
	size_t i, n;
	int ping;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(cuts); i++)
		for (ping = 0; ping < 2; ping++) {
			kit_note("end as %s, ping %d", cuts[i], ping);
			p = tunnel(ASKS);
			for (s = cuts[i]; ; s += n + 1) {
				n = strcspn(s, ",");
				kit_ws_send(&p.c, (s == cuts[i] ? TEXT : CONT) |
				    (s[n] == '\0' ? (unsigned)FIN : 0), s, n);
				if (s[n] == '\0')
					break;
				if (!ping)
					continue;
				kit_ws_say(&p.c, FIN | PING, cuts[i]);
				ws_expect_pong(&p.c, cuts[i]);
			}
			kit_eof(p.t);
			kit_half_close(p.t);
			ws_expect_end(&p.c);
			ws_bye(&p.c);
			(void)close(p.t);
		}
	settles();
}

/* It gets a Close with this code for what it did, and the target a reset. */
static void
breaks(struct pair *p, int code)
{
	ws_until_close(&p->c, code);
	ws_part(&p->c, code);
	kit_until_reset(p->t);
	(void)close(p->t);
}

/* Of text only `end` means anything, once and last. */
static void
other_text(void **state)
{
	static const char *const texts[] = {
		"", "e", "en", "endd", "END", "end ", " end", "end\n", "hello"
	};
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(texts); i++) {
		kit_note("text <<%s>>", texts[i]);
		p = tunnel(ASKS);
		kit_ws_say(&p.c, FIN | TEXT, texts[i]);
		breaks(&p, 1002);
	}
	/* one that goes on for ever is not waited for */
	p = tunnel(ASKS);
	kit_ws_say(&p.c, TEXT, "en");
	kit_ws_say(&p.c, CONT, "ough");
	breaks(&p, 1002);
	settles();
}

/* What follows `end` is pushed at a target that has seen the end of file. */
static void
data_after_end(void **state)
{
	static const struct {
		unsigned	 b0;
		const char	*data;
	} cases[] = {
		{ FIN | TEXT, "end" }, { FIN | BINARY, "data" },
		{ BINARY, "d" }, { FIN | TEXT, "other" }
	};
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("after end %zu", i);
		p = tunnel(ASKS);
		kit_ws_end(&p.c);
		kit_eof(p.t);
		kit_ws_say(&p.c, cases[i].b0, cases[i].data);
		ws_until_close(&p.c, 1002);
		ws_part(&p.c, 1002);
		kit_push_until_reset(p.t);
	}
	settles();
}

/* What does not count as the end of a tunnel breaks it. */
static void
close_before_both_ends(void **state)
{
	static const int codes[] = { 1000, 0, 1001, 1011, 3000, 4999 };
	struct pair p;
	size_t i;
	int said;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(codes); i++)
		for (said = 0; said < 3; said++) {
			kit_note("Close %d, end %d", codes[i], said);
			p = tunnel(ASKS);
			if (said == 1) {
				kit_ws_end(&p.c);
				kit_eof(p.t);
			} else if (said == 2) {
				kit_half_close(p.t);
				ws_expect_end(&p.c);
			}
			ws_close(&p.c, codes[i]);
			ws_expect_close(&p.c, 1011);
			kit_eof(p.c.fd);
			(void)close(p.c.fd);
			if (said == 1) {
				kit_push_until_reset(p.t);
				continue;
			}
			kit_expect_reset(p.t);
			(void)close(p.t);
		}
	settles();
}

/* An end of TCP is no end of the tunnel, wherever it comes. */
static void
tcp_ends_without_close(void **state)
{
	static const char *const before[] = {
		"", "\x82", "\x82\xfe", "\x82\xfe\x01\x00\x01\x02\x03\x04",
		"\x82\x85\x01\x02\x03\x04half", "\x89\x84\x01\x02\x03\x04pi",
		"\x02\x81\x01\x01\x01\x01x", "\x88\x82"
	};
	static const size_t len[] = { 0, 1, 2, 8, 10, 8, 7, 2 };
	enum kit_way how;
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(before); i++)
		for (how = KIT_WAY_CLOSE; how < KIT_WAYS; how++) {
			kit_note("TCP ends %zu %d", i, (int)how);
			p = tunnel(ASKS);
			kit_send(p.c.fd, before[i], len[i]);
			kit_vanish(p.c.fd, how);
			kit_until_reset(p.t);
			(void)close(p.t);
			if (how != KIT_WAY_HALF)
				continue;
			ws_expect_close(&p.c, 1011);
			kit_eof(p.c.fd);
			(void)close(p.c.fd);
		}
	/* and after one end */
	p = tunnel(ASKS);
	kit_ws_end(&p.c);
	kit_eof(p.t);
	(void)close(p.c.fd);
	kit_push_until_reset(p.t);
	p = tunnel(ASKS);
	kit_half_close(p.t);
	ws_expect_end(&p.c);
	(void)close(p.c.fd);
	kit_expect_reset(p.t);
	settles();
}

/* A target's reset is no end either. */
static void
target_resets(void **state)
{
	struct pair p;
	int i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 4; i++) {
		p = tunnel(i == 3 ? NULL : ASKS);
		if (i == 1) {
			kit_ws_end(&p.c);
			kit_eof(p.t);
		} else if (i == 2) {
			kit_puts(p.t, "last words");
			ws_expect(&p.c, "last words");
		}
		kit_reset(p.t);
		ws_expect_close(&p.c, 1011);
		ws_part(&p.c, 1011);
	}
	settles();
}


/* ---- `httptun -l`: where `end` was not agreed ---------------------------- */

/* Text is data, and its messages' limits mean nothing. */
static void
text_is_data(void **state)
{
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel(NULL);
	kit_ws_say(&p.c, FIN | TEXT, "end");
	kit_expect(p.t, "end");
	kit_ws_say(&p.c, TEXT, "one ");
	kit_ws_say(&p.c, CONT, "");
	kit_ws_say(&p.c, FIN | CONT, "two ");
	kit_ws_puts(&p.c, "three\xff ");
	kit_ws_say(&p.c, FIN | TEXT, "");
	kit_ws_say(&p.c, FIN | TEXT,
	    "f\xc3\xbcnf \xe2\x82\xac \xf0\x9f\x98\x80");
	kit_expect(p.t, "one two three\xff f\xc3\xbcnf \xe2\x82\xac "
	    "\xf0\x9f\x98\x80");
	farewell_plain(p);

	/* the CONNECT too */
	p.c = ws_client(NULL);
	kit_ws_say(&p.c, FIN | TEXT, kit_request_to(tport));
	p.t = kit_accept(tl);
	ws_expect(&p.c, KIT_OK);
	farewell_plain(p);
	settles();
}

/* A character may be cut anywhere. */
static void
text_at_every_cut(void **state)
{
	static const char text[] = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z";
	size_t len = sizeof(text) - 1, i, k;
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel(NULL);
	for (i = 0; i <= len; i++)
		for (k = i; k <= len; k++) {
			kit_ws_send(&p.c, TEXT, text, i);
			kit_ws_say(&p.c, FIN | PING, "between");
			kit_ws_send(&p.c, CONT, text + i, k - i);
			kit_ws_send(&p.c, FIN | CONT, text + k, len - k);
			kit_expect(p.t, text);
			ws_expect_pong(&p.c, "between");
		}
	farewell_plain(p);
	settles();
}

static void
text_that_is_no_utf8(void **state)
{
	static const char *const texts[] = {
		"\xff", "a\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe2\x82",
		"\xc3(", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80",
		"\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
		"\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf0\x9f\x98",
		"\xf0\x9f\x98z", "\xf8\x88\x80\x80\x80"
	};
	struct pair p;
	size_t i;
	int cut;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(texts); i++)
		for (cut = 0; cut < 2; cut++) {
			kit_note("text %zu, cut %d", i, cut);
			p = tunnel(NULL);
			if (cut) {
				kit_ws_send(&p.c, TEXT, texts[i], 1);
				kit_ws_say(&p.c, FIN | CONT, texts[i] + 1);
			} else
				kit_ws_say(&p.c, FIN | TEXT, texts[i]);
			breaks(&p, 1007);
		}
	settles();
}

/* The target's end is a Close, behind which the client is still heard. */
static void
plain_target_ends(void **state)
{
	static const int codes[] = { 1000, 0 };
	struct stream *out, *in;
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(codes); i++) {
		p = tunnel(NULL);
		kit_puts(p.t, "answer");
		kit_half_close(p.t);
		ws_expect(&p.c, "answer");
		ws_expect_close(&p.c, 1000);
		rests();
		kit_silent(p.c.fd, 0);	/* ours has not come */
		out = stream(&p.c, -1, KIT_OUT, 2 * MB, 1);
		in = stream(NULL, p.t, KIT_IN, 2 * MB, 1);
		out->end = in->end = 0;
		pump(out, in, NULL);
		ws_close(&p.c, codes[i]);
		kit_eof(p.t);
		kit_eof(p.c.fd);
		(void)close(p.c.fd);
		(void)close(p.t);
	}
	settles();
}

/* The client's Close ends both, in order. */
static void
plain_client_closes(void **state)
{
	static const int codes[] = { 1000, 0 };
	struct pair p;
	size_t i;
	int got;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(codes); i++) {
		p = tunnel(NULL);
		carries(&p);
		kit_ws_puts(&p.c, "last words");
		ws_close(&p.c, codes[i]);
		kit_expect(p.t, "last words");
		kit_eof(p.t);
		kit_half_close(p.t);
		got = close_code(ws_next(&p.c));
		if (got != 1000 && got != codes[i])
			kit_fail("Close %d for %d", got, codes[i]);
		kit_eof(p.c.fd);
		(void)close(p.c.fd);
		(void)close(p.t);
	}
	settles();
}

/* The same at once, long before its target is connected. */
static void
plain_client_closes_early(void **state)
{
	static const int codes[] = { 1000, 0 };
	unsigned nobody = kit_nobody(AF_INET);
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 2 * KIT_COUNT(codes); i++) {
		struct ws_wire o = { 0 };

		kit_note("early Close %zu", i);
		p.c = ws_client(NULL);
		ws_add(&o, 1, FIN | BINARY, kit_str("%slast words",
		    kit_request_to(i < KIT_COUNT(codes) ? tport : nobody)));
		ws_add(&o, 1, FIN | CLOSE, codes[i & 1] == 0 ? "" :
		    "\x03\xe8");
		kit_send(p.c.fd, o.b, o.n);
		if (i < KIT_COUNT(codes)) {
			p.t = kit_accept(tl);
			kit_expect(p.t, "last words");
			kit_eof(p.t);
			(void)close(p.t);
			ws_expect(&p.c, KIT_OK);
		} else
			(void)ws_reply(&p.c, 502);
		assert_int_equal(close_code(ws_next(&p.c)), 1000);
		kit_eof(p.c.fd);
		(void)close(p.c.fd);
	}
	settles();
}

/* What the target has said is cut off between frames only. */
static void
plain_client_closes_unread(void **state)
{
	struct kit_stream t = { 0, KIT_OUT, 128 * MB, 7, 0, 0 };
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel(NULL);
	t.fd = p.t;
	kit_stuff(&t, 50);
	ws_close(&p.c, 1000);
	rests();
	ws_until_close(&p.c, 1000);
	kit_eof(p.c.fd);
	(void)close(p.c.fd);
	(void)kit_until_end(p.t);
	(void)close(p.t);
	settles();
}

static void
plain_broken(void **state)
{
	static const int codes[] = {
		1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013,
		1014, 3000, 3999, 4000, 4999
	};
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(codes); i++) {
		kit_note("Close %d", codes[i]);
		p = tunnel(NULL);
		ws_close(&p.c, codes[i]);
		kit_expect_reset(p.t);
		(void)close(p.t);
		(void)close_code(ws_next(&p.c));
		kit_eof(p.c.fd);
		(void)close(p.c.fd);
	}
	p = tunnel(NULL);
	(void)close(p.c.fd);
	kit_expect_reset(p.t);
	p = tunnel(NULL);
	kit_reset(p.c.fd);
	kit_expect_reset(p.t);
	/* behind the target's end, too */
	p = tunnel(NULL);
	kit_half_close(p.t);
	ws_expect_close(&p.c, 1000);
	ws_close(&p.c, 1011);
	kit_expect_reset(p.t);
	settles();
}


/* ---- what no frame may be (RFC 6455, 5 and 7.4) -------------------------- */

/* A frame and the code of the Close that answers it. */
static const struct fault {
	unsigned	 before;	/* of a frame before it; 0: none */
	unsigned	 b0;
	enum kit_ws_form	 form;
	uint64_t	 len;		/* as its head says */
	int		 code;
} faults[] = {
	/* reserved bits and opcodes */
	{ 0, FIN | RSV1 | BINARY, SHORTEST, 3, 1002 },
	{ 0, FIN | RSV2 | BINARY, SHORTEST, 3, 1002 },
	{ 0, FIN | RSV3 | TEXT, SHORTEST, 3, 1002 },
	{ 0, FIN | RSV1 | PING, SHORTEST, 3, 1002 },
	{ BINARY, FIN | RSV2 | CONT, SHORTEST, 3, 1002 },
	{ 0, FIN | 3, SHORTEST, 3, 1002 },
	{ 0, FIN | 4, SHORTEST, 3, 1002 },
	{ 0, FIN | 5, SHORTEST, 0, 1002 },
	{ 0, FIN | 6, SHORTEST, 3, 1002 },
	{ 0, 7, SHORTEST, 3, 1002 },
	{ 0, FIN | 11, SHORTEST, 3, 1002 },
	{ 0, FIN | 12, SHORTEST, 3, 1002 },
	{ 0, FIN | 13, SHORTEST, 3, 1002 },
	{ 0, FIN | 14, SHORTEST, 3, 1002 },
	{ BINARY, FIN | 15, SHORTEST, 0, 1002 },
	/* control frames: whole, and short */
	{ 0, PING, SHORTEST, 3, 1002 },
	{ 0, PONG, SHORTEST, 0, 1002 },
	{ 0, CLOSE, SHORTEST, 2, 1002 },
	{ 0, FIN | PING, SHORTEST, 126, 1002 },
	{ 0, FIN | PONG, SHORTEST, 126, 1002 },
	{ 0, FIN | CLOSE, SHORTEST, 126, 1002 },
	{ 0, FIN | PING, FORM16, 125, 1002 },
	{ 0, FIN | PING, FORM64, 65536, 1002 },
	{ BINARY, FIN | PING, SHORTEST, 126, 1002 },
	/* lengths in no more bytes than it takes */
	{ 0, FIN | BINARY, FORM16, 0, 1002 },
	{ 0, FIN | BINARY, FORM16, 125, 1002 },
	{ 0, FIN | BINARY, FORM64, 0, 1002 },
	{ 0, FIN | BINARY, FORM64, 125, 1002 },
	{ 0, FIN | BINARY, FORM64, 126, 1002 },
	{ 0, FIN | BINARY, FORM64, 65535, 1002 },
	{ BINARY, FIN | CONT, FORM16, 1, 1002 },
	/* and not too many, which is known at the head */
	{ 0, FIN | BINARY, FORM64, (uint64_t)1 << 63, 1002 },
	{ 0, FIN | BINARY, FORM64, UINT64_MAX, 1002 },
	{ 0, FIN | BINARY, FORM64, UINT64_MAX >> 1, 1009 },
	{ 0, FIN | BINARY, FORM64, FRAME_MAX + 1, 1009 },
	{ 0, BINARY, FORM64, (uint64_t)1 << 32, 1009 },
	{ BINARY, CONT, FORM64, FRAME_MAX + 1, 1009 },
	/* the order of fragments */
	{ 0, FIN | CONT, SHORTEST, 3, 1002 },
	{ 0, CONT, SHORTEST, 3, 1002 },
	{ FIN | BINARY, FIN | CONT, SHORTEST, 3, 1002 },
	{ BINARY, FIN | BINARY, SHORTEST, 3, 1002 },
	{ BINARY, BINARY, SHORTEST, 3, 1002 },
	{ BINARY, FIN | TEXT, SHORTEST, 3, 1002 }
};

/* The payloads of Closes that say nothing a Close may say; a reason is text
 * (5.5.1). */
static const struct {
	const char	*payload;
	size_t		 len;
	int		 code;
} bad_closes[] = {
	{ "\x03", 1, 1002 },
	{ "\0\0", 2, 1002 },			/* 0 */
	{ "\x03\xe7", 2, 1002 },		/* 999 */
	{ "\x03\xec", 2, 1002 },		/* 1004 */
	{ "\x03\xed", 2, 1002 },		/* 1005 */
	{ "\x03\xee", 2, 1002 },		/* 1006 */
	{ "\x03\xf7", 2, 1002 },		/* 1015 */
	{ "\x13\x88", 2, 1002 },		/* 5000 */
	{ "\xff\xff", 2, 1002 },
	{ "\x03\xe8\xff", 3, 1007 },
	{ "\x03\xe8\xe2\x82", 4, 1007 },
	{ "\x03\xe8good\xed\xa0\x80", 9, 1007 }
};

/* Sends a fault's frames; of a long one only the head. */
static void
send_fault(const struct kit_ws *w, const struct fault *f)
{
	static unsigned char junk[KIT_WS_MAX], buf[KIT_WS_MAX + 14];
	unsigned char key[4];
	unsigned at = 0;
	size_t n;

	if (f->before != 0)
		kit_ws_say(w, f->before, "a");
	n = kit_ws_make_head(buf, w->client, f->b0, f->form, f->len, key);
	if (f->len <= sizeof(junk)) {
		memset(buf + n, 'x', (size_t)f->len);
		kit_ws_mask(buf + n, (size_t)f->len, key, &at);
		n += (size_t)f->len;
	}
	kit_send(w->fd, buf, n);
}

static void
faults_from_the_client(void **state)
{
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(faults); i++) {
		kit_note("fault %zu", i);
		p = tunnel(ASKS);
		send_fault(&p.c, &faults[i]);
		breaks(&p, faults[i].code);
		/* the same before there is a tunnel */
		if (faults[i].before != 0)
			continue;
		p.c = ws_client(i & 1 ? ASKS : NULL);
		send_fault(&p.c, &faults[i]);
		ws_expect_close(&p.c, faults[i].code);
		ws_part(&p.c, faults[i].code);
	}
	settles();
}

static void
bad_closes_from_the_client(void **state)
{
	struct pair p;
	size_t i;
	int plain;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(bad_closes); i++)
		for (plain = 0; plain < 2; plain++) {
			kit_note("bad Close %zu %d", i, plain);
			p = tunnel(plain ? NULL : ASKS);
			kit_ws_send(&p.c, FIN | CLOSE, bad_closes[i].payload,
			    bad_closes[i].len);
			breaks(&p, bad_closes[i].code);
		}
	settles();
}

/* Clients mask each frame (5.1), a Ping too. */
static void
frames_without_a_mask(void **state)
{
	static const struct {
		unsigned	 b0;
		const char	*payload;
	} cases[] = {
		{ FIN | BINARY, "abc" }, { FIN | BINARY, "" }, { BINARY, "a" },
		{ FIN | TEXT, "end" }, { FIN | PING, "x" }, { FIN | PONG, "" },
		{ FIN | CLOSE, "\x03\xe8" }
	};
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		struct ws_wire o = { 0 };

		kit_note("unmasked frame %zu", i);
		p = tunnel(ASKS);
		ws_add(&o, 0, cases[i].b0, cases[i].payload);
		kit_send(p.c.fd, o.b, o.n);
		breaks(&p, 1002);
	}
	settles();
}

/* A fault is one wherever the stream is cut. */
static void
faults_at_every_cut(void **state)
{
	struct ws_wire o = { 0 };
	struct pair p;
	size_t cut;

	(void)state;
	serve(LOCAL);
	ws_add(&o, 1, BINARY, "abc");
	ws_add(&o, 1, FIN | PING, "ping");
	ws_add(&o, 1, FIN | CONT, "def");
	ws_add(&o, 1, FIN | CONT, "ghi");
	for (cut = 1; cut < o.n; cut++) {
		p = tunnel(ASKS);
		kit_send(p.c.fd, o.b, cut);
		rests();
		kit_send(p.c.fd, o.b + cut, o.n - cut);
		breaks(&p, 1002);
	}
	settles();
}


/* ---- Pings --------------------------------------------------------------- */

static void
pings(void **state)
{
	const char *longest = kit_times(125, "p");
	struct pair p;
	int i;

	(void)state;
	serve(LOCAL);
	/* before there is a tunnel */
	p.c = ws_client(ASKS);
	kit_ws_say(&p.c, FIN | PING, "early");
	ws_expect_pong(&p.c, "early");
	p = tunnel_on(p.c);
	for (i = 0; i < 2; i++) {
		kit_ws_say(&p.c, FIN | PING, "hello");
		ws_expect_pong(&p.c, "hello");
		kit_ws_say(&p.c, FIN | PING, longest);
		ws_expect_pong(&p.c, longest);
		/* nobody asked for these, and nobody answers */
		kit_ws_say(&p.c, FIN | PONG, "");
		kit_ws_say(&p.c, FIN | PONG, "hello");
		/* within a message */
		kit_ws_say(&p.c, BINARY, "a");
		kit_ws_say(&p.c, FIN | PING, "within");
		ws_expect_pong(&p.c, "within");
		kit_ws_say(&p.c, FIN | CONT, "b");
		if (i == 0)
			kit_expect(p.t, "ab");
		/* and when one direction has ended */
		kit_half_close(p.t);
		if (i == 0)
			ws_expect_end(&p.c);
	}
	rests();
	kit_silent(p.c.fd, 0);
	kit_ws_end(&p.c);
	kit_expect(p.t, "ab");
	kit_eof(p.t);
	ws_bye(&p.c);
	settles();
}

/* An empty Ping wants an empty Pong. */
static void
empty_ping(void **state)
{
	static struct kit_ws_frame f;
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel(ASKS);
	kit_ws_say(&p.c, FIN | PING, "");
	kit_ws_read_head(&p.c, &f);
	assert_int_equal(f.op, PONG);
	assert_int_equal(f.len, 0);
	farewell(p);
	settles();
}

#define FLOOD	20000

/* While the client takes nothing the server cannot answer its Pings: one
 * Pong waits, for the last of them, and leaves between frames; and the other
 * direction goes on meanwhile. */
static void
pings_unread(void **state)
{
	struct kit_stream t = { 0, KIT_OUT, 128 * MB, 7, 1, 0 };
	struct stream *in;
	struct pair p;
	int i;

	(void)state;
	serve(LOCAL);
	p = tunnel(ASKS);
	t.fd = p.t;
	kit_stuff(&t, 100);
	assert_true(t.done < t.bytes / 2);
	rests();
	for (i = 0; i < FLOOD; i++)
		kit_ws_say(&p.c, FIN | PING, kit_str("%d", i));
	kit_ws_puts(&p.c, "meanwhile");
	kit_expect(p.t, "meanwhile");
	rests();
	kit_proxy_below(&px, PEAK);
	t.bytes = t.done;
	kit_pump(&t, 1);
	in = stream(&p.c, -1, KIT_IN, t.done, 7);
	while (!finished(in)) {
		kit_poll(p.c.fd, POLLIN, "the stream");
		(void)move_in(in);
	}
	if (in->number != FLOOD - 1 || in->pongs > 16)
		kit_fail("%u Pongs, the last one for Ping %ld", in->pongs,
		    in->number);
	kit_ws_end(&p.c);
	kit_eof(p.t);
	ws_bye(&p.c);
	settles();
	kit_proxy_below(&px, PEAK);
}

/* A Ping before each frame, both directions being busy. */
static void
pings_within_streams(void **state)
{
	struct stream *out, *in;
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel(ASKS);
	out = stream(&p.c, -1, KIT_OUT, 4 * MB, 1);
	in = stream(&p.c, -1, KIT_IN, 4 * MB, 2);
	out->cut = 3000;
	out->pings = 1;
	pump(out, stream(NULL, p.t, KIT_IN, 4 * MB, 1), in,
	    stream(NULL, p.t, KIT_OUT, 4 * MB, 2), NULL);
	if (in->pongs == 0 || in->number > out->number)
		kit_fail("%u Pongs, the last one %ld", in->pongs, in->number);
	ws_bye(&p.c);
	settles();
	kit_proxy_below(&px, PEAK);
}


/* ---- much, and both at once ---------------------------------------------- */

static void
both_directions_at_once(void **state)
{
	struct pair p;
	int plain;

	(void)state;
	serve(LOCAL);
	for (plain = 0; plain < 2; plain++) {
		p = tunnel(plain ? NULL : ASKS);
		{
			struct stream *s[4] = {
				stream(&p.c, -1, KIT_OUT, 24 * MB, 1),
				stream(NULL, p.t, KIT_IN, 24 * MB, 1),
				stream(NULL, p.t, KIT_OUT, 24 * MB, 2),
				stream(&p.c, -1, KIT_IN, 24 * MB, 2)
			};

			if (plain)
				s[0]->end = s[1]->end = s[3]->end = 0;
			pump(s[0], s[1], s[2], s[3], NULL);
		}
		ws_bye(&p.c);
		if (plain)
			kit_eof(p.t);
		(void)close(p.t);
	}
	settles();
	kit_proxy_below(&px, PEAK);
}

/* Frames as long as they may be, and messages of any length (5.4). */
static void
frames_of_all_sizes(void **state)
{
	static const struct {
		uint64_t	 bytes, cut;
		int		 fragments;
	} cases[] = {
		{ FRAME_MAX, FRAME_MAX, 0 },
		{ 8 * MB, 65535, 1 }, { 2 * MB, 65536, 0 },
		{ MB, 126, 1 }, { MB, 125, 0 }, { 128 * KB, 1, 1 },
		{ 2 * MB, 1000, 1 }
	};
	struct stream *out;
	struct pair p;
	size_t i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("sizes %zu", i);
		p = tunnel(ASKS);
		out = stream(&p.c, -1, KIT_OUT, cases[i].bytes, 1);
		out->cut = cases[i].cut;
		out->fragments = cases[i].fragments;
		pump(out, stream(NULL, p.t, KIT_IN, cases[i].bytes, 1), NULL);
		kit_half_close(p.t);
		ws_expect_end(&p.c);
		ws_bye(&p.c);
		(void)close(p.t);
	}
	settles();
	kit_proxy_below(&px, PEAK);
}

/* An empty frame is nothing, however many of them come. */
static void
empty_frames(void **state)
{
	struct ws_wire o = { 0 };
	struct pair p;
	int i;

	(void)state;
	serve(LOCAL);
	ws_add(&o, 1, BINARY, "");
	for (i = 0; i < 1000; i++)
		ws_add(&o, 1, CONT, "");
	ws_add(&o, 1, FIN | CONT, "");
	p = tunnel(ASKS);
	for (i = 0; i < 20; i++)
		kit_send(p.c.fd, o.b, o.n);
	rests();
	kit_silent(p.t, 0);
	farewell(p);
	settles();
}

/* The sender is stopped long before its end, the program rests, the other
 * direction goes on, and then everything comes. */
static void
stalled_target(void **state)
{
	struct stream *out;
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel(ASKS);
	out = stream(&p.c, -1, KIT_OUT, 128 * MB, 1);
	out->cut = 20 * MB;
	stuff(out, 100);
	rests();
	kit_puts(p.t, "meanwhile");
	ws_expect(&p.c, "meanwhile");
	rests();
	kit_proxy_below(&px, PEAK);
	pump(out, stream(NULL, p.t, KIT_IN, 128 * MB, 1), NULL);
	kit_half_close(p.t);
	ws_expect_end(&p.c);
	ws_bye(&p.c);
	settles();
	kit_proxy_below(&px, PEAK);
}

static void
stalled_client(void **state)
{
	struct stream *out;
	struct pair p;

	(void)state;
	serve(LOCAL);
	p = tunnel(ASKS);
	out = stream(NULL, p.t, KIT_OUT, 128 * MB, 1);
	stuff(out, 100);
	rests();
	kit_ws_puts(&p.c, "meanwhile");
	kit_expect(p.t, "meanwhile");
	rests();
	kit_proxy_below(&px, PEAK);
	pump(out, stream(&p.c, -1, KIT_IN, 128 * MB, 1), NULL);
	kit_ws_end(&p.c);
	kit_eof(p.t);
	ws_bye(&p.c);
	settles();
	kit_proxy_below(&px, PEAK);
}

/* Somebody goes while much is on its way. */
static void
breaking_while_busy(void **state)
{
	struct stream *out;
	struct pair p;
	int i;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 6; i++) {
		kit_note("busy %d", i);
		p = tunnel(ASKS);
		/* far more than four sockets' buffers, which grow to 32 MB */
		out = i & 1 ? stream(NULL, p.t, KIT_OUT, 256 * MB, 1) :
		    stream(&p.c, -1, KIT_OUT, 256 * MB, 1);
		out->cut = 100000;
		stuff(out, 50);
		if (i < 2)
			kit_reset(p.c.fd);
		else if (i < 4)
			(void)close(p.c.fd);
		else
			kit_reset(p.t);
		if (i < 4) {
			kit_until_reset(p.t);
			(void)close(p.t);
			continue;
		}
		/* behind whole frames */
		ws_until_close(&p.c, 1011);
		(void)close(p.c.fd);
	}
	settles();
	kit_proxy_below(&px, PEAK);
}


/* A client that does not read breaks the rules, too: what it finds later are
 * whole frames and the Close, if there is one. */
static void
fault_of_a_stalled_client(void **state)
{
	struct kit_stream t = { 0, KIT_OUT, 128 * MB, 7, 0, 0 };
	struct stream *in;
	struct pollfd pfd = { .events = POLLIN };
	struct pair p;
	size_t i;
	char byte;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 3; i++) {
		kit_note("stalled fault %zu", i);
		t.done = 0;
		p = tunnel(i == 2 ? NULL : ASKS);
		t.fd = p.t;
		kit_stuff(&t, 50);
		if (i == 0)
			send_fault(&p.c, &faults[0]);
		else
			ws_close(&p.c, 1001);
		rests();
		in = stream(&p.c, -1, KIT_IN, t.bytes, 7);
		in->end = 0;
		pfd.fd = p.c.fd;
		while (in->code == 0 && poll(&pfd, 1, kit_patience()) > 0 &&
		    recv(p.c.fd, &byte, 1, MSG_PEEK) > 0)
			(void)move_in(in);
		if (in->code != 0 && in->code != (i == 0 ? 1002 : 1011))
			kit_fail("Close %d", in->code);
		kit_note("Close %d after %ju bytes", in->code,
		    (uintmax_t)in->done);
		(void)close(p.c.fd);
		(void)kit_until_end(p.t);
		(void)close(p.t);
	}
	settles();
}


/* ---- nothing is left ----------------------------------------------------- */

/* Each way in which a tunnel can come to its end. */
static void
dies(int how)
{
	struct pair p;
	int c;

	if (how >= 10) {
		c = kit_ask(&px, refused[how - 10].request);
		(void)kit_refusal(c, refused[how - 10].status, NULL,
		    refused[how - 10].after);
		(void)close(c);
		return;
	}
	p = tunnel(how == 9 ? NULL : ASKS);
	switch (how) {
	case 0:
		farewell(p);
		return;
	case 1:
		(void)close(p.c.fd);
		kit_expect_reset(p.t);
		break;
	case 2:
		kit_reset(p.c.fd);
		kit_expect_reset(p.t);
		break;
	case 3:
		kit_reset(p.t);
		ws_expect_close(&p.c, 1011);
		ws_part(&p.c, 1011);
		return;
	case 4:
		ws_close(&p.c, 1000);
		breaks(&p, 1011);
		return;
	case 5:
		send_fault(&p.c, &faults[0]);
		breaks(&p, 1002);
		return;
	case 6:
		kit_ws_say(&p.c, TEXT, "e");
		kit_ws_say(&p.c, FIN | CONT, "x");
		breaks(&p, 1002);
		return;
	case 7:
		send_fault(&p.c, &faults[KIT_COUNT(faults) - 1]);
		breaks(&p, 1002);
		return;
	case 8:
		kit_puts(p.t, "never read");
		kit_ws_say(&p.c, BINARY, "never read");
		(void)close(p.c.fd);
		kit_until_reset(p.t);
		break;
	case 9:
		farewell_plain(p);
		return;
	}
	(void)close(p.t);
}

static void
nothing_is_left(void **state)
{
	struct kit_figure f;
	long before = 0;
	int i, how;

	(void)state;
	serve(LOCAL);
	for (i = 0; i < 150; i++) {
		for (how = 0; how < 10; how++)
			dies(how);
		dies(10 + i % (int)KIT_COUNT(refused));
		if (i != 50)
			continue;
		settles();
		kit_figure(px.proc->pid, &f);
		before = f.rss;
	}
	settles();
	kit_figure(px.proc->pid, &f);
	if (!kit_sanitized() && f.rss > before + SLACK)
		kit_fail("from %ld to %ld KiB", before, f.rss);
	kit_err_is(px.proc, kit_str("httptun: listening on 127.0.0.1 %u\n",
	    px.port));
}


/* ---- the client: hops that the test plays -------------------------------- */

/* Where a WebSocket server listens, and how the program is told so. */
struct hop {
	int		 lfd;
	const char	*hp;		/* 127.0.0.1:PORT */
	const char	*url;		/* ws://127.0.0.1:PORT/ */
};

static char	head[8192];		/* the request that was read last */

static struct hop
hop(void)
{
	struct hop h;
	unsigned port;

	h.lfd = kit_listen(AF_INET, &port);
	h.hp = kit_str("127.0.0.1:%u", port);
	h.url = kit_str("ws://%s/", h.hp);
	return h;
}

/* Reads a handshake into head; NULL: for no protocol. */
static void
reads_handshake(int fd, const char *path, const char *host,
    const char *protocol)
{
	const char *line = kit_str("GET %s HTTP/1.1\r\n", path), *key;
	size_t len;

	(void)kit_head(fd, head, sizeof(head));
	if (strncmp(head, line, strlen(line)) != 0)
		kit_fail("no handshake for %s: <<%s>>", path, head);
	kit_field_is(head, "Host", host);
	if (strcasecmp(kit_must_have(head, "Upgrade", ""), "websocket") != 0 ||
	    !kit_lists(kit_field(head, "Connection"), "Upgrade"))
		kit_fail("no upgrade: <<%s>>", head);
	kit_field_is(head, "Sec-WebSocket-Version", "13");
	kit_field_is(head, "Sec-WebSocket-Protocol", protocol);
	kit_field_is(head, "Sec-WebSocket-Extensions", NULL);
	kit_field_is(head, "Origin", NULL);
	kit_field_is(head, "Content-Length", NULL);
	kit_field_is(head, "Transfer-Encoding", NULL);
	kit_field_is(head, "Proxy-Authorization", NULL);
	/* Base64 of 16 bytes (4.1): the last digit has two bits of them */
	key = kit_must_have(head, "Sec-WebSocket-Key", "");
	len = strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/");
	if (len != 22 || strcmp(key + len, "==") != 0 ||
	    strchr("AQgw", key[21]) == NULL)
		kit_fail("the key is %s", key);
}

/* The 101 for the handshake in head; NULL: without a protocol. */
static const char *
upgrade(const char *protocol)
{
	return kit_ws_answer(kit_must_have(head, "Sec-WebSocket-Key", ""),
	    protocol);
}

/* Accepts a connection, and a handshake on it. */
static struct kit_ws
shakes_hands(const struct hop *h, const char *protocol)
{
	struct kit_ws w = { 0 };

	w.fd = kit_accept(h->lfd);
	reads_handshake(w.fd, "/", h->hp, ASKS);
	kit_puts(w.fd, upgrade(protocol));
	return w;
}

/* Reads a CONNECT for this authority. */
static void
reads_connect(struct kit_ws *w, const char *authority)
{
	const char *line = kit_str("CONNECT %s HTTP/1.1\r\n", authority);

	(void)ws_head(w, head, sizeof(head));
	if (strncmp(head, line, strlen(line)) != 0)
		kit_fail("no CONNECT for %s: <<%s>>", authority, head);
	kit_field_is(head, "Host", authority);
	/* the handshake was asked for them */
	kit_field_is(head, "Proxy-Authorization", NULL);
	kit_field_is(head, "Authorization", NULL);
}

#define OK200	"HTTP/1.1 200 OK\r\n\r\n"

/* The program, and the server's end of its tunnel. */
struct near {
	struct kit_proc	*p;
	struct kit_ws	 w;
};

/* The handshake of this one has been read, and waits for its answer. */
static struct near
greeted(struct kit_proc *p, const struct hop *h, const char *path,
    const char *protocol)
{
	struct near n = { 0 };

	n.p = p;
	n.w.fd = kit_accept(h->lfd);
	reads_handshake(n.w.fd, path, h->hp, protocol);
	return n;
}

static struct near
start(const struct hop *h)
{
	return greeted(kit_httptun(NULL, "-x", h->url, HOST, PORT, NONE), h,
	    "/", ASKS);
}

/* The answer that opens the tunnel. */
static void
lets_in(struct near *n, const char *protocol)
{
	kit_puts(n->w.fd, upgrade(protocol));
	reads_connect(&n->w, AUTHORITY);
	kit_ws_puts(&n->w, OK200);
}

static struct near
open_near(const struct hop *h, const char *protocol)
{
	struct near n = start(h);

	lets_in(&n, protocol);
	return n;
}

/* It ends with 0, without a word. */
static void
ends_well(struct kit_proc *p)
{
	kit_eof(p->out);
	kit_exits(p, 0);
	kit_err_is(p, "");
	kit_done(p);
}

/* It ends with this status and one line on stderr that has what in it. */
static void
ends_badly(struct kit_proc *p, int status, const char *what)
{
	const char *s;

	kit_eof(p->out);
	kit_exits(p, status);
	s = kit_err(p);
	if (strncmp(s, "httptun: ", 9) != 0 || strchr(s, '\n') != s +
	    strlen(s) - 1)
		kit_fail("stderr is not a line: <<%s>>", s);
	kit_err_has(p, what);
	kit_done(p);
}

/* The tunnel carries both ways and ends in order, where `end` was agreed. */
static void
near_farewell(struct near n)
{
	kit_puts(n.p->in, "question");
	ws_expect(&n.w, "question");
	kit_ws_puts(&n.w, "answer");
	kit_expect(n.p->out, "answer");
	kit_half_close(n.p->in);
	ws_expect_end(&n.w);
	kit_ws_puts(&n.w, "late");
	kit_ws_end(&n.w);
	kit_expect(n.p->out, "late");
	ws_bye(&n.w);
	ends_well(n.p);
}


/* ---- the client: the handshake ------------------------------------------- */

static void
handshake_request(void **state)
{
	static const struct {
		const char	*path, *asked;
	} cases[] = {
		{ "", "/" }, { "/", "/" }, { "/tunnel/", "/tunnel/" },
		{ "/a%20b/c?d=e&f=/g", "/a%20b/c?d=e&f=/g" },
		{ "//x", "//x" }
	};
	const char *keys[KIT_COUNT(cases)];
	struct hop h = hop();
	struct near n;
	size_t i, k;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("path <<%s>>", cases[i].path);
		n = greeted(kit_httptun(NULL, "-x", kit_str("ws://%s%s", h.hp,
		    cases[i].path), HOST, PORT, NONE), &h, cases[i].asked,
		    ASKS);
		kit_field_is(head, "Authorization", NULL);
		keys[i] = kit_must_have(head, "Sec-WebSocket-Key", "");
		for (k = 0; k < i; k++)
			assert_string_not_equal(keys[k], keys[i]);
		/* it waits for the answer */
		kit_puts(n.p->in, "early ");
		kit_idle(n.p);
		kit_silent(n.w.fd, 0);
		kit_puts(n.w.fd, upgrade(ASKS));
		reads_connect(&n.w, AUTHORITY);
		kit_idle(n.p);
		kit_silent(n.w.fd, 0);
		kit_ws_puts(&n.w, OK200);
		ws_expect(&n.w, "early ");
		near_farewell(n);
	}
	kit_untouched(h.lfd);
}

/* A name that only the hop before knows; its port is the default one, or is
 * not. */
static void
handshake_host(void **state)
{
	static const struct {
		const char	*url, *authority, *host;
	} cases[] = {
		{ "ws://gw.example/t", "gw.example:80", "gw.example" },
		{ "ws://gw.example:80/t", "gw.example:80", "gw.example" },
		{ "ws://gw.example:443/t", "gw.example:443",
		    "gw.example:443" },
		{ "ws://[2001:db8::1]/t", "[2001:db8::1]:80",
		    "[2001:db8::1]" },
		{ "ws://[2001:db8::1]:8080/t", "[2001:db8::1]:8080",
		    "[2001:db8::1]:8080" }
	};
	struct hop h = hop();
	struct near n;
	const char *line;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("hop %s", cases[i].url);
		n.p = kit_httptun(NULL, "-x", kit_str("http://%s", h.hp), "-x",
		    cases[i].url, HOST, PORT, NONE);
		memset(&n.w, 0, sizeof(n.w));
		n.w.fd = kit_accept(h.lfd);
		(void)kit_head(n.w.fd, head, sizeof(head));
		line = kit_str("CONNECT %s HTTP/1.1\r\n", cases[i].authority);
		if (strncmp(head, line, strlen(line)) != 0)
			kit_fail("<<%s>>", head);
		kit_field_is(head, "Sec-WebSocket-Key", NULL);
		kit_puts(n.w.fd, OK200);
		reads_handshake(n.w.fd, "/t", cases[i].host, ASKS);
		lets_in(&n, ASKS);
		near_farewell(n);
	}
	kit_untouched(h.lfd);
}

/* -H is for the first hop's handshake, and not for the CONNECT inside. */
static void
handshake_fields(void **state)
{
	struct hop h = hop();
	struct near n;

	(void)state;
	n.p = kit_httptun(NULL, "-H", "X-One: 1", "-H", "Host: other:1", "-H",
	    "User-Agent: mine", "-x", h.url, HOST, PORT, NONE);
	memset(&n.w, 0, sizeof(n.w));
	n.w.fd = kit_accept(h.lfd);
	reads_handshake(n.w.fd, "/", "other:1", ASKS);
	kit_field_is(head, "X-One", "1");
	kit_field_is(head, "User-Agent", "mine");
	kit_puts(n.w.fd, upgrade(ASKS));
	reads_connect(&n.w, AUTHORITY);
	kit_field_is(head, "X-One", NULL);
	kit_ws_puts(&n.w, OK200);
	near_farewell(n);
}

/* Who asks for another protocol has not agreed on `end`. */
static void
handshake_for_another_protocol(void **state)
{
	struct hop h = hop();
	struct near n;

	(void)state;
	n = greeted(kit_httptun(NULL, "-H", "Sec-WebSocket-Protocol: mine",
	    "-x", h.url, HOST, PORT, NONE), &h, "/", "mine");
	lets_in(&n, "mine");
	kit_ws_say(&n.w, FIN | TEXT, "end");
	kit_expect(n.p->out, "end");
	kit_half_close(n.p->in);
	ws_expect_close(&n.w, 1000);
	ws_close(&n.w, 1000);
	(void)close(n.w.fd);
	ends_well(n.p);
}

/* An answer in which @ stands for the right Sec-WebSocket-Accept. */
static const char *
with_accept(const char *answer)
{
	const char *at = strchr(answer, '@');

	if (at == NULL)
		return answer;
	return kit_str("%.*s%s%s", (int)(at - answer), answer,
	    kit_ws_accept(kit_must_have(head, "Sec-WebSocket-Key", "")),
	    at + 1);
}

/* What a 101 may look like. */
static void
handshake_answers(void **state)
{
	static const char *const answers[] = {
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
		    "Connection: Upgrade\r\nSec-WebSocket-Accept: @\r\n",
		"HTTP/1.1 101\r\nupgrade: WebSocket\r\n"
		    "connection: keep-alive, upgrade\r\n"
		    "sec-websocket-accept:  @ \r\nServer: x\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Web Socket Protocol "
		    "Handshake\r\nDate: x\r\nConnection: UPGRADE\r\n"
		    "Upgrade: WEBSOCKET\r\nSec-WebSocket-Accept:@\r\n"
	};
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(answers); i++) {
		kit_note("answer %zu", i);
		n = start(&h);
		kit_puts(n.w.fd, with_accept(answers[i]));
		kit_puts(n.w.fd, P(ASKS) "\r\n");
		reads_connect(&n.w, AUTHORITY);
		kit_ws_puts(&n.w, OK200);
		near_farewell(n);
	}
	kit_untouched(h.lfd);
}

#define R101	"HTTP/1.1 101 Switching Protocols\r\n"

/* Answers that open no WebSocket. */
static const struct {
	const char	*answer, *what;
} wrong_answers[] = {
	{ "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200" },
	{ "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n", "404" },
	{ "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\n"
	    "Content-Length: 0\r\n\r\n", "426" },
	{ "HTTP/1.1 302 Found\r\nLocation: ws://x/\r\n\r\n", "302" },
	{ "HTTP/1.1 503 No\r\n\r\nuntil the end", "503" },
	{ "HTTP/1.0 400 Bad\r\n\r\n<html>", "400" },
	{ "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\n"
	    "Content-Length: 0\r\n\r\n", "407" },
	{ R101 UPGRADE P(ASKS) "\r\n", "" },
	{ R101 UPGRADE P(ASKS) "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
	    "" },
	{ R101 UPGRADE P(ASKS) "Sec-WebSocket-Accept:\r\n\r\n", "" },
	{ R101 UPGRADE P(ASKS) "Sec-WebSocket-Accept: @x\r\n\r\n", "" },
	{ R101 UPGRADE P(ASKS) "Sec-WebSocket-Accept: @\r\n"
	    "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n", "" },
	{ R101 "Connection: Upgrade\r\nSec-WebSocket-Accept: @\r\n\r\n", "" },
	{ R101 "Upgrade: websocket\r\nSec-WebSocket-Accept: @\r\n\r\n", "" },
	{ R101 "Upgrade: h2c\r\nConnection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: @\r\n\r\n", "" },
	{ R101 "Upgrade: websocket\r\nConnection: close\r\n"
	    "Sec-WebSocket-Accept: @\r\n\r\n", "" },
	/* what was not asked for */
	{ R101 UPGRADE P(ASKS) "Sec-WebSocket-Accept: @\r\n"
	    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "" },
	{ R101 UPGRADE P("chat") "Sec-WebSocket-Accept: @\r\n\r\n", "" },
	{ R101 UPGRADE P(ASKED) "Sec-WebSocket-Accept: @\r\n\r\n", "" },
	{ R101 UPGRADE P(ASKS ", chat") "Sec-WebSocket-Accept: @\r\n\r\n",
	    "" },
	{ R101 UPGRADE P(ASKS) P("chat") "Sec-WebSocket-Accept: @\r\n\r\n",
	    "" },
	/* no HTTP */
	{ "SSH-2.0-OpenSSH_9.2\r\n", "" },
	{ "\x82\x05hello\r\n\r\n", "" },
	{ "HTTP/2 101 Switching Protocols\r\n\r\n", "" }
};

/* One line that names the hop, and nothing on stdout of what it said. */
static void
handshakes_that_fail(void **state)
{
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(wrong_answers); i++) {
		kit_note("wrong answer %zu", i);
		n = start(&h);
		kit_puts(n.w.fd, with_accept(wrong_answers[i].answer));
		/* whoever takes that for a WebSocket has a tunnel now */
		(void)send(n.w.fd, "\x82\x13HTTP/1.1 200 OK\r\n\r\n", 21,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)shutdown(n.w.fd, SHUT_WR);
		ends_badly(n.p, 1, kit_str("%s: %s", h.hp,
		    wrong_answers[i].what));
		kit_ends(n.w.fd);	/* nothing was asked for on it */
	}
	kit_untouched(h.lfd);
}

/* The server goes, wherever it was in its answers. */
static void
server_goes(void **state)
{
	struct hop h = hop();
	const char *answer;
	struct near n;
	size_t i;
	int how;

	(void)state;
	for (i = 0; i <= 10; i++)
		for (how = 0; how < 2; how++) {
			kit_note("after %zu tenths, %d", i, how);
			n = start(&h);
			answer = upgrade(ASKS);
			kit_send(n.w.fd, answer, strlen(answer) * i / 10);
			if (i == 10)
				reads_connect(&n.w, AUTHORITY);
			if (how)
				kit_reset(n.w.fd);
			else
				(void)close(n.w.fd);
			ends_badly(n.p, 1, h.hp);
		}
	kit_untouched(h.lfd);
}

/* All that the server can say before the tunnel's own bytes, in two pieces:
 * the frames come with the 101, the tunnel's first bytes with the 200. */
static void
answers_at_every_cut(void **state)
{
	struct hop h = hop();
	struct near n;
	struct ws_wire o;
	const char *answer;
	size_t cut, total = 1;

	(void)state;
	for (cut = 0; cut < total; cut++) {
		kit_note("cut at %zu", cut);
		n = start(&h);
		answer = upgrade(ASKS);
		o.n = strlen(answer);
		memcpy(o.b, answer, o.n);
		ws_add(&o, 0, FIN | PING, "hello");
		ws_add(&o, 0, BINARY, "HTTP/1.1 200 O");
		ws_add(&o, 0, FIN | CONT, "K\r\n\r\nearly ");
		ws_add(&o, 0, FIN | BINARY, "words");
		total = o.n;
		kit_send(n.w.fd, o.b, cut);
		if (cut > 0)
			kit_idle(n.p);
		kit_send(n.w.fd, o.b + cut, o.n - cut);
		kit_expect(n.p->out, "early words");
		reads_connect(&n.w, AUTHORITY);
		ws_expect_pong(&n.w, "hello");
		near_farewell(n);
	}
	kit_untouched(h.lfd);
}


/* ---- the client: credentials --------------------------------------------- */

#define ASK401	"HTTP/1.1 401 Unauthorized\r\n" \
		"WWW-Authenticate: Basic realm=\"r\"\r\n"

/* A 401 on a connection that stays, and on one that closes. */
static void
answers_a_challenge(void **state)
{
	static const struct {
		const char	*challenge;
		int		 stays;
	} cases[] = {
		{ ASK401 "Content-Length: 0\r\n\r\n", 1 },
		{ ASK401 "Content-Length: 21\r\n\r\n"
		    "HTTP/1.1 200 OK\r\n\r\nab", 1 },
		{ ASK401 "Transfer-Encoding: chunked\r\n\r\n"
		    "2\r\nno\r\n0\r\n\r\n", 1 },
		{ ASK401 "Connection: close\r\nContent-Length: 2\r\n\r\nno",
		    0 },
		{ ASK401 "\r\nuntil the end", 0 }
	};
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("challenge %zu", i);
		n = greeted(kit_httptun(NULL, "-x",
		    kit_str("ws://user:p%%61ss@%s", h.hp), HOST, PORT, NONE),
		    &h, "/", ASKS);
		kit_field_is(head, "Authorization", NULL);
		kit_puts(n.w.fd, cases[i].challenge);
		if (!cases[i].stays) {
			kit_drop(n.w.fd);
			(void)close(n.w.fd);
			n.w.fd = kit_accept(h.lfd);
		}
		reads_handshake(n.w.fd, "/", h.hp, ASKS);
		kit_field_is(head, "Authorization", kit_basic("user:pass"));
		lets_in(&n, ASKS);
		near_farewell(n);
	}
	kit_untouched(h.lfd);
}

/* It has had its one try. */
static void
refused_twice(void **state)
{
	static const char ask[] = ASK401 "Content-Length: 0\r\n\r\n";
	struct hop h = hop();
	struct kit_proc *p;
	int fd, i;

	(void)state;
	/* none at all; waiting for the challenge; at once */
	for (i = 0; i < 3; i++) {
		kit_note("refused twice %d", i);
		p = kit_httptun(NULL, "-A", i == 2 ? "basic" : "any", "-x",
		    kit_str("ws://%s%s/", i > 0 ? "user:hunter2@" : "", h.hp),
		    HOST, PORT, NONE);
		fd = kit_accept(h.lfd);
		reads_handshake(fd, "/", h.hp, ASKS);
		kit_field_is(head, "Authorization", i == 2 ?
		    kit_basic("user:hunter2") : NULL);
		kit_puts(fd, ask);
		if (i == 1) {
			reads_handshake(fd, "/", h.hp, ASKS);
			kit_field_is(head, "Authorization",
			    kit_basic("user:hunter2"));
			kit_puts(fd, ask);
		}
		kit_ends(fd);
		ends_badly(p, 1, kit_str("%s: 401 ", h.hp));
	}
	kit_untouched(h.lfd);
}

static void
no_secret_is_shown(void **state)
{
	static const char *const secrets[] = {
		"hunter2", "dXNlcjpodW50ZXIy"	/* Base64 of user:hunter2 */
	};
	struct hop h = hop();
	char args[4096];
	struct near n;
	size_t i, k, len;
	int fd;

	(void)state;
	n = greeted(kit_httptun(NULL, "-vv", "-A", "basic", "-x",
	    kit_str("ws://user:hunter2@%s/", h.hp), HOST, PORT, NONE), &h, "/",
	    ASKS);
	kit_field_is(head, "Authorization", kit_basic("user:hunter2"));
	fd = open(kit_str("/proc/%ld/cmdline", (long)n.p->pid), O_RDONLY);
	assert_true(fd != -1);
	len = kit_slurp(fd, args, sizeof(args));
	(void)close(fd);
	for (k = 0; k < len; k++)
		if (args[k] == '\0')
			args[k] = ' ';
	kit_puts(n.w.fd, ASK401 "Content-Length: 0\r\n\r\n");
	kit_exits(n.p, 1);
	kit_err_has(n.p, "GET / HTTP/1.1");
	for (i = 0; i < KIT_COUNT(secrets); i++)
		if (strstr(args, secrets[i]) != NULL ||
		    strstr(kit_err(n.p), secrets[i]) != NULL)
			kit_fail("%s is shown", secrets[i]);
}


/* ---- the client: the tunnel ---------------------------------------------- */

static void
near_both_ways(void **state)
{
	struct hop h = hop();
	struct near n;

	(void)state;
	n = open_near(&h, ASKS);
	pump(stream(NULL, n.p->in, KIT_OUT, 16 * MB, 1),
	    stream(&n.w, -1, KIT_IN, 16 * MB, 1),
	    stream(&n.w, -1, KIT_OUT, 16 * MB, 2),
	    stream(NULL, n.p->out, KIT_IN, 16 * MB, 2), NULL);
	ws_bye(&n.w);
	kit_exits(n.p, 0);
	kit_err_is(n.p, "");
}

static void
near_ends_first(void **state)
{
	struct hop h = hop();
	struct near n;

	(void)state;
	n = open_near(&h, ASKS);
	kit_puts(n.p->in, "last words");
	kit_half_close(n.p->in);
	ws_expect(&n.w, "last words");
	ws_expect_end(&n.w);
	pump(stream(&n.w, -1, KIT_OUT, 2 * MB, 1),
	    stream(NULL, n.p->out, KIT_IN, 2 * MB, 1), NULL);
	ws_bye(&n.w);
	kit_exits(n.p, 0);
}

static void
far_ends_first(void **state)
{
	struct hop h = hop();
	struct near n;

	(void)state;
	n = open_near(&h, ASKS);
	kit_ws_puts(&n.w, "last words");
	kit_ws_say(&n.w, TEXT, "en");
	kit_ws_say(&n.w, FIN | PING, "x");
	kit_ws_say(&n.w, FIN | CONT, "d");
	kit_expect(n.p->out, "last words");
	kit_eof(n.p->out);
	ws_expect_pong(&n.w, "x");
	kit_idle(n.p);
	assert_true(kit_alive(n.p));
	pump(stream(NULL, n.p->in, KIT_OUT, 2 * MB, 1),
	    stream(&n.w, -1, KIT_IN, 2 * MB, 1), NULL);
	ws_bye(&n.w);
	kit_exits(n.p, 0);
	kit_err_is(n.p, "");
}

/* The server closes TCP first: the client does not before, and ends then. */
static void
server_closes_first(void **state)
{
	struct hop h = hop();
	struct near n;
	int early;

	(void)state;
	for (early = 0; early < 2; early++) {
		n = open_near(&h, ASKS);
		if (early) {		/* Closes that cross */
			kit_half_close(n.p->in);
			ws_expect_end(&n.w);
			kit_ws_end(&n.w);
			ws_close(&n.w, 1000);
			ws_expect_close(&n.w, 1000);
		} else {
			kit_ws_end(&n.w);
			kit_half_close(n.p->in);
			ws_expect_end(&n.w);
			ws_expect_close(&n.w, 1000);
			ws_close(&n.w, 1000);
		}
		kit_idle(n.p);
		kit_silent(n.w.fd, 20);
		assert_true(kit_alive(n.p));
		(void)close(n.w.fd);
		ends_well(n.p);
	}
}

/* What is not agreed is not said: the end is a Close, behind which the
 * server is still heard. */
static void
near_without_end(void **state)
{
	static const int codes[] = { 1000, 0 };
	struct stream *out, *in;
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(codes); i++) {
		n = open_near(&h, NULL);
		kit_puts(n.p->in, "question");
		kit_half_close(n.p->in);
		ws_expect(&n.w, "question");
		ws_expect_close(&n.w, 1000);
		kit_ws_say(&n.w, FIN | TEXT, "end");
		kit_expect(n.p->out, "end");
		out = stream(&n.w, -1, KIT_OUT, 2 * MB, 1);
		in = stream(NULL, n.p->out, KIT_IN, 2 * MB, 1);
		out->end = in->end = 0;
		pump(out, in, NULL);
		ws_close(&n.w, codes[i]);
		(void)close(n.w.fd);
		ends_well(n.p);
	}
	kit_untouched(h.lfd);
}

/* The server's Close ends both directions, in order or not. */
static void
near_closed_without_end(void **state)
{
	static const struct {
		int	 code, status;
	} cases[] = {
		{ 1000, 0 }, { 0, 0 }, { 1001, 1 }, { 1002, 1 }, { 1011, 1 },
		{ 1012, 1 }, { 3000, 1 }, { 4000, 1 }
	};
	struct hop h = hop();
	struct near n;
	size_t i;
	int got;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("Close %d", cases[i].code);
		n = open_near(&h, NULL);
		kit_ws_puts(&n.w, "last words");
		ws_close(&n.w, cases[i].code);
		kit_expect(n.p->out, "last words");
		kit_eof(n.p->out);
		got = close_code(ws_next(&n.w));
		if (cases[i].status == 0 && got != 1000 && got != 0)
			kit_fail("Close %d for %d", got, cases[i].code);
		(void)close(n.w.fd);
		if (cases[i].status == 0)
			ends_well(n.p);
		else
			ends_badly(n.p, 1, "");
	}
	kit_untouched(h.lfd);
}

/* What breaks a tunnel where `end` was agreed. */
static void
far_breaks(void **state)
{
	static const int codes[] = { 1011, 1000, 0, 1001, 4000 };
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(codes); i++) {
		kit_note("Close %d", codes[i]);
		n = open_near(&h, ASKS);
		kit_ws_puts(&n.w, "last words");
		kit_expect(n.p->out, "last words");
		ws_close(&n.w, codes[i]);
		ws_expect_close(&n.w, 1011);
		(void)close(n.w.fd);
		ends_badly(n.p, 1, "");
	}
	/* behind one end, and the other */
	n = open_near(&h, ASKS);
	kit_ws_end(&n.w);
	kit_eof(n.p->out);
	ws_close(&n.w, 1000);
	ws_expect_close(&n.w, 1011);
	(void)close(n.w.fd);
	ends_badly(n.p, 1, "");
	n = open_near(&h, ASKS);
	kit_half_close(n.p->in);
	ws_expect_end(&n.w);
	ws_close(&n.w, 1000);
	ws_expect_close(&n.w, 1011);
	(void)close(n.w.fd);
	ends_badly(n.p, 1, "");
	/* an end of TCP, between frames, in one and in a message */
	for (i = 0; i < 6; i++) {
		kit_note("TCP ends %zu", i);
		n = open_near(&h, i & 1 ? NULL : ASKS);
		if (i >= 4)
			kit_ws_say(&n.w, BINARY, "data");
		else if (i >= 2)
			kit_send(n.w.fd, "\x82\x05" "data", 6);
		if (i >= 2)
			kit_expect(n.p->out, "data");
		(void)close(n.w.fd);
		ends_badly(n.p, 1, "");
	}
	n = open_near(&h, ASKS);
	kit_reset(n.w.fd);
	ends_badly(n.p, 1, "");
	kit_untouched(h.lfd);
}

/* A server's frames have faults too; it never masks (5.1). */
static void
faults_from_the_server(void **state)
{
	struct ws_wire o = { 0 };
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(faults); i++) {
		kit_note("fault %zu", i);
		n = open_near(&h, ASKS);
		send_fault(&n.w, &faults[i]);
		ws_expect_close(&n.w, faults[i].code);
		ws_part(&n.w, faults[i].code);
		(void)kit_until_end(n.p->out);
		ends_badly(n.p, 1, "");
	}
	for (i = 0; i < KIT_COUNT(bad_closes); i++) {
		kit_note("bad Close %zu", i);
		n = open_near(&h, i & 1 ? NULL : ASKS);
		kit_ws_send(&n.w, FIN | CLOSE, bad_closes[i].payload,
		    bad_closes[i].len);
		ws_expect_close(&n.w, bad_closes[i].code);
		ws_part(&n.w, bad_closes[i].code);
		ends_badly(n.p, 1, "");
	}
	ws_add(&o, 1, FIN | BINARY, "masked");
	n = open_near(&h, ASKS);
	kit_send(n.w.fd, o.b, o.n);
	ws_expect_close(&n.w, 1002);
	ws_part(&n.w, 1002);
	ends_badly(n.p, 1, "");
	kit_untouched(h.lfd);
}

/* Text that says nothing, or comes too late; and what is no UTF-8. */
static void
text_from_the_server(void **state)
{
	static const struct {
		const char	*protocol;
		const char	*first, *second;
		int		 code;
	} cases[] = {
		{ ASKS, "hello", NULL, 1002 }, { ASKS, "", NULL, 1002 },
		{ ASKS, "ende", NULL, 1002 }, { ASKS, "end", "end", 1002 },
		{ NULL, "\xff", NULL, 1007 }, { NULL, "\xe2\x82", NULL, 1007 },
		{ NULL, "ok", "\xc0\x80", 1007 }
	};
	char out[64];
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("text %zu", i);
		n = open_near(&h, cases[i].protocol);
		kit_ws_say(&n.w, FIN | TEXT, cases[i].first);
		if (cases[i].second != NULL)
			kit_ws_say(&n.w, FIN | TEXT, cases[i].second);
		ws_expect_close(&n.w, cases[i].code);
		ws_part(&n.w, cases[i].code);
		(void)kit_slurp(n.p->out, out, sizeof(out));
		ends_badly(n.p, 1, "");
	}
	/* data behind the end */
	n = open_near(&h, ASKS);
	kit_ws_end(&n.w);
	kit_ws_puts(&n.w, "more");
	ws_expect_close(&n.w, 1002);
	ws_part(&n.w, 1002);
	ends_badly(n.p, 1, "");
}

/* Each frame has a key of its own, which nobody can foresee (10.3). */
static void
mask_keys(void **state)
{
	static struct kit_ws_frame f[50];
	struct hop h = hop();
	struct near n;
	uint32_t key[KIT_COUNT(f)];
	unsigned steps = 0;
	size_t i, k;

	(void)state;
	n = open_near(&h, ASKS);
	for (i = 0; i < KIT_COUNT(f); i++) {
		kit_puts(n.p->in, "x");
		kit_ws_read_head(&n.w, &f[i]);
		kit_ws_read_data(&n.w, &f[i]);
		assert_string_equal((char *)f[i].data, "x");
		key[i] = (uint32_t)f[i].key[0] << 24 | (uint32_t)f[i].key[1]
		    << 16 | (uint32_t)f[i].key[2] << 8 | f[i].key[3];
		for (k = 0; k < i; k++)
			if (key[k] == key[i])
				kit_fail("key 0x%08x again", key[i]);
		/* neither one step nor the same bytes */
		if (i >= 2)
			steps += key[i] - key[i - 1] == key[i - 1] -
			    key[i - 2] || (key[i] ^ key[i - 1]) < 0x10000;
	}
	if (steps > 2)
		kit_fail("the keys go step by step");
	near_farewell(n);
}

/* The server's 64 MiB are as good as the client's. */
static void
frames_of_all_sizes_from_the_server(void **state)
{
	static const struct {
		uint64_t	 bytes, cut;
		int		 fragments;
	} cases[] = {
		{ FRAME_MAX, FRAME_MAX, 0 }, { 2 * MB, 1000, 1 },
		{ 128 * KB, 1, 1 }
	};
	struct stream *out;
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		n = open_near(&h, ASKS);
		out = stream(&n.w, -1, KIT_OUT, cases[i].bytes, 1);
		out->cut = cases[i].cut;
		out->fragments = cases[i].fragments;
		pump(out, stream(NULL, n.p->out, KIT_IN, cases[i].bytes, 1),
		    NULL);
		if (kit_status(n.p->pid, "VmHWM") >= PEAK && !kit_sanitized())
			kit_fail("a peak of %ld KiB", kit_status(n.p->pid,
			    "VmHWM"));
		kit_half_close(n.p->in);
		ws_expect_end(&n.w);
		ws_bye(&n.w);
		kit_exits(n.p, 0);
	}
}

/* Stalled on each side, as on a bare connection. */
static void
near_stalls(void **state)
{
	struct stream *out;
	struct hop h = hop();
	struct near n;
	int down;

	(void)state;
	for (down = 0; down < 2; down++) {
		n = open_near(&h, ASKS);
		out = down ? stream(&n.w, -1, KIT_OUT, 48 * MB, 1) :
		    stream(NULL, n.p->in, KIT_OUT, 48 * MB, 1);
		stuff(out, 100);
		kit_idle(n.p);
		if (down) {
			kit_puts(n.p->in, "meanwhile");
			ws_expect(&n.w, "meanwhile");
		} else {
			kit_ws_say(&n.w, FIN | PING, "alive");
			kit_ws_puts(&n.w, "meanwhile");
			kit_expect(n.p->out, "meanwhile");
		}
		kit_idle(n.p);
		pump(out, down ? stream(NULL, n.p->out, KIT_IN, 48 * MB, 1) :
		    stream(&n.w, -1, KIT_IN, 48 * MB, 1), NULL);
		if (kit_status(n.p->pid, "VmHWM") >= PEAK && !kit_sanitized())
			kit_fail("a peak of %ld KiB", kit_status(n.p->pid,
			    "VmHWM"));
		if (down) {
			kit_half_close(n.p->in);
			ws_expect_end(&n.w);
		} else
			kit_ws_end(&n.w);
		ws_bye(&n.w);
		kit_exits(n.p, 0);
	}
}

/* What the CONNECT inside can meet. */
static void
connect_is_refused(void **state)
{
	static const struct {
		const char	*reply, *what;
	} cases[] = {
		{ "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n",
		    "403 Forbidden" },
		{ "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
		    "502 Bad Gateway" },
		{ "HTTP/1.1 408 Slow\r\n\r\n", "408 Slow" },
		{ "SSH-2.0-x\r\n", "" }
	};
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("refusal %zu", i);
		n = start(&h);
		kit_puts(n.w.fd, upgrade(i & 1 ? NULL : ASKS));
		reads_connect(&n.w, AUTHORITY);
		kit_ws_puts(&n.w, cases[i].reply);
		/* it has no other, and goes */
		(void)close_code(ws_next(&n.w));
		ws_part(&n.w, 1000);
		ends_badly(n.p, 1, kit_str("%s: %s", h.hp, cases[i].what));
	}
	/* or a Close comes instead */
	n = start(&h);
	kit_puts(n.w.fd, upgrade(ASKS));
	reads_connect(&n.w, AUTHORITY);
	ws_close(&n.w, 1000);
	(void)close_code(ws_next(&n.w));
	(void)close(n.w.fd);
	ends_badly(n.p, 1, h.hp);
	kit_untouched(h.lfd);
}


/* ---- the client: ways through -------------------------------------------- */

/* A WebSocket that is read to its Close: `end` is no end of file. */
static void
bridged(struct kit_proc *p, int t)
{
	pump(stream(NULL, p->in, KIT_OUT, MB, 1),
	    stream(NULL, t, KIT_IN, MB, 1), NULL);
	pump(stream(NULL, t, KIT_OUT, MB, 2),
	    stream(NULL, p->out, KIT_IN, MB, 2), NULL);
	kit_exits(p, 0);
	kit_err_is(p, "");
	(void)close(t);
}

/* Through real proxies, in this order, and each of them hears the end. */
static void
through(const char *const *schemes, size_t n)
{
	struct kit_proxy proxy[3];
	const char *argv[16] = { kit_binary() };
	struct kit_proc *p;
	size_t i, k = 1;

	tl = kit_listen(AF_INET, &tport);
	for (i = 0; i < n; i++) {
		kit_proxy(&proxy[i], "-v", LOCAL);
		argv[k++] = "-x";
		argv[k++] = kit_str("%s127.0.0.1:%u", schemes[i],
		    proxy[i].port);
	}
	argv[k++] = "127.0.0.1";
	argv[k++] = kit_str("%u", tport);
	argv[k] = NULL;
	p = kit_startv(NULL, argv);
	bridged(p, kit_accept(tl));
	for (i = 0; i < n; i++) {
		kit_proxy_settles(&proxy[i]);
		kit_err_wait(proxy[i].proc, " done\n");
		assert_int_equal(kit_said(proxy[i].proc, "WebSocket"), 0);
	}
}

/* WebSocket and CONNECT hops may stand in any order. */
static void
through_many_hops(void **state)
{
	static const char *const a[] = { "ws://" };
	static const char *const b[] = { "http://", "ws://" };
	static const char *const c[] = { "ws://", "http://" };
	static const char *const d[] = { "http://", "ws://", "http://" };

	(void)state;
	through(a, 1);
	through(b, 2);
	through(c, 2);
	through(d, 3);
}

/* A WebSocket may stand on another one, or on a session of requests, and
 * these on it. */
static void
websocket_in_websocket(void **state)
{
	static const char *const a[] = { "ws://", "ws://" };
	static const char *const b[] = { "ws://", "ws://", "ws://" };
	static const char *const c[] = { "ws://", "http://", "ws://" };
	static const char *const d[] = { "poll://", "ws://" };
	static const char *const e[] = { "ws://", "poll://" };

	(void)state;
	through(a, 2);
	through(b, 3);
	through(c, 3);
	through(d, 2);
	through(e, 2);
}

/* What comes together with the 200 for one is not lost. */
static void
answer_and_more_at_once(void **state)
{
	struct hop h = hop();
	struct kit_proc *p;
	struct kit_ws w;
	struct ws_wire o;
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		kit_note("case %d", i);
		p = kit_httptun(NULL, "-x", kit_str("ws://%s/", h.hp), "-x",
		    "ws://next.example/", HOST, PORT, NONE);
		w = shakes_hands(&h, ASKS);
		reads_connect(&w, "next.example:80");
		o.n = 0;
		ws_add(&o, 0, FIN | BINARY, OK200);
		ws_add(&o, 0, FIN | PING, "there?");
		ws_add(&o, 0, FIN | (i == 0 ? TEXT : CLOSE), i == 0 ? "end" :
		    "\x03\xf3");
		kit_send(w.fd, o.b, o.n);
		kit_exits(p, 1);
		kit_err_is(p, kit_str("httptun: next.example:80: %s\n",
		    i == 0 ? "closed without a reply" :
		    strerror(ECONNABORTED)));
		(void)close(w.fd);
	}
}

/* A server behind a hop that is a WebSocket itself. */
static void
bridge_in_websocket(void **state)
{
	struct hop h = hop();
	struct near n;

	(void)state;
	serve(LOCAL);
	n = greeted(kit_httptun(NULL, "-x", kit_str("ws://127.0.0.1:%u/",
	    px.port), h.url, NONE), &h, "/", NULL);
	kit_puts(n.w.fd, upgrade(NULL));
	kit_puts(n.p->in, "question");
	ws_expect(&n.w, "question");
	kit_ws_puts(&n.w, "answer");
	ws_close(&n.w, 1000);
	kit_expect(n.p->out, "answer");
	ws_expect_close(&n.w, 1000);
	(void)close(n.w.fd);
	ends_well(n.p);
	settles();
}

/* -X ws is for hops without a scheme, whatever their order. */
static void
carrier_by_option(void **state)
{
	struct kit_proxy first, second;
	struct hop h = hop();
	const char *a, *b, *port;
	struct near n;
	struct kit_proc *p;

	(void)state;
	n.p = kit_httptun(NULL, "-X", "ws", "-x", h.hp, HOST, PORT, NONE);
	n.w = shakes_hands(&h, ASKS);
	reads_connect(&n.w, AUTHORITY);
	kit_ws_puts(&n.w, OK200);
	near_farewell(n);

	kit_proxy(&first, LOCAL);
	kit_proxy(&second, LOCAL);
	tl = kit_listen(AF_INET, &tport);
	port = kit_str("%u", tport);
	a = kit_str("http://127.0.0.1:%u", first.port);
	b = kit_str("127.0.0.1:%u", second.port);
	p = kit_httptun(NULL, "-x", a, "-x", b, "-X", "ws", "127.0.0.1", port,
	    NONE);
	bridged(p, kit_accept(tl));
	/* -X connect says nothing about a scheme that is there */
	p = kit_httptun(NULL, "-X", "connect", "-x",
	    kit_str("127.0.0.1:%u", first.port), "-x", kit_str("ws://%s", b),
	    "127.0.0.1", port, NONE);
	bridged(p, kit_accept(tl));
	kit_untouched(h.lfd);
	kit_proxy_settles(&first);
	kit_proxy_settles(&second);
}

/* Many through one local port, with each way to end. */
static void
local_port(void **state)
{
	struct kit_proxy gw;
	struct kit_figure idle;
	struct kit_pair p;
	struct kit_proc *l;
	unsigned port;
	int i;

	(void)state;
	kit_proxy(&gw, LOCAL);
	tl = kit_listen(AF_INET, &tport);
	l = kit_httptun(NULL, "-x", kit_str("ws://127.0.0.1:%u/", gw.port),
	    "-L", kit_str("0:127.0.0.1:%u", tport), NONE);
	port = kit_listening(l, 0);
	kit_rests(l);
	kit_figure(l->pid, &idle);
	for (i = 0; i < 20; i++) {
		p.c = kit_connect(AF_INET, port);
		p.t = kit_accept(tl);
		kit_carries(p);
		if (i % 4 == 0) {
			kit_farewell(p);
			continue;
		}
		if (i % 4 == 1) {
			kit_half_close(p.t);
			kit_eof(p.c);
			kit_puts(p.c, "late");
			kit_half_close(p.c);
			kit_expect(p.t, "late");
			kit_eof(p.t);
		} else if (i % 4 == 2) {
			kit_reset(p.c);
			kit_expect_reset(p.t);
			(void)close(p.t);
			continue;
		} else {
			kit_reset(p.t);
			kit_expect_reset(p.c);
			(void)close(p.c);
			continue;
		}
		(void)close(p.c);
		(void)close(p.t);
	}
	kit_returns(l, &idle);
	kit_proxy_settles(&gw);
}

/* What a client's and a server's reset look like between the two. */
static void
local_port_resets(void **state)
{
	struct hop h = hop();
	struct kit_proc *l;
	struct kit_ws w;
	unsigned port;
	int c;

	(void)state;
	l = kit_httptun(NULL, "-x", h.url, "-L", "0:" AUTHORITY, NONE);
	port = kit_listening(l, 0);
	c = kit_connect(AF_INET, port);
	w = shakes_hands(&h, ASKS);
	reads_connect(&w, AUTHORITY);
	kit_ws_puts(&w, OK200);
	kit_puts(c, "x");
	ws_expect(&w, "x");
	kit_reset(c);
	ws_expect_close(&w, 1011);
	ws_part(&w, 1011);

	c = kit_connect(AF_INET, port);
	w = shakes_hands(&h, ASKS);
	reads_connect(&w, AUTHORITY);
	kit_ws_puts(&w, OK200 "y");
	kit_expect(c, "y");
	ws_close(&w, 1011);
	kit_expect_reset(c);
	ws_part(&w, 1011);
	/* and a refused one is refused to the client */
	c = kit_connect(AF_INET, port);
	w = shakes_hands(&h, ASKS);
	reads_connect(&w, AUTHORITY);
	kit_ws_puts(&w, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n"
	    "\r\n");
	kit_expect_reset(c);
	kit_err_wait(l, kit_str("%s: 403 No\n", h.hp));
	assert_true(kit_alive(l));
}


/* ---- `httptun -l -x ws://...` -------------------------------------------- */

/* A client of the proxy, and the hop's end of its tunnel. */
static int
chained(const struct hop *h, struct kit_ws *w, const char *protocol)
{
	int c = kit_ask(&px, kit_str("%searly",
	    kit_request("something.invalid:443", "X-Own: 1\r\n")));

	*w = shakes_hands(h, protocol);
	kit_field_is(head, "X-Own", NULL);
	reads_connect(w, "something.invalid:443");
	kit_field_is(head, "X-Own", NULL);
	return c;
}

static void
chain_carries(void **state)
{
	struct hop h = hop();
	struct kit_ws w;
	int c;

	(void)state;
	serve("-x", h.url, LOCAL);
	c = chained(&h, &w, ASKS);
	rests();
	kit_silent(w.fd, 0);
	kit_ws_puts(&w, OK200 "hello");
	kit_expect(c, KIT_OK "hello");
	ws_expect(&w, "early");
	pump(stream(NULL, c, KIT_OUT, 2 * MB, 1),
	    stream(&w, -1, KIT_IN, 2 * MB, 1),
	    stream(&w, -1, KIT_OUT, 2 * MB, 2),
	    stream(NULL, c, KIT_IN, 2 * MB, 2), NULL);
	ws_bye(&w);
	(void)close(c);

	/* each end may end it, and break it */
	c = chained(&h, &w, NULL);
	kit_ws_puts(&w, OK200);
	kit_expect(c, KIT_OK);
	kit_half_close(c);
	ws_expect(&w, "early");
	ws_expect_close(&w, 1000);
	kit_ws_say(&w, FIN | TEXT, "end");
	ws_close(&w, 1000);
	kit_expect(c, "end");
	kit_eof(c);
	(void)close(w.fd);
	(void)close(c);
	c = chained(&h, &w, ASKS);
	kit_ws_puts(&w, OK200);
	kit_expect(c, KIT_OK);
	ws_expect(&w, "early");
	ws_close(&w, 1011);
	kit_expect_reset(c);
	ws_part(&w, 1011);
	(void)close(c);
	c = chained(&h, &w, ASKS);
	kit_ws_puts(&w, OK200);
	kit_expect(c, KIT_OK);
	ws_expect(&w, "early");
	kit_reset(c);
	ws_expect_close(&w, 1011);
	ws_part(&w, 1011);
	settles();
}

/* A hop's refusal is 502, 403 stays 403, and the client hears of no 401. */
static void
chain_refused(void **state)
{
	static const struct {
		const char	*handshake, *reply;	/* one of them */
		int		 status;
	} cases[] = {
		{ "HTTP/1.1 401 Who\r\nContent-Length: 0\r\n"
		    "WWW-Authenticate: Basic realm=\"x\"\r\n\r\n", NULL, 502 },
		{ "HTTP/1.1 407 Who\r\nContent-Length: 0\r\n"
		    "Proxy-Authenticate: Basic realm=\"x\"\r\n\r\n", NULL,
		    502 },
		{ "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", NULL, 403 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", NULL, 502 },
		{ "SSH-2.0-x\r\n", NULL, 502 },
		{ NULL, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 403 },
		{ NULL, "HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n", 502 },
		{ NULL, "HTTP/1.1 504 Slow\r\nContent-Length: 0\r\n\r\n",
		    502 },
		{ NULL, "junk\r\n\r\n", 502 }
	};
	struct hop h = hop();
	struct kit_ws w = { 0 };
	size_t i;
	int c;

	(void)state;
	serve("-x", h.url, LOCAL);
	c = kit_client(&px);
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("refusal %zu", i);
		kit_puts(c, kit_request("something.invalid:443", ""));
		if (cases[i].handshake != NULL) {
			w.fd = kit_accept(h.lfd);
			reads_handshake(w.fd, "/", h.hp, ASKS);
			kit_puts(w.fd, cases[i].handshake);
		} else {
			w = shakes_hands(&h, ASKS);
			reads_connect(&w, "something.invalid:443");
			kit_ws_puts(&w, cases[i].reply);
		}
		(void)kit_refusal(c, cases[i].status, "", KIT_STAYS);
		if (cases[i].handshake == NULL)
			(void)close_code(ws_next(&w));
		ws_part(&w, 1000);
	}
	kit_untouched(h.lfd);
	(void)close(c);
	settles();
}

/* An http:// request goes through the hop by CONNECT; and the client that
 * asks may come by WebSocket, too. */
static void
chain_of_proxies(void **state)
{
	struct kit_proxy gw;
	unsigned oport;
	char got[4096];
	int ol = kit_listen(AF_INET, &oport), c, o;

	(void)state;
	kit_proxy(&gw, LOCAL);
	serve("-x", kit_str("ws://127.0.0.1:%u/", gw.port), LOCAL);
	c = kit_ask(&px, kit_str("GET http://127.0.0.1:%u/page HTTP/1.1\r\n"
	    "Host: 127.0.0.1:%u\r\nConnection: close\r\n\r\n", oport, oport));
	o = kit_accept(ol);
	(void)kit_head(o, got, sizeof(got));
	if (strncmp(got, "GET /page HTTP/1.1\r\n", 20) != 0)
		kit_fail("the origin was asked <<%s>>", got);
	kit_field_is(got, "Host", kit_str("127.0.0.1:%u", oport));
	kit_puts(o, "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello");
	(void)kit_slurp(c, got, sizeof(got));
	if (strncmp(got, "HTTP/1.1 200 Fine\r\n", 19) != 0 ||
	    strcmp(strstr(got, "\r\n\r\n"), "\r\n\r\nhello") != 0)
		kit_fail("the page is <<%s>>", got);
	(void)close(o);
	(void)close(c);
	kit_farewell(kit_tunnel(&px, tl, tport));
	farewell(tunnel(ASKS));
	farewell_plain(tunnel(NULL));
	settles();
	kit_proxy_settles(&gw);
}


/* ---- options that meet a ws hop ------------------------------------------ */

static void
open_and_close(void **state)
{
	struct hop h = hop();
	struct kit_proc *p;
	struct kit_ws w;
	int t;

	(void)state;
	p = kit_httptun(NULL, "-z", "-x", h.url, HOST, PORT, NONE);
	w = shakes_hands(&h, ASKS);
	reads_connect(&w, AUTHORITY);
	kit_ws_puts(&w, OK200);
	(void)kit_until_end(w.fd);
	(void)close(w.fd);
	ends_well(p);

	p = kit_httptun(NULL, "-z", "-x", h.url, HOST, PORT, NONE);
	w = shakes_hands(&h, ASKS);
	reads_connect(&w, AUTHORITY);
	kit_ws_puts(&w, "HTTP/1.1 403 No\r\n\r\n");
	(void)close(w.fd);
	ends_badly(p, 1, kit_str("%s: 403 No", h.hp));

	/* for the target, and the proxy, it is an end in order */
	serve("-v", LOCAL);
	p = kit_httptun(NULL, "-z", "-x", kit_str("ws://127.0.0.1:%u/",
	    px.port), "127.0.0.1", kit_str("%u", tport), NONE);
	t = kit_accept(tl);
	kit_eof(t);
	(void)close(t);
	ends_well(p);
	kit_err_wait(px.proc, " done\n");
	settles();
}

/* A WebSocket's descriptor is of no use to another program. */
static void
wrong_usage(void **state)
{
	static const char *const urls[] = {
		"ws://", "ws:///x", "ws://h:0/", "ws://h:65536/", "ws://h:x/",
		"ws://[::1/", "ws://h /", "ws://h/a b", "ws://h/\x01"
	};
	struct kit_opt opt = { .out = KIT_SOCK };
	struct hop h = hop();
	struct kit_proc *p;
	size_t i;

	(void)state;
	p = kit_httptun(&opt, "-F", "-x", h.url, HOST, PORT, NONE);
	ends_badly(p, 2, "");
	p = kit_httptun(&opt, "-F", "-x", kit_str("http://%s", h.hp), "-x",
	    h.url, HOST, PORT, NONE);
	ends_badly(p, 2, "");
	for (i = 0; i < KIT_COUNT(urls); i++) {
		kit_note("URL %s", urls[i]);
		p = kit_httptun(NULL, "-x", urls[i], HOST, PORT, NONE);
		ends_badly(p, 2, "");
		p = kit_httptun(NULL, urls[i], NONE);
		ends_badly(p, 2, "");
	}
	p = kit_httptun(&opt, "-F", h.url, NONE);
	ends_badly(p, 2, "");
	kit_untouched(h.lfd);
}


/* ---- the plain bridge ---------------------------------------------------- */

static struct near
open_bridge(const struct hop *h)
{
	struct near n = greeted(kit_httptun(NULL, kit_str("ws://%s/path?q",
	    h->hp), NONE), h, "/path?q", NULL);

	kit_puts(n.w.fd, upgrade(NULL));
	return n;
}

/* It carries both ways, and the server ends it. */
static void
bridge_farewell(struct near n)
{
	kit_puts(n.p->in, "question");
	ws_expect(&n.w, "question");
	kit_ws_puts(&n.w, "answer");
	kit_expect(n.p->out, "answer");
	ws_close(&n.w, 1000);
	ws_expect_close(&n.w, 1000);
	(void)close(n.w.fd);
	ends_well(n.p);
}

/* Both ways as they come; the end of stdin is nobody's business. */
static void
bridge(void **state)
{
	static const int codes[] = { 1000, 0 };
	struct stream *s[4];
	struct hop h = hop();
	struct near n;
	size_t i;
	int got;

	(void)state;
	for (i = 0; i < KIT_COUNT(codes); i++) {
		n = open_bridge(&h);
		kit_puts(n.p->in, "question");
		ws_expect(&n.w, "question");
		kit_ws_say(&n.w, FIN | TEXT, "end");
		kit_ws_say(&n.w, TEXT, "\xe2\x82");
		kit_ws_say(&n.w, FIN | CONT, "\xac");
		kit_ws_puts(&n.w, "\xff");
		kit_expect(n.p->out, "end\xe2\x82\xac\xff");
		s[0] = stream(NULL, n.p->in, KIT_OUT, 2 * MB, 1);
		s[1] = stream(&n.w, -1, KIT_IN, 2 * MB, 1);
		s[2] = stream(&n.w, -1, KIT_OUT, 2 * MB, 2);
		s[3] = stream(NULL, n.p->out, KIT_IN, 2 * MB, 2);
		s[1]->end = s[2]->end = s[3]->end = 0;
		pump(s[0], s[1], s[2], s[3], NULL);
		kit_idle(n.p);
		kit_silent(n.w.fd, 0);
		kit_ws_say(&n.w, FIN | TEXT, "late");
		kit_expect(n.p->out, "late");
		ws_close(&n.w, codes[i]);
		got = close_code(ws_next(&n.w));
		if (got != 1000 && got != codes[i])
			kit_fail("Close %d for %d", got, codes[i]);
		(void)close(n.w.fd);
		ends_well(n.p);
	}
	kit_untouched(h.lfd);
}

/* The server may end it while stdin has not, in order or not. */
static void
bridge_ends(void **state)
{
	static const struct {
		int	 code, status;		/* -1: TCP ends */
	} cases[] = {
		{ 1000, 0 }, { 0, 0 }, { 1001, 1 }, { 1011, 1 }, { 4000, 1 },
		{ -1, 1 }
	};
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("the bridge's end %d", cases[i].code);
		n = open_bridge(&h);
		kit_ws_say(&n.w, FIN | TEXT, "last words");
		kit_expect(n.p->out, "last words");
		if (cases[i].code >= 0) {
			ws_close(&n.w, cases[i].code);
			(void)close_code(ws_next(&n.w));
		}
		(void)close(n.w.fd);
		if (cases[i].status == 0)
			ends_well(n.p);
		else
			ends_badly(n.p, 1, h.hp);
	}
	/* what is no frame breaks it, too */
	n = open_bridge(&h);
	send_fault(&n.w, &faults[0]);
	ws_expect_close(&n.w, 1002);
	ws_part(&n.w, 1002);
	ends_badly(n.p, 1, h.hp);
	kit_untouched(h.lfd);
}

/* Nothing but -H asks for a protocol, and then it may be given or not. */
static void
bridge_protocols(void **state)
{
	static const struct {
		const char	*asked, *answer;
		int		 good;
	} cases[] = {
		{ "binary", "binary", 1 }, { "binary", NULL, 1 },
		{ "binary, base64", "base64", 1 }, { "binary", "base64", 0 },
		{ NULL, "binary", 0 }, { NULL, ASKS, 0 }
	};
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(cases); i++) {
		kit_note("protocol %zu", i);
		n = greeted(cases[i].asked == NULL ?
		    kit_httptun(NULL, h.url, NONE) : kit_httptun(NULL, "-H",
		    kit_str("Sec-WebSocket-Protocol: %s", cases[i].asked),
		    h.url, NONE), &h, "/", cases[i].asked);
		kit_puts(n.w.fd, upgrade(cases[i].answer));
		if (cases[i].good) {
			bridge_farewell(n);
			continue;
		}
		ends_badly(n.p, 1, h.hp);
		(void)close(n.w.fd);
	}
	kit_untouched(h.lfd);
}

/* A bridge whose server sends its 101 and these frames together, cut here;
 * how many bytes they are. */
static size_t
bridge_cut(const struct hop *h, struct near *n, const struct ws_wire *frames,
    size_t cut)
{
	const char *answer;
	struct ws_wire o;

	kit_note("cut at %zu", cut);
	*n = greeted(kit_httptun(NULL, h->url, NONE), h, "/", NULL);
	answer = upgrade(NULL);
	o.n = strlen(answer);
	memcpy(o.b, answer, o.n);
	assert_true(o.n + frames->n <= sizeof(o.b));
	memcpy(o.b + o.n, frames->b, frames->n);
	o.n += frames->n;
	kit_send(n->w.fd, o.b, cut);
	if (cut > 0)
		kit_idle(n->p);
	kit_send(n->w.fd, o.b + cut, o.n - cut);
	return o.n;
}

/* A server that talks first may do so together with its 101. */
static void
bridge_server_talks_first(void **state)
{
	struct ws_wire o = { 0 };
	struct hop h = hop();
	struct near n;
	size_t cut, total = 1;

	(void)state;
	ws_add(&o, 0, FIN | BINARY, "220 hello\r\n");
	ws_add(&o, 0, FIN | PING, "x");
	ws_add(&o, 0, FIN | TEXT, "250 well");
	for (cut = 0; cut < total; cut += cut < 100 ? 10 : 1) {
		total = bridge_cut(&h, &n, &o, cut);
		kit_expect(n.p->out, "220 hello\r\n250 well");
		ws_expect_pong(&n.w, "x");
		bridge_farewell(n);
	}
	kit_untouched(h.lfd);
}

/* Or say no more than good-bye. */
static void
bridge_server_closes_at_once(void **state)
{
	struct ws_wire o = { 0 };
	struct hop h = hop();
	struct near n;
	size_t cut, total = 1;

	(void)state;
	ws_add(&o, 0, FIN | BINARY, "sorry");
	ws_add(&o, 0, FIN | CLOSE, "\x03\xe8");
	for (cut = 0; cut < total; cut += cut < 100 ? 10 : 1) {
		total = bridge_cut(&h, &n, &o, cut);
		ws_expect_close(&n.w, 1000);
		(void)close(n.w.fd);
		kit_expect(n.p->out, "sorry");
		ends_well(n.p);
	}
	kit_untouched(h.lfd);
}

/* It has hops, credentials and local ports as any tunnel has. */
static void
bridge_by_other_ways(void **state)
{
	struct kit_proxy gw;
	struct hop h = hop();
	struct near n;
	int c;

	(void)state;
	kit_proxy(&gw, LOCAL);
	n = greeted(kit_httptun(NULL, "-H", "X-One: 1", "-x",
	    kit_str("127.0.0.1:%u", gw.port), h.url, NONE), &h, "/", NULL);
	kit_field_is(head, "X-One", NULL);		/* the first hop's */
	kit_puts(n.w.fd, upgrade(NULL));
	bridge_farewell(n);
	kit_proxy_settles(&gw);

	n = greeted(kit_httptun(NULL, kit_str("ws://u:pw@%s/x", h.hp), NONE),
	    &h, "/x", NULL);
	kit_field_is(head, "Authorization", NULL);
	kit_puts(n.w.fd, ASK401 "Content-Length: 0\r\n\r\n");
	reads_handshake(n.w.fd, "/x", h.hp, NULL);
	kit_field_is(head, "Authorization", kit_basic("u:pw"));
	kit_puts(n.w.fd, upgrade(NULL));
	bridge_farewell(n);

	n.p = kit_httptun(NULL, "-L", kit_str("0:ws://%s/x", h.hp), NONE);
	c = kit_connect(AF_INET, kit_listening(n.p, 0));
	n = greeted(n.p, &h, "/x", NULL);
	kit_puts(n.w.fd, upgrade(NULL));
	kit_puts(c, "question");
	ws_expect(&n.w, "question");
	kit_ws_puts(&n.w, "answer");
	ws_close(&n.w, 1000);
	kit_expect(c, "answer");
	kit_eof(c);
	ws_expect_close(&n.w, 1000);
	assert_true(kit_alive(n.p));
}


/* ---- time ---------------------------------------------------------------- */

/* Clients that ask too late, each in its way. */
static void
ask_too_late(const struct kit_proxy *slow, struct kit_ws w[3])
{
	w[0] = ws_client_on(kit_client(slow), ASKS);
	w[1] = ws_client_on(kit_client(slow), NULL);
	kit_ws_say(&w[1], BINARY, "CONNECT 127.0.0.1:1 HTTP/1.1\r\n");
	w[2] = ws_client_on(kit_client(slow), ASKS);
	kit_ws_say(&w[2], FIN | PING, "hello");
	ws_expect_pong(&w[2], "hello");
}

/* The program that waits for a second only. */
static struct near
hasty(const struct hop *h)
{
	return greeted(kit_httptun(NULL, "-w", "1", "-x", h->url, HOST, PORT,
	    NONE), h, "/", ASKS);
}

static void
both_end(struct near *n)
{
	kit_half_close(n->p->in);
	kit_ws_end(&n->w);
	ws_expect_end(&n->w);
	ws_expect_close(&n->w, 1000);
}

/* A server that has both ends and leaves TCP open; does it say Close? */
static struct near
not_parting(const struct hop *h, int closes)
{
	struct near n = open_near(h, ASKS);

	both_end(&n);
	if (closes)
		ws_close(&n.w, 1000);
	return n;
}

/* The same behind another one, who may have all that it has not. */
static struct near
far_off(const struct hop *h)
{
	struct near n;

	n = greeted(kit_httptun(NULL, "-x", kit_str("ws://127.0.0.1:%u",
	    px.port), "-x", h->url, HOST, PORT, NONE), h, "/", ASKS);
	lets_in(&n, ASKS);
	both_end(&n);
	return n;
}

/* Who may be stalled is waited for. */
static void
parts_late(struct near n)
{
	assert_true(kit_alive(n.p));
	ws_close(&n.w, 1000);
	(void)close(n.w.fd);
	ends_well(n.p);
}

/* Where `end` was not agreed what follows a Close may take its time. */
static void
more_to_say(struct pair *c, struct near *n)
{
	kit_ws_puts(&c->c, "late");
	kit_expect(c->t, "late");
	ws_close(&c->c, 1000);
	kit_eof(c->t);
	kit_eof(c->c.fd);
	(void)close(c->c.fd);
	kit_ws_puts(&n->w, "late");
	ws_close(&n->w, 1000);
	kit_expect(n->p->out, "late");
	(void)close(n->w.fd);
	ends_well(n->p);
}

/* All that waits a second or two, at once. */
static void
waiting(void **state)
{
	struct hop h = hop();
	struct kit_proxy slow;
	struct near mute, late, silent, stalled, inside, lingering, plain;
	struct pair a, b, c, d;
	struct kit_ws w[3];
	int i;

	(void)state;
	kit_proxy(&slow, "-w", "1", LOCAL);
	ask_too_late(&slow, w);
	/* -w is for the handshake and for the CONNECT */
	mute = hasty(&h);
	late = hasty(&h);
	kit_puts(late.w.fd, upgrade(ASKS));
	reads_connect(&late.w, AUTHORITY);
	serve(LOCAL);
	a = tunnel(ASKS);
	kit_half_close(a.t);
	kit_ws_end(&a.c);
	ws_expect_end(&a.c);
	ws_expect_close(&a.c, 1000);		/* not answered */
	b = tunnel(ASKS);
	send_fault(&b.c, &faults[0]);
	ws_expect_close(&b.c, 1002);		/* neither */
	c = tunnel(NULL);
	kit_half_close(c.t);
	ws_expect_close(&c.c, 1000);
	plain = open_near(&h, NULL);
	kit_half_close(plain.p->in);
	ws_expect_close(&plain.w, 1000);
	d = tunnel(ASKS);
	kit_half_close(d.t);
	kit_ws_end(&d.c);
	ws_expect_end(&d.c);
	ws_expect_close(&d.c, 1000);
	kit_ws_say(&d.c, FIN | PONG, "");	/* not answered, but there */
	stalled = not_parting(&h, 0);
	kit_ws_say(&stalled.w, FIN | PONG, "");
	inside = far_off(&h);
	silent = not_parting(&h, 0);
	lingering = not_parting(&h, 1);

	for (i = 0; i < 3; i++) {
		(void)ws_reply(&w[i], 408);
		ws_bye(&w[i]);
	}
	ends_badly(mute.p, 1, h.hp);
	ends_badly(late.p, 1, h.hp);
	kit_eof(a.c.fd);
	(void)kit_until_end(b.c.fd);
	kit_until_reset(b.t);
	ends_well(silent.p);
	ends_well(lingering.p);
	parts_late(stalled);
	parts_late(inside);
	ws_close(&d.c, 1000);
	kit_eof(d.c.fd);
	more_to_say(&c, &plain);
	kit_proxy_settles(&slow);
	settles();
}

/*
 * What a command ends with means nothing behind the Close frames, be its end
 * seen before its last words are read, or while somebody holds its stdout.
 */
static void
command_dies_behind(void **state)
{
	static const char *const first[] = { "", "sleep 100 & " };
	struct hop h = hop();
	struct near n;
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(first); i++) {
		n = greeted(kit_httptun(NULL, "-x", kit_str("exec:%s%s %%h %%p; "
		    "echo over >&2; exit 3", first[i], kit_binary()), "-x",
		    h.url, HOST, PORT, NONE), &h, "/", ASKS);
		lets_in(&n, ASKS);
		both_end(&n);
		kit_stop(n.p->pid);
		ws_close(&n.w, 1000);
		kit_reset(n.w.fd);
		kit_err_wait(n.p, "over\n");
		kit_go_on();
		kit_exits(n.p, 0);
		assert_int_equal(kit_said(n.p, "status"), 0);
	}
}

/* One that has said all reads on as long as the client's Close is due. */
static void
command_reads_on(void **state)
{
	struct kit_ws w;

	(void)state;
	serve("-v", "-x", "exec:exec >&-; sleep 1.5; cat >&2", LOCAL);
	w = ws_client(ASKS);
	kit_ws_puts(&w, kit_request_to(tport));
	ws_expect(&w, KIT_OK);
	ws_expect_end(&w);
	kit_ws_puts(&w, "last words\n");
	kit_ws_end(&w);
	kit_err_wait(px.proc, "last words\n");
	ws_bye(&w);
	kit_err_wait(px.proc, " done\n");
}

/* An argument is the pattern of the tests to run. */
int
main(int argc, char *argv[])
{
	static const struct CMUnitTest tests[] = {
		KIT_TEST(handshakes),
		KIT_TEST(accepts_of_keys),
		KIT_TEST(protocols),
		KIT_TEST(handshakes_refused),
		KIT_TEST(handshake_at_every_cut),
		KIT_TEST(credentials),
		KIT_TEST(credentials_inside),
		KIT_TEST(connect_in_all_shapes),
		KIT_TEST(connect_at_every_cut),
		KIT_TEST(connect_refused),
		KIT_TEST(bytes_behind_a_refused_connect),
		KIT_TEST(junk_inside),
		KIT_TEST(giving_up_while_connecting),
		KIT_TEST(end_client_first),
		KIT_TEST(end_target_first),
		KIT_TEST(end_crossing),
		KIT_TEST(end_in_fragments),
		KIT_TEST(other_text),
		KIT_TEST(data_after_end),
		KIT_TEST(close_before_both_ends),
		KIT_TEST(tcp_ends_without_close),
		KIT_TEST(target_resets),
		KIT_TEST(text_is_data),
		KIT_TEST(text_at_every_cut),
		KIT_TEST(text_that_is_no_utf8),
		KIT_TEST(plain_target_ends),
		KIT_TEST(plain_client_closes),
		KIT_TEST(plain_client_closes_early),
		KIT_TEST(plain_client_closes_unread),
		KIT_TEST(plain_broken),
		KIT_TEST(faults_from_the_client),
		KIT_TEST(bad_closes_from_the_client),
		KIT_TEST(frames_without_a_mask),
		KIT_TEST(faults_at_every_cut),
		KIT_TEST(pings),
		KIT_TEST(empty_ping),
		KIT_TEST(pings_unread),
		KIT_TEST(pings_within_streams),
		KIT_TEST(both_directions_at_once),
		KIT_TEST(frames_of_all_sizes),
		KIT_TEST(empty_frames),
		KIT_TEST(stalled_target),
		KIT_TEST(stalled_client),
		KIT_TEST(breaking_while_busy),
		KIT_TEST(fault_of_a_stalled_client),
		KIT_TEST(nothing_is_left),
		KIT_TEST(handshake_request),
		KIT_TEST(handshake_host),
		KIT_TEST(handshake_fields),
		KIT_TEST(handshake_for_another_protocol),
		KIT_TEST(handshake_answers),
		KIT_TEST(handshakes_that_fail),
		KIT_TEST(server_goes),
		KIT_TEST(answers_at_every_cut),
		KIT_TEST(answers_a_challenge),
		KIT_TEST(refused_twice),
		KIT_TEST(no_secret_is_shown),
		KIT_TEST(near_both_ways),
		KIT_TEST(near_ends_first),
		KIT_TEST(far_ends_first),
		KIT_TEST(server_closes_first),
		KIT_TEST(near_without_end),
		KIT_TEST(near_closed_without_end),
		KIT_TEST(far_breaks),
		KIT_TEST(faults_from_the_server),
		KIT_TEST(text_from_the_server),
		KIT_TEST(mask_keys),
		KIT_TEST(frames_of_all_sizes_from_the_server),
		KIT_TEST(near_stalls),
		KIT_TEST(connect_is_refused),
		KIT_TEST(through_many_hops),
		KIT_TEST(websocket_in_websocket),
		KIT_TEST(answer_and_more_at_once),
		KIT_TEST(bridge_in_websocket),
		KIT_TEST(carrier_by_option),
		KIT_TEST(local_port),
		KIT_TEST(local_port_resets),
		KIT_TEST(chain_carries),
		KIT_TEST(chain_refused),
		KIT_TEST(chain_of_proxies),
		KIT_TEST(open_and_close),
		KIT_TEST(wrong_usage),
		KIT_TEST(bridge),
		KIT_TEST(bridge_ends),
		KIT_TEST(bridge_protocols),
		KIT_TEST(bridge_server_talks_first),
		KIT_TEST(bridge_server_closes_at_once),
		KIT_TEST(bridge_by_other_ways),
		KIT_TEST(waiting),
		KIT_TEST(command_dies_behind),
		KIT_TEST(command_reads_on)
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("ws", tests, NULL, NULL);
}
