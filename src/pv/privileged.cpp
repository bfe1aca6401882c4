#include "pv/privileged.h"

#include "arch/fpu.h"
#include "arch/intrinsics.h"
#include "cpu/features.h"
#include "cpuid/pv_cpuid.h"
#include "cpuid/pv_msr.h"
#include "domain/guest_memory.h"
#include "emulate/emulate.h"
#include "irq/pci.h"
#include "memory/direct_map.h"
#include "memory/layout.h"
#include "memory/tlb.h"
#include "pv/address_space.h"
#include "pv/bounce.h"
#include "pv/contents.h"
#include "pv/cpuid_view.h"

#include <cstring>

namespace hearth::pv {
namespace {

using emulate::Access;
using emulate::CodeSize;
using emulate::Fault;
using emulate::raise;

bool has_io_privilege(PvVcpu const& v) {
    // xen.h, VMASST_TYPE_architectural_iopl: a kernel counts as level 0 then.
    unsigned const kernels = v.domain.assists(abi::VmAssist::architectural_iopl) ? 0 : 1;
    return v.iopl >> 12 >= (v.kernel_mode ? kernels : 3);
}

/// One that leaves it as it is, if it has to be written to.
bool can_access(GuestAddress at, bool write) {
    uint8_t byte = 0;
    if (!copy_from_guest(&byte, at, 1))
        return false;
    uint64_t expected = byte;
    // SAFETY: the byte has just been found to lie outside the hypervisor.
    return !write || arch::compare_exchange_guest(reinterpret_cast<void*>(at.raw()), &expected,
                                                  byte, sizeof byte);
}

/// The processor names the first byte that it could not reach: on the second page, if there is one
/// and the first is there.
Fault fault_within(PvVcpu const& v, GuestAddress at, size_t size, bool write) {
    uint64_t const last_page = align_down(at.raw() + size - 1, page_size);
    bool const second = last_page > at.raw() && can_access(at, write);
    constexpr uint32_t by_user = 4, by_write = 2;
    return raise(Vector::page_fault, (v.kernel_mode ? 0 : by_user) | (write ? by_write : 0),
                 second ? last_page : at.raw());
}

constexpr uint16_t pci_address_port = 0xcf8, pci_data_port = 0xcfc;

bool is_pci_port(uint16_t port, unsigned size) {
    return (port == pci_address_port && size == 4) ||
           (port >= pci_data_port && port < pci_data_port + 4);
}

/// Reading and writing through the guest's address space, as the instruction itself would.
class GuestEnvironment : public emulate::Environment {
protected:
    PvVcpu& v_;
    explicit GuestEnvironment(PvVcpu& v) : v_{v} {}
    ~GuestEnvironment() = default;

public:
    Access<size_t> fetch(GuestAddress from, std::span<std::byte> to) override {
        struct Window {
            uint64_t words[2];
        } window;
        // Mostly there is a whole window, and it does not end at a page that is not mapped.
        if (to.size() == emulate::longest_instruction &&
            GuestPointer<Window>{from.raw()}.read_to(window)) {
            memcpy(to.data(), &window, emulate::longest_instruction);
            return to.size();
        }
        if (copy_from_guest(to.data(), from, to.size()))
            return to.size();
        // Up to the end of the page that is mapped.
        size_t const here = page_size - (from.raw() & page_mask);
        if (here < to.size() && copy_from_guest(to.data(), from, here))
            return here;
        return raise(Vector::page_fault, 0x10, from.raw());
    }
    Access<emulate::Segment> segment(emulate::SegmentRegister which) override {
        emulate::Segment s{0, 0xffffffff, 0xf3};
        if (which == emulate::SegmentRegister::fs)
            s.base = arch::read_msr(arch::msr::fs_base);
        if (which == emulate::SegmentRegister::gs)
            s.base = arch::read_msr(arch::msr::gs_base);
        return s;
    }
    Access<> read(GuestAddress from, std::span<std::byte> to) override {
        if (copy_from_guest(to.data(), from, to.size()))
            return {};
        return fault_within(v_, from, to.size(), false);
    }
};

/// What pv_write_msr() has found to be the vCPU's own to write.
void store_msr(PvVcpu& v, uint32_t index, uint64_t value) {
    switch (index) {
    case arch::msr::tsc_aux:
        v.tsc_aux = static_cast<uint32_t>(value);
        break;
    case arch::msr::spec_ctrl:
        v.speculation_control = value;
        return set_speculation_control(value);
    default: // PRED_CMD, or a base
        break;
    }
    (void)arch::try_write_msr(index, value);
}

class PrivilegedEnvironment final : public GuestEnvironment {
    [[nodiscard]] bool port_allowed(uint16_t port, unsigned size) const {
        if (has_io_privilege(v_))
            return true;
        if (v_.io_bitmap == 0 || port + size > v_.io_bitmap_ports)
            return false;
        InKernelSpace const space{v_};
        for (unsigned i = 0; i < size; ++i) {
            unsigned const p = port + i;
            auto const byte = GuestPointer<uint8_t>{v_.io_bitmap}.read(p / 8);
            if (!byte || (*byte >> (p % 8) & 1))
                return false;
        }
        return true;
    }

public:
    explicit PrivilegedEnvironment(PvVcpu& v) : GuestEnvironment{v} {}

    Access<> write(GuestAddress to, std::span<std::byte const> from) override {
        if (copy_to_guest(to, from.data(), from.size()))
            return {};
        return fault_within(v_, to, from.size(), true);
    }
    Access<> check_write(GuestAddress to, size_t size) override {
        if (can_access(to, true) && (size == 1 || can_access(to + (size - 1), true)))
            return {};
        return fault_within(v_, to, size, true);
    }

    Access<> check_port(uint16_t port, unsigned size) override {
        return port_allowed(port, size) ? Access<>{} : raise(Vector::general_protection);
    }
    Access<uint32_t> io_in(uint16_t port, unsigned size) override {
        TRY(check_port(port, size));
        uint32_t const none = size == 4 ? ~0u : (1u << (size * 8)) - 1;
        if (!may_use_ports(v_.domain, port, static_cast<uint16_t>(port + size - 1)))
            return none;
        if (is_pci_port(port, size)) {
            uint32_t const address = v_.domain.pci_address.load(std::memory_order_relaxed);
            if (port == pci_address_port)
                return address;
            return address >> 31 ? pci_read_by_address(address, port, size) : none;
        }
        return size == 1 ? arch::in8(port) : size == 2 ? arch::in16(port) : arch::in32(port);
    }
    Access<> io_out(uint16_t port, unsigned size, uint32_t value) override {
        TRY(check_port(port, size));
        if (!may_use_ports(v_.domain, port, static_cast<uint16_t>(port + size - 1)))
            return {};
        if (port == pci_address_port && size == 4)
            v_.domain.pci_address.store(value, std::memory_order_relaxed);
        else if (is_pci_port(port, size)) {
            uint32_t const address = v_.domain.pci_address.load(std::memory_order_relaxed);
            if (address >> 31)
                pci_write_by_address(address, port, size, value);
        } else if (size == 1)
            arch::out8(port, static_cast<uint8_t>(value));
        else if (size == 2)
            arch::out16(port, static_cast<uint16_t>(value));
        else
            arch::out32(port, value);
        return {};
    }

    Access<uint64_t> read_msr(uint32_t index) override {
        if (!v_.kernel_mode)
            return raise(Vector::general_protection);
        MsrRead const action = pv_read_msr(index, machine_cpuid(), policy_of(v_));
        uint64_t host = 0;
        switch (action.kind) {
        case MsrRead::Kind::value:
            return action.value;
        case MsrRead::Kind::host:
            if (!arch::try_read_msr(index, &host))
                return refuse_to_read(index);
            return (host & action.mask) | action.value;
        case MsrRead::Kind::tsc:
            return arch::read_tsc();
        case MsrRead::Kind::vcpu:
            if (index == arch::msr::tsc_aux)
                return uint64_t{v_.tsc_aux};
            if (index == arch::msr::spec_ctrl)
                return v_.speculation_control;
            return arch::read_msr(index); // a base
        default:
            return refuse_to_read(index);
        }
    }
    /// A kernel that has no handler yet reads 0 from what the machine has, and would end of a #GP.
    /// (public/arch-x86/xen.h, "MSR")
    [[nodiscard]] Access<uint64_t> refuse_to_read(uint32_t index) const {
        constexpr uint32_t hypervisors_own = 0x4000;
        uint64_t host;
        bool const has_handler =
            v_.traps[static_cast<uint8_t>(Vector::general_protection)].address != 0;
        if (!has_handler && index >> 16 != hypervisors_own && arch::try_read_msr(index, &host))
            return uint64_t{0};
        return raise(Vector::general_protection);
    }
    Access<> write_msr(uint32_t index, uint64_t value) override {
        if (!v_.kernel_mode)
            return raise(Vector::general_protection);
        switch (pv_write_msr(index, value, machine_cpuid(), policy_of(v_)).kind) {
        case MsrWrite::Kind::ignore:
            return {};
        case MsrWrite::Kind::vcpu:
            store_msr(v_, index, value);
            return {};
        default:
            return raise(Vector::general_protection);
        }
    }

    Access<uint64_t> read_control(unsigned number) override {
        if (!v_.kernel_mode)
            return raise(Vector::general_protection);
        switch (number) {
        case 0:
            return (arch::read_cr0() & ~arch::cr0::ts) | (v_.task_switched ? arch::cr0::ts : 0);
        case 2:
            return v_.info->cr2;
        case 3:
            return address_of(v_.kernel_table).raw();
        case 4:
            return control_register_4(v_);
        default:
            return raise(Vector::general_protection);
        }
    }
    Access<> write_control(unsigned number, uint64_t value) override {
        if (!v_.kernel_mode)
            return raise(Vector::general_protection);
        switch (number) {
        case 0:
            // The rest is not its own.
            if ((value ^ arch::read_cr0()) & ~arch::cr0::ts)
                return raise(Vector::general_protection);
            v_.task_switched = value & arch::cr0::ts;
            arch::set_task_switched(v_.task_switched);
            return {};
        case 2:
            v_.info->cr2 = value;
            return {};
        case 3:
            if (!set_kernel_table(v_, frame_of(PhysicalAddress{value & 0x000ffffffffff000})))
                return raise(Vector::general_protection);
            return {};
        case 4:
            store_control_register_4(v_, value);
            set_guest_control(v_.cr4);
            return {};
        default:
            return raise(Vector::general_protection);
        }
    }
    Access<uint64_t> read_debug(unsigned number) override {
        if (!v_.kernel_mode)
            return raise(Vector::general_protection);
        Context c{v_, v_.domain};
        auto const value = do_get_debugreg(c, number);
        if (!value)
            return raise(Vector::invalid_opcode);
        return static_cast<uint64_t>(*value);
    }
    Access<> write_debug(unsigned number, uint64_t value) override {
        if (!v_.kernel_mode)
            return raise(Vector::general_protection);
        Context c{v_, v_.domain};
        auto const done = do_set_debugreg(c, number, value);
        if (!done)
            return raise(done.error() == Errno::nodev ? Vector::invalid_opcode
                                                      : Vector::general_protection);
        return {};
    }
    Access<emulate::CpuidLeaf> cpuid(uint32_t leaf, uint32_t subleaf) override {
        CpuidResult const r = pv_cpuid(leaf, subleaf, machine_cpuid(), policy_of(v_));
        return emulate::CpuidLeaf{r.eax, r.ebx, r.ecx, r.edx};
    }
    Access<uint64_t> read_tsc() override {
        if (!v_.kernel_mode && (v_.cr4 & arch::cr4::tsd))
            return raise(Vector::general_protection);
        return arch::read_tsc();
    }
    Access<> write_extended_control(uint32_t index, uint64_t value) override {
        if (!(v_.cr4 & arch::cr4::osxsave))
            return raise(Vector::invalid_opcode);
        if (!v_.kernel_mode || index != 0 ||
            !pv_xcr0_valid(value, machine_cpuid(), policy_of(v_).features) ||
            (value & ~arch::fpu_features()))
            return raise(Vector::general_protection);
        v_.xcr0 = value;
        arch::fpu_set_xcr0(value);
        return {};
    }
    Access<> flush_caches() override {
        if (!v_.kernel_mode)
            return raise(Vector::general_protection);
        if (v_.domain.hardware)
            arch::write_back_and_invalidate_caches();
        return {};
    }
    Access<> invalidate_page(GuestAddress address) override {
        if (!v_.kernel_mode)
            return raise(Vector::general_protection);
        if (layout::is_canonical(address.raw()) && !layout::is_ours(address.raw()))
            flush_local_page(address.raw());
        return {};
    }
    Access<> set_interrupts(bool) override {
        // PV kernels mask events, not interrupts; with I/O privilege the instruction has no effect,
        // as on Xen.
        if (has_io_privilege(v_))
            return {};
        return raise(Vector::general_protection);
    }
    Access<> halt() override {
        if (!v_.kernel_mode)
            return raise(Vector::general_protection);
        return {};
    }
};

/// The one place that a page-table write may go: the entry that the fault was about.
class TableEnvironment final : public GuestEnvironment {
    uint64_t page_;
    Mfn table_;

    [[nodiscard]] bool here(GuestAddress a, size_t size) const {
        return align_down(a.raw(), page_size) == page_ &&
               (a.raw() & page_mask) + size <= page_size && (a.raw() & 7) + size <= 8;
    }

public:
    TableEnvironment(PvVcpu& v, uint64_t address, Mfn table)
        : GuestEnvironment{v}, page_{align_down(address, page_size)}, table_{table} {}

    Access<> write(GuestAddress to, std::span<std::byte const> from) override {
        if (!here(to, from.size()))
            return emulate::unhandled();
        Pte* const slot =
            direct<Pte>(PhysicalAddress{address_of(table_).raw() + (to.raw() & page_mask & ~7ull)});
        for (;;) {
            Pte expected{__atomic_load_n(&slot->v, __ATOMIC_ACQUIRE)};
            Pte value = expected;
            memcpy(reinterpret_cast<char*>(&value) + (to.raw() & 7), from.data(), from.size());
            auto const done = compare_exchange_entry(v_.domain, slot, 1, expected, value);
            if (!done)
                return emulate::unhandled(); // the fault is the guest's
            if (*done)
                return {};
        }
    }

    Access<emulate::Wide> compare_exchange(GuestAddress at, unsigned size, emulate::Wide expected,
                                           emulate::Wide desired) override {
        if (size > 8 || !here(at, size))
            return emulate::unhandled();
        unsigned const shift = static_cast<unsigned>(at.raw() & 7) * 8;
        uint64_t const mask = size == 8 ? ~uint64_t{0} : ((uint64_t{1} << size * 8) - 1) << shift;
        Pte* const slot =
            direct<Pte>(PhysicalAddress{address_of(table_).raw() + (at.raw() & page_mask & ~7ull)});
        for (;;) {
            Pte found{__atomic_load_n(&slot->v, __ATOMIC_ACQUIRE)};
            auto const part = static_cast<emulate::Wide>((found.v & mask) >> shift);
            if (part != expected)
                return part;
            Pte const value{(found.v & ~mask) | (static_cast<uint64_t>(desired) << shift & mask)};
            auto const done = compare_exchange_entry(v_.domain, slot, 1, found, value);
            if (!done)
                return emulate::unhandled(); // the fault is the guest's
            if (*done)
                return expected;
        }
    }
};

void finish_instruction(Registers& r, uint64_t length) {
    r.rip += length;
    r.rflags &= ~rflags::rf;
    r.vector = 0;
}

CodeSize code_size(Registers const& r) {
    return r.cs == 0xe023 ? CodeSize::bits32 : CodeSize::bits64;
}

// Saves the registers of whoever calls it, who need not.
[[gnu::cold, gnu::noinline, clang::preserve_most]] void report_single_step(PvVcpu& v) {
    v.debug[6] |= arch::dr6::single_step;
    deliver_trap(v, Vector::debug);
}

/// True if the outcome settles the matter.
bool settle(PvVcpu& v, emulate::Outcome const& outcome) {
    switch (outcome.status) {
    case emulate::Outcome::Status::unhandleable:
        return false;
    case emulate::Outcome::Status::exception:
        if (outcome.exception.vector == Vector::page_fault)
            deliver_page_fault(v, outcome.exception.address, outcome.exception.error_code);
        else
            deliver_trap(v, outcome.exception.vector, outcome.exception.error_code);
        return true;
    default:
        v.registers().vector = 0;
        if (outcome.single_step)
            report_single_step(v);
        if (outcome.halted && !v.upcall_pending()) {
            v.info->upcall_mask = 0;
            sleep_current();
        }
        return true;
    }
}

/// Linux reads the other base of GS whenever it switches processes: without the emulator.
[[gnu::noinline]] bool read_msr_plainly(PvVcpu& v, PrivilegedEnvironment& environment) {
    Registers& r = v.registers();
    if (code_size(r) != CodeSize::bits64 || (r.rflags & rflags::tf))
        return false;
    auto const value = environment.read_msr(static_cast<uint32_t>(r.rcx));
    if (!value)
        return false; // nothing has happened, and the emulator finds the same
    r.rax = static_cast<uint32_t>(*value);
    r.rdx = *value >> 32;
    constexpr uint64_t length = 2;
    finish_instruction(r, length);
    return true;
}
} // namespace

bool emulate_privileged(PvVcpu& v) {
    PrivilegedEnvironment environment{v};
    constexpr uint16_t rdmsr = 0x320f;
    uint64_t bytes;
    if (GuestPointer<uint64_t>{v.registers().rip}.read_to(bytes) &&
        static_cast<uint16_t>(bytes) == rdmsr && read_msr_plainly(v, environment))
        return true;
    return settle(v, emulate::run(v.registers(), code_size(v.registers()), environment,
                                  {.memory = false, .port = true, .privileged = true}));
}

namespace {
/// The common case, without the emulator: a whole entry stored by a plain instruction, and valid.
bool store_entry(PvVcpu& v, uint64_t address, Mfn table) {
    Registers& r = v.registers();
    uint64_t bytes;
    if (code_size(r) != CodeSize::bits64 || (r.rflags & rflags::tf) || address % sizeof(Pte) != 0 ||
        !GuestPointer<uint64_t>{r.rip}.read_to(bytes))
        return false;
    auto const store = emulate::plain_store(bytes, r);
    if (!store || store->address != address)
        return false;
    Pte* const slot = direct<Pte>(PhysicalAddress{address_of(table).raw() + (address & page_mask)});
    if (store->exchanged) {
        auto const former = exchange_entry(v.domain, slot, 1, {store->value});
        if (!former)
            return false;
        r.*store->exchanged = former->v;
    } else if (!update_leaf(v.domain, slot, {store->value}, EntryUpdate::replace, v.domain.id)) {
        return false;
    }
    finish_instruction(r, store->length);
    return true;
}
} // namespace

bool emulate_page_table_write(PvVcpu& v, uint64_t address) {
    auto const entry = peek_l1_entry(v.active_table(), address);
    if (!entry || !entry->present() || entry->writable() || !is_ram(entry->mfn()))
        return false;
    if (page_at(entry->mfn()).type_word().type() != PageType::l1)
        return false;
    auto const held = TypeRef::get(v.domain, entry->mfn(), PageType::l1);
    if (!held)
        return false;
    if (store_entry(v, address, held->mfn()))
        return true;
    TableEnvironment environment{v, address, held->mfn()};
    return settle(v, emulate::run(v.registers(), code_size(v.registers()), environment,
                                  {.memory = true, .port = false, .privileged = false}));
}

bool emulate_forced_cpuid(PvVcpu& v) {
    constexpr uint64_t length = 7, pattern = 0xa2'0f'6e'65'78'0b'0f; // "\x0f\x0bxen\x0f\xa2"
    Registers& r = v.registers();
    uint64_t bytes = 0;
    // The eighth byte may lie in a page that is not mapped.
    if (!GuestPointer<uint64_t>{r.rip}.read_to(bytes) &&
        !copy_from_guest(&bytes, GuestAddress{r.rip}, length))
        return false;
    if ((bytes & (bit(8 * length) - 1)) != pattern)
        return false;
    CpuidResult const result = pv_cpuid(static_cast<uint32_t>(r.rax), static_cast<uint32_t>(r.rcx),
                                        machine_cpuid(), policy_of(v));
    r.rax = result.eax;
    r.rbx = result.ebx;
    r.rcx = result.ecx;
    r.rdx = result.edx;
    r.rip += length;
    r.rflags &= ~rflags::rf;
    if (r.rflags & rflags::tf) [[unlikely]]
        report_single_step(current()); // `v`, which nobody has had to keep for this
    return true;
}

std::optional<uint8_t> software_interrupt_at(PvVcpu const& v) {
    uint8_t bytes[2];
    if (!copy_from_guest(bytes, GuestAddress{v.registers().rip}, sizeof bytes) || bytes[0] != 0xcd)
        return std::nullopt;
    return bytes[1];
}

uint64_t control_register_4(PvVcpu const& v) {
    using namespace arch::cr4;
    return v.cr4 | pae | mce | osfxsr | osxmmexcpt;
}

void store_control_register_4(PvVcpu& v, uint64_t value) {
    using namespace arch::cr4;
    FeatureInputs const inputs = policy_of(v).features;
    auto const sees = [&](FeatureWord word, unsigned feature) {
        return (pv_features(machine_cpuid(), inputs, word) & bit(feature)) != 0;
    };
    uint64_t own = tsd | de;
    if (sees(FeatureWord::leaf_7_ebx, 0))
        own |= fsgsbase;
    if (sees(FeatureWord::leaf_1_ecx, 26))
        own |= osxsave;
    v.cr4 = value & own;
}

Result<int64_t> do_fpu_taskswitch(Context& c, uint64_t set) {
    PvVcpu& v = pv_vcpu(c.vcpu);
    v.task_switched = set != 0;
    arch::set_task_switched(v.task_switched);
    return 0;
}

Result<> store_debug_register(PvVcpu& v, unsigned index, uint64_t value) {
    if (index < 4) {
        if (!layout::is_canonical(value) || layout::is_ours(value))
            return Errno::perm;
        v.debug[index] = value;
        return {};
    }
    if (value >> 32)
        return Errno::inval;
    if (index == 6) {
        v.debug[6] = (value & arch::dr6::conditions) | arch::dr6::none;
        return {};
    }
    // No general detect, and no I/O breakpoints: those would fire in Hearth. (Intel SDM vol. 3B,
    // 18.2.4)
    constexpr uint64_t general_detect = bit(13), enabled = 0xff;
    if (value & general_detect)
        return Errno::perm;
    for (unsigned i = 0; i < 4 && (value & enabled); ++i)
        if ((value >> (16 + 4 * i) & 3) == 2)
            return Errno::perm;
    v.debug[7] = (value & 0xffff03ff) | bit(10);
    return {};
}

/// 4 and 5 stand for 6 and 7, unless the kernel has them undefined. (Intel SDM vol. 3B, 18.2.2)
/// nodev: no such register.
Result<uint32_t> debug_register_meant(PvVcpu const& v, uint32_t index) {
    if (index >= 8)
        return Errno::nodev;
    if (index != 4 && index != 5)
        return index;
    if (v.cr4 & arch::cr4::de)
        return Errno::nodev;
    return index + 2;
}

Result<int64_t> do_set_debugreg(Context& c, uint32_t index, uint64_t value) {
    PvVcpu& v = pv_vcpu(c.vcpu);
    index = TRY(debug_register_meant(v, index));
    TRY(store_debug_register(v, index, value));
    if (index < 4 && (v.debug[7] & 0xff))
        arch::write_debug_address(index, value);
    if (index == 7) {
        for (unsigned i = 0; i < 4 && (v.debug[7] & 0xff); ++i)
            arch::write_debug_address(i, v.debug[i]);
        arch::write_dr7(v.debug[7]);
    }
    return 0;
}

Result<int64_t> do_get_debugreg(Context& c, uint32_t index) {
    PvVcpu const& v = pv_vcpu(c.vcpu);
    return static_cast<int64_t>(v.debug[TRY(debug_register_meant(v, index))]);
}

} // namespace hearth::pv
