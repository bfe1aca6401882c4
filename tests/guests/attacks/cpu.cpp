// State of a processor that a guest shares with the hypervisor and with other vCPUs: debug
// registers, floating point, control registers, MSRs, ports, and the emulation of what is
// privileged.
#include "library/guest.h"
#include "library/pv/user.h"
#include "library/pv/vcpus.h"

#include <cstring>

char const guest_name[] = "cpu";
using namespace guest;
using namespace hearth::abi;

namespace {

// --- Control registers

uint64_t read_control_0() {
    uint64_t value;
    asm volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}

void control_register_0_has_one_bit() {
    constexpr uint64_t always = 0x80050033, task_switched = 1 << 3; // PG AM WP NE ET MP PE
    EXPECT_EQUAL(read_control_0(), always);
    asm volatile("mov %0, %%cr0" : : "r"(always | task_switched));
    EXPECT_EQUAL(read_control_0(), always | task_switched);
    asm volatile("clts");
    for (unsigned n = 0; n < 64; ++n) {
        uint64_t const bit = uint64_t{1} << n;
        if (bit == task_switched)
            continue;
        EXPECT_EQUAL(attempt([=] {
                         asm volatile("mov %0, %%cr0" : : "r"(always ^ bit));
                     }).vector,
                     13);
        EXPECT_EQUAL(read_control_0(), always);
    }
}

constexpr uint64_t time_stamp_disable = 1 << 2, debugging_extensions = 1 << 3,
                   bases_by_instruction = 1 << 16, osxsave = 1 << 18;

uint64_t read_control_4() {
    uint64_t value;
    asm volatile("mov %%cr4, %0" : "=r"(value));
    return value;
}
void write_control_4(uint64_t value) { asm volatile("mov %0, %%cr4" : : "r"(value)); }
/// CR4 as it was, afterwards.
struct Control4 {
    uint64_t before = read_control_4();
    explicit Control4(uint64_t more) { write_control_4(before | more); }
    ~Control4() { write_control_4(before); }
};
bool has_bases_by_instruction() {
    uint32_t a = 7, b, c = 0;
    asm volatile(".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; cpuid" : "+a"(a), "=b"(b), "+c"(c) : : "edx");
    return b & 1;
}

void control_register_4_has_others_bits() {
    constexpr uint64_t always = 0x660; // PAE MCE OSFXSR OSXMMEXCPT
    uint64_t const before = read_control_4();
    write_control_4(0);
    EXPECT_EQUAL(read_control_4(), always);
    write_control_4(~uint64_t{0});
    EXPECT_EQUAL(read_control_4(), always | time_stamp_disable | debugging_extensions | osxsave |
                                       (has_bases_by_instruction() ? bases_by_instruction : 0));
    write_control_4(before);
    EXPECT_EQUAL(read_control_4(), before);
}

/// Whether `vector` is what each instruction that reads or writes a base ends with.
template <class Run>
bool bases_end_with(uint64_t vector, Run run) {
    static uint64_t volatile base;
    return run([] { asm volatile("rdfsbase %0"
                                 : "=r"(base)); }) == vector &&
           run([] { asm volatile("rdgsbase %0"
                                 : "=r"(base)); }) == vector &&
           run([] {
               asm volatile("wrfsbase %0" : : "r"(uint64_t{0}));
           }) == vector &&
           run([] {
               asm volatile("wrgsbase %0" : : "r"(uint64_t{0}));
           }) == vector;
}
bool kernels_bases_end_with(uint64_t vector) {
    return bases_end_with(vector, [](auto instruction) { return attempt(instruction).vector; });
}
bool users_bases_end_with(uint64_t vector) {
    return bases_end_with(vector, [](auto instruction) {
        UserExit const exit = run_user(instruction);
        return exit.done() ? no_trap : exit.vector;
    });
}

/// A kernel that does not know that there are such instructions finds bases as it left them.
void bases_that_the_kernel_does_not_give_away() {
    use_user_table();
    EXPECT(kernels_bases_end_with(6));
    EXPECT(users_bases_end_with(6));
    if (!has_bases_by_instruction())
        return;
    {
        Control4 const with{bases_by_instruction};
        EXPECT(kernels_bases_end_with(no_trap));
        EXPECT(users_bases_end_with(no_trap));
    }
    EXPECT(kernels_bases_end_with(6));
    EXPECT(users_bases_end_with(6));
    // Another vCPU's choice is its own.
    race(
        30,
        [] {
            yield();
            EXPECT(kernels_bases_end_with(6));
        },
        [] {
            Control4 const with{bases_by_instruction};
            yield();
            EXPECT(kernels_bases_end_with(no_trap));
        });
}

void time_that_the_kernel_does_not_give_away() {
    use_user_table();
    constexpr auto reads = [](uint64_t vector) {
        auto const ends = [](UserExit const& exit) { return exit.done() ? no_trap : exit.vector; };
        EXPECT_EQUAL(ends(run_user([] { asm volatile("rdtsc" : : : "rax", "rdx"); })), vector);
        EXPECT_EQUAL(ends(run_user([] {
                         asm volatile("rdtscp" : : : "rax", "rcx", "rdx");
                     })),
                     vector);
        EXPECT(survives([] { asm volatile("rdtsc" : : : "rax", "rdx"); }));
        EXPECT(survives([] { asm volatile("rdtscp" : : : "rax", "rcx", "rdx"); }));
    };
    reads(no_trap);
    {
        Control4 const with{time_stamp_disable};
        reads(13);
        uint64_t const early = read_tsc();
        EXPECT(read_tsc() > early);
    }
    reads(no_trap);
    race(
        30,
        [] {
            yield();
            EXPECT(run_user([] { asm volatile("rdtsc" : : : "rax", "rdx"); }).done());
        },
        [] {
            Control4 const with{time_stamp_disable};
            yield();
            read_tsc();
        });
}

// --- Debug registers

int64_t set_debug(unsigned number, uint64_t value) {
    return hypercall(Hypercall::set_debugreg, number, value);
}
uint64_t get_debug(unsigned number) {
    return static_cast<uint64_t>(hypercall(Hypercall::get_debugreg, number));
}
constexpr uint64_t enable_0 = 1, on_writes = 1 << 16, on_access = 3 << 16, of_8_bytes = 2 << 18;

struct Watch {
    static inline uint64_t hits;
    Watch(void const* address, uint64_t kind) {
        hits = 0;
        this_vcpu().hook = [](TrapFrame& frame) {
            hits += frame.vector == 1;
            return frame.vector == 1;
        };
        EXPECT_EQUAL(set_debug(0, reinterpret_cast<uint64_t>(address)), 0);
        EXPECT_EQUAL(set_debug(7, kind | enable_0), 0);
    }
    ~Watch() {
        EXPECT_EQUAL(set_debug(7, 0), 0);
        this_vcpu().hook = nullptr;
    }
};

void breakpoints_in_the_hypervisor() {
    constexpr uint64_t places[] = {0xffff828000200000, 0xffff800000000000, 0xffff87ffffffffff,
                                   0xffff830000000000, 0x0000800000000000, 0x8000000000000000};
    for (uint64_t const address : places)
        for (unsigned i = 0; i < 4; ++i) {
            EXPECT(set_debug(i, address) < 0);
            EXPECT(get_debug(i) != address);
        }
    for (unsigned const number : {4, 5}) // other names of 6 and 7
        EXPECT_EQUAL(set_debug(number, 0), 0);
    for (unsigned const number : {8u, 64u, 1u << 31, ~0u})
        EXPECT(set_debug(number, 0) < 0);
    EXPECT(set_debug(7, uint64_t{1} << 32) < 0);
    EXPECT(set_debug(6, uint64_t{1} << 32) < 0);
    // General detection would fire in the hypervisor's own writes of these registers.
    EXPECT(set_debug(7, 1 << 13) < 0);
    EXPECT_EQUAL(get_debug(7) & 1 << 13, 0);
    EXPECT_EQUAL(set_debug(7, 0), 0);
}

/// The hypervisor reads and writes it for us; that is not what stops the call.
void watchpoint_on_an_argument() {
    static uint64_t buffer[128];
    Watch const watch{buffer + 2, on_access | of_8_bytes};
    EXPECT_EQUAL(hypercall(Hypercall::xen_version, 9, buffer), 0);
    MmuUpdate requests[3];
    for (MmuUpdate& request : requests)
        request = {entry_address(buffer, 1) | mmu_pt_update_preserve_ad,
                   entry(mfn_of(buffer), all_rights)};
    memcpy(buffer, requests, sizeof requests);
    EXPECT_EQUAL(hypercall(Hypercall::mmu_update, buffer, 3, 0, self), 0);
    MulticallEntry call{17, 0, {0, 0}};
    memcpy(buffer, &call, sizeof call);
    EXPECT_EQUAL(hypercall(Hypercall::multicall, buffer, 1), 0);
}

/// Each exception that is pushed there is one more to report.
void watchpoint_on_the_exception_frame() {
    auto* const entry_stack =
        reinterpret_cast<uint64_t*>(reinterpret_cast<uint64_t>(&this_vcpu()) + entry_stack_end);
    use_user_table();
    Watch const watch{entry_stack - 2, on_writes | of_8_bytes};
    for (unsigned i = 0; i < 20; ++i) {
        EXPECT_EQUAL(run_user([] { asm volatile("int $0x80" : : : "memory"); }).vector, 0x80);
        EXPECT_EQUAL(run_user([] {
                         asm volatile("syscall" : : : "rcx", "r11", "memory");
                     }).vector,
                     by_syscall);
        EXPECT_EQUAL(run_user([] { asm volatile("ud2" : : : "memory"); }).vector, 6);
    }
}

/// A breakpoint on a descriptor fires while the processor delivers what the breakpoint fired for.
void watchpoint_on_the_descriptor_table() {
    auto* const gdt = static_cast<uint64_t*>(page());
    gdt[1] = 0x00cff3000000ffff;
    EXPECT_EQUAL(map_read_only(gdt), 0);
    uint64_t const frames[] = {mfn_of(gdt)};
    EXPECT_EQUAL(hypercall(Hypercall::set_gdt, frames, 512), 0);
    {
        Watch const watch{gdt + 1, on_access | of_8_bytes};
        for (unsigned i = 0; i < 100; ++i)
            attempt([] { asm volatile("mov %0, %%es; int3" : : "r"(8 + 3)); });
    }
    asm volatile("mov %0, %%es" : : "r"(0));
    EXPECT_EQUAL(hypercall(Hypercall::set_gdt, frames, 0), 0);
    EXPECT_EQUAL(map_writable(gdt), 0);
}

/// `mov ss` holds a debug exception back until the next instruction is over: in the hypervisor.
void breakpoint_held_back_by_mov_ss() {
    static uint64_t selector = 0xe02b;
    use_user_table();
    Watch const watch{&selector, on_access | of_8_bytes};
    for (unsigned i = 0; i < 20; ++i) {
        int64_t result = 17;
        asm volatile("mov %[selector], %%ss; syscall"
                     : "+a"(result)
                     : [selector] "m"(selector), "D"(0), "S"(0)
                     : "rcx", "r11", "memory");
        EXPECT_EQUAL(result, 4 << 16 | 17);
        EXPECT_EQUAL(attempt([] {
                         asm volatile("mov %0, %%ss; int3" : : "m"(selector));
                     }).vector,
                     3);
        EXPECT_EQUAL(attempt([] {
                         asm volatile("mov %0, %%ss; int $0x80" : : "m"(selector));
                     }).vector,
                     0x80);
        attempt([] { asm volatile("mov %0, %%ss; ud2" : : "m"(selector)); });
        attempt([] { asm volatile("mov %0, %%ss; sysenter" : : "m"(selector)); });
    }
    EXPECT(Watch::hits > 0);
}

void debug_registers_are_the_vcpus_own() {
    static uint64_t watched;
    EXPECT_EQUAL(set_debug(0, 0x1000), 0);
    EXPECT_EQUAL(set_debug(1, 0x2000), 0);
    begin_race(50);
    for (unsigned n = 1; n < vcpu_count(); ++n)
        start_on(
            n,
            [](void*) {
                Watch const watch{&watched, on_writes | of_8_bytes};
                do {
                    *static_cast<uint64_t volatile*>(&watched) = 1;
                    yield();
                } while (race_goes_on());
                EXPECT(Watch::hits != 0);
            },
            nullptr);
    while (race_goes_on()) {
        *static_cast<uint64_t volatile*>(&watched) = 2; // would be a trap that nobody expects
        yield();
    }
    for (unsigned n = 1; n < vcpu_count(); ++n)
        join(n);
    EXPECT_EQUAL(get_debug(0), 0x1000);
    EXPECT_EQUAL(get_debug(1), 0x2000);
    EXPECT_EQUAL(get_debug(7) & 0xff, 0);
}

void debug_status_stays_until_it_is_cleared() {
    static uint64_t watched;
    constexpr uint64_t none = 0xffff0ff0;
    auto const touch = [] { *static_cast<uint64_t volatile*>(&watched) = 1; };
    EXPECT_EQUAL(set_debug(6, none), 0);
    {
        Watch const watch{&watched, on_writes | of_8_bytes};
        touch();
        EXPECT_EQUAL(Watch::hits, 1);
        EXPECT_EQUAL(get_debug(6), none | 1);
        EXPECT_EQUAL(set_debug(1, reinterpret_cast<uint64_t>(&watched)), 0);
        EXPECT_EQUAL(set_debug(7, (on_writes | of_8_bytes) << 4 | enable_0 << 2), 0);
        touch();
        EXPECT_EQUAL(get_debug(6), none | 3);
        yield();
        EXPECT_EQUAL(set_debug(6, none), 0);
        touch();
        EXPECT_EQUAL(get_debug(6), none | 2);
    }
    EXPECT_EQUAL(set_debug(6, none), 0);
}

void single_step_over_a_forced_cpuid() {
    static uint64_t volatile stops, status;
    static uint64_t behind;
    stops = 0;
    this_vcpu().hook = [](TrapFrame& frame) {
        if (frame.vector != 1)
            return false;
        if (frame.rip == behind) {
            stops = stops + 1;
            status = get_debug(6);
        }
        return true;
    };
    uint64_t leaf = 0, scratch;
    asm volatile("lea 1f(%%rip), %[scratch]; mov %[scratch], %[behind]\n"
                 "pushf; orq $0x100, (%%rsp); popf\n"
                 ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; cpuid\n"
                 "1: nop; pushf; andq $~0x100, (%%rsp); popf"
                 : "+a"(leaf), [scratch] "=&r"(scratch), [behind] "=m"(behind)
                 :
                 : "rbx", "rcx", "rdx", "memory");
    this_vcpu().hook = nullptr;
    EXPECT_EQUAL(stops, 1);
    EXPECT_EQUAL(status & 1 << 14, 1 << 14);
}

// --- Floating point

struct Vectors {
    uint64_t words[4][4];
};
bool has_avx() {
    uint32_t a = 1, c = 0;
    asm volatile("cpuid" : "+a"(a), "+c"(c) : : "ebx", "edx");
    return (c >> 27 & 3) == 3;
}
uint64_t read_xcr0() {
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return uint64_t{high} << 32 | low;
}
void write_xcr0(uint64_t value) {
    asm volatile("xsetbv"
                 :
                 : "c"(0), "a"(static_cast<uint32_t>(value)),
                   "d"(static_cast<uint32_t>(value >> 32)));
}

void load_vectors(uint64_t value) {
    Vectors all;
    for (auto& line : all.words)
        for (uint64_t& word : line)
            word = value;
    if (has_avx())
        asm volatile(
            "vmovdqu (%0), %%ymm0; vmovdqu 32(%0), %%ymm7; vmovdqu 64(%0), %%ymm8; vmovdqu "
            "96(%0), %%ymm15"
            :
            : "r"(&all)
            : "memory");
    else
        asm volatile("movdqu (%0), %%xmm0; movdqu 32(%0), %%xmm7; movdqu 64(%0), %%xmm8; movdqu "
                     "96(%0), %%xmm15"
                     :
                     : "r"(&all)
                     : "memory");
}
/// Whether the registers hold this and nothing else, in the part that there is.
bool vectors_are(uint64_t value) {
    Vectors all;
    memset(&all, 0, sizeof all);
    bool const avx = has_avx();
    if (avx)
        asm volatile(
            "vmovdqu %%ymm0, (%0); vmovdqu %%ymm7, 32(%0); vmovdqu %%ymm8, 64(%0); vmovdqu "
            "%%ymm15, 96(%0)"
            :
            : "r"(&all)
            : "memory");
    else
        asm volatile("movdqu %%xmm0, (%0); movdqu %%xmm7, 32(%0); movdqu %%xmm8, 64(%0); movdqu "
                     "%%xmm15, 96(%0)"
                     :
                     : "r"(&all)
                     : "memory");
    bool same = true;
    for (auto const& line : all.words)
        for (unsigned i = 0; i < (avx ? 4u : 2u); ++i)
            same = same && line[i] == value;
    return same;
}
void load_control(uint16_t x87, uint32_t mxcsr) {
    asm volatile("fldcw %0; ldmxcsr %1" : : "m"(x87), "m"(mxcsr));
}
bool control_is(uint16_t x87, uint32_t mxcsr) {
    uint16_t control;
    uint32_t word;
    asm volatile("fnstcw %0; stmxcsr %1" : "=m"(control), "=m"(word));
    return control == x87 && word == mxcsr;
}
/// As a kernel does before it uses XSAVE.
void enable_xsave() {
    write_control_4(read_control_4() | osxsave);
    attempt([] { write_xcr0(has_avx() ? 7 : 3); });
}

void floating_point_is_the_vcpus_own() {
    enable_xsave();
    load_vectors(0x1111);
    load_control(0x27f, 0x9f80);
    for (unsigned n = 1; n < vcpu_count(); ++n)
        start_on(
            n,
            [](void*) {
                uint64_t const mine = 0x5ec4e7 * (this_vcpu().id + 1);
                enable_xsave();
                // What it finds is the initial state, nobody's data.
                EXPECT(vectors_are(0) || vectors_are(mine));
                load_vectors(mine);
                load_control(0x77f, 0x1f80);
                for (unsigned i = 0; i < 50; ++i) {
                    yield();
                    EXPECT(vectors_are(mine));
                    EXPECT(control_is(0x77f, 0x1f80));
                }
            },
            nullptr);
    for (unsigned i = 0; i < 100; ++i) {
        EXPECT(vectors_are(0x1111));
        EXPECT(control_is(0x27f, 0x9f80));
        yield();
    }
    for (unsigned n = 1; n < vcpu_count(); ++n)
        join(n);
    EXPECT(vectors_are(0x1111));
}

/// Registers that a guest turns off are nobody's to see when they come back.
void features_turned_off_and_on() {
    enable_xsave();
    if (!has_avx())
        return;
    load_vectors(0x2222);
    write_xcr0(3);
    SchedPoll nap{0, 0, 0, now() + 2 * millisecond};
    EXPECT_EQUAL(operation(Hypercall::sched_op, SchedOperation::poll, &nap), 0);
    EXPECT_EQUAL(read_xcr0(), 3);
    EXPECT_EQUAL(attempt([] {
                     asm volatile("vpxor %%ymm0, %%ymm0, %%ymm0" : : : "memory");
                 }).vector,
                 6);
    auto const others = [] {
        enable_xsave();
        load_vectors(0x3333);
    };
    race(
        20,
        [] {
            EXPECT_EQUAL(read_xcr0(), 3);
            yield();
        },
        others);
    write_xcr0(7);
    EXPECT(vectors_are(0x2222));
}

void features_that_cannot_be() {
    write_control_4(read_control_4() & ~osxsave);
    EXPECT_EQUAL(attempt([] { write_xcr0(3); }).vector, 6);
    enable_xsave();
    for (uint64_t const value : {uint64_t{0}, uint64_t{2}, uint64_t{5}, uint64_t{1} << 63 | 1,
                                 ~uint64_t{0}, uint64_t{0x23}, uint64_t{0x203}, uint64_t{0x1b}})
        EXPECT_EQUAL(attempt([=] { write_xcr0(value); }).vector, 13);
    uint64_t const before = read_xcr0();
    use_user_table();
    EXPECT_EQUAL(run_user([] { write_xcr0(3); }).vector, 13);
    EXPECT_EQUAL(read_xcr0(), before);
    EXPECT_EQUAL(attempt([] { asm volatile("xsetbv" : : "a"(3), "d"(0), "c"(1)); }).vector, 13);
}

// --- Privileged instructions

void user_mode_has_no_privileges() {
    use_user_table();
    constexpr auto tries = [](auto instruction) {
        uint64_t const vector = run_user(instruction).vector;
        EXPECT(vector == 13 || vector == 6);
    };
    tries([] { asm volatile("cli"); });
    tries([] { asm volatile("hlt"); });
    tries([] { asm volatile("in $0x80, %%al" : : : "rax"); });
    tries([] { asm volatile("out %%al, $0x80" : : "a"(0)); });
    tries([] { asm volatile("rdmsr" : : "c"(0xc0000080) : "rax", "rdx"); });
    tries([] { asm volatile("wrmsr" : : "c"(0xc0000102), "a"(0), "d"(0)); });
    tries([] { asm volatile("mov %%cr0, %%rax" : : : "rax"); });
    tries([] { asm volatile("mov %%rax, %%cr3" : : "a"(0)); });
    tries([] { asm volatile("mov %%rax, %%cr4" : : "a"(0)); });
    tries([] { asm volatile("mov %%rax, %%dr7" : : "a"(0x400)); });
    tries([] { asm volatile("mov %%dr0, %%rax" : : : "rax"); });
    tries([] { asm volatile("clts"); });
    tries([] { asm volatile("invlpg (%0)" : : "r"(0)); });
    tries([] { asm volatile("wbinvd"); });
    tries([] { asm volatile("invd"); });
    tries([] { asm volatile("swapgs"); });
    tries([] { asm volatile("lmsw %%ax" : : "a"(0)); });
    tries([] { asm volatile("lldt %%ax" : : "a"(0)); });
    tries([] { asm volatile("ltr %%ax" : : "a"(0)); });
    tries([] { asm volatile("sysretq" : : : "rcx", "r11"); });
}

struct [[gnu::packed]] TablePointer {
    uint16_t limit;
    uint64_t base;
};

/// Guests do not see UMIP: programs that have always run do not end by it.
void where_tables_are_is_no_secret() {
    use_user_table();
    static TablePointer volatile pointer;
    static uint64_t volatile word;
    constexpr auto runs = [](auto instruction) {
        EXPECT(survives(instruction));
        EXPECT(run_user(instruction).done());
    };
    runs([] { asm volatile("sgdt %0" : "=m"(pointer)); });
    EXPECT(pointer.base != 0);
    runs([] { asm volatile("sidt %0" : "=m"(pointer)); });
    EXPECT_EQUAL(pointer.limit, 0xfff);
    runs([] { asm volatile("sldt %0" : "=r"(word)); });
    runs([] { asm volatile("str %0" : "=r"(word)); });
    EXPECT_EQUAL(word, 0xe040);
    runs([] { asm volatile("smsw %0" : "=r"(word)); });
    EXPECT_EQUAL(word & 1, 1);
}

void kernel_mode_has_few() {
    static TablePointer const pointer{0xffff, virt_base};
    EXPECT(!survives([] { asm volatile("lgdt %0" : : "m"(pointer)); }));
    EXPECT(!survives([] { asm volatile("lidt %0" : : "m"(pointer)); }));
    EXPECT(!survives([] { asm volatile("lldt %%ax" : : "a"(0xe040)); }));
    EXPECT(!survives([] { asm volatile("ltr %%ax" : : "a"(0xe040)); }));
    EXPECT(!survives([] { asm volatile("swapgs"); }));
    EXPECT(!survives([] { asm volatile("sysretq" : : : "rcx", "r11"); }));
    EXPECT(!survives([] { asm volatile("mov %0, %%cr8" : : "r"(uint64_t{15})); }));
    // Control registers: taken with what a guest may have of them, refused, or without effect.
    attempt([] { asm volatile("mov %0, %%cr0" : : "r"(uint64_t{0})); });
    attempt([] { asm volatile("mov %0, %%cr0" : : "r"(~uint64_t{0})); });
    attempt([] { asm volatile("clts"); });
    attempt([] { asm volatile("invd"); }); // at most with everything written back
    for (uint64_t const root : {uint64_t{0}, uint64_t{0x200000}, ~uint64_t{0}})
        attempt([=] { asm volatile("mov %0, %%cr3" : : "r"(root)); });
    EXPECT_EQUAL(hypercall(Hypercall::xen_version, 0, 0), 4 << 16 | 17);
    EXPECT(survives([] { asm volatile("fninit"); }));
}

uint64_t read_msr(uint32_t index, bool& read) {
    uint32_t low = 0, high = 0;
    read = survives([&] { asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index)); });
    return uint64_t{high} << 32 | low;
}
bool write_msr(uint32_t index, uint64_t value) {
    return survives([=] {
        asm volatile("wrmsr"
                     :
                     : "c"(index), "a"(static_cast<uint32_t>(value)),
                       "d"(static_cast<uint32_t>(value >> 32)));
    });
}

/// Whatever is said to a guest that writes them, the processor's stay as they are.
void model_specific_registers() {
    constexpr uint32_t those_of_entry[] = {0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083,
                                           0xc0000084, 0x174,      0x175,      0x176};
    for (uint32_t const index : those_of_entry) {
        for (uint64_t const value : {uint64_t{0}, ~uint64_t{0}, virt_base, uint64_t{0xe008}})
            write_msr(index, value);
        EXPECT_EQUAL(hypercall(Hypercall::xen_version, 0, 0), 4 << 16 | 17);
    }
    // The local APIC, debugging, machine checks, microcode, memory types, power.
    for (uint32_t const index :
         {0x1bu,       0x1d9u,      0x79u,       0x8bu,       0x10u,       0x3au,       0x1a0u,
          0x198u,      0x199u,      0x2ffu,      0x277u,      0x200u,      0x400u,      0x179u,
          0x17au,      0x480u,      0x48u,       0x49u,       0x10bu,      0x122u,      0x606u,
          0x611u,      0x639u,      0xc1u,       0x186u,      0x38fu,      0x600u,      0x800u,
          0x80bu,      0x830u,      0x83fu,      0xda0u,      0xd90u,      0x6a0u,      0x3f1u,
          0x560u,      0x1c9u,      0x9cu,       0x9eu,       0x34u,       0xc0010000u, 0xc0010015u,
          0xc001001fu, 0xc0010058u, 0xc0010114u, 0xc0010117u, 0xc0011023u, 0xc0011027u, 0xc001100cu,
          0x40000000u, 0x40000001u, 0xffffffffu}) {
        bool read;
        read_msr(index, read);
        write_msr(index, 0);
        write_msr(index, ~uint64_t{0});
    }
    // Power's meters are a way to look into others.
    for (uint32_t const index : {0x611u, 0x619u, 0x639u, 0x641u, 0x606u, 0x198u, 0xe7u, 0xe8u}) {
        bool read;
        uint64_t const value = read_msr(index, read);
        EXPECT(!read || value == 0 || index == 0x198u);
    }
    EXPECT_EQUAL(hypercall(Hypercall::xen_version, 0, 0), 4 << 16 | 17);
}

void bases_at_no_address() {
    for (uint32_t const index : {0xc0000100u, 0xc0000101u, 0xc0000102u}) {
        bool read;
        uint64_t const before = read_msr(index, read);
        EXPECT(read);
        constexpr uint64_t places[] = {0x0000800000000000, 0xffff7fffffffffff, 0xdead00000000beef};
        for (uint64_t const value : places)
            write_msr(index, value);
        EXPECT_EQUAL(read_msr(index, read), before);
    }
    // Selectors of ring 0, and some that are nothing.
    for (uint64_t const selector : {0xe008, 0xe010, 0xe040, 0xe048, 0xfff8, 0xffff, 0x1233})
        EXPECT_EQUAL(hypercall(Hypercall::set_segment_base,
                               static_cast<uint64_t>(SegmentBase::gs_user_selector), selector),
                     0);
    EXPECT_EQUAL(hypercall(Hypercall::set_segment_base, 3, 0), 0);
    EXPECT_EQUAL(hypercall(Hypercall::set_segment_base, 4, 0), inval);
}

void bases_are_the_vcpus_own() {
    auto const bases = [] {
        uint64_t const mine = 0x1000 * (this_vcpu().id + 1);
        for (unsigned which = 0; which < 3; ++which)
            EXPECT_EQUAL(hypercall(Hypercall::set_segment_base, which, mine + which), 0);
        yield();
        bool read;
        EXPECT_EQUAL(read_msr(0xc0000100, read), mine);
        EXPECT_EQUAL(read_msr(0xc0000102, read), mine + 1);
        EXPECT_EQUAL(read_msr(0xc0000101, read), mine + 2);
    };
    race(30, bases, bases);
    use_user_table();
    if (!has_bases_by_instruction())
        return;
    Control4 const with{bases_by_instruction};
    static uint64_t seen;
    run_user([] { asm volatile("rdgsbase %0" : "=r"(seen)); });
    EXPECT_EQUAL(seen, 0x1001);
}

// --- Ports

bool reads_port_in_user_mode() {
    return run_user([] { asm volatile("in $0x80, %%al" : : : "rax"); }).done();
}
int64_t set_iopl(uint32_t level) { return hypercall(Hypercall::physdev_op, 6, &level); }
int64_t set_bitmap(void const* bitmap, uint32_t ports) {
    struct {
        void const* bitmap;
        uint32_t ports, padding;
    } const request{bitmap, ports, 0};
    return hypercall(Hypercall::physdev_op, 7, &request);
}

void ports_by_privilege_level() {
    use_user_table();
    EXPECT(!reads_port_in_user_mode());
    EXPECT_EQUAL(set_iopl(1), 0);
    EXPECT(!reads_port_in_user_mode());
    EXPECT(survives([] { asm volatile("in $0x80, %%al" : : : "rax"); }));
    EXPECT_EQUAL(set_iopl(3), 0);
    EXPECT(reads_port_in_user_mode());
    EXPECT_EQUAL(set_iopl(4), inval);
    EXPECT_EQUAL(set_iopl(0), 0);
    EXPECT(!reads_port_in_user_mode());
}

/// The bitmap lies in the kernel's memory, also while user mode runs.
void ports_by_bitmap() {
    use_user_table();
    auto* const bitmap = static_cast<uint8_t*>(kernel_only_page());
    memset(bitmap, 0xff, page_size);
    EXPECT_EQUAL(set_bitmap(bitmap, 1024), 0);
    EXPECT(!reads_port_in_user_mode());
    bitmap[0x80 / 8] = 0xfe;
    EXPECT(reads_port_in_user_mode());
    EXPECT(!run_user([] { asm volatile("in $0x80, %%ax" : : : "rax"); }).done());
    EXPECT(!run_user([] { asm volatile("in $0x81, %%al" : : : "rax"); }).done());
    EXPECT_EQUAL(set_bitmap(bitmap, 0x80), 0); // the port is behind its end
    EXPECT(!reads_port_in_user_mode());
    // Bitmaps that cannot be read allow nothing.
    for (uint64_t const place : {uint64_t{0xffff830000000000}, uint64_t{0x7ffffffff000},
                                 uint64_t{0x0000800000000000} - 8, ~uint64_t{0} - 3})
        if (set_bitmap(reinterpret_cast<void const*>(place), 65536) == 0)
            EXPECT(!reads_port_in_user_mode());
    EXPECT_EQUAL(set_bitmap(bitmap, 65537), inval);
    EXPECT_EQUAL(set_bitmap(nullptr, 0), 0);
    EXPECT(!reads_port_in_user_mode());
}

/// The processor's own ports, and the memory that `outs` reads and `ins` writes.
void string_instructions_of_ports() {
    EXPECT_EQUAL(set_iopl(3), 0);
    for (uint64_t const place : {uint64_t{0xffff830000000000}, uint64_t{0x0000800000000000},
                                 uint64_t{0xffff828000200000}, uint64_t{0xffff7fffffffffff}}) {
        EXPECT(!survives([=] {
            uint64_t at = place, count = 4;
            asm volatile("mov $0x80, %%edx; rep outsb" : "+S"(at), "+c"(count) : : "rdx", "memory");
        }));
        EXPECT(!survives([=] {
            uint64_t at = place, count = 4;
            asm volatile("mov $0x80, %%edx; rep insb" : "+D"(at), "+c"(count) : : "rdx", "memory");
        }));
    }
    // Over a page table: the data are the device's, the page is not ours to write to.
    void* const table = page();
    make_table(1, table);
    EXPECT(!survives([=] {
        void* at = table;
        asm volatile("mov $0x80, %%edx; insb" : "+D"(at) : : "rdx", "memory");
    }));
    EXPECT_EQUAL(*static_cast<uint64_t*>(table), 0);
    end_table(table);
    EXPECT_EQUAL(set_iopl(0), 0);
}

/// Instructions that are emulated, at the end of what can be fetched.
/// The fault is where the memory ends, and nothing has been read or written before it.
void string_instructions_of_ports_over_a_page_border() {
    EXPECT_EQUAL(set_iopl(3), 0);
    auto* const there = static_cast<uint8_t*>(page());
    void* const hole = page();
    EXPECT(static_cast<void*>(there + page_size) == hole);
    EXPECT_EQUAL(unmap(hole), 0);
    uint8_t* const at = there + page_size - 2;
    at[0] = at[1] = 0x5a;
    Fault const read = attempt([from = at]() mutable {
        asm volatile("outsl" : "+S"(from) : "d"(0x80));
    });
    EXPECT_EQUAL(read.vector, 14);
    EXPECT_EQUAL(read.error & 2, 0);
    EXPECT_EQUAL(read.address, reinterpret_cast<uint64_t>(hole));
    Fault const written = attempt([to = at]() mutable {
        asm volatile("insl" : "+D"(to) : "d"(0x80) : "memory");
    });
    EXPECT_EQUAL(written.vector, 14);
    EXPECT_EQUAL(written.error & 2, 2);
    EXPECT_EQUAL(written.address, reinterpret_cast<uint64_t>(hole));
    EXPECT_EQUAL(at[0], 0x5a);
    EXPECT_EQUAL(at[1], 0x5a);
    EXPECT_EQUAL(map_writable(hole), 0);
    EXPECT(survives([to = at]() mutable {
        asm volatile("insl" : "+D"(to) : "d"(0x80) : "memory");
    }));
    EXPECT_EQUAL(set_iopl(0), 0);
}

void emulation_at_the_end_of_a_page() {
    auto* const code = static_cast<uint8_t*>(page());
    void* const hole = page();
    EXPECT(static_cast<void*>(code + page_size) == hole);
    EXPECT_EQUAL(unmap(hole), 0);
    constexpr uint8_t tails[][5] = {
        {1, 0x0f},                   // the first half of any
        {2, 0x66, 0x66},             // prefixes
        {2, 0x0f, 0x22},             // mov to a control register, without saying which
        {3, 0x0f, 0x01, 0xd0},       // xgetbv, whole
        {2, 0x0f, 0x32},             // rdmsr, whole
        {4, 0x0f, 0x0b, 0x78, 0x65}, // the signature of a forced CPUID, half
        {1, 0xe4},                   // in, without the port
        {1, 0xcd},                   // int, without the vector
    };
    for (auto const& tail : tails) {
        uint8_t* const at = code + page_size - tail[0];
        memcpy(at, tail + 1, tail[0]);
        Fault const fault = attempt([=] { asm volatile("jmp *%0" : : "r"(at), "c"(0xc0000080)); });
        EXPECT(fault.vector == 14 || fault.vector == 13 || fault.vector == 6);
    }
    EXPECT_EQUAL(map_writable(hole), 0);
}

constexpr Case cases[] = {
    {"control_register_0_has_one_bit", "", control_register_0_has_one_bit},
    {"control_register_4_has_others_bits", "XSA-293", control_register_4_has_others_bits},
    {"bases_that_the_kernel_does_not_give_away", "XSA-293",
     bases_that_the_kernel_does_not_give_away},
    {"time_that_the_kernel_does_not_give_away", "XSA-293", time_that_the_kernel_does_not_give_away},
    {"breakpoints_in_the_hypervisor", "XSA-12 XSA-444", breakpoints_in_the_hypervisor},
    {"watchpoint_on_an_argument", "XSA-265", watchpoint_on_an_argument},
    {"watchpoint_on_the_exception_frame", "XSA-156 XSA-265", watchpoint_on_the_exception_frame},
    {"watchpoint_on_the_descriptor_table", "XSA-444", watchpoint_on_the_descriptor_table},
    {"breakpoint_held_back_by_mov_ss", "XSA-260", breakpoint_held_back_by_mov_ss},
    {"debug_registers_are_the_vcpus_own", "XSA-444", debug_registers_are_the_vcpus_own},
    {"debug_status_stays_until_it_is_cleared", "XSA-444", debug_status_stays_until_it_is_cleared},
    {"single_step_over_a_forced_cpuid", "", single_step_over_a_forced_cpuid},
    {"floating_point_is_the_vcpus_own", "XSA-52 XSA-62 XSA-165 XSA-267",
     floating_point_is_the_vcpus_own},
    {"features_turned_off_and_on", "XSA-62 XSA-220", features_turned_off_and_on},
    {"features_that_cannot_be", "XSA-53 XSA-54", features_that_cannot_be},
    {"user_mode_has_no_privileges", "XSA-105 XSA-202", user_mode_has_no_privileges},
    {"where_tables_are_is_no_secret", "", where_tables_are_is_no_secret},
    {"kernel_mode_has_few", "XSA-105 XSA-293", kernel_mode_has_few},
    {"model_specific_registers", "XSA-269 XSA-333 XSA-351", model_specific_registers},
    {"bases_at_no_address", "XSA-193 XSA-293", bases_at_no_address},
    {"bases_are_the_vcpus_own", "XSA-293", bases_are_the_vcpus_own},
    {"ports_by_privilege_level", "XSA-171", ports_by_privilege_level},
    {"ports_by_bitmap", "XSA-329", ports_by_bitmap},
    {"string_instructions_of_ports", "XSA-67", string_instructions_of_ports},
    {"string_instructions_of_ports_over_a_page_border", "XSA-67",
     string_instructions_of_ports_over_a_page_border},
    {"emulation_at_the_end_of_a_page", "XSA-123 XSA-186", emulation_at_the_end_of_a_page},
};

} // namespace

void guest_main() { run_cases(cases); }
