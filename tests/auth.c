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
 * Credentials: Digest as httptun -l offers and judges it, request by request;
 * other people's clients and proxies in both directions; a chain of proxies
 * that each want their own; and that no secret shows anywhere.
 *
 * The Digests here are computed by http.c, which unit_http holds against the
 * RFCs' own examples.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../httptun.h"
#include "kit.h"

#define NONE	((char *)NULL)
#define SOME	200000

#define ASKS	"Proxy-Authenticate"
#define SAYS	"Proxy-Authorization"
#define W_ASKS	"WWW-Authenticate"
#define W_SAYS	"Authorization"

static const char users[] = "# who may\neve:x\nal:o:p e%n\nb\"o\\b:\xc3\xa4\n";

static struct kit_proxy px;
static int tl;			/* where a target listens */
static unsigned tport;
static const char *to;		/* the same as an authority */

/* Starts httptun -l with the users and these further arguments, and waits for
 * it; a target is there, too. */
#define SERVE(...) serve_with(kit_httptun(NULL, "-l", "-a", kit_file("users", \
	0600, users), __VA_ARGS__, "127.0.0.1", "0", NONE))

static void
serve_with(struct kit_proc *p)
{
	kit_proxy_is(&px, p);
	tl = kit_listen(AF_INET, &tport);
	to = kit_str("127.0.0.1:%u", tport);
}


/* ---- what httptun -l offers and takes ------------------------------------ */

/* What an answer is made of; what is NULL is not said. */
struct digest_of {
	const char	*user, *pass, *method, *uri, *nonce, *realm, *algorithm,
			*qop, *cnonce, *nc;
};

/* al's Digest for a CONNECT to the target, but for what is changed in it */
static struct digest_of
digest_of(const char *nonce, const char *nc)
{
	struct digest_of d = { "al", "o:p e%n", "CONNECT", to, nonce,
	    "httptun", "MD5", "auth", "c", nc };

	return d;
}

static const char *
parameter(const char *name, const char *value)
{
	const char *s = "";

	if (value == NULL)
		return "";
	for (; *value != '\0'; value++)
		s = kit_str("%s%s%c", s, *value == '"' || *value == '\\' ?
		    "\\" : "", *value);
	return kit_str(", %s=\"%s\"", name, s);
}

/* The value of such a field. */
static const char *
digest(const struct digest_of *o)
{
	static struct digest d;
	const char *params = kit_str("x=y%s%s%s%s%s%s%s%s",
	    parameter("realm", o->realm), parameter("nonce", o->nonce),
	    parameter("uri", o->uri), parameter("algorithm", o->algorithm),
	    parameter("qop", o->qop), parameter("cnonce", o->cnonce),
	    parameter("nc", o->nc), parameter("username", o->user));
	struct span s = { params, strlen(params) };
	struct span method = { o->method, strlen(o->method) };
	char hex[DIGEST_HEX];

	assert_int_equal(auth_digest_parse(s, &d), 0);
	assert_int_equal(auth_digest_response(hex, &d, o->user, o->pass,
	    method), 0);
	return kit_str("Digest %s, response=\"%s\"", params, hex);
}

/* A CONNECT to the target with this value. */
static const char *
connect_as(const char *value)
{
	return kit_request(to, kit_str(SAYS ": %s\r\n", value));
}

/* A 407 on this connection; the nonce that is offered, and whether it says
 * that the last one was stale. */
static const char *
refused(int c, int stale)
{
	const char *reply = kit_reply(c, 407), *nonce;

	nonce = kit_offers(reply, ASKS, 1);
	if ((strstr(reply, ", stale=true") != NULL) != stale)
		kit_fail("%sstale: <<%s>>", stale ? "not " : "", reply);
	return nonce;
}

/* A nonce to begin with. */
static const char *
new_nonce(void)
{
	int c = kit_ask(&px, kit_request(to, ""));
	const char *nonce = refused(c, 0);

	(void)close(c);
	return nonce;
}

/* It opens a tunnel, on a connection of its own. */
static void
opens(const char *value)
{
	struct kit_pair p;

	kit_note("good: %s", value);
	p.c = kit_ask(&px, connect_as(value));
	p.t = kit_accept(tl);
	kit_expect(p.c, KIT_OK);
	kit_farewell(p);
	(void)close(p.c);
	(void)close(p.t);
}

/* It opens nothing. */
static void
opens_not(const char *value, int stale)
{
	int c;

	kit_note("no good: %s", value);
	c = kit_ask(&px, connect_as(value));
	(void)refused(c, stale);
	(void)close(c);
}

/* Each count of a nonce once, in any order. */
static void
nonce_counts(void **state)
{
	static const char *const counts[] = {
		"00000001", "00000002", "00000007", "00000004", "00000003",
		"0000000a", "0000000B", "00000010", "ffffffff"
	};
	struct digest_of d;
	const char *nonce;
	size_t i;
	int c;

	(void)state;
	SERVE("-j", "1");
	/* on the connection of the 407, and on others */
	c = kit_ask(&px, kit_request(to, ""));
	nonce = refused(c, 0);
	d = digest_of(nonce, "00000000");
	kit_puts(c, connect_as(digest(&d)));
	(void)refused(c, 1);
	for (i = 0; i < KIT_COUNT(counts); i++) {
		d = digest_of(nonce, counts[i]);
		opens(digest(&d));
		opens_not(digest(&d), 1);
	}
	/* what was used so long before is not remembered, so it is no good */
	d = digest_of(nonce, "00000009");
	opens_not(digest(&d), 1);
	d = digest_of(new_nonce(), "00000001");
	d.cnonce = "d";
	kit_puts(c, connect_as(digest(&d)));
	(void)close(kit_accept(tl));
	kit_expect(c, KIT_OK);
	kit_untouched(tl);
}

/* Whatever else is wrong uses no count up, and is not called stale. */
static void
wrong_digests(void **state)
{
	const char *nonce;
	struct digest_of good, d;
	int i, done = 0;

	(void)state;
	SERVE("-j", "1");
	good = digest_of(nonce = new_nonce(), "00000001");
	for (i = 0; !done; i++) {
		d = good;
		switch (i) {
		case 0: d.pass = "o:p e%m"; break;
		case 1: d.user = "eve"; break;
		case 2: d.user = "nobody"; break;
		case 3: d.user = "Al"; break;
		case 4: d.method = "GET"; break;
		case 5: d.uri = "127.0.0.1:1"; break;
		case 6: d.uri = "/"; break;
		case 7: d.uri = kit_str("%s/", to); break;
		case 8: d.realm = "squid"; break;
		case 9: d.realm = NULL; break;
		case 10: d.nonce = NULL; break;
		case 11: d.qop = NULL; break;
		case 12: d.qop = "auth-int"; break;
		case 13: d.cnonce = NULL; break;
		case 14: d.nc = NULL; break;
		case 15: d.nc = "1"; break;
		case 16: d.nc = "000000001"; break;
		case 17: d.algorithm = "MD5-sess"; break;
		case 18: d.algorithm = "SHA-512-256"; break;
		case 19: d.pass = ""; break;
		case 20: d.uri = NULL; break;
		default: done = 1; continue;
		}
		opens_not(digest(&d), 0);
	}
	opens_not("Digest", 0);
	opens_not(kit_str("Digest nonce=\"%s\"", nonce), 0);
	opens_not(kit_str("%s, nonce=\"%s\"", digest(&good), nonce), 0);
	opens_not(kit_str("%.*s", (int)strlen(digest(&good)) - 1,
	    digest(&good)), 0);
	/* right credentials, but no nonce that was ever given */
	d = good;
	d.nonce = kit_str("%.*s%c", (int)strlen(nonce) - 1, nonce,
	    nonce[strlen(nonce) - 1] == '0' ? '1' : '0');
	opens_not(digest(&d), 1);
	d.nonce = kit_str("%c%s", nonce[0] == '0' ? '1' : '0', nonce + 1);
	opens_not(digest(&d), 1);
	d.nonce = "";
	opens_not(digest(&d), 1);
	d.nonce = kit_str("%s0", nonce);
	opens_not(digest(&d), 1);
	d = good;
	d.nc = "0000000g";
	opens_not(digest(&d), 1);
	kit_untouched(tl);
	opens(digest(&good));
}

/* Who a good one may be, and in which hash; the parameters' order and case
 * are the client's. */
static void
right_digests(void **state)
{
	struct digest_of d;
	const char *s;

	(void)state;
	SERVE("-j", "1");
	d = digest_of(new_nonce(), "00000001");
	d.algorithm = NULL;
	opens(digest(&d));
	d.nc = "00000002";
	d.algorithm = "SHA-256";
	opens(digest(&d));
	d.nc = "00000003";
	d.algorithm = "sha-256";
	opens(kit_str("dIGEST%s", digest(&d) + 6));
	d.nc = "00000004";
	d.user = "eve";
	d.pass = "x";
	opens(digest(&d));
	d.nc = "00000005";
	s = digest(&d);
	opens(kit_str("Digest ,opaque=\"\" ,%s,, USERHASH = false",
	    strchr(s, ' ')));
	d.nc = "00000006";
	d.user = "b\"o\\b";
	d.pass = "\xc3\xa4";
	opens(digest(&d));
	kit_untouched(tl);
}

/* Nonces of another httptun are none. */
static void
foreign_nonce(void **state)
{
	struct digest_of d;
	const char *nonce;

	(void)state;
	SERVE("-j", "1");
	nonce = new_nonce();
	SERVE("-j", "1");
	d = digest_of(nonce, "00000001");
	opens_not(digest(&d), 1);
	kit_untouched(tl);
}

/* Whichever worker has made it, and whichever gets the connection: each count
 * once.  One that has taken another one's place knows nothing of its nonces. */
static void
nonce_workers(void **state)
{
	pid_t pids[16], helper;
	struct digest_of d;
	const char *nonce, *last = NULL;
	int i, n;

	(void)state;
	SERVE("-j", "4");
	nonce = new_nonce();
	for (i = 1; i < 25; i++) {
		d = digest_of(nonce, kit_str("%08x", i));
		opens(last = digest(&d));
	}
	for (i = 0; i < 8; i++)
		opens_not(last, 1);
	n = kit_workers(&px, pids, 16, &helper);
	assert_int_equal(n, 4);
	for (i = 0; i < n; i++)
		kit_signal(pids[i], SIGKILL);
	for (i = 0; i < n; i++)
		kit_gone(pids[i]);
	kit_wait_workers(&px, pids, n, &helper);
	for (i = 0; i < 8; i++)
		opens_not(last, 1);
	d = digest_of(new_nonce(), "00000001");
	opens(digest(&d));
	kit_untouched(tl);
}

/* Nobody is in the place of one that has just died: its nonces are stale. */
static void
nonce_nobody(void **state)
{
	const char *nonces[12];
	char buf[4096];
	pid_t pids[16], helper;
	struct digest_of d;
	size_t i;
	int n, c, known = 0;

	(void)state;
	SERVE("-j", "4");
	for (i = 0; i < KIT_COUNT(nonces); i++)
		nonces[i] = new_nonce();
	n = kit_workers(&px, pids, 16, &helper);
	while (--n > 0) {
		kit_signal(pids[n], SIGKILL);
		kit_gone(pids[n]);
	}
	for (i = 0; i < KIT_COUNT(nonces); i++) {
		d = digest_of(nonces[i], "00000001");
		c = kit_ask(&px, connect_as(digest(&d)));
		(void)kit_head(c, buf, sizeof(buf));
		if (strcmp(buf, KIT_OK) == 0) {
			(void)close(kit_accept(tl));
			known++;
		} else if (strstr(buf, ", stale=true") == NULL)
			kit_fail("<<%s>>", buf);
		(void)close(c);
	}
	kit_note("%d of %zu were known", known, KIT_COUNT(nonces));
	kit_untouched(tl);
}

/* What the strongest is, as each -A has it, and to HTTP/1.0. */
static void
offers(void **state)
{
	static const char connect[] = "CONNECT 127.0.0.1:1 HTTP/1.%d\r\n"
	    "Connection: keep-alive\r\n\r\n";
	static const char basic[] =
	    "Basic realm=\"httptun\", charset=\"UTF-8\"";
	const char *val;
	char buf[4096];
	int c, minor;

	(void)state;
	for (minor = 0; minor < 2; minor++) {
		SERVE("-j", "1");
		c = kit_client(&px);
		kit_puts(c, minor ? kit_request("127.0.0.1:1", "") :
		    "CONNECT 127.0.0.1:1 HTTP/1.0\r\n\r\n");
		(void)kit_head(c, buf, sizeof(buf));
		(void)kit_offers(buf, ASKS, 0);
		val = kit_field(buf, ASKS);
		if (minor != (strstr(val, "=MD5") > strstr(val, "=SHA-256")))
			kit_fail("to HTTP/1.%d: %s", minor, val);

		SERVE("-A", "digest");
		c = kit_client(&px);
		kit_puts(c, kit_request("127.0.0.1:1", ""));
		val = kit_field(kit_reply(c, 407), ASKS);
		if (val == NULL || strstr(val, "Basic") != NULL ||
		    strstr(val, "Digest ") != val)
			kit_fail("-A digest: %s", val);
		kit_puts(c, kit_request("127.0.0.1:1", kit_str(SAYS ": %s\r\n",
		    kit_basic("al:o:p e%n"))));
		(void)kit_reply(c, 407);

		SERVE("-A", "basic");
		c = kit_client(&px);
		kit_puts(c, kit_str(connect, minor));
		kit_field_is(kit_reply(c, 407), ASKS, basic);
	}
}

/* -A any takes both, basic no Digest, and digest no Basic. */
static void
one_scheme(void **state)
{
	struct digest_of d;

	(void)state;
	SERVE("-A", "any");
	d = digest_of(new_nonce(), "00000001");
	opens(digest(&d));
	opens(kit_basic("al:o:p e%n"));
	SERVE("-A", "basic");
	opens(kit_basic("al:o:p e%n"));
	d.uri = to;
	(void)kit_reply(kit_ask(&px, connect_as(digest(&d))), 407);
	SERVE("-A", "digest");
	(void)kit_reply(kit_ask(&px, connect_as(kit_basic("al:o:p e%n"))),
	    407);
	kit_untouched(tl);
}

/* By inetd the next connection is another process's. */
static void
inetd(void **state)
{
	static const struct kit_opt sock = { .in = KIT_SOCK, .out = KIT_SOCK };
	const char *file = kit_file("users", 0600, users), *nonce;
	struct kit_pair p;
	struct kit_proc *i;
	struct digest_of d;
	char buf[4096];

	(void)state;
	tl = kit_listen(AF_INET, &tport);
	to = kit_str("127.0.0.1:%u", tport);
	i = kit_httptun(&sock, "-l", "-i", "-a", file, NONE);
	kit_puts(i->in, kit_str("CONNECT %s HTTP/1.0\r\n\r\n", to));
	(void)kit_head(i->out, buf, sizeof(buf));
	kit_field_is(buf, ASKS, "Basic realm=\"httptun\", charset=\"UTF-8\"");

	i = kit_httptun(&sock, "-l", "-i", "-a", file, NONE);
	kit_puts(i->in, kit_request(to, ""));
	nonce = refused(i->out, 0);
	d = digest_of(nonce, "00000001");
	kit_puts(i->in, connect_as(digest(&d)));
	p.c = i->in;
	p.t = kit_accept(tl);
	kit_expect(i->out, KIT_OK);
	kit_farewell(p);
	kit_exits(i, 0);
}

/* A 401 on this connection. */
static const char *
unauthorized(int c, int stale)
{
	const char *reply = kit_reply(c, 401);

	if ((strstr(reply, ", stale=true") != NULL) != stale)
		kit_fail("%sstale: <<%s>>", stale ? "not " : "", reply);
	kit_field_is(reply, ASKS, NULL);
	return kit_offers(reply, W_ASKS, 0);
}

/* An opening handshake, and each request of a session. */
static void
www(void **state)
{
	struct digest_of d = { "al", "o:p e%n", "GET", "/any", NULL, "httptun",
	    "SHA-256", "auth", "c", "00000001" };
	const char *path = "/0123456789abcdef0123456789abcdef";
	int c;

	(void)state;
	SERVE("-j", "2");
	c = kit_client(&px);
	kit_puts(c, "GET /any HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: " KIT_WS_KEY "\r\n\r\n");
	d.nonce = unauthorized(c, 0);
	kit_puts(c, kit_str("GET /any HTTP/1.1\r\nHost: x\r\nUpgrade: websocket"
	    "\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: " KIT_WS_KEY "\r\n" W_SAYS ": %s\r\n\r\n",
	    digest(&d)));
	kit_ws_upgraded(c, NULL);
	(void)close(c);

	c = kit_client(&px);
	kit_puts(c, kit_str("GET %s HTTP/1.1\r\nHost: x\r\n"
	    "Tunnel-Offset: 0\r\n\r\n", path));
	d.nonce = unauthorized(c, 0);
	d.uri = path;
	kit_puts(c, kit_str("GET %s HTTP/1.1\r\nHost: x\r\nTunnel-Offset: 0\r\n"
	    W_SAYS ": %s\r\n\r\n", path, digest(&d)));
	(void)kit_reply(c, 404);	/* there is no such session */
	kit_puts(c, kit_str("GET %s HTTP/1.1\r\nHost: x\r\nTunnel-Offset: 0\r\n"
	    W_SAYS ": %s\r\n\r\n", path, digest(&d)));
	(void)unauthorized(c, 1);
	d.nc = "00000003";
	d.uri = "/other";
	kit_puts(c, kit_str("GET %s HTTP/1.1\r\nHost: x\r\nTunnel-Offset: 0\r\n"
	    W_SAYS ": %s\r\n\r\n", path, digest(&d)));
	(void)unauthorized(c, 0);
	(void)close(c);
}

/* A request of a session's, with this count of the nonce, on a connection of
 * its own, which is whichever worker's; its status. */
static int
session_asks(struct digest_of *d, int count, const char *body)
{
	char buf[4096];
	int c;

	d->nc = kit_str("%08x", count);
	c = kit_ask(&px, kit_str("%s %s HTTP/1.1\r\nHost: x\r\n"
	    "Tunnel-Offset: 0\r\nContent-Length: %zu\r\n" W_SAYS
	    ": %s\r\n\r\n%s", d->method, d->uri, strlen(body), digest(d),
	    body));
	(void)kit_head(c, buf, sizeof(buf));
	(void)close(c);
	return atoi(buf + strlen("HTTP/1.1 "));
}

/* The nonce that opened a session serves for all of it, on each connection and
 * each count once; nothing of it is good afterwards. */
static void
session_workers(void **state)
{
	struct digest_of d = { "al", "o:p e%n", "POST",
	    "/0123456789abcdef0123456789abcdef", NULL, "httptun", "SHA-256",
	    "auth", "c", NULL };
	const char *form;
	int c, i, n = 1;

	(void)state;
	SERVE("-j", "4");
	form = kit_str("host=127.0.0.1&port=%u", tport);
	c = kit_ask(&px, kit_str("GET %s HTTP/1.1\r\nHost: x\r\n"
	    "Tunnel-Offset: 0\r\n\r\n", d.uri));
	d.nonce = unauthorized(c, 0);
	(void)close(c);
	assert_int_equal(session_asks(&d, n++, form), 200);
	(void)close(kit_accept(tl));
	for (i = 0; i < 16; i++)
		assert_int_equal(session_asks(&d, n++, form), 200);
	d.method = "PUT";
	for (i = 0; i < 16; i++)
		assert_int_equal(session_asks(&d, n++, ""), 200);
	for (i = 0; i < 16; i++)
		assert_int_equal(session_asks(&d, n - 1, ""), 401);
	d.method = "DELETE";
	assert_int_equal(session_asks(&d, n++, ""), 200);
	for (i = 0; i < 4; i++)
		assert_int_equal(session_asks(&d, n - 1, ""), 401);
	d.method = "POST";
	for (i = 1; i < 16; i++)
		assert_int_equal(session_asks(&d, i, form), 401);
	kit_untouched(tl);
}

/* Of an http:// request the target, or its path as curl has it. */
static void
http_uri(void **state)
{
	const char *url;
	struct digest_of d;
	int c, t, i;

	(void)state;
	SERVE("-j", "1");
	url = kit_str("http://%s/a/b?c=d", to);
	d = digest_of(new_nonce(), NULL);
	d.method = "GET";
	for (i = 0; i < 4; i++) {
		d.nc = kit_str("%08x", i + 1);
		d.uri = i == 0 ? url : i == 1 ? "/a/b?c=d" : i == 2 ? "/a/b" :
		    to;
		c = kit_ask(&px, kit_str("GET %s HTTP/1.1\r\nHost: %s\r\n" SAYS
		    ": %s\r\n\r\n", url, to, digest(&d)));
		if (i > 1) {
			(void)refused(c, 0);
			(void)close(c);
			continue;
		}
		t = kit_accept(tl);
		kit_puts(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
		if (strstr(kit_reply(c, 200), "\r\n\r\nok") == NULL)
			kit_fail("no body");
		(void)close(c);
		(void)close(t);
	}
	kit_untouched(tl);
}

/* Who is taken off the list is let in no more, whatever nonce he has. */
static void
reloaded(void **state)
{
	struct digest_of d;

	(void)state;
	SERVE("-v");
	d = digest_of(new_nonce(), "00000001");
	opens(digest(&d));
	(void)kit_file("users", 0600, "al:new\n");
	kit_signal(px.proc->pid, SIGHUP);
	kit_proxy_rests(&px);
	d.nc = "00000002";
	opens_not(digest(&d), 0);
	d.pass = "new";
	opens(digest(&d));
}


/* ---- what httptun answers ------------------------------------------------ */

#define DIGEST_MD5_OFFER	"Digest realm=\"r\", nonce=\"md5\", qop=\"auth\""
#define DIGEST_SHA_OFFER	"Digest realm=\"r\", nonce=\"sha\", " \
	"qop=\"auth\", algorithm=SHA-256"

/* A 407 with these offers. */
static const char *
asking(const char *fields)
{
	return kit_str("HTTP/1.1 407 Who?\r\n%sContent-Length: 0\r\n\r\n",
	    fields);
}

/* The credentials of the next request, or NULL. */
static const char *
next_answer(int fd)
{
	char buf[8192];

	(void)kit_head(fd, buf, sizeof(buf));
	return kit_field(buf, SAYS);
}

/* It is a good Digest of al:open, for this nonce and count. */
static void
answer_is(const char *value, const char *nonce, const char *nc)
{
	static struct digest d;
	char hex[DIGEST_HEX];
	struct span method = { "CONNECT", 7 }, s, *v = d.value;

	if (value == NULL || strncmp(value, "Digest ", 7) != 0)
		kit_fail("no Digest: %s", value);
	s.p = value + 7;
	s.n = strlen(s.p);
	assert_int_equal(auth_digest_parse(s, &d), 0);
	assert_int_equal(auth_digest_response(hex, &d, "al", "open", method),
	    0);
	if (!span_is(v[DIGEST_RESPONSE], hex) || !span_is(v[DIGEST_NONCE],
	    nonce) || !span_is(v[DIGEST_NC], nc) || !span_is(v[DIGEST_URI],
	    "h.example:1") || v[DIGEST_CNONCE].n < 16)
		kit_fail("nonce %s, nc %s: %s", nonce, nc, value);
}

static void
answers(void **state)
{
	static const struct {
		const char *scheme, *fields, *answer;
	} rows[] = {
		{ "any", ASKS ": " DIGEST_MD5_OFFER "\r\n" ASKS ": "
		    DIGEST_SHA_OFFER "\r\n" ASKS ": Basic realm=\"r\"\r\n",
		    "sha" },
		{ "any", ASKS ": Basic realm=\"r\", " DIGEST_MD5_OFFER ", "
		    DIGEST_SHA_OFFER "\r\n", "sha" },
		{ "any", ASKS ": NTLM, Basic realm=\"r\"\r\n" ASKS ": "
		    DIGEST_MD5_OFFER "\r\n", "md5" },
		{ "any", ASKS ": " DIGEST_SHA_OFFER "-sess, Negotiate YQ==, "
		    DIGEST_MD5_OFFER "\r\n", "md5" },
		{ "any", ASKS ": " DIGEST_SHA_OFFER "-sess\r\n" ASKS
		    ": Basic realm=\"Digest\"\r\n", "" },
		{ "digest", ASKS ": Basic realm=\"r\", " DIGEST_MD5_OFFER
		    "\r\n", "md5" },
		{ "digest", ASKS ": Basic realm=\"r\"\r\n", NULL },
	};
	const char *value, *hp;
	struct kit_proc *p;
	unsigned port;
	size_t i;
	int lfd, fd;

	(void)state;
	lfd = kit_listen(AF_INET, &port);
	hp = kit_str("127.0.0.1:%u", port);
	for (i = 0; i < KIT_COUNT(rows); i++) {
		kit_note("offers %zu", i);
		p = kit_httptun(NULL, "-A", rows[i].scheme, "-x", kit_str(
		    "al:open@%s", hp), "h.example", "1", NONE);
		fd = kit_accept(lfd);
		assert_null(next_answer(fd));
		kit_puts(fd, asking(rows[i].fields));
		if (rows[i].answer == NULL) {
			kit_refused(p, kit_str("httptun: %s: 407 Proxy "
			    "Authentication Required (offered: Basic)", hp));
			continue;
		}
		value = next_answer(fd);
		if (*rows[i].answer == '\0')
			assert_string_equal(value, kit_basic("al:open"));
		else
			answer_is(value, rows[i].answer, "00000001");
		kit_puts(fd, KIT_OK);
		(void)close(fd);
		kit_half_close(p->in);
		kit_exits(p, 0);
	}
}

/* The next connection begins with what was asked the last time; a nonce that
 * is stale is replaced, with the password that there is. */
static void
answers_again(void **state)
{
	static const char stale[] = ASKS ": Digest realm=\"r\", nonce=\"%d\", "
	    "qop=\"auth\", stale=%s\r\n";
	struct kit_proc *p;
	unsigned port, local;
	int lfd, fd, c, i;

	(void)state;
	lfd = kit_listen(AF_INET, &port);
	p = kit_httptun(NULL, "-x", kit_str("al:open@127.0.0.1:%u", port),
	    "-L", "0:h.example:1", NONE);
	local = kit_listening(p, 0);
	for (i = 0; i < 4; i++) {
		c = kit_connect(AF_INET, local);
		fd = kit_accept(lfd);
		if (i == 0) {
			assert_null(next_answer(fd));
			kit_puts(fd, asking(kit_str(stale, 0, "FALSE")));
		}
		answer_is(next_answer(fd), i < 3 ? "0" : "1", i < 2 ?
		    kit_str("%08d", i + 1) : i == 2 ? "00000003" : "00000002");
		if (i == 2) {
			kit_puts(fd, asking(kit_str(stale, 1, "True")));
			answer_is(next_answer(fd), "1", "00000001");
		}
		kit_puts(fd, KIT_OK);
		kit_puts(fd, "x");
		kit_expect(c, "x");
		(void)close(fd);
		(void)close(c);
	}
	/* old for the proxy, which does not say so; then it is the password */
	c = kit_connect(AF_INET, local);
	fd = kit_accept(lfd);
	answer_is(next_answer(fd), "1", "00000003");
	kit_puts(fd, asking(kit_str(stale, 2, "false")));
	answer_is(next_answer(fd), "2", "00000001");
	kit_puts(fd, asking(kit_str(stale, 3, "false")));
	kit_ends(c);
	kit_err_wait(p, "407 Proxy Authentication Required (offered: Digest; "
	    "credentials refused)\n");
	/* one for which each nonce is stale */
	c = kit_connect(AF_INET, local);
	fd = kit_accept(lfd);
	for (i = 0; next_answer(fd) != NULL && i <= RENEWALS; i++)
		kit_puts(fd, asking(kit_str(stale, i + 10, "true")));
	kit_puts(fd, asking(kit_str(stale, i + 10, "true")));
	kit_ends(c);
}


/* ---- other people's clients ---------------------------------------------- */

static const char web_script[] =
    "class Handler(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        body = b'hello\\n'\n"
    "        if '/info/refs' in self.path:\n"
    "            body = b'0' * 40 + b'\\trefs/heads/main\\n'\n"
    "        elif self.path.endswith('/HEAD'):\n"
    "            body = b'ref: refs/heads/main\\n'\n"
    "        self.send_response(200)\n"
    "        self.send_header('Content-Type', 'text/plain')\n"
    "        self.send_header('Content-Length', str(len(body)))\n"
    "        self.end_headers()\n"
    "        self.wfile.write(body)\n"
    "    def log_message(self, *args):\n"
    "        pass\n";

static struct kit_web web;

/* Placeholders: %P our proxy, %W the web server, %T a target. */
static const char *
filled(const char *arg)
{
	const char *at;

	while ((at = strchr(arg, '%')) != NULL && at[1] != '\0' &&
	    strchr("PWT", at[1]) != NULL)
		arg = kit_str("%.*s%u%s", (int)(at - arg), arg,
		    at[1] == 'P' ? px.port : at[1] == 'W' ? web.http : tport,
		    at + 2);
	return arg;
}

struct client {
	const char	*name;
	const char	*scheme;	/* our -A */
	const char	*out;		/* what the client writes, or NULL: it
					 * is refused */
	const char	*argv[16];
};

#define CURL	"curl", "-q", "-sSf", "-x", "http://127.0.0.1:%P"
#define AS	"-U", "al:open"
#define URL	"http://127.0.0.1:%W/"
#define NCAT	"ncat", "--proxy", "127.0.0.1:%P", "--proxy-type", "http", \
		"--proxy-auth"
#define GIT	"git", "-c", "http.proxy=http://al:open@127.0.0.1:%P"

static const struct client clients[] = {
	{ "curl --proxy-digest", "any", "hello\n", {
	    CURL, AS, "--proxy-digest", URL } },
	{ "curl --proxy-digest -p", "any", "hello\n", {
	    CURL, AS, "--proxy-digest", "-p", URL } },
	{ "curl --proxy-digest, -A digest", "digest", "hello\n", {
	    CURL, AS, "--proxy-digest", URL } },
	{ "curl --proxy-digest -p, -A digest", "digest", "hello\n", {
	    CURL, AS, "--proxy-digest", "-p", URL } },
	{ "curl --proxy-digest, -A basic", "basic", NULL, {
	    CURL, AS, "--proxy-digest", URL } },
	{ "curl --proxy-digest, wrong password", "any", NULL, {
	    CURL, "-U", "al:opem", "--proxy-digest", URL } },
	{ "curl --proxy-digest -p, wrong password", "any", NULL, {
	    CURL, "-U", "al:opem", "--proxy-digest", "-p", URL } },
	{ "curl --proxy-digest, many", "digest",
	    "hello\nhello\nhello\nhello\nhello\nhello\n", {
	    CURL, AS, "--proxy-digest", URL "[1-6]" } },
	{ "curl --proxy-digest -p, many", "digest",
	    "hello\nhello\nhello\nhello\n", {
	    CURL, AS, "--proxy-digest", "-p", "-H", "Connection: close",
	    URL "[1-4]" } },
	{ "curl --proxy-digest, a query", "digest", "hello\n", {
	    CURL, AS, "--proxy-digest", URL "a%20b?c=%22d" } },
	{ "curl --proxy-anyauth", "any", "hello\n", {
	    CURL, AS, "--proxy-anyauth", URL } },
	{ "curl --proxy-anyauth -p", "any", "hello\n", {
	    CURL, AS, "--proxy-anyauth", "-p", URL } },
	{ "curl --proxy-anyauth, -A digest", "digest", "hello\n", {
	    CURL, AS, "--proxy-anyauth", URL } },
	{ "curl --proxy-anyauth, -A basic", "basic", "hello\n", {
	    CURL, AS, "--proxy-anyauth", URL } },
	{ "curl --proxy-basic", "any", "hello\n", {
	    CURL, AS, "--proxy-basic", "-p", URL } },
	{ "curl --proxy-basic, -A digest", "digest", NULL, {
	    CURL, AS, "--proxy-basic", "-p", URL } },
	{ "curl, HTTP/1.0", "digest", "hello\n", {
	    "curl", "-q", "-sSf", "--proxy1.0", "127.0.0.1:%P", AS,
	    "--proxy-digest", "-p", URL } },
	{ "curl --digest, a session", "digest", "200", {
	    "curl", "-q", "-sS", "-u", "al:open", "--digest", "-H",
	    "Tunnel-Offset: 0", "-o", "/dev/null", "-w", "%{http_code}",
	    "-d", "host=127.0.0.1&port=%T",
	    "http://127.0.0.1:%P/0123456789abcdef0123456789abcdef" } },
	{ "git", "any", "HEAD\n", { GIT, "ls-remote", URL "x.git" } },
	{ "git, -A digest", "digest", "HEAD\n", {
	    GIT, "ls-remote", URL "x.git" } },
	{ "ncat --proxy-auth", "any", "HTTP/1.0 200 ", {
	    NCAT, "al:open", "127.0.0.1", "%W" } },
	{ "ncat --proxy-auth, -A digest", "digest", "HTTP/1.0 200 ", {
	    NCAT, "al:open", "127.0.0.1", "%W" } },
	{ "ncat --proxy-auth, -A basic", "basic", "HTTP/1.0 200 ", {
	    NCAT, "al:open", "127.0.0.1", "%W" } },
	{ "ncat --proxy-auth, wrong password", "any", NULL, {
	    NCAT, "al:opem", "127.0.0.1", "%W" } },
};

/* Three workers: its connections come to any of them. */
static void
test_client(void **state)
{
	const struct client *c = *state;
	const char *argv[KIT_COUNT(c->argv) + 1];
	struct kit_proc *p;
	char out[4096];
	size_t i;

	kit_web(&web, web_script);
	serve_with(kit_httptun(NULL, "-l", "-A", c->scheme, "-a",
	    kit_file("users", 0600, "al:open\n"), "-j", "3", "127.0.0.1", "0",
	    NONE));
	for (i = 0; i < KIT_COUNT(c->argv) && c->argv[i] != NULL; i++)
		argv[i] = filled(c->argv[i]);
	argv[i] = NULL;
	p = kit_startv(NULL, argv);
	if (strcmp(argv[0], "ncat") == 0 && c->out != NULL)
		kit_puts(p->in, "GET / HTTP/1.0\r\n\r\n");
	kit_half_close(p->in);
	(void)kit_slurp(p->out, out, sizeof(out));
	if (c->out == NULL) {
		if (kit_wait(p) == 0)
			kit_fail("it is not refused: <<%s>>", out);
		assert_string_equal(out, "");
		return;
	}
	kit_exits(p, 0);
	if (strstr(out, c->out) == NULL)
		kit_fail("<<%s>>", out);
}


/* ---- other people's proxies ---------------------------------------------- */

/* digest_file_auth knows MD5, and no password with a colon; a nonce is good
 * for three requests. */
static struct kit_proc *
start_squid(const struct kit_opt *opt, unsigned port, const char *cred)
{
	return kit_squid(opt, port, kit_str(
	    "auth_param digest program /usr/lib/squid/digest_file_auth %s\n"
	    "auth_param digest children 1 startup=1 idle=1\n"
	    "auth_param digest realm the house, Basic realm=this\n"
	    "auth_param digest nonce_max_count 3\n"
	    "acl known proxy_auth REQUIRED\n"
	    "http_access deny !known\n"
	    "http_access allow CONNECT\n"
	    "http_access deny all\n"
	    "max_filedescriptors 256\n", kit_file("squid_digest", 0644,
	    kit_str("%s\n", cred))));
}

static struct kit_proc *
start_ncat(const struct kit_opt *opt, unsigned port, const char *cred)
{
	return kit_start(opt, "ncat", "-v", "-4", "-l", "127.0.0.1",
	    kit_str("%u", port), "--allow", "127.0.0.1", "--proxy-type",
	    "http", "--proxy-auth", cred, NONE);
}

static struct kit_proc *
start_httptun(const struct kit_opt *opt, unsigned port, const char *cred)
{
	return kit_httptun(opt, "-l", "-a", kit_file(kit_str("users%u", port),
	    0600, kit_str("%s\n", cred)), kit_str("%u", port), NONE);
}

static const struct kit_service squid = {
	"squid", "Accepting HTTP Socket connections", "in use", start_squid
}, ncat = {
	"ncat", "Listening on ", "in use", start_ncat
}, httptun = {
	"httptun", "listening on 127.0.0.1 ", "in use", start_httptun
};

struct server {
	const char	*name;
	const struct kit_service *service;
	const char	*cred, *url;	/* in a file, in a URL */
	const char	*scheme;	/* our -A */
	const char	*said;		/* NULL: it works; else to this */
};

static const struct server servers[] = {
	{ "through squid", &squid, "al:o p@e%n/\"x\\", "al:o%20p@e%25n/\"x\\",
	    "any", NULL },
	{ "through squid, -A digest", &squid, "al:o p@e%n", "al:o%20p@e%25n",
	    "digest", NULL },
	{ "through squid, -A basic", &squid, "al:open", "al:open", "basic",
	    "407 Proxy Authentication Required (offered: Digest" },
	{ "through ncat, -A digest", &ncat, "b@b:o:p@e%n", "b%40b:o:p@e%25n",
	    "digest", NULL },
	{ "through ncat, -A any", &ncat, "al:o:p@e%n", "al:o:p@e%25n", "any",
	    NULL },
	{ "through httptun, -A digest", &httptun, "J\xc3\xa4s\xc3\xb8n Doe:\""
	    "\xe2\x82\xac, \\", "J%c3%A4s\xc3\xb8n%20Doe:\"\xe2\x82\xac, \\",
	    "digest", NULL },
	{ "through httptun, -A any", &httptun, "\"\\:, realm=", "\"%5c:, "
	    "realm=", "any", NULL },
};

static void
test_server(void **state)
{
	const struct server *s = *state;
	unsigned hop = kit_serve(s->service, s->cred);
	const char *at = kit_str("127.0.0.1:%u", hop);
	struct kit_proc *p;
	struct kit_pair k;
	int i;

	tl = kit_listen(AF_INET, &tport);
	p = kit_httptun(NULL, "-A", s->scheme, "-x", kit_str("%s@%s", s->url,
	    at), "127.0.0.1", kit_str("%u", tport), NONE);
	if (s->said != NULL) {
		kit_refused(p, kit_str("httptun: %s: %s", at, s->said));
		kit_untouched(tl);
		return;
	}
	k.t = kit_accept(tl);
	kit_talk(p, k.t, SOME);
	kit_half_close(p->in);
	(void)kit_until_end(k.t);
	(void)close(k.t);
	kit_exits(p, 0);
	kit_err_is(p, "");
	kit_refused(kit_httptun(NULL, "-A", s->scheme, "-a", kit_file("wrong",
	    0600, kit_str("%s.\n", s->cred)), "-x", at, "127.0.0.1",
	    kit_str("%u", tport), NONE), kit_str("httptun: %s: 407 ", at));
	/* one after the other with what is known of the last: counts, and
	 * new nonces in between */
	p = kit_httptun(NULL, "-A", s->scheme, "-a", kit_file("right", 0600,
	    kit_str("%s\n", s->cred)), "-x", at, "-L", kit_str(
	    "0:127.0.0.1:%u", tport), NONE);
	hop = kit_listening(p, 0);
	for (i = 0; i < 8; i++) {
		k.c = kit_connect(AF_INET, hop);
		k.t = kit_accept(tl);
		kit_carries(k);
		(void)close(k.c);
		(void)close(k.t);
	}
	kit_untouched(tl);
}

/* They know Basic, and send it at once; cred is where. */
static struct kit_proc *
start_squid_client(const struct kit_opt *opt, unsigned port, const char *cred)
{
	return kit_squid(opt, port, kit_str(
	    "cache_peer 127.0.0.1 parent %s 0 no-query default login=al:open\n"
	    "never_direct allow all\n"
	    "http_access allow all\n"
	    "max_filedescriptors 256\n", cred));
}

static struct kit_proc *
start_tinyproxy_client(const struct kit_opt *opt, unsigned port,
    const char *cred)
{
	return kit_start(opt, "/bin/sh", "-c",
	    "exec tinyproxy -d -c \"$0\" >&2", kit_file("tinyproxy_conf",
	    0600, kit_str("Listen 127.0.0.1\nPort %u\nLogLevel Info\n"
	    "Upstream http al:open@127.0.0.1:%s\n", port, cred)), NONE);
}

static const struct kit_service over[] = {
	{ "squid", "Accepting HTTP Socket connections", "in use",
	    start_squid_client },
	{ "tinyproxy", "Accepting connections", "create listening sockets",
	    start_tinyproxy_client },
};

/* Proxies that are clients of ours. */
static void
proxies_as_clients(void **state)
{
	struct kit_proc *p;
	unsigned hop;
	size_t i;
	int fd;

	(void)state;
	serve_with(kit_httptun(NULL, "-l", "-a", kit_file("users", 0600,
	    "al:open\n"), "127.0.0.1", "0", NONE));
	for (i = 0; i < KIT_COUNT(over); i++) {
		hop = kit_serve(&over[i], kit_str("%u", px.port));
		p = kit_httptun(NULL, "-x", kit_str("127.0.0.1:%u", hop),
		    "127.0.0.1", kit_str("%u", tport), NONE);
		fd = kit_accept(tl);
		kit_talk(p, fd, SOME);
		kit_half_close(p->in);
		(void)kit_until_end(fd);
		(void)close(fd);
		kit_exits(p, 0);
	}
}

/* Three proxies of different make, and each with its own credentials. */
static void
chain(void **state)
{
	static const struct {
		const struct kit_service *service;
		const char *cred, *url;
	} hops[2][3] = {
		{ { &httptun, "al:o:p@e%n", "al:o:p@e%25n" },
		  { &squid, "b@b:t;w@%o", "b%40b:t%3Bw%40%25o" },
		  { &kit_tinyproxy, "carol:three", "carol:thr%65e" } },
		{ { &squid, "al:o%6ee", "al:o%256ee" },
		  { &ncat, "b@b:t:w@%o", "b%40b:t:w@%25o" },
		  { &httptun, "carol:", "carol:" } },
	};
	const char *at[3];
	unsigned port = kit_serve(&kit_sshd, NULL);
	size_t i, j;

	(void)state;
	for (i = 0; i < 2; i++) {
		for (j = 0; j < 3; j++)
			at[j] = kit_str("'%s@127.0.0.1:%u'", hops[i][j].url,
			    kit_serve(hops[i][j].service, hops[i][j].cred));
		/* ssh has its own %s */
		for (j = 0; j < 3; j++) {
			const char *s = at[j], *pc;

			at[j] = "";
			while ((pc = strchr(s, '%')) != NULL) {
				at[j] = kit_str("%s%.*s%%%%", at[j],
				    (int)(pc - s), s);
				s = pc + 1;
			}
			at[j] = kit_str("%s%s", at[j], s);
		}
		kit_ssh_runs(kit_str("ProxyCommand=%s -x %s -x %s -x %s %%h "
		    "%%p", kit_binary(), at[0], at[1], at[2]), port);
	}
}


/* ---- secrets ------------------------------------------------------------- */

#define SECRET	"Sw0rdfish"

/* Every way to write it down: as it is, and in Basic, whose middle part is the
 * same behind any user of so many letters */
static const char *const secrets[] = { SECRET, "U3cwcmRmaXNo", "N3MHJkZmlza",
    "TdzByZGZpc2" };

static void
tells_no_secret(const char *text, size_t n, const char *where)
{
	size_t i, k;

	for (i = 0; i < KIT_COUNT(secrets); i++)
		for (k = 0; k + strlen(secrets[i]) <= n; k++)
			if (memcmp(text + k, secrets[i], strlen(secrets[i])) ==
			    0)
				kit_fail("%s tells the secret", where);
}

/* A file of /proc, up to so many bytes. */
static size_t
proc_file(pid_t pid, const char *name, char *buf, size_t size)
{
	const char *path = kit_str("/proc/%ld/%s", (long)pid, name);
	int fd = open(path, O_RDONLY);
	size_t n = 0;
	ssize_t r;

	if (fd == -1)
		kit_fail("%s cannot be read", path);
	while (n < size && (r = read(fd, buf + n, size - n)) > 0)
		n += (size_t)r;
	(void)close(fd);
	return n;
}

/* All processes of a command: their arguments and environments. */
static void
shows_no_secret(struct kit_proc *p)
{
	static char buf[131072];
	pid_t pids[16];
	int i, n = kit_processes(p->pid, pids, 16);

	for (i = 0; i < n; i++) {
		tells_no_secret(buf, proc_file(pids[i], "cmdline", buf,
		    sizeof(buf)), "/proc/PID/cmdline");
		tells_no_secret(buf, proc_file(pids[i], "environ", buf,
		    sizeof(buf)), "/proc/PID/environ");
	}
	tells_no_secret(kit_err(p), strlen(kit_err(p)), "stderr");
}

/* %H: where a peer listens, that asks for credentials; %L the same port. */
static const struct show {
	const char	*argv[12];
	int		 local;		/* it listens itself */
	int		 silent;	/* it does not ask, or not yet */
	int		 stays;		/* a refusal is not its end */
} shows[] = {
	{ { "-x", "al:" SECRET "@%H", "h.example", "1" }, 0, 0, 0 },
	{ { "-xal:" SECRET "@%H", "h.example", "1" }, 0, 0, 0 },
	{ { "-xhttp://al:" SECRET "@%H/", "h.example", "1" }, 0, 0, 0 },
	{ { "-vvxhttp://al:" SECRET "@%H/", "h.example", "1" }, 0, 0, 0 },
	{ { "-vv", "-A", "basic", "-x", "al:" SECRET "@%H", "h.example", "1" },
	    0, 0, 0 },
	{ { "-x", "%H", "-x", "http://al:" SECRET "@h2:1", "-x",
	    "ws://b:" SECRET "@h3/x", "h.example", "1" }, 0, 0, 0 },
	{ { "-x", "ws://al:" SECRET "@%H/path", "h.example", "1" }, 0, 0, 0 },
	{ { "-x", "poll://al:" SECRET "@%H/path", "h.example", "1" }, 0, 0, 0 },
	{ { "ws://al:" SECRET "@%H/path" }, 0, 0, 0 },
	{ { "-vv", "-H", "Proxy-Authorization: Basic YWw6U3cwcmRmaXNo", "-x",
	    "%H", "h.example", "1" }, 0, 0, 0 },
	{ { "-vv", "-HAuthorization: Bearer " SECRET, "-x", "ws://%H/",
	    "h.example", "1" }, 0, 0, 0 },
	{ { "-H", "Cookie: id=" SECRET, "-x", "%H", "h.example", "1" }, 0, 0,
	    0 },
	{ { "-x", "al:" SECRET "@%H", "-L", "0:h.example:1" }, 1, 0, 1 },
	{ { "-L", "0:ws://al:" SECRET "@%H/" }, 1, 0, 1 },
	{ { "-l", "-vv", "-j", "2", "-x", "al:" SECRET "@%H", "0" }, 1, 1, 1 },
	{ { "-l", "-vv", "-x", "%H", "-x", "al:" SECRET "@h2", "0" }, 1, 1, 1 },
	{ { "-r", "-vv", "-x", "ws://al:" SECRET "@%H/" }, 0, 0, 1 },
	{ { "-r", "-x", "%H", "-x", "ws://al:" SECRET "@h2/" }, 0, 0, 1 },
	{ { "-vv", "-a", "%F", "-x", "%H", "h.example", "1" }, 0, 0, 0 },
	{ { "-l", "-vv", "-a", "%F", "0" }, 1, 1, 1 },
	/* from the environment */
	{ { "-vv", "-x", "%H", "h.example", "1" }, 0, 0, 0 },
	{ { "-l", "-x", "%H", "0" }, 1, 1, 1 },
};

static void
no_secret_shows(void **state)
{
	const char *env[] = { "HTTPTUN_AUTH=al:" SECRET, NULL };
	struct kit_opt opt = { .env = env };
	const char *argv[16], *at, *hp, *s;
	struct kit_proc *p;
	unsigned port;
	int lfd, fd;
	size_t i, j;
	char buf[4096];

	(void)state;
	for (i = 0; i < KIT_COUNT(shows); i++) {
		lfd = kit_listen(AF_INET, &port);
		hp = kit_str("127.0.0.1:%u", port);
		argv[0] = kit_binary();
		for (j = 0; j < 12 && (s = shows[i].argv[j]) != NULL; j++) {
			if ((at = strstr(s, "%H")) != NULL)
				s = kit_str("%.*s%s%s", (int)(at - s), s, hp,
				    at + 2);
			else if (strcmp(s, "%F") == 0)
				s = kit_file("secret", 0600, "al:" SECRET "\n");
			argv[j + 1] = s;
		}
		argv[j + 1] = NULL;
		kit_note("show %zu", i);
		p = kit_startv(&opt, argv);
		if (shows[i].local)
			(void)kit_connect(AF_INET, kit_listening(p, 0));
		if (!shows[i].silent) {
			fd = kit_accept(lfd);
			(void)kit_head(fd, buf, sizeof(buf));
			shows_no_secret(p);
			kit_puts(fd, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n"
			    "Proxy-Authenticate: Basic\r\nConnection: close\r\n"
			    "\r\n");
			(void)close(fd);
		}
		/* so it asks again in vain */
		(void)close(lfd);
		if (shows[i].stays)
			shows_no_secret(p);
		else {
			kit_exits(p, 1);
			assert_string_not_equal(kit_err(p), "");
			tells_no_secret(kit_err(p), strlen(kit_err(p)),
			    "stderr");
		}
		kit_done(p);
	}
}

/* What is not understood is not repeated, either. */
static void
no_secret_in_errors(void **state)
{
	static const char *const wrong[][8] = {
		{ "-x", "al:" SECRET "@", "h", "1" },
		{ "-x", "al:" SECRET "@p:0", "h", "1" },
		{ "-x", "al:" SECRET "@p:99999", "h", "1" },
		{ "-x", "al:" SECRET "@p/path", "h", "1" },
		{ "-x", "al:%zz" SECRET "@p", "h", "1" },
		{ "-x", "al:" SECRET "%01@p", "h", "1" },
		{ "-x", "a%3al:" SECRET "@p", "h", "1" },
		{ "-x", "socks5://al:" SECRET "@p", "h", "1" },
		{ "-x", "ws://al:" SECRET "@p/a b", "h", "1" },
		{ "-x", "p", "-x", "al:" SECRET "@", "h", "1" },
		{ "-x", "direct", "-x", "al:" SECRET "@p", "h", "1" },
		{ "-x", "al:" SECRET "@p", "h" },
		{ "-x", "al:" SECRET "@p", "h", "x" },
		{ "-L", "0:ws://al:" SECRET "@:1/" },
		{ "-L", "0:http://al:" SECRET "@p:1/" },
		{ "-L", "x:ws://al:" SECRET "@p:1/" },
		{ "-L", "ws://al:" SECRET "@p:1/" },
		{ "ws://al:" SECRET "@" },
		{ "http://al:" SECRET "@p/" },
		{ "ws://al:" SECRET "@p/", "1" },
		{ "al:" SECRET "@p", "1" },
		{ "-H", "Authorization Basic " SECRET, "h", "1" },
		{ "-H", "Author ization: " SECRET, "h", "1" },
		{ "-H", "Authorization: " SECRET "\n", "h", "1" },
		{ "-P", "al:" SECRET, "-x", "p", "h", "1" },
		{ "-a", "%F", "-x", "p", "h", "1" },
		{ "-l", "-a", "%F", "0" },
		{ "-l", "ws://al:" SECRET "@p/", "0" },
		{ "-r", "-x", "ws://al:" SECRET "@p:x/" },
		{ "-r", "-x", "http://al:" SECRET "@p/" },
		{ "-x", "p", "h", "1" },	/* from the environment */
	};
	const char *env[] = { "HTTPTUN_AUTH=" SECRET, NULL }, *argv[10];
	struct kit_opt opt = { .env = env };
	struct kit_proc *p;
	size_t i, j;
	int status;

	(void)state;
	for (i = 0; i < KIT_COUNT(wrong); i++) {
		argv[0] = kit_binary();
		for (j = 0; j < 8 && wrong[i][j] != NULL; j++)
			argv[j + 1] = strcmp(wrong[i][j], "%F") == 0 ?
			    kit_file("faulty", 0600, "# ours\n" SECRET "\n") :
			    wrong[i][j];
		argv[j + 1] = NULL;
		kit_note("wrong %zu", i);
		p = kit_startv(&opt, argv);
		status = kit_wait(p);
		if (status != 2 && status != 1)
			kit_fail("status %d", status);
		assert_string_not_equal(kit_err(p), "");
		tells_no_secret(kit_err(p), strlen(kit_err(p)), "stderr");
		kit_done(p);
	}
	/* the variables, of which only the name is said */
	env[0] = "https_proxy=socks5://al:" SECRET "@p";
	p = kit_httptun(&opt, "h", "1", NONE);
	kit_refused(p, "httptun: https_proxy: ");
	tells_no_secret(kit_err(p), strlen(kit_err(p)), "stderr");
	env[0] = "ALL_PROXY=http://al:" SECRET "@p:x";
	p = kit_httptun(&opt, "h", "1", NONE);
	kit_refused(p, "httptun: ALL_PROXY: ");
	tells_no_secret(kit_err(p), strlen(kit_err(p)), "stderr");
}

/* Everything that a process may write to, but the stack: what a compiler left
 * there is its own affair, and gone soon. */
static void
memory_has_no_secret(pid_t pid)
{
	static char maps[65536], buf[1 << 20];
	unsigned long from, end;
	char mode[8], *line;
	const char *path = kit_str("/proc/%ld/mem", (long)pid);
	int fd = open(path, O_RDONLY);
	ssize_t r;

	if (fd == -1)
		kit_fail("%s cannot be read", path);
	maps[proc_file(pid, "maps", maps, sizeof(maps) - 1)] = '\0';
	for (line = maps; (line = strtok(line, "\n")) != NULL; line = NULL) {
		if (sscanf(line, "%lx-%lx %7s", &from, &end, mode) != 3 ||
		    strchr(mode, 'w') == NULL || strstr(line, "[stack]") !=
		    NULL)
			continue;
		for (; from < end; from += sizeof(buf) - 64) {
			r = pread(fd, buf, end - from < sizeof(buf) ?
			    end - from : sizeof(buf), (off_t)from);
			if (r > 0)
				tells_no_secret(buf, (size_t)r, line);
		}
	}
	(void)close(fd);
}

/* Once the tunnel is open nobody needs it again, and so it is not there, as it
 * would be in a core. */
static void
secret_is_wiped(void **state)
{
	static const char *const schemes[] = { "any", "basic", "digest" };
	const char *env[] = { NULL, NULL }, *at, *file;
	struct kit_opt opt = { .env = env };
	struct kit_proc *p;
	size_t i;
	int fd, how;

	(void)state;
	if (kit_sanitized())
		skip();
	serve_with(kit_httptun(NULL, "-l", "-a", file = kit_file("users", 0600,
	    "al:" SECRET "\n"), "127.0.0.1", "0", NONE));
	at = kit_str("127.0.0.1:%u", px.port);
	for (i = 0; i < 4 * KIT_COUNT(schemes); i++) {
		how = (int)i % 4;
		env[0] = how == 2 ? "HTTPTUN_AUTH=al:" SECRET : NULL;
		p = kit_httptun(&opt, "-A", schemes[i / 4], how == 1 ? "-a" :
		    "-4", how == 1 ? file : "-4", "-x", how == 0 ?
		    kit_str("al:%s@%s", SECRET, at) : how == 3 ?
		    kit_str("ws://al:%s@%s/", SECRET, at) : at, "127.0.0.1",
		    kit_str("%u", tport), NONE);
		fd = kit_accept(tl);
		kit_talk(p, fd, 100);
		kit_note("scheme %s, way %d", schemes[i / 4], how);
		memory_has_no_secret(p->pid);
		kit_half_close(p->in);
		kit_eof(fd);
		(void)close(fd);
		kit_exits(p, 0);
	}
}


int
main(void)
{
	kit_add("nonce_counts", nonce_counts, NULL);
	kit_add("wrong_digests", wrong_digests, NULL);
	kit_add("right_digests", right_digests, NULL);
	kit_add("foreign_nonce", foreign_nonce, NULL);
	kit_add("nonce_workers", nonce_workers, NULL);
	kit_add("nonce_nobody", nonce_nobody, NULL);
	kit_add("offers", offers, NULL);
	kit_add("one_scheme", one_scheme, NULL);
	kit_add("inetd", inetd, NULL);
	kit_add("www", www, NULL);
	kit_add("session_workers", session_workers, NULL);
	kit_add("http_uri", http_uri, NULL);
	kit_add("reloaded", reloaded, NULL);
	kit_add("answers", answers, NULL);
	kit_add("answers_again", answers_again, NULL);
	KIT_ADD(clients, test_client);
	KIT_ADD(servers, test_server);
	kit_add("proxies_as_clients", proxies_as_clients, NULL);
	kit_add("chain", chain, NULL);
	kit_add("no_secret_shows", no_secret_shows, NULL);
	kit_add("no_secret_in_errors", no_secret_in_errors, NULL);
	kit_add("secret_is_wiped", secret_is_wiped, NULL);
	return kit_run("auth");
}
