#include "boot/command_line.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace hearth {
namespace {

struct Report final : CommandLineReport {
    std::vector<std::string> notes, warnings;
    void report(Severity severity, std::string_view word, std::string_view message) override {
        (severity == Severity::note ? notes : warnings)
            .push_back(std::string{word} + ": " + std::string{message});
    }
};

Options parsed(std::string_view line) {
    Report report;
    auto options = parse_command_line(line, report);
    EXPECT_TRUE(report.warnings.empty()) << line << " -> " << report.warnings.front();
    return options;
}

std::vector<std::string> warnings(std::string_view line) {
    Report report;
    parse_command_line(line, report);
    return report.warnings;
}

TEST(CommandLine, ADebianCommandLine) {
    Report report;
    auto o = parse_command_line(
        "  placeholder dom0_mem=1024M,max:2G console=com1,vga "
        "com1=115200,8n1\tloglvl=all guest_loglvl=error/all no-real-mode edd=off ",
        report);
    EXPECT_TRUE(report.warnings.empty());
    EXPECT_EQ(report.notes.size(), 3u); // placeholder, no-real-mode and edd
    EXPECT_EQ(o.dom0_mem, (MemoryAmount{1_GiB, false, 0}));
    EXPECT_EQ(o.dom0_mem_max, (MemoryAmount{2_GiB, false, 0}));
    EXPECT_FALSE(o.dom0_mem_min);
    EXPECT_TRUE(o.console_com1 && o.console_vga && !o.console_com2);
    EXPECT_TRUE(o.com1_given && !o.com2_given);
    EXPECT_EQ(o.loglvl, (LogThresholds{LogThreshold::debug, LogThreshold::debug}));
    EXPECT_EQ(o.guest_loglvl, (LogThresholds{LogThreshold::error, LogThreshold::debug}));
}

TEST(CommandLine, WhatNothingActsOnSaysSo) {
    Report report;
    parse_command_line("iommu nmi=fatal dom0_mem=1G", report);
    EXPECT_TRUE(report.warnings.empty());
    ASSERT_EQ(report.notes.size(), 1u);
    EXPECT_EQ(report.notes[0], "iommu: understood, but nothing acts on it yet");
    // A value that makes no sense is still the more important news.
    EXPECT_EQ(warnings("nmi=perhaps").size(), 1u);
}

TEST(CommandLine, Sizes) {
    auto bytes = [](std::string_view text) {
        auto o = parsed("dom0_mem=" + std::string{text});
        return o.dom0_mem->bytes;
    };
    EXPECT_EQ(bytes("4096"), 4_MiB); // KiB unless told otherwise
    EXPECT_EQ(bytes("4096B"), 4096u);
    EXPECT_EQ(bytes("512k"), 512_KiB);
    EXPECT_EQ(bytes("7m"), 7_MiB);
    EXPECT_EQ(bytes("3G"), 3_GiB);
    EXPECT_EQ(bytes("1T"), 1_TiB);
    EXPECT_EQ(bytes("0x10M"), 16_MiB);
    EXPECT_EQ(bytes("0x1b"), 27_KiB); // a digit, not a suffix
    for (auto bad :
         {"", "x", "M", "-", "--1G", "1GG", "1 G", "99999999999T", "18446744073709551616B", "0x",
          "1.5G", "+5%", "101%", "5%+1G", "%", "min:", "1G,,2G", "1G,max:zzz"})
        EXPECT_EQ(warnings("dom0_mem=" + std::string{bad}).size(), 1u) << bad;
}

TEST(CommandLine, RelativeAmountsOfMemory) {
    auto amount = [](std::string_view text) {
        return parsed("dom0_mem=" + std::string{text}).dom0_mem->resolve(8_GiB);
    };
    EXPECT_EQ(amount("-1G"), 7_GiB);
    EXPECT_EQ(amount("-9G"), 0u);
    EXPECT_EQ(amount("25%"), 8_GiB / 100 * 25);
    EXPECT_EQ(amount("1G+10%"), 1_GiB + 8_GiB / 100 * 10);
    EXPECT_EQ((MemoryAmount{~uint64_t{0}, false, 100}).resolve(1_GiB), ~uint64_t{0});
    auto o = parsed("dom0_mem=min:1G,max:-512M,2G");
    EXPECT_EQ(o.dom0_mem_min->bytes, 1_GiB);
    EXPECT_TRUE(o.dom0_mem_max->less_than_total);
    EXPECT_EQ(o.dom0_mem->bytes, 2_GiB);
}

TEST(CommandLine, RangesOfVcpus) {
    auto range = [](std::string_view text) {
        auto o = parsed("dom0_max_vcpus=" + std::string{text});
        return std::pair{o.dom0_max_vcpus_min, o.dom0_max_vcpus_max};
    };
    constexpr uint32_t any = ~uint32_t{0};
    EXPECT_EQ(range("4"), (std::pair{4u, 4u}));
    EXPECT_EQ(range("2-8"), (std::pair{2u, 8u}));
    EXPECT_EQ(range("2-"), (std::pair{2u, any}));
    EXPECT_EQ(range("-8"), (std::pair{0u, 8u}));
    for (auto bad : {"", "-", "0", "8-2", "4x", "1-2-3", "4294967297", "9999"})
        EXPECT_EQ(warnings("dom0_max_vcpus=" + std::string{bad}).size(), 1u) << bad;
}

TEST(CommandLine, Booleans) {
    EXPECT_TRUE(parsed("sync_console").sync_console);
    EXPECT_TRUE(parsed("sync-console").sync_console);
    for (auto yes : {"yes", "on", "true", "1", "enable"})
        EXPECT_TRUE(parsed("sync_console=" + std::string{yes}).sync_console);
    for (auto no : {"smep=no", "smep=off", "smep=false", "smep=0", "smep=disable", "no-smep"})
        EXPECT_FALSE(parsed(no).smep) << no;
    EXPECT_FALSE(parsed("").x2apic.has_value());
    EXPECT_EQ(parsed("x2apic").x2apic, true);
    EXPECT_EQ(parsed("no-x2apic").x2apic, false);
    EXPECT_FALSE(parsed("noreboot noreboot=no").noreboot);
    EXPECT_FALSE(parsed("smap=hvm").smap);
    EXPECT_EQ(parsed("nosmp").maxcpus, 1u);
    EXPECT_EQ(parsed("maxcpus=3 no-nosmp").maxcpus, 3u);
}

TEST(CommandLine, SerialPorts) {
    auto o = parsed("com1=38400/921600,7e2,0x2e8,5 com2=auto");
    EXPECT_EQ(o.com1.baud, 38400u);
    EXPECT_EQ(o.com1.clock, 921600u * 16);
    EXPECT_EQ(o.com1.line_control, 0x1e); // 7 bits, even, 2 stop
    EXPECT_EQ(o.com1.port, 0x2e8);
    EXPECT_EQ(o.com1.irq, 5);
    EXPECT_TRUE(o.com2_given);
    EXPECT_EQ(o.com2.baud, 0u);
    EXPECT_EQ(o.com2.port, 0x2f8);
    EXPECT_EQ(o.com2.irq, 3);
    EXPECT_EQ(parsed("com1=9600,,0x3e8").com1.port, 0x3e8);
    EXPECT_EQ(parsed("com1=9600,8n1").com1.line_control, 0x03);
    for (auto bad :
         {"", "0", "fast", "9600/0", "9600/1200", "9600,9n1", "9600,8x1", "9600,8n3", "9600,8n1,0",
          "9600,8n1,0x10000", "9600,8n1,0x3f8,256", "9600,8n1,0x3f8,4,1"}) {
        Report report;
        auto options = parse_command_line("com1=" + std::string{bad}, report);
        EXPECT_EQ(report.warnings.size(), 1u) << bad;
        EXPECT_FALSE(options.com1_given) << bad;
        EXPECT_EQ(options.com1.port, 0x3f8) << bad;
    }
}

TEST(CommandLine, Consoles) {
    auto o = parsed("console=none");
    EXPECT_FALSE(o.console_com1 || o.console_com2 || o.console_vga);
    EXPECT_EQ(warnings("console=com1,dbgp").size(), 1u);
    Report report;
    EXPECT_TRUE(parse_command_line("console=dbgp,com2", report).console_com2);
    EXPECT_TRUE(parse_command_line("console=dbgp", report).console_vga); // nothing useful: default
    EXPECT_EQ(report.warnings.size(), 2u);
}

TEST(CommandLine, DefencesAgainstSpeculation) {
    auto const defences = [](std::string_view line) { return parsed(line).defences; };
    EXPECT_FALSE(defences("").all || defences("").retpolines);
    EXPECT_EQ(defences("no-spec-ctrl").all, false);
    EXPECT_EQ(defences("spec-ctrl=on").all, true);
    EXPECT_EQ(defences("spec-ctrl=bti-thunk=jmp,no-rsb").retpolines, false);
    EXPECT_EQ(defences("spec-ctrl=bti-thunk=retpoline,rsb=1").retpolines, true);
    EXPECT_EQ(defences("spec-ctrl=no-rsb").fill_return_stack, false);
    EXPECT_EQ(defences("spec-ctrl=md-clear=yes").clear_buffers, true);
    EXPECT_EQ(defences("spec-ctrl=ibpb=off").barrier_on_switch, false);
    EXPECT_EQ(defences("spec-ctrl=no").isolation, std::nullopt);
    EXPECT_EQ(defences("xpti").isolation, true);
    EXPECT_EQ(defences("no-xpti").isolation, false);
    EXPECT_EQ(defences("xpti=no xpti=default").isolation, std::nullopt);
    for (auto const* const unknown : {"xpti=dom0=no", "xpti=no-domu", "xpti=perhaps", "xpti="})
        EXPECT_EQ(warnings(unknown).size(), 1u) << unknown;
    EXPECT_EQ(defences("pv-l1tf").absent_entries, true);
    EXPECT_EQ(defences("pv-l1tf").absent_entries_of_domain0, true);
    EXPECT_EQ(defences("pv-l1tf=dom0,no-domu").absent_entries, false);
    EXPECT_EQ(defences("pv-l1tf=dom0,no-domu").absent_entries_of_domain0, true);
    EXPECT_EQ(defences("pv-l1tf=domu=no").absent_entries, false);
    EXPECT_EQ(defences("pv-l1tf=domu=no").absent_entries_of_domain0, std::nullopt);
    for (auto const* const unknown : {"pv-l1tf=", "pv-l1tf=dom0=perhaps", "pv-l1tf=shadow"})
        EXPECT_EQ(warnings(unknown).size(), 1u) << unknown;
    EXPECT_EQ(warnings("spec-ctrl=l1d-flush").size(), 1u);
    EXPECT_EQ(warnings("spec-ctrl=rsb=perhaps").size(), 1u);
    EXPECT_EQ(warnings("spec-ctrl=bti-thunk=prayer").size(), 1u);
}

TEST(CommandLine, TheWatchdogsTimeSaysWhetherThereIsOne) {
    EXPECT_TRUE(parsed("watchdog_timeout=3").watchdog);
    EXPECT_FALSE(parsed("watchdog watchdog_timeout=0").watchdog);
}

TEST(CommandLine, TheRest) {
    auto o = parsed(
        "mem=2G maxcpus=4 reboot=acpi,kbd watchdog_timeout=9 nmi=fatal clocksource=hpet "
        "gnttab_max_frames=128 gnttab_max_maptrack_frames=5 conring_size=64k dom0=pv,verbose "
        "iommu=required,no-intremap console_timestamps=date loglvl=none fsgsbase=0 pcid=no");
    EXPECT_EQ(o.mem, 2_GiB);
    EXPECT_EQ(o.maxcpus, 4u);
    EXPECT_EQ(o.reboot, ResetMethod::keyboard);
    EXPECT_TRUE(o.watchdog);
    EXPECT_EQ(o.watchdog_timeout, 9u);
    EXPECT_EQ(o.nmi, NmiAction::fatal);
    EXPECT_EQ(o.clocksource, ClockChoice::hpet);
    EXPECT_EQ(o.gnttab_max_frames, 128u);
    EXPECT_EQ(o.gnttab_max_maptrack_frames, 5u);
    EXPECT_EQ(o.sched_ratelimit_us, 100u);
    EXPECT_EQ(parsed("sched_ratelimit_us=0").sched_ratelimit_us, 0u);
    EXPECT_EQ(parsed("sched_ratelimit_us=1000").sched_ratelimit_us, 1000u);
    EXPECT_EQ(o.conring_size, 64_KiB);
    EXPECT_TRUE(o.iommu && o.iommu_required && !o.iommu_intremap);
    EXPECT_TRUE(o.console_timestamps);
    EXPECT_EQ(o.loglvl.rate_limited, LogThreshold::none);
    EXPECT_FALSE(o.fsgsbase || o.pcid);
    EXPECT_FALSE(parsed("iommu=0").iommu);
}

TEST(CommandLine, NothingPassesInSilence) {
    EXPECT_EQ(warnings("bogus"), std::vector<std::string>{"bogus: unknown option"});
    EXPECT_EQ(warnings("bogus=7 no-bogus no-mem").size(), 3u);
    EXPECT_EQ(warnings("mem"), std::vector<std::string>{"mem: lacks a value"});
    for (auto bad : {"smep=maybe",
                     "no-smep=yes",
                     "=",
                     "=1",
                     "no-",
                     "loglvl=loud",
                     "loglvl=info/loud",
                     "mem=1K",
                     "maxcpus=0",
                     "gnttab_max_frames=0",
                     "sched_ratelimit_us=99",
                     "sched_ratelimit_us=500001",
                     "gnttab_max_frames=99999999",
                     "reboot=x",
                     "nmi=maybe",
                     "clocksource=sundial",
                     "dom0=pvh",
                     "dom0=other",
                     "iommu=quantum",
                     "pcid=xpti",
                     "conring_size=1",
                     "watchdog_timeout=3601",
                     "console=",
                     "dom0=",
                     "iommu=",
                     "nmi=",
                     "reboot=",
                     "loglvl=",
                     "loglvl=info/"})
        EXPECT_EQ(warnings(bad).size(), 1u) << bad;
    Report report;
    parse_command_line("sched=credit2 ucode=scan", report);
    EXPECT_TRUE(report.warnings.empty());
    EXPECT_EQ(report.notes.size(), 2u);
}

TEST(CommandLine, WhatFollowsTwoDashesIsForDomain0) {
    EXPECT_EQ(parsed("smep --  root=/dev/sda1 bogus").for_dom0, "root=/dev/sda1 bogus");
    EXPECT_EQ(parsed("smep --").for_dom0, "");
    EXPECT_EQ(warnings("bogus -- other").size(), 1u);
}

TEST(CommandLine, EveryOptionIsDocumented) {
    auto path = std::filesystem::path{__FILE__}.parent_path() / "../../docs/command-line.md";
    std::ifstream stream{path};
    ASSERT_TRUE(stream) << path;
    std::string document{std::istreambuf_iterator<char>{stream}, {}};
    for (auto const& row : option_table()) {
        EXPECT_NE(document.find("`" + std::string{row.name} + "`"), document.npos) << row.name;
        EXPECT_FALSE(row.help.empty()) << row.name;
        EXPECT_EQ(row.ignored, row.parse == nullptr) << row.name;
    }
}

} // namespace
} // namespace hearth
