/* The supervised program of `bench supervise`: as small as can be, and the same below every supervisor.
 *
 *   child FIFO INDEX                  says that it runs, then waits to be ended
 *   child FIFO INDEX ignore           does not end at SIGTERM, nor at SIGINT (which is pm2's)
 *   child FIFO INDEX flood LINES      writes so many numbered lines as fast as it can, says so, waits
 *   child FIFO INDEX lines PAUSE_US   writes numbered lines until SIGTERM, then says how many
 *   child FIFO INDEX tree             has children: one ignores SIGTERM, one has its own session, one is a daemon
 *
 * A line is "line INDEX PID NUMBER xxx… end". What it says goes to the FIFO as one record a time, with the time. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct record {
    int32_t kind, index, pid, unused;
    int64_t number, at_ns;
};
enum { BORN = 1, WRITTEN = 2, ENDED = 3, RELATIVE = 4 };

static const char *fifo;
static int unit;
static volatile sig_atomic_t asked_to_end;

static void tell(int kind, int64_t number) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct record record = {kind, unit, getpid(), 0, number, now.tv_sec * 1000000000LL + now.tv_nsec};
    int fd = open(fifo, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, &record, sizeof record) != sizeof record) _exit(111);
    close(fd);
}

static void wait_for_end(void) {
    for (;;) pause();
}

static void end(int signal) {
    (void)signal;
    asked_to_end = 1;
}

static void write_whole(const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(1, bytes, count);
        if (written > 0) bytes += written, count -= written;
    }
}

static size_t line(char *to, int64_t number) {
    int head = sprintf(to, "line %d %d %lld ", unit, getpid(), (long long)number);
    memset(to + head, 'x', 95 - head);
    memcpy(to + 95, " end\n", 5);
    return 100;
}

static void flood(int64_t lines) {
    static char buffer[100 * 40];
    for (int64_t number = 0; number < lines;) {
        size_t filled = 0;
        while (filled < sizeof buffer && number < lines) filled += line(buffer + filled, number++);
        write_whole(buffer, filled);
    }
    tell(WRITTEN, lines);
}

static void write_lines(long pause_us) {
    char buffer[128];
    struct timespec pause = {pause_us / 1000000, pause_us % 1000000 * 1000};
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    int64_t number = 0;
    while (!asked_to_end) {
        write_whole(buffer, line(buffer, number++));
        nanosleep(&pause, NULL);
    }
    tell(ENDED, number);
    exit(0);
}

static void begin_tree(void) {
    if (fork() == 0) {
        signal(SIGTERM, SIG_IGN);
        tell(RELATIVE, 0);
        wait_for_end();
    }
    if (fork() == 0) {
        setsid();
        tell(RELATIVE, 1);
        wait_for_end();
    }
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            tell(RELATIVE, 2);
            wait_for_end();
        }
        _exit(0);
    }
}

int main(int count, char **words) {
    if (count < 3) return 64;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    fifo = words[1];
    unit = atoi(words[2]);
    const char *mode = count > 3 ? words[3] : "";
    if (strcmp(mode, "ignore") == 0) signal(SIGTERM, SIG_IGN), signal(SIGINT, SIG_IGN);
    tell(BORN, 0);
    if (strcmp(mode, "flood") == 0) flood(atoll(words[4]));
    if (strcmp(mode, "lines") == 0) write_lines(atol(words[4]));
    if (strcmp(mode, "tree") == 0) begin_tree();
    wait_for_end();
}
