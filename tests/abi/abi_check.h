// Compares our types with those of the public headers that the C library package of the ABI
// installs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#define __XEN_TOOLS__ 1
#include <xen/callback.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/xen.h>

#include <xen/arch-x86/xen-mca.h>

#define SAME_SIZE(ours, theirs) static_assert(sizeof(ours) == sizeof(theirs), #ours)
/// Our types may leave out padding at the end, which nobody reads.
#define SAME_FIELD(ours, field, theirs, their_field)                                               \
    static_assert(offsetof(ours, field) == offsetof(theirs, their_field) &&                        \
                      sizeof(std::declval<ours>().field) ==                                        \
                          sizeof(std::declval<theirs>().their_field),                              \
                  #ours "::" #field)
#define SAME_OFFSET(ours, field, theirs, their_field)                                              \
    static_assert(offsetof(ours, field) == offsetof(theirs, their_field), #ours "::" #field)
#define SAME_VALUE(ours, theirs)                                                                   \
    static_assert(                                                                                 \
        static_cast<unsigned long long>(ours) == static_cast<unsigned long long>(theirs), #ours)
/// What crosses the border has no padding that could carry secrets out.
#define NO_PADDING(ours) static_assert(std::has_unique_object_representations_v<ours>, #ours)
