// mca: what Domain 0's driver for machine checks asks. There are never records: a machine check
// ends the machine (docs/CAVEATS.md), and Hearth has not asked for interrupts at corrected errors.
#include "abi/machine_check.h"

#include "control/control.h"
#include "control/operation_body.h"
#include "cpu/cpu.h"
#include "domain/guest_memory.h"
#include "pv/cpuid_view.h"

namespace hearth {
namespace {

/// As CPUID has them. (Intel SDM vol. 2A, CPUID, "Version Information")
void describe_processor(abi::McaCpu& cpu, HostCpuid const& host) {
    constexpr uint32_t brand_leaves = 0x80000002, last_brand_leaf = 0x80000004;
    CpuidResult const name = host.leaf(0, 0);
    cpu.cpuid_level = static_cast<int32_t>(name.eax);
    uint32_t const letters[] = {name.ebx, name.edx, name.ecx};
    memcpy(cpu.vendor_name, letters, sizeof letters);
    uint32_t const version = host.leaf(1, 0).eax;
    uint32_t const base_family = version >> 8 & 0xf;
    cpu.family = base_family + (base_family == 0xf ? version >> 20 & 0xff : 0);
    cpu.model = (version >> 4 & 0xf) | (version >> 12 & 0xf0);
    cpu.stepping = version & 0xf;
    if (host.leaf(0x80000000, 0).eax >= last_brand_leaf)
        for (uint32_t leaf = brand_leaves; leaf <= last_brand_leaf; ++leaf) {
            CpuidResult const part = host.leaf(leaf, 0);
            memcpy(cpu.brand + (leaf - brand_leaves) * sizeof part, &part, sizeof part);
        }
    cpu.features[0] = host_features(host, FeatureWord::leaf_1_edx);
    cpu.features[1] = host_features(host, FeatureWord::extended_1_edx);
    cpu.features[4] = host_features(host, FeatureWord::leaf_1_ecx);
    cpu.features[6] = host_features(host, FeatureWord::extended_1_ecx);
}

/// Each is a core of one chip, as everywhere (cpu_topology in sysctl.cpp).
Result<> describe_cpus(abi::McaOp& op) {
    auto info = body_of<abi::McaCpuInfo>(op);
    uint32_t const count = machine_facts().cpu_count;
    if (info.cpus != 0) {
        if (info.count < count)
            return Errno::inval;
        abi::McaCpu cpu{};
        cpu.cores = cpu.cores_active = count;
        cpu.threads = 1;
        describe_processor(cpu, pv::machine_cpuid());
        for (uint32_t i = 0; i < count; ++i) {
            cpu.number = i;
            cpu.core = static_cast<uint16_t>(i);
            cpu.apic_id = cpu_block(i).apic_id;
            TRY(GuestPointer<abi::McaCpu>{info.cpus}.write(cpu, i));
        }
    }
    info.count = count;
    set_body(op, info);
    return {};
}

Result<> fetch_record(abi::McaOp& op) {
    using namespace abi::mca;
    auto fetch = body_of<abi::McaFetch>(op);
    switch (fetch.flags & (not_urgent | urgent | acknowledge)) {
    case not_urgent:
    case urgent:
        if (fetch.record == 0)
            return Errno::inval;
        fetch.flags = no_record;
        fetch.id = 0;
        break;
    case not_urgent | acknowledge:
    case urgent | acknowledge:
        break;
    default:
        return Errno::inval;
    }
    set_body(op, fetch);
    return {};
}

} // namespace

// Without IO-APICs, Linux numbers its events' interrupts among the PC's sixteen. One more of them,
// this driver's, gives its console the clock's number, and there is no console.
Result<int64_t> do_mca(Context&, uint64_t argument) {
    if (!machine_facts().has_io_apics)
        return Errno::nosys;
    GuestPointer<abi::McaOp> const pointer{argument};
    abi::McaOp op = TRY(pointer.read());
    if (op.version != abi::mca_interface_version)
        return Errno::access;
    switch (static_cast<abi::McaOperation>(op.command)) {
    case abi::McaOperation::fetch:
        TRY(fetch_record(op));
        break;
    case abi::McaOperation::cpu_info:
        TRY(describe_cpus(op));
        break;
    case abi::McaOperation::inject_msr:
        return Errno::opnotsupp;
    default:
        return Errno::inval;
    }
    TRY(pointer.write(op));
    return 0;
}

} // namespace hearth
