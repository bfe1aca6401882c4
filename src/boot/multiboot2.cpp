#include "boot/multiboot2.h"

#include "boot/boot_text.h"
#include "boot/multiboot.h"

namespace hearth {
namespace {

enum class Tag : uint32_t {
    end = 0,
    command_line = 1,
    loader_name = 2,
    module = 3,
    memory_sizes = 4,
    memory_map = 6,
    framebuffer = 8,
    efi32_system_table = 11,
    efi64_system_table = 12,
    acpi_old = 14,
    acpi_new = 15,
    efi_memory_map = 17,
    efi_boot_services_active = 18,
    efi64_image_handle = 20,
    load_base = 21,
};

constexpr uint64_t tag_header_size = 8;

/// Walks the tags. `tag` includes the header of 8 bytes; fields that a short tag lacks read as
/// zero.
class Reader {
    BootInfo& info_;
    PhysicalAddress base_; // of the information
    Bytes memory_map_{}, efi_memory_map_{};
    std::optional<Bytes> memory_sizes_;

public:
    Reader(BootInfo& info, PhysicalAddress base) : info_{info}, base_{base} {}

    BootResult<> read(Tag type, Bytes tag, uint64_t offset) {
        auto number = [&](uint64_t at) { return load_or_zero<uint32_t>(tag, at); };
        auto wide = [&](uint64_t at) { return load_or_zero<uint64_t>(tag, at); };
        switch (type) {
        case Tag::command_line:
            info_.command_line.assign(text_in(tag.subspan(tag_header_size)));
            keep_options(info_.command_line, false);
            break;
        case Tag::loader_name:
            info_.loader_name.assign(text_in(tag.subspan(tag_header_size)));
            break;
        case Tag::module:
            return read_module(tag);
        case Tag::memory_sizes:
            memory_sizes_ = tag;
            break;
        case Tag::memory_map:
            memory_map_ = tag;
            break;
        case Tag::framebuffer:
            read_framebuffer(tag);
            break;
        case Tag::efi32_system_table: // a 32-bit EFI is of no use to us beyond its memory map
            info_.efi.booted_by_efi = true;
            break;
        case Tag::efi64_system_table:
            info_.efi.booted_by_efi = true;
            info_.efi.system_table = PhysicalAddress{wide(8)};
            break;
        case Tag::efi64_image_handle:
            info_.efi.image_handle = PhysicalAddress{wide(8)};
            break;
        case Tag::efi_boot_services_active:
            info_.efi.booted_by_efi = true;
            info_.efi.boot_services_active = true;
            break;
        case Tag::efi_memory_map:
            info_.efi.booted_by_efi = true;
            if (tag.size() >= 16) {
                info_.efi.memory_map = base_ + offset + 16;
                info_.efi.memory_map_size = tag.size() - 16;
                info_.efi.descriptor_size = number(8);
                info_.efi.descriptor_version = number(12);
                efi_memory_map_ = tag;
            }
            break;
        case Tag::acpi_old:
            // A second choice: the new one has 64-bit addresses.
            if (info_.root_pointer.copy_size == 0)
                copy_root_pointer(tag, 20);
            break;
        case Tag::acpi_new:
            copy_root_pointer(tag, 36);
            break;
        case Tag::load_base:
            info_.load_base = PhysicalAddress{number(8)};
            break;
        case Tag::end:
            break;
        }
        return {};
    }

    /// The first of the memory maps that the loader gave, in order of what they tell.
    BootResult<> finish() {
        if (!memory_map_.empty())
            return read_memory_map();
        if (!efi_memory_map_.empty()) {
            if (!add_efi_memory_map(info_.memory_map, efi_memory_map_.subspan(16),
                                    info_.efi.descriptor_size))
                return BootError{"multiboot2: the EFI memory map is malformed"};
            return {};
        }
        if (memory_sizes_) {
            if (!add_basic_memory(info_.memory_map, load_or_zero<uint32_t>(*memory_sizes_, 8),
                                  load_or_zero<uint32_t>(*memory_sizes_, 12)))
                return BootError{"multiboot2: the memory sizes make no sense"};
            return {};
        }
        if (!info_.efi.boot_services_active)
            return BootError{"multiboot2: no memory map"};
        return {};
    }

private:
    BootResult<> read_module(Bytes tag) {
        constexpr uint64_t text_at = 16;
        auto start = load_or_zero<uint32_t>(tag, 8);
        auto end = load_or_zero<uint32_t>(tag, 12);
        if (tag.size() < text_at || end < start)
            return BootError{"multiboot2: a module is malformed"};
        auto* module = info_.add_module();
        if (module == nullptr)
            return {};
        module->start = PhysicalAddress{start};
        module->size = end - start;
        module->command_line.assign(text_in(tag.subspan(text_at)));
        keep_options(module->command_line, false);
        return {};
    }

    BootResult<> read_memory_map() {
        constexpr uint64_t entries_at = 16, known_entry = 24;
        uint64_t entry_size = load_or_zero<uint32_t>(memory_map_, 8);
        if (entry_size < known_entry)
            return BootError{"multiboot2: the memory map is malformed"};
        for (uint64_t at = entries_at; auto entry = slice(memory_map_, at, entry_size);
             at += entry_size) {
            auto type = memory_type_from_e820(load_or_zero<uint32_t>(*entry, 16));
            if (!info_.memory_map.add(PhysicalAddress{load_or_zero<uint64_t>(*entry, 0)},
                                      load_or_zero<uint64_t>(*entry, 8), type))
                return BootError{"multiboot2: the memory map wraps around, or is too long"};
        }
        return {};
    }

    void read_framebuffer(Bytes tag) {
        auto octet = [&](uint64_t at) { return load_or_zero<uint8_t>(tag, at); };
        if (tag.size() < 32 || octet(29) > static_cast<uint8_t>(Framebuffer::Kind::ega_text))
            return;
        Framebuffer screen;
        screen.address = PhysicalAddress{load_or_zero<uint64_t>(tag, 8)};
        screen.pitch = load_or_zero<uint32_t>(tag, 16);
        screen.width = load_or_zero<uint32_t>(tag, 20);
        screen.height = load_or_zero<uint32_t>(tag, 24);
        screen.bits_per_pixel = octet(28);
        screen.kind = static_cast<Framebuffer::Kind>(octet(29));
        screen.red = {octet(32), octet(33)};
        screen.green = {octet(34), octet(35)};
        screen.blue = {octet(36), octet(37)};
        info_.framebuffer = screen;
    }

    void copy_root_pointer(Bytes tag, uint64_t size) {
        auto bytes = slice(tag, tag_header_size, size);
        if (!bytes)
            return;
        std::copy(bytes->begin(), bytes->end(), info_.root_pointer.copy.begin());
        info_.root_pointer.copy_size = size;
    }
};

} // namespace

BootResult<> read_multiboot2(PhysicalView& memory, PhysicalAddress address, BootInfo& info) {
    constexpr uint64_t largest = 16_MiB;
    info.protocol = BootProtocol::multiboot2;
    uint64_t total = load_or_zero<uint32_t>(memory.view(address, 8), 0);
    // Everything is inside: one view, which stays valid as nothing else is looked at.
    auto bytes = total <= largest ? memory.view(address, total) : Bytes{};
    if (bytes.size() < 8)
        return BootError{"multiboot2: the information is not readable"};
    Reader reader{info, address};
    for (uint64_t at = 8;;) {
        auto type = load<uint32_t>(bytes, at);
        auto size = load<uint32_t>(bytes, at + 4);
        auto tag = size ? slice(bytes, at, *size) : std::nullopt;
        if (!tag || *size < tag_header_size)
            return BootError{"multiboot2: a tag does not fit"};
        if (static_cast<Tag>(*type) == Tag::end)
            break;
        TRY(reader.read(static_cast<Tag>(*type), *tag, at));
        at += align_up(*size, 8);
    }
    return reader.finish();
}

} // namespace hearth
