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
 * httptun.c from inside: rules, no_proxy, hops, credentials and the options
 * that have a grammar.  What may end the program runs in a child, whose
 * stderr and exit status are looked at.
 */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int	httptun_main(int, char **);

/* There is no memory for this one of those that are wanted; 0: for all. */
static int starve;

static int
starved(void)
{
	if (starve == 0 || --starve > 0)
		return 0;
	errno = ENOMEM;
	return 1;
}

static void *
unit_calloc(size_t n, size_t size)
{
	return starved() ? NULL : calloc(n, size);
}

static char *
unit_strdup(const char *s)
{
	return starved() ? NULL : strdup(s);
}

static char *
unit_strndup(const char *s, size_t n)
{
	return starved() ? NULL : strndup(s, n);
}

/* Macros of a library's would stand in the way. */
#undef strdup
#undef strndup
#define calloc	unit_calloc
#define strdup	unit_strdup
#define strndup	unit_strndup
/* A child has nothing to write or to look for when it ends. */
#define exit	_exit
#define main	httptun_main
#include "../httptun.c"
#undef main
#undef exit
#undef calloc
#undef strdup
#undef strndup

#include <sys/wait.h>
#include <setjmp.h>
#include <signal.h>

#include <cmocka.h>

#define COUNT(a)	(sizeof(a) / sizeof((a)[0]))

/* ---- every test begins without options and without environment --------- */

static void
creds_free(struct cred **list)
{
	struct cred *c;

	while ((c = *list) != NULL) {
		*list = c->next;
		free(c->user);
		free(c->pass);
		free(c);
	}
}

static struct hop via;		/* one to be used */

static void
hop_free(struct hop *h)
{
	free(h->user);
	free(h->pass);
	free(h->path);
	memset(h, 0, sizeof(*h));
}

static int
nothing_set(void **state)
{
	static const char *const names[] = {
		"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
		"no_proxy", "NO_PROXY", "HTTPTUN_AUTH",
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(names); i++)
		unsetenv(names[i]);
	memset(&opt, 0, sizeof(opt));
	memset(&reach, 0, sizeof(reach));
	return 0;
}

static int
all_freed(void **state)
{
	struct forward *f;
	struct extra *x;

	(void)state;
	rules_free(opt.targets);
	rules_free(opt.clients);
	creds_free(&opt.creds);
	hop_free(&via);
	while ((f = opt.forwards) != NULL) {
		opt.forwards = f->next;
		free(f->addr);
		free(f);
	}
	while ((x = opt.extras) != NULL) {
		opt.extras = x->next;
		free((void *)(uintptr_t)x->field.name.p);
		free(x);
	}
	return 0;
}

#define TEST(f)	cmocka_unit_test_setup_teardown(f, nothing_set, all_freed)

/* ---- what may end the program ------------------------------------------ */

static char	said[4096];	/* on stderr, by the last child */

static void
child_run(int err, void (*fn)(char *), const char *arg)
{
	char *own = arg != NULL ? strdup(arg) : NULL;

	dup2(err, STDERR_FILENO);
	fn(own);
	_exit(0);
}

/* Runs fn on a copy of arg; returns the exit status, 0 when it returned. */
static int
in_child(void (*fn)(char *), const char *arg)
{
	size_t n = 0;
	ssize_t r;
	pid_t pid;
	int p[2], code;

	fflush(NULL);
	if (pipe(p) == -1 || (pid = fork()) == -1)
		fail_msg("%s", strerror(errno));
	else if (pid == 0)
		child_run(p[1], fn, arg);
	else {
		close(p[1]);
		while ((r = read(p[0], said + n, sizeof(said) - 1 - n)) > 0)
			n += (size_t)r;
		said[n] = '\0';
		close(p[0]);
		if (waitpid(pid, &code, 0) == pid && WIFEXITED(code))
			return WEXITSTATUS(code);
		fail_msg("a child died of signal %d: %s", code, said);
	}
	return -1;
}

/* One line, "httptun: ...", and nothing else. */
static int
one_line(void)
{
	size_t n = strlen(said);

	return strncmp(said, "httptun: ", 9) == 0 && n > 10 &&
	    strchr(said, '\n') == said + n - 1;
}

/* Ends the program with a line that names who was wrong. */
static void
ends(void (*fn)(char *), const char *arg, int code, const char *who)
{
	int c = in_child(fn, arg);
	size_t n = strlen(who);

	if (c != code || !one_line() || strncmp(said + 9, who, n) != 0)
		fail_msg("'%s': exit %d, '%s'", arg, c, said);
}

static void
takes(void (*fn)(char *), const char *arg)
{
	if (in_child(fn, arg) != 0 || *said != '\0')
		fail_msg("'%s': '%s'", arg, said);
}

static void
child_say(char *arg)
{
	say(arg, "%s", "a\r\nb\x1b[2J\xff ~");
	say("", "no who");
}

static void
test_say(void **state)
{
	char who[4000];

	(void)state;
	assert_int_equal(in_child(child_say, "x\ny"), 0);
	assert_string_equal(said, "httptun: x\\x0ay: "
	    "a\\x0d\\x0ab\\x1b[2J\\xff ~\nhttptun: no who\n");
	/* However long it is, it is one line each. */
	memset(who, '\n', sizeof(who) - 1);
	who[sizeof(who) - 1] = '\0';
	assert_int_equal(in_child(child_say, who), 0);
	assert_ptr_equal(strchr(said, '\n'), strstr(said, "\nhttptun: no"));
}

static void
child_head(char *arg)
{
	opt.verbose = 2;
	say_head("who", '>', (unsigned char *)arg, strlen(arg));
	opt.verbose = 1;
	say_head("who", '>', (unsigned char *)arg, strlen(arg));
}

static void
test_say_head(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_head, "CONNECT a:1 HTTP/1.1\r\n"
	    "Proxy-Authorization: Basic hush\r\nA: b\n"
	    "authorization:hush\r\nCookie: hush\r\nset-cookie: hush\r\n"
	    "\r\nhush\r\n"), 0);
	assert_string_equal(said, "httptun: who: > CONNECT a:1 HTTP/1.1\n"
	    "httptun: who: > Proxy-Authorization: ***\n"
	    "httptun: who: > A: b\nhttptun: who: > authorization: ***\n"
	    "httptun: who: > Cookie: ***\nhttptun: who: > set-cookie: ***\n");
	/* as leniently as a reply is read */
	assert_int_equal(in_child(child_head, "HTTP/1.1 200 A: b\r\n c\r\n"
	    "Set-Cookie \t: hush\r\n\thush\n hush:hush\r\nA: b\r\n c\r\n"
	    "\r\n"), 0);
	assert_string_equal(said, "httptun: who: > HTTP/1.1 200 A: b\n"
	    "httptun: who: >  c\nhttptun: who: > Set-Cookie: ***\n"
	    "httptun: who: > Set-Cookie: ***\nhttptun: who: > Set-Cookie: ***\n"
	    "httptun: who: > A: b\nhttptun: who: >  c\n");
	/* wherever a URL stands */
	assert_int_equal(in_child(child_head, "GET http://j:hush@a/?b=http://"
	    "j:hush@c/ HTTP/1.1\r\nLocation:http://j:hush@a/@b\r\n"
	    "Link: <http://j:hush@a/>, <http://b/>, <ws://j:hush@c>\r\n"
	    "Host: j@a\r\n\r\n"), 0);
	assert_string_equal(said, "httptun: who: > GET http://***@a/?b=http://"
	    "***@c/ HTTP/1.1\nhttptun: who: > Location:http://***@a/@b\n"
	    "httptun: who: > Link: <http://***@a/>, <http://b/>, <ws://***@c>\n"
	    "httptun: who: > Host: j@a\n");
	assert_int_equal(in_child(child_head, "CONNECT j:hush@a:1 HTTP/1.1\n\n"),
	    0);
	assert_string_equal(said, "httptun: who: > CONNECT ***@a:1 HTTP/1.1\n");
}

/* ---- rules ------------------------------------------------------------- */

static void
test_ports(void **state)
{
	static const struct {
		const char *ports; unsigned port; int want;	/* -1: bad */
	} rows[] = {
		{ "22", 22, 1 }, { "22", 21, 0 }, { "22", 222, 0 },
		{ "22,443", 443, 1 }, { "22,443", 22, 1 }, { "22,443", 80, 0 },
		{ "8000-8999", 8000, 1 }, { "8000-8999", 8999, 1 },
		{ "8000-8999", 8500, 1 }, { "8000-8999", 7999, 0 },
		{ "8000-8999", 9000, 0 }, { "1-65535", 65535, 1 },
		{ "22,443,8000-8999", 8001, 1 }, { "8000-8999,22", 22, 1 },
		{ "8000-8999,22", 443, 0 }, { "22-22", 22, 1 },
		{ "022", 22, 1 },
		{ "", 0, -1 }, { ",", 0, -1 }, { "22,", 0, -1 },
		{ ",22", 0, -1 }, { "22,,443", 0, -1 }, { "0", 0, -1 },
		{ "65536", 0, -1 }, { "22-", 0, -1 }, { "-22", 0, -1 },
		{ "-", 0, -1 }, { "443-22", 0, -1 }, { "0-22", 0, -1 },
		{ "1-65536", 0, -1 }, { "1-2-3", 0, -1 }, { "a", 0, -1 },
		{ "22a", 0, -1 }, { " 22", 0, -1 }, { "22 ", 0, -1 },
		{ "22, 443", 0, -1 }, { "+22", 0, -1 }, { "ssh", 0, -1 },
		{ "*", 0, -1 }, { "4294967318", 0, -1 }, { "22:23", 0, -1 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		if (ports_valid(rows[i].ports) != (rows[i].want != -1))
			fail_msg("'%s'", rows[i].ports);
		if (rows[i].want != -1 && ports_match(rows[i].ports,
		    rows[i].port) != rows[i].want)
			fail_msg("'%s' and %u", rows[i].ports, rows[i].port);
	}
}

static void
test_name_match(void **state)
{
	static const struct {
		const char *pattern, *name; int want;
	} rows[] = {
		{ "a", "a", 1 }, { "a", "A", 1 },
		{ "A.Example", "a.eXAMPLE", 1 },
		{ "a", "b", 0 }, { "a", "aa", 0 }, { "aa", "a", 0 },
		{ "a", "", 0 }, { "", "", 1 }, { "", "a", 0 },
		{ "*", "", 1 }, { "*", "a.b.c", 1 }, { "**", "a", 1 },
		{ "*.example", "a.example", 1 },
		{ "*.example", "a.b.example", 1 },
		{ "*.example", "example", 0 }, { "*.example", ".example", 1 },
		{ "*.example", "a.example.com", 0 },
		{ "*.example", "aexample", 0 }, { "*example", "aexample", 1 },
		{ "a*", "a", 1 }, { "a*", "abc", 1 }, { "a*", "ba", 0 },
		{ "a*c", "abc", 1 }, { "a*c", "ac", 1 }, { "a*c", "abcb", 0 },
		{ "a*c", "abcbc", 1 }, { "*a*b*", "xaxbx", 1 },
		{ "*a*b*", "xbxax", 0 }, { "a**b", "ab", 1 },
		{ "*aab", "aaaab", 1 }, { "10.*", "10.1.2.3", 1 },
		{ "a.c", "abc", 0 },		/* a dot is a dot */
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		if (name_match(rows[i].pattern, rows[i].name,
		    strlen(rows[i].name)) != rows[i].want)
			fail_msg("'%s' and '%s'", rows[i].pattern,
			    rows[i].name);
	assert_int_equal(name_match("ab", "abc", 2), 1);
	assert_int_equal(name_match("a*", "abc", 0), 0);
}

static void
child_stars(char *arg)
{
	char name[HOST_MAX];

	alarm(5);
	memset(name, '-', sizeof(name));
	if (name_match(arg, name, sizeof(name)))
		say("", "it fits");
}

/* A client chooses the name: no rule may make that costly. */
static void
test_name_match_stars(void **state)
{
	(void)state;
	takes(child_stars, "*-*-*-*-*-*-*-*.example");
	takes(child_stars, "*-*-*-*-*-*-*-*-*-*-*-*-*-*-*-x");
}

/* A rule as text: "!", its name or its address/bits, and its ports. */
static const char *
rule_text(const struct rule *r)
{
	static char text[256];
	char a[ADDR_TEXT];

	if (r->name != NULL)
		snprintf(text, sizeof(text), "%s%s", r->deny ? "!" : "",
		    r->name);
	else if (r->net.sa.sa_family == AF_UNSPEC)
		snprintf(text, sizeof(text), "%sANY", r->deny ? "!" : "");
	else
		snprintf(text, sizeof(text), "%s%s/%u", r->deny ? "!" : "",
		    addr_text(a, &r->net), r->bits);
	if (r->ports != NULL)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
		    " %s", r->ports);
	return text;
}

struct rule_row {
	const char *arg, *want;		/* NULL: an error */
};

static void
check_rules(const struct rule_row *rows, size_t n, int client)
{
	struct rule *r;
	const char *wrong;
	size_t i;

	for (i = 0; i < n; i++) {
		rules_free(opt.targets);
		opt.targets = NULL;
		r = opt.targets = xalloc(sizeof(*r));
		wrong = rule_parse(r, rows[i].arg, client);
		if ((wrong == NULL) != (rows[i].want != NULL) ||
		    (wrong == NULL && strcmp(rule_text(r), rows[i].want) != 0))
			fail_msg("%s '%s': '%s'", client ? "-c" : "-t",
			    rows[i].arg, wrong != NULL ? wrong : rule_text(r));
	}
}

static void
test_rule_parse(void **state)
{
	static const struct rule_row rows[] = {
		{ "a.example", "a.example" }, { "a.example.", "a.example" },
		{ "!a.example", "!a.example" }, { "*", "*" },
		{ "!*.example:22", "!*.example 22" },
		{ "_a-b.c*:22,8000-8999", "_a-b.c* 22,8000-8999" },
		{ "any", "any" },		/* a name like others */
		{ "10.1.2.3", "10.1.2.3/32" },
		{ "10.0.0.0/8", "10.0.0.0/8" },
		{ "!10.0.0.0/8:22", "!10.0.0.0/8 22" },
		{ "0.0.0.0/0", "0.0.0.0/0" }, { "127.1", "127.0.0.1/32" },
		{ "2130706433:80", "127.0.0.1/32 80" },
		{ "::1", "::1/128" }, { "!fe80::/10", "!fe80::/10" },
		{ "[::1]", "::1/128" }, { "[::1]:22", "::1/128 22" },
		{ "[fe80::]/10", "fe80::/10" },
		{ "[fe80::]/10:22,80", "fe80::/10 22,80" },
		{ "::/0", "::/0" },
		{ "::ffff:10.1.2.3", "10.1.2.3/32" },
		{ "::ffff:10.0.0.0/104", "10.0.0.0/8" },
		{ "[::ffff:10.1.2.3]:22", "10.1.2.3/32 22" },
		{ "", NULL }, { "!", NULL }, { "!!a", NULL }, { ":22", NULL },
		{ "a:", NULL }, { "a:0", NULL }, { "a:22,", NULL },
		{ "a:b", NULL }, { "a:22:23", NULL }, { "a b", NULL },
		{ "a/8", NULL }, { "*/8", NULL }, { "a@b", NULL },
		{ "10.0.0.0/", NULL }, { "10.0.0.0/33", NULL },
		{ "10.0.0.0/-1", NULL }, { "10.0.0.0/8a", NULL },
		{ "10.0.0.0/+8", NULL }, { "10.0.0.0/8/8", NULL },
		{ "10.0.0.0/255.0.0.0", NULL }, { "::/129", NULL },
		{ "10.0.0.0:22/8", NULL }, { "[::1", NULL }, { "[]", NULL },
		{ "[::1]22", NULL }, { "[::1]x:22", NULL },
		{ "[::1]:", NULL }, { "[::1]/", NULL }, { "[::1]/129", NULL },
		{ "::1]", NULL }, { "1:2:3", NULL }, { "a\nb", NULL },
		{ "\xc3\xa9", NULL }, { "a;b", NULL }, { "a,b", NULL },
	};
	char text[2 * HOST_MAX + 512];
	struct rule r;

	(void)state;
	check_rules(rows, COUNT(rows), 0);
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	memset(&r, 0, sizeof(r));
	assert_non_null(rule_parse(&r, text, 0));
}

static void
test_rule_parse_client(void **state)
{
	static const struct rule_row rows[] = {
		{ "any", "ANY" }, { "!any", "!ANY" },
		{ "10.1.2.3", "10.1.2.3/32" }, { "!10.0.0.0/8", "!10.0.0.0/8" },
		{ "::1", "::1/128" }, { "[::1]", "::1/128" },
		{ "fe80::/10", "fe80::/10" },
		{ "::ffff:10.0.0.0/104", "10.0.0.0/8" },
		{ "", NULL }, { "!", NULL }, { "a.example", NULL },
		{ "*", NULL }, { "any/8", NULL }, { "any:22", NULL },
		{ "10.0.0.0/8:22", NULL }, { "[::1]:22", NULL },
		{ "10.0.0.0/33", NULL }, { "10.0.0", "10.0.0.0/32" },
		{ "Any", NULL }, { "any ", NULL },
	};

	(void)state;
	check_rules(rows, COUNT(rows), 1);
}

/* Brackets are for addresses only (RFC 3986, 3.2.2). */
static void
test_rule_parse_brackets(void **state)
{
	static const struct rule_row rows[] = {
		{ "[a.example]:22", NULL }, { "[*]:22", NULL },
		{ "[10.0.0.1]:22", NULL },
	};

	(void)state;
	check_rules(rows, COUNT(rows), 0);
}

struct allow_row {
	const char *rules;	/* parted by blanks */
	const char *name; unsigned port;
	const char *addr;
	int elsewhere, here;	/* what a client gets, by where it is */
};

static void
targets_are(const char *rules)
{
	static char text[256];		/* a rule keeps what was written */
	char *s;

	rules_free(opt.targets);
	opt.targets = NULL;
	snprintf(text, sizeof(text), "%s", rules);
	for (s = strtok(text, " "); s != NULL; s = strtok(NULL, " "))
		rule_add(&opt.targets, s, 't');
}

static int
target_is_allowed(const char *name, unsigned port, const union addr *a,
    int local)
{
	char why[WHY_MAX] = "";
	int yes = target_allowed(name, port, a, local, why);

	/* a no has its reason, a yes none */
	assert_int_equal(yes, why[0] == '\0');
	return yes;
}

static int
client_is_allowed(const union addr *a)
{
	char why[WHY_MAX] = "";
	int yes = client_allowed(opt.clients, a, why);

	assert_int_equal(yes, why[0] == '\0');
	return yes;
}

static void
check_allowed(const struct allow_row *rows, size_t n)
{
	union addr a;
	size_t i;
	int e, h;

	for (i = 0; i < n; i++) {
		targets_are(rows[i].rules);
		if (addr_literal(&a, rows[i].addr, rows[i].port) == -1)
			fail_msg("'%s'", rows[i].addr);
		e = target_is_allowed(rows[i].name, rows[i].port, &a, 0);
		h = target_is_allowed(rows[i].name, rows[i].port, &a, 1);
		if (!e != !rows[i].elsewhere || !h != !rows[i].here)
			fail_msg("<%s> %s:%u at %s: %d from elsewhere, %d "
			    "from here", rows[i].rules, rows[i].name,
			    rows[i].port, rows[i].addr, e, h);
	}
}

static void
test_rules(void **state)
{
	static const struct allow_row rows[] = {
		/* no rule, only refusing ones, one that allows */
		{ "", "a.example", 22, "192.0.2.1", 1, 1 },
		{ "", "a.example", 22, "2001:db8::1", 1, 1 },
		{ "!b.example", "a.example", 22, "192.0.2.1", 1, 1 },
		{ "!a.example", "a.example", 22, "192.0.2.1", 0, 0 },
		{ "a.example", "a.example", 22, "192.0.2.1", 1, 1 },
		{ "a.example", "b.example", 22, "192.0.2.1", 0, 0 },
		{ "!b.example a.example", "c.example", 22, "192.0.2.1", 0, 0 },
		{ "a.example !b.example", "c.example", 22, "192.0.2.1", 0, 0 },
		/* the first match decides */
		{ "!a.example *.example", "a.example", 22, "192.0.2.1", 0, 0 },
		{ "!a.example *.example", "b.example", 22, "192.0.2.1", 1, 1 },
		{ "*.example !a.example", "a.example", 22, "192.0.2.1", 1, 1 },
		{ "!192.0.2.1 *", "a.example", 22, "192.0.2.1", 0, 0 },
		{ "!192.0.2.1 *", "a.example", 22, "192.0.2.2", 1, 1 },
		/* names: case, the final dot, patterns */
		{ "A.example", "a.EXAMPLE", 22, "192.0.2.1", 1, 1 },
		{ "a.example", "a.example.", 22, "192.0.2.1", 1, 1 },
		{ "a.example.", "a.example", 22, "192.0.2.1", 1, 1 },
		{ "!a.example", "a.example.", 22, "192.0.2.1", 0, 0 },
		{ "*.example", "a.b.example.", 22, "192.0.2.1", 1, 1 },
		{ "*.example", "example", 22, "192.0.2.1", 0, 0 },
		{ "*", "anything", 22, "192.0.2.1", 1, 1 },
		/* ports */
		{ "*:22", "a.example", 22, "192.0.2.1", 1, 1 },
		{ "*:22", "a.example", 23, "192.0.2.1", 0, 0 },
		{ "!*:25 *", "a.example", 25, "192.0.2.1", 0, 0 },
		{ "!*:25 *", "a.example", 26, "192.0.2.1", 1, 1 },
		{ "192.0.2.0/24:80,8000-8999", "a.example", 8443, "192.0.2.9",
		    1, 1 },
		{ "192.0.2.0/24:80,8000-8999", "a.example", 443, "192.0.2.9",
		    0, 0 },
		/* addresses, whatever they are called */
		{ "192.0.2.0/24", "a.example", 22, "192.0.2.255", 1, 1 },
		{ "192.0.2.0/24", "a.example", 22, "192.0.3.0", 0, 0 },
		{ "!192.0.2.0/24", "192.0.2.1", 22, "192.0.2.1", 0, 0 },
		{ "!192.0.2.1", "x", 22, "3221225985", 0, 0 },
		{ "!192.0.2.0/24", "x", 22, "::ffff:192.0.2.1", 0, 0 },
		{ "192.0.2.0/24", "x", 22, "::ffff:192.0.2.1", 1, 1 },
		{ "!::ffff:192.0.2.0/120", "x", 22, "192.0.2.1", 0, 0 },
		{ "0.0.0.0/0", "x", 22, "192.0.2.1", 1, 1 },
		{ "0.0.0.0/0", "x", 22, "2001:db8::1", 0, 0 },
		{ "::/0", "x", 22, "2001:db8::1", 1, 1 },
		{ "::/0", "x", 22, "192.0.2.1", 0, 0 },
		{ "2001:db8::/32", "x", 22, "2001:db8:ffff::1", 1, 1 },
		{ "192.0.2.1", "192.0.2.1", 22, "192.0.2.2", 0, 0 },
	};

	(void)state;
	check_allowed(rows, COUNT(rows));
}

/* This machine's own addresses, for clients that are elsewhere. */
static void
test_rules_guarded(void **state)
{
	static const struct allow_row rows[] = {
		{ "", "localhost", 22, "127.0.0.1", 0, 1 },
		{ "", "x", 22, "127.255.0.1", 0, 1 },
		{ "", "x", 22, "::1", 0, 1 },
		{ "", "x", 22, "0.0.0.0", 0, 1 },
		{ "", "x", 22, "::", 0, 1 },
		{ "", "x", 22, "127.1", 0, 1 },
		{ "", "x", 22, "2130706433", 0, 1 },
		{ "", "x", 22, "0x7f.1", 0, 1 },
		{ "", "x", 22, "0", 0, 1 },
		{ "", "x", 22, "::ffff:127.0.0.1", 0, 1 },
		{ "", "x", 22, "::ffff:0.0.0.0", 0, 1 },
		{ "", "x", 22, "::ffff:169.254.169.254", 0, 1 },
		{ "", "x", 22, "169.254.169.254", 0, 1 },
		{ "", "x", 22, "fe80::1", 0, 1 },
		{ "", "x", 22, "128.0.0.1", 1, 1 },
		{ "!b.example", "x", 22, "127.0.0.1", 0, 1 },
		/* not by a pattern, not by everything */
		{ "*", "localhost", 22, "127.0.0.1", 0, 1 },
		{ "local*", "localhost", 22, "127.0.0.1", 0, 1 },
		{ "*.example", "a.example", 22, "127.0.0.1", 0, 1 },
		{ "*:22", "localhost", 22, "::1", 0, 1 },
		{ "127.*", "127.0.0.1", 22, "127.0.0.1", 0, 1 },
		{ "0.0.0.0/0", "x", 22, "127.0.0.1", 0, 1 },
		{ "::/0", "x", 22, "::1", 0, 1 },
		{ "::/0", "x", 22, "fe80::1", 0, 1 },
		{ "::ffff:0:0/96", "x", 22, "127.0.0.1", 0, 1 },
		{ "0.0.0.0/0", "x", 22, "0.0.0.0", 0, 1 },
		{ "*", "x", 22, "169.254.169.254", 0, 1 },
		/* by an address, or exactly the name */
		{ "127.0.0.1", "localhost", 22, "127.0.0.1", 1, 1 },
		{ "127.0.0.1", "x", 22, "127.0.0.2", 0, 0 },
		{ "127.0.0.0/8", "x", 22, "127.9.9.9", 1, 1 },
		{ "127.0.0.1:22", "x", 22, "127.0.0.1", 1, 1 },
		{ "127.0.0.1:22", "x", 23, "127.0.0.1", 0, 0 },
		{ "127.0.0.1", "x", 22, "::ffff:127.0.0.1", 1, 1 },
		{ "127.0.0.1", "x", 22, "0.0.0.0", 1, 1 },
		{ "127.1", "x", 22, "2130706433", 1, 1 },
		{ "::1", "x", 22, "::1", 1, 1 },
		{ "::1", "x", 22, "::", 1, 1 },
		{ "::1", "x", 22, "127.0.0.1", 0, 0 },
		{ "localhost", "localhost", 22, "127.0.0.1", 1, 1 },
		{ "LOCALHOST.", "localhost", 22, "::1", 1, 1 },
		{ "localhost", "localhost.", 22, "::1", 1, 1 },
		{ "localhost", "x", 22, "127.0.0.1", 0, 0 },
		{ "a.example", "a.example", 22, "127.0.0.1", 1, 1 },
		{ "169.254.0.0/16", "x", 22, "169.254.169.254", 1, 1 },
		{ "fe80::/10", "x", 22, "fe80::1", 1, 1 },
		/* what does not open it does not close it either */
		{ "* 127.0.0.1", "x", 22, "127.0.0.1", 1, 1 },
		{ "0.0.0.0/0 localhost", "localhost", 22, "127.0.0.1", 1, 1 },
		{ "!127.0.0.1 127.0.0.0/8", "x", 22, "127.0.0.1", 0, 0 },
		{ "!* 127.0.0.1", "x", 22, "127.0.0.1", 0, 0 },
		{ "!127.0.0.1 *", "x", 22, "127.0.0.2", 0, 1 },
	};

	(void)state;
	check_allowed(rows, COUNT(rows));
}

static void
test_client_allowed(void **state)
{
	static const struct {
		const char *rules, *client; int want;
	} rows[] = {
		{ "", "192.0.2.1", 1 }, { "", "::1", 1 },
		{ "any", "192.0.2.1", 1 }, { "any", "2001:db8::1", 1 },
		{ "!any", "192.0.2.1", 0 },
		{ "192.0.2.0/24", "192.0.2.1", 1 },
		{ "192.0.2.0/24", "192.0.3.1", 0 },
		{ "192.0.2.0/24", "::1", 0 },
		{ "!192.0.2.0/24", "192.0.2.1", 0 },
		{ "!192.0.2.0/24", "192.0.3.1", 1 },
		{ "!192.0.2.1 192.0.2.0/24", "192.0.2.1", 0 },
		{ "!192.0.2.1 192.0.2.0/24", "192.0.2.2", 1 },
		{ "192.0.2.0/24 !any", "192.0.2.2", 1 },
		{ "::ffff:192.0.2.0/120", "192.0.2.1", 1 },
		/* Only targets are guarded. */
		{ "0.0.0.0/0", "127.0.0.1", 1 }, { "any", "127.0.0.1", 1 },
		{ "192.0.2.0/24", "127.0.0.1", 0 },
	};
	static char text[128];
	union addr a;
	size_t i;
	char *s;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		rules_free(opt.clients);
		opt.clients = NULL;
		snprintf(text, sizeof(text), "%s", rows[i].rules);
		for (s = strtok(text, " "); s != NULL; s = strtok(NULL, " "))
			rule_add(&opt.clients, s, 'c');
		assert_int_equal(addr_literal(&a, rows[i].client, 9), 0);
		if (client_is_allowed(&a) != rows[i].want)
			fail_msg("<%s> and %s", rows[i].rules, rows[i].client);
	}
}

/* Of a no the log says which rule it was, as the user wrote it. */
static void
test_rules_why(void **state)
{
	static char client[] = "!192.0.2.0/24";
	char why[WHY_MAX] = "";
	union addr a;

	(void)state;
	assert_int_equal(addr_literal(&a, "192.0.2.1", 9), 0);
	targets_are("!b.example !*.example:22");
	assert_int_equal(target_allowed("a.example", 22, &a, 0, why), 0);
	assert_non_null(strstr(why, "-t !*.example:22"));
	why[0] = '\0';
	targets_are("b.example");
	assert_int_equal(target_allowed("a.example", 22, &a, 0, why), 0);
	assert_int_not_equal(why[0], '\0');
	assert_null(strstr(why, "b.example"));
	opt_c(client);
	assert_int_equal(client_allowed(opt.clients, &a, why), 0);
	assert_non_null(strstr(why, "-c !192.0.2.0/24"));
}

static void
test_rules_open(void **state)
{
	(void)state;
	assert_int_equal(rules_open(NULL), 0);
	targets_are("!a !10.0.0.0/8");
	assert_int_equal(rules_open(opt.targets), 0);
	targets_are("!a 10.0.0.0/8 !b");
	assert_int_equal(rules_open(opt.targets), 1);
}

static void
child_rule(char *arg)
{
	rule_add(&opt.targets, arg, 't');
	rule_add(&opt.clients, arg, 'c');
}

static void
test_rule_add(void **state)
{
	(void)state;
	takes(child_rule, "10.0.0.0/8");
	ends(child_rule, "a b", 2, "-t: a b: ");
	ends(child_rule, "a.example", 2, "-c: a.example: ");
	ends(child_rule, "a\nb", 2, "-t: a\\x0ab: ");
}

/* ---- requests ---------------------------------------------------------- */

/* What a request is answered, without anything being done; 0: a tunnel. */
static int
judged(const char *text, const char **why)
{
	static struct verdict v;
	static struct tunnel t;
	char host[HOST_MAX + 1];
	unsigned port = 0;
	struct head h;

	free(t.user);
	memset(&t, 0, sizeof(t));
	memset(&v, 0, sizeof(v));
	if (addr_literal(&t.client, "192.0.2.77", 9) == -1 ||
	    head_request(&h, text, strlen(text)) <= 0)
		fail_msg("no request: %s", text);
	request_judge(&t, &h, host, &port, &v);
	*why = v.text;
	return v.status;
}

static void
test_request_judge(void **state)
{
	static const struct { const char *text; int want; } rows[] = {
		{ "CONNECT a:1 HTTP/1.1\r\n\r\n", 0 },
		{ "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 0 },
		{ "CONNECT a:1 HTTP/1.1\r\nHost: b\r\n\r\n", 0 },
		{ "CONNECT a:1 HTTP/1.1\r\nHost:\r\n\r\n", 0 },
		{ "CONNECT [::1]:1 HTTP/1.0\r\n\r\n", 0 },
		{ "CONNECT a:1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 0 },
		{ "CONNECT a HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT a: HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT a:0 HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT a:65536 HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT :1 HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT u@a:1 HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT http://a:1/ HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT a:1/ HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT / HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT * HTTP/1.1\r\n\r\n", 400 },
		{ "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400 },
		{ "CONNECT a:1 HTTP/1.1\r\nHost: a b\r\n\r\n", 400 },
		{ "CONNECT a:1 HTTP/1.1\r\nHost: a, b\r\n\r\n", 400 },
		{ "CONNECT a:1 HTTP/1.1\r\nHost: u@a\r\n\r\n", 400 },
		{ "CONNECT a:1 HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400 },
		{ "CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n"
		    "Transfer-Encoding: chunked\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404 },
		{ "GET / HTTP/1.0\r\n\r\n", 404 },
		{ "GET / HTTP/1.1\r\n\r\n", 400 },	/* RFC 9112, 3.2 */
		{ "connect a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 404 },
		{ "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400 },
	};
	const char *why;
	size_t i;
	int code;

	(void)state;
	opt.mode = MODE_LISTEN;
	for (i = 0; i < COUNT(rows); i++)
		if ((code = judged(rows[i].text, &why)) != rows[i].want)
			fail_msg("%s: %d, %s", rows[i].text, code,
			    why != NULL ? why : "");
}

static void
test_request_credentials(void **state)
{
	static const struct { const char *field; int want; } rows[] = {
		{ "", 407 },
		{ "Proxy-Authorization: Basic YTpi\r\n", 0 },	/* a:b */
		{ "proxy-authorization: basic YTpi\r\n", 0 },
		{ "Authorization: Basic YTpi\r\n", 407 },
		{ "Proxy-Authorization: Basic YTpj\r\n", 407 },
		{ "Proxy-Authorization: Bearer YTpi\r\n", 407 },
		{ "Proxy-Authorization: Basic\r\n", 407 },
		{ "Proxy-Authorization:\r\n", 407 },
		{ "Proxy-Authorization: Basic YWI=\r\n", 407 },
		{ "Proxy-Authorization: Basic YTpi YTpi\r\n", 407 },
	};
	const char *why;
	char text[256];
	size_t i;
	int code;

	(void)state;
	opt.mode = MODE_LISTEN;
	opt.creds = cred_new("a:b");
	for (i = 0; i < COUNT(rows); i++) {
		snprintf(text, sizeof(text), "CONNECT a:1 HTTP/1.1\r\n%s\r\n",
		    rows[i].field);
		if ((code = judged(text, &why)) != rows[i].want)
			fail_msg("%s: %d", rows[i].field, code);
	}
	/* Who may not come in at all is not asked who it is. */
	rule_add(&opt.clients, "!192.0.2.77", 'c');
	assert_int_equal(judged("CONNECT a:1 HTTP/1.1\r\n\r\n", &why), 403);
}

/* Behind hops a rule about addresses holds for what is one. */
static void
test_request_hops(void **state)
{
	const char *why;

	(void)state;
	opt.mode = MODE_LISTEN;
	opt.hops = &via;
	targets_are("!10.0.0.0/8 !a.example *");
	assert_int_equal(judged("CONNECT 10.1.2.3:1 HTTP/1.1\r\n\r\n", &why),
	    403);
	assert_int_equal(judged("CONNECT 167903747:1 HTTP/1.1\r\n\r\n", &why),
	    403);
	assert_int_equal(judged("CONNECT a.example:1 HTTP/1.1\r\n\r\n", &why),
	    403);
	assert_int_equal(judged("CONNECT b.example:1 HTTP/1.1\r\n\r\n", &why),
	    0);
	assert_int_equal(judged("CONNECT 11.1.2.3:1 HTTP/1.1\r\n\r\n", &why),
	    0);
	opt.hops = NULL;
}

static void
test_request_hops_mapped(void **state)
{
	const char *why;

	(void)state;
	opt.mode = MODE_LISTEN;
	opt.hops = &via;
	targets_are("!10.0.0.0/8 *");
	assert_int_equal(judged("CONNECT [::ffff:10.1.2.3]:1 HTTP/1.1\r\n\r\n",
	    &why), 403);
	targets_are("!127.0.0.0/8 *");
	assert_int_equal(judged("CONNECT 0.0.0.0:1 HTTP/1.1\r\n\r\n", &why),
	    403);
	opt.hops = NULL;
}

/* ---- hops -------------------------------------------------------------- */

static void
test_hop_parse(void **state)
{
	static const struct {
		const char *arg, *user, *pass, *who;	/* NULL: none, bad */
	} rows[] = {
		{ "a", NULL, NULL, "a:3128" },
		{ "a:80", NULL, NULL, "a:80" },
		{ "http://a", NULL, NULL, "a:3128" },
		{ "HTTP://a:80/", NULL, NULL, "a:80" },
		{ "[::1]", NULL, NULL, "[::1]:3128" },
		{ "[::1]:80", NULL, NULL, "[::1]:80" },
		{ "http://[::1]:80/", NULL, NULL, "[::1]:80" },
		{ "[fe80::1%1]:80", NULL, NULL, "[fe80::1%1]:80" },
		{ "u:p@[fe80::1%1]", "u", "p", "[fe80::1%1]:3128" },
		{ "ws://[fe80::1%251]/", NULL, NULL, "[fe80::1%1]:80" },
		{ "poll://[fe80::1%25]/a%2Fb", NULL, NULL, "[fe80::1%25]:80" },
		{ "[fe80::1%]:80", NULL, NULL, NULL },
		{ "[fe80::1%0]:80", NULL, NULL, NULL },
		{ "[fe80::1%1", NULL, NULL, NULL },
		{ "[fe80::1%1;a]", NULL, NULL, NULL },
		{ "[fe80::1%no such]", NULL, NULL, NULL },
		{ "[%1]:80", NULL, NULL, NULL }, { "a%1", NULL, NULL, NULL },
		{ "a%1]", NULL, NULL, NULL },
		{ "u@a", "u", NULL, "a:3128" },
		{ "u:@a", "u", "", "a:3128" },
		{ "u:p@a:80", "u", "p", "a:80" },
		{ "http://u:p@a:80", "u", "p", "a:80" },
		{ ":p@a", "", "p", "a:3128" },
		{ "u:p:q@a", "u", "p:q", "a:3128" },
		{ "u:p@q@a", "u", "p@q", "a:3128" },
		{ "u%40v:p%3aq%2F%25@a", "u@v", "p:q/%", "a:3128" },
		{ "u:%C3%A9@a", "u", "\xc3\xa9", "a:3128" },
		{ "u:a+b@a", "u", "a+b", "a:3128" },
		{ "", NULL, NULL, NULL }, { ":80", NULL, NULL, NULL },
		{ "a:", NULL, NULL, NULL }, { "a:0", NULL, NULL, NULL },
		{ "a:65536", NULL, NULL, NULL }, { "a:x", NULL, NULL, NULL },
		{ "a b", NULL, NULL, NULL }, { "-a", NULL, NULL, NULL },
		{ "::1", NULL, NULL, NULL }, { "[::1", NULL, NULL, NULL },
		{ "a/", NULL, NULL, NULL }, { "a/b", NULL, NULL, NULL },
		{ "http://a/b", NULL, NULL, NULL },
		{ "http://a//", NULL, NULL, NULL },
		{ "http://a/?", NULL, NULL, NULL },
		{ "http://a?b", NULL, NULL, NULL },
		{ "http://a#b", NULL, NULL, NULL },
		{ "http://", NULL, NULL, NULL },
		{ "https://a", NULL, NULL, "a:443" },
		{ "https://u:p@[::1]:8443/", "u", "p", "[::1]:8443" },
		{ "https://a/b", NULL, NULL, NULL },
		{ "wss://a/b", NULL, NULL, "a:443" },
		{ "POLLS://a", NULL, NULL, "a:443" },
		{ "exec:nc %h %p", NULL, NULL, "exec:nc" },
		{ "exec: ssh u:p@a", NULL, NULL, "exec:ssh" },
		{ "exec:", NULL, NULL, NULL },
		{ "exec: ", NULL, NULL, NULL },
		{ "ws://a", NULL, NULL, "a:80" },
		{ "ws://joe:pw@a:8/b?c=d", "joe", "pw", "a:8" },
		{ "ws://a/b c", NULL, NULL, NULL },
		{ "ws://a/b#c", NULL, NULL, NULL },
		{ "socks5://a", NULL, NULL, NULL },
		{ "httpx://a", NULL, NULL, NULL },
		{ "://a", NULL, NULL, NULL },
		{ "@", NULL, NULL, NULL }, { "u:p@", NULL, NULL, NULL },
		{ "u%3av:p@a", NULL, NULL, NULL },	/* RFC 7617, 2 */
		{ "u%00:p@a", NULL, NULL, NULL },
		{ "u%0a:p@a", NULL, NULL, NULL },
		{ "u:p%0d@a", NULL, NULL, NULL },
		{ "u:p%7f@a", NULL, NULL, NULL },
		{ "u:p\x01@a", NULL, NULL, NULL },
		{ "u:%@a", NULL, NULL, NULL }, { "u:%4@a", NULL, NULL, NULL },
		{ "u:%xx@a", NULL, NULL, NULL },
	};
	struct hop *h = &via;
	const char *wrong;
	char host[HOST_MAX + 9];
	size_t i;

	(void)state;
	/* a scope is nothing to others (RFC 6874, 1) */
	assert_null(hop_parse(h, "ws://[fe80::1%1]:8080/"));
	assert_string_equal(h->host, "fe80::1%1");
	assert_string_equal(hop_host(host, h), "[fe80::1]:8080");
	for (i = 0; i < COUNT(rows); i++) {
		hop_free(h);
		wrong = hop_parse(h, rows[i].arg);
		if ((wrong == NULL) != (rows[i].who != NULL))
			fail_msg("'%s': %s", rows[i].arg,
			    wrong != NULL ? wrong : h->who);
		if (wrong == NULL && (strcmp(h->who, rows[i].who) != 0 ||
		    (h->user == NULL) != (rows[i].user == NULL) ||
		    (h->user != NULL && strcmp(h->user, rows[i].user) != 0) ||
		    (h->pass == NULL) != (rows[i].pass == NULL) ||
		    (h->pass != NULL && strcmp(h->pass, rows[i].pass) != 0)))
			fail_msg("'%s': '%s' '%s' '%s'", rows[i].arg,
			    h->user != NULL ? h->user : "(none)",
			    h->pass != NULL ? h->pass : "(none)", h->who);
	}
}

static void
test_hop_parse_long(void **state)
{
	struct hop *h = &via;
	char arg[2 * CRED_MAX];

	(void)state;
	memset(arg, 'u', sizeof(arg));
	strcpy(arg + CRED_MAX, ":p@a");
	assert_null(hop_parse(h, arg));
	assert_int_equal(strlen(h->user), CRED_MAX);
	hop_free(h);
	memset(arg, 'u', sizeof(arg));
	strcpy(arg + CRED_MAX + 1, ":p@a");
	assert_non_null(hop_parse(h, arg));
	hop_free(h);
	memset(arg, 'p', sizeof(arg));
	memcpy(arg, "u:", 2);
	strcpy(arg + 2 + CRED_MAX, "@a");
	assert_null(hop_parse(h, arg));
	assert_int_equal(strlen(h->pass), CRED_MAX);
	hop_free(h);
	memset(arg, 'p', sizeof(arg));
	memcpy(arg, "u:", 2);
	strcpy(arg + 3 + CRED_MAX, "@a");
	assert_non_null(hop_parse(h, arg));
	hop_free(h);
}

static void
test_hop_mask(void **state)
{
	static const struct { const char *arg, *want; } rows[] = {
		{ "a:80", "a:80" }, { "u@a", "u@a" }, { "u:@a", "u:@a" },
		{ "u:secret@a:80", "u:******@a:80" },
		{ "http://u:s%40t@a/", "http://u:*****@a/" },
		{ "u:p@q@a", "u:***@a" }, { "u:p/q@a", "u:***@a" },
		{ "", "" },
	};
	char arg[64];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		strcpy(arg, rows[i].arg);
		hop_mask(arg);
		assert_string_equal(arg, rows[i].want);
	}
}

static void
child_x(char *arg)
{
	char again[64];

	opt_x(arg);
	if (opt.hops != NULL && strchr(arg, '@') != NULL &&
	    strstr(arg, "secret") != NULL)
		say("-x", "%s is still to be seen", arg);
	snprintf(again, sizeof(again), "b:81");
	opt_x(again);
	hops_parse();
	if (opt.hops == NULL || (opt.direct ? opt.hops : opt.hops->next) ==
	    NULL || strcmp((opt.direct ? opt.hops : opt.hops->next)->who,
	    "b:81") != 0)
		say("-x", "the hops are not in order");
}

static void
test_opt_x(void **state)
{
	(void)state;
	takes(child_x, "a");
	takes(child_x, "joe:secret@a:80");
	takes(child_x, "direct");
	ends(child_x, "", 2, "-x: ");
	ends(child_x, "a:http", 2, "-x: a:http: ");
	ends(child_x, "a\nb", 2, "-x: a\\x0ab: ");
	/* The password is in no message either. */
	ends(child_x, "joe:secret@a:x", 2, "-x: joe:******@a:x: ");
	ends(child_x, "wx://joe:secret@a", 2, "-x: wx://joe:******@a: ");
}

static void
child_hops(char *arg)
{
	char hop[16];
	int i;

	(void)arg;
	for (i = 0; i <= HOPS_MAX; i++) {
		snprintf(hop, sizeof(hop), "h%d", i);
		opt_x(hop);
	}
}

static void
test_opt_x_many(void **state)
{
	char last[32];

	(void)state;
	snprintf(last, sizeof(last), "-x: h%d: too many", HOPS_MAX);
	ends(child_hops, "", 2, last);
}

/* "name=value name=value": what is set, and the hop that this makes. */
static void
child_environment(char *arg)
{
	struct hop *h;
	char *s, *value;

	for (s = strtok(arg, " "); s != NULL; s = strtok(NULL, " ")) {
		value = strchr(s, '=');
		*value++ = '\0';
		setenv(s, value, 1);
	}
	if ((h = hop_environment()) == NULL)
		say("", "none");
	else
		say("", "%s %s", h->who, h->user != NULL ? h->user : "-");
	if (h != hop_environment())
		say("", "another one the second time");
}

static void
test_hop_environment(void **state)
{
	static const struct {
		const char *env; int code; const char *want;
	} rows[] = {
		{ "x=y", 0, "none\n" },
		{ "https_proxy=http://a:1", 0, "a:1 -\n" },
		{ "HTTPS_PROXY=http://a:1/", 0, "a:1 -\n" },
		{ "all_proxy=a:1", 0, "a:1 -\n" },
		{ "ALL_PROXY=http://joe:pw@a:1", 0, "a:1 joe\n" },
		{ "ALL_PROXY=a:4 all_proxy=a:3 HTTPS_PROXY=a:2 "
		    "https_proxy=a:1", 0, "a:1 -\n" },
		{ "ALL_PROXY=a:4 all_proxy=a:3 HTTPS_PROXY=a:2", 0,
		    "a:2 -\n" },
		{ "ALL_PROXY=a:4 all_proxy=a:3", 0, "a:3 -\n" },
		{ "https_proxy= HTTPS_PROXY= all_proxy=a:3", 0, "a:3 -\n" },
		{ "https_proxy= HTTPS_PROXY=a:2 all_proxy=a:3", 0,
		    "a:2 -\n" },
		{ "https_proxy= HTTPS_PROXY= all_proxy= ALL_PROXY=", 0,
		    "none\n" },
		/* http_proxy is for something else. */
		{ "http_proxy=a:1 HTTP_PROXY=a:2", 0, "none\n" },
		{ "https_proxy=socks5://a:1", 1, "https_proxy: " },
		{ "HTTPS_PROXY=https://a", 0, "a:443 -\n" },
		{ "HTTPS_PROXY=exec:cat", 1, "HTTPS_PROXY: " },
		{ "all_proxy=http://a:x", 1, "all_proxy: " },
		{ "ALL_PROXY=http://a/b", 1, "ALL_PROXY: " },
		/* No other one is taken in a faulty one's place. */
		{ "https_proxy=ftp://a all_proxy=a:3", 1, "https_proxy: " },
	};
	size_t i;
	int code;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		code = in_child(child_environment, rows[i].env);
		if (code != rows[i].code || !one_line() ||
		    strncmp(said + 9, rows[i].want,
		    strlen(rows[i].want)) != 0)
			fail_msg("%s: exit %d, %s", rows[i].env, code, said);
	}
}

/* ---- no_proxy, as curl reads it ---------------------------------------- */

static void
test_no_proxy(void **state)
{
	static const struct {
		const char *value, *host; int want;
	} rows[] = {
		{ "*", "a.example", 1 }, { "*", "10.0.0.1", 1 },
		{ "*", "::1", 1 }, { "*,b", "a.example", 0 },
		{ "b,*", "a.example", 0 }, { "**", "a.example", 0 },
		{ "*.example", "a.example", 0 },
		{ ",", "a.example", 0 }, { " , ,", "a.example", 0 },
		{ ".", "a.example", 0 }, { "..", "a.example", 0 },
		/* names and what ends like them */
		{ "a.example", "a.example", 1 },
		{ "a.example", "www.a.example", 1 },
		{ "a.example", "x.y.a.example", 1 },
		{ "a.example", "aa.example", 0 },
		{ "a.example", "example", 0 },
		{ "a.example", "a.example.com", 0 },
		{ "a.example", "A.Example", 1 },
		{ "A.EXAMPLE", "a.example", 1 },
		{ ".a.example", "a.example", 1 },
		{ ".a.example", "www.a.example", 1 },
		{ ".a.example", "aa.example", 0 },
		{ "a.example.", "a.example", 1 },
		{ "a.example", "a.example.", 1 },
		{ "a.example.", "www.a.example.", 1 },
		{ "example", "a.example", 1 }, { "example", "example", 1 },
		{ "localhost", "localhost", 1 }, { "localhost", "host", 0 },
		{ "a.example:80", "a.example", 0 },
		{ "http://a.example", "a.example", 0 },
		/* lists */
		{ "b.example,a.example", "a.example", 1 },
		{ "b.example, a.example", "a.example", 1 },
		{ "b.example a.example", "a.example", 1 },
		{ " ,b.example\t,\ta.example ,", "a.example", 1 },
		{ "b.example,c.example", "a.example", 0 },
		{ "b.example,a.exampl", "a.example", 0 },
		/* addresses */
		{ "10.0.0.1", "10.0.0.1", 1 }, { "10.0.0.1", "10.0.0.2", 0 },
		{ "0.0.1", "10.0.0.1", 0 }, { ".0.0.1", "10.0.0.1", 0 },
		{ "10.0.0.0/8", "10.200.1.1", 1 },
		{ "10.0.0.0/8", "11.0.0.1", 0 },
		{ "10.9.9.9/8", "10.1.1.1", 1 },
		{ "192.168.1.0/25", "192.168.1.127", 1 },
		{ "192.168.1.0/25", "192.168.1.128", 0 },
		{ "10.0.0.1/32", "10.0.0.1", 1 },
		{ "10.0.0.1/32", "10.0.0.2", 0 },
		{ "10.0.0.0/33", "10.0.0.0", 0 },
		{ "10.0.0.1/0", "10.0.0.1", 1 },
		{ "10.0.0.1/0", "10.0.0.2", 0 },	/* curl's way */
		{ "b.example,10.0.0.0/8", "10.1.1.1", 1 },
		{ "10.0.0.0/8", "a.example", 0 },
		{ "127.0.0.0/8", "localhost", 0 },
		{ "localhost", "127.0.0.1", 0 },
		{ "::1", "::1", 1 }, { "::1", "0:0::1", 1 },
		{ "::1", "::2", 0 }, { "fe80::/10", "fe80::1", 1 },
		{ "fe80::/10", "fec0::1", 0 },
		{ "2001:db8::/32", "2001:db8:ff::1", 1 },
		{ "2001:db8::/32", "2001:db9::1", 0 },
		{ "2001:db8::/129", "2001:db8::", 0 },
		{ "::/0", "2001:db8::", 0 },
		{ "10.0.0.0/8", "::1", 0 }, { "::/1", "10.0.0.1", 0 },
		{ "1111111111111111111111111111111111111111111111111111111",
		    "10.0.0.1", 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		setenv("no_proxy", rows[i].value, 1);
		if (no_proxy(rows[i].host) != rows[i].want)
			fail_msg("'%s' and '%s'", rows[i].value,
			    rows[i].host);
	}
}

static void
test_no_proxy_variables(void **state)
{
	(void)state;
	assert_int_equal(no_proxy("a"), 0);
	setenv("NO_PROXY", "a", 1);
	assert_int_equal(no_proxy("a"), 1);
	setenv("no_proxy", "", 1);		/* empty is unset */
	assert_int_equal(no_proxy("a"), 1);
	setenv("no_proxy", "b", 1);
	assert_int_equal(no_proxy("a"), 0);
	assert_int_equal(no_proxy("b"), 1);
}

static void
test_hops_to(void **state)
{
	(void)state;
	setenv("no_proxy", "b.example", 1);
	setenv("all_proxy", "ftp://would end the program", 1);
	opt.mode = MODE_STDIO;
	assert_null(hops_to("b.example"));
	opt.direct = 1;
	assert_null(hops_to("a.example"));
	opt.direct = 0;
	opt.mode = MODE_LISTEN;
	assert_null(hops_to("a.example"));
	opt.mode = MODE_STDIO;
	opt.hops = &via;
	assert_ptr_equal(hops_to("a.example"), &via);
	/* -x is meant, whatever the environment says. */
	assert_ptr_equal(hops_to("b.example"), &via);
	opt.hops = NULL;
}

#define DIGEST(algorithm, qop, more) "Proxy-Authenticate: Digest " \
	"realm=\"x\", nonce=\"y\", qop=\"" qop "\", algorithm=" algorithm more \
	"\r\n"

static void
test_hop_offers(void **state)
{
	static const struct {
		const char *fields, *want; int basic;
		enum digest_algorithm strength; int stale;
	} rows[] = {
		{ "", "nothing", 0, DIGEST_NONE, 0 },
		{ "Proxy-Authenticate: Basic realm=\"x\"\r\n", "Basic", 1,
		    DIGEST_NONE, 0 },
		{ "Proxy-Authenticate: Negotiate, NTLM\r\n",
		    "Negotiate, NTLM", 0, DIGEST_NONE, 0 },
		{ "Proxy-Authenticate: NTLM\r\nproxy-authenticate: "
		    "bASIC realm=x, Digest realm=\"Basic\"\r\n",
		    "NTLM, bASIC, Digest", 1, DIGEST_NONE, 0 },
		{ "Proxy-Authenticate: Digest realm=\"a, Basic realm=b\"\r\n",
		    "Digest", 0, DIGEST_NONE, 0 },
		{ "WWW-Authenticate: Basic realm=\"x\"\r\n", "nothing", 0,
		    DIGEST_NONE, 0 },
		{ DIGEST("MD5", "auth", ""), "Digest", 0, DIGEST_MD5, 0 },
		{ DIGEST("SHA-256", "auth", ""), "Digest", 0, DIGEST_SHA256,
		    0 },
		{ DIGEST("MD5", "auth-int, auth", ", stale=true"), "Digest",
		    0, DIGEST_MD5, 1 },
		{ DIGEST("MD5", "auth-int", ""), "Digest", 0, DIGEST_NONE, 0 },
		{ DIGEST("MD5-sess", "auth", ""), "Digest", 0, DIGEST_NONE,
		    0 },
		{ DIGEST("SHA-256", "auth", "") DIGEST("MD5", "auth", "")
		    "Proxy-Authenticate: Basic realm=\"x\"\r\n",
		    "Digest, Basic", 1, DIGEST_SHA256, 0 },
		{ DIGEST("MD5", "auth", "") DIGEST("SHA-256", "auth", ""),
		    "Digest", 0, DIGEST_SHA256, 0 },
	};
	char text[1024];
	struct offer offer;
	struct head h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		snprintf(text, sizeof(text), "HTTP/1.1 407 No\r\n%s\r\n",
		    rows[i].fields);
		assert_true(head_reply(&h, text, strlen(text)) > 0);
		hop_offers(&h, &offer);
		assert_string_equal(offer.names, rows[i].want);
		assert_int_equal(offer.basic, rows[i].basic);
		assert_int_equal(offer.strength, rows[i].strength);
		assert_int_equal(offer.stale, rows[i].stale);
	}
	/* -A says what is answered at all. */
	opt.auth = AUTH_BASIC;
	hop_offers(&h, &offer);
	assert_int_equal(offer.strength, DIGEST_NONE);
	opt.auth = AUTH_ANY;
}

/* More than the message has room for, and Basic among the rest of it. */
static void
test_hop_offers_many(void **state)
{
	char text[1024] = "HTTP/1.1 407 No\r\nProxy-Authenticate: ";
	struct offer offer;
	struct head h;
	int i;

	(void)state;
	for (i = 0; i < 20; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
		    "AAAAAAAAA%c, ", 'a' + i);
	strcat(text, "Basic realm=x\r\n\r\n");
	assert_true(head_reply(&h, text, strlen(text)) > 0);
	hop_offers(&h, &offer);
	assert_true(strlen(offer.names) < sizeof(offer.names));
	assert_memory_equal(offer.names, "AAAAAAAAAa, AAAAAAAAAb", 22);
	assert_int_equal(offer.basic, 1);
}

/* A nonce is used once for each count, in any order, by whoever made it. */
static void
test_nonce(void **state)
{
	char nonce[NONCE + 1], other[NONCE + 1];
	struct span s = { nonce, NONCE }, o = { other, NONCE };
	size_t i;

	(void)state;
	nonce_make(nonce);
	assert_int_equal(strlen(nonce), NONCE);
	assert_int_equal(nonce_use(s, 0), 0);
	assert_int_equal(nonce_use(s, 1), 1);
	assert_int_equal(nonce_use(s, 1), 0);
	assert_int_equal(nonce_use(s, 3), 1);
	assert_int_equal(nonce_use(s, 2), 1);
	assert_int_equal(nonce_use(s, 2), 0);
	assert_int_equal(nonce_use(s, 100), 1);
	assert_int_equal(nonce_use(s, 36), 0);	/* too far behind */
	assert_int_equal(nonce_use(s, 37), 1);
	assert_int_equal(nonce_use(s, 37), 0);
	assert_int_equal(nonce_use(s, 0xffffffff), 1);
	assert_int_equal(nonce_use(s, 0xffffffff), 0);
	/* not a byte of it may differ */
	for (i = 0; i < NONCE; i++) {
		nonce[i] ^= 1;
		assert_int_equal(nonce_use(s, 4), 0);
		nonce[i] ^= 1;
	}
	/* what there is no room for takes older ones with it */
	for (i = 0; i < NONCES; i++) {
		nonce_make(other);
		assert_int_equal(nonce_use(o, 1), 1);
	}
	assert_int_equal(nonce_use(s, 0xfffffffe), 0);
	memset(nonces, 0, sizeof(nonces));
	nonces_floor = -1;
}

/* One that this worker, or another one, made some time ago. */
static void
nonce_craft(char *nonce, int64_t made, unsigned worker)
{
	snprintf(nonce, NONCE, "%012llx%02x%s", (unsigned long long)made,
	    worker, "0123456789abcdef");
	nonce_sign(nonce);
}

static void
test_nonce_old(void **state)
{
	char nonce[NONCE + 1];
	struct span s = { nonce, NONCE };
	int64_t now = loop_now(), limit = (int64_t)NONCE_SECS * 1000, made;

	(void)state;
	if (now <= limit) {
		print_message("this machine has just started\n");
		skip();
	}
	nonce_craft(nonce, now - limit, 0);
	assert_int_equal(nonce_use(s, 1), 1);
	nonce_craft(nonce, now - limit - 1, 0);
	assert_int_equal(nonce_use(s, 1), 0);
	/* what was used by who had this number before is not known */
	nonces_floor = now - 5;
	nonce_craft(nonce, now - 5, 0);
	assert_int_equal(nonce_use(s, 1), 0);
	nonce_craft(nonce, now - 4, 0);
	assert_int_equal(nonce_use(s, 1), 1);
	/* nor is what another one knows */
	nonce_craft(nonce, now, 3);
	assert_int_equal(nonce_use(s, 1), 0);
	assert_int_equal(nonce_origin(s, &made), 3);
	assert_int_equal(made, now);
	s.n--;
	assert_int_equal(nonce_origin(s, &made), -1);
	memset(nonces, 0, sizeof(nonces));
	nonces_floor = -1;
}

/* Whose nonce a request bears decides who judges it. */
static void
test_nonce_elsewhere(void **state)
{
	static const char *const fields[] = {
		"Proxy-Authorization: Digest realm=\"x\", nonce=\"%s\"",
		"Authorization: Digest realm=\"x\", nonce=\"%s\"",
		"Proxy-Authorization: Digest nonce=%s",
		"Proxy-Authorization: Digest nonce=%s, nonce=x",
		"Proxy-Authorization: Basic nonce=%s",
		"X: Digest nonce=%s",
	};
	static const int proxy[] = { 3, -1, 3, -1, -1, -1 };
	static const int ws[] = { -1, 3, -1, -1, -1, -1 };
	char nonce[NONCE + 1], text[512];
	struct tunnel t;
	struct head h;
	size_t i, n;

	(void)state;
	memset(&t, 0, sizeof(t));
	opt.creds = cred_new("a:b");
	for (i = 0; i < 3 * COUNT(fields); i++) {
		nonce_craft(nonce, 1, i / COUNT(fields) == 1 ? 0 : 3);
		if (i / COUNT(fields) == 2)
			nonce[NONCE - 1] ^= 1;
		n = (size_t)snprintf(text, sizeof(text),
		    "GET / HTTP/1.1\r\n");
		n += (size_t)snprintf(text + n, sizeof(text) - n,
		    fields[i % COUNT(fields)], nonce);
		n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\n\r\n");
		assert_int_equal(head_request(&h, text, n), n);
		assert_int_equal(nonce_elsewhere(&t, &h, FOR_HTTP),
		    i < COUNT(fields) ? proxy[i] : -1);
		assert_int_equal(nonce_elsewhere(&t, &h, FOR_WS),
		    i < COUNT(fields) ? ws[i] : -1);
		assert_int_equal(nonce_elsewhere(&t, &h, FOR_POLL),
		    i < COUNT(fields) ? ws[i] : -1);
		/* once, and then whoever has it judges it */
		t.passed = 1;
		assert_int_equal(nonce_elsewhere(&t, &h, FOR_HTTP), -1);
		t.passed = 0;
		opt.auth = AUTH_BASIC;
		assert_int_equal(nonce_elsewhere(&t, &h, FOR_HTTP), -1);
		opt.auth = AUTH_ANY;
	}
	cred_free(opt.creds);
	opt.creds = NULL;
}

/* ---- credentials ------------------------------------------------------- */

static void
test_cred_new(void **state)
{
	static const struct { const char *line, *user, *pass; } rows[] = {
		{ "a:b", "a", "b" }, { "a:b:c", "a", "b:c" },
		{ "a:", "a", "" }, { ":b", "", "b" }, { ":", "", "" },
		{ " a : b ", " a ", " b " }, { "a:#", "a", "#" },
		{ "a:\xc3\xa9", "a", "\xc3\xa9" }, { "a:%40", "a", "%40" },
		{ "", NULL, NULL }, { "a", NULL, NULL },
		{ "a:b\r", NULL, NULL }, { "a\tb:c", NULL, NULL },
		{ "a:\x7f", NULL, NULL }, { "a:b\n", NULL, NULL },
	};
	char longest[CRED_MAX + 2];
	struct cred *c;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		creds_free(&opt.creds);
		c = opt.creds = cred_new(rows[i].line);
		if ((c == NULL) != (rows[i].user == NULL) || (c != NULL &&
		    (strcmp(c->user, rows[i].user) != 0 ||
		    strcmp(c->pass, rows[i].pass) != 0)))
			fail_msg("'%s'", rows[i].line);
	}
	memset(longest, 'x', sizeof(longest));
	longest[1] = ':';
	longest[CRED_MAX + 1] = '\0';
	assert_null(cred_new(longest));
	longest[CRED_MAX] = '\0';
	c = cred_new(longest);
	assert_non_null(c);
	creds_free(&c);
}

static void
creds_are(const char *lines)
{
	struct cred **tail = &opt.creds;
	char text[256], *s;

	creds_free(&opt.creds);
	snprintf(text, sizeof(text), "%s", lines);
	for (s = strtok(text, "\n"); s != NULL; s = strtok(NULL, "\n")) {
		*tail = cred_new(s);
		assert_non_null(*tail);
		tail = &(*tail)->next;
	}
}

static void
test_cred_find(void **state)
{
	static const struct {
		const char *lines, *userpass, *user;	/* NULL: not found */
	} rows[] = {
		{ "a:b", "a:b", "a" }, { "a:b", "a:c", NULL },
		{ "a:b", "b:b", NULL }, { "a:b", "A:b", NULL },
		{ "a:b", "a:B", NULL }, { "a:b", "a:", NULL },
		{ "a:b", ":b", NULL }, { "a:b", ":", NULL },
		{ "a:b\nc:d", "c:d", "c" }, { "a:b\nc:d", "a:b", "a" },
		{ "a:b\nc:d", "a:d", NULL }, { "a:b\nc:d", "c:b", NULL },
		/* twice the same user: either password is right */
		{ "a:b\na:c", "a:b", "a" }, { "a:b\na:c", "a:c", "a" },
		{ "a:b\na:c", "a:d", NULL },
		/* beginnings of passwords, and repeated ones */
		{ "a:secret", "a:secre", NULL },
		{ "a:secret", "a:secrets", NULL },
		{ "a:secret", "a:secretsecret", NULL },
		{ "a:secretsecret", "a:secret", NULL },
		{ "aa:b", "a:b", NULL }, { "a:b", "aa:b", NULL },
		{ "a:bb", "a:b", NULL }, { "a:b", "a:bb", NULL },
		/* empty ones, and colons in passwords */
		{ "a:", "a:", "a" }, { "a:", "a:b", NULL }, { "a:", ":", NULL },
		{ ":b", ":b", "" }, { ":b", "a:b", NULL }, { ":", ":", "" },
		{ "a:b:c", "a:b:c", "a" }, { "a:b:c", "a:b", NULL },
		{ "a:b:c", "a:b:", NULL },
	};
	const struct cred *c;
	size_t i;

	(void)state;
	assert_null(cred_find("a:b", 3));
	for (i = 0; i < COUNT(rows); i++) {
		creds_are(rows[i].lines);
		c = cred_find(rows[i].userpass, strlen(rows[i].userpass));
		if ((c == NULL) != (rows[i].user == NULL) || (c != NULL &&
		    strcmp(c->user, rows[i].user) != 0))
			fail_msg("'%s' among '%s'", rows[i].userpass,
			    rows[i].lines);
	}
	creds_are("a:b");
	assert_null(cred_find("a:b\0", 4));
	assert_null(cred_find("a\0:b", 4));
}

static void
child_cred(char *arg)
{
	struct cred *c;

	if ((c = cred_read(arg, 0)) == NULL)
		exit(2);
	for (; c != NULL; c = c->next)
		dprintf(STDERR_FILENO, "[%s|%s]", c->user, c->pass);
}

/* What the program says of a file with these bytes. */
static int
cred_file(const char *bytes, size_t n, mode_t mode, const char *want)
{
	char name[] = "/tmp/httptun-unit.XXXXXX", text[512];
	int fd, code;

	if ((fd = mkstemp(name)) == -1 || write(fd, bytes, n) != (ssize_t)n ||
	    fchmod(fd, mode) == -1)
		fail_msg("%s: %s", name, strerror(errno));
	close(fd);
	code = in_child(child_cred, name);
	unlink(name);
	if (code == 2)
		snprintf(text, sizeof(text), "httptun: %s: %s", name, want);
	else if (mode & 077)
		snprintf(text, sizeof(text), "httptun: %s: warning: others "
		    "can read it\n%s", name, want);
	else
		snprintf(text, sizeof(text), "%s", want);
	if (code == 2 ? strncmp(said, text, strlen(text)) != 0 || !one_line() :
	    strcmp(said, text) != 0)
		fail_msg("'%s': exit %d, '%s', not '%s'", bytes, code, said,
		    text);
	return code;
}

#define BYTES(s)	s, sizeof(s) - 1

static void
test_cred_read(void **state)
{
	static const struct {
		const char *bytes; size_t n; int code; const char *want;
	} rows[] = {
		{ BYTES("a:b\n"), 0, "[a|b]" }, { BYTES("a:b"), 0, "[a|b]" },
		{ BYTES("a:b\n\nc:d:e\n"), 0, "[a|b][c|d:e]" },
		{ BYTES("# x\na:b#c\n#d:e\n"), 0, "[a|b#c]" },
		{ BYTES(" #a: b \n"), 0, "[ #a| b ]" },
		{ BYTES(":\n"), 0, "[|]" },
		{ BYTES(""), 2, "no user:password" },
		{ BYTES("\n# a:b\n"), 2, "no user:password" },
		{ BYTES("a\n"), 2, "line 1: no user:password\n" },
		{ BYTES("a:b\n#\n\nc\n"), 2, "line 4: no user:password\n" },
		{ BYTES("a:b\r\n"), 2, "line 1: a control character\n" },
		{ BYTES("a:b\nc:\td\n"), 2, "line 2: a control character\n" },
		{ BYTES("a:b\nc:\0d\n"), 2, "line 2: a control character\n" },
	};
	char line[2 * CRED_MAX];
	size_t i, n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		assert_int_equal(cred_file(rows[i].bytes, rows[i].n, 0600,
		    rows[i].want), rows[i].code);
	assert_int_equal(cred_file(BYTES("a:b\n"), 0640, "[a|b]"), 0);
	assert_int_equal(cred_file(BYTES("a:b\n"), 0604, "[a|b]"), 0);
	/* Around the longest line nothing is taken apart. */
	for (n = CRED_MAX + 1; n < CRED_MAX + 8; n++) {
		memset(line, ':', n);
		line[n] = '\n';
		assert_int_equal(cred_file(line, n + 1, 0600,
		    "line 1: too long\n"), 2);
	}
	ends(child_cred, "/nonexistent/file", 2, "/nonexistent/file: ");
	/* what it could warn of is no matter then */
	assert_int_equal(in_child(child_cred, "/"), 2);
	assert_string_equal(said, "httptun: /: Is a directory\n");
}

static void
child_starved(char *arg)
{
	struct cred *old;
	int i;

	opt.cred_file = arg;
	opt.creds = old = cred_read(arg, 0);
	for (i = 1; i < 100; i++) {
		starve = i;
		creds_reload(0);
		if (starve > 0)
			break;
		if (opt.creds != old)
			exit(1);
	}
	dprintf(STDERR_FILENO, "%d %s", i, opt.creds == old ? "old" : "new");
}

/* Where there is no memory for them the old ones are kept, and that is said. */
static void
test_cred_starved(void **state)
{
	char want[600] = "", name[] = "/tmp/httptun-unit.XXXXXX";
	int fd, i;

	(void)state;
	if ((fd = mkstemp(name)) == -1 || write(fd, "a:b\nc:d\n", 8) != 8)
		fail_msg("%s: %s", name, strerror(errno));
	close(fd);
	assert_int_equal(in_child(child_starved, name), 0);
	unlink(name);
	for (i = 0; i < 6; i++)
		snprintf(want + strlen(want), sizeof(want) - strlen(want),
		    "httptun: %s: line %d: %s\n", name, 1 + i / 3,
		    strerror(ENOMEM));
	strcat(want, "7 new");
	assert_string_equal(said, want);
}

static char secret[64];

/* Whether our heap has the secret: 3, and 0 if not. */
static int
heap_has_secret(void)
{
	static char part[65536 + sizeof(secret)];
	size_t n = strlen(secret);
	char line[512];
	unsigned long at = 0, end = 0;
	FILE *f = fopen("/proc/self/maps", "r");
	int fd = open("/proc/self/mem", O_RDONLY);
	ssize_t r;
	long i;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strstr(line, "[heap]") != NULL)
			(void)sscanf(line, "%lx-%lx", &at, &end);
	if (f != NULL)
		fclose(f);
	for (; at < end; at += 65536)
		for (r = pread(fd, part, end - at < sizeof(part) ? end - at :
		    sizeof(part), (off_t)at), i = 0; i + (long)n <= r; i++)
			if (memcmp(part + i, secret, n) == 0)
				return 3;
	return 0;
}

static void
child_secret(char *arg)
{
	struct cred *c = cred_read(arg, 0);

	if (c == NULL || strcmp(secret, c->pass) != 0)
		exit(1);
	if (heap_has_secret() == 0)
		exit(7);		/* memory comes from elsewhere */
	cred_free(c);
	exit(heap_has_secret());
}

/* A request with it, which grows behind it. */
static void
child_grows(char *arg)
{
	struct buf b = { NULL, 0, 0, 0 };

	if (heap_has_secret() != 0)
		exit(20);
	(void)buf_fmt(&b, "%64s%s", "", secret);
	if (heap_has_secret() == 0)
		exit(7);
	(void)buf_fmt(&b, "%1000000s", "");	/* that is elsewhere */
	secret_wipe(b.p, b.cap);
	buf_free(&b);
	exit(*arg == '\0' ? heap_has_secret() : 1);
}

static void
child_stdio_starved(char *arg)
{
	static char *const argv[] = { "httptun", "127.0.0.1", "1", NULL };
	char *own[4];

	memcpy(own, argv, sizeof(own));
	(void)dup2(open("/dev/null", O_RDWR), STDIN_FILENO);
	(void)dup2(STDIN_FILENO, STDOUT_FILENO);
	starve = atoi(arg);
	exit(httptun_main(3, own));
}

/* A tunnel that there is no memory for is reported as any other. */
static void
test_stdio_starved(void **state)
{
	char nth[] = "1";

	(void)state;
	for (; nth[0] < '9'; ++nth[0])
		ends(child_stdio_starved, nth, 1, "");
}

/* When it is forgotten nothing that it came through has it. */
static void
test_cred_forgotten(void **state)
{
	char name[] = "/tmp/httptun-unit.XXXXXX";
	int fd, code;
	size_t i;

	(void)state;
	if (access("/proc/self/mem", R_OK) == -1)
		skip();
	for (i = 0; i + 1 < sizeof(secret); i++)
		secret[i] = (char)('A' + i % 26);
	if ((fd = mkstemp(name)) == -1 || write(fd, "user:", 5) != 5 ||
	    write(fd, secret, sizeof(secret) - 1) != sizeof(secret) - 1 ||
	    write(fd, "\n", 1) != 1)
		fail_msg("%s: %s", name, strerror(errno));
	close(fd);
	code = in_child(child_secret, name);
	unlink(name);
	if (code == 7)
		skip();
	assert_int_equal(code, 0);
	assert_int_equal(in_child(child_grows, ""), 0);
}

/* A NUL would hide the rest of a password. */
static void
test_cred_read_nul(void **state)
{
	(void)state;
	assert_int_equal(cred_file(BYTES("a:b\0c\n"), 0600, "line 1: "), 2);
}

/* The first hop's: its URL's, else -a's, else HTTPTUN_AUTH's, else -P's. */
static void
test_hop_credentials(void **state)
{
	char environment[] = "c:d", user[] = "e";
	struct hop *h = &via;

	(void)state;
	opt.mode = MODE_STDIO;
	hop_credentials(NULL);
	hop_credentials(h);
	assert_null(h->user);
	opt.user = user;
	hop_credentials(h);
	assert_string_equal(h->user, "e");
	assert_null(h->pass);
	hop_free(h);
	opt.env_auth = environment;
	hop_credentials(h);
	assert_string_equal(h->user, "c");
	assert_string_equal(h->pass, "d");
	hop_free(h);
	/* it is read once */
	assert_memory_equal(environment, "\0\0\0", 4);
	opt.creds = cred_new("a:b");
	hop_credentials(h);
	assert_string_equal(h->user, "a");
	assert_string_equal(h->pass, "b");
	/* What was lent is given anew, its own stays. */
	creds_free(&opt.creds);
	opt.creds = cred_new("f:g");
	hop_credentials(h);
	assert_string_equal(h->user, "f");
	assert_string_equal(h->pass, "g");
	/* In listen mode they are the clients', and never sent on. */
	opt.mode = MODE_LISTEN;
	hop_free(h);
	hop_credentials(h);
	assert_string_equal(h->user, "c");
	hop_free(h);
	hop_credentials(h);
	assert_string_equal(h->user, "c");
	hop_free(h);
	creds_free(&opt.env_cred);
	assert_null(hop_parse(h, "url@p"));
	hop_credentials(h);
	assert_string_equal(h->user, "url");
	assert_null(h->pass);
	hop_free(h);
}

static void
test_environment(void **state)
{
	(void)state;
	opt_environment();
	assert_null(opt.env_auth);
	setenv("HTTPTUN_AUTH", "a:secret", 1);
	opt_environment();
	assert_string_equal(opt.env_auth, "a:secret");
	assert_null(getenv("HTTPTUN_AUTH"));
	free(opt.env_auth);
	opt.env_auth = NULL;
	setenv("HTTPTUN_AUTH", "", 1);
	opt_environment();
	assert_null(opt.env_auth);
	assert_null(getenv("HTTPTUN_AUTH"));
}

/* ---- options ----------------------------------------------------------- */

static void
test_opt_L(void **state)
{
	static const struct {
		const char *arg, *addr; unsigned port; const char *host;
		unsigned hostport;
	} rows[] = {
		{ "8080:h:80", NULL, 8080, "h", 80 },
		{ "0:h.example:65535", NULL, 0, "h.example", 65535 },
		{ "8080:[::1]:80", NULL, 8080, "::1", 80 },
		{ "8080:127.1:80", NULL, 8080, "127.1", 80 },
		{ "127.0.0.1:8080:h:80", "127.0.0.1", 8080, "h", 80 },
		{ "localhost:8080:h:80", "localhost", 8080, "h", 80 },
		{ "[::1]:8080:h:80", "::1", 8080, "h", 80 },
		{ "[::1]:8080:[2001:db8::1]:80", "::1", 8080, "2001:db8::1",
		    80 },
		{ ":8080:h:80", "", 8080, "h", 80 },
		{ "*:8080:h:80", "*", 8080, "h", 80 },
	};
	const struct forward *f;
	char arg[64];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		strcpy(arg, rows[i].arg);
		opt_L(arg);
	}
	/* All are kept, in their order. */
	for (i = 0, f = opt.forwards; f != NULL; f = f->next, i++) {
		if (i == COUNT(rows))
			fail_msg("%s and more", f->host);
		if ((f->addr == NULL) != (rows[i].addr == NULL) ||
		    (f->addr != NULL && strcmp(f->addr, rows[i].addr) != 0) ||
		    strcmp(f->host, rows[i].host) != 0 ||
		    f->port != rows[i].port ||
		    f->hostport != rows[i].hostport)
			fail_msg("'%s': '%s' %u '%s' %u", rows[i].arg,
			    f->addr != NULL ? f->addr : "(none)", f->port,
			    f->host, f->hostport);
	}
	assert_int_equal(i, COUNT(rows));
}

static void
test_opt_L_bad(void **state)
{
	static const char *const rows[] = {
		"", ":", "::", ":::", "8080", "8080:h", "h:80", "8080:h:80:",
		"a:8080:h:80:x", "x:h:80", "65536:h:80", "-1:h:80", ":h:80",
		"8080:h:0", "8080:h:65536", "8080:h:", "8080:h:http",
		"8080::80", "8080:h h:80", "8080:-h:80", "8080:h/:80",
		"8080:u@h:80", "8080:[h]:80", "8080:[]:80", "8080:[::1:80",
		"8080:[::1]x:80", "[::1]8080:h:80", "::1:8080:h:80",
		"8080:::1:80", "a:b:8080:h:80", "8080:h:80 ", " 8080:h:80",
		"8080:h\n:80",
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		ends(opt_L, rows[i], 2, "-L: ");
}

/* Nothing in brackets is no address: least of all is it all of them. */
static void
test_opt_L_brackets(void **state)
{
	(void)state;
	ends(opt_L, "[]:8080:h:80", 2, "-L: ");
}

/* ---- lines of a forwards file ------------------------------------------- */

static const char *
lines_of(struct forward **list, const char *text, size_t n)
{
	static char own[4096];
	struct span s;
	char *p = malloc(n);		/* its end is the memory's */
	const char *wrong;

	*list = NULL;
	if (n > 0)
		memcpy(p, text, n);
	s.p = p;
	s.n = n;
	if ((wrong = lines_read(list, s)) != NULL)
		wrong = strcpy(own, wrong);
	free(p);
	return wrong;
}

static void
lines_free(struct forward *f)
{
	struct forward *next;

	for (; f != NULL; f = next) {
		next = f->next;
		forward_free(f);
	}
}

/* All that a line has. */
static void
test_lines_read(void **state)
{
	static const char text[] =
	    "# x\r\n2222 host.example 22 proxy.corp 3128 # y\r\n"
	    "\n"
	    "[::1]:80 [::2] 81 -x joe:pw@a -x ws://b/c -c ::1 -c !any\n"
	    "127.1:0 10.1 82 -x direct\n"
	    "*:83 h 84 -cany\n"
	    "0 h 85 ::3 86\n"
	    "localhost:87 ::4 88 -x joe:pw@a -x ws://b/c";
	struct hop shared;
	struct forward *list, *f;
	size_t n;

	(void)state;
	memset(&shared, 0, sizeof(shared));
	opt.hops = &shared;
	for (n = 0; n < sizeof(text); n++) {
		(void)lines_of(&list, text, n);
		lines_free(list);
		assert_null(routes);
	}
	assert_null(lines_of(&list, text, sizeof(text) - 1));
	f = list;
	assert_int_equal(f->line, 2);
	assert_null(f->addr);
	assert_int_equal(f->port, 2222);
	assert_int_equal(f->naddrs, 2);
	assert_string_equal(f->host, "host.example");
	assert_int_equal(f->hostport, 22);
	assert_string_equal(f->hops->who, "proxy.corp:3128");
	assert_int_equal(f->hops->carriage, BY_CONNECT);
	assert_null(f->hops->next);
	assert_null(f->rules);
	f = f->next;
	assert_int_equal(f->line, 4);
	assert_string_equal(f->addr, "::1");
	assert_int_equal(f->naddrs, 1);
	assert_string_equal(f->host, "::2");
	assert_string_equal(f->hops->who, "a:3128");
	assert_string_equal(f->hops->pass, "pw");
	assert_string_equal(f->hops->next->path, "/c");
	assert_string_equal(f->rules->text, "::1");
	assert_true(f->rules->next->deny);
	/* written alike, they are the same */
	assert_ptr_equal(f->hops, f->next->next->next->next->hops);
	assert_int_equal(f->route->refs, 2);
	f = f->next;
	assert_null(f->hops);
	assert_null(f->route);
	assert_int_equal(f->port, 0);
	f = f->next;
	assert_ptr_equal(f->hops, &shared);
	assert_null(f->route);
	assert_string_equal(f->rules->text, "any");
	assert_true(addr_any(&f->addrs[0]));
	f = f->next;
	assert_string_equal(f->hops->who, "[::3]:86");
	f = f->next;
	assert_null(f->addr);
	assert_int_equal(f->port, 87);
	assert_string_equal(f->host, "::4");
	assert_null(f->next);
	lines_free(list);
	assert_null(routes);
	opt.hops = NULL;
}

/* What is wrong, and in which line. */
static void
test_lines_read_bad(void **state)
{
	static const struct {
		const char *text; int line; const char *wrong;
	} rows[] = {
		{ "a", 1, "not [addr:]port destination port" },
		{ "\n#\n1 h\n", 3, "not [addr:]port destination port" },
		{ "a h 1", 1, "bad port 'a'" },
		{ "1 a@b 1", 1, "bad host" },
		{ "1 h 1 -x a:b@c:d", 1, "-x: bad port" },
		{ "1 h 1 a@b 1", 1, "bad host" },
		{ "1 h 1 -c x", 1, "-c: bad rule 'x'" },
		{ "1 h 1\n2 h 1\n1 g 2", 3, "127.0.0.1:1 is line 1's already" },
		{ "1 h 1\n[::1]:1 h 2", 2, "[::1]:1 is line 1's already" },
		{ "*:1 h 1 -c any\n127.9:1 h 2", 2,
		    "127.0.0.9:1 is line 1's already" },
		{ "[::]:1 h 1", 1, ":: is open to other machines: say for "
		    "whom, with -c" },
		{ "0 h 1\n0 h 1\n", 0, NULL },
		{ "127.1:1 h 1\n127.2:1 h 1\n[::1]:1 h 1", 0, NULL },
	};
	struct forward *list;
	const char *wrong;
	size_t i, n;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		wrong = lines_of(&list, rows[i].text, strlen(rows[i].text));
		lines_free(list);
		if (rows[i].wrong == NULL ? wrong != NULL : wrong == NULL ||
		    strcmp(wrong, rows[i].wrong) != 0 ||
		    source.line != rows[i].line)
			fail_msg("'%s': %d: %s", rows[i].text, source.line,
			    wrong != NULL ? wrong : "good");
		for (n = 0; n < strlen(rows[i].text); n++) {
			(void)lines_of(&list, rows[i].text, n);
			lines_free(list);
		}
		assert_null(routes);
	}
}

static void
test_opt_H(void **state)
{
	static const struct {
		const char *arg, *name, *value, *masked; int remove;
	} rows[] = {
		{ "A: b c", "A", "b c", "A: ***", 0 },
		{ "User-Agent:x", "User-Agent", "x", "User-Agent:*", 0 },
		{ "X:  a:b ", "X", "a:b", "X:  ****", 0 },
		{ "Host:", "Host", "", "Host:", 1 },
		{ "Accept:   ", "Accept", "", "Accept:   ", 1 },
		{ "N: \xc3\xa9", "N", "\xc3\xa9", "N: **", 0 },
	};
	const struct extra *x;
	char arg[64];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		strcpy(arg, rows[i].arg);
		opt_H(arg);
		assert_string_equal(arg, rows[i].masked);
	}
	for (i = 0, x = opt.extras; x != NULL; x = x->next, i++) {
		assert_true(span_is(x->field.name, rows[i].name));
		assert_true(span_is(x->field.value, rows[i].value));
		assert_int_equal(x->remove, rows[i].remove);
	}
	assert_int_equal(i, COUNT(rows));
	assert_int_equal(extra_replaces("Host"), 1);
	assert_int_equal(extra_replaces("host"), 1);
	assert_int_equal(extra_replaces("user-agent"), 1);
	assert_int_equal(extra_replaces("Hos"), 0);
	assert_int_equal(extra_replaces("Hosts"), 0);
	assert_int_equal(extra_replaces("Proxy-Authorization"), 0);
	assert_int_equal(extra_replaces(""), 0);
}

static void
test_opt_H_bad(void **state)
{
	static const char *const rows[] = {
		"", "A", ":", ": b", "A b: c", "A : b", " A: b", "A\t: b",
		"A: b\r", "A: b\nC: d", "A: b\r\nC: d", "A: \x1b", "A: b\tc",
		"A\r\n: b", "\xc3\xa9: b", "(A): b", "A\x7f: b", "A: \x7f",
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		ends(opt_H, rows[i], 2, "-H: ");
		/* A value may be a secret: it is in no message. */
		if (strlen(rows[i]) > 4 && strstr(said, rows[i] + 1) != NULL)
			fail_msg("'%s'", said);
	}
}

static void
test_opt_numbers(void **state)
{
	static const char *const bad[] = {
		"", "0", "-1", "+1", "1.5", "1s", " 1", "x", "9999999999",
		"18446744073709551617",
	};
	size_t i;

	(void)state;
	takes(opt_w, "1");
	takes(opt_I, "86400");
	for (i = 0; i < COUNT(bad); i++) {
		ends(opt_w, bad[i], 2, "-w: ");
		ends(opt_I, bad[i], 2, "-I: ");
		ends(opt_j, bad[i], 2, "-j: ");
	}
}

static void
test_opt_set(void **state)
{
	static char rule[] = "10.0.0.0/8", user[] = "joe", one[] = "1",
	    file[] = "f";

	(void)state;
	opt_4(NULL);
	assert_int_equal(reach.family, AF_INET);
	opt_6(NULL);
	assert_int_equal(reach.family, AF_INET6);
	opt_c(rule);
	assert_non_null(opt.clients);
	assert_null(opt.targets);
	opt_t(rule);
	opt_t(rule);
	assert_non_null(opt.targets->next);
	assert_null(opt.clients->next);
	opt_P(user);
	assert_ptr_equal(opt.user, user);
	opt_a(file);
	assert_ptr_equal(opt.cred_file, file);
	opt_w(one);
	assert_int_equal(opt.wait, 1);
	opt_I(one);
	assert_int_equal(opt.idle, 1);
	opt_j(one);
	assert_int_equal(opt.workers, 1);
}

static void
test_opt_words(void **state)
{
	(void)state;
	takes(opt_A, "basic");
	takes(opt_A, "any");
	takes(opt_A, "digest");
	ends(opt_A, "ntlm", 2, "-A: ");
	ends(opt_A, "Basic ", 2, "-A: ");
	takes(opt_X, "connect");
	ends(opt_X, "4", 2, "-X: ");
	ends(opt_X, "5", 2, "-X: ");
	ends(opt_X, "", 2, "-X: ");
	takes(opt_s, "127.0.0.1");
	takes(opt_s, "::1");
	ends(opt_s, "localhost", 2, "-s: ");
	ends(opt_s, "127.0.0.1:80", 2, "-s: ");
	takes(opt_P, "joe");
	ends(opt_P, "joe:x", 2, "-P: ");
	ends(opt_P, "j\noe", 2, "-P: ");
}

static void
child_host(char *arg)
{
	char host[HOST_MAX + 1];

	opt_host(host, arg, strlen(arg), "host");
	say("", "%s", host);
}

static void
test_opt_host(void **state)
{
	static const struct { const char *arg, *want; } rows[] = {
		{ "a.example", "a.example" }, { "127.1", "127.1" },
		{ "::1", "::1" }, { "[::1]", "::1" },
		{ "2001:db8::1", "2001:db8::1" },
	};
	static const char *const bad[] = {
		"", "-a", "a b", "a\n", "a:80", "[a]", "[::1]:80", "::1]",
		"u@a", "http://a", "a/b", ":",
	};
	char want[64], longest[HOST_MAX + 2];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_int_equal(in_child(child_host, rows[i].arg), 0);
		snprintf(want, sizeof(want), "httptun: %s\n", rows[i].want);
		assert_string_equal(said, want);
	}
	for (i = 0; i < COUNT(bad); i++)
		ends(child_host, bad[i], 2, "host: ");
	memset(longest, ':', sizeof(longest));
	longest[HOST_MAX + 1] = '\0';
	ends(child_host, longest, 2, "host: ");
	memset(longest, 'a', HOST_MAX + 1);
	ends(child_host, longest, 2, "host: ");
}

/* ---- what a poll lane waits for ----------------------------------------- */

static struct poller apoller;
static struct tunnel atunnel, aconnection;

/* A PUT of so many bytes, asked so long ago, of which these have not left. */
static struct lane *
lane_put(size_t length, size_t unsent, int64_t ago)
{
	struct lane *l = &apoller.lane[UP];

	timer_stop(&l->timer);
	memset(l, 0, sizeof(*l));
	aconnection.state = DEAD;	/* it is not to be closed */
	l->p = &apoller;
	l->c = &aconnection;
	l->busy = l->sent = 1;
	l->purport = TO_PUT;
	l->length = length;
	l->unsent = l->c->far.out.len = (unsigned)unsent;
	l->asked = l->since = loop_now() - ago;
	return l;
}

/* The wait begins when all has left, however long that takes. */
static void
test_lane_late(void **state)
{
	struct lane *l = lane_put(8192, 100, POLL_ANSWER_MS);
	unsigned left[] = { 99, 1, 0 };
	size_t i;

	(void)state;
	apoller.t = &atunnel;
	apoller.body = apoller.most = 8192;
	for (i = 0; i < COUNT(left); i++) {
		l->c->far.out.len = left[i];
		lane_late(l);
		assert_true(l->busy);
		assert_ptr_equal(l->timer.fn, lane_late);
	}
	lane_late(l);
	assert_false(l->busy);
	assert_ptr_equal(l->timer.fn, lane_again);
	assert_int_equal(apoller.body, 4096);
	/* nor is it waited for where nothing moves */
	l = lane_put(4096, 100, POLL_ANSWER_MS);
	lane_late(l);
	assert_false(l->busy);
	assert_int_equal(apoller.body, 2048);
	timer_stop(&l->timer);
}

/* What comes slowly is no silence; what has stopped is. */
static void
test_lane_slow(void **state)
{
	struct lane *down = &apoller.lane[DOWN], *put;
	int64_t ago = 7;
	size_t i;

	(void)state;
	memset(&apoller, 0, sizeof(apoller));
	apoller.t = &atunnel;
	apoller.open = 1;
	apoller.heard = loop_now() - SESSION_SECS * 1000;
	for (i = 0; i < 2; i++) {
		put = lane_put(2000, 0, 0);
		assert_true(lane_hopeless(put));
		*down = *put;
		down->timer.next = down->timer.prev = NULL;
		down->purport = TO_GET;
		down->stream = 1;
		aconnection.far.active = loop_now() - ago;
		lane_late(down);
		assert_true(down->busy);
		assert_int_equal(down->timer.at - loop_now(),
		    POLL_ANSWER_MS - ago);
		assert_false(lane_hopeless(put));
		timer_stop(&down->timer);
		aconnection.far.active = loop_now() - POLL_ANSWER_MS;
		apoller.heard = loop_now();
		lane_late(down);
		assert_false(down->busy);
		timer_stop(&down->timer);
		apoller.heard = loop_now() - SESSION_SECS * 1000;
	}
	memset(&apoller, 0, sizeof(apoller));
	memset(&aconnection, 0, sizeof(aconnection));
}

static void
test_lane_pace(void **state)
{
	static const struct {
		size_t length; int64_t took; int status, failed; size_t body;
	} rows[] = {
		{ 65536, POLL_SLOW_MS, 0, 1, 32768 },
		{ 65536, POLL_SLOW_MS - 1000, 0, 1, 65536 },
		{ 65536, 0, 408, 1, 32768 },
		{ 65536, 0, 503, 1, 65536 },
		{ 10000, POLL_SLOW_MS, 503, 1, 5000 },
		{ 1500, POLL_SLOW_MS, 0, 1, POLL_BODY_MIN },
		{ 1, POLL_SLOW_MS, 0, 1, 65536 },
		{ 65536, 0, 200, 0, 131072 },
		{ 65536, POLL_SLOW_MS / 2, 200, 0, 65536 },
		{ 65535, 0, 200, 0, 65536 },
	};
	struct lane *l;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		apoller.body = 65536;
		apoller.most = 200000;
		l = lane_put(rows[i].length, 0, rows[i].took);
		l->status = rows[i].status;
		lane_pace(l, rows[i].failed);
		assert_int_equal(apoller.body, rows[i].body);
	}
	apoller.body = 131072;
	lane_pace(lane_put(131072, 0, 0), 0);
	assert_int_equal(apoller.body, 200000);
	/* what is no PUT says nothing about their size */
	l = lane_put(65536, 0, POLL_SLOW_MS);
	l->purport = TO_GET;
	lane_pace(l, 1);
	assert_int_equal(apoller.body, 200000);
}

/* The other lane's answers do not help what cannot be any shorter. */
static void
test_lane_hopeless(void **state)
{
	int64_t limit = SESSION_SECS * 1000;

	(void)state;
	apoller.open = 1;
	apoller.heard = loop_now();
	assert_false(lane_hopeless(lane_put(POLL_BODY_MIN + 1, 0, limit)));
	assert_true(lane_hopeless(lane_put(POLL_BODY_MIN, 0, limit)));
	assert_false(lane_hopeless(lane_put(POLL_BODY_MIN, 0, limit - 9000)));
	apoller.heard = loop_now() - limit;
	assert_true(lane_hopeless(lane_put(POLL_BODY_MIN + 1, 0, 0)));
	assert_true(lane_hopeless(lane_put(1, 0, 0)));
	apoller.open = 0;
	assert_false(lane_hopeless(lane_put(1, 0, limit)));
}

/* Bytes of the tunnel's are life (-I), those that only ask for some are not. */
static void
test_lane_active(void **state)
{
	int64_t ago = loop_now() - 5000;
	struct lane *l = lane_put(1, 0, 5000);

	(void)state;
	l->c->far.active = 0;
	assert_int_equal(poller_active(&apoller), ago);
	l->c->far.active = ago + 1000;
	assert_int_equal(poller_active(&apoller), ago + 1000);
	l->vain = 1;
	assert_int_equal(poller_active(&apoller), 0);
	l->vain = 0;
	l->length = 0;
	assert_int_equal(poller_active(&apoller), 0);
	l->purport = TO_GET;
	assert_int_equal(poller_active(&apoller), 0);
	l->stream = 1;
	assert_int_equal(poller_active(&apoller), ago + 1000);
	l->sent = 0;
	assert_int_equal(poller_active(&apoller), 0);
}

/* Only a GET that has left keeps the session. */
static void
test_poller_keep(void **state)
{
	static const struct {
		unsigned busy:1, sent:1, stream:1, keeping:1;
	} rows[] = {
		{ 0, 0, 0, 1 }, { 1, 0, 0, 1 }, { 1, 1, 0, 0 }, { 1, 1, 1, 1 }
	};
	struct lane *l = &apoller.lane[DOWN];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		(void)lane_put(0, 0, 0);	/* nothing new is asked */
		apoller.dialect = NATIVE;
		apoller.keeping = 0;
		l->busy = rows[i].busy;
		l->sent = rows[i].sent;
		l->stream = rows[i].stream;
		poller_keep(&apoller);
		assert_int_equal(apoller.keeping, rows[i].keeping);
		assert_ptr_equal(apoller.timer.fn, poller_keep);
		timer_stop(&apoller.timer);
	}
	memset(l, 0, sizeof(*l));
}

static int arefused;

static void
arefuse(struct tunnel *t)
{
	arefused++;
	assert_int_equal(t->opening->fault.status, 504);
	assert_string_equal(t->opening->fault.what,
	    "no connection within 15 s");
	t->state = DEAD;
}

/*
 * Nobody answers a SYN: to open a tunnel -w is the limit, but to go on with
 * one that is open there are new attempts.
 */
static void
test_opening_stale(void **state)
{
	static const struct asker asker = { NULL, arefuse, NULL, 0, 1 };
	int fd = socket(AF_INET, SOCK_STREAM, 0), full[2], n;
	unsigned open;
	struct tunnel t;
	struct opening o;
	union addr a;
	socklen_t len = sizeof(a);

	(void)state;
	/* A backlog that is full drops them. */
	assert_int_equal(addr_literal(&a, "127.0.0.1", 0), 0);
	assert_int_equal(bind(fd, &a.sa, sizeof(a.in)), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, &a.sa, &len), 0);
	for (n = 0; n < 2; n++) {
		full[n] = socket(AF_INET, SOCK_STREAM, 0);
		(void)fcntl(full[n], F_SETFL, O_NONBLOCK);
		(void)connect(full[n], &a.sa, sizeof(a.in));
	}
	for (open = 0; open < 2; open++) {
		memset(&t, 0, sizeof(t));
		memset(&o, 0, sizeof(o));
		t.asker = &asker;
		t.opening = &o;
		t.state = OPENING;
		o.fixed = 1;
		t.lane = lane_put(0, 0, 0);
		apoller.open = open & 1;
		o.ticks = o.from = 1000;
		o.dial = dial_start("127.0.0.1", addr_port(&a), 30,
		    &far_dialer, &t);
		assert_non_null(o.dial);
		for (n = 0; n < KNOCK_MS / TICK_MS; n++)
			opening_tick(&t);
		assert_int_equal(arefused, 0);
		opening_tick(&t);
		assert_int_equal(arefused, (int)open);
		timer_stop(&t.deadline);
		t.lane = NULL;
		opening_quit(&t);
	}
	for (n = 0; n < 2; n++)
		close(full[n]);
	close(fd);
}

/* ---- how long a poll session lives -------------------------------------- */

#define ID	"0123456789abcdef0123456789abcdef"

/* Its client asks for something, as this user; the head of the answer. */
static const char *
session_answers(struct tunnel *t, int peer, const char *user,
    const char *request)
{
	static char head[1024];
	struct head h;
	ssize_t n;

	free(t->user);
	t->user = user != NULL ? strdup(user) : NULL;
	assert_int_equal(buf_put(&t->near.in, request, strlen(request)), 0);
	n = head_request(&h, t->near.in.p + t->near.in.off, t->near.in.len);
	assert_true(n > 0);
	t->native = 1;
	t->since = loop_now();
	poll_serve(t, &h, (size_t)n, 1);
	n = recv(peer, head, sizeof(head) - 1, MSG_DONTWAIT);
	head[n > 0 ? n : 0] = '\0';
	return head;
}

/* A client's connection; its side of that. */
static struct tunnel *
client_comes(int *peer)
{
	union addr addr;
	int p[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	assert_int_equal(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
	memset(&addr, 0, sizeof(addr));
	*peer = p[1];
	return tunnel_accept(&by_request, &request_steps, p[0], &addr);
}

/* Each request of its user's counts, and while one is open nothing else. */
static void
test_session_renew(void **state)
{
	static struct registry all;
	const int64_t whole = SESSION_SECS * 1000 - 1000;
	struct span id = { ID, strlen(ID) };
	struct tunnel *t, *other;
	struct session *s;
	int peer;

	(void)state;
	registry = &all;
	t = client_comes(&peer);
	other = tunnel_new(&by_request);
	s = session_new(t, id, NATIVE);
	assert_non_null(s);
	s->claimed = 1;
	s->t->what = strdup("a:1");
	s->t->state = OPEN;
	s->t->user = strdup("joe");
	timer_set(&s->expiry, 5000, session_late, s);
	/* somebody else's is none */
	assert_non_null(strstr(session_answers(t, peer, "ann", "GET /" ID
	    " HTTP/1.1\r\nTunnel-Offset: 9\r\n\r\n"), " 404 "));
	assert_true(s->expiry.at - loop_now() <= 5000);
	assert_non_null(strstr(session_answers(t, peer, "joe", "GET /" ID
	    " HTTP/1.1\r\nTunnel-Offset: 9\r\n\r\n"), " 409 "));
	assert_true(s->expiry.at - loop_now() > whole);
	/* those that are held back */
	assert_string_equal(session_answers(t, peer, "joe", "GET /" ID
	    " HTTP/1.1\r\nTunnel-Offset: 0\r\n\r\n"), "");
	assert_non_null(errand_new(s, other, TO_PUT));
	assert_null(s->expiry.next);
	errand_end(s->errands);
	assert_null(s->expiry.next);
	errand_end(s->errands);
	assert_true(s->expiry.at - loop_now() > whole);
	tunnel_close(s->t, "done", 0);
	tunnel_close(other, "done", 0);
	tunnel_close(t, "done", 0);
	close(peer);
	registry = NULL;
}

/* So does an answer that has not left yet, and its bytes are life (-I). */
static void
test_session_told(void **state)
{
	static struct registry all;
	static char bytes[4 * POLL_WINDOW];
	struct span id = { ID, strlen(ID) };
	struct tunnel *t;
	struct session *s;
	int peer, ends;

	(void)state;
	registry = &all;
	for (ends = 0; ends < 2; ends++) {
		t = client_comes(&peer);
		s = session_new(t, id, NATIVE);
		assert_non_null(s);
		s->claimed = 1;
		s->t->what = strdup("a:1");
		s->t->state = OPEN;
		s->t->near.active = t->near.active = 0;
		assert_int_equal(buf_put(&s->down, bytes, POLL_WINDOW), 0);
		(void)session_answers(t, peer, NULL, "GET /" ID
		    " HTTP/1.1\r\nTunnel-Offset: 0\r\n\r\n");
		assert_true(t->near.out.len > 0);
		assert_null(s->expiry.next);
		assert_int_equal(session_active(s), loop_now());
		t->near.active = 7;
		assert_int_equal(session_active(s), 7);
		if (ends)
			tunnel_close(t, "late", 0);
		else {
			assert_true(recv(peer, bytes, sizeof(bytes),
			    MSG_DONTWAIT) > 0);
			t->near.active = 8;
			request_sent(t, &t->near);
		}
		assert_int_equal(s->t->near.active, ends ? 7 : 8);
		assert_non_null(s->expiry.next);
		assert_int_equal(session_active(s), 0);
		tunnel_close(s->t, "done", 0);
		if (!ends)
			tunnel_close(t, "done", 0);
		close(peer);
	}
	registry = NULL;
}

/* After a DELETE the target has its time to take what was accepted. */
static void
test_session_swept(void **state)
{
	struct tunnel *t;

	(void)state;
	t = tunnel_new(&by_session);
	t->state = OPEN;
	t->what = strdup("a:1");
	session_swept(t);
	assert_int_equal(t->state, OPEN);
	assert_ptr_equal(t->deadline.fn, session_swept);
	assert_non_null(t->deadline.next);
	/* if that is not too long */
	opt.idle = 5;
	t->far.active = loop_now() - 4999;
	session_swept(t);
	assert_int_equal(t->state, OPEN);
	t->far.active--;
	session_swept(t);
	assert_int_equal(t->state, DEAD);
	opt.idle = 0;
	t = tunnel_new(&by_session);
	t->state = OPEN;
	t->what = strdup("a:1");
	t->far.finished = 1;
	session_swept(t);
	assert_int_equal(t->state, DEAD);
	/* What is lost takes nothing, however long it goes on talking. */
	t = tunnel_new(&by_session);
	t->state = OPEN;
	t->what = strdup("a:1");
	t->far.finish = 1;
	t->far.error = EPIPE;
	session_swept(t);
	assert_int_equal(t->state, DEAD);
}

/* A worker's slots are looked at up to its last one that is taken. */
static void
test_registry(void **state)
{
	static struct registry all;
	char id[8];
	unsigned i, mine = (unsigned)crew_number();
	int n;

	(void)state;
	registry = &all;
	for (i = 0; i < SESSIONS_EACH; i++) {
		assert_int_equal(slot_spare(), i);
		snprintf(id, sizeof(id), "%u", i);
		slot_take(i, id);
		assert_int_equal(all.top[mine], i + 1);
		assert_int_equal(slot_find(id, strlen(id), &n), -1);
		all.slots[mine][i].state = SLOT_GRANTED;
		assert_int_equal(slot_find(id, strlen(id), &n), mine);
		assert_int_equal(n, i + 1);
	}
	assert_int_equal(slot_spare(), SESSIONS_EACH);
	slot_give(7);
	assert_int_equal(all.top[mine], SESSIONS_EACH);
	assert_int_equal(slot_spare(), 7);
	assert_int_equal(slot_find("7", 1, &n), -1);
	assert_int_equal(n, SESSIONS_EACH - 1);
	/* another worker's */
	memcpy(&all.slots[mine + 1][0], &all.slots[mine][8],
	    sizeof(struct slot));
	slot_give(8);
	assert_int_equal(slot_find("8", 1, &n), -1);
	all.top[mine + 1] = 1;
	assert_int_equal(slot_find("8", 1, &n), mine + 1);
	assert_int_equal(n, SESSIONS_EACH - 1);
	for (i = 9; i < SESSIONS_EACH; i++)
		slot_give(i);
	assert_int_equal(all.top[mine], 7);
	for (i = 0; i < 7; i++)
		slot_give(i);
	assert_int_equal(all.top[mine], 0);
	registry = NULL;
}

/* A PUT that waits for a session that there is no room for: the connection
 * ends, as its body is not to be taken for the next request. */
static void
test_session_full(void **state)
{
	static struct registry all;
	struct span id = { ID, strlen(ID) };
	struct tunnel *t;
	struct session *s;
	char head[1024];
	ssize_t n;
	int peer;

	(void)state;
	registry = &all;
	t = client_comes(&peer);
	s = session_new(t, id, NATIVE);
	assert_non_null(s);
	assert_string_equal(session_answers(t, peer, NULL, "PUT /" ID
	    " HTTP/1.1\r\nTunnel-Offset: 0\r\nContent-Length: 18\r\n\r\n"
	    "GET / HTTP/1.1\r\n\r\n"), "");
	/* an answer to the slot's owner before is none to it */
	session_claimed(s->slot);
	assert_int_equal(recv(peer, head, sizeof(head), MSG_DONTWAIT), -1);
	all.slots[crew_number()][s->slot].state = SLOT_FULL;
	session_claimed(s->slot);
	n = recv(peer, head, sizeof(head) - 1, MSG_DONTWAIT);
	head[n > 0 ? n : 0] = '\0';
	assert_non_null(strstr(head, " 503 "));
	assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
	tunnel_close(t, "done", 0);
	close(peer);
	registry = NULL;
}

/* ---- when an exit tries again ------------------------------------------- */

/* After 1 s, 2 s and so on, up to 60 s; not all at the same time. */
static void
test_exit_retry(void **state)
{
	int64_t ms, least, most;
	int i, k;

	(void)state;
	for (i = 0; i < 20; i++) {
		exits.delay = EXIT_DELAY_MS;
		least = INT64_MAX;
		most = 0;
		for (k = 0; k < 50; k++) {
			exit_retry(0);
			ms = exits.timer.at - loop_now();
			timer_stop(&exits.timer);
			if (k == 0)
				assert_in_range(ms, EXIT_DELAY_MS,
				    EXIT_DELAY_MS * 5 / 4);
			assert_true(ms <= EXIT_DELAY_MAX_MS);
			if (k < 10)
				continue;
			assert_true(ms >= EXIT_DELAY_MAX_MS / 2);
			least = ms < least ? ms : least;
			most = ms > most ? ms : most;
		}
		assert_true(least < most);
	}
	exits.delay = EXIT_DELAY_MS;
	exit_retry(EXIT_REJECTED_MS);
	assert_true(exits.timer.at - loop_now() >= EXIT_REJECTED_MS);
	timer_stop(&exits.timer);
	exit_good();
	exits.links = exits.trouble = 0;
}

/* ---- the log ----------------------------------------------------------- */

static void
test_log_word(void **state)
{
	static const struct { const char *s, *want; } rows[] = {
		{ "a:80", " a:80" }, { "", " -" }, { "a b  c", " a_b__c" },
		{ " ", " _" }, { "a\tb\nc", " a\\x09b\\x0ac" },
		{ "\xc3\xa9", " \\xc3\\xa9" }, { "\x1b[2J", " \\x1b[2J" },
	};
	struct buf b = { NULL, 0, 0, 0 };
	char word[4 * HOST_MAX];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		log_word(&b, rows[i].s);
		assert_int_equal(b.len, strlen(rows[i].want));
		assert_memory_equal(b.p + b.off, rows[i].want, b.len);
		buf_free(&b);
	}
	/* Bounded, and still one word. */
	memset(word, '\n', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	log_word(&b, word);
	assert_in_range(b.len, 2, 2 * HOST_MAX);
	assert_null(memchr(b.p + b.off, '\n', b.len));
	assert_null(memchr(b.p + b.off + 1, ' ', b.len - 1));
	buf_free(&b);
}

static void
child_log(char *arg)
{
	char what[] = "a:80";
	struct tunnel t;

	memset(&t, 0, sizeof(t));
	t.status = 200;
	t.what = what;
	t.user = arg;
	t.near.got = 12345678901;
	t.far.got = 7;
	t.since = loop_now() - 61005;
	(void)addr_literal(&t.client, "::1", 99);
	log_tunnel(&t, "done");		/* without -v: nothing */
	opt.verbose = 1;
	log_tunnel(&t, "done");
}

/* httptun: TIME CLIENT USER WHAT STATUS UP DOWN SECS WHY */
static void
test_log_tunnel(void **state)
{
	(void)state;
	assert_int_equal(in_child(child_log, "joe x"), 0);
	assert_true(one_line());
	assert_int_equal(said[29], ' ');
	assert_string_equal(said + 30,
	    "[::1]:99 joe_x a:80 200 12345678901 7 61.005 done\n");
	assert_int_equal(in_child(child_log, NULL), 0);
	assert_non_null(strstr(said, " [::1]:99 - a:80 200 "));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_say),
		TEST(test_say_head),
		TEST(test_ports),
		TEST(test_name_match),
		TEST(test_name_match_stars),
		TEST(test_rule_parse),
		TEST(test_rule_parse_client),
		TEST(test_rule_parse_brackets),
		TEST(test_rules),
		TEST(test_rules_guarded),
		TEST(test_client_allowed),
		TEST(test_rules_why),
		TEST(test_rules_open),
		TEST(test_rule_add),
		TEST(test_request_judge),
		TEST(test_request_credentials),
		TEST(test_request_hops),
		TEST(test_request_hops_mapped),
		TEST(test_hop_parse),
		TEST(test_hop_parse_long),
		TEST(test_hop_mask),
		TEST(test_opt_x),
		TEST(test_opt_x_many),
		TEST(test_hop_environment),
		TEST(test_no_proxy),
		TEST(test_no_proxy_variables),
		TEST(test_hops_to),
		TEST(test_hop_offers),
		TEST(test_hop_offers_many),
		TEST(test_nonce),
		TEST(test_nonce_old),
		TEST(test_nonce_elsewhere),
		TEST(test_cred_new),
		TEST(test_cred_find),
		TEST(test_cred_read),
		TEST(test_cred_starved),
		TEST(test_stdio_starved),
		TEST(test_cred_forgotten),
		TEST(test_cred_read_nul),
		TEST(test_hop_credentials),
		TEST(test_environment),
		TEST(test_opt_L),
		TEST(test_opt_L_bad),
		TEST(test_opt_L_brackets),
		TEST(test_lines_read),
		TEST(test_lines_read_bad),
		TEST(test_opt_H),
		TEST(test_opt_H_bad),
		TEST(test_opt_numbers),
		TEST(test_opt_set),
		TEST(test_opt_words),
		TEST(test_opt_host),
		TEST(test_lane_late),
		TEST(test_lane_slow),
		TEST(test_lane_pace),
		TEST(test_lane_hopeless),
		TEST(test_lane_active),
		TEST(test_poller_keep),
		TEST(test_opening_stale),
		TEST(test_session_renew),
		TEST(test_session_told),
		TEST(test_session_swept),
		TEST(test_registry),
		TEST(test_session_full),
		TEST(test_exit_retry),
		TEST(test_log_word),
		TEST(test_log_tunnel),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
