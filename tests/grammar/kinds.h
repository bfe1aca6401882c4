// The words of the grammar: what an argument means, and what an operation is made of.
#pragma once

#include "abi/xen.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace hearth::grammar {

/// What an argument, or a field of one, stands for. `more` of Field says which.
enum class Kind : uint8_t {
    constant,    // `more` itself
    number,      // below `more`
    flags,       // some of the bits of `more`
    anything,    // of 64 bits
    count,       // of a list
    domain,      // any
    made_domain, // one that the toolstack makes and ends; nothing else
    vcpu,        // of the caller's
    other_vcpu,  // not the first, which keeps the others at work
    port,        // event channels
    reference,   // grants
    handle,      // grants that are mapped
    frame,       // of memory: the caller's most often
    block,       // the first of four of the caller's
    own_frame,   // for what it is used as the guest must survive
    table,       // a frame meant as a table of level `more`
    root,        // a top-level table that the caller can live in
    descriptors, // a frame meant for descriptors
    entry,       // of a table of level `more`
    place,       // machine address of an entry in a table of level `more`
    page,        // linear address of a page that nothing depends on
    window,      // one of the few of them where grants are mapped
    word,        // linear address within such a page
    handler,     // linear address that may be jumped to
    order,       // of an extent
    deadline,    // system time, soon
    cpu,
    list,    // linear address of a list, of what `more` says: list_of()
    context, // linear address of a vCPU's state
    keys,    // linear address of keys that do no harm
};

struct Field {
    uint16_t offset; // in the structure, or which register
    uint8_t size;    // in bytes
    Kind kind;
    uint64_t more = 0;
};

constexpr uint64_t list_of(Kind kind, unsigned size, uint64_t more = 0) {
    return static_cast<uint64_t>(kind) | size << 8 | more << 16;
}

/// How an operation takes its arguments.
enum class Shape : uint8_t {
    registers, // the fields are registers
    structure, // (command, structure)
    listed,    // (command, structures, how many)
    of_vcpu,   // (command, vCPU, structure)
    domctl,    // (structure): command, version, domain, and then the fields
    sysctl,    // (structure): command, version, and then the fields
    platform,  // likewise
    mmuext,    // (structures, how many, done, whose)
    updates,   // the same, of mmu_update
    multicall, // (calls, how many)
};

/// What an operation may do to its caller.
enum class Risk : uint8_t {
    none,
    sleep,   // it may not wake up
    end,     // the domain's
    handlers // for traps are lost
};

struct Operation {
    char const* name;
    abi::Hypercall number;
    Shape shape;
    uint64_t command;
    std::span<Field const> fields;
    uint16_t size = 0; // of the structure
    uint8_t weight = 4;
    bool control = false; // of interest to a toolstack
    Risk risk = Risk::none;
    Kind domain = Kind::domain; // domctl
};

} // namespace hearth::grammar
