#include "boot/domain0.h"

#include "abi/xen.h"
#include "arch/intrinsics.h"
#include "console/log.h"
#include "memory/allocator.h"
#include "memory/direct_map.h"
#include "memory/layout.h"
#include "memory/page.h"
#include "memory/tlb.h"
#include "pv/address_space.h"
#include "pv/domain.h"
#include "pv/page_type.h"

#include <algorithm>
#include <bit>

namespace hearth {
namespace {

constexpr uint64_t slack = 512_KiB; // mapped beyond all that is there, for the kernel's first needs
constexpr uint64_t mapping_unit = 4_MiB; // the mapped range ends on a multiple of this
constexpr uint64_t table_flags =
    pte::present | pte::writable | pte::user | pte::accessed | pte::dirty;

/// A domain's memory while it is being built: pseudo-physical frames in the order in which they
/// were allocated.
class Memory {
    struct Extent {
        Mfn first;
        uint64_t start, count; // in pseudo-physical frames
    };
    static constexpr unsigned max_extents = 1024;
    Domain& domain_;
    Extent* extents_;
    unsigned used_ = 0;
    uint64_t pages_ = 0;

public:
    Memory(Domain& domain, Extent* extents) : domain_{domain}, extents_{extents} {}
    static BootResult<Memory> create(Domain& domain) {
        auto room = allocate_bytes(sizeof(Extent) * max_extents);
        if (!room)
            return BootError{"no memory to build Domain 0"};
        return Memory{domain, static_cast<Extent*>(*room)};
    }
    void destroy() { free_bytes(extents_); }
    [[nodiscard]] uint64_t pages() const { return pages_; }

    /// Grows to `pages`, in the largest pieces there are.
    BootResult<> grow(uint64_t pages) {
        unsigned order = max_order;
        while (pages_ < pages) {
            uint64_t const left = pages - pages_;
            order = std::min(order, static_cast<unsigned>(std::bit_width(left) - 1));
            auto const got = allocate_frames(order);
            if (!got) {
                if (order == 0)
                    return BootError{"not enough memory for Domain 0: lower dom0_mem="};
                --order;
                continue;
            }
            if (used_ == max_extents)
                return BootError{"memory is too fragmented for Domain 0"};
            uint64_t const count = uint64_t{1} << order;
            extents_[used_++] = {*got, pages_, count};
            for (uint64_t i = 0; i < count; ++i)
                set_m2p(*got + i, pages_ + i);
            give_frames_to(domain_, *got, count);
            pages_ += count;
        }
        return {};
    }

    [[nodiscard]] Mfn mfn(uint64_t pfn) const {
        for (unsigned i = 0; i < used_; ++i)
            if (pfn - extents_[i].start < extents_[i].count)
                return extents_[i].first + (pfn - extents_[i].start);
        panic("Domain 0's builder lost frame {:x}", pfn);
    }

    /// Calls `function(pointer, offset, bytes)` for each page's part of [address, address + size).
    template <class Function>
    void each_page(uint64_t address, uint64_t size, Function&& function) const {
        for (uint64_t done = 0; done < size;) {
            uint64_t const within = (address + done) & page_mask;
            uint64_t const part = std::min(page_size - within, size - done);
            function(direct<std::byte>(mfn((address + done) >> page_shift)) + within, done, part);
            done += part;
        }
    }
    void copy_in(uint64_t address, Bytes bytes) const {
        each_page(address, bytes.size(), [&](std::byte* to, uint64_t offset, uint64_t size) {
            if (size == page_size)
                arch::copy_quads(to, bytes.data() + offset, page_size / 8);
            else
                memcpy(to, bytes.data() + offset, size);
        });
    }
    void clear(uint64_t address, uint64_t size) const {
        each_page(address, size,
                  [](std::byte* to, uint64_t, uint64_t part) { memset(to, 0, part); });
    }
    void fill_p2m(uint64_t address) const {
        uint64_t* page = nullptr;
        for (unsigned e = 0; e < used_; ++e)
            for (uint64_t i = 0; i < extents_[e].count; ++i) {
                uint64_t const at = address + (extents_[e].start + i) * 8;
                if (!page || (at & page_mask) == 0)
                    page = direct<uint64_t>(mfn(at >> page_shift));
                page[(at & page_mask) / 8] = extents_[e].first.raw() + i;
            }
    }
};

/// Where everything goes, in pseudo-physical addresses; linear ones are virt_base higher where
/// mapped.
struct Plan {
    uint64_t kernel_end = 0;
    uint64_t ramdisk = 0;
    uint64_t p2m = 0;
    uint64_t start_info = 0;
    uint64_t tables = 0;
    uint64_t stack = 0;
    uint64_t mapped_end = 0;
    uint64_t end = 0;         // of all that must exist before the kernel runs
    uint64_t table_count = 0; // of the mapping at virt_base
    uint64_t p2m_pages = 0;
    uint64_t p2m_tables = 0; // of the mapping at the kernel's own P2M address, behind the P2M
};

uint64_t units(uint64_t start, uint64_t end, uint64_t unit) {
    return (align_up(end, unit) - align_down(start, unit)) / unit;
}
/// Tables below the top level that map [start, end).
uint64_t tables_for(uint64_t start, uint64_t end) {
    return units(start, end, uint64_t{1} << 21) + units(start, end, uint64_t{1} << 30) +
           units(start, end, uint64_t{1} << 39);
}

/// No sum of sizes and addresses in the plan may wrap around, nor may Domain 0 start with addresses
/// that are not for guests.
BootResult<> check_addresses(KernelImage const& kernel, uint64_t ramdisk_size, uint64_t pages) {
    constexpr uint64_t tables_and_slack = 64_MiB; // for the mapping of as much as fits 4 TiB
    if (pages > frame_limit().raw())
        return BootError{"not enough memory for Domain 0: lower dom0_mem="};
    uint64_t const kernel_size = kernel.end - kernel.virt_base;
    if (kernel_size > pages * page_size)
        return BootError{"the kernel and its ramdisk need more memory than dom0_mem= gives"};
    uint64_t const p2m_size = align_up(pages * 8, page_size);
    uint64_t const mapped = kernel_size + (kernel.mod_start_pfn ? 0 : ramdisk_size) +
                            (kernel.init_p2m ? 0 : p2m_size) + tables_and_slack;
    if (!is_aligned(kernel.virt_base, page_size) ||
        !layout::guest_range_ok(kernel.virt_base, mapped))
        return BootError{"the kernel is made for addresses that no guest can have"};
    if (kernel.init_p2m && (!is_aligned(*kernel.init_p2m, page_size) ||
                            !layout::guest_range_ok(*kernel.init_p2m, p2m_size)))
        return BootError{"the kernel wants its P2M at an address that no guest can have"};
    return {};
}

Plan make_plan(KernelImage const& kernel, uint64_t ramdisk_size, uint64_t pages) {
    Plan p;
    p.p2m_pages = pages_for(pages * 8);
    uint64_t at = p.kernel_end = align_up(kernel.end - kernel.virt_base, page_size);
    auto const place = [&](uint64_t size) {
        return std::exchange(at, align_up(at + size, page_size));
    };
    if (!kernel.mod_start_pfn)
        p.ramdisk = place(ramdisk_size);
    if (!kernel.init_p2m)
        p.p2m = place(p.p2m_pages * page_size);
    p.start_info = place(page_size);
    p.tables = at;
    for (p.table_count = 1;;) {
        uint64_t const behind = p.tables + p.table_count * page_size;
        p.stack = behind;
        p.mapped_end = align_up(behind + page_size + slack, mapping_unit);
        uint64_t const needed = 1 + tables_for(kernel.virt_base, kernel.virt_base + p.mapped_end);
        if (needed <= p.table_count)
            break;
        p.table_count = needed;
    }
    at = p.mapped_end;
    if (kernel.mod_start_pfn)
        p.ramdisk = place(ramdisk_size);
    if (kernel.init_p2m) {
        p.p2m = place(p.p2m_pages * page_size);
        p.p2m_tables = tables_for(*kernel.init_p2m, *kernel.init_p2m + p.p2m_pages * page_size);
        place(p.p2m_tables * page_size);
    }
    p.end = at;
    return p;
}

/// The first page tables, made by hand and then checked like any guest's.
class FirstTables {
    Memory const& memory_;
    uint64_t next_; // pseudo-physical address of the next free table
    Mfn root_;

    Mfn take() {
        Mfn const mfn = memory_.mfn(std::exchange(next_, next_ + page_size) >> page_shift);
        zero_page(mfn);
        return mfn;
    }
    Pte& entry(uint64_t address) {
        Mfn table = root_;
        for (unsigned level = 4; level > 1; --level) {
            Pte& e = direct<Pte>(table)[table_index(address, level)];
            if (!e.present())
                e = Pte::make(take(), table_flags);
            table = e.mfn();
        }
        return direct<Pte>(table)[table_index(address, 1)];
    }

public:
    FirstTables(Memory const& memory, uint64_t tables) : memory_{memory}, next_{tables}, root_{} {
        root_ = take();
    }
    [[nodiscard]] Mfn root() const { return root_; }
    void use_tables_at(uint64_t address) { next_ = address; }
    void map(uint64_t linear, uint64_t physical, uint64_t size, uint64_t read_only_start,
             uint64_t read_only_end) {
        for (uint64_t done = 0; done < size; done += page_size) {
            uint64_t const at = physical + done;
            bool const read_only = at >= read_only_start && at < read_only_end;
            entry(linear + done) = Pte::make(memory_.mfn(at >> page_shift),
                                             table_flags & ~(read_only ? pte::writable : 0));
        }
    }
};

void write_start_info(Domain0Request const& request, Domain const& d, KernelImage const& kernel,
                      Plan const& p, uint64_t pages, Memory const& memory) {
    auto* const page = direct<std::byte>(memory.mfn(p.start_info >> page_shift));
    zero_page(memory.mfn(p.start_info >> page_shift));
    auto& info = *reinterpret_cast<abi::StartInfo*>(page);
    constexpr std::string_view magic = "xen-3.0-x86_64";
    std::copy_n(magic.data(), magic.size(), info.magic);
    info.page_count = pages;
    info.shared_info = address_of(d.shared_info_frame).raw();
    info.flags = abi::start_privileged | abi::start_initial_domain | abi::start_p2m_mapped;
    info.page_table_base = kernel.virt_base + p.tables;
    info.page_table_frames = p.table_count;
    info.p2m_list = kernel.init_p2m ? *kernel.init_p2m : kernel.virt_base + p.p2m;
    if (kernel.init_p2m) {
        info.first_p2m_pfn = p.p2m >> page_shift;
        info.p2m_frames = p.p2m_pages + p.p2m_tables;
    }
    if (!request.ramdisk.empty()) {
        info.module_start =
            kernel.mod_start_pfn ? p.ramdisk >> page_shift : kernel.virt_base + p.ramdisk;
        info.module_size = request.ramdisk.size();
        info.flags |= kernel.mod_start_pfn ? abi::start_module_is_pfn : 0;
    }
    size_t const text = std::min(request.command_line.size(), sizeof info.command_line - 1);
    std::copy_n(request.command_line.data(), text, info.command_line);
    if (request.vga_text) {
        info.console = {sizeof(abi::StartInfo) | uint64_t{sizeof(abi::VgaConsoleInfo)} << 32, 0, 0};
        auto& vga = *reinterpret_cast<abi::VgaConsoleInfo*>(page + sizeof(abi::StartInfo));
        vga.video_type = abi::video_type_vga_text;
        vga.font_height = 16;
        vga.rows = 25;
        vga.columns = 80;
    }
}

void load_kernel(Memory const& memory, UnpackedKernel const& kernel) {
    for (KernelSegment const& s : kernel.image.segments()) {
        uint64_t const to = s.address - kernel.image.virt_base;
        memory.copy_in(to, kernel.elf.subspan(s.file_offset, s.file_size));
        memory.clear(to + s.file_size, s.memory_size - s.file_size);
    }
    if (auto const page = kernel.image.hypercall_page)
        pv::write_hypercall_stubs(
            direct<std::byte>(memory.mfn((*page - kernel.image.virt_base) >> page_shift)));
}

BootResult<> start_first_vcpu(Domain& d, KernelImage const& kernel, Plan const& p, Mfn root) {
    pv::PvVcpu& v = pv::pv_vcpu(*d.vcpus[0]);
    if (!pv::pin(d, root, PageType::l4) || !pv::get_page_and_type(d, root, PageType::l4))
        return BootError{"Domain 0's first page tables do not pass"};
    v.kernel_table = root;
    pv::set_start_registers(v, kernel.entry, kernel.virt_base + p.stack + page_size,
                            kernel.virt_base + p.start_info);
    pv::finish_vcpu(v);
    return {};
}

} // namespace

BootResult<> UnpackedKernel::unpack(Bytes file) {
    PackedKernel const packed = TRY(detect_kernel(file));
    if (packed.compression == Compression::none) {
        elf = packed.payload;
        image = TRY(parse_kernel(elf));
        return {};
    }
    uint64_t const workspace = TRY(decompress_workspace_size(packed.compression, packed.payload));
    uint64_t const room = align_up(packed.unpacked_size, page_size) + workspace;
    if (workspace > 1_GiB || packed.unpacked_size > 1_GiB)
        return BootError{"the kernel asks for absurd amounts of memory to unpack"};
    order_ = static_cast<unsigned>(std::bit_width(pages_for(room) - 1));
    auto const got = allocate_frames(order_);
    if (!got)
        return BootError{"not enough memory to unpack the kernel"};
    first_ = *got;
    auto* const base = direct<std::byte>(first_);
    uint64_t const started = arch::read_tsc();
    elf = TRY(unpack_kernel(packed, {base, packed.unpacked_size},
                            {base + align_up(packed.unpacked_size, page_size), workspace}));
    log_info("decompressed kernel: {} KiB of {} in {} TSC ticks", packed.unpacked_size >> 10,
             name_of(packed.compression), arch::read_tsc() - started);
    image = TRY(parse_kernel(elf));
    return {};
}

void UnpackedKernel::release() {
    if (first_ != invalid_mfn)
        free_frames(std::exchange(first_, invalid_mfn), order_);
}

BootResult<Domain*> build_domain0(Domain0Request const& request, void (*gone)()) {
    UnpackedKernel kernel;
    TRY(kernel.unpack(request.kernel_file));
    TRY(check_addresses(kernel.image, request.ramdisk.size(), request.pages));
    auto const made = pv::create_domain(0, true, {.vcpus = request.vcpus});
    if (!made || !create_guest_vcpus(**made))
        return BootError{"not enough memory for Domain 0's own structures"};
    Domain& d = **made;
    Plan const plan = make_plan(kernel.image, request.ramdisk.size(), request.pages);
    if (plan.end > request.pages * page_size)
        return BootError{"the kernel and its ramdisk need more memory than dom0_mem= gives"};
    d.pages.with(
        [&](PageList& list) { list.maximum = std::max(request.pages, request.max_pages); });
    Memory memory = TRY(Memory::create(d));
    TRY(memory.grow(pages_for(plan.end)));
    load_kernel(memory, kernel);
    memory.copy_in(plan.ramdisk, request.ramdisk);
    kernel.release();
    gone();
    TRY(memory.grow(request.pages));
    memory.fill_p2m(plan.p2m);
    write_start_info(request, d, kernel.image, plan, memory.pages(), memory);

    uint64_t const tables_end = plan.tables + plan.table_count * page_size;
    FirstTables tables{memory, plan.tables};
    tables.map(kernel.image.virt_base, 0, plan.mapped_end, plan.tables, tables_end);
    if (auto const p2m = kernel.image.init_p2m) {
        tables.use_tables_at(plan.p2m + plan.p2m_pages * page_size);
        tables.map(*p2m, plan.p2m, plan.p2m_pages * page_size, 0, 0);
    }
    TRY(start_first_vcpu(d, kernel.image, plan, tables.root()));
    log_info("Domain 0: {} MiB, {} vCPUs, kernel {:x}-{:x}, entry {:x}", memory.pages() >> 8,
             request.vcpus, kernel.image.start, kernel.image.end, kernel.image.entry);
    memory.destroy();
    return &d;
}

} // namespace hearth
