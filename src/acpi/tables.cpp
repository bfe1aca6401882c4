#include "acpi/tables.h"

#include "acpi/parse.h"

#include <algorithm>

namespace hearth::acpi {
namespace {

constexpr uint64_t old_root_size = 20, new_root_size = 36;

bool sums_to_zero(Bytes bytes) {
    unsigned sum = 0;
    for (auto byte : bytes)
        sum += static_cast<unsigned>(byte);
    return (sum & 0xff) == 0;
}

bool is_root_pointer(Bytes bytes) {
    constexpr std::string_view root_signature = "RSD PTR ";
    return bytes.size() >= old_root_size &&
           std::memcmp(bytes.data(), root_signature.data(), root_signature.size()) == 0 &&
           sums_to_zero(bytes.first(old_root_size));
}

std::optional<PhysicalAddress> search(PhysicalView& memory, PhysicalAddress start, uint64_t size) {
    constexpr uint64_t step = 16;
    for (uint64_t at = 0; at + old_root_size <= size; at += step)
        if (is_root_pointer(memory.view(start + at, old_root_size)))
            return start + at;
    return std::nullopt;
}

/// The RSDT or the XSDT: a table of addresses of tables.
struct TableList {
    PhysicalAddress address;
    uint32_t entry_size; // 4 or 8
};

class Reader {
    PhysicalView& memory_;
    Tables& tables_;

public:
    Reader(PhysicalView& memory, Tables& tables) : memory_{memory}, tables_{tables} {}

    Result<> read(RootPointer const& root) {
        auto bytes = TRY(root_bytes(root));
        auto revision = load_or_zero<uint8_t>(bytes, 15);
        TableList old{PhysicalAddress{load_or_zero<uint32_t>(bytes, 16)}, 4};
        TableList extended{PhysicalAddress{load_or_zero<uint64_t>(bytes, 24)}, 8};
        if (revision >= 2 && bytes.size() >= new_root_size && extended.address.raw() != 0) {
            if (!sums_to_zero(bytes.first(new_root_size)))
                warn("RSDP: wrong extended checksum");
            else if (is_list(extended, signature("XSDT")))
                return read_list(extended);
            else
                warn("XSDT: unreadable or wrong checksum");
        }
        if (!is_list(old, signature("RSDT")))
            return Errno::io;
        return read_list(old);
    }

private:
    std::array<std::byte, new_root_size> root_{};

    void warn(std::string_view text) { tables_.warnings.add(text); }

    /// A copy: the list of tables is read through the same view.
    Result<Bytes> root_bytes(RootPointer const& root) {
        Bytes bytes = root.copied();
        if (!is_root_pointer(bytes)) {
            auto address = root.address;
            if (!address)
                address = TRY(find_root_pointer(memory_));
            bytes = memory_.view(*address, new_root_size);
            if (bytes.empty())
                bytes = memory_.view(*address, old_root_size);
            if (!is_root_pointer(bytes))
                return Errno::noent;
        }
        std::copy(bytes.begin(), bytes.end(), root_.begin());
        return Bytes{root_}.first(bytes.size());
    }

    /// All of a table, or nothing when its length is absurd or a part unreadable.
    Bytes whole_table(PhysicalAddress address) {
        constexpr uint32_t largest = 16_MiB;
        auto length = load_or_zero<uint32_t>(memory_.view(address, header_size), 4);
        if (length < header_size || length > largest)
            return {};
        return memory_.view(address, length);
    }

    /// The RSDT is the last resort, so a wrong checksum is no reason not to try it.
    bool is_list(TableList list, Signature expected) {
        auto bytes = list.address.raw() != 0 ? whole_table(list.address) : Bytes{};
        if (load<Signature>(bytes, 0) != expected)
            return false;
        if (sums_to_zero(bytes))
            return true;
        if (list.entry_size == 8)
            return false;
        warn("RSDT: wrong checksum, used all the same");
        return true;
    }

    Result<> read_list(TableList list) {
        auto bytes = whole_table(list.address);
        constexpr uint64_t most = 256;
        uint64_t count = (bytes.size() - header_size) / list.entry_size;
        if (count > most) {
            warn("more than 256 tables; the rest are ignored");
            count = most;
        }
        for (uint64_t i = 0; i < count; ++i) {
            auto entry =
                memory_.view(list.address + (header_size + i * list.entry_size), list.entry_size);
            PhysicalAddress address{list.entry_size == 4 ? load_or_zero<uint32_t>(entry, 0)
                                                         : load_or_zero<uint64_t>(entry, 0)};
            if (address.raw() != 0)
                read_table(address);
        }
        return {};
    }

    void read_table(PhysicalAddress address) {
        struct Parser {
            Signature signature;
            void (*parse)(Bytes, Tables&);
            std::string_view wrong_length;
            std::string_view wrong_sum;
            std::string_view repeated;
        };
        static constexpr Parser parsers[] = {
            {signature("APIC"), parse_madt, "MADT: wrong length",
             "MADT: wrong checksum, used all the same", "MADT: a second one"},
            {signature("FACP"), parse_fadt, "FADT: wrong length",
             "FADT: wrong checksum, used all the same", "FADT: a second one"},
            {signature("HPET"), parse_hpet, "HPET: wrong length",
             "HPET: wrong checksum, used all the same", ""},
            {signature("MCFG"), parse_mcfg, "MCFG: wrong length",
             "MCFG: wrong checksum, used all the same", "MCFG: a second one"},
            {signature("SRAT"), parse_srat, "SRAT: wrong length",
             "SRAT: wrong checksum, used all the same", "SRAT: a second one"},
        };
        auto name = load<Signature>(memory_.view(address, header_size), 0);
        if (!name)
            return warn("a table that cannot be read");
        auto const* parser = std::ranges::find(parsers, *name, &Parser::signature);
        bool known = parser != std::end(parsers);
        auto table = whole_table(address);
        bool sound = sums_to_zero(table);
        if (table.empty() || (!known && !sound))
            return warn(known ? parser->wrong_length : "a table with a wrong length or checksum");
        // Careless vendors are more common than damage, and Linux believes these, too.
        if (!sound)
            warn(parser->wrong_sum);
        bool first = tables_.find(*name) == nullptr;
        tables_.tables.add({*name, address, static_cast<uint32_t>(table.size())});
        if (!known)
            return;
        if (first)
            parser->parse(table, tables_);
        else if (!parser->repeated.empty()) // of several HPETs the first will do
            warn(parser->repeated);
    }
};

} // namespace

TableLocation const* Tables::find(Signature wanted) const {
    auto const* found = std::ranges::find(tables, wanted, &TableLocation::signature);
    return found == tables.end() ? nullptr : found;
}

Result<> read_tables(PhysicalView& memory, RootPointer const& root, Tables& tables) {
    return Reader{memory, tables}.read(root);
}

} // namespace hearth::acpi

namespace hearth {

Result<PhysicalAddress> find_root_pointer(PhysicalView& memory) {
    // The BIOS data area holds the segment of the extended one at 0x40e.
    uint64_t segment = load_or_zero<uint16_t>(memory.view(PhysicalAddress{0x40e}, 2), 0);
    if (segment != 0)
        if (auto found = acpi::search(memory, PhysicalAddress{segment << 4}, 1_KiB))
            return *found;
    if (auto found = acpi::search(memory, PhysicalAddress{0xe0000}, 0x20000))
        return *found;
    return Errno::noent;
}

} // namespace hearth
