#include "boot/command_line.h"

#include "abi/sysctl.h"
#include "boot/option_values.h"

#include <algorithm>

namespace hearth {
namespace {

using namespace option_values;
using Message = std::string_view;

constexpr Message fine{};
constexpr Message malformed = "malformed value";
constexpr Message range = "value out of range";

Message set(bool& to, std::string_view text) {
    auto value = boolean(text);
    if (!value)
        return malformed;
    to = *value;
    return fine;
}

Message set(std::optional<bool>& to, std::string_view text) {
    auto value = boolean(text);
    if (!value)
        return malformed;
    to = value;
    return fine;
}

Message set(uint32_t& to, std::string_view text, uint64_t low, uint64_t high) {
    auto value = unsigned_number(text);
    if (!value)
        return malformed;
    if (*value < low || *value > high)
        return range;
    to = static_cast<uint32_t>(*value);
    return fine;
}

template <class T>
struct Choice {
    std::string_view name;
    T value;
};

template <class T, size_t N>
Message set(T& to, std::string_view text, Choice<T> const (&choices)[N]) {
    for (auto const& choice : choices)
        if (same_name(choice.name, text)) {
            to = choice.value;
            return fine;
        }
    return malformed;
}

Message set_dom0_mem(Options& o, std::string_view text) {
    Options result = o;
    if (text.empty())
        return malformed;
    while (!text.empty()) {
        auto word = next_field(text, ',');
        auto* target = &result.dom0_mem;
        if (word.starts_with("min:"))
            target = &result.dom0_mem_min;
        else if (word.starts_with("max:"))
            target = &result.dom0_mem_max;
        if (target != &result.dom0_mem)
            word.remove_prefix(4);
        *target = memory_amount(word);
        if (!*target)
            return malformed;
    }
    o = result;
    return fine;
}

Message set_dom0_max_vcpus(Options& o, std::string_view text) {
    constexpr uint32_t most = 8192;
    uint32_t low = 0, high = ~uint32_t{0};
    auto dash = text.find('-');
    auto first = text.substr(0, dash);
    if (dash == text.npos) {
        if (auto wrong = set(high, text, 1, most); !wrong.empty())
            return wrong;
        low = high;
    } else {
        auto second = text.substr(dash + 1);
        if (first.empty() && second.empty())
            return malformed;
        if (auto wrong = first.empty() ? fine : set(low, first, 1, most); !wrong.empty())
            return wrong;
        if (auto wrong = second.empty() ? fine : set(high, second, 1, most); !wrong.empty())
            return wrong;
        if (low > high)
            return range;
    }
    o.dom0_max_vcpus_min = low;
    o.dom0_max_vcpus_max = high;
    return fine;
}

Message set_console(Options& o, std::string_view text) {
    bool com1 = false, com2 = false, vga = false;
    Message result = text.empty() ? malformed : fine;
    while (!text.empty()) {
        auto word = next_field(text, ',');
        if (word == "com1")
            com1 = true;
        else if (word == "com2")
            com2 = true;
        else if (word == "vga")
            vga = true;
        else if (word != "none")
            result = "names a console that is not com1, com2, vga or none";
    }
    // The consoles that were understood count: a console too few is worse than the warning.
    if (com1 || com2 || vga || result.empty()) {
        o.console_com1 = com1;
        o.console_com2 = com2;
        o.console_vga = vga;
    }
    return result;
}

Message set_serial(UartSettings& to, bool& given, std::string_view text) {
    if (!serial(to, text))
        return malformed;
    given = true;
    return fine;
}

Message set_log(LogThresholds& to, std::string_view text) {
    constexpr Choice<LogThreshold> levels[] = {
        {"none", LogThreshold::none},       {"error", LogThreshold::error},
        {"warning", LogThreshold::warning}, {"info", LogThreshold::info},
        {"debug", LogThreshold::debug},     {"all", LogThreshold::debug}};
    LogThresholds result;
    auto slash = text.find('/');
    if (auto wrong = set(result.always, text.substr(0, slash), levels); !wrong.empty())
        return wrong;
    result.rate_limited = result.always;
    if (slash != text.npos)
        if (auto wrong = set(result.rate_limited, text.substr(slash + 1), levels); !wrong.empty())
            return wrong;
    result.rate_limited = std::max(result.rate_limited, result.always);
    to = result;
    return fine;
}

/// A list of names, of which the first letter counts; of several methods the last one.
Message set_reboot(Options& o, std::string_view text) {
    constexpr Choice<ResetMethod> methods[] = {
        {"n", ResetMethod::none}, {"k", ResetMethod::keyboard},     {"a", ResetMethod::acpi},
        {"p", ResetMethod::pci},  {"t", ResetMethod::triple_fault}, {"e", ResetMethod::automatic}};
    if (text.empty())
        return malformed;
    Message wrong = fine;
    while (!text.empty()) {
        auto word = next_field(text, ',');
        if (!set(o.reboot, word.substr(0, 1), methods).empty() && word != "warm" && word != "w" &&
            word != "cold" && word != "c")
            return malformed;
        if (word.starts_with('e'))
            wrong = "asks for a reset by EFI, which we lack; chosen by Hearth";
    }
    return wrong;
}

Message set_conring_size(Options& o, std::string_view text) {
    auto value = size(text);
    if (!value)
        return malformed;
    if (*value < 4_KiB || *value > 64_MiB)
        return range;
    o.conring_size = *value;
    return fine;
}

Message set_mem(Options& o, std::string_view text) {
    auto value = size(text);
    if (!value)
        return malformed;
    if (*value < 64_MiB)
        return range;
    o.mem = value;
    return fine;
}

Message set_watchdog(Options& o, std::string_view text) {
    if (text == "force")
        text = "yes";
    return set(o.watchdog, text);
}

Message set_nmi(Options& o, std::string_view text) {
    constexpr Choice<NmiAction> actions[] = {
        {"ignore", NmiAction::ignore}, {"dom0", NmiAction::to_dom0}, {"fatal", NmiAction::fatal}};
    return set(o.nmi, text, actions);
}

Message set_clocksource(Options& o, std::string_view text) {
    constexpr Choice<ClockChoice> clocks[] = {{"pit", ClockChoice::pit},
                                              {"hpet", ClockChoice::hpet},
                                              {"acpi", ClockChoice::acpi},
                                              {"tsc", ClockChoice::tsc}};
    return set(o.clocksource, text, clocks);
}

Message set_scheduler(Options&, std::string_view text) {
    if (text == "credit2" || text == "credit")
        return "taken as the name of our own scheduler, the only one";
    return "names a scheduler that we lack; our own is used";
}

Message set_rate_limit(Options& o, std::string_view text) {
    uint32_t limit = 0;
    if (auto wrong = set(limit, text, 0, abi::rate_limit_maximum); !wrong.empty())
        return wrong;
    if (limit != 0 && limit < abi::rate_limit_minimum)
        return range;
    o.sched_ratelimit_us = limit;
    return fine;
}

/// smep= and smap=: "hvm" means for HVM guests only, not for ourselves.
Message set_protection(bool& to, std::string_view text) {
    if (text == "hvm") {
        to = false;
        return fine;
    }
    return set(to, text);
}

Message set_pcid(Options& o, std::string_view text) {
    if (text == "xpti" || text == "no-xpti" || text == "noxpti")
        return "makes no difference with XPTI here; the default stands";
    return set(o.pcid, text);
}

Message set_dom0(Options&, std::string_view text) {
    Message result = text.empty() ? malformed : fine;
    while (!text.empty()) {
        auto word = next_field(text, ',');
        if (word == "pvh")
            result = "asks for a PVH Domain 0, which we lack; it is PV";
        else if (word != "pv" && word != "verbose" && word != "no-verbose")
            result = malformed;
    }
    return result;
}

/// One of several parts of a value: name, name=BOOLEAN or no-name.
struct Part {
    std::string_view name;
    bool on = true;
    bool sound = true;
};
Part part_of(std::string_view word) {
    if (auto equals = word.find('='); equals != word.npos) {
        auto value = boolean(word.substr(equals + 1));
        return {word.substr(0, equals), value.value_or(true), value.has_value()};
    }
    return word.starts_with("no-") ? Part{word.substr(3), false} : Part{word};
}

constexpr Message no_such_part = "has a part without effect here";

/// Words between commas: a boolean is about the whole, and `one` says what is wrong with another.
template <class Whole, class One>
Message set_each(std::string_view text, Whole whole, One one) {
    Message result = text.empty() ? malformed : fine;
    while (!text.empty()) {
        auto const word = next_field(text, ',');
        if (auto const value = boolean(word))
            whole(*value);
        else if (Message const wrong = one(word); !wrong.empty())
            result = wrong;
    }
    return result;
}

Message set_iommu(Options& o, std::string_view text) {
    return set_each(
        text, [&](bool value) { o.iommu = value; },
        [&](std::string_view word) {
            auto const [name, on, sound] = part_of(word);
            if (name == "required" || name == "force")
                o.iommu_required = on;
            else if (name == "verbose" || name == "debug")
                o.iommu_verbose = on;
            else if (name == "intremap")
                o.iommu_intremap = on;
            else
                return no_such_part;
            return sound ? fine : malformed;
        });
}

Message set_defences(Options& o, std::string_view text) {
    return set_each(
        text, [&](bool value) { o.defences.all = value; },
        [&](std::string_view word) {
            if (word == "bti-thunk=retpoline" || word == "bti-thunk=jmp") {
                o.defences.retpolines = word.ends_with("retpoline");
                return fine;
            }
            auto const [name, on, sound] = part_of(word);
            if (!sound)
                return malformed;
            if (name == "rsb")
                o.defences.fill_return_stack = on;
            else if (name == "md-clear" || name == "verw")
                o.defences.clear_buffers = on;
            else if (name == "ibpb")
                o.defences.barrier_on_switch = on;
            else
                return no_such_part;
            return fine;
        });
}

Message set_isolation(Options& o, std::string_view text) {
    if (text == "default") {
        o.defences.isolation.reset();
        return fine;
    }
    if (auto value = boolean(text)) {
        o.defences.isolation = value;
        return fine;
    }
    if (Part const part = part_of(text); part.name == "dom0" || part.name == "domu")
        return "all domains are treated alike; the default stands";
    return malformed;
}

Message set_absent_entries(Options& o, std::string_view text) {
    return set_each(
        text,
        [&](bool value) {
            o.defences.absent_entries = o.defences.absent_entries_of_domain0 = value;
        },
        [&](std::string_view word) {
            auto const [name, on, sound] = part_of(word);
            if (!sound)
                return malformed;
            if (name == "dom0")
                o.defences.absent_entries_of_domain0 = on;
            else if (name == "domu")
                o.defences.absent_entries = on;
            else
                return no_such_part;
            return fine;
        });
}

// The form of each row: name, what may follow '=', help, properties, parser.
using O = Options;
using T = std::string_view;
constexpr OptionRow table[] = {
    {.name = "dom0_mem",
     .form = "SIZE | min:SIZE | max:SIZE, comma-separated",
     .help = "Memory of Domain 0; negative: what to leave; may be PERCENT% or SIZE+PERCENT%",
     .parse = set_dom0_mem},
    {.name = "dom0_max_vcpus",
     .form = "N | MIN-MAX | MIN- | -MAX",
     .help = "Number of Domain 0's virtual CPUs",
     .parse = set_dom0_max_vcpus},
    {.name = "dom0_vcpus_pin",
     .form = "BOOLEAN",
     .help = "Bind each of Domain 0's virtual CPUs to a CPU of its own",
     .bare = true,
     .parse = [](O& o, T v) { return set(o.dom0_vcpus_pin, v); }},
    {.name = "dom0", .form = "pv | pvh", .help = "Kind of Domain 0; pv only", .parse = set_dom0},
    {.name = "console",
     .form = "com1 | com2 | vga | none, comma-separated",
     .help = "Where messages go",
     .parse = set_console},
    {.name = "com1",
     .form = "BAUD[/BASE][,[DPS][,[PORT][,IRQ]]]",
     .help = "First serial port; BAUD auto keeps what the firmware set",
     .parse = [](O& o, T v) { return set_serial(o.com1, o.com1_given, v); }},
    {.name = "com2",
     .form = "BAUD[/BASE][,[DPS][,[PORT][,IRQ]]]",
     .help = "Second serial port",
     .parse = [](O& o, T v) { return set_serial(o.com2, o.com2_given, v); }},
    {.name = "sync_console",
     .form = "BOOLEAN",
     .help = "Wait for each character to leave the serial port",
     .bare = true,
     .parse = [](O& o, T v) { return set(o.sync_console, v); }},
    {.name = "console_timestamps",
     .form = "BOOLEAN | none | boot | date | datems | raw",
     .help = "Show seconds since start before each line",
     .bare = true,
     .parse =
         [](O& o, T v) {
             bool on = v == "boot" || v == "date" || v == "datems" || v == "raw";
             return set(o.console_timestamps, on ? "yes" : v == "none" ? "no" : v);
         }},
    {.name = "conring_size",
     .form = "SIZE",
     .help = "Size of the message ring that `xl dmesg` reads",
     .parse = set_conring_size},
    {.name = "loglvl",
     .form = "LEVEL[/LEVEL], of none, error, warning, info, debug, all",
     .help = "Messages always shown / shown at a limited rate",
     .parse = [](O& o, T v) { return set_log(o.loglvl, v); }},
    {.name = "guest_loglvl",
     .form = "LEVEL[/LEVEL]",
     .help = "The same for messages that guests cause",
     .parse = [](O& o, T v) { return set_log(o.guest_loglvl, v); }},
    {.name = "mem", .form = "SIZE", .help = "Use memory below this address only", .parse = set_mem},
    {.name = "maxcpus",
     .form = "N",
     .help = "Use this many CPUs at most",
     .parse = [](O& o, T v) { return set(o.maxcpus, v, 1, 8192); }},
    {.name = "nosmp",
     .form = "BOOLEAN",
     .help = "Use one CPU",
     .bare = true,
     .parse =
         [](O& o, T v) {
             bool one = false;
             auto wrong = set(one, v);
             if (one)
                 o.maxcpus = 1;
             return wrong;
         }},
    {.name = "noreboot",
     .form = "BOOLEAN",
     .help = "Stop after a crash instead of rebooting",
     .bare = true,
     .parse = [](O& o, T v) { return set(o.noreboot, v); }},
    {.name = "reboot",
     .form = "no | acpi | kbd | pci | efi | triple",
     .help = "How to reboot the machine",
     .parse = set_reboot},
    {.name = "watchdog",
     .form = "BOOLEAN | force",
     .help = "Stop with a report when a CPU hangs",
     .bare = true,
     .parse = set_watchdog},
    {.name = "watchdog_timeout",
     .form = "SECONDS",
     .help = "How long a CPU may hang; turns the watchdog on, 0 turns it off",
     .parse =
         [](O& o, T v) {
             uint32_t seconds = 0;
             auto const wrong = set(seconds, v, 0, 3600);
             if (wrong.empty())
                 o.watchdog = seconds != 0;
             if (seconds != 0)
                 o.watchdog_timeout = seconds;
             return wrong;
         }},
    {.name = "nmi",
     .form = "ignore | dom0 | fatal",
     .help = "What to do about an NMI of unknown cause",
     .parse = set_nmi},
    {.name = "clocksource",
     .form = "pit | hpet | acpi | tsc",
     .help = "The clock that the others are measured by",
     .parse = set_clocksource},
    {.name = "x2apic",
     .form = "BOOLEAN",
     .help = "Use the local APIC's x2APIC mode",
     .bare = true,
     .parse = [](O& o, T v) { return set(o.x2apic, v); }},
    {.name = "smep",
     .form = "BOOLEAN | hvm",
     .help = "Supervisor-mode execution prevention",
     .bare = true,
     .parse = [](O& o, T v) { return set_protection(o.smep, v); }},
    {.name = "smap",
     .form = "BOOLEAN | hvm",
     .help = "Supervisor-mode access prevention",
     .bare = true,
     .parse = [](O& o, T v) { return set_protection(o.smap, v); }},
    {.name = "pcid",
     .form = "BOOLEAN",
     .help = "Process-context identifiers",
     .bare = true,
     .parse = set_pcid},
    {.name = "fsgsbase",
     .form = "BOOLEAN",
     .help = "The instructions that read and write FS and GS bases",
     .bare = true,
     .parse = [](O& o, T v) { return set(o.fsgsbase, v); }},
    {.name = "xsave",
     .form = "BOOLEAN",
     .help = "Extended processor state (AVX and later)",
     .bare = true,
     .parse = [](O& o, T v) { return set(o.xsave, v); }},
    {.name = "spec-ctrl",
     .form =
         "BOOLEAN | bti-thunk=retpoline|jmp | [no-]rsb | [no-]verw | [no-]ibpb, comma-separated",
     .help = "Defences against speculative execution",
     .bare = true,
     .parse = set_defences},
    {.name = "xpti",
     .form = "BOOLEAN | default",
     .help = "Run guests with nearly nothing of the hypervisor's mapped",
     .bare = true,
     .parse = set_isolation},
    {.name = "pv-l1tf",
     .form = "BOOLEAN | [no-]dom0 | [no-]domu, comma-separated",
     .help = "End domains whose absent page-table entries name memory",
     .bare = true,
     .parse = set_absent_entries},
    {.name = "iommu",
     .form = "BOOLEAN | [no-]required | [no-]verbose | [no-]intremap, comma-separated",
     .help = "Use of the IOMMU",
     .bare = true,
     .no_effect = true,
     .parse = set_iommu},
    {.name = "gnttab_max_frames",
     .form = "N",
     .help = "Pages of grant table that a domain may have",
     .parse = [](O& o, T v) { return set(o.gnttab_max_frames, v, 1, 1u << 16); }},
    {.name = "gnttab_max_maptrack_frames",
     .form = "N",
     .help = "Pages of records of grants that a domain has mapped",
     .parse = [](O& o, T v) { return set(o.gnttab_max_maptrack_frames, v, 1, 1u << 20); }},
    {.name = "sched_ratelimit_us",
     .form = "US",
     .help = "How long a vCPU runs at least before another takes its place; 0: not at all",
     .parse = set_rate_limit},
    {.name = "sched",
     .form = "credit2 | credit",
     .help = "Both mean our own scheduler, with a note",
     .parse = set_scheduler},
    // What Xen's users and Debian's GRUB scripts write and we have no use for.
    {.name = "ucode", .form = "...", .help = "Microcode update", .bare = true, .ignored = true},
    {.name = "cpufreq", .form = "...", .help = "CPU frequency", .bare = true, .ignored = true},
    {.name = "cpuidle", .form = "...", .help = "CPU idle states", .bare = true, .ignored = true},
    {.name = "max_cstate", .form = "...", .help = "CPU idle states", .ignored = true},
    {.name = "vga", .form = "...", .help = "Text or graphics mode", .ignored = true},
    {.name = "edd", .form = "...", .help = "BIOS disk information", .ignored = true},
    {.name = "edid", .form = "...", .help = "Monitor information", .ignored = true},
    {.name = "real-mode", .form = "...", .help = "BIOS calls", .bare = true, .ignored = true},
    {.name = "bootscrub", .form = "...", .help = "Clear memory", .bare = true, .ignored = true},
    {.name = "crashkernel", .form = "...", .help = "Memory for a crash kernel", .ignored = true},
    {.name = "placeholder", .form = "", .help = "GRUB's filler", .bare = true, .ignored = true},
};

OptionRow const* find_row(std::string_view name) {
    auto const* row = std::ranges::find_if(
        table, [&](OptionRow const& candidate) { return same_name(candidate.name, name); });
    return row == std::end(table) ? nullptr : row;
}

void parse_word(Options& options, std::string_view word, CommandLineReport& report) {
    using enum CommandLineReport::Severity;
    auto equals = word.find('=');
    bool has_value = equals != word.npos;
    auto name = word.substr(0, equals);
    auto value = has_value ? word.substr(equals + 1) : "yes";
    auto const* row = find_row(name);
    if (row == nullptr && !has_value && name.starts_with("no-")) {
        row = find_row(name.substr(3));
        value = "no";
        if (row != nullptr && !row->bare)
            row = nullptr;
    }
    if (row == nullptr) {
        report.report(warning, word, "unknown option");
    } else if (row->ignored) {
        report.report(note, word, "ignored: has no meaning here");
    } else if (!has_value && !row->bare) {
        report.report(warning, word, "lacks a value");
    } else if (auto message = row->parse(options, value); !message.empty()) {
        report.report(row->parse == set_scheduler ? note : warning, word, message);
    } else if (row->no_effect) {
        report.report(note, word, "understood, but nothing acts on it yet");
    }
}

} // namespace

std::span<OptionRow const> option_table() { return table; }

Options parse_command_line(std::string_view line, CommandLineReport& report) {
    Options options;
    while (!line.empty()) {
        auto word = next_word(line);
        if (word == "--") {
            options.for_dom0 = line.substr(std::min(line.find_first_not_of(" \t"), line.size()));
            break;
        }
        if (!word.empty())
            parse_word(options, word, report);
    }
    return options;
}

} // namespace hearth
