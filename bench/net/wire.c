/*
 * A network in user space, for kernels without netem: every host has a TUN device; whatever it sends leaves at `rate`, travels for
 * `delay`, and enters the receiver at `rate`, behind all else that comes there. Queues longer than `queue` drop their newest packet.
 *
 *   wire RATE_bit/s DELAY_us QUEUE_us DEVICE=IPv4 ...
 *
 * Creates the devices, prints "ready", and forwards until its standard input ends. Packets are as large as the kernel makes them (TSO),
 * so 5 Gbit/s are some 10,000 packets a second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { mostHosts = 8, largest = 65536 + 64, perSegment = 18 + 52 };

typedef struct Packet {
  struct Packet *next;
  int64_t at;    /* when its last bit gets there */
  int64_t takes; /* its time on a line, ns */
  int to, length;
  uint8_t bytes[];
} Packet;

typedef struct {
  Packet *first, *last;
} Queue;

static struct {
  int fd;
  uint32_t ip;
  int64_t outFree, inFree; /* when the line is idle again */
  Queue flying, arriving;
} hosts[mostHosts];
static int count;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void put(Queue *q, Packet *p) {
  p->next = NULL;
  if (q->last) q->last->next = p;
  else q->first = p;
  q->last = p;
}

static Packet *take(Queue *q) {
  Packet *p = q->first;
  q->first = p->next;
  if (!q->first) q->last = NULL;
  return p;
}

static int device(const char *name) {
  struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  strncpy(r.ifr_name, name, IFNAMSIZ - 1);
  if (fd < 0 || ioctl(fd, TUNSETIFF, &r) < 0 || ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) < 0) {
    fprintf(stderr, "%s: %s\n", name, strerror(errno));
    exit(1);
  }
  return fd;
}

/* Bytes on the line: a segment of a large packet has headers of its own. */
static int64_t wireBytes(const uint8_t *b, int length) {
  const struct virtio_net_hdr *h = (const void *)b;
  int segments = h->gso_type && h->gso_size ? (length + h->gso_size - 1) / h->gso_size : 1;
  return length + (int64_t)segments * perSegment;
}

int main(int argc, char **argv) {
  if (argc < 6) return 2;
  const double rate = atof(argv[1]);
  const int64_t delay = 1000 * atoll(argv[2]), longest = 1000 * atoll(argv[3]);
  prctl(PR_SET_TIMERSLACK, 1);
  for (int i = 4; i < argc && count < mostHosts; i++, count++) {
    char *ip = strchr(argv[i], '=');
    *ip++ = 0;
    hosts[count].fd = device(argv[i]);
    hosts[count].ip = inet_addr(ip);
  }
  puts("ready");
  fflush(stdout);
  static uint8_t buffer[largest];
  for (;;) {
    int64_t next = INT64_MAX;
    const int64_t t = now();
    for (int i = 0; i < count; i++) {
      Queue *q = &hosts[i].flying;
      while (q->first && q->first->at <= t) {
        Packet *p = take(q);
        int64_t *idle = &hosts[p->to].inFree;
        const int64_t done = *idle + p->takes > p->at ? *idle + p->takes : p->at;
        if (done - p->at > longest) free(p);
        else {
          p->at = *idle = done;
          put(&hosts[p->to].arriving, p);
        }
      }
      if (q->first && q->first->at < next) next = q->first->at;
    }
    for (int i = 0; i < count; i++) {
      Queue *q = &hosts[i].arriving;
      while (q->first && q->first->at <= t) {
        Packet *p = take(q);
        if (write(hosts[i].fd, p->bytes, p->length) < 0 && errno != EIO && errno != EINVAL) perror("write");
        free(p);
      }
      if (q->first && q->first->at < next) next = q->first->at;
    }
    struct pollfd polls[mostHosts + 1];
    for (int i = 0; i < count; i++) polls[i] = (struct pollfd){.fd = hosts[i].fd, .events = POLLIN};
    polls[count] = (struct pollfd){.fd = 0, .events = POLLIN};
    const int64_t wait = next == INT64_MAX ? 1000000000 : next - now();
    const struct timespec limit = {wait > 0 ? wait / 1000000000 : 0, wait > 0 ? wait % 1000000000 : 0};
    if (ppoll(polls, count + 1, &limit, NULL) <= 0) continue;
    if (polls[count].revents && read(0, buffer, 1) <= 0) return 0;
    for (int i = 0; i < count; i++) {
      if (!polls[i].revents) continue;
      for (int n = 0; n < 16; n++) {
        const int length = read(hosts[i].fd, buffer, largest);
        if (length < (int)sizeof(struct virtio_net_hdr) + 20) break;
        uint32_t ip;
        memcpy(&ip, buffer + sizeof(struct virtio_net_hdr) + 16, 4);
        int to = 0;
        while (to < count && hosts[to].ip != ip) to++;
        if (to == count) continue;
        const int64_t takes = wireBytes(buffer, length) * 8e9 / rate, from = now();
        const int64_t begin = hosts[i].outFree > from ? hosts[i].outFree : from;
        if (begin - from > longest) continue;
        hosts[i].outFree = begin + takes;
        Packet *p = malloc(sizeof *p + length);
        *p = (Packet){.at = begin + takes + delay, .takes = takes, .to = to, .length = length};
        memcpy(p->bytes, buffer, length);
        put(&hosts[i].flying, p);
      }
    }
  }
}
