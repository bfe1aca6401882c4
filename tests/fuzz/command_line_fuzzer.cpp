// Any text as a command line.
#include "boot/boot_text.h"
#include "boot/command_line.h"

#include <string>

using namespace hearth;

namespace {

struct Report final : CommandLineReport {
    std::string_view line;
    void report(Severity, std::string_view word, std::string_view message) override {
        if (word.empty() || message.empty() || word.data() < line.data() ||
            word.data() + word.size() > line.data() + line.size())
            __builtin_trap();
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
    std::string text{reinterpret_cast<char const*>(data), size};
    std::string_view line{text};
    line.remove_prefix(options_start(line, size % 2 == 0));
    Report report;
    report.line = line;
    auto options = parse_command_line(line, report);
    if (options.dom0_max_vcpus_min > options.dom0_max_vcpus_max || options.maxcpus == 0 ||
        options.loglvl.always > options.loglvl.rate_limited || options.com1.clock == 0)
        __builtin_trap();
    for (auto const& amount : {options.dom0_mem, options.dom0_mem_min, options.dom0_mem_max})
        if (amount && amount->less_than_total && amount->percent == 0 &&
            amount->resolve(1_GiB) > 1_GiB)
            __builtin_trap();
    return 0;
}
