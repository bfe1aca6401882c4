#include "abi/operations.h"
#include "control/control.h"
#include "domain/guest_memory.h"
#include "memory/layout.h"

#include <algorithm>
#include <cstring>

namespace hearth {
namespace {

constinit MachineFacts facts{};

/// Fixed-size text, zero padded, so that nothing of the stack goes along.
template <size_t Size>
struct Text {
    char data[Size]{};
    explicit Text(std::string_view text) {
        std::copy_n(text.data(), std::min(text.size(), Size - 1), data);
    }
};

template <size_t Size>
[[gnu::noinline]] Result<int64_t> give_text(uint64_t argument, std::string_view text) {
    TRY(GuestPointer<Text<Size>>{argument}.write(Text<Size>{text}));
    return 0;
}

[[gnu::noinline]] Result<int64_t> compile_info(uint64_t argument) {
    abi::CompileInfo info{};
    auto const put = [](auto& field, std::string_view text) {
        std::copy_n(text.data(), std::min(text.size(), sizeof field - 1), field);
    };
    put(info.compiler, "clang " __clang_version__);
    put(info.compiled_by, "hearth");
    put(info.domain, "hearth");
    put(info.date, "reproducible");
    TRY(GuestPointer<abi::CompileInfo>{argument}.write(info));
    return 0;
}

[[gnu::noinline]] Result<int64_t> guest_handle(Context const& c, uint64_t argument) {
    struct Handle {
        uint8_t bytes[16];
    };
    Handle handle;
    memcpy(handle.bytes, c.domain.settings.handle, sizeof handle.bytes);
    TRY(GuestPointer<Handle>{argument}.write(handle));
    return 0;
}

[[gnu::noinline]] Result<int64_t> features(Context& c, uint64_t argument) {
    GuestPointer<abi::FeatureInfo> const pointer{argument};
    abi::FeatureInfo info = TRY(pointer.read());
    if (info.index != 0)
        return Errno::inval;
    using namespace abi;
    info.map = 1u << feature::mmu_pt_update_preserve_ad | 1u << feature::highmem_assist |
               1u << feature::gnttab_map_avail_bits | 1u << feature::direct_mapped;
    if (c.domain.assists(VmAssist::pae_extended_cr3))
        info.map |= 1u << feature::pae_pgdir_above_4gb;
    if (c.domain.hardware)
        info.map |= 1u << feature::dom0;
    TRY(pointer.write(info));
    return 0;
}

} // namespace

void set_machine_facts(MachineFacts const& f) { facts = f; }
MachineFacts const& machine_facts() { return facts; }

Result<int64_t> do_xen_version(Context& c, uint32_t command, uint64_t argument) {
    using abi::VersionOperation;
    switch (static_cast<VersionOperation>(command)) {
    case VersionOperation::version:
        return 4 << 16 | 17;
    case VersionOperation::extra_version:
        return give_text<16>(argument, ".0-hearth");
    case VersionOperation::compile_info:
        return compile_info(argument);
    case VersionOperation::capabilities:
        return give_text<1024>(argument, "xen-3.0-x86_64 ");
    case VersionOperation::changeset:
        return give_text<64>(argument, "unavailable");
    case VersionOperation::platform_parameters:
        TRY(GuestPointer<uint64_t>{argument}.write(layout::start));
        return 0;
    case VersionOperation::get_features:
        return features(c, argument);
    case VersionOperation::page_size:
        if (argument != 0)
            return Errno::inval;
        return static_cast<int64_t>(page_size);
    case VersionOperation::guest_handle:
        return guest_handle(c, argument);
    case VersionOperation::command_line:
        return give_text<1024>(argument, c.domain.privileged ? facts.command_line
                                                             : std::string_view{"<denied>"});
    case VersionOperation::build_id:
        return Errno::nodata;
    }
    return Errno::nosys;
}

} // namespace hearth
