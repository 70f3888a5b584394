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
 * What the system tests share, in this order: the frame of a test, processes
 * and what they are and do, networks of its own, sockets on loopback and what
 * goes over them, patterned streams, files, HTTP, WebSockets, `httptun -l`
 * with its workers and tunnels, a client with its tunnel, a web server, other
 * people's servers.  Whatever is not as a function expects, or takes longer
 * than kit_patience(), fails the running test with the last steps and the
 * stderr of every process.
 * A test frees nothing itself: kit_teardown() ends its processes, closes its
 * descriptors, removes its files and leaves its networks.
 *
 *	static const struct CMUnitTest tests[] = { KIT_TEST(a), KIT_TEST(b) };
 */

#ifndef KIT_H
#define KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#define KIT_TEST(f)	cmocka_unit_test_setup_teardown(f, kit_setup, \
			    kit_teardown)
#define KIT_COUNT(a)	(sizeof(a) / sizeof((a)[0]))

/* The same where each row of a table is a test with its own name. */
void	 kit_add(const char *, CMUnitTestFunction, const void *);
#define KIT_ADD(table, function) do {					\
	size_t i_;							\
	for (i_ = 0; i_ < KIT_COUNT(table); i_++)			\
		kit_add((table)[i_].name, function, &(table)[i_]);	\
} while (0)
/* all that were added, in this order: what main() returns */
int	 kit_run(const char *);

int	 kit_setup(void **);
int	 kit_teardown(void **);

/* fail the test, with the last steps and every process's stderr */
void	 kit_fail(const char *, ...)
	    __attribute__((format(printf, 1, 2), noreturn));
/* a line for the trace of last steps */
void	 kit_note(const char *, ...) __attribute__((format(printf, 1, 2)));
/* how long, in ms, anything may take before the test fails */
int	 kit_patience(void);
/* monotonic milliseconds */
int64_t	 kit_now(void);
/* the binary is a sanitizer's: its memory says nothing (prints why) */
int	 kit_sanitized(void);
/* printf into memory that lives until the test's end */
const char *kit_str(const char *, ...) __attribute__((format(printf, 1, 2)));
/* the text so many times, in such memory too */
const char *kit_times(size_t, const char *);


/* Processes. */

/* what a child's stdin, stdout or stderr is; a number above 0 is a descriptor
 * of ours, which it gets a copy of */
#define KIT_PIPE	0
#define KIT_NULL	(-1)
#define KIT_CLOSED	(-2)
#define KIT_SOCK	(-3)	/* stream socketpair; one for stdin and stdout
				 * when both are this */

struct kit_opt {
	int			 in;
	int			 out;
	int			 err;
	const char *const	*env;	/* "NAME=value", ..., NULL */
	int			 newsid;	/* lead a new session */
	int			 tty;	/* > 0: its controlling terminal */
};

struct kit_proc {
	pid_t	 pid;
	int	 in;		/* our end of its stdin, or -1 */
	int	 out;		/* our end of its stdout, or -1 */
	int	 err;		/* our end of its stderr, or -1 */
	int	 reaped;
	int	 status;	/* once reaped: exit status, or -signal */
	size_t	 errlen;
	char	 errbuf[65536];	/* stderr so far, always a string */
};

/* the binary under test */
const char *kit_binary(void);
/* start the binary with these arguments (NULL ends them); opt may be NULL */
struct kit_proc *kit_httptun(const struct kit_opt *, ...);
/* start any program: argv[0] is looked up in PATH */
struct kit_proc *kit_start(const struct kit_opt *, const char *, ...);
struct kit_proc *kit_startv(const struct kit_opt *, const char *const *);
/* the test's end kills the whole process group that this one leads */
void	 kit_group(const struct kit_proc *);
/* stderr so far */
const char *kit_err(struct kit_proc *);
/* wait until stderr has this text */
void	 kit_err_wait(struct kit_proc *, const char *);
/* the whole stderr must be, or must have, this text */
void	 kit_err_is(struct kit_proc *, const char *);
void	 kit_err_has(struct kit_proc *, const char *);
/* how often the text occurs on stderr */
int	 kit_said(struct kit_proc *, const char *);
/* port of the n-th (from 0) "httptun: listening on ADDR PORT", waiting */
unsigned kit_listening(struct kit_proc *, int);
/* wait for the end: exit status, or -signal */
int	 kit_wait(struct kit_proc *);
/* wait for the end, which must have this status (or -signal) */
void	 kit_exits(struct kit_proc *, int);
/* is it still running? */
int	 kit_alive(struct kit_proc *);
/* kill if need be, reap, close its descriptors, forget it */
void	 kit_done(struct kit_proc *);
/* kill(2), which must succeed */
void	 kit_signal(pid_t, int);
/* stop it until kit_go_on(), which all do that are stopped, or the test's
 * end */
void	 kit_stop(pid_t);
void	 kit_go_on(void);


/* What processes are, and do. */

int	 kit_fds(pid_t);
/* how many of them are this one, as /proc names it; any socket when NULL */
int	 kit_holds(pid_t, const char *);
int	 kit_children(pid_t);
long	 kit_status(pid_t, const char *);	/* "VmHWM", "VmRSS": KiB */
/* how many processes descend from this one; their first pids, if wanted */
int	 kit_family(pid_t, pid_t *, int);
/* this one and its descendants, as many as there is room for */
int	 kit_processes(pid_t, pid_t *, int);

/* all processes of one command together: this one and its descendants */
struct kit_figure {
	int	 procs;
	int	 fds;
	long	 rss;		/* KiB */
	long	 cpu;		/* clock ticks that they have used */
};

void	 kit_figure(pid_t, struct kit_figure *);

/* wait until it has taken up all there is and rests, or has ended: a process
 * that spins fails here */
void	 kit_idle(struct kit_proc *);
/* the same for so many processes that work together */
void	 kit_idle_all(const pid_t *, int);
/* the same for it and its descendants; they may come and go meanwhile */
void	 kit_rests(struct kit_proc *);
/* wait until it has so many descriptors and descendants again */
void	 kit_settles(struct kit_proc *, int, int);
/* wait until it and its descendants are as many again, and have no more
 * descriptors */
void	 kit_returns(struct kit_proc *, const struct kit_figure *);
/* wait until the process has gone, reaped or not */
void	 kit_gone(pid_t);


/* Networks of a test's own, which the test's end leaves. */

/* wait in kit_script() until this device has its carrier: what is sent before
 * is lost */
#define KIT_UNTIL_UP(dev)						\
	"until ip -o link show " dev " | grep -q 'state UP'; do :; done\n"

/* make two, this machine's and another one's, joined by a wire: here it is
 * near, 192.0.2.1/24, there it is far, 192.0.2.2/24; 0 when that is not
 * possible (prints why) */
int	 kit_networks(int *, int *);
/* go into one; go back to where the test began */
void	 kit_enter(int);
void	 kit_leave(void);
/* run a shell's commands there, which must succeed */
void	 kit_script(int, const char *);


/* Sockets on loopback; family is AF_INET or AF_INET6. */

int	 kit_listen(int, unsigned *);
/* the same with this SO_RCVBUF on what it accepts, 0 for the default */
int	 kit_listen_buf(int, unsigned *, int);
/* a port where connecting gets no answer at all */
void	 kit_blackhole(unsigned *);
/* a port where connecting is refused (as nobody listens any more) */
unsigned kit_nobody(int);
/* connects to an address; one that is reset at once counts as connected */
void	 kit_dial(int, const void *, socklen_t, const char *);
int	 kit_connect(int, unsigned);
/* the same with these SO_SNDBUF and SO_RCVBUF, 0 for the default */
int	 kit_connect_buf(int, unsigned, int, int);
int	 kit_accept(int);
/* nobody has connected (up to now: call it when the process has ended) */
void	 kit_untouched(int);
/* connect and close again: 0, or the errno */
int	 kit_knock(int, unsigned);
/* is there a ::1?  (prints when not) */
int	 kit_has_ipv6(void);


/* What goes over a descriptor. */

/* wait until poll(2) reports one of these events; what is for the message */
void	 kit_poll(int, short, const char *);
void	 kit_nonblock(int, int);
void	 kit_send(int, const void *, size_t);
void	 kit_puts(int, const char *);
/* exactly n bytes */
void	 kit_recv(int, void *, size_t);
/* exactly these bytes come next */
void	 kit_expect(int, const char *);
/* up to and with the marker, nothing after it is read; a string, its length */
size_t	 kit_until(int, char *, size_t, const char *);
/* a message's head, with its empty line */
size_t	 kit_head(int, char *, size_t);
/* all up to the end of file; a string, its length */
size_t	 kit_slurp(int, char *, size_t);
/* the same; is the end a reset? */
int	 kit_to_the_end(int, char *, size_t);
/* four digits, a number below this one: which of many clients it is */
int	 kit_number(int, int);
/* nothing at all comes in so many ms */
void	 kit_silent(int, int);


/* How it ends. */

/* the end of file comes next */
void	 kit_eof(int);
/* a reset comes next */
void	 kit_expect_reset(int);
/* the end comes, in whatever way, after whatever bytes: 0, or the errno */
int	 kit_until_end(int);
/* a reset comes, after whatever bytes */
void	 kit_until_reset(int);
/* the end comes, in whatever way, without a byte; close */
void	 kit_ends(int);
/* send until the connection is reset, without reading; close */
void	 kit_push_until_reset(int);
/* end the sending side of a socket, or close a pipe: the number stays taken
 * (by /dev/null), so that nothing is closed twice */
void	 kit_half_close(int);
/* close, but the number stays taken (by /dev/null) */
void	 kit_drop(int);
/* reset the connection and close the descriptor */
void	 kit_reset(int);

/* how somebody goes */
enum kit_way { KIT_WAY_CLOSE, KIT_WAY_RESET, KIT_WAY_HALF, KIT_WAYS };

void	 kit_vanish(int, enum kit_way);


/* Patterned streams: each seed another one, each position another byte. */

void	 kit_fill(void *, size_t, unsigned, uint64_t);
/* fails unless these are the stream's bytes at this offset */
void	 kit_check(const void *, size_t, unsigned, uint64_t);

enum kit_dir { KIT_OUT, KIT_IN };

struct kit_stream {
	int		 fd;
	enum kit_dir	 dir;		/* as the test sees it */
	uint64_t	 bytes;		/* how many to send or to receive */
	unsigned	 seed;
	int		 end;		/* OUT: half-close then, IN: the end
					 * of file must come then */
	uint64_t	 done;
};

/* move all streams at once; fails when nothing moves any more */
void	 kit_pump(struct kit_stream *, size_t);
/* send of a stream's bytes what goes until nothing has gone for so many ms */
void	 kit_stuff(struct kit_stream *, int);
/* the same where the receiver does not read: less than half of it may go */
void	 kit_stalls(struct kit_stream *, int);


/* Files, in a directory that the test's end removes. */

/* the path of such a name; the file need not be there */
const char *kit_path(const char *);
/* write a file of that name and mode; its path */
const char *kit_file(const char *, mode_t, const char *);
/* write so many bytes of a stream to a file of that name; its path */
const char *kit_stream_file(const char *, size_t, unsigned);


/* HTTP as the tests see it. */

const char *kit_base64(const char *);
/* "Basic ..." for user:password */
const char *kit_basic(const char *);
/* a CONNECT for this authority, with these further fields */
const char *kit_request(const char *, const char *);
/* a CONNECT for this port of 127.0.0.1 */
const char *kit_request_to(unsigned);

/* the values of a field's lines, joined by ", "; NULL when there is none */
const char *kit_field(const char *, const char *);
/* the same where two lines are a failure */
const char *kit_one_field(const char *, const char *);
/* the one field's value must begin so; the rest of it */
const char *kit_must_have(const char *, const char *, const char *);
/* the one field's value must be this; NULL: there is no such field */
void	 kit_field_is(const char *, const char *, const char *);
/* a field's value has this among its comma-separated ones */
int	 kit_lists(const char *, const char *);

/* httptun -l offers this, strongest first: Digest with SHA-256 and with MD5 (to
 * HTTP/1.0 the other way round), Basic; the Digest's nonce, the MD5 one's if
 * so wanted */
const char *kit_offers(const char *, const char *, int);

/* a whole reply of this status: the head, then its Content-Length's bytes */
const char *kit_reply(int, int);

enum kit_after { KIT_STAYS, KIT_CLOSES, KIT_EITHER };

/* a whole refusal by httptun -l with its status, error of Proxy-Status ("" is
 * any), and, where it says that the connection closes, the end of file; the
 * body */
const char *kit_refusal(int, int, const char *, enum kit_after);
/* the head of one, nothing after it is read; its Content-Length */
size_t	 kit_refusal_head(int, int, const char *, enum kit_after);


/* WebSockets (RFC 6455), their frames. */

#define KIT_WS_MAX	65536	/* bytes of a frame that the program sends */

/* byte 0 of a frame: FIN, RSV1-3, the opcode */
enum {
	KIT_WS_CONT = 0, KIT_WS_TEXT = 1, KIT_WS_BINARY = 2, KIT_WS_CLOSE = 8,
	KIT_WS_PING = 9, KIT_WS_PONG = 10, KIT_WS_FIN = 0x80,
	KIT_WS_RSV1 = 0x40, KIT_WS_RSV2 = 0x20, KIT_WS_RSV3 = 0x10
};

/* how a length is written: in 7, 16 or 64 bits */
enum kit_ws_form { KIT_WS_SHORTEST, KIT_WS_7, KIT_WS_16, KIT_WS_64 };

/* a WebSocket, and which of its sides the test is: clients mask */
struct kit_ws {
	int		 fd;
	int		 client;
	int		 within;	/* a message that comes is not over */
	uint64_t	 left;		/* of the data frame being read */
	unsigned char	 key[4];
	unsigned	 at;		/* in the key */
	char		 pong[126];	/* the last one that came; "": none */
};

struct kit_ws_frame {
	unsigned	 op;
	int		 fin;
	uint64_t	 len;
	unsigned char	 key[4];
	unsigned char	 data[KIT_WS_MAX + 1];	/* a string */
};

/* masking is its own inverse; where in the key it is */
void	 kit_ws_mask(unsigned char *, size_t, const unsigned char [4],
	    unsigned *);
/* write a frame's head with this length, and the key where it masks; its
 * length, 14 at most */
size_t	 kit_ws_make_head(unsigned char *, int, unsigned, enum kit_ws_form,
	    uint64_t, unsigned char [4]);
/* a whole frame; its length */
size_t	 kit_ws_make(unsigned char *, int, unsigned, enum kit_ws_form,
	    const void *, size_t);
/* send a frame; a text in one; a whole binary message; the end */
void	 kit_ws_send(const struct kit_ws *, unsigned, const void *, size_t);
void	 kit_ws_say(const struct kit_ws *, unsigned, const char *);
void	 kit_ws_puts(const struct kit_ws *, const char *);
void	 kit_ws_end(const struct kit_ws *);
/* send a Close with this code, 0: without one; the other side may have gone
 * already */
void	 kit_ws_close(const struct kit_ws *, int);
/* judge what there is of the next frame's head; how many bytes to read next
 * of it, 0: it is whole */
size_t	 kit_ws_judge(struct kit_ws *, const unsigned char *, size_t,
	    struct kit_ws_frame *);
/* the next frame's head; its payload */
void	 kit_ws_read_head(struct kit_ws *, struct kit_ws_frame *);
void	 kit_ws_read_data(struct kit_ws *, struct kit_ws_frame *);


/* WebSockets, their handshakes. */

/* RFC 6455, 1.3 */
#define KIT_WS_KEY	"dGhlIHNhbXBsZSBub25jZQ=="
#define KIT_WS_ACCEPT	"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/* the Sec-WebSocket-Accept for a key */
const char *kit_ws_accept(const char *);
/* a client's request with that key and these further fields */
const char *kit_ws_request(const char *);
/* the server has taken one; NULL: for no protocol */
void	 kit_ws_upgraded(int, const char *);
/* the 101 for this key; NULL: for no protocol */
const char *kit_ws_answer(const char *, const char *);


/* `httptun -l` with all its processes. */

/* start it with these arguments (NULL ends them); without options no look-up
 * outlasts a test, whatever resolver there is */
struct kit_proc *kit_server(const struct kit_opt *, const char *, va_list);
/* with these arguments it ends with this status: one line on stderr, nothing
 * else happens */
void	 kit_will_not_start(int, const char *, ...);

struct kit_proxy {
	struct kit_proc		*proc;
	unsigned		 port;
	int			 family;	/* its clients' */
	pid_t			 pids[128];	/* proc's is the first */
	int			 npids;
	struct kit_figure	 idle;
};

/* start it with these arguments (NULL ends them) and let it answer once: then
 * all its processes are there */
void	 kit_proxy(struct kit_proxy *, const char *, ...);
/* one that has been started in another way: wait until it listens and rests,
 * and take down all of the above */
void	 kit_proxy_is(struct kit_proxy *, struct kit_proc *);
/* they have taken up all there is, and rest */
void	 kit_proxy_rests(const struct kit_proxy *);
/* wait until they have nothing left of what was asked */
void	 kit_proxy_settles(const struct kit_proxy *);
/* none of them has ever taken so many KiB */
void	 kit_proxy_below(const struct kit_proxy *, long);
/* the socket that it listens on, as /proc names it */
const char *kit_proxy_socket(const struct kit_proxy *);
/* its workers, as many as there is room for, those that have that socket, and
 * its helper, who never had it, or -1; how many they are */
int	 kit_workers(const struct kit_proxy *, pid_t *, int, pid_t *);
/* wait until there are so many, and a helper unless that is NULL; they may be
 * others now, and so its processes are taken down again */
void	 kit_wait_workers(struct kit_proxy *, pid_t *, int, pid_t *);


/* Its tunnels. */

/* connect to it; with this request, too */
int	 kit_client(const struct kit_proxy *);
int	 kit_ask(const struct kit_proxy *, const char *);

#define KIT_OK	"HTTP/1.1 200 Connection established\r\n\r\n"

/* a tunnel: the client's and the target's end */
struct kit_pair {
	int	c, t;
};

/* one to this port, where this socket listens */
struct kit_pair kit_tunnel(const struct kit_proxy *, int, unsigned);
/* it carries both ways */
void	 kit_carries(struct kit_pair);
/* it carries both ways, then ends in order */
void	 kit_farewell(struct kit_pair);
/* it carries, then ends as one of its ends does: the client's, or the
 * target's */
void	 kit_parts(struct kit_pair, enum kit_way, int);
/* it carries so many bytes each way at once; close */
void	 kit_crosses(struct kit_pair, uint64_t);
/* the one ends its direction, the other sends so many bytes afterwards;
 * close */
void	 kit_half_closed(int, int, uint64_t);

/* in each state of a tunnel, which this opens, the one's reset is the other's:
 * the client's, or the target's */
/* two proxies, whose tunnels are commands: SIGTERM ends all of the first one's
 * processes and theirs, SIGKILL those of the second */
void	 kit_families_end(struct kit_proxy *, int, unsigned);
/* stdin/stdout, with this option (or NULL), through these hops (NULL) to that
 * port */
struct kit_proc *kit_bridge(const struct kit_opt *, const char *, unsigned,
	    const char *, va_list);
void	 kit_reset_passes(struct kit_pair (*)(void), int);


/* A client's tunnel, from its stdin and stdout to a target. */

/* so many bytes each way at once */
void	 kit_talk(const struct kit_proc *, int, uint64_t);
/* so many bytes of a stream in one direction, and its end */
void	 kit_last_words(int, int, uint64_t, unsigned);
/* it was not opened: status 1, one line that begins so, and not a byte of
 * anybody's on stdout */
void	 kit_refused(struct kit_proc *, const char *);


/* A web server, in the clear and over TLS, as Python's http.server makes it. */

struct kit_web {
	unsigned	 http, https;	/* ports of 127.0.0.1 */
	const char	*cert;		/* localhost's; nobody else vouches */
};

/* start one; the text has Python's class Handler */
void	 kit_web(struct kit_web *, const char *);


/* Other people's servers. */

struct kit_service {
	const char	*name;
	const char	*ready;		/* said on stderr once it listens */
	const char	*taken;		/* said when the port is not free */
	struct kit_proc	*(*start)(const struct kit_opt *, unsigned port,
			    const char *cred);
};

/* tinyproxy takes credentials, sshd whoever has the key kit_ssh() uses */
extern const struct kit_service kit_sshd, kit_tinyproxy;

/* start one on a free port of 127.0.0.1, with these credentials to be asked
 * for if any; its port */
unsigned kit_serve(const struct kit_service *, const char *);
/* start squid for such a service, with these further lines of its
 * configuration; the test's end removes its shared memory */
struct kit_proc *kit_squid(const struct kit_opt *, unsigned, const char *);
/* start one with this environment and these arguments that takes over a
 * listening socket, which stays open here, as its stdin: no port is guessed,
 * and whoever connects before it is up stands in the queue */
struct kit_proc *kit_hand_over(int, const char *const *, const char *const *);
/* nginx so, with this in the http {} of its configuration */
struct kit_proc *kit_nginx(int, const char *);
/* HAProxy so, with this configuration, which binds fd@0 */
struct kit_proc *kit_haproxy(int, const char *);
/* make an issuer of certificates by this name; the path of its own one */
const char *kit_ca(const char *);
/* one of its, for this subjectAltName, that ends in so many days; the path,
 * with .key behind it the key's */
const char *kit_cert(const char *, const char *, int);
/* start HAProxy for TLS with this certificate and these words on its bind line
 * in front of a port of 127.0.0.1, and its own */
struct kit_proc *kit_tls(const char *, const char *, unsigned, unsigned *);
/* start ssh for a command there, by this ProxyCommand=..., or with one that is
 * none to this port of 127.0.0.1 */
struct kit_proc *kit_ssh(const char *, unsigned, const char *);
/* a command with output, diagnostics and a status of its own */
void	 kit_ssh_runs(const char *, unsigned);

#endif
