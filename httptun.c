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
 * What was asked: options, credentials, rules, hops, and the life of a
 * tunnel from the near end's wish to the line in the log.
 */

#if defined(__linux__) || defined(__sun)
#define _POSIX_C_SOURCE 200809L		/* elsewhere it would hide SIGINFO */
#endif

#include <sys/stat.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "httptun.h"

#ifdef __APPLE__
#define st_mtim		st_mtimespec
#define st_ctim		st_ctimespec
#endif

#define MODE_STDIO	1
#define MODE_LOCAL	2
#define MODE_LISTEN	4
#define MODE_EXIT	8
#define MODE_ALL	15
#define MODE_SERVE	(MODE_LISTEN | MODE_EXIT)

#define NO_PORT		65536		/* sockets come from elsewhere */
#define WHY_MAX		256		/* bytes of a reason in the log */
#define OTHERS_MAX	32		/* hops in one place of a chain */
#define TICK_MS		250		/* of what is being opened */
#define TLS_COMMAND	"exec openssl s_client -quiet -verify_return_error " \
			"-unix %s "
#define SESSION_LOAD	2		/* connections that a session has */
#define POLL_FIELDS	"Cache-Control: no-store\r\n" \
			"X-Accel-Buffering: no\r\n"

struct cred {
	struct cred	*next;
	char		*user, *pass;
};

struct rule {
	struct rule	*next;
	int		 deny;
	char		*name;		/* a name or pattern, or NULL: */
	union addr	 net;		/* AF_UNSPEC: any address */
	unsigned	 bits;
	char		*ports;		/* 22,443,8000-8999; NULL: all */
	char		*text;		/* as it was written */
	int		 letter;	/* 'c' or 't' */
};

/* How a hop is asked; a command is a connection, and asked nothing. */
enum carriage { BY_CONNECT, BY_WS, BY_POLL, BY_EXEC };

/* What a server asked for the last time. */
struct demand {
	char		*digest;	/* its challenge, NULL: none (yet) */
	unsigned	 nc;		/* how often that was answered */
};

/* One of those that may stand in one place of a chain. */
struct hop {
	struct hop	*next;		/* the first one of the next place */
	struct hop	*other;		/* the next one of the same place */
	unsigned char	 place;		/* its number */
	unsigned char	 best;		/* of its first: which worked last */
	unsigned char	 tls;		/* it is asked over TLS */
	enum carriage	 carriage;
	char		*arg;		/* as it was written, until parsed */
	char		*path;		/* of its URL; or the command */
	char		*user, *pass;	/* NULL: none, not known (yet) */
	int		 lent;		/* they are not its own */
	int		 typed;		/* the password was, and never worked, */
	int		 wrong;		/* nor did it now */
	struct demand	 demand;
	char		 host[HOST_MAX + 1];
	unsigned	 port;
	char		 who[HOST_MAX + 9];	/* host:port */
};

/* What SIGUSR1 tells. */
struct totals {
	unsigned long long open, tunnels, refused, up, down;
};

/*
 * The hops of lines (-f) that name the same ones: what they have learned, a
 * password or a challenge, holds for all of these.
 */
struct route {
	struct route	*next;
	int		 refs;
	unsigned char	 id[SHA256_LEN];	/* of how they were written */
	struct hop	*hops;
};

struct forward {			/* -L, or a line of -f */
	struct forward	*next;
	int		 refs;		/* the list's, and its tunnels' */
	int		 line;		/* in the file, 0: -L */
	unsigned char	 id[SHA256_LEN];	/* of the line */
	unsigned	 kept:1,	/* the file has it as before */
			 gone:1;	/* and no more: only tunnels are left */
	char		*addr;		/* NULL: loopback */
	unsigned	 port;
	char		 host[HOST_MAX + 1];
	unsigned	 hostport;
	struct hop	*bridge;	/* its URL, NULL: none */
	struct hop	*hops;		/* NULL: straight */
	struct route	*route;		/* whose hops they are, NULL: -x's */
	struct rule	*rules;		/* its own -c, NULL: the options' */
	union addr	 addrs[LISTEN_ADDRS];
	int		 naddrs;
	unsigned	 failed;	/* which ones, a bit each, it was said */
	struct listener	*listeners;
	struct totals	 totals;
};

struct extra {				/* -H */
	struct extra	*next;
	struct field	 field;
	int		 remove;
};

static struct {
	unsigned	 mode;
	int		 listen, zero, fdpass, wait, idle, verbose;
	int		 tls_only;	/* -T */
	int		 inetd;		/* -i */
	int		 reverse;	/* -r */
	enum carriage	 carriage;	/* -X */
	int		 workers;	/* -j */
	enum { AUTH_ANY, AUTH_BASIC, AUTH_DIGEST } auth;	/* -A */
	int		 direct;	/* -x direct */
	const char	*user;		/* -P */
	const char	*cred_file;	/* -a */
	const char	*file;		/* -f */
	char		*env_auth;	/* HTTPTUN_AUTH */
	struct cred	*env_cred, *creds;
	struct rule	*clients, *targets;
	struct hop	*hops;
	struct hop	*bridge;	/* a destination that is a URL */
	struct forward	*forwards;
	struct extra	*extras;
	const char	*addr;		/* -l's */
	unsigned	 port;
	char		 host[HOST_MAX + 1];	/* stdio mode's */
} opt;

static int status;			/* of our exit */

/* For each worker; the memory is shared. */
static struct totals own_totals, *all_totals = &own_totals,
    *totals = &own_totals;

/* ---- words to the user ----------------------------------------------------- */

static void
vsay(const char *who, const char *fmt, va_list ap)
{
	char raw[2 * HOST_MAX + 512], line[sizeof(raw) * 2];
	size_t n;

	n = (size_t)snprintf(raw, sizeof(raw), "httptun: %s%s", who,
	    *who != '\0' ? ": " : "");
	if (n < sizeof(raw))
		vsnprintf(raw + n, sizeof(raw) - n, fmt, ap);
	n = text_escape(line, sizeof(line) - 1, raw, strlen(raw));
	line[n++] = '\n';
	words_write(line, n);
}

/* One line on stderr, "httptun: who: what", in one write. */
static void
say(const char *who, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void
say(const char *who, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(who, fmt, ap);
	va_end(ap);
}

/* Only start-up may exit. */
static void
die(int code, const char *who, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), noreturn));
static void
die(int code, const char *who, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(who, fmt, ap);
	va_end(ap);
	exit(code);
}

static void *
xalloc(size_t n)
{
	void *p = calloc(1, n);

	if (p == NULL)
		die(1, "memory", "%s", strerror(errno));
	return p;
}

static char *
xdup(const char *s, size_t n)
{
	char *p = xalloc(n + 1);

	memcpy(p, s, n);
	return p;
}

/*
 * All that the file holds, of max bytes and a little at most, with a NUL
 * behind.  -1: errno
 */
static int
file_slurp(int fd, struct buf *text, unsigned max)
{
	char part[4096];
	ssize_t n;

	while ((n = read(fd, part, sizeof(part))) > 0)
		if (text->len > max || buf_put(text, part, (size_t)n) == -1) {
			errno = EFBIG;
			n = -1;
			break;
		}
	secret_wipe(part, sizeof(part));
	return n == -1 ? -1 : buf_fmt(text, "%s", "");
}

/* There may have been passwords in it. */
static void
file_forget(struct buf *text)
{
	if (text->p != NULL)
		secret_wipe(text->p, text->cap);
	buf_free(text);
}

/* Fields whose values are nobody else's business. */
static int
field_secret(struct span name)
{
	return span_is(name, "Authorization") ||
	    span_is(name, "Proxy-Authorization") || span_is(name, "Cookie") ||
	    span_is(name, "Set-Cookie");
}

/*
 * The userinfo of the URL or authority that stands in n bytes at s; its n is
 * 0 where there is none.
 */
static struct span
url_userinfo(const char *s, size_t n)
{
	struct span url = { s, n }, user = { s, 0 };
	const char *p = span_find(url, "://");
	size_t i;

	if (p != NULL) {
		user.p = p + 3;
		n -= (size_t)(user.p - s);
	}
	for (i = 0; i < n && strchr("/?# ", user.p[i]) == NULL; i++)
		if (user.p[i] == '@')
			user.n = i;
	return user;
}

/* A line of a head, without the userinfo of what URLs or target it has. */
static void
line_mask(struct buf *b, const char *s, size_t n, int first)
{
	const char *end = s + n, *at = s, *blank = memchr(s, ' ', n);
	struct span user;

	if (first && blank != NULL)
		at = blank + 1;
	for (;; first = 0) {
		user = url_userinfo(at, (size_t)(end - at));
		if (user.p == at && !first)
			break;
		(void)buf_fmt(b, "%.*s%s", (int)(user.p - s), s,
		    user.n > 0 ? "***" : "");
		s = at = user.p + user.n;
	}
	(void)buf_fmt(b, "%.*s", (int)(end - s), s);
}

/* -vv: the lines of a head, "httptun: who: > line", credentials masked. */
static void
say_head(const char *who, int direction, const unsigned char *p, size_t n)
{
	const char *s = (const char *)p, *end = s + n, *nl, *colon;
	struct buf b = { NULL, 0, 0, 0 };
	struct span name = { s, 0 };
	int len;

	for (; opt.verbose > 1 && s < end; s = nl + 1) {
		if ((nl = memchr(s, '\n', (size_t)(end - s))) == NULL)
			break;
		len = (int)(nl - s);
		if (len > 0 && s[len - 1] == '\r')
			len--;
		if (len == 0)
			break;
		/* A folded line, which a reply may have, is the field's above. */
		if (*s != ' ' && *s != '\t') {
			colon = memchr(s, ':', (size_t)len);
			name.p = s;
			name.n = colon != NULL ? (size_t)(colon - s) : 0;
			while (name.n > 0 && (name.p[name.n - 1] == ' ' ||
			    name.p[name.n - 1] == '\t'))
				name.n--;
		}
		if (field_secret(name))
			say(who, "%c %.*s: ***", direction, (int)name.n,
			    name.p);
		else {
			line_mask(&b, s, (size_t)len, s == (const char *)p);
			say(who, "%c %.*s", direction, (int)b.len,
			    b.p != NULL ? (char *)b.p + b.off : "");
			buf_free(&b);
		}
	}
}

/* ---- credentials --------------------------------------------------------------- */

static int
has_control(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return 1;
	return 0;
}

static void
cred_free(struct cred *c)
{
	struct cred *next;

	for (; c != NULL; c = next) {
		next = c->next;
		if (c->pass != NULL)
			secret_wipe(c->pass, strlen(c->pass));
		free(c->user);
		free(c->pass);
		free(c);
	}
}

/*
 * user:password, split at the first colon (RFC 7617, 2).  NULL: it is faulty
 * (EINVAL), or ENOMEM: who reads a file again goes on with what there was.
 */
static struct cred *
cred_new(const char *line)
{
	const char *colon = strchr(line, ':');
	struct cred *c;

	if (colon == NULL || has_control(line) || strlen(line) > CRED_MAX) {
		errno = EINVAL;
		return NULL;
	}
	if ((c = calloc(1, sizeof(*c))) == NULL)
		return NULL;
	c->user = strndup(line, (size_t)(colon - line));
	c->pass = strdup(colon + 1);
	if (c->user == NULL || c->pass == NULL) {
		cred_free(c);
		errno = ENOMEM;
		return NULL;
	}
	return c;
}

/*
 * Reads the lines up to end, where there is room for a NUL.  Returns what is
 * wrong with the line *number, or NULL.
 */
static const char *
cred_lines(char *p, char *end, struct cred **list, int *number)
{
	char *nl;

	for (*number = 1; p < end; p = nl + 1, ++*number) {
		if ((nl = memchr(p, '\n', (size_t)(end - p))) == NULL)
			nl = end;
		*nl = '\0';
		if (*p == '#' || nl == p)
			continue;
		if (has_control(p) || strlen(p) != (size_t)(nl - p))
			return "a control character";
		if (strlen(p) > CRED_MAX)
			return "too long";
		if ((*list = cred_new(p)) == NULL)
			return errno == EINVAL ? "no user:password" :
			    strerror(errno);
		list = &(*list)->next;
	}
	*number = 0;
	return NULL;
}

/* Reads -a's file into *list; NULL, which is no list, is said why. */
static struct cred *
cred_read(const char *file, int quiet)
{
	struct buf text = { NULL, 0, 0, 0 };
	struct cred *list = NULL;
	const char *wrong;
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC), number = 0;

	if (fd == -1 || file_slurp(fd, &text, INT_MAX) == -1)
		wrong = strerror(errno);
	else if ((wrong = cred_lines((char *)text.p + text.off,
	    (char *)text.p + text.off + text.len, &list, &number)) == NULL &&
	    list == NULL)
		wrong = "no user:password in it";
	if (wrong != NULL) {
		if (!quiet && number == 0)
			say(file, "%s", wrong);
		else if (!quiet)
			say(file, "line %d: %s", number, wrong);
		cred_free(list);
		list = NULL;
	} else if (!quiet && fstat(fd, &st) == 0 &&
	    st.st_mode & (S_IRGRP | S_IROTH))
		say(file, "warning: others can read it");
	if (fd != -1)
		close(fd);
	file_forget(&text);
	return list;
}

/* The one of ours that these are; all are compared, for equal times. */
static const struct cred *
cred_find(const char *userpass, size_t n)
{
	const struct cred *c, *found = NULL;
	const char *colon = memchr(userpass, ':', n);
	size_t user = (size_t)(colon - userpass);
	int equal;

	for (c = opt.creds; c != NULL; c = c->next) {
		equal = secret_equal(userpass, user, c->user,
		    strlen(c->user));
		equal &= secret_equal(colon + 1, n - user - 1, c->pass,
		    strlen(c->pass));
		if (equal)
			found = c;
	}
	return found;
}

/* ---- rules ------------------------------------------------------------------------ */

/* Whether port is one of "22,443,8000-8999". */
static int
ports_match(const char *s, unsigned port)
{
	unsigned long lo, hi;
	char *end;

	for (; s != NULL; s = *end == ',' ? end + 1 : NULL) {
		lo = hi = strtoul(s, &end, 10);
		if (*end == '-')
			hi = strtoul(end + 1, &end, 10);
		if (port >= lo && port <= hi)
			return 1;
	}
	return 0;
}

static int
ports_valid(const char *s)
{
	size_t n, k;
	long lo, hi;

	for (;; s += n + 1) {
		n = strcspn(s, ",");
		k = strcspn(s, ",-");
		lo = text_number(s, k, 1, 65535);
		hi = k < n ? text_number(s + k + 1, n - k - 1, 1, 65535) : lo;
		if (lo == -1 || hi < lo)
			return 0;
		if (s[n] == '\0')
			return 1;
	}
}

/* The kernel takes the unspecified address for loopback. */
static void
addr_to_loopback(union addr *a)
{
	(void)addr_literal(a, a->sa.sa_family == AF_INET6 ? "::1" :
	    "127.0.0.1", addr_port(a));
}

/* The host part of a rule: a network, or else a name or a pattern. */
static const char *
rule_host(struct rule *r, char *host, const char *bits, int client)
{
	const char *dot;
	unsigned all;
	long n;
	size_t len;

	if (client && strcmp(host, "any") == 0 && bits == NULL)
		return NULL;
	if (addr_literal(&r->net, host, 0) == 0) {
		all = r->net.sa.sa_family == AF_INET6 ? 128 : 32;
		n = bits == NULL ? (long)all :
		    text_number(bits, strlen(bits), 0, (long)all);
		if (n == -1)
			return "bad number of bits";
		/* 10/8 is 0.0.0.10/8, which nobody means. */
		for (len = 0, dot = host; (dot = strchr(dot, '.')) != NULL;
		    dot++)
			len++;
		if (n > 0 && bits != NULL && all == 32 && len != 3)
			return "not all four parts of the address";
		addr_unmap(&r->net);
		/* What the kernel takes it for, as in target_allowed(). */
		if (!client && bits == NULL && addr_any(&r->net))
			addr_to_loopback(&r->net);
		if (all == 128 && r->net.sa.sa_family == AF_INET)
			n = n < 96 ? 0 : n - 96;
		r->bits = (unsigned)n;
		return NULL;
	}
	if (client || bits != NULL)
		return "bad address";
	len = strlen(host);
	if (len > 1 && host[len - 1] == '.')
		host[--len] = '\0';
	if (len == 0 || strspn(host, "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*") != len)
		return "bad host";
	r->name = xdup(host, len);
	return NULL;
}

/*
 * [!]host[:ports] (-t) or [!]address[/bits] (-c).  Returns what is wrong, or
 * NULL.  An IPv6 address with ports stands in brackets.
 */
static const char *
rule_parse(struct rule *r, const char *arg, int client)
{
	char text[HOST_MAX + 256], *host = text, *bits, *ports = NULL, *close;
	size_t n;

	if (arg[0] == '!') {
		r->deny = 1;
		arg++;
	}
	n = strlen(arg);
	if (n >= sizeof(text))
		return "too long";
	memcpy(text, arg, n + 1);
	if (text[0] == '[' && (close = strchr(text, ']')) != NULL) {
		host++;
		*close++ = '\0';
		if (strchr(host, ':') == NULL)
			return "bad address";
		if ((ports = strchr(close, ':')) != NULL)
			*ports++ = '\0';
		bits = close[0] == '/' ? close + 1 : NULL;
		if (bits == NULL && close[0] != '\0')
			return "bad address";
	} else {
		ports = strchr(text, ':');
		if (ports != NULL && strchr(ports + 1, ':') != NULL)
			ports = NULL;		/* a bare IPv6 address */
		if (ports != NULL)
			*ports++ = '\0';
		if ((bits = strchr(text, '/')) != NULL)
			*bits++ = '\0';
	}
	if (ports != NULL) {
		if (client || !ports_valid(ports))
			return "bad ports";
		r->ports = xdup(ports, strlen(ports));
	}
	return rule_host(r, host, bits, client);
}

/* Appends a rule.  Returns what is wrong with it, or NULL. */
static const char *
rule_put(struct rule **list, const char *arg, int letter)
{
	while (*list != NULL)
		list = &(*list)->next;
	*list = xalloc(sizeof(**list));
	(*list)->text = xdup(arg, strlen(arg));
	(*list)->letter = letter;
	return rule_parse(*list, arg, letter == 'c');
}

static void
rule_add(struct rule **list, const char *arg, int letter)
{
	const char *wrong;
	char option[3] = { '-', (char)letter, '\0' };

	if ((wrong = rule_put(list, arg, letter)) != NULL)
		die(2, option, "%s: %s", arg, wrong);
}

static void
rules_free(struct rule *r)
{
	struct rule *next;

	for (; r != NULL; r = next) {
		next = r->next;
		free(r->name);
		free(r->ports);
		free(r->text);
		free(r);
	}
}

static int
rules_open(const struct rule *r)
{
	for (; r != NULL; r = r->next)
		if (!r->deny)
			return 1;
	return 0;
}

/*
 * Whether name (n bytes) fits the pattern; "*" matches dots too.  Only the
 * last star is ever widened: the name is a client's, and must cost no more.
 */
static int
name_match(const char *pattern, const char *name, size_t n)
{
	const char *star = NULL;
	size_t i = 0, from = 0;

	while (i < n) {
		if (*pattern == '*') {
			star = ++pattern;
			from = i;
		} else if (strncasecmp(pattern, name + i, 1) == 0) {
			pattern++;
			i++;
		} else if (star != NULL) {
			pattern = star;
			i = ++from;
		} else
			return 0;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

/* Without final dots, which mean nothing: squid as a hop takes off many. */
static size_t
name_length(const char *name)
{
	size_t n = strlen(name);

	while (n > 1 && name[n - 1] == '.')
		n--;
	return n;
}

static int
rule_match(const struct rule *r, const char *name, unsigned port,
    const union addr *a)
{
	if (r->ports != NULL && !ports_match(r->ports, port))
		return 0;
	if (r->name != NULL)
		return name_match(r->name, name, name_length(name));
	if (r->net.sa.sa_family == AF_UNSPEC)
		return 1;
	return a != NULL && addr_within(a, &r->net, r->bits);
}

/*
 * The first rule that matches decides; none means no as soon as there is an
 * allowing one.  What is guarded (this machine's own addresses, from
 * elsewhere) is opened by an address or exactly its name only.  Of a no, why
 * (WHY_MAX bytes) tells for the log.
 */
static int
rules_allow(const struct rule *r, const char *name, unsigned port,
    const union addr *a, int guarded, char *why)
{
	int otherwise = !guarded;

	for (; r != NULL; r = r->next) {
		if (!r->deny)
			otherwise = 0;
		if (!rule_match(r, name, port, a))
			continue;
		if (!r->deny && guarded && (r->name != NULL ?
		    strchr(r->name, '*') != NULL : r->bits == 0))
			continue;
		if (r->deny)
			snprintf(why, WHY_MAX, "rule -%c %s", r->letter,
			    r->text);
		return !r->deny;
	}
	if (!otherwise)
		snprintf(why, WHY_MAX, "%s", guarded ?
		    "this machine's own address" : "no rule allows it");
	return otherwise;
}

static int
client_allowed(const struct rule *rules, const union addr *client, char *why)
{
	union addr a = *client;

	/* Without an address it is a process of this machine. */
	if (a.sa.sa_family == AF_UNSPEC)
		(void)addr_literal(&a, "127.0.0.1", 0);
	return rules_allow(rules, "", 0, &a, 0, why);
}

static struct listener *listeners;	/* of -l, or who listens for -l -i */

/* localhost, or a name below it (RFC 6761, 6.3). */
static int
name_local(const char *name)
{
	size_t n = name_length(name);

	return name_match("localhost", name, n) ||
	    name_match("*.localhost", name, n);
}

/*
 * Whether a client may reach this address of the host that it named; NULL
 * is a name that is looked up elsewhere.  One from another machine never
 * reaches the proxy itself: what comes back would be a client of this one.
 */
static int
target_allowed(const char *name, unsigned port, const union addr *asked,
    int local, char *why)
{
	union addr a;

	if (asked == NULL)
		return rules_allow(opt.targets, name, port, NULL,
		    !local && name_local(name), why);
	a = *asked;
	addr_unmap(&a);
	if (addr_any(&a))
		addr_to_loopback(&a);
	if (!local && listener_reached(listeners, &a)) {
		snprintf(why, WHY_MAX, "this proxy itself");
		return 0;
	}
	return rules_allow(opt.targets, name, port, &a, !local &&
	    (addr_loopback(&a) || addr_link_local(&a)), why);
}

/* ---- hops ---------------------------------------------------------------------------- */

static const struct {
	const char	*name;
	enum carriage	 carriage;
	unsigned	 port;
	unsigned char	 tls;
} schemes[] = {
	{ "http", BY_CONNECT, 3128, 0 }, { "https", BY_CONNECT, 443, 1 },
	{ "ws", BY_WS, 80, 0 }, { "wss", BY_WS, 443, 1 },
	{ "poll", BY_POLL, 80, 0 }, { "polls", BY_POLL, 443, 1 }
};
#define SCHEMES	(sizeof(schemes) / sizeof(schemes[0]))
#define SCOPE_CHARS	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" \
			"0123456789._-"

static const char *
hop_user(struct hop *h, const struct url *u)
{
	char user[CRED_MAX + 1], pass[CRED_MAX + 1];

	if (u->user.p != NULL) {
		if (percent_decode(user, sizeof(user), u->user) == -1 ||
		    strchr(user, ':') != NULL)
			return "bad user";
		h->user = xdup(user, strlen(user));
	}
	if (u->pass.p != NULL) {
		if (percent_decode(pass, sizeof(pass), u->pass) == -1)
			return "bad password";
		h->pass = xdup(pass, strlen(pass));
		secret_wipe(pass, sizeof(pass));
	}
	return NULL;
}

/* The path of a hop's URL; what is asked by CONNECT has none. */
static const char *
hop_path(struct hop *h, const struct url *u)
{
	size_t i;

	if (h->carriage == BY_CONNECT)
		return u->path.n == 0 || (u->scheme.p != NULL &&
		    u->path.n == 1 && u->path.p[0] == '/') ? NULL :
		    "a proxy has no path";
	for (i = 0; i < u->path.n; i++)
		if (u->path.p[i] <= 0x20 || u->path.p[i] >= 0x7f ||
		    u->path.p[i] == '#' || (u->path.p[i] == '?' &&
		    h->carriage == BY_POLL))
			return "bad path";
	h->path = xalloc(u->path.n + 2);
	snprintf(h->path, u->path.n + 2, "%s%s", u->path.p[0] == '/' ? "" :
	    "/", u->path.p);
	return NULL;
}

/*
 * As authority_parse(), but that an address may have a scope: "%eth0", or as
 * in a URL "%25eth0" (RFC 6874).  A command may get that as an argument.
 */
static const char *
hop_authority(struct span s, char *host, unsigned *port, unsigned dflt)
{
	const char *p = memchr(s.p, '%', s.n), *wrong;
	const char *end = p == NULL ? NULL :
	    memchr(p, ']', s.n - (size_t)(p - s.p));
	char text[HOST_MAX + 9];
	union addr a;
	size_t n;

	if (end == NULL || s.n >= sizeof(text))
		return authority_parse(s.p, s.n, host, port, dflt);
	snprintf(text, sizeof(text), "%.*s%.*s", (int)(p - s.p), s.p,
	    (int)(s.p + s.n - end), end);
	wrong = authority_parse(text, strlen(text), host, port, dflt);
	if (wrong != NULL)
		return wrong;
	if (end - p > 3 && p[1] == '2' && p[2] == '5')
		p += 2;
	n = (size_t)(end - p) - 1;
	snprintf(host + strlen(host), HOST_MAX + 1 - strlen(host), "%%%.*s",
	    (int)n, p + 1);
	return strspn(p + 1, SCOPE_CHARS) < n ||
	    addr_literal(&a, host, 0) == -1 ? "no such scope" : NULL;
}

static int
hop_is_command(const char *arg)
{
	return strncmp(arg, "exec:", 5) == 0;
}

/* A command is named by its first word: the rest may be secret. */
static const char *
hop_command(struct hop *h, const char *arg)
{
	const char *text = arg + 5 + strspn(arg + 5, " \t");
	size_t n = strcspn(text, " \t");

	if (*text == '\0')
		return "no command";
	h->carriage = BY_EXEC;
	h->path = xdup(text, strlen(text));
	if (n > HOST_MAX)
		n = HOST_MAX;
	snprintf(h->who, sizeof(h->who), "exec:%.*s", (int)n, text);
	return NULL;
}

/* A hop; without a scheme it is -X's. */
static const char *
hop_parse(struct hop *h, const char *arg)
{
	const char *wrong;
	struct url u;
	size_t i;

	if (hop_is_command(arg))
		return hop_command(h, arg);
	url_split(&u, arg);
	for (i = 0; i < SCHEMES; i++)
		if (u.scheme.p == NULL ? schemes[i].carriage == opt.carriage :
		    span_is(u.scheme, schemes[i].name))
			break;
	if (i == SCHEMES)
		return "a scheme that this version does not speak";
	h->carriage = schemes[i].carriage;
	h->tls = schemes[i].tls;
	if ((wrong = hop_path(h, &u)) != NULL ||
	    (wrong = hop_user(h, &u)) != NULL ||
	    (wrong = hop_authority(u.host_port, h->host, &h->port,
	    schemes[i].port)) != NULL)
		return wrong;
	authority_format(h->who, h->host, h->port);
	return NULL;
}

/* ps(1) shows argv: what is secret in it is overwritten. */
static void
hop_mask(char *arg)
{
	struct url u;

	if (hop_is_command(arg))
		return;
	/* Of several all between the first one's and the last one's is. */
	url_split(&u, arg);
	if (u.pass.n > 0)
		memset(arg + (u.pass.p - arg), '*', u.pass.n);
}

static const char *
getenv_set(const char *name)
{
	const char *v = getenv(name);

	return v != NULL && *v != '\0' ? v : NULL;
}

/* What speaks TLS for us, in the place where the hop is asked. */
static const char *
hop_tls(const struct hop *h)
{
	const char *command = getenv_set("HTTPTUN_TLS");
	union addr a;

	if (command != NULL && strstr(command, "%s") == NULL)
		die(2, "HTTPTUN_TLS", "no %%s, the socket to connect to");
	if (command != NULL)
		return command;
	return addr_literal(&a, h->host, 0) == 0 ? TLS_COMMAND "-verify_ip %h" :
	    TLS_COMMAND "-verify_hostname %h -servername %h";
}

/* The proxy that the environment names (lower case first), once. */
static struct hop *
hop_environment(void)
{
	static const char *const names[] = {
		"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"
	};
	static struct hop *hop;
	const char *v = NULL, *wrong;
	size_t i;

	if (hop != NULL)
		return hop;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if ((v = getenv_set(names[i])) != NULL)
			break;
	if (v == NULL)
		return NULL;
	hop = xalloc(sizeof(*hop));
	wrong = hop_is_command(v) ? "no command may stand there" :
	    hop_parse(hop, v);
	if (wrong != NULL)
		die(1, names[i], "%s", wrong);
	if (hop->tls)
		(void)hop_tls(hop);
	return hop;
}

/* One entry of no_proxy, as curl reads it. */
static int
no_proxy_entry(const char *p, size_t n, const char *host, const union addr *a)
{
	char text[INET6_ADDRSTRLEN];
	const char *slash = memchr(p, '/', n);
	size_t len = slash != NULL ? (size_t)(slash - p) : n, h;
	union addr net;
	unsigned all;
	long bits;

	if (a != NULL) {
		if (len >= sizeof(text))
			return 0;
		memcpy(text, p, len);
		text[len] = '\0';
		if (addr_literal(&net, text, 0) == -1)
			return 0;
		all = net.sa.sa_family == AF_INET6 ? 128 : 32;
		bits = slash == NULL ? (long)all :
		    text_number(slash + 1, n - len - 1, 0, (long)all);
		/* /0 counts as none at all there */
		return bits != -1 && addr_within(a, &net, bits == 0 ? all :
		    (unsigned)bits);
	}
	h = strlen(host);
	if (h > 0 && host[h - 1] == '.')
		h--;
	if (n > 0 && p[n - 1] == '.')
		n--;
	if (n > 0 && *p == '.') {
		p++;
		n--;
	}
	return n > 0 && n <= h && strncasecmp(host + h - n, p, n) == 0 &&
	    (n == h || host[h - n - 1] == '.');
}

static int
no_proxy(const char *host)
{
	const char *p = getenv_set("no_proxy");
	union addr a;
	size_t n;
	int literal = addr_literal(&a, host, 0) == 0;

	if (p == NULL && (p = getenv_set("NO_PROXY")) == NULL)
		return 0;
	if (strcmp(p, "*") == 0)
		return 1;
	for (; *p != '\0'; p += n) {
		p += strspn(p, ", \t");
		n = strcspn(p, ", \t");
		if (n > 0 && no_proxy_entry(p, n, host, literal ? &a : NULL))
			return 1;
	}
	return 0;
}

/* The comma behind a hop; one before which none is belongs to a password. */
static char *
hop_comma(char *arg)
{
	char host[HOST_MAX + 1], *comma = arg;
	unsigned port;
	struct url u;
	int whole;

	while (!hop_is_command(arg) && (comma = strchr(comma, ',')) != NULL) {
		*comma = '\0';
		url_split(&u, arg);
		whole = hop_authority(u.host_port, host, &port, 1) == NULL;
		*comma = ',';
		if (whole)
			return comma;
		comma++;
	}
	return NULL;
}

/* All that may stand in one place: hops with commas between them. */
static const char *
hop_parse_all(struct hop *h)
{
	struct hop *first = h;
	char *arg = h->arg, *comma;
	const char *wrong;
	int n = 0;

	for (; arg != NULL; arg = comma != NULL ? comma + 1 : NULL) {
		if (strncmp(arg, "direct", 6) == 0 &&
		    (arg[6] == ',' || (arg[6] == '\0' && n > 0)))
			return "direct stands alone";
		if (h == NULL) {
			for (h = first; h->other != NULL; )
				h = h->other;
			h = h->other = xalloc(sizeof(*h));
			h->next = first->next;
			h->place = first->place;
		}
		if ((comma = hop_comma(arg)) != NULL)
			*comma = '\0';
		wrong = hop_parse(h, arg);
		if (comma != NULL)
			*comma = ',';
		if (wrong != NULL)
			return wrong;
		if (h->tls)
			(void)hop_tls(h);
		if (h->carriage == BY_EXEC && (h->place > 0 || n > 0))
			return "a command is the first hop, and alone";
		h = NULL;
		if (++n > OTHERS_MAX)
			return "too many to choose from";
	}
	return NULL;
}

/* Whether one of those that may stand there is asked so. */
static int
place_has(const struct hop *h, enum carriage carriage)
{
	for (; h != NULL; h = h->other)
		if (h->carriage == carriage)
			return 1;
	return 0;
}

/* Whether a hop may be on this machine; where a command leads who knows. */
static int
hop_local(const struct hop *h)
{
	union addr a;

	for (; h != NULL; h = h->other)
		if (h->carriage == BY_EXEC || name_local(h->host) ||
		    (addr_literal(&a, h->host, h->port) == 0 && addr_here(&a)))
			return 1;
	return 0;
}

/* Whether each of them may be: then the last one's targets are, too. */
static int
hops_local(const struct hop *h)
{
	for (; h != NULL && hop_local(h); h = h->next)
		;
	return h == NULL;
}

/* A hop that is only written down yet. */
static struct hop *
hop_new(const char *arg, size_t n)
{
	struct hop *h = xalloc(sizeof(*h));

	h->arg = xdup(arg, n);
	return h;
}

/*
 * Parses a chain, once it is known what -X says.  Returns what is wrong, with
 * the text in *said, or NULL.
 */
static const char *
hops_read(struct hop *h, char **said)
{
	const char *wrong = NULL;
	int polls = 0;
	unsigned char place = 0;
	size_t n;

	for (; h != NULL && wrong == NULL; h = h->next) {
		h->place = place++;
		n = strlen(h->arg);
		*said = xdup(h->arg, n);
		hop_mask(*said);
		wrong = hop_parse_all(h);
		if (wrong == NULL && place_has(h, BY_POLL) && polls++ > 0)
			wrong = "a second poll server in the chain";
		if (wrong == NULL)
			free(*said);
		secret_wipe(h->arg, n);
		free(h->arg);
		h->arg = NULL;
	}
	return wrong;
}

static void
hops_parse(void)
{
	char *said;
	const char *wrong = hops_read(opt.hops, &said);

	if (wrong != NULL)
		die(2, "-x", "%s: %s", said, wrong);
}

/* Frees a chain, and what a hop of it has learned. */
static void
hops_free(struct hop *h)
{
	struct hop *next;

	if (h == NULL)
		return;
	hops_free(h->next);
	for (; h != NULL; h = next) {
		next = h->other;
		if (h->arg != NULL)
			secret_wipe(h->arg, strlen(h->arg));
		if (h->pass != NULL)
			secret_wipe(h->pass, strlen(h->pass));
		free(h->arg);
		free(h->path);
		free(h->user);
		free(h->pass);
		free(h->demand.digest);
		free(h);
	}
}

/* The URL of a WebSocket server. */
static struct hop *
bridge_new(char *arg, const char *who)
{
	struct hop *h = xalloc(sizeof(*h));
	const char *wrong = hop_parse(h, arg);

	hop_mask(arg);
	if (wrong == NULL && h->carriage != BY_WS)
		wrong = "not a WebSocket's URL";
	if (wrong == NULL && h->tls)
		(void)hop_tls(h);
	if (wrong != NULL)
		die(2, who, "%s: %s", arg, wrong);
	h->place = HOPS_MAX;
	return h;
}

/* The hops to a destination: -x, or what the environment says. */
static struct hop *
hops_to(const char *host)
{
	if (opt.hops != NULL || opt.direct || opt.mode == MODE_LISTEN)
		return opt.hops;
	return no_proxy(host) ? NULL : hop_environment();
}

/* HTTPTUN_AUTH's, NULL: none. */
static const struct cred *
cred_environment(void)
{
	if (opt.env_auth != NULL && opt.env_cred == NULL) {
		opt.env_cred = cred_new(opt.env_auth);
		secret_wipe(opt.env_auth, strlen(opt.env_auth));
		if (opt.env_cred == NULL)
			die(2, "HTTPTUN_AUTH", "not user:password");
	}
	return opt.env_cred;
}

/*
 * The first hop's credentials: its URL's, -a's, HTTPTUN_AUTH's, or -P's; anew
 * when -a's have changed.
 */
static void
hop_credentials(struct hop *h)
{
	const struct cred *c;

	if (h == NULL)
		return;
	hop_credentials(h->other);
	if (h->user != NULL && !h->lent)
		return;
	c = opt.mode != MODE_LISTEN && opt.creds != NULL ? opt.creds :
	    cred_environment();
	if (c != NULL) {
		if (h->lent)
			secret_wipe(h->pass, strlen(h->pass));
		free(h->user);
		free(h->pass);
		h->user = xdup(c->user, strlen(c->user));
		h->pass = xdup(c->pass, strlen(c->pass));
		h->lent = 1;
	} else if (opt.user != NULL)
		h->user = xdup(opt.user, strlen(opt.user));
}

/* Whether there is a password that may be sent without being asked for. */
static int
hop_ready(const struct hop *h)
{
	return h->pass != NULL && !h->wrong;
}

/* A host that the user wrote: a name, or an address in any way of writing. */
static const char *
host_read(char *host, const char *s, size_t n)
{
	const char *wrong = host_parse(s, n, host);
	char text[HOST_MAX + 1];
	union addr a;

	if (wrong != NULL && n <= HOST_MAX && memchr(s, ':', n) != NULL) {
		memcpy(text, s, n);
		text[n] = '\0';
		if (addr_literal(&a, text, 0) == 0) {
			strcpy(host, text);
			wrong = NULL;
		}
	}
	return wrong;
}

/* ---- the life of a tunnel ----------------------------------------------------- */

struct poller;
static struct poller *pollers;		/* sessions of poll servers */
static int farewells;			/* there are servers to be told, */
static int farewelled;			/* and a signal ends us soon */
static int stopping;			/* we end when all have been told */

static void	program_stop(void);

enum state { HEAD, SERVING, OPENING, CHECK, OPEN, LINGER, PARKED, DEAD };

/* Why it could not be opened: for our user, or for the client of ours. */
struct fault {
	int		 status;	/* that our client gets */
	int		 received;	/* a hop's status, 0: none */
	const char	*error;		/* RFC 9209, 2.3 */
	char		 who[HOST_MAX + 9];
	char		 what[256];
	char		 why[WHY_MAX];	/* for the log only; "": what */
};

/* All that is needed only until a tunnel is open; freed then. */
struct opening {
	struct hop	*chain;		/* all that may be, of each place */
	struct hop	*first, *hop;	/* the hop that is being asked */
	struct hop	*bridge;	/* what is behind them: a URL */
	struct hop	*stop;		/* the first not to be asked */
	struct dial	*dial;
	struct command	*command;	/* TLS, until it has its connection */
	struct timer	 soon;		/* what is not done at once */
	unsigned	 port;
	unsigned	 want;		/* number of our wish for a link, or 0 */
	uint64_t	 answered[2];	/* who gets credentials, a bit each;
					 * inside of its WebSocket */
	int		 nth;		/* number of hop */
	int		 inside;	/* asked inside of its WebSocket */
	int		 renewed;	/* nonces that were too old */
	int		 again;		/* asked again on the same connection */
	int		 silent;	/* a link said nothing at all */
	enum framing	 framing;	/* of a refusal's body being skipped */
	uint64_t	 left;
	struct chunked	 chunked;
	int64_t		 ticks;		/* until it is given up, */
	int64_t		 from, until;	/* and from when to when this way is */
	int		 asked;		/* the hop, and it has to answer */
	int		 fixed;		/* there is no other way */
	unsigned char	 pick[HOPS_MAX + 1];	/* who, of each place */
	unsigned char	 tried[HOPS_MAX + 1];	/* of the others there */
	struct fault	 fault;
	char		 before[WHY_MAX];	/* ways that failed */
	char		 host[HOST_MAX + 1];
	char		 target[HOST_MAX + 9];	/* host:port */
	char		 key[WS_KEY + 1];
	char		 token[40];	/* of a link's Proxy-Status */
};

/* How who asked for a tunnel is told what became of it. */
struct tunnel;
struct asker {
	void	(*opened)(struct tunnel *);
	void	(*refused)(struct tunnel *);
	void	(*ended)(struct tunnel *, const char *why, int broken);
	int	lingers;	/* a client's WebSocket ends in order */
	int	inner;		/* it is a part of another tunnel */
};

/* An http:// request on its way, until the client's connection is closed. */
struct exchange {
	struct buf	 head;		/* the request's, as we send it */
	struct message	 near, far;	/* what comes from there, goes to there */
	int		 minor;		/* the client's HTTP/1.minor */
	int		 answered;	/* the client got a reply's head */
};

struct tunnel {
	struct tunnel	*next, **link;	/* of all */
	struct end	 near, far;
	const struct asker *asker;
	struct opening	*opening;
	struct exchange	*exchange;	/* NULL: it is a tunnel */
	struct session	*session;	/* the near end is one */
	struct errand	*errand;	/* a request on it is for one */
	struct poller	*poller;	/* the far end is one */
	struct lane	*lane;		/* it is a connection of one */
	struct forward	*forward;	/* that it is of, NULL: none */
	struct tunnel	*sleeve;	/* what the far end goes through, */
	struct tunnel	*near_sleeve;	/* or the near one, */
	struct tunnel	*over;		/* and whose end goes through it */
	struct timer	 deadline;
	enum state	 state;
	int		 status;	/* 200, or of the refusal; 0: none yet */
	unsigned	 keep:1,	/* the connection takes another request */
			 bodiless:1,	/* the request was a HEAD */
			 asked:1,	/* it took one already */
			 local:1,	/* the client is on this machine */
			 vouched:1,	/* it showed its credentials before */
			 at_exit:1,	/* it is an exit's link: one request */
			 used:1,	/* that has come */
			 polls:1,	/* the request is for a session */
			 native:1,	/* it has a Tunnel-Offset */
			 stale:1,	/* its Digest had an old nonce */
			 older:1,	/* the request is HTTP/1.0 */
			 hushed:1,	/* no line in the log */
			 passed:1,	/* another worker passed it to us */
			 piped:1,	/* its far end has descriptors more */
			 self:2;	/* the URL is, or is not, our own */
	short		 kept;		/* places for what is to come */
	union addr	 client;
	uint64_t	 offset;	/* for the answer to such a request */
	char		*what;		/* that was asked for, for the log */
	char		*user;
	int64_t		 since;
};

enum { SLOT_FREE, SLOT_CLAIMED, SLOT_GRANTED, SLOT_TAKEN, SLOT_FULL };

/*
 * Who has which session: a part for each worker, of which it is the owner.
 * From its top on all are free, and their memory is not looked at.
 */
static struct registry {
	unsigned	 top[WORKERS_MAX];
	struct slot {
		char	 state;
		char	 id[POLL_ID + 1];
	} slots[WORKERS_MAX][SESSIONS_EACH];
} *registry;

static struct tunnel *tunnels;
static int ntunnels;
static int load;		/* what they take, in places for a tunnel */
static int nports;		/* listening sockets of forwards */
static int draining;		/* no more requests: leave with the last */
static int leaving;		/* this worker accepts no more for now */

static void	far_dialed(void *, int, enum dial_error, int);
static int	far_allowed(void *, const union addr *);
static void	hop_ask(struct tunnel *);
static void	hop_input(struct tunnel *);
static void	hop_begin(struct tunnel *);
static void	hop_passed(struct tunnel *);
static void	hop_reached(struct tunnel *);
static void	link_want(struct tunnel *);
static void	linger_late(void *);
static void	forward_leave(struct forward *);
static void	exit_fill(void *);
static void	errand_end(struct errand *);
static void	errand_told(struct errand *);
static int64_t	session_active(const struct session *);
static void	poller_start(struct tunnel *, struct hop *, struct hop *before);
static void	poller_leave(struct tunnel *);
static int64_t	poller_active(const struct poller *);
static struct opening *poller_blame(struct poller *, const char **);
static const char *poller_wrong(const struct poller *);
static struct hop *lane_stop(const struct lane *);
static void	poller_move(struct tunnel *to, struct tunnel *from);
static void	near_broken(void *, struct end *);
static void	near_sent(void *, struct end *);
static void	sleeve_drop(struct tunnel **, int broken);
static int	sleeve_put(struct tunnel *, int);
static void	far_dial(struct tunnel *);
static void	tunnel_pipes(struct tunnel *, struct command *);
static struct hop *request_hops(void);
static void	exec_started(void *);
static const unsigned char *lane_picks(const struct lane *);
static int	lane_open(const struct lane *);

/* What stands for an exit's link among the hops. */
static struct hop exit_hop = { .who = "exit" };
static const struct asker by_lane;

static const struct dialer far_dialer = { far_allowed, far_dialed };

/* The same of a client's request, or of its answer. */
static void
say_client(const struct tunnel *t, int direction, const void *p, size_t n)
{
	char client[ADDR_PORT_TEXT];

	say_head(addr_text_port(client, &t->client), direction, p, n);
}

/* A column of the log: printable, no blanks. */
static void
log_word(struct buf *b, const char *s)
{
	char word[2 * HOST_MAX], *p;

	text_escape(word, sizeof(word), s, strlen(s));
	for (p = word; (p = strchr(p, ' ')) != NULL; )
		*p = '_';
	(void)buf_fmt(b, " %s", *word != '\0' ? word : "-");
}

/* TIME CLIENT USER WHAT STATUS UP DOWN SECS WHY, in one write(2). */
static void
log_tunnel(const struct tunnel *t, const char *why)
{
	struct buf b = { NULL, 0, 0, 0 };
	char stamp[21], client[ADDR_PORT_TEXT], text[1024];
	int64_t ms = loop_now() - t->since;

	if (!opt.verbose)
		return;
	time_stamp(stamp);
	addr_text_port(client, &t->client);
	(void)buf_fmt(&b, "httptun: %s %s", stamp, client);
	log_word(&b, t->user != NULL ? t->user : "-");
	log_word(&b, t->what != NULL ? t->what : "-");
	(void)text_escape(text, sizeof(text), why, strlen(why));
	(void)buf_fmt(&b, " %d %llu %llu %lld.%03d %s\n", t->status,
	    (unsigned long long)t->near.got, (unsigned long long)t->far.got,
	    (long long)(ms / 1000), (int)(ms % 1000), text);
	words_write(b.p + b.off, b.len);
	buf_free(&b);
}

/* How many descriptors there are for tunnels and the ports of forwards. */
static int
places(void)
{
	static int n;

	if (n == 0)
		n = loop_limit() - SPARE_FDS;
	return n;
}

/* One more tunnel needs two descriptors; what is full is silent. */
static int
tunnels_max(void)
{
	int max = (places() - nports) / 2;

	return max > 1 ? max : 1;
}

/*
 * How many places hops take beside the tunnel's own: a command, for TLS one
 * more with what it stands on, and two connections for a poll server.
 */
static int
hops_places(const struct hop *h)
{
	const struct hop *x;
	int n = 0, tls;

	for (; h != NULL; h = h->next) {
		for (tls = 0, x = h; x != NULL; x = x->other)
			tls |= x->tls;
		n += (tls ? 2 : 0) + place_has(h, BY_EXEC);
		if (place_has(h, BY_POLL))
			n = 2 * (1 + n);
	}
	return n;
}

/*
 * How much of that others may fill: a gateway's links are parked in worker 0
 * only, and without room for them there nobody would get one.
 */
static int
load_max(void)
{
	int max = tunnels_max(), parks = opt.mode == MODE_LISTEN &&
	    opt.reverse && crew_number() == 0;

	max -= parks ? (max + 2) / 4 : hops_places(request_hops());
	return max > 1 ? max : 1;
}

/* That, and what the dials take more than their tunnels have. */
static int
load_now(void)
{
	return load + dial_extras() / 2;
}

static int
tunnels_room(void)
{
	return !leaving && load_now() < load_max();
}

/* Tells the first process when this worker fills up, and when it has room. */
static void
worker_load(void)
{
	static int full;

	if (!full && load_now() >= load_max()) {
		full = 1;
		(void)crew_tell(CREW_FULL, CREW_FIRST, 0, -1);
	} else if (full && load_now() <= load_max() * 3 / 4) {
		full = 0;
		(void)crew_tell(CREW_ROOM, CREW_FIRST, 0, -1);
	}
	if ((leaving || draining) && ntunnels == 0)
		loop_stop();
}

/* Whether a dial may take more than its tunnel has; the full have a few. */
static int
dials_room(void)
{
	worker_load();
	return load_now() < load_max() || dial_extras() < SPARE_FDS / 4;
}

static struct tunnel *
tunnel_new(const struct asker *asker)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->asker = asker;
	t->near.rfd = t->near.wfd = t->far.rfd = t->far.wfd = -1;
	t->since = loop_now();
	if ((t->next = tunnels) != NULL)
		t->next->link = &t->next;
	t->link = &tunnels;
	tunnels = t;
	ntunnels++;
	load++;
	worker_load();
	return t;
}

static void
exchange_free(struct tunnel *t)
{
	if (t->exchange != NULL)
		buf_free(&t->exchange->head);
	free(t->exchange);
	t->exchange = NULL;
}

/* Where it is counted. */
static struct totals *
tunnel_totals(const struct tunnel *t)
{
	return t->forward != NULL ? &t->forward->totals : totals;
}

static void
tunnel_free(void *arg)
{
	struct tunnel *t = arg;

	if ((*t->link = t->next) != NULL)
		t->next->link = t->link;
	ntunnels--;
	load -= 1 + t->piped + t->kept;
	worker_load();
	exchange_free(t);
	forward_leave(t->forward);
	free(t->what);
	free(t->user);
	free(t);
	if (opt.mode == MODE_EXIT)	/* which may have been full */
		exit_fill(NULL);
}

/* So many places are for what is still to come. */
static void
tunnel_keep(struct tunnel *t, int places)
{
	load += places - t->kept;
	t->kept = (short)places;
	worker_load();
}

/* Whatever is under way is not waited for any more. */
static void
opening_quit(struct tunnel *t)
{
	struct opening *o = t->opening;

	timer_stop(&o->soon);
	if (o->dial != NULL)
		dial_cancel(o->dial);
	o->dial = NULL;
	if (o->command != NULL)
		command_end(o->command);
	o->command = NULL;
	if (o->want != 0)
		(void)crew_tell(CREW_UNWANT, 0, o->want, -1);
	o->want = 0;
}

/* All that was for opening it is done with. */
static void
opening_drop(struct tunnel *t)
{
	if (t->opening == NULL)
		return;
	opening_quit(t);
	tunnel_keep(t, 0);
	free(t->opening);
	t->opening = NULL;
}

/* The one end of every tunnel; its memory goes after the dispatch. */
static void
tunnel_close(struct tunnel *t, const char *why, int broken)
{
	if (t->state == DEAD)
		return;
	if ((t->state == OPEN || t->state == CHECK) && !t->asker->inner)
		tunnel_totals(t)->open--;
	if (t->state != LINGER && t->state != HEAD && t->state != SERVING &&
	    !t->asker->inner)
		log_tunnel(t, why);
	if (t->errand != NULL)
		errand_end(t->errand);
	poller_leave(t);
	sleeve_drop(&t->sleeve, broken);
	sleeve_drop(&t->near_sleeve, broken);
	opening_drop(t);
	timer_stop(&t->deadline);
	(broken ? end_reset : end_close)(&t->far);
	if (broken && t->asker->lingers && t->state != LINGER &&
	    end_fail(&t->near)) {
		t->state = LINGER;
		timer_set(&t->deadline, (int64_t)LINGER_SECS * 1000,
		    linger_late, t);
		return;
	}
	t->state = DEAD;
	(broken ? end_reset : end_close)(&t->near);
	t->asker->ended(t, why, broken);
	loop_bury(&t->deadline, tunnel_free, t);
}

/* Which of those that may stand in its place this tunnel takes. */
static struct hop *
hop_taken(const struct opening *o, struct hop *h)
{
	int n;

	for (n = h != NULL ? o->pick[h->place] : 0; n > 0; n--)
		h = h->other;
	return h;
}

/* The one behind h; NULL: h is the last. */
static struct hop *
hop_next(const struct opening *o, const struct hop *h)
{
	struct hop *next = hop_taken(o, h->next != NULL ? h->next :
	    h != o->bridge ? o->bridge : NULL);

	return next != o->stop ? next : NULL;
}

/* The way that was picked begins, with its own share of the time. */
static void
opening_route(struct tunnel *t)
{
	struct opening *o = t->opening;
	struct hop *h, *x;
	int i, left = 0;

	o->first = hop_taken(o, o->chain);
	if (t->lane != NULL && (o->stop = lane_stop(t->lane)) == o->first)
		o->first = NULL;
	/* -A basic: who has credentials sends them at once. */
	o->answered[0] = o->answered[1] = 0;
	for (i = 0, h = o->first; opt.auth == AUTH_BASIC && h != NULL; i++) {
		if (hop_ready(h))
			o->answered[0] |= (uint64_t)1 << i;
		h = hop_next(o, h);
	}
	o->renewed = 0;
	for (h = o->chain; h != NULL && !o->fixed; h = h->next) {
		for (x = h->other; x != NULL; x = x->other)
			left++;
		left -= o->tried[h->place];
	}
	o->from = o->ticks;
	o->until = left > 0 ? o->ticks - o->ticks / (left + 1) : 0;
}

/* The next of those that may stand in h's place.  0: all were tried. */
static int
hop_another(struct opening *o, const struct hop *h)
{
	struct hop *first = o->chain, *x;
	unsigned char *pick = &o->pick[h->place], *tried = &o->tried[h->place];
	int n = 0;

	while (first != NULL && first->place != h->place)
		first = first->next;
	for (x = first; x != NULL; x = x->other)
		n++;
	if (n < 2 || *tried + 1 >= n)
		return 0;
	*pick = (unsigned char)((*pick + 1) % n);
	++*tried;
	while ((first = first->next) != NULL) {
		o->pick[first->place] = first->best;
		o->tried[first->place] = 0;
	}
	return 1;
}

/*
 * There may be another way where a hop is down, or says that it cannot (5xx);
 * anything else that it says is its last word.
 */
static int
hop_fall_back(struct tunnel *t)
{
	struct opening *o = t->opening;
	struct fault *f = &o->fault;
	const struct hop *next;
	size_t n = strlen(o->before);

	if (o->fixed || o->hop == NULL || o->hop == &exit_hop ||
	    o->ticks <= 0 || (f->received != 0 && f->received / 100 != 5))
		return 0;
	next = o->asked ? hop_next(o, o->hop) : NULL;
	if ((next == NULL || !hop_another(o, next)) &&
	    !hop_another(o, o->hop))
		return 0;
	snprintf(o->before + n, sizeof(o->before) - n, "%s%s: %s",
	    n > 0 ? ", " : "", f->who, f->what);
	if (opt.verbose)
		say(f->who, "%s; the next one is tried", f->what);
	f->received = 0;
	f->why[0] = '\0';
	opening_route(t);
	return 1;
}

/* It worked, and is what the next tunnel begins with. */
static void
opening_learn(const struct opening *o)
{
	struct hop *h;

	for (h = o->chain; h != NULL && !o->fixed; h = h->next) {
		h->best = o->pick[h->place];
		hop_taken(o, h)->typed = 0;
	}
}

/* The far end goes, with all that it stands on and would hear from. */
static void
far_drop(struct tunnel *t, int broken)
{
	poller_leave(t);
	sleeve_drop(&t->sleeve, broken);
	(broken ? end_reset : end_close)(&t->far);
}

/* Leaves the far end, in whatever state. */
static void
opening_stop(struct tunnel *t, int broken)
{
	opening_quit(t);
	poller_leave(t);
	sleeve_drop(&t->sleeve, 1);
	(broken ? end_reset : end_close)(&t->far);
}

/* Opening failed: who asked for it is told, unless there is another way. */
static void
tunnel_refuse(struct tunnel *t, int code, const char *error, const char *who,
    const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static void
tunnel_refuse(struct tunnel *t, int code, const char *error, const char *who,
    const char *fmt, ...)
{
	struct fault *f = &t->opening->fault;
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(f->what, sizeof(f->what), fmt, ap);
	va_end(ap);
	snprintf(f->who, sizeof(f->who), "%s", who);
	f->status = code;
	f->error = error;
	/* Who does not answer in time may have connected: no end goes there. */
	opening_stop(t, code == 504 && t->opening->asked &&
	    t->opening->hop != &exit_hop);
	if (hop_fall_back(t)) {
		far_dial(t);
		return;
	}
	t->status = code;
	n = strlen(f->what);
	if (t->opening->before[0] != '\0')
		snprintf(f->what + n, sizeof(f->what) - n, "; before that %s",
		    t->opening->before);
	if (!t->asker->inner)
		tunnel_totals(t)->refused++;
	timer_stop(&t->deadline);
	t->asker->refused(t);
}

/* Who it is that has to answer next. */
static const char *
opening_who(const struct tunnel *t)
{
	const struct opening *o = t->opening;

	return o->hop != NULL ? o->hop->who : o->target;
}

static void
opening_late(struct tunnel *t)
{
	struct opening *o = t->opening, *at = o;
	int secs = (int)((o->from - o->ticks) * TICK_MS / 1000);
	const char *who = opening_who(t), *wrong = "";

	if (t->poller != NULL) {
		at = poller_blame(t->poller, &who);
		wrong = poller_wrong(t->poller);
	}
	if (o->want != 0)
		tunnel_refuse(t, o->silent ? 504 : 503, o->silent ?
		    "http_response_timeout" : "destination_unavailable",
		    o->target, "no exit is here");
	else if (at->dial != NULL && dial_looking(at->dial))
		tunnel_refuse(t, 504, "dns_timeout", o->hop != NULL ?
		    o->hop->host : o->host, "no address found within %d s",
		    secs);
	else
		tunnel_refuse(t, 504, at->dial != NULL ? "connection_timeout" :
		    "http_response_timeout", who, "no %s within %d s%s%s",
		    at->dial != NULL ? "connection" : "answer", secs,
		    *wrong != '\0' ? ": " : "", wrong);
}

/*
 * Of a tunnel that is open the connections are made again.  What asks for one
 * is sent ever more seldom, so that a network would be back for long before
 * it is seen: then a new attempt is better.
 */
static int
opening_stale(const struct tunnel *t)
{
	const struct opening *o = t->opening;

	return t->lane != NULL && lane_open(t->lane) && o->dial != NULL &&
	    !dial_looking(o->dial) && o->from - o->ticks >= KNOCK_MS / TICK_MS;
}

/*
 * Looks now and then whether time is up, and whether a client that sent more
 * than we read before there is a tunnel has gone.
 */
static void
opening_tick(void *arg)
{
	struct tunnel *t = arg;
	struct opening *o = t->opening;
	int64_t late = loop_now() - t->deadline.at;

	if (end_failed(&t->near)) {
		tunnel_close(t, strerror(t->near.error), 1);
		return;
	}
	if (o->ticks <= o->until || opening_stale(t))
		opening_late(t);
	if (t->state != OPENING)
		return;
	/* Worker 0 may be another one by now. */
	if (o->want != 0 && o->ticks % (1000 / TICK_MS) == 0)
		(void)crew_tell(CREW_WANT, 0, o->want, -1);
	o->ticks--;
	/* On a busy machine each is a little late, and they do not add up. */
	timer_set(&t->deadline, late < TICK_MS ? TICK_MS - late : 0,
	    opening_tick, t);
}

/* The first hop is a command, which is started. */
static void
exec_start(struct tunnel *t)
{
	struct opening *o = t->opening;
	const struct hop *next = hop_next(o, o->hop);
	const char *failed;
	struct command *c = command_start(o->hop->path,
	    next != NULL ? next->host : o->host,
	    next != NULL ? next->port : o->port, NULL, t, &failed);

	if (c == NULL) {
		tunnel_refuse(t, 503, "proxy_internal_error", o->hop->who,
		    "%s", strerror(errno));
		return;
	}
	tunnel_pipes(t, c);
	timer_set(&o->soon, 0, exec_started, t);
}

/* Connects to the first hop, or straight to the target. */
static void
far_dial(struct tunnel *t)
{
	struct opening *o = t->opening;
	struct hop *h, *before = NULL;
	int more = o->stop != NULL && o->stop->tls ? 2 : 0, n = 0;

	opening_stop(t, 0);
	/*
	 * What they take by and by counts now: what is accepted has room.  The
	 * first of a poll server's two connections comes at once.
	 */
	for (h = o->first; h != NULL; h = hop_next(o, h))
		more += (h->tls ? 2 : 0) + (h->carriage == BY_POLL);
	tunnel_keep(t, more);
	o->hop = o->first;
	o->nth = o->inside = o->again = o->asked = 0;
	o->framing = BODY_NONE;
	if (opt.mode == MODE_LISTEN && opt.reverse) {
		link_want(t);
		return;
	}
	for (h = o->hop; h != NULL; before = h, h = hop_next(o, h), n++)
		if (h->carriage == BY_POLL) {
			o->nth = n;
			poller_start(t, h, before);
			return;
		}
	if (o->hop != NULL && o->hop->carriage == BY_EXEC) {
		exec_start(t);
		return;
	}
	o->dial = dial_start(o->hop != NULL ? o->hop->host : o->host,
	    o->hop != NULL ? o->hop->port : o->port, opt.wait, &far_dialer, t);
	if (o->dial == NULL)
		tunnel_refuse(t, 503, "connection_limit_reached",
		    opening_who(t), "%s", strerror(errno));
}

/*
 * The near end wants to get to host:port, over these hops; behind them may be
 * a WebSocket server that is there.
 */
static void
tunnel_open(struct tunnel *t, const char *host, unsigned port,
    struct hop *hops, struct hop *bridge)
{
	struct opening *o;
	struct hop *h;

	if ((o = t->opening = calloc(1, sizeof(*o))) == NULL) {
		tunnel_close(t, "no memory", 1);
		return;
	}
	authority_format(o->target, host, port);
	if (t->what == NULL && (t->what = strdup(o->target)) == NULL) {
		tunnel_close(t, "no memory", 1);
		return;
	}
	snprintf(o->host, sizeof(o->host), "%s", host);
	o->port = port;
	o->chain = hops != NULL ? hops : bridge;
	o->bridge = bridge;
	for (h = o->chain; h != NULL; h = h->next)
		o->pick[h->place] = h->best;
	if ((o->fixed = t->lane != NULL))
		memcpy(o->pick, lane_picks(t->lane), sizeof(o->pick));
	t->state = OPENING;
	o->ticks = (int64_t)opt.wait * (1000 / TICK_MS);
	opening_route(t);
	o->ticks--;
	timer_set(&t->deadline, TICK_MS, opening_tick, t);
	far_dial(t);
}

static void
later(int64_t *a, int64_t b)
{
	if (*a < b)
		*a = b;
}

/* Idleness is looked for when it could be reached, not at each byte. */
static void
tunnel_idle(void *arg)
{
	struct tunnel *t = arg;
	int64_t last = t->near.active, rest;

	later(&last, t->far.active);
	/* Requests carry bytes that are not counted before they are there. */
	if (t->session != NULL)
		later(&last, session_active(t->session));
	if (t->poller != NULL)
		later(&last, poller_active(t->poller));
	rest = last + (int64_t)opt.idle * 1000 - loop_now();

	if (rest <= 0)
		tunnel_close(t, "idle", 1);
	else
		timer_set(&t->deadline, rest, tunnel_idle, t);
}

static void
tunnel_watch(struct tunnel *t)
{
	if (opt.idle > 0)
		timer_set(&t->deadline, (int64_t)opt.idle * 1000,
		    tunnel_idle, t);
}

/* Every hop is passed: both ends are there. */
static void
tunnel_opened(struct tunnel *t)
{
	struct totals *sum = tunnel_totals(t);

	opening_learn(t->opening);
	opening_drop(t);
	timer_stop(&t->deadline);
	t->state = OPEN;
	if (t->asker->inner) {
		t->asker->opened(t);
		return;
	}
	t->status = 200;
	sum->open++;
	sum->tunnels++;
	t->near.meter = &sum->up;
	t->far.meter = &sum->down;
	if (t->far.ws != NULL)
		end_pulse(&t->far, WS_QUIET_MS, WS_QUIET_MS);
	tunnel_watch(t);
	t->asker->opened(t);
}

/* n random bytes (16 at most) as text. */
static char *
random_hex(char *dst, size_t n)
{
	unsigned char bytes[16];

	random_bytes(bytes, n);
	return text_hex(dst, bytes, n);
}

/* ---- the far end: hops and the target ---------------------------------------- */

static int
far_allowed(void *arg, const union addr *a)
{
	struct tunnel *t = arg;
	struct opening *o = t->opening;

	return !(opt.mode & MODE_SERVE) || o->hop != NULL ||
	    t->asker->inner ||
	    target_allowed(o->host, o->port, a, t->local, o->fault.why);
}

/* A refused or failed connect, in the words of RFC 9209, 2.3. */
static void
far_undialed(struct tunnel *t, enum dial_error error, int code)
{
	const char *who = opening_who(t), *token;
	const struct opening *o = t->opening;

	switch (error) {
	case DIAL_LOOKUP:
		tunnel_refuse(t, 502, "dns_error", o->hop != NULL ?
		    o->hop->host : o->host, "%s", gai_strerror(code));
		return;
	case DIAL_NAME_REFUSED:
		tunnel_refuse(t, 403, "http_request_denied", who,
		    "names are not looked up here");
		return;
	case DIAL_RULE:
		tunnel_refuse(t, 403, "destination_ip_prohibited", who,
		    "not allowed here");
		return;
	case DIAL_FULL:
		tunnel_refuse(t, 503, "connection_limit_reached", who, "%s",
		    strerror(code));
		return;
	default:
		break;
	}
	if (code == ECONNREFUSED)
		token = "connection_refused";
	else if (code == ETIMEDOUT)
		token = "connection_timeout";
	else if (code == ENETUNREACH || code == EHOSTUNREACH)
		token = "destination_ip_unroutable";
	else
		token = "destination_unavailable";
	tunnel_refuse(t, code == ETIMEDOUT ? 504 : 502, token, who, "%s",
	    strerror(code));
}

static void	exit_park(struct tunnel *);
static void	far_input(void *, struct end *);
static void	far_sent(void *, struct end *);
static void	far_broken(void *, struct end *);
static void	ends_done(void *, struct end *);
static void	ends_idle(void *, struct end *);

static void	lane_input(struct lane *);
static void	lane_over(struct lane *);
static void	lane_broken(struct lane *, int error, const char *);
static void	poller_resume(struct poller *);
static void	session_rouse(struct session *);
static void	session_break(struct session *, const char *);
static void	session_done(struct session *);
static void	http_reply(struct tunnel *);
static void	http_done(void *, struct end *);
static void	http_fail(struct tunnel *, const char *error, const char *);

static const struct steps far_steps = {
	far_input, http_done, far_sent, ends_done, far_broken
};

static void
far_dialed(void *arg, int fd, enum dial_error error, int code)
{
	struct tunnel *t = arg;

	t->opening->dial = NULL;
	if (fd == -1) {
		far_undialed(t, error, code);
		return;
	}
	end_socket(&t->far, fd, &far_steps, t);
	t->far.exact = opt.fdpass != 0;
	hop_reached(t);
}

/* The far end is a command, which takes more descriptors. */
static void
tunnel_pipes(struct tunnel *t, struct command *c)
{
	end_command(&t->far, c, &far_steps, t);
	if (!t->piped) {
		t->piped = 1;
		load++;
		worker_load();
	}
}

static void
exec_started(void *arg)
{
	hop_passed(arg);
}

/* Whether -H takes the place of a field that we would send. */
static int
extra_replaces(const char *name)
{
	const struct extra *x;

	for (x = opt.extras; x != NULL; x = x->next)
		if (span_is(x->field.name, name))
			return 1;
	return 0;
}

/* Appends what -H adds.  -1: ENOMEM. */
static int
extras_put(struct buf *b)
{
	const struct extra *x;
	int bad = 0;

	for (x = opt.extras; x != NULL; x = x->next)
		if (!x->remove)
			bad |= buf_fmt(b, "%.*s: %.*s\r\n",
			    (int)x->field.name.n, x->field.name.p,
			    (int)x->field.value.n, x->field.value.p);
	return bad;
}

/*
 * Whether this is the gateway, where an exit's link ends: the last hop, but
 * not of a lane, which goes no farther than to the poll server.
 */
static int
hop_parks(const struct opening *o)
{
	return opt.mode == MODE_EXIT && o->stop == NULL &&
	    hop_next(o, o->hop) == NULL;
}

/* What is asked for on a WebSocket; NULL: nothing. */
static const char *
ws_protocol(const struct opening *o)
{
	const struct extra *x;

	if (o->hop == o->first)
		for (x = opt.extras; x != NULL; x = x->next)
			if (span_is(x->field.name, "Sec-WebSocket-Protocol"))
				return x->field.value.p;
	return o->hop == o->bridge ? NULL : hop_parks(o) ? "exit.httptun" :
	    "connect.httptun";
}

/* Whether the hop being asked gets credentials. */
static int
hop_authorized(const struct opening *o)
{
	return o->answered[o->inside] >> o->nth & 1;
}

/* Its Host field: the default port is not said, nor a scope of ours. */
static char *
hop_host(char *dst, const struct hop *h)
{
	char host[HOST_MAX + 1];

	snprintf(host, sizeof(host), "%.*s", (int)strcspn(h->host, "%"),
	    h->host);
	authority_format(dst, host, h->port);
	if (h->port == (h->tls ? 443 : 80))
		*strrchr(dst, ':') = '\0';
	return dst;
}

/* An opening handshake (RFC 6455, 4.1), up to where credentials stand. */
static int
ws_request(struct opening *o, struct buf *b, int first)
{
	static const char *const lines[][2] = {
		{ "Upgrade", "websocket" }, { "Connection", "Upgrade" },
		{ "Sec-WebSocket-Key", NULL },
		{ "Sec-WebSocket-Version", "13" },
		{ "Sec-WebSocket-Protocol", NULL }
	};
	const struct hop *h = o->hop;
	const char *values[] = { NULL, NULL, o->key, NULL, NULL };
	char host[HOST_MAX + 9];
	unsigned char raw[16];
	size_t i;
	int bad;

	random_bytes(raw, sizeof(raw));
	base64_encode(o->key, raw, sizeof(raw));
	values[4] = ws_protocol(o);
	hop_host(host, h);
	bad = buf_fmt(b, "GET %s HTTP/1.1\r\n", h->path);
	if (!first || !extra_replaces("Host"))
		bad |= buf_fmt(b, "Host: %s\r\n", host);
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (lines[i][1] != NULL)
			values[i] = lines[i][1];
		if (values[i] != NULL &&
		    (!first || !extra_replaces(lines[i][0])))
			bad |= buf_fmt(b, "%s: %s\r\n", lines[i][0],
			    values[i]);
	}
	return bad;
}

/* What the hop is asked to connect to: the next one, or the target. */
static const char *
hop_target(const struct opening *o)
{
	const struct hop *after = hop_next(o, o->hop);

	return after != NULL ? after->who : o->target;
}

/* The line with the hop's credentials, in the scheme that it asked for. */
static int
hop_answer(struct buf *b, const struct hop *h, struct demand *demand,
    const char *field, const char *method, struct span uri)
{
	struct digest d;
	char cnonce[33];
	int bad = buf_fmt(b, "%s: ", field);

	if (demand->digest == NULL)
		bad |= auth_basic(b, h->user, h->pass);
	else {
		(void)auth_digest_parse(span_of(demand->digest), &d);
		bad |= auth_digest(b, &d, h->user, h->pass, method, uri,
		    ++demand->nc, random_hex(cnonce, 16));
	}
	return bad | buf_fmt(b, "\r\n");
}

/* A CONNECT to the next hop, or to the target (RFC 9110, 9.3.6). */
static int
connect_request(struct opening *o, struct buf *b, int first)
{
	const char *next = hop_target(o);
	int bad;

	bad = buf_fmt(b, "CONNECT %s HTTP/1.1\r\n", next);
	if (!first || !extra_replaces("Host"))
		bad |= buf_fmt(b, "Host: %s\r\n", next);
	return bad;
}

/*
 * What stands on a WebSocket or on a poll session cannot be made another one:
 * a tunnel of its own takes that end, and the far end begins anew.
 */
static void
sleeve_opened(struct tunnel *s)
{
	(void)s;
}

static void
sleeve_ended(struct tunnel *s, const char *why, int broken)
{
	struct tunnel *t = s->over;
	struct end *e;

	(void)why;
	if (t == NULL) {
		if (stopping)
			program_stop();
		return;
	}
	e = t->sleeve == s ? &t->far : &t->near;
	*(t->sleeve == s ? &t->sleeve : &t->near_sleeve) = NULL;
	/* A command hears of it, and tells. */
	if (broken && e->command == NULL)
		end_doom(e, s->far.error != 0 ? s->far.error : ECONNRESET);
}

static const struct asker by_sleeve = {
	sleeve_opened, sleeve_opened, sleeve_ended, 0, 1
};

static const struct steps sleeve_steps = {
	ends_idle, ends_idle, near_sent, ends_done, near_broken
};

/* What it was for is done, and it should be by now. */
static void
sleeve_late(void *arg)
{
	tunnel_close(arg, "", 0);
}

static void
sleeve_drop(struct tunnel **slot, int broken)
{
	struct tunnel *s = *slot;

	*slot = NULL;
	if (s == NULL)
		return;
	s->over = NULL;
	if (broken)
		tunnel_close(s, "", 1);
	else
		timer_set(&s->deadline, (int64_t)LINGER_SECS * 1000,
		    sleeve_late, s);
}

/* The far end of t, with all that belongs to it, is the one of s now. */
static void
sleeve_take(struct tunnel *s, struct tunnel *t)
{
	s->state = OPEN;
	if ((s->sleeve = t->sleeve) != NULL)
		s->sleeve->over = s;
	t->sleeve = NULL;
	if ((s->piped = t->piped))
		t->piped = 0;
	poller_move(s, t);
	end_move(&s->far, &t->far, &far_steps, s);
}

static ssize_t
sink_send(struct end *e, const void *p, size_t n)
{
	(void)e;
	(void)p;
	return (ssize_t)n;
}

static int
sink_finish(struct end *e)
{
	(void)e;
	return 0;
}

static const struct carrier sink = { NULL, sink_send, sink_finish, 0 };

/*
 * Nothing more is wanted from the far end.  A WebSocket has to say so:
 * without its two ends it would be a broken tunnel, and the target be reset.
 */
static void
far_leave(struct tunnel *t)
{
	struct tunnel *s;

	if (t->far.ws == NULL || (s = tunnel_new(&by_sleeve)) == NULL) {
		far_drop(t, 0);
		return;
	}
	sleeve_take(s, t);
	s->far.message = NULL;		/* no messages any more, */
	s->far.meter = NULL;		/* and nobody's bytes */
	s->far.stays = s->far.finish = s->far.finished = 0;
	buf_free(&s->far.in);
	end_virtual(&s->near, &sink, &sleeve_steps, s);
	timer_set(&s->deadline, (int64_t)LINGER_SECS * 1000, sleeve_late, s);
	end_link(&s->near, &s->far);
	end_ended(&s->near);
}

/*
 * near is what the tunnel stands on from now on, -1: one end of a pair, of
 * which the other one is its far end.  -1: that did not go, and the tunnel
 * was refused.
 */
static int
sleeve_put(struct tunnel *t, int near)
{
	struct tunnel *s = NULL;
	int fd[2] = { near, -1 };

	if ((near != -1 || fd_pair(fd) == 0) &&
	    (s = tunnel_new(&by_sleeve)) == NULL) {
		close(fd[0]);
		if (fd[1] != -1)
			close(fd[1]);
		errno = ENOMEM;
	}
	if (s == NULL) {
		tunnel_refuse(t, 503, "connection_limit_reached",
		    opening_who(t), "%s", strerror(errno));
		return -1;
	}
	sleeve_take(s, t);
	t->sleeve = s;
	s->over = t;
	end_socket(&s->near, fd[0], &sleeve_steps, s);
	if (fd[1] != -1)
		end_socket(&t->far, fd[1], &far_steps, t);
	end_link(&s->near, &s->far);
	return 0;
}

/* The command wants its connection: what the far end was until now. */
static void
tls_joined(void *arg, int fd)
{
	struct tunnel *t = arg;
	struct command *c = t->opening->command;

	t->opening->command = NULL;
	tunnel_keep(t, t->kept - 2);
	if (sleeve_put(t, fd) == -1) {
		command_end(c);
		return;
	}
	tunnel_pipes(t, c);
	hop_begin(t);
}

static void
tls_failed(void *arg, const char *why)
{
	struct tunnel *t = arg;

	tunnel_refuse(t, 502, "tls_protocol_error", opening_who(t), "%s", why);
}

static const struct commander tls_commander = { tls_joined, tls_failed };

/* The far end leads to the hop, or to the target. */
static void
hop_reached(struct tunnel *t)
{
	struct opening *o = t->opening;
	const struct hop *h = o->hop != NULL ? o->hop : o->stop;
	const char *failed;

	o->asked = 0;
	if (h == NULL || !h->tls) {
		hop_begin(t);
		return;
	}
	o->command = command_start(hop_tls(h), h->host, h->port,
	    &tls_commander, t, &failed);
	if (o->command == NULL)
		tunnel_refuse(t, 503, "proxy_internal_error", h->who,
		    "%s%s%s", failed != NULL ? failed : "",
		    failed != NULL ? ": " : "", strerror(errno));
}

/* Asks the hop, for itself to be a WebSocket or for what is behind it. */
static void
hop_ask(struct tunnel *t)
{
	struct opening *o = t->opening;
	const struct hop *h = o->hop;
	int first = h == o->first && !o->inside, bad;
	int ws = h->carriage == BY_WS && !o->inside;
	const char *field = ws ? "Authorization" : "Proxy-Authorization";
	struct buf b = { NULL, 0, 0, 0 };

	if (ws && (t->far.ws != NULL || t->poller != NULL) &&
	    sleeve_put(t, -1) == -1)
		return;
	o->asked = 1;
	bad = (ws ? ws_request : connect_request)(o, &b, first);
	if ((hop_authorized(o) || (h->demand.digest != NULL && !o->inside &&
	    hop_ready(h))) && (!first || !extra_replaces(field)))
		bad |= hop_answer(&b, h, &o->hop->demand, field, ws ? "GET" :
		    "CONNECT", span_of(ws ? h->path : hop_target(o)));
	if (first)
		bad |= extras_put(&b);
	bad |= buf_fmt(&b, "\r\n");
	if (bad) {
		buf_free(&b);
		tunnel_refuse(t, 503, "proxy_internal_error", h->who, "%s",
		    strerror(ENOMEM));
		return;
	}
	say_head(h->who, '>', b.p + b.off, b.len);
	end_send(&t->far, b.p + b.off, b.len);
	secret_wipe(b.p, b.cap);
	buf_free(&b);
}

/* What of a 407's or 401's offers may be answered. */
static const char *hop_password(struct hop *);

struct offer {
	char		 names[128];	/* all of them: "Basic, NTLM" */
	int		 basic;
	int		 login;		/* NTLM or Negotiate */
	int		 unspoken;	/* a Digest that we cannot answer */
	enum digest_algorithm strength;	/* of the best Digest */
	struct span	 digest;	/* its parameters */
	int		 stale;		/* only the nonce was too old */
};

static void
offer_digest(struct offer *o, struct span params)
{
	struct digest d;

	if (opt.auth == AUTH_BASIC)
		return;
	if (auth_digest_parse(params, &d) == -1 || !auth_digest_spoken(&d)) {
		o->unspoken = 1;
		return;
	}
	o->stale |= d.value[DIGEST_STALE].p != NULL &&
	    span_is(d.value[DIGEST_STALE], "true");
	if (d.algorithm > o->strength) {
		o->strength = d.algorithm;
		o->digest = params;
	}
}

static void
hop_offers(const struct head *h, struct offer *o)
{
	const char *name = h->status == 401 ? "WWW-Authenticate" :
	    "Proxy-Authenticate";
	const struct field *f = NULL;
	struct challenge c;
	struct span rest;
	size_t n = 0;
	int len;

	memset(o, 0, sizeof(*o));
	while ((f = head_field(h, name, f)) != NULL) {
		rest = f->value;
		while (auth_challenge(&rest, &c)) {
			if (span_is(c.scheme, "Basic"))
				o->basic = opt.auth != AUTH_DIGEST;
			else if (span_is(c.scheme, "Digest"))
				offer_digest(o, c.params);
			o->login |= span_is(c.scheme, "NTLM") ||
			    span_is(c.scheme, "Negotiate");
			if (n >= c.scheme.n && strncasecmp(o->names + n -
			    c.scheme.n, c.scheme.p, c.scheme.n) == 0)
				continue;	/* the same again */
			len = snprintf(o->names + n, sizeof(o->names) - n,
			    "%s%.*s", n > 0 ? ", " : "", (int)c.scheme.n,
			    c.scheme.p);
			if (len > 0 && (size_t)len < sizeof(o->names) - n)
				n += (size_t)len;
			else
				o->names[n] = '\0';	/* no more room */
		}
	}
	if (o->names[0] == '\0')
		strcpy(o->names, "nothing");
}

/* What to try where nothing that is offered can be answered. */
static const char *
offer_hint(const struct offer *o)
{
	return !o->login || o->basic || o->strength != DIGEST_NONE ? "" :
	    "; try cntlm or px, local proxies that speak NTLM and Negotiate, "
	    "as the hop";
}

/*
 * Takes the best offer.  NULL, or why there is no answer to it.  A nonce that
 * is too old each time is no nonce.
 */
static const char *
hop_accept(struct hop *h, struct demand *demand, const struct offer *o,
    int answered, int *renewed)
{
	const char *wrong = NULL;

	if (answered && !o->stale) {
		h->wrong = h->typed;	/* the next tunnel asks again */
		return "; credentials refused";
	}
	if (answered && ++*renewed > RENEWALS)
		return "; each nonce is too old";
	if (!o->basic && o->strength == DIGEST_NONE)
		return o->unspoken && !o->login ?
		    "; such a Digest is not spoken" : "";
	if ((wrong = hop_password(h)) != NULL)
		return wrong;
	free(demand->digest);
	demand->digest = NULL;
	demand->nc = 0;
	if (o->strength != DIGEST_NONE &&
	    (demand->digest = strndup(o->digest.p, o->digest.n)) == NULL)
		return "; no memory";
	return NULL;
}

/* Makes sure that the hop's password is known.  NULL, or why it is not. */
static const char *
hop_password(struct hop *h)
{
	char prompt[CRED_MAX + HOST_MAX + 64], pass[CRED_MAX + 1], *own = NULL;
	const char *wrong = NULL;

	if (h->user == NULL)
		return "; no credentials given";
	if (hop_ready(h))
		return NULL;
	snprintf(prompt, sizeof(prompt), "Password for %s at %s: ", h->user,
	    h->who);
	if (tty_password(prompt, pass, sizeof(pass)) == -1)
		wrong = errno == EINTR ? "; interrupted" :
		    errno == EIO ? "; no password given" :
		    "; no terminal to ask for the password";
	else if (has_control(pass) || (own = strdup(pass)) == NULL)
		wrong = "; bad password";
	secret_wipe(pass, sizeof(pass));
	if (own == NULL)
		return wrong;
	if (h->pass != NULL)
		secret_wipe(h->pass, strlen(h->pass));
	free(h->pass);
	h->pass = own;
	h->typed = 1;
	h->wrong = 0;
	return NULL;
}

/*
 * Reads over a refusal's body, of which nothing may be taken for the next
 * reply, and asks again behind it.  A body that is malformed, too long or
 * followed by more is not worth the connection.
 */
static void
hop_skip(struct tunnel *t)
{
	struct opening *o = t->opening;
	struct buf *in = &t->far.in;
	size_t used = 0;
	int done, bad = 0;

	if (end_keep(&t->far, in->len) == -1)
		return;
	if (o->framing == BODY_LENGTH) {
		used = in->len < o->left ? in->len : (size_t)o->left;
		o->left -= used;
		done = o->left == 0;
	} else {
		if (in->len > 0)
			bad = chunked_decode(&o->chunked, in->p + in->off,
			    in->len, &used) == -1;
		o->left += used;
		done = chunked_done(&o->chunked);
	}
	if (bad || o->left > REFUSAL_MAX || (done && used < in->len) ||
	    (!done && t->far.eof)) {
		far_dial(t);
		return;
	}
	if (used > 0)
		buf_take(in, used);
	if (done) {
		o->framing = BODY_NONE;
		o->again = 1;
		hop_ask(t);
	}
}

/*
 * A 407, or a WebSocket's 401: answers it once a hop, on the same connection
 * where that stays open (RFC 9112, 9.3) or on a new one.
 */
static void
hop_challenged(struct tunnel *t, const struct head *h, size_t len)
{
	struct opening *o = t->opening;
	const char *wrong;
	struct offer offer;

	hop_offers(h, &offer);
	wrong = hop_accept(o->hop, &o->hop->demand, &offer, hop_authorized(o),
	    &o->renewed);
	if (wrong != NULL) {
		o->fault.received = h->status;
		tunnel_refuse(t, 502, "destination_unavailable", o->hop->who,
		    "%d %s (offered: %s%s)%s", h->status,
		    status_reason(h->status), offer.names, wrong,
		    offer_hint(&offer));
		return;
	}
	o->answered[o->inside] |= (uint64_t)1 << o->nth;
	o->framing = head_framing(h, &o->left);
	if (!head_persists(h) || o->framing == BODY_CLOSE ||
	    o->framing == BODY_BAD || o->left > REFUSAL_MAX) {
		far_dial(t);
		return;
	}
	if (o->framing == BODY_NONE) {
		o->framing = BODY_LENGTH;
		o->left = 0;
	}
	memset(&o->chunked, 0, sizeof(o->chunked));
	buf_take(&t->far.in, len);
	hop_skip(t);
}

/*
 * An exit's refusal is the client's answer: its status, the token of its
 * Proxy-Status (RFC 9209, 2.3) and its line, once that is there.
 */
static void
link_refused(struct tunnel *t, const struct head *h, size_t len)
{
	struct opening *o = t->opening;
	const struct field *f = head_field(h, "Proxy-Status", NULL);
	const struct buf *in = &t->far.in;
	const char *body = (const char *)in->p + in->off + len, *token;
	size_t n;

	if (head_framing(h, &o->left) != BODY_LENGTH ||
	    o->left > sizeof(o->fault.what))
		o->left = 0;
	if (in->len - len < o->left && !t->far.eof)
		return;
	for (n = 0; n < o->left && n < in->len - len && body[n] != '\n'; )
		n++;
	if (f != NULL && (token = span_find(f->value, "error=")) != NULL)
		snprintf(o->token, sizeof(o->token), "%.*s",
		    (int)strspn(token + 6, "abcdefghijklmnopqrstuvwxyz_"),
		    token + 6);
	if (n == 0) {
		body = status_reason(h->status);
		n = strlen(body);
	}
	tunnel_refuse(t, h->status, o->token[0] != '\0' ? o->token :
	    "destination_unavailable", n > 0 ? "" : "exit", "%.*s", (int)n,
	    body);
}

static void
hop_refused(struct tunnel *t, const struct head *h, size_t len)
{
	const char *reason = status_reason(h->status);
	int odd = h->reason.n == 0;

	if (t->opening->hop == &exit_hop && h->status >= 400 &&
	    h->status <= 599 && h->status != 401 && h->status != 407) {
		link_refused(t, h, len);
		return;
	}
	t->opening->fault.received = h->status;
	/* Whose credentials a hop wants is no business of our client's. */
	tunnel_refuse(t, h->status == 403 ? 403 : 502, h->status == 403 ?
	    "http_request_denied" : "destination_unavailable",
	    t->opening->hop->who, "%d%s%.*s", h->status,
	    odd && *reason == '\0' ? "" : " ",
	    odd ? (int)strlen(reason) : (int)h->reason.n,
	    odd ? reason : h->reason.p);
}

/* The connection ended before the reply did. */
static void
hop_closed(struct tunnel *t, const char *how)
{
	struct opening *o = t->opening;

	/* It did not stay open after all, or the link was dead. */
	if ((o->again || o->hop == &exit_hop) && t->far.in.len == 0)
		far_dial(t);
	else
		tunnel_refuse(t, 502, "connection_terminated", opening_who(t),
		    "%s", how);
}

/* The same behind an answer, with which the next one may have come. */
static void
hop_ask_next(struct tunnel *t)
{
	hop_ask(t);
	if (t->state == OPENING && (t->far.in.len > 0 || t->far.eof))
		hop_input(t);
}

/* What can be asked is there. */
static void
hop_begin(struct tunnel *t)
{
	if (t->opening->hop == NULL)
		tunnel_opened(t);
	else
		hop_ask_next(t);
}

/* Every hop up to this one is passed. */
static void
hop_passed(struct tunnel *t)
{
	struct opening *o = t->opening;

	o->hop = hop_next(o, o->hop);
	o->nth++;
	o->inside = o->again = 0;
	hop_reached(t);
}

/* 1 when the only field of that name has this value. */
static int
field_only(const struct head *h, const char *name, const char *value)
{
	const struct field *f = head_field(h, name, NULL);

	return f != NULL && span_is(f->value, value) &&
	    head_field(h, name, f) == NULL;
}

/* What a 101 has wrong (RFC 6455, 4.1), or NULL. */
static const char *
ws_wrong(const struct opening *o, const struct head *h)
{
	const struct field *f = head_field(h, "Sec-WebSocket-Accept", NULL),
	    *protocol = head_field(h, "Sec-WebSocket-Protocol", NULL);
	const char *asked = ws_protocol(o);
	struct span rest, item;
	char expected[WS_ACCEPT + 1];

	ws_accept(expected, o->key, WS_KEY);
	if (!head_lists(h, "Upgrade", "websocket") ||
	    !head_lists(h, "Connection", "Upgrade"))
		return "no upgrade";
	if (f == NULL || f->value.n != WS_ACCEPT ||
	    memcmp(f->value.p, expected, WS_ACCEPT) != 0 ||
	    head_field(h, "Sec-WebSocket-Accept", f) != NULL)
		return "a wrong Sec-WebSocket-Accept";
	if (head_field(h, "Sec-WebSocket-Extensions", NULL) != NULL)
		return "an extension that was not asked for";
	if (protocol == NULL)
		return hop_parks(o) ? "no exits there" : NULL;
	if (head_field(h, "Sec-WebSocket-Protocol", protocol) != NULL)
		return "two protocols";
	rest.p = asked;
	rest.n = asked != NULL ? strlen(asked) : 0;
	while (list_next(&rest, &item))
		if (item.n == protocol->value.n &&
		    memcmp(item.p, protocol->value.p, item.n) == 0)
			return NULL;
	return "a protocol that was not asked for";
}

/* The hop is a WebSocket now. */
static void
ws_switched(struct tunnel *t, const struct head *h, size_t len)
{
	struct opening *o = t->opening;
	const char *wrong = ws_wrong(o, h);
	enum ws_ending ending = o->hop == o->bridge ? WS_STAYS :
	    field_only(h, "Sec-WebSocket-Protocol", "connect.httptun") ||
	    field_only(h, "Sec-WebSocket-Protocol", "exit.httptun") ? WS_ENDS :
	    WS_CLOSES;

	if (wrong != NULL) {
		tunnel_refuse(t, 502, "http_protocol_error", o->hop->who,
		    "101 with %s", wrong);
		return;
	}
	buf_take(&t->far.in, len);
	t->far.indirect = o->nth > 0 || t->sleeve != NULL;
	if (end_websocket(&t->far, 1, ending) == -1) {
		tunnel_refuse(t, 503, "proxy_internal_error", o->hop->who,
		    "%s", strerror(ENOMEM));
		return;
	}
	if (t->far.ws == NULL)		/* its first frames were its end */
		return;
	o->again = 0;
	if (hop_parks(o))
		exit_park(t);
	else if (o->hop == o->bridge)
		hop_passed(t);
	else {
		o->inside = 1;
		hop_ask_next(t);
	}
}

/* What the hop says while the tunnel is being opened. */
static void
hop_input(struct tunnel *t)
{
	struct opening *o = t->opening;
	struct end *far = &t->far;
	struct head h;
	ssize_t n;
	int ws = o->hop != NULL && o->hop->carriage == BY_WS && !o->inside;

	/* Behind a TLS hop, or of a command: it is not for us. */
	if (o->command != NULL || o->soon.next != NULL)
		return;
	if (o->framing != BODY_NONE) {
		hop_skip(t);
		return;
	}
	for (;;) {
		n = far->in.len == 0 ? 0 : head_reply(&h,
		    far->in.p + far->in.off, far->in.len);
		if (end_keep(far, n > 0 ? (size_t)n : far->in.len) == -1)
			return;
		if (n <= 0)
			break;
		say_head(o->hop->who, '<', far->in.p + far->in.off, (size_t)n);
		/* 101 is no interim reply: it would leave HTTP. */
		if (h.status >= 200 || h.status == 101)
			break;
		buf_take(&far->in, (size_t)n);
	}
	if (n == -1)
		tunnel_refuse(t, 502, "http_protocol_error", o->hop->who,
		    "not an HTTP reply");
	else if (n == 0 && far->eof)
		hop_closed(t, far->in.len > 0 ? "closed within its reply" :
		    "closed without a reply");
	else if (n == 0)
		return;
	else if (ws && h.status == 101)
		ws_switched(t, &h, (size_t)n);
	else if (h.status == (ws ? 401 : 407) && o->hop != &exit_hop)
		hop_challenged(t, &h, (size_t)n);
	else if (ws || h.status < 200 || h.status > 299)
		hop_refused(t, &h, (size_t)n);
	else {
		/* Whatever follows is the next hop's or the target's. */
		buf_take(&far->in, (size_t)n);
		hop_passed(t);
	}
}

static void
far_input(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	(void)e;
	if (t->state == OPENING)
		hop_input(t);
	else if (t->state == OPEN && t->lane != NULL)
		lane_input(t->lane);
	else if (t->state == OPEN && t->exchange != NULL)
		http_reply(t);
}

static void
far_sent(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	(void)e;
	if (t->session != NULL)
		session_rouse(t->session);
}

/* What failed when a command did (RFC 9209, 2.3), and whose it was. */
static const char *
opening_command(const struct tunnel *t, const char **who)
{
	const struct opening *o = t->opening;
	const struct hop *h = o->hop != NULL ? o->hop : o->stop;

	*who = opening_who(t);
	if (h != NULL && h->tls)
		return "tls_protocol_error";
	if (o->first != NULL && o->first->carriage == BY_EXEC)
		*who = o->first->who;
	return "proxy_internal_error";
}

/* What was open breaks: whoever asked hears it in his own way. */
static void
far_lost(struct tunnel *t, const char *why)
{
	if (t->session != NULL)
		session_break(t->session, why);
	else if (t->exchange != NULL && !t->exchange->answered)
		http_fail(t, "connection_terminated", why);
	else
		tunnel_close(t, why, 1);
}

static void
far_broken(void *arg, struct end *e)
{
	struct tunnel *t = arg;
	const char *error, *who;

	if (t->state == OPENING && e->error == ECHILD) {
		error = opening_command(t, &who);
		tunnel_refuse(t, 502, error, who, "%s", end_why(e));
	} else if (t->state == OPENING && e->error == EPROTO) {
		/* Not gone: what it says is nonsense. */
		tunnel_refuse(t, 502, "http_protocol_error", opening_who(t),
		    "%s", end_why(e));
	} else if (t->state == OPENING) {
		t->opening->silent |= e->error == ETIMEDOUT;
		hop_closed(t, end_why(e));
	} else if (t->lane != NULL)
		lane_broken(t->lane, e->error, end_why(e));
	else
		far_lost(t, end_why(e));
}

/* Steps of either end. */

static void
ends_idle(void *arg, struct end *e)
{
	(void)arg;
	(void)e;
}

static void
ends_done(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	(void)e;
	if (t->session != NULL)
		session_done(t->session);
	else
		tunnel_close(t, "done", 0);
}

/* What waited for the near end has gone. */
static void
near_sent(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	(void)e;
	if (t->poller != NULL)
		poller_resume(t->poller);
}

/* What breaks the near end, breaks the tunnel in whatever state. */
static void	http_malformed(struct tunnel *);

static void
near_broken(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	/* A WebSocket on which no tunnel is may be closed. */
	if (t->state == HEAD && e->ws != NULL && e->error == ECONNABORTED)
		tunnel_close(t, "done", 0);
	else if (t->state == OPEN && t->exchange != NULL &&
	    !t->exchange->answered && e->error == EBADMSG)
		http_malformed(t);
	else
		tunnel_close(t, end_why(e), 1);
}

/* ---- near end: stdin and stdout ------------------------------------------------ */

/* The one tunnel is open: nobody needs a password again. */
static void
stdio_forget(struct hop *h)
{
	const struct cred *c;
	struct hop *x;

	for (; h != NULL; h = h->next)
		for (x = h; x != NULL; x = x->other)
			if (x->pass != NULL)
				secret_wipe(x->pass, strlen(x->pass));
	for (c = opt.creds; c != NULL; c = c->next)
		secret_wipe(c->pass, strlen(c->pass));
	if (opt.env_cred != NULL)
		secret_wipe(opt.env_cred->pass, strlen(opt.env_cred->pass));
}

static void
zero_late(void *arg)
{
	tunnel_close(arg, "done", 0);
}

/* -z, and nobody has answered yet: a command that fails does so soon. */
static void
zero_command(struct tunnel *t)
{
	timer_set(&t->deadline, (int64_t)LINGER_SECS * 1000, zero_late, t);
	end_virtual(&t->near, &sink, &sleeve_steps, t);
	end_link(&t->near, &t->far);
	end_ended(&t->near);
}

static void
stdio_opened(struct tunnel *t)
{
	const struct hop *h = hops_to(opt.host);
	int fd;

	if (pollers == NULL) {		/* whose requests all bear it */
		stdio_forget(hops_to(opt.host));
		stdio_forget(opt.bridge);
	}
	if (opt.zero) {
		if (h != NULL && h->carriage == BY_EXEC && h->next == NULL &&
		    opt.bridge == NULL) {
			zero_command(t);
			return;
		}
		/* To a server that is no proxy a Close says it all. */
		if (t->far.ws != NULL && opt.bridge == NULL)
			far_leave(t);
		tunnel_close(t, "done", 0);
	} else if (!opt.fdpass) {
		end_link(&t->near, &t->far);
	} else {
		fd = end_release(&t->far);
		if (fd_pass(STDOUT_FILENO, fd) == -1) {
			say("stdout", "%s", strerror(errno));
			tunnel_close(t, "not passed", 1);
		} else
			tunnel_close(t, "passed", 0);
		close(fd);
	}
}

static void
stdio_refused(struct tunnel *t)
{
	const struct fault *f = &t->opening->fault;

	say(f->who, "%s", f->what);
	tunnel_close(t, "refused", 1);
}

static void
stdio_ended(struct tunnel *t, const char *why, int broken)
{
	status = broken;
	if (t->near.error == EPIPE && t->near.lost)
		;		/* whoever read stdout knows why it left */
	else if (t->near.error != 0)
		say(t->near.lost ? "stdout" : "stdin", "%s", why);
	else if (broken && t->status == 0 && !farewelled)
		say("tunnel", "%s", why);	/* not even refused */
	else if (broken && t->status == 200 && !opt.fdpass && !farewelled)
		say(t->what, "%s", why);
	program_stop();
}

static const struct asker by_stdio = {
	stdio_opened, stdio_refused, stdio_ended, 0, 0
};

static const struct steps stdio_steps = {
	ends_idle, ends_idle, near_sent, ends_done, near_broken
};

static void
farewell_late(void *arg)
{
	(void)arg;
	loop_stop();
}

/* The servers of poll sessions are told, ours and the workers'. */
static void
program_leave(void)
{
	static struct timer late;
	struct tunnel *t, *next;

	if (farewelled)
		return;
	farewelled = leaving = 1;
	for (t = tunnels; t != NULL; t = next) {
		next = t->next;
		if (t->poller != NULL)
			tunnel_close(t, "signal", 1);
	}
	crew_order_all(CREW_FAREWELL);
	if (crew_size() > 0)
		timer_set(&late, FAREWELL_MS + 500, farewell_late, NULL);
	else
		program_stop();
}

/*
 * A signal: that, and then it ends us.  A second one does so at once; but to
 * a worker the first one may come behind the note of it.
 */
static void
on_farewell(void)
{
	static int again;

	if (again || (pollers == NULL && crew_size() == 0))
		signal_finish();
	again = 1;
	program_leave();
}

/* These hops are used: is there a server to be told? */
static void
farewell_watch(const struct hop *h)
{
	for (; !farewells && h != NULL; h = h->next)
		if (place_has(h, BY_POLL)) {
			signal_farewell(on_farewell);
			farewells = 1;
		}
}

static void
stdio_start(void)
{
	struct hop *hops = hops_to(opt.host), *h, *x;
	struct tunnel *t;

	hop_credentials(hops != NULL ? hops : opt.bridge);
	for (h = hops; opt.fdpass && h != NULL; h = h->next)
		for (x = h; x != NULL; x = x->other)
			if (x->carriage != BY_CONNECT || x->tls)
				die(2, "-F", "not over %s", x->who);
	if (opt.fdpass && opt.bridge != NULL)
		die(2, "-F", "not with a WebSocket server");
	farewell_watch(hops);
	if (opt.fdpass && !fd_is_local(STDOUT_FILENO))
		die(2, "-F", "stdout is no Unix socket");
	if ((t = tunnel_new(&by_stdio)) == NULL)
		die(1, "memory", "%s", strerror(errno));
	if (!opt.fdpass && !opt.zero)
		end_stdio(&t->near, &stdio_steps, t);
	tunnel_open(t, opt.host, opt.port, hops, opt.bridge);
}

/* ---- near ends that connect to us ---------------------------------------------- */

/* Remembers who is on the other side of a socket, and whether it is here. */
static void
tunnel_client(struct tunnel *t, int fd, const union addr *peer)
{
	union addr here;
	socklen_t len = sizeof(here);

	t->client = *peer;
	t->local = addr_loopback(peer) != 0;
	if (!t->local && getsockname(fd, &here.sa, &len) == 0) {
		addr_unmap(&here);
		t->local = addr_same_host(peer, &here) != 0;
	}
}

static struct tunnel *
tunnel_accept(const struct asker *asker, const struct steps *steps, int fd,
    const union addr *peer)
{
	struct tunnel *t = tunnel_new(asker);

	if (t == NULL) {
		close(fd);
		return NULL;
	}
	tunnel_client(t, fd, peer);
	end_socket(&t->near, fd, steps, t);
	return t;
}

/* Says who gets what they accept. */
static void
listen_for(struct listener *l,
    void (*accepted)(struct listener *, int, const union addr *), void *arg)
{
	for (; l != NULL; l = l->next) {
		l->room = tunnels_room;
		l->accepted = accepted;
		l->arg = arg;
	}
}

/* A script can wait for these lines: all that is to run does. */
static void
listen_announce(const struct listener *l)
{
	char text[ADDR_TEXT];

	for (; l != NULL; l = l->next)
		say("", "listening on %s %u", addr_text(text, &l->addr),
		    addr_port(&l->addr));
}

static void
listen_bind(struct listener **list, const char *addr, unsigned port)
{
	char text[ADDR_PORT_TEXT];
	union addr failed;

	if (listen_open(list, addr, port, &failed) == -1) {
		addr_text_port(text, &failed);
		die(1, text, "%s", strerror(errno));
	}
}

/* Lets them accept, in this process. */
static void
listen_start(struct listener *l)
{
	for (; l != NULL; l = l->next)
		if (listener_start(l) == -1)
			die(1, "listening", "%s", strerror(errno));
}

/* Whoever can be reached from elsewhere must have said for whom. */
static void
listen_guard(const union addr *a, int guarded)
{
	char text[ADDR_TEXT];

	if (!guarded && !addr_loopback(a))
		die(2, opt.mode == MODE_LISTEN ? "-l" : "-L",
		    "%s is open to other machines: say for whom, with %s",
		    addr_text(text, a), opt.mode == MODE_LISTEN ?
		    "-a, -c or -t" : "-c");
}

/* The addresses that will be listened on (LISTEN_ADDRS).  Their number. */
static int
listen_check(union addr *a, const char *addr, unsigned port,
    const char *option, int guarded)
{
	int n, i;

	if ((n = listen_addrs(a, addr, port)) == 0)
		die(2, option, "bad address '%s'", addr);
	for (i = 0; i < n; i++)
		listen_guard(&a[i], guarded);
	return n;
}

/* ---- near end: a local port (-L, -f) --------------------------------------------- */

static void
port_opened(struct tunnel *t)
{
	end_link(&t->near, &t->far);
}

static void
port_refused(struct tunnel *t)
{
	const struct fault *f = &t->opening->fault;

	say(f->who, "%s", f->what);
	tunnel_close(t, f->what, 1);
}

static void
port_ended(struct tunnel *t, const char *why, int broken)
{
	(void)t;
	(void)why;
	(void)broken;
}

static const struct asker by_port = {
	port_opened, port_refused, port_ended, 0, 0
};

static const struct steps port_steps = {
	ends_idle, ends_idle, near_sent, ends_done, near_broken
};

static void
port_accepted(struct listener *l, int fd, const union addr *peer)
{
	struct forward *f = l->arg;
	char why[WHY_MAX], what[HOST_MAX + 9];
	struct tunnel *t;

	if ((t = tunnel_accept(&by_port, &port_steps, fd, peer)) == NULL)
		return;
	t->forward = f;
	f->refs++;
	t->what = strdup(authority_format(what, f->host, f->hostport));
	t->state = OPENING;
	if (client_allowed(f->rules != NULL ? f->rules : opt.clients, peer,
	    why)) {
		tunnel_open(t, f->host, f->hostport, f->hops, f->bridge);
	} else {
		t->status = 403;
		f->totals.refused++;
		tunnel_close(t, why, 1);
	}
}

static void	creds_reload(int quiet);

/* ---- forwards: their ports ------------------------------------------------------- */

/*
 * A forward lives as long as it is in the list and as there are tunnels of
 * it, whose hops are its own.  The file may change: a line that is there as
 * before keeps its forward, another one at the same address and port takes
 * its sockets over, and what is left of the old ones goes with their tunnels.
 */

static void
totals_add(struct totals *sum, const struct totals *t)
{
	sum->open += t->open;
	sum->tunnels += t->tunnels;
	sum->refused += t->refused;
	sum->up += t->up;
	sum->down += t->down;
}

static struct route *routes;

static void
route_leave(struct route *r)
{
	struct route **link;

	if (r == NULL || --r->refs > 0)
		return;
	for (link = &routes; *link != r; link = &(*link)->next)
		;
	*link = r->next;
	hops_free(r->hops);
	free(r);
}

static void
forward_free(struct forward *f)
{
	route_leave(f->route);
	rules_free(f->rules);
	free(f->addr);
	free(f);
}

static void
forward_leave(struct forward *f)
{
	struct forward **link;

	if (f == NULL || --f->refs > 0)
		return;
	for (link = &opt.forwards; *link != f; link = &(*link)->next)
		;
	*link = f->next;
	totals_add(&own_totals, &f->totals);
	forward_free(f);
}

/* Closes the ports from there on. */
static void
ports_close(struct listener **tail)
{
	struct listener *l;

	while ((l = *tail) != NULL) {
		*tail = l->next;
		listener_free(l);
		nports--;
	}
}

/* One of -L may still be the end: nothing is said before all are there. */
static int starting;

/* Lets the new ones accept, or closes them again.  -1: errno. */
static int
ports_start(struct forward *f, struct listener **tail)
{
	struct listener *l;
	int error = 0;

	listen_for(*tail, port_accepted, f);
	for (l = *tail; l != NULL; l = l->next) {
		l->patient = nports++ >= PORTS_EAGER;
		if (listener_start(l) == -1)
			error = errno;
	}
	if (error == 0) {
		if (!starting)
			listen_announce(*tail);
		return 0;
	}
	ports_close(tail);
	errno = error;
	return -1;
}

static int
addr_same(const union addr *a, const union addr *b)
{
	return addr_port(a) == addr_port(b) && addr_same_host(a, b);
}

/* Where its listener at that address stands, or would. */
static struct listener **
port_find(struct forward *f, const union addr *a)
{
	struct listener **l = &f->listeners;

	while (*l != NULL && !addr_same(&(*l)->addr, a))
		l = &(*l)->next;
	return l;
}

/* It cannot be opened now: that is said once, and is -L's end.  Returns 1. */
static int
port_failed(struct forward *f, int i, const union addr *a)
{
	char text[ADDR_PORT_TEXT];

	if (!(f->failed & 1U << i))
		say(addr_text_port(text, a), "%s", strerror(errno));
	if (f->line == 0)
		exit(1);
	f->failed |= 1U << i;
	return 1;
}

/* A port that the system chooses is the same at all addresses. */
static int
forward_choose(struct forward *f)
{
	union addr failed = f->addrs[0];
	struct listener *l;

	if (listen_open(&f->listeners, f->addr, 0, &failed) == -1 ||
	    ports_start(f, &f->listeners) == -1)
		return port_failed(f, 0, &failed);
	f->failed = 0;
	f->naddrs = 0;
	for (l = f->listeners; l != NULL; l = l->next)
		f->addrs[f->naddrs++] = l->addr;
	return 0;
}

/* Opens what of its ports is not open.  1: not all would. */
static int
forward_open(struct forward *f)
{
	struct listener **tail;
	int i, failed = 0, missing = 0;

	if (f->gone)
		return 0;
	if (addr_port(&f->addrs[0]) == 0)
		return forward_choose(f);
	for (i = 0; i < f->naddrs; i++) {
		tail = port_find(f, &f->addrs[i]);
		if (*tail == NULL && (listen_add(tail, &f->addrs[i]) == -1 ||
		    ports_start(f, tail) == -1)) {
			if (f->naddrs > 1 && family_missing(errno))
				missing = errno;
			else
				failed |= port_failed(f, i, &f->addrs[i]);
		} else
			f->failed &= ~(1U << i);
	}
	errno = missing;
	return f->listeners == NULL && !failed ? port_failed(f, 0,
	    &f->addrs[0]) : failed;
}

/* All of them, and again each second while a port is another one's. */
static void
forwards_open(void *arg)
{
	static struct timer again;
	struct forward *f;
	int failed = 0;

	(void)arg;
	for (f = opt.forwards; f != NULL; f = f->next)
		failed |= forward_open(f);
	if (failed)
		timer_set(&again, REST_MS, forwards_open, NULL);
}

/* ---- forwards: a file of them (-f) ------------------------------------------------ */

static struct {
	const char	*name;
	int		 line;		/* being read */
	int		 error;		/* errno that was said, 0: none */
	int		 sure;		/* taken is what stat(2) said of content */
	struct stat	 seen, taken;
	unsigned char	 content[SHA256_LEN];	/* that holds */
	unsigned char	 faulty[SHA256_LEN];	/* that was complained of */
	char		 wrong[256];
	struct timer	 timer;
} source;

/* What is wrong, with the field; but what may have a password is not shown. */
static const char *
file_wrong(const char *what, struct span field)
{
	/* It may be a slip of who meant a URL with a password. */
	if (span_find(field, "@") != NULL || span_find(field, "://") != NULL ||
	    span_find(field, "%40") != NULL)
		return what;
	snprintf(source.wrong, sizeof(source.wrong), "%s '%.*s'", what,
	    field.n < 100 ? (int)field.n : 100, field.p);
	return source.wrong;
}

static void
fields_id(unsigned char *id, const struct span *field, int n)
{
	size_t len = 1;
	char *text, *p;
	int i;

	for (i = 0; i < n; i++)
		len += field[i].n + 1;
	p = text = xalloc(len);
	for (i = 0; i < n; i++) {
		memcpy(p, field[i].p, field[i].n);
		p += field[i].n;
		*p++ = ' ';
	}
	sha256(id, text, len);
	secret_wipe(text, len);
	free(text);
}

/* Makes these the forward's hops; others may have them already. */
static const char *
route_take(struct forward *f, const struct span *arg, int n)
{
	unsigned char id[SHA256_LEN];
	struct hop **tail;
	const char *wrong;
	char *said;
	struct route *r;
	int i;

	fields_id(id, arg, n);
	for (r = routes; r != NULL; r = r->next)
		if (memcmp(r->id, id, sizeof(id)) == 0)
			break;
	if (r == NULL) {
		r = xalloc(sizeof(*r));
		memcpy(r->id, id, sizeof(id));
		tail = &r->hops;
		for (i = 0; i < n; i++, tail = &(*tail)->next)
			*tail = hop_new(arg[i].p, arg[i].n);
		r->next = routes;
		routes = r;
	}
	r->refs++;
	f->route = r;
	f->hops = r->hops;
	if (r->refs > 1)
		return NULL;
	if ((wrong = hops_read(r->hops, &said)) != NULL) {
		free(said);
		snprintf(source.wrong, sizeof(source.wrong), "-x: %s", wrong);
		return source.wrong;
	}
	hop_credentials(r->hops);
	farewell_watch(r->hops);
	return NULL;
}

/* [addr:]port */
static const char *
line_local(struct forward *f, struct span s)
{
	char text[HOST_MAX + 1];
	struct span addr = s, port = s;
	union addr a;
	long v;
	int all;

	while (addr.n > 0 && addr.p[addr.n - 1] != ':')
		addr.n--;
	port.p += addr.n;
	port.n -= addr.n;
	if ((v = text_number(port.p, port.n, 0, 65535)) == -1)
		return file_wrong("bad port", port);
	f->port = (unsigned)v;
	if (addr.n > 0 && addr.n-- > 0 && !span_is(addr, "localhost")) {
		all = addr.n == 0 || span_is(addr, "*");
		if (addr.n > 2 && addr.p[0] == '[' &&
		    addr.p[addr.n - 1] == ']') {
			addr.p++;
			addr.n -= 2;
		} else if (memchr(addr.p, ':', addr.n) != NULL)
			return file_wrong("bad address", addr);
		if (addr.n > HOST_MAX)
			return "bad address";
		memcpy(text, addr.p, addr.n);
		text[addr.n] = '\0';
		/* A name would have to be looked up, again and again. */
		if (!all && addr_literal(&a, text, 0) == -1)
			return file_wrong("bad address", addr);
		f->addr = xdup(text, addr.n);
	}
	if ((f->naddrs = listen_addrs(f->addrs, f->addr, f->port)) == 0)
		return file_wrong("bad address", addr);
	return NULL;
}

static const char *
line_target(char *host, unsigned *port, struct span name, struct span number)
{
	const char *wrong = host_read(host, name.p, name.n);
	long v = text_number(number.p, number.n, 1, 65535);

	if (wrong != NULL)
		return file_wrong(wrong, name);
	if (v == -1)
		return file_wrong("bad port", number);
	*port = (unsigned)v;
	return NULL;
}

/* -x or -c, and its argument, which may be glued to it. */
static int
line_option(const struct span *field, int n, struct span *arg)
{
	int letter = field->n >= 2 && field->p[0] == '-' ? field->p[1] : 0;

	if ((letter != 'x' && letter != 'c') || (field->n == 2 && n < 2))
		return 0;
	*arg = field[field->n == 2];
	if (field->n > 2) {
		arg->p += 2;
		arg->n -= 2;
	}
	return letter;
}

/* [proxy-address proxy-port | -x hop ...] [-c rule ...] */
static const char *
line_way(struct forward *f, const struct span *field, int n)
{
	char host[HOST_MAX + 1], pair[HOST_MAX + 16] = "http://", *text;
	struct span hop[HOPS_MAX], arg;
	const char *wrong = NULL;
	int i = 0, hops = 0, direct = 0, paired, letter;
	unsigned port;

	if ((paired = n > 0 && field[0].p[0] != '-')) {
		if (n < 2)
			return "a proxy without its port";
		if ((wrong = line_target(host, &port, field[0], field[1])) !=
		    NULL)
			return wrong;
		authority_format(pair + strlen(pair), host, port);
		hop[hops++] = span_of(pair);
		i = 2;
	}
	for (; i < n && wrong == NULL; i += field[i].n == 2 ? 2 : 1) {
		letter = line_option(&field[i], n - i, &arg);
		if (letter == 0)
			return file_wrong("neither -x hop nor -c rule:",
			    field[i]);
		if (letter == 'c') {
			text = xdup(arg.p, arg.n);
			if (rule_put(&f->rules, text, 'c') != NULL)
				wrong = file_wrong("-c: bad rule", arg);
			free(text);
		} else if (paired)
			return "-x, and a proxy and its port";
		else if (arg.n == 6 && memcmp(arg.p, "direct", 6) == 0)
			direct = 1;
		else if (hops == HOPS_MAX)
			return "-x: too many hops";
		else
			hop[hops++] = arg;
	}
	if (wrong == NULL && direct && hops > 0)
		return "-x: direct, and hops";
	f->hops = direct ? NULL : opt.hops;
	return wrong != NULL || hops == 0 ? wrong : route_take(f, hop, hops);
}

/* Makes the line a forward.  Returns what is wrong, or NULL. */
static const char *
line_read(struct forward *f, const struct span *field, int n)
{
	const char *wrong;
	char text[ADDR_TEXT];
	size_t k;
	int i;

	for (i = 0; i < n; i++)
		for (k = 0; k < field[i].n; k++)
			if ((unsigned char)field[i].p[k] < 0x20 ||
			    field[i].p[k] == 0x7f)
				return "a control character";
	if (n < 3)
		return "not [addr:]port destination port";
	if ((wrong = line_local(f, field[0])) != NULL ||
	    (wrong = line_target(f->host, &f->hostport, field[1],
	    field[2])) != NULL ||
	    (wrong = line_way(f, field + 3, n - 3)) != NULL)
		return wrong;
	fields_id(f->id, field, n);
	for (i = 0; i < f->naddrs; i++)
		if (!addr_loopback(&f->addrs[i]) && !rules_open(f->rules !=
		    NULL ? f->rules : opt.clients)) {
			snprintf(source.wrong, sizeof(source.wrong),
			    "%s is open to other machines: say for whom, "
			    "with -c", addr_text(text, &f->addrs[i]));
			return source.wrong;
		}
	return NULL;
}

/* Whether both would listen at the same address and port. */
static int
addrs_clash(const union addr *a, const union addr *b)
{
	return addr_port(a) == addr_port(b) && addr_port(a) != 0 &&
	    a->sa.sa_family == b->sa.sa_family &&
	    (addr_any(a) || addr_any(b) || addr_same_host(a, b));
}

/* Whether a port of it is also g's. */
static const char *
line_twice(const struct forward *f, const struct forward *g)
{
	char text[ADDR_PORT_TEXT];
	int i, k;

	for (i = 0; i < f->naddrs; i++)
		for (k = 0; k < g->naddrs; k++) {
			if (!addrs_clash(&f->addrs[i], &g->addrs[k]))
				continue;
			addr_text_port(text, &f->addrs[i]);
			snprintf(source.wrong, sizeof(source.wrong),
			    g->line != 0 ? "%s is line %d's already" :
			    "%s is -L's already", text, g->line);
			return source.wrong;
		}
	return NULL;
}

/* Whether there is room for it beside those before it, and -L's. */
static const char *
line_fits(const struct forward *f, const struct forward *list, int *ports)
{
	const struct forward *g;
	const char *wrong;

	for (g = opt.forwards; g != NULL; g = g->next)
		if (g->line == 0 && (wrong = line_twice(f, g)) != NULL)
			return wrong;
	for (g = list; g != f; g = g->next)
		if ((wrong = line_twice(f, g)) != NULL)
			return wrong;
	*ports += f->naddrs;
	return *ports > places() / 4 * 3 ? "too many ports for one process" :
	    NULL;
}

/* Reads all lines.  Returns what is wrong with source.line, or NULL. */
static const char *
lines_read(struct forward **list, struct span text)
{
	struct span field[LINE_FIELDS];
	struct forward **tail = list, *f;
	const char *wrong;
	int n, ports = 0;

	for (f = opt.forwards; f != NULL; f = f->next)
		ports += f->line == 0 ? f->naddrs : 0;
	for (source.line = 1;
	    (n = line_fields(&text, field, LINE_FIELDS)) != -1;
	    source.line++) {
		if (n == 0)
			continue;
		f = *tail = xalloc(sizeof(*f));
		tail = &f->next;
		f->line = source.line;
		f->refs = 1;
		if (n > LINE_FIELDS)
			return "too many fields";
		if ((wrong = line_read(f, field, n)) != NULL ||
		    (wrong = line_fits(f, *list, &ports)) != NULL)
			return wrong;
	}
	return NULL;
}

/* A line that is there as before stays what it is. */
static void
lines_keep(struct forward **list)
{
	struct forward *f, *g;

	while ((f = *list) != NULL) {
		for (g = opt.forwards; g != NULL; g = g->next)
			if (g->line != 0 && !g->gone && !g->kept &&
			    memcmp(g->id, f->id, sizeof(f->id)) == 0)
				break;
		if (g == NULL) {
			list = &f->next;
			continue;
		}
		g->kept = 1;
		g->line = f->line;
		*list = f->next;
		forward_free(f);
	}
}

/* Whether both chose a port at the same addresses; to the same target? */
static int
both_chose(const struct forward *f, const struct forward *g, int same)
{
	return f->port == 0 && g->port == 0 && f->listeners == NULL &&
	    g->listeners != NULL && (f->addr == NULL ? g->addr == NULL :
	    g->addr != NULL && strcmp(f->addr, g->addr) == 0) && (!same ||
	    (strcmp(f->host, g->host) == 0 && f->hostport == g->hostport));
}

/* The forward takes over what old listens on, and would listen on too. */
static void
forward_adopt(struct forward *f, struct forward *old, int same)
{
	struct listener **from, **to;
	int i, k;

	if (both_chose(f, old, same)) {
		memcpy(f->addrs, old->addrs, sizeof(f->addrs));
		f->naddrs = old->naddrs;
	}
	for (i = 0; i < f->naddrs; i++) {
		for (k = 0; k < old->naddrs; k++)
			if (addr_same(&f->addrs[i], &old->addrs[k]) &&
			    old->failed & 1U << k)
				f->failed |= 1U << i;
		from = port_find(old, &f->addrs[i]);
		to = port_find(f, &f->addrs[i]);
		if (*from == NULL || *to != NULL ||
		    addr_port(&f->addrs[i]) == 0)
			continue;
		*to = *from;
		*from = (*from)->next;
		(*to)->next = NULL;
		(*to)->arg = f;
	}
}

/* These are the lines from now on. */
static void
lines_take(struct forward *list)
{
	struct forward *f, *g, *next, **tail;
	int same;

	lines_keep(&list);
	for (same = 1; same >= 0; same--)
		for (f = list; f != NULL; f = f->next)
			for (g = opt.forwards; g != NULL; g = g->next)
				if (g->line != 0 && !g->kept && !g->gone)
					forward_adopt(f, g, same);
	for (f = opt.forwards; f != NULL; f = next) {
		next = f->next;
		if (f->kept || f->line == 0 || f->gone) {
			f->kept = 0;
			continue;
		}
		f->gone = 1;
		ports_close(&f->listeners);
		forward_leave(f);
	}
	for (tail = &opt.forwards; *tail != NULL; )
		tail = &(*tail)->next;
	*tail = list;
	forwards_open(NULL);
}

/* Takes up what the text says, if that is good.  -1: a fault. */
static int
file_judge(struct span text)
{
	unsigned char id[SHA256_LEN];
	struct forward *list = NULL, *f;
	const char *wrong;
	char who[3 * HOST_MAX];

	sha256(id, text.p, text.n);
	if (memcmp(id, source.content, sizeof(id)) == 0) {
		memset(source.faulty, 0, sizeof(source.faulty));
		return 0;
	}
	if ((wrong = lines_read(&list, text)) == NULL) {
		memcpy(source.content, id, sizeof(id));
		memset(source.faulty, 0, sizeof(source.faulty));
		lines_take(list);
		return 0;
	}
	if (memcmp(id, source.faulty, sizeof(id)) != 0) {
		snprintf(who, sizeof(who), "%s:%d", source.name, source.line);
		say(who, "%s", wrong);
	}
	memcpy(source.faulty, id, sizeof(id));
	while ((f = list) != NULL) {
		list = f->next;
		forward_free(f);
	}
	return -1;
}

static int
stat_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	    a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	    a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	    a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	    a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/*
 * Reads what the descriptor (-1: errno) leads to.  Of a file that changes
 * meanwhile nothing is taken: it is looked at again.  -1: it was said why not.
 */
static int
file_take(int fd, int first)
{
	struct buf text = { NULL, 0, 0, 0 };
	struct stat st;
	struct span all;
	int r = -1;

	source.sure = 0;
	if (fd == -1 || fstat(fd, &source.taken) == -1)
		;
	else if (!first && !S_ISREG(source.taken.st_mode))
		errno = S_ISDIR(source.taken.st_mode) ? EISDIR : EINVAL;
	else if (source.taken.st_size > LINES_MAX)
		errno = EFBIG;
	else if (file_slurp(fd, &text, LINES_MAX) == 0 && fstat(fd, &st) == 0)
		r = first || stat_same(&st, &source.taken) ? 0 : 1;
	if (r == -1 && errno != source.error)
		say(source.name, "%s", strerror(errno));
	source.error = r == -1 ? errno : 0;
	if (r == 0) {
		source.sure = !first;
		all.p = (char *)text.p + text.off;
		all.n = text.len;
		r = file_judge(all);
	}
	file_forget(&text);
	return r;
}

static void
file_reread(void)
{
	int fd = open(source.name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	(void)file_take(fd, 0);
	if (fd != -1)
		close(fd);
}

/*
 * An editor may have emptied the file and not written it yet, or moved it
 * away: only what looks the same twice is read.
 */
static void
file_look(void *arg)
{
	struct stat st;

	(void)arg;
	timer_set(&source.timer, LOOK_MS, file_look, NULL);
	if (stat(source.name, &st) == -1)
		memset(&st, 0, sizeof(st));
	if (!stat_same(&st, &source.seen))
		source.seen = st;
	else if (!source.sure || !stat_same(&st, &source.taken))
		file_reread();
}

/* SIGHUP: reads it at once, and again when it rests. */
static void
on_lines(void)
{
	struct forward *f;
	struct route *r;

	if (opt.cred_file != NULL) {
		creds_reload(0);
		hop_credentials(opt.hops);
		for (r = routes; r != NULL; r = r->next)
			hop_credentials(r->hops);
		for (f = opt.forwards; f != NULL; f = f->next)
			hop_credentials(f->hops != NULL ? f->hops : f->bridge);
	}
	file_reread();
	source.sure = 0;
}

/* Opens it; what can be read again is watched from now on. */
static int
file_open(void)
{
	struct stat st;
	int fd;

	source.name = "stdin";
	if (strcmp(opt.file, "-") == 0)
		return STDIN_FILENO;
	source.name = opt.file;
	if ((fd = open(opt.file, O_RDONLY | O_CLOEXEC)) != -1 &&
	    fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		signal_watch(SIGHUP, on_lines);
		timer_set(&source.timer, LOOK_MS, file_look, NULL);
	}
	return fd;
}

static void
file_start(int fd)
{
	static const struct hop any;

	/* What only a later line may want is looked at now. */
	(void)cred_environment();
	(void)hop_tls(&any);
	hop_credentials(opt.hops);
	farewell_watch(opt.hops);
	if (file_take(fd, 1) == -1)
		exit(2);
	close(fd);
	fd_sane();
}

static void
forward_totals(const struct forward *f)
{
	char who[2 * HOST_MAX + 64], local[ADDR_PORT_TEXT];
	const struct totals *t = &f->totals;

	if (f->addr == NULL)
		snprintf(local, sizeof(local), "%u", addr_port(&f->addrs[0]));
	else
		addr_text_port(local, &f->addrs[0]);
	snprintf(who, sizeof(who), "%s to %s %u", local, f->host, f->hostport);
	say(who, "%llu open, %llu tunnels, %llu refused, %llu bytes up, "
	    "%llu bytes down%s", t->open, t->tunnels, t->refused, t->up,
	    t->down, f->gone ? ", removed" : f->listeners == NULL ?
	    ", not listening" : "");
}

static void
forwards_start(void)
{
	struct forward *f;
	int fd = -1;

	/* SIGHUP is this one's, before others think of it as the end. */
	if (opt.file != NULL && (fd = file_open()) == -1)
		die(2, opt.file, "%s", strerror(errno));
	for (f = opt.forwards; f != NULL; f = f->next) {
		f->refs = 1;
		f->naddrs = listen_check(f->addrs, f->addr, f->port, "-L",
		    rules_open(opt.clients));
		f->hops = hops_to(f->host);
		hop_credentials(f->hops != NULL ? f->hops : f->bridge);
		farewell_watch(f->hops);
	}
	starting = 1;
	if (opt.file != NULL)
		file_start(fd);
	else
		forwards_open(NULL);
	starting = 0;
	for (f = opt.forwards; f != NULL; f = f->next)
		listen_announce(f->listeners);
}

/* ---- near end: a request (-l) ------------------------------------------------------ */

static void	auth_offer(char *, size_t, const struct tunnel *, int code);
static void	request_pass(struct tunnel *, int what, int worker);
static void	request_resume(struct tunnel *);
static void	request_answer(struct tunnel *, int, const char *, const char *,
		    const char *);
static int	http_request(struct tunnel *, const struct head *);
static void	http_begin(struct tunnel *);
static void	http_asked(struct tunnel *);
static void	link_give(struct tunnel *);
static void	link_input(struct tunnel *);
static void	exit_used(struct tunnel *);
static void	errand_put(struct errand *);
static void	errand_input(struct errand *);

static void
request_late(void *arg)
{
	struct tunnel *t = arg;
	int64_t rest = t->near.active + (int64_t)opt.wait * 1000 - loop_now();

	if (t->near.out.len > 0 && rest > 0) {	/* it takes its answer */
		timer_set(&t->deadline, rest, request_late, t);
		return;
	}
	t->keep = 0;
	if (t->opening != NULL) {	/* whether its URL is ours: poll_asks() */
		opening_drop(t);
		request_answer(t, 504, "error=dns_timeout",
		    "no address found in time", NULL);
	} else if (!t->asked || t->near.in.len > 0)
		request_answer(t, 408, NULL, "no whole request in time", NULL);
	else
		tunnel_close(t, "late", 0);
}

/* What an end is owed it takes in its time: only -I bounds that. */
static void
linger_on(struct tunnel *t, const struct end *e, void (*again)(void *))
{
	if (opt.idle > 0 && loop_now() - e->active >= (int64_t)opt.idle * 1000)
		tunnel_close(t, "idle", 1);
	else
		timer_set(&t->deadline, (int64_t)LINGER_SECS * 1000, again, t);
}

/*
 * A forwarded reply may be long: its reader has the time that it takes.  A
 * session's bytes may be, too, which older clients would not get again.
 */
static void
linger_late(void *arg)
{
	struct tunnel *t = arg;
	int64_t rest = t->near.active + (int64_t)opt.wait * 1000 - loop_now();
	int takes = t->polls && t->near.out.len > 0 && rest > 0;

	if (t->near.finished || (t->exchange == NULL && !takes))
		tunnel_close(t, "done", 0);
	else
		linger_on(t, &t->near, linger_late);
}

/* The reply arrives whole: what the client still sends is read over. */
static void
request_linger(struct tunnel *t)
{
	t->state = LINGER;
	tunnel_keep(t, 0);
	timer_set(&t->deadline, (int64_t)LINGER_SECS * 1000, linger_late, t);
	buf_free(&t->near.in);
	end_leave(&t->near);
	if (t->state == LINGER && t->near.eof && t->near.finished)
		tunnel_close(t, "done", 0);
}

/* A request may come at any time, and has room then. */
static void
request_wait(struct tunnel *t)
{
	t->state = HEAD;
	tunnel_keep(t, hops_places(request_hops()));
	timer_set(&t->deadline, (int64_t)opt.wait * 1000, request_late, t);
}

/* What was remembered of a request goes, and the next may come. */
static void
request_forget(struct tunnel *t)
{
	free(t->what);
	t->what = NULL;
	if (!t->vouched) {
		free(t->user);
		t->user = NULL;
	}
	t->near.got = t->far.got = 0;
	t->self = 0;
}

/*
 * Answers what opens no tunnel; why, if any, is for the log only.  The
 * connection takes another request unless keep says otherwise.
 */
static void
request_answer(struct tunnel *t, int code, const char *proxy_status,
    const char *text, const char *why)
{
	struct buf b = { NULL, 0, 0, 0 };
	char fields[1024] = "", line[512];
	unsigned flags = 0;
	size_t n;

	if (draining)			/* since it was judged */
		t->keep = 0;
	if (!t->keep)
		flags |= REPLY_CLOSE;
	if (t->bodiless)
		flags |= REPLY_HEAD;
	if (code == 407 || code == 401)
		auth_offer(fields, sizeof(fields), t, code);
	else if (code == 426)
		snprintf(fields, sizeof(fields), "Upgrade: websocket\r\n"
		    "Sec-WebSocket-Version: 13\r\n");
	else if (proxy_status != NULL)
		snprintf(fields, sizeof(fields), "Proxy-Status: httptun; %s"
		    "\r\n", proxy_status);
	n = strlen(fields);
	if (t->native)
		n += (size_t)snprintf(fields + n, sizeof(fields) - n,
		    "Tunnel-Offset: %llu\r\n", (unsigned long long)t->offset);
	if (t->native || t->polls)
		snprintf(fields + n, sizeof(fields) - n, "%s", POLL_FIELDS);
	text_escape(line, sizeof(line), text, strlen(text));
	t->status = code;
	if (!t->hushed)
		log_tunnel(t, why != NULL && *why != '\0' ? why : line);
	t->hushed = 0;
	request_forget(t);
	if (reply_make(&b, code, flags, fields, line) == -1) {
		tunnel_close(t, "no memory", 1);
		return;
	}
	say_client(t, '<', b.p, b.len);
	t->asked = 1;
	t->state = HEAD;
	end_send(&t->near, b.p, b.len);
	buf_free(&b);
	if (t->state == DEAD)
		return;
	t->native = t->polls = t->stale = 0;
	if (t->keep && !t->at_exit)
		request_wait(t);
	else
		request_linger(t);
}

/* -T: the first bytes of a ClientHello (RFC 8446, 5.1 and 4) and no others. */
static void
tls_check(struct tunnel *t)
{
	const struct buf *in = &t->near.in;
	const unsigned char *p = in->len > 0 ? in->p + in->off : NULL;

	if ((in->len > 0 && p[0] != 0x16) || (in->len > 1 && p[1] != 3) ||
	    (in->len > 2 && p[2] > 4) || (in->len > 5 && p[5] != 1) ||
	    (in->len < 6 && t->near.eof))
		tunnel_close(t, "not TLS", 0);
	else if (in->len >= 6) {
		timer_stop(&t->deadline);
		t->state = OPEN;
		tunnel_watch(t);
		end_link(&t->near, &t->far);
	}
}

static void
tls_late(void *arg)
{
	tunnel_close(arg, "not TLS in time", 0);
}

static void
request_opened(struct tunnel *t)
{
	static const char reply[] =
	    "HTTP/1.1 200 Connection established\r\n\r\n";

	if (t->exchange != NULL) {
		http_begin(t);
		return;
	}
	say_client(t, '<', reply, sizeof(reply) - 1);
	end_send(&t->near, reply, sizeof(reply) - 1);
	if (t->state != OPEN)
		return;
	if (opt.tls_only) {
		t->state = CHECK;
		timer_set(&t->deadline, (int64_t)opt.wait * 1000, tls_late, t);
		tls_check(t);
	} else
		end_link(&t->near, &t->far);
}

/* A fault in a Proxy-Status field's words, and in ours. */
static void
fault_text(const struct fault *f, char *field, size_t size, char *text,
    size_t textsize)
{
	int n = snprintf(field, size, "error=%s", f->error);

	if (f->received != 0)
		snprintf(field + n, size - (size_t)n, "; received-status=%d",
		    f->received);
	snprintf(text, textsize, "%s%s%s", f->who, f->who[0] != '\0' ? ": " :
	    "", f->what);
}

static void
request_refused(struct tunnel *t)
{
	struct opening *o = t->opening;
	const struct fault *f = &o->fault;
	char proxy_status[128], text[sizeof(f->who) + sizeof(f->what) + 2];

	fault_text(f, proxy_status, sizeof(proxy_status), text, sizeof(text));
	/* Bytes behind the CONNECT were the tunnel's, and are no request. */
	if (t->exchange == NULL && end_more(&t->near))
		t->keep = 0;
	exchange_free(t);
	t->opening = NULL;
	request_answer(t, f->status, proxy_status, text, f->why);
	free(o);
	/* The next one not before who refused this one is done with it. */
	request_resume(t);
}

static const struct asker by_request = {
	request_opened, request_refused, port_ended, 1, 0
};

/* What makes a request malformed whatever it asks for; NULL: nothing. */
static const char *
request_malformed(const struct head *h, enum framing framing)
{
	const struct field *host = head_field(h, "Host", NULL);
	char name[HOST_MAX + 1];
	unsigned port;
	size_t n;

	if (framing == BODY_BAD)
		return "ambiguous length";
	if (host != NULL && head_field(h, "Host", host) != NULL)
		return "two Host fields";
	/* Some clients send none with a CONNECT; else RFC 9112, 3.2 holds. */
	if (host == NULL)
		return head_method(h, "CONNECT") || h->minor == 0 ? NULL :
		    "no Host field";
	if ((n = host->value.n) > 1 && host->value.p[n - 1] == ':')
		n--;			/* an empty port is none */
	if (n > 0 && authority_parse(host->value.p, n, name, &port, 80) != NULL)
		return "bad Host field";
	return NULL;
}

/* Where a request wants to go, in CONNECT's or in absolute form. */
static const char *
request_target(const struct head *h, char *host, unsigned *port)
{
	struct span authority, path;
	const char *wrong;

	if (head_method(h, "CONNECT"))
		return authority_parse(h->target.p, h->target.n, host, port,
		    0);
	if (!target_absolute(h->target))
		return NULL;
	if ((wrong = target_split(h->target, &authority, &path)) != NULL)
		return wrong;
	return authority_parse(authority.p, authority.n, host, port, 80);
}

/* What a request is for. */
enum purpose { FOR_CONNECT, FOR_HTTP, FOR_WS, FOR_POLL, FOR_NOTHING };

static int	poll_like(const struct head *);
static int	poll_unread(const struct tunnel *, const struct head *, size_t);
static void	poll_go_on(struct tunnel *, const struct head *, size_t,
		    uint64_t);
static void	poll_unput(struct tunnel *, uint64_t);
static int	poll_worker(const struct head *);
static void	poll_serve(struct tunnel *, const struct head *, size_t, int);
static int	poll_asks(struct tunnel *, const struct head *);

static enum purpose
request_purpose(const struct tunnel *t, const struct head *h)
{
	int ws;

	if (head_method(h, "CONNECT"))
		return FOR_CONNECT;
	if (t->near.ws != NULL)
		return FOR_NOTHING;
	if (target_absolute(h->target))
		return t->self == 1 && poll_like(h) ? FOR_POLL : FOR_HTTP;
	ws = h->target.p[0] == '/' && head_lists(h, "Upgrade", "websocket");
	/* Any path is good for a handshake, that of a session, too. */
	if (poll_like(h) && !(ws && head_method(h, "GET")))
		return FOR_POLL;
	return ws ? FOR_WS : FOR_NOTHING;
}

/*
 * Nonces (RFC 7616, 3.3): when and by which worker it was made, a random
 * number, and a hash of these that only we can make.  Each worker keeps what
 * was used of its own, and a request with another one's is passed to that one,
 * but a session's goes to the session's worker, whose nonces are good for it;
 * those of a worker that is no more are too old.  What it has no room for makes
 * older ones too old as well.
 */
#define NONCE_PLAIN	(12 + 2 + 16)		/* hex digits */
#define NONCE		(NONCE_PLAIN + 32)

static struct nonce {
	int64_t		 made;
	uint64_t	 seen;		/* which of the 64 counts up to high */
	uint32_t	 high;		/* the highest that was used */
	char		 random[17];
} nonces[NONCES];
static int64_t nonces_floor = -1;	/* made up to then: too old */
static unsigned char nonce_secret[16];

static void
nonce_sign(char *nonce)
{
	unsigned char text[sizeof(nonce_secret) + NONCE_PLAIN];
	unsigned char hash[SHA256_LEN];

	memcpy(text, nonce_secret, sizeof(nonce_secret));
	memcpy(text + sizeof(nonce_secret), nonce, NONCE_PLAIN);
	sha256(hash, text, sizeof(text));
	text_hex(nonce + NONCE_PLAIN, hash, 16);
}

static char *
nonce_make(char *nonce)
{
	char random[17];

	snprintf(nonce, NONCE, "%012llx%02x%s",
	    (unsigned long long)loop_now() & 0xffffffffffffULL,
	    (unsigned)crew_number() & 0xff, random_hex(random, 8));
	nonce_sign(nonce);
	return nonce;
}

/* Which worker made a nonce, and when; -1: it is none of ours. */
static int
nonce_origin(struct span s, int64_t *made)
{
	char nonce[NONCE + 1];
	int worker;

	if (s.n != NONCE)
		return -1;
	memcpy(nonce, s.p, NONCE_PLAIN);
	nonce_sign(nonce);
	if (!secret_equal(nonce, NONCE, s.p, s.n))
		return -1;
	nonce[14] = '\0';
	worker = (int)strtoul(nonce + 12, NULL, 16);
	nonce[12] = '\0';
	*made = (int64_t)strtoull(nonce, NULL, 16);
	return worker;
}

/* Uses this count of a nonce up.  0: it is none of ours, too old, or used. */
static int
nonce_use(struct span s, unsigned long count)
{
	struct nonce *n, *oldest = nonces;
	int64_t made = 0;

	if (count == 0 || nonce_origin(s, &made) != crew_number() ||
	    made <= nonces_floor ||
	    loop_now() - made > (int64_t)NONCE_SECS * 1000)
		return 0;
	for (n = nonces; n < nonces + NONCES; n++) {
		if (n->high != 0 && n->made == made &&
		    memcmp(n->random, s.p + 14, 16) == 0)
			break;
		if (n->made < oldest->made)
			oldest = n;
	}
	if (n == nonces + NONCES) {
		n = oldest;
		if (n->high != 0)
			nonces_floor = n->made;
		memset(n, 0, sizeof(*n));
		memcpy(n->random, s.p + 14, 16);
		n->made = made;
	}
	if (count > n->high) {
		n->seen = count - n->high < 64 ? n->seen << (count - n->high) :
		    0;
		n->high = (uint32_t)count;
	} else if (n->high - count >= 64 || n->seen >> (n->high - count) & 1)
		return 0;
	n->seen |= (uint64_t)1 << (n->high - count);
	return 1;
}

/* The other worker that knows what was used of a Digest's nonce, or -1. */
static int
nonce_elsewhere(const struct tunnel *t, const struct head *h,
    enum purpose purpose)
{
	const struct field *f = head_field(h, purpose == FOR_WS ||
	    purpose == FOR_POLL ? "Authorization" : "Proxy-Authorization",
	    NULL);
	struct challenge c;
	struct digest d;
	struct span rest;
	int64_t made;
	int worker;

	if (f == NULL || t->passed || t->vouched || opt.creds == NULL ||
	    opt.auth == AUTH_BASIC)
		return -1;
	rest = f->value;
	if (!auth_challenge(&rest, &c) || !span_is(c.scheme, "Digest") ||
	    auth_digest_parse(c.params, &d) == -1)
		return -1;
	worker = nonce_origin(d.value[DIGEST_NONCE], &made);
	return worker == crew_number() ? -1 : worker;
}

/* Whether a Digest is about this request: its target, or that one's path. */
static int
digest_meant(const struct head *h, struct span uri)
{
	struct span authority, path;

	if (uri.n == h->target.n && memcmp(uri.p, h->target.p, uri.n) == 0)
		return 1;
	return target_absolute(h->target) &&
	    target_split(h->target, &authority, &path) == NULL &&
	    uri.n == path.n && memcmp(uri.p, path.p, uri.n) == 0;
}

/* Whether these are credentials of which it is made. */
static int
digest_right(const struct digest *d, const struct head *h,
    const struct cred *c)
{
	const struct span *response = &d->value[DIGEST_RESPONSE];
	char hex[DIGEST_HEX] = "";
	int right = auth_digest_response(hex, d, c->user, c->pass,
	    h->method) == 0 && secret_equal(hex, strlen(hex), response->p,
	    response->n);

	secret_wipe(hex, sizeof(hex));
	return right;
}

/*
 * Whose credentials in the Digest scheme these are; NULL: nobody's.  Their
 * nonce is used up, unless they are only looked at.  To hash all that anybody
 * sends with everybody's password would be too much work.
 */
static const struct cred *
digest_find(struct tunnel *t, const struct head *h, struct span params,
    int look)
{
	const struct cred *c, *found = NULL;
	struct digest d;
	const struct span *v = d.value;
	char count[9] = "";
	int own, known = 0;

	if (auth_digest_parse(params, &d) == -1 || !auth_digest_spoken(&d) ||
	    v[DIGEST_USER].p == NULL || v[DIGEST_RESPONSE].p == NULL ||
	    v[DIGEST_URI].p == NULL || v[DIGEST_CNONCE].p == NULL ||
	    v[DIGEST_NC].n != 8 || !span_is(v[DIGEST_QOP], "auth") ||
	    !span_is(v[DIGEST_REALM], "httptun") ||
	    !digest_meant(h, v[DIGEST_URI]))
		return NULL;
	for (c = opt.creds; c != NULL; c = c->next) {
		own = secret_equal(c->user, strlen(c->user),
		    v[DIGEST_USER].p, v[DIGEST_USER].n);
		known |= own;
		/* Nobody's takes as long. */
		if ((own || (!known && c->next == NULL)) &&
		    digest_right(&d, h, c) && own)
			found = c;
	}
	memcpy(count, v[DIGEST_NC].p, 8);
	if (found != NULL && !look &&
	    (strspn(count, "0123456789abcdefABCDEF") != 8 ||
	    !nonce_use(v[DIGEST_NONCE], strtoul(count, NULL, 16)))) {
		t->stale = 1;
		found = NULL;
	}
	return found;
}

/*
 * What a 401 or 407 offers, strongest first, as lines of its head.  But the
 * HTTP/1.0 client that knows Digest is ncat, which takes the first one for
 * MD5 or gives up.  By inetd the next connection is another process's, for
 * which no nonce of ours is good.
 */
static void
auth_offer(char *dst, size_t size, const struct tunnel *t, int code)
{
	static const char *const digests[] = { "SHA-256", "MD5" };
	const char *name = code == 401 ? "WWW-Authenticate" :
	    "Proxy-Authenticate";
	char nonce[NONCE + 1];
	size_t i, n = 0;
	int digest = opt.auth == AUTH_DIGEST || (opt.auth == AUTH_ANY &&
	    (t->keep || !opt.inetd));

	for (i = 0; i < 2 && digest; i++)
		n += (size_t)snprintf(dst + n, size - n, "%s: Digest "
		    "realm=\"httptun\", qop=\"auth\", algorithm=%s, "
		    "nonce=\"%s\"%s\r\n", name, digests[t->older ? 1 - i : i],
		    nonce_make(nonce), t->stale ? ", stale=true" : "");
	if (opt.auth != AUTH_DIGEST)
		snprintf(dst + n, size - n, "%s: Basic realm=\"httptun\", "
		    "charset=\"UTF-8\"\r\n", name);
}

/* Which credentials on our list the request bears; NULL: none. */
static const struct cred *
request_cred(struct tunnel *t, const struct head *h, const char *name, int look)
{
	const struct field *f = head_field(h, name, NULL);
	char userpass[CRED_MAX + 1];
	const struct cred *c = NULL;
	struct challenge digest;
	struct span rest;
	ssize_t n;

	if (f == NULL)
		return NULL;
	rest = f->value;
	n = opt.auth == AUTH_DIGEST ? -1 :
	    auth_basic_decode(f->value, userpass);
	if (n != -1)
		c = cred_find(userpass, (size_t)n);
	else if (opt.auth != AUTH_BASIC && auth_challenge(&rest, &digest) &&
	    span_is(digest.scheme, "Digest"))
		c = digest_find(t, h, digest.params, look);
	secret_wipe(userpass, sizeof(userpass));
	return c;
}

static int
request_authorized(struct tunnel *t, const struct head *h, const char *name)
{
	const struct cred *c;

	if (opt.creds == NULL || t->vouched)
		return 1;
	if ((c = request_cred(t, h, name, 0)) != NULL)
		t->user = strdup(c->user);
	return c != NULL;
}

/* The answer to a request that opens nothing. */
struct verdict {
	int		 status;	/* 0: it may go on */
	const char	*error;		/* for Proxy-Status, or NULL */
	const char	*text;
	char		 why[WHY_MAX];
};

/* The protocol that a WebSocket's client gets; NULL: none. */
static const char *
ws_agreed(const struct head *h)
{
	static const char *const known[] = { "connect.httptun", "exit.httptun" };
	const struct field *f = NULL;
	struct span rest, item;
	size_t i;

	while ((f = head_field(h, "Sec-WebSocket-Protocol", f)) != NULL)
		for (rest = f->value; list_next(&rest, &item); )
			for (i = 0; i < 2; i++)
				if (item.n == strlen(known[i]) &&
				    memcmp(item.p, known[i], item.n) == 0)
					return known[i];
	return NULL;
}

/* Whether an opening handshake is one at all (RFC 6455, 4.2.1). */
static int
ws_malformed(const struct head *h)
{
	const struct field *f = head_field(h, "Sec-WebSocket-Key", NULL);
	unsigned char raw[WS_KEY];

	return !head_method(h, "GET") || h->minor == 0 ||
	    !head_lists(h, "Connection", "Upgrade") || f == NULL ||
	    head_field(h, "Sec-WebSocket-Key", f) != NULL ||
	    f->value.n != WS_KEY ||
	    base64_decode(raw, f->value.p, WS_KEY) != 16;
}

static void
ws_judge(struct tunnel *t, const struct head *h, enum framing framing,
    struct verdict *v)
{
	const char *protocol = ws_agreed(h);
	int malformed = request_malformed(h, framing) != NULL;

	if (malformed)
		t->keep = 0;
	/* WebSocket has no same-origin policy: no page may get in here. */
	if (head_field(h, "Origin", NULL) != NULL) {
		snprintf(v->why, sizeof(v->why), "asked by a web page");
		return;
	}
	v->error = NULL;
	if (!request_authorized(t, h, "Authorization")) {
		v->status = 401;
		v->text = "credentials wanted";
	} else if (malformed || framing != BODY_NONE || ws_malformed(h)) {
		t->keep = 0;
		v->status = 400;
		v->text = "no opening handshake";
	} else if (!field_only(h, "Sec-WebSocket-Version", "13")) {
		v->status = 426;
		v->text = "only version 13 is spoken";
	} else if (protocol != NULL && *protocol == 'e' && !opt.reverse) {
		v->error = "error=http_request_denied";
		v->text = "no exits are served here";
	} else
		v->status = 0;
}

/* A form can POST anywhere, too. */
static void
poll_judge(struct tunnel *t, const struct head *h, struct verdict *v)
{
	t->keep = head_persists(h) && !draining;
	if (head_field(h, "Origin", NULL) != NULL)
		snprintf(v->why, sizeof(v->why), "asked by a web page");
	else if (!request_authorized(t, h, "Authorization")) {
		v->status = 401;
		v->error = NULL;
		v->text = "credentials wanted";
	} else if (opt.tls_only)
		snprintf(v->why, sizeof(v->why), "not TLS");
	else
		v->status = 0;
}

/* The hops of what is asked for here; an exit's lead to the gateway. */
static struct hop *
request_hops(void)
{
	return opt.mode == MODE_EXIT ? NULL : opt.hops;
}

/*
 * What others connect to is judged as it was written; it is no address of
 * this machine, unless the last of them is here.
 */
static int
request_allowed(const struct tunnel *t, const char *host, unsigned port,
    char *why)
{
	char text[HOST_MAX + 1];
	union addr a;

	if (opt.mode == MODE_EXIT || (opt.hops == NULL && !opt.reverse))
		return 1;		/* far_allowed() judges */
	snprintf(text, sizeof(text), "%.*s", (int)name_length(host), host);
	return target_allowed(host, port, addr_literal(&a, text, port) == 0 ?
	    &a : NULL, t->local || opt.reverse || !hops_local(opt.hops), why);
}

/* A request that is for whom it has come to (RFC 9110, 7.6.2). */
static int
request_stops(const struct head *h)
{
	uint64_t left;

	return (head_method(h, "TRACE") || head_method(h, "OPTIONS")) &&
	    head_number(h, "Max-Forwards", &left) == 1 && left == 0;
}

static void
request_judge(struct tunnel *t, const struct head *h, char *host,
    unsigned *port, struct verdict *v)
{
	uint64_t length;
	enum framing framing = head_framing(h, &length);
	enum purpose purpose = request_purpose(t, h);
	static const char here[] = "this is httptun, an HTTP proxy";

	t->keep = head_persists(h) && framing == BODY_NONE && !draining;
	t->bodiless = head_method(h, "HEAD") ? 1 : 0;
	/* A handshake has its own order: ws_judge(). */
	v->text = purpose == FOR_WS ? NULL : request_malformed(h, framing);
	if (v->text == NULL)
		v->text = request_target(h, host, port);
	if (v->text != NULL) {
		t->keep = 0;
		v->status = 400;
		return;
	}
	v->status = 403;
	v->error = "error=http_request_denied";
	v->text = "not allowed here";
	if (!client_allowed(opt.clients, &t->client, v->why))
		return;
	if (purpose == FOR_WS)
		ws_judge(t, h, framing, v);
	else if (purpose == FOR_POLL)
		poll_judge(t, h, v);
	else if (purpose == FOR_NOTHING) {
		v->status = 404;
		v->error = NULL;
		v->text = here;
	} else if (!request_authorized(t, h, "Proxy-Authorization")) {
		v->status = 407;
		v->text = "credentials wanted";
	} else if (opt.tls_only && purpose == FOR_HTTP)
		snprintf(v->why, sizeof(v->why), "not TLS");
	else if (purpose == FOR_HTTP && request_stops(h)) {
		v->status = head_method(h, "TRACE") ? 501 : 200;
		v->error = NULL;
		v->text = here;
	} else if (request_allowed(t, host, *port, v->why))
		v->status = 0;
}

/* The answer to an opening handshake.  Returns its length. */
static size_t
ws_reply(char *dst, size_t size, const struct head *h, const char *protocol)
{
	const struct field *f = head_field(h, "Sec-WebSocket-Key", NULL);
	char accept[WS_ACCEPT + 1];

	ws_accept(accept, f->value.p, f->value.n);
	return (size_t)snprintf(dst, size, "HTTP/1.1 101 %s\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n", status_reason(101),
	    accept, protocol == NULL ? "" : "Sec-WebSocket-Protocol: ",
	    protocol == NULL ? "" : protocol, protocol == NULL ? "" : "\r\n");
}

/* The client's connection becomes a WebSocket, on which a CONNECT may come. */
static void
ws_serve(struct tunnel *t, const struct head *h, size_t len)
{
	const char *protocol = ws_agreed(h);
	char reply[256];
	size_t n = ws_reply(reply, sizeof(reply), h, protocol);

	say_client(t, '<', (unsigned char *)reply, n);
	end_send(&t->near, reply, n);
	buf_take(&t->near.in, len);
	t->vouched = 1;
	request_forget(t);
	if (t->state == HEAD && end_websocket(&t->near, 0,
	    protocol != NULL ? WS_ENDS : WS_CLOSES) == -1)
		tunnel_close(t, "no memory", 1);
	else if (t->state == HEAD && protocol != NULL && *protocol == 'e')
		link_give(t);
	else if (t->state == HEAD) {
		t->asked = 0;
		request_wait(t);
	}
}

/* A copy of what was asked for, without what may be secret in it. */
static char *
request_what(const struct head *h)
{
	const char *query = memchr(h->target.p, '?', h->target.n);
	size_t n = query == NULL ? h->target.n :
	    (size_t)(query - h->target.p);
	struct span user = url_userinfo(h->target.p, n);
	int before = (int)(user.p - h->target.p);
	char *what = malloc(n + 4);

	if (what != NULL)
		snprintf(what, n + 4, "%.*s%s%.*s", before, h->target.p,
		    user.n > 0 ? "***" : "", (int)n - before - (int)user.n,
		    user.p + user.n);
	return what;
}

/*
 * Passes the connection to the worker that knows of the session, or else of
 * the nonce: before the request is judged, as only there that can be done.
 */
static int
request_elsewhere(struct tunnel *t, const struct head *h, enum purpose purpose)
{
	int what = CREW_REQUEST;
	int worker = purpose == FOR_POLL && !t->passed ? poll_worker(h) : -1;

	if (worker == -1) {
		what = CREW_NONCE;
		worker = nonce_elsewhere(t, h, purpose);
	}
	if (worker == -1 || worker == crew_number())
		return 0;
	request_pass(t, what, worker);
	return 1;
}

static void
request_serve(struct tunnel *t, const struct head *h, size_t len)
{
	struct verdict v;
	char host[HOST_MAX + 1];
	unsigned port = 0;
	int connect = head_method(h, "CONNECT"), passed = t->passed;
	enum purpose purpose = request_purpose(t, h);
	uint64_t length = 0;
	enum framing framing = head_framing(h, &length);

	if (request_elsewhere(t, h, purpose))
		return;
	t->passed = 0;
	memset(&v, 0, sizeof(v));
	t->since = loop_now();
	t->older = h->minor == 0;
	t->what = purpose == FOR_POLL ? strdup("poll") : request_what(h);
	t->native = !target_absolute(h->target) || purpose == FOR_POLL ?
	    head_field(h, "Tunnel-Offset", NULL) != NULL : 0;
	t->polls = purpose == FOR_POLL;
	t->offset = 0;
	request_judge(t, h, host, &port, &v);
	if (v.status == 0 && purpose == FOR_WS) {
		ws_serve(t, h, len);
		return;
	}
	if (v.status == 0 && purpose == FOR_POLL) {
		tunnel_keep(t, 0);	/* its session has them */
		poll_serve(t, h, len, passed);
		return;
	}
	if (v.status == 0 && !connect && http_request(t, h) == -1) {
		tunnel_close(t, "no memory", 1);
		return;
	}
	buf_take(&t->near.in, len);
	if (v.status == 0) {
		tunnel_open(t, host, port, request_hops(), NULL);
		return;
	}
	totals->refused++;
	if (purpose == FOR_POLL)
		poll_unput(t, framing == BODY_NONE ? 0 : framing ==
		    BODY_LENGTH ? length : UINT64_MAX);
	if (connect && end_more(&t->near))	/* as in request_refused() */
		t->keep = 0;
	request_answer(t, v.status, v.error, v.text, v.why);
}

/* Takes requests off what the client sent, one after the other. */
static void
request_read(struct tunnel *t)
{
	struct buf *in = &t->near.in;
	struct head h;
	ssize_t n = 0;

	while (t->state == HEAD && in->len > 0 && t->near.out.len == 0) {
		n = head_request(&h, in->p + in->off, in->len);
		if (n == 0)
			break;
		if (n < 0) {
			t->keep = t->bodiless = 0;
			totals->refused++;
			request_answer(t, (int)-n, NULL, "no request that "
			    "HTTP/1.1 knows", NULL);
			return;
		}
		if (poll_asks(t, &h))
			break;
		if (poll_unread(t, &h, (size_t)n)) {
			if (in->len == (size_t)n)
				poll_go_on(t, &h, (size_t)n, UINT64_MAX);
			break;
		}
		say_client(t, '>', in->p + in->off, (size_t)n);
		request_serve(t, &h, (size_t)n);
	}
	if (t->state == HEAD && t->near.eof && t->near.out.len == 0)
		tunnel_close(t, "done", 0);
}

/* The same later: what came behind a request that has its answer. */
static void
request_again(void *arg)
{
	struct tunnel *t = arg;

	if (t->state != HEAD)
		return;
	request_wait(t);
	request_read(t);
}

/* Afterwards, when what it was called from is done. */
static void
request_resume(struct tunnel *t)
{
	if (t->state == HEAD && (t->near.in.len > 0 || t->near.eof))
		timer_set(&t->deadline, 0, request_again, t);
}

static void
request_input(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	if (t->state == PARKED) {
		link_input(t);
		return;
	}
	if (t->state == HEAD && t->at_exit && !t->used && e->in.len > 0)
		exit_used(t);
	if (t->state == HEAD)
		request_read(t);
	else if (t->state == SERVING && t->errand != NULL)
		errand_input(t->errand);
	else if (t->state == CHECK)
		tls_check(t);
	else if (t->state == OPEN)	/* behind a request: one a connection */
		buf_free(&e->in);
	else if (t->state == LINGER) {
		buf_free(&e->in);
		if (e->eof && e->finished)
			tunnel_close(t, "done", 0);
	}
}

static void
request_sent(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	if (t->errand != NULL)
		errand_told(t->errand);
	if (t->state == HEAD)
		request_read(t);
	else if (t->state == LINGER && e->eof && e->finished)
		tunnel_close(t, "done", 0);
	else if (t->state == LINGER)
		timer_set(&t->deadline, (int64_t)LINGER_SECS * 1000,
		    linger_late, t);
	else if (t->state == OPEN && t->exchange != NULL &&
	    !t->exchange->answered)
		http_reply(t);
	else if (t->state == OPEN)
		near_sent(t, e);
}

static void
request_over(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	(void)e;
	if (t->errand == NULL)
		http_asked(t);
	else {
		errand_put(t->errand);
		request_resume(t);
	}
}

static const struct steps request_steps = {
	request_input, request_over, request_sent, ends_done, near_broken
};

static void
request_accepted(struct listener *l, int fd, const union addr *peer)
{
	struct tunnel *t;

	(void)l;
	t = tunnel_accept(&by_request, &request_steps, fd, peer);
	if (t != NULL)
		request_wait(t);
}

/* ---- http:// requests, forwarded (RFC 9110, 7; RFC 9112, 3.2.2) ------------- */

/* Writes the request anew, for the origin.  -1: ENOMEM. */
static int
http_request(struct tunnel *t, const struct head *h)
{
	struct exchange *x;
	struct span host, path;
	int bad, options;

	if ((x = calloc(1, sizeof(*x))) == NULL)
		return -1;
	t->exchange = x;
	x->minor = h->minor;
	x->near.codec = x->far.codec = &message_codec;
	x->near.in = head_framing(h, &x->near.left);
	x->far.chunks_out = x->near.in == BODY_CHUNKED;
	(void)target_split(h->target, &host, &path);
	options = head_method(h, "OPTIONS") && path.n == 0;
	bad = buf_fmt(&x->head, "%.*s %s%.*s HTTP/1.1\r\nHost: %.*s\r\n",
	    (int)h->method.n, h->method.p, options ? "*" :
	    path.n == 0 || path.p[0] == '?' ? "/" : "",
	    (int)path.n, path.p, (int)host.n, host.p);
	bad |= head_pass(&x->head, h);
	return bad | buf_fmt(&x->head, "%sConnection: close\r\n\r\n",
	    x->far.chunks_out ? "Transfer-Encoding: chunked\r\n" : "");
}

/* The origin is there: it gets the head, then the body as it comes. */
static void
http_begin(struct tunnel *t)
{
	struct exchange *x = t->exchange;

	t->near.message = &x->near;
	t->far.message = &x->far;
	t->far.stays = 1;
	say_head(t->what, '>', x->head.p, x->head.len);
	end_send(&t->far, x->head.p, x->head.len);
	buf_free(&x->head);
	if (x->near.in == BODY_NONE)
		http_asked(t);
	else if (t->state == OPEN)
		end_join(&t->near, &t->far);
	/* The answer may have come with the last hop's 200. */
	if (t->state == OPEN && (t->far.in.len > 0 || t->far.eof))
		http_reply(t);
}

/* The whole request was passed on. */
static void
http_asked(struct tunnel *t)
{
	end_part(&t->near);
	buf_free(&t->near.in);
	if (t->state == OPEN)
		end_finish(&t->far);
}

/* The reply is whole: the client gets the rest of it, then our end. */
static void
http_answered(struct tunnel *t)
{
	if (t->near.error != 0) {	/* nor does it get what there is */
		tunnel_close(t, end_why(&t->near), 1);
		return;
	}
	totals->open--;
	log_tunnel(t, "done");
	end_part(&t->near);
	end_part(&t->far);
	far_leave(t);
	request_linger(t);
}

static void
http_done(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	(void)e;
	if (t->lane != NULL)
		lane_over(t->lane);
	else
		http_answered(t);
}

/* The request's body cannot be what it says: the client hears of it. */
static void
http_malformed(struct tunnel *t)
{
	totals->open--;
	end_part(&t->near);
	far_drop(t, 1);
	t->near.message = NULL;
	t->near.error = 0;
	t->keep = 0;
	request_answer(t, 400, NULL, "malformed chunks", NULL);
}

/* The origin gave no reply that could be passed on. */
static void
http_fail(struct tunnel *t, const char *error, const char *why)
{
	char proxy_status[64];

	totals->open--;
	end_part(&t->near);
	far_drop(t, 0);
	t->near.message = NULL;
	t->keep = 0;
	snprintf(proxy_status, sizeof(proxy_status), "error=%s", error);
	request_answer(t, 502, proxy_status, why, NULL);
}

/* Passes a reply's head on.  Returns -1 without memory. */
static int
http_pass(struct tunnel *t, const struct head *h, int chunked)
{
	struct buf b = { NULL, 0, 0, 0 };
	int bad;

	bad = head_pass_status(&b, h);
	bad |= head_pass(&b, h);
	bad |= buf_fmt(&b, "%s%s\r\n", chunked ?
	    "Transfer-Encoding: chunked\r\n" : "",
	    h->status >= 200 ? "Connection: close\r\n" : "");
	if (!bad) {
		say_head(t->what, '<', b.p, b.len);
		end_send(&t->near, b.p, b.len);
	}
	buf_free(&b);
	return bad;
}

/* The final head: its body follows, framed for the client. */
static void
http_body(struct tunnel *t, const struct head *h, size_t len)
{
	struct exchange *x = t->exchange;
	int bad;

	x->far.in = t->bodiless ? BODY_NONE : head_framing(h, &x->far.left);
	if (x->far.in == BODY_BAD || h->status == 101) {
		http_fail(t, "http_protocol_error", h->status == 101 ?
		    "it switched protocols" : "ambiguous length of the reply");
		return;
	}
	x->near.chunks_out = x->far.in == BODY_CHUNKED && x->minor > 0;
	x->answered = 1;
	t->status = h->status;
	bad = http_pass(t, h, x->near.chunks_out);
	buf_take(&t->far.in, len);
	if (bad)
		tunnel_close(t, "no memory", 1);
	else if (t->state != OPEN)
		return;
	else if (x->far.in == BODY_NONE)
		http_answered(t);
	else
		end_join(&t->far, &t->near);
}

/* What the origin says, up to the head of its final reply. */
static void
http_reply(struct tunnel *t)
{
	struct buf *in = &t->far.in;
	struct head h;
	ssize_t n = 0;

	/* Until the client has taken the last one: request_sent(). */
	while (t->state == OPEN && in->len > 0 && t->near.out.len == 0) {
		if ((n = head_reply(&h, in->p + in->off, in->len)) <= 0)
			break;
		if (h.status >= 200 || h.status == 101) {
			http_body(t, &h, (size_t)n);
			return;
		}
		/* HTTP/1.0 knows no interim replies (RFC 9110, 15.2). */
		if (t->exchange->minor > 0 && http_pass(t, &h, 0) != 0)
			n = -1;
		buf_take(in, (size_t)(n > 0 ? n : 0));
		if (n <= 0)
			break;
		n = 0;
	}
	if (t->state != OPEN || t->near.out.len > 0)
		return;
	if (n < 0)
		http_fail(t, "http_protocol_error",
		    "no HTTP reply from there");
	else if (t->far.eof)
		http_fail(t, "http_response_incomplete",
		    "closed without a whole reply");
}

/* ---- near end: a session of requests (poll carrier) --------------------------- */

/*
 * A tunnel's near end may be a session: no connection, but an id under which
 * requests come and go.  A PUT's body flows straight to the far end; what the
 * far end says waits in a window for a GET, until a later GET acknowledges
 * it.  A session lives in the worker where it was opened, and requests that
 * come to another one are passed to it; the table of all is shared, and only
 * worker 0 grants a place in it, so that an id is taken once.
 */
enum dialect { NATIVE, KHUEVU, BRIDGE };
enum purport { TO_OPEN, TO_PUT, TO_GET, TO_DELETE, TOLD };

static const struct {
	int	 get, put;	/* seconds that an answer is held back at most */
	int	 opened;	/* status of a POST's answer */
} dialects[] = { { 25, 25, 200 }, { 8, 55, 200 }, { 57, 55, 201 } };

#define UNKNOWN		UINT64_MAX

struct session {
	struct tunnel	*t;
	struct errand	*errands;
	enum dialect	 dialect;
	unsigned	 slot;
	unsigned	 claimed:1,	/* the id is ours */
			 touched:1,	/* a PUT or GET came */
			 broken:1,	/* the target's end was no end, */
			 over:1,	/* or that of both directions */
			 ended:1;	/* the target's end is behind down */
	struct buf	 down;		/* that the client has not acknowledged */
	uint64_t	 base;		/* where in the stream down begins */
	uint64_t	 have;		/* what came from the client */
	uint64_t	 end;		/* where its direction ends, or UNKNOWN */
	struct timer	 wake, expiry;
	char		 id[POLL_ID + 1];
	char		*host;		/* until it is asked for; why it broke */
	unsigned	 port;
};

/* A request that waits for its answer, or whose answer (TOLD) is leaving. */
struct errand {
	struct errand	*next;
	struct session	*s;
	struct tunnel	*t;		/* whose client it is from */
	enum purport	 purport;
	int		 flowing;	/* the body goes to the far end */
	int		 stale;		/* the body holds nothing new */
	uint64_t	 seen;		/* how far it was when last looked at */
	struct piece	 piece;
};

static const struct asker by_session;

static void	session_late(void *);
static void	errand_late(void *);

static struct session *
session_find(struct span id)
{
	struct tunnel *t;

	for (t = tunnels; t != NULL; t = t->next)
		if (t->session != NULL && strlen(t->session->id) == id.n &&
		    memcmp(t->session->id, id.p, id.n) == 0)
			return t->session;
	return NULL;
}

/* The worker that has the id, or -1; then *sessions is how many there are. */
static int
slot_find(const char *id, size_t n, int *sessions)
{
	const struct slot *slot;
	unsigned i;
	int w;

	*sessions = 0;
	for (w = 0; w < WORKERS_MAX; w++)
		for (i = 0; i < registry->top[w]; i++) {
			slot = &registry->slots[w][i];
			if (slot->state != SLOT_GRANTED)
				continue;
			++*sessions;
			if (strlen(slot->id) == n &&
			    memcmp(slot->id, id, n) == 0)
				return w;
		}
	return -1;
}

/* The first of ours that is free, or SESSIONS_EACH. */
static unsigned
slot_spare(void)
{
	const struct slot *mine = registry->slots[crew_number()];
	unsigned i, top = registry->top[crew_number()];

	for (i = 0; i < top && mine[i].state != SLOT_FREE; i++)
		;
	return i;
}

static void
slot_take(unsigned number, const char *id)
{
	struct slot *slot = &registry->slots[crew_number()][number];
	unsigned *top = &registry->top[crew_number()];

	snprintf(slot->id, sizeof(slot->id), "%s", id);
	slot->state = SLOT_CLAIMED;
	if (*top <= number)
		*top = number + 1;
}

static void
slot_give(unsigned number)
{
	struct slot *mine = registry->slots[crew_number()];
	unsigned *top = &registry->top[crew_number()];

	mine[number].state = SLOT_FREE;
	while (*top > 0 && mine[*top - 1].state == SLOT_FREE)
		--*top;
}

/* In worker 0: another one wants its slot's id to be its own. */
static void
slot_claim(int worker, unsigned number)
{
	struct slot *mine = &registry->slots[worker][number];
	int n;

	if (mine->state == SLOT_CLAIMED)
		mine->state = slot_find(mine->id, strlen(mine->id), &n) != -1 ?
		    SLOT_TAKEN : n >= SESSIONS_MAX ? SLOT_FULL : SLOT_GRANTED;
	(void)crew_tell(CREW_CLAIMED, worker, number, -1);
}

/* A request of its user's came, or one has ended: as long as none is open. */
static void
session_renew(struct session *s)
{
	if (s->errands == NULL)
		timer_set(&s->expiry, (int64_t)SESSION_SECS * 1000,
		    session_late, s);
}

/* Its body flows no more. */
static void
errand_part(struct errand *e)
{
	if (e->t->near.peer != NULL)
		end_part(&e->t->near);
	e->t->near.message = NULL;
	e->t->near.meter = NULL;
}

/* When a byte of the tunnel's came or left last. */
static int64_t
errand_active(const struct errand *e)
{
	return e->purport == TOLD || (e->flowing &&
	    e->s->have != e->s->t->near.got) ? e->t->near.active : 0;
}

/* A request is done with. */
static void
errand_end(struct errand *e)
{
	struct errand **link;
	struct session *s = e->s;

	for (link = &s->errands; *link != e; link = &(*link)->next)
		;
	*link = e->next;
	later(&s->t->near.active, errand_active(e));
	if (e->flowing)
		s->t->near.got = s->have;
	errand_part(e);
	e->t->errand = NULL;
	session_renew(s);
	free(e);
}

/* All of its answer has left. */
static void
errand_told(struct errand *e)
{
	if (e->purport == TOLD)
		errand_end(e);
}

static int64_t
session_active(const struct session *s)
{
	const struct errand *e;
	int64_t last = 0;

	for (e = s->errands; e != NULL; e = e->next)
		later(&last, errand_active(e));
	return last;
}

static struct errand *
errand_new(struct session *s, struct tunnel *t, enum purport purport)
{
	struct errand *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->s = s;
	e->t = t;
	e->purport = purport;
	e->next = s->errands;
	s->errands = e;
	t->errand = e;
	t->state = SERVING;
	timer_stop(&s->expiry);
	timer_set(&t->deadline, (int64_t)(purport == TO_PUT ?
	    dialects[s->dialect].put : purport == TO_GET ?
	    dialects[s->dialect].get : opt.wait + 1) * 1000, errand_late, t);
	return e;
}

/* What is in order: the fields have the offset, and what more there is. */
static void
poll_reply(struct tunnel *t, int code, uint64_t offset, uint64_t end,
    const void *body, size_t n)
{
	struct buf b = { NULL, 0, 0, 0 };
	size_t head;
	int bad;

	bad = buf_fmt(&b, "HTTP/1.1 %d %s\r\n", code, status_reason(code));
	if (t->native)
		bad |= buf_fmt(&b, "Tunnel-Offset: %llu\r\n",
		    (unsigned long long)offset);
	if (t->native && end != UNKNOWN)
		bad |= buf_fmt(&b, "Tunnel-End: %llu\r\n",
		    (unsigned long long)end);
	if (code != 204)
		bad |= buf_fmt(&b, "Content-Type: application/octet-stream\r\n"
		    "Content-Length: %zu\r\n", n);
	bad |= buf_fmt(&b, "%s%s\r\n", POLL_FIELDS,
	    t->keep ? "" : "Connection: close\r\n");
	head = b.len;
	if (n > 0)
		bad |= buf_put(&b, body, n);
	t->state = HEAD;
	t->asked = 1;
	t->hushed = t->native = 0;
	request_forget(t);
	if (bad) {
		buf_free(&b);
		tunnel_close(t, "no memory", 1);
		return;
	}
	say_client(t, '<', b.p, head);
	end_send(&t->near, b.p, b.len);
	buf_free(&b);
	if (t->state == HEAD && t->keep)
		request_wait(t);
	else if (t->state == HEAD)
		request_linger(t);
}

/* What is not: one more line in the log. */
static void
poll_refuse(struct tunnel *t, int code, uint64_t offset, const char *text)
{
	t->offset = offset;
	t->state = HEAD;
	request_answer(t, code, NULL, text, NULL);
}

/* The target has gone, in words of the session's. */
static void
errand_gone(struct errand *e)
{
	struct session *s = e->s;
	struct tunnel *t = e->t;
	enum purport purport = e->purport;

	if (purport == TOLD) {
		errand_end(e);
		return;
	}
	if (purport == TO_PUT && (!e->flowing || e->piece.message.left > 0))
		t->keep = 0;
	errand_end(e);
	t->hushed = 1;			/* the tunnel has its own line */
	if (s->dialect == NATIVE)
		poll_refuse(t, 410, purport == TO_PUT ? s->have : s->base,
		    "the tunnel broke");
	else if (purport == TO_OPEN)	/* in the words that refuse it */
		poll_refuse(t, s->dialect == BRIDGE ? 406 : 502, 0,
		    "the tunnel broke");
	else if (s->dialect == KHUEVU && purport == TO_PUT)
		poll_refuse(t, 503, 0, "the tunnel broke");
	else if (s->dialect == KHUEVU)
		poll_reply(t, 200, 0, UNKNOWN, NULL, 0);
	else				/* its client writes out any body */
		poll_reply(t, 410, 0, UNKNOWN, NULL, 0);
	request_resume(t);
}

/* A GET takes all that waits. */
static void
errand_get(struct errand *e)
{
	struct session *s = e->s;
	struct tunnel *t = e->t;
	size_t n = s->down.len;
	int end = n == 0 && s->ended;

	if (n == 0 && !s->ended)
		return;
	/* It knows no half-close: all ends, but what was taken is delivered. */
	if (end && s->dialect == BRIDGE) {
		s->broken = s->over = 1;
		errand_gone(e);
		session_rouse(s);
		end_finish(&s->t->far);
		return;
	}
	if (s->dialect != NATIVE && t->near.eof && n > 0) {
		tunnel_close(t, "", 1);	/* nobody would acknowledge it */
		return;
	}
	if (n > 0) {
		e->purport = TOLD;
		t->near.active = loop_now();
	} else
		errand_end(e);
	poll_reply(t, n == 0 && s->dialect == NATIVE ? 204 : 200, s->base,
	    s->ended ? s->base + n : UNKNOWN, n > 0 ? s->down.p + s->down.off :
	    NULL, n);
	if (t->errand != NULL && t->near.out.len == 0)
		errand_end(e);
	if (s->dialect != NATIVE && n > 0) {
		/* They acknowledge nothing. */
		s->base += n;
		buf_take(&s->down, n);
		end_resume(&s->t->near);
	}
}

/*
 * All is there: PUTs that are under way bring nothing new, and are read over,
 * as the far end takes no more.
 */
static void
session_complete(struct session *s)
{
	struct errand *e;

	for (e = s->errands; e != NULL; e = e->next)
		if (e->purport == TO_PUT) {
			errand_part(e);
			e->stale = 1;
			session_rouse(s);
		}
	end_finish(&s->t->far);
}

/* A PUT's body is complete, or that is enough of it. */
static void
errand_put(struct errand *e)
{
	struct session *s = e->s;
	struct tunnel *t = e->t;
	int bad = e->piece.bad;

	errand_end(e);
	if (s->have == s->end)
		session_complete(s);
	if (bad)
		poll_refuse(t, 400, 0, "not data=..., urlencoded");
	else
		poll_reply(t, 200, s->have, UNKNOWN, NULL, 0);
}

/* A PUT's body is of old: it is read over. */
static void
errand_skip(struct errand *e)
{
	struct buf *in = &e->t->near.in;
	uint64_t *left = &e->piece.message.left;
	size_t n = in->len < *left ? in->len : (size_t)*left;

	if (n > 0)
		buf_take(in, n);
	e->piece.pos += n;
	if ((*left -= n) == 0)
		errand_put(e);
	else if (e->t->near.eof)
		tunnel_close(e->t, "cut off", 1);
}

/* More came behind a request. */
static void
errand_input(struct errand *e)
{
	struct tunnel *t = e->t;

	if (e->purport == TO_PUT && e->stale)
		errand_skip(e);
	request_resume(t);
}

/* Lets the body flow if it can: nothing may wait for the far end. */
static void
errand_flow(struct errand *e)
{
	struct session *s = e->s;
	struct tunnel *t = e->t;

	if (e->stale) {
		errand_skip(e);
		return;
	}
	if (e->flowing || s->t->far.out.len > 0)
		return;
	e->flowing = 1;
	if (e->piece.message.left == 0) {
		errand_put(e);
		return;
	}
	if (s->dialect != NATIVE)
		e->piece.pos = s->have;
	t->near.message = &e->piece.message;
	t->near.meter = &totals->up;
	end_join(&t->near, &s->t->far);
}

/* What can be answered now, is. */
static void
session_wake(void *arg)
{
	struct session *s = arg;
	struct errand *e, *next;
	struct tunnel *t;

	for (e = s->errands; e != NULL && s->claimed; e = next) {
		next = e->next;
		t = e->t;
		if (e->purport == TOLD)
			continue;
		if (s->broken && e->purport != TO_OPEN)
			errand_gone(e);
		else if (s->t->state != OPEN && !s->broken)
			continue;
		else if (e->purport == TO_OPEN) {
			errand_end(e);
			poll_reply(t, dialects[s->dialect].opened, 0, UNKNOWN,
			    NULL, 0);
		} else if (e->purport == TO_GET)
			errand_get(e);
		else
			errand_flow(e);
		/* What it sent behind that is looked at afterwards. */
		request_resume(t);
	}
}

static void
session_rouse(struct session *s)
{
	if (s->claimed)
		timer_set(&s->wake, 0, session_wake, s);
}

/* The answer was held back for long enough. */
static void
errand_late(void *arg)
{
	struct tunnel *t = arg;
	struct errand *e = t->errand;
	struct session *s = e->s;

	if (e->purport == TO_GET) {
		errand_end(e);
		poll_reply(t, 204, s->base, UNKNOWN, NULL, 0);
	} else if (e->purport == TO_OPEN) {
		errand_end(e);
		t->keep = 0;
		poll_refuse(t, 504, 0, "no connection in time");
	} else if (s->t->state != OPEN || (s->t->far.out.len == 0 &&
	    e->piece.pos != e->seen)) {
		e->seen = e->piece.pos;		/* it is the client that is slow */
		timer_set(&t->deadline, (int64_t)dialects[s->dialect].put *
		    1000, errand_late, t);
	} else if (s->t->far.out.len == 0) {
		errand_end(e);
		t->keep = 0;
		poll_refuse(t, 408, s->have, "no whole request in time");
	} else if (s->dialect == NATIVE) {
		if (e->piece.message.left > 0)
			t->keep = 0;
		errand_put(e);
	} else
		session_break(s, "the target takes nothing");
	if (t->state == HEAD)
		request_read(t);
}

/* Takes what the far end says, as much as there is room for. */
static ssize_t
session_send(struct end *near, const void *p, size_t n)
{
	struct session *s = ((struct tunnel *)near->owner)->session;
	size_t room;

	if (s == NULL)			/* nobody will ask for it */
		return (ssize_t)n;
	room = s->down.len < POLL_WINDOW ? POLL_WINDOW - s->down.len : 0;
	if (n > room)
		n = room;
	if (n == 0 || buf_put(&s->down, p, n) == -1) {
		errno = n == 0 ? EAGAIN : ENOMEM;
		return -1;
	}
	session_rouse(s);
	return (ssize_t)n;
}

static int
session_finish(struct end *near)
{
	struct session *s = ((struct tunnel *)near->owner)->session;

	if (s != NULL) {
		s->ended = 1;
		session_rouse(s);
	}
	return 0;
}

/* There was no memory for what came: the client hears that it broke. */
static void
session_full(void *arg, struct end *e)
{
	struct tunnel *t = arg;

	if (t->session != NULL)
		session_break(t->session, end_why(e));
	else
		near_broken(t, e);
}

static const struct carrier session_carrier = {
	NULL, session_send, session_finish, 0
};

static const struct steps session_steps = {
	ends_idle, ends_idle, near_sent, ends_done, session_full
};

static const char *
session_why(const struct session *s, const char *otherwise)
{
	return s->broken && s->host != NULL ? s->host : otherwise;
}

/* Its time without a request is over. */
static void
session_late(void *arg)
{
	struct session *s = arg;

	tunnel_close(s->t, session_why(s, "no request for too long"), 1);
}

static void
session_opened(struct tunnel *t)
{
	end_virtual(&t->near, &session_carrier, &session_steps, t);
	end_link(&t->near, &t->far);
	session_rouse(t->session);
}

/* Both directions are said; what was said waits to be fetched. */
static void
session_done(struct session *s)
{
	end_close(&s->t->far);
	session_rouse(s);
}

static void
session_break(struct session *s, const char *why)
{
	free(s->host);
	s->host = strdup(why);
	s->broken = 1;
	s->over = 0;
	far_drop(s->t, 1);
	session_rouse(s);
}

/* Leaves the table; the tunnel may go on to deliver what it has. */
static void
session_free(struct session *s)
{
	timer_stop(&s->wake);
	timer_stop(&s->expiry);
	/* What worker 0 is just about is not free before its answer. */
	if (s->claimed)
		slot_give(s->slot);
	s->t->session = NULL;
	load -= SESSION_LOAD;
	worker_load();
	buf_free(&s->down);
	free(s->host);
	free(s);
}

static void
session_refused(struct tunnel *st)
{
	struct session *s = st->session;
	struct opening *o = st->opening;
	const struct fault *f = &o->fault;
	char status_field[128], text[sizeof(f->who) + sizeof(f->what) + 2];
	struct errand *e;
	struct tunnel *t;
	int code;

	fault_text(f, status_field, sizeof(status_field), text, sizeof(text));
	while ((e = s->errands) != NULL) {
		t = e->t;
		if (e->purport == TO_PUT)
			t->keep = 0;
		t->state = HEAD;
		code = e->purport != TO_OPEN ? 404 : s->dialect == BRIDGE ?
		    406 : f->status;
		free(t->what);
		t->what = strdup(st->what);
		errand_end(e);
		if (code == 404 && !t->native)	/* it would write that out */
			poll_reply(t, 404, 0, UNKNOWN, NULL, 0);
		else
			request_answer(t, code, code == 404 ? NULL :
			    status_field, text, f->why);
		request_resume(t);
	}
	session_free(s);
	st->state = HEAD;		/* the log has it already */
	tunnel_close(st, "", 1);
}

static void
session_ended(struct tunnel *t, const char *why, int broken)
{
	struct session *s = t->session;

	(void)why;
	(void)broken;
	if (s == NULL)
		return;
	while (s->errands != NULL)
		errand_gone(s->errands);
	session_free(s);
}

static const struct asker by_session = {
	session_opened, session_refused, session_ended, 0, 0
};

/* The id is ours, or somebody else's. */
static void
session_claimed(unsigned number)
{
	struct slot *slot = &registry->slots[crew_number()][number];
	struct tunnel *st, *t;
	struct session *s = NULL;
	struct errand *e;
	char *host;
	int taken = slot->state == SLOT_TAKEN;

	if (slot->state == SLOT_CLAIMED)
		return;			/* of a question before that */
	for (st = tunnels; st != NULL; st = st->next)
		if ((s = st->session) != NULL && s->slot == number)
			break;
	if (st == NULL)
		slot_give(number);	/* deleted meanwhile */
	if (st == NULL || s->claimed)
		return;
	s->claimed = 1;
	timer_stop(&s->wake);
	if (slot->state == SLOT_GRANTED) {
		host = s->host;
		s->host = NULL;
		tunnel_open(st, host, s->port, request_hops(), NULL);
		free(host);
		return;
	}
	while ((e = s->errands) != NULL) {
		t = e->t;
		if (e->purport == TO_PUT)	/* its body is no request */
			t->keep = 0;
		errand_end(e);
		poll_refuse(t, taken ? 409 : 503, 0, taken ?
		    "the id is in use" : "no room for another session");
		request_resume(t);
	}
	session_free(s);
	st->state = HEAD;		/* no line in the log */
	tunnel_close(st, "", 1);
}

/* A new session that this client asks for.  NULL: no room. */
static struct session *
session_new(struct tunnel *t, struct span id, enum dialect dialect)
{
	unsigned i = slot_spare();
	struct session *s;
	struct tunnel *st;

	if (i == SESSIONS_EACH || !tunnels_room() ||
	    (s = calloc(1, sizeof(*s))) == NULL)
		return NULL;
	if ((st = tunnel_new(&by_session)) == NULL) {
		free(s);
		return NULL;
	}
	memcpy(s->id, id.p, id.n);
	s->t = st;
	s->dialect = dialect;
	s->end = UNKNOWN;
	s->slot = i;
	slot_take(i, s->id);
	st->session = s;
	load += SESSION_LOAD;
	worker_load();
	st->client = t->client;
	st->local = t->local;
	st->since = t->since;
	if (t->user != NULL)
		st->user = strdup(t->user);
	return s;
}

static int
same_user(const struct tunnel *a, const struct tunnel *b)
{
	return a->user == NULL || b->user == NULL ? a->user == b->user :
	    strcmp(a->user, b->user) == 0;
}

/* Asks worker 0, which may be a new one by and by. */
static void
session_claim(void *arg)
{
	struct session *s = arg;

	timer_set(&s->wake, 1000, session_claim, s);
	(void)crew_tell(CREW_CLAIM, 0, s->slot, -1);
}

/* The request for a tunnel; its body, n bytes at p, is there. */
static void
poll_post(struct tunnel *t, struct session *s, struct span id,
    const char *p, size_t n)
{
	char host[HOST_MAX + 1], what[HOST_MAX + 9], why[WHY_MAX] = "";
	const char *wrong;
	enum dialect dialect;
	unsigned port;
	int form;

	wrong = poll_target(p, n, host, &port, &form);
	dialect = t->native ? NATIVE : form ? KHUEVU : BRIDGE;
	if (wrong != NULL || (t->native && !form)) {
		poll_refuse(t, 400, 0, wrong != NULL ? wrong : "no form");
		return;
	}
	authority_format(what, host, port);
	if (s != NULL) {
		if (s->touched || s->dialect != dialect ||
		    !same_user(s->t, t) || strcmp(s->t->what, what) != 0)
			poll_refuse(t, 409, 0, "the id is in use");
		else if (errand_new(s, t, TO_OPEN) != NULL)
			session_rouse(s);
		return;
	}
	if (!request_allowed(t, host, port, why)) {
		request_answer(t, dialect == BRIDGE ? 406 : 403,
		    "error=http_request_denied", "not allowed here", why);
		return;
	}
	if ((s = session_new(t, id, dialect)) == NULL ||
	    (s->t->what = strdup(what)) == NULL ||
	    (s->host = strdup(host)) == NULL ||
	    errand_new(s, t, TO_OPEN) == NULL) {
		if (s != NULL) {
			s->claimed = 1;	/* nobody was asked: session_free() */
			tunnel_close(s->t, "no memory", 1);
		}
		poll_refuse(t, 503, 0, "no room for another session");
		return;
	}
	s->port = port;
	session_claim(s);
}

/* The body of a PUT that is refused is in `in', or the connection ends. */
static void
poll_unput(struct tunnel *t, uint64_t left)
{
	if (t->near.in.len >= left) {
		if (left > 0)
			buf_take(&t->near.in, (size_t)left);
	} else
		t->keep = 0;
}

/* What a PUT says, judged against what came before.  0: it may go on. */
static int
put_judge(const struct session *s, uint64_t offset, uint64_t length,
    uint64_t end)
{
	if (s->dialect != NATIVE)
		return 0;
	if (end != UNKNOWN && (end < offset + length ||
	    (s->end != UNKNOWN && end != s->end) || end < s->have))
		return 409;
	if (offset > s->have || (s->end != UNKNOWN && offset + length > s->end))
		return 409;
	return 0;
}

static void
poll_put(struct tunnel *t, struct session *s, uint64_t offset, uint64_t length,
    uint64_t end)
{
	struct errand *e;
	int code;

	if (s->broken || (code = put_judge(s, offset, length, end)) != 0) {
		poll_unput(t, length);
		if (!s->broken)
			poll_refuse(t, code, s->have, "no such offset or end");
		else if ((e = errand_new(s, t, TO_PUT)) != NULL) {
			e->flowing = 1;
			errand_gone(e);
		}
		return;
	}
	s->touched = 1;
	if (end != UNKNOWN)
		s->end = end;
	if ((e = errand_new(s, t, TO_PUT)) == NULL) {
		tunnel_close(t, "no memory", 1);
		return;
	}
	e->piece.message.codec = &piece_codec;
	e->piece.message.in = BODY_LENGTH;
	e->piece.message.left = length;
	e->piece.have = &s->have;
	e->piece.pos = offset;
	e->piece.form = s->dialect == KHUEVU;
	e->stale = s->dialect == NATIVE && offset + length <= s->have &&
	    length > 0;
	if (s->t->state == OPEN)
		errand_flow(e);
}

static void
poll_get(struct tunnel *t, struct session *s, uint64_t offset)
{
	struct errand *e, *next;
	struct tunnel *old;
	size_t n;

	if (!s->broken && s->dialect == NATIVE &&
	    (offset < s->base || offset > s->base + s->down.len)) {
		poll_refuse(t, 409, s->base, "no such offset");
		return;
	}
	s->touched = 1;
	if (s->dialect == NATIVE && !s->broken && offset > s->base) {
		n = (size_t)(offset - s->base);
		buf_take(&s->down, n);
		s->base = offset;
		s->t->near.active = loop_now();
		end_resume(&s->t->near);
	}
	/* The newer one counts. */
	for (e = s->errands; e != NULL; e = next) {
		next = e->next;
		if (e->purport != TO_GET)
			continue;
		old = e->t;
		errand_end(e);
		poll_reply(old, 204, s->base, UNKNOWN, NULL, 0);
		request_resume(old);
	}
	if ((e = errand_new(s, t, TO_GET)) == NULL)
		tunnel_close(t, "no memory", 1);
	else if (s->broken)
		errand_gone(e);
	else if (s->t->state == OPEN)
		errand_get(e);
}

/*
 * Nobody asks for what the target still says.  But what it is still owed it
 * takes in its time, as every target does.
 */
static void
session_swept(void *arg)
{
	struct tunnel *t = arg;

	if (t->far.error != 0)		/* it takes no more, but goes on */
		tunnel_close(t, end_why(&t->far), 1);
	else if (t->far.finished)
		tunnel_close(t, "done", 0);
	else
		linger_on(t, &t->far, session_swept);
}

/* The end that the client says: what it sent is still delivered. */
static void
poll_delete(struct tunnel *t, struct session *s)
{
	struct tunnel *st = s->t;
	int both = s->dialect != NATIVE || (s->have == s->end && s->ended);

	if (st->state != OPEN || (s->broken && !s->over) || !both) {
		tunnel_close(st, session_why(s, "deleted"), 1);
	} else {
		while (s->errands != NULL)
			errand_gone(s->errands);
		session_free(s);
		timer_set(&st->deadline, (int64_t)SESSION_SECS * 1000,
		    session_swept, st);
		end_resume(&st->near);
		if (st->far.closed)
			tunnel_close(st, "done", 0);
		else
			end_finish(&st->far);
	}
	poll_reply(t, 200, 0, UNKNOWN, NULL, 0);
}

/* 413 or 411 where the length says so, 400 for fields of ours. */
static int
poll_malformed(const struct head *h, enum purport purport, uint64_t length,
    int native, int offset, int end)
{
	int body = purport == TO_OPEN || purport == TO_PUT;

	if (body && head_field(h, "Content-Length", NULL) == NULL)
		return 411;
	if (length > (purport == TO_PUT ? POLL_PUT_MAX : POLL_POST_MAX))
		return 413;
	if ((!body && length > 0) || end == -1 || (native && offset != 1))
		return 400;
	return 0;
}

static enum purport
poll_purport(const struct head *h)
{
	return head_method(h, "POST") ? TO_OPEN : head_method(h, "PUT") ?
	    TO_PUT : head_method(h, "GET") ? TO_GET : TO_DELETE;
}

/* The path that may name a session; without a path p is NULL. */
static struct span
poll_path(const struct head *h)
{
	struct span authority, path = h->target;

	if (h->target.p[0] != '/' && (!target_absolute(h->target) ||
	    target_split(h->target, &authority, &path) != NULL))
		path.n = 0;
	return path;
}

/* Whether it may be a request of a session's, if it is meant for us. */
static int
poll_like(const struct head *h)
{
	struct span id;

	return registry != NULL && (head_method(h, "POST") ||
	    head_method(h, "PUT") || head_method(h, "GET") ||
	    head_method(h, "DELETE")) && poll_id(poll_path(h), &id);
}

/* What the client came to.  -1: that cannot be told. */
static int
poll_here(const struct tunnel *t, union addr *here)
{
	socklen_t len = sizeof(*here);

	if (getsockname(t->near.rfd, &here->sa, &len) == -1)
		return -1;
	addr_unmap(here);
	return 0;
}

/* Whether an address of a URL's host is that. */
static int
poll_own_addr(const struct tunnel *t, const union addr *a)
{
	union addr here, there = *a;

	addr_unmap(&there);
	return poll_here(t, &here) == 0 && addr_same_host(&here, &there) &&
	    addr_port(&here) == addr_port(&there);
}

/*
 * Whether a URL's host is looked up before it is known what is asked for, and
 * so which credentials it takes: not for who could have nothing looked up
 * otherwise.  He is told what a proxy's client is.
 */
static int
poll_may_look(struct tunnel *t, const struct head *h, const char *host,
    unsigned port)
{
	char why[WHY_MAX];
	union addr here;

	if (reach.literals || request_hops() != NULL ||
	    poll_here(t, &here) == -1 || addr_port(&here) != port ||
	    !client_allowed(opt.clients, &t->client, why))
		return 0;
	return opt.creds == NULL || strcasecmp(host, "localhost") == 0 ||
	    request_cred(t, h, "Authorization", 1) != NULL ||
	    request_cred(t, h, "Proxy-Authorization", 1) != NULL;
}

static int
self_allow(void *owner, const union addr *a)
{
	struct tunnel *t = owner;

	if (poll_own_addr(t, a))
		t->self = 1;
	return 0;			/* it is not to be connected to */
}

static void
self_done(void *owner, int fd, enum dial_error error, int code)
{
	struct tunnel *t = owner;

	(void)fd;
	(void)error;
	(void)code;
	t->opening->dial = NULL;
	opening_drop(t);
	t->state = HEAD;
	if (t->self == 0)
		t->self = 2;
	request_again(t);
}

static const struct dialer self_dialer = { self_allow, self_done };

/*
 * A URL that may name a session here, or else is to be forwarded: it is ours
 * when its host, looked up, is what the client connected to.  1: that takes a
 * while, and then the request is read again.
 */
static int
poll_asks(struct tunnel *t, const struct head *h)
{
	char host[HOST_MAX + 1];
	struct span authority, path;
	unsigned port;
	union addr a;

	if (t->self != 0 || t->near.ws != NULL || head_method(h, "CONNECT") ||
	    !target_absolute(h->target) || !poll_like(h) ||
	    target_split(h->target, &authority, &path) != NULL ||
	    authority_parse(authority.p, authority.n, host, &port, 80) != NULL)
		return 0;
	t->self = 2;
	if (addr_literal(&a, host, port) == 0) {
		t->self = poll_own_addr(t, &a) ? 1 : 2;
		return 0;
	}
	if (!poll_may_look(t, h, host, port) ||
	    (t->opening = calloc(1, sizeof(*t->opening))) == NULL)
		return 0;
	t->self = 0;
	t->opening->dial = dial_start(host, port, opt.wait, &self_dialer, t);
	if (t->opening->dial == NULL) {
		opening_drop(t);
		t->self = 2;
		return 0;
	}
	request_wait(t);
	t->state = SERVING;
	return 1;
}

/* 1 when all of a POST's form is not there yet. */
static int
poll_unread(const struct tunnel *t, const struct head *h, size_t len)
{
	uint64_t length;

	return request_purpose(t, h) == FOR_POLL && head_method(h, "POST") &&
	    head_framing(h, &length) == BODY_LENGTH &&
	    length <= POLL_POST_MAX && t->near.in.len - len < length &&
	    !t->near.eof;
}

/* Passes the connection, request and all, to another worker. */
static void
request_pass(struct tunnel *t, int what, int worker)
{
	struct buf in = t->near.in;
	int fd;

	memset(&t->near.in, 0, sizeof(t->near.in));
	fd = end_release(&t->near);
	tunnel_close(t, "passed", 0);
	(void)crew_pass(what, worker, fd, in.p + in.off, in.len);
	buf_free(&in);
}

/* The body is waited for; some clients want to hear that (RFC 9110, 10.1.1). */
static void
poll_go_on(struct tunnel *t, const struct head *h, size_t len, uint64_t length)
{
	static const char reply[] = "HTTP/1.1 100 Continue\r\n\r\n";

	if (h->minor > 0 && t->near.in.len - len < length &&
	    head_lists(h, "Expect", "100-continue"))
		end_send(&t->near, reply, sizeof(reply) - 1);
}

/* What a request of a session's says. */
struct wish {
	enum purport	 purport;
	uint64_t	 offset, end, length;
	int		 code;		/* it is refused with, or 0 */
};

static void
poll_read(const struct tunnel *t, const struct head *h, size_t len,
    const struct session *s, struct wish *w)
{
	enum framing framing;
	int offset, end;

	memset(w, 0, sizeof(*w));
	w->purport = poll_purport(h);
	offset = head_number(h, "Tunnel-Offset", &w->offset);
	if ((end = head_number(h, "Tunnel-End", &w->end)) != 1)
		w->end = UNKNOWN;
	framing = head_framing(h, &w->length);
	if (framing != BODY_LENGTH)
		w->length = 0;
	w->code = framing == BODY_CHUNKED ? 411 : poll_malformed(h,
	    w->purport, w->length, s != NULL ? s->dialect == NATIVE :
	    t->native, offset, end);
	if (w->code != 0)
		return;
	if (w->purport != TO_OPEN && (s == NULL || !same_user(s->t, t)))
		w->code = 404;
	else if (w->purport == TO_OPEN && t->near.in.len - len < w->length)
		w->code = 400;
}

/* What cannot be done.  A body that is not there yet ends the connection. */
static void
poll_unserved(struct tunnel *t, const struct session *s, const struct wish *w)
{
	if (w->code == 411)
		t->keep = 0;
	poll_unput(t, w->length);
	if (w->code == 404 && !t->native)
		poll_reply(t, 404, 0, UNKNOWN, NULL, 0);
	else
		poll_refuse(t, w->code, s != NULL && w->code != 404 ?
		    s->have : 0, status_reason(w->code));
}

/* The worker that has the session, or -1. */
static int
poll_worker(const struct head *h)
{
	struct span id;
	int n;

	(void)poll_id(poll_path(h), &id);
	return session_find(id) != NULL ? crew_number() :
	    slot_find(id.p, id.n, &n);
}

/* Serves what was judged to be for a session, in the worker that has it. */
static void
poll_serve(struct tunnel *t, const struct head *h, size_t len, int passed)
{
	char id[POLL_ID + 1], form[POLL_POST_MAX];
	struct buf *in = &t->near.in;
	struct span ids;
	struct session *s;
	struct wish w;

	(void)poll_id(poll_path(h), &ids);
	s = session_find(ids);
	/* Where this worker is full, the first process knows another one. */
	if (!passed && s == NULL && head_method(h, "POST") &&
	    !tunnels_room()) {
		request_pass(t, CREW_REQUEST, CREW_FIRST);
		return;
	}
	if (s != NULL && same_user(s->t, t))
		session_renew(s);
	poll_read(t, h, len, s, &w);
	if (w.code == 0)
		poll_go_on(t, h, len, w.length);
	if (t->state != HEAD)		/* its client has gone, and h with it */
		return;
	t->keep = head_persists(h) && !draining;
	memcpy(id, ids.p, ids.n);
	ids.p = id;
	buf_take(in, len);
	if (w.code != 0)
		poll_unserved(t, s, &w);
	else if (w.purport == TO_PUT)
		poll_put(t, s, w.offset, w.length, w.end);
	else if (w.purport == TO_GET)
		poll_get(t, s, w.offset);
	else if (w.purport == TO_DELETE)
		poll_delete(t, s);
	else {
		if (w.length > 0) {
			memcpy(form, in->p + in->off, (size_t)w.length);
			buf_take(in, (size_t)w.length);
		}
		poll_post(t, s, ids, form, (size_t)w.length);
	}
}

/* A connection whose request is for what this worker knows of. */
static void
request_passed(int fd, const void *p, size_t n)
{
	union addr peer;
	struct tunnel *t;

	fd_own(fd);
	if (fd_peer(fd, &peer) == -1) {	/* whom no rule would know */
		close(fd);
		return;
	}
	if ((t = tunnel_accept(&by_request, &request_steps, fd, &peer)) == NULL)
		return;
	t->passed = 1;
	request_wait(t);
	if (buf_put(&t->near.in, p, n) == -1)
		tunnel_close(t, "no memory", 1);
	else
		request_read(t);
}

/* ---- far end: a session of requests (poll carrier) ----------------------------- */

/*
 * The far end's other side is reached by requests: one lane POSTs, PUTs and
 * DELETEs, the other one GETs.  A lane has at most one request under way, on
 * a connection that it keeps where that is possible; whatever becomes of it,
 * the same is asked again, until it is answered by the session's server.
 * What was sent is kept until it is acknowledged.
 */
enum { UP, DOWN, LANES };

struct lane {
	struct poller	*p;
	struct tunnel	*c;		/* its connection, NULL: none */
	enum purport	 purport;	/* of the request under way */
	unsigned	 busy:1,	/* there is one */
			 sent:1,	/* and it has left */
			 kept:1,	/* the connection served one before */
			 stream:1,	/* the answer's body is the target's */
			 native:1,	/* it has a Tunnel-Offset */
			 ending:1,	/* the request had a Tunnel-End */
			 vain:1,	/* of such a body nothing was taken */
			 lined:1,	/* text is its whole first line */
			 retry:1,	/* it is asked again, now authorized */
			 persists:1;	/* the connection does, behind it */
	unsigned	 authorized;	/* whose credentials it bears, a bit each */
	int		 renewed;	/* nonces that were too old, in a row */
	int		 status;	/* of the answer, 0: no head yet */
	int		 pause;		/* ms before the next try, */
	int		 empty;		/* or after an empty answer */
	int64_t		 asked;
	int64_t		 since;		/* when that was first asked so */
	uint64_t	 offset;	/* that the request had */
	size_t		 length;	/* of its body */
	size_t		 unsent;	/* of it, when last looked at */
	uint64_t	 to, end;	/* of the answer's fields, or UNKNOWN */
	struct piece	 piece;
	char		 text[WHY_MAX];	/* how a text/plain body begins */
	struct timer	 timer;
};

struct poller {
	struct poller	*next;
	struct tunnel	*t;		/* NULL: only the DELETE is left */
	struct hop	*hop, *via;	/* via: a plain proxy before it */
	struct hop	*first;		/* of the hops to there */
	struct hop	*broke;		/* the one that did last, or NULL */
	struct hop	*chain;		/* of which they are, */
	unsigned char	 pick[HOPS_MAX + 1];	/* with these */
	struct forward	*forward;	/* whose hops they are, NULL: none */
	struct demand	 demand;	/* the session's, who has its own */
	enum dialect	 dialect;
	unsigned	 posted:1,	/* the server may know of us */
			 open:1,
			 bare:1,	/* the POST is H:P */
			 answered:2,	/* credentials go to the hop, to via */
			 ended:1,	/* our direction */
			 acked:1,	/* and the server knows it */
			 over:1,	/* the target's direction */
			 keeping:1,	/* an empty PUT is due */
			 hasty:1,	/* it left before the POST's answer */
			 gone:1;	/* freed after this turn */
	struct buf	 up;		/* what is not acknowledged */
	uint64_t	 base;		/* where in the stream up begins */
	uint64_t	 told;		/* how much the server may have */
	uint64_t	 have;		/* what came from the target */
	uint64_t	 end;		/* where that ends, or UNKNOWN */
	size_t		 body;		/* bytes of a PUT at most, */
	size_t		 most;		/* where the way is fast enough */
	char		 wrong[WHY_MAX / 2];	/* with the last try, "" */
	int64_t		 heard;		/* when the server answered last */
	struct lane	 lane[LANES];
	struct timer	 timer;		/* keeps the session, or ends us */
	char		 id[POLL_ID + 1];
};

static const struct carrier poller_carrier;

static void	lane_go(struct lane *);
static void	lane_fail(struct lane *, const char *);
static void	lane_late(void *);
static void	poller_keep(void *);
static void	poller_rouse(struct poller *);

/*
 * The program ends, once the servers were told: of poll sessions, and of
 * WebSockets on which another one was (sleeve_drop()).
 */
static void
program_stop(void)
{
	const struct tunnel *t;

	stopping = 1;
	if (pollers != NULL)
		return;
	for (t = tunnels; t != NULL && !farewelled; t = t->next)
		if (t->asker == &by_sleeve && t->over == NULL &&
		    t->far.ws != NULL)
			return;
	loop_stop();
}

static void
lane_drop(struct lane *l)
{
	struct tunnel *c = l->c;

	l->c = NULL;
	l->kept = l->sent = 0;
	if (c == NULL)
		return;
	c->lane = NULL;
	if (c->state == OPEN) {
		end_part(&c->near);
		end_part(&c->far);
		far_leave(c);
	}
	tunnel_close(c, "", 0);
}

static void
poller_bury(void *arg)
{
	struct poller *p = arg;

	forward_leave(p->forward);
	free(p->demand.digest);
	free(p);
}

static void
poller_free(void *arg)
{
	struct poller *p = arg, **link;
	int i;

	if (p->gone)
		return;
	p->gone = 1;
	p->t = NULL;
	for (link = &pollers; *link != p; link = &(*link)->next)
		;
	*link = p->next;
	for (i = 0; i < LANES; i++) {
		timer_stop(&p->lane[i].timer);
		lane_drop(&p->lane[i]);
	}
	timer_stop(&p->timer);
	buf_free(&p->up);
	loop_bury(&p->timer, poller_bury, p);
	if (stopping)
		program_stop();
}

/* The tunnel needs it no more; the server hears of it. */
static void
poller_leave(struct tunnel *t)
{
	struct poller *p = t->poller;
	struct lane *l;

	if (p == NULL)
		return;
	t->poller = NULL;
	p->t = NULL;
	buf_free(&p->up);
	timer_stop(&p->lane[DOWN].timer);
	lane_drop(&p->lane[DOWN]);
	if (!p->posted) {
		poller_free(p);
		return;
	}
	timer_set(&p->timer, farewelled ? FAREWELL_MS : DELETE_MS, poller_free, p);
	l = &p->lane[UP];
	p->hasty = !p->open && l->status == 0;
	if (l->busy || l->pause > 0)
		lane_drop(l);
	l->busy = 0;
	l->pause = 0;
	lane_go(l);
}

/* It is another tunnel's far end now. */
static void
poller_move(struct tunnel *to, struct tunnel *from)
{
	if ((to->poller = from->poller) != NULL)
		to->poller->t = to;
	from->poller = NULL;
}

/*
 * Who is to blame when a session cannot be opened, for the ways that are left:
 * a hop that leads there, which is *who then, or the server, before which the
 * proxy may be that forwards its requests.  Returns what is being opened.
 */
static struct opening *
poller_blame(struct poller *p, const char **who)
{
	struct opening *o = p->t->opening, *at = o;
	const struct lane *l = &p->lane[UP];

	if (p->open)
		return o;
	o->asked = 1;
	if (p->posted) {
		if (p->via != NULL && !l->native)
			o->hop = p->via;
		return o;
	}
	if (l->c != NULL && l->c->opening != NULL) {
		at = l->c->opening;
		o->asked = at->asked;
		o->hop = at->hop != NULL ? at->hop : lane_stop(l);
	} else if (p->broke != NULL)
		o->hop = p->broke;
	*who = o->hop->who;
	return at;
}

/* What became of the last POST, while the same is asked again. */
static const char *
poller_wrong(const struct poller *p)
{
	return p->open ? "" : p->wrong;
}

/* It cannot go on: the tunnel could not be opened, or breaks. */
static void
poller_fail(struct poller *p, const char *who, int code, int received,
    const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static void
poller_fail(struct poller *p, const char *who, int code, int received,
    const char *fmt, ...)
{
	struct tunnel *t = p->t;
	char what[WHY_MAX + 64], why[HOST_MAX + 16 + sizeof(what)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (t == NULL)
		poller_free(p);
	else if (t->state == OPENING) {
		t->opening->fault.received = received;
		(void)poller_blame(p, &who);
		if (!p->open && code == 502)
			p->posted = 0;
		tunnel_refuse(t, code, code == 504 ? "connection_timeout" :
		    code == 403 ? "http_request_denied" :
		    "destination_unavailable", who, "%s", what);
	} else {
		snprintf(why, sizeof(why), "%s: %s", who, what);
		far_lost(t, why);
	}
}

/* The hop that a lane's connection leads to. */
static struct hop *
lane_stop(const struct lane *l)
{
	return l->p->via != NULL ? l->p->via : l->p->hop;
}

static const unsigned char *
lane_picks(const struct lane *l)
{
	return l->p->pick;
}

static int
lane_open(const struct lane *l)
{
	return l->p->open;
}

/* Whether our side has more to say than the server knows. */
static int
poller_owes(const struct poller *p)
{
	return p->open && (p->up.len > 0 ||
	    (p->ended && !p->acked && p->dialect == NATIVE));
}

/* What a lane would ask next.  0: nothing. */
static int
lane_next(struct lane *l)
{
	struct poller *p = l->p;

	if (l == &p->lane[DOWN]) {
		/* What cannot be delivered is not asked for. */
		l->purport = TO_GET;
		return p->t != NULL && p->open && !p->over &&
		    p->t->near.out.len == 0;
	}
	l->purport = p->t == NULL ? TO_DELETE : p->open ? TO_PUT : TO_OPEN;
	return p->t == NULL || !p->open || p->keeping || poller_owes(p);
}

/* The body of a request: what is in the buffer, or else at *raw. */
static int
lane_body(struct lane *l, struct buf *b, struct span *raw)
{
	const struct poller *p = l->p;
	const struct hop *next;
	const struct opening *o;
	const char *host;
	char what[HOST_MAX + 9];
	unsigned port;
	size_t n;

	if (l->purport == TO_PUT) {
		n = p->up.len < p->body ? p->up.len : p->body;
		if (p->dialect == KHUEVU && n > KHUEVU_MAX)
			n = KHUEVU_MAX;
		l->offset = p->base;
		l->length = n;
		if (p->dialect == KHUEVU)
			return buf_put(b, "data=", 5) != 0 ||
			    form_put(b, p->up.p + p->up.off, n) != 0;
		if (n > 0)
			raw->p = (const char *)p->up.p + p->up.off;
		raw->n = n;
		return 0;
	}
	if (l->purport != TO_OPEN)
		return 0;
	o = p->t->opening;
	next = hop_next(o, p->hop);
	host = next != NULL ? next->host : o->host;
	port = next != NULL ? next->port : o->port;
	if (p->bare)
		return buf_fmt(b, "%s", authority_format(what, host, port));
	return buf_fmt(b, "host=") != 0 ||
	    form_put(b, host, strlen(host)) != 0 ||
	    buf_fmt(b, "&port=%u", port) != 0;
}

static const char *const lane_methods[] = { "POST", "PUT", "GET", "DELETE" };

/* The fields of a request. */
static int
lane_head(struct lane *l, struct buf *b, size_t length)
{
	const struct poller *p = l->p;
	const struct hop *h = p->hop;
	const char *path = h->path;
	size_t n = strlen(path);
	char host[HOST_MAX + 9];
	int bad;

	hop_host(host, h);
	bad = buf_fmt(b, "%s %s%s%s%s%s HTTP/1.1\r\nHost: %s\r\n",
	    lane_methods[l->purport], p->via != NULL ? "http://" : "",
	    p->via != NULL ? host : "", path,
	    n > 0 && path[n - 1] == '/' ? "" : "/", p->id, host);
	if (l->purport == TO_GET)
		l->offset = p->have;
	if (p->dialect == NATIVE)
		bad |= buf_fmt(b, "Tunnel-Offset: %llu\r\n",
		    (unsigned long long)(l->purport == TO_PUT ||
		    l->purport == TO_GET ? l->offset : 0));
	l->ending = p->dialect == NATIVE && l->purport == TO_PUT && p->ended;
	if (l->ending)
		bad |= buf_fmt(b, "Tunnel-End: %llu\r\n",
		    (unsigned long long)p->base + p->up.len);
	if (l->purport == TO_OPEN || l->purport == TO_PUT)
		bad |= buf_fmt(b, "Content-Type: %s\r\n"
		    "Content-Length: %zu\r\n", l->purport == TO_OPEN ||
		    p->dialect == KHUEVU ?
		    "application/x-www-form-urlencoded" :
		    "application/octet-stream", length);
	return bad;
}

static int
lane_credentials(struct lane *l, struct buf *b)
{
	struct poller *p = l->p;
	struct buf fields = { NULL, 0, 0, 0 };
	struct span target, path, authority;
	int bad = 0;

	/* What was asked for, up to here: the target of the request. */
	target.p = memchr(b->p + b->off, ' ', b->len);
	target.p++;
	target.n = strcspn(target.p, " ");
	path = target;
	if (target_absolute(target))
		(void)target_split(target, &authority, &path);
	l->authorized = p->answered;
	if (p->answered & 1)
		bad |= hop_answer(&fields, p->hop, &p->demand,
		    "Authorization", lane_methods[l->purport], path);
	if (p->answered & 2)
		bad |= hop_answer(&fields, p->via, &p->via->demand,
		    "Proxy-Authorization", lane_methods[l->purport], target);
	if (fields.p != NULL) {
		bad |= buf_put(b, fields.p + fields.off, fields.len);
		secret_wipe(fields.p, fields.cap);
	}
	buf_free(&fields);
	if (p->first == (p->via != NULL ? p->via : p->hop))
		bad |= extras_put(b);
	return bad;
}

/* How long an answer is waited for, or more of it. */
static int64_t
lane_patience(const struct lane *l)
{
	return l->p->dialect == NATIVE ? POLL_ANSWER_MS : OLDER_ANSWER_MS;
}

static void
lane_wait(struct lane *l)
{
	timer_set(&l->timer, lane_patience(l), lane_late, l);
}

/*
 * When a byte of the tunnel's came or left last.  A body of which the server
 * took nothing, as the target stalls, is no news when it is sent again.
 */
static int64_t
lane_active(const struct lane *l)
{
	if (l->c == NULL || !l->sent || (!l->stream &&
	    (l->purport != TO_PUT || l->length == 0 || l->vain)))
		return 0;
	return l->c->far.active > l->asked ? l->c->far.active : l->asked;
}

static int64_t
poller_active(const struct poller *p)
{
	int64_t last = lane_active(&p->lane[UP]);

	later(&last, lane_active(&p->lane[DOWN]));
	return last;
}

/* Why a request failed, of which nothing more is known. */
static const char silence[] = "no answer";

static void
lane_late(void *arg)
{
	struct lane *l = arg;
	size_t unsent = l->c->far.out.len;
	int64_t rest;

	/* What we do not take cannot come, nor an answer before its request. */
	if ((l->stream && l->p->t != NULL && l->p->t->near.out.len > 0) ||
	    unsent < l->unsent) {
		l->unsent = unsent;
		lane_wait(l);
		return;
	}
	/* Nor is that one silent which comes slowly. */
	rest = l->c->far.active + lane_patience(l) - loop_now();
	if (l->stream && rest > 0) {
		timer_set(&l->timer, rest, lane_late, l);
		return;
	}
	/* What the system still has of it would hold up the next one. */
	end_reset(&l->c->far);
	lane_fail(l, silence);
}

/* The connection is there: asks. */
static void
lane_send(struct lane *l)
{
	struct poller *p = l->p;
	struct buf request = { NULL, 0, 0, 0 }, body = { NULL, 0, 0, 0 };
	struct span raw = { NULL, 0 };
	struct tunnel *c = l->c;
	size_t secret;
	int bad;

	bad = lane_body(l, &body, &raw) != 0 ||
	    lane_head(l, &request, body.len + raw.n) != 0 ||
	    lane_credentials(l, &request) != 0 ||
	    buf_fmt(&request, "\r\n") != 0;
	if (!bad)
		say_head(p->hop->who, '>', request.p + request.off, request.len);
	secret = request.len;
	if (body.len > 0)
		bad |= buf_put(&request, body.p + body.off, body.len);
	buf_free(&body);
	if (bad) {
		buf_free(&request);
		poller_fail(p, p->hop->who, 503, 0, "%s", strerror(ENOMEM));
		return;
	}
	if (l->purport == TO_OPEN)
		p->posted = 1;
	if (l->purport == TO_PUT && p->told < l->offset + l->length)
		p->told = l->offset + l->length;
	l->sent = 1;
	l->status = 0;
	l->stream = l->lined = 0;
	l->text[0] = '\0';
	l->asked = loop_now();
	lane_wait(l);
	c->far.more = raw.n > 0;
	end_send(&c->far, request.p + request.off, request.len);
	c->far.more = 0;
	secret_wipe(request.p, secret);
	buf_free(&request);
	if (raw.n > 0 && l->c == c)	/* nothing has broken */
		end_send(&c->far, raw.p, raw.n);
	if (l->c == c)
		l->unsent = c->far.out.len;
}

static void
lane_again(void *arg)
{
	lane_go(arg);
}

/* Asks what there is to ask, if nothing is under way. */
static void
lane_go(struct lane *l)
{
	struct poller *p = l->p;
	const struct hop *end = lane_stop(l);

	if (l->busy || p->gone || !lane_next(l))
		return;
	l->busy = 1;
	l->status = 0;
	if (l->pause == 0)
		l->since = loop_now();
	if (l->c != NULL) {
		lane_send(l);
		return;
	}
	if ((l->c = tunnel_new(&by_lane)) == NULL) {
		l->busy = 0;
		poller_fail(p, p->hop->who, 503, 0, "%s", strerror(ENOMEM));
		return;
	}
	l->c->lane = l;
	tunnel_open(l->c, end->host, end->port, p->chain, NULL);
}

static void
lane_halve(struct lane *l)
{
	l->p->body = l->length / 2 > POLL_BODY_MIN ? l->length / 2 :
	    POLL_BODY_MIN;
}

/*
 * How long a body may be: one that fails slowly is asked again in halves, and
 * what took no time lets the next one be longer.
 */
static void
lane_pace(struct lane *l, int failed)
{
	struct poller *p = l->p;
	int64_t took = loop_now() - l->asked;

	if (l->purport != TO_PUT)
		return;
	if (!failed && l->length == p->body && took < POLL_SLOW_MS / 2)
		p->body = 2 * p->body < p->most ? 2 * p->body : p->most;
	if (failed && (l->status == 408 || took >= POLL_SLOW_MS) &&
	    l->length > POLL_BODY_MIN) {
		lane_halve(l);
		l->since = loop_now();
	}
}

/*
 * Whether it is of no use to ask any more.  The other lane's answers say that
 * there is a server, one that still comes too, but a PUT that cannot be any
 * shorter wants its own.
 */
static int
lane_hopeless(const struct lane *l)
{
	const struct lane *down = &l->p->lane[DOWN];
	int64_t since = l->p->heard;

	if (down->stream && down->c != NULL && down->c->far.active > since)
		since = down->c->far.active;
	if (l->purport == TO_PUT && l->length <= POLL_BODY_MIN &&
	    l->since < since)
		since = l->since;
	return l->p->open &&
	    loop_now() - since >= (int64_t)SESSION_SECS * 1000;
}

/*
 * Whether asking again could double or lose bytes: an older server does not
 * say what it has taken, nor give twice.  But a kept connection that fails at
 * once was closed before the request.
 */
static int
lane_once(const struct lane *l)
{
	return l->p->open && l->p->dialect != NATIVE && l->sent &&
	    !(l->kept && l->status == 0 && loop_now() - l->asked < 1000);
}

/* No answer came, or none of the server's. */
static void
lane_fail(struct lane *l, const char *why)
{
	struct poller *p = l->p;
	int kept = l->kept && l->status == 0, once = lane_once(l);

	if (l->sent)
		lane_pace(l, 1);
	if (p->t != NULL)
		later(&p->t->far.active, lane_active(l));
	timer_stop(&l->timer);
	lane_drop(l);
	l->busy = 0;
	l->stream = 0;
	if (p->t == NULL && !kept) {
		poller_free(p);
		return;
	}
	if (p->t != NULL && once) {
		poller_fail(p, p->hop->who, 502, 0, "%s, a part may be lost",
		    why);
		return;
	}
	if (lane_hopeless(l)) {
		poller_fail(p, p->hop->who, 504, 0, "%s for %d s", why,
		    SESSION_SECS);
		return;
	}
	/* A kept connection may have been closed meanwhile. */
	if (kept) {
		lane_go(l);
		return;
	}
	if (why != silence)
		snprintf(p->wrong, sizeof(p->wrong), "%s", why);
	l->pause = l->pause == 0 ? 50 : l->pause < 1000 ? 2 * l->pause : 2000;
	timer_set(&l->timer, l->pause, lane_again, l);
}

/*
 * The target's direction ends where the server says, or the old ones do.  The
 * bridge knows no half-close: ours has ended, too, but for what a PUT has not
 * been answered for yet.
 */
static void
poller_over(struct poller *p)
{
	struct tunnel *t = p->t;

	p->over = 1;
	if (p->dialect == BRIDGE && p->up.len > 0)
		return;			/* lane_acked() */
	if (p->dialect == BRIDGE)
		t->far.finish = t->far.finished = 1;
	end_ended(&t->far);
}

/* The tunnel's bytes go through us from now on. */
static void
poller_opened(struct poller *p, enum dialect dialect)
{
	struct tunnel *t = p->t;

	p->open = 1;
	p->dialect = dialect;
	if (dialect != NATIVE && opt.verbose)
		say(p->hop->who, "an older protocol: the end of our input "
		    "cannot be said");
	end_virtual(&t->far, &poller_carrier, &far_steps, t);
	timer_set(&p->timer, POLL_KEEP_MS, poller_keep, p);
	lane_go(&p->lane[DOWN]);
	if (p->t != NULL)
		hop_passed(t);
}

/* Asks on; but where an answer brought nothing and did not wait, later. */
static void
lane_on(struct lane *l, int empty)
{
	if (!empty || loop_now() - l->asked >= 1000) {
		l->empty = 0;
		lane_go(l);
		return;
	}
	l->empty = l->empty == 0 ? 10 : l->empty < 500 ? 2 * l->empty : 1000;
	timer_set(&l->timer, l->empty, lane_again, l);
}

/* A PUT's answer says how much the server has. */
static void
lane_acked(struct lane *l, uint64_t to)
{
	struct poller *p = l->p;
	int empty = to == p->base && (l->length > 0 || l->ending);

	if (to < p->base || to > p->told) {
		poller_fail(p, p->hop->who, 502, l->status,
		    "an impossible Tunnel-Offset");
		return;
	}
	if (to > p->base)
		p->t->far.active = loop_now();
	l->vain = to == p->base && l->length > 0;
	buf_take(&p->up, (size_t)(to - p->base));
	p->base = to;
	/* It has all that there is, and was told so. */
	if (l->ending && l->status == 200 && p->up.len == 0)
		p->acked = 1;
	if (p->up.len == 0 && p->dialect != NATIVE)
		p->acked = p->ended;
	end_resume(&p->t->far);
	if (p->t != NULL && p->dialect == BRIDGE && p->over && p->up.len == 0)
		poller_over(p);
	else if (p->t != NULL)
		lane_on(l, empty && !p->acked);
}

static void
lane_put_done(struct lane *l)
{
	struct poller *p = l->p;

	if (l->status == 200 || l->status == 408)
		lane_pace(l, l->status == 408);
	if (p->dialect != NATIVE && l->status == 200)
		lane_acked(l, l->offset + l->length);
	else if (p->dialect == NATIVE && l->native && (l->status == 200 ||
	    l->status == 408 || l->status == 409))
		lane_acked(l, l->to);
	else if (l->status == 413 && p->body > POLL_BODY_MIN) {
		lane_halve(l);
		p->most = p->body;
		lane_go(l);
	} else
		poller_fail(p, p->hop->who, 502, l->status, "%d %s%s",
		    l->status, status_reason(l->status), p->dialect ==
		    KHUEVU && l->status >= 503 ? ", a part of it is lost" : "");
}

static void
lane_get_done(struct lane *l)
{
	struct poller *p = l->p;
	int empty = p->have == l->offset;

	if (l->status == 410 && p->dialect == BRIDGE) {
		poller_over(p);
		return;
	}
	if ((l->status != 200 && l->status != 204) ||
	    (p->dialect == NATIVE && (!l->native || l->to != l->offset))) {
		poller_fail(p, p->hop->who, 502, l->status, "%d %s", l->status,
		    l->status == 200 || l->status == 204 ?
		    "with an impossible Tunnel-Offset" :
		    status_reason(l->status));
		return;
	}
	if (p->have > p->end) {
		poller_fail(p, p->hop->who, 502, l->status,
		    "more than its Tunnel-End");
		return;
	}
	if (p->have == p->end ||
	    (p->dialect == KHUEVU && empty && l->status == 200)) {
		poller_over(p);
		return;
	}
	lane_on(l, empty);
}

static void
lane_post_done(struct lane *l)
{
	struct poller *p = l->p;

	if (l->status == 200)
		poller_opened(p, l->native ? NATIVE : KHUEVU);
	else if (l->status == 201)
		poller_opened(p, BRIDGE);
	else if (l->status == 406 && !l->native && !p->bare) {
		p->bare = 1;
		lane_go(l);
	} else
		poller_fail(p, p->hop->who, l->status == 403 ||
		    l->status == 504 ? l->status : 502, l->status,
		    "%d %s%s%s", l->status, status_reason(l->status),
		    l->text[0] != '\0' ? ": " : "", l->text);
}

/* Whether an intermediary may have given this answer by itself. */
static int
lane_transient(const struct lane *l)
{
	static const int codes[] = { 408, 425, 429, 500, 502, 503, 504 };
	size_t i;

	if (l->native || l->p->dialect != NATIVE)
		return 0;
	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (l->status == codes[i])
			return 1;
	return l->status == 204 ||
	    (l->status == 200 && l->purport != TO_OPEN);
}

/* An answer is complete. */
static void
lane_over(struct lane *l)
{
	struct poller *p = l->p;
	char why[64];

	if (p->t != NULL && l->stream) {
		p->t->far.got = p->have;
		p->t->far.active = loop_now();
		/* It was for an http:// request, which has its reply. */
		if (l->piece.inner_over != 0) {
			if (l->piece.inner_over == 1)
				http_answered(p->t);
			else
				tunnel_close(p->t, strerror(EBADMSG), 1);
			return;
		}
	}
	timer_stop(&l->timer);
	if (l->c->far.peer != NULL)
		end_part(&l->c->far);
	l->c->far.message = NULL;
	l->c->far.meter = NULL;
	l->busy = l->sent = 0;
	l->kept = 1;
	/*
	 * What is behind an answer is none to the next request.  And a proxy
	 * that refuses a body (squid: 407) may have stopped to read for ever.
	 */
	if (!l->persists || p->dialect == KHUEVU || l->c->far.in.len > 0 ||
	    (l->status >= 400 && !l->native && l->purport == TO_PUT &&
	    l->length > 0))
		lane_drop(l);
	l->stream = 0;
	if (l->retry)
		lane_go(l);
	else if (l->purport == TO_DELETE && p->hasty && l->status == 404) {
		/* The POST is on its way: what it opens would stay. */
		l->pause = l->pause == 0 ? 50 : 2 * l->pause;
		timer_set(&l->timer, l->pause, lane_again, l);
	} else if (l->purport == TO_DELETE)
		poller_free(p);
	else if (lane_transient(l)) {
		l->busy = l->sent = 1;
		snprintf(why, sizeof(why), "%d %s%s", l->status,
		    status_reason(l->status),
		    l->status < 300 ? " without Tunnel-Offset" : "");
		lane_fail(l, why);
	} else {
		p->heard = loop_now();
		l->renewed = 0;
		p->keeping = 0;
		l->pause = 0;
		(l->purport == TO_OPEN ? lane_post_done : l->purport ==
		    TO_PUT ? lane_put_done : lane_get_done)(l);
	}
}

/* Keeps the first line of an answer's body, which may come in parts. */
static void
lane_text(struct lane *l, const char *p, size_t n)
{
	size_t len = strlen(l->text), i;

	for (i = 0; i < n && p[i] != '\r' && p[i] != '\n'; i++)
		;
	if (!l->lined)
		text_escape(l->text + len, sizeof(l->text) - len, p, i);
	l->lined |= i < n;
}

/* Takes an answer's body where it does not flow by itself. */
static void
lane_read(struct lane *l)
{
	struct poller *p = l->p;
	struct end *far = &l->c->far;
	struct message *m = &l->piece.message;
	struct buf in = far->in;
	size_t used = in.len;
	int over = 0;
	ssize_t r;

	if (m->in == BODY_NONE) {
		lane_over(l);
		return;
	}
	if (l->stream && p->t->far.peer != NULL) {
		far->message = m;
		l->piece.inner = p->t->far.message;
		if (!p->t->asker->inner)
			far->meter = &tunnel_totals(p->t)->down;
		end_join(far, p->t->far.peer);
		return;
	}
	if (in.len > 0) {
		memset(&far->in, 0, sizeof(far->in));
		r = m->codec->decode(m, in.p + in.off, in.len, &used, &over);
		if (r == -1) {
			buf_free(&in);
			lane_fail(l, "a malformed body");
			return;
		}
		l->persists &= used == in.len;
		if (!l->stream)
			lane_text(l, (char *)in.p + in.off, (size_t)r);
		else if (r > 0)
			end_came(&p->t->far, in.p + in.off, (size_t)r);
		buf_free(&in);
		if (l->c == NULL || &l->c->far != far || p->gone)
			return;		/* the tunnel ended by that */
	}
	if (over || (far->eof && m->in == BODY_CLOSE)) {
		l->persists &= !far->eof;
		lane_over(l);
	} else if (far->eof)
		lane_fail(l, "closed within an answer");
	else if (l->stream && p->t->far.peer != NULL)
		lane_read(l);
}

/* 401, or 407 of the proxy before: asks again with credentials. */
static int
lane_challenged(struct lane *l, const struct head *h)
{
	struct poller *p = l->p;
	struct hop *hop = h->status == 401 ? p->hop : p->via;
	unsigned bit = h->status == 401 ? 1 : 2;
	const char *wrong;
	struct offer offer;

	if (hop == NULL)
		return 0;
	hop_offers(h, &offer);
	wrong = hop_accept(hop, bit == 1 ? &p->demand : &hop->demand, &offer,
	    (l->authorized & bit) != 0, &l->renewed);
	if (wrong == NULL) {
		p->answered = (p->answered | bit) & 3;
		return 1;
	}
	poller_fail(p, hop->who, 502, h->status, "%d %s (offered: %s%s)%s",
	    h->status, status_reason(h->status), offer.names, wrong,
	    offer_hint(&offer));
	return -1;
}

/* Where the target's direction ends, as far as it is said.  -1: impossible. */
static int
lane_end(struct lane *l)
{
	struct poller *p = l->p;
	uint64_t to = l->offset;

	if (l->piece.message.in == BODY_LENGTH)
		to += l->piece.message.left;
	if (l->end != UNKNOWN && p->end != UNKNOWN && l->end != p->end)
		return -1;
	if (l->end != UNKNOWN)
		p->end = l->end;
	return to <= p->end ? 0 : -1;
}

/* The head of an answer. */
static void
lane_answer(struct lane *l, const struct head *h, size_t len)
{
	struct poller *p = l->p;
	int r = 0, to, end;

	l->status = h->status;
	to = head_number(h, "Tunnel-Offset", &l->to);
	l->native = to == 1;
	if ((end = head_number(h, "Tunnel-End", &l->end)) != 1)
		l->end = UNKNOWN;
	if (p->dialect == NATIVE && (to == -1 || end == -1)) {
		poller_fail(p, p->hop->who, 502, h->status, "a malformed %s",
		    to == -1 ? "Tunnel-Offset" : "Tunnel-End");
		return;
	}
	memset(&l->piece, 0, sizeof(l->piece));
	l->piece.message.in = head_framing(h, &l->piece.message.left);
	l->piece.have = &p->have;
	l->piece.pos = l->offset;
	l->persists = head_persists(h) &&
	    l->piece.message.in != BODY_CLOSE;
	if (h->status == 401 || h->status == 407)
		r = lane_challenged(l, h);
	if (r == -1)
		return;
	if (l->purport == TO_GET && l->native && h->status < 300 &&
	    p->t != NULL && lane_end(l) == -1) {
		poller_fail(p, p->hop->who, 502, h->status,
		    "an impossible Tunnel-End");
		return;
	}
	buf_take(&l->c->far.in, len);
	l->retry = r == 1;
	l->stream = l->purport == TO_GET && h->status == 200 &&
	    p->t != NULL && (p->dialect != NATIVE ||
	    (l->native && l->to == l->offset));
	l->piece.message.codec = l->stream ? &piece_codec : &message_codec;
	if (l->stream)
		lane_wait(l);
	lane_read(l);
}

/* What comes on a lane's connection. */
static void
lane_input(struct lane *l)
{
	struct end *far = &l->c->far;
	struct head h;
	ssize_t n;

	if (!l->sent) {			/* nothing was asked: it is closed */
		lane_drop(l);
		return;
	}
	if (l->status != 0) {
		lane_read(l);
		return;
	}
	for (;;) {
		n = far->in.len == 0 ? 0 : head_reply(&h,
		    far->in.p + far->in.off, far->in.len);
		if (n <= 0 || h.status >= 200)
			break;
		buf_take(&far->in, (size_t)n);
	}
	if (n > 0) {
		say_head(l->p->hop->who, '<', far->in.p + far->in.off,
		    (size_t)n);
		lane_answer(l, &h, (size_t)n);
	} else if (n == -1 || far->eof)
		lane_fail(l, n == -1 ? "not an HTTP reply" :
		    "closed without a reply");
}

/* Its connection broke. */
static void
lane_broken(struct lane *l, int error, const char *why)
{
	/* A command that fails will do so again, unless it has worked. */
	if (error == ECHILD && !l->p->open && l->purport == TO_OPEN)
		poller_fail(l->p, l->p->hop->who, 502, 0, "%s", why);
	else if (l->busy)
		lane_fail(l, why);
	else
		lane_drop(l);
}

static void
lane_opened(struct tunnel *c)
{
	if (c->lane != NULL)
		lane_send(c->lane);
}

/* There is no connection; the first one has to be. */
static void
lane_refused(struct tunnel *c)
{
	const struct fault f = c->opening->fault;
	const char *who = f.who;
	struct lane *l = c->lane;
	struct poller *p;
	int broke;

	if (l == NULL)
		return;
	p = l->p;
	/* One that breaks at once is not one that is refused. */
	broke = f.received == 0 &&
	    (strcmp(f.error, "destination_unavailable") == 0 ||
	    strcmp(f.error, "connection_terminated") == 0);
	p->broke = c->opening->hop;
	if (!p->posted && p->t != NULL && !broke)
		(void)poller_blame(p, &who);
	lane_drop(l);
	if (!p->posted && p->t != NULL && !broke) {
		p->t->opening->fault.received = f.received;
		tunnel_refuse(p->t, f.status, f.error, f.who, "%s", f.what);
	} else
		lane_fail(l, f.what);
}

static void
lane_ended(struct tunnel *c, const char *why, int broken)
{
	struct lane *l = c->lane;

	(void)broken;
	if (l == NULL)
		return;
	c->lane = NULL;
	l->c = NULL;
	if (l->busy)
		lane_fail(l, why);
	l->kept = 0;
}

static const struct asker by_lane = {
	lane_opened, lane_refused, lane_ended, 0, 1
};

/* An idle session wants a request now and then. */
static void
poller_keep(void *arg)
{
	struct poller *p = arg;

	timer_set(&p->timer, POLL_KEEP_MS, poller_keep, p);
	/*
	 * No request waits there where we are slow to take an answer, or have
	 * no connection to ask on.
	 */
	if ((p->lane[DOWN].sent && !p->lane[DOWN].stream) ||
	    p->dialect != NATIVE)
		return;
	p->keeping = 1;
	lane_go(&p->lane[UP]);
}

/* There is something to say: not before what else comes in this turn. */
static void
poller_rouse(struct poller *p)
{
	struct lane *up = &p->lane[UP];

	if (!up->busy && up->timer.next == NULL)
		timer_set(&up->timer, 0, lane_again, up);
}

static void
poller_resume(struct poller *p)
{
	if (p->lane[DOWN].timer.next == NULL)
		lane_go(&p->lane[DOWN]);
}

static ssize_t
poller_send(struct end *far, const void *bytes, size_t n)
{
	struct poller *p = ((struct tunnel *)far->owner)->poller;
	size_t room;

	if (p == NULL) {		/* a PUT is still under way */
		errno = EPIPE;
		return -1;
	}
	room = p->up.len < POLL_WINDOW ? POLL_WINDOW - p->up.len : 0;
	if (n > room)
		n = room;
	if (n == 0 || buf_put(&p->up, bytes, n) == -1) {
		errno = n == 0 ? EAGAIN : ENOMEM;
		return -1;
	}
	poller_rouse(p);
	return (ssize_t)n;
}

/* Our direction's end is said when the server has all, and knows it. */
static int
poller_finish(struct end *far)
{
	struct poller *p = ((struct tunnel *)far->owner)->poller;

	if (p == NULL)
		return 0;
	if (!p->ended) {
		p->ended = 1;
		poller_rouse(p);
	}
	if (p->dialect != NATIVE && p->up.len == 0)
		p->acked = 1;
	if (p->acked)
		return 0;
	errno = EAGAIN;
	return -1;
}

static const struct carrier poller_carrier = {
	NULL, poller_send, poller_finish, 0
};

/* Opens a session for the hop; before it is that one, NULL: it is the first. */
static void
poller_start(struct tunnel *t, struct hop *h, struct hop *before)
{
	struct opening *o = t->opening;
	struct poller *p;
	size_t i;

	poller_leave(t);
	if ((p = calloc(1, sizeof(*p))) == NULL) {
		tunnel_refuse(t, 503, "connection_limit_reached", h->who,
		    "%s", strerror(ENOMEM));
		return;
	}
	p->next = pollers;
	pollers = p;
	p->t = t;
	t->poller = p;
	p->hop = h;
	p->first = o->first;
	if ((p->forward = t->forward) != NULL)
		p->forward->refs++;
	p->chain = o->chain;
	memcpy(p->pick, o->pick, sizeof(p->pick));
	if (before != NULL && before->carriage == BY_CONNECT && !h->tls)
		p->via = before;
	p->answered = opt.auth == AUTH_BASIC && hop_ready(h) ? 1 : 0;
	if (opt.auth == AUTH_BASIC && p->via != NULL && hop_ready(p->via))
		p->answered |= 2;
	p->end = UNKNOWN;
	p->body = p->most = POLL_WINDOW;
	p->heard = loop_now();
	random_hex(p->id, 16);
	for (i = 0; i < LANES; i++)
		p->lane[i].p = p;
	o->hop = h;
	lane_go(&p->lane[UP]);
}

/* ---- reverse: links at the gateway (-l -r) ----------------------------------- */

/*
 * A link is a WebSocket on which an exit waits for one CONNECT.  All that are
 * parked are worker 0's, whichever worker they came to; it gives them to the
 * tunnels that want one, in the order in which they asked.
 */
struct want {
	struct want	*next;
	int		 worker;
	unsigned	 id;
};

static struct want *wants;

/* The tunnel wants a link. */
static void
link_want(struct tunnel *t)
{
	static unsigned last;
	struct opening *o = t->opening;

	o->hop = &exit_hop;
	if (++last == 0)
		last = 1;
	o->want = last;
	(void)crew_tell(CREW_WANT, 0, o->want, -1);
}

/* A new link, in whatever worker: off to worker 0. */
static void
link_give(struct tunnel *t)
{
	int fd;

	if (!end_alive(&t->near)) {
		tunnel_close(t, "no link", 1);
		return;
	}
	fd = end_release(&t->near);
	tunnel_close(t, "parked", 0);
	(void)crew_tell(CREW_PARK, 0, 0, fd);
}

/*
 * The link for the next one who wants: the one that waited longest of those
 * that are alive.  NULL: there is none.
 */
static struct tunnel *
link_find(void)
{
	struct tunnel *t, *found = NULL;

	/* The list begins with the newest. */
	for (t = tunnels; t != NULL; t = t->next)
		if (t->state == PARKED && end_alive(&t->near))
			found = t;
	return found;
}

/* Those that were not heard of for a while have to prove that they live. */
static void
links_probe(void)
{
	struct tunnel *t;

	for (t = tunnels; t != NULL; t = t->next)
		if (t->state == PARKED &&
		    loop_now() - end_heard(&t->near) >= LINK_QUIET_MS)
			end_ping(&t->near);
}

static void
links_match(void)
{
	struct tunnel *t;
	struct want *w;
	int fd;

	while ((w = wants) != NULL && (t = link_find()) != NULL) {
		wants = w->next;
		fd = end_release(&t->near);
		t->state = HEAD;
		tunnel_close(t, "used", 0);
		links_probe();
		(void)crew_tell(CREW_LINK, w->worker, w->id, fd);
		free(w);
	}
}

static void
link_wanted(int worker, unsigned id)
{
	struct want *w, **tail;

	for (tail = &wants; (w = *tail) != NULL; tail = &w->next)
		if (w->worker == worker && w->id == id)
			break;
	if (w == NULL && (w = calloc(1, sizeof(*w))) != NULL) {
		w->worker = worker;
		w->id = id;
		*tail = w;
	}
	links_match();
}

static void
link_unwanted(int worker, unsigned id)
{
	struct want *w, **link;

	for (link = &wants; (w = *link) != NULL; link = &w->next)
		if (w->worker == worker && w->id == id) {
			*link = w->next;
			free(w);
			return;
		}
}

/* Something of a parked link: an answer to a Ping, or what may not be. */
static void
link_input(struct tunnel *t)
{
	if (t->near.in.len > 0 || t->near.eof)
		tunnel_close(t, "no request was sent", 1);
	else
		links_match();
}

static void
link_arrived(int fd)
{
	struct tunnel *t;
	union addr peer;

	fd_own(fd);
	if (fd_peer(fd, &peer) == -1 || draining || load >= tunnels_max()) {
		close(fd);
		return;
	}
	if ((t = tunnel_accept(&by_request, &request_steps, fd, &peer)) == NULL)
		return;
	t->state = PARKED;
	t->status = 101;
	t->what = strdup("exit.httptun");
	if (end_websocket(&t->near, 0, WS_ENDS) == -1)
		tunnel_close(t, "no memory", 1);
	else
		links_match();
}

/* The link that a tunnel of this worker wanted. */
static void
link_got(unsigned id, int fd)
{
	struct tunnel *t;

	for (t = tunnels; t != NULL; t = t->next)
		if (t->opening != NULL && t->opening->want == id)
			break;
	if (t == NULL) {		/* it has gone meanwhile */
		(void)crew_tell(CREW_PARK, 0, 0, fd);
		return;
	}
	t->opening->want = 0;
	fd_own(fd);
	end_socket(&t->far, fd, &far_steps, t);
	if (end_websocket(&t->far, 0, WS_ENDS) == -1) {
		tunnel_refuse(t, 503, "proxy_internal_error", "exit", "%s",
		    strerror(ENOMEM));
		return;
	}
	end_pulse(&t->far, LINK_QUIET_MS, LINK_GRACE_MS);
	hop_ask(t);
}

/* ---- reverse: an exit (-r) ------------------------------------------------------ */

static struct {
	int		 links;		/* that are asked for or parked */
	int		 asking;	/* that are asked for */
	int		 trouble;	/* the last one failed */
	int		 delay;		/* ms until the next try */
	struct timer	 timer;
	char		 said[WHY_MAX + HOST_MAX];	/* of the trouble */
} exits = { 0, 0, 0, EXIT_DELAY_MS, { NULL, NULL, 0, NULL, NULL }, "" };

static const struct asker by_exit;

/* Asks for as many links as there are to be; in trouble for one. */
static void
exit_fill(void *arg)
{
	struct hop *last = opt.hops;
	struct tunnel *t;

	(void)arg;
	while (last->next != NULL)
		last = last->next;
	while (exits.links < PARKED_LINKS && exits.timer.next == NULL &&
	    !(exits.trouble && exits.asking > 0) && tunnels_room()) {
		if ((t = tunnel_new(&by_exit)) == NULL)
			return;
		exits.links++;
		exits.asking++;
		tunnel_open(t, last->host, last->port, opt.hops, NULL);
	}
}

/* A link was lost or could not be had: the next try is not at once. */
static void
exit_retry(int least)
{
	unsigned char jitter;
	int ms;

	exits.links--;
	exits.trouble = 1;
	if (exits.timer.next != NULL)
		return;
	if (exits.delay < least)
		exits.delay = least;
	random_bytes(&jitter, 1);
	ms = exits.delay + exits.delay * jitter / 1024;
	if (ms > EXIT_DELAY_MAX_MS)
		ms = 2 * EXIT_DELAY_MAX_MS - ms;
	exits.delay = exits.delay > EXIT_DELAY_MAX_MS / 2 ?
	    EXIT_DELAY_MAX_MS : 2 * exits.delay;
	timer_set(&exits.timer, ms, exit_fill, NULL);
}

/* The gateway proved to be one. */
static void
exit_good(void)
{
	exits.delay = EXIT_DELAY_MS;
	exits.said[0] = '\0';
}

static void
exit_stood(void *arg)
{
	(void)arg;
	exit_good();
}

/* The way to the gateway is open: what was the far end waits for a CONNECT. */
static void
exit_park(struct tunnel *t)
{
	opening_learn(t->opening);
	opening_drop(t);
	timer_set(&t->deadline, EXIT_STOOD_MS, exit_stood, NULL);
	free(t->what);
	t->what = NULL;
	t->state = HEAD;
	t->at_exit = t->vouched = 1;
	t->near_sleeve = t->sleeve;
	t->sleeve = NULL;
	(void)fd_peer(t->far.rfd, &t->client);
	end_move(&t->near, &t->far, &request_steps, t);
	exits.asking--;
	exits.trouble = 0;
	exit_fill(NULL);
	if (t->near.in.len > 0 || t->near.eof)
		request_input(t, &t->near);
}

/* The link has its request: another one takes its place. */
static void
exit_used(struct tunnel *t)
{
	t->used = 1;
	t->since = loop_now();
	request_wait(t);
	exit_good();
	exits.links--;
	timer_stop(&exits.timer);
	exit_fill(NULL);
}

/* There is no way to the gateway. */
static void
exit_refused(struct tunnel *t)
{
	const struct fault *f = &t->opening->fault;
	char what[sizeof(exits.said)];
	int rejected = f->received >= 400 && f->received <= 499;

	snprintf(what, sizeof(what), "%s", f->what);
	if (strcmp(what, exits.said) != 0)
		say(f->who, "%s", what);
	memcpy(exits.said, what, sizeof(what));
	t->state = HEAD;		/* no line in the log */
	exits.asking--;
	exit_retry(rejected ? EXIT_REJECTED_MS : 0);
	t->used = 1;
	tunnel_close(t, "refused", 1);
}

static void
exit_opened(struct tunnel *t)
{
	if (t->at_exit)
		request_opened(t);
}

static void
exit_declined(struct tunnel *t)
{
	(t->at_exit ? request_refused : exit_refused)(t);
}

static void
exit_ended(struct tunnel *t, const char *why, int broken)
{
	(void)why;
	(void)broken;
	if (!t->used) {
		exits.asking -= !t->at_exit;
		exit_retry(0);
	}
}

static const struct asker by_exit = {
	exit_opened, exit_declined, exit_ended, 0, 0
};

static void
exit_start(void)
{
	const struct hop *h;

	for (h = opt.hops; h != NULL && h->next != NULL; h = h->next)
		;
	for (; h != NULL && h->carriage == BY_WS && h->other != NULL; )
		h = h->other;
	if (h == NULL || h->carriage != BY_WS)
		die(2, "-r", "the last -x has to be a gateway, ws://");
	hop_credentials(opt.hops);
	farewell_watch(opt.hops);
	exit_fill(NULL);
}

/* ---- listen mode: processes ---------------------------------------------------- */

static void
listeners_close(void)
{
	struct listener *l;

	for (l = listeners; l != NULL; l = l->next)
		listener_stop(l);
}

static void
worker_start(int number)
{
	totals = &all_totals[number];
	nonces_floor = loop_now();	/* up to now they were another one's */
	if (farewells) {
		signal_end();
		signal_farewell(on_farewell);
	}
	listen_start(listeners);
}

/* Tunnels go on; requests that have not come yet come too late. */
static void
requests_end(void)
{
	struct tunnel *t;

	draining = 1;
	for (t = tunnels; t != NULL; t = t->next)
		if (t->state == HEAD || t->state == PARKED)
			tunnel_close(t, "done", 0);
}

static void
worker_drain(void)
{
	listeners_close();
	requests_end();
	worker_load();
}

static void
creds_reload(int quiet)
{
	struct cred *list = cred_read(opt.cred_file, quiet);

	if (list == NULL)
		return;
	cred_free(opt.creds);
	opt.creds = list;
}

static void
worker_note(const struct note *n, int fd)
{
	switch (n->what) {
	case CREW_PARK:
		link_arrived(fd);
		break;
	case CREW_WANT:
		link_wanted(n->worker, n->id);
		break;
	case CREW_UNWANT:
		link_unwanted(n->worker, n->id);
		break;
	case CREW_LINK:
		link_got(n->id, fd);
		break;
	case CREW_CLAIM:
		slot_claim(n->worker, n->id);
		break;
	case CREW_CLAIMED:
		session_claimed(n->id);
		break;
	case CREW_REQUEST:
	case CREW_NONCE:
		request_passed(fd, n->bytes, n->len);
		break;
	case CREW_DRAIN:
		worker_drain();
		break;
	case CREW_FAREWELL:
		program_leave();
		break;
	case CREW_RELOAD:
		creds_reload(1);
		break;
	default:
		leaving = n->what == CREW_LEAVE;
		worker_load();
		break;
	}
}

static void
worker_ended(int number, int pid, int how)
{
	char who[32];

	all_totals[number].open = 0;
	registry->top[number] = 0;
	if (farewelled || (WIFEXITED(how) && WEXITSTATUS(how) == 0))
		return;
	snprintf(who, sizeof(who), "worker %d", pid);
	if (WIFSIGNALED(how))
		say(who, "ended by signal %d, and its tunnels with it",
		    WTERMSIG(how));
	else
		say(who, "ended with status %d, and its tunnels with it",
		    WEXITSTATUS(how));
}

static void
workers_full(int error)
{
	say("full", "%d processes; more clients wait (%s)", crew_size(),
	    error != 0 ? strerror(error) : "no more processes");
}

static struct crew crew = {
	1, worker_start, worker_note, worker_ended, workers_full
};

static void
on_reload(void)
{
	creds_reload(0);
	crew_order_all(CREW_RELOAD);
}

static void
on_drain(void)
{
	listeners_close();
	crew_order_all(CREW_DRAIN);
	if (crew_size() == 0)
		loop_stop();
}

static void
on_totals(void)
{
	struct totals sum = { 0, 0, 0, 0, 0 };
	int i, n = all_totals == &own_totals ? 1 : WORKERS_MAX;
	const struct forward *f;

	for (i = 0; i < n; i++)
		totals_add(&sum, &all_totals[i]);
	for (f = opt.forwards; f != NULL; f = f->next)
		totals_add(&sum, &f->totals);
	say("totals", "%llu open, %llu tunnels, %llu refused, %llu bytes up, "
	    "%llu bytes down, %d workers", sum.open, sum.tunnels,
	    sum.refused, sum.up, sum.down, n == 1 ? 1 : crew_size());
	for (f = opt.forwards; f != NULL; f = f->next)
		forward_totals(f);
}

/* A proxy for the one client on stdin and stdout. */
static void
inetd_ended(struct tunnel *t, const char *why, int broken)
{
	(void)t;
	(void)why;
	status = broken;
	program_stop();
}

static const struct asker by_inetd = {
	request_opened, request_refused, inetd_ended, 0, 0
};

/* Whoever accepted for us may listen on all addresses. */
static void
inetd_listener(void)
{
	static struct listener l;
	union addr here;
	socklen_t len = sizeof(here);

	if (getsockname(STDIN_FILENO, &here.sa, &len) == -1)
		return;
	(void)addr_literal(&l.addr, "0.0.0.0", addr_port(&here));
	listeners = &l;
}

static void
inetd_start(void)
{
	struct tunnel *t;
	union addr peer;

	hop_credentials(opt.hops);
	if (opt.cred_file != NULL)
		signal_watch(SIGHUP, on_reload);
	signal_watch(SIGQUIT, requests_end);
	farewell_watch(opt.hops);
	random_bytes(nonce_secret, sizeof(nonce_secret));
	if ((t = tunnel_new(&by_inetd)) == NULL)
		die(1, "memory", "%s", strerror(errno));
	if (fd_peer(STDIN_FILENO, &peer) == -1) {
		tunnel_close(t, "", 1);	/* he would count as one from here */
		return;
	}
	if (peer.sa.sa_family != AF_UNSPEC) {
		inetd_listener();
		tunnel_client(t, STDIN_FILENO, &peer);
	} else
		t->local = 1;
	if (fd_is_socket(STDIN_FILENO)) {
		fd_own(STDIN_FILENO);
		end_socket(&t->near, STDIN_FILENO, &request_steps, t);
	} else {
		end_stdio(&t->near, &request_steps, t);
		t->near.deaf = 0;
	}
	request_wait(t);
}

/*
 * Whether listen mode ever looks a name up: a target's (with -r that of a URL
 * which may be our own), or one of those that may stand first before it.
 */
static int
names_come(void)
{
	const struct hop *h;
	union addr a;

	if (reach.literals)
		return 0;
	for (h = opt.hops; h != NULL; h = h->other)
		if (h->carriage != BY_EXEC &&
		    addr_literal(&a, h->host, h->port) == -1)
			return 1;
	return opt.hops == NULL;
}

static void
proxy_start(void)
{
	union addr a[LISTEN_ADDRS];
	struct listener *l;
	int guarded = opt.creds != NULL || rules_open(opt.clients) ||
	    rules_open(opt.targets), passed;

	if (opt.port != NO_PORT)
		(void)listen_check(a, opt.addr, opt.port, "-l", guarded);
	passed = listen_passed(&listeners);
	if (opt.port != NO_PORT && passed != 0)
		die(2, "LISTEN_FDS", "-l takes no operand then");
	for (l = listeners; l != NULL; l = l->next)
		listen_guard(&l->addr, guarded);
	if (opt.port == NO_PORT && passed <= 0)
		die(2, "LISTEN_FDS", "no listening TCP socket");
	if (names_come() && lookup_init() == -1)
		die(1, "look-up helper", "%s", strerror(errno));
	hop_credentials(opt.hops);
	all_totals = shared_alloc(WORKERS_MAX * sizeof(*all_totals));
	registry = shared_alloc(sizeof(*registry));
	if (all_totals == NULL || registry == NULL)
		die(1, "memory", "%s", strerror(errno));
	if (opt.port != NO_PORT)
		listen_bind(&listeners, opt.addr, opt.port);
	if (opt.cred_file != NULL)
		signal_watch(SIGHUP, on_reload);
	signal_watch(SIGQUIT, on_drain);
	farewell_watch(opt.hops);
	crew.min = opt.workers;
	listen_for(listeners, request_accepted, NULL);
	random_bytes(nonce_secret, sizeof(nonce_secret));
	if (crew_start(&crew) == -1)
		die(1, "worker", "%s", strerror(errno));
	listen_announce(listeners);
}

/* ---- options --------------------------------------------------------------------- */

static const char usage_line[] =
    "usage: httptun [-46hNnVvz] [-x hop] ... host port | -L spec ... | "
    "-f file | -l [addr] port\n";

static const char usage_text[] =
"       httptun [options] [-x hop]... host port           bridge stdin/stdout\n"
"       httptun [options] [-x hop]... -L [addr:]port:host:hostport ...\n"
"                                                         bridge local ports\n"
"       httptun [options] [-x hop]... -f file             the same, from a file\n"
"       httptun -l [options] [-x hop]... [addr] port      be a proxy\n"
"       httptun -l -i [options] [-x hop]...               for one client (inetd)\n"
"       httptun -l -r [options] [addr] port               be a gateway of exits\n"
"       httptun -r [options] [-x hop]... -x ws://gateway:port/   be an exit\n"
"       httptun [options] [-x hop]... ws://host:port/path with a WebSocket server\n"
"\n"
"  -4, -6       IPv4 only, IPv6 only\n"
"  -A scheme    any (default), digest, or basic (sent at once); -l offers it\n"
"  -a file      credentials, a line user:password each\n"
"  -c rule      clients allowed: [!]address[/bits] or any (-l, -L, -f)\n"
"  -F           pass the open socket over stdout (ssh's ProxyUseFdpass)\n"
"  -f file      forwards, a line [addr:]port host port [proxy port | -x hop ...]\n"
"               [-c rule ...] each; - is stdin; a changed file is taken up\n"
"  -H field     Name: value for the first hop's request; Name: removes it\n"
"  -h           this text\n"
"  -I secs      close a tunnel that has been idle so long\n"
"  -i           the client is on stdin/stdout (inetd; -l)\n"
"  -j n         worker processes to start with (default 1; -l)\n"
"  -L spec      forward a local port (or [addr:]port:URL); repeatable\n"
"  -l           listen: be a proxy\n"
"  -N           accepted for nc's sake: half-close is always carried\n"
"  -n           no name look-ups here\n"
"  -P user      the first hop's user; the password is asked on the terminal\n"
"  -r           with -l: tunnels leave through exits that register here;\n"
"               without: be such an exit, of the gateway that the last -x is\n"
"  -s addr      source address\n"
"  -T           only TLS may flow (-l)\n"
"  -t rule      targets allowed: [!]host[:ports] (-l, -r)\n"
"  -V           version\n"
"  -v           a line for each tunnel on stderr; -vv heads too\n"
"  -w secs      time that opening a tunnel may take (default 30)\n"
"  -X carrier   of hops without a scheme: connect (default), ws, poll\n"
"  -x hop       [user[:password]@]host[:port], or that behind http://, ws://\n"
"               or poll://, over TLS https://, wss:// or polls://; exec:command;\n"
"               direct; with commas: alternatives; repeatable, passed in order\n"
"  -z           open the tunnel, close it, report by exit status\n";

static void
usage(void)
{
	(void)!write(STDERR_FILENO, usage_line, sizeof(usage_line) - 1);
	exit(2);
}

static void
opt_host(char *host, const char *s, size_t n, const char *who)
{
	const char *wrong = host_read(host, s, n);

	if (wrong != NULL)
		die(2, who, "%s '%.*s'", wrong, (int)n, s);
}

static unsigned
opt_port(const char *s, size_t n, long min, const char *who)
{
	long v = text_number(s, n, min, 65535);

	if (v == -1)
		die(2, who, "bad port '%.*s'", (int)n, s);
	return (unsigned)v;
}

static int
opt_secs(const char *s, const char *who)
{
	long v = text_number(s, strlen(s), 1, 999999999);

	if (v == -1)
		die(2, who, "bad number of seconds '%s'", s);
	return (int)v;
}

static void
opt_A(char *arg)
{
	if (strcmp(arg, "any") == 0)
		opt.auth = AUTH_ANY;
	else if (strcmp(arg, "basic") == 0)
		opt.auth = AUTH_BASIC;
	else if (strcmp(arg, "digest") == 0)
		opt.auth = AUTH_DIGEST;
	else
		die(2, "-A", "no scheme '%s': any, basic or digest", arg);
}

static void
opt_c(char *arg)
{
	rule_add(&opt.clients, arg, 'c');
}

static void
opt_t(char *arg)
{
	rule_add(&opt.targets, arg, 't');
}

static void
opt_H(char *arg)
{
	struct extra *x = xalloc(sizeof(*x)), **tail = &opt.extras;
	char *own = xdup(arg, strlen(arg)), *colon = strchr(own, ':'), *p;
	struct field *f = &x->field;

	if (colon == NULL)
		die(2, "-H", "no 'Name: value'");
	f->name.p = own;
	f->name.n = (size_t)(colon - own);
	for (p = colon + 1; *p == ' '; p++)
		;
	f->value.p = p;
	for (f->value.n = strlen(p); f->value.n > 0 &&
	    p[f->value.n - 1] == ' '; f->value.n--)
		;
	if (!field_valid(f->name, f->value))
		die(2, "-H", "bad field");
	x->remove = f->value.n == 0;
	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = x;
	memset(arg + (p - own), '*', strlen(p));
}

static void
opt_I(char *arg)
{
	opt.idle = opt_secs(arg, "-I");
}

static void
opt_j(char *arg)
{
	long v = text_number(arg, strlen(arg), 1, WORKERS_MAX);

	if (v == -1)
		die(2, "-j", "bad number of processes '%s' (1-%d)", arg,
		    WORKERS_MAX);
	opt.workers = (int)v;
}

static void
opt_w(char *arg)
{
	opt.wait = opt_secs(arg, "-w");
}

/* Parts between colons, IPv6 addresses in brackets.  Their number, or 0. */
static size_t
opt_parts(struct span *part, size_t max, const char *p, const char *end)
{
	size_t n, k;

	for (n = 0; n < max; p++) {
		k = *p == '[' ? strcspn(p, "]") : 0;
		k += strcspn(p + k, ":");
		part[n].p = p;
		part[n].n = k < (size_t)(end - p) ? k : (size_t)(end - p);
		p += part[n++].n;
		if (p == end)
			return n;
	}
	return 0;
}

/* Where a URL begins behind a colon; NULL: nowhere. */
static char *
opt_url(char *arg)
{
	char *p = strstr(arg, "://");

	while (p != NULL && p > arg && p[-1] != ':')
		p--;
	return p == arg ? NULL : p;
}

/* [addr:]port:host:hostport, or [addr:]port:URL */
static void
opt_L(char *arg)
{
	struct forward *f = xalloc(sizeof(*f)), **tail = &opt.forwards;
	char *url = opt_url(arg);
	struct span part[4], *p = part;
	union addr a;
	size_t n, k, to = url != NULL ? 0 : 2;

	n = opt_parts(part, 2 + to, arg, url != NULL ? url - 1 :
	    arg + strlen(arg));
	if (n < 1 + to) {
		hop_mask(url != NULL ? url : arg);
		die(2, "-L", "%s: not [addr:]port:host:hostport", arg);
	}
	if (n == 2 + to) {
		k = p->n >= 2 && p->p[0] == '[' ? 1 : 0;
		f->addr = xdup(p->p + k, p->n - 2 * k);
		if (k > 0 && addr_literal(&a, f->addr, 0) == -1)
			die(2, "-L", "bad address '%s'", f->addr);
		p++;
	}
	f->port = opt_port(p->p, p->n, 0, "-L");
	if (url != NULL) {
		f->bridge = bridge_new(url, "-L");
		strcpy(f->host, f->bridge->host);
		f->hostport = f->bridge->port;
	} else {
		opt_host(f->host, p[1].p, p[1].n, "-L");
		f->hostport = opt_port(p[2].p, p[2].n, 1, "-L");
	}
	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = f;
}

static void
opt_P(char *arg)
{
	if (has_control(arg) || strchr(arg, ':') != NULL ||
	    strlen(arg) > CRED_MAX / 2)
		die(2, "-P", "bad user");
	opt.user = arg;
}

static void
opt_s(char *arg)
{
	if (addr_literal(&reach.source, arg, 0) == -1)
		die(2, "-s", "bad address '%s'", arg);
}

static void
opt_X(char *arg)
{
	if (strcmp(arg, "4") == 0 || strcmp(arg, "5") == 0)
		die(2, "-X", "SOCKS is not spoken; connect is");
	if (strcmp(arg, "connect") == 0)
		opt.carriage = BY_CONNECT;
	else if (strcmp(arg, "ws") == 0)
		opt.carriage = BY_WS;
	else if (strcmp(arg, "poll") == 0)
		opt.carriage = BY_POLL;
	else
		die(2, "-X", "no carrier of this version: '%s'", arg);
}

static void
opt_x(char *arg)
{
	struct hop **tail = &opt.hops;
	int n = 0;

	if (strcmp(arg, "direct") == 0) {
		opt.direct = 1;
		return;
	}
	for (; *tail != NULL; tail = &(*tail)->next)
		n++;
	*tail = hop_new(arg, strlen(arg));
	hop_mask(arg);
	if (n == HOPS_MAX)
		die(2, "-x", "%s: too many hops", arg);
}

static void
opt_4(char *arg)
{
	(void)arg;
	reach.family = AF_INET;
}

static void
opt_6(char *arg)
{
	(void)arg;
	reach.family = AF_INET6;
}

static void
opt_a(char *arg)
{
	if (*arg == '\0')
		die(2, "-a", "no file");
	opt.cred_file = arg;
}

static void
opt_f(char *arg)
{
	if (opt.file != NULL)
		die(2, "-f", "one file only");
	if (*arg == '\0')
		die(2, "-f", "no file");
	opt.file = arg;
}

static void
opt_h(char *arg)
{
	(void)arg;
	printf("%s%s", usage_line, usage_text);
	exit(fflush(stdout) == 0 ? 0 : 1);
}

static void
opt_V(char *arg)
{
	(void)arg;
	printf("httptun " VERSION "\n");
	exit(fflush(stdout) == 0 ? 0 : 1);
}

static int nothing;

/* Each option: its modes, and a counter or a function that takes it. */
static const struct option {
	char	 letter;
	char	 arg;			/* ':' takes an argument */
	int	 modes;
	int	*count;
	void	(*take)(char *);
} options[] = {
	{ '4', 0,   MODE_ALL, NULL, opt_4 },
	{ '6', 0,   MODE_ALL, NULL, opt_6 },
	{ 'A', ':', MODE_ALL, NULL, opt_A },
	{ 'a', ':', MODE_ALL, NULL, opt_a },
	{ 'c', ':', MODE_LOCAL | MODE_LISTEN, NULL, opt_c },
	{ 'F', 0,   MODE_STDIO, &opt.fdpass, NULL },
	{ 'f', ':', MODE_LOCAL, NULL, opt_f },
	{ 'H', ':', MODE_ALL, NULL, opt_H },
	{ 'h', 0,   MODE_ALL, NULL, opt_h },
	{ 'I', ':', MODE_ALL, NULL, opt_I },
	{ 'i', 0,   MODE_LISTEN, &opt.inetd, NULL },
	{ 'j', ':', MODE_LISTEN, NULL, opt_j },
	{ 'L', ':', MODE_LOCAL, NULL, opt_L },
	{ 'l', 0,   MODE_LISTEN, &opt.listen, NULL },
	{ 'N', 0,   MODE_ALL, &nothing, NULL },
	{ 'n', 0,   MODE_ALL, &reach.literals, NULL },
	{ 'P', ':', MODE_STDIO | MODE_LOCAL | MODE_EXIT, NULL, opt_P },
	{ 'r', 0,   MODE_SERVE, &opt.reverse, NULL },
	{ 's', ':', MODE_ALL, NULL, opt_s },
	{ 'T', 0,   MODE_LISTEN, &opt.tls_only, NULL },
	{ 't', ':', MODE_SERVE, NULL, opt_t },
	{ 'V', 0,   MODE_ALL, NULL, opt_V },
	{ 'v', 0,   MODE_ALL, &opt.verbose, NULL },
	{ 'w', ':', MODE_ALL, NULL, opt_w },
	{ 'X', ':', MODE_ALL, NULL, opt_X },
	{ 'x', ':', MODE_ALL, NULL, opt_x },
	{ 'z', 0,   MODE_STDIO, &opt.zero, NULL },
};
#define OPTIONS	(sizeof(options) / sizeof(options[0]))

/* Takes the options; returns which were there, a bit for each row. */
static unsigned long
opt_parse(int argc, char **argv)
{
	char letters[2 * OPTIONS + 2], *p = letters, who[3] = "-?";
	const struct option *o;
	unsigned long seen = 0;
	size_t i;
	int c;

	*p++ = ':';
	for (i = 0; i < OPTIONS; i++) {
		*p++ = options[i].letter;
		if (options[i].arg != 0)
			*p++ = options[i].arg;
	}
	*p = '\0';
	while ((c = getopt(argc, argv, letters)) != -1) {
		who[1] = (char)(c == '?' || c == ':' ? optopt : c);
		if (c == '?')
			die(2, who, "no such option (-h tells)");
		if (c == ':')
			die(2, who, "wants an argument");
		for (i = 0; options[i].letter != c; i++)
			;
		o = &options[i];
		seen |= 1UL << i;
		if (o->take != NULL)
			o->take(optarg);
		else
			++*o->count;
	}
	return seen;
}

static void
opt_conflicts(unsigned long seen)
{
	char who[3] = "-?";
	size_t i;

	for (i = 0; i < OPTIONS; i++) {
		who[1] = options[i].letter;
		if (seen & 1UL << i && !(options[i].modes & (int)opt.mode))
			die(2, who, "not with %s", opt.mode == MODE_LISTEN ?
			    "-l" : opt.file != NULL ? "-f" :
			    opt.mode == MODE_LOCAL ? "-L" :
			    opt.mode == MODE_EXIT ? "-r" :
			    "stdin and stdout");
	}
	if (opt.direct && opt.hops != NULL)
		die(2, "-x", "direct, and hops");
	if (opt.inetd && opt.workers > 1)
		die(2, "-j", "not with -i");
	if (opt.inetd && opt.reverse)
		die(2, "-r", "not with -i");
	if (opt.mode == MODE_LISTEN && opt.reverse && opt.hops != NULL)
		die(2, "-x", "not with -l -r: tunnels leave through exits");
	if (opt.fdpass && opt.zero)
		die(2, "-F", "not with -z");
}

static void
opt_operands(int argc, char **argv)
{
	int i;

	/* A URL where none is wanted has no secrets, either. */
	for (i = 0; i < argc && (argc > 1 || opt.mode != MODE_STDIO); i++)
		hop_mask(argv[i]);
	switch (opt.mode) {
	case MODE_STDIO:
		if (argc == 1 && strstr(argv[0], "://") != NULL) {
			opt.bridge = bridge_new(argv[0], "destination");
			strcpy(opt.host, opt.bridge->host);
			opt.port = opt.bridge->port;
			break;
		}
		if (argc != 2)
			usage();
		opt_host(opt.host, argv[0], strlen(argv[0]), "host");
		opt.port = opt_port(argv[1], strlen(argv[1]), 1, "port");
		break;
	case MODE_LISTEN:
		opt.port = NO_PORT;
		if (argc == 0 && (opt.inetd || getenv("LISTEN_FDS") != NULL))
			break;
		if (argc < 1 || argc > 2 || opt.inetd)
			usage();
		opt.addr = argc == 2 ? argv[0] : NULL;
		opt.port = opt_port(argv[argc - 1], strlen(argv[argc - 1]), 0,
		    "port");
		break;
	default:
		if (argc != 0)
			usage();
	}
}

/* HTTPTUN_AUTH is for us alone: neither children nor ps -E see it. */
static void
opt_environment(void)
{
	char *v = getenv("HTTPTUN_AUTH");

	if (v == NULL)
		return;
	if (*v != '\0')
		opt.env_auth = xdup(v, strlen(v));
	secret_wipe(v, strlen(v));
	unsetenv("HTTPTUN_AUTH");
}

int
main(int argc, char **argv)
{
	unsigned long seen;

	fd_sane();
	opt.wait = OPEN_SECS;
	opt.workers = 1;
	seen = opt_parse(argc, argv);
	opt_environment();
	if (opt.inetd)
		fd_discreet();
	opt.mode = opt.listen ? MODE_LISTEN :
	    opt.forwards != NULL || opt.file != NULL ? MODE_LOCAL :
	    opt.reverse ? MODE_EXIT : MODE_STDIO;
	opt_conflicts(seen);
	hops_parse();
	opt_operands(argc - optind, argv + optind);
	if (opt.cred_file != NULL &&
	    (opt.creds = cred_read(opt.cred_file, 0)) == NULL)
		return 2;
	if (opt.mode != MODE_STDIO && !opt.inetd)
		reach.room = dials_room;	/* there are others */
	signal_end();
	signal_watch(SIGUSR1, on_totals);
#ifdef SIGINFO
	signal_watch(SIGINFO, on_totals);
#endif
	if (opt.inetd)
		inetd_start();
	else if (opt.mode == MODE_LISTEN)
		proxy_start();
	else if (opt.mode == MODE_EXIT)
		exit_start();
	else if (opt.mode == MODE_LOCAL)
		forwards_start();
	else
		stdio_start();
	loop_run();
	if (farewelled)
		signal_finish();
	commands_end();
	lookup_end();
	return status;
}
