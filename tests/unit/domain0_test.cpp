// Building Domain 0: what its kernel finds at its first instruction.
#include "boot/domain0.h"

#include "elf_builder.h"
#include "fake_machine.h"

#include <gtest/gtest.h>

#include <cstring>

namespace hearth::test {
namespace {

constexpr uint64_t virt_base = 0xffffffff80000000, start = 0x1000000, kernel_size = 0x3000,
                   entry = virt_base + start + 0x40, hypercall_page = virt_base + start + 0x1000,
                   p2m_address = 0x8000000000;
constexpr uint64_t pages = 16384;

std::vector<Note> ordinary_notes() {
    return {text_note(6, "linux"),
            text_note(5, "xen-3.0"),
            number_note(3, virt_base),
            number_note(1, entry),
            number_note(2, hypercall_page),
            text_note(10, "!writable_page_tables"),
            text_note(9, "yes"),
            text_note(8, "generic")};
}
ByteVector kernel_with(std::vector<Note> const& list) {
    ByteVector file =
        elf_file({{virt_base + start, start, kernel_size, kernel_size + 0x1800, 4096, 1, 0x1000}},
                 notes(list));
    for (uint64_t i = 0; i < kernel_size; ++i)
        put<uint8_t>(file, 0x1000 + i, static_cast<uint8_t>(i * 7 + (i >> 8)));
    return file;
}

unsigned times_gone;

class Domain0 : public testing::Test {
protected:
    ByteVector file, ramdisk;
    Domain0Request request;
    Domain* domain = nullptr;

    Domain0() {
        boot_machine();
        times_gone = 0;
        for (unsigned i = 0; i < 10'000; ++i)
            ramdisk.push_back(static_cast<std::byte>(i % 251));
        request.ramdisk = bytes(ramdisk);
        request.command_line = "console=hvc0";
        request.pages = pages;
        request.max_pages = 2 * pages;
        request.vcpus = 2;
    }
    ~Domain0() override { end(); }
    void end() {
        if (domain)
            Worker::run([this] {
                MutexGuard guard{domain->control};
                destroy_domain(*domain);
            });
        domain = nullptr;
        for (unsigned round = 0; round < 4; ++round) // the reaper's turn
            run_all_cpus();
    }
    /// Why it could not be built; nothing if it was.
    std::string_view build(std::vector<Note> const& list) {
        file = kernel_with(list);
        request.kernel_file = bytes(file);
        std::string_view reason;
        Worker::run([&] {
            auto const built = build_domain0(request, [] { ++times_gone; });
            if (built)
                domain = *built;
            else
                reason = built.error().reason;
        });
        return reason;
    }
    [[nodiscard]] pv::PvVcpu& vcpu() const { return pv::pv_vcpu(*domain->vcpus[0]); }
    [[nodiscard]] std::optional<Pte> mapping(uint64_t address) const {
        auto const found = pv::peek_l1_entry(vcpu().kernel_table, address);
        return found && found->present() ? found : std::nullopt;
    }
    template <class T>
    T& at(uint64_t address) {
        auto const found = mapping(address);
        if (!found)
            throw std::out_of_range{"not mapped"};
        return *reinterpret_cast<T*>(direct<char>(found->mfn()) + (address & page_mask));
    }
    abi::StartInfo& start_info() { return at<abi::StartInfo>(vcpu().registers().rsi); }
    void expect_kernel() {
        for (uint64_t i = 0; i < kernel_size; ++i)
            if (i < 0x1000 || i >= 0x2000)
                ASSERT_EQ(at<uint8_t>(virt_base + start + i),
                          static_cast<uint8_t>(i * 7 + (i >> 8)));
        for (uint64_t i = kernel_size; i < kernel_size + 0x1800; i += 8)
            ASSERT_EQ(at<uint64_t>(virt_base + start + i), 0u);
        EXPECT_EQ(at<uint8_t>(hypercall_page + 3), 0xb8);
    }
    void expect_p2m() {
        for (uint64_t pfn = 0; pfn < pages; ++pfn) {
            uint64_t const mfn = at<uint64_t>(start_info().p2m_list + pfn * 8);
            ASSERT_EQ(get_m2p(Mfn{mfn}), pfn);
        }
    }
};

TEST_F(Domain0, FindsKernelRamdiskAndPapers) {
    ASSERT_EQ(build(ordinary_notes()), "");
    EXPECT_EQ(domain->id, 0);
    EXPECT_TRUE(domain->hardware);
    EXPECT_EQ(times_gone, 1u);
    Registers const& r = vcpu().registers();
    EXPECT_EQ(r.rip, entry);
    EXPECT_EQ(r.cs & 3, 3u);
    EXPECT_TRUE(r.rflags & rflags::interrupts);
    (void)at<uint64_t>(r.rsp - 8);
    expect_kernel();
    abi::StartInfo const& info = start_info();
    EXPECT_STREQ(info.magic, "xen-3.0-x86_64");
    EXPECT_EQ(info.page_count, pages);
    EXPECT_EQ(info.flags,
              abi::start_privileged | abi::start_initial_domain | abi::start_p2m_mapped);
    EXPECT_EQ(info.shared_info, address_of(domain->shared_info_frame).raw());
    EXPECT_STREQ(reinterpret_cast<char const*>(info.command_line), "console=hvc0");
    ASSERT_EQ(info.module_size, ramdisk.size());
    for (uint64_t i = 0; i < ramdisk.size(); ++i)
        ASSERT_EQ(at<std::byte>(info.module_start + i), ramdisk[i]);
    expect_p2m();
    EXPECT_EQ(domain->pages.with([](PageList& list) { return list.maximum; }), 2 * pages);
    EXPECT_EQ(domain->pages.with([](PageList& list) { return list.count; }), pages);
}

TEST_F(Domain0, ItsFirstTablesAreReadOnlyAndPinned) {
    ASSERT_EQ(build(ordinary_notes()), "");
    abi::StartInfo const& info = start_info();
    for (uint64_t i = 0; i < info.page_table_frames; ++i) {
        auto const table = mapping(info.page_table_base + i * page_size);
        ASSERT_TRUE(table);
        EXPECT_FALSE(table->writable());
    }
    EXPECT_EQ(mapping(info.page_table_base)->mfn(), vcpu().kernel_table);
    EXPECT_TRUE(mapping(info.page_table_base + info.page_table_frames * page_size)->writable());
    TypeWord const root = page_at(vcpu().kernel_table).type_word();
    EXPECT_EQ(root.type(), PageType::l4);
    EXPECT_TRUE(root.has(TypeWord::pinned));
    // Half a megabyte to grow in.
    EXPECT_TRUE(mapping((vcpu().registers().rsp | page_mask) + 512 * 1024));
}

TEST_F(Domain0, APlaceForTheP2mAndARamdiskThatIsNotMapped) {
    auto list = ordinary_notes();
    list.push_back(number_note(15, p2m_address));
    list.push_back(number_note(16, 1));
    ASSERT_EQ(build(list), "");
    abi::StartInfo const& info = start_info();
    EXPECT_EQ(info.p2m_list, p2m_address);
    expect_p2m();
    EXPECT_TRUE(info.flags & abi::start_module_is_pfn);
    EXPECT_FALSE(mapping(virt_base + info.module_start * page_size));
    for (uint64_t i = 0; i < ramdisk.size(); ++i) {
        Mfn const frame{at<uint64_t>(p2m_address + (info.module_start + i / page_size) * 8)};
        ASSERT_EQ(direct<std::byte>(frame)[i % page_size], ramdisk[i]);
    }
    // The frames that hold the P2M and its tables, which the kernel gives back later.
    for (uint64_t i = 0; i < info.p2m_frames; ++i) {
        Mfn const frame{at<uint64_t>(p2m_address + (info.first_p2m_pfn + i) * 8)};
        bool const table = i >= pages * 8 / page_size;
        EXPECT_EQ(pv::is_page_table(page_at(frame).type_word().type()), table) << i;
    }
}

TEST_F(Domain0, WithoutARamdiskThereIsNone) {
    request.ramdisk = {};
    request.vga_text = false;
    ASSERT_EQ(build(ordinary_notes()), "");
    EXPECT_EQ(start_info().module_size, 0u);
    EXPECT_EQ(start_info().module_start, 0u);
    EXPECT_EQ(start_info().console.mfn, 0u);
}

TEST_F(Domain0, LearnsOfTheTextScreen) {
    ASSERT_EQ(build(ordinary_notes()), "");
    auto const& vga = at<abi::VgaConsoleInfo>(vcpu().registers().rsi + sizeof(abi::StartInfo));
    EXPECT_EQ(vga.rows, 25);
    EXPECT_EQ(vga.columns, 80);
}

TEST_F(Domain0, IsRefusedWithAReason) {
    auto const with = [&](Note const& note) {
        auto list = ordinary_notes();
        list.push_back(note);
        return list;
    };
    EXPECT_EQ(build(with(number_note(15, 0xffff800000000000))),
              "the kernel wants its P2M at an address that no guest can have");
    EXPECT_EQ(build(with(number_note(15, p2m_address + 8))),
              "the kernel wants its P2M at an address that no guest can have");
    request.pages = 4096;
    EXPECT_EQ(build(ordinary_notes()),
              "the kernel and its ramdisk need more memory than dom0_mem= gives");
    request.pages = ~uint64_t{0} >> 12;
    EXPECT_EQ(build(ordinary_notes()), "not enough memory for Domain 0: lower dom0_mem=");
    file.clear();
    request.kernel_file = {};
    Worker::run([&] { EXPECT_FALSE(build_domain0(request, [] {})); });
    EXPECT_EQ(times_gone, 0u);
}

TEST_F(Domain0, SaysWhichMemoryItLacks) {
    request.pages = 6144;
    for (uint64_t n = 1;; ++n) {
        host::fail_allocation(n);
        std::string_view const reason = build(ordinary_notes());
        bool const failed = host::allocation_failed();
        host::fail_allocation(0);
        if (!failed)
            break;
        ASSERT_LT(n, 1000u);
        if (reason.empty()) // smaller pieces did
            EXPECT_NE(domain, nullptr);
        else
            EXPECT_NE(reason.find("memory"), std::string_view::npos) << n << ": " << reason;
        domain = find_domain(0);
        end();
    }
    EXPECT_NE(domain, nullptr);
}

} // namespace
} // namespace hearth::test
