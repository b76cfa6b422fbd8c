/* The producers of a benchmark: N keep-alive connections that POST events, one request at a time each.
 *
 * Compiled and run by serve_load.py. Prints one JSON object. Every request has events nobody has seen: the lines of
 * the file have distinct keys, and the first eight digits of their interactionId become the number of the lap.
 * The file is mapped privately: a request's body is a slice of it, stamped in place just before it is sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 256, ANSWER_BYTES = 4096, STATUSES = 600, STAMP_DIGITS = 8, STALLED_S = 60 };
enum { BUCKET_US = 10, BUCKETS = 1 << 21 }; /* 20 s in steps of 10 us; what is slower is in the last one */
static const char KEY[] = "\"interactionId\":\"";

typedef struct {
    size_t at;     /* of the line in the file */
    size_t length; /* without its line end */
    size_t key_at; /* of the digits that are stamped */
} Line;

typedef struct {
    int socket;
    double due; /* when its next request is to be sent */
    double began;
    bool open; /* a request is under way */
    char head[HEAD_BYTES];
    size_t head_bytes;
    char *body;
    size_t body_bytes, sent;
    char answer[ANSWER_BYTES];
    size_t answer_bytes;
    int status;          /* 0: the head of the answer is not complete */
    size_t missing_body; /* of the answer */
} Connection;

static struct {
    int port, connections;
    size_t batch; /* events in a request */
    double seconds, rate; /* rate: events/s over all connections; 0: as fast as the answers come */
    unsigned lap;
} wanted = {.connections = 64, .batch = 1, .seconds = 5};

static char *file;
static Line *lines;
static size_t line_count, next_line;
static Connection *connections;
static uint64_t requests, accepted, by_status[STATUSES];
static uint32_t *histogram;
static double slowest;

static void fail(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static double now_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* --- the events */

static void read_lines(const char *path) {
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    if (handle < 0 || fstat(handle, &stat) < 0) fail(path);
    size_t size = (size_t)stat.st_size;
    file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, handle, 0);
    if (file == MAP_FAILED) fail(path);
    close(handle);
    size_t room = 0;
    for (char *at = file, *end; at < file + size; at = end + 1) {
        end = memchr(at, '\n', (size_t)(file + size - at));
        if (!end) fail("the last line has no end");
        char *key = memmem(at, (size_t)(end - at), KEY, sizeof KEY - 1);
        if (!key) fail("a line has no interactionId");
        if (line_count == room) lines = realloc(lines, (room = room * 2 + 1024) * sizeof *lines);
        if (!lines) fail("memory");
        key += sizeof KEY - 1;
        lines[line_count++] = (Line){(size_t)(at - file), (size_t)(end - at), (size_t)(key - file)};
    }
    if (line_count < 4 * wanted.batch * (size_t)wanted.connections) fail("the file has too few events");
}

/* The next events that nobody has seen, as the body of a request: one, or lines. */
static void take_body(Connection *connection) {
    static char stamp[STAMP_DIGITS + 1];
    if (next_line + wanted.batch > line_count) {
        next_line = 0;
        wanted.lap++;
    }
    if (next_line == 0) snprintf(stamp, sizeof stamp, "%08x", wanted.lap);
    const Line *first = &lines[next_line], *last = first + wanted.batch - 1;
    for (const Line *line = first; line <= last; line++) memcpy(file + line->key_at, stamp, STAMP_DIGITS);
    connection->body = file + first->at;
    connection->body_bytes = last->at + last->length - first->at;
    next_line += wanted.batch;
}

/* --- one connection */

static void open_connection(Connection *connection, int poll) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)wanted.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int yes = 1, handle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (handle < 0 || connect(handle, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    if (setsockopt(handle, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0) fail("setsockopt");
    if (fcntl(handle, F_SETFL, O_NONBLOCK) < 0) fail("fcntl");
    struct epoll_event interest = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, handle, &interest) < 0) fail("epoll_ctl");
    connection->socket = handle;
}

static void send_rest(Connection *connection) {
    size_t total = connection->head_bytes + connection->body_bytes;
    while (connection->sent < total) {
        size_t of_body = connection->sent > connection->head_bytes ? connection->sent - connection->head_bytes : 0;
        size_t of_head = connection->sent - of_body;
        struct iovec parts[2] = {
            {connection->head + of_head, connection->head_bytes - of_head},
            {connection->body + of_body, connection->body_bytes - of_body},
        };
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t sent = sendmsg(connection->socket, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) return; /* epoll tells when there is room */
        if (sent < 0) fail("send");
        connection->sent += (size_t)sent;
    }
}

static void begin_request(Connection *connection, double now) {
    take_body(connection);
    int size = snprintf(connection->head, HEAD_BYTES,
                        "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: load\r\nAccept: */*\r\n"
                        "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                        wanted.port, wanted.batch == 1 ? "application/json" : "application/x-ndjson",
                        connection->body_bytes);
    connection->head_bytes = (size_t)size;
    /* a paced request that is late has waited since it was due: no latency is hidden by a late start */
    connection->began = wanted.rate > 0 ? connection->due : now;
    if (wanted.rate > 0) connection->due += (double)wanted.connections * (double)wanted.batch / wanted.rate;
    connection->open = true;
    connection->sent = connection->answer_bytes = connection->missing_body = 0;
    connection->status = 0;
    send_rest(connection);
}

static void end_request(Connection *connection) {
    double took = now_s() - connection->began;
    size_t bucket = (size_t)(took * 1e6 / BUCKET_US);
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    if (took > slowest) slowest = took;
    requests++;
    by_status[connection->status]++;
    if (connection->status == 202) accepted += wanted.batch;
    connection->open = false;
}

/* Status and length; false as long as the head is not complete. */
static bool read_answer_head(Connection *connection) {
    connection->answer[connection->answer_bytes] = 0;
    char *end = strstr(connection->answer, "\r\n\r\n");
    if (!end) {
        if (connection->answer_bytes == ANSWER_BYTES - 1) fail("the head of an answer is too long");
        return false;
    }
    char *length = strcasestr(connection->answer, "\r\nContent-Length:");
    connection->status = atoi(connection->answer + sizeof "HTTP/1.1");
    if (connection->status < 100 || connection->status >= STATUSES || !length || length > end)
        fail("an answer without a status or Content-Length");
    size_t here = connection->answer_bytes - (size_t)(end + 4 - connection->answer);
    size_t whole = strtoul(length + sizeof "\r\nContent-Length:" - 1, NULL, 10);
    if (here > whole) fail("more than the answer came");
    connection->missing_body = whole - here;
    return true;
}

static void read_answer(Connection *connection) {
    for (;;) {
        size_t at = connection->status ? 0 : connection->answer_bytes; /* its body is only counted */
        ssize_t size = recv(connection->socket, connection->answer + at, ANSWER_BYTES - 1 - at, 0);
        if (size < 0 && errno == EAGAIN) return;
        if (size < 0) fail("recv");
        errno = 0;
        if (size == 0) fail("the server closed a connection");
        if (!connection->open) fail("an answer that nobody asked for");
        if (connection->status) {
            if ((size_t)size > connection->missing_body) fail("more than the answer came");
            connection->missing_body -= (size_t)size;
        } else {
            connection->answer_bytes += (size_t)size;
            if (!read_answer_head(connection)) continue;
        }
        if (connection->missing_body == 0) {
            end_request(connection);
            return; /* nothing else can be there: a client that does not pipeline */
        }
    }
}

/* --- all of them */

/* Begins what is due. Gives the milliseconds until something will be, or a second. */
static int begin_due(double now, bool ended, size_t *open) {
    double next = now + 1;
    *open = 0;
    for (Connection *connection = connections; connection < connections + wanted.connections; connection++) {
        if (!connection->open && !ended && connection->due <= now) begin_request(connection, now);
        if (connection->open)
            ++*open;
        else if (connection->due < next)
            next = connection->due;
    }
    return next > now ? (int)((next - now) * 1e3) + 1 : 1;
}

static double run(int poll) {
    struct epoll_event events[64];
    double start = now_s(), last = start, now = start;
    for (int i = 0; i < wanted.connections && wanted.rate > 0; i++)
        connections[i].due = start + (double)i * (double)wanted.batch / wanted.rate;
    for (;; now = now_s()) {
        size_t open;
        bool ended = now - start >= wanted.seconds;
        int timeout_ms = begin_due(now, ended, &open);
        if (ended && !open) return last - start;
        int count = epoll_wait(poll, events, 64, timeout_ms);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            Connection *connection = events[i].data.ptr;
            if (connection->open && events[i].events & EPOLLOUT) send_rest(connection);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_answer(connection);
        }
        errno = 0;
        if (count > 0) last = now_s();
        if (open && now - last > STALLED_S) fail("no answer for a minute");
    }
}

static double percentile_ms(double share) {
    uint64_t wanted_count = (uint64_t)((double)requests * share), seen = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) > wanted_count) return (double)(i + 1) * BUCKET_US / 1e3;
    return slowest * 1e3;
}

static void print_found(double seconds) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\": %lu, \"events\": %lu, \"seconds\": %.4f, \"statuses\": {", requests, accepted, seconds);
    const char *comma = "";
    for (int status = 0; status < STATUSES; status++)
        if (by_status[status]) printf("%s\"%d\": %lu", comma, status, by_status[status]), comma = ", ";
    printf("}, \"p50_ms\": %.2f, \"p90_ms\": %.2f, \"p99_ms\": %.2f, \"max_ms\": %.2f, ", percentile_ms(.5),
           percentile_ms(.9), percentile_ms(.99), slowest * 1e3);
    printf("\"cpu_seconds\": %.3f, \"next_lap\": %u}\n", cpu, wanted.lap + 1);
}

int main(int count, char **words) {
    for (int letter; (letter = getopt(count, words, "c:b:t:r:l:")) != -1;) switch (letter) {
        case 'c': wanted.connections = atoi(optarg); break;
        case 'b': wanted.batch = strtoul(optarg, NULL, 10); break;
        case 't': wanted.seconds = atof(optarg); break;
        case 'r': wanted.rate = atof(optarg); break;
        case 'l': wanted.lap = (unsigned)strtoul(optarg, NULL, 10); break;
        default: return 2;
        }
    if (count - optind != 2 || wanted.connections < 1 || wanted.batch < 1) {
        fprintf(stderr, "load [-c connections] [-b events/request] [-t seconds] [-r events/s] [-l lap] FILE PORT\n");
        return 2;
    }
    wanted.port = atoi(words[optind + 1]);
    read_lines(words[optind]);
    connections = calloc((size_t)wanted.connections, sizeof *connections);
    histogram = calloc(BUCKETS, sizeof *histogram);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || !histogram || poll < 0) fail("start");
    for (int i = 0; i < wanted.connections; i++) open_connection(&connections[i], poll);
    print_found(run(poll));
    return 0;
}
