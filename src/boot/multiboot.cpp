#include "boot/multiboot.h"

#include "boot/boot_text.h"

namespace hearth {
namespace {

enum Flags : uint32_t {
    has_memory_sizes = 1u << 0,
    has_command_line = 1u << 2,
    has_modules = 1u << 3,
    has_memory_map = 1u << 6,
    has_loader_name = 1u << 9,
    has_framebuffer = 1u << 12,
};

/// The fixed structure, copied: reading what it points to would invalidate a view of it.
class Information {
    std::array<std::byte, 116> data_{};
    uint32_t flags_ = 0;

public:
    bool read(PhysicalView& memory, PhysicalAddress at) {
        auto bytes = memory.view(at, data_.size());
        if (bytes.empty())
            return false;
        std::copy(bytes.begin(), bytes.end(), data_.begin());
        flags_ = field<uint32_t>(0);
        return true;
    }
    [[nodiscard]] bool has(Flags flag) const { return (flags_ & flag) != 0; }
    template <class T>
    [[nodiscard]] T field(uint64_t offset) const {
        return load_or_zero<T>(data_, offset);
    }
    [[nodiscard]] PhysicalAddress address(uint64_t offset) const {
        return PhysicalAddress{field<uint32_t>(offset)};
    }
};

BootResult<> read_memory(PhysicalView& memory, Information const& information, MemoryMap& map) {
    if (!information.has(has_memory_map)) {
        if (!information.has(has_memory_sizes))
            return BootError{"multiboot: no memory map"};
        if (!add_basic_memory(map, information.field<uint32_t>(4), information.field<uint32_t>(8)))
            return BootError{"multiboot: the memory sizes make no sense"};
        return {};
    }
    constexpr uint64_t smallest_entry = 20, largest_map = 1_MiB;
    uint64_t length = information.field<uint32_t>(44);
    auto entries = length <= largest_map ? memory.view(information.address(48), length) : Bytes{};
    if (entries.empty())
        return BootError{"multiboot: the memory map is not readable"};
    for (uint64_t at = 0; at < length;) {
        auto size = load_or_zero<uint32_t>(entries, at); // does not count itself
        auto entry = slice(entries, at + 4, size);
        if (!entry || size < smallest_entry)
            return BootError{"multiboot: the memory map is malformed"};
        auto type = memory_type_from_e820(load_or_zero<uint32_t>(*entry, 16));
        if (!map.add(PhysicalAddress{load_or_zero<uint64_t>(*entry, 0)},
                     load_or_zero<uint64_t>(*entry, 8), type))
            return BootError{"multiboot: the memory map wraps around, or is too long"};
        at += 4 + uint64_t{size};
    }
    return {};
}

BootResult<> read_modules(PhysicalView& memory, Information const& information,
                          bool file_name_first, BootInfo& info) {
    constexpr uint64_t entry_size = 16;
    uint32_t count = information.field<uint32_t>(20);
    for (uint32_t i = 0; i < count; ++i) {
        auto* module = info.add_module();
        if (module == nullptr) {
            info.modules_dropped = count - i;
            break;
        }
        auto entry = memory.view(information.address(24) + i * entry_size, entry_size);
        if (entry.empty())
            return BootError{"multiboot: the module list is not readable"};
        auto start = load_or_zero<uint32_t>(entry, 0);
        auto end = load_or_zero<uint32_t>(entry, 4);
        auto text = load_or_zero<uint32_t>(entry, 8);
        if (end < start)
            return BootError{"multiboot: a module ends before it starts"};
        module->start = PhysicalAddress{start};
        module->size = end - start;
        if (text != 0 && !read_text(memory, PhysicalAddress{text}, module->command_line))
            return BootError{"multiboot: a module's command line is not readable"};
        keep_options(module->command_line, file_name_first);
    }
    return {};
}

void read_framebuffer(Information const& information, BootInfo& info) {
    auto kind = information.field<uint8_t>(109);
    if (kind > static_cast<uint8_t>(Framebuffer::Kind::ega_text))
        return;
    Framebuffer screen;
    screen.address = PhysicalAddress{information.field<uint64_t>(88)};
    screen.pitch = information.field<uint32_t>(96);
    screen.width = information.field<uint32_t>(100);
    screen.height = information.field<uint32_t>(104);
    screen.bits_per_pixel = information.field<uint8_t>(108);
    screen.kind = static_cast<Framebuffer::Kind>(kind);
    screen.red = {information.field<uint8_t>(110), information.field<uint8_t>(111)};
    screen.green = {information.field<uint8_t>(112), information.field<uint8_t>(113)};
    screen.blue = {information.field<uint8_t>(114), information.field<uint8_t>(115)};
    info.framebuffer = screen;
}

} // namespace

Result<> add_basic_memory(MemoryMap& map, uint32_t lower_kib, uint32_t upper_kib) {
    TRY(map.add(PhysicalAddress{0}, uint64_t{lower_kib} << 10, MemoryType::usable));
    return map.add(PhysicalAddress{1_MiB}, uint64_t{upper_kib} << 10, MemoryType::usable);
}

BootResult<> read_multiboot(PhysicalView& memory, PhysicalAddress address, BootInfo& info) {
    Information information;
    info.protocol = BootProtocol::multiboot1;
    if (!information.read(memory, address))
        return BootError{"multiboot: the information is not readable"};
    if (information.has(has_loader_name) &&
        !read_text(memory, information.address(64), info.loader_name))
        return BootError{"multiboot: the loader's name is not readable"};
    bool file_name_first = !info.loader_name.view().starts_with("GRUB 2");
    if (information.has(has_command_line)) {
        if (!read_text(memory, information.address(16), info.command_line))
            return BootError{"multiboot: the command line is not readable"};
        keep_options(info.command_line, file_name_first);
    }
    TRY(read_memory(memory, information, info.memory_map));
    if (information.has(has_modules))
        TRY(read_modules(memory, information, file_name_first, info));
    if (information.has(has_framebuffer))
        read_framebuffer(information, info);
    return {};
}

} // namespace hearth
