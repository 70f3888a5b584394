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
 * Descriptors and time: the select loop and its deadlines, listening,
 * look-ups, connecting, ends and the flows between them.  Nothing here knows
 * a message of HTTP's or what a tunnel was asked for.
 */

/* On the BSDs and macOS asking for POSIX would hide all else. */
#if defined(__linux__)
#define _XOPEN_SOURCE 700		/* ptsname */
#define _DEFAULT_SOURCE			/* SCM_RIGHTS' macros, TCP_KEEPIDLE */
#ifndef HTTPTUN_PORTABLE
#define _GNU_SOURCE			/* splice, accept4 */
#endif
#elif defined(__sun)
#define _XOPEN_SOURCE 700		/* SCM_RIGHTS, ptsname */
#define __EXTENSIONS__
#endif

#include <sys/ioctl.h>
#include <sys/mman.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#ifdef __APPLE__
#include <sys/random.h>			/* getentropy */
#endif
#include <sys/select.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "httptun.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL	0		/* SIGPIPE is ignored anyway */
#endif
#ifndef MSG_MORE
#define MSG_MORE	0		/* it may leave alone, then */
#endif
#ifndef MSG_DONTWAIT
#define MSG_DONTWAIT	0		/* select said that it would go */
#endif

/* What a process holds at most: tunnels below FD_SETSIZE, ducts above. */
#define FDS_WANTED	(FD_SETSIZE + 2 * (rlim_t)DUCTS_MAX)

struct reach reach;

/* ---- the loop: descriptors --------------------------------------------- */

#define WANT_READ	1
#define WANT_WRITE	2

/* What the loop asks about a descriptor, each turn, and tells of it. */
struct watcher {
	unsigned	(*want)(void *arg, int fd);
	void		(*ready)(void *arg, int fd, unsigned what);
	int		 eager;		/* asked each turn, however quiet */
};

/* The macros want an unsigned number in some libraries, any in others. */
static void
set_add(int fd, fd_set *set)
{
	FD_SET((unsigned)fd, set);
}

static void
set_del(int fd, fd_set *set)
{
	FD_CLR((unsigned)fd, set);
}

static int
set_has(int fd, const fd_set *set)
{
	return FD_ISSET((unsigned)fd, set) != 0;
}

/*
 * Invariant: only descriptors below FD_SETSIZE get in here, so none at or
 * above it ever reaches a set.
 *
 * select() costs what it is asked about, so that among many idle tunnels a
 * busy one would be slow.  What has been quiet for COLD_MS is left out of
 * most turns and looked at each GLANCE_MS only, or when all is quiet.
 */
static struct {
	const struct watcher	*watcher;
	void			*arg;
	unsigned		 active;	/* when it was last ready; wraps */
	int			 live;		/* it is in the list of these */
} slots[FD_SETSIZE];
static int slots_top;			/* one above the highest in use */
static int lives[FD_SETSIZE], nlives;	/* what a turn asks about at least */
static fd_set readable, writable;	/* what the last select() found */
static int stopped;
static int64_t now = -1;
static struct timer *graves;
static unsigned char pool[256];		/* of random bytes */
static size_t pool_left;
static struct timer timers = { &timers, &timers, 0, NULL, NULL };

/* It is not idle: the next turn asks about it. */
static void
loop_touch(int fd)
{
	slots[fd].active = (unsigned)loop_now();
	if (!slots[fd].live) {
		slots[fd].live = 1;
		lives[nlives++] = fd;
	}
}

/* -1 when the descriptor is none, or (EMFILE) at or above FD_SETSIZE. */
static int
loop_watch(int fd, const struct watcher *w, void *arg)
{
	if (fd < 0 || fd >= FD_SETSIZE) {
		errno = fd < 0 ? EBADF : EMFILE;
		return -1;
	}
	slots[fd].watcher = w;
	slots[fd].arg = arg;
	if (fd >= slots_top)
		slots_top = fd + 1;
	loop_touch(fd);
	/* What was found of an earlier owner of this number is not ours. */
	set_del(fd, &readable);
	set_del(fd, &writable);
	return 0;
}

static void
loop_forget(int fd)
{
	if (fd < 0 || fd >= FD_SETSIZE)
		return;
	slots[fd].watcher = NULL;
	while (slots_top > 0 && slots[slots_top - 1].watcher == NULL)
		slots_top--;
}

void
loop_stop(void)
{
	stopped = 1;
}

int
loop_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		return FD_SETSIZE;
	if (rl.rlim_cur < FDS_WANTED && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max < FDS_WANTED ? rl.rlim_max :
		    FDS_WANTED;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
		(void)getrlimit(RLIMIT_NOFILE, &rl);
	}
	return rl.rlim_cur < FD_SETSIZE ? (int)rl.rlim_cur : FD_SETSIZE;
}

/* Interest is computed from each owner's state, never remembered. */
static void
loop_ask(int fd)
{
	unsigned want;

	if (slots[fd].watcher == NULL)
		return;
	want = slots[fd].watcher->want(slots[fd].arg, fd);
	if (want & WANT_READ)
		set_add(fd, &readable);
	if (want & WANT_WRITE)
		set_add(fd, &writable);
}

/* What select() is asked: about all, which also finds who is live, or not. */
static void
loop_interest(int all)
{
	int fd, i;

	FD_ZERO(&readable);
	FD_ZERO(&writable);
	if (!all) {
		for (i = 0; i < nlives; i++)
			loop_ask(lives[i]);
		return;
	}
	while (nlives > 0)
		slots[lives[--nlives]].live = 0;
	for (fd = 0; fd < slots_top; fd++) {
		loop_ask(fd);
		if (slots[fd].watcher != NULL && (slots[fd].watcher->eager ||
		    (unsigned)now - slots[fd].active < COLD_MS)) {
			slots[fd].live = 1;
			lives[nlives++] = fd;
		}
	}
}

static void
loop_ready(int fd, int *n)
{
	unsigned what = 0;

	if (set_has(fd, &readable)) {
		what |= WANT_READ;
		--*n;
	}
	if (set_has(fd, &writable)) {
		what |= WANT_WRITE;
		--*n;
	}
	if (what == 0 || slots[fd].watcher == NULL)
		return;
	loop_touch(fd);
	slots[fd].watcher->ready(slots[fd].arg, fd, what);
}

/* Tells the owners of the n that select() found. */
static void
loop_dispatch(int n, int all)
{
	int i, asked = all ? slots_top : nlives;

	for (i = 0; i < asked && n > 0; i++)
		loop_ready(all ? i : lives[i], &n);
}

/* ---- the loop: signals ---------------------------------------------------- */

/* They are let in only while the loop sleeps, and acted on when it wakes. */
static struct {
	void			(*fn)(void);
	int			 sig;
	volatile sig_atomic_t	 pending;
} signals[SIGNALS_MAX];
static int nsignals;
static void (*farewell)(void);		/* of those that end us, */
static int farewell_signal;		/* and the one that came */

static void
on_signal(int sig)
{
	int i;

	for (i = 0; i < nsignals; i++)
		if (signals[i].sig == sig)
			signals[i].pending = 1;
}

static void
signal_set(int sig, void (*handler)(int))
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = handler;
	sigaction(sig, &sa, NULL);
}

void
signal_watch(int sig, void (*fn)(void))
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals[nsignals].sig = sig;
	signals[nsignals++].fn = fn;
	signal_set(sig, on_signal);
}

/* The mask for sleeping: as it is, without what is watched. */
static void
signals_mask(sigset_t *set)
{
	int i;

	sigprocmask(SIG_SETMASK, NULL, set);
	for (i = 0; i < nsignals; i++)
		sigdelset(set, signals[i].sig);
}

/*
 * pselect(2) lets a signal in when it has to wait, not when it finds somebody
 * ready at once, as it may for as long as there is much to do.
 */
static void
signals_let(const sigset_t *mask)
{
	sigset_t old;

	sigprocmask(SIG_SETMASK, mask, &old);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void
signals_run(void)
{
	int i;

	for (i = 0; i < nsignals; i++)
		if (signals[i].pending) {
			signals[i].pending = 0;
			if (signals[i].fn == farewell)
				farewell_signal = signals[i].sig;
			signals[i].fn();
		}
}

static int
farewell_due(void)
{
	int i, due = farewell_signal != 0;

	for (i = 0; i < nsignals; i++)
		due |= signals[i].pending && signals[i].fn == farewell;
	return due;
}

/*
 * Who has a farewell to say is not ended amid a write(2) that waits: where a
 * signal has come, what stderr has no room for is not said.
 */
void
words_write(const void *p, size_t n)
{
	static const struct timespec none = { 0, 0 };
	sigset_t mask;
	fd_set set;
	int r = 1;

	if (farewell != NULL) {
		signals_mask(&mask);
		do {
			FD_ZERO(&set);
			set_add(STDERR_FILENO, &set);
			r = pselect(STDERR_FILENO + 1, NULL, &set, NULL,
			    farewell_due() ? &none : NULL, &mask);
		} while (r == -1 && errno == EINTR);
	}
	if (r != 0)
		(void)!write(STDERR_FILENO, p, n);
}

/*
 * A child takes no part in what its parent does about signals: they leave its
 * mask, and do what they do by default.
 */
static void
signals_reset(sigset_t *mask)
{
	static const int ignored[] = { SIGHUP, SIGQUIT, SIGUSR1 };
	size_t i;

	while (nsignals > 0) {
		sigdelset(mask, signals[--nsignals].sig);
		signal_set(signals[nsignals].sig, SIG_DFL);
	}
	for (i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal_set(ignored[i], SIG_IGN);
	signal_set(SIGCHLD, SIG_DFL);
}

/* ---- the loop: time ------------------------------------------------------ */

static void
time_update(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
loop_now(void)
{
	if (now == -1)
		time_update();
	return now;
}

static unsigned
year_days(unsigned year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 366 :
	    365;
}

/*
 * Not by strftime(3): for one line it brings languages and time zones along,
 * a twentieth of a static program.
 */
static void
time_text(char *dst, int64_t t)
{
	static const unsigned char days[] = {
		31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
	};
	unsigned secs = (unsigned)(t % 86400), day = (unsigned)(t / 86400);
	unsigned year, month, n;

	for (year = 1970; day >= (n = year_days(year)); year++)
		day -= n;
	for (month = 0; day >= (n = days[month] + (month == 1 ?
	    year_days(year) - 365 : 0)); month++)
		day -= n;
	/* each in its width, the compiler sees */
	snprintf(dst, 21, "%04u-%02u-%02uT%02u:%02u:%02uZ", year % 10000,
	    month % 12 + 1, day % 31 + 1, secs / 3600 % 24, secs / 60 % 60,
	    secs % 60);
}

void
time_stamp(char *dst)
{
	time_text(dst, time(NULL));
}

void
timer_stop(struct timer *t)
{
	if (t->prev == NULL)		/* unset, or buried */
		return;
	t->next->prev = t->prev;
	t->prev->next = t->next;
	t->next = t->prev = NULL;
}

/* Most deadlines are the latest when they are set: the search is from there. */
void
timer_set(struct timer *t, int64_t ms, void (*fn)(void *), void *arg)
{
	struct timer *before;

	timer_stop(t);
	t->at = loop_now() + ms;
	t->fn = fn;
	t->arg = arg;
	for (before = timers.prev; before != &timers && before->at > t->at; )
		before = before->prev;
	t->prev = before;
	t->next = before->next;
	before->next->prev = t;
	before->next = t;
}

void
loop_bury(struct timer *t, void (*fn)(void *), void *arg)
{
	timer_stop(t);
	t->fn = fn;
	t->arg = arg;
	t->next = graves;
	graves = t;
}

static void
loop_sweep(void)
{
	struct timer *t;

	while ((t = graves) != NULL) {
		graves = t->next;
		t->fn(t->arg);
	}
}

static void
timers_run(void)
{
	struct timer *t;

	while ((t = timers.next) != &timers && t->at <= now) {
		timer_stop(t);
		t->fn(t->arg);
	}
}

/* How long to sleep: to the next deadline, and at most so many ms. */
static struct timespec *
loop_sleep(struct timespec *ts, int64_t most)
{
	int64_t ms = most;

	if (timers.next != &timers && (ms == -1 ||
	    timers.next->at - now < ms))
		ms = timers.next->at - now;
	else if (ms == -1)
		return NULL;
	if (ms < 0)
		ms = 0;
	ts->tv_sec = (time_t)(ms / 1000);
	ts->tv_nsec = (long)(ms % 1000 * 1000000);
	return ts;
}

void
loop_run(void)
{
	struct timespec ts;
	sigset_t mask;
	int64_t glance = 0;		/* when all were asked about */
	int64_t let = 0;		/* when signals were let in */
	int n, all, masked = -1;

	time_update();
	while (!stopped) {
		if (masked != nsignals)
			signals_mask(&mask);
		masked = nsignals;
		all = now - glance >= GLANCE_MS || nlives == slots_top;
		loop_interest(all);
		n = pselect(slots_top, &readable, &writable, NULL,
		    loop_sleep(&ts, all ? -1 : GLANCE_MS), &mask);
		time_update();
		if (all)
			glance = now;
		if (n > 0) {
			loop_dispatch(n, all);
			if (let != now)
				signals_let(&mask);
		}
		let = now;
		signals_run();
		/* We may have been stopped: nobody is late before he is heard. */
		if (all || now - glance < GLANCE_MS)
			timers_run();
		loop_sweep();
	}
	/* One that came in the last turn is not to be lost. */
	signals_mask(&mask);
	signals_let(&mask);
	signals_run();
}

/* A child begins with nothing that its parent watched. */
static void
loop_reset(void)
{
	memset(slots, 0, sizeof(slots));
	slots_top = nlives = 0;
	timers.next = timers.prev = &timers;
	graves = NULL;
	stopped = 0;
	pool_left = 0;		/* its random bytes are the parent's */
}

/* ---- addresses ------------------------------------------------------------- */

static socklen_t
addr_len(const union addr *a)
{
	return a->sa.sa_family == AF_INET6 ? sizeof(a->in6) : sizeof(a->in);
}

static void
addr_copy(union addr *a, const struct sockaddr *sa)
{
	memset(a, 0, sizeof(*a));
	if (sa->sa_family == AF_INET6)
		memcpy(&a->in6, sa, sizeof(a->in6));
	else
		memcpy(&a->in, sa, sizeof(a->in));
}

/*
 * One to four numbers, decimal, octal or hexadecimal, of which the last one
 * fills what the others leave, as inet_aton() takes them.
 */
static int
literal_in(struct in_addr *a, const char *s)
{
	unsigned long part[4], addr = 0;
	char *end;
	int n = 0, i;

	do {
		if (n == 4 || *s < '0' || *s > '9')
			return -1;
		errno = 0;
		part[n++] = strtoul(s, &end, 0);
		if (errno != 0)
			return -1;
		s = end + 1;
	} while (*end == '.');
	if (*end != '\0')
		return -1;
	for (i = 0; i < n - 1; i++) {
		if (part[i] > 255)
			return -1;
		addr |= part[i] << (24 - 8 * i);
	}
	if (part[i] > 0xffffffffUL >> (8 * i))
		return -1;
	a->s_addr = htonl((uint32_t)(addr | part[i]));
	return 0;
}

/*
 * Any IPv6 address, and behind a "%" its scope.  Of an interface's name Linux
 * leaves out a colon and what follows, which might be anything.
 */
static int
literal_in6(struct sockaddr_in6 *in6, const char *s)
{
	char text[INET6_ADDRSTRLEN];
	size_t n = strcspn(s, "%");
	long scope;

	if (n >= sizeof(text))
		return -1;
	memcpy(text, s, n);
	text[n] = '\0';
	if (inet_pton(AF_INET6, text, &in6->sin6_addr) != 1)
		return -1;
	if (s[n] == '\0')
		return 0;
	in6->sin6_scope_id = strchr(s + n, ':') != NULL ? 0 :
	    if_nametoindex(s + n + 1);
	if (in6->sin6_scope_id == 0) {
		scope = text_number(s + n + 1, strlen(s + n + 1), 1, INT_MAX);
		if (scope == -1)
			return -1;
		in6->sin6_scope_id = (uint32_t)scope;
	}
	return 0;
}

static void
addr_set_port(union addr *a, unsigned port)
{
	if (a->sa.sa_family == AF_INET6)
		a->in6.sin6_port = htons((uint16_t)port);
	else
		a->in.sin_port = htons((uint16_t)port);
}

/* Without getaddrinfo(3), which may block whatever it is told. */
int
addr_literal(union addr *a, const char *s, unsigned port)
{
	memset(a, 0, sizeof(*a));
	if (literal_in(&a->in.sin_addr, s) == 0)
		a->sa.sa_family = AF_INET;
	else if (literal_in6(&a->in6, s) == 0)
		a->sa.sa_family = AF_INET6;
	else {
		memset(a, 0, sizeof(*a));
		return -1;
	}
	addr_set_port(a, port);
	return 0;
}

unsigned
addr_port(const union addr *a)
{
	return ntohs(a->sa.sa_family == AF_INET6 ? a->in6.sin6_port :
	    a->in.sin_port);
}

char *
addr_text(char *dst, const union addr *a)
{
	char scope[IF_NAMESIZE];

	if (a->sa.sa_family == AF_INET)
		inet_ntop(AF_INET, &a->in.sin_addr, dst, INET6_ADDRSTRLEN);
	else if (a->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a->in6.sin6_addr, dst, INET6_ADDRSTRLEN);
		if (a->in6.sin6_scope_id != 0 &&
		    if_indextoname(a->in6.sin6_scope_id, scope) != NULL)
			snprintf(dst + strlen(dst), IF_NAMESIZE + 1, "%%%s",
			    scope);
	} else
		strcpy(dst, "-");
	return dst;
}

char *
addr_text_port(char *dst, const union addr *a)
{
	char host[ADDR_TEXT];

	addr_text(host, a);
	if (a->sa.sa_family == AF_UNSPEC)
		strcpy(dst, host);
	else
		snprintf(dst, ADDR_PORT_TEXT,
		    a->sa.sa_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
		    addr_port(a));
	return dst;
}

void
addr_unmap(union addr *a)
{
	struct sockaddr_in in;

	if (a->sa.sa_family != AF_INET6 ||
	    !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
		return;
	memset(&in, 0, sizeof(in));
	in.sin_family = AF_INET;
	in.sin_port = a->in6.sin6_port;
	memcpy(&in.sin_addr, a->in6.sin6_addr.s6_addr + 12, 4);
	memset(a, 0, sizeof(*a));
	a->in = in;
}

static const unsigned char *
addr_bytes(const union addr *a, unsigned *bits)
{
	if (a->sa.sa_family == AF_INET6) {
		*bits = 128;
		return a->in6.sin6_addr.s6_addr;
	}
	*bits = 32;
	return (const unsigned char *)&a->in.sin_addr;
}

int
addr_within(const union addr *a, const union addr *net, unsigned bits)
{
	const unsigned char *x, *y;
	unsigned all, rest;

	if (a->sa.sa_family != net->sa.sa_family)
		return 0;
	x = addr_bytes(a, &all);
	y = addr_bytes(net, &all);
	if (bits > all)
		bits = all;
	rest = bits % 8;
	return memcmp(x, y, bits / 8) == 0 && (rest == 0 ||
	    (x[bits / 8] ^ y[bits / 8]) >> (8 - rest) == 0);
}

int
addr_same_host(const union addr *a, const union addr *b)
{
	return addr_within(a, b, 128);
}

int
addr_any(const union addr *a)
{
	return a->sa.sa_family == AF_INET6 ?
	    IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr) :
	    a->in.sin_addr.s_addr == htonl(INADDR_ANY);
}

int
addr_loopback(const union addr *a)
{
	return a->sa.sa_family == AF_INET6 ?
	    IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr) :
	    ntohl(a->in.sin_addr.s_addr) >> 24 == 127;
}

int
addr_link_local(const union addr *a)
{
	if (a->sa.sa_family == AF_INET6)
		return IN6_IS_ADDR_LINKLOCAL(&a->in6.sin6_addr);
	return ntohl(a->in.sin_addr.s_addr) >> 16 == 0xa9fe;
}

/* ---- descriptors ------------------------------------------------------------- */

static void
fd_flags(int fd)
{
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/*
 * Sockets begin as ours, and what a listening one has been told is so of all
 * that it accepts, where the system can do that.
 */
#if defined(__linux__) && defined(_GNU_SOURCE)

#define SOCK_OURS	(SOCK_NONBLOCK | SOCK_CLOEXEC)
#define ACCEPT_INHERITS	1

static int
fd_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	return accept4(fd, sa, len, SOCK_OURS);
}

static int
fd_socket(int family)
{
	return socket(family, SOCK_STREAM | SOCK_OURS, 0);
}

#else

#define ACCEPT_INHERITS	0

static int
fd_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	int got = accept(fd, sa, len);

	if (got != -1)
		fd_flags(got);
	return got;
}

static int
fd_socket(int family)
{
	int fd = socket(family, SOCK_STREAM, 0);

	if (fd != -1)
		fd_flags(fd);
	return fd;
}

#endif

static void
fd_close(int fd)
{
	loop_forget(fd);
	close(fd);
}

/* Whether close() is a reset, or sends what there is and then ends. */
static void
fd_abrupt(int fd, int abrupt)
{
	struct linger l;

	l.l_onoff = abrupt;
	l.l_linger = 0;
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

/*
 * Both legs of every tunnel: small writes leave at once, the dead are found,
 * and should this process die, both sides see a reset and no false end.
 */
static void
fd_tcp(int fd)
{
	static const int on = 1;
#ifdef TCP_KEEPIDLE
	static const int idle = 60;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
#endif
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	fd_abrupt(fd, 1);
}

/* Whether errno says no more than that. */
static int
fd_later(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

int
fd_is_socket(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

int
fd_is_local(int fd)
{
	union addr a;
	socklen_t len = sizeof(a);

	memset(&a, 0, sizeof(a));
	return getsockname(fd, &a.sa, &len) == 0 && a.sa.sa_family == AF_UNIX;
}

int
fd_peer(int fd, union addr *a)
{
	socklen_t len = sizeof(*a);

	memset(a, 0, sizeof(*a));
	if (getpeername(fd, &a->sa, &len) == -1) {
		memset(a, 0, sizeof(*a));
		return errno == ENOTSOCK ? 0 : -1;
	}
	if (a->sa.sa_family != AF_INET && a->sa.sa_family != AF_INET6)
		memset(a, 0, sizeof(*a));
	addr_unmap(a);
	return 0;
}

void
fd_own(int fd)
{
	fd_flags(fd);
	fd_tcp(fd);
}

int
fd_pair(int *fd)
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == -1)
		return -1;
	if (fd[0] >= FD_SETSIZE || fd[1] >= FD_SETSIZE) {
		close(fd[0]);
		close(fd[1]);
		errno = EMFILE;
		return -1;
	}
	fd_flags(fd[0]);
	fd_flags(fd[1]);
	return 0;
}

void *
shared_alloc(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int pipe_ignored = -1;		/* SIGPIPE was so before us; unknown */

void
fd_sane(void)
{
	struct sigaction sa, old;
	int fd;

	while ((fd = open("/dev/null", O_RDWR)) != -1 && fd <= STDERR_FILENO)
		;
	if (fd != -1)
		close(fd);
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = SIG_IGN;
	if (sigaction(SIGPIPE, &sa, &old) == 0 && pipe_ignored == -1)
		pipe_ignored = old.sa_handler == SIG_IGN;
}

void
fd_discreet(void)
{
	struct stat out, err;
	int fd;

	if (fstat(STDOUT_FILENO, &out) == -1 ||
	    fstat(STDERR_FILENO, &err) == -1 ||
	    out.st_dev != err.st_dev || out.st_ino != err.st_ino)
		return;
	/* The BSDs give no number to a TCP socket, nor to some pipes. */
	if (!(S_ISSOCK(out.st_mode) && S_ISSOCK(err.st_mode)) &&
	    !(S_ISFIFO(out.st_mode) && out.st_ino != 0))
		return;
	if ((fd = open("/dev/null", O_WRONLY)) != -1) {
		(void)dup2(fd, STDERR_FILENO);
		close(fd);
	}
}

/* An old kernel has no call for it (or a sandbox forbids it), but a device. */
static int
pool_fill(void)
{
	ssize_t n = 0;
	int fd;

	if (getentropy(pool, sizeof(pool)) == 0)
		return 0;
	if ((fd = open("/dev/urandom", O_RDONLY)) != -1) {
		n = read(fd, pool, sizeof(pool));
		close(fd);
	}
	return n == (ssize_t)sizeof(pool) ? 0 : -1;
}

void
random_bytes(void *dst, size_t n)
{
	unsigned char *p = dst;

	for (; n > 0; n--) {
		if (pool_left == 0) {
			/* What can be guessed is worse than no tunnel. */
			if (pool_fill() == -1)
				abort();
			pool_left = sizeof(pool);
		}
		*p++ = pool[--pool_left];
		pool[pool_left] = 0;
	}
}

/* A message of n bytes, with a descriptor beside it unless fd is -1. */
static ssize_t
fd_send(int sock, int fd, const void *p, size_t n, int flags)
{
	union {
		struct cmsghdr	hdr;
		unsigned char	space[CMSG_SPACE(sizeof(int))];
	} control;
	struct cmsghdr *cmsg;
	struct msghdr msg;
	struct iovec iov;

	iov.iov_base = (void *)(uintptr_t)p;
	iov.iov_len = n;
	memset(&msg, 0, sizeof(msg));
	memset(&control, 0, sizeof(control));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	if (fd != -1) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.space);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	}
	return sendmsg(sock, &msg, flags | MSG_NOSIGNAL);
}

static ssize_t
fd_recv(int sock, int *fd, void *p, size_t n)
{
	union {
		struct cmsghdr	hdr;
		unsigned char	space[CMSG_SPACE(sizeof(int))];
	} control;
	struct cmsghdr *cmsg;
	struct msghdr msg;
	struct iovec iov;
	ssize_t r;

	iov.iov_base = p;
	iov.iov_len = n;
	memset(&msg, 0, sizeof(msg));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = &control;
	msg.msg_controllen = sizeof(control.space);
	*fd = -1;
	if ((r = recvmsg(sock, &msg, 0)) == -1)
		return -1;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg != NULL && cmsg->cmsg_level == SOL_SOCKET &&
	    cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(cmsg), sizeof(int));
	return r;
}

/* The socket is our caller's: it may be full, and not wait for itself. */
int
fd_pass(int sock, int fd)
{
	fd_set set;
	ssize_t n;

	while ((n = fd_send(sock, fd, "", 1, 0)) == -1 && fd_later()) {
		FD_ZERO(&set);
		set_add(sock, &set);
		(void)select(sock + 1, NULL, &set, NULL, NULL);
	}
	return n == 1 ? 0 : -1;
}

/* ---- carriers ------------------------------------------------------------------ */

static ssize_t
tcp_recv(struct end *e, void *p, size_t n)
{
	return recv(e->rfd, p, n, e->exact ? MSG_PEEK : 0);
}

static ssize_t
tcp_send(struct end *e, const void *p, size_t n)
{
	return send(e->wfd, p, n, MSG_NOSIGNAL | (e->more ? MSG_MORE : 0));
}

static int
tcp_finish(struct end *e)
{
	if (shutdown(e->wfd, SHUT_WR) == 0)
		return 0;
	if (errno == ENOTCONN)		/* a reset was here first */
		errno = ECONNRESET;
	return -1;
}

static const struct carrier tcp = {
	tcp_recv, tcp_send, tcp_finish, 1
};

/*
 * stdin and stdout belong to others too (a shell, a terminal), so they are
 * never put into non-blocking mode.  A read does not block when select() has
 * named the descriptor, a write to a pipe not up to PIPE_BUF bytes, and one
 * to a file not at all.
 */
static ssize_t
stdio_recv(struct end *e, void *p, size_t n)
{
	return read(e->rfd, p, n);
}

/* What they are. */
static void
stdio_look(struct end *e)
{
	struct stat st;

	if (fstat(e->rfd, &st) == 0)
		e->ipipe = S_ISFIFO(st.st_mode) != 0;
	if (fstat(e->wfd, &st) == 0) {
		e->opipe = S_ISFIFO(st.st_mode) != 0;
		e->ofile = S_ISREG(st.st_mode) != 0;
		e->osocket = S_ISSOCK(st.st_mode) != 0;
	}
}

/*
 * A terminal may hold up a write (^S, a slow line) for as long as somebody
 * likes.  Opened anew it can be non-blocking, for us alone; where that is not
 * allowed it stays what it is.  So does a pseudo-terminal's master, which
 * pppd(8) gives to a `pty' command: opened anew it would be that of another.
 */
static void
stdio_terminal(void)
{
	const char *name = isatty(STDOUT_FILENO) ? ttyname(STDOUT_FILENO) :
	    NULL;
	int fd;

	if (name == NULL || ptsname(STDOUT_FILENO) != NULL ||
	    (fd = open(name, O_WRONLY | O_NOCTTY | O_NONBLOCK)) == -1)
		return;
	(void)dup2(fd, STDOUT_FILENO);
	close(fd);
}

static int
fd_writable(int fd)
{
	struct timeval tv = { 0, 0 };
	fd_set set;

	FD_ZERO(&set);
	set_add(fd, &set);
	return select(fd + 1, NULL, &set, NULL, &tv) == 1;
}

static ssize_t
stdio_send(struct end *e, const void *p, size_t n)
{
	const char *s = p;
	size_t done = 0, k;
	ssize_t r;

	while (done < n) {
		k = n - done;
		if (e->ofile)
			r = write(e->wfd, s + done, k);
		else if (!fd_writable(e->wfd)) {
			errno = EAGAIN;
			r = -1;
		} else if (e->osocket)
			r = send(e->wfd, s + done, k,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			r = write(e->wfd, s + done,
			    k < PIPE_BUF ? k : PIPE_BUF);
		if (r == -1)
			return done > 0 ? (ssize_t)done : -1;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

/* Leaves /dev/null in stdout's place, so that nothing else gets its number. */
static int
stdio_finish(struct end *e)
{
	int fd, r, error;

	(void)shutdown(e->wfd, SHUT_WR);	/* stdin may be the same socket */
	loop_forget(e->wfd);
	r = close(e->wfd);
	error = errno;
	if ((fd = open("/dev/null", O_WRONLY)) != -1 && fd != e->wfd) {
		dup2(fd, e->wfd);
		close(fd);
	}
	e->wfd = -1;
	errno = error;
	return r;
}

static const struct carrier stdio = {
	stdio_recv, stdio_send, stdio_finish, 0
};

static ssize_t	command_eof(struct end *);
static void	command_keep(struct end *);
static int	command_lacks(const struct end *);

/* What a command has said, and what it is told. */
static ssize_t
pipe_recv(struct end *e, void *p, size_t n)
{
	ssize_t r = read(e->rfd, p, n);

	return r == 0 ? command_eof(e) : r;
}

static ssize_t
pipe_send(struct end *e, const void *p, size_t n)
{
	return write(e->wfd, p, n);
}

static int
pipe_finish(struct end *e)
{
	command_keep(e);
	fd_close(e->wfd);
	e->wfd = -1;
	if (command_lacks(e)) {
		errno = EPIPE;
		return -1;
	}
	return 0;
}

static const struct carrier pipes = {
	pipe_recv, pipe_send, pipe_finish, 1
};

/* One above the highest descriptor that may be ours; ducts stand high. */
static int fds_top = FD_SETSIZE;

/* ---- ducts: bytes that stay in the kernel ---------------------------------------- */

/*
 * Where there is splice(2), a busy flow between two descriptors moves its
 * bytes through a pipe and copies none.  A duct is to it what the one buffer
 * is to others: taken for a chunk, given back as soon as the chunk has left,
 * and kept only with bytes in it.  Empty ones wait for the next chunk until
 * no flow was busy for a while.  Their descriptors stand above what select()
 * may see, so that no tunnel goes without one; where there is no room above,
 * or no pipe to be had, the bytes are copied.
 */
#if defined(SPLICE_F_MOVE) && !defined(HTTPTUN_PORTABLE)
#define SPLICES		1

struct duct {
	struct duct	*next;
	int		 rfd, wfd;
	size_t		 held;
};

static struct {
	struct duct	*empty;
	struct timer	 timer;
	int		 n;		/* of all */
	int		 used;		/* since the timer was set */
	int		 refused;	/* there are no more; until it is due */
} ducts;

static void
duct_close(struct duct *d)
{
	if (d->rfd != -1)
		close(d->rfd);
	if (d->wfd != -1)
		close(d->wfd);
	free(d);
	ducts.n--;
}

/* Closes the empty ones when none was taken for a while. */
static void
duct_idle(void *arg)
{
	struct duct *d;

	ducts.refused = 0;
	if (ducts.used) {
		ducts.used = 0;
		timer_set(&ducts.timer, DUCT_MS, duct_idle, arg);
		return;
	}
	while ((d = ducts.empty) != NULL) {
		ducts.empty = d->next;
		duct_close(d);
	}
}

/* Gives a descriptor a number that no tunnel could use. */
static int
duct_lift(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, FD_SETSIZE);

	close(fd);
	if (high >= fds_top)
		fds_top = high + 1;
	return high;
}

static struct duct *
duct_new(void)
{
	struct duct *d;
	int p[2];

	if (ducts.n == DUCTS_MAX || (d = calloc(1, sizeof(*d))) == NULL)
		return NULL;
	(void)loop_limit();
	if (pipe2(p, O_NONBLOCK | O_CLOEXEC) == -1) {
		free(d);
		return NULL;
	}
	ducts.n++;
	d->rfd = duct_lift(p[0]);
	d->wfd = duct_lift(p[1]);
	/* Who may have no more of large ones may have some of others. */
	if (d->rfd == -1 || d->wfd == -1 ||
	    (fcntl(d->wfd, F_SETPIPE_SZ, DUCT) == -1 &&
	    fcntl(d->wfd, F_SETPIPE_SZ, BULK) == -1)) {
		duct_close(d);
		return NULL;
	}
	return d;
}

/* An empty one; NULL: there is none. */
static struct duct *
duct_take(void)
{
	struct duct *d = ducts.empty;

	if (d != NULL)
		ducts.empty = d->next;
	else if (ducts.refused)
		return NULL;
	else if ((d = duct_new()) == NULL)
		ducts.refused = 1;
	ducts.used = 1;
	if (ducts.timer.next == NULL)
		timer_set(&ducts.timer, DUCT_MS, duct_idle, NULL);
	return d;
}

/* What one still holds is lost. */
static void
duct_give(struct duct *d)
{
	if (d->held > 0) {
		duct_close(d);
		return;
	}
	d->next = ducts.empty;
	ducts.empty = d;
}

/* Sends what is owed to the end from its duct.  -1: errno; EAGAIN for later. */
static int
duct_drain(struct end *e)
{
	struct duct *d = e->duct;
	ssize_t n;

	while (d->held > 0) {
		n = splice(d->rfd, NULL, e->wfd, NULL, d->held,
		    SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n == -1)
			return -1;
		d->held -= (size_t)n;
		e->active = loop_now();
	}
	e->duct = NULL;
	duct_give(d);
	return 0;
}

/*
 * Brings a chunk of what comes from the end to its peer's; as read(2), and
 * EINVAL where that does not go.
 */
static ssize_t
duct_fill(struct end *e)
{
	struct duct *d;
	ssize_t n;

	if ((d = duct_take()) == NULL) {
		errno = EINVAL;
		return -1;
	}
	n = splice(e->rfd, NULL, d->wfd, NULL, DUCT,
	    SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (n <= 0) {
		duct_give(d);
		return n;
	}
	d->held = (size_t)n;
	e->peer->duct = d;
	return n;
}

#else
#define SPLICES		0

static void
duct_give(struct duct *d)
{
	(void)d;
}

static int
duct_drain(struct end *e)
{
	(void)e;
	return 0;
}

static ssize_t
duct_fill(struct end *e)
{
	(void)e;
	errno = EINVAL;
	return -1;
}

#endif

/* ---- ends and flows --------------------------------------------------------------- */

/*
 * A WebSocket has no half-close.  How a direction's end is said, and how its
 * end is told from a loss, depends on what both sides agreed on; `over' is
 * reached by a Close in each direction, or when waiting for it took too long.
 */
struct websocket {
	struct ws	 ws;
	const struct carrier *under;	/* how its frames travel */
	struct timer	 pulse;
	int64_t		 heard;		/* when the last byte came */
	int64_t		 pinged;	/* when the open Ping left, or 0 */
	int64_t		 left;		/* when our Close did, or moved on */
	int		 quiet, grace;	/* ms until a Ping, and for an answer */
	int		 unsent;	/* what the kernel had then */
	unsigned	 ending:2,	/* enum ws_ending */
			 closing:1,	/* our Close has left */
			 gone:1,	/* nothing more comes */
			 cut:1,		/* a frame of ours is not whole */
			 deaf:1;	/* what comes means nothing any more */
};

static int	ws_listens(const struct end *);
static int	ws_settled(const struct end *);
static int	ws_done(const struct end *);
static unsigned char *ws_frame(struct end *, int, unsigned char *, size_t *);
static void	ws_closed(struct end *);
static void	ws_events(struct end *);
static void	ws_take(struct end *, size_t);
static void	ws_hangup(struct end *);
static void	ws_pong(struct end *);
static void	ws_stalled(struct end *);
static int	ws_awaited(const struct end *);
static int	ws_leave(struct end *, unsigned);
static void	ws_free(struct end *);
static void	ws_cut(struct end *);
static int	command_settled(struct end *);
static void	command_move(struct command *, struct end *);
static const char *command_why(const struct command *);

static int
end_owed(const struct end *e)
{
	return e->out.len > 0 || e->duct != NULL;
}

/* What it is owed is not sent any more. */
static void
end_forgo(struct end *e)
{
	buf_free(&e->out);
	if (e->duct != NULL)
		duct_give(e->duct);
	e->duct = NULL;
}

/*
 * A lost end that is not read to its end either, as its peer takes no more.
 * So it may be on the peer's other side too, in another process, where all
 * waits for us to read: then that is read over, as it has nowhere to go.
 */
static int
end_stuck(const struct end *e)
{
	return e->error != 0 && e->peer != NULL && end_owed(e->peer);
}

/*
 * Invariant: nothing is read from an end while its peer owes bytes to the
 * other side, so what is kept is bounded by one read, an idle tunnel owns no
 * buffer, and a stalled reader stops the sender.
 */
static int
end_hungry(const struct end *e)
{
	if (e->pending)
		return 0;
	if (e->eof)
		return ws_listens(e);
	if (e->peer != NULL && e->peer->error != 0)
		return end_stuck(e->peer) && e->carrier != &stdio;
	if (e->peer != NULL)
		return !end_owed(e->peer) &&
		    (!e->peer->finish || e->ws != NULL);
	return !e->deaf && e->in.len < INPUT_MAX;
}

static unsigned
end_want(void *arg, int fd)
{
	struct end *e = arg;
	unsigned want = 0;

	if (fd == e->rfd && end_hungry(e))
		want |= WANT_READ;
	if (fd == e->wfd && end_owed(e))
		want |= WANT_WRITE;
	return want;
}

static void
end_break(struct end *e, int error)
{
	if (e->error == 0)
		e->error = error;
	ws_cut(e);
	end_forgo(e);
	e->steps->broken(e->owner, e);
}

/*
 * A send failed.  What the other side had sent before may still be there to
 * be read (a server that answers early and closes): the flow from this end
 * goes on until it ends, then the end is broken.
 */
static void
end_lose(struct end *e, int error)
{
	int memory = error == ENOBUFS || error == ENOMEM;

	if (e->ws != NULL && ws_done(e)) {
		e->ws->gone = 1;
		buf_free(&e->out);
		return;
	}
	/* All was said; whether it was heard is said behind their `end'. */
	if (e->ws != NULL && ws_awaited(e) && !e->eof && !memory) {
		ws_cut(e);
		end_forgo(e);
		return;
	}
	e->lost = 1;
	/*
	 * Where both are lost nobody is left to read it for.  And who is there,
	 * as it is us who have no memory, may wait for us for ever.
	 */
	if (!e->carrier->survives || e->eof || memory ||
	    (e->peer != NULL && e->peer->error != 0) ||
	    (e->peer == NULL && e->in.len >= INPUT_MAX)) {
		end_break(e, error);
		return;
	}
	e->error = error;
	ws_cut(e);
	end_forgo(e);
}

/* Whether nothing more is to be said on this side. */
static int
end_over(struct end *e)
{
	return e->finished && (e->ws != NULL ? ws_settled(e) :
	    !end_owed(e) && command_settled(e));
}

/* Tells the owner when that holds for both. */
static int
end_check(struct end *e)
{
	if (e->peer == NULL || !end_over(e) || !end_over(e->peer))
		return 0;
	e->steps->done(e->owner, e);
	return 1;
}

/* A send failed for good, or has to wait.  -1: the end is lost. */
static int
end_unsent(struct end *e)
{
	if (fd_later())
		return 0;
	end_lose(e, errno);
	return -1;
}

/* What is lost owes nothing any more: who waits for that goes on. */
static void
end_relieve(struct end *e)
{
	if (e->lost && !e->closed)
		e->steps->sent(e->owner, e);
}

/* Sends what is owed, then tells our end to the other side. */
static void
end_flush(struct end *e)
{
	ssize_t n;

	if (e->duct != NULL && duct_drain(e) == -1) {
		if (end_unsent(e) == -1)
			end_relieve(e);
		return;
	}
	while (e->out.len > 0) {
		n = e->carrier->send(e, e->out.p + e->out.off, e->out.len);
		if (n == -1) {
			if (end_unsent(e) == -1)
				end_relieve(e);
			return;
		}
		buf_take(&e->out, (size_t)n);
		e->active = loop_now();
	}
	ws_pong(e);
	if (e->error != 0 || e->closed)
		return;
	if (e->finish && !e->finished) {
		e->finished = 1;
		if (!e->stays && e->carrier->finish(e) == -1) {
			if (errno == EAGAIN) {
				e->finished = 0;
				return;
			}
			end_lose(e, errno);
			end_relieve(e);
			return;
		}
		if (e->error != 0 || e->closed)
			return;
	}
	if (!end_check(e) && e->out.len == 0)
		e->steps->sent(e->owner, e);
}

/* Sends at once what goes; only the rest is kept.  -1: the end is lost. */
static int
end_put(struct end *e, const unsigned char *p, size_t n)
{
	ssize_t r = 0;

	if (e->error != 0)
		return -1;
	if (!end_owed(e)) {
		r = e->carrier->send(e, p, n);
		if (r == -1) {
			if (end_unsent(e) == -1)
				return -1;
			r = 0;
		}
	}
	if ((size_t)r == n)
		return 0;
	if (buf_put(&e->out, p + r, n - (size_t)r) == -1) {
		end_break(e, errno);
		return -1;
	}
	if (e->wfd != -1)
		loop_touch(e->wfd);
	if (e->peer != NULL)
		ws_stalled(e->peer);
	return 0;
}

static const struct watcher end_watcher;
static struct timer halves;

/*
 * Of what has ended its direction nothing is read any more, so its reset or
 * its death would go unnoticed as long as there is nothing to send to it.
 */
static void
halves_look(void *arg)
{
	struct end *e;
	int fd, found = 0;

	(void)arg;
	for (fd = 0; fd < slots_top; fd++) {
		e = slots[fd].arg;
		if (slots[fd].watcher != &end_watcher || fd != e->rfd ||
		    !e->eof || e->peer == NULL)
			continue;
		found = 1;
		if (end_failed(e))
			end_break(e, e->error);
	}
	if (found)
		timer_set(&halves, HALVES_MS, halves_look, NULL);
}

static void
end_eof(struct end *e)
{
	if (e->error != 0) {
		end_break(e, e->error);
		return;
	}
	e->eof = 1;
	if (halves.next == NULL)
		timer_set(&halves, HALVES_MS, halves_look, NULL);
	if (e->peer == NULL)
		e->steps->input(e->owner, e);
	else if (e->message == NULL)
		end_finish(e->peer);
	else if (e->message->codec->open_ended(e->message))
		e->steps->over(e->owner, e);
	else
		end_break(e, ECONNABORTED);	/* within a message */
}

/*
 * All that is read goes through this one buffer; what a codec adds before
 * and behind has its room there.
 */
static unsigned char margin_chunk[MARGIN + BULK + MARGIN];
static unsigned char *const chunk = margin_chunk + MARGIN;

/* Sends n bytes of payload at p, with MARGIN around. */
static int
end_push(struct end *e, unsigned char *p, size_t n)
{
	if (e->ws != NULL)
		p = ws_frame(e, WS_BINARY, p, &n);
	return end_put(e, p, n);
}

/* n bytes came from it for its peer. */
static void
end_count(struct end *e, size_t n)
{
	e->active = loop_now();
	e->got += n;
	if (e->meter != NULL)
		*e->meter += n;
}

/* Hands n bytes in the chunk, that came from e, to its peer. */
static void
end_relay(struct end *e, size_t n)
{
	struct end *to = e->peer;
	struct message *m = e->message;
	unsigned char *p = chunk;
	ssize_t r = (ssize_t)n;
	size_t used = n;
	int over = 0;

	if (m != NULL &&
	    (r = m->codec->decode(m, p, n, &used, &over)) == -1) {
		end_break(e, EBADMSG);
		return;
	}
	/* What is behind the message is its owner's. */
	if (used < n && buf_put(&e->in, p + used, n - used) == -1) {
		end_break(e, errno);
		return;
	}
	n = (size_t)r;
	end_count(e, n);
	if (to->message != NULL && n > 0)
		p = to->message->codec->encode(to->message, p, &n);
	/* What wants no more, or is lost, gets none. */
	if (to->finish || to->error != 0)
		n = 0;
	if (n > 0)
		(void)end_push(to, p, n);
	if (over && e->peer == to && !to->closed)
		e->steps->over(e->owner, e);
}

/* Takes n bytes in the chunk. */
static void
end_take(struct end *e, size_t n)
{
	e->active = loop_now();
	if (e->peer != NULL)
		end_relay(e, n);
	else if (buf_put(&e->in, chunk, n) == -1)
		end_break(e, errno);
	else {
		e->peeked = e->exact ? (unsigned)n : 0;
		e->steps->input(e->owner, e);
	}
}

/* Whether bytes come from the end, or go to it, as they are. */
static int
end_plain(const struct end *e)
{
	return e->message == NULL && !e->exact &&
	    (e->carrier == &tcp || e->carrier == &stdio);
}

/*
 * Moves a chunk on within the kernel.  0: it has to be read, if only to see
 * what is there instead, such as the end or a byte of urgent data.  (Not so
 * from stdin, where that could block.)
 */
static int
end_splice(struct end *e)
{
	struct end *to = e->peer;
	ssize_t n;

	if (!e->busy || to == NULL || to->error != 0 || !end_plain(e) ||
	    !end_plain(to) ||
	    (e->carrier == &stdio && !e->ipipe) ||
	    (to->carrier == &stdio && !to->opipe))
		return 0;
	n = duct_fill(e);
	if (n == 0 || (n == -1 && errno == EINVAL))
		return 0;
	if (n == -1 && fd_later())
		return e->carrier == &stdio;
	if (n == -1) {
		end_break(e, errno);
		return 1;
	}
	e->busy = n >= BUSY_MIN;
	end_count(e, (size_t)n);
	if (duct_drain(to) == -1 && end_unsent(to) == 0)
		loop_touch(to->wfd);
	return 1;
}

/* How much is read at once. */
static size_t
end_room(const struct end *e)
{
	size_t most, due;

	if (e->eof)
		return CHUNK;
	if (e->peer == NULL)
		return INPUT_MAX - e->in.len;
	most = end_plain(e->peer) ? BULK : CHUNK;
	/* What is behind a message is kept, and may have to be passed on. */
	due = e->message != NULL ? e->message->codec->due(e->message) : most;
	return due < most - INPUT_MAX ? due + INPUT_MAX : most;
}

static void
end_read(struct end *e)
{
	ssize_t n;

	if (end_splice(e))
		return;
	n = e->carrier->recv(e, chunk, end_room(e));
	if (n == -1) {
		if (fd_later())
			return;
		/* Behind their Close it is nothing, unless a tunnel is due. */
		if (ws_done(e) && (e->peer != NULL ||
		    e->ws->ending != WS_CLOSES))
			ws_hangup(e);
		else
			end_break(e, errno);
		return;
	}
	e->busy = n >= BUSY_MIN;
	if (e->ws != NULL && n == 0)
		ws_hangup(e);
	else if (e->ws != NULL)
		ws_take(e, (size_t)n);
	else if (n == 0)
		end_eof(e);
	else
		end_take(e, (size_t)n);
}

static void
end_ready(void *arg, int fd, unsigned what)
{
	struct end *e = arg;

	if (what & WANT_WRITE)
		end_flush(e);
	/* Whoever was told by that may have closed this end. */
	if (what & WANT_READ && fd == e->rfd && end_hungry(e))
		end_read(e);
}

static const struct watcher end_watcher = { end_want, end_ready, 0 };

static void
end_init(struct end *e, const struct carrier *c, int rfd, int wfd,
    const struct steps *steps, void *owner)
{
	memset(e, 0, sizeof(*e));
	e->carrier = c;
	e->rfd = rfd;
	e->wfd = wfd;
	e->steps = steps;
	e->owner = owner;
	e->active = loop_now();
	/*
	 * Both are there and below FD_SETSIZE, as whoever made them has seen
	 * to: accepted, connected, passed (worker_ready), pipes or standard.
	 */
	(void)loop_watch(rfd, &end_watcher, e);
	(void)loop_watch(wfd, &end_watcher, e);
}

void
end_move(struct end *to, struct end *from, const struct steps *steps,
    void *owner)
{
	*to = *from;
	to->steps = steps;
	to->owner = owner;
	if (to->rfd != -1)
		slots[to->rfd].arg = to;
	if (to->wfd != -1)
		slots[to->wfd].arg = to;
	if (to->command != NULL)
		command_move(to->command, to);
	if (to->ws != NULL) {
		from->ws = NULL;
		end_pulse(to, to->ws->quiet, to->ws->grace);
	}
	memset(from, 0, sizeof(*from));
	from->rfd = from->wfd = -1;
}

void
end_socket(struct end *e, int fd, const struct steps *steps, void *owner)
{
	end_init(e, &tcp, fd, fd, steps, owner);
}

void
end_stdio(struct end *e, const struct steps *steps, void *owner)
{
	stdio_terminal();
	end_init(e, &stdio, STDIN_FILENO, STDOUT_FILENO, steps, owner);
	e->deaf = 1;
	stdio_look(e);
}

void
end_virtual(struct end *e, const struct carrier *c,
    const struct steps *steps, void *owner)
{
	memset(e, 0, sizeof(*e));
	e->carrier = c;
	e->rfd = e->wfd = -1;
	e->steps = steps;
	e->owner = owner;
	e->active = loop_now();
}

void
end_resume(struct end *e)
{
	if (e->carrier != NULL && e->error == 0 &&
	    (e->out.len > 0 || (e->finish && !e->finished)))
		end_flush(e);
}

void
end_came(struct end *e, const void *p, size_t n)
{
	e->active = loop_now();
	/* Whoever brings that cannot be told to wait as a socket is. */
	if (e->peer == NULL && e->in.len >= INPUT_MAX)
		end_break(e, ENOBUFS);
	else if (buf_put(&e->in, p, n) == -1)
		end_break(e, errno);
	else
		e->steps->input(e->owner, e);
}

void
end_ended(struct end *e)
{
	if (!e->eof)
		end_eof(e);
}

void
end_send(struct end *e, const void *p, size_t n)
{
	const unsigned char *s = p;
	size_t k;

	if (e->ws == NULL) {
		(void)end_put(e, p, n);
		return;
	}
	for (; n > 0; n -= k, s += k) {
		k = n < CHUNK ? n : CHUNK;
		memcpy(chunk, s, k);
		if (end_push(e, chunk, k) == -1)
			return;
	}
}

void
end_finish(struct end *e)
{
	unsigned char last[3 * MARGIN];
	size_t n;

	if (e->finish)
		return;
	if (e->message != NULL &&
	    (n = e->message->codec->last(e->message, last + MARGIN)) > 0)
		(void)end_push(e, last + MARGIN, n);
	e->finish = 1;
	if (e->error == 0)
		end_flush(e);
}

void
end_join(struct end *from, struct end *to)
{
	struct buf in = from->in;
	size_t n;

	from->peer = to;
	memset(&from->in, 0, sizeof(from->in));
	while (in.len > 0 && from->peer == to) {
		n = in.len < BULK ? in.len : BULK;
		memcpy(chunk, in.p + in.off, n);
		buf_take(&in, n);
		end_relay(from, n);
	}
	/* A message was over: what is behind it is its owner's. */
	if (in.len > 0 && from->error == 0 && !from->closed &&
	    buf_put(&from->in, in.p + in.off, in.len) == -1)
		end_break(from, errno);
	buf_free(&in);
	/* Unless its owner closed or parted them meanwhile. */
	if (from->peer == to && ws_done(from)) {
		from->eof = 0;		/* to this one it was not said */
		ws_closed(from);
	} else if (from->eof && from->peer == to)
		end_eof(from);
	else if (from->ws != NULL && from->peer == to)
		ws_events(from);	/* that came with them */
}

void
end_part(struct end *e)
{
	e->peer = NULL;
}

void
end_link(struct end *a, struct end *b)
{
	/* Both at once: a's end may close them before b's turn comes. */
	a->peer = b;
	b->peer = a;
	end_join(a, b);
	if (b->peer == a)
		end_join(b, a);
}

int
end_failed(struct end *e)
{
	socklen_t len = sizeof(e->error);

	return e->error != 0 || ((e->carrier == &tcp || e->ws != NULL) &&
	    getsockopt(e->rfd, SOL_SOCKET, SO_ERROR, &e->error, &len) == 0 &&
	    e->error != 0);
}

int
end_more(const struct end *e)
{
	char c;

	return e->in.len > 0 || (e->carrier == &tcp &&
	    recv(e->rfd, &c, 1, MSG_PEEK) == 1);
}

void
end_doom(struct end *e, int error)
{
	if (e->carrier != NULL && e->error == 0) {
		end_lose(e, error);
		end_relieve(e);
	}
}

int
end_keep(struct end *e, size_t n)
{
	unsigned char trash[INPUT_MAX];
	size_t real = e->in.len - e->peeked;
	ssize_t r;

	if (!e->exact)
		return 0;
	/* They were there a moment ago, and nobody else reads them. */
	if (n > real && (r = recv(e->rfd, trash, n - real, 0)) !=
	    (ssize_t)(n - real)) {
		end_break(e, r == -1 ? errno : ECONNABORTED);
		return -1;
	}
	e->in.len = (unsigned)n;
	e->peeked = 0;
	return 0;
}

/* Frees all, with a reset or in order. */
static void
end_drop(struct end *e, int abrupt)
{
	if (e->carrier == NULL)
		return;
	e->closed = 1;
	if (e->ws != NULL && e->rfd != -1)
		abrupt = !ws_leave(e, abrupt ? WS_BROKEN : WS_NORMAL);
	ws_free(e);
	if (e->carrier != &stdio && e->rfd != -1)
		fd_abrupt(e->rfd, abrupt);
	if (e->rfd != -1)
		fd_close(e->rfd);
	if (e->wfd != -1 && e->wfd != e->rfd)
		fd_close(e->wfd);
	e->rfd = e->wfd = -1;
	if (e->command != NULL)
		command_end(e->command);
	e->command = NULL;
	if (e->peer != NULL && e->peer->peer == e)
		e->peer->peer = NULL;
	e->peer = NULL;
	buf_free(&e->in);
	end_forgo(e);
}

void
end_close(struct end *e)
{
	end_drop(e, 0);
}

void
end_reset(struct end *e)
{
	end_drop(e, 1);
}

int
end_release(struct end *e)
{
	int fd = e->rfd;

	loop_forget(fd);
	ws_free(e);
	fd_abrupt(fd, 0);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	e->rfd = e->wfd = -1;
	return fd;
}

/* ---- ends that are WebSockets (RFC 6455) ------------------------------------------ */

static int
ws_listens(const struct end *e)
{
	return e->ws != NULL && !e->ws->gone;
}

static int
ws_settled(const struct end *e)
{
	const struct websocket *w = e->ws;

	/* The server closes TCP first (7.1.1). */
	return w->gone || (w->closing && w->ws.closed && !w->ws.client &&
	    e->out.len == 0);
}

/* The other side's Close is here: what TCP does then means nothing. */
static int
ws_done(const struct end *e)
{
	return e->ws != NULL && e->ws->ws.closed;
}

static void
ws_free(struct end *e)
{
	if (e->ws != NULL) {
		timer_stop(&e->ws->pulse);
		buf_free(&e->ws->ws.pong);
	}
	free(e->ws);
	e->ws = NULL;
}

static void
ws_cut(struct end *e)
{
	if (e->ws != NULL && e->out.len > 0)
		e->ws->cut = 1;
}

static unsigned char *
ws_frame(struct end *e, int opcode, unsigned char *p, size_t *n)
{
	unsigned char key[4] = { 0, 0, 0, 0 };

	if (e->ws->ws.client)
		random_bytes(key, sizeof(key));
	return ws_encode(&e->ws->ws, opcode, key, p, n);
}

/* Sends a frame of few bytes. */
static int
ws_put(struct end *e, int opcode, const void *p, size_t n)
{
	unsigned char room[WS_HEAD_MAX + WS_CONTROL_MAX];
	unsigned char *frame = room + WS_HEAD_MAX;

	if (n > 0)
		memcpy(frame, p, n);
	frame = ws_frame(e, opcode, frame, &n);
	return end_put(e, frame, n);
}

/* How much the other side's TCP has not got yet; -1: that cannot be told. */
static int
ws_unsent(const struct end *e)
{
	int n = -1;

#ifdef TIOCOUTQ
	if (e->indirect || ioctl(e->wfd, TIOCOUTQ, &n) == -1)
		n = -1;
#endif
	return n;
}

/*
 * Our Close has left.  Theirs says that all before it has arrived; as long as
 * it has not come the other side may be stalled, and what it has not taken is
 * with the kernel, a command or another WebSocket, which would lose it if we
 * went: the more so as who is stalled says so, to nobody then.  Returns how
 * long its Close is waited for still.  0: no longer: what has come is known,
 * or to all appearance it lacks nothing and has nothing to say, not even that
 * it is stalled (ws_every()).  -1: it was silent for as long as it would have
 * had to answer a Ping.
 */
static int64_t
ws_patience(struct end *e)
{
	struct websocket *w = e->ws;
	const int64_t linger = (int64_t)LINGER_SECS * 1000;
	int64_t rest;
	int before = w->unsent;

	if (e->out.len == 0 && (w->ws.closed || w->ending != WS_ENDS))
		return 0;
	w->unsent = ws_unsent(e);
	if (e->out.len > 0 || (w->unsent != -1 && w->unsent < before)) {
		w->left = loop_now();
		w->heard = 0;
		return linger;
	}
	if (w->unsent == 0 && w->heard == 0)
		return 0;
	rest = (w->heard > w->left ? w->heard : w->left) + w->quiet +
	    w->grace - loop_now();
	return rest <= 0 ? -1 : rest < linger ? rest : linger;
}

/* Nothing more is waited for, unless it has to be. */
static void
ws_late(void *arg)
{
	struct end *e = arg;
	int64_t ms = ws_patience(e);

	if (ms > 0) {
		timer_set(&e->ws->pulse, ms, ws_late, e);
		return;
	}
	if (ms == -1) {
		end_break(e, ETIMEDOUT);
		return;
	}
	e->ws->gone = 1;
	if (e->peer != NULL)
		(void)end_check(e);
	else {
		e->eof = 1;
		e->steps->input(e->owner, e);
	}
}

static void
ws_close(struct end *e, unsigned code)
{
	unsigned char p[2];

	if (e->ws->closing)
		return;
	e->ws->closing = 1;
	p[0] = (unsigned char)(code >> 8);
	p[1] = (unsigned char)code;
	(void)ws_put(e, WS_CLOSE, p, sizeof(p));
}

/* Sends Close and waits for the other side's, or for its end of TCP. */
static void
ws_part(struct end *e)
{
	struct websocket *w = e->ws;

	if (w->pulse.fn != ws_late) {
		w->left = loop_now();
		w->heard = 0;
		timer_set(&w->pulse, (int64_t)LINGER_SECS * 1000, ws_late, e);
	}
	ws_close(e, WS_NORMAL);
}

/* Our direction ends. */
static int
ws_finish(struct end *e)
{
	struct websocket *w = e->ws;

	switch (w->ending) {
	case WS_ENDS:
		if (ws_put(e, WS_TEXT, "end", 3) == -1)
			break;
		if (w->ws.ended)
			ws_part(e);
		else if (!end_hungry(e))
			ws_stalled(e);
		break;
	case WS_CLOSES:
		ws_close(e, WS_NORMAL);
		break;
	case WS_LEAVES:
		ws_part(e);
		break;
	case WS_STAYS:
		break;
	}
	return 0;
}

static ssize_t
ws_recv(struct end *e, void *p, size_t n)
{
	return e->ws->under->recv(e, p, n);
}

static ssize_t
ws_send(struct end *e, const void *p, size_t n)
{
	return e->ws->under->send(e, p, n);
}

static const struct carrier websocket = {
	ws_recv, ws_send, ws_finish, 1
};

/* Pongs go between frames, and one at most waits for that. */
static void
ws_pong(struct end *e)
{
	struct websocket *w = e->ws;
	struct buf pong;

	if (w == NULL || !w->ws.ponging || e->out.len > 0 || w->closing)
		return;
	w->ws.ponging = 0;
	pong = w->ws.pong;
	memset(&w->ws.pong, 0, sizeof(w->ws.pong));
	(void)ws_put(e, WS_PONG, pong.p, pong.len);
	buf_free(&pong);
}

/* A Close came that may come now: 7.1.3, or both `end's were said. */
static void
ws_agreed(struct end *e)
{
	struct websocket *w = e->ws;

	e->finish = e->finished = 1;
	ws_part(e);
	if (e->ws != w)
		return;
	if (!e->eof)
		end_eof(e);
	if (e->ws == w)
		(void)end_check(e);
}

static void
ws_closed(struct end *e)
{
	struct websocket *w = e->ws;
	unsigned code = w->ws.code;

	/* What came before it is to be delivered first: end_join(). */
	if (w->ending == WS_STAYS && e->peer == NULL)
		return;
	/* A client may say all at once: its owner opens the tunnel still. */
	if (w->ending == WS_CLOSES && e->peer == NULL && !w->ws.client &&
	    (code == WS_NORMAL || code == WS_NO_CODE)) {
		e->eof = 1;
		e->steps->input(e->owner, e);
		return;
	}
	/* Behind both `end's only that something went wrong were news. */
	if (w->ending == WS_LEAVES ||
	    (w->ending == WS_ENDS && w->ws.ended && e->finished &&
	    (code == WS_NORMAL || code == WS_AWAY || code == WS_NO_CODE)) ||
	    (e->peer != NULL && w->ending != WS_ENDS &&
	    (code == WS_NORMAL || code == WS_NO_CODE)))
		ws_agreed(e);
	else
		end_break(e, ECONNABORTED);
}

/* What came besides data. */
static void
ws_events(struct end *e)
{
	struct websocket *w = e->ws;

	ws_pong(e);
	if (e->ws == w && w->ws.ended && !e->eof) {
		end_eof(e);
		if (e->ws == w && e->finished)
			ws_part(e);
	}
	if (e->ws == w && w->ws.closed)
		ws_closed(e);
}

/* n bytes in the chunk, as they came. */
static void
ws_take(struct end *e, size_t n)
{
	struct websocket *w = e->ws;
	int pinged = w->pinged != 0;
	ssize_t r;

	w->heard = loop_now();
	w->pinged = 0;
	if (w->deaf || w->ws.closed)
		return;
	if (ws_awaited(e))
		ws_stalled(e);
	r = ws_decode(&w->ws, chunk, n);
	if (r == -1) {
		end_break(e, EPROTO);
		return;
	}
	if (r > 0)
		end_take(e, (size_t)r);
	if (e->ws == w)
		ws_events(e);
	/* An answer to a Ping may be what its owner waits for. */
	if (e->ws == w && pinged && e->peer == NULL)
		e->steps->input(e->owner, e);
}

/* TCP ends, which without a Close is a loss. */
static void
ws_hangup(struct end *e)
{
	struct websocket *w = e->ws;

	w->gone = 1;
	if (!w->ws.closed && !w->deaf)
		end_break(e, ECONNABORTED);
	else if (e->peer != NULL)
		(void)end_check(e);
	else {
		e->eof = 1;
		e->steps->input(e->owner, e);
	}
}

/* We have said `end', so the other side may wait for our Close only. */
static int
ws_awaited(const struct end *e)
{
	return e->ws->ending == WS_ENDS && e->finished && !e->stays;
}

/*
 * How often we say that we are there, though we cannot read, or have not read
 * all: who waits for our Close is to know so within LINGER_SECS.
 */
static int
ws_every(const struct end *e)
{
	int ms = e->ws->quiet / 2;

	return ws_awaited(e) && ms > WS_SIGN_MS ? WS_SIGN_MS : ms;
}

static void
ws_sign(struct end *e)
{
	if (e->out.len == 0 && !e->ws->closing)
		(void)ws_put(e, WS_PONG, "", 0);
}

/*
 * Asks after quiet ms without a byte whether the other side is there.  Only
 * while this end reads could it be heard; else we say that we are (5.5.3).
 */
static void
ws_beat(void *arg)
{
	struct end *e = arg;
	struct websocket *w = e->ws;
	int64_t rest;

	if (!end_hungry(e)) {
		w->heard = loop_now();
		w->pinged = 0;
		rest = ws_every(e);
		ws_sign(e);
	} else if (ws_awaited(e) && loop_now() - w->heard < ws_every(e)) {
		rest = ws_every(e);
		ws_sign(e);
	} else if (w->pinged != 0) {
		if (e->out.len > 0)	/* it has not left yet */
			w->pinged = loop_now();
		rest = w->pinged + w->grace - loop_now();
		if (rest <= 0) {
			end_break(e, ETIMEDOUT);
			return;
		}
	} else if ((rest = w->heard + w->quiet - loop_now()) <= 0) {
		rest = w->grace;
		end_ping(e);
	}
	if (e->ws == w)
		timer_set(&w->pulse, rest, ws_beat, e);
}

/* It does not read for a while: what it says then may not come too late. */
static void
ws_stalled(struct end *e)
{
	struct websocket *w = e->ws;

	if (w != NULL && w->pulse.fn == ws_beat &&
	    w->pulse.at > loop_now() + ws_every(e))
		timer_set(&w->pulse, ws_every(e), ws_beat, e);
}

void
end_pulse(struct end *e, int quiet, int grace)
{
	e->ws->quiet = quiet;
	e->ws->grace = grace;
	timer_set(&e->ws->pulse, quiet, ws_beat, e);
}

void
end_ping(struct end *e)
{
	struct websocket *w = e->ws;

	if (w->pinged != 0 || w->closing)
		return;
	w->pinged = loop_now();
	if (w->pulse.at > w->pinged + w->grace)
		timer_set(&w->pulse, w->grace, ws_beat, e);
	(void)ws_put(e, WS_PING, "", 0);
}

int64_t
end_heard(const struct end *e)
{
	return e->ws->heard;
}

int
end_alive(const struct end *e)
{
	return e->error == 0 && e->ws->pinged == 0 && e->in.len == 0 &&
	    e->out.len == 0 && !e->eof && ws_clean(&e->ws->ws);
}

int
end_websocket(struct end *e, int client, enum ws_ending ending)
{
	struct websocket *w;
	size_t n = e->in.len;
	ssize_t r;

	if ((w = calloc(1, sizeof(*w))) == NULL)
		return -1;
	w->ws.client = client != 0;
	w->ws.ends = ending == WS_ENDS;
	w->ending = (unsigned)ending & 3;
	e->ws = w;
	w->under = e->carrier;
	e->carrier = &websocket;
	w->heard = loop_now();
	end_pulse(e, WS_QUIET_MS, WS_QUIET_MS);
	if (n == 0)
		return 0;
	memcpy(chunk, e->in.p + e->in.off, n);
	buf_free(&e->in);
	if ((r = ws_decode(&w->ws, chunk, n)) == -1)
		end_break(e, EPROTO);
	else if (r > 0 && buf_put(&e->in, chunk, (size_t)r) == -1)
		end_break(e, errno);
	else {
		/* Its owner has not got it yet, and looks at it then. */
		e->eof = w->ws.ended;
		ws_events(e);
	}
	return 0;
}

void
end_leave(struct end *e)
{
	if (e->ws != NULL)
		e->ws->ending = WS_LEAVES;
	end_finish(e);
}

/* Says Close and why.  0: that does not go, or there is nothing to say. */
static int
ws_leave(struct end *e, unsigned code)
{
	struct websocket *w = e->ws;
	unsigned char room[WS_HEAD_MAX + 2], *p = room + WS_HEAD_MAX;
	size_t n = 2;

	if (w->closing)
		return e->out.len == 0 && code == WS_NORMAL;
	if (w->cut || e->lost || e->out.len > 0)
		return 0;
	if (e->error == EPROTO)
		code = w->ws.code;
	p[0] = (unsigned char)(code >> 8);
	p[1] = (unsigned char)code;
	p = ws_frame(e, WS_CLOSE, p, &n);
	w->closing = 1;
	return e->carrier->send(e, p, n) == (ssize_t)n;
}

int
end_fail(struct end *e)
{
	if (e->ws == NULL || e->ws->closing || !ws_leave(e, WS_BROKEN))
		return 0;
	(void)shutdown(e->wfd, SHUT_WR);
	timer_stop(&e->ws->pulse);
	e->ws->deaf = 1;
	e->eof = 0;
	e->error = 0;
	e->finish = e->finished = 1;
	if (e->peer != NULL && e->peer->peer == e)
		e->peer->peer = NULL;
	e->peer = NULL;
	buf_free(&e->in);
	return 1;
}

const char *
end_why(const struct end *e)
{
	static char text[64];
	const char *why = e->command != NULL ? command_why(e->command) : NULL;

	if (why != NULL)
		return why;
	if (e->ws == NULL || e->lost)
		return strerror(e->error);
	switch (e->error) {
	case EPROTO:
		snprintf(text, sizeof(text), "bad WebSocket frames (%u)",
		    e->ws->ws.code);
		return text;
	case ECONNABORTED:
		if (!e->ws->ws.closed)
			return "the WebSocket ended without a Close";
		snprintf(text, sizeof(text), "the WebSocket was closed (%u)",
		    e->ws->ws.code);
		return text;
	case ETIMEDOUT:
		return e->ws->closing ? "no answer to the Close" :
		    "no answer to a Ping";
	default:
		return strerror(e->error);
	}
}

/* ---- children --------------------------------------------------------------------- */

static int helper_sock = -1, helper_life = -1;
static int own_fd = -1;			/* a worker's channel to the first */
static int own_number;
static pid_t helper_pid = -1, keeper_pid = -1;
static struct command *commands;

static struct worker {
	pid_t		 pid;		/* 0: none */
	int		 fd;		/* its control channel */
	int		 accepting, full;
	int64_t		 born;
} workers[WORKERS_MAX];

/* TERM, INT and HUP end all our processes, then us, by that signal. */
static void
on_end(int sig)
{
	sigset_t set;
	int i;

	for (i = 0; i < WORKERS_MAX; i++)
		if (workers[i].pid > 0)
			kill(workers[i].pid, SIGKILL);
	for (i = 0; i < WORKERS_MAX; i++)
		if (workers[i].pid > 0)
			(void)waitpid(workers[i].pid, NULL, 0);
	commands_end();
	lookup_end();
	signal_set(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(sig);
	_exit(128 + sig);	/* a container's first process outlives that */
}

static const int end_signals[] = { SIGTERM, SIGINT, SIGHUP };
#define END_SIGNALS	(sizeof(end_signals) / sizeof(end_signals[0]))

void
signal_farewell(void (*fn)(void))
{
	struct sigaction old;
	size_t i;

	farewell = fn;
	for (i = 0; i < END_SIGNALS; i++)
		if (sigaction(end_signals[i], NULL, &old) == 0 &&
		    old.sa_handler == on_end)
			signal_watch(end_signals[i], fn);
}

void
signal_finish(void)
{
	if (farewell_signal != 0)
		on_end(farewell_signal);
}

void
signal_end(void)
{
	struct sigaction old;
	size_t i;

	for (i = 0; i < END_SIGNALS; i++)
		if (sigaction(end_signals[i], NULL, &old) == 0 &&
		    old.sa_handler == SIG_DFL)
			signal_set(end_signals[i], on_end);
}

/* Nothing ends us by surprise before the old mask is back. */
static void
signals_hold(sigset_t *old)
{
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < END_SIGNALS; i++)
		sigaddset(&set, end_signals[i]);
	sigprocmask(SIG_BLOCK, &set, old);
}

/* fork(2) to *pid, which no signal comes before. */
static pid_t
child_fork(pid_t *pid)
{
	struct sigaction sa;
	sigset_t old;
	size_t i;
	pid_t child;

	signals_hold(&old);
	if ((child = fork()) > 0)
		*pid = child;
	else if (child == 0) {
		memset(workers, 0, sizeof(workers));
		helper_pid = keeper_pid = -1;
		commands = NULL;
		for (i = 0; i < END_SIGNALS; i++)
			if (sigaction(end_signals[i], NULL, &sa) == 0 &&
			    sa.sa_handler == on_end)
				signal_set(end_signals[i], SIG_DFL);
		signals_reset(&old);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return child;
}

/* ---- commands ---------------------------------------------------------------------- */

/*
 * A command is a child, and the first of its process group.  It is not waited
 * for before its tunnel ends, so until then no other group gets its number.
 * One more process, the keeper, lives as long as we do and sees to it that
 * who was told to end has ended; it learns of our own end from a pipe, and
 * then tells all.
 */
struct command {
	struct command	*next;
	const struct commander *commander;
	void		*owner;
	struct end	*end;		/* its stdin and stdout */
	struct timer	 timer;
	pid_t		 pid;
	int		 in, out, err;	/* pipes, -1: the end's, or none */
	int		 sock;		/* where it has to connect to, or -1 */
	unsigned	 ended:1,
			 late:1;	/* it was waited for in vain */
	char		 why[128];	/* it failed, or "" */
	char		 path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* What the keeper is told: a command has started, or has to end. */
struct kept {
	pid_t		 pid;		/* 0: not yet, there is but the path */
	int		 ends;
	int64_t		 deadline;	/* the keeper's */
	char		 path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static int keeper = -1;			/* the pipe to it */

/* Removes a command's socket and the directory around it. */
static void
command_unlink(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash == NULL)
		return;
	(void)unlink(path);
	*slash = '\0';
	(void)rmdir(path);
	path[0] = '\0';
}

/* Ends what is to end.  Returns how many are still there. */
static int
keeper_look(struct kept *list, int n, int all)
{
	int i;

	time_update();
	for (i = 0; i < n; ) {
		struct kept *k = &list[i];

		if (all && !k->ends) {
			k->ends = 1;
			k->deadline = now + KILL_MS;
			if (k->pid != 0)
				(void)kill(-k->pid, SIGTERM);
			command_unlink(k->path);
		}
		if (k->ends && (k->pid == 0 || kill(-k->pid, 0) == -1 ||
		    (now >= k->deadline && kill(-k->pid, SIGKILL) == 0)))
			*k = list[--n];
		else
			i++;
	}
	return n;
}

/* Whether both are of one command, of which a had but the path. */
static int
kept_same(const struct kept *a, const struct kept *b)
{
	return a->pid == b->pid ||
	    (a->pid == 0 && strcmp(a->path, b->path) == 0);
}

/* Takes a note of a command.  0: we are alone. */
static int
keeper_read(int fd, struct kept **list, int *n)
{
	struct kept k, *more;
	ssize_t r = read(fd, &k, sizeof(k));
	int i;

	if (r != (ssize_t)sizeof(k))
		return r == -1 && errno == EINTR;
	for (i = 0; i < *n && !kept_same(&(*list)[i], &k); i++)
		;
	if (i < *n && (*list)[i].ends)
		return 1;		/* its own note comes late */
	if (i == *n) {
		more = realloc(*list, ((size_t)*n + 1) * sizeof(k));
		if (more == NULL)
			return 1;
		*list = more;
		++*n;
	}
	time_update();
	k.deadline = now + KILL_MS;	/* of one that ends */
	(*list)[i] = k;
	return 1;
}

static void
keeper_run(int fd)
{
	struct kept *list = NULL;
	struct timeval tv;
	int i, n = 0, ends, alone = 0;
	fd_set set;

	for (i = 0; i < fds_top; i++)
		if (i != fd)
			close(i);
	while (!alone || n > 0) {
		for (ends = i = 0; i < n; i++)
			ends |= list[i].ends;
		FD_ZERO(&set);
		if (!alone)
			set_add(fd, &set);
		tv.tv_sec = 0;
		tv.tv_usec = 10000;
		if (select(fd + 1, &set, NULL, NULL, ends ? &tv : NULL) > 0)
			alone = !keeper_read(fd, &list, &n);
		n = keeper_look(list, n, alone);
	}
	_exit(0);
}

/* -1: errno */
static int
keeper_start(void)
{
	sigset_t all, old;
	int p[2], error;
	pid_t pid = -1;

	if (keeper != -1)
		return 0;
	if (pipe(p) == -1)
		return -1;
	(void)fcntl(p[1], F_SETFD, FD_CLOEXEC);
	/*
	 * It is deaf from the beginning on, also to a terminal's signals; and
	 * one that ends us finds it there with its pipe, or not at all.
	 */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	if (p[0] >= FD_SETSIZE)
		errno = EMFILE;
	else if ((pid = fork()) == 0) {
		(void)setpgid(0, 0);
		keeper_run(p[0]);
	} else if (pid > 0) {
		keeper_pid = pid;
		keeper = p[1];
	}
	error = errno;
	close(p[0]);
	if (pid == -1)
		close(p[1]);
	sigprocmask(SIG_SETMASK, &old, NULL);
	errno = error;
	return pid == -1 ? -1 : 0;
}

static void
keeper_tell(const struct command *c, int ends)
{
	struct kept k;

	memset(&k, 0, sizeof(k));
	k.pid = c->pid;
	k.ends = ends;
	memcpy(k.path, c->path, sizeof(k.path));
	(void)!write(keeper, &k, sizeof(k));
}

void
commands_end(void)
{
	static const long step = 5;
	struct command *c;
	struct timeval tv;
	long ms;
	int left = 1;

	if (keeper_pid <= 0)
		return;
	close(keeper);
	keeper = -1;
	/* Should the keeper be gone, it is up to us. */
	for (ms = 0; left; ms += step) {
		for (left = 0, c = commands; c != NULL; c = c->next) {
			if (ms == 0)
				(void)kill(-c->pid, SIGTERM);
			else if (ms > KILL_MS)
				(void)kill(-c->pid, SIGKILL);
			while (waitpid(-c->pid, NULL, WNOHANG) > 0)
				;
			left |= waitpid(-c->pid, NULL, WNOHANG) == 0;
		}
		tv.tv_sec = 0;
		tv.tv_usec = step * 1000;
		if (left)
			(void)select(0, NULL, NULL, NULL, &tv);
	}
	(void)waitpid(keeper_pid, NULL, 0);
	keeper_pid = -1;
}

/* How it failed; NULL: it lives, or all was well. */
static const char *
command_why(const struct command *c)
{
	return c->why[0] != '\0' ? c->why : NULL;
}

/*
 * Whoever has left a command's group, and lost its parent, is our child where
 * the system so wants, and a stranger, to whose end somebody has to see.  One
 * of ours that is not waited for yet may stand before it, for as long as its
 * tunnel is there.
 */
static void
strangers_reap(void)
{
	const struct command *c;
	siginfo_t info;
	pid_t pid;

	do {
		info.si_pid = 0;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) ==
		    -1 || info.si_pid == 0 || info.si_pid == keeper_pid)
			return;
		for (c = commands; c != NULL; c = c->next)
			if (c->pid == info.si_pid)
				return;
		if ((pid = waitpid(info.si_pid, NULL, WNOHANG)) == helper_pid)
			helper_pid = -1;
	} while (pid > 0);
}

/* Nobody wants it any more: when all of its group have gone, so will it. */
static void
command_bury(struct command *c)
{
	struct command **link;
	pid_t pid;

	while ((pid = waitpid(-c->pid, NULL, WNOHANG)) > 0)
		;
	if (pid == 0 || waitpid(c->pid, NULL, WNOHANG) == 0)
		return;
	for (link = &commands; *link != c; link = &(*link)->next)
		;
	*link = c->next;
	loop_bury(&c->timer, free, c);
	strangers_reap();
}

/* Closes what has no end yet. */
static void
command_close(struct command *c)
{
	int *fds[] = { &c->in, &c->out, &c->err };
	size_t i;

	for (i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] != -1)
			close(*fds[i]);
		*fds[i] = -1;
	}
	if (c->sock != -1)
		fd_close(c->sock);
	c->sock = -1;
	command_unlink(c->path);
}

void
command_end(struct command *c)
{
	timer_stop(&c->timer);
	command_close(c);
	c->end = NULL;
	c->owner = NULL;
	(void)kill(-c->pid, SIGTERM);
	keeper_tell(c, 1);
	command_bury(c);
}

/* How many bytes it was given and has not read; 0: that cannot be told. */
static int
command_unread(const struct end *e)
{
	int fd = e->wfd != -1 ? e->wfd : e->command->in, n = 0;

#ifdef FIONREAD
	if (fd != -1 && ioctl(fd, FIONREAD, &n) == -1)
		n = 0;
#endif
	(void)fd;
	return n;
}

/* Both its stdout and it have ended: it reads no more of what it was given. */
static int
command_lacks(const struct end *e)
{
	return e->eof && e->command->ended && command_unread(e) > 0;
}

/*
 * Its stdout has ended, or it has, and the other of both is due.  The tunnel
 * may end by that, and the command with it: what it has not read now it never
 * will.
 */
static void
command_late(void *arg)
{
	struct command *c = arg;
	struct end *e = c->end;

	c->late = 1;
	if (e->pending) {
		e->pending = 0;
		end_read(e);
	} else if (ws_done(e))
		ws_hangup(e);
	else if (c->why[0] != '\0')
		end_break(e, ECHILD);
	else if (command_unread(e) == 0) {
		if (e->peer != NULL)
			(void)end_check(e);
	} else if (c->ended || e->peer == NULL || end_over(e->peer))
		end_break(e, EPIPE);
	else
		c->late = 0;		/* as long as that takes, it may read */
}

static void
command_ended(struct command *c)
{
	struct end *e = c->end;

	if (e == NULL)
		c->commander->failed(c->owner, c->why[0] != '\0' ? c->why :
		    "the command has ended");
	else if (e->pending || (e->eof && e->finished && !ws_listens(e)))
		command_late(c);
	else if (c->why[0] != '\0')
		timer_set(&c->timer, STATUS_MS, command_late, c);
}

/* What there is to say about an end that is none in order. */
static void
command_explain(struct command *c, int code, int how)
{
	char text[4096];
	ssize_t n;

	c->ended = 1;
	if (code == CLD_EXITED && how == 0)
		return;
	snprintf(c->why, sizeof(c->why), "%s %d", code == CLD_EXITED ?
	    "the command ended with status" :
	    "the command was ended by signal", how);
	if (code == CLD_EXITED && c->err != -1 &&
	    (n = read(c->err, text, sizeof(text))) > 0)
		tls_reason(c->why, sizeof(c->why), text, (size_t)n);
}

/* A keeper that somebody has ended is replaced. */
static void
keeper_reap(void)
{
	const struct command *c;

	if (keeper_pid <= 0 || waitpid(keeper_pid, NULL, WNOHANG) <= 0)
		return;
	close(keeper);
	keeper = -1;
	keeper_pid = -1;
	if (keeper_start() == 0)
		for (c = commands; c != NULL; c = c->next)
			keeper_tell(c, c->owner == NULL);
}

/* SIGCHLD: which of them have ended. */
static void
commands_reap(void)
{
	struct command *c, *next;
	siginfo_t info;

	keeper_reap();
	for (c = commands; c != NULL; c = next) {
		next = c->next;
		if (c->owner == NULL) {
			command_bury(c);
			continue;
		}
		info.si_pid = 0;
		if (c->ended || waitid(P_PID, (id_t)c->pid, &info,
		    WEXITED | WNOHANG | WNOWAIT) == -1 || info.si_pid == 0)
			continue;
		command_explain(c, info.si_code, info.si_status);
		command_ended(c);
		next = commands;	/* others may have gone by that */
	}
	strangers_reap();
}

/*
 * The end of its stdin is due.  What it leaves unread can be asked only of a
 * pipe's other side from then on; a second one there keeps nothing open.
 */
static void
command_keep(struct end *e)
{
#ifdef __linux__
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", e->wfd);
	e->command->in = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
#else
	(void)e;
#endif
}

/*
 * The end of its stdout is that of a direction, or it has ended; which of
 * both is not known at once.  One that has ended takes nothing more.
 */
static ssize_t
command_eof(struct end *e)
{
	struct command *c = e->command;

	if (!c->ended && !c->late) {
		e->pending = 1;
		timer_set(&c->timer, STATUS_MS, command_late, c);
		errno = EAGAIN;
		return -1;
	}
	timer_stop(&c->timer);
	c->late = 0;
	if (!c->ended)
		return 0;
	if (c->why[0] != '\0' || end_owed(e) || command_unread(e) > 0) {
		errno = c->why[0] != '\0' ? ECHILD : EPIPE;
		return -1;
	}
	e->finish = e->finished = 1;
	return 0;
}

/* Both directions have ended: so will the command, in a moment. */
static int
command_settled(struct end *e)
{
	struct command *c = e->command;

	if (c == NULL || c->ended || c->late || !e->eof)
		return c == NULL || c->ended || c->late;
	if (c->timer.next == NULL)
		timer_set(&c->timer, KILL_MS, command_late, c);
	return 0;
}

static void
command_move(struct command *c, struct end *e)
{
	c->end = e;
	c->owner = e->owner;
}

void
end_command(struct end *e, struct command *c, const struct steps *steps,
    void *owner)
{
	end_init(e, &pipes, c->out, c->in, steps, owner);
	e->command = c;
	c->in = c->out = -1;
	command_move(c, e);
}

static unsigned
command_want(void *arg, int fd)
{
	(void)arg;
	(void)fd;
	return WANT_READ;
}

/* It connects to its socket. */
static void
command_ready(void *arg, int fd, unsigned what)
{
	struct command *c = arg;
	int s = accept(fd, NULL, NULL), error = EMFILE;

	(void)what;
	if (s == -1 && fd_later())
		return;
	if (s == -1)
		error = errno;
	fd_close(c->sock);
	c->sock = -1;
	command_unlink(c->path);
	if (s == -1 || s >= FD_SETSIZE) {
		if (s != -1)
			close(s);
		c->commander->failed(c->owner, strerror(error));
		return;
	}
	fd_flags(s);
	c->commander->joined(c->owner, s);
}

static const struct watcher command_watcher = {
	command_want, command_ready, 0
};

/* Where its socket will be; in TMPDIR where a shell takes that as it stands. */
static void
command_name(struct command *c)
{
	const char *tmp = getenv("TMPDIR");
	uint64_t id;
	int n = -1;

	random_bytes(&id, sizeof(id));
	if (tmp != NULL && *tmp == '/' && tmp[strspn(tmp, "/._-"
	    "0123456789abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0')
		n = snprintf(c->path, sizeof(c->path), "%s/httptun.%llx/s",
		    tmp, (unsigned long long)id);
	if (n < 0 || (size_t)n >= sizeof(c->path))
		snprintf(c->path, sizeof(c->path), "/tmp/httptun.%llx/s",
		    (unsigned long long)id);
}

/*
 * The socket, in a directory that is ours alone, and which the keeper knows
 * of before it is there: we may be killed at any time.  -1: errno, *failed.
 */
static int
command_listen(struct command *c, const char **failed)
{
	static char parent[sizeof(c->path)];
	struct sockaddr_un sun;

	command_name(c);
	keeper_tell(c, 0);
	*strrchr(c->path, '/') = '\0';
	if (mkdir(c->path, 0700) == -1) {
		*strrchr(c->path, '/') = '\0';
		strcpy(parent, c->path);
		*failed = parent;
		c->path[0] = '\0';
		return -1;
	}
	strcat(c->path, "/s");
	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	strcpy(sun.sun_path, c->path);
	if ((c->sock = socket(AF_UNIX, SOCK_STREAM, 0)) == -1)
		return -1;
	fd_flags(c->sock);
	return bind(c->sock, (struct sockaddr *)&sun, sizeof(sun)) == -1 ||
	    listen(c->sock, 1) == -1 ||
	    loop_watch(c->sock, &command_watcher, c) == -1 ? -1 : 0;
}

static const int command_signals[] = {
	SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1
};
#define COMMAND_SIGNALS	(int)(sizeof(command_signals) / sizeof(int))

/*
 * In the child: all is as our own caller gave it to us.  It says itself that
 * it is there, before its parent's end may be noticed, whose place in the
 * keeper's pipe it has up to then.
 */
static void
command_exec(struct command *c, const char *line, const int *fd,
    const struct sigaction *was, const sigset_t *mask)
{
	int i;

	(void)setpgid(0, 0);
	c->pid = getpid();
	keeper_tell(c, 0);
#ifdef __linux__
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
	for (i = 0; i < COMMAND_SIGNALS; i++)
		signal_set(command_signals[i], was[i].sa_handler == SIG_IGN ?
		    SIG_IGN : SIG_DFL);
	signal_set(SIGPIPE, pipe_ignored == 1 ? SIG_IGN : SIG_DFL);
	for (i = 0; i < 3; i++)
		if (fd[i] != -1)
			(void)dup2(fd[i], i);
	for (i = 3; i < FD_SETSIZE; i++)
		close(i);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execl("/bin/sh", "sh", "-c", line, (char *)NULL);
	_exit(127);
}

/* Its three pipes: ours in c, its own in fd.  -1: errno. */
static int
command_pipes(struct command *c, int *fd)
{
	int in[2], out[2], err[2] = { -1, -1 };

	if (pipe(in) == -1)
		return -1;
	c->in = in[1];
	fd[0] = in[0];
	if (pipe(out) == -1)
		return -1;
	c->out = out[0];
	fd[1] = out[1];
	if (c->commander != NULL && pipe(err) == -1)
		return -1;
	c->err = err[0];
	fd[2] = err[1];
	if (c->in >= FD_SETSIZE || c->out >= FD_SETSIZE) {
		errno = EMFILE;
		return -1;
	}
	fd_flags(c->in);
	fd_flags(c->out);
	if (c->err != -1) {
		fd_flags(c->err);
		fd_flags(fd[2]);	/* what is too much is not kept */
	}
	return 0;
}

/* Its own signals are those of mask.  -1: errno */
static int
command_fork(struct command *c, const char *line, const sigset_t *mask)
{
	struct sigaction was[COMMAND_SIGNALS];
	int fd[3] = { -1, -1, -1 }, i, error;
	pid_t pid = -1;

	for (i = 0; i < COMMAND_SIGNALS; i++)
		(void)sigaction(command_signals[i], NULL, &was[i]);
	if (command_pipes(c, fd) == 0 && (pid = child_fork(&c->pid)) == 0)
		command_exec(c, line, fd, was, mask);
	error = errno;
	for (i = 0; i < 3; i++)
		if (fd[i] != -1)
			close(fd[i]);
	if (pid > 0) {
		(void)setpgid(pid, pid);
		keeper_tell(c, 0);
	}
	errno = error;
	return pid == -1 ? -1 : 0;
}

struct command *
command_start(const char *text, const char *host, unsigned port,
    const struct commander *commander, void *owner, const char **failed)
{
	static int watched;
	struct buf line = { NULL, 0, 0, 0 };
	struct command *c = calloc(1, sizeof(*c));
	sigset_t mask, old;
	int error;

	*failed = NULL;
	if (c == NULL)
		return NULL;
	if (!watched) {
		signal_watch(SIGCHLD, commands_reap);
#ifdef PR_SET_CHILD_SUBREAPER
		/* Those that a command leaves behind become ours. */
		(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
#endif
	}
	watched = 1;
	c->commander = commander;
	c->owner = owner;
	c->in = c->out = c->err = c->sock = -1;
	signals_mask(&mask);
	/* Who is ended finds all that has begun in the list. */
	signals_hold(&old);
	if (keeper_start() == 0 &&
	    (commander == NULL || command_listen(c, failed) == 0) &&
	    command_expand(&line, text, host, port, c->path) == 0 &&
	    buf_put(&line, "", 1) == 0 &&
	    command_fork(c, (char *)line.p + line.off, &mask) == 0) {
		error = 0;
		c->next = commands;
		commands = c;
	} else {
		error = errno;
		command_close(c);
		free(c);
		c = NULL;
	}
	buf_free(&line);
	sigprocmask(SIG_SETMASK, &old, NULL);
	errno = error;
	return c;
}

/* ---- look-ups -------------------------------------------------------------------- */

/*
 * getaddrinfo() blocks, so a small process of its own, best started before
 * any socket is open, forks once for each question.  A question is a datagram
 * with one end of a socket pair beside it; the answer, or nothing, comes out
 * of the other, which is closed to cancel the question.  The helper ends when
 * the last of us is gone: it holds the read end of a pipe of ours.
 */
struct question {
	char		 host[HOST_MAX + 1];
	int		 family;
	unsigned	 secs;
};

struct answer {
	int		 error;		/* getaddrinfo's */
	int		 n;
	union addr	 addr[ADDRS_MAX];
};

static void
lookup_answer(const struct question *q, int fd)
{
	struct addrinfo hints, *res = NULL, *ai;
	struct answer a;

#ifdef __linux__
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
	alarm(q->secs);
	memset(&a, 0, sizeof(a));
	memset(&hints, 0, sizeof(hints));
	hints.ai_family = q->family;
	hints.ai_socktype = SOCK_STREAM;
	a.error = getaddrinfo(q->host, NULL, &hints, &res);
	for (ai = res; a.error == 0 && ai != NULL; ai = ai->ai_next)
		if (a.n < ADDRS_MAX && (ai->ai_family == AF_INET ||
		    ai->ai_family == AF_INET6))
			addr_copy(&a.addr[a.n++], ai->ai_addr);
	/* The buffer is empty and takes it in one piece. */
	(void)!write(fd, &a, sizeof(a));
	_exit(0);
}

static void
on_child(int sig)
{
	(void)sig;			/* pselect() returns, that is all */
}

/* Who is answering, and where to; the asker hangs up to cancel it. */
static struct lookup {
	pid_t	 pid;
	int	 fd;
} lookups[LOOKUPS_MAX];
static int nlookups;

/* Takes one question and starts a process that answers it. */
static void
lookup_fork(int sock)
{
	struct question q;
	struct lookup *l = &lookups[nlookups];
	char c;

	if (fd_recv(sock, &l->fd, &q, sizeof(q)) != sizeof(q) || l->fd == -1)
		return;
	q.host[HOST_MAX] = '\0';
	/* It may have hung up while the question waited. */
	if (recv(l->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) != 0) {
		if ((l->pid = fork()) == 0)
			lookup_answer(&q, l->fd);
		if (l->pid != -1) {
			nlookups++;
			return;
		}
	}
	close(l->fd);
}

/* Buries those who are done, and ends those whose asker hung up. */
static void
lookup_reap(const fd_set *hungup)
{
	pid_t pid;
	int i;

	for (i = 0; i < nlookups; i++)
		if (set_has(lookups[i].fd, hungup))
			kill(lookups[i].pid, SIGKILL);
	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		for (i = 0; i < nlookups; i++)
			if (lookups[i].pid == pid) {
				close(lookups[i].fd);
				lookups[i] = lookups[--nlookups];
				break;
			}
}

static void
lookup_serve(int sock, int life)
{
	sigset_t child, open_mask;
	struct sigaction sa;
	fd_set set;
	int i, top;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_child;
	sigaction(SIGCHLD, &sa, NULL);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, &open_mask);
	sigdelset(&open_mask, SIGCHLD);
	for (;;) {
		FD_ZERO(&set);
		set_add(life, &set);
		top = life;
		if (nlookups < LOOKUPS_MAX)
			set_add(sock, &set);
		if (sock > top)
			top = sock;
		for (i = 0; i < nlookups; i++) {
			set_add(lookups[i].fd, &set);
			if (lookups[i].fd > top)
				top = lookups[i].fd;
		}
		if (pselect(top + 1, &set, NULL, NULL, NULL, &open_mask) == -1)
			FD_ZERO(&set);
		if (set_has(life, &set))
			break;
		lookup_reap(&set);
		if (set_has(sock, &set) && nlookups < LOOKUPS_MAX)
			lookup_fork(sock);
	}
	for (i = 0; i < nlookups; i++)
		kill(lookups[i].pid, SIGKILL);
	_exit(0);
}

/*
 * The helper keeps nothing of ours open but its two descriptors, which get
 * small numbers again.
 */
static void
lookup_child(int sock, int life)
{
	int fd;

	for (fd = 0; fd < fds_top; fd++)
		if (fd != sock && fd != life)
			close(fd);
	fd_sane();
	fd = fcntl(sock, F_DUPFD, 0);
	close(sock);
	sock = fd;
	fd = fcntl(life, F_DUPFD, 0);
	close(life);
	lookup_serve(sock, fd);
}

/* It ends by the loss of its pipe, even if it was stopped. */
void
lookup_end(void)
{
	if (helper_life != -1)
		close(helper_life);
	helper_life = -1;
	if (helper_pid > 0) {
		(void)kill(helper_pid, SIGCONT);
		(void)waitpid(helper_pid, NULL, 0);
	}
	helper_pid = -1;
}

/* There is no helper, or none that lives. */
static void
lookup_forget(void)
{
	if (helper_sock == -1)
		return;
	close(helper_sock);
	helper_sock = -1;
	lookup_end();
}

int
lookup_init(void)
{
	int sock[2], life[2], error;
	pid_t pid;

	lookup_forget();
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sock) == -1)
		return -1;
	if (pipe(life) == -1) {
		error = errno;
		close(sock[0]);
		close(sock[1]);
		errno = error;
		return -1;
	}
	fd_flags(sock[0]);
	fd_flags(life[1]);
	helper_sock = sock[0];
	helper_life = life[1];
	if ((pid = child_fork(&helper_pid)) == 0)
		lookup_child(sock[1], life[0]);
	error = errno;
	close(sock[1]);
	close(life[0]);
	if (pid == -1)
		lookup_forget();
	errno = error;
	return pid == -1 ? -1 : 0;
}

/* ---- connecting (RFC 8305) --------------------------------------------------------- */

struct dial {
	const struct dialer *dialer;
	void		*owner;
	struct timer	 timer;		/* the next address, or the report */
	struct question	 question;
	unsigned	 port;
	int		 lookup;	/* where the answer comes from */
	int		 asked;		/* times that the helper was asked */
	int		 n, next;	/* addresses; the next to try */
	int		 pending;	/* attempts under way */
	int64_t		 last;		/* when the last one began */
	enum dial_error	 error;
	int		 code;
	union addr	 addr[ADDRS_MAX];
	int		 fd[ADDRS_MAX];
};

static void	dial_next(void *);
static void	dial_ask(void *);

static int extras;

int
dial_extras(void)
{
	return extras;
}

/* So many attempts of it are under way now. */
static void
dial_count(struct dial *d, int pending)
{
	int more = (pending > 1 ? pending - 1 : 0) -
	    (d->pending > 1 ? d->pending - 1 : 0);

	extras += more;
	d->pending = pending;
	if (more != 0 && reach.room != NULL)
		(void)reach.room();
}

/*
 * Whether one more may stand beside those that are: a name has as many
 * addresses as somebody likes, and each takes a descriptor, which a tunnel
 * would need.  The more a dial has already, the more has to be left.
 */
static int
dial_room(const struct dial *d)
{
	return d->pending == 0 || reach.room == NULL || (reach.room() &&
	    (extras + 1) * d->pending <= loop_limit() / 4);
}

static void
dial_drop(struct dial *d)
{
	int i;

	timer_stop(&d->timer);
	dial_count(d, 0);
	if (d->lookup != -1)
		fd_close(d->lookup);
	for (i = 0; i < d->next; i++)
		if (d->fd[i] != -1)
			fd_close(d->fd[i]);
}

void
dial_cancel(struct dial *d)
{
	dial_drop(d);
	loop_bury(&d->timer, free, d);
}

int
dial_looking(const struct dial *d)
{
	return d->n == 0;	/* the question may still wait to be sent */
}

static void
dial_end(struct dial *d, int fd)
{
	dial_cancel(d);
	d->dialer->done(d->owner, fd, d->error, d->code);
}

static void
dial_report(void *arg)
{
	dial_end(arg, -1);
}

/* Reports from the loop, so that done() never comes before dial_start() ends. */
static void
dial_fail(struct dial *d, enum dial_error error, int code)
{
	d->error = error;
	d->code = code;
	timer_set(&d->timer, 0, dial_report, d);
}

/* Returns a connecting socket, or -1 with errno. */
static int
dial_socket(const union addr *a)
{
	int fd, error;

	if ((fd = fd_socket(a->sa.sa_family)) == -1)
		return -1;
	fd_tcp(fd);
	if (fd >= FD_SETSIZE)
		errno = EMFILE;
	else if ((reach.source.sa.sa_family == AF_UNSPEC || bind(fd,
	    &reach.source.sa, addr_len(&reach.source)) == 0) &&
	    (connect(fd, &a->sa, addr_len(a)) == 0 || errno == EINPROGRESS ||
	    errno == EINTR))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static unsigned
dial_want(void *arg, int fd)
{
	struct dial *d = arg;

	return fd == d->lookup ? WANT_READ : WANT_WRITE;
}

/*
 * How much it tells: most what a host said, or its silence, and least that
 * there is no way to all its kind, as where IPv6 is missing.
 */
static int
dial_telling(int code)
{
	if (code == ECONNREFUSED || code == ECONNRESET || code == ETIMEDOUT)
		return 2;
	return code != ENETUNREACH && code != EAFNOSUPPORT &&
	    code != EADDRNOTAVAIL;
}

/* An address failed.  What tells less than how another one did is not said. */
static void
dial_failed(struct dial *d, int code)
{
	if (d->error == DIAL_CONNECT &&
	    dial_telling(d->code) > dial_telling(code))
		return;
	d->error = DIAL_CONNECT;
	d->code = code;
}

static void
dial_ready(void *arg, int fd, unsigned what)
{
	struct dial *d = arg;
	int i, code;
	socklen_t len = sizeof(code);

	(void)what;
	for (i = 0; d->fd[i] != fd; i++)
		;
	d->fd[i] = -1;
	dial_count(d, d->pending - 1);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) == -1)
		code = errno;
	if (code == 0) {
		loop_forget(fd);
		d->error = DIAL_OK;
		d->code = 0;
		dial_end(d, fd);
		return;
	}
	fd_close(fd);
	dial_failed(d, code);
	dial_next(d);
}

static const struct watcher dial_watcher = { dial_want, dial_ready, 1 };

/* The attempt that has had the longest time makes way for the next. */
static void
dial_yield(struct dial *d)
{
	int i;

	for (i = 0; d->fd[i] == -1; i++)
		;
	fd_close(d->fd[i]);
	d->fd[i] = -1;
	dial_count(d, d->pending - 1);
	dial_failed(d, ETIMEDOUT);
}

/*
 * Tries the next address; the attempts before it go on (RFC 8305, 5).  Where
 * there is no room for it beside them it waits, but not for ever: what does
 * not answer would keep all from the address that does.  Out of descriptors,
 * those that are under way are all that there will be.
 */
static void
dial_next(void *arg)
{
	struct dial *d = arg;
	int fd;

	timer_stop(&d->timer);
	while (d->next < d->n) {
		if (!dial_room(d)) {
			if (loop_now() - d->last < CROWDED_MS) {
				timer_set(&d->timer, RECONNECT_MS, dial_next,
				    d);
				return;
			}
			dial_yield(d);
		}
		d->last = loop_now();
		fd = dial_socket(&d->addr[d->next]);
		d->fd[d->next++] = fd;
		if (fd != -1) {
			(void)loop_watch(fd, &dial_watcher, d);
			dial_count(d, d->pending + 1);
			if (d->next < d->n)
				timer_set(&d->timer, RECONNECT_MS, dial_next,
				    d);
			return;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS) {
			d->error = DIAL_FULL;
			d->code = errno;
		} else
			dial_failed(d, errno);
	}
	if (d->pending == 0)
		dial_fail(d, d->error, d->code);
}

/* Families take turns, the first address's first (RFC 8305, 4). */
static void
dial_interleave(struct dial *d)
{
	union addr a;
	int i, k;

	for (i = 1; i < d->n; i++) {
		for (k = i; k < d->n; k++)
			if (d->addr[k].sa.sa_family !=
			    d->addr[i - 1].sa.sa_family)
				break;
		if (k == d->n)
			return;
		a = d->addr[k];
		memmove(&d->addr[i + 1], &d->addr[i],
		    (size_t)(k - i) * sizeof(a));
		d->addr[i] = a;
	}
}

/* Whether an address can be reached the way that -4, -6 and -s want. */
static int
dial_reachable(const union addr *a)
{
	int family = a->sa.sa_family;

	return (reach.family == AF_UNSPEC || reach.family == family) &&
	    (reach.source.sa.sa_family == AF_UNSPEC ||
	    reach.source.sa.sa_family == family);
}

static void
dial_resolved(struct dial *d, const union addr *a, int n)
{
	union addr *to;
	int i, reachable = 0;

	for (i = 0; i < n; i++) {
		to = &d->addr[d->n];
		*to = a[i];
		addr_unmap(to);		/* as the kernel would */
		if (!dial_reachable(to))
			continue;
		reachable = 1;
		addr_set_port(to, d->port);
		if (d->dialer->allow(d->owner, to))
			d->n++;
	}
	dial_interleave(d);
	if (!reachable)
		dial_fail(d, DIAL_CONNECT, EAFNOSUPPORT);
	else if (d->n == 0)
		dial_fail(d, DIAL_RULE, 0);
	else
		dial_next(d);
}

static void
lookup_ready(void *arg, int fd, unsigned what)
{
	struct dial *d = arg;
	struct answer a;
	ssize_t n;

	(void)what;
	n = read(fd, &a, sizeof(a));
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	fd_close(fd);
	d->lookup = -1;
	if (n != (ssize_t)sizeof(a)) {
		/* The helper died with the question: once more. */
		if (d->asked < 2)
			dial_ask(d);
		else
			dial_fail(d, DIAL_LOOKUP, EAI_AGAIN);
	} else if (a.error != 0)
		dial_fail(d, DIAL_LOOKUP, a.error);
	else
		dial_resolved(d, a.addr, a.n);
}

static const struct watcher lookup_watcher = { dial_want, lookup_ready, 1 };

/*
 * Sends the question.  -1: errno; EAGAIN when it is to be sent again later.
 * A helper that has died is replaced, a worker's by the first process, whose
 * it is; should its note of that be lost, the worker asks for it.
 */
static int
lookup_send(const struct question *q, int answer)
{
	static int64_t asked;
	int i;

	for (i = 0; i < 2; i++) {
		if ((helper_sock == -1 || i > 0) && own_fd == -1 &&
		    lookup_init() == -1)
			return -1;
		if (fd_send(helper_sock, answer, q, sizeof(*q), 0) != -1)
			return 0;
		if (errno == EAGAIN || errno == ENOBUFS || own_fd != -1)
			break;
	}
	if (own_fd != -1 && errno != EAGAIN && errno != ENOBUFS &&
	    loop_now() - asked >= REST_MS) {
		asked = loop_now();
		(void)crew_tell(CREW_HELPER, CREW_FIRST, 0, -1);
	}
	if (own_fd != -1 || errno == ENOBUFS)
		errno = EAGAIN;
	return -1;
}

static void
dial_ask(void *arg)
{
	struct dial *d = arg;
	int p[2], r, error;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) == -1) {
		dial_fail(d, DIAL_FULL, errno);
		return;
	}
	fd_flags(p[0]);
	if ((r = loop_watch(p[0], &lookup_watcher, d)) == 0)
		r = lookup_send(&d->question, p[1]);
	error = errno;
	close(p[1]);
	if (r == 0) {
		d->asked++;
		d->lookup = p[0];
		return;
	}
	fd_close(p[0]);
	if (error == EAGAIN)
		timer_set(&d->timer, LOOKUP_RETRY_MS, dial_ask, d);
	else
		dial_fail(d, DIAL_FULL, error);
}

struct dial *
dial_start(const char *host, unsigned port, int secs,
    const struct dialer *dialer, void *owner)
{
	struct dial *d;
	union addr a;

	if ((d = calloc(1, sizeof(*d))) == NULL)
		return NULL;
	d->dialer = dialer;
	d->owner = owner;
	d->port = port;
	d->lookup = -1;
	if (addr_literal(&a, host, port) == 0) {
		dial_resolved(d, &a, 1);
	} else if (reach.literals) {
		dial_fail(d, DIAL_NAME_REFUSED, 0);
	} else {
		snprintf(d->question.host, sizeof(d->question.host), "%s",
		    host);
		d->question.family = reach.family;
		d->question.secs = (unsigned)secs + 1;
		dial_ask(d);
	}
	return d;
}

/* ---- workers ----------------------------------------------------------------------- */

/*
 * The first process holds no tunnels: it keeps workers, which share its
 * listening sockets.  Only as many as asked for accept, the first ones that
 * have room; when none has, one more is forked, and one that is not needed
 * any more is told to leave when it is empty.  Each has a channel to us for
 * notes; at its end either side knows that the other is gone.  What workers
 * say to each other goes by us.  State that they share is worker 0's, which
 * therefore is always there.
 */
static const struct crew *crew;
static struct timer crew_timer, helper_timer;
static int crew_draining, crew_full;

union note_room {
	struct note	 note;
	unsigned char	 room[sizeof(struct note) + INPUT_MAX];
};
static union note_room note_room;	/* for the one that came, or goes */
static struct note *const the_note = &note_room.note;

/* A note, size bytes behind this, that a full channel has to have later. */
struct letter {
	struct letter	*next;
	size_t		 size;
	int		 sock, fd;
};
static struct letter *letters, **letters_end = &letters;
static int nletters;

static int
letters_for(int sock)
{
	const struct letter *l;

	for (l = letters; l != NULL && l->sock != sock; l = l->next)
		;
	return l != NULL;
}

static void
letter_free(struct letter **link)
{
	struct letter *l = *link;

	if ((*link = l->next) == NULL)
		letters_end = link;
	if (l->fd != -1)
		close(l->fd);
	free(l);
	nletters--;
}

/* -1: ENOBUFS, ENOMEM or what keeps us from one more descriptor. */
static int
letter_keep(int sock, const struct note *n, size_t size, int fd)
{
	struct letter *l;

	if (nletters == LETTERS_MAX) {
		errno = ENOBUFS;
		return -1;
	}
	if ((l = malloc(sizeof(*l) + size)) == NULL)
		return -1;
	if (fd != -1 && (fd = dup(fd)) == -1) {
		free(l);
		return -1;
	}
	if (fd != -1)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	l->next = NULL;
	l->size = size;
	l->sock = sock;
	l->fd = fd;
	memcpy(l + 1, n, size);
	*letters_end = l;
	letters_end = &l->next;
	nletters++;
	return 0;
}

/* Sends what waits for a channel, as far as it goes. */
static void
letters_send(int sock)
{
	struct letter **link = &letters, *l;

	while ((l = *link) != NULL) {
		if (l->sock != sock) {
			link = &l->next;
			continue;
		}
		if (fd_send(sock, l->fd, l + 1, l->size, MSG_DONTWAIT) == -1 &&
		    fd_later())
			return;
		letter_free(link);
	}
}

/* Nobody reads it any more; -1: any of them. */
static void
letters_drop(int sock)
{
	struct letter **link = &letters;

	while (*link != NULL)
		if (sock == -1 || (*link)->sock == sock)
			letter_free(link);
		else
			link = &(*link)->next;
}

static unsigned
crew_want(void *arg, int fd)
{
	(void)arg;
	return letters_for(fd) ? WANT_READ | WANT_WRITE : WANT_READ;
}

/*
 * A note goes in one piece or not at all, so a channel has room for several,
 * which a system's default may not be; and where that can be said, nothing
 * goes before there is room for the largest.
 */
static void
channel_size(int sock)
{
	static const int options[] = { SO_SNDBUF, SO_RCVBUF };
	static const int room = 8 * sizeof(note_room);
	static const int one = sizeof(note_room);
	socklen_t len;
	int i, has;

	for (i = 0; i < 2; i++) {
		len = sizeof(has);
		if (getsockopt(sock, SOL_SOCKET, options[i], &has, &len) == 0 &&
		    has < room)
			(void)setsockopt(sock, SOL_SOCKET, options[i], &room,
			    sizeof(room));
	}
	/* Not on Linux, where what fits in the half goes at once. */
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDLOWAT, &one, sizeof(one));
}

/* -1: it will not go.  fd -1: none; it stays the caller's. */
static int
note_send(int sock, const struct note *n, int fd)
{
	size_t size = sizeof(*n) + n->len;

	if (!letters_for(sock)) {
		if (fd_send(sock, fd, n, size, MSG_DONTWAIT) == (ssize_t)size)
			return 0;
		if (!fd_later())
			return -1;
	}
	return letter_keep(sock, n, size, fd);
}

/* All of a note comes at once.  0: the other side has gone, -1: trouble. */
static ssize_t
note_recv(int sock, struct note *n, int *fd)
{
	ssize_t r = fd_recv(sock, fd, n, sizeof(*n));

	if (r <= 0)
		return r;
	if (r == (ssize_t)sizeof(*n) && n->len <= INPUT_MAX &&
	    (n->len == 0 || recv(sock, n->bytes, n->len, MSG_WAITALL) ==
	    (ssize_t)n->len))
		return 1;
	if (*fd != -1)
		close(*fd);
	errno = EPROTO;
	return -1;
}

/* Whether such a note says nothing without the descriptor beside it. */
static int
note_brings(const struct note *n)
{
	return n->what == CREW_PARK || n->what == CREW_LINK ||
	    n->what == CREW_REQUEST || n->what == CREW_NONCE ||
	    n->what == CREW_HELPER;
}

/*
 * What the first process tells a worker.  Who has no descriptor left for the
 * one that comes gets the note without it, or with one that select() cannot
 * have.  Then it is as if nothing came: a client or an exit finds itself
 * closed, and who wants a link, or the helper, asks for it again.
 */
static void
worker_ready(void *arg, int fd, unsigned what)
{
	int passed;
	ssize_t n;

	(void)arg;
	if (what & WANT_WRITE)
		letters_send(fd);
	if (!(what & WANT_READ))
		return;
	n = note_recv(fd, the_note, &passed);
	if (n == 0)
		_exit(0);
	if (n == -1)
		return;
	if (note_brings(the_note) && (passed < 0 || passed >= FD_SETSIZE)) {
		if (passed != -1)
			close(passed);
	} else if (the_note->what == CREW_HELPER) { /* to a new look-up helper */
		close(helper_sock);
		helper_sock = passed;
		fd_flags(passed);
	} else
		crew->note(the_note, passed);
}

static void	crew_ready(void *, int, unsigned);

static const struct watcher crew_watcher = { crew_want, crew_ready, 1 };
static const struct watcher worker_watcher = { crew_want, worker_ready, 1 };

static void
note_init(struct note *n, int what, int worker, unsigned id)
{
	n->what = what;
	n->worker = worker;
	n->id = id;
	n->len = 0;
}

int
crew_pass(int what, int worker, int fd, const void *p, size_t len)
{
	int r = -1;

	if (own_fd != -1 && len <= INPUT_MAX) {
		note_init(the_note, what, worker, 0);
		the_note->len = (unsigned)len;
		if (len > 0)
			memcpy(the_note->bytes, p, len);
		r = note_send(own_fd, the_note, fd);
	}
	close(fd);
	return r;
}

int
crew_tell(int what, int worker, unsigned id, int fd)
{
	struct note n;
	int r = -1;

	note_init(&n, what, worker, id);
	if (own_fd != -1 && worker == own_number) {
		crew->note(&n, fd);
		return 0;
	}
	if (own_fd != -1)
		r = note_send(own_fd, &n, fd);
	if (fd != -1)
		close(fd);
	return r;
}

int
crew_number(void)
{
	return own_number;
}

static void
crew_order(struct worker *w, int what)
{
	struct note n;

	note_init(&n, what, CREW_FIRST, 0);
	if (w->pid > 0 && w->fd != -1)
		(void)note_send(w->fd, &n, -1);
}

void
crew_order_all(int c)
{
	int i;

	for (i = 0; i < WORKERS_MAX; i++)
		crew_order(&workers[i], c);
	if (c == CREW_DRAIN || c == CREW_FAREWELL)
		crew_draining = 1;
}

/* What still waits for the channel is somebody's: a client, a link. */
static void
letters_last(int sock)
{
	struct timeval tv = { 1, 0 };
	fd_set set;

	FD_ZERO(&set);
	for (set_add(sock, &set); letters_for(sock); letters_send(sock))
		if (select(sock + 1, NULL, &set, NULL, &tv) != 1)
			return;
}

/* A new worker's life, from the fork to its end. */
static void
worker_run(int number, int fd)
{
	int i;

	for (i = 3; i < FD_SETSIZE; i++)
		if (slots[i].watcher == &crew_watcher)
			close(i);
	loop_reset();
	letters_drop(-1);
	own_fd = fd;
	own_number = number;
	close(helper_life);
	helper_life = -1;
	(void)loop_watch(fd, &worker_watcher, NULL);
	crew->start(number);
	(void)crew_tell(CREW_ROOM, CREW_FIRST, 0, -1);
	loop_run();
	letters_last(fd);
	exit(0);
}

/* -1 with errno. */
static int
worker_fork(int number)
{
	struct worker *w = &workers[number];
	int p[2], error;
	struct note n;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) == -1)
		return -1;
	channel_size(p[0]);
	channel_size(p[1]);
	fd_flags(p[1]);
	if (loop_watch(p[0], &crew_watcher, w) == 0) {
		w->fd = p[0];
		w->accepting = 1;
		w->full = 0;
		w->born = loop_now();
		if ((pid = child_fork(&w->pid)) == 0)
			worker_run(number, p[1]);
		if (pid != -1) {
			/* Its first note: it is there and accepts. */
			close(p[1]);
			(void)!read(p[0], &n, sizeof(n));
			fd_flags(p[0]);
			return 0;
		}
	}
	error = errno;
	fd_close(p[0]);
	close(p[1]);
	errno = error;
	return -1;
}

/* There was room for long enough to say the next time that there is none. */
static void
crew_roomy(void *arg)
{
	(void)arg;
	crew_full = 0;
}

/*
 * Makes the right number of workers accept: asks one that was to leave to
 * stay, forks one, or lets the last ones go that are too many.  One that
 * cannot be forked is tried again, as nobody else may ever say a word.
 */
static void
crew_balance(void *arg)
{
	static struct timer roomy;
	int i, n = 0, failed = 0;

	(void)arg;
	if (crew_draining)
		return;
	if (workers[0].pid == 0 && worker_fork(0) == -1)
		failed = errno;
	for (i = 0; i < WORKERS_MAX; i++) {
		if (workers[i].pid > 0 && workers[i].accepting &&
		    !workers[i].full && ++n > crew->min) {
			workers[i].accepting = 0;
			crew_order(&workers[i], CREW_LEAVE);
		}
	}
	for (i = 0; i < WORKERS_MAX && n < crew->min; i++)
		if (workers[i].pid > 0 && !workers[i].accepting &&
		    !workers[i].full) {
			workers[i].accepting = 1;
			crew_order(&workers[i], CREW_ACCEPT);
			n++;
		}
	for (i = 0; i < WORKERS_MAX && n < crew->min && failed == 0; i++)
		if (workers[i].pid == 0) {
			if (worker_fork(i) == -1)
				failed = errno;
			else
				n++;
		}
	if (failed != 0)
		timer_set(&crew_timer, REST_MS, crew_balance, NULL);
	if (n > 0 && crew_full && roomy.next == NULL)
		timer_set(&roomy, ROOMY_MS, crew_roomy, NULL);
	else if (n == 0) {
		timer_stop(&roomy);
		if (!crew_full)
			crew->full(failed);
		crew_full = 1;
	}
}

/* Where its questions go; nowhere, while there is no helper. */
static void
crew_show_helper(const struct worker *w)
{
	struct note n;

	note_init(&n, CREW_HELPER, CREW_FIRST, 0);
	if (helper_sock != -1 && w->pid > 0 && w->fd != -1)
		(void)note_send(w->fd, &n, helper_sock);
}

/*
 * What a worker tells us (it is full, has room again, misses the helper), or
 * another one.
 */
static void
crew_ready(void *arg, int fd, unsigned what)
{
	struct worker *w = arg;
	int passed, to;
	ssize_t n;

	if (what & WANT_WRITE)
		letters_send(fd);
	if (!(what & WANT_READ))
		return;
	if ((n = note_recv(fd, the_note, &passed)) == -1 && fd_later())
		return;
	if (n != 1) {
		/* It has gone; SIGCHLD tells how. */
		letters_drop(fd);
		fd_close(fd);
		w->fd = -1;
		return;
	}
	to = the_note->worker;
	the_note->worker = (int)(w - workers);
	if (the_note->what == CREW_REQUEST && to == CREW_FIRST)
		for (to = 0; to < WORKERS_MAX - 1 && (workers[to].pid == 0 ||
		    !workers[to].accepting || workers[to].full); )
			to++;
	if (to == CREW_FIRST && the_note->what == CREW_HELPER)
		crew_show_helper(w);
	else if (to == CREW_FIRST) {
		w->full = the_note->what == CREW_FULL;
		crew_balance(NULL);
	} else if (the_note->what == CREW_NONCE) {
		/* One that takes no more, or died: it is their sender's. */
		if (workers[to].pid == 0 || workers[to].fd == -1 ||
		    !workers[to].accepting || workers[to].full ||
		    note_send(workers[to].fd, the_note, passed) == -1)
			(void)note_send(w->fd, the_note, passed);
	} else if (workers[to].pid > 0 && workers[to].fd != -1)
		(void)note_send(workers[to].fd, the_note, passed);
	if (passed != -1)
		close(passed);
}

static void
crew_pass_helper(void)
{
	int i;

	for (i = 0; i < WORKERS_MAX; i++)
		crew_show_helper(&workers[i]);
}

/* A new look-up helper, when there can be one, for all. */
static void
crew_help(void *arg)
{
	if (lookup_init() == 0)
		crew_pass_helper();
	else
		timer_set(&helper_timer, REST_MS, crew_help, arg);
}

/* Who of our children has ended, and what follows from it. */
static void
crew_reap(void)
{
	int i, status, left = 0, wait = 0;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == helper_pid) {
			helper_pid = -1;
			crew_help(NULL);
			continue;
		}
		for (i = 0; i < WORKERS_MAX; i++) {
			if (workers[i].pid != pid)
				continue;
			if (workers[i].fd != -1) {
				letters_drop(workers[i].fd);
				fd_close(workers[i].fd);
			}
			workers[i].pid = 0;
			/* It may have been told to leave, and then be missed. */
			if (loop_now() - workers[i].born < REST_MS &&
			    status != 0)
				wait = 1;
			crew->ended(i, (int)pid, status);
		}
	}
	for (i = 0; i < WORKERS_MAX; i++)
		left += workers[i].pid > 0;
	if (crew_draining && left == 0)
		loop_stop();
	/* One that cannot live is not started over and over. */
	else
		timer_set(&crew_timer, wait ? REST_MS : 0, crew_balance, NULL);
}

int
crew_start(const struct crew *c)
{
	crew = c;
	signal_watch(SIGCHLD, crew_reap);
	crew_full = 1;		/* who starts us says himself that none is */
	crew_balance(NULL);
	crew_full = 0;
	return crew_size() > 0 ? 0 : -1;
}

int
crew_size(void)
{
	int i, n = 0;

	for (i = 0; i < WORKERS_MAX; i++)
		n += workers[i].pid > 0;
	return n;
}

/* ---- listening ------------------------------------------------------------------------ */

static unsigned
listener_want(void *arg, int fd)
{
	struct listener *l = arg;

	(void)fd;
	return !l->resting && l->room() ? WANT_READ : 0;
}

static void
listener_wake(void *arg)
{
	((struct listener *)arg)->resting = 0;
}

/* Out of descriptors: full means silent, the clients wait in the backlog. */
static void
listener_rest(struct listener *l)
{
	l->resting = 1;
	timer_set(&l->rest, REST_MS, listener_wake, l);
}

static void
listener_ready(void *arg, int lfd, unsigned what)
{
	struct listener *l = arg;
	union addr peer;
	socklen_t len;
	int fd, i;

	(void)what;
	for (i = 0; i < ACCEPT_BATCH && l->room(); i++) {
		len = sizeof(peer);
		memset(&peer, 0, sizeof(peer));
		if ((fd = fd_accept(lfd, &peer.sa, &len)) == -1) {
			if (errno == EMFILE || errno == ENFILE ||
			    errno == ENOBUFS || errno == ENOMEM)
				listener_rest(l);
			return;
		}
		if (fd >= FD_SETSIZE) {
			close(fd);
			listener_rest(l);
			return;
		}
		if (!ACCEPT_INHERITS || l->passed)
			fd_tcp(fd);
		addr_unmap(&peer);
		l->accepted(l, fd, &peer);
	}
}

/* Many that are asked each turn would slow down each tunnel. */
static const struct watcher listener_watchers[] = {
	{ listener_want, listener_ready, 1 },
	{ listener_want, listener_ready, 0 }
};

void
listener_stop(struct listener *l)
{
	if (l->fd == -1)
		return;
	timer_stop(&l->rest);
	fd_close(l->fd);
	l->fd = -1;
}

void
listener_free(struct listener *l)
{
	listener_stop(l);
	free(l);
}

int
listener_start(struct listener *l)
{
	return loop_watch(l->fd, &listener_watchers[l->patient], l);
}

/* Both families' address of that kind, IPv4 first; as -4 and -6 allow. */
static int
listen_both(union addr *a, int any)
{
	int n = 0;

	if (reach.family != AF_INET6)
		(void)addr_literal(&a[n++], any ? "0.0.0.0" : "127.0.0.1", 0);
	if (reach.family != AF_INET)
		(void)addr_literal(&a[n++], any ? "::" : "::1", 0);
	return n;
}

int
addr_here(const union addr *a)
{
	union addr own = *a;
	int fd, here;

	addr_set_port(&own, 0);
	if ((fd = fd_socket(own.sa.sa_family)) == -1)
		return !family_missing(errno);
	here = bind(fd, &own.sa, addr_len(&own)) == 0 ||
	    errno != EADDRNOTAVAIL;
	close(fd);
	return here;
}

int
listener_reached(const struct listener *l, const union addr *a)
{
	for (; l != NULL; l = l->next)
		if (addr_port(&l->addr) == addr_port(a) &&
		    (addr_any(&l->addr) ? addr_here(a) :
		    addr_same_host(&l->addr, a)))
			return 1;
	return 0;
}

int
listen_addrs(union addr *a, const char *addr, unsigned port)
{
	struct addrinfo hints, *res, *ai;
	int n = 0, i;

	memset(a, 0, LISTEN_ADDRS * sizeof(*a));
	if (addr == NULL || addr[0] == '\0' || strcmp(addr, "*") == 0)
		n = listen_both(a, addr != NULL);
	else {
		memset(&hints, 0, sizeof(hints));
		hints.ai_family = reach.family;
		hints.ai_socktype = SOCK_STREAM;
		hints.ai_flags = AI_PASSIVE |
		    (reach.literals ? AI_NUMERICHOST : 0);
		if (getaddrinfo(addr, NULL, &hints, &res) != 0)
			return 0;
		for (ai = res; ai != NULL && n < LISTEN_ADDRS; ai = ai->ai_next)
			addr_copy(&a[n++], ai->ai_addr);
		freeaddrinfo(res);
	}
	for (i = 0; i < n; i++)
		addr_set_port(&a[i], port);
	return n;
}

/* A socket that listens at a, whose port 0 becomes the real one. */
static int
listen_socket(union addr *a)
{
	static const int on = 1;
	socklen_t len = sizeof(*a);
	int fd, error;

	if ((fd = fd_socket(a->sa.sa_family)) == -1)
		return -1;
	if (ACCEPT_INHERITS)
		fd_tcp(fd);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->sa.sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on,
		    sizeof(on));
	if (bind(fd, &a->sa, addr_len(a)) == 0 && listen(fd, BACKLOG) == 0 &&
	    getsockname(fd, &a->sa, &len) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

int
listen_add(struct listener **list, union addr *a)
{
	struct listener *l;
	int fd;

	if ((fd = listen_socket(a)) == -1)
		return -1;
	if ((l = calloc(1, sizeof(*l))) == NULL) {
		close(fd);
		errno = ENOMEM;
		return -1;
	}
	l->fd = fd;
	l->addr = *a;
	while (*list != NULL)
		list = &(*list)->next;
	*list = l;
	return 0;
}

static void
listen_undo(struct listener **tail)
{
	struct listener *l;

	while ((l = *tail) != NULL) {
		*tail = l->next;
		listener_free(l);
	}
}

int
family_missing(int error)
{
	return error == EAFNOSUPPORT || error == EPROTONOSUPPORT ||
	    error == EADDRNOTAVAIL;
}

/* Opens all of a[0..n), whose ports become the real ones. */
static int
listen_all(struct listener **tail, union addr *a, int n, int optional,
    union addr *failed)
{
	unsigned port = 0;
	int i, error = 0;

	for (i = 0; i < n; i++) {
		if (port != 0)
			addr_set_port(&a[i], port);
		if (listen_add(tail, &a[i]) == -1) {
			error = errno;
			*failed = a[i];
			if (optional && family_missing(error))
				continue;
			break;
		}
		port = addr_port(&a[i]);
	}
	if (i == n && *tail != NULL)
		return 0;
	listen_undo(tail);
	errno = error;
	return -1;
}

int
listen_open(struct listener **list, const char *addr, unsigned port,
    union addr *failed)
{
	union addr a[LISTEN_ADDRS];
	int n, tries;

	while (*list != NULL)
		list = &(*list)->next;
	/* A port that is free in one family may be taken in the other. */
	for (tries = 0; tries < 16; tries++) {
		if ((n = listen_addrs(a, addr, port)) == 0) {
			memset(failed, 0, sizeof(*failed));
			errno = EADDRNOTAVAIL;
			return -1;
		}
		if (listen_all(list, a, n, n > 1, failed) == 0)
			return 0;
		if (port != 0 || errno != EADDRINUSE)
			break;
	}
	return -1;
}

/* sd_listen_fds(3): descriptors from 3 on, when they are meant for us. */
int
listen_passed(struct listener **list)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	struct listener *l;
	socklen_t len;
	long n, i;
	int on;

	if (pid == NULL || fds == NULL ||
	    text_number(pid, strlen(pid), 1, INT_MAX) != getpid())
		return 0;
	n = text_number(fds, strlen(fds), 1, FD_SETSIZE - 3);
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	for (i = 0; i < n; i++) {
		if ((l = calloc(1, sizeof(*l))) == NULL)
			return -1;
		l->fd = (int)i + 3;
		len = sizeof(on);
		if (getsockopt(l->fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) ==
		    -1 || !on) {
			free(l);
			return -1;
		}
		len = sizeof(l->addr);
		if (getsockname(l->fd, &l->addr.sa, &len) == -1 ||
		    (l->addr.sa.sa_family != AF_INET &&
		    l->addr.sa.sa_family != AF_INET6)) {
			free(l);
			return -1;
		}
		fd_flags(l->fd);
		l->passed = 1;
		*list = l;
		list = &l->next;
	}
	return (int)n;
}

/* ---- the terminal ------------------------------------------------------------------------ */

static volatile sig_atomic_t tty_signal;

static void
on_tty_signal(int sig)
{
	tty_signal = sig;
}

static const int tty_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
#define TTY_SIGNALS	(sizeof(tty_signals) / sizeof(tty_signals[0]))

/* read(2) of one byte, which a signal interrupts whenever it comes. */
static ssize_t
tty_byte(int fd, char *c)
{
	sigset_t set, old, asleep;
	fd_set in;
	size_t i;
	int r = -1;

	sigemptyset(&set);
	for (i = 0; i < TTY_SIGNALS; i++)
		sigaddset(&set, tty_signals[i]);
	sigprocmask(SIG_BLOCK, &set, &old);
	asleep = old;			/* the loop may have them blocked */
	for (i = 0; i < TTY_SIGNALS; i++)
		sigdelset(&asleep, tty_signals[i]);
	if (tty_signal != 0)
		errno = EINTR;
	else {
		FD_ZERO(&in);
		set_add(fd, &in);
		r = pselect(fd + 1, &in, NULL, NULL, NULL, &asleep);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r == -1 ? -1 : read(fd, c, 1);
}

/* One line without echo; the terminal is as before on return.  -1: errno. */
static int
tty_line(int fd, const char *prompt, char *line, size_t size)
{
	struct termios old, quiet;
	int error = 0;
	size_t n = 0;
	ssize_t r;
	char c;

	if (tcgetattr(fd, &old) == -1)
		return -1;
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	if (tcsetattr(fd, TCSAFLUSH, &quiet) == -1)
		return -1;
	(void)!write(fd, prompt, strlen(prompt));
	while ((r = tty_byte(fd, &c)) == 1 && c != '\n' && c != '\r')
		if (n + 1 < size)
			line[n++] = c;
	line[n] = '\0';
	if (r == -1)
		error = errno;
	else if (r == 0 && n == 0)
		error = EIO;
	(void)tcsetattr(fd, TCSAFLUSH, &old);
	(void)!write(fd, "\n", 1);
	errno = error;
	return error != 0 ? -1 : 0;
}

/* Whether somebody waits for it, and will act on it later. */
static int
signal_held(int sig)
{
	sigset_t set;

	sigprocmask(SIG_SETMASK, NULL, &set);
	return sig != 0 && sigismember(&set, sig) == 1;
}

int
tty_password(const char *prompt, char *line, size_t size)
{
	struct sigaction sa, old[TTY_SIGNALS];
	size_t i;
	struct timer *t;
	int64_t asked;
	int fd, r, error;

	if ((fd = open("/dev/tty", O_RDWR | O_NOCTTY)) == -1)
		return -1;
	if (fd >= FD_SETSIZE) {
		close(fd);
		errno = EMFILE;
		return -1;
	}
	time_update();
	asked = now;
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_tty_signal;
	do {
		tty_signal = 0;
		for (i = 0; i < TTY_SIGNALS; i++) {
			sigaction(tty_signals[i], NULL, &old[i]);
			if (old[i].sa_handler != SIG_IGN)
				sigaction(tty_signals[i], &sa, NULL);
		}
		r = tty_line(fd, prompt, line, size);
		error = errno;
		for (i = 0; i < TTY_SIGNALS; i++)
			sigaction(tty_signals[i], &old[i], NULL);
		/* Ends us, stops us until somebody says fg, or is the loop's. */
		if (tty_signal != 0)
			raise(tty_signal);
	} while (r == -1 && error == EINTR && !signal_held(tty_signal));
	close(fd);
	/* The time that a person takes counts against no deadline. */
	time_update();
	for (t = timers.next; t != &timers; t = t->next)
		t->at += now - asked;
	errno = error;
	return r;
}
