#include "world.h"

#include "abi/operations.h"
#include "control/control.h"
#include "domain/guest_memory.h"
#include "domain/guest_mode.h"
#include "grant/use.h"

#include <cstring>
#include <sstream>

extern "C" void guest_exception(hearth::Thread& vcpu, hearth::Registers& frame);

/// Locals lie on the stacks themselves, so that these are as deep as they look.
/// And half of the time would go into notes on who allocated what; a seed tells more.
extern "C" char const* __asan_default_options() {
    return "detect_stack_use_after_return=0:malloc_context_size=0:quarantine_size_mb=1";
}

namespace hearth::test {
namespace {

using grammar::Choices;

constexpr uint64_t arguments_start = Guest::argument_address + 0x10000,
                   play_start = Guest::argument_address + 0x80000,
                   keys_page = Guest::argument_address + 0xa0000;
constexpr unsigned play_pages = 16;
constexpr uint64_t arguments_of(unsigned vcpu) { return arguments_start + vcpu * 0x10000; }
/// Under the sanitizers, which need more: what has room here has it there.
constexpr size_t deepest_allowed = arch::stack_size;

World* active = nullptr;

/// Whose end is the machine's, in the fake machine too: it is never ended. It lends its memory for
/// what a machine gets only once.
struct Machine {
    Guest guest{1, ~0u, true};
    Mfn held = guest.new_frame();

    Machine() {
        set_machine_facts({.command_line = {}, .cpu_count = machine_cpus});
        guest.argument<abi::PirqEoiGmfn>() = {held.raw()};
        if (guest.hypercall(abi::Hypercall::physdev_op,
                            static_cast<uint64_t>(abi::PhysdevOperation::pirq_eoi_gmfn_v2),
                            Guest::argument_address) != 0)
            abort();
        guest.domain.hardware = false;
        // Where it keeps its ports, which toolstacks bind for it.
        guest.argument<abi::AllocUnbound>() = {domid_self, domid_self, 0};
        if (ask_for_events(abi::EventOperation::alloc_unbound) != 0)
            abort();
        // Nobody gives it more, not even who comes to name it because another vCPU overwrites his
        // argument.
        guest.domain.pages.with([](PageList& list) { list.maximum = list.count; });
    }
    void close_ports() {
        guest.argument<abi::EventReset>() = {domid_self};
        (void)ask_for_events(abi::EventOperation::reset);
    }

private:
    std::optional<int64_t> ask_for_events(abi::EventOperation operation) {
        return guest.hypercall(abi::Hypercall::event_channel_op, static_cast<uint64_t>(operation),
                               Guest::argument_address);
    }
};
Machine& machine() {
    static Machine& one = *new Machine;
    return one;
}

/// A toolstack takes no events: without room for one's frame it would end in a hypercall of its
/// own, and the machine with it.
bool sets_callbacks(abi::Hypercall number) {
    return number == abi::Hypercall::set_callbacks || number == abi::Hypercall::callback_op;
}

int64_t map(Guest& guest, uint64_t address, Mfn mfn) {
    return guest
        .hypercall(abi::Hypercall::update_va_mapping, address,
                   address_of(mfn).raw() | pte::present | pte::writable | pte::user, 0)
        .value_or(-1);
}

} // namespace

std::map<std::string, Tally>& tallies() {
    static auto& all = *new std::map<std::string, Tally>;
    return all;
}

// --- A member

Member::Member(unsigned vcpus, bool is_toolstack)
    : guest_{std::make_unique<Guest>(vcpus, ~0u, is_toolstack, 512)}, toolstack{is_toolstack} {
    held_ = DomainRef::to(guest_->domain);
    for (unsigned i = 0; i < grammar::frame_count; ++i) {
        // Some of them side by side, for what takes several.
        bool const block = i >= 32 && i < 48 && i % 4 == 0;
        if (!block && i >= 32)
            continue;
        Mfn const first = Guest::must(allocate_frames(block ? 2 : 0));
        for (unsigned k = 0; k < (block ? 4u : 1u); ++k) {
            zero_page(first + k);
            set_m2p(first + k, i + k);
            frames_[i + k] = first + k;
        }
        give_frames_to(guest_->domain, first, block ? 4 : 1);
    }
    for (unsigned v = 0; v < vcpus; ++v) {
        if (v != 0)
            guest_->bring_up(v);
        for (unsigned i = 0; i < 4; ++i)
            (void)map(*guest_, arguments_of(v) + i * page_size, guest_->new_frame());
        pv::PvVcpu& vcpu = guest_->vcpu(v);
        handle_all_traps(vcpu, 0x1000);
        vcpu.failsafe_callback = vcpu.syscall_callback = {0x2000, true};
        if (!is_toolstack)
            vcpu.event_callback = {0x2000, true};
        vcpu.kernel_sp = arguments_of(v) + 0x3f00;
    }
    for (unsigned i = 0; i < play_pages; i += 2)
        (void)map(*guest_, play_start + i * page_size, frames_[30 + i / 2]);
    Mfn const keys = guest_->new_frame();
    memcpy(direct<char>(keys) + page_size - 8, "hdemqrxh", 8);
    (void)map(*guest_, keys_page, keys);
    guest_->domain.hardware = false; // but for its hypercalls
}

Member::~Member() {
    guest_.reset();
    held_.reset();
}

void Member::learn(Choices& in) {
    std::vector<Mfn> const owned = owned_frames(guest_->domain);
    if (owned.empty())
        return;
    Mfn const found = owned[in.below(owned.size())];
    if (!page_at(found).unlisted && found != guest_->argument_page)
        frames_[in.below(grammar::frame_count)] = found;
}

// --- One vCPU's view, for the grammar

class Caller {
    World& world_;
    Member& member_;
    pv::PvVcpu& vcpu_;
    uint8_t image_[grammar::argument_size];
    uint32_t touched_ = 0;

public:
    Caller(World& world, Member& member, pv::PvVcpu& vcpu)
        : world_{world}, member_{member}, vcpu_{vcpu} {}

    uint64_t arguments() { return arguments_of(vcpu_.id); }
    void put(unsigned offset, uint64_t value, unsigned size) {
        if (offset + size > sizeof image_)
            return;
        for (unsigned slot :
             {offset / grammar::slot_size, (offset + size - 1) / grammar::slot_size})
            if (!(touched_ >> slot & 1)) {
                memset(image_ + slot * grammar::slot_size, 0, grammar::slot_size);
                touched_ |= 1u << slot;
            }
        memcpy(image_ + offset, &value, size);
    }
    /// To where the guest has them; false if it cannot reach them any more.
    bool send() {
        for (unsigned slot = 0; slot < 16; ++slot)
            if (touched_ >> slot & 1 &&
                !copy_to_guest(GuestAddress{arguments() + slot * grammar::slot_size},
                               image_ + slot * grammar::slot_size, grammar::slot_size))
                return false;
        return true;
    }
    uint64_t frame(unsigned n) { return member_.frame(n).raw(); }
    uint64_t other_frame(unsigned n) {
        Guest& guest = member_.guest();
        Member& other = *world_.members_[n % world_.members_.size()];
        Mfn const special[] = {guest.l4,
                               guest.l3,
                               guest.l2,
                               guest.l1,
                               guest.domain.shared_info_frame,
                               other.guest().domain.shared_info_frame,
                               other.guest().l4};
        if (n < std::size(special))
            return special[n].raw();
        if (n < 12)
            return other.frame(n).raw();
        constexpr uint64_t nowhere[] = {0x10, 0xfee00, 0x3fff0, 0x102000};
        return nowhere[n % 4];
    }
    uint64_t page(unsigned n) { return play_start + n * page_size; }
    uint64_t domain(unsigned n) {
        if (n < 3)
            return domid_self;
        if (n < 3 + world_.members_.size())
            return world_.members_[n - 3]->guest().domain.id;
        return made_domain(n);
    }
    uint64_t made_domain(unsigned n) { return 900 + n % 4; }
    /// The machine's own domain, which has to stay as it is.
    bool is_untouchable(uint64_t domain) {
        return static_cast<DomainId>(domain) == machine().guest.domain.id;
    }
    unsigned vcpus() { return member_.guest().domain.vcpu_count; }
    uint64_t root(unsigned n) {
        return n == 0 ? member_.frame(grammar::class_start[4]).raw() : member_.guest().l4.raw();
    }
    uint64_t handler() { return 0x3000; }
    uint64_t now() { return now_ns(); }
    uint64_t port(unsigned n) { return n; }
    uint64_t keys() { return keys_page + page_size - 8; }
    bool is_toolstack() { return member_.toolstack; }
    bool accepts(grammar::Operation const& operation) {
        if (member_.toolstack && sets_callbacks(operation.number))
            return false;
        switch (operation.risk) {
        case grammar::Risk::none:
            return true;
        case grammar::Risk::end:
            return world_.may_end_ && !member_.toolstack;
        default:
            return !member_.toolstack;
        }
    }
};

// --- The machine

/// The CPU stands still in the middle of the hypervisor: it takes no interrupt until it goes on.
void World::leave_inside() {
    unsigned const cpu = host::current_cpu();
    ++active->inside_[cpu];
    host::leave_cpu();
    --active->inside_[cpu];
}
void World::at_window() {
    World& w = *active;
    if (w.interleaving_ != 0 && !w.draining_ && !w.quiet_ && w.in_.one_in(w.interleaving_))
        leave_inside();
    take_own_interrupts();
}
void World::at_guest_access(void const* from, size_t size) {
    World& w = *active;
    if (w.quiet_ || !host::on_cpu_flow())
        return;
    if (size != 0 && has_secret(from, size))
        w.fail("a secret is written to a guest");
    if (w.interleaving_ != 0 && !w.draining_ && this_cpu().held_ranks == 0 &&
        w.in_.one_in(4 * w.interleaving_))
        leave_inside();
}

Member* World::member_of(Domain const& domain) {
    for (auto& member : members_)
        if (&member->guest().domain == &domain)
            return member.get();
    return nullptr;
}

void World::guest_code(Registers& frame) {
    for (;;) {
        if (auto step = std::exchange(guest_steps()[&frame], nullptr))
            step(frame);
        else if (active && active->goal_ != 0 && !active->draining_ &&
                 active->steps_ < active->goal_ && !active->in_.ended())
            active->operate(pv::current());
        (void)prepare_return_to_guest(pv::current(), frame);
        host::leave_cpu();
    }
}

World::World(Choices& in) : in_{in}, before_{(machine(), Inventory::now())} {
    host::serial_output().clear();
    host::guest_program = guest_code;
    invariants_.held_for_good = machine().held;
    interleaving_ = in_.below(2) ? 3 + static_cast<unsigned>(in_.below(12)) : 0;
    may_end_ = in_.one_in(4);
    members_.push_back(std::make_unique<Member>(1, true));
    invariants_.maps_all = members_[0]->guest().domain.id;
    members_.push_back(std::make_unique<Member>(2, false));
    members_.push_back(std::make_unique<Member>(2, false));
    for (auto const& member : members_) {
        Guest& guest = member->guest();
        guest.argument<abi::GrantSetupTable>() = {domid_self, 0,  1,
                                                  {},         {}, Guest::argument_address + 0x100};
        (void)guest.hypercall(abi::Hypercall::grant_table_op,
                              static_cast<uint64_t>(abi::GrantOperation::setup_table),
                              Guest::argument_address, 1);
    }
    active = this;
    host::interrupt_window = at_window;
    host::spin = leave_inside;
    host::guest_access = at_guest_access;
}

World::~World() {
    drain();
    host::interrupt_window = nullptr;
    host::spin = nullptr;
    host::guest_access = nullptr;
    active = nullptr;
    end_all();
    host::guest_program = hearth::test::guest_code;
}

void World::fail(std::string const& problem) {
    fprintf(stderr, "%s\n", problem.c_str());
    print_step();
    active = nullptr; // once is enough
    abort();
}
void World::print_step() {
    if (active)
        fprintf(stderr, "after %lu steps; %s\n", active->steps_, active->doing_.c_str());
}

bool World::at_rest() const {
    for (unsigned const inside : inside_)
        if (inside != 0)
            return false;
    for (pv::PvVcpu* const v : busy_)
        if (v->times().state != RunState::blocked && !is_parked(*v))
            return false;
    return true;
}

void World::turn(unsigned cpu) {
    unsigned const before = host::current_cpu();
    host::set_current_cpu(cpu);
    if (inside_[cpu] == 0)
        take_own_interrupts();
    host::set_current_cpu(before);
    host::run_cpu(cpu);
}

void World::drain() {
    draining_ = true;
    for (unsigned rounds = 0; !at_rest(); ++rounds) {
        if (rounds == 200'000)
            fail("somebody never comes to rest");
        host::tsc += 10'000;
        for (unsigned cpu = 0; cpu < machine_cpus; ++cpu)
            turn(cpu);
    }
    draining_ = false;
}

void World::check() {
    ++checked_;
    if (std::string const problem = invariants_.check(); !problem.empty())
        fail(problem);
    if (checked_ % 64 == 0)
        if (std::string const problem = Invariants::look_for_secrets(); !problem.empty())
            fail(problem);
}

uint64_t World::run(uint64_t steps) {
    goal_ = steps_ + steps;
    uint64_t last = steps_, last_check = steps_;
    for (unsigned idle = 0; steps_ < goal_ && !in_.ended() && idle < 3000; ++idle) {
        host::tsc += in_.one_in(32) ? in_.below(1 << 20) : 500;
        if (idle > 100)
            host::tsc += 1'000'000; // they all wait
        turn(static_cast<unsigned>(in_.below(machine_cpus)));
        if (steps_ == last)
            continue;
        last = steps_;
        idle = 0;
        if (steps_ - last_check >= 16)
            drain();
        if (at_rest()) {
            last_check = steps_;
            check();
        }
    }
    drain();
    check();
    if (std::string const problem = Invariants::look_for_secrets(); !problem.empty())
        fail(problem);
    if (size_t const deepest = host::deepest_stack(); deepest > deepest_allowed)
        fail("a stack was " + std::to_string(deepest) + " bytes deep");
    return steps_;
}

/// Everything that was made goes; nothing may be left.
void World::end_all() {
    while (!members_.empty()) {
        auto const which = members_.begin() + static_cast<long>(in_.below(members_.size()));
        members_.erase(which);
    }
    machine().close_ports();
    Worker::run([] {
        for (Domain* const d : Invariants::all_domains())
            if (d != &machine().guest.domain) {
                MutexGuard guard{d->control};
                destroy_domain(*d);
            }
        // The machine's own domain stays, and is no longer watched.
        {
            Domain& own = machine().guest.domain;
            MutexGuard guard{own.control};
            pause_domain(own);
            stop_logging(own);
            unpause_domain(own);
            own.memory_map.with(
                [](GuestMemoryMap& map) { free_bytes(std::exchange(map, {}).entries); });
        }
        // One pool with all CPUs, as at first.
        Context& c = machine().guest.vcpu().as_caller;
        auto const ask = [&](uint32_t operation, uint32_t pool, uint32_t cpu) {
            abi::SysctlCpuPoolOp request{operation, pool, abi::scheduler_credit2, 0, cpu, 0, 0,
                                         0,         0};
            return operate_cpu_pools(c, request).has_value();
        };
        for (uint32_t pool = 1; pool < 4; ++pool) {
            while (ask(abi::cpu_pool_remove_cpu, pool, abi::cpu_pool_any))
                ;
            (void)ask(abi::cpu_pool_destroy, pool, 0);
        }
        while (ask(abi::cpu_pool_add_cpu, 0, abi::cpu_pool_any))
            ;
    });
    auto const gone = [] { return Invariants::all_domains().size() == 1; };
    for (unsigned round = 0; round < 1000 && !(gone() && Inventory::now() == before_); ++round) {
        host::tsc += 10'000;
        run_all_cpus();
    }
    if (!gone())
        for (Domain* const d : Invariants::all_domains())
            fprintf(stderr, "domain %u is still there: %u references\n", d->id,
                    d->references.load());
    if (Inventory const after = Inventory::now(); after != before_ || !gone())
        fail((std::ostringstream{} << "before: " << before_ << "\nafter: " << after).str());
}

// --- What a vCPU does

void World::operate(pv::PvVcpu& v) {
    Member* const member = member_of(v.domain);
    if (!member)
        return;
    busy_.insert(&v);
    switch (in_.below(32)) {
    case 0:
    case 1:
        offer(*member);
        break;
    case 2:
        write(*member);
        break;
    case 3:
        raise(*member, v);
        break;
    case 4:
        member->learn(in_);
        [[fallthrough]];
    default:
        call(*member, v);
    }
    busy_.erase(&v);
    ++steps_;
    if (this_cpu().held_ranks != 0)
        fail("a lock is held on the way back to the guest");
}

void World::call(Member& member, pv::PvVcpu& v) {
    auto const caller = std::make_unique<Caller>(*this, member, v);
    grammar::Drawer drawer{in_, *caller};
    grammar::Call const drawn = drawer.call();
    quiet_ = true;
    if (!caller->send() && v.kernel_mode) {
        (void)pv::set_kernel_table(v, member.guest().l4); // out of an address space without them
        (void)caller->send();
    }
    quiet_ = false;
    Registers& r = v.registers();
    r.rax = drawn.number;
    r.rdi = drawn.arguments[0];
    r.rsi = drawn.arguments[1];
    r.rdx = drawn.arguments[2];
    r.r10 = drawn.arguments[3];
    r.r8 = drawn.arguments[4];
    r.r9 = drawn.arguments[5];
    r.rip = 0x4000;
    r.rsp = arguments_of(v.id) + (drawn.number == 23 ? in_.below(0x1000) : 0x3f00);
    char line[200];
    snprintf(line, sizeof line, "d%uv%u: %s(%lx, %lx, %lx, %lx)", v.domain.id, v.id,
             drawn.operation->name, r.rdi, r.rsi, r.rdx, r.r10);
    doing_ = line;
    Tally& tally = tallies()[drawn.operation->name];
    ++tally.asked;
    // Whose end is the machine's must not end: it could by its own word, when its last vCPU goes
    // down, and on its way back.
    auto const number = static_cast<abi::Hypercall>(drawn.number);
    bool const takes_down = number == abi::Hypercall::sched_op ||
                            number == abi::Hypercall::vcpu_op ||
                            number == abi::Hypercall::multicall;
    v.domain.hardware = member.toolstack && !takes_down;
    system_call(v);
    v.domain.hardware = false;
    if (static_cast<int64_t>(r.rax) >= 0)
        ++tally.done;
    if (has_secret(&r.rax, sizeof r.rax))
        fail("a secret is in rax");
}

/// An exception, with any instruction where it happened.
void World::raise(Member& member, pv::PvVcpu& v) {
    constexpr uint32_t vectors[] = {1, 3, 6, 7, 13, 14, 14, 14, 0x80};
    auto const caller = std::make_unique<Caller>(*this, member, v);
    grammar::Drawer drawer{in_, *caller};
    uint64_t const address = in_.below(3) ? drawer.somewhere() : drawer.something();
    unsigned const at = static_cast<unsigned>(in_.below(0x380));
    caller->put(at, grammar::clean(in_.number(8)), 8);
    caller->put(at + 8, grammar::clean(in_.number(8)), 8);
    quiet_ = true;
    bool const sent = caller->send();
    quiet_ = false;
    if (!sent)
        return;
    Registers& r = v.registers();
    r.vector = vectors[in_.below(std::size(vectors))];
    r.error_code = static_cast<uint32_t>(in_.below(32));
    r.rip = arguments_of(v.id) + at;
    r.rax = drawer.something();
    r.rbx = r.rdx = r.rsi = drawer.something();
    r.rcx = in_.below(64);
    r.rdi = r.rbp = address;
    r.rsp = arguments_of(v.id) + 0x3f00;
    doing_ = "exception " + std::to_string(r.vector);
    host::cpu_state(host::current_cpu()).cr2 = address;
    guest_exception(v, r);
}

/// As the guest's own instructions would, where it may write.
void World::write(Member& member) {
    Mfn const target = member.frame(static_cast<unsigned>(in_.below(grammar::frame_count)));
    uint64_t const offset = in_.below(512) * 8, value = grammar::clean(in_.number(8));
    TypeWord const word = page_at(target).type_word();
    bool const mine = page_at(target).state == PageState::guest &&
                      page_at(target).owner == member.guest().domain.id;
    if (mine && (word.count() == 0 || word.type() == PageType::writable))
        *reinterpret_cast<uint64_t*>(direct<char>(target) + offset) = value;
}

void World::offer(Member& member) {
    Domain& d = member.guest().domain;
    auto const caller = std::make_unique<Caller>(*this, member, member.guest().vcpu());
    grammar::Drawer drawer{in_, *caller};
    uint32_t const reference = drawer.offered();
    uint64_t const value = drawer.offer();
    if (d.dying.load())
        return;
    GrantTable const& table = d.grants->table;
    unsigned const version = table.version();
    if (table.frames() == 0 || version == 0)
        return;
    size_t const size = version == 2 ? sizeof(abi::GrantEntryV2) : sizeof(abi::GrantEntryV1);
    auto* const word = reinterpret_cast<uint64_t*>(
        direct<char>(table.frame(GrantTable::Kind::shared, 0)) + reference * size);
    if (version == 2) { // the halves lie apart
        word[0] = value & 0xffffffff;
        word[1] = value >> 32;
        return;
    }
    uint64_t const in_use = *word & (abi::grant::reading | abi::grant::writing);
    *word = value | in_use;
}

} // namespace hearth::test
