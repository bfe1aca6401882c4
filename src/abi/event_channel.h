// Event channels. (public/event_channel.h)
#pragma once

#include <cstdint>

namespace hearth::abi {

enum class EventOperation : uint32_t {
    bind_interdomain = 0,
    bind_virq = 1,
    bind_pirq = 2,
    close = 3,
    send = 4,
    status = 5,
    alloc_unbound = 6,
    bind_ipi = 7,
    bind_vcpu = 8,
    unmask = 9,
    reset = 10,
    init_control = 11,
    expand_array = 12,
    set_priority = 13,
};

struct AllocUnbound {
    uint16_t dom, remote_dom;
    uint32_t port; // out
};
struct BindInterdomain {
    uint16_t remote_dom, padding;
    uint32_t remote_port;
    uint32_t local_port; // out
};
struct BindVirq {
    uint32_t virq, vcpu;
    uint32_t port; // out
};
struct BindPirq {
    uint32_t pirq, flags;
    uint32_t port; // out
};
inline constexpr uint32_t bind_pirq_will_share = 1;
struct BindIpi {
    uint32_t vcpu;
    uint32_t port; // out
};
struct EventPort { // close, send, unmask
    uint32_t port;
};
struct EventStatus {
    uint16_t dom, padding;
    uint32_t port;
    uint32_t status, vcpu; // out from here
    uint32_t detail[2];    // unbound: dom; interdomain: dom, port; pirq; virq
};
enum class EventState : uint32_t {
    closed = 0,
    unbound = 1,
    interdomain = 2,
    pirq = 3,
    virq = 4,
    ipi = 5
};
struct BindVcpu {
    uint32_t port, vcpu;
};
struct EventReset {
    uint16_t dom;
};
struct InitControl {
    uint64_t control_gfn;
    uint32_t offset, vcpu;
    uint8_t link_bits; // out
    uint8_t padding[7];
};
struct ExpandArray {
    uint64_t array_gfn;
};
struct SetPriority {
    uint32_t port, priority;
};

inline constexpr uint32_t two_level_ports = 4096;

namespace fifo {
inline constexpr uint32_t pending = 1u << 31;
inline constexpr uint32_t masked = 1u << 30;
inline constexpr uint32_t linked = 1u << 29;
inline constexpr uint32_t link_bits = 17;
inline constexpr uint32_t link_mask = (1u << link_bits) - 1;
inline constexpr uint32_t ports = 1u << link_bits;
inline constexpr unsigned priorities = 16;
inline constexpr unsigned default_priority = 7;
struct ControlBlock {
    uint32_t ready; // bit for each non-empty queue
    uint32_t reserved;
    uint32_t head[priorities];
};
} // namespace fifo

} // namespace hearth::abi
