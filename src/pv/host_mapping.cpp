#include "domain/host_mapping.h"

#include "pv/address_space.h"
#include "pv/contents.h"

#include "memory/direct_map.h"

namespace hearth {
namespace {

using namespace pv;

/// An entry by its own address. Nothing becomes a table by being named here.
Result<HeldEntry> entry_at(Domain& domain, uint64_t machine_address) {
    Mfn const table = frame_of(PhysicalAddress{machine_address});
    if (machine_address % sizeof(Pte) != 0)
        return Errno::inval;
    PageRef const page = TRY(PageRef::get(table, domain.id));
    TypeWord const word = page_at(table).type_word();
    if (word.count() == 0 || word.type() != PageType::l1)
        return Errno::inval;
    TypeRef held = TRY(TypeRef::get(domain, table, PageType::l1));
    return HeldEntry{std::move(held), direct<Pte>(PhysicalAddress{machine_address})};
}

Result<HeldEntry> find_entry(Vcpu& vcpu, EntryPlace where) {
    return where.is_entry ? entry_at(vcpu.domain, where.address)
                          : find_l1_entry(pv_vcpu(vcpu), where.address);
}

} // namespace

Result<> map_granted(Vcpu& vcpu, EntryPlace where, GrantedFrame const& frame, unsigned available) {
    auto const entry = TRY(find_entry(vcpu, where));
    uint64_t const flags = pte::present | pte::user | pte::accessed | pte::dirty |
                           (frame.writable ? pte::writable : 0) | uint64_t{available & 7} << 9;
    return update_entry(vcpu.domain, entry.slot, 1, Pte::make(frame.mfn, flags),
                        EntryUpdate::replace, frame.owner);
}

Result<> unmap_granted(Vcpu& vcpu, EntryPlace where, GrantedFrame const& frame) {
    auto const entry = TRY(find_entry(vcpu, where));
    return clear_mapping(vcpu.domain, entry.slot, frame.mfn, frame.writable);
}

Result<> replace_granted(Vcpu& vcpu, EntryPlace where, GrantedFrame const& frame, uint64_t from) {
    auto const entry = TRY(find_entry(vcpu, where));
    auto const source = TRY(find_l1_entry(pv_vcpu(vcpu), from));
    if (source.slot == entry.slot)
        return Errno::inval;
    return move_mapping(vcpu.domain, source.slot, entry.slot, frame.mfn, frame.writable);
}

} // namespace hearth
