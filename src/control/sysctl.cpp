#include "abi/sysctl.h"

#include "console/console.h"
#include "control/control.h"
#include "control/debug_keys.h"
#include "domain/guest_memory.h"
#include "memory/allocator.h"
#include "memory/page.h"
#include "time/clock.h"

#include <algorithm>
#include <cstring>

namespace hearth {
namespace {

using abi::SysctlOperation;

Result<> read_console(abi::Sysctl& op) {
    abi::SysctlReadConsole request;
    memcpy(&request, op.body, sizeof request);
    uint32_t index = request.index;
    bool incremental = request.incremental != 0;
    uint32_t done = 0;
    while (done < request.count) {
        char text[256];
        size_t const room = std::min<size_t>(sizeof text, request.count - done);
        size_t const got = console_ring_read({text, room}, index, incremental);
        if (got == 0)
            break;
        TRY(copy_to_guest(GuestAddress{request.buffer + done}, text, got));
        done += static_cast<uint32_t>(got);
        incremental = true; // go on from where this piece ended
        preempt_point();
    }
    if (request.clear)
        console_ring_clear();
    request.index = index;
    request.count = done;
    memcpy(op.body, &request, sizeof request);
    return {};
}

void describe_machine(abi::Sysctl& op) {
    abi::SysctlPhysinfo info{};
    unsigned const cpus = machine_facts().cpu_count;
    info.threads_per_core = info.cores_per_socket = 1;
    info.cpu_count = cpus;
    info.max_cpu_id = cpus - 1;
    info.node_count = 1;
    info.cpu_khz = static_cast<uint32_t>(tsc_hertz() / 1000);
    info.capabilities = abi::physinfo_pv;
    info.total_pages = total_frame_count();
    info.free_pages = free_frame_count();
    info.max_mfn = frame_limit().raw() - 1;
    memcpy(op.body, &info, sizeof info);
}

Result<> press_keys(abi::Sysctl const& op) {
    abi::SysctlDebugKeys request;
    memcpy(&request, op.body, sizeof request);
    for (uint32_t i = 0; i < request.count; ++i) {
        handle_debug_key(TRY(GuestPointer<char>{request.keys}.read(i)));
        preempt_point();
    }
    return {};
}

} // namespace

Result<int64_t> do_sysctl(Context&, uint64_t argument) {
    GuestPointer<abi::Sysctl> const pointer{argument};
    abi::Sysctl op = TRY(pointer.read());
    if (op.version != abi::sysctl_interface_version)
        return Errno::access;
    switch (static_cast<SysctlOperation>(op.command)) {
    case SysctlOperation::readconsole:
        TRY(read_console(op));
        TRY(pointer.write(op));
        return 0;
    case SysctlOperation::physinfo:
        describe_machine(op);
        TRY(pointer.write(op));
        return 0;
    case SysctlOperation::debug_keys:
        TRY(press_keys(op));
        return 0;
    }
    return Errno::nosys;
}

} // namespace hearth
