// A machine full of guests that ask for anything: a Domain 0 and two others, each vCPU drawing its
// hypercalls from the grammar, the CPUs interleaved as the same choices have it. One world is one
// input of the fuzzer, or one stretch of a long run.
#pragma once

#include "grammar/drawer.h"
#include "invariants.h"

#include <array>
#include <memory>
#include <optional>
#include <set>

namespace hearth::test {

/// How often each operation was asked for, and how often it was done.
struct Tally {
    uint64_t asked = 0, done = 0;
};
std::map<std::string, Tally>& tallies();

/// One of the world's guests.
class Member {
    std::unique_ptr<Guest> guest_;
    std::optional<DomainRef> held_; // a toolstack may end it; its structures stay
    std::array<Mfn, grammar::frame_count> frames_;
    std::vector<Mfn> argument_frames_;

public:
    Member(unsigned vcpus, bool toolstack);
    ~Member();
    Guest& guest() { return *guest_; }
    [[nodiscard]] Mfn frame(unsigned n) const { return frames_[n]; }
    /// Another of its frames is known from now on.
    void learn(grammar::Choices& in);
    bool toolstack;
};

class World {
    grammar::Choices& in_;
    Inventory const before_;
    std::vector<std::unique_ptr<Member>> members_;
    Invariants invariants_;
    std::set<pv::PvVcpu*> busy_; // in the middle of something
    unsigned inside_[machine_cpus]{};
    uint64_t steps_ = 0, goal_ = 0, checked_ = 0;
    unsigned interleaving_ = 0; // how rarely a CPU is left in the middle of something; 0: never
    bool draining_ = false, quiet_ = false, may_end_ = false;
    std::string doing_;

    [[noreturn]] static void guest_code(Registers& frame);
    static void at_window();
    static void at_guest_access(void const* from, size_t size);
    static void leave_inside();

    [[nodiscard]] bool at_rest() const;
    void operate(pv::PvVcpu& v);
    void call(Member& member, pv::PvVcpu& v);
    void raise(Member& member, pv::PvVcpu& v);
    void write(Member& member);
    void offer(Member& member);
    void turn(unsigned cpu);
    void drain();
    void check();
    void end_all();
    Member* member_of(Domain const& domain);

    friend class Caller;

public:
    explicit World(grammar::Choices& in);
    ~World();
    World(World const&) = delete;
    World& operator=(World const&) = delete;
    /// Aborts, and says why, when something does not hold.
    uint64_t run(uint64_t steps);
    [[noreturn]] void fail(std::string const& problem);
    /// To the standard error, what the world was doing: for whoever dies of something else.
    static void print_step();
};

} // namespace hearth::test
