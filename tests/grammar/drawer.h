// Draws hypercalls from the grammar: mostly what may work, now and then what nearly would, seldom
// anything at all.
//
// The World is whoever calls: it says which numbers mean something to it, and has memory for
// arguments. This is all that the fuzzers' forms have in common, so nothing here needs more than
// the ABI.
#pragma once

#include "choices.h"
#include "operations.h"

#include <iterator>

namespace hearth::grammar {

struct Call {
    Operation const* operation;
    uint64_t number;
    uint64_t arguments[6];
};

// Where in a caller's memory arguments lie: a slot for each call of a list, its first half the
// structures, the other what they point to; and a place for what is too large for that.
inline constexpr unsigned slots = 8, slot_size = 0x400, lists_at = 0x280, list_size = 0x80;
inline constexpr unsigned large_at = slots * slot_size, argument_size = 0x4000;

inline constexpr unsigned frame_count = 48;
/// What the frames of a world are meant for: tables of each level, descriptors, data.
inline constexpr unsigned class_start[] = {26, 0, 12, 18, 22, 26, 30, frame_count};

/// The byte by which secrets are known is not among what a guest makes up.
constexpr uint64_t clean(uint64_t n) {
    for (unsigned shift = 0; shift < 64; shift += 8)
        if ((n >> shift & 0xff) == 0xaa)
            n ^= uint64_t{1} << shift;
    return n;
}

template <class World>
class Drawer {
    Choices& in_;
    World& world_;
    unsigned slot_ = 0, lists_ = 0;
    uint64_t count_ = 1;

    static constexpr uint64_t strange[] = {0,
                                           1,
                                           7,
                                           0xfff,
                                           0x1000,
                                           0x7ff1,
                                           0x7ff2,
                                           0x7ff4,
                                           0x7fffffff,
                                           0x80000000,
                                           0xffffffff,
                                           0x1'0000'0000,
                                           0x00007ffffffffff8,
                                           0x0000800000000000,
                                           0x7fffffffffffffff,
                                           0x8000000000000000,
                                           0xffff800000000000,
                                           0xffff828000200000,
                                           0xffff87fffffffff8,
                                           ~uint64_t{0} - 0xfff,
                                           ~uint64_t{0}};

    uint64_t below(uint64_t n) { return in_.below(n); }
    uint64_t wild() {
        return below(4) ? strange[below(std::size(strange))]
                        : in_.number(8) | uint64_t{1} << 62 | uint64_t{1} << 45;
    }
    void put(unsigned offset, uint64_t value, unsigned size) {
        world_.put(offset, clean(value), size);
    }
    uint64_t address_in(unsigned offset) { return world_.arguments() + slot_ * slot_size + offset; }

    uint64_t frame_of_class(unsigned c) {
        return world_.frame(class_start[c] +
                            static_cast<unsigned>(below(class_start[c + 1] - class_start[c])));
    }
    uint64_t any_frame() {
        return below(12) ? world_.frame(static_cast<unsigned>(below(frame_count)))
                         : world_.other_frame(static_cast<unsigned>(below(16)));
    }
    uint64_t table(unsigned level) {
        return below(8) && level ? frame_of_class(level) : any_frame();
    }
    uint64_t entry(unsigned level) {
        if (level == 5) // a descriptor
            return below(2) ? 0x00affb000000ffff : in_.number(8);
        if (below(5) == 0)
            return below(2) ? 0 : in_.number(8) & ~uint64_t{1};
        uint64_t flags = 5 | (below(2) ? 2 : 0) | (below(4) ? 0 : 0x60);
        if (below(30) == 0)
            flags ^= uint64_t{1} << below(12);
        if (below(60) == 0)
            flags |= uint64_t{1} << (52 + below(12));
        uint64_t const mfn = level > 1  ? table(level - 1)
                             : below(3) ? frame_of_class(6)
                                        : any_frame();
        return mfn << 12 | flags;
    }
    uint64_t place(unsigned level) {
        // The last ones are the hypervisor's or next to what is.
        constexpr unsigned indexes[] = {0, 1, 2, 3, 4, 5, 254, 255, 256, 271, 272, 510};
        return (table(level) << 12) + indexes[below(std::size(indexes))] * 8;
    }
    uint64_t page() { return world_.page(static_cast<unsigned>(below(16))); }
    uint64_t word() {
        constexpr unsigned offsets[] = {0, 8, 0x100, 0x800, 0xfd0, 0xff8, 0xffc, 0xfff};
        return page() + offsets[below(std::size(offsets))];
    }
    uint64_t list(uint64_t of) {
        auto const kind = static_cast<Kind>(of & 0xff);
        auto const size = static_cast<unsigned>(of >> 8 & 0xff);
        unsigned const at = lists_at + lists_++ % 3 * list_size;
        unsigned const elements = size >= 4 ? 8 : 4;
        for (unsigned i = 0; i < elements; ++i)
            put(slot_ * slot_size + at + i * size, value(kind, of >> 16), size);
        return address_in(at);
    }
    /// A vCPU's state, as far as it matters who reads it.
    uint64_t context() {
        using C = abi::VcpuGuestContext;
        auto const at = [&](size_t offset, Kind kind, uint64_t more = 0) {
            put(large_at + static_cast<unsigned>(offset), draw_value(kind, more), 8);
        };
        at(offsetof(C, flags), Kind::flags, 0x3d);
        at(offsetof(C, registers.rip), Kind::handler);
        at(offsetof(C, registers.rflags), Kind::flags, 0x3000 | 0x202);
        at(offsetof(C, registers.rsp), Kind::word);
        at(offsetof(C, gdt_frames), Kind::descriptors);
        at(offsetof(C, gdt_entries), Kind::number, 513);
        at(offsetof(C, ldt_base), Kind::page);
        at(offsetof(C, ldt_entries), Kind::number, 600);
        at(offsetof(C, kernel_sp), Kind::word);
        at(offsetof(C, control) + 24, Kind::place, 4);
        at(offsetof(C, control) + 8, Kind::constant, below(4) ? 0 : place(4));
        at(offsetof(C, event_callback), Kind::handler);
        at(offsetof(C, failsafe_callback), Kind::handler);
        at(offsetof(C, syscall_callback), Kind::handler);
        at(offsetof(C, fs_base), Kind::word);
        at(offsetof(C, debug) + 56, Kind::number, 0x400);
        return world_.arguments() + large_at;
    }
    uint64_t draw_value(Kind kind, uint64_t more) {
        switch (kind) {
        case Kind::constant:
            return more;
        case Kind::number:
            return below(more);
        case Kind::flags:
            return in_.number(8) & more;
        case Kind::anything:
            return in_.number(8);
        case Kind::count:
            return count_ = 1 + below(4);
        case Kind::domain:
            return world_.domain(static_cast<unsigned>(below(8)));
        case Kind::made_domain:
            return world_.made_domain(static_cast<unsigned>(below(4)));
        case Kind::vcpu:
            return below(world_.vcpus());
        case Kind::other_vcpu:
            return 1 + below(world_.vcpus());
        case Kind::port:
            return world_.port(static_cast<unsigned>(below(20)));
        case Kind::reference:
            return below(3) ? 8 + below(8) : below(530);
        case Kind::handle:
            return below(3) ? below(4) : below(12);
        case Kind::frame:
            return any_frame();
        case Kind::own_frame:
            return world_.frame(static_cast<unsigned>(below(frame_count)));
        case Kind::block:
            return world_.frame(static_cast<unsigned>(class_start[6] + 2 + below(4) * 4));
        case Kind::table:
            return table(static_cast<unsigned>(more));
        case Kind::root:
            return world_.root(static_cast<unsigned>(below(4)));
        case Kind::descriptors:
            return below(4) ? frame_of_class(5) : any_frame();
        case Kind::entry:
            return entry(static_cast<unsigned>(more));
        case Kind::place:
            return place(static_cast<unsigned>(more));
        case Kind::page:
            return page();
        case Kind::window:
            return world_.page(8 + static_cast<unsigned>(below(4)));
        case Kind::word:
            return word();
        case Kind::handler:
            return world_.handler();
        case Kind::order: {
            constexpr unsigned orders[] = {0, 0, 0, 0, 0, 1, 2, 19, 64};
            return orders[below(std::size(orders))];
        }
        case Kind::deadline:
            return world_.now() + below(200'000);
        case Kind::cpu:
            return below(5);
        case Kind::list:
            return list(more);
        case Kind::context:
            return context();
        case Kind::keys:
            return world_.keys();
        }
        return 0;
    }
    /// Such as must not be spoiled, for the caller's own sake.
    static bool is_strict(Kind kind) {
        return kind == Kind::made_domain || kind == Kind::keys || kind == Kind::deadline ||
               kind == Kind::root || kind == Kind::other_vcpu || kind == Kind::own_frame ||
               kind == Kind::block || kind == Kind::order;
    }
    static bool is_frame(Kind kind) {
        return kind == Kind::frame || kind == Kind::table || kind == Kind::descriptors;
    }
    static bool is_address(Kind kind) {
        return kind == Kind::page || kind == Kind::window || kind == Kind::word ||
               kind == Kind::list || kind == Kind::context;
    }
    uint64_t spoilt(Kind kind, uint64_t right) {
        if (is_address(kind))
            return word();
        if (kind == Kind::handler || is_frame(kind))
            return uint64_t{1} << (40 + below(23)) | right;
        switch (below(4)) {
        case 0:
            return right + 1;
        case 1:
            return right - 1;
        case 2:
            return right ^ uint64_t { 1 } << below(64);
        default:
            return right | 0xffffffff00000000;
        }
    }
    uint64_t value(Kind kind, uint64_t more) {
        uint64_t drawn = nearly_right(kind, more);
        while (kind == Kind::domain && world_.is_untouchable(drawn))
            drawn = nearly_right(kind, more);
        return drawn;
    }
    uint64_t nearly_right(Kind kind, uint64_t more) {
        if (is_strict(kind))
            return draw_value(kind, more);
        uint64_t const dice = below(kind == Kind::constant ? 128 : 48);
        if (dice == 0 && kind == Kind::handler)
            return 0x0000800000000000 << below(8);
        if (dice == 0 && kind == Kind::entry)
            return spoilt(kind, draw_value(kind, more));
        if (dice == 0 && kind == Kind::place)
            return draw_value(kind, more) + below(8);
        if (dice == 0)
            return wild();
        uint64_t const right = draw_value(kind, more);
        return dice == 1 && kind != Kind::place && kind != Kind::entry ? spoilt(kind, right)
                                                                       : right;
    }

    void put_fields(Operation const& operation, unsigned at) {
        for (Field const& f : operation.fields)
            put(slot_ * slot_size + at + f.offset, value(f.kind, f.more), f.size);
    }
    /// A header of the control interfaces, then the fields.
    void put_control(Operation const& operation, uint32_t version, unsigned body_at) {
        unsigned const at = slot_ * slot_size;
        put(at, value(Kind::constant, operation.command), 4);
        put(at + 4, value(Kind::constant, version), 4);
        if (body_at == 16)
            put(at + 8, value(operation.domain, 0), 2);
        put_fields(operation, body_at);
    }
    /// Where the structures are, as a rule.
    uint64_t structure() {
        if (below(48) != 0)
            return address_in(0);
        return below(2) ? word() : strange[below(std::size(strange))];
    }

    uint64_t foreign() { return below(8) ? 0x7ff0 : value(Kind::domain, 0); }
    /// A list for mmuext_op: one element is given, others come by.
    void put_mmuext(Operation const& first, uint64_t count) {
        Operation const* operation = &first;
        for (uint64_t i = 0; i < count; ++i) {
            unsigned const at = static_cast<unsigned>(i) * sizeof(abi::MmuExtOp);
            put(slot_ * slot_size + at, value(Kind::constant, operation->command), 4);
            put_fields(*operation, at);
            do
                operation = pick(guest_operations);
            while (operation->shape != Shape::mmuext);
        }
    }
    void put_updates(uint64_t count) {
        for (uint64_t i = 0; i < count; ++i) {
            auto const level = 1 + static_cast<unsigned>(below(4));
            uint64_t const command = below(10) ? (below(3) ? 0 : 2) : below(4);
            unsigned const at = slot_ * slot_size + static_cast<unsigned>(i) * 16;
            put(at, value(Kind::place, level) + command, 8);
            put(at + 8, value(Kind::entry, level), 8);
        }
    }
    /// Each of its calls has a slot.
    void put_calls(uint64_t count) {
        unsigned const list_slot = slot_;
        for (unsigned i = 0; i < count; ++i) {
            slot_ = list_slot + 1 + i;
            Call const call = draw_from(guest_operations, true);
            unsigned const at = list_slot * slot_size + i * sizeof(abi::MulticallEntry);
            put(at, call.number, 8);
            for (unsigned a = 0; a < 6; ++a)
                put(at + offsetof(abi::MulticallEntry, arguments) + a * 8, call.arguments[a], 8);
        }
        slot_ = list_slot;
    }

    template <size_t size>
    Operation const* pick(Operation const (&operations)[size]) {
        unsigned total = 0;
        for (Operation const& o : operations)
            total += o.weight;
        auto at = static_cast<unsigned>(below(total));
        for (Operation const& o : operations) {
            if (at < o.weight)
                return &o;
            at -= o.weight;
        }
        return operations;
    }

    Call draw_call(Operation const& o, bool nested) {
        Call call{&o, static_cast<uint64_t>(o.number), {}};
        uint64_t(&a)[6] = call.arguments;
        lists_ = 0;
        count_ = 1;
        uint64_t const count = 1 + (below(3) ? 0 : below(3));
        switch (o.shape) {
        case Shape::registers:
            for (Field const& f : o.fields)
                a[f.offset] = value(f.kind, f.more);
            break;
        case Shape::structure:
            a[0] = value(Kind::constant, o.command);
            put_fields(o, 0);
            a[1] = structure();
            break;
        case Shape::listed:
            a[0] = value(Kind::constant, o.command);
            for (unsigned i = 0; i < count; ++i)
                put_fields(o, i * o.size);
            a[1] = structure();
            a[2] = value(Kind::constant, count);
            break;
        case Shape::of_vcpu:
            a[0] = value(Kind::constant, o.command);
            a[1] = value(o.risk == Risk::sleep ? Kind::other_vcpu : Kind::vcpu, 0);
            put_fields(o, 0);
            a[2] =
                o.fields.size() == 1 && o.fields[0].kind == Kind::context ? context() : structure();
            break;
        case Shape::domctl:
            put_control(o, abi::domctl_interface_version, 16);
            a[0] = o.fields.size() && o.fields[0].kind == Kind::keys ? address_in(0) : structure();
            break;
        case Shape::sysctl:
            put_control(o, abi::sysctl_interface_version, 8);
            a[0] = o.fields.size() && o.fields[0].kind == Kind::keys ? address_in(0) : structure();
            break;
        case Shape::platform:
            put_control(o, abi::platform_interface_version, 8);
            a[0] = structure();
            break;
        case Shape::mmuext:
            put_mmuext(o, count);
            a[0] = structure();
            a[1] = count;
            a[2] = below(4) ? 0 : word();
            a[3] = foreign();
            break;
        case Shape::updates:
            put_updates(count);
            a[0] = structure();
            a[1] = value(Kind::constant, count);
            a[2] = below(4) ? 0 : word();
            a[3] = below(8) ? 0x7ff0 : foreign() | (below(2) ? foreign() + 1 : 0) << 16;
            break;
        case Shape::multicall:
            if (nested)
                break;
            put_calls(count);
            a[0] = address_in(0);
            a[1] = count;
            break;
        }
        return call;
    }
    template <size_t size>
    Call draw_from(Operation const (&operations)[size], bool nested) {
        Operation const* operation;
        do
            operation = pick(operations);
        while (!world_.accepts(*operation));
        Call call = draw_call(*operation, nested);
        for (uint64_t& argument : call.arguments)
            argument = clean(argument);
        return call;
    }

public:
    Drawer(Choices& in, World& world) : in_{in}, world_{world} {}

    Call call() {
        slot_ = 0;
        bool const control = below(world_.is_toolstack() ? 2 : 24) == 0;
        return control ? draw_from(control_operations, false) : draw_from(guest_operations, false);
    }
    /// The halves of a grant table's entry of the first version: what the caller offers to others.
    uint64_t offer() {
        uint64_t const flags =
            below(8) ? abi::grant::permit_access | (below(4) ? 0 : abi::grant::readonly)
                     : in_.number(2) & ~uint64_t{abi::grant::reading | abi::grant::writing};
        return clean(flags | (value(Kind::domain, 0) & 0xffff) << 16 | any_frame() << 32);
    }
    uint32_t offered() { return 8 + static_cast<uint32_t>(below(8)); }
    uint64_t somewhere() { return word() & ~uint64_t{7}; }
    uint64_t something() {
        return clean(value(below(2) ? Kind::entry : Kind::anything, 1 + below(4)));
    }
};

} // namespace hearth::grammar
