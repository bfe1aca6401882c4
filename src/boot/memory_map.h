// The machine's physical memory as firmware describes it.
#pragma once

#include "acpi/physical_view.h"
#include "base/address.h"
#include "base/result.h"

#include <array>
#include <cstdint>
#include <span>

namespace hearth {

/// Address range types, numbered as ACPI's (ACPI 6.4 table 15.3) and hence the guest ABI's.
enum class MemoryType : uint32_t {
    usable = 1,
    reserved = 2,
    acpi_reclaimable = 3,
    acpi_nvs = 4,
    unusable = 5,
};

/// The type for a number that firmware gave; what we do not know is reserved.
MemoryType memory_type_from_e820(uint32_t number);

struct MemoryRegion {
    PhysicalAddress start;
    uint64_t size = 0;
    MemoryType type = MemoryType::reserved;

    [[nodiscard]] constexpr uint64_t end() const { return start.raw() + size; }
    bool operator==(MemoryRegion const&) const = default;
};

/// Regions sorted by address that neither overlap nor touch a neighbour of the same type.
class MemoryMap {
public:
    static constexpr size_t capacity = 512;

    /// Where the region overlaps what is there already, the more restrictive type wins, whatever
    /// the order of the calls. An empty region is accepted and ignored. Errors: inval when start +
    /// size exceeds 2^64 - 1, nospc when the map is full; in both cases it tells less than was
    /// asked for, so a map that refused anything but usable memory must not be used.
    Result<> add(PhysicalAddress start, uint64_t size, MemoryType type);

    /// Cuts usable regions to whole pages and drops those that hold none.
    void normalise();

    /// Makes usable memory at and beyond an address unusable (the option mem=). It stays listed so
    /// that nobody takes the addresses for free and puts a device there.
    Result<> limit_usable(uint64_t limit);

    /// Takes a range out of usable memory; what is not usable keeps its type.
    Result<> reserve(PhysicalAddress start, uint64_t size);

    [[nodiscard]] uint64_t usable_bytes() const;
    /// Whether all of a range has this type.
    [[nodiscard]] bool covers(PhysicalAddress start, uint64_t size, MemoryType type) const;
    /// One beyond the last usable byte; 0 without any.
    [[nodiscard]] uint64_t usable_end() const;

    [[nodiscard]] std::span<MemoryRegion const> regions() const {
        return {regions_.data(), count_};
    }
    [[nodiscard]] auto begin() const { return regions().begin(); }
    [[nodiscard]] auto end() const { return regions().end(); }
    [[nodiscard]] size_t size() const { return count_; }

private:
    bool insert(size_t at, uint64_t start, uint64_t end, MemoryType type);
    void remove(size_t at);
    void merge_around(size_t first, size_t last);
    Result<> overlay(uint64_t start, uint64_t end, MemoryType type, bool only_over_usable);

    std::array<MemoryRegion, capacity> regions_{};
    size_t count_ = 0;
};

/// Adds an EFI memory map (UEFI 2.10 section 7.2.3), whose descriptors may be longer than we know.
/// Memory of boot services and loaders counts as usable: call this once they are over, and reserve
/// what is still needed of it. Errors: inval for a map that makes no sense, and add()'s.
Result<> add_efi_memory_map(MemoryMap& map, Bytes descriptors, uint64_t descriptor_size);

} // namespace hearth
