#include "boot/pvh.h"

#include "boot/boot_text.h"

namespace hearth {
namespace {

constexpr uint32_t magic = 0x336ec578;

struct ModuleList {
    uint32_t count;
    PhysicalAddress address;
};

BootResult<> read_modules(PhysicalView& memory, ModuleList list, BootInfo& info) {
    constexpr uint64_t entry_size = 32;
    for (uint32_t i = 0; i < list.count; ++i) {
        auto* module = info.add_module();
        if (module == nullptr) {
            info.modules_dropped = list.count - i;
            break;
        }
        auto entry = memory.view(list.address + i * entry_size, entry_size);
        if (entry.empty())
            return BootError{"PVH: the module list is not readable"};
        module->start = PhysicalAddress{load_or_zero<uint64_t>(entry, 0)};
        module->size = load_or_zero<uint64_t>(entry, 8);
        auto text = load_or_zero<uint64_t>(entry, 16);
        uint64_t end;
        if (__builtin_add_overflow(module->start.raw(), module->size, &end))
            return BootError{"PVH: a module wraps around the end of the address space"};
        if (text != 0 && !read_text(memory, PhysicalAddress{text}, module->command_line))
            return BootError{"PVH: a module's command line is not readable"};
        keep_options(module->command_line, false);
    }
    return {};
}

BootResult<> read_memory_map(PhysicalView& memory, PhysicalAddress address, uint32_t count,
                             MemoryMap& map) {
    constexpr uint64_t entry_size = 24, most = 4096;
    auto entries = count <= most ? memory.view(address, count * entry_size) : Bytes{};
    if (entries.empty())
        return BootError{"PVH: no readable memory map"};
    for (uint64_t at = 0; at < entries.size(); at += entry_size)
        if (!map.add(PhysicalAddress{load_or_zero<uint64_t>(entries, at)},
                     load_or_zero<uint64_t>(entries, at + 8),
                     memory_type_from_e820(load_or_zero<uint32_t>(entries, at + 16))))
            return BootError{"PVH: the memory map wraps around, or is too long"};
    return {};
}

} // namespace

bool is_pvh_start_info(PhysicalView& memory, PhysicalAddress start_info) {
    return load<uint32_t>(memory.view(start_info, 4), 0) == magic;
}

BootResult<> read_pvh(PhysicalView& memory, PhysicalAddress address, BootInfo& info) {
    constexpr uint64_t size_of_version_0 = 40, size_of_version_1 = 56;
    info.protocol = BootProtocol::pvh;
    if (!is_pvh_start_info(memory, address))
        return BootError{"PVH: no start info"};
    bool has_map = load_or_zero<uint32_t>(memory.view(address, size_of_version_0), 4) >= 1;
    auto bytes = memory.view(address, has_map ? size_of_version_1 : size_of_version_0);
    if (bytes.empty())
        return BootError{"PVH: the start info is not readable"};
    ModuleList modules{load_or_zero<uint32_t>(bytes, 12),
                       PhysicalAddress{load_or_zero<uint64_t>(bytes, 16)}};
    auto text = load_or_zero<uint64_t>(bytes, 24);
    auto root_pointer = load_or_zero<uint64_t>(bytes, 32);
    PhysicalAddress map{load_or_zero<uint64_t>(bytes, 40)};
    auto map_entries = load_or_zero<uint32_t>(bytes, 48);

    info.loader_name.assign("PVH");
    if (root_pointer != 0)
        info.root_pointer.address = PhysicalAddress{root_pointer};
    if (text != 0) {
        if (!read_text(memory, PhysicalAddress{text}, info.command_line))
            return BootError{"PVH: the command line is not readable"};
        keep_options(info.command_line, false);
    }
    TRY(read_modules(memory, modules, info));
    return read_memory_map(memory, map, map_entries, info.memory_map);
}

} // namespace hearth
