#include "library/pv/twins.h"

#include "library/guest.h"
#include "library/pv/vcpus.h"

#include <cstring>

extern "C" {
extern char guest_entry[], image_begin[], pristine_end[], image_end[];
}

namespace guest {

using namespace hearth::abi;

namespace {

/// The first 2 MiB behind virt_base: the image where ours is, and behind it what describes it.
constexpr uint64_t most_frames = page_size / sizeof(uint64_t);

struct Layout {
    uint64_t begin = pfn_of(image_begin), start = pfn_of(image_end), list = start + 1,
             tables = start + 2, // L1 to L4
        end = tables + 4;
};

uint64_t frames[most_frames]; // of the twin that is being made, by their numbers there

void* window() {
    static void* const place = page();
    return place;
}
uint64_t* open(uint16_t domain, uint64_t mfn) {
    EXPECT_EQUAL(hypercall(Hypercall::update_va_mapping_otherdomain, window(),
                           entry(mfn, all_rights), uvmf_invlpg, domain),
                 0);
    return static_cast<uint64_t*>(window());
}
uint64_t* open_cleared(uint16_t domain, uint64_t mfn) {
    uint64_t volatile* const words = open(domain, mfn);
    for (uint64_t i = 0; i < page_size / sizeof *words; ++i)
        words[i] = 0;
    return const_cast<uint64_t*>(words);
}
char* linear(uint64_t pfn) { return reinterpret_cast<char*>(virt_base + pfn * page_size); }

uint16_t make_domain(Layout const& layout) {
    DomctlCreate create{};
    create.max_vcpus = 1;
    create.max_event_port = 1023;
    create.max_grant_frames = create.max_maptrack_frames = -1;
    create.grant_options = 1;
    uint16_t domain = 0;
    EXPECT_EQUAL(control(DomctlOperation::createdomain, domain, create), 0);
    DomctlMaxVcpus vcpus{1};
    EXPECT_EQUAL(control(DomctlOperation::max_vcpus, domain, vcpus), 0);
    DomctlMaxMemory memory{(layout.end - layout.begin) * 4};
    EXPECT_EQUAL(control(DomctlOperation::max_mem, domain, memory), 0);
    for (uint64_t pfn = 0; pfn < most_frames; ++pfn)
        frames[pfn] = pfn;
    MemoryReservation const wanted{reinterpret_cast<uint64_t>(frames + layout.begin),
                                   layout.end - layout.begin,
                                   0,
                                   0,
                                   domain,
                                   {}};
    EXPECT_EQUAL(operation(Hypercall::memory_op, MemoryOperation::populate_physmap, &wanted),
                 layout.end - layout.begin);
    return domain;
}

/// As it was when we began: what is written to later lies behind.
void fill_image(uint16_t domain, Layout const& layout) {
    for (uint64_t pfn = layout.begin; pfn < layout.start; ++pfn) {
        uint64_t* const words = open_cleared(domain, frames[pfn]);
        if (linear(pfn) < pristine_end)
            memcpy(words, linear(pfn), page_size);
    }
}

void fill_start(uint16_t domain, Layout const& layout, char const* command_line) {
    DomctlInfo about{};
    EXPECT_EQUAL(control(DomctlOperation::getdomaininfo, domain, about), 0);
    auto& start = *reinterpret_cast<StartInfo*>(open_cleared(domain, frames[layout.start]));
    start.page_count = layout.end;
    start.shared_info = about.shared_info_frame * page_size;
    start.page_table_base = reinterpret_cast<uint64_t>(linear(layout.tables + 3));
    start.page_table_frames = 4;
    start.p2m_list = reinterpret_cast<uint64_t>(linear(layout.list));
    memcpy(start.command_line, command_line, strlen(command_line));
    memcpy(open_cleared(domain, frames[layout.list]), frames, page_size);
}

void fill_tables(uint16_t domain, Layout const& layout) {
    uint64_t* const l1 = open_cleared(domain, frames[layout.tables]);
    for (uint64_t pfn = layout.begin; pfn < layout.end; ++pfn)
        l1[pfn] = entry(frames[pfn], pfn < layout.tables ? all_rights : present | user);
    for (unsigned level = 2; level <= 4; ++level)
        open_cleared(domain,
                     frames[layout.tables + level - 1])[virt_base >> (12 + 9 * (level - 1)) & 511] =
            entry(frames[layout.tables + level - 2], all_rights);
    EXPECT_EQUAL(unmap(window()), 0);
    MmuExtOp const pin{static_cast<uint32_t>(MmuExtCommand::pin_l4_table), 0,
                       frames[layout.tables + 3], 0};
    EXPECT_EQUAL(hypercall(Hypercall::mmuext_op, &pin, 1, 0, domain), 0);
}

void set_first_vcpu(uint16_t domain, Layout const& layout) {
    static VcpuGuestContext context;
    fill_context(context, 1);
    context.flags = context_in_kernel | context_online;
    context.registers.rip = reinterpret_cast<uint64_t>(guest_entry);
    context.registers.rsi = reinterpret_cast<uint64_t>(linear(layout.start));
    context.control[3] = frames[layout.tables + 3] * page_size;
    DomctlVcpuContext request{0, 0, reinterpret_cast<uint64_t>(&context)};
    EXPECT_EQUAL(control(DomctlOperation::setvcpucontext, domain, request), 0);
}

} // namespace

Twin make_twin(char const* command_line, void const* shown) {
    Layout const layout;
    uint16_t const domain = make_domain(layout);
    fill_image(domain, layout);
    fill_start(domain, layout, command_line);
    fill_tables(domain, layout);
    set_first_vcpu(domain, layout);
    return {domain, frames[pfn_of(shown)]};
}

void let_run(Twin const& twin) {
    EXPECT_EQUAL(control(DomctlOperation::unpausedomain, twin.domain), 0);
}

void const* look_at(Twin const& twin) { return open(twin.domain, twin.shown); }

} // namespace guest
