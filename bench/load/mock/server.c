/* A mock LLM server that writes down when it sent what: one thread, epoll, one HTTP chunk and one SSE event a token.
 *
 * Usage: server [--port 0] [--ttft-ms 50] [--itl-ms 10] [--batch 1] [--stall NUMBER:TOKEN:MS,...] --log FILE
 *
 * Prints its port, serves until SIGTERM, then writes the log (layout: bench/load/truth.py). ITL 0 is a flood: each
 * stream as fast as its socket takes it, `batch` events a send(). Streams tick at phases of their own within one ITL.
 * Generations are numbered as they come; the first token of each is its number, by which a client's answer is found
 * again in the log.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_IN = 1 << 20, MAX_EVENT = 512, MAX_BATCH = 64, MAX_STALLS = 64, MAX_TOKENS = 1 << 20 };
#define NS 1000000000LL
#define MS 1000000LL

typedef struct {                    /* one generation, as the log has it; times are CLOCK_MONOTONIC in ns */
    uint32_t number, port, tokens, sent;
    int64_t received, read;         /* kernel stamp of the last byte (0: none), and when this process read it */
    int64_t first_due;
    uint32_t stamped, finished;
} Record;
typedef struct { Record r; int64_t *before, *after; } Request;
typedef struct { uint32_t number, token; int64_t ns; } Planted;
typedef struct {
    int fd, port, heap, waits, chat, usage, running_usage, eof;
    char *in, *out;
    size_t in_len, in_cap, out_len, out_at, out_cap, event_len;
    char event[MAX_EVENT];          /* the chunk of a token that is neither the first nor the last */
    int64_t stamp, read, due;
    Request *request;
} Conn;

static int64_t ttft_ns = 50 * MS, itl_ns = 10 * MS;
static int batch = 1, port_wanted, poller, listener, timer, ending;
static const char *log_path;
static Planted stalls[MAX_STALLS], planted[MAX_STALLS]; /* asked for, done */
static int stall_count, planted_count;
static Request **requests;
static size_t request_count, request_cap;
static Conn **heap;
static int heap_len, heap_cap;
static int64_t slips, began;

static void die(const char *what) { perror(what); exit(1); }
static void *grown(void *old, size_t size) { void *p = realloc(old, size); if (!p) die("memory"); return p; }
static int64_t clock_ns(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec * NS + t.tv_nsec;
}
static int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* The heap of streams by the time at which each is due. */
static void put(int at, Conn *c) { heap[at] = c; c->heap = at; }
static void up(int at, Conn *c) {
    for (; at > 0 && heap[(at - 1) / 2]->due > c->due; at = (at - 1) / 2) put(at, heap[(at - 1) / 2]);
    put(at, c);
}
static void down(int at, Conn *c) {
    for (int child; (child = 2 * at + 1) < heap_len; at = child) {
        if (child + 1 < heap_len && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= c->due) break;
        put(at, heap[child]);
    }
    put(at, c);
}
static void schedule(Conn *c) {
    if (heap_len == heap_cap) heap = grown(heap, (heap_cap = heap_cap * 2 + 64) * sizeof *heap);
    up(heap_len++, c);
}
static void unschedule(Conn *c) {
    if (c->heap < 0) return;
    Conn *last = heap[--heap_len];
    int at = c->heap;
    c->heap = -1;
    if (last == c) return;
    up(at, last);
    down(last->heap, last);
}

static void watch(Conn *c, int writable) {
    struct epoll_event e = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = c};
    if (c->waits != writable && epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e)) die("epoll_ctl");
    c->waits = writable;
}
static void drop(Conn *c) {
    unschedule(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}
/* Send now what fits, keep the rest for when the socket is writable. */
static void emit(Conn *c, const char *data, size_t len) {
    if (c->out_len == c->out_at) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) { c->eof = 1; return; }
        if (n > 0) { data += n; len -= n; }
        c->out_len = c->out_at = 0;
    }
    if (!len) return;
    if (c->out_len + len > c->out_cap) c->out = grown(c->out, c->out_cap = (c->out_len + len) * 2);
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
    watch(c, 1);
}
static size_t chunk(char *into, const char *payload) {
    return sprintf(into, "%zx\r\n%s\r\n", strlen(payload), payload);
}
static void answer(Conn *c, int status, const char *body) {
    char text[2048];
    int n = snprintf(text, sizeof text, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n"
                     "%s", status, status == 200 ? "OK" : "Not Found", strlen(body), body);
    emit(c, text, n);
}

#define COMMON "\"created\":1700000000,\"model\":\"mock\",\"choices\":"
#define USAGE "\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":%u,\"total_tokens\":%u}"
/* The chunk of token `count`, counted from 1. */
static size_t token_event(const Conn *c, char *into, uint32_t count) {
    const Record *r = &c->request->r;
    char payload[MAX_EVENT - 16], usage[96] = "", text[16] = " tok";
    if (count == 1) sprintf(text, " #%u", r->number);
    if (c->running_usage) snprintf(usage, sizeof usage, "," USAGE, count, count + 8);
    snprintf(payload, sizeof payload, c->chat
        ? "data: {\"id\":\"chatcmpl-%08u\",\"object\":\"chat.completion.chunk\"," COMMON
          "[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":%s}]%s}\n\n"
        : "data: {\"id\":\"cmpl-%08u\",\"object\":\"text_completion\"," COMMON
          "[{\"index\":0,\"text\":\"%s\",\"logprobs\":null,\"finish_reason\":%s}]%s}\n\n",
        r->number, text, count == r->tokens ? "\"length\"" : "null", usage);
    return chunk(into, payload);
}
static void finish(Conn *c) {
    Record *r = &c->request->r;
    char tail[1024], payload[400];
    size_t n = 0;
    if (c->usage) {
        snprintf(payload, sizeof payload, "data: {\"id\":\"%s-%08u\",\"object\":\"%s\"," COMMON "[]," USAGE "}\n\n",
                 c->chat ? "chatcmpl" : "cmpl", r->number, c->chat ? "chat.completion.chunk" : "text_completion",
                 r->tokens, r->tokens + 8);
        n = chunk(tail, payload);
    }
    n += chunk(tail + n, "data: [DONE]\n\n");
    n += sprintf(tail + n, "0\r\n\r\n");
    r->finished = 1;
    c->request = NULL;
    emit(c, tail, n);
}
static int64_t stall_before(const Record *r, uint32_t token) {
    for (int i = 0; i < stall_count; i++)
        if (stalls[i].number == r->number && stalls[i].token == token) {
            planted[planted_count++] = stalls[i];
            return stalls[i].ns;
        }
    return 0;
}
/* The token that is due, or a batch in a flood; then when the next one is. */
static void tick(Conn *c) {
    static char events[MAX_BATCH * MAX_EVENT];
    Request *q = c->request;
    uint32_t first = q->r.sent, left = q->r.tokens - first, most = itl_ns ? 1 : batch, count = left < most ? left : most;
    size_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t token = first + i + 1;
        if (token == 1 || token == q->r.tokens || c->running_usage) n += token_event(c, events + n, token);
        else { memcpy(events + n, c->event, c->event_len); n += c->event_len; }
    }
    int64_t before = now_ns();
    if (itl_ns && before - c->due > itl_ns) { /* who was held up does not catch up in a burst */
        slips++;
        c->due = before;
    }
    emit(c, events, n);
    int64_t after = now_ns();
    for (uint32_t i = 0; i < count; i++) { q->before[first + i] = before; q->after[first + i] = after; }
    q->r.sent += count;
    if (q->r.sent == q->r.tokens) { finish(c); return; }
    c->due = (itl_ns ? c->due + itl_ns : after) + stall_before(&q->r, q->r.sent);
    if (!c->waits) schedule(c);
}

/* What is looked for in a body: a key and its value, which is enough for the requests that clients of a bench write. */
static const char *value_of(const char *body, const char *key) {
    const char *at = strstr(body, key);
    if (!at) return NULL;
    at += strlen(key);
    return at + strspn(at, " :\t");
}
static long number_of(const char *body, const char *key) {
    const char *at = value_of(body, key);
    return at ? strtol(at, NULL, 10) : 0;
}
static int true_of(const char *body, const char *key) {
    const char *at = value_of(body, key);
    return at && !strncmp(at, "true", 4);
}
static const char *header_of(const char *head, const char *name) {
    const char *at = strcasestr(head, name);
    return at ? at + strlen(name) + strspn(at + strlen(name), " ") : NULL;
}
static Request *record(Conn *c, long tokens) {
    Request *q = calloc(1, sizeof *q);
    if (request_count == request_cap) requests = grown(requests, (request_cap = request_cap * 2 + 256) * sizeof *requests);
    requests[request_count] = q;
    q->r = (Record){.number = request_count++, .port = c->port, .tokens = tokens, .read = c->read,
                    .received = c->stamp ? c->stamp : c->read, .stamped = c->stamp != 0};
    q->before = calloc(tokens, sizeof *q->before);
    q->after = calloc(tokens, sizeof *q->after);
    return q;
}
static void whole(Conn *c, uint32_t tokens) {
    char body[600];
    snprintf(body, sizeof body, "{\"id\":\"cmpl-whole\",\"object\":\"%s\"," COMMON "[{\"index\":0,%s,\"finish_reason\":\"length\"}]," USAGE "}",
             c->chat ? "chat.completion" : "text_completion",
             c->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\" tok\"}" : "\"text\":\" tok\"", tokens, tokens + 8);
    answer(c, 200, body);
}
static void generate(Conn *c, const char *head, const char *body) {
    static const char start[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                                "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
    long tokens = number_of(body, "\"max_tokens\""), other = number_of(body, "\"max_completion_tokens\"");
    tokens = tokens > 0 ? tokens : other > 0 ? other : 16;
    if (tokens > MAX_TOKENS) tokens = MAX_TOKENS;
    c->chat = strstr(head, "/chat/") != NULL;
    if (!true_of(body, "\"stream\"")) { whole(c, tokens); return; }
    c->usage = true_of(body, "\"include_usage\"");
    c->running_usage = true_of(body, "\"continuous_usage_stats\"");
    c->request = record(c, tokens);
    c->event_len = token_event(c, c->event, 0);
    emit(c, start, sizeof start - 1);
    /* The golden ratio spreads any number of streams evenly over one ITL. */
    Record *r = &c->request->r;
    double turns = r->number * 0.6180339887498949;
    c->due = r->first_due = r->received + ttft_ns + (int64_t)(itl_ns * (turns - (int64_t)turns));
    c->due += stall_before(r, 0);
    if (!c->waits) schedule(c);
}
static void route(Conn *c, const char *head, const char *body) {
    if (!strncmp(head, "POST /v1/completions ", 21) || !strncmp(head, "POST /v1/chat/completions ", 26))
        generate(c, head, body);
    else if (!strncmp(head, "GET /v1/models", 14))
        answer(c, 200, "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1700000000,"
                       "\"owned_by\":\"mock\",\"root\":\"mock\",\"max_model_len\":1048576}]}");
    else if (strstr(head, "model_info ") || strstr(head, "server_info "))
        answer(c, 200, "{\"model_path\":\"mock\",\"tokenizer_path\":\"mock\",\"is_generation\":true}");
    else if (!strncmp(head, "GET /health", 11) || !strncmp(head, "GET /ping", 9) || strstr(head, " /flush_cache "))
        answer(c, 200, "{}");
    else answer(c, 404, "{\"error\":{\"message\":\"no such route\",\"code\":404}}");
}
/* Every whole request that has come, one after the other; false where the client sent what is none. */
static int serve(Conn *c) {
    while (!c->request && c->in_len) {
        c->in[c->in_len] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return c->in_len < MAX_IN;
        const char *said = header_of(c->in, "\r\ncontent-length:");
        size_t head = end + 4 - c->in, body = said && said < end ? strtoul(said, NULL, 10) : 0;
        if (head + body > MAX_IN) return 0;
        if (c->in_len < head + body) return 1;
        char kept = c->in[head + body];
        end[2] = c->in[head + body] = 0;
        route(c, c->in, end + 4);
        c->in[head + body] = kept;
        c->in_len -= head + body;
        memmove(c->in, c->in + head + body, c->in_len);
    }
    return 1;
}
/* One read, with the kernel's stamp of its last segment translated to CLOCK_MONOTONIC; false at the end. */
static int receive(Conn *c) {
    if (c->in_len + 65536 > c->in_cap) c->in = grown(c->in, (c->in_cap = c->in_len + 2 * 65536) + 1);
    char control[128];
    struct iovec part = {c->in + c->in_len, c->in_cap - c->in_len};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(c->fd, &m, 0);
    if (n < 0) return errno == EAGAIN;
    c->read = now_ns();
    int64_t offset = clock_ns(CLOCK_REALTIME) - c->read;
    c->stamp = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(h), sizeof t);
            c->stamp = t.tv_sec * NS + t.tv_nsec - offset;
        }
    c->in_len += n;
    return n > 0 && c->in_len < MAX_IN;
}
static void flush_out(Conn *c) {
    ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
    if (n < 0) { c->eof = errno != EAGAIN; return; }
    c->out_at += n;
    if (c->out_at < c->out_len) return;
    watch(c, 0);
    if (c->request) schedule(c);
}
static void on_event(Conn *c, uint32_t what) {
    if (what & EPOLLOUT) flush_out(c);
    if ((what & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !receive(c)) c->eof = 1;
    if (c->eof || !serve(c)) drop(c);
}
static void accept_all(void) {
    struct sockaddr_in peer;
    for (socklen_t size = sizeof peer;; size = sizeof peer) {
        int fd = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Conn *c = calloc(1, sizeof *c);
        *c = (Conn){.fd = fd, .port = ntohs(peer.sin_port), .heap = -1};
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
    }
}
static void send_due(void) {
    int64_t now = now_ns();
    while (heap_len && heap[0]->due <= now) {
        Conn *c = heap[0];
        unschedule(c);
        tick(c);
        if (c->eof || (!c->request && !serve(c))) drop(c);
    }
}
static void arm(void) {
    static int64_t armed;
    int64_t due = heap_len ? heap[0]->due : 0;
    if (due == armed) return;
    armed = due;
    struct itimerspec at = {.it_value = {due / NS, due % NS}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}
static void loop(int signals) {
    struct epoll_event events[512];
    while (!ending) {
        int due = heap_len && heap[0]->due <= now_ns();
        if (!due) arm();
        int n = epoll_wait(poller, events, 512, due ? 0 : -1);
        uint64_t ignored;
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            if (who == &listener) accept_all();
            else if (who == &timer) { if (read(timer, &ignored, 8) < 0 && errno != EAGAIN) die("timer"); }
            else if (who == &ending) ending = signals;
            else on_event(who, events[i].events);
        }
        send_due();
    }
}
static void write_log(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    int64_t cpu = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * NS
                + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000LL;
    FILE *f = fopen(log_path, "wb");
    if (!f) die(log_path);
    int64_t head[] = {request_count, planted_count, slips, cpu, now_ns() - began, ttft_ns, itl_ns};
    fwrite("MOCKLOG1", 8, 1, f);
    fwrite(head, sizeof head, 1, f);
    fwrite(planted, sizeof *planted, planted_count, f);
    for (size_t i = 0; i < request_count; i++) {
        fwrite(&requests[i]->r, sizeof(Record), 1, f);
        fwrite(requests[i]->before, 8, requests[i]->r.sent, f);
        fwrite(requests[i]->after, 8, requests[i]->r.sent, f);
    }
    if (fclose(f)) die(log_path);
}
static void read_stalls(const char *text) {
    for (char *at = (char *)text; *at && stall_count < MAX_STALLS; at += *at == ',') {
        stalls[stall_count].number = strtol(at, &at, 10);
        stalls[stall_count].token = strtol(at + 1, &at, 10);
        stalls[stall_count++].ns = (int64_t)(strtod(at + 1, &at) * MS);
        if (*at && *at != ',') { fprintf(stderr, "--stall wants NUMBER:TOKEN:MS,...: %s\n", text); exit(2); }
    }
}
static void read_options(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--port")) port_wanted = atoi(value);
        else if (!strcmp(name, "--ttft-ms")) ttft_ns = (int64_t)(atof(value) * MS);
        else if (!strcmp(name, "--itl-ms")) itl_ns = (int64_t)(atof(value) * MS);
        else if (!strcmp(name, "--batch")) batch = atoi(value) < 1 ? 1 : atoi(value) > MAX_BATCH ? MAX_BATCH : atoi(value);
        else if (!strcmp(name, "--stall")) read_stalls(value);
        else if (!strcmp(name, "--log")) log_path = value;
        else { fprintf(stderr, "unknown option %s\n", name); exit(2); }
    }
    if (!log_path || argc % 2 == 0) { fprintf(stderr, "each option wants a value, and --log is needed\n"); exit(2); }
}
static void add(int fd, void *who) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = who};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
}
static void listen_here(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port_wanted),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int one = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one); /* accepted sockets inherit it */
    if (bind(listener, (struct sockaddr *)&here, size) || listen(listener, 4096)) die("listen");
    getsockname(listener, (struct sockaddr *)&here, &size);
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
}
int main(int argc, char **argv) {
    read_options(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    began = now_ns();
    add(timer, &timer);
    add(signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC), &ending);
    listen_here();
    add(listener, &listener);
    loop(1);
    write_log();
    return 0;
}
