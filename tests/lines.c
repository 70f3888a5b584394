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
 * Forwards from a file, -f: what its lines say, what is wrong with them, how
 * a changed one is taken up, and what of a forward outlasts its line.
 *
 * With HTTPTUN_LONG set the rewrites under load are ten times as many.
 */

#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L

#include <sys/socket.h>
#include <sys/stat.h>
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define NONE	((char *)NULL)
#define LOCAL	"127.0.0.1", "0", NONE
#define MAX	512			/* listening ports */
#define OK200	"HTTP/1.1 200 OK\r\n\r\n"

/* The program, and its file. */
static struct kit_proc	*p;
static const char	*path;

/* A target, or a proxy. */
struct peer {
	int		 lfd;
	unsigned	 port;
};

static struct peer
peer(void)
{
	struct peer q;

	q.lfd = kit_listen(AF_INET, &q.port);
	return q;
}


/* An address of loopback's that is this process's alone, and ports there:
 * nobody else listens or connects from there.  A port is told by a number from
 * 0 on. */

#define PORTS	400
static unsigned base;			/* where they begin */

static const char *
home(void)
{
	static char text[32];
	unsigned pid = (unsigned)getpid();

	snprintf(text, sizeof(text), "127.%u.%u.%u", 64 + (pid >> 16) % 128,
	    (pid >> 8) % 256, pid % 253 + 2);
	return text;
}

static const char *
at(unsigned port)
{
	return kit_str("%s:%u", home(), base + port);
}

static void
place(struct sockaddr_in *in, unsigned port)
{
	memset(in, 0, sizeof(*in));
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)(base + port));
	(void)inet_pton(AF_INET, home(), &in->sin_addr);
}

static int
reach(unsigned port)
{
	struct sockaddr_in in;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	place(&in, port);
	kit_dial(fd, &in, sizeof(in), at(port));
	return fd;
}

/* Takes one of the ports; -1: it is another's. */
static int
occupy(unsigned port)
{
	struct sockaddr_in in;
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	place(&in, port);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0 &&
	    listen(fd, 8) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

/* Somebody may listen at all addresses: the ports are where nobody does. */
static int
setup(void **state)
{
	unsigned i;
	int fd;

	if (base == 0)
		for (base = 2000 + (unsigned)getpid() % 70 * PORTS, i = 0;
		    i < PORTS; i++) {
			if ((fd = occupy(i)) != -1) {
				(void)close(fd);
				continue;
			}
			base += i + 1;
			i = (unsigned)-1;
		}
	return kit_setup(state);
}

#define TEST(f)	cmocka_unit_test_setup_teardown(f, setup, kit_teardown)

/* What listens there. */
struct ports {
	int		 n;
	unsigned	 port[MAX];
	unsigned long	 inode[MAX];	/* of its socket */
};

/* What of them a message of the kernel's has.  1: it was the last one. */
static int
ports_take(struct ports *all, struct nlmsghdr *h, size_t n)
{
	const struct inet_diag_msg *m;
	struct in_addr in;

	(void)inet_pton(AF_INET, home(), &in);
	for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR)
			kit_fail("no sock_diag(7)");
		m = NLMSG_DATA(h);
		if (m->id.idiag_src[0] != in.s_addr || all->n == MAX)
			continue;
		all->port[all->n] = ntohs(m->id.idiag_sport) - base;
		all->inode[all->n++] = m->idiag_inode;
	}
	return 0;
}

/* /proc/net/tcp has all connections, too: it would take seconds. */
static void
ports_now(struct ports *all)
{
	static struct nlmsghdr buf[4096];
	struct {
		struct nlmsghdr		h;
		struct inet_diag_req_v2	r;
	} ask;
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
	ssize_t n;

	memset(&ask, 0, sizeof(ask));
	ask.h.nlmsg_len = sizeof(ask);
	ask.h.nlmsg_type = SOCK_DIAG_BY_FAMILY;
	ask.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	ask.r.sdiag_family = AF_INET;
	ask.r.sdiag_protocol = IPPROTO_TCP;
	ask.r.idiag_states = 1 << TCP_LISTEN;
	if (send(fd, &ask, sizeof(ask), 0) == -1)
		kit_fail("sock_diag(7): %s", strerror(errno));
	all->n = 0;
	do
		if ((n = recv(fd, buf, sizeof(buf), 0)) <= 0)
			kit_fail("sock_diag(7): %s", strerror(errno));
	while (!ports_take(all, buf, (size_t)n));
	(void)close(fd);
}

/* The socket that listens at a port, 0: none. */
static unsigned long
socket_of(unsigned port)
{
	struct ports all;
	int i;

	ports_now(&all);
	for (i = 0; i < all.n; i++)
		if (all.port[i] == port)
			return all.inode[i];
	return 0;
}

static void
awaits(unsigned port, int open)
{
	int64_t end = kit_now() + kit_patience();

	while ((socket_of(port) != 0) != open) {
		if (kit_now() > end)
			kit_fail("port %u is %s", port, open ? "not open" :
			    "open");
		(void)kit_err(p);
		(void)poll(NULL, 0, 5);
	}
}


/* The file. */

static const char *
line(unsigned port, unsigned target, const char *more)
{
	return kit_str("%s 127.0.0.1 %u %s\n", at(port), target, more);
}

static const char *
both(const char *a, const char *b)
{
	return kit_str("%s%s", a, b);
}

/* Written where it stands. */
static void
write_file(const char *text)
{
	path = kit_file("forwards", 0600, text);
}

/* Written beside it and moved there, as many editors do. */
static void
move_file(const char *text)
{
	const char *beside = kit_file("forwards.new", 0600, text);

	if (rename(beside, path) == -1)
		kit_fail("rename: %s", strerror(errno));
}

/* Starts the program with a file of this text, and these arguments. */
#define START(text, ...) do {						\
	write_file(text);						\
	p = kit_httptun(NULL, "-f", path, __VA_ARGS__);			\
} while (0)

static void
reload(const char *text)
{
	write_file(text);
	kit_signal(p->pid, SIGHUP);
}

/* It says this for the n-th time. */
static void
says(const char *text, int n)
{
	int64_t end = kit_now() + kit_patience();

	while (kit_said(p, text) < n) {
		if (kit_now() > end)
			kit_fail("not %d times <<%s>>", n, text);
		(void)poll(NULL, 0, 5);
	}
}

/* Asks for totals until they have this line. */
static void
totals_say(const char *text)
{
	int64_t end = kit_now() + kit_patience();
	const char *want = kit_str("httptun: %s\n", text);
	size_t from;

	do {
		from = strlen(kit_err(p));
		if (kit_now() > end)
			kit_fail("the totals never say <<%s>>", want);
		kit_signal(p->pid, SIGUSR1);
		kit_idle(p);
	} while (strstr(kit_err(p) + from, want) == NULL);
}

/* The same for one forward's. */
#define TOTAL(port, target, text) totals_say(kit_str("%s to 127.0.0.1 %u: %s", \
	    at(port), target, text))

/* A tunnel by a port there to a target. */
static struct kit_pair
by(unsigned port, const struct peer *t)
{
	struct kit_pair pair;

	pair.c = reach(port);
	pair.t = kit_accept(t->lfd);
	return pair;
}

/* The same by what listens as the n-th. */
static struct kit_pair
by_nth(int n, const struct peer *t)
{
	struct kit_pair pair;

	pair.c = kit_connect(AF_INET, kit_listening(p, n));
	pair.t = kit_accept(t->lfd);
	return pair;
}

/* A proxy was asked for this authority, with these bytes in the request. */
static int
asked(const struct peer *px, const char *authority, const char *with)
{
	char head[4096];
	int fd = kit_accept(px->lfd);
	const char *start = kit_str("CONNECT %s HTTP/1.1\r\n", authority);

	(void)kit_head(fd, head, sizeof(head));
	if (strncmp(head, start, strlen(start)) != 0 ||
	    strstr(head, with) == NULL)
		kit_fail("asked <<%s>>", head);
	return fd;
}


/* What a line says. */

/* Each way to a proxy, as on the command line. */
static void
test_ways(void **state)
{
	static const char *const ways[] = {
		"", "127.0.0.1 @", "localhost @", "-x 127.0.0.1:@",
		"-x http://127.0.0.1:@", "-xhttp://127.0.0.1:@/",
		"-x ws://127.0.0.1:@/a/path", "-x poll://127.0.0.1:@/p/",
		"-x 127.0.0.1:@ -x 127.0.0.1:@", "-x direct",
		"-x 127.0.0.1:@ -x ws://127.0.0.1:@",
		"-x 127.0.0.1:@ -x poll://127.0.0.1:@",
		"-x 127.0.0.1:@ -c 127.0.0.1 -c !any",
		"-c 127.0.0.1 -x 127.0.0.1:@", "127.0.0.1 @ -c127.0.0.1",
		"-x 127.0.0.1:1,127.0.0.1:@,127.0.0.1:2",
	};
	struct kit_proxy px;
	struct peer t = peer();
	const char *text = "", *s;
	size_t i;

	(void)state;
	kit_proxy(&px, LOCAL);
	for (i = 0; i < KIT_COUNT(ways); i++) {
		text = kit_str("%s127.0.0.1:0 127.0.0.1 %u ", text, t.port);
		for (s = ways[i]; *s != '\0'; s++)
			text = *s == '@' ? kit_str("%s%u", text, px.port) :
			    kit_str("%s%c", text, *s);
		text = kit_str("%s\n", text);
	}
	START(text, "-x", "127.0.0.1:1", NONE);
	/* the first line names no way: the command line's leads nowhere */
	kit_expect_reset(kit_connect(AF_INET, kit_listening(p, 0)));
	kit_err_wait(p, "httptun: 127.0.0.1:1: Connection refused\n");
	for (i = 1; i < KIT_COUNT(ways); i++) {
		kit_note("way %s", ways[i]);
		kit_crosses(by_nth((int)i, &t), 100000);
		kit_farewell(by_nth((int)i, &t));
	}
}

/* -X is for hops that are written without a scheme; a pair is none. */
static void
test_carrier(void **state)
{
	struct peer px = peer();
	char head[4096];
	int c, fd;

	(void)state;
	START(kit_str("127.0.0.1:0 h 1 127.0.0.1 %u\n"
	    "127.0.0.1:0 h 2 -x 127.0.0.1:%u\n", px.port, px.port),
	    "-X", "ws", NONE);
	c = kit_connect(AF_INET, kit_listening(p, 0));
	fd = asked(&px, "h:1", "Host: h:1\r\n");
	kit_puts(fd, OK200);
	kit_carries((struct kit_pair){ c, fd });
	(void)kit_connect(AF_INET, kit_listening(p, 1));
	fd = kit_accept(px.lfd);
	(void)kit_head(fd, head, sizeof(head));
	assert_ptr_equal(strstr(head, "GET / HTTP/1.1\r\n"), head);
}

/* The two hops of a line are asked in order, with their own credentials, and
 * who is written the same is not asked the same twice. */
static void
test_hops(void **state)
{
	struct peer px = peer();
	struct kit_pair pair;
	const char *way = kit_str("-x http://joe:s%%20t@127.0.0.1:%u "
	    "-x http://ann:x@second:80", px.port);
	int i;

	(void)state;
	START(kit_str("127.0.0.1:0 h 1 %s\n127.0.0.1:0 h 2 %s\n", way, way),
	    NONE);
	for (i = 0; i < 2; i++) {
		pair.c = kit_connect(AF_INET, kit_listening(p, i));
		pair.t = asked(&px, "second:80", "\r\n\r\n");
		kit_puts(pair.t, "HTTP/1.1 407 No\r\nProxy-Authenticate: "
		    "Basic realm=x\r\nContent-Length: 0\r\n\r\n");
		kit_expect(pair.t, kit_str("CONNECT second:80 HTTP/1.1\r\n"
		    "Host: second:80\r\nProxy-Authorization: %s\r\n\r\n",
		    kit_basic("joe:s t")));
		kit_puts(pair.t, OK200);
		kit_expect(pair.t, kit_str("CONNECT h:%d HTTP/1.1\r\n"
		    "Host: h:%d\r\n\r\n", i + 1, i + 1));
		kit_puts(pair.t, OK200);
		kit_farewell(pair);
	}
}

/* Blanks, comments, ends of lines, and all ways to write an address. */
static void
test_syntax(void **state)
{
	struct peer t = peer();
	const char *comment = kit_times(20000, "# 99 h "), *text;
	int i, v6 = kit_has_ipv6();

	(void)state;
	text = kit_str("# 1 a 1\r\n#2 a 2\n\t # 3 a 3\n\r\n  \n\n"
	    "127.0.0.1:0 127.0.0.1 %u # x\r\n"
	    "\t 127.0.0.1:0 \t 127.0.0.1\t%u\t\t#\n"
	    "127.1:0 localhost %u #-x nowhere\n"
	    "%s\n%s"
	    "%s127.0.0.1:0 127.0.0.1 %u -x direct", t.port, t.port, t.port,
	    comment, kit_times(10000, "# 1 h 1\n"),
	    v6 ? "[::1]:0 ::1 1\n[::1]:0 [::1] 1\n" : "", t.port);
	START(text, NONE);
	for (i = 0; i < 3; i++)
		kit_farewell(by_nth(i, &t));
	kit_farewell(by_nth(v6 ? 5 : 3, &t));
	assert_int_equal(kit_said(p, "\n"), v6 ? 6 : 4);
}

/* A bare port is loopback's, of both families, -4's and -6's. */
static void
test_loopback(void **state)
{
	struct peer t = peer();
	unsigned port;
	int v6 = kit_has_ipv6();
	const char *text = kit_str("0 127.0.0.1 %u\nlocalhost:0 127.0.0.1 "
	    "%u\n", t.port, t.port);
	struct kit_pair pair;

	(void)state;
	START(text, NONE);
	port = kit_listening(p, 0);
	if (v6) {
		assert_int_equal(kit_listening(p, 1), port);
		kit_err_has(p, kit_str("httptun: listening on ::1 %u\n",
		    port));
		pair.c = kit_connect(AF_INET6, port);
		pair.t = kit_accept(t.lfd);
		kit_farewell(pair);
	}
	kit_err_has(p, kit_str("httptun: listening on 127.0.0.1 %u\n", port));
	kit_farewell(by_nth(0, &t));
	kit_farewell(by_nth(v6 ? 2 : 1, &t));
	kit_done(p);

	START(text, "-4", NONE);
	(void)kit_listening(p, 1);
	kit_farewell(by_nth(1, &t));
	assert_int_equal(kit_said(p, "listening on 127.0.0.1 "), 2);
	assert_int_equal(kit_said(p, "\n"), 2);
	kit_done(p);
	if (!v6)
		return;

	START(kit_str("0 127.0.0.1 %u\n", t.port), "-6", NONE);
	port = kit_listening(p, 0);
	kit_expect_reset(kit_connect(AF_INET6, port));
	assert_int_equal(kit_said(p, "listening on ::1 "), 1);
	assert_int_equal(kit_said(p, "listening on "), 1);
}


/* What is wrong with it. */

static const struct {
	const char *text, *said;
} faults[] = {
	{ "1", "1: not [addr:]port destination port" },
	{ "# x\n\n1 h # 22\n", "3: not [addr:]port destination port" },
	{ "x h 22", "1: bad port 'x'" },
	{ "65536 h 22", "1: bad port '65536'" },
	{ "-1 h 22", "1: bad port '-1'" },
	{ "127.0.0.1 h 22", "1: bad port '127.0.0.1'" },
	{ "127.0.0.1: h 22", "1: bad port ''" },
	{ "::1:22 h 22", "1: bad address '::1'" },
	{ "[::1:22 h 22", "1: bad address '[::1'" },
	{ "[::g]:22 h 22", "1: bad address '::g'" },
	{ "1.2.3.4.5:22 h 22", "1: bad address '1.2.3.4.5'" },
	{ "a.name:22 h 22", "1: bad address 'a.name'" },
	{ "22 h 0", "1: bad port '0'" }, { "22 h ssh", "1: bad port 'ssh'" },
	{ "22 h 65536", "1: bad port '65536'" },
	{ "22 a_b^ 22", "1: bad host 'a_b^'" },
	{ "22 joe:secret@h 22", "1: bad host" },
	{ "22 h 22 p", "1: a proxy without its port" },
	{ "22 h 22 p q", "1: bad port 'q'" },
	{ "22 h 22 joe:secret@p 1", "1: bad host" },
	{ "22 h 22 p 0", "1: bad port '0'" },
	{ "22 h 22 p 1 -x q", "1: -x, and a proxy and its port" },
	{ "22 h 22 p 1 q", "1: neither -x hop nor -c rule: 'q'" },
	{ "22 h 22 -y q", "1: neither -x hop nor -c rule: '-y'" },
	{ "22 h 22 -x", "1: neither -x hop nor -c rule: '-x'" },
	{ "22 h 22 -c any -c", "1: neither -x hop nor -c rule: '-c'" },
	{ "22 h 22 -x p joe:secret@q",
	    "1: neither -x hop nor -c rule:" },
	{ "22 h 22 p http://joe:secret", "1: bad port" },
	{ "22 h 22 p http://joe:secret%40q", "1: bad port" },
	{ "22 h 22 -xp joe:secret%40q", "1: neither -x hop nor -c rule:" },
	{ "22 h 22 -x p,direct", "1: -x: direct stands alone" },
	{ "22 h 22 -x direct,p", "1: -x: direct stands alone" },
	{ "22 h 22 -x direct -x p", "1: -x: direct, and hops" },
	{ "22 h 22 -x p -x direct", "1: -x: direct, and hops" },
	{ "22 h 22 -x http://joe:secret@p:x", "1: -x: bad port" },
	{ "22 h 22 -x http://joe:secret", "1: -x: bad port" },
	{ "22 h 22 -x http://joe:sec%zzret@p", "1: -x: bad password" },
	{ "22 h 22 -x http://joe:secret@p:1/path",
	    "1: -x: a proxy has no path" },
	{ "22 h 22 -x socks5://p", "1: -x: a scheme" },
	{ "22 h 22 -x poll://p -x poll://q",
	    "1: -x: a second poll server in the chain" },
	{ "22 h 22 -c 10.0.0.0/33", "1: -c: bad rule '10.0.0.0/33'" },
	{ "22 h 22 -c a.name", "1: -c: bad rule 'a.name'" },
	{ "*:22 h 22", "1: 0.0.0.0 is open to other machines: say for whom, "
	    "with -c" },
	{ ":22 h 22", "1: 0.0.0.0 is open to other machines: " },
	{ "192.0.2.1:22 h 22 -c !any", "1: 192.0.2.1 is open to other " },
	{ "2222 h 22\n2223 h 22\n2222 k 23\n",
	    "3: 127.0.0.1:2222 is line 1's already" },
	{ "2222 h 22\n127.0.0.1:2222 h 22", "2: 127.0.0.1:2222 is line 1's" },
	{ "127.0.0.1:2222 h 22\n*:2222 h 22 -c any",
	    "2: 0.0.0.0:2222 is line 1's already" },
	{ "22 h\x01 22", "1: a control character" },
	{ "22 h 22\n22\r h 22\n", "2: a control character" },
	{ "\xef\xbb\xbf" "22 h 22\n", "1: bad port '\\xef\\xbb\\xbf22'" },
};

/* A fault of the first file is the end, before anything listens. */
static void
test_faults(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(faults); i++) {
		kit_note("fault %zu", i);
		START(kit_str("%s\n", faults[i].text), NONE);
		kit_exits(p, 2);
		if (strncmp(kit_err(p), kit_str("httptun: %s:%s", path,
		    faults[i].said), 10 + strlen(path) +
		    strlen(faults[i].said)) != 0 || kit_said(p, "\n") != 1 ||
		    strstr(kit_err(p), "ret") != NULL)
			kit_fail("<<%s>> is not: %s", kit_err(p),
			    faults[i].said);
		kit_done(p);
	}
}

/* A NUL does not end a line, nor what is looked at. */
static void
test_nul(void **state)
{
	static const char text[] = "0 h 22\n0 h\0 22\n";
	int fd;

	(void)state;
	write_file("");
	fd = open(path, O_WRONLY);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	(void)close(fd);
	p = kit_httptun(NULL, "-f", path, NONE);
	kit_exits(p, 2);
	kit_err_is(p, kit_str("httptun: %s:2: a control character\n", path));
}

/* Everything has its bound, and up to there it goes. */
static void
test_bounds(void **state)
{
	const struct {
		const char *way, *said;
	} rows[] = {
		{ kit_times(32, " -x p:1"), NULL },
		{ kit_times(33, " -x p:1"), "-x: too many hops" },
		{ kit_times(62, " -c any"), NULL },
		{ kit_times(63, " -c any"), "too many fields" },
		{ kit_times(100000, " -c any"), "too many fields" },
		{ kit_times(100000, "2"), "bad port '2222" },
		{ kit_str(" p %s", kit_times(100000, "2")), "bad port '" },
		{ kit_str(" %s 22", kit_times(100000, "p")),
		    "host too long '" },
		{ kit_str(" -x %s", kit_times(100000, "p")), "-x: " },
		{ kit_str(" -c %s", kit_times(100000, "1")), "-c: bad rule '" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(rows); i++) {
		START(kit_str("127.0.0.1:0 h 22%s\n", rows[i].way), NONE);
		if (rows[i].said == NULL) {
			(void)kit_listening(p, 0);
		} else {
			kit_exits(p, 2);
			kit_err_has(p, kit_str("httptun: %s:1: %s", path,
			    rows[i].said));
			assert_int_equal(kit_said(p, "\n"), 1);
		}
		kit_done(p);
	}
	START(kit_times(5000000, "#"), NONE);
	kit_exits(p, 2);
	kit_err_is(p, kit_str("httptun: %s: File too large\n", path));
}

/* A file that is none. */
static void
test_no_file(void **state)
{
	const char *dir;

	(void)state;
	START("", NONE);
	kit_idle(p);
	assert_true(kit_alive(p));
	kit_err_is(p, "");
	kit_done(p);
	(void)unlink(path);
	p = kit_httptun(NULL, "-f", path, NONE);
	kit_exits(p, 2);
	kit_err_is(p, kit_str("httptun: %s: No such file or directory\n",
	    path));
	dir = kit_path("dir");
	assert_int_equal(mkdir(dir, 0700), 0);
	p = kit_httptun(NULL, "-f", dir, NONE);
	kit_exits(p, 2);
	kit_err_is(p, kit_str("httptun: %s: Is a directory\n", dir));
	assert_int_equal(rmdir(dir), 0);
}

/* What -f does not go with: one line, status 2. */
static void
test_command_line(void **state)
{
	static const char *const rows[][3] = {
		{ "host", "22" }, { "host" }, { "-l", "0" }, { "-z" },
		{ "-F" }, { "-r" }, { "-T" }, { "-i" }, { "-j", "2" },
		{ "-t", "any" }, { "-f", "other" }, { "-L", "x" },
		{ "-w", "x" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < KIT_COUNT(rows); i++) {
		START("127.0.0.1:0 h 22\n", rows[i][0], rows[i][1],
		    rows[i][2], NONE);
		kit_exits(p, 2);
		assert_int_equal(kit_said(p, "\n"), 1);
		kit_err_has(p, i < 2 ? "usage: httptun " : "httptun: -");
		kit_done(p);
	}
	p = kit_httptun(NULL, "-f", NONE);
	kit_exits(p, 2);
	kit_err_is(p, "httptun: -f: wants an argument\n");
	/* as of a variable that is not set */
	p = kit_httptun(NULL, "-f", "", NONE);
	kit_exits(p, 2);
	kit_err_is(p, "httptun: -f: no file\n");
	p = kit_httptun(NULL, "-a", "", "h", "22", NONE);
	kit_exits(p, 2);
	kit_err_is(p, "httptun: -a: no file\n");
}

/* The environment is not looked at only when a line wants it. */
static void
test_bad_environment(void **state)
{
	static const char *const auth[] = { "HTTPTUN_AUTH=secret", NULL },
	    *const tls[] = { "HTTPTUN_TLS=true", NULL };
	struct kit_opt opt = { .env = auth };

	(void)state;
	write_file("");
	p = kit_httptun(&opt, "-f", path, NONE);
	kit_exits(p, 2);
	kit_err_is(p, "httptun: HTTPTUN_AUTH: not user:password\n");
	kit_done(p);
	opt.env = tls;
	p = kit_httptun(&opt, "-f", path, NONE);
	kit_exits(p, 2);
	kit_err_has(p, "httptun: HTTPTUN_TLS: ");
}


/* Where it is read from. */

/* -: stdin, up to its end, and no more. */
static void
test_stdin(void **state)
{
	struct peer t = peer();

	(void)state;
	p = kit_httptun(NULL, "-f", "-", NONE);
	kit_puts(p->in, kit_str("127.0.0.1:0 127.0.0.1 %u\n127.", t.port));
	kit_idle(p);
	kit_err_is(p, "");
	kit_puts(p->in, kit_str("0.0.1:0 127.0.0.1 %u", t.port));
	kit_half_close(p->in);
	kit_farewell(by_nth(0, &t));
	kit_farewell(by_nth(1, &t));
	kit_signal(p->pid, SIGHUP);
	kit_exits(p, -SIGHUP);
	kit_done(p);

	p = kit_httptun(NULL, "-f", "-", NONE);
	kit_puts(p->in, "x h 22\n");
	kit_half_close(p->in);
	kit_exits(p, 2);
	kit_err_is(p, "httptun: stdin:1: bad port 'x'\n");
}

/* So is a pipe, which has nothing to be read again. */
static void
test_fifo(void **state)
{
	struct peer t = peer();
	int fd;

	(void)state;
	path = kit_path("fifo");
	assert_int_equal(mkfifo(path, 0600), 0);
	p = kit_httptun(NULL, "-f", path, NONE);
	fd = open(path, O_WRONLY);
	kit_puts(fd, kit_str("127.0.0.1:0 127.0.0.1 %u\n", t.port));
	(void)close(fd);
	kit_farewell(by_nth(0, &t));
	kit_idle(p);
	kit_farewell(by_nth(0, &t));
	kit_signal(p->pid, SIGTERM);
	kit_exits(p, -SIGTERM);
}

/* Nobody's proxy in the environment is a line's, but -L's it is. */
static void
test_environment(void **state)
{
	struct peer t = peer(), px = peer();
	const char *const env[] = { kit_str("https_proxy=127.0.0.1:%u",
	    px.port), kit_str("all_proxy=127.0.0.1:%u", px.port), NULL };
	struct kit_opt opt = { .env = env };
	struct kit_pair pair;

	(void)state;
	write_file(kit_str("127.0.0.1:0 127.0.0.1 %u\n", t.port));
	p = kit_httptun(&opt, "-f", path, "-L", "127.0.0.1:0:h:1", NONE);
	(void)kit_listening(p, 1);
	kit_farewell(by_nth(1, &t));
	pair.c = kit_connect(AF_INET, kit_listening(p, 0));
	pair.t = asked(&px, "h:1", "");
	kit_puts(pair.t, OK200);
	kit_farewell(pair);
	kit_untouched(px.lfd);
}


/* It changes. */

/* By itself: in place, by rename, with other text of the same length. */
static void
test_changes(void **state)
{
	struct peer t = peer();

	(void)state;
	START(line(0, t.port, ""), NONE);
	awaits(0, 1);
	write_file(line(1, t.port, ""));
	awaits(1, 1);
	assert_int_equal(socket_of(0), 0);
	kit_farewell(by(1, &t));
	move_file(both(line(2, t.port, ""), line(1, t.port, "")));
	awaits(2, 1);
	kit_farewell(by(1, &t));
	kit_farewell(by(2, &t));
	move_file("# nothing\n");
	awaits(1, 0);
	awaits(2, 0);
	kit_idle(p);
	assert_true(kit_alive(p));
	assert_int_equal(kit_said(p, "\n"), 3);
	assert_int_equal(kit_said(p, "listening on"), 3);
}

/* SIGHUP: at once, however often. */
static void
test_hup(void **state)
{
	struct peer t = peer();
	unsigned i;

	(void)state;
	START("", NONE);
	kit_idle(p);
	for (i = 0; i < 50; i++) {
		reload(line(0 + i % 3, t.port, ""));
		awaits(0 + i % 3, 1);
		kit_farewell(by(0 + i % 3, &t));
		awaits(0 + (i + 2) % 3, 0);
	}
	for (i = 0; i < 20; i++)
		kit_signal(p->pid, SIGHUP);
	kit_idle(p);
	assert_int_equal(kit_said(p, "\n"), 50);
}

/* A file that does not rest is not read: what is there for a moment only, and
 * so nothing at all, is no file. */
static void
test_half_written(void **state)
{
	struct peer t = peer();
	const char *text = line(0, t.port, "");
	int64_t end;
	unsigned long sock;
	int n = 0;

	(void)state;
	START(text, NONE);
	awaits(0, 1);
	sock = socket_of(0);
	for (end = kit_now() + 1300; kit_now() < end; n++) {
		write_file(n % 3 == 0 ? "" : n % 3 == 1 ? "half a li" : text);
		(void)poll(NULL, 0, 10);
		assert_int_equal(socket_of(0), sock);
	}
	write_file(both(text, line(1, t.port, "")));
	awaits(1, 1);
	assert_int_equal(socket_of(0), sock);
	assert_int_equal(kit_said(p, "\n"), 2);
}

/* An address and port that stay keep their socket, whatever else is new. */
static void
test_keeps_socket(void **state)
{
	struct peer t = peer(), u = peer(), px = peer();
	unsigned long sock;
	int c;

	(void)state;
	START(both(line(0, t.port, ""), line(1, t.port, "")), NONE);
	awaits(1, 1);
	sock = socket_of(0);
	kit_farewell(by(0, &t));
	reload(both(line(2, t.port, ""), line(0, u.port, "# x")));
	awaits(2, 1);
	awaits(1, 0);
	assert_int_equal(socket_of(0), sock);
	kit_farewell(by(0, &u));
	reload(both(line(1, t.port, ""), line(0, u.port,
	    kit_str("127.0.0.1 %u", px.port))));
	awaits(1, 1);
	assert_int_equal(socket_of(0), sock);
	c = reach(0);
	kit_puts(asked(&px, kit_str("127.0.0.1:%u", u.port), ""),
	    OK200 "hello");
	kit_expect(c, "hello");
	reload(both(line(2, t.port, ""), line(0, u.port,
	    "-c !any")));
	awaits(2, 1);
	assert_int_equal(socket_of(0), sock);
	kit_expect_reset(reach(0));
	kit_untouched(t.lfd);
	kit_untouched(u.lfd);
	kit_untouched(px.lfd);
}

/* Who stands in the queue of such a socket is served, by whichever line. */
static void
test_queue(void **state)
{
	struct peer t = peer(), u = peer();
	struct pollfd pfd[2] = { { t.lfd, POLLIN, 0 }, { u.lfd, POLLIN, 0 } };
	struct kit_pair pair;

	(void)state;
	START(line(0, t.port, ""), NONE);
	awaits(0, 1);
	kit_idle(p);
	kit_stop(p->pid);
	pair.c = reach(0);
	reload(line(0, u.port, ""));
	kit_go_on();
	assert_int_equal(poll(pfd, 2, kit_patience()), 1);
	pair.t = kit_accept(pfd[0].revents != 0 ? t.lfd : u.lfd);
	kit_farewell(pair);
	kit_farewell(by(0, &u));
}

/* A port that the system chose stays, and can be named from then on. */
static void
test_port_zero(void **state)
{
	struct peer t = peer(), u = peer();
	unsigned a, b;
	unsigned long sock;

	(void)state;
	START(kit_str("%s:0 127.0.0.1 %u\n%s:0 127.0.0.1 %u\n", home(),
	    t.port, home(), u.port), NONE);
	a = kit_listening(p, 0) - base;
	b = kit_listening(p, 1) - base;
	sock = socket_of(a);
	/* the order is nothing, and the target tells them apart */
	reload(kit_str("%s:0 127.0.0.1 %u -x direct\n%s:0 127.0.0.1 %u\n"
	    "%s:0 h 1\n", home(), u.port, home(), t.port, home()));
	(void)kit_listening(p, 2);
	kit_farewell(by(a, &t));
	kit_farewell(by(b, &u));
	/* even where that is another one */
	reload(kit_str("%s:0 127.0.0.1 %u\n%s h 1\n", home(), u.port, at(0)));
	awaits(0, 1);
	kit_farewell(by(b, &u));
	assert_int_equal(socket_of(a), 0);
	reload(kit_str("%s:0 127.0.0.1 %u\n%s h 1\n", home(), t.port, at(1)));
	awaits(1, 1);
	kit_farewell(by(b, &t));
	sock = socket_of(b);
	reload(kit_str("%s%s h 1\n", line(b, u.port, ""), at(2)));
	awaits(2, 1);
	assert_int_equal(socket_of(b), sock);
	kit_farewell(by(b, &u));
}

/* A port that is free at every address, and stays so: who binds to any is not
 * given it. */
static unsigned
free_port(void)
{
	unsigned port = base;

	while (kit_knock(AF_INET, port) != ECONNREFUSED ||
	    kit_knock(AF_INET6, port) != ECONNREFUSED)
		port++;
	return port;
}

/* More addresses, or fewer: those that stay are the same. */
static void
test_address_by_address(void **state)
{
	struct peer t = peer();
	struct kit_pair pair;
	unsigned port;

	(void)state;
	if (!kit_has_ipv6())
		return;
	port = free_port();
	START(kit_str("127.0.0.1:%u 127.0.0.1 %u\n", port, t.port), NONE);
	assert_int_equal(kit_listening(p, 0), port);
	reload(kit_str("%u 127.0.0.1 %u\n", port, t.port));
	kit_err_wait(p, kit_str("listening on ::1 %u\n", port));
	pair.c = kit_connect(AF_INET6, port);
	pair.t = kit_accept(t.lfd);
	kit_farewell(pair);
	kit_farewell(by_nth(0, &t));
	assert_int_equal(kit_said(p, "listening"), 2);
	reload(kit_str("[::1]:%u 127.0.0.1 %u\n127.0.0.1:0 h 1\n", port,
	    t.port));
	(void)kit_listening(p, 2);
	assert_int_equal(kit_knock(AF_INET, port), ECONNREFUSED);
	assert_int_equal(kit_knock(AF_INET6, port), 0);
	(void)kit_accept(t.lfd);
	/* one that is all of them is none of them */
	reload(kit_str("*:%u 127.0.0.1 %u -c any\n", port, t.port));
	kit_err_wait(p, kit_str("listening on :: %u\n", port));
	kit_farewell(by_nth(0, &t));
}


/* What a fault does, and what a file that has gone. */

static void
test_faulty_changes(void **state)
{
	struct peer t = peer();
	const char *text = line(0, t.port, ""), *bad;
	unsigned long sock;
	int i;

	(void)state;
	START(text, NONE);
	awaits(0, 1);
	sock = socket_of(0);
	/* by itself, and once */
	bad = both(line(1, t.port, ""), "22 h 22 -x http://a:secret@\n");
	write_file(bad);
	kit_err_wait(p, kit_str("httptun: %s:2: -x: ", path));
	for (i = 0; i < 3; i++) {
		reload(bad);
		kit_idle(p);
		move_file(bad);
		kit_signal(p->pid, SIGHUP);
		kit_idle(p);
	}
	assert_int_equal(kit_said(p, ":2: "), 1);
	assert_int_equal(socket_of(0), sock);
	assert_int_equal(socket_of(1), 0);
	kit_farewell(by(0, &t));
	/* another content, another fault */
	reload(both("\n", bad));
	kit_err_wait(p, kit_str("httptun: %s:3: -x: ", path));
	assert_int_equal(socket_of(0), sock);
	/* and a good one again */
	reload(both(text, line(1, t.port, "")));
	awaits(1, 1);
	assert_int_equal(socket_of(0), sock);
	kit_farewell(by(1, &t));
	assert_int_equal(kit_said(p, "\n"), 4);
	/* the same slip once more, from what held and back to it */
	for (i = 1; i <= 2; i++) {
		reload(both("\n\n", bad));
		says(kit_str("httptun: %s:4: -x: ", path), i);
		reload(both(text, line(1, t.port, "")));
		kit_idle(p);
	}
	assert_int_equal(kit_said(p, "secret"), 0);
}

static void
test_removed(void **state)
{
	struct peer t = peer();
	const char *text = line(0, t.port, "");
	unsigned long sock;
	unsigned i;

	(void)state;
	START(text, NONE);
	awaits(0, 1);
	sock = socket_of(0);
	for (i = 1; i <= 2; i++) {
		(void)unlink(path);
		says(kit_str("httptun: %s: No such file or directory\n",
		    path), (int)i);
		kit_signal(p->pid, SIGHUP);
		kit_idle(p);
		assert_int_equal(kit_said(p, "No such"), i);
		assert_int_equal(socket_of(0), sock);
		kit_farewell(by(0, &t));
		/* back, as it was, then with something new */
		reload(text);
		kit_idle(p);
		reload(both(text, line(i, t.port, "")));
		awaits(i, 1);
		assert_int_equal(socket_of(0), sock);
	}
	/* something else in its place */
	(void)unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	kit_signal(p->pid, SIGHUP);
	kit_err_wait(p, kit_str("httptun: %s: Is a directory\n", path));
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	kit_signal(p->pid, SIGHUP);
	kit_err_wait(p, kit_str("httptun: %s: Invalid argument\n", path));
	(void)unlink(path);
	assert_int_equal(socket_of(0), sock);
	reload(both(text, line(3, t.port, "")));
	awaits(3, 1);
	assert_int_equal(socket_of(0), sock);
}

/* A port that is another's is no fault: it is tried again. */
static void
test_in_use(void **state)
{
	struct peer t = peer();
	int fd = occupy(0), other;
	const char *said = kit_str("httptun: %s: Address already in use\n",
	    at(0));

	(void)state;
	START(both(line(0, t.port, ""), line(1, t.port, "")), NONE);
	awaits(1, 1);
	kit_err_wait(p, said);
	kit_farewell(by(1, &t));
	TOTAL(0, t.port, "0 open, 0 tunnels, "
	    "0 refused, 0 bytes up, 0 bytes down, not listening");
	/* no matter what else is new */
	other = occupy(2);
	reload(both(line(0, t.port, "-x direct"), line(2, t.port, "")));
	kit_err_wait(p, kit_str("%s: Address already in use\n", at(2)));
	assert_int_equal(kit_said(p, said), 1);
	(void)close(fd);
	kit_err_wait(p, kit_str("listening on %s %u\n", home(), base));
	kit_farewell(by(0, &t));
	(void)close(other);
	kit_err_wait(p, kit_str("listening on %s %u\n", home(),
	    base + 2));
	kit_farewell(by(2, &t));
	assert_int_equal(kit_said(p, "in use"), 2);
	/* once more in use is once more said */
	fd = occupy(3);
	reload(line(3, t.port, ""));
	kit_err_wait(p, kit_str("%s: Address already in use\n", at(3)));
	reload("");
	kit_idle(p);
	(void)close(fd);
	reload(line(3, t.port, ""));
	awaits(3, 1);
}

/* -L's is one. */
static void
test_with_L(void **state)
{
	struct peer t = peer(), u = peer();
	int fd;

	(void)state;
	START(line(0, t.port, ""), "-L", kit_str("%s:127.0.0.1:%u", at(1),
	    u.port), NONE);
	awaits(0, 1);
	kit_farewell(by(0, &t));
	kit_farewell(by(1, &u));
	reload(line(1, t.port, ""));
	kit_err_wait(p, kit_str("httptun: %s:1: %s is -L's already\n",
	    path, at(1)));
	reload("");
	awaits(0, 0);
	kit_farewell(by(1, &u));
	kit_done(p);

	fd = occupy(1);
	START(line(0, t.port, ""), "-L", kit_str("%s:127.0.0.1:%u", at(1),
	    u.port), NONE);
	kit_exits(p, 1);
	kit_err_is(p, kit_str("httptun: %s: Address already in use\n",
	    at(1)));
	/* nobody is told of ports before it that they listen */
	p = kit_httptun(NULL, "-L", kit_str("%s:127.0.0.1:%u", at(0), u.port),
	    "-L", kit_str("%s:127.0.0.1:%u", at(1), u.port), NONE);
	kit_exits(p, 1);
	kit_err_is(p, kit_str("httptun: %s: Address already in use\n",
	    at(1)));
	(void)close(fd);
}


/* Tunnels. */

/* They outlast their line, its target, its hops and its rules. */
static void
test_tunnels_live(void **state)
{
	struct peer t = peer(), u = peer(), px = peer();
	struct kit_pair gone, moved, ruled, opening;

	(void)state;
	START(kit_str("%s%s%s%s", line(0, t.port, ""), line(1, t.port,
	    ""), line(2, t.port, "-c any"), line(3, t.port,
	    kit_str("-x http://joe:x@127.0.0.1:%u", px.port))), NONE);
	awaits(3, 1);
	gone = by(0, &t);
	moved = by(1, &t);
	ruled = by(2, &t);
	opening.c = reach(3);
	opening.t = asked(&px, kit_str("127.0.0.1:%u", t.port), "");
	kit_carries(gone);
	reload(both(line(1, u.port, ""), line(2, t.port, "-c !any")));
	awaits(0, 0);
	awaits(3, 0);
	kit_carries(gone);
	kit_carries(moved);
	kit_carries(ruled);
	/* one that is being opened needs its hops still */
	kit_puts(opening.t, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n"
	    "Proxy-Authenticate: Basic realm=x\r\n\r\n");
	kit_until(opening.t, (char [4096]){ 0 }, 4096, "\r\n\r\n");
	kit_puts(opening.t, OK200);
	kit_carries(opening);
	TOTAL(0, t.port, "1 open, 1 tunnels, "
	    "0 refused, 26 bytes up, 26 bytes down, removed");
	/* not even all other lines' end is theirs */
	reload("");
	awaits(1, 0);
	kit_half_closed(gone.c, gone.t, 100000);
	kit_half_closed(moved.t, moved.c, 100000);
	kit_farewell(ruled);
	kit_reset(opening.t);
	kit_expect_reset(opening.c);
	totals_say("totals: 0 open, 4 tunnels, 0 refused, 100088 bytes up, "
	    "100088 bytes down, 1 workers");
}

/* What a line that is there as before has counted, goes on counting. */
static void
test_totals_stay(void **state)
{
	struct peer t = peer();
	struct kit_pair pair;

	(void)state;
	START(line(0, t.port, "-x direct"), NONE);
	awaits(0, 1);
	pair = by(0, &t);
	kit_carries(pair);
	reload(both(line(1, t.port, ""), line(0, t.port, "-x  direct # x")));
	awaits(1, 1);
	kit_farewell(by(0, &t));
	TOTAL(0, t.port, "1 open, 2 tunnels, 0 refused, 26 bytes up, "
	    "26 bytes down");
	assert_int_equal(kit_said(p, "removed"), 0);
	reload("");
	awaits(0, 0);
	kit_farewell(pair);
	totals_say("totals: 0 open, 2 tunnels, 0 refused, 39 bytes up, "
	    "39 bytes down, 1 workers");
}

/* A session is ended with its server, when its line has gone before. */
static void
test_sessions_live(void **state)
{
	struct kit_stream s = { -1, KIT_OUT, (uint64_t)1 << 26, 1, 0, 0 };
	struct kit_proxy px;
	struct peer t = peer();
	struct kit_pair pair;
	int i;

	(void)state;
	kit_proxy(&px, LOCAL);
	START("", NONE);
	kit_idle(p);
	for (i = 0; i < 3; i++) {
		reload(line(0, t.port, kit_str("-x 127.0.0.1:%u "
		    "-x poll://127.0.0.1:%u/x/", px.port, px.port)));
		awaits(0, 1);
		pair = by(0, &t);
		reload("");
		awaits(0, 0);
		kit_carries(pair);
		if (i == 0)
			kit_farewell(pair);
		else if (i == 1) {
			/* with a request under way the last needs another
			 * connection */
			s.fd = pair.c;
			kit_stalls(&s, 200);
			kit_reset(pair.c);
			kit_until_reset(pair.t);
		}
		if (i < 2)
			kit_proxy_settles(&px);
	}
	/* the servers hear of a signal that ends it */
	kit_signal(p->pid, SIGTERM);
	kit_exits(p, -SIGTERM);
	(void)kit_until_end(pair.t);
	kit_proxy_settles(&px);
}


/* Who may. */

static void
test_rules(void **state)
{
	struct peer t = peer();

	(void)state;
	START(kit_str("%s%s%s%s", line(0, t.port, ""), line(1, t.port,
	    "-c 127.0.0.0/8"), line(2, t.port, "-c !10.0.0.0/8"),
	    line(3, t.port, "-c 10.0.0.0/8")), "-v", "-c", "!127.0.0.0/8",
	    NONE);
	awaits(3, 1);
	/* the command line's are for lines that have none */
	kit_expect_reset(reach(0));
	kit_farewell(by(1, &t));
	kit_farewell(by(2, &t));
	kit_expect_reset(reach(3));
	kit_err_wait(p, kit_str(" - 127.0.0.1:%u 403 0 0 0.", t.port));
	kit_err_wait(p, " rule -c !127.0.0.0/8\n");
	kit_err_wait(p, " no rule allows it\n");
	TOTAL(3, t.port, "0 open, 0 tunnels, "
	    "1 refused, 0 bytes up, 0 bytes down");
}

/* Open to others with an allowing rule only, the line's or all lines'. */
static void
test_open(void **state)
{
	struct peer t = peer();

	(void)state;
	START(kit_str("0.0.0.0:0 127.0.0.1 %u -c any\n", t.port), NONE);
	kit_farewell(by_nth(0, &t));
	kit_err_is(p, kit_str("httptun: listening on 0.0.0.0 %u\n",
	    kit_listening(p, 0)));
	kit_done(p);
	START(kit_str("*:0 127.0.0.1 %u\n", t.port), "-4", "-c", "127.0.0.1",
	    NONE);
	kit_farewell(by_nth(0, &t));
	reload(kit_str("*:0 127.0.0.1 %u -c !10.0.0.1\n", t.port));
	kit_err_wait(p, kit_str("httptun: %s:1: 0.0.0.0 is open to other "
	    "machines: say for whom, with -c\n", path));
	kit_farewell(by_nth(0, &t));
}

/* The credentials of -a are each first hop's, and read again with the file. */
static void
test_credentials(void **state)
{
	static const char *const given[] = { "joe:old", "joe:new" };
	struct peer px = peer();
	const char *creds = kit_file("creds", 0600, "joe:old\n");
	struct kit_pair pair;
	int i, k;

	(void)state;
	START(kit_str("127.0.0.1:0 h 1 127.0.0.1 %u\n127.0.0.1:0 h 1 "
	    "-x 127.0.0.1:%u\n127.0.0.1:0 h 1\n", px.port, px.port), "-a",
	    creds, "-A", "basic", "-x", kit_str("127.0.0.1:%u", px.port),
	    NONE);
	(void)kit_listening(p, 2);
	for (i = 0; i < 2; i++) {
		for (k = 0; k < 3; k++) {
			pair.c = kit_connect(AF_INET, kit_listening(p, k));
			pair.t = asked(&px, "h:1", kit_str("%s\r\n",
			    kit_basic(given[i])));
			kit_puts(pair.t, OK200);
			kit_farewell(pair);
		}
		(void)kit_file("creds", 0600, "joe:new\nx:y\n");
		kit_signal(p->pid, SIGHUP);
		kit_idle(p);
	}
	/* a faulty one is reported, and the old one kept */
	(void)kit_file("creds", 0600, "nothing\n");
	kit_signal(p->pid, SIGHUP);
	kit_err_wait(p, kit_str("httptun: %s: line 1: ", creds));
	(void)kit_connect(AF_INET, kit_listening(p, 0));
	(void)asked(&px, "h:1", kit_basic("joe:new"));
}


/* What is told. */

static void
test_log(void **state)
{
	struct peer t = peer();
	unsigned nobody = kit_nobody(AF_INET);
	struct kit_pair pair;

	(void)state;
	START(both(line(0, t.port, ""), line(1, nobody, "")), "-v",
	    "-L", kit_str("0:127.0.0.1:%u", t.port), NONE);
	awaits(1, 1);
	pair = by(0, &t);
	kit_puts(pair.t, "7 bytes");
	kit_expect(pair.c, "7 bytes");
	TOTAL(0, t.port, "1 open, 1 tunnels, "
	    "0 refused, 0 bytes up, 7 bytes down");
	kit_farewell(pair);
	kit_err_wait(p, kit_str(" - 127.0.0.1:%u 200 13 20 0.", t.port));
	kit_expect_reset(reach(1));
	kit_err_wait(p, kit_str("httptun: 127.0.0.1:%u: Connection refused\n",
	    nobody));
	kit_err_wait(p, kit_str(" - 127.0.0.1:%u 502 0 0 0.", nobody));
	totals_say(kit_str("%u to 127.0.0.1 %u: 0 open, 0 tunnels, 0 refused, "
	    "0 bytes up, 0 bytes down", kit_listening(p, 0), t.port));
	TOTAL(0, t.port, "0 open, 1 tunnels, "
	    "0 refused, 13 bytes up, 20 bytes down");
	TOTAL(1, nobody, "0 open, 0 tunnels, "
	    "1 refused, 0 bytes up, 0 bytes down");
	totals_say("totals: 0 open, 1 tunnels, 1 refused, 13 bytes up, "
	    "20 bytes down, 1 workers");
}


/* Many. */

/* The ports take the places of tunnels; who is more waits in silence. */
static void
test_full(void **state)
{
	struct peer t = peer();
	struct kit_pair pair[9];
	const char *text = "", *limited = "ulimit -n 64; exec \"$@\"";
	unsigned i;
	int c;

	(void)state;
	for (i = 0; i < 36; i++)
		text = both(text, line(0 + i, t.port, ""));
	write_file(both(text, line(36, t.port, "")));
	p = kit_start(NULL, "sh", "-c", limited, "sh", kit_binary(), "-f",
	    path, NONE);
	kit_exits(p, 2);
	kit_err_is(p, kit_str("httptun: %s:37: too many ports for one "
	    "process\n", path));
	kit_done(p);
	for (text = "", i = 0; i < 30; i++)
		text = both(text, line(0 + i, t.port, ""));
	write_file(text);
	p = kit_start(NULL, "sh", "-c", limited, "sh", kit_binary(), "-f",
	    path, NONE);
	awaits(29, 1);
	for (i = 0; i < KIT_COUNT(pair); i++)
		pair[i] = by(0 + i, &t);
	c = reach(10);
	kit_puts(c, "and me");
	kit_idle(p);
	kit_untouched(t.lfd);
	/* even now the file can be read, and a port that goes makes room */
	reload(both(text, line(30, t.port, "")));
	awaits(30, 1);
	reload(text);
	kit_farewell(pair[0]);
	kit_expect(kit_accept(t.lfd), "and me");
	for (i = 1; i < KIT_COUNT(pair); i++)
		kit_farewell(pair[i]);
	assert_int_equal(kit_said(p, "\n"), 31);
}

/* Lines come and go, and leave nothing. */
static void
test_memory(void **state)
{
	struct peer t = peer();
	const char *text[2] = { "", "" };
	unsigned i;
	long first = 0;
	int k, fds = 0;

	(void)state;
	for (i = 0; i < 100; i++) {
		text[0] = both(text[0], line(0 + i, t.port, kit_str(
		    "-x http://joe:x%u@p%u -x ws://q/a/b -c any -c !any", i,
		    i)));
		text[1] = both(text[1], line(50 + i, t.port, "# x"));
	}
	START(text[0], NONE);
	awaits(99, 1);
	for (k = 1; k < 60; k++) {
		reload(text[k % 2]);
		awaits(149, k % 2);
		if (k == 10) {
			kit_idle(p);
			first = kit_status(p->pid, "VmRSS");
			fds = kit_fds(p->pid);
		}
	}
	kit_idle(p);
	assert_int_equal(kit_fds(p->pid), fds);
	if (!kit_sanitized())
		assert_in_range(kit_status(p->pid, "VmRSS"), 0, first + 200);
}

#define LINES		200
#define TRANSFERS	20
#define SLICE		32768
#define REWRITES	50

static uint32_t dice = 1;

static unsigned
chance(unsigned n)
{
	dice = dice * 1664525 + 1013904223;
	return (dice >> 8) % n;
}

/* A file of those lines that luck leaves in it, in an order of its own, with
 * whatever way; what of its ports listens is noted. */
static const char *
any_lines(const struct peer *t, struct ports *all)
{
	static const char *const ways[] = {
		"", "", "-x direct", "-c any", "-c 127.0.0.0/8", "# as it is"
	};
	static char text[LINES * 128];
	unsigned first = chance(LINES), i, k;
	size_t n = 0;

	all->n = 0;
	for (i = 0; i < LINES; i++) {
		k = (first + i) % LINES;
		if (chance(8) == 0)
			continue;
		n += (size_t)snprintf(text + n, sizeof(text) - n,
		    "%s\t%s %u %s\r\n", at(k), chance(2) == 0 ?
		    "127.0.0.1" : "127.1", t->port,
		    ways[chance(KIT_COUNT(ways))]);
		all->port[all->n++] = k;
	}
	return text;
}

static int
by_port(const void *a, const void *b)
{
	const unsigned *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* These and no others listen, in the end. */
static void
ports_are(struct ports *want)
{
	int64_t end = kit_now() + kit_patience();
	struct ports all;

	qsort(want->port, (size_t)want->n, sizeof(want->port[0]), by_port);
	for (;;) {
		ports_now(&all);
		qsort(all.port, (size_t)all.n, sizeof(all.port[0]), by_port);
		if (all.n == want->n && memcmp(all.port, want->port,
		    (size_t)all.n * sizeof(all.port[0])) == 0)
			return;
		if (kit_now() > end)
			kit_fail("%d ports listen, not %d", all.n, want->n);
		(void)kit_err(p);
		(void)poll(NULL, 0, 2);
	}
}

/* Writes the text in one of an editor's ways. */
static void
edit(const char *text, unsigned way)
{
	switch (way % 4) {
	case 0:
		write_file(text);
		break;
	case 1:
		move_file(text);
		break;
	case 2:
		write_file("");
		write_file(text);
		break;
	default:
		(void)rename(path, kit_path("forwards~"));
		write_file(text);
		break;
	}
}

static void
rewrites(void)
{
	static struct kit_stream s[4 * TRANSFERS];
	struct kit_pair pair;
	struct peer t = peer();
	struct ports want;
	const char *text;
	unsigned k;
	size_t n;
	int i, bad = 0;

	for (text = "", k = 0; k < LINES; k++) {
		want.port[k] = k;
		text = both(text, line(k, t.port, ""));
	}
	want.n = LINES;
	START(text, NONE);
	ports_are(&want);
	for (k = 0; k < TRANSFERS; k++) {
		pair = by(k * (LINES / TRANSFERS), &t);
		s[4 * k] = (struct kit_stream){ pair.c, KIT_OUT, 0, k, 0, 0 };
		s[4 * k + 1] = (struct kit_stream){ pair.t, KIT_IN, 0, k, 0,
		    0 };
		s[4 * k + 2] = (struct kit_stream){ pair.t, KIT_OUT, 0,
		    k + 99, 0, 0 };
		s[4 * k + 3] = (struct kit_stream){ pair.c, KIT_IN, 0, k + 99,
		    0, 0 };
	}
	for (i = 0; i < REWRITES; i++) {
		if (i % 5 == 4) {
			edit(kit_str("%swrong%d h 22\n", any_lines(&t,
			    &(struct ports){ 0 }), i), chance(4));
			bad++;
		} else
			edit(any_lines(&t, &want), chance(4));
		/* by itself now and then */
		if (i % 25 != 0)
			kit_signal(p->pid, SIGHUP);
		for (n = 0; n < KIT_COUNT(s); n++)
			s[n].bytes += SLICE;
		kit_pump(s, KIT_COUNT(s));
		ports_are(&want);
		if (i % 5 == 4) {
			kit_err_wait(p, kit_str(": bad port 'wrong%d'\n", i));
			ports_are(&want);
		}
		kit_farewell(by(want.port[chance((unsigned)want.n)], &t));
	}
	for (n = 0; n < KIT_COUNT(s); n++) {
		s[n].bytes += SLICE;
		s[n].end = 1;
	}
	kit_pump(s, KIT_COUNT(s));
	assert_int_equal(kit_said(p, "\n") - kit_said(p, "listening on"), bad);
	kit_done(p);
	for (n = 0; n < KIT_COUNT(s); n += 4) {
		(void)close(s[n].fd);
		(void)close(s[n + 1].fd);
	}
}

/* 200 forwards, rewritten in all ways under 20 transfers: none of these is
 * disturbed, and what listens is what the last good file says. */
static void
test_rewrites(void **state)
{
	int rounds = getenv("HTTPTUN_LONG") != NULL ? 10 : 1;

	(void)state;
	while (rounds-- > 0)
		rewrites();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ways),
		TEST(test_carrier),
		TEST(test_hops),
		TEST(test_syntax),
		TEST(test_loopback),
		TEST(test_faults),
		TEST(test_nul),
		TEST(test_bounds),
		TEST(test_no_file),
		TEST(test_command_line),
		TEST(test_bad_environment),
		TEST(test_stdin),
		TEST(test_fifo),
		TEST(test_environment),
		TEST(test_changes),
		TEST(test_hup),
		TEST(test_half_written),
		TEST(test_keeps_socket),
		TEST(test_queue),
		TEST(test_port_zero),
		TEST(test_address_by_address),
		TEST(test_faulty_changes),
		TEST(test_removed),
		TEST(test_in_use),
		TEST(test_with_L),
		TEST(test_tunnels_live),
		TEST(test_totals_stay),
		TEST(test_sessions_live),
		TEST(test_rules),
		TEST(test_open),
		TEST(test_credentials),
		TEST(test_log),
		TEST(test_full),
		TEST(test_memory),
		TEST(test_rewrites),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
