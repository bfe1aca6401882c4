#include "abi/physdev.h"
#include "console/log.h"
#include "control/control.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "domain/guest_page.h"
#include "event/event.h"
#include "irq/irq.h"
#include "memory/direct_map.h"

namespace hearth {
namespace {

/// What stands behind each physical interrupt of the hardware domain: an interrupt of the machine,
/// and its event port.
struct Pirq {
    bool mapped = false;
    uint16_t irq = 0;
    DomainId user = domid_invalid; // whose port it is
    std::atomic<uint32_t> port{0};
};
/// All of the machine's. The hardware domain maps them; whom it permits may bind them in its place.
struct Pirqs {
    Pirq entries[irq_limit];
    uint8_t* eoi_map = nullptr; // bit for each that needs an end; shared with the guest
};
constinit Pirqs pirqs;
constinit SpinLock<Rank::domain> pirqs_lock;

void raise(void* domain, unsigned irq) {
    // Message interrupts have the number of their pirq; lines too.
    if (uint32_t const port = pirqs.entries[irq].port.load(std::memory_order_acquire))
        send_event(*static_cast<Domain*>(domain), port);
}

Pirq* mapped(uint32_t pirq) {
    return pirq < irq_limit && pirqs.entries[pirq].mapped ? &pirqs.entries[pirq] : nullptr;
}

void publish_eoi(uint32_t pirq) {
    if (!pirqs.eoi_map)
        return;
    auto const bit = static_cast<uint8_t>(1u << (pirq % 8));
    if (irq_needs_end(pirq))
        __atomic_fetch_or(&pirqs.eoi_map[pirq / 8], bit, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(&pirqs.eoi_map[pirq / 8], static_cast<uint8_t>(~bit), __ATOMIC_RELAXED);
}

Result<> map(uint32_t pirq) {
    if (pirq >= irq_limit)
        return Errno::inval;
    pirqs.entries[pirq].mapped = true;
    pirqs.entries[pirq].irq = static_cast<uint16_t>(pirq);
    publish_eoi(pirq);
    return {};
}

Result<> map_pirq(abi::MapPirq& request) {
    LockGuard guard{pirqs_lock};
    auto const bus = static_cast<uint8_t>(request.bus);
    auto const devfn = static_cast<uint8_t>(request.devfn);
    switch (static_cast<abi::MapPirqType>(request.type)) {
    case abi::MapPirqType::gsi:
        if (request.index < 0 || static_cast<unsigned>(request.index) >= gsi_limit())
            return Errno::inval;
        TRY(map(static_cast<uint32_t>(request.index)));
        request.pirq = request.index;
        return {};
    case abi::MapPirqType::msi:
    case abi::MapPirqType::msi_segment:
    case abi::MapPirqType::multi_msi: {
        bool const many =
            static_cast<abi::MapPirqType>(request.type) == abi::MapPirqType::multi_msi;
        if (request.bus != bus || request.devfn != devfn) // segment 0 alone
            return Errno::inval;
        if (request.entry < 0 || request.entry > 2048)
            return Errno::inval;
        unsigned const count = many ? static_cast<unsigned>(request.entry) : 1;
        if (count == 0 || count > 32)
            return Errno::inval;
        bool const extended = request.table_base != 0 && !many;
        MessageSource const source{bus, devfn, extended,
                                   extended ? static_cast<uint16_t>(request.entry) : uint16_t{0}};
        unsigned const first = TRY(irq_allocate_message(source, count));
        for (unsigned i = 0; i < count; ++i)
            TRY(map(first + i));
        request.pirq = static_cast<int32_t>(first);
        return {};
    }
    default:
        return Errno::inval;
    }
}

Result<> unmap_pirq(int32_t number) {
    LockGuard guard{pirqs_lock};
    if (number < 0 || !mapped(static_cast<uint32_t>(number)))
        return Errno::inval;
    // A kernel gives back the first of several messages only.
    auto const first = static_cast<uint32_t>(number), end = first + irq_messages_from(first);
    for (uint32_t i = first; i < end; ++i)
        if (Pirq const* const pirq = mapped(i); pirq && pirq->port.load())
            return Errno::busy;
    for (uint32_t i = first; i < end; ++i)
        if (Pirq* const pirq = mapped(i)) {
            irq_free_message(pirq->irq);
            pirq->mapped = false;
        }
    return {};
}

/// Reads an argument, runs `function` on it, and writes it back.
template <class T, class Function>
Result<int64_t> updating(uint64_t argument, Function&& function) {
    GuestPointer<T> const pointer{argument};
    T request = TRY(pointer.read());
    TRY(function(request));
    TRY(pointer.write(request));
    return 0;
}

Result<> set_eoi_map(Context& c, uint64_t frame) {
    if (!c.domain.hardware)
        return Errno::perm;
    Mfn const page = TRY(hold_writable_page(c.domain, frame));
    LockGuard guard{pirqs_lock};
    if (pirqs.eoi_map) {
        release_writable_page(c.domain, page);
        return Errno::busy;
    }
    pirqs.eoi_map = direct<uint8_t>(page);
    for (uint32_t i = 0; i < irq_limit; ++i)
        if (pirqs.entries[i].mapped)
            publish_eoi(i);
    return {};
}

Result<> io_privilege(Context& c, uint32_t iopl) {
    if (iopl > 3)
        return Errno::inval;
    set_io_privilege(c.vcpu, static_cast<uint8_t>(iopl));
    return {};
}

Result<int64_t> hardware_operation(Context& c, abi::PhysdevOperation operation, uint64_t argument) {
    using abi::PhysdevOperation;
    switch (operation) {
    case PhysdevOperation::apic_read:
        return updating<abi::PhysdevApic>(argument, [](abi::PhysdevApic& r) -> Result<> {
            r.value = TRY(io_apic_read_for_guest(r.base, r.reg));
            return {};
        });
    case PhysdevOperation::apic_write: // Hearth programs the IO-APICs itself
        return Errno::perm;
    case PhysdevOperation::alloc_irq_vector:
        return updating<abi::PhysdevIrq>(argument, [](abi::PhysdevIrq& r) -> Result<> {
            if (r.irq >= gsi_limit())
                return Errno::inval;
            r.vector = r.irq;
            LockGuard guard{pirqs_lock};
            return map(r.irq);
        });
    case PhysdevOperation::map_pirq:
        return updating<abi::MapPirq>(argument, [&](abi::MapPirq& r) -> Result<> {
            DomainRef const d = TRY(target_domain(c, r.domain));
            // A line that another may bind has the same number there; messages are one's own.
            if (&*d != &c.domain && static_cast<abi::MapPirqType>(r.type) != abi::MapPirqType::gsi)
                return Errno::nosys;
            return map_pirq(r);
        });
    case PhysdevOperation::unmap_pirq: {
        auto const r = TRY(GuestPointer<abi::UnmapPirq>{argument}.read());
        TRY(unmap_pirq(r.pirq));
        return 0;
    }
    case PhysdevOperation::setup_gsi: {
        auto const r = TRY(GuestPointer<abi::SetupGsi>{argument}.read());
        if (r.gsi < 0)
            return Errno::inval;
        auto const gsi = static_cast<unsigned>(r.gsi);
        TRY(irq_set_line_mode(gsi, {.level = r.triggering != 0, .active_low = r.polarity != 0}));
        LockGuard guard{pirqs_lock};
        if (mapped(gsi)) // Linux maps first
            publish_eoi(gsi);
        return 0;
    }
    case PhysdevOperation::pci_mmcfg_reserved:
        TRY(GuestPointer<abi::PciMmcfgReserved>{argument}.read());
        return 0; // Hearth reaches configuration space by ports
    case PhysdevOperation::pci_device_add:
    case PhysdevOperation::pci_device_remove:
        // Read for its address; devices are kept track of when there is an IOMMU to isolate them.
        TRY(GuestPointer<abi::PciDevice>{argument}.read());
        return 0;
    case PhysdevOperation::restore_msi: {
        auto const r = TRY(GuestPointer<abi::RestoreMsi>{argument}.read());
        irq_restore_messages(r.bus, r.devfn);
        return 0;
    }
    case PhysdevOperation::restore_msi_ext: {
        auto const r = TRY(GuestPointer<abi::PciDevice>{argument}.read());
        if (r.segment != 0)
            return Errno::inval;
        irq_restore_messages(r.bus, r.devfn);
        return 0;
    }
    case PhysdevOperation::prepare_msix:
    case PhysdevOperation::release_msix:
        TRY(GuestPointer<abi::PciDevice>{argument}.read());
        return 0;
    default:
        return Errno::nosys;
    }
}

} // namespace

Result<int64_t> do_physdev_op(Context& c, uint32_t command, uint64_t argument) {
    using abi::PhysdevOperation;
    switch (static_cast<PhysdevOperation>(command)) {
    case PhysdevOperation::eoi: {
        auto const r = TRY(GuestPointer<abi::PhysdevEoi>{argument}.read());
        Pirq const* const pirq = mapped(r.irq);
        if (!pirq || (!c.domain.hardware && pirq->user != c.domain.id))
            return Errno::inval;
        irq_end(pirqs.entries[r.irq].irq);
        return 0;
    }
    case PhysdevOperation::irq_status_query:
        return updating<abi::IrqStatusQuery>(argument, [&](abi::IrqStatusQuery& r) -> Result<> {
            if (r.irq >= irq_limit)
                return Errno::inval;
            r.flags = irq_needs_end(r.irq) ? abi::irq_needs_eoi | abi::irq_shared : 0;
            return {};
        });
    case PhysdevOperation::pirq_eoi_gmfn_v2: {
        auto const r = TRY(GuestPointer<abi::PirqEoiGmfn>{argument}.read());
        TRY(set_eoi_map(c, r.gmfn));
        return 0;
    }
    case PhysdevOperation::set_iopl: {
        auto const r = TRY(GuestPointer<abi::SetIopl>{argument}.read());
        TRY(io_privilege(c, r.iopl));
        return 0;
    }
    case PhysdevOperation::set_iobitmap: {
        auto const r = TRY(GuestPointer<abi::SetIobitmap>{argument}.read());
        if (r.port_count > 65536)
            return Errno::inval;
        set_io_bitmap(c.vcpu, r.bitmap, r.port_count);
        return 0;
    }
    default:
        if (!c.domain.hardware)
            return Errno::perm;
        return hardware_operation(c, static_cast<PhysdevOperation>(command), argument);
    }
}

Result<> permit_mapped_pirq(Domain& domain, uint32_t pirq, bool allow) {
    if (pirq >= gsi_limit()) // a message's number goes from one device to another
        return Errno::inval;
    LockGuard guard{pirqs_lock};
    if (!mapped(pirq))
        return Errno::perm;
    return permit_pirq(domain, pirq, allow);
}

Result<> pirq_bound(Domain& domain, uint32_t number, uint32_t port, bool) {
    if (!may_use_pirq(domain, number))
        return Errno::perm;
    LockGuard guard{pirqs_lock};
    if (number >= irq_limit)
        return Errno::inval;
    if (!mapped(number)) { // old kernels bind lines without mapping them
        if (!domain.hardware)
            return Errno::inval;
        TRY(map(number));
    }
    Pirq& pirq = pirqs.entries[number];
    if (pirq.port.load())
        return Errno::exist;
    pirq.user = domain.id;
    pirq.port.store(port, std::memory_order_release);
    if (auto bound = irq_bind(pirq.irq, raise, &domain); !bound) {
        pirq.port.store(0);
        return bound;
    }
    return {};
}

void pirq_unbound(Domain&, uint32_t number) {
    LockGuard guard{pirqs_lock};
    Pirq* const pirq = mapped(number);
    if (!pirq)
        return;
    irq_unbind(pirq->irq);
    pirq->port.store(0);
    pirq->user = domid_invalid;
}

} // namespace hearth
