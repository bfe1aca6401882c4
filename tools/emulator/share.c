// A plugin for QEMU's translator: how many instructions are executed, and how many of them by the hypervisor? Whenever a program
// executes the instruction that is a mark, both sums until then are appended to a file:
//   ALL HYPERVISOR
// For one CPU. Each iteration of a repeated string instruction counts as one.
//
// Argument: out=FILE
#include "plugin_interface.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mark[] = {0x0f, 0x1f, 0x80, 'm', 'a', 'r', 'k'}; // a nop that nobody else writes
static uint64_t all, hypervisor;
static FILE *out;

static void marked(unsigned cpu, void *data) {
    (void)cpu, (void)data;
    fprintf(out, "%" PRIu64 " %" PRIu64 "\n", all, hypervisor);
    fflush(out);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    uint64_t address = qemu_plugin_tb_vaddr(tb);
    size_t count = qemu_plugin_tb_n_insns(tb);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &all, count);
    if (address >= hypervisor_start && address < hypervisor_end)
        qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &hypervisor, count);
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        if (qemu_plugin_insn_size(insn) == sizeof mark && memcmp(qemu_plugin_insn_data(insn), mark, sizeof mark) == 0)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, marked, QEMU_PLUGIN_CB_NO_REGS, NULL);
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i], "out=", 4) == 0)
            out = fopen(argv[i] + 4, "w");
    if (!out)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
