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

#define getentropy	unit_getentropy
#include "../net.c"
#undef getentropy
int	getentropy(void *, size_t);

#include <poll.h>
#include <pthread.h>
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

static int no_entropy;		/* the kernel is an old one */

int
unit_getentropy(void *p, size_t n)
{
	if (!no_entropy)
		return getentropy(p, n);
	errno = ENOSYS;
	return -1;
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

/* How many pipes flows have, once the idle ones are closed. */
static int
ducts_left(void)
{
#if SPLICES
	ducts.used = 0;
	timer_stop(&ducts.timer);
	duct_idle(NULL);
	return ducts.n;
#else
	return 0;
#endif
}

static int
loop_left(void **state)
{
	int bad = ducts_left() != 0;

	(void)state;
	timer_stop(&halves);		/* it looks once more */
	if (bad)
		print_error("a pipe is left\n");
	if (slots_top != 0)
		print_error("descriptor %d is still watched\n", slots_top - 1);
	if (timers.next != &timers)
		print_error("a deadline is left\n");
	if (graves != NULL)
		print_error("a grave is left\n");
	if (open_fds() != fds_before)
		print_error("%d descriptors, and %d before\n", open_fds(),
		    fds_before);
	bad |= slots_top != 0 || timers.next != &timers || graves != NULL ||
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
	assert_int_equal(loop_watch(-1, &w, &all), -1);
	assert_int_equal(errno, EBADF);
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

static struct timer late;

static void
bury_more(void *arg)
{
	note(arg);
	loop_bury(&late, note, "c");
}

static void
test_loop_bury(void **state)
{
	struct timer a, b;

	(void)state;
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
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
	struct timer a, b, g;

	(void)state;
	memset(&g, 0, sizeof(g));
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	order[0] = '\0';
	timer_set(&a, 5, stop, "2");
	timer_set(&b, 0, note, "1");
	loop_bury(&g, note, "g");
	loop_run();
	assert_string_equal(order, "1g2");
	stopped = 0;
}

static unsigned	turns;

static void
busy(void *arg, int fd, unsigned what)
{
	(void)arg;
	(void)fd;
	(void)what;
	/* the signal is there before the loop waits for the first time */
	if (turns++ == 0)
		ok(kill(getpid(), SIGUSR2) == 0, "kill");
}

/* Who always finds something ready hears of signals all the same. */
static void
test_loop_busy(void **state)
{
	static const struct watcher w = { want_all, busy, 0 };
	struct timer end;
	int sv[2];

	(void)state;
	memset(&end, 0, sizeof(end));
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0, "socketpair");
	loop_watch(sv[0], &w, &all);
	signal_watch(SIGUSR2, loop_stop);
	timer_set(&end, 10000, stop, "");
	loop_run();
	assert_true(end.next != NULL);
	timer_stop(&end);
	fd_close(sv[0]);
	close(sv[1]);
	stopped = nsignals = 0;
}

static int heard_fd, heard_peer;
static struct timer heard_timer;

static void
heard_ready(void *arg, int fd, unsigned what)
{
	static char name[] = "cold ";
	char c;

	(void)arg;
	(void)what;
	if (fd != heard_fd)		/* and ready again in each turn */
		return;
	assert_int_equal(read(fd, &c, 1), 1);
	note(name);
}

static void
heard_late(void *arg)
{
	note(arg);
	loop_stop();
}

/* In a turn that asks about the live ones only: it is a pause. */
static void
heard_pause(void *arg)
{
	(void)arg;
	if (slots[heard_fd].live || nlives == 0) {
		timer_set(&heard_timer, 1, heard_pause, NULL);
		return;
	}
	assert_int_equal(write(heard_peer, "x", 1), 1);
	timer_set(&heard_timer, GLANCE_MS, heard_late, "late ");
	(void)poll(NULL, 0, 2 * GLANCE_MS);
}

/* Who has been stopped hears what has come meanwhile before it is too late. */
static void
test_loop_pause(void **state)
{
	static const struct watcher w = { want_all, heard_ready, 0 };
	unsigned r = WANT_READ;
	int sv[2], cold[2], i;

	(void)state;
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0, "socketpair");
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, cold) == 0, "socketpair");
	assert_int_equal(write(sv[1], "x", 1), 1);
	heard_fd = cold[0];
	heard_peer = cold[1];
	for (i = 0; i < 5; i++) {
		order[0] = '\0';
		stopped = 0;
		loop_watch(sv[0], &w, &r);
		loop_watch(cold[0], &w, &r);
		slots[cold[0]].active -= COLD_MS;
		timer_set(&heard_timer, 0, heard_pause, NULL);
		loop_run();
		assert_string_equal(order, "cold late ");
	}
	fd_close(sv[0]);
	fd_close(cold[0]);
	close(sv[1]);
	close(cold[1]);
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
	char s[24], want[24], *p;
	struct tm tm;
	time_t t;

	(void)state;
	for (t = 0; t < (time_t)2000000000; t += 86399) {
		time_text(s, t);
		strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%SZ",
		    gmtime_r(&t, &tm));
		assert_string_equal(s, want);
	}
	time_text(s, 253402300799);		/* of the year 9999 */
	assert_string_equal(s, "9999-12-31T23:59:59Z");
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
	/* Linux takes a name with more behind a colon for the same. */
	snprintf(literal, sizeof(literal), "fe80::1%%%s:\r\nA: b", name);
	assert_int_equal(addr_literal(&a, literal, 0), -1);
	a = addr("fe80::1%1");
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

/* A terminal, but no descriptor left for it that select() could have. */
static int
child_full(void)
{
#ifndef HTTPTUN_PORTABLE		/* where POSIX's terminals are declared */
	struct rlimit rl;
	char line[16];
	int fd;

	(void)alarm(10);
	if (getrlimit(RLIMIT_NOFILE, &rl) == -1 ||
	    rl.rlim_max < FD_SETSIZE + 16)
		return 0;
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &rl);
	(void)setsid();
	if ((fd = posix_openpt(O_RDWR | O_NOCTTY)) == -1 ||
	    grantpt(fd) == -1 || unlockpt(fd) == -1 ||
	    open(ptsname(fd), O_RDWR) == -1)
		return 10;
	while ((fd = dup(0)) != -1 && fd < FD_SETSIZE)
		;
	errno = 0;
	return tty_password("Password: ", line, sizeof(line)) == -1 ?
	    errno != EMFILE : 11;
#else
	return 0;
#endif
}

static void
test_tty_none(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_no_terminal), 0);
	assert_int_equal(in_child(child_full), 0);
}

/* ---- ends -------------------------------------------------------------- */

/* An end, the other side of its connection, and what it told. */
struct side {
	struct end	 e;
	int		 fd;
	int		 input, over, sent, done, broken, failed;
	int		 masks;		/* a WebSocket's client */
	char		 why[80];
};

static struct side near, far;

static void
on_input(void *owner, struct end *e)
{
	struct side *s = owner;

	assert_ptr_equal(e, &s->e);
	assert_int_equal(s->broken, 0);
	s->input++;
}

static void
on_over(void *owner, struct end *e)
{
	struct side *s = owner;

	assert_ptr_equal(e, &s->e);
	assert_int_equal(s->broken, 0);
	s->over++;
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
	assert_int_equal(s->broken, 0);
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

static ssize_t
no_bytes(struct end *e, const void *p, size_t n)
{
	(void)e;
	(void)p;
	(void)n;
	errno = EAGAIN;
	return -1;
}

/* What an end without a descriptor brought may be more than one read; who
 * goes on bringing though nobody takes it is cut off. */
static void
test_flow_early_much(void **state)
{
	static const struct carrier virtual = {
		NULL, no_bytes, NULL, 0
	};
	static char bytes[BULK + 1000], got[sizeof(bytes) + INPUT_MAX];
	size_t n = INPUT_MAX - 1 + sizeof(bytes), have = 0, i;
	ssize_t r = 0;

	(void)state;
	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 + i / 251);
	memset(&near, 0, sizeof(near));
	near.fd = -1;
	end_virtual(&near.e, &virtual, &steps, &near);
	end_came(&near.e, bytes, INPUT_MAX - 1);
	end_came(&near.e, bytes, sizeof(bytes));
	told(&near, 2, 0, 0);
	side_open(&far);
	end_link(&near.e, &far.e);
	for (; have < n && r != -1; have += (size_t)r) {
		settle();
		r = read(far.fd, got + have, sizeof(got) - have);
	}
	assert_int_equal(have, n);
	assert_memory_equal(got, bytes, INPUT_MAX - 1);
	assert_memory_equal(got + INPUT_MAX - 1, bytes, sizeof(bytes));
	sides_close();
	end_virtual(&near.e, &virtual, &steps, &near);
	end_came(&near.e, bytes, INPUT_MAX);
	assert_int_equal(near.e.error, 0);
	end_came(&near.e, bytes, 1);
	assert_int_equal(near.e.error, ENOBUFS);
	end_close(&near.e);
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

/* What is owed to an end, wherever it is. */
static size_t
kept(const struct end *e)
{
#if SPLICES
	return e->out.len + (e->duct != NULL ? e->duct->held : 0);
#else
	return e->out.len;
#endif
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
		assert_int_equal(end_hungry(&near.e), !end_owed(&far.e));
		turn(0);
		assert_true(kept(&far.e) <= (far.e.duct != NULL ? DUCT : BULK));
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
	assert_true(end_owed(&far.e));
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
		assert_int_equal(end_hungry(&near.e), !end_owed(&far.e));
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

/* Who is there all the same, and may wait for what is lost, is not read on. */
static void
test_send_memory(void **state)
{
	static const int errors[] = { ENOBUFS, ENOMEM };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(errors); i++) {
		sides_open();
		end_doom(&far.e, errors[i]);
		told(&far, 0, 0, 1);
		sides_close();
	}
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
		.recv = tcp_recv, .send = tcp_send,
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
		assert_int_equal(end_keep(&near.e, cut < 4 ? cut : 4), 0);
		if (cut < 4) {
			get(near.e.rfd, "");	/* taken, not only seen */
			ok(write(near.fd, text + cut, 8 - cut) ==
			    (ssize_t)(8 - cut), "write");
			turn(0);
			assert_int_equal(near.e.in.len, 8);
			assert_int_equal(end_keep(&near.e, 4), 0);
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
	assert_int_equal(end_keep(&near.e, 3), 0);
	buf_take(&near.e.in, 3);
	assert_int_equal(end_keep(&near.e, near.e.in.len), 0);
	assert_int_equal(near.e.in.len, 0);
	turn(0);
	assert_int_equal(near.e.in.len, 7);
	assert_memory_equal(near.e.in.p + near.e.in.off, "200tail", 7);
	assert_int_equal(end_keep(&near.e, 3), 0);
	fd = end_release(&near.e);
	get(fd, "tail");
	end_close(&near.e);
	close(fd);
	close(near.fd);
}

/* What was seen is not there any more: that is no head. */
static void
test_keep_gone(void **state)
{
	(void)state;
	side_open(&near);
	near.e.exact = 1;
	put(near.fd, "headtail");
	turn(0);
	get(near.e.rfd, "headtail");
	assert_int_equal(end_keep(&near.e, 6), -1);
	assert_int_equal(near.broken, 1);
	side_close(&near);
}

static void
test_keep_inexact(void **state)
{
	(void)state;
	side_open(&near);
	put(near.fd, "headtail");
	turn(0);
	assert_int_equal(end_keep(&near.e, 4), 0);
	assert_int_equal(near.e.in.len, 8);
	get(near.e.rfd, "");
	side_close(&near);
}

/* ---- ends: busy flows -------------------------------------------------- */

/* Where they are spliced, what is owed stays in the kernel. */
static void
in_duct(const struct end *e)
{
#if SPLICES
	assert_non_null(e->duct);
	assert_int_equal(e->out.len, 0);
#endif
	assert_true(end_owed(e));
}

/* Pours in again, as if it had never ceased. */
static void
busy_stall(uint64_t *sent)
{
	near.e.busy = 1;
	stall(sent);
}

/* Whose reader, far's, stalls. */
static void
busy_open(uint64_t *sent)
{
	sides_open();
	*sent = 0;
	busy_stall(sent);
}

/* The same of TCP, with buffers that are soon full. */
static void
busy_open_tcp(uint64_t *sent)
{
	static const int size = 4 * BUSY_MIN;
	int sv[2];

	tcp_pair(sv);
	side_on(&near, sv);
	tcp_pair(sv);
	side_on(&far, sv);
	ok(setsockopt(near.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) ==
	    0 && setsockopt(far.fd, SOL_SOCKET, SO_RCVBUF, &size,
	    sizeof(size)) == 0 && setsockopt(far.e.wfd, SOL_SOCKET, SO_SNDBUF,
	    &size, sizeof(size)) == 0, "buffers");
	end_link(&near.e, &far.e);
	*sent = 0;
	busy_stall(sent);
	in_duct(&far.e);
}

/* All that was sent arrives, however long that takes. */
static void
busy_drain(uint64_t sent, uint64_t *arrived)
{
	int64_t end;

	for (time_update(), end = now + PATIENCE; *arrived < sent;
	    time_update()) {
		if (now > end)
			fail_msg("%llu of %llu bytes arrive",
			    (unsigned long long)*arrived,
			    (unsigned long long)sent);
		drain(far.fd, arrived);
		turn(1);
	}
}

static void
busy_reset(struct side *s)
{
	static const struct linger hard = { 1, 0 };

	ok(setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) ==
	    0, "SO_LINGER");
	close(s->fd);
	s->fd = -1;
}

static void
test_busy(void **state)
{
	uint64_t sent, arrived = 0, before;
	int i;

	(void)state;
	busy_open(&sent);
	for (i = 0; i < 5; i++) {
		before = sent;
		busy_drain(sent, &arrived);
		busy_stall(&sent);
		assert_true(sent > before);
	}
	shutdown(near.fd, SHUT_WR);
	busy_drain(sent, &arrived);
	wait_readable(far.fd);
	get_end(far.fd);
	assert_int_equal(near.e.got, sent);
	assert_false(end_owed(&far.e));
	told(&near, 0, 0, 0);
	told(&far, 0, 0, 0);
	sides_close();
}

/* The reader leaves while bytes are on their way. */
static void
test_busy_reader_resets(void **state)
{
	uint64_t sent;

	(void)state;
	busy_open_tcp(&sent);
	busy_reset(&far);
	until(&far.broken, 1, "broken");
	told(&near, 0, 0, 0);
	assert_false(end_owed(&far.e));
	sides_close();
}

/* The sender does: that is told behind what it had sent, and is no end. */
static void
test_busy_sender_resets(void **state)
{
	uint64_t sent, arrived = 0;
	int i;

	(void)state;
	busy_open_tcp(&sent);
	busy_reset(&near);
	for (i = 0; near.broken == 0; i++) {
		assert_true(i < PATIENCE);
		drain(far.fd, &arrived);
		turn(1);
	}
	assert_true(arrived <= sent);
	assert_int_equal(near.e.error, ECONNRESET);
	told(&far, 0, 0, 0);
	assert_int_equal(far.e.finish, 0);
	sides_close();
}

/* A byte of urgent data is nothing to spin at, and lost as ever. */
static void
test_busy_urgent(void **state)
{
	uint64_t sent, arrived = 0;
	ssize_t n;

	(void)state;
	busy_open_tcp(&sent);
	while ((n = send(near.fd, "!", 1, MSG_OOB)) == -1) {
		ok(errno == EAGAIN, "send");
		drain(far.fd, &arrived);
		turn(1);
	}
	busy_drain(sent, &arrived);
	busy_stall(&sent);
	busy_drain(sent, &arrived);
	sides_close();
}

/* Both directions, and each waits for itself alone. */
static void
test_busy_both(void **state)
{
	uint64_t sent, arrived = 0, back = 0;
	unsigned char block[5000];
	int i;

	(void)state;
	busy_open(&sent);
	far.e.busy = 1;
	for (i = 0; pour(far.fd, &back) > 0 || end_hungry(&far.e); i++) {
		assert_true(i < 1000);
		turn(0);
	}
	in_duct(&near.e);
	in_duct(&far.e);
	assert_int_equal(turn(0), 0);
	busy_drain(sent, &arrived);
	while (end_owed(&near.e)) {
		wait_readable(near.fd);
		ok(read(near.fd, block, sizeof(block)) > 0, "read");
		turn(0);
	}
	sides_close();
}

#define REST	60000			/* ms, longer than any test */

/* The empty pipes are looked at no sooner than this test says. */
#if SPLICES
static void
duct_rest(void)
{
	timer_set(&ducts.timer, REST, duct_idle, NULL);
}
#endif

/* Without a pipe the bytes are copied, until there may be one again. */
static void
test_busy_none(void **state)
{
#if SPLICES
	uint64_t sent, arrived = 0;

	(void)state;
	ducts.n += DUCTS_MAX;
	busy_open(&sent);
	assert_null(far.e.duct);
	assert_true(end_owed(&far.e));
	busy_drain(sent, &arrived);
	ducts.n -= DUCTS_MAX;
	duct_rest();
	busy_stall(&sent);
	assert_null(far.e.duct);
	busy_drain(sent, &arrived);
	now += REST;
	timers_run();
	busy_stall(&sent);
	in_duct(&far.e);
	sides_close();
#else
	(void)state;
	skip();
#endif
}

/* Quiet flows own no pipe, and soon nobody does. */
static void
test_busy_given_back(void **state)
{
#if SPLICES
	uint64_t sent, arrived = 0;
	int fds, i;

	(void)state;
	duct_rest();
	busy_open(&sent);
	busy_drain(sent, &arrived);
	assert_null(far.e.duct);
	assert_int_equal(ducts.n, 1);
	assert_true(ducts.empty->rfd >= FD_SETSIZE);
	assert_true(ducts.empty->wfd >= FD_SETSIZE);
	fds = open_fds();
	for (i = 0; i < 2; i++) {
		assert_int_equal(open_fds(), fds);
		now += REST;
		timers_run();
	}
	assert_int_equal(open_fds(), fds - 2);
	assert_ptr_equal(timers.next, &timers);
	sides_close();
#else
	(void)state;
	skip();
#endif
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
	stdio_look(&s->e);
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
	assert_true(end_owed(&far.e));
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

/* Neither blocks, nor is left in another mode, when pipes are spliced. */
static void
test_stdio_busy(void **state)
{
	uint64_t sent = 0, arrived = 0;
	int in[2], out[2], i;

	(void)state;
	ok(pipe(in) == 0 && pipe(out) == 0, "pipe");
	nonblocking(in[1]);
	side_stdio(&near, in[0], out[1]);
	near.fd = in[1];
	side_open(&far);
	end_link(&near.e, &far.e);
	small_buffer(far.e.wfd);
	for (i = 0; i < 5; i++) {
		busy_stall(&sent);
		in_duct(&far.e);
		assert_int_equal(turn(0), 0);
		busy_drain(sent, &arrived);
	}
#if SPLICES
	near.e.busy = 1;
	end_read(&near.e);	/* nothing is there, and it comes back */
#endif
	assert_int_equal(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	near.e.busy = 1;
	close(in[1]);
	near.fd = -1;
	settle();
	get_end(far.fd);
	assert_int_equal(near.e.got, sent);
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

/* ---- WebSockets: the other side, by hand ------------------------------- */

#define FIN	0x80

/* What the other side of a WebSocket has read; at: how far it understood. */
static struct {
	unsigned char	 p[4 * CHUNK];
	size_t		 at, n;
	int		 error;		/* of the last read */
} wire;

struct frame {
	unsigned	 opcode;
	unsigned char	 key[4];
	unsigned char	*p;
	size_t		 n;
};

static void
on_ws_broken(void *owner, struct end *e)
{
	struct side *s = owner;

	assert_ptr_equal(e, &s->e);
	s->broken++;
	snprintf(s->why, sizeof(s->why), "%s", end_why(e));
	end_reset(e);
}

/* As every owner does. */
static void
on_ws_done(void *owner, struct end *e)
{
	on_done(owner, e);
	end_close(&near.e);
	end_close(&far.e);
}

static const struct steps ws_steps = {
	on_input, on_over, on_sent, on_ws_done, on_ws_broken
};

static void
ws_on(struct side *s, const int *sv, int masks, enum ws_ending ending)
{
	side_on(s, sv);
	s->e.steps = &ws_steps;
	s->masks = masks;
	assert_int_equal(end_websocket(&s->e, masks, ending), 0);
}

static void
side_ws(struct side *s, int masks, enum ws_ending ending)
{
	int sv[2];

	pair(sv, SOCK_STREAM);
	ws_on(s, sv, masks, ending);
}

/* A WebSocket, linked with a plain connection; it is 1000. */
static void
ws_open(int masks, enum ws_ending ending)
{
	now = 1000;
	side_ws(&near, masks, ending);
	side_open(&far);
	far.e.steps = &ws_steps;
	end_link(&near.e, &far.e);
}

/*
 * 'a': EAGAIN, 'h': half of it goes, 'm': no memory, 'r': a reset, 't': it
 * timed out; behind the last all goes.
 */
static const char *sends;

static ssize_t
scripted_send(struct end *e, const void *p, size_t n)
{
	char c = *sends != '\0' ? *sends++ : '.';

	if (c == '.' || c == 'h')
		return tcp_send(e, p, c == 'h' ? n / 2 : n);
	errno = c == 'a' ? EAGAIN : c == 'm' ? ENOBUFS : c == 'r' ?
	    ECONNRESET : ETIMEDOUT;
	return -1;
}

static const struct carrier scripted = {
	tcp_recv, scripted_send, ws_finish, 1
};

/* What was lost may be our `end' itself. */
static void
test_ws_end_memory(void **state)
{
	(void)state;
	ws_open(0, WS_ENDS);
	near.e.ws->under = &scripted;
	sends = "m";
	end_finish(&near.e);
	told(&near, 0, 0, 1);
	sides_close();
}

/* It is so late, and what is due by then is done. */
static void
clock_at(int64_t at)
{
	now = at;
	timers_run();
	loop_sweep();
}

/* Reads what is there, as far as there is room for it. */
static void
wire_read(int fd)
{
	ssize_t n = 0;

	wire.n -= wire.at;
	memmove(wire.p, wire.p + wire.at, wire.n);
	wire.at = 0;
	while (wire.n < sizeof(wire.p) && (n = read(fd, wire.p + wire.n,
	    sizeof(wire.p) - wire.n)) > 0)
		wire.n += (size_t)n;
	wire.error = n == -1 ? errno : 0;
}

/* How long the head is; 0: it is not all there. */
static size_t
frame_head(struct frame *f, const unsigned char *p, size_t left)
{
	size_t head = 2, i;

	if (left < 2)
		return 0;
	f->opcode = p[0] & 0x0f;
	f->n = p[1] & 0x7f;
	if (f->n > 125)
		head = f->n == 126 ? 4 : 10;
	if (left < head)
		return 0;
	if (head > 2)
		for (f->n = 0, i = 2; i < head; i++)
			f->n = f->n << 8 | p[i];
	/* RFC 6455, 5.2: the shortest form. */
	if ((head == 4 && f->n < 126) || (head == 10 && f->n < 65536))
		fail_msg("%zu bytes in a head of %zu", f->n, head);
	return head;
}

/* Takes the next frame that is whole off the wire.  0: there is none. */
static int
frame_next(struct frame *f, int masked)
{
	unsigned char *p = wire.p + wire.at;
	size_t left = wire.n - wire.at, head = frame_head(f, p, left), i;

	if (head == 0)
		return 0;
	if ((p[0] & 0xf0) != FIN || !(p[1] & 0x80) != !masked)
		fail_msg("a frame that begins with %02x %02x", p[0], p[1]);
	memset(f->key, 0, sizeof(f->key));
	if (masked && left >= head + 4)
		memcpy(f->key, p + head, 4);
	if (masked)
		head += 4;
	if (left < head || left - head < f->n)
		return 0;
	f->p = p + head;
	for (i = 0; i < f->n; i++)
		f->p[i] ^= f->key[i % 4];
	wire.at += head + f->n;
	return 1;
}

/* Appends "opcode:payload". */
static void
frame_print(char *dst, size_t size, const struct frame *f)
{
	static const char *const names[16] = {
		[WS_TEXT] = "text", [WS_BINARY] = "binary",
		[WS_CLOSE] = "close", [WS_PING] = "ping", [WS_PONG] = "pong"
	};
	size_t n = strlen(dst);

	if (names[f->opcode] == NULL)
		fail_msg("a frame with opcode %u", f->opcode);
	if (n > 0)
		n += (size_t)snprintf(dst + n, size - n, " ");
	if (f->opcode == WS_CLOSE && f->n >= 2)
		snprintf(dst + n, size - n, "close:%u",
		    (unsigned)f->p[0] << 8 | f->p[1]);
	else
		snprintf(dst + n, size - n, "%s:%.*s", names[f->opcode],
		    (int)f->n, (const char *)f->p);
}

/* Exactly these frames have left the end, and no part of another. */
static void
says(const struct side *s, const char *want)
{
	char got[1024] = "";
	struct frame f;

	wire.at = wire.n = 0;
	wire_read(s->fd);
	while (frame_next(&f, s->masks))
		frame_print(got, sizeof(got), &f);
	if (strcmp(got, want) != 0)
		fail_msg("'%s', not '%s'", got, want);
	if (wire.at != wire.n)
		fail_msg("%zu bytes behind '%s'", wire.n - wire.at, want);
}

/* The bytes of a frame that the other side sends; how many. */
static size_t
frame_make(unsigned char *dst, int masked, unsigned first, const void *p,
    size_t n)
{
	static const unsigned char key[4] = { 0x37, 0xfa, 0x21, 0x3d };
	size_t head = 2, i;

	dst[0] = (unsigned char)first;
	if (n < 126)
		dst[1] = (unsigned char)n;
	else {
		assert_true(n < 65536);
		dst[1] = 126;
		dst[2] = (unsigned char)(n >> 8);
		dst[3] = (unsigned char)n;
		head = 4;
	}
	if (masked) {
		dst[1] |= 0x80;
		memcpy(dst + head, key, 4);
		head += 4;
	}
	for (i = 0; i < n; i++)
		dst[head + i] = ((const unsigned char *)p)[i] ^
		    (unsigned char)(masked ? key[i % 4] : 0);
	return head + n;
}

static void
put_n(int fd, const void *p, size_t n)
{
	ok(write(fd, p, n) == (ssize_t)n, "write");
}

/* The other side sends one frame, the first byte of which is given. */
static void
say(const struct side *s, unsigned first, const char *text)
{
	unsigned char frame[512];

	put_n(s->fd, frame, frame_make(frame, !s->masks, first, text,
	    strlen(text)));
}

static void
say_close(const struct side *s, unsigned code)
{
	unsigned char frame[16], p[2];

	p[0] = (unsigned char)(code >> 8);
	p[1] = (unsigned char)code;
	put_n(s->fd, frame, frame_make(frame, !s->masks, FIN | WS_CLOSE, p,
	    code == WS_NO_CODE ? 0 : 2));
}

/* It sends a frame of so many bytes of the pattern. */
static void
say_pattern(const struct side *s, size_t n)
{
	static unsigned char p[CHUNK], frame[CHUNK + WS_HEAD_MAX];
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (unsigned char)pattern(i);
	put_n(s->fd, frame, frame_make(frame, !s->masks, FIN | WS_BINARY, p,
	    n));
}

/*
 * Reads frames: the data are the pattern from *at on, the others are
 * appended to text, each with how much data had come before it.
 */
static void
frames_drain(const struct side *s, uint64_t *at, char *text, size_t size)
{
	struct frame f;
	size_t i, n;

	wire_read(s->fd);
	while (frame_next(&f, s->masks)) {
		if (f.opcode != WS_BINARY) {
			frame_print(text, size, &f);
			n = strlen(text);
			snprintf(text + n, size - n, "@%llu",
			    (unsigned long long)*at);
			continue;
		}
		assert_true(f.n > 0 && f.n <= CHUNK);
		for (i = 0; i < f.n; i++, ++*at)
			if (f.p[i] != pattern(*at))
				fail_msg("byte %llu is wrong",
				    (unsigned long long)*at);
	}
}

/* The far side sends until the near end takes no more. */
static void
stuff(uint64_t *sent)
{
	int i;

	wire.at = wire.n = 0;
	small_buffer(near.e.wfd);
	for (i = 0; pour(far.fd, sent) > 0 || end_hungry(&far.e); i++) {
		if (i == 1000)
			fail_msg("%llu bytes, and no stall",
			    (unsigned long long)*sent);
		assert_int_equal(end_hungry(&far.e), !end_owed(&near.e));
		turn(0);
		assert_true(near.e.out.len <= CHUNK + WS_HEAD_MAX);
	}
	assert_true(near.e.out.len > 0);
}

/* And reads all of that again. */
static void
unstuff(uint64_t sent, uint64_t *arrived, char *text, size_t size)
{
	int i;

	for (i = 0; *arrived < sent || near.e.out.len > 0; i++) {
		if (i == 10000)
			fail_msg("%llu of %llu bytes arrive",
			    (unsigned long long)*arrived,
			    (unsigned long long)sent);
		frames_drain(&near, arrived, text, size);
		turn(0);
	}
	settle();
	frames_drain(&near, arrived, text, size);
	if (wire.at != wire.n)
		fail_msg("%zu bytes of a frame", wire.n - wire.at);
}

/* One frame goes to the far side, which does not read. */
static size_t
block_far(void)
{
	small_buffer(far.e.wfd);
	say_pattern(&near, 60000);
	settle();
	assert_true(end_owed(&far.e));
	assert_int_equal(end_hungry(&near.e), 0);
	return 60000;
}

static void
unblock_far(size_t n)
{
	uint64_t arrived = 0;
	int i;

	for (i = 0; arrived < n; i++) {
		if (i == 1000)
			fail_msg("%llu of %zu bytes arrive",
			    (unsigned long long)arrived, n);
		drain(far.fd, &arrived);
		settle();
	}
}

/* So many tunnels have ended in order, and none broke. */
static void
done(int n)
{
	if (near.done + far.done != n || near.broken + far.broken > 0)
		fail_msg("done %d, not %d, broken %d (%s%s)",
		    near.done + far.done, n, near.broken + far.broken,
		    near.why, far.why);
}

/* The near end broke so, and that is what its other side got to hear. */
static void
broke(int error, const char *why, const char *said)
{
	if (near.broken != 1 || near.done + far.done > 0)
		fail_msg("broken %d, done %d, and not: %s", near.broken,
		    near.done + far.done, why);
	assert_string_equal(near.why, why);
	assert_int_equal(near.e.error, error);
	says(&near, said);
	get_end(near.fd);
}

/* ---- WebSockets: frames ------------------------------------------------ */

static void
frames_flow(int masks)
{
	ws_open(masks, WS_ENDS);
	says(&near, "");
	say(&near, FIN | WS_BINARY, "up");
	put(far.fd, "down!");
	settle();
	get(far.fd, "up");
	says(&near, "binary:down!");
	/* Fragments, and an empty frame, with a Ping among them. */
	say(&near, WS_BINARY, "a");
	say(&near, FIN | WS_PING, "?");
	say(&near, WS_CONTINUATION, "b");
	say(&near, FIN | WS_CONTINUATION, "");
	say(&near, FIN | WS_BINARY, "c");
	settle();
	get(far.fd, "abc");
	says(&near, "pong:?");
	/* Payload is what counts. */
	assert_int_equal(near.e.got, 5);
	assert_int_equal(far.e.got, 5);
	assert_null(near.e.in.p);
	assert_null(near.e.out.p);
	told(&near, 0, 0, 0);
	told(&far, 0, 0, 0);
	sides_close();
}

static void
test_ws_flow(void **state)
{
	(void)state;
	frames_flow(0);
	frames_flow(1);
}

/* Every byte comes alone. */
static void
test_ws_bytes(void **state)
{
	unsigned char bytes[300];
	char text[201];
	size_t n, i;

	(void)state;
	memset(text, 'x', 200);
	text[200] = '\0';
	ws_open(0, WS_ENDS);
	n = frame_make(bytes, 1, FIN | WS_BINARY, text, 200);
	n += frame_make(bytes + n, 1, FIN | WS_PING, "p", 1);
	n += frame_make(bytes + n, 1, FIN | WS_TEXT, "end", 3);
	for (i = 0; i < n; i++) {
		put_n(near.fd, bytes + i, 1);
		settle();
		assert_int_equal(near.e.eof, i == n - 1);
	}
	get(far.fd, text);
	get_end(far.fd);
	says(&near, "pong:p");
	sides_close();
}

/* RFC 6455, 5.3: a client's frames are masked, each with a key of its own. */
static void
test_ws_masks(void **state)
{
	unsigned char keys[12][4];
	struct frame f;
	int i, k, n = 0;

	(void)state;
	ws_open(1, WS_ENDS);
	for (i = 0; i < 8; i++) {
		put(far.fd, "the same");
		settle();
	}
	end_send(&near.e, "the same", 8);
	end_ping(&near.e);
	shutdown(far.fd, SHUT_WR);
	settle();
	wire.at = wire.n = 0;
	wire_read(near.fd);
	while (frame_next(&f, 1)) {
		assert_true(n < 12);
		memcpy(keys[n++], f.key, 4);
		if (f.opcode == WS_BINARY)
			assert_true(f.n == 8 &&
			    memcmp(f.p, "the same", 8) == 0);
		else if (f.opcode == WS_TEXT)
			assert_memory_equal(f.p, "end", 3);
	}
	assert_int_equal(n, 11);
	for (i = 0; i < n; i++)
		for (k = 0; k < i; k++)
			assert_memory_not_equal(keys[i], keys[k], 4);
	sides_close();
}

/* Every form of a length, and what is too long for a frame is two. */
static void
test_ws_lengths(void **state)
{
	static const size_t lengths[] = {
		1, 125, 126, 65535, 65536, 65537, 70000
	};
	static unsigned char p[70000];
	uint64_t arrived = 0;
	char text[64];
	size_t i, k;

	(void)state;
	for (i = 0; i < 2 * COUNT(lengths); i++) {
		now = 1000;
		side_ws(&near, i % 2, WS_ENDS);
		for (k = 0; k < lengths[i / 2]; k++)
			p[k] = (unsigned char)pattern(k);
		end_send(&near.e, p, lengths[i / 2]);
		text[0] = '\0';
		arrived = 0;
		wire.at = wire.n = 0;
		frames_drain(&near, &arrived, text, sizeof(text));
		assert_int_equal(arrived, lengths[i / 2]);
		assert_true(wire.at == wire.n && near.e.out.len == 0);
		assert_string_equal(text, "");
		/* The caller's bytes are its own. */
		for (k = 0; k < lengths[i / 2]; k++)
			assert_int_equal(p[k], pattern(k));
		side_close(&near);
	}
}

/* ---- WebSockets: silence ----------------------------------------------- */

static void
silence(int masks)
{
	ws_open(masks, WS_ENDS);
	end_pulse(&near.e, 20, 30);
	assert_int_equal(end_alive(&near.e), 1);
	clock_at(1019);
	says(&near, "");
	clock_at(1020);
	says(&near, "ping:");
	assert_int_equal(end_alive(&near.e), 0);
	clock_at(1049);
	settle();
	says(&near, "");
	told(&near, 0, 0, 0);
	clock_at(1050);
	broke(ETIMEDOUT, "no answer to a Ping", "close:1011");
	told(&far, 0, 0, 0);
	sides_close();
}

static void
test_ws_silence(void **state)
{
	(void)state;
	silence(0);
	silence(1);
}

/* Any byte is life, an answer to the Ping or not. */
static void
test_ws_life(void **state)
{
	static const struct { const char *bytes; const char *says; } rows[] = {
		{ "\x8a\x80" "mask", "" },	/* a Pong */
		{ "\x89\x81" "mask" "\x0c", "pong:a" },
		{ "\x82\x81" "mask" "\x0c", "" },
		{ "\x82", "" }, { "\x81\x83" "mask", "" },
		{ "\x82\x85" "mask" "\x0c", "" },
		{ "\x81\x83" "mask" "\x08\x0f\x17", "" },	/* "end" */
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		ws_open(0, WS_ENDS);
		end_pulse(&near.e, 20, 20);
		clock_at(1020);
		says(&near, "ping:");
		now = 1039;
		put(near.fd, rows[i].bytes);
		settle();
		says(&near, rows[i].says);
		assert_int_equal(end_heard(&near.e), 1039);
		clock_at(1040);
		clock_at(1058);
		says(&near, "");
		clock_at(1059);
		says(&near, "ping:");
		clock_at(1078);
		told(&near, 0, 0, 0);
		clock_at(1079);
		told(&near, 0, 0, 1);
		sides_close();
	}
}

/* What comes before the quiet is over puts the Ping off; what leaves, not. */
static void
test_ws_quiet(void **state)
{
	(void)state;
	ws_open(0, WS_ENDS);
	end_pulse(&near.e, 20, 20);
	now = 1015;
	put(far.fd, "down");
	settle();
	says(&near, "binary:down");
	now = 1018;
	say(&near, FIN | WS_BINARY, "up");
	settle();
	clock_at(1020);
	clock_at(1037);
	says(&near, "");
	now = 1037;
	put(far.fd, "down");
	settle();
	says(&near, "binary:down");
	clock_at(1038);
	says(&near, "ping:");
	sides_close();
}

/* Asked when its owner wants to know, and the owner is told of the answer. */
static void
test_ws_ping(void **state)
{
	(void)state;
	now = 1000;
	side_ws(&near, 0, WS_ENDS);
	end_pulse(&near.e, 500, 20);
	now = 1100;
	assert_int_equal(end_heard(&near.e), 1000);
	end_ping(&near.e);
	says(&near, "ping:");
	now = 1110;
	end_ping(&near.e);			/* one is open */
	says(&near, "");
	clock_at(1119);
	told(&near, 0, 0, 0);
	assert_int_equal(end_alive(&near.e), 0);
	say(&near, FIN | WS_PONG, "");
	settle();
	told(&near, 1, 0, 0);
	assert_int_equal(end_alive(&near.e), 1);
	assert_int_equal(end_heard(&near.e), 1119);
	say(&near, FIN | WS_PONG, "unasked");
	settle();
	told(&near, 1, 0, 0);
	clock_at(1618);
	says(&near, "");
	clock_at(1619);
	says(&near, "ping:");
	now = 1630;
	end_ping(&near.e);			/* its time is not put off */
	clock_at(1639);
	told(&near, 1, 0, 1);
	assert_int_equal(near.e.error, ETIMEDOUT);
	side_close(&near);
	now = 1000;
	side_ws(&near, 0, WS_ENDS);
	end_pulse(&near.e, 500, 20);
	end_ping(&near.e);
	clock_at(1019);
	told(&near, 0, 0, 0);
	clock_at(1020);
	told(&near, 0, 0, 1);
	side_close(&near);
}

/* A pulse of the owner's own begins when it says so. */
static void
test_ws_pulse(void **state)
{
	(void)state;
	now = 1000;
	side_ws(&near, 0, WS_ENDS);
	clock_at(1000 + WS_QUIET_MS - 1);
	says(&near, "");
	clock_at(1000 + WS_QUIET_MS);
	says(&near, "ping:");
	say(&near, FIN | WS_PONG, "");
	settle();
	end_pulse(&near.e, 100, 20);
	clock_at(1100 + WS_QUIET_MS);
	says(&near, "ping:");
	clock_at(1120 + WS_QUIET_MS);
	told(&near, 1, 0, 1);
	side_close(&near);
}

/* What is not yet asked for, or is on the way, is no idle WebSocket. */
static void
test_ws_alive(void **state)
{
	static const struct { const char *bytes; int alive; } rows[] = {
		{ "", 1 }, { "\x8a\x80" "mask", 1 }, { "\x89\x80" "mask", 1 },
		{ "\x82\x80" "mask", 1 },
		{ "\x82", 0 }, { "\x8a\x80" "mas", 0 },
		{ "\x02\x80" "mask", 0 },		/* more is to come */
		{ "\x82\x81" "mask" "\x0c", 0 },
		{ "\x81\x83" "mask" "\x08\x0f\x17", 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		now = 1000;
		side_ws(&near, 0, WS_ENDS);
		put(near.fd, rows[i].bytes);
		settle();
		if (end_alive(&near.e) != rows[i].alive)
			fail_msg("row %zu: %d", i, end_alive(&near.e));
		side_close(&near);
	}
	side_ws(&near, 0, WS_ENDS);
	assert_int_equal(buf_put(&near.e.out, "x", 1), 0);
	assert_int_equal(end_alive(&near.e), 0);
	buf_take(&near.e.out, 1);
	near.e.error = EPIPE;
	assert_int_equal(end_alive(&near.e), 0);
	side_close(&near);
}

/*
 * While it does not read no answer could be heard: it says that it lives
 * (5.5.3), and counts anew when it reads again.
 */
static void
stalled_clock(int masks)
{
	size_t n;
	int i;

	ws_open(masks, WS_ENDS);
	end_pulse(&near.e, 20, 20);
	now = 1004;
	n = block_far();
	clock_at(1013);
	says(&near, "");
	for (i = 0; i < 10; i++) {
		clock_at(1014 + 10 * i);
		says(&near, "pong:");
		clock_at(1023 + 10 * i);
		says(&near, "");
	}
	clock_at(1114);
	says(&near, "pong:");
	unblock_far(n);
	clock_at(1133);
	says(&near, "");
	clock_at(1134);
	says(&near, "ping:");
	clock_at(1153);
	told(&near, 0, 0, 0);
	clock_at(1154);
	broke(ETIMEDOUT, "no answer to a Ping", "close:1011");
	sides_close();
}

static void
test_ws_stalled_clock(void **state)
{
	(void)state;
	stalled_clock(0);
	stalled_clock(1);
}

/* A stall that is short costs no Pong, and no Ping before its time. */
static void
test_ws_stalled_short(void **state)
{
	size_t n;

	(void)state;
	ws_open(0, WS_ENDS);
	end_pulse(&near.e, 20, 20);
	now = 1018;
	n = block_far();
	clock_at(1019);
	unblock_far(n);
	clock_at(1037);
	says(&near, "");
	clock_at(1038);
	says(&near, "ping:");
	/* What stalls it was heard: the Ping is answered. */
	now = 1057;
	n = block_far();
	clock_at(1058);
	clock_at(1066);
	told(&near, 0, 0, 0);
	unblock_far(n);
	clock_at(1076);
	told(&near, 0, 0, 0);
	says(&near, "pong:");
	sides_close();
}

/* An end that nobody takes anything from yet does not read either. */
static void
test_ws_stalled_unlinked(void **state)
{
	uint64_t none = 0;
	char text[512] = "";
	int i;

	(void)state;
	now = 1000;
	side_ws(&near, 0, WS_ENDS);
	end_pulse(&near.e, 20, 20);
	say_pattern(&near, INPUT_MAX + 1000);
	settle();
	assert_int_equal(end_hungry(&near.e), 0);
	assert_int_equal(near.e.in.len, INPUT_MAX);
	for (i = 1; i < 100; i++)
		clock_at(1000 + i);
	told(&near, near.input, 0, 0);
	wire.at = wire.n = 0;
	frames_drain(&near, &none, text, sizeof(text));
	assert_non_null(strstr(text, "pong:"));
	assert_null(strstr(text, "ping:"));
	buf_take(&near.e.in, INPUT_MAX);
	settle();
	assert_int_equal(near.e.in.len, 1000);
	side_close(&near);
}

/* Neither side reads: of what has to be said once, one waits, not hundreds. */
static void
test_ws_stalled_both(void **state)
{
	uint64_t sent = 0, arrived = 0;
	char text[256] = "";
	unsigned owed;
	size_t n;
	int i;

	(void)state;
	ws_open(0, WS_ENDS);
	end_pulse(&near.e, 20, 20);
	stuff(&sent);
	n = block_far();
	owed = near.e.out.len;
	for (i = 1; i <= 100; i++)
		clock_at(1000 + 10 * i);
	told(&near, 0, 0, 0);
	if (near.e.out.len > owed + 2)
		fail_msg("%u bytes wait, %u before", near.e.out.len, owed);
	unstuff(sent, &arrived, text, sizeof(text));
	unblock_far(n);
	told(&near, 0, 0, 0);
	sides_close();
}

/* The time for an answer begins when the Ping has left. */
static void
test_ws_ping_owed(void **state)
{
	uint64_t sent = 0, arrived = 0;
	char text[64] = "";

	(void)state;
	ws_open(0, WS_ENDS);
	end_pulse(&near.e, 20, 20);
	stuff(&sent);
	clock_at(1020);
	clock_at(1039);
	clock_at(1040);
	told(&near, 0, 0, 0);
	clock_at(1060);
	told(&near, 0, 0, 0);
	unstuff(sent, &arrived, text, sizeof(text));
	assert_int_equal(strncmp(text, "ping:", 5), 0);
	clock_at(1079);
	told(&near, 0, 0, 0);
	clock_at(1080);
	clock_at(1100);
	told(&near, 0, 0, 1);
	sides_close();
}

/* ---- WebSockets: Pongs ------------------------------------------------- */

/* Several Pings while a frame is leaving: the last is answered behind it. */
static void
pong_waits(int masks)
{
	uint64_t sent = 0, arrived = 0, got;
	char text[64] = "", want[64];

	ws_open(masks, WS_ENDS);
	stuff(&sent);
	got = far.e.got;
	say(&near, FIN | WS_PING, "first");
	settle();
	say(&near, FIN | WS_PING, "");
	say(&near, FIN | WS_PING, "last");
	say(&near, FIN | WS_BINARY, "data");
	settle();
	get(far.fd, "data");
	assert_int_equal(far.e.got, got);
	unstuff(sent, &arrived, text, sizeof(text));
	assert_int_equal(arrived, sent);
	assert_true(got < sent);
	snprintf(want, sizeof(want), "pong:last@%llu",
	    (unsigned long long)got);
	assert_string_equal(text, want);
	sides_close();
}

static void
test_ws_pong_waits(void **state)
{
	(void)state;
	pong_waits(0);
	pong_waits(1);
}

static void
test_ws_pong(void **state)
{
	char text[WS_CONTROL_MAX + 1], want[WS_CONTROL_MAX + 6];

	(void)state;
	memset(text, 'p', WS_CONTROL_MAX);
	text[WS_CONTROL_MAX] = '\0';
	snprintf(want, sizeof(want), "pong:%s", text);
	now = 1000;
	side_ws(&near, 0, WS_ENDS);
	say(&near, FIN | WS_PING, text);
	settle();
	says(&near, want);
	say(&near, FIN | WS_PING, "");
	settle();
	says(&near, "pong:");
	/* Two that come at once are answered by one (5.5.3). */
	say(&near, FIN | WS_PING, "1");
	say(&near, FIN | WS_PING, "2");
	settle();
	says(&near, "pong:2");
	told(&near, 0, 0, 0);
	side_close(&near);
	/* Behind its own `end' and the other's they go on, behind Close not. */
	ws_open(0, WS_ENDS);
	say(&near, FIN | WS_TEXT, "end");
	say(&near, FIN | WS_PING, "a");
	settle();
	says(&near, "pong:a");
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "text:end close:1000");
	say(&near, FIN | WS_PING, "b");
	settle();
	says(&near, "");
	sides_close();
	ws_open(0, WS_ENDS);
	shutdown(far.fd, SHUT_WR);
	settle();
	say(&near, FIN | WS_PING, "c");
	settle();
	says(&near, "text:end pong:c");
	sides_close();
}

/* ---- WebSockets: how a direction's end is said ------------------------- */

/* Both sides have said Close: the server ends TCP, the client waits for it. */
static void
closed(int masks)
{
	done(!masks);
	if (masks) {
		assert_int_equal(shutdown(near.fd, SHUT_WR), 0);
		settle();
		done(1);
	}
	says(&near, "");
	get_end(near.fd);
	sides_close();
}

static void
ends_theirs(int masks)
{
	ws_open(masks, WS_ENDS);
	say(&near, FIN | WS_BINARY, "last words");
	say(&near, FIN | WS_TEXT, "end");
	settle();
	get(far.fd, "last words");
	get_end(far.fd);
	says(&near, "");
	put(far.fd, "one");
	settle();
	put(far.fd, "two");
	settle();
	says(&near, "binary:one binary:two");
	put(far.fd, "last");
	shutdown(far.fd, SHUT_WR);
	settle();
	/* Who has said and heard it says Close at once. */
	says(&near, "binary:last text:end close:1000");
	done(0);
	say_close(&near, WS_NORMAL);
	settle();
	closed(masks);
}

static void
ends_ours(int masks)
{
	ws_open(masks, WS_ENDS);
	put(far.fd, "last words");
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "binary:last words text:end");
	assert_int_equal(turn(0), 0);
	say(&near, FIN | WS_BINARY, "one");
	settle();
	get(far.fd, "one");
	/* In fragments, with a Ping between them. */
	say(&near, WS_TEXT, "e");
	say(&near, FIN | WS_PING, "");
	say(&near, FIN | WS_CONTINUATION, "nd");
	settle();
	get_end(far.fd);
	says(&near, "pong: close:1000");
	done(0);
	say_close(&near, WS_NORMAL);
	settle();
	closed(masks);
}

/* Both say it before they hear of the other's; what each says is asked for. */
static void
ends_crossing(int masks, int close_too)
{
	ws_open(masks, WS_ENDS);
	shutdown(far.fd, SHUT_WR);
	if (close_too)
		settle();
	say(&near, FIN | WS_TEXT, "end");
	if (close_too)
		say_close(&near, WS_NORMAL);
	settle();
	get_end(far.fd);
	says(&near, "text:end close:1000");
	if (!close_too) {
		done(0);
		say_close(&near, WS_NORMAL);
		settle();
	}
	closed(masks);
}

static void
test_ws_ends(void **state)
{
	int masks;

	(void)state;
	for (masks = 0; masks <= 1; masks++) {
		ends_theirs(masks);
		ends_ours(masks);
		ends_crossing(masks, 0);
		ends_crossing(masks, 1);
	}
}

/* All was said before: that nobody says how it ended is no loss. */
static void
test_ws_ends_codes(void **state)
{
	static const unsigned codes[] = { WS_NO_CODE, WS_AWAY };
	size_t i;
	int masks;

	(void)state;
	for (i = 0; i < 2 * COUNT(codes); i++) {
		masks = i & 1;
		ws_open(masks, WS_ENDS);
		shutdown(far.fd, SHUT_WR);
		settle();
		says(&near, "text:end");
		say(&near, FIN | WS_BINARY, "last");
		say(&near, FIN | WS_TEXT, "end");
		say_close(&near, codes[i / 2]);
		settle();
		get(far.fd, "last");
		get_end(far.fd);
		says(&near, "close:1000");
		closed(masks);
	}
}

/* The end of TCP comes with the other side's Close. */
static void
test_ws_ends_tcp(void **state)
{
	int masks;

	(void)state;
	for (masks = 0; masks <= 1; masks++) {
		ws_open(masks, WS_ENDS);
		shutdown(far.fd, SHUT_WR);
		settle();
		say(&near, FIN | WS_TEXT, "end");
		say_close(&near, WS_NORMAL);
		shutdown(near.fd, SHUT_WR);
		settle();
		done(1);
		says(&near, "text:end close:1000");
		sides_close();
	}
}

/* The target takes its time: what it owes is delivered before all ends. */
static void
ends_owed(int masks)
{
	size_t n;

	ws_open(masks, WS_ENDS);
	n = block_far();
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "text:end");
	say(&near, FIN | WS_TEXT, "end");
	say_close(&near, WS_NORMAL);
	shutdown(near.fd, SHUT_WR);
	settle();
	done(0);
	clock_at(1000 + LINGER_SECS * 1000);
	done(0);
	unblock_far(n);
	get_end(far.fd);
	done(1);
	says(&near, "pong: close:1000");
	get_end(near.fd);
	sides_close();
}

static void
test_ws_ends_owed(void **state)
{
	uint64_t sent = 0, arrived = 0;
	char text[64] = "", want[64];

	(void)state;
	ends_owed(0);
	ends_owed(1);
	/* And ours comes behind all data. */
	ws_open(0, WS_ENDS);
	say(&near, FIN | WS_TEXT, "end");
	settle();
	stuff(&sent);
	shutdown(far.fd, SHUT_WR);
	settle();
	unstuff(sent, &arrived, text, sizeof(text));
	snprintf(want, sizeof(want), "text:end@%llu close:1000@%llu",
	    (unsigned long long)sent, (unsigned long long)sent);
	assert_string_equal(text, want);
	done(0);
	say_close(&near, WS_NORMAL);
	settle();
	closed(0);
}

/* Both are agreed, and nothing more comes: two seconds, and no more. */
static void
lingers(int masks, int close_came)
{
	const int64_t due = 1000 + LINGER_SECS * 1000;

	ws_open(masks, WS_ENDS);
	shutdown(far.fd, SHUT_WR);
	say(&near, FIN | WS_TEXT, "end");
	if (close_came)
		settle();
	if (close_came)
		say_close(&near, WS_NORMAL);
	settle();
	says(&near, "text:end close:1000");
	clock_at(due - 1);
	done(0);
	says(&near, "");
	clock_at(due);
	done(1);
	says(&near, "");		/* once is enough */
	get_end(near.fd);
	sides_close();
}

static void
test_ws_linger(void **state)
{
	(void)state;
	lingers(0, 0);
	lingers(1, 0);
	lingers(1, 1);
}

/* What comes behind a Close means nothing, and puts nothing off. */
static void
test_ws_linger_noise(void **state)
{
	int i;

	(void)state;
	ws_open(1, WS_ENDS);
	shutdown(far.fd, SHUT_WR);
	settle();
	say(&near, FIN | WS_TEXT, "end");
	say_close(&near, WS_NORMAL);
	settle();
	for (i = 1; i < 4; i++) {
		clock_at(1000 + 500 * i);
		put(near.fd, "noise");
		say_close(&near, WS_BROKEN);
		settle();
		done(0);
	}
	clock_at(1000 + LINGER_SECS * 1000);
	done(1);
	says(&near, "text:end close:1000");
	sides_close();
}

/* Both have said `end', and we Close; it is 1000. */
static void
ws_close_said(int masks)
{
	ws_open(masks, WS_ENDS);
	put(far.fd, "last words");
	shutdown(far.fd, SHUT_WR);
	say(&near, FIN | WS_TEXT, "end");
	settle();
	done(0);
}

static void
close_comes(int masks)
{
	done(0);
	says(&near, "binary:last words text:end close:1000");
	say_close(&near, WS_NORMAL);
	settle();
	closed(masks);
}

#ifdef TIOCOUTQ
/*
 * The other side has not taken all yet: it has until it is silent for as long
 * as it may be, and two seconds when it has.
 */
static void
unread(int masks)
{
	const int64_t most = 1000 + 2 * WS_QUIET_MS;
	int64_t at;

	ws_close_said(masks);
	for (at = 1000; at < most; at += LINGER_SECS * 1000) {
		clock_at(at);
		done(0);
	}
	close_comes(masks);
	ws_close_said(masks);
	clock_at(most - 1);
	done(0);
	says(&near, "binary:last words text:end close:1000");
	clock_at(most - 1 + LINGER_SECS * 1000);
	done(0);
	clock_at(most - 1 + 2 * LINGER_SECS * 1000);
	done(1);
	sides_close();
	ws_close_said(masks);
	clock_at(most - 1);
	clock_at(most);
	broke(ETIMEDOUT, "no answer to the Close",
	    "binary:last words text:end close:1000");
	sides_close();
}
#endif

/* It has, but is not done with it, and says so. */
static void
signs(int masks)
{
	int64_t at;

	ws_close_said(masks);
	says(&near, "binary:last words text:end close:1000");
	for (at = 1000; at < 200000; at += WS_QUIET_MS) {
		clock_at(at + 1000);
		say(&near, FIN | WS_PONG, "");
		settle();
		clock_at(at + 1000 + LINGER_SECS * 1000);
		done(0);
	}
	if (masks) {
		say_close(&near, WS_NORMAL);
		settle();
		closed(masks);
		return;
	}
	clock_at(at - WS_QUIET_MS + 1000 + 2 * WS_QUIET_MS - 1);
	done(0);
	clock_at(at - WS_QUIET_MS + 1000 + 2 * WS_QUIET_MS);
	broke(ETIMEDOUT, "no answer to the Close", "");
	sides_close();
}

/* What somebody before it has taken may not be there yet. */
static void
held_on_the_way(int masks)
{
	ws_close_said(masks);
	near.e.indirect = 1;
	says(&near, "binary:last words text:end close:1000");
	clock_at(1000 + LINGER_SECS * 1000);
	clock_at(1000 + 2 * WS_QUIET_MS - 1);
	done(0);
	if (masks) {
		say_close(&near, WS_NORMAL);
		settle();
		closed(masks);
		return;
	}
	clock_at(1000 + 2 * WS_QUIET_MS);
	broke(ETIMEDOUT, "no answer to the Close", "");
	sides_close();
}

static void
test_ws_linger_stalled(void **state)
{
	int masks;

	(void)state;
	for (masks = 0; masks <= 1; masks++) {
#ifdef TIOCOUTQ
		unread(masks);
#endif
		signs(masks);
		held_on_the_way(masks);
	}
}

/* Who has said `end' says within a second that it is stalled, or still reads. */
static void
gives_signs(int masks, int before)
{
	size_t n = 0;
	int i;

	ws_open(masks, WS_ENDS);
	if (before)
		n = block_far();
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "text:end");
	if (!before)
		n = block_far();
	for (i = 1; i <= 5; i++) {
		clock_at(1000 + i * WS_SIGN_MS - 1);
		says(&near, "");
		clock_at(1000 + i * WS_SIGN_MS);
		says(&near, "pong:");
	}
	unblock_far(n);
	clock_at(now + WS_SIGN_MS);
	says(&near, "");
	clock_at(now + WS_QUIET_MS / 2);
	says(&near, "");
	say(&near, FIN | WS_BINARY, "slowly");
	settle();
	get(far.fd, "slowly");
	clock_at(now + WS_SIGN_MS - 1);
	say(&near, FIN | WS_BINARY, "slowly");
	settle();
	get(far.fd, "slowly");
	clock_at(now + 1);
	says(&near, "pong:");
	clock_at(now + WS_SIGN_MS);
	says(&near, "");
	sides_close();
}

static void
test_ws_signs(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < 4; i++)
		gives_signs(i & 1, i & 2);
}

/* Without `end': ours is a Close, and what still comes is delivered. */
static void
closes_ours(int masks, unsigned code)
{
	ws_open(masks, WS_CLOSES);
	put(far.fd, "last words");
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "binary:last words close:1000");
	clock_at(1000 + LINGER_SECS * 1000);
	done(0);
	say(&near, FIN | WS_BINARY, "one");
	settle();
	say(&near, FIN | WS_TEXT, "end");	/* text is data */
	settle();
	say(&near, WS_TEXT, "tw");
	say(&near, FIN | WS_CONTINUATION, "o");
	settle();
	get(far.fd, "oneendtwo");
	say_close(&near, code);
	settle();
	get_end(far.fd);
	says(&near, "");
	closed(masks);
}

static void
closes_theirs(int masks, unsigned code)
{
	ws_open(masks, WS_CLOSES);
	say(&near, FIN | WS_BINARY, "last");
	say_close(&near, code);
	settle();
	get(far.fd, "last");
	get_end(far.fd);
	says(&near, "close:1000");
	/* Nobody takes what the far side says now. */
	if (masks) {
		put(far.fd, "too late");
		settle();
		says(&near, "");
	}
	closed(masks);
}

static void
test_ws_closes(void **state)
{
	int masks;

	(void)state;
	for (masks = 0; masks <= 1; masks++) {
		closes_ours(masks, WS_NORMAL);
		closes_ours(masks, WS_NO_CODE);
		closes_theirs(masks, WS_NORMAL);
		closes_theirs(masks, WS_NO_CODE);
	}
}

/* Their Close while ours owes: all of it leaves, however long that takes. */
static void
closes_owed(int masks)
{
	uint64_t sent = 0, arrived = 0, got;
	char text[64] = "", want[64];

	ws_open(masks, WS_CLOSES);
	stuff(&sent);
	got = far.e.got;
	say_close(&near, WS_NORMAL);
	settle();
	get_end(far.fd);
	clock_at(1000 + LINGER_SECS * 1000);
	clock_at(1000 + LINGER_SECS * 2000);
	done(0);
	unstuff(got, &arrived, text, sizeof(text));
	snprintf(want, sizeof(want), "close:1000@%llu",
	    (unsigned long long)got);
	assert_string_equal(text, want);
	closed(masks);
}

static void
test_ws_closes_owed(void **state)
{
	(void)state;
	closes_owed(0);
	closes_owed(1);
}

/* Behind our Close nothing leaves, however slow the reader of theirs is. */
static void
test_ws_closes_stalled(void **state)
{
	size_t n;

	(void)state;
	ws_open(0, WS_CLOSES);
	end_pulse(&near.e, 20, 20);
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "close:1000");
	n = block_far();
	clock_at(1010);
	clock_at(1020);
	clock_at(1100);
	says(&near, "");
	unblock_far(n);
	clock_at(1200);
	says(&near, "");
	say_close(&near, WS_NORMAL);
	settle();
	closed(0);
}

/* Any other code, or no Close at all, is a loss. */
static void
test_ws_closes_broken(void **state)
{
	static const unsigned codes[] = { 1001, 1002, 1011, 3000, 4999 };
	char why[64];
	size_t i;
	int ours;

	(void)state;
	for (i = 0; i < 4 * (COUNT(codes) + 1); i++) {
		ours = i & 2;
		ws_open(i & 1, WS_CLOSES);
		if (ours) {
			shutdown(far.fd, SHUT_WR);
			settle();
			says(&near, "close:1000");
		}
		if (i / 4 < COUNT(codes)) {
			say_close(&near, codes[i / 4]);
			snprintf(why, sizeof(why),
			    "the WebSocket was closed (%u)", codes[i / 4]);
		} else {
			shutdown(near.fd, SHUT_WR);
			strcpy(why, "the WebSocket ended without a Close");
		}
		settle();
		get(far.fd, "");
		broke(ECONNABORTED, why, ours ? "" : "close:1011");
		sides_close();
	}
}

/* The plain bridge: the end of stdin is not said at all. */
static void
stays(unsigned code, int end)
{
	ws_open(1, WS_STAYS);
	put(far.fd, "last words");
	if (end)
		shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "binary:last words");
	clock_at(1000 + LINGER_SECS * 1000);
	say(&near, FIN | WS_TEXT, "an");
	say(&near, FIN | WS_BINARY, "swer");
	settle();
	get(far.fd, "answer");
	done(0);
	say_close(&near, code);
	settle();
	says(&near, "close:1000");
	get_end(far.fd);
	closed(1);
}

static void
test_ws_stays(void **state)
{
	(void)state;
	stays(WS_NORMAL, 0);
	stays(WS_NORMAL, 1);
	stays(WS_NO_CODE, 0);
	stays(WS_NO_CODE, 1);
	ws_open(1, WS_STAYS);
	shutdown(far.fd, SHUT_WR);
	settle();
	/* It is asked all the same whether it is there. */
	clock_at(1000 + WS_QUIET_MS);
	says(&near, "ping:");
	say_close(&near, 1001);
	settle();
	broke(ECONNABORTED, "the WebSocket was closed (1001)", "close:1011");
	sides_close();
}

static void
leaves(int masks, enum ws_ending ending, unsigned code)
{
	now = 1000;
	side_ws(&near, masks, ending);
	end_send(&near.e, "refused", 7);
	end_leave(&near.e);
	says(&near, "binary:refused close:1000");
	say(&near, FIN | WS_BINARY, "more");
	settle();
	assert_int_equal(near.e.in.len, 4);
	told(&near, 1, 0, 0);
	assert_int_equal(near.e.eof, 0);
	if (code == 0)
		clock_at(1000 + LINGER_SECS * 1000 - 1);
	told(&near, 1, 0, 0);
	if (code == 0)
		clock_at(1000 + LINGER_SECS * 1000);
	else
		say_close(&near, code);
	settle();
	assert_true(near.input > 1 && near.e.eof && near.e.finished);
	assert_int_equal(near.broken + near.done, 0);
	says(&near, "");
	end_close(&near.e);
	get_end(near.fd);
	side_close(&near);
}

static void
test_ws_leaves(void **state)
{
	uint64_t sent = 0, arrived = 0;
	char text[64] = "";

	(void)state;
	leaves(0, WS_ENDS, WS_NORMAL);
	leaves(1, WS_ENDS, 1001);
	leaves(0, WS_CLOSES, WS_NO_CODE);
	leaves(0, WS_ENDS, 0);
	leaves(1, WS_STAYS, 0);
	/* Behind what is owed, and once only. */
	ws_open(0, WS_ENDS);
	stuff(&sent);
	sent = far.e.got;
	end_close(&far.e);
	end_leave(&near.e);
	end_leave(&near.e);
	say_close(&near, 1001);
	settle();
	assert_int_equal(near.e.eof, 1);
	unstuff(sent, &arrived, text, sizeof(text));
	assert_int_equal(strncmp(text, "close:1000@", 11), 0);
	assert_null(strchr(text, ' '));
	assert_int_equal(near.broken, 0);
	sides_close();
	/* Of another end it is the end of TCP. */
	side_open(&near);
	end_send(&near.e, "refused", 7);
	end_leave(&near.e);
	get(near.fd, "refused");
	get_end(near.fd);
	side_close(&near);
}

/* Two of them, one behind the other. */
static void
chain_open(enum ws_ending ending)
{
	now = 1000;
	side_ws(&near, 0, ending);
	side_ws(&far, 1, WS_ENDS);
	end_link(&near.e, &far.e);
}

static void
test_ws_chain(void **state)
{
	(void)state;
	chain_open(WS_ENDS);
	say(&near, FIN | WS_BINARY, "up");
	say(&far, FIN | WS_BINARY, "down");
	settle();
	says(&far, "binary:up");
	says(&near, "binary:down");
	say(&near, FIN | WS_TEXT, "end");
	settle();
	says(&far, "text:end");
	say(&far, FIN | WS_BINARY, "last");
	say(&far, FIN | WS_TEXT, "end");
	say_close(&far, WS_NORMAL);
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&far, "close:1000");
	says(&near, "binary:last text:end close:1000");
	done(0);
	say_close(&near, WS_NORMAL);
	settle();
	done(1);
	sides_close();
}

/*
 * A client that says Close is not to be told more, but the way behind it
 * ends in order all the same.
 */
static void
test_ws_chain_closes(void **state)
{
	(void)state;
	chain_open(WS_CLOSES);
	say(&near, FIN | WS_BINARY, "last");
	say_close(&near, WS_NORMAL);
	settle();
	says(&near, "close:1000");
	says(&far, "binary:last text:end");
	say(&far, FIN | WS_BINARY, "not asked for");
	say(&far, FIN | WS_TEXT, "end");
	settle();
	say_close(&far, WS_NORMAL);
	shutdown(far.fd, SHUT_WR);
	settle();
	clock_at(1000 + LINGER_SECS * 1000);
	settle();
	clock_at(1000 + LINGER_SECS * 2000);
	done(1);
	sides_close();
}

/* ---- WebSockets: what breaks them -------------------------------------- */

struct bad {
	int		 masks;
	enum ws_ending	 ending;
	const char	*bytes;
	size_t		 n;
	unsigned	 code;
};

/* Frames that may not be, of a server where a 1 stands, else of a client. */
#define BAD(masks, ending, bytes, code) \
	{ masks, ending, bytes, sizeof(bytes) - 1, code }
static const struct bad bads[] = {
	BAD(0, WS_ENDS, "\x82\x01" "a", 1002),		/* not masked */
	BAD(1, WS_ENDS, "\x82\x81" "mask" "\x0c", 1002),
	BAD(1, WS_ENDS, "\xc2\x01" "a", 1002),		/* RSV1 */
	BAD(1, WS_ENDS, "\x83\x01" "a", 1002),
	BAD(1, WS_ENDS, "\x8b\x00", 1002),
	BAD(1, WS_ENDS, "\x80\x01" "a", 1002),		/* continues what? */
	BAD(1, WS_ENDS, "\x09\x01" "a", 1002),		/* a Ping cut in two */
	BAD(1, WS_ENDS, "\x89\x7e\x00\x7e", 1002),	/* or too long */
	BAD(1, WS_ENDS, "\x82\x7e\x00\x7d", 1002),
	BAD(1, WS_ENDS, "\x88\x01" "a", 1002),
	BAD(1, WS_ENDS, "\x88\x02\x03\xed", 1002),	/* 1005 */
	BAD(1, WS_ENDS, "\x88\x03\x03\xe8\xff", 1007),
	BAD(1, WS_ENDS, "\x81\x03" "END", 1002),
	BAD(1, WS_ENDS, "\x81\x04" "end!", 1002),
	BAD(1, WS_ENDS, "\x81\x02" "en", 1002),
	BAD(1, WS_ENDS, "\x81\x00", 1002),
	BAD(1, WS_ENDS, "\x81\x03" "end" "\x81\x03" "end", 1002),
	BAD(1, WS_ENDS, "\x81\x03" "end" "\x82\x01" "a", 1002),
	BAD(1, WS_CLOSES, "\x81\x02" "a\xff", 1007),
	BAD(1, WS_STAYS, "\x81\x01\xc3", 1007),
	BAD(1, WS_ENDS, "\x82\x7f\x00\x00\x00\x00\x04\x00\x00\x01", 1009),
};

/* The code is on the wire, behind all that was said, and in the reason. */
static void
test_ws_bad(void **state)
{
	char why[64], said[64];
	const struct bad *b;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(bads); i++) {
		b = &bads[i];
		ws_open(b->masks, b->ending);
		put(far.fd, "before");
		settle();
		put_n(near.fd, b->bytes, b->n);
		settle();
		snprintf(why, sizeof(why), "bad WebSocket frames (%u)",
		    b->code);
		snprintf(said, sizeof(said), "binary:before close:%u",
		    b->code);
		broke(EPROTO, why, said);
		told(&far, 0, 0, 0);
		sides_close();
	}
}

/* The end of TCP without a Close, wherever it comes. */
static void
test_ws_lost(void **state)
{
	static const struct { const char *bytes, *says; int eof; } rows[] = {
		{ "", "close:1011", 0 }, { "\x82", "close:1011", 0 },
		{ "\x82\x81" "mask" "\x0c", "close:1011", 0 },
		{ "\x82\x82" "mask" "\x0c", "close:1011", 0 },
		{ "\x81\x83" "mask" "\x08\x0f\x17", "close:1011", 1 },
		{ "\x88\x82" "mas", "close:1011", 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		ws_open(0, WS_ENDS);
		put(near.fd, rows[i].bytes);
		shutdown(near.fd, SHUT_WR);
		settle();
		broke(ECONNABORTED, "the WebSocket ended without a Close",
		    rows[i].says);
		if (rows[i].eof)
			get_end(far.fd);
		told(&far, 0, 0, 0);
		sides_close();
	}
	/* Both have said `end', but who ends TCP has not said Close. */
	ws_open(1, WS_ENDS);
	shutdown(far.fd, SHUT_WR);
	say(&near, FIN | WS_TEXT, "end");
	settle();
	shutdown(near.fd, SHUT_WR);
	settle();
	broke(ECONNABORTED, "the WebSocket ended without a Close",
	    "text:end close:1000");
	sides_close();
}

/* A Close before both directions have ended, and later one that is bad news. */
static void
test_ws_close_early(void **state)
{
	static const unsigned codes[] = { 1000, 1001, 1005, 1011 };
	char why[64];
	size_t i;
	int ours, theirs;

	(void)state;
	for (i = 0; i < 4 * COUNT(codes); i++) {
		ours = (i / COUNT(codes)) & 1;
		theirs = (i / COUNT(codes)) & 2;
		if (ours && theirs && codes[i % COUNT(codes)] == 1000)
			continue;
		if (ours && theirs && codes[i % COUNT(codes)] == 1005)
			continue;
		if (ours && theirs && codes[i % COUNT(codes)] == 1001)
			continue;		/* test_ws_ends_codes() */
		ws_open(0, WS_ENDS);
		if (ours)
			shutdown(far.fd, SHUT_WR);
		settle();
		if (theirs)
			say(&near, FIN | WS_TEXT, "end");
		say_close(&near, codes[i % COUNT(codes)]);
		settle();
		snprintf(why, sizeof(why), "the WebSocket was closed (%u)",
		    codes[i % COUNT(codes)]);
		broke(ECONNABORTED, why, ours && theirs ?
		    "text:end close:1000" : ours ? "text:end close:1011" :
		    "close:1011");
		told(&far, 0, 0, 0);
		sides_close();
	}
}

/* A way back to before a tunnel: the owner is told, and says Close itself. */
static void
test_ws_close_unlinked(void **state)
{
	(void)state;
	now = 1000;
	side_ws(&near, 0, WS_CLOSES);
	say_close(&near, WS_AWAY);
	settle();
	broke(ECONNABORTED, "the WebSocket was closed (1001)", "close:1011");
	side_close(&near);
	/* that is an end, too, of what is still to be asked for */
	side_ws(&near, 0, WS_CLOSES);
	say_close(&near, WS_NORMAL);
	settle();
	told(&near, 1, 0, 0);
	assert_int_equal(near.e.eof, 1);
	side_open(&far);
	far.e.steps = &ws_steps;
	end_link(&near.e, &far.e);
	settle();
	get_end(far.fd);
	says(&near, "close:1000");
	sides_close();
	side_ws(&near, 0, WS_ENDS);
	say(&near, FIN | WS_TEXT, "end");
	settle();
	told(&near, 1, 0, 0);
	assert_int_equal(near.e.eof, 1);
	shutdown(near.fd, SHUT_WR);
	settle();
	told(&near, 1, 0, 1);
	side_close(&near);
}

/* A way to be told that is not there. */
static void
test_ws_drop(void **state)
{
	(void)state;
	ws_open(0, WS_ENDS);
	end_close(&near.e);
	says(&near, "close:1000");
	get_end(near.fd);
	end_close(&near.e);
	sides_close();
	ws_open(1, WS_CLOSES);
	end_reset(&near.e);
	says(&near, "close:1011");
	get_end(near.fd);
	assert_int_equal(timers.next == &timers, 1);
	sides_close();
}

/* Exactly this is there, and then a reset (1) or an end in order. */
static void
tcp_ends(int fd, int reset)
{
	char c;
	ssize_t n;

	wait_readable(fd);
	n = read(fd, &c, 1);
	if (n == 1 || (n == 0) == reset ||
	    (n == -1 && errno != ECONNRESET))
		fail_msg("%s: %s", reset ? "no reset" : "no end in order",
		    n == 1 ? "a byte" : n == 0 ? "an end" : strerror(errno));
}

/* The same as above, over a TCP where it can be told. */
static void
tcp_open(int masks)
{
	int sv[2];

	now = 1000;
	tcp_pair(sv);
	ws_on(&near, sv, masks, WS_ENDS);
	side_open(&far);
	far.e.steps = &ws_steps;
	end_link(&near.e, &far.e);
}

/* As says(), but what it is may take its time. */
static void
tcp_says(const char *want)
{
	char got[256] = "";
	struct frame f;
	int i;

	wire.at = wire.n = 0;
	for (i = 0; i < 1000 && strlen(got) < strlen(want); i++) {
		wait_readable(near.fd);
		wire_read(near.fd);
		while (frame_next(&f, near.masks))
			frame_print(got, sizeof(got), &f);
	}
	assert_string_equal(got, want);
	assert_int_equal(wire.at, wire.n);
	if (wire.error != 0 && wire.error != EAGAIN)
		fail_msg("behind '%s': %s", want, strerror(wire.error));
}

static void
test_ws_drop_tcp(void **state)
{
	(void)state;
	tcp_open(0);			/* in order, though it broke */
	put(near.fd, "\x82\x01" "a");
	wait_readable(near.e.rfd);
	settle();
	tcp_says("close:1002");
	tcp_ends(near.fd, 0);
	sides_close();
	tcp_open(1);
	end_close(&near.e);
	tcp_says("close:1000");
	tcp_ends(near.fd, 0);
	sides_close();
	tcp_open(1);			/* it has said Close 1000 already */
	shutdown(far.fd, SHUT_WR);
	say(&near, FIN | WS_TEXT, "end");
	wait_readable(near.e.rfd);
	settle();
	tcp_says("text:end close:1000");
	end_reset(&near.e);
	tcp_ends(near.fd, 1);
	sides_close();
	tcp_open(1);
	shutdown(far.fd, SHUT_WR);
	say(&near, FIN | WS_TEXT, "end");
	wait_readable(near.e.rfd);
	settle();
	tcp_says("text:end close:1000");
	end_close(&near.e);
	tcp_ends(near.fd, 0);
	sides_close();
}

/* A frame that may not be comes, and nothing is sent before it is read. */
static void
end_garbage(struct end *e)
{
	put(near.fd, "\x82\x01" "a");
	wait_readable(e->rfd);
	end_ready(e, e->rfd, WANT_READ);
	told(&near, 0, 0, 1);
	assert_int_equal(e->error, EPROTO);
}

/* A frame that is not whole can be followed by nothing but a reset. */
static void
cut(void (*end)(struct end *))
{
	char half[16];

	tcp_open(0);
	near.e.carrier = &scripted;
	sends = "h";
	put(far.fd, "fourteen bytes");
	turn(0);
	assert_int_equal(near.e.out.len, 8);
	wait_readable(near.fd);
	assert_int_equal(read(near.fd, half, sizeof(half)), 8);
	end(&near.e);
	tcp_ends(near.fd, 1);
	sides_close();
}

static void
test_ws_cut(void **state)
{
	(void)state;
	cut(end_close);
	cut(end_reset);
	cut(end_garbage);
}

/* The other side hears why, and what it still says is read over. */
static void
on_ws_failed(void *owner, struct end *e)
{
	struct side *s = owner;

	s->failed += end_fail(e);
}

static const struct steps fail_steps = {
	on_input, on_over, on_sent, on_ws_done, on_ws_failed
};

static void
test_ws_fail(void **state)
{
	(void)state;
	ws_open(1, WS_ENDS);
	near.e.steps = &fail_steps;
	end_pulse(&near.e, 20, 20);
	say(&near, FIN | WS_BINARY, "up");
	settle();
	put_n(near.fd, "\x83\x00", 2);
	settle();
	assert_int_equal(near.failed, 1);
	assert_int_equal(near.e.error, 0);
	says(&near, "close:1002");
	get_end(near.fd);
	get(far.fd, "up");
	assert_null(near.e.peer);
	assert_null(far.e.peer);
	/* Not a word of it, and no beat of the pulse. */
	put(near.fd, "garbage");
	say(&near, FIN | WS_PING, "");
	settle();
	clock_at(2000);
	told(&near, 0, 0, 0);
	assert_int_equal(near.failed, 1);
	shutdown(near.fd, SHUT_WR);
	settle();
	told(&near, 1, 0, 0);
	assert_int_equal(near.e.eof, 1);
	assert_int_equal(near.e.in.len, 0);
	assert_int_equal(turn(0), 0);
	sides_close();
}

/* Where it is of no use. */
static void
test_ws_fail_not(void **state)
{
	uint64_t sent = 0;

	(void)state;
	side_open(&near);
	assert_int_equal(end_fail(&near.e), 0);
	put(near.e.wfd, "still open");
	get(near.fd, "still open");
	side_close(&near);
	ws_open(0, WS_CLOSES);
	shutdown(far.fd, SHUT_WR);
	settle();
	assert_int_equal(end_fail(&near.e), 0);
	says(&near, "close:1000");
	sides_close();
	ws_open(0, WS_ENDS);
	stuff(&sent);
	assert_int_equal(end_fail(&near.e), 0);
	sides_close();
	ws_open(0, WS_ENDS);
	assert_int_equal(end_fail(&near.e), 1);
	assert_int_equal(end_fail(&near.e), 0);
	says(&near, "close:1011");
	get_end(near.fd);
	sides_close();
	/* A Ping that is open then is of no interest any more. */
	ws_open(0, WS_ENDS);
	end_pulse(&near.e, 20, 20);
	clock_at(1020);
	assert_int_equal(end_fail(&near.e), 1);
	clock_at(1040);
	told(&near, 0, 0, 0);
	says(&near, "ping: close:1011");
	sides_close();
}

/* ---- WebSockets: sends that fail --------------------------------------- */

/* What came before is read; without an end of that the WebSocket is lost. */
static void
send_error(const char *script, int error)
{
	ws_open(0, WS_ENDS);
	near.e.carrier = &scripted;
	sends = script;
	say(&near, FIN | WS_BINARY, "up");
	put(far.fd, "down");
	settle();
	get(far.fd, "up");
	told(&near, 0, 0, 0);
	assert_int_equal(near.e.lost, 1);
	say(&near, FIN | WS_TEXT, "end");
	settle();
	get(far.fd, "");
	told(&near, 0, 0, 1);
	assert_int_equal(near.e.error, error);
	assert_string_equal(near.why, strerror(error));
	says(&near, "");		/* and no Close behind a gap */
	sides_close();
}

static void
test_ws_send_error(void **state)
{
	(void)state;
	send_error("r", ECONNRESET);
	send_error("t", ETIMEDOUT);	/* which is no missing Pong */
}

/* It breaks while the pulse asks: nothing of it is touched any more. */
static void
test_ws_send_error_ping(void **state)
{
	(void)state;
	ws_open(0, WS_ENDS);
	end_pulse(&near.e, 20, 20);
	say(&near, FIN | WS_TEXT, "end");
	settle();
	near.e.carrier = &scripted;
	sends = "r";
	clock_at(1020);
	told(&near, 0, 0, 1);
	assert_int_equal(near.e.error, ECONNRESET);
	timer_stop(&halves);
	assert_int_equal(timers.next == &timers, 1);
	sides_close();
}

/* Owed bytes leave, and what is to follow them does not. */
static void
send_error_owed(const char *script, int ping)
{
	ws_open(0, WS_ENDS);
	near.e.carrier = &scripted;
	sends = "a";
	put(far.fd, "down");
	turn(0);
	assert_true(near.e.out.len > 0);
	say(&near, FIN | WS_TEXT, "end");
	if (ping)
		say(&near, FIN | WS_PING, "");
	sends = "aaaa";
	end_ready(&near.e, near.e.rfd, WANT_READ);
	assert_int_equal(near.e.eof, 1);
	assert_true(near.e.out.len > 0);
	end_finish(&near.e);
	assert_int_equal(near.e.finished, 0);
	near.sent = 0;
	sends = script;
	end_ready(&near.e, near.e.wfd, WANT_WRITE);
	told(&near, 0, 0, 1);
	/* That is the last that is told. */
	assert_int_equal(near.sent, 0);
	assert_int_equal(near.e.error, ECONNRESET);
	sides_close();
}

static void
test_ws_send_error_owed(void **state)
{
	(void)state;
	send_error_owed("r", 0);	/* the bytes themselves */
	send_error_owed(".r", 0);	/* `end' */
	send_error_owed("..r", 0);	/* Close */
}

static void
test_ws_send_error_pong(void **state)
{
	(void)state;
	send_error_owed(".r", 1);
}

/* Who has said Close owes nothing more, an end of TCP in order neither. */
static void
test_ws_send_error_closed(void **state)
{
	static const struct linger hard = { 1, 0 };

	(void)state;
	ws_open(0, WS_CLOSES);
	near.e.carrier = &scripted;
	sends = "r";
	say(&near, FIN | WS_BINARY, "last");
	say_close(&near, WS_NORMAL);
	settle();
	get(far.fd, "last");
	get_end(far.fd);
	clock_at(1000 + LINGER_SECS * 1000);
	done(1);
	sides_close();
	tcp_open(1);
	shutdown(far.fd, SHUT_WR);
	settle();
	say(&near, FIN | WS_TEXT, "end");
	say_close(&near, WS_NORMAL);
	wait_readable(near.e.rfd);
	settle();
	done(0);
	tcp_says("text:end close:1000");
	ok(setsockopt(near.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) ==
	    0, "SO_LINGER");
	close(near.fd);
	near.fd = -1;
	wait_readable(near.e.rfd);
	settle();
	done(1);
	sides_close();
}

/*
 * Who is stalled says so to somebody who has gone, having said all: his reset
 * takes nothing from what has come, nor from what it means.
 */
static void
sign_to_nobody(int masks, int closes)
{
	struct pollfd pfd = { 0 };
	size_t n;

	tcp_open(masks);
	shutdown(far.fd, SHUT_WR);
	settle();
	tcp_says("text:end");
	n = block_far();
	say(&near, FIN | WS_TEXT, "end");
	if (closes)
		say_close(&near, WS_NORMAL);
	close(near.fd);
	near.fd = -1;
	clock_at(now + WS_SIGN_MS);
	pfd.fd = near.e.rfd;
	assert_int_equal(poll(&pfd, 1, PATIENCE), 1);	/* the reset */
	clock_at(now + WS_SIGN_MS);
	told(&near, 0, 0, 0);
	unblock_far(n);
	if (closes) {
		get_end(far.fd);
		done(1);
	} else
		told(&near, 0, 0, 1);
	sides_close();
}

static void
test_ws_sign_to_nobody(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < 4; i++)
		sign_to_nobody(i & 1, i & 2);
}

/* A reset is found although nothing is read. */
static void
test_ws_failed(void **state)
{
	static const struct linger hard = { 1, 0 };

	(void)state;
	tcp_open(0);
	assert_int_equal(end_failed(&near.e), 0);
	ok(setsockopt(near.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) ==
	    0, "SO_LINGER");
	close(near.fd);
	near.fd = -1;
	wait_readable(near.e.rfd);
	assert_int_equal(end_failed(&near.e), 1);
	assert_int_equal(near.e.error, ECONNRESET);
	sides_close();
}

/* ---- WebSockets: back-pressure ----------------------------------------- */

static unsigned char image[600000];

/* Frames of all lengths, of the pattern; the wire has n bytes of it. */
static size_t
image_make(int masked, uint64_t *payload)
{
	static const size_t lengths[] = { 1, 125, 126, 5000, 65535, 300, 2 };
	static unsigned char p[CHUNK];
	size_t n = 0, len, i, k;

	*payload = 0;
	for (i = 0; n + CHUNK + WS_HEAD_MAX < sizeof(image); i++) {
		len = lengths[i % COUNT(lengths)];
		for (k = 0; k < len; k++)
			p[k] = (unsigned char)pattern(*payload + k);
		n += frame_make(image + n, masked, FIN | WS_BINARY, p, len);
		*payload += len;
	}
	return n;
}

/* A target that does not read: the WebSocket is not read either. */
static void
test_ws_backpressure(void **state)
{
	uint64_t payload, arrived = 0;
	size_t n, at = 0;
	ssize_t r;
	int i, stalls = 0;

	(void)state;
	ws_open(0, WS_ENDS);
	small_buffer(far.e.wfd);
	n = image_make(1, &payload);
	for (i = 0; arrived < payload; i++) {
		if (i == 100000)
			fail_msg("%llu of %llu bytes arrive",
			    (unsigned long long)arrived,
			    (unsigned long long)payload);
		r = at < n ? write(near.fd, image + at, n - at) : 0;
		if (r > 0)
			at += (size_t)r;
		if (turn(0) == 0) {	/* the far side takes a bit */
			if (at < n) {
				stalls++;
				assert_int_equal(end_hungry(&near.e), 0);
			}
			drain(far.fd, &arrived);
		}
		assert_int_equal(end_hungry(&near.e), !end_owed(&far.e));
		assert_true(kept(&far.e) <= BULK);
		assert_null(near.e.in.p);
	}
	assert_true(stalls > 10);
	assert_int_equal(near.e.got, payload);
	assert_null(far.e.out.p);
	told(&near, 0, 0, 0);
	told(&far, 0, 0, 0);
	sides_close();
}

/* And the other way round; each direction for itself. */
static void
backpressure_far(int masks)
{
	uint64_t sent = 0, arrived = 0, got;
	char text[64] = "";

	ws_open(masks, WS_ENDS);
	stuff(&sent);
	got = far.e.got;
	assert_int_equal(turn(0), 0);
	assert_int_equal(end_want(&far.e, far.e.rfd), 0);
	assert_true(sent > got);
	say(&near, FIN | WS_BINARY, "back");
	settle();
	get(far.fd, "back");
	assert_int_equal(far.e.got, got);
	unstuff(sent, &arrived, text, sizeof(text));
	assert_int_equal(arrived, sent);
	assert_string_equal(text, "");
	assert_null(near.e.out.p);
	sides_close();
}

static void
test_ws_backpressure_far(void **state)
{
	(void)state;
	backpressure_far(0);
	backpressure_far(1);
}

/* ---- WebSockets: with a message's codec -------------------------------- */

static struct message asked;

/* What comes is a message with this framing, what goes has chunks or not. */
static void
coded(enum framing in, uint64_t left, int chunks_out)
{
	ws_open(0, WS_ENDS);
	memset(&asked, 0, sizeof(asked));
	asked.codec = &message_codec;
	near.e.message = &asked;
	asked.in = in;
	asked.left = left;
	asked.chunks_out = chunks_out;
}

/* Chunks in frames that cut them where they like. */
static void
test_ws_codec_in(void **state)
{
	static const char text[] = "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
	char part[8];
	size_t i, k;

	(void)state;
	for (k = 1; k < sizeof(part); k++) {
		coded(BODY_CHUNKED, 0, 0);
		for (i = 0; i < sizeof(text) - 1; i += k) {
			snprintf(part, sizeof(part), "%.*s", (int)k, text + i);
			assert_int_equal(near.over, 0);
			say(&near, FIN | WS_BINARY, part);
			if (i % 2)
				say(&near, FIN | WS_PING, "");
			settle();
		}
		assert_int_equal(near.over, 1);
		get(far.fd, "hello world");
		assert_int_equal(near.e.got, 11);
		told(&near, 0, 0, 0);
		sides_close();
	}
	coded(BODY_LENGTH, 5, 0);
	say(&near, FIN | WS_BINARY, "he");
	settle();
	assert_int_equal(near.over, 0);
	say(&near, FIN | WS_BINARY, "llo");
	settle();
	assert_int_equal(near.over, 1);
	get(far.fd, "hello");
	sides_close();
}

static void
test_ws_codec_out(void **state)
{
	(void)state;
	coded(BODY_LENGTH, 9, 1);
	put(far.fd, "hello");
	settle();
	put(far.fd, "sixteen bytes...");
	settle();
	says(&near, "binary:5\r\nhello\r\n binary:10\r\nsixteen bytes...\r\n");
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "binary:0\r\n\r\n text:end");
	sides_close();
	/* Where the message alone ends, the WebSocket does not. */
	coded(BODY_LENGTH, 9, 1);
	near.e.stays = 1;
	put(far.fd, "hello");
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "binary:5\r\nhello\r\n binary:0\r\n\r\n");
	say(&near, FIN | WS_PING, "");
	settle();
	says(&near, "pong:");
	sides_close();
}

/* A message that has no other end has `end' for it; another is cut off. */
static void
test_ws_codec_end(void **state)
{
	(void)state;
	coded(BODY_CLOSE, 0, 0);
	say(&near, FIN | WS_BINARY, "all of it");
	settle();
	assert_int_equal(near.over, 0);
	say(&near, FIN | WS_TEXT, "end");
	settle();
	assert_int_equal(near.over, 1);
	get(far.fd, "all of it");
	told(&near, 0, 0, 0);
	sides_close();
	coded(BODY_CHUNKED, 0, 0);
	say(&near, FIN | WS_BINARY, "5\r\nhe");
	say(&near, FIN | WS_TEXT, "end");
	settle();
	assert_int_equal(near.over, 0);
	told(&near, 0, 0, 1);
	assert_int_equal(near.e.error, ECONNABORTED);
	says(&near, "close:1011");
	sides_close();
	coded(BODY_CLOSE, 0, 0);
	say(&near, FIN | WS_BINARY, "a part");
	shutdown(near.fd, SHUT_WR);
	settle();
	assert_int_equal(near.over, 0);
	told(&near, 0, 0, 1);
	sides_close();
}

/* The frames are well: it is not their code that the other side hears. */
static void
test_ws_codec_bad(void **state)
{
	(void)state;
	coded(BODY_CHUNKED, 0, 0);
	say(&near, FIN | WS_BINARY, "x\r\n");
	settle();
	told(&near, 0, 0, 1);
	says(&near, "close:1011");
	if (strstr(near.why, "(0)") != NULL)
		fail_msg("%s", near.why);
	sides_close();
}

/* ---- WebSockets: as they begin and move -------------------------------- */

struct early {
	const char	*bytes;
	size_t		 n;
	const char	*in;		/* what is left for the owner */
	int		 eof, error;
	const char	*says;
};

/* A server's frames right behind its 101. */
#define EARLY(bytes, in, eof, error, says) \
	{ bytes, sizeof(bytes) - 1, in, eof, error, says }
static const struct early earlies[] = {
	EARLY("", "", 0, 0, ""),
	EARLY("\x82\x05hello", "hello", 0, 0, ""),
	EARLY("\x02\x02he\x80\x03llo", "hello", 0, 0, ""),
	EARLY("\x82\x05hel", "hel", 0, 0, ""),
	EARLY("\x82", "", 0, 0, ""),
	EARLY("\x89\x01p", "", 0, 0, "pong:p"),
	EARLY("\x82\x01" "a\x89\x01p\x82\x01" "b", "ab", 0, 0, "pong:p"),
	EARLY("\x82\x01" "a\x81\x03" "end", "a", 1, 0, ""),
	EARLY("\x81\x03" "end", "", 1, 0, ""),
	EARLY("\x82\x01" "a\x88\x02\x03\xe8", "", 0, ECONNABORTED,
	    "close:1011"),
	EARLY("\x88\x00", "", 0, ECONNABORTED, "close:1011"),
	EARLY("\x81\x03" "end\x88\x02\x03\xe8", "", 1, ECONNABORTED,
	    "close:1011"),
	EARLY("HTTP", "", 0, EPROTO, "close:1002"),
	EARLY("\x82\x01" "a\x82\x81", "", 0, EPROTO, "close:1002"),
	EARLY("\x81\x02no", "", 0, EPROTO, "close:1002"),
	EARLY("\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00", "", 0, EPROTO,
	    "close:1009"),
};

static void
test_ws_early(void **state)
{
	const struct early *y;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(earlies); i++) {
		y = &earlies[i];
		now = 1000;
		side_open(&near);
		near.e.steps = &ws_steps;
		near.masks = 1;
		put_n(near.fd, y->bytes, y->n);
		settle();
		assert_int_equal(end_websocket(&near.e, 1, WS_ENDS), 0);
		says(&near, y->says);
		if (near.e.eof != (unsigned)y->eof ||
		    near.e.error != y->error || near.broken !=
		    (y->error != 0))
			fail_msg("row %zu: eof %d, error %d", i, near.e.eof,
			    near.e.error);
		assert_int_equal(near.e.in.len, strlen(y->in));
		if (*y->in != '\0')
			assert_memory_equal(near.e.in.p + near.e.in.off,
			    y->in, strlen(y->in));
		else
			assert_null(near.e.in.p);
		side_close(&near);
	}
}

/* What came early goes first, the rest of its frame behind it. */
static void
test_ws_early_link(void **state)
{
	(void)state;
	now = 1000;
	side_open(&near);
	near.e.steps = &ws_steps;
	near.masks = 1;
	put(near.fd, "\x82\x05hel");
	settle();
	assert_int_equal(end_websocket(&near.e, 1, WS_ENDS), 0);
	side_open(&far);
	far.e.steps = &ws_steps;
	put(far.fd, "early");
	settle();
	end_link(&near.e, &far.e);
	get(far.fd, "hel");
	says(&near, "binary:early");
	put(near.fd, "lo\x81\x03" "end");
	settle();
	get(far.fd, "lo");
	get_end(far.fd);
	assert_int_equal(near.e.got, 5);
	sides_close();
	/* All of it was there before the link. */
	now = 1000;
	side_ws(&near, 1, WS_ENDS);
	put(near.fd, "\x82\x04last\x81\x03" "end");
	settle();
	side_open(&far);
	far.e.steps = &ws_steps;
	end_link(&near.e, &far.e);
	get(far.fd, "last");
	get_end(far.fd);
	shutdown(far.fd, SHUT_WR);
	settle();
	says(&near, "text:end close:1000");
	sides_close();
}

static void
moved_input(void *owner, struct end *e)
{
	assert_ptr_equal(owner, &far);
	assert_ptr_equal(e, &far.e);
	far.input++;
}

static void
moved_broken(void *owner, struct end *e)
{
	assert_ptr_equal(owner, &far);
	assert_ptr_equal(e, &far.e);
	far.broken++;
	end_reset(e);
}

static const struct steps moved_steps = {
	moved_input, on_over, on_sent, on_done, moved_broken
};

/* Within a frame, with bytes on the way in and out. */
static void
test_ws_move(void **state)
{
	static unsigned char p[30000];
	uint64_t arrived = 0;
	char text[8] = "";
	size_t i;

	(void)state;
	now = 1000;
	side_ws(&near, 1, WS_ENDS);
	end_pulse(&near.e, 20, 30);
	small_buffer(near.e.wfd);
	for (i = 0; i < sizeof(p); i++)
		p[i] = (unsigned char)pattern(i);
	end_send(&near.e, p, sizeof(p));
	put(near.fd, "\x82\x05hel");
	settle();
	assert_true(near.e.out.len > 0 && near.e.in.len == 3);
	memset(&far, 0, sizeof(far));
	memset(&far.e, 0xff, sizeof(far.e));
	end_move(&far.e, &near.e, &moved_steps, &far);
	far.fd = near.fd;
	far.masks = 1;
	near.fd = -1;
	assert_int_equal(near.e.rfd, -1);
	assert_null(near.e.ws);
	assert_null(near.e.out.p);
	side_close(&near);
	now = 1010;
	put(far.fd, "lo\x82\x01!");
	settle();
	assert_int_equal(far.input, 1);
	assert_int_equal(far.e.in.len, 6);
	assert_memory_equal(far.e.in.p + far.e.in.off, "hello!", 6);
	wire.at = wire.n = 0;
	for (i = 0; i < 1000 && arrived < sizeof(p); i++) {
		frames_drain(&far, &arrived, text, sizeof(text));
		settle();
	}
	assert_int_equal(arrived, sizeof(p));
	/* Its pulse goes on, and is the new one's. */
	clock_at(1029);
	says(&far, "");
	clock_at(1030);
	says(&far, "ping:");
	clock_at(1060);
	assert_int_equal(far.broken, 1);
	assert_int_equal(far.e.error, ETIMEDOUT);
	side_close(&far);
}

/* Only the descriptor is left. */
static void
test_ws_release(void **state)
{
	int fd;

	(void)state;
	now = 1000;
	side_ws(&near, 0, WS_ENDS);
	assert_true(timers.next != &timers);
	fd = end_release(&near.e);
	assert_true(timers.next == &timers);
	assert_null(near.e.ws);
	assert_int_equal(slots_top, 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	/* Not a word was said. */
	get(near.fd, "");
	end_close(&near.e);
	/* Elsewhere it goes on as the same WebSocket. */
	nonblocking(fd);
	end_socket(&far.e, fd, &ws_steps, &far);
	assert_int_equal(end_websocket(&far.e, 0, WS_ENDS), 0);
	far.fd = near.fd;
	near.fd = -1;
	far.masks = far.input = far.broken = 0;
	say(&far, FIN | WS_BINARY, "x");
	settle();
	assert_int_equal(far.input, 1);
	side_close(&far);
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

/*
 * One address refuses, and there is no way to the other: that is not what is
 * wrong, whichever comes first.
 */
static void
test_lookup_unreachable(void **state)
{
	static const char *const addrs[] = {
		"224.0.0.1", "127.0.0.1", "224.0.0.1"
	};
	union addr a;
	int i, fd = listening(&a, 5);

	(void)state;
	close(fd);
	helper_open();
	for (i = 0; i < 2; i++) {
		dial("host.example", addr_port(&a));
		answer(question("host.example", AF_UNSPEC), 0, addrs + i, 2);
		dial_fails(DIAL_CONNECT, ECONNREFUSED);
	}
	helper_close();
}

/* And a firewall's "no route to host" is said before that one of IPv6. */
static void
test_dial_telling(void **state)
{
	static const int codes[] = {
		ENETUNREACH, EHOSTUNREACH, ECONNREFUSED, EHOSTUNREACH,
		ENETUNREACH
	};
	static const int said[] = {
		ENETUNREACH, EHOSTUNREACH, ECONNREFUSED, ECONNREFUSED,
		ECONNREFUSED
	};
	struct dial d;
	int i;

	(void)state;
	memset(&d, 0, sizeof(d));
	for (i = 0; i < 5; i++) {
		dial_failed(&d, codes[i]);
		assert_int_equal(d.code, said[i]);
	}
	memset(&d, 0, sizeof(d));
	dial_failed(&d, EHOSTUNREACH);
	dial_failed(&d, ENETUNREACH);
	assert_int_equal(d.code, EHOSTUNREACH);
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
	struct dial *d;
	int n = 0;

	(void)state;
	helper_open();
	memset(&junk, 0, sizeof(junk));
	while (send(helper_sock, &junk, sizeof(junk), 0) != -1)
		n++;
	ok(errno == EAGAIN || errno == ENOBUFS, "send");
	now = 1000;
	d = dial("host.example", 1);
	assert_int_equal(dial_looking(d), 1);
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

static int room_there, room_extras;

static int
has_room(void)
{
	room_extras = dial_extras();
	return room_there;
}

/*
 * RFC 8305, 5: an address that does not answer (its queue of connections is
 * full) holds nobody up, and goes on being tried beside the next.  Where there
 * is never room for that, it makes way.
 */
static void
dial_next_is_tried(int crowded)
{
	static const char *const addrs[] = { "127.0.0.1", "127.0.0.2" };
	int fds[8], slow, fd, i;
	union addr a, b;
	struct dial *d;

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
	/* without room for it, it waits, and so where it has its share */
	reach.room = has_room;
	for (i = 0; i < 2; i++) {
		room_there = i;
		extras += i * loop_limit() / 4;
		now += RECONNECT_MS;
		timers_run();
		assert_int_equal(d->next, 1);
		extras -= i * loop_limit() / 4;
	}
	room_there = !crowded;
	now = 1000 + (crowded ? CROWDED_MS - 1 : 4 * RECONNECT_MS);
	timers_run();
	assert_int_equal(d->next, 2 - crowded);
	now += RECONNECT_MS;
	timers_run();
	assert_int_equal(d->next, 2);
	assert_int_equal(d->pending, 2 - crowded);
	assert_int_equal(dial_extras(), 1 - crowded);
	assert_int_equal(room_extras, 1 - crowded);
	dial_succeeds(fd);
	assert_int_equal(dial_extras(), 0);
	assert_int_equal(room_extras, 0);
	for (i = 0; i < 8; i++)
		close(fds[i]);
	close(slow);
	close(fd);
	helper_close();
}

static void
test_dial_next(void **state)
{
	(void)state;
	dial_next_is_tried(0);
}

static void
test_dial_crowded(void **state)
{
	(void)state;
	dial_next_is_tried(1);
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

/* Of one that is replaced nothing is left, whatever was wrong with it. */
static void
test_lookup_replaced(void **state)
{
	pid_t old;

	(void)state;
	assert_int_equal(lookup_init(), 0);
	old = helper_pid;
	ok(kill(old, SIGSTOP) == 0, "kill");
	assert_int_equal(lookup_init(), 0);
	assert_int_equal(waitpid(old, NULL, WNOHANG), -1);
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
	/* without any address there is none that it was */
	reach.literals = 1;
	assert_int_equal(listen_open(&other, "no.address", port, &failed), -1);
	reach.literals = 0;
	assert_int_equal(failed.sa.sa_family, AF_UNSPEC);
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

/* ---- this process ------------------------------------------------------ */

static void
test_random(void **state)
{
	static const unsigned char zeros[sizeof(pool)];
	unsigned char a[64], b[64], big[3 * sizeof(pool)];
	size_t i, k;

	(void)state;
	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	/* What was given out is forgotten. */
	assert_memory_equal(pool + pool_left, zeros, sizeof(pool) - pool_left);
	/* More than is had at once, and exactly so much is written. */
	memset(big, 0, sizeof(big));
	random_bytes(big + 1, sizeof(big) - 2);
	assert_int_equal(big[0] + big[sizeof(big) - 1], 0);
	for (i = 1; i + 17 < sizeof(big); i += 16)
		for (k = 1; k < i; k += 16)
			assert_memory_not_equal(big + i, big + k, 16);
}

/* Where the kernel has no call for it its device is read. */
static void
test_random_device(void **state)
{
	unsigned char a[sizeof(pool)], b[sizeof(pool)];

	(void)state;
	pool_left = 0;
	no_entropy = 1;
	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	no_entropy = 0;
	assert_memory_not_equal(a, b, sizeof(a));
}

/* A child's bytes are not those that its parent has still to give. */
static void
test_random_child(void **state)
{
	unsigned char ours[128], theirs[128];
	pid_t child = -1;
	int p[2], code;

	(void)state;
	ok(pipe(p) == 0, "pipe");
	loop_reset();
	random_bytes(ours, 1);
	assert_true(pool_left >= sizeof(ours));
	fflush(NULL);
	if (child_fork(&child) == 0) {
		loop_reset();
		random_bytes(theirs, sizeof(theirs));
		(void)!write(p[1], theirs, sizeof(theirs));
		_exit(0);
	}
	ok(child != -1, "fork");
	assert_int_equal(read(p[0], theirs, sizeof(theirs)), sizeof(theirs));
	random_bytes(ours, sizeof(ours));
	assert_memory_not_equal(ours, theirs, sizeof(ours));
	ok(waitpid(child, &code, 0) == child, "waitpid");
	assert_int_equal(code, 0);
	close(p[0]);
	close(p[1]);
}

static void
test_fd_peer(void **state)
{
	union addr a, own;
	socklen_t len = sizeof(own);
	int sv[2], p[2], lfd, fd, other;

	(void)state;
	tcp_pair(sv);
	ok(getsockname(sv[0], &own.sa, &len) == 0, "getsockname");
	memset(&a, 0xff, sizeof(a));
	assert_int_equal(fd_peer(sv[1], &a), 0);
	assert_int_equal(a.sa.sa_family, AF_INET);
	assert_true(addr_same_host(&a, &own) && addr_port(&a) ==
	    addr_port(&own));
	close(sv[0]);
	close(sv[1]);
	pair(sv, SOCK_STREAM);
	ok(pipe(p) == 0, "pipe");
	lfd = listening(&own, 1);
	close(p[1]);
	for (fd = 0; fd < 4; fd++) {
		other = fd == 0 ? sv[0] : fd == 1 ? p[0] : fd == 2 ? lfd : -1;
		memset(&a, 0xff, sizeof(a));
		assert_int_equal(fd_peer(other, &a), fd < 2 ? 0 : -1);
		assert_int_equal(a.sa.sa_family, AF_UNSPEC);
	}
	close(p[0]);
	close(lfd);
	close(sv[0]);
	close(sv[1]);
}

/* Over a socket of IPv6's, too, an IPv4 client is one. */
static void
test_fd_peer_mapped(void **state)
{
	static const int off = 0;
	char text[ADDR_TEXT];
	union addr a;
	socklen_t len = sizeof(a);
	unsigned port;
	int lfd, fd, sock;

	(void)state;
	if ((lfd = socket(AF_INET6, SOCK_STREAM, 0)) == -1) {
		print_message("no IPv6 here: %s\n", strerror(errno));
		skip();
	}
	a = addr("::");
	if (setsockopt(lfd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ==
	    -1 || bind(lfd, &a.sa, addr_len(&a)) == -1) {
		print_message("no IPv6 here: %s\n", strerror(errno));
		close(lfd);
		skip();
	}
	ok(listen(lfd, 1) == 0, "listen");
	ok(getsockname(lfd, &a.sa, &len) == 0, "getsockname");
	ok((sock = socket(AF_INET, SOCK_STREAM, 0)) != -1, "socket");
	port = addr_port(&a);
	a = addr("127.0.0.1");
	addr_set_port(&a, port);
	ok(connect(sock, &a.sa, addr_len(&a)) == 0, "connect");
	ok((fd = accept(lfd, NULL, NULL)) != -1, "accept");
	assert_int_equal(fd_peer(fd, &a), 0);
	assert_string_equal(addr_text(text, &a), "127.0.0.1");
	close(fd);
	close(sock);
	close(lfd);
}

/* Whatever state another process left it in. */
static void
test_fd_own(void **state)
{
	int sv[2];

	(void)state;
	tcp_pair(sv);
	ok(fcntl(sv[0], F_SETFL, 0) == 0 && fcntl(sv[0], F_SETFD, 0) == 0,
	    "fcntl");
	fd_own(sv[0]);
	leg(sv[0]);
	close(sv[0]);
	close(sv[1]);
}

/* ---- workers: the notes between them ----------------------------------- */

static struct {
	int		 what, worker;
	unsigned	 id;
	int		 fd, times;
} noted;

static void
on_note(const struct note *n, int fd)
{
	noted.what = n->what;
	noted.worker = n->worker;
	noted.id = n->id;
	noted.fd = fd;
	noted.times++;
}

static const struct crew notes = { .min = 1, .note = on_note };

/* This process is the worker of that number (-1: none); its channel. */
static int
worker_become(int number)
{
	int sv[2];

	memset(&noted, 0, sizeof(noted));
	noted.fd = -2;
	crew = &notes;
	own_number = number == -1 ? 0 : number;
	if (number == -1)
		return -1;
	pair(sv, SOCK_STREAM);
	own_fd = sv[0];
	return sv[1];
}

static void
worker_leave(int channel)
{
	if (own_fd != -1)
		close(own_fd);
	if (channel != -1)
		close(channel);
	own_fd = -1;
	own_number = 0;
	crew = NULL;
}

/* A descriptor of a pipe, whose other end tells whether any is left. */
static int
token(int *other)
{
	int p[2];

	ok(pipe(p) == 0, "pipe");
	nonblocking(p[0]);
	*other = p[0];
	return p[1];
}

/* Nobody has the descriptor any more. */
static void
token_gone(int other)
{
	get_end(other);
	close(other);
}

/* This note is on its way, with that descriptor beside it, or none (-1). */
static void
note_there(int sock, int what, int worker, unsigned id, int other)
{
	union note_room came;
	const struct note *n = &came.note;
	int fd = -2;

	ok(note_recv(sock, &came.note, &fd) == 1, "a note");
	assert_int_equal(n->what, what);
	assert_int_equal(n->len, 0);
	assert_int_equal(n->worker, worker);
	assert_int_equal(n->id, id);
	if (other == -1) {
		assert_int_equal(fd, -1);
		return;
	}
	get(other, "");			/* it lives, and only here: */
	close(fd);
	token_gone(other);
}

static void
test_crew_tell(void **state)
{
	int channel, fd, other;

	(void)state;
	/* Who is no worker tells nobody; the descriptor is gone anyway. */
	(void)worker_become(-1);
	fd = token(&other);
	assert_int_equal(crew_tell(CREW_PARK, 0, 7, fd), -1);
	token_gone(other);
	assert_int_equal(crew_tell(CREW_WANT, 5, 7, -1), -1);
	assert_int_equal(noted.times, 0);

	channel = worker_become(3);
	assert_int_equal(crew_number(), 3);
	fd = token(&other);
	assert_int_equal(crew_tell(CREW_LINK, 1, 77, fd), 0);
	note_there(channel, CREW_LINK, 1, 77, other);
	assert_int_equal(crew_tell(CREW_WANT, 0, 78, -1), 0);
	note_there(channel, CREW_WANT, 0, 78, -1);
	assert_int_equal(crew_tell(CREW_FULL, CREW_FIRST, 0, -1), 0);
	note_there(channel, CREW_FULL, CREW_FIRST, 0, -1);
	assert_int_equal(noted.times, 0);
	/* To itself it goes at once, and the descriptor is the note's. */
	fd = token(&other);
	assert_int_equal(crew_tell(CREW_LINK, 3, 79, fd), 0);
	assert_int_equal(noted.times, 1);
	assert_int_equal(noted.fd, fd);
	assert_int_equal(noted.what, CREW_LINK);
	assert_int_equal(noted.worker, 3);
	assert_int_equal(noted.id, 79);
	get(channel, "");
	close(fd);
	token_gone(other);
	worker_leave(channel);
}

/* A connection goes with what was read of it. */
static void
test_crew_pass(void **state)
{
	static unsigned char bytes[INPUT_MAX + 1];
	static union note_room came;
	struct note *n = &came.note;
	int channel, fd, passed, other, i;

	(void)state;
	for (i = 0; i < INPUT_MAX; i++)
		bytes[i] = (unsigned char)pattern((uint64_t)i);
	(void)worker_become(-1);
	fd = token(&other);
	assert_int_equal(crew_pass(CREW_REQUEST, 0, fd, "x", 1), -1);
	token_gone(other);
	channel = worker_become(3);
	for (i = 0; i < 3; i++) {
		fd = token(&other);
		assert_int_equal(crew_pass(CREW_REQUEST, 0, fd, bytes,
		    i == 0 ? 0 : i == 1 ? 1 : INPUT_MAX), 0);
		assert_int_equal(note_recv(channel, n, &passed), 1);
		assert_int_equal(n->what, CREW_REQUEST);
		assert_int_equal(n->worker, 0);
		assert_int_equal(n->len, i == 0 ? 0 : i == 1 ? 1 : INPUT_MAX);
		assert_memory_equal(n->bytes, bytes, n->len);
		get(other, "");
		close(passed);
		token_gone(other);
	}
	/* More than there is room for does not go. */
	memset(&note_room, 0x55, sizeof(note_room));
	fd = token(&other);
	assert_int_equal(crew_pass(CREW_REQUEST, 0, fd, bytes, INPUT_MAX + 1),
	    -1);
	token_gone(other);
	assert_int_equal(note_room.note.len, 0x55555555);
	get(channel, "");
	assert_int_equal(noted.times, 0);
	worker_leave(channel);
}

/* A channel takes no more; how many bytes it has. */
static int
channel_fill(int sock)
{
	char c = 0;
	int i;

	ok(fcntl(sock, F_SETFL, 0) == 0, "fcntl");
	for (i = 0; i < 1000000 && send(sock, &c, 1, MSG_DONTWAIT) == 1; i++)
		;
	ok(errno == EAGAIN, "send");
	return i;
}

static void
channel_empty(int sock, int n)
{
	char c;

	while (n-- > 0)
		ok(recv(sock, &c, 1, MSG_DONTWAIT) == 1, "recv");
}

/* What a full channel does not take it has later, in order and once. */
static void
test_crew_tell_full(void **state)
{
	int channel, fd, other, n, i;

	(void)state;
	channel = worker_become(3);
	assert_int_equal(loop_watch(own_fd, &worker_watcher, NULL), 0);
	n = channel_fill(own_fd);
	fd = token(&other);
	assert_int_equal(crew_tell(CREW_LINK, 1, 77, fd), 0);
	get(other, "");
	assert_int_equal(crew_tell(CREW_WANT, 1, 78, -1), 0);
	assert_int_equal(turn(0), 0);
	channel_empty(channel, n);
	assert_int_equal(crew_tell(CREW_WANT, 1, 79, -1), 0);
	assert_int_equal(turn(0), 1);
	note_there(channel, CREW_LINK, 1, 77, other);
	note_there(channel, CREW_WANT, 1, 78, -1);
	note_there(channel, CREW_WANT, 1, 79, -1);
	assert_int_equal(turn(0), 0);
	get(channel, "");
	/* There is an end to what waits. */
	n = channel_fill(own_fd);
	for (i = 0; i < LETTERS_MAX; i++)
		assert_int_equal(crew_tell(CREW_WANT, 1, 80, -1), 0);
	fd = token(&other);
	assert_int_equal(crew_tell(CREW_LINK, 1, 77, fd), -1);
	token_gone(other);
	letters_drop(own_fd);
	assert_int_equal(nletters, 0);
	loop_forget(own_fd);
	/* Who has gone gets nothing. */
	close(channel);
	fd = token(&other);
	assert_int_equal(crew_tell(CREW_LINK, 1, 77, fd), -1);
	token_gone(other);
	worker_leave(-1);
}

/* Also where the system's own channels are small a note goes in one piece. */
static void
test_channel_size(void **state)
{
	static const int small = 4096;
	static union note_room came;
	struct note *n = &came.note;
	int sv[2], i, fd, sent;

	(void)state;
	pair(sv, SOCK_STREAM);
	for (i = 0; i < 2; i++) {
		ok(setsockopt(sv[i], SOL_SOCKET, SO_SNDBUF, &small,
		    sizeof(small)) == 0, "setsockopt");
		channel_size(sv[i]);
	}
	for (sent = 0; nletters == 0; sent++) {
		note_init(n, CREW_REQUEST, 1, (unsigned)sent);
		n->len = INPUT_MAX;
		memset(n->bytes, sent, INPUT_MAX);
		assert_int_equal(note_send(sv[0], n, -1), 0);
	}
	assert_true(sent > 4);
	for (i = 0; i < sent; i++) {
		assert_int_equal(note_recv(sv[1], n, &fd), 1);
		assert_int_equal(n->id, i);
		assert_int_equal(n->len, INPUT_MAX);
		assert_int_equal(n->bytes[0], i);
		assert_int_equal(n->bytes[INPUT_MAX - 1], i);
		letters_send(sv[0]);
	}
	get(sv[1], "");
	close(sv[0]);
	close(sv[1]);
}

/* A worker that ends sends what waits, before that; not for ever. */
static void
test_crew_tell_last(void **state)
{
	int channel, fd, other, n;
	pid_t pid;

	(void)state;
	channel = worker_become(3);
	n = channel_fill(own_fd);
	fd = token(&other);
	assert_int_equal(crew_tell(CREW_LINK, 1, 77, fd), 0);
	if ((pid = fork()) == 0) {
		close(channel);
		letters_last(own_fd);
		_exit(nletters);
	}
	letters_drop(own_fd);
	close(own_fd);
	own_fd = -1;
	channel_empty(channel, n);
	assert_int_equal(waitpid(pid, &n, 0), pid);
	assert_int_equal(n, 0);
	note_there(channel, CREW_LINK, 1, 77, other);
	get_end(channel);
	worker_leave(channel);
}

/* What a worker gets. */
static void
test_worker_note(void **state)
{
	struct note n;
	int channel, fd, other, old;

	(void)state;
	channel = worker_become(3);
	note_init(&n, CREW_LINK, 2, 5);
	fd = token(&other);
	assert_int_equal(note_send(channel, &n, fd), 0);
	worker_ready(NULL, own_fd, WANT_READ);
	assert_int_equal(noted.times, 1);
	assert_int_not_equal(noted.fd, fd);
	assert_true(noted.what == CREW_LINK && noted.worker == 2 &&
	    noted.id == 5);
	close(fd);
	get(other, "");
	close(noted.fd);
	token_gone(other);
	n.what = CREW_WANT;
	assert_int_equal(note_send(channel, &n, -1), 0);
	worker_ready(NULL, own_fd, WANT_READ);
	assert_int_equal(noted.times, 2);
	assert_int_equal(noted.what, CREW_WANT);
	assert_int_equal(noted.fd, -1);
	/* A part of one: nothing of it is kept. */
	fd = token(&other);
	ok(fd_send(channel, fd, &n, 1, 0) == 1, "send");
	close(fd);
	worker_ready(NULL, own_fd, WANT_READ);
	assert_int_equal(noted.times, 2);
	token_gone(other);
	/* A new look-up helper is not the owner's business. */
	helper_sock = token(&old);
	fd = token(&other);
	n.what = CREW_HELPER;
	assert_int_equal(note_send(channel, &n, fd), 0);
	close(fd);
	worker_ready(NULL, own_fd, WANT_READ);
	assert_int_equal(noted.times, 2);
	token_gone(old);
	assert_int_not_equal(fcntl(helper_sock, F_GETFD) & FD_CLOEXEC, 0);
	close(helper_sock);
	helper_sock = -1;
	token_gone(other);
	worker_leave(channel);
}

/* Where there is no descriptor to be had there is no such note. */
static void
test_worker_note_bare(void **state)
{
	static const int kinds[] = {
		CREW_PARK, CREW_LINK, CREW_REQUEST, CREW_NONCE, CREW_HELPER
	};
	static int taken[FD_SETSIZE];
	struct rlimit rl, old;
	struct note n;
	int channel, fd, other, i, k, m;

	(void)state;
	channel = worker_become(3);
	helper_sock = -7;
	note_init(&n, CREW_LINK, 2, 5);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (k = 0; k < 2; k++) {
		rl = old;
		rl.rlim_cur = k == 0 || old.rlim_max < FD_SETSIZE + 64 ?
		    FD_SETSIZE : FD_SETSIZE + 64;
		if (rl.rlim_cur > old.rlim_max)
			rl.rlim_cur = old.rlim_max;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
		for (i = 0; i < (int)COUNT(kinds); i++) {
			n.what = kinds[i];
			assert_int_equal(note_send(channel, &n, -1), 0);
			worker_ready(NULL, own_fd, WANT_READ);
			fd = token(&other);
			assert_int_equal(note_send(channel, &n, fd), 0);
			close(fd);
			m = take_all(taken);
			worker_ready(NULL, own_fd, WANT_READ);
			while (m > 0)
				close(taken[--m]);
			token_gone(other);
		}
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(noted.times, 0);
	assert_int_equal(helper_sock, -7);
	helper_sock = -1;
	worker_leave(channel);
}

/* A worker starts no helper: it asks for the first process's, now and then. */
static void
test_lookup_worker(void **state)
{
	struct dial *d;
	int channel;

	(void)state;
	channel = worker_become(3);
	now = 5000;
	d = dial("one.example", 1);
	assert_int_equal(helper_sock, -1);
	note_there(channel, CREW_HELPER, CREW_FIRST, 0, -1);
	now += REST_MS - 1;
	timers_run();
	get(channel, "");
	now += LOOKUP_RETRY_MS;
	timers_run();
	note_there(channel, CREW_HELPER, CREW_FIRST, 0, -1);
	assert_int_equal(helper_pid, -1);
	assert_int_equal(d->asked, 0);
	helper_open();
	now += LOOKUP_RETRY_MS;
	timers_run();
	answer(question("one.example", AF_UNSPEC), EAI_FAIL, NULL, 0);
	settle();
	dial_fails(DIAL_LOOKUP, EAI_FAIL);
	get(channel, "");
	helper_close();
	worker_leave(channel);
}

static int
child_orphan(void)
{
	close(worker_become(3));
	worker_ready(NULL, own_fd, WANT_READ);
	return 10;
}

/* With the first process all end. */
static void
test_worker_orphan(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_orphan), 0);
}

/* Two workers, as the first process sees them; theirs are the other sides. */
static void
crew_open(int *theirs)
{
	int sv[2], i;

	memset(&noted, 0, sizeof(noted));
	memset(workers, 0, sizeof(workers));
	crew = &notes;
	crew_draining = 1;		/* nobody is forked */
	for (i = 1; i <= 2; i++) {
		pair(sv, SOCK_STREAM);
		workers[i].pid = getpid();
		workers[i].fd = sv[0];
		workers[i].accepting = 1;
		theirs[i] = sv[1];
		assert_int_equal(loop_watch(sv[0], &crew_watcher, &workers[i]),
		    0);
	}
}

static void
crew_close(int *theirs)
{
	int i;

	for (i = 1; i <= 2; i++) {
		if (workers[i].fd != -1)
			fd_close(workers[i].fd);
		close(theirs[i]);
	}
	memset(workers, 0, sizeof(workers));
	crew = NULL;
	crew_draining = 0;
}

static void
crew_says(int sock, int what, int worker, unsigned id, int fd)
{
	struct note n;

	note_init(&n, what, worker, id);
	assert_int_equal(note_send(sock, &n, fd), 0);
	if (fd != -1)
		close(fd);
}

/* Whom a note is for gets it, with the name of whom it is from. */
static void
test_crew_route(void **state)
{
	static union note_room came;
	struct note *n = &came.note;
	int theirs[3], sv[2], fd, other;

	(void)state;
	crew_open(theirs);
	fd = token(&other);
	crew_says(theirs[1], CREW_LINK, 2, 7, fd);
	crew_says(theirs[2], CREW_WANT, 1, 8, -1);
	settle();
	note_there(theirs[2], CREW_LINK, 1, 7, other);
	note_there(theirs[1], CREW_WANT, 2, 8, -1);
	/* With the bytes beside it, and those of the next note apart. */
	fd = token(&other);
	note_init(n, CREW_REQUEST, 2, 9);
	n->len = INPUT_MAX;
	memset(n->bytes, 'x', INPUT_MAX);
	assert_int_equal(note_send(theirs[1], n, fd), 0);
	close(fd);
	crew_says(theirs[1], CREW_WANT, 2, 10, -1);
	settle();
	assert_int_equal(note_recv(theirs[2], n, &fd), 1);
	assert_true(n->id == 9 && n->worker == 1 && n->len == INPUT_MAX &&
	    n->bytes[0] == 'x' && n->bytes[INPUT_MAX - 1] == 'x');
	close(fd);
	token_gone(other);
	note_there(theirs[2], CREW_WANT, 1, 10, -1);
	/* One that is not there, or not any more. */
	pair(sv, SOCK_STREAM);
	workers[5].fd = sv[0];
	fd = token(&other);
	crew_says(theirs[1], CREW_LINK, 5, 7, fd);
	settle();
	token_gone(other);
	get(sv[1], "");
	close(sv[0]);
	close(sv[1]);
	workers[5].pid = getpid();
	workers[5].fd = -1;
	fd = token(&other);
	crew_says(theirs[1], CREW_LINK, 5, 7, fd);
	settle();
	token_gone(other);
	get(theirs[1], "");
	get(theirs[2], "");
	crew_close(theirs);
}

/* The same with channels that are full, or whose other side goes. */
static void
test_crew_route_full(void **state)
{
	int theirs[3], fd, other, third, n;

	(void)state;
	crew_open(theirs);
	n = channel_fill(workers[2].fd);
	fd = token(&other);
	crew_says(theirs[1], CREW_LINK, 2, 7, fd);
	crew_says(theirs[2], CREW_WANT, 1, 8, -1);
	settle();
	get(other, "");
	note_there(theirs[1], CREW_WANT, 2, 8, -1);
	channel_empty(theirs[2], n);
	settle();
	note_there(theirs[2], CREW_LINK, 1, 7, other);
	(void)channel_fill(workers[2].fd);
	(void)channel_fill(workers[1].fd);
	fd = token(&other);
	crew_says(theirs[1], CREW_LINK, 2, 7, fd);
	fd = token(&third);
	crew_says(theirs[2], CREW_LINK, 1, 9, fd);
	settle();
	assert_int_equal(nletters, 2);
	close(theirs[2]);
	settle();
	token_gone(other);
	get(third, "");
	assert_int_equal(nletters, 1);
	letters_drop(-1);
	token_gone(third);
	theirs[2] = dup(theirs[1]);
	crew_close(theirs);
}

static void
test_crew_first(void **state)
{
	int theirs[3], fd, other;
	struct note n;

	(void)state;
	crew_open(theirs);
	crew_says(theirs[1], CREW_FULL, CREW_FIRST, 0, -1);
	settle();
	assert_int_equal(workers[1].full, 1);
	assert_int_equal(workers[2].full, 0);
	fd = token(&other);
	crew_says(theirs[1], CREW_ROOM, CREW_FIRST, 0, fd);
	settle();
	assert_int_equal(workers[1].full, 0);
	token_gone(other);
	assert_int_equal(noted.times, 0);
	/* To all of them, and what they are told is from here. */
	crew_order_all(CREW_RELOAD);
	note_there(theirs[1], CREW_RELOAD, CREW_FIRST, 0, -1);
	note_there(theirs[2], CREW_RELOAD, CREW_FIRST, 0, -1);
	/* A new look-up helper is shown to all. */
	helper_sock = token(&other);
	crew_pass_helper();
	close(helper_sock);
	helper_sock = -1;
	assert_int_equal(note_recv(theirs[1], &n, &fd), 1);
	assert_int_equal(n.what, CREW_HELPER);
	ok(fd != -1 && close(fd) == 0, "a descriptor");
	note_there(theirs[2], CREW_HELPER, CREW_FIRST, 0, other);
	/* And to who asks for it, if there is one. */
	workers[1].full = 1;
	crew_says(theirs[1], CREW_HELPER, CREW_FIRST, 0, -1);
	settle();
	get(theirs[1], "");
	helper_sock = token(&other);
	crew_says(theirs[1], CREW_HELPER, CREW_FIRST, 0, -1);
	settle();
	close(helper_sock);
	helper_sock = -1;
	note_there(theirs[1], CREW_HELPER, CREW_FIRST, 0, other);
	get(theirs[2], "");
	assert_int_equal(workers[1].full, 1);
	crew_close(theirs);
}

/* One that has gone is not heard of for ever. */
static void
test_crew_gone(void **state)
{
	int theirs[3];

	(void)state;
	crew_open(theirs);
	/* Not one of whom select() said too much. */
	crew_ready(&workers[1], workers[1].fd, WANT_READ);
	assert_int_not_equal(workers[1].fd, -1);
	close(theirs[1]);
	assert_int_equal(turn(0), 1);
	assert_int_equal(workers[1].fd, -1);
	assert_int_equal(turn(0), 0);
	crew_order_all(CREW_RELOAD);
	note_there(theirs[2], CREW_RELOAD, CREW_FIRST, 0, -1);
	ok((theirs[1] = dup(theirs[2])) != -1, "dup");
	crew_close(theirs);
}

static int fulls, full_error;

static void
on_full(int error)
{
	fulls++;
	full_error = error;
}

static void
on_start(int number)
{
	_exit(number);
}

/* It was forked, and ends as it began. */
static void
forked(int number)
{
	int code;

	assert_true(workers[number].pid > 0);
	ok(waitpid(workers[number].pid, &code, 0) == workers[number].pid,
	    "waitpid");
	assert_true(WIFEXITED(code) && WEXITSTATUS(code) == number);
	fd_close(workers[number].fd);
	workers[number].pid = 0;
}

/* Who cannot be forked is tried again: the only one, or who is always there. */
static void
test_crew_fork_fails(void **state)
{
	static const struct crew forking = {
		.min = 1, .start = on_start, .full = on_full
	};
	static int taken[FD_SETSIZE];
	struct rlimit rl, old;
	int i, n;

	(void)state;
	crew = &forking;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	rl = old;
	rl.rlim_cur = old.rlim_max < FD_SETSIZE ? old.rlim_max : FD_SETSIZE;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
	for (i = 0; i < 2; i++) {
		memset(workers, 0, sizeof(workers));
		fulls = 0;
		workers[1].pid = i == 0 ? 0 : getpid();
		workers[1].fd = -1;
		workers[1].accepting = 1;
		n = take_all(taken);
		now = 1000;
		crew_balance(NULL);
		now += REST_MS - 1;
		timers_run();
		now++;
		timers_run();
		assert_int_equal(workers[0].pid, 0);
		assert_int_equal(fulls, i == 0);
		assert_true(i > 0 || full_error == EMFILE);
		while (n > 0)
			close(taken[--n]);
		now += REST_MS - 1;
		timers_run();
		assert_int_equal(workers[0].pid, 0);
		now++;
		timers_run();
		forked(0);
		now += ROOMY_MS;
		timers_run();
		assert_int_equal(crew_full, 0);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	memset(workers, 0, sizeof(workers));
	crew = NULL;
}

/* The same for the look-up helper; all are shown the new one. */
static void
test_crew_help_fails(void **state)
{
	static int taken[FD_SETSIZE];
	struct rlimit rl, old;
	int theirs[3], n, i, fd;
	siginfo_t info;
	struct note note;

	(void)state;
	crew_open(theirs);
	helper_open();
	close(helper);
	ok((helper_pid = fork()) != -1, "fork");
	if (helper_pid == 0)
		_exit(0);
	ok(waitid(P_PID, (id_t)helper_pid, &info, WEXITED | WNOWAIT) == 0,
	    "waitid");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	rl = old;
	rl.rlim_cur = old.rlim_max < FD_SETSIZE ? old.rlim_max : FD_SETSIZE;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
	n = take_all(taken);
	now = 1000;
	crew_reap();
	now += REST_MS;
	timers_run();
	assert_int_equal(helper_pid, -1);
	while (n > 0)
		close(taken[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	now += REST_MS - 1;
	timers_run();
	assert_int_equal(helper_pid, -1);
	get(theirs[1], "");
	now++;
	timers_run();
	assert_true(helper_pid > 0);
	for (i = 1; i <= 2; i++) {
		assert_int_equal(note_recv(theirs[i], &note, &fd), 1);
		assert_int_equal(note.what, CREW_HELPER);
		ok(fd != -1 && close(fd) == 0, "a descriptor");
	}
	crew_close(theirs);
	lookup_end();
	close(helper_sock);
	helper_sock = helper_life = -1;
}

/* ---- commands ------------------------------------------------------------ */

/* A signal that comes when this many processes have been forked. */
static int fork_count, fork_signal;

static void
on_fork(void)
{
	if (fork_signal != 0 && --fork_count == 0)
		raise(fork_signal);
}

static void
start_command(void)
{
	const char *failed;

	(void)command_start("exec cat", "h", 1, NULL, &fork_count, &failed);
}

/* What begins this, and gets the signal then, ends by it, and at once. */
static void
ends_at_fork(void (*begin)(void), int count, int sig)
{
	int code;
	pid_t pid;

	fflush(NULL);
	ok((pid = fork()) != -1, "fork");
	if (pid == 0) {
		alarm(PATIENCE / 1000);
		signal_end();
		fork_count = count;
		fork_signal = sig;
		begin();
		_exit(0);
	}
	ok(waitpid(pid, &code, 0) == pid, "waitpid");
	assert_true(WIFSIGNALED(code));
	assert_int_equal(WTERMSIG(code), sig);
}

/* Whoever runs commands ends while their keeper begins. */
static void
test_keeper_signal(void **state)
{
	(void)state;
	ends_at_fork(start_command, 1, SIGTERM);
}

static int said_fd;		/* what commands begin with for their stderr */

static void
start_stubborn(void)
{
	const char *failed;

	(void)dup2(said_fd, STDERR_FILENO);
	close(said_fd);
	(void)command_start("trap '' TERM; sleep 20", "h", 1, NULL,
	    &fork_count, &failed);
}

static void
start_tls(void)
{
	static const struct commander nobody = { NULL, NULL };
	const char *failed;

	(void)command_start("cat", "h", 1, &nobody, &fork_count, &failed);
}

/* The same while a command begins: nothing of it is left, nor its socket. */
static void
test_command_signal(void **state)
{
	static const int sigs[] = { SIGTERM, SIGKILL };
	char dir[] = "/tmp/httptun-unit.XXXXXX";
	struct pollfd p;
	int i, ms;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(setenv("TMPDIR", dir, 1), 0);
	for (i = 0; i < (int)COUNT(sigs); i++) {
		said_fd = token(&p.fd);
		ends_at_fork(start_stubborn, 2, sigs[i]);
		close(said_fd);
		p.events = POLLIN;
		assert_int_equal(poll(&p, 1, PATIENCE), 1);
		token_gone(p.fd);
		ends_at_fork(start_tls, 2, sigs[i]);
		for (ms = 0; rmdir(dir) == -1; ms += 5) {
			assert_true(ms < PATIENCE);
			(void)poll(NULL, 0, 5);
		}
		assert_int_equal(mkdir(dir, 0700), 0);
	}
	assert_int_equal(rmdir(dir), 0);
	unsetenv("TMPDIR");
}

static char command_failure[80];

static void
on_joined(void *owner, int fd)
{
	fail_msg("%d has joined %p", fd, owner);
}

static void
on_failed(void *owner, const char *why)
{
	(void)owner;
	snprintf(command_failure, sizeof(command_failure), "%s", why);
}

/* A command connects when we have no descriptor for it: it has failed. */
static void
test_command_full(void **state)
{
	static const struct commander judge = { on_joined, on_failed };
	static int taken[FD_SETSIZE];
	struct command c;
	struct rlimit rl, old;
	struct sockaddr_un sun;
	const char *failed;
	int fd, i, n;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (i = 0; i < 2; i++) {
		rl = old;
		rl.rlim_cur = i == 0 || old.rlim_max < FD_SETSIZE + 64 ?
		    FD_SETSIZE : FD_SETSIZE + 64;
		if (rl.rlim_cur > old.rlim_max)
			rl.rlim_cur = old.rlim_max;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
		memset(&c, 0, sizeof(c));
		c.commander = &judge;
		assert_int_equal(command_listen(&c, &failed), 0);
		command_failure[0] = '\0';
		assert_int_equal(turn(0), 0);
		assert_string_equal(command_failure, "");
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		memset(&sun, 0, sizeof(sun));
		sun.sun_family = AF_UNIX;
		strcpy(sun.sun_path, c.path);
		ok(connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0,
		    "connect");
		n = take_all(taken);
		assert_int_equal(turn(0), 1);
		while (n > 0)
			close(taken[--n]);
		assert_string_equal(command_failure, strerror(EMFILE));
		assert_int_equal(c.sock, -1);
		assert_string_equal(c.path, "");
		close(fd);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* Of a busy flow's pipe no child that stays keeps an end. */
static void
test_children_ducts(void **state)
{
#if SPLICES
	struct duct *d = duct_new();
	struct pollfd p;

	(void)state;
	assert_non_null(d);
	assert_int_equal(keeper_start(), 0);
	assert_int_equal(lookup_init(), 0);
	close(d->wfd);
	d->wfd = -1;
	p.fd = d->rfd;
	p.events = POLLIN;
	assert_int_equal(poll(&p, 1, PATIENCE), 1);
	assert_int_equal(p.revents, POLLHUP);
	duct_close(d);
	close(keeper);
	ok(waitpid(keeper_pid, NULL, 0) == keeper_pid, "waitpid");
	keeper = keeper_pid = -1;
	lookup_end();
	close(helper_sock);
	helper_sock = helper_life = -1;
#else
	(void)state;
	skip();
#endif
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
		TEST(test_loop_busy),
		TEST(test_loop_pause),
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
		TEST(test_flow_early_much),
		TEST(test_flow_early_end),
		TEST(test_unlinked),
		TEST(test_ready),
		TEST(test_end_send),
		TEST(test_stall),
		TEST(test_stall_full),
		TEST(test_stall_end),
		TEST(test_busy),
		TEST(test_busy_reader_resets),
		TEST(test_busy_sender_resets),
		TEST(test_busy_urgent),
		TEST(test_busy_both),
		TEST(test_busy_none),
		TEST(test_busy_given_back),
		TEST(test_half_close),
		TEST(test_close_both),
		TEST(test_send_error),
		TEST(test_send_error_owed),
		TEST(test_send_memory),
		TEST(test_ws_end_memory),
		TEST(test_finish_error),
		TEST(test_send_error_unlinked),
		TEST(test_recv_error),
		TEST(test_end_reset),
		TEST(test_end_failed),
		TEST(test_end_close),
		TEST(test_keep),
		TEST(test_keep_interim),
		TEST(test_keep_gone),
		TEST(test_keep_inexact),
		TEST(test_stdio_start),
		TEST(test_stdio_flow),
		TEST(test_stdio_stall),
		TEST(test_stdio_busy),
		TEST(test_stdio_epipe),
		TEST(test_stdio_socket),
		TEST(test_ws_flow),
		TEST(test_ws_bytes),
		TEST(test_ws_masks),
		TEST(test_ws_lengths),
		TEST(test_ws_silence),
		TEST(test_ws_life),
		TEST(test_ws_quiet),
		TEST(test_ws_ping),
		TEST(test_ws_pulse),
		TEST(test_ws_alive),
		TEST(test_ws_stalled_clock),
		TEST(test_ws_stalled_short),
		TEST(test_ws_stalled_unlinked),
		TEST(test_ws_stalled_both),
		TEST(test_ws_ping_owed),
		TEST(test_ws_pong_waits),
		TEST(test_ws_pong),
		TEST(test_ws_ends),
		TEST(test_ws_ends_codes),
		TEST(test_ws_ends_tcp),
		TEST(test_ws_ends_owed),
		TEST(test_ws_linger),
		TEST(test_ws_linger_noise),
		TEST(test_ws_linger_stalled),
		TEST(test_ws_signs),
		TEST(test_ws_closes),
		TEST(test_ws_closes_owed),
		TEST(test_ws_closes_stalled),
		TEST(test_ws_closes_broken),
		TEST(test_ws_stays),
		TEST(test_ws_leaves),
		TEST(test_ws_chain),
		TEST(test_ws_chain_closes),
		TEST(test_ws_bad),
		TEST(test_ws_lost),
		TEST(test_ws_close_early),
		TEST(test_ws_close_unlinked),
		TEST(test_ws_drop),
		TEST(test_ws_drop_tcp),
		TEST(test_ws_cut),
		TEST(test_ws_fail),
		TEST(test_ws_fail_not),
		TEST(test_ws_send_error),
		TEST(test_ws_send_error_ping),
		TEST(test_ws_send_error_owed),
		TEST(test_ws_send_error_pong),
		TEST(test_ws_send_error_closed),
		TEST(test_ws_sign_to_nobody),
		TEST(test_ws_failed),
		TEST(test_ws_backpressure),
		TEST(test_ws_backpressure_far),
		TEST(test_ws_codec_in),
		TEST(test_ws_codec_out),
		TEST(test_ws_codec_end),
		TEST(test_ws_codec_bad),
		TEST(test_ws_early),
		TEST(test_ws_early_link),
		TEST(test_ws_move),
		TEST(test_ws_release),
		TEST(test_dial_literal),
		TEST(test_dial_source),
		TEST(test_dial_fails),
		TEST(test_dial_cancel),
		TEST(test_dial_interleave),
		TEST(test_lookup),
		TEST(test_lookup_fails),
		TEST(test_lookup_cancel),
		TEST(test_lookup_unreachable),
		TEST(test_dial_telling),
		TEST(test_lookup_busy),
		TEST(test_dial_full),
		TEST(test_dial_next),
		TEST(test_dial_crowded),
		TEST(test_lookup_helper),
		TEST(test_lookup_replaced),
		TEST(test_listen_addrs),
		TEST(test_listen_open),
		TEST(test_listener),
		TEST(test_listener_rest),
		TEST(test_random),
		TEST(test_random_device),
		TEST(test_random_child),
		TEST(test_fd_peer),
		TEST(test_fd_peer_mapped),
		TEST(test_fd_own),
		TEST(test_crew_tell),
		TEST(test_crew_pass),
		TEST(test_crew_tell_full),
		TEST(test_channel_size),
		TEST(test_crew_tell_last),
		TEST(test_worker_note),
		TEST(test_worker_note_bare),
		TEST(test_lookup_worker),
		TEST(test_worker_orphan),
		TEST(test_crew_route),
		TEST(test_crew_route_full),
		TEST(test_crew_first),
		TEST(test_crew_gone),
		TEST(test_crew_fork_fails),
		TEST(test_crew_help_fails),
		TEST(test_keeper_signal),
		TEST(test_command_signal),
		TEST(test_command_full),
		TEST(test_children_ducts),
	};

	/* As fd_sane() does; and whatever blocks after all is ended. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)pthread_atfork(NULL, on_fork, NULL);
	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
