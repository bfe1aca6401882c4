// A hostile guest kernel: any hypercall with any argument, any exception with any instruction at
// rip. After each step its frames must add up, and no processor may still have a way to write to a
// table.
//
// Guests leave some memory behind, so run it in stretches of some 10,000 inputs: -runs=10000, or
// -fork=1.
#include "unit/frame_accounting.h"

#include "abi/grant_table.h"
#include "abi/operations.h"
#include "grant/grant.h"

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size);
extern "C" void guest_exception(hearth::Registers& frame, hearth::Thread& vcpu);

namespace hearth::test {
namespace {

class Input {
    uint8_t const* data_;
    size_t left_;

public:
    Input(uint8_t const* data, size_t size) : data_{data}, left_{size} {}
    [[nodiscard]] bool empty() const { return left_ == 0; }
    uint64_t number(unsigned bytes) {
        uint64_t n = 0;
        for (unsigned i = 0; i < bytes && left_ != 0; ++i, --left_)
            n |= uint64_t{*data_++} << (8 * i);
        return n;
    }
};

class FuzzedGuest {
    static constexpr unsigned frame_count = 16;
    Guest guest_{2, 1};
    Guest& peer_ = peer(); // grants it some of its frames
    Mfn frames_[frame_count];
    FrameAccounting accounting_{false};
    TlbModel tlb_;

    Mfn frame(uint64_t n) {
        Mfn const special[] = {guest_.l4,
                               guest_.l3,
                               guest_.l2,
                               guest_.l1,
                               guest_.argument_page,
                               guest_.domain.shared_info_frame};
        n %= frame_count + std::size(special);
        return n < frame_count ? frames_[n] : special[n - frame_count];
    }
    uint64_t value(Input& in) {
        uint64_t const kind = in.number(1);
        switch (kind & 7) {
        case 0:
            return kind >> 3;
        case 1:
            return Guest::argument_address + (in.number(2) & 0x1fff);
        case 2:
            return frame(kind >> 3).raw();
        case 3: // a machine address, the low bits a command
            return (frame(kind >> 3).raw() << page_shift) + (in.number(2) & 0xfff);
        case 4: // a page-table entry
            return (frame(kind >> 3).raw() << page_shift) |
                   (in.number(1) | pte::present | pte::user);
        case 5:
            return kind & 8 ? peer_.domain.id : domid_self;
        case 6:
            return in.number(2);
        default:
            return in.number(8);
        }
    }

    bool call(Input& in) {
        auto const number = static_cast<abi::Hypercall>(in.number(1) % 64);
        uint64_t a[5];
        for (uint64_t& argument : a)
            argument = value(in);
        return guest_.hypercall(number, a[0], a[1], a[2], a[3], a[4]).has_value();
    }
    bool raise(Input& in) {
        constexpr uint32_t vectors[] = {1, 3, 6, 7, 13, 14, 14, 14, 0x80};
        uint32_t const vector = vectors[in.number(1) % std::size(vectors)];
        auto const error = static_cast<uint32_t>(in.number(1));
        uint64_t const address = value(in),
                       instruction = Guest::argument_address + (in.number(2) & 0xfff);
        uint64_t const rax = value(in), rcx = value(in);
        return guest_.run([&] {
            Registers& r = guest_.vcpu().registers();
            r.vector = vector;
            r.error_code = error;
            r.rip = instruction;
            r.rax = rax;
            r.rbx = r.rdx = r.rsi = rcx;
            r.rcx = rcx & 0xff;
            r.rdi = r.rbp = address;
            r.rsp = Guest::argument_address + 0xf00;
            host::cpu_state(host::current_cpu()).cr2 = address;
            guest_exception(r, guest_.vcpu());
        });
    }
    /// As the guest's own instructions would, where it may write.
    void write(Input& in) {
        Mfn const target = frame(in.number(1));
        uint64_t const offset = in.number(2) & 0xff8, v = value(in);
        TypeWord const word = page_at(target).type_word();
        bool const mine =
            page_at(target).state == PageState::guest && page_at(target).owner == guest_.domain.id;
        if (mine && (word.count() == 0 || word.type() == PageType::writable))
            *reinterpret_cast<uint64_t*>(direct<char>(target) + offset) = v;
    }

    /// One for all inputs.
    static Guest& peer() {
        static Guest& guest = *new Guest;
        return guest;
    }
    void grant_frames() {
        static std::vector<Mfn> const frames = [] {
            std::vector<Mfn> some;
            for (unsigned i = 0; i < 32; ++i)
                some.push_back(peer().new_frame());
            return some;
        }();
        peer_.argument<abi::GrantSetupTable>() = {domid_self, 0,  1,
                                                  {},         {}, Guest::argument_address + 0x100};
        (void)peer_.hypercall(abi::Hypercall::grant_table_op,
                              static_cast<uint64_t>(abi::GrantOperation::setup_table),
                              Guest::argument_address, 1);
        auto* const entries = direct<abi::GrantEntryV1>(Mfn{peer_.argument<uint64_t>(0x100)});
        for (uint16_t i = 0; i < 32; ++i)
            entries[i] = {static_cast<uint16_t>(abi::grant::permit_access | (i & 4)),
                          guest_.domain.id, static_cast<uint32_t>(frames[i].raw())};
    }

public:
    ~FuzzedGuest() {
        // The guest itself may be dead.
        (void)peer_.run([&] { grants_release(guest_.domain); });
    }
    FuzzedGuest() {
        for (Mfn& f : frames_)
            f = guest_.new_frame();
        grant_frames();
        for (auto& trap : guest_.vcpu().traps)
            trap = {0x1000, 0xe033, 3};
        guest_.vcpu().syscall_callback = {0x2000, false};
        guest_.domain.vm_assist = bit(static_cast<unsigned>(abi::VmAssist::writable_pagetables));
    }

    /// False when the guest cannot go on.
    bool step(Input& in) {
        bool goes_on = true;
        switch (in.number(1) % 8) {
        case 0:
        case 1:
        case 2:
            goes_on = call(in);
            break;
        case 3:
            goes_on = raise(in);
            break;
        case 4:
            host::tsc += in.number(3) << 8;
            run_all_cpus();
            break;
        case 5:
            write(in);
            break;
        default:
            guest_.argument<uint64_t>(in.number(2) & 0xff8) = value(in);
        }
        std::string problem = accounting_.check({&guest_, &peer_});
        if (problem.empty())
            problem = tlb_.check([&](DomainId owner) {
                return owner == guest_.domain.id || owner == peer_.domain.id;
            });
        if (!problem.empty()) {
            fprintf(stderr, "%s\n", problem.c_str());
            abort();
        }
        return goes_on && guest_.domain.shutdown.load() == ShutdownState::running;
    }
};

} // namespace
} // namespace hearth::test

int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
    using namespace hearth;
    test::Input input{data, size};
    test::FuzzedGuest guest;
    host::serial_output().clear();
    for (unsigned steps = 0; steps < 200 && !input.empty() && guest.step(input); ++steps)
        ;
    return 0;
}
