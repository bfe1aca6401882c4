// A plugin for QEMU's translator: how many instructions does the hypervisor execute in one stretch, without a point at which
// an interrupt can be taken and another thread be chosen?
//
// A stretch begins when the hypervisor is entered, or behind an instruction `sti` (a preemption point, or the idle loop), and
// ends at the next `sti`, or with the instruction that returns to a guest, where another interrupt may follow before the guest's
// first instruction. Start-up, before the first guest, does not count. Each iteration of a
// repeated string instruction counts as one.
//
// Arguments: return=ADDRESS of the `iretq` that leads to guests (of `sysretq` there is no other); out=FILE, to which a line is appended for each kind of stretch when a longer one is seen:
//   LENGTH START END SAMPLE...    (addresses in hexadecimal; every 4096 instructions a sample of where it is)
#include "plugin_interface.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CPUS = 64, MAX_SAMPLES = 32, SAMPLE_EVERY = 4096, MAX_KINDS = 512, WORTH_TELLING = 8192 };

struct block {
    uint64_t address, instructions;
    bool hypervisor, window, returns;
};
struct stretch {
    uint64_t length, start;
    unsigned samples;
    uint64_t sample[MAX_SAMPLES];
} __attribute__((aligned(64)));
struct kind {
    uint64_t start, end, longest;
};

static struct stretch running[MAX_CPUS];
static volatile bool guests_run;
static struct kind kinds[MAX_KINDS];
static unsigned kind_count;
static pthread_mutex_t kinds_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t return_to_guest;
static FILE *out;

static void tell(const struct stretch *s, uint64_t end) {
    pthread_mutex_lock(&kinds_lock);
    unsigned k = 0;
    while (k < kind_count && (kinds[k].start != s->start || kinds[k].end != end))
        k++;
    if (k == kind_count && k < MAX_KINDS)
        kinds[kind_count++] = (struct kind){s->start, end, 0};
    if (k < MAX_KINDS && s->length > kinds[k].longest + kinds[k].longest / 16) {
        kinds[k].longest = s->length;
        fprintf(out, "%" PRIu64 " %" PRIx64 " %" PRIx64, s->length, s->start, end);
        for (unsigned i = 0; i < s->samples; i++)
            fprintf(out, " %" PRIx64, s->sample[i]);
        fputc('\n', out);
        fflush(out);
    }
    pthread_mutex_unlock(&kinds_lock);
}

static void finish(struct stretch *s, uint64_t end) {
    if (s->length >= WORTH_TELLING && guests_run)
        tell(s, end);
    s->length = 0;
    s->samples = 0;
}

static void executed(unsigned cpu, void *data) {
    const struct block *b = data;
    struct stretch *s = &running[cpu % MAX_CPUS];
    if (!b->hypervisor) { // as a guest's exception leads to it; and firmware, before anything else
        s->length = 0;
        s->samples = 0;
        return;
    }
    if (!s->length)
        s->start = b->address;
    uint64_t before = s->length;
    s->length += b->instructions;
    if (before / SAMPLE_EVERY != s->length / SAMPLE_EVERY && s->samples < MAX_SAMPLES)
        s->sample[s->samples++] = b->address;
    if (b->window)
        finish(s, b->address);
    if (b->returns)
        guests_run = true;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    struct block *b = calloc(1, sizeof *b);
    b->address = qemu_plugin_tb_vaddr(tb);
    b->instructions = qemu_plugin_tb_n_insns(tb);
    b->hypervisor = b->address >= hypervisor_start && b->address < hypervisor_end;
    if (b->hypervisor)
        for (size_t i = 0; i < b->instructions; i++) {
            static const uint8_t sti[] = {0xfb}, sysretq[] = {0x48, 0x0f, 0x07};
            const struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
            size_t size = qemu_plugin_insn_size(insn);
            const void *code = qemu_plugin_insn_data(insn);
            if ((size == sizeof sysretq && memcmp(code, sysretq, size) == 0) || qemu_plugin_insn_vaddr(insn) == return_to_guest)
                b->window = b->returns = true;
            if (size == sizeof sti && memcmp(code, sti, size) == 0)
                b->window = true;
        }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, QEMU_PLUGIN_CB_NO_REGS, b);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0)
            out = fopen(argv[i] + 4, "a");
        if (strncmp(argv[i], "return=", 7) == 0)
            return_to_guest = strtoull(argv[i] + 7, NULL, 16);
    }
    if (!out || !return_to_guest)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
