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
 * net.c from inside: addresses, deadlines with a clock set by hand, and ends
 * whose other sides are this program's too.  A turn of the loop is taken when
 * what it has to see is there already, so nothing waits; where the kernel has
 * to carry something first, PATIENCE bounds it.
 */

#include "../net.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define COUNT(a)	(sizeof(a) / sizeof((a)[0]))
#define PATIENCE	10000			/* ms */

static void
ok(int condition, const char *what)
{
	if (!condition)
		fail_msg("%s: %s", what, strerror(errno));
}

/* ---- the loop, turn by turn -------------------------------------------- */

/* One turn; what is due by the clock is left to who sets the clock. */
static int
turn(int ms)
{
	struct timeval tv;
	int n;

	loop_interest(1);
	tv.tv_sec = ms / 1000;
	tv.tv_usec = ms % 1000 * 1000;
	n = select(slots_top, &readable, &writable, NULL, &tv);
	if (n > 0)
		loop_dispatch(n, 1);
	loop_sweep();
	return n;
}

/* Turns, until there is nothing more to do just now. */
static void
settle(void)
{
	int i;

	for (i = 0; turn(0) > 0; i++)
		if (i == 100000)
			fail_msg("%d turns, and no end", i);
}

/* Turns with the real clock until the count is reached. */
static void
until(const int *count, int want, const char *what)
{
	int64_t end;

	time_update();
	for (end = now + PATIENCE; *count < want; time_update()) {
		if (now > end)
			fail_msg("%s: %d, not %d", what, *count, want);
		timers_run();
		loop_sweep();
		if (*count < want)
			turn(timers.next != &timers ? 10 : 100);
	}
	assert_int_equal(*count, want);
}

/* Every test begins and ends with an empty loop and no descriptor more. */
static int
open_fds(void)
{
	int fd, n = 0;

	for (fd = 0; fd < 2 * FD_SETSIZE; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

static int fds_before;

static int
loop_empty(void **state)
{
	(void)state;
	memset(slots, 0, sizeof(slots));
	memset(&reach, 0, sizeof(reach));
	slots_top = 0;
	timers.next = timers.prev = &timers;
	graves = NULL;
	stopped = 0;
	now = -1;
	fds_before = open_fds();
	return 0;
}

static int
loop_left(void **state)
{
	int bad = 0;

	(void)state;
	if (slots_top != 0)
		print_error("descriptor %d is still watched\n", slots_top - 1);
	if (timers.next != &timers)
		print_error("a deadline is left\n");
	if (graves != NULL)
		print_error("a grave is left\n");
	if (open_fds() != fds_before)
		print_error("%d descriptors, and %d before\n", open_fds(),
		    fds_before);
	bad = slots_top != 0 || timers.next != &timers || graves != NULL ||
	    open_fds() != fds_before;
	return bad ? -1 : 0;
}

#define TEST(f)	cmocka_unit_test_setup_teardown(f, loop_empty, loop_left)

static unsigned
want_all(void *arg, int fd)
{
	(void)fd;
	return *(unsigned *)arg;
}

static int readies[FD_SETSIZE];
static int on_ready_forget, on_ready_watch;
static unsigned all = WANT_READ | WANT_WRITE;

static void
ready_count(void *arg, int fd, unsigned what)
{
	(void)arg;
	(void)what;
	readies[fd]++;
}

static const struct watcher counter = { want_all, ready_count, 0 };

static void
ready_forget(void *arg, int fd, unsigned what)
{
	ready_count(arg, fd, what);
	loop_forget(on_ready_forget);
	if (on_ready_watch)
		assert_int_equal(loop_watch(on_ready_forget, &counter, arg),
		    0);
}

static void
test_loop_watch(void **state)
{
	static const struct watcher w = { want_all, ready_count, 0 };

	(void)state;
	errno = 0;
	assert_int_equal(loop_watch(FD_SETSIZE, &w, &all), -1);
	assert_int_equal(errno, EMFILE);
	assert_int_equal(loop_watch(FD_SETSIZE + 7, &w, &all), -1);
	assert_int_equal(loop_watch(INT_MAX, &w, &all), -1);
	assert_int_equal(slots_top, 0);
	assert_int_equal(loop_watch(FD_SETSIZE - 1, &w, &all), 0);
	assert_int_equal(slots_top, FD_SETSIZE);
	assert_int_equal(loop_watch(3, &w, &all), 0);
	loop_forget(-1);
	loop_forget(FD_SETSIZE);
	loop_forget(INT_MAX);
	loop_forget(5);
	assert_int_equal(slots_top, FD_SETSIZE);
	loop_forget(FD_SETSIZE - 1);
	assert_int_equal(slots_top, 4);
	loop_forget(3);
	loop_forget(3);
	assert_int_equal(slots_top, 0);
}

static void
test_loop_interest(void **state)
{
	unsigned none = 0, r = WANT_READ, w = WANT_WRITE;
	static const struct watcher watcher = { want_all, ready_count, 0 };

	(void)state;
	loop_watch(10, &watcher, &none);
	loop_watch(11, &watcher, &r);
	loop_watch(12, &watcher, &w);
	loop_watch(FD_SETSIZE - 1, &watcher, &all);
	loop_interest(1);
	assert_int_equal(set_has(10, &readable) + set_has(10, &writable), 0);
	assert_true(set_has(11, &readable) && !set_has(11, &writable));
	assert_true(!set_has(12, &readable) && set_has(12, &writable));
	assert_true(set_has(FD_SETSIZE - 1, &readable));
	assert_true(set_has(FD_SETSIZE - 1, &writable));
	/* Nothing is remembered. */
	r = 0;
	loop_forget(12);
	loop_interest(1);
	assert_int_equal(set_has(11, &readable) + set_has(12, &writable), 0);
	loop_forget(10);
	loop_forget(11);
	loop_forget(FD_SETSIZE - 1);
}

/* Two ready ones, the first of which ends the second. */
static void
dispatch_forgets(int again)
{
	static const struct watcher forgets = { want_all, ready_forget, 0 };
	int sv[2];

	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0, "socketpair");
	assert_true(sv[0] < sv[1]);
	memset(readies, 0, sizeof(readies));
	on_ready_forget = sv[1];
	on_ready_watch = again;
	loop_watch(sv[0], &forgets, &all);
	loop_watch(sv[1], &counter, &all);
	assert_int_equal(turn(0), 2);
	assert_int_equal(readies[sv[0]], 1);
	assert_int_equal(readies[sv[1]], 0);
	fd_close(sv[0]);
	fd_close(sv[1]);
}

static void
test_loop_dispatch(void **state)
{
	(void)state;
	dispatch_forgets(0);
	/* A descriptor that got a new owner was not found ready for it. */
	dispatch_forgets(1);
}

static char	order[32];

static void
note(void *arg)
{
	strcat(order, arg);
}

static struct grave late;

static void
bury_more(void *arg)
{
	note(arg);
	loop_bury(&late, note, "c");
}

static void
test_loop_bury(void **state)
{
	struct grave a, b;

	(void)state;
	order[0] = '\0';
	loop_bury(&a, note, "a");
	loop_bury(&b, bury_more, "b");
	assert_string_equal(order, "");
	turn(0);
	assert_int_equal(strlen(order), 3);
	assert_non_null(strchr(order, 'a'));
	assert_non_null(strchr(order, 'b'));
	assert_int_equal(order[2] == 'c' || order[1] == 'c', 1);
	turn(0);
	assert_int_equal(strlen(order), 3);
}

static void
stop(void *arg)
{
	note(arg);
	loop_stop();
}

static void
test_loop_run(void **state)
{
	struct timer a, b;
	struct grave g;

	(void)state;
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	order[0] = '\0';
	timer_set(&a, 5, stop, "2");
	timer_set(&b, 0, note, "1");
	loop_bury(&g, note, "g");
	loop_run();
	assert_string_equal(order, "1g2");
}

static void
test_loop_limit(void **state)
{
	struct rlimit rl;
	rlim_t hard;
	int limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	hard = rl.rlim_max;
	/* As much as may be, however little it is at first. */
	rl.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
	limit = loop_limit();
	assert_int_equal(limit, hard < FD_SETSIZE ? hard : FD_SETSIZE);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	assert_true(rl.rlim_cur >= (rlim_t)limit);
	assert_int_equal(rl.rlim_max, hard);
	rl.rlim_cur = hard;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
	assert_int_equal(loop_limit(), limit);
}

/* ---- deadlines --------------------------------------------------------- */

static struct timer timer[6];

static void
timers_at(int64_t at, const char *want)
{
	order[0] = '\0';
	now = at;
	timers_run();
	if (strcmp(order, want) != 0)
		fail_msg("at %lld: '%s', not '%s'", (long long)at, order,
		    want);
}

static void
test_timers(void **state)
{
	(void)state;
	memset(timer, 0, sizeof(timer));
	now = 1000;
	timer_set(&timer[0], 50, note, "a");
	timer_set(&timer[1], 20, note, "b");
	timer_set(&timer[2], 70, note, "c");
	timer_set(&timer[3], 20, note, "d");	/* behind its equal */
	timer_set(&timer[4], 0, note, "e");
	timer_set(&timer[5], 60, note, "f");
	timers_at(1000, "e");
	timers_at(1019, "");
	timers_at(1020, "bd");
	timer_stop(&timer[0]);
	timer_stop(&timer[0]);
	timer_set(&timer[2], 15, note, "c");	/* sooner: 1035 */
	timer_set(&timer[5], 100, note, "f");	/* later: 1120 */
	timers_at(1034, "");
	timers_at(1119, "c");
	timer_set(&timer[1], 1, note, "B");
	timers_at(2000, "fB");
	timers_at(9999, "");
	timer_stop(&timer[1]);
}

static void
again(void *arg)
{
	note(arg);
	timer_set(&timer[0], 10, again, arg);
}

static void
stop_next(void *arg)
{
	note(arg);
	timer_stop(&timer[2]);
}

/* What a deadline's own function does to the list. */
static void
test_timers_within(void **state)
{
	(void)state;
	memset(timer, 0, sizeof(timer));
	now = 0;
	timer_set(&timer[0], 10, again, "a");
	timer_set(&timer[1], 10, stop_next, "b");
	timer_set(&timer[2], 10, note, "c");
	timer_set(&timer[3], 10, note, "d");
	timers_at(10, "abd");
	timers_at(19, "");
	timers_at(20, "a");
	timer_stop(&timer[0]);
	timers_at(100, "");
}

static void
test_time_stamp(void **state)
{
	char s[24], *p;

	(void)state;
	memset(s, 'x', sizeof(s));
	time_stamp(s);
	assert_int_equal(strlen(s), 20);
	for (p = s; *p != '\0'; p++)
		if (strchr("0123456789", *p) != NULL)
			*p = '0';
	assert_string_equal(s, "0000-00-00T00:00:00Z");
}

/* ---- addresses --------------------------------------------------------- */

static union addr
addr(const char *s)
{
	union addr a;

	memset(&a, 0xff, sizeof(a));
	if (addr_literal(&a, s, 0) == -1)
		fail_msg("'%s' is no address", s);
	return a;
}

static void
test_addr_literal(void **state)
{
	static const struct { const char *s, *want; } rows[] = {
		{ "127.0.0.1", "127.0.0.1" },
		{ "127.1", "127.0.0.1" },
		{ "2130706433", "127.0.0.1" },
		{ "0x7f.1", "127.0.0.1" },
		{ "0x7f000001", "127.0.0.1" },
		{ "0177.0.0.01", "127.0.0.1" },
		{ "127.0.1", "127.0.0.1" },
		{ "10.1", "10.0.0.1" },
		{ "0", "0.0.0.0" },
		{ "0.0.0.0", "0.0.0.0" },
		{ "255.255.255.255", "255.255.255.255" },
		{ "::", "::" },
		{ "::1", "::1" },
		{ "0:0:0:0:0:0:0:1", "::1" },
		{ "2001:DB8::A", "2001:db8::a" },
		{ "::ffff:127.0.0.1", "::ffff:127.0.0.1" },
		{ "::ffff:7f00:1", "::ffff:127.0.0.1" },
		{ "", NULL }, { " 127.0.0.1", NULL }, { "127.0.0.1 ", NULL },
		{ "256.0.0.1", NULL }, { "1.2.3.4.5", NULL },
		{ "4294967296", NULL }, { "1.2.3.x", NULL },
		{ "127.0.0.1:80", NULL }, { "127.0.0.0/8", NULL },
		{ "localhost", NULL }, { "host.example", NULL },
		{ "*", NULL }, { "[::1]", NULL }, { "::1::", NULL },
		{ ":::", NULL }, { "12345::", NULL }, { "::g", NULL },
		{ "1:2:3:4:5:6:7:8:9", NULL }, { "::/0", NULL },
	};
	char text[ADDR_TEXT];
	union addr a;
	size_t i;
	int r;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		memset(&a, 0xff, sizeof(a));
		r = addr_literal(&a, rows[i].s, 54321);
		if (r != (rows[i].want != NULL ? 0 : -1))
			fail_msg("'%s': %d", rows[i].s, r);
		if (r == -1)
			continue;
		if (strcmp(addr_text(text, &a), rows[i].want) != 0)
			fail_msg("'%s': %s", rows[i].s, text);
		assert_int_equal(addr_port(&a), 54321);
		assert_int_equal(addr_len(&a), strchr(rows[i].want, ':') ?
		    sizeof(a.in6) : sizeof(a.in));
	}
}

static void
test_addr_text(void **state)
{
	char text[ADDR_PORT_TEXT];
	union addr a;

	(void)state;
	a = addr("127.0.0.1");
	assert_string_equal(addr_text_port(text, &a), "127.0.0.1:0");
	addr_set_port(&a, 65535);
	assert_int_equal(addr_port(&a), 65535);
	assert_string_equal(addr_text_port(text, &a), "127.0.0.1:65535");
	a = addr("::1");
	addr_set_port(&a, 80);
	assert_int_equal(addr_port(&a), 80);
	assert_string_equal(addr_text(text, &a), "::1");
	assert_string_equal(addr_text_port(text, &a), "[::1]:80");
	a = addr("1111:2222:3333:4444:5555:6666:255.255.255.255");
	addr_set_port(&a, 65535);
	assert_true(strlen(addr_text_port(text, &a)) < sizeof(text));
	memset(&a, 0, sizeof(a));
	assert_string_equal(addr_text(text, &a), "-");
	assert_string_equal(addr_text_port(text, &a), "-");
}

static void
test_addr_scope(void **state)
{
	char name[IF_NAMESIZE], literal[64], text[ADDR_PORT_TEXT];
	union addr a;

	(void)state;
	if (if_indextoname(1, name) == NULL) {
		print_message("no interface here\n");
		skip();
	}
	snprintf(literal, sizeof(literal), "fe80::1%%%s", name);
	a = addr(literal);
	assert_int_equal(a.in6.sin6_scope_id, 1);
	assert_string_equal(addr_text(text, &a), literal);
	/* One that is gone leaves its mark out. */
	a.in6.sin6_scope_id = 0x7ffffff0;
	assert_string_equal(addr_text(text, &a), "fe80::1");
}

static void
test_addr_unmap(void **state)
{
	static const struct { const char *s, *want; } rows[] = {
		{ "::ffff:127.0.0.1", "127.0.0.1:99" },
		{ "::ffff:0.0.0.0", "0.0.0.0:99" },
		{ "::ffff:255.1.2.3", "255.1.2.3:99" },
		{ "127.0.0.1", "127.0.0.1:99" },
		{ "::1", "[::1]:99" }, { "::", "[::]:99" },
		{ "::fffe:7f00:1", "[::fffe:7f00:1]:99" },
		{ "64:ff9b::7f00:1", "[64:ff9b::7f00:1]:99" },
		{ "1::ffff:7f00:1", "[1::ffff:7f00:1]:99" },
	};
	char text[ADDR_PORT_TEXT];
	union addr a;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		a = addr(rows[i].s);
		addr_set_port(&a, 99);
		addr_unmap(&a);
		assert_string_equal(addr_text_port(text, &a), rows[i].want);
		assert_int_equal(a.sa.sa_family, rows[i].want[0] == '[' ?
		    AF_INET6 : AF_INET);
	}
	/* ::127.0.0.1 is no such address. */
	a = addr("::127.0.0.1");
	addr_unmap(&a);
	assert_int_equal(a.sa.sa_family, AF_INET6);
}

static void
test_addr_within(void **state)
{
	static const struct {
		const char *a, *net; unsigned bits; int want;
	} rows[] = {
		{ "10.1.2.3", "10.1.2.3", 32, 1 },
		{ "10.1.2.3", "10.1.2.2", 32, 0 },
		{ "10.1.2.3", "10.1.2.2", 31, 1 },
		{ "10.1.2.4", "10.1.2.3", 31, 0 },
		{ "10.1.2.3", "10.0.0.0", 8, 1 },
		{ "11.0.0.0", "10.0.0.0", 8, 0 },
		{ "11.0.0.0", "10.0.0.0", 7, 1 },
		{ "10.1.2.3", "10.99.99.99", 8, 1 },
		{ "172.31.0.1", "172.16.0.0", 12, 1 },
		{ "172.32.0.1", "172.16.0.0", 12, 0 },
		{ "127.255.0.1", "128.0.0.0", 1, 0 },
		{ "129.0.0.1", "128.0.0.0", 1, 1 },
		{ "1.2.3.4", "255.255.255.255", 0, 1 },
		{ "1.2.3.4", "1.2.3.4", 128, 1 },	/* more than all */
		{ "1.2.3.4", "1.2.3.5", 128, 0 },
		{ "::1", "::1", 128, 1 }, { "::1", "::", 128, 0 },
		{ "::1", "::", 127, 1 }, { "::1", "1::", 0, 1 },
		{ "fe80::1", "fe80::", 10, 1 }, { "febf::1", "fe80::", 10, 1 },
		{ "fec0::1", "fe80::", 10, 0 },
		{ "2001:db8:0:1::", "2001:db8::", 64, 0 },
		{ "2001:db8:0:1::", "2001:db8::", 63, 1 },
		{ "2001:db8::1", "2001:db8::2", 200, 0 },
		/* never across families */
		{ "0.0.0.0", "::", 0, 0 }, { "::", "0.0.0.0", 0, 0 },
		{ "::ffff:1.2.3.4", "1.2.3.4", 32, 0 },
	};
	union addr a, net;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		a = addr(rows[i].a);
		net = addr(rows[i].net);
		if (addr_within(&a, &net, rows[i].bits) != rows[i].want)
			fail_msg("%s in %s/%u", rows[i].a, rows[i].net,
			    rows[i].bits);
		/* It is the same the other way round, whatever the ports. */
		addr_set_port(&a, 1);
		if (addr_within(&net, &a, rows[i].bits) != rows[i].want)
			fail_msg("%s in %s/%u", rows[i].net, rows[i].a,
			    rows[i].bits);
		assert_int_equal(addr_same_host(&a, &net),
		    strcmp(rows[i].a, rows[i].net) == 0);
	}
}

static void
test_addr_kinds(void **state)
{
	static const struct {
		const char *s; int loopback, any, link_local;
	} rows[] = {
		{ "127.0.0.1", 1, 0, 0 }, { "127.255.255.255", 1, 0, 0 },
		{ "126.255.255.255", 0, 0, 0 }, { "128.0.0.1", 0, 0, 0 },
		{ "0.0.0.0", 0, 1, 0 }, { "0.0.0.1", 0, 0, 0 },
		{ "1.0.0.127", 0, 0, 0 }, { "169.254.0.0", 0, 0, 1 },
		{ "169.254.255.255", 0, 0, 1 }, { "169.253.1.1", 0, 0, 0 },
		{ "169.255.1.1", 0, 0, 0 }, { "254.169.1.1", 0, 0, 0 },
		{ "::1", 1, 0, 0 }, { "::", 0, 1, 0 }, { "::2", 0, 0, 0 },
		{ "1::1", 0, 0, 0 }, { "fe80::1", 0, 0, 1 },
		{ "febf::1", 0, 0, 1 }, { "fec0::1", 0, 0, 0 },
		{ "fe7f::1", 0, 0, 0 }, { "10.0.0.1", 0, 0, 0 },
	};
	union addr a;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		a = addr(rows[i].s);
		addr_set_port(&a, 80);
		if (!addr_loopback(&a) != !rows[i].loopback ||
		    !addr_any(&a) != !rows[i].any ||
		    !addr_link_local(&a) != !rows[i].link_local)
			fail_msg("%s: %d %d %d", rows[i].s, addr_loopback(&a),
			    addr_any(&a), addr_link_local(&a));
	}
}

/* ---- descriptors ------------------------------------------------------- */

static void
nonblocking(int fd)
{
	ok(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0, "fcntl");
}

static void
pair(int *sv, int type)
{
	ok(socketpair(AF_UNIX, type, 0, sv) == 0, "socketpair");
	nonblocking(sv[0]);
	nonblocking(sv[1]);
}

/* A listening socket of this test's own at 127.0.0.1. */
static int
listening(union addr *a, int backlog)
{
	socklen_t len = sizeof(*a);
	int fd;

	*a = addr("127.0.0.1");
	ok((fd = socket(AF_INET, SOCK_STREAM, 0)) != -1, "socket");
	ok(bind(fd, &a->sa, addr_len(a)) == 0, "bind");
	if (backlog >= 0)
		ok(listen(fd, backlog) == 0, "listen");
	ok(getsockname(fd, &a->sa, &len) == 0, "getsockname");
	return fd;
}

static void
tcp_pair(int *sv)
{
	union addr a;
	int fd = listening(&a, 1);

	ok((sv[0] = socket(AF_INET, SOCK_STREAM, 0)) != -1, "socket");
	ok(connect(sv[0], &a.sa, addr_len(&a)) == 0, "connect");
	ok((sv[1] = accept(fd, NULL, NULL)) != -1, "accept");
	close(fd);
	nonblocking(sv[0]);
	nonblocking(sv[1]);
}

static void
test_fd_pass(void **state)
{
	struct stat a, b;
	char c = 'x', text[4];
	int sv[2], p[2], fd;

	(void)state;
	pair(sv, SOCK_STREAM);
	ok(pipe(p) == 0, "pipe");
	assert_int_equal(fd_pass(sv[0], p[1]), 0);
	/* One byte: OpenSSH waits for exactly that (monitor_fdpass.c). */
	assert_int_equal(fd_recv(sv[1], &fd, &c, 1), 1);
	assert_int_not_equal(fd, -1);
	assert_int_not_equal(fd, p[1]);
	ok(fstat(fd, &a) == 0 && fstat(p[1], &b) == 0, "fstat");
	assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	assert_int_equal(write(fd, "abc", 3), 3);
	assert_int_equal(read(p[0], text, sizeof(text)), 3);
	assert_int_equal(recv(sv[1], &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	close(fd);
	assert_int_equal(fd_pass(p[1], sv[0]), -1);
	assert_int_equal(errno, ENOTSOCK);
	close(sv[1]);
	assert_int_equal(fd_pass(sv[0], p[1]), -1);
	close(sv[0]);
	close(p[0]);
	close(p[1]);
	errno = 0;
	assert_int_equal(fd_pass(-1, 0), -1);
	assert_int_equal(errno, EBADF);
}

static void
test_fd_recv_none(void **state)
{
	int sv[2], fd = 99;
	char c;

	(void)state;
	pair(sv, SOCK_STREAM);
	assert_int_equal(send(sv[0], "x", 1, 0), 1);
	assert_int_equal(fd_recv(sv[1], &fd, &c, 1), 1);
	assert_int_equal(fd, -1);
	close(sv[0]);
	close(sv[1]);
}

static void
test_fd_is_socket(void **state)
{
	int sv[2], p[2];

	(void)state;
	pair(sv, SOCK_STREAM);
	ok(pipe(p) == 0, "pipe");
	assert_int_equal(fd_is_socket(sv[0]), 1);
	assert_int_equal(fd_is_socket(p[0]), 0);
	close(sv[0]);
	assert_int_equal(fd_is_socket(sv[0]), 0);
	assert_int_equal(fd_is_socket(-1), 0);
	close(sv[1]);
	close(p[0]);
	close(p[1]);
}

/* A child that ends with what a function returns. */
static int
in_child(int (*fn)(void))
{
	int code;
	pid_t pid;

	fflush(NULL);
	ok((pid = fork()) != -1, "fork");
	if (pid == 0)
		_exit(fn());
	ok(waitpid(pid, &code, 0) == pid, "waitpid");
	return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

static int
child_sane(void)
{
	struct sigaction sa;
	struct stat null, st;
	int fd;

	if (stat("/dev/null", &null) == -1)
		return 10;
	close(0);
	close(1);
	close(2);
	fd_sane();
	for (fd = 0; fd <= 2; fd++)
		if (fstat(fd, &st) == -1 || st.st_rdev != null.st_rdev)
			return 20 + fd;
	sigaction(SIGPIPE, NULL, &sa);
	return sa.sa_handler == SIG_IGN ? 0 : 30;
}

static int
child_no_terminal(void)
{
	char line[16];

	(void)setsid();
	errno = 0;
	return tty_password("Password: ", line, sizeof(line)) == -1 ?
	    errno != ENXIO : 10;
}

static void
test_fd_sane(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_sane), 0);
	/* What is open is left alone. */
	assert_int_not_equal(fcntl(0, F_GETFD), -1);
}

static void
test_tty_none(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_no_terminal), 0);
}

/* ---- ends -------------------------------------------------------------- */

/* An end, the other side of its connection, and what it told. */
struct side {
	struct end	 e;
	int		 fd;
	int		 input, sent, done, broken;
};

static struct side near, far;

static void
on_input(void *owner, struct end *e)
{
	struct side *s = owner;

	assert_ptr_equal(e, &s->e);
	s->input++;
}

static void
on_sent(void *owner, struct end *e)
{
	struct side *s = owner;

	assert_ptr_equal(e, &s->e);
	s->sent++;
}

static void
on_done(void *owner, struct end *e)
{
	struct side *s = owner;

	assert_ptr_equal(e, &s->e);
	s->done++;
}

static void
on_broken(void *owner, struct end *e)
{
	struct side *s = owner;

	assert_ptr_equal(e, &s->e);
	s->broken++;
	end_close(e);		/* as every owner does */
}

static const struct steps steps = {
	.input = on_input, .sent = on_sent, .done = on_done,
	.broken = on_broken
};

static void
side_on(struct side *s, const int *sv)
{
	memset(s, 0, sizeof(*s));
	memset(&s->e, 0xff, sizeof(s->e));	/* nothing is left unset */
	s->fd = sv[1];
	end_socket(&s->e, sv[0], &steps, s);
}

static void
side_open(struct side *s)
{
	int sv[2];

	pair(sv, SOCK_STREAM);
	side_on(s, sv);
}

static void
side_close(struct side *s)
{
	end_close(&s->e);
	if (s->fd != -1)
		close(s->fd);
}

static void
sides_open(void)
{
	side_open(&near);
	side_open(&far);
	end_link(&near.e, &far.e);
}

static void
sides_close(void)
{
	side_close(&near);
	side_close(&far);
}

static void
put(int fd, const char *s)
{
	ok(write(fd, s, strlen(s)) == (ssize_t)strlen(s), "write");
}

/* Exactly these bytes are there now, and no end. */
static void
get(int fd, const char *want)
{
	char text[256];
	ssize_t n = read(fd, text, sizeof(text) - 1);

	if (n == 0)
		fail_msg("an end, and not '%s'", want);
	if (n == -1 && (errno != EAGAIN || *want != '\0'))
		fail_msg("not '%s': %s", want, strerror(errno));
	text[n == -1 ? 0 : n] = '\0';
	if (strcmp(text, want) != 0)
		fail_msg("'%s', not '%s'", text, want);
}

static void
get_end(int fd)
{
	char c;
	ssize_t n = read(fd, &c, 1);

	if (n != 0)
		fail_msg("no end: %s", n == -1 ? strerror(errno) : "a byte");
}

static void
told(const struct side *s, int input, int done, int broken)
{
	if (s->input != input || s->done != done || s->broken != broken)
		fail_msg("the %s end said input %d times, done %d, broken %d",
		    s == &near ? "near" : "far", s->input, s->done,
		    s->broken);
}

static void
test_flow(void **state)
{
	(void)state;
	now = 4000;
	sides_open();
	assert_int_equal(near.e.active, 4000);
	now = 5000;
	put(near.fd, "up");
	put(far.fd, "down!");
	settle();
	get(far.fd, "up");
	get(near.fd, "down!");
	assert_int_equal(near.e.got, 2);
	assert_int_equal(far.e.got, 5);
	assert_int_equal(near.e.active, 5000);
	now = 6000;
	put(near.fd, "more");
	settle();
	get(far.fd, "more");
	assert_int_equal(near.e.got, 6);
	assert_int_equal(near.e.active, 6000);
	/* An idle tunnel owns no buffer, and the owner heard nothing. */
	assert_null(near.e.in.p);
	assert_null(near.e.out.p);
	assert_null(far.e.in.p);
	assert_null(far.e.out.p);
	told(&near, 0, 0, 0);
	told(&far, 0, 0, 0);
	sides_close();
	assert_int_equal(slots_top, 0);
}

/* What came before the link is the first that the other side gets. */
static void
test_flow_early(void **state)
{
	(void)state;
	side_open(&near);
	side_open(&far);
	put(near.fd, "headbody");
	put(far.fd, "early");
	settle();
	told(&near, 1, 0, 0);
	told(&far, 1, 0, 0);
	assert_int_equal(near.e.in.len, 8);
	buf_take(&near.e.in, 4);
	end_link(&near.e, &far.e);
	get(far.fd, "body");
	get(near.fd, "early");
	assert_int_equal(near.e.got, 4);
	assert_int_equal(far.e.got, 5);
	assert_null(near.e.in.p);
	put(near.fd, "next");
	settle();
	get(far.fd, "next");
	told(&near, 1, 0, 0);
	sides_close();
}

/* An end that came before the link comes behind those bytes. */
static void
test_flow_early_end(void **state)
{
	(void)state;
	side_open(&near);
	side_open(&far);
	put(near.fd, "last");
	shutdown(near.fd, SHUT_WR);
	settle();
	told(&near, 2, 0, 0);
	assert_int_equal(near.e.eof, 1);
	assert_int_equal(near.e.in.len, 4);
	end_link(&near.e, &far.e);
	get(far.fd, "last");
	get_end(far.fd);
	put(far.fd, "answer");
	settle();
	get(near.fd, "answer");
	told(&far, 0, 0, 0);
	shutdown(far.fd, SHUT_WR);
	settle();
	get_end(near.fd);
	assert_int_equal(near.done + far.done, 1);
	sides_close();
}

static void
test_unlinked(void **state)
{
	char block[8192] = { 0 };
	ssize_t n;
	int i;

	(void)state;
	side_open(&near);
	for (i = 0; i < 64 && (n = write(near.fd, block, sizeof(block))) > 0;
	    i++)
		settle();
	/* It takes so much and leaves the rest to the socket. */
	assert_true(i > INPUT_MAX / (int)sizeof(block));
	assert_int_equal(near.e.in.len, INPUT_MAX);
	assert_int_equal(end_hungry(&near.e), 0);
	assert_int_equal(turn(0), 0);
	buf_take(&near.e.in, 100);
	assert_int_equal(end_hungry(&near.e), 1);
	settle();
	assert_int_equal(near.e.in.len, INPUT_MAX);
	buf_take(&near.e.in, INPUT_MAX);
	assert_int_equal(end_hungry(&near.e), 1);
	near.e.deaf = 1;
	assert_int_equal(end_hungry(&near.e), 0);
	assert_int_equal(end_want(&near.e, near.e.rfd), 0);
	side_close(&near);
}

/* What select() said is believed, but no more than it said. */
static void
test_ready(void **state)
{
	(void)state;
	sides_open();
	end_ready(&near.e, near.e.rfd, WANT_READ);	/* nothing is there */
	put(near.fd, "later");
	end_ready(&near.e, near.e.rfd, WANT_WRITE);
	get(far.fd, "");
	end_ready(&near.e, near.e.rfd, WANT_READ | WANT_WRITE);
	get(far.fd, "later");
	told(&near, 0, 0, 0);
	told(&far, 0, 0, 0);
	sides_close();
}

static void
test_end_send(void **state)
{
	(void)state;
	side_open(&near);
	end_send(&near.e, "one", 3);
	get(near.fd, "one");		/* at once, without a turn */
	assert_null(near.e.out.p);
	end_send(&near.e, "two", 3);
	end_finish(&near.e);
	get(near.fd, "two");
	get_end(near.fd);
	assert_int_equal(near.e.finished, 1);
	put(near.fd, "still read");
	settle();
	assert_int_equal(near.e.in.len, 10);
	told(&near, 1, 0, 0);
	side_close(&near);
}

/* ---- ends: a reader that stalls ---------------------------------------- */

static unsigned
pattern(uint64_t i)
{
	return (unsigned)(i * 31 + i / 251) & 0xff;
}

/* As much of the pattern from *at as goes at once; how much that was. */
static size_t
pour(int fd, uint64_t *at)
{
	unsigned char block[3000];
	size_t sum = 0, i;
	ssize_t n;

	do {
		for (i = 0; i < sizeof(block); i++)
			block[i] = (unsigned char)pattern(*at + i);
		if ((n = write(fd, block, sizeof(block))) > 0) {
			*at += (uint64_t)n;
			sum += (size_t)n;
		}
	} while (n > 0);
	ok(errno == EAGAIN, "write");
	return sum;
}

/* Takes a part of what is there; it goes on where it was. */
static void
drain(int fd, uint64_t *at)
{
	unsigned char block[5000];
	ssize_t n, i;

	n = read(fd, block, sizeof(block));
	for (i = 0; i < n; i++, ++*at)
		if (block[i] != pattern(*at))
			fail_msg("byte %llu is wrong",
			    (unsigned long long)*at);
}

/* Sends to this end go in parts, too. */
static void
small_buffer(int fd)
{
	int size = 8192;

	ok(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0,
	    "SO_SNDBUF");
}

/* Pours into near until it is not read from any more. */
static uint64_t
stall(uint64_t *sent)
{
	int i;

	for (i = 0; pour(near.fd, sent) > 0 || end_hungry(&near.e); i++) {
		if (i == 1000)
			fail_msg("%llu bytes, and no stall",
			    (unsigned long long)*sent);
		/* The invariant, before each turn. */
		assert_int_equal(end_hungry(&near.e), far.e.out.len == 0);
		turn(0);
		assert_true(far.e.out.len <= CHUNK);
	}
	return near.e.got;
}

static void
test_stall(void **state)
{
	uint64_t sent = 0, arrived = 0, got;
	int i;

	(void)state;
	sides_open();
	small_buffer(far.e.wfd);
	now = 1000;
	got = stall(&sent);
	assert_true(far.e.out.len > 0);
	assert_int_equal(end_want(&near.e, near.e.rfd), 0);
	assert_int_equal(end_want(&far.e, far.e.wfd),
	    WANT_WRITE | WANT_READ);
	/* Nothing moves, nothing is read, and nobody spins. */
	assert_int_equal(turn(0), 0);
	assert_int_equal(near.e.got, got);
	assert_true(sent > got);
	/* The other direction does not care. */
	put(far.fd, "back");
	settle();
	get(near.fd, "back");
	assert_int_equal(near.e.got, got);
	now = 2000;
	for (i = 0; arrived < sent; i++) {
		if (i == 10000)
			fail_msg("%llu of %llu bytes arrive",
			    (unsigned long long)arrived,
			    (unsigned long long)sent);
		drain(far.fd, &arrived);
		turn(0);
		assert_int_equal(end_hungry(&near.e), far.e.out.len == 0);
	}
	assert_int_equal(near.e.got, sent);
	assert_int_equal(far.e.active, 2000);	/* it took something */
	assert_null(far.e.out.p);
	assert_int_equal(end_hungry(&near.e), 1);
	told(&near, 0, 0, 0);
	sides_close();
}

/* What finds no room at all waits as well. */
static void
test_stall_full(void **state)
{
	char block[4096] = { 0 };
	ssize_t n;
	size_t sum = 0;

	(void)state;
	sides_open();
	while ((n = send(far.e.wfd, block, sizeof(block), 0)) > 0)
		sum += (size_t)n;
	put(near.fd, "behind it");
	settle();
	assert_int_equal(far.e.out.len, 9);
	told(&far, 0, 0, 0);
	for (; sum > 0; sum -= (size_t)n)
		ok((n = read(far.fd, block, sum < sizeof(block) ? sum :
		    sizeof(block))) > 0, "read");
	get(far.fd, "");
	settle();
	get(far.fd, "behind it");
	assert_null(far.e.out.p);
	sides_close();
}

/* An end is told behind the last byte, however long that takes. */
static void
test_stall_end(void **state)
{
	uint64_t sent = 0, arrived = 0;
	int i;

	(void)state;
	sides_open();
	small_buffer(far.e.wfd);
	stall(&sent);
	shutdown(near.fd, SHUT_WR);
	shutdown(far.fd, SHUT_WR);
	settle();
	get_end(near.fd);
	assert_int_equal(far.e.finished, 0);
	for (i = 0; !far.e.finished; i++) {
		if (i == 10000)
			fail_msg("%llu of %llu bytes arrive",
			    (unsigned long long)arrived,
			    (unsigned long long)sent);
		assert_int_equal(near.done + far.done, 0);
		drain(far.fd, &arrived);
		turn(0);
	}
	for (i = 0; i < 100 && arrived < sent; i++)
		drain(far.fd, &arrived);
	assert_int_equal(arrived, sent);
	get_end(far.fd);
	assert_int_equal(near.done + far.done, 1);
	assert_int_equal(near.broken + far.broken, 0);
	sides_close();
}

/* ---- ends: half-close, errors ------------------------------------------ */

static void
half_close(struct side *first, struct side *second)
{
	sides_open();
	put(first->fd, "last words");
	shutdown(first->fd, SHUT_WR);
	settle();
	get(second->fd, "last words");
	get_end(second->fd);
	assert_int_equal(turn(0), 0);	/* an end is no reason to spin */
	assert_int_equal(near.done + far.done, 0);
	put(second->fd, "one");
	settle();
	put(second->fd, "two");
	settle();
	get(first->fd, "onetwo");
	shutdown(second->fd, SHUT_WR);
	assert_int_equal(near.done + far.done, 0);
	settle();
	get_end(first->fd);
	assert_int_equal(near.done + far.done, 1);
	assert_int_equal(near.broken + far.broken, 0);
	sides_close();
}

static void
test_half_close(void **state)
{
	(void)state;
	half_close(&near, &far);
	half_close(&far, &near);
}

static void
test_close_both(void **state)
{
	(void)state;
	sides_open();
	put(near.fd, "a");
	put(far.fd, "b");
	shutdown(near.fd, SHUT_WR);
	shutdown(far.fd, SHUT_WR);
	settle();
	get(far.fd, "a");
	get(near.fd, "b");
	get_end(far.fd);
	get_end(near.fd);
	assert_int_equal(near.done + far.done, 1);
	sides_close();
}

/* A server that answers early and stops reading: its answer arrives. */
static void
test_send_error(void **state)
{
	(void)state;
	sides_open();
	put(far.fd, "answer");
	shutdown(far.fd, SHUT_RD);
	put(near.fd, "a long request");
	settle();
	get(near.fd, "answer");
	told(&far, 0, 0, 0);
	told(&near, 0, 0, 0);
	assert_int_equal(far.e.error, EPIPE);
	assert_int_equal(far.e.lost, 1);
	assert_null(far.e.out.p);
	/* What nobody takes any more is not read. */
	put(near.fd, "and more of it");
	assert_int_equal(turn(0), 0);
	assert_int_equal(near.e.got, 14);
	put(far.fd, ", the rest");
	settle();
	get(near.fd, ", the rest");
	shutdown(far.fd, SHUT_WR);
	settle();
	told(&far, 0, 0, 1);
	assert_int_equal(near.broken + near.done, 0);
	assert_int_equal(far.e.error, EPIPE);
	sides_close();
}

/* The same when it was found while owed bytes were sent, and after its end. */
static void
test_send_error_owed(void **state)
{
	uint64_t sent = 0, arrived = 0;

	(void)state;
	sides_open();
	stall(&sent);
	while (end_want(&far.e, far.e.wfd) & WANT_WRITE &&
	    !fd_writable(far.e.wfd))
		drain(far.fd, &arrived);
	put(far.fd, "answer");
	shutdown(far.fd, SHUT_RD);
	settle();
	get(near.fd, "answer");
	told(&far, 0, 0, 0);
	assert_int_equal(far.e.error, EPIPE);
	assert_null(far.e.out.p);
	shutdown(far.fd, SHUT_WR);
	settle();
	told(&far, 0, 0, 1);
	sides_close();

	sides_open();
	put(far.fd, "answer");
	shutdown(far.fd, SHUT_RDWR);
	settle();
	get(near.fd, "answer");
	get_end(near.fd);
	told(&far, 0, 0, 0);
	put(near.fd, "too late");
	settle();
	told(&far, 0, 0, 1);
	assert_int_equal(far.e.lost, 1);
	sides_close();
}

static int
finish_fails(struct end *e)
{
	(void)e;
	errno = EIO;
	return -1;
}

/* An end that could not be told. */
static void
test_finish_error(void **state)
{
	static const struct carrier fails = {
		.name = "fails", .recv = tcp_recv, .send = tcp_send,
		.finish = finish_fails
	};

	(void)state;
	sides_open();
	far.e.carrier = &fails;
	put(near.fd, "last");
	shutdown(near.fd, SHUT_WR);
	settle();
	get(far.fd, "last");
	told(&far, 0, 0, 1);
	assert_int_equal(far.e.error, EIO);
	assert_int_equal(far.e.lost, 1);
	assert_int_equal(near.done, 0);
	sides_close();
}

static void
test_send_error_unlinked(void **state)
{
	(void)state;
	side_open(&near);
	close(near.fd);
	near.fd = -1;
	end_send(&near.e, "x", 1);
	settle();
	assert_int_equal(near.broken, 1);
	assert_int_equal(near.e.error, EPIPE);
	assert_int_equal(near.e.lost, 1);
	side_close(&near);
}

/* A reset is said with its reason, and what nobody can deliver is gone. */
static void
test_recv_error(void **state)
{
	static const struct linger hard = { 1, 0 };
	int sv[2];

	(void)state;
	tcp_pair(sv);
	side_on(&near, sv);
	side_open(&far);
	end_link(&near.e, &far.e);
	ok(setsockopt(near.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) ==
	    0, "SO_LINGER");
	close(near.fd);
	near.fd = -1;
	until(&near.broken, 1, "broken");
	assert_int_equal(near.e.error, ECONNRESET);
	assert_int_equal(near.e.lost, 0);
	told(&near, 0, 0, 1);
	told(&far, 0, 0, 0);
	get(far.fd, "");
	sides_close();
}

static void
wait_readable(int fd)
{
	struct timeval tv = { PATIENCE / 1000, 0 };
	fd_set set;

	FD_ZERO(&set);
	set_add(fd, &set);
	if (select(fd + 1, &set, NULL, NULL, &tv) != 1)
		fail_msg("nothing comes within %d ms", PATIENCE);
}

static void
test_end_reset(void **state)
{
	int sv[2];
	char c;

	(void)state;
	tcp_pair(sv);
	side_on(&near, sv);
	end_reset(&near.e);
	wait_readable(near.fd);
	assert_int_equal(read(near.fd, &c, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	close(near.fd);

	tcp_pair(sv);
	side_on(&near, sv);
	end_close(&near.e);
	wait_readable(near.fd);
	get_end(near.fd);
	close(near.fd);

	/* No socket at all, and one that is no TCP one. */
	memset(&near, 0, sizeof(near));
	end_reset(&near.e);
	side_open(&near);
	end_reset(&near.e);
	get_end(near.fd);
	close(near.fd);
}

/* A reset is found although nothing is read. */
static void
test_end_failed(void **state)
{
	static const struct linger hard = { 1, 0 };
	int sv[2];

	(void)state;
	tcp_pair(sv);
	side_on(&near, sv);
	near.e.deaf = 1;
	put(near.fd, "unread");
	assert_int_equal(end_failed(&near.e), 0);
	assert_int_equal(near.e.error, 0);
	ok(setsockopt(near.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) ==
	    0, "SO_LINGER");
	close(near.fd);
	near.fd = -1;
	wait_readable(near.e.rfd);
	assert_int_equal(end_failed(&near.e), 1);
	assert_int_equal(near.e.error, ECONNRESET);
	assert_int_equal(end_failed(&near.e), 1);	/* still */
	told(&near, 0, 0, 0);
	side_close(&near);
}

static void
test_end_close(void **state)
{
	int fd;

	(void)state;
	sides_open();
	fd = near.e.rfd;
	assert_int_equal(buf_put(&near.e.in, "x", 1), 0);
	assert_int_equal(buf_put(&near.e.out, "x", 1), 0);
	end_close(&near.e);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_null(far.e.peer);
	assert_null(near.e.peer);
	assert_null(near.e.in.p);
	assert_null(near.e.out.p);
	end_close(&near.e);
	assert_int_equal(near.e.rfd, -1);
	memset(&near.e, 0, sizeof(near.e));
	end_close(&near.e);		/* an end that never was one */
	end_close(&far.e);
	assert_int_equal(slots_top, 0);
	get_end(far.fd);
	close(near.fd);
	close(far.fd);
}

/* ---- ends: nothing behind the head is read (-F) ------------------------ */

static void
test_keep(void **state)
{
	static const char text[] = "headtail";
	size_t cut;
	int fd;

	(void)state;
	for (cut = 0; cut <= 8; cut++) {
		side_open(&near);
		near.e.exact = 1;
		if (cut > 0)
			ok(write(near.fd, text, cut) == (ssize_t)cut, "write");
		turn(0);
		assert_int_equal(near.e.in.len, cut);
		end_keep(&near.e, cut < 4 ? cut : 4);
		if (cut < 4) {
			get(near.e.rfd, "");	/* taken, not only seen */
			ok(write(near.fd, text + cut, 8 - cut) ==
			    (ssize_t)(8 - cut), "write");
			turn(0);
			assert_int_equal(near.e.in.len, 8);
			end_keep(&near.e, 4);
			cut = cut < 4 ? cut : 4;
		} else if (cut < 8)
			ok(write(near.fd, text + cut, 8 - cut) ==
			    (ssize_t)(8 - cut), "write");
		assert_int_equal(near.e.in.len, 4);
		assert_memory_equal(near.e.in.p + near.e.in.off, "head", 4);
		fd = end_release(&near.e);
		assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
		assert_int_equal(near.e.rfd, -1);
		assert_int_equal(slots_top, 0);
		get(fd, "tail");
		end_close(&near.e);
		close(fd);
		close(near.fd);
	}
}

/* An interim reply before it is taken, too; the rest is seen again. */
static void
test_keep_interim(void **state)
{
	int fd;

	(void)state;
	side_open(&near);
	near.e.exact = 1;
	put(near.fd, "100200tail");
	turn(0);
	assert_int_equal(near.e.in.len, 10);
	end_keep(&near.e, 3);
	buf_take(&near.e.in, 3);
	end_keep(&near.e, near.e.in.len);
	assert_int_equal(near.e.in.len, 0);
	turn(0);
	assert_int_equal(near.e.in.len, 7);
	assert_memory_equal(near.e.in.p + near.e.in.off, "200tail", 7);
	end_keep(&near.e, 3);
	fd = end_release(&near.e);
	get(fd, "tail");
	end_close(&near.e);
	close(fd);
	close(near.fd);
}

static void
test_keep_inexact(void **state)
{
	(void)state;
	side_open(&near);
	put(near.fd, "headtail");
	turn(0);
	end_keep(&near.e, 4);
	assert_int_equal(near.e.in.len, 8);
	get(near.e.rfd, "");
	side_close(&near);
}

/* ---- ends: stdin and stdout -------------------------------------------- */

/* As end_stdio() makes it, but of any two descriptors. */
static void
side_stdio(struct side *s, int rfd, int wfd)
{
	memset(s, 0, sizeof(*s));
	s->fd = -1;
	end_init(&s->e, &stdio, rfd, wfd, &steps, s);
	s->e.deaf = 1;
}

static void
test_stdio_start(void **state)
{
	(void)state;
	memset(&near, 0, sizeof(near));
	end_stdio(&near.e, &steps, &near);
	assert_int_equal(near.e.rfd, STDIN_FILENO);
	assert_int_equal(near.e.wfd, STDOUT_FILENO);
	/* Before the tunnel is open nothing is read of it. */
	assert_int_equal(end_hungry(&near.e), 0);
	loop_forget(STDIN_FILENO);
	loop_forget(STDOUT_FILENO);
}

static void
test_stdio_flow(void **state)
{
	int in[2], out[2], null;
	struct stat a, b;

	(void)state;
	ok(pipe(in) == 0 && pipe(out) == 0, "pipe");
	nonblocking(out[0]);
	side_stdio(&near, in[0], out[1]);
	side_open(&far);
	put(in[1], "in");
	assert_int_equal(turn(0), 0);
	end_link(&near.e, &far.e);
	put(far.fd, "out");
	settle();
	get(far.fd, "in");
	get(out[0], "out");
	/* They belong to others too. */
	assert_int_equal(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	close(in[1]);
	settle();
	get_end(far.fd);
	put(far.fd, "later");
	shutdown(far.fd, SHUT_WR);
	settle();
	get(out[0], "later");
	get_end(out[0]);
	assert_int_equal(near.done + far.done, 1);
	/* The number is not free for something else. */
	ok((null = open("/dev/null", O_WRONLY)) != -1, "/dev/null");
	ok(fstat(out[1], &a) == 0 && fstat(null, &b) == 0, "fstat");
	assert_true(a.st_rdev == b.st_rdev);
	close(null);
	close(out[1]);
	close(out[0]);
	sides_close();
}

/* A pipe that nobody reads must not block us. */
static void
test_stdio_stall(void **state)
{
	uint64_t sent = 0, arrived = 0;
	int in[2], out[2], i;

	(void)state;
	ok(pipe(in) == 0 && pipe(out) == 0, "pipe");
	nonblocking(out[0]);
	side_open(&near);
	side_stdio(&far, in[0], out[1]);
	end_link(&near.e, &far.e);
	stall(&sent);
	assert_true(far.e.out.len > 0);
	assert_int_equal(turn(0), 0);
	for (i = 0; arrived < sent; i++) {
		if (i == 10000)
			fail_msg("%llu of %llu bytes arrive",
			    (unsigned long long)arrived,
			    (unsigned long long)sent);
		drain(out[0], &arrived);
		turn(0);
	}
	assert_null(far.e.out.p);
	close(in[1]);
	close(out[0]);
	sides_close();
}

static void
test_stdio_epipe(void **state)
{
	int in[2], out[2];

	(void)state;
	ok(pipe(in) == 0 && pipe(out) == 0, "pipe");
	side_stdio(&near, in[0], out[1]);
	side_open(&far);
	end_link(&near.e, &far.e);
	close(out[0]);
	put(far.fd, "nobody wants this");
	settle();
	told(&near, 0, 0, 1);
	told(&far, 0, 0, 0);
	assert_int_equal(near.e.error, EPIPE);
	assert_int_equal(near.e.lost, 1);
	close(in[1]);
	sides_close();
}

/* stdin and stdout can be one socket: its end is told all the same. */
static void
test_stdio_socket(void **state)
{
	int sv[2], out;

	(void)state;
	pair(sv, SOCK_STREAM);
	ok((out = dup(sv[0])) != -1, "dup");
	side_stdio(&near, sv[0], out);
	near.fd = sv[1];
	side_open(&far);
	end_link(&near.e, &far.e);
	put(far.fd, "out");
	shutdown(far.fd, SHUT_WR);
	settle();
	get(near.fd, "out");
	get_end(near.fd);
	put(near.fd, "in");
	settle();
	get(far.fd, "in");
	close(near.fd);
	near.fd = -1;
	settle();
	get_end(far.fd);
	assert_int_equal(near.done + far.done, 1);
	close(out);
	sides_close();
}

/* ---- connecting -------------------------------------------------------- */

static struct {
	int		 done, fd, code, asked, forbidden;
	enum dial_error	 error;
} dialed;

static int
on_allow(void *owner, const union addr *a)
{
	assert_ptr_equal(owner, &dialed);
	assert_int_not_equal(addr_port(a), 0);
	dialed.asked++;
	return !dialed.forbidden;
}

static void
on_dialed(void *owner, int fd, enum dial_error error, int code)
{
	assert_ptr_equal(owner, &dialed);
	dialed.done++;
	dialed.fd = fd;
	dialed.error = error;
	dialed.code = code;
}

static const struct dialer dialer = { on_allow, on_dialed };

static struct dial *
dial(const char *host, unsigned port)
{
	struct dial *d;

	memset(&dialed, 0, sizeof(dialed));
	d = dial_start(host, port, 7, &dialer, &dialed);
	assert_non_null(d);
	assert_int_equal(dialed.done, 0);	/* never before it returns */
	return d;
}

static void
dial_fails(enum dial_error error, int code)
{
	until(&dialed.done, 1, "done");
	loop_sweep();
	if (dialed.fd != -1 || dialed.error != error || dialed.code != code)
		fail_msg("fd %d, error %d, code %d (%s)", dialed.fd,
		    (int)dialed.error, dialed.code, strerror(dialed.code));
}

/* A leg of a tunnel: it never blocks, is for us only, sends at once. */
static void
leg(int fd)
{
	static const struct { int level, option; } on[] = {
		{ IPPROTO_TCP, TCP_NODELAY }, { SOL_SOCKET, SO_KEEPALIVE },
	};
	socklen_t len;
	size_t i;
	int v;

	assert_int_not_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_not_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
	for (i = 0; i < COUNT(on); i++) {
		v = 0;
		len = sizeof(v);
		ok(getsockopt(fd, on[i].level, on[i].option, &v, &len) == 0,
		    "getsockopt");
		assert_int_not_equal(v, 0);
	}
}

/* It is connected to this listening socket. */
static void
dial_succeeds(int lfd)
{
	int fd;

	until(&dialed.done, 1, "done");
	loop_sweep();
	assert_int_equal(dialed.error, DIAL_OK);
	assert_int_equal(dialed.code, 0);
	assert_int_equal(slots_top, 0);
	leg(dialed.fd);
	ok((fd = accept(lfd, NULL, NULL)) != -1, "accept");
	nonblocking(fd);
	put(dialed.fd, "it is");
	wait_readable(fd);
	get(fd, "it is");
	close(fd);
	close(dialed.fd);
}

static void
test_dial_literal(void **state)
{
	union addr a;
	int fd = listening(&a, 5);

	(void)state;
	dial("127.0.0.1", addr_port(&a));
	dial_succeeds(fd);
	assert_int_equal(dialed.asked, 1);
	dial("2130706433", addr_port(&a));
	dial_succeeds(fd);
	reach.source = addr("127.0.0.1");
	reach.family = AF_INET;
	reach.literals = 1;
	dial("127.1", addr_port(&a));
	dial_succeeds(fd);
	close(fd);
}

static void
test_dial_source(void **state)
{
	union addr a, peer;
	socklen_t len = sizeof(peer);
	int fd = listening(&a, 5), c;

	(void)state;
	reach.source = addr("127.0.0.3");
	dial("127.0.0.1", addr_port(&a));
	until(&dialed.done, 1, "done");
	loop_sweep();
	if (dialed.code == EADDRNOTAVAIL) {
		print_message("no 127.0.0.3 here\n");
		close(fd);
		skip();
	}
	ok((c = accept(fd, &peer.sa, &len)) != -1, "accept");
	assert_int_equal(addr_same_host(&peer, &reach.source), 1);
	close(c);
	close(dialed.fd);
	close(fd);
}

static void
test_dial_fails(void **state)
{
	union addr a;
	int fd = listening(&a, -1);	/* bound, but nobody listens */

	(void)state;
	dial("127.0.0.1", addr_port(&a));
	dial_fails(DIAL_CONNECT, ECONNREFUSED);
	close(fd);
	memset(&dialed, 0, sizeof(dialed));
	dialed.forbidden = 1;
	assert_non_null(dial_start("127.0.0.1", 1, 7, &dialer, &dialed));
	dial_fails(DIAL_RULE, 0);
	reach.family = AF_INET6;
	dial("127.0.0.1", 1);
	dial_fails(DIAL_CONNECT, EAFNOSUPPORT);
	reach.family = AF_UNSPEC;
	reach.source = addr("::1");
	dial("127.0.0.1", 1);
	dial_fails(DIAL_CONNECT, EAFNOSUPPORT);
	assert_int_equal(dialed.asked, 0);
	reach.literals = 1;
	dial("host.example", 1);
	dial_fails(DIAL_NAME_REFUSED, 0);
}

static void
test_dial_cancel(void **state)
{
	union addr a;
	int fd = listening(&a, 5);
	struct dial *d;

	(void)state;
	d = dial("127.0.0.1", addr_port(&a));
	assert_int_equal(dial_looking(d), 0);
	dial_cancel(d);
	assert_int_equal(slots_top, 0);
	loop_sweep();
	reach.literals = 1;
	d = dial("host.example", 1);
	dial_cancel(d);
	now += 1000;
	timers_run();
	loop_sweep();
	assert_int_equal(dialed.done, 0);
	close(fd);
}

static void
test_dial_interleave(void **state)
{
	static const struct { const char *in, *out; } rows[] = {
		{ "", "" }, { "4a", "4a" }, { "4a4b4c", "4a4b4c" },
		{ "6a6b4c4d", "6a4c6b4d" }, { "4a4b6c6d", "4a6c4b6d" },
		{ "6a6b6c4d", "6a4d6b6c" }, { "6a4b4c4d", "6a4b4c4d" },
		{ "4a4b4c6d6e", "4a6d4b6e4c" }, { "4a6b4c6d", "4a6b4c6d" },
		{ "6a6b6c6d4e4f", "6a4e6b4f6c6d" },
	};
	struct dial d;
	char out[32];
	size_t i, k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		memset(&d, 0, sizeof(d));
		for (k = 0; k < strlen(rows[i].in); k += 2) {
			d.addr[d.n].sa.sa_family = rows[i].in[k] == '6' ?
			    AF_INET6 : AF_INET;
			addr_set_port(&d.addr[d.n++],
			    (unsigned char)rows[i].in[k + 1]);
		}
		dial_interleave(&d);
		for (k = 0; k < (size_t)d.n; k++) {
			out[2 * k] = d.addr[k].sa.sa_family == AF_INET6 ?
			    '6' : '4';
			out[2 * k + 1] = (char)addr_port(&d.addr[k]);
		}
		out[2 * k] = '\0';
		if (strcmp(out, rows[i].out) != 0)
			fail_msg("%s: %s, not %s", rows[i].in, out,
			    rows[i].out);
	}
}

/* ---- connecting: look-ups, with this test for the helper --------------- */

static int helper;		/* its side of the socket */

static void
helper_open(void)
{
	int sv[2];

	pair(sv, SOCK_DGRAM);
	helper_sock = sv[0];
	helper = sv[1];
}

static void
helper_close(void)
{
	close(helper_sock);
	close(helper);
	helper_sock = -1;
}

/* Takes the question for this host; returns where the answer goes. */
static int
question(const char *host, int family)
{
	struct question q;
	int fd;

	memset(&q, 0xff, sizeof(q));
	ok(fd_recv(helper, &fd, &q, sizeof(q)) == sizeof(q), "no question");
	assert_int_not_equal(fd, -1);
	assert_string_equal(q.host, host);
	assert_int_equal(q.family, family);
	assert_true(q.secs >= 7 && q.secs <= 8);
	return fd;
}

static void
answer(int fd, int error, const char *const *addrs, int n)
{
	struct answer a;
	int i;

	memset(&a, 0, sizeof(a));
	a.error = error;
	for (i = 0; i < n; i++)
		a.addr[a.n++] = addr(addrs[i]);
	ok(write(fd, &a, sizeof(a)) == (ssize_t)sizeof(a), "answer");
	close(fd);
}

/* The first address refuses, the next does not. */
static void
test_lookup(void **state)
{
	static const char *const addrs[] = {
		"127.0.0.2", "127.0.0.3", "::1", "127.0.0.1"
	};
	union addr a;
	int fd = listening(&a, 5);
	struct dial *d;

	(void)state;
	helper_open();
	d = dial("host.example", addr_port(&a));
	assert_int_equal(dial_looking(d), 1);
	assert_int_not_equal(fcntl(d->lookup, F_GETFD) & FD_CLOEXEC, 0);
	turn(0);
	assert_int_equal(dialed.done, 0);
	answer(question("host.example", AF_UNSPEC), 0, addrs, 4);
	turn(0);
	/* Families take turns (RFC 8305, 4). */
	assert_int_equal(dialed.asked, 4);
	assert_int_equal(d->n, 4);
	assert_int_equal(d->addr[1].sa.sa_family, AF_INET6);
	assert_int_equal(dial_looking(d), 0);
	dial_succeeds(fd);

	reach.family = AF_INET;
	dial("host.example", addr_port(&a));
	answer(question("host.example", AF_INET), 0, addrs, 2);
	until(&dialed.done, 1, "done");
	assert_int_equal(dialed.fd, -1);
	assert_int_equal(dialed.error, DIAL_CONNECT);
	assert_int_not_equal(dialed.code, 0);
	loop_sweep();
	close(fd);
	helper_close();
}

static void
test_lookup_fails(void **state)
{
	static const char *const six[] = { "::1", "fe80::1" };

	(void)state;
	helper_open();
	dial("nobody.example", 1);
	answer(question("nobody.example", AF_UNSPEC), EAI_NONAME, NULL, 0);
	dial_fails(DIAL_LOOKUP, EAI_NONAME);
	/* A child of the helper's that dies is asked for once more. */
	dial("host.example", 1);
	close(question("host.example", AF_UNSPEC));
	turn(0);
	close(question("host.example", AF_UNSPEC));
	turn(0);
	dial_fails(DIAL_LOOKUP, EAI_AGAIN);
	/* All of them in a family that we cannot use, or not allowed. */
	reach.family = AF_INET;
	dial("host.example", 1);
	answer(question("host.example", AF_INET), 0, six, 2);
	dial_fails(DIAL_CONNECT, EAFNOSUPPORT);
	reach.family = AF_UNSPEC;
	dial("host.example", 1);
	dialed.forbidden = 1;
	answer(question("host.example", AF_UNSPEC), 0, six, 2);
	dial_fails(DIAL_RULE, 0);
	assert_int_equal(dialed.asked, 2);
	helper_close();
}

static void
test_lookup_cancel(void **state)
{
	struct dial *d;

	(void)state;
	helper_open();
	d = dial("host.example", 1);
	dial_cancel(d);
	assert_int_equal(slots_top, 0);
	loop_sweep();
	close(question("host.example", AF_UNSPEC));
	turn(0);
	assert_int_equal(dialed.done, 0);
	helper_close();
}

/* When the helper has enough to do, the question is asked a little later. */
static void
test_lookup_busy(void **state)
{
	struct question junk;
	int n = 0;

	(void)state;
	helper_open();
	memset(&junk, 0, sizeof(junk));
	while (send(helper_sock, &junk, sizeof(junk), 0) != -1)
		n++;
	ok(errno == EAGAIN || errno == ENOBUFS, "send");
	now = 1000;
	dial("host.example", 1);
	for (; n > 0; n--)
		assert_int_equal(recv(helper, &junk, sizeof(junk), 0),
		    sizeof(junk));
	assert_int_equal(recv(helper, &junk, 1, 0), -1);
	now = 1000 + LOOKUP_RETRY_MS - 1;
	timers_run();
	assert_int_equal(recv(helper, &junk, 1, 0), -1);
	now = 1000 + LOOKUP_RETRY_MS;
	timers_run();
	answer(question("host.example", AF_UNSPEC), EAI_FAIL, NULL, 0);
	dial_fails(DIAL_LOOKUP, EAI_FAIL);
	helper_close();
}

/* Takes every descriptor below FD_SETSIZE; how many those were. */
static int
take_all(int *taken)
{
	int n = 0, fd;

	while ((fd = dup(STDERR_FILENO)) != -1 && fd < FD_SETSIZE)
		taken[n++] = fd;
	if (fd != -1)
		close(fd);
	return n;
}

/* Out of descriptors, in either way, it says so and keeps none. */
static void
test_dial_full(void **state)
{
	static const char *const hosts[] = { "host.example", "127.0.0.1" };
	static int taken[FD_SETSIZE];
	struct rlimit rl, old;
	int n, i, k, before;

	(void)state;
	helper_open();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (i = 0; i < 2; i++) {
		rl = old;
		rl.rlim_cur = i == 0 || old.rlim_max < FD_SETSIZE + 64 ?
		    FD_SETSIZE : FD_SETSIZE + 64;
		if (rl.rlim_cur > old.rlim_max)
			rl.rlim_cur = old.rlim_max;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
		n = take_all(taken);
		before = open_fds();
		for (k = 0; k < 2; k++) {
			errno = 0;
			dial(hosts[k], 1);
			until(&dialed.done, 1, "done");
			loop_sweep();
			assert_int_equal(dialed.error, DIAL_FULL);
			assert_int_equal(dialed.code, EMFILE);
			assert_int_equal(open_fds(), before);
		}
		while (n > 0)
			close(taken[--n]);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	helper_close();
}

/*
 * RFC 8305, 5: an address that does not answer (its queue of connections is
 * full) holds nobody up, and goes on being tried beside the next.
 */
static void
test_dial_next(void **state)
{
	static const char *const addrs[] = { "127.0.0.1", "127.0.0.2" };
	int fds[8], slow, fd, i;
	union addr a, b;
	struct dial *d;

	(void)state;
	slow = listening(&a, 0);
	b = addr("127.0.0.2");
	addr_set_port(&b, addr_port(&a));
	ok((fd = socket(AF_INET, SOCK_STREAM, 0)) != -1, "socket");
	if (bind(fd, &b.sa, addr_len(&b)) == -1) {
		print_message("no 127.0.0.2 here: %s\n", strerror(errno));
		close(fd);
		close(slow);
		skip();
	}
	ok(listen(fd, 5) == 0, "listen");
	for (i = 0; i < 8; i++) {
		ok((fds[i] = socket(AF_INET, SOCK_STREAM, 0)) != -1, "socket");
		nonblocking(fds[i]);
		(void)connect(fds[i], &a.sa, addr_len(&a));
	}
	helper_open();
	now = 1000;
	d = dial("host.example", addr_port(&a));
	answer(question("host.example", AF_UNSPEC), 0, addrs, 2);
	turn(0);
	assert_int_equal(d->next, 1);
	assert_int_equal(d->pending, 1);
	turn(0);
	now = 1000 + RECONNECT_MS - 1;
	timers_run();
	assert_int_equal(d->next, 1);
	now = 1000 + RECONNECT_MS;
	timers_run();
	assert_int_equal(d->next, 2);
	assert_int_equal(d->pending, 2);
	dial_succeeds(fd);
	for (i = 0; i < 8; i++)
		close(fds[i]);
	close(slow);
	close(fd);
	helper_close();
}

/* The real helper: it answers, and is gone when we close its pipe. */
static void
helper_lives(void)
{
	union addr a;
	int fd = listening(&a, 5), code;

	dial("localhost", addr_port(&a));
	until(&dialed.done, 1, "done");
	loop_sweep();
	if (dialed.error == DIAL_LOOKUP)
		print_message("no localhost here: %s\n",
		    gai_strerror(dialed.code));
	else {
		assert_int_equal(dialed.error, DIAL_OK);
		close(dialed.fd);
	}
	close(fd);
	close(helper_sock);
	close(helper_life);
	helper_sock = helper_life = -1;
	ok(waitpid(helper_pid, &code, 0) == helper_pid, "waitpid");
	assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
	helper_pid = -1;
}

static void
test_lookup_helper(void **state)
{
	(void)state;
	assert_int_equal(lookup_init(), 0);
	helper_lives();
	helper_lives();			/* it starts when it is needed */
	/* One that died is replaced by the next question. */
	helper_open();
	close(helper);
	helper_lives();
}

/* ---- listening --------------------------------------------------------- */

static int room, accepts;
static int accepted_fd[8];
static union addr accepted_peer;

static int
on_room(void)
{
	return room > accepts;
}

static void
on_accepted(struct listener *l, int fd, const union addr *peer)
{
	assert_int_equal(l->arg == &room, 1);
	accepted_fd[accepts++] = fd;
	accepted_peer = *peer;
}

static void
listeners_close(struct listener *l)
{
	struct listener *next;

	for (; l != NULL; l = next) {
		next = l->next;
		timer_stop(&l->rest);
		fd_close(l->fd);
		free(l);
	}
}

static void
test_listen_addrs(void **state)
{
	static const struct {
		const char *addr; int family; const char *want;
	} rows[] = {
		{ NULL, AF_UNSPEC, "127.0.0.1:9 [::1]:9 " },
		{ NULL, AF_INET, "127.0.0.1:9 " },
		{ NULL, AF_INET6, "[::1]:9 " },
		{ "*", AF_UNSPEC, "0.0.0.0:9 [::]:9 " },
		{ "", AF_INET, "0.0.0.0:9 " },
		{ "*", AF_INET6, "[::]:9 " },
		{ "127.0.0.1", AF_UNSPEC, "127.0.0.1:9 " },
		{ "::1", AF_UNSPEC, "[::1]:9 " },
		{ "10.1.2.3", AF_INET, "10.1.2.3:9 " },
		{ "127.0.0.1", AF_INET6, "" },
		{ "::1", AF_INET, "" },
		{ "no address", AF_UNSPEC, "" },
		{ "[::1]", AF_UNSPEC, "" },
	};
	union addr a[LISTEN_ADDRS];
	char got[256], text[ADDR_PORT_TEXT];
	size_t i;
	int n, k;

	(void)state;
	reach.literals = 1;		/* asks nobody */
	for (i = 0; i < COUNT(rows); i++) {
		reach.family = rows[i].family;
		n = listen_addrs(a, rows[i].addr, 9);
		for (got[0] = '\0', k = 0; k < n; k++) {
			strcat(got, addr_text_port(text, &a[k]));
			strcat(got, " ");
		}
		if (strcmp(got, rows[i].want) != 0)
			fail_msg("'%s': %s", rows[i].addr != NULL ?
			    rows[i].addr : "(none)", got);
	}
}

static void
test_listen_open(void **state)
{
	struct listener *list = NULL, *other = NULL, *l;
	union addr failed, real;
	socklen_t len = sizeof(real);
	unsigned port;

	(void)state;
	assert_int_equal(listen_open(&list, NULL, 0, &failed), 0);
	assert_non_null(list);
	port = addr_port(&list->addr);
	assert_int_not_equal(port, 0);
	for (l = list; l != NULL; l = l->next) {
		assert_int_equal(addr_loopback(&l->addr), 1);
		assert_int_equal(addr_port(&l->addr), port);
		ok(getsockname(l->fd, &real.sa, &len) == 0, "getsockname");
		assert_int_equal(addr_port(&real), port);
		assert_int_not_equal(fcntl(l->fd, F_GETFD) & FD_CLOEXEC, 0);
	}
	/* A second list behind the first; a taken port leaves all alone. */
	memset(&failed, 0, sizeof(failed));
	assert_int_equal(listen_open(&other, "127.0.0.1", port, &failed), -1);
	assert_int_equal(errno, EADDRINUSE);
	assert_null(other);
	assert_int_equal(addr_port(&failed), port);
	assert_int_equal(addr_loopback(&failed), 1);
	assert_int_equal(listen_open(&list, NULL, port, &failed), -1);
	for (l = list; l->next != NULL; l = l->next)
		;
	assert_int_equal(listen_open(&list, "127.0.0.1", 0, &failed), 0);
	assert_non_null(l->next);
	assert_int_not_equal(addr_port(&l->next->addr), port);
	listeners_close(list);
}

static int
client(const union addr *a)
{
	int fd;

	ok((fd = socket(a->sa.sa_family, SOCK_STREAM, 0)) != -1, "socket");
	ok(connect(fd, &a->sa, addr_len(a)) == 0, "connect");
	return fd;
}

static struct listener *
listener_open(void)
{
	struct listener *l = NULL;
	union addr failed;

	assert_int_equal(listen_open(&l, "127.0.0.1", 0, &failed), 0);
	l->room = on_room;
	l->accepted = on_accepted;
	l->arg = &room;
	assert_int_equal(listener_start(l), 0);
	accepts = 0;
	return l;
}

/* Who is full is silent: the others wait in the backlog. */
static void
test_listener(void **state)
{
	struct listener *l = listener_open();
	union addr real;
	socklen_t len = sizeof(real);
	int fds[3], i;

	(void)state;
	for (i = 0; i < 3; i++)
		fds[i] = client(&l->addr);
	room = 0;
	assert_int_equal(turn(0), 0);
	room = 2;
	until(&accepts, 2, "accepted");
	assert_int_equal(turn(0), 0);
	room = 3;
	until(&accepts, 3, "accepted");
	ok(getsockname(fds[2], &real.sa, &len) == 0, "getsockname");
	assert_int_equal(addr_port(&accepted_peer), addr_port(&real));
	assert_int_equal(addr_same_host(&accepted_peer, &real), 1);
	for (i = 0; i < 3; i++) {
		leg(accepted_fd[i]);
		close(fds[i]);
		close(accepted_fd[i]);
	}
	listeners_close(l);
}

/* Out of descriptors it rests, instead of being told of it for ever. */
static void
test_listener_rest(void **state)
{
	struct listener *l = listener_open();
	int fd = client(&l->addr), lowest;
	struct rlimit rl, old;

	(void)state;
	room = 1;
	now = 1000;
	ok((lowest = dup(STDERR_FILENO)) != -1, "dup");
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	rl = old;
	rl.rlim_cur = (rlim_t)lowest;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
	wait_readable(l->fd);
	turn(0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(accepts, 0);
	assert_int_equal(turn(0), 0);
	now = 1000 + REST_MS - 1;
	timers_run();
	assert_int_equal(turn(0), 0);
	now = 1000 + REST_MS;
	timers_run();
	assert_int_equal(turn(0), 1);
	assert_int_equal(accepts, 1);
	close(accepted_fd[0]);
	close(fd);
	listeners_close(l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_loop_watch),
		TEST(test_loop_interest),
		TEST(test_loop_dispatch),
		TEST(test_loop_bury),
		TEST(test_loop_run),
		TEST(test_loop_limit),
		TEST(test_timers),
		TEST(test_timers_within),
		TEST(test_time_stamp),
		TEST(test_addr_literal),
		TEST(test_addr_text),
		TEST(test_addr_scope),
		TEST(test_addr_unmap),
		TEST(test_addr_within),
		TEST(test_addr_kinds),
		TEST(test_fd_pass),
		TEST(test_fd_recv_none),
		TEST(test_fd_is_socket),
		TEST(test_fd_sane),
		TEST(test_tty_none),
		TEST(test_flow),
		TEST(test_flow_early),
		TEST(test_flow_early_end),
		TEST(test_unlinked),
		TEST(test_ready),
		TEST(test_end_send),
		TEST(test_stall),
		TEST(test_stall_full),
		TEST(test_stall_end),
		TEST(test_half_close),
		TEST(test_close_both),
		TEST(test_send_error),
		TEST(test_send_error_owed),
		TEST(test_finish_error),
		TEST(test_send_error_unlinked),
		TEST(test_recv_error),
		TEST(test_end_reset),
		TEST(test_end_failed),
		TEST(test_end_close),
		TEST(test_keep),
		TEST(test_keep_interim),
		TEST(test_keep_inexact),
		TEST(test_stdio_start),
		TEST(test_stdio_flow),
		TEST(test_stdio_stall),
		TEST(test_stdio_epipe),
		TEST(test_stdio_socket),
		TEST(test_dial_literal),
		TEST(test_dial_source),
		TEST(test_dial_fails),
		TEST(test_dial_cancel),
		TEST(test_dial_interleave),
		TEST(test_dial_full),
		TEST(test_dial_next),
		TEST(test_lookup),
		TEST(test_lookup_fails),
		TEST(test_lookup_cancel),
		TEST(test_lookup_busy),
		TEST(test_lookup_helper),
		TEST(test_listen_addrs),
		TEST(test_listen_open),
		TEST(test_listener),
		TEST(test_listener_rest),
	};

	/* As fd_sane() does; and whatever blocks after all is ended. */
	(void)signal(SIGPIPE, SIG_IGN);
	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
