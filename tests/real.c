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
 * httptun with the programs that people have: ssh, curl, squid, tinyproxy,
 * ncat, nc, socat and the older ProxyCommands, all on loopback.  Each test
 * starts what it needs in the foreground on a free port; a program that is
 * not there fails the test.
 *
 * Of the proxies here none carries a half-close: when one side of a tunnel
 * ends, squid, tinyproxy and ncat close both.  Of the clients nc, ncat and
 * socat do, and connect-proxy does for its own end only.  So where "halves"
 * in the tables below is 0, an end is shown to arrive on both sides, and
 * nothing is sent after it.  And corkscrew loses what comes along with the
 * 200, from its first zero byte on.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define BULK		50000000	/* through ssh, each way */
#define SOME		1000000		/* elsewhere */

enum { CLIENT_FIRST = 1, TARGET_FIRST = 2 };	/* bits of "halves" */


/* Other people's servers. */

static struct kit_proc *
start_squid(const struct kit_opt *opt, unsigned port, const char *cred)
{
	const char *auth = "";
	char hash[128];
	struct kit_proc *p;

	if (cred != NULL) {
		p = kit_start(NULL, "openssl", "passwd", "-apr1",
		    strchr(cred, ':') + 1, (char *)NULL);
		(void)kit_until(p->out, hash, sizeof(hash), "\n");
		kit_exits(p, 0);
		auth = kit_str("auth_param basic program "
		    "/usr/lib/squid/basic_ncsa_auth %s\n"
		    "auth_param basic children 1 startup=1 idle=1\n"
		    "acl known proxy_auth REQUIRED\n"
		    "http_access deny !known\n", kit_file("squid_passwd",
		    0644, kit_str("%.*s:%s", (int)strcspn(cred, ":"), cred,
		    hash)));
	}
	return kit_squid(opt, port, kit_str(
	    "acl high port 1024-65535\n"
	    "http_access deny !high\n"
	    "%s"
	    "http_access allow CONNECT\n"
	    "http_access deny all\n"
	    "max_filedescriptors 256\n", auth));
}

/* As a proxy it listens on all addresses whatever is asked for. */
static struct kit_proc *
start_ncat(const struct kit_opt *opt, unsigned port, const char *cred)
{
	return kit_start(opt, "ncat", "-v", "-4", "-l", "127.0.0.1",
	    kit_str("%u", port), "--allow", "127.0.0.1", "--proxy-type",
	    "http", cred != NULL ? "--proxy-auth" : NULL, cred, (char *)NULL);
}

static const struct kit_service squid = {
	"squid", "Accepting HTTP Socket connections", "in use", start_squid
};
static const struct kit_service ncat = {
	"ncat", "Listening on ", "in use", start_ncat
};

/* Echoes what is posted, in the clear and over TLS. */
static const char web_script[] =
    "class Handler(http.server.BaseHTTPRequestHandler):\n"
    "    def do_POST(self):\n"
    "        body = self.rfile.read(int(self.headers['Content-Length']))\n"
    "        self.send_response(200)\n"
    "        self.send_header('Content-Length', str(len(body)))\n"
    "        self.end_headers()\n"
    "        self.wfile.write(body)\n"
    "    def log_message(self, *args):\n"
    "        pass\n";


/* Our proxy, and our client's diagnostics. */

/* httptun -l, with these credentials to be asked for if any. */
static struct kit_proc *
listener(const char *cred, unsigned *port)
{
	static const struct kit_opt opt = { .in = KIT_NULL };
	struct kit_proc *p;

	if (cred == NULL)
		p = kit_httptun(&opt, "-l", "0", (char *)NULL);
	else
		p = kit_httptun(&opt, "-l", "-a", kit_file("users", 0600,
		    kit_str("# who may\neve:x\n%s\n", cred)), "0",
		    (char *)NULL);
	*port = kit_listening(p, 0);
	return p;
}

/* Whatever it has served: it runs, has said nothing but where it listens,
 * and ends when it is told to. */
static void
listener_ends(struct kit_proc *p)
{
	static const char line[] = "httptun: listening on ";
	const char *s;

	if (!kit_alive(p))
		kit_fail("httptun -l has ended with %d", p->status);
	for (s = kit_err(p); *s != '\0'; s = strchr(s, '\n') + 1)
		if (strncmp(s, line, sizeof(line) - 1) != 0 ||
		    strchr(s, '\n') == NULL)
			kit_fail("httptun -l says: %s", s);
	(void)kill(p->pid, SIGTERM);
	kit_exits(p, -SIGTERM);
	kit_eof(p->out);
}


/* A tunnel between a client's stdin/stdout and a target that we are. */

/* Bytes and then the end in one direction; then, as many as "back" says, in
 * the other, and its end.  A client that keeps its stdout open until both
 * directions have ended is "late". */
static void
finish(struct kit_proc *p, int target, int first, size_t back, int late)
{
	struct kit_stream up[] = {
		{ .fd = p->in, .dir = KIT_OUT, .seed = 3, .end = 1 },
		{ .fd = target, .dir = KIT_IN, .seed = 3, .end = 1 },
	};
	struct kit_stream down[] = {
		{ .fd = target, .dir = KIT_OUT, .seed = 4, .end = 1 },
		{ .fd = p->out, .dir = KIT_IN, .seed = 4, .end = 1 },
	};

	if (first == CLIENT_FIRST) {
		up[0].bytes = up[1].bytes = 5000;
		down[0].bytes = down[1].bytes = back;
		kit_pump(up, 2);
		kit_pump(down, 2);
	} else {
		down[0].bytes = down[1].bytes = 5000;
		up[0].bytes = up[1].bytes = back;
		down[1].end = !late;
		kit_pump(down, 2);
		kit_pump(up, 2);
		if (late)
			kit_eof(p->out);
	}
	kit_exits(p, 0);
}


/* Connect mode through other people's proxies. */

enum told { NOT, IN_URL, IN_FILE, IN_ENV, AT_ONCE };

struct through {
	const char	*name;
	const struct kit_service *proxy; /* NULL: httptun -l */
	const char	*cred;		/* that it wants */
	enum told	 told;		/* how httptun learns them */
	const char	*url;		/* the same as in a URL */
	int		 halves;
	const char	*wrong;		/* answer to wrong ones if not 407 */
};

/* Starts httptun through the hop; a wrong secret instead if so asked. */
static struct kit_proc *
connect_through(const struct through *t, unsigned hop, const char *cred,
    const char *url, unsigned port)
{
	const char *env[] = { NULL, NULL };
	struct kit_opt opt = { .env = env };
	const char *argv[16], *at;
	size_t n = 0;

	at = kit_str("127.0.0.1:%u", hop);
	argv[n++] = kit_binary();
	argv[n++] = "-x";
	argv[n++] = t->told == IN_URL ? kit_str("%s@%s", url, at) :
	    t->told == AT_ONCE ? kit_str("http://%s@%s/", url, at) : at;
	if (t->told == AT_ONCE) {
		argv[n++] = "-A";
		argv[n++] = "basic";
	} else if (t->told == IN_FILE) {
		argv[n++] = "-a";
		argv[n++] = kit_file("secret", 0600, kit_str("%s\n", cred));
	} else if (t->told == IN_ENV)
		env[0] = kit_str("HTTPTUN_AUTH=%s", cred);
	argv[n++] = "127.0.0.1";
	argv[n++] = kit_str("%u", port);
	argv[n] = NULL;
	return kit_startv(&opt, argv);
}

static const struct through throughs[] = {
	{ .name = "through httptun -l", .halves = CLIENT_FIRST | TARGET_FIRST },
	{ .name = "through httptun -l, authenticated", .cred = "al:o:p e%n",
	    .told = IN_URL, .url = "al:o%3ap%20e%25n",
	    .halves = CLIENT_FIRST | TARGET_FIRST },
	{ .name = "through tinyproxy", .proxy = &kit_tinyproxy },
	{ .name = "through tinyproxy, BasicAuth", .proxy = &kit_tinyproxy,
	    .cred = "bob:sesame", .told = IN_URL, .url = "bob:sesame",
	    .wrong = "401 Unauthorized" },
	{ .name = "through squid", .proxy = &squid },
	{ .name = "through squid, basic_ncsa_auth", .proxy = &squid,
	    .cred = "carol:open sesame", .told = IN_FILE },
	{ .name = "through ncat", .proxy = &ncat },
	{ .name = "through ncat, --proxy-auth", .proxy = &ncat,
	    .cred = "d@n:s:e/c ret", .told = IN_ENV },
	{ .name = "through ncat, --proxy-auth, at once", .proxy = &ncat,
	    .cred = "d@n:s:e/c ret", .told = AT_ONCE,
	    .url = "d%40n:s:e%2Fc%20ret" },
};

static void
test_through(void **state)
{
	static const int orders[] = { CLIENT_FIRST, TARGET_FIRST };
	const struct through *t = *state, anonymous = { .told = NOT };
	const char *at;
	struct kit_proc *l = NULL, *p;
	unsigned hop, port;
	int lfd, fd;
	size_t i;

	if (t->proxy != NULL)
		hop = kit_serve(t->proxy, t->cred);
	else
		l = listener(t->cred, &hop);
	lfd = kit_listen(AF_INET, &port);
	for (i = 0; i < KIT_COUNT(orders); i++) {
		p = connect_through(t, hop, t->cred, t->url, port);
		fd = kit_accept(lfd);
		kit_talk(p, fd, SOME);
		finish(p, fd, orders[i], t->halves & orders[i] ? SOME : 0, 0);
		kit_err_is(p, "");
	}
	if (t->cred != NULL) {
		at = kit_str("httptun: 127.0.0.1:%u: ", hop);
		kit_refused(connect_through(t, hop, "bob:wrong", "bob:wrong",
		    port), kit_str("%s%s", at, t->wrong != NULL ? t->wrong :
		    "407 "));
		kit_refused(connect_through(&anonymous, hop, NULL, NULL, port),
		    kit_str("%s407 ", at));
		kit_untouched(lfd);
	}
	if (l != NULL)
		listener_ends(l);
}

struct refusal {
	const char	*name;
	const struct kit_service *proxy;
	unsigned	 port;		/* 0: where nobody listens */
	const char	*status;
};

static const struct refusal refusals[] = {
	{ "squid forbids a port", &squid, 1, "403 Forbidden" },
	{ "squid finds nobody", &squid, 0, "503 Service Unavailable" },
	{ "tinyproxy finds nobody", &kit_tinyproxy, 0,
	    "500 Unable to connect" },
	{ "ncat finds nobody", &ncat, 0, "504" },
};

static void
test_refusal(void **state)
{
	const struct refusal *r = *state;
	unsigned hop = kit_serve(r->proxy, NULL);

	kit_refused(kit_httptun(NULL, "-x", kit_str("127.0.0.1:%u", hop),
	    "127.0.0.1", kit_str("%u", r->port != 0 ? r->port :
	    kit_nobody(AF_INET)), (char *)NULL),
	    kit_str("httptun: 127.0.0.1:%u: %s", hop, r->status));
}

struct chain {
	const char	*name;
	struct {
		const struct kit_service *proxy; /* NULL: httptun -l */
		const char	*cred;
	} hop[3];
	size_t		 hops;
	int		 halves;
};

static const struct chain chains[] = {
	{ "chain: squid, tinyproxy", { { &squid, NULL }, {
	    &kit_tinyproxy, NULL } }, 2, 0 },
	{ "chain: ncat, squid, each with its own credentials", {
	    { &ncat, "ann:one" }, { &squid, "bob:two" } }, 2, 0 },
	{ "chain: tinyproxy with BasicAuth, ncat", {
	    { &kit_tinyproxy, "ann:one" }, { &ncat, NULL } }, 2, 0 },
	{ "chain: httptun -l, tinyproxy, squid", { { NULL, "ann:one" },
	    { &kit_tinyproxy, NULL }, { &squid, "bob:two" } }, 3, 0 },
};

static void
test_chain(void **state)
{
	const struct chain *c = *state;
	const char *argv[16], *cred;
	struct kit_proc *p;
	unsigned at[3], port;
	size_t i, n = 0;
	int fd, lfd;

	argv[n++] = kit_binary();
	for (i = 0; i < c->hops; i++) {
		cred = c->hop[i].cred;
		if (c->hop[i].proxy != NULL)
			at[i] = kit_serve(c->hop[i].proxy, cred);
		else
			(void)listener(cred, &at[i]);
		argv[n++] = "-x";
		argv[n++] = kit_str("%s%s127.0.0.1:%u", cred != NULL ? cred :
		    "", cred != NULL ? "@" : "", at[i]);
	}
	argv[n++] = "127.0.0.1";
	lfd = kit_listen(AF_INET, &port);
	argv[n] = kit_str("%u", port);
	argv[n + 1] = NULL;
	p = kit_startv(NULL, argv);
	fd = kit_accept(lfd);
	kit_talk(p, fd, SOME);
	finish(p, fd, CLIENT_FIRST, 0, 0);
	kit_err_is(p, "");
	/* the refusal is the last hop's, and only that one is named */
	argv[n] = kit_str("%u", kit_nobody(AF_INET));
	kit_refused(kit_startv(NULL, argv), kit_str("httptun: 127.0.0.1:%u: 50",
	    at[c->hops - 1]));
}


/* Listen mode under other people's clients. */

struct client {
	const char	*name;
	const char	*cred;		/* that httptun -l wants */
	int		 halves;
	int		 late;		/* see finish() */
	int		 loses;		/* what comes with the 200 */
	const char	*argv[12];	/* %P proxy's, %T target's port, %F file
					 * with the credentials */
};

static const struct client clients[] = {
	{ "under nc -X connect", NULL, CLIENT_FIRST | TARGET_FIRST, 1, 0, {
	    "nc", "-N", "-X", "connect", "-x", "127.0.0.1:%P", "127.0.0.1",
	    "%T" } },
	{ "under ncat --proxy", NULL, CLIENT_FIRST | TARGET_FIRST, 0, 0, {
	    "ncat", "--proxy", "127.0.0.1:%P", "--proxy-type", "http",
	    "127.0.0.1", "%T" } },
	{ "under ncat --proxy-auth", "al:o:p en",
	    CLIENT_FIRST | TARGET_FIRST, 0, 0, {
	    "ncat", "--proxy", "127.0.0.1:%P", "--proxy-type", "http",
	    "--proxy-auth", "al:o:p en", "127.0.0.1", "%T" } },
	{ "under socat PROXY", NULL, CLIENT_FIRST | TARGET_FIRST, 1, 0, {
	    "socat", "-t", "60", "-",
	    "PROXY:127.0.0.1:127.0.0.1:%T,proxyport=%P" } },
	{ "under socat PROXY, proxyauth", "al:open",
	    CLIENT_FIRST | TARGET_FIRST, 1, 0, {
	    "socat", "-t", "60", "-",
	    "PROXY:127.0.0.1:127.0.0.1:%T,proxyport=%P,proxyauth=al:open" } },
	{ "under corkscrew", NULL, 0, 0, 1, {
	    "corkscrew", "127.0.0.1", "%P", "127.0.0.1", "%T" } },
	{ "under corkscrew, authenticated", "al:open", 0, 0, 1, {
	    "corkscrew", "127.0.0.1", "%P", "127.0.0.1", "%T", "%F" } },
	{ "under connect-proxy", NULL, CLIENT_FIRST, 0, 0, {
	    "connect-proxy", "-H", "127.0.0.1:%P", "127.0.0.1", "%T" } },
	{ "under connect-proxy, authenticated", "al:open", CLIENT_FIRST, 0, 0, {
	    "env", "HTTP_PROXY_PASSWORD=open", "connect-proxy", "-H",
	    "al@127.0.0.1:%P", "127.0.0.1", "%T" } },
	{ "under proxytunnel", NULL, 0, 0, 0, {
	    "proxytunnel", "-q", "-p", "127.0.0.1:%P", "-d",
	    "127.0.0.1:%T" } },
	{ "under proxytunnel, authenticated", "al:open", 0, 0, 0, {
	    "proxytunnel", "-q", "-p", "127.0.0.1:%P", "-P", "al:open", "-d",
	    "127.0.0.1:%T" } },
};

/* An argument with its placeholders filled in. */
static const char *
filled(const char *arg, unsigned proxy, unsigned target, const char *file)
{
	const char *at, *with;

	while ((at = strchr(arg, '%')) != NULL) {
		with = at[1] == 'P' ? kit_str("%u", proxy) :
		    at[1] == 'T' ? kit_str("%u", target) : file;
		arg = kit_str("%.*s%s%s", (int)(at - arg), arg, with, at + 2);
	}
	return arg;
}

static void
test_client(void **state)
{
	static const int orders[] = { CLIENT_FIRST, TARGET_FIRST };
	const struct client *c = *state;
	const char *argv[KIT_COUNT(c->argv) + 1], *file = "";
	struct kit_proc *l, *p;
	unsigned hop, port;
	int fd, lfd;
	size_t i;

	l = listener(c->cred, &hop);
	lfd = kit_listen(AF_INET, &port);
	if (c->cred != NULL)
		file = kit_file("secret", 0600, kit_str("%s\n", c->cred));
	for (i = 0; i < KIT_COUNT(c->argv) && c->argv[i] != NULL; i++)
		argv[i] = filled(c->argv[i], hop, port, file);
	argv[i] = NULL;
	for (i = 0; i < KIT_COUNT(orders); i++) {
		p = kit_startv(NULL, argv);
		fd = kit_accept(lfd);
		/* what it passes on is behind the 200 */
		if (c->loses) {
			kit_puts(p->in, "first");
			kit_expect(fd, "first");
		}
		kit_talk(p, fd, SOME);
		finish(p, fd, orders[i], c->halves & orders[i] ? SOME : 0,
		    c->late);
	}
	listener_ends(l);
}

/* A client that has no credentials learns so, and nothing is connected. */
static void
test_client_refused(void **state)
{
	struct kit_proc *l, *p;
	unsigned hop, port;
	int lfd;

	(void)state;
	l = listener("al:open", &hop);
	lfd = kit_listen(AF_INET, &port);
	p = kit_start(NULL, "nc", "-N", "-X", "connect", "-x",
	    kit_str("127.0.0.1:%u", hop), "127.0.0.1", kit_str("%u", port),
	    (char *)NULL);
	kit_exits(p, 1);
	kit_err_has(p, "HTTP/1.1 407 ");
	kit_eof(p->out);
	kit_untouched(lfd);
	listener_ends(l);
}


/* Listen mode under curl. */

struct curl {
	const char	*name;
	const char	*cred;		/* that httptun -l wants */
	int		 tls;		/* or -p, CONNECT to a plain server */
	const char	*user;		/* that curl tells */
	const char	*how;
	int		 opens;		/* and if not: 407 */
};

static const struct curl curls[] = {
	{ "curl https", NULL, 1, NULL, NULL, 1 },
	{ "curl -p http", NULL, 0, NULL, NULL, 1 },
	{ "curl https --proxy-user", "al:open", 1, "al:open", NULL, 1 },
	{ "curl -p http --proxy-user", "al:open", 0, "al:open", NULL, 1 },
	{ "curl https --proxy-anyauth", "al:open", 1, "al:open",
	    "--proxy-anyauth", 1 },
	{ "curl -p http --proxy-anyauth", "al:open", 0, "al:open",
	    "--proxy-anyauth", 1 },
	{ "curl https, wrong password", "al:open", 1, "al:opem", NULL, 0 },
	{ "curl -p http, wrong password", "al:open", 0, "al:ope", NULL, 0 },
	{ "curl https --proxy-anyauth, wrong password", "al:open", 1,
	    "al:openn", "--proxy-anyauth", 0 },
	{ "curl https, no password", "al:open", 1, NULL, NULL, 0 },
};

/* By name: the target is found at that of localhost's addresses where the
 * server is. */
static struct kit_proc *
start_curl(const struct curl *c, const struct kit_web *w, unsigned hop)
{
	static const struct kit_opt opt = { .in = KIT_NULL };
	const char *argv[24];
	size_t n = 0;

	argv[n++] = "curl";
	argv[n++] = "-q";
	argv[n++] = "-sS";
	argv[n++] = "-x";
	argv[n++] = kit_str("http://127.0.0.1:%u", hop);
	argv[n++] = "-w";
	argv[n++] = "%{stderr}%{http_connect} %{http_code}\n";
	argv[n++] = "-H";
	argv[n++] = "Expect:";
	argv[n++] = "--data-binary";
	argv[n++] = kit_str("@%s", kit_stream_file("stream", SOME, 7));
	if (c->tls) {
		argv[n++] = "--cacert";
		argv[n++] = w->cert;
	} else
		argv[n++] = "-p";
	if (c->user != NULL) {
		argv[n++] = "--proxy-user";
		argv[n++] = c->user;
	}
	if (c->how != NULL)
		argv[n++] = c->how;
	argv[n++] = kit_str("%s://localhost:%u/", c->tls ? "https" : "http",
	    c->tls ? w->https : w->http);
	argv[n] = NULL;
	return kit_startv(&opt, argv);
}

static void
test_curl(void **state)
{
	const struct curl *c = *state;
	struct kit_stream s = { .dir = KIT_IN, .seed = 7, .end = 1 };
	struct kit_proc *l, *p;
	struct kit_web w;
	unsigned hop;

	kit_web(&w, web_script);
	l = listener(c->cred, &hop);
	p = start_curl(c, &w, hop);
	s.fd = p->out;
	s.bytes = c->opens ? SOME : 0;
	kit_pump(&s, 1);
	kit_exits(p, c->opens ? 0 : 56);
	if (c->opens)
		kit_err_is(p, "200 200\n");
	else
		kit_err_has(p, "\n407 000\n");
	listener_ends(l);
}


/* ssh, with httptun as its ProxyCommand and as its local port. */

/* So many bytes there and back at the same time, in n sessions at once. */
static void
ssh_moves(struct kit_proc **p, size_t n, uint64_t bytes, int end)
{
	struct kit_stream s[8];
	size_t i;

	assert_true(2 * n <= KIT_COUNT(s));
	memset(s, 0, sizeof(s));
	for (i = 0; i < n; i++) {
		s[2 * i].fd = p[i]->in;
		s[2 * i].dir = KIT_OUT;
		s[2 * i + 1].fd = p[i]->out;
		s[2 * i + 1].dir = KIT_IN;
		s[2 * i].seed = s[2 * i + 1].seed = (unsigned)i + 11;
		s[2 * i].bytes = s[2 * i + 1].bytes = bytes;
		s[2 * i].end = s[2 * i + 1].end = end;
	}
	kit_pump(s, 2 * n);
	for (i = 0; end && i < n; i++) {
		kit_exits(p[i], 0);
		kit_err_is(p[i], "");
	}
}

struct ssh {
	const char	*name;
	const struct kit_service *proxy;
	int		 ours;		/* the proxy is httptun -l */
	int		 fdpass;
};

/* What -x is told, of a proxy started for it; and that one if it is ours. */
static const char *
ssh_hop(const struct ssh *t, struct kit_proc **l)
{
	unsigned port;

	*l = NULL;
	if (t->ours)
		*l = listener(NULL, &port);
	else if (t->proxy != NULL)
		port = kit_serve(t->proxy, NULL);
	else
		return "direct";
	return kit_str("127.0.0.1:%u", port);
}

static const struct ssh sshs[] = {
	{ "ssh through httptun -l", NULL, 1, 0 },
	{ "ssh through httptun -l, ProxyUseFdpass", NULL, 1, 1 },
	{ "ssh through squid", &squid, 0, 0 },
	{ "ssh through squid, ProxyUseFdpass", &squid, 0, 1 },
	{ "ssh without a hop", NULL, 0, 0 },
	{ "ssh without a hop, ProxyUseFdpass", NULL, 0, 1 },
};

static void
test_ssh(void **state)
{
	const struct ssh *t = *state;
	const char *proxy;
	struct kit_proc *l, *p;
	unsigned port = kit_serve(&kit_sshd, NULL);

	proxy = kit_str("ProxyCommand=%s %s-x %s %%h %%p", kit_binary(),
	    t->fdpass ? "-F " : "", ssh_hop(t, &l));
	kit_ssh_runs(proxy, port);
	p = kit_ssh(proxy, port, "cat");
	ssh_moves(&p, 1, SOME, 0);
	/* a socket that was passed needs nobody to stand by */
	assert_int_equal(kit_children(p->pid), t->fdpass ? 0 : 1);
	ssh_moves(&p, 1, BULK, 1);
	if (l != NULL)
		listener_ends(l);
}

static void
test_ssh_to_port(void **state)
{
	static const struct kit_opt opt = { .in = KIT_NULL };
	const struct ssh *t = *state;
	struct kit_proc *forward, *l, *p[3];
	unsigned port = kit_serve(&kit_sshd, NULL);
	size_t i;

	forward = kit_httptun(&opt, "-x", ssh_hop(t, &l), "-L",
	    kit_str("0:127.0.0.1:%u", port), (char *)NULL);
	port = kit_listening(forward, 0);
	kit_ssh_runs("ProxyCommand=none", port);
	for (i = 0; i < KIT_COUNT(p); i++)
		p[i] = kit_ssh("ProxyCommand=none", port, "cat");
	ssh_moves(p, KIT_COUNT(p), BULK / 10, 1);
	listener_ends(forward);
	if (l != NULL)
		listener_ends(l);
}

static const struct ssh to_port[] = {
	{ "ssh to -L without a hop", NULL, 0, 0 },
	{ "ssh to -L through httptun -l", NULL, 1, 0 },
	{ "ssh to -L through squid", &squid, 0, 0 },
};


int
main(void)
{
	KIT_ADD(throughs, test_through);
	KIT_ADD(refusals, test_refusal);
	KIT_ADD(chains, test_chain);
	KIT_ADD(clients, test_client);
	kit_add("under nc, refused", test_client_refused, NULL);
	KIT_ADD(curls, test_curl);
	KIT_ADD(sshs, test_ssh);
	KIT_ADD(to_port, test_ssh_to_port);
	return kit_run("real");
}
