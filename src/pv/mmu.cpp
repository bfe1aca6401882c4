#include "pv/mmu.h"

#include "arch/intrinsics.h"
#include "base/bits.h"
#include "domain/dirty_log.h"
#include "domain/guest_memory.h"
#include "memory/direct_map.h"
#include "memory/layout.h"
#include "memory/tlb.h"
#include "pv/address_space.h"
#include "pv/contents.h"
#include "pv/descriptor_tables.h"

#include <algorithm>
#include <optional>

namespace hearth::pv {
namespace {

using abi::MmuExtCommand;

/// Whom an operation is about. Oneself needs no reference.
struct Subject {
    DomainId id;
    Domain* domain; // null for a reserved owner, which is no domain
    std::optional<DomainRef> held;
};
/// srch: no such domain, or one's own by its number; perm.
Result<Subject> subject_named(Context const& c, uint32_t named) {
    auto const id = static_cast<DomainId>(named);
    if (id == domid_self)
        return Subject{c.domain.id, &c.domain, {}};
    if (id == c.domain.id)
        return Errno::srch;
    DomainRef found = TRY(target_domain(c, id));
    Domain* const domain = &*found;
    return Subject{id, domain, std::move(found)};
}
/// Whose tables are written to, which is said as one more than a number, one's own or another's.
Result<Subject> tables_owner_named(Context const& c, uint32_t one_more) {
    if (one_more == 0 || one_more - 1 == c.domain.id)
        return subject_named(c, domid_self);
    return one_more - 1 == domid_self ? Errno::srch : subject_named(c, one_more - 1);
}
/// Whose frames an update may map: there are reserved owners, too.
Result<Subject> frame_owner_named(Context const& c, uint32_t named) {
    auto const id = static_cast<DomainId>(named);
    if (id != domid_io && id != domid_xen)
        return subject_named(c, named);
    if (id == domid_xen && !c.domain.privileged)
        return Errno::perm;
    return Subject{id, nullptr, {}};
}

/// The frame that a request writes to, held on to while the next ones write to the same.
class TargetFrame {
    Domain& owner_;
    Mfn mfn_ = invalid_mfn;
    PageType type_ = PageType::none;

    Result<> hold(Mfn mfn) {
        let_go();
        Page* const page = find_page(mfn);
        if (!page)
            return Errno::inval;
        TypeWord const word = page->type_word();
        PageType const type = word.count() ? word.type() : PageType::writable;
        if (type != PageType::writable && !is_page_table(type))
            return Errno::inval;
        TRY(get_page_and_type(owner_, *page, mfn, type));
        mfn_ = mfn;
        type_ = type;
        return {};
    }
    void let_go() {
        if (mfn_ != invalid_mfn)
            put_page_and_type(owner_, std::exchange(mfn_, invalid_mfn));
    }

public:
    explicit TargetFrame(Domain& owner) : owner_{owner} {}
    TargetFrame(TargetFrame const&) = delete;
    TargetFrame& operator=(TargetFrame const&) = delete;
    ~TargetFrame() { let_go(); }

    /// Through validation where the frame is a table, plain where it is not.
    Result<> write(uint64_t machine_address, uint64_t value, EntryUpdate how, DomainId frames_of) {
        Mfn const mfn = frame_of(PhysicalAddress{machine_address});
        if (mfn != mfn_)
            TRY(hold(mfn));
        Pte* const slot = direct<Pte>(PhysicalAddress{machine_address});
        if (type_ == PageType::l1)
            return update_leaf(owner_, slot, {value}, how, frames_of);
        if (is_page_table(type_))
            return update_entry(owner_, slot, level_of(type_), {value}, how, frames_of);
        __atomic_store_n(&slot->v, value, __ATOMIC_RELAXED);
        note_written(owner_, mfn);
        return {};
    }
};

/// Whose frames are mapped, and whose tables are written.
struct UpdateSubjects {
    DomainId frames_of;
    Domain* frames_owner; // null for a reserved owner
    Domain& tables_of;
};

Result<> set_owners_m2p(UpdateSubjects const& who, Mfn mfn, uint64_t value) {
    PageRef const page = TRY(PageRef::get(mfn, who.frames_of));
    set_m2p(mfn, value);
    if (who.frames_owner)
        note_written(*who.frames_owner, mfn); // another frame of the guest's is what it was
    return {};
}

Result<> one_mmu_update(UpdateSubjects const& who, TargetFrame& target,
                        abi::MmuUpdate const& request) {
    constexpr uint64_t commands = sizeof(Pte) - 1;
    uint64_t const where = request.pointer & ~commands;
    uint64_t const command = request.pointer & commands;
    if (command == abi::mmu_machphys_update) [[unlikely]]
        return set_owners_m2p(who, frame_of(PhysicalAddress{where}), request.value);
    if (command > abi::mmu_pt_update_no_translate) [[unlikely]]
        return Errno::nosys;
    // Entries name machine frames anyway, so that there is nothing to translate.
    EntryUpdate const how = command == abi::mmu_pt_update_preserve_ad
                                ? EntryUpdate::preserve_accessed_dirty
                                : EntryUpdate::replace;
    return target.write(where, request.value, how, who.frames_of);
}

/// Reports how many requests were carried out, where the guest wants to know and can be told.
Result<int64_t> report(uint64_t done, uint32_t count, Result<> result) {
    if (done != 0)
        (void)GuestPointer<uint32_t>{done}.write(count);
    if (!result)
        return result.error();
    return 0;
}

/// Where it is, and where it was last and may come back to without loading them anew.
CpuMask cpus_with_translations(PvVcpu const& v) {
    int const last = v.loaded_on;
    CpuMask const here = CpuMask::of(v.cpu());
    return last < 0 ? here : here | CpuMask::of(static_cast<unsigned>(last));
}

/// The CPUs that may hold translations for the vCPUs of a guest's bitmap.
Result<CpuMask> cpus_of_vcpus(Context const& c, uint64_t bitmap) {
    uint64_t const bytes = (c.domain.vcpu_count + 7) / 8;
    uint8_t map[max_domain_vcpus / 8]{};
    TRY((GuestPointer<uint8_t>{bitmap}.read_many({map, bytes})));
    CpuMask cpus;
    for (unsigned v = 0; v < c.domain.vcpu_count; ++v)
        if (map[v / 8] >> (v % 8) & 1)
            cpus = cpus | cpus_with_translations(pv_vcpu(*c.domain.vcpus[v]));
    return cpus & c.domain.dirty();
}

/// inval, also where the bitmap cannot be read.
Result<CpuMask> cpus_named(Context const& c, abi::MmuExtOp const& op) {
    auto const cpus = cpus_of_vcpus(c, op.argument2);
    return cpus ? cpus : Errno::inval;
}

Result<> clear_or_copy(Domain& subject, abi::MmuExtOp const& op) {
    TypeRef const target = TRY(TypeRef::get(subject, Mfn{op.argument1}, PageType::writable));
    if (static_cast<MmuExtCommand>(op.command) == MmuExtCommand::clear_page) {
        zero_page(target.mfn());
    } else {
        PageRef const source = TRY(PageRef::get(Mfn{op.argument2}, subject.id));
        arch::copy_quads(direct<void>(target.mfn()), direct<void>(source.mfn()), page_size / 8);
    }
    note_written(subject, target.mfn());
    return {};
}

Result<> flush_operation(Context& c, abi::MmuExtOp const& op) {
    uint64_t const address = op.argument1;
    bool const address_ok = layout::is_canonical(address) && !layout::is_ours(address);
    switch (static_cast<MmuExtCommand>(op.command)) {
    case MmuExtCommand::tlb_flush_local:
        flush_local_tlb();
        return {};
    case MmuExtCommand::invlpg_local:
        if (address_ok)
            flush_local_page(address);
        return {};
    case MmuExtCommand::tlb_flush_all:
        flush_tlb(c.domain.dirty());
        return {};
    case MmuExtCommand::invlpg_all:
        if (address_ok)
            flush_tlb_page(c.domain.dirty(), address);
        return {};
    case MmuExtCommand::tlb_flush_multi:
        flush_tlb(TRY(cpus_named(c, op)));
        return {};
    case MmuExtCommand::invlpg_multi: {
        CpuMask const cpus = TRY(cpus_named(c, op));
        if (address_ok)
            flush_tlb_page(cpus, address);
        return {};
    }
    default:
        return Errno::nosys;
    }
}

/// What one may do to another domain, too.
Result<> memory_operation(Domain& subject, abi::MmuExtOp const& op) {
    switch (static_cast<MmuExtCommand>(op.command)) {
    case MmuExtCommand::pin_l1_table:
    case MmuExtCommand::pin_l2_table:
    case MmuExtCommand::pin_l3_table:
    case MmuExtCommand::pin_l4_table:
        return pin(subject, Mfn{op.argument1}, table_type(op.command + 1));
    case MmuExtCommand::unpin_table:
        return unpin(subject, Mfn{op.argument1});
    default:
        return clear_or_copy(subject, op);
    }
}

Result<> one_mmuext_op(Context& c, Domain& subject, abi::MmuExtOp const& op) {
    PvVcpu& vcpu = pv_vcpu(c.vcpu);
    auto const command = static_cast<MmuExtCommand>(op.command);
    if (command <= MmuExtCommand::unpin_table || command == MmuExtCommand::clear_page ||
        command == MmuExtCommand::copy_page)
        return memory_operation(subject, op);
    if (&subject != &c.domain)
        return Errno::perm;
    switch (command) {
    case MmuExtCommand::new_baseptr:
        return set_kernel_table(vcpu, Mfn{op.argument1});
    case MmuExtCommand::new_user_baseptr:
        return set_user_table(vcpu, Mfn{op.argument1});
    case MmuExtCommand::set_ldt:
        return set_ldt(vcpu, op.argument1, static_cast<uint32_t>(op.argument2));
    case MmuExtCommand::flush_cache:
    case MmuExtCommand::flush_cache_global:
        if (!c.domain.hardware)
            return Errno::access;
        arch::write_back_and_invalidate_caches();
        return {};
    case MmuExtCommand::mark_super:
    case MmuExtCommand::unmark_super:
        return Errno::opnotsupp;
    default:
        return flush_operation(c, op);
    }
}

[[gnu::noinline]] Result<int64_t> flush_as_asked(Context& c, uint64_t address, uint64_t flags) {
    uint64_t const where = flags & ~abi::uvmf_flush_mask; // a vCPU bitmap, or a number
    bool const page_only = (flags & abi::uvmf_flush_mask) == abi::uvmf_invlpg;
    if ((flags & abi::uvmf_flush_mask) == abi::uvmf_none)
        return 0;
    CpuMask cpus = CpuMask::of(c.vcpu.cpu());
    if (where == abi::uvmf_all)
        cpus = c.domain.dirty();
    else if (where != 0)
        cpus = TRY(cpus_of_vcpus(c, where));
    if (page_only)
        flush_tlb_page(cpus, address);
    else
        flush_tlb(cpus);
    return 0;
}

[[gnu::always_inline]] inline Result<int64_t> map_at(Context& c, uint64_t address, uint64_t value,
                                                     uint64_t flags, DomainId frames_of) {
    {
        auto entry = find_l1_entry(pv_vcpu(c.vcpu), address);
        if (!entry)
            return Errno::inval;
        TRY(update_leaf(c.domain, entry->slot, {value}, EntryUpdate::replace, frames_of));
    }
    if (flags != abi::uvmf_invlpg)
        return flush_as_asked(c, address, flags);
    flush_local_page(address); // what Linux asks for: just here
    return 0;
}

} // namespace

namespace {
Result<int64_t> update_all(Context const& c, UpdateSubjects const& who, uint64_t requests,
                           uint32_t count, uint64_t done) {
    TargetFrame target{who.tables_of};
    GuestPointer<abi::MmuUpdate> const list{requests};
    for (uint32_t i = 0; i < count; ++i) {
        abi::MmuUpdate request;
        Result<> result = list.read_to(request, i);
        if (result)
            result = one_mmu_update(who, target, request);
        if (!result)
            return report(done, i, result);
        if (!goes_on_after(c, 32, i))
            break;
    }
    return report(done, count, {});
}
} // namespace

namespace {
[[gnu::noinline]] Result<int64_t> update_foreign(Context& c, uint64_t requests, uint32_t count,
                                                 uint64_t done, uint32_t foreign) {
    // The halves name the owner of the frames that are mapped, and, one more than its number, that
    // of the tables.
    Subject const frames = TRY(frame_owner_named(c, foreign & 0xffff));
    Subject const tables = TRY(tables_owner_named(c, foreign >> 16));
    return update_all(c, {frames.id, frames.domain, *tables.domain}, requests, count, done);
}
} // namespace

Result<int64_t> do_mmu_update(Context& c, uint64_t requests, uint32_t count, uint64_t done,
                              uint32_t foreign) {
    if (foreign != domid_self) [[unlikely]]
        return update_foreign(c, requests, count, done, foreign);
    return update_all(c, {c.domain.id, &c.domain, c.domain}, requests, count, done);
}

namespace {
Result<int64_t> operate_on_all(Context& c, Domain& subject, uint64_t operations, uint32_t count,
                               uint64_t done) {
    GuestPointer<abi::MmuExtOp> const list{operations};
    for (uint32_t i = 0; i < count; ++i) {
        abi::MmuExtOp op;
        Result<> result = list.read_to(op, i);
        if (result)
            result = one_mmuext_op(c, subject, op);
        if (!result)
            return report(done, i, result);
        if (!goes_on_after(c, 1, i))
            break;
    }
    return report(done, count, {});
}
} // namespace

namespace {
[[gnu::noinline]] Result<int64_t> operate_on_foreign(Context& c, uint64_t operations,
                                                     uint32_t count, uint64_t done,
                                                     uint32_t foreign) {
    Subject const subject = TRY(subject_named(c, foreign));
    return operate_on_all(c, *subject.domain, operations, count, done);
}
} // namespace

Result<int64_t> do_mmuext_op(Context& c, uint64_t operations, uint32_t count, uint64_t done,
                             uint32_t foreign) {
    if (foreign != domid_self) [[unlikely]]
        return operate_on_foreign(c, operations, count, done, foreign);
    return operate_on_all(c, c.domain, operations, count, done);
}

Result<int64_t> do_update_va_mapping(Context& c, uint64_t address, uint64_t value, uint64_t flags) {
    return map_at(c, address, value, flags, c.domain.id);
}

Result<int64_t> do_update_va_mapping_otherdomain(Context& c, uint64_t address, uint64_t value,
                                                 uint64_t flags, uint32_t foreign) {
    Subject const frames = TRY(frame_owner_named(c, foreign));
    if (frames.id == domid_io && !c.domain.privileged)
        return Errno::perm;
    return map_at(c, address, value, flags, frames.id);
}

} // namespace hearth::pv
