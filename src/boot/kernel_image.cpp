#include "boot/kernel_image.h"

#include <algorithm>

namespace hearth {
namespace {

/// XEN_ELFNOTE_* (public/elfnote.h).
enum class XenNote : uint32_t {
    entry = 1,
    hypercall_page = 2,
    virt_base = 3,
    paddr_offset = 4,
    xen_version = 5,
    guest_os = 6,
    guest_version = 7,
    loader = 8,
    pae_mode = 9,
    features = 10,
    bsd_symtab = 11,
    hv_start_low = 12,
    l1_mfn_valid = 13,
    suspend_cancel = 14,
    init_p2m = 15,
    mod_start_pfn = 16,
    supported_features = 17,
    phys32_entry = 18,
};

/// By the number of their bit (public/features.h).
constexpr std::string_view feature_names[] = {
    "writable_page_tables",
    "writable_descriptor_tables",
    "auto_translated_physmap",
    "supervisor_mode_kernel",
    "pae_pgdir_above_4gb",
    "mmu_pt_update_preserve_ad",
    "highmem_assist",
    "gnttab_map_avail_bits",
    "hvm_callback_vector",
    "hvm_safe_pvclock",
    "hvm_pirqs",
    "dom0",
    "grant_map_identity",
    "memory_op_vnode_supported",
    "ARM_SMCCC_supported",
    "linux_rsdp_unrestricted",
};

BootResult<uint64_t> number_in(Bytes description) {
    switch (description.size()) {
    case 4:
        return load_or_zero<uint32_t>(description, 0);
    case 8:
        return load_or_zero<uint64_t>(description, 0);
    default:
        return BootError{"a numeric Xen note has neither 4 nor 8 bytes"};
    }
}

std::string_view text_in(Bytes description) {
    std::string_view text{reinterpret_cast<char const*>(description.data()), description.size()};
    return text.substr(0, text.find('\0'));
}

/// "a|!b|c"; '!' marks what the kernel cannot do without.
BootResult<> read_features(KernelImage& kernel, std::string_view list) {
    kernel.features = list;
    while (!list.empty()) {
        size_t length = std::min(list.find('|'), list.size());
        auto name = list.substr(0, length);
        list.remove_prefix(std::min(length + 1, list.size()));
        bool required = name.starts_with('!');
        if (required)
            name.remove_prefix(1);
        auto const* known = std::ranges::find(feature_names, name);
        if (known == std::end(feature_names)) {
            if (required)
                return BootError{"the kernel requires a feature that we do not know"};
            continue;
        }
        uint64_t mask = uint64_t{1} << (known - std::begin(feature_names));
        kernel.supported_features |= mask;
        if (required)
            kernel.required_features |= mask;
    }
    return {};
}

void read_l1_mfn_valid(KernelImage& kernel, Bytes description) {
    kernel.l1_mfn_valid_count = 0;
    for (auto& pair : kernel.l1_mfn_valid) {
        auto mask = load<uint64_t>(description, kernel.l1_mfn_valid_count * 16);
        auto value = load<uint64_t>(description, kernel.l1_mfn_valid_count * 16 + 8);
        if (!mask || !value)
            return;
        pair = {*mask, *value};
        ++kernel.l1_mfn_valid_count;
    }
}

BootResult<> read_note(KernelImage& kernel, ElfNote const& note) {
    auto const& data = note.description;
    switch (static_cast<XenNote>(note.type)) {
    case XenNote::entry:
        kernel.entry = TRY(number_in(data));
        break;
    case XenNote::hypercall_page:
        kernel.hypercall_page = TRY(number_in(data));
        break;
    case XenNote::virt_base:
        kernel.virt_base = TRY(number_in(data));
        break;
    case XenNote::paddr_offset:
        kernel.paddr_offset = TRY(number_in(data));
        break;
    case XenNote::xen_version:
        kernel.xen_version = text_in(data);
        break;
    case XenNote::guest_os:
        kernel.guest_os = text_in(data);
        break;
    case XenNote::guest_version:
        kernel.guest_version = text_in(data);
        break;
    case XenNote::loader:
        kernel.loader = text_in(data);
        break;
    case XenNote::pae_mode:
        kernel.pae_mode = text_in(data);
        break;
    case XenNote::features:
        TRY(read_features(kernel, text_in(data)));
        break;
    case XenNote::bsd_symtab:
        kernel.wants_symbol_table = text_in(data) == "yes";
        break;
    case XenNote::hv_start_low:
        kernel.hv_start_low = TRY(number_in(data));
        break;
    case XenNote::l1_mfn_valid:
        read_l1_mfn_valid(kernel, data);
        break;
    case XenNote::suspend_cancel:
        kernel.suspend_cancel = TRY(number_in(data)) != 0;
        break;
    case XenNote::init_p2m:
        kernel.init_p2m = TRY(number_in(data));
        break;
    case XenNote::mod_start_pfn:
        kernel.mod_start_pfn = TRY(number_in(data)) != 0;
        break;
    case XenNote::supported_features:
        kernel.supported_features |= TRY(number_in(data));
        break;
    case XenNote::phys32_entry:
        kernel.phys32_entry = TRY(number_in(data));
        break;
    }
    return {};
}

BootResult<> read_notes(KernelImage& kernel, ElfFile const& elf) {
    bool any = false;
    BootResult<> result;
    elf.for_each_note([&](ElfNote const& note) {
        if (note.name == "Xen") {
            any = true;
            result = read_note(kernel, note);
        }
        return result.has_value();
    });
    TRY(result);
    if (!any)
        return BootError{"not a PV kernel: it has no Xen note"};
    if (kernel.entry == 0) {
        if (kernel.phys32_entry)
            return BootError{"not a PV kernel: it has an entry point for PVH only"};
        kernel.entry = elf.entry();
    }
    // Not writable_page_tables, which PV kernels ask for who can do without.
    constexpr uint64_t none_of_pv =
        feature::auto_translated_physmap | feature::supervisor_mode_kernel;
    if (kernel.required_features & none_of_pv)
        return BootError{"not a PV kernel: it requires translated memory or ring 0"};
    if (!kernel.xen_version.empty() && kernel.xen_version != "xen-3.0")
        return BootError{"the kernel is made for another version of the PV interface"};
    return {};
}

BootResult<> place_segments(KernelImage& kernel, ElfFile const& elf) {
    kernel.start = ~uint64_t{0};
    for (auto const& segment : elf.segments()) {
        uint64_t address, end;
        if (__builtin_sub_overflow(segment.physical_address, kernel.paddr_offset, &address) ||
            __builtin_add_overflow(address, kernel.virt_base, &address) ||
            __builtin_add_overflow(address, segment.memory_size, &end))
            return BootError{"a segment wraps around the end of the address space"};
        kernel.segment_storage[kernel.segment_count++] = {.file_offset = segment.offset,
                                                          .file_size = segment.file_size,
                                                          .memory_size = segment.memory_size,
                                                          .address = address,
                                                          .physical_address =
                                                              segment.physical_address,
                                                          .flags = segment.flags};
        kernel.start = std::min(kernel.start, address);
        kernel.end = std::max(kernel.end, end);
    }
    if (kernel.entry < kernel.start || kernel.entry >= kernel.end)
        return BootError{"the entry point lies outside of the kernel"};
    if (kernel.hypercall_page) {
        uint64_t page = *kernel.hypercall_page;
        if (!is_aligned(page, page_size))
            return BootError{"the hypercall page is not aligned"};
        if (page < kernel.start || page >= kernel.end || kernel.end - page < page_size)
            return BootError{"the hypercall page lies outside of the kernel"};
    }
    return {};
}

BootResult<PackedKernel> detect_bzimage(Bytes file) {
    constexpr uint64_t sector = 512;
    // Beyond this it is not a kernel but a broken header.
    constexpr uint64_t largest = 1_GiB;
    if (load_or_zero<uint16_t>(file, 0x206) < 0x208)
        return BootError{"bzImage: boot protocol older than 2.08"};
    uint64_t setup_sectors = load_or_zero<uint8_t>(file, 0x1f1);
    if (setup_sectors == 0)
        setup_sectors = 4;
    uint64_t start = (setup_sectors + 1) * sector + load_or_zero<uint32_t>(file, 0x248);
    uint64_t length = load_or_zero<uint32_t>(file, 0x24c);
    auto payload = slice(file, start, length);
    if (!payload || length <= 4)
        return BootError{"bzImage: the payload lies outside of the file"};
    auto compression = detect_compression(*payload);
    if (!compression)
        return BootError{"bzImage: the payload has an unknown compression"};
    // The build appends the size; gzip's own trailer ends with it already.
    PackedKernel kernel{*compression, *payload, load_or_zero<uint32_t>(*payload, length - 4)};
    if (*compression == Compression::none)
        kernel.unpacked_size = length;
    else if (*compression != Compression::gzip)
        kernel.payload = payload->first(payload->size() - 4);
    if (kernel.unpacked_size == 0 || kernel.unpacked_size > largest)
        return BootError{"bzImage: the size of the unpacked kernel makes no sense"};
    return kernel;
}

} // namespace

BootResult<PackedKernel> detect_kernel(Bytes file) {
    constexpr uint32_t setup_header_magic = 0x53726448; // "HdrS"
    if (load<uint16_t>(file, 0x1fe) == 0xaa55 && load<uint32_t>(file, 0x202) == setup_header_magic)
        return detect_bzimage(file);
    if (detect_compression(file) == Compression::none)
        return PackedKernel{Compression::none, file, file.size()};
    return BootError{"neither an ELF file nor a bzImage"};
}

BootResult<Bytes> unpack_kernel(PackedKernel const& kernel, std::span<std::byte> unpacked,
                                std::span<std::byte> workspace) {
    if (kernel.compression == Compression::none)
        return kernel.payload;
    uint64_t size = TRY(decompress(kernel.compression, kernel.payload, unpacked, workspace));
    if (size != kernel.unpacked_size)
        return BootError{"bzImage: the kernel unpacks to another size than it says"};
    return unpacked.first(size);
}

BootResult<KernelImage> parse_kernel(Bytes file) {
    auto elf = TRY(ElfFile::parse(file));
    KernelImage kernel;
    TRY(read_notes(kernel, elf));
    TRY(place_segments(kernel, elf));
    return kernel;
}

} // namespace hearth
