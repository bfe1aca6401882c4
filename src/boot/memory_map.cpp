#include "boot/memory_map.h"

#include <algorithm>

namespace hearth {
namespace {

/// What is claimed by two descriptions at once is what the more cautious of them says.
unsigned restrictiveness(MemoryType type) {
    switch (type) {
    case MemoryType::usable:
        return 0;
    case MemoryType::acpi_reclaimable:
        return 1;
    case MemoryType::acpi_nvs:
        return 2;
    case MemoryType::reserved:
        return 3;
    case MemoryType::unusable:
        break;
    }
    return 4;
}

enum EfiType : uint32_t {
    loader_code = 1,
    loader_data = 2,
    boot_services_code = 3,
    boot_services_data = 4,
    conventional = 7,
    unusable = 8,
    acpi_reclaim = 9,
    acpi_nvs = 10,
};
constexpr uint64_t efi_memory_write_back = 1u << 3;
constexpr uint64_t efi_memory_runtime = uint64_t{1} << 63;

MemoryType memory_type_from_efi(uint32_t type, uint64_t attributes) {
    if ((attributes & efi_memory_runtime) != 0)
        return MemoryType::reserved;
    switch (type) {
    case loader_code:
    case loader_data:
    case boot_services_code:
    case boot_services_data:
    case conventional:
        // Memory that cannot be cached is of no use as RAM.
        return (attributes & efi_memory_write_back) != 0 ? MemoryType::usable
                                                         : MemoryType::reserved;
    case unusable:
        return MemoryType::unusable;
    case acpi_reclaim:
        return MemoryType::acpi_reclaimable;
    case acpi_nvs:
        return MemoryType::acpi_nvs;
    default:
        return MemoryType::reserved;
    }
}

} // namespace

MemoryType memory_type_from_e820(uint32_t number) {
    return number >= 1 && number <= 5 ? static_cast<MemoryType>(number) : MemoryType::reserved;
}

bool MemoryMap::insert(size_t at, uint64_t start, uint64_t end, MemoryType type) {
    if (start == end)
        return true;
    if (at > 0 && regions_[at - 1].type == type && regions_[at - 1].end() == start) {
        regions_[at - 1].size += end - start;
        return true;
    }
    if (count_ == capacity)
        return false;
    std::move_backward(regions_.begin() + at, regions_.begin() + count_,
                       regions_.begin() + count_ + 1);
    regions_[at] = {PhysicalAddress{start}, end - start, type};
    ++count_;
    return true;
}

void MemoryMap::remove(size_t at) {
    std::move(regions_.begin() + at + 1, regions_.begin() + count_, regions_.begin() + at);
    --count_;
}

/// Joins equal neighbours among the regions first - 1 to last.
void MemoryMap::merge_around(size_t first, size_t last) {
    size_t lowest = first > 0 ? first : 1;
    for (size_t i = std::min(last, count_ - 1); i >= lowest && i < count_; --i) {
        auto& left = regions_[i - 1];
        auto const& right = regions_[i];
        if (left.type == right.type && left.end() == right.start.raw()) {
            left.size += right.size;
            remove(i);
        }
    }
}

Result<> MemoryMap::overlay(uint64_t start, uint64_t end, MemoryType type, bool only_over_usable) {
    size_t first = capacity;
    size_t i = 0;
    bool fits = true;
    for (uint64_t at = start; at < end && fits;) {
        while (i < count_ && regions_[i].end() <= at)
            ++i;
        first = std::min(first, i);
        if (i == count_ || regions_[i].start.raw() >= end) {
            fits = only_over_usable || insert(i, at, end, type);
            break;
        }
        auto const old = regions_[i];
        if (old.start.raw() > at) {
            fits = only_over_usable || insert(i, at, old.start.raw(), type);
            at = old.start.raw();
            continue;
        }
        uint64_t stop = std::min(old.end(), end);
        bool wins = only_over_usable ? old.type == MemoryType::usable
                                     : restrictiveness(type) > restrictiveness(old.type);
        if (wins) {
            // Three pieces at most, of which one reuses the place of the old region.
            size_t added = (old.start.raw() < at) + (stop < old.end());
            fits = count_ + added <= capacity;
            if (!fits)
                break;
            remove(i);
            insert(i, stop, old.end(), old.type);
            insert(i, at, stop, type);
            insert(i, old.start.raw(), at, old.type);
        }
        at = stop;
    }
    if (count_ > 0)
        merge_around(first, i + 2); // the last region was cut in three at most, the first of them i
    if (!fits)
        return Errno::nospc;
    return {};
}

Result<> MemoryMap::add(PhysicalAddress start, uint64_t size, MemoryType type) {
    uint64_t end;
    if (__builtin_add_overflow(start.raw(), size, &end))
        return Errno::inval;
    return overlay(start.raw(), end, type, false);
}

void MemoryMap::normalise() {
    for (size_t i = count_; i-- > 0;) {
        auto& region = regions_[i];
        if (region.type != MemoryType::usable)
            continue;
        uint64_t end = align_down(region.end(), page_size);
        // Rounding up must not wrap around at the top of the address space.
        uint64_t start = align_down(region.start.raw(), page_size);
        if (start != region.start.raw())
            start += std::min(page_size, ~uint64_t{0} - start);
        if (start >= end) {
            remove(i);
            continue;
        }
        region.start = PhysicalAddress{start};
        region.size = end - start;
    }
}

Result<> MemoryMap::limit_usable(uint64_t limit) {
    return overlay(limit, ~uint64_t{0}, MemoryType::unusable, true);
}

Result<> MemoryMap::reserve(PhysicalAddress start, uint64_t size) {
    uint64_t end;
    if (__builtin_add_overflow(start.raw(), size, &end))
        return Errno::inval;
    return overlay(start.raw(), end, MemoryType::reserved, true);
}

uint64_t MemoryMap::usable_bytes() const {
    uint64_t sum = 0;
    for (auto const& region : regions())
        if (region.type == MemoryType::usable)
            sum += region.size; // cannot overflow: regions do not overlap
    return sum;
}

bool MemoryMap::covers(PhysicalAddress start, uint64_t size, MemoryType type) const {
    // Neighbours of one type are merged, so one region covers the range or none does.
    for (auto const& region : regions())
        if (region.type == type && start >= region.start && size <= region.size &&
            start - region.start <= region.size - size)
            return true;
    return false;
}

uint64_t MemoryMap::usable_end() const {
    for (size_t i = count_; i-- > 0;)
        if (regions_[i].type == MemoryType::usable)
            return regions_[i].end();
    return 0;
}

Result<> add_efi_memory_map(MemoryMap& map, Bytes descriptors, uint64_t descriptor_size) {
    constexpr uint64_t known_size = 40;
    if (descriptor_size < known_size || descriptor_size > 4096)
        return Errno::inval;
    for (uint64_t at = 0; at + descriptor_size <= descriptors.size(); at += descriptor_size) {
        auto type = load_or_zero<uint32_t>(descriptors, at);
        auto start = load_or_zero<uint64_t>(descriptors, at + 8);
        auto pages = load_or_zero<uint64_t>(descriptors, at + 24);
        auto attributes = load_or_zero<uint64_t>(descriptors, at + 32);
        if (pages > (~uint64_t{0} >> page_shift))
            return Errno::inval;
        TRY(map.add(PhysicalAddress{start}, pages << page_shift,
                    memory_type_from_efi(type, attributes)));
    }
    return {};
}

} // namespace hearth
