// What one request to a back end costs: of a guest's disk, /dev/xvda, and of its network.
//   requests serve: in Domain 0, the other end of the network's kinds;
//   requests ADDRESS: in the guest, all kinds in turn, for each of which it prints "REQUESTS NAME: COUNT", COUNT being how often
//     it was done between two marks, which a plugin of QEMU's counts instructions at.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK = 4096, LARGE = 1 << 20, DISK = 64 << 20, PORT = 7000 };
enum { PING = 'p', TAKE = 't', GIVE = 'g' };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void mark(void) { __asm__ volatile(".byte 0x0f, 0x1f, 0x80; .ascii \"mark\"" : : : "memory"); }

static char *buffer; // LARGE bytes, on a page's border
static int disk, line;

static off_t random_place(void) {
    static uint64_t random = 1;
    random = random * 6364136223846793005 + 1442695040888963407;
    return (off_t)((random >> 33) % (DISK / BLOCK) * BLOCK);
}

static void all_of(ssize_t done, size_t wanted, const char *what) {
    if (done != (ssize_t)wanted)
        fail(what);
}

static void read_block(void) { all_of(pread(disk, buffer, BLOCK, random_place()), BLOCK, "pread"); }
static void write_block(void) { all_of(pwrite(disk, buffer, BLOCK, random_place()), BLOCK, "pwrite"); }
static void read_large(void) {
    static off_t place;
    all_of(pread(disk, buffer, LARGE, place), LARGE, "pread");
    place = (place + LARGE) % DISK;
}

static void send_all(size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t piece = send(line, buffer, size - sent, 0);
        if (piece <= 0)
            fail("send");
        sent += (size_t)piece;
    }
}
static void receive_all(size_t size) { all_of(recv(line, buffer, size, MSG_WAITALL), size, "recv"); }

// The other end is told what to do a whole time, by one byte, and sends one back when it has got something.
static void ask(char what) {
    *buffer = what;
    send_all(1);
}
static void ping(void) {
    ask(PING);
    receive_all(1);
}
static void send_large(void) {
    ask(TAKE);
    send_all(LARGE);
    receive_all(1);
}
static void receive_large(void) {
    ask(GIVE);
    receive_all(LARGE);
}

static void measure(const char *name, void (*request)(void), unsigned count) {
    for (unsigned i = 0; i < count / 4; i++) // what is only there later: grants that persist, a window that has opened
        request();
    mark();
    for (unsigned i = 0; i < count; i++)
        request();
    mark();
    printf("REQUESTS %s: %u\n", name, count);
}

static void no_delay(void) {
    int yes = 1;
    setsockopt(line, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static struct sockaddr_in place_of(const char *address) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = address ? inet_addr(address) : INADDR_ANY};
}

static int serve(void) {
    struct sockaddr_in here = place_of(NULL);
    int door = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(door, (struct sockaddr *)&here, sizeof here) || listen(door, 1))
        fail("bind");
    line = accept(door, NULL, NULL);
    no_delay();
    while (recv(line, buffer, 1, 0) == 1) {
        char what = *buffer;
        if (what == TAKE)
            receive_all(LARGE);
        send_all(what == GIVE ? LARGE : 1);
    }
    return 0;
}

int main(int words, char **word) {
    buffer = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (words != 2 || buffer == MAP_FAILED)
        return 1;
    if (word[1][0] == 's')
        return serve();
    disk = open("/dev/xvda", O_RDWR | O_DIRECT);
    if (disk < 0)
        fail("/dev/xvda");
    struct sockaddr_in there = place_of(word[1]);
    line = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(line, (struct sockaddr *)&there, sizeof there))
        fail("connect");
    no_delay();
    measure("block: read of 4 KiB", read_block, 1000);
    measure("block: write of 4 KiB", write_block, 1000);
    measure("block: read of 1 MiB", read_large, 64);
    measure("network: TCP, a byte there and back", ping, 1000);
    measure("network: TCP, 1 MiB to Domain 0", send_large, 32);
    measure("network: TCP, 1 MiB from Domain 0", receive_large, 32);
    return 0;
}
